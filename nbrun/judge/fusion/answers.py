"""Reads the answers of SandboxFusion servers: the outcome and the record of each test. Pure functions.

Outputs are compared here, unless the server's own comparison is used. From some answers nothing follows about the
solution:

    answer                                                 fault
    `compile_result` has status TimeLimitExceeded          COMPILE_TIME
    return code 127 and "command not found"                NO_RUNTIME: the endpoint can't run the language
    status SandboxError                                    SERVER_FAILED
    `javac` could not start its virtual machine            SERVER_FAILED
    131,072 bytes or more of output, correct so far        LONG_OUTPUT: it may be cut, or the server stalled
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from nbrun import verdicts
from nbrun.judge.checkers import Checker, CheckerInput, checker_result
from nbrun.judge.comparison import as_bytes
from nbrun.judge.records import Shortener
from nbrun.judge.time_limits import Written, look_at
from nbrun.verdicts import Verdict

#: The server truncates output beyond this length, or stalls until the time limit.
LONG_OUTPUT_BYTES = 131_072
#: The beginnings of javac's messages about errors that the source didn't cause.
_NO_JVM = (
    "Error occurred during initialization of VM",
    "Error: Could not create the Java Virtual Machine",
    "OpenJDK",
    "There is insufficient memory for the Java Runtime",
)
#: The beginning of what Python reports if it can't start: no line of the program has run then.
_NO_PYTHON = "Fatal Python error: init_"
#: A line about the compiler itself; lines about a source begin with the source's name.
_STARVED = re.compile(
    r"^(?:(?:g\+\+|c\+\+|gcc|cc1plus|cc1|as|collect2|/\S+/ld|ld): .*"
    r"(?:Killed|(?:Terminated|Interrupt|Hangup|Quit) signal|out of memory|No space left)"
    r"|virtual memory exhausted)",
    re.MULTILINE,
)
#: What the process group of a server gets when the server is stopped: SIGHUP, SIGINT, SIGQUIT and SIGTERM of Linux,
#: where servers run. The signal module of Windows has no names for all of them.
_STOP_SIGNALS = (1, 2, 3, 15)
#: Exit statuses, of a process and of a shell, of such signals.
ENDED_FROM_OUTSIDE = frozenset(status for number in _STOP_SIGNALS for status in (-number, 128 + number))
_STATUSES = ("Success", "Failed", "SandboxError")
_STEPS = ("compile_result", "run_result")
_STEP_STATUSES = ("Finished", "Error", *map(str, verdicts.REJECTED))
_STEP_TYPES = {"return_code": (int, type(None)), "stdout": (str, type(None)), "stderr": (str, type(None))}
_SHOWN = 300


class Fault(Enum):
    """A reason why nothing follows from an answer about the solution."""

    SERVER_FAILED = "the server failed"
    NO_RUNTIME = "the endpoint has no such runtime"
    COMPILE_TIME = "the compiler's time was up"
    LONG_OUTPUT = "the output is longer than the server can return"


class InvalidAnswer(ValueError):
    """An answer that doesn't come from a SandboxFusion server."""


@dataclass
class TestOutcome:
    """The outcome of one test.

    Attributes:
        fault: why nothing is known about the solution; None if the verdict is valid.
        written, share: if the time limit was exceeded, how much of the output was right; see `time_limits.look_at`.
    """

    verdict: Verdict
    record: dict[str, Any]
    fault: Fault | None = None
    detail: str = ""
    written: Written | None = None
    share: float = 0.0

    def blame_program(self) -> None:
        """Turn NO_RUNTIME into a RuntimeError: the endpoint has the runtime, so the program printed the message."""
        if self.fault is Fault.NO_RUNTIME:
            self.fault, self.verdict = None, Verdict.RUNTIME_ERROR
            self.record["verdict"] = str(self.verdict)


@dataclass(frozen=True)
class JudgingRules:
    """How answers are judged.

    Attributes:
        checker: compares outputs; None uses the server's own comparison.
        is_exact: whether only the expected output is right.
        keep_output_bytes: how many bytes of each stream a record keeps; None keeps all.
    """

    checker: Checker | None
    is_exact: bool
    keep_output_bytes: int | None


def read_submit(body: bytes, tests: Sequence[Mapping[str, object]], rules: JudgingRules) -> list[TestOutcome]:
    """Return the outcomes in an answer of `/submit`: of all tests, or of the tests up to the first rejected one.

    Raises:
        InvalidAnswer: the answer doesn't have the expected structure.
    """
    answer = _mapping(_parsed(body), "the answer")
    answered = answer.get("tests")
    if not isinstance(answered, list) or not isinstance(answer.get("accepted"), bool):
        raise InvalidAnswer(f"the answer has no tests: {_shown(body)}")
    if not 0 < len(answered) <= len(tests):
        raise InvalidAnswer(f"it answers for {len(answered)} tests where {len(tests)} were asked")
    return [_read_test(_mapping(a, "a test"), test, rules) for a, test in zip(answered, tests, strict=False)]


def read_run(body: bytes, tests: Sequence[Mapping[str, object]], rules: JudgingRules) -> list[TestOutcome]:
    """Return the outcome in an answer of `/run_code` to its one test; the service doesn't know the expected output.

    Raises:
        InvalidAnswer: the answer doesn't have the expected structure.
    """
    run = _mapping(_parsed(body), "the answer")
    if "status" not in run or "run_result" not in run:
        raise InvalidAnswer(f"the answer describes no run: {_shown(body)}")
    return [_read_test({"exec_info": run}, tests[0], rules)]


def _read_test(answered: Mapping[str, object], test: Mapping[str, object], rules: JudgingRules) -> TestOutcome:
    run = _mapping(answered.get("exec_info"), "exec_info")
    _check(run)
    is_success = run["status"] == "Success"
    fault, detail = (None, "") if is_success else _fault(run)
    if fault is not None:
        return TestOutcome(Verdict.JUDGE_ERROR, _record(run, test, False, rules.keep_output_bytes), fault, detail)
    output = _text(run, "run_result", "stdout")
    has_ended = is_success and inner(run, "run_result", "return_code") == 0
    verdict = Verdict.WRONG_ANSWER if has_ended else _verdict_of_run(run)
    if verdict == Verdict.WRONG_ANSWER and _is_right(answered, test, output, rules):
        verdict = Verdict.ACCEPTED
    outcome = TestOutcome(verdict, _record(run, test, verdict == Verdict.ACCEPTED, rules.keep_output_bytes))
    is_late = inner(run, "run_result", "status") == "TimeLimitExceeded"
    if is_late or (verdict == Verdict.WRONG_ANSWER and _is_long(output)):
        return _incomplete(outcome, test, output, rules, is_late, worked=bool(_text(run, "run_result", "stderr")))
    if verdict == Verdict.JUDGE_ERROR:
        return TestOutcome(verdict, outcome.record, Fault.SERVER_FAILED, _shown(json.dumps(run)))
    return outcome


def _is_right(answered: Mapping[str, object], test: Mapping[str, Any], output: str, rules: JudgingRules) -> bool:
    """Return whether the output of a program that exited normally is right."""
    if rules.checker is None:
        return answered.get("passed") is True
    given = CheckerInput(as_bytes(test["input"]), as_bytes(test["output"]), as_bytes(output), test.get("flags", ()))
    return checker_result(rules.checker, given, None, test.get("alternatives", ())).accepted


def _is_long(output: str) -> bool:
    """Return whether the server may have truncated an output."""
    return 4 * len(output) >= LONG_OUTPUT_BYTES and len(as_bytes(output)) >= LONG_OUTPUT_BYTES


def _incomplete(
    outcome: TestOutcome, test: Mapping[str, Any], output: str, rules: JudgingRules, is_late: bool, worked: bool
) -> TestOutcome:
    """Return the outcome of a test with possibly incomplete output: it ran out of time, or its output is very long."""
    written, share = look_at(
        test["output"], output, worked=worked, exact=rules.is_exact, ignore_case=rules.checker is None
    )
    if _is_long(output) and (written != Written.WRONG or not rules.is_exact):
        detail = f"{len(output):,} characters of output"
        return TestOutcome(Verdict.JUDGE_ERROR, outcome.record, Fault.LONG_OUTPUT, detail)
    if is_late:
        outcome.verdict, outcome.written, outcome.share = Verdict.TIME_LIMIT_EXCEEDED, written, share
    return outcome


def _check(run: Mapping[str, Any]) -> None:
    """Raise InvalidAnswer unless a mapping describes an execution, so that no other mapping rejects a solution."""
    if run.get("status") not in _STATUSES:
        raise InvalidAnswer(f"it describes no execution: {_shown(json.dumps(run))}")
    for name in _STEPS:
        if run.get(name) is not None:
            _check_step(run[name], name)
    if run["status"] == "Success" and run.get("run_result") is None:
        raise InvalidAnswer("it reports a success, but nothing that was run")


def _check_step(step: Any, name: str) -> None:
    is_step = isinstance(step, Mapping) and step.get("status") in _STEP_STATUSES
    if not is_step or not all(isinstance(step.get(key), kind) for key, kind in _STEP_TYPES.items()):
        raise InvalidAnswer(f"its {name} is none: {_shown(json.dumps(step))}")
    if isinstance(step.get("return_code"), bool) or (step["status"] == "Finished" and step.get("stdout") is None):
        raise InvalidAnswer(f"its {name} is not whole: {_shown(json.dumps(step))}")


def _verdict_of_run(run: Mapping[str, object]) -> Verdict:
    bare = {"accepted": False, "tests": [{"passed": False, "exec_info": run}]}
    return Verdict(verdicts.of(bare) or Verdict.JUDGE_ERROR)


def _fault(run: Mapping[str, object]) -> tuple[Fault | None, str]:
    if run.get("status") == "SandboxError":
        return Fault.SERVER_FAILED, f"SandboxError: {_shown(str(run.get('message', '')))}"
    if inner(run, "compile_result", "status") == "TimeLimitExceeded":
        return Fault.COMPILE_TIME, ""
    for step in _STEPS:
        stderr = _text(run, step, "stderr")
        if inner(run, step, "return_code") == 127 and "command not found" in stderr:
            return Fault.NO_RUNTIME, stderr.strip()[:_SHOWN]
    stderr = _text(run, "run_result", "stderr")
    if stderr.startswith(_NO_PYTHON) and not _text(run, "run_result", "stdout"):
        return Fault.SERVER_FAILED, stderr.strip()[:_SHOWN]
    code, stderr = inner(run, "compile_result", "return_code"), _text(run, "compile_result", "stderr").lstrip("# \n")
    if code and (stderr.startswith(_NO_JVM) or _STARVED.search(stderr)):
        return Fault.SERVER_FAILED, stderr.strip()[:_SHOWN]
    if code in ENDED_FROM_OUTSIDE:
        return Fault.SERVER_FAILED, f"a signal ended the compiler (return code {code})"
    return None, ""


def _record(run: Mapping[str, object], test: Mapping[str, Any], passed: bool, keep: int | None) -> dict[str, object]:
    """Return the record of a test: the server's answer, with long streams truncated, and the test that was sent."""
    short = Shortener(keep)
    info: dict[str, object] = {"status": run.get("status")}
    for step in _STEPS:
        result = run.get(step)
        if isinstance(result, Mapping):
            result = dict(result)
            for stream in ("stdout", "stderr"):
                if isinstance(result.get(stream), str):
                    result[stream] = short.text(stream, as_bytes(result[stream]))
        info[step] = result
    if run.get("message"):
        info["message"] = short.text("message", as_bytes(str(run["message"])))
    about: dict[str, object] = {
        "input": {"stdin": short.text("input", as_bytes(test["input"]))},
        "output": {"stdout": short.text("output", as_bytes(test["output"]))},
    }
    if "name" in test:
        about["name"] = test["name"]
    record = {"passed": passed, "exec_info": info, "test_info": about}
    return record | ({"cut": short.cut} if short.cut else {})


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        return json.loads(body)  # accepts lone surrogates, and numbers of any length
    except (ValueError, RecursionError):
        raise InvalidAnswer(f"the answer is no JSON: {_shown(body)}") from None


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidAnswer(f"{what} is no JSON object: {_shown(json.dumps(value))}")
    return value


def inner(record: object, *keys: str) -> Any:
    """Return what mappings in mappings hold under these keys; None where one of them is no mapping.

    Example:
        >>> inner({"exec_info": {"run_result": None}}, "exec_info", "run_result", "stdout")
    """
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def _text(run: object, *keys: str) -> str:
    value = inner(run, *keys)
    return value if isinstance(value, str) else ""


def _shown(text: str | bytes) -> str:
    """Return the beginning of an answer, for a message."""
    if isinstance(text, bytes):
        if text.lstrip()[:1] == b"<":
            return "a web page"
        text = text[: 4 * _SHOWN].decode("utf-8", "replace")
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
