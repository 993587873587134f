"""Problems collected from contests: CodeContests and its successors, APPS, TACO, xCodeEval, rStar-Coder, CURE."""

from __future__ import annotations

import hashlib

from nbrun.judge.datasets.shape import TEST_SETS, Draft, Shape, in_python
from nbrun.judge.datasets.values import first, has, parsed

#: Tests are structs of lists, a limit is `{"seconds", "nanos"}`, file names are empty for the standard streams.
CODECONTESTS = Shape(
    "CodeContests",
    "https://huggingface.co/datasets/deepmind/code_contests",
    sets={name: (name,) for name in ("tests", "test", *TEST_SETS)},
    needs=tuple((name,) for name in TEST_SETS),
    files={"input": ("input_file",), "output": ("output_file",)},
)
#: Limits are in milliseconds and megabytes, the checker is a program in C++ with testlib.
PLUS = Shape(
    "CodeContests+",
    "https://huggingface.co/datasets/ByteDance-Seed/Code-Contests-Plus",
    sets={"tests": ("test_cases",)},
    needs=(("test_cases", "correct_submissions"), ("test_cases", "incorrect_submissions"), ("correct_submissions",)),
    solutions=("correct_submissions",),
    incorrect_solutions=("incorrect_submissions",),
    unit_s=1e-3,
    ids=("id", "name", "title"),
)
#: Tests are in SandboxFusion's form. The solutions are in the row of CodeContests; users join them.
O = Shape(  # noqa: E741  # its name
    "CodeContests-O",
    "https://huggingface.co/datasets/caijanfeng/CodeContests-O, https://github.com/cai-jianfeng/CodeContests-O",
    sets={"tests": ("corner_cases",)},
)

_IDS = ("id", "problem_id", "url")
#: The execution outcome of xCodeEval of which it doesn't follow whether a solution is right.
_NOT_COMPILED = "COMPILATION_ERROR"


def _name(draft: Draft) -> None:
    """Make an id from a name. Sets from several judges have many problems called "Sum", so a digest is added."""
    if not any(has(draft.row, name) for name in _IDS) and has(draft.row, "name"):
        digest = hashlib.sha256(str(draft.row.get("question")).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        draft.fields["id"] = f"{draft.row['name']} {digest}"


#: Tests are `{"inputs", "outputs"}`, with `fn_name` if they call a function; limits are "2.0 seconds", "256 megabytes".
INPUT_OUTPUT = Shape(
    "APPS, TACO",
    "https://huggingface.co/datasets/codeparrot/apps, https://huggingface.co/datasets/BAAI/TACO",
    sets={"tests": ("input_output",)},
    language=in_python,
    ids=_IDS,
    columns=("name",),
    finish=_name,
)


def _by_outcome(draft: Draft) -> None:
    """Name a source, and put it into the group of its outcome: any judge may have rejected it."""
    row, fields = draft.row, draft.fields
    if has(row, "source_code", "src_uid", "code_uid") and not has(row, "apr_id"):
        fields["id"] = f"{row['src_uid']}/{row['code_uid']}"  # a problem has a row for each of its sources
    if not has(row, "solutions") and has(row, "source_code", "exec_outcome") and row["exec_outcome"] != "PASSED":
        fields["incorrect_solutions"] = fields.pop("solutions")
    if _NOT_COMPILED in (first(row, "exec_outcome"), first(row, "bug_exec_outcome")):
        fields["incorrect_solutions"] = []


#: Tests have lists of right outputs. Loaders give the columns of a problem's description the prefix `prob_desc_`.
XCODEEVAL = Shape(
    "xCodeEval",
    "https://huggingface.co/datasets/NTU-NLP-sg/xCodeEval, https://github.com/ntunlp/xCodeEval",
    sets={"tests": ("hidden_unit_tests", "hidden_unit_test", "unit_tests", "unittests")},
    needs=(("hidden_unit_tests",), ("hidden_unit_test",), ("src_uid", "unit_tests"), ("unittests",)),
    solutions=("source_code", "fix_source_code"),
    incorrect_solutions=("bug_source_code",),
    language=lambda row: first(row, "lang"),
    files={"input": ("input_from", "prob_desc_input_from"), "output": ("output_to", "prob_desc_output_to")},
    ids=("apr_id", "src_uid", "prob_desc_id", "id"),
    columns=("lang", "code_uid", "exec_outcome", "bug_exec_outcome"),
    finish=_by_outcome,
)


def _pair(draft: Draft) -> None:
    """Put the column of inputs and the one of outputs together; each may be the JSON text of a list."""
    column = draft.columns["tests"]
    other = column.replace("input", "output")
    values = {"inputs": draft.row[column], "outputs": draft.row[other]}
    draft.function = first(draft.row, "func_name", "fn_name")
    if draft.function or all(isinstance(value, str) and value.lstrip()[:1] == "[" for value in values.values()):
        values = {name: parsed(value, name) for name, value in values.items()}
    draft.sets = {"tests": values}


#: Inputs and outputs are columns of their own.
COLUMNS = Shape(
    "rStar-Coder, CURE",
    "https://huggingface.co/datasets/microsoft/rStar-Coder, https://huggingface.co/datasets/Gen-Verse/CodeContests",
    sets={"tests": ("inputs", "test_input")},
    needs=(("inputs", "outputs"), ("test_input", "test_output")),
    solutions=("solution",),
    language=lambda row: first(row, "language"),
    ids=("id", "question_id", "task_id", "problem_id", "name"),
    columns=("func_name", "fn_name", "language"),
    finish=_pair,
)
