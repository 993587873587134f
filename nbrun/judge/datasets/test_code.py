"""HumanEval, EvalPlus and MBPP: tests are code that is run after the solution."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbrun.judge.datasets.shape import SOLUTIONS, Draft, Shape, fields_of
from nbrun.judge.datasets.tests import Tests, check_of, code_tests
from nbrun.judge.datasets.values import first, has, number, parsed, plain, text_of


def _read_humaneval(row: Mapping[str, Any]) -> Draft:
    """Read `test`, which defines `check`, a function that gets the solution's function `entry_point`.

    `canonical_solution` continues `prompt`, and so does a solution that doesn't define the function itself.
    """
    entry, prompt = row["entry_point"], text_of(row, "prompt")
    if "def check(" not in row["test"]:
        raise ValueError("'test' defines no function `check`, so nothing is known of how it is run")
    own = next((name for name in ("canonical_solution", "completion") if has(row, name)), "canonical_solution")
    fields = _completed_fields(row, own, prompt, str(entry).rpartition(".")[2])

    def read(code: Any, where: str, _: str | None) -> Tests:
        return check_of(code, entry, where)

    return Draft({"tests": row["test"]}, fields, None, read, columns={"tests": "test"})


def _completed_fields(row: Mapping[str, object], own: str, prompt: str, name: str) -> dict[str, object]:
    fields = fields_of(row, "PYTHON3", solutions=own)
    return fields | {group: _completed(fields[group], prompt, name) for group in SOLUTIONS if group in fields}


def _completed(items: object, prompt: str, name: str) -> Any:
    """Put the prompt before each item; before an item that defines the function, only the part above the function."""
    if not isinstance(items, list):
        return items
    head, defined, _ = prompt.partition(f"def {name}(")
    if defined and head.rpartition("\n")[2].strip():
        head = ""  # the function doesn't begin a line

    def whole(item: Any) -> object:
        code = item.get("solution") if isinstance(item, Mapping) else None
        if not isinstance(code, str):
            return item
        if f"def {name}(" not in code:
            return {**item, "solution": prompt + code}
        if not head.strip() or head.strip() in code or "from __future__" in code:
            return item
        return {**item, "solution": f"{head.rstrip()}\n\n\n{code}"}

    return [whole(item) for item in items]


def _read_evalplus(row: Mapping[str, Any]) -> Draft:
    """Read inputs without results: `canonical_solution` computes the expected results in the same run.

    In EvalPlus's files the inputs are JSON; `atol` is the allowed error of a number. Each of the two sets is one test.
    """
    entry, prompt = text_of(row, "entry_point"), text_of(row, "prompt")
    reference = _completed([{"solution": text_of(row, "canonical_solution")}], prompt, entry)[0]["solution"]
    atol = number(first(row, "atol") or 0, "atol")
    fields = _completed_fields(row, "canonical_solution", prompt, entry)

    def read(value: object, where: str, _: str | None) -> Tests:
        inputs = json.dumps(parsed(value, where), default=plain)
        names = {"entry": entry, "reference": reference, "inputs": inputs, "atol": atol}
        return code_tests([_EVALPLUS.format(**{name: repr(value) for name, value in names.items()})], where)

    columns = {"tests": "base_input", "private_tests": "plus_input"}
    sets = {"tests": row["base_input"], "private_tests": plain(first(row, "plus_input")) or None}
    return Draft(sets, fields, None, read, columns=columns)


#: Compares a solution with the reference on all inputs. Both get copies, since some functions change their arguments.
_EVALPLUS = """
import copy, json, math

def _same(want, got, atol):
    if isinstance(want, (list, tuple)) and isinstance(got, (list, tuple)):
        return len(want) == len(got) and all(_same(w, g, atol) for w, g in zip(want, got))
    if isinstance(want, float) and isinstance(got, (int, float)):
        return want == got or math.isclose(want, got, rel_tol=1e-7, abs_tol=atol or 1e-6)
    return want == got

_reference = {{"__name__": "reference"}}
exec({reference}, _reference)
for _given in json.loads({inputs}):
    _want = _reference[{entry}](*copy.deepcopy(_given))
    _got = globals()[{entry}](*copy.deepcopy(_given))
    assert _same(_want, _got, {atol}), (_given, _want, _got)
"""


def _read_mbpp(row: Mapping[str, Any]) -> Draft:
    """Read each assertion of `test_list` as a test that begins with `test_setup_code` or `test_imports`.

    `challenge_test_list` is a set of its own. The code in EvalPlus's further column `test` is the last test.
    """
    before = "\n".join(str(line) for line in plain(first(row, "test_imports")) or ())
    before += "\n" + text_of(row, "test_setup_code")
    fields = fields_of(row, "PYTHON3", solutions="code")
    sets = {"tests": row["test_list"], "challenge_test_list": first(row, "challenge_test_list")}

    def read(value: object, where: str, _: str | None) -> Tests:
        tests = code_tests(plain(parsed(value, where)), where, before)
        if where == "test_list" and isinstance(row.get("test"), str) and row["test"].strip():
            tests.tests.extend(code_tests([row["test"]], "test").tests)
        return tests

    sets = {name: value for name, value in sets.items() if value is not None}
    return Draft(sets, fields, None, read, columns={"tests": "test_list"})


HUMANEVAL = Shape(
    "HumanEval, EvalPlus",
    "https://huggingface.co/datasets/openai/openai_humaneval, https://huggingface.co/datasets/evalplus/humanevalplus",
    needs=(("entry_point", "test"),),
    columns=("prompt", "canonical_solution", "completion"),
    ids=("task_id", "id", "name"),
    also=lambda row: isinstance(row["test"], str),
    read=_read_humaneval,
)
EVALPLUS = Shape(
    "EvalPlus's files",
    "https://github.com/evalplus/evalplus",
    needs=(("entry_point", "base_input", "canonical_solution"),),
    columns=("prompt", "plus_input", "atol"),
    ids=("task_id", "id", "name"),
    read=_read_evalplus,
)
MBPP = Shape(
    "MBPP, MBPP+",
    "https://huggingface.co/datasets/google-research-datasets/mbpp, https://huggingface.co/datasets/evalplus/mbppplus",
    needs=(("test_list",),),
    columns=("code", "test", "test_imports", "test_setup_code", "challenge_test_list"),
    ids=("task_id", "id", "name"),
    read=_read_mbpp,
)
