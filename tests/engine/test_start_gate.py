"""When attempts may start, on a clock of its own: spacing, holds, and what the gate learns from refusals."""

from __future__ import annotations

import itertools

import pytest

from nbrun.engine.state import StartGate


def test_the_end_of_a_hold_is_reported_once_by_whichever_call_notices_it_first() -> None:
    """A view or a waiting worker that asks for the next turn may be first; the run must not stay held for that."""
    ended: list[float] = []
    gate = StartGate(on_hold_end=lambda: ended.append(1))
    assert gate.hold(10.0, 2.0, "refused")
    assert (gate.next_at(11.0), ended) == (12.0, [])
    assert gate.next_at(12.0) <= 12.0
    assert ended == [1]
    assert gate.next_at(13.0) <= 13.0
    assert ended == [1]
    assert gate.hold(14.0, 2.0, "refused")
    assert gate.hold(17.0, 2.0, "refused")  # the hold before ended unnoticed
    assert ended == [1, 1]


class Server:
    """Takes `limit` requests in each window of `window_s`, and says when to come back."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self.window = -1
        self.taken = 0

    def ask(self, now: float) -> float | None:
        """None, or the seconds to wait."""
        window = int(now / self.window_s)
        if window != self.window:
            self.window, self.taken = window, 0
        self.taken += 1
        return None if self.taken <= self.limit else self.window_s * (window + 1) - now + 0.001


def ask_all(server: Server, requests: int, latency_s: float, in_flight: int) -> tuple[int, float]:
    """How many answers were refusals, and when all requests were taken."""
    now, refused, ends = 0.0, 0, 0
    gate = StartGate(ends=lambda: ends)
    left = requests
    flying: list[tuple[float, float | None]] = []  # when the answer comes, and what it is
    while left or flying:
        came = [f for f in flying if f[0] <= now]
        flying = [f for f in flying if f[0] > now]
        for _, wait_s in came:
            if wait_s is None:
                ends += 1
            else:
                refused += 1
                left += 1
                gate.hold(now, wait_s, "HTTP 429", began=0.0)
        while left and len(flying) < in_flight and (not gate.is_active or gate.next_at(now) <= now):
            left -= 1
            if gate.is_active:
                gate.started(now)
            wait_s = server.ask(now)
            flying.append((now + (latency_s if wait_s is None else 0.001 + latency_s / 10), wait_s))
        now += 0.001
    return refused, now


def test_starts_are_spaced_evenly() -> None:
    gate = StartGate(max_per_s=20)
    now, at = 0.0, []
    while len(at) < 60:
        if gate.next_at(now) <= now:
            gate.started(now)
            at.append(now)
        now += 0.003
    assert max(sum(1 for b in at if a <= b < a + 1) for a in at) <= 22
    assert 2.8 < at[-1] < 3.1
    assert max(b - a for a, b in itertools.pairwise(at)) < 0.08


def test_a_rest_saves_no_starts_up() -> None:
    gate = StartGate(max_per_s=10)
    gate.started(0.0)
    gate.next_at(100.0)
    gate.started(100.0)
    assert gate.next_at(100.0) > 100.05


def test_without_a_limit_nothing_is_asked() -> None:
    gate = StartGate()
    assert not gate.is_active
    gate.limit(5)
    assert gate.is_active
    gate.limit(None)
    assert not gate.is_active


def test_a_hold_holds_everything_back_and_a_later_one_lengthens_it() -> None:
    gate = StartGate()
    assert gate.hold(10.0, 2.0, "HTTP 429", began=0.0)
    assert not gate.hold(10.5, 4.0, "HTTP 503", began=0.0)
    assert not gate.hold(10.6, 0.1, "HTTP 503", began=0.0)
    assert gate.is_held(14.4)
    assert gate.next_at(11.0) == 14.5
    assert gate.next_at(14.5) <= 14.5
    assert not gate.is_held(14.6)


def test_of_a_rate_limited_service_little_is_refused() -> None:
    for limit, window_s, latency_s in ((50, 1.0, 0.02), (20, 1.0, 0.3), (300, 10.0, 0.1), (100, 60.0, 0.5)):
        requests = 40 * limit
        refused, took = ask_all(Server(limit, window_s), requests, latency_s, in_flight=64)
        case = (limit, window_s, latency_s)
        assert refused < 64 + 0.02 * requests, (case, refused)  # the first ones start together
        assert took < 1.35 * requests / limit * window_s, (case, took)


@pytest.mark.parametrize("latency_s", [0.001, 0.01, 0.3])
@pytest.mark.parametrize("in_flight", [8, 64, 768])
def test_an_outage_teaches_no_rate(in_flight: int, latency_s: float) -> None:
    """A service refuses everything for 3 s: afterwards requests go as fast as before."""

    class Down(Server):
        def ask(self, now: float) -> float | None:
            return 0.5 if now < 3 else None

    refused, took = ask_all(Down(1, 1), 4000, latency_s, in_flight)
    assert took < 4.5 + 1.5 * 4000 * max(latency_s, 0.001) / in_flight
    assert refused >= in_flight


def test_a_rate_that_was_learned_too_low_is_forgotten_soon() -> None:
    """One request is refused once, when little was taken so far."""

    class Once(Server):
        def ask(self, now: float) -> float | None:
            return 1.0 if 0.2 < now < 0.25 else None

    _, took = ask_all(Once(1, 1), 20_000, 0.1, in_flight=64)
    assert took < 2 * 20_000 * 0.1 / 64
