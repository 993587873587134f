"""Checkers that are programs: output validators of Kattis and ICPC packages, and testlib checkers.

Called by worker threads. They are compiled once and run under limits in a box, as solutions are; one that crashes says
nothing of the solution.

    Kattis    validator input answer feedback/ [flags] < output      42 accepted, 43 rejected; feedback/score.txt
    printed   checker input answer output                            its score on stdout: from 1 on accepted
    testlib   checker input output answer                            0 accepted; 1, 2, 4, 8 rejected; 7 points (quitp);
                                                                     16, 50 or 0 and more: partially correct (_pc)
"""

from __future__ import annotations

import math
import os
import re
import select
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from nbrun.canonical import digest as digest_of
from nbrun.canonical import key_text
from nbrun.errors import InputError, JudgeError, NotSupportedError
from nbrun.judge.checkers import Bench, Case, Opinion, flags_of
from nbrun.judge.kattis import KattisComparison
from nbrun.judge.languages import lookup
from nbrun.judge.launching import Bench as Workbench
from nbrun.judge.launching import launch, place, temporary_folder
from nbrun.judge.running import Ending, Leash, Limits
from nbrun.judge.sources import read_item, source_of
from nbrun.judge.warden.folders import read_safely

LIMITS = Limits(time_limit_s=60.0, wall_limit_s=121.0, memory_limit_mb=2048.0, output_limit_mb=64.0)
_NOTE_BYTES = 2000
_KATTIS = {42: True, 43: False}
_TESTLIB = {0: True, 1: False, 2: False, 4: False, 8: False}
#: What testlib writes to stderr where it gives points: a share in hundredths (`_pc`), or points as they are (`quitp`).
_PARTIAL = re.compile(r"\s*partially correct \((\d+)\)")
_POINTS = re.compile(r"\s*points\s+([-+.\deE]+)")
_POINTS_CODE = 7
_WORDS = {"cpu": "time", "wall": "time", "memory": "memory", "files": "space for files", "processes": "processes"}
_NO_MEMORY = ("std::bad_alloc", "MemoryError", "Cannot allocate memory", "java.lang.OutOfMemoryError")


class Talk(NamedTuple):
    """What came of a solution and a validator that talked: how the solution ended, and what the validator says."""

    ending: Ending
    opinion: Opinion


class Ran(NamedTuple):
    """What came of a checker: how it ended, what it wrote for people, into its file of points, and to stdout."""

    ending: Ending
    note: str
    score: str
    output: str = ""


@dataclass(frozen=True)
class CheckerBench:
    """Where a checker that is a program runs: beside the streams of the test that it judges."""

    bench: Workbench
    folder: Path
    leash: Leash

    def run(self, item: Mapping[str, Any], case: Case, way: _Way) -> Ran:
        """Run a program on a case.

        Raises:
            JudgeError: it does not compile, or does not end.
        """
        with self.ready(item, case, way) as start, self.bench.gate.turn(check=self.leash.check):
            return start(LIMITS, {})

    @contextmanager
    def ready(
        self, item: Mapping[str, Any], case: Case, way: _Way
    ) -> Iterator[Callable[[Limits, Mapping[str, int]], Ran]]:
        """Compile a program and lay out its files -> what runs it: limits, descriptors in the place of its streams.

        Raises:
            JudgeError: it does not compile.
        """
        name, *_ = read_item(item)
        _, language = lookup(name, self.bench.languages)
        source = source_of(item, language)
        with (
            temporary_folder("checker-", self.folder) as folder,
            self.bench.shop.program(language, source, folder, self.leash) as program,
        ):
            compiled = program.compiled
            if compiled is not None and compiled.return_code != 0:
                name = name_of(item)
                raise JudgeError(f"the checker{name} does not compile: {compiled.stderr}", retriable=False)
            at = place(self.bench, folder / "box")
            files = {"input": case.input, "answer": case.expected, "output": case.output}
            for file, data in files.items():
                (at.work / file).write_bytes(data)
                (at.work / file).chmod(0o644)
            feedback = at.work / "feedback"
            feedback.mkdir()
            streams = {"stdin": at.work / "output", "stdout": folder / "out", "stderr": folder / "err"}
            arguments = [part.replace("{at}", at.within) for part in way.arguments]

            def start(limits: Limits, pipes: Mapping[str, int]) -> Ran:
                to: dict[str, Path | int] = {**streams, **pipes}
                ending = launch(program, self.bench, at, to, limits, self.leash, arguments, [feedback])
                said = [read_safely(path, _NOTE_BYTES) for path in (feedback / "judgemessage.txt", folder / "err")]
                score = read_safely(feedback / "score.txt", 100).decode("utf-8", "replace").strip()
                output = read_safely(folder / "out", _NOTE_BYTES).decode("utf-8", "replace")
                note = b"\n".join(filter(None, said)).decode("utf-8", "replace").strip()
                return Ran(ending, note, score, output)

            yield start


def name_of(item: Mapping[str, Any]) -> str:
    """What a message calls a checker by, with a space before it; empty where it has no name."""
    name = item.get("name") or item.get("submission") or item.get("file")
    return f" {str(name)[:80]}" if name else ""


def _why_it_failed(item: Mapping[str, Any], ran: Ran, limits: Limits) -> JudgeError:
    """The error for a checker that came to no conclusion, which names it and what it lacked."""
    ending, name = ran.ending, name_of(item)
    lacked = _WORDS.get(ending.cause or "")
    if lacked is None and (ending.memory_mb > limits.memory_limit_mb or any(sign in ran.note for sign in _NO_MEMORY)):
        lacked = "memory"
    if lacked is None:
        how = f"returned {ending.return_code}"
    else:
        most = {"time": f"{limits.time_limit_s:g} s", "memory": f"{limits.memory_limit_mb:g} MB"}.get(lacked, "")
        how = f"exceeded its limit ({ending.cause}): it ran out of {lacked}" if ending.cause else f"ran out of {lacked}"
        how += f" (it may use {most})" if most else ""
    text = f"the checker{name} {how}, which says nothing of the solution. {ran.note}".rstrip()
    return JudgeError(text, retriable=lacked == "time")


@dataclass(frozen=True)
class _Way:
    """How a kind of checker is called. `{at}` is the folder of the files."""

    arguments: tuple[str, ...]


class _ProgramChecker:
    """What both kinds share. Threads: any number; nothing in it changes."""

    kind = ""

    def __init__(
        self, programs: Sequence[Mapping[str, Any]], flags: str | Sequence[str] = (), accepted_from: float = 1.0
    ) -> None:
        if not programs:
            raise InputError(f"{type(self).__name__}: give it a program.")
        if not math.isfinite(accepted_from):
            raise InputError(f"{type(self).__name__}: accepted_from={accepted_from!r}; give a number of points.")
        self._programs, self._flags, self._accepted_from = list(programs), tuple(flags_of(flags)), accepted_from

    @property
    def settings(self) -> Any:
        """Its kind, flags and a digest of its sources."""
        about = {self.kind: key_text(digest_of(self._programs)), "flags": list(self._flags)}
        return about | ({"accepted_from": self._accepted_from} if self._accepted_from != 1 else {})

    def _way(self, case: Case) -> _Way:
        raise NotImplementedError

    def _opinion(self, ran: Ran) -> Opinion | None:
        """What one program says; None where it came to no conclusion."""
        raise NotImplementedError

    def opinion(self, case: Case, bench: Bench | None) -> Opinion:
        """Runs the programs on a case; all of them must accept it."""
        if bench is None:
            raise NotSupportedError(f"a checker that is a program ({self.kind}) needs a LocalSandbox to run in.")
        way, notes, scores = self._way(case), [], []
        for item in self._programs:
            ran = bench.run(item, case, way)
            found = None if ran.ending.cause is not None else self._opinion(ran)
            if found is None:
                raise _why_it_failed(item, ran, LIMITS)
            notes.append(found.note)
            scores += [] if found.score is None else [found.score]
            if not found.accepted:
                return found
        return Opinion(True, "\n".join(filter(None, notes)), min(scores, default=None))


class KattisValidator(_ProgramChecker):
    """An output validator of a Kattis or ICPC problem package.

    Args:
        programs: its sources as items, such as `[{"language": "CPP", "solution": "int main…"}]`; all must accept.
        flags: what it is given as arguments; a test's own flags come after these.
        accepted_from: not used; what it accepts is accepted, with whatever score it writes.
    """

    kind = "validator"

    def _way(self, case: Case) -> _Way:
        files = ("{at}/input", "{at}/answer", "{at}/feedback" + os.sep)
        return _Way((*files, *self._flags, *case.flags))

    def talk(self, bench: CheckerBench, case: Case, wall_limit_s: float, launch: Callable[[int, int], Ending]) -> Talk:
        """Run the validator of an interactive problem beside a solution, the output of each being the other's input.

        Args:
            wall_limit_s: the solution's; the validator has longer, since it may have to wait for that.
            launch: runs the solution to its end with these descriptors as stdin and stdout, and closes them.

        Raises:
            JudgeError: the validator came to no conclusion, or the machinery failed.
        """
        if len(self._programs) > 1:
            raise NotSupportedError("an interactive problem with several validators is not supported.")
        limits = replace(LIMITS, wall_limit_s=max(LIMITS.wall_limit_s, wall_limit_s + LIMITS.time_limit_s))
        with bench.ready(self._programs[0], case, self._way(case)) as start:
            given, taken, ours, theirs = *os.pipe(), *os.pipe()
            found: list[Ran] = []
            errors: list[BaseException] = []

            def validate() -> None:
                try:
                    found.append(start(limits, {"stdin": ours, "stdout": taken}))
                except BaseException as e:  # raised below, by the thread that waits for this one
                    errors.append(e)

            thread = threading.Thread(target=validate, name="nbrun-judge-validator", daemon=True)
            try:
                thread.start()
            except BaseException:
                for fd in (given, taken, ours, theirs):
                    os.close(fd)
                raise
            try:
                with os.fdopen(os.dup(given), "rb", buffering=0) as unread:
                    ending = launch(given, theirs)
                    _drain(unread.fileno(), thread)
            finally:
                thread.join()
        if errors:
            raise errors[0]
        ran = found[0]
        opinion = None if ran.ending.cause is not None else self._opinion(ran)
        if opinion is None:
            raise _why_it_failed(self._programs[0], ran, limits)
        return Talk(ending, opinion)

    def _opinion(self, ran: Ran) -> Opinion | None:
        accepted = _KATTIS.get(ran.ending.return_code or 0)
        return None if accepted is None else Opinion(accepted, ran.note, _number(ran.score))


class TestlibChecker(_ProgramChecker):
    """A checker in C++ that keeps testlib's order of arguments and its exit codes.

    Args:
        source: the source, or the path of a file that holds it.
        testlib: the path of the `testlib.h` that it includes (https://github.com/MikeMirzayanov/testlib).
        files: further files that it includes: name -> text.
        flags: what it is given as arguments behind the three files.
        accepted_from: from which score on an output is accepted, where the checker gives points: a hundredth of what it
            gives by `_pc`, what it gives by `quitp` as it is. The score is in the test's record, and the least one of
            all tests in the result.
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
        accepted_from: float = 1.0,
    ) -> None:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        others = dict(files or {})
        if testlib is not None:
            others["testlib.h"] = Path(testlib).read_text(encoding="utf-8")
        if "testlib.h" in text and "testlib.h" not in others:
            raise NotSupportedError(
                "the checker includes testlib.h, which doesn't come with nbrun: get it from "
                "https://github.com/MikeMirzayanov/testlib and give its path: LocalSandbox(testlib='…/testlib.h'). "
                'read_problems(…, on_bad="skip") leaves such problems out.'
            )
        name = source.name if isinstance(source, Path) else "(testlib)"
        super().__init__([{"language": "CPP", "solution": text, "files": others, "name": name}], flags, accepted_from)

    def _way(self, case: Case) -> _Way:
        return _Way(("{at}/input", "{at}/output", "{at}/answer", *self._flags, *case.flags))

    def _opinion(self, ran: Ran) -> Opinion | None:
        code = ran.ending.return_code
        if partial := _PARTIAL.match(ran.note):  # its exit code is 0, 16 or 50 more than what it gives
            return self._of_score(int(partial[1]) / 100, ran.note)
        if code == _POINTS_CODE and (points := _POINTS.match(ran.note)) and (score := _number(points[1])) is not None:
            return self._of_score(score, ran.note)
        accepted = _TESTLIB.get(-1 if code is None else code)
        return None if accepted is None else Opinion(accepted, ran.note)

    def _of_score(self, score: float, note: str) -> Opinion:
        return Opinion(score >= self._accepted_from, note, score)


class PrintedScore(_ProgramChecker):
    """A checker that prints its score: 1 for an output that is right, 0 for a wrong one (open-r1/codeforces).

    Its arguments are the files of the input, of the expected output, and of the output that it judges.

    Args:
        programs: its source as an item, such as `[{"language": "PYTHON3", "solution": "import sys…"}]`.
        accepted_from: the score from which on an output is accepted.
    """

    kind = "prints_score"

    def _way(self, case: Case) -> _Way:
        return _Way(("{at}/input", "{at}/answer", "{at}/output", *self._flags, *case.flags))

    def _opinion(self, ran: Ran) -> Opinion | None:
        words = ran.output.split()
        if ran.ending.return_code != 0 or not words:
            return None
        score = _number({"true": "1", "false": "0"}.get(words[-1].lower(), words[-1]))
        partial = score if score not in (0, 1) else None  # what is plainly right or wrong needs no score
        return None if score is None else Opinion(score >= self._accepted_from, ran.note, partial)


def _drain(fd: int, thread: threading.Thread) -> None:
    """Read what a validator still writes after its solution has ended, so that no broken pipe ends it.

    A solution may end before it has read everything, and be accepted.
    """
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while thread.is_alive():
        if poller.poll(50) and not os.read(fd, 1 << 16):
            return


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def checker_of(
    problem: Mapping[str, Any], testlib: str | Path | None = None, accepted_from: float | None = None
) -> Any:
    """The checker that a problem brings; None where it has none.

    A problem's `checker` is a checker, a function, a testlib checker's source, or a mapping: `{"type": "kattis",
    "flags"}`, `{"type": "validator", "programs", "flags"}`, `{"type": "testlib", "source", "files", "flags"}`,
    `{"type": "prints_score", "language", "source"}`.

    Args:
        accepted_from: the score from which on an output is accepted, where a checker gives points; None takes what the
            problem says, or 1.

    Raises:
        NotSupportedError: it is nothing of this, or needs a testlib.h that nobody gave.
    """
    own = problem.get("checker")
    if accepted_from is None:
        said = own.get("accepted_from") if isinstance(own, Mapping) else None
        accepted_from = 1.0 if said is None else float(said)
    if own is None or hasattr(own, "opinion") or callable(own):
        return own
    if isinstance(own, str):
        return TestlibChecker(own, testlib, accepted_from=accepted_from)
    kind = own.get("type") if isinstance(own, Mapping) else None
    if kind == "kattis":
        return KattisComparison(own.get("flags") or ())
    if kind == "validator":
        return KattisValidator(own["programs"], own.get("flags") or ())
    if kind == "prints_score":
        program = {"language": own.get("language") or "PYTHON3", "solution": own["source"]}
        return PrintedScore([program], accepted_from=accepted_from)
    if kind == "testlib":
        files, flags = own.get("files"), own.get("flags") or ()
        return TestlibChecker(own["source"], testlib, files=files, flags=flags, accepted_from=accepted_from)
    raise NotSupportedError(f"the problem's checker is {str(own)[:80]!r}, of no kind that is known here.")
