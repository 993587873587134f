"""SandboxFusion: a function for `nbrun.start` that judges solutions on a pool of SandboxFusion servers.

Many worker threads call it at once; other threads may cancel calls and close it. Its only resources are connections.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from nbrun import verdicts
from nbrun.errors import InputError, JudgeError, JudgeUnavailableError
from nbrun.judge.checkers import DEFAULT, Checker, as_checker
from nbrun.judge.fusion.answers import JudgingRules
from nbrun.judge.fusion.client import Client, NoOtherEndpoint
from nbrun.judge.fusion.connection import Call, read_endpoints, read_headers
from nbrun.judge.fusion.endpoints import Health, Pool
from nbrun.judge.fusion.protocol import LANGUAGES, Program, RunOptions, check_sendable, read_program
from nbrun.judge.fusion.solution import Policy, Solution, hint_of, history
from nbrun.judge.problems import MEMORY_LIMIT_MB, TEST_SETS, TIME_LIMIT_S, RecentProblems, no_solutions
from nbrun.judge.time_limits import next_attempt
from nbrun.judge.validators import checker_of
from nbrun.model import Retry, Task
from nbrun.verdicts import Verdict

APIS = ("submit", "run_code")
COMPARISONS = ("nbrun", "server")
_PROBLEMS_KEPT = 64
#: How many times a fault of the servers is retried while a time limit is tried again.
_MAX_FAULTS = 3


class _Continuation(NamedTuple):
    """A saved result that is tried again, and the hint for the next attempt."""

    result: Mapping[str, object]
    hint: Mapping[str, Any]


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
        for name, value in {**self._numbers, **{f"time_factor[{k!r}]": v for k, v in self._factors.items()}}.items():
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"SandboxFusion: {name}={value!r}; give a number above 0, or None.")
        if max_in_flight < 1:
            raise InputError(f"SandboxFusion: max_in_flight={max_in_flight}; give 1 or more.")
        if keep_output_bytes is not None and keep_output_bytes < 0:
            raise InputError(
                f"SandboxFusion: keep_output_bytes={keep_output_bytes}; give a number of bytes, or None to keep all."
            )
        for name, choice, choices in (("api", api, APIS), ("comparison", comparison, COMPARISONS)):
            if choice not in choices:
                raise InputError(f"SandboxFusion: {name}={choice!r}; give one of {', '.join(map(repr, choices))}.")
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
        before, hint = task.previous, task.hint
        if not hint:
            with self._lock:
                continued = self._continued.get(_key(task))
            if continued is not None:
                before, hint = continued
        call = Call()
        with self._lock:
            self._calls[id(task)] = call
        if task.cancelled():
            call.cancel()
        try:
            solution = Solution(
                task.sample_id,
                program,
                problem["tests"],
                self._options(problem, program),
                self._policy(problem),
                self._client,
                call,
                _key(task),
                before if isinstance(before, Mapping) else None,
                hint,
            )
            result = solution.judge()
            with self._lock:
                self._continued.pop(_key(task), None)
            return result
        except NoOtherEndpoint:  # the rules need another endpoint and there is none: the last result is final
            assert isinstance(before, Mapping)
            return dict(before)
        except JudgeError as e:
            faults = int(hint.get("faults", 0))
            is_final = not e.retriable or isinstance(e, JudgeUnavailableError) or faults >= _MAX_FAULTS
            if not hint or call.is_cancelled or is_final:
                raise
            # The engine counts all attempts of a task together, but attempts at a time limit are not failures.
            return Retry(str(e), 2.0**faults, {**hint, "faults": faults + 1}, before)
        finally:
            with self._lock:
                del self._calls[id(task)]

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
        if not attempts:
            return False
        wanted = next_attempt(attempts, self._numbers["max_time_limit_s"], self._pool.endpoints)
        if wanted is None:
            return False
        first_limit_s = attempts[0].time_limit_s
        hint = hint_of(attempts[-1].test, wanted, first_limit_s)
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
            own = self._checker or checker_of(problem)
            checker = DEFAULT if own is None else as_checker(own)
            is_exact = checker is DEFAULT
        rules = JudgingRules(checker, is_exact, self._keep_output_bytes)
        return Policy(self._api, rules, self._numbers["max_time_limit_s"], self._max_compile_limit_s)


def _key(task: Task) -> tuple[str, str, int]:
    return task.sample_id, task.group, task.index
