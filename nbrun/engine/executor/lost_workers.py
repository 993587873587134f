"""Tasks whose worker was lost: they run again, in the end alone, and it is no attempt of fn's. Executors that broke are
made anew, once a break, or the run pauses.

A process pool that loses one worker fails all that is out. Only what was at the head of the queue can have run; the
rest goes back as if it had never been sent. Threads: the dispatcher's.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError
from typing import TYPE_CHECKING

from nbrun.engine.executor.results import WorkerLostError, fail
from nbrun.engine.task_queue import Item

if TYPE_CHECKING:
    from nbrun.engine.executor.chunk import Chunk
    from nbrun.engine.executor.dispatcher import Dispatcher

#: A task whose worker was lost so often runs with nothing beside it, once more, and then is an error.
LOST_BEFORE_ALONE = 3
#: So many executors in a row that took no call at all: the factory makes no working one.
FRUITLESS = 3


class LostWorkers:
    """The losses of one run.

    Attributes:
        again: tasks that run again, each in a chunk of its own, so that the guilty one is found.
        suspects: tasks that run alone.
        runs_alone: one of them is out.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.again: deque[Item] = deque()
        self.quarantined: deque[Item] = deque()
        self.runs_alone = False
        self._counts: dict[Item, int] = {}
        self._broken = -1  # the generation that broke last
        self._begun: set[int] = set()  # the numbers of its chunks that can have run
        self._fruitless = 0

    def forget(self, chunk: Chunk) -> None:
        """A chunk has come back."""
        self._fruitless = 0
        if chunk.is_alone:
            self.runs_alone = False
        if self._counts:
            for item in chunk.items:
                self._counts.pop(item, None)

    def lost(self, chunk: Chunk, e: BaseException) -> None:
        """A chunk's future failed."""
        if chunk.is_alone:
            self.runs_alone = False
        if isinstance(e, ImportError):
            self._dispatcher.scheduler.give_back(chunk.items)
            self._dispatcher.pause(
                f"Paused: a worker of the executor can't import what it needs ({e}). Install nbrun and cloudpickle "
                "there in the same versions as here, then run.resume().",
                e,
            )
            return
        is_break = isinstance(e, BrokenExecutor)
        if isinstance(e, CancelledError) or (is_break and not self._can_have_run(chunk)):
            self._dispatcher.scheduler.give_back(chunk.items)
        else:
            self._count(chunk, e)
        if isinstance(e, CancelledError):
            self.refused(chunk.generation, e)
        elif is_break:
            self._mend(chunk.generation, e)

    def refused(self, generation: int, e: BaseException) -> None:
        """The executor took a call not at all, or dropped it unrun."""
        if generation == self._dispatcher.handle.generation:
            self._fruitless += 1
            self._mend(generation, e)

    def _can_have_run(self, chunk: Chunk) -> bool:
        if self._broken != chunk.generation:
            self._broken = chunk.generation
            out = [c.number for c in self._dispatcher.out.values() if c.generation == chunk.generation]
            self._begun = set(sorted([*out, chunk.number])[: self._dispatcher.slots])
        return chunk.number in self._begun

    def _count(self, chunk: Chunk, e: BaseException) -> None:
        for item in chunk.items:
            count = self._counts[item] = self._counts.get(item, 0) + 1
            if chunk.is_alone:
                self._give_up(item, count, e)
            elif count >= LOST_BEFORE_ALONE:
                self.quarantined.append(item)
            else:
                self.again.append(item)

    def _give_up(self, item: Item, count: int, cause: BaseException) -> None:
        del self._counts[item]
        e = WorkerLostError(
            f"its worker was lost {count} times, the last time with nothing running beside it: "
            f"it was killed, ran out of memory or called os._exit ({type(cause).__name__}: {cause})."
        )
        fail(self._dispatcher.scheduler, item, e)

    def _mend(self, generation: int, e: BaseException) -> None:
        """Another executor, once a break; without a factory the run pauses, with the tasks in its queue."""
        dispatcher, handle = self._dispatcher, self._dispatcher.handle
        if generation != handle.generation or handle.is_closing:
            return
        said = f"{type(e).__name__}: {str(e)[:200]}"
        if not handle.is_owned:
            dispatcher.pause(
                f"Paused: the executor is broken or closed ({said}). What is done is saved. run.stop(), then start "
                "again with a new executor, or with a factory of one (executor=lambda: ...), from which nbrun makes a "
                "broken one anew.",
                e,
            )
            return
        if self._fruitless > FRUITLESS:
            self._fruitless = 0
            dispatcher.pause(
                f"Paused: {FRUITLESS} executors in a row that executor() made took no call ({said}). Mend the cause, "
                "then run.resume(); or run.stop().",
                e,
            )
            return
        try:
            handle.replace()
        except Exception as failed:
            dispatcher.pause(f"Paused: executor() raised {type(failed).__name__}: {failed}.", failed)
