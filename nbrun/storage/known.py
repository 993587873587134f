"""Which files stood in the directory when the last run ended: one that is missing since was deleted by hand.

Users clean up by deleting; then the sample's tasks run again, and the run says so. `.nbrun/known` holds a name a line;
it is derived data, written at a clean end where something has changed. Threads: who opens and closes the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nbrun.storage import archive, files


class KnownFiles:
    """The list of one directory.

    Args:
        names: of the files that count, archived ones among them.
    """

    def __init__(self, path: Path, inner: Path, names: Iterable[str]) -> None:
        self._path, self._inner = path, inner
        try:
            text = (inner / "known").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            text = ""
        self._before = set(text.splitlines())
        self._names = set(names)
        self.gone = sorted(self._before - self._names)

    def note(self, name: str) -> None:
        """A sample's file is going to stand there under this name."""
        self._names.add(name)

    def remember(self) -> None:
        """Notes what stands there now. What the disk refuses here costs a sentence at the next start."""
        try:
            now = set(os.listdir(self._path))
            now |= {info.name for info in archive.list_archived(self._path)[0].values()}
            now &= self._names
            if now != self._before:
                data = "".join(f"{name}\n" for name in sorted(now)).encode("utf-8", "surrogateescape")
                files.put_derived(self._inner / "known", (data,), self._inner / "tmp" / "known.tmp")
                self._before = now
        except OSError:
            pass
