"""How far ahead of the workers samples are read: the feeder waits while enough tasks are ready.

Threads: every method is called with the scheduler's lock held; the feeder waits in `wait`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler

#: How many tasks, of how many samples at most, are kept ready (or the pool's prefetch target, if that is more).
READY_TASKS, READY_SAMPLES = 2000, 32


class Backpressure:
    """The samples between the feeder and the workers."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._room = threading.Condition(scheduler.lock)  # the feeder waits here
        self._is_waiting = False

    def wait(self) -> bool:
        """Waits until the next sample may be read. False where no more is wanted."""
        if self._is_full():
            self._is_waiting = True
            while self._is_wanted() and not self._is_low():
                self._room.wait()
            self._is_waiting = False
        return self._is_wanted()

    def look(self) -> None:
        """Tasks were taken."""
        if self._is_waiting and self._is_low():
            self._room.notify()

    def notify_all(self) -> None:
        """The state or the appetite has changed: the feeder looks again."""
        self._room.notify_all()

    def _is_wanted(self) -> bool:
        return self._scheduler.run_state.is_open

    def _is_full(self) -> bool:
        q = self._scheduler.queue
        if q.ready < self._scheduler.pool.prefetch_target:
            return False
        return q.ready >= READY_TASKS or q.samples_waiting >= READY_SAMPLES

    def _is_low(self) -> bool:
        """Half empty: the feeder wakes and fills, instead of waking for each sample."""
        q = self._scheduler.queue
        if 4 * q.ready < 3 * self._scheduler.pool.prefetch_target:
            return True
        return q.ready <= READY_TASKS // 2 and q.samples_waiting <= READY_SAMPLES // 2
