"""Writes a sample's file from its book: snapshot, stream, replace, and say where each entry stands now.

Threads: the files thread, a worker that helps, or the feeder; never two at once for one book (`Book.filing`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbrun.storage import files, samplefile
from nbrun.storage.book import DONE, ERROR, IN_FILE, IN_SEGMENT, Book, Orphan
from nbrun.storage.format import progress_object

CHUNK = 1 << 20
ReadSegment = Callable[[int, int, int], bytes]


class _Snapshot:
    """A book's columns at one moment, in the order of the file."""

    def __init__(self, book: Book) -> None:
        with book.lock:
            self.groups = [(name, positions) for name, positions in book.positions()]
            self.status = bytes(book.status)
            self.seq, self.where = book.seq[:], book.where[:]
            self.offset, self.length = book.offset[:], book.length[:]
            self.made = book.made[:]
            self.makers = list(book.makers)
            self.bodies = dict(book.bodies)
            self.orphans = list(book.orphans)
            self.max_seq = book.max_seq
            self.api_used, self.worker_id = book.api_used, book.worker_id


def write_sample(book: Book, folder: Path, beside: Path, read_segment: ReadSegment) -> dict[int, int]:
    """Replaces the sample's file by what the book holds, durably but for the folder's fsync.

    Returns:
        segment number -> how many entries of this book no longer need it.
    """
    shot = _Snapshot(book)
    path = folder / book.name
    own: int | None = None
    try:
        needs_file = any(w == IN_FILE for w in shot.where) or any(o.where == IN_FILE for o in shot.orphans)
        if needs_file:
            own = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        placed: list[tuple[int, int, int]] = []  # position, offset, length in the new file
        orphans: list[Orphan] = []
        files.replace_file(path, chunked(_parts(book, shot, own, read_segment, placed, orphans)), beside)
    finally:
        if own is not None:
            os.close(own)
    return _move_in(book, shot, placed, orphans)


def _body(where: int, offset: int, length: int, own: int | None, read_segment: ReadSegment) -> bytes:
    if where == IN_FILE:
        assert own is not None
        return files.read_at(own, offset, length)
    return read_segment(where - IN_SEGMENT, offset, length)


def _parts(
    book: Book, shot: _Snapshot, own: int | None, read_segment: ReadSegment,
    placed: list[tuple[int, int, int]], orphans: list[Orphan],
) -> Iterator[bytes]:  # fmt: skip
    """The file's bytes, piece by piece; notes on the way where each entry stands."""
    first = samplefile.opening(book.sample_id)
    at = len(first)
    yield first
    by_group: dict[str, list[Orphan]] = {}
    for orphan in shot.orphans:
        by_group.setdefault(orphan.group, []).append(orphan)
    groups = shot.groups + [(name, []) for name in by_group if name not in dict(shot.groups)]
    for name, positions in groups:
        title = samplefile.group_opening(name)
        yield title
        at += len(title)
        more = len(positions) + len(by_group.get(name, ()))
        for position in positions:
            body = shot.bodies.get(position)
            if body is None:
                body = _body(shot.where[position], shot.offset[position], shot.length[position], own, read_segment)
            placed.append((position, at, len(body)))
            more -= 1
            yield body
            yield b",\n" if more else b"\n"
            at += len(body) + (2 if more else 1)
        for orphan in by_group.get(name, ()):
            body = orphan.body or _body(orphan.where, orphan.offset, orphan.length, own, read_segment)
            body = b'{"index":null' + body[body.index(b",") :]
            orphans.append(orphan._replace(where=IN_FILE, offset=at, length=len(body), body=None))
            more -= 1
            yield body
            yield b",\n" if more else b"\n"
            at += len(body) + (2 if more else 1)
        yield b"],\n"
        at += 3
    layout = _layout(book, shot)
    yield samplefile.closing(layout, progress_object(layout.totals, layout.completed, layout.is_complete))


def _layout(book: Book, shot: _Snapshot) -> samplefile.Layout:
    status, made, makers = shot.status, shot.made, shot.makers
    completed: dict[str, int] = {}
    errors: dict[str, int] = {}
    verdicts: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    contexts: Counter[str] = Counter()
    for name, positions in shot.groups:
        completed[name] = sum(status[p] == DONE for p in positions)
        errors[name] = sum(status[p] == ERROR for p in positions)
        for number, count in Counter(made[p] for p in positions if status[p] == DONE).items():
            verdict, run_id, context = makers[number]
            runs[run_id] += count
            contexts[context] += count
            if verdict is not None:
                verdicts[verdict] += count
    totals = book.totals
    complete = completed == totals
    summary: dict[str, Any] = {
        "max_seq": shot.max_seq, "identities": book.sample.identities.hex(), "done": sum(completed.values()),
        "errors": errors, "verdicts": verdicts, "runs": runs, "contexts": contexts,
    }  # fmt: skip
    return samplefile.Layout(book.sample_id, totals, completed, complete, summary, shot.api_used, shot.worker_id)


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


def _move_in(book: Book, shot: _Snapshot, placed: list[tuple[int, int, int]], orphans: list[Orphan]) -> dict[int, int]:
    """Notes in the book that the entries stand in the file now; entries saved meanwhile keep their place."""
    freed: Counter[int] = Counter()
    with book.lock:
        for position, offset, length in placed:
            if book.seq[position] == shot.seq[position]:
                old = book.where[position]
                if old >= IN_SEGMENT:
                    freed[old - IN_SEGMENT] += 1
                book.where[position], book.offset[position], book.length[position] = IN_FILE, offset, length
                book.bodies.pop(position, None)
        book.kept_bytes = sum(map(len, book.bodies.values()))
        book.orphans = orphans
        book.filed_seq = max(book.filed_seq, shot.max_seq)
    return freed
