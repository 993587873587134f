"""The README's table of figures, made from the records: `python -m tests.benchmarks --table` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.registry import BENCHMARKS, Goal, look_up

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- figures: python -m tests.benchmarks --table -->", "<!-- end of figures -->"


def render(records: dict[str, dict[str, Any]]) -> str:
    """A row for each goal that was measured; misses are marked."""
    rows = ["| what | wanted | measured |", "|---|---|---|"]
    for benchmark in BENCHMARKS:
        figures = records.get(benchmark.name, {}).get("figures", {})
        for goal in benchmark.goals:
            value = look_up(figures, goal.figure)
            if value is not None:
                rows.append(f"| {goal.says} | {_wanted(goal)} | {_measured(goal, value)} |")
    return "\n".join([*rows, "", _where(records)])


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


def write(records: dict[str, dict[str, Any]], readme: Path = README) -> None:
    """Puts the table between the two marks."""
    text = readme.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{readme} has no lines {BEGIN!r} and {END!r}: the table stands between them.")
    readme.write_text(f"{head}{BEGIN}\n{render(records)}\n{END}{tail}", encoding="utf-8")


def shown(readme: Path = README) -> str:
    """The table that stands in the README now."""
    return readme.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
