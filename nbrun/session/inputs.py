"""The arguments of start(), checked before anything is written, and samples as one lazy stream of mappings.

Used by the thread that calls start(), and by the feeder, which draws the stream.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbrun.errors import InputError, SampleError
from nbrun.samples import ITEM_GROUP, SampleReader, read_items
from nbrun.storage.directory import check_writable


def read_groups(groups: Any) -> dict[str, str] | None:
    """`groups=` -> group name -> the sample's key that holds its items."""
    if groups is None:
        return None
    if isinstance(groups, str):
        raise InputError(f"groups={groups!r} is text; give a list of names, such as groups=[{groups!r}].")
    if isinstance(groups, Mapping):
        out = dict(groups)
    elif isinstance(groups, Iterable):
        out = {name: f"{name}s" for name in groups}
    else:
        raise InputError(f"groups is a {type(groups).__name__}; give a list of names or a mapping name -> key.")
    for name, field in out.items():
        if not (isinstance(name, str) and name and isinstance(field, str) and field):
            raise InputError(f"groups: {name!r} -> {field!r} must both be text.")
    if not out:
        raise InputError("groups is empty: name at least one group, or leave it out.")
    return out


def read_path(results: Any) -> Path:
    """`results=` -> an absolute path, checked."""
    if not isinstance(results, (str, os.PathLike)) or not str(results):
        raise InputError(f"results={results!r}: give the path of a folder.")
    path = Path(os.path.abspath(os.path.expanduser(results)))
    check_writable(path)
    return path


def read_workers(workers: Any) -> int:
    """`workers=` -> a number of threads."""
    if isinstance(workers, bool) or not hasattr(workers, "__index__") or int(workers) < 1:
        raise InputError(f"workers={workers!r}: give a whole number of at least 1.")
    return int(workers)


def read_positive(name: str, value: Any) -> float | None:
    """`timeout_s=` or `max_per_s=` -> a number above 0, or None."""
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"{name}={value!r}: give a number above 0, or None for no limit.")
    return number


@dataclass
class Samples:
    """The samples of a run: drawn lazily, once, or again where they can be.

    Attributes:
        count, tasks: how many there are, where that is known without reading on.
        first_id: the first sample's id.
    """

    stream: Iterator[Any]
    count: int | None
    tasks: int | None
    first_id: str | None


def open_samples(samples: Any, reader: SampleReader) -> Samples:
    """Checks what can be checked without reading on: of a list every id, of anything else the first sample.

    Raises:
        InputError, SampleError.
    """
    samples = as_stream(samples)
    if isinstance(samples, (list, tuple)):
        return _open_list(samples, reader)
    stream = iter(samples)
    try:
        first = next(stream)
    except StopIteration:
        return Samples(iter(()), 0, 0, None)
    first_id = reader.read(first, 0).id
    count = len(samples) if hasattr(samples, "__len__") else None
    return Samples(itertools.chain((first,), stream), count, None, first_id)


def as_stream(samples: Any) -> Any:
    """What can be iterated over for samples: itself, or a DataFrame's rows.

    Raises:
        InputError: it is something else.
    """
    if _is_frame(samples):
        return _rows(samples)
    is_one = isinstance(samples, (str, bytes, Mapping))
    if is_one or not (isinstance(samples, Iterable) or hasattr(samples, "__getitem__")):
        raise InputError(
            f"samples is a {type(samples).__name__}; give an iterable of mappings, such as "
            "[{'id': 'p1', 'solutions': [...]}], or a DataFrame."
        )
    return samples


def _open_list(samples: list[Any] | tuple[Any, ...], reader: SampleReader) -> Samples:
    seen: dict[str, int] = {}
    for number, raw in enumerate(samples):
        sample_id = reader.read_id(raw, number)
        if sample_id in seen:
            raise duplicate(sample_id, seen[sample_id], number)
        seen[sample_id] = number
    first_id = reader.read(samples[0], 0).id if samples else None
    return Samples(iter(samples), len(samples), _count_tasks(samples, reader), first_id)


def _count_tasks(samples: Iterable[Mapping[str, Any]], reader: SampleReader) -> int | None:
    """All tasks of samples that are in memory; None where one of them can't be read (its turn will tell)."""
    if not reader.groups:
        return sum(1 for _ in samples)
    total = 0
    for raw in samples:
        for field in reader.groups.values():
            value = raw.get(field)
            try:
                total += len(value) if isinstance(value, list) else len(read_items(value)[1])
            except (TypeError, ValueError):
                return None
    return total


def duplicate(sample_id: str, first: int, again: int) -> SampleError:
    """The error of an id that stands twice."""
    return SampleError(
        f"samples {first} and {again} have the same id {sample_id!r}. Results are saved under it: make the ids unique.",
        position=again, sample_id=sample_id,
    )  # fmt: skip


def _is_frame(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "itertuples")


def _rows(frame: Any) -> list[dict[str, Any]]:
    """A DataFrame's rows as mappings; its index is the id where it has no column of that name."""
    names = [str(c) for c in frame.columns]
    rows = [dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False, name=None)]
    if "id" not in names:
        for row, label in zip(rows, frame.index, strict=True):
            row["id"] = label if isinstance(label, str) or hasattr(label, "__index__") else str(label)
    return rows


def group_names(reader: SampleReader) -> list[str]:
    """The groups as they are settled."""
    return list(reader.groups or {}) or [ITEM_GROUP]
