"""Opens and reads files that anybody may have put into a results directory: regular files, and never through a link.

A results directory may come from a stranger. A named pipe would block the reader, a link would lead out of the
directory, and a file full of holes would fill the memory.

Threads: safe from any thread. `position_lock`, on Windows, protects a descriptor's position between a seek and what
follows it; it is held over the read or write itself.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from nbrun.errors import StorageError
from nbrun.tuning import TUNING

#: How large a hole in a file may be.
HOLE_BYTES = 64 << 20
#: Before this many bytes are read at a place, the file's size is looked at.
LARGE_BYTES = 1 << 20
FLAGS = {n: getattr(os, n, 0) for n in ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")}
#: Whether a folder can be opened, and so locked, made durable and held: not on Windows.
OPENS_FOLDERS = bool(FLAGS["O_DIRECTORY"])
#: Flags of `open` that every file in a results directory is opened with.
SAFE_FLAGS = FLAGS["O_NOFOLLOW"] | FLAGS["O_NONBLOCK"] | FLAGS["O_NOCTTY"] | FLAGS["O_CLOEXEC"] | FLAGS["O_BINARY"]
#: Kinds of what is no regular file, in words.
KINDS = {
    stat.S_IFLNK: "a symbolic link, and links inside a results directory are not followed",
    stat.S_IFDIR: "a folder, not a file", stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file", stat.S_IFCHR: "a device, not a file", stat.S_IFBLK: "a device, not a file",
}  # fmt: skip


class NotPlainError(OSError):
    """Something inside a results directory that is not opened: a link, a named pipe, a device, a file full of holes."""


def open_plain(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading, never through a link and without waiting. Return its descriptor.

    Raises:
        NotPlainError: it is something else, or has holes as no file of nbrun's has.
        OSError: it can't be opened.
    """
    return open_and_stat(path)[0]


def open_and_stat(
    path: str | os.PathLike[str], flags: int = os.O_RDONLY, name: str | None = None, dir_fd: int | None = None
) -> tuple[int, os.stat_result]:
    """Do what `open_plain` does. Return what the system says of the file, too.

    Args:
        name, dir_fd: its name in an open folder, to be reached by these; `path` is for messages then.
    """
    if not FLAGS["O_NOFOLLOW"]:  # looked at here too: a call for each of many files takes longer
        refuse_link(path)
    name = os.fspath(path) if name is None else name
    try:
        fd = os.open(name, flags | SAFE_FLAGS, 0o666, dir_fd=dir_fd)
    except OSError as e:
        raise not_plain(path, name, dir_fd) or e from None
    try:
        return fd, check_plain(path, fd)
    except BaseException:
        close(fd)
        raise


def close(fd: int) -> None:
    """Close a descriptor whose file was only read, or has nothing in it that must be durable.

    Over FUSE and NFS that may report an error. It says nothing of what was read, and the descriptor is closed all the
    same.
    """
    with suppress(OSError):
        os.close(fd)


class Reading(io.FileIO):
    """A file that is only read; closing it raises no error, as `close` doesn't."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def refuse_link(path: str | os.PathLike[str]) -> None:
    """Raise NotPlainError where a path is a link, on a system whose `open` has no flag for that."""
    if not FLAGS["O_NOFOLLOW"] and os.path.islink(path):
        raise NotPlainError(errno.EINVAL, f"is {KINDS[stat.S_IFLNK]}", os.fspath(path))


def check_plain(path: str | os.PathLike[str], fd: int) -> os.stat_result:
    """Return what the system says of an open file.

    Raises:
        NotPlainError: it is no regular file, or has holes as no file of nbrun's has.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise _of_kind(path, found.st_mode)
    if found.st_size > HOLE_BYTES and _has_large_hole(fd, found.st_size):
        raise NotPlainError(
            errno.EINVAL, f"has holes: most of its {found.st_size:,} bytes were never written", os.fspath(path)
        )
    return found


def _has_large_hole(fd: int, size: int) -> bool:
    if not hasattr(os, "SEEK_HOLE"):
        return False
    at = hole = 0
    try:
        while at - hole <= HOLE_BYTES:
            hole = os.lseek(fd, at, os.SEEK_HOLE)  # there is one at the end of every file
            if hole >= size:
                return False
            at = os.lseek(fd, hole, os.SEEK_DATA)
        return True
    except OSError as e:  # ENXIO: a hole up to its end. Another error: this file system doesn't know its holes
        return e.errno == errno.ENXIO and size - hole > HOLE_BYTES
    finally:
        os.lseek(fd, 0, os.SEEK_SET)


def not_plain(path: str | os.PathLike[str], name: str, dir_fd: int | None) -> NotPlainError | None:
    """Return the error for a file that could not be opened because of its kind; None where it is a regular file."""
    try:
        mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _of_kind(path, mode)


def _of_kind(path: str | os.PathLike[str], mode: int) -> NotPlainError:
    what = KINDS.get(stat.S_IFMT(mode), "no file")
    return NotPlainError(errno.EINVAL, f"is {what}", os.fspath(path))


def is_real_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder is there itself, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


#: Names in `.nbrun` that belong to files (beside its logs), so that a folder of that name is odd.
_NAMES_OF_FILES = frozenset({"lock", "running", "known", "samples"})


def odd_entries(inner: Path) -> list[tuple[Path, str]]:
    """Return what in `.nbrun` (or `.nbrun` itself) is of the wrong kind, each with a phrase that says what it is."""
    if not is_real_folder(inner):
        return [(inner, f"is {_kind_of(inner)}")] if os.path.lexists(inner) else []
    odd = []
    with os.scandir(inner) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # a run has removed it meanwhile
                if what := _oddness(entry):
                    odd.append((inner / entry.name, what))
    return sorted(odd)


def _oddness(entry: os.DirEntry[str]) -> str:
    is_files_name = entry.name in _NAMES_OF_FILES or entry.name.endswith(".log")
    if not entry.is_file(follow_symlinks=False):
        is_odd = is_files_name or not entry.is_dir(follow_symlinks=False)
        return f"is {_kind_of(entry)}" if is_odd else ""
    if is_files_name and entry.stat(follow_symlinks=False).st_size > HOLE_BYTES:
        try:
            close(open_plain(entry))
        except NotPlainError as e:
            return str(e.strerror)
    return ""


def _kind_of(path: str | os.PathLike[str]) -> str:
    return KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "a file, not a folder")


def refuse_odd(inner: Path) -> None:
    """Raise StorageError where something in `.nbrun` is a link, a named pipe or the like, which nbrun never makes."""
    for path, what in odd_entries(inner):
        raise StorageError(
            f"{path} {what}. Nothing was read or written through it. Remove it, if you trust the rest of "
            f"{inner.parent}, then try again.",
            path=str(inner.parent),
        )


def refuse_odd_folder(inner: Path) -> None:
    """Raise StorageError where `.nbrun` itself is a link or no folder: what is saved can't be known then."""
    if os.path.lexists(inner) and not is_real_folder(inner):
        refuse_odd(inner)


def open_reading(path: str | os.PathLike[str], *, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading bytes. Raise as `open_plain` does."""
    return reader_of(open_plain(path), buffering=buffering)


def reader_of(fd: int, *, buffering: int = -1) -> BinaryIO:
    """Return a file object that reads from a descriptor and closes it."""
    raw = Reading(fd)
    return cast(BinaryIO, raw if buffering == 0 else io.BufferedReader(raw))


def read_whole(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Return all bytes of a regular file.

    Raises:
        NotPlainError: it is none, or has more than `most` bytes (None: `TUNING.max_whole_bytes`).
        OSError: it can't be read.
    """
    most = TUNING.max_whole_bytes if most is None else most
    with open_reading(path) as f:
        size = os.fstat(f.fileno()).st_size
        if size > most:
            raise NotPlainError(
                errno.EFBIG, f"has {size:,} bytes; more than {most:,} are not read at once", os.fspath(path)
            )
        return f.read()


def read_at(fd: int, offset: int, length: int) -> bytes:
    """Return exactly `length` bytes at `offset`. Raise EOFError where the file is shorter."""
    if length > LARGE_BYTES and offset + length > (size := os.fstat(fd).st_size):  # before room is made for it
        raise EOFError(f"wanted {length} bytes at {offset}, the file has {size}")
    data = read_up_to(fd, offset, length)
    if len(data) < length:
        raise EOFError(f"wanted {length} bytes at {offset}, the file ends after {len(data)} of them")
    return data


def read_up_to(fd: int, offset: int, length: int) -> bytes:
    """Return up to `length` bytes at `offset`: fewer only at the end of the file."""
    data = pread(fd, length, offset)
    while 0 < len(data) < length and (more := pread(fd, length - len(data), offset + len(data))):
        data += more
    return data


if hasattr(os, "pread"):
    pread = os.pread

else:  # Windows
    position_lock = threading.Lock()

    def pread(fd: int, length: int, offset: int, /) -> bytes:
        """Read at an offset, as os.pread does but for the descriptor's position."""
        with position_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, length)
