"""The only caller of fsync, replace, truncate and unlink: every durable operation passes through this module.

So tests can fail or kill at the k-th operation: `observe(hook)` calls `hook(operation, path)` before each one, and the
hook raises what the disk would have raised.

A results directory may come from a stranger. Whatever is opened inside it is a regular file and no link (see
results/plain_files.py), and an operation on a name inside a folder that this process holds open (`Folder`) goes to that
very folder, wherever it was moved to and whatever has its path now.

Windows can't open a folder, so there nothing is held and every operation goes by its path; a file's name is not made
durable, which `caveat` reports; and a file that another process has open can't be replaced or removed, so both are
tried for a while.

Threads: safe from any thread. `_folders_lock` protects changes of the table of held folders; looking one up is a single
operation on a dict. `plain_files.position_lock`, on Windows, protects a descriptor's position between a seek and what
follows it.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from nbrun.results import plain_files
from nbrun.results.plain_files import (
    KINDS,
    OPENS_FOLDERS,
    SAFE_FLAGS,
    NotPlainError,
    check_plain,
    not_plain,
    open_and_stat,
    read_whole,
    refuse_link,
)

#: How many pieces are written by one call (POSIX's IOV_MAX is 1024 where it is small).
MAX_PIECES = 1000
#: Whether `link` and `utime` follow a link, where the system can't do without; what is opened is none in any case.
_LINK_FOLLOWS = os.link not in os.supports_follow_symlinks
_UTIME_FOLLOWS = os.utime not in os.supports_follow_symlinks
#: How long replacing or removing a file is tried that another process has open (Windows refuses that).
IN_USE_S, IN_USE_PAUSE_S = 5.0, 0.02
#: A folder is synced when it keeps this many files, or bytes, that have no name any more; see `Folder.keep`.
KEPT_FILES, KEPT_BYTES = 64, 64 << 20
_O_PATH: int = getattr(os, "O_PATH", 0)  # Linux: opens a file without a right to read it, a pipe without a writer
_system = os  # for other than durable operations: a test that replaces `os` by a simulated disk doesn't see them

Hook = Callable[[str, str], None]
FileId = tuple[int, int, int, int]
_hook: Hook | None = None

#: The errors of a file system without an operation, such as network shares and shared folders of virtual machines.
NO_SUCH_OPERATION = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_FOLDERS = "it can't make the names of new files durable"
_CONTENTS = "it can't make written bytes durable"
_DRIVES = "written bytes may stay in the drive's own memory"
_refused: dict[tuple[int, str], None] = {}  # (device, one of the above); only single operations, so no lock


def _refuses(fd: int, what: str) -> None:
    _refused[os.fstat(fd).st_dev, what] = None


def caveat(path: str | os.PathLike[str]) -> str:
    """Return what the file system of `path` has refused to promise so far, a sentence for the user; else ""."""
    if not _refused:
        return ""
    device = os.stat(path).st_dev
    whats = [what for (where, what) in list(_refused) if where == device]
    if not whats:
        return ""
    return (
        f"The file system of {path} doesn't promise what a local disk does: {' and '.join(whats)}. A killed process "
        "loses nothing there; a power cut may cost results that were reported as saved."
    )


if sys.platform == "darwin":  # fsync there leaves the data in the drive's cache
    import fcntl

    def _sync_plainly(fd: int) -> None:
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as e:
            if e.errno not in NO_SUCH_OPERATION | {errno.ENOTTY}:
                raise
            os.fsync(fd)
            _refuses(fd, _DRIVES)
elif hasattr(os, "fdatasync"):

    def _sync_plainly(fd: int) -> None:
        os.fdatasync(fd)  # content and size: all that reading it back needs; only its times may be older
else:

    def _sync_plainly(fd: int) -> None:
        os.fsync(fd)


def _sync(fd: int, path: str | os.PathLike[str]) -> None:
    """Make a file's content durable, as far as its file system can."""
    try:
        _notify("fsync", path)
        _sync_plainly(fd)
        if _refused:
            _refused.pop((os.fstat(fd).st_dev, _CONTENTS), None)
    except OSError as e:
        if e.errno not in NO_SUCH_OPERATION:
            raise
        _refuses(fd, _CONTENTS)


@contextmanager
def observe(hook: Hook) -> Iterator[None]:
    """Call `hook(operation, path)` before each durable operation while the block runs. For tests."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


def _notify(operation: str, path: str | os.PathLike[str]) -> None:
    if _hook is not None:
        _hook(operation, os.fspath(path))


# ---- folders that are held


class Folder:
    """A folder held open: operations on names inside it go to that very folder while this object is not released.

    Args:
        path: its path, as the callers of this module write it.
        within: the held folder around it. Then the last part of `path` must be a folder itself, not a link to one.

    Raises:
        NotPlainError: it is a link, or no folder.
        OSError: it can't be opened.
    """

    fd = -1

    def __init__(self, path: Path, within: Folder | None = None) -> None:
        self.path = os.fspath(path)
        self._kept: list[int] = []  # descriptors of files that lost their names here; changed with _folders_lock held
        self._kept_bytes = 0
        if not OPENS_FOLDERS:
            self._opened = self._looked_at(within)
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if within is None else os.O_NOFOLLOW)
        try:
            if within is None:
                self.fd = _system.open(self.path, flags)
            else:
                self.fd = _system.open(path.name, flags, dir_fd=within.fd)
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
                raise self._no_folder(os.path.islink(self.path)) from None
            raise
        self._opened = os.fstat(self.fd)
        with _folders_lock:
            _folders[self.path] = [*_folders.get(self.path, ()), self]

    def _looked_at(self, within: Folder | None) -> os.stat_result:
        """Return what is at the path. Raise as the constructor does."""
        is_link = within is not None and os.path.islink(self.path)
        found = os.stat(self.path)
        if is_link or not stat.S_ISDIR(found.st_mode):
            raise self._no_folder(is_link)
        return found

    def _no_folder(self, is_link: bool) -> NotPlainError:
        what = KINDS[stat.S_IFLNK] if is_link else "not a folder"
        return NotPlainError(errno.ENOTDIR, f"is {what}", self.path)

    @contextmanager
    def keep(self, name: str) -> Iterator[None]:
        """Keep the content of the file that has a name, while the block takes the name from it, until the next sync.

        A file system may give a file's blocks to another one before the change of its name is durable: ext4 does with
        data=writeback. After a power cut the old name would be back, with the other file's content. The blocks of an
        open file are given to none.
        """
        fd, size = -1, 0
        if _O_PATH:
            with suppress(OSError):  # mostly there is no such file
                fd = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
                size = os.fstat(fd).st_size  # not later: FUSE may know nothing of a file without a name
        try:
            yield
        finally:  # also after an error: it isn't known then whether the name is taken
            is_full = False
            if fd >= 0:
                with _folders_lock:  # only now: a sync that began earlier would let it go before it has lost its name
                    self._kept.append(fd)
                    self._kept_bytes += size
                    is_full = len(self._kept) >= KEPT_FILES or self._kept_bytes >= KEPT_BYTES
        if is_full:
            sync_folder(self.path)

    @property
    def keeps_files(self) -> bool:
        """True while files that lost their names here are kept."""
        return bool(self._kept)

    @contextmanager
    def letting_go(self) -> Iterator[None]:
        """Close the files that are kept now once the block, which syncs the folder, has ended without an error."""
        with _folders_lock:
            kept, self._kept = self._kept, []
            size, self._kept_bytes = self._kept_bytes, 0
        try:
            yield
        except BaseException:
            with _folders_lock:
                self._kept += kept
                self._kept_bytes += size
            raise
        for fd in kept:
            os.close(fd)

    def release(self) -> None:
        """Let operations go by the path again. The descriptor is closed when the last operation on it has ended."""
        with _folders_lock:
            left = [f for f in _folders.get(self.path, ()) if f is not self]
            if left:
                _folders[self.path] = left
            else:
                _folders.pop(self.path, None)

    def is_at(self, path: str | os.PathLike[str], *, follow: bool) -> bool:
        """Return whether this folder has that path now."""
        try:
            there = os.stat(path, follow_symlinks=follow)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (self._opened.st_dev, self._opened.st_ino)

    def path_now(self) -> str:
        """Return where it is now; "" where it was deleted or the system doesn't say."""
        try:
            now = os.readlink(f"/proc/self/fd/{self.fd}")
        except OSError:
            return ""
        return now if self.is_at(now, follow=False) else ""

    @property
    def is_deleted(self) -> bool:
        """True once it has no name any more."""
        return os.fstat(self.fd).st_nlink == 0 if OPENS_FOLDERS else not self.is_at(self.path, follow=True)

    def __del__(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        while self._kept:
            os.close(self._kept.pop())


_folders: dict[str, list[Folder]] = {}  # path -> those that hold it, the last one counts
_folders_lock = threading.Lock()


class _Place:
    """How to reach a path: by its name in a held folder, which stays open meanwhile, else by the path itself."""

    __slots__ = ("dir_fd", "folder", "name")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path)
        self.name = text
        self.folder: Folder | None = None
        self.dir_fd: int | None = None
        if _folders:
            around, _, name = text.rpartition("/")
            holders = _folders.get(around)
            if holders and name:
                self.folder = holders[-1]
                self.name, self.dir_fd = name, holders[-1].fd

    def kept(self) -> AbstractContextManager[None]:
        """Keep the file that has this name while the block takes the name from it; see `Folder.keep`."""
        return nullcontext() if self.folder is None else self.folder.keep(self.name)


# ---- opening files of a directory that this process writes into


def open_plain(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a regular file in the folder that this process holds, though that may have another path now.

    Raises:
        NotPlainError: it is something else, or has holes as no file of nbrun's has.
        OSError: it can't be opened.
    """
    at = _Place(path)
    return open_and_stat(path, flags, at.name, at.dir_fd)[0]


def open_reading(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file of a held folder for reading bytes. Raise as `open_plain` does."""
    return plain_files.reader_of(open_plain(path))


def discard(path: str | os.PathLike[str]) -> None:
    """Remove a file whose content has no meaning any more; not durably. A missing one is fine."""
    at = _Place(path)
    with suppress(FileNotFoundError):
        _while_in_use(lambda: _system.unlink(at.name, dir_fd=at.dir_fd))


def set_times(path: str | os.PathLike[str], ns: int) -> None:
    """Set a file's times, in nanoseconds."""
    at = _Place(path)
    os.utime(at.name, ns=(ns, ns), dir_fd=at.dir_fd, follow_symlinks=_UTIME_FOLLOWS)


# ---- durable operations


def make_folder(path: Path) -> list[Path]:
    """Make a folder, and its parents. Return the folders with new names in them: pass each to `sync_folder`."""
    missing = []
    at = path
    while not at.exists():
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        _notify("mkdir", folder)
        folder.mkdir(exist_ok=True)
    return [folder.parent for folder in reversed(missing)]


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the names in a folder durable, as far as its file system can."""
    if not OPENS_FOLDERS:
        _notify("fsync-folder", path)
        _refused[os.stat(path).st_dev, _FOLDERS] = None
        return
    held = _folders.get(os.fspath(path))
    folder = held[-1] if held else None  # kept until the end: its descriptor must not become another file's
    if folder is not None:
        with folder.letting_go():
            _sync_names(folder.fd, path)
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync_names(fd, path)
    finally:
        os.close(fd)


def _sync_names(fd: int, path: str | os.PathLike[str]) -> None:
    try:
        _notify("fsync-folder", path)
        os.fsync(fd)
        if _refused:
            _refused.pop((os.fstat(fd).st_dev, _FOLDERS), None)
    except OSError as e:
        if e.errno not in NO_SUCH_OPERATION:
            raise
        _refuses(fd, _FOLDERS)


class AppendFile:
    """A file that is only appended to. `size` is what was written, not what is saved.

    Threads: one writer.
    """

    fd = -1

    def __init__(self, path: Path, *, new: bool) -> None:
        _notify("create" if new else "open", path)
        self.path = path
        at = _Place(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | SAFE_FLAGS | (os.O_EXCL if new else 0)
        refuse_link(path)
        try:
            self.fd = os.open(at.name, flags, 0o666, dir_fd=at.dir_fd)
        except OSError as e:
            if e.errno == errno.EEXIST:
                raise
            raise not_plain(path, at.name, at.dir_fd) or e from None
        check_plain(path, self.fd)
        found = os.fstat(self.fd)
        self.size, self.has_other_names = found.st_size, found.st_nlink > 1

    def append(self, data: bytes) -> int:
        """Write all of `data` and return its offset. Nothing is saved before sync() has returned."""
        _notify("write", self.path)
        start = self.size
        view = memoryview(data)
        while view:
            n = os.write(self.fd, view)
            self.size += n
            view = view[n:]
        return start

    def sync(self) -> None:
        """Return when everything appended so far is on the disk."""
        _sync(self.fd, self.path)

    def cut(self, size: int) -> None:
        """Cut the file to `size` bytes, durably."""
        _notify("truncate", self.path)
        os.ftruncate(self.fd, size)
        self.size = size
        _sync(self.fd, self.path)

    def close(self) -> None:
        """Close the file; do nothing the second time."""
        fd, self.fd = self.fd, -1  # first: after an error the descriptor is closed all the same
        if fd >= 0:
            with suppress(OSError):  # what counts was synced before
                os.close(fd)

    __del__ = close


def _batched(parts: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield MAX_PIECES of a list at a time; pieces of an iterator, which may be large, one by one."""
    if isinstance(parts, list):
        return (parts[at : at + MAX_PIECES] for at in range(0, len(parts), MAX_PIECES))
    return ([part] for part in parts)


def _write_all(fd: int, pieces: Sequence[bytes]) -> None:
    """Write pieces one after another, without joining them first."""
    left = sum(map(len, pieces))
    if hasattr(os, "writev"):
        left -= os.writev(fd, pieces)
    if left > 0:
        view = memoryview(b"".join(pieces))[-left:]
        while view:
            view = view[os.write(fd, view) :]


class NewFile:
    """A file that is put in place whole: written to `beside`, fsynced, renamed. The caller syncs the folder.

    A file that is not put must be dropped.

    Threads: one makes it, another may put or drop it.

    Attributes:
        identity: once it was synced, what distinguishes it from another file of that name, if that was asked for.

    Raises:
        OSError: the disk refused; nothing is left of it. From `put`: whether the file is in place isn't known, since
            a rename may succeed and report an error (FUSE, a reply of NFS that was lost).
    """

    identity: FileId = (0, 0, 0, 0)

    def __init__(self, path: str | Path, parts: Iterable[bytes], beside: str | Path) -> None:
        self._path, self._beside = path, beside
        self._fd = -1
        try:
            _notify("create", beside)
            at = _Place(beside)
            self._fd = os.open(at.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | SAFE_FLAGS, 0o666, dir_fd=at.dir_fd)
            _notify("write", beside)
            for pieces in _batched(parts):
                _write_all(self._fd, pieces)
        except BaseException:
            self.drop()
            raise

    def begin_writeback(self) -> None:
        """Let the disk begin to write the content, without waiting for it.

        `sync` then waits half as long, most of all where several new files are synced one after another: their blocks
        are allocated by then, so one commit of the file system's own journal covers them. POSIX has no call for this;
        Linux writes what it is advised to drop from its cache, and keeps what is not written yet.
        """
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # it is only advice
                os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self, *, identify: bool) -> None:
        """Make the content durable, before `put`."""
        try:
            _sync(self._fd, self._beside)
            if identify:
                self.identity = identity_of(os.fstat(self._fd))
            self._close()  # over FUSE and NFS, an error of it is one of writing
        except BaseException:
            self.drop()
            raise

    def put(self, *, replace: bool = True) -> None:
        """Give the file its name, after `sync`.

        Raises:
            FileExistsError: without `replace`, if the name is taken; the new file is dropped.
        """
        try:
            _notify("rename", self._path)
            if replace:
                _rename(self._beside, self._path)
            else:
                _rename_new(self._beside, self._path)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Remove it, so that a full disk gets its room back; do nothing once it was put. Raise no OSError."""
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            at = _Place(self._beside)
            os.unlink(at.name, dir_fd=at.dir_fd)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # first: after an error the descriptor is closed all the same
        if fd >= 0:
            os.close(fd)


def identity_of(stat: os.stat_result) -> FileId:
    """Return what distinguishes a file from another one of the same name: device, inode, size and mtime."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def identity_at(path: str | os.PathLike[str]) -> FileId | None:
    """Return the identity of the file that is at a path now; None where there is none."""
    try:
        at = _Place(path)
        return identity_of(os.stat(at.name, dir_fd=at.dir_fd, follow_symlinks=False))
    except FileNotFoundError:
        return None


def replace_file(path: str | Path, parts: Iterable[bytes], beside: str | Path) -> FileId:
    """Put a file in place whole; the caller syncs the folder. Return its identity."""
    new = NewFile(path, parts, beside)
    new.sync(identify=True)
    new.put()
    return new.identity


def write_and_check(
    path: Path, write: Callable[[BinaryIO], None], check: Callable[[BinaryIO], None], beside: Path
) -> None:
    """Put a file in place whole that `write` writes to `beside`, unless `check` raises an error for it."""
    at = _Place(beside)
    try:
        _notify("create", beside)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | SAFE_FLAGS
        with open(os.open(at.name, flags, 0o666, dir_fd=at.dir_fd), "w+b") as f:
            _notify("write", beside)
            write(f)
            f.flush()
            _sync(f.fileno(), beside)
            check(f)
        _notify("rename", path)
        _rename(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(at.name, dir_fd=at.dir_fd)
        raise


def put_derived(path: Path, parts: Iterable[bytes | memoryview], beside: Path) -> None:
    """Put derived data in place whole, not durably: it carries a checksum and can be made again."""
    fd = open_plain(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with open(fd, "wb") as f:
            f.writelines(parts)
        old, new = _Place(beside), _Place(path)
        _while_in_use(lambda: _system.replace(old.name, new.name, src_dir_fd=old.dir_fd, dst_dir_fd=new.dir_fd))
    except BaseException:
        with suppress(OSError):
            discard(beside)
        raise


def _while_in_use(change: Callable[[], None]) -> None:
    """Replace or remove a file; on Windows, which refuses that while somebody has it open, for IN_USE_S at most."""
    end = 0.0
    while True:
        try:
            change()
            return
        except PermissionError:
            if OPENS_FOLDERS or (end and time.monotonic() > end):
                raise
            end = end or time.monotonic() + IN_USE_S
        time.sleep(IN_USE_PAUSE_S)


def _rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    old, new = _Place(source), _Place(target)
    rename = os.rename if OPENS_FOLDERS else os.replace  # on Windows a rename refuses a name that is taken

    def change() -> None:
        rename(old.name, new.name, src_dir_fd=old.dir_fd, dst_dir_fd=new.dir_fd)

    with new.kept():
        is_new = not _may_exist(target)
        try:
            _while_in_use(change)
        except OSError:
            if is_new or _may_exist(target):
                raise
            change()  # FUSE may take an open file's name away before it renames: the new file is then the only one


def _may_exist(path: str | os.PathLike[str]) -> bool:
    """Return whether a name is taken; True where the disk doesn't answer that."""
    try:
        return identity_at(path) is not None
    except OSError:
        return True


def _rename_new(source: str | Path, target: str | Path) -> None:
    """Rename a file unless the new name is taken. Raise FileExistsError then, or another OSError."""
    old, new = _Place(source), _Place(target)
    rename = load_renameat2()
    error = errno.ENOSYS if rename is None else rename(old.name, old.dir_fd, new.name, new.dir_fd)
    if error in NO_SUCH_OPERATION:
        error = errno.EEXIST if OPENS_FOLDERS and identity_at(target) is not None else 0
        if not error:
            _while_in_use(lambda: os.rename(old.name, new.name, src_dir_fd=old.dir_fd, dst_dir_fd=new.dir_fd))
    if error:
        raise OSError(error, os.strerror(error), str(target))


RenameAt = Callable[[str, "int | None", str, "int | None"], int]


@functools.cache
def load_renameat2() -> RenameAt | None:
    """Return Linux's call that renames a file and refuses a name that is taken; it returns 0 or an errno.

    To look at the name first takes a second call, and a file that appears between the two would be replaced.
    """
    if sys.platform != "linux":
        return None
    import ctypes  # not above: loading it takes milliseconds

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return None
    at_fdcwd, rename_noreplace = -100, 1  # as in <fcntl.h> and <stdio.h>

    def rename(old: str, old_fd: int | None, new: str, new_fd: int | None) -> int:
        old_fd = at_fdcwd if old_fd is None else old_fd
        new_fd = at_fdcwd if new_fd is None else new_fd
        is_done = renameat2(old_fd, os.fsencode(old), new_fd, os.fsencode(new), rename_noreplace) == 0
        return 0 if is_done else ctypes.get_errno()

    return rename


def move(source: Path, target: Path) -> None:
    """Rename within the results directory and make both folders' names durable."""
    _notify("rename", target)
    _rename(source, target)
    sync_folder(target.parent)
    sync_folder(source.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, durably; copy it where the file system has no links."""
    _notify("link", target)
    old, new = _Place(source), _Place(target)
    try:
        os.link(old.name, new.name, src_dir_fd=old.dir_fd, dst_dir_fd=new.dir_fd, follow_symlinks=_LINK_FOLLOWS)
    except OSError:
        replace_file(target, (read_whole(source),), f"{target}.tmp")
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file whose content is elsewhere, durably. A missing file is fine."""
    _notify("unlink", path)
    at = _Place(path)
    with suppress(FileNotFoundError), at.kept():
        _while_in_use(lambda: os.unlink(at.name, dir_fd=at.dir_fd))


if hasattr(os, "pwrite"):

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        """Write at an offset, as os.pwrite does."""
        return os.pwrite(fd, data, offset)  # looked up at each call: tests put a full disk there

else:  # Windows

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        """Write at an offset, as os.pwrite does but for the descriptor's position."""
        with plain_files.position_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)
