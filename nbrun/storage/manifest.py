"""Which files stood in the directory when the last run ended: one that is missing since was deleted by hand.

Users clean up by deleting; then the sample's tasks run again, and the run says so. `.nbrun/known` holds a name a line;
it is derived data, written at a clean end where something has changed. Threads: who opens and closes the directory.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from pathlib import Path

from nbrun.results import archives
from nbrun.results.names import is_sample_file_name
from nbrun.storage import files

#: A longer list is none of ours: at most 256 bytes for each of 10 million files.
MAX_BYTES = 2_560_000_000


class KnownFiles:
    """The list of one directory.

    Args:
        names: of the files that count, archived ones among them.
    """

    def __init__(self, path: Path, inner: Path, names: Iterable[str]) -> None:
        self._path, self._inner = path, inner
        now = set(names)
        self.gone = sorted(
            {n for n in self._read().decode("utf-8", "surrogateescape").splitlines() if is_sample_file_name(n)} - now
        )
        self._hashes = array("q", map(hash, now))  # eight bytes a name, as there may be a million

    def _read(self) -> bytes:
        try:
            return files.read_whole(self._inner / "known", MAX_BYTES)
        except OSError:
            return b""

    def note(self, name: str) -> None:
        """A sample's file is going to stand there under this name."""
        self._hashes.append(hash(name))

    def remember(self) -> None:
        """Notes what stands there now. What the disk refuses here costs a sentence at the next start."""
        try:
            now = set(os.listdir(self._path))
            now |= {info.name for info in archives.Archives(self._path).list()[0].values()}
            ours = set(self._hashes)
            lines = [f"{name}\n" for name in sorted(now) if hash(name) in ours]
            data = "".join(lines).encode("utf-8", "surrogateescape")
            if data != self._read():
                files.put_derived(self._inner / "known", (data,), self._inner / "tmp" / "known.tmp")
        except OSError:
            pass
