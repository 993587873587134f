"""A flat-combining queue: workers append completed tasks, and whichever gets the lock forwards all of them.

With hundreds of threads and tasks of some milliseconds, each one that took the locks of tracker, sink and engine for
its own result would wait for the others there, and each wait costs two switches of threads, more than the work itself.

An event loop's saver and an executor's dispatcher come alone: what they hand over is carried on at once.

Threads: `complete` and `clear` from anybody. `_completed` is a deque whose single operations are atomic. Who gets
`_forwarding` without waiting carries all that lies there, and looks again once it has let go: so nothing stays behind.
It is held on purpose while the sink waits at its bound, or writes the file of a sample that ended at once: then others
wait here, instead of laying down ever more.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbrun.engine.completions import CompletedTasks
    from nbrun.engine.scheduler import Scheduler
    from nbrun.engine.task_queue import SampleWork

#: So much may lie there that nobody waits for: single results, while the sink has room.
MAX_QUEUED = 64


class CompletionQueue:
    """Ended tasks on their way to tracker, sink and engine."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._completed: deque[CompletedTasks] = deque()
        self._forwarding = threading.Lock()

    def complete(self, completed: CompletedTasks) -> None:
        """Takes over what has ended; it may still be on its way after the call. Raises SinkClosedError."""
        self._completed.append(completed)
        must = len(completed.records) > 1 or len(self._completed) > MAX_QUEUED or self._scheduler.sink.is_filling
        while self._completed and self._forwarding.acquire(must):
            try:
                self._forward()
            finally:
                self._forwarding.release()

    def clear(self) -> None:
        """Returns when all that was handed over before is with the sink. Raises SinkClosedError."""
        with self._forwarding:
            self._forward()

    def _forward(self) -> None:
        """What lies there now, sample by sample."""
        of: dict[SampleWork, CompletedTasks] = {}
        for _ in range(len(self._completed)):
            completed = self._completed.popleft()
            before = of.setdefault(completed.sample, completed)
            if before is not completed:
                before.add(completed)
        scheduler = self._scheduler
        for sample, completed in of.items():
            tally = sample.work.tally(completed.records) if any(completed.verdicts) else None
            scheduler.tracker.record(
                sample.work.number, completed.verdicts, [kind for _, kind in completed.failed], tally
            )
            scheduler.sink.put(sample.work, completed.records)
            scheduler.ended(sample, len(completed.records), completed.failed)
