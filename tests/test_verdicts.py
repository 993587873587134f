"""Verdicts of results in every shape: answers of a real SandboxFusion server, and others that it never sent."""

from __future__ import annotations

import json
import timeit
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun import verdicts
from nbrun.verdicts import Verdict
from tests.views import controls_of

ANSWERS: dict[str, Any] = json.loads((Path(__file__).parent / "judge" / "data" / "sandboxfusion.json").read_text())

SUBMITTED = {
    "submit-cpp-accepted": "Accepted",
    "submit-java-accepted": "Accepted",
    "submit-python-accepted": "Accepted",
    "submit-float-tolerance": "Accepted",
    "submit-case-insensitive": "Accepted",
    "submit-empty-tests": "Accepted",
    "submit-cpp-compile-error": "CompileError",
    "submit-cpp-rte": "RuntimeError",
    "submit-cpp-tle": "TimeLimitExceeded",
    "submit-python-rte": "RuntimeError",
    "submit-python-tle": "TimeLimitExceeded",
    "submit-python-wrong-answer": "WrongAnswer",
    "submit-python-wrong-answer-firstfail": "WrongAnswer",
    "submit-inner-spaces": "WrongAnswer",
    "submit-multi-float-line": "WrongAnswer",
    "submit-unfenced-completion": "WrongAnswer",
}
RUN = {
    "run_code-cpp-compile-error": "CompileError",
    "run_code-cpp-compile-timeout": "JudgeError",
    "run_code-missing-runtime-go": "JudgeError",
    "run_code-sandboxerror-unsupported-sql": "JudgeError",
    "run_code-sandboxerror-bad-base64-file": "JudgeError",
    "run_code-cpp-rte-segv": "RuntimeError",
    "run_code-cpp-mem-limit": "RuntimeError",
    "run_code-cpp-tle": "TimeLimitExceeded",
    "run_code-python-exit3": "RuntimeError",
    "run_code-python-syntax-error": "CompileError",
    "run_code-python-ok": None,
}


@pytest.mark.parametrize(("name", "verdict"), SUBMITTED.items())
def test_answers_of_a_real_server(name: str, verdict: str) -> None:
    assert verdicts.of(ANSWERS[name]) == verdict
    assert verdicts.accepted(ANSWERS[name]) is (verdict == "Accepted")


@pytest.mark.parametrize(("name", "verdict"), RUN.items())
def test_a_failing_run_becomes_the_verdict_of_its_test(name: str, verdict: str | None) -> None:
    run = ANSWERS[name]
    assert verdicts.of(run) == verdict
    submitted = {"accepted": False, "tests": [{"passed": False, "exec_info": run}]}
    assert verdicts.of(submitted) == (verdict or "WrongAnswer")


def ran(status: str = "Finished", return_code: int | None = 0, stdout: str = "", stderr: str = "") -> dict[str, Any]:
    run = {"status": status, "return_code": return_code, "stdout": stdout, "stderr": stderr, "execution_time": 0.1}
    return {"status": "Success" if return_code == 0 else "Failed", "compile_result": None, "run_result": run}


def judged(*runs: Any, expected: str = "1\n", accepted: bool = False) -> dict[str, Any]:
    info = {"output": {"stdout": expected}}
    tests = [{"passed": run is None, "exec_info": run or ran(), "test_info": info} for run in runs]
    return {"accepted": accepted, "tests": tests}


LONG = "7 " * 70_000
SHELL_LOST = "/bin/bash: line 1: java: command not found\n"

SHAPES: list[tuple[Any, str | None]] = [
    ({"verdict": "Accepted", "accepted": False}, "Accepted"),
    ({"verdict": "my own"}, "my own"),
    ({"verdict": "word " * 100}, None),
    ({"verdict": "", "accepted": True}, "Accepted"),
    ({"verdict": None}, None),
    ({"accepted": True}, "Accepted"),
    ({"accepted": True, "tests": []}, "Accepted"),
    ({"accepted": False, "tests": []}, "JudgeError"),
    ({"accepted": False, "tests": None}, "JudgeError"),
    ({"accepted": False, "error": "connection refused"}, None),
    ({"accepted": False}, None),
    ({"accepted": 1}, None),
    ({"value": 3}, None),
    ({}, None),
    (None, None),
    ("Accepted", None),
    ([], None),
    (judged(None, ran(stdout="2\n"), ran("TimeLimitExceeded", None)), "WrongAnswer"),
    (judged(ran("TimeLimitExceeded", None), ran(stdout="2\n")), "TimeLimitExceeded"),
    (judged(None, None), "JudgeError"),
    (judged(ran(stdout="2\n"), {"status": "SandboxError", "run_result": None}), "JudgeError"),
    (judged(ran("Error", None)), "JudgeError"),
    (judged({"status": "Failed", "compile_result": None, "run_result": None}), "JudgeError"),
    (judged(ran("MemoryLimitExceeded", -9)), "MemoryLimitExceeded"),
    (judged(ran("OutputLimitExceeded", -25)), "OutputLimitExceeded"),
    (judged(ran(return_code=127, stderr=SHELL_LOST)), "JudgeError"),
    (judged(ran(return_code=127)), "RuntimeError"),
    (judged(ran(return_code=-9)), "RuntimeError"),
    (judged(ran("TimeLimitExceeded", None, stdout=LONG), expected=LONG + "7 7"), "JudgeError"),
    (judged(ran("TimeLimitExceeded", None, stdout=LONG), expected="8 " * 90_000), "TimeLimitExceeded"),
    (judged(ran(return_code=1, stderr="Traceback (most recent call last):\nSyntaxError: bad\n")), "RuntimeError"),
    (judged(ran(return_code=1, stderr='  File "a.py", line 1\nIndentationError: x\n')), "CompileError"),
    ({"accepted": False, "tests": ["garbage"]}, None),
    ({"accepted": False, "tests": 12}, None),
    ({"accepted": False, "tests": [{"passed": False}]}, "JudgeError"),
]


@pytest.mark.parametrize(("result", "verdict"), SHAPES)
def test_shapes_of_results(result: Any, verdict: str | None) -> None:
    assert verdicts.of(result) == verdict


def test_accepted_is_none_where_nothing_is_known() -> None:
    known = {"Accepted": True, "JudgeError": None, "my own": None, None: None}
    for verdict in Verdict:
        assert verdicts.accepted({"verdict": str(verdict)}) is known.get(str(verdict), False)
    assert verdicts.accepted({"verdict": "my own", "accepted": True}) is True
    assert verdicts.accepted({"accepted": False}) is False
    assert verdicts.accepted({"n": 1}) is None
    assert verdicts.accepted(3) is None


def test_the_summary_of_tests() -> None:
    assert verdicts.summary_of_tests(judged(None, ran(stdout="2"), None)) == (3, 2, 0.1)
    assert verdicts.summary_of_tests(ANSWERS["submit-cpp-compile-error"]) == (4, 0, None)
    assert verdicts.summary_of_tests({"accepted": True, "tests": []}) == (0, 0, None)
    for nothing in ({"value": 1}, {"tests": "x"}, None, 3):
        assert verdicts.summary_of_tests(nothing) == (None, None, None)


def test_the_hot_path_is_cheap() -> None:
    for result in ({"verdict": "Accepted", "tests": []}, {"value": 1}):
        assert min(timeit.repeat(lambda r=result: verdicts.of(r), number=10_000, repeat=5)) < 10_000 * 2e-6  # type: ignore[misc]


def test_a_custom_verdict_counts_by_its_flag_everywhere(tmp_path: Path) -> None:
    flags = {1: True, 2: False, 11: True, 12: False}
    samples = [{"id": "p", "solutions": [1, 2], "incorrect_solutions": [11, 12]}]

    def fn(task: nbrun.Task) -> dict[str, Any]:
        return {"verdict": "Presentation", "accepted": flags[task.item]}

    def check(run: nbrun.Run) -> None:
        progress = run.progress
        assert progress.unexpected == len(nbrun.unexpected(tmp_path)) == len(nbrun.unexpected(run.results())) == 2
        rates = nbrun.rates(tmp_path)
        assert (progress.tally.tpr, progress.tally.tnr) == (rates["tpr"][0], rates["tnr"][0]) == (0.5, 0.5)
        (row,) = progress.since(0)
        assert (row.accepted, row.rejected, row.unexpected) == (2, 2, 2)
        assert sum(r.is_unexpected for r in controls_of(run).tasks("p")) == 2
        assert set(run.results()["verdict"]) == {"Presentation"}

    for _ in range(2):  # the second run reads it all from the file
        run = nbrun.start(samples, fn, tmp_path, view=None)
        run.wait(60)
        check(run)


@pytest.mark.parametrize("group", ["solution", "incorrect_solution"])
def test_results_that_are_saved_together_are_expected_by_their_group(group: str, tmp_path: Path) -> None:
    """Also those of samples that are written whole, in this run and as a later one counts them."""
    samples = [{"id": name, f"{group}s": list(range(60))} for name in "ab"]
    for _ in range(2):
        run = nbrun.start(samples, lambda task: {"accepted": task.item < 20}, tmp_path, workers=1, view=None)
        progress = run.wait(60)
        assert progress.unexpected == (80 if group == "solution" else 40)
        rates = (progress.tally.tpr, progress.tally.tnr)
        assert rates == ((20 / 60, None) if group == "solution" else (None, 40 / 60))


@pytest.mark.parametrize("status", [[], {}, 3, ["TimeLimitExceeded"], {"a": 1}])
def test_an_unknown_status_is_an_error_of_the_judge(status: object) -> None:
    tests = [{"passed": False, "exec_info": {"status": "Success", "run_result": {"status": status}}}]
    assert verdicts.of({"accepted": False, "tests": tests}) == "JudgeError"
