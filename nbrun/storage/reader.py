"""Reads a results directory without a lock, also while a run writes into it: every saved entry once.

Any thread. The journal is read first, the files after (F7); where a segment vanished meanwhile, all is listed again.
Never writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from nbrun.errors import InputError
from nbrun.storage.archive import read_file
from nbrun.storage.book import IN_FILE, IN_SEGMENT
from nbrun.storage.directory import Listing, Problem, list_samples
from nbrun.storage.format import FOLDER, MATCH
from nbrun.storage.merge import JournalIndex, Stored, index_journal, merge
from nbrun.storage.runlog import RecordLog
from nbrun.storage.samplefile import NBRUN, FileInfo, Unreadable

TRIES = 20


@dataclass
class SampleView:
    """One sample as it is saved. `entries` leaves out what matches no item of the dataset any more."""

    sample_id: str
    path: str
    source: str
    totals: dict[str, int]
    completed: dict[str, int]
    errors: int
    is_complete: bool
    updated_at: float | None
    entries: list[tuple[Stored, bytes]] = field(default_factory=list)


@dataclass
class Snapshot:
    """A directory at one moment: the journal was read first, then the list of files (F7).

    `handles` holds each segment open, so that its entries can be read although it vanishes.
    """

    journal: JournalIndex
    handles: dict[int, int]
    matches: dict[str, Any]
    listing: Listing

    def body(self, s: Stored) -> bytes:
        """The bytes of an entry that stands in the journal."""
        return _body(s, b"", self.handles)


class Reader:
    """A results directory, read.

    Raises:
        InputError: there is no such directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            what = "; it is a file" if self.path.exists() else ""
            raise InputError(
                f"results={str(path)!r}: there is no such folder{what}. Give the folder that a run wrote into."
            )
        self.problems: list[Problem] = []

    @contextmanager
    def open(self, known: Callable[[os.DirEntry[str]], FileInfo | None] | None = None) -> Iterator[Snapshot]:
        """What is there now. `known`: see list_samples."""
        inner = self.path / FOLDER
        journal, handles = self._open_journal(inner)
        try:
            matches = {m["id"]: m for m in RecordLog(inner / "matched.log", MATCH).read()}
            listing = list_samples(self.path, known)
            self.problems += listing.problems
            for number, scan in journal.damaged.items():
                self.problems.append(Problem(str(journal.segments[number]), f"has {len(scan.damaged)} damaged records"))
            yield Snapshot(journal, handles, matches, listing)
        finally:
            for fd in handles.values():
                os.close(fd)

    def samples(self, bodies: bool = True, by_tails: bool = False) -> Iterator[SampleView]:
        """Each sample with its entries.

        Args:
            bodies: with their bytes.
            by_tails: without entries where the last lines of a file tell the counts; then it isn't read any further.
        """
        with self.open() as now:
            infos = now.listing.by_id
            for sample_id in sorted({*infos, *now.journal.entries}):
                if by_tails and sample_id not in now.journal.entries:
                    told = _told_by_file(self.path, infos[sample_id])
                    if told is not None:
                        yield told
                        continue
                match = now.matches.get(sample_id)
                view = self._view(sample_id, infos.get(sample_id), match, now.journal, now.handles, bodies)
                if view is not None:
                    yield view

    def sample(
        self, sample_id: str, known: Callable[[os.DirEntry[str]], FileInfo | None] | None = None
    ) -> SampleView | None:  # fmt: skip
        """One sample with its entries; None where there is none."""
        with self.open(known) as now:
            info = now.listing.by_id.get(sample_id)
            if info is None and sample_id not in now.journal.entries:
                return None
            return self._view(sample_id, info, now.matches.get(sample_id), now.journal, now.handles, True)

    def _open_journal(self, inner: Path) -> tuple[JournalIndex, dict[int, int]]:
        """The journal's index with its segments held open, so that none vanishes while its entries are read."""
        for _ in range(TRIES):
            handles: dict[int, int] = {}
            try:
                return index_journal(inner, handles), handles
            except BaseException as e:
                for fd in handles.values():
                    os.close(fd)
                if not isinstance(e, FileNotFoundError):
                    raise
        raise InputError(f"{self.path} changes too fast to be read; try again.")

    def _view(
        self, sample_id: str, info: FileInfo | None, match: Any, journal: JournalIndex, handles: dict[int, int],
        bodies: bool,
    ) -> SampleView | None:  # fmt: skip
        in_journal = journal.entries.get(sample_id, {})
        header = journal.headers.get(sample_id, {})
        path = self.path / (info.name if info else str(header.get("name", "")))
        data = b""
        stored: list[Stored] = list(in_journal.values())
        try:
            if info is not None:
                data = read_file(self.path, info)  # the very bytes that are merged: it may be replaced meanwhile
                stored = merge(data, info.source, match, in_journal)
        except (Unreadable, OSError, ValueError) as e:
            self.problems.append(Problem(str(path), str(e), sample_id))
            if not in_journal:
                return None
        entries = []
        for s in stored:
            if s.item_index is None and s.matched:
                continue
            entries.append((s, _body(s, data, handles) if bodies else b""))
        return _summary(sample_id, path, info, header, match, entries)


def _told_by_file(folder: Path, info: FileInfo) -> SampleView | None:
    """What the last lines of a file in nbrun's format say; None where it must be read."""
    if info.source != NBRUN or info.is_damaged or info.summary is None or info.progress is None:
        return None
    told = info.progress
    totals = {k[6:-1]: n for k, n in told.items() if k.startswith("total_") and k.endswith("s")}
    completed = {group: int(told.get(f"completed_{group}s", 0)) for group in totals}
    return SampleView(
        info.sample_id, str(folder / info.name), NBRUN, totals, completed, sum(info.summary["errors"].values()),
        info.is_complete, _seconds(info.mtime_ns),
    )  # fmt: skip


def _seconds(ns: int) -> float:
    """As os.stat makes seconds of nanoseconds, to the last bit."""
    return ns // 10**9 + 1e-9 * (ns % 10**9)


def _body(s: Stored, data: bytes, handles: dict[int, int]) -> bytes:
    if s.body is not None:
        return s.body
    if s.where == IN_FILE:
        return data[s.offset : s.offset + s.length]
    return os.pread(handles[s.where - IN_SEGMENT], s.length, s.offset)


def _summary(
    sample_id: str, path: Path, info: FileInfo | None, header: dict[str, Any], match: Any,
    entries: list[tuple[Stored, bytes]],
) -> SampleView:  # fmt: skip
    totals = dict(header.get("totals") or (match or {}).get("totals") or {})
    told = dict(info.progress or {}) if info else {}
    for name, n in told.items():
        if name.startswith("total_") and name.endswith("s"):
            totals.setdefault(name[6:-1], n)
    completed: dict[str, int] = dict.fromkeys(totals, 0)
    errors = 0
    for s, _ in entries:
        if s.status == "done":
            completed[s.group] = completed.get(s.group, 0) + 1
        else:
            errors += 1
    for group, n in completed.items():
        totals.setdefault(group, n)  # a legacy file exists only where its sample was finished
    if info is not None and info.source != NBRUN:  # it may hold one solution twice, which counts once
        completed = {group: min(n, totals[group]) for group, n in completed.items()}
    complete = not (info and info.is_damaged) and all(completed[g] >= n for g, n in totals.items())
    try:
        updated = _seconds(info.mtime_ns) if info and info.place else path.stat().st_mtime
    except OSError:
        updated = None
    source = info.source if info else NBRUN
    return SampleView(sample_id, str(path), source, totals, completed, errors, complete, updated, entries)


def parse(body: bytes) -> dict[str, Any]:
    """An entry's bytes as a mapping."""
    value = orjson.loads(body)
    return value if isinstance(value, dict) else {}
