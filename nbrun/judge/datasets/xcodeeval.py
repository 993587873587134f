"""xCodeEval (and ExecEval): unit tests with lists of right outputs, on files such as "input.txt" or on streams."""

from __future__ import annotations

from collections.abc import Mapping

from nbrun.judge.datasets.shape import Draft, Shape, fields_of
from nbrun.judge.datasets.values import first, has

_COLUMNS = ("hidden_unit_tests", "unit_tests", "unittests")


def _read(row: Mapping[str, object]) -> Draft:
    fields = fields_of(row, first(row, "lang"), solutions="source_code")
    names = {"input": first(row, "input_from"), "output": first(row, "output_to")}
    if files := {side: name for side, name in names.items() if name}:
        fields["stream_files"] = files
    column = next(name for name in _COLUMNS if has(row, name))
    return Draft({"tests": row[column]}, fields, columns={"tests": column})


XCODEEVAL = Shape(
    "xCodeEval",
    "https://huggingface.co/datasets/NTU-NLP-sg/xCodeEval",
    needs=(("hidden_unit_tests",), ("src_uid", "unit_tests"), ("unittests",)),
    columns=("input_from", "output_to", "source_code", "lang", "unit_tests"),
    ids=("src_uid", "prob_desc_id", "id"),
    read=_read,
)
