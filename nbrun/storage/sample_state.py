"""The state of a sample while it is open: the saved entry of each of its items, and where the entry's bytes are.

Most samples are read, run and written in one go: they have only `pending` entries, and no columns are made for them.
`match_own` finds the items of a file's entries; an index beside a large file holds its columns.

Threads: the feeder makes a SampleState. The journal's thread calls `acknowledge`; one thread at a time writes the
sample's file (one of the compactor's, or the feeder). `lock` protects what they share; no I/O happens under it.
"""

from __future__ import annotations

import os
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, compress
from pathlib import Path
from struct import unpack_from
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

from nbrun import verdicts
from nbrun.canonical import KEY_BYTES, blake2b
from nbrun.model import CancelFlag, Record, Task, first_attempt
from nbrun.results import plain_files
from nbrun.results.format import BETWEEN, FOLDER, SUFFIX, Entry, head_of, temporary
from nbrun.results.replay import Attempt
from nbrun.results.sample_file import (
    CHUNK_BYTES,
    IN_FILE,
    IN_SEGMENT,
    NOWHERE,
    EntryCounts,
    Footer,
    Identity,
    Maker,
    OldFile,
    OldMatch,
    OwnFile,
    Stored,
    is_count,
    keep_newest,
    maker_of,
    old_entry,
    old_stored,
    parse_entry,
)
from nbrun.results.values import dump, load
from nbrun.samples import SCALARS, Group, Sample, fresh_copy
from nbrun.storage import files
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


#: The maker of an item without an entry, and of an old entry without a verdict.
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
        "pending places problem quarantined run_id sample sample_id total unsaved whose worker_id"
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
        self.file_id: files.FileId | None = None
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
        c = self.made_columns()
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

    def made_columns(self) -> Columns:
        """Return the columns, which are made for the first entry."""
        if self.columns is None:
            self.columns = Columns(self.total)
        return self.columns

    def place(self, position: int, s: Stored, made: Maker) -> None:
        """Record a saved entry of an item; its bytes are kept here if `s` holds them."""
        c = self.made_columns()
        c.status[position], c.seq[position] = DONE if s.status == "done" else ERROR, s.seq
        c.where[position], c.offset[position], c.length[position] = s.where, s.offset, s.length
        c.made[position] = self.maker(*made)
        if s.body is not None:
            c.bodies[position] = s.body

    def place_entry(self, position: int, s: Stored, entry: Entry) -> None:
        """Record a saved entry of an item, and who made it."""
        self.place(position, s, maker_of(entry))
        self.api_used = entry["api_used"] or self.api_used
        self.worker_id = entry["worker_id"] or self.worker_id

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


# ---- the entries of a file, matched with the items of a sample: by identity, never by place
#
# Each entry is used once; what matches no item is an orphan and is kept. Which item an entry of the older program
# belongs to is decided by `match_old`.

#: No item of any group has been matched already.
NOTHING: Mapping[str, int] = MappingProxyType({})


def positions_by_identity(sample: Sample, matched: Mapping[str, int] = NOTHING) -> dict[Identity, int]:
    """Return identity -> position for every task of the sample that isn't `matched`."""
    return {
        Identity(g.name, g.key(rank), g.occurrence(rank)): g.base + rank
        for g in sample.groups
        for rank in range(matched.get(g.name, 0), len(g.runnable))
    }


class Matched(NamedTuple):
    """An entry of a file.

    Attributes:
        position: of its item; None for an orphan.
        stored: with the entry's bytes, unless they are in the file as it is.
        entry: what it holds.
    """

    position: int | None
    stored: Stored
    entry: Entry


def match_own(
    sample: Sample, own: OwnFile, matched: Mapping[str, int] = NOTHING, *, with_bodies: bool = False
) -> Iterator[Matched]:
    """Match the entries of a file in nbrun's format (F4). A damaged entry is left out, and counted in `own.damaged`.

    Args:
        matched: group -> how many of its first items have been matched already.
        with_bodies: read the bytes too, as is done for a file that another tool has re-serialised.
    """
    places = positions_by_identity(sample, matched)
    found: dict[int, Stored] = {}
    orphans: list[Stored] = []
    for head in own.heads:
        position = places.get(head.identity)
        if position is None:
            orphans.append(head)
        else:
            keep_newest(found, position, head)
    for position, head in chain(found.items(), ((None, orphan) for orphan in orphans)):
        body = own.body(head)
        entry = parse_entry(body)
        if entry is None:
            own.damaged += 1
            continue
        if with_bodies or own.is_foreign:
            head = head._replace(where=NOWHERE, body=body)
        yield Matched(position, head, entry)


def match_rows(old: OldFile, matches: Iterable[OldMatch]) -> Iterator[Matched]:
    """Return the entries of a file of the older program, which `match_old` has matched."""
    for m in matches:
        yield Matched(m.position, old_stored(m, old), old_entry(old.groups[m.group][m.rank], m, old))


# ---- the index of a large sample's file: opening the sample costs by what is new in it
#
# `.nbrun/cache/NAME.index` holds what a run keeps of each saved entry (see Columns), by position, and a digest of each
# block of items. Where the dataset begins with the same blocks, their entries are taken from the index, and only the
# rest of the file is searched for entries. It counts for the file of the very size and CRC-32 that it names: so no
# entry in it is damaged. Derived data with a checksum: deleting it costs only time, and where it can't be written,
# there is none.
#
#     nbrun-index/1 CRC HEADER_BYTES LF HEADER LF STATUS SEQ LENGTH MADE DIGESTS
#
# CRC covers what follows the first line. HEADER is JSON: {"size", "crc": of the file, "order": byte order, "types": of
# SEQ, LENGTH and MADE, "makers", "api_used", "worker_id", "groups": [[name, number of positions, offset of the first
# entry]]}. The thread that writes the sample's file writes it, the feeder reads it.

INDEX_MAGIC = b"nbrun-index/1"
_NARROW, _WIDE = "I", "q"
_BETWEEN = len(BETWEEN)


def index_path(results: Path, name: str) -> Path:
    """Return the path of the index of a sample's file."""
    return results / FOLDER / "cache" / (name.removesuffix(SUFFIX) + ".index")


def crc_of(file: BinaryIO) -> int:
    """Return the CRC-32 of a file."""
    file.seek(0)
    crc = 0
    while chunk := file.read(CHUNK_BYTES):
        crc = crc32(chunk, crc)
    return crc


def keep_index(path: Path, state: SampleState, c: Columns, crc: int, file_id: files.FileId) -> None:
    """Write the index of a file that was just written, if it is a large one. Where the disk refuses, there is none.

    Args:
        c: the entries in it, in the order of their positions.
        crc, file_id: of that file.
    """
    if state.total < TUNING.index_from:
        return
    target = index_path(path.parent, path.name)
    try:
        target.parent.mkdir(exist_ok=True)
        if plain_files.is_real_folder(target.parent):
            beside = target.parent.parent / "tmp" / temporary(target.name)
            files.put_derived(target, _index_parts(state, c, crc, file_id[2]), beside)
    except OSError:
        return


def _index_parts(state: SampleState, c: Columns, crc: int, size: int) -> list[bytes]:
    groups: list[tuple[str, int, int]] = []
    digests: list[bytes] = []
    for g in state.sample.groups:
        end = g.base + len(g.runnable)
        first = next((c.offset[p] for p in range(g.base, end) if c.status[p] != MISSING), 0)
        groups.append((g.name, len(g.runnable), first))
        digests += _digests(g)
    seq, length = (_NARROW if max(column) < 2**32 else _WIDE for column in (c.seq, c.length))
    made = "B" if len(state.makers) <= 256 else _NARROW
    header = dump(
        {
            "size": size,
            "crc": crc,
            "order": sys.byteorder,
            "types": [seq, length, made],
            "makers": state.makers,
            "api_used": state.api_used,
            "worker_id": state.worker_id,
            "groups": groups,
        }
    )
    columns = [array(code, column).tobytes() for code, column in ((seq, c.seq), (length, c.length), (made, c.made))]
    parts = [header, b"\n", bytes(c.status), *columns, *digests]
    check = 0
    for part in parts:
        check = crc32(part, check)
    return [b"%b %08x %d\n" % (INDEX_MAGIC, check, len(header)), *parts]


def _digests(g: Group) -> Iterator[bytes]:
    """Yield a digest of each block of a group: of the items' keys, occurrences and indices."""
    block = TUNING.index_block
    for start in range(0, len(g.runnable), block):
        indices = g.runnable[start : start + block]
        h = blake2b(g.keys[start * KEY_BYTES : (start + block) * KEY_BYTES], digest_size=KEY_BYTES)
        if g.occurrences is not None:
            h.update(array("I", g.occurrences[start : start + block]).tobytes().rstrip(b"\0"))
        h.update(b"|")
        if list(indices) != list(range(start, start + len(indices))):
            h.update(array("I", indices).tobytes())
        yield h.digest()


@dataclass
class EntryIndex:
    """The index of a file, as it was read.

    Attributes:
        crc: of the file.
        groups: name -> the first position, the number of positions, and the offset of the first entry.
        digests: those of all blocks, of one group after the other.
    """

    crc: int
    groups: dict[str, tuple[int, int, int]]
    makers: list[Maker]
    api_used: str
    worker_id: str
    status: bytes
    seq: array[int]
    length: array[int]
    made: array[int]
    digests: bytes

    def take(self, state: SampleState, file: BinaryIO) -> dict[str, tuple[int, int]]:
        """Place the entries of a state's items in it, as far as a group begins with the same blocks of items.

        Returns:
            group -> how many of its items were met, and the offset at which the last entry of one ends.
        """
        out: dict[str, tuple[int, int]] = {}
        known = self._digests_by_group()
        for g in state.sample.groups:
            ranks = _equal_items(known.get(g.name, []), g)
            if ranks and (end := self._take_group(state, g, ranks, file)):
                out[g.name] = ranks, end
        if out:
            state.api_used, state.worker_id = self.api_used, self.worker_id
        return out

    def _digests_by_group(self) -> dict[str, list[bytes]]:
        out = {}
        at = 0
        for name, (_, count, _) in self.groups.items():
            end = at + _blocks_of(count) * KEY_BYTES
            out[name] = [self.digests[i : i + KEY_BYTES] for i in range(at, end, KEY_BYTES)]
            at = end
        return out

    def _take_group(self, state: SampleState, g: Group, ranks: int, file: BinaryIO) -> int:
        """Place the entries of a group's first items. Return where the last one ends; 0 where there is none."""
        begin, _, offset = self.groups[g.name]
        old, new = slice(begin, begin + ranks), slice(g.base, g.base + ranks)
        status, length = self.status[old], self.length[old]
        steps = [n + _BETWEEN if is_there else 0 for n, is_there in zip(length, status, strict=True)]
        offsets = array("q", accumulate(steps, initial=offset))
        last = max(status.rfind(DONE), status.rfind(ERROR))
        if last < 0:
            return 0
        file.seek(offsets[last])
        head = head_of(file.read(length[last]))
        if head is None or (head.key, head.seq) != (g.key(last), self.seq[begin + last]):
            return 0
        c = state.made_columns()
        numbers = [state.maker(*made) for made in self.makers]
        c.status[new] = status
        c.where[new] = array("i", [IN_FILE if is_there else 0 for is_there in status])
        c.seq[new], c.length[new] = array("q", self.seq[old]), array("q", length)
        c.offset[new] = offsets[:-1]
        c.made[new] = array("i", map(numbers.__getitem__, self.made[old]))
        return offsets[last] + length[last]


def _blocks_of(count: int) -> int:
    """Return the number of blocks that hold this many items."""
    return -(-count // TUNING.index_block)


def _equal_items(known: list[bytes], g: Group) -> int:
    """Return how many of a group's first items are in blocks with these digests."""
    blocks = 0
    for one, other in zip(known, _digests(g), strict=False):
        if one != other:
            break
        blocks += 1
    return min(blocks * TUNING.index_block, len(g.runnable))


def take_indexed(state: SampleState, results: Path, name: str, file: BinaryIO, crc: int) -> dict[str, tuple[int, int]]:
    """Place the entries that the index of a sample's open file holds, if there is one.

    Args:
        crc: of the file.

    Returns:
        what `EntryIndex.take` does.
    """
    index = _find_index(results, name, file, crc)
    return {} if index is None else index.take(state, file)


def _find_index(results: Path, name: str, file: BinaryIO, crc: int) -> EntryIndex | None:
    """Return the index of a sample's open file; None where there is none, or one of another content than `crc` says."""
    path = index_path(results, name)
    try:
        if not plain_files.is_real_folder(path.parent):
            return None
        data = plain_files.read_whole(path)
        header, rest = _index_header(data)
        if header["size"] != os.fstat(file.fileno()).st_size or header["order"] != sys.byteorder:
            return None
        index = _index_of(header, rest)
        return index if crc == index.crc else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None


def _index_header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return an index's header and what follows it. Raise ValueError."""
    first, _, _ = data[:80].partition(b"\n")
    magic, check, size = first.split(b" ")
    rest = memoryview(data)[len(first) + 1 :]
    if magic != INDEX_MAGIC or crc32(rest) != int(check, 16):
        raise ValueError("no index")
    header = load(rest[: int(size)])
    if not isinstance(header, dict):
        raise ValueError("no index")
    return header, rest[int(size) + 1 :]


def _index_of(header: dict[str, Any], rest: memoryview) -> EntryIndex:
    """Return an index from its parts. Raise ValueError, KeyError or TypeError: a checksum says nothing of content."""
    groups: dict[str, tuple[int, int, int]] = {}
    total = blocks = 0
    for name, count, offset in header["groups"]:
        if not (type(name) is str and is_count(count) and is_count(offset)):
            raise ValueError("no index")
        groups[name] = total, count, offset
        total += count
        blocks += _blocks_of(count)
    status, at = bytes(rest[:total]), total
    columns = []
    for code in header["types"]:
        column = array(code)
        end = at + total * column.itemsize
        column.frombytes(rest[at:end])
        columns.append(column)
        at = end
    seq, length, made = columns
    makers = [Maker(*map(_text_or_none, row)) for row in header["makers"]]
    texts = str(header["api_used"]), str(header["worker_id"])
    index = EntryIndex(header["crc"], groups, makers, *texts, status, seq, length, made, bytes(rest[at:]))
    if not _is_right_index(index, total, blocks):
        raise ValueError("no index")
    return index


def _is_right_index(index: EntryIndex, total: int, blocks: int) -> bool:
    """Return whether the columns of an index have the lengths, and the values, that its groups need."""
    columns = (index.status, index.seq, index.length, index.made)
    return (
        {len(column) for column in columns} == {total}
        and not index.status.translate(None, bytes((MISSING, DONE, ERROR)))
        and (not total or max(index.made) < len(index.makers))
        and len(index.digests) == blocks * KEY_BYTES
        and all(type(text) is str for maker in index.makers for text in maker[1:])
    )


def _text_or_none(value: Any) -> Any:
    """Return a text or None. Raise TypeError."""
    if value is not None and type(value) is not str:
        raise TypeError("no text")
    return value
