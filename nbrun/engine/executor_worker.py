"""The code that runs in an executor's worker: unpickles fn once and calls it for each task of a chunk.

Results and errors never contain the user's classes: an exception that can't be unpickled would break a process pool,
and a lock in a result would leave a Dask future pending for ever. A chunk ends early after CHUNK_S or CHUNK_BYTES; the
tasks that it had not begun are sent again.
"""

from __future__ import annotations

import contextvars
import os
import pickle
import platform
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeVar

from nbrun import output
from nbrun.engine.worker_pool import as_mapping, format_error, is_retriable, message_of, stack_of
from nbrun.errors import JudgeError, JudgeUnavailableError, NotSupportedError, TaskTimeout, ThreadLimitError
from nbrun.model import RemoteEncoder, Retry, Task
from nbrun.output import RunOutput, TaskOutput, WorkerOutput
from nbrun.threads import start_daemon

#: How many functions and samples a worker keeps unpickled.
KEPT_FUNCTIONS, KEPT_SAMPLES = 8, 2
#: A chunk begins no further task after this many seconds, or this many bytes of results.
CHUNK_S, CHUNK_BYTES = 0.2, 4 << 20
#: How often a child checks whether its parent is alive, in seconds, if it has no sentinel to wait for.
LOOK_S = 0.5
#: The first element of a row: a result, a Retry, an exception, or fn needs the whole sample.
DONE: Final = 0
RETRY: Final = 1
ERROR: Final = 2
WHOLE: Final = 3
#: What became of one attempt, as it is sent to the kernel: plain tuples, which are pickled in a third of the time.
#: (DONE, data, lossy, verdict, api_used, attempt, started, seconds): see EncodedResult.
DoneRow = tuple[Literal[0], bytes, bool, str | None, str, int, float, float]
#: (RETRY, reason, after_s, hint and result as one value, pause_all, started, seconds)
RetryRow = tuple[Literal[1], str, float, bytes, bool, float, float]
#: (ERROR, judge's error or "", exception type, message, traceback, may be retried, started, seconds)
ErrorRow = tuple[Literal[2], str, str, str, str, bool, float, float]
WholeRow = tuple[Literal[3]]
Row = DoneRow | RetryRow | ErrorRow | WholeRow
#: A task: group, index, item, then for all but a first attempt also attempt, hint and previous, and in the kernel's own
#: process the run's CancelFlag.
TaskPart = tuple[Any, ...]
#: A sample's tasks in a chunk: sample id, the sample's part (pickled, itself in the kernel's own process, or None where
#: the item is the sample), the names left out of it, and the tasks.
SamplePart = tuple[str, bytes | Mapping[str, object] | None, frozenset[str], list[TaskPart]]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_functions: OrderedDict[str, RemoteFunction] = OrderedDict()
_samples: OrderedDict[bytes, Mapping[str, object]] = OrderedDict()
_lock = threading.Lock()  # protects _functions and _samples; a Dask worker has several threads
_is_set_up = False


class RemoteFunction(NamedTuple):
    """The user's function, and what a worker needs to run it: exception types that are not retried, and the encoder."""

    fn: Callable[[Task], object]
    never: tuple[type[BaseException], ...]
    encoder: RemoteEncoder


def probe(digest: str, packed: bytes | RemoteFunction | None) -> tuple[str, str, str]:
    """Unpickle the function. Return ("ok", Python version, ""), or ("fails", exception type, message)."""
    _set_up()
    try:
        _function(digest, packed)
    except BaseException as e:
        return ("fails", type(e).__name__, message_of(e))
    return ("ok", platform.python_version(), "")


def run_chunk(
    digest: str,
    packed: bytes | RemoteFunction | None,
    parts: bytes | list[SamplePart],
    timeout_s: float | None,
    token: str,
) -> bytes | tuple[str, list[Row], list[tuple[int, TaskOutput]]] | None:
    """Run the tasks of a chunk one after another.

    Args:
        packed: the function; None if the worker is expected to have it.
        parts: a pickled list of SampleParts. If the worker is a thread of the kernel's process: the list itself.
        timeout_s: how long each attempt may take.
        token: makes the arguments of every call different, for executors that cache equal calls.

    Returns:
        Pickled None if the function must be sent, else (worker, rows, written): a row for each task that was begun,
        and for each task that printed something the number of its row and a TaskOutput.
    """
    _set_up()
    try:
        found = _function(digest, packed)
        if found is None:
            return pickle.dumps(None) if isinstance(parts, bytes) else None
        unpacked: list[SamplePart] = pickle.loads(parts) if isinstance(parts, bytes) else parts
        rows, written = _run(found, unpacked, timeout_s, output.output_of(digest))
        answer = (f"{socket.gethostname()}:{os.getpid()}", rows, written)
    except BaseException as e:  # nothing could be unpickled: reported as the first task's error
        answer = (f"{socket.gethostname()}:{os.getpid()}", [_error(e, (), time.time(), 0.0)], [])
    return pickle.dumps(answer, 5) if isinstance(parts, bytes) else answer


def _run(
    function: RemoteFunction,
    parts: list[SamplePart],
    timeout_s: float | None,
    printed: RunOutput,
) -> tuple[list[Row], list[tuple[int, TaskOutput]]]:
    """Return the rows of the tasks that were begun, and what they have printed: see run_chunk."""
    token = output.set_writer(None)
    rows: list[Row] = []
    written: list[tuple[int, TaskOutput]] = []
    end = time.perf_counter() + CHUNK_S
    size = 0
    try:
        for task, partial in _tasks(parts):
            if rows and (size > CHUNK_BYTES or time.perf_counter() > end):
                break
            output.set_writer(output.Writer(printed, task))
            row = _row_of(function, task, partial, timeout_s)
            taken = _take_output(printed, task)
            rows.append(row)
            if row[0] == WHOLE:  # this task runs again, and prints again what it has printed
                break
            if taken is not None:
                written.append((len(rows) - 1, taken))
            if row[0] == DONE:
                size += len(row[1])
    finally:
        output.reset_writer(token)
    return rows, written


def _row_of(function: RemoteFunction, task: Task, partial: PartialSample | None, timeout_s: float | None) -> Row:
    row = _attempt(function, task) if timeout_s is None else _attempt_within(timeout_s, function, task)
    return (WHOLE,) if partial is not None and partial.was_asked else row


def _tasks(parts: list[SamplePart]) -> Iterator[tuple[Task, PartialSample | None]]:
    """Yield each task of a chunk, with its sample where that lacks parts that stayed in the kernel."""
    for sample_id, part, left_out, tasks in parts:
        sample = _sample(part) if isinstance(part, bytes) else part
        partial = PartialSample(sample, left_out) if sample is not None and left_out else None
        shown = sample if partial is None else partial
        for group, index, item, *before in tasks:
            yield Task(sample_id, group, index, item, item if shown is None else shown, *before), partial


def _take_output(printed: RunOutput, task: Task) -> TaskOutput | None:
    """Return what a task that has ended has printed, unless the kernel has it already."""
    if isinstance(printed, WorkerOutput):
        return printed.take(task)
    if printed.open:
        printed.end_lines(task)
    return None


def _attempt_within(timeout_s: float, function: RemoteFunction, task: Task) -> Row:
    """Run one attempt in a thread of its own, which is abandoned at the time-out, since it can't be killed."""
    rows: list[Row] = []
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=lambda: rows.append(context.run(_attempt, function, task)), name="nbrun-attempt", daemon=True
    )
    started = time.time()
    try:
        thread.start()
    except RuntimeError:  # no thread can be started: better without a limit than not at all
        return _attempt(function, task)
    thread.join(timeout_s)
    if rows:
        return rows[0]
    message = f"the attempt took longer than timeout_s={timeout_s:g}"
    return (ERROR, "", TaskTimeout.__name__, message, stack_of(thread, __file__), True, started, timeout_s)


def _attempt(function: RemoteFunction, task: Task) -> Row:
    fn, never, encoder = function
    started = time.time()
    began = time.perf_counter()
    try:
        result = fn(task)
        took = time.perf_counter() - began
        return (DONE, *encoder.encode(as_mapping(result)), task.attempt, started, took)
    except WholeSampleNeeded:
        return (WHOLE,)
    except Retry as e:
        took = time.perf_counter() - began
        try:
            extra = encoder.encode_value({"hint": dict(e.hint), "result": e.result})
            return (RETRY, str(e.reason), float(e.after_s), extra, bool(e.pause_all), started, took)
        except BaseException as unfit:
            return _error(unfit, (), started, took)
    except BaseException as e:  # even SystemExit: it becomes the task's error and doesn't end the worker
        return _error(e, never, started, time.perf_counter() - began)


def _function(digest: str, packed: bytes | RemoteFunction | None) -> RemoteFunction | None:
    """Return the function of a run; None where it has to be sent."""
    with _lock:
        found = _functions.get(digest)
    if found is not None or packed is None:
        return found
    return _keep(_functions, digest, pickle.loads(packed) if isinstance(packed, bytes) else packed, KEPT_FUNCTIONS)


def _sample(shared: bytes) -> Mapping[str, object]:
    """Return the shared part of a sample. The most recent ones are kept, since a sample's chunks come in succession."""
    with _lock:
        found = _samples.get(shared)
    return _keep(_samples, shared, pickle.loads(shared), KEPT_SAMPLES) if found is None else found


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> _Value:
    """Keep a value for later chunks, instead of the oldest where there are more than `most`. Return it."""
    with _lock:
        kept[key] = value
        while len(kept) > most:
            kept.popitem(last=False)
    return value


def _error(e: BaseException, never: tuple[type[BaseException], ...], started: float, took: float) -> ErrorRow:
    kinds = (JudgeUnavailableError, NotSupportedError, JudgeError)
    kind = next((k.__name__ for k in kinds if isinstance(e, k)), "")
    text = "" if kind and e.__cause__ is None else format_error(e)
    return (ERROR, kind, type(e).__name__, message_of(e), text, is_retriable(e, never), started, took)


def _set_up() -> None:
    """Set up a pool's child process, once: it ignores the stop button, and ends when the kernel does.

    A notebook's stop button signals the whole process group. Without this, after a SIGKILL of the kernel, a pool's
    children would wait for work for ever, since each holds both ends of the pipe.
    """
    global _is_set_up
    multiprocessing = sys.modules.get("multiprocessing")  # loaded in any child that it started
    parent = None if multiprocessing is None else multiprocessing.parent_process()
    if _is_set_up or parent is None or "distributed.worker" in sys.modules:
        return
    _is_set_up = True
    output.install()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        start_daemon(_end_with, "nbrun-parent-watch", (parent,))
    except ThreadLimitError:  # then it outlives a kernel that is killed, as any pool's child does
        pass


def _end_with(parent: Any) -> None:
    if getattr(parent, "_sentinel", None) is not None:
        parent.join()
    else:  # loky's processes have no sentinel
        while os.getppid() == parent.pid:
            time.sleep(LOOK_S)
    os._exit(1)


class WholeSampleNeeded(BaseException):
    """fn asked for a part of the sample that wasn't sent. A BaseException: fn's `except Exception` lets it pass."""


class PartialSample(dict[str, object]):
    """The part of a sample that is sent with a chunk. `left_out`: the names of the lists that stayed in the kernel."""

    def __init__(self, part: Mapping[str, object], left_out: frozenset[str]) -> None:
        super().__init__(part)
        self.left_out = left_out
        self.was_asked = False  # a bare `except:` may have swallowed the exception

    def _ask(self) -> Any:
        self.was_asked = True
        raise WholeSampleNeeded

    def __missing__(self, name: Any) -> Any:
        if name in self.left_out:
            self._ask()
        raise KeyError(name)

    def get(self, name: Any, default: Any = None) -> Any:
        if name in self.left_out:
            self._ask()
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self.left_out or super().__contains__(name)

    def _whole(self, *args: Any, **more: Any) -> Any:
        self._ask()

    __iter__ = __len__ = __eq__ = __or__ = __ror__ = __reversed__ = __repr__ = __reduce_ex__ = _whole
    keys = values = items = copy = _whole
    __hash__ = None
