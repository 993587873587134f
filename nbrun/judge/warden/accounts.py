"""How much CPU time a program and its descendants have used, however they try to hide it.

Used by a supervisor's process alone.

What a process used goes into its parent's account when the parent waits for it. A parent that ignores its children's
ends, and processes that end between two looks, escape that, so three sums are kept and the largest counts:

- what was waited for, with what the living have used so far;
- what each process was ever seen to have used;
- the same of processes that were seen twice, and for those that were new at a look the time since the last look.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .processes import Usage

#: From this many short-lived processes on, the time estimated for them counts (fewer may be chance).
_MANY = 8


class Account:
    """The CPU time of one program.

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
        """Add a child of the supervisor that has ended; `used_s` includes the children that it waited for."""
        self._reaped_s += used_s

    def look(self, living: Mapping[int, Usage], now: float) -> None:
        """Update the sums with the living processes, by their ids, as they are now."""
        new = [pid for pid, usage in living.items() if pid not in self._seen_s and usage.is_running]
        if self._looked_at is not None:
            self._fleeting_s += (now - self._looked_at) * min(len(new), self._cores)
            self._fleeting += len(new)
        self._looked_at = now
        self._twice |= living.keys() & self._seen_s.keys()
        for pid, usage in living.items():
            self._seen_s[pid] = max(usage.own_s, self._seen_s.get(pid, 0.0))
        waited_s = sum(usage.own_s + usage.children_s for usage in living.values())
        self._waited_s = max(self._waited_s, waited_s + self._reaped_s)

    @property
    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        sums = [self._waited_s, self._reaped_s, sum(self._seen_s.values())]
        if self._fleeting >= _MANY:
            sums.append(self._fleeting_s + sum(self._seen_s[pid] for pid in self._twice))
        return max(sums)
