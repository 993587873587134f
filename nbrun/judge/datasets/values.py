"""Reads single values of a row: cells that hold nothing, JSON text, limits with their units.

Called by the thread that reads samples and by worker threads; pure functions, no I/O.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any

_QUANTITY = re.compile(
    r"\s*(?:[\d.]+\s*(?:-|–|to)\s*)?"  # the upper end of a range counts
    r"(?P<number>[1-9]\d{0,2}(?:,\d{3})+|\d+(?:[.,]\d*)?|\.\d+)\s*(?P<unit>[a-zµ]*)(?:\(s\))?\.?"
    r"(?: *(?:/|per) *test(?: *case)?)?\s*(?:\([^()]*\)\s*)?",
    re.IGNORECASE,
)
#: Names of pandas' types of missing values, so that pandas needn't be imported.
_NOTHING = frozenset({"NAType", "NaTType"})
#: Texts that mean that there is no limit.
_NO_LIMIT = frozenset({"none", "null", "nan", "n/a", "na", "-", "unknown", "unlimited", "inf", "infinity", "no limit"})
_BYTE = 1 / (1 << 20)  # in MiB
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "minute": 60.0}
_MEGABYTES = {
    "": 1.0,
    "b": _BYTE,
    "byte": _BYTE,
    "k": 1 / 1024,
    "kb": 1 / 1024,
    "kib": 1 / 1024,
    "kilobyte": 1 / 1024,
    "kibibyte": 1 / 1024,
    "mb": 1.0,
    "mib": 1.0,
    "m": 1.0,
    "megabyte": 1.0,
    "mebibyte": 1.0,
    "g": 1024.0,
    "gb": 1024.0,
    "gib": 1024.0,
    "gigabyte": 1024.0,
    "gibibyte": 1024.0,
}
#: Units of numbers without one, by their size: no contest allows 500 seconds, or 32 GiB, or less than 4 MiB.
_MILLISECONDS_FROM, _KILOBYTES_FROM, _BYTES_FROM = 500, 1 << 15, 1 << 22
#: The longest Python literal to parse, since the parser needs a hundred times the text's memory. JSON has no limit.
_LONGEST_LITERAL = 1 << 24
#: Columns with limits, and the factor of a number without a unit; None for the data set's own unit.
_TIME_COLUMNS = {"time_limit_s": 1.0, "time_limit_ms": 1e-3, "time_limit": None, "time-limit": None}
_MEMORY_COLUMNS = {"memory_limit_mb": 1.0, "memory_limit_bytes": _BYTE, "memory_limit": None, "memory-limit": None}
LIMITS = (*_TIME_COLUMNS, *_MEMORY_COLUMNS, "output_limit_mb")


def plain(value: object) -> Any:
    """Return a tuple or an array of numpy, pandas or pyarrow as a list, and any other value unchanged."""
    if isinstance(value, tuple):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, (str, bytes)) else value


def is_missing(value: object) -> bool:
    """Return whether a cell holds nothing: None, NaN, NaT, pandas' NA, or empty text."""
    if isinstance(value, (str, float)):
        return value == "" or value != value  # only NaN differs from itself
    return value is None or type(value).__name__ in _NOTHING


def has(row: Mapping[str, object], *columns: str) -> bool:
    """Return whether none of these columns is missing or empty in a row."""
    return all(not is_missing(row.get(column)) for column in columns)


def first(row: Mapping[str, object], *columns: str) -> Any:
    """Return the value of the first of these columns that isn't empty; None if all are."""
    return next((row[column] for column in columns if not is_missing(row.get(column))), None)


def text_of(row: Mapping[str, object], *columns: str) -> str:
    """Return the text in the first of these columns that isn't empty; "" if all are.

    Raises:
        ValueError: it isn't text.
    """
    column = next((name for name in columns if has(row, name)), None)
    value = "" if column is None else row[column]
    if not isinstance(value, str):
        raise ValueError(f"{column!r} is a {type(value).__name__}, not text")
    return value


def parsed(value: object, where: str) -> object:
    """Return the value of JSON text or of a Python literal; a value that isn't text unchanged.

    Raises:
        ValueError: the text is neither.
    """
    if not isinstance(value, (str, bytes)):
        return plain(value)
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as e:
        try:
            text = value.decode() if isinstance(value, bytes) else value
            if len(text) > _LONGEST_LITERAL:
                raise ValueError
            return ast.literal_eval(text.strip())  # SYNTHETIC-1 writes dictionaries as Python prints them
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"{where!r} is text that is no JSON: {e}") from None


def flags_of(value: object) -> list[str]:
    """Return validator flags as words; packages write them as text, as a list, or as a mapping."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [str(word) for pair in value.items() for word in pair]
    return [str(word) for word in value] if isinstance(value, (list, tuple)) else str(value).split()


def number(value: Any, where: str) -> float:
    """Return a limit as a number.

    Raises:
        ValueError: the value isn't a number, or is negative.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where!r} is {value!r}, not a number") from None
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"{where!r} is {value!r}; a limit is 0 or more")
    return found


def seconds(value: object, where: str, unit_s: float = 1.0) -> float | None:
    """Return a time limit in seconds: a number, "2.0 seconds", "1500 ms", or `{"seconds", "nanos"}`; None for none.

    Args:
        unit_s: the unit in seconds of a number without one: 1e-3 for a data set with limits in milliseconds.

    Raises:
        ValueError: it can't be read.

    Example:
        >>> seconds("2.0 seconds", "time_limit"), seconds({"seconds": 1, "nanos": 5 * 10**8}, "time_limit")
        (2.0, 1.5)
    """
    if _is_no_limit(value):
        return None
    if hasattr(value, "total_seconds"):  # a timedelta
        value = value.total_seconds()
        unit_s = 1.0
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = parsed(value, where)
    if isinstance(value, Mapping):
        if not {"seconds", "nanos"} & value.keys():
            raise ValueError(f"{where!r} is {value!r}, not a number, and has no 'seconds'")
        whole, nanos = number(value.get("seconds") or 0, where), number(value.get("nanos") or 0, where)
        return whole + nanos / 1e9 or None
    return _quantity(value, where, _SECONDS, unit_s) or None  # 0 in real rows means that the limit is unknown


def megabytes(value: object, where: str) -> float | None:
    """Return a memory limit in MiB: a number (KiB from 2^15, bytes from 2^22 on), or "256 megabytes"; None for none.

    Raises:
        ValueError: it can't be read.

    Example:
        >>> megabytes("256 megabytes", "memory_limit"), megabytes(268435456, "memory_limit")
        (256.0, 256.0)
    """
    if _is_no_limit(value):
        return None
    found = _quantity(value, where, _MEGABYTES, 1.0)
    if _is_bare(value):
        found *= _BYTE if found >= _BYTES_FROM else 1 / 1024 if found >= _KILOBYTES_FROM else 1.0
    return found or None


def _is_bare(value: object) -> bool:
    """Return whether a limit has no unit: neither as text nor as a mapping or a timedelta."""
    if isinstance(value, (str, bytes)):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return re.search(r"[a-df-zµ]", text.lower()) is None
    return not isinstance(value, Mapping) and not hasattr(value, "total_seconds")


def _is_no_limit(value: object) -> bool:
    if not isinstance(value, str):
        return is_missing(value)
    text = value.strip().lower()
    return not text or text in _NO_LIMIT or text.partition(" ")[0] in ("none", "null", "nan")  # "None seconds"


def _quantity(value: object, where: str, units: Mapping[str, float], bare: float) -> float:
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        unit = match["unit"].lower() if match else ""
        factor = units.get(unit, units.get(unit.removesuffix("s")))
        if match and factor is not None:
            digits = match["number"]
            is_thousands = (
                re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+", digits) is not None
            )  # "1,024 MB"; "1,5 s" is a fraction
            return number(digits.replace(",", "" if is_thousands else "."), where) * (factor if unit else bare)
    return number(value, where) * bare


def limits_of(row: Mapping[str, object], unit_s: float | None = None) -> dict[str, object]:
    """Return the limits of a row as `time_limit_s` and `memory_limit_mb` (None if it has none).

    Args:
        unit_s: the unit in seconds of a `time_limit` without one; None takes seconds, and milliseconds from 500 on.

    Raises:
        ValueError: a limit can't be read.
    """
    time = next((name for name in _TIME_COLUMNS if has(row, name)), "time_limit")
    memory = next((name for name in _MEMORY_COLUMNS if has(row, name)), "memory_limit")
    factor = _MEMORY_COLUMNS[memory]
    value = row.get(memory)
    time_s = seconds(row.get(time), time, _TIME_COLUMNS[time] or unit_s or 1.0)
    if (_TIME_COLUMNS[time] or unit_s) is None and time_s and time_s >= _MILLISECONDS_FROM and _is_bare(row[time]):
        time_s /= 1000
    limits: dict[str, object] = {
        "time_limit_s": time_s,
        "memory_limit_mb": megabytes(value, memory) if factor is None else number(value, memory) * factor or None,
    }
    if has(row, "output_limit_mb"):
        limits["output_limit_mb"] = number(row["output_limit_mb"], "output_limit_mb") or None
    return limits
