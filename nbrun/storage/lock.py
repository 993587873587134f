"""The lock of a results directory: one process writes there at a time, and its lock ends with it.

The lock is a flock. Windows has none: there msvcrt locks one byte of the lock's file, far behind its content. That ends
with the process too, but the folder itself is not locked, and two readers that keep runs out can't share the lock.

Threads: acquired and released by the thread that starts or ends a run.
"""

from __future__ import annotations

import datetime as dt
import errno
import importlib
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nbrun.errors import ResultsInUseError, StorageError
from nbrun.results import plain_files
from nbrun.results.format import FOLDER, JsonObject
from nbrun.results.values import dump, load
from nbrun.storage import files
from nbrun.texts import escape_control_chars

fcntl: Any  # None on Windows
msvcrt: Any  # None elsewhere
try:
    fcntl, msvcrt = importlib.import_module("fcntl"), None
except ImportError:
    fcntl, msvcrt = None, importlib.import_module("msvcrt")

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_IS_HELD = {errno.EAGAIN, errno.EACCES}
#: How often, and how many seconds apart, a lock is tried that somebody else holds.
TRIES, PAUSE_S = 4, 0.01
#: Which byte is locked on Windows, where no other process can read a locked byte.
LOCKED_BYTE = 1 << 30
_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def host_name() -> str:
    """Return the name of this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # loads slowly

    return socket.gethostname()


class DirectoryLock:
    """Holds `.nbrun/lock`.

    The kernel releases a flock when the last descriptor of the open file is closed, so a killed holder never blocks
    another process, whatever its pid is now. A forked child closes its copy immediately (see below): it would keep the
    lock alive.

    The results directory itself is locked too, where its file system can do that: so no run starts there when `.nbrun`
    was removed under a live run, which would make a new file to lock.

    On a file system without flock the note in the file decides: a holder on this host that is alive blocks, identified
    by its pid, its start and the machine's boot; one on another host can't be checked.

    Attributes:
        lock_caveat: what this file system can't promise, a sentence for the user; "" with a flock.

    Raises:
        ResultsInUseError: says which host and process holds it, and since when.
    """

    def __init__(self, path: Path) -> None:
        self.lock_caveat = ""
        self._by_note = False
        self._path = path
        self._fd = self._around = -1
        try:
            self._lock_around()
            self._lock()
        except BaseException:
            self._close()
            raise
        _held.add(self)

    def renew(self) -> None:
        """Lock again after the lock's file was removed and its folder made again. Raise as the constructor does."""
        before, self._fd = self._fd, -1
        try:
            self._lock()
        except BaseException:
            self._fd = before
            raise
        if before >= 0:
            plain_files.close(before)

    def _lock_around(self) -> None:
        if self._path.parent.name != FOLDER or not plain_files.OPENS_FOLDERS:
            return
        self._around = os.open(self._path.parent.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock_now(self._around)
        except OSError as e:
            if e.errno in _IS_HELD:
                raise in_use(self._path, _note_of(self._path)) from None
            if e.errno not in _NO_LOCKS | {errno.EBADF}:
                raise
            plain_files.close(self._around)  # NFS locks no folders
            self._around = -1

    def _lock(self) -> None:
        fd = files.open_plain(self._path, os.O_RDWR | os.O_CREAT)
        try:
            self._take(fd)
        except BaseException:
            plain_files.close(fd)
            raise
        self._fd = fd
        try:
            if os.fstat(fd).st_nlink > 1:
                return  # the file has another name elsewhere: it can be locked, and must not be written
            note = dump(
                {
                    "host": host_name(),
                    "pid": os.getpid(),
                    "boot": _boot(),
                    "began": _began(os.getpid()),
                    "started_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                    "notebook": _notebook(),
                }
            )
            files.pwrite(self._fd, note, 0)
            os.ftruncate(self._fd, len(note))
        except OSError:
            pass  # a full disk: the lock holds all the same, but it can't name its holder

    def _take(self, fd: int) -> None:
        path, note = self._path, _read_note(fd)
        try:
            _lock_now(fd)
            return
        except OSError as e:
            if e.errno in _IS_HELD:
                raise in_use(path, _read_note(fd)) from None
            if e.errno not in _NO_LOCKS:
                raise
        if _lives(note):
            raise in_use(path, note)
        self._by_note = True
        self.lock_caveat = (
            f"The file system of {path.parent.parent} has no locks: make sure that only one process writes there."
        )
        if note and note.get("host") != host_name():
            self.lock_caveat += f" {_holder_text(note).capitalize()} wrote there and has not said that it ended."

    def release(self) -> None:
        """Release the lock; do nothing the second time."""
        # a forked child only closes its copy
        if self._fd >= 0 and self._by_note and _read_note(self._fd).get("pid") == os.getpid():
            with suppress(OSError):  # else the note looks as if this process had died, which is soon true
                os.ftruncate(self._fd, 0)
        self._close()
        _held.discard(self)

    def _close(self) -> None:
        fds = self._fd, self._around
        self._fd = self._around = -1
        for fd in fds:
            if fd >= 0:
                plain_files.close(fd)


@contextmanager
def kept_quiet(path: Path) -> Iterator[None]:
    """Keep runs out of a directory while it is read, and write nothing there. `path`: its lock, if it has one.

    Raises:
        ResultsInUseError: a run writes there.
    """
    try:
        fd = plain_files.open_plain(path)
    except (FileNotFoundError, NotADirectoryError):
        yield  # no run of nbrun has written there
        return
    except plain_files.NotPlainError as e:
        raise StorageError(f"{path} {e.strerror}. Nothing was read.", path=str(path.parent.parent)) from e
    try:
        _share(path, fd)
        yield
    finally:
        plain_files.close(fd)


def _share(path: Path, fd: int) -> None:
    """Lock beside others that only read. Raise ResultsInUseError."""
    try:
        _lock_now(fd, shared=True)
    except OSError as e:
        note = _read_note(fd)
        if e.errno in _IS_HELD or (e.errno in _NO_LOCKS and _lives(note)):
            raise in_use(path, note, "Wait for the end of that run, or stop it.") from None
        if e.errno not in _NO_LOCKS:
            raise


def holder_of(path: Path) -> str:
    """Return a text that names the process holding a directory's lock now; "" where none does."""
    try:
        file = plain_files.open_reading(path, buffering=0)
    except OSError:
        return ""
    with file:
        try:
            _try_lock(file.fileno(), shared=True)
        except OSError:
            return _holder_text(_read_note(file.fileno())).removesuffix(",")
    return ""


_FOR_A_RUN = "Stop that run or use another directory; load_results works meanwhile."


def in_use(path: Path, note: Mapping[str, object], advice: str = _FOR_A_RUN) -> ResultsInUseError:
    """Return the error for a process that finds the lock at `path` held."""
    results = path.parent.parent
    return ResultsInUseError(f"{results} is in use: {_holder_text(note)} writes there. {advice}", path=str(results))


def _try_lock(fd: int, *, shared: bool = False) -> None:
    """Lock without waiting, or raise OSError. The lock is released when the descriptor is closed."""
    if fcntl is not None:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    else:
        os.lseek(fd, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)


def _lock_now(fd: int, *, shared: bool = False) -> None:
    """Lock or raise OSError. A process that only checks the lock holds it for a moment, so a few tries are made."""
    for tries_left in range(TRIES - 1, -1, -1):
        try:
            _try_lock(fd, shared=shared)
            return
        except OSError as e:
            if e.errno not in _IS_HELD or not tries_left:
                raise
            time.sleep(PAUSE_S)


def _note_of(path: Path) -> JsonObject:
    try:
        with plain_files.open_reading(path, buffering=0) as file:
            return _read_note(file.fileno())
    except OSError:
        return {}


def _read_note(fd: int) -> JsonObject:
    try:
        note = load(plain_files.pread(fd, 4096, 0))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _holder_text(note: Mapping[str, object]) -> str:
    if not {"pid", "host", "started_at"} <= note.keys():
        return "another process"
    notebook = f"the notebook {note['notebook']} (" if note.get("notebook") else ""
    process = f"process {note['pid']} on {note['host']}, since {note['started_at']}"
    text = f"{notebook}{process})," if notebook else f"{process},"
    return escape_control_chars(text)[:1000].replace("\n", "␊")  # the directory may come from a stranger


def _notebook() -> str:
    """Return the notebook that this kernel belongs to, as Jupyter's server names it; "" elsewhere."""
    name = os.environ.get("JPY_SESSION_NAME", "")
    return "".join(c for c in name.encode("utf-8", "replace").decode() if c.isprintable())[:500]


def _lives(note: Mapping[str, object]) -> bool:
    """Return whether that process is still alive: its pid may have been reused, and the machine restarted."""
    is_here = (note.get("host"), note.get("boot")) == (host_name(), _boot())
    if not is_here or fcntl is None:
        return False  # on Windows os.kill(pid, 0) is Ctrl-C, and the lock itself says whether it is held
    pid = note.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    try:
        with suppress(PermissionError):  # another user's process
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return note.get("began") == _began(pid)


def _boot() -> str:
    """Return an id of the machine's current boot; "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; "" where the system doesn't say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _after_fork_in_child() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
