"""The records of benchmarks in figures/, and the tables that are made from them.

A record holds a benchmark's figures with versions, the machine and the goals that are missed. The tables list the
figures that have a goal or belong to a peer: all of them in docs/figures.md, a few in the README.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.benchmarks.registry import Benchmark, Goal, benchmarks, look_up

FIGURES = Path(__file__).parent / "figures"
#: Packages whose versions matter to the figures.
PACKAGES = (
    "nbrun", "orjson", "pandas", "pyarrow", "cloudpickle", "loky", "dask", "distributed", "ray", "mpi4py", "duckdb",
    "diskcache", "joblib", "optuna", "parsl", "urllib3", "problemtools", "bapctools", "httpx", "requests",
    "inspect-ai",
)  # fmt: skip

ROOT = Path(__file__).parents[2]
README, PAGE = ROOT / "README.md", ROOT / "nbrun" / "docs" / "figures.md"
#: Benchmark and figure of each row that the README shows, and how it is described there.
HEADLINES = {
    ("throughput", "durable_over_bare_pool_8_workers"): "results of 1 KB saved per second, over a thread pool that "
    "saves nothing",
    ("thousand_kills", "lost"): "results lost by 1,000 SIGKILLs at random moments, half of them with a power cut",
    ("many_threads", "768_threads.of_ideal"): "768 threads with tasks of 50–150 ms, share of the ideal rate",
    ("opening", "directory_s"): "continuing a finished directory of 13,610 samples: time until it is open",
    ("loading", "duckdb_over_nbrun"): "time of DuckDB's `read_json` of 1,000 files, over that of `load_results`",
}
BEGIN, END = "<!-- figures: python -m tests.benchmarks --table -->", "<!-- end of figures -->"


def make(benchmark: Benchmark, figures: dict[str, Any], took_s: float) -> dict[str, Any]:
    """Return the record of one benchmark; its machine's `load` shows whether other programs kept it busy."""
    return {
        "figures": figures,
        "missed": missed(benchmark, figures),
        "took_s": round(took_s, 1),
        "day": time.strftime("%Y-%m-%d"),
        "machine": {
            "cpus": len(os.sched_getaffinity(0)),
            "model": _cpu_model(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "system": f"{platform.system()} {platform.machine()}",
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": {"python": platform.python_version(), **dict(_versions())},
    }


def missed(benchmark: Benchmark, figures: dict[str, Any]) -> list[str]:
    """Return a sentence for each goal that isn't reached, or whose figure is missing."""
    out = []
    for goal in benchmark.goals:
        value = look_up(figures, goal.figure)
        if goal.limit is not None and (value is None or not goal.is_met(value)):
            bound = "at least" if goal.is_least else "at most"
            out.append(f"{goal.figure} is {value}, wanted {bound} {goal.limit:g}")
    return out


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _versions() -> Iterator[tuple[str, str]]:
    """Yield the versions of those PACKAGES that are installed."""
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def kept() -> dict[str, dict[str, Any]]:
    """Return the records in the folder, by name."""
    return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(FIGURES.glob("*.json"))}


def keep(name: str, record: dict[str, Any]) -> None:
    """Write a record into the folder."""
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def render(
    records: dict[str, dict[str, Any]],
    only: Mapping[tuple[str, str], str] | None = None,
    rows_of: Sequence[Benchmark] | None = None,
) -> str:
    """Return a row for each goal that was measured; misses are marked.

    Args:
        rows_of: the benchmarks; by default all.
        only: benchmarks and figures to show, with their descriptions; None shows all, and where they were measured.
    """
    rows = ["| what | wanted | measured |", "|---|---|---|"]
    for benchmark in benchmarks() if rows_of is None else rows_of:
        figures = records.get(benchmark.name, {}).get("figures", {})
        for goal in benchmark.goals:
            value = look_up(figures, goal.figure)
            if value is not None and (only is None or (benchmark.name, goal.figure) in only):
                text = goal.description if only is None else only[benchmark.name, goal.figure]
                rows.append(f"| {text} | {_wanted(goal)} | {_measured(goal, value)} |")
    return "\n".join(rows if only is not None else [*rows, "", _where(records)])


def _wanted(goal: Goal) -> str:
    if goal.limit is None:
        return "(a peer)"
    return f"{'≥' if goal.is_least else '≤'} {_number(goal.limit)}{goal.unit}"


def _measured(goal: Goal, value: float) -> str:
    return f"{_number(value)}{goal.unit}" + ("" if goal.is_met(value) else " (missed)")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"


def _where(records: dict[str, dict[str, Any]]) -> str:
    machines = {(r["machine"]["cpus"], r["machine"]["model"]) for r in records.values() if "machine" in r}
    listed = "; ".join(f"{cpus} CPUs, {model}" for cpus, model in sorted(machines))
    return (
        f"Measured by `python -m tests.benchmarks` on {listed}; the records are in `tests/benchmarks/figures/`. "
        'The peers come with `pip install -e ".[test,benchmarks]"`.'
    )


def write_tables() -> None:
    """Write the records' tables into the README and into the docs, each between the two marks of its page."""
    records = kept()
    write(PAGE, render(records))
    write(README, render(records, HEADLINES))


def write(page: Path, table: str) -> None:
    """Put a table between the two marks of a page."""
    head, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} has no lines {BEGIN!r} and {END!r}: the table goes between them.")
    page.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}", encoding="utf-8")


def shown(page: Path) -> str:
    """Return the table that a page shows now."""
    return page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
