"""One process writes into a results directory at a time: a flock that dies with its holder.

Threads: acquired and released by the thread that starts or ends a run.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import os
import socket
import weakref
from pathlib import Path

import orjson

from nbrun.errors import ResultsInUseError

_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


class DirectoryLock:
    """Holds `.nbrun/lock`.

    The kernel releases a flock when the last descriptor of the open file is closed, so a killed holder never blocks
    anybody, whatever its pid is now. A forked child closes its copy at once (below): it would keep the lock alive.

    Raises:
        ResultsInUseError: says which host and process holds it, and since when.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            holder = _read_holder(self._fd)
            os.close(self._fd)
            self._fd = -1
            if e.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise ResultsInUseError(
                f"{path.parent.parent} is in use: {holder} writes there. "
                "Stop that run or use another directory; load_results works meanwhile.",
                path=str(path.parent.parent),
            ) from None
        _held.add(self)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        told = orjson.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started_at": now})
        try:
            os.pwrite(self._fd, told, 0)
            os.ftruncate(self._fd, len(told))
        except OSError:
            pass  # a full disk: the lock holds all the same, it only can't say whose it is

    def release(self) -> None:
        """Gives the directory up; does nothing the second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _held.discard(self)


def holder_of(path: Path) -> str:
    """The process that holds a directory's lock now; "" where none does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read_holder(fd).removesuffix(",")
    finally:
        os.close(fd)
    return ""


def _read_holder(fd: int) -> str:
    try:
        holder = orjson.loads(os.pread(fd, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}, since {holder['started_at']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _after_fork_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_after_fork_in_child)
