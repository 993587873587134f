"""Processes seen through the operating system: who descends from whom, what they use, how to end them.

Used inside the supervisor's processes alone, which have one thread each.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_PR_SET_CHILD_SUBREAPER = 36
_PF_EXITING = 0x4
_libc = ctypes.CDLL(None)
_PAGE = resource.getpagesize()
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
#: From this many short-lived processes on, the time estimated for them counts (fewer may be chance).
_MANY = 8


def become_subreaper() -> None:
    """Make orphaned descendants this process's children (Linux; elsewhere only the process group is killed)."""
    try:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except AttributeError:
        pass


def first_to_die(yes: bool) -> None:
    """Let the system kill this process and its later children first when memory runs out, or as any other process."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(fd, b"1000" if yes else b"0")
        finally:
            os.close(fd)
    except OSError:
        pass


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; do nothing if the process is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def kill_descendants(within_s: float, watched: int = 0, reaped: Callable[..., object] = lambda *_: None) -> None:
    """Kill and reap until no child is left.

    Args:
        watched: a child that is killed where the system shows no descendants.
        reaped: is called with each process id, status and resources.
    """
    unseen = [watched] if watched and sys.platform != "linux" else []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for pid in (*descendants(os.getpid()), *unseen):
            kill(pid)
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            reaped(pid, status, usage)
        else:
            time.sleep(0.0005)


def descendants(pid: int) -> list[int]:
    """Return all living descendants of `pid`, its children first."""
    found, at = children(pid), 0
    while at < len(found):
        found += children(found[at])
        at += 1
    return found


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process (Linux)."""
    found: list[int] = []
    try:
        for thread in _entries(f"/proc/{pid}/task"):
            with open(f"{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used: CPU seconds, those of the children it waited for, and resident bytes.

    `is_dead`: it has ended and only waits to be reaped.
    """

    own_s: float = 0.0
    children_s: float = 0.0
    memory_bytes: int = 0
    is_running: bool = False
    is_dead: bool = False


def usage(pid: int) -> Usage:
    """Return the usage of a process; zeros if it is gone."""
    fields = _fields(pid)
    if not fields:
        return Usage(is_dead=True)
    user, system, waited_user, waited_system = map(int, fields[11:15])
    return Usage(
        (user + system) * _TICK_S, (waited_user + waited_system) * _TICK_S, int(fields[21]) * _PAGE,
        fields[0] == b"R", fields[0] in (b"Z", b"X"),
    )  # fmt: skip


def is_ending(pid: int) -> bool:
    """Return whether a process is ending, has ended or is gone: all of its files look closed then."""
    fields = _fields(pid)
    return not fields or bool(int(fields[6]) & _PF_EXITING) or fields[0] in (b"Z", b"X")


def _fields(pid: int) -> list[bytes]:
    """Return what the system says of a process, from its state on; nothing if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def run_delay_s(pid: int) -> float:
    """Return how long the threads of a process were ready without getting a CPU, in all.

    The machine caused that, not the program. In many programs (virtual machines) the first thread only waits for the
    one that works.
    """
    total = 0.0
    for thread in _entries(f"/proc/{pid}/task"):
        try:
            with open(f"{thread}/schedstat", "rb") as file:
                total += int(file.read().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            continue
    return total


def _entries(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except OSError:
        return []


def _open_files(pid: int) -> Iterator[os.stat_result]:
    """Yield what a process holds open, as far as it shows that."""
    for path in _entries(f"/proc/{pid}/fd"):
        try:
            about = os.stat(path)
        except OSError:
            return
        yield about


def deleted_bytes(pid: int) -> int:
    """Return how much disk space a process holds in open files that were deleted."""
    gone = (about for about in _open_files(pid) if about.st_nlink == 0 and stat.S_ISREG(about.st_mode))
    return sum(about.st_blocks * 512 for about in gone)


def open_pipes(pids: list[int]) -> set[tuple[int, int]]:
    """Return the identities of the pipes that these processes hold open; empty where none shows its files."""
    return {identity(about) for pid in pids for about in _open_files(pid)}


def identity(about: os.stat_result) -> tuple[int, int]:
    """Return what is the same for all descriptors of one pipe."""
    return about.st_dev, about.st_ino


def shared_fairly_bytes(pid: int) -> int | None:
    """Return a process's proportional memory (PSS: shared pages count in parts); None if not reported."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), None)
    except OSError:
        return None


def maxrss_bytes(usage: resource.struct_rusage) -> int:
    """Return the peak memory of one of the reaped processes; it is at least what the monitor held at the fork."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Account:
    """The CPU time that a program and its descendants have used, however they try to hide it.

    What a process used is added to its parent's account when the parent waits for it. A parent that ignores its
    children's ends, and processes that end between two looks, escape that, so three sums are kept; the largest counts:

    - what was waited for, with what the living have used so far;
    - what each process was ever seen to have used;
    - the same of processes that were seen twice, and for those that were new at a look the time since the last look.

    Threads: none.
    """

    def __init__(self) -> None:
        self._reaped_s = 0.0
        self._waited_s = 0.0
        self._seen_s: dict[int, float] = {}  # what each process was last seen to have used
        self._twice: set[int] = set()
        self._fleeting_s, self._fleeting = 0.0, 0  # of processes that were new at a look, and how many
        self._looked_at: float | None = None
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def reaped(self, used_s: float) -> None:
        """Add a child of the monitor that has ended; `used_s` includes the children that it waited for."""
        self._reaped_s += used_s

    def look(self, living: Mapping[int, Usage], now: float) -> None:
        """Update the sums with the living processes, by their ids, as they are now."""
        self._count_fleeting(living, now)
        self._twice |= living.keys() & self._seen_s.keys()
        for pid, usage in living.items():
            self._seen_s[pid] = max(usage.own_s, self._seen_s.get(pid, 0.0))
        waited_s = sum(usage.own_s + usage.children_s for usage in living.values())
        self._waited_s = max(self._waited_s, waited_s + self._reaped_s)

    def _count_fleeting(self, living: Mapping[int, Usage], now: float) -> None:
        """Count the processes that are new and run: there may have been such a one ever since the last look."""
        new = sum(usage.is_running and pid not in self._seen_s for pid, usage in living.items())
        if self._looked_at is not None:
            self._fleeting_s += (now - self._looked_at) * min(new, self._cores)
            self._fleeting += new
        self._looked_at = now

    @property
    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        sums = [self._waited_s, self._reaped_s, sum(self._seen_s.values())]
        if self._fleeting >= _MANY:
            sums.append(self._fleeting_s + sum(self._seen_s[pid] for pid in self._twice))
        return max(sums)
