"""Reads logs back, whatever their tails look like, and merges the journal's entries of a sample with those of its file.

Pure reading, with or without the directory's lock; any thread. Of two entries of one identity the higher seq wins (F4).
Damaged lines are counted and reported, and cost only themselves (F2). A record with the right
checksum may hold anything all the same, so its content is checked here, by its kind: the rest of nbrun trusts a record
that comes out of this module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeGuard, cast
from zlib import crc32

from nbrun.errors import InputError
from nbrun.results import plain_files
from nbrun.results.format import (
    ARCHIVED,
    ATTEMPT,
    CRC_HEX,
    ENTRY,
    HEADER,
    MATCH,
    MAX_INDEX,
    MAX_SEGMENT,
    RENAMED_SEGMENT,
    RUN,
    SEGMENT_NAME,
    UNCLEAN,
    ArchivedRecord,
    AttemptRecord,
    Header,
    JsonObject,
    JsonValue,
    MatchedPlace,
    MatchRecord,
    Record,
    RunRecord,
    head_of,
    unframe,
)
from nbrun.results.sample_file import (
    IN_FILE,
    IN_SEGMENT,
    NOWHERE,
    Identity,
    OwnFile,
    Stored,
    is_count,
    is_counts,
    is_seq,
    keep_newest,
    old_entries,
    parse_entry,
    parse_old,
    places_in,
    read_any,
)
from nbrun.results.values import load
from nbrun.tuning import TUNING

#: How often a directory is listed again that changes while it is read.
TRIES = 20
ARCHIVED_LOG = "archived.log"


@dataclass(slots=True)
class LogScan:
    """What reading a log found beside its records."""

    good_bytes: int = 0  # all lines up to here are whole; what follows is a torn tail
    damaged: list[tuple[int, int]] = field(default_factory=list)  # (offset, length) of lines that can't be used

    def __str__(self) -> str:
        """Return a phrase that completes the sentence "PATH …"."""
        n = len(self.damaged)
        text = f"has {n} damaged record{'' if n == 1 else 's'}"
        too_long = [length for _, length in self.damaged if length > TUNING.max_whole_bytes]
        if too_long:
            text += f" ({len(too_long)} with more than {TUNING.max_whole_bytes:,} bytes, which can't be a result)"
        return text


def read_log(path: Path, scan: LogScan | None = None) -> Iterator[Record]:
    """Yield the records of a log in their order. A torn tail (no line feed) is left out.

    Args:
        scan: filled with what was found beside the records.

    Raises:
        OSError: the file can't be opened or read.
    """
    with plain_files.open_reading(path, buffering=0) as f:
        yield from records_in(f, LogScan() if scan is None else scan)


def records_in(f: BinaryIO | FileIO, scan: LogScan) -> Iterator[Record]:
    """Do what `read_log` does with an open log, from its position on."""
    for at, length, line in read_lines(f):
        record = None if line is None else unframe(line, at)
        if record is not None:
            yield record
        elif line is None or line:
            scan.damaged.append((at, length))
        scan.good_bytes = at + length


def read_lines(f: BinaryIO | FileIO) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield the lines of a log that end in a line feed: offset, length with the line feed, and bytes without it.

    The bytes of a line of more than `TUNING.max_whole_bytes` are None: nbrun can't have written it, and it may not fit
    in memory.
    """
    pieces: list[bytes] = []  # of one line: joined once it is whole, or a long record would cost its square
    size = at = 0  # of the line so far
    longest = TUNING.max_whole_bytes
    while chunk := f.read(TUNING.log_chunk_bytes):
        *whole, rest = chunk.split(b"\n")
        for end in whole:
            size += len(end)
            if pieces:
                end = b"".join([*pieces, end])
                pieces.clear()
            yield at, size + 1, end if size <= longest else None
            at += size + 1
            size = 0
        size += len(rest)
        if size > longest:
            pieces.clear()
        elif rest:
            pieces.append(rest)


# ---- what is in a record


def whose(record: Record) -> tuple[str, str] | None:
    """Return the sample and the group that a record belongs to; None where it names none."""
    value = _json(record.whose or b"")
    match value:
        case [str(sample_id), str(group)]:
            return sample_id, group
    return None


def header_of(record: Record) -> Header | None:
    """Return the content of a header record; None where it is not what the format says."""
    return cast("Header | None", _content(record))


def attempt_of(record: Record) -> AttemptRecord | None:
    """Return the content of an attempt record; None where it is not what the format says."""
    return cast("AttemptRecord | None", _content(record))


def _content(record: Record) -> JsonObject | None:
    """Return the content of a record of any kind but an entry; None where it is not what the format says.

    The groups of a match record, which are nearly all of it, are left out: see places_of.
    """
    value: JsonValue = None
    if record.kind == MATCH and (at := record.body.find(b',"groups":{')) > 0:  # the last key, as nbrun writes it
        value = _json(record.body[:at] + b"}")
    if value is None:
        value = _json(record.body)
    return value if isinstance(value, dict) and _is_right(record.kind, value) else None


def _json(data: bytes) -> JsonValue:
    try:
        return load(data)
    except (ValueError, RecursionError):
        return None


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_key(value: object) -> bool:
    return type(value) is str and _KEY.fullmatch(value) is not None


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INDEX


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _may_be_object(value: object) -> bool:
    return not value or isinstance(value, dict)


def _are_fingerprints(value: object) -> bool:
    return isinstance(value, list) and all(type(mark) is str and _MARK.fullmatch(mark) is not None for mark in value)


def _is_place(row: object) -> bool:
    """Return whether a value is an entry's place in a match record: index, key, occurrence."""
    return (
        isinstance(row, list)
        and len(row) == 3
        and (row[0] is None or _is_index(row[0]))
        and _is_key(row[1])
        and _is_index(row[2])
    )


def _are_places(value: object) -> TypeGuard[dict[str, list[MatchedPlace]]]:
    return isinstance(value, dict) and all(
        isinstance(rows, list) and all(map(_is_place, rows)) for rows in value.values()
    )


_KEY, _MARK = re.compile(r"k1:[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")
#: What a record of each kind must hold, and with "?" what it may leave out. It may hold more. The groups of a match
#: record are checked where they are needed.
_SHAPES: dict[bytes, dict[str, Callable[[object], bool]]] = {
    HEADER: {"id": _is_text, "totals": is_counts, "name?": _is_text, "context?": _is_text, "identities?": _is_text},
    ATTEMPT: {
        "key": _is_key,
        "occurrence": _is_index,
        "attempt": _is_index,
        "hint": _is_object,
        "previous": lambda value: True,
        "exceptions?": is_count,
    },
    MATCH: {
        "seq?": is_seq,
        "id": _is_text,
        "size": is_count,
        "mtime_ns": lambda value: type(value) is int,
        "crc": is_count,
        "identities": _is_text,
        "complete": lambda value: isinstance(value, bool),
        "totals": is_counts,
        "verdicts": is_counts,
        "unexpected?": is_count,
        "completed?": is_counts,
    },
    ARCHIVED: {"archive": _is_text, "name": _is_text, "id": _is_text},
    RUN: {"run_id": _is_text, "seq?": is_seq, "settings?": _may_be_object, "given_settings?": _may_be_object},
    UNCLEAN: {"run_id": _is_text, "seq": is_seq, "running": _are_fingerprints},
}


_CHECKS = {
    kind: [(name.removesuffix("?"), name.endswith("?"), is_right) for name, is_right in shape.items()]
    for kind, shape in _SHAPES.items()
}


def _is_right(kind: bytes, value: JsonObject) -> bool:
    """Return whether a record's content is what the format says of its kind."""
    return kind in _CHECKS and all(
        is_right(value[key]) if key in value else is_optional for key, is_optional, is_right in _CHECKS[kind]
    )


def places_of(record: Record) -> dict[str, list[MatchedPlace]] | None:
    """Return the places of a match record's entries by group; None where they are damaged."""
    value = _json(record.body)
    groups = value.get("groups") if isinstance(value, dict) else None
    return groups if _are_places(groups) else None


def list_segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the segments in `.nbrun/`, oldest first. Those that were given another name are copies and come before."""
    if not plain_files.is_real_folder(folder):
        return []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    own = {name: int(m[1]) for name in names if (m := SEGMENT_NAME.fullmatch(name))}
    renamed = sorted(name for name in names if name not in own and RENAMED_SEGMENT.fullmatch(name))
    segments = sorted((number, folder / name) for name, number in own.items())
    return [*_numbered(folder, renamed, set(own.values())), *segments]


def _numbered(folder: Path, names: Iterable[str], taken: set[int]) -> Iterator[tuple[int, Path]]:
    """Yield segments of other names, each with a number that no segment of a run gets and that stays its own."""
    for name in names:
        number = MAX_SEGMENT + crc32(os.fsencode(name)) % MAX_SEGMENT
        while number in taken:
            number += 1
        taken.add(number)
        yield number, folder / name


def read_records(path: Path, kind: bytes) -> Iterator[JsonObject]:
    """Yield what the records of this kind in a log hold, oldest first; nothing where there is no log."""
    for _, value in _read(path, kind, LogScan()):
        yield value


def read_runs(inner: Path) -> Iterator[RunRecord]:
    """Yield the run records in `.nbrun/`, oldest first."""
    return cast(Iterator[RunRecord], read_records(inner / "runs.log", RUN))


def read_archived(inner: Path) -> Iterator[ArchivedRecord]:
    """Yield the archived records in `.nbrun/`, oldest first."""
    return cast(Iterator[ArchivedRecord], read_records(inner / ARCHIVED_LOG, ARCHIVED))


def whole_records(path: Path, kind: bytes, scan: LogScan | None = None) -> Iterator[Record]:
    """Yield the records of a log as they are on the disk, with all that is in them checked.

    Args:
        kind: records of another kind count as damaged.
        scan: gets the places of damaged records.
    """
    scan = LogScan() if scan is None else scan
    for record, _ in _read(path, kind, scan):
        if record.kind != MATCH or places_of(record) is not None:
            yield record
        else:
            scan.damaged.append((record.offset, len(record.body)))


def _read(path: Path, kind: bytes, scan: LogScan) -> Iterator[tuple[Record, JsonObject]]:
    """Yield the records of this kind in a log, each with what it holds; `scan` gets the places of all others."""
    try:
        for record in read_log(path, scan):
            value = _content(record) if record.kind == kind else None
            if value is not None:
                yield record, value
            else:
                scan.damaged.append((record.offset, len(record.body)))
    except (FileNotFoundError, plain_files.NotPlainError):  # the opening of the directory reports the second
        return


class Match(dict[str, object]):
    """A match record, a MatchRecord. Its groups, which hold a place for each entry, are read from the log on demand.

    Raises:
        LookupError: from ["groups"], where they are damaged or the log was replaced.
    """

    def __init__(self, value: Mapping[str, object], path: Path, start: int, length: int) -> None:
        super().__init__(value)
        self._path, self._start, self._length = path, start, length

    def __missing__(self, key: str) -> dict[str, list[MatchedPlace]]:
        record = self.record() if key == "groups" else None
        groups = None if record is None else places_of(record)
        if groups is None:
            raise LookupError(f"the match record of {self['id']!r} has no {key} that can be read")
        return groups

    def record(self) -> Record | None:
        """Return the record as it is in the log; None where it is no longer there."""
        try:
            with plain_files.open_reading(self._path, buffering=0) as f:
                return unframe(plain_files.read_at(f.fileno(), self._start, self._length), self._start)
        except (OSError, EOFError):
            return None


def head_bytes(record: Record) -> int:
    """Return how many bytes a record's line has before its body."""
    return CRC_HEX + 1 + len(record.kind) + 1


def read_matches(path: Path, only: str | None = None) -> dict[str, MatchRecord]:
    """Return the newest match record of each sample in matched.log, or of the sample `only`, by its id."""
    out: dict[str, MatchRecord] = {}
    for record, value in _read(path, MATCH, LogScan()):
        sample_id = str(value["id"])
        if only in (None, sample_id):
            start = record.offset - head_bytes(record)
            value.pop("groups", None)
            match = Match(value, path, start, head_bytes(record) + len(record.body) + 1)
            out[sample_id] = cast(MatchRecord, match)
    return out


# ---- the entries of a journal, and of a sample


class Attempt(NamedTuple):
    """What is known of a task's earlier tries.

    Attributes:
        exceptions: how many of them ended in an exception; the others asked for a Retry.
        waits_since: when it asked for the first one in this process, in monotonic seconds.
    """

    attempt: int
    hint: Mapping[str, object]
    previous: object
    exceptions: int = 0
    waits_since: float | None = None


@dataclass
class JournalIndex:
    """What the segments hold: entries and open attempts by sample, headers, the highest seq, and damage.

    `handles` holds each segment open, so that its entries can be read although it vanishes; close it.
    """

    entries: dict[str, dict[Identity, Stored]] = field(default_factory=dict)
    attempts: dict[str, dict[Identity, Attempt]] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    max_seq: int = 0
    damaged: dict[int, LogScan] = field(default_factory=dict)
    segments: dict[int, Path] = field(default_factory=dict)
    handles: dict[int, int] = field(default_factory=dict)

    def body(self, s: Stored) -> bytes:
        """Return the bytes of an entry that is in a segment."""
        return plain_files.read_up_to(self.handles[s.where - IN_SEGMENT], s.offset, s.length)

    def close(self) -> None:
        """Close the segments."""
        while self.handles:
            plain_files.close(self.handles.popitem()[1])


def index_journal(folder: Path) -> JournalIndex:
    """Read all segments in `.nbrun/`. Where one vanishes meanwhile, all are listed and read again (F7).

    All are opened before any is read. So no segment vanishes, or is taken for one of a later run that has the same
    name, while its entries are read.

    Raises:
        InputError: they change too fast.
    """
    for _ in range(TRIES):
        out = JournalIndex()
        try:
            _read_segments(out, folder)
            return out
        except BaseException as e:
            out.close()
            if not isinstance(e, FileNotFoundError):
                raise
    raise InputError(f"{folder.parent} changes too fast to be read; try again.")


def _read_segments(out: JournalIndex, folder: Path) -> None:
    odd = {path for path, _ in plain_files.odd_entries(folder)}  # the opening of the directory reports them
    out.segments = {number: path for number, path in list_segments(folder) if path not in odd}
    for number, path in out.segments.items():
        out.handles[number] = plain_files.open_plain(path)
    for number, fd in out.handles.items():
        scan = _read_segment(out, number, fd)
        if scan.damaged:
            out.damaged[number] = scan


def _read_segment(out: JournalIndex, number: int, fd: int) -> LogScan:
    scan = LogScan()
    with os.fdopen(fd, "rb", buffering=0, closefd=False) as f:
        for record in records_in(f, scan):
            take = _TAKERS.get(record.kind)
            if take is None or not take(out, number, record):  # the checksum is right, the content is not
                scan.damaged.append((record.offset, len(record.body)))
    return scan


def _take_header(out: JournalIndex, number: int, record: Record) -> bool:
    header = header_of(record)
    if header is None:
        return False
    out.headers[header["id"]] = header
    return True


def entry_of(record: Record, where: int = NOWHERE) -> tuple[str, Stored] | None:
    """Return the sample of an entry record and the entry, without its bytes; None where it is damaged."""
    head, of = head_of(record.body), whose(record)
    if head is None or of is None:
        return None
    sample_id, group = of
    return sample_id, Stored(group, *head, where, record.offset, len(record.body))


def _take_entry(out: JournalIndex, number: int, record: Record) -> bool:
    found = entry_of(record, number + IN_SEGMENT)
    if found is None:
        return False
    sample_id, stored = found
    out.max_seq = max(out.max_seq, stored.seq)
    of_sample = out.entries.setdefault(sample_id, {})
    keep_newest(of_sample, stored.identity, stored, in_journal=True)
    if sample_id in out.attempts:
        out.attempts[sample_id].pop(stored.identity, None)
    return True


def _take_attempt(out: JournalIndex, number: int, record: Record) -> bool:
    value, of = attempt_of(record), whose(record)
    if value is None or of is None:
        return False
    sample_id, group = of
    identity = Identity(group, bytes.fromhex(value["key"][3:]), value["occurrence"])
    attempt = Attempt(value["attempt"], value["hint"], value["previous"], value.get("exceptions", 0))
    out.attempts.setdefault(sample_id, {})[identity] = attempt
    return True


_TAKERS = {ENTRY: _take_entry, HEADER: _take_header, ATTEMPT: _take_attempt}


ReadBody = Callable[[Stored], bytes]


def split_readable(stored: Iterable[Stored], body: ReadBody) -> tuple[list[Stored], list[Stored]]:
    """Return the entries whose bytes hold what an entry must, and the damaged ones: a checksum says nothing of that."""
    parts: tuple[list[Stored], list[Stored]] = [], []
    for s in stored:
        parts[parse_entry(body(s)) is None].append(s)
    return parts


class SavedSample:
    """The saved entries of one sample, each once: those of its file in the file's order, then those of the journal.

    Args:
        file: the sample's file in any format, open as long as its entries are read; None where there is none.
        match: its match record.
        journal: its entries in the journal.
        read_segment: returns the bytes of an entry in a segment.

    Attributes:
        entries: the newest of each identity.
        own: the file's entries, where it is in nbrun's format.
        extra: keys that another tool has added to the file, with their values as JSON.
        damaged: how many entries of the file were left out, as far as that is known.

    Raises:
        Unreadable: the file can't be read.
    """

    def __init__(
        self,
        file: BinaryIO | None,
        match: MatchRecord | None,
        journal: Iterable[Stored],
        read_segment: ReadBody,
    ) -> None:
        self._read_segment = read_segment
        self.damaged = 0
        self.own: OwnFile | None = None
        self.extra: Mapping[str, bytes] = {}
        newest: dict[Identity, Stored] = {}
        for stored in chain(self._of_file(file, match), journal):
            keep_newest(newest, stored.identity, stored)
        self.entries = list(newest.values())

    def _of_file(self, file: BinaryIO | None, match: MatchRecord | None) -> Iterable[Stored]:
        content = None if file is None else read_any(file)
        if isinstance(content, OwnFile):
            self.own, self.extra, self.damaged = content, content.extra, content.damaged
            return content.heads
        if content is None:
            return ()
        old = parse_old(content)
        self.extra = old.extra
        return old_entries(old, places_in(old, match, content))

    def body(self, s: Stored) -> bytes:
        """Return an entry's bytes."""
        if s.body is not None:
            return s.body
        if s.where != IN_FILE:
            return self._read_segment(s)
        assert self.own is not None
        return self.own.body(s)

    @property
    def counting(self) -> list[Stored]:
        """The entries that belong to an item of the dataset, or may: those that were never matched with one."""
        return [s for s in self.entries if s.item_index is not None or not s.matched]

    def drop_damaged(self) -> None:
        """Leave out the entries of the file that are damaged."""
        before = len(self.entries)
        self.entries = [s for s in self.entries if s.where != IN_FILE or parse_entry(self.body(s)) is not None]
        self.damaged += before - len(self.entries)
