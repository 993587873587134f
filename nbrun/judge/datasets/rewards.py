"""Rows for reinforcement learning, with tests in the column for the reward (SYNTHETIC-1, Eurus-2, verl, Skywork-OR1).

The tests have one of the forms of `nbrun.judge.datasets.tests`. A row that isn't about code, according to its `ability`
or `data_source`, is refused with that reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbrun.judge.datasets.open_r1 import FILES
from nbrun.judge.datasets.shape import Draft, Row, Shape
from nbrun.judge.datasets.values import column_of, first, has, is_missing, limits_of, mapping_in, parsed, plain

_COLUMNS = ("reward_model", "reward_spec", "verification_info", "ground_truth", "test_cases", "unit_tests")


def _prepare(row: Row) -> Row:
    """Return a row with the column for the reward parsed."""
    column = column_of(row, *_COLUMNS)
    if column is None or column == "test_cases":
        return row
    return {**row, column: _parsed(row, row[column], column)}


def _about(row: Row) -> Mapping[str, object]:
    """Return the value of the column for the reward, if it is a mapping."""
    return mapping_in(plain(first(row, *_COLUMNS)), "")


def _finish(draft: Draft) -> None:
    """Read what the column for the reward holds besides tests: limits, a function, how programs read their input."""
    row, fields, about = draft.row, draft.fields, _about(draft.row)
    if has(about, "ground_truth"):
        draft.columns["tests"] += ".ground_truth"
        draft.sets["tests"] = _parsed(row, about["ground_truth"], draft.columns["tests"])
    fields |= {key: limit for key, limit in limits_of(about).items() if fields.get(key) is None}
    if about.get("input_mode") == "file":
        fields["stream_files"] = FILES
    draft.function = first(row, "fn_name") or first(about, "fn_name")
    if column_of(row, *REWARDS.ids) is None:
        fields["id"] = _place_of(row)


def _place_of(row: Row) -> str | None:
    """Return the place of a row in its data set as its id; None if the row doesn't say it."""
    extra = mapping_in(first(row, "extra_info"), "extra_info")
    parts = (row.get("data_source"), extra.get("split"), extra.get("index"))
    return "/".join(str(part) for part in parts if not is_missing(part)) if has(extra, "index") else None


def _parsed(row: Row, value: object, column: str) -> object:
    """Return the parsed value of a column; raise ValueError if it isn't tests but, say, the answer of a calculation."""
    try:
        value = parsed(value, column)
        problem = f"{column!r} holds {str(value)[:40]!r}"
    except ValueError as e:
        problem = str(e)
    if isinstance(value, (Mapping, list)):
        return value
    kind = first(row, "ability", "data_source", "task_type") or "its kind isn't said"
    raise ValueError(f"{problem}, which is no test of a program ({kind})")


REWARDS = Shape(
    "SYNTHETIC-1, Eurus-2, verl, Skywork-OR1",
    "https://huggingface.co/datasets/PrimeIntellect/verifiable-coding-problems, "
    "https://huggingface.co/datasets/PRIME-RL/Eurus-2-RL-Data, https://github.com/volcengine/verl, "
    "https://huggingface.co/datasets/Skywork/Skywork-OR1-RL-Data, https://github.com/SkyworkAI/Skywork-OR1",
    sets={"tests": _COLUMNS},
    solutions=("gold_standard_solution",),
    prepare=_prepare,
    language=lambda row: first(_about(row), "language") or first(row, "language"),
    ids=("id", "problem_id", "uid", "name"),
    columns=("language", "fn_name", "extra_info", "data_source", "ability", "task_type"),
    finish=_finish,
)
