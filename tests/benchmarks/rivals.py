"""Another way to keep results: SQLite with a write-ahead log, synchronous=FULL, in groups; against the bare pool.

`journal` is nbrun itself, in the same rounds. All run the same no-op tasks with results of 1 KB in 8 threads.
"""

from __future__ import annotations

import concurrent.futures
import json
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import orjson

import nbrun

TASKS, SAMPLES, WORKERS, ROUNDS = 20_000, 200, 8, 5
#: So many results are in one transaction at most: the bound on what is unsaved that nbrun keeps, too.
GROUP = 1000


def body(index: int) -> dict[str, Any]:
    return {"n": index, "verdict": "Accepted", "stdout": "y" * 800, "time": 0.01}


def bare() -> float:
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(body, range(TASKS)):
            pass
    return time.perf_counter() - began


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


def main() -> dict[str, Any]:
    """Durable results a second as a multiple of the bare pool's, which saves nothing: the median, least and most."""
    ratios: dict[str, list[float]] = {"sqlite": [], "journal": []}
    for _ in range(ROUNDS):
        alone = bare()
        for name, save in (("sqlite", sqlite), ("journal", journal)):
            with tempfile.TemporaryDirectory() as folder:
                ratios[name].append(alone / save(folder))
    return {
        name: {"median": round(statistics.median(x), 2), "least": round(min(x), 2), "most": round(max(x), 2)}
        for name, x in ratios.items()
    } | {"tasks": TASKS, "rounds": ROUNDS, "group": GROUP}


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
