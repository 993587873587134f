"""What waits to be run: samples in their order, tasks that wait for another try, tasks handed back.

No locks here: every method is called with the engine's lock held.
"""

from __future__ import annotations

import heapq
from collections import deque

from nbrun.model import Work


class SampleWork:
    """One sample in the engine: `left` tasks have not ended, `errors` are positions that ended in one, and its kind."""

    __slots__ = ("errors", "left", "next", "positions", "suspects", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.suspects: list[int] = list(work.suspects)
        self.positions: list[int] = list(work.missing)
        self.left = len(self.positions)
        if self.suspects:
            last = set(self.suspects)
            self.positions = [p for p in self.positions if p not in last]
        self.next = 0
        self.errors: list[tuple[int, str]] = []


Item = tuple[SampleWork, int]


class TaskQueue:
    """Tasks of a sample go out together, the next sample fills idle workers; suspects go last, by `take_last`."""

    def __init__(self) -> None:
        self._last: deque[Item] = deque()
        self._samples: deque[SampleWork] = deque()
        self._returned: deque[Item] = deque()
        self._delayed: list[tuple[float, int, SampleWork, int]] = []
        self._pushes = 0
        self.ready = 0  # tasks that may run now, but for delayed ones that came due since
        self.samples_waiting = 0

    @property
    def delayed(self) -> int:
        """Tasks that wait for their time."""
        return len(self._delayed)

    @property
    def waiting(self) -> int:
        """All tasks that nobody has taken."""
        return self.ready + len(self._delayed) + len(self._last)

    @property
    def next_due(self) -> float | None:
        """When the first of them may run, on the engine's clock."""
        return self._delayed[0][0] if self._delayed else None

    def add(self, sample: SampleWork) -> None:
        """A new sample, behind the others."""
        self._last.extend((sample, position) for position in sample.suspects)
        if sample.positions:
            self._samples.append(sample)
            self.ready += len(sample.positions)
            self.samples_waiting += 1

    def give_back(self, items: list[Item]) -> None:
        """Tasks that were taken and not begun; they go first."""
        self._returned.extend(items)
        self.ready += len(items)

    def delay(self, sample: SampleWork, position: int, due: float) -> None:
        """A task that may run again at `due`."""
        self._pushes += 1
        heapq.heappush(self._delayed, (due, self._pushes, sample, position))

    def take(self, most: int, now: float) -> list[Item]:
        """Up to `most` tasks of one sample; empty where nothing may run now."""
        if self._delayed and self._delayed[0][0] <= now:
            _, _, sample, position = heapq.heappop(self._delayed)
            return [(sample, position)]
        if self._returned:
            self.ready -= 1
            return [self._returned.popleft()]
        if not self._samples:
            return []
        sample = self._samples[0]
        start = sample.next
        end = min(start + most, len(sample.positions))
        sample.next = end
        if end == len(sample.positions):
            self._samples.popleft()
            self.samples_waiting -= 1
        self.ready -= end - start
        return [(sample, position) for position in sample.positions[start:end]]

    @property
    def suspects(self) -> int:
        """Tasks that wait for all others to end."""
        return len(self._last)

    def take_last(self) -> list[Item]:
        """One suspect; empty where any other task waits, delayed ones too."""
        return [self._last.popleft()] if self._last and not (self.ready or self._delayed) else []

    def clear(self) -> None:
        """Forgets everything: the run was stopped."""
        self._last.clear()
        self._samples.clear()
        self._returned.clear()
        self._delayed.clear()
        self.ready = self.samples_waiting = 0
