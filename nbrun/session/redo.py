"""`redo=`: which saved results run again although they are done. Pure functions over what the user gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbrun.errors import InputError
from nbrun.results.entries import Identity
from nbrun.texts import id_text

NEEDED = ("sample_id", "group", "key", "occurrence")
CHANGED, ERRORS, ALL = "changed", "errors", "all"
HOW = 'give ids of samples, a filtered load_results frame, "changed", "errors" or "all"'


@dataclass(frozen=True)
class Redo:
    """What was asked for.

    Attributes:
        word: "changed", "errors", "all", or "" where single results or samples are named.
        ids: samples that run again as a whole.
        results: sample id -> identity -> run_id of the result to be replaced (None: whatever is saved there).
    """

    word: str = ""
    ids: frozenset[str] = frozenset()
    results: Mapping[str, Mapping[Identity, str | None]] = field(default_factory=dict)

    def of(self, sample_id: str) -> Mapping[Identity, str | None] | None:
        """Single results of a sample that run again."""
        return self.results.get(sample_id)

    def runs_again(self, sample_id: str, is_current: Callable[[str, str], bool]) -> Callable[[str, str], bool] | None:
        """A test of a saved result's run_id and context that says which ones are kept; None where all are.

        Args:
            is_current: whether a result was made under this run's settings, of the sample as it is now.
        """
        if self.word == ALL or sample_id in self.ids:
            return lambda run_id, context: False
        return is_current if self.word == CHANGED else None

    def unknown(self, seen: Iterable[str]) -> list[str]:
        """Ids that were asked for and that no sample had, sorted."""
        return sorted({*self.ids, *self.results} - set(seen))


def read_redo(redo: Any) -> Redo:
    """`redo=` checked.

    Raises:
        TypeError: a frame without the needed columns; it names them.
        InputError: anything else that can't be meant.
    """
    if redo is None:
        return Redo()
    if isinstance(redo, str):
        if redo in (CHANGED, ERRORS, ALL):
            return Redo(redo)
        raise InputError(f"redo={redo!r}: {HOW}. Ids are given as a list, such as redo=[{redo!r}].")
    columns = getattr(redo, "columns", None)
    if columns is not None:
        return Redo(results=_read_frame(redo, columns))
    if isinstance(redo, (bytes, Mapping)) or not isinstance(redo, Iterable):
        raise InputError(f"redo is a {type(redo).__name__}: {HOW}.")
    ids = set()
    for value in redo:
        if isinstance(value, bool) or not (isinstance(value, str) or hasattr(value, "__index__")):
            raise InputError(f"redo: {value!r} is no id of a sample: {HOW}.")
        ids.add(id_text(value))
    return Redo(ids=frozenset(ids))


def _read_frame(redo: Any, columns: Any) -> dict[str, dict[Identity, str | None]]:
    missing = [c for c in NEEDED if c not in columns]
    if missing:
        raise TypeError(f"redo: the frame lacks the columns {', '.join(missing)}; filter one that load_results gave.")
    runs = redo["run_id"].astype(str) if "run_id" in columns else [None] * len(redo)
    out: dict[str, dict[Identity, str | None]] = {}
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
