"""How many programs run at once, and how one gets the machine to itself.

Called by worker threads and by those that run tests ahead. One gate a sandbox.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_EVERY_S = 0.2


def cores() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Turn:
    """One program's stay. `load`: the most programs that ran at once meanwhile, itself included."""

    __slots__ = ("load",)

    def __init__(self) -> None:
        self.load = 1


class Gate:
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
        self._turns: set[Turn] = set()
        self._alone = 0  # that wait to be alone, or are

    @property
    def idle(self) -> int:
        """CPUs without a program of this sandbox."""
        return max(0, min(self._cores, self._max_parallel or self._cores) - len(self._turns))

    def is_loaded(self, turn: Turn) -> bool:
        """Whether so many ran beside this one that it may have been slowed down."""
        return turn.load > self._quiet

    @contextmanager
    def turn(self, alone: bool = False, check: Callable[[], None] = lambda: None) -> Iterator[Turn]:
        """Waits to be let in; `check` is called meanwhile and may raise."""
        turn = Turn()
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
            self._turns.add(turn)
            for other in self._turns:
                other.load = max(other.load, len(self._turns))
        try:
            yield turn
        finally:
            with self._lock:
                self._turns.discard(turn)
                self._alone -= alone
                self._lock.notify_all()

    def _may_enter(self, alone: bool) -> bool:
        running = len(self._turns)
        if alone:
            return running < self._quiet
        return not self._alone and (self._max_parallel is None or running < self._max_parallel)
