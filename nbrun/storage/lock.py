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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbrun.errors import ResultsInUseError
from nbrun.storage.values import dump, load

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


class DirectoryLock:
    """Holds `.nbrun/lock`.

    The kernel releases a flock when the last descriptor of the open file is closed, so a killed holder never blocks
    anybody, whatever its pid is now. A forked child closes its copy at once (below): it would keep the lock alive.

    On a file system without flock the note in the file must do: a holder on this host that lives blocks, known by its
    pid, when it began and the machine's boot; one on another host can't be looked at.

    Attributes:
        promise: what can't be promised here, a sentence for the user; "" with a flock.

    Raises:
        ResultsInUseError: says which host and process holds it, and since when.
    """

    def __init__(self, path: Path) -> None:
        self.promise = ""
        self._by_note = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._take(path)
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        _held.add(self)
        try:
            told = dump({
                "host": socket.gethostname(), "pid": os.getpid(), "boot": _boot(), "began": _began(os.getpid()),
                "started_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            })  # fmt: skip
            os.pwrite(self._fd, told, 0)
            os.ftruncate(self._fd, len(told))
        except OSError:
            pass  # a full disk: the lock holds all the same, it only can't say whose it is

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as e:
            if e.errno in (errno.EAGAIN, errno.EACCES):
                raise self._in_use(path) from None
            if e.errno not in _NO_LOCKS:
                raise
        note = _read_note(self._fd)
        if _lives(note):
            raise self._in_use(path)
        self._by_note = True
        self.promise = f"The file system of {path.parent.parent} has no locks: see to it that one process writes there."
        if note and note.get("host") != socket.gethostname():
            self.promise += f" {_holder_text(note).capitalize()} wrote there and has not said that it ended."

    def _in_use(self, path: Path) -> ResultsInUseError:
        return ResultsInUseError(
            f"{path.parent.parent} is in use: {_holder_text(_read_note(self._fd))} writes there. "
            "Stop that run or use another directory; load_results works meanwhile.",
            path=str(path.parent.parent),
        )

    def release(self) -> None:
        """Gives the directory up; does nothing the second time."""
        if self._fd >= 0:
            if self._by_note and self._is_mine():
                try:
                    os.ftruncate(self._fd, 0)
                except OSError:
                    pass  # then it looks as if this process had died, which is soon true
            os.close(self._fd)
            self._fd = -1
        _held.discard(self)

    def _is_mine(self) -> bool:
        """Not in a forked child, which gives up its copy only."""
        return _read_note(self._fd).get("pid") == os.getpid()


@contextmanager
def kept_quiet(path: Path) -> Iterator[None]:
    """Keeps runs out of a directory while it is read, and writes nothing there. `path`: its lock, if it has one.

    Raises:
        ResultsInUseError: a run writes there.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield  # no run of nbrun's ever wrote there
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as e:
            note = _read_note(fd)
            if e.errno in (errno.EAGAIN, errno.EACCES) or (e.errno in _NO_LOCKS and _lives(note)):
                raise ResultsInUseError(
                    f"{path.parent.parent} is in use: {_holder_text(note)} writes there. Wait for the end of that run, "
                    "or stop it.", path=str(path.parent.parent),
                ) from None  # fmt: skip
            if e.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(fd)


def holder_of(path: Path) -> str:
    """The process that holds a directory's lock now; "" where none does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder_text(_read_note(fd)).removesuffix(",")
    finally:
        os.close(fd)
    return ""


def _read_note(fd: int) -> dict[str, Any]:
    try:
        note = load(os.pread(fd, 4096, 0))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _holder_text(note: Mapping[str, Any]) -> str:
    if not {"pid", "host", "started_at"} <= note.keys():
        return "another process"
    return f"process {note['pid']} on {note['host']}, since {note['started_at']},"


def _lives(note: Mapping[str, Any]) -> bool:
    """Is that very process still there? Its pid may be another's now, and the machine may have been started anew."""
    pid = note.get("pid")
    if not isinstance(pid, int) or note.get("host") != socket.gethostname() or note.get("boot") != _boot():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return bool(note.get("began") == _began(pid))


def _boot() -> str:
    """What differs after the machine was started anew; "" where that is not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks; "" where that is not told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _after_fork_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_after_fork_in_child)
