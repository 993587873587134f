"""Progress -> the messages that keep a view up to date: everything once, then only what changed.

A message is a small mapping and one binary buffer of columns; `unpack` and store.js read it. Layout:

    content   kind: "all" or "delta"; seq: counts up by one; head: what is not per sample (of a delta: what changed of
              it); sections that changed, each whole: kinds (of errors), logs, endpoints, chart;
              layout: [[column, length, width], ...]
    buffer    the columns one after another, each `length` numbers of `width` bytes, little-endian
    names     bytes of a JSON list of ids, those of the samples that are new, in the order of their numbers
    total     tasks of each new sample
    at, and COUNTS    counts of the samples at these numbers, without those that are as they were for all of them
                      (an "all" has every sample and no `at`)
    work_at, work     tasks running now, of the samples whose number of them changed
    wait_at, wait     the same of tasks that wait for another try

Counts are absolute, so a message that is applied twice does no harm; a view that misses one sees it by `seq` and asks
for everything.

Threads: a ViewSync belongs to the updater thread alone; any thread may call `sample_id`.
"""

from __future__ import annotations

import json
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbrun.formatting import bytes_text, count_text, rate_text
from nbrun.model import ErrorKind, ErrorNote, LogNote, Progress, State
from nbrun.progress import eta_text, load_call, quality_texts
from nbrun.texts import shorten, without_surrogates
from nbrun.verdicts import accepts, rejects

#: A message that speaks of results made with other settings says how they are made again; so does a button.
REDO_CALL = 'redo="changed"'
#: The counts of a sample that change, in the order in which they travel.
COUNTS = ("done", "accepted", "rejected", "errors", "judge_errors", "seen", "unexpected")
#: Keys of the head that drift by themselves: alone, they are sent only this often, in seconds.
DRIFTING = frozenset({"rate", "eta", "saved", "unsaved", "disk", "quality", "message"})
DRIFT_S = 2.0


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the views at one time: JSON-able content, and one buffer or none."""

    content: dict[str, Any]
    buffers: list[bytes]


class ViewSync:
    """What the views of one run know so far, and the next message that brings them up to date."""

    def __init__(self) -> None:
        self.seq = 0
        self._version = 0
        self._names: list[str] = []
        self._total = array("I")
        self._columns = {name: array("I") for name in COUNTS}
        self._now: dict[str, dict[int, int]] = {"work": {}, "wait": {}}  # sample number -> tasks running, waiting
        self._head: dict[str, Any] = {}
        self._message_kind = ""  # the last message, without its numbers
        self._drifted = float("-inf")
        self._chart = Throughput()
        self._sections = {
            "kinds": Section(_kinds),
            "logs": Section(_logs),
            "endpoints": Section(_endpoints),
            "chart": Section(lambda rates: [self._chart.step_s, rates]),
        }

    def sample_id(self, number: int) -> str:
        """The id behind a number in the messages."""
        return self._names[number]

    def delta(
        self, progress: Progress, now: float, *, endpoints: Sequence[Mapping[str, Any]] = (), disk: int | None = None
    ) -> Message | None:
        """What changed since the last message; None where nothing did.

        Args:
            now: monotonic seconds.
            endpoints: rows of Judge.health.
            disk: bytes that the results take; None while not known.
        """
        changed = progress.columns_since(self._version)
        self._version = progress.version
        known = len(self._names)
        columns = self._news(changed, known)
        columns += self._now_columns("work", progress.at_work)
        columns += self._now_columns("wait", progress.waiting_at)
        head = self._head_changes(progress, now, disk)
        content = {"kind": "delta", "head": head} | self._section_changes(progress, now, endpoints)
        if not (head or columns or len(content) > 2):
            return None
        rates = self._sections["chart"].news(self._chart.rates, now, at_once=progress.ended)
        if rates is not None:  # time alone is worth no message
            content["chart"] = rates
        self.seq += 1
        return self._message(content, self._names[known:], columns)

    def whole(self) -> Message:
        """Everything that was sent so far, for views that are new."""
        columns: list[tuple[str, Sequence[int]]] = [("total", self._total)]
        columns += list(self._columns.items())
        for name, now in self._now.items():
            columns += [(f"{name}_at", list(now)), (name, list(now.values()))]
        sent = {name: section.sent for name, section in self._sections.items() if section.sent is not None}
        return self._message({"kind": "all", "head": self._head} | sent, self._names, columns)

    # ---- parts of a delta; each updates what was sent last

    def _news(self, changed: Mapping[str, list[Any]], known: int) -> list[tuple[str, Sequence[int]]]:
        numbers = changed["number"]
        if not numbers:
            return []
        first = bisect_left(numbers, known)  # from here on samples are new
        self._names += changed["sample_id"][first:]
        self._total.extend(changed["total"][first:])
        for column in self._columns.values():
            column.frombytes(bytes(column.itemsize * (len(numbers) - first)))
        news = self._total[known:]
        columns: list[tuple[str, Sequence[int]]] = [("total", news)] if news else []
        columns.append(("at", numbers))
        for name in COUNTS:
            column, values = self._columns[name], changed[name]
            if list(map(column.__getitem__, numbers)) != values:
                columns.append((name, values))
                for number, value in zip(numbers, values, strict=True):
                    column[number] = value
        return columns

    def _now_columns(self, name: str, tasks: Mapping[int, int]) -> list[tuple[str, Sequence[int]]]:
        """Samples whose number of running or waiting tasks has changed."""
        known = len(self._names)
        now = {number: n for number, n in tasks.items() if n and number < known}
        before = self._now[name]
        at = [number for number in sorted({*now, *before}) if now.get(number, 0) != before.get(number, 0)]
        self._now[name] = now
        return [(f"{name}_at", at), (name, [now.get(number, 0) for number in at])] if at else []

    def _head_changes(self, progress: Progress, now: float, disk: int | None) -> dict[str, Any]:
        head = head_of(progress) | {"disk": bytes_text(disk) if disk else ""}
        changes = {key: value for key, value in head.items() if self._head.get(key, self) != value}
        drift_only = changes.keys() <= DRIFTING and not progress.ended and not self._is_new_message(head)
        if not changes or (drift_only and now - self._drifted < DRIFT_S):
            return {}
        self._drifted = now
        self._message_kind = _without_digits(head["message"])
        self._head = head | {"elapsed": round(progress.elapsed_s, 1)}
        return changes | {"elapsed": self._head["elapsed"]}

    def _is_new_message(self, head: Mapping[str, Any]) -> bool:
        """Does it say something else, not the same with other numbers (a countdown)?"""
        return _without_digits(head["message"]) != self._message_kind

    def _section_changes(
        self, progress: Progress, now: float, endpoints: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        self._chart.add(now, progress.ends, progress.state in (State.RUNNING, State.DRAINING))
        values = {"kinds": progress.error_kinds, "logs": progress.logs, "endpoints": endpoints}
        news = {name: self._sections[name].news(v, now, at_once=progress.ended) for name, v in values.items()}
        return {name: value for name, value in news.items() if value is not None}

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
    accepted = sum(n for verdict, n in progress.verdicts.items() if accepts(verdict))
    return {
        "state": str(progress.state),
        "total": progress.total,
        "done": progress.done,
        "errors": progress.errors,
        "running": progress.running,
        "waiting": progress.waiting,
        "queued": progress.queued,
        "skipped": progress.skipped,
        "saved": progress.saved,
        "unsaved": progress.unsaved,
        "resumed": progress.resumed,
        "samples_done": progress.samples_done,
        "samples_total": progress.samples_total,
        "accepted": accepted,
        "rejected": sum(n for verdict, n in progress.verdicts.items() if rejects(verdict)),
        "unexpected": progress.unexpected,
        "quality": quality_texts(progress),
        "judge_errors": progress.judge_errors,
        "verdicts": list(progress.verdicts.items()),  # a list: their order says which bit of `seen` is whose
        "count": count_text(progress),
        "rate": "" if progress.rate_per_s is None else rate_text(_rounded(progress.rate_per_s)),
        "eta": eta_text(progress) if progress.state in (State.RUNNING, State.DRAINING) else "",
        "message": without_surrogates(progress.message),
        "failing": _failing(progress),
        "redo": REDO_CALL in progress.message,
        "workers": progress.workers,
        "results": without_surrogates(progress.results),
        "next": without_surrogates(load_call(progress)),
        "watched": len(progress.watched),
        "end": without_surrogates(_end(progress)) if progress.ended else "",
    }


def _end(progress: Progress) -> str:
    """What to do after the end. The counts and the time are shown elsewhere in the panel."""
    texts = {
        State.DONE: "Retry errors, or run.retry_errors(), runs the tasks again that ended in errors."
        if progress.errors
        else "",
        State.STOPPED: "Go on starts the same run again with what is missing; so does the cell, also after a restart.",
        State.HALTED: "Everything that ended is saved.",
    }
    kept = f"{progress.resumed:,} of the results are of earlier runs." if progress.resumed else ""
    load = f"{load_call(progress)} loads the results."
    if progress.watched:
        return load
    return " ".join(filter(None, [texts.get(progress.state, ""), kept, load]))


def _failing(progress: Progress) -> str:
    """The type of error for which the run has paused itself, or "": the message of the pause names it."""
    if progress.state not in (State.PAUSED, State.HALTED):
        return ""
    named = [k for k in progress.error_kinds if k.n and f"failed with {k.type}:" in progress.message]
    return without_surrogates(shorten(named[0].type, 100)) if named else ""


def _without_digits(text: str) -> str:
    return text.translate(_NO_DIGITS)


_NO_DIGITS = str.maketrans("", "", "0123456789,.")


# ---- columns as bytes

_WIDTHS = ((1 << 8, 1, "B"), (1 << 16, 2, "H"), (1 << 32, 4, "I"))


def pack(values: Sequence[int]) -> tuple[int, bytes]:
    """Return whole numbers as little-endian bytes, and how many bytes each takes: the fewest that hold the largest.

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


def unpack(layout: Iterable[tuple[str, int, int]], buffer: bytes) -> dict[str, Any]:
    """Return the columns of a message, as the page's script reads them; for tests and other readers."""
    columns: dict[str, Any] = {}
    offset = 0
    for name, length, width in layout:
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


def decode(message: Message) -> dict[str, Any]:
    """Return the columns of a message."""
    return unpack(message.content.get("layout", ()), b"".join(message.buffers))


def _rounded(rate: float) -> float:
    """A rate with as many digits as people read, so that it stands still while nothing much changes."""
    return float(f"{rate:.2g}") if rate >= 1000 else float(f"{rate:.3g}")


# ---- sections: kinds of errors, the log, the judge's endpoints, the throughput

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


def _kinds(value: Sequence[ErrorKind]) -> list[dict[str, Any]]:
    """Return the kinds of errors that still count, the most frequent first."""
    counting = sorted((k for k in value if k.n > 0), key=lambda k: -k.n)
    return [
        {"type": without_surrogates(shorten(k.type, 100)), "n": k.n} | ({} if k.last is None else _note(k.last))
        for k in counting
    ]


def _logs(value: Sequence[LogNote]) -> list[dict[str, Any]]:
    """Return the newest lines of the log."""
    return [
        {"at": n.at, "level": n.level, "text": without_surrogates(shorten(n.text, LOG_CHARS)), "n": n.n}
        for n in value[-LOGS:]
    ]


def _endpoints(value: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
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
