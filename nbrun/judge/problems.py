"""A problem row, in any of the shapes that data sets have -> one shape.

Called by the thread that reads samples and by worker threads; pure functions, no I/O. The one shape:

    {"id": "p1",
     "solutions": …, "incorrect_solutions": …,          as they stood in the row
     "tests": [{"input": "1 2\\n", "output": "3\\n"}, …],
     "time_limit_s": 2.0 or None, "memory_limit_mb": 256.0 or None}

and, where the row has them, `checker` (see `nbrun.judge.validators.checker_of`), `output_limit_mb`, `time_limit_from`
(see `nbrun.judge.timing`), `not_supported` (why the problem can't be judged here), `expected_verdicts` (group -> the
verdict of each of its items, or a list of those that would do), and in a test `name` and `flags`. Tests are text, or
bytes where they are no text.

Understood are CodeContests' rows (`public_tests`, `private_tests`, `generated_tests` as a struct of lists or a list of
structs; `time_limit` in seconds or as `{"seconds", "nanos"}`; `memory_limit_bytes`), rows with
`test: [{"input": {"stdin"}, "output": {"stdout"}}]` (a list, or the JSON text of one), and the one shape itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nbrun.judge.checkers import flags_of

#: For problems that tell no limit (null and 0 occur in real rows).
TIME_LIMIT_S = 2.0
MEMORY_LIMIT_MB = 1024.0
#: Where CodeContests keeps a problem's tests.
TEST_SETS = ("public_tests", "private_tests", "generated_tests")
#: Read whatever `tests=` says: rows that keep all tests in one place.
_ALWAYS = ("tests", "test")
_STREAMS = {"input": "stdin", "output": "stdout"}
_GROUPS = ("solutions", "incorrect_solutions")
_CARRIED = ("time_limit_from", "checker", "not_supported", "expected_verdicts")


def normalise(row: Mapping[str, Any], tests: Sequence[str] = TEST_SETS, keep: Sequence[str] = ()) -> dict[str, Any]:
    """The row in the one shape. `tests` names the sets of tests to take, in this order; `keep` further keys to keep.

    Raises:
        ValueError: something in it can't be read; the message names the key.

    Example:
        >>> row = {"name": "p", "public_tests": {"input": ["1"], "output": ["2"]}, "time_limit": {"seconds": 1}}
        >>> normalise(row)["tests"], normalise(row)["time_limit_s"]
        ([{'input': '1', 'output': '2'}], 1.0)
    """
    name = row.get("id") if row.get("id") is not None else row.get("name")
    if name is None or name == "":
        raise ValueError("it has neither 'id' nor 'name'")
    out: dict[str, Any] = {"id": name}
    out |= {key: row[key] for key in _GROUPS if key in row}
    out["tests"] = read_tests(row, tests)
    out["time_limit_s"] = _time_limit_s(row)
    out["memory_limit_mb"] = _memory_limit_mb(row)
    if row.get("output_limit_mb") is not None:
        out["output_limit_mb"] = _number(row["output_limit_mb"], "output_limit_mb") or None
    out |= {key: row[key] for key in _CARRIED if row.get(key) is not None}
    return out | {key: row[key] for key in keep if key in row}


def read_tests(row: Mapping[str, Any], tests: Sequence[str] = TEST_SETS) -> list[dict[str, Any]]:
    """All tests of a row, in the data's order."""
    names = [*_ALWAYS, *(name for name in tests if name not in _ALWAYS)]
    return [test for name in names if row.get(name) is not None for test in _test_set(row[name], name)]


def _test_set(value: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as e:
            raise ValueError(f"{name!r} is text that is no JSON: {e}") from None
    if isinstance(value, Mapping):
        value = _rows(value, name)
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, Sequence):
        raise ValueError(f"{name!r} is a {type(value).__name__}; it must be a list of tests, or a struct of lists")
    return [_test(test, f"{name}[{i}]") for i, test in enumerate(value)]


def _rows(struct: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    if "input" not in struct or "output" not in struct:
        raise ValueError(f"{name!r} is a mapping without 'input' and 'output'")
    inputs, outputs = list(struct["input"]), list(struct["output"])
    if len(inputs) != len(outputs):
        raise ValueError(f"{name!r} has {len(inputs)} inputs and {len(outputs)} outputs")
    return [{"input": i, "output": o} for i, o in zip(inputs, outputs, strict=True)]


def _test(test: Any, where: str) -> dict[str, Any]:
    if not isinstance(test, Mapping) or "input" not in test or "output" not in test:
        raise ValueError(f"{where} is no mapping with 'input' and 'output'")
    out: dict[str, Any] = {key: _stream(test, key, inner, where) for key, inner in _STREAMS.items()}
    if test.get("name") is not None:
        out["name"] = str(test["name"])
    if flags := flags_of(test.get("flags")):
        out["flags"] = flags
    return out


def _stream(test: Mapping[str, Any], key: str, inner: str, where: str) -> str | bytes:
    value = test[key]
    if isinstance(value, Mapping):
        value = value.get(inner)
    if not isinstance(value, (str, bytes)):
        raise ValueError(f"{where}: its {key} is a {type(value).__name__}, not text")
    return value


def _time_limit_s(row: Mapping[str, Any]) -> float | None:
    for key in ("time_limit_s", "time_limit"):
        value = row.get(key)
        if isinstance(value, Mapping):
            value = _number(value.get("seconds") or 0, key) + _number(value.get("nanos") or 0, key) / 1e9
        if value is not None:
            return _number(value, key) or None  # 0 occurs in real rows and means: not known
    return None


def _memory_limit_mb(row: Mapping[str, Any]) -> float | None:
    for key, unit in (("memory_limit_mb", 1), ("memory_limit_bytes", 1 << 20)):
        if row.get(key) is not None:
            return _number(row[key], key) / unit or None
    return None


def _number(value: Any, key: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key!r} is {value!r}, not a number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{key!r} is {value!r}; a limit is 0 or more")
    return number
