"""The only caller of fsync, replace, truncate and unlink: every durable operation passes here.

So tests can fail or kill at the k-th operation: `observe(hook)` has `hook(operation, path)` called before each one, and
what the hook raises is what the disk would have said.

Threads: no state but the hook; safe from any thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: So many pieces are written by one call (POSIX's IOV_MAX is 1024 where it is small).
MAX_PIECES = 1000

Hook = Callable[[str, str], None]
Identity = tuple[int, int, int, int]
_hook: Hook | None = None

if sys.platform == "darwin":  # fsync there leaves the data in the drive's cache
    import fcntl

    def _sync(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
elif hasattr(os, "fdatasync"):

    def _sync(fd: int) -> None:
        os.fdatasync(fd)  # content and size: all that reading it back needs; only its times may be older
else:

    def _sync(fd: int) -> None:
        os.fsync(fd)


@contextmanager
def observe(hook: Hook) -> Iterator[None]:
    """Calls `hook(operation, path)` before each durable operation while the block runs. For tests."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def _tell(operation: str, path: str | os.PathLike[str]) -> None:
    if _hook is not None:
        _hook(operation, os.fspath(path))


def make_folder(path: Path) -> None:
    """Makes a folder (its parents too) and makes its name durable."""
    missing = []
    at = path
    while not at.exists():
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        _tell("mkdir", folder)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Makes the names in a folder durable."""
    _tell("fsync-folder", path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class AppendFile:
    """A file that is only appended to. `size` is what was written, not what is saved.

    Threads: one writer.
    """

    fd = -1

    def __init__(self, path: Path, *, new: bool) -> None:
        _tell("create" if new else "open", path)
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if new else 0), 0o666)
        self.size = os.fstat(self.fd).st_size

    def append(self, data: bytes) -> int:
        """Writes all of `data`; returns where it begins. Nothing is saved before sync() has returned."""
        _tell("write", self.path)
        start = self.size
        view = memoryview(data)
        while view:
            n = os.write(self.fd, view)
            self.size += n
            view = view[n:]
        return start

    def sync(self) -> None:
        """Returns when everything appended so far is on the disk."""
        _tell("fsync", self.path)
        _sync(self.fd)

    def cut(self, size: int) -> None:
        """Cuts what stands after `size`, durably."""
        _tell("truncate", self.path)
        os.ftruncate(self.fd, size)
        self.size = size
        _sync(self.fd)

    def close(self) -> None:
        """Closes the file; does nothing the second time."""
        fd, self.fd = self.fd, -1  # first: what a refused close has closed is not closed again
        if fd >= 0:
            with suppress(OSError):  # it is closed all the same, and what counts was synced before
                os.close(fd)

    __del__ = close


def _batched(parts: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """MAX_PIECES of a list at a time; what comes piece by piece is not gathered, for it may be large."""
    if isinstance(parts, list):
        return (parts[at : at + MAX_PIECES] for at in range(0, len(parts), MAX_PIECES))
    return ([part] for part in parts)


def _write_all(fd: int, pieces: Sequence[bytes]) -> None:
    """Writes pieces one behind the other, without joining them first."""
    left = sum(map(len, pieces)) - os.writev(fd, pieces)
    if left > 0:
        view = memoryview(b"".join(pieces))[-left:]
        while view:
            view = view[os.write(fd, view) :]


class NewFile:
    """A file that is put in place whole: written to `beside`, fsynced, renamed. The folder's fsync is the caller's.

    One that is not put must be dropped.

    Threads: one makes it, another may put or drop it.

    Attributes:
        identity: once it was put, what tells it from another file that comes to stand under its name.

    Raises:
        OSError: the disk refused; nothing is left of it. From `put`: whether the file is in place isn't known, since
            a rename may succeed and report an error (FUSE, a reply of NFS that was lost).
    """

    identity: Identity = (0, 0, 0, 0)

    def __init__(self, path: str | Path, parts: Iterable[bytes], beside: str | Path) -> None:
        self._path, self._beside = path, beside
        self._fd = -1
        try:
            _tell("create", beside)
            self._fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            _tell("write", beside)
            for pieces in _batched(parts):
                _write_all(self._fd, pieces)
        except OSError:
            self.drop()
            raise
        except BaseException:
            self._close()
            raise

    def put(self) -> None:
        """Makes the content durable and gives it its name."""
        try:
            _tell("fsync", self._beside)
            _sync(self._fd)
            self.identity = identity_of(os.fstat(self._fd))
            self._close()
            _tell("rename", self._path)
            os.rename(self._beside, self._path)
        except OSError:
            self.drop()
            raise
        finally:
            self._close()

    def drop(self) -> None:
        """It is not wanted: a full disk gets its room back at once. Does nothing once it was put."""
        self._close()
        with suppress(OSError):
            os.unlink(self._beside)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def identity_of(stat: os.stat_result) -> Identity:
    """Return what tells a file from another that comes to stand under its name: device, inode, size and mtime."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def identity_at(path: str | Path) -> Identity | None:
    """Return the same of what stands at a path now; None where nothing does."""
    try:
        return identity_of(os.stat(path))
    except FileNotFoundError:
        return None


def replace_file(path: str | Path, parts: Iterable[bytes], beside: str | Path) -> Identity:
    """Puts a file in place whole. The folder's fsync is the caller's. Returns what tells it from any other."""
    new = NewFile(path, parts, beside)
    new.put()
    return new.identity


def write_and_check(
    path: Path, write: Callable[[BinaryIO], None], check: Callable[[BinaryIO], None], beside: Path
) -> None:  # fmt: skip
    """Puts a file in place whole that `write` wrote to `beside` and `check`, which raises otherwise, found right."""
    try:
        _tell("create", beside)
        with open(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666), "w+b") as f:
            _tell("write", beside)
            write(f)
            f.flush()
            _tell("fsync", beside)
            _sync(f.fileno())
            check(f)
        _tell("rename", path)
        os.rename(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def put_derived(path: Path, parts: Iterable[bytes | memoryview], beside: Path) -> None:
    """Puts derived data in place whole, not durably: it carries a checksum and can be made again."""
    with open(beside, "wb") as f:
        f.writelines(parts)
    os.replace(beside, path)


def move(source: Path, target: Path) -> None:
    """Renames within the results directory and makes both folders' names durable."""
    _tell("rename", target)
    os.rename(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, durably; a copy where the file system has no links."""
    _tell("link", target)
    try:
        os.link(source, target)
    except OSError:
        replace_file(target, (source.read_bytes(),), f"{target}.tmp")
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Removes a file whose content stands elsewhere, durably. A missing one is fine."""
    _tell("unlink", path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def read_at(fd: int, offset: int, length: int) -> bytes:
    """Exactly `length` bytes at `offset`. Raises EOFError where the file is shorter."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise EOFError(f"wanted {length} bytes at {offset}, the file ends after {len(data)} of them")
        data += more
    return data
