"""The type that describes a published shape of rows as a table: which columns its tests, solutions and limits are in.

Called by the thread that reads samples and by worker threads; a `Shape` is immutable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nbrun.judge.datasets.solutions import read_solutions
from nbrun.judge.datasets.tests import Tests, read_tests, says_call
from nbrun.judge.datasets.values import LIMITS, column_of, has, limits_of

Row = Mapping[str, object]

#: Where CodeContests keeps a problem's tests.
TEST_SETS = ("public_tests", "private_tests", "generated_tests")
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
_DEFINED = re.compile(r"^[ \t]*def\s+([A-Za-z]\w*)\s*\(", re.MULTILINE)


@dataclass
class Draft:
    """A row of a known shape, with tests that are not parsed yet.

    Attributes:
        sets: the name of a set of tests -> its raw value.
        columns: the name of a set of tests -> the column that it comes from, for messages.
        fields: keys of the one shape (see `nbrun.judge.problems`): groups of solutions, limits, checker and so on.
        function: the name of the function that tests call, if the row has it outside of the tests.
        read: parses a set of tests: (value, name of its column, function) -> tests.
    """

    row: Row
    sets: dict[str, object]
    columns: dict[str, str]
    fields: dict[str, object]
    function: str | None = None
    read: Callable[[object, str, str | None], Tests] = read_tests

    @property
    def starter(self) -> str | None:
        """The name of the function in the row's `starter_code`; None unless there is exactly one."""
        code = self.row.get("starter_code")
        names = set(_DEFINED.findall(code)) if isinstance(code, str) else set()
        return names.pop() if len(names) == 1 else None

    def tests(self, name: str) -> Tests:
        """Return the tests of one set. Calls of a function that isn't named are calls of the one in the starter code.

        Raises:
            ValueError: they can't be read.
        """
        value = self.sets[name]
        function = self.function or (self.starter if says_call(value) else None)
        return self.read(value, self.columns.get(name, name), function)


@dataclass(frozen=True)
class Shape:
    """One published shape.

    Attributes:
        name: its usual name.
        source: the addresses where it is published.
        sets: the name of a set of tests -> the columns that may hold it, best first.
        needs: sets of columns; a row has this shape if all columns of one of these sets aren't empty. If there are
            none, any column in `sets` is enough.
        also: a further condition that a row must meet.
        prepare: returns a row with parsed columns where the rest of this table must look into them.
        solutions, incorrect_solutions: columns with a group of solutions, which are read if the row has no column with
            the group's name.
        language: returns the language of solutions that don't name one.
        unit_s: the unit in seconds of a time limit without one; see `limits_of`.
        files: the side "input" or "output" -> columns with the name of the file that programs use for it.
        ids: columns that may contain the id, best first.
        columns: further columns. Only columns of a shape and those of every shape are loaded from Parquet files.
        finish: completes the draft of a row in what a table can't say. It raises ValueError if a column can't be read;
            the message names the column.
    """

    name: str
    source: str
    sets: Mapping[str, tuple[str, ...]]
    needs: tuple[tuple[str, ...], ...] = ()
    also: Callable[[Row], bool] = lambda row: True
    prepare: Callable[[Row], Row] = lambda row: row
    solutions: tuple[str, ...] = ()
    incorrect_solutions: tuple[str, ...] = ()
    language: Callable[[Row], object] = lambda row: None
    unit_s: float | None = None
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ids: tuple[str, ...] = ("id", "name")
    columns: tuple[str, ...] = ()
    finish: Callable[[Draft], None] = lambda draft: None

    @property
    def needed(self) -> tuple[tuple[str, ...], ...]:
        """Sets of columns, one of which a row of this shape has."""
        return self.needs or tuple((column,) for columns in self.sets.values() for column in columns)

    @property
    def all_columns(self) -> frozenset[str]:
        """All columns that are needed to read such a row."""
        lists = (*self.needed, *self.sets.values(), *self.files.values())
        named = (*self.solutions, *self.incorrect_solutions, *self.ids, *self.columns)
        return _OF_ALL.union(named, *lists)

    def fits(self, row: Row) -> bool:
        """Return whether a row has this shape."""
        return any(has(row, *columns) for columns in self.needed) and self.also(row)

    def read(self, row: Row) -> Draft:
        """Return the draft of a row of this shape.

        Raises:
            ValueError: a column can't be read; the message names it.
        """
        row = self.prepare(row)
        columns = _found(row, self.sets)
        draft = Draft(row, {name: row[column] for name, column in columns.items()}, columns, self._fields(row))
        self.finish(draft)
        return draft

    def _fields(self, row: Row) -> dict[str, object]:
        fields: dict[str, object] = dict.fromkeys(group for group in SOLUTIONS if group in row)
        groups = {"solutions": self.solutions, "incorrect_solutions": self.incorrect_solutions}
        language = self.language(row)
        for group, column in _found(row, {group: (group, *others) for group, others in groups.items()}).items():
            fields[group] = read_solutions(row[column], column, language)
        fields |= limits_of(row, self.unit_s) | {key: row[key] for key in CARRIED if has(row, key)}
        files = {side: row[column] for side, column in _found(row, self.files).items()}
        return fields | ({"stream_files": files} if files else {})


def _found(row: Row, columns: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the first column of each that isn't empty in a row."""
    found = {name: column_of(row, *names) for name, names in columns.items()}
    return {name: column for name, column in found.items() if column is not None}


def in_python(row: Row) -> str:
    """Return the language of solutions in data sets that are all in Python."""
    return "PYTHON3"
