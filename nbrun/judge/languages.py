"""The table of languages: what compiles a source and what runs it. Users add rows with `LocalSandbox(languages=...)`.

Read by worker threads; frozen values. Finding a program on the PATH is the only I/O.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbrun.errors import JudgeError, NotSupportedError
from nbrun.judge.java import main_class
from nbrun.judge.language_names import language_name


@dataclass(frozen=True)
class Language:
    """How a language is compiled and run.

    Args:
        source: the file name that a solution gets; `{main}` in it stands for what `main` finds.
        run: the command that runs it. `{tool}` stands for the first of `tools` that is installed, `{folder}` for the
            folder that holds the source and whatever the compiler made of it, `{entry}` for the name of the main file,
            `{memory_mb}` for the memory limit, and `{main}`.
        compile: the command that compiles it, started inside that folder; empty where nothing is compiled. `{compiler}`
            stands for the first of `compilers` that is installed, `{sources}` for all files with one of `extensions`.
        tools, compilers: the programs that can do it, best first.
        install: what to tell a user who has none of them.
        time_factor: a solution's time limit is the problem's times this.
        env: environment variables beside PATH, HOME, TMPDIR and LANG.
        extensions: how its files are named.
        main: a source -> what is run of it (Java: the main class).
        is_vm: a virtual machine: `run` bounds its heap by `{memory_mb}`, and what it takes beside that isn't counted.
        readable: further folders that its programs need to see, such as an interpreter's library.
        trial: the source of a program that writes nothing and ends well. Where it does not, the machine is at fault,
            and no solution in this language is called wrong.

    Example:
        >>> Language("main.rb", run=("{tool}", "{folder}/{entry}"), tools=("ruby",)).compile
        ()
    """

    source: str
    run: tuple[str, ...]
    compile: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    install: str = ""
    time_factor: float = 1.0
    env: Mapping[str, str] = field(default_factory=dict)
    compilers: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    main: Callable[[bytes], str] | None = None
    is_vm: bool = False
    readable: tuple[str, ...] = ()
    trial: str | None = None

    def command(self, template: Sequence[str], sources: Sequence[str] = (), **places: Any) -> list[str]:
        """A command with its places filled in.

        Raises:
            JudgeError: none of `tools` is installed.
        """
        out: list[str] = []
        for part in template:
            if part == "{sources}":
                out += sources
                continue
            if "{tool}" in part:
                part = part.replace("{tool}", self.tool)
            if "{compiler}" in part:
                part = part.replace("{compiler}", self.compiler)
            for name, value in places.items():
                part = part.replace(f"{{{name}}}", str(value))
            out.append(part)
        return out

    @property
    def tool(self) -> str:
        """The full path of the first of `tools` that is installed; empty if none is asked for."""
        return self._first(self.tools)

    @property
    def compiler(self) -> str:
        """The full path of the first of `compilers` (or else of `tools`) that is installed."""
        return self._first(self.compilers or self.tools)

    def _first(self, names: tuple[str, ...]) -> str:
        for name in names:
            path = _find(name)
            if path:
                return path
        if names:
            raise JudgeError(f"none of {', '.join(names)} is installed. {self.install}".rstrip(), retriable=False)
        return ""

    def described(self) -> dict[str, Any]:
        """What of it belongs to the settings of a run."""
        return {"compile": list(self.compile), "run": list(self.run), "time_factor": self.time_factor}


#: One thread for the numeric libraries: they start one a core otherwise, and all of their CPU time counts.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

PYTHON3 = Language(
    source="main.py",
    run=("{tool}", "-E", "-s", "-B", "-X", "utf8", "{folder}/{entry}"),  # not -I: it hides a solution's own modules
    tools=(sys.executable or "python3", "python3"),
    install="Install Python 3.",
    env=_ONE_THREAD,
    extensions=(".py",),
    trial="",
)
C = Language(
    source="main.c",
    compile=("{compiler}", "-O2", "-std=gnu17", "-o", "program", "{sources}", "-lm"),
    run=("{folder}/program",),
    compilers=("gcc", "clang", "cc"),
    install="C solutions need a compiler: `apt install gcc` (Debian, Ubuntu), `dnf install gcc` (Fedora).",
    extensions=(".c",),
    trial="int main(void) { return 0; }\n",
)
CPP17 = Language(
    source="main.cpp",
    compile=("{compiler}", "-O2", "-std=gnu++17", "-o", "program", "{sources}"),
    run=("{folder}/program",),
    compilers=("g++", "clang++", "c++"),
    install=(
        "C++ solutions need a compiler: `apt install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora), "
        "`conda install cxx-compiler`, or `xcode-select --install` (macOS)."
    ),
    extensions=(".cpp", ".cc", ".cxx", ".c++", ".C"),
    trial="#include <iostream>\nint main() { std::cout.flush(); }\n",
)
_QUIET_JVM = ("-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:ActiveProcessorCount=1")
JAVA = Language(
    source="{main}.java",
    compile=(
        "{compiler}", *(f"-J{flag}" for flag in _QUIET_JVM), "-encoding", "UTF-8", "-nowarn", "-d", ".", "{sources}",
    ),
    run=(
        "{tool}", *_QUIET_JVM, "-Xmx{memory_mb}m", "-Xss{stack_mb}m", "-XX:-CreateCoredumpOnCrash",
        "-Dfile.encoding=UTF-8", "-cp", "{folder}", "{main}",
    ),
    tools=("java",),
    compilers=("javac",),
    install="Java solutions need a JDK: `apt install default-jdk-headless` (Debian, Ubuntu), or SDKMAN.",
    extensions=(".java",),
    main=main_class,
    is_vm=True,
    trial="public class Main { public static void main(String[] a) { } }\n",
)  # fmt: skip
#: Names are CodeContests'. Its PYTHON is Python 2, and has no row here.
DEFAULT_LANGUAGES: Mapping[str, Language] = {"PYTHON3": PYTHON3, "CPP": CPP17, "C": C, "JAVA": JAVA}


def lookup(name: Any, table: Mapping[str, Language]) -> tuple[str, Language]:
    """Return the row of a solution's language, and the row's name.

    A name is first looked for in the table as it is, then without regard to case and spaces, then as
    `nbrun.judge.language_names` reads it.

    Raises:
        NotSupportedError: the table has no such language; the message lists what it has.

    Example:
        >>> lookup("C++17", DEFAULT_LANGUAGES)[0], lookup(3, DEFAULT_LANGUAGES)[0]
        ('CPP', 'PYTHON3')
    """
    if (known := find_row(name, table)) is not None:
        return known, table[known]
    hint = " CodeContests' PYTHON is Python 2." if name == "PYTHON" else ""
    raise NotSupportedError(
        f"this sandbox has no language {name!r}: it has {', '.join(table)}.{hint} "
        f"Add it with LocalSandbox(languages={{{name!r}: nbrun.judge.Language(...)}})."
    )


def find_row(name: Any, rows: Collection[str]) -> str | None:
    """Return which of these names of languages is meant; None if none is.

    Example:
        >>> find_row("GNU C++20 (64)", ["PYTHON3", "CPP"])
        'CPP'
    """
    if isinstance(name, str):
        if name in rows:
            return name
        folded = "".join(name.split()).lower()
        if folded != "python":  # without a version it is Python 3, and a row "PYTHON" is Python 2
            known = next((row for row in rows if row.lower() == folded), None)
            if known is not None:
                return known
    meant = language_name(name)
    return meant.language if meant is not None and meant.language in rows else None


_found: dict[str, str] = {}  # only what was found: a compiler may be installed while the kernel runs


def _find(name: str) -> str | None:
    if name not in _found:
        path = shutil.which(name)
        if path is None:
            return None
        # Its folder without links and dots, which lead through others that a box doesn't have. The file may be a link:
        # a virtual environment's interpreter is known by it.
        folder, file = os.path.split(path)
        _found[name] = os.path.join(os.path.realpath(folder), file)
    return _found[name]
