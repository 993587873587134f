"""Makes this process look like Windows to nbrun, as far as POSIX can: `imitate()` comes before `import nbrun`.

What Windows lacks is taken away, and what it does differently raises as it does there: a rename onto a name that is
taken, opening a folder, `os.kill(pid, 0)`, which is Ctrl-C. `msvcrt.locking` is imitated by flock. Paths, `os.name` and
the standard library's own modules stay those of POSIX, so this is no proof that Windows works.
"""

from __future__ import annotations

import asyncio  # noqa: F401  # what the standard library imports for this system is imported before
import ctypes  # noqa: F401
import errno
import fcntl
import multiprocessing.connection
import os
import shutil
import signal
import socket  # noqa: F401
import subprocess
import sys
import sysconfig
import tempfile  # noqa: F401
import types
from typing import Any

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline")
NAMES = """
register_at_fork fork forkpty pread preadv pwrite pwritev readv writev statvfs fstatvfs fdatasync fchmod
fchown fchdir O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_NOCTTY O_CLOEXEC O_ACCMODE O_SYNC O_DSYNC SEEK_HOLE
SEEK_DATA geteuid getuid getgid getegid setsid killpg getpgid getpgrp sched_getaffinity wait3 wait4 waitid
posix_spawn posix_spawnp uname mkfifo mknod sysconf getloadavg nice chown lchown pipe2 memfd_create eventfd
sendfile copy_file_range sync WNOHANG
"""
SIGNALS = ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGXCPU", "SIGXFSZ", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD")


def imitate() -> None:
    """Take away what Windows lacks. There is no way back in this process."""
    sysconfig.get_config_vars()  # kept: it would look for a file of Windows
    flock = fcntl.flock
    statvfs = os.statvfs
    msvcrt: Any = types.ModuleType("msvcrt")
    msvcrt.LK_NBLCK, msvcrt.LK_UNLCK = 2, 0

    def locking(fd: int, mode: int, nbytes: int) -> None:
        try:
            flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    msvcrt.locking = locking
    sys.modules["msvcrt"] = msvcrt
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError
    for name in NAMES.split():
        if hasattr(os, name):
            delattr(os, name)
    for name in SIGNALS:
        if hasattr(signal, name):
            delattr(signal, name)
    subprocess._USE_POSIX_SPAWN = False  # type: ignore[attr-defined]  # the tests start processes; Python 3.13 does it so
    os.supports_dir_fd.clear()
    os.supports_follow_symlinks.clear()
    os.supports_follow_symlinks.add(os.stat)
    for name in ("open", "unlink", "rename", "replace", "stat", "utime", "link", "mkdir"):
        setattr(os, name, _as_on_windows(name, getattr(os, name)))
    os.supports_follow_symlinks.add(os.stat)
    os.kill = _no_kill
    shutil.disk_usage = lambda path: types.SimpleNamespace(free=statvfs(path).f_bavail * statvfs(path).f_frsize)
    # shutil.which asks it since Python 3.12.
    shutil._winapi = types.SimpleNamespace(NeedCurrentDirectoryForExePath=lambda _: False)  # type: ignore[attr-defined]
    sys.platform = "win32"


def _as_on_windows(name: str, call: Any) -> Any:
    def wrapped(path: Any, *args: Any, **kwargs: Any) -> Any:
        if any(kwargs.get(k) is not None for k in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
            raise NotImplementedError(f"{name}: dir_fd unavailable on this platform")
        if name in ("utime", "link") and not kwargs.get("follow_symlinks", True):
            raise NotImplementedError(f"{name}: follow_symlinks unavailable on this platform")
        if name == "open" and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        if name == "rename" and os.path.lexists(args[0]):
            raise FileExistsError(errno.EEXIST, "File exists", os.fspath(path))
        return call(path, *args, **kwargs)

    return wrapped


def _no_kill(pid: int, number: int) -> None:
    raise AssertionError(f"os.kill({pid}, {number}) is called")


_ = multiprocessing.connection
