"""Writes a sample's file from its state: snapshot, stream, replace, and say where each entry stands now.

Threads: the files thread, a worker that helps, or the feeder; never two at once for one state (`SampleState.filing`).
"""

from __future__ import annotations

import errno
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from nbrun import verdicts
from nbrun.results import sample_file
from nbrun.results.entries import IN_FILE, IN_SEGMENT, NOWHERE
from nbrun.results.format import BETWEEN, ENTRY_HEAD
from nbrun.results.legacy import OldFile, OldMatch, match_old, old_body, parse_old
from nbrun.results.sample_file import EntryHead, Identity, OwnFile, Unreadable
from nbrun.storage import files
from nbrun.storage.directory import move_to_quarantine
from nbrun.storage.match import positions_by_identity
from nbrun.storage.sample_state import DONE, ERROR, MISSING, Columns, Orphan, SampleState, SavedEntry

CHUNK = 1 << 20
ReadSegment = Callable[[int, int, int], bytes]
HoldSegments = Callable[[], ReadSegment]
Made = tuple[str | None, str, str]  # verdict, run and context of an entry


def write_sample(state: SampleState, folder: str, beside: str, hold: HoldSegments) -> dict[int, int]:
    """Replaces the sample's file by what the state holds, durably but for the folder's fsync.

    Returns:
        segment number -> how many entries of this state no longer need it.
    """
    if state.is_closed:
        return {}
    path = os.path.join(folder, state.name)
    # from here until all is well nobody knows what stands there: a rename that reports an error may have succeeded
    known, state.file_id = state.file_id, None
    is_known = files.identity_at(path) == known
    saved = _all_in_memory(state) if is_known else None
    if saved is not None:
        return _write_at_once(state, saved, path, beside)
    return _Filing(state, path, known, hold).write(beside)


# ---- a sample that was run in one go


def _all_in_memory(state: SampleState) -> list[SavedEntry] | None:
    """Its entries, each once, in the order of their positions; None where some stand elsewhere."""
    with state.lock:
        if state.columns is not None or state.orphans or len(state.pending) != state.total:
            return None
        saved = sorted(state.pending)
    if [f[0] for f in saved] != list(range(state.total)):
        return None  # one was saved twice, another is missing
    return saved


def _write_at_once(state: SampleState, saved: list[SavedEntry], path: str, beside: str) -> dict[int, int]:
    _, seqs, codes, wheres, _, _, all_verdicts, bodies = zip(*saved, strict=True) if saved else ((),) * 8
    max_seq = max(seqs, default=0)
    has_errors = codes.count(DONE) < len(codes)
    judged = [f[6] for f in saved if f[2] == DONE] if has_errors else all_verdicts
    inside = [(BETWEEN.join(bodies[g.base : g.base + len(g.runnable)]),) for g in state.sample.groups]
    parts = lay_out_sample(state, inside, codes, judged, max_seq)
    file_id = files.replace_file(path, (b"".join(parts),), beside)
    with state.lock:
        state.file_id = file_id
        state.file_seq = max(state.file_seq, max_seq)
        later = state.pending[len(saved) :]
        state.pending = []
        if later or has_errors:  # more entries have come or may come
            _stand_in_file(state, saved)
            state.pending = later
        else:
            state.is_closed = True
        state.kept_bytes = sum([f[5] for f in later])
    return {where - IN_SEGMENT: n for where, n in Counter(wheres).items()}


def lay_out_sample(
    state: SampleState,
    inside: Sequence[Iterable[bytes]],
    codes: Sequence[int],
    judged: Sequence[str | None],
    max_seq: int,
) -> list[bytes]:
    """The file, in pieces, of a sample that has one entry for each of its tasks.

    Args:
        inside: for each group its entries and what stands between them, in pieces.
        codes: the entries' statuses, in the order of their positions.
        judged: the verdicts of those that are done, None where one has none.
    """
    parts = [sample_file.opening(state.sample_id)]
    done: dict[str, int] = {}
    errors: dict[str, int] = {}
    for g, entries in zip(state.sample.groups, inside, strict=True):
        end = g.base + len(g.runnable)
        parts += [sample_file.group_opening(g.name), *entries, b"\n],\n" if g.runnable else b"],\n"]
        done[g.name] = codes[g.base : end].count(DONE)
        errors[g.name] = codes[g.base : end].count(ERROR)
    counts = verdicts.count(judged)
    counts.pop(None, None)
    made = {state.run_id: len(judged)} if judged else {}
    unexpected = 0
    if counts and state.is_judged:
        at = 0
        for g in state.sample.groups:  # in the order of positions, as the verdicts are
            of_group = judged[at : at + done[g.name]]
            at += done[g.name]
            unexpected += state.unexpected_of(g.name, of_group)
    contexts = {state.sample.context: len(judged)} if judged else {}
    summary = _summary(state, max_seq, done, errors, counts, made, contexts, unexpected)
    return parts + _closing(state, summary, done)


def _stand_in_file(state: SampleState, saved: list[SavedEntry]) -> None:
    """Notes in the columns where the entries stand now. Called with the state's lock held."""
    at = len(sample_file.opening(state.sample_id))
    for g in state.sample.groups:
        at += len(sample_file.group_opening(g.name))
        for position, seq, code, _, _, length, verdict, _ in saved[g.base : g.base + len(g.runnable)]:
            state.place(position, seq, code, IN_FILE, at, length, (verdict, state.run_id, state.context))
            at += length + len(BETWEEN)
        at += 2 if g.runnable else 3


def _summary(
    state: SampleState,
    max_seq: int,
    done: dict[str, int],
    errors: dict[str, int],
    verdicts: Any,
    runs: Any,
    contexts: Any,
    unexpected: int,
) -> dict[str, Any]:
    summary = {
        "max_seq": max_seq,
        "identities": state.sample.identities.hex(),
        "done": sum(done.values()),
        "errors": errors,
        "verdicts": verdicts,
        "runs": runs,
        "contexts": contexts,
    }
    return summary | {"unexpected": unexpected} if state.is_judged else summary


def _closing(state: SampleState, summary: dict[str, Any], done: dict[str, int]) -> list[bytes]:
    totals = state.totals
    footer = sample_file.Footer(state.sample_id, totals, done, done == totals, summary, state.api_used, state.worker_id)
    return [sample_file.closing(footer)]


# ---- any other sample


class _Moved(Exception):
    """An entry is not where it is remembered to be."""


class _Filing:
    """One writing of a sample whose entries stand in segments, in its file, or in memory.

    Args:
        known: which file the places in the state are of.
    """

    def __init__(self, state: SampleState, path: str, known: files.Identity | None, hold: HoldSegments) -> None:
        self.state, self.path, self._known, self._hold = state, path, known, hold
        self._own: BinaryIO | None = None  # entries that are IN_FILE are read from it
        self._opened = ExitStack()

    def write(self, beside: str) -> dict[int, int]:
        """See write_sample."""
        with self._opened:
            self._open()
            self._begin()
            try:
                file_id = files.replace_file(self.path, chunked(self._parts()), beside)
            except _Moved:  # somebody has written into the file; its inode, size and time may be the same all the same
                self._look_again()
                self._begin()
                try:
                    file_id = files.replace_file(self.path, chunked(self._parts()), beside)
                except _Moved:
                    raise OSError(errno.ESTALE, "changes while it is being read", self.path) from None
        freed = self._move_in()
        self.state.file_id = file_id
        return freed

    def _open(self) -> None:
        """Opens the sample's file, and finds its entries again where it is another one than the state knows."""
        try:
            file = files.open_reading(self.path)
        except FileNotFoundError:
            c = self.state.columns
            if (c is not None and IN_FILE in c.where) or any(o.where == IN_FILE for o in self.state.orphans):
                raise  # the run waits until it is back
            return
        self._own = self._opened.enter_context(file)
        if files.identity_of(os.fstat(file.fileno())) != self._known:
            self._look_again()

    def _begin(self) -> None:
        """Takes what the state holds now."""
        state = self.state
        with state.lock:
            self._read_segment = self._hold()
            state.freed.update(state.merge_pending())
            assert state.columns is not None
            self.c: Columns = state.columns.copy()
            self.makers = list(state.makers)
            self.orphans = list(state.orphans)
            self.max_seq = state.max_seq
        # position, offset and length in the new file; columns, since a large sample has very many
        self.placed = array("i"), array("q"), array("q")
        self.new_orphans: list[Orphan] = []

    def _look_again(self) -> None:
        """Finds the places of the state's entries in the file as it is, and takes over what the state doesn't know.

        What the state has in its file and the file lacks is lost: somebody has put another file there.
        """
        assert self._own is not None
        try:
            content: OwnFile | bytes | None = sample_file.read_any(self._own)
            old = parse_old(content) if isinstance(content, bytes) else None
        except (Unreadable, ValueError):
            content, old = None, None
        state = self.state
        with state.lock:
            state.freed.update(state.merge_pending())
            finder = _Finder(state)
        is_whole = False
        if isinstance(content, OwnFile) and content.sample_id in (state.sample_id, None):
            self._own = content.file
            finder.look_in(content)
            is_whole = not content.damaged
        elif old is not None and old.sample_id == state.sample_id:
            finder.look_in_old(old)
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
        """An entry's bytes, once it is sure that they are that entry's."""
        if where == IN_FILE:
            assert self._own is not None
            self._own.seek(offset)
            body = self._own.read(length)
        else:
            body = self._read_segment(where - IN_SEGMENT, offset, length)
        head = ENTRY_HEAD.match(body)
        if (
            head is None
            or len(body) != length
            or not body.endswith(b"}")
            or (bytes.fromhex(head[2].decode()) != key or int(head[4]) != seq)
        ):
            raise _Moved
        return body

    def _parts(self) -> Iterator[bytes]:
        """The file's bytes, piece by piece; notes on the way where each entry stands."""
        c, state = self.c, self.state
        positions_placed, offsets, lengths = self.placed
        first = sample_file.opening(state.sample_id)
        at = len(first)
        yield first
        orphans: dict[str, list[Orphan]] = {}
        for orphan in self.orphans:
            orphans.setdefault(orphan.group, []).append(orphan)
        groups = {
            g.name: [p for p in range(g.base, g.base + len(g.runnable)) if c.status[p]] for g in state.sample.groups
        }
        done: dict[str, int] = {}
        for name in [*groups, *(n for n in orphans if n not in groups)]:
            positions = groups.get(name, [])
            if name in groups:
                done[name] = sum(c.status[p] == DONE for p in positions)
            title = sample_file.group_opening(name)
            yield title
            at += len(title)
            more = len(positions) + len(orphans.get(name, ()))
            for where, body in self._bodies(positions, orphans.get(name, [])):
                if isinstance(where, int):
                    positions_placed.append(where)
                    offsets.append(at)
                    lengths.append(len(body))
                else:
                    self.new_orphans.append(where._replace(where=IN_FILE, offset=at, length=len(body), body=None))
                more -= 1
                yield body
                yield BETWEEN if more else b"\n"
                at += len(body) + (len(BETWEEN) if more else 1)
            yield b"],\n"
            at += 3
        yield from _closing(state, self._summarise(groups, done), done)

    def _bodies(self, positions: list[int], orphans: list[Orphan]) -> Iterator[tuple[int | Orphan, bytes]]:
        c = self.c
        for p in positions:
            body = c.bodies.get(p)
            group, rank = self.state.sample.locate(p)
            if body is None:
                body = self._body(c.where[p], c.offset[p], c.length[p], group.key(rank), c.seq[p])
            right = b'{"index":%d,' % group.runnable[rank]
            if not body.startswith(right):  # the item stands elsewhere in the dataset now
                body = right + body[body.index(b",") + 1 :]
            yield p, body
        for orphan in orphans:
            body = orphan.body or self._body(orphan.where, orphan.offset, orphan.length, orphan.key, orphan.seq)
            yield orphan, b'{"index":null' + body[body.index(b",") :]

    def _summarise(self, groups: dict[str, list[int]], done: dict[str, int]) -> dict[str, Any]:
        c = self.c
        errors = {name: sum(c.status[p] == ERROR for p in positions) for name, positions in groups.items()}
        verdicts, runs, contexts = Counter[str](), Counter[str](), Counter[str]()
        for number, count in Counter([m for m, s in zip(c.made, c.status, strict=True) if s == DONE]).items():
            verdict, run_id, context = self.makers[number]
            runs[run_id] += count
            contexts[context] += count
            if verdict is not None:
                verdicts[verdict] += count
        unexpected = 0
        if verdicts and self.state.is_judged:
            unexpected = sum(
                status == DONE and self.state.is_unexpected(p, self.makers[made][0])
                for p, (made, status) in enumerate(zip(c.made, c.status, strict=True))
            )
        return _summary(self.state, self.max_seq, done, errors, verdicts, runs, contexts, unexpected)

    def _move_in(self) -> dict[int, int]:
        """Notes in the state that the entries stand in the file now; entries saved meanwhile keep their place."""
        state = self.state
        with state.lock:
            state.freed.update(state.merge_pending())
            freed, state.freed = state.freed, Counter()
            now = state.columns
            assert now is not None
            for position, offset, length in zip(*self.placed, strict=True):
                if now.seq[position] == self.c.seq[position]:
                    old = now.where[position]
                    if old >= IN_SEGMENT:
                        freed[old - IN_SEGMENT] += 1
                    now.where[position], now.offset[position], now.length[position] = IN_FILE, offset, length
                    now.bodies.pop(position, None)
            state.kept_bytes = sum(map(len, now.bodies.values()))
            state.orphans = self.new_orphans
            state.file_seq = max(state.file_seq, self.max_seq)
        return freed


class _Finder:
    """Finds a state's entries in a file that isn't the one that the state knows.

    Made, and `settle` called, with the state's lock held; the rest reads the file, without it. The journal's thread may
    add newer entries to the state meanwhile.
    """

    def __init__(self, state: SampleState) -> None:
        self._book = state
        assert state.columns is not None
        self._places = positions_by_identity(state.sample)
        self._orphans = {(o.group, o.key, o.occurrence): o for o in state.orphans}
        self._seqs, self._status = state.columns.seq[:], state.columns.status[:]
        self._found: dict[int, tuple[EntryHead | OldMatch, bytes | None, Made | None]] = {}
        self._found_orphans: dict[Identity, Orphan] = {}

    def look_in(self, file: OwnFile) -> None:
        """Finds the entries of a file of nbrun's."""
        for h in file.heads:
            position = self._places.get(h.identity)
            if position is None:
                self._look_at_orphan(h, file)
                continue
            if h.seq == self._seqs[position]:
                self._found[position] = h, None, None
                continue
            is_newer = h.seq > self._seqs[position] and not (h.status == "error" and self._status[position] == DONE)
            entry = sample_file.parse_entry(file.body(h)) if is_newer else None
            if entry is not None:
                made = verdicts.counted(entry["result"]), entry["run_id"], entry["context"]
                self._found[position] = h, None, made
                self._seqs[position] = h.seq

    def _look_at_orphan(self, h: EntryHead, file: OwnFile) -> None:
        identity = h.identity
        known = self._orphans.get(identity)
        if (known is not None and known.seq > h.seq) or sample_file.parse_entry(file.body(h)) is None:
            return
        self._found_orphans[identity] = Orphan(*identity, h.seq, IN_FILE, h.offset, h.length, None)

    def look_in_old(self, old: OldFile) -> None:
        """Finds the entries of a file of the older program: what the state has itself counts."""
        for m in match_old(self._book.sample, old):
            row = old.groups[m.group][m.rank]
            if m.position is None:
                identity = Identity(m.group, m.key, m.occurrence)
                self._found_orphans.setdefault(identity, Orphan(*identity, 0, NOWHERE, 0, 0, old_body(row, m, old)))
            else:
                self._found[m.position] = m, old_body(row, m, old), (verdicts.counted(row.get("result")), "", "")

    def update(self) -> int:
        """Notes in the state what was found. Returns how many of its results are nowhere any more."""
        state = self._book
        state.freed.update(state.merge_pending())
        c = state.columns
        assert c is not None
        lost = 0
        for position in range(state.total):
            head, body, made = self._found.get(position, (None, None, None))
            if c.where[position] == IN_FILE and not (isinstance(head, EntryHead) and head.seq == c.seq[position]):
                lost += c.status[position] == DONE and head is None
                c.status[position], c.seq[position], c.where[position] = MISSING, 0, NOWHERE
            if isinstance(head, OldMatch) and c.status[position] == MISSING:
                state.place(position, 0, DONE, NOWHERE, 0, 0, made or (None, "", ""), body)
            elif isinstance(head, EntryHead) and head.seq > c.seq[position]:
                if c.where[position] >= IN_SEGMENT:
                    state.freed[c.where[position] - IN_SEGMENT] += 1
                code = DONE if head.status == "done" else ERROR
                c.bodies.pop(position, None)
                state.place(position, head.seq, code, IN_FILE, head.offset, head.length, made or (None, "", ""))
                state.max_seq = max(state.max_seq, head.seq)
            elif isinstance(head, EntryHead) and head.seq == c.seq[position] and c.where[position] == IN_FILE:
                c.offset[position], c.length[position] = head.offset, head.length
        orphans = {i: o for i, o in self._orphans.items() if o.where != IN_FILE} | self._found_orphans
        lost += len(self._orphans.keys() - orphans.keys())
        state.orphans = list(orphans.values())
        return lost


def chunked(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Joins small pieces, so that a file costs few writes."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= CHUNK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
