"""Checkers decide whether an output is right: by a comparison, by a user's function, or by a program.

Called by worker threads. The flags of `KattisComparison` are those of the problem package format
(https://www.kattis.com/problem-package-format): `case_sensitive`, `space_change_sensitive`,
`float_absolute_tolerance E`, `float_relative_tolerance E`, and `float_tolerance E` for both.

A checker that is a program is compiled once and runs under limits in a box, as solutions do; one that crashes says
nothing about the solution. Flags are appended to its arguments.

    kind         called as                                       result
    validator    validator input answer feedback/ < output       returns 42: accepted, 43: rejected; feedback/score.txt
                                                                 or feedback/score_multiplier.txt
    printed      checker input answer output                     prints a score: accepted from 1 on
    testlib      checker input output answer                     returns 0: accepted; 1, 2, 4, 8: rejected; 7: points
                                                                 (quitp); 16, 50 or 0 and more: partly correct (_pc)
"""

from __future__ import annotations

import inspect
import math
import os
import re
import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from nbrun.canonical import digest as digest_of
from nbrun.canonical import key_text
from nbrun.errors import InputError, JudgeError, NbrunError, NotSupportedError, ThreadLimitError
from nbrun.judge.comparison import as_bytes, compare_tokens, have_same_tokens
from nbrun.judge.languages import Language, lookup
from nbrun.judge.problems.values import flags_of
from nbrun.judge.sandbox import CancelToken, ExitStatus, Limits, cores
from nbrun.judge.sandbox.programs import JudgeContext, launch, place, temporary_folder
from nbrun.judge.sources import Source, read_item, source_of
from nbrun.judge.supervisor import read_safely
from nbrun.threads import start_thread
from nbrun.tuning import TUNING

#: `compare(expected, actual)`, or `compare(input, expected, actual)`.
Compare = Callable[..., bool]

_PIECES = re.compile(rb"\s+|\S+")
_FLOAT = re.compile(rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE)
_TOLERANCES = {
    "float_absolute_tolerance": ("absolute",),
    "float_relative_tolerance": ("relative",),
    "float_tolerance": ("absolute", "relative"),
}


@dataclass(frozen=True)
class CheckerInput:
    """One test and what a program wrote for it.

    Attributes:
        flags: the validator flags that the test's package gives it.
    """

    input: bytes
    expected: bytes
    output: bytes
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class CheckerResult:
    """What a checker decided.

    Attributes:
        note: what it wrote for people.
        score: the points that it gave; None where it gives none.
        multiplier: the share of a test's points that it gave, 0 to 1; None where it gives none.
    """

    accepted: bool
    note: str = ""
    score: float | None = None
    multiplier: float | None = None


class ProgramRun(NamedTuple):
    """One run of a checker that is a program.

    Attributes:
        ending: how it ended.
        note: what it wrote for people.
        output: what it wrote to stdout.
        score, multiplier: what it wrote into its files of points and of a share of points.
    """

    ending: ExitStatus
    note: str
    output: str
    score: str
    multiplier: str


class Checker(Protocol):
    """Decides whether outputs are right."""

    @property
    def settings(self) -> object:
        """The checker's part of a run's settings."""

    def opinion(self, given: CheckerInput, runner: ProgramRunner | None) -> CheckerResult:
        """Return whether an output is right.

        Args:
            runner: runs programs; None where no program can be run.

        Raises:
            JudgeError: the checker failed, which says nothing about the solution.
        """


class CallableChecker:
    """A function `compare(expected, actual)` or `compare(input, expected, actual)` of bytes as a checker.

    Example:
        >>> given = CheckerInput(b"", b"1", b"1")
        >>> CallableChecker(lambda expected, actual: expected == actual).opinion(given, None).accepted
        True
    """

    def __init__(self, compare: Compare) -> None:
        self._compare = compare
        self._takes_input = _count_arguments(compare) == 3

    @property
    def settings(self) -> object:
        """The function's `settings` if it has some, otherwise its name."""
        compare = self._compare
        described = getattr(compare, "settings", None)
        if described is not None:
            return described
        return f"{getattr(compare, '__module__', '')}.{getattr(compare, '__qualname__', repr(compare))}"

    def opinion(self, given: CheckerInput, runner: ProgramRunner | None) -> CheckerResult:
        """Return the function's decision.

        Raises:
            JudgeError: the function raised an exception.
        """
        outputs = (given.expected, given.output)
        arguments = (given.input, *outputs) if self._takes_input else outputs
        try:
            return CheckerResult(bool(self._compare(*arguments)))
        except Exception as e:
            raise JudgeError(
                f"the checker {self.settings} raised {type(e).__name__}: {e}. That says nothing of the solution.",
                retriable=False,
            ) from e


def _count_arguments(function: Callable[..., object]) -> int:
    """Return how many arguments a function needs: 3 if it takes the input too."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed)


def as_checker(value: Checker | Compare) -> Checker:
    """Return a checker as it is, and a function that compares as a checker."""
    return cast(Checker, value) if hasattr(value, "opinion") else CallableChecker(value)


def checker_result(
    checker: Checker, given: CheckerInput, runner: ProgramRunner | None, alternatives: Iterable[str | bytes] = ()
) -> CheckerResult:
    """Return a checker's result for the first expected output that it accepts, or else for the first one.

    Args:
        alternatives: further outputs that are right.
    """
    first = checker.opinion(given, runner)
    if first.accepted:
        return first
    others = (checker.opinion(replace(given, expected=as_bytes(other)), runner) for other in alternatives)
    return next((result for result in others if result.accepted), first)


#: The checker where neither the user nor the problem names one.
DEFAULT = CallableChecker(compare_tokens)


# ---- the comparison of problem packages


@dataclass(frozen=True)
class FlagRules:
    """How validator flags compare outputs.

    Attributes:
        absolute, relative: tolerances of numbers; where both are None, numbers are compared as words.
    """

    case_sensitive: bool = False
    space_change_sensitive: bool = False
    absolute: float | None = None
    relative: float | None = None

    def accepts(self, expected: bytes, actual: bytes) -> bool:
        """Return whether an output is right.

        Example:
            >>> FlagRules().accepts(b"Yes 1", b"YES\\n1"), FlagRules(absolute=0.1).accepts(b"1", b"1.05")
            (True, True)
        """
        if not self.space_change_sensitive:
            return have_same_tokens(expected, actual, self._are_same)
        found = (piece[0] for piece in _PIECES.finditer(actual))  # one by one, because the output may be huge
        pairs = zip_longest(_PIECES.findall(expected), found, fillvalue=b"")
        return all(want == got or self._are_same(want, got) for want, got in pairs)

    def _are_same(self, want: bytes, got: bytes) -> bool:
        if (self.absolute, self.relative) == (None, None) or not _FLOAT.fullmatch(want):
            return not self.case_sensitive and want.lower() == got.lower()
        return _FLOAT.fullmatch(got) is not None and self._are_close(float(want), float(got))

    def _are_close(self, a: float, b: float) -> bool:
        if not math.isfinite(a - b):
            return a == b or (math.isnan(a) and math.isnan(b))  # C writes `-nan`, packages write `NaN`
        return abs(a - b) <= max(self.absolute or 0.0, (self.relative or 0.0) * abs(a))


class KattisComparison:
    """Compares outputs as a package's default output validator does. A test's own flags come after these.

    Args:
        flags: text, or a list of words, as in `validator_flags` of problem.yaml.

    Raises:
        JudgeError: a flag is unknown, or a tolerance is no number.

    Example:
        >>> KattisComparison("float_tolerance 1e-6").opinion(CheckerInput(b"", b"0.5", b"0.5000001"), None).accepted
        True
    """

    def __init__(self, flags: str | Sequence[str] = ()) -> None:
        self._flags = tuple(flags_of(flags))
        rules_of_flags(self._flags)  # raises here and not at the first test

    @property
    def settings(self) -> object:
        """The comparison's name and flags."""
        return {"kattis": list(self._flags)}

    def opinion(self, given: CheckerInput, runner: ProgramRunner | None) -> CheckerResult:
        """Return whether the output equals the expected one by the flags."""
        rules = rules_of_flags((*self._flags, *given.flags))
        return CheckerResult(rules.accepts(given.expected, given.output))


@lru_cache(256)
def rules_of_flags(flags: tuple[str, ...]) -> FlagRules:
    """Return what flags mean; of contradicting flags the last one counts.

    Raises:
        JudgeError: a flag is unknown, or a tolerance is no number.
    """
    rules: dict[str, Any] = {}
    words = iter(flags)
    for word in words:
        if word in _TOLERANCES:
            rules |= dict.fromkeys(_TOLERANCES[word], _tolerance(word, next(words, "")))
        elif word in ("case_sensitive", "space_change_sensitive"):
            rules[word] = True
        else:
            raise _bad_flags(f"{word!r} is none of case_sensitive, space_change_sensitive, {', '.join(_TOLERANCES)}")
    return FlagRules(**rules)


def number_of(text: Any) -> float | None:
    """Return a finite number; None where a text or another value is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _tolerance(name: str, text: str) -> float:
    value = number_of(text)
    if value is not None and value >= 0:
        return value
    raise _bad_flags(f"{name} is {text!r}, not a number of 0 or more")


def _bad_flags(what: str) -> JudgeError:
    return JudgeError(f"flags of the output comparison: {what}.", retriable=False)


# ---- checkers that are programs

_NOTE_BYTES = 2000
_TESTLIB = (0, 1, 2, 4, 8)
#: What testlib writes to stderr where it gives points: a share in hundredths (`_pc`), or the points (`quitp`).
_PARTIAL = re.compile(r"\s*partially correct \((\d+)\)")
_POINTS = re.compile(r"\s*points\s+([-+.\deE]+)")
_POINTS_CODE = 7
_RESOURCES = {"cpu": "time", "wall": "time", "memory": "memory", "files": "space for files", "processes": "processes"}
_NO_MEMORY = ("std::bad_alloc", "MemoryError", "Cannot allocate memory", "java.lang.OutOfMemoryError")


def _limits() -> Limits:
    """Return the limits of a program that judges an output."""
    return Limits(
        time_limit_s=TUNING.validator_time_limit_s,
        wall_limit_s=2 * TUNING.validator_time_limit_s + 1,
        memory_limit_mb=TUNING.validator_memory_limit_mb,
        output_limit_mb=64.0,
    )


class Conversation(NamedTuple):
    """How a solution and a validator that talked to each other ended.

    Attributes:
        ending: how the solution ended.
        result: what the validator decided.
        validator_s: the CPU time that the validator used or waited for, while the solution may have waited for it.
    """

    ending: ExitStatus
    result: CheckerResult
    validator_s: float


@dataclass(frozen=True)
class ProgramRunner:
    """Runs checkers that are programs, in a folder beside the streams of the test that they judge."""

    context: JudgeContext
    folder: Path
    token: CancelToken

    def run(self, item: Mapping[str, object], given: CheckerInput, arguments: Sequence[str]) -> ProgramRun:
        """Run a program on an output.

        Raises:
            JudgeError: it doesn't compile, or doesn't end.
        """
        slot = self.context.limiter.slot(check=self.token.check, owner=self.context)
        with self.prepared(item, given, arguments) as start, slot:
            return start(_limits(), {})

    def _source(self, item: Mapping[str, object]) -> tuple[Language, Source]:
        language = lookup(read_item(item).language, self.context.languages).language
        return language, source_of(item, language)

    def compile(self, item: Mapping[str, object]) -> None:
        """Compile a program. What fails is ignored: it fails again, and is reported, when the program is first run."""
        try:
            with self.context.toolchain.program(*self._source(item), self.folder, self.token):
                pass
        except (NbrunError, OSError):
            pass

    def is_missing(self, item: Mapping[str, object]) -> bool:
        """Return whether a program still has to be compiled, and can be."""
        try:
            return not self.context.toolchain.has_begun(*self._source(item))
        except NbrunError:
            return False

    @contextmanager
    def prepared(
        self, item: Mapping[str, object], given: CheckerInput, arguments: Sequence[str]
    ) -> Iterator[Callable[[Limits, Mapping[str, int]], ProgramRun]]:
        """Compile a program and write its files; yield a function that runs it.

        The function takes the limits, and descriptors that replace some of the program's streams.

        Raises:
            JudgeError: it doesn't compile.
        """
        language, source = self._source(item)
        with (
            temporary_folder("checker-", self.folder) as folder,
            self.context.toolchain.program(language, source, folder, self.token) as program,
        ):
            compiled = program.compiled
            if compiled is not None and compiled.return_code != 0:
                raise JudgeError(f"the checker{name_of(item)} does not compile: {compiled.stderr}", retriable=False)
            at = place(self.context, folder / "box")
            for file, data in {"input": given.input, "answer": given.expected, "output": given.output}.items():
                (at.work / file).write_bytes(data)
                (at.work / file).chmod(0o644)
            feedback = at.work / "feedback"
            feedback.mkdir()
            streams = {"stdin": at.work / "output", "stdout": folder / "out", "stderr": folder / "err"}
            words = [part.replace("{at}", at.within) for part in arguments]

            def start(limits: Limits, pipes: Mapping[str, int]) -> ProgramRun:
                to: dict[str, Path | int] = {**streams, **pipes}
                ending = launch(program, self.context, at, to, limits, self.token, words, [feedback], more=not pipes)
                paths = (
                    *(feedback / "judgemessage.txt", folder / "err", folder / "out"),
                    *(feedback / "score.txt", feedback / "score_multiplier.txt"),
                )
                message, stderr, output, *points = (read_safely(path, _NOTE_BYTES) for path in paths)
                note = b"\n".join(filter(None, (message, stderr)))
                texts = (text.decode("utf-8", "replace").strip() for text in (note, output, *points))
                return ProgramRun(ending, *texts)

            yield start


@contextmanager
def compiled_beside(checker: Checker, context: JudgeContext) -> Iterator[None]:
    """Compile a checker's programs in threads while the block compiles a solution, unless that was begun before."""
    runner = ProgramRunner(context, context.folder, context.token)
    programs = checker.programs if isinstance(checker, _ProgramChecker) and cores() > 1 else ()
    threads = []
    try:
        for item in filter(runner.is_missing, programs):
            thread = threading.Thread(target=runner.compile, args=(item,), name="nbrun-judge-checker", daemon=True)
            start_thread(thread)
            threads.append(thread)
    except ThreadLimitError:
        pass  # they are compiled when they are first run
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


def name_of(item: Mapping[str, object]) -> str:
    """Return the name of a checker for a message, with a space before it; empty where it has none."""
    name = item.get("name") or item.get("submission") or item.get("file")
    return f" {str(name)[:80]}" if name else ""


def lacks_memory(stderr: str) -> bool:
    """Return whether a program says that it was refused memory."""
    return any(sign in stderr for sign in _NO_MEMORY)


def _failure(item: Mapping[str, object], run: ProgramRun, limits: Limits) -> JudgeError:
    """Return the error for a checker that came to no conclusion: its name, and the resource that it ran out of."""
    ending = run.ending
    how, lacked = f"returned {ending.return_code}", ""
    if ending.cause is not None:
        lacked = _RESOURCES[ending.cause]
        how = f"exceeded its limit ({ending.cause}): it ran out of {lacked}"
    elif ending.memory_mb > limits.memory_limit_mb or lacks_memory(run.note):
        how, lacked = "ran out of memory", "memory"
    most = {"time": f"{limits.time_limit_s:g} s", "memory": f"{limits.memory_limit_mb:g} MB"}
    if lacked in most:
        how += f" (it may use {most[lacked]})"
    text = f"the checker{name_of(item)} {how}, which says nothing of the solution. {run.note}".rstrip()
    return JudgeError(text, retriable=ending.cause in ("cpu", "wall"))


class _ProgramChecker(ABC):
    """What all kinds of checker programs share. Threads: any number; nothing in it changes."""

    kind = ""
    #: The files that it gets as arguments, in their order.
    files: tuple[str, ...] = ()

    def __init__(
        self, programs: Sequence[Mapping[str, object]], flags: str | Sequence[str] = (), accepted_from: float = 1.0
    ) -> None:
        if not programs:
            raise InputError(f"{type(self).__name__}: give it a program.")
        if not math.isfinite(accepted_from):
            raise InputError(f"{type(self).__name__}: accepted_from={accepted_from!r}; give a number of points.")
        self.programs, self._flags, self._accepted_from = list(programs), tuple(flags_of(flags)), accepted_from

    @property
    def settings(self) -> object:
        """The checker's kind, its flags and a digest of its sources."""
        about = {self.kind: key_text(digest_of(self.programs)), "flags": list(self._flags)}
        return about | ({"accepted_from": self._accepted_from} if self._accepted_from != 1 else {})

    def _arguments(self, given: CheckerInput) -> list[str]:
        return [*self.files, *self._flags, *given.flags]

    @abstractmethod
    def _result(self, run: ProgramRun) -> CheckerResult | None:
        """Return what one program decided; None where it came to no conclusion."""

    def opinion(self, given: CheckerInput, runner: ProgramRunner | None) -> CheckerResult:
        """Run the programs on an output; all of them must accept it.

        Raises:
            JudgeError: a program doesn't compile, or comes to no conclusion.
            NotSupportedError: no program can be run here.
        """
        if runner is None:
            raise NotSupportedError(f"a checker that is a program ({self.kind}) needs a LocalSandbox to run in.")
        results: list[CheckerResult] = []
        for item in self.programs:
            result = self._concluded(item, runner.run(item, given, self._arguments(given)), _limits())
            if not result.accepted:
                return result
            results.append(result)
        return _accepted_by_all(results)

    def _concluded(self, item: Mapping[str, object], run: ProgramRun, limits: Limits) -> CheckerResult:
        """Return what one program decided.

        Raises:
            JudgeError: it came to no conclusion.
        """
        result = None if run.ending.cause is not None else self._result(run)
        if result is None:
            raise _failure(item, run, limits)
        return result


class KattisValidator(_ProgramChecker):
    """An output validator of a Kattis or ICPC problem package.

    Args:
        programs: its sources as items, such as `[{"language": "CPP", "solution": "int main…"}]`; all must accept.
        flags: its arguments; a test's own flags come after these.
        accepted_from: not used; what it accepts is accepted, whatever score it writes.
    """

    kind = "validator"
    files = ("{at}/input", "{at}/answer", "{at}/feedback" + os.sep)

    def talk(
        self, runner: ProgramRunner, given: CheckerInput, wall_limit_s: float, launch: Callable[[int, int], ExitStatus]
    ) -> Conversation:
        """Run the validator of an interactive problem beside a solution; the output of each is the other's input.

        Args:
            wall_limit_s: the solution's; the validator gets more, since it may have to wait for the solution.
            launch: runs the solution to its end with these descriptors as stdin and stdout, and closes them.

        Raises:
            JudgeError: the validator came to no conclusion, or the machinery failed.
        """
        if len(self.programs) > 1:
            raise NotSupportedError("an interactive problem with several validators is not supported.")
        limits = _limits()
        limits = replace(limits, wall_limit_s=max(limits.wall_limit_s, wall_limit_s + limits.time_limit_s))
        program = self.programs[0]
        with runner.prepared(program, given, self._arguments(given)) as start:
            ending, run = _run_both(partial(start, limits), launch)
        validator_s = run.ending.cpu_s + run.ending.delay_s
        if ending.cause is not None and not ending.is_unheard:
            # The solution was ended by a limit while the validator listened: what became of that doesn't count.
            return Conversation(ending, self._result(run) or CheckerResult(False, run.note), validator_s)
        return Conversation(ending, self._concluded(program, run, limits), validator_s)

    def _result(self, run: ProgramRun) -> CheckerResult | None:
        result = CheckerResult(False, run.note, number_of(run.score), number_of(run.multiplier))
        return {42: replace(result, accepted=True), 43: result}.get(run.ending.return_code or 0)


class TestlibChecker(_ProgramChecker):
    """A checker in C++ that keeps testlib's order of arguments and its exit codes.

    Args:
        source: the source, or the path of a file that holds it.
        testlib: the path of the `testlib.h` that it includes (https://github.com/MikeMirzayanov/testlib).
        files: further files that it includes: name -> text.
        flags: arguments after the three files.
        accepted_from: the score from which on an output is accepted, where the checker gives points: a hundredth of
            what it gives by `_pc`, or the points that it gives by `quitp`. The score is in the test's record, and the
            lowest score of all tests in the result.
    """

    __test__ = False  # pytest would take the name for a test
    kind = "testlib"
    files = ("{at}/input", "{at}/output", "{at}/answer")

    def __init__(
        self,
        source: str | Path,
        testlib: str | Path | None = None,
        *,
        files: Mapping[str, str] | None = None,
        flags: str | Sequence[str] = (),
        accepted_from: float = 1.0,
    ) -> None:
        if isinstance(source, Path):
            text, name = source.read_text(encoding="utf-8"), source.name
        else:
            text, name = source, "(testlib)"
        others = dict(files or {})
        if testlib is not None:
            others["testlib.h"] = Path(testlib).read_text(encoding="utf-8")
        if "testlib.h" in text and "testlib.h" not in others:
            raise NotSupportedError(
                "the checker includes testlib.h, which doesn't come with nbrun: get it from "
                "https://github.com/MikeMirzayanov/testlib and give its path: LocalSandbox(testlib='…/testlib.h'). "
                'read_problems(…, on_bad="skip") leaves such problems out.'
            )
        super().__init__([{"language": "CPP", "solution": text, "files": others, "name": name}], flags, accepted_from)

    def _result(self, run: ProgramRun) -> CheckerResult | None:
        code, score = run.ending.return_code, _testlib_score(run)
        if score is not None:
            return CheckerResult(score >= self._accepted_from, run.note, score)
        return CheckerResult(code == 0, run.note) if code in _TESTLIB else None


def _testlib_score(run: ProgramRun) -> float | None:
    """Return the points that a checker with testlib gave; None if it gave none."""
    if partial := _PARTIAL.match(run.note):  # its exit code depends on the share, and on testlib's version
        return int(partial[1]) / 100
    if run.ending.return_code == _POINTS_CODE and (points := _POINTS.match(run.note)):
        return number_of(points[1])
    return None


class PrintedScore(_ProgramChecker):
    """A checker that prints its score: 1 for an output that is right, 0 for a wrong one (open-r1/codeforces).

    Args:
        programs: its source as an item, such as `[{"language": "PYTHON3", "solution": "import sys…"}]`.
        accepted_from: the score from which on an output is accepted.
    """

    kind = "prints_score"
    files = ("{at}/input", "{at}/answer", "{at}/output")

    def _result(self, run: ProgramRun) -> CheckerResult | None:
        score = _printed_score(run.output)
        if run.ending.return_code != 0 or score is None:
            return None
        partial = score if score not in (0, 1) else None  # a plain verdict needs no score
        return CheckerResult(score >= self._accepted_from, run.note, partial)


def _printed_score(output: str) -> float | None:
    """Return the score in the last word of an output; None if it is none."""
    word = output.split()[-1:]
    return number_of({"true": "1", "false": "0"}.get(word[0].lower(), word[0])) if word else None


def _accepted_by_all(results: Sequence[CheckerResult]) -> CheckerResult:
    note = "\n".join(result.note for result in results if result.note)
    return CheckerResult(True, note, _least(r.score for r in results), _least(r.multiplier for r in results))


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _run_both(
    validate: Callable[[Mapping[str, int]], ProgramRun], launch: Callable[[int, int], ExitStatus]
) -> tuple[ExitStatus, ProgramRun]:
    """Run a solution, and beside it in a thread a validator; the output of each is the other's input.

    Raises:
        JudgeError: the machinery failed.
    """
    to_solution_read, to_solution_write = os.pipe()
    to_validator_read, to_validator_write = os.pipe()
    validated: Future[ProgramRun] = Future()

    def run_validator() -> None:
        try:
            validated.set_result(validate({"stdin": to_validator_read, "stdout": to_solution_write}))
        except BaseException as e:  # raised below, by the thread that waits for this one
            validated.set_exception(e)

    thread = threading.Thread(target=run_validator, name="nbrun-judge-validator", daemon=True)
    try:
        thread.start()
    except BaseException:
        for fd in (to_solution_read, to_solution_write, to_validator_read, to_validator_write):
            os.close(fd)
        raise
    try:
        with os.fdopen(os.dup(to_solution_read), "rb", buffering=0) as unread:
            ending = launch(to_solution_read, to_validator_write)
            _drain(unread.fileno(), thread)
    finally:
        thread.join()
    return ending, validated.result()


def _drain(fd: int, thread: threading.Thread) -> None:
    """Read what a validator still writes after its solution has ended, so that no broken pipe ends it.

    A solution may end before it has read everything, and be accepted.
    """
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while thread.is_alive():
        if poller.poll(50) and not os.read(fd, 1 << 16):
            return


def checker_of(
    problem: Mapping[str, Any], testlib: str | Path | None = None, accepted_from: float | None = None
) -> Checker:
    """Return the checker that a problem brings, or the usual comparison.

    A problem's `checker` is a checker, a function, a testlib checker's source, or a mapping: `{"type": "kattis",
    "flags"}`, `{"type": "validator", "programs", "flags"}`, `{"type": "testlib", "source", "files", "flags"}`,
    `{"type": "prints_score", "language", "source"}`.

    Args:
        accepted_from: the score from which on an output is accepted, where a checker gives points; None takes what the
            problem says, or 1.

    Raises:
        NotSupportedError: it is of no known kind, or needs a testlib.h that wasn't given.
    """
    own = problem.get("checker")
    if own is None:
        return DEFAULT
    if isinstance(own, str):
        if "main" not in own:
            raise NotSupportedError(f"the problem's checker is {own[:80]!r}, which is no program in C++.")
        own = {"type": "testlib", "source": own}
    if not isinstance(own, Mapping):
        return as_checker(own)
    least = own.get("accepted_from") if accepted_from is None else accepted_from
    return _described(own, testlib, 1.0 if least is None else float(least))


def _described(own: Mapping[str, Any], testlib: str | Path | None, accepted_from: float) -> Checker:
    """Return the checker that a problem's mapping describes."""
    flags = own.get("flags") or ()
    match own.get("type"):
        case "kattis":
            return KattisComparison(flags)
        case "validator":
            return KattisValidator(own["programs"], flags)
        case "prints_score":
            program = {"language": own.get("language") or "PYTHON3", "solution": own["source"]}
            return PrintedScore([program], accepted_from=accepted_from)
        case "testlib":
            files = own.get("files")
            return TestlibChecker(own["source"], testlib, files=files, flags=flags, accepted_from=accepted_from)
    raise NotSupportedError(f"the problem's checker is {str(own)[:80]!r}, of no kind that is known here.")
