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
from nbrun.errors import JudgeError, JudgeUnavailableError, NotSupportedError, UnstorableError
from nbrun.model import Retry, SinkClosedError, Task
from nbrun.progress import ErrorNote

if TYPE_CHECKING:
    from nbrun.engine.engine import Engine

BATCH_S = 0.002
BATCH_NS = 2_000_000
MAX_BATCH = 128
#: What a task costs beside fn, roughly.
OVERHEAD_S = 5e-6
MAX_TRACEBACK = 20_000


class _Ended:
    """Tasks of one sample that ended since the last handing over."""

    __slots__ = ("failed", "judged_at_failure", "records", "sample", "verdicts")

    def __init__(self, sample: SampleWork) -> None:
        self.sample = sample
        self.records: list[Any] = []
        self.verdicts: list[str | None] = []  # of those that have a result
        self.failed: list[tuple[int, str]] = []  # positions that ended in an error, and its kind
        self.judged_at_failure = 0  # how many had a result when the last one failed


class Worker:
    """One thread.

    Threads: `batch` is a deque whose single operations are atomic: its owner takes from the left, thieves from the
    right, and who gets a task runs it. `_kept` is a list of one element at most, whose pop and append are atomic: who
    pops it hands it over, the owner or, while a task takes long, the watch. `current` is written by the owner, read by
    views and by stop; `is_busy` and `runs_last` are the engine's, under its lock.
    """

    def __init__(self, engine: Engine, number: int, name: str, slot: int) -> None:
        self.engine, self.name, self.slot = engine, name, slot
        self.batch: deque[Item] = deque()
        self._kept: list[_Ended] = []
        self.is_busy = self.runs_last = False
        self.current: tuple[SampleWork, Task] | None = None
        self.since = 0  # when `current` began, on perf_counter_ns's clock
        self.mean_s = BATCH_S  # the mean duration of its recent tasks
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
            self._hand_over(ended)

    def _refuse_in_child(self) -> None:
        """A task may have forked and returned, or raised, in the child too: its thread ends there, and the child."""
        if self.engine.is_forked:
            raise SinkClosedError("this process is a child of the one that runs the task")

    def _take_kept(self) -> _Ended | None:
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def _run(self) -> None:
        engine = self.engine
        try:
            while engine.take(self):
                if self.runs_last:
                    engine.sink.flush()  # it may take the process with it
                engine.sink.begin_tasks(self.slot, b"".join([s.work.mark(p) for s, p in list(self.batch)]))
                self._work()
        except SinkClosedError:  # the run was stopped: late results are discarded
            pass
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            engine.broke(e)
        finally:
            engine.left(self)

    def _work(self) -> None:
        """Runs what stands in `batch`. The clock is read twice a task and nothing is made that isn't needed."""
        engine, batch, fn, kept = self.engine, self.batch, self.engine.fn, self._kept
        encode, flag, name = engine.sink.encode, engine.flag, self.name
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
                engine.give_back(self)
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
                    if isinstance(result, Retry):
                        raise result
                    result = {"value": result}
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
                    ended = _Ended(sample)
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
            self.mean_s += 0.5 * (busy / count / 1e9 - self.mean_s)

    def _hand_over(self, ended: _Ended) -> None:
        """Ended tasks of one sample go to the board, the sink and the engine."""
        engine, sample = self.engine, ended.sample
        self._tell_success(ended)
        engine.board.record(sample.work.number, ended.verdicts, [kind for _, kind in ended.failed])
        engine.sink.put(sample.work, ended.records)
        engine.ended(sample, len(ended.records), ended.failed)

    def _after_exception(
        self, sample: SampleWork, position: int, task: Task, e: BaseException, started: float, duration_s: float
    ) -> None:
        """The task will be tried again, or ends in an error entry."""
        self._refuse_in_child()
        engine = self.engine
        if engine.flag.is_set:
            return  # cancelled: it stays missing, and a later run takes it up
        if isinstance(e, Retry):
            try:
                engine.try_again(sample, position, task, e, e.after_s)
                return
            except UnstorableError as unstorable:  # its hint or result
                e = unstorable
        if isinstance(e, JudgeUnavailableError):
            engine.wait_for_judge(sample, position, _message(e))
            return
        policy = engine.retry
        retriable = isinstance(e, Exception) and not isinstance(e, policy.never) and getattr(e, "retriable", True)
        if retriable and task.attempt < policy.attempts:
            retry = Retry(f"{type(e).__name__}: {_message(e)}", 0.0, task.hint, task.previous)
            engine.try_again(sample, position, task, retry, policy.wait_s(task.attempt, engine.random()))
            return
        error = {"type": type(e).__name__, "message": _message(e), "traceback": _traceback(e)}
        record, _ = engine.sink.encode(sample.work, position, None, task.attempt, started, duration_s, self.name, error)
        engine.board.note_error(
            ErrorNote(
                task.sample_id, task.group, task.index, error["type"], error["message"], error["traceback"], started
            )
        )
        ended = self._take_kept() or _Ended(sample)
        ended.records.append(record)
        ended.failed.append((position, error["type"]))
        self._tell_success(ended)
        self._kept.append(ended)
        if not isinstance(e, NotSupportedError):  # that is the item's doing: no reason to pause the run
            engine.failed(e, error)

    def _tell_success(self, ended: _Ended) -> None:
        """Ends a row of errors, once a row."""
        if len(ended.verdicts) > ended.judged_at_failure:
            ended.judged_at_failure = len(ended.verdicts)
            self.engine.streak = 0
            self.engine.any_success = True


def _message(e: BaseException) -> str:
    try:
        return str(e)
    except Exception:  # a user's __str__
        return "<its message can't be shown>"


def _traceback(e: BaseException) -> str:
    """The traceback from the user's function on; of a JudgeError the message says it all."""
    if isinstance(e, JudgeError) and e.__cause__ is None:
        return ""
    text: str | None = getattr(e, "far_traceback", None)  # of an executor's worker, where the error arose
    if text is not None:
        return text
    tb = e.__traceback__
    if tb is not None and tb.tb_next is not None:
        tb = tb.tb_next  # the frame of this file
    try:
        text = "".join(traceback.format_exception(type(e), e, tb))
    except Exception:  # a user's __str__ or __repr__
        text = type(e).__name__
    return text if len(text) <= MAX_TRACEBACK else text[: MAX_TRACEBACK // 2] + "\n…\n" + text[-MAX_TRACEBACK // 2 :]
