"""Processes and folders seen through the operating system: who descends from whom, what it uses, how to end it.

Used inside the warden's processes alone, which have one thread each.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)
_PAGE = resource.getpagesize()
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_FILES_COUNTED = 10_000  # in a working folder; one that holds more has exceeded its limit


def become_subreaper() -> None:
    """Orphaned descendants become this process's children (Linux; elsewhere only the process group is killed)."""
    try:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except AttributeError:
        pass


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Sends a signal; a process that is gone already is none the worse."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def kill_descendants(within_s: float, watched: int = 0, reaped: Callable[..., None] | None = None) -> None:
    """Kills and reaps until no child is left; `reaped` is told of each (process id, status, resources)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            kill(pid)
        if watched and sys.platform != "linux":
            kill(watched)
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if not pid:
            time.sleep(0.0005)
        elif reaped is not None:
            reaped(pid, status, usage)


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`, children first."""
    found, at = children(pid), 0
    while at < len(found):
        found += children(found[at])
        at += 1
    return found


def children(pid: int) -> list[int]:
    """The children of all threads of a process (Linux)."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


def usage(pid: int) -> tuple[float, float, int]:
    """What a living process used: CPU seconds, CPU seconds of the children it waited for, resident bytes."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0, 0.0, 0
    user, system, waited_user, waited_system = map(int, fields[11:15])
    return (user + system) * _TICK_S, (waited_user + waited_system) * _TICK_S, int(fields[21]) * _PAGE


def run_delay_s(pid: int) -> float:
    """How long a process stood ready without getting a CPU: that is the machine's doing, not the program's."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def folder_bytes(path: str) -> float:
    """What a folder takes on the disk; infinity where it holds too many files to count."""
    total, count = 0, 0
    for folder, _, names in os.walk(path):
        for name in names:
            count += 1
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                pass
        if count > _FILES_COUNTED:
            return float("inf")
    return total


def maxrss_bytes(usage: resource.struct_rusage) -> int:
    """The most that one of the reaped processes held; what the supervisor held when it started it is the least."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
