"""Start the package's own threads, with a clear error if the system can start no more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nbrun.errors import ThreadLimitError


def start_daemon(target: Callable[..., Any], name: str, args: tuple[Any, ...] = ()) -> threading.Thread:
    """Start a daemon thread.

    Raises:
        ThreadLimitError: the system starts no more threads.
    """
    thread = threading.Thread(target=target, name=name, args=args, daemon=True)
    start_thread(thread)
    return thread


def start_thread(thread: threading.Thread) -> None:
    """Start an existing thread object.

    Raises:
        ThreadLimitError: the system starts no more threads.
    """
    try:
        thread.start()
    except (RuntimeError, MemoryError) as e:  # "can't start new thread"
        raise ThreadLimitError(
            f"This process can start no more threads ({e}). End other runs or kernels, use fewer workers, or raise the "
            "limit (ulimit -u, or the container's pids limit)."
        ) from e
