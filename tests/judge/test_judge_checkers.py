"""Checkers of every kind: flags, output validators, testlib's convention, functions. One that crashes says nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from judge_helpers import MODES, SUM, SUM_PY, task

from nbrun.errors import InputError, JudgeError, NotSupportedError
from nbrun.judge import KattisComparison, KattisValidator, LocalSandbox, TestlibChecker
from nbrun.judge.checkers import CheckerInput, checker_of

FLAGS = [
    ("", "Yes no", "yes NO", True),
    ("", "1 2", "1\n2\n\n", True),
    ("", "1 2", "1 2 3", False),
    ("", "1 2", "1", False),
    ("", "", " \n", True),
    ("", "1", "1.0", False),
    ("case_sensitive", "Yes", "yes", False),
    ("case_sensitive", "Yes", "Yes", True),
    ("space_change_sensitive", "1 2\n", "1  2\n", False),
    ("space_change_sensitive", "1 2\n", "1 2", False),
    ("space_change_sensitive", "a 2\n", "A 2\n", True),
    ("space_change_sensitive", "1\n2", "1 2", False),
    ("float_tolerance 1e-6", "1", "1.0000005", True),
    ("float_tolerance 1e-6", "1000000", "1000000.9", True),
    ("float_tolerance 1e-6", "1", "1.00001", False),
    ("float_tolerance 1e-6", "0.5", "abc", False),
    ("float_tolerance 1e-6", "word 0.5", "WORD .5", True),
    ("float_tolerance 1e-6", "nan", "0", False),
    ("float_tolerance 1e-6", "1", "nan", False),
    ("float_tolerance 1e-6", "1", "inf", False),
    ("float_tolerance 1e-6", "inf", "INF", True),
    ("float_tolerance 1e-6", "1e400", "1", False),
    ("float_tolerance 1e-6", "1", "1_0", False),
    ("float_absolute_tolerance 1e-2", "1000", "1000.1", False),
    ("float_absolute_tolerance 1e-2", "1000", "1000.009", True),
    ("float_relative_tolerance 1e-2", "1000", "1009", True),
    ("float_relative_tolerance 1e-2", "0", "0.001", False),
    ("float_tolerance 1e-9 float_relative_tolerance 0.1", "10", "10.9", True),
    ("float_tolerance 0", "2", "2.0", True),
    ("case_sensitive float_tolerance 0.1", "A 1", "a 1", False),
]


@pytest.mark.parametrize(("flags", "expected", "actual", "accepted"), FLAGS)
def test_flags_of_the_package_format(flags: str, expected: str, actual: str, accepted: bool) -> None:
    case = CheckerInput(b"", expected.encode(), actual.encode())
    assert KattisComparison(flags).opinion(case, None).accepted is accepted
    of_the_test = CheckerInput(b"", expected.encode(), actual.encode(), flags.split())
    assert KattisComparison().opinion(of_the_test, None).accepted is accepted


@pytest.mark.parametrize("flags", ["float_tolerance", "float_tolerance x", "float_tolerance -1", "exact"])
def test_unknown_flags_are_no_rejection(flags: str) -> None:
    with pytest.raises(JudgeError, match="flags of the output comparison"):
        KattisComparison(flags)


#: Accepts any divisor of the answer; says what it thinks in the feedback folder; checks what it is given.
VALIDATOR = r"""
#include <fstream>
#include <iostream>
#include <string>
int main(int argc, char **argv) {
    std::ifstream in(argv[1]), answer(argv[2]);
    long a, b, right, theirs;
    if (!(in >> a >> b) || !(answer >> right) || a + b != right) return 1;
    std::ofstream message(std::string(argv[3]) + "judgemessage.txt");
    for (int i = 4; i < argc; i++) message << argv[i] << ' ';
    if (!(std::cin >> theirs)) { message << "no number"; return 43; }
    if (theirs == 666) return 1;
    if (theirs == 667) for (;;) {}
    if (theirs == 668) std::abort();
    message << "read " << theirs;
    return theirs > 0 && right % theirs == 0 ? 42 : 43;
}
"""
PYTHON_VALIDATOR = """
import sys
from helper import right
sys.exit(42 if right(open(sys.argv[1]).read(), sys.stdin.read()) else 43)
"""
HELPER = "def right(given, output):\n    return sum(map(int, given.split())) % int(output) == 0\n"
#: testlib's convention: input, output, answer; 0 accepts, 1, 2, 4, 8 reject, 3 is the checker's own failure.
TESTLIB = r"""
#include <cstdlib>
#include <fstream>
#include <iostream>
int main(int argc, char **argv) {
    std::ifstream in(argv[1]), output(argv[2]), answer(argv[3]);
    long a, b, right, theirs;
    if (!(in >> a >> b) || !(answer >> right) || a + b != right) return 3;
    if (!(output >> theirs)) { std::cerr << "unexpected end of file"; return 8; }
    if (theirs > 600 && theirs < 700) return theirs - 600;
    if (theirs > 0 && right % theirs == 0) { std::cerr << "ok, a divisor"; return 0; }
    std::cerr << "no divisor: " << theirs;
    return 1;
}
"""


@pytest.fixture(scope="module", params=MODES)
def sandboxes(request: Any) -> Any:
    made = {
        "validator": LocalSandbox(
            checker=KattisValidator([{"language": "CPP", "solution": VALIDATOR}], "own"), isolation=request.param
        ),
        "python": LocalSandbox(
            checker=KattisValidator(
                [{"language": "PYTHON3", "solution": PYTHON_VALIDATOR, "files": {"helper.py": HELPER}}]
            ),
            isolation=request.param,
        ),
        "testlib": LocalSandbox(checker=TestlibChecker(TESTLIB), isolation=request.param),
    }
    yield made
    for sandbox in made.values():
        sandbox.close()


def said(result: Any) -> str:
    return str(result["tests"][0].get("checker"))


@pytest.mark.needs("g++")
def test_an_output_validator(sandboxes: Any) -> None:
    sandbox = sandboxes["validator"]
    problem = SUM | {"tests": [{"input": "1 2\n", "output": "3\n", "flags": ["of", "test"]}]}
    accepted = sandbox(task("py", "print(1)", problem))
    assert accepted["verdict"] == "Accepted"
    assert said(accepted) == "own of test read 1"
    rejected = sandbox(task("py", "print(2)", problem))
    assert rejected["verdict"] == "WrongAnswer"
    assert said(rejected) == "own of test read 2"
    assert sandbox(task("py", "", problem))["verdict"] == "WrongAnswer"
    assert sandbox(task("py", "1 / 0", problem))["verdict"] == "RuntimeError"


@pytest.mark.parametrize(("number", "words"), [(666, "returned 1"), (668, "returned -6")])
@pytest.mark.needs("g++")
def test_a_validator_that_crashes_says_nothing(sandboxes: Any, number: int, words: str) -> None:
    with pytest.raises(JudgeError, match=f"the checker {words}"):
        sandboxes["validator"](task("py", f"print({number})"))


@pytest.mark.needs("g++")
def test_a_validator_that_does_not_end_says_nothing(sandboxes: Any, tuning: Callable[..., None]) -> None:
    tuning(validator_time_limit_s=0.3)
    with pytest.raises(JudgeError, match=r"exceeded its limit \(cpu\): it ran out of time \(it may use 0.3 s\)"):
        sandboxes["validator"](task("py", "print(667)"))


@pytest.mark.parametrize("source", ["x = bytearray(10 ** 10)", "x = []\nwhile True: x.append(bytes(10 ** 6))"])
def test_a_checker_that_runs_out_of_memory_is_named(source: str, tuning: Callable[..., None]) -> None:
    tuning(validator_memory_limit_mb=64)
    item = {"language": "PYTHON3", "solution": source, "name": "output_validators/greedy.py"}
    with (
        closing(LocalSandbox(checker=KattisValidator([item]))) as sandbox,
        pytest.raises(JudgeError, match=r"the checker output_validators/greedy.py .*ran out of memory .*64 MB"),
    ):
        sandbox(task("py", "print(3)"))


#: What testlib does at its end: the words on stderr, and the exit code.
PARTIAL = """
#include <cstdio>
#include <cstdlib>
int main(int, char** v) {
    int n = 0;
    std::fscanf(std::fopen(v[2], "r"), "%d", &n);
    if (n >= 1000) { std::fprintf(stderr, "points %.2f of them\\n", (n - 1000) / 100.0); return 7; }
    std::fprintf(stderr, "partially correct (%d) so far\\n", n);
    return BASE + n;
}
"""


@pytest.mark.parametrize("base", [0, 16, 50])
@pytest.mark.needs("g++")
def test_partial_points_are_a_score(base: int) -> None:
    sandbox = LocalSandbox(checker=TestlibChecker(PARTIAL.replace("BASE", str(base))))
    due = {0: ("WrongAnswer", 0.0), 40: ("WrongAnswer", 0.4), 100: ("Accepted", 1.0), 1050: ("WrongAnswer", 0.5)}
    due[1100] = ("Accepted", 1.0)
    try:
        for said_, (verdict, score) in due.items():
            result = sandbox(task("py", f"print({said_})"))
            assert (result["verdict"], result["score"], result["tests"][0]["score"]) == (verdict, score, score)
    finally:
        sandbox.close()


@pytest.mark.needs("g++")
def test_from_which_score_on_is_accepted_is_the_users_choice() -> None:
    checker = TestlibChecker(PARTIAL.replace("BASE", "16"), accepted_from=0.4)
    assert checker.settings != TestlibChecker(PARTIAL.replace("BASE", "16")).settings
    with closing(LocalSandbox(checker=checker)) as sandbox:
        assert sandbox(task("py", "print(40)"))["verdict"] == "Accepted"
        assert sandbox(task("py", "print(39)"))["verdict"] == "WrongAnswer"
    row = {"id": "p", "tests": SUM["tests"], "checker": {"type": "testlib", "source": PARTIAL, "accepted_from": 0.2}}
    assert checker_of(row).settings["accepted_from"] == 0.2
    assert checker_of(row, accepted_from=0.5).settings["accepted_from"] == 0.5
    with closing(LocalSandbox(accepted_from=0.4)) as sandbox:
        assert sandbox.settings["accepted_from"] == 0.4
        problem = {"id": "p", "tests": SUM["tests"], "checker": PARTIAL.replace("BASE", "0")}
        result = sandbox(task("py", "print(40)", problem))
        assert (result["verdict"], result["score"]) == ("Accepted", 0.4)
    with pytest.raises(InputError, match="accepted_from"):
        LocalSandbox(accepted_from=float("inf"))
    with pytest.raises(InputError, match="accepted_from"):
        TestlibChecker("", accepted_from=float("nan"))


def test_a_validator_of_two_files_in_python(sandboxes: Any) -> None:
    assert sandboxes["python"](task("py", "print(3)"))["verdict"] == "Accepted"
    assert sandboxes["python"](task("py", "print(2)"))["verdict"] == "WrongAnswer"
    with pytest.raises(JudgeError, match=r"(?s)returned 1.*ValueError"):
        sandboxes["python"](task("py", "print('x')"))


@pytest.mark.needs("g++")
def test_a_checker_by_testlibs_convention(sandboxes: Any) -> None:
    sandbox = sandboxes["testlib"]
    accepted = sandbox(task("py", "print(1)"))
    assert accepted["verdict"] == "Accepted"
    assert said(accepted) == "ok, a divisor"
    assert said(sandbox(task("py", "print(2)"))) == "no divisor: 2"
    assert sandbox(task("py", ""))["verdict"] == "WrongAnswer"
    for code in (1, 2, 4, 8):
        assert sandbox(task("py", f"print(600 + {code})"))["verdict"] == "WrongAnswer"
    for code in (3, 5, 7, 16):
        with pytest.raises(JudgeError, match=f"returned {code}"):
            sandbox(task("py", f"print(600 + {code})"))


@pytest.mark.needs("g++")
def test_a_checker_that_does_not_compile_says_nothing() -> None:
    with (
        closing(LocalSandbox(checker=TestlibChecker("int main() { return x; }"))) as sandbox,
        pytest.raises(JudgeError, match="does not compile"),
    ):
        sandbox(task("py", SUM_PY))


@pytest.mark.needs("g++")
def test_testlib_itself_is_brought_by_the_user(tmp_path: Path) -> None:
    source = '#include "testlib.h"\n' + TESTLIB
    with pytest.raises(NotSupportedError, match=r"testlib\.h, which doesn't come with nbrun"):
        TestlibChecker(source)
    header = tmp_path / "testlib.h"
    header.write_text("#define FROM_TESTLIB\n")
    (tmp_path / "checker.cpp").write_text(source + "\n#ifndef FROM_TESTLIB\n#error\n#endif\n")
    sandbox, without = LocalSandbox(testlib=header), LocalSandbox()
    problem = SUM | {"checker": source}
    try:
        assert sandbox(task("py", "print(1)", problem))["accepted"]
        with pytest.raises(NotSupportedError, match="get it from"):
            without(task("py", "print(1)", problem))
        own = LocalSandbox(checker=TestlibChecker(tmp_path / "checker.cpp", header))
        assert own(task("py", "print(1)"))["accepted"]
        own.close()
    finally:
        sandbox.close()
        without.close()


@pytest.mark.parametrize(
    ("checker", "output", "accepted"),
    [
        ({"type": "kattis", "flags": "float_tolerance 0.1"}, "3.05", True),
        ({"type": "kattis", "flags": ["case_sensitive"]}, "3.05", False),
        ({"type": "validator", "programs": [{"language": "CPP", "solution": VALIDATOR}]}, "1", True),
        ({"type": "testlib", "source": TESTLIB}, "2", False),
        (TESTLIB, "1", True),
        (lambda expected, actual: actual == b"x\n", "x", True),
    ],
)
@pytest.mark.needs("g++")
def test_a_problem_brings_its_own(checker: Any, output: str, accepted: bool) -> None:
    problem = {"id": "p", "tests": SUM["tests"][:1], "checker": checker}
    sandbox, user = LocalSandbox(), LocalSandbox(checker=lambda expected, actual: True)
    try:
        assert sandbox(task("py", f"print('{output}')", problem))["accepted"] is accepted
        assert user(task("py", f"print('{output}')", problem))["accepted"], "the user's own comes first"
    finally:
        sandbox.close()
        user.close()


def test_a_checker_of_an_unknown_kind_is_no_rejection() -> None:
    with closing(LocalSandbox()) as sandbox, pytest.raises(NotSupportedError, match="no kind that is known"):
        sandbox(task("py", SUM_PY, SUM | {"checker": {"type": "oracle"}}))


def raising(given: bytes, expected: bytes, actual: bytes) -> bool:
    raise ValueError(f"{given!r}")


def test_functions() -> None:
    with (
        closing(LocalSandbox(checker=raising)) as sandbox,
        pytest.raises(JudgeError, match=r"raising raised ValueError: b'1 2\\n'"),
    ):
        sandbox(task("py", SUM_PY))


def test_settings_distinguish_checkers() -> None:
    checkers = [
        KattisComparison(), KattisComparison("case_sensitive"), TestlibChecker(TESTLIB), TestlibChecker(TESTLIB + " "),
        KattisValidator([{"language": "CPP", "solution": VALIDATOR}]),
        KattisValidator([{"language": "CPP", "solution": VALIDATOR}], "x"), raising,
    ]  # fmt: skip
    described = [json.dumps(LocalSandbox(checker=c, isolation="none").settings["comparison"]) for c in checkers]
    assert len(set(described)) == len(described)
