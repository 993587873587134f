"""Reads a results directory without a lock, also while a run writes into it: every saved entry once, and the counts.

`Reader` reads a whole directory; `read_rows` and `read_entry` read one sample for a view that opens it, at the cost of
that sample and of the bytes of the journal. The journal is read first, the files after (F7); where a segment vanished
meanwhile, everything is listed again. Nothing is written. Any thread.

What was never begun counts as missing: a run record holds the numbers of samples and tasks as soon as they are known.
Of a list, `.nbrun/samples` holds each id with its tasks; the run record names that file's content by a digest, so an
old or damaged file is not believed.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from nbrun import verdicts
from nbrun.canonical import blake2b
from nbrun.errors import InputError
from nbrun.results import plain_files
from nbrun.results.format import (
    ENTRY,
    FOLDER,
    Entry,
    Header,
    JsonValue,
    MatchRecord,
    RunRecord,
    name_of,
    unframe,
)
from nbrun.results.listing import (
    Archives,
    KnownFile,
    Listing,
    Problem,
    damaged_entries,
    list_samples,
    nothing_known,
    open_file,
    reason,
)
from nbrun.results.replay import (
    TRIES,
    JournalIndex,
    SavedSample,
    entry_of,
    index_journal,
    list_segments,
    read_lines,
    read_matches,
    read_runs,
    split_readable,
)
from nbrun.results.sample_file import (
    NBRUN,
    FileInfo,
    Identity,
    Stored,
    Unreadable,
    error_type,
    is_count,
    is_counts,
    keep_newest,
    parse_entry,
    peek,
)
from nbrun.results.values import dump
from nbrun.texts import digits_of

if TYPE_CHECKING:
    from nbrun.model import TaskSummary


#: The file in `.nbrun/` that lists the samples of the newest run.
SAMPLES = "samples"


@dataclass(frozen=True)
class SampleTotals:
    """How many samples and tasks a run has.

    Attributes:
        samples: how many there are; None while a stream is still being read.
        tasks: by group; None as above.
        by_id: each sample's tasks, in the order of the groups in `tasks`; None where only the sums are known.
    """

    samples: int | None = None
    tasks: Mapping[str, int] | None = None
    by_id: Mapping[str, Sequence[int]] | None = None

    @property
    def is_known(self) -> bool:
        """Return whether all samples were counted."""
        return self.samples is not None and self.tasks is not None

    @property
    def task_count(self) -> int | None:
        """How many tasks there are in all; None while a stream is still being read."""
        return None if self.tasks is None else sum(self.tasks.values())

    @property
    def ids(self) -> Collection[str]:
        """The ids of all samples; none where only the sums are known."""
        return self.by_id or ()

    def of(self, sample_id: str) -> dict[str, int]:
        """Return a sample's tasks by group; {} where only the sums are known."""
        return dict(zip(self.tasks or (), (self.by_id or {}).get(sample_id, ()), strict=False))


def read_totals(inner: Path, records: Iterable[RunRecord]) -> SampleTotals | None:
    """Return what the newest run was given. None where no run has recorded it: an older nbrun wrote, or none did."""
    newest = [RunRecord(run_id=""), *records][-1]
    if "samples" not in newest:
        return None
    samples, tasks = newest["samples"], newest.get("tasks")
    if not is_count(samples) or not is_counts(tasks):
        return SampleTotals(samples if is_count(samples) else None)
    data = read_samples(inner)
    is_right = samples_digest(data) == newest.get("samples_digest")
    return SampleTotals(samples, tasks, _counts_by_id(data, list(tasks)) if is_right else None)


def _counts_by_id(data: bytes, groups: list[str]) -> dict[str, list[int]] | None:
    """Return each sample's tasks; None where the content is not what the format says: a digest is no validity."""
    try:
        first, *rows = map(orjson.loads, data.splitlines())
    except ValueError:
        return None
    if first != groups or not all(_is_row(row, len(groups)) for row in rows):
        return None
    return {row[0]: row[1:] for row in rows}


def _is_row(row: JsonValue, groups: int) -> bool:
    """Return whether a value is an id with as many counts as there are groups."""
    match row:
        case [str(), *counts]:
            return len(counts) == groups and all(map(is_count, counts))
    return False


def read_samples(inner: Path) -> bytes:
    """Return the content of `.nbrun/samples`; b"" where it can't be read."""
    try:
        return plain_files.read_whole(inner / SAMPLES)
    except OSError:
        return b""


def samples_digest(data: bytes) -> str:
    """Return the digest by which a run record names that content."""
    return blake2b(data, digest_size=16).hexdigest()


@dataclass
class SampleView:
    """One sample as it is saved. `entries` leaves out those that no longer match an item of the dataset."""

    sample_id: str
    path: str
    source: str
    totals: dict[str, int]
    completed: dict[str, int]
    errors: int
    is_complete: bool
    updated_at: float | None
    entries: list[tuple[Stored, bytes]] = field(default_factory=list)


def with_totals(views: Iterable[SampleView], totals: SampleTotals | None) -> Iterator[SampleView]:
    """Yield these samples and those that were never begun, in the order of their ids.

    A sample that has grown since its file was written has as many tasks as the newest run counted.
    """
    if totals is None or totals.by_id is None:
        yield from views
        return
    waiting = deque(sorted(totals.by_id))
    for view in views:
        while waiting and waiting[0] <= view.sample_id:
            sample_id = waiting.popleft()
            if sample_id != view.sample_id:
                yield _not_begun(sample_id, totals)
        _raise_totals(view, totals)
        yield view
    yield from (_not_begun(sample_id, totals) for sample_id in waiting)


def _raise_totals(view: SampleView, totals: SampleTotals) -> None:
    for group, n in totals.of(view.sample_id).items():
        view.totals[group] = max(n, view.totals.get(group, 0))
        view.completed.setdefault(group, 0)
        view.is_complete = view.is_complete and view.completed[group] >= n


def _not_begun(sample_id: str, totals: SampleTotals) -> SampleView:
    counts = totals.of(sample_id)
    return SampleView(sample_id, "", NBRUN, counts, dict.fromkeys(counts, 0), 0, not any(counts.values()), None)


def from_tail(folder: Path, info: FileInfo, match: MatchRecord | None) -> SampleView | None:
    """Return a sample's counts from the last lines of its file or its match record; None where these don't suffice."""
    if info.source == NBRUN or match is None:
        if info.progress is None:  # damaged, or of the older program's first format
            return None
        errors = sum(info.summary["errors"].values()) if info.summary else 0
        return summarise(info.sample_id, folder, info, {}, None, info.recorded("completed"), errors)
    done = _done_in(match) if info.is_of(match) else None
    return None if done is None else summarise(info.sample_id, folder, info, {}, match, done, 0)


def _done_in(match: MatchRecord) -> Mapping[str, int] | None:
    """Return the done tasks by group that a match record names; None where it can't be read."""
    if "completed" in match:
        return match["completed"]
    try:
        groups = match["groups"]  # a record of an older nbrun
    except LookupError:
        return None
    return {group: sum(place[0] is not None for place in places) for group, places in groups.items()}


def _seconds(ns: int) -> float:
    """Return nanoseconds in seconds exactly as os.stat converts them, to the last bit."""
    return ns // 10**9 + 1e-9 * (ns % 10**9)


def summarise(
    sample_id: str,
    folder: Path,
    info: FileInfo | None,
    header: Header,
    match: MatchRecord | None,
    completed: Mapping[str, int],
    errors: int,
) -> SampleView:
    """Return a sample's counts.

    Args:
        info, header, match: its file, its header record and its match record, as far as there are any.
        completed: done tasks by group.
        errors: how many tasks ended in an error.
    """
    file = info or FileInfo(str(header.get("name", "")), sample_id, NBRUN, 0, 0)
    totals = dict(header.get("totals") or (match["totals"] if match else {}))
    recorded = file.recorded("total")
    done = dict.fromkeys({**totals, **recorded}, 0) | dict(completed)
    totals = {**done, **recorded, **totals}  # a legacy file exists only where its sample was finished
    updated_at = None if info is None else _seconds(info.mtime_ns)
    if file.source != NBRUN:  # it may hold one solution twice, which counts once
        done = {group: min(n, totals[group]) for group, n in done.items()}
    complete = not file.is_damaged and all(done[g] >= n for g, n in totals.items())
    return SampleView(sample_id, str(folder / file.name), file.source, totals, done, errors, complete, updated_at)


# ---- a whole directory


@dataclass
class Snapshot:
    """A directory at one moment: the journal was read first, then the list of files (F7)."""

    path: Path
    journal: JournalIndex
    matches: dict[str, MatchRecord]
    listing: Listing
    archives: Archives

    @contextmanager
    def open_sample(
        self, sample_id: str, problems: list[Problem], *, is_checked: bool = True
    ) -> Iterator[SavedSample | None]:
        """Yield the saved entries of a sample, its file held open; None where there are none that can be read.

        Args:
            problems: gets what can't be read.
            is_checked: leave out the entries that are damaged.
        """
        info, journal = self.listing.by_id.get(sample_id), list(self.journal.entries.get(sample_id, {}).values())
        if is_checked:
            journal, damaged = split_readable(journal, self.journal.body)
            if damaged:
                problems.append(damaged_entries(self.path, len(damaged), sample_id, " in the journal"))
        saved = SavedSample(None, None, journal, self.journal.body) if journal else None
        with ExitStack() as opened:
            if info is not None:
                try:
                    file = opened.enter_context(open_file(self.path, info, self.archives))
                    saved = SavedSample(file, self.matches.get(sample_id), journal, self.journal.body)
                    if is_checked:
                        problems += self._drop_damaged(saved, info)
                except (Unreadable, OSError, ValueError) as e:
                    problems.append(Problem(str(self.path / info.name), reason(e), sample_id))
            yield saved

    def _drop_damaged(self, saved: SavedSample, info: FileInfo) -> list[Problem]:
        """Leave out the entries of a file that are damaged. Return the problem, unless the listing names it already."""
        saved.drop_damaged()
        if not saved.damaged or info.is_damaged:
            return []
        return [damaged_entries(self.path / info.name, saved.damaged, info.sample_id)]


def results_folder(results: str | os.PathLike[str]) -> Path:
    """Return the path of a results directory. Raise InputError where there is no such folder."""
    if not isinstance(results, (str, os.PathLike)):
        raise InputError(f"results={results!r:.80}: give the path of the folder that a run wrote into.")
    path = Path(results).expanduser()
    if not path.is_dir():
        what = "" if path.is_absolute() else f" in {os.getcwd()}"
        what = "; it is a file" if path.exists() else what
        raise InputError(
            f"results={str(results)!r}: there is no such folder{what}. Give the folder that a run wrote into."
        )
    return path


class Reader:
    """A results directory, read.

    Raises:
        InputError: there is no such directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = results_folder(path)
        plain_files.refuse_odd_folder(self.path / FOLDER)
        self.problems: list[Problem] = []
        self._archives = Archives(self.path)

    @contextmanager
    def open(self, known: KnownFile = nothing_known) -> Iterator[Snapshot]:
        """Open what is there now. `known`: see list_samples."""
        inner = self.path / FOLDER
        self.problems += [Problem(str(path), what) for path, what in plain_files.odd_entries(inner)]
        journal = index_journal(inner)
        try:
            matches = read_matches(inner / "matched.log")
            listing = list_samples(self.path, known, self._archives)
            self.problems += listing.problems
            for number, scan in journal.damaged.items():
                self.problems.append(Problem(str(journal.segments[number]), str(scan)))
            yield Snapshot(self.path, journal, matches, listing, self._archives)
        finally:
            journal.close()

    def totals(self) -> SampleTotals | None:
        """Return how many samples and tasks the newest run was given; None where no run has recorded it."""
        inner = self.path / FOLDER
        return read_totals(inner, read_runs(inner))

    def samples(self, bodies: bool = True, by_tails: bool = False) -> Iterator[SampleView]:
        """Yield each sample with its entries.

        Args:
            bodies: read the entries' bytes too.
            by_tails: leave the entries out, and read no further, where the last lines of a file give the counts.
        """
        with self.open() as now:
            infos = now.listing.by_id
            for sample_id in sorted({*infos, *now.journal.entries}):
                if by_tails and sample_id not in now.journal.entries:
                    counted = from_tail(self.path, infos[sample_id], now.matches.get(sample_id))
                    if counted is not None:
                        yield counted
                        continue
                view = self._view(sample_id, now, bodies)
                if view is not None:
                    yield view

    def sample(self, sample_id: str, known: KnownFile = nothing_known) -> SampleView | None:
        """Return one sample with its entries; None where there is none."""
        with self.open(known) as now:
            return self._view(sample_id, now, bodies=True)

    def _view(self, sample_id: str, now: Snapshot, bodies: bool) -> SampleView | None:
        with now.open_sample(sample_id, self.problems, is_checked=bodies) as saved:
            if saved is None:
                return None
            counting = saved.counting
            entries = [(s, saved.body(s) if bodies else b"") for s in counting]
        done = Counter(s.group for s in counting if s.status == "done")
        info, match = now.listing.by_id.get(sample_id), now.matches.get(sample_id)
        header = now.journal.headers.get(sample_id, {})
        view = summarise(sample_id, self.path, info, header, match, done, len(counting) - done.total())
        view.entries = entries
        return view


# ---- one sample by itself, for a view

#: How many characters a preview of an item or a result has at most.
PREVIEW_CHARS = 100


def read_rows(path: Path, sample_id: str) -> list[TaskSummary]:
    """Return the tasks of a sample that have a saved result or error, group by group in the order of their items."""
    rows = []
    for stored, body in _entries(path, sample_id):
        entry = parse_entry(body)
        if entry is not None:
            rows.append(_row(stored, entry))
    groups = {row.group: n for n, row in reversed(list(enumerate(rows)))}
    return sorted(rows, key=lambda row: (row.group.startswith("incorrect_"), groups[row.group], row.index))


def read_entry(path: Path, sample_id: str, group: str, index: int) -> Entry | None:
    """Return a task's whole entry as it is saved; None where it has none yet."""
    for stored, body in _entries(path, sample_id):
        if stored.group == group and stored.item_index == index:
            return parse_entry(body)
    return None


def _row(stored: Stored, entry: Entry) -> TaskSummary:
    from nbrun.model import TaskSummary  # slow to load, and loading results needs none of it

    result, language = entry["result"], entry.get("language")
    is_surprise = verdicts.is_unexpected(verdicts.expected(stored.group), verdicts.counted(result))
    return TaskSummary(
        stored.group,
        stored.item_index or 0,
        stored.status,
        verdicts.of(result) if stored.is_done else error_type(entry),
        _time_s(entry),
        int(entry.get("attempts") or 1),
        None if language is None else str(language),
        item=_preview(entry.get("solution", entry.get("item"))),
        result=_preview(_own_of(result)),
        is_unexpected=stored.is_done and is_surprise,
    )


def _time_s(entry: Entry) -> float | None:
    """Return how long a task took; of an entry of the older program its longest test."""
    time_s = entry.get("duration_s")
    if time_s is None:
        time_s = verdicts.summary_of_tests(entry["result"]).longest_s
    return None if time_s is None else float(time_s)


def _own_of(result: JsonValue) -> JsonValue:
    """Return what a result holds beside its verdict; of one with tests, how many were passed."""
    if not isinstance(result, dict):
        return result
    n_tests, n_passed, _ = verdicts.summary_of_tests(result)
    if n_tests is not None:
        return f"{n_passed} of {n_tests} tests passed"
    own = {k: v for k, v in result.items() if k not in ("verdict", "accepted", "api_used")}
    return own["value"] if own.keys() == {"value"} else own or None


def _preview(value: JsonValue) -> str:
    """Return the beginning of a value, on one line."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(_shortened(value), ensure_ascii=False)
    line = " ".join(text[: 4 * PREVIEW_CHARS].split())
    return line if len(line) <= PREVIEW_CHARS else f"{line[:PREVIEW_CHARS]}…"


def _shortened(value: JsonValue, depth: int = 0) -> JsonValue:
    """Return the beginning of a value, so that a preview of a large one doesn't cost its encoding."""
    if isinstance(value, str):
        return value[:PREVIEW_CHARS]
    if type(value) is int and value.bit_length() > 64:
        return digits_of(value)[:PREVIEW_CHARS]
    if not isinstance(value, (dict, list)):
        return value
    if depth == 3:
        return "…"
    if isinstance(value, list):
        return [_shortened(v, depth + 1) for v in value[:12]]
    return {k: _shortened(v, depth + 1) for k, v in islice(value.items(), 12)}


def _entries(path: Path, sample_id: str) -> Iterator[tuple[Stored, bytes]]:
    """Yield the entries that belong to an item of the dataset, with their bytes. `check` reports damaged ones."""
    journal = _in_journal(path / FOLDER, sample_id)
    file, source = _open_file_of(path, sample_id)
    with file or nullcontext():  # held open: it may be replaced meanwhile
        matches = {} if source == NBRUN else read_matches(path / FOLDER / "matched.log", sample_id)
        try:
            saved = SavedSample(file, matches.get(sample_id), journal.values(), _no_segment)
        except Unreadable:
            saved = SavedSample(None, None, journal.values(), _no_segment)
        yield from ((s, saved.body(s)) for s in saved.entries if s.item_index is not None)


def _no_segment(s: Stored) -> bytes:
    raise AssertionError(f"{s.identity} was read with its bytes")


def _in_journal(inner: Path, sample_id: str) -> dict[Identity, Stored]:
    """Return a sample's entries in the journal, with their bytes. Only its own records are parsed."""
    mark = b"\t" + dump([sample_id, ""])[:-3]  # how an entry's line ends: the sample and then any group
    for _ in range(TRIES):
        out: dict[Identity, Stored] = {}
        try:
            for line in _lines_with(mark, inner):
                _take(out, line, sample_id)
        except plain_files.NotPlainError:  # check names it
            pass
        except FileNotFoundError:  # the segment was deleted; its entries are now in files
            continue
        return out
    return {}


def _lines_with(mark: bytes, inner: Path) -> Iterator[bytes]:
    """Yield the lines of the journal that hold `mark`."""
    for _, segment in list_segments(inner):
        with plain_files.open_reading(segment, buffering=0) as f:
            for _, _, line in read_lines(f):
                if line is not None and mark in line:
                    yield line


def _take(out: dict[Identity, Stored], line: bytes, sample_id: str) -> None:
    """Take in a line of the journal, if it is an entry of the sample and whole."""
    record = unframe(line)
    if record is None or record.kind != ENTRY:
        return
    found = entry_of(record)
    if found is None or found[0] != sample_id or parse_entry(record.body) is None:
        return
    keep_newest(out, found[1].identity, found[1]._replace(body=record.body), in_journal=True)


def _open_file_of(path: Path, sample_id: str) -> tuple[BinaryIO | None, str]:
    """Open a sample's file: found by its name, else (a file of the older program) by looking at all of them.

    Return its source, too; (None, NBRUN) where it has no file.
    """
    for _ in range(TRIES):
        info: FileInfo | None = None
        with suppress(OSError, Unreadable):
            info = peek(path / name_of(sample_id))
        if info is None or info.sample_id != sample_id:
            info = list_samples(path).by_id.get(sample_id)
        if info is None:
            break
        with suppress(FileNotFoundError):
            return open_file(path, info), info.source
    return None, NBRUN
