"""Reads a problem's tests, in any of the forms that data sets use.

Called by the thread that reads samples and by worker threads; pure functions, no I/O.

    [{"input", "output"}, …]                      a list of tests; each side is text, bytes, a list of lines, or
                                                  {"stdin"} and {"stdout"}
    {"input": […], "output": […]}                 a struct of lists; also "inputs" and "outputs"
    [[input, output], …]                          pairs
    "…"                                           any of these as JSON text
    {"inputs", "outputs", "fn_name"}              calls of a function: arguments and result (APPS, TACO)
    {"type": "function_call", "fn_name", …}       the same, test by test (SYNTHETIC-1); {"testtype": "functional"}
                                                  (LiveCodeBench) writes each argument as a line of JSON
    ["assert f(1) == 2", …], {"assert_case"}      code that is run after the solution; each text is a test
    {"code"}, {"functional"}, {"test_code"}       the same as one text
    {"pytest"}                                    a file of test functions, and of test methods in classes
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from nbrun.judge.problems.values import (
    NOT_PARSED,
    column_of,
    first,
    flags_of,
    has,
    is_json_text,
    is_missing,
    mapping_in,
    parsed,
    plain,
    settled,
)

#: The expected output of a test that is code: the harness prints this if the code ran to its end.
PASSED = "passed\n"
#: Side of a test -> its names in tests.
_SIDES = {
    "input": ("input", "inputs", "stdin", "in", "test_input", "args"),
    "output": ("output", "outputs", "stdout", "expected_output", "expected", "answer", "out", "test_output"),
}
_CALLS = ("function_call", "functional", "function", "call_based")
#: An argument by its name, as LeetCode writes examples: `nums = [1, 2], target = 3`.
_NAMED = re.compile(r"\s*[A-Za-z_]\w* *=[^=]")
_CALL_IN_JSON = re.compile(rf'"(?:{"|".join(_CALLS)})"|"input": *"{_NAMED.pattern}')
#: Marks an argument whose keys are integers.
INT_KEYS = "(int keys)"
_INTEGER = re.compile(r"-?\d+")
_STREAMS = ("stdin_stdout", "stdin", "stdio", "standard_input", "standard", "")
#: Types of an answer of one number that people write without quotes.
_NUMBERS = (int, float, Decimal)
_SAYS_KIND = {"type", "testtype", "fn_name", "metadata"}
#: EvalPlus writes megabytes of literals; parsing them here would take longer than judging.
_LONGEST_PARSED = 1 << 20
_CODE = re.compile(r"^\s*(?:assert|def|class|import|from)\b", re.MULTILINE)
#: The module after "from", or the modules after "import".
_IMPORT = re.compile(r"from\s+([A-Za-z_][\w.]*)\s+import\b|import\s+([A-Za-z_][\w. ,]*)")
_TOP_LEVEL = re.compile(r"(?:^|,)\s*(\w+)")
_NO_STATEMENT = re.compile(r"\s*(?:#|\Z)")
_PYTEST = re.compile(r"(?:from|import|,) pytest\b")
_LINES_OF_IMPORTS = 100
_ENTRY = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?(?:\.[A-Za-z_]\w*)?")
_LIST_OF_TEXT = re.compile(r'\s*\[\s*"')

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Tests:
    """Tests in one form, and the harness that runs them.

    Attributes:
        tests: mappings `{"input", "output"}` with text or bytes; `alternatives` lists further outputs that are right.
        harness: empty if a program reads the input and writes the output; `{"type": "function", "name"}` if input and
            output are JSON of a function's arguments and result; `{"type": "test_code"}` if the input is code.
    """

    __test__ = False  # or pytest would collect this class because of its name

    tests: list[dict[str, Any]]
    harness: dict[str, Any] = field(default_factory=dict)

    def joined(self, other: Tests, where: str) -> Tests:
        """Return these tests and others, whose harness may need other libraries.

        Raises:
            ValueError: the others are of another kind.
        """
        if {**self.harness, "needs": None} != {**other.harness, "needs": None}:
            raise ValueError(f"{where!r} holds tests of another kind than the sets before it")
        return Tests(self.tests + other.tests, self.harness).needing(other.harness.get("needs", ()))

    def needing(self, libraries: Iterable[str]) -> Tests:
        """Return these tests with libraries that must be installed where they are run."""
        needs = sorted({*self.harness.get("needs", ()), *libraries})
        return replace(self, harness={**self.harness, "needs": needs}) if needs else self


def read_tests(value: object, where: str, function: str | None = None) -> Tests:
    """Return the tests in a value of any form above.

    Args:
        where: the column, for messages.
        function: the name of the function to call, if the row has it outside of the tests.

    Raises:
        ValueError: the value can't be read; the message names the place.

    Example:
        >>> read_tests('[{"input": ["1 2", "3"], "output": ["4"]}]', "tests").tests
        [{'input': '1 2\\n3\\n', 'output': '4\\n'}]
    """
    value = _opened(settled(value), where)
    if value is None:
        return Tests([])
    if isinstance(value, dict):
        return _read_mapping(value, where, function)
    if not isinstance(value, list):
        raise ValueError(f"{where!r} is a {type(value).__name__}; it must be a list of tests, or a struct of lists")
    tests = _flat(value, where)
    if tests and _all(str, tests):
        return code_tests(tests, where)
    return _read_list(_each(_as_test, tests, where), where, function)


def _opened(value: Any, where: str) -> object:
    """Return the value of JSON text, also of JSON text in JSON text; None for empty text."""
    if isinstance(value, bytes):
        value = parsed(value, where)
    while isinstance(value, str):
        value = _parsed_tests(value, where) if value.strip() else None
    return value


def _parsed_tests(text: str, where: str) -> object:
    try:
        return parsed(text, where)
    except ValueError as e:
        if _CODE.search(text) is None:
            raise
        hint = "test code is a list of texts, or has an 'entry_point' beside it, as in HumanEval"
        raise ValueError(f"{e}; {hint}") from None


def _all(kind: type, values: Iterable[object]) -> bool:
    return all(isinstance(value, kind) for value in values)


def _each(read: Callable[..., _Value], values: Iterable[object], where: str, *more: object) -> list[_Value]:
    """Return what a function makes of each value, given its place for messages."""
    return [read(value, f"{where}[{i}]", *more) for i, value in enumerate(values)]


def _flat(tests: list[Any], where: str) -> list[Any]:
    """Return the tests in a list of tests, each of which may be JSON text, or of lists of tests."""
    if all(map(is_json_text, tests)):  # which no test code is
        tests = _each(parsed, tests, where)
    return [*chain(*tests)] if tests and all(map(_are_tests, tests)) else tests


def _are_tests(value: Any) -> bool:
    """Return whether a value is a list of tests with both sides or of test code, not a pair of input and output."""
    if not isinstance(value, list) or not value:
        return False
    if _all(str, value):
        return all(map(_CODE.search, value))
    return _all(dict, value) and all(map(_has_sides, value))


# ---- mappings


def _read_mapping(value: Mapping[str, Any], where: str, function: str | None) -> Tests:
    function = first(value, "fn_name", "func_name") or function
    code = _read_test_code(value, where)
    if code is not None:
        return code
    key = next(filter(value.__contains__, ("test_cases", "tests")), None)
    if key is not None:
        return read_tests(value[key], f"{where}.{key}", function)
    if _has_sides(value):
        return _read_sides(value, where, function)
    if value and _all(dict, value.values()):  # name -> test
        return read_tests([{"name": name, **test} for name, test in value.items()], where, function)
    raise ValueError(f"{where!r} is a mapping without {_lacking(value)}")


def _read_sides(value: Mapping[str, Any], where: str, function: str | None) -> Tests:
    """Return the tests of a mapping with both sides: a struct of lists, or a single test."""
    names = _sides_of(value)
    test = _as_test(value, where)
    if names == ["inputs", "outputs"] and _is_list_as_text(test["input"]) and _is_list_as_text(test["output"]):
        test |= {side: parsed(test[side], f"{where}.{side}s") for side in _SIDES}
    if isinstance(test["input"], (str, bytes, dict)):
        return _read_list([test], where, function)
    return _read_columns(test, where, function, names[0] == "inputs")


def _is_list_as_text(side: object) -> bool:
    return isinstance(side, str) and _LIST_OF_TEXT.match(side) is not None


def _read_columns(struct: Mapping[str, Any], where: str, function: str | None, lines: bool) -> Tests:
    """Return the tests of a struct of lists.

    With `lines`, a list of outputs is always lines, as in APPS and TACO, never alternatives; not if the struct has
    other lists beside the two sides.
    """
    columns = {key: cells for key, cells in struct.items() if isinstance(cells, list)}
    counts = [len(columns[side]) if side in columns else "no" for side in _SIDES]
    if "no" in counts or counts[0] != counts[1]:
        raise ValueError(f"{where!r} has {counts[0]} inputs and {counts[1]} outputs")
    return _read_list(_rows_of(columns), where, function, lines and len(columns) == 2)


def _rows_of(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return a mapping for each test, with the columns that have a value for each."""
    full = {key: cells for key, cells in columns.items() if len(cells) == len(columns["input"])}
    return [dict(zip(full, cells, strict=True)) for cells in zip(*full.values(), strict=True)]


def _sides_of(test: Mapping[Any, object]) -> list[str]:
    """Return the keys of a test's input and output; empty for a side that it lacks."""
    return [next(filter(test.__contains__, names), "") for names in _SIDES.values()]


def _has_sides(test: Mapping[Any, object]) -> bool:
    return all(_sides_of(test))


def _lacking(test: Mapping[Any, object]) -> str:
    """Describe which sides of a test are missing, and what is there, for an error message."""
    lacking = [repr(side) for side, key in zip(_SIDES, _sides_of(test), strict=True) if not key]
    return f"{' and '.join(lacking)} (it has {', '.join(map(repr, list(test)[:8])) or 'nothing'})"


# ---- lists


def _as_test(test: object, where: str) -> dict[str, Any]:
    """Return a test as a mapping whose sides are called "input" and "output"; raise ValueError if it lacks one."""
    if isinstance(test, dict):
        return test if test.keys() >= _SIDES.keys() else _with_usual_names(test, where)
    if isinstance(test, list) and len(test) == 2:
        return {"input": test[0], "output": test[1]}
    if is_missing(test):
        raise ValueError(f"{where} holds nothing")
    raise ValueError(f"{where} is a {type(test).__name__}, not a mapping with 'input' and 'output'")


def _with_usual_names(test: dict[Any, Any], where: str) -> dict[str, Any]:
    if not _has_sides(test):
        test = {str(key).lower(): value for key, value in test.items()}  # "Input", "Output"
    if not _has_sides(test):
        raise ValueError(f"{where} is a mapping without {_lacking(test)}")
    names = dict(zip(_sides_of(test), _SIDES, strict=True))
    return {names.get(key, key): value for key, value in test.items()}


def _read_list(rows: Sequence[Mapping[str, Any]], where: str, function: str | None, lines: bool = False) -> Tests:
    """Return the tests in a list of mappings; `lines` as in `_read_columns`."""
    names = {*_each(_function_of, rows, where, function)}
    if names <= {None}:
        return Tests(_each(_read_test, rows, where, lines))
    if len(names) > 1:
        named = ", ".join(sorted(name or "standard input" for name in names))
        raise ValueError(f"{where!r} mixes tests of several kinds: {named}")
    return read_calls(_each(_call_in, rows, where), str(names.pop()), where)


def _function_of(row: Mapping[str, object], where: str, function: str | None) -> str | None:
    """Return the name of the function that a test calls; None for a test of standard input."""
    if _SAYS_KIND.isdisjoint(row):
        return function and str(function)
    kind = _kind_of(row)
    name = _own_function(row, where) or function
    if kind in _CALLS:
        if not name:
            raise ValueError(f"{where} is the call of a function whose name isn't said (fn_name)")
    elif kind not in _STREAMS:
        raise ValueError(f"{where} has type {kind!r}, which isn't known here")
    elif kind:
        return None
    return str(name) if name else None


def _own_function(row: Mapping[str, object], where: str) -> Any:
    about = mapping_in(first(row, "metadata"), f"{where}.metadata")
    return first(row, "fn_name") or about.get("func_name")


def _kind_of(row: Mapping[str, object]) -> str:
    return str(first(row, "type", "testtype") or "").lower()


def _read_test(test: Mapping[str, Any], where: str, lines: bool) -> dict[str, Any]:
    """Return a test in the one form; `lines` as in `_read_columns`."""
    given, due = test["input"], test["output"]
    if type(given) is str is type(due) and len(test) == 2:  # the usual case, in a faster way
        return {"input": _unix(given), "output": _unix(due)}
    given = _of_stream(given, "stdin")
    right, *others = _right_outputs(_of_stream(due, "stdout"), isinstance(given, str) and not lines)
    out: dict[str, Any] = {"input": _stream(given, "input", where), "output": _stream(right, "output", where)}
    out |= extras_of(test)
    if alternatives := first(test, "alternatives") or others:
        out["alternatives"] = [_stream(other, "output", where) for other in alternatives]
    return out


def _of_stream(side: Any, stream: str) -> Any:
    return side.get(stream) if isinstance(side, dict) else side


def _right_outputs(due: Any, may_be_several: bool) -> list[Any]:
    """Return the outputs that are right.

    A list is several of them, as in xCodeEval, if a list is in it; one of texts only if it `may_be_several`.
    """
    if not isinstance(due, list):
        return [due]
    are_several = (may_be_several and len(due) > 1) or any(isinstance(other, list) for other in due)
    return due if are_several else [due]


def extras_of(test: Mapping[str, object]) -> dict[str, object]:
    """Return the name and the validator flags of a test, where it has them."""
    name = "" if test.get("name") is None else str(test["name"])
    found = {"name": name, "flags": flags_of(test.get("flags"))}
    return {key: value for key, value in found.items() if value}


def _stream(value: object, side: str, where: str) -> str | bytes:
    if isinstance(value, str):
        return _unix(value)
    if isinstance(value, bytes):
        return value.replace(b"\r\n", b"\n")
    if isinstance(value, list) and _all(str, value):
        return _unix(_joined_lines(value))
    if is_missing(value):
        raise ValueError(f"{where}: its {side} holds nothing")
    if type(value) not in _NUMBERS:
        raise ValueError(f"{where}: its {side} is a {type(value).__name__}, not text")
    return str(value)


def _joined_lines(lines: Iterable[str]) -> str:
    return "".join(line.removesuffix("\n") + "\n" for line in lines)


def _unix(text: str) -> str:
    """Replace CRLF by LF: it comes from the way a data set was collected, and no judge gives it to programs."""
    return text.replace("\r\n", "\n") if "\r" in text else text


# ---- calls of a function


def says_call(value: object) -> bool:
    """Return whether the first test of a set is the call of a function, by its type or by the names of arguments."""
    if isinstance(value, str):
        return _CALL_IN_JSON.search(value, 0, 2000) is not None
    value = plain(value)
    begin = next(iter(value), None) if isinstance(value, list) else None
    if not isinstance(begin, Mapping):
        return False
    kind = _kind_of(begin)
    return kind in _CALLS or (not kind and _NAMED.match(str(begin.get("input"))) is not None)


class Call(NamedTuple):
    """One call of a function.

    Attributes:
        arguments: a list of values, or a mapping of names to values.
        may_be_wrapped: whether a result that is a list of one value may mean that value.
        alternative: another result that is right; None for none.
    """

    arguments: object
    result: Any
    may_be_wrapped: bool = True
    alternative: object = None

    @property
    def is_wrapped(self) -> bool:
        """Whether the result is a list of one value that may mean that value."""
        return self.may_be_wrapped and isinstance(self.result, list) and len(self.result) == 1


def _call_in(row: Mapping[str, object], where: str) -> Call:
    """Return the call in a test."""
    given, due, kind = row["input"], row["output"], _kind_of(row)
    if isinstance(given, str):
        return _call_in_text(given, due, kind, where)
    return Call(_arguments(given, where), _json_or_text(due) if kind == "function_call" else due)


def _call_in_text(given: str, due: object, kind: str, where: str) -> Call:
    """Return the call whose arguments are lines of JSON, or one list for the type "function_call"."""
    result = _json_or_text(due)
    if kind == "function_call" and isinstance(values := _json_or_text(given), list):
        return Call(values, result)
    literal = due if isinstance(due, str) and _is_literal(due) else None  # the text "True" is right too
    return Call(_arguments(given, where), result, kind != "functional", literal)


def read_calls(calls: Sequence[Call], name: str, where: str) -> Tests:
    """Return tests that call a function.

    If each result is a list of one value, the value itself is right too, because APPS, TACO and SYNTHETIC-1 wrap
    results in lists. LiveCodeBench, whose type is "functional", does not.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{where!r} calls {name!r}, which is no name of a function")
    is_wrapped = all(call.is_wrapped for call in calls)
    return Tests(_each(_read_call, calls, where, is_wrapped), {"type": "function", "name": name})


def _read_call(call: Call, where: str, is_wrapped: bool) -> dict[str, Any]:
    result = call.result[0] if is_wrapped else call.result
    test: dict[str, Any] = {"input": _json(_with_int_keys(call.arguments), where), "output": _json(result, where)}
    other = call.result if is_wrapped else call.alternative
    return test if other is None else {**test, "alternatives": [_json(other, where)]}


def _with_int_keys(arguments: object) -> object:
    """Mark a first argument whose keys are integers, which JSON has made text; see `nbrun.judge.harness_program`.

    The judges of APPS, TACO and PRIME do the same, for the first argument only.
    """
    match arguments:
        case [dict(begin), *others] if begin and all(map(_INTEGER.fullmatch, map(str, begin))):
            return [{INT_KEYS: begin}, *others]
        case _:
            return arguments


def _arguments(given: object, where: str) -> object:
    """Return the values of arguments; text has a line of JSON for each, or all of them by their names."""
    if isinstance(given, (list, dict)):
        return given
    if not isinstance(given, str):
        return [given]
    for read in (_lines_of_json, _printed_lines, _by_name):
        try:
            return read(given)
        except (*NOT_PARSED, TypeError) as e:
            problem = e
    raise ValueError(f"{where}: its input is no arguments, one a line as JSON: {problem}")


def _lines_of_json(text: str) -> list[object]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _printed_lines(text: str) -> list[object]:
    return [ast.literal_eval(line.strip()) for line in text.split("\n") if line.strip()]


def _by_name(text: str) -> dict[str, object]:
    call = ast.parse(f"f({text.strip()})", mode="eval").body
    match call:
        case ast.Call(args=[], keywords=[_, *_] as named):
            return {str(argument.arg): ast.literal_eval(argument.value) for argument in named}
    raise ValueError(f"{text[:40]!r} has no names of arguments")


def _json_or_text(text: Any) -> Any:
    """Return the value of JSON text or of a Python literal; anything else unchanged."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text.lstrip()[:1] not in ("[", "{", "(") and not _is_literal(text):
        return text
    try:
        value = ast.literal_eval(text.strip())  # "[True, None]"
        json.dumps(value)
    except (*NOT_PARSED, TypeError):
        return text
    return value


def _is_literal(text: str) -> bool:
    """Return whether a text is a constant as Python prints it, and no JSON."""
    return text in ("True", "False", "None") or (text[:1] == "'" and text[-1:] == "'")


def _json(value: object, where: str) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError) as e:
        raise ValueError(f"{where} holds what JSON can't: {e}") from None


# ---- code


def code_tests(codes: Sequence[Any], where: str, before: str = "") -> Tests:
    """Return a test for each piece of code that is run after a solution.

    Args:
        before: code that each of them needs, such as imports.

    Raises:
        ValueError: the code isn't valid Python, or holds nothing that can fail.
    """
    before = before.rstrip() + "\n" if before.strip() else ""
    _each(_check_code, codes, where)
    tests = [{"input": f"{before}{code.rstrip()}\n", "output": PASSED} for code in codes]
    needs = {*chain(*(_imported(test["input"]) for test in tests))}
    return Tests(tests, {"type": "test_code"}).needing(needs - sys.stdlib_module_names - {"solution", "__future__"})


def _imported(code: str) -> Iterator[str]:
    """Yield the modules that code imports in its first lines, above everything else."""
    for line in code.split("\n", _LINES_OF_IMPORTS)[:_LINES_OF_IMPORTS]:
        if found := _IMPORT.match(line):
            yield from _TOP_LEVEL.findall(found[found.lastindex or 0])
        elif not _NO_STATEMENT.match(line):
            return


def _check_code(code: object, where: str) -> None:
    if not isinstance(code, str) or not code.strip():
        raise ValueError(f"{where} holds no code")
    if len(code) < _LONGEST_PARSED and not any(map(_may_fail, ast.walk(_tree(code, where)))):
        shown = f"{where} is {code.strip()[:40]!r}"
        raise ValueError(f"{shown}, neither a test with input and output nor code that checks anything")


def _may_fail(node: ast.AST) -> bool:
    return isinstance(node, (ast.Assert, ast.Call, ast.Raise))


def _tree(code: str, where: str) -> ast.Module:
    try:
        return ast.parse(code)
    except NOT_PARSED as e:
        raise ValueError(f"{where} is no Python code: {e}") from None


def _read_test_code(value: Mapping[str, Any], where: str) -> Tests | None:
    """Return the tests of a mapping with code that is run after the solution; None if it has no such code."""
    key = column_of(value, "assert_case", "test_code", "code", "functional", "pytest")
    code: Any = value.get(key or "")
    place, before = f"{where}.{key}", value.get("import_prefix") or ""
    match key:
        case "assert_case":
            return code_tests(list(code), place)
        case "test_code" if has(value, "entry_point"):
            return check_of(code, value["entry_point"], place, before)
        case "test_code":
            return code_tests([code], place, before)
        case "pytest" if isinstance(code, str):
            return read_test_file(code, place)
        case "code" | "functional" if isinstance(code, str):
            return code_tests([code], place)
    return None


def check_of(code: str, entry_point: object, where: str, before: str = "") -> Tests:
    """Return a test in HumanEval's form: code that defines `check` and calls it with the solution's function."""
    if not isinstance(entry_point, str) or not _ENTRY.fullmatch(entry_point):
        raise ValueError(f"'entry_point' is {entry_point!r}, not the name of a function")
    return code_tests([f"{code.rstrip()}\n\ncheck({entry_point})"], where, before)


def read_test_file(code: str, where: str) -> Tests:
    """Return a test for each test function and test method of a test file.

    Raises:
        ValueError: the file isn't valid Python, has no test, or needs pytest itself.
    """
    calls = [call for node in _tree(code, where).body for call in _calls_of(node, where)]
    if not calls:
        raise ValueError(f"{where!r} holds no function `test_…` that can be called")
    return code_tests([f"{code.rstrip()}\n\n\n{call}" for call in calls], where)


def _calls_of(node: ast.stmt, where: str) -> Iterator[str]:
    """Yield the code that runs each test that a statement of a test file defines."""
    match node:
        case ast.Import() | ast.ImportFrom() if _PYTEST.search(ast.unparse(node)):
            raise ValueError(f"{where!r} holds a test file that imports pytest, which isn't judged here")
        case ast.FunctionDef() if node.name.startswith("test"):
            yield _call_of(node, node.name, 0, where)
        case ast.ClassDef() if any(ast.unparse(base).endswith("TestCase") for base in node.bases):
            tests = filter(_is_test, _methods_of(node))
            yield from (_UNITTEST.format(case=node.name, method=name) for name in tests)
        case ast.ClassDef(bases=[]) if node.name.startswith("Test"):
            yield from _calls_of_plain_class(node, where)


def _calls_of_plain_class(node: ast.ClassDef, where: str) -> Iterator[str]:
    """Yield the code that runs each test method of a class as pytest runs them."""
    methods = _methods_of(node)
    before = "".join(f"_test.{name}(); " for name in ("setup_method", "setUp") if name in methods)
    for name in filter(_is_test, methods):
        yield f"_test = {node.name}(); {before}{_call_of(methods[name], f'_test.{name}', 1, where)}"


def _methods_of(node: ast.ClassDef) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {part.name: part for part in node.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))}


def _is_test(name: str) -> bool:
    return name.startswith("test")


#: Runs a method with the fixtures of its class; a failure is raised, and a method that skips itself has passed.
_UNITTEST = """import unittest as _unittest
try:
    _unittest.TestSuite([{case}({method!r})]).debug()
except _unittest.SkipTest:
    pass"""


def _call_of(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str, given: int, where: str) -> str:
    if function.decorator_list or len(function.args.args) > given + len(function.args.defaults):
        raise ValueError(f"{where!r} holds a test that needs pytest ({function.name} has fixtures or decorators)")
    return f"{name}()"
