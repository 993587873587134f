"""The engine's rules on threads: who waits for what, what is read ahead, how a stop at once ends."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.engine.worker_pool import CompletionQueue
from nbrun.model import CancelFlag, first_attempt
from nbrun.progress import ProgressTracker
from tests.views import controls_of
from tests.waiting import until


def start(results: Path, fn: Any, samples: Any, **more: Any) -> nbrun.Run:
    return nbrun.start(samples, fn, results, view=None, **more)


def test_a_task_that_waits_for_another_try_keeps_no_worker(tmp_path: Path) -> None:
    order = []

    def fn(task: nbrun.Task) -> Any:
        order.append((task.index, task.attempt))
        if task.index == 0 and task.attempt == 1:
            return nbrun.Retry("later", after_s=0.3)
        return {}

    start(tmp_path / "r", fn, [{"id": "s", "solutions": list(range(20))}], workers=1).wait(60)
    assert order == [(0, 1), *((i, 1) for i in range(1, 20)), (0, 2)]


def test_samples_are_read_a_window_ahead(tmp_path: Path) -> None:
    read, go = 0, threading.Event()

    def samples() -> Iterator[dict[str, Any]]:
        nonlocal read
        for i in range(5000):
            read += 1
            yield {"id": i, "solutions": [1]}

    def fn(task: nbrun.Task) -> Any:
        assert go.wait(60)
        return {}

    run = start(tmp_path / "r", fn, samples(), workers=4)
    until(lambda: run.progress.running == 4, "all workers run")
    before = -1
    while before != read:  # until it reads no further
        before = read
        run.wait(0.2)
    assert read < 200
    assert run.progress.total is None
    go.set()
    assert run.wait(60).total == 5000


def test_tasks_of_a_sample_go_out_together(tmp_path: Path) -> None:
    order = []

    def fn(task: nbrun.Task) -> Any:
        order.append(task.sample_id)
        threading.Event().wait(0.001)
        return {}

    start(tmp_path / "r", fn, [{"id": f"s{i}", "solutions": list(range(50))} for i in range(6)], workers=3).wait(60)
    first = {s: order.index(s) for s in set(order)}
    last = {s: len(order) - 1 - order[::-1].index(s) for s in set(order)}
    assert all(first[f"s{i + 2}"] >= last[f"s{i}"] for i in range(4))


def test_a_stop_at_once_cancels_by_fn_and_drops_what_comes_late(tmp_path: Path, tuning: Callable[..., None]) -> None:
    tuning(abandon_after_s=0.3)
    go = threading.Event()

    class Fn:
        def __init__(self) -> None:
            self.cancelled: list[int] = []
            self.running: dict[int, threading.Event] = {}

        def __call__(self, task: nbrun.Task) -> Any:
            over = self.running[task.index] = threading.Event()
            (go if task.index == 0 else over).wait(60)
            return {"n": task.index}

        def cancel(self, task: nbrun.Task) -> None:
            self.cancelled.append(task.index)
            self.running[task.index].set()

    fn = Fn()
    earlier = set(threading.enumerate())  # other tests leave workers behind
    run = start(tmp_path / "r", fn, [{"id": "s", "solutions": list(range(10))}], workers=3)
    until(lambda: len(fn.running) == 3, "three run")
    run.stop(drain=False)
    until(lambda: run.progress.ended, "the run has stopped")
    assert sorted(fn.cancelled) == [0, 1, 2]
    go.set()  # task 0 comes too late
    mine = [t for t in threading.enumerate() if t.name.startswith("nbrun-worker") and t not in earlier]
    until(lambda: not any(t.is_alive() for t in mine), "no worker is left")
    assert run.progress.state == "stopped"
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) in ([], [1], [2], [1, 2])
    assert 0 not in set(nbrun.load_results(tmp_path / "r")["n"])


def test_workers_may_be_fewer_and_more_while_it_runs(tmp_path: Path) -> None:
    now, go, lock = set(), threading.Semaphore(0), threading.Lock()

    def fn(task: nbrun.Task) -> Any:
        with lock:
            now.add(task.index)
        assert go.acquire(timeout=60)
        with lock:
            now.discard(task.index)
        return {}

    run = start(tmp_path / "r", fn, [{"id": "s", "solutions": list(range(100))}], workers=2)
    until(lambda: len(now) == 2, "two run")
    run.workers = 6
    until(lambda: len(now) == 6, "six run")
    run.workers = 1
    go.release(6)
    until(lambda: run.progress.saved == 6 and len(now) == 1, "one runs")
    go.release(94)
    assert run.wait(60).saved == 100


def test_abandoned_tasks_do_not_count_as_running_after_the_end(tmp_path: Path, tuning: Callable[..., None]) -> None:
    tuning(abandon_after_s=0.1)
    begun, go = threading.Semaphore(0), threading.Event()

    def fn(task: nbrun.Task) -> Any:
        begun.release()
        go.wait(60)
        return {}

    run = start(tmp_path / "r", fn, [{"id": "s", "solutions": list(range(5))}], workers=2)
    assert begun.acquire(timeout=60)
    assert begun.acquire(timeout=60)
    assert run.progress.running == 2
    run.stop(drain=False)
    progress = run.wait(60)
    go.set()
    assert (progress.state, progress.running, progress.queued, progress.done) == ("stopped", 0, 5, 0)
    assert not controls_of(run).tasks("s")


def test_workers_that_are_too_many_do_not_all_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three workers, of which one is to end, ask for work at the same time: before any of their threads has ended."""
    together = threading.Barrier(3)
    clear, running, go = CompletionQueue.clear, threading.Barrier(4), threading.Event()

    def clear_together(queue: CompletionQueue) -> None:
        try:
            together.wait(0.5)  # a thread that ends calls this once it got no more work
        except threading.BrokenBarrierError:
            pass
        clear(queue)

    def fn(task: nbrun.Task) -> Any:
        if not go.is_set():
            running.wait(60)
            go.wait(60)
        return {}

    monkeypatch.setattr(CompletionQueue, "clear", clear_together)
    run = start(tmp_path / "r", fn, [{"id": "s", "solutions": list(range(50))}], workers=3)
    running.wait(60)
    run.workers = 2
    go.set()
    assert run.wait(60).done == 50


def test_what_another_carries_is_saved_before_a_stop_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: Callable[..., None]
) -> None:
    """The watch hands over the first result and is held up; the second is laid beside it; then the run is stopped."""
    held, go, returned = threading.Event(), threading.Event(), threading.Event()
    record = ProgressTracker.record

    def slowly(tracker: ProgressTracker, *args: Any) -> None:
        if threading.current_thread().name == "nbrun-flush":
            held.set()
            assert go.wait(60)
        record(tracker, *args)

    monkeypatch.setattr(ProgressTracker, "record", slowly)
    tuning(min_batch_tasks=2)

    def fn(task: nbrun.Task) -> dict[str, int]:
        if task.index == 1:
            assert held.wait(60)
            returned.set()
        return {"n": task.index}

    run = nbrun.start([{"id": "s", "items": [1, 2]}], fn, tmp_path, workers=1, groups=["item"], view=None)
    assert returned.wait(60)
    run.stop()
    run.wait(0.5)
    assert not run.progress.ended
    go.set()
    run.wait(60)
    assert run.progress.ended
    assert sorted(nbrun.load_results(tmp_path).n) == [0, 1]


def test_a_first_attempt_is_a_task_with_all_its_fields() -> None:
    """It is made without the constructor: a field that is added to Task must be set there too."""
    flag = CancelFlag()
    fast = first_attempt("s", "solution", 3, "item", {"id": "s"}, flag)
    usual = nbrun.Task("s", "solution", 3, "item", {"id": "s"}, _flag=flag)
    assert {f.name: getattr(fast, f.name) for f in dataclasses.fields(fast)} == {
        f.name: getattr(usual, f.name) for f in dataclasses.fields(usual)
    }
    assert first_attempt("s", "solution", 3, "item", {}, flag).hint is not fast.hint
