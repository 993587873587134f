"""Judges one solution: runs its tests in their order and returns the result, in SandboxFusion's shape.

Runs in worker threads, one call a task. While CPUs are idle, threads of its own run the next tests ahead of their turn.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nbrun.errors import JudgeError, NotSupportedError, ThreadLimitError
from nbrun.judge.checkers import (
    Checker,
    CheckerInput,
    CheckerResult,
    Conversation,
    KattisValidator,
    ProgramRunner,
    checker_result,
    lacks_memory,
)
from nbrun.judge.comparison import as_bytes
from nbrun.judge.exchange import STREAMS, Exchange, Shortener, Streams, compile_record, compiler_step, run_record
from nbrun.judge.grading import Check, Outcome, grade, unmet
from nbrun.judge.sandbox import MARGIN, ROOM, CancelToken, ExitStatus, Limits
from nbrun.judge.sandbox.isolation import PROGRAM
from nbrun.judge.sandbox.programs import JudgeContext, Place, Program, RunFolders, launch, place
from nbrun.threads import start_thread
from nbrun.verdicts import Verdict, is_syntax_error

_BY_CAUSE = {
    "cpu": Verdict.TIME_LIMIT_EXCEEDED,
    "wall": Verdict.TIME_LIMIT_EXCEEDED,
    "memory": Verdict.MEMORY_LIMIT_EXCEEDED,
    "files": Verdict.OUTPUT_LIMIT_EXCEEDED,
    "processes": Verdict.RUNTIME_ERROR,
}
_ENDED_BY_ITSELF = (Verdict.ACCEPTED, Verdict.WRONG_ANSWER, Verdict.COMPILE_ERROR, Verdict.RUNTIME_ERROR)
#: A solution gets this many times the time that its validator took more, when it runs again.
_PATIENCE = 2.0
_NO_VM = ("Error occurred during initialization of VM", "insufficient memory for the Java")
#: Signals that come from outside (the kernel out of memory, a shutdown) and that programs rarely cause themselves.
_FOREIGN = {-int(n) for n in signal.Signals if n.name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT")}


@dataclass(frozen=True)
class Options:
    """The settings under which all tests of one solution are judged.

    Attributes:
        checks: what the package expects of this submission; what isn't met is listed in the result, as `unmet`.
        sure_s: CPU time that is within the time limit whatever kept the machine busy when the limit was measured; None
            if the limit is known.
    """

    limits: Limits
    checker: Checker
    all_tests: bool
    keep_output_bytes: int | None
    exchange: Exchange = STREAMS
    is_interactive: bool = False
    grading: Mapping[str, object] | None = None
    checks: Sequence[Check] = ()
    sure_s: float | None = None


@dataclass(frozen=True)
class _Run:
    """One run of the program.

    Attributes:
        load: how many programs of this sandbox ran at the same time.
        is_loaded: those were enough to have slowed it down.
        is_quiet: the rest of the machine is known to have been too quiet to slow it down.
    """

    ending: ExitStatus
    load: int
    is_loaded: bool
    is_quiet: bool
    talk: Conversation | None = None  # of an interactive problem

    @property
    def was_signalled(self) -> bool:
        """Whether a signal ended it that may have come from outside."""
        return self.ending.cause is None and self.ending.return_code in _FOREIGN

    def record(self) -> dict[str, object]:
        """Return what a result records of a run that was not believed."""
        return {"cause": self.ending.cause, "cpu_s": round(self.ending.cpu_s, 6), "load": self.load}


@dataclass
class _Found:
    """The result of one test."""

    verdict: Verdict
    record: dict[str, Any]
    message: str = ""  # of the checker, in full


class _Ahead(threading.Thread):
    """Judges a test before its turn comes."""

    def __init__(self, judge: Callable[[CancelToken], _Found], token: CancelToken) -> None:
        super().__init__(name="nbrun-judge-ahead", daemon=True)
        self.token = token
        self._judge = judge
        self._found: _Found | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Judge the test. Called by `start`."""
        try:
            self._found = self._judge(self.token)
        except BaseException as e:  # the worker raises it when this test's turn comes
            self._error = e

    def result(self) -> _Found | None:
        """Wait for the result of the test, and return it; raise what the test raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._found


class Judging:
    """Judges one solution on its tests.

    Threads: the worker calls `result`; the threads that run tests ahead run one test each and share only the context.
    """

    def __init__(
        self, program: Program, tests: Sequence[Mapping[str, object]], options: Options, context: JudgeContext
    ) -> None:
        self.program, self.tests, self.options, self.context = program, tests, options, context
        self._ahead: dict[int, _Ahead] = {}
        self._folders = RunFolders(context.folder)

    def result(self) -> dict[str, Any]:
        """Run the tests, all or up to the first failing one, and return the result.

        Raises:
            JudgeError: the sandbox itself failed on one of them, or the task was cancelled.
        """
        compiled = self.program.compiled
        if compiled is not None and compiled.return_code != 0:
            record = compile_record(compiled, self.tests[0], self.options.keep_output_bytes)
            return self._result(Verdict.COMPILE_ERROR, [_Found(Verdict.COMPILE_ERROR, record)])
        try:
            verdict, results = self._run_tests()
        finally:
            self._drop_ahead()
            self._folders.close()
        results[0].record["exec_info"]["compile_result"] = compiler_step(compiled) if compiled else None
        return self._result(verdict, results)

    def _run_tests(self) -> tuple[Verdict, list[_Found]]:
        """Return the verdict of the first test that fails, and the results of the tests that were run."""
        verdict, results = Verdict.ACCEPTED, []
        final = {Verdict.COMPILE_ERROR} if self.options.all_tests else {*Verdict} - {Verdict.ACCEPTED}
        for number in range(len(self.tests)):
            found = self._next(number, confirm=verdict == Verdict.ACCEPTED)
            results.append(found)
            if verdict == Verdict.ACCEPTED:
                verdict = found.verdict
            if verdict in final:
                break
        return verdict, results

    def _result(self, verdict: Verdict, results: Sequence[_Found]) -> dict[str, object]:
        records = [found.record for found in results]
        more: dict[str, object] = {"build": self.program.build} if self.program.build else {}
        points = None
        if self.options.grading is None:
            more |= _lowest_score(records)
        else:
            points, accepted = grade(self.options.grading, self.tests, records)
            more["score"] = points[""]
            if accepted and verdict != Verdict.COMPILE_ERROR:
                verdict = Verdict.ACCEPTED  # the package's grader decides, whichever tests failed
        if self.options.checks:
            more["unmet"] = unmet(self.options.checks, self._outcomes(results), points)
        return {
            "accepted": verdict == Verdict.ACCEPTED,
            "verdict": str(verdict),
            "tests": records,
            "tests_total": len(self.tests),
            "limits": asdict(self.options.limits),
            "isolation": self.context.isolation.name,
            **more,
        }

    def _outcomes(self, results: Sequence[_Found]) -> list[Outcome]:
        judged = zip(self.tests, results, strict=False)
        return [Outcome(str(test.get("name", "")), str(found.verdict), found.message) for test, found in judged]

    def run_alone(self, number: int) -> _Run:
        """Run one test while no other program of this sandbox runs, and no other test of this solution."""
        folder = self._folders.take()
        try:
            test = _TestJudging(self, number, folder, self.context.token)
            return test.run(self.options.limits, alone=True)
        finally:
            self._folders.give_back(folder)
            self._folders.close()

    # ---- tests in their order, and ahead of it

    def _next(self, number: int, confirm: bool) -> _Found:
        ahead = self._ahead.pop(number, None)
        if number:  # most wrong solutions fail at the first one
            self._begin_ahead(number + 1)
        found = None if ahead is None else ahead.result()
        if found is None or (confirm and found.verdict == Verdict.TIME_LIMIT_EXCEEDED):
            return self._judge(number, self.context.token, confirm)
        return found

    def _begin_ahead(self, number: int) -> None:
        """Run the next tests of this solution on CPUs that are free, beside the test whose turn it is."""
        most = self.context.limiter.free_for(self.context) - 1
        for at in sorted({*range(number, min(number + most, len(self.tests)))} - self._ahead.keys()):
            ahead = _Ahead(partial(self._judge, at, confirm=False), self.context.token.branch())
            try:
                start_thread(ahead)
            except ThreadLimitError:  # then this thread runs the test when its turn comes
                return
            self._ahead[at] = ahead

    def _drop_ahead(self) -> None:
        for ahead in self._ahead.values():
            ahead.token.cancel()
        for ahead in self._ahead.values():
            ahead.join()
        self._ahead.clear()

    def _judge(self, number: int, token: CancelToken, confirm: bool) -> _Found:
        folder = self._folders.take()
        try:
            return _TestJudging(self, number, folder, token).judge(confirm)
        finally:
            self._folders.give_back(folder)


class _TestJudging:
    """Judges one test.

    Some outcomes count only if they come again when the program is run alone: death by a signal that may have come from
    outside (see `_FOREIGN`) and an exceeded time limit that other programs may have caused.

    Attributes:
        limits: those to judge it by: others that keep the machine busy stretch the time limit.
        tries: what a result records of the runs that were not believed.

    Threads: none; it belongs to the thread that runs the test.
    """

    def __init__(self, judging: Judging, number: int, folder: Path, token: CancelToken) -> None:
        self.program, self.options, self.context = judging.program, judging.options, judging.context
        self.test: Mapping[str, Any] = judging.tests[number]
        self.is_last = number + 1 == len(judging.tests)
        self.streams, self.token = Streams(folder), token
        self.limits = self.options.limits
        self.tries: list[dict[str, object]] = []

    def judge(self, confirm: bool) -> _Found:
        """Return the result of the test.

        Args:
            confirm: whether an exceeded time limit that other programs may have caused must come again.
        """
        run = self.run(self.limits, more=not self.is_last)
        if run.was_signalled or (confirm and self._is_doubtful(run)):
            self.tries.append(run.record())
            run = self._run_alone(run, confirm)
        verdict, output, decision = self._decide(run)
        self._check_sure(run.ending.cpu_s, verdict)
        record = self._record(verdict, run, output, decision)
        return _Found(verdict, record | self._how_it_ran(run), decision.note)

    def _how_it_ran(self, run: _Run) -> dict[str, object]:
        """Return what a test's record has of its runs."""
        said: dict[str, object] = {"load": run.load}
        if self.tries:
            said["tries"] = self.tries
        usual_s = self.options.limits.time_limit_s
        if self.limits.time_limit_s != usual_s:
            said["stretch"] = round(self.limits.time_limit_s / usual_s, 3)
        return said

    # ---- what is believed

    def _is_doubtful(self, run: _Run) -> bool:
        """Return whether something other than the program may have made it exceed its time."""
        if run.ending.cause == "wall":  # it slept, deadlocked, or was suspended from outside: they look alike
            return True
        return _exceeds_cpu(run.ending, self.limits) and (run.is_loaded or not run.is_quiet)

    def _run_alone(self, before: _Run, confirm: bool) -> _Run:
        """Run a program again alone; with more time if that was exceeded while others kept the machine busy."""
        waited_s = 0.0 if before.talk is None else before.talk.validator_s
        roomy = replace(self.limits, wall_limit_s=self.limits.wall_limit_s + _PATIENCE * waited_s)
        run = self.run(roomy, alone=True)
        _check_validator(run, self.limits)
        if not confirm or run.is_quiet or not _exceeds_cpu(run.ending, self.limits):
            return run
        self.tries.append(run.record())
        return self._run_with_room()

    def _run_with_room(self) -> _Run:
        """Run a program again, with more time, that exceeded its CPU time while other processes kept the machine busy.

        It is judged by a time limit that is stretched as a reference workload needs more CPU time on this machine now.

        Raises:
            JudgeError: it can't be decided whether the program exceeds its limit.
        """
        limits, reference = self.limits, self.context.limiter.reference
        most_s = limits.time_limit_s * ROOM
        before_s = reference.measure()
        run = self.run(replace(limits, time_limit_s=most_s, wall_limit_s=2 * most_s + 1), alone=True)
        cpu_s = run.ending.cpu_s
        if run.ending.cause is not None or not limits.time_limit_s < cpu_s <= most_s or run.is_quiet:
            return run
        stretch = reference.stretch(before_s, reference.measure())
        stretched_s = limits.time_limit_s * min(stretch or ROOM, ROOM)
        if stretch is None or abs(cpu_s - stretched_s) <= MARGIN * stretched_s:
            raise JudgeError(
                f"it took {cpu_s:.2f} s of CPU time (limit: {limits.time_limit_s:g} s) on a machine that others keep "
                "busy, which makes programs slower: whether it exceeds its limit can't be said. It runs again later; "
                "judge it when the machine is quieter."
            )
        if cpu_s <= stretched_s:
            self.limits = replace(limits, time_limit_s=stretched_s)
        return run

    def _check_sure(self, cpu_s: float, verdict: Verdict) -> None:
        """Raise JudgeError if a program is within a measured limit, but not within what a quiet machine might give."""
        sure_s, time_s = self.options.sure_s, self.options.limits.time_limit_s
        if sure_s is not None and cpu_s > sure_s and verdict != Verdict.TIME_LIMIT_EXCEEDED:
            raise JudgeError(
                f"it took {cpu_s:.2f} s of CPU time. The limit that follows from the problem's accepted submissions is "
                f"between {sure_s:g} s and {time_s:g} s: others kept the machine busy while these were measured. "
                "It runs again later; judge it when the machine is quieter."
            )

    # ---- one run

    def run(self, limits: Limits, alone: bool = False, more: bool = False) -> _Run:
        """Run the program once. `more`: it is likely to be run again soon, on another test."""
        given = self.streams.path("stdin")
        given.unlink(missing_ok=True)  # a program that runs as the file's owner may have changed it
        exchange = self.options.exchange
        given.write_bytes(exchange.stdin(self.test))
        given.chmod(0o444)  # regardless of the umask: programs may reopen /dev/stdin
        context, at = self.context, place(self.context, self.streams.folder / "box")
        exchange.place_input(self.test, at.work)
        _place_files(self.test, at.work)
        talk = None
        with context.limiter.slot(alone, self.token.check, owner=context) as slot:
            if self.options.is_interactive:
                talk = self._talk(at, limits)
                ending = talk.ending
            else:
                ending = self._launch(at, self.streams.paths(), limits, more)
            others = slot.others(ending.cpu_s)
        exchange.take_output(self.test, at.work, self.streams.path("stdout"), limits.output_bytes)
        return _Run(ending, slot.load, context.limiter.is_loaded(slot), context.limiter.is_quiet(others), talk)

    def _launch(self, at: Place, paths: Mapping[str, Path | int], limits: Limits, more: bool = False) -> ExitStatus:
        arguments = self.test.get("arguments", ())
        return launch(self.program, self.context, at, paths, limits, self.token, arguments, more=more)

    def _talk(self, at: Place, limits: Limits) -> Conversation:
        """Run the program together with the validator of an interactive problem."""
        checker = self.options.checker
        if not isinstance(checker, KattisValidator):
            raise NotSupportedError("an interactive problem needs the output validator that talks to its solutions.")
        self.streams.path("stdout").write_bytes(b"")  # its output goes to the validator and is not kept

        def start(stdin: int, stdout: int) -> ExitStatus:
            return self._launch(at, {"stdin": stdin, "stdout": stdout, "stderr": self.streams.path("stderr")}, limits)

        return checker.talk(self._runner(), _checker_input(self.test, b""), limits.wall_limit_s, start)

    def _runner(self) -> ProgramRunner:
        return ProgramRunner(self.context, self.streams.folder, self.token)

    # ---- what it means

    def _decide(self, run: _Run) -> tuple[Verdict, bytes | None, CheckerResult]:
        """Return the verdict of a run, its output if that was compared, and what the checker decided."""
        failure = _failure_of_run(run.ending, self.limits, self.streams, self.program.language.is_vm)
        output, decision = None, CheckerResult(False)
        if run.talk is not None:
            failure, decision = _failure_of_talk(run.talk, failure), run.talk.result
        elif failure is None:
            output = self.streams.path("stdout").read_bytes()
            given, others = _checker_input(self.test, output), self.test.get("alternatives", ())
            decision = checker_result(self.options.checker, given, self._runner(), others)
        verdict = Verdict.ACCEPTED if decision.accepted else Verdict.WRONG_ANSWER
        return failure or verdict, output, decision

    def _record(self, verdict: Verdict, run: _Run, output: bytes | None, decision: CheckerResult) -> dict[str, Any]:
        keep, ending = self.options.keep_output_bytes, run.ending
        finished = verdict in _ENDED_BY_ITSELF and (ending.cause is None or verdict == Verdict.RUNTIME_ERROR)
        hidden = f"{PROGRAM if self.context.isolation.is_on else self.program.folder}/"
        more = _said(decision, keep)
        record = run_record(verdict, ending, self.test, self.streams, output, keep, finished, more, hidden)
        if run.talk is not None:
            record.setdefault("cut", {})["stdout"] = 0  # it was not kept, so no checker can judge it again later
        return record


def _said(decision: CheckerResult, keep: int | None) -> dict[str, object]:
    """Return what a test's record has of its checker's decision."""
    note = Shortener(keep).text("checker", decision.note.encode())
    said = {"checker": note or None, "score": decision.score, "score_multiplier": decision.multiplier}
    return {name: value for name, value in said.items() if value is not None}


def _check_validator(run: _Run, limits: Limits) -> None:
    """Raise JudgeError if a solution ran out of wall time because the validator that it talked to was slow."""
    ending = run.ending
    if run.talk is not None and ending.cause == "wall" and ending.wall_s - run.talk.validator_s < limits.wall_limit_s:
        raise JudgeError(
            f"its time was up ({ending.wall_s:.1f} s) while the problem's validator used or waited for a CPU for "
            f"{run.talk.validator_s:.1f} s, which says nothing of the solution. It runs again later."
        )


def _checker_input(test: Mapping[str, Any], output: bytes) -> CheckerInput:
    """Return what a checker is given to judge."""
    return CheckerInput(as_bytes(test["input"]), as_bytes(test["output"]), output, test.get("flags", ()))


def _place_files(test: Mapping[str, Any], work: Path) -> None:
    """Put the files that a test gives its program into the program's working folder."""
    for name, content in test.get("files", {}).items():
        path = work / name
        if ".." in path.parts or not path.is_relative_to(work):
            raise JudgeError(f"a test's file is named {str(name)[:80]!r}, which leads outside.", retriable=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
        path.chmod(0o644)


def _failure_of_talk(talk: Conversation, failure: Verdict | None) -> Verdict | None:
    """Return `failure`, that of the solution's own run; None if the validator that it talked to decides.

    If the validator rejected before the solution ended, the validator decides, as in problemtools and DOMjudge: it
    caused the broken pipe, the exit code or the endless loop that followed. If the solution failed first, the validator
    reads the end of the stream and rejects that; then the solution's own failure counts.
    """
    ending = talk.ending
    is_left_alone = ending.cause is None and ending.return_code == -signal.SIGPIPE
    return None if ending.is_unheard and (is_left_alone or not talk.result.accepted) else failure


def _lowest_score(records: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the lowest score of any test as an entry of the result, if a checker gave points to at least one.

    A test without points counts 1 if it passed, else 0.
    """
    lowest = min(record.get("score", float(record["passed"])) for record in records)
    return {"score": lowest} if any("score" in record for record in records) else {}


def _check_vm(tail: str) -> None:
    """Raise JudgeError if the virtual machine of a program, which has written `tail` to stderr, did not start."""
    if any(sign in tail for sign in _NO_VM):
        raise JudgeError(f"the virtual machine did not start, which says nothing of the solution: {tail[-500:]}")


def _exceeds_cpu(ending: ExitStatus, limits: Limits) -> bool:
    """Return whether a program took more CPU time than its limit, whichever way that was noticed."""
    return ending.cause == "cpu" or ending.cpu_s > limits.time_limit_s or ending.return_code == -signal.SIGXCPU


def _exceeded(ending: ExitStatus, limits: Limits, streams: Streams, is_vm: bool) -> Verdict | None:
    """Return the verdict of a program that exceeded a limit, whether or not it was stopped for that."""
    if ending.cause is not None:
        return _BY_CAUSE[ending.cause]
    if not is_vm and ending.memory_mb > limits.memory_limit_mb:
        return Verdict.MEMORY_LIMIT_EXCEEDED
    written = max(streams.size("stdout"), streams.size("stderr"))
    if written >= limits.output_bytes or ending.return_code == -signal.SIGXFSZ:
        return Verdict.OUTPUT_LIMIT_EXCEEDED
    return Verdict.TIME_LIMIT_EXCEEDED if _exceeds_cpu(ending, limits) else None


def _failure_of_run(ending: ExitStatus, limits: Limits, streams: Streams, is_vm: bool) -> Verdict | None:
    """Return what was wrong with a run; None if it ended well and its output is to be compared."""
    exceeded = _exceeded(ending, limits, streams, is_vm)
    if exceeded is not None or ending.return_code == 0:
        return exceeded
    tail = streams.tail()
    if is_vm:
        _check_vm(tail)
    if is_syntax_error(tail):
        return Verdict.COMPILE_ERROR
    # A program that is refused address space fails long before it uses as much memory as its limit.
    return Verdict.MEMORY_LIMIT_EXCEEDED if lacks_memory(tail) else Verdict.RUNTIME_ERROR
