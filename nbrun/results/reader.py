"""Reads a results directory without a lock, also while a run writes into it: every saved entry once.

Any thread. The journal is read first, the files after (F7); where a segment vanished meanwhile, all is listed again.
Never writes.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbrun.errors import InputError
from nbrun.results import sample_file
from nbrun.results.archives import Archives, read_file
from nbrun.results.entries import JournalIndex, Stored, index_journal, merge
from nbrun.results.format import FOLDER, RUN
from nbrun.results.sample_file import NBRUN, FileInfo, Unreadable
from nbrun.results.totals import SampleTotals, read_totals
from nbrun.results.values import load
from nbrun.storage import files
from nbrun.storage.book import IN_FILE, IN_SEGMENT
from nbrun.storage.directory import Listing, Problem, list_samples, odd_entries, refuse_link
from nbrun.storage.runlog import Match, MatchLog, RecordLog

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
    matches: dict[str, Match]
    listing: Listing
    archives: Archives

    def body(self, s: Stored) -> bytes:
        """The bytes of an entry that stands in the journal."""
        return _body(s, None, self.handles)


class Reader:
    """A results directory, read.

    Raises:
        InputError: there is no such directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(f"results={path!r:.80}: give the path of the folder that a run wrote into.")
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            what = "; it is a file" if self.path.exists() else ""
            raise InputError(
                f"results={str(path)!r}: there is no such folder{what}. Give the folder that a run wrote into."
            )
        refuse_link(self.path / FOLDER)
        self.problems: list[Problem] = []
        self._archives = Archives(self.path)

    @contextmanager
    def open(self, known: Callable[[os.DirEntry[str]], FileInfo | None] | None = None) -> Iterator[Snapshot]:
        """What is there now. `known`: see list_samples."""
        inner = self.path / FOLDER
        self.problems += [Problem(str(path), what) for path, what in odd_entries(inner)]
        journal, handles = self._open_journal(inner)
        try:
            matches = MatchLog(inner / "matched.log").matches()
            listing = list_samples(self.path, known, self._archives)
            self.problems += listing.problems
            for number, scan in journal.damaged.items():
                self.problems.append(Problem(str(journal.segments[number]), f"has {len(scan.damaged)} damaged records"))
            yield Snapshot(journal, handles, matches, listing, self._archives)
        finally:
            for fd in handles.values():
                os.close(fd)

    def totals(self) -> SampleTotals | None:
        """How many samples and tasks the newest run was given; None where no run has said it."""
        inner = self.path / FOLDER
        return read_totals(inner, RecordLog(inner / "runs.log", RUN).read())

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
                    told = _told_by_file(self.path, infos[sample_id], now.matches.get(sample_id))
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
        damaged = 0
        if bodies and in_journal:
            whole = {
                i: s for i, s in in_journal.items() if sample_file.parse_entry(_body(s, None, handles)) is not None
            }
            damaged, in_journal = len(in_journal) - len(whole), whole
        header = journal.headers.get(sample_id, {})
        path = self.path / (info.name if info else str(header.get("name", "")))
        file: sample_file.OwnFile | bytes | None = None
        stored: list[Stored] = list(in_journal.values())
        try:
            if info is not None:  # the very bytes that are merged: it may be replaced meanwhile
                file = sample_file.read_any(io.BytesIO(read_file(self.path, info, self._archives)))
                stored = merge(file, match, in_journal)
        except (Unreadable, OSError, ValueError) as e:
            self.problems.append(Problem(str(path), str(e), sample_id))
            if not in_journal:
                return None
        entries = []
        for s in stored:
            if s.item_index is None and s.matched:
                continue
            body = _body(s, file, handles) if bodies else b""
            if bodies and s.where == IN_FILE and sample_file.parse_entry(body) is None:
                damaged += 1
                continue
            entries.append((s, body))
        if damaged:
            self.problems.append(Problem(str(path), f"has {damaged} damaged entries", sample_id))
        done = Counter(s.group for s, _ in entries if s.status == "done")
        view = summarise(sample_id, self.path, info, header, match, done, len(entries) - done.total())
        view.entries = entries
        return view


def with_totals(views: Iterable[SampleView], totals: SampleTotals | None) -> Iterator[SampleView]:
    """Yield these samples and those that were never begun, in the order of their ids.

    A sample that has grown since its file was written has as many tasks as the newest run counted.
    """
    if totals is None or totals.by_id is None:
        yield from views
        return
    waiting = iter(sorted(totals.by_id))
    following = next(waiting, None)
    for view in views:
        while following is not None and following < view.sample_id:
            yield _not_begun(following, totals)
            following = next(waiting, None)
        if following == view.sample_id:
            following = next(waiting, None)
        for group, n in totals.of(view.sample_id).items():
            view.totals[group] = max(n, view.totals.get(group, 0))
            view.completed.setdefault(group, 0)
            view.is_complete = view.is_complete and view.completed[group] >= n
        yield view
    while following is not None:
        yield _not_begun(following, totals)
        following = next(waiting, None)


def _not_begun(sample_id: str, totals: SampleTotals) -> SampleView:
    counts = totals.of(sample_id)
    return SampleView(sample_id, "", NBRUN, counts, dict.fromkeys(counts, 0), 0, not any(counts.values()), None)


def _told_by_file(folder: Path, info: FileInfo, match: Any) -> SampleView | None:
    """What the last lines of a file, or its match record, say; None where it must be read."""
    if info.is_damaged:
        return None
    if info.source == NBRUN:
        if info.summary is None or info.progress is None:
            return None
        errors = sum(info.summary["errors"].values())
        return summarise(info.sample_id, folder, info, {}, None, _counts("completed", info.progress), errors)
    if match is not None:
        if (match["size"], match["mtime_ns"]) != (info.size, info.mtime_ns):
            return None
        done = match.get("completed")
        if done is None:  # a record of an older nbrun
            try:
                groups = match["groups"]
            except LookupError:
                return None
            done = {group: sum(place[0] is not None for place in places) for group, places in groups.items()}
        return summarise(info.sample_id, folder, info, {}, match, done, 0)
    if info.progress is None:
        return None
    return summarise(info.sample_id, folder, info, {}, None, _counts("completed", info.progress), 0)


def _counts(what: str, progress: Mapping[str, Any]) -> dict[str, int]:
    """A progress object's numbers of that name, by group."""
    return {
        k.removeprefix(what + "_").removesuffix("s"): n
        for k, n in progress.items() if k.startswith(what + "_") and isinstance(n, int)
    }  # fmt: skip


def _seconds(ns: int) -> float:
    """As os.stat makes seconds of nanoseconds, to the last bit."""
    return ns // 10**9 + 1e-9 * (ns % 10**9)


def _body(s: Stored, file: sample_file.OwnFile | bytes | None, handles: dict[int, int]) -> bytes:
    if s.body is not None:
        return s.body
    if s.where == IN_FILE:
        assert isinstance(file, sample_file.OwnFile)
        return file.body(s)
    return files.pread(handles[s.where - IN_SEGMENT], s.length, s.offset)


def summarise(
    sample_id: str, folder: Path, info: FileInfo | None, header: Mapping[str, Any], match: Any,
    completed: Mapping[str, int], errors: int,
) -> SampleView:  # fmt: skip
    """A sample of so many completed tasks by group, as its file, its header record and its match record know it."""
    totals = dict(header.get("totals") or (match or {}).get("totals") or {})
    for group, n in _counts("total", (info.progress if info else None) or {}).items():
        totals.setdefault(group, n)
    done = dict.fromkeys(totals, 0) | dict(completed)
    for group, n in done.items():
        totals.setdefault(group, n)  # a legacy file exists only where its sample was finished
    if info is not None and info.source != NBRUN:  # it may hold one solution twice, which counts once
        done = {group: min(n, totals[group]) for group, n in done.items()}
    complete = not (info and info.is_damaged) and all(done[g] >= n for g, n in totals.items())
    return SampleView(
        sample_id, str(folder / (info.name if info else str(header.get("name", "")))), info.source if info else NBRUN,
        totals, done, errors, complete, _seconds(info.mtime_ns) if info else None,
    )  # fmt: skip


def parse(body: bytes) -> dict[str, Any]:
    """An entry's bytes as a mapping."""
    value = load(body)
    return value if isinstance(value, dict) else {}
