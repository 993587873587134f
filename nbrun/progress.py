"""Counters of a run -> immutable snapshots, what changed since, and how rates and times are worded.

The board is written by workers (once a batch of ended tasks) and by the feeder (once a sample); views read it through
`Progress`. Totals are kept as sums, so a snapshot costs the same however many samples are done.

Threads: every method of Board may be called from any thread. Its one lock protects the counters and columns; it is
held for some additions or for one copy, never over I/O or a user's function.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from nbrun.model import State

#: Spacing and number of the marks from which rates are taken: half seconds for two minutes, 15 s for an hour.
FINE_S, COARSE_S, MARKS = 0.5, 15.0, 240
#: A rate looks back so far, and further while fewer ends than this lie in the window.
WINDOW_S, WINDOW_ENDS = 30.0, 20
#: So many of the newest errors are kept for the views.
RECENT_ERRORS = 20


class SampleProgress(NamedTuple):
    """One sample's counts, in tasks. `number` is its place on the board and never changes during a run."""

    number: int
    sample_id: str
    total: int
    done: int
    accepted: int
    rejected: int
    errors: int

    @property
    def left(self) -> int:
        """Tasks that have neither a result nor an error yet."""
        return max(0, self.total - self.done - self.errors)


@dataclass(frozen=True, slots=True)
class ErrorNote:
    """One task that ended in an error, for the views. `at` is in seconds since the epoch."""

    sample_id: str
    group: str
    index: int
    type: str
    message: str
    traceback: str
    at: float


@dataclass(frozen=True, slots=True)
class Progress:
    """An immutable snapshot of a run.

    Attributes:
        state: running, paused, draining, stopped, done or halted.
        total: tasks in all, None while the samples are still being read. Skipped items are not in it.
        done, errors: tasks with a result, tasks whose last try failed for good. `done` includes what earlier runs left.
        running, queued, skipped: tasks in a worker now; read and waiting; never to be run.
        resumed: how many of `done` earlier runs left.
        saved, unsaved: results on the disk; results that ended but are not on the disk yet.
        samples_done, samples_total: the latter None while unknown.
        verdicts: verdict -> tasks, over all of `done` that has one.
        rate_per_s: tasks ended a second over a recent window (30 s, longer where tasks are), None while unknown.
        eta_s: seconds that are left at that rate, None while unknown.
        elapsed_s: seconds since the run was started.
        message: one plain sentence where something needs saying, else "".
        workers: threads wanted now.
        at_work: sample number -> its tasks running now.
        recent_errors: the newest errors, newest last.
        results: where the results are.
        version: pass it to `since` later to learn what changed.
    """

    state: State
    total: int | None
    done: int
    errors: int
    running: int
    queued: int
    skipped: int
    resumed: int
    saved: int
    unsaved: int
    samples_done: int
    samples_total: int | None
    verdicts: Mapping[str, int]
    rate_per_s: float | None
    eta_s: float | None
    elapsed_s: float
    message: str
    workers: int = 0
    at_work: Mapping[int, int] = field(default_factory=dict)
    recent_errors: tuple[ErrorNote, ...] = ()
    results: str = ""
    version: int = 0
    _board: Board | None = field(default=None, repr=False, compare=False)

    def since(self, version: int) -> list[SampleProgress]:
        """The samples that changed after `version`, as they are now; `since(0)` gives all of them."""
        return [] if self._board is None else self._board.changed_since(version)

    @property
    def ended(self) -> bool:
        """True where nothing more will happen unless somebody asks for it."""
        return self.state in (State.STOPPED, State.DONE, State.HALTED)


class Board:
    """The counters of one run. See the module's note on threads.

    Args:
        clock: seconds, monotonic; tests pass their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()  # protects everything below
        self._clock = clock
        self._began = clock()
        self._ids: list[str] = []
        self._columns = {name: array("I") for name in ("total", "done", "accepted", "rejected", "errors")}
        self._touched: dict[int, int] = {}  # sample number -> version of its last change, oldest first
        self._version = 0
        self._fed = self._done = self._errors = self._skipped = self._resumed = 0
        self._ends = 0  # tasks ended in this run, for the rate
        self._samples_done = 0
        self._verdicts: Counter[str] = Counter()
        self._recent: deque[ErrorNote] = deque(maxlen=RECENT_ERRORS)
        self._fine: deque[tuple[float, int]] = deque([(self._began, 0)], maxlen=MARKS)
        self._coarse: deque[tuple[float, int]] = deque([(self._began, 0)], maxlen=MARKS)
        self._total: int | None = None
        self._samples_total: int | None = None

    def add_sample(
        self,
        sample_id: str,
        total: int,
        *,
        done: int = 0,
        skipped: int = 0,
        accepted: int = 0,
        rejected: int = 0,
        verdicts: Mapping[str, int] | None = None,
    ) -> int:
        """A sample was read: `total` tasks, of which earlier runs left `done`. Returns its number."""
        with self._lock:
            number = len(self._ids)
            self._ids.append(sample_id)
            for name, value in (("total", total), ("done", done), ("accepted", accepted), ("rejected", rejected)):
                self._columns[name].append(value)
            self._columns["errors"].append(0)
            self._fed += total
            self._done += done
            self._resumed += done
            self._skipped += skipped
            if verdicts:
                self._verdicts.update(verdicts)
            self._touch(number)
            return number

    def record(self, number: int, verdicts: Iterable[str | None], errors: int = 0) -> None:
        """Tasks of one sample ended: the verdict of each that has a result (None: no judgement), and so many errors."""
        counts = Counter(verdicts)
        done = counts.total()
        judged = done - counts.pop(None, 0)
        accepted = counts["Accepted"]
        rejected = judged - accepted
        columns = self._columns
        with self._lock:
            columns["done"][number] += done
            columns["errors"][number] += errors
            columns["accepted"][number] += accepted
            columns["rejected"][number] += rejected
            self._done += done
            self._errors += errors
            self._ends += done + errors
            for verdict, n in counts.items():
                self._verdicts[verdict or ""] += n
            self._touch(number)
            self._mark()

    def error_again(self, number: int, count: int = 1) -> None:
        """`count` tasks of the sample that had ended in errors are queued again."""
        with self._lock:
            self._columns["errors"][number] -= count
            self._errors -= count
            self._touch(number)

    def note_error(self, note: ErrorNote) -> None:
        """Keeps an error for the views."""
        with self._lock:
            self._recent.append(note)

    def sample_done(self, by: int = 1) -> None:
        """A sample has a result for each of its tasks (or, with -1, has not any more)."""
        with self._lock:
            self._samples_done += by

    def set_totals(self, tasks: int | None, samples: int | None) -> None:
        """What the samples hold in all, as soon as it is known."""
        with self._lock:
            self._total, self._samples_total = tasks, samples

    def fed_totals(self) -> tuple[int, int]:
        """Tasks and samples read so far."""
        with self._lock:
            return self._fed, len(self._ids)

    def restart_rate(self) -> None:
        """Forgets the window of the rate: after a pause the time it lasted must not count."""
        with self._lock:
            now = self._clock()
            self._fine.clear()
            self._coarse.clear()
            self._fine.append((now, self._ends))
            self._coarse.append((now, self._ends))

    def changed_since(self, version: int) -> list[SampleProgress]:
        """See Progress.since. Costs by what changed."""
        with self._lock:
            changed: list[int] = []
            for number, touched in reversed(self._touched.items()):
                if touched <= version:
                    break
                changed.append(number)
            changed.reverse()
            ids = [self._ids[n] for n in changed]
            counts = [[self._columns[name][n] for n in changed] for name in SampleProgress._fields[2:]]
        return list(map(SampleProgress._make, zip(changed, ids, *counts, strict=True)))

    def snapshot(
        self,
        state: State,
        *,
        at_work: Mapping[int, int] | None = None,
        saved: int = 0,
        unsaved: int = 0,
        message: str = "",
        workers: int = 0,
        results: str = "",
    ) -> Progress:
        """The counters as they are now. `saved` counts this run's saved results; earlier ones are added."""
        work = dict(at_work or {})
        running = sum(work.values())
        with self._lock:
            now = self._clock()
            ended = self._done + self._errors
            rate = None if state not in (State.RUNNING, State.DRAINING) else self._rate(now)
            left = None if self._total is None else max(0, self._total - ended)
            eta = left / rate if left is not None and rate else None
            return Progress(
                state=state,
                total=self._total,
                done=self._done,
                errors=self._errors,
                running=running,
                queued=max(0, self._fed - ended - running),
                skipped=self._skipped,
                resumed=self._resumed,
                saved=self._resumed + saved,
                unsaved=unsaved,
                samples_done=self._samples_done,
                samples_total=self._samples_total,
                verdicts=dict(self._verdicts),
                rate_per_s=rate,
                eta_s=eta,
                elapsed_s=now - self._began,
                message=message,
                workers=workers,
                at_work=work,
                recent_errors=tuple(self._recent),
                results=results,
                version=self._version,
                _board=self,
            )

    # ---- called with the lock held

    def _touch(self, number: int) -> None:
        self._version += 1
        self._touched.pop(number, None)
        self._touched[number] = self._version

    def _mark(self) -> None:
        now = self._clock()
        if now - self._fine[-1][0] >= FINE_S:
            self._fine.append((now, self._ends))
            if now - self._coarse[-1][0] >= COARSE_S:
                self._coarse.append((now, self._ends))

    def _rate(self, now: float) -> float | None:
        """Ends a second: over WINDOW_S, or as far back as WINDOW_ENDS ends need, an hour at most."""
        best: tuple[float, int] | None = None
        for at, ends in reversed(self._fine):
            best = (at, ends)
            if now - at >= WINDOW_S and self._ends - ends >= WINDOW_ENDS:
                break
        else:
            for at, ends in reversed(self._coarse):
                if best is None or at < best[0]:
                    best = (at, ends)
                    if self._ends - ends >= WINDOW_ENDS:
                        break
        if best is None or now - best[0] < 0.05 or self._ends == best[1]:
            return None
        return (self._ends - best[1]) / (now - best[0])


# ---- wording, the same in every view


def duration_text(seconds: float) -> str:
    """Seconds as people say them.

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


def eta_text(progress: Progress) -> str:
    """The time that is left, with honest uncertainty."""
    if progress.ended:
        return ""
    if progress.eta_s is None:
        return "time left: not known yet"
    if progress.eta_s < 5:
        return "a few seconds left"
    return f"about {duration_text(progress.eta_s)} left"


def rate_text(rate_per_s: float | None) -> str:
    """A rate in the unit that reads best.

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


def count_text(progress: Progress) -> str:
    """How far the run is: "1,204 of 5,000 tasks, 3 errors".

    Where the total is not known yet, only what is done is told.
    """
    of = "" if progress.total is None else f" of {progress.total:,}"
    text = f"{progress.done:,}{of} tasks"
    if progress.errors:
        text += f", {progress.errors:,} error{'s' if progress.errors != 1 else ''}"
    if progress.skipped:
        text += f", {progress.skipped:,} skipped"
    return text


def end_text(progress: Progress) -> str:
    """One or two sentences for the end of a run: what came of it and the line to type next."""
    took = duration_text(progress.elapsed_s)
    head = {
        State.DONE: f"Done: {count_text(progress)} in {took}.",
        State.STOPPED: f"Stopped after {took}: {count_text(progress)}. Start it again to go on with what is missing.",
        State.HALTED: f"Halted after {took}: {count_text(progress)}. Everything that ended is saved.",
    }.get(progress.state, f"{progress.state.value.capitalize()}: {count_text(progress)}, {took} so far.")
    kept = f" {progress.resumed:,} were there from earlier runs." if progress.resumed else ""
    return f"{head}{kept} nbrun.load_results({progress.results!r}) loads the results."
