"""What the engine knows of those who run its tasks: threads, an event loop, or an executor's workers."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Protocol

from nbrun.model import Task

if TYPE_CHECKING:
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

    def works_in(self, thread: Thread) -> bool:
        """Do tasks run in that thread?"""
