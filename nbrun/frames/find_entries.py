"""Finds saved entries of one sample without reading the others: by a frame's row, or by where an item stands.

Any thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nbrun.errors import InputError
from nbrun.frames.cache import RowCache
from nbrun.storage import values
from nbrun.storage.reader import Reader, SampleView
from nbrun.storage.values import load

Entry = dict[str, Any]
Path_ = str | os.PathLike[str]


def read_sample(results: Path_, sample_id: str) -> SampleView | None:
    """One sample with its entries' bytes; None where the directory doesn't hold it."""
    reader = Reader(results)
    known = RowCache(Path(results).expanduser()).known
    return reader.sample(sample_id, known)


def entry_of_row(row: pd.Series[Any], results: Path_ | Sequence[Path_] | None) -> tuple[str, str, Entry]:
    """Sample id, group and entry of a row that load_results made.

    Raises:
        TypeError: the row lacks what tells its task from others.
        InputError: nobody knows where it was loaded from, or it isn't there any more.
    """
    missing = [c for c in ("sample_id", "group", "key", "occurrence") if c not in row.index]
    if missing:
        raise TypeError(f"show: the row lacks {', '.join(missing)}; give one of a frame that load_results made.")
    sample_id, group = str(row["sample_id"]), str(row["group"])
    if isinstance(row.get("entry"), Mapping):
        return sample_id, group, dict(row["entry"])
    paths = row.attrs.get("results") if results is None else results
    if not paths:
        raise InputError("show: this row doesn't say where it was loaded from. Say it: show(row, results=...).")
    key, occurrence = str(row["key"]), int(row["occurrence"])
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        for of_group, entry in entries_of(path, sample_id):
            if (of_group, entry["key"], entry["occurrence"]) == (group, key, occurrence):
                return sample_id, group, entry
    raise InputError(f"show: the {group} {key} of sample {sample_id!r} is not in {paths} any more.")


def entries_of(results: Path_, sample_id: str) -> Iterable[tuple[str, Entry]]:
    """Group and entry of all that is saved of a sample, in the order in which load_results shows them."""
    view = read_sample(results, sample_id)
    if view is None:
        return []
    found = [(s.group, s.item_index, body) for s, body in view.entries]
    found.sort(key=lambda f: (f[0] != "solution", f[0], f[1] is None, f[1] or 0))
    return [(group, values.decode(load(body))) for group, _, body in found]


def sample_ids(results: Path_) -> list[str]:
    """The ids of all samples."""
    with Reader(results).open(RowCache(Path(results).expanduser()).known) as now:
        return sorted({*now.listing.by_id, *now.journal.entries})
