"""A line that says how far reading is, once it takes longer than 2 s and somebody may be looking."""

from __future__ import annotations

import sys
import threading
import time

from nbrun.formatting import bytes_text

AFTER_S, EVERY_S = 2.0, 0.2


class ProgressLine:
    """Counts bytes that were read and tells of them on stderr, in a terminal or a notebook.

    Threads: `read` from any; `_lock` protects the counter and the time of the last line.
    """

    def __init__(self) -> None:
        self.total = 0
        self._read = 0
        self._began = time.monotonic()
        self._told = 0.0
        self._lock = threading.Lock()

    def read(self, count: int) -> None:
        """So many more bytes were read."""
        now = time.monotonic()
        with self._lock:
            self._read += count
            due = now - self._began > AFTER_S and now - self._told > EVERY_S and self._somebody_looks()
            if due:
                self._told = now
            done, total = self._read, max(self.total, 1)
        if due:
            share = min(1.0, done / total)
            bar = "█" * int(share * 20) + "░" * (20 - int(share * 20))
            print(
                f"\rnbrun reads results {bar} {share:4.0%} of {bytes_text(total)}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        """Wipes the line."""
        if self._told:
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr, flush=True)
            self._told = 0.0

    @staticmethod
    def _somebody_looks() -> bool:
        return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", lambda: False)())
