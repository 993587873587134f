"""Does isolation work here? Finds out by running a program in a box.

Called by the thread that first needs a sandbox.
"""

from __future__ import annotations

import warnings

from nbrun.errors import InputError, JudgeError
from nbrun.judge.isolation import Isolation, Room, candidate
from nbrun.judge.running import Leash, Limits, Warden

_LIMITS = Limits(time_limit_s=5.0, wall_limit_s=20.0, memory_limit_mb=512.0, output_limit_mb=1.0)
_SAYS = "boxed"
#: It can write, it does not see the folder that holds all programs, and a process can be started.
_SCRIPT = f': > file && test ! -e "$1" && test -n "$(ls file)" && echo {_SAYS}'


def probe(warden: Warden, mode: str) -> Isolation:
    """How programs of this warden are kept apart, by what `isolation=` asks for.

    Raises:
        InputError: isolation is required, and does not work here.

    Warns:
        UserWarning: it was not asked to be left out, and does not work here.
    """
    if mode == "none":
        return Isolation("none", "isolation='none' was asked for")
    isolation = candidate()
    if isolation.is_on:
        isolation = _tried(warden, isolation)
    if not isolation.is_on:
        if mode == "required":
            raise InputError(
                f"LocalSandbox: isolation='required', but it does not work here: {isolation.reason}. Mend that, or "
                "judge sources that you would run yourself with isolation='auto'."
            )
        warnings.warn(
            f"LocalSandbox: programs are not isolated, they see and can do what you can: {isolation.reason}. "
            "Judge only sources that you would run yourself. Each result says isolation: none.",
            stacklevel=4,
        )
    return isolation


def _tried(warden: Warden, isolation: Isolation) -> Isolation:
    at = warden.root / "probe"
    room = Room(work=at / "work", tmp=at / "tmp", shm=at / "shm")
    for folder in (at, at / "work", at / "tmp", at / "shm"):
        folder.mkdir(exist_ok=True)
    (at / "stdin").touch()
    argv = ["/bin/sh", "-c", _SCRIPT, "sh", str(warden.root)]
    try:
        ending = warden.run(
            argv, cwd=room.work, streams={name: at / name for name in ("stdin", "stdout", "stderr")},
            env={"PATH": "/usr/bin:/bin"}, limits=_LIMITS, leash=Leash(), box=isolation.box(room),
        )  # fmt: skip
    except JudgeError as e:
        return Isolation("none", f"bubblewrap is installed, but does not work here ({e})")
    said = (at / "stdout").read_text(errors="replace").strip()
    if said != _SAYS or ending.return_code != 0:
        heard = (at / "stderr").read_text(errors="replace").strip()[-300:]
        return Isolation("none", f"bubblewrap is installed, but does not work here ({said} {heard} {ending})")
    return isolation
