"""Which files stood in the directory when the last run ended: one that is missing since was deleted by hand.

Users clean up by deleting; then the sample's tasks run again, and the run says so. `.nbrun/known` holds a name a line;
it is derived data, written at a clean end where something has changed. Threads: who opens and closes the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nbrun.storage import archive, files
from nbrun.storage.names import SUFFIX


class KnownFiles:
    """The list of one directory.

    Args:
        names: what stands there now, archived files among it.
    """

    def __init__(self, path: Path, inner: Path, names: Iterable[str]) -> None:
        self._path, self._inner = path, inner
        try:
            text = (inner / "known").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            text = ""
        self._before = set(text.splitlines())
        self.gone = sorted(self._before - set(names))

    def remember(self) -> None:
        """Notes what stands there now. What the disk refuses here costs a sentence at the next start."""
        try:
            now = {n for n in os.listdir(self._path) if n.endswith(SUFFIX)}
            now |= {info.name for info in archive.list_archived(self._path)[0].values()}
            if now != self._before:
                data = "".join(f"{name}\n" for name in sorted(now)).encode("utf-8", "surrogateescape")
                files.put_derived(self._inner / "known", data, self._inner / "tmp" / "known.tmp")
                self._before = now
        except OSError:
            pass
