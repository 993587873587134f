"""A results directory -> DataFrames with fixed columns and dtypes. Reads only; any thread."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from nbrun import verdicts
from nbrun.samples import key_text
from nbrun.storage.reader import Reader, SampleView, parse
from nbrun.storage.values import decode

Results = str | os.PathLike[str]
DTYPES = {
    "sample_id": "category", "group": "category", "index": "Int64", "status": "category", "verdict": "category",
    "accepted": "boolean", "language": "category", "n_tests": "Int64", "n_passed": "Int64", "max_time_s": "Float64",
    "duration_s": "Float64", "attempts": "Int64", "started_at": "datetime64[us, UTC]", "error": "object",
    "api_used": "category", "worker_id": "category", "run_id": "category", "key": "object", "occurrence": "Int64",
    "source": "category",
}  # fmt: skip


def load_results(
    results: Results | Iterable[Results], *, columns: Sequence[str] | None = None, entries: bool = False
) -> pd.DataFrame:
    """One row a saved entry, during a run or after it.

    Args:
        results: a results directory, or several, which load as one.
        columns: only these columns.
        entries: adds a column `entry` with the whole entry.

    Raises:
        InputError: there is no such folder.
    """
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for path in [results] if isinstance(results, (str, os.PathLike)) else results:
        reader = Reader(path)
        for view in reader.samples():
            rows += _rows(view, entries)
        problems += map(str, reader.problems)
    df = _frame(rows)
    _tell(df, problems)
    return df if columns is None else df[list(columns)]


def _rows(view: SampleView, entries: bool) -> list[dict[str, Any]]:
    out = []
    ordered = sorted(
        view.entries,
        key=lambda e: (e[0].group != "solution", e[0].group, e[0].item_index is None, e[0].item_index or 0),
    )
    for stored, body in ordered:
        entry = parse(body)
        row = _row(view, entry, stored.group, stored.item_index)
        row["key"], row["occurrence"] = key_text(stored.key), stored.occurrence
        if entries:
            row["entry"] = decode(entry)
        out.append(row)
    return out


def _row(view: SampleView, entry: dict[str, Any], group: str, index: int | None) -> dict[str, Any]:
    result = entry.get("result")
    n_tests, n_passed, max_time_s = verdicts.tests_summary(result)
    item = entry.get("item")
    language = entry.get("language") or (item.get("language") if isinstance(item, dict) else None)
    error = entry.get("error")
    done = entry.get("status") == "done"
    verdict = verdicts.of(result) if done else None
    row: dict[str, Any] = {
        "sample_id": view.sample_id, "group": group, "index": index, "status": entry.get("status"),
        "verdict": None if verdict is None else str(verdict), "accepted": verdicts.accepted(result) if done else None,
        "language": language if isinstance(language, str) else None, "n_tests": n_tests, "n_passed": n_passed,
        "max_time_s": max_time_s, "duration_s": entry.get("duration_s"), "attempts": entry.get("attempts"),
        "started_at": entry.get("started_at"), "error": f"{error['type']}: {error['message']}" if error else None,
        "api_used": entry.get("api_used") or None, "worker_id": entry.get("worker_id") or None,
        "run_id": entry.get("run_id") or None, "source": view.source,
    }  # fmt: skip
    if isinstance(result, dict) and "tests" not in result:
        for name, value in result.items():
            if isinstance(value, dict) and len(value) == 1:
                value = decode(value)
            if not isinstance(value, (dict, list)) and name not in ("verdict", "accepted", "api_used"):
                row[f"result_{name}" if name in DTYPES or name == "entry" else name] = value
    return row


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    df = pd.DataFrame(rows)
    for name, dtype in DTYPES.items():
        column = df[name] if name in df else pd.Series([None] * len(df), dtype="object")
        if name == "started_at":
            seconds = pd.to_numeric(column).astype("float64")
            df[name] = pd.to_datetime(seconds, unit="s", utc=True).astype("datetime64[us, UTC]")
        else:
            plain = column.astype("object").where(column.notna(), None) if len(df) else column
            df[name] = plain.astype(pd.api.types.pandas_dtype(dtype))
    return df[[*DTYPES, *(c for c in df.columns if c not in DTYPES)]]


def load_samples(results: Results) -> pd.DataFrame:
    """One row a sample: how much of each group is complete.

    Raises:
        InputError: there is no such folder.
    """
    reader = Reader(results)
    rows = []
    groups: dict[str, None] = {}
    for v in reader.samples(bodies=False):
        row: dict[str, Any] = {"sample_id": v.sample_id, "path": v.path, "source": v.source}
        for group, total in v.totals.items():
            groups[group] = None
            row[f"completed_{group}s"], row[f"total_{group}s"] = v.completed.get(group, 0), total
        rows.append(row | {"errors": v.errors, "is_complete": v.is_complete, "updated_at": v.updated_at})
    counted = [f"{what}_{g}s" for g in groups for what in ("completed", "total")]
    df = pd.DataFrame(rows, columns=["sample_id", "path", "source", *counted, "errors", "is_complete", "updated_at"])
    df = df.astype(dict.fromkeys([*counted, "errors"], "Int64") | {"is_complete": "boolean"})
    df["updated_at"] = pd.to_datetime(df["updated_at"].astype("float64"), unit="s", utc=True)
    _tell(df, [str(p) for p in reader.problems])
    return df


def _tell(df: pd.DataFrame, problems: list[str]) -> None:
    df.attrs["problems"] = len(problems)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        warnings.warn(f"could not be read: {problems[0]}{more}", stacklevel=3)
