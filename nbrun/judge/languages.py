"""The table of languages: the commands that compile and run a source. `LocalSandbox(languages=...)` adds rows.

Worker threads read it; its rows are frozen. The only I/O is finding programs on the PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from typing import NamedTuple

from nbrun.errors import NotSupportedError
from nbrun.judge.java import main_class
from nbrun.judge.language_names import language_name
from nbrun.judge.python_prelude import Prelude, prelude_of
from nbrun.samples import language_of_number


@dataclass(frozen=True)
class Language:
    """How a language is compiled and run.

    Args:
        source: the file name for a solution's source; `{main}` in it is replaced by what `main` returns.
        run: the command that runs a solution. These places in it are replaced: `{tool}` by the first of `tools` that is
            installed, `{folder}` by the folder with the source and the compiler's output, `{entry}` by the name of the
            main file, `{memory_mb}` by the memory limit, `{main}` by what `main` returns.
        compile: the command that compiles a solution, run inside that folder; empty if nothing is compiled. Further
            places in it are replaced: `{compiler}` by the first of `compilers` that is installed, `{sources}` by all
            files with one of `extensions`, `{standard}` by the compiler options of a standard.
        tools, compilers: the programs to use, best first.
        install: a sentence for users who have none of them: how to install one.
        time_factor: a problem's time limit is multiplied by this.
        env: environment variables in addition to PATH, HOME, TMPDIR, LANG and ONLINE_JUDGE.
        extensions: the extensions of the files that the compiler gets.
        main: a function that takes a source and returns the name of the part to run (Java: the main class).
        is_vm: whether it runs in a virtual machine: `run` bounds the heap by `{memory_mb}`, and the virtual machine's
            other memory isn't counted.
        readable: further folders that its programs must be able to read, such as an interpreter's library.
        trial: the source of a program that writes nothing and exits with 0. If it fails, the machine is at fault, and
            no solution in this language gets a verdict.
        standards: the standard in a solution's language ("17" in "GNU C++17") -> compiler options.
        tried: the standards to try, in this order, until one compiles a source whose language has no standard.
        compat_header: declarations that earlier standards had, or that older compilers' headers included indirectly.
            A source that compiles under no standard is compiled once more with them.
        compat_name: use `compat_header` only for sources that contain this text; empty for all sources.
        compile_env: environment variables of the compiler alone; `{folder}` is its working folder.
        address_limited: False if the runtime reserves far more address space than it uses.
        prelude: a function that takes a solution's files and returns what makes its interpreter behave as older
            versions did (Python).

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
    standards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tried: tuple[str, ...] = ()
    compat_header: str = ""
    compat_name: str = ""
    compile_env: Mapping[str, str] = field(default_factory=dict)
    address_limited: bool = True
    prelude: Callable[[Mapping[str, bytes]], Prelude] | None = None

    def of_standard(self, standard: str) -> Language:
        """Return the row for one standard; the row itself if it doesn't know that standard."""
        return replace(self, tried=(standard,)) if standard in self.standards else self

    def command(
        self, template: Sequence[str], sources: Sequence[str] = (), standard: Sequence[str] = (), **places: object
    ) -> list[str]:
        """Return a command with its places filled in.

        Raises:
            NotSupportedError: none of `tools` is installed.
        """
        out: list[str] = []
        for part in template:
            if part in ("{sources}", "{standard}"):
                out += sources if part == "{sources}" else standard
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
        """The full path of the first of `tools` that is installed; empty if the language needs none."""
        return self._first(self.tools)

    @property
    def compiler(self) -> str:
        """The full path of the first of `compilers` (or else of `tools`) that is installed."""
        return self._first(self.compilers or self.tools)

    @property
    def missing(self) -> str:
        """What has to be installed before this language can be judged; empty if nothing has."""
        for names in (self.compilers if self.compile else (), self.tools):
            if names and not any(map(_find, names)):
                return f"none of {', '.join(map(os.path.basename, names))} is installed. {self.install}".rstrip()
        return ""

    def _first(self, names: tuple[str, ...]) -> str:
        for name in names:
            path = _find(name)
            if path:
                return path
        if names:
            raise NotSupportedError(f"none of {', '.join(names)} is installed. {self.install}".rstrip())
        return ""

    def described(self) -> dict[str, object]:
        """Return the parts of this row that a run's settings record."""
        standard = self.standards[self.tried[0]] if self.tried else ()
        compiled = [word for part in self.compile for word in (standard if part == "{standard}" else (part,))]
        about = {"compile": compiled, "run": list(self.run), "time_factor": self.time_factor}
        return about | ({"standards": list(self.tried)} if self.tried else {})


#: Limits the numeric libraries to one thread (OpenBLAS and MKL read it too). Otherwise they start one for each core,
#: and the CPU time of all of them counts.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def _apt(language: str, package: str, also: str = "") -> str:
    """Return a sentence that explains how to install a language."""
    return f"{language} solutions need it: `apt install {package}` (Debian, Ubuntu){also}."


def _gnu(prefix: str, *years: str) -> dict[str, tuple[str, ...]]:
    """Return the option of gcc and clang for each standard of C or C++, with the GNU extensions."""
    return {year: (f"-std={prefix}{'2x' if (prefix, year) == ('gnu', '23') else year}",) for year in years}


PYTHON3 = Language(
    source="main.py",
    run=("{tool}", "-s", "-B", "-X", "utf8", "{folder}/{entry}"),  # not -I, which hides a solution's own modules
    tools=(sys.executable or "python3", "python3"),
    install="Install Python 3.",
    env=_ONE_THREAD,
    extensions=(".py",),
    trial="",
    prelude=prelude_of,
)
#: The row of CodeContests' name PYTHON.
PYTHON2 = Language(
    source="main.py",
    run=("{tool}", "-s", "-B", "{folder}/{entry}"),
    tools=("python2.7", "python2", "pypy2", "pypy"),
    install=(
        "Python 2 solutions need it: `apt install python2` (Debian 11, Ubuntu 22.04 and older), or where that is gone "
        "`conda create -n py2 -c conda-forge python=2.7` or `pyenv install 2.7.18`, with its `bin` on the PATH."
    ),
    extensions=(".py",),
    trial="exec ''\n",
)
PYPY3 = replace(
    PYTHON3,
    tools=("pypy3",),
    install=_apt("PyPy", "pypy3", ", `conda install -c conda-forge pypy`"),
    address_limited=False,
)
PYPY2 = replace(
    PYTHON2,
    tools=("pypy2", "pypy"),
    install="PyPy 2 solutions need it: `apt install pypy` (Debian 11, Ubuntu 22.04 and older), or https://pypy.org.",
    address_limited=False,
)
C = Language(
    source="main.c",
    compile=("{compiler}", "-O2", "{standard}", "-DONLINE_JUDGE", "-o", "program", "{sources}", "-lm"),
    run=("{folder}/program",),
    compilers=("gcc", "clang", "cc"),
    install="C solutions need a compiler: `apt install gcc` (Debian, Ubuntu), `dnf install gcc` (Fedora).",
    extensions=(".c",),
    trial="int main(void) { return 0; }\n",
    standards=_gnu("gnu", "89", "99", "11", "17", "23"),
    tried=("17", "11", "99", "89"),
    compat_header="char *gets(char *s);\n",
    compat_name="gets",
)
CPP = Language(
    source="main.cpp",
    compile=("{compiler}", "-O2", "{standard}", "-DONLINE_JUDGE", "-o", "program", "{sources}"),
    run=("{folder}/program",),
    compilers=("g++", "clang++", "c++"),
    install=(
        "C++ solutions need a compiler: `apt install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora), "
        "`conda install cxx-compiler`, or `xcode-select --install` (macOS)."
    ),
    extensions=(".cpp", ".cc", ".cxx", ".c++", ".C"),
    trial="#include <iostream>\nint main() { std::cout.flush(); }\n",
    standards=_gnu("gnu++", "98", "11", "14", "17", "20", "23", "26"),
    tried=("17", "20", "14", "11", "98"),
    compat_header="".join(
        f"#include <{name}>\n"
        for name in ("algorithm", "cctype", "climits", "cmath", "cstdio", "cstdlib", "cstring", "string", "utility")
    )
    + 'extern "C" char *gets(char *s);\nnamespace std {\nusing ::gets;\n}  // namespace std\n',
)
CPP17 = CPP.of_standard("17")
_QUIET_JVM = ("-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:ActiveProcessorCount=1")
#: The heap has its full size from the start, because a heap that grows is collected repeatedly while it grows.
_JVM = (
    *_QUIET_JVM,
    "-Xms{memory_mb}m",
    "-Xmx{memory_mb}m",
    "-Xss{stack_mb}m",
    "-XX:-CreateCoredumpOnCrash",
    "-Dfile.encoding=UTF-8",
    "-DONLINE_JUDGE=true",
)
JAVA = Language(
    source="{main}.java",
    compile=(
        "{compiler}",
        *(f"-J{flag}" for flag in _QUIET_JVM),
        "{standard}",
        "-encoding",
        "UTF-8",
        "-nowarn",
        "-d",
        ".",
        "{sources}",
    ),
    run=("{tool}", *_JVM, "-cp", "{folder}", "{main}"),
    tools=("java",),
    compilers=("javac",),
    install="Java solutions need a JDK: `apt install default-jdk-headless` (Debian, Ubuntu), or SDKMAN.",
    extensions=(".java",),
    main=main_class,
    is_vm=True,
    trial="public class Main { public static void main(String[] a) { } }\n",
    standards={"current": (), "8": ("--release", "8")},
    tried=("current", "8"),  # older sources use `_`, `record` and `yield` as names
)
KOTLIN = Language(
    source="main.kt",
    compile=("{compiler}", "-nowarn", "-include-runtime", "-d", "program.jar", "{sources}"),
    run=("{tool}", *_JVM, "-jar", "{folder}/program.jar"),
    tools=("java",),
    compilers=("kotlinc",),
    install=_apt("Kotlin", "kotlin", ", or SDKMAN"),
    extensions=(".kt",),
    is_vm=True,
    trial="fun main() { }\n",
    compile_env={"JAVA_OPTS": "-Xmx1024m -XX:+UseSerialGC"},
)
GO = Language(
    source="main.go",
    compile=("{compiler}", "build", "-o", "program", "{sources}"),
    run=("{folder}/program",),
    compilers=("go",),
    install=_apt("Go", "golang-go", ", `dnf install golang` (Fedora)"),
    env={"GOMAXPROCS": "1"},
    extensions=(".go",),
    trial="package main\n\nfunc main() {}\n",
    compile_env={
        "GOCACHE": "{folder}/.go/cache",
        "GOPATH": "{folder}/.go/path",
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
        "GOFLAGS": "-p=1",
        "GOTOOLCHAIN": "local",
    },
    address_limited=False,
)
RUST = Language(
    source="main.rs",
    compile=("{compiler}", "{standard}", "-O", "--cap-lints", "allow", "-o", "program", "{entry}"),
    run=("{folder}/program",),
    compilers=("rustc",),
    install=_apt("Rust", "rustc", ", or https://rustup.rs"),
    extensions=(".rs",),
    trial="fn main() {}\n",
    standards={edition: ("--edition", edition) for edition in ("2015", "2018", "2021", "2024")},
    tried=("2021", "2018", "2015"),
)
JAVASCRIPT = Language(
    source="main.js",
    run=("{tool}", "--stack-size=65500", "--max-old-space-size={memory_mb}", "{folder}/{entry}"),
    tools=("node", "nodejs"),
    install=_apt("JavaScript", "nodejs"),
    env={"OPENSSL_CONF": "/dev/null"},
    extensions=(".js",),
    trial="",
    address_limited=False,
)
CSHARP = Language(
    source="main.cs",
    compile=(
        "{compiler}",
        "-optimize+",
        "-nologo",
        "-warn:0",
        "-define:ONLINE_JUDGE",
        "-r:System.Numerics.dll",
        "-out:program.exe",
        "{sources}",
    ),
    run=("{tool}", "{folder}/program.exe"),
    tools=("mono",),
    compilers=("mcs",),
    install=_apt("C#", "mono-mcs mono-runtime libmono-system-numerics4.0-cil libmono-system-core4.0-cil"),
    extensions=(".cs",),
    trial="class Program { static void Main() { } }\n",
    address_limited=False,
)
PASCAL = Language(
    source="main.pas",
    compile=("{compiler}", "-O2", "{standard}", "-Sgic", "-v0e", "-dONLINE_JUDGE", "-oprogram", "{entry}"),
    run=("{folder}/program",),
    compilers=("fpc",),
    install=_apt("Pascal", "fp-compiler"),
    extensions=(".pas", ".pp", ".dpr"),
    trial="begin\nend.\n",
    standards={"delphi": ("-Mdelphi",), "objfpc": ("-Mobjfpc",)},
    tried=("delphi", "objfpc"),
)
RUBY = Language(
    source="main.rb",
    run=("{tool}", "{folder}/{entry}"),
    tools=("ruby",),
    install=_apt("Ruby", "ruby"),
    extensions=(".rb",),
    trial="",
    address_limited=False,
)
HASKELL = Language(
    source="main.hs",
    compile=("{compiler}", "-O2", "-w", "-o", "program", "{sources}"),
    run=("{folder}/program",),
    compilers=("ghc",),
    install=_apt("Haskell", "ghc"),
    extensions=(".hs",),
    trial="main :: IO ()\nmain = return ()\n",
    address_limited=False,
)
#: Programs of packages that contain `run` itself, or a script `build` that makes it.
SCRIPT = Language(
    source="run",
    compile=(
        "{compiler}",
        "-c",
        "if [ -x build ]; then {folder}/build || exit; elif [ -e build ]; then sh build || exit; fi; "
        "[ -e run ] || { echo 'the script build made no file run' >&2; exit 1; }",
    ),
    run=("{folder}/run",),
    compilers=("sh",),
    install="Scripts need a shell.",
    trial="#!/bin/sh\nexit 0\n",
    address_limited=False,
)
#: Names are those of `nbrun.judge.language_names`; its PYTHON is Python 2, as in CodeContests.
DEFAULT_LANGUAGES: Mapping[str, Language] = {
    "PYTHON3": PYTHON3, "CPP": CPP, "C": C, "JAVA": JAVA, "PYTHON": PYTHON2, "PYPY3": PYPY3, "PYPY2": PYPY2,
    "KOTLIN": KOTLIN, "GO": GO, "RUST": RUST, "JAVASCRIPT": JAVASCRIPT, "CSHARP": CSHARP, "PASCAL": PASCAL,
    "RUBY": RUBY, "HASKELL": HASKELL, "SCRIPT": SCRIPT,
}  # fmt: skip


class Row(NamedTuple):
    """One row of a table of languages: its name, and how solutions in it are compiled and run."""

    name: str
    language: Language


def lookup(name: object, table: Mapping[str, Language]) -> Row:
    """Return the row of a solution's language, for the standard in that language's name.

    A name is first looked up in the table unchanged, then without regard to case and spaces, then as
    `nbrun.judge.language_names` parses it.

    Raises:
        NotSupportedError: the table has no such language; the message lists the languages that it has.

    Example:
        >>> lookup("C++17", DEFAULT_LANGUAGES).name, lookup(3, DEFAULT_LANGUAGES).name
        ('CPP', 'PYTHON3')
    """
    if (known := find_row(name, table)) is not None:
        meant = language_name(name)
        return Row(known, table[known].of_standard(meant.standard if meant is not None else ""))
    how = "Add it with LocalSandbox(languages={{{name}: nbrun.judge.Language(...)}})."
    raise unknown_language(name, "this sandbox", table, how)


def unknown_language(name: object, who: str, rows: Iterable[str], how: str) -> NotSupportedError:
    """Return the error for a language that a judge doesn't know.

    Args:
        who: the judge, as the subject of the sentence.
        rows: the languages that it knows.
        how: a sentence that explains how to add one; `{name}` in it is replaced by the language.
    """
    if isinstance(name, int):
        name = language_of_number(name)
    hint = " CodeContests' PYTHON is Python 2." if name == "PYTHON" else ""
    return NotSupportedError(
        f"{who} has no language {name!r}: it has {', '.join(rows)}.{hint} {how.format(name=repr(name))}"
    )


def find_row(name: object, rows: Collection[str]) -> str | None:
    """Return the one of these languages that a name means; None if it means none of them.

    Example:
        >>> find_row("GNU C++20 (64)", ["PYTHON3", "CPP"])
        'CPP'
    """
    if isinstance(name, str):
        if name in rows:
            return name
        folded = "".join(name.split()).lower()
        if folded != "python":  # "python" without a version is Python 3; the row "PYTHON" is Python 2
            known = next((row for row in rows if row.lower() == folded), None)
            if known is not None:
                return known
    meant = language_name(name)
    return meant.language if meant is not None and meant.language in rows else None


_found: dict[str, str] = {}
#: Name of a program that wasn't found -> when. Every solution looks it up, and it may be installed at any time, so the
#: answer is kept for a short time only.
_absent: dict[str, float] = {}
_ABSENT_S = 2.0


def _find(name: str) -> str | None:
    if name not in _found:
        now = time.monotonic()
        if now - _absent.get(name, -_ABSENT_S) < _ABSENT_S:
            return None
        path = _which(name)
        if path is None:
            _absent[name] = now
            return None
        # Resolve links in the folder's path, since they may pass through folders that the sandbox doesn't mount. Keep
        # the file's own link: an interpreter recognises its virtual environment by it.
        folder, file = os.path.split(path)
        _found[name] = os.path.join(os.path.realpath(folder), file)
    return _found[name]


def _which(name: str) -> str | None:
    """Return the path of a program; for a version manager's wrapper, which needs the user's home, the real program.

    The wrappers of pyenv, rbenv and nodenv are scripts in a folder `shims`; those of rustup are links to itself.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    while path := shutil.which(name, path=os.pathsep.join(folders)):
        folder = os.path.dirname(path)
        if os.path.basename(folder) == "shims":
            behind = glob(os.path.join(os.path.dirname(folder), "versions", "*", "bin", name))
        elif name != "rustup" and os.path.basename(os.path.realpath(path)) == "rustup":
            home = os.environ.get("RUSTUP_HOME") or os.path.expanduser("~/.rustup")
            behind = glob(os.path.join(home, "toolchains", "*", "bin", name))
        else:
            return path
        if behind := [file for file in sorted(behind) if os.access(file, os.X_OK)]:
            return behind[-1]
        if os.path.dirname(name):
            return None
        folders = [other for other in folders if os.path.realpath(other or ".") != os.path.realpath(folder)]
    return None
