"""HumanEval, EvalPlus and MBPP: code that is run after the solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbrun.judge.datasets.shape import Draft, Shape, solutions_of
from nbrun.judge.datasets.tests import Tests, check_of, code_tests
from nbrun.judge.datasets.values import parsed, plain


def _read_humaneval(row: Mapping[str, Any]) -> Draft:
    """`test` defines `check`, which gets the function called `entry_point`.

    `canonical_solution` goes on where `prompt` ends; so does a solution that doesn't define the function itself.
    """
    entry, prompt = row["entry_point"], row.get("prompt") or ""
    if "def check(" not in row["test"]:
        raise ValueError("'test' defines no function `check`, so nothing is known of how it is run")
    own = next((name for name in ("canonical_solution", "completion") if row.get(name)), "canonical_solution")
    fields = solutions_of(row, "PYTHON3", solutions=own)
    fields = {group: _completed(items, prompt, str(entry).rpartition(".")[2]) for group, items in fields.items()}
    return Draft({"tests": row["test"]}, fields, None, lambda code, where, _: check_of(code, entry, "test"))


def _completed(items: Any, prompt: str, name: str) -> Any:
    if not isinstance(items, list):
        return items

    def whole(item: Any) -> Any:
        if not isinstance(item, Mapping) or not isinstance(item.get("solution"), str):
            return item
        if f"def {name}" in item["solution"]:
            return item
        return {**item, "solution": prompt + item["solution"]}

    return [whole(item) for item in items]


def _read_mbpp(row: Mapping[str, Any]) -> Draft:
    """Each assertion of `test_list` is a test of its own, after `test_setup_code` or `test_imports`.

    `challenge_test_list` is a set of its own; where EvalPlus adds `test`, that code is the last test.
    """
    before = "\n".join(str(line) for line in plain(row.get("test_imports") or ()))
    before += "\n" + (row.get("test_setup_code") or "")
    fields = solutions_of(row, "PYTHON3", solutions="code")
    sets = {"tests": row["test_list"], "challenge_test_list": row.get("challenge_test_list")}

    def read(value: Any, where: str, _: str | None) -> Tests:
        column = "test_list" if where == "tests" else where
        tests = code_tests([str(code) for code in plain(parsed(value, column))], column, before)
        if where == "tests" and isinstance(row.get("test"), str) and row["test"].strip():
            tests.tests.extend(code_tests([row["test"]], "test").tests)
        return tests

    return Draft({name: value for name, value in sets.items() if value is not None}, fields, None, read)


HUMANEVAL = Shape(
    "HumanEval, EvalPlus",
    "https://huggingface.co/datasets/openai/openai_humaneval, https://huggingface.co/datasets/evalplus/humanevalplus",
    needs=(("entry_point", "test"),),
    columns=("prompt", "canonical_solution", "completion"),
    ids=("task_id", "id", "name"),
    also=lambda row: isinstance(row["test"], str),
    read=_read_humaneval,
)
MBPP = Shape(
    "MBPP, MBPP+",
    "https://huggingface.co/datasets/google-research-datasets/mbpp, https://huggingface.co/datasets/evalplus/mbppplus",
    needs=(("test_list",),),
    columns=("code", "test", "test_imports", "test_setup_code", "challenge_test_list"),
    ids=("task_id", "id", "name"),
    read=_read_mbpp,
)
