"""What becomes of a task that has come back: saved, tried again, or an error entry. The same for every pool.

Threads: called by workers, the event loop's saver and the dispatcher; a CompletedTasks belongs to one of them.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING, NamedTuple

from nbrun.errors import JudgeError, JudgeUnavailableError, NotSupportedError, UnstorableError
from nbrun.model import ErrorNote, Record, Retry, Task
from nbrun.texts import without_surrogates

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler
    from nbrun.engine.task_queue import SampleWork

MAX_TRACEBACK = 20_000


class CompletedTasks:
    """Tasks of one sample that ended since the last handing over."""

    __slots__ = ("failed", "judged_at_failure", "records", "sample", "verdicts")

    def __init__(self, sample: SampleWork) -> None:
        self.sample = sample
        self.records: list[Record] = []
        self.verdicts: list[str | None] = []  # of those that have a result
        self.failed: list[tuple[int, str]] = []  # positions that ended in an error, and its kind
        self.judged_at_failure = 0  # how many had a result when the last one failed

    def add(self, later: CompletedTasks) -> None:
        """What ended later in the same sample."""
        self.records += later.records
        self.verdicts += later.verdicts
        self.failed += later.failed


class Failure(NamedTuple):
    """A task that ended in an error: its record, the exception, and what of it is stored."""

    record: Record
    exception: BaseException
    error: dict[str, str]


def complete(scheduler: Scheduler, completed: CompletedTasks) -> None:
    """Ended tasks of one sample go to the tracker, the sink and the engine."""
    _note_success(scheduler, completed)
    if completed.records:
        scheduler.completions.complete(completed)


def after_exception(
    scheduler: Scheduler,
    sample: SampleWork,
    position: int,
    task: Task,
    e: BaseException,
    started: float,
    duration_s: float,
    worker: str,
) -> Failure | None:
    """The task will be tried again (None), or ends in an error entry, which goes to `add_failure`."""
    if scheduler.flag.is_set:
        return None  # cancelled: it stays missing, and a later run takes it up
    if isinstance(e, Retry):
        try:
            if scheduler.retry_as_asked(sample, position, task, e):
                return None
            e = _used_up(e, task)
        except UnstorableError as unstorable:  # its hint or result
            e = unstorable
    if isinstance(e, JudgeUnavailableError):
        scheduler.wait_for_judge(sample, position, message_of(e))
        return None
    policy = scheduler.retry
    retriable = isinstance(e, Exception) and not isinstance(e, policy.never) and getattr(e, "retriable", True)
    retry = Retry(f"{type(e).__name__}: {message_of(e)}", 0.0, task.hint, task.previous)
    if retriable and policy.attempts > 1 and scheduler.waits_out(sample, position, task, retry, e):
        return None
    task._exceptions += 1
    if retriable and task._exceptions < policy.attempts:
        scheduler.try_again(sample, position, task, retry, policy.wait_s(task._exceptions, scheduler.random()))
        return None
    error = {"type": type(e).__name__, "message": message_of(e), "traceback": _traceback(e)}
    printed: str = getattr(e, "worker_output", "")  # of an executor's worker
    if not printed and scheduler.output is not None:
        printed = scheduler.output.of((task.sample_id, task.group, task.index))
    if printed:
        error["output"] = printed
    record = scheduler.sink.encode(
        sample.work, position, sample.work.item(position), None, task.attempt, started, duration_s, worker, error
    )
    error = {name: without_surrogates(text) for name, text in error.items()}  # the entry says that it is lossy
    scheduler.tracker.note_error(
        ErrorNote(task.sample_id, task.group, task.index, error["type"], error["message"], error["traceback"], started)
    )
    return Failure(record, e, error)


def _used_up(e: Retry, task: Task) -> Retry:
    """The error of a task that asked for more retries than the policy allows."""
    count = task.attempt - task._exceptions
    last = Retry(f"{e.reason} (asked for a Retry {count:,} times; RetryPolicy(retries=…) allows more)")
    last.retriable = False  # type: ignore[attr-defined]
    return last


def add_failure(scheduler: Scheduler, completed: CompletedTasks, position: int, failure: Failure) -> None:
    """A task of this sample ended in an error; the run pauses where all fail alike."""
    completed.records.append(failure.record)
    completed.failed.append((position, failure.error["type"]))
    _note_success(scheduler, completed)
    if not isinstance(failure.exception, NotSupportedError):  # that is the item's doing: no reason to pause the run
        scheduler.failed(failure.exception, failure.error)


def _note_success(scheduler: Scheduler, completed: CompletedTasks) -> None:
    """Ends a row of errors, once a row."""
    if len(completed.verdicts) > completed.judged_at_failure:
        completed.judged_at_failure = len(completed.verdicts)
        scheduler.failure_detector.success()
        scheduler.outage.success()


def message_of(e: BaseException) -> str:
    """Its text, whatever a user's __str__ does."""
    try:
        return str(e)
    except Exception:  # a user's __str__
        return "<its message can't be shown>"


def _traceback(e: BaseException) -> str:
    """The traceback from the user's function on; of a JudgeError the message says it all."""
    if isinstance(e, JudgeError) and e.__cause__ is None:
        return ""
    text: str | None = getattr(e, "worker_traceback", None)  # of an executor's worker, where the error arose
    return format_error(e) if text is None else text


def format_error(e: BaseException) -> str:
    """The traceback without nbrun's own frame, cut in the middle where it is very long."""
    tb = e.__traceback__
    if tb is not None and tb.tb_next is not None:
        tb = tb.tb_next  # the frame that called fn
    try:
        text = "".join(traceback.format_exception(type(e), e, tb))
    except Exception:  # a user's __str__ or __repr__
        text = type(e).__name__
    return text if len(text) <= MAX_TRACEBACK else text[: MAX_TRACEBACK // 2] + "\n…\n" + text[-MAX_TRACEBACK // 2 :]


def stack_of(thread: threading.Thread, caller: str) -> str:
    """Where a thread is now: its frames after the last one of the file `caller`, which calls the user's function."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    frames = traceback.extract_stack(frame)
    own = [i for i, f in enumerate(frames) if f.filename == caller]
    text = "".join(traceback.format_list(frames[own[-1] + 1 if own else 0 :]))
    return f"Where it was when its time was up (most recent call last):\n{text}"
