"""A task that runs for many times the median is noticed, and counts for the time that is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.engine.scheduler import find_long
from tests.engine.backends import Backend, open_backend
from tests.waiting import until


@pytest.fixture(scope="module", params=["threads", "async", "pool of threads"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with open_backend(request.param) as opened:
        yield opened


def test_only_what_is_long_beside_most_is_long() -> None:
    most = [10.0] * 20
    assert find_long([90.0, 50.0], most).text == ""
    assert find_long([300.0, 100.0, 50.0], most).text == "2 tasks have been running for up to 5 min, 30 × the median."
    assert find_long([300.0], [10.0] * 5).text == "", "too little is known"
    assert find_long([2.0], [0.001] * 50).text == "", "no task has waited yet"


def test_a_long_task_is_reported_and_counts_for_the_time_left(
    backend: Backend, tmp_path: Path, tuning: Callable[..., None]
) -> None:
    tuning(long_task_s=0.5)
    gate = threading.Event()

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.item == 50:
            gate.wait(60)
        time.sleep(0.005)
        return {}

    run = backend.start(tmp_path / "r", fn, list(range(51)))
    try:
        until(lambda: "1 task has been running for" in run.progress.message, "the message says so")
        progress = run.progress
        assert "× the median" in progress.message
        assert progress.eta_s is not None
        assert progress.eta_s >= 0.5
    finally:
        gate.set()
    assert "the median" not in run.wait(60).message


def test_the_clock_stops_while_a_run_is_paused(tmp_path: Path) -> None:
    run = nbrun.start([{"id": "s", "items": list(range(1000))}], lambda t: time.sleep(0.01) or {}, tmp_path / "r",
                      groups=["item"], view=None)  # fmt: skip
    until(lambda: run.progress.done > 5, "it runs")
    run.pause()
    before = run.progress.elapsed_s
    run.wait(0.05)
    assert run.progress.elapsed_s == before
    run.resume()
    until(lambda: run.progress.elapsed_s > before, "it goes on")
    run.pause()
    run.stop()
    assert run.wait(60).elapsed_s >= before
