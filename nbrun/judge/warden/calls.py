"""System calls by number: the filter of those that programs may not make, and those that Python has no functions for.

Used by a supervisor's process alone.
"""

from __future__ import annotations

import os
import struct
from functools import lru_cache

#: Calls that programs of contests don't need, as if the system had none of them. In this order: memory that is in no
#: process and no folder (memfd_create, memfd_secret, shmget); keyrings, which outlive processes (add_key, request_key,
#: keyctl); ways around the limits or into the system (io_uring_setup, userfaultfd, perf_event_open, bpf).
_MISSING_X86 = (319, 447, 29, 248, 249, 250, 425, 323, 298, 321)
_MISSING_ARM = (279, 447, 194, 217, 218, 219, 425, 282, 241, 280)
#: A machine's id, its clone and unshare, and those.
_MACHINES = {"x86_64": (0xC000003E, 56, 272, _MISSING_X86), "aarch64": (0xC00000B7, 220, 97, _MISSING_ARM)}
_CLONE3, _NEWUSER = 435, 0x10000000  # both machines'
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026

#: To make a child in new namespaces, and to make a folder the root of a mount namespace.
CLONES = {"x86_64": 56, "aarch64": 220}
PIVOTS = {"x86_64": 155, "aarch64": 41}


@lru_cache(1)
def forbidden_calls() -> bytes:
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
