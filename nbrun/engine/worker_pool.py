"""The two sides of a worker pool: what the scheduler calls (`WorkerPool`) and what a pool calls (`TaskSource`).

There are three pools: threads (thread_pool.py), an event loop (asyncio_pool.py) and an executor (executor/).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from nbrun.engine.completions import CompletionTarget
from nbrun.engine.state import Item, RunState, SampleWork, StartGate, Taken, TaskQueue
from nbrun.errors import RunHaltedError, ThreadLimitError
from nbrun.model import SinkClosedError, Task


class TaskSource(CompletionTarget, Protocol):
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

    def take(self, most: int) -> Taken | None:
        """Return up to `most` tasks of one sample that may start now, or None. The caller holds the lock."""

    def take_quarantined(self) -> Taken | None:
        """Return one quarantined task that may start now, or None. The caller holds the lock."""

    @property
    def next_due(self) -> float | None:
        """When the next task that must wait may start (time.monotonic), or None. The caller holds the lock."""

    def give_back(self, items: list[Item]) -> None:
        """Return tasks that were taken but never started to the front of the queue."""

    def pause(self, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """Pause the run."""

    def say(self, message: str, instead_of: str = "") -> None:
        """Show the user a message while the run goes on, in place of the message `instead_of`."""

    def no_threads(self, e: ThreadLimitError) -> None:
        """Pause the run because no thread can be started. The caller holds the lock."""

    def on_internal_error(self, e: BaseException) -> None:
        """Halt the run: nbrun itself has failed."""


class WorkerPool(Protocol):
    """Takes tasks from the scheduler's queue, runs them and completes them (see completions.py).

    The pools inherit from it; `end`, `forget_in_child` and `notice` need not be overridden.

    Threads: `wake`, `notify_all`, `prefetch_target` and `is_empty` are used with the scheduler's lock held; they don't
    wait.
    """

    @property
    def prefetch_target(self) -> int:
        """Return how many tasks the feeder should keep ready, if there are that many left."""

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
