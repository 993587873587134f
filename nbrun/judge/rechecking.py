"""Judges saved outputs with another checker, without running programs again.

Called by the user's thread. It reads the results directory and writes nothing; the result is a list of rows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, overload

from nbrun import verdicts
from nbrun.errors import InputError, JudgeError
from nbrun.judge.checkers import Checker, CheckerInput, ProgramRunner, as_checker, checker_result
from nbrun.judge.local import LocalSandbox
from nbrun.results.reader import Reader
from nbrun.results.sample_file import load_entry
from nbrun.verdicts import Verdict

#: A SandboxFusion server may lose output beyond this length.
_SERVER_OUTPUT_BYTES = 131_072
_STREAMS = {"stdout": "its output", "input": "the input", "output": "the expected output"}


@dataclass(frozen=True)
class Rechecked(Sequence[Mapping[str, object]]):
    """One row for each saved result: `sample_id, group, index, key, occurrence, before, verdict, changed, reason`.

    `verdict` is None if it can't be determined without running programs again; `reason` gives the cause.

    Example:
        >>> len(Rechecked([]).changed), len(Rechecked([]).unknown)
        (0, 0)
    """

    rows: Sequence[Mapping[str, object]]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, object]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Mapping[str, object]]: ...
    def __getitem__(self, at: int | slice) -> Mapping[str, object] | Sequence[Mapping[str, object]]:
        return self.rows[at]

    @property
    def changed(self) -> list[Mapping[str, object]]:
        """The rows whose verdict has changed."""
        return [row for row in self.rows if row["changed"]]

    @property
    def unknown(self) -> list[Mapping[str, Any]]:
        """The rows that can't be judged from what was saved."""
        return [row for row in self.rows if row["verdict"] is None]

    def __repr__(self) -> str:
        moves = Counter(f"{row['before']} → {row['verdict']}" for row in self.changed)
        reasons = Counter(str(row["reason"]).partition(": ")[2] or row["reason"] for row in self.unknown)
        text = f"{len(self)} results, {len(self) - len(self.unknown)} rechecked, {len(self.changed)} changed"
        text += f" ({_counted(moves)})" if moves else ""
        return text + (f"; {len(self.unknown)} can't be: {_counted(reasons)}" if reasons else "")


def recheck(
    results: str | os.PathLike[str] | Iterable[Mapping[str, object]],
    checker: Checker | Callable[..., bool],
    *,
    sandbox: LocalSandbox | None = None,
) -> Rechecked:
    """Judge saved outputs with another checker. Programs don't run again, and nothing is written.

    A result holds complete outputs only if they were short, or with `LocalSandbox(keep_output_bytes=None)`. A row
    reports a truncated stream as its reason, and also a solution that was stopped at a test that passes now, since the
    tests after it never ran (`all_tests=True` runs them).

    Args:
        results: a results directory, or single results as mappings.
        checker: as for LocalSandbox.
        sandbox: runs a checker that is a program; None makes one for this call.

    Raises:
        InputError: there is no such directory.

    Example:
        >>> run = {"status": "Finished", "return_code": 0, "stdout": "YES"}
        >>> info = {"input": {"stdin": ""}, "output": {"stdout": "yes"}}
        >>> test = {"passed": False, "exec_info": {"status": "Success", "run_result": run}, "test_info": info}
        >>> recheck([{"accepted": False, "tests": [test], "tests_total": 1}], lambda a, b: a.lower() == b.lower())
        1 results, 1 rechecked, 1 changed (WrongAnswer → Accepted)
    """
    judge = as_checker(checker)
    rows: list[dict[str, object]] = []
    with ExitStack() as stack:
        runner: ProgramRunner | None = None
        for entry in _entries(results):
            if runner is None and hasattr(judge, "kind"):  # a program
                own = sandbox or stack.enter_context(closing(LocalSandbox()))
                runner = stack.enter_context(own.checking())
            rows.append(_row(entry, judge, runner))
    return Rechecked(rows)


def _entries(results: str | os.PathLike[str] | Iterable[Mapping[str, object]]) -> Iterator[dict[str, object]]:
    if not isinstance(results, (str, os.PathLike)):
        for i, result in enumerate(results):
            if not isinstance(result, Mapping):
                raise InputError(f"recheck: result {i} is a {type(result).__name__}; give a directory, or mappings.")
            yield {"sample_id": None, "index": i, "result": result}
        return
    for sample in Reader(results).samples():
        for stored, body in sample.entries:
            yield {"sample_id": sample.sample_id, "group": stored.group, **load_entry(body)}


def _row(entry: Mapping[str, object], checker: Checker, runner: ProgramRunner | None) -> dict[str, object]:
    result = entry.get("result")
    before = verdicts.of(result)
    try:
        verdict, reason = str(_verdict(result, before, checker, runner)), None
    except _Undecided as e:
        verdict, reason = None, str(e)
    except JudgeError as e:
        verdict, reason = None, f"the checker: {e}"
    names = ("sample_id", "group", "index", "key", "occurrence")
    row = {name: entry.get(name) for name in names}
    changed = verdict is not None and verdict != before
    return row | {"before": before, "verdict": verdict, "changed": changed, "reason": reason}


class _Undecided(Exception):
    """What was saved isn't enough to determine a verdict; the message says why."""


def _verdict(result: Any, before: str | None, checker: Checker, runner: ProgramRunner | None) -> str:
    """Return the verdict of the first failing test by this checker; raise _Undecided if there is none."""
    known = verdicts.mapping(result)
    tests: Any = known.get("tests")
    if not tests or before in (None, Verdict.JUDGE_ERROR):
        raise _Undecided("no tests were judged")
    have_passed = [bool(test.get("passed")) for test in tests]
    if before == Verdict.ACCEPTED and not all(have_passed):
        raise _Undecided("a grader of its package accepted it, whichever tests failed")
    is_ours = "tests_total" in known
    failing = (_failure(test, number, checker, runner, is_ours) for number, test in enumerate(tests))
    if (failure := next(filter(None, failing), None)) is not None:
        return failure
    if len(tests) != _total(known, have_passed):
        raise _Undecided(f"test {len(tests) - 1}: the tests after it never ran")
    return Verdict.ACCEPTED


def _total(known: Mapping[str, object], have_passed: list[bool]) -> object:
    """Return how many tests the problem has; where the result doesn't say it, one more if the run has stopped."""
    total = known.get("tests_total")
    has_stopped = not have_passed[-1] and all(have_passed[:-1])  # it has failed at its last test only
    return len(have_passed) + has_stopped if total is None else total


def _failure(
    test: Mapping[str, Any], number: int, checker: Checker, runner: ProgramRunner | None, is_ours: bool
) -> str | None:
    """Return the verdict of a test that fails by this checker, else None; raise _Undecided if it isn't known."""
    run = verdicts.run_of(test)
    if not test.get("passed") and (run.get("status"), run.get("return_code")) != ("Finished", 0):
        return verdicts.of({"accepted": False, "tests": [test]}) or Verdict.JUDGE_ERROR
    return None if _accepts(test, number, checker, runner, is_ours) else Verdict.WRONG_ANSWER


def _accepts(
    test: Mapping[str, Any], number: int, checker: Checker, runner: ProgramRunner | None, is_ours: bool
) -> bool:
    """Return whether a checker accepts the saved output of a test; raise _Undecided if a stream isn't complete."""
    streams, info = _saved_streams(test, number, is_ours), verdicts.mapping(test.get("test_info"))
    flags: Any = info.get("flags") or ()
    others: Any = info.get("alternatives") or ()
    given = CheckerInput(streams["input"], streams["output"], streams["stdout"], flags)
    return checker_result(checker, given, runner, others).accepted


def _saved_streams(test: Mapping[str, Any], number: int, is_ours: bool) -> dict[str, bytes]:
    """Return the streams of a test; raise _Undecided if one isn't complete."""
    texts, cut = verdicts.texts_of(test), test.get("cut") or {}
    data: dict[str, bytes] = {}
    for name, text in {"stdout": texts.stdout, "input": texts.stdin, "output": texts.expected}.items():
        data[name] = (text or "").encode("utf-8", "surrogatepass")
        is_cut = name in cut or (not is_ours and len(data[name]) >= _SERVER_OUTPUT_BYTES)
        if flaw := _flaw(text, is_cut):
            raise _Undecided(f"test {number}: {_STREAMS[name]} {flaw}")
    return data


def _flaw(text: str | None, is_cut: bool) -> str:
    """Return why a saved stream isn't complete; empty if it is."""
    if text is None:
        return "was not saved"
    if is_cut:
        return "was cut"
    return "was no text" if "\ufffd" in text else ""


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{text} × {n}" if n > 1 else text for text, n in counter.most_common())
