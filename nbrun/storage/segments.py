"""The journal's files: which one takes the next records, and which still hold what no sample's file holds.

Threads: the journal's thread asks for the `current` one and says what was `settled`; the files threads `hold` and
`release`. `_lock` protects the list and the counts and is never held over I/O.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from nbrun.results.format import segment_name
from nbrun.storage import files

SEGMENT_BYTES = 64 << 20


class Segment:
    """One file of the journal. `live`: entries in it that no sample's file holds yet."""

    def __init__(self, number: int, file: files.AppendFile) -> None:
        self.number, self.file = number, file
        self.live = 0
        self.has_durable_name = False


class Segments:
    """The segments that this run has written.

    Args:
        folder: `.nbrun/`.
        next_number: the number of the first one; it is made with the first result (F3).
    """

    def __init__(self, folder: Path, next_number: int) -> None:
        self._folder, self._next = folder, next_number
        self._lock = threading.Lock()
        self._all: dict[int, Segment] = {}
        self._current: Segment | None = None
        self._strays: list[Path] = []  # paths of segments that could not be made, as far as is known

    # ---- the journal's thread

    def current(self) -> Segment:
        """The one to append to. Raises OSError where a new one can't be made."""
        current = self._current
        if current is not None and current.file.size < SEGMENT_BYTES:
            return current
        number = self._next
        self._next += 1
        path = self._folder / segment_name(number)
        try:
            segment = Segment(number, files.AppendFile(path, new=True))
        except FileExistsError:
            raise
        except OSError:
            self._strays.append(path)  # it may have been made all the same
            raise
        with self._lock:
            self._all[number] = self._current = segment
        return segment

    def sync(self, segment: Segment) -> None:
        """Returns when all that was appended is on the disk. Raises OSError."""
        segment.file.sync()
        if not segment.has_durable_name:
            files.sync_folder(self._folder)
            segment.has_durable_name = True

    def settled(self, segment: Segment, count: int, freed: dict[int, int]) -> None:
        """So many entries more stand in it; so many of each segment no longer count."""
        with self._lock:
            segment.live += count
            for number, n in freed.items():
                self._all[number].live -= n

    def end_current(self) -> None:
        """It takes no more records: after a failed write (F8), or so that it can be removed."""
        with self._lock:
            self._current = None

    # ---- the files threads

    def hold(self) -> Callable[[int, int, int], bytes]:
        """A reader of entries (segment, offset, length) that keeps the segments of this moment open.

        While a file is written, an entry of it may be replaced and its segment removed: its bytes must stay, and its
        descriptor must not become another file's.
        """
        with self._lock:
            held = dict(self._all)
        return lambda number, offset, length: files.read_at(held[number].file.fd, offset, length)

    def release(self, freed: dict[int, int]) -> list[Segment]:
        """Entries now stand in files. Returns the segments that nobody needs any more."""
        with self._lock:
            for number, count in freed.items():
                self._all[number].live -= count
            return [s for s in self._all.values() if s.live <= 0 and s is not self._current]

    def remove(self, segment: Segment) -> None:
        """Its entries stand in files, durably. Where the disk refuses, it is tried again later: raises OSError."""
        files.remove(segment.file.path)
        with self._lock:
            self._all.pop(segment.number, None)  # it is closed when nobody holds it any more

    def remove_strays(self) -> None:
        """At a clean end: removes empty segments whose making was reported as failed. Raises OSError."""
        while self._strays:
            files.remove(self._strays[-1])
            self._strays.pop()

    def __contains__(self, segment: Segment) -> bool:
        return segment.number in self._all

    def close(self) -> None:
        """Closes their files."""
        for segment in self._all.values():
            segment.file.close()
