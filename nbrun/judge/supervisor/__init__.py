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

import math
import os
import stat

#: A wall limit is stretched by what the program waited for a CPU, but never beyond this many times itself.
STARVED = 10
_FILES_COUNTED = 10_000  # in a working folder; one that holds more has exceeded its limit
_DEPTH_COUNTED = 64


def folder_bytes(path: str) -> float:
    """Return a folder's size on the disk; infinity if it holds too many files or can't be counted."""
    total, count = 0, 0
    waiting = [(path, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    count += 1
                    total += _bytes(entry)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    if count > _FILES_COUNTED or depth > _DEPTH_COUNTED:
                        return math.inf
        except FileNotFoundError:
            continue  # it is gone again
        except OSError:
            return math.inf
    return total


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
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        number = 0
        while names := os.listdir(top):
            before = number
            for name in names:
                number = _remove(top, name, number)
            if number == before and os.listdir(top) == names:
                break  # nothing more can be done
    except OSError:
        pass
    finally:
        os.close(top)
    try:
        os.rmdir(path)
    except OSError:
        pass


def _remove(top: int, name: str, number: int) -> int:
    """Remove one entry of a folder; first move the folders in it up next to it, under the next numbers."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
            os.unlink(name, dir_fd=top)
            return number
        os.chmod(name, 0o700, dir_fd=top)
        inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    except OSError:
        return number
    try:
        for each in os.listdir(inside):
            try:
                if stat.S_ISDIR(os.lstat(each, dir_fd=inside).st_mode):
                    number += 1
                    os.chmod(each, 0o700, dir_fd=inside)  # its own entry `..` changes
                    os.rename(each, f".nbrun-{number}", src_dir_fd=inside, dst_dir_fd=top)
                else:
                    os.unlink(each, dir_fd=inside)
            except OSError:
                continue
    except OSError:
        pass
    finally:
        os.close(inside)
    try:
        os.rmdir(name, dir_fd=top)
    except OSError:
        pass
    return number


def read_safely(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the beginning of a file that a program may have replaced; b"" if it is a link, a pipe or missing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        return file.read(most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
