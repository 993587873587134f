"""Open R1's data sets: problems of Codeforces with all of their tests, and subtasks of the IOI."""

from __future__ import annotations

from collections.abc import Mapping

from nbrun.judge.datasets.shape import TEST_SETS, Draft, Row, Shape
from nbrun.judge.datasets.solutions import group_of
from nbrun.judge.datasets.values import first, has, is_missing, plain, text_of
from nbrun.samples import read_items

#: The files that programs read and write if a problem's `input_mode` is "file".
FILES = {"input": "input.txt", "output": "output.txt"}


def _codeforces(draft: Draft) -> None:
    """Read how programs exchange data, the checker, and the official tests, or the examples if there are none.

    The official tests include the examples. The checker is a Python program: `checker.py input.txt correct_output.txt
    solution_output.txt` prints 1 or 0. `generated_tests` is only a number: the data set has those tests in files of
    their own, one for each contest. codeforces-cots has the sets of tests of CodeContests instead, and people's
    solutions; those that no judge rejected, such as one that didn't compile, are in no group.
    """
    row = draft.row
    draft.columns = _sets_of(row)
    draft.sets = {name: row[column] for name, column in draft.columns.items()}
    draft.fields |= _exchange(row)
    if has(row, "generated_checker"):
        draft.fields["checker"] = {"type": "prints_score", "language": "PYTHON3", "source": row["generated_checker"]}
    if not has(row, "incorrect_solutions") and (failed := draft.fields.get("incorrect_solutions")):
        draft.fields["incorrect_solutions"] = [item for item in read_items(failed)[0] if not _is_unjudged(item)]


def _sets_of(row: Row) -> dict[str, str]:
    """Return the name of each set of tests -> its column."""
    columns = {name: name for name in TEST_SETS}
    if not _is_empty(row.get("official_tests")):
        columns = {"private_tests": "official_tests", "generated_tests": "generated_tests"}
    found = {name: column for name, column in columns.items() if not _is_empty(row.get(column))}
    return found or ({"public_tests": "examples"} if has(row, "examples") else {})


def _is_unjudged(item: object) -> bool:
    return isinstance(item, Mapping) and group_of(item.get("verdict", "wrong")) is None


def _is_empty(tests: object) -> bool:
    """Return whether a set holds no test: an empty list, a struct of empty lists, or only a number of tests."""
    tests = plain(tests)
    if isinstance(tests, Mapping):
        return all(map(_is_empty, tests.values()))
    return is_missing(tests) or tests in ([], "[]") or isinstance(tests, (int, float))


def _exchange(row: Row) -> dict[str, object]:
    """Return how programs get their input and give their output, or why that isn't supported."""
    mode = text_of(row, "input_mode").strip().lower()
    if has(row, "interaction_format"):
        return {"not_supported": "interactive problems of data sets: the interactor isn't in the row"}
    if mode == "file":
        return {"stream_files": FILES}
    return {} if mode in ("", "stdio") else {"not_supported": f"input_mode {mode!r}"}


def _ioi(draft: Draft) -> None:
    """Name a subtask, and mark it as not supported if it needs a grader, a manager or another data set's tests."""
    row = draft.row
    task = text_of(row, "task_type") or "Batch"
    reasons = (
        (task != "Batch", f"IOI tasks of type {task}"),
        (
            plain(first(row, "grader_files")) not in (None, [], "[]", {}),
            "IOI tasks whose solutions are linked with a grader (grader_files)",
        ),
        (not draft.sets, "IOI subtasks whose tests lie in open-r1/ioi-test-cases: add them as `tests`"),
    )
    reason = next((reason for applies, reason in reasons if applies), None)
    if reason is not None:
        draft.fields["not_supported"] = reason
    name, subtask = str(first(row, "id", "name")), row.get("subtask")
    draft.fields["id"] = name if is_missing(subtask) else f"{name}/{subtask}"


#: Limits are in seconds and megabytes.
CODEFORCES = Shape(
    "open-r1/codeforces",
    "https://huggingface.co/datasets/open-r1/codeforces, https://huggingface.co/datasets/open-r1/codeforces-cots",
    sets={
        "private_tests": ("official_tests",),
        "generated_tests": ("generated_tests",),
        "public_tests": ("examples",),
    },
    needs=(("official_tests",), ("examples", "input_mode"), ("examples", "contest_id")),
    solutions=("accepted_solutions",),
    incorrect_solutions=("failed_solutions",),
    columns=("aliases", "input_mode", "interaction_format", "generated_checker", *TEST_SETS),
    finish=_codeforces,
)
#: Limits are in seconds and bytes.
IOI = Shape(
    "open-r1/ioi",
    "https://huggingface.co/datasets/open-r1/ioi, https://huggingface.co/datasets/open-r1/ioi-test-cases",
    sets={"tests": ("tests", "test_cases")},
    needs=(("subtask", "test_names"), ("subtask", "grader_files"), ("subtask", "task_type")),
    columns=("task_type", "grader_files"),
    finish=_ioi,
)
