"""What the end of the interpreter means for tasks that run in an executor: told once, when a run starts.

The queue is always cancelled (handle.py). What becomes of the tasks under way is up to the kind of executor.
Threads: `notice` is called by the thread that starts a run; `_lock` protects `_told`.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from nbrun.engine.executor.payload import is_thread

_ENDED = "a task under way in it is ended too, and runs again at the next start"
_LEFT = "a task under way there is not waited for, and runs again at the next start"
_WAITED = "a task under way is waited for, however long it takes"
_WAITED_A_LITTLE = "a task under way is waited for until Jupyter kills the kernel, seconds later, and then runs again"
_BY_FACTORY = " (to have it ended instead, give a function that makes the executor: executor=lambda: ...)"
_UNKNOWN = "it is the executor's choice to wait for a task under way; without its result that runs again"

_lock = threading.Lock()
_shown: set[str] = set()


def takes_kernel_along(executor: Any) -> bool:
    """Does a task that ends its process end the kernel too?"""
    return _kind(executor) == "mpi4py" or is_thread(executor)


def shutdown_notice(executor: Any, is_owned: bool) -> str:
    """The sentence for the user; empty where this process has said it before."""
    said = _sentence(executor, is_owned)
    with _lock:
        if said in _shown:
            return ""
        _shown.add(said)
    return said


def _sentence(executor: Any, is_owned: bool) -> str:
    is_kernel = "ipykernel" in sys.modules
    kind = _kind(executor)
    if kind == "distributed":
        then = _LEFT
    elif hasattr(executor, "_processes"):  # a process pool, loky; at its end a notebook's kernel ends all its children
        then = _ENDED if is_owned or is_kernel else _WAITED + _BY_FACTORY
    elif kind == "mpi4py" or is_thread(executor):
        then = _WAITED_A_LITTLE if is_kernel else _WAITED
    else:
        then = _UNKNOWN
    what = "kernel" if is_kernel else "program"
    return f"When this {what} ends, what is saved stays, what waits in the executor is cancelled, and {then}."


def _kind(executor: Any) -> str:
    """The package that it comes from."""
    return type(executor).__module__.partition(".")[0]
