"""How many tasks a chunk holds: as many as take TARGET_S, found by doubling. Pure: no threads and no I/O."""

from __future__ import annotations

#: A chunk should take TARGET_S. Tasks that take ALONE_S or more are sent one by one. MOST_TASKS and MOST_BYTES bound a
#: chunk.
TARGET_S, ALONE_S, MOST_TASKS, MOST_BYTES = 0.1, 0.05, 256, 1 << 20
#: The last tasks of a run are shared evenly among the slots, but not in chunks shorter than this.
LEAST_S = 0.01
#: If tasks take this long on average, a second chunk that waits in the executor gains nothing: each slot gets one.
LONG_S = 1.0


class ChunkSizer:
    """Chooses the size of chunks from the durations and bytes of those that came back.

    Example:
        >>> sizing = ChunkSizer()
        >>> sizing.size(1000, 8), sizing.came_back(1, 1, 0.001, 100), sizing.size(1000, 8)
        (1, None, 2)
    """

    def __init__(self) -> None:
        self._most = 1  # twice what the last whole chunk held
        self.mean_s: float | None = None  # of a task; None until one came back
        self._mean_bytes = 0.0
        self.longest_s = 0.0

    def size(self, ready: int, slots: int) -> int:
        """Return how many of the `ready` tasks the next chunk should hold."""
        if self.mean_s is None or self.mean_s >= ALONE_S:
            return 1
        short = max(self.mean_s, 1e-6)
        most = min(self._most, MOST_TASKS, int(TARGET_S / short), int(MOST_BYTES / max(self._mean_bytes, 1.0)))
        share = max(-(-ready // (2 * slots)), int(LEAST_S / short))
        return max(1, min(most, share))

    def came_back(self, sent: int, begun: int, took_s: float, size_bytes: int, longest_s: float = 0.0) -> None:
        """Record a chunk of `sent` tasks of which `begun` ran, in `took_s`; `size_bytes` went out and came back."""
        if not begun:
            return
        mean_s = took_s / begun
        weight = 0.5 if self.mean_s is not None else 1.0
        self.mean_s = mean_s if self.mean_s is None else self.mean_s + weight * (mean_s - self.mean_s)
        self._mean_bytes += weight * (size_bytes / begun - self._mean_bytes)
        self.longest_s = max(self.longest_s, longest_s or mean_s)
        if begun == sent:
            self._most = max(self._most, min(2 * sent, MOST_TASKS))
        else:
            self._most = begun

    @property
    def chunks_a_slot(self) -> int:
        """How many chunks a slot gets: one that runs and, once chunks have their final size, one that waits."""
        if self.mean_s is None or self.mean_s >= LONG_S:
            return 1
        return 2 if self._most >= min(MOST_TASKS, TARGET_S / max(self.mean_s, 1e-6)) or self.mean_s >= ALONE_S else 1
