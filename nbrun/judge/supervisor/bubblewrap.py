"""One program inside bubblewrap: its start, and what bubblewrap reports of its end.

Used by a monitor's process alone. Bubblewrap starts with the program's environment, so that nothing of the kernel's
can be read in the box, and takes its arguments over a pipe, so that no path of the machine appears in /proc/1/cmdline.

    monitor ─ bwrap (outside) ─ bwrap (process 1 of the box) ─ program

When the monitor or the outer bwrap ends, process 1 ends, and with it everything in the box.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from functools import lru_cache
from typing import Any

from .namespaces import forbidden_calls

#: The outer bubblewrap uses a few ms itself; if more was used, the program's time is included.
_OWN_S = 0.1
_SIGNALS = {int(number) for number in signal.Signals}
_ALONE = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_ONLY_TO_DROP = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")


class BubblewrapBox:
    """bwrap around one program.

    Attributes:
        pid: of the outer bwrap; its own CPU time is not the program's.
        helpers: how many processes in the box are not the program's.
    """

    helpers = 2  # bubblewrap outside, and process 1 inside

    def __init__(
        self, request: dict[str, Any], files: list[tuple[Any, ...]], signals: list[signal.Signals], uid: int
    ) -> None:
        box = request["box"]
        self._told = b""
        arguments = _arguments(box)
        command = list(request["argv"])
        if uid:
            drop = [box["setpriv"], f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]
            command = drop + command
        status, report = os.pipe()
        held, release = os.pipe()
        ours = [report, held]
        arguments += ["--json-status-fd", str(report), "--block-fd", str(held)]
        if seccomp := forbidden_calls():
            ours.append(_filled(seccomp))
            arguments += ["--seccomp", str(ours[-1])]
        ours.append(_filled("".join(f"{a}\0" for a in arguments).encode()))
        for fd in ours:
            os.set_inheritable(fd, True)
        self._status = status
        try:
            self.pid = os.posix_spawn(
                box["bwrap"], [box["bwrap"], "--args", str(ours[-1]), "--", *command], request["env"],
                file_actions=files, setsid=True, setsigmask=[], setsigdef=signals,
            )  # fmt: skip
        finally:
            for fd in ours:
                os.close(fd)
        try:
            if uid or counts_by_namespace():
                self._limit_processes(request["processes"])
        finally:
            os.close(release)  # the end of file lets the program begin

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
        """Return the CPU seconds of all programs in the box, where `usage` is what was reaped with bubblewrap."""
        used_s: float = usage.ru_utime + usage.ru_stime
        return used_s if used_s > _OWN_S else 0.0

    def exit_code(self) -> int | None:
        """Return the program's, or minus the signal that killed it; None if it didn't start or died with bwrap."""
        self._read(None)
        os.close(self._status)
        code = self._said("exit-code")
        if code is not None and code > 128 and code - 128 in _SIGNALS:
            return 128 - code  # as a shell does it; bubblewrap reports no more
        return code

    def why_not(self) -> str:
        """Return why no program started, as far as this is known here; bubblewrap says it on the program's stderr."""
        return ""

    def _read(self, until: bytes | None) -> None:
        while until is None or not self._told.endswith(until):
            part = os.read(self._status, 4096)
            if not part:
                break
            self._told += part

    def _said(self, key: str) -> int | None:
        for line in self._told.splitlines():
            try:
                value = json.loads(line).get(key)
            except ValueError:
                continue
            if value is not None:
                return int(value)
        return None


def _arguments(box: dict[str, Any]) -> list[str]:
    """Return bubblewrap's arguments for a box."""
    work, *others = [["--bind", outside, inside] for outside, inside in box["folders"]]
    arguments = [*_ALONE, "--die-with-parent", "--new-session", "--hostname", "box"]
    arguments += _ONLY_TO_DROP if box["as_root"] else ["--unshare-user"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += [argument for bind in others for argument in bind] or ["--dir", "/tmp"]
    arguments += ["--remount-ro", "/dev"]
    for operation, *paths in box["plan"]:
        arguments += [f"--{operation}", *paths]
    return [*arguments, *work, "--remount-ro", "/", "--chdir", work[-1]]


@lru_cache(1)
def counts_by_namespace() -> bool:
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
