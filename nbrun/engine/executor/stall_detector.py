"""Futures may stay pending for ever (MPI, a closed Ray): when nothing settles for long, the run says so.

Threads: the dispatcher's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nbrun.formatting import duration_text

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler

#: After so long without an answer, or three times the longest task, the run says so.
SILENT_S = 60.0


class StallDetector:
    """How long one run's executor has said nothing."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._heard = time.monotonic()
        self._said = ""

    def begin(self) -> None:
        """From now on an answer is waited for."""
        self._heard = time.monotonic()

    def end(self) -> None:
        """An answer has come."""
        self._heard = time.monotonic()
        if self._said:
            self._scheduler.say("", self._said)
            self._said = ""

    def mind(self, calls: int, longest_s: float) -> None:
        """Says it once a silence, where calls are out."""
        silent_s = time.monotonic() - self._heard
        if self._said or not calls or silent_s < max(SILENT_S, 3 * longest_s):
            return
        self._said = (
            f"Nothing has come back from the executor for {duration_text(silent_s)}; {calls} calls are out. "
            "That is as it should be where tasks take so long. If its workers are gone: run.stop(drain=False), then "
            "start again with a new executor; what is saved stays, and only what is missing runs."
        )
        self._scheduler.say(self._said)
