"""A frame -> a file that other programs read, with every value exact: CSV, JSON, JSON Lines, Parquet. Any thread."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nbrun.frames.arrow import as_one_type
from nbrun.storage import values
from nbrun.texts import digits_of

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
