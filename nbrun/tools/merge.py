"""nbrun merge TARGET DIR …: several results directories become one new one; those stay as they are.

It is written under another name beside (`.TARGET.merging`) and renamed when all of it is on the disk, so whatever is
killed in between, TARGET is there whole or not at all; the same command again begins anew. Runs are kept out of the
directories meanwhile. What is needed at a time is one sample, and the index of each journal. One thread.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbrun.errors import FormatError, InputError, ResultsExistError, StorageError
from nbrun.results import legacy
from nbrun.results.entries import JournalIndex, places_in
from nbrun.results.format import FOLDER, RUN
from nbrun.results.names import temporary
from nbrun.results.reader import Reader, Snapshot
from nbrun.results.sample_file import FileInfo, Unreadable
from nbrun.storage import files
from nbrun.storage.directory import Directory, Problem
from nbrun.storage.filing import chunked
from nbrun.storage.lock import DirectoryLock, kept_quiet
from nbrun.storage.recover import Recovery, carry_attempts, file_parts
from nbrun.storage.runlog import RecordLog
from nbrun.tools.multi_directory import Dropped, Held, Several, open_several

#: So many match records are saved together.
_AT_ONCE = 256


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
    """Makes one new results directory of several, which stay as they are.

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
        StorageError: the disk refused. The target isn't there then; what was written stands beside, and the same call
            again begins anew.

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
        with ExitStack() as held:
            for source in sources:
                held.enter_context(kept_quiet(source / FOLDER / "lock"))
            directory = held.enter_context(_made_anew(beside))
            readers = [Reader(source) for source in sources]
            _Merging(directory, out).run(readers, [held.enter_context(reader.open()) for reader in readers])
            directory.close()
            files.move(beside, path)
    except OSError as e:
        if isinstance(e, StorageError):
            raise
        raise StorageError(
            f"{e.filename or beside}: {e.strerror or e}. {path} was not made; what was written stands in {beside}. "
            "Mend the cause and give the same command again.", path=str(path),
        ) from e  # fmt: skip
    return out


def _check(path: Path, sources: list[Path]) -> None:
    if not sources:
        raise InputError("merge: give the new directory, and one results directory or more.")
    seen: dict[Path, Path] = {}
    for source in sources:
        Reader(source)
        real = source.resolve()
        if real in seen:
            raise InputError(f"merge: {source} is given twice.")
        seen[real] = source
        if real in (path.resolve(), *path.resolve().parents):
            raise InputError(f"merge: the new directory {path} is in {source}. Give a place outside.")
    is_empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if os.path.lexists(path) and not is_empty:
        raise ResultsExistError(f"{path} exists. merge makes a new directory: give another name.", path=str(path))


@contextmanager
def _made_anew(beside: Path) -> Iterator[Directory]:
    """The directory that is to be; what an earlier merge that was killed left there goes."""
    if beside.is_dir() and any(beside.iterdir()) and not (beside / FOLDER).is_dir():
        raise InputError(f"{beside} is in the way, and nothing that merge wrote. Move it elsewhere.")
    directory = Directory(beside)
    guard = DirectoryLock(directory.inner / "lock")
    try:
        for folder in (beside, directory.inner, directory.inner / "tmp"):
            for left in folder.iterdir():
                if left.is_file() and left.name != "lock":
                    files.remove(left)
            files.sync_folder(folder)
        yield directory
    finally:
        directory.close()
        guard.release()


class _Merging:
    """Writes the samples of several directories into a new one, one after another."""

    def __init__(self, directory: Directory, out: Merged) -> None:
        self._directory, self._out = directory, out
        self._problems: list[Problem] = []
        self._matches: list[dict[str, Any]] = []
        self._names: set[str] = set()  # in one case: the new directory may stand on a disk that is blind to it
        self._open = JournalIndex()  # headers and attempts of tasks that are under way

    def run(self, readers: list[Reader], views: list[Snapshot]) -> None:
        """Raises FormatError where a newer nbrun has written."""
        self._problems = [problem for reader in readers for problem in reader.problems]
        for problem in self._problems:
            if "this nbrun knows" in problem.what:
                raise FormatError(f"{problem}. Update nbrun.", path=problem.path)
        self._add_runs(readers)
        ids = {i for v in views for part in (v.listing.by_id, v.journal.entries, v.journal.attempts) for i in part}
        for sample_id in sorted(ids):
            those = [Held(r.path, v, sample_id) for r, v in zip(readers, views, strict=True) if _holds(v, sample_id)]
            self._out.in_several += len(those) > 1
            if not self._add_copy(those):
                self._add(sample_id, those)
        self._save_matches(0)
        if self._open.attempts:
            recovery = Recovery()
            recovery.attempts = self._open.attempts
            carry_attempts(self._directory, self._open, recovery)
        files.sync_folder(self._directory.path)
        self._out.problems = [str(problem) for problem in self._problems]

    def _add_runs(self, readers: list[Reader]) -> None:
        """Run records, each once: the ids that entries hold go on to say under which settings they were made."""
        records: list[dict[str, Any]] = []
        for reader in readers:
            for record in RecordLog(reader.path / FOLDER / "runs.log", RUN).read():
                if record not in records:
                    records.append(record)
        if records:
            self._directory.run_log.append(*records)

    def _add_copy(self, those: list[Held]) -> bool:
        """A file of the older program, and equal ones in other directories, goes on as it is; False where it can't."""
        if not all(held.is_old for held in those):
            return False
        first = next((held for held in those if held.match is not None), those[0])
        assert first.info is not None
        try:
            data = first.file()
            if any(held.file() != data for held in those):
                return False
            old = legacy.parse_old(data)
        except (Unreadable, OSError, ValueError):
            return False  # it is told where it is read
        entries = sum(map(len, old.groups.values()))
        self._out.dropped.same += entries * (len(those) - 1)
        self._count(entries)
        name = self._name(first.info.name, first.sample_id)
        self._put(name, (data,), first.info.mtime_ns)
        if first.match is not None and places_in(old, first.match, data) is not None:
            self._matches.append({**first.match, "groups": first.match["groups"]})
            self._save_matches(_AT_ONCE)
        return True

    def _add(self, sample_id: str, those: list[Held]) -> None:
        with open_several(those, self._out.dropped, self._problems) as several:
            infos = [held.info for held in those if held.info is not None]
            header = _header(those)
            if not several.stored and not several.attempts:
                return
            name = self._name(infos[0].name if len(those) == 1 and infos else "", sample_id)
            if several.stored:
                self._count(len(several.stored))
                parts = file_parts(sample_id, header, max(infos, key=_seq, default=None), None, several.stored,
                                   several.body)  # fmt: skip
                is_filed = not any(held.in_journal for held in those)
                self._put(name, chunked(parts), max((i.mtime_ns for i in infos), default=0) if is_filed else 0)
            self._note_attempts(several, header | {"id": sample_id, "name": name, "context": _context(those)})

    def _note_attempts(self, several: Several, header: dict[str, Any]) -> None:
        if several.attempts:
            self._open.headers[header["id"]] = header
            self._open.attempts[header["id"]] = several.attempts

    def _count(self, entries: int) -> None:
        self._out.samples += 1
        self._out.entries += entries

    def _name(self, wanted: str, sample_id: str) -> str:
        """A name for a sample's file that no other has: the one it had, if it may."""
        taken = not wanted or wanted.lower() in self._names
        name = self._directory.name_for(sample_id) if taken else wanted
        self._names.add(name.lower())
        self._directory.listing.names.add(name)
        return name

    def _put(self, name: str, parts: Any, mtime_ns: int) -> None:
        path = self._directory.path / name
        files.replace_file(path, parts, self._directory.inner / "tmp" / temporary(name))
        if mtime_ns:
            files.set_times(path, mtime_ns)  # an old file is known by its time; load_samples tells it

    def _save_matches(self, least: int) -> None:
        if self._matches and len(self._matches) >= least:
            self._directory.match_log.append(*self._matches)
            self._matches.clear()


def _holds(view: Snapshot, sample_id: str) -> bool:
    journal = view.journal
    return sample_id in view.listing.by_id or sample_id in journal.entries or sample_id in journal.attempts


def _seq(info: FileInfo) -> int:
    return info.max_seq


def _header(those: list[Held]) -> dict[str, Any]:
    """What is known of a sample's dataset: where directories say otherwise, the larger counts, and no digest."""
    totals: dict[str, int] = {}
    digests = set()
    for held in those:
        told, digest = held.told()
        digests.add(digest)
        for group, n in told.items():
            totals[group] = max(n, totals.get(group, 0))
    return {"totals": totals, "identities": digests.pop() if len(digests) == 1 else ""}


def _context(those: list[Held]) -> str:
    return next((str(held.header["context"]) for held in those if "context" in held.header), "")
