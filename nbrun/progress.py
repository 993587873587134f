"""Counting a run's progress: ProgressTracker has the counters, RateEstimator how fast tasks end.

The tracker is written by workers (once a batch of ended tasks) and by the feeder (once a sample); views read it through
`Progress`. Totals are kept as sums, so a snapshot costs the same however many samples are done.

Threads: every method of ProgressTracker may be called from any thread. Its one lock protects the counters, the columns
and the RateEstimator; it is held for some additions or for one copy, never over I/O or a user's function.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from nbrun.model import ErrorKind, ErrorNote, LogNote, Mean, Progress, SampleProgress, SavedCounts, State
from nbrun.texts import count_text, duration_text, percent_text, without_surrogates
from nbrun.verdicts import Tally, count, judged

#: How many of the newest errors and of the newest log lines are kept for the views.
RECENT_ERRORS, RECENT_LOGS = 20, 100
#: How many kinds of errors are counted separately, the rest as one; and how many bits `seen` has for verdicts.
KINDS, SEEN_BITS = 30, 31
OTHER_KINDS = "other errors"
#: Errors of these kinds are the judge's: they say nothing of the solution.
JUDGE_KINDS = frozenset(("JudgeError", "JudgeUnavailableError", "NotSupportedError"))

_COLUMNS = SampleProgress._fields[2:]


class ProgressTracker:
    """The counters of one run. See the module's note on threads.

    Args:
        clock: seconds, monotonic; tests pass their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()  # protects everything below
        self._clock = clock
        self._began = clock()
        self._ended_at: float | None = None  # the clock stops then
        self._paused_at: float | None = None  # the clock stops then until `resume`
        self._paused_s = 0.0  # in all
        self._ids: list[str] = []
        self._columns = {name: array("I") for name in _COLUMNS}
        self._touched: dict[int, int] = {}  # sample number -> version of its last change, oldest first
        self._version = 0
        self._sums = dict.fromkeys(_COLUMNS, 0)  # of the columns; that of `seen` is not used
        self._skipped = self._resumed = self._samples_done = 0
        self._ends = 0  # tasks ended in this run, for the rate
        self._tally = Tally()
        self._metrics: dict[str, tuple[int, float]] = {}  # how many values a metric had in this run, and their sum
        self._verdicts: Counter[str] = Counter()
        self._bits: dict[str, int] = {}  # verdict -> its bit in the column `seen`
        self._recent: deque[ErrorNote] = deque(maxlen=RECENT_ERRORS)
        self._kinds: dict[str, ErrorKind] = {}
        self._logs: deque[LogNote] = deque(maxlen=RECENT_LOGS)
        self._rate_estimator = RateEstimator(self._began)
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
        unexpected: int = 0,
        tally: Tally | None = None,
    ) -> int:
        """Add a sample of `total` tasks, of which earlier runs completed `done`. Return its number."""
        with self._lock:
            number = len(self._ids)
            self._ids.append(sample_id)
            for column in self._columns.values():
                column.append(0)
            counts = verdicts or {}
            by_judge = counts.get("JudgeError", 0)
            self._columns["seen"][number] = self._seen(counts)
            self._verdicts.update(counts)
            self._tally = self._tally.plus(tally) if tally else self._tally
            self._resumed += done
            self._skipped += skipped
            self._add(
                number,
                total=total,
                done=done,
                accepted=accepted,
                rejected=rejected - by_judge,
                judge_errors=by_judge,
                unexpected=unexpected,
            )
            return number

    def sample_again(self, number: int, total: int, done: int) -> None:
        """Update a sample that was read again because the run was restarted after its end."""
        with self._lock:
            self._set(number, total=total, done=done)

    def replace_counts(self, number: int, before: SavedCounts, now: SavedCounts) -> None:
        """Replace the counts of a sample that another process works on by what is saved of it now."""
        verdicts = dict(now.verdicts)
        accepted, rejected = judged(verdicts)
        with self._lock:
            self._columns["seen"][number] = self._seen(verdicts)
            self._set(
                number,
                total=now.total,
                done=now.done,
                accepted=accepted,
                rejected=rejected,
                errors=now.errors,
                judge_errors=verdicts.get("JudgeError", 0),
                unexpected=now.unexpected,
            )
            self._samples_done += (now.done >= now.total > 0) - (before.done >= before.total > 0)
            self._verdicts.update(verdicts)
            self._verdicts.subtract(dict(before.verdicts))
            for kinds, sign in ((now.kinds, 1), (before.kinds, -1)):
                for kind, n in kinds:
                    self._count_kinds([kind], sign * n)
            self._ends += max(0, now.done + now.errors - before.done - before.errors)
            self._rate_estimator.mark(self._clock(), self._ends)

    def begin_watching(self) -> None:
        """Count what is saved now as the work of earlier runs: rates are of what ends from now on."""
        with self._lock:
            self._resumed, self._ends = self._sums["done"], 0
            self._rate_estimator.restart(self._clock(), 0)

    def all_errors_again(self, numbers: Iterable[int]) -> None:
        """Remove the errors of these samples from the counts: their tasks are tried again."""
        with self._lock:
            errors, judge_errors = self._columns["errors"], self._columns["judge_errors"]
            for number in numbers:
                if errors[number]:
                    self._set(number, errors=0, judge_errors=max(0, judge_errors[number] - errors[number]))
            if not self._sums["errors"]:
                for name, kind in self._kinds.items():
                    self._kinds[name] = kind._replace(n=0)

    def begin_again(self) -> None:
        """Restart the clock of a run that had ended; the time in between doesn't count."""
        with self._lock:
            if self._ended_at is not None:
                if self._paused_at is not None:
                    self._paused_s += self._ended_at - self._paused_at
                    self._paused_at = None
                self._began += self._clock() - self._ended_at
                self._ended_at = None
            self._rate_estimator.restart(self._clock(), self._ends)

    def numbers(self) -> dict[str, int]:
        """Return sample id -> number for the samples read so far."""
        with self._lock:
            return {sample_id: number for number, sample_id in enumerate(self._ids)}

    def is_complete(self, number: int) -> bool:
        """Return whether a sample has a result for each of its tasks."""
        with self._lock:
            return self._columns["done"][number] >= self._columns["total"][number]

    def errors_of(self, number: int) -> int:
        """Return how many of a sample's tasks ended in errors."""
        return self._columns["errors"][number]

    def record(
        self, number: int, verdicts: Sequence[str | None], kinds: Sequence[str] = (), tally: Tally | None = None
    ) -> None:
        """Count tasks of one sample that have ended.

        Args:
            verdicts: of each of these tasks its verdict, None where there is none.
            kinds: of those among them that ended in an error, the error's kind.
            tally: the verdicts by what the groups expect; None where nothing was judged.
        """
        counts = count(verdicts)
        counts.pop(None, None)
        accepted, rejected = judged(counts)
        with self._lock:
            self._add(number, done=len(verdicts) - len(kinds), accepted=accepted, rejected=rejected)
            if counts:
                self._columns["seen"][number] |= self._seen(counts)
                for verdict, n in counts.items():
                    self._verdicts[verdict or ""] += n
            by_judge = counts.get("JudgeError", 0)
            if kinds:
                by_judge += self._count_kinds(kinds, 1)
            unexpected = 0
            if tally is not None:
                self._tally = self._tally.plus(tally)
                unexpected = tally.unexpected
            if kinds or by_judge or unexpected:  # rarely
                self._add(number, errors=len(kinds), judge_errors=by_judge, unexpected=unexpected)
            self._ends += len(verdicts)
            self._rate_estimator.mark(self._clock(), self._ends)

    def error_again(self, number: int, kinds: Sequence[str]) -> None:
        """Remove errors of these kinds from the sample's counts: their tasks are queued again."""
        with self._lock:
            self._add(number, errors=-len(kinds), judge_errors=-self._count_kinds(kinds, -1))

    def note_error(self, note: ErrorNote) -> None:
        """Keep an error for the views."""
        with self._lock:
            self._recent.append(note)
            kind = self._kind(note.type)
            self._kinds[kind] = self._kinds[kind]._replace(last=note)

    def note_log(self, at: float, level: str, text: str) -> None:
        """Keep a warning or a log line for the views; a repetition of the last one only raises its count."""
        text = without_surrogates(text)
        with self._lock:
            last = self._logs[-1] if self._logs else None
            if last is not None and (last.level, last.text) == (level, text):
                self._logs[-1] = last._replace(at=at, n=last.n + 1)
            else:
                self._logs.append(LogNote(at, level, text, 1))

    def watch_metrics(self, names: Iterable[str]) -> None:
        """Show these metrics even while no result has them."""
        with self._lock:
            for name in names:
                self._metrics.setdefault(name, (0, 0.0))

    def add_metrics(self, values: Mapping[str, float]) -> None:
        """Add the numbers in one task's result to the means that views show."""
        with self._lock:
            for name, value in values.items():
                n, total = self._metrics.get(name, (0, 0.0))
                self._metrics[name] = (n + 1, total + value)

    def sample_done(self, by: int = 1) -> None:
        """Count a completed sample; -1 takes one back."""
        with self._lock:
            self._samples_done += by

    def set_totals(self, tasks: int | None, samples: int | None) -> None:
        """Set how many tasks and samples there are in all, as soon as that is known."""
        with self._lock:
            self._total, self._samples_total = tasks, samples

    def fed_totals(self) -> tuple[int, int]:
        """Return the numbers of tasks and samples read so far."""
        with self._lock:
            return self._sums["total"], len(self._ids)

    @property
    def errors(self) -> int:
        """How many tasks have ended in an error."""
        return self._sums["errors"]

    @property
    def ends(self) -> int:
        """How many tasks have ended in this run. Needs no lock."""
        return self._ends

    @property
    def elapsed_s(self) -> float:
        """How long the run has been running, in seconds."""
        with self._lock:
            return self._elapsed_s(self._clock())

    def pause(self) -> None:
        """Stop the clock while the run is paused."""
        with self._lock:
            if self._paused_at is None:
                self._paused_at = self._clock()

    def resume(self) -> None:
        """Start the clock again; the pause doesn't count for the rate. Does nothing if the run wasn't paused."""
        with self._lock:
            if self._paused_at is None:
                return
            self._paused_s += self._clock() - self._paused_at
            self._paused_at = None
            self._rate_estimator.restart(self._clock(), self._ends)

    def finish(self) -> None:
        """Stop the clock for good: the run has ended."""
        self.resume()
        with self._lock:
            self._ended_at = self._clock()

    def columns_since(self, version: int) -> list[list[int] | list[str]]:
        """Return the samples that changed after `version`; the cost grows with their number only.

        They are columns, in the order of SampleProgress: no object a sample, which the collector would visit.
        """
        with self._lock:
            changed: list[int] = []
            for number, touched in reversed(self._touched.items()):
                if touched <= version:
                    break
                changed.append(number)
            changed.sort()
            ids = [self._ids[n] for n in changed]
            return [changed, ids, *(list(map(self._columns[name].__getitem__, changed)) for name in _COLUMNS)]

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
        waiting_at: Mapping[int, int] | None = None,
        least_left_s: float = 0.0,
    ) -> Progress:
        """The counters as they are now. `saved` counts this run's saved results; earlier ones are added.

        `least_left_s` is how long the tasks at work and those that wait will take at least, whatever the rate says.
        """
        at_work, waiting_at = dict(at_work or {}), waiting_at or {}
        running, waiting = sum(at_work.values()), sum(waiting_at.values())
        is_live = state in (State.RUNNING, State.DRAINING)
        with self._lock:
            now = self._clock() if self._ended_at is None else self._ended_at
            sums = self._sums
            ended = sums["done"] + sums["errors"]
            rate = self._rate_estimator.rate(now, self._ends) if is_live else None
            return Progress(
                state=state,
                total=self._total,
                done=sums["done"],
                errors=sums["errors"],
                judge_errors=sums["judge_errors"],
                running=running,
                waiting=waiting,
                waiting_at=waiting_at,
                queued=max(0, sums["total"] - ended - running - waiting),
                skipped=self._skipped,
                resumed=self._resumed,
                saved=self._resumed + saved,
                unsaved=unsaved,
                samples_done=self._samples_done,
                samples_total=self._samples_total,
                verdicts={verdict: self._verdicts[verdict] for verdict in self._bits},
                unexpected=sums["unexpected"],
                tally=self._tally,
                means={name: Mean(total / n if n else None, n) for name, (n, total) in self._metrics.items()},
                rate_per_s=rate,
                eta_s=self._eta_s(rate, ended, least_left_s),
                elapsed_s=self._elapsed_s(now),
                message=without_surrogates(message),
                workers=workers,
                at_work=at_work,
                recent_errors=tuple(self._recent),
                error_kinds=tuple(self._kinds.values()),
                logs=tuple(self._logs),
                ends=self._ends,
                results=results,
                version=self._version,
                _changes=self.columns_since,
            )

    # ---- called with the lock held

    def _eta_s(self, rate: float | None, ended: int, least_left_s: float) -> float | None:
        """Return the time that is left, in seconds; None while that is not known."""
        if not rate or self._total is None:
            return None
        left = max(0, self._total - ended)
        return max(left / rate, least_left_s) if left else 0.0

    def _elapsed_s(self, now: float) -> float:
        until = now if self._paused_at is None else self._paused_at
        return until - self._began - self._paused_s

    def _set(self, number: int, **counts: int) -> None:
        """Set counts of a sample, by the names of their columns."""
        self._add(number, **{name: n - self._columns[name][number] for name, n in counts.items()})

    def _add(self, number: int, **counts: int) -> None:
        """Add to counts of a sample, by the names of their columns; the sample has changed."""
        columns, sums = self._columns, self._sums
        for name, n in counts.items():
            if n:
                columns[name][number] += n
                sums[name] += n
        self._version += 1
        self._touched.pop(number, None)
        self._touched[number] = self._version

    def _kind(self, name: str) -> str:
        """Return the kind under which an error is counted; it exists afterwards."""
        if name not in self._kinds:
            if len(self._kinds) >= KINDS:
                name = OTHER_KINDS
            self._kinds.setdefault(name, ErrorKind(name, 0, None))
        return name

    def _count_kinds(self, kinds: Iterable[str], sign: int) -> int:
        """Add `sign` for each of these kinds. Return how many are the judge's."""
        by_judge = 0
        for name in kinds:
            by_judge += name in JUDGE_KINDS
            kind = self._kind(name)
            self._kinds[kind] = self._kinds[kind]._replace(n=self._kinds[kind].n + sign)
        return by_judge

    def _seen(self, verdicts: Iterable[str | None]) -> int:
        """Return a bit for each of these verdicts, numbered as they first occurred; the last bit is for the rest."""
        seen, bits = 0, self._bits
        for verdict in verdicts:
            if verdict:
                seen |= bits.get(verdict) or bits.setdefault(verdict, 1 << min(len(bits), SEEN_BITS))
        return seen


#: Spacing and number of the marks from which rates are taken: half seconds for two minutes, 15 s for an hour.
FINE_S, COARSE_S, MARKS = 0.5, 15.0, 240
#: The window of a rate, in seconds; it grows while it holds fewer ended tasks than this.
WINDOW_S, WINDOW_ENDS = 30.0, 20


class RateEstimator:
    """Estimates how fast tasks end, from counts at marks in time. Times are in monotonic seconds.

    Threads: none of its own and no lock; the tracker calls it with its lock held.
    """

    def __init__(self, now: float) -> None:
        self._fine: deque[tuple[float, int]] = deque([(now, 0)], maxlen=MARKS)
        self._coarse: deque[tuple[float, int]] = deque([(now, 0)], maxlen=MARKS)

    def restart(self, now: float, ends: int) -> None:
        """Forget all marks."""
        for marks in (self._fine, self._coarse):
            marks.clear()
            marks.append((now, ends))

    def mark(self, now: float, ends: int) -> None:
        """Record how many tasks have ended in all."""
        if now - self._fine[-1][0] >= FINE_S:
            self._fine.append((now, ends))
            if now - self._coarse[-1][0] >= COARSE_S:
                self._coarse.append((now, ends))

    def rate(self, now: float, ends: int) -> float | None:
        """Return ended tasks per second over WINDOW_S, or longer until it holds WINDOW_ENDS, at most an hour."""
        oldest = self._fine[0][0]
        older = (mark for mark in reversed(self._coarse) if mark[0] < oldest)
        for at, before in chain(reversed(self._fine), older):
            if now - at >= WINDOW_S and ends - before >= WINDOW_ENDS:
                break
        return None if now - at < 0.05 or ends == before else (ends - before) / (now - at)


# ---- sentences about progress, the same in every view

#: With fewer ended tasks than the first no time is given; with fewer than the second only its largest unit.
UNKNOWN_ENDS, ROUGH_ENDS = 3, 25
#: Times below the first number of seconds are rounded to a multiple of the second.
_STEPS = ((60, 5), (600, 10), (3600, 60), (86400, 600), (float("inf"), 3600))


def eta_text(progress: Progress) -> str:
    """Return the time that is left, with no more digits than are known: few ends give only its order of magnitude."""
    if progress.ended:
        return ""
    if progress.eta_s is None or progress.ends < UNKNOWN_ENDS:
        return "time left: not known yet"
    if progress.eta_s < 5:
        return "a few seconds left"
    step = next(step for limit, step in _STEPS if progress.eta_s < limit)
    text = duration_text(max(step, round(progress.eta_s / step) * step))
    if progress.ends < ROUGH_ENDS:
        return f"roughly {' '.join(text.split()[:2])} left"
    return f"about {text} left"


def quality_texts(progress: Progress) -> list[str]:
    """What the results say so far: "TPR 97.1 %", "TNR 100 % of 40", "mean score 0.83 of 1,204".

    Means are those of this run's results; rates are of all that were judged, as far as their groups say what to expect.
    """
    tally = progress.tally
    texts = []
    for name, rate, n in (("TPR", tally.tpr, tally.positives), ("TNR", tally.tnr, tally.negatives)):
        if rate is not None:
            texts.append(f"{name} {percent_text(rate)} of {n:,}")
    for name, (mean, n) in progress.means.items():
        of = " in this run" if progress.resumed else ""
        texts.append(f"no {name[:40]} yet" if mean is None else f"mean {name[:40]} {mean:.4g} of {n:,}{of}")
    return texts


def load_call(progress: Progress) -> str:
    """Return the line that loads the results: of a watch those of all directories, as far as there is room for them."""
    paths = progress.watched
    if len(paths) > 3:
        return "watch.results()"
    return f"nbrun.load_results({list(paths) if len(paths) > 1 else progress.results!r})"


def end_title(progress: Progress) -> str:
    """Return what came of a run in a few words, such as "Stopped after 18 s: 18 of 27 tasks"."""
    took = duration_text(progress.elapsed_s)
    if progress.watched:
        head = {State.DONE: "Done", State.HALTED: "The watch has failed"}.get(progress.state, "No longer watched")
        return f"{head}: {count_text(progress)}"
    return {
        State.DONE: f"Done: {count_text(progress)} in {took}",
        State.STOPPED: f"Stopped after {took}: {count_text(progress)}",
        State.HALTED: f"Halted after {took}: {count_text(progress)}",
    }.get(progress.state, f"{progress.state.value.capitalize()}: {count_text(progress)}, {took} so far")


def end_advice(progress: Progress) -> str:
    """Return sentences that say what to do after the end of a run, but for the line that loads the results."""
    if progress.watched:
        return progress.message
    advice = {
        State.STOPPED: "Start it again to go on with what is missing.",
        State.HALTED: "Everything that ended is saved.",
    }.get(progress.state, "")
    if progress.errors and progress.state is State.DONE:
        advice = "Start it again to retry the errors."
    kept = f"Earlier runs had finished {progress.resumed:,} of them." if progress.resumed else ""
    return " ".join(filter(None, [advice, kept]))


def end_text(progress: Progress) -> str:
    """Return a few sentences for the end of a run: what came of it, and the line to type next."""
    load = f"{load_call(progress)} loads the results."
    return " ".join(filter(None, [f"{end_title(progress)}.", end_advice(progress), load]))
