"""The demo set is real data: every declared verdict holds."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import build_demo_data
import pytest

import nbrun
from nbrun.errors import InputError
from nbrun.judge import LocalSandbox, demo_old_results, demo_problems
from nbrun.model import Task
from nbrun.samples import SampleReader


def tasks() -> list[tuple[Task, str]]:
    """Every solution of the set, as a run would see it, with its true verdict."""
    out, reader = [], SampleReader()
    for number, problem in enumerate(demo_problems()):
        for group in reader.read(problem, number).groups:
            verdicts = problem["expected_verdicts"][group.name]
            assert len(verdicts) == len(group.items)
            for i, item in enumerate(group.items):
                assert set(item) == {"language", "solution"}
                out.append((Task(problem["id"], group.name, i, item, problem), verdicts[i]))
    return out


@pytest.mark.needs("g++")
@pytest.mark.long
def test_every_declared_verdict_holds() -> None:
    todo = tasks()
    with closing(LocalSandbox()) as sandbox, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(sandbox, [task for task, _ in todo]))
    wrong = [
        (task.sample_id, task.group, task.index, expected, result["verdict"])
        for (task, expected), result in zip(todo, results, strict=True)
        if result["verdict"] != expected
    ]
    assert not wrong


def test_old_results_are_written_once_and_never_over_others(tmp_path: Path) -> None:
    folder = demo_old_results(tmp_path / "old")
    files = {path.name: path.read_bytes() for path in build_demo_data.OLD.glob("*.json")}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    counts = nbrun.status(folder)
    assert (counts.done, counts.errors, counts.problems) == (59, 0, 0)
    name = next(iter(files))
    (folder / name).write_text("continued by a run")
    assert demo_old_results(str(folder)) == folder
    assert (folder / name).read_text() == "continued by a run"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"other results \(a\.json\)"):
        demo_old_results(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.json"]


def test_each_problem_has_enough_of_each_kind() -> None:
    assert len(demo_problems()) >= 12
    for problem in demo_problems():
        verdicts = problem["expected_verdicts"]
        assert verdicts["solution"] == ["Accepted"] * max(3, len(verdicts["solution"]))
        kinds = Counter(verdicts["incorrect_solution"])
        assert sum(kinds.values()) >= 5
        assert set(kinds) >= {"WrongAnswer", "TimeLimitExceeded", "RuntimeError", "CompileError"}, problem["id"]
        assert set(problem["solutions"]["language"]) == {2, 3}
        assert any("Only " in source for source in problem["incorrect_solutions"]["solution"]), "no corner case"


def test_the_package_holds_what_the_sources_say() -> None:
    assert build_demo_data.PACKED.read_text() == build_demo_data.packed(), "run: python -m tests.judge.build_demo_data"
