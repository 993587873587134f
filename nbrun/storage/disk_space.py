"""Estimates whether the disk has room for the results that are still to come, from the size of those so far.

Threads: `look` by the journal's thread; before that, the rest by the thread that starts the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from nbrun.results.sample_file import FileInfo

#: How often a run looks at the disk, in seconds; and how many results make an average.
LOOK_S, MIN_RESULTS = 30.0, 100


class SpaceWatch:
    """Warns once where the free space won't last.

    Args:
        path: the results directory.
        infos: its files as they were found.
        warn: called with a sentence.
        remaining: returns how many results are still to come; None while that is unknown.
    """

    def __init__(
        self,
        path: Path,
        infos: Iterable[FileInfo],
        warn: Callable[[str], None],
        remaining: Callable[[], int | None],
    ) -> None:
        self._path, self._warn, self._remaining = path, warn, remaining
        self._results = self._bytes = 0
        for info in infos:
            if info.summary is not None:
                self._results += int(info.summary["done"])
                self._bytes += info.size
        self._looked = time.monotonic()
        self._has_warned = False

    def shortage(self, left: int | None, saved: int = 0, saved_bytes: int = 0) -> str:
        """Return a sentence where the space won't last; "" where it will, or where that is unknown.

        Args:
            left: how many results are still to come.
            saved, saved_bytes: results of this run, and what they took.
        """
        results, size = self._results + saved, self._bytes + saved_bytes
        if results < MIN_RESULTS or not left or left < 0:
            return ""
        each = size / results
        try:
            import shutil  # it loads two compressors, which a start would wait for

            free = shutil.disk_usage(self._path).free
        except OSError:
            return ""
        if each * left <= free:
            return ""
        return (
            f"The disk of {self._path} has {_text(free)} left, but the {left:,} results that are still to come will "
            f"need about {_text(each * left)}. Nothing is lost when it is full: the run pauses until there is room."
        )

    def look(self, saved: int, saved_bytes: int) -> None:
        """Look at the disk now and then. Called after each commit."""
        if self._has_warned or time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        text = self.shortage(self._remaining(), saved, saved_bytes)
        if text:
            self._has_warned = True
            self._warn(text)

    def at_start(self, total: int | None) -> str:
        """Return the sentence before a run that will have `total` results in the end; it isn't repeated later."""
        text = self.shortage(None if total is None else total - self._results)
        self._has_warned = bool(text)
        return text


def _text(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
