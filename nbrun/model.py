"""The package's vocabulary as types: tasks, retries, progress, and the protocols between the rooms.

Nothing here does I/O, and nothing is imported from the rooms that use these types.
"""

from __future__ import annotations

import dataclasses
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from nbrun.errors import InputError, NbrunError
from nbrun.texts import count_text, without_surrogates
from nbrun.verdicts import Tally

# ---- tasks


class State(StrEnum):
    """Where a run stands (`Progress.state`)."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPED = "stopped"
    DONE = "done"
    HALTED = "halted"


class CancelFlag:
    """One switch for a whole run, which each of its tasks can look at.

    Threads: set by any thread that stops the run, read by workers; a bool needs no lock.
    """

    __slots__ = ("is_set",)

    def __init__(self) -> None:
        self.is_set = False


@dataclass(slots=True, eq=False)
class Task:
    """What `fn` gets: one item to be worked on.

    Attributes:
        sample_id: the sample's id, as text.
        group: `"solution"`, `"incorrect_solution"`, or a group of your own.
        index: where the item stands in its group, counted from 0 (items that are skipped count too).
        item: the item; a copy where it can be changed, so that fn may do so and the dataset stays what it is.
        sample: the whole sample; a copy too, shared by its tasks.
        attempt: 1 for the first try.
        hint: what the last `Retry` passed on; empty on the first try.
        previous: the result of the last attempt, or None.

    `fn` returns a mapping, which is stored as JSON. Its keys `accepted` (True or False) and `verdict` (a short text,
    such as "Accepted" or "WrongAnswer") are counted in the panel and in `rates`; see `nbrun.start`.

    Example:
        >>> task = Task("p1", "solution", 0, "print(1)", {"id": "p1"})
        >>> task.attempt, task.cancelled()
        (1, False)
    """

    sample_id: str
    group: str
    index: int
    item: Any
    sample: Mapping[str, Any]
    attempt: int = 1
    hint: Mapping[str, Any] = field(default_factory=dict)
    previous: Any = None
    _flag: CancelFlag = field(default_factory=CancelFlag, repr=False)
    _exceptions: int = field(default=0, repr=False)  # how many of the earlier attempts raised one
    _waits_since: float | None = field(default=None, repr=False)  # the first Retry in this kernel, on monotonic's clock

    def cancelled(self) -> bool:
        """True once the run was stopped without draining, or `timeout_s` is over: the result will be discarded."""
        return self._flag.is_set


def first_attempt(
    sample_id: str,
    group: str,
    index: int,
    item: Any,
    sample: Mapping[str, Any],
    flag: CancelFlag,
    _new: Callable[[type[Task]], Task] = object.__new__,
) -> Task:
    """Return the Task of a first attempt. Called for every task: it takes two thirds of the time of `Task(…)`."""
    task = _new(Task)
    task.sample_id = sample_id
    task.group = group
    task.index = index
    task.item = item
    task.sample = sample
    task.attempt = 1
    task.hint = {}
    task.previous = None
    task._flag = flag
    task._exceptions = 0
    task._waits_since = None
    return task


# ---- retries


#: The longest wait, in seconds: three years. The clocks of threads can't count to more.
MAX_AFTER_S = 1e8


class Retry(Exception):
    """An answer of fn, returned or raised: try this task again later, without blocking a worker.

    Args:
        reason: why, in a few words; it is shown and journaled.
        after_s: how long to wait at least, in seconds.
        hint: a JSON-able mapping handed to the next attempt as `task.hint`; it survives a restart.
        result: what this attempt found, handed on as `task.previous`.
        pause_all: hold every task of the run back for `after_s`, not this one alone: the service refuses all calls.

    Example:
        >>> raise Retry("time limit may be too low", hint={"time_limit_s": 4})
        Traceback (most recent call last):
        nbrun.model.Retry: time limit may be too low
    """

    def __init__(
        self,
        reason: str,
        after_s: float = 0.0,
        hint: Mapping[str, Any] | None = None,
        result: Any = None,
        pause_all: bool = False,
    ) -> None:
        reason = without_surrogates(str(reason))
        super().__init__(reason)
        self.reason = reason
        try:
            self.after_s = min(max(0.0, float(after_s)), MAX_AFTER_S)  # of NaN this makes 0
        except (TypeError, ValueError):
            raise InputError(f"Retry: after_s={after_s!r}: give a number of seconds.") from None
        if hint is not None and not isinstance(hint, Mapping):
            raise InputError(f"Retry: hint={hint!r}: give a mapping, which the next attempt finds in task.hint.")
        if not isinstance(pause_all, bool):
            raise InputError(f"Retry: pause_all={pause_all!r}: give True or False.")
        self.hint: Mapping[str, Any] = dict(hint or {})
        self.result = result
        self.pause_all = pause_all


#: A task that has waited for long by `Retry` waits at least this share of that time again.
RETRY_SHARE = 0.1
#: Exceptions of a wrong program: the next try would fail in the same way.
NEVER_RETRIED: tuple[type[BaseException], ...] = (NameError, TypeError, AttributeError, ImportError, SyntaxError)


def _check(name: str, value: object, is_right: bool, wanted: str) -> None:
    if not is_right:
        raise InputError(f"RetryPolicy: {name}={value!r}: give {wanted}.")


def _is_whole(value: object, least: int) -> bool:
    return not isinstance(value, bool) and hasattr(value, "__index__") and operator.index(value) >= least


def _is_between(value: object, most: float) -> bool:
    """Is it a number from 0 to `most`? NaN is none."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and 0 <= float(value) <= most  # type: ignore[arg-type]


@dataclass(frozen=True, repr=False)
class RetryPolicy:
    """How often a task is tried again: after exceptions, and apart from these after a `Retry` that `fn` asked for.

    Args:
        attempts: how many calls of `fn` may raise before the task ends in an error; 1 means never again.
        delay_s: the wait after the first exception, in seconds; it doubles from then on.
        max_delay_s: the longest wait, in seconds, unless a `Retry` asks for a longer one.
        jitter: the share of a wait that is random, 0 to 1, so that many tasks don't return together. 1 is also known as
            full jitter, 0.5 as equal jitter.
        never: exception types that are not tried again.
        retries: how many times `fn` may ask for a `Retry` before the task ends in an error; None for no limit. Its wait
            is `after_s`, but at least a tenth of the time since the task's first `Retry` (`max_delay_s` at most) less
            its random share: 200 of them wait out a rate limit or an outage of more than an hour, and a short one ends
            quickly.

    Both counts survive a restart. Where ten attempts in a row fail to connect, all tasks wait together and try again
    every half second or later; for 30 s these attempts count for nothing, so that a short outage makes no errors.

    Example:
        >>> RetryPolicy(attempts=2).attempts
        2
    """

    attempts: int = 3
    delay_s: float = 0.5
    max_delay_s: float = 60.0
    jitter: float = 0.5
    never: tuple[type[BaseException], ...] = NEVER_RETRIED
    retries: int | None = 200

    def __post_init__(self) -> None:
        _check("attempts", self.attempts, _is_whole(self.attempts, 1), "a whole number of at least 1")
        is_count = self.retries is None or _is_whole(self.retries, 0)
        _check("retries", self.retries, is_count, "a whole number of at least 0, or None for no limit")
        for name in ("delay_s", "max_delay_s"):
            value = getattr(self, name)
            _check(name, value, _is_between(value, MAX_AFTER_S), "a number of seconds that is not negative")
        _check("jitter", self.jitter, _is_between(self.jitter, 1.0), "a number from 0 to 1")
        never = tuple(self.never) if isinstance(self.never, (list, set, frozenset)) else self.never
        never = (never,) if isinstance(never, type) else never
        are_types = isinstance(never, tuple) and all(isinstance(t, type) for t in never)
        _check("never", self.never, are_types, "a tuple of exception types, such as (ValueError,)")
        object.__setattr__(self, "never", never)

    def __repr__(self) -> str:
        """What differs from the defaults: in a signature the default is `RetryPolicy()`."""
        given = []
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value != f.default:
                shown = f"({', '.join(t.__name__ for t in value)},)" if f.name == "never" and value else repr(value)
                given.append(f"{f.name}={shown}")
        return f"RetryPolicy({', '.join(given)})"

    def wait_s(self, exceptions: int, random: float) -> float:
        """Return the seconds to wait after the task's exception number `exceptions` (from 1); `random` is in 0..1."""
        wait = min(self.max_delay_s, self.delay_s * 2.0 ** min(exceptions - 1, 60))
        return wait * (1.0 - self.jitter * random)

    def retry_wait_s(self, after_s: float, waited_s: float, random: float) -> float:
        """Return the seconds to wait after a `Retry`; the task's first one was `waited_s` seconds ago."""
        grown = min(self.max_delay_s, waited_s * RETRY_SHARE)
        return max(after_s, grown * (1.0 - self.jitter * random))


# ---- progress: immutable snapshots of a run


#: A repr shows this many characters of the message.
_MESSAGE = 80


class SampleProgress(NamedTuple):
    """One sample's counts, in tasks. `number` is its place on the tracker and never changes during a run.

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


class SavedCounts(NamedTuple):
    """What is saved of a sample, in tasks. `verdicts` by name, `kinds` of errors by type."""

    total: int = 0
    done: int = 0
    errors: int = 0
    unexpected: int = 0
    verdicts: tuple[tuple[str, int], ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorNote:
    """One task that ended in an error, for the views. `at`: when it ended, in seconds since the epoch."""

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
        running, waiting, queued, skipped: tasks in a worker now, or not counted yet after it; waiting for another try;
            read and ready to run; never to be run.
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
        watched: the directories that `nbrun.watch` looks at; empty for a run of this kernel.
        version: pass it to `since` later to learn what changed.

    A pickled copy keeps all of this; its `since` returns nothing.
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
    watched: tuple[str, ...] = ()
    #: Returns what changed after a version, as columns in the order of SampleProgress. Any thread calls it.
    _changes: Callable[[int], list[list[int] | list[str]]] | None = field(default=None, repr=False, compare=False)

    def since(self, version: int) -> list[SampleProgress]:
        """The samples that changed after `version`, as they are now; `since(0)` gives all of them."""
        return list(map(SampleProgress._make, zip(*self.columns_since(version).values(), strict=True)))

    def columns_since(self, version: int) -> dict[str, list[Any]]:
        """The same as columns: name of a field of SampleProgress -> its values, in the order of the numbers."""
        names = SampleProgress._fields
        columns: list[Any] = self._changes(version) if self._changes else [[] for _ in names]
        return dict(zip(names, columns, strict=True))

    def _repr_html_(self) -> str:
        """A small table for a notebook."""
        from html import escape  # loads slowly

        total = "not known yet" if self.total is None else f"{self.total:,}"
        rows = {
            "State": self.state.value,
            "Tasks done": f"{self.done:,} of {total}",
            "Errors": f"{self.errors:,}",
            "Running": f"{self.running:,}",
            "Waiting": f"{self.waiting:,}",
            "Queued": f"{self.queued:,}",
            "Message": self.message,
        }
        style = 'style="text-align:left"'
        cells = (
            f'<tr><th scope="row" {style}>{name}</th><td {style}>{escape(text)}</td></tr>'
            for name, text in rows.items()
            if text
        )
        return f"<table>{''.join(cells)}</table>"

    def __repr__(self) -> str:
        """One line, such as <Progress running: 12 of 40 tasks, 1 error, 8 running, 'a message'>."""
        counts = ((self.running, "running"), (self.waiting, "waiting"), (self.unsaved, "unsaved"))
        words = [count_text(self), *(f"{n:,} {what}" for n, what in counts if n)]
        if self.message:
            words.append(repr(self.message if len(self.message) <= _MESSAGE else f"{self.message[:_MESSAGE]}…"))
        return f"<Progress {self.state.value}: {', '.join(words)}>"

    def __reduce__(self) -> tuple[Callable[[], Progress], tuple[()]]:
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_changes"}
        return partial(Progress, **kept), ()

    @property
    def ended(self) -> bool:
        """True where nothing more will happen unless somebody asks for it."""
        return self.state in (State.STOPPED, State.DONE, State.HALTED)


# ---- protocols: all that the engine, the views, the storage and a judge know of one another


class SampleTasks(Protocol):
    """One sample with tasks to run, as storage found it; engine and sink identify the sample by this object.

    Positions count all items of a sample that have a key, group by group; `missing` lists those to run.
    """

    @property
    def sample_id(self) -> str: ...
    @property
    def number(self) -> int:
        """The sample's place on the progress tracker."""

    @property
    def missing(self) -> Iterable[int]: ...
    @property
    def has_plain_items(self) -> bool:
        """Whether nothing can change its items, so that tasks have the items themselves instead of copies."""

    @property
    def quarantined(self) -> Iterable[int]:
        """Return the missing positions that were running at two unclean ends; they run last and alone."""

    def fingerprints(self, positions: list[int]) -> bytes:
        """Return the fingerprints of these tasks: 32 bytes each, unique to the task in every run."""

    def item(self, position: int) -> object:
        """Return the item at this position."""

    def rough_bytes(self) -> int:
        """Return roughly how much memory the sample takes, in bytes."""

    def task(self, position: int, flag: CancelFlag) -> Task:
        """Return a new Task that has what earlier attempts left (attempt, hint, previous)."""

    def tally(self, records: Iterable[Record]) -> Tally:
        """Count these outcomes by what their groups expect."""


#: A task's outcome as a sink will save it: its position, its verdict if it has one, a number for its status, and its
#: bytes, both private to the sink. A plain tuple, since one is made for every result.
Record = tuple[int, str | None, int, bytes]
#: What a sink made for a sample, and gets back with the sample's outcomes.
WorkT_contra = TypeVar("WorkT_contra", bound=SampleTasks, contravariant=True)


class SinkClosedError(Exception):
    """Raised by a sink that is closed: the run was stopped, and late results are discarded."""


class EncodedResult(NamedTuple):
    """A result as an executor's worker encoded it; the kernel neither decodes nor encodes any of it again."""

    data: bytes
    lossy: bool
    verdict: str | None
    api_used: str


class RemoteEncoder(Protocol):
    """The form in which results reach the kernel from an executor's workers.

    It is pickled and sent to every worker with the function. Threads: workers call it from several threads.
    """

    def encode(self, result: Mapping[str, object]) -> EncodedResult:
        """Return a result in the form that `ResultSink.encode` takes. Raise UnstorableError."""

    def encode_value(self, value: object) -> bytes:
        """Return any other value as bytes, such as the hint of a Retry. Raise UnstorableError."""

    def decode_value(self, data: bytes) -> object:
        """Return the value that `encode_value` was given."""


class ResultSink(Protocol[WorkT_contra]):
    """Where the engine saves outcomes; all that it knows of storage.

    Threads: workers call `begin_tasks`, `encode` and `put`; one thread of the sink's own saves. `put` waits while the
    bound on unsaved results is reached. `work` is always an object that the sink itself made for the sample.
    """

    def begin_tasks(self, slot: int, fingerprints: bytes) -> None:
        """Record that these tasks are running or about to run, so that after a crash it is known what ran.

        Args:
            slot: a small number. The record that it had is replaced: none of those tasks runs any more.
            fingerprints: from `SampleTasks.fingerprints`.
        """

    def flush(self) -> bool:
        """Wait until everything that was put is saved. Return False if saving fails at present."""

    def encode(
        self,
        work: WorkT_contra,
        position: int,
        item: object,
        result: Mapping[str, object] | EncodedResult | None,
        attempts: int,
        started_at: float,
        duration_s: float,
        worker_id: str,
        error: Mapping[str, str] | None = None,
    ) -> Record:
        """Encode the outcome of a task as it will be stored.

        Args:
            item: `SampleTasks.item` of that position, or a task's item as it was before `fn` had it.
            result: what `fn` returned, or an EncodedResult of the sink's `remote_encoder`; None for an error.
            attempts: how many tries it took.
            started_at, duration_s: of the last try, in seconds (since the epoch, and long).
            error: `type`, `message` and `traceback` of a task that ended in an error, and `output` if it printed any.

        Raises:
            UnstorableError: the result can't be stored; the message names the place in it.
        """

    def put(self, work: WorkT_contra, records: list[Record]) -> None:
        """Queue encoded outcomes of one sample to be saved in this order, some milliseconds later.

        Raises:
            SinkClosedError: the run was stopped.
        """

    @property
    def is_filling(self) -> bool:
        """True while at least half of the bound on unsaved results is used, so that `put` may wait soon."""

    def put_attempt(self, work: WorkT_contra, position: int, task: Task, retry: Retry) -> None:
        """Write an attempt that will be retried to the journal; its number and counts of tries are the task's."""

    def ended(self, work: WorkT_contra) -> None:
        """Mark the sample as finished: its file may be written once its results are saved."""

    def reopen(self, work: WorkT_contra, positions: Iterable[int]) -> None:
        """Let the tasks at these positions, which ended in errors, run again from their first attempt."""

    def retry_after_fault(self) -> None:
        """Try to save again: the cause of the last fault is believed to be gone."""


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A short description of one task, for views.

    Attributes:
        status: done, error, running, or waiting (for another try).
        verdict: of an error its type; None where there is none (yet).
        time_s: what it took, or takes so far; None where an old file doesn't say.
        note: of a task that waits, why and how long still.
        item, result: what they begin with, for a preview.
        is_unexpected: a rejected positive or an accepted negative.
    """

    group: str
    index: int
    status: str
    verdict: str | None
    time_s: float | None
    attempts: int
    language: str | None
    note: str = ""
    item: str = ""
    result: str = ""
    is_unexpected: bool = False


class RunControls(Protocol):
    """What a view may do to a run. Every call is thread-safe; all but those that read results return immediately.

    A class that inherits from it refuses what it doesn't override, as the controls of a watch do.
    """

    @property
    def progress(self) -> Progress: ...
    @property
    def workers(self) -> int:
        """How many workers run tasks; can be set."""
        return 0

    @workers.setter
    def workers(self, n: int) -> None:
        raise _only_watched()

    def pause(self) -> None:
        """Start no more tasks until `resume`."""
        raise _only_watched()

    def resume(self) -> None:
        """Continue after `pause`, or after the run has paused itself."""
        raise _only_watched()

    def stop(self, drain: bool = True) -> None:
        """End the run. With `drain`, running tasks may end."""

    def retry_errors(self, kind: str | None = None) -> int:
        """Queue tasks that ended in errors again, of one type or all, even after the end. Return how many."""
        raise _only_watched()

    def go_on(self) -> None:
        """Restart a run that was stopped or has halted, with the tasks that are missing."""
        raise _only_watched()

    def redo_changed(self) -> int:
        """Run the tasks again whose results were made with other settings. Return how many there are."""
        raise _only_watched()

    def find_unread(self, text: str, limit: int) -> tuple[Sequence[str], int]:
        """Find samples that were not read yet by a part of their id (in lower case).

        Returns:
            The first `limit` ids, and how many there are. Only the ids of a list are known before it is read.
        """

    def tasks(self, sample_id: str) -> Sequence[TaskSummary]:
        """Return the tasks of a sample that are running or have a saved outcome. Reads the saved results."""

    def entry(self, sample_id: str, group: str, index: int) -> Mapping[str, object] | None:
        """Return a task's whole saved entry, or None. Reads the saved results of its sample."""

    def health(self) -> Sequence[Mapping[str, object]]:
        """Return `Judge.health()`; empty if the judge has no endpoints."""


def _only_watched() -> NbrunError:
    return NbrunError("This panel only watches: steer the runs in the kernels or jobs that run them.")


@runtime_checkable
class Judge(Protocol):
    """What `fn` may offer in addition to being called with a task. Only the call itself is required.

    A mapping `resources` names what it works with (endpoints, say): results don't depend on it, but a cell run again
    with other resources is no longer the same run.
    """

    settings: Mapping[str, Any]

    def __call__(self, task: Task) -> Mapping[str, Any] | Retry: ...
    def again(self, entry: Mapping[str, Any], task: Task) -> bool:
        """Return whether this saved result should be made again.

        Asked about every saved result, which must all be read for it; where fn has `again_verdicts` (a set), only about
        those with such a verdict that were made under other settings.
        """

    def cancel(self, task: Task) -> None:
        """Abort the running call for `task`, from another thread."""

    def health(self) -> Sequence[Mapping[str, Any]]:
        """A row for each endpoint: name, state, in_flight, mean_s, last_error."""

    def is_available(self) -> bool:
        """Return whether the run may continue; called every second after `fn` raised JudgeUnavailableError."""

    def close(self) -> None:
        """Release all resources; called when the run has ended."""
