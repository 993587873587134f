"""What the pool knows of one server, and of those who are there or wait for a place. Protected by the pool's lock."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from nbrun.judge.fusion.addresses import Address
from nbrun.judge.fusion.wire import Line

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
#: How long an endpoint is left alone the first time; doubled each time.
COOL_S, MOST_COOL_S = 1.0, 60.0


class Endpoint:
    """One server and what is known of it. Protected by the pool's lock."""

    def __init__(self, address: Address) -> None:
        self.address, self.name = address, address.name
        self.state = CLOSED
        self.in_flight = 0
        self.load = 0  # programs that run there at once, as far as they are ours
        self.turns: set[Turn] = set()
        self.idle: list[Line] = []
        self.failures = 0  # in a row
        self.is_gone = False  # open because it could not be reached, or lost requests; else it answered badly
        self.cool_s = COOL_S
        self.open_until = 0.0
        self.alive_at = 0.0  # when it last gave a sign of life
        self.kept_for: Waiter | Turn | None = None  # who waits to be alone there, or is: nobody else enters
        self.mean_s: float | None = None
        self.last_error = ""
        self.lacks: dict[str, float] = {}  # language -> until when it isn't asked for it

    def row(self) -> dict[str, Any]:
        """What health() tells."""
        mean_s = None if self.mean_s is None else round(self.mean_s, 4)
        return {
            "name": self.name, "state": self.state, "in_flight": self.in_flight, "mean_s": mean_s,
            "last_error": self.last_error,
        }  # fmt: skip


class Turn:
    """One request's stay at an endpoint. `load`: the most programs that ran there at once meanwhile."""

    def __init__(self, endpoint: Endpoint, weight: int, is_probe: bool) -> None:
        self.endpoint, self.weight, self.is_probe = endpoint, weight, is_probe
        self.load = weight
        self.line: Line | None = None


class Free:
    """The closed endpoints that have a place, in rows by their requests in flight. Protected by the pool's lock.

    Args:
        endpoints: all of them, still without a request.
        most: requests at one endpoint at once.
    """

    def __init__(self, endpoints: Iterable[Endpoint], most: int) -> None:
        self._rows: list[dict[Endpoint, None]] = [{} for _ in range(most)]
        self._rows[0] = dict.fromkeys(endpoints)

    def __contains__(self, endpoint: Endpoint) -> bool:
        return endpoint.in_flight < len(self._rows) and endpoint in self._rows[endpoint.in_flight]

    def least_busy_first(self, idle: bool = False) -> Iterator[Endpoint]:
        """All of them, or only those without a request; among equals the one that was used longest ago first."""
        for row in self._rows[: 1 if idle else None]:
            yield from row

    def add(self, endpoint: Endpoint) -> None:
        """Puts one at the end of its row; one that is full has none."""
        if endpoint.in_flight < len(self._rows):
            self._rows[endpoint.in_flight][endpoint] = None

    def discard(self, endpoint: Endpoint) -> None:
        """Takes one out, before its requests in flight change or it is left alone."""
        if endpoint.in_flight < len(self._rows):
            self._rows[endpoint.in_flight].pop(endpoint, None)


class Waiter:
    """A worker that wants a place: which ones it may have, and the turn that was given to it."""

    def __init__(self, weight: int, language: str, alone: bool, avoid: Collection[str]) -> None:
        self.weight, self.language, self.alone, self.avoid = weight, language, alone, avoid
        self.woken = threading.Event()
        self.turn: Turn | None = None

    def may(self, endpoint: Endpoint, now: float) -> bool:
        """Whether an endpoint may serve it, now or later."""
        return endpoint.name not in self.avoid and endpoint.lacks.get(self.language, 0.0) < now

    def fits(self, endpoint: Endpoint, now: float) -> bool:
        """Whether it may enter an endpoint that is in use and has a free place."""
        if endpoint.kept_for not in (None, self) or (self.alone and endpoint.in_flight):
            return False
        return self.may(endpoint, now)
