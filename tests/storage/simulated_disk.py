"""A disk that forgets: what a results directory may look like after a power cut, and a disk that refuses.

`nbrun.storage.files` uses it in place of the module `os`. The real folder plays the page cache; beside it the
model keeps what each file held at its last fsync and which names of each folder are durable. At the k-th operation
it dies (all that follows raises Died) or answers with an error. Afterwards `power_cut` lays out one of the states that
a file system may show then:

    lost    nothing but what was fsynced, file by file and folder by folder; a file that was replaced or removed is
            back, but holds another file's bytes if no descriptor has kept it since (ext4 with data=writeback)
    kept    everything that was written
    mixed   any subset of the pending names; of each file's unsynced bytes a prefix, zeros, garbage, or a hole

A rename is atomic, all else may come in any order. A failed fsync drops what it should have saved: a later one that
succeeds proves nothing of those bytes (Linux marks them clean).
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import contextmanager

import orjson

from nbrun.results.format import ENTRY, ENTRY_HEAD, unframe
from nbrun.storage import files


class Died(OSError):
    """The process is dead; what still runs of it only can't touch the disk any more."""


class Inode:
    """One file's content on the platter; `path` is where the cache has it, None once that is gone.

    `is_free`: it has neither a name in the cache nor a descriptor any more, so another file may be given its blocks.
    """

    def __init__(self, path, durable=b""):
        self.path, self.durable = path, durable
        self.is_free = False
        self.holes = []  # (start, end) that a failed fsync dropped


class Move(dict):
    """A folder's change of name, among the pending changes of names."""

    def __init__(self, source, target):
        super().__init__({source: None, target: None})
        self.source, self.target = source, target

    def of(self, path):
        """What a path is called afterwards."""
        return self.target + path[len(self.source) :] if (path + os.sep).startswith(self.source + os.sep) else path


class SimulatedDisk:
    """Install with `with disk.under(root):`. Operations are counted from 1.

    Args:
        root: the results directory.
        rng: decides how torn things are.
        die_at: the operation during which the process dies, or a function of the disk that says so.
        refuse: (number, operation, path) -> an errno, or None.
        false_refusals: what is refused is done all the same, as a rename may be over FUSE or NFS. Closing a
            file may be refused too then.
    """

    def __init__(self, root, rng, die_at=None, refuse=lambda number, operation, path: None, false_refusals=False):
        self.false_refusals = false_refusals
        self.root, self.rng, self.die_at, self.refuse = str(root), rng, die_at, refuse
        self.count = 0
        self.trace = []
        self.died = threading.Event()
        self.acknowledged = {}  # (sample, group, key, occurrence) -> the highest seq that ever was fsynced
        self._lock = threading.RLock()
        self._fds = {}  # descriptor -> Inode, or the path of a folder
        self._only_kept = set()  # descriptors that are no open file: closing them can't be refused
        self._names = {}
        self._seen = {}  # inode -> bytes whose records were read
        self._pending = []
        self._state = None
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    with open(path, "rb") as f:
                        inode = self._names[path] = Inode(path, f.read())
                    self._seen[inode] = len(inode.durable)
        self._durable_names = dict(self._names)

    @contextmanager
    def under(self):
        before = files.os, files.load_renameat2
        files.os, files.load_renameat2 = self, lambda: None  # files then renames by `rename` below
        try:
            yield self
        finally:
            files.os, files.load_renameat2 = before

    def __getattr__(self, name):
        return getattr(os, name)

    # ---- what files.py calls

    @staticmethod
    def _whole(path, dir_fd):
        """The path of a name inside a folder that is held open."""
        return os.fspath(path) if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        path = self._whole(path, dir_fd)
        if not path.startswith(self.root):
            return os.open(path, flags, mode)
        with self._lock:
            new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            half = self._begin("create" if new else "open", path) if new or flags & os.O_RDWR else None
            fd = os.open(path, flags, mode)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                self._fds[fd] = path
            else:
                if new:
                    self._names[path] = Inode(path)
                    self._pending.append({path: self._names[path]})
                self._fds[fd] = self._names[path]
            if flags & os.O_PATH:
                self._only_kept.add(fd)
            self._end(half)
            return fd

    def write(self, fd, data):
        with self._lock:
            inode = self._fds[fd]
            half = self._begin("write", inode.path, lambda: os.write(fd, data[: self.rng.randint(0, len(data))]))
            n = os.write(fd, data)
            self._end(half)
            return n

    def writev(self, fd, pieces):
        return self.write(fd, b"".join(pieces))

    def fsync(self, fd):
        with self._lock:
            of = self._fds.get(fd)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                of = os.readlink(f"/proc/self/fd/{fd}")
                if not (of + os.sep).startswith(self.root + os.sep):
                    return  # the folder around the results directory
            if isinstance(of, str):
                half = self._begin("fsync-folder", of)
                if not isinstance(half, Died):
                    self._sync_names(of)
            else:
                half = self._begin("fsync", of.path, lambda: self._drop(of))
                if not isinstance(half, Died):
                    self._sync_content(of)
            self._end(half)

    fdatasync = fsync

    def ftruncate(self, fd, size):
        with self._lock:
            half = self._begin("truncate", self._fds[fd].path)
            os.ftruncate(fd, size)
            self._seen[self._fds[fd]] = min(size, self._seen.get(self._fds[fd], 0))
            self._end(half)

    def rename(self, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        source, target = self._whole(source, src_dir_fd), self._whole(target, dst_dir_fd)
        with self._lock:
            half = self._begin("rename", target)
            is_folder = os.path.isdir(source)
            os.rename(source, target)
            if is_folder:
                self._move_folder(source, target)
            inode = self._names.pop(source, None)
            if inode is not None:
                self._leave(self._names.get(target))
                self._names[target], inode.path = inode, target
                self._pending.append({target: inode, source: None})
            self._end(half)

    def _move_folder(self, source, target):
        """All that is in it goes along at once; the new name is durable once the folder around is."""
        move = Move(source, target)
        self._names = {move.of(p): i for p, i in self._names.items()}
        for path, inode in self._names.items():
            inode.path = path
        self._fds = {fd: move.of(of) if isinstance(of, str) else of for fd, of in self._fds.items()}
        self._pending.append(move)

    def unlink(self, path, *, dir_fd=None):
        path = self._whole(path, dir_fd)
        with self._lock:
            half = self._begin("unlink", path)
            os.unlink(path)
            self._leave(self._names.pop(path, None))
            self._pending.append({path: None})
            self._end(half)

    def close(self, fd):
        with self._lock:
            of = self._fds.pop(fd, None)
            is_file = isinstance(of, Inode)
            can_fail = self.false_refusals and is_file and of.path and fd not in self._only_kept
            self._only_kept.discard(fd)
            half = self._begin("close", of.path) if can_fail else None
            os.close(fd)
            if is_file:
                self._free(of)
            self._end(half)

    # ---- the model

    def _leave(self, inode):
        """A file has no name any more."""
        if inode is not None:
            inode.path = None
            self._free(inode)

    def _free(self, inode):
        if not self.died.is_set():  # what a dead process closes is no longer given away before the power is cut
            inode.is_free = inode.path is None and inode not in self._fds.values()

    def _begin(self, operation, path, torn=None):
        """Counts the operation. Returns None to go on, or what to raise once it was done all the same."""
        if self.died.is_set():
            raise Died(errno.EIO, "the process is dead", path)
        self.count += 1
        self.trace.append((operation, os.path.relpath(path, self.root)))
        number = self.refuse(self.count, operation, path)
        if number is not None and self.false_refusals:
            return OSError(number, os.strerror(number), path)
        if number is not None:
            if torn is not None:
                torn()
            raise OSError(number, os.strerror(number), path)
        if self.die_at(self) if callable(self.die_at) else self.count == self.die_at:
            if operation in ("write", "fsync") or self.rng.random() < 0.5:
                if operation == "write":
                    torn()
                self._end(Died(errno.EIO, "the process is dead", path))
            return Died(errno.EIO, "the process is dead", path)
        return None

    def _end(self, died):
        if isinstance(died, Died):
            self.die()
        if died is not None:
            raise died

    def _read(self, inode):
        if inode.path is None:
            return inode.durable
        try:
            with open(inode.path, "rb") as f:
                data = bytearray(f.read())
        except OSError:
            return inode.durable
        for start, end in inode.holes:
            data[start:end] = bytes(max(0, min(end, len(data)) - start))
        return bytes(data)

    def _drop(self, inode):
        inode.holes.append((len(inode.durable), len(self._read(inode))))

    def _sync_content(self, inode):
        inode.durable = self._read(inode)
        self._acknowledge(inode)

    def _acknowledge(self, inode):
        """What is in a segment whose name is durable too is saved."""
        if not os.path.basename(inode.path or "").startswith("journal-"):
            return
        if self._durable_names.get(inode.path) is not inode:
            return
        start = self._seen.get(inode, 0)
        for line in inode.durable[start:].splitlines(keepends=True):
            record = unframe(line) if line.endswith(b"\n") else None
            if record is not None and record.kind == ENTRY:
                _, key, occurrence, seq, _ = ENTRY_HEAD.match(record.body).groups()
                self.acknowledged[(*orjson.loads(record.whose), key.decode(), int(occurrence))] = int(seq)
        self._seen[inode] = len(inode.durable)

    def _sync_names(self, folder):
        rest = []
        for change in self._pending:
            if any(os.path.dirname(path) == folder for path in change):
                self._apply(self._durable_names, change)
                if isinstance(change, Move):  # what is pending in it is pending under its new name
                    rest = [{change.of(p): i for p, i in c.items()} for c in rest]
            else:
                rest.append(change)
        self._pending = rest
        for inode in list(self._durable_names.values()):
            self._acknowledge(inode)

    @staticmethod
    def _apply(names, change):
        if isinstance(change, Move):
            moved = {change.of(p): i for p, i in names.items()}
            names.clear()
            names.update(moved)
            return
        for path, inode in change.items():
            if inode is None:
                names.pop(path, None)
            else:
                names[path] = inode

    def die(self):
        """The process dies now."""
        with self._lock:
            if not self.died.is_set():
                self._state = {i: self._read(i) for i in {*self._names.values(), *self._durable_names.values()}}
                self.died.set()

    def holds(self, text):
        """Does any file hold it durably?"""
        with self._lock:
            return any(text in inode.durable for inode in self._durable_names.values())

    # ---- afterwards

    def power_cut(self, target, mode):
        """Lays out in `target` what may be found after the power was cut."""
        self.die()
        names = dict(self._durable_names)
        for change in self._pending:
            if mode == "kept" or (mode == "mixed" and self.rng.random() < 0.5):
                self._apply(names, change)
        for path, inode in names.items():
            place = os.path.join(str(target), os.path.relpath(path, self.root))
            os.makedirs(os.path.dirname(place), exist_ok=True)
            now = self._state.get(inode, inode.durable)
            data = {"lost": self._others(inode) if inode.is_free else inode.durable, "kept": now}.get(mode)
            with open(place, "wb") as f:
                f.write(self._torn(inode.durable, now) if data is None else data)
        os.makedirs(str(target), exist_ok=True)

    def _others(self, freed):
        """Bytes of another file, as many as this one had."""
        others = [i.durable for i in self._durable_names.values() if i is not freed and i.durable]
        return (self.rng.choice(others) if others else b"").ljust(len(freed.durable), b"\0")[: len(freed.durable)]

    def _torn(self, durable, now):
        if not now.startswith(durable):  # cut, and that is not durable yet
            return self.rng.choice([durable, now])
        rest = len(now) - len(durable)
        cut = len(durable) + self.rng.randint(0, rest)
        kind = self.rng.randrange(5)
        if kind == 0:
            return durable
        if kind == 1:
            return now
        if kind == 2:
            return now[:cut]
        if kind == 3:  # the size came, the data did not
            return now[:cut] + bytes(len(now) - cut)
        middle = bytearray(now)  # a later block came, an earlier one did not
        end = min(len(now), cut + 64)
        middle[cut:end] = self.rng.randbytes(end - cut) if self.rng.random() < 0.5 else bytes(end - cut)
        return bytes(middle)
