"""The table of languages: what compiles a source and what runs it. Users add rows with `LocalSandbox(languages=...)`.

Read by worker threads; frozen values. Finding a program on the PATH is the only I/O.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbrun.errors import JudgeError
from nbrun.samples import LANGUAGES as NUMBERED


@dataclass(frozen=True)
class Language:
    """How a language is compiled and run.

    Args:
        source: the file name that a solution gets.
        run: the command that runs it. `{tool}` stands for the first of `tools` that is installed, `{folder}` for the
            folder that holds the source and whatever the compiler made of it.
        compile: the command that compiles it, started inside that folder; empty where nothing is compiled.
        tools: the programs that can do it, best first.
        install: what to tell a user who has none of them.
        time_factor: a solution's time limit is the problem's times this.
        env: environment variables beside PATH, HOME, TMPDIR and LANG.

    Example:
        >>> Language("main.rb", run=("{tool}", "{folder}/main.rb"), tools=("ruby",)).compile
        ()
    """

    source: str
    run: tuple[str, ...]
    compile: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    install: str = ""
    time_factor: float = 1.0
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, template: tuple[str, ...], folder: str) -> list[str]:
        """A command with its places filled in.

        Raises:
            JudgeError: none of `tools` is installed.
        """
        return [part.replace("{tool}", self.tool).replace("{folder}", folder) for part in template]

    @property
    def tool(self) -> str:
        """The full path of the first of `tools` that is installed; empty if none is asked for."""
        for name in self.tools:
            path = _find(name)
            if path:
                return path
        if self.tools:
            raise JudgeError(f"none of {', '.join(self.tools)} is installed. {self.install}".rstrip())
        return ""

    def described(self) -> dict[str, Any]:
        """What of it belongs to the settings of a run."""
        return {"compile": list(self.compile), "run": list(self.run), "time_factor": self.time_factor}


#: One thread for the numeric libraries: they start one a core otherwise, and all of their CPU time counts.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

PYTHON3 = Language(
    source="main.py",
    run=("{tool}", "-I", "-B", "-X", "utf8", "{folder}/main.py"),
    tools=(sys.executable or "python3", "python3"),
    install="Install Python 3.",
    env=_ONE_THREAD,
)
CPP17 = Language(
    source="main.cpp",
    compile=("{tool}", "-O2", "-std=c++17", "-o", "program", "main.cpp"),
    run=("{folder}/program",),
    tools=("g++", "clang++", "c++"),
    install=(
        "C++ solutions need a compiler: `apt install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora), "
        "`conda install cxx-compiler`, or `xcode-select --install` (macOS)."
    ),
)
#: Names are CodeContests'. Its PYTHON is Python 2, and has no row here.
DEFAULT_LANGUAGES: Mapping[str, Language] = {"PYTHON3": PYTHON3, "CPP": CPP17}
#: Other spellings, in lower case without spaces. "PYTHON" in capitals is CodeContests' Python 2 and is not among them.
ALIASES: Mapping[str, str] = {
    "python3": "PYTHON3", "python": "PYTHON3", "py": "PYTHON3", "py3": "PYTHON3",
    "cpp": "CPP", "c++": "CPP", "cpp17": "CPP", "c++17": "CPP", "cxx": "CPP",
}  # fmt: skip


def lookup(name: Any, table: Mapping[str, Language]) -> tuple[str, Language]:
    """A solution's language (a name in any usual spelling, or CodeContests' number) -> its row and the row's name.

    Raises:
        JudgeError: the table has no such language; the message lists what it has.

    Example:
        >>> lookup("C++17", DEFAULT_LANGUAGES)[0], lookup(3, DEFAULT_LANGUAGES)[0]
        ('CPP', 'PYTHON3')
    """
    if isinstance(name, int) and not isinstance(name, bool):
        name = NUMBERED.get(name, name)
    if isinstance(name, str):
        if name in table:
            return name, table[name]
        if name != "PYTHON":
            folded = "".join(name.split()).lower()
            for known in table:
                if known.lower() == folded or known == ALIASES.get(folded):
                    return known, table[known]
    hint = " CodeContests' PYTHON is Python 2." if name == "PYTHON" else ""
    raise JudgeError(
        f"this sandbox has no language {name!r}: it has {', '.join(table)}.{hint} "
        f"Add it with LocalSandbox(languages={{{name!r}: nbrun.judge.Language(...)}})."
    )


_found: dict[str, str] = {}  # only what was found: a compiler may be installed while the kernel runs


def _find(name: str) -> str | None:
    path = _found.get(name) or shutil.which(name)
    if path:
        _found[name] = path
    return path
