"""Lists the sample files of a results directory by their heads and tails, and opens them, archived ones too.

    archive-0001.zip          a ZIP file: the samples' files as they were, and last a member "index.nbrun"
    .nbrun/archived.log       members that no longer count: their sample has a file of its own again

tools/archive.py writes each archive beside, reads it back and renames it before any sample's file is removed. It
is never written again, nor is its number used again. So wherever the process is killed, a sample is in its file (which
counts), in an archive (the one with the highest number counts), or in both. The index holds what the last lines of each
file say, so opening a directory unpacks nothing; the ZIP's comment holds its offset, and where that is lost, the ZIP's
own directory names the members. A sample that must be written to again first returns to a file of its own; the log
records that, so that the old member doesn't come back when the file is deleted by hand.

Pure reading, without a lock; any thread. Of a slow disk, threads of its own read ahead what a listing looks at next.
"""

from __future__ import annotations

import io
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import BinaryIO, NamedTuple, TypedDict, cast

from nbrun.errors import ThreadLimitError
from nbrun.results import plain_files, sample_file
from nbrun.results.format import FOLDER, SUFFIX, JsonObject, JsonValue, Summary, is_sample_file_name, name_of
from nbrun.results.replay import ARCHIVED_LOG, TRIES, read_archived
from nbrun.results.sample_file import LEGACY, NBRUN, PROGRESS, FileInfo, Place, Unreadable, is_count
from nbrun.results.values import load
from nbrun.texts import counted, escape_control_chars
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: How often a folder is listed that changes all the time.
LISTINGS = 3
#: How many threads read files ahead.
HELPERS = 16
INDEX, ARCHIVE_FORMAT = "index.nbrun", "nbrun-archive/1"
_NAME = re.compile(r"archive-(\d{4,})\.zip")
_COMMENT = re.compile(rb"nbrun-archive/1 index=(\d+)\Z")
#: A member of more than FREE_BYTES may be this many times larger than it is packed (JSON comes to 200).
MAX_RATIO, FREE_BYTES = 400, 64 << 20
#: The year 2554: some file systems hold later times, which come from a wrong clock.
MAX_MTIME_NS = (1 << 64) - 1
_MEMBER = "has a member"
#: How a member's header begins, how long it is without the name, and how long a file's name may be.
_HEADER, _LOCAL, _NAME_BYTES = b"PK\x03\x04", 30, 255
_PIECE_BYTES = 1 << 20
#: How many times as long as an archive are the members together that are looked for by their headers.
HEADER_TRIES = 4


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the directory that could not be read. `what` completes the sentence "PATH …".

    Where single entries are damaged, `entries` is their number; the others count.
    """

    path: str
    what: str
    sample_id: str | None = None
    entries: int = 0

    def __str__(self) -> str:
        return escape_control_chars(f"{self.path} {self.what}").replace("\n", "␊")


def damaged_entries(path: Path, count: int, sample_id: str, more: str = "") -> Problem:
    """Return the problem of a file, or of a directory's journal, with `count` damaged entries of a sample."""
    return Problem(str(path), f"has {count} damaged entr{'y' if count == 1 else 'ies'}{more}", sample_id, count)


def of_newer_format(problems: Iterable[Problem]) -> Problem | None:
    """Return the first problem that says that a newer nbrun has written a file; None where there is none."""
    return next((problem for problem in problems if "this nbrun knows" in problem.what), None)


def reason(e: Exception) -> str:
    """Return why a file can't be read, as a phrase that completes the sentence "PATH …"."""
    if isinstance(e, plain_files.NotPlainError):
        return str(e.strerror)
    return str(e) if isinstance(e, Unreadable) else f"can't be read: {getattr(e, 'strerror', None) or e}"


@dataclass
class Listing:
    """The sample files of a directory."""

    by_id: dict[str, FileInfo] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)  # sample id -> name of its unreadable file
    problems: list[Problem] = field(default_factory=list)
    names: set[str] = field(default_factory=set)  # every name that ends in .json, whatever it is
    doubles: list[FileInfo] = field(default_factory=list)  # files of nbrun's of samples of which another file counts

    def add(self, folder: Path, info: FileInfo) -> None:
        """Add a file. Of two of one sample the newer one counts, and the other one is a problem."""
        other = self.by_id.setdefault(info.sample_id, info)
        if other is not info:
            drop, keep = sorted((info, other), key=_rank)
            self.by_id[info.sample_id] = keep
            if drop.source == keep.source == NBRUN:
                self.doubles.append(drop)
            what = f"holds the same sample as {keep.name}; that one counts"
            self.problems.append(Problem(str(folder / drop.name), what, info.sample_id))

    def add_archived(self, folder: Path, info: FileInfo) -> None:
        """Add an archived file. A file of its sample counts instead, unless it is damaged or older."""
        other = self.by_id.get(info.sample_id)
        if other is not None and not other.is_damaged:
            if not _is_older(other, info):
                return
            assert info.place is not None
            self.doubles.append(other)
            what = f"is older than the same sample in {info.place.name}; that one counts"
            self.problems.append(Problem(str(folder / other.name), what, info.sample_id))
        self.by_id[info.sample_id] = info
        self.names.add(info.name)

    def add_damaged(self, file: Path, e: Exception) -> None:
        """Add a file that `peek` can't read, as far as anything is left of it."""
        left = sample_file.peek_damaged(file)
        sample_id = left.sample_id if left else sample_file.claimed_id(file)
        self.problems.append(Problem(str(file), reason(e), sample_id))
        if left is not None:
            self.add(file.parent, left)
        elif sample_id is not None:
            self.damaged.setdefault(sample_id, file.name)


#: Returns what is known of a file; None where it must be looked at.
KnownFile = Callable[["os.DirEntry[str]"], FileInfo | None]


def nothing_known(entry: os.DirEntry[str]) -> FileInfo | None:
    """Return None: every file is looked at."""
    return None


def list_samples(path: Path, known: KnownFile = nothing_known, of_folder: Archives | None = None) -> Listing:
    """Look at the head and tail of every `*.json`; what can't be read becomes a problem.

    Samples may be archived and unpacked meanwhile, since readers wait for no lock. A file is removed once it is in an
    archive, and an archive once its samples are in files: so archives are listed before the files and after them, and
    what any of the three lists holds counts. Where an archive was made meanwhile, all of it is listed again.

    Args:
        known: called first; a file about which it returns something isn't opened.
        of_folder: the directory's archives, where the caller goes on to read from them.
    """
    of_folder = of_folder or Archives(path)
    for _ in range(TRIES):
        before, _ = of_folder.list()
        names = of_folder.listed
        out = _list_once(path, known)
        after, problems = of_folder.list()
        gone = sorted(before.keys() - after.keys() - out.by_id.keys())
        for sample_id in gone:
            _add_unpacked(out, path, before[sample_id])
        # With an archive that was made meanwhile, a sample may have been wherever this wasn't looking: in the archive
        # while files were listed, and in a file again before the archive was; or, of those that are gone, archived
        # again after that.
        if (of_folder.names() if gone else of_folder.listed) <= names:
            break
    else:
        what = "was archived and unpacked again and again while it was listed; samples may be missing. Read it again"
        out.problems.append(Problem(str(path), what))
    out.problems += problems
    for info in after.values():
        out.add_archived(path, info)
    return out


def _is_older(file: FileInfo, archived: FileInfo) -> bool:
    """Return whether a file lacks results that its sample has in an archive: somebody has put an old copy there."""
    return file.source == archived.source == NBRUN and file.max_seq < archived.max_seq


def _add_unpacked(out: Listing, path: Path, info: FileInfo) -> None:
    """Add a sample that left its archive after the files were listed: it has a file of its own now."""
    try:
        now = sample_file.peek(path / info.name)
    except (Unreadable, OSError, ValueError):
        return  # taken out and deleted since
    if now.sample_id == info.sample_id:
        out.by_id[info.sample_id] = now
        out.names.add(info.name)


def _list_once(path: Path, known: KnownFile) -> Listing:
    out = Listing()
    for entry in _reading_ahead(_all_of(path)):
        try:
            out.add(path, known(entry) or sample_file.peek(entry))
        except (Unreadable, OSError, ValueError) as e:
            if isinstance(e, FileNotFoundError) and not os.path.lexists(path / entry.name):
                continue  # it was moved into an archive or deleted meanwhile
            out.add_damaged(path / entry.name, e)
        out.names.add(entry.name)
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


def _reading_ahead(entries: list[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """Yield entries, each to be looked at before the next is asked for. Of a slow disk helpers read some ahead.

    Many files are read at a time then: a cold disk or a network takes hardly longer for sixteen than for one.
    """
    ahead: Iterator[os.DirEntry[str]] | None = None  # its single steps are atomic
    look = TUNING.read_ahead_look
    for stop in range(look, len(entries) + look, look):
        before = _waits()
        yield from entries[stop - look : stop]
        if ahead is None and _waits() - before > look // 2 and stop + look < len(entries):
            ahead = iter(entries[stop:])
            with suppress(ThreadLimitError):
                for _ in range(HELPERS):
                    start_daemon(_read_ahead, "nbrun-read-ahead", (ahead,))
    for _ in ahead or ():  # the helpers end
        pass


def _waits() -> int:
    """Return how often this thread has waited for a disk or a network; 0 where the system doesn't say."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    except (ImportError, AttributeError):
        return 0


def _read_ahead(entries: Iterator[os.DirEntry[str]]) -> None:
    """Let the system load what will be read of these files."""
    for entry in entries:
        with suppress(OSError), plain_files.open_reading(entry, buffering=0) as f:  # reported when it is looked at
            f.read(sample_file.HEAD_BYTES)
            f.seek(max(0, os.fstat(f.fileno()).st_size - sample_file.TAIL_BYTES))
            f.read(sample_file.TAIL_BYTES)


def _rank(x: FileInfo) -> tuple[bool, bool, int, bool]:
    """Rank the files of one sample; the highest counts: whole, nbrun's own, the higher seq, the usual name."""
    return not x.is_damaged, x.source == NBRUN, x.max_seq, x.name == name_of(x.sample_id)


# ---- archives


def archives_in(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the archives in a results directory, the oldest first.

    Those that a download or a program for syncing folders has given another name come before.
    """
    names = [name for name in os.listdir(folder) if name.startswith("archive-")]  # of many names few by far
    others = (name for name in names if name.endswith(".zip") and not _NAME.fullmatch(name))
    renamed = sorted(name for name in others if _has_place_of_index(os.path.join(folder, name)))
    return [*renamed, *(name for _, name in _numbered(names))]


def _has_place_of_index(path: str) -> bool:
    """Return whether a ZIP file says where its index is, as nbrun's archives do."""
    try:
        with plain_files.open_reading(path) as f:
            return _seek_index(f, os.fstat(f.fileno()).st_size)
    except OSError:
        return False


def next_number(folder: Path) -> int:
    """Return the number of the next archive. The log names those that are gone, so that no number is used again."""
    logged = [record["archive"] for record in read_archived(folder / FOLDER)]
    return 1 + max((number for number, _ in _numbered([*archives_in(folder), *logged])), default=0)


def _numbered(names: Iterable[str]) -> list[tuple[int, str]]:
    """Return the names that are archives', each after its number, in order."""
    return sorted((int(m[1]), name) for name in names if (m := _NAME.fullmatch(name)))


class _BadArchive(Exception):
    """The archive can't be read at all, or was written by a newer nbrun."""


class _CutArchive(_BadArchive):
    """Its end is lost, which says what it holds."""


class Archives:
    """What the archives of a directory hold. Each index is read once, since archives are never written again.

    Threads: one at a time.

    Attributes:
        listed: the names of the archives that `list` last found, and of those that the log mentioned then.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._indexes: dict[str, _Index] = {}
        self._found: dict[str, FileInfo] | None = None  # by file name, as they were listed last
        self._log_state: tuple[int, int] | None = None
        self._gone: set[tuple[str, str]] = set()  # archive and member, as the log says
        self.listed: set[str] = set()

    def list(self) -> tuple[dict[str, FileInfo], list[Problem]]:
        """Return sample id -> what its file would say; and what can't be read."""
        found: dict[str, FileInfo] = {}
        problems: list[Problem] = []
        names = archives_in(self._folder)
        gone = self.gone()
        self.listed = {*names, *(archive for archive, _ in gone)}
        known, self._indexes = self._indexes, {}
        for name in names:
            index = self._index(name, known.get(name))
            problems += [Problem(str(self._folder / name), what) for what in index.bad]
            found |= {info.sample_id: info for info in index.infos if (name, info.name) not in gone}
        self._found = {info.name: info for info in found.values()}
        return found, problems

    def _index(self, name: str, known: _Index | None) -> _Index:
        """Return an archive's index, or one without files that says why it can't be read.

        Args:
            known: the index as it was read before.
        """
        try:
            stat = os.lstat(self._folder / name)
            state = stat.st_ino, stat.st_ctime_ns, stat.st_size
            if known is None or known.state != state:
                bad: list[str] = []
                known = _Index(state, _one_of_each_name(_read_index(self._folder, name, bad), bad), bad)
            self._indexes[name] = known
            return known
        except FileNotFoundError:  # unpacked meanwhile: its samples are in files again
            return _Index((0, 0, 0), [], [])
        except plain_files.NotPlainError as e:
            what = str(e.strerror)
        except (OSError, ValueError, KeyError, TypeError, _BadArchive, zlib.error) as e:
            what = f"is an archive that can't be read: {e}"
        return _Index((0, 0, 0), [], [what])

    def gone(self) -> set[tuple[str, str]]:
        """Return (archive, member) of all that no longer count. The log is read again only where it has changed."""
        try:
            stat = os.lstat(self._folder / FOLDER / ARCHIVED_LOG)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        if self._log_state != (stat.st_ino, stat.st_size):
            records = read_archived(self._folder / FOLDER)
            self._gone = {(r["archive"], r["name"]) for r in records}
            self._log_state = stat.st_ino, stat.st_size
        return self._gone

    def names(self) -> set[str]:
        """Return the names of the archives that are there and of those that the log mentions."""
        return {*archives_in(self._folder), *(archive for archive, _ in self.gone())}

    def find(self, name: str, *, refresh: bool) -> FileInfo | None:
        """Find an archived file by its name. Unless `refresh`, a file that was listed before isn't listed again."""
        found = None if refresh or self._found is None else self._found.get(name)
        if found is None:
            self.list()
            assert self._found is not None
            found = self._found.get(name)
        return found


class _Index(NamedTuple):
    """An archive's index.

    Attributes:
        state: inode, ctime and size of the archive.
        infos: the files in it.
        bad: a phrase for each line that can't be right.
    """

    state: tuple[int, int, int]
    infos: list[FileInfo]
    bad: list[str]


def read_member(folder: str | os.PathLike[str], place: Place) -> bytes:
    """Return the bytes of an archived file.

    Raises:
        Unreadable: its checksum differs.
        FileNotFoundError: the archive was unpacked meanwhile.
    """
    with plain_files.open_reading(os.path.join(folder, place.name)) as f:
        stat = os.fstat(f.fileno())
        if (stat.st_ino, stat.st_ctime_ns) != (place.ino, place.ctime_ns):
            raise FileNotFoundError(f"{place.name} is another archive now")
        return _member(f, place)


def open_file(folder: Path, info: FileInfo, archives: Archives | None = None) -> BinaryIO:
    """Open a sample's file, although it may be archived or unpacked meanwhile. An archived one is unpacked in memory.

    Args:
        archives: those of the directory, where the caller reads many files.

    Raises:
        Unreadable: it is damaged in its archive.
        OSError: it can't be opened.
    """
    archives = archives or Archives(folder)
    plain = FileInfo(info.name, info.sample_id, info.source, 0, 0)
    names: set[str] | None = None  # of the archives that were there when the file was last found missing
    for attempt in range(TRIES):
        try:
            return _open_once(folder, info)
        except FileNotFoundError:
            if info.place is not None:
                info = plain  # unpacked
                continue
            before, names = names, archives.names()
            info = archives.find(info.name, refresh=attempt > 1) or plain
            if info is plain and names == before and not os.path.lexists(folder / info.name):
                raise  # it is in no file and no archive, and wasn't moved between them
    raise FileNotFoundError(f"{folder / info.name} is moved too often to be read")


def _open_once(folder: Path, info: FileInfo) -> BinaryIO:
    if info.place is None:
        return plain_files.open_reading(folder / info.name)
    return io.BytesIO(read_member(folder, info.place))


def verify(f: BinaryIO, name: str, members: int) -> None:
    """Read an archive back. Raise Unreadable, ValueError or EOFError where readers would not find all its members."""
    stat = os.fstat(f.fileno())
    if not _seek_index(f, stat.st_size):
        raise Unreadable("has no index")
    bad: list[str] = []
    infos = _parse_index(name, stat, _index_at(f), bad)
    if bad or len(infos) != members:
        raise Unreadable("; ".join([f"holds {len(infos)} of {members} files", *bad]))
    for info in infos:
        assert info.place is not None
        _member(f, info.place)


#: Numbers of ZIP: how a member is compressed, and a bit of its flags.
_STORED, _DEFLATED, _ENCRYPTED = 0, 8, 1


def _member(f: BinaryIO, place: Place) -> bytes:
    """Return the bytes of a member of an open archive. Raise Unreadable."""
    if is_bomb(place.packed, place.size):
        raise Unreadable(f"would unpack {place.packed:,} bytes of {place.name} to {place.size:,}")
    try:
        data = _unpacked(f, place)
    except (zlib.error, EOFError) as e:
        raise Unreadable(f"is damaged in {place.name} ({e})") from None
    if len(data) != place.size or zlib.crc32(data) != place.crc:
        raise Unreadable(f"is damaged in {place.name} (its checksum differs)")
    return data


def _unpacked(f: BinaryIO, place: Place) -> bytes:
    """Return what a member unpacks to, at most a byte more than its size. Raise Unreadable, EOFError or zlib.error."""
    header = plain_files.read_at(f.fileno(), place.offset, _LOCAL)
    flags, method, name_bytes, extra_bytes = (int.from_bytes(header[a : a + 2], "little") for a in (6, 8, 26, 28))
    data = plain_files.read_at(f.fileno(), place.offset + _LOCAL + name_bytes + extra_bytes, place.packed)
    if method not in (_STORED, _DEFLATED) or flags & _ENCRYPTED:
        raise Unreadable(f"is compressed or encrypted in {place.name} in a way that nbrun doesn't read")
    return zlib.decompressobj(-15).decompress(data, place.size + 1) if method == _DEFLATED else data


def _read_index(folder: Path, name: str, bad: list[str]) -> list[FileInfo]:
    """Return what an archive holds. A line that can't be right is left out, and `bad` gets a phrase that says why."""
    with plain_files.open_reading(folder / name) as f:
        stat = os.fstat(f.fileno())
        if _seek_index(f, stat.st_size):
            try:
                return _parse_index(name, stat, _index_at(f), bad)
            except (ValueError, zlib.error, EOFError, Unreadable):
                pass  # the ZIP's own directory names the members too
        f.seek(0)
        try:
            return list(_by_directory(name, stat, f, bad))
        except _CutArchive as e:
            found = list(_by_headers(name, stat, f))
            if not found:
                raise
            bad.append(
                f"is an archive that can't be read: {e}. {counted(len(found), 'sample is', 'samples are')} whole"
            )
            return found


def members_by_headers(folder: Path, name: str) -> list[FileInfo]:
    """Return the members of an archive that are whole by their own headers: its index and its end may be lost."""
    with plain_files.open_reading(folder / name) as f:
        return list(_by_headers(name, os.fstat(f.fileno()), f))


def _by_headers(archive: str, stat: os.stat_result, f: BinaryIO) -> Iterator[FileInfo]:
    """Yield the samples' files that follow a header of a member, in their order, as far as none overlaps another.

    What only looks like headers may cost little: all together, as much as the archive is long a few times.
    """
    end, left = 0, HEADER_TRIES * stat.st_size
    for at in _headers(f.fileno(), stat.st_size):
        header = plain_files.read_up_to(f.fileno(), at, _LOCAL + _NAME_BYTES)
        crc, packed, size = (int.from_bytes(header[i : i + 4], "little") for i in (14, 18, 22))
        member = header[_LOCAL:][: int.from_bytes(header[26:28], "little")].decode("utf-8", "replace")
        place = Place(archive, at, packed, size, crc, stat.st_ctime_ns, stat.st_ino)
        if at < end or not is_sample_file_name(member):
            continue
        left -= packed
        if left < 0:
            return
        with suppress(Unreadable, ValueError, EOFError):
            info = sample_file.info_of(member, _member(f, place), stat.st_mtime_ns)
            end = at + _LOCAL + packed
            yield replace(info, place=place)


def _headers(fd: int, size: int) -> Iterator[int]:
    """Yield every offset at which a member's header may begin."""
    for start in range(0, size, _PIECE_BYTES):
        piece = plain_files.read_up_to(fd, start, _PIECE_BYTES + len(_HEADER) - 1)
        yield from (start + found.start() for found in re.finditer(_HEADER, piece))


def _one_of_each_name(infos: Iterable[FileInfo], bad: list[str]) -> list[FileInfo]:
    """Return of the members of one name the last one, as ZIP programs do. `bad` gets a phrase for each other one."""
    by_name: dict[str, FileInfo] = {}
    for info in infos:
        if info.name in by_name:
            bad.append(f"{_MEMBER} {info.name[:100]!r} before another one of that name; it is passed over")
        by_name[info.name] = info
    return list(by_name.values())


def _seek_index(f: BinaryIO, size: int) -> bool:
    """Go to the index, whose offset the ZIP's comment holds. Return False where there is no such comment."""
    f.seek(max(0, size - 256))
    comment = _COMMENT.search(f.read())
    if comment is None or int(comment[1]) > size:
        return False
    f.seek(int(comment[1]))
    return True


def _index_at(f: BinaryIO) -> bytes:
    start = f.tell()
    header = f.read(_LOCAL)
    if header[:4] != b"PK\x03\x04":
        raise ValueError("no index there")
    crc, packed, size = (int.from_bytes(header[a : a + 4], "little") for a in (14, 18, 22))
    return _member(f, Place("", start, packed, size, crc, 0, 0))


def _parse_index(archive: str, stat: os.stat_result, data: bytes, bad: list[str]) -> list[FileInfo]:
    first, *lines = data.split(b"\n")
    head = load(first)
    if not isinstance(head, dict):
        raise ValueError("no index there")
    if head.get("format") != ARCHIVE_FORMAT:
        raise _BadArchive(f"its format is {head.get('format')!r}; this nbrun knows {ARCHIVE_FORMAT}")
    out = []
    for m in map(load, filter(None, lines)):
        if wrong := _wrong_in(m, stat.st_size):
            bad.append(f"{_MEMBER} that {wrong}; it is passed over")
        else:
            out.append(_archived_info(archive, stat, cast(IndexLine, m)))
    return out


def _archived_info(archive: str, stat: os.stat_result, m: IndexLine) -> FileInfo:
    """Return what a line of an archive's index says of a member."""
    place = Place(archive, m["offset"], m["packed"], m["size"], m["crc"], stat.st_ctime_ns, stat.st_ino)
    return FileInfo(m["name"], m["id"], m["source"], m["size"], m["mtime_ns"], m["summary"], m["progress"], place=place)


class IndexLine(TypedDict):
    """A line of an archive's index: one member."""

    name: str
    id: str
    source: str
    offset: int
    packed: int
    size: int
    crc: int
    mtime_ns: int
    summary: Summary | None
    progress: JsonObject | None


_BAD_SIZES = "has sizes that are no numbers"
#: What a line of an index must hold beside a name and a summary: a key, a check of its value, and what is wrong else.
_INDEX_SHAPE: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("id", lambda value: isinstance(value, str), "has no id or no format"),
    ("source", lambda value: value in (NBRUN, PROGRESS, LEGACY), "has no id or no format"),
    *((key, is_count, _BAD_SIZES) for key in ("offset", "packed", "size", "crc")),
    ("mtime_ns", lambda value: isinstance(value, int), _BAD_SIZES),
    ("progress", lambda value: isinstance(value, (dict, NoneType)), "has no progress object"),
)


def _wrong_in(m: JsonValue, archive_bytes: int) -> str:
    """Return why a line of an index can't be right; "" where it can. Anybody may have written it."""
    if not isinstance(m, dict):
        return "is described by no object"
    name = m.get("name")
    if not is_sample_file_name(name):
        return f"is called {str(name)[:100]!r}, which is no name of a sample's file"
    wrong = next(_faults_of(m, archive_bytes), "")
    return wrong and f"{wrong} ({name})"


def _faults_of(m: JsonObject, archive_bytes: int) -> Iterator[str]:
    """Yield what is wrong with a line. Only the first is asked for: each check relies on those before it."""
    for key, is_right, what in _INDEX_SHAPE:
        if not is_right(m.get(key)):
            yield what
    line = cast(IndexLine, m)
    packed, size = line["packed"], line["size"]
    if line["offset"] + packed > archive_bytes or abs(line["mtime_ns"]) > MAX_MTIME_NS:
        yield "is outside of the archive"
    if is_bomb(packed, size):
        yield f"would unpack {packed:,} bytes to {size:,}"
    summary = m.get("summary")
    if not (sample_file.is_summary(summary) if line["source"] == NBRUN else summary is None):
        yield "has no summary"


def is_of_member(what: str) -> bool:
    """Return whether a problem of an archive is one of a single member."""
    return what.startswith(_MEMBER)


def is_bomb(packed: int, size: int) -> bool:
    """Return whether a member would unpack to more than any result takes, so that a few bytes would fill the memory."""
    return size > TUNING.max_whole_bytes or (size > FREE_BYTES and size > packed * MAX_RATIO)


def _by_directory(archive: str, stat: os.stat_result, f: BinaryIO, bad: list[str]) -> Iterator[FileInfo]:
    """Look at each member, where the index is lost (the ZIP was repacked, say). Damaged members are left out."""
    import zipfile  # slow to load, and needed for an archive without its index only

    try:
        members = zipfile.ZipFile(f).infolist()
    except zipfile.BadZipFile as e:
        raise _CutArchive(str(e)) from None
    except NotImplementedError as e:  # it needs a newer version of ZIP
        raise _BadArchive(str(e)) from None
    for m in members:
        if not m.filename.endswith(SUFFIX):
            continue
        if not is_sample_file_name(m.filename) or is_bomb(m.compress_size, m.file_size):
            bad.append(f"{_MEMBER} {m.filename[:100]!r} that is no sample's file; it is passed over")
            continue
        place = Place(archive, m.header_offset, m.compress_size, m.file_size, m.CRC, stat.st_ctime_ns, stat.st_ino)
        try:
            info = sample_file.info_of(
                m.filename, _member(f, place), int(time.mktime((*m.date_time, 0, 0, -1))) * 10**9
            )
        except (Unreadable, ValueError) as e:
            bad.append(f"{_MEMBER} {m.filename[:100]!r} that {reason(e)}; it is passed over")
            continue
        info.place = place
        yield info
