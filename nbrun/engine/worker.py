"""A worker: a daemon thread that takes tasks itself, calls fn, encodes the results and hands them to the sink.

Daemon threads of our own, since the interpreter joins a ThreadPoolExecutor's at exit: a kernel with requests of 1000 s
in flight would hang. Short tasks are taken a few at a time (up to about 2 ms of work), so that the lock is
not taken for each; idle workers steal what a worker has taken and not begun.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nbrun.engine.completions import CompletedTasks, add_failure, after_exception, complete
from nbrun.engine.task_queue import Item, SampleWork
from nbrun.engine.timeouts import Claim, TooLate
from nbrun.model import Record, Retry, SinkClosedError, Task
from nbrun.output import Speaking, speak
from nbrun.samples import SCALARS

if TYPE_CHECKING:
    from nbrun.engine.thread_pool import ThreadPool

BATCH_S = 0.002
BATCH_NS = 2_000_000
MAX_BATCH = 128
#: What a task costs beside fn, roughly.
OVERHEAD_S = 5e-6


class ResultBuffer:
    """Results of one batch that nobody has handed over yet.

    Threads: `records` is a deque whose single operations are atomic: the owner appends, and who pops one takes it over.
    """

    __slots__ = ("records", "sample")

    def __init__(self, sample: SampleWork) -> None:
        self.sample = sample
        self.records: deque[Record] = deque()

    def take(self) -> CompletedTasks | None:
        """What lies there now."""
        if not self.records:
            return None
        completed = CompletedTasks(self.sample)
        pop, add = self.records.popleft, completed.records.append
        try:
            while True:
                add(pop())
        except IndexError:
            pass
        completed.verdicts = [record[1] for record in completed.records]
        return completed


class Worker:
    """One thread.

    Threads: `batch` is a deque whose single operations are atomic: its owner takes from the left, thieves from the
    right, and who gets a task runs it. `_buffer` is the owner's, a new one for each batch; it hands over what lies
    there, and so does the watch while a task takes long. `current` is written by the owner, read by views and by stop;
    `is_busy` and `runs_quarantined` are the pool's, under the scheduler's lock.
    """

    def __init__(self, pool: ThreadPool, number: int, name: str, slot: int) -> None:
        self.pool, self.name, self.slot = pool, name, slot
        self.batch: deque[Item] = deque()
        self._buffer: ResultBuffer | None = None
        self.is_busy = self.runs_quarantined = False
        self.current: tuple[SampleWork, Task] | None = None
        self.claim: Claim | None = None  # `current`, where it has a time-out
        self.since = 0  # when `current` began, on perf_counter_ns's clock
        self.mean_s = BATCH_S  # the mean duration of its recent tasks, a guess at first
        self._weight = 1.0  # of what it measures next
        self.thread = threading.Thread(target=self._run, name=f"nbrun-worker-{number}", daemon=True)

    @property
    def batch_size(self) -> int:
        """How many tasks to take at once."""
        if self.pool.takes_single:
            return 1
        return max(1, min(MAX_BATCH, int(BATCH_S / (self.mean_s + OVERHEAD_S))))

    def is_stuck(self, limit_s: float) -> bool:
        """Has its task been running for longer than that? Called by other workers."""
        return self.current is not None and time.perf_counter_ns() - self.since > limit_s * 1e9

    @property
    def has_more(self) -> bool:
        """Are there results that wait for the rest of a batch, or may there be some?"""
        return bool(self.batch or (self._buffer and self._buffer.records))

    def flush_results(self) -> None:
        """What has ended must not wait for the task that runs now. Called by the watch, too."""
        completed = self._buffer.take() if self._buffer else None
        if completed is not None:
            self._refuse_in_child()
            complete(self.pool.scheduler, completed)

    def _refuse_in_child(self) -> None:
        """A task may have forked and returned, or raised, in the child too: its thread ends there, and the child."""
        if self.pool.scheduler.is_forked:
            raise SinkClosedError("this process is a child of the one that runs the task")

    def _run(self) -> None:
        scheduler = self.pool.scheduler
        sink = scheduler.sink
        speak(self)
        try:
            while self.pool.take(self):
                if self.runs_quarantined:  # it may take the process with it
                    scheduler.completions.clear()
                    sink.flush()
                sink.begin_tasks(self.slot, self._marks())
                self._work()
            if not scheduler.is_forked:
                scheduler.completions.clear()  # or the run might end before whoever carries its last results
        except (SinkClosedError, TooLate):  # the run was stopped, or the attempt given up: late results are discarded
            pass
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            self.pool.scheduler.on_internal_error(e)
        finally:
            self.pool.left(self)

    def speaking(self) -> Speaking | None:
        """See output.Speaker: nothing is done for a task that prints nothing."""
        current, output = self.current, self.pool.scheduler.output
        return None if current is None or output is None else Speaking(output, current[1])

    def _marks(self) -> bytes:
        """Of what stands in `batch`, which was all taken from one sample."""
        items = list(self.batch)  # thieves take from it meanwhile
        return items[0][0].work.marks([position for _, position in items]) if items else b""

    def _work(self) -> None:
        """Runs what stands in `batch`. The clock is read twice a task and nothing is made that isn't needed."""
        scheduler, batch = self.pool.scheduler, self.batch
        fn, encode, flag, name = scheduler.fn, scheduler.sink.encode, scheduler.flag, self.name
        run_state = scheduler.run_state
        perf, now = time.perf_counter_ns, time.time
        try:
            sample, position = batch.popleft()
        except IndexError:  # others have stolen it all
            return
        self._buffer = buffer = ResultBuffer(sample)
        work, keep = sample.work, buffer.records.append
        make_task = work.task
        count = busy = 0  # the latter in nanoseconds of fn
        late = perf() + BATCH_NS
        has_timeout = scheduler.timeout_s is not None
        open_lines = {} if scheduler.output is None else scheduler.output.open
        claim: Claim | None = None
        while run_state.may_begin:
            task = make_task(position, flag)
            item = task.item
            if type(item) not in SCALARS:  # fn may change its copy; stored is what the dataset holds
                item = work.item(position)
            started = now()
            self.since = start = perf()
            self.current = (sample, task)
            if has_timeout:
                self.claim = claim = Claim(sample, position, task, started, start)
            try:
                result = fn(task)
                end = perf()
                took = end - start
                if claim is not None:
                    claim.keep()
                if type(result) is not dict and not isinstance(result, Mapping):
                    result = as_mapping(result)
                keep(encode(work, position, item, result, task.attempt, started, took / 1e9, name))
            except BaseException as e:  # whatever a task raises is that task's, SystemExit too
                end = perf()
                took = end - start
                if claim is not None:
                    claim.keep()
                self._after_exception(sample, position, task, e, started, took / 1e9)
            if open_lines and scheduler.output is not None:
                scheduler.output.end_lines(task)
            count += 1
            busy += took
            if end > late and batch:
                self.flush_results()
            try:
                position = batch.popleft()[1]
            except IndexError:
                break
        else:
            batch.appendleft((sample, position))
            self.pool.give_back(self)
        self.current = self.claim = None
        self.flush_results()
        if count:
            scheduler.durations.append(took / 1e9)
            self.mean_s += self._weight * (busy / count / 1e9 - self.mean_s)
            self._weight = 0.5

    def _after_exception(
        self, sample: SampleWork, position: int, task: Task, e: BaseException, started: float, duration_s: float
    ) -> None:
        """The task will be tried again, or ends in an error entry."""
        self._refuse_in_child()
        scheduler = self.pool.scheduler
        failure = after_exception(scheduler, sample, position, task, e, started, duration_s, self.name)
        if failure is not None:
            completed = (self._buffer and self._buffer.take()) or CompletedTasks(sample)
            add_failure(scheduler, completed, position, failure)
            complete(scheduler, completed)


def as_mapping(result: object) -> Mapping[str, object]:
    """What fn returned, if it is no mapping: {"value": …}. Raises a Retry that was returned."""
    if isinstance(result, Retry):
        raise result
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("fn returned a coroutine; give the async function itself, and it runs in an event loop.")
    return {"value": result}
