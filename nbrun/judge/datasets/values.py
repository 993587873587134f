"""Reads single values of a row: JSON text, limits with their units, solutions inside code fences.

Called by the thread that reads samples and by worker threads; pure functions, no I/O.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nbrun.judge.language_names import language_name

#: A block of code: its opening fence, its tag, its content up to the closing fence or the end of the text.
_FENCED = re.compile(
    r"^[ \t]*(?P<fence>```+|~~~+)[ \t]*(?P<tag>[\w+#.-]*)[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[ \t]*\r?$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_CLOSED_IN_LINE = re.compile(r"(?<=\S)```[ \t]*\Z")
_THOUGHTS = re.compile(r".*</think(?:ing)?>", re.DOTALL)
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
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "minute": 60.0}
_MEGABYTES = {
    "": 1.0,
    "b": 1 / (1 << 20),
    "byte": 1 / (1 << 20),
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
#: A memory limit without a unit is in bytes from this value on, since no contest allows a million megabytes.
_BYTES_FROM = 1 << 20
#: The longest Python literal to parse, since the parser needs a hundred times the text's memory. JSON has no limit.
_LONGEST_LITERAL = 1 << 24
#: Lines that only one language has. A source without any of them is assumed to be Python.
_SIGNS = (
    ("CPP", re.compile(r"^\s*#\s*include\b.*<(?:bits/stdc\+\+\.h|iostream|vector|cstdio|algorithm|string|map)>", re.M)),
    ("CPP", re.compile(r"^\s*using namespace std\b", re.M)),
    ("C", re.compile(r"^\s*#\s*include\s*<\w+\.h>", re.M)),
    ("JAVA", re.compile(r"^\s*(?:import java\.|public\s+(?:final\s+)?class\s+\w+\s*\{)", re.M)),
    ("GO", re.compile(r"^\s*package main\b", re.M)),
    ("RUST", re.compile(r"^\s*(?:use std::|fn main\s*\(\s*\))", re.M)),
    ("CSHARP", re.compile(r"^\s*using System\s*;", re.M)),
)
#: Names of the column with a solution's text.
_CODE = ("solution", "code", "source_code", "source", "completion", "content")
_LANGUAGE = ("language", "lang", "programming_language", "programmingLanguage")


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
    if isinstance(value, Mapping):
        if not {"seconds", "nanos"} & value.keys():
            raise ValueError(f"{where!r} is {value!r}, not a number, and has no 'seconds'")
        whole, nanos = number(value.get("seconds") or 0, where), number(value.get("nanos") or 0, where)
        return whole + nanos / 1e9 or None
    return _quantity(value, where, _SECONDS, unit_s) or None  # 0 in real rows means that the limit is unknown


def megabytes(value: object, where: str) -> float | None:
    """Return a memory limit in MiB: a number (of bytes from 2^20 on), "256 megabytes", "262144 KB"; None for none.

    Raises:
        ValueError: it can't be read.

    Example:
        >>> megabytes("256 megabytes", "memory_limit"), megabytes(268435456, "memory_limit")
        (256.0, 256.0)
    """
    if _is_no_limit(value):
        return None
    found = _quantity(value, where, _MEGABYTES, 1.0)
    has_unit = isinstance(value, str) and re.search(r"[a-z]", value.lower().replace("e", "")) is not None
    return (found / (1 << 20) if found >= _BYTES_FROM and not has_unit else found) or None


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


def unfenced(text: str) -> tuple[str, str]:
    """Return the language tag and the content of the last code fence in a text; ("", text) if it has none.

    A fence whose tag is a language is preferred to later ones without, which usually hold examples. Anything before
    `</think>` is ignored. A fence that is never closed, as in a truncated answer, ends with the text.

    Example:
        >>> unfenced("Here it is:\\n```python\\nprint(1)\\n```\\n")
        ('python', 'print(1)\\n')
    """
    if "```" not in text and "~~~" not in text:
        return "", text
    blocks = [] if _is_source(text) else list(_FENCED.finditer(_THOUGHTS.sub("", text)))
    if not blocks:
        return "", text
    tagged = [block for block in blocks if block["tag"] and language_name(block["tag"])]
    found = (tagged or blocks)[-1]
    return found["tag"], _CLOSED_IN_LINE.sub("\n", found["code"])


def _is_source(text: str) -> bool:
    """Return whether a text with fences is a program itself, with the fences in its comments or strings."""
    begin = re.split(r"^[ \t]*(?:```|~~~)", text, maxsplit=1, flags=re.MULTILINE)[0]
    if any(sign.match(begin.lstrip()) for _, sign in _SIGNS):
        return True
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def guessed_language(source: str, default: str = "PYTHON3") -> str:
    """Guess a source's language from its first statements; return `default` if nothing in them is typical.

    Example:
        >>> guessed_language("#include <bits/stdc++.h>\\nint main() {}"), guessed_language("print(1)")
        ('CPP', 'PYTHON3')
    """
    return next((language for language, sign in _SIGNS if sign.search(source)), default)


def read_solutions(value: object, where: str, language: object = None) -> Any:
    """Return a column of solutions as items with `language` and `solution`, or a struct of two such lists.

    Items that already have this form stay unchanged, so that saved results still belong to them. Plain text, inside a
    code fence or not, gets the fence's language, else the row's, else a guess from its content (`guessed_language`).

    Args:
        value: a list of texts or of mappings, a struct of lists, the JSON text of one, or a single text.
        language: the language that the row gives for all of them.

    Raises:
        ValueError: it can't be read.

    Example:
        >>> read_solutions(["```python\\nprint(1)\\n```"], "solutions")
        [{'language': 'python', 'solution': 'print(1)\\n'}]
    """
    value = plain(value)
    if isinstance(value, str):
        value = _listed(value) if value.strip() else []
        if isinstance(value, str):  # JSON text in JSON text
            return read_solutions(value, where, language)
    if isinstance(value, Mapping):
        return _read_struct(value, where, language) if value else []
    if not isinstance(value, Sequence):
        raise ValueError(f"{where!r} is a {type(value).__name__}; it must be a list of solutions")
    return [_read_item(item, f"{where}[{i}]", language) for i, item in enumerate(value)]


def _listed(text: str) -> object:
    """Return the solutions in a text that is JSON or a printed Python list, or the text itself as the only solution."""
    if text.lstrip()[:1] == '"':
        inner = _json_or_none(text)
        return inner if isinstance(inner, str) and inner.lstrip()[:1] in ("[", "{") else [text]
    if text.lstrip()[:1] not in ("[", "{"):
        return [text]
    if (value := _json_or_none(text)) is not None:
        return value
    try:
        value = parsed(text, "solutions")
    except ValueError:
        return [text]
    items = value if isinstance(value, list) else [value]
    return value if items and all(isinstance(item, (str, Mapping)) for item in items) else [text]


def _json_or_none(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read_struct(struct: Mapping[str, Any], where: str, language: object) -> object:
    code = next((name for name in _CODE if name in struct), None)
    if code is None:
        if struct and all(language_name(name) for name in struct):  # language -> its sources
            pairs = [(name, texts) for name, column in struct.items() for texts in _as_list(column)]
            return [_read_item(text, where, name) for name, text in pairs]
        raise ValueError(f"{where!r} is a mapping without 'solution' and 'language'")
    if isinstance(struct[code], str):
        return [_read_item(struct, where, language)]
    name = next((name for name in _LANGUAGE if name in struct), None)
    if name is not None and isinstance(struct[name], str):  # one language for all of them
        struct = {**struct, name: [struct[name]] * len(struct[code])}
    lengths = {key: len(plain(struct[key])) for key in (code, name) if key and isinstance(plain(struct[key]), list)}
    if len(set(lengths.values())) > 1:
        counts = " and ".join(f"{count} of {key!r}" for key, count in lengths.items())
        raise ValueError(f"{where!r} is a struct of lists of unequal length: {counts}")
    if any(hasattr(column, "tolist") for column in struct.values()):
        struct = {key: plain(column) for key, column in struct.items()}  # numpy's numbers aren't names of languages
    if name is not None and not {*map(type, plain(struct[name]))} <= {int, str}:
        struct = {**struct, name: _filled(struct[name], plain(struct[code]), language)}
    if code == "solution" and name == "language":
        return struct
    renamed = {"solution" if key == code else "language" if key == name else key: v for key, v in struct.items()}
    if name is None:
        renamed["language"] = [language or guessed_language(text) for text in plain(struct[code])]
    return renamed


def _filled(names: object, codes: Any, language: Any) -> list[object]:
    """Return the languages of solutions, with a guess for those that name none.

    pandas makes a column of numbers with gaps floats.
    """
    return [
        (language or guessed_language(code if isinstance(code, str) else ""))
        if is_missing(name)
        else int(name)
        if isinstance(name, float) and name.is_integer()
        else name
        for name, code in zip(plain(names), codes, strict=True)
    ]


def _as_list(value: object) -> list[object]:
    value = plain(value)
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _read_item(item: object, where: str, language: object) -> Any:
    if isinstance(item, str):
        if (
            item.startswith("{")
            and isinstance(inner := _json_or_none(item), Mapping)
            and not inner.keys().isdisjoint(_CODE)
        ):
            return _read_item(inner, where, language)  # each item is JSON text
        tag, text = unfenced(item)
        known = tag if tag and language_name(tag) else language
        return {"language": known or guessed_language(text), "solution": text}
    if isinstance(item, (list, tuple)) and len(item) == 2 and language_name(item[0]) and isinstance(item[1], str):
        return {"language": item[0], "solution": item[1]}
    if not isinstance(item, Mapping):
        return item  # the judge reports the error, for this item alone
    if any(hasattr(value, "tolist") for value in item.values()):
        item = {key: plain(value) for key, value in item.items()}  # numpy's numbers aren't names of languages
    if "solution" in item and "language" in item:
        return item
    code = next((name for name in _CODE if isinstance(item.get(name), str)), None)
    if code is None:
        return item
    name = next((name for name in _LANGUAGE if not is_missing(item.get(name))), None)
    rest = {key: value for key, value in item.items() if key not in (code, name)}
    read = _read_item(item[code], where, language if name is None else None)
    return {**rest, **read, "language": read["language"] if name is None else item[name]}
