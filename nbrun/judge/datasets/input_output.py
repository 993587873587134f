"""APPS and TACO: tests are the JSON text of `{"inputs", "outputs"}`, with `fn_name` if they call a function."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from nbrun.judge.datasets.shape import Draft, Shape, fields_of
from nbrun.judge.datasets.values import has

_IDS = ("id", "problem_id", "url")


def _read(row: Mapping[str, object]) -> Draft:
    """Read limits such as "2.0 seconds" and "256.0 megabytes", and the JSON text of a list of solutions in Python."""
    fields = fields_of(row, "PYTHON3")
    if not any(has(row, name) for name in _IDS) and has(row, "name"):
        # Sets from several judges have many problems called "Sum": a digest of the statement makes the id unique.
        digest = hashlib.sha256(str(row.get("question")).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        fields["id"] = f"{row['name']} {digest}"
    return Draft({"tests": row["input_output"]}, fields, columns={"tests": "input_output"})


INPUT_OUTPUT = Shape(
    "APPS, TACO",
    "https://huggingface.co/datasets/codeparrot/apps, https://huggingface.co/datasets/BAAI/TACO",
    needs=(("input_output",),),
    columns=("name",),
    ids=_IDS,
    read=_read,
)
