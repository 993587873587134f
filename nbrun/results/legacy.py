"""Reads a whole file of the older program, with or without a `progress` object.

Pure functions over bytes; any thread. Formats: see format.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from nbrun.results import sample_file
from nbrun.results.sample_file import Unreadable
from nbrun.results.values import load_quickly, load_strictly
from nbrun.texts import integer_of, without_surrogates


@dataclass(slots=True)
class OldFile:
    """A file of the older program, parsed."""

    sample_id: str
    groups: dict[str, list[dict[str, Any]]]
    api_used: str | None
    worker_id: str | None
    progress: dict[str, Any] | None
    is_own: bool = False  # it is a file of nbrun's that another tool has written anew: see sample_file.lay_out_anew
    is_loose: bool = False  # no strict JSON: its texts may hold lone surrogates, which belong to their items' identity


def parse_old(data: bytes, *, exact: bool = True) -> OldFile:
    """The older program's file.

    Args:
        exact: keep integers beyond 64 bits, which takes a look at all of it; else they may become floats.

    Raises:
        Unreadable: no JSON (cut short), or JSON of another shape.
    """
    is_loose = False
    try:
        value = (load_strictly if exact else load_quickly)(data)
    except ValueError:
        value = _parse_loosely(data)
        is_loose = True
    if not isinstance(value, dict) or "id" not in value:
        raise Unreadable("is JSON of another shape: no object with an id")
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, rows in value.items():
        if not name.endswith("_result"):
            continue
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise Unreadable(f"is JSON of another shape: {name!r} is no list of objects")
        groups[name.removesuffix("_result")] = rows
    if not groups:
        raise Unreadable("is JSON of another shape: it has an id but no results")
    progress = value.get("progress")
    return OldFile(
        str(value["id"]),
        groups,
        _text(value.get("api_used")),
        _text(value.get("worker_id")),
        progress if isinstance(progress, dict) else None,
        sample_file.is_own(value),
        is_loose,
    )


def _text(value: Any) -> str | None:
    return without_surrogates(value) if isinstance(value, str) else None


def _parse_loosely(data: bytes) -> Any:
    """What Python's json wrote and strict JSON doesn't allow: NaN, lone surrogates, huge integers."""
    try:
        return json.loads(data, parse_int=integer_of)
    except (ValueError, RecursionError) as e:
        raise Unreadable(f"is no valid JSON ({e})") from None
