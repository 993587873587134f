"""Whether programs run here at all: whether isolation works, and whether a language's programs start.

An interpreter that can't be read in the box, a compiler that lacks a part, a virtual machine that doesn't start look
like a RuntimeError or a CompileError of every solution. So isolation is tried by running programs in a box (`probe`,
called by the thread that first needs a sandbox), and before a solution is blamed for not starting, a program that is
known to be right runs in its place (`SelfTest`, called by worker threads).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nbrun.errors import InputError, JudgeError
from nbrun.judge.languages import Language
from nbrun.judge.sandbox.isolation import PROGRAM, Isolation, Mounts, candidate, readable
from nbrun.judge.sandbox.runner import CancelToken, Limits, Supervisor
from nbrun.judge.sources import source_of
from nbrun.judge.supervisor.folders import remove_tree
from nbrun.verdicts import Verdict

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
    from nbrun.judge.supervisor.namespaces import is_supported  # on Linux only: Windows lacks what it imports

    command = ["/bin/sh", "-c", _SCRIPT, "sh", str(supervisor.root)]
    own = replace(isolation, is_own=True)
    if is_supported() and _output_of(supervisor, own, command) == _SAYS:
        isolation = own
    elif (output := _output_of(supervisor, isolation, command)) != _SAYS:
        return Isolation("none", f"bubblewrap is installed, but does not work here ({output})")
    for name, language in languages.items():
        if language.compile or language.trial is None:
            continue
        try:
            tool = language.tool
        except JudgeError:
            continue  # one that isn't installed is no fault of the box
        fault = _fault_of_trial(supervisor, isolation, name, language, language.trial)
        if fault:
            return Isolation(
                "none",
                f"{name}'s interpreter {tool} does not run in bubblewrap's box ({fault}). Where you are root, others "
                f"must be able to read it: chmod -R go+rX {' '.join(readable(tool)) or tool}",
            )
    return isolation


def _fault_of_trial(supervisor: Supervisor, isolation: Isolation, name: str, language: Language, trial: str) -> str:
    """Return what was wrong with the trial of a language; empty if nothing was."""
    source = source_of({"language": name, "solution": trial}, language)
    folder = supervisor.root / "probe" / "program"
    source.write(folder)
    argv = language.command(
        language.run, folder=PROGRAM, entry=source.entry, main=source.main, memory_mb=512, stack_mb=64
    )
    return _output_of(
        supervisor, isolation, argv, program=folder, readable=[*readable(language.tool), *language.readable]
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
    if ending.return_code == 0:
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
        codes = {_return_code(test) for test in result["tests"]}
        suspicious = not codes.isdisjoint(_NOT_STARTED)
        kind = " ".join((name, *language.tried))
        with self._lock:
            if 0 in codes and not suspicious:
                self._passed.add(kind)  # a program that ended well shows that the language works
            if result["verdict"] not in _BLAMED or (kind in self._passed and not suspicious):
                return
        if language.trial is not None:
            outcome = judge(language, {"language": name, "solution": language.trial})
        elif suspicious:
            outcome = judge(replace(language, run=(*_CAN_START, *language.run)), item)
        else:
            return
        if not outcome["accepted"]:
            raise JudgeError(
                f"{name} does not work in this sandbox: {_failure(outcome)}. That says nothing of the solution."
            )
        with self._lock:
            self._passed.add(kind)


def _return_code(test: Mapping[str, Any]) -> int | None:
    run = test["exec_info"].get("run_result")
    return None if run is None else run["return_code"]


def _failure(outcome: Mapping[str, Any]) -> str:
    """Return why the trial failed."""
    info = outcome["tests"][0]["exec_info"]
    step = info.get("run_result") or info.get("compile_result") or {}
    return f"{outcome['verdict']} (return code {step.get('return_code')}): {str(step.get('stderr')).strip()[-500:]}"
