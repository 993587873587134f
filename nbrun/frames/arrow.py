"""load_results as an Arrow table, for polars and DuckDB. Needs the extra `nbrun[arrow]`; any thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from nbrun.errors import InputError
from nbrun.frames.frame import DTYPES
from nbrun.frames.load import Results, load_results
from nbrun.storage import values

if TYPE_CHECKING:
    import pyarrow as pa


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
        if array.to_pylist() == column.to_list():
            return column
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        pass
    texts = [None if x is None else values.encode(x)[0].decode() for x in column]
    return pd.Series(texts, index=column.index, dtype=object)


def _cast(pa: Any, column: Any, wanted: Any) -> Any:
    try:
        return column.cast(wanted)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a column of nulls alone, or an older pyarrow
        texts = pa.array(column.to_pylist(), pa.string())
        return texts if wanted == pa.string() else texts.dictionary_encode()
