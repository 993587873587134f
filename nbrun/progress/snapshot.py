"""Immutable pictures of a run: all of it, one sample, one error. Any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from nbrun.model import State
from nbrun.verdicts import Tally

if TYPE_CHECKING:
    from nbrun.progress.board import Board

#: So many characters of the message are part of a repr.
_MESSAGE = 80


class SampleProgress(NamedTuple):
    """One sample's counts, in tasks. `number` is its place on the board and never changes during a run.

    `judge_errors` counts results and errors that are the judge's fault. `seen` has a bit for each of
    `Progress.verdicts` that some task of the sample got, the first verdict's is the lowest. `unexpected` counts
    rejected items of the group `solution` and accepted ones of the groups `incorrect_…`.
    """

    number: int
    sample_id: str
    total: int
    done: int
    accepted: int
    rejected: int
    errors: int
    judge_errors: int = 0
    seen: int = 0
    unexpected: int = 0

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


class ErrorKind(NamedTuple):
    """All errors of one type: how many of them (`n`) stand now, and the newest of them."""

    type: str
    n: int
    last: ErrorNote | None


class Mean(NamedTuple):
    """The mean of a metric over the `n` results of this run that have it; None while none has."""

    mean: float | None
    n: int


class LogNote(NamedTuple):
    """A warning or a line that a task logged, `n` times in a row. `at` is in seconds since the epoch."""

    at: float
    level: str
    text: str
    n: int


@dataclass(frozen=True, slots=True, repr=False)
class Progress:
    """An immutable snapshot of a run.

    Attributes:
        state: running, paused, draining, stopped, done or halted.
        total: tasks in all, None while the samples are still being read. Skipped items are not in it.
        done, errors: tasks with a result, tasks whose last try failed for good. `done` includes what earlier runs left.
        running, waiting, queued, skipped: tasks in a worker now; waiting for another try; read and ready to run; never
            to be run.
        resumed: how many of `done` earlier runs left.
        saved, unsaved: results on the disk; results that ended but are not on the disk yet.
        samples_done, samples_total: the latter None while unknown.
        verdicts: verdict -> tasks, over all of `done` that has one.
        unexpected: rejected items of the group `solution` and accepted ones of the groups `incorrect_…`; of samples
            that earlier versions finished at least that many.
        rate_per_s: tasks ended a second over a recent window (30 s, longer where tasks are), None while unknown.
        eta_s: seconds that are left at that rate, but at least as long as a task that takes many times the median has
            been running already; None while unknown.
        elapsed_s: seconds since the run was started, until it ended; pauses don't count.
        message: one plain sentence where something needs saying, else "".
        workers: threads wanted now.
        at_work: sample number -> its tasks running now.
        waiting_at: sample number -> its tasks that wait for another try.
        recent_errors: the newest errors, newest last.
        judge_errors: tasks, of `done` or of `errors`, where the judging machinery failed.
        error_kinds: the errors of this run by their type.
        logs: warnings and lines of logs that tasks wrote, newest last.
        ends: tasks that ended in this run.
        results: where the results are.
        tally: judged tasks by what their group expects, as far as it is known: of samples that earlier versions
            finished it may not be.
        means: metric -> its mean over the results of this run.
        version: pass it to `since` later to learn what changed.

    Pickled, it keeps all of this; `since` has nothing to tell then.
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
    judge_errors: int = 0
    error_kinds: tuple[ErrorKind, ...] = ()
    logs: tuple[LogNote, ...] = ()
    ends: int = 0
    version: int = 0
    waiting: int = 0
    waiting_at: Mapping[int, int] = field(default_factory=dict)
    unexpected: int = 0
    tally: Tally = Tally()  # noqa: RUF009 - immutable
    means: Mapping[str, Mean] = field(default_factory=dict)
    _board: Board | None = field(default=None, repr=False, compare=False)

    def since(self, version: int) -> list[SampleProgress]:
        """The samples that changed after `version`, as they are now; `since(0)` gives all of them."""
        return [] if self._board is None else self._board.changed_since(version)

    def columns_since(self, version: int) -> dict[str, list[Any]]:
        """The same as columns: name of a field of SampleProgress -> its values, in the order of the numbers."""
        columns = [[] for _ in SampleProgress._fields] if self._board is None else self._board.columns_since(version)
        return dict(zip(SampleProgress._fields, columns, strict=True))

    def _repr_html_(self) -> str:
        """A small table for a notebook."""
        total = "not known yet" if self.total is None else f"{self.total:,}"
        rows = [
            ("State", self.state.value),
            ("Tasks done", f"{self.done:,} of {total}"),
            ("Errors", f"{self.errors:,}"),
        ]
        rows += [("Running", f"{self.running:,}"), ("Waiting", f"{self.waiting:,}"), ("Queued", f"{self.queued:,}")]
        if self.message:
            rows.append(("Message", self.message))
        style = 'style="text-align:left"'
        cells = (f'<tr><th scope="row" {style}>{n}</th><td {style}>{escape(text)}</td></tr>' for n, text in rows)
        return f"<table>{''.join(cells)}</table>"

    def __repr__(self) -> str:
        """One line, such as <Progress running: 12 of 40 tasks, 1 error, 8 running, 'a message'>."""
        from nbrun.progress.wording import count_text

        counts = ((self.running, "running"), (self.waiting, "waiting"), (self.unsaved, "unsaved"))
        words = [count_text(self), *(f"{n:,} {what}" for n, what in counts if n)]
        if self.message:
            words.append(repr(self.message if len(self.message) <= _MESSAGE else f"{self.message[:_MESSAGE]}…"))
        return f"<Progress {self.state.value}: {', '.join(words)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_board"}
        return partial(Progress, **kept), ()

    @property
    def ended(self) -> bool:
        """True where nothing more will happen unless somebody asks for it."""
        return self.state in (State.STOPPED, State.DONE, State.HALTED)
