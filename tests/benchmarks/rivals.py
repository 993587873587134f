"""Other ways to keep results, against the bare pool: SQLite with a write-ahead log, synchronous=FULL, in groups; an
fsync a result; diskcache, joblib.Memory, Optuna's journal and Parsl's task_exit checkpoints as their users call them.

`journal` is nbrun itself, in the same rounds. All run the same no-op tasks with results of 1 KB in 8 threads.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

import nbrun
from tests.benchmarks.registry import benchmark, peer
from tests.benchmarks.throughput import bare, body

TASKS, SAMPLES, WORKERS, ROUNDS = 20_000, 200, 8, 5
#: The most results in one transaction: the same bound on unsaved results that nbrun has.
GROUP = 1000


def sqlite(folder: str) -> float:
    """Workers encode results and queue them, at most GROUP; one thread writes a transaction of all that is there."""
    ended: queue.Queue[tuple[int, bytes] | None] = queue.Queue(GROUP)

    def write() -> None:
        db = sqlite3.connect(Path(folder) / "results.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE results (id INTEGER PRIMARY KEY, body BLOB)")
        more = True
        while more:
            group = [ended.get()]
            while len(group) < GROUP and not ended.empty():
                group.append(ended.get())
            rows = [row for row in group if row is not None]
            more = len(rows) == len(group)
            db.execute("BEGIN")
            db.executemany("INSERT INTO results VALUES (?, ?)", rows)
            db.execute("COMMIT")
        assert db.execute("SELECT count(*) FROM results").fetchone() == (TASKS,)
        db.close()

    began = time.perf_counter()
    writer = threading.Thread(target=write)
    writer.start()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(lambda i: ended.put((i, orjson.dumps(body(i)))), range(TASKS)):
            pass
    ended.put(None)
    writer.join()
    return time.perf_counter() - began


def journal(folder: str) -> float:
    size = TASKS // SAMPLES
    samples = ({"id": f"s{i}", "solutions": list(range(size))} for i in range(SAMPLES))
    began = time.perf_counter()
    run = nbrun.start(
        samples, lambda task: body(task.index), Path(folder) / "r", workers=WORKERS, groups=["solution"], view=None
    )
    assert run.wait().saved == TASKS
    return time.perf_counter() - began


def fsync_each(folder: str, n: int) -> None:
    """One file, a line and an fsync a result."""
    lock = threading.Lock()
    fd = os.open(Path(folder) / "results.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def save(i: int) -> None:
        line = orjson.dumps(body(i)) + b"\n"
        with lock:
            os.write(fd, line)
            os.fsync(fd)

    _pooled(save, n)
    os.close(fd)


def disk_cache(folder: str, n: int) -> None:
    import diskcache

    with diskcache.Cache(folder) as cache:
        _pooled(lambda i: cache.set(i, body(i)), n)


def joblib_memory(folder: str, n: int) -> None:
    import joblib

    _pooled(joblib.Memory(folder, verbose=0).cache(body), n)


def optuna_journal(folder: str, n: int) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(Path(folder) / "journal"))))

    def objective(trial: Any) -> float:
        trial.set_user_attr("result", body(trial.number))
        return 0.0

    study.optimize(objective, n_trials=n, n_jobs=WORKERS)


def parsl_task_exit(folder: str, n: int) -> None:
    import parsl
    from parsl.config import Config
    from parsl.dataflow.memoization import BasicMemoizer
    from parsl.executors.threads import ThreadPoolExecutor

    config = Config(
        executors=[ThreadPoolExecutor(max_threads=WORKERS)], memoizer=BasicMemoizer(checkpoint_mode="task_exit"),
        run_dir=folder, initialize_logging=False, usage_tracking=0,
    )  # fmt: skip
    with parsl.load(config):
        app = parsl.python_app(body, cache=True)
        for future in [app(i) for i in range(n)]:
            future.result()


def _pooled(save: Callable[[int], Any], n: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(save, range(n)):
            pass


#: The slow ones, with the number of tasks for each; those that aren't installed are left out.
SLOW = {
    "fsync_a_result": (fsync_each, 2_000),
    "diskcache": (disk_cache, 2_000),
    "joblib_memory": (joblib_memory, 1_000),
    "optuna_journal": (optuna_journal, 200),
    "parsl_task_exit": (parsl_task_exit, 300),
}


def slow_ones(bare_per_s: float) -> dict[str, float]:
    """Results a second as a share of the bare pool's."""
    out = {}
    for name, (save, n) in SLOW.items():
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            try:
                save(folder, n)
            except ImportError:
                continue
            out[name] = round(n / (time.perf_counter() - began) / bare_per_s, 4)
    return out


@benchmark(
    "rivals",
    peer("sqlite.median", "SQLite WAL, synchronous=FULL, in groups, over the bare pool", "×"),
    peer("fsync_a_result", "an fsync a result", "×"),
    peer("diskcache", "diskcache", "×"),
    peer("joblib_memory", "joblib.Memory", "×"),
    peer("optuna_journal", "Optuna's journal", "×"),
    peer("parsl_task_exit", "Parsl's checkpoints at each task's exit", "×"),
)
def main() -> dict[str, Any]:
    """Durable results a second as a multiple of the bare pool's, which saves nothing: the median, least and most."""
    ratios: dict[str, list[float]] = {"sqlite": [], "journal": []}
    for _ in range(ROUNDS):
        alone = bare(WORKERS, TASKS)
        for name, save in (("sqlite", sqlite), ("journal", journal)):
            with tempfile.TemporaryDirectory() as folder:
                ratios[name].append(alone / save(folder))
    bare_per_s = TASKS / statistics.median(bare(WORKERS, TASKS) for _ in range(3))
    return (
        {
            name: {"median": round(statistics.median(x), 2), "least": round(min(x), 2), "most": round(max(x), 2)}
            for name, x in ratios.items()
        }
        | slow_ones(bare_per_s)
        | {"tasks": TASKS, "rounds": ROUNDS, "group": GROUP}
    )
