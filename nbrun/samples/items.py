"""A group's value, in any of the shapes that data sets have -> its items, and which of them run. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: CodeContests' numbers for languages. Items of language 0 are skipped: counted, never run.
LANGUAGES = {0: "UNKNOWN_LANGUAGE", 1: "PYTHON", 2: "CPP", 3: "PYTHON3", 4: "JAVA"}


def read_items(value: Any) -> tuple[Sequence[Any], Sequence[int], int]:
    """A group's value -> its items, the indices of those to run, and how many are skipped.

    Raises:
        ValueError: neither a list nor a struct of lists of equal length.
    """
    if value is None:
        return [], range(0), 0
    if isinstance(value, Mapping):
        return _read_struct(value)
    items = _as_list(value)
    if items is None:
        raise ValueError(f"is a {type(value).__name__}; it must be a list of items, or a struct of lists.")
    return items, range(len(items)), 0


def _as_list(value: Any) -> Sequence[Any] | None:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (str, bytes, bytearray, Mapping)):
        return None
    tolist = getattr(value, "tolist", None)
    if callable(tolist):  # numpy, pandas, pyarrow
        out = tolist()
        return out if isinstance(out, list) else None
    return list(value) if isinstance(value, Iterable) and hasattr(value, "__len__") else None


def _read_struct(value: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[int], int]:
    columns: dict[str, Sequence[Any]] = {}
    for name, column in value.items():
        items = _as_list(column)
        if items is None:
            raise ValueError(
                f"is a mapping whose {name!r} is a {type(column).__name__}; a struct of lists needs lists."
            )
        columns[name] = items
    lengths = {name: len(c) for name, c in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"is a struct of lists of unequal length: {lengths}.")
    count = next(iter(lengths.values()), 0)
    skipped: set[int] = set()
    languages = columns.get("language")
    if languages is not None:
        numbers = [x if isinstance(x, int) and not isinstance(x, bool) else None for x in languages]
        skipped = {i for i, x in enumerate(numbers) if x == 0}
        columns["language"] = [
            old if n is None else LANGUAGES.get(n, str(n)) for old, n in zip(languages, numbers, strict=True)
        ]
    names = list(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    runnable = [i for i in range(count) if i not in skipped] if skipped else range(count)
    return rows, runnable, len(skipped)
