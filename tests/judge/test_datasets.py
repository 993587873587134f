"""Rows as the field publishes them: ids, tests, limits, solutions, bad rows, files, and text from strangers."""

from __future__ import annotations

import base64
import bz2
import datetime
import gzip
import json
import lzma
import os
import pickle
import textwrap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet
import pytest
from judge_helpers import paths_in, replaced

import nbrun
from nbrun.errors import InputError, NotSupportedError, SampleError
from nbrun.judge import LocalSandbox, SandboxFusion, read_problems
from nbrun.judge.problems import read_row
from nbrun.judge.problems.shapes import decoded, load_text_and_lists, nearest
from nbrun.model import Task
from nbrun.samples import SampleReader
from tests.judge.test_datasets_page import ROWS

ONE = [{"input": "1 2\n", "output": "3\n"}]
TWO = [*ONE, {"input": "4 5\n", "output": "9\n"}]
PY = "print(sum(map(int, input().split())))\n"
BRACKET = "[print(sum(map(int, input().split())))]\n"  # begins as JSON does


def read(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    (problem,) = read_problems([row], **more)
    return problem


def packed(value: Any, pack: Any = pickle.dumps) -> str:
    return base64.b64encode(zlib.compress(pack(value))).decode()


# ---- values

LIMITS = [
    (2, 2.0),
    (2.5, 2.5),
    ("2", 2.0),
    ("2.0 seconds", 2.0),
    ("1 second", 1.0),
    ("1500 ms", 1.5),
    ("1.5s", 1.5),
    ("2 sec.", 2.0),
    ("1,5 seconds", 1.5),
    ("3,000 ms", 3.0),
    ("2 seconds per test", 2.0),
    ("1 sec(s)", 1.0),
    ("None", None),
    ("-", None),
    (None, None),
    (0, None),
    ("", None),
    (float("nan"), None),
    ({"seconds": 1, "nanos": None}, 1.0),
    ({"seconds": 0, "nanos": 0}, None),
    (datetime.timedelta(milliseconds=1500), 1.5),
    (pandas.Timedelta(seconds=2), 2.0),
    (pandas.NaT, None),
    (pandas.NA, None),
    ("None seconds", None),
    ("1.0 - 2.0 seconds", 2.0),
    ("2 seconds (4 in Python)", 2.0),
    ({"seconds": None}, None),
    ({"nanos": 15 * 10**8}, 1.5),
    (b"2", 2.0),
]
MEMORY = [
    (256, 256.0),
    (256.0, 256.0),
    ("256 megabytes", 256.0),
    ("256.0 megabytes", 256.0),
    ("256MB", 256.0),
    ("262144 KB", 256.0),
    ("1 GB", 1024.0),
    (268435456, 256.0),
    ("268435456 bytes", 256.0),
    (None, None),
    (0, None),
    (pandas.NA, None),
    (numpy.int64(256 << 20), 256.0),
    ("268,435,456 bytes", 256.0),
    ("1 gibibyte", 1024.0),
    ("262144 kibibytes", 256.0),
    ("2.68435456e8", 256.0),
    (262144, 256.0),
    ("65536", 64.0),
    (1 << 20, 1024.0),
    (4096, 4096.0),
    ("65536 MB", 65536.0),
]


QUANTITIES = [("time_limit", "time_limit_s", *pair) for pair in LIMITS]
QUANTITIES += [("memory_limit", "memory_limit_mb", *pair) for pair in MEMORY]


@pytest.mark.parametrize(("column", "key", "value", "found"), QUANTITIES)
def test_limits_have_units(column: str, key: str, value: Any, found: float | None) -> None:
    assert read({"id": "p", "tests": ONE, column: value})[key] == found


@pytest.mark.parametrize("column", ["time_limit", "memory_limit"])
@pytest.mark.parametrize("value", ["fast", "2 fortnights", -1, float("inf"), [2], True, {"value": 2}])
def test_a_limit_that_can_not_be_read_is_an_error(column: str, value: Any) -> None:
    with pytest.raises(SampleError, match=f"'{column}' is"):
        read({"id": "p", "tests": ONE, column: value})


def solutions_of(value: Any) -> Any:
    return read({"id": "p", "tests": ONE, "solutions": value})["solutions"]


STRUCT = {"language": [3], "solution": [PY], "more": [1]}
ITEMS = [{"language": "x", "solution": "```python\ny\n```", "more": 1}]
CODES = [
    (STRUCT, STRUCT),  # what has its form stays as it is
    (ITEMS, ITEMS),
    ([("python3", PY)], [{"language": "python3", "solution": PY}]),
    (json.dumps([["python3", PY]]), [{"language": "python3", "solution": PY}]),
    (str([{"language": "python3", "solution": PY}]), [{"language": "python3", "solution": PY}]),
    (str([PY, BRACKET]), [{"language": "PYTHON3", "solution": PY}, {"language": "PYTHON3", "solution": BRACKET}]),
    (BRACKET, [{"language": "PYTHON3", "solution": BRACKET}]),
    ([json.dumps({"language": "py3", "solution": PY})], [{"language": "py3", "solution": PY}]),
    (json.dumps(json.dumps([{"language": "py3", "solution": PY}])), [{"language": "py3", "solution": PY}]),
    (json.dumps(json.dumps({"language": ["py3"], "solution": [PY]})), {"language": ["py3"], "solution": [PY]}),
    ({"language": "python3", "solution": [PY, PY]}, {"language": ["python3"] * 2, "solution": [PY, PY]}),
    ([{"language": "2", "solution": "x"}], [{"language": 2, "solution": "x"}]),
    (["import java.util.*;\nclass A {}"], [{"language": "JAVA", "solution": "import java.util.*;\nclass A {}"}]),
    (["#include <stdio.h>\nint main(){}"], [{"language": "C", "solution": "#include <stdio.h>\nint main(){}"}]),
    (["a\n```\nx\n```\nb\n```cpp\ny\n```"], [{"language": "cpp", "solution": "y\n"}]),
    (["print('```')"], [{"language": "PYTHON3", "solution": "print('```')"}]),
    ([PY], [{"language": "PYTHON3", "solution": PY}]),
    (json.dumps([PY]), [{"language": "PYTHON3", "solution": PY}]),
    (PY, [{"language": "PYTHON3", "solution": PY}]),
    (f"Here it is:\n```py\n{PY}```\nDone.", [{"language": "py", "solution": PY}]),
    (["#include <iostream>\nint main() {}"], [{"language": "CPP", "solution": "#include <iostream>\nint main() {}"}]),
    ([{"code": PY, "lang": "py3"}], [{"language": "py3", "solution": PY}]),
    ([{"solution": PY}], [{"language": "PYTHON3", "solution": PY}]),
    (
        {"python": [PY], "cpp": "int main() {}"},
        [
            {"language": "python", "solution": PY},
            {"language": "cpp", "solution": "int main() {}"},
        ],
    ),
    ({"code": [PY], "language": ["py3"]}, {"solution": [PY], "language": ["py3"]}),
    (numpy.array([PY], dtype=object), [{"language": "PYTHON3", "solution": PY}]),
    ([], []),
]


@pytest.mark.parametrize(("value", "found"), CODES)
def test_solutions_of_other_forms_become_items(value: Any, found: Any) -> None:
    assert solutions_of(value) == found


FENCES = {
    "closed on the last line": f"Here:\n```python\n{PY.rstrip()}```",
    "tildes": f"~~~python\n{PY}~~~\n",
    "an example behind it": f"```\n1 2\n```\n```python\n{PY}```\nprints\n```\n3\n```\n",
    "thoughts before it": f"<think>Try ```python\nprint(3)\n``` first.</think>\n```python\n{PY}```\n",
    "cut off": f"Here:\n```python\n{PY}",
    "windows": "```python\r\n" + PY.replace("\n", "\r\n") + "```\r\n",
}


@pytest.mark.parametrize("what", FENCES)
def test_a_source_is_found_in_an_answer(what: str) -> None:
    (item,) = solutions_of([FENCES[what]])
    assert (item["language"], item["solution"].replace("\r", "")) == ("python", PY)


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    '''\n    ```\n    f(1)\n    ```\n    '''\nprint(1)\n",
        "s = '''\n```\n1\n'''\nprint(s)\n",
        "#include <cstdio>\n/*\n```\n1 2\n```\n*/\nint main() {}\n",
    ],
)
def test_fences_in_comments_and_strings_of_a_program_stay(source: str) -> None:
    assert solutions_of([source])[0]["solution"] == source


# ---- tests

FORMS = {
    "a list": ONE,
    "a struct of lists": {"input": ["1 2\n"], "output": ["3\n"]},
    "a struct of inputs": {"inputs": ["1 2\n"], "outputs": ["3\n"]},
    "pairs": [["1 2\n", "3\n"]],
    "JSON text": json.dumps(ONE),
    "streams": [{"input": {"stdin": "1 2\n"}, "output": {"stdout": "3\n"}}],
    "lines": [{"input": ["1 2"], "output": ["3"]}],
    "lines with their ends": [{"input": ["1 2\n"], "output": ["3\n"]}],
    "lines in a struct": {"inputs": [["1 2"]], "outputs": [["3"]]},
    "Windows' line ends": [{"input": "1 2\r\n", "output": "3\r\n"}],
    "arrays": numpy.array(ONE, dtype=object),
    "a kind": [{"type": "stdin_stdout", "fn_name": None, **ONE[0]}],
    "pairs as tuples": (("1 2\n", "3\n"),),
    "a struct of tuples": {"input": ("1 2\n",), "output": ("3\n",)},
    "an array of pairs": numpy.array([["1 2\n", "3\n"]], dtype=object),
    "expected": [{"input": "1 2\n", "expected": "3\n"}],
    "answer": [{"input": "1 2\n", "answer": "3\n"}],
    "in and out": [{"in": "1 2\n", "out": "3\n"}],
    "capitals": [{"Input": "1 2\n", "Output": "3\n"}],
    "by name": {"1": {"input": "1 2\n", "output": "3\n"}},
    "each test as text": [json.dumps(test) for test in ONE],
    "each test as the text of a pair": [json.dumps(["1 2\n", "3\n"])],
    "text in text in text": json.dumps(json.dumps(json.dumps(ONE))),
    "both sides as text": {"inputs": json.dumps(["1 2\n"]), "outputs": json.dumps(["3\n"])},
    "a struct with kinds": {"input": ["1 2\n"], "output": ["3\n"], "type": ["stdin_stdout"], "fn_name": [None]},
}


OTHER_COLUMNS = [
    {"public_test_cases": json.dumps(ONE), "private_test_cases": None, "metadata": None},
    {"public_test_cases": "[]", "private_test_cases": packed(json.dumps(ONE)).encode()},
    {"public_test_cases": "[]", "private_test_cases": "\n".join(textwrap.wrap(packed(json.dumps(ONE)), 40))},
    {"official_tests": ONE, "input_mode": "STDIO"},
    {"input_output": {"inputs": ("1 2\n",), "outputs": ("3\n",)}},
]
ROWS_OF_ONE = {form: {"tests": tests} for form, tests in FORMS.items()}
ROWS_OF_ONE |= {f"{','.join(row)} {i}": row for i, row in enumerate(OTHER_COLUMNS)}


@pytest.mark.parametrize("form", ROWS_OF_ONE)
def test_tests_of_any_form_are_the_same(form: str) -> None:
    problem = read({"id": "p", "solutions": [PY], **ROWS_OF_ONE[form]})
    assert [(test["input"], test["output"]) for test in problem["tests"]] == [("1 2\n", "3\n")]
    assert "harness" not in problem


def test_bytes_stay_bytes_and_packages_keep_their_line_ends() -> None:
    assert read({"id": "p", "tests": [{"input": b"\xff", "output": b"1"}]})["tests"][0]["input"] == b"\xff"
    own = {"id": "p", "tests": [{"input": "a\r\n", "output": "b"}], "time_limit_s": None, "memory_limit_mb": None}
    assert read(own)["tests"] == own["tests"]


def test_several_right_outputs() -> None:
    tests = [{"input": "", "output": ["a", "b"]}, {"input": "", "output": [["a", "b"], ["c"]]}]
    found = read({"id": "p", "tests": tests})["tests"]
    assert [(test["output"], test["alternatives"]) for test in found] == [("a", ["b"]), ("a\nb\n", ["c\n"])]


CALLS = {
    "values": ({"fn_name": "f", "inputs": [[1, "a"]], "outputs": [{"b": None}]}, '[1, "a"]', '{"b": null}'),
    "lines of JSON": (
        [{"input": '1\n"a"', "output": "[2]", "testtype": "functional", "metadata": {"func_name": "f"}}],
        '[1, "a"]',
        "[2]",
    ),
    "by name": ([{"type": "function_call", "fn_name": "f", "input": {"x": 1}, "output": 2}], '{"x": 1}', "2"),
    "one argument": ([{"type": "function_call", "fn_name": "f", "input": 1, "output": "b"}], "[1]", '"b"'),
}


@pytest.mark.parametrize("form", CALLS)
def test_calls_of_functions(form: str) -> None:
    tests, given, result = CALLS[form]
    problem = read({"id": "p", "tests": tests})
    assert problem["harness"] == {"type": "function", "name": "f"}
    assert problem["tests"] == [{"input": given, "output": result}]
    assert read_row(problem).problem == problem, "it stays as it is when a judge reads it again"


def test_starter_code_names_the_function_of_calls_that_name_none() -> None:
    starter = "class Solution:\n    def f(self, a: int) -> int:\n        "
    tests = [{"input": "1", "output": "2", "testtype": "functional"}]
    row = {"question_id": "q", "metadata": "{}", "public_test_cases": json.dumps(tests), "starter_code": starter}
    assert read(row)["harness"] == {"type": "function", "name": "f"}
    assert read({"id": "p", "tests": tests, "starter_code": starter})["harness"]["name"] == "f"
    assert "harness" not in read({"id": "p", "tests": ONE, "starter_code": starter}), "streams stay streams"


def test_functions_of_linked_structures_are_refused_by_name() -> None:
    starter = "# class ListNode:\nclass Solution:\n    def f(self, a: ListNode) -> int:\n        "
    row = {"question_id": "q", "public_test_cases": json.dumps(ONE), "starter_code": starter}
    assert read(row)["not_supported"] == "functions that take a ListNode"


PROMPT = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef f(x):\n    """Double."""\n'


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        ("    return helper(2 * x)\n", PROMPT + "    return helper(2 * x)\n"),
        ("def f(x):\n    return 2 * x\n", PROMPT.partition("\n\n\ndef f")[0] + "\n\n\ndef f(x):\n    return 2 * x\n"),
        ("from __future__ import annotations\ndef f(x):\n    return 2\n", None),
    ],
)
def test_a_solution_gets_what_it_needs_of_the_prompt(code: str, whole: str | None) -> None:
    row = {
        "task_id": "t",
        "prompt": PROMPT,
        "entry_point": "f",
        "test": "def check(c):\n    pass\n",
        "solutions": [code],
    }
    assert read(row)["solutions"][0]["solution"] == (whole or code)


def test_a_result_in_a_list_of_one_is_right_with_and_without_it() -> None:
    row = {"problem_id": 1, "input_output": json.dumps({"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], [4]]})}
    assert read(row)["tests"][0] == {"input": "[1]", "output": "3", "alternatives": ["[3]"]}
    row = {"problem_id": 1, "input_output": json.dumps({"fn_name": "f", "inputs": [[1], [2]], "outputs": [[3], []]})}
    assert read(row)["tests"][0] == {"input": "[1]", "output": "[3]"}


def test_sets_are_named_as_code_contests_names_them() -> None:
    row = {
        "question_id": "q",
        "metadata": "{}",
        "private_test_cases": json.dumps(ONE),
        "public_test_cases": json.dumps([{"input": "0", "output": "0"}]),
    }
    assert [test["input"] for test in read(row)["tests"]] == ["0", "1 2\n"]
    assert [test["input"] for test in read(row, tests=["public_tests"])["tests"]] == ["0"]


# ---- what can't be read

BAD = {
    "no test": ({"id": "w", "tests": []}, "it has no test"),
    "only sets that aren't asked for": ({"id": "w", "public_tests": ONE}, "public_tests, which tests= leaves out"),
    "nothing in the column": ({"id": "w", "input_output": ""}, "no test: its 'input_output' holds nothing"),
    "no value": ({"id": "w", "tests": None}, "no test: its 'tests' holds nothing"),
    "no known column": ({"id": "w", "questions": "", "cases": ONE}, "cases, id, questions.*nearest known shape"),
    "a submission": ({"problem_id": "w", "source": "x", "verdict": "OK"}, "it is a submission"),
    "one side only": ({"id": "w", "tests": [{"input": "1"}]}, r"tests\[0\]"),
    "unequal lists": ({"id": "w", "tests": {"input": ["1"], "output": []}}, "1 inputs and 0 outputs"),
    "broken JSON": ({"id": "w", "input_output": "{"}, "'input_output' is text that is no JSON"),
    "mixed kinds": (
        {"id": "w", "tests": [{"type": "function_call", "fn_name": "f", "input": [], "output": 1}, *ONE]},
        "mixes tests of several kinds",
    ),
    "a call of nothing": ({"id": "w", "tests": [{"type": "function_call", "input": [], "output": 1}]}, "isn't said"),
    "an odd function": ({"id": "w", "input_output": {"fn_name": "f(", "inputs": [[1]], "outputs": [1]}}, "no name of"),
    "an unknown kind": ({"id": "w", "tests": [{"type": "telepathy", **ONE[0]}]}, "type 'telepathy'"),
    "no arguments": ({"id": "w", "fn_name": "f", "tests": [{"input": "x y", "output": "1"}]}, "no arguments"),
    "no Python": ({"task_id": "w", "test_list": ["assert f(1) =="]}, r"test_list\[0\] is no Python"),
    "no check": ({"task_id": "w", "entry_point": "f", "test": "import unittest"}, "no function `check`"),
    "an answer": (
        {"id": "w", "reward_model": {"ground_truth": "34"}, "ability": "math"},
        r"no test of a program.*math",
    ),
    "a limit": ({"id": "w", "tests": ONE, "time_limit": "fast"}, "'time_limit' is 'fast'"),
    "solutions": ({"id": "w", "tests": ONE, "solutions": 3}, "'solutions' is a int"),
    "a test of nothing": ({"id": "w", "tests": [*ONE, None]}, r"tests\[1\] holds nothing"),
    "an output of nothing": (
        {"id": "w", "tests": [{"input": "1", "output": None}]},
        r"tests\[0\]: its output holds no",
    ),
    "an output that is NaN": (
        {"id": "w", "tests": [{"input": "1", "output": float("nan")}]},
        "its output holds nothing",
    ),
    "an input of nothing": (
        {"id": "w", "tests": {"input": ["1", None], "output": ["1", "2"]}},
        r"tests\[1\]: its input",
    ),
    "other names of sides": ({"id": "w", "tests": [{"inp": "1", "outp": "1"}]}, r"\(it has 'inp', 'outp'\)"),
    "null as text": ({"id": "w", "tests": "null"}, r"it has no test \(tests: 0\)"),
    "an assertion of nothing": ({"task_id": "w", "test_list": ["assert f(1)", None]}, r"test_list\[1\] holds no code"),
    "code without a name": ({"task_id": "w", "test": "def check(f): pass"}, "'entry_point' beside it, as in HumanEval"),
    "a column by its name": ({"id": "w", "corner_cases": [{"input": "1"}]}, r"corner_cases\[0\] is a mapping without"),
    "a reward's column": (
        {"id": "w", "reward_model": {"ground_truth": "[]"}},
        r"no test \(reward_model.ground_truth: 0",
    ),
    "a file elsewhere": ({"id": "w", "public_tests": ONE, "input_file": "../x"}, "input file is called"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_is_an_error_that_names_it(what: str) -> None:
    row, words = BAD[what]
    tests = ["private_tests"] if "asked" in what else None
    more = {} if tests is None else {"tests": tests}
    good = {"id": "good", "tests": ONE, "public_tests": ONE, "private_tests": ONE}
    given: list[dict[str, Any]] = [good, row]
    problems = iter(read_problems(given, **more))
    with pytest.raises(SampleError, match=rf"row 1 \(problem 'w'\): .*{words}") as caught:
        next(problems)  # a list is checked before its first problem is handed over
    assert (caught.value.position, caught.value.sample_id) == (1, "w")
    left = read_problems(given, on_bad="skip", **more)
    assert [problem["id"] for problem in left] == ["good"]
    ((reason, count),) = left.not_supported.items()
    assert count == 1
    assert "'w'" in reason
    assert "not supported: 1 × row 1" in repr(left)


def test_several_bad_rows_of_a_list_are_reported_together() -> None:
    with pytest.raises(SampleError, match=r"7 rows can't be judged(.|\n)*row 4(.|\n)*and 2 more"):
        list(read_problems([{"id": i, "tests": []} for i in range(7)]))


def test_bad_rows_do_not_end_the_run_of_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    item = {"language": "python3", "solution": PY}
    rows = [{"id": i, "tests": ONE if i != 1 else [], "solutions": [item]} for i in range(3)]
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]))
    problems = read_problems(path, on_bad="skip")
    sandbox = LocalSandbox()
    nbrun.start(problems, sandbox, tmp_path / "results", workers=1, view=None).wait(60)
    sandbox.close()
    assert set(nbrun.load_results(tmp_path / "results")["verdict"]) == {"Accepted"}
    assert sum(problems.not_supported.values()) == 2


def test_nothing_is_written_where_a_list_holds_a_bad_row(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="row 1"):
        nbrun.start(
            read_problems([{"id": 1, "tests": ONE, "solutions": []}, {"id": 2}]), print, tmp_path / "r", view=None
        ).wait(60)
    assert not (tmp_path / "r").exists() or not list((tmp_path / "r").glob("*.json"))


def test_the_nearest_shape_is_found_by_its_columns() -> None:
    assert nearest(["question_id", "question_title", "starter_code"]).startswith("LiveCodeBench")
    assert nearest(["id", "corner_case", "commands"]).startswith("CodeContests-O")
    assert nearest(["id", "solutions"]).startswith("nbrun's own")


# ---- ids


def test_a_row_without_an_id_gets_one_that_does_not_depend_on_its_place() -> None:
    rows = [{"problem": text, "tests": json.dumps(ONE), "solutions": [PY]} for text in ("a", "b")]
    problems = read_problems(rows)
    with pytest.warns(UserWarning, match="row 0 has no id"):
        ids = [problem["id"] for problem in problems]
    assert problems.made_ids == 2
    assert "2 rows without an id" in repr(problems)
    assert len(set(ids)) == 2
    with pytest.warns(UserWarning, match="has no id"):
        assert [problem["id"] for problem in read_problems(rows[::-1])] == ids[::-1]


@pytest.mark.parametrize("bad", [None, "", float("nan"), True, [], {}])
def test_an_unusable_id_is_none(bad: Any) -> None:
    assert read({"id": bad, "name": "n", "tests": ONE})["id"] == "n"


def test_ids_of_frames_stay_numbers() -> None:
    frame = pandas.DataFrame({"id": [1.0, 2.0], "tests": [ONE, ONE], "extra": [None, 1]})
    assert [problem["id"] for problem in read_problems(frame)] == [1, 2]
    frame = pandas.DataFrame({"tests": [ONE, ONE]}, index=["a", "b"])
    assert [problem["id"] for problem in read_problems(frame)] == ["a", "b"]


# ---- neighbours of the published forms


@pytest.mark.parametrize("inputs", ["[1, 2]\n", "1 2\n", "[3]"])
def test_two_texts_are_a_single_test(inputs: str) -> None:
    assert read({"id": "p", "tests": {"inputs": inputs, "outputs": "3\n"}})["tests"] == [
        {"input": inputs, "output": "3\n"}
    ]


def test_languages_with_gaps_are_numbers_and_guesses() -> None:
    struct = {"language": [3.0, float("nan"), None, 2.0], "solution": [PY, PY, "#include <iostream>", ""]}
    read_again = read_problems([{"id": "p", "tests": ONE, "solutions": struct}])
    (problem,) = read_again
    assert problem["solutions"]["language"] == [3, "PYTHON3", "CPP", 2]
    assert sum(read_again.languages.values()) == 4


@pytest.mark.parametrize("value", ["", "  ", None, float("nan")])
def test_an_id_of_nothing_is_made_from_the_content(value: Any) -> None:
    with pytest.warns(UserWarning, match="has no id"):
        (problem,) = read_problems([{"id": value, "tests": ONE, "solutions": [PY]}])
    assert problem["id"].startswith("row-")


# ---- sources

ROW = {"id": "p", "tests": ONE, "solutions": [{"language": "py3", "solution": PY}]}


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def sources(folder: Path) -> Iterator[Any]:
    line = json.dumps(ROW).encode() + b"\n"
    (folder / "a.jsonl").write_bytes(line)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(line))
    with pyarrow.output_stream(str(folder / "c.jsonl.zst"), compression="zstd") as file:
        file.write(line)
    (folder / "d.json").write_text(json.dumps([ROW]))
    (folder / "e.json").write_text(json.dumps(ROW))
    (folder / "f.json").write_bytes(line + b"\n")
    (folder / "h.jsonl.bz2").write_bytes(bz2.compress(line))
    (folder / "i.jsonl.xz").write_bytes(lzma.compress(line))
    (folder / "j.jsonl").write_bytes(gzip.compress(line))  # compressed, whatever its name
    (folder / "k.jsonl.gz").write_bytes(line)
    (folder / "l.json").write_text(json.dumps({"version": 1, "data": [ROW]}))
    (folder / "m.json").write_text(json.dumps({"p": {key: value for key, value in ROW.items() if key != "id"}}))
    (folder / "n.jsonl").write_bytes(line.replace(b"\n", b"\r\n") + b"\r\n")
    write_parquet(folder / "g.parquet", [ROW])
    yield from sorted(folder.iterdir())
    inner = folder / "snapshot" / "data"
    inner.mkdir(parents=True)
    write_parquet(inner / "train-00000.parquet", [ROW])
    (folder / "snapshot" / "dataset_info.json").write_text("{}")
    yield folder / "snapshot"
    yield [ROW]
    yield ROW
    yield (row for row in [ROW])
    yield pandas.DataFrame([ROW])
    yield pandas.read_parquet(folder / "g.parquet")
    table = pyarrow.Table.from_pylist([ROW])
    yield table
    yield table.to_batches()[0]
    yield table.to_reader()
    yield pyarrow.dataset.dataset(folder / "g.parquet")
    yield pandas.DataFrame([ROW]).drop(columns="id").set_axis(["p"])


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    found = [list(read_problems(source)) for source in sources(tmp_path)]
    assert len(found) == 25
    assert all(problems[0]["tests"] == ONE and problems[0]["id"] == "p" for problems in found)
    assert all(len(problems) == 1 for problems in found)


def test_a_reader_gives_its_rows_once_and_a_lazy_frame_has_none() -> None:
    problems = read_problems(pyarrow.Table.from_pylist([ROW]).to_reader())
    assert len(list(problems)) == 1
    with pytest.raises(InputError, match="read already"):
        list(problems)

    class LazyFrame:  # as polars has it
        schema: ClassVar = {}

        def collect(self) -> None:
            raise AssertionError

    with pytest.raises(InputError, match=r"a LazyFrame has no rows yet; give source\.collect\(\)"):
        read_problems(LazyFrame())  # type: ignore[arg-type]


def test_rows_of_a_frame_with_an_index_of_several_levels_are_named_by_all() -> None:
    frame = pandas.DataFrame([ROW]).drop(columns="id").set_axis(pandas.MultiIndex.from_tuples([("a", 1)]))
    assert [problem["id"] for problem in read_problems(frame)] == ["a/1"]


@pytest.mark.parametrize(("name", "words"), [("p.csv", "pandas.read_csv"), ("p.arrow", "Dataset.from_file")])
def test_files_that_are_not_read_are_named_with_a_way(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=words):
        read_problems(tmp_path / name)


def test_a_file_in_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(ROW), encoding="utf-16")
    with pytest.raises(SampleError, match=r"p\.jsonl: its text is UTF-16"):
        list(read_problems(tmp_path / "p.jsonl"))


@pytest.mark.needs("datasets")
def test_datasets_with_declared_features_give_the_same() -> None:
    import datasets

    text, large, binary = (datasets.Value(kind) for kind in ("string", "large_string", "binary"))
    names = datasets.ClassLabel(names=["UNKNOWN_LANGUAGE", "PYTHON", "CPP", "PYTHON3", "JAVA"])
    pairs = {"input": text, "output": text}
    items = {"language": names, "solution": text}
    struct = {side: [test[side] for test in TWO] for side in ("input", "output")}
    codes = {"language": [3], "solution": [PY]}
    as_text = json.dumps(TWO)
    kinds = [
        ({"tests": datasets.Sequence(pairs), "solutions": datasets.Sequence(items)}, struct, codes),
        ({"tests": [pairs], "solutions": [items]}, TWO, [{"language": 3, "solution": PY}]),
        ({"tests": large, "solutions": datasets.Sequence(large)}, as_text, [PY]),
        ({"tests": binary, "solutions": large}, as_text.encode(), json.dumps([PY])),
    ]
    for features, tests, solutions in kinds:
        row = {"id": "p", "tests": tests, "solutions": solutions}
        made = datasets.Dataset.from_list([row], features=datasets.Features({"id": text, **features}))
        for source in (made, made.to_iterable_dataset(), made.with_format("arrow"), made.with_format("numpy")):
            (problem,) = read_problems(source)
            assert problem["tests"] == TWO
            assert len(SampleReader().read(problem, 0).groups[0].items) == 1


def test_a_dataset_and_its_splits() -> None:
    class Split(list):  # as `datasets` has it
        column_names: ClassVar = ["id", "tests", "results"]

        def select_columns(self, names: list[str]) -> Any:
            return Split({name: row[name] for name in names} for row in self)

    split = Split([{**ROW, "results": object()}])
    assert next(iter(read_problems(split)))["id"] == "p"
    with pytest.raises(InputError, match=r"several splits.*'train'"):
        read_problems({"train": split})


def test_of_a_parquet_file_only_known_columns_are_loaded(tmp_path: Path) -> None:
    write_parquet(tmp_path / "p.parquet", [{"name": "n", "corner_cases": ONE, "results": [1], "description": "d"}])
    seen: list[set[str]] = []

    def look(row: Any) -> Any:
        seen.append(set(row))
        return row

    assert "results" not in next(iter(read_problems(tmp_path / "p.parquet", keep=["description"])))
    assert next(iter(read_problems(tmp_path / "p.parquet", keep=["results"])))["results"] == [1]
    list(read_problems(tmp_path / "p.parquet", adapter=look))
    assert seen == [{"name", "corner_cases", "results", "description"}], "an adapter sees all of a row"


@pytest.mark.filterwarnings("ignore:read_problems")
@pytest.mark.parametrize("number", range(len(ROWS)), ids=[f"{name} {i}" for i, (name, _) in enumerate(ROWS)])
def test_a_row_of_a_parquet_file_is_the_same_problem(number: int, tmp_path: Path) -> None:
    """A shape's table names each column that its reader needs; others aren't loaded."""
    row = {**ROWS[number][1], "another_column": "x"}
    path = tmp_path / "rows.parquet"
    try:
        table = pyarrow.Table.from_pylist([row])
    except pyarrow.ArrowInvalid:  # a cell mixes lists and text
        table = pyarrow.Table.from_pylist([{name: json.dumps(cell) for name, cell in row.items() if name != "id"}])
    pyarrow.parquet.write_table(table, path)
    (found,) = read_problems(path)
    (expected,) = read_problems(pyarrow.parquet.read_table(path).to_pylist())
    assert found == expected


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(json.dumps({**ROW, "id": i}).encode() + b"\n" for i in range(1000)))
    (tmp_path / "p.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(SampleError, match=r"p\.jsonl\.gz:\d+: the file can't be read from here on"):
        list(read_problems(tmp_path / "p.jsonl.gz"))


@pytest.mark.needs("pyarrow")
def test_files_that_are_cut_off_or_damaged_do_not_end_the_reading_of_the_others(tmp_path: Path) -> None:
    import pyarrow

    rows = [{**ROW, "id": f"{name}{i}"} for name in "abcd" for i in range(200)]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:200]))[:-40])
    with pyarrow.output_stream(tmp_path / "b.jsonl.zst", compression="zstd") as file:
        file.write(b"".join(lines[200:400]))
    whole = (tmp_path / "b.jsonl.zst").read_bytes()
    (tmp_path / "b.jsonl.zst").write_bytes(whole[: len(whole) // 2])
    write_parquet(tmp_path / "c.parquet", rows[400:600])
    data = bytearray((tmp_path / "c.parquet").read_bytes())
    data[4:400] = b"\xff" * 396  # pages, not the footer
    (tmp_path / "c.parquet").write_bytes(data)
    (tmp_path / "d.jsonl").write_bytes(b"".join(lines[600:]) + b'{"id": "d200", "te')
    read = read_problems(tmp_path, on_bad="skip")
    found = [problem["id"] for problem in read]
    assert [name for name in found if name.startswith("d")] == [f"d{i}" for i in range(200)]
    assert len(found) > 200
    assert sorted(Path(reason.partition(":")[0]).name for reason in read.not_supported) == [
        "a.jsonl.gz", "b.jsonl.zst", "c.parquet", "d.jsonl",
    ]  # fmt: skip


# ---- adapters and submissions


def test_an_adapter_reads_rows_of_the_users_own() -> None:
    rows = [{"key": i, "in": ["1 2"], "out": ["3"]} for i in range(3)]

    def adapter(row: Any) -> Any:
        if row["key"] == 1:
            return None
        return {"id": row["key"], "tests": [{"input": row["in"], "output": row["out"]}], "solutions": [PY]}

    assert [(p["id"], p["tests"]) for p in read_problems(rows, adapter=adapter)] == [(0, ONE), (2, ONE)]
    with pytest.raises(SampleError, match="row 0: the adapter raised KeyError: 'nothing'"):
        list(read_problems(rows, adapter=lambda row: row["nothing"]))
    with pytest.raises(SampleError, match="row 0: the adapter returned a int"):
        list(read_problems(rows, adapter=lambda row: 3))  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="adapter="):
        read_problems(rows, adapter=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_bad="):
        read_problems(rows, on_bad="ignore")


def test_submissions_of_their_own_rows_join_their_problems() -> None:
    verdicts = {"OK": "a", "WRONG_ANSWER": "b", "COMPILATION_ERROR": "c", "TIME_LIMIT_EXCEEDED": "d", "SKIPPED": "e"}
    rows = [
        {"problem_id": "1/A", "source": text, "programmingLanguage": "GNU C++17", "verdict": verdict}
        for verdict, text in verdicts.items()
    ]
    problem = {"id": "1/A", "official_tests": ONE, "input_mode": "stdio", "solutions": [PY]}
    (found,) = read_problems([problem], submissions=rows)
    assert [item["solution"] for item in found["solutions"]] == [PY, "a"]
    assert [item["solution"] for item in found["incorrect_solutions"]] == ["b", "d"]
    with pytest.raises(SampleError, match="row 0 of submissions= is no submission"):
        list(read_problems([problem], submissions=[problem]))


# ---- text from strangers


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("was-here",))


HOSTILE = {
    "a pickle that runs something": packed(Evil()),
    "numbers": packed([1, 2]),
    "text cut off": base64.b64encode(zlib.compress(b"\x80\x04\x8c\xffab.")).decode(),
    "an empty pickle": base64.b64encode(zlib.compress(b"\x80\x04")).decode(),
    "a mark alone": base64.b64encode(zlib.compress(b"\x80\x04e.")).decode(),
    "no zlib": base64.b64encode(b"hello").decode(),
    "no base64": "%%%",
    "zlib cut off": base64.b64encode(zlib.compress(pickle.dumps("[]" * 1000))[:-8]).decode(),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_private_tests_are_decoded_by_a_reader_of_text_and_lists(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"question_id": "x", "public_test_cases": "[]", "private_test_cases": HOSTILE[what], "metadata": "{}"}
    with pytest.raises(SampleError, match="private_test_cases"):
        list(read_problems([row]))
    assert not list(tmp_path.iterdir()), "nothing was run"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_text_and_lists_of_any_protocol_are_read(protocol: int) -> None:
    for value in ("", "ä" * 300, "x" * 70_000, [], ["a", ["b", "b"], []], ["same"] * 300):
        assert load_text_and_lists(pickle.dumps(value, protocol)) == value
    assert decoded(packed(json.dumps(ONE), lambda text: pickle.dumps(text, protocol)), "t") == ONE


def test_a_list_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="twice"):
        load_text_and_lists(pickle.dumps(loop))


def test_what_decompresses_without_end_is_refused(tuning: Callable[..., None]) -> None:
    tuning(livecodebench_max_bytes=1 << 20)
    with pytest.raises(ValueError, match="more than 1 MiB"):
        decoded(packed("x" * (2 << 20)), "private_test_cases")


def test_a_fenced_source_is_judged_without_its_fence(tmp_path: Path) -> None:
    item = {"language": "py3", "solution": f"```python\n{PY}```\n"}
    sandbox = LocalSandbox()
    nbrun.start(read_problems([{"id": "p", "tests": ONE, "solutions": [item]}]), sandbox, tmp_path, view=None).wait(60)
    sandbox.close()
    frame = nbrun.load_results(tmp_path, items=True)
    assert list(frame["verdict"]) == ["Accepted"]
    assert list(frame["item_solution"]) == [item["solution"]], "the item stays what it was"


@pytest.mark.needs("datasets")
def test_rows_of_numpy_and_rows_asked_for_as_frames_are_read() -> None:
    import datasets

    items = numpy.array([{"language": numpy.int64(3), "solution": PY}], dtype=object)
    assert read({"id": "a", "tests": ONE, "solutions": items})["solutions"] == [{"language": 3, "solution": PY}]
    data = datasets.Dataset.from_list([{"id": "a", "tests": ONE, "solutions": [PY]}])
    for form in ("pandas", "numpy"):
        (problem,) = read_problems(data.with_format(form))
        assert problem["tests"] == ONE


def test_a_number_as_a_test_and_a_single_solution() -> None:
    problem = read({"id": "a", "tests": [{"input": "1 2\n", "output": 3}], "solution": PY})
    assert problem["tests"] == [{"input": "1 2\n", "output": "3"}]
    assert problem["solutions"] == [{"language": "PYTHON3", "solution": PY}]


def test_private_calls_without_a_name_are_those_of_the_starter_code() -> None:
    tests = [{"input": "1\n2", "output": "[True, None]", "testtype": "functional"}]
    row = {"question_id": "q", "starter_code": "class Solution:\n    def add(self, a, b):\n", "metadata": "{}"}
    problem = read({**row, "public_test_cases": json.dumps(tests), "private_test_cases": packed(json.dumps(tests))})
    assert problem["harness"] == {"type": "function", "name": "add"}
    assert [test["output"] for test in problem["tests"]] == ["[true, null]"] * 2


UNITTEST = """
import unittest

class TestCases(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.first = 1

    def setUp(self):
        self.second = 2

    def test_fixtures(self):
        self.assertEqual(task_func(self.first, self.second), 3)

    @unittest.skip("of no use here")
    def test_skipped(self):
        raise RuntimeError

    def test_cases(self):
        for value in range(3):
            with self.subTest(value):
                self.assertEqual(task_func(value, 0), value)

    def helper(self):
        raise RuntimeError
"""
BIGCODEBENCH = {
    "task_id": "BigCodeBench/1",
    "code_prompt": "import math\ndef task_func(a, b):\n",
    "entry_point": "task_func",
    "test": UNITTEST,
    "libs": "['math']",
    "canonical_solution": "    return math.fsum([a, b])\n",
}


def verdicts_of(problem: dict[str, Any], sandbox: LocalSandbox) -> dict[str, list[str]]:
    return {
        group: [sandbox(Task(str(problem["id"]), group, i, item, problem))["verdict"] for i, item in enumerate(items)]
        for group in ("solutions", "incorrect_solutions")
        if (items := problem.get(group))
    }


def test_methods_of_unittest_are_tests_with_their_fixtures(sandbox: LocalSandbox) -> None:
    whole = "```python\ndef task_func(a, b):\n    return math.fsum([a, b])\n```"
    wrong = ["    return a\n", "def task_func(a, b):\n    return 3\n"]
    problem = read({**BIGCODEBENCH, "solutions": ["    return a + b\n", whole], "incorrect_solutions": wrong})
    assert len(problem["tests"]) == 3
    assert problem["time_limit_s"] == 20
    assert verdicts_of(problem, sandbox) == {
        "solutions": ["Accepted", "Accepted"],
        "incorrect_solutions": ["WrongAnswer", "WrongAnswer"],
    }


def test_a_library_that_tests_need_is_named_before_a_solution_is_rejected(sandbox: LocalSandbox) -> None:
    row = {**BIGCODEBENCH, "libs": "['math', 'no_such_library', 'numpy']"}
    problem = read(row)
    assert problem["harness"] == {"type": "test_code", "needs": ["no_such_library", "numpy"]}
    with pytest.raises(NotSupportedError, match=r"tests need no_such_library, which .*python.* doesn't have"):
        verdicts_of(problem, sandbox)
    assert verdicts_of(read({**row, "libs": ["numpy"]}), sandbox) == {"solutions": ["Accepted"]}


@pytest.mark.parametrize(
    ("row", "language"),
    [
        ({"task_id": "CPP/0", "declaration": "int add(int a, int b) {", "test": "int main() {}"}, "CPP"),
        ({"task_id": "java/3", "entry_point": "add", "language": "java", "test": "class Main {}"}, "java"),
        ({"name": "HumanEval_0", "language": "rs", "tests": "fn main() {}", "stop_tokens": ["\n}"]}, "rs"),
    ],
)
def test_test_code_in_other_languages_is_refused_by_name(row: dict[str, Any], language: str) -> None:
    problem = read({**row, "prompt": "…", "solutions": ["x"]})
    assert problem["not_supported"] == f"test code in {language}"
    assert problem["solutions"] == [{"language": language, "solution": "x"}]


def test_python_rows_of_translated_sets_are_read() -> None:
    row = {"task_id": "python/3", "entry_point": "add", "language": "python", "prompt": "def add(a, b):\n"}
    problem = read({**row, "test": "def check(f):\n    assert f(1, 2) == 3\n", "solutions": ["    return a + b\n"]})
    assert problem["solutions"][0]["solution"] == "def add(a, b):\n    return a + b\n"
    assert problem["tests"][0]["input"].endswith("check(add)\n")


@pytest.mark.parametrize(
    ("columns", "right", "wrong"),
    [
        ({"source_code": "a", "exec_outcome": "PASSED"}, ["a"], None),
        ({"source_code": "a"}, ["a"], None),
        ({"source_code": "a", "exec_outcome": "WRONG_ANSWER"}, None, ["a"]),
        ({"source_code": "a", "exec_outcome": "COMPILATION_ERROR"}, None, []),
        ({"fix_source_code": "a", "bug_source_code": "b", "bug_exec_outcome": "RUNTIME_ERROR"}, ["a"], ["b"]),
        ({"fix_source_code": "a", "bug_source_code": "b", "bug_exec_outcome": "COMPILATION_ERROR"}, ["a"], []),
        ({"source_code": "a", "exec_outcome": "WRONG_ANSWER", "solutions": ["c"]}, ["c"], None),
    ],
)
def test_a_source_of_xcodeeval_is_in_the_group_of_its_outcome(
    columns: dict[str, Any], right: list[str] | None, wrong: list[str] | None
) -> None:
    problem = read({"src_uid": "u", "lang": "GNU C++17", "hidden_unit_tests": json.dumps(ONE), **columns})
    for group, expected in (("solutions", right), ("incorrect_solutions", wrong)):
        found = problem.get(group)
        assert (found and [item["solution"] for item in found]) == (expected and list(expected))


def test_tests_of_the_ioi_set_keep_the_names_of_their_sides() -> None:
    row = {"id": "sum", "subtask": "1", "test_names": ["a"], "tests": [{"test_input": "1 2\n", "test_output": "3\n"}]}
    assert read({**row, "solutions": []})["tests"] == ONE


def test_functions_of_a_test_file_are_tests() -> None:
    head = "from solution import add\n\n"
    tests = "def test_a():\n    assert add(1, 2) == 3\n\n"
    tests += "class TestB:\n    def test_b(self):\n        assert add(0, 0) == 0\n"
    row = {"question_id": "k", "solution": "def add(a, b):\n    return a + b\n"}
    problem = read({**row, "test_code": head + tests})
    assert [test["input"].splitlines()[-1] for test in problem["tests"]] == [
        "test_a()",
        "_test = TestB(); _test.test_b()",
    ]
    for bad in ("import pytest\n" + tests, "def test_a(tmp_path):\n    pass\n"):
        with pytest.raises(SampleError, match="pytest"):
            read({**row, "test_code": head + bad})


TESTLIB = '#include "testlib.h"\nint main() {}'


def test_a_checker_without_its_testlib_is_an_error_before_the_run(tmp_path: Path) -> None:
    row = {"id": "c", "tests": ONE, "solutions": [PY], "checker": TESTLIB}
    rows = [row, {**row, "id": "d", "checker": None}]
    with pytest.raises(SampleError, match=r"LocalSandbox\(testlib="):
        nbrun.start(read_problems(rows), LocalSandbox(), tmp_path / "a", view=None)
    assert not list(tmp_path.iterdir())
    problems = read_problems(rows, on_bad="skip")
    assert nbrun.start(problems, LocalSandbox(), tmp_path / "b", view=None).wait(60).done == 1
    assert ["testlib" in reason for reason in problems.not_supported] == [True]
    same = LocalSandbox(checker=lambda expected, actual: expected.split() == actual.split())
    assert nbrun.start(read_problems(rows), same, tmp_path / "c", view=None).wait(60).done == 2


# ---- neighbours of the published shapes


def test_input_mode_file_is_read_in_any_case() -> None:
    row = {"id": "p", "official_tests": ONE, "input_mode": "FILE", "solutions": [PY]}
    assert read(row)["stream_files"] == {"input": "input.txt", "output": "output.txt"}


def test_a_struct_of_unequal_lists_is_a_bad_row_before_anything_runs() -> None:
    rows = [{"id": "p", "tests": ONE, "solutions": {"language": [3, 3], "solution": [PY]}}]
    with pytest.raises(SampleError, match="unequal length: 1 of 'solution' and 2 of 'language'"):
        list(read_problems(rows))
    assert not list(read_problems(rows, on_bad="skip"))


# ---- problems without solutions

BARE = {"id": "bare", "tests": ONE}
SOLVED = {"id": "solved", "tests": ONE, "solutions": [PY]}


@pytest.mark.parametrize("judge", [LocalSandbox(isolation="none"), SandboxFusion("http://localhost:1")])
def test_rows_without_solutions_are_an_error_before_a_judge_runs(tmp_path: Path, judge: Any) -> None:
    with pytest.raises(SampleError, match=r"row 0 \(problem 'bare'\): it has no solutions to judge: no column 'sol"):
        nbrun.start(read_problems([BARE]), judge, tmp_path / "r", view=None)
    assert not (tmp_path / "r").exists()


def test_rows_without_solutions_are_samples_for_other_functions(tmp_path: Path) -> None:
    with nbrun.start(read_problems([BARE]), lambda task: {"n": len(task.item["tests"])}, tmp_path, view=None) as run:
        assert run.wait().done == 1


def test_a_row_without_solutions_among_others_has_no_task(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (SOLVED, BARE)))
    with nbrun.start(read_problems(path), LocalSandbox(isolation="none"), tmp_path / "r", view=None) as run:
        assert (run.wait().done, run.progress.samples_done) == (1, 2)


def test_rows_whose_columns_of_solutions_are_empty_have_no_task(tmp_path: Path) -> None:
    rows = [{**BARE, "solutions": [], "incorrect_solutions": None}]
    with nbrun.start(read_problems(rows), LocalSandbox(isolation="none"), tmp_path, view=None) as run:
        progress = run.wait()
    assert (progress.total, progress.errors) == (0, 0)


def test_a_checker_that_is_no_program_is_an_error_before_a_judge_runs(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="the problem's checker is 'compare', which is no program"):
        nbrun.start(read_problems([{**SOLVED, "checker": "compare"}]), LocalSandbox(), tmp_path / "r", view=None)


def test_rows_of_a_frame_and_of_bytes_are_read_as_others_are() -> None:
    """A frame of several kinds of rows holds NaN where a row has no value; Parquet's binary columns hold bytes."""
    row = {"id": "a", "tests": json.dumps(TWO), "solutions": [PY], "time_limit": '{"seconds": 2, "nanos": 0}'}
    frame = pandas.DataFrame([row, {"id": "b", "test": TWO, "solutions": [PY], "time-limit": "3 seconds"}])
    first, second = read_problems(frame)
    assert first["tests"] == second["tests"] == TWO
    assert (first["time_limit_s"], second["time_limit_s"]) == (2.0, 3.0)
    as_bytes = {name: value.encode() if isinstance(value, str) else value for name, value in row.items()}
    assert read({**as_bytes, "solutions": [PY.encode()]}) == first
    struct = {"language": ["python3", None], "solution": [PY.encode(), PY]}
    assert read({**row, "solutions": struct})["solutions"] == {
        "language": ["python3", "PYTHON3"],
        "solution": [PY, PY],
    }


@pytest.mark.parametrize("form", ["json texts", "lists", "one json text"])
def test_lists_of_lists_of_tests_are_one_list(form: str) -> None:
    asserts = ["assert f(1) == 2", "assert f(2) == 3"]
    for tests in (asserts, TWO):
        nested: Any = [tests[:1], tests[1:], tests]
        if form == "json texts":
            nested = [json.dumps(part) for part in nested]
        elif form == "one json text":
            nested = json.dumps(nested)
        found = read({"id": "a", "ground_truth": nested})["tests"]
        assert [test["input"].strip() for test in found] == [
            t if isinstance(t, str) else t["input"].strip() for t in tests * 2
        ]


def test_texts_that_check_nothing_are_no_test_code() -> None:
    """Code of constants would pass every solution."""
    for texts in (["1", "3"], ["'a'"], ["x = 1"]):
        with pytest.raises(SampleError, match="neither a test with input and output nor code that checks anything"):
            read({"id": "a", "tests": texts})


@pytest.mark.parametrize("verdict", ["FAILED", "CRASHED", "SUBMITTED", "INPUT_PREPARATION_CRASHED", "WJ", "CE"])
def test_submissions_that_no_judge_rejected_are_in_no_group(verdict: str) -> None:
    rows = [{"problem_id": "a", "source": PY, "verdict": verdict}, {"problem_id": "a", "source": PY, "verdict": "OK"}]
    (problem,) = read_problems([{"id": "a", "tests": ONE}], submissions=rows)
    assert len(problem["solutions"]) == 1
    assert "incorrect_solutions" not in problem


def test_a_folder_saved_to_disk_is_named_with_the_way_to_read_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([{"id": "a", "tests": ONE}]).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=r"datasets\.load_from_disk"):
        read_problems(tmp_path / "saved")


ODD = [
    None,
    5,
    True,
    float("nan"),
    "",
    "[]",
    '"a"',
    b"\xff",
    [],
    [None],
    ["1"],
    {},
    {"a": [1]},
    numpy.array([1]),
    pandas.NA,
]


@pytest.mark.filterwarnings("ignore:read_problems")
@pytest.mark.parametrize("number", range(len(ROWS)), ids=[f"{name} {i}" for i, (name, _) in enumerate(ROWS)])
def test_whatever_a_cell_holds_the_row_is_read_or_named_as_bad(number: int) -> None:
    """No value ends the reading of the rows after it, and none gives a problem without tests."""
    row = ROWS[number][1]
    for at in paths_in(row):
        for value in ODD:
            problems = read_problems([replaced(row, at, value), {"id": "good", "tests": ONE}], on_bad="skip")
            *found, good = problems.judged_by(None)
            assert good["id"] == "good"
            assert all(problem["tests"] or problem["not_supported"] for problem in found)
            assert len(found) == 1 or list(problems.not_supported) != []


def test_arguments_as_one_list_of_json_or_by_their_names() -> None:
    call = {"type": "function_call", "fn_name": "add", "input": "[1, 2]", "output": "[3]"}
    row = {"problem_id": "a", "verification_info": {"test_cases": [call]}}
    assert read(row)["tests"] == [{"input": "[1, 2]", "output": "3", "alternatives": ["[3]"]}]
    starter = "class Solution:\n    def pair(self, nums, target):\n        "
    named = {"input": "nums = [1, 2], target = 3", "output": "[0,1]"}
    problem = read({"id": "a", "starter_code": starter, "tests": [named]})
    assert problem["harness"] == {"type": "function", "name": "pair"}
    assert json.loads(problem["tests"][0]["input"]) == {"nums": [1, 2], "target": 3}
    with pytest.raises(SampleError, match="its input is no arguments"):
        read({"id": "a", "starter_code": starter, "tests": [{**named, "input": "nums = [1, 2"}]})


def test_a_result_printed_by_python_is_a_value_or_text() -> None:
    row = {"id": "a", "input_output": {"fn_name": "f", "inputs": ["1"], "outputs": ["True"]}}
    assert read(row)["tests"] == [{"input": "[1]", "output": "true", "alternatives": ['"True"']}]


def test_submissions_belong_to_a_problem_by_its_aliases_too() -> None:
    row = {"id": "1/A", "aliases": ["2/C"], "contest_id": "1", "examples": ONE}
    sent = [
        {"problem_id": name, "source": PY, "programmingLanguage": "Python 3", "verdict": "OK"}
        for name in ("2/C", "9/Z")
    ]
    (problem,) = read_problems([row], submissions=sent)
    assert problem["solutions"] == [{"language": "Python 3", "solution": PY}]


def test_submissions_of_no_problem_are_an_error_that_shows_both_ids() -> None:
    """Else a run would end at once, without a task."""
    sent = [{"problem_id": "1A", "source": PY, "verdict": "OK"}]
    with pytest.raises(SampleError, match=r"submissions are of '1A', problems are called '1/A', '1/B'"):
        list(read_problems([{"id": f"1/{name}", "tests": ONE} for name in "AB"], submissions=sent))


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"time_limit": 2000}, 2.0),
        ({"time_limit": "1500"}, 1.5),
        ({"time_limit": 300}, 300.0),
        ({"time_limit": "600 s"}, 600.0),
        ({"time_limit_s": 1000}, 1000.0),
        ({"time_limit_ms": 250}, 0.25),
        ({"time_limit": {"seconds": 600}}, 600.0),
    ],
)
def test_a_time_limit_without_a_unit_is_milliseconds_if_no_contest_allows_so_many_seconds(
    limits: dict[str, Any], found: float
) -> None:
    assert read({"id": "a", "tests": ONE, **limits})["time_limit_s"] == found


def test_solutions_without_a_text_are_an_error_before_anything_runs() -> None:
    with pytest.raises(SampleError, match=r"'solutions' holds mappings without 'solution' \(they have 'text', 'n'\)"):
        read({"id": "a", "tests": ONE, "solutions": [{"text": PY, "n": 1}]})
