"""The largest job known of this kind, simulated: 13,610 samples, 11.6 million tasks, 768 workers; time over 1,000.

Sizes and times are drawn from heavy-tailed distributions with the real job's means (852 tasks a sample, 17 s a task),
by the sample's number, so that each process draws the same. A part of the job (1/100, 1/10) is killed at half, run
again to its end, and loaded; growth from one part to the next shows whether the whole would grow linearly.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import resource
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbrun
from tests.benchmarks.registry import benchmark, in_child, most, peer

SAMPLES, TASKS, WORKERS, MEAN_S = 13_610, 11_600_000, 768, 0.017
ROUNDS = 5  # of `bookkeeping`
SPREAD = 1.0  # of the logarithm of a sample's size, and of a task's time


def samples(part: int) -> Iterator[dict[str, Any]]:
    """The first samples, a `part`-th of all."""
    mean = TASKS / SAMPLES
    for number in range(SAMPLES // part):
        draw = random.Random(number)
        size = max(1, round(mean * math.exp(draw.gauss(-(SPREAD**2) / 2, SPREAD))))
        yield {"id": f"problem-{number:05d}", "tests": ["1 2 3"] * 10, "solutions": list(range(size))}


def fn(task: nbrun.Task) -> dict[str, Any]:
    draw = random.Random(task.index)
    took = MEAN_S * math.exp(draw.gauss(-(SPREAD**2) / 2, SPREAD))
    time.sleep(took)
    return {"accepted": task.index % 3 > 0, "verdict": "Accepted" if task.index % 3 else "WrongAnswer", "time_s": took}


def child(folder: str, part: int, kill_at: float) -> dict[str, Any]:
    """One process of the job: when it was ready, and what it took. It kills itself at a share of the tasks."""
    began = time.perf_counter()
    first: list[float] = []

    def called(task: nbrun.Task) -> dict[str, Any]:
        if not first:
            first.append(time.perf_counter() - began)
        return fn(task)

    called.settings = {"job": "largest"}  # type: ignore[attr-defined]
    run = nbrun.start(samples(part), called, folder, workers=WORKERS, view=None)
    goal = sum(len(s["solutions"]) for s in samples(part)) * kill_at
    while not run.progress.ended:
        run.wait(0.2)
        if kill_at and run.progress.done >= goal:
            os.kill(os.getpid(), 9)
    progress = run.progress
    ended_here = progress.done - progress.resumed
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "state": progress.state, "done": progress.done, "resumed": progress.resumed, "errors": progress.errors,
        "ready_s": first[0], "wall_s": time.perf_counter() - began, "peak_mb": usage.ru_maxrss / 1024,
        "cpu_us_per_task": 1e6 * (usage.ru_utime + usage.ru_stime) / max(1, ended_here),
    }  # fmt: skip


def bare(part: int) -> dict[str, Any]:
    """The same tasks in as many plain threads, and nothing saved: what that takes."""
    tasks = (nbrun.Task(s["id"], "solution", i, i, s) for s in samples(part) for i in s["solutions"])
    lock = threading.Lock()
    done = 0

    def work() -> None:
        nonlocal done
        while True:
            with lock:
                task = next(tasks, None)
                done += task is not None
            if task is None:
                return
            fn(task)

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"tasks_per_s": done / wall, "cpu_us_per_task": 1e6 * (usage.ru_utime + usage.ru_stime) / done}


def one(part: int) -> dict[str, Any]:
    """A part of the job: killed at half, run to its end, loaded; and a hundredth of it in plain threads."""
    total = sum(len(s["solutions"]) for s in samples(part))
    with tempfile.TemporaryDirectory() as folder:
        results = str(Path(folder) / "r")
        began = time.perf_counter()
        with contextlib.suppress(subprocess.CalledProcessError):
            raise AssertionError(f"it was not killed: {in_child(child, results, part, 0.5)}")
        to_half = time.perf_counter() - began
        end = in_child(child, results, part, 0.0)
        assert (end["state"], end["done"], end["errors"]) == ("done", total, 0), end
        size = sum(f.stat().st_size for f in Path(results).rglob("*") if f.is_file())
        began = time.perf_counter()
        frame = nbrun.load_results(results)
        loaded = time.perf_counter() - began
        assert len(frame) == total
        assert not frame.duplicated(["sample_id", "index"]).any()
    plain = in_child(bare, 100)
    return {
        "tasks": total,
        "samples": SAMPLES // part,
        "wall_s": round(to_half + end["wall_s"], 1),
        "tasks_per_s": round((total - end["resumed"]) / end["wall_s"]),
        "of_ideal": round((total - end["resumed"]) * MEAN_S / WORKERS / end["wall_s"], 3),
        "ready_again_s": round(end["ready_s"], 2),
        "peak_mb": round(end["peak_mb"]),
        "disk_mb": round(size / 1e6),
        "cpu_us_per_task": round(end["cpu_us_per_task"], 1),
        "bare_cpu_us_per_task": round(plain["cpu_us_per_task"], 1),
        "bare_tasks_per_s": round(plain["tasks_per_s"]),
        "bookkeeping_us_per_task": round(end["cpu_us_per_task"] - plain["cpu_us_per_task"], 1),
        "load_s": round(loaded, 2),
    }


def _growth(small: dict[str, Any], large: dict[str, Any]) -> float:
    """Wall time a task in the larger part over that in the smaller one."""
    return round((1 / large["tasks_per_s"]) / (1 / small["tasks_per_s"]), 2)


@benchmark(
    "largest_job",
    most(
        "tenth.ready_again_s",
        15,
        "a tenth of the largest job (1.2 million tasks, 768 workers): ready again after a kill",
        " s",
    ),
    most("tenth.peak_mb", 1000, "its peak memory", " MB"),
    most("tenth.bookkeeping_us_per_task", 40, "its CPU a task above that of 768 plain threads", " µs"),
    most("time_a_task_tenth_over_hundredth", 1.2, "its time a task, over that in a hundredth of the job", "×"),
)
def parts() -> dict[str, Any]:
    """A hundredth and a tenth of the job."""
    small, large = one(100), one(10)
    return {"hundredth": small, "tenth": large, "time_a_task_tenth_over_hundredth": _growth(small, large)}


@benchmark(
    "many_workers",
    most("above_us_per_task", 40, "CPU a task with 768 workers, above that of 768 plain threads", " µs"),
    peer("bare_cpu_us_per_task", "CPU a task of 768 plain threads that save nothing", " µs"),
)
def bookkeeping() -> dict[str, Any]:
    """A hundredth of the job in a run, and in plain threads that save nothing, in turn: CPU a task."""
    ours, plain = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            ours.append(in_child(child, str(Path(folder) / "r"), 100, 0)["cpu_us_per_task"])
        plain.append(in_child(bare, 100)["cpu_us_per_task"])
    return {
        "cpu_us_per_task": round(statistics.median(ours), 1),
        "bare_cpu_us_per_task": round(statistics.median(plain), 1),
        "above_us_per_task": round(statistics.median(a - b for a, b in zip(ours, plain, strict=True)), 1),
    }


@benchmark(
    "largest_job_whole",
    most("ready_again_s", 15, "all of it (11.6 million tasks): ready again after a kill", " s"),
    most("peak_mb", 1000, "its peak memory", " MB"),
    is_long=True,
)
def whole() -> dict[str, Any]:
    """All of it: a quarter of an hour and some GB of disk."""
    return one(1)
