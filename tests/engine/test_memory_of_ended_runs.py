"""What runs that have ended keep in memory: nothing that grows with their samples' content."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from tests.waiting import until

SAMPLES, BYTES = 60, 60_000
TOTAL = SAMPLES * BYTES


def make(run: int) -> Iterator[dict[str, Any]]:
    """About 3.6 MB of samples, which only the run refers to."""
    for i in range(SAMPLES):
        yield {
            "id": f"{run}-{i}",
            "text": "x" * (BYTES // 2),
            "items": [f"{k}" + "y" * (BYTES // 20) for k in range(10)],
        }


def good(task: nbrun.Task) -> dict[str, Any]:
    return {"text": task.item, "n": len(task.sample["text"])}


async def async_good(task: nbrun.Task) -> dict[str, Any]:
    return good(task)


def start(results: Path, fn: Any, samples: Any, **more: Any) -> nbrun.Run:
    return nbrun.start(samples, fn, results, groups=["item"], view=None, **more)


@pytest.fixture
def kept() -> Iterator[Callable[[], int]]:
    """How many bytes more are in use than at the last call."""
    others = set(threading.enumerate())  # what other tests have left running, such as a task that never ends
    tracemalloc.start()
    before = 0

    def threads() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("nbrun-") and t not in others]

    def measure() -> int:
        nonlocal before
        until(lambda: not threads(), "its threads have ended")
        gc.collect()
        now = tracemalloc.get_traced_memory()[0]
        grown, before = now - before, now
        return grown

    yield measure
    tracemalloc.stop()


@pytest.mark.parametrize("fn", [good, async_good])
@pytest.mark.parametrize("kind", [list, iter])
def test_a_run_that_is_complete_keeps_no_samples(fn: Any, kind: Any, tmp_path: Path, kept: Callable[[], int]) -> None:
    runs = []
    for number in range(4):
        runs.append(start(tmp_path / f"r{number}", fn, kind(make(number))))
        assert runs[-1].wait(60).done == 10 * SAMPLES
        grown = kept()
        assert number == 0 or grown < TOTAL // 8, (number, grown)
    assert [run.progress.done for run in runs] == [10 * SAMPLES] * 4
    assert len(runs[0].results()) == 10 * SAMPLES


def test_runs_without_references_are_gone(tmp_path: Path, kept: Callable[[], int]) -> None:
    gone = []
    for number in range(3):
        run = start(tmp_path / f"r{number}", good, list(make(number)))
        run.wait(60)
        run.progress  # noqa: B018 - a snapshot must not hold it either
        gone.append(weakref.ref(run))
        del run
    kept()
    assert [ref() for ref in gone] == [None] * 3


def test_a_run_in_progress_is_kept_without_references(tmp_path: Path) -> None:
    start(tmp_path / "r", good, list(make(0)), max_per_s=200)
    gc.collect()
    assert start(tmp_path / "r", good, list(make(0))).wait(60).done == 10 * SAMPLES


def test_samples_with_errors_are_kept_up_to_a_bound(
    tmp_path: Path, kept: Callable[[], int], tuning: Callable[..., None]
) -> None:
    """Of a stream: the newest ones, which can be retried while the run is there."""
    tuning(kept_error_bytes=TOTAL // 10)

    def half(task: nbrun.Task) -> dict[str, Any]:
        if task.index == 3:
            raise ValueError("no")
        return good(task)

    runs = []
    for number in range(4):
        runs.append(start(tmp_path / f"r{number}", half, make(number), retry=None))
        assert runs[-1].wait(60).errors == SAMPLES
        grown = kept()
        assert number == 0 or grown < TOTAL // 3, (number, grown)
