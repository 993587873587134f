"""Runs programs under limits and, where it works, in a box: what `nbrun.judge.LocalSandbox` is built of.

Here is how one program runs, and how many at once; `programs` compiles and starts them, `isolation` has their boxes.
Called by many worker threads, by those that run tests ahead, and by any thread that cancels. The supervisor (see
`nbrun.judge.supervisor`) ends when the kernel does, and then ends every program and removes the temporary folder.

CPU time, by which programs are judged, is not the same on a busy machine: programs share caches, memory and the two
halves of a core. So a program beyond its limit runs again without the other programs of this sandbox, and where others
keep the machine busy, with `ROOM` times the limit: what needs more than that is too slow on any machine.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from nbrun.errors import JudgeError
from nbrun.judge.supervisor import STARVED, remove_tree

_START = (
    "import sys; sys.path.append(sys.argv[1]); from supervisor.monitor import serve; serve({fd}, {root!r}, {parent})"
)
_MB = 1 << 20
#: The limits that a monitor sets for itself, so that its programs inherit them. It can't raise them again.
_BEQUEATHED = ("cpu_s", "file_bytes", "address_bytes")
_ANSWER_S = 30.0  # a monitor reports at most this long after the last limit
_LOOK_EVERY_S = 0.2
#: A program's CPU time on a busy machine is at most this many times that on a quiet one.
ROOM = 1.6
#: How far a corrected CPU time must be from the limit to be believed.
MARGIN = 0.05
#: CPUs that others may use beside a program that counts as alone.
_NOISE = 0.3
_CPUS = os.cpu_count() or 1
_REFERENCE_STEPS, _REFERENCE_TIMES = 30_000, 5


@dataclass(frozen=True)
class Limits:
    """What a program may use. CPU time and memory include its descendants; wall time excludes waiting for a CPU.

    Args:
        time_limit_s: CPU time in seconds.
        wall_limit_s: wall time in seconds.
        memory_limit_mb: resident memory in MiB.
        output_limit_mb: how large stdout, stderr or any file may get, in MiB; its folder may hold four times that.
        process_limit: processes and threads at once.
    """

    time_limit_s: float
    wall_limit_s: float
    memory_limit_mb: float
    output_limit_mb: float
    process_limit: int = 256

    @property
    def output_bytes(self) -> int:
        """`output_limit_mb` in bytes."""
        return int(self.output_limit_mb * _MB)

    def of_monitor(self, address_limited: bool) -> dict[str, Any]:
        """Return them as a monitor is asked for them; `address_limited`: whether the address space has a limit too."""
        memory = int(self.memory_limit_mb * _MB)
        return {
            "cpu_s": self.time_limit_s, "wall_s": self.wall_limit_s, "memory_bytes": memory,
            "file_bytes": self.output_bytes, "folder_bytes": 4 * self.output_bytes, "processes": self.process_limit,
            # Stops programs that allocate faster than they are checked. Much address space is never touched.
            "address_bytes": 2 * memory + 256 * _MB if address_limited else 0,
        }  # fmt: skip


@dataclass(frozen=True)
class ExitStatus:
    """How a program ended.

    Attributes:
        return_code: its exit code, or minus the signal that killed it.
        cause: the limit that ended it: `cpu`, `wall`, `memory`, `files`, `processes`, or None.
        is_unheard: its stdout is a pipe whose reader closed it, or ended, before the program ended.
        delay_s: how long it was ready without getting a CPU; known of programs that talk over pipes alone.
    """

    return_code: int | None
    cause: str | None
    cpu_s: float
    wall_s: float
    memory_mb: float
    is_unheard: bool = False
    delay_s: float = 0.0

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended by itself, with the exit code 0."""
        return self.cause is None and self.return_code == 0

    @classmethod
    def read(cls, report: Mapping[str, Any], program: str) -> ExitStatus:
        """Return what a monitor reports.

        Raises:
            JudgeError: the program could not be started, or its monitor was ended.
        """
        if report["failure"] is not None:
            raise JudgeError(f"{program} could not be started: {report['failure']}")
        if report["cause"] == "cancelled":
            raise JudgeError(
                "the process that watches programs got SIGTERM and ended the program: nothing is known of the solution."
            )
        return cls(
            report["return_code"], report["cause"], report["cpu_s"], report["wall_s"], report["memory_bytes"] / _MB,
            report["is_unheard"], report["delay_s"],
        )  # fmt: skip


class IdleMonitors:
    """The monitors of one task that wait for its next program, by the limits that they have set for themselves.

    Threads: any number.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects both below
        self._lines: dict[Any, list[socket.socket]] = defaultdict(list)
        self._is_open = True

    def take(self, kind: Any) -> socket.socket | None:
        """Return the connection to a living monitor of this kind, or None."""
        while True:
            with self._lock:
                lines = self._lines[kind]
                if not lines:
                    return None
                line = lines.pop()
            if not _has_ended(line):
                return line
            line.close()

    def keep(self, kind: Any, line: socket.socket) -> None:
        """Keep a monitor for the next program; `line` is the connection to it."""
        with self._lock:
            if self._is_open:
                self._lines[kind].append(line)
                return
        line.close()

    def close(self) -> None:
        """End them: each sees the end of file. None is kept after that."""
        with self._lock:
            self._is_open = False
            lines = [*chain(*self._lines.values())]
            self._lines.clear()
        for line in lines:
            line.close()


class CancelToken:
    """Cancels a task: `cancel` ends the programs that run for it, and no others begin.

    Attributes:
        idle: the monitors that wait for the task's next program. The owner of the task closes it.

    Threads: any thread calls `cancel`; the task's worker, and the threads that run its tests ahead, call the rest.
    """

    def __init__(self, idle: IdleMonitors | None = None) -> None:
        self.idle = idle or IdleMonitors()
        self._lock = threading.Lock()  # protects all below
        self._lines: set[socket.socket] = set()
        self._branches: list[CancelToken] = []
        self.is_cancelled = False

    def branch(self) -> CancelToken:
        """Return a token for a part of the task: it is cancelled with this one, or alone."""
        branch = CancelToken(self.idle)
        with self._lock:
            self._branches.append(branch)
            branch.is_cancelled = self.is_cancelled
        return branch

    def cancel(self) -> None:
        """End the programs. The worker's call returns when all of their processes are gone."""
        with self._lock:
            self.is_cancelled = True
            for line in self._lines:
                _shut(line, socket.SHUT_WR)  # the monitor sees the end of file; its report still comes
            branches = list(self._branches)
        for branch in branches:
            branch.cancel()

    def check(self) -> None:
        """Raise JudgeError once it was cancelled."""
        if self.is_cancelled:
            raise JudgeError("cancelled while it was judged: nothing is known of the solution.")

    def hold(self, line: socket.socket) -> None:
        """Let `cancel` end the program at the other end of this connection."""
        with self._lock:
            self._lines.add(line)
            if self.is_cancelled:
                _shut(line, socket.SHUT_WR)

    def let_go(self, line: socket.socket) -> None:
        """Undo `hold`: the program has ended."""
        with self._lock:
            self._lines.discard(line)


class Supervisor:
    """One supervisor process, and the temporary folder that it removes at its end.

    Threads: any number run programs through it at once; nothing in it changes but the process itself.
    """

    def __init__(self) -> None:
        self._kernel = os.getpid()
        self.root = Path(tempfile.mkdtemp(prefix="nbrun-judge-"))
        self._line, theirs = socket.socketpair()
        code = _START.format(fd=theirs.fileno(), root=str(self.root), parent=self._kernel)
        try:
            with theirs, open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable or "python3", "-I", "-S", "-E", "-c", code, str(Path(__file__).parents[1])],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs.fileno()],
                    start_new_session=True, cwd="/",  # a session of its own: the stop button signals the kernel's group
                )  # fmt: skip
        except OSError as e:
            self._line.close()
            remove_tree(self.root)
            raise JudgeError(f"the process that runs the programs did not start: {e}.") from e
        self._end = weakref.finalize(self, _end, self._line, self._kernel)

    @property
    def is_alive(self) -> bool:
        """Whether it can run programs for this process (a forked copy of the kernel needs its own)."""
        return self._kernel == os.getpid() and self._end.alive and self._process.poll() is None

    @property
    def _log(self) -> Path:
        return self.root / "supervisor.log"

    def close(self) -> None:
        """End every program and remove the folder; return when that is done."""
        self._end()
        if self._kernel == os.getpid():
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            remove_tree(self.root)  # the supervisor has removed it, unless it was killed

    def run(
        self, argv: Sequence[str], *, cwd: Path, streams: Mapping[str, Path | int], env: Mapping[str, str],
        limits: Limits, token: CancelToken, box: Mapping[str, Any] | None = None, address_limited: bool = True,
        watched: Path | None = None, one_of_many: bool = False, more: bool = False,
    ) -> ExitStatus:  # fmt: skip
        """Run a program until it ends and return how it ended.

        Args:
            streams: the files that are its `stdin`, `stdout` and `stderr`; the first two may be descriptors, which
                are closed here whatever happens.
            box: the box that `Isolation.box` returned; None runs it without isolation.
            address_limited: False for virtual machines, which reserve more than they use.
            watched: the folder that must not grow beyond its limit; `cwd` if it isn't given.
            one_of_many: more programs with these limits are likely to follow in this task: its monitor waits for
                them.
            more: the same program is likely to be run again soon: its next box is built when this one has ended.

        Raises:
            JudgeError: it could not be started, was cancelled, or the machinery failed.
        """
        fds = [stream for stream in streams.values() if isinstance(stream, int)]
        request = {
            "argv": list(argv), "cwd": str(cwd), "watched": str(watched or cwd), "env": dict(env),
            "box": box or {"kind": "none"}, "more": more, "stays": one_of_many and not fds,
            **limits.of_monitor(address_limited),
            **{name: fds.index(to) if isinstance(to, int) else str(to) for name, to in streams.items()},
        }  # fmt: skip
        try:
            token.check()
            report = self._ask(request, token, fds)
        finally:
            for fd in fds:
                os.close(fd)
        token.check()
        return ExitStatus.read(report, argv[0])

    def _ask(self, request: Mapping[str, Any], token: CancelToken, fds: list[int]) -> dict[str, Any]:
        """Have a monitor run a program, and return its report; close the program's pipes once they were sent."""
        # What a monitor gave up for good when it ran a program: it can run those for which this is the same.
        kind = (self.root, *(request[name] for name in _BEQUEATHED), request["box"]["kind"])
        idle = token.idle.take(kind) if request["stays"] else None
        ours = idle or self._new_monitor(token)
        report: dict[str, Any] = {}
        try:
            token.hold(ours)
            report = _report_of(ours, request, fds)
        except OSError as e:
            token.check()
            raise JudgeError(f"the process that runs programs is gone or stuck: {e}. {self._last_words()}") from e
        finally:
            token.let_go(ours)
            if report.get("stays") and not token.is_cancelled:
                token.idle.keep(kind, ours)
            else:
                ours.close()
        if not report:
            token.check()
            raise JudgeError(f"a program's monitor ended without a report, killed perhaps. {self._last_words()}")
        return report

    def _new_monitor(self, token: CancelToken) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._line, [b"r"], [theirs.fileno()])
        except OSError as e:
            ours.close()
            token.check()
            raise JudgeError(f"the process that runs programs is gone: {e}. {self._last_words()}") from e
        return ours

    def _last_words(self) -> str:
        try:
            return self._log.read_text(errors="replace")[-2000:]
        except OSError:
            return ""


def _report_of(line: socket.socket, request: Mapping[str, Any], fds: list[int]) -> dict[str, Any]:
    """Send a request and a program's pipes, close those, and return the report; empty if the monitor ended before."""
    line.settimeout(3 * STARVED * request["wall_s"] + _ANSWER_S)
    text = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(line, [text[:1]], fds) if fds else 0
    # Before the program can begin: as long as they are open here, the program that it talks to can't see its end, or
    # would see the end of one stream long before that of the other.
    while fds:
        os.close(fds.pop(0))
    line.sendall(text[sent:])
    with line.makefile("rb") as lines:
        answer = lines.readline()
    return json.loads(answer) if answer.endswith(b"\n") else {}


def _has_ended(line: socket.socket) -> bool:
    """Return whether a monitor that waits has ended: it was killed, or its supervisor was."""
    poller = select.poll()  # select() knows no descriptors above 1023
    poller.register(line, select.POLLIN)
    return bool(poller.poll(0))


def _end(line: socket.socket, kernel: int) -> None:
    """End the supervisor by closing the connection; in a forked copy of the kernel, close its descriptor alone."""
    if kernel == os.getpid():
        _shut(line, socket.SHUT_RDWR)
    line.close()


def _shut(line: socket.socket, how: int) -> None:
    try:
        line.shutdown(how)
    except OSError:
        pass  # the other end is gone already


# ---- how many at once, and how busy others keep the machine


def cores() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _CPUS


def busy_s() -> float | None:
    """Return for how long the machine's CPUs were busy since it started, in all; None where that isn't known."""
    try:
        fd = os.open("/proc/uptime", os.O_RDONLY | os.O_CLOEXEC)  # /proc/stat would list every interrupt
        try:
            up_s, idle_s = map(float, os.read(fd, 100).split())
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None
    return up_s * _CPUS - idle_s


def is_busy() -> bool:
    """Return whether others may have kept the machine busy lately: by its load, and by what wants to run now."""
    quiet = max(1, cores() // 2)
    try:
        with open("/proc/loadavg", "rb") as file:
            words = file.read().split()
        return float(words[0]) > quiet + 0.5 or int(words[3].partition(b"/")[0]) - 1 > quiet
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0] > quiet + 0.5


class Reference:
    """The CPU time of a small computation, now and when the machine was quiet.

    Threads: any number; `_best_s` is only ever replaced by a smaller one.
    """

    def __init__(self) -> None:
        self._best_s = math.inf  # on a quiet machine

    def measure(self) -> float:
        """Return the CPU seconds that it takes now; remembers the least that it took on a quiet machine."""
        times = []
        for _ in range(_REFERENCE_TIMES):
            began, x = time.thread_time(), 0
            for i in range(_REFERENCE_STEPS):
                x = (x * 31 + i) & 0xFFFFFFFF
            times.append(time.thread_time() - began)
        if not is_busy():
            self._best_s = min(self._best_s, *times)
        return statistics.median(times)

    def stretch(self, *measured_s: float) -> float | None:
        """Return how many times as long it took as on a quiet machine; None where the machine never was quiet."""
        return None if self._best_s == math.inf else max(1.0, statistics.fmean(measured_s) / self._best_s)


class Slot:
    """One program's stay.

    Attributes:
        load: the most programs that ran at once meanwhile, itself included.
        owner: the task that the program belongs to, if it was named.
    """

    __slots__ = ("_began", "_busy_s", "load", "owner")

    def __init__(self, owner: object = None) -> None:
        self.load, self.owner = 1, owner
        self._began, self._busy_s = time.monotonic(), busy_s()

    def others(self, own_s: float) -> float | None:
        """Return how many CPUs others kept busy since it began, where the program used `own_s` of CPU time."""
        now, took_s = busy_s(), time.monotonic() - self._began
        if now is None or self._busy_s is None or not took_s:
            return None
        return max(0.0, (now - self._busy_s - own_s) / took_s)


class ConcurrencyLimiter:
    """Lets programs in; holds the others back while one is to run alone.

    Alone means: at most one program for every two CPUs, since two that share a core slow each other down. On a machine
    with many CPUs several are alone at once.

    Threads: any number.
    """

    def __init__(self, max_parallel: int | None = None, n_cores: int | None = None) -> None:
        self._lock = threading.Condition()  # protects all below
        self._cores = n_cores or cores()
        self._max_parallel = max_parallel or math.inf
        self._quiet = max(1, self._cores // 2)
        self._slots: set[Slot] = set()
        self._alone = 0  # that wait to be alone, or are
        self.reference = Reference()

    def free_for(self, owner: object) -> int:
        """Return the CPUs without a program of other tasks of this sandbox."""
        with self._lock:
            others = sum(slot.owner is not owner for slot in self._slots)
        return max(0, int(min(self._cores, self._max_parallel)) - others)

    def is_quiet(self, others: float | None) -> bool:
        """Return whether so few others ran beside a program that they can't have slowed it down."""
        return others is not None and others <= max(0.0, self._cores / 2 - 1) + _NOISE

    def is_loaded(self, slot: Slot) -> bool:
        """Return whether enough programs ran at the same time to have slowed this one down."""
        return slot.load > self._quiet

    @contextmanager
    def slot(
        self, alone: bool = False, check: Callable[[], None] = lambda: None, owner: object = None
    ) -> Iterator[Slot]:
        """Waits to be let in; `check` is called meanwhile and may raise."""
        with self._lock:
            self._alone += alone
            try:
                while not self._may_enter(alone):
                    self._lock.wait(_LOOK_EVERY_S)
                    check()
            except BaseException:
                self._alone -= alone
                self._lock.notify_all()
                raise
            slot = Slot(owner)
            self._slots.add(slot)
            for other in self._slots:
                other.load = max(other.load, len(self._slots))
        try:
            yield slot
        finally:
            with self._lock:
                self._slots.discard(slot)
                self._alone -= alone
                self._lock.notify_all()

    def _may_enter(self, alone: bool) -> bool:
        if alone:
            return len(self._slots) < self._quiet
        return not self._alone and len(self._slots) < self._max_parallel
