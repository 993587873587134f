"""The shape of nbrun's own problems, of rows written by hand, and of data sets that write only the tests differently.

DeepCoder and SandboxFusion's data sets (CommonOJ, AutoEval, MBPP) are such data sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbrun.judge.datasets.shape import Draft, Row, Shape
from nbrun.judge.datasets.tests import Tests, check_of, code_tests, read_tests
from nbrun.judge.datasets.values import first, mapping_in, parsed, plain
from nbrun.judge.languages import language_name


def _language(row: Row) -> object:
    return first(row, "language") or _labels(row).get("programming_language")


def _labels(row: Row) -> Mapping[str, Any]:
    return mapping_in(first(row, "labels"), "labels")


def _finish(draft: Draft) -> None:
    row, labels = draft.row, _labels(draft.row)
    draft.function = first(row, "fn_name", "func_name") or mapping_in(row.get("metadata"), "metadata").get("func_name")
    draft.sets = {name: draft.sets[name] for name in row if name in draft.sets}  # in the row's order
    if "test" in draft.sets and labels:
        _check_fusion(draft, labels)
        draft.read = lambda value, where, name: _fusion_tests(value, where, name, labels)


def _check_fusion(draft: Draft, labels: Mapping[str, object]) -> None:
    """Mark AutoEval's test code as not supported if it isn't Python 3 or needs files of its own."""
    value = draft.sets["test"]
    if not _is_code(value):
        value = draft.sets["test"] = parsed(value, "test")
    if not isinstance(value, Mapping) or "code" not in value:
        return
    language = labels.get("execution_language") or labels.get("programming_language") or "python"
    meant = language_name(language)
    if meant is None or meant.language != "PYTHON3":
        draft.fields["not_supported"] = f"test code in {language}"
    elif value.get("asset"):
        draft.fields["not_supported"] = "test code that needs files (asset)"


def _is_code(value: object) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] not in ("[", "{")


def _fusion_tests(value: Any, where: str, function: str | None, labels: Mapping[str, Any]) -> Tests:
    if _is_code(value) and labels.get("entry_point") and "def check(" in value:
        return check_of(value, labels["entry_point"], where)
    if _is_code(value):
        return code_tests([value], where)
    value = plain(value)
    if isinstance(value, list) and value and all(isinstance(code, str) for code in value):
        return code_tests(value, where, labels.get("test_setup_code") or "")
    return read_tests(value, where, function)


OWN = Shape(
    "nbrun's own, DeepCoder, SandboxFusion",
    "https://huggingface.co/datasets/agentica-org/DeepCoder-Preview-Dataset, "
    "https://github.com/bytedance/SandboxFusion",
    sets={"tests": ("tests",), "test": ("test",)},
    solutions=("solution", "canonical_solution"),
    language=_language,
    ids=("id", "name", "task_id", "problem_id", "question_id"),
    columns=("labels", "language", "metadata", "fn_name", "func_name"),
    finish=_finish,
)
