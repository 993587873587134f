"""The pool: another endpoint where one fails, health by what requests meet, load, keep-alive, cancelling."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fusion_helpers import SUM, Service, scripted, task

from nbrun.errors import JudgeError, JudgeUnavailableError
from nbrun.judge import SandboxFusion
from nbrun.judge.fusion.connection import Call, read_endpoints
from nbrun.judge.fusion.endpoints import CLOSED, HALF_OPEN, OPEN, THRESHOLD, NoEndpoint, Pool
from nbrun.tuning import TUNING
from tests.waiting import patience, until

BAD = ("refuse", "500", "hang", "cut", "garbage", "empty", "foreign", "no http", "reset", "drip", "no runtime")


@pytest.fixture
def service(server: Service) -> Iterator[Service]:
    yield server
    server.behave()


def states(judge: SandboxFusion) -> list[str]:
    return [row["state"] for row in judge.health()]


def waiting(pool: Pool) -> int:
    """Return how many calls wait for a place."""
    return len(pool._waiting)


def pool_of(count: int, max_in_flight: int = 2) -> Pool:
    return Pool(read_endpoints([f"http://h{i}" for i in range(count)]), max_in_flight, 1.0)


# ---- failures


@pytest.mark.parametrize("mode", BAD)
def test_another_endpoint_is_asked(service: Service, mode: str, tuning: Callable[..., None]) -> None:
    allowed_s = patience(0.5)  # the server that is well must answer in this time
    tuning(ping_s=allowed_s)
    service.behave(mode, 0, 1, 2)
    judge = SandboxFusion(service.urls, read_timeout_s=allowed_s)
    result = judge(task(scripted()))
    assert isinstance(result, dict)
    assert result["verdict"] == "Accepted"
    assert result["api_used"] == service.urls[3] + "/submit"
    rows = judge.health()
    assert all(row["last_error"] for row in rows[:3])
    assert rows[3] == {"name": service.urls[3], "state": CLOSED, "in_flight": 0, "mean_s": rows[3]["mean_s"],
                       "last_error": ""}  # fmt: skip
    assert rows[3]["mean_s"] > 0


def test_a_mixed_pool_judges_everything(service: Service) -> None:
    for place, mode in enumerate(("refuse", "garbage", "500")):
        service.behave(mode, place)
    judge = SandboxFusion(service.urls, max_in_flight=4)
    wrong = scripted(output={"": "no"})
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(judge, [task(item) for item in (scripted(), wrong) * 30]))
    assert [r["verdict"] for r in results if isinstance(r, dict)] == ["Accepted", "WrongAnswer"] * 30
    assert states(judge)[:3] == [OPEN, OPEN, OPEN]


@pytest.mark.parametrize("mode", ["500", "garbage", "empty", "foreign", "no runtime"])
def test_where_all_fail_it_is_a_judge_error_that_says_why(service: Service, mode: str) -> None:
    service.behave(mode)
    with pytest.raises(JudgeError) as e:
        SandboxFusion(service.urls)(task(scripted()))
    assert not isinstance(e.value, JudgeUnavailableError)
    assert service.urls[0] in str(e.value) or service.urls[1] in str(e.value)


def test_where_no_endpoint_can_be_reached_the_run_waits(service: Service) -> None:
    service.behave("refuse")
    judge = SandboxFusion(service.urls)
    with pytest.raises(JudgeUnavailableError, match=r"None of the 4 .*connection refused.*goes on by itself"):
        judge(task(scripted()))
    assert states(judge) == [OPEN] * 4
    assert not judge.is_available()
    service.behave("ok", 2)
    assert judge.is_available()
    result = judge(task(scripted()))
    assert isinstance(result, dict)
    assert result["api_used"] == service.urls[2] + "/submit"
    assert states(judge) == [OPEN, OPEN, CLOSED, OPEN]


def test_a_request_that_every_living_endpoint_loses_is_given_up(service: Service) -> None:
    service.behave("reset")
    judge = SandboxFusion(service.urls)
    for _ in range(2):  # it may have been the endpoints' fault
        with pytest.raises(JudgeUnavailableError):
            judge(task(scripted()))
        assert judge.is_available()
    with pytest.raises(JudgeError, match="that are alive lost the request, in 3 rounds") as e:
        judge(task(scripted()))
    assert not isinstance(e.value, JudgeUnavailableError)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL", "SIGSTOP"])
def test_a_signal_to_a_server_is_never_a_verdict(name: str) -> None:
    """A request is in flight: a server that was stopped for a while answers late, all others never do."""
    server = Service(1)
    server.behave("slow", seconds=1.0)
    try:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(SandboxFusion(server.urls), task(scripted()))
            until(lambda: server.saw(0)["in_flight"])
            os.kill(server.pid, getattr(signal, name))
            if name == "SIGSTOP":
                threading.Event().wait(1.2)
                os.kill(server.pid, signal.SIGCONT)
                result = future.result(60)
                assert isinstance(result, dict)
                assert result["verdict"] == "Accepted"
            else:
                with pytest.raises(JudgeError):
                    future.result(60)
    finally:
        server.close()


def test_422_is_the_callers_fault_and_asked_once(service: Service) -> None:
    service.behave("422")
    before = sum(len(service.saw(p)["seen"]) for p in range(4))
    judge = SandboxFusion(service.urls)
    with pytest.raises(JudgeError, match=r"422.*body\.code: Field required") as e:
        judge(task(scripted()))
    assert not e.value.retriable
    assert sum(len(service.saw(p)["seen"]) for p in range(4)) == before + 1
    assert states(judge) == [CLOSED] * 4


def test_an_endpoint_without_a_runtime_serves_other_languages(service: Service) -> None:
    service.behave("no runtime", 0)
    judge = SandboxFusion(service.urls[:2])
    for _ in range(3):
        result = judge(task(scripted("GO")))
        assert isinstance(result, dict)
        assert result["api_used"] == service.urls[1] + "/submit"
    assert states(judge) == [CLOSED, CLOSED]
    service.behave()
    used = {judge(task(scripted("CPP")))["api_used"] for _ in range(4)}  # type: ignore[index]
    assert used == {f"{url}/submit" for url in service.urls[:2]}


# ---- health


def test_three_bad_answers_open_the_breaker_and_a_sign_of_life_closes_it(
    service: Service, tuning: Callable[..., None]
) -> None:
    tuning(cooldown_s=0.2)
    service.behave("500", 0)
    judge = SandboxFusion(service.urls[:2])
    seen = []
    for _ in range(2 * THRESHOLD):
        judge(task(scripted()))
        seen.append(states(judge)[0])
    assert seen[-1] == OPEN
    assert len(service.saw(0)["seen"]) >= THRESHOLD
    service.behave("ok", 0)
    until(lambda: judge(task(scripted())) and states(judge)[0] == CLOSED)


def test_half_open_lets_one_try_and_a_failure_doubles_the_rest() -> None:
    pool = pool_of(1)
    lease = pool.acquire(Call(), 1, "python")
    pool.fail(lease, "gone", is_unreachable=True)
    with pytest.raises(NoEndpoint):
        pool.acquire(Call(), 1, "python")
    endpoint = next(iter(pool.endpoints.values()))
    rest_s = endpoint.cooldown_s
    pool.mark_alive(endpoint)
    probe = pool.acquire(Call(), 1, "python")
    assert probe.is_probe
    assert endpoint.state == HALF_OPEN

    def wait() -> None:
        with pytest.raises(NoEndpoint):
            pool.acquire(Call(), 1, "python")

    waiting = threading.Thread(target=wait)
    waiting.start()
    pool.fail(probe, "gone still", is_unreachable=True)
    waiting.join(60)
    assert not waiting.is_alive()
    assert (endpoint.state, endpoint.cooldown_s) == (OPEN, 2 * rest_s)
    pool.mark_alive(endpoint)
    pool.succeed(pool.acquire(Call(), 1, "python"), 0.1)
    assert (endpoint.state, endpoint.cooldown_s, endpoint.in_flight) == (CLOSED, TUNING.cooldown_s, 0)


def test_requests_that_fail_together_count_as_one_fault() -> None:
    pool = pool_of(1, max_in_flight=8)
    leases = [pool.acquire(Call(), 1, "python") for _ in range(8)]
    for lease in leases:
        pool.fail(lease, "gone", is_unreachable=True)
    endpoint = next(iter(pool.endpoints.values()))
    assert endpoint.cooldown_s == 2 * TUNING.cooldown_s
    assert endpoint.in_flight == endpoint.load == 0


# ---- who gets the next request


def test_the_least_busy_comes_first() -> None:
    pool = pool_of(3)
    leases = [pool.acquire(Call(), 3, "python") for _ in range(6)]
    assert [e.in_flight for e in pool.endpoints.values()] == [2, 2, 2]
    assert [t.load for t in leases] == [6] * 6  # each saw another one come, or was it
    pool.succeed(leases[1], 0.1)
    assert pool.acquire(Call(), 1, "python").endpoint is leases[1].endpoint


def test_who_waits_gets_the_place_that_becomes_free() -> None:
    pool = pool_of(2, max_in_flight=1)
    first, second = pool.acquire(Call(), 1, "python"), pool.acquire(Call(), 1, "python")
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda: got.append(pool.acquire(Call(), 1, "python", avoid=[first.endpoint.name]))),
        threading.Thread(target=lambda: got.append(pool.acquire(Call(), 1, "python"))),
    ]
    for n, thread in enumerate(threads, 1):
        thread.start()
        until(lambda n=n: waiting(pool) == n)
    pool.succeed(first, 0.1)  # the one that waits longest doesn't want it
    threads[1].join(60)
    assert [t.endpoint for t in got] == [first.endpoint]
    pool.succeed(second, 0.1)
    threads[0].join(60)
    assert [t.endpoint for t in got] == [first.endpoint, second.endpoint]


def test_alone_is_alone() -> None:
    pool = pool_of(1, max_in_flight=3)
    busy = [pool.acquire(Call(), 1, "python") for _ in range(2)]
    got: list[str] = []

    def alone() -> None:
        lease = pool.acquire(Call(), 1, "python", alone=True)
        got.append(f"alone {lease.load}")
        pool.succeed(lease, 0.1)

    def other() -> None:
        got.append("other")
        pool.succeed(pool.acquire(Call(), 1, "python"), 0.1)
        got.append("other after it")

    first = threading.Thread(target=alone)
    first.start()
    until(lambda: waiting(pool))
    second = threading.Thread(target=other)
    second.start()
    until(lambda: waiting(pool) == 2)  # there is a place, but it is kept
    for lease in busy:
        pool.succeed(lease, 0.1)
    first.join(60)
    second.join(60)
    assert got == ["other", "alone 1", "other after it"]


def test_in_flight_is_bounded_and_places_come_back(service: Service) -> None:
    judge = SandboxFusion(service.urls, max_in_flight=2)
    before = [service.saw(p)["peak"] for p in range(4)]
    tasks = [task(scripted(wait_s=0.02), {**SUM, "id": f"p{i}"}) for i in range(80)]
    with ThreadPoolExecutor(24) as threads:
        assert all(r["accepted"] for r in threads.map(judge, tasks))  # type: ignore[index]
    assert [max(2, b) for b in before] == [service.saw(p)["peak"] for p in range(4)]
    assert all(row["in_flight"] == 0 for row in judge.health())


# ---- connections


def test_connections_are_kept_and_opened_again_after_they_were_dropped(service: Service) -> None:
    judge = SandboxFusion(service.urls[:1])
    before = service.saw(0)["connections"]
    for _ in range(5):
        judge(task(scripted()))
    assert service.saw(0)["connections"] == before + 1
    service.drop()
    assert isinstance(judge(task(scripted())), dict)
    assert judge.health()[0]["last_error"] == ""
    service.behave("chunked", 0)
    assert isinstance(judge(task(scripted())), dict)


@pytest.mark.parametrize("mode", ["hang", "drip"])
def test_cancel_aborts_the_request_at_once(service: Service, mode: str) -> None:
    service.behave(mode)
    judge = SandboxFusion(service.urls, time_limit_s=1000)
    running = task(scripted())
    error: list[BaseException] = []

    def call() -> None:
        try:
            judge(running)
        except BaseException as e:
            error.append(e)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: any(r["in_flight"] for r in judge.health()))
    place = next(n for n, r in enumerate(judge.health()) if r["in_flight"])
    until(lambda: service.saw(place)["in_flight"])
    judge.cancel(running)
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(error[0], JudgeError)
    assert "cancelled" in str(error[0])
    until(lambda: service.saw(place)["in_flight"] == 0)  # the server knows
    assert states(judge) == [CLOSED] * 4


def test_cancel_reaches_one_that_waits_for_a_place(service: Service) -> None:
    service.behave("hang")
    judge = SandboxFusion(service.urls[:1], time_limit_s=1000)
    tasks = [task(scripted()) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(judge, t) for t in tasks]
        until(lambda: waiting(judge._pool))
        began = time.monotonic()
        for t in tasks:
            judge.cancel(t)
        for call in calls:
            with pytest.raises(JudgeError, match="cancelled"):
                call.result(60)
        assert time.monotonic() - began < patience(5)


def test_nothing_is_left_open(service: Service) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    service.behave("cut", 0)
    service.behave("refuse", 1)
    judge = SandboxFusion(service.urls, max_in_flight=3)
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(judge, [task(scripted()) for _ in range(60)]))
    judge.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert isinstance(judge(task(scripted())), dict)  # it starts again
    judge.close()


def test_many_threads_and_any_outcome_leave_the_pool_as_it_was() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    pool = pool_of(5, max_in_flight=3)
    names = list(pool.endpoints)
    inside: dict[str, list[bool]] = {name: [] for name in names}
    lock, wrong = threading.Lock(), []  # the lock protects both

    def work(number: int) -> None:
        rng = random.Random(seed + number)
        for _ in range(400):
            alone = rng.random() < 0.2
            try:
                lease = pool.acquire(
                    Call(), rng.randint(1, 3), "python", alone=alone, avoid=rng.sample(names, rng.randint(0, 2))
                )
            except NoEndpoint:
                for endpoint in pool.to_ping(5):
                    pool.mark_alive(endpoint)
                continue
            here = inside[lease.endpoint.name]
            with lock:
                here.append(alone)
                if len(here) > 3 or (any(here) and len(here) > 1):
                    wrong.append(list(here))
            if rng.random() < 0.3:
                os.sched_yield()
            with lock:
                here.remove(alone)
            outcome = rng.random()
            if outcome < 0.8:
                pool.succeed(lease, 0.01)
            elif outcome < 0.9:
                pool.fail(lease, "gone", is_unreachable=rng.random() < 0.5)
            else:
                pool.release(lease)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
    assert not waiting(pool)
    for endpoint in pool.endpoints.values():
        assert (endpoint.in_flight, endpoint.load, endpoint.leases, endpoint.reserved_for) == (0, 0, set(), None)
        times = list(pool._free.least_busy_first()).count(endpoint)
        assert times == (endpoint in pool._free) == (endpoint.state == CLOSED)
