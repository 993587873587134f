"""Load results directories as DataFrames with fixed columns and dtypes, as Arrow tables, and as files of other kinds.

Every value is exact in all of them. Arrow and Parquet need the extra `nbrun[arrow]`. Never writes into a results
directory; any thread.
"""

from __future__ import annotations

import builtins
import csv
import math
import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableSequence, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take
from pandas.api.types import is_list_like

from nbrun import verdicts
from nbrun.errors import InputError, hides_own_frames, warn
from nbrun.frames.loader import ALL, Loader, count_samples
from nbrun.frames.rows import ORPHANED, Row, SparseColumnBuilder, column_of
from nbrun.frames.table import DTYPES, MAYBE_EMPTY, Array, Table, join, sparse_column_of, to_frame
from nbrun.results.format import FOLDER, JsonValue
from nbrun.results.listing import Problem
from nbrun.results.values import decode, encode, load
from nbrun.texts import digits_of, without_surrogates
from nbrun.tuning import TUNING
from nbrun.verdicts import mapping, run_of, texts_of

if TYPE_CHECKING:
    import pyarrow as pa


Results = str | os.PathLike[str]
#: `columns=` that leaves out what holds nothing.
AUTO = "auto"
Where = str | Mapping[str, Any] | Callable[[pd.DataFrame], Any]


@hides_own_frames
def load_results(
    results: Results | Iterable[Results],
    *,
    columns: Collection[str] | None = None,
    items: bool = False,
    entries: bool = False,
    tests: bool = False,
    where: Where | None = None,
    stale: bool = False,
) -> pd.DataFrame:
    """Return one row for each saved entry, during a run or after it, sorted by sample, group and index.

    Each key of a result becomes a column, named `result_<key>` where another column has that name. Nested values, lists
    and integers beyond 64 bits are objects. What the fixed columns show of a judge's result (verdict, accepted, tests)
    isn't repeated, nor what SandboxFusion echoes of its request beside its tests (extracted_code, full_code, test_code,
    extracted_type, extra, id); `entries=True` holds all of it. The `settings=` of a run become columns `setting_<key>`.
    Ids that were given as integers are integers again.

    What has not changed since it was last loaded comes from a cache in `.nbrun/cache/`, which may be deleted.

    Args:
        results: a results directory, or several, which load as one.
        columns: only these columns; "auto" leaves out those of judged results, of errors and of endpoints (verdict,
            accepted, as_expected, language, n_tests, n_passed, max_time_s, error, api_used) where they hold nothing.
        items: adds each item: its fields as `item_<key>`, or `item` where it is a plain value.
        entries: adds a column `entry` with the whole entry, a mapping. It is kept as JSON and parsed when looked at.
        tests: one row a test instead: `test`, `passed`, `test_verdict`, `time_s`, `return_code` beside the columns of
            its entry; `stdin`, `expected`, `stdout` and `stderr` where `columns` names them.
        where: only these rows: a mapping of columns to a value or several, an expression for DataFrame.query, or a
            function of the frame that returns which rows to keep. It sees every column.
        stale: also entries whose item is no longer in the dataset (their `index` is NA), with a column `stale`.

    Raises:
        InputError: there is no such folder, or no such column.

    Example:
        >>> load_results("results", where={"verdict": ["WrongAnswer", "RuntimeError"]})  # doctest: +SKIP
    """
    options = _Options(columns, where, items=items, entries=entries, tests=tests, stale=stale)
    paths = _paths(results)
    problems: list[Problem] = []
    df = _load(paths, options, problems)
    _warn_of_problems(df, problems)
    if not len(df) and not problems:
        _warn_of_empty(paths)
    df.attrs["results"] = _absolute(paths)
    return options.select(options.choose(df))


def _load(paths: list[Results], options: _Options, problems: list[Problem]) -> pd.DataFrame:
    """Return all rows of all directories, and add to `problems` what can't be read."""
    if options.reads_entries:
        return _concatenated([df for path in paths for df in _with_bodies(path, options, problems, ALL)])
    if not paths:
        return _concatenated([])
    return options.frame(join([_load_table(path, options.stale, problems) for path in paths]))


def iter_results(
    results: Results | Iterable[Results],
    *,
    chunksize: int = 100_000,
    columns: Collection[str] | None = None,
    items: bool = False,
    entries: bool = False,
    tests: bool = False,
    where: Where | None = None,
    stale: bool = False,
) -> Iterator[pd.DataFrame]:
    """Yield what load_results returns in frames of at most `chunksize` rows, for directories bigger than memory.

    A frame's categories are those that occur in it, and a function given as `where` sees only the columns of its frame.

    Raises:
        InputError: as load_results; of a column that no frame has, at the end.

    Example:
        >>> for df in iter_results("results", chunksize=50_000):  # doctest: +SKIP
        ...     print(df.verdict.value_counts())
    """
    if chunksize < 1:
        raise InputError(f"chunksize={chunksize!r}: give at least 1 row.")
    options = _Options(columns, where, items=items, entries=entries, tests=tests, stale=stale)
    problems: list[Problem] = []
    for path in _paths(results):
        for part in _strides(path, options, problems):
            df = options.choose(part, is_part=True)
            for at in range(0, len(df), chunksize):
                chunk = options.select(df.iloc[at : at + chunksize].reset_index(drop=True), is_part=True)
                chunk.attrs["results"] = _absolute([path])
                yield chunk
    options.refuse_unknown()
    _warn_of_problems(pd.DataFrame(), problems)


def _paths(results: Results | Iterable[Results]) -> list[Results]:
    several = isinstance(results, Iterable) and not isinstance(results, (str, bytes))
    return list(results) if several else [results]  # type: ignore[arg-type,list-item]  # the reader refuses others


class _Options:
    """The arguments of load_results, checked."""

    items: bool
    entries: bool
    tests: bool
    stale: bool

    def __init__(self, columns: Collection[str] | None, where: Where | None, **flags: bool) -> None:
        self._hides_empty = isinstance(columns, str) and columns == AUTO
        self.columns = None if self._hides_empty else _names(columns)
        _check_flags(flags)
        vars(self).update(flags)
        self.reads_entries = self.items or self.entries or self.tests  # entries are read, nothing comes from the cache
        self.outputs = tuple(filter((self.columns or ()).__contains__, OUTPUTS))
        self.where, self.values = _read_where(where)
        self._unknown: dict[str, InputError] = {}  # columns that no part has had, until now
        self._known: dict[str, None] = {}  # columns of the parts

    def frame(self, table: Table) -> pd.DataFrame:
        """Return the rows of a table, with at least the columns that are wanted."""
        stale = table.numbers["index"] == ORPHANED
        df = to_frame(table, self._needed_columns())
        if self.stale:
            df["stale"] = pd.array(stale, dtype="boolean")
        return df

    def _needed_columns(self) -> set[str] | None:
        """Return the only columns that the frame must have; None where any may be needed."""
        if self.columns is None or self.where is not None or self.reads_entries:
            return None
        return {*self.columns, *self.values}

    def choose(self, df: pd.DataFrame, *, is_part: bool = False) -> pd.DataFrame:
        """Return the rows that `where` chooses. `is_part`: a column that isn't here may be in another part."""
        self._known |= dict.fromkeys(df.columns)
        found = df
        if self.values:
            found = df[self.chosen_by_value(df, self.values, is_part=is_part)]
        if isinstance(self.where, str):
            found = self._query(found, self.where, is_part)
        elif self.where is not None:
            found = found[_as_mask(self.where(found), found.index)]
        return df if len(found) == len(df) else found.reset_index(drop=True)

    def chosen_by_value(self, df: pd.DataFrame, names: Iterable[str], *, is_part: bool) -> Array:
        """Return for each row whether its values in these columns are among those that `where` names."""
        keep = np.ones(len(df), bool)
        for name in names:
            keep &= _is_any_of(self._column(df, name, "where", is_part), self.values[name])
        return keep

    def select(self, df: pd.DataFrame, *, is_part: bool = False) -> pd.DataFrame:
        """Return the wanted columns, in the given order."""
        if self._hides_empty:
            return df.drop(columns=[c for c in MAYBE_EMPTY if df[c].isna().all()])
        if self.columns is None:
            return df
        missing = {c: self._column(df, c, "columns", is_part) for c in self.columns if c not in df.columns}
        return df.assign(**missing)[self.columns]

    def refuse_unknown(self) -> None:
        """Raise InputError where a column was asked for that no part has had."""
        for name, error in self._unknown.items():
            if name not in self._known:
                raise error

    def _column(self, df: pd.DataFrame, name: str, who: str, is_part: bool) -> Any:
        """Return a column; one without values where a part lacks it. Raise InputError where the whole lacks it."""
        if name in df.columns:
            return df[name]
        known = ", ".join(map(str, dict.fromkeys((*DTYPES, *df.columns))))
        error = InputError(f"{who}: there is no column {name!r} in these results; there are {known}.")
        if not is_part:
            raise error
        self._unknown[name] = error
        return pd.Series([None] * len(df), index=df.index, dtype=object)

    def _query(self, df: pd.DataFrame, where: str, is_part: bool) -> pd.DataFrame:
        try:
            return df.query(where)
        except Exception as e:  # of many types, some of them pandas' own
            names = [*re.findall("`([^`]+)`", where), *re.findall("^name '(.+)' is not defined", str(e))]
            name = next((name for name in names if name not in df.columns), None)
            if name is None:
                columns = ", ".join(map(str, df.columns))
                raise InputError(f"where={where!r}: {e}. The columns are {columns}.") from e
        filled = df.assign(**{name: self._column(df, name, f"where={where!r}", is_part).astype("Float64")})
        return self._query(filled, where, is_part)[df.columns]


def _check_flags(flags: Mapping[str, object]) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise InputError(f"{name}={value!r}: give True or False.")


def _names(columns: Collection[str] | None) -> list[str] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not isinstance(columns, Collection):
        example = columns if isinstance(columns, str) else "sample_id"
        raise InputError(f'columns={columns!r}: give a list of names, such as [{example!r}], or "auto".')
    return list(columns)


def _read_where(where: Any) -> tuple[str | Callable[[pd.DataFrame], Any] | None, dict[str, list[Any]]]:
    """Return a query or a function, or of a mapping the values that it wants of each column."""
    if isinstance(where, Mapping):
        return None, {name: _values(wanted) for name, wanted in where.items()}
    if where is None or isinstance(where, str) or callable(where):
        return where, {}
    raise InputError(f"where={where!r}: give a mapping such as {{'status': 'error'}}, a query or a function.")


def _values(wanted: Any) -> list[Any]:
    """Return which values of a column choose a row, as they are in the frame."""
    is_one = isinstance(wanted, (str, bytes, Mapping)) or not isinstance(wanted, Iterable)
    return [without_surrogates(x) if isinstance(x, str) else x for x in ([wanted] if is_one else wanted)]


def _is_any_of(column: pd.Series[Any], wanted: list[Any]) -> Array:
    """Return for each row whether its value is one of these. All missing values are equal."""
    kinds: dict[bool, list[Any]] = {True: [], False: []}
    for value in wanted:
        kinds[isinstance(value, (Mapping, list))].append(value)
    nested, plain = kinds[True], kinds[False]
    found = column.isin(plain).to_numpy(bool)
    if pd.Series(plain, dtype=object).isna().any():
        found = found | column.isna().to_numpy(bool)
    if nested:
        found = found | column.map(nested.__contains__).to_numpy(bool)
    return found


def _as_mask(chosen: Any, index: pd.Index[Any]) -> Any:
    """Return what a function says of each row; NA chooses none."""
    if isinstance(chosen, pd.Series):
        chosen = chosen.reindex(index)
    try:
        if isinstance(chosen, pd.DataFrame) or len(chosen) != len(index):
            raise TypeError
        return pd.array(np.asarray(chosen, object), dtype="boolean")
    except (TypeError, ValueError):
        raise InputError("where: the function must return True or False for each row, such as df.accepted.") from None


def _strides(path: Results, options: _Options, problems: list[Problem]) -> Iterator[pd.DataFrame]:
    if options.reads_entries:
        yield from _with_bodies(path, options, problems, TUNING.stride_bytes // 4)
        return
    reading = Loader(path, stale=options.stale)
    for table, rows in reading.strides(TUNING.stride_bytes):
        yield options.frame(table.take(rows))
    problems += reading.problems


def _with_bodies(
    path: Results, options: _Options, problems: list[Problem], stride_bytes: float
) -> Iterator[pd.DataFrame]:
    """Yield frames with entries or tests; they are read, never cached."""
    listener = EntryParts(entries=options.entries, items=options.items, tests=options.tests, outputs=options.outputs)
    reading = Loader(path, stale=options.stale, listener=listener, bodies=options.entries)
    for table, rows in reading.strides(stride_bytes):
        yield _frame_with_bodies(table, rows, listener, options)
        listener.begin()
    problems += reading.problems


def _frame_with_bodies(table: Table, rows: Array, listener: EntryParts, options: _Options) -> pd.DataFrame:
    table.add_columns({name: sparse_column_of(extras.settle()) for name, extras in listener.items.extras.items()})
    df = options.frame(table.take(rows))
    if options.entries:
        data = np.empty(len(listener.bodies), object)
        data[:] = listener.bodies
        df["entry"] = EntryArray(data[rows])
    of_tests = listener.tests.columns if options.tests else ()
    names = [name for name in options.values if name not in of_tests]
    kept = np.flatnonzero(options.chosen_by_value(df, names, is_part=True))
    df = df.iloc[kept].reset_index(drop=True)  # what isn't wanted need not be repeated for each test
    return listener.tests.explode(df, rows[kept]) if options.tests else df


def _concatenated(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return all rows. Ids are integers where they are so in every frame, else text; categories stay categories."""
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in DTYPES.items()})
    if len(frames) == 1:
        return frames[0]
    if len({str(df["sample_id"].dtype) for df in frames}) > 1:
        frames = list(map(_with_text_ids, frames))
    out = pd.concat(frames, ignore_index=True)
    for name in out.columns:
        if _is_categorical(name, frames):  # joining different categories has made plain texts of them
            out[name] = out[name].astype("object").astype("category")
    return out


def _is_categorical(name: str, frames: Iterable[pd.DataFrame]) -> bool:
    """Return whether a column is categorical in all frames that have it."""
    return all(isinstance(df[name].dtype, pd.CategoricalDtype) for df in frames if name in df)


def _with_text_ids(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(sample_id=df["sample_id"].astype(str).astype(object).astype("category"))


def _absolute(paths: Iterable[Results]) -> list[str]:
    """Return where the rows were loaded from, for show()."""
    return list(map(os.path.abspath, map(os.path.expanduser, paths)))


def _load_table(path: Results, stale: bool, problems: list[Problem]) -> Table:
    reading = Loader(path, stale=stale)
    [(table, rows)] = reading.strides()
    problems += reading.problems
    is_in_place = len(rows) == table.n and bool((rows[1:] > rows[:-1]).all())
    return table if is_in_place else table.take(rows)


@hides_own_frames
def load_samples(results: Results) -> pd.DataFrame:
    """Return one row for each sample: how much of each group is complete.

    Samples that were never begun have a row too, with an empty `path`, where the newest run was given a list.

    Raises:
        InputError: there is no such folder.
    """
    found = count_samples(results)
    rows = []
    groups: dict[str, None] = {}
    for v in found.samples:
        row: dict[str, object] = {"sample_id": v.sample_id, "path": v.path, "source": v.source}
        for group, total in v.totals.items():
            groups[group] = None
            row[f"completed_{group}s"], row[f"total_{group}s"] = v.completed.get(group, 0), total
        rows.append(row | {"errors": v.errors, "is_complete": v.is_complete, "updated_at": v.updated_at})
    counted = [f"{what}_{g}s" for g in groups for what in ("completed", "total")]
    df = pd.DataFrame(rows, columns=["sample_id", "path", "source", *counted, "errors", "is_complete", "updated_at"])
    df = df.astype(dict.fromkeys([*counted, "errors"], "Int64") | {"is_complete": "boolean"})
    if found.integer_ids:
        df["sample_id"] = df["sample_id"].map(int).astype("Int64")
    df["updated_at"] = pd.to_datetime(df["updated_at"].astype("float64"), unit="s", utc=True, errors="coerce")
    _warn_of_problems(df, found.problems)
    return df


def _warn_of_problems(df: pd.DataFrame, problems: Sequence[Problem]) -> None:
    df.attrs["problems"] = len(problems)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        warn(f"could not be read: {problems[0]}{more}")


def _warn_of_empty(paths: Iterable[Results]) -> None:
    """Warn of folders that no run has written into: an empty frame usually means a wrong path."""
    for path in paths:
        if not os.path.isdir(os.path.join(os.path.expanduser(path), FOLDER)):
            warn(f"{os.fspath(path)} holds no results.")


# ---- Arrow


def load_arrow(results: Results | Iterable[Results], **options: Any) -> pa.Table:
    """The same as load_results, as an Arrow table for polars and DuckDB (needs the extra `nbrun[arrow]`).

    The fixed columns have the same types whatever is in them. Lists and mappings are Arrow's; a column that Arrow has
    no type for (values of several types, integers beyond 64 bits) is JSON text.

    Raises:
        InputError: as load_results; or pyarrow isn't installed.

    Example:
        >>> import polars  # doctest: +SKIP
        >>> polars.from_arrow(load_arrow("results"))  # doctest: +SKIP
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError("load_arrow needs pyarrow: pip install 'nbrun[arrow]'.") from None
    df = load_results(results, **options)
    for name in df.columns:
        if df[name].dtype == object and name not in DTYPES:
            df[name] = as_one_type(pa, df[name])
    table = pa.Table.from_pandas(df, preserve_index=False).replace_schema_metadata()
    return _with_fixed_types(pa, table)


def _with_fixed_types(pa: Any, table: pa.Table) -> pa.Table:
    """Return a table whose fixed columns have their types, whatever is in them."""
    types = {"category": pa.dictionary(pa.int32(), pa.string()), "object": pa.string()}
    for at, field in enumerate(table.schema):
        wanted = types.get(DTYPES.get(field.name, ""), field.type)
        is_integer_id = field.name == "sample_id" and pa.types.is_integer(field.type)
        if field.type != wanted and not is_integer_id:
            table = table.set_column(at, field.name, _cast(pa, table.column(at), wanted))
    return table


def as_one_type(pa: Any, column: Any) -> Any:
    """Return a column of objects as Arrow can take it: as JSON text where it has no type that holds each exactly."""
    if {str, type(None)}.issuperset(map(type, column)):
        return column
    try:
        array = pa.array(column.to_list())
        if array.to_pylist() == column.to_list() and not _has_empty_struct(pa, array.type):
            return column
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        pass
    texts = [None if x is None else encode(x)[0].decode() for x in column]
    return pd.Series(texts, index=column.index, dtype=object)


def _has_empty_struct(pa: Any, kind: Any) -> bool:
    """Whether an Arrow type holds a mapping without keys, which neither Parquet nor DuckDB can."""
    if pa.types.is_struct(kind) and kind.num_fields == 0:
        return True
    return any(_has_empty_struct(pa, kind.field(i).type) for i in range(kind.num_fields))


def _cast(pa: Any, column: Any, wanted: Any) -> Any:
    try:
        return column.cast(wanted)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a column of nulls alone, or an older pyarrow
        texts = pa.array(column.to_pylist(), pa.string())
        return texts if wanted == pa.string() else texts.dictionary_encode()


# ---- files


_BLOCK = 1 << 16


def write_frame(df: pd.DataFrame, path: Path, suffix: str) -> None:
    """Write all rows to `path`, in the format that `suffix` names.

    In CSV a nested value is JSON text. In JSON a missing value and NaN are null, infinities are text, dates ISO 8601.

    Raises:
        ImportError: Parquet was asked for, and pyarrow isn't installed.
        OSError: the file can't be written.
    """
    if suffix == ".parquet":
        import pyarrow as pa

        _with_objects(df, lambda column: as_one_type(pa, column)).to_parquet(path, index=False)
    elif suffix == ".csv":
        cells = _with_objects(df, lambda column: column.map(_cell))
        # Python's csv leaves a text with a carriage return unquoted: readers would begin a new row there
        cells.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC if _has_returns(cells) else csv.QUOTE_MINIMAL)
    else:
        _write_json(df, path, lines=suffix == ".jsonl")


def _with_objects(df: pd.DataFrame, convert: Any) -> pd.DataFrame:
    changed = {name: convert(df[name]) for name in df.columns if df[name].dtype == object}
    return df.assign(**{str(name): column for name, column in changed.items()})


def _has_returns(df: pd.DataFrame) -> bool:
    """Return whether a text or a column's name holds a carriage return."""
    columns = (df[name].astype(object) for name in df.columns if df[name].dtype.kind == "O")
    texts = chain(map(str, df.columns), chain.from_iterable(columns))
    return any(isinstance(value, str) and "\r" in value for value in texts)


def _cell(value: Any) -> Any:
    """What a cell of a text file holds."""
    if isinstance(value, (dict, list)):
        return encode(value)[0].decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return digits_of(int(value))
    return value


def _write_json(df: pd.DataFrame, path: Path, *, lines: bool) -> None:
    """Not by pandas, which rounds floats to ten digits and takes no integers beyond 64 bits."""
    with open(path, "wb") as file:
        if lines:
            file.writelines(encode(row)[0] + b"\n" for row in _rows(df))
            return
        before = b"["
        for row in _rows(df):
            file.write(before + encode(row)[0])
            before = b","
        file.write(b"]" if len(df) else b"[]")


def _rows(df: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = list(map(str, df.columns))
    for at in range(0, len(df), _BLOCK):
        for row in df.iloc[at : at + _BLOCK].itertuples(index=False, name=None):
            yield {name: _json_cell(value) for name, value in zip(names, row, strict=True)}


def _json_cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(float(value))
    return value


# ---- the column `entry`: JSON that is parsed when it is looked at, so that it takes the room of its text


def _as_bytes(entry: object) -> bytes | None:
    if isinstance(entry, Mapping):
        return encode(entry)[0]
    if isinstance(entry, str):
        return entry.encode()
    return entry if isinstance(entry, bytes) else None


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
        rows = list(map(_as_bytes, scalars))
        data = np.empty(len(rows), object)
        data[:] = rows
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
        return sum(map(len, filter(None, self._data))) + int(self._data.nbytes)

    def isna(self) -> Array:
        return np.asarray(pd.isna(self._data))

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


# ---- what is shown of whole entries, collected while they are read


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
        self.tests, self.items = TestRows(self._outputs), ItemRows()  # empty where they aren't wanted

    def __call__(self, row: int, entry: Row, body: bytes | None) -> None:
        """See rows.Listener."""
        if self._entries:
            self.bodies.append(body)
        if self._items:
            self.items(row, entry)
        if self._tests:
            self.tests(row, entry)

    def cut(self, n: int) -> None:
        """See rows.Listener."""
        del self.bodies[n:]
        self.tests.cut(n)
        self.items.cut(n)


class ItemRows:
    """The items of the rows that a RowBuilder reads, as columns.

    Attributes:
        extras: by column.
    """

    def __init__(self) -> None:
        self.extras: dict[str, SparseColumnBuilder] = {}

    def __call__(self, row: int, entry: Row) -> None:
        """The next row."""
        item = _item_of(entry)
        if type(item) is not dict:
            self._add("item", row, item)
            return
        for name, value in item.items():
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


def _item_of(entry: Row) -> JsonValue:
    if "item" in entry:
        return decode(entry["item"])
    # an item of just these two, or none where `keep_items=False`
    return {name: entry[name] for name in ("language", "solution") if name in entry}


#: Columns that hold a test's texts: only where they are asked for, since they are most of a result.
OUTPUTS = ("stdin", "expected", "stdout", "stderr")
TEST_COLUMNS = ("test", "passed", "test_verdict", "time_s", "return_code")


class TestRows:
    """The tests of the rows that a RowBuilder reads, as rows of their own.

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

    def __call__(self, row: int, entry: Row) -> None:
        """The next row."""
        tests = mapping(entry.get("result")).get("tests")
        for number, test in enumerate(map(mapping, tests if isinstance(tests, list) else ())):
            run, passed = run_of(test), test.get("passed")
            verdict = verdicts.of({"accepted": passed is True, "tests": [test]})
            self._rows.append(row)
            values = self._numbers
            values["test"].append(number)
            values["passed"].append(int(passed) if isinstance(passed, bool) else -1)
            values["test_verdict"].append(self._verdicts.setdefault(verdict, len(self._verdicts) - 1))
            values["time_s"].append(_number(run.get("execution_time")))
            values["return_code"].append(_number(run.get("return_code")))
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
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
