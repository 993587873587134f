"""The sections of a panel beside the counts: kinds of errors, the log, the judge's endpoints, the throughput.

A section is sent whole when it has changed, and the less often the larger it is.

Threads: the updater's alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbrun.model import ErrorKind, ErrorNote, LogNote
from nbrun.texts import shorten, without_surrogates

#: The least time between two sendings of a section, in seconds, and the most that it sends, in bytes a second.
EVERY_S, BYTES_PER_S = 2.0, 4000.0
MESSAGE_CHARS, TRACEBACK_CHARS, LOG_CHARS, LOGS = 600, 4000, 500, 50
#: How many rows of endpoints are sent, and how many characters of each of their texts.
ENDPOINTS, ENDPOINT_CHARS = 2000, 200


class Section:
    """The newest value of a section, and when it may be sent next.

    Args:
        make: turns a value into what is sent, which JSON can hold. Called only for values that differ from the last.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._last: object = None
        self._due = float("-inf")
        self.sent: Any = None

    def news(self, value: Any, now: float, *, at_once: bool) -> Any:
        """Return what is to be sent now, or None."""
        if not value and self.sent is None:
            return None
        if value == self._last or (now < self._due and not at_once):
            return None
        self._last = value
        made = self._make(value)
        if made == self.sent:
            return None
        self.sent = made
        self._due = now + max(EVERY_S, len(json.dumps(made)) / BYTES_PER_S)
        return made


def kinds(value: Sequence[ErrorKind]) -> list[dict[str, Any]]:
    """Return the kinds of errors that still count, the most frequent first."""
    counting = sorted((k for k in value if k.n > 0), key=lambda k: -k.n)
    return [
        {"type": without_surrogates(shorten(k.type, 100)), "n": k.n} | ({} if k.last is None else _note(k.last))
        for k in counting
    ]


def logs(value: Sequence[LogNote]) -> list[dict[str, Any]]:
    """Return the newest lines of the log."""
    return [
        {"at": n.at, "level": n.level, "text": without_surrogates(shorten(n.text, LOG_CHARS)), "n": n.n}
        for n in value[-LOGS:]
    ]


def endpoints(value: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return rows of name, state, requests in flight, mean time in seconds, last error."""
    return [
        [
            _text(row.get("name", "")),
            _text(row.get("state", "")),
            _number(row.get("in_flight")),
            _number(row.get("mean_s")),
            _text(row.get("last_error") or ""),
        ]
        for row in value[:ENDPOINTS]
    ]


def _text(value: object) -> str:
    return without_surrogates(shorten(str(value), ENDPOINT_CHARS))


def _number(value: object) -> float | None:
    return float(f"{value:.3g}") if isinstance(value, (int, float)) and abs(value) < 1e300 else None


def _note(note: ErrorNote) -> dict[str, Any]:
    return {
        "sample_id": without_surrogates(shorten(note.sample_id, 300)),
        "group": without_surrogates(note.group),
        "index": note.index,
        "message": without_surrogates(shorten(note.message, MESSAGE_CHARS)),
        "traceback": without_surrogates(shorten(note.traceback, TRACEBACK_CHARS, keep="end")),
        "at": note.at,
    }


#: The chart of the throughput has at most POINTS intervals; at first each is FIRST_STEP_S long.
POINTS, FIRST_STEP_S = 120, 1.0


class Throughput:
    """How many tasks ended in each interval of the run. Pauses are left out.

    All intervals are equally long; when there are more than POINTS, each two become one of double length.
    """

    def __init__(self) -> None:
        self.step_s = FIRST_STEP_S
        self._ends: list[int] = []
        self._at: float | None = None  # when the current interval began; None while the run is not running
        self._before: int | None = None  # how many had ended at that moment

    def add(self, now: float, ends: int, running: bool) -> None:
        """Record that `ends` tasks had ended by `now`."""
        if self._before is None:
            self._before = ends  # those before the first look belong to no interval
        if self._at is None:
            if running:
                self._at = now
            return
        passed = int((now - self._at) / self.step_s)
        if passed:
            # Several intervals have passed since the last look: spread what ended in them evenly.
            each, rest = divmod(ends - self._before, passed)
            kept = min(passed, 4 * POINTS)
            self._ends += [each + (i < rest) for i in range(kept)]
            self._at += passed * self.step_s
            self._before = ends
            while len(self._ends) > POINTS:
                self._halve()
        if not running:
            self._at = None

    def _halve(self) -> None:
        odd = self._ends.pop() if len(self._ends) % 2 else 0  # it is counted with the current interval
        self._ends = [a + b for a, b in zip(self._ends[::2], self._ends[1::2], strict=True)]
        self._before = (self._before or 0) - odd
        if self._at is not None and odd:
            self._at -= self.step_s
        self.step_s *= 2

    @property
    def rates(self) -> list[float]:
        """Ended tasks per second, oldest first, with three digits."""
        return [float(f"{n / self.step_s:.3g}") for n in self._ends]
