"""The column `entry`: whole entries, kept as JSON and parsed when they are looked at.

So a frame with its entries takes the room of their text; to_parquet and Arrow see text. Any thread.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take

from nbrun.results import values
from nbrun.results.values import load


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

    def __init__(self, data: np.ndarray[Any, np.dtype[Any]]) -> None:
        self._data = data

    @property
    def dtype(self) -> EntryDtype:
        return EntryDtype()

    @classmethod
    def _from_sequence(cls, scalars: Iterable[Any], *, dtype: Any = None, copy: bool = False) -> EntryArray:
        if isinstance(scalars, EntryArray):
            return scalars.copy() if copy else scalars
        rows = list(scalars)
        data = np.full(len(rows), None, object)
        for i, x in enumerate(rows):
            if isinstance(x, Mapping):
                data[i] = values.encode(x)[0]
            elif isinstance(x, (bytes, str)):
                data[i] = x if isinstance(x, bytes) else x.encode()
        return cls(data)

    @classmethod
    def _from_factorized(cls, values: Any, original: EntryArray) -> EntryArray:
        return cls(np.asarray(values, object))

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, item: Any) -> Any:
        item = pd.api.indexers.check_array_indexer(self, item)
        found = self._data[item]
        if isinstance(found, np.ndarray):
            return type(self)(found)
        return None if found is None else values.decode(load(found))

    def __setitem__(self, key: Any, value: Any) -> None:
        rows = [value] if isinstance(value, Mapping) or value is None else value
        data = type(self)._from_sequence(rows)._data
        self._data[pd.api.indexers.check_array_indexer(self, key)] = data[0] if len(data) == 1 else data

    def __eq__(self, other: object) -> Any:
        if isinstance(other, (EntryArray, Sequence)) and len(other) == len(self):
            return np.array([a == b for a, b in zip(self, other, strict=True)], bool)
        return np.array([a == other for a in self], bool)

    @property
    def nbytes(self) -> int:
        """Bytes of the texts."""
        return sum(len(x) for x in self._data if x is not None) + int(self._data.nbytes)

    def isna(self) -> Any:
        return np.array([x is None for x in self._data], bool)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> EntryArray:
        found = take(self._data, indices, allow_fill=allow_fill, fill_value=None)
        return type(self)(np.asarray(found, object))

    def copy(self) -> EntryArray:
        return type(self)(self._data.copy())

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[EntryArray]) -> EntryArray:
        return cls(np.concatenate([a._data for a in to_concat]))

    def _values_for_factorize(self) -> tuple[Any, Any]:
        return self._data, None

    def _values_for_argsort(self) -> Any:
        return self._data

    def __arrow_array__(self, type: Any = None) -> Any:
        import pyarrow as pa

        return pa.array([None if x is None else x.decode() for x in self._data], pa.string())

    def _formatter(self, boxed: bool = False) -> Any:
        def short(entry: Any) -> str:
            if not isinstance(entry, dict):
                return "None"
            return f"{{{entry.get('status')}, {', '.join(k for k in entry if k != 'status')}}}"[:60]

        return short
