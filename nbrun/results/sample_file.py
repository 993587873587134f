"""What a sample's file is, of any of the three formats, by its head and tail; reads and lays out nbrun's own.

Pure functions over bytes and descriptors; used by writers and readers alike, from any thread. Formats: see format.py;
the whole of an older program's file is read by legacy.py.
"""

from __future__ import annotations

import codecs
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol
from zlib import crc32

from nbrun import verdicts
from nbrun.results import values
from nbrun.results.format import BETWEEN, ENTRY_HEAD, FORMAT, progress_object
from nbrun.results.values import dump, load
from nbrun.storage import files
from nbrun.texts import without_surrogates

HEAD_BYTES, TAIL_BYTES = 1024, 4096
#: An id is looked for in so much of a damaged file.
ID_BYTES = 64 << 20
_NBRUN_HEAD = b'{\n"format": "nbrun/'
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
_SUMMARY = re.compile(rb'\n"summary": (\{.*\}),\n"progress": (\{.*\})\n\}\n\Z')
_PROGRESS = re.compile(rb'"progress"\s*:\s*(\{[^{}]*\})\s*\}\s*\Z')
_RESULT_LIST = re.compile(rb'("(?:[^"\\]|\\.)*_result"): \[\n')
_OWN_ID = re.compile(rb'\{\n"format": "nbrun/[^"\n]*",\n"id": ("[^\n]*"),\n')
_TEXT = rb'"(?:[^"\\]|\\.)*'
#: The head of a file as the older program writes it, up to its first entry: no other tool has touched it.
_PLAINLY_OLD = re.compile(
    rb'\s*\{\s*"id"\s*:\s*(?:' + _TEXT + rb'"|-?\d+)\s*,\s*(?:' + _TEXT + rb'_result"\s*:\s*\[\s*\]\s*,\s*)*'
    + _TEXT + rb'_result"\s*:\s*\[\s*\{\s*"(?:language|solution|result)"'
)  # fmt: skip
_BOM = codecs.BOM_UTF8
_TEXTS = ("run_id", "context", "worker_id", "api_used")
_NUMBERS, _NUMBER_OR_NONE = ("attempts", "started_at", "duration_s"), frozenset((int, float, type(None)))
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
    """What a file's first and last lines say; a file that another tool wrote is read whole.

    Raises:
        Unreadable: no sample's file, or one that is cut short.
        OSError: it can't be opened.
    """
    fd = files.open_plain(path)
    try:
        stat = os.fstat(fd)
        return _info(path.name, lambda at, n: _pread(fd, at, n), stat.st_size, stat.st_mtime_ns)
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
    return _info(name, lambda at, n: data[at : at + n], len(data), mtime_ns)


def _pread(fd: int, at: int, length: int) -> bytes:
    """Up to `length` bytes: fewer only at the end of the file."""
    data = files.pread(fd, length, at)
    while 0 < len(data) < length and (more := files.pread(fd, length - len(data), at + len(data))):
        data += more
    return data


def _info(name: str, read: Callable[[int, int], bytes], size: int, mtime_ns: int) -> FileInfo:
    head = read(0, HEAD_BYTES)
    tail = head if size <= len(head) else read(max(0, size - TAIL_BYTES), TAIL_BYTES)
    is_own = head.startswith(_NBRUN_HEAD)
    if is_own:
        _check_version(head)
        found = _SUMMARY.search(tail)
        taken = len(tail)
        while found is None and taken < size:  # results of very many runs, or a file cut short
            taken = min(16 * taken, size)
            found = _SUMMARY.search(read(size - taken, taken))
        if found is not None:
            return _own_info(name, _own_id(read, size), found, size, mtime_ns)
    if not is_own and _PLAINLY_OLD.match(head):
        return _old_info(name, head, tail, size, mtime_ns)
    data = read(0, size)
    again = lay_out_anew(data)
    if again is not None:
        return replace(info_of(name, again, mtime_ns), size=size)
    if is_own:
        raise Unreadable("is cut short or was changed by hand: its last lines are missing")
    return _old_info(name, data, tail, size, mtime_ns)


def _check_version(head: bytes) -> None:
    version = head[len(_NBRUN_HEAD) :].split(b'"', 1)[0][:40]
    if version != FORMAT.split("/")[1].encode():
        raise Unreadable(f"was written in format nbrun/{version.decode('utf-8', 'replace')}; this nbrun knows {FORMAT}")


def _own_id(read: Callable[[int, int], bytes], size: int) -> str:
    """The id in the third line of a file in nbrun's layout, however long it is."""
    taken = HEAD_BYTES
    while True:
        found = _OWN_ID.match(read(0, taken))
        if found is not None:
            return str(load(found[1]))
        if taken >= size:
            raise Unreadable("is no sample's file (it has no id)")
        taken *= 16


def _own_info(name: str, sample_id: str, found: re.Match[bytes], size: int, mtime_ns: int) -> FileInfo:
    try:
        summary, progress = load(found[1]), load(found[2])
        told = summary.pop("check", None)
        plain = found[1][: -len(b',"check":"01234567"}')] + b"}"
        is_right = told is None or int(told, 16) == _check(sample_id, plain)  # files of before have none
        if is_right and is_summary(summary) and isinstance(progress, dict):
            return FileInfo(name, sample_id, NBRUN, size, mtime_ns, summary, progress)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Unreadable("its last lines are damaged")


def is_summary(value: Any) -> bool:
    """Whether it holds what a file's summary must: a checksum says where it was written, not what is in it."""
    return (
        isinstance(value, dict)
        and is_count(value.get("max_seq"))
        and is_count(value.get("done"))
        and isinstance(value.get("identities"), str)
        and all(is_counts(value.get(name)) for name in ("errors", "verdicts"))
        and all(is_counts(value.get(name, {})) for name in ("runs", "contexts"))
    )


def is_count(value: Any) -> bool:
    """Whether it is an integer from 0 on that 64 bits hold."""
    return type(value) is int and 0 <= value < 2**63


def is_counts(value: Any) -> bool:
    """Whether it is a mapping of counts."""
    return isinstance(value, dict) and all(map(is_count, value.values()))


def _old_info(name: str, head: bytes, tail: bytes, size: int, mtime_ns: int) -> FileInfo:
    if size == 0:
        raise Unreadable("is empty")
    if not head.removeprefix(_BOM).lstrip().startswith(b"{"):
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
        with files.open_reading(path) as f:
            fd = f.fileno()
            stat = os.fstat(fd)
            if not f.read(HEAD_BYTES).startswith(_NBRUN_HEAD + FORMAT.split("/")[1].encode() + b'"'):
                return None
            sample_id = _own_id(lambda at, n: _pread(fd, at, n), stat.st_size)
            f.seek(0)
            seen = max((h.seq for h in _scan(f).heads), default=0)
    except (OSError, Unreadable, ValueError):
        return None
    return FileInfo(path.name, sample_id, NBRUN, stat.st_size, stat.st_mtime_ns, is_damaged=True, seen_seq=seen)


# ---- entries


class Placed(Protocol):
    """Where an entry stands in a file."""

    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...


def read_entry(file: BinaryIO, place: Placed) -> dict[str, Any] | None:
    """An entry of a file in nbrun's format; None where it is damaged."""
    file.seek(place.offset)
    return parse_entry(file.read(place.length))


def parse_entry(body: bytes) -> dict[str, Any] | None:
    """An entry's bytes as a mapping that holds what every entry must; None where it is damaged."""
    try:
        value = load(body)
    except ValueError:
        return None
    return value if is_entry(value) else None


def is_entry(value: Any) -> bool:
    """Whether it holds what every entry must, beside the five keys of its head."""
    if not isinstance(value, dict) or "result" not in value:
        return False
    for name in _TEXTS:
        if type(value.get(name)) is not str:
            return False
    for name in _NUMBERS:
        if type(value.get(name)) not in _NUMBER_OR_NONE:
            return False
    error = value.get("error")
    return error is None or (
        isinstance(error, dict) and type(error.get("type")) is str and type(error.get("message")) is str
    )


def claimed_id(path: Path) -> str | None:
    """The id that a damaged file begins with, if it can still be read."""
    try:
        with files.open_reading(path) as f:
            head = f.read(HEAD_BYTES)
            while len(head) < ID_BYTES and not _ID.search(head) and (more := f.read(15 * len(head))):
                head += more
            return _read_id(head)
    except (OSError, Unreadable, ValueError):
        return None


@dataclass(slots=True)
class OwnFile:
    """A file of nbrun's, read: its entries and where their bytes are in `file`.

    `damaged` counts the lines inside its lists that are no entries. `is_foreign`: another tool has written the file
    anew, and `file` is its content in nbrun's layout. `sample_id` is None where that line is damaged.
    """

    file: BinaryIO
    heads: list[EntryHead]
    groups: list[str]
    damaged: int
    is_foreign: bool = False
    sample_id: str | None = None

    def body(self, place: Placed) -> bytes:
        """An entry's bytes."""
        self.file.seek(place.offset)
        return self.file.read(place.length)


def read_any(file: BinaryIO) -> OwnFile | bytes:
    """A sample's file: of nbrun's its entries, of the older program's its bytes. Its content says which it is.

    Raises:
        Unreadable: it was written by a newer nbrun.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    is_own = head.startswith(_NBRUN_HEAD)
    if is_own:
        _check_version(head)
        file.seek(0)
        own = _scan(file)
        if not own.damaged and ends_as_own(file):
            return own
    file.seek(0)
    data = file.read()
    again = None if not is_own and _PLAINLY_OLD.match(head) else lay_out_anew(data)
    if again is not None:
        found = _scan(io.BytesIO(again))
        found.is_foreign = True
        return found
    return own if is_own else data


def ends_as_own(file: BinaryIO) -> bool:
    """Whether a file has the last lines that nbrun gives it."""
    size = file.seek(0, os.SEEK_END)
    taken = min(TAIL_BYTES, size)
    while True:
        file.seek(size - taken)
        if _SUMMARY.search(file.read(taken)):
            return True
        if taken >= size:
            return False
        taken = min(16 * taken, size)


def is_own_layout(file: BinaryIO) -> bool:
    """Whether a file begins and ends as nbrun lays it out."""
    file.seek(0)
    return file.read(len(_NBRUN_HEAD)) == _NBRUN_HEAD and ends_as_own(file)


def _scan(lines: BinaryIO) -> OwnFile:
    """The entries of a file in nbrun's layout, in its order, from where `lines` is."""
    out = OwnFile(lines, [], [], 0)
    group: str | None = None  # inside this one's list
    at = 0
    for line in lines:
        if group is not None and line != b"],\n":
            # the last line of a file that is cut short has no line feed
            found = ENTRY_HEAD.match(line) if line.endswith(b"\n") else None
            if found is None:
                if title := _title(line):  # the line that ended the list before is damaged
                    group = title
                    out.groups.append(group)
                out.damaged += 1
            else:
                index, key, occurrence, seq, status = found.groups()
                out.heads.append(EntryHead(
                    group, None if index == b"null" else int(index), bytes.fromhex(key.decode()), int(occurrence),
                    int(seq), status.decode(), at, len(line.rstrip(b"\n").removesuffix(b",")),
                ))  # fmt: skip
        elif group is not None:
            group = None
        elif (title := _title(line)) is not None:
            group = title
            out.groups.append(group)
        elif line.startswith(b'{"index":'):  # an entry in no list
            out.damaged += 1
        elif out.sample_id is None and line.startswith(b'"id": '):
            out.sample_id = _text_of(line[6:].rstrip(b"\n").removesuffix(b","))
        at += len(line)
    return out


def _title(line: bytes) -> str | None:
    """The group whose list a line of a file in nbrun's layout opens."""
    found = _RESULT_LIST.match(line) if line.endswith(b"[\n") else None
    title = None if found is None else _text_of(found[1])
    return None if title is None else title.removesuffix("_result")


def _text_of(data: bytes) -> str | None:
    """A text in JSON; None where it is damaged."""
    try:
        return str(load(data))
    except ValueError:
        return None


# ---- files that another tool has written anew


def lay_out_anew(data: bytes) -> bytes | None:
    """The content of a file of nbrun's that another tool has written anew (indented, on one line, with sorted keys or
    other line ends), in nbrun's own layout; None where it is no such file.

    What the file says in sum is counted from its entries, since its checksum holds for one layout only. What is no
    entry becomes a line that counts as damaged.

    Raises:
        Unreadable: it was written by a newer nbrun, or has no id.
    """
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    data = data.removeprefix(_BOM)
    if b'"format"' not in data and b'"seq"' not in data:
        return None
    try:
        value = load(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    lists = {str(k).removesuffix("_result"): rows for k, rows in value.items() if k.endswith("_result")}
    version = value.get("format")
    if isinstance(version, str) and version.startswith("nbrun/"):
        if version != FORMAT:
            raise Unreadable(f"was written in format {version[:40]}; this nbrun knows {FORMAT}")
    elif not any(_has_own_head(row) for rows in lists.values() if isinstance(rows, list) for row in rows):
        return None
    sample_id = value.get("id")
    if type(sample_id) not in (str, int):
        raise Unreadable("is no sample's file (it has no id)")
    layout = Layout(_plain_text(sample_id), {}, {}, False, {})
    counts = _Counts()
    parts = []
    for name, rows in lists.items():
        group = _plain_text(name)
        lines = [_line_of(row, group, counts) for row in (rows if isinstance(rows, list) else [rows])]
        parts += [group_opening(group), BETWEEN.join(lines), b"\n],\n" if lines else b"],\n"]
        layout.completed[group] = counts.done[group]
    progress = value.get("progress")
    told = progress if isinstance(progress, dict) else {}
    for group in lists:
        total: Any = told.get(f"total_{group}s")
        layout.totals[_plain_text(group)] = int(total) if is_count(total) else counts.placed[_plain_text(group)]
    layout.is_complete = bool(told) and layout.completed == layout.totals
    before = value.get("summary")
    identities = before.get("identities") if isinstance(before, dict) else ""
    layout.summary = {
        "max_seq": counts.max_seq, "identities": identities if isinstance(identities, str) else "",
        "done": counts.done.total(), "errors": {g: counts.errors[g] for g in layout.totals},
        "verdicts": counts.verdicts, "runs": counts.runs, "contexts": counts.contexts,
    }  # fmt: skip
    if any(verdicts.expected(group) is not None for group in layout.totals):
        layout.summary["unexpected"] = counts.unexpected
    layout.api_used, layout.worker_id = (_plain_text(value.get(k) or "") for k in ("api_used", "worker_id"))
    progress_line = progress_object(layout.totals, layout.completed, layout.is_complete)
    return b"".join([opening(layout.sample_id), *parts, closing(layout, progress_line)])


class _Counts:
    """What the summary of a file counts."""

    def __init__(self) -> None:
        self.max_seq = 0
        self.placed, self.done, self.errors = Counter[str](), Counter[str](), Counter[str]()
        self.verdicts, self.runs, self.contexts = Counter[str](), Counter[str](), Counter[str]()
        self.unexpected = 0

    def add(self, group: str, entry: Mapping[str, Any]) -> None:
        self.max_seq = max(self.max_seq, entry["seq"])
        if entry["index"] is None:
            return
        self.placed[group] += 1
        if entry["status"] != "done":
            self.errors[group] += 1
            return
        self.done[group] += 1
        self.runs[entry["run_id"]] += 1
        self.contexts[entry["context"]] += 1
        verdict = verdicts.counted(entry["result"])
        if verdict is not None:
            self.verdicts[verdict] += 1
        self.unexpected += verdicts.is_unexpected(verdicts.expected(group), verdict)


_HEAD_KEYS = ("index", "key", "occurrence", "seq", "status")


def _has_own_head(row: Any) -> bool:
    """Whether it has the first five keys of an entry, in any order."""
    return isinstance(row, dict) and all(name in row for name in _HEAD_KEYS)


def is_own(value: dict[str, Any]) -> bool:
    """Whether a parsed file is one of nbrun's, whatever tool has written it: by its format, or by its entries."""
    if isinstance(value.get("format"), str) and value["format"].startswith("nbrun/"):
        return True
    lists = (rows for name, rows in value.items() if name.endswith("_result") and isinstance(rows, list))
    return any(_has_own_head(row) for rows in lists for row in rows)


def _line_of(row: Any, group: str, counts: _Counts) -> bytes:
    if not _has_own_head(row):
        return values.encode({"damaged": row}, where="")[0]
    entry = {name: row[name] for name in _HEAD_KEYS} | row
    data, lossy = values.encode(entry, where="")
    if lossy and not row.get("lossy"):
        data = data[:-1] + b',"lossy":true}'
    if ENTRY_HEAD.match(data) and parse_entry(data) is not None:
        counts.add(group, entry)
    return data


def _plain_text(value: Any) -> str:
    return without_surrogates(str(value))


# ---- writing


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
