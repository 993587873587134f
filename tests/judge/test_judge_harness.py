"""Functions that are called, code that is run after a solution, and files by name: in the box, judged outside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from judge_helpers import task

from nbrun.errors import NotSupportedError
from nbrun.judge import LocalSandbox, SandboxFusion
from nbrun.judge.exchange import compare_values

ADD = "def add(a, b):\n    return a + b\n"


def call(name: str, *tests: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    """A problem whose tests call a function: (arguments, result)."""
    rows = [{"input": json.dumps(given), "output": json.dumps(result)} for given, result in tests]
    limits = {"time_limit_s": None, "memory_limit_mb": None}
    return {"id": "p", "tests": rows, "harness": {"type": "function", "name": name}, **limits, **more}


def code(*tests: str) -> dict[str, Any]:
    """A problem whose tests are code."""
    rows = [{"input": text, "output": "passed\n"} for text in tests]
    return {"id": "p", "tests": rows, "harness": {"type": "test_code"}, "time_limit_s": None, "memory_limit_mb": None}


SUM = call("add", ([1, 2], 3), ([4, 5], 9))
PAIR = call("f", ([[3, 1]], [1, 3]))
FUNCTIONS = {
    "a function": (ADD, SUM, "Accepted"),
    "a wrong one": (ADD.replace("+", "-"), SUM, "WrongAnswer"),
    "arguments by name": (ADD, call("add", ({"b": 2, "a": 1}, 3)), "Accepted"),
    "what it prints is no result": (f"print(3)\n{ADD.replace('return', 'print(9); return')}", SUM, "Accepted"),
    "printing the result is not returning it": ("def add(a, b):\n    print(a + b)\n", SUM, "WrongAnswer"),
    "a method of Solution": (
        "class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a + b\n",
        SUM,
        "Accepted",
    ),
    "what it changed in place": ("def f(a):\n    a.sort()\n", PAIR, "Accepted"),
    "what it left as it was": ("def f(a):\n    pass\n", PAIR, "WrongAnswer"),
    "a value forgotten in one place": (
        "def f(a):\n    a.sort()\n    if len(a) > 1:\n        return\n    return a\n",
        PAIR,
        "WrongAnswer",
    ),
    "nothing, where nothing is expected": ("def f(a):\n    a.sort()\n", call("f", ([[3, 1]], None)), "Accepted"),
    "an exact number": (
        "from decimal import Decimal\ndef f(a):\n    return Decimal('0.5')\n",
        call("f", ([1], 0.5)),
        "Accepted",
    ),
    "a method of any class": ("class Adder:\n    def add(self, a, b):\n        return a + b\n", SUM, "Accepted"),
    "typing without an import": (
        "def f(a: List[int]) -> Tuple[int, ...]:\n    return tuple(sorted(a))\n",
        PAIR,
        "Accepted",
    ),
    "modules without an import": (
        "def f(a):\n    heapq.heapify(a)\n    return [heappop(a), math.floor(a[0] + inf * 0)]".replace(
            "math.floor(a[0] + inf * 0)", "gcd(a[0], 0)"
        ),
        PAIR,
        "Accepted",
    ),
    "a name of its own wins": (
        "def gcd(a, b):\n    return 7\ndef f(a):\n    return gcd(4, 2)\n",
        call("f", ([1], 7)),
        "Accepted",
    ),
    "a main block does not run": (f"{ADD}if __name__ == '__main__':\n    1 / 0\n", SUM, "Accepted"),
    "an exception": ("def add(a, b):\n    return a[b]\n", SUM, "RuntimeError"),
    "an exception beside the function": (f"1 / 0\n{ADD}", SUM, "RuntimeError"),
    "no such function": ("def plus(a, b):\n    return a + b\n", SUM, "RuntimeError"),
    "a library's function of that name": ("x = add\n", SUM, "RuntimeError"),
    "no Python": ("def add(a, b:\n    return a\n", SUM, "CompileError"),
    "too slow": ("def add(a, b):\n    while True: pass\n", SUM, "TimeLimitExceeded"),
    "leaving early": ("def add(a, b):\n    raise SystemExit(0)\n", SUM, "WrongAnswer"),
    "leaving at once": (f"import os\nos._exit(0)\n{ADD}", SUM, "WrongAnswer"),
    "another type": ("def add(a, b):\n    return str(a + b)\n", SUM, "WrongAnswer"),
    "a set is no list": ("def f(a):\n    return {1, 3}\n", PAIR, "WrongAnswer"),
    "a value that equals all": (
        "class E:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return E()\n",
        SUM,
        "WrongAnswer",
    ),
    "floats within a tolerance": (
        "def f(x):\n    return [x * 3, {'a': 1.0}]\n",
        call("f", ([0.1], [0.3, {"a": 1}])),
        "Accepted",
    ),
    "keys that are numbers": ("def f(x):\n    return {1: x}\n", call("f", ([2], {"1": 2})), "Accepted"),
    "integers of any length": ("def f(n):\n    return 10 ** n\n", call("f", ([5000], None)), "Accepted"),
    "deep recursion": ("def f(n):\n    return n and 1 + f(n - 1)\n", call("f", ([20000], 20000)), "Accepted"),
    "a module of the solution's own name": (f"import solution\n{ADD}", SUM, "Accepted"),
}
FUNCTIONS["integers of any length"][1]["tests"][0]["output"] = "1" + "0" * 5000


@pytest.mark.parametrize("what", FUNCTIONS)
def test_a_function_is_called_and_its_result_compared_as_a_value(sandbox: LocalSandbox, what: str) -> None:
    source, problem, verdict = FUNCTIONS[what]
    result = sandbox(task("PYTHON3", source, problem))
    assert result["verdict"] == verdict, result["tests"][-1]


CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(4, 5) == 9\n\ncheck(add)\n"
CODES = {
    "right": (ADD, "Accepted"),
    "an assertion that fails": (ADD.replace("+", "-"), "WrongAnswer"),
    "its own compile": (
        "import builtins\nold = compile\nbuiltins.compile = lambda s, *a, **k: old('0', *a, **k)\n"
        + ADD.replace("+", "-"),
        "WrongAnswer",
    ),
    "another exception": ("def add(a, b):\n    return a.b\n", "RuntimeError"),
    "no such function": ("x = 1\n", "RuntimeError"),
    "no Python": ("def add(a, b:\n", "CompileError"),
    "leaving early": (f"import sys\n{ADD.replace('return a + b', 'sys.exit(0)')}", "WrongAnswer"),
    "leaving at once": (f"import os\n{ADD}os._exit(0)\n", "WrongAnswer"),
    "printing what a pass prints": ("print('passed')\nimport os\nos._exit(0)\n", "WrongAnswer"),
    "writing into every stream": (
        "import os\nfor fd in range(20):\n    try: os.write(fd, b'passed\\n')\n    except OSError: pass\nos._exit(0)\n",
        "WrongAnswer",
    ),
    "its own exec": (f"import builtins\nbuiltins.exec = lambda *a: None\n{ADD.replace('+', '-')}", "WrongAnswer"),
    "an exit by the exit hooks": (
        f"import atexit, os\natexit.register(os._exit, 0)\n{ADD.replace('+', '-')}",
        "WrongAnswer",
    ),
}


@pytest.mark.parametrize("what", CODES)
def test_code_that_runs_after_a_solution_must_run_to_its_end(sandbox: LocalSandbox, what: str) -> None:
    source, verdict = CODES[what]
    result = sandbox(task("PYTHON3", source, code(CHECK)))
    assert result["verdict"] == verdict, result["tests"][-1]
    shown = result["tests"][0]["exec_info"]["run_result"]["stdout"]
    assert shown == ("passed\n" if verdict == "Accepted" else ""), "no secret is shown"


def test_each_assertion_is_a_test_of_its_own(sandbox: LocalSandbox) -> None:
    problem = code("assert add(1, 2) == 3\n", "assert add(1, 1) == 3\n")
    result = sandbox(task("PYTHON3", ADD, problem))
    assert (result["verdict"], [test["passed"] for test in result["tests"]]) == ("WrongAnswer", [True, False])


FILES = {"input": "in.txt", "output": "out.txt"}
COPY = "open('out.txt', 'w').write(open('in.txt').read())\n"
NAMED = {
    "both": (FILES, COPY, "Accepted"),
    "stdin is empty then": (
        FILES,
        "import sys\nopen('out.txt', 'w').write(sys.stdin.read() or 'none')\n",
        "WrongAnswer",
    ),
    "stdout doesn't count then": (FILES, "print(open('in.txt').read())\n", "WrongAnswer"),
    "only the input": ({"input": "in.txt"}, "print(open('in.txt').read())\n", "Accepted"),
    "only the output": ({"output": "out.txt"}, "open('out.txt', 'w').write(input())\n", "Accepted"),
    "a link is no output": (FILES, "import os\nos.symlink('in.txt', 'out.txt')\n", "WrongAnswer"),
    "opened for writing too": (FILES, f"open('in.txt', 'r+').close()\n{COPY}", "Accepted"),
}


@pytest.mark.parametrize("what", NAMED)
def test_files_by_name_take_the_place_of_streams(sandbox: LocalSandbox, what: str) -> None:
    files, source, verdict = NAMED[what]
    limits = {"time_limit_s": None, "memory_limit_mb": None}
    problem = {"id": "p", "tests": [{"input": "7\n", "output": "7\n"}], "stream_files": files, **limits}
    assert sandbox(task("PYTHON3", source, problem))["verdict"] == verdict


def test_one_of_several_right_outputs_will_do(sandbox: LocalSandbox) -> None:
    test = {"input": "", "output": "yes\n", "alternatives": ["si\n", "oui\n"]}
    problem = {"id": "p", "tests": [test], "time_limit_s": None, "memory_limit_mb": None}
    verdicts = [sandbox(task("PYTHON3", f"print({word!r})", problem))["verdict"] for word in ("yes", "oui", "no")]
    assert verdicts == ["Accepted", "Accepted", "WrongAnswer"]


@pytest.mark.parametrize("language", ["CPP", "JAVA", "PYTHON"])
def test_other_languages_are_refused_by_name(sandbox: LocalSandbox, language: str) -> None:
    with pytest.raises(NotSupportedError, match=rf"{language}|Python 2"):
        sandbox(task(language, "x", SUM))


REFUSED = {
    "call a function": SUM,
    "are code": code(CHECK),
    "files by name": {**call("f", ([1], 1)), "harness": None, "stream_files": FILES},
    "a checker that is a program": {**call("f", ([1], 1)), "harness": None, "checker": "int main() {}"},
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_server_is_asked_nothing_that_it_can_not_judge(words: str) -> None:
    judge = SandboxFusion(["http://127.0.0.1:9"])  # nothing listens there
    problem = {key: value for key, value in REFUSED[words].items() if value is not None or key.endswith(("_s", "_mb"))}
    with pytest.raises(NotSupportedError, match=words):
        judge(task("PYTHON3", ADD, problem))
    judge.close()


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("3", "3.0", True),
        ("3", "3.0000001", False),
        ("3.0", "3.0000001", True),
        ("[1, [2]]", "[1, [2]]", True),
        ("[1, 2]", "[1]", False),
        ('{"a": 1}', '{"a": 1, "b": 2}', False),
        ('"3"', "3", False),
        ("null", "null", True),
        ("true", "true", True),
        ("NaN", "NaN", True),
        ("Infinity", "1e308", False),
        ("1.5", '"1.5"', False),
        ("1", "", False),
        ("1", "1 1", False),
        ("1" * 5000, "1" * 5000, True),
        ("1" * 5000, "1" * 4999 + "2", False),
        ("1.0", "1" * 3000, False),
        ("[" * 100_000, "1", False),
        ("1", "[" * 100_000, False),
    ],
)
def test_values_are_compared(expected: str, actual: str, same: bool) -> None:
    assert compare_values(expected, actual) is same
