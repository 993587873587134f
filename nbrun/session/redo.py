"""`redo=`: which saved results run again although they are done. Pure functions over a frame's columns."""

from __future__ import annotations

from typing import Any

from nbrun.errors import InputError
from nbrun.storage.merge import Identity

NEEDED = ("sample_id", "group", "key", "occurrence")
CHANGED = "changed"
#: sample id -> identity -> run_id of the result to be replaced (None: whatever stands there)
Redo = dict[str, dict[Identity, str | None]]


def read_redo(redo: Any) -> Redo | str | None:
    """`redo=` -> identities by sample, or "changed".

    Raises:
        TypeError: a frame without the needed columns; it names them.
        InputError: anything else.
    """
    if redo is None:
        return None
    if isinstance(redo, str):
        if redo == CHANGED:
            return CHANGED
        raise InputError(f'redo={redo!r}: give a filtered load_results frame, or "changed".')
    columns = getattr(redo, "columns", None)
    if columns is None:
        raise InputError(f'redo is a {type(redo).__name__}: give a filtered load_results frame, or "changed".')
    missing = [c for c in NEEDED if c not in columns]
    if missing:
        raise TypeError(f"redo: the frame lacks the columns {', '.join(missing)}; filter one that load_results gave.")
    runs = redo["run_id"].astype(str) if "run_id" in columns else [None] * len(redo)
    out: Redo = {}
    rows = zip(
        redo["sample_id"].astype(str),
        redo["group"].astype(str),
        redo["key"].astype(str),
        redo["occurrence"],
        runs,
        strict=True,
    )
    for sample_id, group, key, occurrence, run_id in rows:
        if not key.startswith("k1:"):
            raise InputError(f"redo: {key!r} in column key is no key; filter a frame that load_results gave.")
        identity = (group, bytes.fromhex(key[3:]), int(occurrence))
        out.setdefault(sample_id, {})[identity] = run_id if _is_told(run_id) else None
    return out


def _is_told(run_id: Any) -> bool:
    """Results of the older program have no run; what stands for that depends on the column's type."""
    return isinstance(run_id, str) and run_id not in ("", "nan", "None", "<NA>")
