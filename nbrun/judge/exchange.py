"""How a test's input gets to a program, how its answer comes back, and the record of both in a result.

Called by worker threads and by those that run tests ahead; frozen values, files of one run only.

A problem says by two keys what it takes; most have none of them and use the standard streams.

    stream_files   {"input": "input.txt", "output": "output.txt"}: a program reads one file and writes another; where
                   only one is named, the other side is the standard stream
    harness        {"type": "function", "name"}: a test's input is the JSON of arguments, its output that of the result
                   {"type": "test_code"}: a test's input is code that is run after the solution, in the same process;
                   `needs` lists the libraries that must be installed for it

What a function returns leaves the box as JSON and is compared outside it, where alone the expected result is: nothing
that a solution prints, and no early exit, passes a test. Test code runs together with the solution: to say that it ran
to its end, the harness gives back a secret that it reads behind the code, after the last assertion. A solution that
searches its own process for the open file with that secret can fake a pass; nothing that runs assertions beside
untrusted code can prevent this.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from nbrun.errors import NotSupportedError
from nbrun.judge.checkers import CallableChecker, Checker
from nbrun.judge.comparison import TOLERANCE, as_bytes
from nbrun.judge.languages import Language
from nbrun.judge.problems.tests import PASSED
from nbrun.judge.sandbox import ExitStatus
from nbrun.judge.sandbox.programs import Compiled
from nbrun.judge.sources import Source
from nbrun.judge.supervisor import read_safely
from nbrun.verdicts import Verdict

_MAIN = "nbrun_harness.py"
_NOT_PYTHON_3 = ("PYTHON", "PYPY2")
#: Makes secrets for test code. Of this process alone: solutions can't know it, and it is stored nowhere.
_KEY = os.urandom(16)
_CHANGED = "(argument)"  # how the harness marks what a function that returns nothing made of its first argument
_TAIL_BYTES = 4096  # of stderr, where interpreters report errors
_LONGEST_NUMBER = 4000  # in digits; Python refuses to read longer integers unless it is asked to


class Exchange:
    """Standard streams: the input is stdin, the output is stdout. Threads: any number; nothing in it changes."""

    #: Who compares outputs where neither the user nor the problem says it; None for the usual comparison.
    checker: Checker | None = None

    def program(self, source: Source, name: str, language: Language) -> Source:
        """Return what is run for a solution.

        Raises:
            NotSupportedError: solutions in this language can't be run so.
        """
        return source

    def stdin(self, test: Mapping[str, Any]) -> bytes:
        """Return what a program gets as stdin."""
        return as_bytes(test["input"])

    def place_input(self, test: Mapping[str, object], work: Path) -> None:
        """Put a program's input into its folder, before it starts."""

    def take_output(self, test: Mapping[str, object], work: Path, stdout: Path, limit_bytes: int) -> None:
        """Write into `stdout` what counts as the program's output, after its end and before its folder goes."""


STREAMS = Exchange()


@dataclass(frozen=True)
class NamedFiles(Exchange):
    """A program reads or writes a file in its folder; a name is empty where it uses the stream."""

    input: str = ""
    output: str = ""

    def stdin(self, test: Mapping[str, Any]) -> bytes:
        return b"" if self.input else as_bytes(test["input"])

    def place_input(self, test: Mapping[str, Any], work: Path) -> None:
        if self.input:
            path = work / self.input
            path.write_bytes(as_bytes(test["input"]))
            path.chmod(0o666)  # some programs open it for writing too

    def take_output(self, test: Mapping[str, object], work: Path, stdout: Path, limit_bytes: int) -> None:
        if self.output:
            _rewrite(stdout, read_safely(work / self.output, limit_bytes))


# ---- values, as JSON


def compare_values(expected: str | bytes, actual: str | bytes) -> bool:
    """Return whether two texts of JSON hold the same value.

    Lists are compared element by element, numbers as numbers (3 and 3.0 are equal); where the expected one is written
    with a point, one within 1e-5 of it, absolute or relative, is right too. Keys of objects are text in JSON.

    Example:
        >>> compare_values("[1, 0.5]", "[1.0, 0.5000001]"), compare_values("[1, 2]", "[2, 1]")
        (True, False)
    """
    try:
        want, got = _loaded(expected), _loaded(actual)
        if isinstance(got, dict) and got.keys() == {_CHANGED}:
            got = None if want is None else got[_CHANGED]
        return _equal(want, got)
    except (ValueError, RecursionError, OverflowError):
        return False


def _loaded(text: str | bytes) -> object:
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_NUMBER else _Long(digits))


class _Long(str):
    """An integer that Python doesn't read unasked."""


def _equal(want: object, got: object) -> bool:
    match want, got:
        case dict(), dict():
            return want.keys() == got.keys() and all(_equal(want[key], got[key]) for key in want)
        case list(), list():
            return len(want) == len(got) and all(map(_equal, want, got))
        case float(), int() | float():
            return _is_close(want, got)
    return bool(want == got) and isinstance(want, _Long) == isinstance(got, _Long)


def _is_close(want: float, got: float) -> bool:
    if want == got or (math.isnan(want) and math.isnan(float(got))):
        return True
    return math.isfinite(want) and abs(want - got) <= TOLERANCE * max(1.0, abs(want))


# ---- solutions in a harness, a program of nbrun's whose other file is the solution


@dataclass(frozen=True)
class FunctionCalls(Exchange):
    """The harness calls a function with the arguments in a test's input."""

    name: str
    checker = CallableChecker(compare_values)

    def program(self, source: Source, name: str, language: Language) -> Source:
        return _in_harness(source, name, language, "function", self.name, f"calls of its function {self.name!r}")


@dataclass(frozen=True)
class CodeAfter(Exchange):
    """The harness runs the code of a test after the solution.

    Attributes:
        needs: libraries that the tests import.
    """

    needs: tuple[str, ...] = ()

    def program(self, source: Source, name: str, language: Language) -> Source:
        program = _in_harness(source, name, language, "test_code", "", "code that is run after it")
        if lacking := _lacking(language.tool, self.needs):
            raise NotSupportedError(
                f"the problem's tests need {', '.join(lacking)}, which {language.tool} doesn't have. Install what "
                "provides it, for example by pip: nothing can be said of its solutions before."
            )
        return program

    def stdin(self, test: Mapping[str, Any]) -> bytes:
        code = as_bytes(test["input"])
        return b"%d\n%s%s" % (len(code), code, _secret(code))

    def take_output(self, test: Mapping[str, Any], work: Path, stdout: Path, limit_bytes: int) -> None:
        expected = _secret(as_bytes(test["input"]))
        passed = read_safely(stdout, len(expected) + 1) == expected
        _rewrite(stdout, PASSED.encode() if passed else b"")


def _in_harness(source: Source, name: str, language: Language, kind: str, function: str, what: str) -> Source:
    """Return the harness that runs a solution in the language called `name`; `what` says how it tests the solution."""
    if ".py" not in language.extensions or name in _NOT_PYTHON_3:
        raise NotSupportedError(f"the problem tests a solution by {what}: that is done in Python 3, not in {name}.")
    start = f"\n\nmain({kind!r}, {function!r}, {source.entry!r})\n"
    return replace(source, files={**source.files, _MAIN: _program() + start.encode()}, entry=_MAIN)


def _secret(code: bytes) -> bytes:
    """What the harness gives back once this code has run to its end."""
    return blake2b(code, key=_KEY, digest_size=16).hexdigest().encode()


@cache
def _lacking(python: str, libraries: tuple[str, ...]) -> list[str]:
    """Return which of these top-level modules an interpreter doesn't find. They are looked for, not imported."""
    if not libraries:
        return []
    find = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if importlib.util.find_spec(n) is None))"
    names = [name for name in libraries if name.isidentifier()]
    done = subprocess.run([python, "-s", "-c", find, *names], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


@cache
def _program() -> bytes:
    return Path(__file__).with_name("harness_program.py").read_bytes()


def _rewrite(path: Path, data: bytes) -> None:
    """Replace a file that a program wrote, and may have made unwritable."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.replace(new, path)


# ---- of a problem


def exchange_of(problem: Mapping[str, Any]) -> Exchange:
    """Return how the tests of a problem are given to programs.

    Raises:
        NotSupportedError: the problem names a way that isn't known.
    """
    match problem.get("harness"):
        case {"type": "function", "name": str(name)}:
            return FunctionCalls(name)
        case {"type": "test_code", **more}:
            needs: Any = more.get("needs") or ()
            return CodeAfter(tuple(needs))
        case None:
            files = problem.get("stream_files")
            return NamedFiles(**files) if files else STREAMS
        case other:
            raise NotSupportedError(f"the problem's harness is {str(other)[:80]!r}, of no kind that is known here.")


# ---- streams of one run, and its record in SandboxFusion's shape


@dataclass
class Streams:
    """The files that hold the streams of one run."""

    folder: Path

    def path(self, name: str) -> Path:
        """Return the path of the file for `stdin`, `stdout` or `stderr`."""
        return self.folder / name

    def paths(self) -> dict[str, Path]:
        """Return all three files by their names."""
        return {name: self.folder / name for name in ("stdin", "stdout", "stderr")}

    def size(self, name: str) -> int:
        """Return the length of a stream in bytes."""
        return os.path.getsize(self.path(name))

    def tail(self, keep: int | None = None) -> str:
        """Return the last `keep` bytes of stderr as text (None: the last 4096)."""
        size = self.size("stderr")
        if not size:
            return ""
        with open(self.path("stderr"), "rb") as file:
            file.seek(max(0, size - (_TAIL_BYTES if keep is None else keep)))
            return file.read().decode("utf-8", "replace")


@dataclass
class Shortener:
    """Truncates streams to their first `keep` bytes (None keeps all).

    Attributes:
        cut: name -> the full length in bytes of each stream that was truncated.
    """

    keep: int | None
    cut: dict[str, int] = field(default_factory=dict)

    def text(self, name: str, data: bytes, size: int | None = None) -> str:
        """Return the first `keep` bytes of a stream as text.

        Args:
            size: the stream's full length, if `data` is only its beginning.
        """
        size = len(data) if size is None else size
        if self.keep is not None and size > self.keep:
            self.cut[name] = size
            data = data[: self.keep]
        return data.decode("utf-8", "replace")

    def completed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record with the full lengths of its truncated streams."""
        return {**record, "cut": self.cut} if self.cut else record


def run_record(
    verdict: Verdict,
    ending: ExitStatus,
    test: Mapping[str, object],
    streams: Streams,
    output: bytes | None,
    keep: int | None,
    finished: bool,
    more: dict[str, object],
    hidden: str,
) -> dict[str, Any]:
    """Return the record of a test that was run.

    Args:
        output: stdout, if the caller has read it already.
        hidden: a path to remove from stderr.
    """
    short = Shortener(keep)
    size = streams.size("stdout")
    if output is None:
        with open(streams.path("stdout"), "rb") as file:
            output = file.read(keep)
    run = {
        "status": "Finished" if finished else str(verdict),
        "execution_time": round(ending.cpu_s, 6),
        "wall_time": round(ending.wall_s, 6),
        "memory_mb": round(ending.memory_mb, 1),
        "return_code": ending.return_code,
        "stdout": short.text("stdout", output, size),
        "stderr": streams.tail(keep).replace(hidden, ""),
    }
    if streams.size("stderr") > (_TAIL_BYTES if keep is None else keep):
        short.cut["stderr"] = streams.size("stderr")
    record: dict[str, object] = {
        "passed": verdict == Verdict.ACCEPTED,
        "exec_info": {"status": "Success" if finished and not ending.return_code else "Failed", "run_result": run},
        "test_info": _test_info(test, short),
    }
    return short.completed(record) | more


def compile_record(compiled: Compiled, test: Mapping[str, object], keep: int | None) -> dict[str, object]:
    """Return the record of the first test of a source that doesn't compile."""
    short = Shortener(keep)
    step = {"status": "Failed", "compile_result": compiler_step(compiled), "run_result": None}
    return short.completed({"passed": False, "exec_info": step, "test_info": _test_info(test, short)})


def compiler_step(compiled: Compiled) -> dict[str, object]:
    """Return the record of a compilation."""
    return {
        "status": "TimeLimitExceeded" if compiled.cause == "cpu" else "Finished",
        "execution_time": round(compiled.time_s, 6),
        "return_code": compiled.return_code,
        "stdout": "",
        "stderr": compiled.stderr,
    }


def _test_info(test: Mapping[str, Any], short: Shortener) -> dict[str, object]:
    info = {
        "input": {"stdin": short.text("input", as_bytes(test["input"]))},
        "output": {"stdout": short.text("output", as_bytes(test["output"]))},
    }
    return info | {key: test[key] for key in ("name", "flags", "alternatives") if key in test}
