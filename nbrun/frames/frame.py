"""A table of rows -> a DataFrame: which columns it has, their dtypes, and how each is made without a loop.

Pure functions; any thread.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from nbrun.canonical import KEY_BYTES
from nbrun.frames.table import Array, DictionaryArray, SparseColumn, Table
from nbrun.results.values import decode, load
from nbrun.texts import digits_of

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
_KEY_TEXT = 3 + 2 * KEY_BYTES
_BLOCK = 1 << 13
_PRINTED_BITS = 14_000  # 4,300 digits have at least this many bits


def to_frame(t: Table, columns: Collection[str] | None = None) -> pd.DataFrame:
    """Return a DataFrame: the fixed columns, then those of plain results; only `columns` where they are given.

    Columns are removed from the table as they are converted, so that only one of them is in memory twice.
    """
    out: dict[str, Any] = {}
    expected = _as_expected(t) if columns is None or "as_expected" in columns else None
    for name in DTYPES:
        if columns is None or name in columns:
            out[name] = _column(t, name) if name != "as_expected" else expected
        t.numbers.pop(name, None)
        t.texts.pop(name, None)
    for name in list(t.extras):
        e = t.extras.pop(name)
        if columns is None or name in columns:
            out[name] = _extra(t.n, e)
    index = pd.RangeIndex(t.n)
    for name, values in out.items():
        if isinstance(values, np.ndarray):  # without the dtype pandas 3 would make a text column of it
            out[name] = pd.Series(values, index=index, dtype=object, copy=False)
    return pd.DataFrame(out, index=index, copy=False)


def _column(t: Table, name: str) -> Any:
    if name == "key":
        return key_texts(t.keys)
    if name in t.texts:
        of = t.texts[name]
        if name == "sample_id" and t.integer_ids:
            ids = np.array([int(text) for text in of.texts], np.int64)
            return pd.arrays.IntegerArray(ids[of.codes], np.zeros(t.n, bool))
        return _objects(of) if DTYPES[name] == "object" else _category(of)
    values = t.numbers[name]
    kind = DTYPES[name]
    if name == "started_at":
        micro = np.where(np.isnan(values), np.int64(-(2**63)), np.nan_to_num(values * 1e6).round().astype(np.int64))
        return pd.DatetimeIndex(micro.view("M8[us]")).tz_localize("UTC")
    if kind == "Float64":
        return pd.arrays.FloatingArray(values.copy(), np.isnan(values))
    missing = values < 0
    if kind == "boolean":
        return pd.arrays.BooleanArray(values > 0, missing)
    return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(np.int64), missing)


def _as_expected(t: Table) -> Any:
    """Return whether each judged solution was accepted exactly if it is a correct one; NA in other groups."""
    groups = t.texts["group"]
    sides = np.array([1 if g == "solution" else 0 if g.startswith("incorrect_") else -1 for g in groups.texts] + [-1])
    side, accepted = sides[groups.codes], t.numbers["accepted"]
    return pd.arrays.BooleanArray(accepted == side, (accepted < 0) | (side < 0))


def _category(of: DictionaryArray) -> pd.Categorical:
    """Return a categorical with sorted categories, and only those that occur."""
    if of.codes.strides == (0,):  # one value for all rows
        used = [int(of.codes[0])] if len(of.codes) and of.codes[0] >= 0 else []
        codes = np.broadcast_to(np.int8(len(used) - 1), len(of.codes)).copy()
        return pd.Categorical.from_codes(codes, pd.Index([of.texts[i] for i in used], dtype=object), validate=False)
    used = np.flatnonzero(np.bincount(of.codes + 1, minlength=len(of.texts) + 1)[1:]).tolist()
    used.sort(key=lambda i: of.texts[i])
    new: np.ndarray[Any, np.dtype[np.integer[Any]]]
    new = np.full(len(of.texts) + 1, -1, np.int8 if len(used) < 128 else np.int32)  # the last is for code -1
    new[used] = np.arange(len(used))
    return pd.Categorical.from_codes(new[of.codes], pd.Index([of.texts[i] for i in used], dtype=object), validate=False)


def _objects(of: DictionaryArray) -> Array:
    values = np.array([*of.texts, None], object)
    return np.asarray(values[of.codes])


def _extra(n: int, e: SparseColumn) -> Any:
    if e.kind == "n":
        return np.full(n, None, object)
    if e.kind == "j":
        return _parsed(n, e)
    if e.kind == "t":
        occurring = np.count_nonzero(np.bincount(e.values, minlength=1)) if len(e.values) else 0
        if occurring <= MAX_CATEGORIES and 2 * occurring <= len(e.values):
            of = np.full(n, -1, "<i4")
            of[e.rows] = e.values
            return _category(DictionaryArray(of, e.texts))
        texts = np.full(n, None, object)
        texts[e.rows] = np.array(e.texts, object)[e.values]
        return texts
    missing = np.ones(n, bool)
    missing[e.rows] = False
    if e.kind == "b":
        flags = np.zeros(n, bool)
        flags[e.rows] = e.values != 0
        return pd.arrays.BooleanArray(flags, missing)
    if e.kind == "q":
        whole = np.zeros(n, np.int64)
        whole[e.rows] = e.values
        return pd.arrays.IntegerArray(whole, missing)
    numbers = np.zeros(n, np.float64)
    numbers[e.rows] = e.values
    return pd.arrays.FloatingArray(numbers, missing)


class LongInteger(int):
    """An integer of more digits than Python prints by itself: it prints, so that a frame that holds one does."""

    def __str__(self) -> str:
        return digits_of(int(self))

    __repr__ = __str__


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
        value = decode(load(texts[code]))
        uses[code] -= 1
        if not uses[code]:
            texts[code] = ""
        if type(value) is int and value.bit_length() > _PRINTED_BITS:
            value = LongInteger(value)
        if not isinstance(value, (list, dict)):
            shared[code] = value
        out[row] = value
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
