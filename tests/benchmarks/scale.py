"""Large samples, many samples, opening what is finished, ending a kernel with requests in flight."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbrun
from tests.benchmarks.registry import benchmark, most


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@benchmark(
    "one_large_sample",
    most("mb_more_than_at_its_start", 64, "memory as one sample collects 1 GB of results, over its start", " MB"),
)
def one_sample() -> dict[str, Any]:
    """Memory while one sample collects 1 GB of results, over that at its start."""
    n, most = 100_000, 0.0
    text = "z" * 10_000
    with tempfile.TemporaryDirectory() as folder:
        samples = [{"id": "big", "solutions": list(range(n))}]
        run = nbrun.start(samples, lambda task: {"n": task.index, "text": text}, Path(folder) / "r", view=None)
        while run.progress.saved < n // 100:
            run.wait(0.001)
        before = _rss_mb()
        while not run.progress.ended:
            run.wait(0.01)
            most = max(most, _rss_mb())
        assert run.progress.saved == n
    return {"mb_more_than_at_its_start": round(most - before, 1)}


@benchmark(
    "million",
    most("peak_mb", 300, "peak memory of 1,000,000 tasks in 10,000 samples", " MB"),
)
def million() -> dict[str, Any]:
    """1,000,000 tasks in 10,000 samples, one run, in this process alone."""
    count, each = 10_000, 100
    samples = ({"id": f"sample-{i:05d}", "solutions": list(range(each))} for i in range(count))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        progress = nbrun.start(samples, lambda task: {"n": task.index}, Path(folder) / "r", view=None).wait()
        took = time.perf_counter() - began
    assert progress.saved == count * each
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": round(peak), "tasks_per_s": round(count * each / took)}


GROWING = """
import json, resource, sys, time, nbrun
folder, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def fn(task):
    return {"accepted": True, "n": task.index}

fn.settings = {}
samples = [{"id": "big", "solutions": list(range(count))}]
if what == "load":
    nbrun.load_results
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
redo = None
if what == "redo":
    frame = nbrun.load_results(folder, columns=["sample_id", "group", "index", "key", "occurrence", "run_id"])
    redo = frame[frame["index"] % 10 == 3]
    del frame
began, cpu_s = time.perf_counter(), time.process_time()
if what == "load":
    frame = nbrun.load_results(folder)
else:
    progress = nbrun.start(samples, fn, folder, redo=redo, view=None).wait()
    assert progress.done == count, progress
out = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_s}
out["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if what == "load":
    out["over_frame"] = (out["peak_mb"] - before / 1024) / (frame.memory_usage(deep=True).sum() / 2**20)
print(json.dumps({name: round(value, 2) for name, value in out.items()}))
"""


@benchmark(
    "growing_sample",
    most("one_more_over_all", 0.25, "one more item in a sample of 1,000,000: CPU time, over that of all", "×"),
    most("one_more.peak_mb", 300, "… peak memory", " MB"),
    most("redo.peak_mb", 600, "a tenth of them again: peak memory", " MB"),
    most("load.over_frame", 2, "loading them: memory over the frame", "×"),
)
def growing() -> dict[str, Any]:
    """One sample of 1,000,000 tasks: all of it, one more item, a tenth of it again, loading it; each in a process."""
    count = 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = {}
        steps = (("all", count), ("one_more", count + 1), ("redo", count + 1), ("load", count + 1))
        for what, n in steps:
            command = [sys.executable, "-c", GROWING, str(Path(folder) / "r"), what, str(n)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            figures[what] = json.loads(done.stdout)
    figures["one_more_over_all"] = round(figures["one_more"]["cpu_s"] / figures["all"]["cpu_s"], 3)
    return figures


@benchmark(
    "opening",
    most("directory_s", 1, "opening a finished directory of 13,610 samples", " s"),
    most("matching_us_an_item", 10, "matching it with the dataset, an item", " µs"),
)
def opening() -> dict[str, Any]:
    """A finished directory of 13,610 samples, warm: opening it, and matching its 136,100 items."""
    count, each = 13_610, 10

    def samples() -> Iterator[dict[str, Any]]:
        return ({"id": f"sample-{i:05d}", "solutions": list(range(each))} for i in range(count))

    def fn(task: nbrun.Task) -> dict[str, Any]:
        return {"accepted": True, "n": task.index}

    with tempfile.TemporaryDirectory() as folder:
        nbrun.start(samples(), fn, Path(folder) / "r", view=None).wait()
        given = list(samples())
        began = time.perf_counter()
        run = nbrun.start(given, fn, Path(folder) / "r", view=None)
        opened = time.perf_counter()
        assert run.wait().resumed == count * each
        ended = time.perf_counter()
    return {
        "directory_s": round(opened - began, 2),
        "matching_us_an_item": round(1e6 * (ended - opened) / count / each, 1),
    }


@benchmark(
    "first_task",
    most("new_directory_ms", 50, "from start() to the first task, a list of 13,610 samples", " ms"),
    most("finished_directory_ms", 300, "the same where all but the last sample are finished", " ms"),
)
def first_task() -> dict[str, Any]:
    """From `nbrun.start()` to the first task: a list of 13,610 samples, in a new directory and in a finished one."""
    count, each = 13_610, 20
    item = {"language": "PYTHON3", "solution": "x" * 300}
    samples = [{"id": f"p{i}", "solutions": [{**item, "n": j} for j in range(each)]} for i in range(count)]
    began = threading.Event()

    def fn(task: nbrun.Task) -> dict[str, Any]:
        began.set()
        return {"n": task.index}

    def seconds(given: list[dict[str, Any]], folder: Path) -> float:
        began.clear()
        start = time.perf_counter()
        run = nbrun.start(given, fn, folder, groups=["solution"], view=None)
        began.wait()
        took = time.perf_counter() - start
        run.stop(drain=False)
        run.wait()
        return took

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh = [seconds(samples, folder / str(i)) for i in range(6)][1:]  # the first one loads the modules
        one = [{**s, "solutions": s["solutions"][:1]} for s in samples]
        nbrun.start(one, fn, folder / "full", groups=["solution"], view=None).wait()
        again = [seconds([*one, {"id": f"new {i}", "solutions": [item]}], folder / "full") for i in range(3)]
    return {
        "new_directory_ms": round(1e3 * statistics.median(fresh), 1),
        "finished_directory_ms": round(1e3 * statistics.median(again), 1),
    }


ENDING = """
import sys, time, nbrun

def fn(task):
    if task.index >= 2000:
        time.sleep(1000)
    return {"n": task.index}

run = nbrun.start([{"id": "s", "solutions": list(range(4000))}], fn, sys.argv[1], workers=768, view=None)
while run.progress.done < 2000 or run.progress.running < 768:
    run.wait(0.05)
print(run.progress.done, time.time(), flush=True)
"""


@benchmark(
    "ending",
    most("seconds", 1, "the end of a process with 768 requests of 1000 s in flight", " s"),
    most("done_and_not_saved", 0, "results lost by that"),
)
def ending() -> dict[str, Any]:
    """The end of a process with 768 requests of 1000 s in flight; what was done is saved."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", ENDING, str(Path(folder) / "r")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        over = time.time()
        count, at = done.stdout.split()
        lost = int(count) - len(nbrun.load_results(Path(folder) / "r"))
    return {"seconds": round(over - float(at), 2), "done_and_not_saved": lost}


@benchmark(
    "beside_a_cell",
    most("p99_ms", 150, "from a task's end to its being saved, p99 beside a cell that computes", " ms"),
)
def beside_a_cell() -> dict[str, Any]:
    """From a task's end to its being saved at 1,000 results a second, while a cell computes."""
    from tests.benchmarks.throughput import delay

    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(i * i for i in range(10_000))

    threading.Thread(target=compute, daemon=True).start()
    try:
        return dict(delay())
    finally:
        over.set()
