"""The shapes in which published data sets write problems: a table for each, and what a table can't say of it.

To add a shape, write its table (`Shape`), and add it to `SHAPES`. `nbrun/docs/datasets.md` shows a row of each, and a
test judges these rows. Called by the thread that reads samples and by worker threads; pure functions, immutable tables.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

from nbrun.judge.languages import language_name
from nbrun.judge.problems.solutions import group_of, read_solutions
from nbrun.judge.problems.tests import Tests, check_of, code_tests, read_test_file, read_tests, says_call
from nbrun.judge.problems.values import (
    LIMITS,
    cells_of,
    column_of,
    first,
    has,
    is_json_text,
    is_missing,
    limits_of,
    mapping_in,
    number,
    parsed,
    plain,
    text_of,
)
from nbrun.samples import read_items
from nbrun.tuning import TUNING
from nbrun.verdicts import mapping

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

    def column(self, name: str) -> str:
        """Return the column of a set of tests."""
        return self.columns.get(name, name)

    def tests(self, name: str) -> Tests:
        """Return the tests of one set. Calls of a function that isn't named are calls of the one in the starter code.

        Raises:
            ValueError: they can't be read.
        """
        value = self.sets[name]
        function = self.function or (self.starter if says_call(value) else None)
        return self.read(value, self.column(name), function)


@dataclass(frozen=True)
class Shape:
    """One published shape.

    Attributes:
        name: its usual name, with which `nbrun/docs/datasets.md` says where it is published.
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
        fields: dict[str, object] = dict.fromkeys(filter(row.__contains__, SOLUTIONS))
        groups = {"solutions": self.solutions, "incorrect_solutions": self.incorrect_solutions}
        language = self.language(row)
        for group, column in _found(row, {group: (group, *others) for group, others in groups.items()}).items():
            fields[group] = read_solutions(row[column], column, language)
        fields |= limits_of(row, self.unit_s) | cells_of(row, CARRIED)
        if files := _found(row, self.files):
            fields["stream_files"] = {side: row[column] for side, column in files.items()}
        return fields


def _found(row: Row, columns: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the first column of each that isn't empty in a row."""
    found = {name: column_of(row, *names) for name, names in columns.items()}
    return {name: column for name, column in found.items() if column is not None}


def in_python(row: Row) -> str:
    """Return the language of solutions in data sets that are all in Python."""
    return "PYTHON3"


# ---- contests: CodeContests and its successors, APPS, TACO, xCodeEval, rStar-Coder, CURE

#: Tests are structs of lists, a limit is `{"seconds", "nanos"}`, file names are empty for the standard streams.
CODECONTESTS = Shape(
    "CodeContests",
    sets={name: (name,) for name in ("tests", "test", *TEST_SETS)},
    needs=tuple((name,) for name in TEST_SETS),
    files={"input": ("input_file",), "output": ("output_file",)},
)
#: Limits are in milliseconds and megabytes, the checker is a program in C++ with testlib.
PLUS = Shape(
    "CodeContests+",
    sets={"tests": ("test_cases",)},
    needs=(("test_cases", "correct_submissions"), ("test_cases", "incorrect_submissions"), ("correct_submissions",)),
    solutions=("correct_submissions",),
    incorrect_solutions=("incorrect_submissions",),
    unit_s=1e-3,
    ids=("id", "name", "title"),
)
#: Tests are in SandboxFusion's form. The solutions are in the row of CodeContests; users join them.
O = Shape(  # noqa: E741  # its name
    "CodeContests-O",
    sets={"tests": ("corner_cases",)},
)

_CONTEST_IDS = ("id", "problem_id", "url")
#: The execution outcome of xCodeEval of which it doesn't follow whether a solution is right.
_NOT_COMPILED = "COMPILATION_ERROR"


def _name_problem(draft: Draft) -> None:
    """Make an id from a name. Sets from several judges have many problems called "Sum", so a digest is added."""
    if column_of(draft.row, *_CONTEST_IDS, "name") == "name":
        digest = hashlib.sha256(str(draft.row.get("question")).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        draft.fields["id"] = f"{draft.row['name']} {digest}"


#: Tests are `{"inputs", "outputs"}`, with `fn_name` if they call a function; limits are "2.0 seconds", "256 megabytes".
INPUT_OUTPUT = Shape(
    "APPS, TACO",
    sets={"tests": ("input_output",)},
    language=in_python,
    ids=_CONTEST_IDS,
    columns=("name",),
    finish=_name_problem,
)


def _by_outcome(draft: Draft) -> None:
    """Name a source, and put it into the group of its outcome: any judge may have rejected it."""
    row, fields = draft.row, draft.fields
    if has(row, "source_code", "src_uid", "code_uid") and not has(row, "apr_id"):
        fields["id"] = f"{row['src_uid']}/{row['code_uid']}"  # a problem has a row for each of its sources
    if not has(row, "solutions") and has(row, "source_code", "exec_outcome") and row["exec_outcome"] != "PASSED":
        fields["incorrect_solutions"] = fields.pop("solutions")
    if _NOT_COMPILED in (first(row, "exec_outcome"), first(row, "bug_exec_outcome")):
        fields["incorrect_solutions"] = []


#: Tests have lists of right outputs. Loaders give the columns of a problem's description the prefix `prob_desc_`.
XCODEEVAL = Shape(
    "xCodeEval",
    sets={"tests": ("hidden_unit_tests", "hidden_unit_test", "unit_tests", "unittests")},
    needs=(("hidden_unit_tests",), ("hidden_unit_test",), ("src_uid", "unit_tests"), ("unittests",)),
    solutions=("source_code", "fix_source_code"),
    incorrect_solutions=("bug_source_code",),
    language=lambda row: first(row, "lang"),
    files={"input": ("input_from", "prob_desc_input_from"), "output": ("output_to", "prob_desc_output_to")},
    ids=("apr_id", "src_uid", "prob_desc_id", "id"),
    columns=("lang", "code_uid", "exec_outcome", "bug_exec_outcome"),
    finish=_by_outcome,
)


def _pair(draft: Draft) -> None:
    """Put the column of inputs and the one of outputs together; each may be the JSON text of a list."""
    column = draft.columns["tests"]
    other = column.replace("input", "output")
    values = {"inputs": draft.row[column], "outputs": draft.row[other]}
    draft.function = first(draft.row, "func_name", "fn_name")
    if draft.function or all(isinstance(value, str) and value.lstrip()[:1] == "[" for value in values.values()):
        values = {name: parsed(value, name) for name, value in values.items()}
    draft.sets = {"tests": values}


#: Inputs and outputs are columns of their own.
COLUMNS = Shape(
    "rStar-Coder, CURE",
    sets={"tests": ("inputs", "test_input")},
    needs=(("inputs", "outputs"), ("test_input", "test_output")),
    solutions=("solution",),
    language=lambda row: first(row, "language"),
    ids=("id", "question_id", "task_id", "problem_id", "name"),
    columns=("func_name", "fn_name", "language"),
    finish=_pair,
)


# ---- LiveCodeBench: public tests are JSON text; private ones are JSON, or base64 of zlib of a pickle of JSON text

#: Tests that are JSON, or none.
_NOT_ENCODED = re.compile(r"\s*(?:[\[{]|(?:null\s*)?\Z)")
_STRUCTURES = re.compile(r"^(?!\s*#).*\b(ListNode|TreeNode)\b", re.MULTILINE)


def _livecodebench(draft: Draft) -> None:
    draft.read = _livecodebench_tests
    draft.function = mapping_in(first(draft.row, "metadata"), "metadata").get("func_name")
    if found := _STRUCTURES.search(text_of(draft.row, "starter_code")):
        draft.fields["not_supported"] = f"functions that take a {found[1]}"
    if draft.function is None and any(map(says_call, draft.sets.values())):
        draft.function = draft.starter  # private tests are encoded, but have the same kind as the public ones


def _livecodebench_tests(value: object, where: str, function: str | None) -> Tests:
    is_encoded = isinstance(value, str) and not _NOT_ENCODED.match(value)
    return read_tests(decoded(str(value), where) if is_encoded else value, where, function)


def decoded(text: str, where: str) -> object:
    """Decode tests that are base64 of zlib of a pickle of JSON text, or of JSON text.

    Raises:
        ValueError: the text is anything else, or is decompressed to more than `TUNING.livecodebench_max_bytes`.
    """
    data = _decompressed(text, where)
    try:
        value = load_text_and_lists(data) if data[:1] == b"\x80" else data.decode()
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{where!r} can't be decoded: {e}") from None


def _decompressed(text: str, where: str) -> bytes:
    most = TUNING.livecodebench_max_bytes
    try:
        packed = base64.b64decode("".join(text.split()), validate=True)
        unpack = zlib.decompressobj()
        data = unpack.decompress(packed, most)
    except (binascii.Error, zlib.error, ValueError) as e:
        raise ValueError(f"{where!r} is neither JSON nor base64 of zlib: {e}") from None
    if unpack.unconsumed_tail or not unpack.eof:
        raise ValueError(f"{where!r} is cut off, or takes more than {most >> 20} MiB once it is decompressed")
    return data


def load_text_and_lists(data: bytes) -> object:
    """Return the value of a pickle of text and lists of text.

    Raises:
        ValueError: the pickle has any other value.

    Example:
        >>> import pickle
        >>> load_text_and_lists(pickle.dumps(["a", ["b"]]))
        ['a', ['b']]
    """
    import pickletools  # only needed for such tests

    reader = _PickleReader([], [], {})
    try:
        for opcode, argument, at in pickletools.genops(data):
            if opcode.name not in _STEPS:
                raise ValueError(f"the pickle holds more than text and lists (opcode {opcode.name} at {at})")
            _STEPS[opcode.name](reader, argument)
    except (IndexError, KeyError):
        raise ValueError("the pickle is cut off or damaged") from None
    if len(reader.stack) != 1:
        raise ValueError("the pickle is damaged")
    return reader.stack[0]


@dataclass
class _PickleReader:
    """The state of reading a pickle: what is left on its stack, and what it may refer to again."""

    stack: list[object]
    marks: list[int]
    memo: dict[int, object]

    def put(self, number: int) -> None:
        """Remember the last value under a number."""
        self.memo[number] = self.stack[-1]

    def get(self, number: int) -> None:
        """Repeat an earlier text.

        Repeated lists are refused, since a list that contains itself, or is in many others, would be endless in JSON.
        """
        if not isinstance(value := self.memo[number], str):
            raise ValueError("the pickle holds a list twice")
        self.stack.append(value)

    def append(self, begin: int) -> None:
        """Move the values from a place of the stack on into the list before them."""
        values = self.stack[begin:]
        del self.stack[begin:]
        if not self.stack or not isinstance(self.stack[-1], list):
            raise ValueError("the pickle is damaged")
        self.stack[-1].extend(values)


#: Opcodes of pickle -> what they do with their argument.
_STEPS: dict[str, Callable[[_PickleReader, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda reader, _: None),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), lambda reader, text: reader.stack.append(text)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _PickleReader.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _PickleReader.get),
    "MEMOIZE": lambda reader, _: reader.put(len(reader.memo)),
    "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
    "MARK": lambda reader, _: reader.marks.append(len(reader.stack)),
    "APPEND": lambda reader, _: reader.append(len(reader.stack) - 1),
    "APPENDS": lambda reader, _: reader.append(reader.marks.pop()),
}

LIVECODEBENCH = Shape(
    "LiveCodeBench",
    sets={"public_tests": ("public_test_cases",), "private_tests": ("private_test_cases",)},
    ids=("question_id", "id", "question_title"),
    columns=("metadata",),
    finish=_livecodebench,
)


# ---- Open R1: Codeforces with all of its tests, and subtasks of the IOI

#: The files that programs read and write if a problem's `input_mode` is "file".
FILES = {"input": "input.txt", "output": "output.txt"}


def _codeforces(draft: Draft) -> None:
    """Read how programs exchange data, the checker, and the official tests, or the examples if there are none.

    The official tests include the examples. The checker is a Python program: `checker.py input.txt correct_output.txt
    solution_output.txt` prints 1 or 0. `generated_tests` is only a number: the data set has those tests in files of
    their own, one for each contest. codeforces-cots has the sets of tests of CodeContests instead, and people's
    solutions; those that no judge rejected, such as one that didn't compile, are in no group.
    """
    row = draft.row
    draft.columns = _sets_of(row)
    draft.sets = {name: row.get(column) for name, column in draft.columns.items()}
    draft.fields |= _exchange(row)
    if has(row, "generated_checker"):
        draft.fields["checker"] = {"type": "prints_score", "language": "PYTHON3", "source": row["generated_checker"]}
    if not has(row, "incorrect_solutions") and (failed := draft.fields.get("incorrect_solutions")):
        draft.fields["incorrect_solutions"] = [item for item in read_items(failed)[0] if not _is_unjudged(item)]


def _sets_of(row: Row) -> dict[str, str]:
    """Return the name of each set of tests -> its column."""
    columns = dict(zip(TEST_SETS, TEST_SETS, strict=True))
    if not _is_empty(row.get("official_tests")):
        columns = {"private_tests": "official_tests", "generated_tests": "generated_tests"}
    found = {name: column for name, column in columns.items() if not _is_empty(row.get(column))}
    return found or {"public_tests": "examples"}


def _is_unjudged(item: object) -> bool:
    return isinstance(item, Mapping) and group_of(item.get("verdict", "wrong")) is None


def _is_empty(tests: object) -> bool:
    """Return whether a set holds no test: an empty list, a struct of empty lists, or only a number of tests."""
    tests = plain(tests)
    if isinstance(tests, Mapping):
        return all(map(_is_empty, tests.values()))
    return is_missing(tests) or tests in ([], "[]") or isinstance(tests, (int, float))


def _exchange(row: Row) -> dict[str, object]:
    """Return how programs get their input and give their output, or why that isn't supported."""
    mode = text_of(row, "input_mode").strip().lower()
    if has(row, "interaction_format"):
        return {"not_supported": "interactive problems of data sets: the interactor isn't in the row"}
    if mode == "file":
        return {"stream_files": FILES}
    return {} if mode in ("", "stdio") else {"not_supported": f"input_mode {mode!r}"}


def _ioi(draft: Draft) -> None:
    """Name a subtask, and mark it as not supported if it needs a grader, a manager or another data set's tests."""
    row = draft.row
    if refusal := _refusal_of_ioi(row, bool(draft.sets)):
        draft.fields["not_supported"] = refusal
    name, subtask = str(first(row, "id", "name")), row.get("subtask")
    draft.fields["id"] = name if is_missing(subtask) else f"{name}/{subtask}"


def _refusal_of_ioi(row: Row, has_tests: bool) -> str | None:
    task = text_of(row, "task_type") or "Batch"
    if task != "Batch":
        return f"IOI tasks of type {task}"
    grader = plain(first(row, "grader_files"))
    if grader and grader not in ("[]", "{}"):
        return "IOI tasks whose solutions are linked with a grader (grader_files)"
    return None if has_tests else "IOI subtasks whose tests lie in open-r1/ioi-test-cases: add them as `tests`"


#: Limits are in seconds and megabytes.
CODEFORCES = Shape(
    "open-r1/codeforces",
    sets={
        "private_tests": ("official_tests",),
        "generated_tests": ("generated_tests",),
        "public_tests": ("examples",),
    },
    needs=(("official_tests",), ("examples", "input_mode"), ("examples", "contest_id")),
    solutions=("accepted_solutions",),
    incorrect_solutions=("failed_solutions",),
    columns=("aliases", "input_mode", "interaction_format", "generated_checker", *TEST_SETS),
    finish=_codeforces,
)
#: Limits are in seconds and bytes.
IOI = Shape(
    "open-r1/ioi",
    sets={"tests": ("tests", "test_cases")},
    needs=(("subtask", "test_names"), ("subtask", "grader_files"), ("subtask", "task_type")),
    columns=("task_type", "grader_files"),
    finish=_ioi,
)


# ---- test code: HumanEval and its relatives, BigCodeBench, MBPP, KodCode

_CODE_IDS = ("task_id", "id", "name")
#: What the authors of BigCodeBench allow at least for the tests of a solution, in seconds.
_BIGCODEBENCH_S = 20.0
#: What the authors of LeetCodeDataset allow for all calls of a function, often more than a hundred, in seconds.
_LEETCODE_S = 10.0


# ---- solutions that continue a prompt


def _complete(draft: Draft, prompt: str, name: str) -> None:
    """Put the prompt before each solution that doesn't define the function itself."""
    for group in SOLUTIONS:
        items = draft.fields.get(group)
        if isinstance(items, list):
            draft.fields[group] = [_completed(item, prompt, name) for item in items]


def _completed(item: Any, prompt: str, name: str) -> Any:
    code = item.get("solution") if isinstance(item, Mapping) else None
    return {**item, "solution": _after_prompt(code, prompt, f"def {name}(")} if isinstance(code, str) else item


def _after_prompt(code: str, prompt: str, definition: str) -> str:
    """Put the prompt before code; if that defines the function, only the part of the prompt above the function."""
    if definition not in code:
        return prompt + code
    head, defined, _ = prompt.partition(definition)
    if defined and head.rpartition("\n")[2].strip():  # the function doesn't begin a line
        return code
    is_there = head.strip() in code or "from __future__" in code
    return code if is_there else f"{head.rstrip()}\n\n\n{code}"


# ---- HumanEval


def _humaneval(draft: Draft) -> None:
    """Read `test`, which defines `check`, a function that gets the solution's function `entry_point`."""
    row = draft.row
    entry: Any = row["entry_point"]
    if "def check(" not in text_of(row, "test"):
        raise ValueError("'test' defines no function `check`, so nothing is known of how it is run")
    if column_of(row, "completion"):
        draft.fields["time_limit_s"] = draft.fields["time_limit_s"] or _LEETCODE_S
    _complete(draft, text_of(row, "prompt"), str(entry).rpartition(".")[2])
    draft.read = lambda code, where, _: check_of(str(code), entry, where)


#: `canonical_solution` continues `prompt`; in LeetCodeDataset the solution is `completion`, and `input_output` shows
#: some of the calls in `test`.
HUMANEVAL = Shape(
    "HumanEval, EvalPlus",
    sets={"tests": ("test",)},
    needs=(("entry_point", "test"),),
    also=lambda row: isinstance(row["test"], str),
    solutions=("canonical_solution", "completion"),
    language=in_python,
    ids=_CODE_IDS,
    columns=("prompt",),
    finish=_humaneval,
)


def _test_language(row: Row) -> str:
    """Return the language of a row's solutions and tests: as a column, or at the beginning of the id ("CPP/0")."""
    return str(first(row, "language") or str(row.get("task_id")).partition("/")[0])


def _translated(draft: Draft) -> None:
    """Read the rows in Python, whose `test` calls `check` itself; mark the others as not supported."""
    if refusal := _refusal_of_code(_test_language(draft.row)):
        draft.fields["not_supported"] = refusal
        draft.sets = {}
    elif column_of(draft.row, "entry_point"):
        _humaneval(draft)
    else:
        declared = text_of(draft.row, "declaration").rpartition("def ")[2]
        _complete(draft, text_of(draft.row, "prompt"), declared.partition("(")[0])
        draft.read = lambda code, where, _: code_tests([code], where)


def _refusal_of_code(language: object) -> str | None:
    """Return why test code in a language isn't judged; None if it is Python 3."""
    meant = language_name(language)
    return None if meant is not None and meant.language == "PYTHON3" else f"test code in {language}"


#: HumanEval in several languages: only the rows in Python are judged.
TRANSLATED = Shape(
    "HumanEval-X, HumanEval-XL, MultiPL-E",
    sets={"tests": ("test", "tests")},
    needs=(("declaration", "test"), ("entry_point", "test", "language"), ("prompt", "tests", "stop_tokens")),
    solutions=("canonical_solution",),
    language=_test_language,
    ids=_CODE_IDS,
    columns=("prompt", "declaration", "entry_point", "language"),
    finish=_translated,
)


def _bigcodebench(draft: Draft) -> None:
    """Read each test method of the class `TestCases`. The libraries in `libs` must be installed where it is run."""
    _complete(draft, text_of(draft.row, "code_prompt"), text_of(draft.row, "entry_point"))
    draft.fields["time_limit_s"] = draft.fields["time_limit_s"] or _BIGCODEBENCH_S
    libs = parsed(first(draft.row, "libs") or [], "libs")
    needs = {str(lib) for lib in (libs if isinstance(libs, list) else [])} - sys.stdlib_module_names
    draft.read = lambda code, where, _: read_test_file(str(code), where).needing(needs)


#: `canonical_solution` continues `code_prompt`.
BIGCODEBENCH = Shape(
    "BigCodeBench",
    sets={"tests": ("test",)},
    needs=(("code_prompt", "entry_point", "test"),),
    solutions=("canonical_solution",),
    language=in_python,
    ids=_CODE_IDS,
    columns=("libs",),
    finish=_bigcodebench,
)

# ---- EvalPlus's files

#: Compares a solution with the reference on all inputs. Both get copies, since some functions change their arguments.
_EVALPLUS = """
import copy, json, math

def _same(want, got, atol):
    if isinstance(want, (list, tuple)) and isinstance(got, (list, tuple)):
        return len(want) == len(got) and all(_same(w, g, atol) for w, g in zip(want, got))
    if isinstance(want, float) and isinstance(got, (int, float)):
        return want == got or math.isclose(want, got, rel_tol=1e-7, abs_tol=atol or 1e-6)
    return want == got

_reference = {{"__name__": "reference"}}
exec({reference}, _reference)
for _given in json.loads({inputs}):
    _want = _reference[{entry}](*copy.deepcopy(_given))
    _got = globals()[{entry}](*copy.deepcopy(_given))
    assert _same(_want, _got, {atol}), (_given, _want, _got)
"""


def _evalplus(draft: Draft) -> None:
    """Read inputs without results: `canonical_solution` computes the expected results in the same run.

    The inputs are JSON; `atol` is the allowed error of a number. Each of the two sets is one test.
    """
    row = draft.row
    entry, prompt = text_of(row, "entry_point"), text_of(row, "prompt")
    reference = _completed({"solution": text_of(row, "canonical_solution")}, prompt, entry)["solution"]
    known = {"entry": entry, "reference": reference, "atol": number(first(row, "atol") or 0, "atol")}
    _complete(draft, prompt, entry)
    draft.sets = {name: value for name, value in draft.sets.items() if plain(value)}
    draft.read = lambda value, where, _: _evalplus_tests(value, where, known)


def _evalplus_tests(value: object, where: str, known: Mapping[str, object]) -> Tests:
    values = {**known, "inputs": json.dumps(parsed(value, where), default=plain)}
    return code_tests([_EVALPLUS.format(**{name: repr(value) for name, value in values.items()})], where)


EVALPLUS = Shape(
    "EvalPlus's files",
    sets={"tests": ("base_input",), "private_tests": ("plus_input",)},
    needs=(("entry_point", "base_input", "canonical_solution"),),
    solutions=("canonical_solution",),
    language=in_python,
    ids=_CODE_IDS,
    columns=("prompt", "atol"),
    finish=_evalplus,
)

# ---- MBPP, KodCode


def _mbpp(draft: Draft) -> None:
    """Read each assertion of `test_list` as a test that begins with `test_setup_code` or `test_imports`.

    `challenge_test_list` is a set of its own. The code in EvalPlus's further column `test` is the last test.
    """
    row = draft.row
    lines = map(str, plain(first(row, "test_imports")) or ())
    before = "\n".join([*lines, text_of(row, "test_setup_code")])
    last = row.get("test")
    draft.read = lambda value, where, _: _mbpp_tests(value, where, before, last if where == "test_list" else None)


def _mbpp_tests(value: object, where: str, before: str, last: object) -> Tests:
    codes: Any = plain(parsed(value, where))
    tests = code_tests(codes, where, before)
    return tests.joined(code_tests([last], "test"), "test") if isinstance(last, str) and last.strip() else tests


MBPP = Shape(
    "MBPP, MBPP+, OpenCoder",
    sets={"tests": ("test_list", "testcase"), "challenge_test_list": ("challenge_test_list",)},
    needs=(("test_list",), ("testcase", "entry_point")),
    solutions=("code",),
    language=in_python,
    ids=(*_CODE_IDS, "seq_id"),
    columns=("test", "test_imports", "test_setup_code"),
    finish=_mbpp,
)


def _kodcode(draft: Draft) -> None:
    draft.read = lambda code, where, _: read_test_file(str(code), where)


def _has_test_file(row: Row) -> bool:
    code = first(row, "test_code", "test")
    return _is_code(code) and "def test" in code


#: Tests are the functions `test_…` of a file that imports the tested function from `solution`.
KODCODE = Shape(
    "KodCode",
    sets={"tests": ("test_code", "test")},
    needs=(("test_code", "solution"), ("test", "solution"), ("test_code", "solutions"), ("test_code", "question_id")),
    also=_has_test_file,
    solutions=("solution",),
    language=in_python,
    ids=("question_id", "id", "name"),
    finish=_kodcode,
)


# ---- rewards: rows for reinforcement learning, with tests in the column for the reward

_REWARD_COLUMNS = ("reward_model", "reward_spec", "verification_info", "ground_truth", "test_cases", "unit_tests")


def _prepare_reward(row: Row) -> Row:
    """Return a row with the column for the reward parsed."""
    column = column_of(row, *_REWARD_COLUMNS)
    if column is None or column == "test_cases":
        return row
    return {**row, column: _parsed_reward(row, row[column], column)}


def _about(row: Row) -> Mapping[str, object]:
    """Return the value of the column for the reward, if it is a mapping."""
    return mapping_in(plain(first(row, *_REWARD_COLUMNS)), "")


def _rewards(draft: Draft) -> None:
    """Read what the column for the reward holds besides tests: limits, a function, how programs read their input."""
    row, fields, about = draft.row, draft.fields, _about(draft.row)
    if has(about, "ground_truth"):
        draft.columns["tests"] += ".ground_truth"
        draft.sets["tests"] = _parsed_reward(row, about["ground_truth"], draft.columns["tests"])
    fields |= {key: limit for key, limit in limits_of(about).items() if fields.get(key) is None}
    if about.get("input_mode") == "file":
        fields["stream_files"] = FILES
    draft.function = first(row, "fn_name") or first(about, "fn_name")
    if column_of(row, *REWARDS.ids) is None:
        fields["id"] = _place_of(row)


def _place_of(row: Row) -> str | None:
    """Return the place of a row in its data set as its id; None if the row doesn't say it."""
    extra = mapping_in(first(row, "extra_info"), "extra_info")
    parts = (row.get("data_source"), extra.get("split"), extra.get("index"))
    return "/".join(str(part) for part in parts if not is_missing(part)) if has(extra, "index") else None


def _parsed_reward(row: Row, value: object, column: str) -> object:
    """Return the parsed value of a column; raise ValueError if it isn't tests but, say, the answer of a calculation."""
    try:
        value = parsed(value, column)
        problem = f"{column!r} holds {str(value)[:40]!r}"
    except ValueError as e:
        problem = str(e)
    if isinstance(value, (Mapping, list)):
        return value
    kind = first(row, "ability", "data_source", "task_type") or "its kind isn't said"
    raise ValueError(f"{problem}, which is no test of a program ({kind})")


REWARDS = Shape(
    "SYNTHETIC-1, Eurus-2, verl, Skywork-OR1",
    sets={"tests": _REWARD_COLUMNS},
    solutions=("gold_standard_solution",),
    prepare=_prepare_reward,
    language=lambda row: first(_about(row), "language") or first(row, "language"),
    ids=("id", "problem_id", "uid", "name"),
    columns=("language", "fn_name", "extra_info", "data_source", "ability", "task_type"),
    finish=_rewards,
)


# ---- nbrun's own problems, rows written by hand, DeepCoder, SandboxFusion


def _own_language(row: Row) -> object:
    return first(row, "language") or _labels(row).get("programming_language")


def _labels(row: Row) -> Mapping[str, Any]:
    return mapping_in(first(row, "labels"), "labels")


def _own(draft: Draft) -> None:
    row, labels = draft.row, _labels(draft.row)
    draft.function = first(row, "fn_name", "func_name") or mapping_in(row.get("metadata"), "metadata").get("func_name")
    draft.sets = {name: draft.sets[name] for name in row if name in draft.sets}  # in the row's order
    if "test" in draft.sets and labels:
        _check_fusion(draft, labels)
        draft.read = lambda value, where, name: _fusion_tests(value, where, name, labels)


def _check_fusion(draft: Draft, labels: Mapping[str, object]) -> None:
    """Mark AutoEval's test code as not supported if it isn't Python 3 or needs files of its own."""
    value = draft.sets["test"]
    if not _is_code(value):
        value = draft.sets["test"] = parsed(value, "test")
    about = mapping(value)
    if "code" in about and (refusal := _refusal_of_autoeval(about, labels)):
        draft.fields["not_supported"] = refusal


def _refusal_of_autoeval(about: Mapping[str, object], labels: Mapping[str, object]) -> str | None:
    language = labels.get("execution_language") or labels.get("programming_language") or "python"
    files = "test code that needs files (asset)" if about.get("asset") else None
    return _refusal_of_code(language) or files


def _is_code(value: object) -> bool:
    return isinstance(value, str) and not is_json_text(value)


def _fusion_tests(value: Any, where: str, function: str | None, labels: Mapping[str, Any]) -> Tests:
    if _is_code(value):
        entry = labels.get("entry_point")
        return check_of(value, entry, where) if entry and "def check(" in value else code_tests([value], where)
    match plain(value):
        case [str(), *_] as codes:
            return code_tests(codes, where, labels.get("test_setup_code") or "")
    return read_tests(value, where, function)


OWN = Shape(
    "nbrun's own, DeepCoder, SandboxFusion",
    sets={"tests": ("tests",), "test": ("test",)},
    solutions=("solution", "canonical_solution"),
    language=_own_language,
    ids=("id", "name", "task_id", "problem_id", "question_id"),
    columns=("labels", "language", "metadata", "fn_name", "func_name"),
    finish=_own,
)


# ---- the shape of a row

#: In this order: the first shape that fits a row reads it. LeetCodeDataset's rows have `input_output` beside test code.
SHAPES: tuple[Shape, ...] = (
    PLUS,
    O,
    IOI,
    CODEFORCES,
    LIVECODEBENCH,
    BIGCODEBENCH,
    TRANSLATED,
    HUMANEVAL,
    INPUT_OUTPUT,
    XCODEEVAL,
    CODECONTESTS,
    KODCODE,
    EVALPLUS,
    MBPP,
    REWARDS,
    COLUMNS,
    OWN,
)


#: Columns of which rows of the known shapes have some.
NEEDED_COLUMNS = frozenset(chain(*(chain(*shape.needed) for shape in SHAPES)))
#: Columns in which any shape has its id.
ID_COLUMNS = tuple(dict.fromkeys(("id", "name", *chain(*(shape.ids for shape in SHAPES)))))


def shape_of(row: Mapping[str, object]) -> Shape | None:
    """Return the shape of a row; None if it has no known shape.

    Example:
        >>> shape_of({"input_output": "{}", "solutions": "[]"}).name
        'APPS, TACO'
    """
    return next((shape for shape in possible_shapes(tuple(row)) if shape.fits(row)), None)


@lru_cache(256)
def possible_shapes(columns: tuple[object, ...]) -> tuple[Shape, ...]:
    """Return the shapes that rows with these columns may have; which one depends on the columns that aren't empty."""
    return tuple(shape for shape in SHAPES if any(map({*columns}.issuperset, shape.needed)))


def nearest(columns: Iterable[str]) -> str:
    """Describe the shape that is most similar to these columns, and the columns that it needs, for an error message.

    Example:
        >>> nearest(["question_id", "question_title", "starter_code"])
        'LiveCodeBench, which has its tests in public_test_cases or private_test_cases'
    """
    from difflib import get_close_matches  # only needed for an error message

    found = set(columns)
    unknown = found.difference(*(shape.all_columns for shape in SHAPES))

    def score(shape: Shape) -> tuple[float, bool]:
        telling = shape.all_columns.difference(*(other.all_columns for other in SHAPES if other is not shape))
        close = sum(bool(get_close_matches(name, telling, 1, 0.8)) for name in unknown)
        return len(found & telling) + close / 2, shape is OWN

    shape = max(SHAPES, key=score)
    needs = " or ".join(" and ".join(names) for names in shape.needed[:3])
    return f"{shape.name}, which has its tests in {needs}"
