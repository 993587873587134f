"""Decides when an exceeded time limit is final, and how a program is tried again before that.

A judge's slow machine must not reject a right solution, and a hopeless program must not run forever. Called by judges'
worker threads and by any thread that asks about a saved result; pure functions.

    T1  If the output is wrong already, the verdict is final.
    T2  If the program wrote nothing and showed no sign of work, the sandbox was blocked: it is tried at other endpoints
        with the same limit, up to BLOCKED_TRIES times; if there are no others, with less load.
    T3  Otherwise load is reduced first: a program that ran while others did runs alone, with the same limit.
    T4  Then the limit is raised, if the output is a beginning of the expected output: by the ratio of the lengths of
        expected and written output, at most MOST_RAISED times, and up to `max_time_limit_s`.
    T5  Nothing runs twice with the same limit and load at one endpoint.
    T6  If the limit isn't known, the verdict is final.

A compiler that ran out of time says nothing about the source: it is tried with less load, then with more time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from nbrun.judge.comparison import compare_tokens
from nbrun.verdicts import Verdict

#: How often a program that showed no sign of work is tried elsewhere.
BLOCKED_TRIES = 3
#: By how much one step raises a limit at most.
MOST_RAISED = 10.0


class Written(StrEnum):
    """How the output that a program had written when its time was up compares to the expected output."""

    NOTHING = "nothing"  # and it showed no other sign of work
    SILENT = "silent"  # nothing, but it worked: it used a CPU, or wrote to stderr
    BEGINNING = "beginning"  # a true beginning of what was expected
    ALL = "all"  # what was expected, and it didn't end
    WRONG = "wrong"


@dataclass(frozen=True)
class Attempt:
    """One attempt at one test that ended at a time limit, as an entry stores it.

    Attributes:
        verdict: the result of the attempt.
        time_limit_s: the limit in seconds; None if it isn't known.
        load: the number of programs that ran at that endpoint at once, this one included.
        endpoint: where it ran.
        test: the number of the test, counted from 0.
        written: see `Written`; None if something other than the program ran out of time.
        share: the written share of the expected output, 0 to 1.
        compile_limit_s: the compiler's limit, if that was exceeded.
    """

    verdict: str
    time_limit_s: float | None = None
    load: int = 1
    endpoint: str = ""
    test: int = 0
    written: str | None = None
    share: float = 0.0
    compile_limit_s: float | None = None

    def record(self) -> dict[str, Any]:
        """Return the attempt as a mapping for an entry, without values that are the default."""
        nothing = {"written": None, "share": 0.0, "compile_limit_s": None}
        return {name: value for name, value in asdict(self).items() if (name, value) not in nothing.items()}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Attempt:
        """Return the attempt that an entry stores; unknown keys are ignored."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})

    @property
    def is_final(self) -> bool:
        """Whether no time or load could have changed the verdict (T1)."""
        return self.verdict != Verdict.TIME_LIMIT_EXCEEDED or self.written in (Written.WRONG, None)


@dataclass(frozen=True)
class Next:
    """The next attempt.

    Attributes:
        alone: whether nothing else may run at its endpoint meanwhile.
        avoid: endpoints that it must not use.
    """

    reason: str
    time_limit_s: float
    alone: bool = False
    avoid: tuple[str, ...] = ()
    compile_limit_s: float | None = None


def next_attempt(
    attempts: Sequence[Attempt], max_time_limit_s: float | None = None, places: Collection[str] = ()
) -> Next | None:
    """Return what to try after these attempts at one test, the last of which exceeded its time; None if it is final.

    Args:
        attempts: in their order.
        max_time_limit_s: the limit up to which limits are raised; None raises none.
        places: the names of the endpoints at which it could run.

    Example:
        >>> slow = Attempt("TimeLimitExceeded", 2.0, load=1, written=Written.BEGINNING, share=0.25)
        >>> next_attempt([slow]) is None, next_attempt([slow], max_time_limit_s=60).time_limit_s
        (True, 8.0)
    """
    last = attempts[-1]
    limit = last.time_limit_s
    if limit is None or last.is_final:  # T6, T1
        return None
    tried = [a for a in attempts if a.time_limit_s == limit]
    if last.written == Written.NOTHING:
        return _after_no_sign_of_work(tried, limit, places)
    return _alone(tried, limit) or _with_more_time(attempts, limit, max_time_limit_s or limit)


def _after_no_sign_of_work(tried: Sequence[Attempt], limit: float, places: Collection[str]) -> Next | None:
    """Return an attempt elsewhere, or with less load (T2); None after too many of them."""
    if [a.written for a in tried].count(Written.NOTHING) > BLOCKED_TRIES:
        return None
    been = dict.fromkeys(a.endpoint for a in tried)
    if set(places) - been.keys():
        return Next("no sign of work: tried elsewhere", limit, alone=True, avoid=tuple(been))
    return _alone(tried, limit)


def _alone(tried: Sequence[Attempt], limit: float) -> Next | None:
    """Return an attempt with less load (T3); None if one of those with this limit ran alone."""
    if not _all_had_company(tried):
        return None
    return Next("its time was up beside other programs: tried alone", limit, alone=True)


def _all_had_company(attempts: Iterable[Attempt]) -> bool:
    return all(a.load > 1 for a in attempts)


def _with_more_time(attempts: Sequence[Attempt], limit: float, most_s: float) -> Next | None:
    """Return an attempt with a raised limit (T4); None if that isn't allowed, or wouldn't be higher than all so far."""
    last = attempts[-1]
    if last.written != Written.BEGINNING or not 0 < last.share < 1:
        return None
    raised = round(min(limit * min(1 / last.share, MOST_RAISED), most_s), 3)
    if raised <= max(a.time_limit_s or 0.0 for a in attempts):  # T5
        return None
    return Next("what it had written was right: tried with more time", raised, alone=True)


def next_compile(attempts: Sequence[Attempt], max_compile_limit_s: float) -> Next | None:
    """Return what to try after a compiler ran out of time; None to give up, without a verdict on the source.

    Example:
        >>> next_compile([Attempt("JudgeError", 2.0, load=4, compile_limit_s=10.0)], 30.0).compile_limit_s
        10.0
    """
    limit, time_limit_s = attempts[-1].compile_limit_s, attempts[-1].time_limit_s
    if limit is None or time_limit_s is None:
        return None
    if _all_had_company(a for a in attempts if a.compile_limit_s == limit):
        reason, raised = "the compiler's time was up beside other programs: tried alone", limit
    else:
        reason, raised = "the compiler's time was up: tried with more", min(limit * MOST_RAISED, max_compile_limit_s)
        if raised <= limit:
            return None
    return Next(reason, time_limit_s, alone=True, compile_limit_s=raised)


class Output(NamedTuple):
    """How much of the expected output was written: what kind of output it is, and its share of the length, 0 to 1."""

    written: Written
    share: float


def look_at(
    expected: str, output: str, *, worked: bool = False, exact: bool = True, ignore_case: bool = False
) -> Output:
    """Compare what a program had written when its time was up with the expected output.

    Args:
        worked: whether it showed a sign of work besides its output.
        exact: False if outputs other than the expected one may be right too; then a shorter one may be a beginning.

    Example:
        >>> look_at("1\\n2\\n3\\n4\\n", "1\\n2\\n")
        Output(written=<Written.BEGINNING: 'beginning'>, share=0.5)
        >>> look_at("1\\n2\\n", "1\\n3")[0], look_at("1\\n2\\n", "")[0]
        (<Written.WRONG: 'wrong'>, <Written.NOTHING: 'nothing'>)
    """
    if ignore_case:
        expected, output = expected.lower(), output.lower()
    want, got = expected.split(), output.split()
    if not got:
        return Output(Written.SILENT if worked or output else Written.NOTHING, 0.0)
    share = len(output) / max(1, len(expected))
    if exact:
        return _compared(want, got, share, is_cut=not output[-1:].isspace())
    return Output(Written.BEGINNING, share) if share < 1 else Output(Written.ALL, 1.0)


def _compared(want: list[str], got: list[str], share: float, is_cut: bool) -> Output:
    """Compare tokens with the expected ones, of which no others are right; if `is_cut`, the last may be cut off."""
    if len(got) > len(want) or not _begins(want, got, is_cut):
        return Output(Written.WRONG, 0.0)
    if len(got) == len(want) and compare_tokens(want[-1], got[-1]):
        return Output(Written.ALL, 1.0)
    return Output(Written.BEGINNING, min(share, 0.999))


def _begins(want: list[str], got: list[str], cut: bool) -> bool:
    """Return whether `got` are the first tokens of `want`; if `cut`, the last one may be cut off."""
    n = len(got) - 1
    if not compare_tokens(" ".join(want[:n]), " ".join(got[:n])):
        return False
    return compare_tokens(want[n], got[n]) or (cut and want[n].startswith(got[n]))
