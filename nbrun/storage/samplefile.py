"""What a sample's file is, of any of the three formats, by its head and tail; reads and lays out nbrun's own.

Pure functions over bytes and descriptors; used by writers and readers alike, from any thread. Formats: see format.py;
the whole of an older program's file is read by oldfile.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol
from zlib import crc32

from nbrun.storage import files
from nbrun.storage.format import ENTRY_HEAD, FORMAT
from nbrun.storage.values import dump, load

HEAD_BYTES, TAIL_BYTES = 1024, 4096
_NBRUN_HEAD = b'{\n"format": "nbrun/'
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
_SUMMARY = re.compile(rb'\n"summary": (\{.*\}),\n"progress": (\{.*\})\n\}\n\Z')
_PROGRESS = re.compile(rb'"progress"\s*:\s*(\{[^{}]*\})\s*\}\s*\Z')
_RESULT_LIST = re.compile(rb'("(?:[^"\\]|\\.)*_result"): \[\n')
_NEEDED = {"result", "run_id", "context", "worker_id", "api_used"}
NBRUN, PROGRESS, LEGACY = "nbrun", "progress", "legacy"


class Unreadable(Exception):
    """The file holds no results that can be read; the message says why."""


class Place(NamedTuple):
    """Where a file stands in an archive: its member's header, its packed and its own size, its CRC-32; and what tells
    the archive from another of that name."""

    name: str  # the archive's
    offset: int
    packed: int
    size: int
    crc: int
    ctime_ns: int
    ino: int


@dataclass(slots=True)
class FileInfo:
    """What head and tail of a file tell. `summary` is there for nbrun's own files only.

    A file of nbrun's own without its last lines `is_damaged`: its entries count as far as they can be read, and
    `seen_seq` is the highest seq among them. A file that stands in an archive has its `place` there.
    """

    name: str
    sample_id: str
    source: str
    size: int
    mtime_ns: int
    summary: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None
    is_damaged: bool = False
    seen_seq: int = 0
    place: Place | None = None

    @property
    def max_seq(self) -> int:
        """The highest seq in it; 0 for an old file."""
        return int(self.summary["max_seq"]) if self.summary else self.seen_seq

    @property
    def is_complete(self) -> bool:
        """What the file says of itself; of an old file it is not to be trusted."""
        return bool(self.progress and self.progress.get("is_complete"))


class EntryHead(NamedTuple):
    """What an entry's first keys tell, and where it stands in its file."""

    group: str
    item_index: int | None
    key: bytes
    occurrence: int
    seq: int
    status: str
    offset: int
    length: int


def peek(path: Path) -> FileInfo:
    """Reads head and tail only.

    Raises:
        Unreadable: no sample's file, or one that is cut short.
        OSError: it can't be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        stat = os.fstat(fd)
        size = stat.st_size
        head = os.pread(fd, HEAD_BYTES, 0)
        tail = head if size <= len(head) else os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES))
        if head.startswith(_NBRUN_HEAD):
            found = _SUMMARY.search(tail)
            taken = len(tail)
            while found is None and taken < size:  # results of very many runs, or a file cut short
                taken = min(16 * taken, size)
                found = _SUMMARY.search(files.read_at(fd, size - taken, taken))
            return _own_info(path.name, head, found, size, stat.st_mtime_ns)
        return _old_info(path.name, head, tail, size, stat.st_mtime_ns)
    except (ValueError, EOFError) as e:
        raise Unreadable(f"its first or last lines are damaged ({e})") from None
    except IsADirectoryError:
        raise Unreadable("is a folder") from None
    finally:
        os.close(fd)


def info_of(name: str, data: bytes, mtime_ns: int) -> FileInfo:
    """The same of a file's bytes.

    Raises:
        Unreadable: no sample's file, or one that is cut short.
    """
    head, tail = data[:HEAD_BYTES], data[-TAIL_BYTES:]
    if head.startswith(_NBRUN_HEAD):
        return _own_info(name, head, _SUMMARY.search(tail) or _SUMMARY.search(data), len(data), mtime_ns)
    return _old_info(name, head, tail, len(data), mtime_ns)


def _own_info(name: str, head: bytes, found: re.Match[bytes] | None, size: int, mtime_ns: int) -> FileInfo:
    version = head[len(_NBRUN_HEAD) :].split(b'"', 1)[0]
    if version != FORMAT.split("/")[1].encode():
        raise Unreadable(f"was written in format nbrun/{version.decode('utf-8', 'replace')}; this nbrun knows {FORMAT}")
    sample_id = _read_id(head)
    if found is None:
        raise Unreadable("is cut short or was changed by hand: its last lines are missing")
    try:
        summary, progress = load(found[1]), load(found[2])
        told = summary.pop("check", None)
        plain = found[1][: -len(b',"check":"01234567"}')] + b"}"
        if told is None or int(told, 16) == _check(sample_id, plain):  # files of before have none
            int(summary["max_seq"]), int(summary["done"]), summary["identities"], summary["errors"].values()
            return FileInfo(name, sample_id, NBRUN, size, mtime_ns, summary, progress)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Unreadable("its last lines are damaged")


def _old_info(name: str, head: bytes, tail: bytes, size: int, mtime_ns: int) -> FileInfo:
    if size == 0:
        raise Unreadable("is empty")
    if not head.lstrip().startswith(b"{"):
        raise Unreadable("is no JSON object")
    if b'_result"' not in head and b'"id"' not in head:
        raise Unreadable("is no sample's file (it has no id)")
    sample_id = _read_id(head)
    if not tail.rstrip().endswith(b"}"):
        raise Unreadable("is cut short")
    found = _PROGRESS.search(tail)
    progress = load(found[1]) if found else None
    return FileInfo(name, sample_id, PROGRESS if found else LEGACY, size, mtime_ns, None, progress)


def _read_id(head: bytes) -> str:
    found = _ID.search(head)
    if found is None:
        raise Unreadable("is no sample's file (it has no id)")
    return str(load(found[1]))


def peek_damaged(path: Path) -> FileInfo | None:
    """What is left of a file in nbrun's format that `peek` can't read; None where that is nothing to build on."""
    try:
        with open(path, "rb") as f:
            head = f.read(HEAD_BYTES)
            if not head.startswith(_NBRUN_HEAD + FORMAT.split("/")[1].encode() + b'"'):
                return None
            sample_id = _read_id(head)
            f.seek(0)
            seen = max((h.seq for h in entry_heads(f)), default=0)
            stat = os.fstat(f.fileno())
    except (OSError, Unreadable, ValueError):
        return None
    return FileInfo(path.name, sample_id, NBRUN, stat.st_size, stat.st_mtime_ns, is_damaged=True, seen_seq=seen)


class Placed(Protocol):
    """Where an entry stands in a file."""

    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...


def read_entry(file: BinaryIO, place: Placed) -> dict[str, Any] | None:
    """An entry of a file in nbrun's format; None where it is damaged."""
    file.seek(place.offset)
    try:
        value = load(file.read(place.length))
    except ValueError:
        return None
    return value if isinstance(value, dict) and value.keys() >= _NEEDED else None


def claimed_id(path: Path) -> str | None:
    """The id that a damaged file begins with, if it can still be read."""
    try:
        with open(path, "rb") as f:
            return _read_id(f.read(HEAD_BYTES))
    except (OSError, Unreadable, ValueError):
        return None


def entry_heads(lines: Iterable[bytes]) -> Iterator[EntryHead]:
    """The entries of a file in nbrun's format, in its order; lines that are no entries are passed over.

    Args:
        lines: the file's lines with their line feeds, such as the file opened for reading bytes.
    """
    group = ""
    at = 0
    for line in lines:
        if line.startswith(b'{"index":') and line.endswith(b"\n"):  # the last line of a file cut short has none
            found = ENTRY_HEAD.match(line)
            if found and group:
                index, key, occurrence, seq, status = found.groups()
                yield EntryHead(
                    group, None if index == b"null" else int(index), bytes.fromhex(key.decode()), int(occurrence),
                    int(seq), status.decode(), at, len(line.rstrip(b"\n").removesuffix(b",")),
                )  # fmt: skip
        elif line.endswith(b"[\n") and (title := _RESULT_LIST.match(line)):
            group = str(load(title[1])).removesuffix("_result")
        at += len(line)


def group_names(lines: Iterable[bytes]) -> list[str]:
    """The groups of a file in nbrun's format."""
    found = (_RESULT_LIST.match(line) for line in lines if line.endswith(b"[\n"))
    return [str(load(title[1])).removesuffix("_result") for title in found if title]


def strange_lines(lines: Iterable[bytes]) -> int:
    """How many lines inside the lists of a file in nbrun's format begin like no entry."""
    inside = False
    count = 0
    for line in lines:
        if line.endswith(b"[\n") and _RESULT_LIST.match(line):
            inside = True
        elif line == b"],\n":
            inside = False
        elif inside and not ENTRY_HEAD.match(line):
            count += 1
    return count


@dataclass(slots=True)
class Layout:
    """Everything of a file but its entries."""

    sample_id: str
    totals: dict[str, int]
    completed: dict[str, int]
    is_complete: bool
    summary: dict[str, Any]
    api_used: str = ""
    worker_id: str = ""
    groups: dict[str, list[Any]] = field(default_factory=dict)  # group -> what stands for its entries, in order


def opening(sample_id: str) -> bytes:
    """The first lines of a file."""
    return b'{\n"format": "nbrun/1",\n"id": %b,\n' % dump(sample_id)


def group_opening(group: str) -> bytes:
    """The line before a group's entries."""
    return dump(group + "_result") + b": [\n"


def closing(layout: Layout, progress: bytes) -> bytes:
    """The last lines of a file."""
    summary = dump(layout.summary)
    return b'"api_used": %b,\n"worker_id": %b,\n"summary": %b,"check":"%08x"},\n"progress": %b\n}\n' % (
        dump(layout.api_used), dump(layout.worker_id),
        summary[:-1], _check(layout.sample_id, summary), progress,
    )  # fmt: skip


def _check(sample_id: str, summary: bytes) -> int:
    """A summary is believed without a look at the entries, so it carries a checksum, over the id too."""
    return crc32(summary, crc32(dump(sample_id)))
