"""load_results as an Arrow table, for polars and DuckDB. Needs the extra `nbrun[arrow]`; any thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nbrun.errors import InputError
from nbrun.frames.frame import DTYPES
from nbrun.frames.load import Results, load_results

if TYPE_CHECKING:
    import pyarrow as pa


def load_arrow(results: Results | Iterable[Results], **options: Any) -> pa.Table:
    """The same as load_results, as an Arrow table for polars and DuckDB (needs the extra `nbrun[arrow]`).

    The fixed columns have the same types whatever is in them.

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
    table = pa.Table.from_pandas(load_results(results, **options), preserve_index=False).replace_schema_metadata()
    for at, name in enumerate(table.column_names):
        kind = DTYPES.get(name)
        wanted = {"category": pa.dictionary(pa.int32(), pa.string()), "object": pa.string()}.get(kind or "")
        if wanted is not None and table.schema.field(at).type != wanted:
            table = table.set_column(at, name, _cast(pa, table.column(at), wanted))
    return table


def _cast(pa: Any, column: Any, wanted: Any) -> Any:
    try:
        return column.cast(wanted)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a column of nulls alone, or an older pyarrow
        texts = pa.array(column.to_pylist(), pa.string())
        return texts if wanted == pa.string() else texts.dictionary_encode()
