"""Merges the saved entries of a sample: those in its file, in any format, and those in the journal, each once.

Pure reading, from any thread, with or without the lock. Of two entries of one identity the higher seq wins (F4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nbrun.results import plain_files
from nbrun.results.format import ATTEMPT, ENTRY, HEADER, Header, MatchRecord, Record, head_of
from nbrun.results.legacy import OldFile, OldMatch, old_body, old_key, parse_old, places_in
from nbrun.results.listing import odd_entries
from nbrun.results.replay import LogScan, attempt_of, header_of, list_segments, read_log, whose
from nbrun.results.sample_file import Identity, OwnFile, keep_newest

#: Where an entry's bytes are: in memory only, in the sample's file, or in a segment (its number + IN_SEGMENT).
NOWHERE, IN_FILE, IN_SEGMENT = 0, 1, 2


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


@dataclass
class JournalIndex:
    """What the segments hold: entries and open attempts by sample, headers, the highest seq, and damage."""

    entries: dict[str, dict[Identity, Stored]] = field(default_factory=dict)
    attempts: dict[str, dict[Identity, Attempt]] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)  # segment -> entries in it
    max_seq: int = 0
    damaged: dict[int, LogScan] = field(default_factory=dict)
    segments: dict[int, Path] = field(default_factory=dict)


def index_journal(folder: Path, handles: dict[int, int] | None = None) -> JournalIndex:
    """Read all segments.

    Args:
        handles: filled with a descriptor of each segment, opened before any is read. So no segment vanishes, or is
            taken for one of a later run that has the same name, while its entries are read.

    Raises:
        FileNotFoundError: a segment vanished meanwhile; list again (F7).
    """
    out = JournalIndex()
    odd = {path for path, _ in odd_entries(folder)}  # the opening of the directory reports them
    listed = [(number, path) for number, path in list_segments(folder) if path not in odd]
    if handles is not None:
        for number, path in listed:
            handles[number] = plain_files.open_plain(path)
    for number, path in listed:
        scan = LogScan()
        out.segments[number] = path
        out.counts[number] = 0
        for record in read_log(path if handles is None else handles[number], scan):
            take = _TAKERS.get(record.kind)
            if take is None or not take(out, number, record):  # the checksum is right, the content is not
                scan.damaged.append((record.offset, len(record.body)))
        if scan.damaged:
            out.damaged[number] = scan
    return out


def _take_header(out: JournalIndex, number: int, record: Record) -> bool:
    header = header_of(record)
    if header is None:
        return False
    out.headers[header["id"]] = header
    return True


def _take_entry(out: JournalIndex, number: int, record: Record) -> bool:
    head, of = head_of(record.body), whose(record)
    if head is None or of is None:
        return False
    sample_id, group = of
    stored = Stored(group, *head, number + IN_SEGMENT, record.offset, len(record.body))
    out.counts[number] += 1
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


def merge(file: OwnFile | bytes | None, match: MatchRecord | None, journal: Mapping[Identity, Stored]) -> list[Stored]:
    """Return the entries of one sample: those of its file in the file's order, then those that only the journal holds.

    Args:
        file: the sample's file as sample_file.read_any returns it; None where there is none. The places of entries that
            are `IN_FILE` are offsets in `file.file`.
        match: the sample's match record.
        journal: its entries in the journal.

    Raises:
        Unreadable: an old file that can't be parsed.
    """
    merged: dict[Identity, Stored] = {}
    if file is not None:
        for stored in _of_file(file, match):
            keep_newest(merged, stored.identity, stored)
    for identity, stored in journal.items():
        keep_newest(merged, identity, stored)
    return list(merged.values())


def _of_file(file: OwnFile | bytes, match: MatchRecord | None) -> Iterator[Stored]:
    if isinstance(file, OwnFile):
        for h in file.heads:
            yield Stored(h.group, h.item_index, h.key, h.occurrence, h.seq, h.status, IN_FILE, h.offset, h.length)
        return
    old = parse_old(file)
    yield from old_entries(old, places_in(old, match, file))


def old_entries(old: OldFile, places: list[OldMatch] | None) -> Iterator[Stored]:
    """Yield the entries of an old file in nbrun's form; without places, equal ones are numbered in their order."""
    matched = places is not None
    if places is None:
        places = []
        for group, rows in old.groups.items():
            seen: dict[bytes, int] = {}
            for rank, row in enumerate(rows):
                key = old_key(row)
                occurrence = seen.get(key, 0)
                seen[key] = occurrence + 1
                places.append(OldMatch(group, rank, None, None, key, occurrence))
    for place in places:
        row = old.groups[place.group][place.rank]
        body = old_body(row, place, old)
        yield Stored(
            place.group, place.item_index, place.key, place.occurrence, 0, "done", 0, 0, len(body), body, matched
        )
