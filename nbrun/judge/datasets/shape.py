"""What a published shape of rows is: how a row of it is known, and what reads it.

Called by the thread that reads samples and by worker threads; values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbrun.judge.datasets.tests import Tests, read_tests, says_call
from nbrun.judge.datasets.values import has, is_missing, megabytes, number, read_solutions, seconds

#: Statements of problems: with the tests, they tell a problem without an id from others.
STATEMENTS = ("question", "problem", "prompt", "description", "content", "text", "question_content", "statement")
#: Limits as nbrun's own rows and CodeContests' write them.
LIMITS = ("time_limit_s", "time_limit", "memory_limit_mb", "memory_limit_bytes", "memory_limit", "output_limit_mb")
#: Keys of the one shape that are taken as they are.
CARRIED = (
    "time_limit_from",
    "checker",
    "expected_verdicts",
    "not_supported",
    "stream_files",
    "harness",
    "interactive",
    "grading",
)
#: Read from a row of any shape; a user adds solutions to rows that come without.
SOLUTIONS = ("solutions", "incorrect_solutions")


@dataclass
class Draft:
    """A row as its shape's module has read it.

    Attributes:
        sets: the name of a set of tests -> its value, unread, as `nbrun.judge.datasets.tests` understands it.
        fields: keys of the one shape (see `nbrun.judge.problems`): groups of solutions, limits, checker and so on.
        function: the name of the function that tests call, where the row says it apart from them.
        starter: the name of the function that the row's starter code begins: what tests of the kind "call" mean that
            name none.
        read: what reads a set of tests: (value, name of the set, function) -> tests.
    """

    sets: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    function: str | None = None
    read: Callable[[Any, str, str | None], Tests] = read_tests
    starter: str | None = None

    def tests(self, name: str) -> Tests:
        """Return the tests of one set. Raises ValueError where they can't be read."""
        value = self.sets[name]
        if self.starter is not None and self.function is None and says_call(value):
            return self.read(value, name, self.starter)
        return self.read(value, name, self.function)


@dataclass(frozen=True)
class Shape:
    """One published shape.

    Attributes:
        name: what people call it.
        source: where it is published.
        needs: sets of columns; a row that holds something in all columns of one of them has this shape.
        columns: further columns that are read; of Parquet files no others are loaded.
        read: a row -> its draft. Raises ValueError where something can't be read; the message names the column.
        ids: columns that may hold the id, best first.
        also: what a row must fulfil besides.
    """

    name: str
    source: str
    needs: tuple[tuple[str, ...], ...]
    read: Callable[[Mapping[str, Any]], Draft]
    columns: tuple[str, ...] = ()
    ids: tuple[str, ...] = ("id", "name")
    also: Callable[[Mapping[str, Any]], bool] = field(default=lambda row: True)

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row has this shape."""
        return any(has(row, *columns) for columns in self.needs) and self.also(row)

    @property
    def all_columns(self) -> frozenset[str]:
        """Every column that reading such a row looks at."""
        needed = (name for names in self.needs for name in names)
        return frozenset((*needed, *self.columns, *self.ids, *STATEMENTS, *SOLUTIONS, "not_supported"))


_DEFINED = re.compile(r"^[ \t]*def\s+([A-Za-z]\w*)\s*\(", re.MULTILINE)


def starter_function(row: Mapping[str, Any]) -> str | None:
    """Return the name of the only function that a row's `starter_code` begins; None if there isn't one."""
    code = row.get("starter_code")
    names = set(_DEFINED.findall(code)) if isinstance(code, str) else set()
    return names.pop() if len(names) == 1 else None


def solutions_of(row: Mapping[str, Any], language: Any = None, **others: str) -> dict[str, Any]:
    """Return the groups of solutions of a row.

    Args:
        language: what the row says of solutions without a language of their own.
        others: group -> the column that the shape keeps it in, read where the row has no column of the group's name.

    Raises:
        ValueError: a column can't be read.
    """
    found: dict[str, Any] = {}
    for group in SOLUTIONS:
        column = group if not is_missing(row.get(group)) else others.get(group, group)
        if not is_missing(row.get(column)):
            found[group] = read_solutions(row[column], column, language)
        elif group in row:
            found[group] = None
    return found


def limits_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a row that gives seconds, and megabytes or bytes."""
    out: dict[str, Any] = {"time_limit_s": None, "memory_limit_mb": None}
    for key in ("time_limit_s", "time_limit"):
        if not is_missing(row.get(key)):
            out["time_limit_s"] = seconds(row[key], key)
            break
    for key, unit in (("memory_limit_mb", 1), ("memory_limit_bytes", 1 << 20), ("memory_limit", 0)):
        if not is_missing(row.get(key)):
            value = row[key]
            out["memory_limit_mb"] = megabytes(value, key) if not unit else number(value, key) / unit or None
            break
    if not is_missing(row.get("output_limit_mb")):
        out["output_limit_mb"] = number(row["output_limit_mb"], "output_limit_mb") or None
    return out


def carried(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the one shape that a row holds already."""
    return {key: row[key] for key in CARRIED if not is_missing(row.get(key))}
