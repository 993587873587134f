"""The crew of an executor: one thread sends chunks of tasks, and takes back what came of them.

Two chunks a slot are out, one that runs and one that waits. Futures are told of by a callback that puts them into a
queue; nothing is scanned, and no task has a future of its own. What workers lose goes through losses.py.

Threads: "nbrun-dispatch" does all the work; the executor's threads only call `_events.put`. What the engine calls
(crew.Crew) reads and puts too. What comes of a call that was given up is dropped by its token.
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

from nbrun.engine.crew import OneThread
from nbrun.engine.executors.answers import fail, settle
from nbrun.engine.executors.cargo import Cargo
from nbrun.engine.executors.chunk import MOST_NOTED, Chunk
from nbrun.engine.executors.ending import takes_kernel_along
from nbrun.engine.executors.far import WHOLE
from nbrun.engine.executors.losses import Losses
from nbrun.engine.executors.pool import Pool
from nbrun.engine.executors.silence import Silence
from nbrun.engine.executors.sizing import Sizing
from nbrun.engine.queue import Item, SampleWork
from nbrun.errors import RunHaltedError, ThreadLimitError
from nbrun.model import Task
from nbrun.threads import start_daemon

if TYPE_CHECKING:
    from nbrun.engine.engine import Engine

#: What is out holds so many bytes at most (or is one chunk).
MOST_BYTES = 64 << 20
#: How often the thread looks whether anything comes back.
LOOK_S = 1.0


class Dispatcher(OneThread):
    """Runs a run's tasks in an executor. `workers` is the number of slots."""

    def __init__(self, engine: Engine, cargo: Cargo, pool: Pool) -> None:
        super().__init__(engine)
        self.cargo, self.pool = cargo, pool
        self._notes = takes_kernel_along(pool.executor)
        self.out: dict[str, Chunk] = {}  # by token, in the order of their sending
        self._losses = Losses(self)
        self._sizing = Sizing()
        self._events: queue.SimpleQueue[tuple[str, Future[Any]] | threading.Event | None] = queue.SimpleQueue()
        self._tokens, self._run_token, self._numbers = itertools.count(), secrets.token_hex(4), itertools.count()
        self._bytes = 0
        self._silence = Silence(engine)
        pool.cancel = self._cancel_waiting
        self._is_woken = self._has_cancelled = False
        self._is_settling = False  # there is a chunk whose results the sink doesn't have yet

    # ---- crew.Crew

    @property
    def appetite(self) -> int:
        """See Crew."""
        wanted = self.engine.wanted
        return max(64, 2 * wanted * self._sizing.size(1 << 30, wanted))

    def wake(self, count: int) -> None:
        """See Crew. The thread is started with the first task."""
        if not self._is_running:
            try:
                start_daemon(self._serve, "nbrun-dispatch", (self._run,))
                self._is_running = True
            except ThreadLimitError as e:
                self.engine.no_threads(e)
        elif not self._is_woken:
            self._is_woken = True
            self._events.put(None)

    def rouse(self) -> None:
        """See Crew."""
        self._events.put(None)

    def end(self) -> None:
        """See Crew."""
        self.rouse()

    def catch_up(self, timeout_s: float) -> None:
        """Waits until all that has come back so far is with the sink."""
        if self._is_running:
            done = threading.Event()
            self._events.put(done)
            done.wait(timeout_s)

    def forget_in_child(self) -> None:
        """See Crew. No thread of the parent's is here that could go on."""

    def at_work(self) -> list[SampleWork]:
        """See Crew. As far as can be told: a worker says nothing before its chunk has ended."""
        return [chunk.items[0][0] for chunk in list(self.out.values())[: self.slots]]

    def tasks(self) -> list[tuple[Task, int]]:
        """See Crew. None: they run in other processes."""
        return []

    def begun(self) -> list[int]:
        """See Crew. When the chunks that can run were sent."""
        return [chunk.sent_ns for chunk in list(self.out.values())[: self.slots]]

    def works_in(self, thread: threading.Thread) -> bool:
        """See Crew."""
        return False

    @property
    def slots(self) -> int:
        """How many chunks can run at once."""
        return min(self.engine.wanted, self.pool.width or self.engine.wanted)

    # ---- the thread

    def _run(self) -> None:
        self._silence.begin()
        while not self._is_over():
            self._is_woken = False
            self._send()
            event = self._next()
            if isinstance(event, threading.Event):
                event.set()
            elif event is not None:
                self._take_back(*event)
            elif self.engine.standing.is_draining and not self._has_cancelled:
                self._cancel_waiting()
            self._silence.mind(len(self.out), self._sizing.longest_s)

    def pause(self, message: str, cause: BaseException) -> None:
        """The run pauses, and whoever waits for it is told."""
        trouble = RunHaltedError(message)
        trouble.__cause__ = cause
        self.engine.pause(message, trouble)

    def _is_over(self) -> bool:
        standing = self.engine.standing
        return not standing.is_open and not (standing.is_draining and self.out)

    def _next(self) -> tuple[str, Future[Any]] | threading.Event | None:
        """Waits for an answer, for new tasks, for a delayed task's time, or for the next look."""
        may_send = self._has_room() and not (self.out and (self._losses.suspects or self._losses.runs_alone))
        with self.engine.lock:
            due = self.engine.next_due if self.engine.standing.is_running and may_send else None
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
        while self.engine.standing.is_running and self._has_room():
            chunk = self._pick()
            if chunk is None or not self._send_chunk(chunk):
                return

    def _has_room(self) -> bool:
        wanted = self.engine.wanted
        if self.pool.is_closing:  # the interpreter ends
            return False
        per_slot = self._sizing.chunks_a_slot if (self.pool.width or 0) <= wanted else 1
        if self.engine.gate.is_active:  # what is sent must start
            per_slot = 1
        return len(self.out) < per_slot * wanted and (not self.out or self._bytes < MOST_BYTES)

    def _pick(self) -> Chunk | None:
        """The next chunk, if one may go."""
        if self._losses.suspects or self._losses.runs_alone:
            if self.out:
                return None
            self._losses.runs_alone = True
            return Chunk([self._losses.suspects.popleft()], next(self._numbers), is_alone=True)
        if self._losses.again:
            return Chunk([self._losses.again.popleft()], next(self._numbers))
        engine = self.engine
        items: list[Item] = []
        is_last = False
        with engine.lock:
            most = min(self._sizing.size(engine.queue.ready, engine.wanted), MOST_NOTED if self._notes else 1 << 30)
            while len(items) < most:
                got = engine.take(most - len(items))
                if not got:
                    break
                items += got
            if not items and engine.is_all_fed and len(self.out) < engine.last_width:  # suspects of earlier runs
                is_last = not self._is_settling and all(chunk.is_last for chunk in self.out.values())
                items = engine.take_last() if is_last else []
        return Chunk(items, next(self._numbers), is_last=is_last) if items else None

    def _send_chunk(self, chunk: Chunk, with_function: bool = False) -> bool:
        """False where the executor refused it."""
        engine = self.engine
        try:
            data, chunk.size = self.cargo.chunk(chunk.items, lambda item: item[0].work.task(item[1], engine.flag))
        except Exception as e:
            self._cannot_travel(chunk, e)
            return True
        token = f"{self._run_token}-{next(self._tokens)}"
        chunk.generation = self.pool.generation
        if chunk.is_last:
            engine.sink.flush()  # it may take the process with it
        if self._notes:
            chunk.note(engine.sink, self.out.values())
        try:
            packed = self.cargo.packed if with_function else None
            future = self.pool.submit(self.cargo.digest, packed, data, engine.timeout_s, token)
        except BaseException as e:  # broken, shut down, a closed client
            engine.give_back(chunk.items)
            self._losses.refused(chunk.generation, e)
            return False
        if not self.out:
            self._silence.begin()
        chunk.future, chunk.sent_ns = future, time.perf_counter_ns()
        self.out[token] = chunk
        self._bytes += chunk.size
        future.add_done_callback(lambda done: self._events.put((token, done)))
        return True

    def _cannot_travel(self, chunk: Chunk, e: Exception) -> None:
        """Pickle refused a sample or an item: the tasks that it concerns are errors."""
        if len(chunk.items) > 1:
            for item in chunk.items:
                self._send_chunk(Chunk([item], chunk.number, chunk.is_alone, chunk.is_last))
            return
        e.retriable = False  # type: ignore[attr-defined]
        fail(self.engine, chunk.items[0], e)

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
            self._losses.lost(chunk, e)
            return
        self._silence.end()
        if answer is None:
            self._send_chunk(chunk, with_function=True)
            return
        self._losses.forget(chunk)
        if rows and rows[-1][0] == WHOLE:
            rows.pop()
            self.cargo.send_whole()
        left = chunk.items[len(rows) :]
        if left:
            self.engine.give_back(left)
        self._came_back(chunk, rows, len(raw) if isinstance(raw, bytes) else 0)
        self._is_settling = True
        self._send()  # before the results are dealt with, so that no slot waits for that
        self._is_settling = False
        settle(self.engine, chunk.items, worker, rows)

    def _came_back(self, chunk: Chunk, rows: list[tuple[Any, ...]], size: int) -> None:
        took = [row[-1] for row in rows if isinstance(row[-1], float)]
        if took:
            self.engine.durations.extend(took)
            self._sizing.came_back(len(chunk.items), len(rows), sum(took), chunk.size + size, max(took))

    def _cancel_waiting(self) -> None:
        """The run was stopped: what only waits in the executor need not run.

        What `cancel()` says isn't believed: it may say True of a call that runs, whose result is dropped then. So it is
        asked only of executors that tell what runs, or where all results are to be dropped.
        """
        self._has_cancelled = True
        futures = {token: chunk.future for token, chunk in list(self.out.items()) if chunk.future is not None}
        at_once = self.engine.flag.is_set or self.pool.is_closing
        if not at_once and not any(future.running() for future in futures.values()):
            return
        for token, future in futures.items():
            try:
                if future.cancel():
                    self._bytes -= self.out.pop(token).size
            except Exception:  # some executors' cancel() raises
                continue
