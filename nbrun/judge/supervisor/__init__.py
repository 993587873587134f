"""The process that runs programs for a sandbox, under limits, and ends all of them when its kernel ends.

Started by `nbrun.judge.sandbox` with `python -I -S -E`, as a package of its own that imports the standard
library alone. Why a process of its own: limits must be set between fork and exec, which a kernel of many threads and
gigabytes can't do safely or fast, and no other could end the programs once the kernel was killed.

    kernel ── socket ──> supervisor     receives one byte and a descriptor for each monitor that is needed
                           └─ monitor   runs one program at a time; gets requests and sends reports over that descriptor
                                └─ program

End of file on a monitor's descriptor means that the kernel is gone, or that it cancels the program.

A monitor is the subreaper of its program: whatever that leaves behind, in whatever session, becomes the monitor's
child and is killed with the rest.

This page has what the kernel uses too, also on a system that can't run programs for a sandbox: it deals with folders
that a program may have left in any state. Programs make trees deeper than any path or recursion, and folders that can't
be entered, so nothing here recurses, follows a link, or builds a long path.
"""

from __future__ import annotations

import itertools
import math
import os
import stat
from collections.abc import Iterator

#: A wall limit is stretched by what the program waited for a CPU, but never beyond this many times itself.
STARVED = 10
_FILES_COUNTED = 10_000  # in a working folder; one that holds more has exceeded its limit
_DEPTH_COUNTED = 64


def folder_bytes(path: str) -> float:
    """Return a folder's size on the disk; infinity if it holds too many files or can't be counted."""
    total = 0
    try:
        for count, (entry, depth) in enumerate(_all_entries(path), 1):
            total += _bytes(entry)
            if count > _FILES_COUNTED or depth > _DEPTH_COUNTED:
                return math.inf
    except OSError:
        return math.inf
    return total


def _all_entries(path: str) -> Iterator[tuple[os.DirEntry[str], int]]:
    """Yield what is in a folder and in those within it, each with its depth."""
    waiting = [(path, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    yield entry, depth
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
        except FileNotFoundError:
            continue  # it is gone again


def _bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a folder with everything in it, as far as the system allows; do nothing if it doesn't exist.

    Deeper folders are moved up into the folder first, so no path has more than two names.
    """
    try:
        top = _open_folder(path)
    except OSError:
        return
    try:
        _empty(top)
    except OSError:
        pass
    finally:
        os.close(top)
    try:
        os.rmdir(path)
    except OSError:
        pass


def _empty(top: int) -> None:
    """Remove what is in a folder, in passes, until it is empty or a pass changes nothing."""
    numbers = itertools.count(1)
    names: list[str] = []
    while (left := os.listdir(top)) != names:
        names = left
        for name in names:
            _remove(top, name, numbers)


def _remove(top: int, name: str, numbers: Iterator[int]) -> None:
    """Remove one entry of a folder; first move the folders in it up next to it, under the next numbers."""
    try:
        if not _is_folder(name, top):
            os.unlink(name, dir_fd=top)
            return
        os.chmod(name, 0o700, dir_fd=top)
        inside = _open_folder(name, top)
        try:
            for each in os.listdir(inside):
                _take_out(inside, each, top, numbers)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=top)
    except OSError:
        pass


def _take_out(inside: int, name: str, top: int, numbers: Iterator[int]) -> None:
    """Move a folder of the folder `inside` up into `top`; remove anything else."""
    try:
        if _is_folder(name, inside):
            os.chmod(name, 0o700, dir_fd=inside)  # its own entry `..` changes
            os.rename(name, f".nbrun-{next(numbers)}", src_dir_fd=inside, dst_dir_fd=top)
        else:
            os.unlink(name, dir_fd=inside)
    except OSError:
        pass


def _open_folder(path: str | os.PathLike[str], within: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)


def _is_folder(name: str, within: int) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=within).st_mode)


def read_safely(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the beginning of a file that a program may have replaced; b"" if it is a link, a pipe or missing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        return file.read(most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
