"""Follows a results directory that other processes write into: counts each sample, reading only what has changed.

A look costs by what is new: of each segment of the journal the bytes since the last look, and the last lines of the
sample files that were replaced. The journal is read before the files (F7); an entry from it counts until the sample's
file holds it (F5), so a segment that is deleted between two looks costs nothing. Nothing is written and no lock is
taken.

Threads: a Follower belongs to one thread at a time.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nbrun import verdicts
from nbrun.model import ErrorNote, SavedCounts
from nbrun.results import plain_files, sample_file
from nbrun.results.format import ENTRY, FOLDER, HEADER, Entry, MatchRecord, Record
from nbrun.results.listing import Archives, list_samples, open_file
from nbrun.results.reader import SAMPLES, SampleTotals, from_tail, read_totals
from nbrun.results.replay import (
    LogScan,
    SavedSample,
    entry_of,
    header_of,
    list_segments,
    read_matches,
    read_runs,
    records_in,
)
from nbrun.results.sample_file import FileInfo, Identity, Unreadable, error_type
from nbrun.tuning import TUNING

#: All files are looked at this often, in seconds, since one that is edited in place leaves its folder's time as it was.
RELIST_S = 30.0
#: Error entries of a file up to this size are read for their types.
MAX_ERRORS_BYTES = 64 << 20
#: How many of the newest errors are kept.
RECENT = 20


#: What a file looks like: its inode, size and mtime.
_Look = tuple[int, int, int]


@dataclass(slots=True)
class _File:
    """What a sample's file says."""

    info: FileInfo
    total: int = 0
    done: int = 0
    errors: int = 0
    unexpected: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    #: Of each entry the type of its error, None for a result. Read where the journal may replace some of them.
    outcomes: dict[Identity, str | None] | None = None


class _Entry(NamedTuple):
    """An entry of the journal."""

    seq: int
    is_done: bool
    verdict: str | None  # of an error its type
    is_unexpected: bool


#: What is used as the file of a sample that has none.
_NO_FILE = _File(FileInfo("", "", "", 0, 0))


@dataclass(slots=True)
class _Sample:
    file: _File
    journal: dict[Identity, _Entry] = field(default_factory=dict)
    header_total: int = 0


class Follower:
    """One directory.

    Attributes:
        counts: sample id -> what is saved of it, as of the last look; samples that were never begun too, where the
            newest run has recorded their ids.
        totals: what the newest run was given; None where no run has recorded it.
        recent_errors: the newest errors that were read from the journal, oldest first.
        problems: how many files can't be read.
        is_there: whether the directory existed at the last look.
        host: where the newest run was started.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.counts: dict[str, SavedCounts] = {}
        self.totals: SampleTotals | None = None
        self.recent_errors: deque[ErrorNote] = deque(maxlen=RECENT)
        self.problems = 0
        self.is_there = False
        self.host = ""
        self._inner = self.path / FOLDER
        self._samples: dict[str, _Sample] = {}
        self._segments: dict[tuple[int, int], int] = {}  # number and inode of a segment -> bytes that were read
        self._matches: dict[str, MatchRecord] = {}
        self._archives = Archives(self.path)
        self._known: dict[str, tuple[_Look, FileInfo]] = {}  # file name -> what it looked like, and said
        self._signatures: dict[str, tuple[int, int]] = {}  # of logs, to read them only where they have changed
        self._listed = (0, 0)  # the folder's time of change, and when it was listed; in nanoseconds
        self._relist_at = 0.0

    def look(self) -> set[str]:
        """Bring `counts` up to date. Return the ids of the samples whose counts have changed.

        Raises:
            OSError: the directory can't be read; what was read before stays.
            StorageError: `.nbrun` is not a folder.
        """
        if not self.path.is_dir():
            self.is_there = False
            return set()
        self.is_there = True
        plain_files.refuse_odd_folder(self._inner)
        changed = self._read_journal()
        if self._has_changed("matched.log"):
            self._matches = read_matches(self._inner / "matched.log")
            self._listed, self._relist_at = (0, 0), 0.0
        changed |= self._read_files()
        changed |= self._read_totals()
        return {sample_id for sample_id in changed if self._count(sample_id)}

    # ---- what has changed

    def _has_changed(self, name: str) -> bool:
        """Return whether a file in `.nbrun` is another than at the last look."""
        try:
            stat = os.stat(self._inner / name)
        except OSError:
            return False
        now = (stat.st_mtime_ns, stat.st_size)
        before = self._signatures.get(name)
        self._signatures[name] = now
        return now != before

    def _read_journal(self) -> set[str]:
        changed: set[str] = set()
        segments = {}
        for number, path in list_segments(self._inner):
            scan = LogScan()
            with suppress(FileNotFoundError, plain_files.NotPlainError):  # it was deleted; check reports the other
                with plain_files.open_reading(path, buffering=0) as f:
                    which = number, os.fstat(f.fileno()).st_ino
                    start = f.seek(self._segments.get(which, 0))
                    for record in records_in(f, scan):
                        if (sample_id := self._take(record)) is not None:
                            changed.add(sample_id)
                segments[which] = start + scan.good_bytes
        self._segments = segments
        return changed

    def _take(self, record: Record) -> str | None:
        """Take a record of the journal in. Return the id of its sample."""
        if record.kind == HEADER:
            return self._take_header(record)
        return self._take_entry(record) if record.kind == ENTRY else None

    def _take_header(self, record: Record) -> str | None:
        header = header_of(record)
        if header is None:
            return None
        self._sample(header["id"]).header_total = sum(header["totals"].values())
        return header["id"]

    def _take_entry(self, record: Record) -> str | None:
        found, entry = entry_of(record), sample_file.parse_entry(record.body)
        if found is None or entry is None:
            return None
        sample_id, stored = found
        if stored.item_index is None:  # its item is no longer in the dataset
            return None
        if stored.is_done:
            verdict = verdicts.counted(entry["result"])
            is_unexpected = verdicts.is_unexpected(verdicts.expected(stored.group), verdict)
        else:
            note = _note(sample_id, stored.group, stored.item_index, entry)
            verdict, is_unexpected = note.type, False
            self.recent_errors.append(note)
        newest = _Entry(stored.seq, stored.is_done, verdict, is_unexpected)
        sample_file.keep_newest(self._sample(sample_id).journal, stored.identity, newest, in_journal=True)
        return sample_id

    def _sample(self, sample_id: str) -> _Sample:
        return self._samples.setdefault(sample_id, _Sample(_NO_FILE))

    def _read_files(self) -> set[str]:
        changed_at, now = os.stat(self.path).st_mtime_ns, time.monotonic()
        if now < self._relist_at and self._is_as_listed(changed_at):
            return set()
        self._listed, self._relist_at = (changed_at, time.time_ns()), now + RELIST_S
        seen: dict[str, _Look] = {}
        listing = list_samples(self.path, partial(self._known_file, seen), self._archives)
        self.problems = len(listing.problems)
        changed = self._take_files(listing.by_id)
        files = {info.name: info.sample_id for info in listing.by_id.values() if info.place is None}
        self._known = {
            name: (sign, self._samples[files[name]].file.info) for name, sign in seen.items() if name in files
        }
        return changed

    def _is_as_listed(self, changed_at: int) -> bool:
        """Return whether the folder's time of change shows that it is as it was listed.

        One that was listed right after a change may have changed again within the same tick of that clock.
        """
        before, listed_at = self._listed
        return changed_at == before and listed_at - changed_at > TUNING.settled_ns

    def _known_file(self, seen: dict[str, _Look], entry: os.DirEntry[str]) -> FileInfo | None:
        """Return what is known of a file that looks as it did before; note in `seen` what it looks like."""
        stat = entry.stat(follow_symlinks=False)
        seen[entry.name] = look = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        before, info = self._known.get(entry.name, (None, None))
        return info if before == look else None

    def _take_files(self, by_id: Mapping[str, FileInfo]) -> set[str]:
        """Read the files that are new, and forget those that are gone. Return the ids of their samples."""
        changed: set[str] = set()
        for sample_id, sample in self._samples.items():
            if sample.file is not _NO_FILE and sample_id not in by_id:
                sample.file = _NO_FILE  # deleted, or damaged beyond use
                changed.add(sample_id)
        for sample_id, info in by_id.items():
            sample = self._sample(sample_id)
            if sample.file.info is not info:
                sample.file = self._file(info)
                changed.add(sample_id)
        return changed

    def _file(self, info: FileInfo) -> _File:
        """Return what a file says. Only its last lines are read, unless they don't suffice."""
        match = self._matches.get(info.sample_id)
        view = from_tail(self.path, info, match)
        if view is None:
            return self._by_entries(info, match)
        out = _File(_slim(info), sum(view.totals.values()), sum(view.completed.values()), view.errors)
        if (summary := info.summary or match) is not None:
            out.unexpected, out.verdicts = summary.get("unexpected", 0), dict(summary["verdicts"])
        if out.errors and info.size <= MAX_ERRORS_BYTES:
            out.outcomes = self._read_outcomes(info)
            out.kinds = Counter(kind for kind in out.outcomes.values() if kind is not None)
        return out

    def _read_outcomes(self, info: FileInfo) -> dict[Identity, str | None]:
        """Return the type of the error of each entry of a file in nbrun's format, None for a result."""
        outcomes: dict[Identity, str | None] = {}
        try:
            with open_file(self.path, info, self._archives) as f:
                saved = SavedSample(f, None, (), lambda s: b"")
                for s in saved.entries:
                    if s.item_index is not None:
                        outcomes[s.identity] = None if s.is_done else error_type(sample_file.parse_entry(saved.body(s)))
        except (OSError, Unreadable, ValueError):  # replaced or archived meanwhile: the next look finds it
            return {}
        return outcomes

    def _by_entries(self, info: FileInfo, match: MatchRecord | None) -> _File:
        """Count the entries of a file whose last lines don't say enough: an old one, or a damaged one."""
        out = _File(_slim(info))
        try:
            with open_file(self.path, info, self._archives) as f:
                counting = SavedSample(f, match, (), lambda s: b"").counting
        except (OSError, Unreadable, ValueError):
            self.problems += 1
            return out
        out.done = sum(s.is_done for s in counting)
        out.errors = len(counting) - out.done
        out.total = max(len(counting), 0 if match is None else sum(match["totals"].values()))
        return out

    def _read_totals(self) -> set[str]:
        log, samples = self._has_changed("runs.log"), self._has_changed(SAMPLES)
        if not (log or samples):
            return set()
        records = list(read_runs(self._inner))
        before = self._given.ids
        self.totals = read_totals(self._inner, records)
        self.host = str(records[-1].get("host") or "") if records else ""
        for sample_id in self._given.ids:
            self._sample(sample_id)
        return {*self._given.ids, *before}

    @property
    def _given(self) -> SampleTotals:
        return self.totals or SampleTotals()

    # ---- counting

    def _count(self, sample_id: str) -> bool:
        """Count a sample again. Return whether its counts have changed."""
        sample = self._samples[sample_id]
        if sample.journal:
            self._drop_filed(sample)
        now = self._counts_of(sample)
        given = self._given.of(sample_id)
        if sample.file is _NO_FILE and not sample.journal:
            if not given:  # its file was deleted, or the newest run has other samples
                del self._samples[sample_id]
                return self.counts.pop(sample_id, None) is not None
            sample.header_total = 0
        now = now._replace(total=max(now.total, sample.header_total, sum(given.values()), now.done + now.errors))
        if self.counts.get(sample_id) == now:
            return False
        self.counts[sample_id] = now
        return True

    def _drop_filed(self, sample: _Sample) -> None:
        """Forget the entries of the journal that the sample's file holds by now (F5)."""
        in_file = sample.file.info.max_seq
        sample.journal = {i: e for i, e in sample.journal.items() if e.seq > in_file}
        if not sample.journal:
            sample.file.outcomes = None

    def _counts_of(self, sample: _Sample) -> SavedCounts:
        file = sample.file
        found, kinds = Counter[str | None](file.verdicts), Counter[str | None](file.kinds)
        done, errors, unexpected = file.done, file.errors, file.unexpected
        outcomes = self._outcomes_of(sample)
        for identity, entry in sample.journal.items():
            if identity in outcomes:  # the journal's entry replaces the file's
                kind = outcomes[identity]
                done -= kind is None  # its verdict stays counted beside the new one until the file is written
                errors -= kind is not None
                kinds[kind] -= 1
            done += entry.is_done
            errors += not entry.is_done
            unexpected += entry.is_unexpected
            (found if entry.is_done else kinds)[entry.verdict] += 1
        return SavedCounts(file.total, done, errors, unexpected, _sorted(found), _sorted(kinds))

    def _outcomes_of(self, sample: _Sample) -> dict[Identity, str | None]:
        """Return how the tasks of a sample's file ended, where the journal may have newer entries of some of them."""
        file, journal = sample.file, sample.journal
        is_new = not file.errors and file.done + len(journal) <= max(file.total, sample.header_total)
        if is_new or file is _NO_FILE or not journal:
            return {}
        if file.outcomes is None:
            file.outcomes = self._read_outcomes(file.info)
        return file.outcomes


def _sorted(counts: Mapping[str | None, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, n) for name, n in counts.items() if name is not None and n > 0))


def _slim(info: FileInfo) -> FileInfo:
    """Return what is needed of a file to recognise it; many thousands of these are kept."""
    if info.place is not None:  # the archive's index holds it anyway, and it is recognised by its identity
        return info
    return replace(info, summary=None, progress=None, seen_seq=info.max_seq)


def _note(sample_id: str, group: str, index: int, entry: Entry) -> ErrorNote:
    error = entry.get("error")
    message, traceback = (error["message"], str(error.get("traceback") or "")) if error else ("", "")
    at = float(entry.get("started_at") or 0) + float(entry.get("duration_s") or 0)
    return ErrorNote(sample_id, group, index, error_type(entry), message, traceback, at)


def complete(counts: Iterable[SavedCounts], totals: SampleTotals | None) -> bool:
    """Return whether every task of a directory has a result or an error, as far as its newest run knows them."""
    ended = samples = 0
    for one in counts:
        if one.done + one.errors < one.total:
            return False
        ended, samples = ended + one.done + one.errors, samples + 1
    if totals is None:
        return samples > 0
    return totals.is_known and ended >= (totals.task_count or 0)
