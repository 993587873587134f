"""The manifest: which sample files the directory had when the last run ended.

A file that is missing since was deleted by hand, as users do to clean up; its sample's tasks run again, and the run
reports it. `.nbrun/known` holds one name per line; it is derived data, written at a clean end where something has
changed. Threads: the one that opens and closes the directory, and the feeder.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from pathlib import Path

from nbrun.results import archives, plain_files
from nbrun.results.names import is_sample_file_name
from nbrun.storage import files

#: A longer list is not nbrun's: at most 256 bytes for each of 10 million files.
MAX_BYTES = 2_560_000_000


class Manifest:
    """The manifest of one directory.

    Args:
        names: of the files that count now, archived ones included.

    Attributes:
        gone: names of files that were there and are not any more.
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
            return plain_files.read_whole(self._inner / "known", MAX_BYTES)
        except OSError:
            return b""

    def add(self, name: str) -> None:
        """Add the name of a file that will be written."""
        self._hashes.append(hash(name))

    def save(self) -> None:
        """Write the manifest of what is there now. Where the disk refuses, the next start only lacks a sentence."""
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
