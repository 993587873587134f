"""Writes a sample's file from its book: snapshot, stream, replace, and say where each entry stands now.

Threads: the files thread, a worker that helps, or the feeder; never two at once for one book (`Book.filing`).
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from nbrun.storage import files, samplefile
from nbrun.storage.book import DONE, ERROR, IN_FILE, IN_SEGMENT, Book, Columns, Fresh, Orphan
from nbrun.storage.format import BETWEEN, progress_object

CHUNK = 1 << 20
ReadSegment = Callable[[int, int, int], bytes]
HoldSegments = Callable[[], ReadSegment]


def write_sample(book: Book, folder: str, beside: str, hold: HoldSegments) -> dict[int, int]:
    """Replaces the sample's file by what the book holds, durably but for the folder's fsync.

    Returns:
        segment number -> how many entries of this book no longer need it.
    """
    if book.filed_whole:
        return {}
    path = os.path.join(folder, book.name)
    fresh = _all_in_memory(book)
    if fresh is not None:
        return _write_at_once(book, fresh, path, beside)
    return _Filing(book, path, hold).write(beside)


# ---- a sample that was run in one go


def _all_in_memory(book: Book) -> list[Fresh] | None:
    """Its entries, each once, in the order of their positions; None where some stand elsewhere."""
    with book.lock:
        if book.columns is not None or book.orphans or len(book.fresh) != book.total:
            return None
        fresh = sorted(book.fresh)
    if [f[0] for f in fresh] != list(range(book.total)):
        return None  # one was saved twice, another is missing
    return fresh


def _write_at_once(book: Book, fresh: list[Fresh], path: str, beside: str) -> dict[int, int]:
    _, seqs, codes, wheres, _, _, verdicts, bodies = zip(*fresh, strict=True) if fresh else ((),) * 8
    max_seq = max(seqs, default=0)
    has_errors = codes.count(DONE) < len(codes)
    judged = [f[6] for f in fresh if f[2] == DONE] if has_errors else verdicts
    inside = [(BETWEEN.join(bodies[g.base : g.base + len(g.runnable)]),) for g in book.sample.groups]
    parts = lay_out_whole(book, inside, codes, judged, max_seq)
    files.replace_file(path, (b"".join(parts),), beside)
    with book.lock:
        book.filed_seq = max(book.filed_seq, max_seq)
        later = book.fresh[len(fresh) :]
        book.fresh = []
        if later or has_errors:  # more entries have come or may come
            _stand_in_file(book, fresh)
            book.fresh = later
        else:
            book.filed_whole = True
        book.kept_bytes = sum([f[5] for f in later])
    return {where - IN_SEGMENT: n for where, n in Counter(wheres).items()}


def lay_out_whole(
    book: Book, inside: Sequence[Iterable[bytes]], codes: Sequence[int], verdicts: Iterable[str | None], max_seq: int
) -> list[bytes]:
    """The file, in pieces, of a sample that has one entry for each of its tasks.

    Args:
        inside: for each group its entries and what stands between them, in pieces.
        codes: the entries' statuses, in the order of their positions.
        verdicts: of those that are done.
    """
    parts = [samplefile.opening(book.sample_id)]
    done: dict[str, int] = {}
    errors: dict[str, int] = {}
    for g, entries in zip(book.sample.groups, inside, strict=True):
        end = g.base + len(g.runnable)
        parts += [samplefile.group_opening(g.name), *entries, b"\n],\n" if g.runnable else b"],\n"]
        done[g.name] = codes[g.base : end].count(DONE)
        errors[g.name] = codes[g.base : end].count(ERROR)
    judged = list(verdicts)
    counts = Counter(judged)
    without = counts.pop(None, 0)
    count = counts.total() + without
    made = {book.run_id: count} if count else {}
    unexpected = 0
    if counts and book.is_judged:
        done_at = (p for p, code in enumerate(codes) if code == DONE)
        unexpected = sum(map(book.is_unexpected, done_at, judged))
    contexts = {book.sample.context: count} if count else {}
    summary = _summary(book, max_seq, done, errors, counts, made, contexts, unexpected)
    return parts + _closing(book, summary, done)


def _stand_in_file(book: Book, fresh: list[Fresh]) -> None:
    """Notes in the columns where the entries stand now. Called with the book's lock held."""
    at = len(samplefile.opening(book.sample_id))
    for g in book.sample.groups:
        at += len(samplefile.group_opening(g.name))
        for position, seq, code, _, _, length, verdict, _ in fresh[g.base : g.base + len(g.runnable)]:
            book.place(position, seq, code, IN_FILE, at, length, (verdict, book.run_id, book.context))
            at += length + len(BETWEEN)
        at += 2 if g.runnable else 3


def _summary(
    book: Book, max_seq: int, done: dict[str, int], errors: dict[str, int], verdicts: Any, runs: Any, contexts: Any,
    unexpected: int,
) -> dict[str, Any]:  # fmt: skip
    summary = {
        "max_seq": max_seq, "identities": book.sample.identities.hex(), "done": sum(done.values()),
        "errors": errors, "verdicts": verdicts, "runs": runs, "contexts": contexts,
    }  # fmt: skip
    return summary | {"unexpected": unexpected} if book.is_judged else summary


def _closing(book: Book, summary: dict[str, Any], done: dict[str, int]) -> list[bytes]:
    totals = book.totals
    layout = samplefile.Layout(book.sample_id, totals, done, done == totals, summary, book.api_used, book.worker_id)
    return [samplefile.closing(layout, progress_object(totals, done, layout.is_complete))]


# ---- any other sample


class _Filing:
    """One writing of a sample whose entries stand in segments, in its file, or in memory."""

    def __init__(self, book: Book, path: str, hold: HoldSegments) -> None:
        self.book, self.path = book, path
        with book.lock:
            self._read_segment = hold()
            self.replaced = book.fold()
            assert book.columns is not None
            self.c: Columns = book.columns.copy()
            self.makers = list(book.makers)
            self.orphans = list(book.orphans)
            self.max_seq = book.max_seq
        # position, offset and length in the new file; columns, since a large sample has very many
        self.placed = array("i"), array("q"), array("q")
        self.new_orphans: list[Orphan] = []
        self._own = -1

    def write(self, beside: str) -> dict[int, int]:
        """See write_sample."""
        try:
            if IN_FILE in self.c.where or any(o.where == IN_FILE for o in self.orphans):
                self._own = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            files.replace_file(self.path, chunked(self._parts()), beside)
        finally:
            if self._own >= 0:
                os.close(self._own)
        return self._move_in()

    def _body(self, where: int, offset: int, length: int) -> bytes:
        if where == IN_FILE:
            return files.read_at(self._own, offset, length)
        return self._read_segment(where - IN_SEGMENT, offset, length)

    def _parts(self) -> Iterator[bytes]:
        """The file's bytes, piece by piece; notes on the way where each entry stands."""
        c, book = self.c, self.book
        positions_placed, offsets, lengths = self.placed
        first = samplefile.opening(book.sample_id)
        at = len(first)
        yield first
        orphans: dict[str, list[Orphan]] = {}
        for orphan in self.orphans:
            orphans.setdefault(orphan.group, []).append(orphan)
        groups = {
            g.name: [p for p in range(g.base, g.base + len(g.runnable)) if c.status[p]] for g in book.sample.groups
        }
        done: dict[str, int] = {}
        for name in [*groups, *(n for n in orphans if n not in groups)]:
            positions = groups.get(name, [])
            if name in groups:
                done[name] = sum(c.status[p] == DONE for p in positions)
            title = samplefile.group_opening(name)
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
        yield from _closing(book, self._summarise(groups, done), done)

    def _bodies(self, positions: list[int], orphans: list[Orphan]) -> Iterator[tuple[int | Orphan, bytes]]:
        c = self.c
        for p in positions:
            body = c.bodies.get(p)
            if body is None:
                body = self._body(c.where[p], c.offset[p], c.length[p])
            group, rank = self.book.sample.locate(p)
            right = b'{"index":%d,' % group.runnable[rank]
            if not body.startswith(right):  # the item stands elsewhere in the dataset now
                body = right + body[body.index(b",") + 1 :]
            yield p, body
        for orphan in orphans:
            body = orphan.body or self._body(orphan.where, orphan.offset, orphan.length)
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
        if verdicts and self.book.is_judged:
            unexpected = sum(
                status == DONE and self.book.is_unexpected(p, self.makers[made][0])
                for p, (made, status) in enumerate(zip(c.made, c.status, strict=True))
            )
        return _summary(self.book, self.max_seq, done, errors, verdicts, runs, contexts, unexpected)

    def _move_in(self) -> dict[int, int]:
        """Notes in the book that the entries stand in the file now; entries saved meanwhile keep their place."""
        freed: Counter[int] = Counter(self.replaced)
        book = self.book
        with book.lock:
            freed.update(book.fold())
            now = book.columns
            assert now is not None
            for position, offset, length in zip(*self.placed, strict=True):
                if now.seq[position] == self.c.seq[position]:
                    old = now.where[position]
                    if old >= IN_SEGMENT:
                        freed[old - IN_SEGMENT] += 1
                    now.where[position], now.offset[position], now.length[position] = IN_FILE, offset, length
                    now.bodies.pop(position, None)
            book.kept_bytes = sum(map(len, now.bodies.values()))
            book.orphans = self.new_orphans
            book.filed_seq = max(book.filed_seq, self.max_seq)
        return freed


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
