"""The journal: appends results to segments, with one fsync for all queued results (group commit).

`Journal` queues results and saves them; `Segments` are its files; `encode_batch` makes the bytes of a commit;
`WriteBackpressure` bounds the unsaved results; `OpenAttempts` keeps the attempts whose tasks will run again. A sample
whose results all arrive in one `put` is written to its file without a segment (`DirectWriter`).

Threads: workers call `put`, wait in it while too much is unsaved, and make the files of direct writes. The thread
"nbrun-journal" writes, syncs and acknowledges the entries in their samples' states. The compactor's threads call
`delete_segments`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from nbrun.model import SinkClosedError
from nbrun.results import plain_files
from nbrun.results.format import ATTEMPT, CRC_HEX, CRC_OF_ENTRY_KIND, FOLDER, HEADER, frame, segment_name, temporary
from nbrun.results.sample_file import IN_SEGMENT
from nbrun.storage import files
from nbrun.storage.entry import EntryRecord, bodies, lay_out_results, pieces
from nbrun.storage.sample_state import DONE, SampleState, SavedEntry
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: The most bytes that may be unsaved. A result that is larger is accepted when nothing else is unsaved.
MAX_UNSAVED_BYTES = 64 << 20
#: The most bytes of a direct write.
DIRECT_BYTES = 4 << 20
#: How many commits go through the journal after a slow one: the first number, twice as many each time that the disk is
#: still slow after them, and at most the second. A disk that was slow once isn't spared for long.
FIRST_PAUSE, LONGEST_PAUSE = 10, 100
_BEFORE_BODY = CRC_HEX + 3  # bytes of a record before its body: the checksum, a tab, the kind, a tab


class Batch(NamedTuple):
    """Results of one sample that were passed to `put` in one call.

    Attributes:
        size: of the records, in bytes.
        file: the sample's file, where it is written directly.
    """

    state: SampleState
    records: list[EntryRecord]
    size: int
    file: DirectFile | None


class OpenAttempt(NamedTuple):
    """An attempt that will be followed by another; `body` is that of its record."""

    state: SampleState
    position: int
    body: bytes


class PlacedBatch(NamedTuple):
    """The entries of a batch and their places in a segment; `size` is what they take there, in bytes."""

    state: SampleState
    entries: list[SavedEntry]
    size: int


class Journal:
    """Group commit over segments.

    Args:
        folder: `.nbrun/`.
        next_segment: the number of the first segment of this run; it is made with the first result (F3).
        next_seq: greater than every seq in the directory (F4).
        on_saved: called by the journal's thread with the samples that have new saved results, and the results' number.
        on_fault: called by the journal's thread when a write failed (an OSError; results then wait until
            `retry_after_fault` is called), or when the thread can't go on at all (any other exception).
        check_place: called by the journal's thread before each commit; raises OSError if the directory was moved.
    """

    def __init__(
        self,
        folder: Path,
        next_segment: int,
        next_seq: int,
        on_saved: Callable[[list[SampleState], int], None],
        on_fault: Callable[[Exception], None],
        check_place: Callable[[], None],
    ) -> None:
        self._direct = DirectWriter(folder.parent)
        self._on_saved, self._on_fault, self._check_place = on_saved, on_fault, check_place
        self._lock = threading.Lock()  # protects the queues, the flags and the counters; never held over I/O
        self._work = threading.Condition(self._lock)  # the journal's thread waits here
        self._flushed = threading.Condition(self._lock)  # flush() waits here
        self._queue: list[Batch] = []
        self._attempts: list[OpenAttempt] = []
        self._flushing = 0  # calls of flush() that wait
        self._idle, self._gathering = True, False
        self._closing = self._is_intake_closed = self._is_retrying = self._dead = self._has_ended = False
        self.backpressure = WriteBackpressure(self._lock)  # workers wait here
        self.saved = self.saved_bytes = 0
        self.fault: Exception | None = None
        self.segments = Segments(folder, next_segment)
        self._seq = next_seq - 1
        self.open_attempts = OpenAttempts()
        self.thread = start_daemon(self._run, "nbrun-journal")

    # ---- workers

    def put(self, state: SampleState, records: list[EntryRecord]) -> None:
        """Queue results of one sample; wait while too many are unsaved. Raise SinkClosedError after close_intake()."""
        count = len(records)
        size = sum([len(r[3]) for r in records])
        is_direct = self._direct.accepts(state, records, size)
        with self._lock:
            self.backpressure.wait(count, size, lambda: self._is_intake_closed)
            if self._is_intake_closed:
                raise SinkClosedError("the run was stopped: this result is discarded")
            self.backpressure.add(count, size)
            state.unsaved += count
            if not is_direct:
                self._enqueue(Batch(state, records, size, None))
                return
            seq = self._give_seqs(count)
        file: DirectFile | None = None
        try:
            file = self._direct.make(state, records, seq)
        finally:  # also after an error: flush() waits until everything that was put is saved
            with self._lock:
                is_late = self._has_ended
                self._enqueue(Batch(state, records, size, None if is_late else file))
            if is_late and file is not None:
                file.drop()

    def _enqueue(self, batch: Batch) -> None:
        """Queue a batch, and wake the journal's thread if it should save now. The caller holds the lock."""
        self._queue.append(batch)
        if self._idle or (self._gathering and self.backpressure.results >= TUNING.group_results):
            self._idle = self._gathering = False
            self._work.notify()

    def _give_seqs(self, count: int) -> int:
        """Take the next `count` seqs. Return the last one that was taken before. The caller holds the lock."""
        before = self._seq
        self._seq += count
        return before

    def put_attempt(self, state: SampleState, position: int, body: bytes) -> None:
        """Queue an attempt record; it is saved with the next results."""
        with self._lock:
            self._attempts.append(OpenAttempt(state, position, body))
            if self._idle:
                self._idle = False
                self._work.notify()

    # ---- control

    def retry_after_fault(self) -> None:
        """Retry the commit that failed, after a fault."""
        with self._lock:
            if self.fault is not None and not self._dead:
                self._is_retrying, self.fault = True, None
                self._work.notify()

    def lift_bound(self) -> None:
        """Let put() wait no longer: the run was stopped after a fault, and only the tasks that run now put results."""
        with self._lock:
            self.backpressure.is_lifted = True
            self.backpressure.notify_all()

    def close_intake(self) -> None:
        """Let put() raise from now on, so that late results of abandoned tasks are discarded."""
        with self._lock:
            self._is_intake_closed = True
            self.backpressure.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that was put is saved. Return False after a time-out, or while there is a fault."""
        with self._lock:
            self._flushing += 1
            self._work.notify()
            try:
                over = self._flushed.wait_for(lambda: self.fault is not None or self._is_flushed, timeout_s)
                return over and self.fault is None
            finally:
                self._flushing -= 1

    @property
    def _is_flushed(self) -> bool:
        """True while nothing is queued and nothing is being saved. The caller holds the lock."""
        return self._idle and not self._attempts and not self.backpressure.results

    def close(self, timeout_s: float | None = None) -> bool:
        """Save what is queued and end the thread. Return False if that did not succeed in time."""
        done = self.flush(timeout_s)
        with self._lock:
            self._closing = self._is_intake_closed = True
            self._work.notify()
            self.backpressure.notify_all()
        self.thread.join(timeout_s)
        if self.thread.is_alive():
            return False
        self.segments.close()
        return done

    # ---- the files thread

    def delete_segments(self, segments: list[Segment]) -> None:
        """Delete segments whose entries are in files. The caller has synced the results folder (F6)."""
        for segment in segments:
            again = self.open_attempts.of(segment.number)
            for attempt in again:
                self.put_attempt(*attempt)
            if again and not self.flush():
                return
            self.segments.remove(segment)

    # ---- the journal's thread

    def _run(self) -> None:
        try:
            self._save_until_closed()
        except Exception as e:  # this thread ends: no other may go on waiting for it
            with self._lock:
                self.fault, self._is_intake_closed, self._dead = e, True, True
                self.backpressure.notify_all()
                self._flushed.notify_all()
            self._on_fault(e)
        finally:
            self._drop_queued()

    def _drop_queued(self) -> None:
        """Drop the files of results that are not saved, when the thread ends."""
        with self._lock:
            self._has_ended = True
            batches, self._queue = self._queue, [batch._replace(file=None) for batch in self._queue]
        for batch in batches:
            if batch.file is not None:
                batch.file.drop()

    def _save_until_closed(self) -> None:
        committed = 0.0
        while True:
            with self._lock:
                if not self._wait_for_work():
                    return
                self._gather(committed)
                batches = self._take()
                attempts, self._attempts = self._attempts, []
            if not self._save(batches, attempts):
                return
            committed = time.monotonic()

    def _wait_for_work(self) -> bool:
        """Wait until something is queued. Return False when the journal is closed. The caller holds the lock."""
        while not (self._queue or self._attempts):
            self._idle = True
            self._flushed.notify_all()
            if self._closing:
                return False
            self._work.wait()
        self._idle = False
        return True

    def _save(self, batches: list[Batch], attempts: list[OpenAttempt]) -> bool:
        """Commit, and after each fault again once it may be retried. Return False where the journal is closed first."""
        while True:
            try:
                self._commit(batches, attempts)
                return True
            except OSError as e:
                if not self._wait_until_is_retrying(e):
                    return False
                batches = [batch._replace(file=None) for batch in batches]

    def _take(self) -> list[Batch]:
        """Take the batches for one commit: part of what may be unsaved, so that workers can add more meanwhile.

        The caller holds the lock.
        """
        count = taken = 0
        enough = TUNING.group_results
        for batch in self._queue:
            taken += 1
            count += len(batch.records)
            if count >= enough:
                break
        batches, self._queue = self._queue[:taken], self._queue[taken:]
        return batches

    def _gather(self, committed: float) -> None:
        """Wait for more results, shortly after a commit. The caller holds the lock, which is released while waiting."""
        end = committed + TUNING.group_s
        while self.backpressure.results < TUNING.group_results and not self._closing and not self._flushing:
            left = end - time.monotonic()
            if left <= 0:
                break
            self._gathering = True
            self._work.wait(left)
        self._gathering = False

    def _wait_until_is_retrying(self, fault: OSError) -> bool:
        self.segments.end_current()  # F8
        with self._lock:
            self.fault, self._is_retrying = fault, False
            self._flushed.notify_all()
        self._on_fault(fault)
        with self._lock:
            while not self._is_retrying and not self._closing:
                self._work.wait()
            if self._closing and not self._is_retrying:
                return False
            self._is_retrying = False
        return True

    def _commit(self, batches: list[Batch], attempts: list[OpenAttempt]) -> None:
        """Save these batches and attempts.

        After an error the files of direct writes are dropped, and the caller retries without them. Where the name of
        one was taken, the next commit appends its results to the journal.
        """
        made = [batch.file for batch in batches if batch.file is not None]
        try:
            segment, placed, taken = self._make_durable(batches, attempts, made)
        except BaseException:
            for file in made:
                file.drop()
            raise
        saved = [batch for batch in batches if batch.file not in taken]
        for batch in saved:
            if batch.file is not None:
                batch.file.acknowledge()
        if segment is not None:
            self.open_attempts.record(segment.number, attempts)
            self._acknowledge(segment, placed)
        if taken:
            with self._lock:
                self._queue[:0] = [batch._replace(file=None) for batch in batches if batch.file in taken]
        self._report_saved(saved)

    def _make_durable(
        self, batches: list[Batch], attempts: list[OpenAttempt], made: list[DirectFile]
    ) -> tuple[Segment | None, list[PlacedBatch], list[DirectFile]]:
        """Write a commit to the disk: to the segment what has no file, and these files. Raise OSError.

        Return what `_append` does, and the files that were dropped since their names are taken.
        """
        self._check_place()
        for file in made:
            file.begin_writeback()
        segment, placed = self._append([batch for batch in batches if batch.file is None], attempts)
        with self._lock:
            self.backpressure.let_in()  # not earlier: workers that run would delay this thread
        if segment is not None:
            self.segments.sync(segment)
        return segment, placed, self._direct.put(made)

    def _append(self, batches: list[Batch], attempts: list[OpenAttempt]) -> tuple[Segment | None, list[PlacedBatch]]:
        """Append to a segment, if there is anything to append. Return the segment and the places of the entries."""
        if not batches and not attempts:
            return None, []
        segment = self.segments.current()
        with self._lock:
            seq = self._give_seqs(sum([len(batch.records) for batch in batches]))
        data, placed = encode_batch(batches, attempts, segment.number, segment.file.size, seq)
        segment.file.append(data)
        return segment, placed

    def _acknowledge(self, segment: Segment, placed: list[PlacedBatch]) -> None:
        """Record in the samples' states that these entries are saved in `segment`."""
        freed: dict[int, int] = {}
        for state, entries, size in placed:
            with state.lock:
                replaced = state.acknowledge(entries, size)
            for number, count in replaced.items():
                freed[number] = freed.get(number, 0) + count
            self.open_attempts.discard(state, entries)
        self.segments.acknowledge(segment, sum([len(batch.entries) for batch in placed]), freed)

    def _report_saved(self, batches: list[Batch]) -> None:
        count = sum([len(batch.records) for batch in batches])
        size = sum([batch.size for batch in batches])
        with self._lock:
            for batch in batches:
                batch.state.unsaved -= len(batch.records)
            self.backpressure.add(-count, -size)
            self.saved_bytes += size
            self.saved += count
            if self.backpressure.results < TUNING.group_results:
                self.backpressure.let_in()
        self._on_saved(list({batch.state: None for batch in batches}), count)


# ---- segments


class Segment:
    """One file of the journal. `live` counts its entries that no sample's file holds yet."""

    def __init__(self, number: int, file: files.AppendFile) -> None:
        self.number, self.file = number, file
        self.live = 0
        self.has_durable_name = False


class Segments:
    """The segments that this run has written: which one takes the next records, and which are still needed.

    Threads: the journal's thread calls `current`, `sync`, `acknowledge` and `end_current`; the compactor's threads call
    the rest.

    Args:
        folder: `.nbrun/`.
        next_number: the number of the first segment; it is made with the first result (F3).
    """

    def __init__(self, folder: Path, next_number: int) -> None:
        self._folder, self._next = folder, next_number
        self._lock = threading.Lock()  # protects the segments' list and counts; never held over I/O
        self._all: dict[int, Segment] = {}
        self._current: Segment | None = None
        self._strays: list[Path] = []  # segments whose creation was reported as failed; they may exist all the same

    # ---- the journal's thread

    def current(self) -> Segment:
        """Return the segment to append to. Raise OSError if a new one can't be made."""
        current = self._current
        if current is not None and current.file.size < TUNING.segment_bytes:
            return current
        number = self._next
        self._next += 1
        path = self._folder / segment_name(number)
        try:
            segment = Segment(number, files.AppendFile(path, new=True))
        except FileExistsError:
            raise
        except OSError:
            self._strays.append(path)
            raise
        with self._lock:
            self._all[number] = self._current = segment
        return segment

    def sync(self, segment: Segment) -> None:
        """Wait until everything that was appended is on the disk. Raise OSError."""
        segment.file.sync()
        if not segment.has_durable_name:
            files.sync_folder(self._folder)
            segment.has_durable_name = True

    def acknowledge(self, segment: Segment, count: int, freed: dict[int, int]) -> None:
        """Record that a segment holds `count` more entries, and how many entries of other segments they replace."""
        with self._lock:
            segment.live += count
            for number, n in freed.items():
                self._all[number].live -= n

    def end_current(self) -> None:
        """Stop appending to the current segment: a write failed (F8), or it is about to be deleted."""
        with self._lock:
            self._current = None

    # ---- the files threads

    def hold(self) -> Callable[[int, int, int], bytes]:
        """Return a reader of entries (segment, offset, length) that keeps the present segments open.

        While a sample's file is written, an entry of it may be replaced and its segment deleted. The segment's
        descriptor must not become another file's meanwhile.
        """
        with self._lock:
            held = dict(self._all)
        return lambda number, offset, length: plain_files.read_at(held[number].file.fd, offset, length)

    def release(self, freed: dict[int, int]) -> list[Segment]:
        """Record that entries are in files now, by segment. Return the segments that are no longer needed."""
        with self._lock:
            for number, count in freed.items():
                self._all[number].live -= count
            return [s for s in self._all.values() if s.live <= 0 and s is not self._current]

    def remove(self, segment: Segment) -> None:
        """Delete a segment whose entries are in files, durably. Raise OSError; it can be tried again later."""
        files.remove(segment.file.path)
        with self._lock:
            self._all.pop(segment.number, None)  # its file is closed with the last reader that holds it

    def remove_strays(self) -> None:
        """At a clean end, delete empty segments whose creation was reported as failed. Raise OSError."""
        while self._strays:
            files.remove(self._strays[-1])
            self._strays.pop()

    def __contains__(self, segment: Segment) -> bool:
        return segment.number in self._all

    def close(self) -> None:
        """Close their files."""
        for segment in self._all.values():
            segment.file.close()


# ---- the bytes of a commit


def encode_batch(
    batches: list[Batch], attempts: list[OpenAttempt], segment: int, at: int, seq: int
) -> tuple[bytes, list[PlacedBatch]]:
    """Return the bytes to append to segment number `segment`, whose size is `at`, and the place of each entry in it.

    Called for every result, so it is written for speed.

    Args:
        seq: the last seq that was given out before.
    """
    where = segment + IN_SEGMENT
    lines: list[bytes] = []
    placed: list[PlacedBatch] = []
    for state, records, _, _ in batches:
        saved: list[SavedEntry] = []
        began = at
        at += _add_header(lines, state, segment)
        record = iter(records)
        for number, stretch in bodies(state, records, seq):
            whose = state.whose[number]
            around = len(whose) + _BEFORE_BODY + 1
            for body, (position, verdict, code, _) in zip(stretch, record, strict=False):
                seq += 1
                lines += (b"%08x\te\t" % crc32(whose, crc32(body, CRC_OF_ENTRY_KIND)), body, whose, b"\n")
                length = len(body)
                saved.append((position, seq, code, where, at + _BEFORE_BODY, length, verdict, body))
                at += length + around
        placed.append(PlacedBatch(state, saved, at - began))
    for state, position, body in attempts:
        _add_header(lines, state, segment)
        lines.append(frame(ATTEMPT, body, state.whose[state.group_number(position)][1:]))
    return b"".join(lines), placed


def _add_header(lines: list[bytes], state: SampleState, segment: int) -> int:
    """Add a sample's header if its next record is its first one in the segment. Return how many bytes were added."""
    if state.header_in == segment:
        return 0
    state.header_in = segment
    lines.append(frame(HEADER, state.header()))
    return len(lines[-1])


# ---- the bound on unsaved results


class WriteBackpressure:
    """Bounds the results that are not on the disk yet: workers wait here until there is room.

    Threads: every method is called with the journal's lock held, which `wait` releases while it waits; the numbers may
    be read at any time.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._room = threading.Condition(lock)
        self._waiting = 0
        self.is_lifted = False  # nothing waits any more
        self.results = self.bytes = 0

    @property
    def is_filling(self) -> bool:
        """True while at least half of the bound is used."""
        return self.results >= TUNING.max_unsaved // 2 or self.bytes >= MAX_UNSAVED_BYTES // 2

    def wait(self, results: int, size: int, is_over: Callable[[], bool]) -> None:
        """Wait until there is room for these results, nothing else is unsaved, the bound is lifted or `is_over()`."""
        while self._is_full(results, size) and not self.is_lifted and not is_over():
            self._waiting += 1
            self._room.wait()
            self._waiting -= 1

    def _is_full(self, results: int, size: int) -> bool:
        return bool(self.results) and (
            self.results + results > TUNING.max_unsaved or self.bytes + size > MAX_UNSAVED_BYTES
        )

    def add(self, results: int, size: int) -> None:
        """Count results that were put; negative numbers take out those that are saved."""
        self.results += results
        self.bytes += size

    def let_in(self) -> None:
        """Wake as many waiting workers as may find room."""
        if self._waiting:
            self._room.notify(min(self._waiting, max(1, TUNING.max_unsaved - self.results)))

    def notify_all(self) -> None:
        """Wake all waiting workers: the intake was closed, or the bound lifted."""
        self._room.notify_all()


# ---- open attempts


class OpenAttempts:
    """For each task that will run again: its latest attempt, and the segment that holds the record of it.

    Before that segment is deleted, the record is written again to a newer one (see `Journal.delete_segments`). False
    while there is none. Threads: the journal's thread calls `record` and `discard`; the compactor's threads call
    `of`, which works on a copy.
    """

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], tuple[int, OpenAttempt]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def record(self, segment: int, attempts: list[OpenAttempt]) -> None:
        """Record that these attempts are saved in `segment`."""
        for attempt in attempts:
            self._of[id(attempt.state), attempt.position] = (segment, attempt)

    def discard(self, state: SampleState, entries: list[SavedEntry]) -> None:
        """Forget the attempts of tasks that have a result or an error now."""
        if self._of:
            for entry in entries:
                self._of.pop((id(state), entry[0]), None)

    def of(self, segment: int) -> list[OpenAttempt]:
        """Return the attempts that are saved in `segment`."""
        return [attempt for number, attempt in list(self._of.values()) if number == segment]


# ---- a sample whose results are put together
#
# It goes to its file without a segment: short tasks end a sample at a time, and to append a hundred entries to the
# journal, with their checksums, only to write them once more into the sample's file a moment later, costs more than to
# run them. The worker that puts the results makes the file, for it holds all of them and no other thread knows the
# sample's state then; the journal's thread puts the file in place, or drops it, and acknowledges the results.


def is_whole_sample(state: SampleState, records: list[EntryRecord], size: int) -> bool:
    """Return whether these are all results that the sample's file will hold: one per task and no error."""
    total = state.total
    if not TUNING.direct_from <= len(records) == total or size > DIRECT_BYTES:
        return False
    if state.columns is not None or state.pending or state.orphans or state.attempts:
        return False
    return [r[2] for r in records].count(DONE) == total == len({r[0] for r in records})


class DirectFile:
    """The file of such a sample, written but not durable yet. It must be put, then acknowledged; or dropped.

    Args:
        folder: the results directory, with a separator at its end.
        seq: the last one that was taken before those of its entries.

    Raises:
        OSError: the disk refused; nothing is left of the file.
    """

    def __init__(self, folder: str, state: SampleState, records: list[EntryRecord], seq: int) -> None:
        self.state = state
        records.sort()
        self._max_seq = seq + len(records)
        inside = pieces(state, records, seq)
        parts = lay_out_results(state, inside, [r[1] for r in records], self._max_seq)
        self._file = files.NewFile(folder + state.name, parts, f"{folder}{FOLDER}/tmp/{temporary(state.name)}")

    def begin_writeback(self) -> None:
        """Let the disk begin to write the content, without waiting for it."""
        self._file.begin_writeback()

    def sync(self) -> None:
        """Make the content durable. Raise OSError."""
        self._file.sync(identify=False)  # the state of a closed sample holds no places to compare with the file

    def put(self) -> None:
        """Give the file its name, after `sync`; the caller syncs the folder.

        Raises:
            FileExistsError: the name is taken.
            OSError: the disk refused.
        """
        self._file.put(replace=False)

    def drop(self) -> None:
        """Remove the file; do nothing once it was put."""
        self._file.drop()

    def acknowledge(self) -> None:
        """Record that the folder was synced: the sample's state has to hold nothing any more."""
        with self.state.lock:
            self.state.is_closed = True  # first: from now on no other thread writes its file
            self.state.max_seq = self.state.file_seq = self._max_seq


class DirectWriter:
    """Decides which samples are written directly, and puts their files in place.

    Threads: workers call `accepts` and `make`, the journal's thread the rest. Workers make few system calls: each gives
    the interpreter lock to another thread, and to get it back takes longer than the call.

    Args:
        folder: the results directory.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder, self._prefix = folder, os.path.join(folder, "")
        self._pause = 0  # commits until the next direct write; written by the journal's thread, read by workers
        self._next_pause = FIRST_PAUSE

    def accepts(self, state: SampleState, records: list[EntryRecord], size: int) -> bool:
        """Return whether this sample is written directly, as fast as the disk is now."""
        return self._pause <= 0 and is_whole_sample(state, records, size)

    def make(self, state: SampleState, records: list[EntryRecord], seq: int) -> DirectFile | None:
        """Write the sample's file. Return None where the disk refuses; the journal's thread will report that."""
        try:
            return DirectFile(self._prefix, state, records, seq)
        except OSError:
            return None

    def put(self, made: list[DirectFile]) -> list[DirectFile]:
        """Make the files of one commit (there may be none) durable, under their names. Raise OSError.

        Return those that were dropped, since their names are taken: another program has put a file there, which is read
        before it is replaced, so these results go to the journal.
        """
        self._pause = max(0, self._pause - 1)
        if not made:
            return []
        began = time.monotonic()
        for file in made:  # all of them before the first rename: renames and syncs in turn wait for each other
            file.sync()
        taken = []
        for file in made:
            try:
                file.put()
            except FileExistsError:
                taken.append(file)
        files.sync_folder(self._folder)
        if time.monotonic() - began > TUNING.direct_slow_s:
            self._pause, self._next_pause = self._next_pause, min(2 * self._next_pause, LONGEST_PAUSE)
        else:
            self._next_pause = FIRST_PAUSE
        return taken
