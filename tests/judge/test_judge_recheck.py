"""Saved outputs are judged by another checker; what needs the programs to run again is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_judge_checkers import TESTLIB, VALIDATOR

import nbrun
from nbrun.errors import InputError
from nbrun.judge import KattisComparison, KattisValidator, LocalSandbox, TestlibChecker, recheck

PROBLEM = {
    "id": "p",
    "tests": [{"input": "1 2\n", "output": "Three 3\n"}, {"input": "3 4\n", "output": "Seven 7\n"}],
    "solutions": [
        {"language": "PYTHON3", "solution": source}
        for source in (
            "a = input()\nprint('Three 3' if a == '1 2' else 'Seven 7')",
            "a = input()\nprint('THREE 3' if a == '1 2' else 'SEVEN 7')",
            "a = input()\nprint('Three 3' if a == '1 2' else 'SEVEN 7')",
            "print(3)",
            "1 / 0",
            "def f(:",
            "print('Three 3' + ' ' * 5000)",
        )
    ],
}
LOOSE, STRICT = KattisComparison(), KattisComparison("case_sensitive")


def judged(folder: Path, **options: Any) -> Path:
    sandbox = LocalSandbox(**options)
    run = nbrun.start([PROBLEM], sandbox, folder / "results", workers=4, view=None)
    run.wait()
    sandbox.close()
    return folder / "results"


def verdicts(found: Any) -> list[Any]:
    assert [row["index"] for row in found] == list(range(len(PROBLEM["solutions"])))
    return [row["verdict"] for row in found]


def test_the_whole_output_is_shown_where_all_was_kept(tmp_path: Path) -> None:
    results = judged(tmp_path, checker=STRICT, all_tests=True, keep_output_bytes=None)
    before = sorted((path, path.read_bytes()) for path in results.glob("*.json"))
    found = recheck(results, LOOSE)
    assert verdicts(found) == ["Accepted"] * 3 + ["WrongAnswer", "RuntimeError", "CompileError", "WrongAnswer"]
    assert [row["before"] for row in found] == [
        "Accepted", "WrongAnswer", "WrongAnswer", "WrongAnswer", "RuntimeError", "CompileError", "WrongAnswer",
    ]  # fmt: skip
    assert [row["index"] for row in found.changed] == [1, 2]
    assert not found.unknown
    assert repr(found) == "7 results, 7 rechecked, 2 changed (WrongAnswer → Accepted × 2)"
    assert {row["sample_id"] for row in found} == {"p"}
    assert all(row["key"].startswith("k1:") for row in found)
    assert not recheck(results, STRICT).changed
    assert sorted((path, path.read_bytes()) for path in results.glob("*.json")) == before, "nothing is written"


def test_what_was_cut_or_never_ran_is_said(tmp_path: Path) -> None:
    found = recheck(judged(tmp_path, checker=STRICT, keep_output_bytes=100), LOOSE)
    assert verdicts(found) == ["Accepted", None, "Accepted", "WrongAnswer", "RuntimeError", "CompileError", None]
    assert found[1]["reason"] == "test 0: the tests after it never ran"
    assert found[6]["reason"] == "test 0: its output was cut"
    assert [row["index"] for row in found.unknown] == [1, 6]
    assert "2 can't be: the tests after it never ran, its output was cut" in repr(found)


@pytest.mark.needs("g++")
def test_checkers_that_are_programs(tmp_path: Path) -> None:
    sums = {"id": "p", "tests": [{"input": "1 2\n", "output": "3\n", "flags": ["own"]}] * 2}
    problem = sums | {"solutions": [{"language": "PYTHON3", "solution": f"print({n})"} for n in (3, 1, 2, 666)]}
    sandbox = LocalSandbox(all_tests=True, checker=lambda a, b: a == b)
    nbrun.start([problem], sandbox, tmp_path / "r", view=None).wait()
    found = recheck(tmp_path / "r", TestlibChecker(TESTLIB))
    assert [row["verdict"] for row in found] == ["Accepted", "Accepted", "WrongAnswer", None]
    found = recheck(tmp_path / "r", KattisValidator([{"language": "CPP", "solution": VALIDATOR}]), sandbox=sandbox)
    assert [row["verdict"] for row in found] == ["Accepted", "Accepted", "WrongAnswer", None]
    assert "the checker returned 1" in found[3]["reason"]
    sandbox.close()


def single(stdout: Any, passed: bool = False, **more: Any) -> dict[str, Any]:
    """A result as SandboxFusion gives it."""
    run = {"status": "Finished", "return_code": 0, "stdout": stdout, "stderr": ""}
    info = {"input": {"stdin": ""}, "output": {"stdout": "yes"}}
    test = {"passed": passed, "exec_info": {"status": "Success", "run_result": run}, "test_info": info}
    return {"accepted": passed, "tests": [test], **more}


@pytest.mark.parametrize(
    ("result", "verdict", "reason"),
    [
        (single("YES", tests_total=1), "Accepted", None),
        (single("YES"), None, "never ran"),  # it isn't known whether there were more tests
        (single("yes", passed=True), "Accepted", None),
        (single("no"), "WrongAnswer", None),
        (single("no", passed=True), "WrongAnswer", None),
        (single("y" * 140_000), None, "its output was cut"),
        (single("\ufffd"), None, "its output was no text"),
        (single(None, passed=True), None, "its output was not saved"),
        ({"accepted": False, "tests": []}, None, "no tests were judged"),
        ({"value": 3}, None, "no tests were judged"),
    ],
)
def test_single_results(result: dict[str, Any], verdict: str | None, reason: str | None) -> None:
    (row,) = recheck([result], LOOSE)
    assert row["verdict"] == verdict
    assert (reason or "") in (row["reason"] or "")
    assert (row["reason"] is None) == (reason is None)


def test_a_function_that_raises_says_nothing() -> None:
    (row,) = recheck([single("yes", tests_total=1)], lambda expected, actual: 1 / 0)
    assert row["verdict"] is None
    assert "ZeroDivisionError" in row["reason"]


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        recheck(tmp_path / "absent", LOOSE)
    with pytest.raises(InputError, match="result 0 is a int"):
        recheck([3], LOOSE)  # type: ignore[list-item]
