"""Benchmarks: functions that return figures, and the goals of these figures.

To add one, write a function without arguments in a module of this folder that returns its figures (numbers by name,
nested where that reads better), and decorate it with `benchmark`. It runs in a process of its own that imports no other
module of benchmarks, so peaks of memory are its own; speeds are ratios to something that is measured in the same call.
A peer that isn't installed is left out: `pip install -e ".[test,benchmarks]"` brings them all.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Measure = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Goal:
    """What one figure should be.

    Attributes:
        figure: its path in the figures, with dots: "delay.p99_ms".
        description: what it is, as the page of figures describes it.
        limit: the number to reach; None for a peer's figure, which is only shown beside ours.
        is_least: whether the limit is the least that the figure should be, or the most.
        unit: written behind numbers: " ms", "×", " %".
    """

    figure: str
    description: str
    limit: float | None = None
    is_least: bool = True
    unit: str = ""

    def is_met(self, value: Any) -> bool:
        """Return whether a figure reaches the limit."""
        if self.limit is None:
            return True
        return bool(value >= self.limit if self.is_least else value <= self.limit)


def least(figure: str, limit: float, description: str, unit: str = "") -> Goal:
    """A figure that must not be lower."""
    return Goal(figure, description, limit, True, unit)


def most(figure: str, limit: float, description: str, unit: str = "") -> Goal:
    """A figure that must not be higher."""
    return Goal(figure, description, limit, False, unit)


def peer(figure: str, description: str, unit: str = "") -> Goal:
    """What other people's code reaches in the same run."""
    return Goal(figure, description, None, True, unit)


@dataclass(frozen=True)
class Benchmark:
    """A function that returns figures, and goals for some of them. `is_long`: it runs only when it is named."""

    name: str
    measure: Measure
    goals: tuple[Goal, ...] = ()
    is_long: bool = False

    @property
    def module(self) -> str:
        """The name of the module, in this folder, that defines it."""
        return self.measure.__module__.rpartition(".")[2]


#: The modules with benchmarks, in the order in which the pages show their figures.
MODULES = (
    "throughput", "rivals", "threads", "scale", "trust", "largest", "executors", "loading", "fusion", "judging",
    "panel", "runners",
)  # fmt: skip
_registered: dict[str, Benchmark] = {}


def benchmark(name: str, *goals: Goal, is_long: bool = False) -> Callable[[Measure], Measure]:
    """Register a function without arguments that returns figures, under a name and with goals for some of them."""

    def register(function: Measure) -> Measure:
        if name in _registered:
            raise ValueError(f"two benchmarks are called {name}")
        _registered[name] = Benchmark(name, function, goals, is_long)
        return function

    return register


def benchmarks() -> list[Benchmark]:
    """Return all benchmarks, module after module."""
    for module in MODULES:
        importlib.import_module(f"tests.benchmarks.{module}")
    return sorted(_registered.values(), key=lambda b: MODULES.index(b.module))


def find(names: list[str]) -> list[Benchmark]:
    """Return the benchmarks of these names, or all but the long ones. Raise KeyError for an unknown name."""
    known = {b.name: b for b in benchmarks()}
    return [known[name] for name in names] if names else [b for b in known.values() if not b.is_long]


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of these modules in a process of its own, so that its CPU time and memory are its alone.

    Returns:
        what it returns, which is JSON, as its arguments are.

    Raises:
        CalledProcessError: it raised an exception, which stderr shows, or was killed.
    """
    module = function.__module__.rpartition(".")[2]
    command = [sys.executable, "-m", "tests.benchmarks", "--call", module, function.__name__, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def look_up(figures: Any, path: str) -> Any:
    """Return the figure at a dotted path; None where there is none."""
    for part in path.split("."):
        if not isinstance(figures, dict):
            return None
        figures = figures.get(part)
    return figures
