"""The words of design as types: frozen values, enums, and the protocols that are the doors between the rooms.

No I/O happens here and nothing is imported from the rooms above.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from nbrun.progress import Progress


class Status(StrEnum):
    """Where the work on a task stands. Says nothing of what a judge thinks of the solution (that is a verdict)."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    ERROR = "error"
    CANCELLED = "cancelled"


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

    Threads: set by whoever stops the run, read by workers; a bool needs no lock.
    """

    __slots__ = ("is_set",)

    def __init__(self) -> None:
        self.is_set = False


@dataclass(slots=True, eq=False)
class Task:
    """What `fn` gets: one item to be worked on. Treat it as read-only.

    Attributes:
        sample_id: the sample's id, as text.
        group: `"solution"`, `"incorrect_solution"`, or a group of your own.
        index: where the item stands in its group, counted from 0 (items that are skipped count too).
        item: the item itself.
        sample: the whole sample, as it was given.
        attempt: 1 for the first try.
        hint: what the last `Retry` passed on; empty on the first try.
        previous: the result of the last attempt, or None.

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

    def cancelled(self) -> bool:
        """True once the run was stopped without draining: the result will be discarded, so end soon."""
        return self._flag.is_set


#: Nobody waits longer than three years, and the clocks of threads can't.
MAX_AFTER_S = 1e8


class Retry(Exception):
    """An answer of fn, returned or raised: try this task again later, without blocking a worker.

    Args:
        reason: why, in a few words; it is shown and journaled.
        after_s: how long to wait at least, in seconds.
        hint: a JSON-able mapping handed to the next attempt as `task.hint`; it survives a restart.
        result: what this attempt found, handed on as `task.previous`.

    Example:
        >>> raise Retry("time limit may be too low", hint={"time_limit_s": 4})
        Traceback (most recent call last):
        nbrun.model.Retry: time limit may be too low
    """

    def __init__(
        self, reason: str, after_s: float = 0.0, hint: Mapping[str, Any] | None = None, result: Any = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = min(float(after_s), MAX_AFTER_S)
        self.hint: Mapping[str, Any] = dict(hint or {})
        self.result = result


#: Exceptions of a wrong program: the next try would fail in the same way.
NEVER_RETRIED: tuple[type[BaseException], ...] = (NameError, TypeError, AttributeError, ImportError, SyntaxError)


@dataclass(frozen=True)
class RetryPolicy:
    """How often a task whose `fn` raised is tried again.

    Args:
        attempts: how many tries in all; 1 means never again.
        delay_s: the wait before the second try, in seconds; it doubles from then on.
        max_delay_s: the longest wait, in seconds.
        jitter: the share of a wait that is random, 0 to 1, so that many tasks don't return together.
        never: exception types that are not tried again.

    Example:
        >>> RetryPolicy(attempts=2).attempts
        2
    """

    attempts: int = 3
    delay_s: float = 0.5
    max_delay_s: float = 60.0
    jitter: float = 0.5
    never: tuple[type[BaseException], ...] = NEVER_RETRIED

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"RetryPolicy: attempts must be at least 1, not {self.attempts}")
        if self.delay_s < 0 or self.max_delay_s < 0 or not 0 <= self.jitter <= 1:
            raise ValueError("RetryPolicy: delay_s and max_delay_s must not be negative, jitter lies in 0..1")

    def wait_s(self, attempt: int, random: float) -> float:
        """Seconds to wait after try number `attempt` (from 1); `random` lies in 0..1."""
        wait = min(self.max_delay_s, self.delay_s * 2.0 ** min(attempt - 1, 60))
        return wait * (1.0 - self.jitter * random)


class Work(Protocol):
    """One sample with tasks to run, as storage found it: the ticket that engine and sink pass to each other.

    Positions count all items of a sample that have a key, group by group; `missing` lists those to run.
    """

    @property
    def sample_id(self) -> str: ...
    @property
    def number(self) -> int:
        """The sample's place on the progress board."""

    @property
    def missing(self) -> Iterable[int]: ...
    @property
    def suspects(self) -> Iterable[int]:
        """Those of the missing that were running at two unclean ends: they run last and alone."""

    def marks(self, positions: Iterable[int]) -> bytes:
        """For each 32 bytes that tell the task from all others, in every run."""

    def task(self, position: int, flag: CancelFlag) -> Task:
        """A fresh Task with what earlier attempts left (attempt, hint, previous)."""


class SinkClosedError(Exception):
    """Raised by a sink that takes nothing any more: the run was stopped, and late results are discarded."""


class ResultSink(Protocol):
    """All that the engine knows of storage.

    Threads: workers call `begin_tasks`, `encode` and `put`; one thread of the sink's own saves. `put` waits while the
    bound on unsaved results is reached.
    """

    def begin_tasks(self, slot: int, marks: bytes) -> None:
        """A worker is about to run the tasks of these marks; noted, so that a crash tells what was running.

        Args:
            slot: a small number that no other worker has at the same time.
            marks: `Work.marks` of them.
        """

    def flush(self) -> bool:
        """Waits until all that was put is saved. False on a standing fault."""

    def encode(
        self, work: Any, position: int, result: Any, attempts: int, started_at: float, duration_s: float,
        worker_id: str, error: Mapping[str, str] | None = None,
    ) -> tuple[Any, str | None]:  # fmt: skip
        """What came of a task as it will be stored, and its verdict if it has one.

        Args:
            result: what `fn` returned, or what the sink's `encode_result` made of it elsewhere; None for an error.
            attempts: how many tries it took.
            started_at, duration_s: of the last try, in seconds (since the epoch, and long).
            error: `type`, `message` and `traceback` of a task that ended in an error.

        Raises:
            UnstorableError: names the place in the result.
        """

    def put(self, work: Any, records: list[Any]) -> None:
        """Hands encoded outcomes of one sample over to be saved, in this order; that is some milliseconds later.

        Raises:
            SinkClosedError: the run was stopped.
        """

    def put_attempt(self, work: Any, position: int, attempt: int, retry: Retry) -> None:
        """Journals an attempt that will be followed by another."""

    def ended(self, work: Any) -> None:
        """No task of this sample is left to run: its file may be written once its results are saved."""

    def reopen(self, work: Any) -> None:
        """Tasks of an ended sample run again."""

    def mend(self) -> None:
        """The disk is believed to take results again: try."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task in short, for views.

    Attributes:
        status: done, error, or running.
        verdict: of an error its type; None where there is none (yet).
        time_s: what it took, or takes so far; None where an old file doesn't tell.
    """

    group: str
    index: int
    status: str
    verdict: str | None
    time_s: float | None
    attempts: int
    language: str | None


class RunControls(Protocol):
    """All that a view may do to a run. Every call is thread-safe, and returns at once but for those that read."""

    @property
    def progress(self) -> Progress: ...
    @property
    def workers(self) -> int: ...
    @workers.setter
    def workers(self, n: int) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self, drain: bool = True) -> None: ...
    def retry_errors(self, kind: str | None = None) -> int:
        """Of one type, or all. Returns how many tasks are queued again."""

    def tasks(self, sample_id: str) -> Sequence[TaskRow]:
        """The tasks of a sample that run or have a saved outcome. Reads what is saved of it."""

    def entry(self, sample_id: str, group: str, index: int) -> Mapping[str, Any] | None:
        """A task's whole saved entry. Reads what is saved of its sample."""

    def health(self) -> Sequence[Mapping[str, Any]]:
        """See Judge.health; empty where the judge has no endpoints."""


@runtime_checkable
class Judge(Protocol):
    """What `fn` may offer beside being called with a task. Every part is optional but the call itself.

    A mapping `resources` tells what it works with (endpoints, say): results don't depend on it, but a cell run again
    with other resources is no longer the same run.
    """

    settings: Mapping[str, Any]

    def __call__(self, task: Task) -> Mapping[str, Any] | Retry: ...
    def again(self, entry: Mapping[str, Any], task: Task) -> bool:
        """Should this saved result be made again?

        Asked about every saved result, which must all be read for it; where fn has `again_verdicts` (a set), only about
        those with such a verdict that were made under other settings.
        """

    def cancel(self, task: Task) -> None:
        """Abort the running call for `task`, from another thread."""

    def health(self) -> Sequence[Mapping[str, Any]]:
        """A row for each endpoint: name, state, in_flight, mean_s, last_error."""

    def is_available(self) -> bool:
        """Asked every second while the run is paused since `fn` raised JudgeUnavailableError: may it go on?"""

    def close(self) -> None:
        """The run has ended: free what is held."""
