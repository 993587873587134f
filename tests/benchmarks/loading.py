"""load_results beside DuckDB, polars, pandas.read_json, orjson and json: the same 100,000 rows of 1,000 progress files.

Each reader runs in a process of its own, alone, with the files in the page cache, and makes a DataFrame of one row an
entry: sample, group, language, accepted, number of tests, of passed ones, and the longest time. Imports don't count.
Memory is the growth of the process's peak while it loads, over what the frame takes.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.benchmarks.registry import benchmark, least, most, peer

FILES, ROWS, ROUNDS = 1_000, 100, 5
#: Groups of one file, and what is made of an entry.
COMMON = """
import glob, sys, time
folder = sys.argv[1]
def row(sample_id, group, e):
    tests = e["result"]["tests"]
    times = [t["exec_info"]["run_result"]["execution_time"] for t in tests]
    return (sample_id, group, e["language"], e["result"]["accepted"], len(tests), sum(t["passed"] for t in tests),
            max(times))
def rows(value):
    for group in ("solution", "incorrect_solution"):
        for e in value[group + "_result"]:
            yield row(value["id"], group, e)
columns = ["sample_id", "group", "language", "accepted", "n_tests", "n_passed", "max_time_s"]
"""
READERS = {
    "duckdb": """
import duckdb, pandas
began = time.perf_counter()
duckdb.sql(f\"\"\"with a as (select id, solution_result s, incorrect_solution_result w
    from read_json('{folder}/*.json', maximum_object_size=100000000)),
    u as (select id, 'solution' g, unnest(s) e from a union all select id, 'incorrect_solution', unnest(w) from a)
    select id, g, e.language, e.result.accepted, len(e.result.tests),
    len(list_filter(e.result.tests, lambda x: x.passed)),
    list_max([x.exec_info.run_result.execution_time for x in e.result.tests]) from u\"\"\").df()
""",
    "polars": """
import polars as pl, pandas, pyarrow
began = time.perf_counter()
def of(file):
    df = pl.read_json(file)
    for group in ("solution", "incorrect_solution"):
        e = df.select("id", e=pl.col(group + "_result")).explode("e")
        e = e.select("id", pl.lit(group), pl.col("e").struct.unnest())
        r = e.select(pl.all().exclude("result", "solution"), pl.col("result").struct.field("accepted", "tests"))
        t = pl.col("tests").list
        yield r.with_columns(n=t.len(), p=t.eval(pl.element().struct.field("passed")).list.sum(),
            m=t.eval(pl.element().struct.field("exec_info").struct.field("run_result").struct.field("execution_time"))
            .list.max()).drop("tests")
pl.concat([part for file in glob.glob(folder + "/*.json") for part in of(file)]).to_pandas()
""",
    "pandas_read_json": """
import pandas
began = time.perf_counter()
parts = [pandas.read_json(file, typ="series") for file in glob.glob(folder + "/*.json")]
pandas.DataFrame([r for part in parts for r in rows(part)], columns=columns)
""",
    "orjson": """
import orjson, pandas
began = time.perf_counter()
pandas.DataFrame([r for f in glob.glob(folder + "/*.json") for r in rows(orjson.loads(open(f, "rb").read()))],
    columns=columns)
""",
    "json": """
import json, pandas
began = time.perf_counter()
pandas.DataFrame([r for f in glob.glob(folder + "/*.json") for r in rows(json.load(open(f)))], columns=columns)
""",
    "nbrun": """
import pandas, nbrun
nbrun.load_results
began = time.perf_counter()
df = nbrun.load_results(folder)
assert len(df) == int(sys.argv[2]), len(df)
""",
}
TIME = "\nprint(time.perf_counter() - began)\n"
#: Peak and frame in bytes. The frame is counted as Python objects where it holds them.
MEMORY = """
import resource
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
import pandas, nbrun, numpy, orjson
import nbrun.frames.load
nbrun.load_results(sys.argv[3])
before = peak()
df = nbrun.load_results(folder)
print(peak() - before, df.memory_usage(deep=True).sum())
"""


@benchmark(
    "loading",
    least("duckdb_over_nbrun", 2, "DuckDB's read_json of 1,000 files of the older program, over load_results", "×"),
    least("duckdb_over_nbrun_again", 20, "the same over load_results of an unchanged directory", "×"),
    peer("polars_over_nbrun", "polars, over load_results", "×"),
    peer("orjson_over_nbrun", "a loop with orjson, over load_results", "×"),
    peer("pandas_read_json_over_nbrun", "pandas.read_json, over load_results", "×"),
    peer("json_over_nbrun", "a loop with json, over load_results", "×"),
    most("memory_over_frame.cold", 1.5, "memory that load_results takes, over its frame", "×"),
    most("memory_over_frame.again", 1.5, "the same for an unchanged directory", "×"),
    most("archived.size", 0.25, "an archive, over the files in it", "×"),
)
def main() -> dict[str, Any]:
    """Seconds by reader, and ratios to DuckDB."""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "results"
        size = make(folder)
        small = Path(top) / "small"
        small.mkdir()
        shutil.copy(next(folder.glob("*.json")), small)
        figures: dict[str, Any] = {"mb": round(size / 1e6), "rows": FILES * ROWS}
        seconds: dict[str, list[float]] = {}
        for turn in range(ROUNDS):
            for name in READERS:
                if turn and name in ("pandas_read_json", "json"):
                    continue  # they take long, and one round is enough
                forget(folder)
                took = run(READERS[name] + TIME, folder)
                if took is not None:
                    seconds.setdefault(name, []).append(took)
                if name == "nbrun":
                    again = [run(READERS[name] + TIME, folder) for _ in range(2)]
                    seconds.setdefault("nbrun_again", []).append(min(a for a in again if a is not None))
        figures["seconds"] = {name: round(statistics.median(s), 3) for name, s in seconds.items()}
        figures |= ratios(seconds)
        figures["memory_over_frame"] = {"again": memory(folder, small)}
        forget(folder)
        figures["memory_over_frame"]["cold"] = memory(folder, small)
        figures["archived"] = archived(folder)
        return figures


@benchmark(
    "importing",
    most("nbrun_ms", 100, "`import nbrun`, over a bare interpreter", " ms"),
    peer("nbrun_start_ms", "with all that starts a run", " ms"),
    peer("tqdm_ms", "`import tqdm`", " ms"),
    peer("joblib_ms", "`import joblib`", " ms"),
    peer("pandas_ms", "`import pandas`", " ms"),
)
def importing() -> dict[str, float]:
    """Milliseconds that an import takes over a bare interpreter, with its bytecode on the disk; the least of many."""
    steps = {
        "bare": "pass", "nbrun": "import nbrun", "nbrun_start": "import nbrun; nbrun.start", "tqdm": "import tqdm",
        "joblib": "import joblib", "pandas": "import pandas",
    }  # fmt: skip
    least: dict[str, float] = {}
    for _ in range(1 + 4 * ROUNDS):
        for name, code in steps.items():
            command = [sys.executable, "-c", code]
            began = time.perf_counter()
            if subprocess.run(command, env=environment(), capture_output=True, check=False).returncode:
                continue  # it isn't installed
            took = time.perf_counter() - began
            least[name] = min(took, least.get(name, took))
    return {f"{name}_ms": round(1000 * (s - least["bare"]), 1) for name, s in least.items() if name != "bare"}


@cache
def environment() -> dict[str, str]:
    """Variables for processes in which modules are compiled once, as those of an installed package are."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times as long each takes: the median over the rounds, since other work comes and goes between them."""
    ours, again = seconds["nbrun"], seconds["nbrun_again"]
    out = {
        f"{name}_over_nbrun": round(statistics.median(a / b for a, b in zip(took, ours, strict=False)), 2)
        for name, took in seconds.items() if name not in ("nbrun", "nbrun_again")
    }  # fmt: skip
    out["duckdb_over_nbrun_again"] = round(
        statistics.median(a / b for a, b in zip(seconds["duckdb"], again, strict=True)), 1
    )
    return out


def archived(folder: Path) -> dict[str, float]:
    """The same files in one archive: how much smaller, and how fast they load."""
    from nbrun.tools.archive import archive_finished

    done = archive_finished(folder)
    assert done.samples == FILES
    cold = []
    for _ in range(ROUNDS):
        forget(folder)
        cold.append(run(READERS["nbrun"] + TIME, folder) or 0.0)
    again = min(run(READERS["nbrun"] + TIME, folder) or 0.0 for _ in range(ROUNDS))
    return {
        "size": round(done.after_bytes / done.before_bytes, 3), "cold_s": round(statistics.median(cold), 3),
        "again_s": round(again, 3),
    }  # fmt: skip


def forget(folder: Path) -> None:
    """No cache of ours."""
    shutil.rmtree(folder / ".nbrun" / "cache", ignore_errors=True)


def run(code: str, *args: object) -> float | None:
    """What the code prints; None where a peer isn't installed."""
    out = output(code, *args)
    return float(out.split()[-1]) if out else None


def output(code: str, *args: object) -> str:
    command = [sys.executable, "-c", COMMON + code, *map(str, args), str(FILES * ROWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return ""
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def memory(folder: Path, small: Path) -> float:
    """The peak's growth while loading, over the frame."""
    grown, frame = map(int, output(MEMORY, folder, FILES * ROWS, small).split())
    return round(grown / frame, 2)


def make(folder: Path) -> int:
    """Progress files as the older program wrote them, with indent=4. Returns their bytes."""
    folder.mkdir()
    rng = random.Random(1)
    size = 0
    for s in range(FILES):
        value = {
            "id": f"Codeforces/{s}/A",
            "solution_result": [entry(rng, i, rng.random() < 0.9) for i in range(ROWS // 2)],
            "incorrect_solution_result": [entry(rng, i, rng.random() < 0.1) for i in range(ROWS // 2)],
            "api_used": "http://x/submit", "worker_id": "h_0",
            "progress": {
                "completed_solutions": ROWS // 2, "total_solutions": ROWS // 2,
                "completed_incorrect_solutions": ROWS // 2, "total_incorrect_solutions": ROWS // 2,
                "is_complete": True,
            },
        }  # fmt: skip
        text = json.dumps(value, indent=4)
        (folder / f"Codeforces_{s}_A.json").write_text(text)
        size += len(text)
    old = 1_700_000_000
    for file in folder.glob("*.json"):
        os.utime(file, (old, old))
    return size


def entry(rng: random.Random, i: int, accepted: bool) -> dict[str, Any]:
    text: Callable[[], str] = lambda: str(rng.random()) * 4  # noqa: E731
    source = f"print({i})\n" * 20
    test = lambda: {  # noqa: E731
        "passed": accepted,
        "exec_info": {
            "status": "Success", "message": "", "compile_result": None,
            "run_result": {"status": "Finished", "execution_time": rng.random(), "return_code": 0, "stdout": text(),
                           "stderr": ""},
        },
        "test_info": {"input": {"stdin": text()}, "output": {"stdout": text()}},
    }  # fmt: skip
    result = {"id": 0, "accepted": accepted, "extracted_code": source, "tests": [test() for _ in range(3)]}
    return {"language": "PYTHON3", "solution": source, "result": result}
