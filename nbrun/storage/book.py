"""One sample while it is open: which entry stands for each of its items, and where its bytes are.

Threads: a Book is made by the feeder. The journal's thread calls `settle`; one thread at a time files it (the files
thread, or a worker that helps). `lock` protects the columns; no I/O happens under it.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nbrun.model import CancelFlag, Task
from nbrun.samples import Sample, key_text
from nbrun.storage.format import dump

NOWHERE, IN_FILE = 0, 1  # values of `where`; a segment's number + IN_SEGMENT otherwise
IN_SEGMENT = 2
MISSING, DONE, ERROR = 0, 1, 2
#: Entries of one sample are kept in memory up to so many bytes, so that small samples are filed without reading back.
KEEP_BYTES = 1 << 20


class Orphan(NamedTuple):
    """An entry that matches no item of the dataset; it is kept in the file, with index null."""

    group: str
    key: bytes
    occurrence: int
    seq: int
    where: int
    offset: int
    length: int
    body: bytes | None  # the whole entry where it stands nowhere yet in nbrun's format


class Attempt(NamedTuple):
    """What is known of a task's earlier tries."""

    attempt: int
    hint: Mapping[str, Any]
    previous: Any


class Book:
    """The entries of one sample.

    Attributes:
        sample: the sample as it was read, or a stand-in made from a segment's header when recovering.
        name: its file's name.
        missing: positions to run.
    """

    def __init__(self, sample: Sample, name: str) -> None:
        self.sample, self.name = sample, name
        self.sample_id = sample.id
        self.number = -1  # on the progress board
        n = sample.total
        self.lock = threading.Lock()  # protects all below but the last block
        self.status = bytearray(n)
        self.seq = array("q", bytes(8 * n))
        self.where = array("l", bytes(8 * n))
        self.offset = array("q", bytes(8 * n))
        self.length = array("q", bytes(8 * n))
        self.made = array("l", bytes(8 * n))  # index into `makers`: verdict, run and context of an entry
        self.makers: list[tuple[str | None, str, str]] = [(None, "", "")]
        self._maker_of: dict[tuple[str | None, str, str], int] = {(None, "", ""): 0}
        self.bodies: dict[int, bytes] = {}
        self.kept_bytes = 0
        self.orphans: list[Orphan] = []
        self.max_seq = 0
        self.filed_seq = 0
        self.api_used = ""
        self.worker_id = ""
        # written by the feeder before any worker sees the book, read by workers
        self.missing: list[int] = []
        self.attempts: dict[int, Attempt] = {}
        self.whose = [b"\t" + dump([sample.id, g.name]) for g in sample.groups]
        # protected by the store's lock
        self.unsaved = 0
        self.ended = False
        self.filing = False
        self.header_in = -1  # the segment that holds its header; the journal's thread only
        self.dirty_since = 0.0
        self.file_cost_s = 0.0

    def task(self, position: int, flag: CancelFlag) -> Task:
        """See model.Work."""
        g, rank = self.sample.locate(position)
        index = g.runnable[rank]
        before = self.attempts.get(position)
        if before is None:
            return Task(self.sample_id, g.name, index, g.items[index], self.sample.raw, 1, {}, None, flag)
        return Task(
            self.sample_id, g.name, index, g.items[index], self.sample.raw,
            before.attempt + 1, dict(before.hint), before.previous, flag,
        )  # fmt: skip

    def group_number(self, position: int) -> int:
        """Which of the sample's groups a position belongs to."""
        groups = self.sample.groups
        number = len(groups) - 1
        while position < groups[number].base:
            number -= 1
        return number

    def head(self, position: int, group_number: int) -> bytes:
        """The first bytes of an entry, up to its seq."""
        g = self.sample.groups[group_number]
        rank = position - g.base
        return b'{"index":%d,"key":"k1:%b","occurrence":%d,"seq":' % (
            g.runnable[rank], g.keys[rank * 16 : rank * 16 + 16].hex().encode(), g.occurrence(rank),
        )  # fmt: skip

    def maker(self, verdict: str | None, run_id: str, context: str) -> int:
        """The number that stands for what an entry's summary needs. Call with `lock` held."""
        what = (verdict, run_id, context)
        number = self._maker_of.get(what)
        if number is None:
            number = self._maker_of[what] = len(self.makers)
            self.makers.append(what)
        return number

    def settle(self, position: int, seq: int, status: int, where: int, offset: int, length: int, made: int) -> int:
        """An entry is saved and stands there. Returns the segment that the entry it replaces stood in, or -1.

        Call with `lock` held.
        """
        old = self.where[position]
        self.status[position], self.seq[position] = status, seq
        self.where[position], self.offset[position], self.length[position] = where, offset, length
        self.made[position] = made
        if seq > self.max_seq:
            self.max_seq = seq
        return old - IN_SEGMENT if old >= IN_SEGMENT else -1

    def keep(self, position: int, body: bytes) -> None:
        """Keeps an entry's bytes for the next filing while there is room. Call with `lock` held."""
        if self.kept_bytes + len(body) <= KEEP_BYTES:
            self.bodies[position] = body
            self.kept_bytes += len(body)
        else:
            self.bodies.pop(position, None)

    def positions(self) -> Iterator[tuple[str, list[int]]]:
        """Group by group, the positions that have an entry."""
        for g in self.sample.groups:
            yield g.name, [p for p in range(g.base, g.base + len(g.runnable)) if self.status[p] != MISSING]

    @property
    def totals(self) -> dict[str, int]:
        """Group -> tasks."""
        return {g.name: len(g.runnable) for g in self.sample.groups}

    @property
    def is_complete(self) -> bool:
        """Every item has a result."""
        return self.status.count(DONE) == len(self.status)

    def header(self) -> bytes:
        """The body of its header record."""
        s = self.sample
        return dump({
            "id": s.id, "name": self.name, "totals": self.totals, "context": s.context, "identities": s.identities.hex(),
        })  # fmt: skip

    def identity(self, position: int) -> dict[str, Any]:
        """Key and occurrence of a position, as records hold them."""
        g, rank = self.sample.locate(position)
        return {"index": g.runnable[rank], "key": key_text(g.key(rank)), "occurrence": g.occurrence(rank)}
