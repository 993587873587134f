"""What a worker sent back -> results for the sink, retries and errors for the engine. The dispatcher's thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nbrun.engine.completions import CompletedTasks, add_failure, after_exception, complete
from nbrun.engine.executor.worker import DONE, RETRY
from nbrun.engine.task_queue import Item
from nbrun.errors import JudgeError, JudgeUnavailableError, NotSupportedError
from nbrun.model import Retry
from nbrun.storage.entry import EncodedResult
from nbrun.storage.values import decode, load

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler

_KINDS = {k.__name__: k for k in (JudgeUnavailableError, NotSupportedError, JudgeError)}
_types: dict[str, Any] = {}


class WorkerLostError(RuntimeError):
    """The worker that ran this task was lost again and again, at last with nothing running beside it."""

    retriable = False


def settle(scheduler: Scheduler, items: list[Item], worker: str, rows: list[tuple[Any, ...]]) -> float:
    """Hands over what came of the first tasks of a chunk. Returns the longest one's seconds."""
    encode = scheduler.sink.encode
    completed: CompletedTasks | None = None
    longest = 0.0
    for (work, position), row in zip(items, rows, strict=False):
        if completed is None or work is not completed.sample:
            if completed is not None:
                complete(scheduler, completed)
            completed = CompletedTasks(work)
        if row[0] == DONE:
            _, data, lossy, verdict, api_used, attempt, started, took = row
            result = EncodedResult(data, lossy, verdict, api_used)
            item = work.work.item(position)
            completed.records.append(encode(work.work, position, item, result, attempt, started, took, worker))
            completed.verdicts.append(verdict)
            longest = took if took > longest else longest
        else:
            started, took = (time.time(), 0.0) if row[0] == RETRY else row[-2:]
            task = work.work.task(position, scheduler.flag)
            failure = after_exception(scheduler, work, position, task, exception_of(row), started, took, worker)
            if failure is not None:
                add_failure(scheduler, completed, position, failure)
            longest = max(longest, took)
    if completed is not None:
        complete(scheduler, completed)
    return longest


def fail(scheduler: Scheduler, item: Item, e: BaseException) -> None:
    """A task that no worker could answer for ends in an error."""
    sample, position = item
    task = sample.work.task(position, scheduler.flag)
    failure = after_exception(scheduler, sample, position, task, e, time.time(), 0.0, "")
    if failure is not None:
        completed = CompletedTasks(sample)
        add_failure(scheduler, completed, position, failure)
        complete(scheduler, completed)


def exception_of(row: tuple[Any, ...]) -> BaseException:
    """What fn raised, as far as that can be told without its class."""
    if row[0] == RETRY:
        extra = decode(load(row[3]))
        return Retry(row[1], row[2], extra["hint"], extra["result"], row[4])
    _, kind, name, message, text, retriable, printed, _, _ = row
    e: Any = _KINDS[kind](message) if kind else _error_type(name)(message)
    e.retriable, e.worker_traceback, e.worker_output = retriable, text, printed
    return e  # type: ignore[no-any-return]


def _error_type(name: str) -> Any:
    """An exception type of that name, the same each time; the user's class stays where it was raised."""
    return _types.setdefault(name, type(name, (Exception,), {}))
