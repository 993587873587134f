"""Lists the sample files of a results directory by their heads and tails: sample id -> file, and what can't be read.

Pure reading, without a lock; any thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nbrun.results import plain_files, sample_file
from nbrun.results.archives import Archives
from nbrun.results.names import SUFFIX, name_of
from nbrun.results.replay import TRIES
from nbrun.results.sample_file import NBRUN, FileInfo, Unreadable
from nbrun.texts import escape_control_chars

#: How often a folder is listed that changes all the time.
LISTINGS = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the directory that could not be read. `what` completes the sentence "PATH …"."""

    path: str
    what: str
    sample_id: str | None = None

    def __str__(self) -> str:
        return escape_control_chars(f"{self.path} {self.what}").replace("\n", "␊")


@dataclass
class Listing:
    """The sample files of a directory."""

    by_id: dict[str, FileInfo] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)  # sample id -> name of its unreadable file
    problems: list[Problem] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # every name that ends in .json, whatever it is


def list_samples(
    path: Path,
    known: Callable[[os.DirEntry[str]], FileInfo | None] | None = None,
    of_folder: Archives | None = None,
) -> Listing:
    """Look at the head and tail of every `*.json`; what can't be read becomes a problem.

    Samples may be archived and unpacked meanwhile, since readers wait for no lock. A file is removed once it is in an
    archive, and an archive once its samples are in files: so archives are listed before the files and after them, and
    what any of the three lists holds counts. Where an archive was made meanwhile, all of it is listed again.

    Args:
        known: called first; a file about which it returns something isn't opened.
        of_folder: the directory's archives, where the caller goes on to read from them.
    """
    of_folder = Archives(path) if of_folder is None else of_folder
    for _ in range(TRIES):
        before, _ = of_folder.list()
        names = of_folder.listed
        out = _list_once(path, known)
        after, problems = of_folder.list()
        for sample_id, info in before.items():
            if sample_id not in after and sample_id not in out.by_id:
                _add_unpacked(out, path, info)
        # With an archive that was made meanwhile, a sample may have been wherever this wasn't looking: in the archive
        # while files were listed, and in a file again before the archive was; or archived again after that.
        if of_folder.names() <= names:
            break
    else:
        what = "was archived and unpacked again and again while it was listed; samples may be missing. Read it again"
        out.problems.append(Problem(str(path), what))
    out.problems += [Problem(where, what) for where, what in problems]
    for sample_id, info in after.items():
        other = out.by_id.get(sample_id)
        if other is None or other.is_damaged:
            out.by_id[sample_id] = info
            out.names.add(info.name)
    return out


def _add_unpacked(out: Listing, path: Path, info: FileInfo) -> None:
    """Add a sample that left its archive after the files were listed: it has a file of its own now."""
    try:
        now = sample_file.peek(path / info.name)
    except (Unreadable, OSError, ValueError):
        return  # taken out and deleted since
    if now.sample_id == info.sample_id:
        out.by_id[info.sample_id] = now
        out.names.add(info.name)


def _list_once(path: Path, known: Callable[[os.DirEntry[str]], FileInfo | None] | None) -> Listing:
    out = Listing()
    for entry in _all_of(path):
        name = entry.name
        out.names.add(name)
        try:
            info = known(entry) if known is not None else None
            if info is None:
                info = sample_file.peek(entry)
        except (Unreadable, OSError, ValueError) as e:
            if isinstance(e, FileNotFoundError) and not os.path.lexists(path / name):
                out.names.discard(name)
                continue  # it was moved into an archive or deleted meanwhile
            what = str(e) if isinstance(e, Unreadable) else f"can't be read: {getattr(e, 'strerror', None) or e}"
            if isinstance(e, plain_files.NotPlainError):
                what = str(e.strerror)
            left = sample_file.peek_damaged(path / name)
            sample_id = left.sample_id if left else sample_file.claimed_id(path / name)
            out.problems.append(Problem(str(path / name), what, sample_id))
            if left is None:
                if sample_id is not None:
                    out.damaged.setdefault(sample_id, name)
                continue
            info = left
        other = out.by_id.get(info.sample_id)
        if other is None:
            out.by_id[info.sample_id] = info
            continue
        keep, drop = _newer(info, other)
        out.by_id[info.sample_id] = keep
        out.problems.append(
            Problem(str(path / drop.name), f"holds the same sample as {keep.name}; that one counts", info.sample_id)
        )
    return out


def _all_of(path: Path) -> list[os.DirEntry[str]]:
    """Return the folder's entries that end in .json, by name.

    On some file systems (btrfs, tmpfs) a file that is replaced while its folder is being listed may be left out. So a
    folder that has changed meanwhile is listed again, and what either list holds counts.
    """
    found: dict[str, os.DirEntry[str]] = {}
    for _ in range(LISTINGS):
        before = os.stat(path).st_mtime_ns
        with os.scandir(path) as entries:
            found |= {e.name: e for e in entries if e.name.endswith(SUFFIX)}
        if os.stat(path).st_mtime_ns == before:
            break
    return sorted(found.values(), key=lambda e: e.name)


def _newer(a: FileInfo, b: FileInfo) -> tuple[FileInfo, FileInfo]:
    """Return two files of one sample, the one that counts first: whole, nbrun's own, the higher seq, the usual name."""

    def rank(x: FileInfo) -> tuple[bool, bool, int, bool]:
        return not x.is_damaged, x.source == NBRUN, x.max_seq, x.name == name_of(x.sample_id)

    return (a, b) if rank(a) > rank(b) else (b, a)
