"""One benchmark's figures as they are kept: with versions, the machine, and the goals that are missed."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.benchmarks.registry import Benchmark, look_up

FIGURES = Path(__file__).parent / "figures"
#: Packages whose versions matter to the figures.
PACKAGES = (
    "nbrun", "orjson", "pandas", "pyarrow", "cloudpickle", "loky", "dask", "distributed", "ray", "mpi4py", "duckdb",
    "diskcache", "joblib", "optuna", "parsl", "urllib3", "problemtools", "bapctools", "httpx", "requests",
    "inspect-ai",
)  # fmt: skip


def make(benchmark: Benchmark, figures: dict[str, Any], took_s: float) -> dict[str, Any]:
    """The record of one benchmark."""
    return {
        "figures": figures,
        "missed": missed(benchmark, figures),
        "took_s": round(took_s, 1),
        "day": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
    }


def missed(benchmark: Benchmark, figures: dict[str, Any]) -> list[str]:
    """A sentence for each goal that isn't reached."""
    out = []
    for goal in benchmark.goals:
        value = look_up(figures, goal.figure)
        if goal.limit is not None and (value is None or not goal.is_met(value)):
            bound = "at least" if goal.is_least else "at most"
            out.append(f"{goal.figure} is {value}, wanted {bound} {goal.limit:g}")
    return out


def kept() -> dict[str, dict[str, Any]]:
    """The records in the folder, by name."""
    return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(FIGURES.glob("*.json"))}


def keep(name: str, record: dict[str, Any]) -> None:
    """Writes a record into the folder."""
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what figures depend on. `load` shows whether the machine was busy with other things."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "model": _cpu_model(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def versions() -> dict[str, str]:
    """Python's, and those of the packages that are installed."""
    out = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out
