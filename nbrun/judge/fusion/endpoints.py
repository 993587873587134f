"""The endpoints of one judge: their health, and the client that sends a request until one of them answers it properly.

The least busy healthy endpoint gets the next request; the results of requests determine the health. Each endpoint has a
circuit breaker: it is *closed* (in use), *open* (not used during a cooldown that doubles each time), or *half-open*
(the cooldown is over: it is pinged, and one request may try it). The breaker opens at once if an endpoint can't be
reached or loses requests, and after THRESHOLD bad answers in a row. The caller gets an error only if no endpoint is
left:

    Unreachable      the endpoint never got the request, or has    next endpoint; none left: JudgeUnavailableError
                     vanished since
    RequestLost      a living endpoint didn't respond in time,     next endpoint; none left: JudgeUnavailableError, or
                     or broke the connection                       JudgeError after MAX_LOST_CALLS calls of this task
    EndpointFault    500, an invalid answer, or another service    next endpoint; none left: JudgeError
    MissingRuntime   the endpoint lacks the language's runtime     next endpoint; none left: JudgeError
    400, 413, 422    the request is wrong                          JudgeError at once

Threads: every method of Pool and Client may be called from any thread; their locks are never held over I/O.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypedDict

from nbrun.errors import JudgeError, JudgeUnavailableError
from nbrun.judge.checkers import DEFAULT
from nbrun.judge.fusion.connection import (
    Address,
    Call,
    Connection,
    RequestLost,
    Response,
    TooManyOpenFiles,
    Unreachable,
)
from nbrun.judge.fusion.protocol import (
    Fault,
    InvalidAnswer,
    JudgingRules,
    Program,
    Request,
    RunOptions,
    TestOutcome,
    run_code,
)
from nbrun.tuning import TUNING
from nbrun.verdicts import Verdict

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
#: The longest cooldown of an endpoint.
MAX_COOLDOWN_S = 60.0
#: This many bad answers in a row open the breaker.
THRESHOLD = 3
#: For how long an endpoint without a language's runtime gets no request in that language.
MISSING_RUNTIME_S = 60.0
_CHECK_EVERY_S = 5.0


class Health(TypedDict):
    """A row of `SandboxFusion.health()`."""

    name: str
    state: str
    in_flight: int
    mean_s: float | None
    last_error: str


class NoEndpoint(Exception):
    """No endpoint can take the request now."""


class Endpoint:
    """One server and its state. Protected by the pool's lock."""

    def __init__(self, address: Address) -> None:
        self.address, self.name = address, address.name
        self.state = CLOSED
        self.in_flight = 0
        self.load = 0  # the number of our programs that run there now
        self.leases: set[Lease] = set()
        self.idle_connections: list[Connection] = []
        self.failures = 0  # in a row
        self.is_unreachable = False  # the reason why it is open: unreachable or losing requests (True), or bad answers
        self.cooldown_s = TUNING.cooldown_s
        self.open_until = 0.0
        self.alive_at = 0.0  # when it last answered anything
        self.reserved_for: Waiter | Lease | None = None  # waits to be alone there, or is: no other request may start
        self.mean_s: float | None = None
        self.last_error = ""
        self.missing_runtimes: dict[str, float] = {}  # language -> the time until which it gets no request in it

    def can_run(self, language: str, now: float) -> bool:
        """Return whether it isn't known to lack a language's runtime."""
        return self.missing_runtimes.get(language, 0.0) < now

    def health(self) -> Health:
        """Return its row of `SandboxFusion.health()`."""
        mean_s = self.mean_s and round(self.mean_s, 4)
        return Health(
            name=self.name, state=self.state, in_flight=self.in_flight, mean_s=mean_s, last_error=self.last_error
        )


class Lease:
    """One request's place at an endpoint.

    Attributes:
        weight: how many programs the request runs at once.
        load: the largest number of our programs that have run there at once during the lease.
    """

    def __init__(self, endpoint: Endpoint, weight: int, is_probe: bool) -> None:
        self.endpoint, self.weight, self.is_probe = endpoint, weight, is_probe
        self.load = weight
        self.connection: Connection | None = None


class FreeEndpoints:
    """The closed endpoints with a free place, by their number of requests in flight. Protected by the pool's lock.

    Args:
        endpoints: all endpoints; none of them has a request yet.
        most: how many requests one endpoint takes at once.
    """

    def __init__(self, endpoints: Iterable[Endpoint], most: int) -> None:
        self._rows: list[dict[Endpoint, None]] = [{} for _ in range(most)]
        self._rows[0] = dict.fromkeys(endpoints)

    def __contains__(self, endpoint: Endpoint) -> bool:
        return endpoint.in_flight < len(self._rows) and endpoint in self._rows[endpoint.in_flight]

    def least_busy_first(self, idle: bool = False) -> Iterator[Endpoint]:
        """Yield the endpoints, or only the idle ones; among equally busy ones, the least recently used one first."""
        for row in self._rows[: 1 if idle else None]:
            yield from row

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint as the most recently used of the equally busy ones; do nothing if it has no free place."""
        if endpoint.in_flight < len(self._rows):
            self._rows[endpoint.in_flight][endpoint] = None

    def discard(self, endpoint: Endpoint) -> None:
        """Remove an endpoint; must be called before its number of requests changes."""
        if endpoint.in_flight < len(self._rows):
            self._rows[endpoint.in_flight].pop(endpoint, None)


class Waiter:
    """A worker that waits for a place: the endpoints that it may use, and the lease once it has one."""

    def __init__(self, weight: int, language: str, alone: bool, avoid: Collection[str]) -> None:
        self.weight, self.language, self.alone, self.avoid = weight, language, alone, avoid
        self.woken = threading.Event()
        self.lease: Lease | None = None

    def may_use(self, endpoint: Endpoint, now: float) -> bool:
        """Return whether an endpoint can serve this worker, now or later."""
        return endpoint.name not in self.avoid and endpoint.can_run(self.language, now)

    def may_enter(self, endpoint: Endpoint, now: float) -> bool:
        """Return whether this worker may use the free place of a closed endpoint."""
        if endpoint.reserved_for not in (None, self) or (self.alone and endpoint.in_flight):
            return False
        return self.may_use(endpoint, now)


class Pool:
    """The endpoints of one judge.

    Args:
        max_in_flight: how many requests one endpoint takes at once.
    """

    def __init__(self, addresses: Sequence[Address], max_in_flight: int, connect_timeout_s: float) -> None:
        self._lock = threading.Lock()  # protects everything below and all endpoints
        self._connect_timeout_s = connect_timeout_s
        self.endpoints = {a.name: Endpoint(a) for a in addresses}
        self._free = FreeEndpoints(self.endpoints.values(), max_in_flight)
        self._open: dict[Endpoint, None] = {}
        self._waiting: dict[Waiter, None] = {}  # in the order of arrival

    # ---- called by workers

    def acquire(
        self, call: Call, weight: int, language: str, *, alone: bool = False, avoid: Collection[str] = ()
    ) -> Lease:
        """Return a place at an endpoint that isn't in `avoid`; wait while all of them are busy.

        Raises:
            NoEndpoint: none of the endpoints that may be used is healthy.
            JudgeError: the call was cancelled.
        """
        waiter = Waiter(weight, language, alone, avoid)
        try:
            while True:
                call.check()
                with self._lock:
                    until = self._assign(waiter)
                    if waiter.lease is not None:
                        lease, waiter.lease = waiter.lease, None
                        return lease
                waiter.woken.wait(min(_CHECK_EVERY_S, max(0.01, until - time.monotonic())))
                waiter.woken.clear()
        finally:
            with self._lock:
                self._remove_waiter(waiter)

    def succeed(self, lease: Lease, seconds: float) -> None:
        """End a lease whose request was answered properly."""
        endpoint = lease.endpoint
        with self._lock:
            endpoint.failures, endpoint.cooldown_s, endpoint.is_unreachable = 0, TUNING.cooldown_s, False
            old = endpoint.mean_s
            endpoint.mean_s = seconds if old is None else old + 0.2 * (seconds - old)
            endpoint.alive_at = time.monotonic()
            self._give_back(lease)
            self._close_breaker(endpoint)

    def fail(self, lease: Lease, error: str, *, is_unreachable: bool) -> None:
        """End a lease whose request was not answered, or answered badly."""
        endpoint = lease.endpoint
        with self._lock:
            endpoint.failures += 1
            endpoint.last_error = error
            if is_unreachable or lease.is_probe or endpoint.state != CLOSED or endpoint.failures >= THRESHOLD:
                self._open_breaker(endpoint, is_unreachable)
            self._give_back(lease)

    def release(self, lease: Lease, *, is_alive: bool = False, note: str = "", missing_runtime: str = "") -> None:
        """End a lease without a failure of the endpoint: the call was cancelled, or was itself at fault.

        Args:
            is_alive: whether the endpoint answered.
            note: the endpoint's new `last_error`; empty keeps the old one.
            missing_runtime: a language for which the endpoint has no runtime.
        """
        with self._lock:
            endpoint = lease.endpoint
            endpoint.last_error = note or endpoint.last_error
            if missing_runtime:
                endpoint.missing_runtimes[missing_runtime] = time.monotonic() + MISSING_RUNTIME_S
            self._give_back(lease)
            if is_alive:
                endpoint.failures, endpoint.is_unreachable, endpoint.alive_at = 0, False, time.monotonic()
                self._close_breaker(endpoint)
            elif endpoint.state == HALF_OPEN:
                endpoint.state = OPEN  # and its cooldown is over already

    def connection(self, lease: Lease) -> Connection:
        """Return a connection for a lease, an idle one if there is one."""
        if lease.connection is None:
            with self._lock:
                idle = lease.endpoint.idle_connections
                known = idle.pop() if idle else None
            lease.connection = known or Connection(lease.endpoint.address, self._connect_timeout_s)
        return lease.connection

    def was_alive(self, endpoint: Endpoint, within_s: float) -> bool:
        """Return whether an endpoint has answered anything within the last `within_s` seconds."""
        with self._lock:
            return time.monotonic() - endpoint.alive_at < within_s

    # ---- called by any thread

    def able(self, language: str) -> list[str]:
        """Return the names of the endpoints in use that aren't known to lack a language's runtime."""
        with self._lock:
            now = time.monotonic()
            return [e.name for e in self.endpoints.values() if e.state == CLOSED and e.can_run(language, now)]

    def has_runtime(self, language: str) -> bool:
        """Return whether any endpoint, in use or not, isn't known to lack a language's runtime."""
        with self._lock:
            now = time.monotonic()
            return any(e.can_run(language, now) for e in self.endpoints.values())

    def health(self) -> list[Health]:
        """Return a row for each endpoint."""
        with self._lock:
            return [endpoint.health() for endpoint in self.endpoints.values()]

    def errors(self) -> dict[str, str]:
        """Return the last error of each endpoint that is not in use."""
        with self._lock:
            return {e.name: e.last_error for e in self.endpoints.values() if e.state != CLOSED}

    def has_healthy(self) -> bool:
        """Return whether any endpoint is in use."""
        with self._lock:
            return len(self._open) < len(self.endpoints)

    def to_ping(self, at_most: int) -> list[Endpoint]:
        """Return open endpoints to ping, the least recently pinged ones first, and move them to the end."""
        with self._lock:
            found = [e for e in self._open if e.state == OPEN][:at_most]
            for endpoint in found:
                self._open.pop(endpoint)
                self._open[endpoint] = None
            return found

    def mark_alive(self, endpoint: Endpoint) -> None:
        """End the cooldown of an endpoint that answered a ping, so that one request may try it."""
        with self._lock:
            endpoint.alive_at = time.monotonic()
            endpoint.open_until = 0.0
            self._wake_waiters()

    def wake_waiters(self) -> None:
        """Wake all waiting workers, so that cancelled calls end."""
        with self._lock:
            self._wake_waiters()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            idle = [connection for e in self.endpoints.values() for connection in e.idle_connections]
            for endpoint in self.endpoints.values():
                endpoint.idle_connections = []
        for connection in idle:
            connection.close()

    # ---- called with the lock held

    def _assign(self, waiter: Waiter) -> float:
        """Give the waiter a lease if a place is free; otherwise return the time until which it should wait."""
        now = time.monotonic()
        if waiter.lease is not None or self._assign_due(waiter, now) or self._assign_free(waiter, now):
            return now
        usable = [e for e in self.endpoints.values() if waiter.may_use(e, now)]
        if self._assign_unhealthy(waiter, usable, now):
            return now
        if waiter.alone:
            self._reserve(waiter, usable)
        self._waiting.setdefault(waiter)
        return min((e.open_until for e in usable if e.state == OPEN), default=now + _CHECK_EVERY_S)

    def _assign_due(self, waiter: Waiter, now: float) -> bool:
        """Give the waiter an open endpoint whose cooldown is over; return whether it got one."""
        due = (e for e in self._open if e.state == OPEN and e.open_until <= now)
        return any(self._probe(waiter, endpoint, now) for endpoint in due)

    def _assign_free(self, waiter: Waiter, now: float) -> bool:
        """Give the waiter the least busy place that is free; return whether it got one."""
        for endpoint in self._free.least_busy_first(waiter.alone):
            if waiter.may_enter(endpoint, now):
                self._grant(endpoint, waiter, is_probe=False)
                return True
        return False

    def _assign_unhealthy(self, waiter: Waiter, usable: Sequence[Endpoint], now: float) -> bool:
        """Give the waiter an open endpoint with bad answers, if there is no better one; return whether it got one.

        Raises:
            NoEndpoint: no endpoint can be reached.
        """
        if any(e.state != OPEN for e in usable):
            return False
        reachable = [e for e in usable if not e.is_unreachable]
        if not reachable:
            raise NoEndpoint
        return any(self._probe(waiter, endpoint, now) for endpoint in reachable)

    def _reserve(self, waiter: Waiter, usable: Sequence[Endpoint]) -> None:
        """Reserve the least busy endpoint for a waiter that must be alone: it gets no other request meanwhile."""
        busy = [e for e in usable if e.state == CLOSED]
        unreserved = [e for e in busy if e.reserved_for is None]
        if unreserved and waiter not in (e.reserved_for for e in busy):
            min(unreserved, key=lambda e: e.in_flight).reserved_for = waiter

    def _probe(self, waiter: Waiter, endpoint: Endpoint, now: float) -> bool:
        """Give the waiter an open endpoint to try, unless another request tries it; return whether it got it."""
        if endpoint.in_flight or not waiter.may_use(endpoint, now):
            return False
        endpoint.state = HALF_OPEN
        self._grant(endpoint, waiter, is_probe=True)
        return True

    def _remove_waiter(self, waiter: Waiter) -> None:
        """Remove a worker that no longer waits, and give back the lease that it may have been granted meanwhile."""
        self._waiting.pop(waiter, None)
        if waiter.lease is not None:
            self._give_back(waiter.lease)
        if waiter.alone:
            for endpoint in self.endpoints.values():
                if endpoint.reserved_for is waiter:
                    endpoint.reserved_for = None
                    self._offer(endpoint)

    def _grant(self, endpoint: Endpoint, waiter: Waiter, is_probe: bool) -> None:
        lease = waiter.lease = Lease(endpoint, waiter.weight, is_probe)
        endpoint.reserved_for = lease if waiter.alone else None
        self._set_in_flight(endpoint, endpoint.in_flight + 1)
        endpoint.leases.add(lease)
        endpoint.load += lease.weight
        for other in endpoint.leases:
            other.load = max(other.load, endpoint.load)
        self._waiting.pop(waiter, None)

    def _give_back(self, lease: Lease) -> None:
        endpoint = lease.endpoint
        if lease not in endpoint.leases:
            return
        endpoint.leases.discard(lease)
        endpoint.load -= lease.weight
        if lease.connection is not None:
            endpoint.idle_connections.append(lease.connection)
            lease.connection = None
        if endpoint.reserved_for is lease:
            endpoint.reserved_for = None
        self._set_in_flight(endpoint, endpoint.in_flight - 1)
        self._offer(endpoint)

    def _offer(self, endpoint: Endpoint) -> None:
        """Give the free places of an endpoint to the workers that have waited longest and may use them."""
        now = time.monotonic()
        while endpoint in self._free:
            waiter = next((w for w in self._waiting if w.lease is None and w.may_enter(endpoint, now)), None)
            if waiter is None:
                return
            self._grant(endpoint, waiter, is_probe=False)
            waiter.woken.set()

    def _set_in_flight(self, endpoint: Endpoint, in_flight: int) -> None:
        self._free.discard(endpoint)
        endpoint.in_flight = in_flight
        if endpoint.state == CLOSED:
            self._free.add(endpoint)

    def _close_breaker(self, endpoint: Endpoint) -> None:
        if endpoint.state != CLOSED:
            endpoint.state = CLOSED
            self._open.pop(endpoint, None)
            self._set_in_flight(endpoint, endpoint.in_flight)
            self._offer(endpoint)
            self._wake_waiters()

    def _open_breaker(self, endpoint: Endpoint, is_unreachable: bool) -> None:
        was_open = endpoint.state == OPEN
        endpoint.state = OPEN
        endpoint.is_unreachable = is_unreachable
        endpoint.reserved_for = None
        self._free.discard(endpoint)
        self._open[endpoint] = None
        if not was_open:  # requests that were in flight there fail one by one, which counts as one fault
            endpoint.open_until = time.monotonic() + endpoint.cooldown_s
            endpoint.cooldown_s = min(2 * endpoint.cooldown_s, MAX_COOLDOWN_S)
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        for waiter in self._waiting:
            waiter.woken.set()


# ---- sending requests

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


class _Failures(list[_Failure]):
    """How endpoints have failed one request so far."""

    @property
    def are_doubtful(self) -> bool:
        """Whether the network may be at fault, so that the next endpoint may not be reached either."""
        return any(failure.kind in (Unreachable, RequestLost) for failure in self)

    @property
    def are_too_many(self) -> bool:
        """Return whether enough endpoints have failed the request that it must be at fault itself."""
        return sum(failure.kind is not Unreachable for failure in self) >= MAX_FAILURES


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
        self, request: Request, call: Call, task: object, *, alone: bool = False, avoid: Collection[str] = ()
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
        failures = _Failures()
        while True:
            try:
                tried = {*avoid, *(f.endpoint for f in failures)}
                lease = self.pool.acquire(call, request.weight, request.language, alone=alone, avoid=tried)
            except NoEndpoint:
                raise self._error_of(failures, bool(avoid), request.language, task) from None
            try:
                outcomes = self._try(lease, request, call, failures.are_doubtful)
            except (Unreachable, RequestLost, EndpointFault, MissingRuntime) as e:
                failures.append(self._failure(e, lease.endpoint, call))
                if failures.are_too_many:
                    raise JudgeError(
                        f"{len(failures)} endpoints failed it: {_summary(failures)}", retriable=False
                    ) from e
                continue
            with self._lock:
                self._lost.pop(task, None)
            return Reply(outcomes, lease.endpoint.name, lease.load)

    def _failure(self, e: Exception, endpoint: Endpoint, call: Call) -> _Failure:
        """Describe a failed request. If it was lost, that counts against it only if the endpoint is still alive."""
        is_gone = isinstance(e, RequestLost) and not self._is_alive(endpoint, call)
        return _Failure(endpoint.name, str(e), Unreachable if is_gone else type(e))

    def _try(self, lease: Lease, request: Request, call: Call, is_doubtful: bool) -> list[TestOutcome]:
        """Send a request to the endpoint of a lease, and end the lease. If `is_doubtful`, ping the endpoint first."""
        pool, connection = self.pool, self.pool.connection(lease)
        began = time.monotonic()
        try:
            if (lease.is_probe or is_doubtful) and not pool.was_alive(lease.endpoint, _ALIVE_S):
                self._ping(connection, call)
                began = time.monotonic()
            outcomes = self._outcomes(connection, request, call)
        except (Unreachable, RequestLost, EndpointFault) as e:
            pool.fail(lease, str(e), is_unreachable=not isinstance(e, EndpointFault))
            raise
        except MissingRuntime as e:
            pool.release(lease, is_alive=True, note=str(e), missing_runtime=request.language)
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

    def _outcomes(self, connection: Connection, request: Request, call: Call) -> list[TestOutcome]:
        """Return an endpoint's outcomes of the tests.

        A program may print "command not found" itself. To distinguish that from a missing runtime, the endpoint then
        runs a known program.
        """
        outcomes = self._exchange(connection, request, call)
        missing = next((outcome for outcome in outcomes if outcome.fault is Fault.NO_RUNTIME), None)
        if missing is None:
            return outcomes
        has_run = missing.record["exec_info"].get("run_result") is not None
        if not (has_run and self._runs(connection, request.language, call)):
            raise MissingRuntime(f"it can't run {request.language}: {missing.detail}")
        again = self._exchange(connection, request, call)  # the runtime may have been missing for a moment
        for outcome in again:
            outcome.blame_program()
        return again

    def _runs(self, connection: Connection, language: str, call: Call) -> bool:
        """Return whether an endpoint can run a known program of a language; False if `_TRIALS` has none."""
        code = _TRIALS.get(language)
        if code is None:
            return False
        program, rules = Program(language, language, code), JudgingRules(DEFAULT, True, 0)
        tried = self._exchange(
            connection, run_code(program, _EMPTY_TEST, RunOptions(10.0, 10.0, None, False), rules), call
        )
        return any(o.fault is None and o.verdict in (Verdict.ACCEPTED, Verdict.WRONG_ANSWER) for o in tried)

    def _exchange(self, connection: Connection, request: Request, call: Call) -> list[TestOutcome]:
        timeout_s = self._read_timeout_s or request.timeout_s
        response = connection.send("POST", request.path, request.body, self._headers, timeout_s, call)
        return _interpret(response, request)

    def _error_of(self, failures: _Failures, is_picky: bool, language: str, task: object) -> Exception:
        """Return the error that fits the failures so far; called when no endpoint is left."""
        if is_picky and not failures and self.pool.has_healthy():
            return NoOtherEndpoint()
        kinds, summary, count = {f.kind for f in failures}, _summary(failures), len(self.pool.endpoints)
        if not self.pool.has_runtime(language):
            why = f"none of the {count} endpoints can run {language}. {summary}".rstrip()
            return JudgeError(why, retriable=False)
        if kinds & {EndpointFault, MissingRuntime}:
            return JudgeError(f"every endpoint that could be asked failed: {summary}")
        if RequestLost in kinds and self._count_lost(task) >= MAX_LOST_CALLS:
            return JudgeError(f"endpoints that are alive lost the request, in {MAX_LOST_CALLS} rounds: {summary}")
        return self._unavailable(count)

    def _unavailable(self, count: int) -> JudgeUnavailableError:
        errors = _summary([_Failure(name, text, RequestLost) for name, text in self.pool.errors().items()])
        which = (
            "The SandboxFusion endpoint cannot" if count == 1 else f"None of the {count} SandboxFusion endpoints can"
        )
        return JudgeUnavailableError(f"{which} be reached ({errors}). The run goes on by itself when one is back.")

    def _count_lost(self, task: object) -> int:
        """Count a lost call of a task, and return how many were lost; after `MAX_LOST_CALLS` the count begins again."""
        with self._lock:
            lost = self._lost.pop(task, 0) + 1
            if lost < MAX_LOST_CALLS:
                self._lost[task] = lost
            return lost

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

        def ping(endpoint: Endpoint) -> None:
            if self._is_alive(endpoint, Call()):
                self.pool.mark_alive(endpoint)
                alive.append(endpoint)

        threads = [threading.Thread(target=ping, args=(e,), name="nbrun-ping", daemon=True) for e in endpoints]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 2 * TUNING.ping_s
        for thread in threads:
            thread.join(0.05 if alive or is_in_use else max(0.0, deadline - time.monotonic()))
        return is_in_use or bool(alive)

    def _is_alive(self, endpoint: Endpoint, call: Call) -> bool:
        """Return whether an endpoint answers a ping over a new connection."""
        connection = Connection(endpoint.address, min(TUNING.ping_s, self._connect_timeout_s))
        try:
            self._ping(connection, call)
        except (Unreachable, EndpointFault, TooManyOpenFiles):
            return False
        finally:
            connection.close()
        return True


def _interpret(response: Response, request: Request) -> list[TestOutcome]:
    """Return the outcomes in a response.

    Raises:
        JudgeError: the server refuses the request.
        EndpointFault: the server failed, or isn't a SandboxFusion server.
    """
    _check_status(response, request.path)
    try:
        outcomes = request.read(response.body)
    except InvalidAnswer as e:
        raise EndpointFault(f"it answers {request.path}, but {e}; is a SandboxFusion server there?") from None
    for outcome in outcomes:
        if outcome.fault is Fault.SERVER_FAILED:
            raise EndpointFault(f"it failed: {outcome.detail}")
    return outcomes


def _check_status(response: Response, path: str) -> None:
    status = response.status
    if status == 200:
        return
    detail = _detail(response.body)
    if status in _REQUEST_IS_WRONG:
        raise JudgeError(f"the server refuses the request ({status} to {path}): {detail}", retriable=False)
    hint = "" if status in _SERVER_FAILED else "; is a SandboxFusion server there?"
    raise EndpointFault(f"it answers {path} with {status} ({detail}){hint}")


def _summary(failures: Sequence[_Failure]) -> str:
    """List the failures with their endpoints for a message, each text once."""
    by_text: dict[str, list[str]] = {}
    for f in failures:
        by_text.setdefault(f.text, []).append(f.endpoint)
    parts = []
    for text, (first, *others) in by_text.items():
        parts.append(f"{first} and {len(others)} more: {text}" if others else f"{first}: {text}")
    if len(parts) > _MOST_SHOWN:
        parts[_MOST_SHOWN:] = [f"and {len(parts) - _MOST_SHOWN} more"]
    return "; ".join(parts)


def _detail(body: bytes) -> str:
    """Return why a server refused a request, in one line."""
    text = _problems(body)
    if text.lstrip()[:1] == "<":
        return "a web page"
    text = " ".join(text.split()).rstrip(".: ")
    return text[:_SHOWN] + ("…" if len(text) > _SHOWN else "") or "nothing more"


def _problems(body: bytes) -> str:
    """Return what the body of an error says; FastAPI lists one problem for each field."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError):
        return body[: 8 * _SHOWN].decode("utf-8", "replace")
    try:
        return "; ".join(f"{'.'.join(map(str, d.get('loc', ())))}: {d.get('msg', d)}" for d in [*detail])
    except (TypeError, AttributeError):  # others send a text, which has no fields
        return str(detail)
