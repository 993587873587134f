"""Rows as numpy arrays, from packs: joined, filtered, put in order, and made a DataFrame.

Pure functions and values. Any thread.
"""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import pandas as pd

from nbrun import verdicts
from nbrun.canonical import KEY_BYTES
from nbrun.frames.rows import EXACT, NUMBERS, ORPHANED, TEXTS, Bytes, FileRecord, Pack, Settled, as_json, column_of
from nbrun.results.values import decode, load
from nbrun.texts import printable

Array = np.ndarray[Any, np.dtype[Any]]
_CODES = {"b": "<i1", "i": "<i4", "q": "<i8", "d": "<f8", "t": "<i4", "j": "<i4", "n": "<i1"}


@dataclass(slots=True)
class DictionaryArray:
    """Texts of a column: a code a row, -1 for none."""

    codes: Array
    texts: list[str]


@dataclass(slots=True)
class SparseColumn:
    """A column of a key of results: its kind (see rows.Settled), the rows that have it, and their values.

    Of kinds t and j, values are codes into `texts`.
    """

    kind: str
    rows: Array
    values: Array
    texts: list[str]


@dataclass(slots=True)
class Table:
    """`n` rows. `integer_ids`: every sample id was given as an integer."""

    n: int
    numbers: dict[str, Array]
    texts: dict[str, DictionaryArray]
    keys: Array
    extras: dict[str, SparseColumn]
    integer_ids: bool = False

    def slice(self, start: int, stop: int) -> Table:
        """Return the rows from `start` to before `stop`, as views."""
        if start == 0 and stop == self.n:
            return self
        extras = {}
        for name, e in self.extras.items():
            a, b = np.searchsorted(e.rows, (start, stop))
            extras[name] = SparseColumn(e.kind, e.rows[a:b] - start, e.values[a:b], e.texts)
        return self._of_rows(builtins.slice(start, stop), stop - start, extras)

    def take(self, rows: Array) -> Table:
        """Return the rows of these numbers, in their order."""
        place = np.full(self.n, -1, np.int64)
        place[rows] = np.arange(len(rows))
        extras = {}
        for name, e in self.extras.items():
            now = place[e.rows]
            kept = now >= 0
            order = np.argsort(now[kept], kind="stable")
            extras[name] = SparseColumn(e.kind, now[kept][order], e.values[kept][order], e.texts)
        return self._of_rows(rows, len(rows), extras)

    def _of_rows(self, rows: Array | builtins.slice, n: int, extras: dict[str, SparseColumn]) -> Table:
        numbers = {name: values[rows] for name, values in self.numbers.items()}
        texts = {name: DictionaryArray(of.codes[rows], of.texts) for name, of in self.texts.items()}
        return Table(n, numbers, texts, self.keys[rows], extras, self.integer_ids)

    def add_columns(self, columns: dict[str, SparseColumn]) -> None:
        """Add columns. Keys of results that have the same names become `result_<key>`."""
        self.extras = {column_of(name, columns): e for name, e in self.extras.items()} | columns


def table_of(pack: Pack) -> Table:
    """Return a pack as arrays, which are views of it where they can be."""

    def column(name: str, dtype: str) -> Array:
        data = pack.arrays[name][1]
        is_repeated = len(data) == np.dtype(dtype).itemsize
        return np.ndarray(pack.n, dtype, data, strides=(0,)) if is_repeated else np.frombuffer(data, dtype)

    numbers = {name: column(name, _CODES[code]) for name, code in NUMBERS.items()}
    texts = {name: DictionaryArray(column(name, "<i4"), pack.texts[name]) for name in TEXTS}
    counts = np.array([f["n"] for f in pack.files], "<i8")
    texts["sample_id"] = _of_files((f["id"] for f in pack.files), counts)
    texts["source"] = _of_files((f["source"] for f in pack.files), counts)
    extras = {name: sparse_column_of(e) for name, e in pack.extras.items()}
    return Table(pack.n, numbers, texts, column("key", f"V{KEY_BYTES}"), extras)


def _of_files(texts: Iterable[str | None], counts: Array) -> DictionaryArray:
    """Return a column of what is the same in all rows of a file. `counts`: how many rows each file has."""
    unique: dict[str, int] = {}
    codes = np.array([unique.setdefault(text or "", len(unique)) for text in texts], "<i4")
    return DictionaryArray(np.repeat(codes, counts), list(unique))


def sparse_column_of(e: Settled) -> SparseColumn:
    """Return a column of a pack as arrays."""
    return SparseColumn(e.kind, np.frombuffer(e.rows, "<i4"), np.frombuffer(e.values, _CODES[e.kind]), e.texts)


def _bytes(a: Array) -> memoryview:
    """Return an array's bytes, in place."""
    return np.ascontiguousarray(a[:1] if a.strides == (0,) else a).view("u1").data


def pack_of(t: Table, files: list[FileRecord]) -> Pack:
    """Return a table as a pack. Its rows come from these files, in their order."""
    arrays: dict[str, tuple[str, Bytes]] = {name: (code, _bytes(t.numbers[name])) for name, code in NUMBERS.items()}
    arrays |= {name: ("i", _bytes(t.texts[name].codes)) for name in TEXTS}
    arrays["key"] = ("k", _bytes(t.keys))
    extras = {name: _settled(e) for name, e in t.extras.items()}
    return Pack(t.n, files, arrays, {name: t.texts[name].texts for name in TEXTS}, extras)


def _settled(e: SparseColumn) -> Settled:
    """Return a column as a pack holds it."""
    values, texts = e.values, e.texts
    if texts:  # only those that occur: a slice of a part shares its texts
        used = np.zeros(len(texts), bool)
        used[values] = True
        values = (np.cumsum(used, dtype="<i4") - 1)[values]
        texts = list(compress(texts, used.tolist()))
    return Settled(e.kind, e.rows.astype("<i4").tobytes(), values.astype(_CODES[e.kind]).tobytes(), texts)


def join(tables: Sequence[Table]) -> Table:
    """Return all rows, one table after the other."""
    tables = [t for t in tables if t.n] or list(tables[:1])
    if len(tables) == 1:
        return tables[0]
    texts = {name: _join_texts([t.texts[name] for t in tables]) for name in tables[0].texts}
    numbers = {name: _concatenate([t.numbers[name] for t in tables]) for name in NUMBERS}
    keys = np.concatenate([t.keys for t in tables])
    has_integer_ids = all(t.integer_ids for t in tables)
    return Table(len(keys), numbers, texts, keys, _join_extras(tables), has_integer_ids)


def _join_texts(parts: Sequence[DictionaryArray]) -> DictionaryArray:
    """Join columns of texts: each text once, with a code of its own in all of them."""
    unique: dict[str, int] = {}
    codes = []
    for part in parts:
        places = (unique.setdefault(text, len(unique)) for text in part.texts)
        new = np.array([*places, -1], "<i4")  # code -1 takes the last
        repeated = part.codes.strides == (0,)
        codes.append(np.broadcast_to(new[part.codes[:1]], len(part.codes)) if repeated else new[part.codes])
    return DictionaryArray(_concatenate(codes), list(unique))


def _concatenate(arrays: Sequence[Array]) -> Array:
    """Join arrays; if all their items are equal, the result is still one item that is repeated."""
    first = arrays[0][:1].tobytes()
    if all(a.strides == (0,) and a[:1].tobytes() == first for a in arrays):
        return np.broadcast_to(arrays[0][:1], sum(map(len, arrays)))
    return np.concatenate(arrays)


def _join_extras(tables: Sequence[Table]) -> dict[str, SparseColumn]:
    """Join the columns of keys."""
    extras: defaultdict[str, list[SparseColumn]] = defaultdict(list)
    begin = 0
    for t in tables:
        for name, e in t.extras.items():
            extras[name].append(SparseColumn(e.kind, e.rows.astype(np.int64) + begin, e.values, e.texts))
        begin += t.n
    return {name: _join_extra(parts) for name, parts in extras.items()}


def _join_extra(parts: Sequence[SparseColumn]) -> SparseColumn:
    """Join the parts of one column: of their kind, or of one that holds each value exactly."""
    kind = _common_kind(parts)
    rows = np.concatenate([e.rows for e in parts])
    if kind not in "tj":
        values = np.concatenate([e.values for e in parts])  # those of kind n are empty
        return SparseColumn(kind, rows, values.astype(_CODES[kind]), [])
    joined = _join_texts([_as_json(e) if kind == "j" else DictionaryArray(e.values, e.texts) for e in parts])
    return SparseColumn(kind, rows, joined.codes, joined.texts)


def _common_kind(parts: Sequence[SparseColumn]) -> str:
    kinds = {e.kind for e in parts} - {"n"} or {"n"}
    if kinds == {"q", "d"} and not any(map(_is_inexact, parts)):
        return "d"
    return kinds.pop() if len(kinds) == 1 else "j"


def _is_inexact(e: SparseColumn) -> bool:
    """Return whether a column has an integer that no float holds exactly."""
    return e.kind == "q" and bool(((e.values < -EXACT) | (e.values > EXACT)).any())


def _as_json(e: SparseColumn) -> DictionaryArray:
    """Return a column as texts of JSON, each once, and codes into them."""
    if e.kind == "j":
        return DictionaryArray(e.values, e.texts)
    if e.kind == "t":
        return DictionaryArray(e.values, [as_json(text) for text in e.texts])
    unique, codes = np.unique(e.values, return_inverse=True)
    values = (unique != 0).tolist() if e.kind == "b" else unique.tolist()
    return DictionaryArray(codes, [as_json(value) for value in values])


def in_order(t: Table, *, stale: bool) -> Array:
    """Return row numbers by sample, group (solution first) and index; entries without an item only if `stale`."""
    index = t.numbers["index"]
    kept: Array | slice = slice(None)
    if not stale and (index == ORPHANED).any():
        kept = np.flatnonzero(index != ORPHANED)
    last = index[kept]
    last = np.where(last < 0, np.iinfo(np.int64).max, last)
    group = _ranks(t.texts["group"], kept, lambda text: (text != "solution", text))
    sample = _ranks(t.texts["sample_id"], kept, int if t.integer_ids else str)
    rows = np.arange(t.n)[kept]
    return rows if _is_sorted(last, group, sample) else rows[np.lexsort((last, group, sample))]


def _ranks(of: DictionaryArray, kept: Array | slice, key: Callable[[str], Any]) -> Array:
    """Return the place of each row's text among the texts in the order of `key`."""
    order = sorted(range(len(of.texts)), key=lambda i: key(of.texts[i]))
    rank = np.empty(len(order) + 1, np.int32)
    rank[order] = np.arange(len(order))
    return rank[of.codes[kept]]


def _is_sorted(last: Array, group: Array, sample: Array) -> bool:
    same_group = group[1:] == group[:-1]
    right = (group[1:] > group[:-1]) | (same_group & (last[1:] >= last[:-1]))
    right &= sample[1:] == sample[:-1]
    right |= sample[1:] > sample[:-1]
    return bool(right.all())


# ---- as a DataFrame

DTYPES = {
    "sample_id": "category", "group": "category", "index": "Int64", "status": "category", "verdict": "category",
    "accepted": "boolean", "as_expected": "boolean", "language": "category",
    "n_tests": "Int64", "n_passed": "Int64", "max_time_s": "Float64",
    "duration_s": "Float64", "attempts": "Int64", "started_at": "datetime64[us, UTC]", "error": "object",
    "api_used": "category", "worker_id": "category", "run_id": "category", "key": "object", "occurrence": "Int64",
    "source": "category",
}  # fmt: skip
#: Columns that only judged results fill, and those that are empty where nothing went wrong.
MAYBE_EMPTY = (
    "verdict",
    "accepted",
    "as_expected",
    "language",
    "n_tests",
    "n_passed",
    "max_time_s",
    "error",
    "api_used",
)
#: Texts of plain results are categorical where at most this many occur, each twice or more on average.
MAX_CATEGORIES = 1000
#: Microseconds since 1970 fit into 64 bits up to here.
_MOST_S = 2.0**63 / 1e6
_KEY_TEXT = 3 + 2 * KEY_BYTES
_BLOCK = 1 << 13


def to_frame(t: Table, columns: Collection[str] | None = None) -> pd.DataFrame:
    """Return a DataFrame: the fixed columns, then those of plain results; only `columns` where they are given.

    Columns are removed from the table as they are converted, so that only one of them is in memory twice.
    """
    wanted = {*DTYPES, *t.extras} if columns is None else set(columns)
    out: dict[str, Any] = {}
    t.numbers["as_expected"] = _as_expected(t)
    for name in DTYPES:
        if name in wanted:
            out[name] = _column(t, name)
        t.numbers.pop(name, None)
        t.texts.pop(name, None)
    for name in list(t.extras):
        e = t.extras.pop(name)
        if name in wanted:
            out[name] = _extra(t.n, e)
    index = pd.RangeIndex(t.n)
    for name, values in out.items():
        if isinstance(values, np.ndarray):  # without the dtype pandas 3 would make a text column of it
            out[name] = pd.Series(values, index=index, dtype=object, copy=False)
    return pd.DataFrame(out, index=index, copy=False)


def _column(t: Table, name: str) -> Any:
    if name == "key":
        return key_texts(t.keys)
    if name not in t.texts:
        return _numbers(t.numbers[name], DTYPES[name])
    of = t.texts[name]
    if name == "sample_id" and t.integer_ids:
        ids = np.array(list(map(int, of.texts)), np.int64)
        return pd.arrays.IntegerArray(ids[of.codes], np.zeros(t.n, bool))
    return _category(of) if DTYPES[name] == "category" else _objects(of)


def _numbers(values: Array, dtype: str) -> Any:
    """Return a column of numbers. Negative integers, and NaN, mean that there is none."""
    if dtype.startswith("datetime64"):
        known = np.abs(values) < _MOST_S
        micro = np.full(len(values), np.iinfo(np.int64).min)  # not a time
        micro[known] = (values[known] * 1e6).round().astype(np.int64)
        return pd.DatetimeIndex(micro.view("M8[us]")).tz_localize("UTC")
    if dtype == "Float64":
        return pd.arrays.FloatingArray(values.copy(), np.isnan(values))
    if dtype == "boolean":
        return pd.arrays.BooleanArray(values > 0, values < 0)
    return pd.arrays.IntegerArray(np.where(values < 0, 0, values).astype(np.int64), values < 0)


#: What verdicts.expected says, as a number.
_SIDES = {True: 1, False: 0, None: -1}


def _as_expected(t: Table) -> Array:
    """Return 1 where a judged solution was accepted exactly if it is a correct one, else 0; -1 in other groups."""
    groups = t.texts["group"]
    sides = np.array([_SIDES[verdicts.expected(group)] for group in groups.texts] + [-1])
    side, accepted = sides[groups.codes], t.numbers["accepted"]
    return np.where((accepted < 0) | (side < 0), np.int8(-1), accepted == side)


def _category(of: DictionaryArray) -> pd.Categorical:
    """Return a categorical with sorted categories, and only those that occur."""
    is_repeated = of.codes.strides == (0,)  # one value for all rows
    looked_at = of.codes[:1] if is_repeated else of.codes
    used = np.flatnonzero(np.bincount(looked_at + 1, minlength=len(of.texts) + 1)[1:]).tolist()
    used.sort(key=of.texts.__getitem__)
    new: np.ndarray[Any, np.dtype[np.integer[Any]]]
    new = np.full(len(of.texts) + 1, -1, np.int8 if len(used) < 128 else np.int32)  # the last is for code -1
    new[used] = np.arange(len(used))
    codes = np.broadcast_to(new[looked_at], len(of.codes)).copy() if is_repeated else new[of.codes]
    return pd.Categorical.from_codes(codes, pd.Index([of.texts[i] for i in used], dtype=object), validate=False)


def _objects(of: DictionaryArray) -> Array:
    """Return a column of texts as objects; None where there is none."""
    return np.array([*of.texts, None], object)[of.codes]


#: Kind of a column of numbers -> the dtype of its values, and the pandas array that they become.
_NUMBER_ARRAYS: dict[str, tuple[Any, Any]] = {
    "b": (bool, pd.arrays.BooleanArray),
    "q": (np.int64, pd.arrays.IntegerArray),
    "d": (np.float64, pd.arrays.FloatingArray),
}


def _extra(n: int, e: SparseColumn) -> Any:
    """Return a column of a result's key. Texts are categorical where few occur, each more than once."""
    if e.kind in _NUMBER_ARRAYS:
        dtype, array = _NUMBER_ARRAYS[e.kind]
        values, missing = np.zeros(n, dtype), np.ones(n, bool)
        values[e.rows], missing[e.rows] = e.values, False
        return array(values, missing)
    if e.kind == "n":
        return np.full(n, None, object)
    if e.kind == "j":
        return _parsed(n, e)
    codes = np.full(n, -1, "<i4")
    codes[e.rows] = e.values
    of = DictionaryArray(codes, e.texts)
    occurring = np.count_nonzero(np.bincount(e.values))
    return _category(of) if occurring <= min(MAX_CATEGORIES, len(e.values) // 2) else _objects(of)


def _parsed(n: int, e: SparseColumn) -> Array:
    """Nested values, integers beyond 64 bits, values of several types: objects, of each row its own.

    Each text is freed when it is parsed for the last time, unless another table has it too.
    """
    out = np.full(n, None, object)
    shared: dict[int, Any] = {}
    texts = list(e.texts)  # other slices of a cached part share the list
    e.texts = []
    uses = np.bincount(e.values, minlength=len(texts)).tolist()
    for row, code in zip(e.rows.tolist(), e.values.tolist(), strict=True):
        if code in shared:
            out[row] = shared[code]
            continue
        out[row] = value = printable(decode(load(texts[code])))
        if not isinstance(value, (list, dict)):
            shared[code] = value
        uses[code] -= 1
        if not uses[code]:
            texts[code] = ""
    return out


def key_texts(keys: Array) -> Array:
    """Return keys as they are written: `k1:` and 32 hexadecimal digits."""
    out = np.empty(len(keys), object)
    for at in range(0, len(keys), _BLOCK):
        some = keys[at : at + _BLOCK].tobytes()
        lines = np.full((len(some) // KEY_BYTES, _KEY_TEXT + 1), ord("\n"), "u1")
        lines[:, :3] = np.frombuffer(b"k1:", "u1")
        lines[:, 3:-1] = np.frombuffer(some.hex().encode(), "u1").reshape(-1, 2 * KEY_BYTES)
        out[at : at + _BLOCK] = lines.tobytes().decode("ascii").split("\n")[:-1]  # a third of the time of a loop
    return out
