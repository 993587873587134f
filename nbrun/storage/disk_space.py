"""Whether the disk will hold what is still to come, by what results have taken so far.

Threads: `look` by the journal's thread; the rest by the thread that starts the run, before.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from nbrun.results.sample_file import FileInfo

#: So often the disk is asked while a run saves, and so many results make an average.
LOOK_S, MIN_RESULTS = 30.0, 100


class SpaceWatch:
    """Tells once that the free space won't last.

    Args:
        path: the results directory.
        infos: its files as they were found.
        tell: called with a sentence.
    """

    def __init__(self, path: Path, infos: Iterable[FileInfo], tell: Callable[[str], None] = lambda text: None) -> None:
        self._path, self.tell = path, tell
        self.remaining: Callable[[], int | None] = lambda: None  # results that are still to come
        self._results = self._bytes = 0
        for info in infos:
            if info.summary is not None:
                self._results += int(info.summary["done"])
                self._bytes += info.size
        self._looked = time.monotonic()
        self._told = False

    def shortage(self, left: int | None, saved: int = 0, saved_bytes: int = 0) -> str:
        """A sentence where the space won't last; "" where it will, or where nobody knows.

        Args:
            left: how many results are still to come.
            saved, saved_bytes: results of this run, and what they took.
        """
        results, size = self._results + saved, self._bytes + saved_bytes
        if results < MIN_RESULTS or not left or left < 0:
            return ""
        each = size / results
        try:
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
        """Called after each saving; asks the disk now and then."""
        if self._told or time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        text = self.shortage(self.remaining(), saved, saved_bytes)
        if text:
            self._told = True
            self.tell(text)

    def at_start(self, total: int | None) -> str:
        """The sentence, before anything is run, where so many results shall be there in the end. It is told once."""
        text = self.shortage(None if total is None else total - self._results)
        self._told = bool(text)
        return text


def _text(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
