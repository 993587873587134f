"""Runs over process pools, loky and Dask: durable results a second, efficiency, what lost workers cost."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nbrun
from tests.benchmarks.registry import benchmark, least, most
from tests.benchmarks.throughput import body

WIDTH, TASKS, PER_SAMPLE, ROUNDS = 8, 40_000, 100, 3


def spawn_pool(width: int = WIDTH) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(width, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def opened(name: str, width: int = WIDTH) -> Iterator[Executor]:
    """A warm executor: all of its processes have run something."""
    with contextlib.ExitStack() as stack:
        if name == "spawn":
            executor: Any = spawn_pool(width)
        elif name == "loky":
            import loky

            executor = loky.ProcessPoolExecutor(width)
        else:
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=width, threads_per_worker=1, processes=True, dashboard_address=":0")
            executor = stack.enter_context(Client(stack.enter_context(cluster))).get_executor()
        list(executor.map(time.sleep, [0.05] * 4 * width))
        _run(executor, 2_000, lambda task: body(task.index))  # imports nbrun in each
        yield executor
        executor.shutdown(wait=False)


def _run(executor: Any, n: int, fn: Callable[[nbrun.Task], Any], workers: int = WIDTH) -> tuple[float, float]:
    """Seconds, and seconds of the kernel's CPU."""
    samples = ({"id": f"s{i}", "solutions": list(range(PER_SAMPLE))} for i in range(n // PER_SAMPLE))
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        run = nbrun.start(samples, fn, Path(folder) / "r", workers=workers, executor=executor, view=None)
        progress = run.wait()
        took, used = time.perf_counter() - began, time.process_time() - cpu
        assert (progress.saved, progress.errors) == (n, 0)
    return took, used


def bodies(indices: range) -> list[dict[str, Any]]:
    return [body(i) for i in indices]


@benchmark(
    "pools",
    least("spawn.saved_per_s", 30_000, "results saved a second, no-op tasks of 1 KB, 8 spawned processes"),
    least("loky.saved_per_s", 20_000, "the same over loky"),
    least("dask.saved_per_s", 12_000, "the same over a Dask cluster, its scheduler in the kernel"),
    most("spawn.kernel_cpu_us_per_task", 40, "the kernel's CPU a task, over spawned processes", " µs"),
    most("loky.kernel_cpu_us_per_task", 40, "the same over loky", " µs"),
)
def pools() -> dict[str, Any]:
    """Results saved a second over each executor, no-op tasks of 1 KB; beside it the bare executor in chunks of 100,
    which saves nothing, and the kernel's CPU a task."""
    out: dict[str, Any] = {}
    for name in ("spawn", "loky", "dask"):
        n = TASKS // 2 if name == "dask" else TASKS
        with opened(name) as executor:
            runs = [_run(executor, n, lambda task: body(task.index)) for _ in range(ROUNDS)]
            began = time.perf_counter()
            for future in [executor.submit(bodies, range(100)) for _ in range(n // 100)]:
                future.result()
            bare = time.perf_counter() - began
        took = statistics.median(t for t, _ in runs)
        out[name] = {
            "saved_per_s": round(n / took),
            "bare_in_chunks_per_s": round(n / bare),
            "kernel_cpu_us_per_task": round(1e6 * statistics.median(c for _, c in runs) / n, 1),
        }
    return out


@benchmark(
    "short_tasks",
    least("of_ideal.spawn", 0.97, "tasks of 20 ms in 8 processes, of the ideal rate"),
    least("of_ideal.dask", 0.90, "the same over Dask"),
)
def short_tasks() -> dict[str, Any]:
    """The share of the ideal rate with tasks of 20 ms on 8 slots."""
    out = {}
    for name in ("spawn", "dask"):
        with opened(name) as executor:
            n = 4_000
            took, _ = _run(executor, n, lambda task: time.sleep(0.02))
            out[name] = round(n * 0.02 / WIDTH / took, 3)
    return {"of_ideal": out}


@benchmark(
    "kills",
    most("missing_or_twice", 0, "tasks lost or doubled while a worker a second is killed"),
    most("attempts_lost", 0, "attempts of fn that these kills cost"),
)
def kills() -> dict[str, Any]:
    """One SIGKILL of a worker a second while 3,000 tasks of 5 ms run in 2 workers: all are there, each once."""
    n, killed = 3_000, 0
    over = threading.Event()
    pools: list[Any] = []

    def make() -> Any:
        pools.append(spawn_pool(2))
        return pools[-1]

    def kill() -> None:
        nonlocal killed
        while not over.wait(1.0):
            pids = list(pools[-1]._processes or ())
            if pids:
                os.kill(pids[killed % len(pids)], signal.SIGKILL)
                killed += 1

    def fn(task: nbrun.Task) -> Any:
        time.sleep(0.005)
        return {"n": task.item, "attempt": task.attempt}

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        samples = [{"id": f"s{i}", "solutions": list(range(100))} for i in range(n // 100)]
        run = nbrun.start(samples, fn, Path(folder) / "r", workers=2, executor=make, view=None)
        threading.Thread(target=kill, daemon=True).start()
        run.wait()
        over.set()
        took = time.perf_counter() - began
        frame = nbrun.load_results(Path(folder) / "r")
    done = frame[frame["status"] == "done"]
    return {
        "killed": killed,
        "seconds": round(took, 1),
        "missing_or_twice": n - len(done.drop_duplicates(["sample_id", "index"])) + len(frame) - n,
        "attempts_lost": int((done["attempt"] > 1).sum()),
    }
