"""What the tests of the judge share: a small problem, tasks, and what finds processes that a sandbox left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbrun.judge import LocalSandbox
from nbrun.judge.languages import DEFAULT_LANGUAGES, lookup
from nbrun.judge.sandbox import ConcurrencyLimiter
from nbrun.judge.sandbox.isolation import Mounts, readable
from nbrun.model import Task

SUM = {"id": "sum", "tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "10 20\n", "output": "30\n"}]}
SUM_PY = "print(sum(map(int, input().split())))\n"
SUM_CPP = '#include <cstdio>\nint main() { int a, b; std::scanf("%d %d", &a, &b); std::printf("%d\\n", a + b); }\n'

#: How programs are isolated. Without bubblewrap "auto" is "none".
MODES = [pytest.param("auto", marks=pytest.mark.needs("bwrap")), "none"]
#: What a test whose programs are in this language needs; other languages need nothing, or are optional.
COMPILERS = {"CPP": "g++", "C": "gcc", "JAVA": "javac"}


def judged_as(language: str, *values: Any) -> Any:
    """The parameters of a test that judges a program in a language; it is skipped where its compiler is missing."""
    needed = COMPILERS.get(lookup(language, DEFAULT_LANGUAGES)[0])
    return pytest.param(*values, marks=[pytest.mark.needs(needed)] if needed else [])


def task(language: Any, solution: Any, problem: Any = SUM) -> Task:
    """Return a task as a worker gets it."""
    return Task(problem["id"], "solution", 0, {"language": language, "solution": solution}, problem)


def processes_of(root: Path | str) -> list[int]:
    """Return the living processes of a sandbox: those whose arguments, environment or mounts name its folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            about = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ", "mountinfo"))
            about += os.readlink(f"/proc/{pid}/cwd").encode()
        except OSError:
            continue
        if str(root).encode() in about and int(pid) != os.getpid():
            found.append(int(pid))
    return found


def is_isolated(sandbox: LocalSandbox) -> bool:
    """Return whether the sandbox puts programs into boxes."""
    return bool(sandbox._toolchain and sandbox._toolchain.isolation.is_on)


def has_own_boxes(sandbox: LocalSandbox) -> bool:
    """Return whether the monitor itself builds the boxes of Python programs, instead of bubblewrap.

    Boxes that show a folder in /tmp, such as a virtual environment there, are bubblewrap's.
    """
    mounts = Mounts(work=Path("/"), readable=readable(DEFAULT_LANGUAGES["PYTHON3"].tool))
    toolchain = sandbox._toolchain
    return bool(toolchain and toolchain.isolation.is_on and toolchain.isolation.box(mounts)["kind"] == "namespaces")


def is_up(sandbox: LocalSandbox) -> bool:
    """Return whether the sandbox has its supervisor process and its folder: from the first solution to close()."""
    return sandbox._toolchain is not None


def root_of(sandbox: LocalSandbox) -> Path:
    """Return the temporary folder of a sandbox that is up."""
    assert sandbox._toolchain is not None
    return sandbox._toolchain.supervisor.root


def running(sandbox: LocalSandbox) -> list[int]:
    """Return the sandbox's living processes; none before it is up."""
    return processes_of(root_of(sandbox)) if is_up(sandbox) else []


def supervisor_of(sandbox: LocalSandbox) -> int:
    """Return the process that supervises the sandbox's programs; all others are its descendants."""
    (pid,) = {child.pid for child in psutil.Process().children()} & set(running(sandbox))
    return pid


def limiter_of(sandbox: LocalSandbox, n_cores: int | None = None) -> ConcurrencyLimiter:
    """Return what limits how many programs run at once, as on a machine with `n_cores` if that is given."""
    if n_cores is not None:
        sandbox._limiter = ConcurrencyLimiter(None, n_cores=n_cores)
    return sandbox._limiter


def paths_in(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something is in a value of dicts and lists, at any depth: the keys and places that lead to it."""
    if at:
        yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from paths_in(inner, (*at, key))


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of the value with something else at one of these places."""
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy
