"""Languages as people write them: Codeforces, AtCoder, CodeNet, Kattis, CodeContests' numbers, SandboxFusion."""

from __future__ import annotations

from typing import Any

import pytest

from nbrun.errors import NotSupportedError
from nbrun.judge.languages import DEFAULT_LANGUAGES, PYTHON3, language_name, lookup, parse_language

MEANT = {
    ("PYTHON3", ""): ["Python", "python", "py", "py3", "Python 3", "PYTHON3", ".py", "Python (Cython 0.29.16)", 3],
    ("PYTHON3", "3.8.2"): ["Python (3.8.2)"],
    ("PYTHON3", "3.4.3"): ["Python3 (3.4.3)"],
    ("PYTHON3", "3.11"): ["python3.11", "Python 3.11", "py311"],
    ("PYTHON3", "3.11.4"): ["Python (CPython 3.11.4)", "Python (Mambaforge / CPython 3.11.4)"],
    ("PYTHON", "2"): ["PYTHON", "Python 2", "python2", "py2", "PYTHON2", 1],
    ("PYTHON", "2.7.6"): ["Python (2.7.6)", "Python2 (2.7.6)"],
    ("PYPY3", ""): ["PyPy 3", "PyPy 3-64", "PyPy3 (7.3.0)", "Python 3 (pypy)", "Python (PyPy 3.10-v7.3.12)", "pypy"],
    ("PYPY2", ""): ["PyPy 2", "PyPy2 (5.6.0)"],
    ("CPP", ""): ["C++", "cpp", "CPP", "GNU C++", "C++ (GCC 9.2.1)", "C++ (Clang 10.0.0)", "GNU G++ 5.1.0", ".cc", 2],
    ("CPP", "98"): ["c++98", "c++03"],
    ("CPP", "11"): ["GNU C++11", "GNU C++0x", "C++11 (GCC 4.9.2)"],
    ("CPP", "14"): ["c++14", "C++14 (GCC 5.4.1)", "C++14-GCC"],
    ("CPP", "17"): [
        "GNU C++17 (64)",
        "GNU G++17 7.3.0",
        "C++17 (GCC 7-32)",
        "C++ 17 (gcc 12.2)",
        "gnu++17",
        "cpp17",
        "MS C++ 2017",
        "Clang++17 Diagnostics",
        "c++1z",
        "cpp:17-clang13",
    ],
    ("CPP", "20"): ["GNU C++20 (64)", "C++20 (GCC 13-64)", "GNU G++20 11.2.0 (64 bit, winlibs)", "c++2a"],
    ("CPP", "23"): ["C++23 (GCC 14-64, msys2)", "C++ 23 (gcc 12.2)"],
    ("C", ""): ["C", "GNU C", "C (GCC 9.2.1)", "gcc"],
    ("C", "11"): ["GNU C11", "c11", "GNU GCC C11 5.1.0"],
    ("JAVA", ""): ["Java", "JAVA", "java", 4],
    ("JAVA", "8"): ["Java 8", "Java8 (OpenJDK 1.8.0)", "Java 1.8"],
    ("JAVA", "11"): ["Java 11", "Java (OpenJDK 11.0.6)"],
    ("JAVASCRIPT", ""): ["JavaScript", "Node.js", "nodejs", "js"],
    ("JAVASCRIPT", "12.16.1"): ["JavaScript (Node.js 12.16.1)"],
    ("CSHARP", ""): ["C#", "MS C#", "Mono C#", ".NET Core C#", "csharp"],
    ("GO", "1.14.1"): ["Go (1.14.1)"],
    ("GO", ""): ["Go", "golang"],
    ("RUST", "1.70.0"): ["Rust (rustc 1.70.0)"],
    ("KOTLIN", "1.7"): ["Kotlin 1.7"],
    ("PASCAL", ""): ["FPC", "Free Pascal", "PascalABC.NET"],
    ("HASKELL", ""): ["Haskell"],
    ("RUBY", "2.7.1"): ["Ruby (2.7.1)"],
}


@pytest.mark.parametrize(("name", "meant"), [(name, key) for key, names in MEANT.items() for name in names])
def test_what_people_write_is_understood(name: str | int, meant: tuple[str, str]) -> None:
    assert parse_language(name) == meant


@pytest.mark.parametrize("name", ["", "Q#", "COBOL++", "UNKNOWN_LANGUAGE", "C with a twist", "D-Day"[1:], 0, 5, "Text"])
def test_an_unknown_name_stays_unknown(name: str | int) -> None:
    assert parse_language(name) is None


@pytest.mark.parametrize("value", [None, True, 3.0, ["C"]])
def test_what_is_no_name_is_no_language(value: Any) -> None:
    assert language_name(value) is None


def test_rows_are_found_by_any_name() -> None:
    assert lookup("GNU C++20 (64)", DEFAULT_LANGUAGES)[0] == "CPP"
    assert lookup("Python (3.8.2)", DEFAULT_LANGUAGES)[0] == "PYTHON3"


def test_a_row_of_the_user_is_found_by_its_own_name_first() -> None:
    table = {**DEFAULT_LANGUAGES, "C++14": PYTHON3, "PYTHON": PYTHON3}
    assert lookup("c++14", table)[0] == "C++14"
    assert lookup("C++17", table)[0] == "CPP"
    assert lookup("PYTHON", table)[0] == "PYTHON"
    assert lookup("python", table)[0] == "PYTHON3", "a row for Python 2 takes nothing else"


def test_a_language_without_a_row_is_named() -> None:
    with pytest.raises(NotSupportedError, match="no language 'Fortran'"):
        lookup("Fortran", DEFAULT_LANGUAGES)
