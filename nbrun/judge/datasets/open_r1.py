"""Open R1's data sets: problems of Codeforces with all of their tests, and subtasks of the IOI."""

from __future__ import annotations

from collections.abc import Mapping

from nbrun.judge.datasets.codecontests import SETS
from nbrun.judge.datasets.shape import Draft, Shape, fields_of
from nbrun.judge.datasets.values import first, has, is_missing, plain, text_of

#: The files that programs read and write if a problem's `input_mode` is "file".
FILES = {"input": "input.txt", "output": "output.txt"}


def _read_codeforces(row: Mapping[str, object]) -> Draft:
    """Read limits in seconds and megabytes, and the official tests, or `examples` if there are none.

    The official tests include the examples. The checker is a Python program: `checker.py input.txt correct_output.txt
    solution_output.txt` prints 1 or 0. `generated_tests` is only a number: the data set has those tests in files of
    their own, one for each contest. codeforces-cots has the sets of tests of CodeContests instead, and solutions of a
    model.
    """
    fields = fields_of(row, solutions="accepted_solutions", incorrect_solutions="failed_solutions")
    mode = text_of(row, "input_mode").strip().lower()
    if mode == "file":
        fields["stream_files"] = FILES
    elif mode not in ("", "stdio"):
        fields["not_supported"] = f"input_mode {mode!r}"
    if has(row, "interaction_format"):
        fields["not_supported"] = "interactive problems of data sets: the interactor isn't in the row"
    if has(row, "generated_checker"):
        fields["checker"] = {"type": "prints_score", "language": "PYTHON3", "source": row["generated_checker"]}
    columns = {"private_tests": "official_tests", "public_tests": "examples"}
    sets = {"private_tests": plain(first(row, "official_tests")), "generated_tests": plain(row.get("generated_tests"))}
    if not isinstance(sets["generated_tests"], list):
        del sets["generated_tests"]
    if not any(tests not in (None, [], "[]") for tests in sets.values()):
        others = {name: row[name] for name in SETS if has(row, name)}
        sets, columns = (others, {}) if others else ({"public_tests": first(row, "examples")}, columns)
    return Draft({name: tests for name, tests in sets.items() if tests is not None}, fields, columns=columns)


def _read_ioi(row: Mapping[str, object]) -> Draft:
    """Read a subtask; mark it as not supported if it needs a grader, a manager or another data set's tests."""
    fields = fields_of(row)
    column = next((name for name in ("tests", "test_cases") if has(row, name)), None)
    task = text_of(row, "task_type") or "Batch"
    if task != "Batch":
        fields["not_supported"] = f"IOI tasks of type {task}"
    elif plain(first(row, "grader_files")) not in (None, [], "[]", {}):
        fields["not_supported"] = "IOI tasks whose solutions are linked with a grader (grader_files)"
    elif column is None:
        fields["not_supported"] = "IOI subtasks whose tests lie in open-r1/ioi-test-cases: add them as `tests`"
    name = str(first(row, "id", "name"))
    subtask = row.get("subtask")
    fields["id"] = name if is_missing(subtask) else f"{name}/{subtask}"
    return Draft({}, fields) if column is None else Draft({"tests": row[column]}, fields, columns={"tests": column})


CODEFORCES = Shape(
    "open-r1/codeforces",
    "https://huggingface.co/datasets/open-r1/codeforces",
    needs=(("official_tests",), ("examples", "input_mode"), ("examples", "contest_id")),
    columns=(
        *("aliases", "examples", "input_mode", "interaction_format", "generated_checker"),
        *(*SETS, "accepted_solutions", "failed_solutions"),
    ),
    read=_read_codeforces,
)
IOI = Shape(
    "open-r1/ioi",
    "https://huggingface.co/datasets/open-r1/ioi",
    needs=(("subtask", "test_names"), ("subtask", "grader_files"), ("subtask", "task_type")),
    columns=("tests", "test_cases", "task_type", "grader_files"),
    read=_read_ioi,
)
