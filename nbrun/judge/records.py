"""Makes the record of one test in a result, in SandboxFusion's shape, with long streams truncated.

Called by worker threads. It reads the files that a program's streams were written to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbrun.judge.comparison import as_bytes
from nbrun.judge.sandbox.programs import Compiled
from nbrun.judge.sandbox.runner import ExitStatus
from nbrun.verdicts import Verdict

_TAIL_BYTES = 4096  # of stderr, where interpreters report errors


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
            output = file.read() if keep is None else file.read(keep)
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
    return record | ({"cut": short.cut} if short.cut else {}) | more


def compile_record(compiled: Compiled, test: Mapping[str, object], keep: int | None) -> dict[str, object]:
    """Return the record of the first test of a source that doesn't compile."""
    short = Shortener(keep)
    return {
        "passed": False,
        "exec_info": {"status": "Failed", "compile_result": compiler_step(compiled), "run_result": None},
        "test_info": _test_info(test, short),
    } | ({"cut": short.cut} if short.cut else {})


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
