"""A results directory that this process writes into: its folders, its sample files when it was opened, and its logs.

Beside the journal and the logs, `.nbrun/` holds the tasks in flight, the samples of a run and the manifest: derived
data, or notes that only survive the death of the process. Where the disk refuses them, the run goes on without.

Threads: scanned by the thread that opens the directory; afterwards the feeder and the compactor's threads look up and
note. A dict's single operations are atomic, so there is no lock. `RecordLog.append` is called by the thread that starts
a run and by the feeder, never by both at a time; `InFlightTasks.record` by workers, never two for one slot;
`Manifest.add` by the feeder; the rest by the thread that opens or closes the directory.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar, cast

import orjson

from nbrun.errors import FormatError, InputError, ResultsMovedError, StorageError
from nbrun.results import listing, plain_files, sample_file
from nbrun.results.format import (
    ARCHIVED,
    FOLDER,
    MATCH,
    RUN,
    SUFFIX,
    UNCLEAN,
    ArchivedRecord,
    MatchRecord,
    RunRecord,
    UncleanRecord,
    derived,
    frame,
    is_sample_file_name,
    name_of,
    temporary,
)
from nbrun.results.listing import Listing, damaged_entries, list_samples, of_newer_format
from nbrun.results.reader import SAMPLES, SampleTotals, read_samples, samples_digest
from nbrun.results.replay import ARCHIVED_LOG, LogScan, Match, read_log, read_matches, read_records
from nbrun.results.sample_file import FileInfo
from nbrun.results.values import dump, without_gc
from nbrun.storage import files

#: Completes a problem of a file that is replaced.
KEPT = "; it is kept in .nbrun/damaged/"
#: How long a new name may not be durable yet, in seconds; clocks differ.
NEW_S = 600.0


def check_writable(path: Path) -> None:
    """Check that results can be written to a path, before anything is written.

    Raises:
        InputError: the path is a file, or no folder can be made there.
        StorageError: no permission, or a read-only file system.
    """
    at = path
    while not at.exists():
        if at.is_symlink():
            raise InputError(f"results={str(path)!r}: {at} is a link to a place that does not exist.")
        at = at.parent
    if not at.is_dir():
        raise InputError(f"results={str(path)!r}: {at} is a file, not a folder. Give the path of a folder.")
    if not os.access(at, os.W_OK | os.X_OK) or (
        (path / FOLDER).exists() and not os.access(path / FOLDER, os.W_OK | os.X_OK)
    ):
        raise StorageError(
            f"results={str(path)!r}: no permission to write in {at}. Choose another folder or change its permissions.",
            path=str(path),
        )


def _same_file(a: Path, b: Path) -> bool:
    try:
        return os.path.samestat(a.lstat(), b.lstat()) or plain_files.read_whole(a) == plain_files.read_whole(b)
    except OSError:
        return False


def _is_of_other_sample(file: Path, sample_id: str) -> bool:
    try:
        return sample_file.peek(file).sample_id != sample_id
    except (sample_file.Unreadable, OSError, ValueError):
        return False


def move_to_quarantine(source: Path, put: Callable[[Path, Path], None], inner: Path | None = None) -> Path:
    """Put a file that is damaged, or has taken the place of another, into `.nbrun/damaged/` under a free name (F10).

    Args:
        put: files.move or files.link_or_copy.
        inner: the directory's `.nbrun/`; by default the one beside the file.

    Raises:
        StorageError: the disk refused.
    """
    folder = (inner or source.parent / FOLDER) / "damaged"
    number = 0
    while os.path.lexists(target := folder / derived(source.name, f".{number}")):
        if put is not files.move and _same_file(source, target):
            return target  # an earlier try got that far
        number += 1
    try:
        put(source, target)
    except OSError as e:
        if os.path.lexists(target) and not os.path.lexists(source):
            return target  # it was moved all the same: the rename's reply was lost
        raise StorageError(
            f"{source} is damaged and can't be kept in {folder}: {e.strerror}", path=str(source.parent)
        ) from e
    return target


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _new_parents(path: Path) -> list[Path]:
    """Return the folders around a directory's own that were changed lately.

    A process that was killed may have made one of them without making its name durable. A file system does that by
    itself long before NEW_S have passed.
    """
    out = []
    for folder in path.absolute().parent.parents:
        try:
            if time.time() - folder.stat().st_mtime < NEW_S:
                out.append(folder)
        except OSError:
            break
    return out


# ---- logs: a record is appended and synced at once

R = TypeVar("R")


class RecordLog(Generic[R]):
    """A log of records of one kind that is only appended to. A torn tail is cut before the first append (F3)."""

    def __init__(self, path: Path, kind: bytes) -> None:
        self.path, self._kind = path, kind
        self._file: files.AppendFile | None = None

    def append(self, *values: Mapping[str, object]) -> int:
        """Save records: fsync has returned when this does. After a failure the next append looks at the tail again.

        Returns:
            the offset of the first of them.
        """
        try:
            if self._file is None:
                self._file = self._open()
            start = self._file.append(b"".join(frame(self._kind, dump(v)) for v in values))
            self._file.sync()
            return start
        except OSError:
            self.close()
            raise

    def _open(self) -> files.AppendFile:
        if not os.path.lexists(self.path):
            log = files.AppendFile(self.path, new=True)
            files.sync_folder(self.path.parent)
            return log
        scan = LogScan()
        for _ in read_log(self.path, scan):
            pass
        log = files.AppendFile(self.path, new=False)
        if log.has_other_names:  # appending would change another file, such as a backup made of hard links
            log.close()
            files.replace_file(
                self.path, (plain_files.read_whole(self.path),), self.path.parent / "tmp" / self.path.name
            )
            files.sync_folder(self.path.parent)
            log = files.AppendFile(self.path, new=False)
        if log.size > scan.good_bytes:
            log.cut(scan.good_bytes)
        return log

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> Iterator[R]:
        """Yield what its records hold, oldest first."""
        return cast(Iterator[R], read_records(self.path, self._kind))


class MatchLog(RecordLog[MatchRecord]):
    """matched.log: which entry of an old file belongs to which item."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MATCH)

    def add(self, value: MatchRecord) -> MatchRecord:
        """Save a record. Return it as `read_matches` would."""
        start = self.append(value)
        assert self._file is not None
        plain = {k: v for k, v in value.items() if k != "groups"}
        return cast(MatchRecord, Match(plain, self.path, start, self._file.size - start))


# ---- the directory


class Directory:
    """A results directory that this process writes into; the caller holds its lock.

    Attributes:
        listing: the sample files as they were when the directory was opened.
        matches: sample id -> its newest match record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inner = path / FOLDER
        self._held: list[files.Folder] = []
        self._follows = False
        try:
            self.make_folders()
            plain_files.refuse_odd(self.inner)
        except BaseException:
            self._release_folders()
            raise
        self.run_log = RecordLog[RunRecord](self.inner / "runs.log", RUN)
        self.match_log = MatchLog(self.inner / "matched.log")
        self.unclean_log = RecordLog[UncleanRecord](self.inner / "unclean.log", UNCLEAN)
        self.archived_log = RecordLog[ArchivedRecord](self.inner / ARCHIVED_LOG, ARCHIVED)
        self.listing = Listing()
        self.matches: dict[str, MatchRecord] = {}

    def make_folders(self) -> None:
        """Make the folders that are missing, and hold all of them open.

        Names that exist are made durable too: a process that was killed may have left them half made.

        Raises:
            StorageError: one can't be made, or is a link.
        """
        held: dict[Path, files.Folder] = {}
        changed: list[Path] = []
        try:
            for folder in (self.path, self.inner, self.inner / "tmp", self.inner / "damaged"):
                held[folder] = self._made(folder, held.get(folder.parent), changed)
            changed += (*_new_parents(self.path), self.path.parent, self.path, self.inner)
            for folder in dict.fromkeys(changed):  # each once: this is most of what a new directory costs
                with suppress(PermissionError):  # the folder around may be closed to this user
                    files.sync_folder(folder)
        except OSError as e:
            for one in held.values():
                one.release()
            if isinstance(e, StorageError):
                raise
            raise StorageError(f"{self.path} can't be made durable: {e.strerror}.", path=str(self.path)) from e
        before = self._held
        self._held = list(held.values())  # in one step: the compactor's threads look at it at any time
        for old in before:
            old.release()

    def _made(self, folder: Path, within: files.Folder | None, changed: list[Path]) -> files.Folder:
        """Make and hold a folder, and add the folders with new names in them to `changed`."""
        try:
            if within is not None and os.path.islink(folder):  # a dangling link, for example
                return files.Folder(folder, within)
            changed += files.make_folder(folder)
            return files.Folder(folder, within)
        except plain_files.NotPlainError as e:
            raise StorageError(f"{folder} {e.strerror}. Nothing was written.", path=str(self.path)) from e
        except OSError as e:
            raise StorageError(f"{folder} can't be made: {e.strerror}.", path=str(self.path)) from e

    def _release_folders(self) -> None:
        held, self._held = self._held, []
        for folder in held:
            folder.release()

    def check_place(self) -> None:
        """Raise ResultsMovedError where the results directory, or its inner folder, is another one than was opened."""
        held = self._held
        if not held:
            return  # it was closed
        root, inner = held[:2]
        if self._follows and not root.is_deleted:
            return
        if not inner.is_at(self.inner, follow=False):  # where it is, what holds it is, too: one look a commit, not two
            raise ResultsMovedError(self._what_became_of(root), path=str(self.path))

    def _what_became_of(self, root: files.Folder) -> str:
        """Return what happened to the results directory, or to its inner folder, and what helps; for the user."""
        if root.is_at(self.path, follow=True):
            what = f"{self.inner} was {'replaced by another folder' if self.inner.exists() else 'removed'}"
            return (
                f"{what} while the run went on. What is saved in {self.path} stays, and what ended since waits in "
                "memory. run.resume() makes a new one and goes on."
            )
        now = root.path_now()
        if now:
            return (
                f"{self.path} was moved while the run went on: its results, and all that was reported as saved, are in "
                f"{now}. Nothing more is written. Move it back, then call run.resume(); or call run.stop(), and start "
                "again with its new path."
            )
        what = "deleted" if root.is_deleted else "moved or deleted"
        return (
            f"{self.path} was {what} while the run went on, and with it what was saved there. Nothing more is written. "
            "Put it back and call run.resume(); or call run.stop(), and start again: what is missing is made again."
        )

    def retry_after_fault(self) -> bool:
        """After a fault, make inner folders again that were removed. Return whether `.nbrun` is a new one now.

        Raises:
            ResultsMovedError: the results directory itself is another one, or another run has used its inner folder.
        """
        held = self._held
        if not held:
            return False  # it was closed
        root, inner = held[:2]
        if not root.is_at(self.path, follow=True):
            self.check_place()
            return False  # it may be written wherever it is
        is_new = not inner.is_at(self.inner, follow=False)
        if is_new and any(name.endswith(".log") for name in _names_in(self.inner)):
            raise ResultsMovedError(
                f"{self.inner} was replaced by another run's while this run went on. Nothing more is written, so that "
                "neither loses results. Call run.stop(), and start again: what is missing is made again.",
                path=str(self.path),
            )
        self.make_folders()
        plain_files.refuse_odd(self.inner)
        if is_new:
            self._close_logs()  # they belong to the folder that was removed
        return is_new

    def follow(self) -> None:
        """Write into the folder that was opened from now on, wherever it was moved to: the run ends."""
        self._follows = True

    @property
    def is_in_place(self) -> bool:
        """True while the folder that was opened is the one that has the path."""
        return bool(self._held) and self._held[0].is_at(self.path, follow=True)

    def clear_tmp(self) -> None:
        """Remove half-written files of a process that died. Anything but a file is not nbrun's, and is quarantined."""
        tmp = self.inner / "tmp"
        for name in os.listdir(tmp):
            if plain_files.is_real_folder(tmp / name):
                self.quarantine(tmp / name)
            else:
                files.discard(tmp / name)

    def scan(self) -> None:
        """Read what is there. Raise FormatError where a newer nbrun has written."""
        with without_gc():
            self.listing = list_samples(self.path)
        if newer := of_newer_format(self.listing.problems):
            raise FormatError(f"{newer}. Update nbrun, or use another directory.", path=str(self.path))
        self.matches = read_matches(self.match_log.path)

    def note(self, path: str | Path, what: str, sample_id: str | None = None) -> None:
        """Add a problem; see listing.Problem."""
        self.listing.problems.append(listing.Problem(str(path), what, sample_id))

    def is_empty(self) -> bool:
        """Return whether there are no results of any kind."""
        return not self.listing.by_id and not self.listing.problems

    def name_for(self, sample_id: str) -> str:
        """Return a name for a new sample's file that no file has."""
        name = name_of(sample_id)
        number = 1
        while name in self.listing.names:
            number += 1
            name = f"{name_of(sample_id + chr(0) + str(number)).removesuffix(SUFFIX)}{SUFFIX}"
        return name

    def new_name(self, sample_id: str, wanted: str = "") -> str:
        """Return a name for the file of a sample that has none, `wanted` if that is free. A damaged one is quarantined.

        The name counts as taken once it is in the listing.
        """
        damaged = self.listing.damaged.pop(sample_id, None)
        if damaged is not None:
            self.quarantine(self.path / damaged)
        is_free = is_sample_file_name(wanted) and not os.path.lexists(self.path / wanted)
        return wanted if is_free else self.name_for(sample_id)

    def take_out(self, info: FileInfo) -> FileInfo:
        """Put an archived sample back into a file of its own, durably; from then on that file counts.

        Raises:
            Unreadable: it is damaged in the archive.
        """
        assert info.place is not None
        data = listing.read_member(self.path, info.place)
        target = self.path / info.name
        if _is_of_other_sample(target, info.sample_id):  # the archive comes from another directory
            target = self.path / self.name_for(info.sample_id)
        if os.path.lexists(target):
            self.quarantine(target)  # a damaged file; the archived one counted instead
        files.replace_file(target, (data,), self.inner / "tmp" / temporary(target.name))
        files.set_times(target, info.mtime_ns)  # an old file is identified by its time
        files.sync_folder(self.path)
        self.archived_log.append({"archive": info.place.name, "name": info.name, "id": info.sample_id})
        self.listing.names.add(target.name)
        self.listing.damaged.pop(info.sample_id, None)
        return sample_file.peek(target)

    def quarantine(self, path: Path, *, is_copy: bool = False) -> Path:
        """Put a file that is damaged into `.nbrun/damaged/` (F10).

        Args:
            is_copy: the file stays, until what could be read of it replaces it.
        """
        target = move_to_quarantine(path, files.link_or_copy if is_copy else files.move, self.inner)
        if not is_copy:
            self.listing.names.discard(path.name)
        return target

    def keep_damaged(self, info: FileInfo, damaged: int) -> bool:
        """Keep a copy of a sample's file in `.nbrun/damaged/`, before it is replaced, if anything in it is damaged.

        Args:
            damaged: how many of its entries are; they are reported, unless the listing reports the whole file.

        Returns:
            whether anything is damaged.
        """
        path = self.path / info.name
        if damaged and not info.is_damaged:
            self.listing.problems.append(damaged_entries(path, damaged, info.sample_id, KEPT))
        if damaged or info.is_damaged:
            self.quarantine(path, is_copy=True)
            return True
        return False

    def runs(self) -> dict[str, RunRecord]:
        """Return the run records by run_id."""
        return {r["run_id"]: r for r in self.run_log.read()}

    def close(self) -> None:
        """Close the logs and release the folders."""
        self._close_logs()
        for folder in self._held:
            if folder.keeps_files:
                with suppress(OSError):  # after a fault the disk may still refuse
                    files.sync_folder(folder.path)
        self._release_folders()

    def _close_logs(self) -> None:
        self.run_log.close()
        self.match_log.close()
        self.archived_log.close()
        self.unclean_log.close()


# ---- the samples of a run


#: For more samples only the sums are saved.
MAX_SAMPLES = 500_000


def write_totals(inner: Path, totals: SampleTotals) -> dict[str, object]:
    """Write the list of samples where it is known, and return what belongs into the run record."""
    fields: dict[str, object] = {
        "samples": totals.samples,
        "tasks": None if totals.tasks is None else dict(totals.tasks),
    }
    if totals.by_id is None or totals.tasks is None or len(totals.by_id) > MAX_SAMPLES:
        return fields
    rows = ((sample_id, *counts) for sample_id, counts in totals.by_id.items())  # none of them is kept
    data = b"\n".join(map(orjson.dumps, chain([tuple(totals.tasks)], rows)))
    try:
        if read_samples(inner) != data:
            files.put_derived(inner / SAMPLES, (data,), inner / "tmp" / "samples.tmp")
    except OSError:  # a full disk: then the sums must do
        return fields
    return fields | {"samples_digest": samples_digest(data)}


# ---- the tasks in flight


#: A fingerprint has 12 bytes for sample and group, 4 for the occurrence, 16 for the key.
FINGERPRINT_BYTES = 32
#: The file has the run's id in its first slot, then slots with room for a batch and an end mark.
SLOT_BYTES = FINGERPRINT_BYTES * 129
#: A file with more slots than this is not nbrun's.
MAX_RUNNING_BYTES = SLOT_BYTES * 100_000
_END = bytes(FINGERPRINT_BYTES)
#: How many unclean ends count; older ones are ignored.
LAST_ENDS = 20


class InFlightTasks:
    """The file `running`: which tasks are in flight, so that a task that kills its process is found after the crash.

    Workers write the fingerprints of the tasks that they take, and with many workers those of the next few tasks too,
    into a slot, without fsync: that survives the death of the process, though not a power cut (which no task causes).
    The process that opens the directory next finds the slots filled after an unclean end and keeps them in
    `unclean.log`. A task that was in flight at two unclean ends is quarantined: it runs last and alone.
    """

    def __init__(self, folder: Path, log: RecordLog[UncleanRecord]) -> None:
        self._path = folder / "running"
        self._log = log
        self._fd = -1

    def take_over(self, seq: int) -> dict[bytes, int]:
        """Save in the log what the last run left. Return the quarantined tasks: fingerprint -> seq of their last end.

        Args:
            seq: the highest in the directory.

        Raises:
            OSError: the disk refused.
        """
        run_id, left = self._left()
        if left:
            self._log.append({"run_id": run_id, "seq": seq, "running": [f.hex() for f in left]})
        ends = {r["run_id"]: r for r in self._log.read()}
        return quarantined_of(list(ends.values())[-LAST_ENDS:])

    def begin(self, run_id: str) -> None:
        """Start recording this run's tasks. Where the disk refuses, nothing is recorded: only quarantine needs it."""
        try:
            files.discard(self._path)  # a new file: this one may have another name somewhere, or be a link
            self._fd = files.open_plain(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            files.pwrite(self._fd, run_id.encode(), 0)
        except OSError:
            self._close()

    def record(self, slot: int, fingerprints: bytes) -> None:
        """Record the tasks that a worker starts; the tasks that were in its slot have ended."""
        fd = self._fd
        if fd >= 0:
            try:
                files.pwrite(fd, fingerprints[: SLOT_BYTES - FINGERPRINT_BYTES] + _END, SLOT_BYTES * (slot + 1))
            except OSError:
                pass  # the disk is full, which the journal reports

    def end(self) -> None:
        """Record that no task is in flight: the run ended cleanly, or its tasks have no part in its end."""
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, 0)
            except OSError:
                pass
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            plain_files.close(fd)

    def _left(self) -> tuple[str, set[bytes]]:
        """Return the last run's id and the fingerprints that it left."""
        try:
            data = plain_files.read_whole(self._path, MAX_RUNNING_BYTES)
        except OSError:
            return "", set()
        left = set[bytes]()
        for start in range(SLOT_BYTES, len(data), SLOT_BYTES):
            left.update(_fingerprints_in(data[start : start + SLOT_BYTES]))
        return data[:SLOT_BYTES].rstrip(b"\0").decode("utf-8", "replace"), left


def _fingerprints_in(slot: bytes) -> Iterator[bytes]:
    for at in range(0, len(slot), FINGERPRINT_BYTES):
        fingerprint = slot[at : at + FINGERPRINT_BYTES]
        if fingerprint == _END or len(fingerprint) < FINGERPRINT_BYTES:
            return
        yield fingerprint


def quarantined_of(ends: Iterable[UncleanRecord]) -> dict[bytes, int]:
    """Return the fingerprints that are in two records or more, each with the seq of the last of these records."""
    seen: dict[bytes, int] = {}
    quarantined: dict[bytes, int] = {}
    for end in ends:
        for text in end["running"]:
            fingerprint = bytes.fromhex(text)
            if fingerprint in seen:
                quarantined[fingerprint] = end["seq"]
            seen[fingerprint] = end["seq"]
    return quarantined


def choose(quarantined: Mapping[bytes, int], fingerprints: Mapping[int, bytes], ended: Mapping[int, int]) -> list[int]:
    """Return the positions that are quarantined and have not ended since.

    Those that were running at the latest end come last: when one task kills each run, those that only ran beside it are
    run before it.

    Args:
        fingerprints: by position.
        ended: position -> seq of its entry.
    """
    chosen = [p for p, f in fingerprints.items() if f in quarantined and ended.get(p, -1) <= quarantined[f]]
    return sorted(chosen, key=lambda p: quarantined[fingerprints[p]])


# ---- the manifest


#: A longer list is not nbrun's: at most 256 bytes for each of 10 million files.
MAX_MANIFEST_BYTES = 2_560_000_000


class Manifest:
    """The manifest, `known`: which sample files the directory had when the last run ended, one name per line.

    A file that is missing since was deleted by hand, as users do to clean up; its sample's tasks run again, and the run
    reports it. Written at a clean end where something has changed.

    Args:
        names: of the files that count now, archived ones included.

    Attributes:
        gone: names of files that were there and are not any more.
    """

    def __init__(self, path: Path, inner: Path, names: Iterable[str]) -> None:
        self._path, self._inner = path, inner
        now = set(names)
        before = set(self._read().decode("utf-8", "surrogateescape").splitlines())
        self.gone = sorted(filter(is_sample_file_name, before - now))
        self._hashes = array("q", map(hash, now))  # eight bytes a name, as there may be a million

    def _read(self) -> bytes:
        try:
            return plain_files.read_whole(self._inner / "known", MAX_MANIFEST_BYTES)
        except OSError:
            return b""

    def add(self, name: str) -> None:
        """Add the name of a file that will be written."""
        self._hashes.append(hash(name))

    def save(self) -> None:
        """Write the manifest of what is there now. Where the disk refuses, the next start only lacks a sentence."""
        try:
            now = set(os.listdir(self._path))
            now |= {info.name for info in listing.Archives(self._path).list()[0].values()}
            ours = set(self._hashes)
            lines = [f"{name}\n" for name in sorted(now) if hash(name) in ours]
            data = "".join(lines).encode("utf-8", "surrogateescape")
            if data != self._read():
                files.put_derived(self._inner / "known", (data,), self._inner / "tmp" / "known.tmp")
        except OSError:
            pass
