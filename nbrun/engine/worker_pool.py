"""What the engine knows of those who run its tasks: threads, an event loop, or an executor's workers."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from nbrun.model import SinkClosedError, Task

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler
    from nbrun.engine.task_queue import SampleWork


class WorkerPool(Protocol):
    """Takes tasks from the engine's queue and hands back what comes of them (see completions.py).

    Threads: `wake`, `notify_all`, `prefetch_target` and `is_empty` are used with the scheduler's lock held; they don't
    wait.
    """

    @property
    def prefetch_target(self) -> int:
        """How many ready tasks the feeder should keep at least, if there are so many."""

    @property
    def is_empty(self) -> bool:
        """Nobody works, and nothing that was begun can still come back."""

    def wake(self, count: int) -> None:
        """So many tasks may be taken now. Called only while the run is running."""

    def notify_all(self) -> None:
        """The state or the number of workers has changed: all look again."""

    def end(self) -> None:
        """The run is over."""

    def forget_in_child(self) -> None:
        """After a fork, in the child: whoever forked must not go on here. No lock is held."""

    def at_work(self) -> list[SampleWork]:
        """The sample of each task that runs now."""

    def tasks(self) -> list[tuple[Task, int]]:
        """The tasks that run in this process now, and when they began (perf_counter_ns). No lock is needed."""

    def begun(self) -> list[int]:
        """When each task that runs now began (perf_counter_ns). No lock is needed."""

    def works_in(self, thread: Thread) -> bool:
        """Do tasks run in that thread?"""

    @property
    def notice(self) -> str:
        """What the user should know of the workers: a sentence or nothing."""


class SingleThreadPool:
    """A worker pool whose results all pass one thread. The scheduler's lock protects `_is_running`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._is_running = False

    @property
    def is_empty(self) -> bool:
        """See WorkerPool."""
        return not self._is_running

    @property
    def notice(self) -> str:
        """See WorkerPool."""
        return ""

    def _serve(self, work: Callable[[], None]) -> None:
        """The thread's whole life; after it nothing can come back."""
        scheduler = self.scheduler
        try:
            work()
        except SinkClosedError:  # the run was stopped: late results are discarded
            pass
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            scheduler.on_internal_error(e)
        finally:
            with scheduler.lock:
                self._is_running = False
                scheduler.idle.notify_all()
