"""A batch of rows as bytes: what the cache stores and what helper processes send. Data only; checked by CRC-32.

    nbrun-rows/VERSION CRC HEADER_BYTES ARRAY_BYTES LF HEADER LF ARRAYS TEXTS

VERSION is ROWS_VERSION: rows that other rules have made of entries are not read. CRC covers HEADER LF ARRAYS. HEADER is
JSON: {"n", "files", "arrays": [[name, typecode, bytes or fill]], "texts": {column: sizes}, "extras": {key: [kind, rows,
values, sizes]}, "crc": that of TEXTS}. ARRAYS follow one another in the header's order, little endian; an array whose
items are all equal is one item in the header, in hexadecimal. TEXTS are lists of text in JSON, of the given sizes in
bytes: those of the columns, then those of the extras. They are written and read one list at a time, since results may
be longer than memory holds twice. Neither pandas nor numpy is needed. Any thread.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NotRequired, TypedDict, cast
from zlib import crc32

from nbrun.results.format import MatchRecord
from nbrun.results.sample_file import Place
from nbrun.results.values import dump, encode, load

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
        texts: dict[str, int] = {}
        given = self.values if kinds == {str} else map(as_json, self.values)
        codes = array("i", [texts.setdefault(v, len(texts)) for v in given])
        return Settled("t" if kinds == {str} else "j", rows, codes.tobytes(), list(texts))


def _as_numbers(values: list[Any], kinds: set[type]) -> array[Any] | None:
    """Return values of these types in an array that holds each of them exactly; None where there is none."""
    if kinds == {bool}:
        return array("b", values)
    if kinds == {int}:
        try:
            return array("q", values)
        except OverflowError:
            return None
    is_exact = kinds <= {int, float} and all(type(v) is float or abs(v) <= EXACT for v in values)
    return array("d", values) if is_exact else None


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
        parts: list[Bytes] = []
        arrays: list[list[object]] = []
        for name, (code, data) in self.arrays.items():
            item = data[: SIZES[code]]
            if self.n and (len(data) == len(item) or data == bytes(item) * self.n):
                arrays.append([name, code, bytes(item).hex()])
            else:
                arrays.append([name, code, len(data)])
                parts.append(data)
        texts_check = 0
        sizes: list[list[int]] = []
        for texts in self.all_texts():
            sizes.append([])
            for data in _lists_of(texts):  # encoded here for its size, and once more when it is written
                texts_check = crc32(data, texts_check)
                sizes[-1].append(len(data))
        extras = {}
        for (name, e), of in zip(self.extras.items(), sizes[len(self.texts) :], strict=True):
            extras[name] = [e.kind, len(e.rows), len(e.values), of]
            parts += [e.rows, e.values]
        header = dump({
            "n": self.n, "files": self.files, "arrays": arrays, "texts": dict(zip(self.texts, sizes, strict=False)),
            "extras": extras, "crc": texts_check,
        })  # fmt: skip
        check = crc32(b"\n", crc32(header))
        for part in parts:
            check = crc32(part, check)
        yield b"%b %08x %d %d\n%b\n" % (MAGIC, check, len(header), sum(map(len, parts)), header)
        yield from parts
        for texts in self.all_texts():
            yield from _lists_of(texts)

    def all_texts(self) -> Iterator[list[str]]:
        yield from self.texts.values()
        for e in self.extras.values():
            yield e.texts


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


def unpack(data: bytes | memoryview, release: Callable[[int, int], None] | None = None) -> Pack:
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


def _read_texts(
    header: _Header, view: memoryview, at: int, release: Callable[[int, int], None] | None
) -> list[list[str]]:
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
            some = load(data)
            texts += cast("list[str]", some)  # checked below, with all texts
            if release is not None:
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
    sizes_are_right = all(len(data) in (SIZES[code], SIZES[code] * pack.n) for code, data in pack.arrays.values())
    types = {kind for texts in pack.all_texts() for kind in {*map(type, texts)}}
    rows_are_right = {*map(type, rows)} <= {int} and sum(rows) == pack.n and min(rows, default=0) >= 0
    if not (rows_are_right and sizes_are_right and types <= {str}):
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
