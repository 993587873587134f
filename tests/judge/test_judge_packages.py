"""Problem packages of Kattis and ICPC: what is read of them, and that every submission gets the verdict it declares."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nbrun.errors import InputError, JudgeError, NotSupportedError, SampleError
from nbrun.judge import DEFAULT_LANGUAGES, LocalSandbox, read_problems
from nbrun.model import Task
from nbrun.samples import SampleReader

PACKAGES = Path(__file__).parent / "packages"
#: Those of which nothing can be judged here, or not all.
ODD = {"guess", "points", "kinds"}


def problems() -> dict[str, dict[str, Any]]:
    return {p["id"]: p for p in read_problems(PACKAGES)}


def tasks(problem: dict[str, Any]) -> list[tuple[Task, Any]]:
    """Every submission as a run would see it, with the verdicts that are due."""
    sample = SampleReader().read(problem, 0)
    due = problem["expected_verdicts"]
    assert {g.name: len(g.items) for g in sample.groups} == {name: len(verdicts) for name, verdicts in due.items()}
    return [
        (Task(problem["id"], g.name, i, item, problem), due[g.name][i])
        for g in sample.groups
        for i, item in enumerate(g.items)
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs that were compiled once are taken from here."""
    return tmp_path_factory.mktemp("built")


@pytest.mark.parametrize("workers", [2, 16])
def test_every_submission_gets_the_verdict_that_it_declares(workers: int, built: Path) -> None:
    todo = [job for name, p in problems().items() if name not in ODD for job in tasks(p)]
    assert len(todo) >= 57
    sandbox = LocalSandbox(cache_dir=built)
    try:
        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(lambda job: sandbox(job[0]), todo))
    finally:
        sandbox.close()
    wrong = [
        (task.sample_id, task.item["submission"], due, result["verdict"], result["tests"][-1]["exec_info"])
        for (task, due), result in zip(todo, results, strict=True)
        if result["verdict"] not in ([due] if isinstance(due, str) else due)
    ]
    assert not wrong


def test_what_can_not_be_judged_is_named_and_counted_apart() -> None:
    read = read_problems(PACKAGES)
    odd = [p for p in read if p["id"] in ODD]
    assert read.not_supported == Counter({
        "an interactive problem": 2, "a scoring problem": 2, "built: it brings its own build script": 1,
        **{f"language {name}": 1 for name in ("KOTLIN", "PYTHON", "RUST") if DEFAULT_LANGUAGES[name].missing},
        "submissions in partially_accepted/ have no verdict of their own in this judge": 1,
    })  # fmt: skip
    assert "2 × an interactive problem" in repr(read)
    assert read.languages["PYTHON3"] > 40
    assert read.languages["KOTLIN"] == 1
    sandbox, said = LocalSandbox(), {}
    try:
        for problem in odd:
            for task, _ in tasks(problem):
                try:
                    said[task.item["submission"], problem["id"]] = sandbox(task)["verdict"]
                except NotSupportedError as e:
                    said[task.item["submission"], problem["id"]] = str(e)
    finally:
        sandbox.close()
    verdicts = {key: value for key, value in said.items() if value in ("Accepted", "WrongAnswer")}
    assert verdicts == {("accepted/one.py", "kinds"): "Accepted", ("wrong_answer/zero.py", "kinds"): "WrongAnswer"}
    words = ["interactive", "scoring", "build script", "KOTLIN", "Python 2", "partially_accepted", "RUST"]
    rest = [value for key, value in said.items() if key not in verdicts]
    assert all(any(word in text for word in words) for text in rest)
    assert len(rest) == 9


def test_tests_flags_and_limits_are_the_packages() -> None:
    found = problems()
    assert list(found) == sorted(found)
    assert [t["name"] for t in found["grouped"]["tests"]] == [
        "sample/1", "secret/a_exact/1", "secret/b_near/1", "secret/b_near/deep/2", "secret/c_far/1",
    ]  # fmt: skip
    assert [t["flags"][1] for t in found["grouped"]["tests"]] == ["0", "0", "2", "2", "50"]
    assert [t["flags"] for t in found["ordering"]["tests"]] == [["strict", "order"]] * 2 + [
        ["loose"],
        ["strict", "order"],
    ]
    assert found["shout"]["tests"][0]["flags"] == ["case_sensitive", "space_change_sensitive"]
    assert found["latin"]["tests"][0]["input"] == b"caf\xe9\n"
    limits = {n: (p["time_limit_s"], p["memory_limit_mb"], p["output_limit_mb"]) for n, p in found.items()}
    assert limits["sums"] == (1.0, 256.0, 8.0)
    assert limits["harmonic"] == (0.8, 2048.0, 8.0)
    assert limits["factor"] == (1.0, 2048.0, 1.0)
    assert limits["ordering"] == (0.7, 300.0, 8.0)
    assert limits["shout"] == (None, 512.0, 8.0)
    assert {p["checker"]["type"] for p in found.values() if "checker" in p} == {"kattis", "validator"}


def test_sets_of_tests_are_chosen() -> None:
    samples = {p["id"]: p for p in read_problems(PACKAGES, tests=["public_tests"])}
    assert [t["name"] for t in samples["harmonic"]["tests"]] == ["sample/1", "sample/2"]


def test_submissions_of_several_files() -> None:
    items = {item["submission"]: item for item in problems()["parts"]["solutions"]}
    cpp = items["accepted/cpp_parts"]
    assert cpp["language"] == "CPP"
    assert cpp["file"] == "main.cpp"
    assert sorted(cpp["files"]) == ["given.cpp", "given.h", "square.cpp", "square.hpp"]
    assert "int main" in cpp["solution"]
    assert sorted(items["accepted/py_parts"]["files"]) == ["tools/__init__.py", "tools/square.py"]
    assert items["accepted/java_parts"]["file"] == "Start.java"


def test_a_source_may_say_itself_what_is_due(tmp_path: Path) -> None:
    shutil.copytree(PACKAGES / "sums", tmp_path / "sums")
    folder = tmp_path / "sums/submissions/mixed"
    folder.mkdir()
    (folder / "a.py").write_text("# @EXPECTED_RESULTS@: TIMELIMIT, WRONG-ANSWER\n")
    (folder / "b.cpp").write_text("/* @EXPECTED_RESULTS@: CORRECT */ int main() {}\n")
    (folder / "c.py").write_text("print(1)\n")
    (problem,) = read_problems(tmp_path)
    items, due = problem["incorrect_solutions"], problem["expected_verdicts"]["incorrect_solution"]
    told = {item["submission"]: verdicts for item, verdicts in zip(items, due, strict=True)}
    assert told["mixed/a.py"] == ["TimeLimitExceeded", "WrongAnswer", "OutputLimitExceeded"]
    assert told["mixed/b.cpp"] == "Accepted"
    assert told["mixed/c.py"] is None


def test_the_main_file_of_python_is_the_one_that_no_other_imports(tmp_path: Path) -> None:
    shutil.copytree(PACKAGES / "sums", tmp_path / "sums")
    folder = tmp_path / "sums/submissions/accepted/parts"
    folder.mkdir()
    (folder / "adding.py").write_text("def add(x): return sum(x)\n")
    (folder / "start.py").write_text("from adding import add\ninput()\nprint(add(map(int, input().split())))\n")
    (problem,) = read_problems(tmp_path)
    (item,) = (item for item in problem["solutions"] if item["submission"] == "accepted/parts")
    assert item["file"] == "start.py"


def test_one_package_by_its_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = read_problems(PACKAGES / "sums")
    assert problem["id"] == "sums"
    monkeypatch.chdir(PACKAGES / "sums")
    (problem,) = read_problems(".")
    assert problem["id"] == "sums"


def test_packages_below_others_are_named_by_their_path(tmp_path: Path) -> None:
    for name in ("2023/sums", "2024/sums"):
        shutil.copytree(PACKAGES / "sums", tmp_path / name)
    assert [p["id"] for p in read_problems(tmp_path)] == ["2023/sums", "2024/sums"]


def spoil(folder: Path, what: str) -> None:
    """Damages a copy of `sums`."""
    if what == "no answer":
        (folder / "data/secret/03_large.ans").unlink()
    elif what == "no tests":
        shutil.rmtree(folder / "data")
    elif what == "no yaml":
        (folder / "problem.yaml").write_text("name: [1, 2\n")
    elif what == "a list":
        (folder / "problem.yaml").write_text("- 1\n")
    elif what == "odd limit":
        (folder / ".timelimit").write_text("soon\n")
    elif what == "odd limits":
        (folder / "problem.yaml").write_text("limits: 3\n")


SPOILT = {
    "no answer": r"secret/03_large\.in has no 03_large\.ans",
    "no tests": r"data/ holds no \*\.in",
    "no yaml": r"problem\.yaml is no YAML",
    "a list": r"problem\.yaml holds a list, not a mapping",
    "odd limit": r"'time_limit_s' is 'soon', not a number",
    "odd limits": "limits is a int, not a mapping",
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_wrong_with_a_package_is_said(tmp_path: Path, what: str) -> None:
    shutil.copytree(PACKAGES / "sums", tmp_path / "set" / "sums")
    spoil(tmp_path / "set" / "sums", what)
    with pytest.raises(SampleError, match=SPOILT[what]) as caught:
        list(read_problems(tmp_path))
    assert "set/sums" in str(caught.value)
    assert caught.value.sample_id == "set/sums"


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("type: interactive", "an interactive problem"),
        ("type: [multi-pass, interactive]", "an interactive problem"),
        ("type: pass-fail multi-pass", "a multi-pass problem"),
        ("type: submit-answer", "a submit-answer problem"),
        ("type: quiz", "unknown type 'quiz'"),
        ("validation: custom score", "a scoring problem"),
        ("validation: custom", "its output validator is missing"),
    ],
)
def test_kinds_of_problems(tmp_path: Path, yaml: str, reason: str) -> None:
    shutil.copytree(PACKAGES / "sums", tmp_path / "sums")
    (tmp_path / "sums" / "problem.yaml").write_text(yaml + "\n")
    (problem,) = read_problems(tmp_path)
    assert reason in problem["not_supported"]
    assert problem["tests"] == []


def test_arguments_for_programs_are_not_supported(tmp_path: Path) -> None:
    shutil.copytree(PACKAGES / "sums", tmp_path / "sums")
    (tmp_path / "sums/data/secret/04_long.yaml").write_text("args: [--fast]\n")
    (problem,) = read_problems(tmp_path)
    assert problem["not_supported"] == "its programs are given arguments"


def test_a_folder_without_problems_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no problem package"):
        read_problems(tmp_path)


def test_names_of_files_that_lead_outside_are_no_program(tmp_path: Path) -> None:
    sandbox = LocalSandbox(isolation="none")
    problem = {"id": "p", "tests": [{"input": "", "output": ""}]}
    try:
        for name in ("../x.py", "/etc/x", "a/../../x", "a b.py", ""):
            item = {"language": "PYTHON3", "solution": "", "file": "main.py", "files": {name: "print(1)"}}
            with pytest.raises(JudgeError, match="a solution's file is named"):
                sandbox(Task("p", "solution", 0, item, problem))
    finally:
        sandbox.close()


def limited(tmp_path: Path, yaml: str) -> tuple[dict[str, Any], LocalSandbox]:
    """`harmonic` without the limit that it brings."""
    shutil.copytree(PACKAGES / "harmonic", tmp_path / "harmonic")
    (tmp_path / "harmonic" / "domjudge-problem.ini").unlink()
    (tmp_path / "harmonic" / "problem.yaml").write_text("validator_flags: float_tolerance 1e-6\n" + yaml)
    (problem,) = read_problems(tmp_path)
    return problem, LocalSandbox()


@pytest.mark.parametrize(
    ("yaml", "rule"),
    [
        ("", {"multiplier": 5.0, "resolution": 1.0}),
        ("limits: {time_multiplier: 3}", {"multiplier": 3.0, "resolution": 1.0}),
        ("problem_format_version: 2025-09", {"multiplier": 2.0, "resolution": 1.0}),
        (
            "problem_format_version: 2025-09\nlimits: {time_multipliers: {ac_to_time_limit: 4}, time_resolution: 0.1}",
            {"multiplier": 4.0, "resolution": 0.1},
        ),
    ],
)
def test_how_a_limit_follows_from_accepted_submissions(tmp_path: Path, yaml: str, rule: dict[str, float]) -> None:
    problem, sandbox = limited(tmp_path, yaml)
    sandbox.close()
    assert problem["time_limit_s"] is None
    assert problem["time_limit_from"] == rule


def test_a_package_without_a_limit_gets_it_from_its_accepted_submissions(tmp_path: Path) -> None:
    yaml = "problem_format_version: 2025-09\nlimits: {time_multipliers: {ac_to_time_limit: 5}, time_resolution: 0.25}\n"
    problem, sandbox = limited(tmp_path, yaml)
    try:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda job: sandbox(job[0]), tasks(problem)))
    finally:
        sandbox.close()
    limits = {result["limits"]["time_limit_s"] for result in results}
    assert len(limits) == 1, "found out once"
    (limit_s,) = limits
    assert limit_s % 0.25 == 0
    slowest = max(t["exec_info"]["run_result"]["execution_time"] for r in results[:2] for t in r["tests"])
    assert limit_s >= slowest
    for (_, due), result in zip(tasks(problem), results, strict=True):
        assert result["verdict"] in ([due] if isinstance(due, str) else due)


def test_the_users_own_limit_comes_first(tmp_path: Path) -> None:
    problem, sandbox = limited(tmp_path, "")
    sandbox.close()
    sandbox = LocalSandbox(time_limit_s=1.5)
    try:
        assert sandbox(tasks(problem)[0][0])["limits"]["time_limit_s"] == 1.5
    finally:
        sandbox.close()
