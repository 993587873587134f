"""LocalSandbox on real programs: which verdict each gets, and what its result says."""

from __future__ import annotations

import dataclasses
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from judge_helpers import SUM, SUM_CPP, SUM_PY, is_isolated, judged_as, task
from programs import PROGRAMS

from nbrun import verdicts
from nbrun.errors import InputError, JudgeError
from nbrun.judge import CPP17, PYTHON3, Language, LocalSandbox
from nbrun.judge.sandbox.programs import COMPILE_LIMITS, CompileCache, Compiled
from nbrun.judge.sources import Source


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long)  # two wall times, as for one that sleeps
        if name == "stops itself"
        else judged_as(row[0], name)
        for name, row in PROGRAMS.items()
    ],
)
def test_verdict(name: str, sandbox: LocalSandbox) -> None:
    language, source, verdict = PROGRAMS[name]
    result = sandbox(task(language, source))
    assert result["verdict"] == verdict, json.dumps(result)[:2000]
    assert result["accepted"] is (verdict == "Accepted")
    assert (result["isolation"] != "none") is is_isolated(sandbox)
    tests_alone = {key: value for key, value in result.items() if key != "verdict"}
    assert verdicts.of(tests_alone) == verdict, "readers of the tests alone come to the same verdict"
    assert len(json.dumps(result)) < 8000


@pytest.mark.needs("g++")
def test_the_shape_of_a_result(sandbox: LocalSandbox) -> None:
    result = sandbox(task("CPP", SUM_CPP))
    assert result["limits"] == {
        "time_limit_s": 0.5, "wall_limit_s": 2.0, "memory_limit_mb": 192.0, "output_limit_mb": 1.0,
        "process_limit": 256,
    }  # fmt: skip
    assert result["tests_total"] == 2
    first, second = result["tests"]
    run = first["exec_info"]["run_result"]
    assert run["stdout"] == "3\n"
    assert (run["status"], run["return_code"], run["stderr"]) == ("Finished", 0, "")
    assert 0 <= run["execution_time"] < 0.5
    assert first["exec_info"]["status"] == "Success"
    assert first["exec_info"]["compile_result"]["return_code"] == 0
    assert "compile_result" not in second["exec_info"]
    assert second["test_info"] == {"input": {"stdin": "10 20\n"}, "output": {"stdout": "30\n"}}
    assert verdicts.summary_of_tests(result)[:2] == (2, 2)


@pytest.mark.needs("g++")
def test_a_compile_error_says_why(sandbox: LocalSandbox) -> None:
    (record,) = sandbox(task("CPP", "int main() { return x; }"))["tests"]
    assert record["exec_info"]["run_result"] is None
    assert "main.cpp:1:21: error" in record["exec_info"]["compile_result"]["stderr"]


def test_output_that_is_no_text(sandbox: LocalSandbox) -> None:
    (record,) = sandbox(task("PYTHON3", "import sys; sys.stdout.buffer.write(b'a\\0\\xff\\xfe\\x1b[31m')"))["tests"]
    assert record["exec_info"]["run_result"]["stdout"] == "a\0\ufffd\ufffd\x1b[31m"


def test_first_failing_test_or_all() -> None:
    problem = {"id": "p", "tests": [{"input": str(i), "output": str(i % 2)} for i in range(4)]}
    first, every = LocalSandbox(), LocalSandbox(all_tests=True)
    try:
        assert [t["passed"] for t in first(task("py", "print(0)", problem))["tests"]] == [True, False]
        result = every(task("py", "print(0)", problem))
        assert [t["passed"] for t in result["tests"]] == [True, False, True, False]
        assert result["verdict"] == "WrongAnswer"
        assert len(every(task("py", "def", problem))["tests"]) == 1
    finally:
        first.close()
        every.close()


def test_long_streams_are_cut_in_the_result_and_compared_whole() -> None:
    problem = {"id": "p", "tests": [{"input": "x" * 5000, "output": "y" * 5000}]}
    source = "import sys\nprint('y' * 5000)\nsys.stderr.write('z' * 5000 + 'end')"
    sandbox, whole = LocalSandbox(keep_output_bytes=100), LocalSandbox(keep_output_bytes=None)
    try:
        (record,) = sandbox(task("py", source, problem))["tests"]
        assert record["passed"]
        run = record["exec_info"]["run_result"]
        assert run["stdout"] == "y" * 100
        assert run["stderr"] == "z" * 97 + "end"
        assert record["cut"] == {"stdout": 5001, "stderr": 5003, "input": 5000, "output": 5000}
        (record,) = whole(task("py", "print('y' * 5000)", problem))["tests"]
        assert record["exec_info"]["run_result"]["stdout"] == "y" * 5000 + "\n"
        assert "cut" not in record
    finally:
        sandbox.close()
        whole.close()


@pytest.mark.parametrize(
    ("options", "problem", "time_s", "memory_mb"),
    [
        ({}, {}, 2.0, 1024.0),
        ({}, {"time_limit": None, "memory_limit_bytes": 0}, 2.0, 1024.0),
        ({}, {"time_limit": {"seconds": 1, "nanos": 500_000_000}, "memory_limit_bytes": 64 << 20}, 1.5, 64.0),
        ({"time_limit_s": 3, "memory_limit_mb": 99}, {"time_limit": 1, "memory_limit_bytes": 64 << 20}, 3.0, 99.0),
        ({"languages": {"PYTHON3": dataclasses.replace(PYTHON3, time_factor=4)}}, {"time_limit": 1}, 4.0, 1024.0),
    ],
)
def test_whose_limits_count(options: dict[str, Any], problem: dict[str, Any], time_s: float, memory_mb: float) -> None:
    with closing(LocalSandbox(**options)) as sandbox:
        limits = sandbox(task("PYTHON3", SUM_PY, SUM | problem))["limits"]
    assert limits["time_limit_s"] == time_s
    assert limits["wall_limit_s"] == 2 * time_s + 1
    assert limits["memory_limit_mb"] == memory_mb


@pytest.mark.needs("g++")
def test_a_row_of_code_contests_is_read_as_it_is(sandbox: LocalSandbox) -> None:
    row = {"name": "p", "id": "p", "public_tests": {"input": ["1 2"], "output": ["3"]}, "private_tests": None}
    assert sandbox(task(3, SUM_PY, row))["verdict"] == "Accepted"
    assert sandbox(task(2, SUM_CPP, row))["verdict"] == "Accepted"


@pytest.mark.needs("g++")
def test_a_language_of_the_users(sandbox: LocalSandbox) -> None:
    shell = Language("main.sh", run=("{tool}", "{folder}/main.sh"), tools=("sh",))
    with closing(LocalSandbox(languages={"SH": shell})) as own:
        assert own(task("sh", "read a b; echo $((a + b))"))["verdict"] == "Accepted"
        assert own(task("C++17", SUM_CPP))["verdict"] == "Accepted"


NOTHING_IS_SAID = [
    (task("COBOL", "x"), "no language 'COBOL': it has PYTHON3, CPP"),
    (task(0, "x"), "UNKNOWN_LANGUAGE"),
    (task(None, "x"), "None"),
    (task("PYTHON3", None), "a solution is a mapping such as"),
    (task("PYTHON3", SUM_PY, {"id": "p", "tests": []}), "problem 'p' can't be judged.*"),
    (task("PYTHON3", SUM_PY, {"id": "p"}), "problem 'p' can't be judged.*"),
    (task("PYTHON3", SUM_PY, {"id": "p", "tests": [{"input": True, "output": "2"}]}), "its input is a bool"),
]


@pytest.mark.parametrize(("odd", "words"), NOTHING_IS_SAID)
def test_what_can_not_be_judged_is_no_rejection(odd: Any, words: str, sandbox: LocalSandbox) -> None:
    with pytest.raises(JudgeError, match=words):
        sandbox(odd)


def test_without_a_compiler_it_says_what_to_install() -> None:
    with closing(
        LocalSandbox(languages={"CPP": dataclasses.replace(CPP17, compilers=("no-such-compiler",))})
    ) as sandbox:
        with pytest.raises(JudgeError, match=r"no-such-compiler is installed.*apt install g\+\+"):
            sandbox(task("CPP", SUM_CPP))
        assert sandbox(task("PYTHON3", SUM_PY))["accepted"]


@pytest.mark.needs("g++")
def test_a_source_on_which_the_compiler_exceeds_its_limits_does_not_compile() -> None:
    with closing(LocalSandbox(compile_limit_s=0.05)) as sandbox:
        result = sandbox(task("CPP", "#include <regex>\n#include <iostream>\n" + SUM_CPP))
        assert result["verdict"] == "CompileError"
        assert "exceeded its limit (cpu" in result["tests"][0]["exec_info"]["compile_result"]["stderr"]


@pytest.mark.needs("g++")
def test_a_program_is_compiled_once(tmp_path: Path) -> None:
    def built() -> list[int]:
        return [file.stat().st_mtime_ns for file in tmp_path.glob("*/program")]

    for _ in range(2):
        with closing(LocalSandbox(cache_dir=tmp_path)) as sandbox, ThreadPoolExecutor(4) as pool:
            results = list(pool.map(sandbox, [task("CPP", SUM_CPP) for _ in range(4)]))
        assert [r["verdict"] for r in results] == ["Accepted"] * 4
        before = locals().get("before") or built()
        assert len(before) == 1
        assert built() == before


@pytest.mark.needs("g++")
def test_the_cache_lets_the_oldest_go_and_never_one_in_use(tmp_path: Path) -> None:
    def build(at: Path) -> Compiled:
        (at / "program").write_bytes(bytes(600_000))
        return Compiled(0, 0.0, "")

    def source(code: bytes) -> Source:
        return Source({"main.cpp": code}, "main.cpp")

    def folders() -> int:
        return len(list(tmp_path.iterdir()))

    cache = CompileCache(tmp_path, limit_mb=1)
    with cache.program(CPP17, source(b"a"), COMPILE_LIMITS, build) as (a, _):
        with cache.program(CPP17, source(b"b"), COMPILE_LIMITS, build) as (b, _):
            pass
        assert (a / "program").exists()
        assert not b.exists()
        assert folders() == 1
    with cache.program(CPP17, source(b"c"), COMPILE_LIMITS, build) as (c, _):
        assert folders() == 2
    assert c.exists()
    assert not a.exists()
    assert folders() == 1
    again = CompileCache(tmp_path, limit_mb=1)
    with again.program(CPP17, source(b"c"), COMPILE_LIMITS, lambda at: pytest.fail("built twice")) as (_, compiled):
        assert compiled == Compiled(0, 0.0, "")


@pytest.mark.needs("g++")
def test_many_at_once_get_their_own_verdicts(sandbox: LocalSandbox) -> None:
    names = ["right", "wrong", "raises", "busy loop", "right in C++", "floods stdout", "takes memory"] * 4
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda name: sandbox(task(*PROGRAMS[name][:2])), names))
    assert [r["verdict"] for r in results] == [PROGRAMS[name][2] for name in names]


def test_settings_say_all_that_results_depend_on(sandbox: LocalSandbox) -> None:
    settings = json.loads(json.dumps(sandbox.settings))
    assert settings == sandbox.settings
    assert settings["time_limit_s"] == 0.5
    assert settings["comparison"] == "nbrun.judge.comparison.compare_tokens"
    assert settings["isolation"] == "auto"
    assert settings["languages"]["CPP"]["compile"][1:3] == ["-O2", "-std=gnu++17"]
    assert LocalSandbox(time_limit_s=1).settings != LocalSandbox().settings
    assert "/" not in json.dumps(LocalSandbox().settings).replace("{folder}/", ""), "no path of this machine"


def test_a_sandbox_goes_into_other_processes(sandbox: LocalSandbox) -> None:
    with closing(pickle.loads(pickle.dumps(sandbox))) as copy:
        assert copy.settings == sandbox.settings
        assert copy(task("PYTHON3", SUM_PY))["accepted"]


@pytest.mark.parametrize(
    "wrong", [{"time_limit_s": 0}, {"time_limit_s": -1}, {"memory_limit_mb": float("inf")}, {"keep_output_bytes": -1}]
)
def test_limits_that_can_not_be_right(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        LocalSandbox(**wrong)


JAVA_LEAK = """import java.util.*;
public class A {
    public static void main(String[] x) throws Exception {
        List<byte[]> kept = new ArrayList<>();
        for (int i = 0; i < COUNT; i++) {
            kept.add(new byte[20000]);
            if (i % 100 == 0) Thread.sleep(1);
        }
        Scanner s = new Scanner(System.in);
        System.out.println(s.nextInt() + s.nextInt());
    }
}
"""


@pytest.mark.parametrize(("count", "verdict"), [(1_000_000, "MemoryLimitExceeded"), (7_000, "Accepted")])
@pytest.mark.needs("javac")
def test_a_virtual_machine_that_grows_slowly(count: int, verdict: str) -> None:
    """It neither spends its time on collecting, nor counts what it needs for itself."""
    with closing(LocalSandbox(time_limit_s=5, memory_limit_mb=192)) as box:
        assert box(task("JAVA", JAVA_LEAK.replace("COUNT", str(count))))["verdict"] == verdict
