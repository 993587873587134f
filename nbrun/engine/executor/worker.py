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
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nbrun import output
from nbrun.engine.completions import as_mapping, format_error, message_of, stack_of
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
DONE, RETRY, ERROR, WHOLE = 0, 1, 2, 3

_functions: OrderedDict[str, Any] = OrderedDict()
_samples: OrderedDict[bytes, Any] = OrderedDict()
_lock = threading.Lock()  # protects _functions and _samples; a Dask worker has several threads
_is_set_up = False


class RemoteFunction(NamedTuple):
    """The user's function, and what a worker needs to run it: exception types that are not retried, and the encoder."""

    fn: Callable[[Task], Any]
    never: tuple[type[BaseException], ...]
    encoder: RemoteEncoder


def probe(digest: str, packed: Any) -> tuple[str, str, str]:
    """Unpickle the function. Return ("ok", Python version, ""), or ("fails", exception type, message)."""
    _set_up()
    try:
        _function(digest, packed)
    except BaseException as e:
        return ("fails", type(e).__name__, message_of(e))
    return ("ok", platform.python_version(), "")


def run_chunk(digest: str, packed: Any, parts: Any, timeout_s: float | None, token: str) -> Any:
    """Run the tasks of a chunk one after another.

    Args:
        packed: the function; None if the worker is expected to have it.
        parts: a pickled list with (sample id, part of the sample or None if the item is the sample, names left out,
            tasks) for each sample; a task is (group, index, item, attempt, hint, previous). If the worker is a thread
            of the kernel's process: the list itself.
        timeout_s: how long each attempt may take.
        token: makes the arguments of every call different, for executors that cache equal calls.

    Returns:
        Pickled None if the function must be sent, else (worker, rows, written): a row for each task that was begun,
        and for each task that printed something the number of its row and a TaskOutput.
    """
    _set_up()
    plain = isinstance(parts, bytes)
    try:
        found = _function(digest, packed)
        if found is None:
            return pickle.dumps(None) if plain else None
        written: list[tuple[int, TaskOutput]] = []
        rows = _run(found, pickle.loads(parts) if plain else parts, timeout_s, output.output_of(digest), written)
        answer = (f"{socket.gethostname()}:{os.getpid()}", rows, written)
    except BaseException as e:  # nothing could be unpickled: reported as the first task's error
        answer = (f"{socket.gethostname()}:{os.getpid()}", [_error(e, (), time.time(), 0.0)], [])
    return pickle.dumps(answer, 5) if plain else answer


def _run(
    function: RemoteFunction,
    parts: Any,
    timeout_s: float | None,
    printed: RunOutput,
    written: list[tuple[int, TaskOutput]],
) -> list[tuple[Any, ...]]:
    running = output.Running(printed)
    speaks = output.speak(running)
    try:
        return _run_tasks(function, parts, timeout_s, running, written)
    finally:
        output.end_speaking(speaks)


def _run_tasks(
    function: RemoteFunction,
    parts: Any,
    timeout_s: float | None,
    running: output.Running,
    written: list[tuple[int, TaskOutput]],
) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    end = time.perf_counter() + CHUNK_S
    size = 0
    for sample_id, sample, left_out, tasks in parts:
        if isinstance(sample, bytes):
            sample = PartialSample(_sample(sample), left_out) if left_out else _sample(sample)
        for group, index, item, *before in tasks:
            if rows and (size > CHUNK_BYTES or time.perf_counter() > end):
                return rows
            task = Task(sample_id, group, index, item, item if sample is None else sample, *before)
            running.task = task
            row = _attempt(function, task) if timeout_s is None else _attempt_within(timeout_s, function, task)
            if left_out and sample.was_asked:
                row = (WHOLE,)
            if isinstance(running.output, WorkerOutput):
                taken = running.output.take(task)
                if taken is not None and row[0] != WHOLE:  # that task runs again and prints it again
                    written.append((len(rows), taken))
            elif running.output.open:
                running.output.end_lines(task)
            rows.append(row)
            if row[0] == WHOLE:
                return rows
            if row[0] == DONE:
                size += len(row[1])
    return rows


def _attempt_within(timeout_s: float, function: RemoteFunction, task: Task) -> tuple[Any, ...]:
    """Run one attempt in a thread of its own, which is abandoned at the time-out, since it can't be killed."""
    rows: list[tuple[Any, ...]] = []
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


def _attempt(function: RemoteFunction, task: Task) -> tuple[Any, ...]:
    fn, never, encoder = function
    started = time.time()
    began = time.perf_counter()
    try:
        result = fn(task)
        took = time.perf_counter() - began
        if type(result) is not dict and not isinstance(result, Mapping):
            result = as_mapping(result)
        return (DONE, *encoder.encode(result), task.attempt, started, took)
    except WholeSampleNeeded:
        return (WHOLE,)
    except Retry as e:
        try:
            extra = encoder.encode_value({"hint": dict(e.hint), "result": e.result})
            return (RETRY, str(e.reason), float(e.after_s), extra, bool(e.pause_all))
        except BaseException as unfit:
            return _error(unfit, (), started, time.perf_counter() - began)
    except BaseException as e:  # even SystemExit: it becomes the task's error and doesn't end the worker
        return _error(e, never, started, time.perf_counter() - began)


def _function(digest: str, packed: Any) -> RemoteFunction | None:
    with _lock:
        found = _functions.get(digest)
    if found is None:
        if packed is None:
            return None
        found = pickle.loads(packed) if isinstance(packed, bytes) else packed
        with _lock:
            _functions[digest] = found
            while len(_functions) > KEPT_FUNCTIONS:
                _functions.popitem(last=False)
    return found  # type: ignore[no-any-return]


def _sample(shared: bytes) -> Any:
    """Return the shared part of a sample. The most recent ones are kept, since a sample's chunks come in succession."""
    with _lock:
        found = _samples.get(shared)
    if found is None:
        found = pickle.loads(shared)
        with _lock:
            _samples[shared] = found
            while len(_samples) > KEPT_SAMPLES:
                _samples.popitem(last=False)
    return found


def _error(e: BaseException, never: tuple[type[BaseException], ...], started: float, took: float) -> tuple[Any, ...]:
    retriable = isinstance(e, Exception) and not isinstance(e, never) and bool(getattr(e, "retriable", True))
    kinds = (JudgeUnavailableError, NotSupportedError, JudgeError)
    kind = next((k.__name__ for k in kinds if isinstance(e, k)), "")
    text = "" if kind and e.__cause__ is None else format_error(e)
    return (ERROR, kind, type(e).__name__, message_of(e), text, retriable, started, took)


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


class PartialSample(dict[str, Any]):
    """The part of a sample that is sent with a chunk. `left_out`: the names of the lists that stayed in the kernel."""

    def __init__(self, part: Mapping[str, Any], left_out: frozenset[str]) -> None:
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
