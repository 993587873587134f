"""How many programs run at once, how one gets the machine to itself, and how busy others keep it meanwhile.

Called by worker threads and by those that run tests ahead. There is one limiter for each sandbox.

CPU time, by which programs are judged, is not the same on a busy machine: programs share caches, memory and the two
halves of a core. So a program beyond its limit runs again without the other programs of this sandbox, and where others
keep the machine busy, with `ROOM` times the limit: what needs more than that is too slow on any machine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_EVERY_S = 0.2
#: A program's CPU time on a busy machine is at most this many times that on a quiet one.
ROOM = 1.6
#: How far a corrected CPU time must be from the limit to be believed.
MARGIN = 0.05
#: CPUs that others may use beside a program that counts as alone.
_NOISE = 0.3
_REFERENCE_STEPS = 30_000
_CPUS = os.cpu_count() or 1
_REFERENCE_TIMES = 5


def cores() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_s() -> float | None:
    """Return for how long the machine's CPUs were busy since it started, in all; None where that isn't known."""
    try:
        fd = os.open("/proc/uptime", os.O_RDONLY | os.O_CLOEXEC)  # /proc/stat would list every interrupt
        try:
            up_s, idle_s = map(float, os.read(fd, 100).split())
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None
    return up_s * _CPUS - idle_s


def is_busy(n_cores: int | None = None) -> bool:
    """Return whether others may have kept the machine busy lately: by its load, and by what wants to run now."""
    quiet = max(1, (n_cores or cores()) // 2)
    try:
        with open("/proc/loadavg", "rb") as file:
            words = file.read().split()
        return float(words[0]) > quiet + 0.5 or int(words[3].partition(b"/")[0]) - 1 > quiet
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0] > quiet + 0.5


class Reference:
    """The CPU time of a small computation, now and when the machine was quiet.

    Threads: any number; `_best_s` is only ever replaced by a smaller one.
    """

    def __init__(self) -> None:
        self._best_s: float | None = None  # on a quiet machine

    def measure(self) -> float:
        """Return the CPU seconds that it takes now; remembers the least that it took on a quiet machine."""
        times = []
        for _ in range(_REFERENCE_TIMES):
            began, x = time.thread_time(), 0
            for i in range(_REFERENCE_STEPS):
                x = (x * 31 + i) & 0xFFFFFFFF
            times.append(time.thread_time() - began)
        if not is_busy():
            self._best_s = min(times) if self._best_s is None else min(self._best_s, *times)
        return sorted(times)[_REFERENCE_TIMES // 2]

    def stretch(self, *measured_s: float) -> float | None:
        """Return how many times as long it took as on a quiet machine; None where the machine never was quiet."""
        if self._best_s is None:
            return None
        return max(1.0, sum(measured_s) / len(measured_s) / self._best_s)


class Slot:
    """One program's stay.

    Attributes:
        load: the most programs that ran at once meanwhile, itself included.
        owner: the task that the program belongs to, if it was named.
    """

    __slots__ = ("_began", "_busy_s", "load", "owner")

    def __init__(self, owner: object = None) -> None:
        self.load, self.owner = 1, owner
        self._began, self._busy_s = time.monotonic(), busy_s()

    def others(self, own_s: float) -> float | None:
        """Return how many CPUs others kept busy since it began, where the program used `own_s` of CPU time."""
        now, took_s = busy_s(), time.monotonic() - self._began
        if now is None or self._busy_s is None or not took_s:
            return None
        return max(0.0, (now - self._busy_s - own_s) / took_s)


class ConcurrencyLimiter:
    """Lets programs in; holds the others back while one is to run alone.

    Alone means: at most one program for every two CPUs, since two that share a core slow each other down. On a machine
    with many CPUs several are alone at once.

    Threads: any number.
    """

    def __init__(self, max_parallel: int | None = None, n_cores: int | None = None) -> None:
        self._lock = threading.Condition()  # protects all below
        self._cores = n_cores or cores()
        self._max_parallel = max_parallel
        self._quiet = max(1, self._cores // 2)
        self._slots: set[Slot] = set()
        self._alone = 0  # that wait to be alone, or are
        self.reference = Reference()

    @property
    def idle(self) -> int:
        """CPUs without a program of this sandbox."""
        return max(0, min(self._cores, self._max_parallel or self._cores) - len(self._slots))

    def free_for(self, owner: object) -> int:
        """Return the CPUs without a program of other tasks of this sandbox."""
        with self._lock:
            others = sum(slot.owner is not owner for slot in self._slots)
        return max(0, min(self._cores, self._max_parallel or self._cores) - others)

    def is_quiet(self, others: float | None) -> bool:
        """Return whether so few others ran beside a program that they can't have slowed it down."""
        return others is not None and others <= max(0.0, self._cores / 2 - 1) + _NOISE

    def is_loaded(self, slot: Slot) -> bool:
        """Return whether enough programs ran at the same time to have slowed this one down."""
        return slot.load > self._quiet

    @contextmanager
    def slot(
        self, alone: bool = False, check: Callable[[], None] = lambda: None, owner: object = None
    ) -> Iterator[Slot]:
        """Waits to be let in; `check` is called meanwhile and may raise."""
        with self._lock:
            self._alone += alone
            try:
                while not self._may_enter(alone):
                    self._lock.wait(_LOOK_EVERY_S)
                    check()
            except BaseException:
                self._alone -= alone
                self._lock.notify_all()
                raise
            slot = Slot(owner)
            self._slots.add(slot)
            for other in self._slots:
                other.load = max(other.load, len(self._slots))
        try:
            yield slot
        finally:
            with self._lock:
                self._slots.discard(slot)
                self._alone -= alone
                self._lock.notify_all()

    def _may_enter(self, alone: bool) -> bool:
        running = len(self._slots)
        if alone:
            return running < self._quiet
        return not self._alone and (self._max_parallel is None or running < self._max_parallel)
