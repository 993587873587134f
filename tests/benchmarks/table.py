"""The tables of figures in the README and in the docs, made from the records.

`python -m tests.benchmarks --table` writes them: all figures into docs/figures.md, a few into the README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.registry import Benchmark, Goal, benchmarks, look_up

ROOT = Path(__file__).parents[2]
README, FIGURES = ROOT / "README.md", ROOT / "nbrun" / "docs" / "figures.md"
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


def write(
    records: dict[str, dict[str, Any]], page: Path = FIGURES, only: Mapping[tuple[str, str], str] | None = None
) -> None:
    """Put the table between the two marks of a page."""
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} has no lines {BEGIN!r} and {END!r}: the table goes between them.")
    page.write_text(f"{head}{BEGIN}\n{render(records, only)}\n{END}{tail}", encoding="utf-8")


def write_pages(records: dict[str, dict[str, Any]]) -> None:
    """Write the tables of the README and of the docs."""
    write(records)
    write(records, README, HEADLINES)


def shown(page: Path = FIGURES) -> str:
    """Return the table that a page shows now."""
    return page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
