"""Rows of files that have not changed since they were last read, kept in `.nbrun/cache/`.

Each part is a pack (see packing.py) with a checksum: data only, since folders are passed between people. A file's rows
count while its size, its times of change (mtime and ctime, in ns) and its inode are those that were read, and for an
old file the match record too. A file that changed so shortly before it was read that it could change again with the
same times is not kept. Deleting the cache costs time and nothing else; where it can't be written, none is.

Threads: one loader's. Processes: any number; parts are put in place whole, and a part that vanishes counts as missing.
"""

from __future__ import annotations

import mmap
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nbrun.frames.packing import BadPack, FileRecord, Pack, identity, identity_in, unpack
from nbrun.results import plain_files
from nbrun.results.format import FOLDER
from nbrun.results.sample_file import LEGACY, NBRUN, PROGRESS, FileInfo, Place
from nbrun.storage import files

SUFFIX = ".rows"
#: Reading less than this again is as fast as caching it.
MIN_BYTES = 1 << 20
#: With more parts, or more outdated rows than current ones, the whole cache is rewritten.
MAX_PARTS = 12
#: How coarse a file system's clock may be, in ns: one without fractions counts in seconds (NFS: some of them).
FINE_NS, COARSE_NS = 50_000_000, 2_000_000_000


@dataclass(slots=True)
class Kept:
    """A file's rows in the cache."""

    part: int
    start: int
    record: FileRecord


@dataclass(slots=True)
class Sizes:
    """How much a load has met: bytes and rows that were read from files now, rows of all files."""

    fresh_bytes: int
    fresh_rows: int
    rows: int


def _is_record(record: FileRecord) -> bool:
    """Return whether a record has what the cache must know. It may come from another person's directory."""
    if type(record.get("name")) is not str:
        return False
    return record.get("ident") is None or (  # without an identity nothing is taken from it
        type(record.get("id")) is str
        and type(record.get("max_seq")) is int
        and record.get("source") in (NBRUN, PROGRESS, LEGACY)
    )


def _release(data: mmap.mmap, start: int, end: int) -> None:
    """Give a part of a mapped file back to the system, whole pages of it: texts would be in memory twice."""
    if hasattr(mmap, "MADV_DONTNEED"):
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            data.madvise(mmap.MADV_DONTNEED, first, last - first)


class RowCache:
    """The cache of one results directory."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self.folder = results / FOLDER / "cache"
        self.packs: list[Pack] = []
        self._paths: list[str] = []
        self._unusable: list[str] = []
        self._by_name: dict[str, Kept] = {}
        self.hits: dict[str, Kept] = {}  # what `known` has found unchanged
        self._open()

    def _is_ours(self) -> bool:
        """Return whether the folder is, or may be created, inside the results directory and not behind a link."""
        inner = self.folder.parent
        is_absent = not os.path.lexists(self.folder) and (
            not os.path.lexists(inner) or plain_files.is_real_folder(inner)
        )
        return is_absent or (plain_files.is_real_folder(inner) and plain_files.is_real_folder(self.folder))

    def _open(self) -> None:
        if not self._is_ours():
            return
        try:
            names = sorted(n for n in os.listdir(self.folder) if n.endswith(SUFFIX))
        except OSError:
            return
        for name in names:
            path = os.path.join(self.folder, name)
            try:
                with plain_files.open_reading(path) as f:
                    data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
                pack = unpack(memoryview(data), partial(_release, data))
            except BadPack:  # damaged, or by another version of nbrun
                self._unusable.append(path)
                continue
            except (OSError, ValueError):  # ValueError: an empty file can't be mapped
                continue
            if not all(map(_is_record, pack.files)):
                continue
            number = len(self.packs)
            self.packs.append(pack)
            self._paths.append(path)
            start = 0
            for record in pack.files:
                self._by_name[record["name"]] = Kept(number, start, record)
                start += record["n"]

    def known(self, entry: os.DirEntry[str]) -> FileInfo | None:
        """Return the listing of a file from the cache if the file is unchanged, else None (for list_samples)."""
        self.hits.pop(entry.name, None)  # files may be listed several times, and this one have changed since
        kept = self._by_name.get(entry.name)
        if kept is None:
            return None
        stat = entry.stat(follow_symlinks=False)
        record = kept.record
        if identity(stat) != record["ident"]:
            return None
        self.hits[entry.name] = kept
        info = FileInfo(entry.name, record["id"] or "", record["source"] or "", stat.st_size, stat.st_mtime_ns)
        info.seen_seq = record["max_seq"]
        return info

    def know_archived(self, name: str, place: Place) -> None:
        """Look up an archived file; it counts as a hit if its rows were read from that very member."""
        self.hits.pop(name, None)  # of the file, where it was listed before it was archived
        kept = self._by_name.get(name)
        if kept is not None and kept.record["ident"] == identity_in(place):
            self.hits[name] = kept

    def keep(self, fresh: Callable[[], Pack], all_of_it: Callable[[], Pack], sizes: Sizes, read_at: float) -> None:
        """Store the rows that were read now.

        Args:
            fresh: makes a pack of the files that were read now.
            all_of_it: makes a pack of all files, should the parts be put together.
            sizes: what there is.
            read_at: the time.time() at which reading began.
        """
        if sizes.fresh_bytes < MIN_BYTES or not self._is_ours():
            return
        dead = sum(p.n for p in self.packs) + sizes.fresh_rows - sizes.rows
        try:
            outdated = self._unusable
            if len(self.packs) < MAX_PARTS and dead <= sizes.rows:
                self._write(fresh(), read_at)
            else:
                self._write(all_of_it(), read_at)
                outdated = outdated + self._paths
            for path in outdated:
                files.remove(Path(path))
        except (OSError, MemoryError):
            return  # a full or read-only disk, or a process with little memory: a missing cache only costs time

    def _write(self, pack: Pack, read_at: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        beside = self.folder / f"{name}.tmp"
        beside.touch()
        try:
            now = beside.stat().st_ctime_ns - int(
                (time.time() - read_at) * 1e9
            )  # when reading began, by the disk's clock
            for record in pack.files:
                ident = record["ident"]
                if ident and now - ident[2] < (COARSE_NS if ident[2] % 1_000_000_000 == 0 else FINE_NS):
                    record["ident"] = None
            files.put_derived(self.folder / (name + SUFFIX), pack.to_parts(), beside)
        except (OSError, MemoryError):
            beside.unlink(missing_ok=True)
            raise
