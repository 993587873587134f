"""Results for other programs, with every value exact: Arrow tables for polars and DuckDB; CSV, JSON and Parquet files.

Arrow and Parquet need the extra `nbrun[arrow]`. Any thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nbrun.errors import InputError
from nbrun.frames.load import Results, load_results
from nbrun.frames.table import DTYPES
from nbrun.results import values
from nbrun.texts import digits_of

if TYPE_CHECKING:
    import pyarrow as pa

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
    for at, name in enumerate(table.column_names):
        kind = DTYPES.get(name)
        wanted = {"category": pa.dictionary(pa.int32(), pa.string()), "object": pa.string()}.get(kind or "")
        if name == "sample_id" and pa.types.is_integer(table.schema.field(at).type):
            continue
        if wanted is not None and table.schema.field(at).type != wanted:
            table = table.set_column(at, name, _cast(pa, table.column(at), wanted))
    return table


def as_one_type(pa: Any, column: Any) -> Any:
    """Return a column of objects as Arrow can take it: as JSON text where it has no type that holds each exactly."""
    if all(x is None or isinstance(x, str) for x in column):
        return column
    try:
        array = pa.array(column.to_list())
        if array.to_pylist() == column.to_list() and not _has_empty_struct(pa, array.type):
            return column
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        pass
    texts = [None if x is None else values.encode(x)[0].decode() for x in column]
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
        _with_objects(df, lambda column: column.map(_cell)).to_csv(path, index=False)
    else:
        _write_json(df, path, lines=suffix == ".jsonl")


def _with_objects(df: pd.DataFrame, convert: Any) -> pd.DataFrame:
    changed = {name: convert(df[name]) for name in df.columns if df[name].dtype == object}
    return df.assign(**{str(name): column for name, column in changed.items()})


def _cell(value: Any) -> Any:
    """What a cell of a text file holds."""
    if isinstance(value, (dict, list)):
        return values.encode(value)[0].decode()
    return digits_of(int(value)) if isinstance(value, int) and not isinstance(value, bool) else value


def _write_json(df: pd.DataFrame, path: Path, *, lines: bool) -> None:
    """Not by pandas, which rounds floats to ten digits and takes no integers beyond 64 bits."""
    with open(path, "wb") as file:
        between, end = (b"\n", b"\n") if lines else (b",", b"]")
        file.write(b"" if lines else b"[")
        for number, row in enumerate(_rows(df)):
            file.write((between if number else b"") + values.encode(row)[0])
        file.write(end if len(df) or not lines else b"")


def _rows(df: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = list(map(str, df.columns))
    for at in range(0, len(df), _BLOCK):
        for row in df.iloc[at : at + _BLOCK].itertuples(index=False, name=None):
            yield {name: _json_cell(value) for name, value in zip(names, row, strict=True)}


def _json_cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(float(value))
    return value
