"""When a time limit that was exceeded is believed, and under what a program is tried again before that.

A judge's slow machine must not reject a right solution, and a hopeless program must not be run for ever. Called by
judges' worker threads and by any thread that asks about a saved result; pure functions.

    T1  Output that is wrong already is final.
    T2  Nothing written and no sign of work: the sandbox was blocked. The same limit elsewhere, up to BLOCKED_TRIES
        times; where there is no elsewhere, with less load.
    T3  Else first less load: what ran beside other programs runs alone, under the same limit.
    T4  Then more time, where what was written is a true beginning of the expected output: the limit times
        expected / written length, at most MOST_RAISED times, at most `max_time_limit_s`.
    T5  Nothing runs twice under the same limit and load in one place.
    T6  A limit that isn't known is final.

The same for compilers that ran out of time, which says nothing of the source: less load, then more time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from nbrun.judge.comparison import compare_tokens
from nbrun.verdicts import Verdict

#: How often a program that showed no sign of work is tried elsewhere.
BLOCKED_TRIES = 3
#: By how much one step raises a limit at most.
MOST_RAISED = 10.0


class Written(StrEnum):
    """What a program had written when its time was up."""

    NOTHING = "nothing"  # and it showed no other sign of work
    SILENT = "silent"  # nothing, but it worked: it used a CPU, or wrote to stderr
    BEGINNING = "beginning"  # a true beginning of what was expected
    ALL = "all"  # what was expected, and it didn't end
    WRONG = "wrong"


@dataclass(frozen=True)
class Attempt:
    """One try of one test that ended at a time limit, as it is kept in an entry.

    Attributes:
        verdict: what came of it.
        time_limit_s: the limit in seconds; None where it isn't known.
        load: programs that ran at once in that place, this one included.
        endpoint: the place.
        test: which test, counted from 0.
        written: see `Written`; None where something else than the program ran out of time.
        share: how much of the expected output had been written, 0 to 1.
        compile_limit_s: the compiler's limit, where that was exceeded.
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
        """As a mapping for an entry; what says nothing is left out."""
        nothing = {"written": None, "share": 0.0, "compile_limit_s": None}
        return {name: value for name, value in asdict(self).items() if name not in nothing or value != nothing[name]}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Attempt:
        """The other way round; keys that it doesn't know are left out."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


@dataclass(frozen=True)
class Next:
    """What to try: a limit, and whether nothing else may run there meanwhile; `avoid` lists places not to go to."""

    reason: str
    time_limit_s: float
    alone: bool = False
    avoid: tuple[str, ...] = ()
    compile_limit_s: float | None = None


def next_attempt(
    attempts: Sequence[Attempt], max_time_limit_s: float | None = None, places: Collection[str] = (),
) -> Next | None:  # fmt: skip
    """What to try after these attempts of one test, the last of which exceeded its time; None: it is final.

    Args:
        attempts: in their order.
        max_time_limit_s: up to where limits are raised; None raises none.
        places: where else it could run (names of endpoints).

    Example:
        >>> slow = Attempt("TimeLimitExceeded", 2.0, load=1, written=Written.BEGINNING, share=0.25)
        >>> next_attempt([slow]) is None, next_attempt([slow], max_time_limit_s=60).time_limit_s
        (True, 8.0)
    """
    last = attempts[-1]
    limit = last.time_limit_s
    if last.verdict != Verdict.TIME_LIMIT_EXCEEDED or limit is None or last.written in (Written.WRONG, None):
        return None
    tried = [a for a in attempts if a.time_limit_s == limit]
    if last.written == Written.NOTHING:
        been = tuple(dict.fromkeys(a.endpoint for a in tried))
        blocked = sum(a.written == Written.NOTHING for a in tried)
        if blocked > BLOCKED_TRIES:
            return None
        if set(places) - set(been):
            return Next("no sign of work: tried elsewhere", limit, alone=True, avoid=been)
    if not any(a.load <= 1 for a in tried):
        return Next("its time was up beside other programs: tried alone", limit, alone=True)
    if last.written != Written.BEGINNING or not 0 < last.share < 1:
        return None
    raised = round(min(limit * min(1 / last.share, MOST_RAISED), max_time_limit_s or limit), 3)
    if raised <= max((a.time_limit_s or 0.0 for a in attempts), default=0.0):
        return None
    return Next("what it had written was right: tried with more time", raised, alone=True)


def next_compile(attempts: Sequence[Attempt], max_compile_limit_s: float) -> Next | None:
    """What to try after a compiler ran out of time; None: give up, and say nothing of the source.

    Example:
        >>> next_compile([Attempt("JudgeError", 2.0, load=4, compile_limit_s=10.0)], 30.0).compile_limit_s
        10.0
    """
    last = attempts[-1]
    limit, time_limit_s = last.compile_limit_s, last.time_limit_s
    if limit is None or time_limit_s is None:
        return None
    if not any(a.load <= 1 for a in attempts if a.compile_limit_s == limit):
        reason = "the compiler's time was up beside other programs: tried alone"
        return Next(reason, time_limit_s, alone=True, compile_limit_s=limit)
    raised = min(limit * MOST_RAISED, max_compile_limit_s)
    if raised <= limit:
        return None
    reason = "the compiler's time was up: tried with more"
    return Next(reason, time_limit_s, alone=True, compile_limit_s=raised)


def look_at(
    expected: str, output: str, *, worked: bool = False, exact: bool = True, ignore_case: bool = False
) -> tuple[Written, float]:
    """What a program had written when its time was up, and how much of the expected output that is.

    Args:
        worked: whether it showed a sign of work beside its output.
        exact: False where other outputs than the expected one may be right too: then a shorter one may be a beginning.

    Example:
        >>> look_at("1\\n2\\n3\\n4\\n", "1\\n2\\n")
        (<Written.BEGINNING: 'beginning'>, 0.5)
        >>> look_at("1\\n2\\n", "1\\n3")[0], look_at("1\\n2\\n", "")[0]
        (<Written.WRONG: 'wrong'>, <Written.NOTHING: 'nothing'>)
    """
    if ignore_case:
        expected, output = expected.lower(), output.lower()
    want, got = expected.split(), output.split()
    if not got:
        return (Written.SILENT if worked or output else Written.NOTHING), 0.0
    share = len(output) / max(1, len(expected))
    if not exact:
        return (Written.BEGINNING, share) if share < 1 else (Written.ALL, 1.0)
    if len(got) > len(want) or not _begins(want, got, cut=not output[-1:].isspace()):
        return Written.WRONG, 0.0
    if len(got) == len(want) and compare_tokens(want[-1], got[-1]):
        return Written.ALL, 1.0
    return Written.BEGINNING, min(share, 0.999)


def _begins(want: list[str], got: list[str], cut: bool) -> bool:
    """Whether `got` are the first tokens of `want`; the last one may be cut off where no space follows it."""
    n = len(got) - 1
    if not compare_tokens(" ".join(want[:n]), " ".join(got[:n])):
        return False
    return compare_tokens(want[n], got[n]) or (cut and want[n].startswith(got[n]))
