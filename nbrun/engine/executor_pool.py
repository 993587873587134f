"""Tasks in any concurrent.futures.Executor: process pools, loky, Dask, MPI; saving stays in the kernel.

`ExecutorBackend` is the value of `start(executor=…)`, checked before anything is written; it takes fn's place in the
engine. `Dispatcher` is the worker pool: one thread sends chunks of tasks and processes their results.

Up to two chunks per slot are in the executor: one runs and one waits. A callback puts each finished future into a
queue, so no list of futures is polled, and there is one future for each chunk, not for each task. `LostWorkers` decides
what happens to tasks whose worker died, and `StallDetector` reports an executor that no longer answers.

Threads: "nbrun-dispatch" does all the work; the executor's threads only call `_events.put`. The methods that the
scheduler calls (see WorkerPool) read, and put events too. A late result of a call that was given up is dropped: its
token is unknown by then.
"""

from __future__ import annotations

import itertools
import math
import pickle
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import suppress
from typing import Any, NamedTuple

from nbrun.engine.executor_handle import (
    ExecutorHandle,
    Payload,
    is_executor,
    is_thread,
    make,
    shutdown_notice,
    takes_kernel_along,
)
from nbrun.engine.executor_worker import DONE, RETRY, WHOLE, ErrorRow, RemoteFunction, RetryRow, Row
from nbrun.engine.state import SampleWork, TaskRef
from nbrun.engine.worker_pool import (
    CompletedTasks,
    SingleThreadPool,
    TaskSource,
    add_failure,
    after_exception,
    complete,
    complete_failure,
)
from nbrun.errors import JudgeError, JudgeUnavailableError, NotSupportedError, RunHaltedError, ThreadLimitError
from nbrun.model import EncodedResult, RemoteEncoder, ResultSink, Retry, RetryPolicy, SampleTasks, Task
from nbrun.output import TaskOutput
from nbrun.texts import duration_text
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING


class ExecutorBackend:
    """The user's function, run in an executor.

    Args:
        fn: the user's function.
        executor: an Executor, or a function without arguments that makes one.
        policy: says which exceptions are not tried again.
        encoder: encodes results in the workers.
        left_out: the keys of a sample that hold its items, which need not be sent with each chunk.

    Raises:
        InputError: it is no executor, it forks, fn can't be pickled, or its workers can't run nbrun's calls.
    """

    def __init__(
        self,
        fn: Callable[[Task], object],
        executor: Any,
        policy: RetryPolicy,
        encoder: RemoteEncoder,
        left_out: Iterable[str] = (),
    ) -> None:
        self._fn = fn
        factory = None if is_executor(executor) else executor
        first = executor if factory is None else make(factory)
        self._handle = ExecutorHandle(first, factory)
        self._dispatcher: Dispatcher | None = None
        try:
            self._payload = Payload(
                RemoteFunction(fn, policy.never, encoder), frozenset(left_out), packs=not is_thread(first)
            )
            self._handle.check(self._payload)
        except BaseException:
            self._handle.close(kill=True)
            raise

    @property
    def digest(self) -> str:
        """The key under which workers cache the function."""
        return self._payload.digest

    def pool(self, scheduler: TaskSource) -> Dispatcher:
        """Return the worker pool that runs the tasks in the executor."""
        self._dispatcher = Dispatcher(scheduler, self._payload, self._handle)
        return self._dispatcher

    def shutdown_notice(self) -> str:
        """Return what happens to running tasks when the interpreter ends; "" if that was shown before."""
        return shutdown_notice(self._handle.executor, self._handle.is_owned)

    def drain(self, timeout_s: float) -> None:
        """At exit, wait until the sink has all results that came back; at most `timeout_s` seconds."""
        if self._dispatcher is not None:
            self._dispatcher.drain(timeout_s)

    def __call__(self, task: Task) -> Any:
        """Call fn in the kernel itself. Only a judge's `again` needs this."""
        return self._fn(task)

    def __getattr__(self, name: str) -> Any:
        if name in ("again", "again_verdicts", "health", "is_available"):  # answered in the kernel
            return getattr(self._fn, name)
        raise AttributeError(name)

    def close(self) -> None:
        """Close an executor that nbrun made, without waiting, at the end of the run; the user's own stays open."""
        self._handle.close(kill=self._dispatcher is not None and bool(self._dispatcher.out))
        close = getattr(self._fn, "close", None)
        if callable(close):
            close()


#: The chunks in the executor hold at most this many bytes, unless there is only one.
MOST_BYTES_OUT = 64 << 20


class Dispatcher(SingleThreadPool):
    """Runs a run's tasks in an executor. `workers` is the number of slots."""

    def __init__(self, scheduler: TaskSource, payload: Payload, handle: ExecutorHandle) -> None:
        super().__init__(scheduler)
        self.payload, self.handle = payload, handle
        self._notes = takes_kernel_along(handle.executor)
        self.out: dict[str, Chunk] = {}  # by token, in the order in which they were sent
        self._lost_workers = LostWorkers(self)
        self._chunk_sizer = ChunkSizer()
        self._events: queue.SimpleQueue[tuple[str, Future[Any]] | threading.Event | None] = queue.SimpleQueue()
        self._tokens, self._run_token, self._numbers = itertools.count(), secrets.token_hex(4), itertools.count()
        self._bytes = 0
        self._stall_detector = StallDetector(scheduler)
        handle.cancel = self._cancel_waiting
        self._is_woken = self._has_cancelled = False
        self._returned: Chunk | None = None  # it has left `out`, and its results are not counted yet

    # ---- WorkerPool

    @property
    def prefetch_target(self) -> int:
        target_workers = self.scheduler.target_workers
        return max(64, 2 * target_workers * self._chunk_sizer.size(1 << 30, target_workers))

    def wake(self, count: int) -> None:
        """Wake the thread, which is started with the first task."""
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
        self._events.put(None)

    def end(self) -> None:
        self.notify_all()

    def drain(self, timeout_s: float) -> None:
        """Wait until the sink has everything that has come back so far; at most `timeout_s` seconds."""
        if self._is_running:
            done = threading.Event()
            self._events.put(done)
            done.wait(timeout_s)

    def at_work(self) -> list[SampleWork]:
        """Return an estimate: a worker reports nothing before its chunk has ended.

        A chunk whose results are not counted yet is at work, too: once nothing is, all that has ended is counted.
        """
        chunks = list(self.out.values())  # first: a chunk is in `_returned` before it leaves `out`
        returned = self._returned
        if returned is not None and returned not in chunks:
            chunks.append(returned)
        return [chunk.refs[0][0] for chunk in chunks[: self.slots]]

    def tasks(self) -> list[tuple[Task, int]]:
        """Return nothing: workers don't report which task they run."""
        return []

    def begun(self) -> list[int]:
        """Return when the chunks that can run were sent."""
        return [chunk.sent_ns for chunk in list(self.out.values())[: self.slots]]

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
        """Pause the run for this reason; `wait()` raises it."""
        trouble = RunHaltedError(message)
        trouble.__cause__ = cause
        self.scheduler.pause(message, trouble)

    def _is_over(self) -> bool:
        run_state = self.scheduler.run_state
        return not run_state.is_open and not (run_state.is_draining and self.out)

    def _next(self) -> tuple[str, Future[Any]] | threading.Event | None:
        """Wait for an event: a result, new tasks, a delayed task that is due, or (None) the next stall check."""
        may_send = self._has_room()
        with self.scheduler.lock:
            due = self.scheduler.next_due if self.scheduler.run_state.is_running and may_send else math.inf
        wait_s = min(TUNING.executor_look_s if self.out else math.inf, max(0.0, due - time.monotonic()))
        try:
            return self._events.get(timeout=wait_s if wait_s < math.inf else None)
        except queue.Empty:
            return None

    # ---- sending

    def _send(self) -> None:
        """Send chunks until the slots are full or no tasks are left."""
        while self.scheduler.run_state.is_running and self._has_room():
            chunk = self._pick()
            if chunk is None or not self._send_chunk(chunk):
                return

    def _has_room(self) -> bool:
        """Return whether another chunk may be sent."""
        if self.handle.is_closing:  # the interpreter is exiting
            return False
        first = next(iter(self.out.values()), None)
        if first is None:
            return True
        if self._lost_workers.quarantined or first.is_alone:
            return False  # a task that lost workers runs with nothing beside it
        most = self._chunks_a_slot() * self.scheduler.target_workers
        return len(self.out) < most and self._bytes < MOST_BYTES_OUT

    def _chunks_a_slot(self) -> int:
        """Return how many chunks a slot may have in the executor: one that runs, and perhaps one that waits there."""
        if self.scheduler.gate.is_active:  # what is sent must start at once
            return 1
        has_queue = (self.handle.width or 0) <= self.scheduler.target_workers
        return self._chunk_sizer.chunks_a_slot if has_queue else 1

    def _pick(self) -> Chunk | None:
        """Return the next chunk to send, or None if none may be sent now."""
        lost, scheduler = self._lost_workers, self.scheduler
        if lost.quarantined:
            return Chunk([lost.quarantined.popleft()], next(self._numbers), is_alone=True)
        if lost.again:
            return Chunk([lost.again.popleft()], next(self._numbers))
        with scheduler.lock:
            refs = self._take_refs()
            is_quarantined = not refs and self._may_send_quarantined()
            if is_quarantined and (taken := scheduler.take_quarantined()) is not None:
                refs = [(taken[0], taken[1][0])]
        return Chunk(refs, next(self._numbers), is_quarantined=is_quarantined) if refs else None

    def _take_refs(self) -> list[TaskRef]:
        """Take the tasks of the next chunk from the queue. The caller holds the scheduler's lock."""
        scheduler, refs = self.scheduler, list[TaskRef]()
        most = self._chunk_sizer.size(scheduler.queue.ready, scheduler.target_workers)
        if self._notes:
            most = min(most, MOST_NOTED)
        while len(refs) < most and (taken := scheduler.take(most - len(refs))) is not None:
            refs += [(taken[0], position) for position in taken[1]]
        return refs

    def _may_send_quarantined(self) -> bool:
        """Return whether nothing runs but quarantined tasks, and another of them may. The caller holds the lock."""
        if self._returned is not None or not self.scheduler.is_all_fed:
            return False
        if len(self.out) >= self.scheduler.quarantine_width:
            return False
        return all(chunk.is_quarantined for chunk in self.out.values())

    def _send_chunk(self, chunk: Chunk, with_function: bool = False) -> bool:
        """Send a chunk. Return False if the executor refused it."""
        scheduler = self.scheduler
        try:
            data, chunk.size = self.payload.chunk(chunk.refs, lambda ref: ref[0].work.task(ref[1], scheduler.flag))
        except Exception as e:
            self._cannot_travel(chunk, e)
            return True
        token = f"{self._run_token}-{next(self._tokens)}"
        chunk.generation = self.handle.generation
        if chunk.is_quarantined:
            scheduler.sink.flush()  # it may kill the process
        if self._notes:
            chunk.note(scheduler.sink, self.out.values())
        try:
            packed = self.payload.packed if with_function else None
            future = self.handle.submit(self.payload.digest, packed, data, scheduler.timeout_s, token)
        except BaseException as e:  # broken, shut down, a closed client
            scheduler.give_back(chunk.refs)
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
        """End tasks whose sample or item can't be pickled in errors, and send the rest of the chunk one by one."""
        if len(chunk.refs) > 1:
            for ref in chunk.refs:
                self._send_chunk(Chunk([ref], chunk.number, chunk.is_alone, chunk.is_quarantined))
            return
        e.retriable = False  # type: ignore[attr-defined]
        fail(self.scheduler, chunk.refs[0], e)

    # ---- taking back

    def _take_back(self, token: str, future: Future[Any]) -> None:
        self._returned = self.out.get(token)
        try:
            chunk = self.out.pop(token, None)
            if chunk is None:
                return  # a late result of a call that was given up, perhaps just now by another thread
            self._bytes -= chunk.size
            self._take_results(chunk, future)
        finally:
            self._returned = None

    def _take_results(self, chunk: Chunk, future: Future[Any]) -> None:
        """Complete the tasks of a chunk that has come back, or requeue those that did not run."""
        try:
            answer = _unpack(future.result(0))
        except BaseException as e:  # a broken pool, a cancelled future, SystemExit from a future
            self._lost_workers.lost(chunk, e)
            return
        self._stall_detector.end()
        if answer is None:
            self._send_chunk(chunk, with_function=True)
            return
        rows = answer.rows
        self._lost_workers.forget(chunk)
        if rows and rows[-1][0] == WHOLE:
            rows.pop()
            self.payload.send_whole()
        left = chunk.refs[len(rows) :]
        if left:
            self.scheduler.give_back(left)
        self._came_back(chunk, rows, answer.size)
        self._send()  # before the results are processed, so that no slot waits for that
        self._receive(chunk, answer.written)
        settle(self.scheduler, chunk.refs, answer.worker, rows, self.payload.encoder)

    def _receive(self, chunk: Chunk, written: list[tuple[int, TaskOutput]]) -> None:
        """Pass on what tasks have printed in their worker."""
        for row, printed in written:
            sample, position = chunk.refs[row]
            self.scheduler.output.receive(sample.work.task(position, self.scheduler.flag), printed)

    def _came_back(self, chunk: Chunk, rows: list[Row], size: int) -> None:
        took = [row[-1] for row in rows if isinstance(row[-1], float)]
        if took:
            self.scheduler.durations.extend(took)
            self._chunk_sizer.came_back(len(chunk.refs), len(rows), sum(took), chunk.size + size, max(took))

    def _cancel_waiting(self) -> None:
        """Cancel the chunks that only wait in the executor, since the run was stopped.

        `cancel()` may return True for a call that already runs, whose result would then be dropped. So it is called
        only on executors that report running calls, or if all results are to be dropped.
        """
        self._has_cancelled = True
        out = list(self.out.items())
        drops_results = self.scheduler.flag.is_set or self.handle.is_closing
        if drops_results or any(chunk.future.running() for _, chunk in out):
            for token, chunk in out:
                with suppress(Exception):  # some executors' cancel() raises
                    if chunk.future.cancel():
                        self._bytes -= self.out.pop(token).size


class Answer(NamedTuple):
    """What a call of `run_chunk` returned, and its size in bytes, 0 if the worker is a thread of this process."""

    worker: str
    rows: list[Row]
    written: list[tuple[int, TaskOutput]]
    size: int


def _unpack(raw: Any) -> Answer | None:
    """Return the answer of a call; None if the worker needs the function first."""
    size = 0
    if isinstance(raw, bytes):
        size, raw = len(raw), pickle.loads(raw)
    if raw is None:
        return None
    worker, rows, written = raw
    return Answer(worker, rows, written, size)


#: A chunk should take TARGET_S. Tasks that take ALONE_S or more are sent one by one. MOST_TASKS and MOST_BYTES bound a
#: chunk.
TARGET_S, ALONE_S, MOST_TASKS, MOST_BYTES = 0.1, 0.05, 256, 1 << 20
#: The last tasks of a run are shared evenly among the slots, but not in chunks shorter than this.
LEAST_S = 0.01
#: If tasks take this long on average, a second chunk that waits in the executor gains nothing: each slot gets one.
LONG_S = 1.0


class ChunkSizer:
    """Chooses the size of chunks from the durations and bytes of those that came back.

    Example:
        >>> sizing = ChunkSizer()
        >>> sizing.size(1000, 8), sizing.came_back(1, 1, 0.001, 100), sizing.size(1000, 8)
        (1, None, 2)
    """

    def __init__(self) -> None:
        self._most = 1  # twice what the last whole chunk held
        self.mean_s: float | None = None  # of a task; None until one came back
        self._mean_bytes = 0.0
        self.longest_s = 0.0

    def size(self, ready: int, slots: int) -> int:
        """Return how many of the `ready` tasks the next chunk should hold."""
        if self.mean_s is None or self.mean_s >= ALONE_S:
            return 1
        short = max(self.mean_s, 1e-6)
        most = min(self._most, MOST_TASKS, int(TARGET_S / short), int(MOST_BYTES / max(self._mean_bytes, 1.0)))
        share = max(-(-ready // (2 * slots)), int(LEAST_S / short))
        return max(1, min(most, share))

    def came_back(self, sent: int, begun: int, took_s: float, size_bytes: int, longest_s: float = 0.0) -> None:
        """Record a chunk of `sent` tasks of which `begun` ran, in `took_s`; `size_bytes` went out and came back."""
        if not begun:
            return
        mean_s = took_s / begun
        weight = 0.5 if self.mean_s is not None else 1.0
        self.mean_s = mean_s if self.mean_s is None else self.mean_s + weight * (mean_s - self.mean_s)
        self._mean_bytes += weight * (size_bytes / begun - self._mean_bytes)
        self.longest_s = max(self.longest_s, longest_s or mean_s)
        if begun == sent:
            self._most = max(self._most, min(2 * sent, MOST_TASKS))
        else:
            self._most = begun

    @property
    def chunks_a_slot(self) -> int:
        """How many chunks a slot gets: one that runs and, once chunks have their final size, one that waits."""
        if self.mean_s is None or self.mean_s >= LONG_S:
            return 1
        return 2 if self._most >= min(MOST_TASKS, TARGET_S / max(self.mean_s, 1e-6)) or self.mean_s >= ALONE_S else 1


#: The most tasks of a chunk that is recorded as running: a slot of the in-flight record holds no more.
MOST_NOTED = 128


class Chunk:
    """Tasks that are sent to the executor together.

    Attributes:
        number: counts the chunks in the order in which they were first made.
        is_alone: nothing else may run meanwhile, since its task lost workers.
        is_quarantined: its task was running when earlier runs died; only other quarantined chunks may run meanwhile.
        future: of its call; set when it is sent.
    """

    future: Future[Any]

    __slots__ = ("future", "generation", "is_alone", "is_quarantined", "number", "refs", "sent_ns", "size", "slot")

    def __init__(self, refs: list[TaskRef], number: int, is_alone: bool = False, is_quarantined: bool = False) -> None:
        self.refs, self.number, self.is_alone, self.is_quarantined = refs, number, is_alone, is_quarantined
        self.size = self.sent_ns = 0
        self.generation = self.slot = -1

    def note(self, sink: ResultSink[SampleTasks], out: Iterable[Chunk]) -> None:
        """Record its tasks as running, in a slot of the in-flight record that none of the chunks `out` uses."""
        taken = {chunk.slot for chunk in out}
        self.slot = next(n for n in itertools.count() if n not in taken)
        groups = itertools.groupby(self.refs, lambda ref: ref[0])
        sink.begin_tasks(self.slot, b"".join(sample.work.fingerprints([p for _, p in refs]) for sample, refs in groups))


#: A task that has lost its worker this many times runs once more, alone; if that fails too, it is an error.
LOST_BEFORE_ALONE = 3
#: After more than this many executors in a row that accepted no call, the run pauses.
FRUITLESS = 3


class LostWorkers:
    """Decides what happens to tasks whose worker died.

    Attributes:
        again: tasks to run again, each in a chunk of its own, to find the one that kills its worker.
        quarantined: tasks to run again with nothing else running.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.again: deque[TaskRef] = deque()
        self.quarantined: deque[TaskRef] = deque()
        self._counts: dict[TaskRef, int] = {}
        self._broken = -1  # the generation that broke last
        self._begun: set[int] = set()  # the numbers of that generation's chunks that may have run
        self._fruitless = 0

    def forget(self, chunk: Chunk) -> None:
        """Forget the losses of a chunk's tasks: the chunk has come back."""
        self._fruitless = 0
        if self._counts:
            for ref in chunk.refs:
                self._counts.pop(ref, None)

    def lost(self, chunk: Chunk, e: BaseException) -> None:
        """Requeue or count the tasks of a chunk whose future failed with `e`."""
        give_back = self._dispatcher.scheduler.give_back
        if isinstance(e, ImportError):
            give_back(chunk.refs)
            self._dispatcher.pause(
                f"Paused: a worker of the executor can't import what it needs ({e}). Install nbrun and cloudpickle "
                "there in the same versions as here, then run.resume().",
                e,
            )
        elif isinstance(e, CancelledError):
            give_back(chunk.refs)
            self.refused(chunk.generation, e)
        elif not isinstance(e, BrokenExecutor):
            self._count(chunk, e)
        else:
            if self._can_have_run(chunk):
                self._count(chunk, e)
            else:
                give_back(chunk.refs)
            self._replace(chunk.generation, e)

    def refused(self, generation: int, e: BaseException) -> None:
        """Replace an executor that refused a call or dropped it unrun."""
        if generation == self._dispatcher.handle.generation:
            self._fruitless += 1
            self._replace(generation, e)

    def _can_have_run(self, chunk: Chunk) -> bool:
        if self._broken != chunk.generation:
            self._broken = chunk.generation
            out = [c.number for c in self._dispatcher.out.values() if c.generation == chunk.generation]
            self._begun = set(sorted([*out, chunk.number])[: self._dispatcher.slots])
        return chunk.number in self._begun

    def _count(self, chunk: Chunk, e: BaseException) -> None:
        for ref in chunk.refs:
            count = self._counts[ref] = self._counts.get(ref, 0) + 1
            if chunk.is_alone:
                self._give_up(ref, count, e)
            elif count >= LOST_BEFORE_ALONE:
                self.quarantined.append(ref)
            else:
                self.again.append(ref)

    def _give_up(self, ref: TaskRef, count: int, cause: BaseException) -> None:
        del self._counts[ref]
        e = WorkerLostError(
            f"its worker was lost {count} times, the last time with nothing running beside it: "
            f"it was killed, ran out of memory or called os._exit ({type(cause).__name__}: {cause})."
        )
        fail(self._dispatcher.scheduler, ref, e)

    def _replace(self, generation: int, e: BaseException) -> None:
        """Make another executor, once per break. Without a factory, pause the run; the tasks stay in its queue."""
        dispatcher, handle = self._dispatcher, self._dispatcher.handle
        if generation != handle.generation or handle.is_closing:
            return
        said = f"{type(e).__name__}: {str(e)[:200]}"
        if not handle.is_owned:
            dispatcher.pause(
                f"Paused: the executor is broken or closed ({said}). What is done is saved. run.stop(), then start "
                "again with a new executor, or with a factory of one (executor=lambda: ...), from which nbrun "
                "makes another when one breaks.",
                e,
            )
            return
        if self._fruitless > FRUITLESS:
            self._fruitless = 0
            dispatcher.pause(
                f"Paused: {FRUITLESS} executors in a row that executor() made took no call ({said}). Fix the "
                "cause, then run.resume(); or run.stop().",
                e,
            )
            return
        try:
            handle.replace()
        except Exception as failed:
            dispatcher.pause(f"Paused: executor() raised {type(failed).__name__}: {failed}.", failed)


class StallDetector:
    """Reports an executor that returns nothing for a long time."""

    def __init__(self, scheduler: TaskSource) -> None:
        self._scheduler = scheduler
        self._heard = time.monotonic()
        self._said = ""

    def begin(self) -> None:
        """Start the clock: a result is expected from now on."""
        self._heard = time.monotonic()

    def end(self) -> None:
        """Restart the clock and withdraw the message: a result has come back."""
        self._heard = time.monotonic()
        if self._said:
            self._scheduler.say("", self._said)
            self._said = ""

    def mind(self, calls: int, longest_s: float) -> None:
        """Show the message, once per stall, if calls have been waiting for too long."""
        silent_s = time.monotonic() - self._heard
        if self._said or not calls or silent_s < max(TUNING.executor_silent_s, 3 * longest_s):
            return
        self._said = (
            f"Nothing has come back from the executor for {duration_text(silent_s)}; {calls} calls are out. "
            "That is as it should be where tasks take so long. If its workers are gone: run.stop(drain=False), then "
            "start again with a new executor; what is saved stays, and only what is missing runs."
        )
        self._scheduler.say(self._said)


_KINDS = {k.__name__: k for k in (JudgeUnavailableError, NotSupportedError, JudgeError)}
_types: dict[str, Any] = {}


class WorkerLostError(RuntimeError):
    """Workers that ran this task were lost repeatedly, the last one while nothing else was running."""

    retriable = False


def settle(scheduler: TaskSource, refs: list[TaskRef], worker: str, rows: list[Row], encoder: RemoteEncoder) -> None:
    """Complete the tasks of a chunk that have a row."""
    encode = scheduler.sink.encode
    for sample, pairs in itertools.groupby(zip(refs, rows, strict=False), lambda pair: pair[0][0]):
        completed, work = CompletedTasks(sample, []), sample.work
        for (_, position), row in pairs:
            if row[0] == DONE:
                _, data, lossy, verdict, api_used, attempt, started, took = row
                result = EncodedResult(data, lossy, verdict, api_used)
                item = work.item(position)
                completed.records.append(encode(work, position, item, result, attempt, started, took, worker))
            elif row[0] != WHOLE:  # that task was given back before
                task, e = work.task(position, scheduler.flag), exception_of(row, encoder)
                failure = after_exception(scheduler, sample, position, task, e, *row[-2:], worker)
                if failure is not None:
                    add_failure(scheduler, completed, position, failure)
        complete(scheduler, completed)


def fail(scheduler: TaskSource, ref: TaskRef, e: BaseException) -> None:
    """End a task that no worker could run in an error."""
    sample, position = ref
    task = sample.work.task(position, scheduler.flag)
    failure = after_exception(scheduler, sample, position, task, e, time.time(), 0.0, "")
    if failure is not None:
        complete_failure(scheduler, sample, position, failure)


def exception_of(row: RetryRow | ErrorRow, encoder: RemoteEncoder) -> BaseException:
    """Return what fn raised, as well as it can be described without its class."""
    if row[0] == RETRY:
        extra: Any = encoder.decode_value(row[3])  # a mapping: see worker._attempt
        return Retry(row[1], row[2], extra["hint"], extra["result"], row[4])
    _, kind, name, message, text, retriable, _, _ = row
    # A class of the user's exists only in the worker: here it is one of that name, the same each time.
    e: Any = (_KINDS[kind] if kind else _types.setdefault(name, type(name, (Exception,), {})))(message)
    e.retriable, e.worker_traceback = retriable, text
    return e  # type: ignore[no-any-return]
