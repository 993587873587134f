"""Sends a request to endpoints of the pool until one answers it properly: a failing endpoint costs the task only time.

Called by many worker threads at once. Each failure of an endpoint is reported to the pool, and the next endpoint is
tried. The caller gets an error only if no endpoint is left:

    Unreachable      the endpoint never got the request, or has    next endpoint; none left: JudgeUnavailableError
                     vanished since
    RequestLost      a living endpoint didn't respond in time,     next endpoint; none left: JudgeUnavailableError, or
                     or broke the connection                       JudgeError after MAX_LOST_CALLS calls of this task
    EndpointFault    500, an invalid answer, or another service    next endpoint; none left: JudgeError
    MissingRuntime   the endpoint lacks the language's runtime     next endpoint; none left: JudgeError
    400, 413, 422    the request is wrong                          JudgeError at once
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

from nbrun.errors import JudgeError, JudgeUnavailableError
from nbrun.judge.checkers import DEFAULT
from nbrun.judge.fusion.answers import Fault, InvalidAnswer, JudgingRules, TestOutcome, read_run
from nbrun.judge.fusion.connection import (
    Call,
    Connection,
    RequestLost,
    Response,
    TooManyOpenFiles,
    Unreachable,
)
from nbrun.judge.fusion.endpoints import Endpoint, Lease, NoEndpoint, Pool
from nbrun.judge.fusion.protocol import Program, Request, RunOptions, run_code
from nbrun.tuning import TUNING
from nbrun.verdicts import Verdict

#: After this many endpoints have failed a request, it isn't sent to another one.
MAX_FAILURES = 6
#: If living endpoints have lost a task's request in this many calls, the task itself is considered the cause.
MAX_LOST_CALLS = 3
_ALIVE_S = 5.0  # an endpoint that answered anything within this time isn't pinged
_PINGED_AT_ONCE = 32
_REQUEST_IS_WRONG = (400, 413, 422)
#: The status codes of a SandboxFusion server that fails, or of a gateway before it.
_SERVER_FAILED = (429, 500, 502, 503, 504)
_SHOWN = 400
_MOST_SHOWN = 3
#: Programs that exit normally wherever their language is installed.
_TRIALS = {"python": "pass", "bash": "true", "lua": "", "perl": "1;", "ruby": "", "php": "<?php\n", "nodejs": ";"}
_EMPTY_TEST = {"input": "", "output": ""}

#: Turns the body of an answer into the outcomes of tests.
Reader = Callable[[bytes], list[TestOutcome]]


class NoOtherEndpoint(Exception):
    """All endpoints in use are among those to avoid."""


class EndpointFault(Exception):
    """An endpoint gave an invalid or failed answer."""


class MissingRuntime(Exception):
    """An endpoint can't run the language."""


class Reply(NamedTuple):
    """The outcomes of a request's tests, and where they ran.

    Attributes:
        endpoint: the endpoint that answered the request.
        load: the largest number of our programs that ran there at once during the request.
    """

    outcomes: list[TestOutcome]
    endpoint: str
    load: int


class _Failure(NamedTuple):
    endpoint: str
    text: str
    kind: type[Exception]


class Client:
    """Sends requests to the endpoints of a pool.

    Args:
        read_timeout_s: how long an answer may take; None uses the request's `timeout_s`.
    """

    def __init__(
        self, pool: Pool, headers: Mapping[str, str], read_timeout_s: float | None, connect_timeout_s: float
    ) -> None:
        self.pool, self._read_timeout_s, self._connect_timeout_s = pool, read_timeout_s, connect_timeout_s
        self._headers = {"Content-Type": "application/json", **headers}
        self._lock = threading.Lock()  # protects _lost
        self._lost: dict[object, int] = {}  # task -> the number of its calls that were lost

    def send(
        self,
        request: Request,
        read: Reader,
        call: Call,
        language: str,
        task: object,
        *,
        alone: bool = False,
        avoid: Collection[str] = (),
    ) -> Reply:
        """Return the first proper answer to a request.

        Args:
            task: the key under which lost requests are counted.
            alone: use an endpoint on which no other request of ours runs.
            avoid: names of endpoints not to use.

        Raises:
            JudgeError: the request is wrong, too many endpoints failed it, or the call was cancelled.
            JudgeUnavailableError: no endpoint is left to try.
            NoOtherEndpoint: all endpoints in use are in `avoid`.
        """
        failures: list[_Failure] = []
        while True:
            try:
                tried = {*avoid, *(f.endpoint for f in failures)}
                lease = self.pool.acquire(call, request.weight, language, alone=alone, avoid=tried)
            except NoEndpoint:
                self._raise_no_endpoint(failures, bool(avoid), language, task)
            try:
                is_doubtful = any(f.kind in (Unreachable, RequestLost) for f in failures)
                outcomes = self._try(lease, request, read, call, language, is_doubtful)
            except (Unreachable, RequestLost, EndpointFault, MissingRuntime) as e:
                failures.append(self._failure(lease.endpoint, e, call))
                if sum(f.kind is not Unreachable for f in failures) >= MAX_FAILURES:
                    raise JudgeError(
                        f"{len(failures)} endpoints failed it: {_summary(failures)}", retriable=False
                    ) from e
                continue
            with self._lock:
                self._lost.pop(task, None)
            return Reply(outcomes, lease.endpoint.name, lease.load)

    def _try(
        self, lease: Lease, request: Request, read: Reader, call: Call, language: str, is_doubtful: bool
    ) -> list[TestOutcome]:
        """Send a request to the endpoint of a lease, and end the lease. If `is_doubtful`, ping the endpoint first."""
        pool, connection = self.pool, self.pool.connection(lease)
        began = time.monotonic()
        try:
            if (lease.is_probe or is_doubtful) and not pool.was_alive(lease.endpoint, _ALIVE_S):
                self._ping(connection, call)
                began = time.monotonic()
            outcomes = self._outcomes(connection, request, read, call, language)
        except (Unreachable, RequestLost, EndpointFault) as e:
            pool.fail(lease, str(e), is_unreachable=not isinstance(e, EndpointFault))
            raise
        except MissingRuntime as e:
            pool.release(lease, is_alive=True, note=str(e), missing_runtime=language)
            raise
        except TooManyOpenFiles as e:
            pool.release(lease)
            raise JudgeUnavailableError(
                f"This process can open no more connections: {e}. Raise its limit (`ulimit -n`), or use fewer workers."
            ) from e
        except BaseException:  # cancelled, or raised by a checker
            pool.release(lease, is_alive=not call.is_cancelled)
            raise
        pool.succeed(lease, time.monotonic() - began)
        return outcomes

    def _failure(self, endpoint: Endpoint, e: Exception, call: Call) -> _Failure:
        """Classify an exception. A lost request counts against the request only if the endpoint is still alive."""
        kind = type(e)
        if kind is RequestLost:
            connection = Connection(endpoint.address, min(TUNING.ping_s, self._connect_timeout_s))
            try:
                self._ping(connection, call)
            except (Unreachable, EndpointFault, TooManyOpenFiles):
                kind = Unreachable
            finally:
                connection.close()
        return _Failure(endpoint.name, str(e), kind)

    def _outcomes(
        self, connection: Connection, request: Request, read: Reader, call: Call, language: str
    ) -> list[TestOutcome]:
        """Return an endpoint's outcomes of the tests.

        A program may print "command not found" itself. To distinguish that from a missing runtime, the endpoint then
        runs a known program.
        """
        outcomes = self._exchange(connection, request, read, call)
        missing = next((o for o in outcomes if o.fault is Fault.NO_RUNTIME), None)
        if missing is None:
            return outcomes
        has_run = missing.record["exec_info"].get("run_result") is not None
        if not (has_run and self._runs(connection, language, call)):
            raise MissingRuntime(f"it can't run {language}: {missing.detail}")
        outcomes = self._exchange(connection, request, read, call)  # the runtime may have been missing for a moment
        for outcome in outcomes:
            outcome.blame_program()
        return outcomes

    def _runs(self, connection: Connection, language: str, call: Call) -> bool:
        """Return whether an endpoint can run a known program of a language; False if `_TRIALS` has none."""
        if language not in _TRIALS:
            return False
        program = Program(language, language, _TRIALS[language])
        request = run_code(program, _EMPTY_TEST, RunOptions(10.0, 10.0, None, False))
        read = partial(read_run, tests=[_EMPTY_TEST], rules=JudgingRules(DEFAULT, True, 0))
        tried = self._exchange(connection, request, read, call)
        return any(o.fault is None and o.verdict in (Verdict.ACCEPTED, Verdict.WRONG_ANSWER) for o in tried)

    def _exchange(self, connection: Connection, request: Request, read: Reader, call: Call) -> list[TestOutcome]:
        timeout_s = self._read_timeout_s or request.timeout_s
        response = connection.send("POST", request.path, request.body, self._headers, timeout_s, call)
        return _interpret(response, request.path, read)

    def _raise_no_endpoint(self, failures: Sequence[_Failure], is_picky: bool, language: str, task: object) -> NoReturn:
        """Raise the error that fits the failures so far; called when no endpoint is left."""
        if is_picky and not failures and self.pool.has_healthy():
            raise NoOtherEndpoint from None
        if not self.pool.able(language, healthy=False):
            raise JudgeError(
                f"none of the {len(self.pool.endpoints)} endpoints can run {language}. {_summary(failures)}".rstrip(),
                retriable=False,
            ) from None
        if any(f.kind in (EndpointFault, MissingRuntime) for f in failures):
            raise JudgeError(f"every endpoint that could be asked failed: {_summary(failures)}") from None
        if any(f.kind is RequestLost for f in failures) and self._count_lost(task) >= MAX_LOST_CALLS:
            summary = _summary(failures)
            raise JudgeError(
                f"endpoints that are alive lost the request, in {MAX_LOST_CALLS} rounds: {summary}"
            ) from None
        raise JudgeUnavailableError(self._unavailable()) from None

    def _count_lost(self, task: object) -> int:
        """Count a lost call of a task, and return how many were lost; after `MAX_LOST_CALLS` the count begins again."""
        with self._lock:
            lost = self._lost.pop(task, 0) + 1
            if lost < MAX_LOST_CALLS:
                self._lost[task] = lost
            return lost

    def _unavailable(self) -> str:
        errors = self.pool.errors()
        summary = _summary([_Failure(name, text, RequestLost) for name, text in errors.items()])
        count = len(self.pool.endpoints)
        which = "The SandboxFusion endpoint" if count == 1 else f"None of the {count} SandboxFusion endpoints"
        return (
            f"{which} can{'not' if count == 1 else ''} be reached ({summary}). "
            "The run goes on by itself when one is back."
        )

    # ---- pings

    def _ping(self, connection: Connection, call: Call) -> None:
        """Ping an endpoint.

        Raises:
            Unreachable: it doesn't answer.
            EndpointFault: its answer reports that it is out of order.
        """
        try:
            response = connection.send("GET", "/v1/ping", b"", self._headers, TUNING.ping_s, call)
        except RequestLost as e:
            raise Unreachable(str(e)) from e
        if response.status >= 500:
            raise EndpointFault(f"it answers /v1/ping with {response.status}: {_detail(response.body)}")

    def has_endpoint(self) -> bool:
        """Return whether a request can be sent; ping the endpoints that are out of order, several at once."""
        is_in_use = self.pool.has_healthy()  # it may lack a runtime that a task needs, so the others are pinged too
        endpoints = self.pool.to_ping(_PINGED_AT_ONCE)
        alive: list[Endpoint] = []
        threads = [
            threading.Thread(target=self._ping_endpoint, args=(e, alive), name="nbrun-ping", daemon=True)
            for e in endpoints
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 2 * TUNING.ping_s
        for thread in threads:
            thread.join(0.05 if alive or is_in_use else max(0.0, deadline - time.monotonic()))
        return is_in_use or bool(alive)

    def _ping_endpoint(self, endpoint: Endpoint, alive: list[Endpoint]) -> None:
        connection = Connection(endpoint.address, min(TUNING.ping_s, self._connect_timeout_s))
        try:
            self._ping(connection, Call())
        except (Unreachable, EndpointFault, TooManyOpenFiles):
            return
        finally:
            connection.close()
        self.pool.mark_alive(endpoint)
        alive.append(endpoint)


def _interpret(response: Response, path: str, read: Reader) -> list[TestOutcome]:
    """Return the outcomes in a response.

    Raises:
        JudgeError: the server refuses the request.
        EndpointFault: the server failed, or isn't a SandboxFusion server.
    """
    if response.status in _REQUEST_IS_WRONG:
        raise JudgeError(
            f"the server refuses the request ({response.status} to {path}): {_detail(response.body)}", retriable=False
        )
    if response.status != 200:
        hint = "" if response.status in _SERVER_FAILED else "; is a SandboxFusion server there?"
        raise EndpointFault(f"it answers {path} with {response.status} ({_detail(response.body)}){hint}")
    try:
        outcomes = read(response.body)
    except InvalidAnswer as e:
        raise EndpointFault(f"it answers {path}, but {e}; is a SandboxFusion server there?") from None
    for outcome in outcomes:
        if outcome.fault is Fault.SERVER_FAILED:
            raise EndpointFault(f"it failed: {outcome.detail}")
    return outcomes


def _summary(failures: Sequence[_Failure]) -> str:
    """List the failures with their endpoints for a message, each text once."""
    by_text: dict[str, list[str]] = {}
    for f in failures:
        by_text.setdefault(f.text, []).append(f.endpoint)
    parts = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}"
        for text, names in by_text.items()
    ]
    more = f"; and {len(parts) - _MOST_SHOWN} more" if len(parts) > _MOST_SHOWN else ""
    return "; ".join(parts[:_MOST_SHOWN]) + more


def _detail(body: bytes) -> str:
    """Return why a server refused a request, in one line."""
    text = body[: 8 * _SHOWN].decode("utf-8", "replace")
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError):
        pass
    else:
        if isinstance(detail, list):  # FastAPI lists one problem for each field
            detail = "; ".join(
                f"{'.'.join(map(str, d.get('loc', ())))}: {d.get('msg', d)}" if isinstance(d, Mapping) else str(d)
                for d in detail
            )
        text = str(detail)
    if text.lstrip()[:1] == "<":
        return "a web page"
    text = " ".join(text.split()).rstrip(".: ")
    return text[:_SHOWN] + ("…" if len(text) > _SHOWN else "") or "nothing more"
