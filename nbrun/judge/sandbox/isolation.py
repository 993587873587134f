"""What a program can see of the machine: bubblewrap's arguments, and whether bubblewrap works here.

Called by worker threads. Whether it works is found out by running it, once for each place where programs run.

In the box: the system's programs and libraries, read-only; the interpreter's own folder, read-only, if it is
elsewhere (what is installed there can be imported, but nbrun's own folder, which holds answers, is empty); the program
at /program, read-only; an empty folder /work, an empty /tmp. No home, no network, no other process, no file of the
problem: the input is stdin, the expected output is not there.

Where the kernel is root, programs run under a user id without any rights. A folder that only its owner may enter (a
home, what `mktemp -d` made) is then shown by what is in it.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

#: Where programs find themselves in the box.
PROGRAM, WORK = "/program", "/work"
MODES = ("auto", "required", "none")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
#: Folders of a box that are new for each program: what it shows beside them can't be inside.
_NEW_FOR_EACH = ("/tmp/", "/dev/", "/proc/", f"{WORK}/")
#: Of /etc only what programs need to start.
_ETC = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/java*",
    "/etc/mono", "/etc/fpc*",
)  # fmt: skip
_ENTER = stat.S_IROTH | stat.S_IXOTH
_DEPTH = 2  # of folders within one another that only their owner may enter
#: This package: it holds the demo set with its answers.
_OWN = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
#: One step of what a box shows, in bubblewrap's words: `("ro-bind", outside, inside)`, `("dir", inside)`, `("symlink",
#: target, inside)`, `("tmpfs", inside)`.
Step = tuple[str, ...]
INSTALL = "apt install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora)"


@dataclass(frozen=True)
class Isolation:
    """How programs are kept apart here. `name` is `bwrap` or `none`; `reason` says why it is none.

    Attributes:
        bwrap: the full path of bubblewrap.
        setpriv: the full path of what gives up root's rights, where the kernel is root; else empty.
        is_own: the monitor builds such boxes itself, which takes a third of the time that bubblewrap takes.
    """

    name: str
    reason: str = ""
    bwrap: str = ""
    setpriv: str = ""
    is_own: bool = False

    @property
    def is_on(self) -> bool:
        """Whether programs run in a box."""
        return self.name != "none"

    def box(self, mounts: Mounts) -> dict[str, Any]:
        """Return what the supervisor needs to build the box."""
        plan = [*_system(), *(step for path in mounts.readable for step in shown(path))]
        if mounts.program is not None:
            plan.append(("ro-bind", str(mounts.program), PROGRAM))
        places = ((mounts.work, WORK), (mounts.tmp, "/tmp"), (mounts.shm, "/dev/shm"))
        folders = [(str(outside), inside) for outside, inside in places if outside is not None]
        return {
            "bwrap": self.bwrap, "setpriv": self.setpriv, "as_root": bool(self.setpriv), "plan": plan,
            "folders": folders, "owned": [outside for outside, _ in folders],
            "is_own": self.is_own and not any(step[-1].startswith(_NEW_FOR_EACH) for step in plan),
        }  # fmt: skip


@dataclass(frozen=True)
class Mounts:
    """The folders of one program: what it may write (`work`, `tmp`, `shm`), what it may read."""

    work: Path
    tmp: Path | None = None
    shm: Path | None = None
    program: Path | None = None
    readable: Sequence[str] = ()


def candidate() -> Isolation:
    """What might work here; not tried yet."""
    if sys.platform != "linux":
        return Isolation("none", "bubblewrap exists for Linux only")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Isolation("none", f"bubblewrap isn't installed: {INSTALL}")
    if os.geteuid() != 0:
        return Isolation("bwrap", bwrap=bwrap)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return Isolation("none", "the kernel is root, and `setpriv` (of util-linux) isn't installed to give that up")
    return Isolation("bwrap", bwrap=bwrap, setpriv=setpriv)


def readable(*tools: str) -> list[str]:
    """The folders that hold these programs and what belongs to them, as far as they are no part of the system.

    A tool's folder is the one above its `bin`; never a home folder as a whole, where it would be the tool alone.

    Example:
        >>> readable("/usr/bin/python3")
        []
    """
    found: list[str] = []
    for tool in filter(None, tools):
        for path in _hops(tool):
            folder = os.path.dirname(os.path.dirname(path))
            if not path.startswith(tuple(f"{s}/" for s in _SYSTEM)):
                found.append(path if _is_private(folder) else folder)
    return sorted({path for path in found if os.path.exists(path)})  # a folder comes before what it holds


def _hops(tool: str) -> list[str]:
    """The path of a program, of all that it is a link to, and of the interpreter that its virtual environment needs."""
    hops = [os.path.abspath(tool)]
    while os.path.islink(hops[-1]) and len(hops) < 16:
        target = os.path.join(os.path.dirname(hops[-1]), os.readlink(hops[-1]))
        hops.append(os.path.normpath(target))
    hops.append(os.path.realpath(tool))
    bases = [os.path.join(home, "python3") for hop in hops if (home := _home_of_venv(hop))]
    return hops + [path for base in bases for path in (base, os.path.realpath(base))]


def _home_of_venv(python: str) -> str | None:
    """Where the interpreter is that this one was copied from, if it is one of a virtual environment."""
    try:
        with open(os.path.join(os.path.dirname(os.path.dirname(python)), "pyvenv.cfg"), encoding="utf-8") as file:
            pairs = (line.partition("=") for line in file)
            return next((value.strip() for key, _, value in pairs if key.strip() == "home"), None)
    except (OSError, ValueError):
        return None


@lru_cache(64)
def shown(path: str) -> tuple[Step, ...]:
    """The steps that show a folder (or a file) at its own place, read-only."""
    steps: list[Step] = [("dir", str(above)) for above in reversed(Path(path).parents[:-1])]
    steps += _bound(path, _DEPTH if os.geteuid() == 0 else 0)
    if _OWN.startswith(f"{path}/"):
        steps.append(("tmpfs", _OWN))
    return tuple(steps)


def _bound(path: str, depth: int) -> list[Step]:
    mode = os.stat(path).st_mode
    if not stat.S_ISDIR(mode) or mode & _ENTER == _ENTER or not depth:
        return [("ro-bind", os.path.realpath(path), path)]
    steps: list[Step] = [("dir", path)]
    for name in sorted(os.listdir(path)):
        inside = os.path.join(path, name)
        if os.path.islink(inside):
            steps.append(("symlink", os.readlink(inside), inside))
        else:
            steps += _bound(inside, depth - 1)
    return steps


def _is_private(folder: str) -> bool:
    """Whether a folder is, or holds, a home or the place where programs run."""
    around = {os.path.expanduser("~"), "/root", "/home", "/tmp", "/var/tmp", "/", os.getcwd()}
    return any(place == folder or place.startswith(folder.rstrip("/") + "/") for place in around)


@lru_cache(1)
def _system() -> tuple[Step, ...]:
    steps: list[Step] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            steps.append(("symlink", os.readlink(path), path))
        elif os.path.isdir(path):
            steps.append(("ro-bind", os.path.realpath(path), path))
    steps.append(("dir", "/etc"))
    steps += [("ro-bind", os.path.realpath(path), path) for pattern in _ETC for path in glob.glob(pattern)]
    return tuple(steps)
