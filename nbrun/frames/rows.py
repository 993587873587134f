"""Reads samples' files, of any format and also out of an archive, into columns of plain arrays.

`FileReader` reads files, `RowBuilder` makes rows of their entries, and table.py a frame of those. Damage costs the
entries in it. Many files are read in parallel: in this process, and in helper processes where there is enough to read
for them to pay. No pandas and no numpy here, so that helpers start fast.

Threads: a FileReader and a RowBuilder belong to one thread. `read_all` reads in the caller's, and has one thread for
each helper, which sends it batches and receives its packs.
"""

from __future__ import annotations

import gc
import io
import os
import struct
import sys
import threading
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from math import isfinite, nan
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, NotRequired, Protocol, TypedDict, cast
from zlib import crc32

import orjson

from nbrun import verdicts
from nbrun.canonical import KEY_BYTES
from nbrun.errors import ThreadLimitError
from nbrun.results import plain_files, sample_file
from nbrun.results.format import ENTRY_HEAD, Entry, JsonObject, JsonValue, MatchRecord
from nbrun.results.sample_file import (
    LEGACY,
    NBRUN,
    OWN_HEAD,
    PROGRESS,
    RESULT_LIST,
    FileInfo,
    OldFile,
    OldMatch,
    Place,
    Unreadable,
    is_entry,
    old_body,
    old_keys,
    parse_old,
    places_in,
)
from nbrun.results.values import decode, dump, encode, load, quick_loader, without_gc, without_surrogates_in
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

if TYPE_CHECKING:
    import subprocess

    from nbrun.results.listing import Archives

# ---- packs
#
# A batch of rows as bytes: what the cache stores and what helper processes send. Data only; checked by CRC-32.
#
#     nbrun-rows/VERSION CRC HEADER_BYTES ARRAY_BYTES LF HEADER LF ARRAYS TEXTS
#
# VERSION is ROWS_VERSION: rows that other rules have made of entries are not read. CRC covers HEADER LF ARRAYS. HEADER
# is JSON: {"n", "files", "arrays": [[name, typecode, bytes or fill]], "texts": {column: sizes}, "extras": {key: [kind,
# rows, values, sizes]}, "crc": that of TEXTS}. ARRAYS follow one another in the header's order, little endian; an array
# whose items are all equal is one item in the header, in hexadecimal. TEXTS are lists of text in JSON, of the given
# sizes in bytes: those of the columns, then those of the extras. They are written and read one list at a time, since
# results may be longer than memory holds twice.

#: The version of the rules by which entries become rows, and of this layout. Raise it when either changes: a test in
#: tests/frames/test_frames_cache.py compares what is made of golden files, and fails where that was forgotten.
ROWS_VERSION = 4
MAGIC = b"nbrun-rows/%d" % ROWS_VERSION
SIZES = {"b": 1, "i": 4, "q": 8, "d": 8, "k": 16}
#: Integers up to this size are floats without a loss.
EXACT = 2**53
Bytes = bytes | memoryview
#: A list of texts has about this many characters, or one text.
LIST_CHARS = 1 << 18


class FileRecord(TypedDict):
    """What a file is whose rows a pack holds. A sample's rows from the journal have an id, a source and `n` alone.

    Attributes:
        n: how many rows, once they are read.
        ident: see `identity`; None while the file changes.
        match: of an old file the digest of its match record.
    """

    id: str | None
    source: str | None
    n: NotRequired[int]
    name: NotRequired[str]
    ident: NotRequired[list[int] | None]
    problem: NotRequired[str | None]
    match: NotRequired[int | None]
    max_seq: NotRequired[int]


class BadPack(Exception):
    """Not a pack, or one that was cut short or altered."""


@dataclass(slots=True)
class Settled:
    """A column of a key of results: its kind, the rows that have a value, and the values.

    Kinds: b, q, d are booleans, 64-bit integers and floats; t is text and j is JSON (nested values, integers beyond
    64 bits, values of several types), for which `values` are codes into `texts`; n has no value in any row.
    """

    kind: str
    rows: Bytes
    values: Bytes
    texts: list[str]


@dataclass(slots=True)
class SparseColumnBuilder:
    """A key of results: the rows that have it, and their values. Nested values are kept as bytes of JSON."""

    rows: array[int] = field(default_factory=lambda: array("i"))
    values: list[Any] = field(default_factory=list)

    def cut(self, n: int) -> None:
        """Forget the rows from n on."""
        while self.rows and self.rows[-1] >= n:
            self.rows.pop()
            self.values.pop()

    def settle(self) -> Settled:
        """Return the column with one type for all values where one holds each of them exactly, else as JSON."""
        kinds = set(map(type, self.values))
        rows = self.rows.tobytes()
        if not kinds:
            return Settled("n", rows, b"", [])
        numbers = _as_numbers(self.values, kinds)
        if numbers is not None:
            return Settled(numbers.typecode, rows, numbers.tobytes(), [])
        kind, given = ("t", self.values) if kinds == {str} else ("j", map(as_json, self.values))
        texts: dict[str, int] = {}
        codes = array("i", [texts.setdefault(v, len(texts)) for v in given])
        return Settled(kind, rows, codes.tobytes(), list(texts))


def _as_numbers(values: list[Any], kinds: set[type]) -> array[Any] | None:
    """Return values of these types in an array that holds each of them exactly; None where there is none."""
    if kinds == {bool}:
        return array("b", values)
    if kinds == {float}:
        return array("d", values)
    if kinds == {int}:
        try:
            return array("q", values)
        except OverflowError:
            return None
    if kinds == {int, float} and all(map(_is_exact_as_float, values)):
        return array("d", values)
    return None


def _is_exact_as_float(number: float) -> bool:
    return type(number) is float or abs(number) <= EXACT


def as_json(value: object) -> str:
    """Return a value of a column of kind j."""
    if type(value) is bytes:
        return value.decode()
    if type(value) is float and not isfinite(value):
        return encode(value)[0].decode()
    return dump(value).decode()


@dataclass(slots=True)
class Pack:
    """`n` rows. `files`: the files they come from, in the rows' order, `n` rows each.

    `arrays`: name -> typecode and the items, or one item for all rows.
    """

    n: int
    files: list[FileRecord]
    arrays: dict[str, tuple[str, Bytes]]
    texts: dict[str, list[str]]
    extras: dict[str, Settled]

    def to_parts(self) -> Iterator[Bytes]:
        """Yield the bytes that are sent and stored, piece by piece. Neither arrays nor texts are copied as a whole."""
        arrays: list[list[object]] = []
        parts: list[Bytes] = []
        for name, (code, data) in self.arrays.items():
            if len(data) == SIZES[code]:
                arrays.append([name, code, bytes(data).hex()])
            else:
                arrays.append([name, code, len(data)])
                parts.append(data)
        sizes, texts_check = self._measure_texts()
        extras = {}
        for (name, e), of in zip(self.extras.items(), sizes[len(self.texts) :], strict=True):
            extras[name] = [e.kind, len(e.rows), len(e.values), of]
            parts += [e.rows, e.values]
        header = dump({
            "n": self.n, "files": self.files, "arrays": arrays, "texts": dict(zip(self.texts, sizes, strict=False)),
            "extras": extras, "crc": texts_check,
        })  # fmt: skip
        check = _crc32_of([header, b"\n", *parts])
        yield b"%b %08x %d %d\n%b\n" % (MAGIC, check, len(header), sum(map(len, parts)), header)
        yield from parts
        yield from chain.from_iterable(map(_lists_of, self.all_texts()))

    def _measure_texts(self) -> tuple[list[list[int]], int]:
        """Return for each column of texts the sizes of its lists, and the checksum of all of them.

        They are encoded here, and once more when they are written: so they are never all in memory.
        """
        check = 0
        sizes: list[list[int]] = []
        for texts in self.all_texts():
            sizes.append([])
            for data in _lists_of(texts):
                check = crc32(data, check)
                sizes[-1].append(len(data))
        return sizes, check

    def all_texts(self) -> Iterator[list[str]]:
        yield from self.texts.values()
        for e in self.extras.values():
            yield e.texts


def _crc32_of(parts: Iterable[Bytes]) -> int:
    check = 0
    for part in parts:
        check = crc32(part, check)
    return check


def _lists_of(texts: list[str]) -> Iterator[bytes]:
    """Encode texts as lists of about LIST_CHARS characters."""
    start = size = 0
    for number, text in enumerate(texts):
        size += len(text)
        if size >= LIST_CHARS:
            yield dump(texts[start : number + 1])
            start, size = number + 1, 0
    if start < len(texts):
        yield dump(texts[start:])


class _Header(TypedDict):
    """A pack's first line: sizes, and what is small. `what` of an array is one item in hexadecimal, or a size."""

    n: int
    files: list[FileRecord]
    arrays: list[tuple[str, str, str | int]]
    texts: dict[str, list[int]]
    extras: dict[str, tuple[str, int, int, list[int]]]
    crc: int


def _keep(start: int, end: int) -> None:
    """Release nothing: the bytes of a pack are in memory once."""


def unpack(data: bytes | memoryview, release: Callable[[int, int], None] = _keep) -> Pack:
    """Read a pack. Its arrays are views into `data` where they can be.

    Args:
        release: called with the start and the end of each part of `data` that is not needed any more.

    Raises:
        BadPack: damaged, cut short, or of another version.
    """
    view = memoryview(data)
    first, line_feed, _ = bytes(view[:80]).partition(b"\n")
    words = first.split(b" ")
    if not line_feed or len(words) != 4 or words[0] != MAGIC:
        raise BadPack("no pack of this version")
    try:
        header_size, array_size = int(words[2]), int(words[3])
        start = len(first) + 1
        end = start + header_size + 1 + array_size
        if crc32(view[start:end]) != int(words[1], 16):
            raise BadPack("its checksum differs")
        header = cast(_Header, load(view[start : start + header_size]))  # anything else is a TypeError or KeyError
        texts = _read_texts(header, view, end, release)
        return _check(_read(header, view[start + header_size + 1 : end], texts))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BadPack(f"no pack ({e})") from None


def _read_texts(header: _Header, view: memoryview, at: int, release: Callable[[int, int], None]) -> list[list[str]]:
    """Return the texts of each column, then those of each extra."""
    out = []
    check = 0
    for sizes in (*header["texts"].values(), *(of for *_, of in header["extras"].values())):
        texts: list[str] = []
        for size in sizes:
            if type(size) is not int or size < 0:
                raise BadPack("it holds something else")
            data = view[at : at + size]
            check = crc32(data, check)
            texts += cast("list[str]", load(data))  # checked below, with all texts
            release(at, at + size)
            at += size
        out.append(texts)
    if check != header["crc"] or at != len(view):
        raise BadPack("the checksum of its texts differs")
    return out


def _check(pack: Pack) -> Pack:
    """Return a pack that holds what packs do: a checksum says that it is as it was written, not by whom.

    Raises:
        BadPack: it doesn't.
    """
    rows = [record["n"] for record in pack.files]
    checks = (
        {*map(type, rows)} <= {int},
        sum(rows) == pack.n,
        min(rows, default=0) >= 0,
        all(len(data) in (SIZES[code], SIZES[code] * pack.n) for code, data in pack.arrays.values()),
        {*map(type, chain.from_iterable(pack.all_texts()))} <= {str},
    )
    if not all(checks):
        raise BadPack("it holds something else")
    return pack


def _read(header: _Header, data: memoryview, texts: list[list[str]]) -> Pack:
    at = 0

    def take(length: int) -> memoryview:
        nonlocal at
        at += length
        return data[at - length : at]

    arrays: dict[str, tuple[str, Bytes]] = {}
    for name, code, what in header["arrays"]:
        arrays[name] = (code, bytes.fromhex(what) if isinstance(what, str) else take(what))
    of_columns = dict(zip(header["texts"], texts, strict=False))
    extras = {
        name: Settled(kind, take(rows), take(values), of)
        for (name, (kind, rows, values, _)), of in zip(header["extras"].items(), texts[len(of_columns) :], strict=True)
    }
    return Pack(header["n"], header["files"], arrays, of_columns, extras)


# ---- which file, and which match record, rows were made of


def identity(stat: os.stat_result) -> list[int]:
    """Return what distinguishes a file's content from any other under the same name, earlier or later."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def identity_in(place: Place) -> list[int]:
    """Return the same of a file in an archive, which is never written again."""
    return [place.size, place.crc, place.ctime_ns, place.ino]


def match_digest(match: MatchRecord) -> int:
    """Return a digest of a match record: a file and a dataset match in one way only."""
    return crc32(dump([match["size"], match["crc"], match["identities"]]))


# ---- rows


#: Columns of numbers: name -> typecode. -1 (n_*, accepted) and NaN (times) mean unknown.
NUMBERS = {
    "index": "q", "occurrence": "i", "seq": "q", "accepted": "b", "n_tests": "i", "n_passed": "i", "max_time_s": "d",
    "duration_s": "d", "attempts": "i", "started_at": "d",
}  # fmt: skip
#: Columns of texts, kept as codes; -1: none.
TEXTS = ("group", "status", "verdict", "language", "error", "api_used", "worker_id", "run_id")
#: `index` of an entry that no dataset was matched with, and of one whose item is no longer in the dataset.
UNMATCHED, ORPHANED = -1, -2
#: Names of columns that hold something else than a result's key of that name, which becomes `result_<key>`: packs hold
#: it so, and a name more or less is a change of the rules (see ROWS_VERSION).
RESERVED = frozenset((*NUMBERS, *TEXTS, "sample_id", "key", "source", "entry", "stale", "as_expected")) - {"seq"}
#: Keys of results that columns show in another way, where their values are what a judge writes.
_JUDGED = frozenset(("verdict", "accepted", "api_used", "tests"))
#: What a sandbox repeats of its request beside its tests. It would be most of a frame's memory, and is in `entry`.
ECHOED = frozenset(("id", "extracted_code", "full_code", "test_code", "extracted_type", "extra"))
#: Where a judge's result holds nothing else, no column of its own comes of it.
_JUDGED_ONLY = ECHOED | {"accepted", "tests"}
#: From here on a float may be an integer that orjson could not hold.
_HUGE = 2.0**63
#: What an entry raises that was damaged or edited by hand.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError)


def column_of(key: str, reserved: Collection[str] = RESERVED) -> str:
    """Return the column of a result's key: its name, or `result_<key>` where a reserved column has that name.

    Example:
        >>> column_of("score"), column_of("index"), column_of("result_index")
        ('score', 'result_index', 'result_result_index')
    """
    rest = key
    while rest.startswith("result_"):
        rest = rest[len("result_") :]
    return f"result_{key}" if rest in reserved else key


#: An entry in nbrun's form, or one of an older program's.
Row = Entry | JsonObject


class Listener(Protocol):
    """Receives each row as it is read."""

    def __call__(self, row: int, entry: Row, body: bytes | None) -> None: ...

    def cut(self, n: int) -> None:
        """Forget the rows from n on."""


class RowBuilder:
    """Collects rows, one after the other.

    Args:
        listener: called with each row's number, its entry, and its bytes where they stand so in the file.
        bodies: whether the listener needs the bytes of old entries too, as nbrun would write them.

    Attributes:
        is_inexact: a column has got a float that may have been an integer beyond 64 bits, which orjson can't hold:
            the reader cuts that entry and calls `add_exactly`.
    """

    def __init__(self, listener: Listener | None = None, *, bodies: bool = False) -> None:
        self._listener, self._bodies = listener, bodies
        self.numbers: dict[str, array[Any]] = {name: array(code) for name, code in NUMBERS.items()}
        self.codes = {name: array("i") for name in TEXTS}
        self.texts: dict[str, dict[str | None, int]] = {name: {None: -1} for name in TEXTS}
        # of these very objects, which no method replaces: a look-up for each value takes a third of a row's time
        self._append_number = [column.append for column in self.numbers.values()]
        self._append_text = [(self.texts[name], self.codes[name].append) for name in TEXTS]
        self.keys = bytearray()
        self.extras: defaultdict[str, SparseColumnBuilder] = defaultdict(SparseColumnBuilder)  # by the result's key
        self.is_inexact = False
        self.n = 0

    def add(self, group: str, entry: JsonValue, body: bytes | None) -> None:
        """Add an entry in nbrun's form. Raise what a wrongly shaped one raises (_DAMAGE), and add nothing then."""
        if not is_entry(entry):
            raise ValueError("no entry")
        result = entry["result"]
        judged = judgement(result)
        key = bytes.fromhex(entry["key"][3:])
        if len(key) != KEY_BYTES:
            raise ValueError("no key")
        try:
            for append, number in zip(self._append_number, _numbers_of(entry, judged), strict=True):
                append(number)
            for (of, append), text in zip(self._append_text, _texts_of(group, entry, judged), strict=True):
                append(of.setdefault(text, len(of) - 1))
            self.keys += key
            if type(result) is dict:
                self._extras(result, judged[2])
            if self._listener is not None:
                self._listener(self.n, entry, body)
        except BaseException:  # a number that its array can't hold, say
            self.cut(self.n)
            raise
        self.n += 1

    def add_exactly(self, group: str, body: bytes) -> bool:
        """Add an entry in nbrun's form, with integers of any size. Return False where it is damaged."""
        try:
            self.add(group, load(body), body)
        except _DAMAGE:
            return False
        self.is_inexact = False
        return True

    def add_old(self, old: OldFile, group: str, rows: list[JsonObject], places: list[OldMatch] | None) -> None:
        """Add entries of an older program's file, all of one group. Without `places` their indexes aren't known.

        The hot path of loading old directories: a few microseconds a row.
        """
        count = len(rows)
        if not count:
            return
        begin = self.n
        identities = _identities_of(rows) if places is None else _identities_in(places[:count])
        if old.is_loose:  # the keys are those of the items, lone surrogates included
            rows = [cast(JsonObject, without_surrogates_in(row)) for row in rows]
        results = [row.get("result") for row in rows]
        verdict, accepted, n_tests, n_passed, max_time_s = zip(*map(judgement, results), strict=True)
        if min(accepted) < 0 or min(n_tests) < 0 or not _say_no_more(results):
            self._old_extras(results, n_tests)
        self.n = begin + count
        numbers: dict[str, Sequence[float]] = {
            "index": identities.indexes,
            "occurrence": identities.occurrences,
            "seq": (0,),
            "accepted": accepted,
            "n_tests": n_tests,
            "n_passed": n_passed,
            "max_time_s": max_time_s,
            "duration_s": (nan,),
            "attempts": (1,),
            "started_at": (nan,),
        }
        texts: dict[str, Sequence[str | None]] = {
            "group": (group,),
            "status": ("done",),
            "verdict": verdict,
            "language": _languages_of(rows),
            "error": (None,),
            "api_used": (old.api_used or None,),
            "worker_id": (old.worker_id or None,),
            "run_id": (None,),
        }
        self._extend_numbers(count, numbers)
        self.keys += b"".join(identities.keys)
        self._extend_texts(count, texts)
        self._show_old(begin, old, group, rows, identities)

    def _show_old(
        self, begin: int, old: OldFile, group: str, rows: list[JsonObject], identities: _OldIdentities
    ) -> None:
        """Call the listener for each of these rows, the first of which is row `begin`."""
        if self._listener is None:
            return
        for rank, (row, key, occurrence, index) in enumerate(zip(rows, *identities, strict=True)):
            place = OldMatch(group, rank, None, index if index >= 0 else None, key, occurrence)
            self._listener(begin + rank, row, old_body(row, place, old) if self._bodies else None)

    def _extend_numbers(self, count: int, columns: Mapping[str, Sequence[float]]) -> None:
        """Add the numbers of `count` rows to the columns of numbers; one number is that of all rows.

        An array is filled from an array in a quarter of the time that a list takes.
        """
        for name, code in NUMBERS.items():
            some = array(code, columns[name])
            self.numbers[name] += some * count if len(some) == 1 else some

    def _extend_texts(self, count: int, columns: Mapping[str, Sequence[str | None]]) -> None:
        """Add the texts of `count` rows to the columns of texts; one text is that of all rows."""
        for name in TEXTS:
            of, texts = self.texts[name], columns[name]
            for text in dict.fromkeys(texts):
                of.setdefault(text, len(of) - 1)
            codes = array("i", [of[text] for text in texts])
            self.codes[name] += codes * count if len(texts) == 1 else codes

    # ---- keys of results

    def _old_extras(self, results: Iterable[object], n_tests: Iterable[int]) -> None:
        """Do what `_extras` does for each of the next rows."""
        for result, n in zip(results, n_tests, strict=True):
            if type(result) is dict:
                self._extras(result, n)
            self.n += 1

    def _extras(self, result: dict[str, Any], n_tests: int) -> None:
        """Add to the next row the keys of its result that no fixed column shows."""
        is_judged = n_tests >= 0
        if is_judged and _says_no_more(result):
            return
        for name, value in result.items():
            if (is_judged and name in ECHOED) or (name in _JUDGED and _is_shown(name, value, n_tests)):
                continue
            extras = self.extras[name]  # the column is there, even where no row has a value
            if value is not None:
                extras.rows.append(self.n)
                extras.values.append(value if type(value) is str else self._value(value))

    def _value(self, value: Any) -> object:
        """Return a value as a column holds it: nested ones as bytes of JSON. Notice numbers that may be inexact."""
        kind = type(value)
        if kind is list:
            return self._nested(value)
        if kind is dict:
            plain = decode(value) if len(value) == 1 else value  # a float that JSON has no number for is an object
            return plain if type(plain) is float else self._nested(plain)
        if kind is float and not -_HUGE < value < _HUGE:
            self.is_inexact = True
        return value

    def _nested(self, value: JsonValue) -> bytes:
        try:
            data = orjson.dumps(value)
        except TypeError:  # it was read exactly and holds an integer beyond 64 bits
            return encode(value)[0]
        if _has_huge(value):
            self.is_inexact = True
        return encode(value)[0] if b"null" in data else data  # a float NaN in it

    # ---- results

    def are_repeated(self, start: int) -> bool:
        """Return whether two of the rows from start on are of one task."""
        keys = self.keys[start * KEY_BYTES :]
        count = self.n - start
        if len(set(struct.unpack(f"{KEY_BYTES}s" * count, keys))) == count:
            return False
        of_key = zip(struct.iter_unpack(f"{KEY_BYTES}s", keys), self.numbers["occurrence"][start:], strict=True)
        return len(set(zip(of_key, self.codes["group"][start:], strict=True))) < count

    def newest(self, start: int) -> int:
        """Return the highest seq of the rows from start on."""
        return max(self.numbers["seq"][start:], default=0)

    def cut(self, n: int) -> None:
        """Forget the rows from n on."""
        self.n = n
        for column in (*self.numbers.values(), *self.codes.values()):
            del column[n:]
        del self.keys[n * KEY_BYTES :]
        for extras in self.extras.values():
            extras.cut(n)
        if self._listener is not None:
            self._listener.cut(n)

    def _once(self, column: array[Any]) -> bytes:
        """Return a column's bytes; those of one item where all are equal."""
        data = column.tobytes()
        item = data[: column.itemsize]
        return item if self.n and data == item * self.n else data

    def pack(self, files: list[FileRecord]) -> Pack:
        """Return everything collected, from these files in their order."""
        texts = {name: [t for t in of if t is not None] for name, of in self.texts.items()}
        arrays: dict[str, tuple[str, Bytes]] = {n: (a.typecode, self._once(a)) for n, a in self.numbers.items()}
        arrays |= {name: ("i", self._once(codes)) for name, codes in self.codes.items()}
        arrays["key"] = ("k", bytes(self.keys))
        return Pack(self.n, files, arrays, texts, {column_of(k): e.settle() for k, e in self.extras.items()})


class _OldIdentities(NamedTuple):
    """Of which tasks an older program's entries are: a list of each part, in the entries' order."""

    keys: list[bytes]
    occurrences: Sequence[int]
    indexes: Sequence[int]


def _identities_in(places: list[OldMatch]) -> _OldIdentities:
    """Return the identities of entries that were matched with a dataset."""
    return _OldIdentities(
        [place.key for place in places],
        [place.occurrence for place in places],
        [ORPHANED if place.item_index is None else place.item_index for place in places],
    )


def _identities_of(rows: list[JsonObject]) -> _OldIdentities:
    """Return the identities of entries that no dataset was matched with: their items alone say what they are."""
    keys = old_keys(rows)
    repeated = None
    if len(set(keys)) < len(keys):
        from nbrun.samples import occurrences  # slow to load, and few old files hold an item twice

        repeated = occurrences(keys)
    return _OldIdentities(keys, repeated or [0] * len(keys), [UNMATCHED] * len(keys))


def _languages_of(rows: Iterable[JsonObject]) -> list[str | None]:
    """Return the languages of an older program's entries, which are texts or CodeContests' numbers."""
    languages: Any = [row.get("language") for row in rows]
    if {*map(type, languages)} == {str}:
        return list(languages)
    from nbrun.samples import LANGUAGES  # slow to load, and few old files have numbers for languages

    return [x if type(x) is str else LANGUAGES.get(x) if type(x) is int else None for x in languages]


def _numbers_of(entry: Entry, judged: Judgement) -> tuple[float, ...]:
    """Return the numbers of a row, in the order of NUMBERS. Raise TypeError where one is no integer and must be."""
    index, occurrence, seq = entry["index"], entry["occurrence"], entry["seq"]
    if not (type(occurrence) is type(seq) is int and (index is None or type(index) is int)):
        raise TypeError("no integer")
    _, accepted, n_tests, n_passed, max_time_s = judged
    duration_s, attempts, started_at = entry.get("duration_s"), entry.get("attempts"), entry.get("started_at")
    return (
        ORPHANED if index is None else index,
        occurrence,
        seq,
        accepted if entry["status"] == "done" else -1,
        n_tests,
        n_passed,
        max_time_s,
        nan if duration_s is None else duration_s,
        -1 if attempts is None else attempts,
        nan if started_at is None else started_at,
    )


def _texts_of(group: str, entry: Entry, judged: Judgement) -> tuple[str | None, ...]:
    """Return the texts of a row, in the order of TEXTS."""
    error = entry.get("error")
    return (
        group,
        entry["status"],
        judged[0] if entry["status"] == "done" else None,
        language_of(entry),
        f"{error['type']}: {error['message']}" if error else None,
        entry.get("api_used") or None,
        entry.get("worker_id") or None,
        entry.get("run_id") or None,
    )


def language_of(entry: Entry) -> str | None:
    """Return the language of an entry's item; None where it has none."""
    item = entry.get("item")
    language = entry.get("language") or (item.get("language") if isinstance(item, dict) else None)
    return language if isinstance(language, str) else None


def _says_no_more(result: JsonObject) -> bool:
    """Return whether the fixed columns and `entry` hold all of a judge's result that has tests."""
    return _JUDGED_ONLY.issuperset(result) and type(result.get("accepted", True)) is bool


def _say_no_more(judged: Iterable[Any]) -> bool:
    """Return the same of many results with tests and with a verdict that accepts or rejects."""
    return all(map(_JUDGED_ONLY.issuperset, {*map(tuple, judged)}))


def _is_shown(name: str, value: JsonValue, n_tests: int) -> bool:
    """Return whether the columns verdict, accepted, api_used or n_tests hold the value of a judge's key."""
    if value is None:
        return True
    if name == "accepted":
        return type(value) is bool
    if name == "tests":
        return n_tests >= 0
    return type(value) is str and (name == "api_used" or verdicts.is_verdict(value))


def _has_huge(value: JsonValue) -> bool:
    """Return whether a nested value holds a float that may have been an integer beyond 64 bits."""
    if type(value) is float:
        return not -_HUGE < value < _HUGE
    if type(value) is dict:
        return any(map(_has_huge, value.values()))
    return type(value) is list and any(map(_has_huge, value))


# ---- one result in a few numbers; called for every row


#: verdict -> 1 where it accepts, 0 where it rejects, -1 where it does neither.
_ACCEPTED: dict[str | None, int]
_ACCEPTED = {"Accepted": 1, "JudgeError": -1, **dict.fromkeys(map(str, verdicts.REJECTED), 0)}


#: A tuple, since one is made for each row: verdict, accepted, n_tests, n_passed, max_time_s; see `judgement`.
Judgement = tuple[str | None, int, int, int, float]


def judgement(result: object) -> Judgement:
    """Return verdict, accepted (1, 0, -1), n_tests, n_passed (-1: none), the longest test's time in s (NaN: none).

    Example:
        >>> judgement({"accepted": True, "tests": [{"passed": True, "exec_info": {"run_result": {}}}]})
        ('Accepted', 1, 1, 1, nan)
    """
    if type(result) is not dict:
        return None, -1, -1, -1, nan
    tests = result.get("tests")
    plain = verdicts.plain_tests(tests)
    verdict, accepted = _verdict_of(result, are_wrong=plain is not None and plain[2])
    if plain is not None:
        n, passed, _, longest = plain
        return verdict, accepted, n, passed, _seconds(longest) if longest >= 0 else nan
    return verdict, accepted, *_summary_of_tests(result, tests)


def _summary_of_tests(result: JsonObject, tests: JsonValue) -> tuple[int, int, float]:
    """Return n_tests, n_passed and max_time_s where a test wasn't run to its end, or there are no tests."""
    if type(tests) is not list or not verdicts.are_tests(tests):
        return -1, -1, nan
    _, passed, longest = verdicts.summary_of_tests(result)
    return len(tests), passed or 0, nan if longest is None else _seconds(longest)


def _verdict_of(result: JsonObject, *, are_wrong: bool) -> tuple[str | None, int]:
    """Return the verdict, and whether it accepts (1, 0, -1). `are_wrong`: each failed test had a wrong output."""
    verdict, flag = result.get("verdict"), result.get("accepted")
    if type(verdict) is str:
        accepted = _ACCEPTED.get(verdict)
        if accepted is not None:
            return verdict, accepted
    elif flag is True:
        return "Accepted", 1
    elif flag is False and are_wrong:
        return "WrongAnswer", 0
    name = verdicts.of(result)
    return name, _acceptance_of(name, flag)


def _acceptance_of(verdict: str | None, flag: JsonValue) -> int:
    """Return whether a verdict in any words accepts (1, 0, -1). Where it says neither, the result's flag decides."""
    if verdict in _ACCEPTED:
        return _ACCEPTED[verdict]
    if verdicts.rejects(verdict):
        return 0
    return int(flag) if type(flag) is bool else -1


def _seconds(time_s: float) -> float:
    """Return a time as a float; NaN for an integer that none can hold, which `entry` shows."""
    if type(time_s) is float:
        return time_s
    try:
        return float(time_s)
    except OverflowError:
        return nan


def without_doubled(rows: list[JsonObject], total: object) -> list[JsonObject]:
    """Drop repeated solutions from a list that is longer than its dataset's. The first of each counts."""
    more = len(rows) - total if type(total) is int else 0
    if more <= 0:
        return rows
    first: dict[bytes, int] = {}
    for rank, key in enumerate(old_keys(rows)):
        first.setdefault(key, rank)
    doubled = sorted({*range(len(rows))}.difference(first.values()))
    kept = sorted({*range(len(rows))}.difference(doubled[-more:]))
    return [rows[rank] for rank in kept]


# ---- whole files


class FileReader:
    """Reads files one after another.

    Args:
        folder: the results directory.
        listener, bodies: see RowBuilder.

    Attributes:
        rows: what was read.
        files: what each file was, in the order of their rows.
    """

    def __init__(self, folder: str, listener: Listener | None = None, *, bodies: bool = False) -> None:
        self._folder = folder
        self.rows = RowBuilder(listener, bodies=bodies)
        self._loads = quick_loader() if listener is None else load  # a listener sees each entry once, and all of it
        self.files: list[FileRecord] = []
        self._archives: Archives | None = None

    def read(self, name: str, match: MatchRecord | None, place: Place | None = None) -> None:
        """Add a file's rows, and to `files` what it is: identity (None while it changes), id, source, problem.

        Args:
            place: its place in an archive, if it is in one.
        """
        start = self.rows.n
        record: FileRecord = {"name": name, "ident": None, "id": None, "source": None, "problem": None}
        try:
            ident = self._read_where_it_is(name, place, match, record)
            record["ident"] = None if record["problem"] else ident
        except (Unreadable, OSError, MemoryError, *_DAMAGE) as e:
            record["problem"] = str(e) if isinstance(e, Unreadable) else f"can't be read: {str(e) or type(e).__name__}"
            record["source"] = None
            self.rows.cut(start)
        record["n"] = self.rows.n - start
        record["max_seq"] = self.rows.newest(start) if record["source"] == NBRUN else 0
        self.files.append(record)

    def _read_where_it_is(
        self, name: str, place: Place | None, match: MatchRecord | None, record: FileRecord
    ) -> list[int] | None:
        """Read a file, and return its identity; None where it changed or moved meanwhile."""
        try:
            if place is None:
                return self._read_plain(name, match, record)
            from nbrun.results import listing  # slow to load, and most directories have no archive

            self._read_any(io.BytesIO(listing.read_member(self._folder, place)), match, record)
            return identity_in(place)
        except FileNotFoundError:
            self._read_moved(name, match, record)
            return None

    def _read_plain(self, name: str, match: MatchRecord | None, record: FileRecord) -> list[int] | None:
        """Read a file that isn't archived, and return its identity; None where it changed meanwhile."""
        with plain_files.open_reading(os.path.join(self._folder, name)) as f:
            before = identity(os.fstat(f.fileno()))
            self._read_any(f, match, record)
            return before if identity(os.fstat(f.fileno())) == before else None

    def _read_moved(self, name: str, match: MatchRecord | None, record: FileRecord) -> None:
        """Read a file that was archived or unpacked since it was listed."""
        from nbrun.results import listing

        if self._archives is None:
            self._archives = listing.Archives(self._folder)
        with listing.open_file(Path(self._folder), FileInfo(name, "", "", 0, 0), self._archives) as f:
            self._read_any(f, match, record)

    def _read_any(self, f: BinaryIO, match: MatchRecord | None, record: FileRecord) -> None:
        if f.read(len(OWN_HEAD)) == OWN_HEAD:
            self._read_with_own_head(f, record)
        else:
            self._read_foreign(sample_file.read_whole(f), match, record)

    def _read_with_own_head(self, f: BinaryIO, record: FileRecord) -> None:
        """Read a file of nbrun's own, which may still hold an entry twice, or be re-serialised after its head."""
        start = self.rows.n
        f.seek(0)
        damaged = self._read_own(f, record)
        if self.rows.are_repeated(start):
            self.rows.cut(start)
            for stored, body in sample_file.entries_once(f):
                self.rows.add_exactly(stored.group, body)
        if (damaged or not sample_file.ends_as_own(f)) and sample_file.may_be_parsed(f):
            again = sample_file.convert_foreign(sample_file.read_whole(f))
            if again is not None:  # another tool has re-serialised it
                self.rows.cut(start)
                self._read_own(io.BytesIO(again), record)

    def _read_foreign(self, data: bytes, match: MatchRecord | None, record: FileRecord) -> None:
        """Read a file of the older program, or one that another tool has re-serialised."""
        try:
            old = parse_old(data, exact=self._loads is load)
        except Unreadable:
            old = None
        if old is not None and not old.is_own:
            self._read_old(old, data, match, record)
            return
        again = sample_file.convert_foreign(data)
        if again is None:
            parse_old(data)  # says why it can't be read
            raise Unreadable("is no file of results")
        self._read_own(io.BytesIO(again), record)

    def _read_own(self, lines: Iterable[bytes], record: FileRecord) -> int:
        """Read a file in nbrun's format line by line, and return how many of its lines are damaged."""
        sample_id: str | None = None
        group: str | None = None  # inside this one's list
        damaged = 0
        is_head, add = ENTRY_HEAD.match, self._add_line
        for line in lines:
            if group is not None and is_head(line):
                damaged += not add(group, line.rstrip(b"\n").removesuffix(b","))
            elif line.endswith(b"[\n") and (title := RESULT_LIST.match(line)):
                group = str(self._loads(title[1])).removesuffix("_result")
            elif line == b"],\n":
                group = None
            elif group is not None:
                damaged += 1
            elif sample_id is None and line.startswith(b'"id": '):
                sample_id = self._id_in(line)
                damaged += sample_id is None
        record["id"], record["source"] = sample_id, NBRUN
        record["problem"] = f"has {damaged} damaged entries; the others were read" if damaged else None
        return damaged

    def _id_in(self, line: bytes) -> str | None:
        """Return the sample's id; None where another tool has touched the line."""
        try:
            return str(self._loads(line.removeprefix(b'"id": ').rstrip(b"\n").removesuffix(b",")))
        except ValueError:
            return None

    def _add_line(self, group: str, body: bytes) -> bool:
        """Add an entry, and return whether it could be read. A damaged one costs only itself."""
        try:
            self.rows.add(group, self._loads(body), body)
        except orjson.JSONDecodeError:  # damaged; or a number that orjson takes for infinite
            return self.rows.add_exactly(group, body)
        except _DAMAGE:
            return False
        if self.rows.is_inexact:
            self.rows.cut(self.rows.n - 1)
            return self.rows.add_exactly(group, body)
        return True

    def _read_old(self, old: OldFile, data: bytes, match: MatchRecord | None, record: FileRecord) -> None:
        start = self.rows.n
        self._add_groups(old, places_in(old, match, data))
        if self.rows.is_inexact:
            self.rows.cut(start)
            old = parse_old(data)
            self._add_groups(old, places_in(old, match, data))
            self.rows.is_inexact = False
        record["id"], record["source"] = old.sample_id, PROGRESS if old.progress is not None else LEGACY
        record["match"] = None if match is None else match_digest(match)

    def _add_groups(self, old: OldFile, places: list[OldMatch] | None) -> None:
        for group, rows in old.groups.items():
            if places is None:
                self.rows.add_old(old, group, without_doubled(rows, (old.progress or {}).get(f"total_{group}s")), None)
            else:
                self.rows.add_old(old, group, rows, [place for place in places if place.group == group])

    def pack(self) -> Pack:
        """Return everything that was read."""
        return self.rows.pack(self.files)


def read_files(folder: str, files: Iterable[tuple[str, MatchRecord | None, Sequence[Any] | None]]) -> Pack:
    """Return a pack of the rows of these files, each given by name, match record and place in an archive."""
    reader = FileReader(folder)
    for name, match, place in files:
        reader.read(name, match, None if place is None else Place(*place))
    return reader.pack()


# ---- many files, in this process and in helper processes
#
# A helper is `python -m nbrun.frames.rows`, never multiprocessing, which would run an unguarded script of the user's
# again. A request is a line of JSON, [folder, [[name, match record or null, place or null], ...]]; the answer is a pack
# (see above), preceded by its length in 8 bytes, big endian. A helper ends when its standard input does. One that
# can't start, dies or answers nonsense costs its batch a second reading.

MAX_HELPERS = 7
#: The most bytes that a helper gets at a time.
MAX_BATCH = 16 << 20
#: A helper has this many batches, so that it needn't wait for the next one until this process is free to send it.
_SENT_AHEAD = 2
_END_S = 5.0


class ToRead(NamedTuple):
    """A file to be read."""

    name: str
    match: MatchRecord | None
    size: int
    place: Place | None = None


class Helpers:
    """The helper processes of one loader, which starts them while it still lists the files.

    Threads: the loader's alone.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._can_start = bool(sys.executable)

    def start_for(self, size: int) -> None:
        """Start as many helpers as pay for `size` bytes in all, less those that were started before."""
        wanted = min(size // TUNING.bytes_a_helper, MAX_HELPERS)
        if not self._can_start or len(self.processes) >= wanted:
            return
        wanted = min(wanted, _cpus() - 1)
        try:
            while len(self.processes) < wanted:
                self.processes.append(_start_helper())
        except (OSError, MemoryError):  # no more processes, or no memory: this process reads all
            self._can_start = False

    def close(self) -> None:
        """End all helpers, and wait until they have ended."""
        if not self.processes:
            return
        import subprocess

        for pipe in chain.from_iterable((process.stdin, process.stdout) for process in self.processes):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]  # both were asked for
        for process in self.processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


class _Work:
    """Batches and their packs. Threads: `_lock` protects the list of batches that are not taken."""

    def __init__(self, batches: list[list[ToRead]], on_read: Callable[[int], None]) -> None:
        self.batches, self._on_read = batches, on_read
        self.packs: dict[int, Pack] = {}
        self._lock = threading.Lock()
        self.put_back()

    def put_back(self) -> None:
        """Hand out again what has no pack. No thread works on a batch meanwhile."""
        self._left = sorted({*range(len(self.batches))} - self.packs.keys(), reverse=True)

    def stop(self) -> None:
        """Let no thread take another batch."""
        with self._lock:
            self._left.clear()

    def next(self) -> int | None:
        """Take a batch and return its number; None if all are taken."""
        with self._lock:
            return self._left.pop() if self._left else None

    def done(self, number: int, pack: Pack) -> None:
        self.packs[number] = pack
        self._on_read(sum(f.size for f in self.batches[number]))


def read_all(folder: str, wanted: Sequence[ToRead], on_read: Callable[[int], None], helpers: Helpers) -> list[Pack]:
    """Return packs of all files, in order. Several threads call `on_read` with the number of bytes they read."""
    total = sum(f.size for f in wanted)
    processes = helpers.processes if total >= TUNING.min_batch_bytes else []
    work = _Work(_batches(wanted, total, len(processes) + 1), on_read)
    threads: list[threading.Thread] = []
    for process in processes:
        try:
            threads.append(start_daemon(_serve, "nbrun-load", (process, folder, work)))
        except ThreadLimitError:  # what it would have read is read here
            break
    with without_gc():
        try:
            _read_here(folder, work)
        finally:
            work.stop()  # after an exception batches are left
            for thread in threads:
                thread.join()
        work.put_back()
        _read_here(folder, work)  # what a helper has failed in
    return [work.packs[number] for number in range(len(work.batches))]


def _read_here(folder: str, work: _Work) -> None:
    while (number := work.next()) is not None:
        work.done(number, read_files(folder, [(f.name, f.match, f.place) for f in work.batches[number]]))


def _batches(wanted: Sequence[ToRead], total: int, readers: int) -> list[list[ToRead]]:
    """Cut the files into batches, the last of them the smallest, so that all readers end at about the same time."""
    out: list[list[ToRead]] = []
    room = 0
    for f in wanted:
        if room <= 0:
            out.append([])
            room = min(max(total // (4 * readers), TUNING.min_batch_bytes), MAX_BATCH)
        out[-1].append(f)
        room -= f.size
        total -= f.size
    return out


def _serve(process: subprocess.Popen[bytes], folder: str, work: _Work) -> None:
    """Serve one helper process; runs in a thread of its own."""
    sent: deque[int] = deque()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while True:
            while len(sent) < _SENT_AHEAD and (number := work.next()) is not None:
                sent.append(number)
                process.stdin.write(_request(folder, work.batches[number]))
                process.stdin.flush()
            if not sent:
                return
            size = int.from_bytes(process.stdout.read(8), "big")
            work.done(sent[0], unpack(process.stdout.read(size)))
            sent.popleft()
    except Exception:  # whatever it is: the caller's thread reads those batches itself
        process.kill()  # its next answer would be this one's rest


def _request(folder: str, batch: list[ToRead]) -> bytes:
    return orjson.dumps([folder, [[f.name, _with_groups(f.match), f.place] for f in batch]]) + b"\n"


def _with_groups(match: MatchRecord | None) -> MatchRecord | None:
    """Return a match record with its groups, which stay in the log until they are asked for."""
    try:
        return None if match is None else {**match, "groups": match["groups"]}
    except LookupError:  # damaged: the file counts as never matched
        return None


def _start_helper() -> subprocess.Popen[bytes]:
    import subprocess  # the helper itself needs none

    top = str(Path(__file__).parent.parent.parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _receive(requests: SimpleQueue[bytes]) -> None:
    """Read requests, the last of them empty. In a thread, so that none waits for the answer to the one before it."""
    for line in sys.stdin.buffer:
        requests.put(line)
    requests.put(b"")


def _help() -> None:
    """Serve one loader, in a helper process."""
    gc.disable()  # parsed JSON has no cycles
    requests: SimpleQueue[bytes] = SimpleQueue()
    start_daemon(_receive, "nbrun-requests", (requests,))
    out = sys.stdout.buffer
    while line := requests.get():
        folder, files = orjson.loads(line)
        parts = list(read_files(folder, files).to_parts())
        out.write(sum(map(len, parts)).to_bytes(8, "big"))
        out.writelines(parts)
        out.flush()
    os._exit(0)  # nothing is left to write, and taking an interpreter down takes longer than the loader need wait


if __name__ == "__main__":
    _help()
