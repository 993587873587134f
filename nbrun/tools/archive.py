"""nbrun archive DIR: moves finished samples' files into an archive, and back.

See results/listing.py for what an archive holds. One thread, which holds the directory's lock.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import time
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from nbrun.errors import StorageError
from nbrun.results import listing, plain_files
from nbrun.results.format import temporary
from nbrun.results.listing import ARCHIVE_FORMAT, FREE_BYTES, INDEX, MAX_MTIME_NS, is_bomb
from nbrun.results.reader import results_folder
from nbrun.results.sample_file import LEGACY, NBRUN, FileInfo, Place, Unreadable, parse_old
from nbrun.results.values import dump
from nbrun.storage import files
from nbrun.storage.directory import Directory
from nbrun.storage.lock import DirectoryLock
from nbrun.storage.recovery import recovered


@dataclass
class Archived:
    """What was moved.

    Attributes:
        path: the results directory.
        archive: the archive's name; "" where nothing was to be moved, or it was unpacked.
        samples: how many were moved.
        before_bytes, after_bytes: what they took, and take now.
        left: samples that are not finished, and stay in their files.
        problems: what could not be moved.
    """

    path: str
    archive: str = ""
    samples: int = 0
    before_bytes: int = 0
    after_bytes: int = 0
    left: int = 0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return dataclasses.asdict(self)


def archive_results(results: str | os.PathLike[str], *, unpack: bool = False) -> Archived:
    """Move finished samples' files into one compressed file of the directory, or put them back.

    Archived samples count as done and load as before. A sample that must be written to again returns to a file of its
    own by itself.

    Args:
        results: a results directory that no run writes into.
        unpack: put archived samples back into files.

    Returns:
        What was moved, and how many bytes it took before and after.

    Raises:
        InputError: there is no such folder.
        ResultsInUseError: a run writes there.
        StorageError: the disk refused. Every result is where it was, or in the archive, or in both.

    Example:
        >>> import nbrun, tempfile
        >>> nbrun.archive(tempfile.mkdtemp()).samples
        0
    """
    return unpack_archives(results) if unpack else archive_finished(results)


def archive_finished(results: str | os.PathLike[str]) -> Archived:
    """Move the files of finished samples; see archive_results."""
    with recovered(results_folder(results)) as directory:
        out = Archived(str(directory.path))
        infos = [i for i in directory.listing.by_id.values() if i.place is None]
        finished = [i for i in infos if _is_finished(directory, i)]
        out.left = len(infos) - len(finished)
        if not finished:
            return out
        out.archive = f"archive-{listing.next_number(directory.path):04d}.zip"
        beside = directory.inner / "tmp" / out.archive
        moved = write_archive(directory.path, out.archive, finished, beside)
        out.samples = len(moved)
        out.after_bytes = (directory.path / out.archive).stat().st_size
        for info, mtime_ns in moved:
            _remove_archived(directory.path / info.name, info, mtime_ns, out)
        files.sync_folder(directory.path)
        return out


def _remove_archived(file: Path, info: FileInfo, mtime_ns: int, out: Archived) -> None:
    """Remove a file that is in an archive now, unless it was edited meanwhile."""
    stat = file.lstat()
    out.before_bytes += stat.st_size
    if (stat.st_size, stat.st_mtime_ns) == (info.size, mtime_ns):
        files.remove(file)
    else:
        out.problems.append(f"{file} was changed meanwhile and stays")


def unpack_archives(results: str | os.PathLike[str]) -> Archived:
    """Put archived samples back into files of their own, and remove the archives.

    An archive with a damaged member stays.
    """
    with recovered(results_folder(results)) as directory:
        out = Archived(str(directory.path))
        damaged = set()
        for info, place in _archived(directory):
            try:
                directory.take_out(info)
            except Unreadable as e:
                damaged.add(place.name)
                out.problems.append(f"{info.name} {e}")
                continue
            out.samples += 1
            out.before_bytes += place.packed
            out.after_bytes += info.size
        kept = damaged | _still_needed(directory, damaged, out)
        for name in listing.archives_in(directory.path):
            if name not in kept:
                files.remove(directory.path / name)
        files.sync_folder(directory.path)
        return out


def _archived(directory: Directory) -> list[tuple[FileInfo, Place]]:
    """Return the archived samples, and where they are."""
    return [(info, info.place) for info in directory.listing.by_id.values() if info.place is not None]


def _still_needed(directory: Directory, damaged: set[str], out: Archived) -> set[str]:
    """Return the archives that can't be read, or hold a sample of which the file that counts may lack something."""
    members, problems = listing.Archives(directory.path).list()
    needed = {Path(problem.path).name for problem in problems}
    for info in members.values():  # those in place of which a file counts
        assert info.place is not None
        name, file = info.place.name, directory.listing.by_id.get(info.sample_id)
        if name not in damaged | needed and (file is None or _may_lack(directory.path, file, info)):
            needed.add(name)
            out.problems.append(f"{info.name} differs from its file, which counts, so {name} stays")
    return needed


def _may_lack(folder: Path, file: FileInfo, archived: FileInfo) -> bool:
    """Return whether a file may lack something of the same sample in an archive."""
    if file.source == NBRUN:
        return archived.source == NBRUN and file.max_seq < archived.max_seq
    assert archived.place is not None
    data = plain_files.read_whole(folder / file.name)
    return (len(data), zlib.crc32(data)) != (archived.size, archived.place.crc)


def _is_finished(directory: Directory, info: FileInfo) -> bool:
    if info.source == NBRUN:  # a damaged one doesn't say that it is complete
        return info.is_complete
    match = directory.matches.get(info.sample_id)
    if match is not None and match["size"] == info.size:
        return bool(match["complete"])
    if info.source != LEGACY and not info.is_complete:
        return False
    try:
        parse_old(plain_files.read_whole(directory.path / info.name))
    except (Unreadable, OSError):
        return False
    return True


# ---- a damaged archive

_HEADER_BYTES = 30  # of a member, without its name
_UNPACK_BYTES = 64  # less is lost where a damaged member ends to make sense


def take_apart(path: Path, names: set[str]) -> None:
    """Put what can be read of damaged archives into files, and the archives into `.nbrun/damaged/`.

    What the journal holds stays there: it can't be written to files before.

    Args:
        names: of these archives, or of members that can't be read.

    Raises:
        ResultsInUseError: a run writes there.
        StorageError: the disk refused. The archives stay then, and what was put into files counts.
    """
    try:
        with closing(Directory(path)) as directory, ExitStack() as held:
            held.callback(DirectoryLock(directory.inner / "lock").release)
            directory.scan()
            damaged = names | {place.name for info, place in _archived(directory) if info.name in names}
            for name in filter(damaged.__contains__, listing.archives_in(path)):
                _take_apart(directory, name)
    except StorageError:
        raise
    except OSError as e:
        raise StorageError(f"{path}: {e.strerror or e}. Nothing that can be read is lost.", path=str(path)) from e


def _take_apart(directory: Directory, name: str) -> None:
    infos = directory.listing.by_id
    gone = listing.Archives(directory.path).gone()  # before; two members of one name may be of different samples
    for info in [info for info, place in _archived(directory) if place.name == name]:
        try:
            infos[info.sample_id] = directory.take_out(info)
        except Unreadable:
            _keep_text(directory, info)
    for info in listing.members_by_headers(directory.path, name):
        if info.sample_id not in infos and (name, info.name) not in gone:
            infos[info.sample_id] = directory.take_out(info)
    directory.quarantine(directory.path / name)


def _keep_text(directory: Directory, info: FileInfo) -> None:
    """Keep what can be unpacked of a damaged member in `.nbrun/damaged/`. It doesn't count: any of it may be wrong."""
    assert info.place is not None
    text = _text_of(directory.path, info.place)
    if text:
        kept = directory.inner / "tmp" / info.name
        files.replace_file(kept, (text,), directory.inner / "tmp" / temporary(info.name))
        directory.quarantine(kept)


def _text_of(folder: Path, place: Place) -> bytes:
    """Return a damaged member as far as it can be unpacked."""
    if is_bomb(place.packed, place.size):
        return b""
    with plain_files.open_reading(folder / place.name) as f:
        header = plain_files.read_up_to(f.fileno(), place.offset, _HEADER_BYTES)
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        packed = plain_files.read_up_to(f.fileno(), place.offset + _HEADER_BYTES + names, place.packed)
    if int.from_bytes(header[8:10], "little") != zipfile.ZIP_DEFLATED:
        return packed
    unpack, text = zlib.decompressobj(-15), bytearray()
    with suppress(zlib.error):
        for at in range(0, len(packed), _UNPACK_BYTES):
            text += unpack.decompress(packed[at : at + _UNPACK_BYTES])
    return bytes(text[: place.size])


# ---- an archive's file


_LEVEL = 6


def write_archive(folder: Path, name: str, infos: Iterable[FileInfo], beside: Path) -> list[tuple[FileInfo, int]]:
    """Make an archive of these files, durably, and read it back.

    Returns:
        The files in it, each with the mtime in ns that it had when it was read.

    Raises:
        OSError: the disk refused, or what was read back is not what was written; nothing was put in place then.
    """
    written: list[tuple[FileInfo, int]] = []
    index: list[bytes] = [dump({"format": ARCHIVE_FORMAT})]

    def write(f: BinaryIO) -> None:
        with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as z:
            for info in infos:
                with plain_files.open_reading(folder / info.name) as source:
                    stat, data = os.fstat(source.fileno()), source.read()
                if len(data) > FREE_BYTES and is_bomb(len(zlib.compress(data, _LEVEL)) * 9 // 10, len(data)):
                    continue  # no reader would unpack it, so it stays in its file
                member = _member(info.name, stat.st_mtime)
                z.writestr(member, data)
                index.append(dump(_index_line(info, member, stat.st_mtime_ns)))
                written.append((info, stat.st_mtime_ns))
            start = f.tell()
            z.writestr(_member(INDEX, time.time()), b"\n".join(index) + b"\n")
            z.comment = b"%b index=%d" % (ARCHIVE_FORMAT.encode(), start)

    def read_back(f: BinaryIO) -> None:
        try:
            listing.verify(f, name, len(written))
        except (Unreadable, ValueError, EOFError, zlib.error) as e:
            raise OSError(errno.EIO, f"reads back as something else ({e})", name) from e

    files.write_and_check(folder / name, write, read_back, beside)
    files.sync_folder(folder)
    return written


def _index_line(info: FileInfo, m: zipfile.ZipInfo, mtime_ns: int) -> dict[str, Any]:
    return {
        "name": info.name,
        "id": info.sample_id,
        "source": info.source,
        "mtime_ns": min(mtime_ns, MAX_MTIME_NS),
        "size": m.file_size,
        "packed": m.compress_size,
        "crc": m.CRC,
        "offset": m.header_offset,
        "summary": info.summary,
        "progress": info.progress,
    }


def _member(name: str, mtime_s: float) -> zipfile.ZipInfo:
    """Return a member of an archive that is to be compressed. ZIP knows no time before 1980 or after 2107."""
    t = time.localtime(min(max(mtime_s, 315_619_200), 4_354_732_800))
    member = zipfile.ZipInfo(name, (t.tm_year, t.tm_mon, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec))
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
