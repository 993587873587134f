"""Programs that mean harm get the verdict of a sound judge, do none, and leave nothing behind."""

from __future__ import annotations

import json
import os
import socket
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hostile_programs import HOSTILE
from judge_helpers import SUM_CPP, SUM_PY, is_up, processes_of, root_of, task

from nbrun.judge import Language, LocalSandbox
from nbrun.judge.checkers import rules_of_flags
from nbrun.judge.sandbox import IdleMonitors
from nbrun.judge.supervisor import folder_bytes, remove_tree
from nbrun.judge.supervisor.processes import Account, Usage
from tests.waiting import until


@pytest.fixture(scope="module")
def boxed() -> Iterator[LocalSandbox]:
    os.environ["NBRUN_SECRET"] = "a secret of the kernel's"
    box = LocalSandbox(
        time_limit_s=0.5,
        memory_limit_mb=192,
        output_limit_mb=1,
        compile_limit_s=4,
        isolation="required",
        process_limit=96,
    )
    yield box
    root = root_of(box)
    box.close()
    assert not root.exists()
    assert not processes_of(root)
    del os.environ["NBRUN_SECRET"]


@pytest.fixture(scope="module")
def results(boxed: LocalSandbox) -> dict[str, Any]:
    """All of them at once, as a run of hostile solutions would be; what raises is its own result."""

    def judge(name: str) -> Any:
        try:
            return boxed(task(*HOSTILE[name][:2]))
        except Exception as e:
            return {"verdict": f"{type(e).__name__}: {e}", "tests": []}

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(HOSTILE, pool.map(judge, HOSTILE), strict=True))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.needs("bwrap", "g++")
def test_verdict(name: str, results: dict[str, Any]) -> None:
    due, result = HOSTILE[name][2], results[name]
    assert due
    assert result["verdict"] in due, json.dumps(result)[:3000]
    assert len(json.dumps(result)) < 10_000


@pytest.mark.needs("bwrap", "g++")
def test_nothing_is_left_and_judging_goes_on(boxed: LocalSandbox, results: dict[str, Any]) -> None:
    assert len(results) == len(HOSTILE)
    assert boxed(task("PYTHON3", SUM_PY))["verdict"] == "Accepted"
    assert boxed(task("CPP", SUM_CPP))["verdict"] == "Accepted"
    root = root_of(boxed)
    assert sorted(os.listdir(root)) == ["built", "probe", "supervisor.log"]
    until(lambda: len(processes_of(root)) == 1, "the supervisor alone", promised_s=2)
    assert (root / "supervisor.log").read_text() == ""


_USES_MUCH_ONCE = """
import os, time
first = input()
if first.startswith("1 "):
    held = b"x" * (120 << 20)
    while time.process_time() < 0.3:
        pass
if first.startswith("2 "):
    os.abort()
print(os.getuid(), os.getcwd(), sorted(os.listdir(".")))
open("left", "w").close()
"""


@pytest.mark.needs("bwrap", "g++")
@pytest.mark.usefixtures("boxed")
def test_a_program_that_follows_another_is_accounted_for_alone() -> None:
    """The tests of one solution share a monitor; its sums, and the ends of programs, belong to one test each."""
    inputs = [f"{i} \n" for i in (0, 1, 0, 2, 0, 0, 0, 1, 0)]
    tests = [{"input": text, "output": "any\n"} for text in inputs]
    with closing(
        LocalSandbox(2, 192, all_tests=True, isolation="required", checker=lambda expected, actual: True)
    ) as sandbox:
        result = sandbox(task("PYTHON3", _USES_MUCH_ONCE, {"id": "many", "tests": tests}))
    runs = [test["exec_info"]["run_result"] for test in result["tests"]]
    for text, run in zip(inputs, runs, strict=True):
        assert run["return_code"] == (-6 if text == "2 \n" else 0)
        assert (run["memory_mb"] > 100) == (run["execution_time"] > 0.29) == (text == "1 \n"), run
    said = [run["stdout"].split(" ", 1) for run in runs if run["stdout"]]
    assert all(rest == "/work []\n" for _, rest in said)
    if os.geteuid() == 0:
        assert len({uid for uid, _ in said}) == len(said), "each program runs as a user of its own"


def test_monitors_end_with_their_task_and_dead_ones_are_not_asked() -> None:
    idle = IdleMonitors()
    (ours, theirs), (dead, gone) = socket.socketpair(), socket.socketpair()
    idle.keep("limits", ours)
    idle.keep("limits", dead)
    gone.close()
    assert idle.take("other limits") is None
    assert idle.take("limits") is ours
    assert idle.take("limits") is None
    idle.keep("limits", ours)
    idle.close()
    assert theirs.recv(1) == b""
    (late, end) = socket.socketpair()
    idle.keep("limits", late)
    assert end.recv(1) == b""
    theirs.close()
    end.close()


@pytest.mark.needs("bwrap", "g++")
def test_compilers_see_no_more_than_programs(boxed: LocalSandbox, tmp_path: Path) -> None:
    """Neither the judge's folder nor another solution's can be read by including it."""
    secret = root_of(boxed) / "secret.h" if is_up(boxed) else tmp_path / "secret.h"
    for path in (secret, tmp_path / "secret.h"):
        path.write_text("int secret;\n")
        path.chmod(0o644)
        result = boxed(task("CPP", f'#include "{path}"\n{SUM_CPP}'))
        assert result["verdict"] == "CompileError"
        assert "No such file" in result["tests"][0]["exec_info"]["compile_result"]["stderr"]
        path.unlink()


def deep(folder: Path, depth: int) -> None:
    """Folders within one another, deeper than any path."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inside = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_trees_of_any_depth_are_removed_and_never_counted_as_small(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    deep(tree, 3000)
    assert folder_bytes(str(tree)) == float("inf")
    remove_tree(tree)
    assert not tree.exists()
    remove_tree(tree)  # gone already


def test_what_links_lead_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(tmp_path / "kept")
    (tree / "link").symlink_to(tmp_path / "kept")
    (tree / ".nbrun-1").mkdir()
    (tree / "a" / "b").mkdir()
    os.mkfifo(tree / "a" / "b" / "pipe")
    remove_tree(tmp_path / "tree" / "link")
    remove_tree(tree)
    assert not tree.exists()
    assert (tmp_path / "kept" / "file").exists()


def test_cpu_time_that_no_parent_waited_for_is_counted() -> None:
    account = Account()
    main = Usage(own_s=0.01)
    account.look({1: main}, 0.0)
    for i in range(1, 101):  # each look sees a child that the last one didn't, and that has used hardly anything yet
        account.look({1: main, 1000 + i: Usage(own_s=0.001, is_running=True)}, i * 0.05)
    assert account.cpu_s == pytest.approx(0.01 + 5.0)


def test_cpu_time_of_few_children_is_counted_once() -> None:
    account = Account()
    for i in range(5):
        waited_s = i * 0.04
        account.look({1: Usage(0.02, waited_s), 100 + i: Usage(0.01, is_running=True)}, i * 0.05)
    assert account.cpu_s == pytest.approx(0.02 + 0.16 + 0.01)
    account.reaped(0.5)
    assert account.cpu_s == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["compiled.json", "compiler.out"])
@pytest.mark.needs("bwrap", "g++")
def test_a_build_that_leaves_a_link_writes_and_reveals_nothing(boxed: LocalSandbox, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    build = Language(
        "main.sh", compile=("/bin/sh", "main.sh"), run=("/bin/sh", "-c", "cat"), compilers=("sh",), extensions=(".sh",)
    )
    with closing(LocalSandbox(languages={"BUILT": build}, isolation="required")) as sandbox:
        for end in ("exit 0", "exit 1"):
            result = sandbox(task("BUILT", f"rm -rf {name}; ln -s {secret} {name}; {end}"))
            assert "kept" not in json.dumps(result)
            assert result["verdict"] in ("WrongAnswer", "CompileError")
    assert secret.read_text() == "kept"


def test_a_flood_is_compared_piece_by_piece() -> None:
    flood = b"a " * (8 << 20)
    tracemalloc.start()
    try:
        for flags in ((), ("space_change_sensitive",), ("float_tolerance", "1e-6")):
            assert not rules_of_flags(flags).accepts(b"a " * 100, flood)
            assert not rules_of_flags(flags).accepts(b"a b\n" * 100, flood)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
