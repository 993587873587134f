"""The page on data sets shows a row of each shape, and each of them is judged as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.judge import LocalSandbox, read_problems
from nbrun.judge.datasets import SHAPES, shape_of
from nbrun.model import Task

PAGE = Path(nbrun.__file__).parent / "docs" / "datasets.md"


def rows_of_page() -> list[tuple[str, dict[str, Any]]]:
    """(heading, row) of all rows."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [(name, json.loads(row)) for name, text in pairs for row in re.findall(r"```json\n(.*?)\n```", text, re.S)]


ROWS = rows_of_page()


def items(group: Any) -> list[Any]:
    if isinstance(group, dict):
        return [dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)]
    return list(group)


def test_the_page_shows_each_shape_and_no_other() -> None:
    assert {name for name, _ in ROWS} == {shape.name for shape in SHAPES}
    table = re.findall(r"^\| \[(.+?)\]", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(table) == {shape.name for shape in SHAPES}


@pytest.mark.needs("g++")
@pytest.mark.parametrize("number", range(len(ROWS)), ids=[f"{name} {i}" for i, (name, _) in enumerate(ROWS)])
@pytest.mark.filterwarnings("ignore:read_problems")
def test_a_row_of_the_page_is_judged_as_it_says(number: int, sandbox: LocalSandbox) -> None:
    name, row = ROWS[number]
    shape = shape_of(row)
    assert shape is not None
    assert shape.name == name
    (problem,) = read_problems([row])
    assert not problem.get("not_supported")
    verdicts = {
        group: [
            str(sandbox(Task(str(problem["id"]), group, i, item, problem))["verdict"])
            for i, item in enumerate(items(problem[key]))
        ]
        for group, key in (("solution", "solutions"), ("incorrect_solution", "incorrect_solutions"))
    }
    assert verdicts["solution"] == ["Accepted"] * len(verdicts["solution"])
    assert verdicts["incorrect_solution"] == ["WrongAnswer"] * len(verdicts["incorrect_solution"])
    assert all(verdicts.values())
