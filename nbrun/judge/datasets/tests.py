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
"""

from __future__ import annotations

import ast
import json
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import contains
from typing import Any

from nbrun.judge.datasets.values import first, flags_of, is_missing, parsed, plain

#: The expected output of a test that is code: the harness prints this if the code ran to its end.
PASSED = "passed\n"
_SIDES = {
    "input": ("stdin", ("input", "inputs", "stdin", "in")),
    "output": ("stdout", ("output", "outputs", "stdout", "expected_output", "expected", "answer", "out")),
}
_CALLS = ("function_call", "functional", "function", "call_based")
#: An argument by its name, as LeetCode writes examples: `nums = [1, 2], target = 3`.
_NAMED = re.compile(r"\s*[A-Za-z_]\w* *=[^=]")
_CALL_IN_JSON = re.compile(rf'"(?:{"|".join(_CALLS)})"|"input": *"{_NAMED.pattern}')
_LITERALS = ("True", "False", "None")
_STREAMS = ("stdin_stdout", "stdin", "stdio", "standard_input", "standard", "")
_SAYS_KIND = {"type", "testtype", "fn_name", "metadata"}
#: EvalPlus writes megabytes of literals; parsing them here would take longer than judging.
_LONGEST_PARSED = 1 << 20
_CODE = re.compile(r"^\s*(?:assert|def|class|import|from)\b", re.MULTILINE)
_ENTRY = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?(?:\.[A-Za-z_]\w*)?")


@dataclass(frozen=True)
class Tests:
    """Tests in one form, and the harness that runs them.

    Attributes:
        tests: mappings `{"input", "output"}` with text or bytes; `alternatives` lists further outputs that are right.
        harness: None if a program reads the input and writes the output; `{"type": "function", "name"}` if input and
            output are JSON of a function's arguments and result; `{"type": "test_code"}` if the input is code.
    """

    __test__ = False  # or pytest would collect this class because of its name

    tests: list[dict[str, Any]]
    harness: dict[str, object] | None = field(default=None)


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
    value = _opened(value, where)
    if value is None:
        return Tests([])
    if isinstance(value, Mapping):
        return _read_mapping(value, where, function)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise ValueError(f"{where!r} is a {type(value).__name__}; it must be a list of tests, or a struct of lists")
    value = _flat(value, where)
    if value and all(isinstance(test, str) for test in value):
        return code_tests(value, where)
    if function is None and not any(isinstance(test, Mapping) and _SAYS_KIND & test.keys() for test in value):
        return Tests([_read_test(test, where, i) for i, test in enumerate(value)])
    return _read_list([_as_mapping(test, f"{where}[{i}]") for i, test in enumerate(value)], where, function)


def _opened(value: object, where: str) -> object:
    """Return the value of JSON text, also of JSON text in JSON text; None for empty text."""
    if isinstance(value, str) and not value.strip():
        return None
    try:
        value = parsed(value, where)
    except ValueError as e:
        is_code = isinstance(value, str) and _CODE.search(value) is not None
        hint = "; test code is a list of texts, or has an 'entry_point' beside it, as in HumanEval" if is_code else ""
        raise ValueError(f"{e}{hint}") from None
    while isinstance(value, str) and value.lstrip()[:1] in ("[", "{", '"'):
        value = parsed(value, where)
    return value


def _flat(tests: Sequence[object], where: str) -> list[object]:
    """Return the tests in a list of tests, each of which may be JSON text, or of lists of tests."""
    if all(isinstance(test, str) and test.lstrip()[:1] in ("[", "{") for test in tests):  # which no test code is
        tests = [parsed(test, f"{where}[{i}]") for i, test in enumerate(tests)]
    if tests and all(map(_are_tests, tests)):
        return [test for inner in tests for test in plain(inner)]
    return list(tests)


def _are_tests(value: object) -> bool:
    """Return whether a value is a list of tests with both sides or of test code, not a pair of input and output."""
    value = plain(value)
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(test, str) for test in value):
        return all(_CODE.search(test) for test in value)
    return all(isinstance(test, Mapping) and not _lacking(test) for test in value)


def code_tests(codes: Sequence[Any], where: str, before: str = "") -> Tests:
    """Return a test for each piece of code that is run after a solution.

    Args:
        before: code that each of them needs, such as imports.

    Raises:
        ValueError: the code isn't valid Python, or holds nothing that can fail.
    """
    before = before.rstrip() + "\n" if before.strip() else ""
    tests = []
    for i, code in enumerate(codes):
        if not isinstance(code, str) or not code.strip():
            raise ValueError(f"{where}[{i}] holds no code")
        if len(code) < _LONGEST_PARSED and not any(map(_can_fail, ast.walk(_tree(code, f"{where}[{i}]")))):
            shown = f"{where}[{i}] is {code.strip()[:40]!r}"
            raise ValueError(f"{shown}, neither a test with input and output nor code that checks anything")
        tests.append({"input": f"{before}{code.rstrip()}\n", "output": PASSED})
    return Tests(tests, {"type": "test_code"})


def check_of(code: str, entry_point: str, where: str, before: str = "") -> Tests:
    """Return a test in HumanEval's form: code that defines `check` and calls it with the solution's function."""
    if not isinstance(entry_point, str) or not _ENTRY.fullmatch(entry_point):
        raise ValueError(f"'entry_point' is {entry_point!r}, not the name of a function")
    return code_tests([f"{code.rstrip()}\n\ncheck({entry_point})"], where, before)


def test_functions(code: str, where: str) -> Tests:
    """Return a test for each test function and test method of a test file.

    Raises:
        ValueError: the file isn't valid Python, has no test, or needs pytest itself.
    """
    calls: list[str] = []
    for node in _tree(code, where).body if code.strip() else ():
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            calls.append(_call_of(node, node.name, 0, where))
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test") and not node.bases:
            calls += _calls_of_class(node, where)
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and _imports_pytest(node):
            raise ValueError(f"{where!r} holds a test file that imports pytest, which isn't judged here")
    if not calls:
        raise ValueError(f"{where!r} holds no function `test_…` that can be called")
    return code_tests([f"{code.rstrip()}\n\n\n{call}" for call in calls], where)


def _calls_of_class(node: ast.ClassDef, where: str) -> Iterator[str]:
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    before = "".join(f"_test.{m.name}(); " for m in methods if m.name in ("setup_method", "setUp"))
    for method in methods:
        if method.name.startswith("test"):
            yield f"_test = {node.name}(); {before}{_call_of(method, f'_test.{method.name}', 1, where)}"


def _imports_pytest(node: ast.Import | ast.ImportFrom) -> bool:
    names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
    return any(name.partition(".")[0] == "pytest" for name in names)


def _call_of(function: ast.FunctionDef, name: str, given: int, where: str) -> str:
    if function.decorator_list or len(function.args.args) > given + len(function.args.defaults):
        raise ValueError(f"{where!r} holds a test that needs pytest ({function.name} has fixtures or decorators)")
    return f"{name}()"


def _read_mapping(value: Mapping[str, Any], where: str, function: str | None) -> Tests:
    function = first(value, "fn_name", "func_name") or function
    code = _read_test_code(value, where)
    if code is not None:
        return code
    for key in ("test_cases", "tests"):
        if key in value:
            return read_tests(value[key], f"{where}.{key}", function)
    if _lacking(value):
        if value and all(isinstance(test, Mapping) for test in value.values()):  # name -> test
            return read_tests([{"name": name, **test} for name, test in value.items()], where, function)
        raise ValueError(f"{where!r} is a mapping without {_sides(value)}")
    names = [next(key for key in keys if key in value) for _, keys in _SIDES.values()]
    if names == ["inputs", "outputs"] and all(map(_is_list_as_text, map(value.get, names))):
        value = {**value, **{name: parsed(value[name], f"{where}.{name}") for name in names}}  # a JSON text each
    if isinstance(value[names[0]], (str, bytes, Mapping)):
        return _read_list([value], where, function)
    return _read_columns(value, names[0], names[1], where, function)


def _is_list_as_text(value: object) -> bool:
    return isinstance(value, str) and re.match(r'\s*\[\s*"', value) is not None


def _lacking(test: Mapping[Any, object]) -> list[str]:
    """Return which sides of a test are missing."""
    return [side for side, (_, keys) in _SIDES.items() if not any(key in test for key in keys)]


def _sides(test: Mapping[Any, object]) -> str:
    """Describe which sides of a test are missing, and what is there, for an error message."""
    return f"{' and '.join(map(repr, _lacking(test)))} (it has {', '.join(map(repr, list(test)[:8])) or 'nothing'})"


def _read_test_code(value: Mapping[str, Any], where: str) -> Tests | None:
    """Return the tests of a mapping with code that is run after the solution; None if it has no such code."""
    if not is_missing(value.get("assert_case")):
        return code_tests(list(plain(value["assert_case"])), f"{where}.assert_case")
    if not is_missing(value.get("test_code")):
        before = value.get("import_prefix") or ""
        if is_missing(value.get("entry_point")):
            return code_tests([value["test_code"]], f"{where}.test_code", before)
        return check_of(value["test_code"], value["entry_point"], f"{where}.test_code", before)
    for key in ("code", "functional"):
        if isinstance(value.get(key), str):
            return code_tests([value[key]], f"{where}.{key}")
    if isinstance(value.get("pytest"), str):
        return test_functions(value["pytest"], f"{where}.pytest")
    return None


def _read_columns(
    value: Mapping[str, object], input_key: str, output_key: str, where: str, function: str | None
) -> Tests:
    """Return the tests of a list of inputs and a list of outputs."""
    columns = {key: plain(column) for key, column in value.items() if isinstance(plain(column), list)}
    inputs, outputs = columns.get(input_key), columns.get(output_key)
    if inputs is None or outputs is None or len(inputs) != len(outputs):
        counts = [len(c) if c is not None else "no" for c in (inputs, outputs)]
        raise ValueError(f"{where!r} has {counts[0]} inputs and {counts[1]} outputs")
    if function is None and len(columns) == 2:
        if not {*map(type, inputs), *map(type, outputs)} - {str}:  # the usual case, in a faster way
            return Tests(_tests_of_text(inputs, outputs))
        lines = input_key == "inputs"  # APPS, TACO: a list is lines, on both sides
        pairs = enumerate(zip(inputs, outputs, strict=True))
        return Tests([_read_test({"input": given, "output": due}, where, i, lines) for i, (given, due) in pairs])
    columns["input"], columns["output"] = inputs, outputs
    same = {key: column for key, column in columns.items() if len(column) == len(inputs)}
    rows = [dict(zip(same, cells, strict=True)) for cells in zip(*same.values(), strict=True)]
    return _read_list(rows, where, function)


def _tests_of_text(inputs: Sequence[str], outputs: Sequence[str]) -> list[dict[str, Any]]:
    if any(map(contains, (*inputs, *outputs), repeat("\r"))):
        inputs, outputs = list(map(_unix, inputs)), list(map(_unix, outputs))
    return [{"input": given, "output": due} for given, due in zip(inputs, outputs, strict=True)]


def says_call(value: object) -> bool:
    """Return whether the first test of a set is the call of a function, by its type or by the names of arguments."""
    if isinstance(value, str):
        return _CALL_IN_JSON.search(value, 0, 2000) is not None
    value = plain(value)
    begin = value[0] if isinstance(value, list) and value else None
    if not isinstance(begin, Mapping):
        return False
    given = begin.get("input")
    kind = str(first(begin, "type", "testtype") or "").lower()
    return kind in _CALLS or (kind == "" and isinstance(given, str) and _NAMED.match(given) is not None)


def _as_mapping(test: object, where: str) -> Mapping[str, object]:
    test = plain(test)
    if isinstance(test, Mapping):
        if any(key in test for key in _SIDES["output"][1]):
            return test
        return {key.lower() if isinstance(key, str) else key: value for key, value in test.items()}  # "Input", "Output"
    if isinstance(test, (list, tuple)) and len(test) == 2:
        return {"input": test[0], "output": test[1]}
    if is_missing(test):
        raise ValueError(f"{where} holds nothing")
    raise ValueError(f"{where} is a {type(test).__name__}, not a mapping with 'input' and 'output'")


def _read_list(rows: Sequence[Mapping[str, object]], where: str, function: str | None) -> Tests:
    names = {_function_of(row, f"{where}[{i}]", function) for i, row in enumerate(rows)}
    if not names or names == {None}:
        return Tests([_read_test(row, where, i) for i, row in enumerate(rows)])
    if len(names) > 1:
        named = ", ".join(sorted(repr(name) if name else "standard input" for name in names))
        raise ValueError(f"{where!r} mixes tests of several kinds: {named}")
    (name,) = names
    rows = list(map(_with_values, rows))
    return read_calls([row.get("input") for row in rows], [row.get("output") for row in rows], str(name), where)


def _with_values(row: Mapping[str, object]) -> Mapping[str, object]:
    """Return a call whose arguments are one list as JSON text with their values; other calls unchanged.

    The type "function_call" has one list of arguments, "functional" a line for each argument.
    """
    given = _json_or_text(row.get("input"))
    if str(row.get("type")).lower() != "function_call" or not isinstance(given, list):
        return row
    return {**row, "input": given, "output": _json_or_text(row.get("output"))}


def _function_of(row: Mapping[str, object], where: str, function: str | None) -> str | None:
    """Return the name of the function that a test calls; None for a test of standard input."""
    kind = str(first(row, "type", "testtype") or "").lower()
    about = first(row, "metadata")
    about = parsed(about, f"{where}.metadata") if isinstance(about, (str, Mapping)) else {}
    name = first(row, "fn_name") or (about.get("func_name") if isinstance(about, Mapping) else None) or function
    if kind in _CALLS or (kind == "" and name):
        if not name:
            raise ValueError(f"{where} is the call of a function whose name isn't said (fn_name)")
        return str(name)
    if kind not in _STREAMS:
        raise ValueError(f"{where} has type {kind!r}, which isn't known here")
    return None


def read_calls(inputs: Sequence[Any], outputs: Sequence[Any], name: str, where: str) -> Tests:
    """Return tests that call a function.

    Arguments that are text are lines of JSON, one line for each argument, and the result is JSON too. A list has the
    arguments' values, a mapping has arguments by name. If each result is a list of one value, the value itself is right
    too, because APPS, TACO and SYNTHETIC-1 wrap results in lists.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{where!r} calls {name!r}, which is no name of a function")
    outputs = [plain(output) for output in outputs]
    is_wrapped = not any(isinstance(given, str) for given in inputs) and all(
        isinstance(output, list) and len(output) == 1 for output in outputs
    )
    tests = []
    for i, (given, output) in enumerate(zip(inputs, outputs, strict=True)):
        place = f"{where}[{i}]"
        is_text = isinstance(given, str)
        arguments = _arguments_in(given, place) if is_text else _arguments(given)
        result = output[0] if is_wrapped else _json_or_text(output) if is_text else output
        test: dict[str, object] = {"input": _json(arguments, place), "output": _json(result, place)}
        if is_wrapped or (is_text and output in _LITERALS):  # it may be a list, or the text "True"
            test["alternatives"] = [_json(output, place)]
        tests.append(test)
    return Tests(tests, {"type": "function", "name": name})


def _arguments_in(text: str, where: str) -> object:
    """Return the arguments in a text: a line of JSON for each, or all of them by their names."""
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as e:
        problem = e
    try:
        call = ast.parse(f"f({text.strip()})", mode="eval").body
        if isinstance(call, ast.Call) and not call.args and call.keywords:
            return {str(argument.arg): ast.literal_eval(argument.value) for argument in call.keywords}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        pass
    raise ValueError(f"{where}: its input is no arguments, one a line as JSON: {problem}")


def _json_or_text(text: Any) -> Any:
    """Return the value of JSON text or of a Python literal; anything else unchanged."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text.lstrip()[:1] not in ("[", "{", "(") and text not in _LITERALS:
        return text
    try:
        value = ast.literal_eval(text.strip())  # "[True, None]"
        json.dumps(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text
    return value


def _arguments(value: object) -> object:
    value = plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _json(value: object, where: str) -> str:
    try:
        return json.dumps(value, default=plain)
    except (TypeError, ValueError, RecursionError) as e:
        raise ValueError(f"{where} holds what JSON can't: {e}") from None


def _tree(code: str, where: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise ValueError(f"{where} is no Python code: {e}") from None


def _can_fail(node: ast.AST) -> bool:
    return isinstance(node, (ast.Assert, ast.Call, ast.Raise))


def _read_test(test: object, where: str, index: int, lines: bool = False) -> dict[str, object]:
    test = _as_mapping(test, f"{where}[{index}]")
    out: dict[str, object] = {}
    for side in _SIDES:
        value = test.get(side)
        if type(value) is str:
            out[side] = _unix(value)
        else:
            _read_side(test, side, out, f"{where}[{index}]", lines)
    if len(test) > 2:
        out |= extras_of(test)
        if not is_missing(test.get("alternatives")):
            out["alternatives"] = [_stream(other, "output", where) for other in plain(test["alternatives"])]
    return out


def extras_of(test: Mapping[str, object]) -> dict[str, object]:
    """Return the name and the validator flags of a test, where it has them."""
    found: dict[str, object] = {"name": None if test.get("name") is None else str(test["name"])}
    found["flags"] = flags_of(test.get("flags"))
    return {key: value for key, value in found.items() if value}


def _read_side(test: Mapping[str, object], side: str, out: dict[str, object], where: str, lines: bool) -> None:
    inner, keys = _SIDES[side]
    key = next((key for key in keys if key in test), None)
    if key is None:
        raise ValueError(f"{where} is a mapping without {_sides(test)}")
    value = plain(test[key])
    if isinstance(value, Mapping):
        value = plain(value.get(inner))
    if isinstance(value, (list, tuple)) and value and side == "output":
        if any(isinstance(plain(other), (list, tuple)) for other in value):
            several = True  # each alternative is a list of lines
        else:
            several = len(value) > 1 and not lines and isinstance(out.get("input"), str) and _is_text(test)
        if several:
            out[side], *out["alternatives"] = [_stream(other, side, where) for other in value]
            return
    out[side] = _stream(value, side, where)


def _is_text(test: Mapping[str, object]) -> bool:
    """Return whether the input of a test is text. A list of outputs is then alternatives, as in xCodeEval."""
    return isinstance(next(test[key] for key in _SIDES["input"][1] if key in test), (str, Mapping))


def _stream(value: object, side: str, where: str) -> str | bytes:
    value = plain(value)
    if isinstance(value, str):
        return _unix(value)
    if isinstance(value, bytes):
        return value.replace(b"\r\n", b"\n")
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
        return _unix("".join(line if line.endswith("\n") else line + "\n" for line in value))
    if is_missing(value):
        raise ValueError(f"{where}: its {side} holds nothing")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)  # people write an answer of one number like this
    raise ValueError(f"{where}: its {side} is a {type(value).__name__}, not text")


def _unix(text: str) -> str:
    """Replace CRLF by LF: it comes from the way a data set was collected, and no judge gives it to programs."""
    return text.replace("\r\n", "\n") if "\r" in text else text
