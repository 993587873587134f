"""Attempts that take longer than timeout_s: another worker takes over, and what they still return is dropped."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.errors import RunHaltedError
from nbrun.storage import files
from tests.engine.backends import Backend, open_backend
from tests.waiting import patience, until


@pytest.fixture(scope="module", params=["threads", "async", "pool of threads", "spawn"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with open_backend(request.param) as opened:
        yield opened


def start(results: Path, fn: Any, items: list[Any], **more: Any) -> nbrun.Run:
    more = {"groups": ["item"], "view": None, "retry": None} | more
    return nbrun.start([{"id": "s", "items": items}], fn, results, **more)


def test_a_task_that_hangs_ends_in_an_error_and_the_others_go_on(backend: Backend, tmp_path: Path) -> None:
    go = str(tmp_path / "go")

    def fn(task: nbrun.Task) -> Any:
        while task.item == 3 and not os.path.exists(go):
            time.sleep(0.02)
        return {"n": task.item}

    limit_s = round(patience(0.5), 1)
    run = backend.run(tmp_path / "r", fn, list(range(20)), retry=None, timeout_s=limit_s)
    Path(go).touch()
    assert (run.progress.done, run.progress.errors) == (19, 1)
    frame = nbrun.load_results(tmp_path / "r")
    (error,) = frame[frame["status"] == "error"]["error"]
    assert error.startswith(f"TaskTimeout: the attempt took longer than timeout_s={limit_s:g}")


def test_an_attempt_that_timed_out_is_tried_again(backend: Backend, tmp_path: Path) -> None:
    go = str(tmp_path / "go")

    def fn(task: nbrun.Task) -> Any:
        while task.attempt == 1 and not os.path.exists(go):
            time.sleep(0.02)
        return {"attempt": task.attempt}

    run = backend.run(tmp_path / "r", fn, [1], retry=nbrun.RetryPolicy(delay_s=0.01), timeout_s=patience(0.3))
    Path(go).touch()
    assert run.progress.done == 1
    assert nbrun.load_results(tmp_path / "r")["attempt"].tolist() == [2]


def test_a_coroutine_is_cancelled(tmp_path: Path) -> None:
    cancelled = []

    async def fn(task: nbrun.Task) -> Any:
        try:
            await asyncio.sleep(60 if task.item else 0)
        except asyncio.CancelledError:
            cancelled.append(task.item)
            if task.item == 2:
                return {"late": True}
            raise
        return {}

    progress = start(tmp_path / "r", fn, [0, 1, 2], timeout_s=patience(0.2)).wait(60)
    assert (progress.done, progress.errors) == (1, 2)
    assert sorted(cancelled) == [1, 2]
    assert [kind.type for kind in progress.error_kinds] == ["TaskTimeout"]


def test_a_time_out_of_the_functions_own_is_its_own(tmp_path: Path) -> None:
    async def fn(task: nbrun.Task) -> Any:
        raise TimeoutError("mine")

    progress = start(tmp_path / "r", fn, [0], timeout_s=5).wait(60)
    assert [kind.type for kind in progress.error_kinds] == ["TimeoutError"]


def test_a_late_result_is_dropped_and_counted(tmp_path: Path) -> None:
    """The threads come back after their time: neither a result nor an exception counts."""
    late = threading.Event()
    cancelled = []

    def fn(task: nbrun.Task) -> Any:
        late.wait(60)
        cancelled.append(task.cancelled())
        if task.item == "raises":
            raise ValueError("late")
        return {"late": True}

    run = start(tmp_path / "r", fn, ["returns", "raises"], timeout_s=0.2, workers=2)
    run.wait(60)
    assert "2 threads still run tasks that took longer than timeout_s" in run.progress.message
    late.set()
    until(lambda: "2 results came after timeout_s" in run.progress.message, "they came back")
    assert cancelled == [True, True]
    frame = nbrun.load_results(tmp_path / "r")
    assert frame["status"].tolist() == ["error", "error"]
    assert frame["error"].str.startswith("TaskTimeout").all()


def test_the_error_shows_where_it_hangs(tmp_path: Path) -> None:
    stop = threading.Event()

    def waits_for_nothing() -> None:
        stop.wait(60)

    def fn(task: nbrun.Task) -> Any:
        waits_for_nothing()

    progress = start(tmp_path / "r", fn, [0], timeout_s=0.1).wait(60)
    stop.set()
    assert "waits_for_nothing" in progress.recent_errors[0].traceback
    assert "worker.py" not in progress.recent_errors[0].traceback


def test_tasks_that_a_hanging_worker_had_taken_are_run_by_others(tmp_path: Path) -> None:
    """Tiny tasks are taken many at a time, and one among them hangs."""
    stop = threading.Event()

    def fn(task: nbrun.Task) -> Any:
        if task.item == 700:
            stop.wait(60)
        return {}

    progress = start(tmp_path / "r", fn, list(range(1000)), timeout_s=0.3, workers=1).wait(60)
    stop.set()
    assert (progress.done, progress.errors, progress.saved) == (999, 1, 1000)


def test_more_lost_threads_than_workers_pause_the_run(tmp_path: Path) -> None:
    stop = threading.Event()

    def fn(task: nbrun.Task) -> Any:
        stop.wait(60 if task.item % 2 else 0)
        return {}

    run = start(tmp_path / "r", fn, list(range(40)), timeout_s=0.05, workers=2)
    until(lambda: run.progress.state == "paused", "it pauses")
    assert "3 threads still run tasks" in run.progress.message
    with pytest.raises(RunHaltedError, match="timeout_s"):
        run.wait(60)
    stop.set()
    run.resume()
    assert run.wait(60).state == "done"


def test_a_run_that_paused_itself_and_was_stopped_is_waited_for(tmp_path: Path) -> None:
    """After a stop of a paused run the wait goes on to the run's end, and then raises the reason of the pause."""
    gate, stopped, drained = threading.Event(), threading.Event(), threading.Event()

    def hold(operation: str, path: str) -> None:
        if stopped.is_set() and threading.current_thread().name == "nbrun-run":
            assert drained.wait(60), "the disk answers late"

    run = start(tmp_path / "r", lambda t: gate.wait(60) and {}, list(range(40)), timeout_s=0.05, workers=2)
    until(lambda: run.progress.state == "paused", "it pauses")
    with files.observe(hold):
        stopped.set()
        run.stop()
        assert run.wait(0.2).state == "draining"
        drained.set()
        gate.set()
        with pytest.raises(RunHaltedError, match="timeout_s"):
            run.wait(60)
    assert run.progress.state == "stopped"


def test_a_stop_with_a_lost_thread_ends_at_once(tmp_path: Path) -> None:
    stop = threading.Event()
    run = start(tmp_path / "r", lambda t: stop.wait(60) and {}, [0], timeout_s=0.1, retry=nbrun.RetryPolicy(delay_s=99))
    until(lambda: run.progress.waiting == 1, "it waits for another try")
    began = time.monotonic()
    run.stop(drain=False)
    assert run.wait(60).state == "stopped"
    assert time.monotonic() - began < patience(4)
    stop.set()


def test_a_coroutine_that_ignores_its_cancellation_delays_no_other_task(
    tmp_path: Path, tuning: Callable[..., None]
) -> None:
    tuning(cancel_s=0.1)
    gate = threading.Event()

    async def fn(task: nbrun.Task) -> Any:
        while task.item == 0 and not gate.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
        return {}

    run = start(tmp_path / "r", fn, list(range(20)), timeout_s=patience(0.2), workers=2)
    until(lambda: "1 task ignores its cancellation" in run.progress.message or run.progress.ended, "it is left")
    progress = run.wait(60)
    gate.set()
    assert (progress.done, progress.errors) == (19, 1)


def test_a_stop_ends_coroutines_that_have_a_time_out(tmp_path: Path) -> None:
    ended = []

    async def fn(task: nbrun.Task) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(task.item)

    run = start(tmp_path / "r", fn, [1, 2], timeout_s=50)
    until(lambda: run.progress.running == 2, "they run")
    run.stop(drain=False)
    assert run.wait(60).state == "stopped"
    assert sorted(ended) == [1, 2]
