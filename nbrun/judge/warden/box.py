"""One program inside bubblewrap: its start, and what bubblewrap tells of its end.

Used by a supervisor's process alone. Bubblewrap starts with the program's environment, so that nothing of the kernel's
can be read in the box, and takes its arguments over a pipe, so that no path of the machine stands in /proc/1/cmdline.

    supervisor ─ bwrap (outside) ─ bwrap (process 1 of the box) ─ program

When the supervisor or the outer bwrap ends, process 1 ends, and with it everything in the box.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
from functools import lru_cache
from typing import Any

#: Programs get user ids from here on where the kernel is root: each its own, so that its processes can be counted.
FIRST_UID = 1_900_000_000
_MOST_PIDS = 1 << 22
#: So many programs one supervisor runs at most: then the user ids that belong to its process id are used up.
BOXES_AT_MOST = 500
_SIGNALS = {int(number) for number in signal.Signals}
#: Calls that programs of contests don't need, as if the system had none of them. In this order: memory that is in no
#: process and no folder (memfd_create, memfd_secret, shmget); keyrings, which outlive processes (add_key, request_key,
#: keyctl); ways around the limits or into the system (io_uring_setup, userfaultfd, perf_event_open, bpf).
_MISSING_X86 = (319, 447, 29, 248, 249, 250, 425, 323, 298, 321)
_MISSING_ARM = (279, 447, 194, 217, 218, 219, 425, 282, 241, 280)
#: A machine's id, its clone and unshare, and those.
_MACHINES = {"x86_64": (0xC000003E, 56, 272, _MISSING_X86), "aarch64": (0xC00000B7, 220, 97, _MISSING_ARM)}
_CLONE3, _NEWUSER = 435, 0x10000000  # both machines'
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026


class Box:
    """bwrap around one program, the `number`-th of this supervisor's.

    Attributes:
        pid: of the outer bwrap; its own CPU time is not the program's.
    """

    def __init__(self, request: dict[str, Any], files: list[tuple[Any, ...]], number: int) -> None:
        box = request["box"]
        self._told = b""
        arguments = list(box["arguments"])
        command = list(request["argv"])
        if box["as_root"]:
            uid = FIRST_UID + number * _MOST_PIDS + os.getpid()
            for path in (*box["owned"], request["stdout"], request["stderr"]):
                if not isinstance(path, int):  # a number stands for a descriptor: a pipe
                    os.chown(path, uid, uid)
            drop = [box["setpriv"], f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]
            command = drop + command
        status, told = os.pipe()
        held, release = os.pipe()
        ours = [told, held]
        arguments += ["--json-status-fd", str(told), "--block-fd", str(held)]
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
                file_actions=files, setsid=True, setsigmask=[], setsigdef=box["signals"],
            )  # fmt: skip
        finally:
            for fd in ours:
                os.close(fd)
        try:
            if box["as_root"] or counts_by_namespace():
                self._limit_processes(request["processes"])
        finally:
            os.close(release)  # the end of file lets the program begin

    def _limit_processes(self, most: int) -> None:
        """In a user namespace of its own, or under a user id of its own, the limit counts this program's alone."""
        self._read(b"\n")
        pid = self._said("child-pid")
        if pid is not None:
            try:
                resource.prlimit(pid, resource.RLIMIT_NPROC, (most, most))
            except (OSError, ValueError):
                pass  # it has ended, or this isn't allowed: then the supervisor alone counts

    def exit_code(self) -> int | None:
        """The program's, or minus the signal that killed it; None where it never started, or was killed with it."""
        self._read(None)
        os.close(self._status)
        code = self._said("exit-code")
        if code is not None and code > 128 and code - 128 in _SIGNALS:
            return 128 - code  # as a shell says it; bubblewrap tells no more
        return code

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


@lru_cache(1)
def counts_by_namespace() -> bool:
    """Whether RLIMIT_NPROC counts what is in a user namespace (Linux 5.14), not all that the user runs."""
    try:
        major, minor = os.uname().release.split(".")[:2]
        return (int(major), int(minor.split("-")[0])) >= (5, 14)
    except ValueError:
        return False


@lru_cache(1)
def forbidden_calls() -> bytes:
    """A filter of system calls, as BPF. Empty where the machine's numbers are not known here.

    No namespace of its own in which a program is root and may mount file systems (clone3 hides its flags behind a
    pointer: the C library goes on with clone where it is told that there is none), and none of the calls named above.
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


def _filled(data: bytes) -> int:
    """The reading end of a pipe that holds this and ends."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)  # a few KB at most: a pipe takes 64 at once
    finally:
        os.close(writing)
    return reading
