"""The tasks that wait: samples in their order, tasks that wait for another try, and tasks that were given back.

No locks here: every method is called with the scheduler's lock held.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from typing import NamedTuple, TypeVar

from nbrun.model import SampleTasks

_T = TypeVar("_T")


class SampleWork:
    """One sample in the scheduler: `left` tasks have not ended; `errors` holds the position and kind of each error."""

    __slots__ = ("bytes", "errors", "left", "next", "positions", "quarantined", "work")

    def __init__(self, work: SampleTasks) -> None:
        self.work = work
        self.quarantined: list[int] = list(work.quarantined)
        self.positions: list[int] = list(work.missing)
        self.left = len(self.positions)
        if self.quarantined:
            last = set(self.quarantined)
            self.positions = [p for p in self.positions if p not in last]
        self.next = 0
        self.bytes = 0  # about how much memory it takes; known once a task of it has failed
        self.errors: list[tuple[int, str]] = []


#: A task: its sample and its position there.
Item = tuple[SampleWork, int]
#: Tasks of one sample that were taken together: the sample and their positions, at least one. A plain tuple, since
#: where tasks take long one is made for each.
Taken = tuple[SampleWork, list[int]]


class Delayed(NamedTuple):
    """A task that waits for another try. They compare by their time, then by their order."""

    due: float
    number: int
    sample: SampleWork
    position: int
    reason: str


class TaskQueue:
    """Tasks of a sample go out together, the next sample fills idle workers; quarantined tasks go last.

    Quarantined are tasks that ran when earlier runs died: they run once all others have ended, one at a time.
    """

    def __init__(self) -> None:
        self._last: deque[Item] = deque()
        self._samples: deque[SampleWork] = deque()
        self._returned: deque[Item] = deque()
        self._delayed: list[Delayed] = []
        self.last_due = 0.0  # the latest time of any task that was ever delayed
        self._reasons: Counter[str] = Counter()  # of delayed tasks
        self.delayed_by_sample: Counter[SampleWork] = Counter()
        self._pushes = 0
        self.ready = 0  # tasks that may run now, but for delayed ones that came due since
        self.samples_waiting = 0

    @property
    def delayed(self) -> int:
        """Tasks that wait for their time."""
        return len(self._delayed)

    @property
    def waiting(self) -> int:
        """All tasks that were not taken."""
        return self.ready + len(self._delayed) + len(self._last)

    @property
    def next_due(self) -> float | None:
        """When the first delayed task may run (time.monotonic), or None."""
        return self._delayed[0][0] if self._delayed else None

    def add(self, sample: SampleWork) -> None:
        """Append a sample."""
        self._last.extend((sample, position) for position in sample.quarantined)
        if sample.positions:
            self._samples.append(sample)
            self.ready += len(sample.positions)
            self.samples_waiting += 1

    def give_back(self, items: list[Item]) -> None:
        """Return tasks that were taken but never started to the front of the queue."""
        self._returned.extend(items)
        self.ready += len(items)

    def delay(self, sample: SampleWork, position: int, due: float, reason: str = "") -> None:
        """Queue a task that may run again at `due`."""
        self._pushes += 1
        heapq.heappush(self._delayed, Delayed(due, self._pushes, sample, position, reason))
        self.last_due = max(self.last_due, due) if self.delayed > 1 else due
        self._reasons[reason] += 1
        self.delayed_by_sample[sample] += 1

    def delayed_tasks(self) -> list[Delayed]:
        """Return all delayed tasks."""
        return list(self._delayed)

    def most_frequent_reason(self) -> tuple[str, int]:
        """Return why most delayed tasks wait, and how many other reasons there are."""
        if not self._reasons:
            return "", 0
        return self._reasons.most_common(1)[0][0], len(self._reasons) - 1

    def take(self, most: int, now: float) -> Taken | None:
        """Return up to `most` tasks of one sample; None if none may run now."""
        if self._delayed and self._delayed[0][0] <= now:
            _, _, sample, position, reason = heapq.heappop(self._delayed)
            _count_down(self._reasons, reason)
            _count_down(self.delayed_by_sample, sample)
            return sample, [position]
        if self._returned:
            self.ready -= 1
            sample, position = self._returned.popleft()
            return sample, [position]
        if not self._samples:
            return None
        sample = self._samples[0]
        start = sample.next
        end = min(start + most, len(sample.positions))
        sample.next = end
        if end == len(sample.positions):
            self._samples.popleft()
            self.samples_waiting -= 1
        self.ready -= end - start
        return sample, sample.positions[start:end]

    @property
    def quarantined(self) -> int:
        """How many tasks wait for all others to end."""
        return len(self._last)

    def take_quarantined(self) -> Taken | None:
        """Return one quarantined task; None while any other task waits, delayed ones included."""
        if not self._last or self.ready or self._delayed:
            return None
        sample, position = self._last.popleft()
        return sample, [position]

    def clear(self) -> None:
        """Drop all tasks, at the end of a run."""
        self._last.clear()
        self._samples.clear()
        self._returned.clear()
        self._delayed.clear()
        self._reasons.clear()
        self.delayed_by_sample.clear()
        self.ready = self.samples_waiting = 0


def _count_down(counter: Counter[_T], what: _T) -> None:
    counter[what] -= 1
    if not counter[what]:
        del counter[what]
