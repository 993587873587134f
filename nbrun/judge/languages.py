"""Languages: what their names mean, and the table of the commands that compile and run a source.

`LocalSandbox(languages=...)` adds rows to the table. Any thread reads it; its rows are frozen. The only I/O is finding
programs on the PATH. Names of languages are parsed as data sets write them: those of CodeContests (numbers), Codeforces
("GNU C++20 (64)", "PyPy 3-64"), AtCoder ("C++ (GCC 9.2.1)", "Python (CPython 3.11.4)"), CodeNet and AIZU ("JAVA",
"C++14"), Kattis, LeetCode and SandboxFusion, and file extensions. A Java source also needs the name of its main class.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from glob import glob
from typing import NamedTuple

from nbrun.errors import NotSupportedError
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

    @property
    def is_address_limited(self) -> bool:
        """Whether the address space of its programs and compilers may be limited."""
        return self.address_limited and not self.is_vm

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

        def fill(match: re.Match[str]) -> str:
            name = match[1]
            return str(getattr(self, name) if name in ("tool", "compiler") else places.get(name, match[0]))

        several = {"{sources}": sources, "{standard}": standard}
        out: list[str] = []
        for part in template:
            out += several[part] if part in several else [_PLACE.sub(fill, part)]
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
        path = next(filter(None, map(_find, names)), "")
        if names and not path:
            raise NotSupportedError(f"none of {', '.join(names)} is installed. {self.install}".rstrip())
        return path

    def described(self) -> dict[str, object]:
        """Return the parts of this row that a run's settings record."""
        standard = self.standards[self.tried[0]] if self.tried else ()
        compiled = [word for part in self.compile for word in (standard if part == "{standard}" else (part,))]
        about = {"compile": compiled, "run": list(self.run), "time_factor": self.time_factor}
        return about | ({"standards": list(self.tried)} if self.tried else {})


_PLACE = re.compile(r"\{(\w+)\}")


# ---- the main class of a Java source

_SKIPPED = re.compile(rb'/\*.*?\*/|//[^\n]*|"""(?:\\.|.)*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_PACKAGE = re.compile(rb"^\s*package\s+([\w.]+)\s*;", re.MULTILINE)
_TYPE = re.compile(rb"(?P<before>(?:[\w@]+\s+)*)(?:class|enum|record|interface)\s+(?P<name>\w+)")
_MAIN = re.compile(rb"\bstatic\s+(?:\w+\s+)*void\s+main\s*\(")


def main_class(source: bytes) -> str:
    """Return the full name of the class to run; `Main` if the source has none, which the compiler reports.

    Example:
        >>> main_class(b"class A {} class B { public static void main(String[] a) {} }")
        'B'
        >>> main_class(b"package x.y; // class C\\npublic class Solve { }")
        'x.y.Solve'
    """
    code = _SKIPPED.sub(lambda m: b"0" if m[0][:1] in b"\"'" else b" ", source)
    package = _PACKAGE.search(code)
    prefix = package[1].decode("utf-8", "replace") + "." if package else ""
    # The first public type with `main`, or else the first public one, or else the first one with `main`.
    best = max(_types(code), key=lambda one: (one.is_public, one.has_main), default=_Type("Main", False))
    return prefix + best.name


class _Type(NamedTuple):
    name: str
    is_public: bool
    has_main: bool = False


def _types(code: bytes) -> list[_Type]:
    """Return the classes, enums, records and interfaces at the top level of a file."""
    found: list[_Type] = []
    for depth, piece, brace in _pieces(code):
        if depth == 0 and brace == b"{" and (match := _TYPE.search(piece)):
            name = match["name"].decode("utf-8", "replace")
            found.append(_Type(name, b"public" in match["before"].split()))
        elif depth == 1 and found and _MAIN.search(piece):
            found[-1] = found[-1]._replace(has_main=True)
    return found


def _pieces(code: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield what is between the braces of a source: how many are open there, the text, and the brace that ends it."""
    depth, parts = 0, re.split(rb"([{}])", code)
    for piece, brace in zip(parts[::2], parts[1::2], strict=False):
        yield depth, piece, brace
        depth += 1 if brace == b"{" else -1


def renamed_to_main(source: bytes) -> bytes:
    """Return a program with its main class renamed to `Main` and no package, for judges that compile `Main.java`.

    Strings and comments stay unchanged. Another class called `Main` gets another name.

    Example:
        >>> renamed_to_main(b'public class Solve { /* Solve */ Solve() {} static void main(String[] a) {} }')
        b'public class Main { /* Solve */ Main() {} static void main(String[] a) {} }'
    """
    package, _, name = main_class(source).rpartition(".")
    others = b"Main_"
    while others in source:
        others += b"_"
    names = {b"Main": others, name.encode(): b"Main"}
    # Strings and comments match as a whole, and so do words.
    code = re.sub(rb"%b|\w+" % _SKIPPED.pattern, lambda m: names.get(m[0], m[0]), source, flags=re.DOTALL)
    return re.sub(rb"(?m)^(\s*)package\s+[\w.]+\s*;", rb"\1", code, count=1) if package else code


# ---- the table

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
        # what other headers included in some version of a compiler; containers such as <set> never were among them
        for name in (
            *("algorithm", "cctype", "climits", "cmath", "cstdint", "cstdio", "cstdlib", "cstring", "functional"),
            *("limits", "string", "utility", "vector"),
        )
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
#: Names are those that `parse_language` returns; PYTHON is Python 2, as in CodeContests.
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

    A name is first looked up in the table unchanged, then without regard to case and spaces, then as `parse_language`
    parses it.

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
    meant = language_name(name)
    names = [] if meant is None else [meant.language]
    if isinstance(name, str):
        folded = "".join(name.split()).lower()
        # "python" without a version is Python 3; the row "PYTHON" is Python 2.
        alike = [row for row in rows if row.lower() == folded != "python"]
        names = [name, *alike, *names]
    return next(filter(rows.__contains__, names), None)


# ---- names of languages


class LanguageName(NamedTuple):
    """A parsed name of a language.

    Attributes:
        language: the name of its row: "PYTHON3", "PYTHON" (CodeContests' name of Python 2), "PYPY3", "PYPY2", "CPP",
            "C", "JAVA", "GO", "RUST" and so on.
        standard: the standard or version in the name, as text: "17" for C++17 ("98" to "26"), "11" for C11, "8" for
            Java 8, "3.8.2" for Python 3.8.2; empty if the name has none.
    """

    language: str
    standard: str = ""


#: Words before a language that only name the compiler's vendor or the standard's organisation.
_VENDORS = (
    r"(?:gnu|gcc|g\+\+|clang|clang\+\+|llvm|iso|ansi|ms|microsoft|visual|msvc|mono|oracle|openjdk|free|borland|"
    r"\.net core)"
)
_VERSION = r"[ _:-]*v?(?P<version>\d+(?:\.\d+)*)?"
#: Row -> a pattern of a name's beginning, in lower case. The first match wins, so longer names come before their
#: prefixes.
_NAMES: tuple[tuple[str, str], ...] = (
    ("OBJECTIVEC", r"objective[ -]?c|objc"),
    ("CPP", r"c\+\+|cpp|cxx|cc|g\+\+|clang\+\+|c ?plus ?plus|msvc(?:\+\+)?"),
    ("CSHARP", r"c#|csharp|c sharp|cs|dotnet|net core c#"),
    ("FSHARP", r"f#|fsharp"),
    ("PYPY", r"pypy|python(?= ?\d?[^a-z]*pypy)"),
    ("PYTHON", r"python|cpython|py|cython"),
    ("TYPESCRIPT", r"typescript|ts"),
    ("JAVASCRIPT", r"javascript|java script|node\.?js|node|js|v8|ecmascript|spidermonkey|d8"),
    ("KOTLIN", r"kotlin|kt"),
    ("JAVA", r"java|openjdk|jdk"),
    ("COBOL", r"cobol|opencobol"),
    ("COFFEESCRIPT", r"coffeescript"),
    ("COMMONLISP", r"common lisp|commonlisp|lisp|sbcl"),
    ("CLOJURE", r"clojure"),
    ("CRYSTAL", r"crystal"),
    ("CUDA", r"cuda"),
    ("DART", r"dart"),
    ("DELPHI", r"delphi"),
    ("ELIXIR", r"elixir"),
    ("ERLANG", r"erlang"),
    ("FORTRAN", r"fortran|gfortran"),
    ("GO", r"golang|go"),
    ("GROOVY", r"groovy"),
    ("HASKELL", r"haskell|ghc|hs"),
    ("JULIA", r"julia|jl"),
    ("LUA", r"luajit|lua"),
    ("NIM", r"nim"),
    ("OCAML", r"ocaml|ml"),
    ("OCTAVE", r"octave"),
    ("PASCAL", r"pascalabc\.net|pascalabc|pascal|fpc|pas|object pascal"),
    ("RAKU", r"raku|perl ?6"),
    ("PERL", r"perl|pl"),
    ("PHP", r"php"),
    ("PROLOG", r"prolog|swi-prolog"),
    ("RACKET", r"racket"),
    ("RUBY", r"ruby|rb"),
    ("RUST", r"rust|rustc|rs"),
    ("SCALA", r"scala"),
    ("SCHEME", r"scheme"),
    ("SWIFT", r"swift"),
    ("VISUALBASIC", r"visual basic|visualbasic|vb\.net|vb"),
    ("ZIG", r"zig"),
    ("ADA", r"ada"),
    ("AWK", r"awk|gawk"),
    ("BASH", r"bash|shell|sh"),
    ("SED", r"sed"),
    ("D", r"d|dlang|dmd|ldc"),
    ("R", r"r|gnu r"),
    ("C", r"c|gcc|ansi c"),
)
#: What may follow a name and its version: a parenthesis, a compiler, its version. Names of one letter are stricter.
_REST = r"$|[^a-z0-9+#.].*|\.$"
_REST_OF_LETTER = r"$|[ _]*[(/:;,-].*|[ _]+(?:gcc|clang|gnu|dmd|ldc|lang|ut|\d).*"
#: As text: the few that are needed are compiled when they are, by `re`, which keeps them.
_PATTERNS = tuple(
    (row, rf"(?:{_VENDORS} +)*(?:{names}){_VERSION}(?P<rest>{_REST_OF_LETTER if len(row) == 1 else _REST})")
    for row, names in _NAMES
)
#: Names of C and C++ standards in drafts and compiler options -> the standard's year.
_DRAFTS = {"0x": "11", "1y": "14", "1z": "17", "2a": "20", "2b": "23", "2c": "26", "1x": "11", "03": "98", "90": "89"}
_YEARS = {"CPP": ("98", "11", "14", "17", "20", "23", "26"), "C": ("89", "99", "11", "17", "23")}
_IN_REST = re.compile(r"(?:cpython|pypy|openjdk|jdk|ruby|rustc|go|php|node\.js)?[ -]*v?(\d+(?:\.\d+)*)")


@lru_cache(4096)
def parse_language(name: str | int) -> LanguageName | None:
    """Return the language and the standard that a name means; None for an unknown name.

    "PYTHON" in capitals is CodeContests' Python 2; "Python" without a version, in any other spelling, is Python 3.

    Example:
        >>> parse_language("GNU C++17 (64)"), parse_language("Python (3.8.2)")
        (LanguageName(language='CPP', standard='17'), LanguageName(language='PYTHON3', standard='3.8.2'))
        >>> parse_language(1), parse_language("PyPy 3-64"), parse_language("COBOL++")
        (LanguageName(language='PYTHON', standard='2'), LanguageName(language='PYPY3', standard=''), None)
    """
    if isinstance(name, int):
        name = language_of_number(name)
    if name == "PYTHON":
        return LanguageName("PYTHON", "2")
    text = re.sub(r"[\s_]+", " ", name).strip().lower().removeprefix(".")
    if row := _row_of_gnu(text):
        return row
    for row_name, pattern in _PATTERNS:
        if match := re.fullmatch(pattern, text):
            found = match.groupdict("")
            return _with_standard(row_name, found["version"], found["rest"], text)
    return None


def language_name(name: object) -> LanguageName | None:
    """Return `parse_language(name)`; None if the value is neither text nor a number."""
    return parse_language(name) if isinstance(name, (str, int)) and not isinstance(name, bool) else None


def _row_of_gnu(text: str) -> LanguageName | None:
    """Parse names with a standard as in a compiler's option: "gnu++17", "gnu11", "c++0x", "gnu gcc c11 5.1.0"."""
    match = re.search(r"(?:^| |=)(gnu\+\+|c\+\+|g\+\+|gnu|c)(\d[\dxyzabc])(?=$|[^\w.])", text)
    if match is None:
        return None
    row = "CPP" if "+" in match[1] else "C"
    standard = _DRAFTS.get(match[2], match[2])
    return LanguageName(row, standard) if standard in _YEARS[row] else None


def _with_standard(row: str, version: str, rest: str, text: str) -> LanguageName:
    if row in _YEARS:
        return _of_c(row, version)
    if row == "PYPY":  # a version in parentheses is PyPy's own, not the language's
        return LanguageName("PYPY2" if re.match(r"(?:pypy|python)[ -]*2", text) else "PYPY3")
    inner = _IN_REST.search(rest)
    in_rest = inner[1] if inner else ""
    if row == "PYTHON":
        return _python(version, in_rest)
    given = version or in_rest
    if row == "JAVA":
        given = given.removeprefix("1.").split(".")[0]  # 1.8.0 and 11.0.6 are Java 8 and Java 11
    return LanguageName(row, given)


def _of_c(row: str, version: str) -> LanguageName:
    """Return the row of C or C++, with the standard that a name has; "c++ (gcc 9.2.1)" has only a compiler."""
    standard = version.removeprefix("20") if len(version) == 4 else _DRAFTS.get(version, version)  # "ms c++ 2017"
    return LanguageName(row, standard if standard in _YEARS[row] else "")


def _python(given: str, in_rest: str) -> LanguageName:
    """Return the row of Python, where a name has one version behind the word and perhaps another after that."""
    if given in ("", "2", "3") and in_rest.startswith(given) and in_rest[:1] in ("2", "3"):
        given = in_rest  # "python (3.8.2)", "python3 (3.4.3)"
    if re.fullmatch(r"[23]\d+", given):  # "python38", "py311"
        given = f"{given[0]}.{given[1:]}"
    if given.split(".")[0] == "2":
        return LanguageName("PYTHON", given)
    return LanguageName("PYTHON3", "" if given == "3" else given)


# ---- programs on the PATH

_found: dict[str, str] = {}
#: Name of a program that wasn't found -> when. Every solution looks it up, and it may be installed at any time, so the
#: answer is kept for a short time only.
_absent: dict[str, float] = {}
_ABSENT_S = 2.0


def _find(name: str) -> str | None:
    now = time.monotonic()
    if name in _found or now - _absent.get(name, -_ABSENT_S) < _ABSENT_S:
        return _found.get(name)
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
        versions = _versions_of(name, path)
        if not versions:
            return path
        if behind := _last(name, versions):
            return behind
        if os.path.dirname(name):
            return None
        folders = [other for other in folders if os.path.realpath(other or ".") != os.path.realpath(folder)]
    return None


def _last(name: str, versions: str) -> str | None:
    """Return the path of a program in the version whose name comes last; None if no version has it."""
    return max((file for file in glob(f"{versions}/*/bin/{name}") if os.access(file, os.X_OK)), default=None)


def _versions_of(name: str, path: str) -> str:
    """Return the folder in which a version manager keeps what its wrapper at `path` starts; empty if it is none."""
    folder = os.path.dirname(path)
    if os.path.basename(folder) == "shims":
        return os.path.join(os.path.dirname(folder), "versions")
    if name != "rustup" and os.path.basename(os.path.realpath(path)) == "rustup":
        return os.path.join(os.environ.get("RUSTUP_HOME") or os.path.expanduser("~/.rustup"), "toolchains")
    return ""
