"""The types that describe a published shape of rows: how its rows are recognised, and the function that reads them.

Called by the thread that reads samples and by worker threads; the objects are immutable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nbrun.judge.datasets.tests import Tests, read_tests, says_call
from nbrun.judge.datasets.values import has, is_missing, megabytes, number, read_solutions, seconds

#: Columns with a problem's statement. The id of a problem without one is a digest of these and the tests.
STATEMENTS = ("question", "problem", "prompt", "description", "content", "text", "question_content", "statement")
#: Columns with limits in nbrun's own rows and in CodeContests.
LIMITS = ("time_limit_s", "time_limit", "memory_limit_mb", "memory_limit_bytes", "memory_limit", "output_limit_mb")
#: Keys of the one shape that are copied unchanged.
CARRIED = (
    "time_limit_from",
    "checker",
    "expected_verdicts",
    "expectations",
    "not_supported",
    "stream_files",
    "harness",
    "interactive",
    "grading",
)
#: Read from rows of every shape, since users add solutions to data sets without them.
SOLUTIONS = ("solutions", "incorrect_solutions")


@dataclass
class Draft:
    """A row after its shape's module has read it, with tests that are not parsed yet.

    Attributes:
        sets: the name of a set of tests -> its raw value.
        fields: keys of the one shape (see `nbrun.judge.problems`): groups of solutions, limits, checker and so on.
        function: the name of the function that tests call, if the row has it outside of the tests.
        starter: the name of the function in the row's starter code, for tests that call a function without naming it.
        columns: the name of a set of tests -> the column that it comes from, where that has another name.
        read: parses a set of tests: (value, name of its column, function) -> tests.
    """

    sets: dict[str, object] = field(default_factory=dict)
    fields: dict[str, object] = field(default_factory=dict)
    function: str | None = None
    read: Callable[[object, str, str | None], Tests] = read_tests
    starter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """Return the column that a set of tests comes from, for messages."""
        return self.columns.get(name, name)

    def tests(self, name: str) -> Tests:
        """Return the tests of one set.

        Raises:
            ValueError: they can't be read.
        """
        value = self.sets[name]
        function = self.function
        if function is None and self.starter is not None and says_call(value):
            function = self.starter
        return self.read(value, self.column(name), function)


@dataclass(frozen=True)
class Shape:
    """One published shape.

    Attributes:
        name: its usual name.
        source: the address where it is published.
        needs: sets of columns; a row has this shape if all columns of one of these sets aren't empty.
        columns: further columns that are read; no other columns are loaded from Parquet files.
        read: returns the draft of a row. It raises ValueError if a column can't be read; the message names the column.
        ids: columns that may contain the id, best first.
        also: a further condition that a row must meet.
    """

    name: str
    source: str
    needs: tuple[tuple[str, ...], ...]
    read: Callable[[Mapping[str, object]], Draft]
    columns: tuple[str, ...] = ()
    ids: tuple[str, ...] = ("id", "name")
    also: Callable[[Mapping[str, object]], bool] = field(default=lambda row: True)

    def fits(self, row: Mapping[str, object]) -> bool:
        """Return whether a row has this shape."""
        return any(has(row, *columns) for columns in self.needs) and self.also(row)

    @property
    def all_columns(self) -> frozenset[str]:
        """All columns that are needed to read such a row."""
        needed = (name for names in self.needs for name in names)
        return frozenset((*needed, *self.columns, *self.ids, *STATEMENTS, *SOLUTIONS, "not_supported"))


_DEFINED = re.compile(r"^[ \t]*def\s+([A-Za-z]\w*)\s*\(", re.MULTILINE)


def starter_function(row: Mapping[str, object]) -> str | None:
    """Return the name of the function in a row's `starter_code`; None unless there is exactly one."""
    code = row.get("starter_code")
    names = set(_DEFINED.findall(code)) if isinstance(code, str) else set()
    return names.pop() if len(names) == 1 else None


def solutions_of(row: Mapping[str, object], language: object = None, **others: str) -> dict[str, object]:
    """Return the groups of solutions of a row.

    Args:
        language: the language of solutions that don't name one.
        others: group -> the shape's column for it, which is read if the row has no column with the group's name.

    Raises:
        ValueError: a column can't be read.
    """
    found: dict[str, object] = {}
    for group in SOLUTIONS:
        column = group if not is_missing(row.get(group)) else others.get(group, group)
        if not is_missing(row.get(column)):
            found[group] = read_solutions(row[column], column, language)
        elif group in row:
            found[group] = None
    return found


def limits_of(row: Mapping[str, object]) -> dict[str, object]:
    """Return the limits of a row that writes them in seconds and in megabytes or bytes."""
    out: dict[str, object] = {"time_limit_s": None, "memory_limit_mb": None}
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


def carried(row: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a row that already have the one shape."""
    return {key: row[key] for key in CARRIED if not is_missing(row.get(key))}
