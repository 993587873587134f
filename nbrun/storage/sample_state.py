"""The state of a sample while it is open: the saved entry of each of its items, and where the entry's bytes are.

Most samples are read, run and written in one go: they have only `pending` entries, and no columns are made for them.

Threads: the feeder makes a SampleState. The journal's thread calls `acknowledge`; one thread at a time writes the
sample's file (one of the compactor's, or the feeder). `lock` protects what they share; no I/O happens under it.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from struct import unpack_from
from typing import Any

from nbrun import verdicts
from nbrun.canonical import KEY_BYTES, blake2b, key_text
from nbrun.model import CancelFlag, Record, Task, first_attempt
from nbrun.results.replay import Attempt
from nbrun.results.sample_file import IN_SEGMENT, NOWHERE, EntryCounts, Footer, Maker, Stored
from nbrun.results.values import dump
from nbrun.samples import SCALARS, Sample, fresh_copy
from nbrun.storage.files import FileId
from nbrun.storage.match import Retyped
from nbrun.tuning import TUNING

#: Status codes of an item.
MISSING, DONE, ERROR = 0, 1, 2
#: How many bytes of entries of one sample are kept in memory, so that small samples are written without reading back.
KEEP_BYTES = 1 << 20
_ONCE = bytes(4)  # the occurrence of an item that no equal one precedes
#: This many pending entries are merged into the columns, which take a tenth of the memory.
MAX_PENDING = 2000
#: How many levels deep a sample's size is estimated.
ROUGH_LEVELS = 5
_KEY = f"{KEY_BYTES}s"


#: An entry as it was saved: position, seq, status code, where, offset, length, verdict, and its bytes (None where they
#: must be read back). A plain tuple, since one is made for every result: a NamedTuple takes three times as long.
SavedEntry = tuple[int, int, int, int, int, int, str | None, bytes | None]


#: Stands for the maker of an item without an entry, and of an old entry without a verdict.
NO_MAKER = Maker(None, "", "")


class Columns:
    """The saved entry of each item, by position. 33 bytes per item, and only for samples that are open."""

    def __init__(self, n: int) -> None:
        self.status = bytearray(n)
        self.seq = array("q", bytes(8 * n))
        self.where = array("i", bytes(4 * n))
        self.offset = array("q", bytes(8 * n))
        self.length = array("q", bytes(8 * n))
        self.made = array("i", bytes(4 * n))  # index into SampleState.makers: verdict, run and context of an entry
        self.bodies: dict[int, bytes] = {}

    def copy(self) -> Columns:
        """Return a copy of the columns as they are now."""
        out = Columns(0)
        out.status, out.seq, out.where = self.status[:], self.seq[:], self.where[:]
        out.offset, out.length, out.made = self.offset[:], self.length[:], self.made[:]
        out.bodies = dict(self.bodies)
        return out


class SampleState:
    """The entries of one sample.

    Attributes:
        sample: the sample as it was read.
        name: its file's name.
        run_id: of the run that makes new entries.
        keep_items: store each item in its entry.
        missing: positions to run.
    """

    # Slots: a dictionary of more than 30 attributes takes several times as long for each look-up.
    __slots__ = (  # noqa: SIM905 - a list would take a line for each
        "_expected _fingerprint_heads _maker_of _shown api_used attempts columns context dirty_since ended "
        "extra file_cost_s file_crc file_id file_seq filing freed has_plain_items header_in hex_keys "
        "is_closed is_foreign is_judged keep_items kept_bytes lock makers max_seq missing name number orphans "
        "pending places problem quarantined retyped run_id sample sample_id total unsaved whose worker_id"
    ).split()

    def __init__(self, sample: Sample, name: str, run_id: str = "", keep_items: bool = True) -> None:
        self.sample, self.name, self.run_id, self.keep_items = sample, name, run_id, keep_items
        self.sample_id = sample.id
        self.number = -1  # on the progress tracker
        self.total = sample.total
        self.lock = threading.Lock()  # protects this block
        self.pending: list[SavedEntry] = []
        self.kept_bytes = 0
        self.columns: Columns | None = None
        self.makers: list[Maker] = [NO_MAKER]
        self._maker_of: dict[Maker, int] = {NO_MAKER: 0}
        self.orphans: list[Stored] = []  # entries that match no item of the dataset; the file keeps them, index null
        self.max_seq = 0
        self.file_seq = 0
        self.freed = Counter[int]()  # segment -> entries in it that were replaced and must be reported to it
        self.is_closed = False  # all entries are in the file and none will follow: nothing is kept here
        self.api_used = ""
        self.worker_id = ""
        self.extra: Mapping[str, bytes] = {}  # keys that another tool has added to its file -> their values as JSON
        self.retyped: Sequence[Retyped] = ()  # see ResumePlan; the feeder only
        self.is_foreign = False  # another tool has re-serialised its file; the feeder only
        # written by the feeder before any worker sees the state, read by workers
        self.missing: Iterable[int] = ()
        self.quarantined: Iterable[int] = ()
        self.has_plain_items = all(g.is_plain for g in sample.groups)
        self._shown: Mapping[str, object] | None = None  # the sample as tasks see it: a copy, which fn may change
        self.attempts: dict[int, Attempt] = {}
        self.whose = [b"\t" + dump([sample.id, g.name]) for g in sample.groups]
        self._fingerprint_heads = [blake2b(whose, digest_size=12).digest() for whose in self.whose]
        self.hex_keys = [_hex_keys(g.keys) for g in sample.groups]
        self.places = [(g.base, number, g) for number, g in enumerate(sample.groups)][::-1]  # the last group first
        self._expected = [(base, verdicts.expected(g.name)) for base, _, g in self.places]
        self.is_judged = any(expected is not None for _, expected in self._expected)
        self.context = sample.context
        self.unsaved = 0  # under the journal's lock
        self.ended = False  # under the store's lock
        self.filing = False  # under the compactor's lock
        # Only the thread that writes the file: the file in which entries that are IN_FILE have their places. None where
        # there is no file, or where it isn't known which file is there now: then it is scanned before it is used.
        self.file_id: FileId | None = None
        # The CRC-32 of that file where its entries are in the order of their positions, each with its index now: such
        # entries are copied many at a time. Else None.
        self.file_crc: int | None = None
        self.problem = ""  # a problem of the file, found while it was written; completes "PATH …"
        self.header_in = -1  # the segment that holds its header; the journal's thread only
        self.dirty_since = 0.0
        self.file_cost_s = 0.0

    # ---- workers

    def item(self, position: int) -> object:
        """See model.SampleTasks."""
        group, rank = self.sample.locate(position)
        return group.items[group.runnable[rank]]

    def task(self, position: int, flag: CancelFlag) -> Task:
        """See model.SampleTasks."""
        for base, _, g in self.places:  # noqa: B007
            if position >= base:
                break
        index = g.runnable[position - base]
        item, sample = g.items[index], self._shown
        if sample is None or not self.has_plain_items:
            item, sample = self._shown_to_task(item)
        before = self.attempts.get(position) if self.attempts else None
        if before is None:
            return first_attempt(self.sample_id, g.name, index, item, sample, flag)
        return Task(
            self.sample_id,
            g.name,
            index,
            item,
            sample,
            before.attempt + 1,
            dict(before.hint),
            before.previous,
            flag,
            before.exceptions,
            before.waits_since,
        )

    def _shown_to_task(self, item: Any) -> tuple[Any, Any]:
        """Return copies of an item and of the sample, which a task may change. All tasks share that of the sample."""
        shown = item if type(item) in SCALARS else fresh_copy(item)
        if item is self.sample.raw:
            return shown, shown
        if self._shown is None:  # two threads may both copy it: either copy will do
            self._shown = fresh_copy(self.sample.raw)
        return shown, self._shown

    def fingerprints(self, positions: list[int]) -> bytes:
        """See model.SampleTasks."""
        out = []
        for base, number, g in self.places:
            here = [p - base for p in positions if p >= base] if base else positions
            if not here:
                continue
            keys, prefix = g.keys, self._fingerprint_heads[number]
            if g.occurrences is None:
                prefix += _ONCE
                out += [prefix, prefix.join(_keys_at(keys, here))]
            else:
                times = g.occurrences
                out += [prefix + times[r].to_bytes(4, "little") + keys[16 * r : 16 * r + 16] for r in here]
            if len(here) == len(positions):
                break
            positions = [p for p in positions if p < base]
        return b"".join(out)

    def tally(self, records: Iterable[Record]) -> verdicts.Tally:
        """See model.SampleTasks."""
        if not self.is_judged:
            return verdicts.Tally()
        if len(self._expected) == 1:
            return verdicts.tally_of_group(self._expected[0][1], verdicts.count([record[1] for record in records]))
        return verdicts.tally([(self._expects(record[0]), record[1]) for record in records])

    def _expects(self, position: int) -> bool | None:
        for base, expected in self._expected:  # a generator would take twice the time
            if position >= base:
                return expected
        raise IndexError(position)

    def unexpected_of(self, group: str, judged: Sequence[str | None]) -> int:
        """Count the verdicts of a group's items that are not what the group says."""
        return verdicts.tally_of_group(verdicts.expected(group), verdicts.count(judged)).unexpected

    def done_by_maker(self, c: Columns, left_out: Collection[int] = ()) -> list[Counter[int]]:
        """Return, for each group, how many results each maker has made: its number -> how many.

        Args:
            c: the columns to count, of this state.
            left_out: positions that don't count.
        """
        out = []
        for g in self.sample.groups:
            places = slice(g.base, g.base + len(g.runnable))
            status, made = c.status[places], c.made[places]
            is_all_done = status.count(DONE) == len(status)
            out.append(Counter(made if is_all_done else compress(made, map(DONE.__eq__, status))))
        for position in left_out:
            if c.status[position] == DONE:
                out[self.group_number(position)][c.made[position]] -= 1
        return [+counts for counts in out]

    def counts_of(self, done: Sequence[Counter[int]]) -> EntryCounts:
        """Count what `done_by_maker` returns as a file's summary does."""
        counts = EntryCounts()
        for g, of_group in zip(self.sample.groups, done, strict=True):
            for number, n in of_group.items():
                counts.add_results(g.name, self.makers[number], n)
        return counts

    def tally_of(self, done: Sequence[Counter[int]]) -> verdicts.Tally:
        """Count what `done_by_maker` returns by what the groups expect."""
        total = verdicts.Tally()
        for g, of_group in zip(self.sample.groups, done, strict=True):
            judged = Counter[str | None]()
            for number, n in of_group.items():
                judged[self.makers[number].verdict] += n
            total = total.plus(verdicts.tally_of_group(verdicts.expected(g.name), judged))
        return total

    def footer(self, counts: EntryCounts) -> Footer:
        """Return what the sample's file says after entries that were counted so."""
        totals = self.totals
        done = {group: counts.done[group] for group in totals}
        summary = counts.summary(totals, self.sample.identities.hex())
        return Footer(self.sample_id, totals, done, done == totals, summary, self.api_used, self.worker_id, self.extra)

    def forget_copies(self) -> None:
        """Release the copy of the sample that `fn` got: none of its tasks runs."""
        self._shown = None

    def rough_bytes(self) -> int:
        """See model.SampleTasks."""
        return rough_bytes(self.sample.raw)

    def group_number(self, position: int) -> int:
        """Return the number of the group that a position belongs to."""
        for base, number, _ in self.places:  # a generator would take twice the time
            if position >= base:
                return number
        raise IndexError(position)

    # ---- the journal's thread and the thread that writes the file; with `lock` held

    def acknowledge(self, saved: list[SavedEntry], size: int) -> dict[int, int]:
        """Record saved entries. Return how many entries in segments they replace, by segment."""
        assert not self.is_closed
        self.pending += saved
        self.kept_bytes += size
        self.max_seq = saved[-1][1]
        if self.kept_bytes > KEEP_BYTES or len(self.pending) > MAX_PENDING or self.columns is not None:
            return self.merge_pending(keep=self.kept_bytes <= KEEP_BYTES)
        return {}

    def merge_pending(self, keep: bool = True) -> dict[int, int]:
        """Move pending entries into the columns. Return how many entries in segments they replace, by segment."""
        if self.columns is None:
            self.columns = Columns(self.total)
        c = self.columns
        freed: dict[int, int] = {}
        for p, seq, code, where, offset, length, verdict, body in self.pending:
            old = c.where[p]
            if old >= IN_SEGMENT:
                freed[old - IN_SEGMENT] = freed.get(old - IN_SEGMENT, 0) + 1
            c.status[p], c.seq[p], c.where[p], c.offset[p], c.length[p] = code, seq, where, offset, length
            c.made[p] = self.maker(verdict, self.run_id, self.context)
            if keep and body is not None:
                c.bodies[p] = body
            else:
                c.bodies.pop(p, None)
        self.pending = []
        if not keep:
            c.bodies = {p: body for p, body in c.bodies.items() if c.where[p] == NOWHERE}
            self.kept_bytes = 0
        return freed

    def place(self, position: int, s: Stored, made: Maker) -> None:
        """Record a saved entry of an item; its bytes are kept here if `s` holds them."""
        if self.columns is None:
            self.columns = Columns(self.total)
        c = self.columns
        c.status[position], c.seq[position] = DONE if s.status == "done" else ERROR, s.seq
        c.where[position], c.offset[position], c.length[position] = s.where, s.offset, s.length
        c.made[position] = self.maker(*made)
        if s.body is not None:
            c.bodies[position] = s.body

    def maker(self, verdict: str | None, run_id: str, context: str) -> int:
        """Return the number for a verdict, run and context, which is what the summary needs of an entry."""
        what = Maker(verdict, run_id, context)
        number = self._maker_of.get(what)
        if number is None:
            number = self._maker_of[what] = len(self.makers)
            self.makers.append(what)
        return number

    # ---- any thread

    @property
    def is_behind(self) -> bool:
        """True while there are saved entries that its file does not hold."""
        return self.file_seq < self.max_seq and not self.is_closed

    @property
    def totals(self) -> dict[str, int]:
        """Return the number of tasks in each group."""
        return {g.name: len(g.runnable) for g in self.sample.groups}

    def header(self) -> bytes:
        """Return the body of its header record."""
        s = self.sample
        name = self.name.encode("utf-8", "ignore").decode()  # a name that is no text is found by its file
        return dump(
            {
                "id": s.id,
                "name": name if name == self.name else "",
                "totals": self.totals,
                "context": s.context,
                "identities": s.identities.hex(),
            }
        )

    def identity(self, position: int) -> dict[str, object]:
        """Return index, key and occurrence of a position as records hold them."""
        g, rank = self.sample.locate(position)
        return {"index": g.runnable[rank], "key": key_text(g.key(rank)), "occurrence": g.occurrence(rank)}


class _HexKeys(Sequence[bytes]):
    """The keys of a large group in hexadecimal digits, each made when it is asked for: a list takes 73 bytes a key."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys) // KEY_BYTES

    def __getitem__(self, rank: Any) -> Any:
        key = self._keys[KEY_BYTES * rank : KEY_BYTES * rank + KEY_BYTES]
        if not key:
            raise IndexError(rank)
        return key.hex().encode()


def _hex_keys(keys: bytes) -> Sequence[bytes]:
    """Return the keys of a group in hexadecimal digits."""
    return keys.hex(" ", KEY_BYTES).encode().split() if len(keys) <= TUNING.max_hex_keys * KEY_BYTES else _HexKeys(keys)


def _keys_at(keys: bytes, ranks: list[int]) -> Sequence[bytes]:
    """Return the keys of these ranks. Neighbours, which a worker mostly takes, are cut by one call."""
    first, count = ranks[0], len(ranks)
    if ranks == list(range(first, first + count)):
        return unpack_from(_KEY * count, keys, KEY_BYTES * first)
    return [keys[16 * rank : 16 * rank + 16] for rank in ranks]


def rough_bytes(value: Any, depth: int = 0) -> int:
    """Return roughly how many bytes of memory a value takes with what it holds, a few levels deep; at least one."""
    size = getattr(value, "nbytes", None)
    if not isinstance(size, int):
        size = sys.getsizeof(value, 64)
    if depth < ROUGH_LEVELS:
        if isinstance(value, Mapping):
            size += sum(rough_bytes(v, depth + 1) for v in value.values())
        elif isinstance(value, (list, tuple)):
            size += sum(rough_bytes(v, depth + 1) for v in value)
    return max(1, size)
