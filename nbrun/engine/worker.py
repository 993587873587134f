"""A worker: a daemon thread that takes tasks itself, calls fn, encodes the results and hands them to the sink.

Daemon threads of our own, since the interpreter joins a ThreadPoolExecutor's at exit: a kernel with requests of 1000 s
in flight would hang. Short tasks are taken a few at a time (up to about 2 ms of work), so that the lock is
not taken for each; idle workers steal what a worker has taken and not begun.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbrun.engine.queue import Item, SampleWork
from nbrun.errors import JudgeError
from nbrun.model import Outcome, Retry, Status, Task
from nbrun.progress import ErrorNote

if TYPE_CHECKING:
    from nbrun.engine.engine import Engine

BATCH_S = 0.002
MAX_BATCH = 32
MAX_TRACEBACK = 20_000


class Worker:
    """One thread.

    Threads: `batch` is a deque whose single operations are atomic: its owner takes from the left, thieves from the
    right, and who gets a task runs it. `current` is written by the owner, read by views and by stop.
    """

    def __init__(self, engine: Engine, number: int, name: str) -> None:
        self.engine, self.name = engine, name
        self.batch: deque[Item] = deque()
        self.current: tuple[SampleWork, Task] | None = None
        self.mean_s = BATCH_S  # the mean duration of its recent tasks
        self.thread = threading.Thread(target=self._run, name=f"nbrun-worker-{number}", daemon=True)

    @property
    def batch_size(self) -> int:
        """How many tasks to take at once."""
        return max(1, min(MAX_BATCH, int(BATCH_S / (self.mean_s + 1e-6))))

    def _run(self) -> None:
        engine = self.engine
        try:
            while engine.take(self):
                self._work()
        finally:
            engine.left(self)

    def _work(self) -> None:
        """Runs what stands in `batch`."""
        engine, batch, sink, fn, flag = self.engine, self.batch, self.engine.sink, self.engine.fn, self.engine.flag
        perf, now = time.perf_counter, time.time
        sample: SampleWork | None = None
        records: list[Any] = []
        ends: list[tuple[Status, str | None]] = []
        failed: list[int] = []
        began = end = perf()
        count = 0
        while True:
            try:
                item = batch.popleft()
            except IndexError:
                break
            if not engine.is_running:
                batch.appendleft(item)
                engine.give_back(self)
                break
            if item[0] is not sample:
                if sample is not None and ends:
                    self._hand_over(sample, records, ends, failed)
                    records, ends, failed = [], [], []
                sample = item[0]
            position = item[1]
            task = sample.work.task(position, flag)
            self.current = (sample, task)
            started = now()
            start = perf()
            try:
                result = fn(task)
                if type(result) is not dict and not isinstance(result, Mapping):
                    if isinstance(result, Retry):
                        raise result
                    result = {"value": result}
                end = perf()
                outcome = Outcome(Status.DONE, result, task.attempt, started, round(end - start, 6), self.name)
                record, verdict = sink.encode(sample.work, position, outcome)
            except BaseException as e:  # whatever a task raises is that task's, SystemExit too
                end = perf()
                error = self._after_exception(sample, position, task, e, started, end - start)
                if error is None:
                    self.current = None
                    continue
                records.append(error)
                ends.append((Status.ERROR, None))
                failed.append(position)
            else:
                records.append(record)
                ends.append((Status.DONE, verdict))
                engine.streak = 0
                engine.any_success = True
            self.current = None
            count += 1
            if end - began > BATCH_S and batch:
                self._hand_over(sample, records, ends, failed)
                records, ends, failed = [], [], []
        if sample is not None and ends:
            self._hand_over(sample, records, ends, failed)
        if count:
            self.mean_s += 0.5 * ((end - began) / count - self.mean_s)

    def _hand_over(
        self, sample: SampleWork, records: list[Any], ends: list[tuple[Status, str | None]], failed: list[int]
    ) -> None:
        self.engine.board.record(sample.work.number, ends)
        self.engine.sink.put(records)
        self.engine.ended(sample, len(ends), failed)

    def _after_exception(
        self, sample: SampleWork, position: int, task: Task, e: BaseException, started: float, duration_s: float
    ) -> Any | None:
        """The record of an error entry, or None where the task will be tried again (or was cancelled)."""
        engine = self.engine
        if engine.flag.is_set:
            return None  # cancelled: it stays missing, and a later run takes it up
        if isinstance(e, Retry):
            engine.try_again(sample, position, task, e, e.after_s)
            return None
        policy = engine.retry
        retriable = isinstance(e, Exception) and not isinstance(e, policy.never)
        if retriable and task.attempt < policy.attempts:
            retry = Retry(f"{type(e).__name__}: {e}", 0.0, task.hint, task.previous)
            engine.try_again(sample, position, task, retry, policy.wait_s(task.attempt, engine.random()))
            return None
        error = {"type": type(e).__name__, "message": _message(e), "traceback": _traceback(e)}
        outcome = Outcome(Status.ERROR, None, task.attempt, started, round(duration_s, 6), self.name, error)
        record, _ = engine.sink.encode(sample.work, position, outcome)
        engine.board.note_error(
            ErrorNote(
                task.sample_id, task.group, task.index, error["type"], error["message"], error["traceback"], started
            )
        )
        engine.failed(e, error)
        return record


def _message(e: BaseException) -> str:
    try:
        return str(e)
    except Exception:  # a user's __str__
        return "<its message can't be shown>"


def _traceback(e: BaseException) -> str:
    """The traceback from the user's function on; of a JudgeError the message says it all."""
    if isinstance(e, JudgeError) and e.__cause__ is None:
        return ""
    tb = e.__traceback__
    if tb is not None and tb.tb_next is not None:
        tb = tb.tb_next  # the frame of this file
    try:
        text = "".join(traceback.format_exception(type(e), e, tb))
    except Exception:  # a user's __str__ or __repr__
        text = type(e).__name__
    return text if len(text) <= MAX_TRACEBACK else text[: MAX_TRACEBACK // 2] + "\n…\n" + text[-MAX_TRACEBACK // 2 :]
