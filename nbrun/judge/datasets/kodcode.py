"""KodCode: tests are the functions `test_…` of a file that imports the tested function from `solution`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbrun.judge.datasets.shape import Draft, Shape, fields_of
from nbrun.judge.datasets.tests import Tests, test_functions
from nbrun.judge.datasets.values import first

_COLUMNS = ("test_code", "test")


def _read(row: Mapping[str, object]) -> Draft:
    """Read each function of the test file as a test. Files that need pytest itself (fixtures, `raises`) are refused."""
    fields = fields_of(row, "PYTHON3", solutions="solution")
    column = next(name for name in _COLUMNS if _is_test_file(row.get(name)))

    def read(value: Any, where: str, _: str | None) -> Tests:
        return test_functions(value, where)

    return Draft({"tests": first(row, column)}, fields, None, read, columns={"tests": column})


def _is_test_file(value: object) -> bool:
    return isinstance(value, str) and "def test" in value and not value.lstrip().startswith(("[", "{"))


KODCODE = Shape(
    "KodCode",
    "https://huggingface.co/datasets/KodCode/KodCode-V1",
    needs=(("test_code", "solution"), ("test", "solution"), ("test_code", "solutions"), ("test_code", "question_id")),
    columns=("solution", "test_code", "test"),
    ids=("question_id", "id", "name"),
    also=lambda row: any(_is_test_file(row.get(name)) for name in _COLUMNS),
    read=_read,
)
