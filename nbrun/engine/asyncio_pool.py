"""Tasks of an `async def fn`: one event loop in a thread of its own, with `workers` tasks in flight.

Threads: "nbrun-loop" runs the loop and calls fn; "nbrun-loop-save" passes results to the sink, since the sink may make
its caller wait, which would stop every task in flight. The scheduler's lock protects `_is_running` and `_asked`.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

from nbrun.engine.state import SampleWork
from nbrun.engine.worker_pool import (
    CompletedTasks,
    Failure,
    SingleThreadPool,
    TaskSource,
    add_failure,
    after_exception,
    as_mapping,
    complete,
    timeout_error,
)
from nbrun.errors import ThreadLimitError
from nbrun.model import Record, SinkClosedError, Task
from nbrun.output import Writer, set_writer
from nbrun.samples import SCALARS
from nbrun.texts import counted
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: When this many results wait for the saver, no task begins.
BACKLOG = 1000
#: The most tasks that begin together: a slot of the in-flight record holds no more.
MOST_TOGETHER = 128

#: sample, position, and the record or the failure
Outcome = tuple[SampleWork, int, Record | None, Failure | None]


class Slot:
    """A slot of the in-flight record, and how many of the tasks recorded in it have not ended."""

    __slots__ = ("left", "number")

    def __init__(self, number: int, left: int) -> None:
        self.number, self.left = number, left


class AsyncioPool(SingleThreadPool):
    """Coroutines on one event loop."""

    def __init__(self, scheduler: TaskSource) -> None:
        super().__init__(scheduler)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._asked = self._has_cancelled = self._is_full = self._is_over = False
        self._in_flight: dict[asyncio.Task[None], tuple[SampleWork, Task, int]] = {}  # the loop's thread writes it
        self._slots: list[int] = []  # free slots of the in-flight record
        self._slot_count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        # The sample of each outcome that is not counted yet: the loop appends, the saver removes.
        self._uncounted: deque[SampleWork] = deque()
        self._quarantined_running = 0  # quarantined tasks in flight
        self._lost = 0  # coroutines that ignore their cancellation; the loop's thread writes it

    # ---- WorkerPool

    def wake(self, count: int) -> None:
        """Wake the loop. Its threads are started with the first task."""
        if not self._is_running:
            self._is_running, self._asked, self._is_over = True, False, False
            try:
                self._loop = asyncio.new_event_loop()
                self._thread = start_daemon(self._run, "nbrun-loop", (self._loop,))
            except ThreadLimitError as e:
                self._give_up(e)
                return
        self._ask()

    def _give_up(self, e: ThreadLimitError) -> None:
        """Pause the run: no thread can be started for the loop or the saver. The caller holds the scheduler's lock."""
        loop, self._loop, self._is_running = self._loop, None, False
        if loop is not None:
            loop.close()
        self.scheduler.no_threads(e)

    def notify_all(self) -> None:
        self._ask()

    def _ask(self) -> None:
        """Wake the loop. The caller holds the scheduler's lock."""
        loop = self._loop
        if loop is not None and not self._asked and self._is_running:
            self._asked = True
            try:
                loop.call_soon_threadsafe(self._look)
            except RuntimeError:  # it has just ended
                pass

    def forget_in_child(self) -> None:
        self._in_flight.clear()
        self._uncounted.clear()

    def at_work(self) -> list[SampleWork]:
        """Return the samples of the tasks in flight; if there are none, those of outcomes that are not counted yet.

        So once nothing is at work, all that has ended is counted.
        """
        in_flight = [sample for sample, _, _ in list(self._in_flight.values())]
        return in_flight or list(self._uncounted)[: self.scheduler.target_workers]

    def tasks(self) -> list[tuple[Task, int]]:
        return [(task, since) for _, task, since in list(self._in_flight.values())]

    # ---- the loop's thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        scheduler = self.scheduler
        try:
            start_daemon(self._serve, "nbrun-loop-save", (self._complete_all,))
        except ThreadLimitError as e:
            with scheduler.lock:
                self._give_up(e)
            return
        asyncio.set_event_loop(loop)
        try:
            while not self._is_over:  # a task may have stopped it
                loop.run_forever()
            self._wait_for(loop, set(self._in_flight))  # cancelled tasks close what they hold
            close = getattr(scheduler.fn, "aclose", None)
            if callable(close):
                loop.run_until_complete(close())
            others = asyncio.all_tasks(loop) - set(self._in_flight)  # that fn has started; a second cancellation would
            for task in others:  # interrupt a task's clean-up
                task.cancel()
            self._wait_for(loop, others)
            loop.run_until_complete(loop.shutdown_asyncgens())
            # A loop that is closed with abandoned tasks in it would print complaints.
            if not asyncio.all_tasks(loop):
                loop.close()
        except BaseException as e:  # SystemExit from a user's callback, or a fault of nbrun's own
            scheduler.on_internal_error(e)
        finally:
            self._outcomes.put(None)

    @staticmethod
    def _wait_for(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]) -> None:
        """Wait `TUNING.cancel_s` for cancelled tasks. Those that go on are abandoned, without a complaint later."""
        if tasks:
            _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=TUNING.cancel_s))
            for task in pending:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio.gather does the same

    def _look(self) -> None:
        """Begin tasks, cancel them, or end the loop."""
        try:
            self._look_around()
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            self.scheduler.on_internal_error(e)

    def _look_around(self) -> None:
        scheduler = self.scheduler
        with scheduler.lock:
            self._asked = False
        if self._is_over:  # the loop only waits for what was cancelled, and must not be stopped again
            return
        if scheduler.flag.is_set and not self._has_cancelled:
            self._has_cancelled = True
            for task in list(self._in_flight):
                task.cancel()
        if scheduler.run_state.is_open:
            self._begin_tasks()
        elif not self._in_flight or not scheduler.run_state.is_draining:
            assert self._loop is not None
            self._is_over = True
            self._loop.stop()

    def _begin_tasks(self) -> None:
        scheduler, loop = self.scheduler, self._loop
        assert loop is not None
        while scheduler.run_state.is_running:
            self._is_full = True  # before the check: the saver may just be finishing its last result
            if self._outcomes.qsize() >= BACKLOG:
                return  # the saver wakes the loop again
            self._is_full = False
            room = scheduler.target_workers - len(self._in_flight)
            if room <= 0 or self._quarantined_running:
                return
            with scheduler.lock:
                taken = scheduler.take(min(room, MOST_TOGETHER))
                is_quarantined = False
                if taken is None and scheduler.is_all_fed and not self._in_flight:
                    taken = scheduler.take_quarantined()
                    is_quarantined = taken is not None
                due = scheduler.next_due
            if taken is None:
                self._look_at(due)
                return
            self._quarantined_running += is_quarantined
            self._begin(*taken, is_quarantined)

    def _look_at(self, due: float) -> None:
        """Schedule the next look for when a delayed task is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due < math.inf and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._look)

    def _begin(self, sample: SampleWork, positions: list[int], is_quarantined: bool) -> None:
        """Begin tasks of one sample. They share a slot of the in-flight record, since each write releases the GIL."""
        scheduler, loop = self.scheduler, self._loop
        assert loop is not None
        if is_quarantined:
            scheduler.sink.flush()  # it may kill the process
        if not self._slots:
            self._slots.append(self._slot_count)
            self._slot_count += 1
        slot = Slot(self._slots.pop(), len(positions))
        scheduler.sink.begin_tasks(slot.number, sample.work.fingerprints(positions))
        for position in positions:
            task = sample.work.task(position, scheduler.flag)
            running = loop.create_task(self._one(sample, position, task))
            self._in_flight[running] = (sample, task, time.perf_counter_ns())
            running.add_done_callback(partial(self._ended, slot, is_quarantined, position))

    async def _one(self, sample: SampleWork, position: int, task: Task) -> None:
        """Run one attempt and queue its outcome for the saver."""
        scheduler = self.scheduler
        started, began = time.time(), time.perf_counter()
        name = f"{scheduler.name}:loop"
        set_writer(Writer(scheduler.output, task))
        try:
            item = task.item
            if type(item) not in SCALARS:  # fn may modify its copy: the dataset's is saved
                item = sample.work.item(position)
            if scheduler.timeout_s is None:
                result = await scheduler.fn(task)
            else:
                result = await self._within(scheduler.timeout_s, task)
            took = time.perf_counter() - began
            result = as_mapping(result)
            scheduler.durations.append(took)
            record = scheduler.sink.encode(sample.work, position, item, result, task.attempt, started, took, name)
            self._put(sample, position, record, None)
        except BaseException as e:  # anything a task raises becomes its own error
            took = time.perf_counter() - began
            failure = after_exception(scheduler, sample, position, task, e, started, took, name)
            if failure is not None:
                self._put(sample, position, None, failure)
        if scheduler.output.open:
            scheduler.output.end_lines(task)

    def _put(self, sample: SampleWork, position: int, record: Record | None, failure: Failure | None) -> None:
        """Queue the outcome of a task for the saver."""
        self._uncounted.append(sample)
        self._outcomes.put((sample, position, record, failure))

    async def _within(self, timeout_s: float, task: Task) -> object:
        """Return what fn returns within `timeout_s`; otherwise cancel it and raise TaskTimeout.

        A coroutine that ignores its cancellation is abandoned.
        """
        attempt = asyncio.ensure_future(self.scheduler.fn(task))
        try:
            await asyncio.wait((attempt,), timeout=timeout_s)
            if attempt.done():
                return attempt.result()
            attempt.cancel()
            await asyncio.wait((attempt,), timeout=TUNING.cancel_s)
        except asyncio.CancelledError:  # the run was stopped
            attempt.cancel()
            raise
        if attempt.done():
            attempt.cancelled() or attempt.exception()  # retrieved, or asyncio would log it as never retrieved
        else:
            self._lost += 1
            attempt.add_done_callback(self._came_back)
        raise timeout_error(timeout_s)

    def _came_back(self, attempt: asyncio.Future[object]) -> None:
        """Drop the outcome of an abandoned coroutine that has ended."""
        self._lost -= 1
        attempt.cancelled() or attempt.exception()

    @property
    def notice(self) -> str:
        if not self._lost:
            return ""
        which = counted(self._lost, "task ignores its cancellation and goes", "tasks ignore their cancellation and go")
        return f"{which} on after timeout_s."

    def _ended(self, slot: Slot, is_quarantined: bool, position: int, done: asyncio.Task[None]) -> None:
        sample_of = self._in_flight.pop(done, None)
        if done.cancelled() and sample_of is not None and not self.scheduler.flag.is_set:
            self.scheduler.give_back([(sample_of[0], position)])  # another task cancelled it before it began
        slot.left -= 1
        if not slot.left:
            self._slots.append(slot.number)
        self._quarantined_running -= is_quarantined
        if not done.cancelled() and (e := done.exception()) is not None and not isinstance(e, SinkClosedError):
            self.scheduler.on_internal_error(e)
        if not self._asked:  # no lock, and no wake-up of a running loop: at worst it looks twice
            self._asked = True
            done.get_loop().call_soon(self._look)

    # ---- the saver's thread

    def _complete_all(self) -> None:
        """Complete outcomes until the loop has ended: each time all that are queued, sample by sample."""
        has_ended = False
        while not has_ended:
            outcomes = [self._outcomes.get()]
            outcomes += [self._outcomes.get_nowait() for _ in range(self._outcomes.qsize())]  # no other thread gets any
            for completed in self._by_sample(filter(None, outcomes)):
                count = len(completed.records)
                complete(self.scheduler, completed)
                for _ in range(count):
                    self._uncounted.remove(completed.sample)
            if self._is_full:
                with self.scheduler.lock:
                    self._ask()
            has_ended = outcomes[-1] is None

    def _by_sample(self, outcomes: Iterable[Outcome]) -> Collection[CompletedTasks]:
        group: dict[SampleWork, CompletedTasks] = {}
        for sample, position, record, failure in outcomes:
            completed = group.get(sample) or group.setdefault(sample, CompletedTasks(sample, []))
            if record is not None:
                completed.records.append(record)
            elif failure is not None:
                add_failure(self.scheduler, completed, position, failure)
        return group.values()
