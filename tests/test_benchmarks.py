"""The benchmarks' registry, their records, and the tables that are made from them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import report
from tests.benchmarks.registry import MODULES, Benchmark, benchmarks, find, least, look_up, most

FIGURES = {"rate": 10.0, "delay": {"p99_ms": 7}, "peak_mb": 50}
SAMPLE = Benchmark("sample", dict, (least("rate", 9, "rate"), most("delay.p99_ms", 5, "delay", " ms")))


def test_each_benchmark_can_be_measured_by_its_name_alone() -> None:
    for benchmark in benchmarks():
        module = importlib.import_module(f"tests.benchmarks.{benchmark.module}")
        assert getattr(module, benchmark.measure.__name__) is benchmark.measure
    assert {b.module for b in benchmarks()} == set(MODULES)
    assert set(report.kept()) <= {b.name for b in benchmarks()}, "records of benchmarks that are gone"
    with pytest.raises(KeyError):
        find(["no such"])


def test_a_record_lists_missed_goals() -> None:
    assert report.missed(SAMPLE, FIGURES) == ["delay.p99_ms is 7, wanted at most 5"]
    assert report.missed(SAMPLE, {}) == ["rate is None, wanted at least 9", "delay.p99_ms is None, wanted at most 5"]


@pytest.mark.parametrize("page", [report.PAGE, report.README], ids=["docs", "README"])
def test_the_pages_show_the_tables_of_the_records(page: Path, tmp_path: Path) -> None:
    only = report.HEADLINES if page == report.README else None
    table = report.render(report.kept(), only).strip()
    assert report.shown(page) == table, "run: python -m tests.benchmarks --table"
    assert only is None or len(table.splitlines()) == 2 + len(only)
    copy = tmp_path / "page.md"
    copy.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(copy, table)
    assert copy.read_text() == f"before\n{report.BEGIN}\n{table}\n{report.END}\nafter\n"


def test_goals_are_marked_where_they_are_missed() -> None:
    text = report.render({"sample": {"figures": FIGURES}}, rows_of=[SAMPLE])
    assert "| rate | ≥ 9 | 10 |" in text
    assert "| delay | ≤ 5 ms | 7 ms (missed) |" in text
    assert look_up(FIGURES, "delay.nothing") is None


def test_the_command_lists_its_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["tests.benchmarks", "--list"])
    assert command.main() == 0
    assert capsys.readouterr().out.split() == [b.name for b in find([])]
