"""Numbers as people read them: durations, rates, shares, sizes, counts. Pure functions, the same in every view."""

from __future__ import annotations

from itertools import islice
from math import isfinite
from typing import Protocol

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units.

    Example:
        >>> duration_text(7842), duration_text(75), duration_text(3.2)
        ('2 h 10 min', '1 min 15 s', '3 s')
    """
    s = round(seconds)
    days, s = divmod(s, 86400)
    hours, s = divmod(s, 3600)
    minutes, s = divmod(s, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (s, "s")]
    first = next((i for i, (n, _) in enumerate(parts) if n), 3)
    return " ".join(f"{n} {unit}" for n, unit in islice(parts, first, first + 2) if n or unit == parts[first][1])


def time_text(seconds: float) -> str:
    """Return a measured time to three digits.

    Example:
        >>> time_text(1.79e-06), time_text(0.25), time_text(1.2345), time_text(75)
        ('1.79 µs', '250 ms', '1.23 s', '1 min 15 s')
    """
    if not isfinite(seconds):  # in a file that was edited by hand
        return f"{seconds} s"
    s = float(f"{seconds:.3g}")  # rounded first, or 0.9999 s were 1e+03 ms
    if s >= 60:
        return duration_text(seconds)
    scale, unit = next(((n, unit) for n, unit in _UNITS if s >= n), _UNITS[-1] if s > 0 else _UNITS[0])
    return f"{s / scale:.3g} {unit}"


def rate_text(rate_per_s: float | None) -> str:
    """Return a rate in the unit that reads best; "" for None.

    Example:
        >>> rate_text(1234.5), rate_text(0.05), rate_text(None)
        ('1,234 tasks/s', '3.0 tasks/min', '')
    """
    if rate_per_s is None:
        return ""
    if rate_per_s >= 100:
        return f"{rate_per_s:,.0f} tasks/s"
    if rate_per_s >= 1:
        return f"{rate_per_s:.1f} tasks/s"
    if rate_per_s * 60 >= 1:
        return f"{rate_per_s * 60:.1f} tasks/min"
    return f"{rate_per_s * 3600:.1f} tasks/h"


class TaskCounts(Protocol):
    """The counts that `count_text` reads; a Progress has them."""

    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def errors(self) -> int: ...
    @property
    def skipped(self) -> int: ...


def count_text(progress: TaskCounts) -> str:
    """Return how far a run is: "1,204 of 5,000 tasks, 3 errors", or "1,204 tasks" while the total is not known."""
    of = "" if progress.total is None else f" of {progress.total:,}"
    text = f"{progress.done:,}{of} tasks"
    if progress.errors:
        text += f", {counted(progress.errors, 'error')}"
    if progress.skipped:
        text += f", {progress.skipped:,} skipped"
    return text


def percent_text(share: float) -> str:
    """Return a share in percent: 100 % only for all, 0 % only for none.

    Example:
        >>> percent_text(0.9999), percent_text(1.0), percent_text(0.125)
        ('99.9 %', '100 %', '12.5 %')
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(99.9, max(0.1, round(100 * share, 1))):g} %"


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts.

    Example:
        >>> counted(1, "saved result"), counted(1200, "error")
        ('1 saved result', '1,200 errors')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def bytes_text(n: int) -> str:
    """Return a size in bytes in the unit that reads best.

    Example:
        >>> bytes_text(900), bytes_text(1_234_567), bytes_text(56_000_000_000)
        ('900 bytes', '1.2 MB', '56 GB')
    """
    if n < 1000:
        return f"{n} bytes"
    size, units = n / 1000, ["TB", "GB", "MB", "kB"]
    unit = units.pop()
    while size >= 999.5 and units:
        size, unit = size / 1000, units.pop()
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:,.0f} {unit}"
