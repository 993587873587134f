"""The processes that run programs: the supervisor, which forks a monitor for each, and the monitors.

Each has one thread. A monitor runs one program under its limits, from fork to the last of its descendants, or one after
another for a task whose programs have the same limits: each in a box of its own, and the next one only after a program
that ended by itself and left no process. What a program can see is the box's business.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

from . import STARVED, folder_bytes, processes, remove_tree
from .boxes import KINDS, PROGRAMS_AT_MOST, STREAMS, Box, BoxBuilder, Launch

_FOLDER_EVERY_S = 0.25
_OPEN_FILES = 256
#: It looks at a program's processes first after this many milliseconds, then at growing intervals. Most programs of
#: contests have ended by the first look. One that talks over pipes may close them at any time, and its partner waits.
_FIRST_LOOK_MS, _FIRST_LOOK_BESIDE_PIPES_MS, _LOOK_EVERY_MS = 20, 5, 50
#: A pause between two looks that is longer was not its own.
_GAP_S = 0.5
#: A monitor that runs programs one after another ends after this CPU time of its own, since it is under the limit of
#: its programs itself: at least 2 s.
_OWN_CPU_S = 0.25
#: It looks this often, in milliseconds, whether the supervisor is still there.
_IDLE_MS = 500


def run_monitor(line: socket.socket, supervisor: int) -> None:
    """Run the programs that are asked for on `line`, one after another, and report there how each ended.

    Return when the other end is closed, when the process `supervisor` is gone, or after a program that ended by a
    limit, didn't start, or left processes behind.

    Raises:
        OSError: the kernel has closed the connection.
    """
    wake = wake_on_child()
    processes.become_subreaper()
    builder = BoxBuilder()
    number, stays = 0, True
    while stays and _is_asked(line, wake, supervisor):
        request, fds = _read_request(line)
        monitor = Monitor(request, line, wake, fds, builder, number)
        report = monitor.run()
        number += 1
        may_stay = time.process_time() < _OWN_CPU_S and number < PROGRAMS_AT_MOST
        report["stays"] = stays = may_stay and request["stays"] and monitor.has_ended_well(report)
        line.sendall(json.dumps(report).encode() + b"\n")
        monitor.box.close()


def _is_asked(line: socket.socket, wake: int, supervisor: int) -> bool:
    """Wait for the next request; False if none will come."""
    poller = waiting_for(wake, line)
    while os.getppid() == supervisor:
        ready = ready_of(poller, _IDLE_MS)
        if drain(wake):
            return False  # SIGTERM
        if line.fileno() in ready:
            return line.recv(1, socket.MSG_PEEK) != b""
    return False


def _read_request(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the request, and the descriptors that came with it."""
    text, fds = b"", []
    while not text.endswith(b"\n"):
        part, more, _, _ = socket.recv_fds(line, 65536, 4)
        fds += more
        if not part:
            break
        text += part
    for fd in fds:
        os.set_inheritable(fd, False)
    return json.loads(text), fds


class Monitor:
    """One program under its limits, from fork to the last of its descendants. It is the `number`-th of its process.

    Threads: none; it is all that its process does meanwhile.
    """

    def __init__(
        self, request: dict[str, Any], line: socket.socket, wake: int, fds: list[int], builder: BoxBuilder, number: int
    ) -> None:
        self.request, self.line, self.wake = request, line, wake
        #: Our copies of the pipes that are streams of the program, by the streams' names, in the order of `STREAMS`.
        self.fds = {name: fds[at] for name in STREAMS if isinstance(at := request[name], int)}
        self._launch = Launch(request, self.fds, builder, number)
        self._main = 0  # the id of the program's first process, once it was looked for
        self.cause: str | None = None  # which limit ended it
        self.status: int | None = None  # as waitpid gave it
        self._return_code: int | None = None
        self.memory_bytes = 0
        self.reaped_bytes = 0  # the most that one process held of those that have ended
        self.box = Box()  # until the program's own was built
        self.account = processes.Account()
        self.started = self.ended = time.monotonic()
        #: When the program itself was there: to build a box may take a busy machine long.
        self.began: float | None = None
        self._is_there = False
        self._looked_at = self.started
        self._stopped_s = 0.0  # in which this process itself didn't run, though it wanted to
        self._folder_at = self.started + _FOLDER_EVERY_S
        self._talks = bool(fds)  # with another program, over pipes
        self._was_unheard = False
        self.delay_s = 0.0  # how long a program that talks was ready without getting a CPU

    def run(self) -> dict[str, Any]:
        """Run the program and return the report on how it ended."""
        try:
            self._spawn()
        except (OSError, ValueError) as e:
            failure: str | None = f"{type(e).__name__}: {e}"
            self._release()
        else:
            failure = self._follow()
        return {
            "return_code": self._return_code,
            "cause": self.cause,
            "failure": failure,
            "cpu_s": self.account.cpu_s,
            "wall_s": self.ended - (self.began or self.started),
            "is_unheard": self._was_unheard,
            "delay_s": self.delay_s,
            "memory_bytes": max(self.memory_bytes, self.reaped_bytes),
        }

    def has_ended_well(self, report: Mapping[str, Any]) -> bool:
        """Return whether the program ended by itself and left no process."""
        return (report["failure"], report["cause"]) == (None, None) and self.box.has_left_nothing()

    def _spawn(self) -> None:
        """Start the program.

        The limits and the umask are this process's own: a program inherits them without any Python running between fork
        and exec, and posix_spawn copies no memory.

        Raises:
            OSError, ValueError: it can't be started.
        """
        if not self._launch.number:  # its later programs have the same limits
            _become_small(self.request)
        self.box = KINDS[self.request["box"]["kind"]].start(self._launch)

    def _follow(self) -> str | None:
        """Watch the program to its end and kill what it left; return what was wrong with its box, or None."""
        if self.request["more"]:
            self.box.order_next(self._launch)
        self._watch()
        self._was_unheard = self._is_unheard()
        self.ended = time.monotonic()
        self._release()
        self._kill_all()
        if self.box.end is not None:
            self.began, self.ended = self.box.end.began, self.box.end.ended
        self._return_code = self.box.exit_code(self.status)
        return self._failure_of_box()

    def _failure_of_box(self) -> str | None:
        """Return what was wrong with the box of a program that has ended."""
        if self.cause == "box":
            return "the machine took too long to build or to remove its box"
        if self.box.helpers and self._return_code is None and self.cause is None:
            return f"its box was not built: {self.box.why_not() or _head(self.request['stderr'])}"
        return None

    def _release(self) -> None:
        """Close our copies of the pipes between two programs that talk, once this one has ended.

        Until then its end is not visible: a program whose partner ends gets an end of file or a broken pipe only after
        that end was noticed here. So of two that end within a millisecond, the one that caused it is known.

        Its input is closed before its output: a partner that ends because nothing more will come must find already that
        no process reads what it writes, which is how `_is_unheard` recognizes the cause.
        """
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()

    def _release_closed(self, living: list[int]) -> None:
        """Close our copies of pipes that the program has closed while it goes on: its partner may wait for that.

        A program that is ending has closed all of its files too, and the process that waits for it may be slow to say
        so: its streams stay open until its end is noticed (see `_release`).
        """
        self._main = self._main or self._main_process()
        held = processes.open_pipes(living)
        if not held or not self._main or processes.is_ending(self._main):  # in this order
            return
        closed = [name for name, fd in self.fds.items() if processes.identity(os.fstat(fd)) not in held]
        for name in closed:  # its input first: see `_release`
            os.close(self.fds.pop(name))

    def _main_process(self) -> int:
        """Return the id of the program's first process; 0 while it hasn't started."""
        pid = self.box.pid
        for _ in range(self.box.helpers):
            pid = next(iter(processes.children(pid)), 0)
        return pid

    def _is_unheard(self) -> bool:
        """Return whether the reader of what the program writes to a pipe had closed that, or ended, before it ended.

        Whatever the reader says was then not caused by this program's end.
        """
        if not isinstance(self.request["stdout"], int):
            return False
        fd = self.fds.get("stdout")
        if fd is None:
            return True  # it closed the pipe itself
        poller = select.poll()
        poller.register(fd, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))

    def _watch(self) -> None:
        """Return when the program has ended, is cancelled, or has exceeded a limit, which is then its `cause`."""
        poller = waiting_for(self.wake, self.line)
        if self.box.line is not None:
            poller.register(self.box.line, select.POLLIN)
        wait_ms = _FIRST_LOOK_BESIDE_PIPES_MS if self.fds else _FIRST_LOOK_MS
        while self.cause is None:
            if self._has_ended(poller, ready_of(poller, wait_ms)):
                return
            self.cause = self.cause or self._exceeded()
            wait_ms = min(_LOOK_EVERY_MS, wait_ms * 2)

    def _has_ended(self, poller: select.poll, ready: set[int]) -> bool:
        """Return whether the program has ended, going by what is `ready` to be read; notice that it is cancelled."""
        box = self.box.line
        if box is not None and box.fileno() in ready:
            if self._is_reported():
                return True
            poller.unregister(box)  # the first process of the box was killed
        if drain(self.wake) or self.line.fileno() in ready:
            self.cause = "cancelled"  # cancelled, or end of file
        return self._is_reaped()

    def _is_reported(self) -> bool:
        """Return whether the box has reported the program's end, after which no process of it is left."""
        end = self.box.read_end()
        if end is not None:
            self.status, self.reaped_bytes = end.status, end.memory_bytes
            self.account.reaped(end.cpu_s)
        return end is not None

    def _is_reaped(self) -> bool:
        """Return whether the program itself has ended; orphans of its that ended are reaped with it."""
        try:
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                self._count(*ended)
        except ChildProcessError:
            return True
        return self.status is not None

    def _count(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        """A child was reaped: what it used, with all that it waited for. The work of the box itself is left out."""
        if not self.box.counts(pid) or self._is_reported():
            return
        self.reaped_bytes = max(self.reaped_bytes, processes.maxrss_bytes(usage))
        if pid == self.box.pid:
            self.status = status
            self.account.reaped(self.box.used_s(usage))
        else:
            self.account.reaped(usage.ru_utime + usage.ru_stime)

    def _exceeded(self) -> str | None:
        """Return the limit that the living program and its descendants have exceeded by now, or None."""
        request, living = self.request, self.box.living()
        now = self._look(living)
        used = {"cpu": self.account.cpu_s, "memory": self.memory_bytes, "processes": len(living)}
        allowed = {"cpu": request["cpu_s"], "memory": request["memory_bytes"], "processes": request["processes"]}
        for cause, amount in used.items():
            if amount > allowed[cause]:
                return cause
        return self._waited_too_long(living, now) or self._wrote_too_much(living, now)

    def _look(self, living: list[int]) -> float:
        """Update what is known of the program from its living processes; return the time."""
        if self._talks:
            self.delay_s = max(self.delay_s, _delay_s(living))
        if self.fds:
            self._release_closed(living)
        self._count_living(living)
        now = time.monotonic()
        if now - self._looked_at > _GAP_S:  # stopped with its programs, or the machine was suspended
            self._stopped_s += now - self._looked_at
        self._looked_at = now
        return now

    def _count_living(self, living: list[int]) -> None:
        """Add the memory and the CPU time of the living processes, and see whether the program is among them."""
        seen = {pid: processes.usage(pid) for pid in living}
        resident = sum(usage.memory_bytes for usage in seen.values())
        helpers = self.box.helpers
        # Without a box the program is there from the start, also where the system shows no processes (macOS).
        self._is_there = not helpers or sum(not usage.is_dead for usage in seen.values()) > helpers
        if helpers:
            seen.pop(self.box.pid, None)
        self.account.look(seen, time.monotonic())
        if resident > self.request["memory_bytes"]:
            resident = _shared_fairly(living, resident)
        self.memory_bytes = max(self.memory_bytes, resident)

    def _wrote_too_much(self, living: list[int], now: float) -> str | None:
        """Return whether the program's folder holds more than it may; look now and then."""
        if now <= self._folder_at:
            return None
        self._folder_at = now + _FOLDER_EVERY_S
        written = folder_bytes(self.request["watched"]) + sum(map(processes.deleted_bytes, living))
        return "files" if written > self.request["folder_bytes"] else None

    def _waited_too_long(self, living: list[int], now: float) -> str | None:
        """Return the cause if the program's own wall time is over, without what its box takes before and after."""
        limit_s = self.request["wall_s"]
        if not self._is_there:
            return "box" if now - self.started > 2 * STARVED * limit_s else None
        self.began = self.began or (now if self.box.helpers else self.started)
        wall_s = now - self.began - self._stopped_s
        if wall_s <= limit_s:
            return None
        waited_s = min(_delay_s(living), (STARVED - 1) * limit_s)
        return "wall" if wall_s - waited_s > limit_s else None

    def _kill_all(self) -> None:
        if self.box.end is not None:
            return  # none is left
        try:
            os.killpg(self.box.pid, signal.SIGKILL)
        except OSError:
            pass
        processes.kill_descendants(5.0, self.box.pid, self._count)


def _delay_s(living: list[int]) -> float:
    """Return how long one of these processes was ready without getting a CPU, at most."""
    return max(map(processes.run_delay_s, living), default=0.0)


def _shared_fairly(living: list[int], resident: int) -> int:
    """Return the memory of these processes together; pages that they share (after a fork, all) count once."""
    return sum(filter(None, map(processes.shared_fairly_bytes, living))) or resident


def _become_small(request: dict[str, Any]) -> None:
    os.umask(0o022)
    cpu_s = int(request["cpu_s"]) + 2  # for each process alone; the monitor counts them together, and sooner
    _limit(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _limit(resource.RLIMIT_FSIZE, request["file_bytes"])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)  # data in pipes and sockets is memory that is not counted
    # The whole memory may be stack. With a finite limit each thread would reserve as much; the address space bounds it.
    _limit(resource.RLIMIT_STACK, resource.RLIM_INFINITY)
    if request["address_bytes"]:
        _limit(resource.RLIMIT_AS, request["address_bytes"])


def _head(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(500).decode("utf-8", "replace").strip()


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    def size(value: int) -> float:
        return math.inf if value == resource.RLIM_INFINITY else value

    top = resource.getrlimit(which)[1]
    wanted = (soft, soft if hard is None else hard)
    resource.setrlimit(which, tuple(min(value, top, key=size) for value in wanted))  # type: ignore[arg-type]  # two


# ---- the supervisor itself


def serve(fd: int, root: str, parent: int) -> None:
    """Serve the kernel at the other end of `fd` until it closes the socket or dies; then remove `root`."""
    gc.disable()  # a collection would copy the pages that monitors share
    # An interrupt or a hang-up of the whole process group ends no program: what ends this is the kernel's end. The
    # monitors inherit this; programs do not.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    processes.become_subreaper()
    wake = wake_on_child()
    monitors: set[int] = set()
    with socket.socket(fileno=fd) as kernel:
        poller = waiting_for(kernel, wake)
        while os.getppid() == parent:  # a forked copy of the kernel may hold the socket open after its death
            ready = ready_of(poller, 1000)
            drain(wake)
            if kernel.fileno() in ready:
                word, fds, _, _ = socket.recv_fds(kernel, 1, 1)
                if not word:
                    break
                os.set_inheritable(fds[0], False)  # a program that held it could write its own report
                monitors.add(_fork_monitor(kernel, fds[0]))
            _reap(monitors)
    _end(monitors)
    remove_tree(root)


def _fork_monitor(kernel: socket.socket, fd: int) -> int:
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        os.close(fd)
        return pid
    try:
        kernel.close()  # else the kernel could go on writing to a dead supervisor
        with socket.socket(fileno=fd) as line:
            run_monitor(line, supervisor)
    finally:
        os._exit(0)


def _reap(monitors: set[int]) -> None:
    try:
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            monitors.discard(pid)
    except ChildProcessError:
        monitors.clear()
    orphans = set(processes.children(os.getpid())) - monitors  # their monitor was killed, perhaps by the program
    for pid in orphans:
        processes.kill(pid)


def _end(monitors: set[int]) -> None:
    for pid in monitors:
        processes.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 1.5
    while monitors and time.monotonic() < deadline:
        time.sleep(0.005)
        _reap(monitors)
    processes.kill_descendants(2.0)


# ---- what both need


def wake_on_child() -> int:
    """Return a pipe that becomes readable when a child ends or SIGTERM arrives. It replaces an earlier one."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return reading


def waiting_for(*sources: int | socket.socket) -> select.poll:
    """Return a poll object that waits until one of these can be read."""
    poller = select.poll()
    for source in sources:
        poller.register(source, select.POLLIN)
    return poller


def ready_of(poller: select.poll, within_ms: int) -> set[int]:
    """Return the descriptors that can be read, or were closed at their other end; wait for the first one."""
    return {fd for fd, _ in poller.poll(within_ms)}


def drain(wake: int) -> bool:
    """Empty that pipe. Return True if SIGTERM was among the signals."""
    try:
        return signal.SIGTERM in os.read(wake, 4096)
    except BlockingIOError:
        return False
