"""What the last lines of each file told, kept in `.nbrun/cache/tails`: opening a directory reads one file, not all.

A file's line counts while its inode, size and times of change (mtime and ctime, in ns) are those that were read; one
that changed so shortly before that it could change again without its times telling is not kept. Derived data with a
checksum: deleting it costs time and nothing else, and where it can't be written, none is.

Threads: the thread that opens or closes the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

from nbrun.results.names import SUFFIX
from nbrun.results.sample_file import LEGACY, NBRUN, PROGRESS, FileInfo, is_summary
from nbrun.results.values import dump, load
from nbrun.storage import files

FORMAT = b"nbrun-tails/1"
#: For fewer files the cache isn't worth its writing, 25 µs a file at the end of each run that changed some: all of them
#: are read in 7 ms a 400, or in 70 where their pages were dropped (with the cache 4 and 40; 2 cores, an SSD).
MIN_FILES = 500
#: How coarse a file system's clock may be, in ns: one that tells no fractions counts in seconds.
FINE_NS, COARSE_NS = 50_000_000, 2_000_000_000

Ident = tuple[int, int, int, int]


class Tails:
    """The cache of one directory, as it was left."""

    def __init__(self, inner: Path) -> None:
        self._path, self._beside = inner / "cache" / "tails", inner / "tmp" / "tails.tmp"
        self._lines: dict[str, list[object]] = {}
        self._hits = 0
        try:
            head, _, data = files.read_whole(self._path).partition(b"\n")
            if head == b"%b %08x" % (FORMAT, crc32(data)):
                self._lines = {line[0]: line for line in load(data) if _is_line(line)}
        except (OSError, ValueError, TypeError, RecursionError):
            pass

    def known(self, entry: os.DirEntry[str]) -> FileInfo | None:
        """What a file told, if it stands there unchanged (for list_samples)."""
        line = self._lines.get(entry.name)
        if line is None:
            return None
        stat = entry.stat(follow_symlinks=False)
        name, sample_id, source, ident, summary, progress = line
        if ident != list(_ident(stat)):
            return None
        self._hits += 1
        return FileInfo(name, sample_id, source, stat.st_size, stat.st_mtime_ns, summary, progress)  # type: ignore[arg-type]

    def cover(self, infos: Iterable[FileInfo]) -> bool:
        """Has `known` told of nearly all of these, or are they few?"""
        told = _kept(infos)
        return len(told) < MIN_FILES or len(told) - self._hits <= len(told) // 20

    def keep(self, folder: Path, infos: Iterable[FileInfo]) -> None:
        """Keeps what `infos` tell, where much of it is new."""
        told = _kept(infos)
        if self.cover(told):
            return
        try:
            self._path.parent.mkdir(exist_ok=True)
            if not files.is_real_folder(self._path.parent):
                return
            files.put_derived(self._beside, (b"",), self._beside.with_name("clock.tmp"))
            now = self._beside.lstat().st_ctime_ns  # by the disk's clock
            lines = [line for i in told if (line := _line(folder, i, now)) is not None]
            data = dump(lines)
            files.put_derived(self._path, (b"%b %08x\n" % (FORMAT, crc32(data)), data), self._beside)
        except (OSError, TypeError):  # TypeError: a name that is no text
            return


def is_small(folder: Path) -> bool:
    """Does it hold too few files for the cache? Asks for a listing; to read them all would take twenty times that."""
    return sum(name.endswith(SUFFIX) for name in os.listdir(folder)) < MIN_FILES


def _is_line(line: Any) -> bool:
    """Whether it says of a file what FileInfo holds; a checksum says where it was written, not what is in it."""
    if not isinstance(line, list) or len(line) != 6:
        return False
    name, sample_id, source, _, summary, progress = line
    return (
        type(name) is str
        and type(sample_id) is str
        and source in (NBRUN, PROGRESS, LEGACY)
        and (is_summary(summary) if source == NBRUN else summary is None)
        and (progress is None or isinstance(progress, dict))
    )


def _kept(infos: Iterable[FileInfo]) -> list[FileInfo]:
    return [i for i in infos if i.place is None and not i.is_damaged]


def _line(folder: Path, info: FileInfo, now: int) -> list[object] | None:
    try:
        stat = os.lstat(folder / info.name)
    except OSError:
        return None
    ident = _ident(stat)
    coarse = ident[3] % 1_000_000_000 == 0
    if (ident[1], ident[2]) != (info.size, info.mtime_ns) or now - ident[3] < (COARSE_NS if coarse else FINE_NS):
        return None
    return [info.name, info.sample_id, info.source, list(ident), info.summary, info.progress]


def _ident(stat: os.stat_result) -> Ident:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
