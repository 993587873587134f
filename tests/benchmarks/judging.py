"""Judging: what it costs a test, whether every verdict holds, and a package against the tools that verify packages."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbrun import Task
from nbrun.errors import NotSupportedError
from nbrun.judge import LocalSandbox, demo_problems, read_problems
from nbrun.judge.languages import PYPY3
from nbrun.samples import SampleReader
from tests.benchmarks.registry import benchmark, least, most

PACKAGES = Path(__file__).parents[1] / "judge" / "packages"
TESTS, ROUNDS = 100, 5
SUM_PY = "print(sum(map(int, input().split())))\n"
SUM_CPP = '#include <cstdio>\nint main() { int a, b; std::scanf("%d %d", &a, &b); std::printf("%d\\n", a + b); }\n'
PROBLEM = {"id": "sum", "tests": [{"input": "1 2\n", "output": "3\n"}] * TESTS}


@benchmark(
    "judging_overhead",
    most("cpp_isolated.over_ms", 4, "judging a test of a C++ program, over the bare program, in a box", " ms"),
    most("python_isolated.over_ms", 6, "the same of a Python program", " ms"),
    most("cpp_plain.over_ms", 5, "the same of a C++ program, without a box", " ms"),
    most("python_plain.over_ms", 5, "the same of a Python program, without a box", " ms"),
)
def overhead() -> dict[str, Any]:
    """Milliseconds a test, one after another, over what the bare program takes in the same round.

    The bare program and each sandbox take turns, since both get slower while others use the machine.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "main.py").write_text(SUM_PY)
        (folder / "main.cpp").write_text(SUM_CPP)
        subprocess.run(["g++", "-O2", "-o", "program", "main.cpp"], cwd=folder, check=True)
        programs = {
            "cpp": (["./program"], {"language": "CPP", "solution": SUM_CPP}),
            "python": ([sys.executable, "-s", "-B", "-X", "utf8", "main.py"], {"language": "PY", "solution": SUM_PY}),
        }
        for name, (command, item) in programs.items():
            turns: dict[str, list[float]] = {"bare": [], "isolated": [], "plain": []}
            sandboxes = {
                mode: LocalSandbox(time_limit_s=10, isolation=isolation, max_parallel=1)
                for mode, isolation in (("isolated", "required"), ("plain", "none"))
            }
            task = Task("sum", "solution", 0, item, PROBLEM)
            try:
                for sandbox in sandboxes.values():
                    sandbox(task)  # compiled, and warm
                for _ in range(ROUNDS):
                    turns["bare"].append(_bare_ms(command, folder))
                    for mode, sandbox in sandboxes.items():
                        turns[mode].append(_judged_ms(sandbox, task))
            finally:
                for sandbox in sandboxes.values():
                    sandbox.close()
            for mode in sandboxes:
                over_ms = [took - bare for took, bare in zip(turns[mode], turns["bare"], strict=True)]
                figures[f"{name}_{mode}"] = {
                    "program_ms": round(statistics.median(turns["bare"]), 2),
                    "over_ms": round(statistics.median(over_ms), 2),
                }
    return figures


def _bare_ms(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    for _ in range(TESTS):
        subprocess.run(command, cwd=folder, input=b"1 2\n", stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) / TESTS * 1000


def _judged_ms(sandbox: LocalSandbox, task: Task) -> float:
    began = time.perf_counter()
    assert sandbox(task)["accepted"]
    return (time.perf_counter() - began) / TESTS * 1000


@benchmark(
    "judging_verdicts",
    least("1_workers.share", 1, "verdicts as declared, demo set and 9 problem packages, 1 worker"),
    least("2_workers.share", 1, "the same, 2 workers"),
    least("16_workers.share", 1, "the same, 16 workers on 2 CPUs"),
)
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


# ---- 1,000 rows of Parquet, against Hugging Face datasets

ROWS = 1000


@benchmark(
    "reading_rows",
    most("over_datasets_streamed", 1, "1,000 CodeContests-like rows of Parquet, over a stream of datasets", "×"),
    most("over_datasets_converted", 1, "the same over datasets that convert the file first", "×"),
    most("over_a_mapped_dataset", 2.5, "rows of a converted dataset, over iterating it alone", "×"),
)
def reading() -> dict[str, Any]:
    """CPU seconds for 1,000 rows in CodeContests' shape, each reader in turn: what it takes over `datasets`.

    `datasets` converts a file into Arrow once and then maps it into memory; a stream decodes it each time, as we do.
    """
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "rows.parquet"
        _write_rows(path)

        def streamed() -> int:
            return sum(1 for _ in datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True))

        def converted(number: int) -> int:
            cache = str(Path(made) / f"cache{number}")
            return sum(1 for _ in datasets.Dataset.from_parquet(str(path), cache_dir=cache))

        kept = datasets.Dataset.from_parquet(str(path), cache_dir=str(Path(made) / "kept"))
        readers: dict[str, Callable[[int], int]] = {
            "nbrun": lambda number: sum(1 for _ in read_problems(path)),
            "datasets_streamed": lambda number: streamed(),
            "datasets_converted": converted,
            "nbrun_over_a_dataset": lambda number: sum(1 for _ in read_problems(kept)),
            "datasets_mapped": lambda number: sum(1 for _ in kept),
        }
        times: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(ROUNDS):
            turned = [*list(readers)[number:], *list(readers)[:number]]  # what runs first finds memory cold
            for name in turned:
                read = readers[name]
                began = time.process_time()
                assert read(number) == ROWS
                times[name].append(time.process_time() - began)
    took = {name: statistics.median(found) for name, found in times.items()}
    return {
        "cpu_s": {name: round(seconds, 3) for name, seconds in took.items()},
        "over_datasets_streamed": round(took["nbrun"] / took["datasets_streamed"], 2),
        "over_datasets_converted": round(took["nbrun"] / took["datasets_converted"], 2),
        "over_a_mapped_dataset": round(took["nbrun_over_a_dataset"] / took["datasets_mapped"], 2),
    }


def _write_rows(path: Path) -> None:
    """Write rows of random digits, with tests and solutions of the lengths that CodeContests has."""
    import random

    import pyarrow
    import pyarrow.parquet

    draw = random.Random(1)
    text = "".join(draw.choice("0123456789 \n") for _ in range(200_000))

    def cut(least: int, most: int) -> str:
        size = draw.randint(least, most)
        begin = draw.randrange(len(text) - size)
        return text[begin : begin + size]

    def tests(count: int, most: int) -> dict[str, list[str]]:
        return {"input": [cut(20, most) for _ in range(count)], "output": [cut(5, most // 4) for _ in range(count)]}

    def solutions(count: int) -> dict[str, list[Any]]:
        return {
            "language": [draw.choice([1, 2, 3, 4]) for _ in range(count)],
            "solution": [cut(300, 2500) for _ in range(count)],
        }

    rows = [
        {
            "name": f"p{number}", "description": cut(500, 2000), "public_tests": tests(2, 100),
            "private_tests": tests(10, 400), "generated_tests": tests(100, 1000),
            "solutions": solutions(draw.randint(5, 150)), "incorrect_solutions": solutions(draw.randint(5, 150)),
            "time_limit": {"seconds": 2, "nanos": 0}, "memory_limit_bytes": 256_000_000, "input_file": "",
            "output_file": "", "cf_tags": ["greedy"], "untranslated_description": cut(500, 2000),
        }
        for number in range(ROWS)
    ]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)


# ---- packages, against problemtools and BAPCtools
#
# All three do the same work: they compile the submissions with -O2, run each of them test by test until one fails, with
# one time limit, and compare the outputs; C++ validators of outputs are compiled and run by all. Python runs in PyPy,
# as in both tools' tables of languages. Checks of statements, inputs and answers, which nbrun has none of, are off.
# nbrun alone puts each program into a box and saves each result.

_YAML = {
    "legacy": "name: Own\n{legacy}",
    "2025-09": "problem_format_version: 2025-09\nname: Own\nuuid: {uuid}\n",
}
_CPP = "#include <iostream>\nint main() {{ long long a, b; std::cin >> a >> b; std::cout << {} << std::endl; }}\n"
_PYTHON = "a, b = map(int, input().split())\nprint({})\n"
_VALIDATOR = """#include <fstream>
#include <iostream>
int main(int, char **v) {
  std::ifstream answer(v[2]);
  long long want, got;
  answer >> want;
  return std::cin >> got && got == want ? 42 : 43;
}
"""
_TURNS, _PACKAGES_IN_SET = 5, 20
_VERDICTS = {"accepted": "Accepted", "wrong_answer": "WrongAnswer", "run_time_error": "RuntimeError"}


@dataclass(frozen=True)
class OwnPackage:
    """A package of the benchmark's own.

    Attributes:
        submissions: folder -> file name -> what the program computes of the numbers `a` and `b`; their sum is right.
    """

    submissions: Mapping[str, Mapping[str, str]]
    n_tests: int
    has_validator: bool = False

    def verdicts(self) -> Counter[str]:
        """Return how often each verdict is right."""
        return Counter({_VERDICTS[folder]: len(files) for folder, files in self.submissions.items()})

    def write(self, folder: Path, layout: str) -> None:
        """Write the package in one of the format's two layouts."""
        data = folder / "data"
        for name in ("sample", "secret"):
            (data / name).mkdir(parents=True)
        legacy = "validation: custom\n" if self.has_validator else ""
        (folder / "problem.yaml").write_text(_YAML[layout].format(legacy=legacy, uuid=uuid.uuid4()))
        for i in range(self.n_tests):
            at = data / ("secret" if i else "sample")
            (at / f"{i:02}.in").write_text(f"{i + 1} 2\n")
            (at / f"{i:02}.ans").write_text(f"{i + 3}\n")
        for name, files in self.submissions.items():
            at = folder / "submissions" / name
            at.mkdir(parents=True)
            for file, text in files.items():
                form, comment = (_CPP, "//") if file.endswith("cpp") else (_PYTHON, "#")
                # No two packages share a source: nbrun would compile it once.
                (at / file).write_text(f"{comment} {folder.name}\n{form.format(text)}")
        if self.has_validator:
            at = folder / ("output_validators" if layout == "legacy" else "output_validator")
            at.mkdir()
            (at / "check.cpp").write_text(_VALIDATOR)


_CPP_CRASH, _PYTHON_CRASH = "(a == 1 ? 3 : throw 1)", "3 if a == 1 else 1 // 0"
#: The package that is judged alone, with and without a validator of its own.
OWN_PACKAGES = {
    "two_languages": OwnPackage(
        {
            "accepted": {"1.cpp": "a + b", "2.cpp": "b + a", "3.py": "a + b", "4.py": "b - (-a)"},
            "wrong_answer": {"5.cpp": "a - b", "6.py": "a * b"},
            "run_time_error": {"7.cpp": _CPP_CRASH, "8.py": _PYTHON_CRASH},
        },
        n_tests=20,
    ),
    "validator": OwnPackage(
        {
            "accepted": {"1.cpp": "a + b", "2.cpp": "b + a", "3.cpp": "a - (-b)"},
            "wrong_answer": {"4.cpp": "a - b"},
            "run_time_error": {"5.cpp": _CPP_CRASH},
        },
        n_tests=30,
        has_validator=True,
    ),
}
_IN_SET = OwnPackage(
    {"accepted": {"1.cpp": "a + b", "2.py": "a + b"}, "wrong_answer": {"3.py": "a - b"}, "run_time_error": {}},
    n_tests=5,
)


@dataclass(frozen=True)
class Tool:
    """A tool that judges packages.

    Attributes:
        layout: the layout that it reads.
        command: judges all packages of the folder that it runs in.
    """

    layout: str
    command: Sequence[str]


@benchmark(
    "judging_package",
    most("over_the_faster_one", 1, "a package, over the faster of problemtools and BAPCtools, at worst", "×"),
    least("set_of_20_speed", 1.5, "20 small packages, the speed over that of the faster one", "×"),
)
def package() -> dict[str, Any]:
    """Seconds for a package, with one and two programs at once, and for a set of 20 small ones with two.

    Each tool runs in a new process, in a new folder; the tools take turns. Medians of 5; the set is judged once.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        for kind, own in OWN_PACKAGES.items():
            for jobs in (1, 2):
                figures[f"{kind}_j{jobs}"] = _compared(Path(made) / f"{kind}{jobs}", {"own": own}, jobs, _TURNS)
        small = {f"own{number}": _IN_SET for number in range(_PACKAGES_IN_SET)}
        figures["set_of_20_j2"] = in_set = _compared(Path(made) / "set", small, 2, 1)
    ratios = [found["over_the_faster_one"] for name, found in figures.items() if "over_the_faster_one" in found]
    if ratios:
        figures["over_the_faster_one"] = max(ratios)
        figures["set_of_20_speed"] = round(1 / in_set["over_the_faster_one"], 2)
    return figures | {f"{name}_version": _version(name, Path(tool.command[0])) for name, tool in _tools(1, []).items()}


def _compared(made: Path, packages: Mapping[str, OwnPackage], jobs: int, turns: int) -> dict[str, float]:
    """Return each tool's median of the seconds that it takes for these packages, all in one call."""
    times: dict[str, list[float]] = {}
    tools = list(_tools(jobs, list(packages)).items())
    for turn in range(turns):
        for name, tool in (*tools[turn % len(tools) :], *tools[: turn % len(tools)]):
            at = made / f"{name}{turn}"
            for package_name, own in packages.items():
                own.write(at / package_name, tool.layout)
            began = time.perf_counter()
            done = subprocess.run(tool.command, cwd=at, capture_output=True, text=True, check=False)
            times.setdefault(name, []).append(time.perf_counter() - began)
            _check(name, done.returncode, done.stdout + done.stderr, packages.values())
            shutil.rmtree(at)
    took = {name: statistics.median(found) for name, found in times.items()}
    others = [seconds for name, seconds in took.items() if name != "nbrun"]
    over = {"over_the_faster_one": round(took["nbrun"] / min(others), 2)} if others else {}
    return {name: round(seconds, 2) for name, seconds in took.items()} | over


def _check(name: str, return_code: int, output: str, packages: Iterable[OwnPackage]) -> None:
    """Raise RuntimeError unless a tool's output has the right verdicts."""
    expected: Counter[str] = Counter()
    for own in packages:
        expected += own.verdicts()
    if name == "nbrun":
        found = Counter(json.loads(output)) if not return_code else Counter()
    else:
        found = Counter(_WORDS[word] for word in _VERDICT_LINE.findall(output))
    if found != expected or (return_code and name != "bapctools"):  # BAPCtools complains that the statement is missing
        raise RuntimeError(f"{name} returned {return_code}, {dict(found)} and not {dict(expected)}: {output[-4000:]}")


_WORDS = {"AC": "Accepted", "WA": "WrongAnswer", "RTE": "RuntimeError"}
_VERDICT_LINE = re.compile(rf"^\s*(?:{'|'.join(_VERDICTS)})/\d\.\w+\b.*?:\s+({'|'.join(_WORDS)})\b", re.MULTILINE)


def _tools(jobs: int, packages: Sequence[str]) -> dict[str, Tool]:
    """Return the tools that are installed here, nbrun among them."""
    count = str(jobs)
    tools = {"nbrun": Tool("legacy", [sys.executable, "-m", "tests.benchmarks.judging", count])}
    if found := shutil.which("verifyproblem"):
        command = [found, "-t", "2", "-j", count, "-p", "submissions", "--", *packages]
        tools["problemtools"] = Tool("legacy", command)
    if found := shutil.which("bt"):
        tools["bapctools"] = Tool("2025-09", [found, "run", "-B", "-j", count, "-G", "-S", "-t", "2"])
    return tools


def _version(name: str, command: Path) -> str:
    """The version of a tool that is installed in an environment of its own."""
    found = command.parent.parent.glob(f"lib/python*/site-packages/{name}-*.dist-info")
    return next((path.name.removesuffix(".dist-info").rpartition("-")[2] for path in found), "unknown")


def judge_packages(jobs: int) -> None:
    """Judge the packages of this folder as a script with nbrun does, saving each result; print the verdicts."""
    import nbrun

    with tempfile.TemporaryDirectory() as results:
        sandbox = LocalSandbox(time_limit_s=2, languages={"PYTHON3": PYPY3} if not PYPY3.missing else None)
        run = nbrun.start(read_problems("."), sandbox, Path(results) / "r", workers=jobs, view=None)
        run.wait()
        print(json.dumps(dict(run.progress.verdicts)))


if __name__ == "__main__":
    judge_packages(int(sys.argv[1]))
