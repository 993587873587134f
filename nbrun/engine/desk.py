"""Where those who run tasks lay down what has ended, and from where one of them carries it on for all.

With hundreds of threads and tasks of some milliseconds, each one that took the locks of tracker, sink and engine for
its own result would wait for the others there, and each wait costs two switches of threads, more than the work itself.

An event loop's saver and an executor's dispatcher come alone: what they hand over is carried on at once.

Threads: `hand_over` and `clear` from anybody. `_laid` is a deque whose single operations are atomic. Who gets
`_carrying` without waiting carries all that lies there, and looks again once it has let go: so nothing stays behind. It
is held on purpose while the sink waits at its bound, or writes the file of a sample that ended at once: then others
wait here, instead of laying down ever more.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbrun.engine.engine import Engine
    from nbrun.engine.outcomes import Ended
    from nbrun.engine.queue import SampleWork

#: So much may lie there that nobody waits for: single results, while the sink has room.
MOST_LAID = 64


class Desk:
    """Ended tasks on their way to tracker, sink and engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._laid: deque[Ended] = deque()
        self._carrying = threading.Lock()

    def hand_over(self, ended: Ended) -> None:
        """Takes over what has ended; it may still be on its way after the call. Raises SinkClosedError."""
        self._laid.append(ended)
        must = len(ended.records) > 1 or len(self._laid) > MOST_LAID or self._engine.sink.is_filling
        while self._laid and self._carrying.acquire(must):
            try:
                self._carry()
            finally:
                self._carrying.release()

    def clear(self) -> None:
        """Returns when all that was handed over before is with the sink. Raises SinkClosedError."""
        with self._carrying:
            self._carry()

    def _carry(self) -> None:
        """What lies there now, sample by sample."""
        of: dict[SampleWork, Ended] = {}
        for _ in range(len(self._laid)):
            ended = self._laid.popleft()
            before = of.setdefault(ended.sample, ended)
            if before is not ended:
                before.add(ended)
        engine = self._engine
        for sample, ended in of.items():
            tally = sample.work.tally(ended.records) if any(ended.verdicts) else None
            engine.tracker.record(sample.work.number, ended.verdicts, [kind for _, kind in ended.failed], tally)
            engine.sink.put(sample.work, ended.records)
            engine.ended(sample, len(ended.records), ended.failed)
