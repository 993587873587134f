"""Threads of this process, and one event loop: efficiency, CPU, and what keeping the books costs."""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbrun
from tests.benchmarks.registry import benchmark, least, most, peer
from tests.benchmarks.throughput import body


def _run(samples: Iterable[dict[str, Any]], fn: Any, workers: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        progress = nbrun.start(samples, fn, Path(folder) / "r", workers=workers, view=None).wait()
        took, used = time.perf_counter() - began, time.process_time() - cpu
        assert progress.saved == progress.total
    return took, used


@benchmark(
    "sixteen_threads",
    most("over_ideal_percent", 2, "10,000 tasks of 50 ms on 16 threads, over the ideal time", " %"),
)
def sixteen() -> dict[str, Any]:
    """10,000 tasks of 50 ms on 16 threads, over the ideal time."""
    samples = [{"id": f"s{i}", "solutions": list(range(100))} for i in range(100)]
    took, _ = _run(samples, lambda task: time.sleep(0.05), 16)
    return {"over_ideal_percent": round(100 * (took / (10_000 * 0.05 / 16) - 1), 2)}


def _duration(index: int) -> float:
    return 0.05 + 0.1 * ((index * 37) % 101) / 100


@benchmark(
    "many_threads",
    least("768_threads.of_ideal", 0.92, "768 threads, tasks of 50–150 ms, of the ideal rate"),
    most("768_threads.cores", 1, "CPU cores that this takes"),
    peer("2000_coroutines.of_ideal", "2,000 coroutines with the same tasks, of the ideal rate"),
)
def many() -> dict[str, Any]:
    """768 threads with tasks of 50 to 150 ms, and 2,000 coroutines with the same: of the ideal rate; cores used."""

    def fn(task: nbrun.Task) -> Any:
        time.sleep(_duration(task.index))
        return body(task.index)

    async def coroutine(task: nbrun.Task) -> Any:
        await asyncio.sleep(_duration(task.index))
        return body(task.index)

    out = {}
    mean = statistics.mean(_duration(i) for i in range(128))
    for name, called, workers in (("768_threads", fn, 768), ("2000_coroutines", coroutine, 2000)):
        n = workers * 100 // 128 * 128
        samples = ({"id": f"s{i}", "solutions": list(range(128))} for i in range(n // 128))
        took, cpu = _run(samples, called, workers)
        out[name] = {"of_ideal": round(n * mean / workers / took, 3), "cores": round(cpu / took, 2)}
    return out


@benchmark(
    "bookkeeping",
    most("bytes_per_finished_sample", 300, "memory a finished sample keeps", " bytes"),
    most("bytes_per_task", 20, "the same by task", " bytes"),
    most("cpu_us_per_task", 40, "CPU a task, no-op tasks in threads", " µs"),
)
def bookkeeping() -> dict[str, Any]:
    """What a finished sample and a task keep in memory (as tracemalloc counts, from a tenth of a run to its end), and
    what a task costs in CPU (of a run that isn't traced)."""
    count, each = 20_000, 25

    def run(folder: str) -> nbrun.Run:
        samples = ({"id": f"sample-{i:06d}", "solutions": list(range(each))} for i in range(count))
        return nbrun.start(samples, lambda task: {"n": task.index}, Path(folder) / "r", workers=8, view=None)

    with tempfile.TemporaryDirectory() as folder:
        cpu = time.process_time()
        run(folder).wait()
        used = time.process_time() - cpu
    with tempfile.TemporaryDirectory() as folder:
        tracemalloc.start(1)
        traced = run(folder)
        while traced.progress.samples_done < count // 10:
            traced.wait(0.01)
        before, done = tracemalloc.get_traced_memory()[0], traced.progress.samples_done
        traced.wait()
        gc.collect()
        per_sample = (tracemalloc.get_traced_memory()[0] - before) / (count - done)
    return {
        "bytes_per_finished_sample": round(per_sample),
        "bytes_per_task": round(per_sample / each, 1),
        "cpu_us_per_task": round(1e6 * used / count / each, 1),
    }
