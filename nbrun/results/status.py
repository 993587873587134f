"""Counts of a results directory: of each saved sample, and of the samples and tasks that the newest run was given.

A run record holds the sums as soon as they are known, so that what was never begun counts as missing. Of a list, whose
samples are all known when the run begins, `.nbrun/samples` holds each id with its tasks; the run record names that
file's content by a digest, so an old or damaged file is not believed.

Pure reading; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from nbrun.canonical import blake2b
from nbrun.results import plain_files
from nbrun.results.format import Header, MatchRecord, RunRecord
from nbrun.results.sample_file import NBRUN, FileInfo, Stored, is_count, is_counts

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

    def of(self, sample_id: str) -> dict[str, int]:
        """Return a sample's tasks by group; {} where only the sums are known."""
        counts = None if self.by_id is None else self.by_id.get(sample_id)
        return {} if counts is None or self.tasks is None else dict(zip(self.tasks, counts, strict=True))


def read_totals(inner: Path, records: Iterable[RunRecord]) -> SampleTotals | None:
    """Return what the newest run was given. None where no run has recorded it: an older nbrun wrote, or none did."""
    newest: RunRecord | None = None
    for record in records:
        newest = record
    if newest is None or "samples" not in newest:
        return None
    samples, tasks = newest["samples"], newest.get("tasks")
    if not is_count(samples) or not is_counts(tasks):
        return SampleTotals(samples if is_count(samples) else None)
    data = read_samples(inner) if "samples_digest" in newest else b""
    is_right = data and samples_digest(data) == newest["samples_digest"]
    return SampleTotals(samples, tasks, _counts_by_id(data, list(tasks)) if is_right else None)


def _counts_by_id(data: bytes, groups: list[str]) -> dict[str, list[int]] | None:
    """Return each sample's tasks; None where the content is not what the format says: a digest is no validity."""
    by_id: dict[str, list[int]] = {}
    try:
        first, *rows = map(orjson.loads, data.splitlines())
    except ValueError:
        return None
    for row in rows:
        if not isinstance(row, list) or len(row) != 1 + len(groups) or type(row[0]) is not str:
            return None
        if not all(map(is_count, row[1:])):
            return None
        by_id[row[0]] = row[1:]
    return by_id if first == groups else None


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


def from_tail(folder: Path, info: FileInfo, match: MatchRecord | None) -> SampleView | None:
    """Return a sample's counts from the last lines of its file or its match record; None where these don't suffice."""
    if info.is_damaged:
        return None
    if info.source == NBRUN:
        if info.summary is None or info.progress is None:
            return None
        errors = sum(info.summary["errors"].values())
        return summarise(info.sample_id, folder, info, {}, None, info.recorded("completed"), errors)
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
    return summarise(info.sample_id, folder, info, {}, None, info.recorded("completed"), 0)


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
    totals = dict(header.get("totals") or (match["totals"] if match else {}))
    for group, n in (info.recorded("total") if info else {}).items():
        totals.setdefault(group, n)
    done = dict.fromkeys(totals, 0) | dict(completed)
    for group, n in done.items():
        totals.setdefault(group, n)  # a legacy file exists only where its sample was finished
    if info is not None and info.source != NBRUN:  # it may hold one solution twice, which counts once
        done = {group: min(n, totals[group]) for group, n in done.items()}
    complete = not (info and info.is_damaged) and all(done[g] >= n for g, n in totals.items())
    return SampleView(
        sample_id,
        str(folder / (info.name if info else str(header.get("name", "")))),
        info.source if info else NBRUN,
        totals,
        done,
        errors,
        complete,
        _seconds(info.mtime_ns) if info else None,
    )
