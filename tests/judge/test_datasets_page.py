"""The page on data sets shows a row of each shape, and each of them is judged as the page says."""

from __future__ import annotations

import decimal
import json
import re
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest

import nbrun
from nbrun.judge import LocalSandbox, read_problems
from nbrun.judge.problems.shapes import SHAPES, shape_of
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
    assert_judged(row, sandbox)


def assert_judged(row: dict[str, Any], sandbox: LocalSandbox) -> dict[str, Any]:
    """Assert that a row's solutions are accepted and its others are WrongAnswer; return the problem."""
    (problem,) = read_problems([row])
    assert not problem.get("not_supported")
    for group, key, verdict in (
        ("solution", "solutions", "Accepted"),
        ("incorrect_solution", "incorrect_solutions", "WrongAnswer"),
    ):
        solutions = items(problem[key])
        tasks = [Task(str(problem["id"]), group, i, item, problem) for i, item in enumerate(solutions)]
        assert [str(sandbox(task)["verdict"]) for task in tasks] == [verdict] * len(solutions)
        assert solutions
    return problem


# ---- the same rows with other columns, as the data sets and their loaders write them

PY = "print(sum(map(int, input().split())))\n"
WRONG = "print(4)\n"
ADD = "def add(a, b):\n    return a + b\n"
SUBTRACT = "def add(a, b):\n    return a - b\n"
TWO = [{"input": "1 2\n", "output": "3\n"}, {"input": "4 5\n", "output": "9\n"}]
SIDES: dict[str, Any] = {side + "s": [test[side] for test in TWO] for side in ("input", "output")}
STREAMS = {"solutions": [PY], "incorrect_solutions": [WRONG]}
CALLS = {"solutions": [ADD], "incorrect_solutions": [SUBTRACT]}
LOOKS_UP = {
    "solutions": ["def f(d):\n    return d[1]\n"],
    "incorrect_solutions": ["def f(d):\n    return len(d)\n"],
}


def reward(truth: Any) -> dict[str, Any]:
    """The columns of Eurus-2's rows, which verl's loaders write too."""
    model = {"style": "rule", "ground_truth": truth if isinstance(truth, (str, bytes)) else json.dumps(truth)}
    extra = {"index": 7, "split": "train"}
    return {"data_source": "taco", "ability": "code", "prompt": [{}], "reward_model": model, "extra_info": extra}


def taco(tests: Any, **columns: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("name", "date", "picture_num", "Expected Auxiliary Space", "Expected Time Complexity"))
    limits = {"time_limit": "0.4 seconds", "memory_limit": "128.0 megabytes"}
    row = {"question": "?", "url": "https://x/1", "input_output": json.dumps(tests), "starter_code": "", **limits}
    return {**empty, **row, "solutions": json.dumps([PY]), "incorrect_solutions": [WRONG], **columns}


def on_page(heading: str, number: int = 0, **columns: Any) -> dict[str, Any]:
    return {**[row for name, row in ROWS if name.startswith(heading)][number], **columns}


def own(tests: Any, **columns: Any) -> dict[str, Any]:
    return {"id": "p", "tests": tests, **STREAMS, **columns}


def called(name: str, inputs: Any, outputs: Any) -> dict[str, Any]:
    return {"fn_name": name, "inputs": inputs, "outputs": outputs}


OFFICIAL = on_page("open-r1/codeforces", input_mode="stdio", **STREAMS)
FAILED = {"code": WRONG, "programmingLanguage": "Python 3", "verdict": "WRONG_ANSWER"}
COTS = on_page("open-r1/codeforces", 1, failed_solutions=[FAILED])
EMPTY = {"input": [], "output": []}
PLUS = on_page("CodeContests+", checker=None)
XCODEEVAL = on_page("xCodeEval")
SOURCE = {"src_uid": "u", "code_uid": "c", "lang": "Python 3", "source_code": PY, "exec_outcome": "PASSED"}
LEETCODE = on_page("HumanEval, EvalPlus", 1)
CODENET = {"time_limit": "2000", "memory_limit": 131072}

#: What is special -> (row, what must be true of its problem).
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Eurus-2": ({**reward(SIDES), **STREAMS}, {"id": "taco/train/7"}),
    "Eurus-2, printed by Python": ({**reward(str(SIDES)), **STREAMS}, {}),
    "Eurus-2, bytes": ({**reward(json.dumps(SIDES).encode()), **STREAMS}, {}),
    "Eurus-2, lines": ({**reward({"inputs": [["1 2"]], "outputs": [["3"]]}), **STREAMS}, {"tests": 1}),
    "Eurus-2, arguments as lines": ({**reward(called("add", ["1\n2", "4\n5"], ["3", "9"])), **CALLS}, {}),
    "Eurus-2, results in lists": ({**reward(called("add", ["1\n2", "4\n5"], ["[3]", "[9]"])), **CALLS}, {}),
    "Eurus-2, keys are integers": ({**reward(called("f", ['{"1": 2}'], ["2"])), **LOOKS_UP}, {"tests": 1}),
    "code-r1": ({**reward({"functional": "assert add(1, 2) == 3"}), **CALLS}, {"tests": 1}),
    "a reward as JSON text": ({**reward(""), "reward_model": json.dumps(reward(SIDES)["reward_model"]), **STREAMS}, {}),
    "TACO": (taco(SIDES), {"id": "https://x/1", "time_limit_s": 0.4, "memory_limit_mb": 128}),
    "TACO, no limits": (taco(SIDES, time_limit=None, memory_limit=None), {"time_limit_s": None}),
    "TACO, text in text": (taco(json.dumps(SIDES)), {}),
    "TACO, a call": (taco(called("add", [[1, 2], [4, 5]], [3, 9]), **CALLS), {}),
    "TACO, keys are integers": (taco(called("f", [[{"1": 2}]], [[2]]), **LOOKS_UP), {"tests": 1}),
    "CodeContests, a list of structs": (
        on_page("CodeContests", public_tests=TWO, input_file="", output_file="", **STREAMS),
        {},
    ),
    "CodeContests+, structs": (
        {**PLUS, "test_cases": SIDES, "correct_submissions": {"code": [PY], "language": ["py3"]}, "time_limit": 400},
        {"time_limit_s": 0.4, "memory_limit_mb": 256},
    ),
    "CodeContests+, JSON text": ({**PLUS, "test_cases": json.dumps(TWO)}, {}),
    "CodeContests-O, a struct": (
        on_page(
            "CodeContests-O", checker=None, corner_cases={"input": [{"stdin": "1 2"}], "output": [{"stdout": "3"}]}
        ),
        {"tests": 1},
    ),
    "codeforces-cots, only examples": ({**COTS, "public_tests": EMPTY, "generated_tests": EMPTY}, {"tests": 1}),
    "codeforces-cots, no sets": ({**COTS, **dict.fromkeys(("public_tests", "generated_tests"))}, {"tests": 1}),
    "codeforces-cots, a source that didn't compile": (
        {**COTS, "failed_solutions": [FAILED, {**FAILED, "verdict": "COMPILATION_ERROR", "code": "x("}]},
        {},
    ),
    "open-r1/codeforces, only examples": ({**OFFICIAL, "official_tests": [], "generated_tests": 3}, {"tests": 1}),
    "open-r1/codeforces, generated tests added": ({**OFFICIAL, "generated_tests": TWO}, {"tests": 4}),
    "open-r1/ioi, tests by name": (
        on_page("open-r1/ioi", tests={"01": {"input": "1 2\n", "output": "3\n"}}),
        {"tests": 1, "id": "sum/01-small", "memory_limit_mb": 256},
    ),
    "xCodeEval, a source among others": (
        {**SOURCE, "hidden_unit_tests": XCODEEVAL["hidden_unit_tests"], "incorrect_solutions": [WRONG]},
        {"id": "u/c"},
    ),
    "xCodeEval, files": (
        {
            **on_page("xCodeEval", 1, input_from="input.txt", output_to="output.txt", incorrect_solutions=[WRONG]),
            "solutions": ["print(sum(map(int, open('input.txt').read().split())), file=open('output.txt', 'w'))"],
        },
        {"stream_files": {"input": "input.txt", "output": "output.txt"}},
    ),
    "LeetCodeDataset": (LEETCODE, {"tests": 1, "time_limit_s": 10}),
    "HumanEval+, whose tests need numpy": (
        on_page(
            "HumanEval, EvalPlus",
            test="import numpy as np\n\n" + LEETCODE["test"].replace("a = ", "").replace("b = ", ""),
        ),
        {"tests": 1, "harness": {"type": "test_code", "needs": ["numpy"]}},
    ),
    "MBPP+, whose last test needs numpy": (
        on_page("MBPP", test="import numpy as np\nfrom math import inf\n\nassert np.allclose(add(1, 2), 3)\n"),
        {"tests": 3, "harness": {"type": "test_code", "needs": ["numpy"]}},
    ),
    "MBPP, arrays": (on_page("MBPP", test_list=numpy.array(["assert add(1, 2) == 3"], dtype=object)), {"tests": 1}),
    "OpenCoder": (
        {"seq_id": 1, "code": ADD, "entry_point": "add", "testcase": ["assert add(1, 2) == 3"], **CALLS},
        {"tests": 1},
    ),
    "AceCode": ({"id": "a", "test_cases": ["assert add(1, 2) == 3", "assert add(4, 5) == 9"], **CALLS}, {}),
    "OpenCodeInstruct": ({"id": "a", "unit_tests": json.dumps(["\nassert add(1, 2) == 3\n"]), **CALLS}, {"tests": 1}),
    "rStar-Coder, calls": (
        {**on_page("rStar-Coder", inputs='["1\\n2"]', outputs='["3"]', func_name="add"), **CALLS},
        {"tests": 1, "id": "q1"},
    ),
    "rStar-Coder, calls with values": (
        {**on_page("rStar-Coder", inputs="[[1, 2]]", outputs="[3]", func_name="add"), **CALLS},
        {"tests": 1},
    ),
    "DeepCoder, arguments and results printed by Python": (
        {
            "id": "p",
            "tests": called("f", ["True\n'a'"], ["'a'"]),
            "solutions": ["def f(x, y):\n    return y if x is True else 0\n"],
            "incorrect_solutions": ["def f(x, y):\n    return x\n"],
        },
        {"tests": 1},
    ),
    "calls with other names of sides": (
        own([{"fn_name": "add", "args": [1, 2], "expected": 3}, {"fn_name": "add", "in": [4, 5], "out": 9}], **CALLS),
        {},
    ),
    "a struct as JSON text": (own(json.dumps(SIDES)), {}),
    "a bytearray of JSON text": (own(bytearray(json.dumps(TWO).encode())), {}),
    "a memoryview of JSON text": (own(memoryview(json.dumps(TWO).encode())), {}),
    "sides in buffers": (own([{"input": bytearray(b"1 2\n"), "output": memoryview(b"3\n")}]), {"tests": 1}),
    "a number of numpy": (own([{"input": "1 2", "output": numpy.int64(3)}]), {"tests": 1}),
    "a decimal number": (own([{"input": "1 2", "output": decimal.Decimal(3)}]), {"tests": 1}),
    "an array of pyarrow": (own(pyarrow.array(TWO)), {}),
    "frames": (own(pandas.DataFrame(TWO), solutions=pandas.DataFrame([{"language": "python3", "code": PY}])), {}),
    "limits as CodeNet has them": (own(TWO, **CODENET), {"time_limit_s": 2, "memory_limit_mb": 128}),
    "limits with units in their names": (
        own(TWO, time_limit_seconds="0.4", memory_limit_kb=131072),
        {"time_limit_s": 0.4, "memory_limit_mb": 128},
    ),
    "a duration of numpy": (own(TWO, time_limit=numpy.timedelta64(400, "ms")), {"time_limit_s": 0.4}),
    "a decimal limit": (own(TWO, time_limit=decimal.Decimal("0.4")), {"time_limit_s": 0.4}),
    "solutions by language": (own(TWO, solutions={"python3": [PY], "py": PY}), {}),
    "solutions each as JSON text": (own(TWO, solutions=[json.dumps({"lang": "python3", "source": PY})]), {}),
    "solutions as text in text": (own(TWO, solutions=json.dumps(json.dumps([PY]))), {}),
}


@pytest.mark.needs("g++")
@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.filterwarnings("ignore:read_problems")
def test_a_row_with_other_columns_is_judged_as_its_data_set_means_it(what: str, sandbox: LocalSandbox) -> None:
    row, expected = OTHERS[what]
    problem = assert_judged(row, sandbox)
    expected = {"tests": 2, **expected}
    assert {name: len(problem[name]) if name == "tests" else problem[name] for name in expected} == expected
