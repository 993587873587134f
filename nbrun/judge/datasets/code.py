"""HumanEval and its relatives, BigCodeBench, MBPP and KodCode: tests are code that is run after the solution."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from nbrun.judge.datasets.shape import SOLUTIONS, Draft, Row, Shape, in_python
from nbrun.judge.datasets.tests import Tests, check_of, code_tests, read_test_file
from nbrun.judge.datasets.values import column_of, first, number, parsed, plain, text_of
from nbrun.judge.languages import language_name

_IDS = ("task_id", "id", "name")
#: What the authors of BigCodeBench allow at least for the tests of a solution, in seconds.
_BIGCODEBENCH_S = 20.0
#: What the authors of LeetCodeDataset allow for all calls of a function, often more than a hundred, in seconds.
_LEETCODE_S = 10.0


# ---- solutions that continue a prompt


def _complete(draft: Draft, prompt: str, name: str) -> None:
    """Put the prompt before each solution that doesn't define the function itself."""
    for group in SOLUTIONS:
        items = draft.fields.get(group)
        if isinstance(items, list):
            draft.fields[group] = [_completed(item, prompt, name) for item in items]


def _completed(item: Any, prompt: str, name: str) -> Any:
    """Put the prompt before a solution; if it defines the function, only the part of the prompt above the function."""
    code = item.get("solution") if isinstance(item, Mapping) else None
    if not isinstance(code, str):
        return item
    if f"def {name}(" not in code:
        return {**item, "solution": prompt + code}
    head, defined, _ = prompt.partition(f"def {name}(")
    if defined and head.rpartition("\n")[2].strip():
        head = ""  # the function doesn't begin a line
    if not head.strip() or head.strip() in code or "from __future__" in code:
        return item
    return {**item, "solution": f"{head.rstrip()}\n\n\n{code}"}


# ---- HumanEval


def _humaneval(draft: Draft) -> None:
    """Read `test`, which defines `check`, a function that gets the solution's function `entry_point`."""
    row = draft.row
    entry: Any = row["entry_point"]
    if "def check(" not in text_of(row, "test"):
        raise ValueError("'test' defines no function `check`, so nothing is known of how it is run")
    if column_of(row, "completion"):
        draft.fields["time_limit_s"] = draft.fields["time_limit_s"] or _LEETCODE_S
    _complete(draft, text_of(row, "prompt"), str(entry).rpartition(".")[2])
    draft.read = lambda code, where, _: check_of(str(code), entry, where)


#: `canonical_solution` continues `prompt`; in LeetCodeDataset the solution is `completion`, and `input_output` shows
#: some of the calls in `test`.
HUMANEVAL = Shape(
    "HumanEval, EvalPlus",
    "https://huggingface.co/datasets/openai/openai_humaneval, https://huggingface.co/datasets/evalplus/humanevalplus, "
    "https://github.com/newfacade/LeetCodeDataset",
    sets={"tests": ("test",)},
    needs=(("entry_point", "test"),),
    also=lambda row: isinstance(row["test"], str),
    solutions=("canonical_solution", "completion"),
    language=in_python,
    ids=_IDS,
    columns=("prompt",),
    finish=_humaneval,
)


def _test_language(row: Row) -> str:
    """Return the language of a row's solutions and tests: as a column, or at the beginning of the id ("CPP/0")."""
    return str(first(row, "language") or str(row.get("task_id")).partition("/")[0])


def _translated(draft: Draft) -> None:
    """Read the rows in Python, whose `test` calls `check` itself; mark the others as not supported."""
    language = _test_language(draft.row)
    meant = language_name(language)
    if meant is None or meant.language != "PYTHON3":
        draft.fields["not_supported"] = f"test code in {language}"
        draft.sets = {}
    elif column_of(draft.row, "entry_point"):
        _humaneval(draft)
    else:
        declared = text_of(draft.row, "declaration").rpartition("def ")[2]
        _complete(draft, text_of(draft.row, "prompt"), declared.partition("(")[0])
        draft.read = lambda code, where, _: code_tests([code], where)


#: HumanEval in several languages: only the rows in Python are judged.
TRANSLATED = Shape(
    "HumanEval-X, HumanEval-XL, MultiPL-E",
    "https://huggingface.co/datasets/zai-org/humaneval-x, https://github.com/THUDM/CodeGeeX, "
    "https://github.com/FloatAI/HumanEval-XL, https://huggingface.co/datasets/nuprl/MultiPL-E",
    sets={"tests": ("test", "tests")},
    needs=(("declaration", "test"), ("entry_point", "test", "language"), ("prompt", "tests", "stop_tokens")),
    solutions=("canonical_solution",),
    language=_test_language,
    ids=_IDS,
    columns=("prompt", "declaration", "entry_point", "language"),
    finish=_translated,
)


def _bigcodebench(draft: Draft) -> None:
    """Read each test method of the class `TestCases`. The libraries in `libs` must be installed where it is run."""
    _complete(draft, text_of(draft.row, "code_prompt"), text_of(draft.row, "entry_point"))
    draft.fields["time_limit_s"] = draft.fields["time_limit_s"] or _BIGCODEBENCH_S
    libs = parsed(first(draft.row, "libs") or [], "libs")
    needs = {str(lib) for lib in (libs if isinstance(libs, list) else [])} - sys.stdlib_module_names
    draft.read = lambda code, where, _: read_test_file(str(code), where).needing(needs)


#: `canonical_solution` continues `code_prompt`.
BIGCODEBENCH = Shape(
    "BigCodeBench",
    "https://huggingface.co/datasets/bigcode/bigcodebench, https://github.com/bigcode-project/bigcodebench",
    sets={"tests": ("test",)},
    needs=(("code_prompt", "entry_point", "test"),),
    solutions=("canonical_solution",),
    language=in_python,
    ids=_IDS,
    columns=("libs",),
    finish=_bigcodebench,
)

# ---- EvalPlus's files

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


def _evalplus(draft: Draft) -> None:
    """Read inputs without results: `canonical_solution` computes the expected results in the same run.

    The inputs are JSON; `atol` is the allowed error of a number. Each of the two sets is one test.
    """
    row = draft.row
    entry, prompt = text_of(row, "entry_point"), text_of(row, "prompt")
    reference = _completed({"solution": text_of(row, "canonical_solution")}, prompt, entry)["solution"]
    known = {"entry": entry, "reference": reference, "atol": number(first(row, "atol") or 0, "atol")}
    _complete(draft, prompt, entry)
    draft.sets = {name: value for name, value in draft.sets.items() if plain(value)}

    def read(value: object, where: str, _: str | None) -> Tests:
        inputs = json.dumps(parsed(value, where), default=plain)
        return code_tests([_EVALPLUS.format(**{k: repr(v) for k, v in (known | {"inputs": inputs}).items()})], where)

    draft.read = read


EVALPLUS = Shape(
    "EvalPlus's files",
    "https://github.com/evalplus/evalplus",
    sets={"tests": ("base_input",), "private_tests": ("plus_input",)},
    needs=(("entry_point", "base_input", "canonical_solution"),),
    solutions=("canonical_solution",),
    language=in_python,
    ids=_IDS,
    columns=("prompt", "atol"),
    finish=_evalplus,
)

# ---- MBPP, KodCode


def _mbpp(draft: Draft) -> None:
    """Read each assertion of `test_list` as a test that begins with `test_setup_code` or `test_imports`.

    `challenge_test_list` is a set of its own. The code in EvalPlus's further column `test` is the last test.
    """
    row = draft.row
    lines = map(str, plain(first(row, "test_imports")) or ())
    before = "\n".join([*lines, text_of(row, "test_setup_code")])
    last: Any = row.get("test")

    def read(value: object, where: str, _: str | None) -> Tests:
        tests = code_tests(plain(parsed(value, where)), where, before)
        if where == "test_list" and isinstance(last, str) and last.strip():
            return tests.joined(code_tests([last], "test"), "test")
        return tests

    draft.read = read


MBPP = Shape(
    "MBPP, MBPP+, OpenCoder",
    "https://huggingface.co/datasets/google-research-datasets/mbpp, "
    "https://huggingface.co/datasets/evalplus/mbppplus, https://huggingface.co/datasets/OpenCoder-LLM/opc-sft-stage2",
    sets={"tests": ("test_list", "testcase"), "challenge_test_list": ("challenge_test_list",)},
    needs=(("test_list",), ("testcase", "entry_point")),
    solutions=("code",),
    language=in_python,
    ids=(*_IDS, "seq_id"),
    columns=("test", "test_imports", "test_setup_code"),
    finish=_mbpp,
)


def _kodcode(draft: Draft) -> None:
    draft.read = lambda code, where, _: read_test_file(str(code), where)


def _has_test_file(row: Row) -> bool:
    code = first(row, "test_code", "test")
    return isinstance(code, str) and "def test" in code and not code.lstrip().startswith(("[", "{"))


#: Tests are the functions `test_…` of a file that imports the tested function from `solution`.
KODCODE = Shape(
    "KodCode",
    "https://huggingface.co/datasets/KodCode/KodCode-V1",
    sets={"tests": ("test_code", "test")},
    needs=(("test_code", "solution"), ("test", "solution"), ("test_code", "solutions"), ("test_code", "question_id")),
    also=_has_test_file,
    solutions=("solution",),
    language=in_python,
    ids=("question_id", "id", "name"),
    finish=_kodcode,
)
