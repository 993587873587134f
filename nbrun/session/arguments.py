"""Two arguments of start() with a meaning of their own: `redo=`, which saved results run again; `metrics=`, which keys
of results have a live mean in views.

Threads: `read_redo` and `read_metrics` are called by start(). What `observer` returns is called by workers, one result
at a time; the tracker's lock protects the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbrun.errors import InputError
from nbrun.model import EncodedResult
from nbrun.progress import ProgressTracker
from nbrun.results.sample_file import Identity
from nbrun.results.values import load
from nbrun.texts import id_text

# ---- redo

NEEDED = ("sample_id", "group", "key", "occurrence")
CHANGED, ERRORS, ALL = "changed", "errors", "all"
HOW = 'give ids of samples, a filtered load_results frame, "changed", "errors" or "all"'


@dataclass(frozen=True)
class Redo:
    """The results that run again.

    Attributes:
        word: "changed", "errors", "all", or "" where single results or samples are named.
        ids: samples that run again as a whole.
        results: sample id -> identity -> run_id of the result to be replaced (None: whatever is saved there).
    """

    word: str = ""
    ids: frozenset[str] = frozenset()
    results: Mapping[str, Mapping[Identity, str | None]] = field(default_factory=dict)

    def results_of(self, sample_id: str) -> Mapping[Identity, str | None] | None:
        """Return the single results of a sample that run again, or None."""
        return self.results.get(sample_id)

    def runs_again(self, sample_id: str, is_current: Callable[[str, str], bool]) -> Callable[[str, str], bool] | None:
        """Return a test of a saved result's run_id and context that is True for results to keep; None if all are kept.

        Args:
            is_current: whether a result was made under this run's settings, of the sample as it is now.
        """
        if self.word == ALL or sample_id in self.ids:
            return lambda run_id, context: False
        return is_current if self.word == CHANGED else None

    def unknown(self, seen: Iterable[str]) -> list[str]:
        """Return the ids that were asked for and that no sample has, sorted."""
        return sorted({*self.ids, *self.results} - set(seen))


def read_redo(redo: Any) -> Redo:
    """Check `redo=`.

    Raises:
        TypeError: a frame without the needed columns; it names them.
        InputError: anything else that is not a valid `redo=`.
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
        identity = Identity(group, bytes.fromhex(key[3:]), int(occurrence))
        out.setdefault(sample_id, {})[identity] = run_id if _is_known(run_id) else None
    return out


def _is_known(run_id: Any) -> bool:
    """Return whether a row names its run. Of the older program's results the column has a value that is no run."""
    return isinstance(run_id, str) and run_id not in ("", "nan", "None", "<NA>")


# ---- metrics

#: A line of a view has room for this many means.
MAX_METRICS = 8


def read_metrics(metrics: Any) -> tuple[str, ...]:
    """Return the keys of results that `metrics=` names.

    Raises:
        InputError: it is not a list of a few texts.
    """
    if metrics is None:
        return ()
    if isinstance(metrics, (str, bytes)) or not isinstance(metrics, Iterable):
        example = metrics if isinstance(metrics, str) and metrics else "score"
        raise InputError(f"metrics={metrics!r}: give a list of keys of your results, such as metrics=[{example!r}].")
    names = tuple(dict.fromkeys(metrics))
    for name in names:
        if not isinstance(name, str) or not name:
            raise InputError(f"metrics: {name!r} is no key; give a list of texts, such as metrics=['score'].")
    if len(names) > MAX_METRICS:
        raise InputError(f"metrics names {len(names)} keys; the panel shows at most {MAX_METRICS}.")
    return names


def observer(
    names: tuple[str, ...], tracker: ProgressTracker
) -> Callable[[Mapping[str, Any] | EncodedResult], None] | None:
    """Return a function that adds the numbers of one result to the means; None if no metric was asked for."""
    if not names:
        return None
    tracker.watch_metrics(names)

    def observe(result: Mapping[str, Any] | EncodedResult) -> None:
        found = load(result.data) if isinstance(result, EncodedResult) else result
        values = {name: number for name in names if (number := _number(found.get(name))) is not None}
        if values:
            tracker.add_metrics(values)

    return observe


def _number(value: Any) -> float | None:
    """Return a finite number as a float, else None. True and False count as 1 and 0, so that the mean is a share."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
