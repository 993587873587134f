"""nbrun merge TARGET DIR …: makes one new results directory of several, which stay as they are.

It is written under another name beside (`.TARGET.merging`) and renamed when all of it is on the disk. So wherever the
process is killed, TARGET is there whole or not at all, and the same command starts again from the beginning. Runs are
kept out of the directories meanwhile. One sample at a time is in memory, and the index of each journal. One thread.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from nbrun.errors import FormatError, InputError, ResultsExistError, StorageError
from nbrun.results.format import FOLDER, Entry, Header, MatchRecord, temporary
from nbrun.results.listing import Problem, of_newer_format, open_file
from nbrun.results.reader import Reader, SampleTotals, Snapshot
from nbrun.results.replay import Attempt, JournalIndex, SavedSample, read_runs
from nbrun.results.sample_file import (
    NBRUN,
    FileInfo,
    Identity,
    OldFile,
    Stored,
    Unreadable,
    in_chunks,
    load_entry,
    parse_old,
    places_in,
    read_whole,
)
from nbrun.storage import files
from nbrun.storage.directory import Directory, write_totals
from nbrun.storage.lock import DirectoryLock, kept_quiet
from nbrun.storage.recovery import FileContent, carry_attempts

#: How many match records are saved together.
_AT_ONCE = 256


@dataclass
class Dropped:
    """Entries that don't count, because another directory's of the same task does.

    Attributes:
        same: equal results, such as a directory and its copy hold.
        older: results that were made before the one that counts.
        errors: errors of tasks that another directory has done, or tried later.
    """

    same: int = 0
    older: int = 0
    errors: int = 0

    def count(self, entry: Entry, *, is_same: bool) -> None:
        """Count an entry. `is_same`: the one that counts instead is equal."""
        if entry["status"] != "done":
            self.errors += 1
        elif is_same:
            self.same += 1
        else:
            self.older += 1


@dataclass
class Merged:
    """What was merged.

    Attributes:
        path: the new directory.
        directories: how many were merged.
        samples: how many there are now.
        entries: results and errors in them.
        in_several: samples that more than one directory held.
        dropped: of tasks that more than one directory held, what doesn't count.
        problems: what could not be read; it stays where it is, and its tasks count as missing.
    """

    path: str
    directories: int
    samples: int = 0
    entries: int = 0
    in_several: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return dataclasses.asdict(self)


def merge_results(target: str | os.PathLike[str], *results: str | os.PathLike[str]) -> Merged:
    """Make one new results directory of several, which stay as they are.

    Each task counts once: done beats error, then the result that began later, then the directory named first. The new
    directory loads as `load_results([...])` loads the others, and a run goes on in it with what all of them lack.

    Args:
        target: the new directory. It must not exist, or be empty.
        results: one results directory or more, in any format, that no run writes into.

    Returns:
        What was merged, and what was dropped.

    Raises:
        InputError: no such folder; one named twice; the target inside one of them.
        ResultsExistError: the target holds something.
        ResultsInUseError: a run writes into one of them.
        StorageError: the disk refused. The target isn't there then; what was written is beside it, and the same call
            starts again from the beginning.

    Example:
        >>> import tempfile
        >>> merge_results(tempfile.mkdtemp(), tempfile.mkdtemp(), tempfile.mkdtemp()).samples
        0
    """
    path = Path(target).expanduser().absolute()
    sources = [Path(r).expanduser() for r in results]
    _check(path, sources)
    beside = path.with_name(f".{path.name}.merging")
    out = Merged(str(path), len(sources))
    try:
        _merge(sources, beside, path, out)
    except StorageError:
        raise
    except OSError as e:
        raise StorageError(
            f"{e.filename or beside}: {e.strerror or e}. {path} was not made; what was written is in {beside}. "
            "Fix the cause and give the same command again.",
            path=str(path),
        ) from e
    return out


def _merge(sources: list[Path], beside: Path, path: Path, out: Merged) -> None:
    """Write the new directory to `beside`, and move it to its place."""
    with ExitStack() as held:
        for source in sources:
            held.enter_context(kept_quiet(source / FOLDER / "lock"))
        directory = held.enter_context(_made_again(beside))
        readers = [Reader(source) for source in sources]
        _Merging(directory, out).run(readers, [held.enter_context(reader.open()) for reader in readers])
        directory.close()
        files.move(beside, path)


def _check(path: Path, sources: list[Path]) -> None:
    """Raise an InputError where these can't be merged, or not into this directory."""
    if not sources:
        raise InputError("merge: give the new directory, and one results directory or more.")
    seen: set[Path] = set()
    for source in sources:
        Reader(source)  # raises where there is no such folder
        real = source.resolve()
        if real in seen:
            raise InputError(f"merge: {source} is given twice.")
        seen.add(real)
        if real in (path.resolve(), *path.resolve().parents):
            raise InputError(f"merge: the new directory {path} is in {source}. Give a place outside.")
    if os.path.lexists(path) and (path.is_symlink() or not _is_empty_folder(path)):
        raise ResultsExistError(f"{path} exists. merge makes a new directory: give another name.", path=str(path))


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextmanager
def _made_again(beside: Path) -> Iterator[Directory]:
    """Open the directory to be made; remove what an earlier merge that was killed left there."""
    if beside.is_dir() and not (_is_empty_folder(beside) or (beside / FOLDER).is_dir()):
        raise InputError(f"{beside} is in the way, and nothing that merge wrote. Move it elsewhere.")
    with closing(Directory(beside)) as directory, ExitStack() as held:
        held.callback(DirectoryLock(directory.inner / "lock").release)
        for folder in (beside, directory.inner, directory.inner / "tmp"):
            _clear(folder)
        yield directory


def _clear(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_file() and left.name != "lock":
            files.remove(left)
    files.sync_folder(folder)


class _Merging:
    """Writes the samples of several directories into a new one, one after another."""

    def __init__(self, directory: Directory, out: Merged) -> None:
        self._directory, self._out = directory, out
        self._problems: list[Problem] = []
        self._matches: list[MatchRecord] = []
        self._names: set[str] = set()  # in lower case: the new directory's disk may ignore case
        self._open = JournalIndex()  # headers and attempts of tasks that are under way

    def run(self, readers: list[Reader], views: list[Snapshot]) -> None:
        """Merge. Raise FormatError where a newer nbrun has written."""
        self._problems = [problem for reader in readers for problem in reader.problems]
        if newer := of_newer_format(self._problems):
            raise FormatError(f"{newer}. Update nbrun.", path=newer.path)
        self._add_runs(readers)
        self._add_samples(views)
        self._save_matches(0)
        if self._open.attempts:
            carry_attempts(self._directory, 1, self._open.attempts, self._open.headers)
        files.sync_folder(self._directory.path)
        self._out.problems = [str(problem) for problem in self._problems]

    def _add_samples(self, views: list[Snapshot]) -> None:
        held = [_ids(view) for view in views]
        for sample_id in sorted(set().union(*held)):
            those = [Held(view, sample_id) for view, ids in zip(views, held, strict=True) if sample_id in ids]
            self._out.in_several += len(those) > 1
            if not self._add_copy(those):
                self._add(sample_id, those)

    def _add_runs(self, readers: list[Reader]) -> None:
        """Save the run records, each once: they say under which settings entries were made."""
        records: list[Mapping[str, object]] = []
        for record in chain.from_iterable(read_runs(reader.path / FOLDER) for reader in readers):
            if record not in records:
                records.append(record)
        if not records:
            return
        totals = _joined_totals([reader.totals() for reader in readers])
        if totals is not None:  # a later record of the same run replaces the earlier one
            records.append({**records[-1], **write_totals(self._directory.inner, totals)})
        self._directory.run_log.append(*records)

    def _add_copy(self, those: list[Held]) -> bool:
        """Copy a file of the older program that all directories hold alike. Return False where that can't be done."""
        data = _same_old_file(those)
        if data is None:
            return False
        try:
            old = parse_old(data)
        except (Unreadable, ValueError):
            return False  # that is reported where it is read
        entries = sum(map(len, old.groups.values()))
        self._out.dropped.same += entries * (len(those) - 1)
        self._count(entries)
        self._put_old(next((held for held in those if held.match is not None), those[0]), old, data)
        return True

    def _put_old(self, held: Held, old: OldFile, data: bytes) -> None:
        """Put a file of the older program in place, with the record of its match."""
        assert held.info is not None
        self._put(self._name(held.info.name, held.sample_id), (data,), held.info.mtime_ns)
        if held.match is not None and places_in(old, held.match, data) is not None:
            self._matches.append({**held.match, "groups": held.match["groups"]})
            self._save_matches(_AT_ONCE)

    def _add(self, sample_id: str, those: list[Held]) -> None:
        with open_merged(those, self._out.dropped, self._problems) as merged:
            if merged.stored or merged.attempts:
                self._write(sample_id, those, merged)

    def _write(self, sample_id: str, those: list[Held], merged: MergedSample) -> None:
        """Write a sample's entries to its file, and keep its open attempts for the journal."""
        infos, header = _infos(those), _header(those)
        name = self._name(infos[0].name if len(those) == len(infos) == 1 else "", sample_id)
        if merged.stored:
            self._count(len(merged.stored))
            newest = max(infos, key=lambda info: info.max_seq, default=None)
            content = FileContent(sample_id, header, newest, None, merged.stored, merged.body, merged.extra)
            self._put(name, in_chunks(content.parts()), _mtime_ns(those))
        if merged.attempts:
            more: Header = {"id": sample_id, "name": name, "context": _context(those)}
            self._open.headers[sample_id] = header | more
            self._open.attempts[sample_id] = merged.attempts

    def _count(self, entries: int) -> None:
        self._out.samples += 1
        self._out.entries += entries

    def _name(self, wanted: str, sample_id: str) -> str:
        """Return a name for a sample's file that no other has: the one it had, if that is free."""
        taken = not wanted or wanted.lower() in self._names
        name = self._directory.name_for(sample_id) if taken else wanted
        self._names.add(name.lower())
        self._directory.listing.names.add(name)
        return name

    def _put(self, name: str, parts: Iterable[bytes], mtime_ns: int) -> None:
        path = self._directory.path / name
        files.replace_file(path, parts, self._directory.inner / "tmp" / temporary(name))
        if mtime_ns:
            files.set_times(path, mtime_ns)  # an old file is identified by its time, which load_samples shows

    def _save_matches(self, least: int) -> None:
        if self._matches and len(self._matches) >= least:
            self._directory.match_log.append(*self._matches)
            self._matches.clear()


def _same_old_file(those: list[Held]) -> bytes | None:
    """Return the older program's file that all directories hold alike; None where they differ or can't be read."""
    if not all(held.is_old for held in those):
        return None
    try:
        data = those[0].file()
        return data if all(held.file() == data for held in those[1:]) else None
    except (Unreadable, OSError, ValueError):
        return None  # that is reported where it is read


def _joined_totals(several: list[SampleTotals | None]) -> SampleTotals | None:
    """Return how many samples and tasks all directories were given, those without any result included.

    None where one of them doesn't know the ids of its samples, so that they aren't distinguishable. A directory
    without totals is by an older program and holds a file of each of its samples.
    """
    known = list(filter(None, several))
    if not known or None in [totals.by_id for totals in known]:
        return None
    groups = dict.fromkeys(chain.from_iterable(totals.tasks or () for totals in known), 0)
    counts = _tasks_of_samples(known)
    by_id = {sample_id: [of[group] for group in groups] for sample_id, of in counts.items()}
    return SampleTotals(len(by_id), groups | sum(counts.values(), Counter()), by_id)


def _tasks_of_samples(several: Iterable[SampleTotals]) -> dict[str, Counter[str]]:
    """Return each sample's tasks by group; where directories differ, of each group the larger number."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for totals in several:
        for sample_id in totals.ids:
            counts[sample_id] |= Counter(totals.of(sample_id))
    return counts


def _ids(view: Snapshot) -> set[str]:
    """Return the ids of the samples that a directory holds anything of."""
    return {*view.listing.by_id, *view.journal.entries, *view.journal.attempts}


def _header(those: list[Held]) -> Header:
    """Return what is known of a sample's dataset: of totals that differ the larger, of digests that differ none."""
    datasets = [held.dataset() for held in those]
    totals: dict[str, int] = {}
    for known, _ in datasets:
        totals |= {group: max(n, totals.get(group, 0)) for group, n in known.items()}
    digests = {digest for _, digest in datasets}
    return {"totals": totals, "identities": digests.pop() if len(digests) == 1 else ""}


def _infos(those: list[Held]) -> list[FileInfo]:
    return [held.info for held in those if held.info is not None]


def _context(those: list[Held]) -> str:
    return next((held.header["context"] for held in those if "context" in held.header), "")


def _mtime_ns(those: list[Held]) -> int:
    """Return when the newest file of a sample was written; 0 where a journal holds newer entries."""
    if any(held.in_journal for held in those):
        return 0
    return max((info.mtime_ns for info in _infos(those)), default=0)


# ---- one sample as several directories hold it: the entries that count, each once, and what was dropped
#
# Done beats error; of two alike the one that began later counts, for a seq has no meaning outside its own directory;
# where that isn't known, or is equal, the directory named first counts. Pure reading.


class Held:
    """A sample in one directory."""

    def __init__(self, now: Snapshot, sample_id: str) -> None:
        self.sample_id = sample_id
        self.info: FileInfo | None = now.listing.by_id.get(sample_id)
        self.match: MatchRecord | None = now.matches.get(sample_id)
        self.in_journal = now.journal.entries.get(sample_id, {})
        self.attempts: dict[Identity, Attempt] = now.journal.attempts.get(sample_id, {})
        self.header: Header = now.journal.headers.get(sample_id) or {}
        self._now = now

    @property
    def is_old(self) -> bool:
        """True for a file of the older program without entries in the journal."""
        return self.info is not None and self.info.source != NBRUN and not self.in_journal

    def file(self) -> bytes:
        """Return the bytes of its file. Raise FileNotFoundError where there is none."""
        if self.info is None:
            raise FileNotFoundError(self.sample_id)
        with open_file(self._now.path, self.info, self._now.archives) as f:
            return read_whole(f)

    def dataset(self) -> tuple[dict[str, int], str]:
        """Return the dataset's tasks by group, and the digest of their identities ("" where that isn't known)."""
        if self.header:
            return dict(self.header["totals"]), self.header.get("identities", "")
        if self.info is None:
            return {}, ""
        if self.info.summary is not None:
            return self.info.recorded("total"), self.info.summary["identities"]
        if self.info.source != NBRUN and self.match is not None:
            return dict(self.match["totals"]), self.match["identities"]
        return self.info.recorded("total"), ""

    def open(self, problems: list[Problem]) -> AbstractContextManager[SavedSample | None]:
        """See Snapshot.open_sample."""
        return self._now.open_sample(self.sample_id, problems)


@dataclass
class MergedSample:
    """A sample in all directories that hold it, merged while they are open.

    Attributes:
        stored: the entries that count.
        attempts: open attempts of tasks without a result.
        extra: keys that another tool has added to a file, with their values as JSON; of the directory named first.
    """

    stored: list[Stored] = field(default_factory=list)
    attempts: dict[Identity, Attempt] = field(default_factory=dict)
    extra: dict[str, bytes] = field(default_factory=dict)
    _from: dict[Identity, tuple[SavedSample, Stored]] = field(default_factory=dict)
    _indexes: dict[Identity, int] = field(default_factory=dict)  # where another directory knows the item's place

    def take(self, saved: SavedSample, s: Stored, dropped: Dropped) -> None:
        """Take an entry, or drop it or the one of the same task that was taken before."""
        before = self._from.get(s.identity)
        if before is None:
            self._from[s.identity] = saved, s
            return
        old, new = load_entry(before[0].body(before[1])), load_entry(saved.body(s))
        wins = _rank(new) > _rank(old)
        dropped.count(old if wins else new, is_same=_plain(old) == _plain(new))
        index = s.item_index if s.item_index is not None else before[1].item_index
        kept = (saved, s) if wins else before
        if kept[1].item_index is None and index is not None:  # its own directory didn't know the item any more
            self._indexes[s.identity] = index
        self._from[s.identity] = kept

    def settle(self, those: list[Held]) -> None:
        """All entries were taken: put them in their places, and find the attempts that go on."""
        stored = [s for _, s in self._from.values()]
        self.stored = _placed([s._replace(item_index=self._indexes.get(s.identity, s.item_index)) for s in stored])
        self.attempts = _open_attempts(those, {s.identity for s in stored if s.status == "done"})

    def body(self, s: Stored) -> bytes:
        """Return the bytes of one of them."""
        saved, there = self._from[s.identity]
        body = saved.body(there)
        if s.item_index is not None and s.item_index != there.item_index:
            body = b'{"index":%d,%b' % (s.item_index, body.split(b",", 1)[1])
        return body


@contextmanager
def open_merged(those: list[Held], dropped: Dropped, problems: list[Problem]) -> Iterator[MergedSample]:
    """Yield a sample's entries in all directories, merged, while their files are open."""
    out = MergedSample()
    with ExitStack() as opened:
        for held in those:
            saved = opened.enter_context(held.open(problems))
            if saved is None:
                continue
            out.extra = {**saved.extra, **out.extra}
            for s in saved.entries:
                out.take(saved, s, dropped)
        out.settle(those)
        yield out


def _open_attempts(those: list[Held], done: set[Identity]) -> dict[Identity, Attempt]:
    """Return the latest attempt of each task that isn't done; of two alike that of the directory named first."""
    attempts = [pair for held in those for pair in held.attempts.items() if pair[0] not in done]
    attempts.sort(key=lambda pair: pair[1].attempt, reverse=True)  # stable
    out: dict[Identity, Attempt] = {}
    for identity, attempt in attempts:
        out.setdefault(identity, attempt)
    return out


def _rank(entry: Entry) -> tuple[bool, float]:
    began = entry.get("started_at")
    return entry["status"] == "done", float("-inf") if began is None else began


def _plain(entry: Entry) -> dict[str, object]:
    """Return an entry without the keys that differ between directories for the same result."""
    return {k: v for k, v in entry.items() if k not in ("index", "seq")}


def _placed(stored: list[Stored]) -> list[Stored]:
    """Put old entries that were never matched with a dataset after the others, until a run matches them."""
    after: dict[str, int] = {}
    for s in stored:
        after[s.group] = max(after.get(s.group, 0), 0 if s.item_index is None else s.item_index + 1)
    out = []
    for s in stored:
        if s.item_index is None and not s.matched:
            s = s._replace(item_index=after[s.group])
            after[s.group] += 1
        out.append(s)
    return out
