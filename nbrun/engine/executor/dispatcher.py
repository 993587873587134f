"""The worker pool of an executor: one thread sends chunks of tasks, and takes back what came of them.

Two chunks a slot are out, one that runs and one that waits. Futures are told of by a callback that puts them into a
queue; nothing is scanned, and no task has a future of its own. What workers lose goes through lost_workers.py.

Threads: "nbrun-dispatch" does all the work; the executor's threads only call `_events.put`. What the engine calls
(WorkerPool) reads and puts too. What comes of a call that was given up is dropped by its token.
"""

from __future__ import annotations

import itertools
import pickle
import queue
import secrets
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from nbrun.engine.executor.chunk import MOST_NOTED, Chunk
from nbrun.engine.executor.chunk_size import ChunkSizer
from nbrun.engine.executor.handle import ExecutorHandle
from nbrun.engine.executor.lost_workers import LostWorkers
from nbrun.engine.executor.payload import Payload
from nbrun.engine.executor.results import fail, settle
from nbrun.engine.executor.shutdown_policy import takes_kernel_along
from nbrun.engine.executor.stall_detector import StallDetector
from nbrun.engine.executor.worker import WHOLE
from nbrun.engine.task_queue import Item, SampleWork
from nbrun.engine.worker_pool import SingleThreadPool
from nbrun.errors import RunHaltedError, ThreadLimitError
from nbrun.model import Task
from nbrun.threads import start_daemon

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler

#: What is out holds so many bytes at most (or is one chunk).
MOST_BYTES = 64 << 20
#: How often the thread looks whether anything comes back.
LOOK_S = 1.0


class Dispatcher(SingleThreadPool):
    """Runs a run's tasks in an executor. `workers` is the number of slots."""

    def __init__(self, scheduler: Scheduler, payload: Payload, handle: ExecutorHandle) -> None:
        super().__init__(scheduler)
        self.payload, self.handle = payload, handle
        self._notes = takes_kernel_along(handle.executor)
        self.out: dict[str, Chunk] = {}  # by token, in the order of their sending
        self._lost_workers = LostWorkers(self)
        self._chunk_sizer = ChunkSizer()
        self._events: queue.SimpleQueue[tuple[str, Future[Any]] | threading.Event | None] = queue.SimpleQueue()
        self._tokens, self._run_token, self._numbers = itertools.count(), secrets.token_hex(4), itertools.count()
        self._bytes = 0
        self._stall_detector = StallDetector(scheduler)
        handle.cancel = self._cancel_waiting
        self._is_woken = self._has_cancelled = False
        self._is_settling = False  # there is a chunk whose results the sink doesn't have yet

    # ---- WorkerPool

    @property
    def prefetch_target(self) -> int:
        """See WorkerPool."""
        target_workers = self.scheduler.target_workers
        return max(64, 2 * target_workers * self._chunk_sizer.size(1 << 30, target_workers))

    def wake(self, count: int) -> None:
        """See WorkerPool. The thread is started with the first task."""
        if not self._is_running:
            try:
                start_daemon(self._serve, "nbrun-dispatch", (self._run,))
                self._is_running = True
            except ThreadLimitError as e:
                self.scheduler.no_threads(e)
        elif not self._is_woken:
            self._is_woken = True
            self._events.put(None)

    def notify_all(self) -> None:
        """See WorkerPool."""
        self._events.put(None)

    def end(self) -> None:
        """See WorkerPool."""
        self.notify_all()

    def drain(self, timeout_s: float) -> None:
        """Waits until all that has come back so far is with the sink."""
        if self._is_running:
            done = threading.Event()
            self._events.put(done)
            done.wait(timeout_s)

    def forget_in_child(self) -> None:
        """See WorkerPool. No thread of the parent's is here that could go on."""

    def at_work(self) -> list[SampleWork]:
        """See WorkerPool. As far as can be told: a worker says nothing before its chunk has ended."""
        return [chunk.items[0][0] for chunk in list(self.out.values())[: self.slots]]

    def tasks(self) -> list[tuple[Task, int]]:
        """See WorkerPool. None: they run in other processes."""
        return []

    def begun(self) -> list[int]:
        """See WorkerPool. When the chunks that can run were sent."""
        return [chunk.sent_ns for chunk in list(self.out.values())[: self.slots]]

    def works_in(self, thread: threading.Thread) -> bool:
        """See WorkerPool."""
        return False

    @property
    def slots(self) -> int:
        """How many chunks can run at once."""
        return min(self.scheduler.target_workers, self.handle.width or self.scheduler.target_workers)

    # ---- the thread

    def _run(self) -> None:
        self._stall_detector.begin()
        while not self._is_over():
            self._is_woken = False
            self._send()
            event = self._next()
            if isinstance(event, threading.Event):
                event.set()
            elif event is not None:
                self._take_back(*event)
            elif self.scheduler.run_state.is_draining and not self._has_cancelled:
                self._cancel_waiting()
            self._stall_detector.mind(len(self.out), self._chunk_sizer.longest_s)

    def pause(self, message: str, cause: BaseException) -> None:
        """The run pauses, and whoever waits for it is told."""
        trouble = RunHaltedError(message)
        trouble.__cause__ = cause
        self.scheduler.pause(message, trouble)

    def _is_over(self) -> bool:
        run_state = self.scheduler.run_state
        return not run_state.is_open and not (run_state.is_draining and self.out)

    def _next(self) -> tuple[str, Future[Any]] | threading.Event | None:
        """Waits for an answer, for new tasks, for a delayed task's time, or for the next look."""
        may_send = self._has_room() and not (
            self.out and (self._lost_workers.quarantined or self._lost_workers.runs_alone)
        )
        with self.scheduler.lock:
            due = self.scheduler.next_due if self.scheduler.run_state.is_running and may_send else None
        wait = LOOK_S if self.out else None
        if due is not None:
            left = max(0.0, due - time.monotonic())
            wait = left if wait is None else min(wait, left)
        try:
            return self._events.get(timeout=wait)
        except queue.Empty:
            return None

    # ---- sending

    def _send(self) -> None:
        """Fills the slots, as far as there are tasks."""
        while self.scheduler.run_state.is_running and self._has_room():
            chunk = self._pick()
            if chunk is None or not self._send_chunk(chunk):
                return

    def _has_room(self) -> bool:
        target_workers = self.scheduler.target_workers
        if self.handle.is_closing:  # the interpreter ends
            return False
        per_slot = self._chunk_sizer.chunks_a_slot if (self.handle.width or 0) <= target_workers else 1
        if self.scheduler.gate.is_active:  # what is sent must start
            per_slot = 1
        return len(self.out) < per_slot * target_workers and (not self.out or self._bytes < MOST_BYTES)

    def _pick(self) -> Chunk | None:
        """The next chunk, if one may go."""
        if self._lost_workers.quarantined or self._lost_workers.runs_alone:
            if self.out:
                return None
            self._lost_workers.runs_alone = True
            return Chunk([self._lost_workers.quarantined.popleft()], next(self._numbers), is_alone=True)
        if self._lost_workers.again:
            return Chunk([self._lost_workers.again.popleft()], next(self._numbers))
        scheduler = self.scheduler
        items: list[Item] = []
        is_quarantined = False
        with scheduler.lock:
            most = min(
                self._chunk_sizer.size(scheduler.queue.ready, scheduler.target_workers),
                MOST_NOTED if self._notes else 1 << 30,
            )
            while len(items) < most:
                got = scheduler.take(most - len(items))
                if not got:
                    break
                items += got
            if not items and scheduler.is_all_fed and len(self.out) < scheduler.quarantine_width:
                is_quarantined = not self._is_settling and all(chunk.is_quarantined for chunk in self.out.values())
                items = scheduler.take_quarantined() if is_quarantined else []
        return Chunk(items, next(self._numbers), is_quarantined=is_quarantined) if items else None

    def _send_chunk(self, chunk: Chunk, with_function: bool = False) -> bool:
        """False where the executor refused it."""
        scheduler = self.scheduler
        try:
            data, chunk.size = self.payload.chunk(chunk.items, lambda item: item[0].work.task(item[1], scheduler.flag))
        except Exception as e:
            self._cannot_travel(chunk, e)
            return True
        token = f"{self._run_token}-{next(self._tokens)}"
        chunk.generation = self.handle.generation
        if chunk.is_quarantined:
            scheduler.sink.flush()  # it may take the process with it
        if self._notes:
            chunk.note(scheduler.sink, self.out.values())
        try:
            packed = self.payload.packed if with_function else None
            future = self.handle.submit(self.payload.digest, packed, data, scheduler.timeout_s, token)
        except BaseException as e:  # broken, shut down, a closed client
            scheduler.give_back(chunk.items)
            self._lost_workers.refused(chunk.generation, e)
            return False
        if not self.out:
            self._stall_detector.begin()
        chunk.future, chunk.sent_ns = future, time.perf_counter_ns()
        self.out[token] = chunk
        self._bytes += chunk.size
        future.add_done_callback(lambda done: self._events.put((token, done)))
        return True

    def _cannot_travel(self, chunk: Chunk, e: Exception) -> None:
        """Pickle refused a sample or an item: the tasks that it concerns are errors."""
        if len(chunk.items) > 1:
            for item in chunk.items:
                self._send_chunk(Chunk([item], chunk.number, chunk.is_alone, chunk.is_quarantined))
            return
        e.retriable = False  # type: ignore[attr-defined]
        fail(self.scheduler, chunk.items[0], e)

    # ---- taking back

    def _take_back(self, token: str, future: Future[Any]) -> None:
        chunk = self.out.pop(token, None)
        if chunk is None:
            return  # given up before: a late result
        self._bytes -= chunk.size
        try:
            raw = future.result(0)
            answer = pickle.loads(raw) if isinstance(raw, bytes) else raw
            if answer is not None:
                worker, rows = answer
        except BaseException as e:  # a broken pool, a cancelled future, SystemExit out of a future
            self._lost_workers.lost(chunk, e)
            return
        self._stall_detector.end()
        if answer is None:
            self._send_chunk(chunk, with_function=True)
            return
        self._lost_workers.forget(chunk)
        if rows and rows[-1][0] == WHOLE:
            rows.pop()
            self.payload.send_whole()
        left = chunk.items[len(rows) :]
        if left:
            self.scheduler.give_back(left)
        self._came_back(chunk, rows, len(raw) if isinstance(raw, bytes) else 0)
        self._is_settling = True
        self._send()  # before the results are dealt with, so that no slot waits for that
        self._is_settling = False
        settle(self.scheduler, chunk.items, worker, rows)

    def _came_back(self, chunk: Chunk, rows: list[tuple[Any, ...]], size: int) -> None:
        took = [row[-1] for row in rows if isinstance(row[-1], float)]
        if took:
            self.scheduler.durations.extend(took)
            self._chunk_sizer.came_back(len(chunk.items), len(rows), sum(took), chunk.size + size, max(took))

    def _cancel_waiting(self) -> None:
        """The run was stopped: what only waits in the executor need not run.

        What `cancel()` says isn't believed: it may say True of a call that runs, whose result is dropped then. So it is
        asked only of executors that tell what runs, or where all results are to be dropped.
        """
        self._has_cancelled = True
        futures = {token: chunk.future for token, chunk in list(self.out.items()) if chunk.future is not None}
        at_once = self.scheduler.flag.is_set or self.handle.is_closing
        if not at_once and not any(future.running() for future in futures.values()):
            return
        for token, future in futures.items():
            try:
                if future.cancel():
                    self._bytes -= self.out.pop(token).size
            except Exception:  # some executors' cancel() raises
                continue
