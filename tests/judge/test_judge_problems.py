"""Problem rows of every shape, and the reader of JSONL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest

from nbrun.errors import InputError, SampleError
from nbrun.judge import DEFAULT_LANGUAGES, read_problems
from nbrun.judge.problems import read_row

ONE = [{"input": "1", "output": "2"}]
CODE_CONTESTS = {
    "name": "1575_A. Another Sorting Problem",
    "description": "…",
    "public_tests": {"input": ["a", "b"], "output": ["A", "B"]},
    "private_tests": {"input": [], "output": []},
    "generated_tests": {"input": ["c"], "output": ["C"]},
    "time_limit": {"seconds": 2, "nanos": 500_000_000},
    "memory_limit_bytes": 256 << 20,
    "solutions": {"language": [3], "solution": ["print(1)"]},
    "incorrect_solutions": {"language": [], "solution": []},
}


def test_a_row_of_code_contests() -> None:
    assert read_row(CODE_CONTESTS).problem == {
        "id": "1575_A. Another Sorting Problem",
        "solutions": CODE_CONTESTS["solutions"],
        "incorrect_solutions": CODE_CONTESTS["incorrect_solutions"],
        "tests": [{"input": x, "output": x.upper()} for x in "abc"],
        "time_limit_s": 2.5,
        "memory_limit_mb": 256.0,
    }


def test_the_one_shape_stays_as_it_is() -> None:
    once = read_row(CODE_CONTESTS, keep=["description"]).problem
    assert read_row(once, keep=["description"]).problem == once


@pytest.mark.parametrize(
    "tests",
    [
        {"public_tests": ONE},
        {"public_tests": {"input": ["1"], "output": ["2"]}},
        {"private_tests": None, "generated_tests": ONE},
        {"tests": ONE},
        {"test": [{"input": {"stdin": "1"}, "output": {"stdout": "2"}}]},
        {"test": '[{"input": {"stdin": "1"}, "output": {"stdout": "2"}}]'},
    ],
)
def test_shapes_of_tests(tests: dict[str, Any]) -> None:
    assert read_row({"id": 1, **tests}).problem["tests"] == ONE


def test_sets_of_tests_are_taken_as_named() -> None:
    row = {"id": "p", "a": ONE, "b": [{"input": "3", "output": "4"}], "public_tests": ONE}
    assert [t["input"] for t in read_row(row, tests=["b", "a"]).problem["tests"]] == ["3", "1"]


@pytest.mark.parametrize(
    ("limits", "time_s", "memory_mb"),
    [
        ({}, None, None),
        ({"time_limit": None, "memory_limit_bytes": None}, None, None),
        ({"time_limit": 0, "memory_limit_bytes": 0}, None, None),
        ({"time_limit": {"seconds": 0, "nanos": 0}}, None, None),
        ({"time_limit": {"seconds": 1}}, 1.0, None),
        ({"time_limit": {"seconds": 1, "nanos": None}}, 1.0, None),
        ({"time_limit": 1.5, "memory_limit_bytes": 1 << 20}, 1.5, 1.0),
        ({"time_limit_s": 3, "memory_limit_mb": 64}, 3.0, 64.0),
    ],
)
def test_limits(limits: dict[str, Any], time_s: float | None, memory_mb: float | None) -> None:
    problem = read_row({"id": "p", "tests": ONE, **limits}).problem
    assert (problem["time_limit_s"], problem["memory_limit_mb"]) == (time_s, memory_mb)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "p", "tests": "nonsense"}, "'tests' is text that is no JSON"),
        ({"id": "p", "tests": 3}, "'tests' is a int"),
        ({"id": "p", "tests": {"input": ["1"]}}, r"'tests' is a mapping without 'output' \(it has 'input'\)"),
        ({"id": "p", "tests": {"input": ["1"], "output": []}}, "1 inputs and 0 outputs"),
        ({"id": "p", "tests": [{"input": "1"}]}, r"tests\[0\] is a mapping without 'output' \(it has 'input'\)"),
        ({"id": "p", "tests": [{"input": "1", "output": True}]}, r"tests\[0\]: its output is a bool"),
        ({"id": "p", "time_limit": "fast"}, "'time_limit' is 'fast', not a number"),
        ({"id": "p", "time_limit": -1}, "0 or more"),
        ({"id": "p", "memory_limit_bytes": float("inf")}, "0 or more"),
        ({"id": "p", "tests": []}, "it has no test"),
        ({"id": "p", "public_tests": {"input": [], "output": []}}, "it has no test"),
        ({"id": "p", "cases": ONE, "answers": []}, "its shape isn't known.*answers, cases, id.*nearest"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_row(row)
    with pytest.raises(SampleError, match="row 0"):
        list(read_problems([row]))


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_jsonl_is_read_lazily_and_again_and_again(tmp_path: Path) -> None:
    rows = [json.dumps({"id": i, "tests": ONE}) for i in range(3)]
    path = write(tmp_path / "p.jsonl", rows[0], "", rows[1], "{broken", rows[2])
    problems = read_problems(path, limit=2)
    assert [p["id"] for p in problems] == [0, 1] == [p["id"] for p in problems]
    assert "p.jsonl" in repr(problems)
    assert "limit=2" in repr(problems)


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    good = json.dumps({"id": "p", "tests": ONE})
    wrong = {"{broken": "not a line of JSON", "[1]": "a list, not a problem", '{"id": 1, "test": 2}': "problem 1"}
    for bad, words in wrong.items():
        path = write(tmp_path / "p.jsonl", good, bad)
        with pytest.raises(SampleError, match=rf"p\.jsonl:2.*{words}") as caught:
            list(read_problems(path))
        assert caught.value.position == 1


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"id": "p", "tests": ONE}).encode())
    assert [p["id"] for p in read_problems(str(path))] == ["p"]


def test_arguments_are_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_problems(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="lists of names"):
        read_problems([], tests="public_tests")
    with pytest.raises(InputError, match="limit=-1"):
        read_problems([], limit=-1)
    with pytest.raises(InputError, match="a int"):
        read_problems(3)  # type: ignore[arg-type]


def test_a_generator_gives_its_rows_once() -> None:
    problems = read_problems({"id": i, "tests": ONE} for i in range(2))
    assert len(list(problems)) == 2
    with pytest.raises(InputError, match="read already"):
        list(problems)


def test_a_single_mapping_is_one_problem() -> None:
    assert [p["id"] for p in read_problems({"id": "p", "tests": ONE})] == ["p"]


def contest_row(i: int) -> dict[str, Any]:
    """A row as CodeContests has them."""
    return {
        "name": f"p{i}",
        "public_tests": {"input": ["1"], "output": ["2"]},
        "private_tests": {"input": [], "output": []},
        "time_limit": {"seconds": i, "nanos": 0},
        "solutions": {"language": [2, 3, 1, 0], "solution": ["a", "b", "c", "d"]},
        "incorrect_solutions": {"language": [], "solution": []},
    }


ROWS = [contest_row(i) for i in range(40)]


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_parquet_gives_what_jsonl_gives(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p.parquet", ROWS)
    lines = write(tmp_path / "p.jsonl", *map(json.dumps, ROWS))
    assert list(read_problems(path)) == list(read_problems(lines)) == list(read_problems(ROWS))
    assert [p["id"] for p in read_problems(path, limit=2)] == ["p0", "p1"]
    assert next(iter(read_problems(path)))["tests"] == ONE


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(SampleError, match=r"p\.parquet: row 0: the Parquet file can't be read"):
        list(read_problems(path))


def test_a_folder_of_files_is_read_in_order_of_their_names(tmp_path: Path) -> None:
    parquet(tmp_path / "b.parquet", ROWS[2:4])
    write(tmp_path / "a.jsonl", *map(json.dumps, ROWS[:2]))
    write(tmp_path / "c.jsonl", json.dumps(ROWS[4]))
    (tmp_path / "README.md").write_text("no problem")
    assert [p["id"] for p in read_problems(tmp_path)] == ["p0", "p1", "p2", "p3", "p4"]


class Dataset:
    """Rows as `datasets.Dataset` gives them: a sequence that makes each row when it is asked for."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return json.loads(json.dumps(ROWS[number]))  # type: ignore[no-any-return]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))


def test_a_dataset_and_a_data_frame() -> None:
    problems = read_problems(Dataset())
    assert list(problems) == list(problems) == list(read_problems(ROWS))
    assert list(read_problems(pandas.DataFrame(ROWS))) == list(read_problems(ROWS))


@pytest.mark.needs("g++")
def test_languages_are_counted_and_those_without_a_judge_are_named() -> None:
    problems = read_problems(ROWS)
    assert not problems.languages
    for _ in range(2):
        list(problems)
        assert problems.languages == {"CPP": 40, "PYTHON3": 40, "PYTHON": 40, "UNKNOWN_LANGUAGE": 40}
        missing = {"language PYTHON": 40} if DEFAULT_LANGUAGES["PYTHON"].missing else {}
        assert problems.not_supported == missing | {"language UNKNOWN_LANGUAGE": 40}
    assert "40 × language UNKNOWN_LANGUAGE" in repr(problems)
    items = [{"language": "C++", "solution": ""}, {"language": "cobol", "solution": ""}, 7]
    problems = read_problems([{"id": "p", "solutions": items, "tests": ONE}])
    list(problems)
    assert problems.languages == {"CPP": 1, "cobol": 1}
    assert problems.not_supported == {"language cobol": 1}


def test_tests_keep_their_names_flags_and_bytes() -> None:
    test = {"input": b"\xff", "output": "x", "name": "secret/1", "flags": "float_tolerance 1e-6"}
    (found,) = read_row({"id": "p", "tests": [test]}).problem["tests"]
    assert found == test | {"flags": ["float_tolerance", "1e-6"]}
    assert read_row({"id": "p", "tests": [found]}).problem["tests"] == [found]
