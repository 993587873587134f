"""SandboxFusion: a function for `nbrun.start` that judges solutions on a pool of SandboxFusion servers.

Many worker threads call it at once; other threads may cancel calls and close it. Its only resources are connections.
Each call makes a `Solution`, which sends requests in order and builds the result from the answers. A test that passed
isn't run again. A test that exceeded its time limit is run again in a later call (`nbrun.Retry`), so that no worker
waits, and earlier attempts are known after a restart.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

from nbrun import verdicts
from nbrun.errors import InputError, JudgeError, JudgeUnavailableError, NotSupportedError
from nbrun.judge.checkers import DEFAULT, Checker, as_checker, checker_of
from nbrun.judge.fusion.connection import Call, read_endpoints, read_headers
from nbrun.judge.fusion.endpoints import Client, Health, NoOtherEndpoint, Pool, Reply
from nbrun.judge.fusion.protocol import (
    ENDED_FROM_OUTSIDE,
    LANGUAGES,
    Fault,
    JudgingRules,
    Program,
    Request,
    RunOptions,
    TestOutcome,
    check_sendable,
    inner,
    read_program,
    run_code,
    submit,
)
from nbrun.judge.problems import MEMORY_LIMIT_MB, TIME_LIMIT_S, RecentProblems, no_solutions
from nbrun.judge.problems.shapes import TEST_SETS
from nbrun.judge.time_limits import Attempt, Next, look_at, next_attempt, next_compile
from nbrun.model import Retry, Task
from nbrun.verdicts import Verdict

APIS = ("submit", "run_code")
COMPARISONS = ("nbrun", "server")
_PROBLEMS_KEPT = 64
#: How many times a fault of the servers is retried while a time limit is tried again.
_MAX_FAULTS = 3
#: The exit status of SIGKILL, from a process and from a shell: a sign that the machine ran out of memory.
_KILLED = (-9, 137)
#: A program that a stopping server's signal may have ended is wrong once that has happened in this many attempts: a
#: server may be restarted while the second one runs, too.
_SIGNALLED_ATTEMPTS = 3
_LATE = Verdict.TIME_LIMIT_EXCEEDED


class _Continuation(NamedTuple):
    """The result of a task's last attempt, None before the first one, and the hint for the next attempt."""

    result: Mapping[str, Any] | None
    hint: Mapping[str, Any]


@dataclass(frozen=True)
class Policy:
    """Which of the service's two paths a judge uses, and how far it raises limits.

    Attributes:
        api: "submit" or "run_code".
        max_time_limit_s: None if time limits are never raised.
    """

    api: str
    rules: JudgingRules
    max_time_limit_s: float | None
    max_compile_limit_s: float


class SandboxFusion:
    """Judges solutions on SandboxFusion servers, the least busy healthy one first.

    A server that refuses a request, hangs, fails or gives an invalid answer costs a task only time: another server is
    used, and no solution is rejected because of it. If no server can be reached, the run pauses, and continues when one
    is back. If a solution exceeds its time limit while other programs run on the server, that is final only when it
    exceeds the limit again alone (`nbrun.judge.time_limits` has the rules). Each result has its limits, its load and
    its earlier attempts.

    Args:
        endpoints: URLs such as "http://host:8080"; they may end in "/submit".
        time_limit_s: the limit of a test's wall time in seconds, for all problems (the service reports no CPU time);
            None takes the problem's limit, or 2 s if it has none.
        memory_limit_mb: the limit of a test's memory in MiB; None takes the problem's limit, or 1024. It is used only
            with `api="run_code"`. The service applies it to compilers too, so compiled languages get at least 1024.
            Virtual machines don't start under it and get no limit.
        max_in_flight: the number of requests at one endpoint at once. A request to `/submit` runs three tests at once.
        max_time_limit_s: the limit up to which time limits are raised for solutions whose output was right so far; None
            never raises them.
        all_tests: run the tests after the first failing one too (the service's `run_all_cases`).
        keep_output_bytes: how many bytes of each stream of a test a result keeps; None keeps all.
        tests: the sets of a problem's tests to take, in this order.
        comparison: "nbrun" judges the returned output as LocalSandbox does; "server" uses the server's comparison,
            which ignores case and allows a tolerance only if a line is a single number.
        checker: decides whether an output is right, instead of the comparison of tokens; see LocalSandbox.
        api: "submit" sends one request for all tests of a solution, "run_code" one for each test.
        time_factor: language -> the factor of its time limits, such as {"PYTHON3": 3}.
        languages: further languages: your name -> the name in the service's API.
        compile_limit_s: the compiler's time limit in seconds. If it is exceeded, the compilation is tried again with
            less load, then with up to `max_compile_limit_s`. If it is still exceeded, the task ends as an error, never
            as CompileError.
        connect_timeout_s, read_timeout_s: seconds; None computes the second from the limits.
        headers: HTTP headers to send with each request, for gateways that need a token.

    Raises:
        InputError: an argument has an invalid value.

    Threads: every method may be called from any thread at any time.

    Example:
        >>> judge = SandboxFusion(["http://10.0.0.1:8080", "http://10.0.0.2:8080"], time_limit_s=2)
        >>> [row["state"] for row in judge.health()]
        ['closed', 'closed']
    """

    #: See `nbrun.model.Judge`. Only results with this verdict can have been judged too strictly.
    again_verdicts = frozenset({Verdict.TIME_LIMIT_EXCEEDED})

    def __init__(
        self,
        endpoints: str | Iterable[str],
        time_limit_s: float | None = None,
        memory_limit_mb: float | None = None,
        *,
        max_in_flight: int = 1,
        max_time_limit_s: float | None = None,
        all_tests: bool = False,
        keep_output_bytes: int | None = 512,
        tests: Sequence[str] = TEST_SETS,
        comparison: str = "nbrun",
        checker: Checker | Callable[..., bool] | None = None,
        api: str = "submit",
        time_factor: Mapping[str, float] | None = None,
        languages: Mapping[str, str] | None = None,
        compile_limit_s: float = 30.0,
        max_compile_limit_s: float | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._addresses = read_endpoints(endpoints)
        self._compile_limit_s, self._connect_timeout_s = compile_limit_s, connect_timeout_s
        self._max_compile_limit_s = max_compile_limit_s or 3 * compile_limit_s
        self._numbers: dict[str, float | None] = {
            "time_limit_s": time_limit_s,
            "memory_limit_mb": memory_limit_mb,
            "max_time_limit_s": max_time_limit_s,
            "compile_limit_s": compile_limit_s,
            "max_compile_limit_s": self._max_compile_limit_s,
            "connect_timeout_s": connect_timeout_s,
            "read_timeout_s": read_timeout_s,
        }
        self._factors = dict(time_factor or {})
        numbers = {**self._numbers, **{f"time_factor[{name!r}]": n for name, n in self._factors.items()}}
        _check(_is_limit, "a number above 0, or None", numbers)
        _check(lambda n: n >= 1, "1 or more", {"max_in_flight": max_in_flight})
        _check(_is_size, "a number of bytes, or None to keep all", {"keep_output_bytes": keep_output_bytes})
        _check(APIS.__contains__, _one_of(APIS), {"api": api})
        _check(COMPARISONS.__contains__, _one_of(COMPARISONS), {"comparison": comparison})
        if comparison == "server" and (api == "run_code" or checker is not None):
            raise InputError('SandboxFusion: comparison="server" goes with api="submit" and without a checker.')
        self._max_in_flight, self._all_tests, self._keep_output_bytes = max_in_flight, all_tests, keep_output_bytes
        self._tests, self._comparison, self._api = tuple(tests), comparison, api
        self._checker = None if checker is None else as_checker(checker)
        self._languages = {**LANGUAGES, **(languages or {})}
        self._headers = read_headers(headers)
        self._begin()

    def _begin(self) -> None:
        self._pool = Pool(self._addresses, self._max_in_flight, self._connect_timeout_s)
        read_timeout_s = self._numbers["read_timeout_s"]
        self._client = Client(self._pool, self._headers, read_timeout_s, self._connect_timeout_s)
        comparison = "server" if self._comparison == "server" else "user" if self._checker is not None else ""
        check = partial(check_sendable, comparison=comparison)
        self._problems = RecentProblems(self._tests, _PROBLEMS_KEPT, check)
        self._lock = threading.Lock()  # protects everything below
        self._calls: dict[int, Call] = {}  # id of a running task -> its call
        self._continued: dict[tuple[str, str, int], _Continuation] = {}  # saved results that run again; see again()

    def __getstate__(self) -> dict[str, object]:
        held = ("_pool", "_client", "_lock", "_calls", "_problems", "_continued")
        return {name: value for name, value in self.__dict__.items() if name not in held}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __repr__(self) -> str:
        count = len(self._addresses)
        more = f" and {count - 1} more" if count > 1 else ""
        return f"SandboxFusion({self._addresses[0].name}{more}, max_in_flight={self._max_in_flight})"

    @property
    def settings(self) -> dict[str, object]:
        """Return the settings on which results of this judge depend. `resources` has the endpoints."""
        limits = ("time_limit_s", "memory_limit_mb", "max_time_limit_s", "compile_limit_s", "max_compile_limit_s")
        return {
            "name": "SandboxFusion",
            **{name: self._numbers[name] for name in limits},
            "all_tests": self._all_tests,
            "keep_output_bytes": self._keep_output_bytes,
            "tests": list(self._tests),
            "api": self._api,
            "time_factor": self._factors,
            "comparison": "server" if self._comparison == "server" else (self._checker or DEFAULT).settings,
        }

    @property
    def resources(self) -> dict[str, object]:
        """Return a short description of the endpoints. They affect a run's speed, but not its results."""
        names = [a.name for a in self._addresses]
        digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:8]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return {"endpoints": f"{', '.join(names[:3])}{more} ({digest})", "max_in_flight": self._max_in_flight}

    def __call__(self, task: Task) -> dict[str, Any] | Retry:
        """Return the result of one task, in SandboxFusion's shape, or a Retry.

        In addition to the service's keys, a result has `verdict`, `limits`, `load` and `attempts`.

        Raises:
            JudgeError: the solution couldn't be judged.
            JudgeUnavailableError: no endpoint can be reached now.
        """
        problem = self._problems.of(task.sample, task.sample_id)
        program = read_program(task.item, self._languages)
        before, hint = self._continuation(task)
        options, policy, key = self._options(problem, program), self._policy(problem), _key(task)
        with self._call(task) as call:
            try:
                solution = Solution(
                    task.sample_id, program, problem["tests"], options, policy, self._client, call, key, before, hint
                )
                result = solution.judge()
            except NoOtherEndpoint:  # the rules need another endpoint and there is none: the last result is final
                assert before is not None
                return dict(before)
            except JudgeError as e:
                if call.is_cancelled or (later := _later(e, before, hint)) is None:
                    raise
                return later
            with self._lock:
                self._continued.pop(key, None)
            return result

    @contextmanager
    def _call(self, task: Task) -> Iterator[Call]:
        """Yield the call of a task, which `cancel` and `close` can cancel until the block is left."""
        call = Call()
        with self._lock:
            self._calls[id(task)] = call
        try:
            if task.cancelled():
                call.cancel()
            yield call
        finally:
            with self._lock:
                del self._calls[id(task)]

    def _continuation(self, task: Task) -> _Continuation:
        own = _Continuation(task.previous if isinstance(task.previous, Mapping) else None, task.hint)
        if own.hint:
            return own
        with self._lock:
            return self._continued.get(_key(task), own)

    def refusal(self, problem: Mapping[str, object]) -> str | None:
        """Return why no solution of a problem can be judged, if the caller can change that; else None.

        `nbrun.start` calls this for each problem of `read_problems`, before its first task runs.
        """
        return no_solutions(problem)

    def again(self, entry: Mapping[str, object], task: Task) -> bool:
        """Return whether a saved TimeLimitExceeded must be tried again, by the same rules as for running tasks.

        A result without its limits is final; `redo=` runs it again.
        """
        result = entry.get("result")
        if verdicts.of(result) != Verdict.TIME_LIMIT_EXCEEDED or not isinstance(result, Mapping):
            return False
        attempts = history(result)
        wanted = attempts and next_attempt(attempts, self._numbers["max_time_limit_s"], self._pool.endpoints)
        if not wanted:
            return False
        hint = hint_of(attempts[-1].test, wanted, attempts[0].time_limit_s)
        with self._lock:
            self._continued[_key(task)] = _Continuation({**result, "attempts": [a.record() for a in attempts]}, hint)
        return True

    def cancel(self, task: Task) -> None:
        """Abort the requests of a task; its call raises JudgeError at once."""
        with self._lock:
            call = self._calls.get(id(task))
        if call is not None:
            call.cancel()
            self._pool.wake_waiters()

    def health(self) -> list[Health]:
        """Return a row for each endpoint.

        A row has `name`, `state` ("closed": in use; "open": not used for now; "half-open": being tried), `in_flight`,
        `mean_s` (the mean time of its recent requests), and `last_error`.
        """
        return self._pool.health()

    def is_available(self) -> bool:
        """Return whether an endpoint can be reached; ping those that are out of order."""
        return self._client.has_endpoint()

    def close(self) -> None:
        """End all requests and close all connections. The judge can be used again afterwards."""
        with self._lock:
            calls = list(self._calls.values())
            self._continued.clear()
        self._problems.forget()
        for call in calls:
            call.cancel()
        self._pool.wake_waiters()
        self._pool.close()

    # ---- how a task is judged

    def _options(self, problem: Mapping[str, Any], program: Program) -> RunOptions:
        factor = self._factors.get(program.name, 1.0)
        time_s = (self._numbers["time_limit_s"] or problem["time_limit_s"] or TIME_LIMIT_S) * factor
        memory_mb = self._numbers["memory_limit_mb"] or problem["memory_limit_mb"] or MEMORY_LIMIT_MB
        limited_mb = program.memory_limit_mb(memory_mb) if self._api == "run_code" else None
        return RunOptions(float(time_s), float(self._compile_limit_s), limited_mb, self._all_tests)

    def _policy(self, problem: Mapping[str, object]) -> Policy:
        checker: Checker | None = None
        is_exact = True
        if self._comparison == "nbrun":
            checker = self._checker or checker_of(problem)
            is_exact = checker is DEFAULT
        rules = JudgingRules(checker, is_exact, self._keep_output_bytes)
        return Policy(self._api, rules, self._numbers["max_time_limit_s"], self._max_compile_limit_s)


def _check(is_valid: Callable[[Any], bool], what: str, values: Mapping[str, object]) -> None:
    """Raise InputError if one of these settings isn't what it must be."""
    for name, value in values.items():
        if not is_valid(value):
            raise InputError(f"SandboxFusion: {name}={value!r}; give {what}.")


def _one_of(choices: Sequence[str]) -> str:
    return f"one of {', '.join(map(repr, choices))}"


def _is_limit(number: float | None) -> bool:
    return number is None or 0 < number < math.inf


def _is_size(number: int | None) -> bool:
    return number is None or number >= 0


def _later(e: JudgeError, before: Mapping[str, Any] | None, hint: Mapping[str, Any]) -> Retry | None:
    """Return how a failed attempt at a time limit is tried again; None for others, which are the engine's business.

    The engine counts all attempts of a task together, but attempts at a time limit are not failures.
    """
    faults = int(hint.get("faults", 0))
    is_final = not e.retriable or isinstance(e, JudgeUnavailableError) or faults >= _MAX_FAULTS
    if not hint or is_final:
        return None
    return Retry(str(e), 2.0**faults, {**hint, "faults": faults + 1}, before)


def _key(task: Task) -> tuple[str, str, int]:
    return task.sample_id, task.group, task.index


# ---- one solution


class _Tried(NamedTuple):
    """How a test was run: its outcome, the reply that had it, and the options that were sent."""

    outcome: TestOutcome
    reply: Reply
    options: RunOptions


@dataclass
class Solution:
    """One solution that is being judged.

    Args:
        task: identifies the task; the client counts lost requests under it.
        before: the result of the last attempt; None on the first one.
        hint: the hint of the last attempt's Retry; empty on the first one.
    """

    name: str
    program: Program
    tests: Sequence[Mapping[str, object]]
    options: RunOptions
    policy: Policy
    client: Client
    call: Call
    task: object
    before: Mapping[str, Any] | None
    hint: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.records: list[dict[str, Any]] = [{} for _ in self.tests]  # empty: to be run
        self.tried: dict[int, _Tried] = {}  # number of a test -> how it was run in this call
        self.attempts: list[Attempt] = []
        self.load, self.endpoint = 0, ""
        self._server_differs = False  # whether the server stopped at a test that is right here
        if self.before is not None and self._continues(self.before):
            self._continue(self.before)
        else:
            self.hint = {}

    def _continue(self, before: Mapping[str, Any]) -> None:
        """Begin with what an earlier attempt has found."""
        self.attempts = [Attempt.read(a) for a in before.get("attempts", ())]
        self.load, self.endpoint = before.get("load", 0), before.get("api_used", "")
        for number, record in enumerate(before["tests"]):
            self.records[number] = dict(record)

    def _continues(self, before: Mapping[str, Any]) -> bool:
        """Return whether a result was made with these tests and limits, so that passed tests don't run again."""
        records, number, most = before.get("tests"), self.hint.get("test"), len(self.tests)
        made_so = (before.get("tests_total"), self.hint.get("base_limit_s"))
        if made_so != (most, self.options.time_limit_s) or not isinstance(records, list) or number not in range(most):
            return False
        return len(records) <= most and all(map(_describes, records, self.tests))

    def judge(self) -> dict[str, object] | Retry:
        """Return the result, or a Retry where a test must be run again.

        Raises:
            JudgeError: the servers failed.
            JudgeUnavailableError: no endpoint can be reached now.
            NoOtherEndpoint: a test must be run again at another endpoint, but no other one is in use.
        """
        if self.hint:
            self._run_again(self.hint)
        while missing := self._missing():
            self._run(missing, self.options, alone=False, avoid=())
        return self._finish()

    # ---- requests

    def _run_again(self, hint: Mapping[str, Any]) -> None:
        """Run the test whose outcome the last attempt left open."""
        number = int(hint["test"])
        options = self.options._replace(
            time_limit_s=float(hint["time_limit_s"]),
            compile_limit_s=float(hint.get("compile_limit_s") or self.options.compile_limit_s),
        )
        self.records[number] = {}
        self._run([number], options, alone=bool(hint.get("alone")), avoid=tuple(hint.get("avoid", ())))
        outcome, reply, _ = self.tried[number]
        if outcome.verdict != Verdict.TIME_LIMIT_EXCEEDED and outcome.fault is not Fault.COMPILE_TIME:
            self.attempts.append(
                Attempt(str(outcome.verdict), options.time_limit_s, reply.load, reply.endpoint, number)
            )

    def _missing(self) -> list[int]:
        """Return the numbers of the tests that must still be run."""
        missing = [n for n, record in enumerate(self.records) if not record]
        return missing if self.options.all_tests or missing[:1] < [self._first_failed()] else []

    def _first_failed(self) -> int:
        """Return the number of the first test that failed; the number of tests where none did."""
        failed = (n for n, record in enumerate(self.records) if not record.get("passed", True))
        return next(failed, len(self.records))

    def _run(self, numbers: list[int], options: RunOptions, alone: bool, avoid: Collection[str]) -> None:
        """Send one request, for all of these tests or only the first one, and record the outcomes."""
        if self.policy.api == "run_code" or self._is_slowed():
            numbers = numbers[:1]
        request = self._request(numbers, options)
        reply = self.client.send(request, self.call, self.task, alone=alone, avoid=avoid)
        self.load, self.endpoint = max(self.load, reply.load), reply.endpoint + request.path
        for number, outcome in zip(numbers, reply.outcomes, strict=False):
            self._record(number, _Tried(outcome, reply, options))
            if not self.options.all_tests and not outcome.record["passed"]:
                return
        self._server_differs = len(reply.outcomes) < len(numbers)

    def _record(self, number: int, tried: _Tried) -> None:
        """Record how a test was run."""
        record, time_limit_s = tried.outcome.record, tried.options.time_limit_s
        record["load"] = tried.reply.load
        if time_limit_s != self.options.time_limit_s:
            record["time_limit_s"] = time_limit_s
        self.tried[number], self.records[number] = tried, record

    def _request(self, numbers: list[int], options: RunOptions) -> Request:
        tests = [self.tests[n] for n in numbers]
        if self.policy.api == "run_code":
            return run_code(self.program, tests[0], options, self.policy.rules)
        options = options._replace(all_tests=options.all_tests or self._server_differs)
        return submit(self.program, tests, options, self.policy.rules, self.name)

    def _is_slowed(self) -> bool:
        """Return whether a test was too slow in parallel but fast enough alone; then the remaining tests run alone."""
        seen = {(a.test, a.load > 1, a.verdict) for a in self.attempts}
        return any({(test, True, _LATE), (test, False, Verdict.ACCEPTED)} <= seen for test, _, _ in seen)

    # ---- the result

    def _finish(self) -> dict[str, object] | Retry:
        for number, (outcome, _, _) in sorted(self.tried.items()):
            if outcome.fault is Fault.LONG_OUTPUT:
                raise _too_long(number, outcome)
            if outcome.fault is Fault.COMPILE_TIME:
                return self._compile_again(number)
        failed = self._first_failed()
        wanted = self._next(failed) if failed in self.tried else None
        return self.result() if wanted is None else self._retry(failed, wanted)

    def _next(self, failed: int) -> Next | None:
        """Return how the first failed test must be run again; None if its verdict is final. Record the attempt."""
        verdict = self.tried[failed].outcome.verdict
        if verdict == Verdict.RUNTIME_ERROR:
            return self._next_of_ended(failed)
        if verdict != _LATE:
            return None
        self._add_attempt(failed)
        return next_attempt(
            _at(self.attempts, failed), self.policy.max_time_limit_s, self.client.pool.able(self.program.language)
        )

    def _next_of_ended(self, failed: int) -> Next | None:
        """Return how a test that a signal ended must be run again, if something else may have sent the signal."""
        outcome, reply, _ = self.tried[failed]
        code = inner(outcome.record, "exec_info", "run_result", "return_code")
        alone = partial(Next, time_limit_s=self.options.time_limit_s, alone=True)
        if code in _KILLED and reply.load > 1:
            self._add_attempt(failed)
            return alone("something killed it beside other programs: tried alone")
        if code not in ENDED_FROM_OUTSIDE:
            return None
        if self.hint.get("test") != failed:  # else it is recorded already
            self._add_attempt(failed)
        ended_so = [(a.test, a.verdict) for a in self.attempts].count((failed, Verdict.RUNTIME_ERROR))
        return alone("a signal ended it, perhaps the server's: tried alone") if ended_so < _SIGNALLED_ATTEMPTS else None

    def _add_attempt(self, number: int, compile_limit_s: float | None = None) -> None:
        outcome, reply, options = self.tried[number]
        written = outcome.written and str(outcome.written)
        verdict, share = str(outcome.verdict), round(outcome.share, 4)
        self.attempts.append(
            Attempt(verdict, options.time_limit_s, reply.load, reply.endpoint, number, written, share, compile_limit_s)
        )

    def _compile_again(self, number: int) -> Retry:
        self._add_attempt(number, self.tried[number].options.compile_limit_s)
        attempts = [a for a in self.attempts if a.compile_limit_s is not None]
        wanted = next_compile(attempts, self.policy.max_compile_limit_s)
        if wanted is None:
            tried = ", ".join(f"{a.compile_limit_s:g} s at a load of {a.load}" for a in attempts)
            raise JudgeError(
                f"the compiler did not end in time ({tried}), which says nothing of the source. "
                "Give it more with max_compile_limit_s=.",
                retriable=False,
            )
        self.records[number] = {}
        return self._retry(number, wanted)

    def _retry(self, number: int, wanted: Next) -> Retry:
        hint = hint_of(number, wanted, self.options.time_limit_s) | {"compile_limit_s": wanted.compile_limit_s}
        return Retry(f"test {number}: {wanted.reason}", hint=hint, result=self.result(pending=number))

    def result(self, pending: int | None = None) -> dict[str, object]:
        """Return the result so far, in SandboxFusion's shape.

        Args:
            pending: the number of the test that will be run again, if any.
        """
        records = list(takewhile(bool, self.records))
        if pending is not None and not self.options.all_tests:
            records = records[: pending + 1]
        verdict = self._verdict_of(records)
        raised_s = [record.get("time_limit_s", 0.0) for record in records]
        result: dict[str, object] = {
            "accepted": verdict == Verdict.ACCEPTED,
            "verdict": verdict,
            "tests": records,
            "tests_total": len(self.tests),
            "limits": {
                "time_limit_s": max([self.options.time_limit_s, *raised_s]),
                "compile_limit_s": self.options.compile_limit_s,
                "memory_limit_mb": self.options.memory_limit_mb,
            },
            "load": self.load,
            "api_used": self.endpoint,
        }
        return result | ({"attempts": [a.record() for a in self.attempts]} if self.attempts else {})

    def _verdict_of(self, records: Sequence[Mapping[str, object]]) -> str:
        for record in records:
            if not record["passed"]:
                return verdict_of(record)
        return str(Verdict.ACCEPTED if len(records) == len(self.tests) else Verdict.JUDGE_ERROR)


def _too_long(number: int, outcome: TestOutcome) -> NotSupportedError:
    return NotSupportedError(
        f"test {number} wrote {outcome.detail}: a SandboxFusion server cuts or stalls what is longer than 128 KiB, and "
        "a longer limit doesn't help. Judge this problem with LocalSandbox."
    )


def hint_of(test: int | None, wanted: Next, base_limit_s: float | None) -> dict[str, object]:
    """Return the hint that makes a later call of the judge run a test again, also after a restart."""
    return {
        "test": test,
        "time_limit_s": wanted.time_limit_s,
        "alone": wanted.alone,
        "avoid": list(wanted.avoid),
        "base_limit_s": base_limit_s,
    }


# ---- saved results


def verdict_of(record: object) -> str:
    """Return the verdict of one test, from its record."""
    if inner(record, "passed") is True:
        return str(Verdict.ACCEPTED)
    saved = inner(record, "verdict") or verdicts.of({"accepted": False, "tests": [record]})
    return str(saved or Verdict.JUDGE_ERROR)


def history(result: Mapping[str, object]) -> list[Attempt]:
    """Return the attempts at the test that decided a saved result, as recorded or derived from the result.

    The list is empty if the result doesn't record its limit, or if no time limit decided it.

    Example:
        >>> history({"verdict": "TimeLimitExceeded", "tests": []})
        []
    """
    deciding = _deciding(result.get("tests"))
    if deciding is None:
        return []
    recorded = result.get("attempts")
    if isinstance(recorded, list) and recorded:
        return _at([Attempt.read(a) for a in recorded if isinstance(a, Mapping)], deciding)
    return _derived(result, deciding)


def _deciding(records: object) -> int | None:
    """Return the number of the first test that failed, if its time limit was exceeded."""
    for number, record in enumerate(records if isinstance(records, list) else ()):
        if (verdict := verdict_of(record)) != Verdict.ACCEPTED:
            return number if verdict == _LATE else None
    return None


def _at(attempts: Iterable[Attempt], test: int) -> list[Attempt]:
    """Return the attempts at one test that weren't ended by the compiler's limit."""
    return [a for a in attempts if a.test == test and a.compile_limit_s is None]


def _derived(result: Mapping[str, Any], test: int) -> list[Attempt]:
    """Return the attempt that a record of a test describes; nothing if the record doesn't have enough."""
    record = result["tests"][test]
    limit, expected = inner(result, "limits", "time_limit_s"), inner(record, "test_info", "output", "stdout")
    if not isinstance(limit, int | float) or record.get("cut") or not isinstance(expected, str):
        return []
    run = inner(record, "exec_info", "run_result") or {}
    written, share = look_at(expected, run.get("stdout") or "", worked=_worked(run, limit))
    load = record.get("load", result.get("load", 1))
    endpoint = str(result.get("api_used") or "").removesuffix("/submit").removesuffix("/run_code")
    return [Attempt(str(_LATE), float(limit), int(load), endpoint, test, str(written), share)]


def _worked(run: Mapping[str, Any], limit_s: float) -> bool:
    """Return whether a run without output shows a sign of work. LocalSandbox reports CPU time beside the wall time."""
    return bool(run.get("stderr")) or (float(run.get("execution_time") or 0) > limit_s / 2 and "wall_time" in run)


def _describes(record: object, test: Mapping[str, Any]) -> bool:
    """Return whether a record belongs to a test; its copies of the test's input and output may be truncated."""
    cut = inner(record, "cut") or {}
    for key, stream in (("input", "stdin"), ("output", "stdout")):
        text, whole = inner(record, "test_info", key, stream), test[key]
        if text != whole and not (key in cut and _begins(whole, text)):
            return False
    return True


def _begins(whole: str, text: object) -> bool:
    """Return whether a text was truncated to `text`, perhaps inside a character."""
    return isinstance(text, str) and whole.startswith(text.rstrip("\ufffd"))
