"""Reads solutions in the forms in which data sets write them, and groups submissions in rows of their own by problem.

Called by the thread that reads samples and by worker threads; pure functions, no I/O. Each solution becomes an item
with `language` and `solution`. open-r1/codeforces-submissions has `problem_id`, `source`, `programmingLanguage` and
`verdict`; CodeNet's tables have `problem_id`, `language` and `status`, and sources in files.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nbrun.judge.languages import language_name
from nbrun.judge.problems.values import (
    NOT_PARSED,
    column_of,
    first,
    is_json_text,
    is_missing,
    parsed_or_none,
    settled,
    whole,
)

#: A block of code: its opening fence, its tag, its content up to the closing fence or the end of the text.
_FENCED = re.compile(
    r"^[ \t]*(?P<fence>```+|~~~+)[ \t]*(?P<tag>[\w+#.-]*)[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[ \t]*\r?$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_CLOSED_IN_LINE = re.compile(r"(?<=\S)```[ \t]*\Z")
_THOUGHTS = re.compile(r".*</think(?:ing)?>", re.DOTALL)
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
#: Names of the column with a solution's text, and of the one with its language.
_CODE = ("solution", "code", "source_code", "source", "completion", "content")
#: Keys of items of which one at least is there.
_OF_ITEMS = ("solution", "not_supported")
_LANGUAGE = ("language", "lang", "programming_language", "programmingLanguage")

_PROBLEM = ("problem_id", "problem", "task_id", "contestId", "contest_id")
_INDEX = ("problem_index", "index")
_SUBMITTED = ("source", "code", "source_code", "solution", "submission")
_SUBMITTED_IN = ("programmingLanguage", "programming_language", "original_language", "language", "lang")
_VERDICT = ("verdict", "status", "result", "is_correct", "correct")
_RIGHT = frozenset({"ok", "accepted", "ac", "correct", "true", "1", "passed"})
#: Verdicts from which it doesn't follow whether a solution is right, as Codeforces, AtCoder and CodeNet write them.
_NEITHER = re.compile(
    "ce|ie|wj|wr|cj|compilation error|compile error|skipped|testing|submitted|rejected|partial|failed|crashed|"
    "input preparation crashed|security violated|judge not available|internal error|waiting for judging|"
    "judge system error"
)


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
    value = settled(value)
    while isinstance(value, str):  # JSON text may be in JSON text
        value = _listed(value)
    if isinstance(value, dict):
        return _read_mapping(value, where, language)
    if not isinstance(value, list):
        raise ValueError(f"{where!r} is a {type(value).__name__}; it must be a list of solutions")
    items = [_read_item(item, language) for item in value]
    _check_items(items, where)
    return items


def _check_items(items: list[Any], where: str) -> None:
    """Raise ValueError if not one of the items is a solution."""
    if items and all(map(_is_no_solution, items)):
        found = ", ".join(map(repr, [*items[0]][:8])) or "nothing"
        raise ValueError(f"{where!r} holds mappings without 'solution' (they have {found})")


def _listed(text: str) -> object:
    """Return the solutions in a text that is JSON or a printed Python list, or the text itself as the only solution."""
    begin = text.lstrip()[:1]
    value = parsed_or_none(text) if begin in ("[", "{", '"') else None
    if isinstance(value, (list, dict)) or is_json_text(value):
        return value
    return [text] if begin else []


def _is_no_solution(item: object) -> bool:
    return isinstance(item, dict) and item.keys().isdisjoint(_OF_ITEMS)


# ---- structs of lists


def _read_mapping(columns: Mapping[str, Any], where: str, language: object) -> object:
    """Return a struct of lists with `solution` and `language` in it; a mapping of languages to sources as items."""
    code, name = _key_of(columns, _CODE), _key_of(columns, _LANGUAGE) or "language"
    if not code:
        return _read_by_language(columns, where)
    if isinstance(columns[code], str):
        return [_read_item(columns, language)]
    codes, names = _lists_of(columns, code, name, where)
    if not {*map(type, codes), *map(type, names)} <= {int, str}:
        codes = list(map(_decoded, codes))
        names = [_language_of(name, code, language) for name, code in zip(names, codes, strict=True)]
    renamed = {code: "solution", name: "language"}
    return {renamed.get(key, key): column for key, column in {**columns, code: codes, name: names}.items()}


def _lists_of(columns: Mapping[str, Any], code: str, name: str, where: str) -> tuple[list[Any], list[Any]]:
    """Return the sources in a struct of lists, and the language of each.

    Raises:
        ValueError: there are not as many of both.
    """
    codes: Any = columns[code]
    names: Any = columns.get(name)
    if isinstance(codes, list) and not isinstance(names, list):  # one language for all of them, or none
        names = [names] * len(codes)
    if not isinstance(codes, list) or len(codes) != len(names):
        counts = f"{_count(codes)} of {code!r} and {_count(names)} of {name!r}"
        raise ValueError(f"{where!r} is a struct of lists of unequal length: {counts}")
    return codes, names


def _key_of(columns: Mapping[str, object], names: tuple[str, ...]) -> str:
    """Return the first of these names that is a key; empty if none is."""
    return next(filter(columns.__contains__, names), "")


def _read_by_language(columns: Mapping[str, Any], where: str) -> list[Any]:
    if not all(map(language_name, columns)):
        raise ValueError(f"{where!r} is a mapping without 'solution' and 'language'")
    items: list[Any] = []
    for name, texts in columns.items():
        items += [_read_item(text, name) for text in (texts if isinstance(texts, list) else [texts])]
    return items


def _count(column: object) -> object:
    return len(column) if isinstance(column, list) else f"a {type(column).__name__} instead"


def _language_of(name: Any, code: object, language: object) -> object:
    """Return the language of a solution, with a guess if it names none."""
    if is_missing(name):
        return language or guessed_language(str(code))
    name = whole(name)
    return int(name) if str(name).isdecimal() else name


def _decoded(text: object) -> object:
    """Return bytes, as TensorFlow and columns of the type binary hold text, as text."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


# ---- items


def _read_item(item: Any, language: object) -> Any:
    """Return an item with `language` and `solution`; a value that isn't a solution stays, for the judge's error."""
    item = _decoded(item)
    if isinstance(item, str):
        inner = _item_in(item)
        if inner is None:
            return _read_text(item, language)
        item = inner
    match item:
        case dict():
            return item if _is_usual(item) else _read_fields(item, language)
        case [name, str(code)] if language_name(name):
            return {"language": name, "solution": code}
    return item


def _item_in(text: str) -> dict[str, object] | None:
    """Return the item that a text holds as JSON; None if it is a source itself."""
    found = parsed_or_none(text) if text.startswith("{") else None
    return found if isinstance(found, dict) and _key_of(found, _CODE) else None


def _is_usual(item: dict[str, object]) -> bool:
    """Return whether an item is as it should be; five times faster than reading it."""
    return item.keys() == {"solution", "language"} and all(map(_is_text, item.values()))


def _read_fields(item: dict[str, object], language: object) -> dict[str, object]:
    item = {key: _decoded(value) for key, value in item.items()}
    name = column_of(item, *_LANGUAGE)
    if name is not None:
        item[name] = _language_of(item[name], "", None)
    code = _key_of_text(item)
    if not code or ("solution" in item and name == "language"):
        return item
    rest = {key: value for key, value in item.items() if key not in (code, name, "language")}
    named = {} if name is None else {"language": item[name]}
    return rest | _read_text(str(item[code]), language) | named


def _key_of_text(item: Mapping[str, object]) -> str:
    """Return the first key under which an item has a source as text; empty if there is none."""
    return next((name for name in _CODE if isinstance(item.get(name), str)), "")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not value.isdecimal() and value != ""


def _read_text(text: str, language: object) -> dict[str, object]:
    tag, code = unfenced(text)
    known = tag if language_name(tag) else language
    return {"language": known or guessed_language(code), "solution": code}


# ---- fences, and languages by their signs


class Fenced(NamedTuple):
    """The content of a code fence, and its language tag; the tag is empty for a text without a fence."""

    tag: str
    code: str


def unfenced(text: str) -> Fenced:
    """Return the last code fence in a text; the text itself if it has none.

    A fence whose tag is a language is preferred to later ones without, which usually hold examples. Anything before
    `</think>` is ignored. A fence that is never closed, as in a truncated answer, ends with the text.

    Example:
        >>> unfenced("Here it is:\\n```python\\nprint(1)\\n```\\n")
        Fenced(tag='python', code='print(1)\\n')
    """
    if ("```" not in text and "~~~" not in text) or _is_source(text):
        return Fenced("", text)
    blocks = list(_FENCED.finditer(_THOUGHTS.sub("", text)))
    if not blocks:
        return Fenced("", text)
    tagged = [block for block in blocks if language_name(block["tag"])]
    found = (tagged or blocks)[-1]
    return Fenced(found["tag"], _CLOSED_IN_LINE.sub("\n", found["code"]))


def _is_source(text: str) -> bool:
    """Return whether a text with fences is a program itself, with the fences in its comments or strings."""
    begin = _FENCE.split(text, maxsplit=1)[0]
    if any(sign.match(begin.lstrip()) for _, sign in _SIGNS):
        return True
    try:
        ast.parse(text)
    except NOT_PARSED:
        return False
    return True


def guessed_language(source: str, default: str = "PYTHON3") -> str:
    """Guess a source's language from its first statements; return `default` if nothing in them is typical.

    Example:
        >>> guessed_language("#include <bits/stdc++.h>\\nint main() {}"), guessed_language("print(1)")
        ('CPP', 'PYTHON3')
    """
    return next((language for language, sign in _SIGNS if sign.search(source)), default)


# ---- submissions


def are_submissions(row: Mapping[str, object]) -> bool:
    """Return whether a row is a submission: it names a problem, a verdict and a source, and has no tests."""
    return all(column_of(row, *names) for names in (_PROBLEM, _VERDICT, _SUBMITTED))


def by_problem(rows: Iterable[Mapping[str, object]]) -> dict[str, dict[str, list[dict[str, object]]]]:
    """Return problem id -> group -> items. Submissions that were never judged are left out.

    Raises:
        ValueError: a row isn't a submission; the message names its columns.

    Example:
        >>> rows = [{"problem_id": "1/A", "source": "print(1)", "programmingLanguage": "Python 3", "verdict": "OK"}]
        >>> by_problem(rows)["1/A"]["solutions"]
        [{'language': 'Python 3', 'solution': 'print(1)'}]
    """
    found: dict[str, dict[str, list[dict[str, object]]]] = defaultdict(lambda: defaultdict(list))
    for position, row in enumerate(rows):
        _check_submission(row, position)
        group = group_of(first(row, *_VERDICT))
        if group is not None:
            item = {"language": first(row, *_SUBMITTED_IN), "solution": first(row, *_SUBMITTED)}
            found[_problem(row)][group] += read_solutions([item], "submissions")
    return found


def _check_submission(row: object, position: int) -> None:
    if isinstance(row, Mapping) and are_submissions(row):
        return
    about = ", ".join(map(str, row)) if isinstance(row, Mapping) else f"a {type(row).__name__}"
    raise ValueError(
        f"row {position} of submissions= is no submission ({about}): it needs problem_id, source and verdict"
    )


def _problem(row: Mapping[str, object]) -> str:
    name, index = column_of(row, *_PROBLEM) or "", first(row, *_INDEX)
    value = whole(row[name])
    return f"{value}/{index}" if name.startswith("contest") and index is not None else str(value)


def group_of(verdict: object) -> str | None:
    """Return the group of a submission with this verdict; None if it doesn't say whether the submission is right."""
    verdict = str(verdict).strip().lower().replace("_", " ")
    if verdict in _RIGHT:
        return "solutions"
    return None if _NEITHER.fullmatch(verdict) else "incorrect_solutions"
