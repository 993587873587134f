"""Budgets of tries, holds of all tasks, starts per second: the same for every kind of worker."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.errors import SystematicFailureError
from tests.engine.backends import Backend, open_backend
from tests.views import controls_of
from tests.waiting import patience, until

QUICK = nbrun.RetryPolicy(delay_s=0.001)


@pytest.fixture(scope="module", params=["threads", "async", "pool of threads", "spawn"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with open_backend(request.param) as opened:
        yield opened


@pytest.fixture(scope="module", params=["threads", "async", "pool of threads"])
def near(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Kinds of workers that share this process."""
    with open_backend(request.param) as opened:
        yield opened


def test_exceptions_and_retries_have_budgets_of_their_own(backend: Backend, tmp_path: Path) -> None:
    """Four Retries, two exceptions, and Retries between them: three attempts are left for neither."""

    def fn(task: nbrun.Task) -> Any:
        step = task.hint.get("step", 0)
        if step < 4:
            return nbrun.Retry("HTTP 429", hint={"step": step + 1})
        if task.attempt < 7:
            raise ConnectionError("reset")
        return {"attempt": task.attempt}

    run = backend.run(tmp_path / "r", fn, [1, 2, 3], retry=QUICK)
    assert run.progress.done == 3, run.progress
    assert set(nbrun.load_results(tmp_path / "r")["attempt"]) == {7}


def test_a_task_that_asks_for_retries_for_ever_ends_in_an_error(backend: Backend, tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> Any:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:  # it works
            pass
        return nbrun.Retry("not ready")

    began = time.time()
    run = backend.run(tmp_path / "r", fn, [1, 2], retry=nbrun.RetryPolicy(retries=3, delay_s=0.001))
    assert run.progress.errors == 2
    row = nbrun.load_results(tmp_path / "r").iloc[0]
    assert row["attempts"] == 4
    assert row["duration_s"] >= 0.02, "of the last attempt"
    assert began <= row["started_at"].timestamp() <= time.time() - 0.02
    ended = row["started_at"].timestamp() + row["duration_s"]
    assert [note.at for note in run.progress.recent_errors if note.index == row["index"]] == [
        pytest.approx(ended, abs=1e-4)
    ]
    assert "not ready" in row["error"]
    assert "retries" in row["error"]


def test_both_counts_survive_a_restart(tmp_path: Path) -> None:
    calls: Counter[str] = Counter()
    patient = nbrun.RetryPolicy(attempts=3, retries=2, delay_s=30, jitter=0)

    def fn(task: nbrun.Task) -> Any:
        calls[task.item] += 1
        if task.item == "raises":
            raise ConnectionError("reset")
        return nbrun.Retry("later", after_s=30)

    for _ in range(2):
        run = nbrun.start([{"id": "s", "items": ["raises", "asks"]}], fn, tmp_path / "r", groups=["item"], view=None,
                          retry=patient)  # fmt: skip
        until(lambda run=run: run.progress.waiting == 2, "both wait")
        run.stop(drain=False)
        run.wait(60)
    run = nbrun.start([{"id": "s", "items": ["raises", "asks"]}], fn, tmp_path / "r", groups=["item"], view=None,
                      retry=patient)  # fmt: skip
    progress = run.wait(60)
    assert (progress.errors, calls) == (2, {"raises": 3, "asks": 3})


@pytest.mark.parametrize("retries", [-1])
def test_a_budget_that_can_not_be_right(retries: int) -> None:
    with pytest.raises(ValueError, match="retries"):
        nbrun.RetryPolicy(retries=retries)


def test_waits_after_exceptions_double_up_to_the_longest_one() -> None:
    policy = nbrun.RetryPolicy(delay_s=0.5, max_delay_s=60, jitter=0.5)
    assert [policy.wait_s(n, 0.0) for n in (1, 2, 3, 8, 1000)] == [0.5, 1.0, 2.0, 60.0, 60.0]
    assert [policy.wait_s(n, 1.0) for n in (1, 2)] == [0.25, 0.5], "the jitter shortens a wait"


def test_waits_grow_with_the_time_that_was_waited() -> None:
    policy = nbrun.RetryPolicy(jitter=0)
    assert policy.retry_wait_s(0.0, 0.0, 0.5) == 0.0
    assert policy.retry_wait_s(5.0, 20.0, 0.5) == 5.0
    assert policy.retry_wait_s(0.1, 20.0, 0.5) == 2.0
    assert policy.retry_wait_s(0.1, 1e6, 0.5) == policy.max_delay_s
    assert policy.retry_wait_s(3600.0, 1e6, 0.5) == 3600.0
    waited = 0.0
    for _ in range(policy.retries or 0):
        waited += policy.retry_wait_s(1.0, waited, 0.5)
    assert waited > 3600, "a rate limit of an hour is waited out"


def test_many_quick_retries_take_little_longer_than_was_asked(tmp_path: Path) -> None:
    began = time.monotonic()
    fn = lambda t: nbrun.Retry("again", after_s=0.01) if t.attempt <= 20 else {}  # noqa: E731
    run = nbrun.start([{"id": "s", "items": [1]}], fn, tmp_path / "r", groups=["item"], view=None)
    assert run.wait(60).done == 1
    assert time.monotonic() - began < patience(5)


@pytest.mark.parametrize("after_s", [float("nan"), -5.0])
def test_a_wait_that_makes_no_sense_is_none(after_s: float) -> None:
    assert nbrun.Retry("x", after_s=after_s).after_s == 0.0


def test_a_hold_keeps_every_task_back(near: Backend, tmp_path: Path) -> None:
    """Tiny tasks too, which are taken many at a time: from the refusal on none begins before its time."""
    refused: list[float] = []
    begun: list[float] = []

    def fn(task: nbrun.Task) -> Any:
        now = time.monotonic()
        if task.index == 300 and task.attempt == 1:
            refused.append(now)
            return nbrun.Retry("HTTP 429", after_s=0.7, pause_all=True)
        begun.append(now)
        return {}

    run = near.start(tmp_path / "r", fn, list(range(3000)))
    until(lambda: "HTTP 429" in run.progress.message or run.progress.ended, "the panel says so")
    progress = run.wait(60)
    assert progress.done == 3000
    assert "HTTP 429" not in progress.message
    late = [at - refused[0] for at in begun if 0.1 < at - refused[0] < 0.65]
    assert not late, late[:5]
    assert sum(at > refused[0] + 0.65 for at in begun) > 1, "more was held back than the task that was refused"


def test_a_pause_and_a_stop_end_a_hold(near: Backend, tmp_path: Path) -> None:
    run = near.start(tmp_path / "r", lambda t: nbrun.Retry("HTTP 503", after_s=1000, pause_all=True), list(range(50)))
    until(lambda: run.progress.waiting > 0, "one waits")
    run.pause()
    assert run.progress.state == "paused"
    run.resume()
    run.stop()
    assert run.wait(60).state == "stopped"


def test_starts_per_second(backend: Backend, tmp_path: Path) -> None:
    backend.run(tmp_path / "first", lambda t: {}, list(range(24)))  # a pool that still starts would run all at once
    run = backend.run(tmp_path / "r", lambda t: {"at": time.time()}, list(range(24)), workers=8, max_per_s=40)
    assert run.progress.done == 24
    at = sorted(nbrun.load_results(tmp_path / "r")["at"])
    assert 0.5 < at[-1] - at[0] < patience(4)
    assert max(sum(1 for b in at if a <= b < a + 0.25) for a in at) <= 14, at


def test_a_limit_can_be_changed_by_the_cell_run_again(tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> dict[str, Any]:
        return {}

    samples = [{"id": "s", "items": list(range(200))}]
    options: dict[str, Any] = {"groups": ["item"], "view": None}
    run = nbrun.start(samples, fn, tmp_path / "r", max_per_s=0.5, **options)
    until(lambda: run.progress.done >= 1, "the first has ended")
    assert nbrun.start(samples, fn, tmp_path / "r", **options) is run
    assert run.wait(60).done == 200


def test_delayed_tasks_that_come_due_one_by_one_find_workers(tmp_path: Path) -> None:
    """The worker that kept the time takes the first; another keeps it from then on."""
    began = time.monotonic()

    def fn(task: nbrun.Task) -> Any:
        if task.attempt == 1:
            return nbrun.Retry("later", after_s=0.2 * (1 + task.index))
        if task.index == 0:
            until(lambda: len(ended) == 3, "the others end meanwhile")
        ended.append(time.monotonic() - began)
        return {}

    ended: list[float] = []
    run = nbrun.start([{"id": "s", "items": [0, 1, 2, 3]}], fn, tmp_path / "r", groups=["item"], view=None, workers=4)
    assert run.wait(60).done == 4


def test_a_waiting_task_is_a_row_with_its_reason(tmp_path: Path) -> None:
    fn = lambda t: nbrun.Retry("HTTP 429", after_s=100) if t.index else {}  # noqa: E731
    run = nbrun.start([{"id": "s", "items": [0, 1, 2]}], fn, tmp_path / "r", groups=["item"], view=None)
    until(lambda: run.progress.waiting == 2 and run.progress.saved == 1, "two wait")
    waiting = [row for row in controls_of(run).tasks("s") if row.status == "waiting"]
    assert sorted((row.index, row.attempts) for row in waiting) == [(1, 1), (2, 1)]  # two workers: either is first
    assert all(row.note.startswith("HTTP 429, next in 1 min") for row in waiting), waiting
    assert run.progress.waiting_at == {0: 2}
    assert run.progress.message.startswith("2 waiting: HTTP 429, next in 1 min"), run.progress.message
    run.stop()
    assert run.wait(60).waiting == 0


def test_a_short_outage_costs_no_attempt(backend: Backend, tmp_path: Path) -> None:
    """All connections fail for longer than three attempts take: no task ends in an error, and the run doesn't pause."""
    until_s = time.time() + 0.8

    def fn(task: nbrun.Task) -> Any:
        if time.time() < until_s:
            raise ConnectionRefusedError("no server listens")
        return {}

    retry = nbrun.RetryPolicy(delay_s=0.1)
    run = backend.run(tmp_path / "r", fn, list(range(100)), workers=8, retry=retry)
    assert (run.progress.state, run.progress.done, run.progress.errors) == ("done", 100, 0)


def test_waiting_for_a_service_costs_no_cpu_time(tmp_path: Path) -> None:
    """All workers have had tiny tasks when the service goes away."""
    until_s = time.time() + 1.5

    def fn(task: nbrun.Task) -> Any:
        if time.time() < until_s:
            raise ConnectionRefusedError("not reachable")
        return {}

    before_s = time.process_time()
    run = nbrun.start(
        [{"id": "s", "items": list(range(100))}], fn, tmp_path / "r", groups=["item"], view=None, workers=8
    )
    assert run.wait(60).done == 100
    assert time.process_time() - before_s < 0.6


def test_a_long_outage_pauses_the_run(tmp_path: Path, tuning: Callable[..., None]) -> None:
    tuning(outage_s=0.5)

    def fn(task: nbrun.Task) -> Any:
        raise ConnectionRefusedError("no server listens")

    run = nbrun.start([{"id": "s", "items": list(range(100))}], fn, tmp_path / "r", groups=["item"], view=None,
                      retry=QUICK)  # fmt: skip
    with pytest.raises(SystematicFailureError, match="no server listens"):
        run.wait(60)
    assert "Fix `fn` and run this cell again" in run.progress.message
    run.stop(drain=False)


def test_a_function_that_is_wrong_pauses_the_run_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    run = nbrun.start([{"id": "s", "items": list(range(100))}], lambda t: t.nothing, tmp_path / "r", groups=["item"],
                      view=None)  # fmt: skip
    with pytest.raises(SystematicFailureError, match="AttributeError"):
        run.wait(60)
    assert time.monotonic() - began < patience(5)
    run.stop(drain=False)


def test_errors_that_are_retried_have_their_whole_budgets_again(tmp_path: Path) -> None:
    calls: Counter[str] = Counter()
    gate = threading.Event()

    def fn(task: nbrun.Task) -> Any:
        if task.item == "waits":
            gate.wait(60)
            return {}
        calls[task.item] += 1
        if task.item == "raises" and calls[task.item] < 6:
            raise ValueError("no")
        if task.item == "asks" and calls[task.item] < 6:
            return nbrun.Retry("later")
        return {"attempt": task.attempt}

    samples = [{"id": "s", "items": ["raises", "asks", "waits"]}]
    policy = nbrun.RetryPolicy(attempts=3, retries=2, delay_s=0.001)
    run = nbrun.start(samples, fn, tmp_path / "r", groups=["item"], view=None, retry=policy)
    until(lambda: run.progress.errors == 2, "both end in errors")
    assert run.retry_errors() == 2
    until(lambda: run.progress.done == 2, "both end well")
    gate.set()
    run.wait(60)
    assert calls == {"raises": 6, "asks": 6}
    assert sorted(nbrun.load_results(tmp_path / "r")["attempts"]) == [1, 3, 3]
