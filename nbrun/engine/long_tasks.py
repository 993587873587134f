"""Tasks that have been running for many times longer than most take: a number and a sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nbrun.formatting import duration_text

#: A task counts as long from TIMES times the median on, and not before LEAST_S seconds.
TIMES, LEAST_S = 10, 3.0
#: From fewer durations than these nothing is said.
ENOUGH = 10


class LongTasks(NamedTuple):
    """How many tasks run for that long, the longest one's seconds so far, and what a task takes in the median."""

    number: int
    longest_s: float
    median_s: float

    @property
    def text(self) -> str:
        """A sentence for the user, or nothing."""
        if not self.number:
            return ""
        many = self.number > 1
        who = f"{self.number:,} tasks have" if many else "1 task has"
        took, times = duration_text(self.longest_s), self.longest_s / max(self.median_s, 1e-3)
        return f"{who} been running for {'up to ' if many else ''}{took}, {times:,.0f} × the median."


NO_LONG_TASKS = LongTasks(0, 0.0, 0.0)


def find_long(running_s: Iterable[float], durations: Iterable[float]) -> LongTasks:
    """Find them.

    Args:
        running_s: how long each task that runs now has been running, in seconds.
        durations: what tasks that ended lately took, in seconds.

    Example:
        >>> find_long([300.0, 1.0], [12.0] * 20).text
        '1 task has been running for 5 min, 25 × the median.'
    """
    old = [s for s in running_s if s >= LEAST_S]
    known = list(durations) if old else []
    if len(known) < ENOUGH:
        return NO_LONG_TASKS
    middle = sorted(known)[len(known) // 2]
    long = [s for s in old if s >= TIMES * middle]
    return LongTasks(len(long), max(long, default=0.0), middle)
