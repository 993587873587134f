"""What load_results shows of whole entries: the column `entry`, the items, and one row a test.

A RowBuilder passes each row to an EntryParts, which collects what is wanted. The column `entry` holds JSON that is
parsed when it is looked at: a frame with its entries takes the room of their text; to_parquet and Arrow see text. Any
thread.
"""

from __future__ import annotations

import builtins
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take
from pandas.api.types import is_list_like

from nbrun import verdicts
from nbrun.frames.packing import SparseColumnBuilder
from nbrun.frames.rows import Row, column_of
from nbrun.frames.table import Array
from nbrun.json_types import JsonValue
from nbrun.results.values import decode, encode, load
from nbrun.verdicts import mapping, run_of, texts_of


@register_extension_dtype
class EntryDtype(ExtensionDtype):
    """A saved entry: a mapping."""

    name = "entry"
    type = dict
    kind = "O"
    na_value = None

    @classmethod
    def construct_array_type(cls) -> builtins.type[EntryArray]:
        return EntryArray


class EntryArray(ExtensionArray):
    """Entries as bytes of JSON; an element is a new dict each time it is taken."""

    def __init__(self, data: Array) -> None:
        self._data = data

    @property
    def dtype(self) -> EntryDtype:
        return EntryDtype()

    @classmethod
    def _from_sequence(cls, scalars: Iterable[object], *, dtype: object = None, copy: bool = False) -> EntryArray:
        if isinstance(scalars, EntryArray):
            return scalars.copy() if copy else scalars
        rows = list(scalars)
        data = np.full(len(rows), None, object)
        for i, x in enumerate(rows):
            if isinstance(x, Mapping):
                data[i] = encode(x)[0]
            elif isinstance(x, (bytes, str)):
                data[i] = x if isinstance(x, bytes) else x.encode()
        return cls(data)

    @classmethod
    def _from_scalars(cls, scalars: Iterable[object], *, dtype: object) -> EntryArray:
        raise TypeError("what a function makes of entries are no entries")  # pandas makes a plain column of it

    @classmethod
    def _from_factorized(cls, values: object, original: EntryArray) -> EntryArray:
        return cls(np.asarray(values, object))

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, item: Any) -> Any:
        item = pd.api.indexers.check_array_indexer(self, item)
        found = self._data[item]
        if isinstance(found, np.ndarray):
            return type(self)(found)
        return None if found is None else decode(load(found))

    def __setitem__(self, key: Any, value: Any) -> None:
        rows = [value] if isinstance(value, Mapping) or not is_list_like(value) else value
        data = type(self)._from_sequence(rows)._data
        self._data[pd.api.indexers.check_array_indexer(self, key)] = data[0] if len(data) == 1 else data

    def __eq__(self, other: object) -> Array:  # type: ignore[override]
        if isinstance(other, (EntryArray, Sequence)) and len(other) == len(self):
            return np.array([a == b for a, b in zip(self, other, strict=True)], bool)
        return np.array([a == other for a in self], bool)

    @property
    def nbytes(self) -> int:
        """Bytes of the texts."""
        return sum(len(x) for x in self._data if x is not None) + int(self._data.nbytes)

    def isna(self) -> Array:
        return np.array([x is None for x in self._data], bool)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: object = None) -> EntryArray:
        found = take(self._data, indices, allow_fill=allow_fill, fill_value=None)
        return type(self)(np.asarray(found, object))

    def unique(self) -> EntryArray:
        return type(self)(pd.unique(self._data))

    def value_counts(self, dropna: bool = True) -> pd.Series[int]:
        return pd.Series(self._data, dtype=object).value_counts(dropna=dropna)

    def copy(self) -> EntryArray:
        return type(self)(self._data.copy())

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[EntryArray]) -> EntryArray:
        return cls(np.concatenate([a._data for a in to_concat]))

    def _values_for_factorize(self) -> tuple[Array, None]:
        return self._data, None

    def _values_for_argsort(self) -> Array:
        return self._data

    def __arrow_array__(self, type: object = None) -> Any:
        import pyarrow as pa

        return pa.array([None if x is None else x.decode() for x in self._data], pa.string())

    def _formatter(self, boxed: bool = False) -> Callable[[object], str]:
        def short(entry: object) -> str:
            if not isinstance(entry, dict):
                return "None"
            return f"{{{entry.get('status')}, {', '.join(k for k in entry if k != 'status')}}}"[:60]

        return short


# ---- collected while results are read


class EntryParts:
    """Collects what load_results shows of whole entries: their bytes, their items, their tests (a rows.Listener).

    Args:
        entries, items, tests: which of these are wanted.
        outputs: which texts of the tests.
    """

    def __init__(self, *, entries: bool, items: bool, tests: bool, outputs: tuple[str, ...]) -> None:
        self._entries, self._items, self._tests, self._outputs = entries, items, tests, outputs
        self.begin()

    def begin(self) -> None:
        """Forget everything: the next stride begins."""
        self.bodies: list[bytes | None] = []
        self.tests = TestRows(self._outputs) if self._tests else None
        self.items = ItemRows() if self._items else None

    def __call__(self, row: int, entry: Row, body: bytes | None) -> None:
        """See rows.Listener."""
        if self._entries:
            self.bodies.append(body)
        if self.items is not None:
            self.items(row, entry)
        if self.tests is not None:
            self.tests(row, entry, body)

    def cut(self, n: int) -> None:
        """See rows.Listener."""
        del self.bodies[n:]
        for part in (self.tests, self.items):
            if part is not None:
                part.cut(n)


class ItemRows:
    """The items of the rows that a RowBuilder reads, as columns.

    Attributes:
        extras: by column.
    """

    def __init__(self) -> None:
        self.extras: dict[str, SparseColumnBuilder] = {}

    def __call__(self, row: int, entry: Row) -> None:
        """The next row."""
        if "item" not in entry:  # an item of just these two, or none where `keep_items=False`
            fields = {}
            if "language" in entry:
                fields["language"] = entry["language"]
            if "solution" in entry:
                fields["solution"] = entry["solution"]
        else:
            item = decode(entry["item"])
            if type(item) is not dict:
                self._add("item", row, item)
                return
            fields = item
        for name, value in fields.items():
            self._add(f"item_{name}", row, value)

    def _add(self, column: str, row: int, value: JsonValue) -> None:
        extras = self.extras.setdefault(column, SparseColumnBuilder())
        if value is not None:
            extras.rows.append(row)
            extras.values.append(encode(value)[0] if type(value) in (dict, list) else value)

    def cut(self, n: int) -> None:
        """See rows.Listener."""
        for extras in self.extras.values():
            extras.cut(n)


#: Columns that hold a test's texts: only where they are asked for, since they are most of a result.
OUTPUTS = ("stdin", "expected", "stdout", "stderr")
TEST_COLUMNS = ("test", "passed", "test_verdict", "time_s", "return_code")


class TestRows:
    """The tests of the rows that a RowBuilder reads (its listener).

    Args:
        outputs: which of OUTPUTS to keep.

    Attributes:
        columns: the names of the columns that it adds.
    """

    __test__ = False  # not for pytest

    def __init__(self, outputs: tuple[str, ...] = ()) -> None:
        self._rows = array("q")  # of each test, which row it belongs to
        self._numbers: dict[str, array[Any]] = {
            name: array(code) for name, code in zip(TEST_COLUMNS, "ibidd", strict=True)
        }
        self._verdicts: dict[str | None, int] = {None: -1}
        self._outputs: dict[str, list[str | None]] = {name: [] for name in outputs}
        self.columns = (*TEST_COLUMNS, *outputs)

    def __call__(self, row: int, entry: Row, body: bytes | None) -> None:
        """See rows.Listener."""
        tests = mapping(entry.get("result")).get("tests")
        for number, test in enumerate(map(mapping, tests if isinstance(tests, list) else ())):
            run, passed = run_of(test), test.get("passed")
            verdict = verdicts.of({"accepted": passed is True, "tests": [test]})
            values = (
                number,
                int(passed) if isinstance(passed, bool) else -1,
                self._verdicts.setdefault(verdict, len(self._verdicts) - 1),
                _number(run.get("execution_time")),
                _number(run.get("return_code")),
            )
            self._rows.append(row)
            for column, value in zip(self._numbers.values(), values, strict=True):
                column.append(value)
            for name, texts in self._outputs.items():
                texts.append(getattr(texts_of(test), name))

    def cut(self, n: int) -> None:
        """See rows.Listener."""
        at = bisect_left(self._rows, n)
        columns: tuple[MutableSequence[Any], ...] = (self._rows, *self._numbers.values(), *self._outputs.values())
        for column in columns:
            del column[at:]

    def explode(self, df: pd.DataFrame, rows: Array) -> pd.DataFrame:
        """`df` with one row a test. `rows`: the number that each of its rows had when it was read."""
        of = np.frombuffer(self._rows, "q") if self._rows else np.empty(0, "q")
        place = np.full(int(max(of.max(initial=-1), rows.max(initial=-1))) + 1, -1)
        place[rows] = np.arange(len(rows))
        order = np.flatnonzero(place[of] >= 0)
        order = order[np.argsort(place[of[order]], kind="stable")]
        out = df.take(place[of[order]]).reset_index(drop=True)
        out = out.rename(columns={name: column_of(name, self.columns) for name in out.columns})
        test, passed, codes, time_s, return_code = (np.array(column)[order] for column in self._numbers.values())
        out["test"] = pd.array(test.astype("q"), dtype="Int64")
        out["passed"] = pd.arrays.BooleanArray(passed > 0, passed < 0)
        names = [v for v in self._verdicts if v is not None]
        out["test_verdict"] = pd.Categorical.from_codes(codes, pd.Index(names, dtype=object))
        out["time_s"] = pd.arrays.FloatingArray(time_s, np.isnan(time_s))
        out["return_code"] = pd.arrays.IntegerArray(np.nan_to_num(return_code).astype("q"), np.isnan(return_code))
        for name, texts in self._outputs.items():
            out[name] = pd.Series(np.array([*texts, None], object)[:-1][order], index=out.index, dtype=object)
        return out


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else nan
