"""`async def fn`: one loop, many in flight, each can be cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.storage.files import observe
from tests.waiting import until


def start(results: Path, fn: Any, n: int, **more: Any) -> nbrun.Run:
    return nbrun.start([{"id": "s", "solutions": list(range(n))}], fn, results, view=None, **more)


def test_two_thousand_are_in_flight_on_one_loop(tmp_path: Path) -> None:
    waiting, threads, all_here = 0, set(), asyncio.Event()

    async def fn(task: nbrun.Task) -> Any:
        nonlocal waiting
        threads.add(threading.current_thread().name)
        waiting += 1
        if waiting == 2000:
            all_here.set()
        await all_here.wait()
        return {"n": task.index}

    run = start(tmp_path / "r", fn, 5000, workers=2000)
    assert run.wait(120).saved == 5000
    assert threads == {"nbrun-loop"}
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(5000))


def test_workers_can_be_set_while_it_runs(tmp_path: Path) -> None:
    now = most = 0
    go = asyncio.Event()
    loops: set[asyncio.AbstractEventLoop] = set()

    async def fn(task: nbrun.Task) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if task.index < 3:
            loops.add(asyncio.get_running_loop())
            await go.wait()
        now -= 1
        return {}

    run = start(tmp_path / "r", fn, 50, workers=3)
    until(lambda: now == 3, "three run")
    run.workers = 4
    assert run.progress.running <= 4
    until(lambda: run.progress.saved == 47, "the fourth does the rest")
    loops.pop().call_soon_threadsafe(go.set)
    assert run.wait(60).saved == 50
    assert most == 4


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_stop_at_once_cancels_what_is_in_flight(stubborn: bool, tmp_path: Path, tuning: Callable[..., None]) -> None:
    if stubborn:
        tuning(abandon_after_s=0.2)
    seen = []

    async def fn(task: nbrun.Task) -> Any:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append(task.cancelled())
                if not stubborn:
                    raise

    run = start(tmp_path / "r", fn, 100, workers=20)
    until(lambda: run.progress.running == 20, "all are in flight")
    run.stop(drain=False)
    until(lambda: run.progress.ended, "the run has stopped")
    assert seen == [True] * 20
    assert (run.progress.state, run.progress.saved) == ("stopped", 0)


@pytest.mark.parametrize("timeout_s", [None, 60])
def test_cancelled_tasks_clean_up_before_the_loop_ends_and_nothing_is_printed(
    timeout_s: float | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cleaned, background = [], []

    class Client:
        closed_after = 0

        async def __call__(self, task: nbrun.Task) -> Any:
            background.append(asyncio.create_task(asyncio.sleep(600)))
            try:
                await asyncio.sleep(600)
            finally:
                for _ in range(20):  # as a connection that is closed politely
                    await asyncio.sleep(0)
                cleaned.append(task.index)

        async def aclose(self) -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            self.closed_after = len(cleaned)

    client = Client()
    run = start(tmp_path / "r", client, 20, workers=10, timeout_s=timeout_s)
    until(lambda: run.progress.running == 10, "all are in flight")
    run.stop(drain=False)
    until(lambda: run.progress.ended, "the run has stopped")
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("nbrun-loop")], "its threads have ended")
    assert (run.progress.state, run.progress.message) == ("stopped", "")
    assert (len(cleaned), client.closed_after) == (10, 10)
    assert all(task.cancelled() for task in background)
    background.clear()
    gc.collect()
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


def test_the_loop_ends_with_the_run_and_closes_what_fn_holds(tmp_path: Path) -> None:
    class Client:
        closed_in: Any = None

        async def __call__(self, task: nbrun.Task) -> Any:
            self.loop = asyncio.get_running_loop()
            return {}

        async def aclose(self) -> None:
            self.closed_in = asyncio.get_running_loop()

    client = Client()
    start(tmp_path / "r", client, 5).wait(60)
    until(lambda: client.closed_in, "it was closed")
    assert client.closed_in is client.loop
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("nbrun-loop")], "its threads have ended")


def test_a_coroutine_by_mistake_is_reported(tmp_path: Path) -> None:
    async def fn(task: nbrun.Task) -> Any:
        return {}

    run = start(tmp_path / "r", lambda task: fn(task), 1, retry=None)
    run.wait(60)
    assert "give the async function itself" in run.errors()["error"].iloc[0]


def test_while_something_that_has_ended_is_not_counted_something_runs(
    tmp_path: Path, tuning: Callable[..., None]
) -> None:
    """Once nothing runs, the numbers are complete, and `retry_errors()` finds every error."""
    tuning(max_unsaved=1)
    loops, go, ended = [], threading.Event(), 0

    async def fn(task: nbrun.Task) -> Any:
        nonlocal ended
        loops.append(asyncio.get_running_loop())
        ended += 1
        return {}

    def hook(operation: str, path: Any) -> None:
        if ended and threading.current_thread().name == "nbrun-journal":
            go.wait(60)

    async def nothing() -> None:
        pass

    with observe(hook):  # the journal's thread waits, and with it the thread that counts outcomes
        samples = [{"id": f"s{n}", "solutions": [n]} for n in range(5)]
        run = nbrun.start(samples, fn, tmp_path / "r", view=None, workers=8)
        try:
            until(lambda: ended == 5 and run.progress.done, "all have ended, and one is counted")
            for _ in range(3):  # what the tasks' ends have scheduled has run then
                asyncio.run_coroutine_threadsafe(nothing(), loops[0]).result(60)
            progress = run.progress
            assert progress.done < 5
            assert progress.running > 0
            assert progress.queued == 0
        finally:
            go.set()
        assert run.wait(60).done == 5
