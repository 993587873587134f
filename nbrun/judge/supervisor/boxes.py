"""The boxes that programs run in: none, those that the monitor builds itself, and those that bubblewrap builds.

Used by a monitor's process alone, which knows no kind of box: each kind is a class with the methods of `Box`, under its
name in `KINDS`.

The monitor's own boxes are what bubblewrap builds, without loading two programs for each test. What all tests of a
solution see is mounted once, read-only, in a mount namespace that only a descriptor keeps (the template). Each test
gets new namespaces of every kind, a copy of the template, new folders and a new /proc, so nothing of one test is there
in the next:

    monitor ─ init (process 1 of the box, Python, all capabilities) ─ program (another user or none of them)

When the monitor ends, init is killed; when init ends, the kernel kills whatever is in the box.

Needs Linux 5.12 (mount_setattr) and, unless the user is root, user namespaces. Whether all of it works is found out by
running a program this way, once for each sandbox; where it doesn't, bubblewrap builds each box.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, NoReturn

from . import processes

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_PARENT = 0x8000  # the child of clone is a sibling
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
#: What is new for each test. Its mount namespace is a copy of the template, made once it has entered that.
_NEW = _NEWCGROUP | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8  # of mounts: both calls use these numbers
_BIND, _REC, _SLAVE = 4096, 16384, 1 << 19
_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT, _CLOSE_RANGE, _MOUNT_SETATTR = 428, 429, 436, 442  # on all machines
_LAST_DESCRIPTOR = (1 << 31) - 1
_HERE, _CLONE, _CLOSE_ON_EXEC, _EMPTY_PATH, _RECURSIVE = -100, 1, 0o2000000, 0x1000, 0x8000
_FROM_EMPTY_PATH = 4
_DEATH_SIGNAL, _SECCOMP, _DROP_BOUNDING, _NO_NEW_PRIVILEGES, _AMBIENT = 1, 22, 24, 38, 47
_FILTER, _CLEAR_ALL = 2, 4
_SIGINT, _SIGTERM, _SIGCHLD = int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGCHLD)
_INET, _DATAGRAMS = int(socket.AF_INET), int(socket.SOCK_DGRAM)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SET_INTERFACE_FLAGS, _UP = 0x8914, 1
#: A program's streams, in the order of its descriptors, and how their files are opened for it.
STREAMS = {"stdin": os.O_RDONLY, "stdout": os.O_WRONLY, "stderr": os.O_WRONLY}
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
#: Programs get user ids from here on where the kernel is root: each its own, so that its processes can be counted.
_FIRST_UID = 1_900_000_000
_MOST_PIDS = 1 << 22
#: How many programs one monitor runs at most: then the user ids that belong to its process id are used up.
PROGRAMS_AT_MOST = 500
#: Python ignores some of these, and what is ignored stays so over exec.
_SIGNALS_OF_PROGRAMS = [
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
]  # fmt: skip
_GO = b"g"
_INT = struct.Struct("@i")
_HOST_NAME, _HOST_PROC = b"box", b"/.proc"
#: Of the folders that are a test's own.
_OF_FOLDERS = struct.pack("=QQQQ", _NO_SUID | _NO_DEVICES, 0, 0, 0)
_NOT_FOUND, _NOT_RUN = 127, 126  # what a shell returns for a program that isn't there, or can't be run

# Calls through PyDLL keep the interpreter's lock: a child that is a copy of this process needs nothing else.
_libc = ctypes.PyDLL(None, use_errno=True)


class Launch(NamedTuple):
    """What a program is started with.

    Attributes:
        request: what the monitor was asked for.
        fds: the monitor's copies of the pipes that are streams of the program, by the streams' names.
        number: how many programs the monitor ran before.
    """

    request: Mapping[str, Any]
    fds: Mapping[str, int]
    builder: BoxBuilder
    number: int

    def uid(self, ahead: int = 0) -> int:
        """Return the user id of the program, or of one that comes later, where the kernel is root; else 0."""
        return _FIRST_UID + (self.number + ahead) * _MOST_PIDS + os.getpid() if self.request["box"]["as_root"] else 0

    def give(self, paths: Iterable[str | int]) -> None:
        """Make the program's user the owner of files, where that user is another than the kernel's."""
        if uid := self.uid():
            for path in paths:
                os.chown(path, uid, uid)

    @property
    def written(self) -> list[str]:
        """The files that are streams of the program and that it writes to."""
        return [self.request[name] for name in ("stdout", "stderr") if name not in self.fds]

    @contextmanager
    def in_folder(self) -> Iterator[None]:
        """Be in the program's folder, where the files of its streams are new, and a process to be killed first."""
        try:
            processes.first_to_die(True)
            os.chdir(self.request["cwd"])
            for path in self.written:
                os.close(os.open(path, _NEW_FILE, 0o600))
            yield
        finally:
            os.chdir("/")  # the kernel removes a folder much faster when it is no process's working folder
            processes.first_to_die(False)

    def spawn(self, argv: list[str]) -> int:
        """Start a process that has the program's streams and environment; return its id."""
        return os.posix_spawn(
            argv[0], argv, self.request["env"], file_actions=self._file_actions(), setsid=True, setsigmask=[],
            setsigdef=_SIGNALS_OF_PROGRAMS,
        )  # fmt: skip

    def _file_actions(self) -> list[tuple[Any, ...]]:
        return [
            (os.POSIX_SPAWN_DUP2, self.fds[name], number)
            if name in self.fds
            else (os.POSIX_SPAWN_OPEN, number, self.request[name], how, 0)
            for number, (name, how) in enumerate(STREAMS.items())
        ]

    @contextmanager
    def streams(self) -> Iterator[list[int]]:
        """Open the program's streams, in their order, until the block is left."""
        opened: list[int] = []
        try:
            opened += map(self._opened, STREAMS)
            yield opened
        finally:
            for fd in opened:
                os.close(fd)

    def _opened(self, name: str) -> int:
        if name in self.fds:
            return os.dup(self.fds[name])
        if name == "stdin":
            return os.open(self.request[name], os.O_RDONLY)
        fd = os.open(self.request[name], _NEW_FILE, 0o600)
        self.give([fd])
        return fd


class Box:
    """A program that runs, in what it runs in, as its monitor sees it. This one is in no box.

    Attributes:
        helpers: how many processes are around the program: each is the parent of the next one.
        pid: of the first of these, or of the program.
        line: readable when the box has reported the program's end; None for a box that reports none.
        end: how the program ended, if the box has reported it.
    """

    helpers = 0
    line: socket.socket | None = None
    end: End | None = None
    pid: int

    @classmethod
    def start(cls, launch: Launch) -> Box:
        """Start a program in a new box.

        Raises:
            OSError, ValueError: it can't be started.
        """
        box = cls()
        with launch.in_folder():
            box.pid = launch.spawn(launch.request["argv"])
        return box

    def order_next(self, launch: Launch) -> None:
        """Have the box of a program built that is likely to follow the one of `launch`."""

    def read_end(self) -> End | None:
        """Return how the program ended, once the box has reported it. To be called when `line` is readable."""
        return None

    def counts(self, pid: int) -> bool:
        """Return whether a child of the monitor belongs to this program, not to an earlier one."""
        return True

    def living(self) -> list[int]:
        """Return the program's processes, and those of its box."""
        return processes.descendants(os.getpid())

    def has_left_nothing(self) -> bool:
        """Return whether no process of the program is left, after its end."""
        return not processes.children(os.getpid())  # one that is left could not be killed in time

    def used_s(self, usage: resource.struct_rusage) -> float:
        """Return the CPU seconds of all programs in the box; `usage` is what was reaped with the process `pid`."""
        return usage.ru_utime + usage.ru_stime

    def exit_code(self, status: int | None) -> int | None:
        """Return the program's exit code, or minus the signal that killed it; None where its end was not seen.

        Args:
            status: of the process `pid`, as `waitpid` gave it.
        """
        return None if status is None else os.waitstatus_to_exitcode(status)

    def why_not(self) -> str:
        """Return why no program started, as far as this is known here; bubblewrap says it on the program's stderr."""
        return ""

    def close(self) -> None:
        """Let go of the box, after the program's end; one whose program was not started ends."""


class Template:
    """The mounts that all boxes of one kind begin with.

    Attributes:
        plan: what it shows, as `isolation.Mounts` lists it.
        fd: a descriptor of its mount namespace, which ends when that is closed.
    """

    def __init__(self, plan: Sequence[Sequence[str]]) -> None:
        self.plan = plan
        ours, theirs = socket.socketpair()
        pid = _clone(_NEWNS)
        if not pid:
            ours.close()  # else its end would never be seen
            _run_child(theirs.fileno(), lambda: _build(plan, theirs))
        theirs.close()
        try:
            said = ours.recv(4096)
            if said == b"built":
                self.fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        finally:
            ours.close()
            os.waitpid(pid, 0)
        if said != b"built":
            raise OSError(f"the mounts of its box: {said.decode('utf-8', 'replace')}")

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self.fd)


class NamespaceBox(Box):
    """New namespaces for one program, whose first process (init) waits until the program is started in them.

    Building a box takes longer than a small program runs, so the next one is built meanwhile (see `BoxBuilder`). It
    knows then what it will run, but neither the folders nor the streams: it gets those as descriptors.

    Attributes:
        uid: of the program, where the user is root; else 0.
    """

    helpers = 1
    line: socket.socket

    def __init__(self, pid: int, line: socket.socket, uid: int) -> None:
        self.pid, self.line, self.uid = pid, line, uid
        self._said = b""

    @classmethod
    def start(cls, launch: Launch) -> NamespaceBox:
        request = launch.request
        template = launch.builder.template(request["box"]["plan"])
        with launch.streams() as streams:
            launch.give(request["box"]["owned"])
            ready = launch.builder.take(template, request, launch.uid())
            try:
                if ready is not None:
                    ready._begin(request, streams)
                    return ready
            except ConnectionError:  # it was killed while it waited
                pass
            new = cls.build(template, request, launch.uid())
            new._begin(request, streams)
            return new

    @classmethod
    def build(cls, template: Template, request: Mapping[str, Any], uid: int, flags: int = 0) -> NamespaceBox:
        """Return a box that begins with the mounts of `template`; `flags` are added to those of clone."""
        line, theirs = socket.socketpair()
        # All that can be laid out before the fork is: a child copies each page that it or this process touches.
        init = _Init(template.fd, request, uid, theirs)
        try:
            pid = _clone(_NEW | flags)
            if not pid:
                _run_child(theirs.fileno(), init.run)
        except BaseException:
            line.close()
            raise
        finally:
            theirs.close()
        return cls(pid, line, uid)

    def _begin(self, request: Mapping[str, Any], streams: Sequence[int]) -> None:
        """Start the program."""
        trees: list[int] = []
        try:
            trees += (_tree(outside.encode()) for outside, _ in request["box"]["folders"])
            socket.send_fds(self.line, [_GO], [*streams, *trees])
        finally:
            for fd in trees:
                os.close(fd)

    def order_next(self, launch: Launch) -> None:
        if launch.number:  # not beside the first program: most wrong solutions fail at their first test
            template = launch.builder.template(launch.request["box"]["plan"])
            launch.builder.order(template, launch.request, launch.uid(ahead=1))

    def read_end(self) -> End | None:
        """Return how the program ended: then no process is left in the box but init, which ends."""
        while self.end is None and (part := self.line.recv(4096)):
            self._said += part
            self.end = End.read(self._said)
        return self.end

    def counts(self, pid: int) -> bool:
        return pid == self.pid  # the init of an earlier program's box may be reaped only now

    def living(self) -> list[int]:
        return [self.pid, *processes.descendants(self.pid)]  # no process leaves it

    def has_left_nothing(self) -> bool:
        return self.end is not None

    def exit_code(self, status: int | None) -> int | None:
        return super().exit_code(None if self.end is None else self.end.status)

    def why_not(self) -> str:
        return self._said.decode("utf-8", "replace") or "the first process of its box was killed"

    def close(self) -> None:
        self.line.close()


class BoxBuilder:
    """Builds the box of the next program while the present one runs, in a process of its own.

    A process whose copy goes on living must copy each page of memory that it writes to. So the monitor, which all tests
    wait for, doesn't fork the boxes: this process does, which has nothing else to do. The first process of each box is
    a child of the monitor all the same.
    """

    def __init__(self) -> None:
        self._template: Template | None = None
        self._line: socket.socket | None = None
        self._kind: tuple[Any, ...] = ()
        self._ordered: int | None = None  # the user id of the box that is being built

    def template(self, plan: Sequence[Sequence[str]]) -> Template:
        """Return the mounts that a box begins with; they are kept for the next program that sees the same."""
        if self._template is not None and self._template.plan != plan:
            self._template.close()
            self._template = None
        if self._template is None:
            _enter_user_namespace()
            self._template = Template(plan)
            _forgo_rights()
        return self._template

    def order(self, template: Template, request: Mapping[str, Any], uid: int) -> None:
        """Have a box built for a program like that of `request`."""
        try:
            self._line_for(template, request).sendall(b"%d\n" % uid)
            self._ordered = uid
        except OSError:  # its process was killed
            self._close()

    def take(self, template: Template, request: Mapping[str, Any], uid: int) -> NamespaceBox | None:
        """Return the box that was ordered; None if there is none, or none for this program."""
        box = self._ordered_box()
        if box is None or (box.uid == uid and self._kind == (template, *_kind_of(request))):
            return box
        box.close()
        return None

    def _ordered_box(self) -> NamespaceBox | None:
        """Wait for the box that was ordered; return None if there is none."""
        uid, self._ordered = self._ordered, None
        if uid is None or self._line is None:
            return None
        try:
            said, fds, _, _ = socket.recv_fds(self._line, 2000, 1)
        except OSError:
            fds = []
        if not fds:  # it could not be built, or its process was killed
            self._close()
            return None
        return NamespaceBox(int(said), socket.socket(fileno=fds[0]), uid)

    def _close(self) -> None:
        """End its process."""
        if self._line is not None:
            self._line.close()
        self._line, self._ordered = None, None

    def _line_for(self, template: Template, request: Mapping[str, Any]) -> socket.socket:
        """Return the connection to the process that builds boxes for such programs; start it where there is none."""
        kind = (template, *_kind_of(request))
        if self._line is None or self._kind != kind:
            self._close()
            self._kind = kind
            self._line, theirs = socket.socketpair()
            with theirs:
                if not os.fork():
                    _run_child(theirs.fileno(), lambda: _serve(theirs, template, request))
        return self._line


class End(NamedTuple):
    """How a program in a box ended, as init reports it.

    Attributes:
        status: as `waitpid` gave it.
        began: when the program was started; `ended`: when it had ended. Both by the monotonic clock.
        cpu_s: CPU seconds of the program and of all other processes in the box.
        memory_bytes: the most that one of them held.
    """

    status: int
    began: float
    ended: float
    cpu_s: float
    memory_bytes: int

    def text(self) -> bytes:
        """Return a line that `read` reads."""
        return b"end %d %.6f %.6f %.6f %d\n" % self

    @classmethod
    def read(cls, said: bytes) -> End | None:
        """Return what a line says; None where it is another, or not complete."""
        if not said.startswith(b"end ") or not said.endswith(b"\n"):
            return None
        _, status, began, ended, cpu_s, memory_bytes = said.split()
        return cls(int(status), float(began), float(ended), float(cpu_s), int(memory_bytes))


def _kind_of(request: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a box is built for: a program for which this is the same can be started in it."""
    insides = [inside for _, inside in request["box"]["folders"]]
    return request["argv"], request["env"], request["processes"], insides


@lru_cache(1)
def _enter_user_namespace() -> None:
    """Become able to make the other namespaces, where the user is not root. It can't be undone in this process."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    _check(_libc.unshare(_NEWUSER | _NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


# ---- in children, which are copies of this process


def _run_child(report: int, work: Callable[[], None]) -> NoReturn:
    """Do a child's work and end; what fails is written to `report`."""
    try:
        work()
    except BaseException as e:
        os.write(report, f"{type(e).__name__}: {e}".encode()[:2000])
    finally:
        os._exit(0)


def _serve(line: socket.socket, template: Template, request: Mapping[str, Any]) -> None:
    """Build a box for each user id that arrives on `line`, and send back its init's id and the connection to it."""
    _leave_monitor()
    _close_all_but(line.fileno(), template.fd)
    while ordered := line.recv(100):
        box = NamespaceBox.build(template, request, int(ordered), _PARENT)
        socket.send_fds(line, [b"%d" % box.pid], [box.line.fileno()])
        box.close()


def _leave_monitor() -> None:
    """End with the monitor, and leave its signals to it."""
    _check(_libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "prctl")
    signal.set_wakeup_fd(-1)
    for number in (_SIGINT, _SIGTERM, _SIGCHLD):
        _libc.signal(number, None)  # in a box, no signal from inside reaches a first process without handlers


def _close_all_but(*kept: int) -> None:
    """Close all descriptors but the standard streams and these."""
    first = 3
    for fd in (*sorted(kept), _LAST_DESCRIPTOR + 1):
        if first < fd:
            _check(_libc.syscall(_CLOSE_RANGE, first, fd - 1, 0), "close_range")
        first = fd + 1


def _build(plan: Sequence[Sequence[str]], line: socket.socket) -> None:
    """Build the template in a new mount namespace, and stay until the monitor holds that."""
    _check(_libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "prctl")
    os.umask(0o022)
    _mount(None, "/", None, _SLAVE | _REC)
    base = "/tmp" if os.path.isdir("/tmp") else "/"
    _mount("tmpfs", base, "tmpfs", _NO_SUID | _NO_DEVICES)
    for name in ("new", "old"):
        os.mkdir(f"{base}/{name}", 0o755)
    _pivot(base, f"{base}/old")
    os.chdir("/")
    _mount("tmpfs", "/new", "tmpfs", _NO_SUID | _NO_DEVICES, "mode=0755")
    for name in ("proc", "dev", "tmp", "work"):
        os.mkdir(f"/new/{name}", 0o755)
    _build_devices()
    for operation, *paths in plan:
        _SHOW[operation](*paths)
    if os.geteuid():  # a user namespace may mount a /proc only where it sees one
        at = f"/new{_HOST_PROC.decode()}"
        os.mkdir(at, 0o755)
        _mount("/old/proc", at, None, _BIND | _REC)
    for at in ("/new/dev", "/new"):
        _set_attributes(at, _READ_ONLY)
    os.chdir("/new")
    _pivot(".", ".")
    _check(_libc.umount2(b".", _DETACH), "umount2")
    os.chdir("/")
    line.sendall(b"built")
    line.recv(1)


def _show_folder(at: str) -> None:
    os.makedirs(f"/new{at}", 0o755, exist_ok=True)


def _show_link(target: str, at: str) -> None:
    _show_folder(os.path.dirname(at))
    os.symlink(target, f"/new{at}")


def _show_nothing(at: str) -> None:
    _show_folder(at)
    _mount("tmpfs", f"/new{at}", "tmpfs", _NO_SUID | _NO_DEVICES | _READ_ONLY, "mode=0755")


def _show_read_only(outside: str, at: str) -> None:
    source, inside = f"/old{outside}", f"/new{at}"
    if os.path.isdir(source):
        _show_folder(at)
    else:
        _show_folder(os.path.dirname(at))
        if not os.path.lexists(inside):
            _make_file(inside)
    _mount(source, inside, None, _BIND | _REC)
    _set_attributes(inside, _READ_ONLY | _NO_SUID | _NO_DEVICES, _RECURSIVE)


#: The operations of a plan (see `isolation.Step`).
_SHOW: Mapping[str, Callable[..., None]] = {
    "dir": _show_folder, "symlink": _show_link, "tmpfs": _show_nothing, "ro-bind": _show_read_only,
}  # fmt: skip


def _make_file(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _build_devices() -> None:
    """Make a /dev with what bubblewrap puts into its own."""
    _mount("tmpfs", "/new/dev", "tmpfs", _NO_SUID, "mode=0755")
    for name in _DEVICES:
        if os.path.exists(f"/old/dev/{name}"):
            _make_file(f"/new/dev/{name}")
            _mount(f"/old/dev/{name}", f"/new/dev/{name}", None, _BIND)
            _set_attributes(f"/new/dev/{name}", _NO_SUID | _NO_PROGRAMS)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"/new/dev/{name}")
    os.symlink("/proc/self/fd", "/new/dev/fd")
    for name in ("shm", "pts"):
        os.mkdir(f"/new/dev/{name}", 0o755)
    _mount("devpts", "/new/dev/pts", "devpts", _NO_SUID | _NO_PROGRAMS, "newinstance,ptmxmode=0666,mode=620")
    os.symlink("pts/ptmx", "/new/dev/ptmx")


class _Init:
    """The first process of a box: it builds the box, starts the program, and reports how that ended."""

    def __init__(self, template: int, request: Mapping[str, Any], uid: int, line: socket.socket) -> None:
        self._request, self._uid, self._line = request, uid, line
        self._inside = [inside.encode() for _, inside in request["box"]["folders"]]
        self._template = template
        self._interface = ctypes.create_string_buffer(struct.pack("16sH22x", b"lo", _UP))
        self._arguments = _arguments()

    def run(self) -> None:
        """Do all of it, in the new process."""
        self._build()
        fds = self._wait()
        if not fds:
            return  # no program is needed any more
        streams, trees = fds[: len(STREAMS)], fds[len(STREAMS) :]
        for fd, inside in zip(trees, self._inside, strict=True):
            _check(_libc.syscall(_MOVE_MOUNT, fd, b"", _HERE, inside, _FROM_EMPTY_PATH), "move_mount")
            os.close(fd)
        os.chdir(self._inside[0])
        began = time.monotonic()
        status = self._run(streams)
        ended = time.monotonic()
        self._kill_all()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        end = End(status, began, ended, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
        self._line.sendall(end.text())

    def _build(self) -> None:
        """Build the box but for the folders of the test, and give up what is not needed for those."""
        _leave_monitor()
        processes.first_to_die(True)  # before this process and its monitor, programs
        start, size = self._arguments
        ctypes.memset(start, 0, size)  # any program may read /proc/1/cmdline: it holds paths of the machine
        _check(_libc.setns(self._template, _NEWNS), "setns")
        _check(_libc.unshare(_NEWNS), "unshare")
        flags = _NO_SUID | _NO_DEVICES | _NO_PROGRAMS | _READ_ONLY
        _check(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount /proc")
        if not self._uid:
            _check(_libc.umount2(_HOST_PROC, _DETACH), "umount2")
        any_socket = _check(_libc.socket(_INET, _DATAGRAMS | _CLOSE_ON_EXEC, 0), "socket")  # leads to the box's network
        _check(_libc.ioctl(any_socket, _SET_INTERFACE_FLAGS, self._interface), "ioctl")
        _check(_libc.sethostname(_HOST_NAME, len(_HOST_NAME)), "sethostname")
        most = self._request["processes"] + 1  # this process counts as one of the user's
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        if self._uid:
            os.setgroups([])
            os.setresgid(self._uid, 0, 0)
            os.setresuid(self._uid, 0, 0)
        _close_all_but(self._line.fileno())

    def _wait(self) -> list[int]:
        """Wait for the streams and the folders, as descriptors; return none where no program will be started."""
        size = (len(STREAMS) + len(self._inside)) * _INT.size
        # Closed when the program is loaded; `socket.recv_fds` ignores such flags before Python 3.12.
        _, messages, _, _ = self._line.recvmsg(len(_GO), socket.CMSG_LEN(size), socket.MSG_CMSG_CLOEXEC)
        return [fd for _, _, data in messages for (fd,) in _INT.iter_unpack(data)]

    def _run(self, streams: Sequence[int]) -> int:
        """Run the program to its end; return its status, as a shell would where the program can't be started."""
        try:
            pid = self._start(streams)
        except OSError as e:
            os.write(streams[2], f"nbrun: {self._request['argv'][0]}: {e.strerror}\n".encode())
            return (_NOT_FOUND if isinstance(e, FileNotFoundError) else _NOT_RUN) << 8
        for fd in streams:
            os.close(fd)  # the program alone has its streams: it may close them to say that it has said everything
        if self._uid:
            os.setresuid(0, 0, 0)
        return self._reap(pid)

    def _start(self, streams: Sequence[int]) -> int:
        """Start the program, which begins as its real user.

        It loses what is left of its rights when it is loaded: the capabilities of a user who is not root, and root's
        effective user id (see `_forgo_rights`).
        """
        argv, env = self._request["argv"], self._request["env"]
        return os.posix_spawn(
            _found(argv[0], env.get("PATH", "")), argv, env, setsid=True, resetids=True, setsigmask=[],
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)],
            setsigdef=_SIGNALS_OF_PROGRAMS,
        )  # fmt: skip

    def _reap(self, program: int) -> int:
        """Wait for the program's end, and for orphans that end before it; return its status."""
        ended, status = 0, 0
        while ended != program:
            ended, status = os.waitpid(-1, 0)
        return status

    def _kill_all(self) -> None:
        """End what the program has left in the box, and wait until nothing of it is there."""
        try:
            os.kill(-1, signal.SIGKILL)  # all at once: none of them can make another one meanwhile
            while True:
                os.waitpid(-1, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@lru_cache(1)
def _forgo_rights() -> None:
    """Give up, for this process and all programs, what no program may do. It can't be undone.

    The calls that the filter forbids, and gaining rights: a program that is loaded has no capabilities. This process
    keeps those that it has: it builds boxes with them.
    """
    number = 0
    while _libc.prctl(_DROP_BOUNDING, number, 0, 0, 0) == 0:
        number += 1
    _libc.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    _check(_libc.prctl(_SECCOMP, _FILTER, _filter(), 0, 0), "seccomp")


def _tree(path: bytes) -> int:
    """Return a descriptor of a folder as a mount that is nowhere yet."""
    fd = _check(_libc.syscall(_OPEN_TREE, _HERE, path, _CLONE | _CLOSE_ON_EXEC), "open_tree")
    _check(_libc.syscall(_MOUNT_SETATTR, fd, b"", _EMPTY_PATH, _OF_FOLDERS, len(_OF_FOLDERS)), "mount_setattr")
    return fd


def _found(program: str, folders: str) -> str:
    """Return the path of a program, looked for as a shell would."""
    paths = [os.path.join(folder, program) for folder in folders.split(":")] if "/" not in program else []
    return next(filter(os.path.exists, paths), program)


@lru_cache(1)
def _filter() -> bytes:
    """Return the filter of system calls as the kernel takes it."""
    data = _forbidden_calls()
    _kept.append(ctypes.create_string_buffer(data, len(data)))
    return struct.pack("@HP", len(data) // 8, ctypes.addressof(_kept[-1]))


_kept: list[Any] = []  # what addresses lead to


@lru_cache(1)
def _arguments() -> tuple[int, int]:
    """Return where this process's arguments and environment are in its memory, and their size."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[48])
    return start, end - start


# ---- system calls by number: those that programs may not make, and those that Python has no functions for

#: Calls that programs of contests don't need, as if the system had none of them. In this order: memory that is in no
#: process and no folder (memfd_create, memfd_secret, shmget); keyrings, which outlive processes (add_key, request_key,
#: keyctl); ways around the limits or into the system (io_uring_setup, userfaultfd, perf_event_open, bpf).
_MISSING_X86 = (319, 447, 29, 248, 249, 250, 425, 323, 298, 321)
_MISSING_ARM = (279, 447, 194, 217, 218, 219, 425, 282, 241, 280)
#: A machine's id, its clone and unshare, and those.
_MACHINES = {"x86_64": (0xC000003E, 56, 272, _MISSING_X86), "aarch64": (0xC00000B7, 220, 97, _MISSING_ARM)}
_CLONE3 = 435  # both machines'
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026

#: To make a child in new namespaces, and to make a folder the root of a mount namespace.
_CLONES = {"x86_64": 56, "aarch64": 220}
_PIVOTS = {"x86_64": 155, "aarch64": 41}


@lru_cache(1)
def _forbidden_calls() -> bytes:
    """Return a filter of system calls, as BPF; empty if this machine's call numbers are not known here.

    It denies new user namespaces, in which a program would be root and could mount file systems (clone3 hides its flags
    behind a pointer: the C library falls back to clone if it is missing), and hides the calls listed above.
    """
    known = _MACHINES.get(os.uname().machine)
    if known is None:
        return b""
    machine, clone, unshare, missing = known
    load, equal, at_least, bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    lines = [
        (load, "", "", 4),  # the machine whose numbers the call uses
        (equal, "", "absent", machine),  # another one's: 32 bits
        (load, "", "", 0),  # the call
        (at_least, "absent", "", 0x40000000),  # x32
        *((equal, "absent", "", number) for number in (_CLONE3, *missing)),
        (equal, "flags", "", clone),
        (equal, "flags", "allowed", unshare),
        (load, "", "", 16),  # its first argument: the flags
        (bits, "denied", "allowed", _NEWUSER),
        (answer, "", "", _EPERM),
        (answer, "", "", _ALLOW),
        (answer, "", "", _ENOSYS),
    ]
    places = {"flags": len(lines) - 5, "denied": len(lines) - 3, "allowed": len(lines) - 2, "absent": len(lines) - 1}
    return b"".join(
        struct.pack("=HBBI", code, *(places[to] - at - 1 if to else 0 for to in (true, false)), value)
        for at, (code, true, false, value) in enumerate(lines)
    )


def is_supported() -> bool:
    """Return whether the numbers of this machine's system calls are known here."""
    return sys.platform == "linux" and os.uname().machine in _CLONES


def _clone(flags: int) -> int:
    """Fork, into new namespaces. The child has this process's memory, and no thread but this one."""
    number = _CLONES[os.uname().machine]
    return _check(_libc.syscall(number, flags | signal.SIGCHLD, 0, 0, 0, 0), "clone")


def _pivot(new: str, old: str) -> None:
    _check(_libc.syscall(_PIVOTS[os.uname().machine], new.encode(), old.encode()), "pivot_root")


def _mount(source: str | None, at: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, at, kind, options)]
    _check(_libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mount {at}")


def _set_attributes(at: str, attributes: int, how: int = 0) -> None:
    packed = struct.pack("=QQQQ", attributes, 0, 0, 0)
    _check(_libc.syscall(_MOUNT_SETATTR, _HERE, at.encode(), how, packed, len(packed)), f"mount_setattr {at}")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)} ({errno.errorcode.get(number)})")
    return int(result)


# ---- bubblewrap
#
# It starts with the program's environment, so that nothing of the kernel's can be read in the box, and takes its
# arguments over a pipe, so that no path of the machine appears in /proc/1/cmdline.
#
#     monitor ─ bwrap (outside) ─ bwrap (process 1 of the box) ─ program
#
# When the monitor or the outer bwrap ends, process 1 ends, and with it everything in the box.

#: The outer bubblewrap uses a few ms itself; if more was used, the program's time is included.
_OWN_S = 0.1
_SIGNALS = {int(number) for number in signal.Signals}
_ALONE = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_ONLY_TO_DROP = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")


class BubblewrapBox(Box):
    """bwrap around one program. The CPU time of the outer bwrap is not the program's."""

    helpers = 2  # bubblewrap outside, and process 1 inside

    def __init__(self, status: int) -> None:
        self._status, self._reported = status, b""  # what bubblewrap reports: where it is read, and what was

    @classmethod
    def start(cls, launch: Launch) -> BubblewrapBox:
        status, report = os.pipe()
        held, release = os.pipe()
        self = cls(status)
        given = [report, held]
        try:
            given += _with_arguments(launch.request["box"], report, held)
            self._spawn(launch, given)
        finally:
            for fd in given:
                os.close(fd)
        try:
            if launch.uid() or _counts_by_namespace():
                self._limit_processes(launch.request["processes"])
        finally:
            os.close(release)  # the end of file lets the program begin
        return self

    def _spawn(self, launch: Launch, given: Sequence[int]) -> None:
        """Start bubblewrap, which inherits the descriptors `given` and reads its arguments from the last of them."""
        for fd in given:
            os.set_inheritable(fd, True)
        box, uid = launch.request["box"], launch.uid()
        command = [box["bwrap"], "--args", str(given[-1]), "--"]
        if uid:
            command += [box["setpriv"], f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]
        with launch.in_folder():
            launch.give([*box["owned"], *launch.written])
            self.pid = launch.spawn([*command, *launch.request["argv"]])

    def _limit_processes(self, most: int) -> None:
        """Limit the number of processes. With its own user namespace or user id, only this program's are counted."""
        self._read(b"\n")
        pid = self._said("child-pid")
        if pid is not None:
            try:
                resource.prlimit(pid, resource.RLIMIT_NPROC, (most, most))
            except (OSError, ValueError):
                pass  # it has ended, or this isn't allowed: then the monitor alone counts

    def used_s(self, usage: resource.struct_rusage) -> float:
        used_s = super().used_s(usage)
        return used_s if used_s > _OWN_S else 0.0

    def exit_code(self, status: int | None) -> int | None:
        """Return the program's, or minus the signal that killed it; None if it didn't start or died with bwrap."""
        self._read(None)
        os.close(self._status)
        code = self._said("exit-code")
        if code is not None and code > 128 and code - 128 in _SIGNALS:
            return 128 - code  # as a shell does it; bubblewrap reports no more
        return code

    def _read(self, until: bytes | None) -> None:
        while until is None or not self._reported.endswith(until):
            part = os.read(self._status, 4096)
            if not part:
                break
            self._reported += part

    def _said(self, key: str) -> int | None:
        found = re.search(rb'"%b": *(\d+)' % key.encode(), self._reported)
        return None if found is None else int(found[1])


def _with_arguments(box: Mapping[str, Any], report: int, held: int) -> list[int]:
    """Return descriptors from which bubblewrap reads the filter of system calls, if there is one, and its arguments."""
    arguments = [*_words_for(box), "--json-status-fd", str(report), "--block-fd", str(held)]
    fds: list[int] = []
    if seccomp := _forbidden_calls():
        fds.append(_filled(seccomp))
        arguments += ["--seccomp", str(fds[-1])]
    fds.append(_filled("".join(f"{argument}\0" for argument in arguments).encode()))
    return fds


def _words_for(box: Mapping[str, Any]) -> list[str]:
    """Return bubblewrap's arguments for a box."""
    work, *others = [("--bind", outside, inside) for outside, inside in box["folders"]]
    plan = ((f"--{operation}", *paths) for operation, *paths in box["plan"])
    return [
        *(*_ALONE, "--die-with-parent", "--new-session", "--hostname", "box"),
        *(_ONLY_TO_DROP if box["as_root"] else ("--unshare-user",)),
        *("--proc", "/proc", "--dev", "/dev"),
        *(chain(*others) if others else ("--dir", "/tmp")),
        *("--remount-ro", "/dev", *chain(*plan), *work, "--remount-ro", "/", "--chdir", work[-1]),
    ]


@lru_cache(1)
def _counts_by_namespace() -> bool:
    """Return whether RLIMIT_NPROC counts per user namespace (Linux 5.14) instead of all the user's processes."""
    try:
        major, minor = os.uname().release.split(".")[:2]
        return (int(major), int(minor.split("-")[0])) >= (5, 14)
    except ValueError:
        return False


def _filled(data: bytes) -> int:
    """Return the reading end of a pipe that contains `data` and then ends."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)  # a few KB at most: a pipe takes 64 at once
    finally:
        os.close(writing)
    return reading


#: How programs are kept apart -> the class of what they run in.
KINDS: Mapping[str, type[Box]] = {"none": Box, "bubblewrap": BubblewrapBox, "namespaces": NamespaceBox}
