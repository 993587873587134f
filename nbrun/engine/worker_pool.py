"""What the pools of workers share: the two sides of a pool, and what happens to a task that has ended.

`WorkerPool` is what the scheduler calls and `TaskSource` what a pool calls. There are three pools: threads
(thread_pool.py), an event loop (asyncio_pool.py) and an executor (executor_pool.py). Whichever ran a task, its result
is saved, or it is tried again, or it becomes an error entry.

With hundreds of threads and tasks of some milliseconds, a worker that took the locks of tracker, sink and scheduler for
each of its results would wait for the others there, and each wait costs two switches of threads, more than the work
itself. So completed tasks pass a flat-combining queue (`CompletionQueue`).

Threads: the functions below are called by workers, by the event loop's saver and by the dispatcher. A CompletedTasks
belongs to one of them.
"""

from __future__ import annotations

import inspect
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from nbrun.engine.state import FailureDetector, RunState, SampleWork, StartGate, Taken, TaskQueue, TaskRef
from nbrun.errors import (
    JudgeError,
    JudgeUnavailableError,
    NotSupportedError,
    RunHaltedError,
    TaskTimeout,
    ThreadLimitError,
    UnstorableError,
)
from nbrun.model import (
    CancelFlag,
    ErrorNote,
    Record,
    ResultSink,
    Retry,
    RetryPolicy,
    SampleTasks,
    SinkClosedError,
    Task,
)
from nbrun.output import RunOutput
from nbrun.progress import ProgressTracker
from nbrun.texts import time_text, without_surrogates


class TaskSource(Protocol):
    """What a pool uses of the scheduler.

    Threads: `lock` protects `queue`, `gate` and `run_state`; a pool protects its own lists with it too. "The caller
    holds the lock" below means this lock.

    Attributes:
        fn: what to call with each task.
        name: the first part of the workers' names in results.
        idle: notified when a worker ends or all samples have ended.
        durations: seconds that recent tasks took; appending is atomic.
        target_workers: how many tasks may run at once.
        is_all_fed: no sample follows, so quarantined tasks may run once all others have ended.
        quarantine_width: how many quarantined tasks may run at once.
        is_forked: this process is a child of the one that runs the tasks.
    """

    fn: Callable[[Task], Any]
    name: str
    lock: threading.Lock
    idle: threading.Condition
    queue: TaskQueue
    gate: StartGate
    run_state: RunState
    durations: deque[float]
    target_workers: int
    timeout_s: float | None
    is_all_fed: bool
    quarantine_width: int
    is_forked: bool
    sink: ResultSink[SampleTasks]
    tracker: ProgressTracker
    completions: CompletionQueue
    retry: RetryPolicy
    flag: CancelFlag
    output: RunOutput
    failure_detector: FailureDetector
    random: Callable[[], float]

    def take(self, most: int) -> Taken | None:
        """Return up to `most` tasks of one sample that may start now, or None. The caller holds the lock."""

    def take_quarantined(self) -> Taken | None:
        """Return one quarantined task that may start now, or None. The caller holds the lock."""

    @property
    def next_due(self) -> float:
        """When the next task that must wait may start (time.monotonic), or infinity. The caller holds the lock."""

    def give_back(self, refs: list[TaskRef]) -> None:
        """Return tasks that were taken but never started to the front of the queue."""

    def pause(self, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """Pause the run."""

    def say(self, message: str, instead_of: str = "") -> None:
        """Show the user a message while the run goes on, in place of the message `instead_of`."""

    def no_threads(self, e: ThreadLimitError) -> None:
        """Pause the run because no thread can be started. The caller holds the lock."""

    def on_internal_error(self, e: BaseException) -> None:
        """Halt the run: nbrun itself has failed."""

    def queue_attempt(self, sample: SampleWork, position: int, task: Task, retry: Retry, after_s: float) -> None:
        """Queue the task for another attempt in `after_s` seconds; no worker waits with it. Raise UnstorableError."""

    def queue_asked_retry(self, sample: SampleWork, position: int, task: Task, retry: Retry) -> bool:
        """Queue the task again as `fn` asked. Return False if it has asked too often. Raise UnstorableError."""

    def queue_in_outage(self, sample: SampleWork, position: int, task: Task, retry: Retry, e: BaseException) -> bool:
        """Queue the task again, without counting the attempt, if it failed in an outage. Return whether it did."""

    def wait_for_judge(self, sample: SampleWork, position: int, message: str) -> None:
        """Queue the task again and pause the run until the judge is available."""

    def ended(self, sample: SampleWork, count: int, failed: list[tuple[int, str]]) -> None:
        """Count tasks of a sample whose results or errors the sink has."""

    def failed(self, e: BaseException, error: dict[str, str]) -> None:
        """Count a task that ended in an error; pause the run if all fail alike."""


class WorkerPool(Protocol):
    """Takes tasks from the scheduler's queue, runs them and completes them (see `CompletedTasks`).

    The pools inherit from it; methods with a body need not be overridden.

    Threads: `wake`, `notify_all`, `prefetch_target` and `is_empty` are used with the scheduler's lock held; they don't
    wait.
    """

    scheduler: TaskSource

    @property
    def prefetch_target(self) -> int:
        """Return how many tasks the feeder should keep ready, if there are that many left."""
        return max(2 * self.scheduler.target_workers, 64)

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs, and nothing that was begun can still complete."""

    def wake(self, count: int) -> None:
        """Let workers take `count` tasks that are ready. Called only while the run is running."""

    def notify_all(self) -> None:
        """Let all workers check again: the state or the number of workers has changed."""

    def end(self) -> None:
        """End the pool's threads: the run is over."""
        return

    def forget_in_child(self) -> None:
        """Run nothing more in a forked child: the thread that forked may be a worker. No lock is held."""
        return

    def at_work(self) -> list[SampleWork]:
        """Return the sample of each task that runs now."""

    def tasks(self) -> list[tuple[Task, int]]:
        """Return the tasks that run in this process now, and when they began (perf_counter_ns). Needs no lock."""

    def begun(self) -> list[int]:
        """Return when each task that runs now began (perf_counter_ns). Needs no lock."""
        return [since for _, since in self.tasks()]

    @property
    def notice(self) -> str:
        """What the user should know about the workers: a sentence or nothing."""
        return ""


def serve(scheduler: TaskSource, work: Callable[[], None]) -> None:
    """Run `work` in a thread of a pool: a fault of nbrun's own must halt the run, not hang it."""
    try:
        work()
    except SinkClosedError:  # the run was stopped: late results are discarded
        pass
    except BaseException as e:
        scheduler.on_internal_error(e)


class SingleThreadPool(WorkerPool):
    """A worker pool whose results all pass one thread. The scheduler's lock protects `_is_running`."""

    def __init__(self, scheduler: TaskSource) -> None:
        self.scheduler = scheduler
        self._is_running = False

    @property
    def is_empty(self) -> bool:
        return not self._is_running

    def _serve(self, work: Callable[[], None]) -> None:
        """Run `work` in the pool's thread; after it nothing can complete any more."""
        scheduler = self.scheduler
        try:
            serve(scheduler, work)
        finally:
            with scheduler.lock:
                self._is_running = False
                scheduler.idle.notify_all()


# ---- tasks that have ended

MAX_TRACEBACK = 20_000


class CompletedTasks:
    """Tasks of one sample that ended since the last ones were completed.

    Attributes:
        records: of all of them; the list belongs to this object.
        failed: the positions of those that ended in an error, and its kind.
        until_failure: how many records there were after the last failure.
    """

    __slots__ = ("failed", "records", "sample", "until_failure")

    def __init__(self, sample: SampleWork, records: list[Record]) -> None:
        self.sample, self.records = sample, records
        self.failed: list[tuple[int, str]] = []
        self.until_failure = 0


class Failure(NamedTuple):
    """A task that ended in an error: its record, the exception, and the error as it is stored."""

    record: Record
    exception: BaseException
    error: dict[str, str]


def complete(scheduler: TaskSource, completed: CompletedTasks) -> None:
    """Pass completed tasks of one sample on to the tracker, the sink and the scheduler."""
    if completed.records:
        if len(completed.records) > completed.until_failure:
            scheduler.failure_detector.success()
        scheduler.completions.complete(completed)


def after_exception(
    scheduler: TaskSource,
    sample: SampleWork,
    position: int,
    task: Task,
    e: BaseException,
    started: float,
    duration_s: float,
    worker: str,
) -> Failure | None:
    """Queue the task for another attempt and return None, or return its error entry for `add_failure`."""
    if scheduler.flag.is_set:
        return None  # cancelled: it stays missing, and a later run takes it up
    if isinstance(e, Retry):
        try:
            if scheduler.queue_asked_retry(sample, position, task, e):
                return None
            e = _used_up(e, task)
        except UnstorableError as unstorable:  # its hint or result
            e = unstorable
    if isinstance(e, JudgeUnavailableError):
        scheduler.wait_for_judge(sample, position, message_of(e))
        return None
    if _queue_if_allowed(scheduler, sample, position, task, e):
        return None
    error = {"type": type(e).__name__, "message": message_of(e), "traceback": _traceback(e)}
    if printed := scheduler.output.of((task.sample_id, task.group, task.index)):
        error["output"] = printed
    record = scheduler.sink.encode(
        sample.work, position, sample.work.item(position), None, task.attempt, started, duration_s, worker, error
    )
    error = {name: without_surrogates(text) for name, text in error.items()}  # the entry says that it is lossy
    scheduler.tracker.note_error(
        ErrorNote(
            task.sample_id,
            task.group,
            task.index,
            error["type"],
            error["message"],
            error["traceback"],
            at=started + duration_s,
        )
    )
    return Failure(record, e, error)


def _queue_if_allowed(scheduler: TaskSource, sample: SampleWork, position: int, task: Task, e: BaseException) -> bool:
    """Queue the task for another attempt after an exception, if the policy allows one. Return whether it does."""
    policy = scheduler.retry
    retry = Retry(f"{type(e).__name__}: {message_of(e)}", 0.0, task.hint, task.previous)
    may_retry = policy.attempts > 1 and is_retriable(e, policy.never)
    if may_retry and scheduler.queue_in_outage(sample, position, task, retry, e):
        return True
    task._exceptions += 1
    if not may_retry or task._exceptions >= policy.attempts:
        return False
    scheduler.queue_attempt(sample, position, task, retry, policy.wait_s(task._exceptions, scheduler.random()))
    return True


def is_retriable(e: BaseException, never: tuple[type[BaseException], ...]) -> bool:
    """Return whether a task may be tried again after this exception."""
    return isinstance(e, Exception) and not isinstance(e, never) and bool(getattr(e, "retriable", True))


def _used_up(e: Retry, task: Task) -> Retry:
    """Return the error of a task that asked for more retries than the policy allows."""
    count = task.attempt - task._exceptions
    last = Retry(f"{e.reason} (asked for a Retry {count:,} times; RetryPolicy(retries=…) allows more)")
    last.retriable = False  # type: ignore[attr-defined]
    return last


def add_failure(scheduler: TaskSource, completed: CompletedTasks, position: int, failure: Failure) -> None:
    """Add a task of this sample that ended in an error; pause the run if all fail alike."""
    if len(completed.records) > completed.until_failure:
        scheduler.failure_detector.success()
    completed.records.append(failure.record)
    completed.failed.append((position, failure.error["type"]))
    completed.until_failure = len(completed.records)
    if not isinstance(failure.exception, NotSupportedError):  # the item's fault: no reason to pause the run
        scheduler.failed(failure.exception, failure.error)


def complete_failure(scheduler: TaskSource, sample: SampleWork, position: int, failure: Failure) -> None:
    """Complete one task that ended in an error."""
    completed = CompletedTasks(sample, [])
    add_failure(scheduler, completed, position, failure)
    complete(scheduler, completed)


def message_of(e: BaseException) -> str:
    """Return the text of an exception, whatever a user's `__str__` does."""
    try:
        return str(e)
    except Exception:  # a user's __str__
        return "<its message can't be shown>"


def _traceback(e: BaseException) -> str:
    """Return the traceback from the user's function on; nothing for a JudgeError, whose message is enough."""
    if isinstance(e, JudgeError) and e.__cause__ is None:
        return ""
    text: str | None = getattr(e, "worker_traceback", None)  # of an executor's worker, where the error arose
    return format_error(e) if text is None else text


def format_error(e: BaseException) -> str:
    """Return the traceback without nbrun's own frame, truncated in the middle if it is very long."""
    tb = e.__traceback__
    if tb is not None and tb.tb_next is not None:
        tb = tb.tb_next  # the frame that called fn
    try:
        text = "".join(traceback.format_exception(type(e), e, tb))
    except Exception:  # a user's __str__ or __repr__
        text = type(e).__name__
    return text if len(text) <= MAX_TRACEBACK else text[: MAX_TRACEBACK // 2] + "\n…\n" + text[-MAX_TRACEBACK // 2 :]


def stack_of(thread: threading.Thread, caller: str) -> str:
    """Return the stack of a thread after the last frame of the file `caller`, which calls the user's function."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    frames = traceback.extract_stack(frame)
    own = [i for i, f in enumerate(frames) if f.filename == caller]
    text = "".join(traceback.format_list(frames[own[-1] + 1 if own else 0 :]))
    return f"Where it was when its time was up (most recent call last):\n{text}"


#: How many single results may be queued before the worker that adds one waits, while the sink has room.
MAX_QUEUED = 64


class CompletionQueue:
    """A flat-combining queue: workers append completed tasks, and whichever gets the lock forwards all of them.

    Threads: `complete` and `clear` are called by any thread. `_completed` is a deque whose single operations are
    atomic. A thread that gets `_forwarding` without waiting forwards everything that is queued, and checks again after
    it has released the lock, so nothing is left behind. The lock is held on purpose while the sink waits at its bound,
    or writes the file of a sample that has ended: the others wait here then, instead of queueing ever more.
    """

    def __init__(self, scheduler: TaskSource) -> None:
        self._scheduler = scheduler
        self._completed: deque[CompletedTasks] = deque()
        self._forwarding = threading.Lock()

    def complete(self, completed: CompletedTasks) -> None:
        """Queue completed tasks; they may still be queued after the call. Raise SinkClosedError."""
        self._completed.append(completed)
        must = len(completed.records) > 1 or len(self._completed) > MAX_QUEUED or self._scheduler.sink.is_filling
        while self._completed and self._forwarding.acquire(must):
            try:
                self._forward()
            finally:
                self._forwarding.release()

    def clear(self) -> None:
        """Return when the sink has all tasks that were completed before. Raise SinkClosedError."""
        with self._forwarding:
            self._forward()

    def _forward(self) -> None:
        """Forward what is queued now, sample by sample."""
        of: dict[SampleWork, CompletedTasks] = {}
        for _ in range(len(self._completed)):
            completed = self._completed.popleft()
            earlier = of.setdefault(completed.sample, completed)
            if earlier is not completed:
                earlier.records += completed.records
                earlier.failed += completed.failed
        scheduler = self._scheduler
        for sample, completed in of.items():
            records, failed = completed.records, completed.failed
            verdicts = [record[1] for record in records]
            tally = sample.work.tally(records) if any(verdicts) else None
            scheduler.tracker.record(sample.work.number, verdicts, [kind for _, kind in failed], tally)
            scheduler.sink.put(sample.work, records)
            scheduler.ended(sample, len(records), failed)


def as_mapping(result: object) -> Mapping[str, object]:
    """Return a mapping as it is, and any other result as `{"value": result}`. Raise a Retry that was returned."""
    if isinstance(result, Mapping):
        return result
    if isinstance(result, Retry):
        raise result
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("fn returned a coroutine; give the async function itself, and it runs in an event loop.")
    return {"value": result}


def timeout_error(timeout_s: float) -> TaskTimeout:
    """Return the error of an attempt that took too long."""
    return TaskTimeout(f"the attempt took longer than timeout_s={timeout_s:g} ({time_text(timeout_s)})")
