"""What the engine knows of those who run its tasks: threads, an event loop, or an executor's workers."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from nbrun.model import SinkClosedError, Task

if TYPE_CHECKING:
    from nbrun.engine.engine import Engine
    from nbrun.engine.queue import SampleWork


class Crew(Protocol):
    """Takes tasks from the engine's queue and hands back what comes of them (see outcomes.py).

    Threads: `wake`, `rouse`, `appetite` and `is_empty` are used with the engine's lock held; they don't wait.
    """

    @property
    def appetite(self) -> int:
        """How many ready tasks the feeder should keep at least, if there are so many."""

    @property
    def is_empty(self) -> bool:
        """Nobody works, and nothing that was begun can still come back."""

    def wake(self, count: int) -> None:
        """So many tasks may be taken now. Called only while the run is running."""

    def rouse(self) -> None:
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
    def told(self) -> str:
        """What the user should know of the workers: a sentence or nothing."""


class OneThread:
    """What a crew has whose results all pass one thread. The engine's lock protects `_is_running`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._is_running = False

    @property
    def is_empty(self) -> bool:
        """See Crew."""
        return not self._is_running

    @property
    def told(self) -> str:
        """See Crew."""
        return ""

    def _serve(self, work: Callable[[], None]) -> None:
        """The thread's whole life; after it nothing can come back."""
        engine = self.engine
        try:
            work()
        except SinkClosedError:  # the run was stopped: late results are discarded
            pass
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            engine.broke(e)
        finally:
            with engine.lock:
                self._is_running = False
                engine.idle.notify_all()
