"""Keeps a run's views up to date: a view is sent everything once, then only what changed.

`Updater` is the one thread that looks at a run, whatever is displayed and however often; `ViewSync` makes its messages.
A message is a small mapping and one binary buffer of columns; store.js reads it. Layout:

    content   kind: "all" or "delta"; seq: counts up by one; head: see head_of (in a delta only what changed);
              sections that changed, each whole: kinds (of errors), logs, endpoints, chart;
              kind_counts: how many tasks ended in each of these kinds, where only that has changed;
              layout: [[column, length, width], ...]
    buffer    the columns one after another, each `length` numbers of `width` bytes, little-endian
    names     bytes of a JSON list: the ids of samples that are new, in the order of their numbers
    total     tasks of each new sample
    at, and COUNTS    counts of the samples with these numbers; a count that has changed for none of them is left out
                      (an "all" has every sample and no `at`)
    running_at, running   samples whose number of running tasks has changed, and that number
    waiting_at, waiting   the same for tasks that wait for another try

Counts are absolute, so applying a message twice does no harm. A view that misses a message notices it by `seq` and
asks for everything. A section is sent whole when it has changed; the larger it is, the less often.

Threads: `Updater.wake`, `want_whole`, `seq` and `sample_id` may be used from any thread. Everything else happens in
the thread `nbrun-panel`: it makes and sends every message, so that their order is that of their numbers. Nothing is
printed, because a thread's output appears in whatever cell ran last.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from nbrun.model import ErrorKind, ErrorNote, LogNote, Progress, RunControls, State
from nbrun.panel.actions import enabled_actions
from nbrun.progress import end_advice, eta_text, load_call, quality_texts
from nbrun.texts import bytes_text, count_text, rate_text, shorten, without_surrogates
from nbrun.threads import start_daemon
from nbrun.verdicts import judged

#: The counts of a sample that change, in the order in which they are sent.
COUNTS = ("done", "accepted", "rejected", "errors", "judge_errors", "seen", "unexpected")
#: Keys of the head that change all the time: if nothing else changes, they are sent only this often, in seconds.
DRIFTING = frozenset({"rate", "eta", "saved", "unsaved", "disk", "quality", "message"})
DRIFT_S = 2.0
#: Without digits a message with a countdown stays the same.
_NO_DIGITS = str.maketrans("", "", "0123456789,.")

_log = logging.getLogger(__name__)


#: Columns of a message by their names.
Columns = dict[str, Sequence[int]]


class Message(NamedTuple):
    """One message to the views: content that JSON can hold, and one buffer or none."""

    content: dict[str, object]
    buffers: list[bytes]


class ViewSync:
    """What the views of one run know so far, and the next message that brings them up to date."""

    def __init__(self) -> None:
        self.seq = 0
        self._version = 0
        self._names: list[str] = []
        self._total = array("I")
        self._columns = {name: array("I") for name in COUNTS}
        self._now: dict[str, dict[int, int]] = {"running": {}, "waiting": {}}  # sample number -> tasks
        self._head: Mapping[str, object] = {}
        self._head_sent_at = float("-inf")
        self._message_text = ""  # the run's message as it was sent last, without its numbers
        self._throughput = Throughput()
        self._sections: dict[str, Section[Any]] = {
            "kinds": Section(_kinds),
            "logs": Section(_logs),
            "endpoints": Section(_endpoints),
            "chart": Section(lambda rates: [self._throughput.step_s, rates] if rates else []),
        }

    def sample_id(self, number: int) -> str:
        """Return the id of the sample with this number in the messages."""
        return self._names[number]

    def delta(
        self, progress: Progress, now: float, *, endpoints: Sequence[Mapping[str, object]] = (), disk: int | None = None
    ) -> Message | None:
        """Return what changed since the last message, or None.

        Args:
            now: monotonic seconds.
            endpoints: rows of Judge.health.
            disk: how many bytes the results take; None while that is not known.
        """
        changed = progress.columns_since(self._version)
        self._version = progress.version
        known = len(self._names)
        columns = self._count_columns(changed, known)
        columns |= self._now_columns("running", progress.at_work) | self._now_columns("waiting", progress.waiting_at)
        head = self._head_changes(progress, now, disk)
        sections = self._section_changes(progress, now, endpoints)
        if not (head or columns or sections):
            return None
        # The chart changes with time; alone it is not worth a message.
        sections |= self._changed({"chart": self._throughput.rates}, now, is_urgent=progress.ended)
        self.seq += 1
        content = {"kind": "delta", "seq": self.seq, "head": head, **sections}
        return make_message(content, columns, self._names[known:])

    def whole(self) -> Message:
        """Return everything that was sent so far, for views that are new."""
        columns: Columns = {"total": self._total, **self._columns}
        for name, now in self._now.items():
            columns |= {f"{name}_at": list(now), name: list(now.values())}
        sections = {name: section.sent for name, section in self._sections.items() if section.sent}
        return make_message({"kind": "all", "seq": self.seq, "head": self._head, **sections}, columns, self._names)

    # ---- parts of a delta; each updates what was sent last

    def _count_columns(self, changed: Mapping[str, list[Any]], known: int) -> Columns:
        """Return the columns of samples that are new or whose counts changed. Those below `known` were sent before."""
        numbers = changed["number"]
        if not numbers:
            return {}
        first = bisect_left(numbers, known)  # from here on samples are new
        self._names += changed["sample_id"][first:]
        self._total.extend(changed["total"][first:])
        for column in self._columns.values():
            column.frombytes(bytes(column.itemsize * (len(numbers) - first)))
        columns: Columns = {"total": self._total[known:], "at": numbers}
        for name in COUNTS:
            column, values = self._columns[name], changed[name]
            if list(map(column.__getitem__, numbers)) != values:
                columns[name] = values
                for number, value in zip(numbers, values, strict=True):
                    column[number] = value
        return columns

    def _now_columns(self, name: str, tasks: Mapping[int, int]) -> Columns:
        """Return the samples whose number of running or waiting tasks has changed, and that number."""
        known = len(self._names)
        now = {number: n for number, n in tasks.items() if n and number < known}
        at = sorted({number for number, _ in now.items() ^ self._now[name].items()})
        self._now[name] = now
        return {f"{name}_at": at, name: [now.get(number, 0) for number in at]} if at else {}

    def _head_changes(self, progress: Progress, now: float, disk: int | None) -> dict[str, object]:
        head = head_of(progress) | {"disk": bytes_text(disk) if disk else ""}
        changes = {key: value for key, value in head.items() if self._head.get(key, ...) != value}
        if not changes or self._can_wait(changes, progress, now):
            return {}
        self._head_sent_at = now
        self._message_text = progress.message.translate(_NO_DIGITS)
        self._head = head
        changes["elapsed"] = head["elapsed"] = round(progress.elapsed_s, 1)
        return changes

    def _can_wait(self, changes: Mapping[str, object], progress: Progress, now: float) -> bool:
        """Return whether only what changes all the time has changed, and that was sent a moment ago."""
        if progress.ended or now - self._head_sent_at >= DRIFT_S or not changes.keys() <= DRIFTING:
            return False
        return progress.message.translate(_NO_DIGITS) == self._message_text

    def _section_changes(
        self, progress: Progress, now: float, endpoints: Sequence[Mapping[str, object]]
    ) -> dict[str, object]:
        self._throughput.add(now, progress.ends, progress.state in (State.RUNNING, State.DRAINING))
        kinds = progress.error_kinds
        values = {"kinds": kinds, "logs": progress.logs, "endpoints": endpoints}
        changes = self._changed(values, now, is_urgent=progress.ended)
        if "kinds" not in changes and (counts := self._kind_counts(kinds)) is not None:
            changes["kind_counts"] = counts
        return changes

    def _changed(self, values: Mapping[str, object], now: float, *, is_urgent: bool) -> dict[str, object]:
        """Return those of these sections, by name, that are to be sent now."""
        changes = {name: self._sections[name].change(value, now, is_urgent=is_urgent) for name, value in values.items()}
        return {name: sent for name, sent in changes.items() if sent is not None}

    def _kind_counts(self, kinds: Sequence[ErrorKind]) -> list[int] | None:
        """Return the counts of the kinds that were sent, or None if they were sent too: texts follow less often."""
        sent: list[Any] = self._sections["kinds"].sent
        counts = {_kind_name(kind): kind.n for kind in kinds}
        now = [counts.get(kind["type"], 0) for kind in sent]
        if now == [kind["n"] for kind in sent]:
            return None
        for kind, n in zip(sent, now, strict=True):
            kind["n"] = n
        return now


# ---- the head

#: Numbers of the progress that the head repeats.
HEAD_NUMBERS = (
    *("total", "done", "errors", "running", "waiting", "queued", "skipped", "saved", "unsaved", "resumed"),
    *("samples_done", "samples_total", "unexpected", "judge_errors", "workers"),
)


def head_of(progress: Progress) -> dict[str, object]:
    """Return all that is not per sample, except how much the results take and the time.

    Numbers are tasks unless the name says something else; texts are as people read them. `total` and `samples_total`
    are None while they are not known. The order of `verdicts` is that of the bits of the column `seen`. `failing` is
    the type of error for which the run has paused itself, or "". `can` are the names of the actions that are possible
    now. `watched` is how many directories a watch looks at; 0 for a run. `end`, "" before the end, contains `next`,
    the line of code that loads the results.
    """
    accepted, rejected = judged(progress.verdicts)
    return {
        **{name: getattr(progress, name) for name in HEAD_NUMBERS},
        "state": str(progress.state),
        "accepted": accepted,
        "rejected": rejected,
        "quality": quality_texts(progress),
        "verdicts": list(progress.verdicts.items()),
        "count": count_text(progress),
        "rate": "" if progress.rate_per_s is None else rate_text(_rounded(progress.rate_per_s)),
        "eta": eta_text(progress) if progress.state in (State.RUNNING, State.DRAINING) else "",
        "message": without_surrogates(progress.message),
        "failing": _failing(progress),
        "can": enabled_actions(progress),
        "results": without_surrogates(progress.results),
        "watched": len(progress.watched),
        "next": without_surrogates(load_call(progress)),
        "end": without_surrogates(_end(progress)) if progress.ended else "",
    }


def saved_head(progress: Progress) -> dict[str, object]:
    """Return the head as a page without a kernel shows it: it doesn't advise to press what can't be pressed there."""
    advice = f"{end_advice(progress)} {load_call(progress)} loads the results.".strip()
    end = {"end": without_surrogates(advice)} if progress.ended else {}
    return head_of(progress) | {"elapsed": round(progress.elapsed_s, 1), **end}


_AFTER_ERRORS = "Retry errors, or run.retry_errors(), runs the tasks again that ended in errors."
_AFTER_END = {
    State.STOPPED: "Go on starts the same run again with what is missing; so does the cell, also after a restart.",
    State.HALTED: "Everything that ended is saved.",
}


def _end(progress: Progress) -> str:
    """Return what to do after the end. The panel shows counts and time elsewhere."""
    load = f"{load_call(progress)} loads the results."
    if progress.watched:
        return load
    advice = _AFTER_ERRORS if progress.errors and progress.state is State.DONE else _AFTER_END.get(progress.state, "")
    earlier = f"{progress.resumed:,} of the results are from earlier runs." if progress.resumed else ""
    return " ".join(filter(None, [advice, earlier, load]))


def _failing(progress: Progress) -> str:
    """Return the type of error for which the run has paused itself, or "". The message of the pause names it."""
    if progress.state not in (State.PAUSED, State.HALTED):
        return ""
    named = [k for k in progress.error_kinds if k.n and f"failed with {k.type}:" in progress.message]
    return _kind_name(named[0]) if named else ""


def _rounded(rate: float) -> float:
    """Round a rate to as many digits as people read, so that it changes only if the speed does."""
    return float(f"{rate:.2g}") if rate >= 1000 else float(f"{rate:.3g}")


# ---- sections: kinds of errors, the log, the judge's endpoints, the throughput

#: The least time between two messages with the same section, in seconds; and how many of its bytes are sent per second.
EVERY_S, BYTES_PER_S = 2.0, 4000.0
MESSAGE_CHARS, TRACEBACK_CHARS, LOG_CHARS, LOGS = 600, 4000, 500, 50
#: How many rows of endpoints are sent, and how many characters of each of their texts.
ENDPOINTS, ENDPOINT_CHARS = 2000, 200

_Value = TypeVar("_Value")


class Section(Generic[_Value]):
    """The newest value of a section, and when it may be sent next.

    Args:
        make: turns a value into what is sent, which JSON can hold. Called only for values that differ from the last.

    Attributes:
        sent: what was sent last; [] is what views begin with.
    """

    def __init__(self, make: Callable[[_Value], list[object]]) -> None:
        self._make = make
        self._last: _Value | None = None
        self._due = float("-inf")
        self.sent: list[object] = []

    def change(self, value: _Value, now: float, *, is_urgent: bool) -> list[object] | None:
        """Return what is to be sent now, or None."""
        if value == self._last or (now < self._due and not is_urgent):
            return None
        self._last = value
        made = self._make(value)
        if made == self.sent:
            return None
        self.sent = made
        self._due = now + max(EVERY_S, len(json.dumps(made)) / BYTES_PER_S)
        return made


def _kinds(kinds: Sequence[ErrorKind]) -> list[object]:
    """Return the kinds of errors that some task ended in, the most frequent first."""
    counting = sorted((kind for kind in kinds if kind.n > 0), key=lambda kind: -kind.n)
    return [{"type": _kind_name(kind), "n": kind.n, **_last_error(kind.last)} for kind in counting]


def _kind_name(kind: ErrorKind) -> str:
    return sendable(kind.type, 100)


def _last_error(note: ErrorNote | None) -> dict[str, object]:
    if note is None:
        return {}
    return {
        "sample_id": sendable(note.sample_id, 300),
        "group": without_surrogates(note.group),
        "index": note.index,
        "message": sendable(note.message, MESSAGE_CHARS),
        "traceback": without_surrogates(shorten(note.traceback, TRACEBACK_CHARS, keep="end")),
        "at": note.at,
    }


def _logs(notes: Sequence[LogNote]) -> list[object]:
    """Return the newest lines of the log."""
    return [
        {"at": note.at, "level": note.level, "text": sendable(note.text, LOG_CHARS), "n": note.n}
        for note in notes[-LOGS:]
    ]


def _endpoints(rows: Sequence[Mapping[str, object]]) -> list[object]:
    """Return rows of name, state, requests in flight, mean time in seconds, last error."""
    return [
        [
            sendable(str(row.get("name", "")), ENDPOINT_CHARS),
            sendable(str(row.get("state", "")), ENDPOINT_CHARS),
            _number(row.get("in_flight")),
            _number(row.get("mean_s")),
            sendable(str(row.get("last_error") or ""), ENDPOINT_CHARS),
        ]
        for row in rows[:ENDPOINTS]
    ]


def _number(value: object) -> float | None:
    return float(f"{value:.3g}") if isinstance(value, (int, float)) and abs(value) < 1e300 else None


#: The chart of the throughput has at most POINTS intervals; at first each is FIRST_STEP_S long.
POINTS, FIRST_STEP_S = 120, 1.0


class Throughput:
    """How many tasks ended in each interval of the run. Pauses are left out.

    All intervals are equally long. If there are more than POINTS, each two become one of double length.
    """

    def __init__(self) -> None:
        self.step_s = FIRST_STEP_S
        self._ends: list[int] = []
        self._last: float | None = None  # when the run was looked at last, if it was running then
        self._passed_s = 0.0  # of the current interval
        self._before = 0  # how many tasks had ended when that began
        self._is_begun = False

    def add(self, now: float, ends: int, running: bool) -> None:
        """Record that `ends` tasks had ended by `now`."""
        if not self._is_begun:
            self._is_begun, self._before = True, ends  # those before the first look belong to no interval
        if self._last is not None:
            self._passed_s += now - self._last
        self._last = now if running else None
        passed = int(self._passed_s / self.step_s)
        if not passed:
            return
        # Where several intervals have passed since the last look, what ended in them is spread evenly.
        each, rest = divmod(ends - self._before, passed)
        self._ends += [each + (i < rest) for i in range(min(passed, 4 * POINTS))]
        self._passed_s -= passed * self.step_s
        self._before = ends
        while len(self._ends) > POINTS:
            self._double_step()

    def _double_step(self) -> None:
        """Make one interval of each two."""
        if len(self._ends) % 2:  # the last one belongs to the current interval then
            self._before -= self._ends.pop()
            self._passed_s += self.step_s
        self._ends = [a + b for a, b in zip(self._ends[::2], self._ends[1::2], strict=True)]
        self.step_s *= 2

    @property
    def rates(self) -> list[float]:
        """Ended tasks per second, oldest first, with three digits."""
        return [float(f"{n / self.step_s:.3g}") for n in self._ends]


# ---- columns as bytes

#: How many bytes a column's numbers take, with the code of `array`, narrowest first.
_CODES = {1: "B", 2: "H", 4: "I"}


def make_message(content: Mapping[str, object], columns: Columns, names: Sequence[str] = ()) -> Message:
    """Return a message with these columns, and the names before them, in its buffer; empty ones are left out."""
    packed = {"names": (1, json.dumps(names, ensure_ascii=False).encode("utf-8", "replace"))} if names else {}
    packed |= {name: pack(values) for name, values in columns.items() if values}
    if not packed:
        return Message({**content}, [])
    layout = [[name, len(data) // width, width] for name, (width, data) in packed.items()]
    return Message({**content, "layout": layout}, [b"".join(data for _, data in packed.values())])


def sendable(text: str, characters: int) -> str:
    """Return a text, shortened, in a form that JSON can hold."""
    return without_surrogates(shorten(text, characters))


def pack(values: Sequence[int]) -> tuple[int, bytes]:
    """Return whole numbers as little-endian bytes, and how many bytes each takes: the fewest that hold the largest.

    Example:
        >>> pack([1, 255]), pack([256])
        ((1, b'\\x01\\xff'), (2, b'\\x00\\x01'))
    """
    largest = max(values, default=0)
    width = next(width for width in _CODES if largest < 1 << 8 * width)
    numbers = array(_CODES[width], values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return width, numbers.tobytes()


# ---- the thread

TICK_S = 0.2
#: The static form is for readers without a kernel: it is rewritten every this many seconds, and at the end.
REWRITE_S = 10.0
#: How often the judge is asked for its endpoints; less often where it takes long.
HEALTH_S = 2.0


class Updater:
    """Gives the run's progress to `send`, at most once in TICK_S, and to `rewrite`, at most once in REWRITE_S.

    Args:
        controls: the run.
        send: gives a message to all views.
        rewrite: brings the static form up to date.
        clock: monotonic seconds; tests pass their own.
    """

    def __init__(
        self,
        controls: RunControls,
        send: Callable[[Message], None],
        rewrite: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._controls, self._send, self._rewrite, self._clock = controls, send, rewrite, clock
        self._sync = ViewSync()
        self._disk = DiskUse()
        self._endpoints: Sequence[Mapping[str, Any]] = ()
        self._ask_health_at = float("-inf")
        self._lock = threading.Lock()  # protects the three below
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()  # set under the lock, so that no wake is lost while the thread ends
        self._whole_wanted = False
        self._rewritten_at = clock()
        self._shown: tuple[object, ...] = ()
        self.shows_end = False  # whether the end of the run has reached the views and the static form

    @property
    def seq(self) -> int:
        """The number of the newest message, 0 before the first. Any thread."""
        return self._sync.seq

    def sample_id(self, number: int) -> str:
        """The id behind a number in the messages. Any thread."""
        return self._sync.sample_id(number)

    def wake(self) -> None:
        """Look at the run now, and continue until its end was shown."""
        with self._lock:
            self._woken.set()
            if self._thread is None:
                self._thread = start_daemon(self._run, "nbrun-panel")

    def want_whole(self) -> None:
        """Send everything next, because a view is new or missed a message."""
        with self._lock:
            self._whole_wanted = True
        self.wake()

    def tick(self) -> bool:
        """Look at the run once. Return False once its end was shown and no view asks for more."""
        self._woken.clear()
        progress, now = self._controls.progress, self._clock()
        self._look_around(progress, now)
        message = self._sync.delta(progress, now, endpoints=self._endpoints, disk=self._disk.bytes)
        with self._lock:
            whole, self._whole_wanted = self._whole_wanted, False
        if whole:
            self._send(self._sync.whole())
        elif message is not None:
            self._send(message)
        self._rewrite_if_due(progress)
        self.shows_end = progress.ended
        with self._lock:
            if progress.ended and message is None and not self._woken.is_set():
                self._thread = None
                return False
        return True

    def _look_around(self, progress: Progress, now: float) -> None:
        """Look at the disk and at the judge's endpoints, now and then."""
        if progress.ended and self._shown[:1] != (progress.state,):
            self._disk.hurry()
            self._ask_health_at = now  # no request is in flight any more
        self._disk.step(progress.results, now)
        if now >= self._ask_health_at:
            self._ask_health(now)

    def _ask_health(self, now: float) -> None:
        try:
            self._endpoints = self._controls.health()
        except Exception:  # the judge's own code may fail; then nothing is shown
            self._endpoints = ()
            _log.debug("the judge's health could not be asked", exc_info=True)
        took = self._clock() - now
        self._ask_health_at = now + max(HEALTH_S, 100 * took)

    def _rewrite_if_due(self, progress: Progress) -> None:
        now = self._clock()
        shown = (progress.state, progress.message, progress.version, progress.workers)
        if shown != self._shown and (progress.ended or now - self._rewritten_at >= REWRITE_S):
            self._shown, self._rewritten_at = shown, now
            self._rewrite(progress)

    def _run(self) -> None:
        while True:
            try:
                if not self.tick():
                    return
            except Exception:
                # A view must never cost the run anything. The next tick tries again: after an error while sending,
                # views see the gap in `seq` and ask for everything.
                _log.debug("the panel could not be brought up to date", exc_info=True)
            self._woken.wait(TICK_S)


#: How many files one step looks at, and how long a finished count is used, in seconds.
FILES, ROUND_S = 300, 20.0


class DiskUse:
    """The size of a directory, counted in small steps: one of many thousand files takes a while. Only sizes are read.

    Attributes:
        bytes: None until the first count has ended.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._round: Iterator[int] | None = None
        self._sum = 0
        self._next_at = float("-inf")

    def step(self, path: str, now: float) -> None:
        """Continue the current count, or begin one when it is due."""
        if self._round is None:
            if now < self._next_at or not path:
                return
            self._round, self._sum = _sizes(path), 0
        sizes = list(islice(self._round, FILES))
        self._sum += sum(sizes)
        if len(sizes) < FILES:
            self.bytes, self._round, self._next_at = self._sum, None, now + ROUND_S

    def hurry(self) -> None:
        """Begin a last count with the next step, since the run has ended."""
        self._next_at = float("-inf")


def _sizes(path: str) -> Iterator[int]:
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                stat = os.lstat(os.path.join(folder, name))
                yield getattr(stat, "st_blocks", 0) * 512 or stat.st_size
