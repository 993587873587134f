"""What a SandboxFusion server answered -> records of tests, judged anew where that is wanted. Pure functions.

what the server says                                      what that means
`compile_result` TimeLimitExceeded                        nothing: COMPILE_TIME
return code 127, "command not found"                      the endpoint has no such runtime: NO_RUNTIME
status SandboxError                                       the server failed: SICK
`javac` could not start its virtual machine               the server failed: SICK
131,072 bytes or more of output, all right so far         it may be cut, or stalled: LONG
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
from nbrun.judge.checkers import Case, Checker, opinion_of
from nbrun.judge.records import Shortener, as_bytes
from nbrun.judge.time_limits import Written, look_at
from nbrun.verdicts import Verdict

#: From here on the server loses output, or stalls until the time is up.
LONG_OUTPUT_BYTES = 131_072
#: How javac begins when it is not the source that is wrong.
_NO_JVM = ("Error occurred during initialization of VM", "Error: Could not create the Java Virtual Machine", "OpenJDK")
#: A line of the compiler's own, not of what it says of a source: that begins with the source's name.
_STARVED = re.compile(
    r"^(?:(?:g\+\+|c\+\+|gcc|cc1plus|cc1|as|collect2|/\S+/ld|ld): .*(?:Killed|out of memory|No space left)"
    r"|virtual memory exhausted)",
    re.MULTILINE,
)
_STATUSES = ("Success", "Failed", "SandboxError")
_STEP_STATUSES = ("Finished", "Error", *map(str, verdicts.REJECTED))
_STEP_TYPES = {"return_code": (int, type(None)), "stdout": (str, type(None)), "stderr": (str, type(None))}
_SHOWN = 300


class Fault(Enum):
    """Why an answer says nothing of the solution."""

    SICK = "the server failed"
    NO_RUNTIME = "the endpoint has no such runtime"
    COMPILE_TIME = "the compiler's time was up"
    LONG = "the server does not carry so much output"


class Garbage(ValueError):
    """An answer that is none of a SandboxFusion server."""


@dataclass
class Found:
    """What came of one test. `fault` where the machinery failed it; `written` and `share` where its time was up."""

    verdict: Verdict
    record: dict[str, Any]
    fault: Fault | None = None
    detail: str = ""
    written: Written | None = None
    share: float = 0.0

    def believe(self) -> None:
        """The runtime is there: it was the program that said it is missing."""
        if self.fault is Fault.NO_RUNTIME:
            self.fault, self.verdict = None, Verdict.RUNTIME_ERROR
            self.record["verdict"] = str(self.verdict)


@dataclass(frozen=True)
class Opinions:
    """How answers are judged. `checker` None: the server's own comparison counts."""

    checker: Checker | None
    is_exact: bool  # whether only the expected output is right
    keep_output_bytes: int | None


def read_submit(body: bytes, tests: Sequence[Mapping[str, Any]], opinions: Opinions) -> list[Found]:
    """What `/submit` says of the first of these tests: of all, or of those up to the first one that it rejects.

    Raises:
        Garbage: it says nothing that can be understood.
    """
    answer = _mapping(_parsed(body), "the answer")
    found = answer.get("tests")
    if not isinstance(found, list) or not isinstance(answer.get("accepted"), bool):
        raise Garbage(f"the answer has no tests: {_shown(body)}")
    if not 0 < len(found) <= len(tests):
        raise Garbage(f"it answers for {len(found)} tests where {len(tests)} were asked")
    return [_read_test(_mapping(f, "a test"), test, opinions) for f, test in zip(found, tests, strict=False)]


def read_run(body: bytes, test: Mapping[str, Any], opinions: Opinions) -> Found:
    """What `/run_code` says of one test; it knows nothing of the expected output.

    Raises:
        Garbage: it says nothing that can be understood.
    """
    run = _mapping(_parsed(body), "the answer")
    if "status" not in run or "run_result" not in run:
        raise Garbage(f"the answer tells of no run: {_shown(body)}")
    return _read_test({"exec_info": run}, test, opinions)


def _read_test(found: Mapping[str, Any], test: Mapping[str, Any], opinions: Opinions) -> Found:
    run = _mapping(found.get("exec_info"), "exec_info")
    _check(run)
    fault, detail = (None, "") if run.get("status") == "Success" else _fault(run)
    if fault is not None:
        return Found(Verdict.JUDGE_ERROR, _record(run, test, False, opinions.keep_output_bytes), fault, detail)
    ran = run.get("run_result")
    ended = run.get("status") == "Success" and isinstance(ran, Mapping) and ran.get("return_code") == 0
    verdict = Verdict.WRONG_ANSWER if ended else _verdict_of_run(run)
    output = _text(ran, "stdout")
    if verdict == Verdict.WRONG_ANSWER:  # it ran to its end
        if opinions.checker is None:
            is_right = found.get("passed") is True
        else:
            case = Case(as_bytes(test["input"]), as_bytes(test["output"]), as_bytes(output), test.get("flags", ()))
            is_right = opinion_of(opinions.checker, case, None, test.get("alternatives", ())).accepted
        verdict = Verdict.ACCEPTED if is_right else Verdict.WRONG_ANSWER
    out = Found(verdict, _record(run, test, verdict == Verdict.ACCEPTED, opinions.keep_output_bytes))
    is_long = 4 * len(output) >= LONG_OUTPUT_BYTES and len(as_bytes(output)) >= LONG_OUTPUT_BYTES
    is_late = isinstance(ran, Mapping) and ran.get("status") == "TimeLimitExceeded"
    if is_late or (verdict == Verdict.WRONG_ANSWER and is_long):
        written, share = look_at(
            test["output"], output, worked=bool(_text(ran, "stderr")), exact=opinions.is_exact,
            ignore_case=opinions.checker is None,
        )  # fmt: skip
        if is_long and (written != Written.WRONG or not opinions.is_exact):
            return Found(Verdict.JUDGE_ERROR, out.record, Fault.LONG, f"{len(output):,} characters of output")
        if is_late:
            out.verdict, out.written, out.share = Verdict.TIME_LIMIT_EXCEEDED, written, share
        return out
    if verdict == Verdict.JUDGE_ERROR:
        return Found(verdict, out.record, Fault.SICK, _shown(json.dumps(run)))
    return out


def _check(run: Mapping[str, Any]) -> None:
    """Is it the account of an execution? What is only nearly one must not reject a solution."""
    if run.get("status") not in _STATUSES:
        raise Garbage(f"it tells of no execution: {_shown(json.dumps(run))}")
    for name in ("compile_result", "run_result"):
        step = run.get(name)
        if step is None:
            continue
        is_step = isinstance(step, Mapping) and step.get("status") in _STEP_STATUSES
        if not is_step or not all(isinstance(step.get(key), kind) for key, kind in _STEP_TYPES.items()):
            raise Garbage(f"its {name} is none: {_shown(json.dumps(step))}")
        if isinstance(step.get("return_code"), bool) or (step["status"] == "Finished" and step.get("stdout") is None):
            raise Garbage(f"its {name} is not whole: {_shown(json.dumps(step))}")
    if run["status"] == "Success" and run.get("run_result") is None:
        raise Garbage("it tells of a success, and of nothing that was run")


def _verdict_of_run(run: Mapping[str, Any]) -> Verdict:
    bare = {"accepted": False, "tests": [{"passed": False, "exec_info": run}]}
    return Verdict(verdicts.of(bare) or Verdict.JUDGE_ERROR)


def _fault(run: Mapping[str, Any]) -> tuple[Fault | None, str]:
    if run.get("status") == "SandboxError":
        return Fault.SICK, f"SandboxError: {_shown(str(run.get('message', '')))}"
    compiled, ran = run.get("compile_result"), run.get("run_result")
    if isinstance(compiled, Mapping) and compiled.get("status") == "TimeLimitExceeded":
        return Fault.COMPILE_TIME, ""
    for step in (compiled, ran):
        stderr = _text(step, "stderr")
        if isinstance(step, Mapping) and step.get("return_code") == 127 and "command not found" in stderr:
            return Fault.NO_RUNTIME, stderr.strip()[:_SHOWN]
    if isinstance(compiled, Mapping) and compiled.get("return_code"):
        stderr = _text(compiled, "stderr").lstrip("# \n")
        is_jvm = stderr.startswith((*_NO_JVM, "There is insufficient memory for the Java Runtime"))
        if is_jvm or _STARVED.search(stderr):
            return Fault.SICK, stderr.strip()[:_SHOWN]
    return None, ""


def _record(run: Mapping[str, Any], test: Mapping[str, Any], passed: bool, keep: int | None) -> dict[str, Any]:
    """The test as it is kept: what the server says, with long streams cut, and the test as it was asked."""
    short = Shortener(keep)
    info: dict[str, Any] = {"status": run.get("status")}
    for step in ("compile_result", "run_result"):
        told = run.get(step)
        if isinstance(told, Mapping):
            told = dict(told)
            for stream in ("stdout", "stderr"):
                if isinstance(told.get(stream), str):
                    told[stream] = short.text(stream, as_bytes(told[stream]))
        info[step] = told
    if run.get("message"):
        info["message"] = short.text("message", as_bytes(str(run["message"])))
    about: dict[str, Any] = {
        "input": {"stdin": short.text("input", as_bytes(test["input"]))},
        "output": {"stdout": short.text("output", as_bytes(test["output"]))},
    }
    if "name" in test:
        about["name"] = test["name"]
    record = {"passed": passed, "exec_info": info, "test_info": about}
    return record | ({"cut": short.cut} if short.cut else {})


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        return json.loads(body)  # takes lone surrogates, and numbers of any length
    except (ValueError, RecursionError):
        raise Garbage(f"the answer is no JSON: {_shown(body)}") from None


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Garbage(f"{what} is no JSON object: {_shown(json.dumps(value))}")
    return value


def _text(step: Any, name: str) -> str:
    value = step.get(name) if isinstance(step, Mapping) else None
    return value if isinstance(value, str) else ""


def _shown(text: str | bytes) -> str:
    """The beginning of what came back, for a message."""
    if isinstance(text, bytes):
        if text.lstrip()[:1] == b"<":
            return "a web page"
        text = text[: 4 * _SHOWN].decode("utf-8", "replace")
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
