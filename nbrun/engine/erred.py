"""Tasks that ended in errors and can be queued again, as far as their samples are in memory.

Threads: `keep` with the engine's lock held; `again` from whoever steers the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbrun.engine.queue import SampleWork

if TYPE_CHECKING:
    from nbrun.engine.engine import Engine

#: Samples with errors that are kept in memory.
KEPT_WITH_ERRORS = 1000


class ErredTasks:
    """Those of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._samples: dict[SampleWork, None] = {}  # those that have ended, the oldest first

    def keep(self, sample: SampleWork) -> None:
        """All tasks of a sample have ended, some in errors."""
        self._samples[sample] = None
        if len(self._samples) > KEPT_WITH_ERRORS:
            del self._samples[next(iter(self._samples))]

    def samples(self) -> list[SampleWork]:
        """Those that are kept, and those that are still at work. Called with the engine's lock held."""
        return list({*self._samples, *(s for s in self._engine.open_samples if s.errors)})

    def again(self, kind: str | None) -> int:
        """Queues them again, those of one kind or all. Returns how many."""
        with self._engine.lock:
            samples = self.samples()
        return sum(self._retry(sample, kind) for sample in samples)

    def _retry(self, sample: SampleWork, kind: str | None) -> int:
        engine = self._engine
        with engine.lock:
            again = [e for e in sample.errors if kind is None or e[1] == kind]
            if not again:
                return 0
            sample.errors = [e for e in sample.errors if kind is not None and e[1] != kind]
            self._samples.pop(sample, None)  # it comes back if any is left when these have ended
            engine.open_samples.add(sample)
            sample.left += len(again)
        engine.sink.reopen(sample.work)
        engine.board.error_again(sample.work.number, [kind for _, kind in again])
        with engine.lock:
            engine.streak.restart()
        engine.give_back([(sample, position) for position, _ in again])
        return len(again)
