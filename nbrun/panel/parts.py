"""What a panel shows beside the counts: kinds of errors, the log, the judge's endpoints, the throughput.

Each part travels whole, where it changed, and the more seldom the larger it is.

Threads: the updater's alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbrun.model import ErrorKind, ErrorNote, LogNote
from nbrun.panel.texts import clean, cut

#: A part travels no sooner than this after its last time, and its bytes a second stay below that.
EVERY_S, BYTES_PER_S = 2.0, 4000.0
MESSAGE_CHARS, TRACEBACK_CHARS, LOG_CHARS, LOGS = 600, 4000, 500, 50
#: So many rows of endpoints, and of each text so much.
ENDPOINTS, ENDPOINT_CHARS = 2000, 200


class Part:
    """The newest value of something, and when it may travel next.

    Args:
        make: a value -> what travels, JSON-able. It is called only for values that differ from the last.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._last: object = None
        self._due = float("-inf")
        self.sent: Any = None

    def news(self, value: Any, now: float, *, at_once: bool) -> Any:
        """What travels now; None where nothing does."""
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
    """Kinds of errors, the most frequent first. Those of which none stands any more are left out."""
    standing = sorted((k for k in value if k.n > 0), key=lambda k: -k.n)
    return [{"type": clean(cut(k.type, 100)), "n": k.n} | ({} if k.last is None else _note(k.last)) for k in standing]


def logs(value: Sequence[LogNote]) -> list[dict[str, Any]]:
    """The newest lines."""
    return [{"at": n.at, "level": n.level, "text": clean(cut(n.text, LOG_CHARS)), "n": n.n} for n in value[-LOGS:]]


def endpoints(value: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of name, state, requests in flight, mean time in seconds, last error."""
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
    return clean(cut(str(value), ENDPOINT_CHARS))


def _number(value: object) -> float | None:
    return float(f"{value:.3g}") if isinstance(value, (int, float)) and abs(value) < 1e300 else None


def _note(note: ErrorNote) -> dict[str, Any]:
    return {
        "sample_id": clean(cut(note.sample_id, 300)),
        "group": clean(note.group),
        "index": note.index,
        "message": clean(cut(note.message, MESSAGE_CHARS)),
        "traceback": clean(cut(note.traceback, TRACEBACK_CHARS, keep="end")),
        "at": note.at,
    }
