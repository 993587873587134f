"""10,000 tasks that do nothing, each with a result of 200 bytes, in nbrun and in other programs that run many tasks.

Each runs in a process of its own, as its documentation calls it: nbrun saves results one by one, Inspect AI writes its
log, joblib.Memory and Parsl keep each call's result, Dask and Ray keep nothing. `read_s` is the time to have all
results back from the disk in a new process. One that isn't installed is left out, and says how it is installed.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.registry import benchmark, in_child, peer

TASKS, WORKERS = 10_000, 8
#: Fewer tasks for Parsl, which writes a checkpoint file for each: these are enough to show its time a task.
PARSL_TASKS = 2_000


def answer(number: int) -> dict[str, Any]:
    return {"number": number, "text": "y" * 150}


def run_nbrun(folder: str) -> int:
    import nbrun

    nbrun.start(range(TASKS), lambda task: answer(task.item), folder + "/r", workers=WORKERS, view=None).wait()
    return TASKS


def read_nbrun(folder: str) -> int:
    import nbrun

    return len(nbrun.load_results(folder + "/r"))


def run_inspect(folder: str) -> int:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.solver import solver

    @solver
    def nothing() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            state.metadata["answer"] = answer(int(state.sample_id))
            return state

        return solve

    samples = [Sample(input=str(n), id=n) for n in range(TASKS)]
    eval(
        Task(dataset=MemoryDataset(samples), solver=nothing()),
        model="mockllm/model", log_dir=folder, display="none", max_samples=WORKERS,
    )  # fmt: skip
    return TASKS


def read_inspect(folder: str) -> int:
    from inspect_ai.log import read_eval_log

    (path,) = Path(folder).glob("*.eval")
    return len(read_eval_log(str(path)).samples or [])


def run_joblib(folder: str) -> int:
    from joblib import Memory, Parallel, delayed

    kept = Memory(folder, verbose=0).cache(answer)
    return len(Parallel(n_jobs=WORKERS, prefer="threads")(delayed(kept)(n) for n in range(TASKS)))


def run_parsl(folder: str) -> int:
    import parsl
    from parsl.config import Config
    from parsl.dataflow.memoization import BasicMemoizer
    from parsl.executors.threads import ThreadPoolExecutor

    config = Config(
        executors=[ThreadPoolExecutor(max_threads=WORKERS)], memoizer=BasicMemoizer(checkpoint_mode="task_exit"),
        run_dir=folder, usage_tracking=0, initialize_logging=False,
    )  # fmt: skip
    with parsl.load(config):
        app = parsl.python_app(answer, cache=True)
        return len([future.result() for future in [app(n) for n in range(PARSL_TASKS)]])


def run_dask(folder: str) -> int:
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=WORKERS, processes=False, dashboard_address=None) as client:
        return len(client.gather(client.map(answer, range(TASKS))))


def run_ray(folder: str) -> int:
    import ray

    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    remote = ray.remote(answer)
    return len(ray.get([remote.remote(n) for n in range(TASKS)]))


#: name -> the package that it needs, how it runs, and how results are read again (joblib calls its functions again).
TOOLS: dict[str, tuple[str, Callable[[str], int], Callable[[str], int] | None]] = {
    "nbrun": ("nbrun", run_nbrun, read_nbrun),
    "inspect_ai": ("inspect_ai", run_inspect, read_inspect),
    "joblib_memory": ("joblib", run_joblib, run_joblib),
    "parsl": ("parsl", run_parsl, None),
    "dask": ("distributed", run_dask, None),
    "ray": ("ray", run_ray, None),
}


@benchmark(
    "runners",
    peer("nbrun.seconds", "10,000 samples of one no-op task, each result saved: nbrun, from import to end", " s"),
    peer("nbrun.disk_mb", "… on the disk", " MB"),
    peer("nbrun.peak_mb", "… peak memory", " MB"),
    peer("nbrun.read_s", "… reading all results, in a new process", " s"),
    peer("inspect_ai.seconds", "the same in Inspect AI's eval", " s"),
    peer("inspect_ai.disk_mb", "… its log on the disk", " MB"),
    peer("inspect_ai.peak_mb", "… peak memory", " MB"),
    peer("inspect_ai.read_s", "… reading its log, in a new process", " s"),
    peer("joblib_memory.seconds", "the same in joblib's Parallel and Memory, nothing made durable", " s"),
    peer("joblib_memory.disk_mb", "… on the disk", " MB"),
    peer("joblib_memory.read_s", "… reading all results, in a new process", " s"),
    peer("parsl.seconds", "the same in Parsl with task_exit checkpoints, threads", " s"),
    peer("dask.seconds", "the same in Dask, threads, nothing saved", " s"),
    peer("ray.seconds", "the same in Ray, processes, nothing saved", " s"),
)
def main() -> dict[str, Any]:
    """Seconds for 10,000 tasks, peak memory, room on disk and seconds to read all again, by tool."""
    figures: dict[str, Any] = {}
    for name, (package, _, read) in TOOLS.items():
        if find_spec(package) is None:
            print(f"{name} is left out: pip install {package.replace('_', '-')}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = in_child(measure, name, "run", folder)
            found["disk_mb"] = _room_mb(Path(folder))
            if read is not None:
                found["read_s"] = in_child(measure, name, "read", folder)["seconds"]
        figures[name] = found
    for name, found in figures.items():
        if name != "nbrun":
            found["time_over_nbrun"] = round(found["seconds"] / figures["nbrun"]["seconds"], 1)
            if "read_s" in found:
                found["read_over_nbrun"] = round(found["read_s"] / figures["nbrun"]["read_s"], 1)
    return figures


def _room_mb(folder: Path) -> float:
    return round(sum(f.lstat().st_blocks * 512 for f in folder.rglob("*")) / 1e6, 1)


def measure(name: str, what: str, folder: str) -> dict[str, Any]:
    """Import and all: what a person waits for."""
    _, run, read = TOOLS[name]
    began = time.perf_counter()
    count = (read or run)(folder) if what == "read" else run(folder)
    seconds = (time.perf_counter() - began) * TASKS / count
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "peak_mb": round(peak_mb)}
