"""`metrics=`: keys of results whose live mean is shown in views.

Threads: `observe` is called by workers, one result at a time; the tracker's lock protects the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbrun.errors import InputError
from nbrun.model import EncodedResult
from nbrun.progress import ProgressTracker
from nbrun.results.values import load

#: More means than this nobody can read in a line.
MOST = 8


def read_metrics(metrics: Any) -> tuple[str, ...]:
    """`metrics=` -> keys of results.

    Raises:
        InputError: they are no list of a few texts.
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
    if len(names) > MOST:
        raise InputError(f"metrics names {len(names)} keys; the panel shows at most {MOST}.")
    return names


def observer(
    names: tuple[str, ...], tracker: ProgressTracker
) -> Callable[[Mapping[str, Any] | EncodedResult], None] | None:
    """Return what adds the numbers of one result to the means; None where no metric was asked for."""
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
    """A finite number as a float; True and False count as 1 and 0, so that the mean is a share."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
