"""A cache of the last lines of each file, in `.nbrun/cache/tails`: opening a directory reads one file instead of all.

A file's line is valid while its inode, size, mtime and ctime (in ns) are those that were read. A file that changed so
recently that it could change again within the same tick of the disk's clock is not cached. Derived data with a
checksum: deleting it costs only time, and where it can't be written, there is no cache.

Threads: the one that opens or closes the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeGuard
from zlib import crc32

import orjson

from nbrun.results import plain_files
from nbrun.results.format import Summary
from nbrun.results.names import SUFFIX
from nbrun.results.sample_file import LEGACY, NBRUN, PROGRESS, FileInfo, is_summary
from nbrun.results.values import dump
from nbrun.storage import files

FORMAT = b"nbrun-tails/1"
#: For fewer files writing the cache isn't worth its cost, 25 µs a file at the end of each run that changed some.
#: Reading 400 files takes 7 ms, or 70 ms where their pages were dropped (with the cache 4 and 40 ms; 2 cores, an SSD).
MIN_FILES = 500
#: How coarse a file system's clock may be, in ns: one without fractions counts in seconds.
FINE_NS, COARSE_NS = 50_000_000, 2_000_000_000

Ident = tuple[int, int, int, int]
#: Name, sample id, source, identity, summary and progress of a file. (Read from JSON it is a list of these.)
Line = tuple[str, str, str, object, Summary | None, Mapping[str, object] | None]


class FooterCache:
    """The cache of one directory, as the last run left it."""

    def __init__(self, inner: Path) -> None:
        self._path, self._beside = inner / "cache" / "tails", inner / "tmp" / "tails.tmp"
        self._lines: dict[str, Line] = {}
        self._hits = 0
        try:
            head, _, data = plain_files.read_whole(self._path).partition(b"\n")
            if head == b"%b %08x" % (FORMAT, crc32(data)):
                lines = orjson.loads(data)  # an integer beyond 64 bits, which it can't hold, is none of nbrun's
                self._lines = {line[0]: line for line in lines if _is_line(line)} if isinstance(lines, list) else {}
        except (OSError, ValueError, RecursionError):
            pass

    def known(self, entry: os.DirEntry[str]) -> FileInfo | None:
        """Return what is cached of a file that has not changed (see list_samples); else None."""
        line = self._lines.get(entry.name)
        if line is None:
            return None
        stat = entry.stat(follow_symlinks=False)
        name, sample_id, source, ident, summary, progress = line
        if ident != list(_ident(stat)):
            return None
        self._hits += 1
        return FileInfo(name, sample_id, source, stat.st_size, stat.st_mtime_ns, summary, progress)

    def cover(self, infos: Iterable[FileInfo]) -> bool:
        """Return whether `known` knew nearly all of these, or there are few of them."""
        n = len(_cacheable(infos))
        return n < MIN_FILES or n - self._hits <= n // 20

    def keep(self, folder: Path, infos: Iterable[FileInfo]) -> None:
        """Write the cache, where much of it is new."""
        infos = _cacheable(infos)
        if self.cover(infos):
            return
        try:
            self._path.parent.mkdir(exist_ok=True)
            if not plain_files.is_real_folder(self._path.parent):
                return
            files.put_derived(self._beside, (b"",), self._beside.with_name("clock.tmp"))
            now = self._beside.lstat().st_ctime_ns  # by the disk's clock
            lines = [line for i in infos if (line := _line(folder, i, now)) is not None]
            data = dump(lines)
            files.put_derived(self._path, (b"%b %08x\n" % (FORMAT, crc32(data)), data), self._beside)
        except (OSError, TypeError):  # TypeError: a name that is no text
            return


def is_small(folder: Path) -> bool:
    """Return whether a folder has too few files for the cache. Listing them costs a twentieth of reading them."""
    return sum(name.endswith(SUFFIX) for name in os.listdir(folder)) < MIN_FILES


def _is_line(line: object) -> TypeGuard[Line]:
    """Return whether a line holds the fields of a FileInfo; a checksum says nothing about its content."""
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


def _cacheable(infos: Iterable[FileInfo]) -> list[FileInfo]:
    return [i for i in infos if i.place is None and not i.is_damaged]


def _line(folder: Path, info: FileInfo, now: int) -> Line | None:
    try:
        stat = os.lstat(folder / info.name)
    except OSError:
        return None
    ident = _ident(stat)
    coarse = ident[3] % 1_000_000_000 == 0
    if (ident[1], ident[2]) != (info.size, info.mtime_ns) or now - ident[3] < (COARSE_NS if coarse else FINE_NS):
        return None
    return info.name, info.sample_id, info.source, list(ident), info.summary, info.progress


def _ident(stat: os.stat_result) -> Ident:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
