"""The reader and writer of a sample's file.

`peek` says by head and tail what a file is, of any of the three formats; `read_any` finds the entries of a file in
nbrun's format; `parse_old` and `match_old` those of a file of the older program, and their items; `lay_out` and
`closing` write a file. The formats are described in format.py.

Pure functions over bytes and descriptors; writers and readers call them from any thread.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeAlias, TypeGuard, TypeVar, cast
from zlib import crc32

from nbrun import verdicts
from nbrun.canonical import EMPTY_DIGEST, blake2b, canonical, digest, key_text
from nbrun.results import plain_files, values
from nbrun.results.format import (
    BETWEEN,
    FORMAT,
    MAX_SEQ,
    Entry,
    Head,
    JsonObject,
    JsonValue,
    MatchRecord,
    Summary,
    head_of,
    progress_object,
)
from nbrun.results.values import decode, dump, load, load_quickly, load_strictly
from nbrun.texts import id_text, integer_of, without_surrogates
from nbrun.tuning import TUNING

if TYPE_CHECKING:
    from nbrun.samples import Group, Sample

HEAD_BYTES, TAIL_BYTES, CHUNK_BYTES = 1024, 4096, 1 << 20
#: How many bytes of a damaged file are searched for its id.
ID_BYTES = 64 << 20
#: How a file in nbrun's layout begins, whatever its version, and in this one.
OWN_HEAD = b'{\n"format": "nbrun/'
_THIS_VERSION = b'{\n"format": "%b"' % FORMAT.encode()
_OPENING = b'{\n"format": "%b",\n"id": %%b,\n' % FORMAT.encode()
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
_SUMMARY = re.compile(rb'\n"summary": (\{.*\}),\n"progress": (\{.*\})\n\}\n\Z')
_PROGRESS = re.compile(rb'"progress"\s*:\s*(\{[^{}]*\})\s*\}\s*\Z')
RESULT_LIST = re.compile(rb'("(?:[^"\\]|\\.)*_result"): \[\n')
_OWN_ID = re.compile(rb'\{\n"format": "nbrun/[^"\n]*",\n"id": ("[^\n]*"),\n')
#: The head of a file as the older program writes it, up to its first entry: no other tool has touched it.
_PLAINLY_OLD = re.compile(
    rb"""
    \s*\{\s* "id" \s*:\s* (?: "(?:[^"\\]|\\.)*" | -?\d+ ) \s*,\s*  # {"id": ...,
    (?: "(?:[^"\\]|\\.)*_result" \s*:\s* \[\s*\] \s*,\s* )*         # "..._result": [], of groups without entries
    "(?:[^"\\]|\\.)*_result" \s*:\s* \[\s*                           # "..._result": [
    \{\s* "(?:language|solution|result)"                               # {"language"
    """,
    re.VERBOSE,
)
_BOM = codecs.BOM_UTF8
_TEXTS = ("run_id", "context", "worker_id", "api_used")
_NUMBERS, _NUMBER_OR_NONE = ("attempts", "started_at", "duration_s"), frozenset((int, float, type(None)))
NBRUN, PROGRESS, LEGACY = "nbrun", "progress", "legacy"
_NONE: Mapping[str, int] = {}
#: The top-level keys of a file that nbrun or the older program writes, beside those of the groups.
KNOWN_KEYS = frozenset({"format", "id", "api_used", "worker_id", "summary", "progress"})
_GROUP_END, _EMPTY_GROUP_END = b"\n],\n", b"],\n"


class Unreadable(Exception):
    """The file holds no results that can be read; the message says why."""


class Place(NamedTuple):
    """Where a file is in an archive: the offset of its member's header, its packed and its own size, its CRC-32; and
    the archive's ctime and inode, which distinguish it from another archive of that name."""

    name: str  # the archive's
    offset: int
    packed: int
    size: int
    crc: int
    ctime_ns: int
    ino: int


@dataclass(slots=True)
class FileInfo:
    """What the head and tail of a file say. Only nbrun's own files have a `summary`.

    A file of nbrun's own without its last lines `is_damaged`: its entries count as far as they can be read. Without a
    summary `seen_seq` is the highest seq that is known of. The `place` of an archived file is where it is in its
    archive.
    """

    name: str
    sample_id: str
    source: str
    size: int
    mtime_ns: int
    summary: Summary | None = None
    progress: Mapping[str, object] | None = None
    is_damaged: bool = False
    seen_seq: int = 0
    place: Place | None = None

    @property
    def max_seq(self) -> int:
        """The highest seq in it; 0 for an old file."""
        return self.summary["max_seq"] if self.summary else self.seen_seq

    def is_of(self, match: MatchRecord) -> bool:
        """Return whether a match record is about the file as it is now."""
        return (match["size"], match["mtime_ns"]) == (self.size, self.mtime_ns)

    def recorded(self, what: str) -> dict[str, int]:
        """Return the numbers of its progress object by group: of "total" or "completed" tasks."""
        return {
            key.removeprefix(what + "_").removesuffix("s"): n
            for key, n in (self.progress or {}).items()
            if key.startswith(what + "_") and is_count(n)
        }

    @property
    def is_complete(self) -> bool:
        """Whether the file says that it is complete; an old file may be wrong about that."""
        return bool(self.progress and self.progress.get("is_complete"))


_Key = TypeVar("_Key")
_Sign = TypeVar("_Sign")
_Entry = TypeVar("_Entry", bound="Numbered")


class Identity(NamedTuple):
    """What distinguishes an entry from the others of its sample."""

    group: str
    key: bytes
    occurrence: int


#: Where an entry's bytes are: in memory only, in the sample's file, or in a segment (its number + IN_SEGMENT).
NOWHERE, IN_FILE, IN_SEGMENT = 0, 1, 2


class Stored(NamedTuple):
    """One saved entry and where its bytes are.

    Attributes:
        where: NOWHERE, IN_FILE, or a segment's number + IN_SEGMENT.
        body: the entry's bytes where they were read already, or made of an old file's entry; else None.
        matched: False where an old file's entries were never matched with a dataset.
    """

    group: str
    item_index: int | None
    key: bytes
    occurrence: int
    seq: int
    status: str
    where: int
    offset: int
    length: int
    body: bytes | None = None
    matched: bool = True

    @property
    def identity(self) -> Identity:
        """Return its group, key and occurrence."""
        return Identity(self.group, self.key, self.occurrence)

    @property
    def is_done(self) -> bool:
        """Return whether it is a result, not an error."""
        return self.status == "done"


#: The first keys of an entry.
_Head: TypeAlias = Head | Stored


class Numbered(Protocol):
    """An entry with its seq."""

    @property
    def seq(self) -> int: ...

    @property
    def is_done(self) -> bool: ...


def keep_newest(entries: dict[_Key, _Entry], key: _Key, entry: _Entry, *, in_journal: bool = False) -> None:
    """Add an entry unless that of the same key counts (F4): a result before an error, then the higher seq.

    Args:
        in_journal: both are records of the journal; there the later one of two with one seq replaces the first. Else
            the first one stays.
    """
    before = entries.get(key)
    if before is None or is_newer(entry, before.seq, before.is_done, in_journal=in_journal):
        entries[key] = entry


def is_newer(entry: Numbered, seq: int, is_done: bool, *, in_journal: bool = False) -> bool:
    """Return whether an entry counts instead of one with this seq and status (F4). Arguments as for `keep_newest`."""
    if entry.is_done != is_done:
        return entry.is_done
    return entry.seq > seq or (in_journal and entry.seq == seq)


def peek(path: Path | os.DirEntry[str]) -> FileInfo:
    """Return what a file's first and last lines say. A file that another tool wrote is read whole.

    Raises:
        Unreadable: no sample's file, or one that is cut short.
        OSError: it can't be opened.
    """
    fd, stat = plain_files.open_and_stat(path)
    try:
        return _info(path.name, partial(plain_files.read_up_to, fd), stat.st_size, stat.st_mtime_ns)
    except (ValueError, EOFError) as e:
        raise Unreadable(f"its first or last lines are damaged ({e})") from None
    except IsADirectoryError:
        raise Unreadable("is a folder") from None
    finally:
        plain_files.close(fd)


def info_of(name: str, data: bytes, mtime_ns: int) -> FileInfo:
    """Return what `peek` says of a file, from its bytes.

    Raises:
        Unreadable: no sample's file, or one that is cut short.
    """
    return _info(name, lambda at, n: data[at : at + n], len(data), mtime_ns)


def _info(name: str, read: Callable[[int, int], bytes], size: int, mtime_ns: int) -> FileInfo:
    head = read(0, HEAD_BYTES if size > TAIL_BYTES else size)
    tail = head if size <= len(head) else read(size - TAIL_BYTES, TAIL_BYTES)
    is_own = head.startswith(OWN_HEAD)
    if is_own:
        _check_version(head)
        found = _last_lines(tail, read, size)
        if found is not None and (own_id := _own_id(head, read, size)) is not None:
            return _own_info(name, own_id, found, size, mtime_ns)
    elif _PLAINLY_OLD.match(head):
        return _old_info(name, head, tail, size, mtime_ns)
    _refuse_to_parse(size)
    data = read(0, size)
    converted = convert_foreign(data)
    if converted is not None:
        return replace(info_of(name, converted, mtime_ns), size=size)
    if is_own:
        raise Unreadable("is cut short or was changed by hand: its last lines are missing")
    return _old_info(name, data, tail, size, mtime_ns)


def may_be_parsed(file: BinaryIO) -> bool:
    """Return whether a file is small enough to be parsed at once."""
    return file.seek(0, os.SEEK_END) <= TUNING.max_whole_bytes


def read_whole(file: BinaryIO) -> bytes:
    """Return the bytes of a file that must be parsed at once. Raise Unreadable where it is too large for that."""
    _refuse_to_parse(file.seek(0, os.SEEK_END))  # this empties the buffer, too, which would be joined with the rest
    file.seek(0)
    return file.read()


def _refuse_to_parse(size: int) -> None:
    """Raise Unreadable where a file of this size is too large to be parsed at once."""
    most = TUNING.max_whole_bytes
    if size > most:
        raise Unreadable(f"has {size:,} bytes; a file that nbrun has not laid out itself is read only up to {most:,}")


def _check_version(head: bytes) -> None:
    if head.startswith(_THIS_VERSION):
        return
    version = head[len(OWN_HEAD) :].split(b'"', 1)[0][:40]
    raise Unreadable(f"was written in format nbrun/{version.decode('utf-8', 'replace')}; this nbrun knows {FORMAT}")


def _own_id(head: bytes, read: Callable[[int, int], bytes], size: int) -> bytes | None:
    """Return the id in the third line of a file in nbrun's layout, as JSON; None where it isn't there."""
    taken = HEAD_BYTES
    while (found := _OWN_ID.match(head)) is None and taken < size:
        taken *= 16
        head = read(0, taken)
    return None if found is None else bytes(found[1])


def _last_lines(tail: bytes, read: Callable[[int, int], bytes], size: int) -> re.Match[bytes] | None:
    """Find the summary and the progress object at a file's end, however long they are; None where they are missing."""
    taken = TAIL_BYTES
    while (found := _SUMMARY.search(tail)) is None and taken < size:  # results of very many runs, or a file cut short
        taken = min(16 * taken, size)
        tail = read(size - taken, taken)
    return found


def _own_info(name: str, own_id: bytes, found: re.Match[bytes], size: int, mtime_ns: int) -> FileInfo:
    summary_line, progress_line = found.groups()
    data = b"[%b,%b,%b]" % (own_id, summary_line, progress_line)
    parse = load if b"\\u" in data else load_quickly  # an integer beyond 64 bits is no count in either form
    try:  # one call for all three: this is most of what opening a finished directory costs
        sample_id, summary, progress = cast("list[JsonValue]", parse(data))
    except ValueError:
        raise Unreadable("its first or last lines are damaged") from None
    if isinstance(sample_id, str) and isinstance(summary, dict) and isinstance(progress, dict):
        is_right = _is_right_check(summary.pop("check", None), summary_line, own_id, sample_id)
        if is_right and is_summary(summary):
            return FileInfo(name, sample_id, NBRUN, size, mtime_ns, summary, progress)
    raise Unreadable("its first or last lines are damaged")


def _is_right_check(checksum: JsonValue, summary_line: bytes, own_id: bytes, sample_id: str) -> bool:
    """Return whether a summary has the checksum that its line names; older files name none."""
    if checksum is None:
        return True
    plain = summary_line[: -len(b',"check":"01234567"}')] + b"}"
    # another tool may have spelled the id in its own way
    return checksum == _check(own_id, plain) or checksum == _check(dump(sample_id), plain)


def is_summary(value: Any) -> TypeGuard[Summary]:
    """Return whether a value holds what a file's summary must; a checksum says nothing about its content."""
    try:
        counts = [
            value["done"],  # what is no mapping raises
            value.get("unexpected", 0),
            *value["errors"].values(),
            *value["verdicts"].values(),
            *value.get("runs", _NONE).values(),
            *value.get("contexts", _NONE).values(),
        ]
        are_counts = set(map(type, counts)) == {int} and min(counts) >= 0 and max(counts) < 2**63
        return are_counts and type(value["identities"]) is str and is_seq(value["max_seq"])
    except (AttributeError, KeyError, TypeError):
        return False


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of at least 0 that fits into 64 bits."""
    return type(value) is int and 0 <= value < 2**63


def is_seq(value: object) -> TypeGuard[int]:
    """Return whether a value is a seq, which has at most 18 digits."""
    return type(value) is int and 0 <= value <= MAX_SEQ


def is_counts(value: object) -> TypeGuard[dict[str, int]]:
    """Return whether a value is a mapping of counts."""
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
    if found is None:
        return FileInfo(name, sample_id, LEGACY, size, mtime_ns)
    return FileInfo(name, sample_id, PROGRESS, size, mtime_ns, progress=_object(load(found[1])))


def _read_id(head: bytes) -> str:
    found = _ID.search(head)
    if found is None:
        raise Unreadable("is no sample's file (it has no id)")
    return str(load(found[1]))


def peek_damaged(path: Path) -> FileInfo | None:
    """Return what is left of a file in nbrun's format that `peek` can't read; None where nothing of it can be used."""
    try:
        with plain_files.open_reading(path) as f:
            fd = f.fileno()
            stat = os.fstat(fd)
            head = f.read(HEAD_BYTES)
            if not head.startswith(_THIS_VERSION):
                return None
            own_id = _own_id(head, partial(plain_files.read_up_to, fd), stat.st_size)
            if own_id is None:
                return None
            sample_id = str(load(own_id))
            f.seek(0)
            seen = max((h.seq for h in _scan(f).heads), default=0)
    except (OSError, Unreadable, ValueError):
        return None
    return FileInfo(path.name, sample_id, NBRUN, stat.st_size, stat.st_mtime_ns, is_damaged=True, seen_seq=seen)


# ---- entries


def parse_entry(body: bytes) -> Entry | None:
    """Return an entry's bytes as a mapping that holds what every entry must; None where it is damaged."""
    try:
        value = load(body)
    except ValueError:
        return None
    return value if is_entry(value) else None


def load_entry(body: bytes) -> Entry:
    """Return an entry's bytes, which were checked before, as a mapping."""
    return cast(Entry, load(body))


def decode_entry(body: bytes) -> Entry:
    """Return an entry's bytes, which were checked before, as a mapping with non-finite floats put back."""
    return cast(Entry, decode(load(body)))


def is_entry(value: object) -> TypeGuard[Entry]:
    """Return whether a value holds what every entry must, beside the five keys of its head."""
    if not isinstance(value, dict) or "result" not in value:
        return False
    for name in _TEXTS:
        if type(value.get(name)) is not str:
            return False
    for name in _NUMBERS:
        if type(value.get(name)) not in _NUMBER_OR_NONE:
            return False
    error = value.get("error")
    return error is None or _is_error(error)


def _is_error(value: object) -> bool:
    """Return whether a value says what an error must."""
    return isinstance(value, dict) and type(value.get("type")) is str and type(value.get("message")) is str


def error_type(entry: Entry | None) -> str:
    """Return the type of the error that an entry holds, as far as it can be read."""
    error = entry.get("error") if entry else None
    return error["type"] if error else "error"


def claimed_id(path: Path) -> str | None:
    """Return the id that a damaged file begins with; None where it can't be read."""
    try:
        with plain_files.open_reading(path) as f:
            head = f.read(HEAD_BYTES)
            while len(head) < ID_BYTES and not _ID.search(head) and (more := f.read(15 * len(head))):
                head += more
            return _read_id(head)
    except (OSError, Unreadable, ValueError):
        return None


@dataclass(slots=True)
class OwnFile:
    """The entries of a file in nbrun's format, and where their bytes are in `file`.

    Attributes:
        damaged: how many lines inside its lists are no entries.
        is_foreign: another tool has re-serialised the file, and `file` is its content in nbrun's layout.
        sample_id: None where that line is damaged.
        extra: top-level keys that another tool has added -> their values as JSON.
    """

    file: BinaryIO
    heads: list[Stored]
    groups: list[str]
    damaged: int
    is_foreign: bool = False
    sample_id: str | None = None
    extra: dict[str, bytes] = field(default_factory=dict)

    def body(self, place: Stored) -> bytes:
        """Return an entry's bytes."""
        self.file.seek(place.offset)
        return self.file.read(place.length)


def read_any(file: BinaryIO, skipped: Mapping[str, int] = MappingProxyType({})) -> OwnFile | bytes:
    """Read a sample's file. Return the entries of one in nbrun's format, the bytes of one in an older format.

    Args:
        skipped: for a group, where in the file the last of the entries ends that are left out at its beginning.

    Raises:
        Unreadable: it was written by a newer nbrun, or is too large to be parsed at once.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    own: OwnFile | None = None
    if head.startswith(OWN_HEAD):
        _check_version(head)
        file.seek(0)
        own = _scan(file, skipped)
        if (not own.damaged and ends_as_own(file)) or not may_be_parsed(file):
            return own
    data = read_whole(file)
    if own is None and _PLAINLY_OLD.match(head):
        return data
    converted = convert_foreign(data)
    if converted is None:
        return data if own is None else own
    found = _scan(io.BytesIO(converted))
    found.is_foreign = True
    return found


def ends_as_own(file: BinaryIO) -> bool:
    """Return whether a file has the last lines that nbrun writes."""

    def read(at: int, length: int) -> bytes:
        file.seek(at)
        return file.read(length)

    size = file.seek(0, os.SEEK_END)
    tail = read(max(0, size - TAIL_BYTES), TAIL_BYTES)
    return _last_lines(tail, read, size) is not None


def _scan(lines: BinaryIO, skipped: Mapping[str, int] = MappingProxyType({})) -> OwnFile:
    """Find the entries of a file in nbrun's layout. Arguments: see `read_any`."""
    out = OwnFile(lines, [], [], 0)
    group: str | None = None  # the group whose list the line is in
    at = 0
    for line in lines:
        if group is not None:
            group = None if line == _EMPTY_GROUP_END else _scan_entry(out, line, group, at)
        elif (group := _title(line)) is None:
            _scan_other(out, line)
        else:
            out.groups.append(group)
            if group in skipped:
                at = lines.seek(skipped[group])
                line = lines.readline()  # what follows the entry on its line
        at += len(line)
    return out


def _scan_entry(out: OwnFile, line: bytes, group: str, at: int) -> str:
    """Take in a line at offset `at` inside a group's list. Return the group whose list the next line is in."""
    # the last line of a file that is cut short has no line feed
    head = head_of(line) if line.endswith(b"\n") else None
    if head is not None:
        out.heads.append(Stored(group, *head, IN_FILE, at, len(line.rstrip(b"\n").removesuffix(b","))))
        return group
    out.damaged += 1
    title = _title(line)
    if not title:
        return group
    out.groups.append(title)  # the line that ended the list before is damaged
    return title


def _scan_other(out: OwnFile, line: bytes) -> None:
    """Take in a line outside of the lists."""
    if line.startswith(b'{"index":'):  # an entry in no list
        out.damaged += 1
    elif out.sample_id is None and line.startswith(b'"id": '):
        out.sample_id = _text_of(line[6:].rstrip(b"\n").removesuffix(b","))
    elif (extra := _extra_in(line)) is not None:
        out.extra[extra[0]] = extra[1]


def _extra_in(line: bytes) -> tuple[str, bytes] | None:
    """Return the key and the JSON value of a line that another tool has added between nbrun's own."""
    if not line.startswith(b'"') or line.startswith(_OWN_LINES):
        return None
    try:
        parsed = load(b"{" + line.rstrip().removesuffix(b",") + b"}")
    except ValueError:
        return None
    if not isinstance(parsed, dict) or len(parsed) != 1:
        return None
    [(key, value)] = parsed.items()
    return (key, dump(value)) if _is_extra(key) else None


#: How the lines begin that nbrun writes outside of a file's lists.
_OWN_LINES = tuple(b'"%b": ' % key.encode() for key in sorted(KNOWN_KEYS))


def _title(line: bytes) -> str | None:
    """Return the group whose list a line of a file in nbrun's layout opens; None where it opens none."""
    found = RESULT_LIST.match(line) if line.endswith(b"[\n") else None
    title = None if found is None else _text_of(found[1])
    return None if title is None else title.removesuffix("_result")


def _text_of(data: bytes) -> str | None:
    """Return a text in JSON; None where it is damaged."""
    try:
        return str(load(data))
    except ValueError:
        return None


# ---- files that another tool has re-serialised


def convert_foreign(data: bytes) -> bytes | None:
    """Return the content of a file of nbrun's that another tool has re-serialised, in nbrun's own layout.

    The tool may have indented it, put it on one line, sorted its keys or changed its line ends. What the file's summary
    says is counted from the entries, since its checksum holds for one layout only. What is no entry becomes a line that
    counts as damaged. Return None where the data is no such file.

    Raises:
        Unreadable: it was written by a newer nbrun, or has no id.
    """
    value = _own_object(data)
    if value is None:
        return None
    sample_id = value.get("id")
    if not isinstance(sample_id, (str, int)) or isinstance(sample_id, bool):
        raise Unreadable("is no sample's file (it has no id)")
    counts = EntryCounts()
    groups: dict[str, list[bytes]] = {}
    for group, rows in _lists_in(value).items():
        lines = list(map(_line_of, rows if isinstance(rows, list) else [rows]))
        groups[group] = _each_once(lines, group, counts)
    footer = _foreign_footer(value, id_text(sample_id), groups, counts)
    heads = {group: filter(None, map(head_of, lines)) for group, lines in groups.items()}
    footer.summary["identities"] = checked_identities(footer.summary["identities"], footer.totals, heads)
    entries = ((group, ((None, line) for line in lines)) for group, lines in groups.items())
    return b"".join(lay_out(footer.sample_id, entries, lambda: footer))


def _foreign_footer(value: JsonObject, sample_id: str, groups: Iterable[str], counts: EntryCounts) -> Footer:
    """Return what a parsed file says after its entries, with a summary of what was counted of these."""
    recorded = verdicts.mapping(value.get("progress"))
    before = verdicts.mapping(value.get("summary"))
    known = {group: recorded.get(f"total_{group}s") for group in groups}
    totals = {group: total if is_count(total) else counts.placed[group] for group, total in known.items()}
    completed = {group: counts.done[group] for group in groups}
    return Footer(
        sample_id,
        totals,
        completed,
        bool(recorded) and completed == totals,
        counts.summary(totals, _clean_text(before.get("identities")) or ""),
        str(value.get("api_used") or ""),
        str(value.get("worker_id") or ""),
        extra_keys(value),
    )


def _own_object(data: bytes) -> JsonObject | None:
    """Return the JSON object of a file of nbrun's; None where it is no such file. Raise Unreadable as above."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    data = data.removeprefix(_BOM)
    if b'"format"' not in data and b'"seq"' not in data:
        return None
    try:
        value = load(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not is_own(value):
        return None
    version = _own_version(value)
    if version is not None and version != FORMAT:
        raise Unreadable(f"was written in format {version[:40]}; this nbrun knows {FORMAT}")
    return value


def _own_version(value: JsonObject) -> str | None:
    """Return the format that a parsed file names, if it is one of nbrun's."""
    version = value.get("format")
    return version if isinstance(version, str) and version.startswith("nbrun/") else None


def _lists_in(value: JsonObject) -> JsonObject:
    """Return the lists of entries in a parsed file, by group."""
    return {str(k).removesuffix("_result"): rows for k, rows in value.items() if k.endswith("_result")}


def extra_keys(value: JsonObject) -> dict[str, bytes]:
    """Return the top-level keys of a parsed file that another tool has added, each with its value as JSON."""
    return {key: values.encode(part, where="")[0] for key, part in value.items() if _is_extra(key)}


def _is_extra(key: str) -> bool:
    """Return whether neither nbrun nor the older program writes this top-level key."""
    return key not in KNOWN_KEYS and not key.endswith("_result")


_HEAD_KEYS = ("index", "key", "occurrence", "seq", "status")


def _has_own_head(row: JsonValue) -> TypeGuard[JsonObject]:
    """Return whether a value has the first five keys of an entry, in any order."""
    return isinstance(row, dict) and all(name in row for name in _HEAD_KEYS)


def is_own(value: JsonObject) -> bool:
    """Return whether a parsed file is one of nbrun's, whatever tool wrote it: by its format, or by its entries."""
    if _own_version(value) is not None:
        return True
    lists = [rows for rows in _lists_in(value).values() if isinstance(rows, list)]
    # "seq" first: this is done for each row of an older program's file, and none of them has it
    return any("seq" in row and _has_own_head(row) for rows in lists for row in rows if type(row) is dict)


def _line_of(row: JsonValue) -> bytes:
    if not _has_own_head(row):
        return values.encode({"damaged": row}, where="")[0]
    data, lossy = values.encode({name: row[name] for name in _HEAD_KEYS} | row, where="")
    if lossy and not row.get("lossy"):
        data = data[:-1] + b',"lossy":true}'
    return data


def _each_once(lines: Iterable[bytes], group: str, counts: EntryCounts) -> list[bytes]:
    """Return a group's lines with one entry of each task (F4), and count these; then the lines that are no entries."""
    damaged: list[bytes] = []
    newest: dict[Identity, Stored] = {}
    parsed: dict[bytes, Entry] = {}
    for line in lines:
        head, entry = head_of(line), parse_entry(line)
        if head is None or entry is None:
            damaged.append(line)
            continue
        stored = Stored(group, *head, NOWHERE, 0, len(line), line)
        keep_newest(newest, stored.identity, stored)
        parsed[line] = entry
    out = [s.body for s in newest.values() if s.body is not None]
    for line in out:
        counts.add(group, parsed[line])
    return out + damaged


def entries_once(file: BinaryIO) -> Iterator[tuple[Stored, bytes]]:
    """Yield of each task the entry that counts (F4), of a file in nbrun's layout that may hold several.

    A text tool, such as a merge of git, has put lines of two versions of the file together.
    """
    file.seek(0)
    own = _scan(file)
    newest: dict[Identity, Stored] = {}
    for head in own.heads:
        if parse_entry(own.body(head)) is not None:
            keep_newest(newest, head.identity, head)
    yield from ((head, own.body(head)) for head in newest.values())


# ---- files of the older program, with or without a `progress` object
#
# An entry has no index and no key there: it is known by its language and solution.


@dataclass(slots=True)
class OldFile:
    """A file of the older program, parsed."""

    sample_id: str
    groups: dict[str, list[JsonObject]]
    api_used: str | None
    worker_id: str | None
    progress: JsonObject | None
    is_own: bool = False  # a file of nbrun's that another tool has re-serialised: see convert_foreign
    is_loose: bool = False  # no strict JSON: its texts may hold lone surrogates, which belong to their items' identity
    extra: Mapping[str, bytes] = field(default_factory=dict)  # top-level keys of other tools -> their values as JSON


def parse_old(data: bytes, *, exact: bool = True) -> OldFile:
    """Parse a file of the older program.

    Args:
        exact: keep integers beyond 64 bits, which costs a search through the file; else they may become floats.

    Raises:
        Unreadable: no JSON (cut short), or JSON of another shape.
    """
    is_loose = False
    try:
        value = (load_strictly if exact else load_quickly)(data)
    except ValueError:
        value = _parse_loosely(data)
        is_loose = True
    if not isinstance(value, dict) or "id" not in value:
        raise Unreadable("is JSON of another shape: no object with an id")
    return OldFile(
        str(value["id"]),
        _old_groups(value),
        _clean_text(value.get("api_used")),
        _clean_text(value.get("worker_id")),
        _object(value.get("progress")),
        is_own(value),
        is_loose,
        extra_keys(value),
    )


def _old_groups(value: JsonObject) -> dict[str, list[JsonObject]]:
    """Return the entries of a parsed file by group. Raise Unreadable where there are none, or not as objects."""
    groups: dict[str, list[JsonObject]] = {}
    for name, rows in _lists_in(value).items():
        if not _are_objects(rows):
            raise Unreadable(f"is JSON of another shape: {name + '_result'!r} is no list of objects")
        groups[name] = rows
    if not groups:
        raise Unreadable("is JSON of another shape: it has an id but no results")
    return groups


def _are_objects(value: JsonValue) -> TypeGuard[list[JsonObject]]:
    return isinstance(value, list) and set(map(type, value)) <= {dict}


def _object(value: JsonValue) -> JsonObject | None:
    return value if isinstance(value, dict) else None


def _clean_text(value: object) -> str | None:
    return without_surrogates(value) if isinstance(value, str) else None


def _parse_loosely(data: bytes) -> JsonValue:
    """Parse what Python's json writes and strict JSON doesn't allow: NaN, lone surrogates, huge integers."""
    try:
        value: JsonValue = json.loads(data, parse_int=integer_of)
        return value
    except (ValueError, RecursionError) as e:
        raise Unreadable(f"is no valid JSON ({e})") from None


class OldMatch(NamedTuple):
    """The item that one old entry belongs to; `position` is None where it matches none."""

    group: str
    rank: int  # its place in the old file's list
    position: int | None
    item_index: int | None
    key: bytes
    occurrence: int


def match_old(sample: Sample | None, old: OldFile) -> list[OldMatch]:
    """Match entries of the older program with items, in the file's order; equal items get equal entries in order.

    Where there is no sample, or no item left for an entry, equal entries are numbered in their order.
    """
    groups = {} if sample is None else {g.name: g for g in sample.groups}
    return [m for name, rows in old.groups.items() for m in _match_rows(name, rows, groups.get(name))]


def _match_rows(name: str, rows: Iterable[JsonObject], group: Group | None) -> Iterator[OldMatch]:
    free: defaultdict[Hashable, deque[int]] = defaultdict(deque)
    counts = Counter[bytes]()
    if group is not None:
        for rank, index in enumerate(group.runnable):
            free[_old_identity(group.items[index])].append(rank)
            counts[group.key(rank)] += 1
    for place, row in enumerate(rows):
        ranks = free[_old_identity(row)]
        if group is not None and ranks:
            rank = ranks.popleft()
            position, index = group.base + rank, group.runnable[rank]
            yield OldMatch(name, place, position, index, group.key(rank), group.occurrence(rank))
        else:
            [key] = old_keys([row])
            yield OldMatch(name, place, None, None, key, counts[key])
            counts[key] += 1


def _old_identity(item: object) -> Hashable:
    identity = _language_and_solution(item)
    try:
        hash(identity)
    except TypeError:  # a list, say, where the older program wrote text
        return digest(list(identity))
    return identity


def _language_and_solution(item: object) -> tuple[object, object]:
    if isinstance(item, Mapping):
        language = item.get("language")
        if isinstance(language, int) and not isinstance(language, bool):
            from nbrun.samples import language_of_number  # a helper process that reads files has no other use for it

            language = language_of_number(language)
        return language, item.get("solution")
    return None, item


def old_keys(rows: Iterable[JsonObject]) -> list[bytes]:
    """Return the keys of old entries: the digests of their languages and solutions.

    For two texts, which they usually are, the canonical form (F9) is written out: this is done for each row of a frame.
    """
    keys = []
    of_state = state = None  # the language, and the digest of what comes before the solution in its canonical form
    for row in rows:
        language, solution = row.get("language"), row.get("solution")
        if type(language) is not str or type(solution) is not str:
            keys.append(digest({"language": language, "solution": solution}))
            continue
        if state is None or language != of_state:
            of_state, state = language, _digest_up_to_solution(language)
        text = solution.encode("utf-8", "surrogatepass")
        whole = state.copy()
        whole.update(b"%d:%b}" % (len(text), text))
        keys.append(whole.digest())
    return keys


@lru_cache(maxsize=64)
def _digest_up_to_solution(language: str) -> blake2b:
    state = EMPTY_DIGEST.copy()
    state.update(b"{%b%b%bs" % tuple(map(canonical, ("language", language, "solution"))))
    return state


def places_in(old: OldFile, match: MatchRecord | None, data: bytes) -> list[OldMatch] | None:
    """Return the places that a match record gives this content; None where the record is about another content."""
    if match is None or (match["size"], match["crc"]) != (len(data), crc32(data)):
        return None
    try:
        groups = match["groups"]
    except LookupError:
        return None
    if any(len(rows) != len(old.groups.get(group, ())) for group, rows in groups.items()):
        return None
    return [
        OldMatch(group, rank, None, index, bytes.fromhex(key[3:]), occurrence)
        for group, rows in groups.items()
        for rank, (index, key, occurrence) in enumerate(rows)
    ]


def old_entry(row: JsonObject, place: OldMatch, old: OldFile) -> Entry:
    """Return an entry of the older program as nbrun's entries are."""
    entry = {
        "index": place.item_index,
        "key": key_text(place.key),
        "occurrence": place.occurrence,
        "seq": 0,
        "status": "done",
        "language": row.get("language"),
        "solution": row.get("solution"),
        "result": row.get("result"),
        "attempts": 1,
        "started_at": None,
        "duration_s": None,
        "run_id": "",
        "context": "",
        "worker_id": old.worker_id or "",
        "api_used": old.api_used or "",
    }
    return cast(Entry, entry)


def old_body(row: JsonObject, place: OldMatch, old: OldFile) -> bytes:
    """Return an entry of the older program as nbrun writes entries."""
    return values.encode(old_entry(row, place, old))[0]


def old_stored(place: OldMatch, old: OldFile, *, matched: bool = True) -> Stored:
    """Return an entry of the older program as a saved entry, with its bytes."""
    body = old_body(old.groups[place.group][place.rank], place, old)
    identity = place.group, place.item_index, place.key, place.occurrence
    return Stored(*identity, 0, "done", NOWHERE, 0, len(body), body, matched)


def old_entries(old: OldFile, places: list[OldMatch] | None) -> Iterator[Stored]:
    """Yield the entries of an old file in nbrun's form; without places, equal ones are numbered in their order."""
    for place in match_old(None, old) if places is None else places:
        yield old_stored(place, old, matched=places is not None)


# ---- writing


@dataclass(slots=True)
class Footer:
    """What a file says after its entries.

    Attributes:
        totals, completed: by group, in the order of the file.
        summary: see `EntryCounts.summary`.
        extra: keys that another tool has added to the file -> their values as JSON.
    """

    sample_id: str
    totals: dict[str, int]
    completed: dict[str, int]
    is_complete: bool
    summary: Summary
    api_used: str = ""
    worker_id: str = ""
    extra: Mapping[str, bytes] = field(default_factory=dict)


class Maker(NamedTuple):
    """What a file's summary needs of a result."""

    verdict: str | None
    run_id: str
    context: str


def maker_of(entry: Entry) -> Maker:
    """Return what a file's summary needs of an entry."""
    return Maker(verdicts.counted(entry["result"]), entry["run_id"], entry["context"])


class EntryCounts:
    """Counts what a file's summary says of its entries, one entry after the other."""

    def __init__(self) -> None:
        self.max_seq = 0
        self.placed, self.done, self.errors = Counter[str](), Counter[str](), Counter[str]()
        self.verdicts, self.runs, self.contexts = Counter[str](), Counter[str](), Counter[str]()
        self.unexpected = 0

    def add(self, group: str, entry: Entry) -> None:
        """Count an entry."""
        self.max_seq = max(self.max_seq, entry["seq"])
        if entry["index"] is None:
            return
        self.placed[group] += 1
        if entry["status"] != "done":
            self.errors[group] += 1
            return
        self.add_results(group, maker_of(entry), 1)

    def add_results(self, group: str, made: Maker, count: int) -> None:
        """Count results of a group that are alike."""
        self.done[group] += count
        self.runs[made.run_id] += count
        self.contexts[made.context] += count
        if made.verdict is not None:
            self.verdicts[made.verdict] += count
        self.unexpected += count * verdicts.is_unexpected(verdicts.expected(group), made.verdict)

    def summary(self, groups: Iterable[str], identities: str) -> Summary:
        """Return the summary. `identities`: the digest of the dataset's identities, in hexadecimal digits."""
        names = list(groups)
        summary: Summary = {
            "max_seq": self.max_seq,
            "identities": identities,
            "done": self.done.total(),
            "errors": {group: self.errors[group] for group in names},
            "verdicts": self.verdicts,
            "runs": self.runs,
            "contexts": self.contexts,
        }
        if any(verdicts.expected(group) is not None for group in names):
            summary["unexpected"] = self.unexpected
        return summary


def checked_identities(identities: str, totals: Mapping[str, int], entries: Mapping[str, Iterable[_Head]]) -> str:
    """Return the digest of a dataset's identities for a summary; "" where results of other items are among them.

    A summary that says that a sample is finished, with the digest of its dataset, is believed unread. Where entries
    come together from several copies of a directory, one may be of an item that the dataset no longer has: the next
    run is to look at the entries then, for the item in its place may have no result.

    Args:
        totals, entries: by group, in the order of the dataset.
    """
    results = {group: _results_by_index(entries.get(group, ())) for group in {**totals, **entries}}
    if not identities or sum(map(len, results.values())) != sum(totals.values()):
        return identities
    return identities if identities in _possible_identities(results) else ""


def _possible_identities(results: Mapping[str, list[tuple[int, bytes]]]) -> set[str]:
    """Return the digests that a dataset of these items may have: by group, the index and the key of each."""
    states = [EMPTY_DIGEST]
    for group, placed in results.items():
        head, keys = canonical([group, len(placed)]), b"".join([key for _, key in placed])
        indices = [index for index, _ in placed]
        kinds = [array("I", indices).tobytes()]
        if indices == list(range(len(indices))):
            kinds.append(b"")  # Sample.identities leaves them out where no item can be skipped
        states = [_updated(state, head + kind + keys) for state in states for kind in kinds]
    return {state.hexdigest() for state in states}


def _results_by_index(entries: Iterable[_Head]) -> list[tuple[int, bytes]]:
    return sorted((e.item_index, e.key) for e in entries if e.status == "done" and e.item_index is not None)


def _updated(state: blake2b, data: bytes) -> blake2b:
    state = state.copy()
    state.update(data)
    return state


def lay_out(
    sample_id: str,
    groups: Iterable[tuple[str, Iterable[tuple[_Sign, bytes]]]],
    footer: Callable[[], Footer],
    placed: Callable[[_Sign, int, int], None] | None = None,
) -> Iterator[bytes]:
    """Yield a sample's file piece by piece.

    Args:
        groups: each group's name and its entries in order: a token for the entry, and the entry's bytes.
        footer: called after the last entry; returns what the last lines say.
        placed: called for each entry with its sign, its offset in the file and its length.
    """
    first = opening(sample_id)
    yield first
    at = len(first)
    for name, entries in groups:
        title = group_opening(name)
        yield title
        at += len(title)
        is_empty = True
        for sign, body in entries:
            if not is_empty:
                yield BETWEEN
                at += len(BETWEEN)
            is_empty = False
            if placed is not None:
                placed(sign, at, len(body))
            yield body
            at += len(body)
        end = group_end(is_empty)
        yield end
        at += len(end)
    yield closing(footer())


def in_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces of a file, so that writing it takes few calls."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def opening(sample_id: str) -> bytes:
    """Return the first lines of a file."""
    return _OPENING % dump(sample_id)


def group_opening(group: str) -> bytes:
    """Return the line before a group's entries."""
    return dump(group + "_result") + b": [\n"


def group_end(is_empty: bool) -> bytes:
    """Return what follows a group's last entry."""
    return _EMPTY_GROUP_END if is_empty else _GROUP_END


def closing(footer: Footer) -> bytes:
    """Return the last lines of a file."""
    extra = b"".join([b"%b: %b,\n" % (dump(key), value) for key, value in footer.extra.items()])
    summary = dump(footer.summary)
    return b'"api_used": %b,\n"worker_id": %b,\n%b"summary": %b,"check":"%b"},\n"progress": %b\n}\n' % (
        dump(footer.api_used),
        dump(footer.worker_id),
        extra,
        summary[:-1],
        _check(dump(footer.sample_id), summary).encode(),
        progress_object(footer.totals, footer.completed, footer.is_complete),
    )


def _check(own_id: bytes, summary: bytes) -> str:
    """Return the summary's checksum, over the id too: a reader trusts the summary without looking at the entries."""
    return f"{crc32(summary, crc32(own_id)):08x}"
