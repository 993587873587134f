"""Judging: what it costs a test, whether every verdict holds, and a package against the tools that verify packages."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nbrun import Task
from nbrun.errors import NotSupportedError
from nbrun.judge import LocalSandbox, demo_problems, read_problems
from nbrun.samples import SampleReader

PACKAGES = Path(__file__).parents[1] / "judge" / "packages"
TESTS, ROUNDS = 100, 5
SUM_PY = "print(sum(map(int, input().split())))\n"
SUM_CPP = '#include <cstdio>\nint main() { int a, b; std::scanf("%d %d", &a, &b); std::printf("%d\\n", a + b); }\n'
PROBLEM = {"id": "sum", "tests": [{"input": "1 2\n", "output": "3\n"}] * TESTS}


def overhead() -> dict[str, Any]:
    """Milliseconds a test, one after another, over what the bare program takes in the same run."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, own in (("cpp", _bare_cpp(folder)), ("python", [sys.executable, "-E", "-s", "-B", "main.py"])):
            (folder / "main.py").write_text(SUM_PY)
            item = {"language": "CPP", "solution": SUM_CPP} if name == "cpp" else {"language": "PY", "solution": SUM_PY}
            bare_ms = _bare_ms(own, folder)
            for mode in ("required", "none"):
                took_ms = _judged_ms(item, mode)
                key = f"{name}_{'isolated' if mode == 'required' else 'plain'}"
                figures[key] = {"program_ms": round(bare_ms, 2), "over_ms": round(took_ms - bare_ms, 2)}
    return figures


def _bare_cpp(folder: Path) -> list[str]:
    (folder / "main.cpp").write_text(SUM_CPP)
    subprocess.run(["g++", "-O2", "-o", "program", "main.cpp"], cwd=folder, check=True)
    return ["./program"]


def _bare_ms(command: list[str], folder: Path) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(TESTS):
            subprocess.run(command, cwd=folder, input=b"1 2\n", stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - began) / TESTS * 1000)
    return statistics.median(times)


def _judged_ms(item: dict[str, str], mode: str) -> float:
    sandbox = LocalSandbox(time_limit_s=10, isolation=mode, max_parallel=1)
    try:
        task = Task("sum", "solution", 0, item, PROBLEM)
        sandbox(task)  # compiled, and warm
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            assert sandbox(task)["accepted"]
            times.append((time.perf_counter() - began) / TESTS * 1000)
        return statistics.median(times)
    finally:
        sandbox.close()


def verdicts() -> dict[str, Any]:
    """Every submission of the demo set and of the tests' packages, at 1, 2 and 16 workers: how many verdicts hold."""
    due = [*_due(demo_problems()), *_due(read_problems(PACKAGES))]
    figures: dict[str, Any] = {"cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as built:
        for workers in (1, 2, 16):
            sandbox = LocalSandbox(cache_dir=built)
            began = time.perf_counter()
            try:
                with ThreadPoolExecutor(workers) as pool:
                    found = list(pool.map(lambda job, sandbox=sandbox: _verdict(sandbox, job[0]), due))
            finally:
                sandbox.close()
            known = [(want, got) for (_, want), got in zip(due, found, strict=True) if got is not None]
            right = sum(got in ([want] if isinstance(want, str) else want) for want, got in known)
            figures[f"{workers}_workers"] = {
                "judged": len(known), "not_supported": len(due) - len(known), "as_declared": right,
                "share": right / len(known), "took_s": round(time.perf_counter() - began, 1),
            }  # fmt: skip
    return figures


def _due(problems: Any) -> Iterator[tuple[Task, Any]]:
    reader = SampleReader()
    for number, problem in enumerate(problems):
        for group in reader.read(problem, number).groups:
            for i, item in enumerate(group.items):
                want = problem["expected_verdicts"][group.name][i]
                yield Task(problem["id"], group.name, i, item, problem), want


def _verdict(sandbox: LocalSandbox, task: Task) -> str | None:
    try:
        return str(sandbox(task)["verdict"])
    except NotSupportedError:
        return None


# ---- one package, against problemtools and BAPCtools

_YAML = {
    "legacy": "name: Sum\n",
    "2025-09": "problem_format_version: 2025-09\nname: Sum\nuuid: 7d0a1f0e-35f4-4d66-9d0e-c0c52b44b0b4\n",
}
_FORM = "#include <iostream>\nint main() {{ long long a, b; std::cin >> a >> b; std::cout << {} << std::endl; }}\n"
_SUBMISSIONS = {
    "accepted": ["a + b", "b + a", "a - (-b)", "2 * a - a + b", "b - (-a)", "(a + b) * 1"],
    "wrong_answer": ["a - b", "a * b"],
    "run_time_error": ["(a == 1 ? 3 : throw 1)"],
}
CASES = 60


def package() -> dict[str, Any]:
    """Seconds for one package of C++ submissions, two programs at once, each tool in a new process."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        for tool, (kind, command) in _tools().items():
            times = []
            for i in range(3):
                at = _write(Path(made) / f"{tool}{i}" / "sum", kind)
                began = time.perf_counter()
                done = subprocess.run([*command, "sum"], cwd=at.parent, capture_output=True, text=True, check=False)
                times.append(time.perf_counter() - began)
                said = done.stdout + done.stderr
                if done.returncode != 0 and "wrong_answer/1.cpp:    WA" not in said:  # BAPCtools misses a statement
                    raise RuntimeError(f"{tool}: {said[-4000:]}")
            figures[tool] = round(statistics.median(times), 2)
            figures[f"{tool}_version"] = _version(tool, Path(command[0]))
    others = [figures[tool] for tool in ("problemtools", "bapctools") if tool in figures]
    return figures | ({"over_the_faster_one": round(figures["nbrun"] / min(others), 2)} if others else {})


def _tools() -> dict[str, tuple[str, list[str]]]:
    tools = {"nbrun": ("legacy", [sys.executable, "-m", "tests.benchmarks.judging"])}
    if found := shutil.which("verifyproblem"):
        tools["problemtools"] = ("legacy", [found, "-t", "2", "-j", "2", "-p", "submissions", "--"])
    if found := shutil.which("bt"):
        tools["bapctools"] = ("2025-09", [found, "run", "-B", "-j", "2", "-G", "-S", "-t", "2", "--problem"])
    return tools


def _version(name: str, command: Path) -> str:
    """The version of a tool that lies in an environment of its own."""
    found = command.parent.parent.glob(f"lib/python*/site-packages/{name}-*.dist-info")
    return next((path.name.removesuffix(".dist-info").rpartition("-")[2] for path in found), "unknown")


def _write(folder: Path, kind: str) -> Path:
    data = folder / "data" / "secret"
    data.mkdir(parents=True)
    (folder / "data" / "sample").mkdir()
    (folder / "problem.yaml").write_text(_YAML[kind])
    for i in range(CASES):
        at = data if i else folder / "data" / "sample"
        (at / f"{i:02}.in").write_text(f"{i + 1} 2\n")
        (at / f"{i:02}.ans").write_text(f"{i + 3}\n")
    for name, sums in _SUBMISSIONS.items():
        at = folder / "submissions" / name
        at.mkdir(parents=True)
        for i, text in enumerate(sums):
            (at / f"{i}.cpp").write_text(_FORM.format(text))
    return folder


def judge_package(folder: str) -> None:
    """What nbrun does with a package in a script: judge it with a run, save each result, look at the verdicts."""
    import nbrun

    with tempfile.TemporaryDirectory() as results:
        run = nbrun.start(
            read_problems(folder), LocalSandbox(time_limit_s=2), Path(results) / "r", workers=2, view=None
        )
        run.wait()
        verdicts = run.progress.verdicts
    wanted = {"Accepted": 6, "WrongAnswer": 2, "RuntimeError": 1}
    assert dict(verdicts) == wanted, verdicts


if __name__ == "__main__":
    judge_package(sys.argv[1])
