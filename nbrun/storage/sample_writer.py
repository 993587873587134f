"""Writes a sample's file from its state: takes a snapshot, streams the file, replaces it, and records the new places.

A sample whose results are all put together goes to its file without the journal (`DirectWriter`): short tasks end a
sample at a time, and to append a hundred entries to the journal, with their checksums, only to write them once more
into the sample's file a moment later, costs more than to run them.

Threads: `write_sample` is called by one of the compactor's, or the feeder; one at a time per sample
(`SampleState.filing`). A file that is written directly is made by the worker that puts the results, for it holds all of
them and no other thread knows the sample's state then; the journal's thread puts the file in place, or drops it, and
acknowledges the results.
"""

from __future__ import annotations

import errno
import os
import time
from array import array
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import compress
from operator import ne
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from nbrun import verdicts
from nbrun.results import sample_file
from nbrun.results.format import BETWEEN, FOLDER, head_of, temporary
from nbrun.results.legacy import match_old, parse_old
from nbrun.results.sample_file import (
    IN_FILE,
    IN_SEGMENT,
    NOWHERE,
    EntryCounts,
    Footer,
    Identity,
    Maker,
    OwnFile,
    Stored,
    Unreadable,
    in_chunks,
    lay_out,
    maker_of,
)
from nbrun.samples import Group
from nbrun.storage import entry_index, files
from nbrun.storage.directory import move_to_quarantine
from nbrun.storage.entry import EntryRecord, pieces
from nbrun.storage.match import Matched, match_own, match_rows
from nbrun.storage.sample_state import DONE, ERROR, MISSING, NO_MAKER, Columns, SampleState, SavedEntry
from nbrun.tuning import TUNING

#: Reads an entry of a segment: number, offset, length.
ReadSegment = Callable[[int, int, int], bytes]
#: Returns such a reader, which keeps the present segments open.
HoldSegments = Callable[[], ReadSegment]

#: The most bytes of a direct write.
DIRECT_BYTES = 4 << 20
#: How many commits go through the journal after a slow one.
PAUSE = 100


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


# ---- a sample that was run in one go


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


def lay_out_results(
    state: SampleState, inside: Sequence[Iterable[bytes]], judged: Sequence[str | None], max_seq: int
) -> list[bytes]:
    """Return, in pieces, the file of a sample that has a result for each of its tasks.

    Args:
        inside: for each group its entries and what is between them, in pieces.
        judged: the verdicts, in the order of the positions; None where a result has none.
    """
    parts = [sample_file.opening(state.sample_id)]
    counts = EntryCounts()
    counts.max_seq = max_seq
    counts.verdicts.update({verdict: n for verdict, n in verdicts.count(judged).items() if verdict is not None})
    for g, entries in zip(state.sample.groups, inside, strict=True):
        parts += [sample_file.group_opening(g.name), *entries, sample_file.group_end(not g.runnable)]
        done = counts.done[g.name] = len(g.runnable)
        if counts.verdicts and state.is_judged:
            counts.unexpected += state.unexpected_of(g.name, judged[g.base : g.base + done])
    if judged:
        counts.runs[state.run_id] = counts.contexts[state.sample.context] = len(judged)
    parts.append(sample_file.closing(_footer(state, counts)))
    return parts


def _footer(state: SampleState, counts: EntryCounts) -> Footer:
    totals = state.totals
    done = {group: counts.done[group] for group in totals}
    summary = counts.summary(totals, state.sample.identities.hex())
    return Footer(state.sample_id, totals, done, done == totals, summary, state.api_used, state.worker_id, state.extra)


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
        entry_index.keep(Path(self.path), self.state, self.c, self.new_crc, file_id)
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
        self._stays = b""  # by position: 1 where the entry is copied with its neighbours
        if self._own is not None and state.file_crc is not None:
            self._stays = bytes(map(IN_FILE.__eq__, self.c.where))
        return files.replace_file(self.path, in_chunks(self._parts()), beside)

    def _rescan(self) -> None:
        """Find the state's entries in the file as it is, and take over entries that the state doesn't know.

        Entries that the state has in its file and that the file lacks are lost: another file was put there.
        """
        assert self._own is not None
        try:
            content: OwnFile | bytes | None = sample_file.read_any(self._own)
            old = parse_old(content) if isinstance(content, bytes) else None
        except (Unreadable, ValueError):
            content, old = None, None
        state = self.state
        state.file_crc = None
        with state.lock:
            state.freed.update(state.merge_pending())
            finder = _Finder(state)
        is_whole = False
        if isinstance(content, OwnFile) and content.sample_id in (state.sample_id, None):
            self._own = content.file
            state.extra = content.extra
            finder.scan(match_own(state.sample, content))
            is_whole = not content.damaged
        elif old is not None and old.sample_id == state.sample_id:
            state.extra = old.extra
            finder.scan(match_rows(old, match_old(state.sample, old)), is_old=True)
            is_whole = True
        with state.lock:
            lost = finder.update()
        if is_whole and not lost:
            return
        move_to_quarantine(Path(self.path), files.link_or_copy)
        state.problem = "was replaced by another file while the run went on; that one is kept in .nbrun/damaged/"
        if lost:
            state.problem += f", and {lost} results that only the first one held count as missing"

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
        at, end = g.base, g.base + len(g.runnable)
        while at < end:
            is_copied = at < len(self._stays) and self._stays[at]
            found = self._stays.find(not is_copied, at, end)
            stop = end if found < 0 else found
            if is_copied:
                yield from self._copied(g, at, stop)
            else:
                yield from ((range(p, p + 1), self._entry(g, p)) for p in range(at, stop) if self.c.status[p])
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
        return _footer(state, counts)

    def _record_places(self) -> dict[int, int]:
        """Record in the state that the entries are in the file now; those saved meanwhile keep their place."""
        state, c = self.state, self.c
        with state.lock:
            state.freed.update(state.merge_pending())
            freed, state.freed = state.freed, Counter()
            now = state.columns
            assert now is not None
            newer = [] if now.seq == c.seq else list(compress(range(state.total), map(ne, now.seq, c.seq)))
            in_segments = Counter(now.where)
            in_segments.subtract(now.where[position] for position in newer)
            for where, count in in_segments.items():
                if where >= IN_SEGMENT and count:
                    freed[where - IN_SEGMENT] += count
            for p in newer:
                c.where[p], c.offset[p], c.length[p] = now.where[p], now.offset[p], now.length[p]
            now.where, now.offset, now.length = c.where, c.offset, c.length
            now.bodies = {p: now.bodies[p] for p in newer if p in now.bodies}
            state.kept_bytes = sum(map(len, now.bodies.values()))
            state.orphans = self.new_orphans
            state.file_seq = max(state.file_seq, self.max_seq)
        return freed


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
                known = self._orphans.get(s.identity)
                if is_old:
                    self._found_orphans.setdefault(s.identity, s)
                elif known is None or known.seq <= s.seq:
                    self._found_orphans[s.identity] = s
                continue
            is_newer = s.seq > self._seqs[position] and not (s.status == "error" and self._status[position] == DONE)
            if is_old or is_newer or s.seq == self._seqs[position]:
                self._found[position] = s, maker_of(entry)
                self._seqs[position] = s.seq

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
            if found is not None and found.where == IN_FILE and found.seq == c.seq[position]:
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


# ---- a sample whose results are put together


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

    def put(self) -> None:
        """Make the file durable, under its name; the caller syncs the folder. Raise OSError."""
        self._file.put(identify=False)  # the state of a closed sample holds no places to compare with the file

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

    def accepts(self, state: SampleState, records: list[EntryRecord], size: int) -> bool:
        """Return whether this sample is written directly, as fast as the disk is now."""
        return self._pause <= 0 and is_whole_sample(state, records, size)

    def make(self, state: SampleState, records: list[EntryRecord], seq: int) -> DirectFile | None:
        """Write the sample's file. Return None where the disk refuses; the journal's thread will report that."""
        try:
            return DirectFile(self._prefix, state, records, seq)
        except OSError:
            return None

    def begin(self, made: list[DirectFile]) -> list[DirectFile]:
        """Let the disk begin to write the files of one commit. Return those to be put.

        A file is dropped if its name is taken: another program has put a file there, which is read before it is
        replaced, so these results go to the journal.
        """
        accepted = []
        for file in made:
            if os.path.lexists(self._prefix + file.state.name):
                file.drop()
            else:
                file.begin_writeback()
                accepted.append(file)
        return accepted

    def put(self, made: list[DirectFile]) -> None:
        """Make the files of one commit (there may be none) durable, under their names. Raise OSError."""
        self._pause = max(0, self._pause - 1)
        if not made:
            return
        began = time.monotonic()
        for file in made:
            file.put()
        files.sync_folder(self._folder)
        if time.monotonic() - began > TUNING.direct_slow_s:
            self._pause = PAUSE
