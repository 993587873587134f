"""Correct solutions are accepted under the standard, the version or the compiler that they were written for."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from judge_helpers import SUM_CPP, SUM_PY, judged_as, task

import nbrun
from nbrun.errors import NotSupportedError
from nbrun.judge import CPP, CPP17, PYTHON3, LocalSandbox
from nbrun.judge.languages import DEFAULT_LANGUAGES, language_name, lookup
from nbrun.judge.python_prelude import prelude_of

STANDARDS_AFTER_17 = ["gnu++20", "gnu++14", "gnu++11", "gnu++98"]
SOURCES = Path(__file__).parent / "standards"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox(time_limit_s=5, cache_dir=tmp_path_factory.mktemp("built"))
    yield sandbox
    sandbox.close()


def _read(path: Path) -> tuple[str, str, str]:
    """The language, the source and the standard of a file: `/* GNU C++17 compiles as gnu++17 */`."""
    source = path.read_text()
    language, _, standard = source.partition("\n")[0].strip("/* ").partition(" compiles as ")
    return language, source, standard


OLD_AND_NEW = {path.stem: _read(path) for path in sorted(SOURCES.iterdir()) if path.suffix in (".c", ".cpp")}


@pytest.mark.parametrize("name", [judged_as(row[0], name) for name, row in OLD_AND_NEW.items()])
def test_a_correct_source_of_any_standard_is_accepted(name: str, box: LocalSandbox) -> None:
    language, source, standard = OLD_AND_NEW[name]
    result = box(task(language, source))
    assert result["verdict"] == "Accepted", result["tests"][0]["exec_info"]
    assert result["build"]["standard"] == standard


@pytest.mark.needs("g++")
def test_a_standard_that_is_named_is_the_only_one_that_is_tried(box: LocalSandbox) -> None:
    result = box(task("GNU C++17", OLD_AND_NEW["an_array_called_data"][1]))
    assert result["verdict"] == "CompileError"
    assert result["build"] == {"standard": "gnu++17", "also_tried": ["gnu++17 with nbrun-compat.h"]}


@pytest.mark.needs("g++")
def test_what_no_standard_compiles_is_reported_by_the_first_one(box: LocalSandbox) -> None:
    result = box(task("CPP", "int main() { return data_that_is_nowhere; }"))
    assert result["verdict"] == "CompileError"
    assert result["build"] == {
        "standard": "gnu++17",
        "also_tried": [*STANDARDS_AFTER_17, "gnu++17 with nbrun-compat.h"],
    }
    assert "data_that_is_nowhere" in result["tests"][0]["exec_info"]["compile_result"]["stderr"]


@pytest.mark.needs("g++")
@pytest.mark.parametrize("name", ["iostream", "map", "queue", "set"])
def test_a_header_that_no_compiler_ever_brought_along_must_be_included(name: str, box: LocalSandbox) -> None:
    used = "std::cout << 3;" if name == "iostream" else f"std::{name}<int{', int' * (name == 'map')}> used;"
    result = box(task("CPP", f"#include <cstdio>\nint main() {{ {used} }}\n"))
    assert result["verdict"] == "CompileError"


@pytest.mark.needs("g++")
def test_programs_of_two_standards_are_two_programs(box: LocalSandbox) -> None:
    numbers = "__cplusplus > 201700L ? a + b : 0"
    source = SUM_CPP.replace("a + b", numbers)
    said = [box(task(name, source))["verdict"] for name in ("C++14", "C++17", "C++14")]
    assert said == ["WrongAnswer", "Accepted", "WrongAnswer"]


@pytest.mark.needs("g++")
def test_rows_of_the_users_keep_what_they_say() -> None:
    assert lookup("CPP", {"CPP": CPP17})[1].tried == ("17",)
    own = dataclasses.replace(
        CPP, compile=("{compiler}", "-O2", "-std=gnu++20", "-o", "program", "{sources}"), tried=()
    )
    assert lookup("CPP", {"CPP": own})[1].command(own.compile, ["main.cpp"])[1:3] == ["-O2", "-std=gnu++20"]


# ---- Python


OLD_PYTHON = {
    "fractions.gcd": (
        "from fractions import gcd\n"
        "a, b = map(int, input().split())\n"
        "assert gcd(-4, 6) == 2 and gcd(4, -6) == -2\n"
        "print(a + b)\n"
    ),
    "abstract classes": (
        "import collections\n"
        "assert isinstance([], collections.Iterable) and isinstance({}, collections.Mapping)\n" + SUM_PY
    ),
    "abstract classes by name": "from collections import Sequence, deque\nassert isinstance([], Sequence)\n" + SUM_PY,
    "time.clock": "from time import clock\nassert clock() >= 0\n" + SUM_PY,
    "long integers": "import sys\nassert len(str(10 ** 5000)) == 5001 and int('9' * 5000)\n" + SUM_PY,
    "a sample of a set": (
        "import random\n"
        "assert len(random.sample({1, 2, 3}, 2)) == 2\n"
        "assert random.randint(1, 1e0) == 1\n" + SUM_PY
    ),
    "a shuffle by a function": (
        "import random\n"
        "random.shuffle([1, 2], random.random)\n"
        "random.shuffle([1, 2], random=lambda: 0.5)\n" + SUM_PY
    ),
    "factorials of floats": "import math\nassert math.factorial(4 / 2) == 2\n" + SUM_PY,
    "isAlive": "import threading\nassert not threading.Thread().isAlive()\n" + SUM_PY,
    "tostring": "import array\nassert array.array('b', [65]).tostring() == b'A'\n" + SUM_PY,
    "getargspec": "import inspect\nassert inspect.getargspec(lambda a: a).args == ['a']\n" + SUM_PY,
    "numpy.int": (
        "import numpy as np\n"
        "assert np.zeros(2, dtype=np.int).sum() == 0 and np.bool and np.float(1) == 1\n" + SUM_PY
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_PYTHON)
def test_python_of_earlier_versions_is_accepted(name: str, box: LocalSandbox) -> None:
    result = box(task("PYTHON3", OLD_PYTHON[name]))
    assert result["verdict"] == "Accepted", result["tests"][0]["exec_info"]
    assert "sys.set_int_max_str_digits(0)" in result["build"]["prelude"]


def test_what_was_put_back_is_recorded_and_nothing_else_is_touched(box: LocalSandbox) -> None:
    source = (
        "import sys\nassert not any('.nbrun' in p for p in sys.path), sys.path\nassert 'sitecustomize' not in dir()\n"
    )
    result = box(task("PYTHON3", source + "import time\ntime.clock()\n" + SUM_PY))
    assert result["build"]["prelude"] == ["sys.set_int_max_str_digits(0)", "time.clock (until 3.7)"]
    assert result["accepted"], result["tests"][0]["exec_info"]
    plain = box(task("PYTHON3", "import fractions, sys\nassert 'sitecustomize' not in sys.modules\n" + SUM_PY))
    assert plain["build"]["prelude"] == ["sys.set_int_max_str_digits(0)"]


def test_line_numbers_of_tracebacks_are_the_solution_s(box: LocalSandbox) -> None:
    result = box(task("PYTHON3", "import time\ntime.clock()\n\nraise ValueError('here')\n"))
    stderr = result["tests"][0]["exec_info"]["run_result"]["stderr"]
    assert result["verdict"] == "RuntimeError"
    assert stderr.splitlines()[:2] == ["Traceback (most recent call last):", '  File "main.py", line 4, in <module>']


def test_the_prelude_can_be_switched_off() -> None:
    with closing(LocalSandbox(python_prelude=False)) as sandbox:
        assert sandbox.settings["python_prelude"] is False
        result = sandbox(task("PYTHON3", "import time\ntime.no_clock = time.clock\n" + SUM_PY))
        assert "build" not in result
        assert result["verdict"] == ("Accepted" if sys.version_info < (3, 8) else "RuntimeError")
    assert LocalSandbox(isolation="none").settings["python_prelude"] is True


def test_a_long_source_is_looked_through_in_time() -> None:
    began = os.times().user
    prelude_of({"main.py": b"collections time random numpy " * 100_000})
    assert os.times().user - began < 2


# ---- the judge's own sign


ONLINE = {
    "C": (
        "C", '#include <stdio.h>\n'
        'int main(void) {\n'
        '#ifdef ONLINE_JUDGE\n'
        'int a, b; scanf("%d%d", &a, &b); printf("%d", a + b);\n'
        '#endif\n'
        'return 0; }'
    ),
    "C++": ("CPP", "#ifdef ONLINE_JUDGE\n" + SUM_CPP + "#endif\n"),
    "Python": ("PYTHON3", "import os\nif os.environ.get('ONLINE_JUDGE'): " + SUM_PY),
    "Java": (
        "JAVA", 'import java.util.*;\n'
        'public class A { public static void main(String[] x) { Scanner s = new Scanner(System.in);\n'
        'if (System.getProperty("ONLINE_JUDGE") != null && System.getenv("ONLINE_JUDGE") != null)\n'
        'System.out.println(s.nextInt() + s.nextInt()); } }'
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [judged_as(row[0], name) for name, row in ONLINE.items()])
def test_online_judge_is_set(name: str, box: LocalSandbox) -> None:
    assert box(task(*ONLINE[name]))["verdict"] == "Accepted"


# ---- languages that may be installed


OTHERS = {path.stem: path for path in sorted(SOURCES.iterdir()) if path.suffix not in (".c", ".cpp")}


@pytest.mark.parametrize("name", OTHERS)
def test_a_language_that_is_installed_is_judged(name: str, box: LocalSandbox) -> None:
    known, row = lookup(name.partition("_")[0], DEFAULT_LANGUAGES)
    if row.missing:
        pytest.skip(row.missing)
    result = box(task(known, OTHERS[name].read_text()))
    assert result["verdict"] == "Accepted", result["tests"][0]["exec_info"]


PYTHONS = {
    "PyPy 3-64": "import sys\nassert 'PyPy' in sys.version\n" + SUM_PY,
    "Python 2": "a, b = map(int, raw_input().split())\nprint a + b\n",
    "PyPy 2": "import sys\nassert 'PyPy' in sys.version\na, b = map(int, raw_input().split())\nprint a + b\n",
}


@pytest.mark.parametrize("name", PYTHONS)
def test_another_python_that_is_installed_is_judged(name: str, box: LocalSandbox) -> None:
    row = lookup(name, DEFAULT_LANGUAGES)[1]
    if row.missing:
        pytest.skip(row.missing)
    result = box(task(name, PYTHONS[name]))
    assert result["verdict"] == "Accepted", result["tests"][0]["exec_info"]


@pytest.mark.parametrize("name", DEFAULT_LANGUAGES)
def test_a_row_says_how_it_is_installed_and_tried(name: str) -> None:
    row = DEFAULT_LANGUAGES[name]
    assert row.trial is not None
    assert row.install


def test_what_is_not_installed_is_reported_once_with_its_count(tmp_path: Path) -> None:
    row = dataclasses.replace(DEFAULT_LANGUAGES["GO"], compilers=("no-such-go",))
    sandbox = LocalSandbox(languages={"GO": row})
    rows = [{"language": "Go 1.19", "solution": f"package main // {i}"} for i in range(12)]
    items = [*rows, {"language": "PYTHON3", "solution": SUM_PY}]
    samples = [{"id": "sum", "tests": [{"input": "1 2", "output": "3"}], "solutions": items}]
    run = nbrun.start(samples, sandbox, tmp_path / "r", workers=2, view=None)
    progress = run.wait(60)
    assert progress.verdicts == {"Accepted": 1}
    assert progress.judge_errors == progress.errors == 12
    said = "12 GO tasks are not judged: none of no-such-go is installed. Go solutions need it: `apt install golang-go`"
    assert progress.message.count(said) == 1
    rates = nbrun.rates(tmp_path / "r")
    assert rates["n_judge_errors"].tolist() == [12]
    assert rates["tpr"].tolist() == [1.0]


@pytest.mark.parametrize("name", ["PYTHON", "Python 2", "python2.7", 1])
def test_python_2_without_an_interpreter_is_not_judged(name: Any) -> None:
    row = dataclasses.replace(DEFAULT_LANGUAGES["PYTHON"], tools=("no-such-python",))
    sandbox = LocalSandbox(languages={"PYTHON": row}, isolation="none")
    with pytest.raises(NotSupportedError, match=r"PYTHON is not judged: .*apt install python2"):
        sandbox(task(name, "print 1"))
    sandbox.close()


def test_a_stand_in_of_a_version_manager_is_looked_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyenv's script needs the user's home, which no box has."""
    for at in ("shims", "versions/1.2/bin"):
        file = tmp_path / at / "own-python"
        file.parent.mkdir(parents=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/shims", prepend=os.pathsep)
    row = dataclasses.replace(PYTHON3, tools=("own-python",))
    assert row.tool == str(tmp_path / "versions" / "1.2" / "bin" / "own-python")
    (tmp_path / "shims" / "nothing-behind").write_text("#!/bin/sh\n")
    (tmp_path / "shims" / "nothing-behind").chmod(0o755)
    assert dataclasses.replace(PYTHON3, tools=("nothing-behind",)).missing


def test_what_3_8_and_3_10_still_had_is_put_back() -> None:
    unescapes = "from html.parser import HTMLParser\nif HTMLParser().unescape('&lt;') == '<': "
    waits = (
        "import asyncio\n@asyncio.coroutine\ndef f():\n    yield from asyncio.sleep(0)\n    return 1\n"
        "@asyncio.coroutine\ndef plain():\n    return f()\n"
        "if asyncio.run(plain()) == asyncio.run(f()) == 1: "
    )
    with closing(LocalSandbox()) as sandbox:
        for source in (unescapes, waits):
            result = sandbox(task("PYTHON3", source + SUM_PY))
            assert result["verdict"] == "Accepted", result["tests"][0]["exec_info"]
            assert len(result["build"]["prelude"]) == 2


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("ISO C++", ""),
        ("ISO C++ 2017", "17"),
        ("MS C++ 2017", "17"),
        ("MSVC++ 2017", "17"),
        ("ANSI C", ""),
        ("ISO C11", "11"),
    ],
)
def test_names_with_a_standards_body_before_them(name: str, standard: str) -> None:
    found = language_name(name)
    assert found is not None
    assert found.language == ("CPP" if "+" in name else "C")
    assert found.standard == standard
