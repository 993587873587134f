"""The arguments of start(), checked before anything is written. `samples` is checked by sample_source.py.

Threads: called by the thread that calls start(), except for what `observer` returns: workers call that for one result
at a time, and the tracker's lock protects the sums.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

from nbrun.errors import InputError
from nbrun.model import EncodedResult, RetryPolicy
from nbrun.progress import ProgressTracker
from nbrun.results.sample_file import Identity
from nbrun.results.values import load
from nbrun.session.sample_source import Samples
from nbrun.storage.directory import check_writable
from nbrun.texts import id_text

# ---- arguments with a plain value


def read_path(results: object) -> Path:
    """Return the absolute path of the results directory.

    Raises:
        InputError: `results` is no path, or nothing can be written there.
    """
    if not isinstance(results, (str, os.PathLike)) or not str(results) or "\0" in str(results):
        raise InputError(f"results={results!r}: give the path of a folder.")
    path = Path(os.path.abspath(os.path.expanduser(results)))
    check_writable(path)
    return path


def read_workers(workers: object) -> int:
    """Return `workers=` as an int. Raise an InputError if it is not a whole number of at least 1."""
    if isinstance(workers, bool) or not isinstance(workers, SupportsIndex) or workers.__index__() < 1:
        raise InputError(f"workers={workers!r}: give a whole number of at least 1.")
    return workers.__index__()


def read_positive(name: str, value: object) -> float | None:
    """Return `timeout_s=` or `max_per_s=` as a float, or None. Raise an InputError if it is not above 0."""
    if value is None:
        return None
    number = math.nan
    if isinstance(value, (SupportsFloat, SupportsIndex)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            pass
    if not 0 < number < math.inf:
        raise InputError(f"{name}={value!r}: give a number above 0, or None for no limit.")
    return number


def check_flag(name: str, value: object) -> None:
    """Raise an InputError if an argument is neither True nor False."""
    if not isinstance(value, bool):
        raise InputError(f"{name}={value!r}: give True or False.")


def check_if_exists(if_exists: object) -> None:
    """Raise an InputError if `if_exists=` is not one of its two values."""
    if if_exists not in ("resume", "error"):
        raise InputError(f'if_exists={if_exists!r}: give "resume" or "error"; nothing ever overwrites.')


def check_retry(retry: object) -> None:
    """Raise an InputError if `retry=` is neither a RetryPolicy nor None."""
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise InputError(f"retry={retry!r}: give a nbrun.RetryPolicy, or None for one attempt.")


def check_digested(name: str, fn: object, of: str) -> None:
    """Raise an InputError if `key=` or `context=` is no function."""
    if fn is None or callable(fn):
        return
    example = f", such as {name}=lambda {of}: {of}[{fn!r}]" if isinstance(fn, str) else ""
    raise InputError(f"{name}={fn!r}: give a function of the {of}{example}.")


# ---- groups


def read_groups(groups: object) -> list[str] | dict[str, str] | None:
    """Return `groups=`: names, or a mapping of a group's name to the sample's key that holds its items.

    Raises:
        InputError: it is something else.
    """
    if groups is None:
        return None
    if isinstance(groups, str):
        raise InputError(f"groups={groups!r} is text; give a list of names, such as groups=[{groups!r}].")
    if isinstance(groups, Mapping):
        found: list[str] | dict[str, str] = _keys_of_groups(groups)
    elif isinstance(groups, Iterable):
        found = _names_of_groups(groups)
    else:
        raise InputError(f"groups is a {type(groups).__name__}; give a list of names or a mapping name -> key.")
    if not found:
        raise InputError("groups is empty: name at least one group, or leave it out.")
    return found


def _keys_of_groups(groups: Mapping[Any, Any]) -> dict[str, str]:
    keys = dict(groups)
    for name, key in keys.items():
        if not (_is_name(name) and _is_name(key)):
            raise InputError(f"groups: {name!r} -> {key!r} must both be text.")
    return keys


def _names_of_groups(groups: Iterable[Any]) -> list[str]:
    names = list(groups)
    for name in names:
        if not _is_name(name):
            raise InputError(f"groups: {name!r} is no name; give a list of texts, or a mapping name -> key.")
    return names


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


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


def read_redo(redo: object) -> Redo:
    """Return what `redo=` asks for.

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
    if getattr(redo, "columns", None) is not None:
        return Redo(results=_read_frame(redo))
    if isinstance(redo, (bytes, Mapping)) or not isinstance(redo, Iterable):
        raise InputError(f"redo is a {type(redo).__name__}: {HOW}.")
    return Redo(ids=frozenset(map(_read_id, redo)))


def _read_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, SupportsIndex)):
        raise InputError(f"redo: {value!r} is no id of a sample: {HOW}.")
    return id_text(value)


def _read_frame(redo: Any) -> dict[str, dict[Identity, str | None]]:
    missing = [name for name in NEEDED if name not in redo.columns]
    if missing:
        raise TypeError(f"redo: the frame lacks the columns {', '.join(missing)}; filter one that load_results gave.")
    runs = redo["run_id"].astype(str) if "run_id" in redo.columns else [None] * len(redo)
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


def _is_known(run_id: object) -> bool:
    """Return whether a row names its run. For results of the older program the column has a value that is no run."""
    return isinstance(run_id, str) and run_id not in ("", "nan", "None", "<NA>")


def check_ids(ids: Iterable[str], samples: Samples) -> None:
    """Raise an InputError if `redo=` names an id that no sample of a list has."""
    if samples.by_id is None:
        return
    unknown = sorted({i for i in ids if i not in samples.by_id})
    if unknown:
        import difflib  # loads slowly

        near = difflib.get_close_matches(unknown[0], samples.by_id, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise InputError(f"redo: no sample has the id {unknown[0]!r}{more}.{meant}")


# ---- metrics

#: A line of a view has room for this many means.
MAX_METRICS = 8


def read_metrics(metrics: object) -> tuple[str, ...]:
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
        if not isinstance(found, Mapping):
            return
        values = {name: number for name in names if (number := _number(found.get(name))) is not None}
        if values:
            tracker.add_metrics(values)

    return observe


def _number(value: object) -> float | None:
    """Return a finite number as a float, else None. True and False count as 1 and 0, so that the mean is a share."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may be in a result; what is no number raises
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
