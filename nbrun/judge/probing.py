"""Does isolation work here? Finds out by running programs in a box: a shell, and the interpreters themselves.

Called by the thread that first needs a sandbox.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nbrun.errors import InputError, JudgeError
from nbrun.judge.isolation import PROGRAM, Isolation, Mounts, candidate, readable
from nbrun.judge.languages import Language
from nbrun.judge.running import CancelToken, Limits, Warden
from nbrun.judge.sources import source_of
from nbrun.judge.warden.folders import remove_tree

_LIMITS = Limits(time_limit_s=5.0, wall_limit_s=20.0, memory_limit_mb=512.0, output_limit_mb=1.0)
_SAYS = "boxed"
#: It can write, it does not see the folder that holds all programs, and a process can be started.
_SCRIPT = f': > file && test ! -e "$1" && test -n "$(ls file)" && echo {_SAYS}'


def probe(warden: Warden, mode: str, languages: Mapping[str, Language]) -> Isolation:
    """How programs of this warden are kept apart, by what `isolation=` asks for.

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
        isolation = _tried(warden, isolation, languages)
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


def _tried(warden: Warden, isolation: Isolation, languages: Mapping[str, Language]) -> Isolation:
    command = ["/bin/sh", "-c", _SCRIPT, "sh", str(warden.root)]
    heard = _heard(warden, isolation, command)
    if heard != _SAYS:
        return Isolation("none", f"bubblewrap is installed, but does not work here ({heard})")
    from nbrun.judge.warden.namespaces import is_supported  # on Linux only: Windows lacks what it imports

    own = replace(isolation, is_own=True)
    if is_supported() and _heard(warden, own, command) == _SAYS:
        isolation = own
    for name, language in languages.items():
        if language.compile or language.trial is None:
            continue
        try:
            tool = language.tool
        except JudgeError:
            continue  # one that isn't installed is no fault of the box
        heard = _heard_of_trial(warden, isolation, name, language, language.trial)
        if heard:
            return Isolation(
                "none",
                f"{name}'s interpreter {tool} does not run in bubblewrap's box ({heard}). Where you are root, others "
                f"must be able to read it: chmod -R go+rX {' '.join(readable(tool)) or tool}",
            )
    return isolation


def _heard_of_trial(warden: Warden, isolation: Isolation, name: str, language: Language, trial: str) -> str:
    """What was wrong with the trial of a language; empty if nothing was."""
    source = source_of({"language": name, "solution": trial}, language)
    folder = warden.root / "probe" / "program"
    source.write(folder)
    argv = language.command(
        language.run, folder=PROGRAM, entry=source.entry, main=source.main, memory_mb=512, stack_mb=64
    )
    return _heard(warden, isolation, argv, program=folder, readable=[*readable(language.tool), *language.readable])


def _heard(warden: Warden, isolation: Isolation, argv: list[str], **mounts: Any) -> str:
    """What a program in a box wrote to stdout; if it did not end well, what it wrote to stderr, and how it ended."""
    at = warden.root / "probe"
    place = Mounts(work=at / "work", tmp=at / "tmp", shm=at / "shm", **mounts)
    remove_tree(place.work)  # another user's, perhaps
    for folder in (at, at / "work", at / "tmp", at / "shm"):
        folder.mkdir(exist_ok=True)
    (at / "stdin").touch()
    try:
        ending = warden.run(
            argv, cwd=place.work, streams={name: at / name for name in ("stdin", "stdout", "stderr")},
            env={"PATH": "/usr/bin:/bin"}, limits=_LIMITS, token=CancelToken(), box=isolation.box(place),
        )  # fmt: skip
        said, complained = (at / "stdout").read_text(errors="replace"), (at / "stderr").read_text(errors="replace")
    except (JudgeError, OSError) as e:
        return f"{type(e).__name__}: {e}"
    if ending.return_code == 0:
        return said.strip()
    ended = f"return code {ending.return_code}" if ending.cause is None else f"ended by its {ending.cause} limit"
    return ", ".join(filter(None, (said.strip(), complained.strip()[-300:], ended)))
