"""What is said to SandboxFusion servers and what their answers mean for each test. Pure functions.

The service is https://github.com/bytedance/SandboxFusion. `/submit` runs a solution on all tests of the request, three
at once, and compiles it for each test. It reads the source from a fenced block and has no memory limit. `/run_code`
runs a source once. Outputs are compared here, unless the server's own comparison is used. From some answers nothing
follows about the solution:

    answer                                                 fault
    `compile_result` has status TimeLimitExceeded          COMPILE_TIME
    return code 127 and "command not found"                NO_RUNTIME: the endpoint can't run the language
    status SandboxError                                    SERVER_FAILED
    `javac` could not start its virtual machine            SERVER_FAILED
    131,072 bytes or more of output, correct so far        LONG_OUTPUT: it may be cut, or the server stalled
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import orjson

from nbrun import verdicts
from nbrun.errors import NotSupportedError
from nbrun.judge.checkers import Checker, CheckerInput, checker_result
from nbrun.judge.comparison import as_bytes
from nbrun.judge.exchange import Shortener
from nbrun.judge.languages import find_row, renamed_to_main, unknown_language
from nbrun.judge.sources import read_item
from nbrun.judge.time_limits import Written, look_at
from nbrun.verdicts import Verdict

#: The number of tests of one `/submit` that the server runs at once.
MAX_PARALLEL = 3
#: Our name of a language -> the server's name. Its `python` is Python 3, and it has no C.
LANGUAGES: Mapping[str, str] = {
    "PYTHON3": "python", "CPP": "cpp", "JAVA": "java", "GO": "go", "RUST": "rust", "NODEJS": "nodejs",
    "JAVASCRIPT": "nodejs", "TYPESCRIPT": "typescript", "PHP": "php", "CSHARP": "csharp", "BASH": "bash", "LUA": "lua",
    "PERL": "perl", "R": "R", "RUBY": "ruby", "SCALA": "scala", "JULIA": "julia",
}  # fmt: skip
#: Languages, by the server's name, that it doesn't compile.
_INTERPRETED = frozenset({"python", "nodejs", "php", "bash", "lua", "perl", "R", "ruby", "julia"})
#: Languages without a memory limit: virtual machines reserve more than they use, and don't start under the service's
#: limit.
_UNLIMITED = frozenset({"java", "go", "nodejs", "typescript", "csharp", "scala", "julia"})
#: The least memory limit of compiled languages. It applies to the compiler too, and less would give CompileErrors.
_COMPILER_MB = 1024.0
#: The server's name of a language -> the tag of its code fences, if it differs.
_TAGS = {"nodejs": "javascript"}
#: Makes the server take the whole completion as the source: blocks of this priority win over fenced ones.
_WHOLE = "submit_code_blocks([CodeBlock(priority=40, code=completion, language={language!r})])"
#: The time that the server may need in addition to the programs: it reports a failure after five tries, in about 17 s.
_SLACK_S = 20.0


class Request(NamedTuple):
    """One request.

    Attributes:
        weight: the number of programs that it runs at once.
        timeout_s: how long its answer may take.
        language: the server's name of the program's language.
        read: turns the body of an answer into the outcomes of tests.
    """

    path: str
    body: bytes
    weight: int
    timeout_s: float
    language: str
    read: Callable[[bytes], list[TestOutcome]]


class RunOptions(NamedTuple):
    """The limits under which a request's programs run, and whether they run on tests after the first failing one."""

    time_limit_s: float
    compile_limit_s: float
    memory_limit_mb: float | None
    all_tests: bool


class Program(NamedTuple):
    """A solution in the form that is sent to the server.

    Attributes:
        name: our name of its language.
        language: the server's name of its language.
    """

    name: str
    language: str
    code: str

    def memory_limit_mb(self, wanted_mb: float) -> float | None:
        """Return the memory limit to send; None for languages that don't start under a limit."""
        if self.language in _UNLIMITED:
            return None
        return max(wanted_mb, _COMPILER_MB) if self.is_compiled else wanted_mb

    @property
    def is_compiled(self) -> bool:
        """Whether the server compiles it, which adds to the time of a request."""
        return self.language not in _INTERPRETED


def read_program(item: Any, languages: Mapping[str, str]) -> Program:
    """Return the program of an item.

    Raises:
        NotSupportedError: the server knows no such language, or the solution has more than one file.
    """
    asked, code, files, _ = read_item(item)
    if files:
        raise NotSupportedError(
            "a solution of several files can't be sent to a SandboxFusion server; use LocalSandbox."
        )
    if item.get("encoding") not in (None, "utf-8"):
        raise NotSupportedError("a source that is no UTF-8 can't be sent to a SandboxFusion server; use LocalSandbox.")
    name, language = _lookup(asked, languages)
    if language == "java":
        code = renamed_to_main(code.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
    return Program(name, language, code)


def _lookup(asked: object, languages: Mapping[str, str]) -> tuple[str, str]:
    """Return our name and the server's name of a language, in any of its spellings."""
    if (name := find_row(asked, languages)) is not None:
        return name, languages[name]
    if isinstance(asked, str) and asked != "PYTHON":  # the server's own name
        folded = "".join(asked.split()).lower()
        for name, language in languages.items():
            if folded == language.lower():
                return name, language
    how = "If your servers know it, add it with SandboxFusion(languages={{{name}: 'the name in their API'}})."
    raise unknown_language(asked, "SandboxFusion", languages, how)


def submit(
    program: Program, tests: Sequence[Mapping[str, object]], options: RunOptions, rules: JudgingRules, name: str
) -> Request:
    """Return the request to `/submit` with these tests."""
    config: dict[str, object] = {
        "dataset_type": "CommonOJDataset",
        "language": program.language,
        "provided_data": {
            "test": [{"input": {"stdin": t["input"]}, "output": {"stdout": t["output"]}} for t in tests],
        },
        "extra": {"run_all_cases": options.all_tests},
        "run_timeout": options.time_limit_s,
        "compile_timeout": options.compile_limit_s,
    }
    completion = f"```{_TAGS.get(program.language, program.language)}\n{program.code}\n```"
    if "```" in program.code:  # the fence would end there
        completion = program.code
        config["custom_extract_logic"] = _WHOLE.format(language=program.language)
    body = {"dataset": "nbrun", "id": name, "completion": completion, "config": config}
    weight = min(MAX_PARALLEL, len(tests))
    rounds = math.ceil(len(tests) / MAX_PARALLEL)
    read = partial(read_submit, tests=tests, rules=rules)
    return Request("/submit", _dumped(body), weight, _bound_s(program, options, rounds), program.language, read)


def run_code(program: Program, test: Mapping[str, object], options: RunOptions, rules: JudgingRules) -> Request:
    """Return the request to `/run_code` with one test."""
    body: dict[str, object] = {
        "code": program.code,
        "language": program.language,
        "stdin": test["input"],
        "run_timeout": options.time_limit_s,
        "compile_timeout": options.compile_limit_s,
    }
    if options.memory_limit_mb is not None:
        body["memory_limit_MB"] = math.ceil(options.memory_limit_mb)
    read = partial(read_run, tests=[test], rules=rules)
    return Request("/run_code", _dumped(body), 1, _bound_s(program, options, 1), program.language, read)


def _dumped(body: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # the body has lone surrogates
        return json.dumps(body).encode()


def _bound_s(program: Program, options: RunOptions, rounds: int) -> float:
    """Return the number of seconds within which the server answers, whatever the programs do."""
    each = options.time_limit_s + (options.compile_limit_s if program.is_compiled else 0.0)
    return rounds * (each + 1.0) + _SLACK_S


def check_sendable(name: str, problem: Mapping[str, Any], comparison: str = "") -> None:
    """Raise NotSupportedError if a server can't judge a problem.

    Args:
        comparison: the replacement of the problem's own checker: "server", or "user" for a user's checker; empty if
            nothing replaces it.
    """
    for what, applies in _obstacles(problem, comparison).items():
        if applies:
            raise NotSupportedError(
                f"problem {name!r} has {what}, which a SandboxFusion server can't judge; use LocalSandbox."
            )


def _obstacles(problem: Mapping[str, Any], comparison: str) -> dict[str, object]:
    """Return what a server can't judge, and whether a problem has it."""
    harness, tests, files = problem.get("harness"), problem["tests"], problem.get("stream_files") or {}
    is_text = all(isinstance(test["input"], str) and isinstance(test["output"], str) for test in tests)
    has = {key for test in tests for key, value in test.items() if value}
    return {
        "tests that are no text": not is_text,
        "a validator that talks to its solutions": problem.get("interactive"),
        "groups of tests that are worth points": problem.get("grading") is not None,
        "tests that give programs arguments or files": has & {"arguments", "files"},
        f"programs that use files by name ({', '.join(files.values())})": files,
        _tests_by(harness): harness is not None,
        "tests with several right outputs": comparison == "server" and "alternatives" in has,
        "a checker that is a program": not comparison and _is_program(problem.get("checker")),
    }


def _tests_by(harness: object) -> str:
    match harness:
        case {"type": "function", "name": function}:
            return f"tests that call a function ({function})"
        case _:
            return "tests that are code, run after a solution"


def _is_program(checker: object) -> bool:
    return isinstance(checker, str) or (isinstance(checker, Mapping) and checker.get("type") != "kattis")


# ---- answers

#: The server truncates output beyond this length, or stalls until the time limit.
LONG_OUTPUT_BYTES = 131_072
#: The beginning of what Python reports if it can't start: no line of the program has run then.
_NO_PYTHON = "Fatal Python error: init_"
#: Errors that the source didn't cause: how javac's messages about its virtual machine begin, and a line about the
#: compiler itself (lines about a source begin with the source's name).
_STARVED = re.compile(
    r"\A[# \n]*(?:Error occurred during initialization of VM|Error: Could not create the Java Virtual Machine"
    r"|OpenJDK|There is insufficient memory for the Java Runtime)"
    r"|(?:^|\A[# \n]*)(?:(?:g\+\+|c\+\+|gcc|cc1plus|cc1|as|collect2|/\S+/ld|ld): .*"
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


def _read_test(answered: Mapping[str, object], test: Mapping[str, Any], rules: JudgingRules) -> TestOutcome:
    run, keep = _mapping(answered.get("exec_info"), "exec_info"), rules.keep_output_bytes
    compiled, ran = _steps(run)
    if run["status"] != "Success" and (fault := _fault(run, compiled, ran)):
        return TestOutcome(Verdict.JUDGE_ERROR, _record(run, test, False, keep), *fault)
    verdict = _verdict(answered, run, ran, test, rules)
    outcome = TestOutcome(verdict, _record(run, test, verdict == Verdict.ACCEPTED, keep))
    if ran.is_late or (verdict == Verdict.WRONG_ANSWER and _is_long(ran.stdout)):
        _look_at_output(outcome, test["output"], ran, rules)
    elif verdict == Verdict.JUDGE_ERROR:
        outcome.fault, outcome.detail = Fault.SERVER_FAILED, _shown(json.dumps(run))
    return outcome


def _verdict(
    answered: Mapping[str, object], run: Mapping[str, Any], ran: _Step, test: Mapping[str, Any], rules: JudgingRules
) -> Verdict:
    """Return the verdict that follows from an answer without a fault."""
    if run["status"] != "Success" or ran.return_code != 0:
        bare = {"accepted": False, "tests": [{"passed": False, "exec_info": run}]}
        failure = Verdict(verdicts.of(bare) or Verdict.JUDGE_ERROR)
        if failure != Verdict.WRONG_ANSWER:
            return failure
    return Verdict.ACCEPTED if _is_right(answered, test, ran.stdout, rules) else Verdict.WRONG_ANSWER


def _is_right(answered: Mapping[str, object], test: Mapping[str, Any], output: str, rules: JudgingRules) -> bool:
    """Return whether the output of a program that exited normally is right."""
    if rules.checker is None:
        return answered.get("passed") is True
    given = CheckerInput(as_bytes(test["input"]), as_bytes(test["output"]), as_bytes(output), test.get("flags", ()))
    return checker_result(rules.checker, given, None, test.get("alternatives", ())).accepted


def _is_long(output: str) -> bool:
    """Return whether the server may have truncated an output."""
    return 4 * len(output) >= LONG_OUTPUT_BYTES and len(as_bytes(output)) >= LONG_OUTPUT_BYTES


def _look_at_output(outcome: TestOutcome, expected: str, ran: _Step, rules: JudgingRules) -> None:
    """Complete the outcome of a test whose output may be cut: it ran out of time, or its output is very long."""
    written, share = look_at(
        expected, ran.stdout, worked=bool(ran.stderr), exact=rules.is_exact, ignore_case=rules.checker is None
    )
    if _is_long(ran.stdout) and (written != Written.WRONG or not rules.is_exact):
        outcome.verdict, outcome.fault = Verdict.JUDGE_ERROR, Fault.LONG_OUTPUT
        outcome.detail = f"{len(ran.stdout):,} characters of output"
    elif ran.is_late:
        outcome.verdict, outcome.written, outcome.share = Verdict.TIME_LIMIT_EXCEEDED, written, share


class _Step(NamedTuple):
    """What a compiler did, or a program."""

    status: str = ""
    return_code: int | None = None
    stdout: str = ""
    stderr: str = ""

    @property
    def is_late(self) -> bool:
        return self.status == "TimeLimitExceeded"

    @property
    def complaint(self) -> str:
        return self.stderr.strip()[:_SHOWN]

    @property
    def lacks_runtime(self) -> bool:
        return self.return_code == 127 and "command not found" in self.stderr

    @property
    def has_no_python(self) -> bool:
        return self.stderr.startswith(_NO_PYTHON) and not self.stdout

    @property
    def is_starved(self) -> bool:
        """Whether it failed for want of something that the source didn't cause."""
        return bool(self.return_code and _STARVED.search(self.stderr))


def _steps(run: Mapping[str, Any]) -> tuple[_Step, _Step]:
    """Return what the compiler did and what the program did.

    Raises:
        InvalidAnswer: the mapping describes no execution: it must not reject a solution.
    """
    if run.get("status") not in _STATUSES:
        raise InvalidAnswer(f"it describes no execution: {_shown(json.dumps(run))}")
    if run["status"] == "Success" and run.get("run_result") is None:
        raise InvalidAnswer("it reports a success, but nothing that was run")
    return _step(run, "compile_result"), _step(run, "run_result")


def _step(run: Mapping[str, Any], name: str) -> _Step:
    step = run.get(name)
    if step is None:
        return _Step()
    if not isinstance(step, Mapping) or step.get("status") not in _STEP_STATUSES:
        raise InvalidAnswer(f"its {name} is none: {_shown(json.dumps(step))}")
    if not _is_whole(step):
        raise InvalidAnswer(f"its {name} is not whole: {_shown(json.dumps(step))}")
    return _Step(step["status"], step.get("return_code"), step.get("stdout") or "", step.get("stderr") or "")


def _is_whole(step: Mapping[str, object]) -> bool:
    are_typed = all(type(step.get(key)) in kinds for key, kinds in _STEP_TYPES.items())  # True is no return code
    return are_typed and (step["status"] != "Finished" or step.get("stdout") is not None)


def _fault(run: Mapping[str, object], compiled: _Step, ran: _Step) -> tuple[Fault, str] | None:
    """Return why nothing follows from an answer, and the details; None if something follows."""
    if run["status"] == "SandboxError":
        return Fault.SERVER_FAILED, f"SandboxError: {_shown(str(run.get('message', '')))}"
    if compiled.is_late:
        return Fault.COMPILE_TIME, ""
    for step in (compiled, ran):
        if step.lacks_runtime:
            return Fault.NO_RUNTIME, step.complaint
    if ran.has_no_python:
        return Fault.SERVER_FAILED, ran.complaint
    if compiled.is_starved:
        return Fault.SERVER_FAILED, compiled.complaint
    if compiled.return_code in ENDED_FROM_OUTSIDE:
        return Fault.SERVER_FAILED, f"a signal ended the compiler (return code {compiled.return_code})"
    return None


def _record(run: Mapping[str, Any], test: Mapping[str, Any], passed: bool, keep: int | None) -> dict[str, object]:
    """Return the record of a test: the server's answer, with long streams truncated, and the test that was sent."""
    short = Shortener(keep)
    info: dict[str, object] = {"status": run.get("status")}
    for step in ("compile_result", "run_result"):
        info[step] = _shortened(run.get(step), short)
    if run.get("message"):
        info["message"] = short.text("message", as_bytes(str(run["message"])))
    about: dict[str, object] = {
        "input": {"stdin": short.text("input", as_bytes(test["input"]))},
        "output": {"stdout": short.text("output", as_bytes(test["output"]))},
    }
    if "name" in test:
        about["name"] = test["name"]
    record = {"passed": passed, "exec_info": info, "test_info": about}
    return short.completed(record)


def _shortened(step: Mapping[str, Any] | None, short: Shortener) -> Mapping[str, object] | None:
    """Return what a compiler or a program did, with long streams truncated."""
    if not step:
        return step
    streams = [key for key in ("stdout", "stderr") if step.get(key) is not None]
    return {**step, **{key: short.text(key, as_bytes(step[key])) for key in streams}}


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


def _shown(text: str | bytes) -> str:
    """Return the beginning of an answer, for a message."""
    if isinstance(text, bytes):
        if text.lstrip()[:1] == b"<":
            return "a web page"
        text = text[: 4 * _SHOWN].decode("utf-8", "replace")
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
