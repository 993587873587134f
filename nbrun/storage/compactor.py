"""The compactor moves results from the journal into samples' files: at a sample's end, now and then, at a run's end.

`Compactor` is the queue of samples whose files are due; `write_sample` takes a snapshot of one, streams its file,
replaces it and records the new places of its entries.

Threads: up to MAX_THREADS "nbrun-files" threads write the files that are due (their fsyncs overlap: four take a third
of the time of one). A worker waits where too many are due, so that short tasks don't outrun them. `finish` runs in the
thread that closes the store. The feeder calls `write_sample`, too; one thread at a time writes a sample
(`SampleState.filing`).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from array import array
from bisect import bisect
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import compress
from operator import ne
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from nbrun.errors import ThreadLimitError
from nbrun.results import sample_file
from nbrun.results.format import BETWEEN, FOLDER, head_of, segment_name, temporary
from nbrun.results.sample_file import (
    IN_FILE,
    IN_SEGMENT,
    NOWHERE,
    Footer,
    Identity,
    Maker,
    OldFile,
    OwnFile,
    Stored,
    Unreadable,
    in_chunks,
    lay_out,
    maker_of,
    match_old,
    parse_old,
)
from nbrun.samples import Group
from nbrun.storage import files
from nbrun.storage.directory import move_to_quarantine
from nbrun.storage.entry import lay_out_results
from nbrun.storage.journal import Journal, Segment
from nbrun.storage.sample_state import (
    DONE,
    ERROR,
    MISSING,
    NO_MAKER,
    Columns,
    Matched,
    SampleState,
    SavedEntry,
    keep_index,
    match_own,
    match_rows,
)
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: Reads an entry of a segment: number, offset, length.
ReadSegment = Callable[[int, int, int], bytes]
#: Returns such a reader, which keeps the present segments open.
HoldSegments = Callable[[], ReadSegment]

#: Another thread is started where more than ANOTHER_FROM samples are due, up to MAX_THREADS; workers wait from MAX_DUE.
ANOTHER_FROM, MAX_THREADS, MAX_DUE = 2, 8, 64


class Compactor:
    """The queue of samples whose files are due, and the threads that write them.

    Args:
        on_fault: called when the disk refuses; the sample stays due and is tried again after `retry_after_fault`.
        on_problem: called with a state whose `problem` describes a problem of the sample's file.
        check_place: called now and then by an idle thread; raises OSError where the directory was moved.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        on_fault: Callable[[Exception], None],
        on_problem: Callable[[SampleState], None],
        check_place: Callable[[], None],
    ) -> None:
        self._check_place = check_place
        self._folder, self._journal = folder, journal
        self._tmp = str(folder / FOLDER / "tmp") + "/"
        self._path = str(folder)
        self._on_fault, self._on_problem = on_fault, on_problem
        self._lock = threading.Lock()  # protects the queues, flags and threads below; never held over I/O
        self._work = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._due: deque[SampleState] = deque()
        self._open: dict[SampleState, None] = {}  # samples with results that no file holds, oldest first
        self._busy = 0
        self._closing = self._broken = False
        self._deleting = threading.Lock()  # one thread at a time deletes segments: held over I/O on purpose
        self._room = threading.Condition(self._lock)  # workers wait here
        self.threads: list[threading.Thread] = []
        self._add_thread()

    # ---- journal's thread

    def touched(self, states: list[SampleState]) -> None:
        """Note samples that may have new saved results."""
        with self._lock:
            for state in states:
                if state not in self._open and state.is_behind:
                    state.dirty_since = time.monotonic()
                    self._open[state] = None

    def write_soon(self, state: SampleState) -> None:
        """Queue a sample that ended and is saved. One whose file is being written is queued afterwards if needed."""
        with self._lock:
            if state.filing:
                return
            self._queue(state)
            self._work.notify()
            if len(self._due) > ANOTHER_FROM and len(self.threads) < MAX_THREADS:
                self._add_thread()

    def _queue(self, state: SampleState) -> None:
        """Queue a sample that isn't queued. The caller holds the lock."""
        state.filing = True
        self._due.append(state)

    def _add_thread(self) -> None:
        number = len(self.threads)
        name = f"nbrun-files-{number}" if number else "nbrun-files"
        try:
            self.threads.append(start_daemon(self._run, name))
        except ThreadLimitError:
            if not self.threads:
                raise

    # ---- workers

    def wait_for_room(self) -> None:
        """Wait while too many ended samples are in memory."""
        if len(self._due) < MAX_DUE:
            return
        with self._lock:
            self._room.wait_for(lambda: len(self._due) < MAX_DUE or self._broken or self._closing)

    # ---- control

    def retry_after_fault(self) -> None:
        """Try again after a fault."""
        with self._lock:
            self._broken = False
            self._work.notify_all()

    def finish(self, timeout_s: float | None = None) -> bool:
        """Write all results to files. Call it only when no more results come. Return False on a fault or a time-out."""
        with self._lock:
            while True:
                is_anything_new = self._queue_all()
                done = self._idle.wait_for(lambda: self._broken or self._has_no_work, timeout_s)
                if not done or self._broken:
                    return False
                if not is_anything_new:  # else one may have been written while its last results were being saved
                    return True

    def _queue_all(self) -> bool:
        """Queue the samples that have results in no file. Return whether there are any. The caller holds the lock."""
        behind = [state for state in self._open if not state.filing and state.is_behind]
        for state in behind:
            self._queue(state)
        self._work.notify_all()
        for _ in range(min(MAX_THREADS, len(self._due)) - len(self.threads)):
            self._add_thread()
        return bool(behind)

    @property
    def _has_no_work(self) -> bool:
        return not (self._due or self._busy)

    @property
    def _can_write(self) -> bool:
        """True while a sample is due and no fault keeps it from being written."""
        return bool(self._due) and not self._broken

    def close(self, timeout_s: float | None = None) -> None:
        """End each thread after the file that it writes; after `timeout_s`, one may still write."""
        with self._lock:
            self._closing = True
            self._work.notify_all()
            self._room.notify_all()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))

    def delete_all_segments(self, carried: int) -> bool:
        """At a clean end, delete every segment whose entries are in files. Return False on a fault.

        Args:
            carried: the number of the segment that holds attempts from before this run; 0 where there is none.
        """
        try:
            self._delete_segments(self._journal.segments.release({}))
            self._journal.segments.remove_strays()
            if carried:
                files.remove(self._folder / FOLDER / segment_name(carried))
            files.sync_folder(self._folder)
        except OSError as e:
            self._on_fault(e)
            return False
        return True

    # ---- the compactor's threads

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                state = self._take()
            if state is not None:
                self._write(state)
            else:
                self._look_at_place()

    def _take(self) -> SampleState | None:
        """Wait for a sample that is due, and take it. The caller holds the lock.

        Return None where none was due for a while, or where the compactor is closed.
        """
        while not self._can_write and not self._closing:
            if not self._work.wait(TUNING.stale_look_s) and not self._broken:
                self._look_for_stale()
                break
        if self._closing or not self._can_write:
            return None
        self._busy += 1
        return self._due.popleft()

    def _look_at_place(self) -> None:
        """Notice a directory that was moved although nothing is saved for a long time."""
        if self._closing:
            return
        try:
            self._check_place()
        except Exception as e:  # any other error is nbrun's own; no thread may wait for this one then either
            with self._lock:
                if self._broken or self._closing:
                    return
                self._broken = True
                self._idle.notify_all()
                self._room.notify_all()
            self._on_fault(e)

    def _look_for_stale(self) -> None:
        """Queue the samples whose results are in no file for too long. The caller holds the lock."""
        now = time.monotonic()
        for state in self._open:
            if now - state.dirty_since < TUNING.stale_s:
                break
            if not state.filing and now - state.dirty_since > TUNING.cost_ratio * state.file_cost_s:
                self._queue(state)

    def _write(self, state: SampleState) -> None:
        """Write a sample's file. After a fault the sample is due again."""
        fault: Exception | None = None
        try:
            self._write_file(state)
        except Exception as e:  # any other error is nbrun's own; no thread may wait for this one then either
            fault = e
        with self._lock:
            self._busy -= 1
            if fault is not None:
                self._due.append(state)
                self._broken = True
            else:
                state.filing = False
                if state.ended and not state.unsaved and state.is_behind:
                    self._queue(state)
            self._room.notify()
            if self._broken or self._has_no_work:
                self._idle.notify_all()
                self._room.notify_all()
        if fault is not None:
            self._on_fault(fault)

    def _write_file(self, state: SampleState) -> None:
        """Write a sample's file, and delete the segments that no sample needs any more. Raise OSError."""
        began = time.monotonic()
        freed = write_sample(state, self._path, self._tmp + temporary(state.name), self._journal.segments.hold)
        if state.problem:
            self._on_problem(state)
        with self._lock:
            state.file_cost_s = time.monotonic() - began
            self._open.pop(state, None)
            if state.is_behind:
                state.dirty_since = time.monotonic()
                self._open[state] = None
        self._delete_segments(self._journal.segments.release(freed))

    def _delete_segments(self, segments: list[Segment]) -> None:
        if not segments:
            return
        with self._deleting:
            files.sync_folder(self._folder)
            self._journal.delete_segments([s for s in segments if s in self._journal.segments])


# ---- the file of one sample


def write_sample(state: SampleState, folder: str, beside: str, hold: HoldSegments) -> dict[int, int]:
    """Replace the sample's file by what the state holds, durably but for the folder's fsync.

    Returns:
        segment number -> how many entries of this sample no longer need it.
    """
    if state.is_closed:
        return {}
    path = os.path.join(folder, state.name)
    # until all is well it isn't known which file is there: a rename that reports an error may have succeeded
    known, state.file_id = state.file_id, None
    is_known = files.identity_at(path) == known
    entries = _all_in_memory(state) if is_known else None
    if entries is not None:
        return _write_from_memory(state, entries, path, beside)
    return _SampleWriter(state, path, known, hold).write(beside)


def _all_in_memory(state: SampleState) -> list[SavedEntry] | None:
    """Return a result of each task, in the order of their positions; None where not all are in memory."""
    with state.lock:
        if state.columns is not None or state.orphans or len(state.pending) != state.total:
            return None
        entries = sorted(state.pending)
    if [entry[0] for entry in entries] != list(range(state.total)) or [e[2] for e in entries].count(DONE) < state.total:
        return None  # one was saved twice, another is missing, or one is an error
    return entries


def _write_from_memory(state: SampleState, entries: list[SavedEntry], path: str, beside: str) -> dict[int, int]:
    _, seqs, _, wheres, _, _, judged, bodies = zip(*entries, strict=True) if entries else ((),) * 8
    max_seq = max(seqs, default=0)
    inside = [(BETWEEN.join(bodies[g.base : g.base + len(g.runnable)]),) for g in state.sample.groups]
    file_id = files.replace_file(path, (b"".join(lay_out_results(state, inside, judged, max_seq)),), beside)
    with state.lock:
        state.file_seq = max(state.file_seq, max_seq)
        if len(state.pending) > len(entries):  # more have come: the next writing reads this file
            return {}
        state.file_id, state.is_closed = file_id, True
        state.pending, state.kept_bytes = [], 0
    return {where - IN_SEGMENT: n for where, n in Counter(wheres).items()}


# ---- any other sample


class _Moved(Exception):
    """An entry is not where the sample's state says."""


class _SampleWriter:
    """Writes a sample once whose entries are in segments, in its file, or in memory.

    Entries that follow one another in the old file and stay are copied as one piece, so that writing costs by the
    file's bytes and by the entries that are new. That the file is still the one that was read, or written, is checked
    by its CRC-32.

    Args:
        known: the file that the places in the state belong to.
    """

    def __init__(self, state: SampleState, path: str, known: files.FileId | None, hold: HoldSegments) -> None:
        self.state, self.path, self._known, self._hold = state, path, known, hold
        self._own: BinaryIO | None = None  # entries that are IN_FILE are read from it
        self._opened = ExitStack()

    def write(self, beside: str) -> dict[int, int]:
        """See write_sample."""
        with self._opened:
            self._open()
            try:
                file_id = self._replace(beside)
            except _Moved:  # another program wrote into the file; its inode, size and time may be the same all the same
                self._rescan()
                try:
                    file_id = self._replace(beside)
                except _Moved:
                    raise OSError(errno.ESTALE, "changes while it is being read", self.path) from None
        keep_index(Path(self.path), self.state, self.c, self.new_crc, file_id)
        freed = self._record_places()
        self.state.file_id, self.state.file_crc = file_id, self.new_crc
        return freed

    def _open(self) -> None:
        """Open the sample's file, and scan it where it is another one than the state knows."""
        try:
            file = files.open_reading(self.path)
        except FileNotFoundError:
            c = self.state.columns
            if (c is not None and IN_FILE in c.where) or any(o.where == IN_FILE for o in self.state.orphans):
                raise  # the run pauses until the file is back
            return
        self._own = self._opened.enter_context(file)
        if files.identity_of(os.fstat(file.fileno())) != self._known:
            self._rescan()

    def _replace(self, beside: str) -> files.FileId:
        """Write what the state holds now."""
        state = self.state
        with state.lock:
            self._read_segment = self._hold()
            state.freed.update(state.merge_pending())
            assert state.columns is not None
            self.c: Columns = state.columns.copy()  # becomes what the new file holds, entry by entry
            self.orphans = list(state.orphans)
            self.max_seq = state.max_seq
        self.new_orphans: list[Stored] = []
        self.new_crc = 0
        self._read_to = self._read_crc = 0  # up to where the old file was copied or skipped, and the CRC-32 of that
        can_copy = self._own is not None and state.file_crc is not None
        # by position: 1 where the entry is copied with its neighbours
        self._stays = bytes(map(IN_FILE.__eq__, self.c.where)) if can_copy else bytes(state.total)
        return files.replace_file(self.path, in_chunks(self._parts()), beside)

    def _rescan(self) -> None:
        """Find the state's entries in the file as it is, and take over entries that the state doesn't know.

        Entries that the state has in its file and that the file lacks are lost: another file was put there.
        """
        content = self._content()
        state = self.state
        state.file_crc = None
        with state.lock:
            state.freed.update(state.merge_pending())
            finder = _Finder(state)
        is_whole = False
        if content is not None:
            state.extra = content.extra
            is_whole = self._scan(finder, content)
        with state.lock:
            lost = finder.update()
        if is_whole and not lost:
            return
        move_to_quarantine(Path(self.path), files.link_or_copy)
        state.problem = "was replaced by another file while the run went on; that one is kept in .nbrun/damaged/"
        if lost:
            state.problem += f", and {lost} results that only the first one held count as missing"

    def _content(self) -> OwnFile | OldFile | None:
        """Return what the file holds; None where it can't be read, or is another sample's."""
        assert self._own is not None
        try:
            found = sample_file.read_any(self._own)
            content = parse_old(found) if isinstance(found, bytes) else found
        except (Unreadable, ValueError):
            return None
        return content if content.sample_id in (self.state.sample_id, None) else None

    def _scan(self, finder: _Finder, content: OwnFile | OldFile) -> bool:
        """Let `finder` find the state's entries in the file. Return whether nothing in it is damaged."""
        sample = self.state.sample
        if isinstance(content, OldFile):
            finder.scan(match_rows(content, match_old(sample, content)), is_old=True)
            return True
        self._own = content.file
        finder.scan(match_own(sample, content))
        return not content.damaged

    def _body(self, where: int, offset: int, length: int, key: bytes, seq: int) -> bytes:
        """Return an entry's bytes. Raise _Moved where the bytes at its place are not that entry's."""
        if where == IN_FILE:
            assert self._own is not None
            self._own.seek(offset)
            body = self._own.read(length)
        else:
            body = self._read_segment(where - IN_SEGMENT, offset, length)
        head = head_of(body)
        if len(body) != length or not body.endswith(b"}") or head is None or (head.key, head.seq) != (key, seq):
            raise _Moved
        return body

    def _parts(self) -> Iterator[bytes]:
        """Yield the file's bytes, piece by piece; each entry's new place is noted on the way."""
        orphans: dict[str, list[Stored]] = {}
        for orphan in self.orphans:
            orphans.setdefault(orphan.group, []).append(orphan)
        groups: dict[str, Group | None] = {g.name: g for g in self.state.sample.groups}
        groups |= {name: None for name in orphans if name not in groups}
        entries = ((name, self._entries(g, orphans.get(name, []))) for name, g in groups.items())
        for part in lay_out(self.state.sample_id, entries, self._footer, self._note_place):
            self.new_crc = crc32(part, self.new_crc)
            yield part

    def _note_place(self, entry: range | Stored, offset: int, length: int) -> None:
        if isinstance(entry, Stored):
            self.new_orphans.append(entry._replace(where=IN_FILE, offset=offset, length=length, body=None))
            return
        c, first = self.c, entry.start
        if len(entry) == 1:
            c.where[first], c.offset[first], c.length[first] = IN_FILE, offset, length
            c.bodies.pop(first, None)
        elif moved := offset - c.offset[first]:
            c.offset[first : entry.stop] = array("q", map(moved.__add__, c.offset[first : entry.stop]))

    def _entries(self, g: Group | None, orphans: list[Stored]) -> Iterator[tuple[range | Stored, bytes]]:
        """Yield the entries of a group: their positions, or the orphan itself, and the bytes."""
        if g is not None:
            yield from self._placed_entries(g)
        for orphan in orphans:
            body = orphan.body or self._body(orphan.where, orphan.offset, orphan.length, orphan.key, orphan.seq)
            yield orphan, b'{"index":null' + body[body.index(b",") :]

    def _placed_entries(self, g: Group) -> Iterator[tuple[range, bytes]]:
        for at, stop in self._stretches(g.base, g.base + len(g.runnable)):
            if self._stays[at]:
                yield from self._copied(g, at, stop)
            else:
                yield from ((range(p, p + 1), self._entry(g, p)) for p in range(at, stop) if self.c.status[p])

    def _stretches(self, at: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where each stretch of positions begins and ends whose entries are all copied, or all not."""
        while at < end:
            found = self._stays.find(1 - self._stays[at], at, end)
            stop = end if found < 0 else found
            yield at, stop
            at = stop

    def _entry(self, g: Group, position: int) -> bytes:
        c, rank = self.c, position - g.base
        body = c.bodies.get(position)
        if body is None:
            body = self._body(c.where[position], c.offset[position], c.length[position], g.key(rank), c.seq[position])
        right = b'{"index":%d,' % g.runnable[rank]
        if not body.startswith(right):  # the item has another index in the dataset now
            body = right + body[body.index(b",") + 1 :]
        return body

    def _copied(self, g: Group, start: int, stop: int) -> Iterator[tuple[range, bytes]]:
        """Yield entries that follow one another in the old file, in pieces of about `TUNING.copy_bytes`."""
        c = self.c
        while start < stop:
            offset = c.offset[start]
            end = bisect(c.offset, offset + TUNING.copy_bytes, start + 1, stop)
            length = c.offset[end - 1] + c.length[end - 1] - offset
            if length != sum(c.length[start:end]) + len(BETWEEN) * (end - start - 1):
                raise _Moved  # something is between them
            self._skip_to(offset)
            body = self._read_on(length)
            head = head_of(body)
            if head is None or (head.key, head.seq) != (g.key(start - g.base), c.seq[start]):
                raise _Moved
            yield range(start, end), body
            start = end

    def _skip_to(self, offset: int) -> None:
        """Read on in the old file up to an offset. Raise _Moved where that was read already, or isn't there."""
        while self._read_to < offset:
            self._read_on(min(TUNING.copy_bytes, offset - self._read_to))
        if self._read_to > offset:
            raise _Moved

    def _read_on(self, length: int) -> bytes:
        """Return the next bytes of the old file. Raise _Moved where there are fewer."""
        assert self._own is not None
        self._own.seek(self._read_to)
        data = self._own.read(length)
        if len(data) != length:
            raise _Moved
        self._read_to += length
        self._read_crc = crc32(data, self._read_crc)
        return data

    def _check_old_file(self) -> None:
        """Raise _Moved where the file that entries were copied from isn't the one that the state knows."""
        if self._read_to:
            assert self._own is not None
            self._skip_to(os.fstat(self._own.fileno()).st_size)
            if self._read_crc != self.state.file_crc:
                raise _Moved

    def _footer(self) -> Footer:
        self._check_old_file()
        c, state = self.c, self.state
        counts = state.counts_of(state.done_by_maker(c))
        counts.max_seq = self.max_seq
        for g in state.sample.groups:
            counts.errors[g.name] = c.status.count(ERROR, g.base, g.base + len(g.runnable))
        return state.footer(counts)

    def _record_places(self) -> dict[int, int]:
        """Record in the state that the entries are in the file now; those saved meanwhile keep their place."""
        state, c = self.state, self.c
        with state.lock:
            state.freed.update(state.merge_pending())
            freed, state.freed = state.freed, Counter()
            now = state.columns
            assert now is not None
            newer = [] if now.seq == c.seq else list(compress(range(state.total), map(ne, now.seq, c.seq)))
            freed.update(_in_segments(now, newer))
            for p in newer:
                c.where[p], c.offset[p], c.length[p] = now.where[p], now.offset[p], now.length[p]
            now.where, now.offset, now.length = c.where, c.offset, c.length
            now.bodies = {p: now.bodies[p] for p in newer if p in now.bodies}
            state.kept_bytes = sum(map(len, now.bodies.values()))
            state.orphans = self.new_orphans
            state.file_seq = max(state.file_seq, self.max_seq)
        return freed


def _in_segments(c: Columns, left_out: list[int]) -> dict[int, int]:
    """Return how many entries are in each segment, without those at the positions `left_out`."""
    counts = Counter(c.where)
    counts.subtract(c.where[position] for position in left_out)
    return {where - IN_SEGMENT: n for where, n in counts.items() if where >= IN_SEGMENT and n}


class _Finder:
    """Finds a sample's entries in a file that isn't the one that the sample's state knows.

    It is made, and `update` is called, with the state's lock held; `scan` reads the file, without it. The journal's
    thread may add newer entries to the state meanwhile.
    """

    def __init__(self, state: SampleState) -> None:
        self._state = state
        assert state.columns is not None
        self._orphans = {o.identity: o for o in state.orphans}
        self._seqs, self._status = state.columns.seq[:], state.columns.status[:]
        self._found: dict[int, tuple[Stored, Maker]] = {}
        self._found_orphans: dict[Identity, Stored] = {}

    def scan(self, entries: Iterable[Matched], *, is_old: bool = False) -> None:
        """Find the entries of a file. Those of the older program count where the state has none."""
        for position, s, entry in entries:
            if position is None:
                self._scan_orphan(s, is_old=is_old)
            elif is_old or self._may_count(position, s):
                self._found[position] = s, maker_of(entry)
                self._seqs[position] = s.seq

    def _scan_orphan(self, s: Stored, *, is_old: bool) -> None:
        known = self._orphans.get(s.identity)
        if is_old:
            self._found_orphans.setdefault(s.identity, s)
        elif known is None or known.seq <= s.seq:
            self._found_orphans[s.identity] = s

    def _may_count(self, position: int, s: Stored) -> bool:
        """Return whether an entry of the file is the one that the state knows of an item, or counts before it (F4)."""
        if s.seq == self._seqs[position]:
            return True
        return s.seq > self._seqs[position] and (s.is_done or self._status[position] != DONE)

    def update(self) -> int:
        """Record in the state what was found. Return how many of its results are nowhere any more."""
        state = self._state
        state.freed.update(state.merge_pending())
        assert state.columns is not None
        lost = sum([self._update_item(state.columns, position) for position in range(state.total)])
        orphans = {i: o for i, o in self._orphans.items() if o.where != IN_FILE} | self._found_orphans
        lost += len(self._orphans.keys() - orphans.keys())
        state.orphans = list(orphans.values())
        return lost

    def _update_item(self, c: Columns, position: int) -> bool:
        """Record what was found of one item. Return whether its result is nowhere any more."""
        state = self._state
        found, made = self._found.get(position, (None, NO_MAKER))
        is_lost = False
        if c.where[position] == IN_FILE:
            if found is not None and found.where == IN_FILE and found.seq == c.seq[position]:  # it is there, too
                c.offset[position], c.length[position] = found.offset, found.length
                return False
            is_lost = c.status[position] == DONE and found is None
            c.status[position], c.seq[position], c.where[position] = MISSING, 0, NOWHERE
        if found is not None and (found.seq > c.seq[position] or c.status[position] == MISSING):  # F4
            if c.where[position] >= IN_SEGMENT:
                state.freed[c.where[position] - IN_SEGMENT] += 1
            c.bodies.pop(position, None)
            state.place(position, found, made)
            state.max_seq = max(state.max_seq, found.seq)
        return is_lost
