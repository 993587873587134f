"""Reads single values of a row: cells that hold nothing, JSON text, limits with their units.

Called by the thread that reads samples and by worker threads; pure functions, no I/O.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

_QUANTITY = re.compile(
    r"\s*(?:[\d.]+\s*(?:-|–|to)\s*)?"  # the upper end of a range counts
    r"(?P<number>[1-9]\d{0,2}(?P<thousands>(?:,\d{3})+)|\d+(?:[.,]\d*)?|\.\d+)\s*(?P<unit>[a-zµ]*)(?:\(s\))?\.?"
    r"(?: *(?:/|per) *test(?: *case)?)?\s*(?:\([^()]*\)\s*)?",
    re.IGNORECASE,
)
#: Types that need no conversion.
_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
#: Names of pandas' types of missing values, so that pandas needn't be imported.
_NOTHING = frozenset({"NAType", "NaTType"})
#: Texts that mean that there is no limit.
_NO_LIMIT = re.compile(
    r"\s*(?:(?:none|null|nan)(?: .*)?|n/a|na|-|unknown|unlimited|inf|infinity|no limit|)\s*", re.IGNORECASE
)
_BYTE = 1 / (1 << 20)  # in MiB
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond"), 1e-3),
    "minute": 60.0,
}
_MEGABYTES = {
    **dict.fromkeys(("b", "byte"), _BYTE),
    **dict.fromkeys(("k", "kb", "kib", "kilobyte", "kibibyte"), 1 / 1024),
    **dict.fromkeys(("m", "mb", "mib", "megabyte", "mebibyte"), 1.0),
    **dict.fromkeys(("g", "gb", "gib", "gigabyte", "gibibyte"), 1024.0),
}
#: (from which size on, unit) of numbers without a unit, by the size of the number: no contest allows 500 seconds, or
#: 32 GiB, or less than 4 MiB.
_BARE_SECONDS = ((500, 1e-3), (0, 1.0))
_BARE_MEGABYTES = ((1 << 22, _BYTE), (1 << 15, 1 / 1024), (0, 1.0))
#: Parts of a time limit that is a mapping, in seconds.
_PARTS = {"seconds": 1.0, "nanos": 1e-9}
#: The longest Python literal to parse, since the parser needs a hundred times the text's memory. JSON has no limit.
_LONGEST_LITERAL = 1 << 24
#: Columns with limits, and the factor of a number without a unit; None for the data set's own unit.
_TIME_COLUMNS = {
    **dict.fromkeys(("time_limit_s", "time_limit_sec", "time_limit_seconds"), 1.0),
    "time_limit_ms": 1e-3,
    **dict.fromkeys(("time_limit", "time-limit", "prob_desc_time_limit", "test_time_limit")),
}
_MEMORY_COLUMNS = {
    **dict.fromkeys(("memory_limit_mb", "memory_limit_mib"), 1.0),
    **dict.fromkeys(("memory_limit_kb", "memory_limit_kib"), 1 / 1024),
    "memory_limit_bytes": _BYTE,
    **dict.fromkeys(("memory_limit", "memory-limit", "prob_desc_memory_limit")),
}
LIMITS = (*_TIME_COLUMNS, *_MEMORY_COLUMNS, "output_limit_mb")
#: What parsing text raises that is no JSON, or no literal of Python.
NOT_PARSED = (ValueError, SyntaxError, RecursionError, MemoryError)


def plain(value: Any) -> Any:
    """Return a tuple, a table or an array of numpy, pandas or pyarrow as a list, and a buffer as bytes.

    Any other value stays unchanged.
    """
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if hasattr(value, "itertuples"):  # a DataFrame
        return value.to_dict("records")
    return value.tolist() if hasattr(value, "tolist") else value


def settled(value: Any) -> Any:
    """Return a value of which all parts are `plain`: lists and dictionaries of text, bytes and numbers."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (list, tuple)):
        return [*value] if _PLAIN.issuperset(map(type, value)) else [*map(settled, value)]
    if isinstance(value, Mapping):
        are_plain = _PLAIN.issuperset(map(type, value.values()))
        return {**value} if are_plain else {key: settled(inner) for key, inner in value.items()}
    found = plain(value)
    return found if found is value else settled(found)


def whole(value: object) -> object:
    """Return a whole float as an integer, since pandas makes a column of integers with gaps floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_missing(value: object) -> bool:
    """Return whether a cell holds nothing: None, NaN, NaT, pandas' NA, or empty text."""
    if isinstance(value, (str, float)):
        return value == "" or value != value  # only NaN differs from itself
    return value is None or type(value).__name__ in _NOTHING


def has(row: Mapping[str, object], *columns: str) -> bool:
    """Return whether none of these columns is missing or empty in a row."""
    return not any(map(is_missing, map(row.get, columns)))


def column_of(row: Mapping[str, object], *columns: str) -> str | None:
    """Return the name of the first of these columns that isn't empty; None if all are."""
    return next(filter(partial(has, row), columns), None)


def first(row: Mapping[str, object], *columns: str) -> Any:
    """Return the value of the first of these columns that isn't empty; None if all are."""
    column = column_of(row, *columns)
    return None if column is None else row[column]


def cells_of(row: Mapping[str, object], columns: Iterable[str]) -> dict[str, object]:
    """Return those of these columns that are not empty, with their values."""
    return {column: row[column] for column in columns if has(row, column)}


def given(row: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return those of these keys that are in a mapping and not None, with their values."""
    return {key: row[key] for key in keys if row.get(key) is not None}


def text_of(row: Mapping[str, object], *columns: str) -> str:
    """Return the text in the first of these columns that isn't empty; "" if all are.

    Raises:
        ValueError: it isn't text.
    """
    column = column_of(row, *columns)
    value = "" if column is None else row[column]
    if not isinstance(value, str):
        raise ValueError(f"{column!r} is a {type(value).__name__}, not text")
    return value


def parsed(value: object, where: str) -> object:
    """Return the value of JSON text or of a Python literal; a value that isn't text unchanged.

    Raises:
        ValueError: the text is neither.
    """
    value = plain(value)
    if not isinstance(value, (str, bytes)):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as e:
        problem = e
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if len(text) <= _LONGEST_LITERAL:
            return ast.literal_eval(text.strip())  # SYNTHETIC-1 writes dictionaries as Python prints them
    except NOT_PARSED:
        pass
    raise ValueError(f"{where!r} is text that is no JSON: {problem}")


def is_json_text(value: object) -> bool:
    """Return whether a value is text that begins as lists and objects of JSON do."""
    return isinstance(value, str) and value.lstrip().startswith(("[", "{"))


def parsed_or_none(text: str) -> object:
    """Return the value of JSON text or of a Python literal; None if a text is neither."""
    try:
        return parsed(text, "")
    except ValueError:
        return None


def mapping_in(value: object, where: str) -> Mapping[str, Any]:
    """Return a mapping, or the one in JSON text; an empty one for any other value.

    Raises:
        ValueError: it is text that is no JSON.
    """
    found = parsed(value, where) if isinstance(value, str) and value else value
    return found if isinstance(found, Mapping) else {}


def flags_of(value: object) -> list[str]:
    """Return validator flags as words; packages write them as text, as a list, or as a mapping."""
    if isinstance(value, Mapping):
        value = [*chain(*value.items())]
    if isinstance(value, (list, tuple)):
        return list(map(str, value))
    return [] if value is None else str(value).split()


def number(value: Any, where: str) -> float:
    """Return a limit as a number.

    Raises:
        ValueError: the value isn't a number, or is negative.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if math.isnan(found):
        raise ValueError(f"{where!r} is {value!r}, not a number")
    if not 0 <= found < math.inf:
        raise ValueError(f"{where!r} is {value!r}; a limit is 0 or more")
    return found


# ---- limits


class _Quantity(NamedTuple):
    """A number, and the factor that its unit means; None if it is written without one."""

    number: float
    factor: float | None

    def times(self, unit: float | None, by_size: tuple[tuple[float, float], ...]) -> float | None:
        """Return the quantity in seconds or MiB; None for 0, with which real rows mean that the limit is unknown.

        Args:
            unit: the unit of a number without one; None chooses one by the size of the number.
        """
        factor = self.factor or unit or next(factor for least, factor in by_size if self.number >= least)
        return self.number * factor or None


def seconds(value: Any, where: str, unit_s: float | None = None) -> float | None:
    """Return a time limit in seconds: a number, "2.0 seconds", "1500 ms", or `{"seconds", "nanos"}`; None for none.

    Args:
        unit_s: the unit in seconds of a number without one: 1e-3 for a data set with limits in milliseconds. None takes
            seconds, and milliseconds from 500 on.

    Raises:
        ValueError: it can't be read.

    Example:
        >>> seconds("2.0 seconds", "time_limit"), seconds({"seconds": 1, "nanos": 5 * 10**8}, "time_limit")
        (2.0, 1.5)
    """
    if _is_no_limit(value):
        return None
    value = parsed(value, where) if is_json_text(value) else _with_seconds(value)
    if isinstance(value, Mapping):
        return _sum_of_parts(value, where)
    return _quantity(value, where, _SECONDS).times(unit_s, _BARE_SECONDS)


def _with_seconds(value: Any) -> Any:
    """Return a span of time of the standard library, numpy or pandas as `{"seconds"}`; any other value unchanged."""
    if str(getattr(value, "dtype", "")).startswith("timedelta64"):
        value = value.astype("timedelta64[us]").tolist()
    return {"seconds": value.total_seconds()} if hasattr(value, "total_seconds") else value


def _sum_of_parts(parts: Mapping[str, Any], where: str) -> float | None:
    if parts.keys().isdisjoint(_PARTS):
        raise ValueError(f"{where!r} is {parts!r}, not a number, and has no 'seconds'")
    return sum(number(parts.get(part) or 0, where) * factor for part, factor in _PARTS.items()) or None


def megabytes(value: object, where: str, unit_mb: float | None = None) -> float | None:
    """Return a memory limit in MiB: a number, or text such as "256 megabytes"; None for none.

    Args:
        unit_mb: the unit in MiB of a number without one. None takes MiB, KiB from 2^15 on, and bytes from 2^22 on.

    Raises:
        ValueError: it can't be read.

    Example:
        >>> megabytes("256 megabytes", "memory_limit"), megabytes(268435456, "memory_limit")
        (256.0, 256.0)
    """
    return None if _is_no_limit(value) else _quantity(value, where, _MEGABYTES).times(unit_mb, _BARE_MEGABYTES)


def _is_no_limit(value: object) -> bool:
    return _NO_LIMIT.fullmatch(value) is not None if isinstance(value, str) else is_missing(value)


def _quantity(value: object, where: str, units: Mapping[str, float]) -> _Quantity:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return _Quantity(number(value, where), None)
    unit = match["unit"].lower()
    factor = units.get(unit, units.get(unit.removesuffix("s")))
    if unit and factor is None:
        return _Quantity(number(value, where), None)  # "2.5e8", or an error
    comma = "" if match["thousands"] else "."  # "1,024 MB"; "1,5 s" is a fraction
    return _Quantity(number(match["number"].replace(",", comma), where), factor)


def limits_of(row: Mapping[str, object], unit_s: float | None = None) -> dict[str, object]:
    """Return the limits of a row as `time_limit_s` and `memory_limit_mb` (None if it has none).

    Args:
        unit_s: the unit in seconds of a `time_limit` without one; None takes seconds, and milliseconds from 500 on.

    Raises:
        ValueError: a limit can't be read.
    """
    time = column_of(row, *_TIME_COLUMNS) or "time_limit"
    memory = column_of(row, *_MEMORY_COLUMNS) or "memory_limit"
    limits: dict[str, object] = {
        "time_limit_s": seconds(row.get(time), time, _TIME_COLUMNS[time] or unit_s),
        "memory_limit_mb": megabytes(row.get(memory), memory, _MEMORY_COLUMNS[memory]),
    }
    if has(row, "output_limit_mb"):
        limits["output_limit_mb"] = number(row["output_limit_mb"], "output_limit_mb") or None
    return limits
