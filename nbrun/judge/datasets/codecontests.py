"""CodeContests, the data set for whose solutions this project was made, and its two successors."""

from __future__ import annotations

from collections.abc import Mapping

from nbrun.judge.datasets.shape import CARRIED, LIMITS, Draft, Shape, carried, limits_of, solutions_of
from nbrun.judge.datasets.values import first, has, megabytes, seconds

#: The columns of a row with sets of tests.
SETS = ("public_tests", "private_tests", "generated_tests")
_ALL = ("tests", "test", *SETS)


def _read_codecontests(row: Mapping[str, object]) -> Draft:
    """Read structs of lists as tests, `{"seconds", "nanos"}` as a limit, and file names (empty: standard streams)."""
    fields = {**solutions_of(row), **limits_of(row), **carried(row)}
    files = {key: row[f"{key}_file"] for key in ("input", "output") if has(row, f"{key}_file")}
    if files:
        fields["stream_files"] = files
    return Draft({name: row[name] for name in _ALL if first(row, name) is not None}, fields)


def _read_plus(row: Mapping[str, object]) -> Draft:
    """Read limits in milliseconds and megabytes, a testlib checker in C++, and submissions `{"code", "language"}`."""
    fields = {
        **solutions_of(row, solutions="correct_submissions", incorrect_solutions="incorrect_submissions"),
        "time_limit_s": seconds(row.get("time_limit"), "time_limit", unit_s=1e-3),
        "memory_limit_mb": megabytes(row.get("memory_limit"), "memory_limit"),
    }
    if has(row, "checker"):
        fields["checker"] = row["checker"]
    sets = {"tests": row["test_cases"]} if first(row, "test_cases") is not None else {}
    return Draft(sets, fields, columns={"tests": "test_cases"})


def _read_o(row: Mapping[str, object]) -> Draft:
    """Read generated tests in SandboxFusion's form. The solutions are in the row of CodeContests; users join them."""
    fields = {**solutions_of(row), **limits_of(row), **carried(row)}
    return Draft({"tests": row["corner_cases"]}, fields, columns={"tests": "corner_cases"})


CODECONTESTS = Shape(
    "CodeContests",
    "https://huggingface.co/datasets/deepmind/code_contests",
    needs=tuple((name,) for name in SETS),
    columns=(*LIMITS, *CARRIED, "tests", "test", "input_file", "output_file"),
    read=_read_codecontests,
)
PLUS = Shape(
    "CodeContests+",
    "https://huggingface.co/datasets/ByteDance-Seed/Code-Contests-Plus",
    needs=(("test_cases", "correct_submissions"), ("test_cases", "incorrect_submissions"), ("correct_submissions",)),
    columns=("incorrect_submissions", "time_limit", "memory_limit", "checker", "title"),
    ids=("id", "name", "title"),
    read=_read_plus,
)
O = Shape(  # noqa: E741  # its name
    "CodeContests-O",
    "https://huggingface.co/datasets/caijanfeng/CodeContests-O",
    needs=(("corner_cases",),),
    columns=(*LIMITS, *CARRIED),
    ids=("id", "name"),
    read=_read_o,
)
