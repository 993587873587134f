"""The types that describe a published shape of rows: how its rows are recognised, and the function that reads them.

Called by the thread that reads samples and by worker threads; the objects are immutable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nbrun.judge.datasets.solutions import read_solutions
from nbrun.judge.datasets.tests import Tests, read_tests, says_call
from nbrun.judge.datasets.values import LIMITS, has, limits_of

#: Columns with a problem's statement. The id of a problem without one is a digest of these and the tests.
STATEMENTS = ("question", "problem", "prompt", "description", "content", "text", "question_content", "statement")
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
#: Columns that are read from rows of every shape.
_OF_ALL = frozenset((*STATEMENTS, *SOLUTIONS, *LIMITS, *CARRIED, "starter_code"))


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
        columns: further columns of this shape. Only they and those of every shape are loaded from Parquet files.
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
        return _OF_ALL.union(needed, self.columns, self.ids)


_DEFINED = re.compile(r"^[ \t]*def\s+([A-Za-z]\w*)\s*\(", re.MULTILINE)


def starter_function(row: Mapping[str, object]) -> str | None:
    """Return the name of the function in a row's `starter_code`; None unless there is exactly one."""
    code = row.get("starter_code")
    names = set(_DEFINED.findall(code)) if isinstance(code, str) else set()
    return names.pop() if len(names) == 1 else None


def fields_of(
    row: Mapping[str, object], language: object = None, *, unit_s: float | None = None, **others: str
) -> dict[str, object]:
    """Return what rows of every shape may have: groups of solutions, limits, and keys that have the one shape already.

    Args:
        language: the language of solutions that don't name one.
        unit_s: the unit in seconds of a time limit without one; see `limits_of`.
        others: group -> the shape's column for it, which is read if the row has no column with the group's name.

    Raises:
        ValueError: a column can't be read.
    """
    fields: dict[str, object] = {}
    for group in SOLUTIONS:
        column = next((name for name in (group, others.get(group, group)) if has(row, name)), None)
        if column is not None:
            fields[group] = read_solutions(row[column], column, language)
        elif group in row:
            fields[group] = None
    return fields | limits_of(row, unit_s) | {key: row[key] for key in CARRIED if has(row, key)}
