"""The journal: results are appended to segments, one fsync for all that wait (group commit).

A sample whose results are handed over all at once goes straight to its file instead (see whole.py).

Threads: workers call `put`, wait there at the bound, and make the file of a whole sample; the journal's own thread
"nbrun-journal" writes, syncs and settles the entries in their books; the files threads call `retire`. `_lock` protects
the queue and the counters and is never held over I/O.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from nbrun.model import SinkClosedError
from nbrun.storage.attempts import OpenAttempts
from nbrun.storage.book import Book
from nbrun.storage.bound import Unsaved
from nbrun.storage.entry import EntryRecord
from nbrun.storage.group import Attempted, Batch, Placed, lay_out
from nbrun.storage.segments import Segment, Segments
from nbrun.storage.whole import WholeFile, WholeFiles
from nbrun.threads import start_daemon

#: Group commit: a lone result is saved at once; after a commit the next one waits so long, or for so many results.
GROUP_S, GROUP_RESULTS = 0.006, 400


class Journal:
    """Group commit over segments.

    Args:
        folder: `.nbrun/`.
        next_segment: the number of the first segment of this run; it is made with the first result (F3).
        next_seq: greater than every seq in the directory (F4).
        on_saved: called by the journal's thread with the books that were touched.
        on_fault: called by the journal's thread when the disk refused (an OSError): results wait until `mend` is
            called; or when it can't go on at all (any other exception).
        check_place: called by the journal's thread before each commit; raises OSError where the directory was moved.
    """

    def __init__(
        self, folder: Path, next_segment: int, next_seq: int,
        on_saved: Callable[[list[Book], int], None], on_fault: Callable[[Exception], None],
        check_place: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._whole = WholeFiles(folder.parent)
        self._on_saved, self._on_fault, self._check_place = on_saved, on_fault, check_place
        self._lock = threading.Lock()  # protects the queue and the counters
        self._work = threading.Condition(self._lock)  # the journal's thread waits here
        self._settled = threading.Condition(self._lock)  # flush() waits here
        self._queue: list[Batch] = []
        self._attempts: list[Attempted] = []
        self._flushing = 0
        self._idle, self._gathering = True, False
        self._closing = self._refusing = self._mended = self._dead = False
        self.unsaved = Unsaved(self._lock)  # workers wait there
        self.saved = self.saved_bytes = 0
        self.fault: Exception | None = None
        self.segments = Segments(folder, next_segment)
        self._seq = next_seq - 1
        self.open_attempts = OpenAttempts()
        self._thread = start_daemon(self._run, "nbrun-journal")

    # ---- workers

    def put(self, book: Book, records: list[EntryRecord]) -> None:
        """Takes results of one book over; waits while too many are unsaved. Raises SinkClosedError after refuse()."""
        count = len(records)
        size = sum([len(r[3]) for r in records])
        is_whole = self._whole.take(book, records, size)
        with self._lock:
            self.unsaved.wait(count, size, lambda: self._refusing)
            if self._refusing:
                raise SinkClosedError("the run was stopped: this result is discarded")
            self.unsaved.add(count, size)
            book.unsaved += count
            if not is_whole:
                self._enqueue((book, records, size, None))
                return
            seq = self._give_seqs(count)
        file: WholeFile | None = None
        try:
            file = self._whole.make(book, records, seq)
        finally:  # whatever happens: somebody may wait until all that was put is saved
            with self._lock:
                self._enqueue((book, records, size, file))

    def _enqueue(self, batch: Batch) -> None:
        """Called with the lock held."""
        self._queue.append(batch)
        if self._idle or (self._gathering and self.unsaved.results >= GROUP_RESULTS):
            self._idle = self._gathering = False
            self._work.notify()

    def _give_seqs(self, count: int) -> int:
        """So many are taken; returns the last one given before. Called with the lock held."""
        before = self._seq
        self._seq += count
        return before

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
            if self.fault is not None and not self._dead:
                self._mended, self.fault = True, None
                self._work.notify()

    def refuse(self) -> None:
        """From now on put() raises: late results of abandoned tasks are discarded."""
        with self._lock:
            self._refusing = True
            self.unsaved.rouse()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until all that was put is saved. False on a time-out or a standing fault."""
        with self._lock:
            self._flushing += 1
            self._work.notify()
            try:
                over = self._settled.wait_for(lambda: self.fault is not None or self._is_settled, timeout_s)
                return over and self.fault is None
            finally:
                self._flushing -= 1

    @property
    def _is_settled(self) -> bool:
        """Nothing waits, and nothing is being saved. Asked with the lock held."""
        return self._idle and not self._attempts and not self.unsaved.results

    def close(self, timeout_s: float | None = None) -> bool:
        """Saves what waits and ends the thread. False where that did not work in time."""
        done = self.flush(timeout_s)
        with self._lock:
            self._closing = self._refusing = True
            self._work.notify()
            self.unsaved.rouse()
        self._thread.join(timeout_s)
        self.segments.close()
        return done and not self._thread.is_alive()

    # ---- the files thread

    def retire(self, segments: list[Segment]) -> None:
        """Removes segments whose entries stand in files; the results folder was synced before (F6)."""
        for segment in segments:
            again = self.open_attempts.of(segment.number)
            for book, position, body in again:
                self.put_attempt(book, position, body)
            if again and not self.flush():
                return
            self.segments.remove(segment)

    # ---- the journal's thread

    def _run(self) -> None:
        try:
            self._save_what_comes()
        except Exception as e:  # nobody may wait for a thread that is no more
            with self._lock:
                self.fault, self._refusing, self._dead = e, True, True
                self.unsaved.rouse()
                self._settled.notify_all()
            self._on_fault(e)

    def _save_what_comes(self) -> None:
        committed = 0.0
        while True:
            with self._lock:
                while not (self._queue or self._attempts):
                    self._idle = True
                    self._settled.notify_all()
                    if self._closing:
                        return
                    self._work.wait()
                self._idle = False
                self._gather(committed)
                batches = self._take()
                attempts, self._attempts = self._attempts, []
            while True:
                try:
                    self._commit(batches, attempts)
                    committed = time.monotonic()
                    break
                except OSError as e:
                    if not self._wait_until_mended(e):
                        return

    def _take(self) -> list[Batch]:
        """What one commit saves: a part of the bound, so that workers fill the rest meanwhile."""
        count = taken = 0
        for _, records, _, _ in self._queue:
            taken += 1
            count += len(records)
            if count >= GROUP_RESULTS:
                break
        batches, self._queue = self._queue[:taken], self._queue[taken:]
        return batches

    def _gather(self, committed: float) -> None:
        """Lets results come together where they come thick. Called with the lock held, which it releases to wait."""
        end = committed + GROUP_S
        while self.unsaved.results < GROUP_RESULTS and not self._closing and not self._flushing:
            left = end - time.monotonic()
            if left <= 0:
                break
            self._gathering = True
            self._work.wait(left)
        self._gathering = False

    def _wait_until_mended(self, fault: OSError) -> bool:
        self.segments.end_current()  # F8
        with self._lock:
            self.fault, self._mended = fault, False
            self._settled.notify_all()
        self._on_fault(fault)
        with self._lock:
            while not self._mended and not self._closing:
                self._work.wait()
            if self._closing and not self._mended:
                return False
            self._mended = False
        return True

    def _commit(self, batches: list[Batch], attempts: list[Attempted]) -> None:
        whole = [file for *_, file in batches if file is not None]
        others = [batch for batch in batches if batch[3] is None] if whole else batches
        segment: Segment | None = None
        placed: list[Placed] = []
        try:
            self._check_place()
            if others or attempts:
                segment = self.segments.current()
                with self._lock:
                    seq = self._give_seqs(sum([len(records) for _, records, _, _ in others]))
                data, placed = lay_out(others, attempts, segment.number, segment.file.size, seq)
                segment.file.append(data)
            with self._lock:
                self.unsaved.let_in()  # now, not before: who computes would keep this thread from getting so far
            if segment is not None:
                self.segments.sync(segment)
            self._whole.put(whole)
        except BaseException:
            for file in whole:
                file.drop()
            batches[:] = [(book, records, size, None) for book, records, size, _ in batches]  # next through the journal
            raise
        for file in whole:
            file.settle()
        if segment is not None:
            self.open_attempts.stand_in(segment.number, attempts)
            self._settle(segment, placed)
        self._tell_saved(batches)

    def _settle(self, segment: Segment, placed: list[Placed]) -> None:
        """Entries stand in the journal."""
        freed: dict[int, int] = {}
        for book, fresh, size in placed:
            with book.lock:
                replaced = book.settle(fresh, size)
            for number, count in replaced.items():
                freed[number] = freed.get(number, 0) + count
            self.open_attempts.ended(book, fresh)
        self.segments.settled(segment, sum([len(fresh) for _, fresh, _ in placed]), freed)

    def _tell_saved(self, batches: list[Batch]) -> None:
        count = sum([len(records) for _, records, _, _ in batches])
        size = sum([size for _, _, size, _ in batches])
        with self._lock:
            for book, records, _, _ in batches:
                book.unsaved -= len(records)
            self.unsaved.take_off(count, size)
            self.saved_bytes += size
            self.saved += count
            if self.unsaved.results < GROUP_RESULTS:
                self.unsaved.let_in()
        self._on_saved(list({book: None for book, *_ in batches}), count)
