"""The verdict of a result, of any age.

Called by engine, storage and frames from any thread, for every result: pure functions, no I/O, no state. A result that
carries a `verdict` costs one look-up; one in SandboxFusion's shape is read as https://github.com/bytedance/SandboxFusion
writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeGuard

from nbrun.texts import without_surrogates


class Verdict(StrEnum):
    """What a judge says of a solution. `JudgeError` is a failure of the machinery and says nothing of the solution."""

    ACCEPTED = "Accepted"
    WRONG_ANSWER = "WrongAnswer"
    TIME_LIMIT_EXCEEDED = "TimeLimitExceeded"
    MEMORY_LIMIT_EXCEEDED = "MemoryLimitExceeded"
    OUTPUT_LIMIT_EXCEEDED = "OutputLimitExceeded"
    RUNTIME_ERROR = "RuntimeError"
    COMPILE_ERROR = "CompileError"
    JUDGE_ERROR = "JudgeError"


#: Verdicts that reject a solution.
REJECTED = frozenset(Verdict) - {Verdict.ACCEPTED, Verdict.JUDGE_ERROR}
#: What `counted` says of `accepted: false` without a verdict: rejected, without a reason.
REJECTED_BARE = "Rejected"
#: How the names of verdicts outside the vocabulary end, under which results are counted that say `accepted` too.
_FLAGS = {True: " (accepted)", False: " (rejected)"}
#: Verdicts that are counted under their own names, whatever else a result says.
KNOWN = frozenset((*map(str, Verdict), REJECTED_BARE))
#: A longer text under `verdict` is prose (a language model's, say), not a verdict: it would be counted one by one.
_LONGEST = 64
#: From here on the server loses output, or stalls until the time is up.
_SERVER_OUTPUT_BYTES = 131_072


def of(result: object) -> str | None:
    """Return the verdict of a result; None if it is no judgement.

    A `verdict` of your own (a short text) is returned unchanged. Otherwise the verdict is that of the first failing
    test in the data's order, and JudgeError if the machinery failed any of them. `accepted: false` with an empty list
    of tests is what SandboxFusion's client says when the server fails: JudgeError. Without `tests` it rejects, and has
    no verdict.

    Example:
        >>> of({"accepted": False, "tests": [{"passed": False, "exec_info": {"status": "Success"}}]})
        'WrongAnswer'
        >>> of({"text": "hello"}) is None
        True
    """
    verdict = _named(result)
    return None if verdict == REJECTED_BARE and mapping(result).get("verdict") != REJECTED_BARE else verdict


def counted(result: object) -> str | None:
    """Return under which name a result is counted: its verdict, or "Rejected" where it says no more than that.

    A verdict of the user's own counts by the result's `accepted`, which its name then ends with.

    Example:
        >>> counted({"accepted": False}), counted({"accepted": True}), counted({"n": 1})
        ('Rejected', 'Accepted', None)
        >>> counted({"verdict": "Presentation", "accepted": False}), counted({"verdict": "Presentation"})
        ('Presentation (rejected)', 'Presentation')
    """
    if type(result) is dict:  # the hot path: one look-up decides
        verdict = result.get("verdict")
        if type(verdict) is str and verdict in KNOWN:
            return verdict
    name = _named(result)
    if name is None or name in KNOWN:
        return name
    is_accepted = mapping(result).get("accepted")
    return name + _FLAGS[is_accepted] if isinstance(is_accepted, bool) else name


def _named(result: object) -> str | None:
    """Return what `counted` does, without what `accepted` says of a verdict of the user's own."""
    if type(result) is not dict and not isinstance(result, Mapping):  # the exact type first: this is the hot path
        return None
    verdict = result.get("verdict")
    if isinstance(verdict, str) and is_verdict(verdict):
        return verdict if verdict.isascii() else without_surrogates(verdict)
    accepted = result.get("accepted")
    if isinstance(accepted, bool):
        return "Accepted" if accepted else _of_rejected(result) or REJECTED_BARE
    is_run = accepted is None and ("run_result" in result or result.get("status") == "SandboxError")
    return _of_run(result, None) if is_run else None


def is_verdict(text: str) -> bool:
    """Return whether a text under `verdict` is one, and no prose."""
    return 0 < len(text) <= _LONGEST


def are_tests(tests: object) -> TypeGuard[Sequence[Any]]:
    """Return whether a value under `tests` is what a judge writes there; a number, say, is the user's own.

    Example:
        >>> are_tests([{"passed": True, "exec_info": {}}]), are_tests([]), are_tests(12), are_tests(["a"])
        (True, True, False, False)
    """
    return _is_list(tests) and all(map(_is_test, tests))


def _is_test(test: object) -> bool:
    if type(test) is dict and "passed" in test:  # every test that a judge wrote
        return True
    return isinstance(test, Mapping) and ("passed" in test or "exec_info" in test)


def accepted(result: object) -> bool | None:
    """Return True if accepted, False if rejected, None where nothing is known of the solution.

    Example:
        >>> accepted({"verdict": "CompileError"}), accepted({"verdict": "JudgeError"}), accepted({"n": 1})
        (False, None, None)
    """
    verdict = counted(result)
    if accepts(verdict):
        return True
    return False if rejects(verdict) else None


def expected(group: str) -> bool | None:
    """Return whether a group's items should be accepted (True) or rejected (False); None for other groups.

    Example:
        >>> expected("solution"), expected("incorrect_solution"), expected("prompt")
        (True, False, None)
    """
    if group == "solution":
        return True
    return False if group.startswith("incorrect_") else None


def accepts(verdict: str | None) -> bool:
    """Return whether a name of `counted` accepts a solution.

    Example:
        >>> accepts("Accepted"), accepts("funny"), accepts("funny (accepted)")
        (True, False, True)
    """
    return verdict is not None and (verdict == Verdict.ACCEPTED or verdict.endswith(_FLAGS[True]))


def rejects(verdict: str | None) -> bool:
    """Return whether a name of `counted` rejects a solution. Those outside the vocabulary do if their results say so.

    Example:
        >>> rejects("WrongAnswer"), rejects("JudgeError"), rejects("funny")
        (True, False, False)
    """
    return verdict is not None and (verdict in REJECTED or verdict == REJECTED_BARE or verdict.endswith(_FLAGS[False]))


class Judged(NamedTuple):
    """How many tasks were accepted, and how many rejected."""

    accepted: int
    rejected: int


def judged(counts: Mapping[str | None, int] | Mapping[str, int]) -> Judged:
    """Return how many tasks were judged either way, of verdict -> how many tasks have it.

    Example:
        >>> judged({"Accepted": 2, "WrongAnswer": 40, "JudgeError": 1, None: 3})
        Judged(accepted=2, rejected=40)
    """
    accepted = rejected = 0
    for verdict, n in counts.items():
        if accepts(verdict):
            accepted += n
        elif rejects(verdict):
            rejected += n
    return Judged(accepted, rejected)


class Tally(NamedTuple):
    """Judged tasks by what their group expects (`expected`): of positives how many were accepted and how many rejected,
    and of negatives.

    Example:
        >>> tally = Tally(positives_accepted=9, positives_rejected=1)
        >>> tally.tpr, tally.tnr, tally.unexpected
        (0.9, None, 1)
    """

    positives_accepted: int = 0
    positives_rejected: int = 0
    negatives_accepted: int = 0
    negatives_rejected: int = 0

    @property
    def positives(self) -> int:
        """Judged tasks that should be accepted."""
        return self.positives_accepted + self.positives_rejected

    @property
    def negatives(self) -> int:
        """Judged tasks that should be rejected."""
        return self.negatives_accepted + self.negatives_rejected

    @property
    def unexpected(self) -> int:
        """Rejected positives and accepted negatives."""
        return self.positives_rejected + self.negatives_accepted

    @property
    def tpr(self) -> float | None:
        """The share of positives that were accepted; None where none was judged."""
        return self.positives_accepted / self.positives if self.positives else None

    @property
    def tnr(self) -> float | None:
        """The share of negatives that were rejected; None where none was judged."""
        return self.negatives_rejected / self.negatives if self.negatives else None

    def plus(self, other: Tally) -> Tally:
        """Return the sum of both."""
        a, b, c, d = self
        e, f, g, h = other
        return Tally(a + e, b + f, c + g, d + h)


def count(names: Sequence[str | None]) -> dict[str | None, int]:
    """Return how often each name occurs. Most samples' tasks all have one verdict, which is counted ten times faster.

    Example:
        >>> count(["Accepted", "WrongAnswer", "Accepted"]), count([])
        ({'Accepted': 2, 'WrongAnswer': 1}, {})
    """
    if not names:
        return {}
    first = names[0]
    n = names.count(first)
    return {first: n} if n == len(names) else dict(Counter(names))


def tally(outcomes: Iterable[tuple[bool | None, str | None]]) -> Tally:
    """Count pairs of what a task's group expects and its verdict.

    Example:
        >>> tally([(True, "Accepted"), (True, "WrongAnswer"), (False, "Accepted"), (None, "Accepted"), (True, None)])
        Tally(positives_accepted=1, positives_rejected=1, negatives_accepted=1, negatives_rejected=0)
    """
    counts: dict[tuple[bool | None, str | None], int] = {}  # a Counter takes longer to make than one outcome to count
    for outcome in outcomes:
        counts[outcome] = counts.get(outcome, 0) + 1
    of = {True: [0, 0], False: [0, 0], None: [0, 0]}  # what is expected -> accepted, rejected
    for (is_expected, verdict), n in counts.items():
        if accepts(verdict):
            of[is_expected][0] += n
        elif rejects(verdict):
            of[is_expected][1] += n
    return Tally(*of[True], *of[False])


def tally_of_group(is_expected: bool | None, counts: Mapping[str | None, int]) -> Tally:
    """Return the tally of tasks of one group.

    Args:
        is_expected: what the group expects.
        counts: verdict -> how many tasks have it.

    Example:
        >>> tally_of_group(False, {"Accepted": 2, "WrongAnswer": 40, None: 3})
        Tally(positives_accepted=0, positives_rejected=0, negatives_accepted=2, negatives_rejected=40)
    """
    if is_expected is None:
        return Tally()
    accepted, rejected = judged(counts)
    return Tally(accepted, rejected) if is_expected else Tally(0, 0, accepted, rejected)


def is_unexpected(is_expected: bool | None, verdict: str | None) -> bool:
    """Return whether a verdict is the opposite of what the group says (see `expected`)."""
    if is_expected is None:
        return False
    return rejects(verdict) if is_expected else accepts(verdict)


def mapping(value: object) -> Mapping[str, object]:
    """Return the value if it is a mapping, else an empty one."""
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def run_of(test: Mapping[str, object]) -> Mapping[str, object]:
    """Return what the program did in a test: its status, time, return code and output."""
    return mapping(mapping(test.get("exec_info")).get("run_result"))


class SavedTexts(NamedTuple):
    """The texts of a test; None where they were not saved."""

    stdin: str | None
    expected: str | None
    stdout: str | None
    stderr: str | None


def texts_of(test: Mapping[str, object]) -> SavedTexts:
    """Return the input and the outputs of a test.

    Example:
        >>> texts_of({"test_info": {"input": {"stdin": "1"}}, "exec_info": {"run_result": {"stdout": "2"}}})
        SavedTexts(stdin='1', expected=None, stdout='2', stderr=None)
    """
    info, run = mapping(test.get("test_info")), run_of(test)
    stdin, expected = mapping(info.get("input")).get("stdin"), mapping(info.get("output")).get("stdout")
    texts = (stdin, expected, run.get("stdout"), run.get("stderr"))
    return SavedTexts(*(text if isinstance(text, str) else None for text in texts))


class SummaryOfTests(NamedTuple):
    """How many tests were run and passed, and the longest time of one in seconds; None if a result doesn't say.

    An integer that no float holds is no time.
    """

    n: int | None
    passed: int | None
    longest_s: float | None


def summary_of_tests(result: object) -> SummaryOfTests:
    """Return the summary of a result's tests.

    Example:
        >>> summary_of_tests({"tests": [{"passed": True, "exec_info": {"run_result": {"execution_time": 0.5}}}]})
        SummaryOfTests(n=1, passed=1, longest_s=0.5)
    """
    tests = result.get("tests") if isinstance(result, Mapping) else None
    if not _is_list(tests):
        return SummaryOfTests(None, None, None)
    passed = sum(mapping(test).get("passed") is True for test in tests)
    times = (run_of(mapping(test)).get("execution_time") for test in tests)
    longest = max((time_s for time_s in times if isinstance(time_s, (int, float))), default=None)
    try:
        return SummaryOfTests(len(tests), passed, None if longest is None else float(longest))
    except OverflowError:
        return SummaryOfTests(len(tests), passed, None)


def is_syntax_error(stderr: str) -> bool:
    """Return whether Python refused the source itself: a report of that has no traceback above it, one of `eval` has.

    Example:
        >>> is_syntax_error('  File "main.py", line 1\\n    def f(:\\n          ^\\nSyntaxError: invalid syntax\\n')
        True
    """
    last = stderr.rstrip().rpartition("\n")[2]
    is_refusal = last.startswith(("SyntaxError:", "IndentationError:", "TabError:"))
    return is_refusal and "Traceback (most recent call last)" not in stderr


def _of_rejected(result: Mapping[str, object]) -> str | None:
    tests = result.get("tests")
    if tests is None:
        return "JudgeError" if "tests" in result else None
    if not are_tests(tests):  # a count, say: nothing that a judge wrote
        return None
    plain = plain_tests(tests)
    if plain is not None and plain[2]:
        return "WrongAnswer"
    found = list(dict.fromkeys(map(_of_test, tests)))  # each once, in the order of the data
    failures = [verdict for verdict in found if verdict != "Accepted"]
    # Without a failure, or any test, nothing here rejects the solution.
    return "JudgeError" if "JudgeError" in failures or not failures else failures[0]


def plain_tests(tests: object) -> tuple[int, int, bool, float] | None:  # no NamedTuple: made for each row of a frame
    """Look once at tests that were all run to their end, which most were; return None for others.

    Returns:
        How many there are, how many passed, whether all others (at least one) ended well with a wrong output, and the
        longest time in s (-1.0 without tests): what `of` and `summary_of_tests` find in three times as long.
    """
    if type(tests) is not list:
        return None
    passed, failed, wrong, longest = 0, 0, 0, -1.0
    try:
        for test in tests:
            run = test["exec_info"]
            ran = run["run_result"]
            time_s = ran["execution_time"]
            if time_s > longest:
                longest = time_s
            if test["passed"] is True:
                passed += 1
                continue
            failed += 1
            if (
                run["compile_result"] is None
                and run["status"] == "Success"
                and ran["status"] == "Finished"
                and ran["return_code"] == 0
            ):
                wrong += 1
    except (KeyError, TypeError, IndexError):
        return None
    return len(tests), passed, 0 < failed == wrong, longest


def _of_test(test: Mapping[str, object]) -> str:
    if test.get("passed") is True:
        return "Accepted"
    run = test.get("exec_info")
    if not isinstance(run, Mapping):
        return "JudgeError"
    return _of_run(run, texts_of(test).expected) or "WrongAnswer"


def _of_run(run: Mapping[str, object], expected: str | None) -> str | None:
    """Return what is wrong with one execution; None if it ended well, whatever its output was."""
    if run.get("status") == "SandboxError":
        return "JudgeError"
    compiled, ran = run.get("compile_result"), run.get("run_result")
    if isinstance(compiled, Mapping) and not _ended_well(compiled):
        # A compiler that ran out of time, or isn't there, says nothing of the source.
        return "JudgeError" if compiled.get("status") != "Finished" or _is_missing(compiled) else "CompileError"
    if isinstance(ran, Mapping):
        return _of_program(ran, expected)
    return "JudgeError" if run.get("status") != "Success" else None


def _of_program(ran: Mapping[str, object], expected: str | None) -> str | None:
    status = ran.get("status")
    if status == "TimeLimitExceeded":
        return "JudgeError" if _stalled(ran, expected) else "TimeLimitExceeded"
    if isinstance(status, str) and status in REJECTED:  # another program may have written anything there
        return str(status)
    if status not in ("Finished", None) or _is_missing(ran):
        return "JudgeError"
    if ran.get("return_code") in (0, None):
        return None
    return "CompileError" if is_syntax_error(text_in(ran, "stderr")) else "RuntimeError"


def _ended_well(run: Mapping[str, object]) -> bool:
    return run.get("status") in ("Finished", None) and run.get("return_code") in (0, None)


def _is_missing(run: Mapping[str, object]) -> bool:
    """Return whether a shell found no compiler or interpreter, which is a fault of the server."""
    return run.get("return_code") == 127 and "command not found" in text_in(run, "stderr")


def _stalled(run: Mapping[str, object], expected: str | None) -> bool:
    """Return whether the server, which stalls on long output, ran out of time and not the program."""
    stdout = text_in(run, "stdout")
    if len(stdout) < _SERVER_OUTPUT_BYTES and len(stdout.encode("utf-8", "replace")) < _SERVER_OUTPUT_BYTES:
        return False
    if expected is None:
        return True
    words = stdout.split()[:-1]  # the last one may be cut
    return words == expected.split()[: len(words)]


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def text_in(values: Mapping[str, object], name: str) -> str:
    """Return the text under this name; "" where there is none."""
    value = values.get(name)
    return value if isinstance(value, str) else ""
