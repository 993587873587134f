"""Progress -> the messages that keep a view up to date: everything once, then only what changed.

A message is a small mapping and one binary buffer of columns; `decode` and the view's script read it back. Layout:

    content   kind: "all" or "delta"; seq: counts up by one; head: what is not per sample (of a delta: what changed of
              it); notes: errors that are new; layout: [[column, length, width], ...]
    buffer    the columns one after another, each `length` numbers of `width` bytes, little-endian
    names     bytes of a JSON list of ids, those of the samples that are new, in the order of their numbers
    total     tasks of each new sample
    at, done, accepted, rejected, errors    counts of the samples at these numbers (an "all" has every sample and no at)
    work_at, work                           tasks running now, of the samples whose number of them changed

Counts are absolute, so a message that is applied twice does no harm; a view that misses one sees it by `seq` and asks
for everything.

Threads: a Feed belongs to the updater thread alone.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from nbrun.model import State
from nbrun.progress import ErrorNote, Progress, SampleProgress, count_text, end_text, eta_text, rate_text

#: The counts of a sample that change, in the order in which they travel.
COUNTS = ("done", "accepted", "rejected", "errors")
#: Keys of the head that drift by themselves: alone, they are worth a message only so often.
DRIFTING = frozenset({"rate", "eta", "saved", "unsaved"})
DRIFT_S = 2.0
#: Errors travel in bunches no closer than this, the newest few of each, with texts cut to so many characters.
NOTES_S, NOTES, MESSAGE_CHARS, TRACEBACK_CHARS = 2.0, 5, 600, 4000

_WIDTHS = ((1 << 8, 1, "B"), (1 << 16, 2, "H"), (1 << 32, 4, "I"))
_counts = attrgetter("number", *COUNTS)


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the views at one time: JSON-able content, and one buffer or none."""

    content: dict[str, Any]
    buffers: list[bytes]


class Feed:
    """What the views of one run know so far, and the next message that brings them up to date."""

    def __init__(self) -> None:
        self.seq = 0
        self._version = 0
        self._names: list[str] = []
        self._total = array("I")
        self._columns = {name: array("I") for name in COUNTS}
        self._work: dict[int, int] = {}
        self._head: dict[str, Any] = {}
        self._notes: tuple[ErrorNote, ...] = ()
        self._drifted = self._noted = float("-inf")

    def delta(self, progress: Progress, now: float) -> Message | None:
        """What changed since the last message; None where nothing did. `now` is in monotonic seconds."""
        changed = sorted(progress.since(self._version), key=attrgetter("number"))
        self._version = progress.version
        known = len(self._names)
        columns = self._news(changed, known)
        columns += self._work_columns(progress.at_work)
        head = self._head_changes(progress, now)
        content: dict[str, Any] = {"kind": "delta", "head": head}
        notes = self._new_notes(progress, now)
        if notes:
            content["notes"] = notes
        if not (head or columns or notes):
            return None
        self.seq += 1
        return self._message(content, self._names[known:], columns)

    def whole(self) -> Message:
        """Everything that was sent so far, for views that are new."""
        columns: list[tuple[str, Sequence[int]]] = [("total", self._total)]
        columns += list(self._columns.items())
        columns += [("work_at", list(self._work)), ("work", list(self._work.values()))]
        content = {"kind": "all", "head": self._head, "notes": [_note(n) for n in self._notes]}
        return self._message(content, self._names, columns)

    # ---- parts of a delta; each remembers what it tells

    def _news(self, changed: list[SampleProgress], known: int) -> list[tuple[str, Sequence[int]]]:
        if not changed:
            return []
        for sample in changed:
            if sample.number >= known:
                self._names.append(sample.sample_id)
                self._total.append(sample.total)
                for column in self._columns.values():
                    column.append(0)
        rows = list(zip(*map(_counts, changed), strict=True))
        for name, values in zip(COUNTS, rows[1:], strict=True):
            column = self._columns[name]
            for number, value in zip(rows[0], values, strict=True):
                column[number] = value
        news = self._total[known:]
        columns: list[tuple[str, Sequence[int]]] = [("total", news)] if news else []
        return columns + list(zip(("at", *COUNTS), rows, strict=True))

    def _work_columns(self, at_work: Mapping[int, int]) -> list[tuple[str, Sequence[int]]]:
        known = len(self._names)
        work = {number: running for number, running in at_work.items() if running and number < known}
        at = sorted({*work, *self._work})
        at = [number for number in at if work.get(number, 0) != self._work.get(number, 0)]
        self._work = work
        return [("work_at", at), ("work", [work.get(number, 0) for number in at])] if at else []

    def _head_changes(self, progress: Progress, now: float) -> dict[str, Any]:
        head = head_of(progress)
        changes = {key: value for key, value in head.items() if self._head.get(key, self) != value}
        drift_only = changes.keys() <= DRIFTING and not progress.ended
        if not changes or (drift_only and now - self._drifted < DRIFT_S):
            return {}
        self._drifted = now
        self._head = head | {"elapsed": round(progress.elapsed_s, 1)}
        return changes | {"elapsed": self._head["elapsed"]}

    def _new_notes(self, progress: Progress, now: float) -> list[dict[str, Any]]:
        newest = progress.recent_errors[-NOTES:]
        if newest == self._notes or (now - self._noted < NOTES_S and not progress.ended):
            return []
        news = [note for note in newest if note not in self._notes]
        self._noted = now
        self._notes = newest
        return [_note(note) for note in news]

    def _message(
        self, content: dict[str, Any], names: Sequence[str], columns: list[tuple[str, Sequence[int]]]
    ) -> Message:
        ids = json.dumps(names, ensure_ascii=False).encode("utf-8", "replace") if names else b""
        layout: list[tuple[str, int, int]] = [("names", len(ids), 1)] if ids else []
        parts = [ids]
        for name, values in columns:
            if not values:
                continue
            width, packed = pack(values)
            layout.append((name, len(values), width))
            parts.append(packed)
        buffer = b"".join(parts)
        content = content | {"seq": self.seq} | ({"layout": layout} if layout else {})
        return Message(content, [buffer] if buffer else [])


def head_of(progress: Progress) -> dict[str, Any]:
    """All that is not per sample, worded where people read it."""
    accepted = progress.verdicts.get("Accepted", 0)
    return {
        "state": str(progress.state),
        "total": progress.total,
        "done": progress.done,
        "errors": progress.errors,
        "running": progress.running,
        "queued": progress.queued,
        "skipped": progress.skipped,
        "saved": progress.saved,
        "unsaved": progress.unsaved,
        "samples_done": progress.samples_done,
        "samples_total": progress.samples_total,
        "accepted": accepted,
        "rejected": sum(progress.verdicts.values()) - accepted,
        "verdicts": dict(progress.verdicts),
        "count": count_text(progress),
        "rate": "" if progress.rate_per_s is None else rate_text(_rounded(progress.rate_per_s)),
        "eta": eta_text(progress) if progress.state in (State.RUNNING, State.DRAINING) else "",
        "message": _clean(progress.message),
        "workers": progress.workers,
        "results": _clean(progress.results),
        "next": _clean(f"nbrun.load_results({progress.results!r})"),
        "end": _clean(end_text(progress)) if progress.ended else "",
    }


def pack(values: Sequence[int]) -> tuple[int, bytes]:
    """Whole numbers as bytes, all of the smallest width that holds the largest.

    Example:
        >>> pack([1, 255]), pack([256])
        ((1, b'\\x01\\xff'), (2, b'\\x00\\x01'))
    """
    largest = max(values, default=0)
    width, code = next((width, code) for limit, width, code in _WIDTHS if largest < limit)
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return width, numbers.tobytes()


def decode(message: Message) -> dict[str, Any]:
    """The columns of a message: what the view's script does, for tests and for other readers."""
    columns: dict[str, Any] = {}
    offset, buffer = 0, b"".join(message.buffers)
    for name, length, width in message.content.get("layout", ()):
        part = buffer[offset : offset + length * width]
        offset += length * width
        if name == "names":
            columns[name] = json.loads(part)
            continue
        numbers = array(next(code for _, w, code in _WIDTHS if w == width), part)
        if sys.byteorder == "big":
            numbers.byteswap()
        columns[name] = list(numbers)
    return columns


def cut(text: str, characters: int, *, keep: str = "start") -> str:
    """A text of at most so many characters, its start or its end kept, which says that it was cut."""
    if len(text) <= characters:
        return text
    return f"{text[: characters - 1]}…" if keep == "start" else f"…{text[1 - characters :]}"


def _note(note: ErrorNote) -> dict[str, Any]:
    return {
        "sample_id": _clean(cut(note.sample_id, 300)),
        "group": _clean(note.group),
        "index": note.index,
        "type": _clean(cut(note.type, 100)),
        "message": _clean(cut(note.message, MESSAGE_CHARS)),
        "traceback": _clean(cut(note.traceback, TRACEBACK_CHARS, keep="end")),
        "at": note.at,
    }


def _rounded(rate: float) -> float:
    """A rate with as many digits as people read, so that it stands still while nothing much changes."""
    return float(f"{rate:.2g}") if rate >= 1000 else float(f"{rate:.3g}")


def _clean(text: str) -> str:
    """A text that UTF-8 can hold: ids and paths may carry lone surrogates."""
    return text.encode("utf-8", "replace").decode()
