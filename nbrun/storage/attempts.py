"""Attempts that stand in the journal, of tasks that will run again: they must outlive the segment that holds them.

Threads: the journal's thread says where they stand and which tasks have ended; the files threads ask `of`, which works
on a copy.
"""

from __future__ import annotations

from nbrun.storage.book import Book, Fresh
from nbrun.storage.group import Attempted


class OpenAttempts:
    """The latest attempt of each task that has not ended since. False while there is none."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], tuple[int, Attempted]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def stand_in(self, segment: int, attempts: list[Attempted]) -> None:
        """They were saved there."""
        for attempted in attempts:
            book, position, _ = attempted
            self._of[id(book), position] = (segment, attempted)

    def ended(self, book: Book, fresh: list[Fresh]) -> None:
        """These tasks have a result, or an error."""
        if self._of:
            for f in fresh:
                self._of.pop((id(book), f[0]), None)

    def of(self, segment: int) -> list[Attempted]:
        """Those that stand in it."""
        return [attempted for number, attempted in list(self._of.values()) if number == segment]
