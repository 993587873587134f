"""What a SandboxFusion server is asked: the bodies of its requests, and its names of languages. Pure functions.

The service: https://github.com/bytedance/SandboxFusion. `/submit` runs a solution on all tests it is given, three at
once, and compiles it for each; it takes the source from a fenced block and knows no memory limit. `/run_code` runs it
once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from nbrun.errors import NotSupportedError
from nbrun.judge.java import renamed_to_main
from nbrun.judge.languages import find_row
from nbrun.judge.sources import read_item
from nbrun.samples import LANGUAGES as NUMBERED

#: Tests of one `/submit` that the server runs at once.
AT_ONCE = 3
#: The server's names by ours. Its python is Python 3; it has no C.
LANGUAGES: Mapping[str, str] = {
    "PYTHON3": "python", "CPP": "cpp", "JAVA": "java", "GO": "go", "RUST": "rust", "NODEJS": "nodejs",
    "JAVASCRIPT": "nodejs", "TYPESCRIPT": "typescript", "PHP": "php", "CSHARP": "csharp", "BASH": "bash", "LUA": "lua",
    "PERL": "perl", "R": "R", "RUBY": "ruby", "SCALA": "scala", "JULIA": "julia",
}  # fmt: skip
#: Nothing is compiled for these.
_INTERPRETED = frozenset({"python", "nodejs", "php", "bash", "lua", "perl", "R", "ruby", "julia"})
#: Virtual machines reserve more than they use: they don't start under a limit of memory such as this service's.
_UNLIMITED = frozenset({"java", "go", "nodejs", "typescript", "csharp", "scala", "julia"})
#: The limit holds for the compiler too, which needs more than most problems allow: less would look like a CompileError.
_COMPILER_MB = 1024.0
#: What the server calls a language behind a fence, where that differs.
_TAGS = {"nodejs": "javascript"}
#: Takes the completion as it is: blocks of this priority win over fenced ones.
_WHOLE = "submit_code_blocks([CodeBlock(priority=40, code=completion, language={language!r})])"
#: What the server may take beside the programs: it tries five times before it says that it failed, in about 17 s.
_SLACK_S = 20.0


class Ask(NamedTuple):
    """One request: where to, what, how many programs it runs at once, how long it may take."""

    path: str
    body: bytes
    weight: int
    timeout_s: float


class Terms(NamedTuple):
    """What a request's programs run under."""

    time_limit_s: float
    compile_limit_s: float
    memory_limit_mb: float | None
    all_tests: bool


class Program(NamedTuple):
    """A solution as the server will get it. `name` is our name of the language, `language` the server's."""

    name: str
    language: str
    code: str

    def memory_limit_mb(self, wanted_mb: float) -> float | None:
        """What it can be limited to; None where it would not start."""
        if self.language in _UNLIMITED:
            return None
        return max(wanted_mb, _COMPILER_MB) if self.is_compiled else wanted_mb

    @property
    def is_compiled(self) -> bool:
        """Whether the compiler's time counts too."""
        return self.language not in _INTERPRETED


def read_program(item: Any, languages: Mapping[str, str]) -> Program:
    """An item -> the program that is sent.

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


def _lookup(asked: Any, languages: Mapping[str, str]) -> tuple[str, str]:
    if (name := find_row(asked, languages)) is not None:
        return name, languages[name]
    if isinstance(asked, str) and asked != "PYTHON":  # the server's own name
        folded = "".join(asked.split()).lower()
        for name, language in languages.items():
            if folded == language.lower():
                return name, language
    asked = NUMBERED.get(asked, asked) if isinstance(asked, int) else asked
    hint = " CodeContests' PYTHON is Python 2." if asked == "PYTHON" else ""
    raise NotSupportedError(
        f"SandboxFusion has no language {asked!r}: it has {', '.join(languages)}.{hint} If your servers know it, add "
        f"it with SandboxFusion(languages={{{asked!r}: 'the name in their API'}})."
    )


def submit(program: Program, tests: Sequence[Mapping[str, Any]], terms: Terms, name: str) -> Ask:
    """`/submit` with these tests."""
    config: dict[str, Any] = {
        "dataset_type": "CommonOJDataset",
        "language": program.language,
        "provided_data": {
            "test": [{"input": {"stdin": t["input"]}, "output": {"stdout": t["output"]}} for t in tests],
        },
        "extra": {"run_all_cases": terms.all_tests},
        "run_timeout": terms.time_limit_s,
        "compile_timeout": terms.compile_limit_s,
    }
    completion = f"```{_TAGS.get(program.language, program.language)}\n{program.code}\n```"
    if "```" in program.code:  # the fence would end there
        completion = program.code
        config["custom_extract_logic"] = _WHOLE.format(language=program.language)
    body = {"dataset": "nbrun", "id": name, "completion": completion, "config": config}
    weight = min(AT_ONCE, len(tests))
    rounds = math.ceil(len(tests) / AT_ONCE)
    return Ask("/submit", _dumped(body), weight, _bound_s(program, terms, rounds))


def run_code(program: Program, test: Mapping[str, Any], terms: Terms) -> Ask:
    """`/run_code` with one test."""
    body: dict[str, Any] = {
        "code": program.code, "language": program.language, "stdin": test["input"],
        "run_timeout": terms.time_limit_s, "compile_timeout": terms.compile_limit_s,
    }  # fmt: skip
    if terms.memory_limit_mb is not None:
        body["memory_limit_MB"] = math.ceil(terms.memory_limit_mb)
    return Ask("/run_code", _dumped(body), 1, _bound_s(program, terms, 1))


def _dumped(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # lone surrogates
        return json.dumps(body).encode()


def _bound_s(program: Program, terms: Terms, rounds: int) -> float:
    """After which time the server must have answered, whatever the programs do."""
    each = terms.time_limit_s + (terms.compile_limit_s if program.is_compiled else 0.0)
    return rounds * (each + 1.0) + _SLACK_S


def check_sendable(name: str, problem: Mapping[str, Any], comparison: str = "") -> None:
    """Raise NotSupportedError where a server can't judge a problem: what it doesn't carry, or can't do.

    Tests that hold bytes that are no text don't fit into JSON.

    Args:
        comparison: who compares outputs instead of the problem's own checker: "server", or "user"; empty for no one.
    """
    harness = problem.get("harness")
    checker = problem.get("checker")
    if any(not isinstance(test[key], str) for test in problem["tests"] for key in ("input", "output")):
        what = "tests that are no text"
    elif problem.get("interactive"):
        what = "a validator that talks to its solutions"
    elif problem.get("grading") is not None:
        what = "groups of tests that are worth points"
    elif any(test.get("arguments") or test.get("files") for test in problem["tests"]):
        what = "tests that give programs arguments or files"
    elif problem.get("stream_files"):
        what = f"programs that use files by name ({', '.join(problem['stream_files'].values())})"
    elif isinstance(harness, Mapping) and harness.get("type") == "function":
        what = f"tests that call a function ({harness.get('name')})"
    elif harness is not None:
        what = "tests that are code, run after a solution"
    elif comparison == "server" and any(test.get("alternatives") for test in problem["tests"]):
        what = "tests with several right outputs"
    elif not comparison and (
        isinstance(checker, str) or (isinstance(checker, Mapping) and checker.get("type") != "kattis")
    ):
        what = "a checker that is a program"
    else:
        return
    raise NotSupportedError(f"problem {name!r} has {what}, which a SandboxFusion server can't judge; use LocalSandbox.")
