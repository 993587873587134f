"""A results directory that this process writes into: its folders, its logs, and its sample files when it was opened.

Threads: scanned by the thread that opens the directory; afterwards the feeder and the files threads look up and note.
A dict's single operations are atomic, so there is no lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nbrun.errors import FormatError, InputError, ResultsMovedError, StorageError
from nbrun.results import listing, plain_files, sample_file
from nbrun.results.format import ARCHIVED, FOLDER, RUN, UNCLEAN, ArchivedRecord, MatchRecord, RunRecord, UncleanRecord
from nbrun.results.listing import Listing, list_samples
from nbrun.results.names import SUFFIX, derived, name_of, temporary
from nbrun.results.replay import ARCHIVED_LOG, read_matches
from nbrun.results.sample_file import FileInfo
from nbrun.results.values import without_gc
from nbrun.storage import files
from nbrun.storage.logs import MatchLog, RecordLog

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
        held: list[files.Folder] = []
        changed: list[Path] = []
        try:
            for folder in (self.path, self.inner, self.inner / "tmp", self.inner / "damaged"):
                held.append(self._made(folder, held[min(len(held), 2) - 1] if held else None, changed))
            changed += (*_new_parents(self.path), self.path.parent, self.path, self.inner)
            for folder in dict.fromkeys(changed):  # each once: this is most of what a new directory costs
                with suppress(PermissionError):  # the folder around may be closed to this user
                    files.sync_folder(folder)
        except OSError as e:
            for one in held:
                one.release()
            if isinstance(e, StorageError):
                raise
            raise StorageError(f"{self.path} can't be made durable: {e.strerror}.", path=str(self.path)) from e
        before, self._held = self._held, held  # in one step: the compactor's threads look at it at any time
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
        if inner.is_at(self.inner, follow=False):
            return  # it is where it was, so what holds it is: one look a commit instead of two
        if root.is_at(self.path, follow=True):
            what = f"{self.inner} was {'replaced by another folder' if self.inner.exists() else 'removed'}"
            raise ResultsMovedError(
                f"{what} while the run went on. What is saved in {self.path} stays, and what ended since waits in "
                "memory. run.resume() makes a new one and goes on.",
                path=str(self.path),
            )
        now = root.path_now()
        if now:
            raise ResultsMovedError(
                f"{self.path} was moved while the run went on: its results, and all that was reported as saved, are in "
                f"{now}. Nothing more is written. Move it back, then call run.resume(); or call run.stop(), and start "
                "again with its new path.",
                path=str(self.path),
            )
        what = "deleted" if root.is_deleted else "moved or deleted"
        raise ResultsMovedError(
            f"{self.path} was {what} while the run went on, and with it what was saved there. Nothing more is written. "
            "Put it back and call run.resume(); or call run.stop(), and start again: what is missing is made again.",
            path=str(self.path),
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
                files.remove(tmp / name)

    def scan(self) -> None:
        """Read what is there. Raise FormatError where a newer nbrun has written."""
        with without_gc():
            self.listing = list_samples(self.path)
        for problem in self.listing.problems:
            if "this nbrun knows" in problem.what:
                raise FormatError(f"{problem}. Update nbrun, or use another directory.", path=str(self.path))
        self.matches = read_matches(self.match_log.path)

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

    def take_out(self, info: FileInfo) -> FileInfo:
        """Put an archived sample back into a file of its own, durably; from then on that file counts.

        Raises:
            Unreadable: it is damaged in the archive.
        """
        assert info.place is not None
        data = listing.read_member(self.path, info.place)
        target = self.path / info.name
        if os.path.lexists(target):
            self.quarantine(target)  # a damaged file; the archived one counted instead
        files.replace_file(target, (data,), self.inner / "tmp" / temporary(info.name))
        files.set_times(target, info.mtime_ns)  # an old file is identified by its time
        files.sync_folder(self.path)
        self.archived_log.append({"archive": info.place.name, "name": info.name, "id": info.sample_id})
        self.listing.names.add(info.name)
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

    def runs(self) -> dict[str, RunRecord]:
        """Return the run records by run_id."""
        return {r["run_id"]: r for r in self.run_log.read()}

    def close(self) -> None:
        """Close the logs and release the folders."""
        self._close_logs()
        self._release_folders()

    def _close_logs(self) -> None:
        self.run_log.close()
        self.match_log.close()
        self.archived_log.close()
        self.unclean_log.close()
