"""Maps a name of a programming language ("GNU C++17", "Python (3.8.2)", 3) to a language and a standard.

Called by any thread; pure functions that check nothing on this machine. `nbrun.judge.languages` has the table of the
languages that can be run. This module only parses names: those of CodeContests (numbers), Codeforces ("GNU C++20 (64)",
"PyPy 3-64"), AtCoder ("C++ (GCC 9.2.1)", "Python (CPython 3.11.4)"), CodeNet and AIZU ("JAVA", "C++14"), Kattis,
LeetCode and SandboxFusion, and file extensions.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from nbrun.samples import language_of_number


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
            return _with_standard(row_name, match["version"] or "", match["rest"] or "", text)
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
        # "cpp17", "c++ 20 (gcc 12.2)" and "ms c++ 2017" have a standard; "c++ (gcc 9.2.1)" has only a compiler
        standard = _DRAFTS.get(version, version).removeprefix("20" if len(version) == 4 else "\0")
        return LanguageName(row, standard if standard in _YEARS[row] else "")
    inner = _IN_REST.search(rest)
    in_rest = inner[1] if inner else ""
    if row in ("PYTHON", "PYPY"):
        return _python(row, version, in_rest, text)
    given = version or in_rest
    if row == "JAVA":
        given = given.removeprefix("1.").split(".")[0]  # 1.8.0 and 11.0.6 are Java 8 and Java 11
    return LanguageName(row, given)


def _python(row: str, version: str, in_rest: str, text: str) -> LanguageName:
    """Return the row of Python or PyPy, where a name has one version behind the word and perhaps another after that."""
    if row == "PYPY":  # a version in parentheses is PyPy's own, not the language's
        return LanguageName("PYPY2" if re.match(r"(?:pypy|python)[ -]*2", text) else "PYPY3")
    given = version
    if given in ("", "2", "3") and in_rest.startswith(given) and in_rest[:1] in ("2", "3"):
        given = in_rest  # "python (3.8.2)", "python3 (3.4.3)"
    if re.fullmatch(r"[23]\d+", given):  # "python38", "py311"
        given = f"{given[0]}.{given[1:]}"
    if given.split(".")[0] == "2":
        return LanguageName("PYTHON", given)
    return LanguageName("PYTHON3", "" if given == "3" else given)
