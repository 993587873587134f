"""Rows for reinforcement learning, with tests in the column for the reward (SYNTHETIC-1, Eurus-2, verl, Skywork-OR1).

The tests have one of the forms of `nbrun.judge.datasets.tests`. A row that isn't about code, according to its `ability`
or `data_source`, is refused with that reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbrun.judge.datasets.shape import Draft, Shape, fields_of
from nbrun.judge.datasets.values import first, has, is_missing, limits_of, parsed

_COLUMNS = ("reward_model", "reward_spec", "verification_info", "ground_truth", "test_cases", "unit_tests")


def _read(row: Mapping[str, object]) -> Draft:
    column = next(name for name in _COLUMNS if has(row, name))
    value: object = row[column] if column == "test_cases" else _parsed(row, row[column], column)
    about = value if isinstance(value, Mapping) else {}
    if not is_missing(about.get("ground_truth")):
        column = f"{column}.ground_truth"
        value = _parsed(row, about["ground_truth"], column)
    language = first(about, "language") or first(row, "language")
    fields = limits_of(about) | {
        key: value
        for key, value in fields_of(row, language, solutions="gold_standard_solution").items()
        if value is not None or key not in ("time_limit_s", "memory_limit_mb")
    }
    if about.get("input_mode") == "file":
        fields["stream_files"] = {"input": "input.txt", "output": "output.txt"}
    if (name := _id(row)) is not None:
        fields["id"] = name
    function = first(row, "fn_name") or first(about, "fn_name")
    return Draft({"tests": value}, fields, function, columns={"tests": column})


def _parsed(row: Mapping[str, object], value: object, column: str) -> object:
    """Return the parsed value of a column; raise ValueError if it isn't tests but, say, the answer of a calculation."""
    try:
        value = parsed(value, column)
    except ValueError as e:
        problem: str = str(e)
    else:
        if isinstance(value, (Mapping, list)):
            return value
        problem = f"{column!r} holds {str(value)[:40]!r}"
    kind = first(row, "ability", "data_source", "task_type") or "its kind isn't said"
    raise ValueError(f"{problem}, which is no test of a program ({kind})")


def _id(row: Mapping[str, object]) -> object:
    """Return an id for a row without one: its place in the data set that it comes from."""
    extra = parsed(first(row, "extra_info"), "extra_info")
    if any(has(row, name) for name in REWARDS.ids) or not isinstance(extra, Mapping) or is_missing(extra.get("index")):
        return None
    parts = (row.get("data_source"), extra.get("split"), extra["index"])
    return "/".join(str(part) for part in parts if not is_missing(part))


REWARDS = Shape(
    "SYNTHETIC-1, Eurus-2, verl, Skywork-OR1",
    "https://huggingface.co/datasets/PrimeIntellect/verifiable-coding-problems, "
    "https://huggingface.co/datasets/PRIME-RL/Eurus-2-RL-Data, https://github.com/volcengine/verl, "
    "https://huggingface.co/datasets/Skywork/Skywork-OR1-RL-Data",
    needs=tuple((name,) for name in _COLUMNS),
    columns=("gold_standard_solution", "language", "fn_name", "extra_info", "data_source", "ability", "task_type"),
    ids=("id", "problem_id", "uid", "name"),
    read=_read,
)
