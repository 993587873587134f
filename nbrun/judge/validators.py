"""Checkers that are programs: output validators of Kattis and ICPC packages, and testlib checkers.

Called by worker threads. They are compiled once and run under limits in a box, as solutions are; one that crashes says
nothing of the solution.

    Kattis    validator input answer feedback/ [flags] < output      42 accepted, 43 rejected
    testlib   checker input output answer                            0 accepted; 1, 2, 4, 8 rejected
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbrun.errors import InputError, JudgeError, NotSupportedError
from nbrun.judge.checkers import Bench, Case, Opinion, flags_of
from nbrun.judge.kattis import KattisComparison
from nbrun.judge.languages import lookup
from nbrun.judge.launching import Bench as Workbench
from nbrun.judge.launching import launch, place, temporary_folder
from nbrun.judge.running import Ending, Leash, Limits
from nbrun.judge.sources import read_item, source_of
from nbrun.judge.warden.folders import read_safely
from nbrun.samples import digest as digest_of
from nbrun.samples import key_text

LIMITS = Limits(time_limit_s=60.0, wall_limit_s=121.0, memory_limit_mb=2048.0, output_limit_mb=64.0)
_NOTE_BYTES = 2000
_KATTIS = {42: True, 43: False}
_TESTLIB = {0: True, 1: False, 2: False, 4: False, 8: False}


@dataclass(frozen=True)
class CheckerBench:
    """Where a checker that is a program runs: beside the streams of the test that it judges."""

    bench: Workbench
    folder: Path
    leash: Leash

    def run(self, item: Mapping[str, Any], case: Case, way: _Way) -> tuple[Ending, str]:
        """Runs a program on a case -> how it ended, and what it says to people.

        Raises:
            JudgeError: it does not compile, or does not end.
        """
        name, *_ = read_item(item)
        _, language = lookup(name, self.bench.languages)
        source = source_of(item, language)
        with temporary_folder("checker-", self.folder) as folder:
            with self.bench.shop.program(language, source, folder, self.leash) as program:
                compiled = program.compiled
                if compiled is not None and compiled.return_code != 0:
                    raise JudgeError(f"the checker does not compile: {compiled.stderr}", retriable=False)
                at = place(self.bench, folder / "box")
                files = {"input": case.input, "answer": case.expected, "output": case.output}
                for file, data in files.items():
                    (at.work / file).write_bytes(data)
                    (at.work / file).chmod(0o644)
                feedback = at.work / "feedback"
                feedback.mkdir()
                streams = {"stdin": at.work / "output", "stdout": folder / "out", "stderr": folder / "err"}
                arguments = [part.replace("{at}", at.within) for part in way.arguments]
                with self.bench.gate.turn(check=self.leash.check):
                    ending = launch(program, self.bench, at, streams, LIMITS, self.leash, arguments, [feedback])
            said = [read_safely(path, _NOTE_BYTES) for path in (feedback / "judgemessage.txt", folder / "err")]
            return ending, b"\n".join(filter(None, said)).decode("utf-8", "replace").strip()


@dataclass(frozen=True)
class _Way:
    """How a kind of checker is called, and what its exit codes mean. `{at}` is the folder of the files."""

    arguments: tuple[str, ...]
    codes: Mapping[int, bool]


class _ProgramChecker:
    """What both kinds share. Threads: any number; nothing in it changes."""

    kind = ""

    def __init__(self, programs: Sequence[Mapping[str, Any]], flags: str | Sequence[str] = ()) -> None:
        if not programs:
            raise InputError(f"{type(self).__name__}: give it a program.")
        self._programs, self._flags = list(programs), tuple(flags_of(flags))

    @property
    def settings(self) -> Any:
        """Its kind, flags and a digest of its sources."""
        return {self.kind: key_text(digest_of(self._programs)), "flags": list(self._flags)}

    def _way(self, case: Case) -> _Way:
        raise NotImplementedError

    def opinion(self, case: Case, bench: Bench | None) -> Opinion:
        """Runs the programs on a case; all of them must accept it."""
        if bench is None:
            raise NotSupportedError(f"a checker that is a program ({self.kind}) needs a LocalSandbox to run in.")
        way, notes = self._way(case), []
        for item in self._programs:
            ending, note = bench.run(item, case, way)
            code = ending.return_code
            if ending.cause is not None or code not in way.codes:
                how = f"exceeded its limit ({ending.cause})" if ending.cause else f"returned {code}"
                raise JudgeError(f"the checker {how}, which says nothing of the solution. {note}", retriable=False)
            notes.append(note)
            if not way.codes[code]:
                return Opinion(False, note)
        return Opinion(True, "\n".join(filter(None, notes)))


class KattisValidator(_ProgramChecker):
    """An output validator of a Kattis or ICPC problem package.

    Args:
        programs: its sources as items, such as `[{"language": "CPP", "solution": "int main…"}]`; all must accept.
        flags: what it is given as arguments; a test's own flags come after these.
    """

    kind = "validator"

    def _way(self, case: Case) -> _Way:
        files = ("{at}/input", "{at}/answer", "{at}/feedback" + os.sep)
        return _Way((*files, *self._flags, *case.flags), _KATTIS)


class TestlibChecker(_ProgramChecker):
    """A checker in C++ that keeps testlib's order of arguments and its exit codes.

    Args:
        source: the source, or the path of a file that holds it.
        testlib: the path of the `testlib.h` that it includes (https://github.com/MikeMirzayanov/testlib).
        files: further files that it includes: name -> text.
    """

    __test__ = False  # pytest would take the name for a test
    kind = "testlib"

    def __init__(
        self,
        source: str | Path,
        testlib: str | Path | None = None,
        *,
        files: Mapping[str, str] | None = None,
        flags: str | Sequence[str] = (),
    ) -> None:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        others = dict(files or {})
        if testlib is not None:
            others["testlib.h"] = Path(testlib).read_text(encoding="utf-8")
        if "testlib.h" in text and "testlib.h" not in others:
            raise NotSupportedError(
                "the checker includes testlib.h, which doesn't come with nbrun: get it from "
                "https://github.com/MikeMirzayanov/testlib and give its path, as testlib='…/testlib.h'."
            )
        super().__init__([{"language": "CPP", "solution": text, "files": others}], flags)

    def _way(self, case: Case) -> _Way:
        return _Way(("{at}/input", "{at}/output", "{at}/answer", *self._flags, *case.flags), _TESTLIB)


def checker_of(problem: Mapping[str, Any], testlib: str | Path | None = None) -> Any:
    """The checker that a problem brings; None where it has none.

    A problem's `checker` is a checker, a function, a testlib checker's source, or a mapping: `{"type": "kattis",
    "flags"}`, `{"type": "validator", "programs", "flags"}`, `{"type": "testlib", "source", "files", "flags"}`.

    Raises:
        NotSupportedError: it is nothing of this, or needs a testlib.h that nobody gave.
    """
    own = problem.get("checker")
    if own is None or hasattr(own, "opinion") or callable(own):
        return own
    if isinstance(own, str):
        return TestlibChecker(own, testlib)
    kind = own.get("type") if isinstance(own, Mapping) else None
    if kind == "kattis":
        return KattisComparison(own.get("flags") or ())
    if kind == "validator":
        return KattisValidator(own["programs"], own.get("flags") or ())
    if kind == "testlib":
        return TestlibChecker(own["source"], testlib, files=own.get("files"), flags=own.get("flags") or ())
    raise NotSupportedError(f"the problem's checker is {str(own)[:80]!r}, of no kind that is known here.")
