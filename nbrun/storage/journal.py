"""The journal: results are appended to segments, one fsync for all that wait (group commit).

Threads: workers call `put` and wait there at the bound; the journal's own thread "nbrun-journal" writes, syncs and
settles the entries in their books; the files thread calls `release`. `_lock` protects the queue and the counters and
is never held over I/O.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from nbrun.errors import NbrunError
from nbrun.storage import files
from nbrun.storage.book import IN_SEGMENT, Book
from nbrun.storage.format import ATTEMPT, CRC_OF_ENTRY_KIND, HEADER, frame, segment_name

MAX_UNSAVED = 1000
MAX_UNSAVED_BYTES = 64 << 20
SEGMENT_BYTES = 64 << 20
#: book, position, entry up to its seq, entry after it, group number, status code, verdict
EntryRecord = tuple[Book, int, bytes, bytes, int, int, str | None]


class JournalClosed(NbrunError):
    """Results can't be taken any more: the run was stopped."""


class Segment:
    """One file of the journal. `live`: entries in it that no sample's file holds yet."""

    def __init__(self, number: int, file: files.AppendFile) -> None:
        self.number, self.file = number, file
        self.live = 0


class Journal:
    """Group commit over segments.

    Args:
        folder: `.nbrun/`.
        next_segment: the number of the first segment of this run; it is made with the first result (F3).
        next_seq: greater than every seq in the directory (F4).
        run_id: what the entries' summaries are counted under.
        on_saved: called by the journal's thread with the books that were touched.
        on_fault: called by the journal's thread when the disk refused; results wait until `mend` is called.
    """

    def __init__(
        self, folder: Path, next_segment: int, next_seq: int, run_id: str,
        on_saved: Callable[[list[Book], int], None], on_fault: Callable[[OSError], None],
    ) -> None:  # fmt: skip
        self._folder, self._run_id = folder, run_id
        self._on_saved, self._on_fault = on_saved, on_fault
        self._lock = threading.Lock()  # protects the queue, the counters and the segments' `live`
        self._work = threading.Condition(self._lock)  # the journal's thread waits here
        self._room = threading.Condition(self._lock)  # workers wait here at the bound
        self._settled = threading.Condition(self._lock)  # flush() waits here
        self._queue: list[list[EntryRecord]] = []
        self._attempts: list[tuple[Book, int, bytes]] = []
        self._waiting = 0
        self._idle = True
        self._closing = self._refusing = self._mended = False
        self.unsaved = self.unsaved_bytes = self.saved = 0
        self.fault: OSError | None = None
        self.segments: dict[int, Segment] = {}
        self._current: Segment | None = None
        self._next_segment, self._seq = next_segment, next_seq - 1
        self._open_attempts: dict[tuple[int, int], tuple[int, Book, bytes]] = {}  # the journal's thread only
        self._thread = threading.Thread(target=self._run, name="nbrun-journal", daemon=True)
        self._thread.start()

    # ---- workers

    def put(self, records: list[EntryRecord]) -> None:
        """Takes results of one book over; waits while too many are unsaved. Raises JournalClosed after refuse()."""
        count = len(records)
        size = sum([len(r[3]) for r in records])
        with self._lock:
            while self.unsaved and (
                self.unsaved + count > MAX_UNSAVED or self.unsaved_bytes + size > MAX_UNSAVED_BYTES
            ) and not self._refusing:  # fmt: skip
                self._waiting += 1
                self._room.wait()
                self._waiting -= 1
            if self._refusing:
                raise JournalClosed("the run was stopped: this result is discarded")
            self._queue.append(records)
            self.unsaved += count
            self.unsaved_bytes += size
            records[0][0].unsaved += count
            if self._idle:
                self._idle = False
                self._work.notify()

    def put_attempt(self, book: Book, position: int, body: bytes) -> None:
        """Takes an attempt record over; it is saved with the next results."""
        with self._lock:
            self._attempts.append((book, position, body))
            if self._idle:
                self._idle = False
                self._work.notify()

    # ---- control

    def mend(self) -> None:
        """Try again after a fault."""
        with self._lock:
            self._mended = True
            self._work.notify()

    def refuse(self) -> None:
        """From now on put() raises: late results of abandoned tasks are discarded."""
        with self._lock:
            self._refusing = True
            self._room.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until all that was put is saved. False on a time-out or a standing fault."""
        with self._lock:
            return self._settled.wait_for(
                lambda: self.fault is not None or not (self.unsaved or self._attempts or not self._idle), timeout_s
            ) and self.fault is None

    def close(self, timeout_s: float | None = None) -> bool:
        """Saves what waits and ends the thread. False where that did not work in time."""
        done = self.flush(timeout_s)
        with self._lock:
            self._closing = self._refusing = True
            self._work.notify()
            self._room.notify_all()
        self._thread.join(timeout_s)
        for segment in self.segments.values():
            segment.file.close()
        return done and not self._thread.is_alive()

    # ---- the files thread

    def read(self, number: int, offset: int, length: int) -> bytes:
        """An entry's bytes."""
        return files.read_at(self.segments[number].file.fd, offset, length)

    def release(self, freed: dict[int, int]) -> list[Segment]:
        """Entries now stand in files. Returns the segments that nobody needs any more."""
        with self._lock:
            for number, count in freed.items():
                self.segments[number].live -= count
            return [s for s in self.segments.values() if s.live <= 0 and s is not self._current]

    def retire(self, segments: list[Segment]) -> None:
        """Removes segments whose entries stand in files; the results folder was synced before (F6)."""
        for segment in segments:
            again = [(b, p, body) for (_, p), (n, b, body) in list(self._open_attempts.items()) if n == segment.number]
            if again:
                for book, position, body in again:
                    self.put_attempt(book, position, body)
                if not self.flush():
                    return
            with self._lock:
                self.segments.pop(segment.number, None)
            segment.file.close()
            files.remove(segment.file.path)

    def adopt(self, segment: Segment) -> None:
        """An old segment, found when the directory was opened, whose entries aren't all in files yet."""
        with self._lock:
            self.segments[segment.number] = segment

    def end_segment(self) -> None:
        """The current segment takes no more records, so that it can be retired."""
        with self._lock:
            self._current = None

    @property
    def has_open_attempts(self) -> bool:
        """True while a task waits for another try, whose attempts must survive."""
        return bool(self._open_attempts)

    # ---- the journal's thread

    def _run(self) -> None:
        while True:
            with self._lock:
                while not (self._queue or self._attempts):
                    self._idle = True
                    self._settled.notify_all()
                    if self._closing:
                        return
                    self._work.wait()
                self._idle = False
                batches, self._queue = self._queue, []
                attempts, self._attempts = self._attempts, []
            while True:
                try:
                    self._commit(batches, attempts)
                    break
                except OSError as e:
                    if not self._wait_until_mended(e):
                        return

    def _wait_until_mended(self, fault: OSError) -> bool:
        self._on_fault(fault)
        with self._lock:
            self.fault = fault
            self._current = None  # F8
            self._settled.notify_all()
            while not self._mended and not self._closing:
                self._work.wait()
            if self._closing and not self._mended:
                return False
            self._mended, self.fault = False, None
        return True

    def _commit(self, batches: list[list[EntryRecord]], attempts: list[tuple[Book, int, bytes]]) -> None:
        segment, is_new = self._segment()
        number, at = segment.number, segment.file.size
        lines: list[bytes] = []
        add = lines.append
        placed: list[tuple[Any, ...]] = []
        seq = self._seq
        for records in batches:
            for book, position, head, tail, group, code, verdict in records:
                if book.header_in != number:
                    header = frame(HEADER, book.header())
                    add(header)
                    at += len(header)
                    book.header_in = number
                seq += 1
                body = b"%b%d%b" % (head, seq, tail)
                whose = book.whose[group]
                add(b"%08x\te\t" % crc32(whose, crc32(body, CRC_OF_ENTRY_KIND)))
                add(body)
                add(whose)
                add(b"\n")
                length = len(body)
                placed.append((book, position, seq, code, at + 11, length, verdict, body))
                at += length + len(whose) + 12
        for book, position, body in attempts:
            if book.header_in != number:
                add(frame(HEADER, book.header()))
                book.header_in = number
            add(frame(ATTEMPT, body, book.whose[book.group_number(position)][1:]))
        segment.file.append(b"".join(lines))
        segment.file.sync()
        if is_new:
            files.sync_folder(self._folder)
        self._seq = seq
        for book, position, body in attempts:
            self._open_attempts[id(book), position] = (number, book, body)
        self._settle(segment, batches, placed)

    def _segment(self) -> tuple[Segment, bool]:
        """The segment to append to, and whether its name isn't durable yet."""
        current = self._current
        if current is not None and current.file.size < SEGMENT_BYTES:
            return current, False
        number = self._next_segment
        self._next_segment += 1
        segment = Segment(number, files.AppendFile(self._folder / segment_name(number), new=True))
        with self._lock:
            self.segments[number] = self._current = segment
        return segment, True

    def _settle(self, segment: Segment, batches: list[list[EntryRecord]], placed: list[tuple[Any, ...]]) -> None:
        where = segment.number + IN_SEGMENT
        freed: dict[int, int] = {}
        counts: dict[Book, int] = {}
        book: Book | None = None
        makers: dict[str | None, int] = {}
        try:
            for b, position, seq, code, offset, length, verdict, body in placed:
                if b is not book:
                    if book is not None:
                        book.lock.release()
                    book = b
                    b.lock.acquire()
                    makers = {}
                made = makers.get(verdict)
                if made is None:
                    made = makers[verdict] = b.maker(verdict, self._run_id, b.sample.context)
                old = b.settle(position, seq, code, where, offset, length, made)
                if old >= 0:
                    freed[old] = freed.get(old, 0) + 1
                b.keep(position, body)
                counts[b] = counts.get(b, 0) + 1
                if self._open_attempts:
                    self._open_attempts.pop((id(b), position), None)
        finally:
            if book is not None:
                book.lock.release()
        size = sum([len(r[3]) for records in batches for r in records])
        with self._lock:
            segment.live += len(placed)
            for number, count in freed.items():
                self.segments[number].live -= count
            for b, count in counts.items():
                b.unsaved -= count
            self.unsaved -= len(placed)
            self.unsaved_bytes -= size
            self.saved += len(placed)
            if self._waiting:
                self._room.notify(min(self._waiting, max(1, MAX_UNSAVED - self.unsaved)))
        self._on_saved(list(counts), len(placed))
