"""Which endpoint gets the next request: the least busy one that is in health.

Health comes from what requests meet. An endpoint is *closed* (in use), *open* (left alone for a while, doubled each
time), or *half-open* (that while is over: it is asked for a sign of life, and one request may try it). One that can't
be reached, or that loses requests, is open at once; one that answers badly, after THRESHOLD bad answers in a row.

Threads: all of Pool may be called from any; its lock is never held over I/O.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

from nbrun.judge.fusion.addresses import Address
from nbrun.judge.fusion.endpoints import CLOSED, COOL_S, HALF_OPEN, MOST_COOL_S, OPEN, Endpoint, Free, Turn, Waiter
from nbrun.judge.fusion.wire import Call, Line

#: So many bad answers in a row open the breaker.
THRESHOLD = 3
#: How long an endpoint that has no runtime for a language isn't asked for it.
LACKS_S = 60.0
_LOOK_EVERY_S = 5.0


class Nowhere(Exception):
    """No endpoint can take the request now. `is_gone`: there are some that may, but none of them can be reached."""

    def __init__(self, is_gone: bool) -> None:
        super().__init__()
        self.is_gone = is_gone


class Pool:
    """The endpoints of one judge.

    Args:
        max_in_flight: requests at one endpoint at once.
    """

    def __init__(self, addresses: Sequence[Address], max_in_flight: int, connect_timeout_s: float) -> None:
        self._lock = threading.Lock()  # protects all below and all endpoints
        self._connect_timeout_s = connect_timeout_s
        self.endpoints = {a.name: Endpoint(a) for a in addresses}
        self._free = Free(self.endpoints.values(), max_in_flight)
        self._open: dict[Endpoint, None] = {}
        self._waiting: dict[Waiter, None] = {}  # in the order of their coming

    # ---- workers

    def take(self, call: Call, weight: int, language: str, *, alone: bool = False, avoid: Collection[str] = ()) -> Turn:
        """A place at an endpoint that isn't among `avoid`; waits while all of them are busy.

        Raises:
            Nowhere: all that are left are out of order.
            JudgeError: the call was cut.
        """
        waiter = Waiter(weight, language, alone, avoid)
        try:
            while True:
                call.check()
                with self._lock:
                    until = self._find(waiter)
                    if waiter.turn is not None:
                        turn, waiter.turn = waiter.turn, None
                        return turn
                waiter.woken.wait(min(_LOOK_EVERY_S, max(0.01, until - time.monotonic())))
                waiter.woken.clear()
        finally:
            with self._lock:
                self._forget(waiter)

    def done(self, turn: Turn, seconds: float) -> None:
        """The request was answered as it should be."""
        endpoint = turn.endpoint
        with self._lock:
            endpoint.failures, endpoint.cool_s, endpoint.is_gone = 0, COOL_S, False
            old = endpoint.mean_s
            endpoint.mean_s = seconds if old is None else old + 0.2 * (seconds - old)
            endpoint.alive_at = time.monotonic()
            self._leave(turn)
            self._close(endpoint)

    def failed(self, turn: Turn, error: str, *, is_gone: bool) -> None:
        """The request wasn't answered, or badly."""
        endpoint = turn.endpoint
        with self._lock:
            endpoint.failures += 1
            endpoint.last_error = error
            if is_gone or turn.is_probe or endpoint.state != CLOSED or endpoint.failures >= THRESHOLD:
                self._trip(endpoint, is_gone)
            self._leave(turn)

    def left(self, turn: Turn, *, is_alive: bool = False, note: str = "", lacks: str = "") -> None:
        """The request ended in a way that says nothing against the endpoint: it was cut, or the caller's fault.

        Args:
            is_alive: whether it answered.
            note: what shall stand as its last error.
            lacks: a language that it has no runtime for.
        """
        with self._lock:
            endpoint = turn.endpoint
            endpoint.last_error = note or endpoint.last_error
            if lacks:
                endpoint.lacks[lacks] = time.monotonic() + LACKS_S
            self._leave(turn)
            if is_alive:
                endpoint.failures, endpoint.is_gone, endpoint.alive_at = 0, False, time.monotonic()
                self._close(endpoint)
            elif endpoint.state == HALF_OPEN:
                endpoint.state = OPEN  # and due at once

    def line(self, turn: Turn) -> Line:
        """A connection for the turn, a kept one if there is one."""
        if turn.line is None:
            with self._lock:
                kept = turn.endpoint.idle.pop() if turn.endpoint.idle else None
            turn.line = kept or Line(turn.endpoint.address, self._connect_timeout_s)
        return turn.line

    def was_alive(self, endpoint: Endpoint, within_s: float) -> bool:
        """Did it give a sign of life lately?"""
        with self._lock:
            return time.monotonic() - endpoint.alive_at < within_s

    # ---- anybody

    def others(self, language: str, alive: bool = True) -> list[str]:
        """The names of the endpoints that could take a request in a language, sooner or later."""
        with self._lock:
            now = time.monotonic()
            return [
                e.name for e in self.endpoints.values()
                if e.lacks.get(language, 0.0) < now and (e.state == CLOSED or not alive)
            ]  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """What health() tells: a row for each endpoint."""
        with self._lock:
            return [endpoint.row() for endpoint in self.endpoints.values()]

    def errors(self) -> dict[str, str]:
        """The last error of each endpoint that is out of order."""
        with self._lock:
            return {e.name: e.last_error for e in self.endpoints.values() if e.state != CLOSED}

    def has_closed(self) -> bool:
        """Is any endpoint in use?"""
        with self._lock:
            return len(self._open) < len(self.endpoints)

    def out_of_order(self, at_most: int) -> list[Endpoint]:
        """Endpoints to ask for a sign of life, those that were not asked for longest first; they go to the end."""
        with self._lock:
            found = [e for e in self._open if e.state == OPEN][:at_most]
            for endpoint in found:
                self._open.pop(endpoint)
                self._open[endpoint] = None
            return found

    def gave_sign(self, endpoint: Endpoint) -> None:
        """It is alive: one request may try it."""
        with self._lock:
            endpoint.alive_at = time.monotonic()
            endpoint.open_until = 0.0
            self._wake()

    def wake(self) -> None:
        """Those who wait look whether they were cut."""
        with self._lock:
            self._wake()

    def close(self) -> None:
        """Lets idle connections go."""
        with self._lock:
            lines = [line for e in self.endpoints.values() for line in e.idle]
            for endpoint in self.endpoints.values():
                endpoint.idle = []
        for line in lines:
            line.close()

    # ---- with the lock held

    def _find(self, waiter: Waiter) -> float:
        """Gives the waiter a turn if there is one; else says until when to wait at most."""
        now = time.monotonic()
        if waiter.turn is not None:
            return now
        for endpoint in self._open:
            if endpoint.state == OPEN and endpoint.open_until <= now and self._tries(waiter, endpoint, now):
                return now
        free = next((e for e in self._free.least_busy_first(waiter.alone) if waiter.fits(e, now)), None)
        if free is not None:
            self._enter(free, waiter, is_probe=False)
            return now
        usable = [e for e in self.endpoints.values() if waiter.may(e, now)]
        busy = [e for e in usable if e.state == CLOSED]
        if not busy and not any(e.state == HALF_OPEN for e in usable):
            for endpoint in usable:  # one that answers badly is better than none
                if not endpoint.is_gone and self._tries(waiter, endpoint, now):
                    return now
            if all(e.is_gone for e in usable):
                raise Nowhere(is_gone=bool(usable))
        if waiter.alone and busy and not any(e.kept_for is waiter for e in busy):
            unkept = [e for e in busy if e.kept_for is None]
            if unkept:  # it takes no more until it is empty
                min(unkept, key=lambda e: e.in_flight).kept_for = waiter
        self._waiting.setdefault(waiter)
        return min((e.open_until for e in usable if e.state == OPEN), default=now + _LOOK_EVERY_S)

    def _tries(self, waiter: Waiter, endpoint: Endpoint, now: float) -> bool:
        """Lets the waiter try an endpoint that is out of order; one at a time does."""
        if endpoint.in_flight or not waiter.may(endpoint, now):
            return False
        endpoint.state = HALF_OPEN
        self._enter(endpoint, waiter, is_probe=True)
        return True

    def _forget(self, waiter: Waiter) -> None:
        """It waits no more; what was given to it meanwhile goes back."""
        self._waiting.pop(waiter, None)
        if waiter.turn is not None:
            self._leave(waiter.turn)
        if waiter.alone:
            for endpoint in self.endpoints.values():
                if endpoint.kept_for is waiter:
                    endpoint.kept_for = None
                    self._offer(endpoint)

    def _enter(self, endpoint: Endpoint, waiter: Waiter, is_probe: bool) -> None:
        turn = waiter.turn = Turn(endpoint, waiter.weight, is_probe)
        endpoint.kept_for = turn if waiter.alone else None
        self._place(endpoint, endpoint.in_flight + 1)
        endpoint.turns.add(turn)
        endpoint.load += turn.weight
        for other in endpoint.turns:
            other.load = max(other.load, endpoint.load)
        self._waiting.pop(waiter, None)

    def _leave(self, turn: Turn) -> None:
        endpoint = turn.endpoint
        if turn not in endpoint.turns:
            return
        endpoint.turns.discard(turn)
        endpoint.load -= turn.weight
        if turn.line is not None:
            endpoint.idle.append(turn.line)
            turn.line = None
        if endpoint.kept_for is turn:
            endpoint.kept_for = None
        self._place(endpoint, endpoint.in_flight - 1)
        self._offer(endpoint)

    def _offer(self, endpoint: Endpoint) -> None:
        """A place is free: whoever waits longest and can use it has it."""
        now = time.monotonic()
        while endpoint in self._free:
            waiter = next((w for w in self._waiting if w.turn is None and w.fits(endpoint, now)), None)
            if waiter is None:
                return
            self._enter(endpoint, waiter, is_probe=False)
            waiter.woken.set()

    def _place(self, endpoint: Endpoint, in_flight: int) -> None:
        self._free.discard(endpoint)
        endpoint.in_flight = in_flight
        if endpoint.state == CLOSED:
            self._free.add(endpoint)

    def _close(self, endpoint: Endpoint) -> None:
        if endpoint.state != CLOSED:
            endpoint.state = CLOSED
            self._open.pop(endpoint, None)
            self._place(endpoint, endpoint.in_flight)
            self._offer(endpoint)
            self._wake()

    def _trip(self, endpoint: Endpoint, is_gone: bool) -> None:
        was_open = endpoint.state == OPEN
        endpoint.state = OPEN
        endpoint.is_gone = is_gone
        endpoint.kept_for = None
        self._free.discard(endpoint)
        self._open[endpoint] = None
        if not was_open:  # requests that were under way there fail one by one: that is one fault
            endpoint.open_until = time.monotonic() + endpoint.cool_s
            endpoint.cool_s = min(2 * endpoint.cool_s, MOST_COOL_S)
        self._wake()

    def _wake(self) -> None:
        """All who wait look anew."""
        for waiter in self._waiting:
            waiter.woken.set()
