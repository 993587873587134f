"""Threads of this process, and one event loop: efficiency, CPU, and what keeping the books costs."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbrun
from tests.benchmarks.throughput import body


def _run(samples: Iterable[dict[str, Any]], fn: Any, workers: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        progress = nbrun.start(samples, fn, Path(folder) / "r", workers=workers, view=None).wait()
        took, used = time.perf_counter() - began, time.process_time() - cpu
        assert progress.saved == progress.total
    return took, used


def sixteen() -> dict[str, Any]:
    """10,000 tasks of 50 ms on 16 threads, over the ideal time."""
    samples = [{"id": f"s{i}", "solutions": list(range(100))} for i in range(100)]
    took, _ = _run(samples, lambda task: time.sleep(0.05), 16)
    return {"over_ideal_percent": round(100 * (took / (10_000 * 0.05 / 16) - 1), 2)}


def _duration(index: int) -> float:
    return 0.05 + 0.1 * ((index * 37) % 101) / 100


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
        n = workers * 40 // 128 * 128
        samples = ({"id": f"s{i}", "solutions": list(range(128))} for i in range(n // 128))
        took, cpu = _run(samples, called, workers)
        out[name] = {"of_ideal": round(n * mean / workers / took, 3), "cores": round(cpu / took, 2)}
    return out


def more_threads_than_useful() -> dict[str, Any]:
    """Tasks of 2 ms: results a second by the number of threads."""

    def rate(workers: int) -> int:
        n = 20_000
        samples = ({"id": f"s{i}", "solutions": list(range(100))} for i in range(n // 100))
        return round(n / _run(samples, lambda task: time.sleep(0.002), workers)[0])

    return {f"{workers}_threads_per_s": rate(workers) for workers in (16, 64, 128, 256, 768)}


def bookkeeping() -> dict[str, Any]:
    """What a finished sample and a task cost in memory (its growth from a tenth of the run to its end), and in CPU."""
    count, each = 20_000, 25

    def rss() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    samples = ({"id": f"sample-{i:06d}", "solutions": list(range(each))} for i in range(count))
    with tempfile.TemporaryDirectory() as folder:
        cpu = time.process_time()
        run = nbrun.start(samples, lambda task: {"n": task.index}, Path(folder) / "r", workers=8, view=None)
        while run.progress.samples_done < count // 10:
            run.wait(0.01)
        before, done = rss(), run.progress.samples_done
        run.wait()
        grown, used = rss() - before, time.process_time() - cpu
    per_sample = max(0.0, grown / (count - done))
    return {
        "bytes_per_finished_sample": round(per_sample),
        "bytes_per_task": round(per_sample / each, 1),
        "cpu_us_per_task": round(1e6 * used / count / each, 1),
    }
