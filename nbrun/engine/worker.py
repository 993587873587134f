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

from nbrun.engine.outcomes import Ended, add_failure, after_exception, hand_over
from nbrun.engine.queue import Item, SampleWork
from nbrun.model import Retry, SinkClosedError, Task

if TYPE_CHECKING:
    from nbrun.engine.threads import ThreadCrew

BATCH_S = 0.002
BATCH_NS = 2_000_000
MAX_BATCH = 128
#: What a task costs beside fn, roughly.
OVERHEAD_S = 5e-6


class Worker:
    """One thread.

    Threads: `batch` is a deque whose single operations are atomic: its owner takes from the left, thieves from the
    right, and who gets a task runs it. `_kept` is a list of one element at most, whose pop and append are atomic: who
    pops it hands it over, the owner or, while a task takes long, the watch. `current` is written by the owner, read by
    views and by stop; `is_busy` and `runs_last` are the crew's, under the engine's lock.
    """

    def __init__(self, crew: ThreadCrew, number: int, name: str, slot: int) -> None:
        self.crew, self.name, self.slot = crew, name, slot
        self.batch: deque[Item] = deque()
        self._kept: list[Ended] = []
        self.is_busy = self.runs_last = False
        self.current: tuple[SampleWork, Task] | None = None
        self.since = 0  # when `current` began, on perf_counter_ns's clock
        self.mean_s = BATCH_S  # the mean duration of its recent tasks, a guess at first
        self._weight = 1.0  # of what it measures next
        self.thread = threading.Thread(target=self._run, name=f"nbrun-worker-{number}", daemon=True)

    @property
    def batch_size(self) -> int:
        """How many tasks to take at once."""
        return max(1, min(MAX_BATCH, int(BATCH_S / (self.mean_s + OVERHEAD_S))))

    def is_stuck(self, limit_s: float) -> bool:
        """Has its task been running for longer than that? Called by other workers."""
        return self.current is not None and time.perf_counter_ns() - self.since > limit_s * 1e9

    @property
    def has_more(self) -> bool:
        """Are there results that wait for the rest of a batch, or may there be some?"""
        return bool(self.batch or self._kept)

    def hand_over_kept(self) -> None:
        """What has ended must not wait for the task that runs now. Called by the watch."""
        ended = self._take_kept()
        if ended is not None:
            self._refuse_in_child()
            hand_over(self.crew.engine, ended)

    def _refuse_in_child(self) -> None:
        """A task may have forked and returned, or raised, in the child too: its thread ends there, and the child."""
        if self.crew.engine.is_forked:
            raise SinkClosedError("this process is a child of the one that runs the task")

    def _take_kept(self) -> Ended | None:
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def _run(self) -> None:
        engine = self.crew.engine
        sink = engine.sink
        try:
            while self.crew.take(self):
                if self.runs_last:  # it may take the process with it
                    engine.desk.clear()
                    sink.flush()
                sink.begin_tasks(self.slot, self._marks())
                self._work()
            if not engine.is_forked:
                engine.desk.clear()  # or the run might end before whoever carries its last results
        except SinkClosedError:  # the run was stopped: late results are discarded
            pass
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            self.crew.engine.broke(e)
        finally:
            self.crew.left(self)

    def _marks(self) -> bytes:
        """Of what stands in `batch`, which was all taken from one sample."""
        items = list(self.batch)  # thieves take from it meanwhile
        return items[0][0].work.marks([position for _, position in items]) if items else b""

    def _work(self) -> None:
        """Runs what stands in `batch`. The clock is read twice a task and nothing is made that isn't needed."""
        engine, batch, kept = self.crew.engine, self.batch, self._kept
        fn, encode, flag, name = engine.fn, engine.sink.encode, engine.flag, self.name
        perf, now = time.perf_counter_ns, time.time
        sample: SampleWork | None = None
        count = 0
        busy = 0  # nanoseconds in fn
        began = end = perf()
        while True:
            try:
                item = batch.popleft()
            except IndexError:
                break
            if not engine.is_running:
                batch.appendleft(item)
                self.crew.give_back(self)
                break
            if item[0] is not sample:
                self.hand_over_kept()
                sample = item[0]
            position = item[1]
            task = sample.work.task(position, flag)
            started = now()
            self.since = start = perf()
            self.current = (sample, task)
            try:
                result = fn(task)
                end = perf()
                if type(result) is not dict and not isinstance(result, Mapping):
                    result = as_mapping(result)
                record, verdict = encode(
                    sample.work, position, result, task.attempt, started, (end - start) / 1e9, name
                )
            except BaseException as e:  # whatever a task raises is that task's, SystemExit too
                end = perf()
                self._after_exception(sample, position, task, e, started, (end - start) / 1e9)
            else:
                try:
                    ended = kept.pop()
                except IndexError:
                    ended = Ended(sample)
                ended.records.append(record)
                ended.verdicts.append(verdict)
                kept.append(ended)
            count += 1
            busy += end - start
            if end - began > BATCH_NS and batch:
                self.hand_over_kept()
        self.current = None
        self.hand_over_kept()
        if count:
            self.mean_s += self._weight * (busy / count / 1e9 - self.mean_s)
            self._weight = 0.5

    def _after_exception(
        self, sample: SampleWork, position: int, task: Task, e: BaseException, started: float, duration_s: float
    ) -> None:
        """The task will be tried again, or ends in an error entry."""
        self._refuse_in_child()
        engine = self.crew.engine
        failure = after_exception(engine, sample, position, task, e, started, duration_s, self.name)
        if failure is not None:
            ended = self._take_kept() or Ended(sample)
            add_failure(engine, ended, position, failure)
            self._kept.append(ended)


def as_mapping(result: object) -> Mapping[str, object]:
    """What fn returned, if it is no mapping: {"value": …}. Raises a Retry that was returned."""
    if isinstance(result, Retry):
        raise result
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("fn returned a coroutine; give the async function itself, and it runs in an event loop.")
    return {"value": result}
