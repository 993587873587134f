"""What a program can see of the machine, and whether boxes and languages work here.

Called by worker threads. An interpreter that can't be read in the box, a compiler that lacks a part, a virtual machine
that doesn't start look like a RuntimeError or a CompileError of every solution. So isolation is tried by running
programs in a box (`probe`, called by the thread that first needs a sandbox), and before a solution is blamed for not
starting, a program that is known to be right runs in its place (`SelfTest`).

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
import re
import shutil
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from nbrun.errors import InputError, JudgeError
from nbrun.judge.languages import Language
from nbrun.judge.sandbox import CancelToken, Limits, Supervisor
from nbrun.judge.sources import source_of
from nbrun.judge.supervisor import remove_tree
from nbrun.verdicts import Verdict, run_of

#: Where programs find themselves in the box.
PROGRAM, WORK = "/program", "/work"
MODES = ("auto", "required", "none")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_IN_SYSTEM = tuple(f"{folder}/" for folder in _SYSTEM)
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
        plan, folders = mounts.plan, mounts.folders
        can_be_own = not any(step[-1].startswith(_NEW_FOR_EACH) for step in plan)
        return {
            "bwrap": self.bwrap, "setpriv": self.setpriv, "as_root": bool(self.setpriv), "plan": plan,
            "folders": folders, "owned": [outside for outside, _ in folders],
            "kind": "namespaces" if self.is_own and can_be_own else "bubblewrap",
        }  # fmt: skip


@dataclass(frozen=True)
class Mounts:
    """The folders of one program: what it may write (`work`, `tmp`, `shm`), what it may read."""

    work: Path
    tmp: Path | None = None
    shm: Path | None = None
    program: Path | None = None
    readable: Sequence[str] = ()

    @property
    def plan(self) -> list[Step]:
        """The steps that show what it may read."""
        program = [] if self.program is None else [("ro-bind", str(self.program), PROGRAM)]
        return [*_system(), *chain(*map(shown, self.readable)), *program]

    @property
    def folders(self) -> list[tuple[str, str]]:
        """The folders that it may write, and what they are called in the box."""
        places = ((self.work, WORK), (self.tmp, "/tmp"), (self.shm, "/dev/shm"))
        return [(str(outside), inside) for outside, inside in places if outside is not None]


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
    found: set[str] = set()
    for path in chain(*map(_hops, filter(None, tools))):
        if not path.startswith(_IN_SYSTEM):
            folder = os.path.dirname(os.path.dirname(path))
            found.add(path if _is_private(folder) else folder)
    return sorted(filter(os.path.exists, found))  # a folder comes before what it holds


def _hops(tool: str) -> list[str]:
    """The path of a program, of all that it is a link to, and of the interpreter that its virtual environment needs."""
    hops = [os.path.abspath(tool)]
    while os.path.islink(hops[-1]) and len(hops) < 16:
        target = os.path.join(os.path.dirname(hops[-1]), os.readlink(hops[-1]))
        hops.append(os.path.normpath(target))
    hops.append(os.path.realpath(tool))
    bases = [os.path.join(home, "python3") for home in filter(None, map(_home_of, hops))]
    return [*hops, *bases, *map(os.path.realpath, bases)]


def _home_of(interpreter: str) -> str | None:
    """The folder of the interpreter that one of a virtual environment was copied from."""
    try:
        about = Path(interpreter).parents[1].joinpath("pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, ValueError, IndexError):
        return None
    home = re.search(r"^[ \t]*home[ \t]*=(.+)", about, re.MULTILINE)
    return home and home[1].strip()


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
    if not depth or not stat.S_ISDIR(mode) or mode & _ENTER == _ENTER:
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


# ---- whether boxes work

_LIMITS = Limits(time_limit_s=5.0, wall_limit_s=20.0, memory_limit_mb=512.0, output_limit_mb=1.0)
_SAYS = "boxed"
#: It can write, it does not see the folder that holds all programs, and a process can be started.
_SCRIPT = f': > file && test ! -e "$1" && test -n "$(ls file)" && echo {_SAYS}'


def probe(supervisor: Supervisor, mode: str, languages: Mapping[str, Language]) -> Isolation:
    """Return how programs of this supervisor are kept apart, by what `isolation=` asks for.

    Args:
        languages: those that are interpreted must run in the box, if they run at all.

    Raises:
        InputError: isolation is required, and does not work here.

    Warns:
        UserWarning: it was not asked to be left out, and does not work here.
    """
    if mode == "none":
        return Isolation("none", "isolation='none' was asked for")
    isolation = candidate()
    if isolation.is_on:
        isolation = _tried(supervisor, isolation, languages)
    if not isolation.is_on:
        if mode == "required":
            raise InputError(
                f"LocalSandbox: isolation='required', but it does not work here: {isolation.reason}. Fix that, or "
                "judge sources that you would run yourself with isolation='auto'."
            )
        warnings.warn(
            f"LocalSandbox: programs are not isolated, they see and can do what you can: {isolation.reason}. "
            "Judge only sources that you would run yourself. Each result says isolation: none.",
            stacklevel=4,
        )
    return isolation


def _tried(supervisor: Supervisor, isolation: Isolation, languages: Mapping[str, Language]) -> Isolation:
    """Return `isolation` as far as it works here; what doesn't work is the `reason` of one that is off."""
    from nbrun.judge.supervisor.boxes import is_supported  # on Linux only: Windows lacks what it imports

    command = ["/bin/sh", "-c", _SCRIPT, "sh", str(supervisor.root)]
    own = replace(isolation, is_own=True)
    if is_supported() and _output_of(supervisor, own, command) == _SAYS:
        isolation = own
    elif (output := _output_of(supervisor, isolation, command)) != _SAYS:
        return Isolation("none", f"bubblewrap is installed, but does not work here ({output})")
    for name, language in languages.items():
        if not language.compile and (fault := _fault_of(name, language, supervisor, isolation)):
            return Isolation("none", fault)
    return isolation


def _fault_of(name: str, language: Language, supervisor: Supervisor, isolation: Isolation) -> str:
    """Return why the interpreter of a language can't be used in a box; empty if its trial program runs."""
    if language.missing or language.trial is None:  # one that isn't installed is no fault of the box
        return ""
    source = source_of({"language": name, "solution": language.trial}, language)
    folder, tool = supervisor.root / "probe" / "program", language.tool
    source.write(folder)
    places: dict[str, Any] = {"folder": PROGRAM, "entry": source.entry, "main": source.main}
    argv, needed = language.command(language.run, memory_mb=512, stack_mb=64, **places), readable(tool)
    output = _output_of(supervisor, isolation, argv, program=folder, readable=[*needed, *language.readable])
    if not output:
        return ""
    return (
        f"{name}'s interpreter {tool} does not run in bubblewrap's box ({output}). Where you are root, others "
        f"must be able to read it: chmod -R go+rX {' '.join(needed) or tool}"
    )


def _output_of(supervisor: Supervisor, isolation: Isolation, argv: list[str], **mounts: Any) -> str:
    """Return what a program in a box wrote to stdout; if it failed, also what it wrote to stderr and how it ended."""
    at = supervisor.root / "probe"
    place = Mounts(work=at / "work", tmp=at / "tmp", shm=at / "shm", **mounts)
    remove_tree(place.work)  # another user's, perhaps
    for folder in (at, at / "work", at / "tmp", at / "shm"):
        folder.mkdir(exist_ok=True)
    (at / "stdin").touch()
    try:
        ending = supervisor.run(
            argv, cwd=place.work, streams={name: at / name for name in ("stdin", "stdout", "stderr")},
            env={"PATH": "/usr/bin:/bin"}, limits=_LIMITS, token=CancelToken(), box=isolation.box(place),
        )  # fmt: skip
        output, complaint = (at / "stdout").read_text(errors="replace"), (at / "stderr").read_text(errors="replace")
    except (JudgeError, OSError) as e:
        return f"{type(e).__name__}: {e}"
    if ending.has_succeeded:
        return output.strip()
    ended = f"return code {ending.return_code}" if ending.cause is None else f"ended by its {ending.cause} limit"
    return ", ".join(filter(None, (output.strip(), complaint.strip()[-300:], ended)))


# ---- trials of a language

#: Generous: it is asked whether a language works here, not how fast.
TRIAL_LIMITS = Limits(time_limit_s=20.0, wall_limit_s=60.0, memory_limit_mb=1024.0, output_limit_mb=16.0)
TRIAL_COMPILE_S = 60.0
TRIAL_TESTS = ({"input": "", "output": ""},)
_BLAMED = (Verdict.RUNTIME_ERROR, Verdict.COMPILE_ERROR)
#: What `setpriv`, a shell and the dynamic linker return for a program that they can't start.
_NOT_STARTED = (126, 127)
_CAN_START = ("/bin/sh", "-c", 'command -v "$1" >/dev/null', "sh")

#: language, item -> the result of judging it on `TRIAL_TESTS`.
Judge = Callable[[Language, Any], Mapping[str, Any]]


class SelfTest:
    """Remembers which languages were seen to work.

    Threads: any number.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _passed
        self._passed: set[str] = set()

    def verify(self, name: str, language: Language, item: Any, result: Mapping[str, Any], judge: Judge) -> None:
        """Return if a result may be believed.

        Raises:
            JudgeError: programs in this language don't start here, whatever they are.
        """
        codes = {run_of(test).get("return_code") for test in result["tests"]}
        have_started = codes.isdisjoint(_NOT_STARTED)
        kind = " ".join((name, *language.tried))
        if have_started:
            if 0 in codes:
                self._note(kind)  # a program that ended well shows that the language works
            if self._has_passed(kind):
                return
        if result["verdict"] not in _BLAMED:
            return
        if language.trial is not None:
            outcome = judge(language, {"language": name, "solution": language.trial})
        elif have_started:
            return
        else:
            outcome = judge(replace(language, run=(*_CAN_START, *language.run)), item)
        _check_trial(name, outcome)
        self._note(kind)

    def _note(self, kind: str) -> None:
        with self._lock:
            self._passed.add(kind)

    def _has_passed(self, kind: str) -> bool:
        with self._lock:
            return kind in self._passed


def _check_trial(name: str, outcome: Mapping[str, Any]) -> None:
    """Raise JudgeError unless the trial of a language was accepted."""
    if outcome["accepted"]:
        return
    info = outcome["tests"][0]["exec_info"]
    step = info.get("run_result") or info.get("compile_result") or {}
    raise JudgeError(
        f"{name} does not work in this sandbox: {outcome['verdict']} (return code {step.get('return_code')}): "
        f"{str(step.get('stderr')).strip()[-500:]}. That says nothing of the solution."
    )
