"""How much may be unsaved, and who waits until there is room: results can't run away from the disk.

Threads: every method is called with the journal's lock held, `wait` gives it up while it waits; the numbers may be
read at any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

MAX_UNSAVED, MAX_UNSAVED_BYTES = 1000, 64 << 20


class Unsaved:
    """Results that ended and are not on the disk."""

    def __init__(self, lock: threading.Lock) -> None:
        self._room = threading.Condition(lock)
        self._waiting = 0
        self.results = self.bytes = 0

    @property
    def is_filling(self) -> bool:
        """Half of what may be unsaved is."""
        return self.results >= MAX_UNSAVED // 2 or self.bytes >= MAX_UNSAVED_BYTES // 2

    def wait(self, results: int, size: int, is_over: Callable[[], bool]) -> None:
        """Waits until so much has room, or is alone, or nothing is taken any more."""
        while self._is_full(results, size) and not is_over():
            self._waiting += 1
            self._room.wait()
            self._waiting -= 1

    def _is_full(self, results: int, size: int) -> bool:
        return bool(self.results) and (self.results + results > MAX_UNSAVED or self.bytes + size > MAX_UNSAVED_BYTES)

    def add(self, results: int, size: int) -> None:
        """They were put."""
        self.results += results
        self.bytes += size

    def take_off(self, results: int, size: int) -> None:
        """They are saved."""
        self.results -= results
        self.bytes -= size

    def let_in(self) -> None:
        """As many as may find room look again."""
        if self._waiting:
            self._room.notify(min(self._waiting, max(1, MAX_UNSAVED - self.results)))

    def rouse(self) -> None:
        """Nothing is taken any more: all look again."""
        self._room.notify_all()
