"""APPS, TACO and xCodeEval: problems collected from contests, with inputs and outputs as JSON text."""

from __future__ import annotations

import hashlib

from nbrun.judge.datasets.shape import Draft, Shape, in_python
from nbrun.judge.datasets.values import first, has

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
    """Put solutions into the group of their outcome: a row has a source that any judge may have rejected."""
    row, fields = draft.row, draft.fields
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
    columns=("lang", "exec_outcome", "bug_exec_outcome"),
    finish=_by_outcome,
)
