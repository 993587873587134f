"""Results saved a second, against a bare thread pool that saves nothing; and how soon a result is saved."""

import functools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbrun
from tests.benchmarks.registry import benchmark, least, most

TASKS, SAMPLES = 40_000, 400
ROUNDS = 7


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where results stay until the process ends: ext4 makes files slowly for minutes after many were deleted."""
    return tempfile.TemporaryDirectory()


def body(i: int) -> dict[str, Any]:
    """A result of about 1 KB."""
    return {"n": i, "verdict": "Accepted", "stdout": "y" * 800, "time": 0.01}


def bare(workers: int, tasks: int = TASKS) -> float:
    """Seconds of a pool that saves nothing."""
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(body, range(tasks)):
            pass
    return time.perf_counter() - began


def ours(
    samples: Iterable[dict[str, Any]], fn: Callable[[nbrun.Task], Any], workers: int = 8,
    look: Callable[[nbrun.Progress], None] = lambda progress: None,
) -> float:  # fmt: skip
    """Seconds of a run from start to its end; `look` sees its progress every 2 ms. What was saved is loaded, too."""
    over = threading.Event()
    folder = tempfile.mkdtemp(dir=_folder().name)
    began = time.perf_counter()
    run = nbrun.start(samples, fn, Path(folder) / "results", workers=workers, view=None)

    def poll() -> None:
        while not over.wait(0.002):
            look(run.progress)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    progress = run.wait()
    took = time.perf_counter() - began
    over.set()
    thread.join()
    assert progress.errors == 0
    loaded = nbrun.load_samples(Path(folder) / "results")
    assert bool(loaded.is_complete.all())
    assert loaded.completed_solutions.sum() == progress.saved == progress.total
    return took


def _many_small() -> Iterable[dict[str, Any]]:
    per_sample = TASKS // SAMPLES
    return ({"id": f"s{i}", "solutions": list(range(per_sample))} for i in range(SAMPLES))


def ratio(workers: int, rounds: int) -> tuple[float, int]:
    """(rate saved / rate of the bare pool, the most results that were unsaved at a time)."""
    most = 0

    def look(progress: nbrun.Progress) -> None:
        nonlocal most
        most = max(most, progress.unsaved)

    def fn(task: nbrun.Task) -> dict[str, Any]:
        return body(task.index)

    ratios = [bare(workers) / ours(_many_small(), fn, workers, look) for _ in range(rounds)]
    return statistics.median(ratios), most


def delay() -> dict[str, float]:
    """Milliseconds from a task's end to its being saved, at 1,000 results a second."""
    ended: list[float] = []
    saved: list[float] = []
    begin = time.perf_counter() + 0.5

    def fn(task: nbrun.Task) -> dict[str, Any]:
        time.sleep(max(0.0, begin + task.index * 0.001 - time.perf_counter()))
        ended.append(time.perf_counter())
        return body(task.index)

    def look(progress: nbrun.Progress) -> None:
        now = time.perf_counter()
        saved.extend([now] * (progress.saved - len(saved)))

    ours([{"id": "s", "solutions": list(range(10_000))}], fn, 8, look)
    late = sorted((b - a) * 1000 for a, b in zip(sorted(ended), saved, strict=False))
    return {"p50_ms": round(late[len(late) // 2], 1), "p99_ms": round(late[int(len(late) * 0.99)], 1)}


def growth() -> float:
    """The cost of a result in a sample of 60,000 over its cost in one of 6,000."""
    result = {
        "accepted": True,
        "tests": [{"passed": True, "exec_info": {"status": "Finished", "stdout": "z" * 100}}] * 10,
    }

    def one(n: int) -> float:
        return ours([{"id": "big", "solutions": list(range(n))}], lambda task: result) / n

    return statistics.median(one(60_000) / one(6_000) for _ in range(3))


@benchmark(
    "throughput",
    least("durable_over_bare_pool_8_workers", 1.5, "results saved, over a thread pool that saves nothing", "×"),
    least("durable_over_bare_pool_64_workers", 1, "the same with 64 threads in both", "×"),
    most("most_unsaved", 1000, "most results unsaved at a time"),
    most("delay_at_1000_a_second.p99_ms", 50, "from a task's end to its being saved, p99 at 1,000 a second", " ms"),
    most("growth_60000_over_6000", 1.3, "a result in a sample of 60,000, over one in 6,000", "×"),
)
def main() -> dict[str, Any]:
    """All figures."""
    at_8, most = ratio(8, ROUNDS)
    at_64, _ = ratio(64, 3)
    return {
        "durable_over_bare_pool_8_workers": round(at_8, 2),
        "durable_over_bare_pool_64_workers": round(at_64, 2),
        "most_unsaved": most,
        "delay_at_1000_a_second": delay(),
        "growth_60000_over_6000": round(growth(), 2),
    }
