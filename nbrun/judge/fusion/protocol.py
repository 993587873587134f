"""Requests to a SandboxFusion server: their bodies, and the server's names of languages. Pure functions.

The service is https://github.com/bytedance/SandboxFusion. `/submit` runs a solution on all tests of the request, three
at once, and compiles it for each test. It reads the source from a fenced block and has no memory limit. `/run_code`
runs a source once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from nbrun.errors import NotSupportedError
from nbrun.judge.languages import find_row, renamed_to_main, unknown_language
from nbrun.judge.sources import read_item

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
    """

    path: str
    body: bytes
    weight: int
    timeout_s: float


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


def submit(program: Program, tests: Sequence[Mapping[str, object]], options: RunOptions, name: str) -> Request:
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
    return Request("/submit", _dumped(body), weight, _bound_s(program, options, rounds))


def run_code(program: Program, test: Mapping[str, object], options: RunOptions) -> Request:
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
    return Request("/run_code", _dumped(body), 1, _bound_s(program, options, 1))


def _dumped(body: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # the body has lone surrogates
        return json.dumps(body).encode()


def _bound_s(program: Program, options: RunOptions, rounds: int) -> float:
    """Return the number of seconds within which the server answers, whatever the programs do."""
    each = options.time_limit_s + (options.compile_limit_s if program.is_compiled else 0.0)
    return rounds * (each + 1.0) + _SLACK_S


def check_sendable(name: str, problem: Mapping[str, object], comparison: str = "") -> None:
    """Raise NotSupportedError if a server can't judge a problem.

    Args:
        comparison: the replacement of the problem's own checker: "server", or "user" for a user's checker; empty if
            nothing replaces it.
    """
    what = _unsendable(problem, comparison)
    if what:
        raise NotSupportedError(
            f"problem {name!r} has {what}, which a SandboxFusion server can't judge; use LocalSandbox."
        )


def _unsendable(problem: Mapping[str, Any], comparison: str) -> str:
    """Name the part of a problem that a server can't judge; return an empty text if there is none."""
    harness, checker, tests = problem.get("harness"), problem.get("checker"), problem["tests"]
    function = harness.get("name") if isinstance(harness, Mapping) and harness.get("type") == "function" else None
    files = problem.get("stream_files") or {}
    is_program = isinstance(checker, str) or (isinstance(checker, Mapping) and checker.get("type") != "kattis")
    reasons = (
        (any(not isinstance(t[key], str) for t in tests for key in ("input", "output")), "tests that are no text"),
        (problem.get("interactive"), "a validator that talks to its solutions"),
        (problem.get("grading") is not None, "groups of tests that are worth points"),
        (any(t.get("arguments") or t.get("files") for t in tests), "tests that give programs arguments or files"),
        (files, f"programs that use files by name ({', '.join(files.values())})"),
        (function is not None, f"tests that call a function ({function})"),
        (harness is not None, "tests that are code, run after a solution"),
        (comparison == "server" and any(t.get("alternatives") for t in tests), "tests with several right outputs"),
        (not comparison and is_program, "a checker that is a program"),
    )
    return next((what for applies, what in reasons if applies), "")
