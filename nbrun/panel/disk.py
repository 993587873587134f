"""How much room the results take, looked up in small steps: a directory of many thousand files takes its time.

Threads: the updater's alone. Only sizes are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

#: So many files are looked at in a step, and so long a finished round is believed.
FILES, ROUND_S = 300, 20.0


class DiskUse:
    """The size of a directory. `bytes` is None until a first round has ended."""

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._round: Iterator[int] | None = None
        self._sum = 0
        self._next_at = float("-inf")

    def step(self, path: str, now: float) -> None:
        """Goes on with the round under way, or begins one where it is time."""
        if self._round is None:
            if now < self._next_at or not path:
                return
            self._round, self._sum = _sizes(path), 0
        for _ in range(FILES):
            size = next(self._round, None)
            if size is None:
                self.bytes, self._round, self._next_at = self._sum, None, now + ROUND_S
                return
            self._sum += size

    def hurry(self) -> None:
        """The run has ended: the next step begins a last round."""
        self._next_at = float("-inf")


def _sizes(path: str) -> Iterator[int]:
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    try:
                        stat = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # gone meanwhile
                    yield getattr(stat, "st_blocks", 0) * 512 or stat.st_size
        except OSError:
            continue
