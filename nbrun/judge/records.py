"""What a result tells of one test: the record in SandboxFusion's shape, with long streams cut.

Called by worker threads; it reads the files that a program's streams went to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbrun.judge.compiling import Compiled
from nbrun.judge.running import Ending
from nbrun.verdicts import Verdict

_TAIL_BYTES = 4096  # of stderr, where a language says how it ended


@dataclass
class Streams:
    """The files of one run."""

    folder: Path

    def path(self, name: str) -> Path:
        """The file that is `stdin`, `stdout` or `stderr`."""
        return self.folder / name

    def paths(self) -> dict[str, Path]:
        """All three."""
        return {name: self.folder / name for name in ("stdin", "stdout", "stderr")}

    def size(self, name: str) -> int:
        """How long a stream is, in bytes."""
        return os.path.getsize(self.path(name))

    def tail(self, keep: int | None = None) -> str:
        """The end of stderr."""
        with open(self.path("stderr"), "rb") as file:
            file.seek(max(0, self.size("stderr") - (_TAIL_BYTES if keep is None else keep)))
            return file.read().decode("utf-8", "replace")


@dataclass
class Shortener:
    """Keeps the first `keep` bytes of streams (None: all), and notes how long those were that it cut."""

    keep: int | None
    cut: dict[str, int] = field(default_factory=dict)

    def text(self, name: str, data: bytes, size: int | None = None) -> str:
        """The beginning of a stream as text."""
        size = len(data) if size is None else size
        if self.keep is not None and size > self.keep:
            self.cut[name] = size
            data = data[: self.keep]
        return data.decode("utf-8", "replace")


def run_record(
    verdict: Verdict, ending: Ending, test: Mapping[str, Any], streams: Streams, output: bytes | None, keep: int | None,
    finished: bool, more: dict[str, Any], hidden: str,
) -> dict[str, Any]:  # fmt: skip
    """One test that was run. `output` is stdout where it was read already; stderr doesn't tell the path `hidden`."""
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
    record: dict[str, Any] = {
        "passed": verdict == Verdict.ACCEPTED,
        "exec_info": {"status": "Success" if finished and not ending.return_code else "Failed", "run_result": run},
        "test_info": _told_test(test, short),
    }
    return record | ({"cut": short.cut} if short.cut else {}) | more


def compile_record(compiled: Compiled, test: Mapping[str, Any], keep: int | None) -> dict[str, Any]:
    """The first test of a source that does not compile."""
    short = Shortener(keep)
    return {
        "passed": False,
        "exec_info": {"status": "Failed", "compile_result": told(compiled), "run_result": None},
        "test_info": _told_test(test, short),
    } | ({"cut": short.cut} if short.cut else {})


def told(compiled: Compiled) -> dict[str, Any]:
    """What a compiler said."""
    return {
        "status": "TimeLimitExceeded" if compiled.cause == "cpu" else "Finished",
        "execution_time": round(compiled.time_s, 6), "return_code": compiled.return_code,
        "stdout": "", "stderr": compiled.stderr,
    }  # fmt: skip


def _told_test(test: Mapping[str, Any], short: Shortener) -> dict[str, Any]:
    info = {
        "input": {"stdin": short.text("input", as_bytes(test["input"]))},
        "output": {"stdout": short.text("output", as_bytes(test["output"]))},
    }
    return info | {key: test[key] for key in ("name", "flags", "alternatives") if key in test}


def as_bytes(text: str | bytes) -> bytes:
    """A test's text as the bytes that a program reads."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
