"""CodeContests, the data set for whose solutions this project was made, and its two successors."""

from __future__ import annotations

from collections.abc import Mapping

from nbrun.judge.datasets.shape import Draft, Shape, fields_of
from nbrun.judge.datasets.values import first, has

#: The columns of a row with sets of tests.
SETS = ("public_tests", "private_tests", "generated_tests")
_ALL = ("tests", "test", *SETS)


def _read_codecontests(row: Mapping[str, object]) -> Draft:
    """Read structs of lists as tests, `{"seconds", "nanos"}` as a limit, and file names (empty: standard streams)."""
    fields = fields_of(row)
    files = {key: row[f"{key}_file"] for key in ("input", "output") if has(row, f"{key}_file")}
    if files:
        fields["stream_files"] = files
    return Draft({name: row[name] for name in _ALL if first(row, name) is not None}, fields)


def _read_plus(row: Mapping[str, object]) -> Draft:
    """Read limits in milliseconds and megabytes, a testlib checker in C++, and submissions `{"code", "language"}`."""
    columns = {"solutions": "correct_submissions", "incorrect_solutions": "incorrect_submissions"}
    sets = {"tests": row["test_cases"]} if first(row, "test_cases") is not None else {}
    return Draft(sets, fields_of(row, unit_s=1e-3, **columns), columns={"tests": "test_cases"})


def _read_o(row: Mapping[str, object]) -> Draft:
    """Read generated tests in SandboxFusion's form. The solutions are in the row of CodeContests; users join them."""
    return Draft({"tests": row["corner_cases"]}, fields_of(row), columns={"tests": "corner_cases"})


CODECONTESTS = Shape(
    "CodeContests",
    "https://huggingface.co/datasets/deepmind/code_contests",
    needs=tuple((name,) for name in SETS),
    columns=("tests", "test", "input_file", "output_file"),
    read=_read_codecontests,
)
PLUS = Shape(
    "CodeContests+",
    "https://huggingface.co/datasets/ByteDance-Seed/Code-Contests-Plus",
    needs=(("test_cases", "correct_submissions"), ("test_cases", "incorrect_submissions"), ("correct_submissions",)),
    columns=("incorrect_submissions", "title"),
    ids=("id", "name", "title"),
    read=_read_plus,
)
O = Shape(  # noqa: E741  # its name
    "CodeContests-O",
    "https://huggingface.co/datasets/caijanfeng/CodeContests-O",
    needs=(("corner_cases",),),
    ids=("id", "name"),
    read=_read_o,
)
