"""Wherever interpreters and compilers lie, programs start in the box; where they can't, no solution is blamed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import pytest
from judge_helpers import MODES, SUM_CPP, SUM_PY, task

from nbrun.errors import InputError, JudgeError
from nbrun.judge import CPP17, PYTHON3, Language, LocalSandbox
from nbrun.judge.languages import DEFAULT_LANGUAGES

KERNEL = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from nbrun.judge import LocalSandbox
from nbrun.model import Task
problem = {"id": "p", "tests": [{"input": "1 2", "output": "3"}]}
sandbox = LocalSandbox()
for language, source in (("PYTHON3", sys.argv[2]), ("CPP", sys.argv[3])):
    result = sandbox(Task("p", "solution", 0, {"language": language, "solution": source}, problem))
    print(result["isolation"], result["verdict"], result["tests"][0]["exec_info"])
sandbox.close()
"""


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder that only its owner may enter, as `mktemp -d` makes it, two deep."""
    folder = tmp_path / "home" / "venv"
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    folder.parent.chmod(0o700)
    return folder


@pytest.mark.parametrize("how", [[], ["--copies"]])
@pytest.mark.needs("bwrap", "g++")
def test_a_kernel_in_a_folder_that_only_its_owner_may_enter(private: Path, how: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", *how, str(private)], check=True)
    private.chmod(0o700)
    (private / "lib").chmod(0o700)
    arguments = [":".join(filter(None, sys.path)), SUM_PY, SUM_CPP]
    command = [str(private / "bin" / "python"), "-W", "error", "-c", KERNEL, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["bwrap", "Accepted"]] * 2, done.stdout


@pytest.mark.needs("bwrap")
def test_solutions_see_what_is_installed_beside_the_interpreter_but_not_nbrun() -> None:
    source = "import numpy\ntry:\n    import nbrun.judge\nexcept ImportError:\n    " + SUM_PY
    with closing(LocalSandbox(isolation="required")) as sandbox:
        assert sandbox(task("PYTHON3", source))["verdict"] == "Accepted"


def unreadable(folder: Path) -> Language:
    """Python by an interpreter that others can't execute."""
    python = folder / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {shutil.which("true")} "$@"\n')
    python.chmod(0o700)
    return dataclasses.replace(PYTHON3, tools=(str(python),))


@pytest.mark.needs("bwrap", "g++")
def test_a_kernel_that_was_started_by_a_path_with_dots(private: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(private)], check=True)
    (private.parent / "play").mkdir()
    arguments = [":".join(filter(None, sys.path)), SUM_PY, SUM_CPP]
    command = ["../venv/bin/python", "-W", "error", "-c", KERNEL, *arguments]
    done = subprocess.run(command, cwd=private.parent / "play", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["bwrap", "Accepted"]] * 2, done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="an owner may execute it; only root's programs are run as another user")
@pytest.mark.needs("bwrap")
def test_an_interpreter_that_the_box_can_not_execute_is_found_at_once(private: Path) -> None:
    languages = {"PYTHON3": unreadable(private)}
    with pytest.raises(InputError, match=r"(?s)interpreter .*python3 does not run.*Permission denied.*chmod -R go\+rX"):
        LocalSandbox(languages=languages, isolation="required")
    with pytest.warns(UserWarning, match="not isolated"):
        LocalSandbox(languages=languages).close()


BROKEN = {
    "no interpreter any more": dataclasses.replace(
        PYTHON3, run=("{folder}/absent", "{folder}/{entry}"), tools=("sh",), trial=""
    ),
    "an interpreter that lacks its library": dataclasses.replace(
        PYTHON3, run=("/bin/sh", "-c", "echo no encodings >&2; exit 1"), tools=("sh",), trial=""
    ),
    "a compiler that lacks a part": dataclasses.replace(
        CPP17, compile=("/bin/sh", "-c", "echo cannot execute cc1plus >&2; exit 1")
    ),
    "a program that the linker can't load": dataclasses.replace(CPP17, run=("/bin/sh", "-c", "exit 127")),
    "no trial, and nothing to execute": Language("main.x", run=("/absent/x", "{folder}/{entry}"), tools=("sh",)),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_start_is_no_verdict(name: str, mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one of these does not run in the box
        sandbox = LocalSandbox(languages={"X": BROKEN[name]}, isolation=mode)
    try:
        for _ in range(2):
            with pytest.raises(JudgeError):
                sandbox(task("X", SUM_CPP))
    finally:
        sandbox.close()


@pytest.mark.needs("g++")
def test_a_solution_that_only_looks_like_it_is_judged() -> None:
    own = Language("main.sh", run=("{tool}", "{folder}/{entry}"), tools=("sh",))
    sandbox = LocalSandbox(languages={"SH": own})
    pretence = "import os, sys\nsys.stderr.write('setpriv: failed to execute /x: Permission denied\\n')\nos._exit(126)"
    try:
        assert sandbox(task("PYTHON3", pretence))["verdict"] == "RuntimeError"
        assert sandbox(task("PYTHON3", pretence))["verdict"] == "RuntimeError"
        assert sandbox(task("SH", "echo 'bwrap: execvp x' >&2; exit 127"))["verdict"] == "RuntimeError"
        assert sandbox(task("CPP", "int main() { return 127; }"))["verdict"] == "RuntimeError"
        assert sandbox(task("CPP", "int main( {"))["verdict"] == "CompileError"
    finally:
        sandbox.close()


@pytest.mark.parametrize("name", DEFAULT_LANGUAGES)
def test_the_trial_of_each_language_ends_well(name: str) -> None:
    if missing := DEFAULT_LANGUAGES[name].missing:
        pytest.skip(missing)
    sandbox = LocalSandbox()
    problem = {"id": "p", "tests": [{"input": "", "output": ""}]}
    try:
        assert sandbox(task(name, DEFAULT_LANGUAGES[name].trial, problem))["verdict"] == "Accepted"
    finally:
        sandbox.close()
