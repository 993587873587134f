"""Judges one solution: runs its tests one after another and makes the result, in SandboxFusion's shape.

Runs in worker threads, one call a task; it shares nothing with other calls.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbrun.errors import JudgeError
from nbrun.judge.compiling import Compiled
from nbrun.judge.languages import Language
from nbrun.judge.running import Ending, Leash, Limits, Warden
from nbrun.verdicts import Verdict, is_syntax_error

Compare = Callable[[bytes, bytes], bool]
#: What a program can see of the machine: everything, as long as none is built in.
ISOLATION = "none"
_PATH = "/usr/local/bin:/usr/bin:/bin"
_TAIL_BYTES = 4096  # of stderr, where a language says how it ended
_NO_MEMORY = ("std::bad_alloc", "MemoryError", "Cannot allocate memory")
_BY_CAUSE = {
    "cpu": Verdict.TIME_LIMIT_EXCEEDED,
    "wall": Verdict.TIME_LIMIT_EXCEEDED,
    "memory": Verdict.MEMORY_LIMIT_EXCEEDED,
    "files": Verdict.OUTPUT_LIMIT_EXCEEDED,
}


@dataclass(frozen=True)
class Terms:
    """What all tests of one solution are judged under."""

    limits: Limits
    compare: Compare
    all_tests: bool
    keep_output: int | None


@dataclass(frozen=True)
class Bench:
    """Where one solution is judged: a folder of its own, the warden that runs it, the leash that ends it."""

    folder: Path
    warden: Warden
    leash: Leash

    def stream(self, name: str) -> Path:
        """The file that is the program's stdin, stdout or stderr."""
        return self.folder / name


def judge(
    language: Language, program: Path, compiled: Compiled | None, tests: list[dict[str, str]], terms: Terms,
    bench: Bench,
) -> dict[str, Any]:  # fmt: skip
    """The result of one solution. `program` is the folder that holds it; `compiled` what the compiler said of it."""
    if compiled is not None and compiled.return_code != 0:
        return _result(Verdict.COMPILE_ERROR, [_uncompiled(compiled, tests[0], terms)], terms)
    argv = language.command(language.run, str(program))
    env = {"PATH": _PATH, "LANG": "C.UTF-8", **language.env}
    verdict = Verdict.ACCEPTED
    records = []
    for number, test in enumerate(tests):
        found, record = _judge_test(argv, env, test, terms, bench, number)
        record["exec_info"]["compile_result"] = _told(compiled) if number == 0 and compiled else None
        records.append(record)
        if verdict == Verdict.ACCEPTED:
            verdict = found
        if found == Verdict.COMPILE_ERROR or (found != Verdict.ACCEPTED and not terms.all_tests):
            break
    return _result(verdict, records, terms)


def _judge_test(
    argv: list[str], env: Mapping[str, str], test: dict[str, str], terms: Terms, bench: Bench, number: int
) -> tuple[Verdict, dict[str, Any]]:
    stdin = test["input"].encode("utf-8", "surrogatepass")
    expected = test["output"].encode("utf-8", "surrogatepass")
    bench.stream("stdin").write_bytes(stdin)
    ending = _run(argv, env, terms.limits, bench, number)
    if ending.cause is None and ending.return_code == -signal.SIGKILL:
        ending = _run(argv, env, terms.limits, bench, number)  # killed, not by us: believed if it comes again
    tail = _tail(bench.stream("stderr"))
    verdict = _verdict_of_run(ending, terms.limits, bench, tail)
    output = None
    if verdict is None:
        output = bench.stream("stdout").read_bytes()
        verdict = Verdict.ACCEPTED if terms.compare(expected, output) else Verdict.WRONG_ANSWER
    return verdict, _record(verdict, ending, test, stdin, expected, output, terms.keep_output, bench)


def _run(argv: list[str], env: Mapping[str, str], limits: Limits, bench: Bench, number: int) -> Ending:
    cwd = bench.folder / f"work{number}"
    cwd.mkdir()
    try:
        return bench.warden.run(
            argv, cwd=cwd, streams={name: bench.stream(name) for name in ("stdin", "stdout", "stderr")},
            env={**env, "HOME": str(cwd), "TMPDIR": str(cwd)}, limits=limits, leash=bench.leash,
        )  # fmt: skip
    finally:
        shutil.rmtree(cwd, ignore_errors=True)


def _verdict_of_run(ending: Ending, limits: Limits, bench: Bench, tail: str) -> Verdict | None:
    """What was wrong with a run; None if it ended well and its output is to be compared."""
    if ending.cause is not None:
        return _BY_CAUSE[ending.cause]
    if ending.memory_mb > limits.memory_limit_mb:
        return Verdict.MEMORY_LIMIT_EXCEEDED
    if max(os.path.getsize(bench.stream(name)) for name in ("stdout", "stderr")) >= limits.output_bytes:
        return Verdict.OUTPUT_LIMIT_EXCEEDED
    if ending.return_code == -signal.SIGXFSZ:
        return Verdict.OUTPUT_LIMIT_EXCEEDED
    if ending.cpu_s > limits.time_limit_s or ending.return_code == -signal.SIGXCPU:
        return Verdict.TIME_LIMIT_EXCEEDED
    if ending.return_code == 0:
        return None
    if is_syntax_error(tail):
        return Verdict.COMPILE_ERROR
    # One that asks for more address space than there is dies of it long before it uses as much.
    return Verdict.MEMORY_LIMIT_EXCEEDED if any(sign in tail for sign in _NO_MEMORY) else Verdict.RUNTIME_ERROR


def _record(
    verdict: Verdict, ending: Ending, test: dict[str, str], stdin: bytes, expected: bytes, output: bytes | None,
    keep: int | None, bench: Bench,
) -> dict[str, Any]:  # fmt: skip
    cut: dict[str, int] = {}
    stdout, stderr = bench.stream("stdout"), bench.stream("stderr")
    if output is None:
        output = _head(stdout, keep)
    finished = ending.cause is None and verdict not in _BY_CAUSE.values()
    run = {
        "status": "Finished" if finished else str(verdict),
        "execution_time": round(ending.cpu_s, 6),
        "wall_time": round(ending.wall_s, 6),
        "memory_mb": round(ending.memory_mb, 1),
        "return_code": ending.return_code,
        "stdout": _shortened("stdout", output, keep, cut, os.path.getsize(stdout)),
        "stderr": _tail(stderr, keep).replace(f"{bench.folder}/", ""),
    }
    if os.path.getsize(stderr) > (_TAIL_BYTES if keep is None else keep):
        cut["stderr"] = os.path.getsize(stderr)
    record: dict[str, Any] = {
        "passed": verdict == Verdict.ACCEPTED,
        "exec_info": {"status": "Success" if finished and not ending.return_code else "Failed", "run_result": run},
        "test_info": {
            "input": {"stdin": _shortened("input", stdin, keep, cut)},
            "output": {"stdout": _shortened("output", expected, keep, cut)},
        },
    }
    return record | ({"cut": cut} if cut else {})


def _uncompiled(compiled: Compiled, test: dict[str, str], terms: Terms) -> dict[str, Any]:
    cut: dict[str, int] = {}
    keep = terms.keep_output
    return {
        "passed": False,
        "exec_info": {"status": "Failed", "compile_result": _told(compiled), "run_result": None},
        "test_info": {
            "input": {"stdin": _shortened("input", test["input"].encode("utf-8", "replace"), keep, cut)},
            "output": {"stdout": _shortened("output", test["output"].encode("utf-8", "replace"), keep, cut)},
        },
    }


def _told(compiled: Compiled) -> dict[str, Any]:
    return {
        "status": "Finished", "execution_time": round(compiled.time_s, 6), "return_code": compiled.return_code,
        "stdout": "", "stderr": compiled.stderr,
    }  # fmt: skip


def _result(verdict: Verdict, records: list[dict[str, Any]], terms: Terms) -> dict[str, Any]:
    return {
        "accepted": verdict == Verdict.ACCEPTED,
        "verdict": str(verdict),
        "tests": records,
        "limits": asdict(terms.limits),
        "isolation": ISOLATION,
    }


def _shortened(name: str, data: bytes, keep: int | None, cut: dict[str, int], size: int | None = None) -> str:
    """The beginning of a stream as text; where it is cut, `cut` tells how many bytes it had."""
    size = len(data) if size is None else size
    if keep is not None and size > keep:
        cut[name] = size
        data = data[:keep]
    return data.decode("utf-8", "replace")


def _head(path: Path, keep: int | None) -> bytes:
    with open(path, "rb") as file:
        return file.read() if keep is None else file.read(keep)


def _tail(path: Path, keep: int | None = None) -> str:
    keep = _TAIL_BYTES if keep is None else keep
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - keep))
        return file.read().decode("utf-8", "replace")


def check_item(item: Any) -> tuple[Any, bytes]:
    """An item -> its language and its source as bytes.

    Raises:
        JudgeError: it is no mapping with `language` and `solution`.
    """
    if not isinstance(item, Mapping) or "language" not in item or not isinstance(item.get("solution"), str):
        raise JudgeError(
            "a solution is a mapping such as {'language': 'PYTHON3', 'solution': 'print(1)'}, "
            f"not {type(item).__name__} {str(item)[:80]!r}."
        )
    return item["language"], item["solution"].encode("utf-8", "surrogatepass")
