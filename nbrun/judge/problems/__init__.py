"""Converts a problem row, in any of the shapes that data sets have, to one shape.

Called by the thread that reads samples and by worker threads; pure functions, no I/O. The one shape:

    {"id": "p1",
     "solutions": …, "incorrect_solutions": …,          items of `language` and `solution`, or structs of such lists
     "tests": [{"input": "1 2\\n", "output": "3\\n"}, …],
     "time_limit_s": 2.0 or None, "memory_limit_mb": 256.0 or None}

Where the row has them, the problem also gets these keys: `checker` (see `nbrun.judge.checkers.checker_of`),
`output_limit_mb`, `time_limit_from` (see `nbrun.judge.local`), `not_supported` (why the problem can't be judged here),
`expected_verdicts` (group -> the verdict of each of its items, or a list of acceptable verdicts), `expectations`
(submission -> what must hold of its tests, see `nbrun.judge.grading`), `stream_files`
(`{"input", "output"}`: the files that a program reads and writes instead of its streams), `harness` (see
`nbrun.judge.exchange`), `interactive` (programs talk to the validator) and `grading` (how many points groups of tests
give, see `nbrun.judge.grading`). A test may also have `name`, `flags`, `alternatives` (further outputs that are right),
`arguments` (command-line arguments of the program) and `files` (name -> content, in the program's folder). Inputs and
outputs are text, or bytes where they are not valid text.

`nbrun.judge.problems.shapes` describes the other shapes.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from nbrun.canonical import digest, key_text
from nbrun.errors import NotSupportedError
from nbrun.judge.problems.shapes import (
    CARRIED,
    ID_COLUMNS,
    NEEDED_COLUMNS,
    OWN,
    SOLUTIONS,
    STATEMENTS,
    TEST_SETS,
    Draft,
    Shape,
    nearest,
    shape_of,
)
from nbrun.judge.problems.solutions import are_submissions
from nbrun.judge.problems.tests import Tests, extras_of, read_tests
from nbrun.judge.problems.values import cells_of, first, given, has, is_missing, limits_of, plain, whole

#: For problems without a limit (real rows also hold null or 0).
TIME_LIMIT_S = 2.0
MEMORY_LIMIT_MB = 1024.0
#: Columns that are read regardless of `tests=`: rows with one of them keep all tests there.
_ALWAYS = ("tests", "test")
_FILE = re.compile(r"[\w+-][\w.+-]*", re.ASCII)
#: How rows write that a program reads or writes a standard stream.
_STANDARD = frozenset({"", "-", "stdin", "stdout", "standard input", "standard output"})

#: What reading a value of an unexpected type raises.
_UNEXPECTED = (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
_SHOWN = 20  # how many columns an error lists

#: A user's function that converts a row to any known shape, or returns None to leave it out.
Adapter = Callable[[Mapping[str, object]], Mapping[str, object] | None]


class Read(NamedTuple):
    """A row that was read.

    Attributes:
        problem: the row in the one shape.
        has_own_id: False if the row has no id and got one from a digest of its content.
    """

    problem: dict[str, object]
    has_own_id: bool


def read_row(row: Mapping[str, object], tests: Sequence[str] = TEST_SETS, keep: Sequence[str] = ()) -> Read:
    """Return a row in the one shape.

    Args:
        tests: the names of the sets of tests to take, in this order.
        keep: further keys of the row to keep.

    Raises:
        ValueError: a value of the row can't be read; the message names its key.

    Example:
        >>> row = {"name": "p", "public_tests": {"input": ["1"], "output": ["2"]}, "time_limit": {"seconds": 1}}
        >>> problem, has_own_id = read_row(row)
        >>> problem["tests"], problem["time_limit_s"], has_own_id
        ([{'input': '1', 'output': '2'}], 1.0, True)
    """
    kept = _picked(row, keep)
    if is_normal(row):
        return Read(_checked(row, tests) | kept, True)
    row = {name: _as_text(value) for name, value in row.items()}  # a file's columns may have the type binary
    shape = _shape_for(row, tests)
    try:
        problem, has_own_id = _read_as(shape, row, tests)
    except ValueError as e:
        raise ValueError(f"{e} (read as {shape.name}; it has {_listed(row)})") from e.__cause__
    except _UNEXPECTED as e:  # a row may hold anything, and one of them must not end the run of the others
        raise ValueError(f"it can't be read as {shape.name}: {e}; it has {_listed(row)}") from e
    return Read(problem | kept, has_own_id)


def _picked(row: Mapping[str, object], keys: Iterable[str]) -> dict[str, object]:
    return {key: row[key] for key in keys if key in row}


def _as_text(value: object) -> object:
    try:
        return bytes(value).decode() if isinstance(value, (bytes, bytearray, memoryview)) else value
    except UnicodeDecodeError:
        return value


def _read_as(shape: Shape, row: Mapping[str, object], tests: Sequence[str]) -> Read:
    draft = shape.read(row)
    name = draft.fields.pop("id", None)
    if is_missing(name):
        name = own_id(row, shape.ids)
    problem: dict[str, object] = {"id": made_id(row, shape) if name is None else name, **draft.fields}
    _read_sets(problem, draft, tests)
    if "stream_files" in problem:
        _settle_files(problem)
    return Read(problem, name is not None)


def _shape_for(row: Mapping[str, object], tests: Sequence[str]) -> Shape:
    """Return the shape of a row, nbrun's own if the user names its columns with tests; raise ValueError for others."""
    shape = shape_of(row)
    if shape is not None:
        return shape
    limits_of(row)  # reports a limit that can't be read before the unknown shape
    if not cells_of(row, {*tests}.difference(TEST_SETS)) and row.get("not_supported") is None:
        raise ValueError(_unknown(row))
    return OWN


# ---- tests


def _read_sets(problem: dict[str, object], draft: Draft, tests: Sequence[str]) -> None:
    """Add the tests of these sets to a problem, and the harness that they need; raise ValueError without any test."""
    found: dict[str, Tests] = {}
    for name in dict.fromkeys((*_ALWAYS, *tests)):
        if (read := _read_set(draft, name)) is not None:
            found[draft.column(name)] = read
    _add_tests(problem, found)
    if _lacks_tests(problem):
        raise ValueError(_no_test(draft, found))


def _lacks_tests(problem: Mapping[str, object]) -> bool:
    return not problem["tests"] and not problem.get("not_supported")


def _no_test(draft: Draft, found: Collection[str]) -> str:
    """Return an error message for a row whose columns with tests, as far as they were asked for, have none."""
    counted = ", ".join(f"{column}: 0" for column in found) or "none of the sets that were asked for"
    unread = ", ".join(column for column in map(draft.column, draft.sets) if column not in found)
    return f"it has no test ({counted})" + (f"; it has {unread}, which tests= leaves out" if unread else "")


def _read_set(draft: Draft, name: str) -> Tests | None:
    """Return the tests of a set, which may be a column that the user names; None if the row has no such set."""
    if name in draft.sets:
        return draft.tests(name)
    if name in (*TEST_SETS, *_ALWAYS) or is_missing(draft.row.get(name)):
        return None
    return read_tests(draft.row[name], name, draft.function)


def _add_tests(problem: dict[str, object], sets: Mapping[str, Tests]) -> None:
    """Add the tests of sets, by the names of their columns, to a problem; they must be of one kind."""
    whole = Tests([])
    for column, read in sets.items():
        if read.tests:
            whole = whole.joined(read, column) if whole.tests else read
    problem["tests"] = whole.tests
    if whole.harness:
        problem["harness"] = whole.harness


def is_normal(row: Mapping[str, object]) -> bool:
    """Return whether a row already has the one shape: only that shape has both keys of limits, even without limits."""
    has_limits = row.keys() >= {"time_limit_s", "memory_limit_mb"}
    return has_limits and has(row, "id") and not row.keys().isdisjoint((*_ALWAYS, *TEST_SETS))


def _checked(row: Mapping[str, object], tests: Sequence[str]) -> dict[str, object]:
    """Check a row that already has the one shape, and return it with its tests unchanged byte by byte."""
    problem: dict[str, object] = {"id": row["id"], **_picked(row, SOLUTIONS)}
    sets = given(row, dict.fromkeys((*_ALWAYS, *tests)))
    _add_tests(problem, {name: _exact_tests(value, name) for name, value in sets.items()})
    problem |= limits_of(row) | given(row, CARRIED)
    if _lacks_tests(problem):
        raise ValueError("it has no test")
    return problem


def _exact_tests(value: object, name: str) -> Tests:
    """Return tests unchanged if all of them have the one form."""
    if not isinstance(value, (list, tuple)) or not all(map(_is_exact, value)):
        return read_tests(value, name)
    return Tests([test if len(test) == 2 else _exact_test(test) for test in value])


def _is_exact(test: object) -> bool:
    return isinstance(test, Mapping) and {type(test.get("input")), type(test.get("output"))} <= {str, bytes}


def _exact_test(test: Mapping[str, Any]) -> dict[str, Any]:
    more = {key: test[key] for key in ("alternatives", "arguments", "files") if test.get(key)}
    return {"input": test["input"], "output": test["output"], **extras_of(test), **more}


def _settle_files(problem: dict[str, object]) -> None:
    """Check the names of a problem's files, and leave out those that mean a standard stream."""
    files = problem["stream_files"]
    if not isinstance(files, Mapping):
        raise ValueError(f"'stream_files' is a {type(files).__name__}, not a mapping with 'input' and 'output'")
    names = {side: name for side in ("input", "output") if (name := _file_name(files, side))}
    problem["stream_files"] = names
    if not names:
        del problem["stream_files"]


def _file_name(files: Mapping[str, object], side: str) -> str:
    """Return the name of the file for a side; empty if it is the standard stream."""
    name = str(first(files, side) or "").strip()
    if name.lower() in _STANDARD:
        return ""
    if not _FILE.fullmatch(name):
        raise ValueError(f"its {side} file is called {name[:40]!r}: give a plain name of letters, digits, . _ + -")
    return name


def no_solutions(problem: Mapping[str, object]) -> str | None:
    """Return an error message if a problem's row has no column of solutions at all, else None.

    A column that exists and is empty is not an error: the problem then has no tasks.
    """
    if any(group in problem for group in SOLUTIONS):
        return None
    return (
        f"it has no solutions to judge: no column {' or '.join(map(repr, SOLUTIONS))} (a list of 'language' and "
        "'solution'). Add one to the rows, by read_problems(…, adapter=…) or by submissions=."
    )


# ---- ids


def own_id(row: Mapping[str, object], columns: Iterable[str] = ID_COLUMNS) -> object:
    """Return a row's id, the first text or number in these columns; None if it has none.

    Example:
        >>> own_id({"id": float("nan"), "name": "A"}), own_id({"question": "?"})
        ('A', None)
    """
    return next((found for name in columns if (found := _as_id(row.get(name))) is not None), None)


def _as_id(value: object) -> object:
    if is_missing(value) or isinstance(value, (bool, Mapping, list, tuple)):
        return None
    value = plain(whole(value))  # numpy's numbers
    if isinstance(value, str) and not value.strip():
        return None
    return value if isinstance(value, (str, int)) else str(value)


def made_id(row: Mapping[str, object], shape: Shape) -> str:
    """Return an id for a row without one: a digest of its statement and its tests, independent of its position."""
    cells = cells_of(row, sorted({*chain(*shape.needed), *STATEMENTS}))
    about = {name: str(plain(value)) for name, value in cells.items()}
    return "row-" + key_text(digest(about)).rpartition(":")[2][:12]


# ---- error messages


def _unknown(row: Mapping[str, object]) -> str:
    if are_submissions(row):
        return "it is a submission, without the tests of its problem: read_problems(problems, submissions=…) joins them"
    needed = NEEDED_COLUMNS & row.keys()
    empty = sorted(needed - cells_of(row, needed).keys())
    if empty:
        return f"it has no test: its {' and '.join(map(repr, empty))} {'hold' if len(empty) > 1 else 'holds'} nothing"
    return (
        f"its shape isn't known: no column with tests is among {_listed(row)}. The nearest known shape "
        f"is that of {nearest(map(str, row))}. For rows of your own, give read_problems(…, adapter=a function: row -> "
        "{'id', 'tests': [{'input', 'output'}, …], 'solutions': [{'language', 'solution'}, …]})"
    )


def _listed(row: Mapping[str, object]) -> str:
    """Return the names of a row's columns, for an error message."""
    columns = sorted(map(str, row))
    more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
    return ", ".join(columns[:_SHOWN]) + more if columns else "no columns at all"


class RecentProblems:
    """A cache of the last few samples' problems in the one shape, since the tasks of a sample run close together.

    Args:
        tests: the names of the sets of tests to take.
        keep: how many problems to keep in the cache.
        check: called once for each problem; raises NotSupportedError if the problem can't be judged.

    Threads: every method may be called from any thread.
    """

    def __init__(
        self,
        tests: Sequence[str],
        keep: int,
        check: Callable[[str, Mapping[str, object]], None] = lambda name, problem: None,
    ) -> None:
        self._tests, self._keep, self._check = tuple(tests), keep, check
        self._lock = threading.Lock()  # protects _known
        # Keys are id(sample). The cache keeps the samples alive, so no other object can have the same id.
        self._known: OrderedDict[int, tuple[Mapping[str, object], dict[str, object]]] = OrderedDict()

    def of(self, sample: Mapping[str, object], name: str) -> dict[str, Any]:
        """Return a sample as a problem in the one shape.

        Raises:
            NotSupportedError: the problem can't be judged, has no tests, or can't be read.
        """
        with self._lock:
            known = self._known.get(id(sample))
        if known is not None:
            return known[1]
        problem = self._read(sample, name)
        with self._lock:
            self._known[id(sample)] = (sample, problem)
            while len(self._known) > self._keep:
                self._known.popitem(last=False)
        return problem

    def _read(self, sample: Mapping[str, object], name: str) -> dict[str, Any]:
        try:
            problem = read_row(sample, self._tests).problem
        except ValueError as e:
            raise NotSupportedError(f"problem {name!r} can't be judged, nothing can be said: {e}.") from None
        if problem.get("not_supported"):
            raise NotSupportedError(f"problem {name!r} is not supported: {problem['not_supported']}.")
        self._check(name, problem)
        return problem

    def forget(self) -> None:
        """Forget all problems, so that their samples can be freed."""
        with self._lock:
            self._known.clear()
