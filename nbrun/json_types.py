"""What parsed JSON holds, as types: any value, and a saved entry.

The records of logs and the summary of a file have their types in results/format.py, which also says what the keys mean.
Types only; nothing here runs.
"""

from __future__ import annotations

from typing import NotRequired, Required, TypeAlias, TypedDict

#: What a parser of JSON returns.
JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]


class TaskError(TypedDict):
    """The error that a task ended in."""

    type: str
    message: str
    traceback: NotRequired[str]


class Entry(TypedDict, total=False):
    """One task's saved outcome. The required keys are those that `sample_file.parse_entry` has checked."""

    index: Required[int | None]
    key: Required[str]
    occurrence: Required[int]
    seq: Required[int]
    status: Required[str]
    result: Required[JsonValue]
    run_id: Required[str]
    context: Required[str]
    worker_id: Required[str]
    api_used: Required[str]
    attempts: float | None
    started_at: float | None
    duration_s: float | None
    error: TaskError | None
    item: JsonValue
    language: JsonValue
    solution: JsonValue
    lossy: bool
    output: str
