"""LocalSandbox: the `fn` that compiles, runs and judges solutions on this machine.

Many worker threads call it at once; others may cancel and close it. Its process and temporary folder are made when they
are first needed, and removed when the kernel ends, even if it is killed.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nbrun.errors import InputError, JudgeError, NotSupportedError
from nbrun.judge.checkers import DEFAULT, Checker, ProgramRunner, as_checker, checker_of, compiled_beside
from nbrun.judge.exchange import exchange_of
from nbrun.judge.grading import Check
from nbrun.judge.judging import Judging, Options
from nbrun.judge.languages import DEFAULT_LANGUAGES, PYTHON3, Language, Row, lookup
from nbrun.judge.problems import MEMORY_LIMIT_MB, TIME_LIMIT_S, RecentProblems, no_solutions
from nbrun.judge.problems.shapes import TEST_SETS
from nbrun.judge.sandbox import ROOM, CancelToken, ConcurrencyLimiter, Limits, Supervisor, is_busy
from nbrun.judge.sandbox.isolation import MODES, TRIAL_COMPILE_S, TRIAL_LIMITS, TRIAL_TESTS, SelfTest, probe
from nbrun.judge.sandbox.programs import COMPILE_LIMITS, CompileCache, JudgeContext, Toolchain, temporary_folder
from nbrun.judge.sources import read_item, source_of
from nbrun.model import Task
from nbrun.samples import read_items

OUTPUT_LIMIT_MB = 64.0
_CACHE_MB = 512.0
_PROBLEMS_KEPT = 8
_KEPT_OF_TRIALS = 1024
#: An accepted submission that takes longer doesn't count when a time limit is measured.
_LONGEST_S = 30.0
#: A time limit that others kept from being known is measured again no sooner than after this.
_MEASURED_EVERY_S = 30.0


class LocalSandbox:
    """Judges solutions on this machine: compiles them once, runs them on a problem's tests, compares the output.

    A task's item is `{"language", "solution"}`, its sample the problem (see `nbrun.judge.problems` for its shapes). CPU
    time decides; wall time (twice the limit and a second) guards. A program that exceeded its time beside others runs
    again alone before that is final. Compilers and programs run in a box of bubblewrap where that works: an empty
    folder, the system's programs, no home, no network. Else they see what you see; a warning says so, and so does each
    result (`isolation: "none"`).

    Args:
        time_limit_s: CPU seconds a test, for all problems; None takes the problem's, or 2 s where it has none. Packages
            without one get it by the rule of their format, from what their accepted submissions take here; on a machine
            that others keep busy, submissions near that limit end as errors and are judged again later.
        memory_limit_mb: MiB a test; None takes the problem's, or 1024 where it has none.
        output_limit_mb: MiB of stdout, of stderr, and of any file; None takes the problem's, or 64.
        all_tests: run the tests behind the first failing one too.
        keep_output_bytes: how many bytes of each stream of a test stay in the result; None keeps all.
        tests: which of a problem's sets of tests to take, in this order.
        checker: who says whether an output is right: `compare(expected, actual)` or `compare(input, expected, actual)`
            of bytes, or a checker of `nbrun.judge` (KattisComparison, KattisValidator, TestlibChecker). None takes the
            problem's own, or compares tokens where it has none.
        testlib: the path of a `testlib.h`, for problems whose checkers include it.
        accepted_from: the score from which on an output is accepted, where a problem's checker gives points (testlib's
            `_pc` and `quitp`); None takes what the problem says, or 1. The score itself is in the result.
        languages: rows added to the table of languages, or put in the place of its rows.
        compile_limit_s: CPU seconds for the compiler; a source on which it takes more does not compile.
        cache_dir: keeps built programs for the next kernel; None keeps them until `close()`.
        isolation: "auto" (a box where it works), "required" (no box, no judging), or "none".
        python_prelude: put back what Python solutions of earlier versions use and newer interpreters no longer have
            (`fractions.gcd`, `collections.Iterable`, `time.clock`, integers of any length as text, …); each result says
            what was put back, under `build`.
        max_parallel: programs that run at once, at most; None: as many as there are workers.
        process_limit: processes and threads of one program at once.

    Raises:
        InputError: a limit that can't be right; isolation is required and does not work here.

    Warns:
        UserWarning: isolation does not work here.

    Threads: everything may be called from any thread at any time.

    Example:
        >>> sandbox = LocalSandbox(time_limit_s=2)
        >>> problem = {"id": "p1", "tests": [{"input": "1 2", "output": "3"}]}
        >>> item = {"language": "PYTHON3", "solution": "print(sum(map(int, input().split())))"}
        >>> sandbox(Task("p1", "solution", 0, item, problem))["verdict"]
        'Accepted'
        >>> sandbox.close()
    """

    def __init__(
        self,
        time_limit_s: float | None = None,
        memory_limit_mb: float | None = None,
        *,
        output_limit_mb: float | None = None,
        all_tests: bool = False,
        keep_output_bytes: int | None = 512,
        tests: Sequence[str] = TEST_SETS,
        checker: Checker | Callable[..., bool] | None = None,
        testlib: str | Path | None = None,
        accepted_from: float | None = None,
        languages: Mapping[str, Language] | None = None,
        compile_limit_s: float = COMPILE_LIMITS.time_limit_s,
        cache_dir: str | Path | None = None,
        isolation: str = "auto",
        python_prelude: bool = True,
        max_parallel: int | None = None,
        process_limit: int = Limits.process_limit,
    ) -> None:
        _check_platform()
        numbers = {
            "time_limit_s": time_limit_s, "memory_limit_mb": memory_limit_mb, "output_limit_mb": output_limit_mb,
            "compile_limit_s": compile_limit_s,
        }  # fmt: skip
        _check(_is_limit, "a number above 0, or None", numbers)
        _check(_is_count, "1 or more", {"max_parallel": max_parallel, "process_limit": process_limit})
        _check(_is_size, "a number of bytes, or None to keep all", {"keep_output_bytes": keep_output_bytes})
        _check(_is_score, "a number of points, or None", {"accepted_from": accepted_from})
        _check(MODES.__contains__, f"one of {', '.join(map(repr, MODES))}", {"isolation": isolation})
        self._numbers = numbers
        self._all_tests, self._keep_output_bytes, self._tests = all_tests, keep_output_bytes, tuple(tests)
        self._checker, self._cache_dir = None if checker is None else as_checker(checker), cache_dir
        self._testlib, self._accepted_from = testlib, accepted_from
        own = dict(languages or {})
        self._languages = {**DEFAULT_LANGUAGES, **own}
        self._python_prelude = python_prelude
        if not python_prelude:
            self._languages = {name: replace(row, prelude=None) for name, row in self._languages.items()}
        self._probed = ["PYTHON3", *own]
        self._mode, self._max_parallel, self._process_limit = isolation, max_parallel, process_limit
        self._begin()
        if isolation != "none":
            self._place()  # warns or raises now, in the cell that makes the sandbox

    def _begin(self) -> None:
        self._lock = threading.Lock()  # protects all below but the limiter and the problems, which have their own
        self._timing = threading.Lock()  # held while a problem's time limit is measured: once, not by each worker
        self._starting = threading.Lock()  # held while a supervisor starts, so that only one does
        self._limiter = ConcurrencyLimiter(self._max_parallel)
        self._problems = RecentProblems(self._tests, _PROBLEMS_KEPT)
        self._toolchain: Toolchain | None = None
        self._self_test = SelfTest()
        self._tokens: dict[int, CancelToken] = {}  # by the id of the task that runs
        #: Language -> number of tasks, where its compiler or interpreter is missing.
        self._not_judged: Counter[str] = Counter()

    def __getstate__(self) -> dict[str, object]:
        held = ("_lock", "_timing", "_starting", "_limiter", "_toolchain", "_self_test", "_tokens", "_problems")
        return {name: value for name, value in self.__dict__.items() if name not in (*held, "_not_judged")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={value}" for name, value in self._numbers.items() if value is not None)
        return f"LocalSandbox({limits}, languages: {', '.join(self._languages)})"

    @property
    def settings(self) -> dict[str, object]:
        """The settings under which results are made: limits, comparison, languages, isolation."""
        return {
            "name": "LocalSandbox", **self._numbers, "all_tests": self._all_tests,
            "keep_output_bytes": self._keep_output_bytes, "python_prelude": self._python_prelude,
            "tests": list(self._tests), "isolation": self._mode, "process_limit": self._process_limit,
            "comparison": (self._checker or DEFAULT).settings,
            **({} if self._accepted_from is None else {"accepted_from": self._accepted_from}),
            "languages": {name: language.described() for name, language in self._languages.items()},
        }  # fmt: skip

    @property
    def notices(self) -> list[str]:
        """A sentence for each language that this machine can't judge: how many tasks it concerns, and what to do."""
        with self._lock:
            counts = dict(self._not_judged)
        return [
            f"{count:,} {name} {'task is' if count == 1 else 'tasks are'} not judged: {self._languages[name].missing}"
            for name, count in counts.items()
        ]

    def __call__(self, task: Task) -> dict[str, Any]:
        """Return the result of one task, in SandboxFusion's shape, with `verdict`, `limits` and `isolation`.

        Raises:
            NotSupportedError: this machine can't judge it: no such language, no compiler for it, a problem without
                tests.
            JudgeError: the solution could not be judged: the compiler ran out of wall time, the task was cancelled, or
                the machine failed.
        """
        problem = self._problems.of(task.sample, task.sample_id)
        name, language = self._language_of(task.item)
        exchange = exchange_of(problem)
        source = exchange.program(source_of(task.item, language), name, language)
        checker = exchange.checker or self._checker or checker_of(problem, self._testlib, self._accepted_from)
        with self._context(task) as context, compiled_beside(checker, context):
            measured = self._settle_time_limit(problem, checker, context)
            sure_s = measured.sure_s * language.time_factor if measured and measured.is_open else None
            limits = self._limits(problem, language)
            grading, checks = problem.get("grading"), _checks_of(problem, task.item)
            all_tests = self._all_tests or grading is not None or bool(checks)  # each test may be worth points
            is_interactive = bool(problem.get("interactive"))
            options = Options(
                limits, checker, all_tests, self._keep_output_bytes, exchange, is_interactive, grading, checks, sure_s
            )
            with context.toolchain.program(language, source, context.folder, context.token) as program:
                result = Judging(program, problem["tests"], options, context).result()
            self._self_test.verify(name, language, task.item, result, partial(self._tried, context))
        return result

    def _language_of(self, item: object) -> Row:
        """Return the row of an item's language; count it where this machine can't judge that.

        Raises:
            NotSupportedError: there is no such language, or no compiler for it.
        """
        row = lookup(read_item(item).language, self._languages)
        if row.language.missing:
            with self._lock:
                self._not_judged[row.name] += 1
            raise NotSupportedError(f"{row.name} is not judged: {row.language.missing}")
        return row

    def refusal(self, problem: Mapping[str, object]) -> str | None:
        """Return why no solution of a problem can be judged here, where the caller can change that; else None.

        `nbrun.start` asks this of what `read_problems` reads, before a problem's first task runs.
        """
        why = no_solutions(problem)
        if why or self._checker is not None or not _is_program(problem.get("checker")):
            return why
        try:
            checker_of(problem, self._testlib, self._accepted_from)
        except NotSupportedError as e:
            return str(e)
        return None

    def _settle_time_limit(
        self, problem: dict[str, object], checker: Checker, context: JudgeContext
    ) -> MeasuredLimit | None:
        """Measure the time limit of a package that derives it from its accepted submissions; return None for others.

        Once, and again as long as the machine was too busy to say what it is.
        """
        if self._numbers["time_limit_s"] is not None or problem.get("time_limit_from") is None:
            return None
        with self._timing:
            measured = problem.get("measured")
            if not isinstance(measured, MeasuredLimit) or measured.is_to_be_measured_again():
                limits = self._limits({**problem, "time_limit_s": None}, PYTHON3)
                problem["measured"] = measured = measured_time_limit(problem, checker, limits, context)
            problem["time_limit_s"] = measured.time_s
            return measured

    def _tried(self, context: JudgeContext, language: Language, item: object) -> dict[str, object]:
        """Return the result of a trial program, which shows whether programs start here at all."""
        options = Options(TRIAL_LIMITS, DEFAULT, True, _KEPT_OF_TRIALS)
        source = source_of(item, language)
        with temporary_folder("trial-", context.folder) as folder:
            context = replace(context, folder=folder)
            with context.toolchain.program(language, source, context.folder, context.token, TRIAL_COMPILE_S) as program:
                return Judging(program, TRIAL_TESTS, options, context).result()

    def cancel(self, task: Task) -> None:
        """End the programs of a task: its call raises JudgeError once all of its processes are gone."""
        with self._lock:
            token = self._tokens.get(id(task))
        if token is not None:
            token.cancel()

    def close(self) -> None:
        """End all programs and remove the temporary folder. A later call starts again."""
        with self._lock:
            toolchain, self._toolchain = self._toolchain, None
            tokens = list(self._tokens.values())
        self._problems.forget()
        for token in tokens:
            token.cancel()
        if toolchain is not None:
            toolchain.supervisor.close()

    def _limits(self, problem: Mapping[str, Any], language: Language) -> Limits:
        usual = {"time_limit_s": TIME_LIMIT_S, "memory_limit_mb": MEMORY_LIMIT_MB, "output_limit_mb": OUTPUT_LIMIT_MB}
        numbers = (self._numbers[name] or problem.get(name) or number for name, number in usual.items())
        time_s, memory_mb, output_mb = map(float, numbers)
        time_s *= language.time_factor
        return Limits(time_s, 2.0 * time_s + 1.0, memory_mb, output_mb, self._process_limit)

    def _place(self) -> Toolchain:
        """Return what builds and runs programs; start a supervisor if there is none or it died."""
        with self._starting:
            with self._lock:
                old = self._toolchain
                if old is not None and old.supervisor.is_alive:
                    return old
                self._toolchain = None
            if old is not None:
                old.supervisor.close()
            toolchain = self._start()
            with self._lock:
                self._toolchain = toolchain
            return toolchain

    def _start(self) -> Toolchain:
        """Start a supervisor, and find out how programs are kept apart here."""
        supervisor = Supervisor()
        try:
            isolation = probe(supervisor, self._mode, {name: self._languages[name] for name in self._probed})
        except BaseException:
            supervisor.close()
            raise
        cache = CompileCache(Path(self._cache_dir or supervisor.root / "built"), _CACHE_MB)
        self._limiter.reference.measure()
        limit_s = self._numbers["compile_limit_s"] or COMPILE_LIMITS.time_limit_s
        return Toolchain(cache, supervisor, isolation, limit_s)

    @contextmanager
    def checking(self) -> Iterator[ProgramRunner]:
        """Yield a runner for checkers that are programs, without a task, as `nbrun.judge.recheck` needs it."""
        with self._context(object()) as context:
            yield ProgramRunner(context, context.folder, context.token)

    @contextmanager
    def _context(self, task: object) -> Iterator[JudgeContext]:
        """Yield a folder and a token for one task."""
        token = CancelToken()
        with self._lock:
            self._tokens[id(task)] = token
        try:
            toolchain = self._place()
            with temporary_folder("task-", toolchain.supervisor.root) as folder:
                yield JudgeContext(folder, toolchain, token, self._limiter, self._languages)
        except OSError as e:  # a fault of the disk, or close() removed the folder
            token.check()
            raise JudgeError(f"the sandbox could not work: {e}.") from e
        finally:
            token.idle.close()
            with self._lock:
                self._tokens.pop(id(task), None)


def _check_platform() -> None:
    if sys.platform in ("win32", "emscripten"):
        raise NotSupportedError(
            "LocalSandbox runs programs under limits that Linux and macOS have. On Windows, start the notebook's "
            "kernel in WSL, or judge with SandboxFusion."
        )


def _check(is_valid: Callable[[Any], bool], what: str, values: Mapping[str, object]) -> None:
    """Raise InputError if one of these settings isn't what it must be."""
    for name, value in values.items():
        if not is_valid(value):
            raise InputError(f"LocalSandbox: {name}={value!r}; give {what}.")


def _is_limit(number: float | None) -> bool:
    return number is None or 0 < number < math.inf


def _is_count(number: int | None) -> bool:
    return number is None or number >= 1


def _is_size(number: int | None) -> bool:
    return number is None or number >= 0


def _is_score(number: float | None) -> bool:
    return number is None or math.isfinite(number)


def _is_program(checker: object) -> bool:
    return isinstance(checker, str) or (isinstance(checker, Mapping) and "source" in checker)


def _submission_of(item: object) -> str | None:
    """Return the name that a package gives a submission; None for solutions from elsewhere."""
    return item.get("submission") if isinstance(item, Mapping) else None


def _checks_of(problem: Mapping[str, Any], item: object) -> list[Check]:
    """Return what a package's submissions.yaml expects of the tests of one submission."""
    return [*map(Check.of, (problem.get("expectations") or {}).get(_submission_of(item), ()))]


# ---- the time limit of a package that names none


class MeasuredLimit(NamedTuple):
    """The time limit that follows from a package's accepted submissions.

    Attributes:
        time_s: a program that exceeds it is too slow.
        sure_s: less where the machine may have slowed the submissions down: a program that takes no more than this
            would be within the limit on a quiet machine too.
        at: when it was measured, by the monotonic clock.
    """

    time_s: float
    sure_s: float
    at: float

    @classmethod
    def of(cls, timings: Sequence[_Timing], rule: Mapping[str, Any]) -> MeasuredLimit:
        """Return the limit that follows from these times by a package's rule."""
        longest = max(t.most_s for t in timings), max(t.least_s for t in timings)
        time_s, sure_s = (rounded_s(each_s * rule["multiplier"], rule["resolution"]) for each_s in longest)
        return cls(time_s, sure_s, time.monotonic())

    @property
    def is_open(self) -> bool:
        """Whether a quiet machine might give a smaller limit."""
        return self.sure_s < self.time_s

    def is_to_be_measured_again(self) -> bool:
        """Return whether the machine was too busy, and may no longer be."""
        return self.is_open and time.monotonic() >= self.at + _MEASURED_EVERY_S and not is_busy()


@dataclass
class _Timing:
    """The least and the most CPU time that a submission may take on one test, on a quiet machine."""

    item: object
    test: int
    least_s: float
    most_s: float


def measured_time_limit(
    problem: Mapping[str, Any], checker: Checker, limits: Limits, context: JudgeContext
) -> MeasuredLimit:
    """Return the time limit by the rule of the package's format; the usual one where no submission is accepted.

    The CPU time of the slowest accepted submission on its slowest test, times `time_limit_from["multiplier"]`, is
    rounded up to a multiple of `time_limit_from["resolution"]` (seconds). Where it matters that others slow programs
    down, the slowest tests are run again alone. Called by the worker thread that meets the problem first, while others
    with tasks of it wait.

    Raises:
        JudgeError: the machinery failed.
    """
    rule = problem["time_limit_from"]
    limits = replace(limits, time_limit_s=_LONGEST_S, wall_limit_s=2 * _LONGEST_S + 1)
    options = Options(limits, checker, False, 0, is_interactive=bool(problem.get("interactive")))
    timings = [timing for item in _counted(problem) for timing in _timings(item, problem, options, context)]
    if not timings:
        return MeasuredLimit(TIME_LIMIT_S, TIME_LIMIT_S, time.monotonic())
    for timing in sorted(timings, key=lambda t: -t.most_s):
        if not MeasuredLimit.of(timings, rule).is_open or not _time_alone(timing, problem, options, context):
            break
    return MeasuredLimit.of(timings, rule)


def _counted(problem: Mapping[str, Any]) -> Iterator[object]:
    """Yield a package's accepted submissions, but for those that its submissions.yaml leaves out."""
    items, _, _ = read_items(problem.get("solutions"))
    left_out = problem["time_limit_from"].get("left_out", ())
    return (item for item in items if _submission_of(item) not in left_out)


def rounded_s(time_s: float, resolution_s: float) -> float:
    """Rounded up to a multiple of the resolution, at least one.

    Example:
        >>> rounded_s(0.2, 1), rounded_s(2.1, 1), rounded_s(0.7, 0.1)
        (1.0, 3.0, 0.7)
    """
    return round(float(max(1, math.ceil(time_s / resolution_s - 1e-9)) * resolution_s), 6)


def _timings(item: object, problem: Mapping[str, Any], options: Options, context: JudgeContext) -> Iterator[_Timing]:
    """Yield the times of a submission's tests, for a language of average speed; nothing where it isn't accepted."""
    try:
        with _timed(item, problem, options, context) as (judging, factor):
            result = judging.result()
    except NotSupportedError:
        return
    for number, test in enumerate(result["tests"] if result["accepted"] else ()):
        time_s = test["exec_info"]["run_result"]["execution_time"] / factor
        yield _Timing(item, number, time_s / ROOM, time_s)


def _time_alone(timing: _Timing, problem: Mapping[str, Any], options: Options, context: JudgeContext) -> bool:
    """Run a test again alone, and return whether its time is known then: the machine was quiet."""
    with _timed(timing.item, problem, options, context) as (judging, factor):
        run = judging.run_alone(timing.test)
    if not run.ending.has_succeeded:  # something else ended it this time
        return False
    timing.most_s = min(timing.most_s, run.ending.cpu_s / factor)
    is_known = run.is_quiet or not is_busy()
    timing.least_s = timing.most_s if is_known else timing.most_s / ROOM
    return is_known


@contextmanager
def _timed(
    item: object, problem: Mapping[str, Any], options: Options, context: JudgeContext
) -> Iterator[tuple[Judging, float]]:
    """Yield what runs a submission, and the time factor of its language.

    Raises:
        NotSupportedError: this machine can't run it.
    """
    language = lookup(read_item(item).language, context.languages).language
    source = source_of(item, language)
    if language.missing:
        raise NotSupportedError(language.missing)
    with temporary_folder("timing-", context.folder) as folder:
        own = replace(context, folder=folder)
        with own.toolchain.program(language, source, folder, own.token) as program:
            yield Judging(program, problem["tests"], options, own), language.time_factor
