"""What runs in an executor's worker: unpacks the function once, calls it, and sends bytes and plain values back.

No user class crosses: an exception that can't be unpickled would break a process pool, a lock in a result
would leave a Dask future pending for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import threading
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from nbrun.errors import JudgeError, JudgeUnavailableError, NotSupportedError
from nbrun.model import Retry, Task
from nbrun.storage.values import encode

#: Functions that a worker keeps unpacked.
KEPT_FUNCTIONS = 8
MAX_TRACEBACK = 20_000

_functions: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()  # protects _functions; a worker of Dask's has several threads


def probe(digest: str, packed: bytes) -> tuple[str, str, str]:
    """Can this worker unpack the function? Answers "ok", or "fails" with a type and a message."""
    try:
        _function(digest, packed)
    except BaseException as e:
        return ("fails", type(e).__name__, _text(e))
    return ("ok", "", "")


def call(digest: str, packed: bytes | None, task: bytes, token: str) -> tuple[Any, ...]:
    """One attempt. `token` makes every call another one, for executors that remember equal calls.

    Returns:
        ("need",), ("result", worker, JSON), ("retry", worker, reason, after_s, JSON) or
        ("error", worker, kind, type, message, traceback, retriable).
    """
    worker = f"{socket.gethostname()}:{os.getpid()}"
    _leave_interrupts_to_the_kernel()
    try:
        found = _function(digest, packed)
        if found is None:
            return ("need",)
        fn, never = found
        result = fn(Task(**pickle.loads(task)))
        if isinstance(result, Retry):
            raise result
        if not isinstance(result, Mapping):
            result = {"value": result}
        return ("result", worker, encode(dict(result))[0])
    except Retry as e:
        try:
            extra = encode({"hint": dict(e.hint), "result": e.result})[0]
        except BaseException as unfit:
            return _error(worker, unfit, ())
        return ("retry", worker, str(e.reason), float(e.after_s), extra)
    except BaseException as e:  # SystemExit too: it is the task's, not the worker's
        return _error(worker, e, never if "never" in locals() else ())


def _function(digest: str, packed: bytes | None) -> tuple[Any, tuple[type[BaseException], ...]] | None:
    with _lock:
        found = _functions.get(digest)
    if found is None:
        if packed is None:
            return None
        found = pickle.loads(packed)
        with _lock:
            _functions[digest] = found
            while len(_functions) > KEPT_FUNCTIONS:
                _functions.popitem(last=False)
    return found  # type: ignore[no-any-return]


def _error(worker: str, e: BaseException, never: tuple[type[BaseException], ...]) -> tuple[Any, ...]:
    retriable = isinstance(e, Exception) and not isinstance(e, never) and bool(getattr(e, "retriable", True))
    kinds = (JudgeUnavailableError, NotSupportedError, JudgeError)
    kind = next((k.__name__ for k in kinds if isinstance(e, k)), "")
    tb = e.__traceback__
    if tb is not None and tb.tb_next is not None:
        tb = tb.tb_next  # the frame of this file
    try:
        text = "".join(traceback.format_exception(type(e), e, tb))
    except Exception:  # a user's __str__ or __repr__
        text = type(e).__name__
    if kind and e.__cause__ is None:
        text = ""
    return ("error", worker, kind, type(e).__name__, _text(e), text[-MAX_TRACEBACK:], retriable)


def _text(e: BaseException) -> str:
    try:
        return str(e)
    except Exception:  # a user's __str__
        return "<its message can't be shown>"


def _leave_interrupts_to_the_kernel() -> None:
    """A notebook's stop button signals the whole process group: a pool's child must not die of it."""
    is_child = multiprocessing.parent_process() is not None
    if is_child and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
