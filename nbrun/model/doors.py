"""The doors between the rooms: all that the engine, the views, the storage and a judge know of one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nbrun.model.retry import Retry
from nbrun.model.task import CancelFlag, Task

if TYPE_CHECKING:
    from nbrun.progress import Progress
    from nbrun.verdicts import Tally


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

    def marks(self, positions: list[int]) -> bytes:
        """For each 32 bytes that tell the task from all others, in every run."""

    def item(self, position: int) -> Any:
        """What stands there."""

    def rough_bytes(self) -> int:
        """About how much memory the sample takes."""

    def task(self, position: int, flag: CancelFlag) -> Task:
        """A fresh Task with what earlier attempts left (attempt, hint, previous)."""

    def tally(self, records: Iterable[Record]) -> Tally:
        """Count these outcomes by what their groups expect of them."""


#: What came of a task as a sink will save it: its position, its verdict if it has one, and what only the sink knows.
Record = tuple[int, str | None, Any, Any]


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
        self, work: Any, position: int, item: Any, result: Any, attempts: int, started_at: float, duration_s: float,
        worker_id: str, error: Mapping[str, str] | None = None,
    ) -> Record:  # fmt: skip
        """What came of a task as it will be stored.

        Args:
            item: `Work.item` of that position, or a task's item as it was before `fn` had it.
            result: what `fn` returned, or what the sink's `encode_result` made of it elsewhere; None for an error.
            attempts: how many tries it took.
            started_at, duration_s: of the last try, in seconds (since the epoch, and long).
            error: `type`, `message` and `traceback` of a task that ended in an error, and `output` if it printed any.

        Raises:
            UnstorableError: names the place in the result.
        """

    def put(self, work: Any, records: list[Record]) -> None:
        """Hands encoded outcomes of one sample over to be saved, in this order; that is some milliseconds later.

        Raises:
            SinkClosedError: the run was stopped.
        """

    @property
    def is_filling(self) -> bool:
        """Half of what may be unsaved is unsaved: who puts more may have to wait soon."""

    def put_attempt(self, work: Any, position: int, task: Task, retry: Retry) -> None:
        """Journals an attempt that will be followed by another: its number and its counts of tries are the task's."""

    def ended(self, work: Any) -> None:
        """No task of this sample is left to run: its file may be written once its results are saved."""

    def reopen(self, work: Any, positions: Iterable[int]) -> None:
        """Tasks at these positions ended in errors and run again, from their first attempt on."""

    def mend(self) -> None:
        """The disk is believed to take results again: try."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task in short, for views.

    Attributes:
        status: done, error, running, or waiting (for another try).
        verdict: of an error its type; None where there is none (yet).
        time_s: what it took, or takes so far; None where an old file doesn't tell.
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
        """Of one type, or all, also after the end. Returns how many tasks are queued again."""

    def go_on(self) -> None:
        """Start a run that was stopped or has halted again, with what is missing."""

    def redo_changed(self) -> int:
        """Make results again that were made with other settings. Returns how many."""

    def find_unread(self, text: str, limit: int) -> tuple[Sequence[str], int]:
        """Of samples that were not read yet, those whose id holds the text (in lower case).

        Returns:
            The first `limit` ids, and how many there are. Only the ids of a list are known before it is read.
        """

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
