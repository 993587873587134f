"""What is measured, and what is wanted of it: one line a benchmark, one goal a figure.

To add one: write a function without arguments that returns its figures (numbers, by name, nested where that reads
better) in a module of this folder, and list it here. It runs in a process of its own, so peaks of memory are its own;
speeds are ratios to something measured in the same call. A peer that isn't installed is left out of the figures:
`pip install -e ".[test,benchmarks]"` brings them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """One figure, and what it should be.

    Attributes:
        figure: where it stands in the figures, with dots: "delay.p99_ms".
        says: what it is, as the README's table says it.
        limit: the number to reach; None for a peer's figure, which only stands beside ours.
        is_least: whether the figure must be at least the limit, or at most.
        unit: written behind numbers: " ms", "×", " %".
    """

    figure: str
    says: str
    limit: float | None = None
    is_least: bool = True
    unit: str = ""

    def is_met(self, value: Any) -> bool:
        """Does the figure reach the limit?"""
        if self.limit is None:
            return True
        return bool(value >= self.limit if self.is_least else value <= self.limit)


@dataclass(frozen=True)
class Benchmark:
    """A function `where` ("module:function", in this folder) that returns figures, and goals for some of them."""

    name: str
    where: str
    goals: tuple[Goal, ...] = ()


def least(figure: str, limit: float, says: str, unit: str = "") -> Goal:
    """A figure that must not be lower."""
    return Goal(figure, says, limit, True, unit)


def most(figure: str, limit: float, says: str, unit: str = "") -> Goal:
    """A figure that must not be higher."""
    return Goal(figure, says, limit, False, unit)


def peer(figure: str, says: str, unit: str = "") -> Goal:
    """What somebody else's code reaches in the same run."""
    return Goal(figure, says, None, True, unit)


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("throughput", "throughput:main", (
        least("durable_over_bare_pool_8_workers", 1.5, "results saved, over a thread pool that saves nothing", "×"),
        most("most_unsaved", 1000, "most results unsaved at a time"),
        most("delay_at_1000_a_second.p99_ms", 50, "from a task's end to its being saved, p99 at 1,000 a second", " ms"),
        most("growth_60000_over_6000", 1.3, "a result in a sample of 60,000, over one in 6,000", "×"),
        least("of_ideal_rate_768_threads", 0.92, "768 threads, tasks of 50–150 ms, of the ideal rate"),
    )),
    Benchmark("rivals", "rivals:main", (
        peer("sqlite.median", "SQLite WAL, synchronous=FULL, in groups, over the bare pool", "×"),
    )),
)  # fmt: skip


def find(names: list[str]) -> list[Benchmark]:
    """The benchmarks of these names, or all. Raises KeyError with a name that is none."""
    known = {b.name: b for b in BENCHMARKS}
    return [known[name] for name in names] if names else list(BENCHMARKS)


def look_up(figures: Any, path: str) -> Any:
    """The figure at a dotted path, or None."""
    for part in path.split("."):
        if not isinstance(figures, dict):
            return None
        figures = figures.get(part)
    return figures
