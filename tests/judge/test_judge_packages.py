"""Problem packages of Kattis and ICPC: what is read of them, and that every submission gets the verdict it declares."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from judge_helpers import limiter_of

import nbrun
from nbrun.errors import InputError, JudgeError, NotSupportedError, SampleError
from nbrun.judge import DEFAULT_LANGUAGES, LocalSandbox, read_problems, recheck
from nbrun.judge.fusion.protocol import check_sendable
from nbrun.judge.grading import grade, rules_of
from nbrun.model import Task
from nbrun.samples import SampleReader

PACKAGES = Path(__file__).parent / "packages"
#: Those of which nothing can be judged here, or not all.
ODD = {"kinds"}


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


def judged(sandbox: LocalSandbox, task: Task) -> Any:
    """The result of a task, which a machine that is too busy to tell makes run again, as an engine would."""
    for _ in range(4):
        try:
            return sandbox(task)
        except JudgeError as e:
            if not e.retriable:
                raise
    return sandbox(task)


@pytest.mark.parametrize("workers", [2, 16])
@pytest.mark.needs("g++", "javac")
def test_every_submission_gets_the_verdict_that_it_declares(workers: int, built: Path) -> None:
    todo = [job for name, p in problems().items() if name not in ODD for job in tasks(p)]
    assert len(todo) >= 57
    with closing(LocalSandbox(cache_dir=built)) as sandbox, ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda job: judged(sandbox, job[0]), todo))
    wrong = [
        (task.sample_id, task.item["submission"], due, result["verdict"], result["tests"][-1]["exec_info"])
        for (task, due), result in zip(todo, results, strict=True)
        if result["verdict"] not in ([due] if isinstance(due, str) else due)
    ]
    assert not wrong


@pytest.mark.needs("g++", "javac")
def test_what_can_not_be_judged_is_named_and_counted_apart() -> None:
    read = read_problems(PACKAGES)
    odd = [p for p in read if p["id"] in ODD]
    assert read.not_supported == Counter({
        **{f"language {name}": 1 for name in ("KOTLIN", "PYTHON", "RUST") if DEFAULT_LANGUAGES[name].missing},
        "submissions in partially_accepted/ have no verdict of their own in this judge": 1,
    })  # fmt: skip
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
    assert said["accepted/built", "kinds"] == said["accepted/one.py", "kinds"] == "Accepted"
    assert said["wrong_answer/zero.py", "kinds"] == "WrongAnswer"
    assert "partially_accepted" in said["partially_accepted/half.py", "kinds"]
    for name, row in (("KOTLIN", "accepted/one.kt"), ("PYTHON", "accepted/two.py"), ("RUST", "wrong_answer/zero.rs")):
        assert (f"{name} is not judged" in said[row, "kinds"]) == bool(DEFAULT_LANGUAGES[name].missing)


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
    due_of = {item["submission"]: verdicts for item, verdicts in zip(items, due, strict=True)}
    assert due_of["mixed/a.py"] == ["TimeLimitExceeded", "WrongAnswer", "OutputLimitExceeded"]
    assert due_of["mixed/b.cpp"] == "Accepted"
    assert due_of["mixed/c.py"] is None


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


def zipped(path: Path, files: dict[str, str | bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def packed(path: Path, *packages: str, folder: str = "") -> Path:
    """Write packages of the tests into a ZIP file, one with its files at the top."""
    files: dict[str, str | bytes] = {}
    for name in packages:
        for file in (PACKAGES / name).rglob("*"):
            if file.is_file():
                at = f"{name}/" if folder or len(packages) > 1 else ""
                files[folder + at + file.relative_to(PACKAGES / name).as_posix()] = file.read_bytes()
    return zipped(path, files)


@pytest.mark.parametrize("suffix", [".zip", ".kpp", ".ZIP"])
@pytest.mark.parametrize("folder", ["", "sums/", "./", "some/folder/", "C\\"])
def test_a_package_as_a_zip_file_is_read_as_its_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, folder: str
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    path = packed(tmp_path / f"sums{suffix}", "sums", folder=folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._problem.yaml", b"\0")
    assert list(read_problems(path)) == list(read_problems(PACKAGES / "sums"))
    assert not list((tmp_path / "temporary").iterdir())


def test_several_packages_in_zip_files(tmp_path: Path) -> None:
    packed(tmp_path / "2024" / "contest.zip", "sums", "shout", folder="all/")
    packed(tmp_path / "2023" / "harmonic.kpp", "harmonic")
    shutil.copytree(PACKAGES / "latin", tmp_path / "2025" / "latin")
    zipped(tmp_path / "statements.zip", {"a.pdf": "no package"})
    assert [p["id"] for p in read_problems(tmp_path)] == [
        "2023/harmonic", "2024/contest/all/shout", "2024/contest/all/sums", "2025/latin",
    ]  # fmt: skip
    assert [p["id"] for p in read_problems(tmp_path / "2024/contest.zip")] == ["all/shout", "all/sums"]
    with pytest.raises(SampleError, match=r"statements\.zip: it holds no problem package"):
        list(read_problems(tmp_path / "statements.zip"))


def test_a_zip_file_that_holds_no_package_does_not_hide_rows(tmp_path: Path) -> None:
    zipped(tmp_path / "statements.zip", {"a.pdf": "no package"})
    row = {"id": "a", "tests": [{"input": "", "output": "1"}], "solutions": ["print(1)"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert [p["id"] for p in read_problems(tmp_path)] == ["a"]
    (tmp_path / "damaged.zip").write_bytes(b"PK")
    read = read_problems(tmp_path, on_bad="skip")
    assert [p["id"] for p in read] == ["a"]
    assert [reason for reason in read.not_supported if "damaged.zip: the ZIP file can't be read" in reason]


def linked(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


HOSTILE: dict[str, tuple[list[tuple[Any, bytes]], str]] = {
    "up": ([("../../evil", b"x")], "leads outside"),
    "up from within": ([("sums/../../evil", b"x")], "leads outside"),
    "up, as Windows writes it": ([("..\\evil", b"x")], "leads outside"),
    "absolute": ([("/tmp/evil", b"x")], "leads outside"),
    "a drive": ([("C:/evil", b"x")], "leads outside"),
    "a link": ([(linked("data/secret/1.in", 0o120777), b"/etc/passwd")], "a link, 'data/secret/1.in'"),
    "a folder that is a link": ([(linked("data", 0o120777), b"/tmp"), ("data/evil", b"x")], "a link, 'data'"),
    "a pipe": ([(linked("data/pipe", 0o010644), b"")], "a special file"),
    "a file as a folder": ([("problem.yaml/evil", b"x")], "can't be read"),
    "a name twice": ([("./problem.yaml", b"x")], "'problem.yaml' twice"),
    "a long name": ([("a" * 300, b"x")], "can't be read"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_zip_file_is_refused_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    inner = tmp_path / "a" / "b" / "temporary"
    inner.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(inner))
    path = packed(tmp_path / "sums.zip", "sums")
    entries, reason = HOSTILE[what]
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    with pytest.raises(SampleError, match=reason):
        list(read_problems(path))
    assert not list(inner.iterdir())
    assert not [found for found in tmp_path.rglob("*") if found.name == "evil"]


def test_a_zip_file_of_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: Callable[..., None]
) -> None:
    path = packed(tmp_path / "sums.zip", "sums")
    tuning(package_max_files=3)
    with pytest.raises(SampleError, match="at most 3 files"):
        list(read_problems(path))
    monkeypatch.undo()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/secret/9.in", bytes(3 << 20))
    tuning(package_max_bytes=2 << 20)
    with pytest.raises(SampleError, match="at most 100,000 files of 2 MiB are extracted"):
        list(read_problems(path))


@pytest.mark.parametrize("what", ["nothing", "cut off", "no zip", "flipped", "says less than it holds"])
def test_a_damaged_zip_file_is_named(tmp_path: Path, what: str) -> None:
    path = zipped(tmp_path / "own.zip", {"problem.yaml": "name: own\n", "data/secret/1.in": "0" * 100_000})
    data = bytearray(path.read_bytes())
    if what == "cut off":
        del data[len(data) // 2 :]
    elif what == "no zip":
        data = bytearray(b"problem.yaml")
    elif what == "nothing":
        data = bytearray()
    elif what == "flipped":
        at = data.index(b"1.in") + 10
        data[at : at + 20] = bytes(20)
    else:
        sizes = (100_000).to_bytes(4, "little")
        assert sizes in data
        data = data.replace(sizes, (10).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(SampleError, match=r"own\.zip: the ZIP file can't be read"):
        list(read_problems(path))


def test_an_encrypted_zip_file_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "sums.zip", "sums")
    data = bytearray(path.read_bytes())
    for sign, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(sign)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(sign, at + 1)
    path.write_bytes(data)
    with pytest.raises(SampleError, match="the ZIP file is encrypted"):
        list(read_problems(path))


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
        ("type: interactive", "its output validator is missing"),
        ("type: [multi-pass, interactive]", "a multi-pass problem"),
        ("validation: custom multi-pass", "a multi-pass problem"),
        ("type: pass-fail multi-pass", "a multi-pass problem"),
        ("type: submit-answer", "a submit-answer problem"),
        ("type: quiz", "unknown type 'quiz'"),
        ("validation: custom score", "its output validator is missing"),
        ("validation: custom", "its output validator is missing"),
    ],
)
def test_kinds_of_problems(tmp_path: Path, yaml: str, reason: str) -> None:
    shutil.copytree(PACKAGES / "sums", tmp_path / "sums")
    (tmp_path / "sums" / "problem.yaml").write_text(yaml + "\n")
    (problem,) = read_problems(tmp_path)
    assert reason in problem["not_supported"]
    assert problem["tests"] == []


@pytest.mark.parametrize("generator", ["generators/random.py", "generators/generators.yaml", "data/make.sh"])
def test_a_package_whose_secret_tests_are_still_to_be_made_rejects_and_accepts_nothing(
    tmp_path: Path, generator: str
) -> None:
    """Its samples alone would accept submissions that are too slow or overflow."""
    folder = shutil.copytree(PACKAGES / "sums", tmp_path / "sums")
    (folder / generator).parent.mkdir(exist_ok=True)
    (folder / generator).write_text("print(1)\n")
    (problem,) = read_problems(folder)
    assert "not_supported" not in problem
    shutil.rmtree(folder / "data" / "secret")
    read = read_problems(folder)
    (problem,) = read
    assert problem["not_supported"] == "a problem whose secret tests its generators have not made yet"
    assert problem["tests"] == []
    (folder / generator).unlink()
    (problem,) = read_problems(folder)  # samples alone, and nothing that would make more
    assert "not_supported" not in problem


def test_a_folder_that_the_format_does_not_know_says_nothing_of_its_submissions(tmp_path: Path) -> None:
    """No tool verifies what is in it: real packages have too slow and wrong programs in `runtime_error`."""
    shutil.copytree(PACKAGES / "sums", tmp_path / "sums")
    (tmp_path / "sums" / "submissions" / "runtime_error").mkdir()
    (tmp_path / "sums" / "submissions" / "runtime_error" / "endless.py").write_text("while True: pass\n")
    (problem,) = read_problems(tmp_path)
    due = {task.item["submission"]: verdicts for task, verdicts in tasks(problem)}
    assert due["runtime_error/endless.py"] is None


def verdicts_of(folder: Path, **options: Any) -> dict[str, Any]:
    """submission -> its result, or its error as text, in the one package of a folder."""
    (problem,) = read_problems(folder)
    sandbox, found = LocalSandbox(**options), {}
    try:
        for task, _ in tasks(problem):
            try:
                found[task.item["submission"]] = sandbox(task)
            except JudgeError as e:
                found[task.item["submission"]] = {"verdict": f"{type(e).__name__}: {e}"}
    finally:
        sandbox.close()
    return found


def package(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Writes a package."""
    for name, content in {"problem.yaml": "name: own\nlimits: {time_limit: 2}\n", **files}.items():
        path = folder / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_programs_are_given_arguments_and_files(tmp_path: Path) -> None:
    program = "import sys\nprint(sys.argv[1:], open('a/b.txt').read(), input())\n"
    found = verdicts_of(package(tmp_path, {
        "data/secret/1.in": "3\n", "data/secret/1.ans": "['--fast', '7'] in it 3\n",
        "data/secret/1.yaml": "args: [--fast, 7]\n", "data/secret/1.files/a/b.txt": "in it",
        "submissions/accepted/a.py": program, "submissions/wrong_answer/b.py": program.replace("[1:]", "[2:]"),
    }))  # fmt: skip
    assert [result["verdict"] for result in found.values()] == ["Accepted", "WrongAnswer"]


VALIDATE = '#include "{}"\nint main(int, char** v) {{ return judge(v); }}\n'
HEADER = """#include <fstream>
inline int judge(char** v) { std::ifstream a(v[2]); int n; a >> n; return n == 3 ? 42 : 43; }
"""


@pytest.mark.parametrize(
    ("header", "as_"),
    [
        ("output_validators/validate.h", "validate.h"),
        ("output_validators/validate.h", "../validate.h"),
        ("output_validators/own/validate.h", "validate.h"),
        ("include/validate.h", "validate.h"),
        ("input_validators/validation.h", "validation.h"),
        ("validate.h", "validate.h"),
    ],
)
@pytest.mark.needs("g++")
def test_headers_beside_a_validator_or_shared_by_its_package(tmp_path: Path, header: str, as_: str) -> None:
    found = verdicts_of(package(tmp_path, {
        "problem.yaml": "validation: custom\n", "data/secret/1.in": "", "data/secret/1.ans": "3\n",
        "output_validators/own/check.cc": VALIDATE.format(as_), header: HEADER,
        "submissions/accepted/a.py": "print(1)\n",
    }))  # fmt: skip
    assert found["accepted/a.py"]["verdict"] == "Accepted"


def test_build_scripts_of_validators_and_submissions(tmp_path: Path) -> None:
    validator = '#!/bin/sh\nread n\n[ "$n" = 3 ] && exit 42\nexit 43\n'
    found = verdicts_of(package(tmp_path, {
        "problem.yaml": "validation: custom\n", "data/secret/1.in": "3\n", "data/secret/1.ans": "",
        "output_validators/own/build": "#!/bin/sh\ncp check.sh run && chmod +x run\n",
        "output_validators/own/check.sh": validator,
        "submissions/accepted/ready/run": "#!/bin/sh\ncat\n",
        "submissions/wrong_answer/made/build": "#!/bin/sh\nprintf '#!/bin/sh\\necho 4\\n' > run; chmod +x run\n",
        "submissions/compile_error/fails/build": "#!/bin/sh\necho 'it can not be built' >&2\nexit 1\n",
    }))  # fmt: skip
    said = {name: result["verdict"] for name, result in found.items()}
    assert said == {
        "accepted/ready": "Accepted", "wrong_answer/made": "WrongAnswer", "compile_error/fails": "CompileError",
    }  # fmt: skip


@pytest.mark.needs("gcc")
def test_sources_and_outputs_in_latin_1(tmp_path: Path) -> None:
    c = '#include <stdio.h>\n/* \xe9 */ int main(void) { puts("caf\xe9"); return 0; }\n'.encode("latin-1")
    python = "# coding: latin-1\nimport os\nos.write(1, 'caf\xe9'.encode('latin-1'))".encode("latin-1")
    found = verdicts_of(package(tmp_path, {
        "data/secret/1.in": "", "data/secret/1.ans": b"caf\xe9\n",
        "submissions/accepted/a.c": c, "submissions/accepted/b.cpp": c, "submissions/accepted/d.py": python,
        "submissions/wrong_answer/c.c": c.decode("latin-1"),
    }))  # fmt: skip
    assert [r["verdict"] for r in found.values()] == ["Accepted"] * 3 + ["WrongAnswer"], found


JAVA = "import java.util.*;\n{}class {} {{ {} }}\n"


@pytest.mark.parametrize("folders", ["", "com/own/"])
@pytest.mark.needs("javac")
def test_java_of_several_files(tmp_path: Path, folders: str) -> None:
    head = f"package {folders.strip('/').replace('/', '.')};\n" if folders else ""
    helper = head + JAVA.format("public ", "Alpha", "static int domain(int n) { return n; } /* main( */")
    start = head + JAVA.format(
        "public ", "Solve",
        "public static void main(String[] a) { System.out.println(Alpha.domain(new Scanner(System.in).nextInt())); }",
    )  # fmt: skip
    at = "submissions/accepted/own/" + folders
    found = verdicts_of(package(tmp_path, {
        "data/secret/1.in": "3\n", "data/secret/1.ans": "3\n", f"{at}Alpha.java": helper, f"{at}Solve.java": start,
    }))  # fmt: skip
    assert found["accepted/own"]["verdict"] == "Accepted", found


EXPECTATIONS = """
accepted/*: {permitted: [AC]}
mixed/slow_*.py: {permitted: [TLE, WA], required: [TLE]}
"mixed/{right,good}.py": {permitted: [AC]}
mixed/odd.txt.py: wrong_answer
mixed/two: {language: python3, entrypoint: second.py, permitted: [WA, RTE]}
"""


def test_expectations_of_submissions_yaml(tmp_path: Path) -> None:
    names = ("accepted/a.py", "mixed/slow_a.py", "mixed/right.py", "mixed/odd.txt.py", "mixed/two/first.py")
    files: dict[str, str | bytes] = {f"submissions/{name}": "print(1)\n" for name in (*names, "mixed/two/second.py")}
    files |= {"data/secret/1.in": "", "data/secret/1.ans": "", "submissions/submissions.yaml": EXPECTATIONS}
    (problem,) = read_problems(package(tmp_path, files))
    due = {task.item["submission"]: (task.group, verdicts) for task, verdicts in tasks(problem)}
    assert due == {
        "accepted/a.py": ("solution", "Accepted"),
        "mixed/right.py": ("solution", "Accepted"),
        "mixed/slow_a.py": ("incorrect_solution", ["TimeLimitExceeded", "WrongAnswer", "OutputLimitExceeded"]),
        "mixed/odd.txt.py": ("incorrect_solution", ["WrongAnswer", "OutputLimitExceeded"]),
        "mixed/two": (
            "incorrect_solution", ["WrongAnswer", "OutputLimitExceeded", "RuntimeError", "MemoryLimitExceeded"],
        ),
    }  # fmt: skip
    (two,) = (item for item in problem["incorrect_solutions"] if item["submission"] == "mixed/two")
    assert two["file"] == "second.py"
    (tmp_path / "own/submissions/submissions.yaml").write_text("accepted/*: [AC]\n")
    with pytest.raises(SampleError, match=r"submissions\.yaml: 'accepted/\*' has a list"):
        list(read_problems(tmp_path))


WRONG = ["WrongAnswer", "OutputLimitExceeded"]
CRASH = ["RuntimeError", "MemoryLimitExceeded"]
RULES: dict[str, tuple[str, Any]] = {
    "required alone": ("wrong_answer/*: {required: [TLE]}", "TimeLimitExceeded"),
    "accepted is permitted and something else required": (
        "wrong_answer/a.py: {permitted: [AC, TLE], required: [TLE]}", "TimeLimitExceeded",
    ),
    "accepted or too slow": ("wrong_answer/a.py: {permitted: [AC, TLE]}", ["Accepted", "TimeLimitExceeded"]),
    "all that match": (
        "wrong_answer/*: {permitted: [WA, TLE]}\nwrong_answer/a.py: {permitted: [TLE, RTE]}", "TimeLimitExceeded",
    ),
    "a folder in the place of the format's rule": (
        "wrong_answer: {permitted: [AC, WA, RTE], required: [WA, RTE]}", [*WRONG, *CRASH],
    ),
    "a part of the format's rule": ("wrong_answer: {required: [WA]}", WRONG),
    "no star for a slash": ("'*': {authors: x}\nwrong*a.py: {permitted: [AC]}", WRONG),
    "only authors": ("wrong_answer/*: {authors: A, model_solution: false}", WRONG),
    "a rule of a group that has no test": ("wrong_answer/a.py: {secret/2: {permitted: [AC]}}", WRONG),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_what_submissions_yaml_permits_and_requires(tmp_path: Path, name: str) -> None:
    text, wanted = RULES[name]
    files: dict[str, str | bytes] = {"submissions/wrong_answer/a.py": "print(1)\n", "data/secret/1.in": ""}
    files |= {"data/secret/1.ans": "", "submissions/submissions.yaml": text}
    (problem,) = read_problems(package(tmp_path, files))
    assert [verdicts for _, verdicts in tasks(problem)] == [wanted]


GROUPED: dict[str, str | bytes] = {
    "problem.yaml": "type: scoring\nproblem_format_version: 2025-09\nlimits: {time_limit: 1}\n",
    "data/secret/test_group.yaml": "score_aggregation: sum\n",
    "data/secret/easy/test_group.yaml": "max_score: 30\nscore_aggregation: sum\n",
    "data/secret/easy/1.in": "1\n",
    "data/secret/easy/1.ans": "1\n",
    "data/secret/easy/2.in": "2\n",
    "data/secret/easy/2.ans": "2\n",
    "data/secret/hard/1.in": "9\n",
    "data/secret/hard/1.ans": "9\n",
    "output_validator/check.py": "import sys\nn = open(sys.argv[2]).read()\nif sys.stdin.read() == n: sys.exit(42)\n"
    "open(sys.argv[3] + 'judgemessage.txt', 'w').write('x' * 500 + f'differs at {n}')\nsys.exit(43)\n",
    "submissions/mixed/half.py": "n = int(input())\nprint(n if n < 5 else n / (n - 9))\n",
}
ANY_FAILURE = [*WRONG, "TimeLimitExceeded", *CRASH]
#: What submissions.yaml says of half.py, which is right on `easy` and crashes on `hard` -> expected verdicts, unmet.
OF_GROUPS: dict[str, tuple[str, Any, list[str]]] = {
    "as it is": (
        "secret/easy: {permitted: [AC]}\n  secret/hard: {permitted: [AC, RTE], required: [RTE]}", CRASH, [],
    ),
    "another verdict": (
        "secret/hard: {permitted: [AC, TLE], required: [TLE]}",
        ANY_FAILURE,  # of the tests of `easy`, nothing is said
        ["secret/hard/1 is RuntimeError, not Accepted or TimeLimitExceeded",
         "no test of secret/hard is TimeLimitExceeded"],
    ),
    "accepted": (
        "permitted: [AC, WA]\n  secret/*: {permitted: [AC]}", "Accepted",
        ["secret/hard/1 is RuntimeError, not Accepted or WrongAnswer or OutputLimitExceeded",
         "secret/hard/1 is RuntimeError, not Accepted"],
    ),
    "by a pattern of tests": ("secret/{easy,hard}/2: {permitted: [AC]}", ["Accepted", *ANY_FAILURE], []),
    "a score": ("score: 30\n  permitted: [AC, RTE]", ["Accepted", *CRASH], []),
    "a range of scores": ("score: [10, 20.5]\n  permitted: [AC, RTE]", ["Accepted", *CRASH],
                          ["the score is 30, not 10 to 20.5"]),
    "scores of groups": (
        "permitted: [RTE]\n  secret/easy: {permitted: [AC], score: 30}\n  secret/hard: {score: 70}", None, [],
    ),
    "scores of all groups": (
        "secret/*: {permitted: [AC, RTE], score: [30, 30]}", ["Accepted", *CRASH],
        ["the score of secret/hard is 0, not 30"],
    ),
    "a message": ("message: differs\n  permitted: [AC, RTE]", ["Accepted", *CRASH],
                  ["no message of the validator contains 'differs'"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_GROUPS)
def test_what_submissions_yaml_expects_of_groups_scores_and_messages(tmp_path: Path, name: str) -> None:
    text, verdicts, unmet = OF_GROUPS[name]
    package(tmp_path, {**GROUPED, "submissions/submissions.yaml": f"mixed/half.py:\n  {text}\n"})
    if verdicts is None:
        with pytest.raises(SampleError, match=r"match mixed/half\.py permit no verdict together on the test secret/ea"):
            list(read_problems(tmp_path))
        return
    (problem,) = read_problems(tmp_path)
    assert [found for _, found in tasks(problem)] == [verdicts]
    (result,) = verdicts_of(tmp_path).values()
    assert result["verdict"] == "RuntimeError"
    assert result["unmet"] == unmet
    assert len(result["tests"]) == 3


def test_a_message_is_looked_for_in_all_of_what_the_validator_said(tmp_path: Path) -> None:
    rules = "mixed/half.py: {message: differs at 9, secret/easy: {message: differs}}\n"
    wrong = GROUPED["submissions/mixed/half.py"].replace("n / (n - 9)", "8")  # type: ignore[arg-type]
    package(tmp_path, {**GROUPED, "submissions/mixed/half.py": wrong, "submissions/submissions.yaml": rules})
    (result,) = verdicts_of(tmp_path, keep_output_bytes=100).values()
    assert result["verdict"] == "WrongAnswer"
    assert result["unmet"] == ["no message of the validator of secret/easy contains 'differs'"]


def test_a_submission_without_such_expectations_has_none_in_its_result(tmp_path: Path) -> None:
    package(tmp_path, {**GROUPED, "submissions/submissions.yaml": "mixed/half.py: {permitted: [RTE]}\n"})
    (problem,) = read_problems(tmp_path)
    assert "expectations" not in problem
    assert "unmet" not in verdicts_of(tmp_path)["mixed/half.py"]


def test_a_score_is_only_expected_of_scoring_problems(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"submissions/wrong_answer/a.py": "print(1)\n", "data/secret/1.in": ""}
    rules = "wrong_answer/*: {score: 10}\n"
    package(tmp_path, {**files, "data/secret/1.ans": "2", "submissions/submissions.yaml": rules})
    assert verdicts_of(tmp_path)["wrong_answer/a.py"]["unmet"] == [
        "there is no score: the problem isn't a scoring problem"
    ]


BAD_RULES = {
    "{permitted: [XX]}": "permitted holds 'XX', which is none of AC, WA, TLE, RTE",
    "{required: 3}": "required is 3, not a list of verdicts",
    "{required: [1]}": r"required is \[1\], not a list of verdicts",
    "{score: high}": "score is 'high': give a number",
    "{score: [2, 1]}": r"score is \[2, 1\]: give a number",
    "{score: true}": "score is True: give a number",
    "{message: [a]}": r"message is \['a'\], not text",
    "{use_for_time_limit: maybe}": "use_for_time_limit is 'maybe': give true, false, lower or upper",
    "{requried: [TLE]}": "there is no key 'requried'; did you mean 'required'",
    "{secret/a: {permitted: [YY]}}": "'wrong_answer/a.py', 'secret/a': permitted holds 'YY'",
}


@pytest.mark.parametrize("text", BAD_RULES)
def test_a_wrong_submissions_yaml_is_named(tmp_path: Path, text: str) -> None:
    files: dict[str, str | bytes] = {"submissions/wrong_answer/a.py": "print(1)\n", "data/secret/1.in": ""}
    rules = f"wrong_answer/a.py: {text}\n"
    package(tmp_path, {**files, "data/secret/1.ans": "", "submissions/submissions.yaml": rules})
    with pytest.raises(SampleError, match=BAD_RULES[text]):
        list(read_problems(tmp_path))


def test_a_submission_that_sets_no_time_limit(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 1.2: pass\nprint(1)\n"
    package(tmp_path, {
        "problem.yaml": "problem_format_version: 2025-09\nname: own\n", "data/secret/1.in": "",
        "data/secret/1.ans": "1\n", "submissions/accepted/fast.py": "print(1)\n",
        "submissions/accepted/slow.py": burn,
        "submissions/submissions.yaml": "accepted/slow.py: {use_for_time_limit: false}\n",
    })  # fmt: skip
    (problem,) = read_problems(tmp_path)
    with closing(LocalSandbox()) as sandbox:
        (fast,) = (task for task, _ in tasks(problem) if task.item["submission"] == "accepted/fast.py")
        assert judged(sandbox, fast)["limits"]["time_limit_s"] == 1.0  # with slow.py it would be 3 or more


def test_brute_force_is_too_slow_or_crashes(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"submissions/brute_force/a.py": "print(1)\n", "data/secret/1.in": ""}
    (problem,) = read_problems(package(tmp_path, {**files, "data/secret/1.ans": ""}))
    assert problem["expected_verdicts"]["incorrect_solution"] == [["TimeLimitExceeded", *CRASH]]


def test_rules_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    rules = "accepted/*: {permitted: [AC]}\naccepted/a.py: {permitted: [WA]}\n"
    files: dict[str, str | bytes] = {"submissions/accepted/a.py": "print(1)\n", "data/secret/1.in": ""}
    package(tmp_path, {**files, "data/secret/1.ans": "", "submissions/submissions.yaml": rules})
    with pytest.raises(SampleError, match=r"the patterns that match accepted/a\.py permit no verdict together"):
        list(read_problems(tmp_path))


CONSTANTS = """problem_format_version: 2025-09
name: own
limits: {time_limit: 2}
constants: {most: 7, word: seven, eps: {value: 0.5, half: one half}}
"""


def test_constants_stand_in_submissions_validators_included_files_and_groups(tmp_path: Path) -> None:
    check = (
        "import sys\nright = ['{{word}}', '0.5', '{{eps.half}}'] == [*sys.argv[4:], 'one half']\n"
        "sys.exit(42 if right and sys.stdin.read() == '7 7 {{no}}' else 43)\n"
    )
    found = verdicts_of(package(tmp_path, {
        "problem.yaml": CONSTANTS, "data/secret/1.in": "{{most}}\n", "data/secret/1.ans": "",
        "data/test_group.yaml": "output_validator_args: ['{{word}}', '{{eps}}']\n",
        "output_validator/check.py": check, "include/python3/shared.py": "MOST = {{most}}\n",
        "submissions/accepted/a.py": "import shared\nprint(shared.MOST, {{most.value}}, '{{no}}', end='')\n",
        "submissions/wrong_answer/b.py": "print(input())\n",
    }))  # fmt: skip
    assert {name: result["verdict"] for name, result in found.items()} == {
        "accepted/a.py": "Accepted", "wrong_answer/b.py": "WrongAnswer",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "language"),
    [
        ("print 'a'\n", "PYTHON"),
        ("n = 3\nif n: print n, 'b'\n", "PYTHON"),
        ("for n in map(int, raw_input().split()): print(n)\n", "PYTHON"),
        ("try: input = raw_input\nexcept NameError: pass\nprint(input())\n", "PYTHON3"),
        ("text = '''\nprint it\n'''\nprint(text)\n", "PYTHON3"),
        ("print (1)\nprint\n", "PYTHON3"),
        ("#!/usr/bin/python3\nprint 'a'\n", "PYTHON3"),
        ("#!/usr/bin/env python2\nprint('a')\n", "PYTHON"),
        ("#!/usr/bin/env python\nprint 'a'\n", "PYTHON"),
    ],
)
def test_a_source_that_can_only_be_python_2_is_python_2(tmp_path: Path, source: str, language: str) -> None:
    files = {"data/secret/1.in": "", "data/secret/1.ans": "", "submissions/accepted/a.py": source}
    (problem,) = read_problems(package(tmp_path, files))
    assert [item["language"] for item in problem["solutions"]] == [language]


def test_arguments_are_inherited_from_groups_and_included_files_replace_a_submissions_own(tmp_path: Path) -> None:
    (problem,) = read_problems(package(tmp_path, {
        "data/secret/1.in": "", "data/secret/1.ans": "", "data/secret/2.in": "", "data/secret/2.ans": "",
        "data/secret/test_group.yaml": "args: [--fast]\noutput_validator_args: case_sensitive\n",
        "data/secret/2.yaml": "args: []\noutput_validator_args: []\n", "include/python3/shared.py": "right\n",
        "include/default/shared.py": "default\n", "include/default/all.txt": "all\n",
        "submissions/accepted/a/main.py": "import shared\n", "submissions/accepted/a/shared.py": "own\n",
    }))  # fmt: skip
    assert [(test.get("arguments"), test.get("flags")) for test in problem["tests"]] == [
        (["--fast"], ["case_sensitive"]), (None, None),
    ]  # fmt: skip
    assert problem["solutions"][0]["files"] == {"shared.py": "right\n", "all.txt": "all\n"}


def test_two_submissions_of_one_content_keep_their_names(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"submissions/accepted/{name}.py": "print(3)\n" for name in ("one", "two")}
    files |= {"data/secret/1.in": "", "data/secret/1.ans": "3\n"}
    run = nbrun.start(read_problems(package(tmp_path, files)), LocalSandbox(), tmp_path / "r", view=None, workers=2)
    run.wait(60)
    stored = json.loads((tmp_path / "r" / "own.json").read_text())["solution_result"]
    assert sorted(entry["item"]["submission"] for entry in stored) == ["accepted/one.py", "accepted/two.py"]


def test_points_by_groups_of_tests(tmp_path: Path) -> None:
    found = verdicts_of(PACKAGES / "points")
    said = {name: (result["verdict"], result["score"]) for name, result in found.items()}
    assert said == {
        "accepted/all.py": ("Accepted", 100.0),
        "partially_accepted/small.py": ("WrongAnswer", 30.0),
        "wrong_answer/none.py": ("WrongAnswer", 0.0),
    }
    assert {len(result["tests"]) for result in found.values()} == {5}


LEGACY = {
    "sum": (("", {}), 2.0),
    "points of tests": (("", {"accept_score": 10, "reject_score": 1}), 21.0),
    "least": (("", {"accept_score": 10, "grader_flags": "min"}), 0.0),
    "without samples": (("", {"accept_score": 10, "grader_flags": "ignore_sample"}), 10.0),
    "a group": (("secret/a", {"accept_score": 40, "on_reject": "continue"}), 41.0),
}


@pytest.mark.parametrize("name", LEGACY)
def test_points_by_the_legacy_rules(name: str) -> None:
    (path, about), due = LEGACY[name]
    rules, reason = rules_of({path: about}, True)
    assert reason is None
    names = ("sample/1", "secret/a/1", "secret/a/2")
    records = [{"passed": True}, {"passed": True}, {"passed": False}]
    assert grade(rules, [{"name": n} for n in names], records).scores[""] == due


@pytest.mark.parametrize(
    ("flags", "accepted"),
    [("", False), ("first_error", False), ("accept_if_any_accepted", True), ("min always_accept", True)],
)
def test_a_legacy_grader_may_accept_what_failed_tests(flags: str, accepted: bool) -> None:
    rules, _ = rules_of({"": {"grader_flags": "ignore_sample"}, "secret": {"grader_flags": flags}}, True)
    tests = [{"name": name} for name in ("sample/1", "secret/a/1", "secret/b/1")]
    assert grade(rules, tests, [{"passed": passed} for passed in (False, True, False)]).accepted is accepted
    none_passed = grade(rules, tests, [{"passed": name == "sample/1"} for name in ("sample/1", "a", "b")])
    assert none_passed.accepted is ("always" in flags), "the sample doesn't count"


def test_a_solution_that_a_grader_accepts_is_accepted_with_its_score(tmp_path: Path) -> None:
    found = verdicts_of(package(tmp_path, {
        "problem.yaml": "name: own\ntype: scoring\nlimits: {time_limit: 2}\n",
        "data/testdata.yaml": "on_reject: continue\naccept_score: 30\n",
        "data/secret/testdata.yaml": "grader_flags: accept_if_any_accepted\n",
        **{f"data/secret/{name}/1.{end}": "1\n" * (name == "b") for name in "ab" for end in ("in", "ans")},
        "submissions/accepted/a.py": "print(1)\n", "submissions/wrong_answer/b.py": "print(2)\n",
        "submissions/accepted/whole.py": "import sys\nprint(sys.stdin.read())\n",
    }))  # fmt: skip
    outcomes = {name: (result["verdict"], result["accepted"], result["score"]) for name, result in found.items()}
    assert outcomes == {
        "accepted/a.py": ("Accepted", True, 30.0),
        "accepted/whole.py": ("Accepted", True, 60.0),
        "wrong_answer/b.py": ("WrongAnswer", False, 0.0),
    }
    (row,) = recheck([found["accepted/a.py"]], lambda expected, actual: expected == actual)
    assert (row["verdict"], row["reason"]) == (None, "a grader of its package accepted it, whichever tests failed")


TESTS = ("sample/1", "secret/1", "secret/2", "secret/a/1", "secret/a/2", "secret/b/1")
GROUPS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]], float]] = {
    "100 for secret, in equal parts": ({}, {}, 75.0),
    "of secret's own": ({}, {"secret": {"max_score": 50}}, 37.5),
    "unbounded counts tests": ({}, {"secret": {"max_score": "unbounded"}}, 2.0),
    "what groups leave": ({}, {"secret/a": {"max_score": 40}}, 80.0),
    "least": ({}, {"secret": {"max_score": 50, "score_aggregation": "min"}}, 0.0),
    "all or nothing": ({}, {"secret": {"max_score": 50, "score_aggregation": "pass-fail"}}, 0.0),
    "points of a test": ({"secret/1": {"score": 7}}, {}, 57.0),
    "a share of a test": ({"secret/1": {"score_multiplier": 0.5}}, {}, 62.5),
    "a group that needs another": ({}, {"secret/a": {"require_pass": "secret/b"}}, 50.0),
    "a group that needs what passed": ({}, {"secret/a": {"require_pass": ["secret/1", "sample"]}}, 75.0),
    "as drafts write it": ({}, {"secret/a": {"scoring": {"score": 40, "aggregation": "sum"}}}, 80.0),
}


@pytest.mark.parametrize("name", GROUPS)
def test_points_by_the_rules_from_2023_on(name: str) -> None:
    records, groups, wanted = GROUPS[name]
    if name.endswith("counts tests"):
        groups = {**groups, "secret/a": {"score_aggregation": "sum"}, "secret/b": {"score_aggregation": "sum"}}
        wanted = 4.0
    rules, reason = rules_of(groups, False)
    assert reason is None
    passed = [{"passed": test != "secret/b/1", **records.get(test, {})} for test in TESTS]
    assert grade(rules, [{"name": test} for test in TESTS], passed).scores[""] == wanted


def test_a_validator_gives_a_share_of_a_tests_points(tmp_path: Path) -> None:
    check = "import sys\nopen(sys.argv[3] + 'score_multiplier.txt', 'w').write('0.25')\nsys.exit(42)\n"
    found = verdicts_of(package(tmp_path, {
        "problem.yaml": "problem_format_version: 2025-09\nname: own\ntype: scoring\nlimits: {time_limit: 2}\n",
        "data/secret/1.in": "", "data/secret/1.ans": "", "output_validator/check.py": check,
        "submissions/accepted/a.py": "print(1)\n",
    }))  # fmt: skip
    assert (found["accepted/a.py"]["verdict"], found["accepted/a.py"]["score"]) == ("Accepted", 25.0)


def test_a_grader_of_its_own_is_named() -> None:
    assert rules_of({"": {"grading": "custom"}}, True)[1] == "a scoring problem with a grader of its own"
    with pytest.raises(ValueError, match="max_score is 'many', not a number"):
        rules_of({"secret": {"max_score": "many"}}, False)


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


@pytest.mark.needs("g++")
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


SPIN = "import time\nwhile time.process_time() < {}: pass\nprint(2 * int(input()))\n"


def test_a_limit_that_was_measured_on_a_busy_machine_decides_only_what_is_sure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accepted submission seems to take 0.4 s, but on a quiet machine it might take 0.25 s only."""
    package(tmp_path, {
        "problem.yaml": "problem_format_version: 2025-09\n"
                        "limits: {time_multipliers: {ac_to_time_limit: 2}, time_resolution: 0.1}\n",
        "data/secret/1.in": "1\n",
        "data/secret/1.ans": "2\n",
        "submissions/accepted/a.py": SPIN.format(0.4),
        "submissions/accepted/fast.py": SPIN.format(0.01),
        "submissions/time_limit_exceeded/between.py": SPIN.format(0.7),
        "submissions/time_limit_exceeded/slow.py": SPIN.format(9),
    })  # fmt: skip
    (problem,) = read_problems(tmp_path)
    jobs = {task.item["submission"].partition("/")[2]: task for task, _ in tasks(problem)}
    sandbox = LocalSandbox()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(limiter_of(sandbox), "is_quiet", lambda others: False)
            patch.setattr("nbrun.judge.local.is_busy", lambda: True)
            patch.setattr(limiter_of(sandbox).reference, "stretch", lambda *measured: 1.0)
            said = {name: sandbox(jobs[name]) for name in ("a.py", "fast.py", "slow.py")}
            assert [said[name]["verdict"] for name in said] == ["Accepted", "Accepted", "TimeLimitExceeded"]
            with pytest.raises(
                JudgeError, match=r"accepted submissions is between 0.[4-6] s and [01].[0-9] s"
            ) as caught:
                sandbox(jobs["between.py"])
            assert caught.value.retriable
        monkeypatch.setattr(limiter_of(sandbox), "is_quiet", lambda others: True)
        monkeypatch.setattr("nbrun.judge.local.is_busy", lambda: False)
        monkeypatch.setattr("nbrun.judge.local._MEASURED_EVERY_S", 0.0)
        result = sandbox(jobs["between.py"])  # measured again, it is known
    finally:
        sandbox.close()
    assert result["limits"]["time_limit_s"] >= 0.8
    assert result["verdict"] == "Accepted"


@pytest.mark.needs("g++")
def test_the_users_own_limit_comes_first(tmp_path: Path) -> None:
    problem, sandbox = limited(tmp_path, "")
    sandbox.close()
    with closing(LocalSandbox(time_limit_s=1.5)) as sandbox:
        assert sandbox(tasks(problem)[0][0])["limits"]["time_limit_s"] == 1.5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"interactive": True}, "a validator that talks"),
        ({"grading": {"is_legacy": True, "groups": {}}}, "worth points"),
        ({"tests": [{"input": "", "output": "", "arguments": ["--fast"]}]}, "arguments or files"),
        ({"tests": [{"input": "", "output": "", "files": {"a": "b"}}]}, "arguments or files"),
    ],
)
def test_a_server_refuses_what_it_can_not_do(more: dict[str, Any], words: str) -> None:
    problem = {"id": "p", "tests": [{"input": "", "output": ""}], **more}
    with pytest.raises(NotSupportedError, match=words):
        check_sendable("p", problem)


def test_an_interactive_problem_needs_its_validator() -> None:
    problem = {"id": "p", "tests": [{"input": "", "output": ""}], "interactive": True}
    with (
        closing(LocalSandbox(isolation="none")) as sandbox,
        pytest.raises(NotSupportedError, match="needs the output validator"),
    ):
        sandbox(Task("p", "solution", 0, {"language": "PYTHON3", "solution": ""}, problem))


@pytest.mark.needs("g++")
def test_verdicts_of_interactive_problems_do_not_hang_and_leave_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        found = verdicts_of(PACKAGES / "guess")
    assert {name: result["verdict"] for name, result in found.items()} == {
        "accepted/binary.cpp": "Accepted", "accepted/binary.py": "Accepted",
        "wrong_answer/ones.py": "WrongAnswer", "wrong_answer/words.py": "WrongAnswer",
        "run_time_error/crashes.py": "RuntimeError",
        "time_limit_exceeded/burns.py": "TimeLimitExceeded", "time_limit_exceeded/waits.py": "TimeLimitExceeded",
    }  # fmt: skip
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert found["accepted/binary.py"]["tests"][0]["checker"] == "1 guesses"
    assert found["wrong_answer/ones.py"]["tests"][-1]["cut"] == {"stdout": 0}
