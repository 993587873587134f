"""The shape of nbrun's own problems, of rows written by hand, and of data sets that write only the tests differently.

DeepCoder and SandboxFusion's data sets (CommonOJ, AutoEval, MBPP) are such data sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbrun.judge.datasets.shape import Draft, Shape, fields_of, starter_function
from nbrun.judge.datasets.tests import Tests, check_of, code_tests, read_tests
from nbrun.judge.datasets.values import first, has, parsed, plain
from nbrun.judge.language_names import language_name


def _read(row: Mapping[str, object]) -> Draft:
    labels = first(row, "labels")
    labels = parsed(labels, "labels") if isinstance(labels, (str, Mapping)) else {}
    labels = labels if isinstance(labels, Mapping) else {}
    language = first(row, "language") or labels.get("programming_language")
    fields = fields_of(row, language, solutions="solution" if has(row, "solution") else "canonical_solution")
    function = first(row, "fn_name", "func_name")
    metadata = parsed(row["metadata"], "metadata") if isinstance(row.get("metadata"), (str, Mapping)) else {}
    if function is None and isinstance(metadata, Mapping):
        function = metadata.get("func_name")
    sets = {name: row[name] for name in row if name in ("tests", "test") and has(row, name)}
    if "test" in sets and labels:
        _read_fusion(sets, labels, fields)
        return Draft(sets, fields, function, lambda value, where, name: _fusion_tests(value, where, name, labels))
    return Draft(sets, fields, function, starter=starter_function(row))


def _read_fusion(sets: dict[str, object], labels: Mapping[str, object], fields: dict[str, object]) -> None:
    """Mark AutoEval's test code as not supported if it isn't Python 3 or needs files of its own."""
    value = sets["test"] = parsed(sets["test"], "test") if not _is_code(sets["test"]) else sets["test"]
    if not isinstance(value, Mapping) or "code" not in value:
        return
    language = labels.get("execution_language") or labels.get("programming_language") or "python"
    meant = language_name(language)
    if meant is None or meant.language != "PYTHON3":
        fields["not_supported"] = f"test code in {language}"
    elif value.get("asset"):
        fields["not_supported"] = "test code that needs files (asset)"


def _is_code(value: object) -> bool:
    return isinstance(value, str) and value.lstrip()[:1] not in ("[", "{")


def _fusion_tests(value: Any, where: str, function: str | None, labels: Mapping[str, Any]) -> Tests:
    if _is_code(value):
        if labels.get("entry_point") and "def check(" in value:
            return check_of(value, labels["entry_point"], where)
        return code_tests([value], where)
    value = plain(value)
    if isinstance(value, list) and value and all(isinstance(code, str) for code in value):
        return code_tests(value, where, labels.get("test_setup_code") or "")
    return read_tests(value, where, function)


OWN = Shape(
    "nbrun's own, DeepCoder, SandboxFusion",
    "https://huggingface.co/datasets/agentica-org/DeepCoder-Preview-Dataset, "
    "https://github.com/bytedance/SandboxFusion",
    needs=(("tests",), ("test",)),
    columns=(
        "labels",
        "language",
        "metadata",
        "fn_name",
        "func_name",
        "starter_code",
        "canonical_solution",
        "solution",
    ),
    ids=("id", "name", "task_id", "problem_id", "question_id"),
    read=_read,
)
