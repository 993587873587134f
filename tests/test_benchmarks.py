"""The benchmarks' registry, their records, and the tables that are made from them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import record, table
from tests.benchmarks.registry import MODULES, Benchmark, benchmarks, find, least, look_up, most

FIGURES = {"rate": 10.0, "delay": {"p99_ms": 7}, "peak_mb": 50}
SAMPLE = Benchmark("sample", dict, (least("rate", 9, "rate"), most("delay.p99_ms", 5, "delay", " ms")))


def test_each_benchmark_can_be_measured_by_its_name_alone() -> None:
    for benchmark in benchmarks():
        module = importlib.import_module(f"tests.benchmarks.{benchmark.module}")
        assert getattr(module, benchmark.measure.__name__) is benchmark.measure
    assert {b.module for b in benchmarks()} == set(MODULES)
    assert set(record.kept()) <= {b.name for b in benchmarks()}, "records of benchmarks that are gone"
    with pytest.raises(KeyError):
        find(["no such"])


def test_a_record_lists_missed_goals() -> None:
    assert record.missed(SAMPLE, FIGURES) == ["delay.p99_ms is 7, wanted at most 5"]
    assert record.missed(SAMPLE, {}) == ["rate is None, wanted at least 9", "delay.p99_ms is None, wanted at most 5"]


def test_the_pages_show_the_tables_of_the_records(tmp_path: Path) -> None:
    records = record.kept()
    assert table.shown() == table.render(records).strip(), "run: python -m tests.benchmarks --table"
    short = table.render(records, table.HEADLINES)
    assert table.shown(table.README) == short, "run: python -m tests.benchmarks --table"
    assert len(short.splitlines()) == 2 + len(table.HEADLINES)
    copy = tmp_path / "README.md"
    copy.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write(records, copy)
    assert copy.read_text().startswith("before\n")
    assert copy.read_text().endswith("\nafter\n")
    assert table.shown(copy) == table.render(records).strip()


def test_goals_are_marked_where_they_are_missed() -> None:
    text = table.render({"sample": {"figures": FIGURES}}, rows_of=[SAMPLE])
    assert "| rate | ≥ 9 | 10 |" in text
    assert "| delay | ≤ 5 ms | 7 ms (missed) |" in text
    assert look_up(FIGURES, "delay.nothing") is None


def test_the_command_lists_its_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--list"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [b.name for b in find([])]
