"""Tasks of some microseconds are run by one worker; a task that takes longer brings all workers back."""

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.storage.directory import FINGERPRINT_BYTES, InFlightTasks
from tests.waiting import until

WORKERS, LONG = 16, 64


def test_long_tasks_after_tiny_ones_run_on_all_workers(tmp_path: Path) -> None:
    """The long tasks wait for one another: they end only once WORKERS of them run at the same time."""
    together = threading.Barrier(WORKERS)
    names: set[str] = set()

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.sample["long"]:
            names.add(threading.current_thread().name)
            together.wait(60)
        return {"n": task.index}

    samples = [{"id": f"s{i}", "solutions": list(range(200)), "long": False} for i in range(20)]
    samples += [{"id": f"l{i}", "solutions": list(range(16)), "long": True} for i in range(LONG // 16)]
    progress = nbrun.start(samples, fn, tmp_path / "r", workers=WORKERS, view=None).wait(120)
    assert progress.state == "done"
    assert progress.saved == 20 * 200 + LONG
    assert len(names) == WORKERS


def test_a_long_task_in_the_midst_of_a_batch_keeps_no_other_waiting(tmp_path: Path) -> None:
    """Each 500th task waits until all the others have ended, which are thieves' work then."""
    n, every = 5_000, 500
    ended = 0
    lock = threading.Lock()
    others_ended = threading.Event()

    def fn(task: nbrun.Task) -> dict[str, Any]:
        nonlocal ended
        if task.index % every == every // 2:
            assert others_ended.wait(60)
        else:
            with lock:
                ended += 1
                if ended == n - n // every:
                    others_ended.set()
        return {"n": task.index}

    workers = n // every + 1
    run = nbrun.start([{"id": "s", "solutions": list(range(n))}], fn, tmp_path / "r", workers=workers, view=None)
    progress = run.wait(120)
    assert (progress.state, progress.saved, progress.errors) == ("done", n, 0)


def test_a_worker_that_watched_another_hands_that_on_when_it_takes_a_task(tmp_path: Path, tuning: Any) -> None:
    """It looks while a long task has just begun, and takes the next one: about one in twelve of these runs.

    The long tasks end only once all of them have begun.
    """
    tuning(solo_stuck_s=0.1)
    workers, quick = 8, 40
    for number in range(60):
        all_begun = threading.Barrier(workers)

        def fn(task: nbrun.Task, all_begun: threading.Barrier = all_begun) -> dict[str, Any]:
            if task.index >= quick:
                all_begun.wait(30)
            return {"n": task.index}

        samples = [{"id": "s", "solutions": list(range(quick + workers))}]
        run = nbrun.start(samples, fn, tmp_path / f"r{number}", workers=workers, retry=None, view=None)
        progress = run.wait(120)
        assert (progress.state, progress.saved, progress.errors) == ("done", quick + workers, 0)


def test_the_first_tasks_run_before_later_ones_though_their_worker_was_slow_to_record_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 64 workers four tasks are recorded together. The later tasks end only once the first four have ended."""
    workers, first = 64, 4
    others_are_busy, first_ended = threading.Event(), threading.Event()
    begun, ended = itertools.count(1), itertools.count(1)
    record = InFlightTasks.record

    def slow_for_the_first(self: InFlightTasks, slot: int, fingerprints: bytes) -> None:
        if slot == 0 and not others_are_busy.is_set():
            assert others_are_busy.wait(60)
        record(self, slot, fingerprints)

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.index < first:
            if next(ended) == first:
                first_ended.set()
        else:
            if next(begun) == workers - 1:
                others_are_busy.set()
            assert first_ended.wait(60)
        return {"n": task.index}

    monkeypatch.setattr(InFlightTasks, "record", slow_for_the_first)
    samples = [{"id": "s", "solutions": list(range(first + workers))}]
    progress = nbrun.start(samples, fn, tmp_path / "r", workers=workers, retry=None, view=None).wait(120)
    assert (progress.state, progress.saved, progress.errors) == ("done", first + workers, 0)


def test_tiny_tasks_are_known_by_the_first_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time a worker takes tasks it takes many: what it guessed before it had measured any counts no more."""
    taken: list[int] = []
    monkeypatch.setattr(
        InFlightTasks, "record", lambda self, slot, fingerprints: taken.append(len(fingerprints) // FINGERPRINT_BYTES)
    )
    most = 0
    for n in range(5):  # a machine that is busy elsewhere may take its time for one task
        taken.clear()
        samples = [{"id": "s", "solutions": list(range(1000))}]
        nbrun.start(samples, lambda task: {"n": task.index}, tmp_path / f"r{n}", workers=1, view=None).wait(60)
        assert taken[0] == 1
        most = max(most, taken[1])
    assert most > 8


def test_idle_workers_cost_no_time(tmp_path: Path) -> None:
    """Workers whose tasks were tiny sleep while there is nothing to do."""
    go = threading.Event()

    def samples() -> Any:
        yield {"id": "a", "solutions": list(range(2_000))}
        assert go.wait(60)
        yield {"id": "b", "solutions": list(range(10))}

    run = nbrun.start(samples(), lambda task: {"n": task.index}, tmp_path / "r", workers=8, view=None)
    until(lambda: run.progress.saved == 2_000, "all of the first sample is saved")
    before, began = time.process_time(), time.monotonic()
    run.wait(1.0)
    share = (time.process_time() - before) / (time.monotonic() - began)
    go.set()
    assert run.wait(60).state == "done"
    assert share < 0.2
