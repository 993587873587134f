"""Tasks that ended in errors and can be queued again, as far as their samples are in memory.

Threads: `keep` with the scheduler's lock held; `again` from whoever steers the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbrun.engine.task_queue import SampleWork

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler

#: Samples with errors that are kept in memory, and about how many bytes of them.
KEPT_WITH_ERRORS, KEPT_BYTES = 1000, 64 << 20


class FailedTasks:
    """Those of one engine."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._samples: dict[SampleWork, None] = {}  # those that have ended, the oldest first
        self._bytes = 0  # of these, about

    def keep(self, sample: SampleWork) -> None:
        """All tasks of a sample have ended, some in errors."""
        if sample not in self._samples:
            self._samples[sample] = None
            self._bytes += sample.bytes
        while len(self._samples) > KEPT_WITH_ERRORS or (self._bytes > KEPT_BYTES and len(self._samples) > 1):
            self._forget(next(iter(self._samples)))

    def _forget(self, sample: SampleWork) -> None:
        if sample in self._samples:
            del self._samples[sample]
            self._bytes -= sample.bytes

    def samples(self) -> list[SampleWork]:
        """Those that are kept, and those that are still at work. Called with the scheduler's lock held."""
        return list({*self._samples, *(s for s in self._scheduler.open_samples if s.errors)})

    def again(self, kind: str | None) -> int:
        """Queues them again, those of one kind or all. Returns how many."""
        with self._scheduler.lock:
            samples = self.samples()
        return sum(self._retry(sample, kind) for sample in samples)

    def _retry(self, sample: SampleWork, kind: str | None) -> int:
        scheduler = self._scheduler
        with scheduler.lock:
            again = [e for e in sample.errors if kind is None or e[1] == kind]
            if not again:
                return 0
            sample.errors = [e for e in sample.errors if kind is not None and e[1] != kind]
            self._forget(sample)  # it comes back if any is left when these have ended
            scheduler.open_samples.add(sample)
            sample.left += len(again)
        scheduler.sink.reopen(sample.work, [position for position, _ in again])
        scheduler.tracker.error_again(sample.work.number, [kind for _, kind in again])
        with scheduler.lock:
            scheduler.failure_detector.restart()
        scheduler.give_back([(sample, position) for position, _ in again])
        return len(again)
