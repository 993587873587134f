"""What runs in an executor's worker: unpacks the function once, calls it for each task of a chunk, sends bytes back.

No class of the user's crosses: an exception that can't be unpickled would break a process pool, and a lock in a result
would leave a Dask future pending for ever. A chunk ends early when its time is up or its results are many bytes; tasks
that it had not begun go to other workers.
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

#: Functions and samples that a worker keeps unpacked.
KEPT_FUNCTIONS, KEPT_SAMPLES = 8, 2
#: A chunk begins no further task after this many seconds, or this many bytes of results.
CHUNK_S, CHUNK_BYTES = 0.2, 4 << 20
#: How often a child checks whether its parent lives, in seconds, where the system doesn't signal its death.
LOOK_S = 0.5
#: What a row begins with: a result; a Retry; an exception; fn looked for the groups in the sample.
DONE, RETRY, ERROR, WHOLE = 0, 1, 2, 3

_functions: OrderedDict[str, Any] = OrderedDict()
_samples: OrderedDict[bytes, Any] = OrderedDict()
_lock = threading.Lock()  # protects both; a worker of Dask's has several threads
_is_set_up = False


class RemoteFunction(NamedTuple):
    """The user's function, and what a worker needs to run it: exception types that are not retried, and the encoder."""

    fn: Callable[[Task], Any]
    never: tuple[type[BaseException], ...]
    encoder: RemoteEncoder


def probe(digest: str, packed: Any) -> tuple[str, str, str]:
    """Can this worker unpack the function? Answers "ok" and its Python, or "fails" with a type and a message."""
    _set_up()
    try:
        _function(digest, packed)
    except BaseException as e:
        return ("fails", type(e).__name__, message_of(e))
    return ("ok", platform.python_version(), "")


def run_chunk(digest: str, packed: Any, parts: Any, timeout_s: float | None, token: str) -> Any:
    """Runs tasks one after another.

    Args:
        packed: the function; None where the worker is believed to have it.
        parts: pickled: (sample id, part of the sample or None where it is the item, names left out, tasks) for each
            sample; a task is (group, index, item, attempt, hint, previous). In the kernel's process the list itself.
        timeout_s: how long each attempt may take.
        token: makes every call another one, for executors that remember equal calls.

    Returns:
        Pickled None where the function is needed, else (worker, rows, written): a row for each task that was begun,
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
    except BaseException as e:  # nothing could be unpacked: reported as the first task's error
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
                if taken is not None and row[0] != WHOLE:  # that one runs again and prints it again
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
    """The same in a thread of its own, which is left to itself when the time is up: it can't be killed."""
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
    except BaseException as e:  # SystemExit too: it is the task's, not the worker's
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
    """The shared part of a sample; the last ones are kept, since their chunks come one after another."""
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
    """Once a process: the stop button leaves a pool's child alone, and the child ends with the kernel.

    A notebook's stop button signals the whole process group. After a SIGKILL of the kernel a pool's children would wait
    for work for ever, since each holds both ends of the pipe.
    """
    global _is_set_up
    multiprocessing = sys.modules.get("multiprocessing")  # a child that it started has loaded it
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
    else:  # loky's report nothing
        while os.getppid() == parent.pid:
            time.sleep(LOOK_S)
    os._exit(1)


class WholeSampleNeeded(BaseException):
    """fn asked for what didn't travel. No Exception, so that a function's own `except` doesn't swallow it."""


class PartialSample(dict[str, Any]):
    """What of a sample goes with each chunk. `left_out`: the names of the lists that stayed with the kernel."""

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
