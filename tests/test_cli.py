"""The command nbrun as people type it: in a real terminal, stopped by Ctrl-C, killed, and with wrong arguments."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nbrun
from tests.terminals import ENV, Terminal
from tests.waiting import DEADLINE_S

COMMAND = ["-m", "nbrun"]


def of_the_demo(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that looks at the fixture `demo`, which takes long."""
    return pytest.mark.needs("g++")(pytest.mark.long(test))  # type: ignore[no-any-return]


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *COMMAND, *args],
        cwd=cwd,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def done(folder: Path) -> int:
    return nbrun.status(folder / "nbrun-demo").done if (folder / "nbrun-demo").is_dir() else 0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Terminal], list[int]]:
    """Run the demo three times: stopped by Ctrl-C, killed, and to its end.

    Returns:
        The folder, the terminals, and how many results were saved before each.
    """
    folder = tmp_path_factory.mktemp("demo")
    seen, kept = [], []
    for stop in (Terminal.press_ctrl_c, lambda t: t.child.send_signal(signal.SIGKILL), None):
        before = done(folder)
        terminal = Terminal(*COMMAND, "demo", cwd=folder)
        seen.append(terminal)
        kept.append(before)
        if stop is not None:
            terminal.wait_until(lambda before=before: done(folder) >= before + 12)
            stop(terminal)
        terminal.end()
    return folder, seen, kept


@of_the_demo
def test_bars_move_in_a_terminal(demo: tuple[Path, list[Terminal], list[int]]) -> None:
    first = demo[1][0].text
    assert re.search(r"\d+%\|.*\| \d+/126 ", first), "a bar for all"
    assert re.search(r"two-numbers +\|.*\| +\d+/10", first), "a bar for a problem"
    assert "Accepted" in first


@of_the_demo
def test_ctrl_c_stops_it_and_the_last_line_says_how_to_continue(demo: tuple[Path, list[Terminal], list[int]]) -> None:
    terminal = demo[1][0]
    assert terminal.child.returncode == 130
    assert "Traceback" not in terminal.text
    last = terminal.text.rpartition("Stopped after")[2]
    assert "of 126 tasks. Start it again to go on with what is missing." in last


@of_the_demo
def test_the_same_command_continues_and_says_how_much_it_kept(demo: tuple[Path, list[Terminal], list[int]]) -> None:
    folder, seen, kept = demo
    assert kept[0] == 0
    assert 12 <= kept[1] <= kept[2] - 12
    assert seen[1].child.returncode == -signal.SIGKILL
    for terminal, n in zip(seen[1:], kept[1:], strict=True):
        assert f"{n} results of earlier runs are kept" in terminal.text
    assert f"Earlier runs had finished {kept[2]} of them." in seen[2].text
    df = nbrun.load_results(folder / "nbrun-demo")
    assert len(df) == 126
    assert df["run_id"].nunique() == 3, "each run's results are still there"


@of_the_demo
def test_it_ends_with_how_to_load_the_results_and_their_rates(
    demo: tuple[Path, list[Terminal], list[int]],
) -> None:
    folder, seen, _ = demo
    last = seen[2]
    assert last.child.returncode == 0
    table = last.text[last.text.index("sample_id") :].splitlines()
    assert len([line for line in table if re.search(r" 1\.000 +1\.000 ", line)]) == 14
    assert all(len(line) < 80 for line in table if "nbrun-demo" not in line)
    (line,) = re.findall(r"(nbrun\.load_results\(.+\)) loads the results", last.text)
    code = f"import nbrun\nprint(len({line}))"
    loaded = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    assert loaded.stdout == "126\n"
    assert str(folder / "nbrun-demo") in line


@of_the_demo
def test_a_second_run_does_nothing(demo: tuple[Path, list[Terminal], list[int]]) -> None:
    """It takes less than a second, or no longer than two commands that only read, if the machine is busy."""
    folder = demo[0]
    files = {p: p.stat().st_mtime_ns for p in (folder / "nbrun-demo").glob("*.json")}
    times = []
    for _ in range(5):  # other tests' processes may be in the way
        began = time.monotonic()
        command("rates", "nbrun-demo", cwd=folder)
        reading_s = time.monotonic() - began
        terminal = Terminal(*COMMAND, "demo", cwd=folder)
        assert terminal.end() == 0
        assert "126 results of earlier runs are kept" in terminal.text
        times.append((terminal.took_s, max(1.0, 2 * reading_s)))
        if times[-1][0] < times[-1][1]:
            break
    assert any(took_s < limit_s for took_s, limit_s in times), times
    assert files == {p: p.stat().st_mtime_ns for p in (folder / "nbrun-demo").glob("*.json")}


@of_the_demo
def test_status_and_rates_print_text_and_json(demo: tuple[Path, list[Terminal], list[int]]) -> None:
    folder = demo[0]
    assert re.search(r"^done +126$", command("status", "nbrun-demo", cwd=folder).stdout, re.M)
    assert json.loads(command("status", "nbrun-demo", "--json", cwd=folder).stdout)["samples_complete"] == 14
    text = command("rates", "nbrun-demo", cwd=folder).stdout
    assert len(text.splitlines()) == 15
    assert "n_missing" not in text, "the column appears only if something is missing"
    rows = json.loads(command("rates", "nbrun-demo", "--json", cwd=folder).stdout)
    assert {(row["tpr"], row["tnr"], row["n_missing"]) for row in rows} == {(1.0, 1.0, 0)}


@pytest.mark.parametrize("name", ["status", "rates"])
@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "there is no such folder"), ("file", "is a file"), ("empty", "holds no results")],
)
def test_an_error_is_one_plain_line(tmp_path: Path, name: str, path: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    ended = command(name, path, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert message in ended.stderr
    assert path in ended.stderr
    assert ended.stderr.startswith("nbrun: ")
    assert ended.stderr.count("\n") == 1


def test_ctrl_c_while_the_command_is_imported_is_one_sentence(tmp_path: Path) -> None:
    """What the command imports is replaced by a module in whose import the key is pressed."""
    script = tmp_path / "nbrun"  # as the script that pip writes
    script.write_text(
        "import sys; from nbrun.cli import main\n"
        "assert 'nbrun.session' not in sys.modules\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'nbrun.cli.commands': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "sys.exit(main())\n"
    )
    ended = subprocess.run([sys.executable, str(script)], env=ENV, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "Interrupted.\n")


def test_without_a_command_the_help_is_printed(tmp_path: Path) -> None:
    ended = command(cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "nbrun demo" in ended.stderr
    assert "commands:" in ended.stderr


@pytest.mark.needs("argcomplete")
def test_tab_completes_commands_and_options_in_bash(tmp_path: Path) -> None:
    """Bash asks as it does when Tab is pressed: by the function that the documented line defines."""
    (tmp_path / "nbrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nbrun "$@"\n')
    (tmp_path / "nbrun").chmod(0o755)
    script = """eval "$(register-python-argcomplete nbrun)"
function=$(complete -p nbrun | sed 's/.*-F \\([^ ]*\\).*/\\1/')
complete_line() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_WORDS=($1) COMP_CWORD=1 COMPREPLY=()
    "$function" nbrun
    echo "${COMPREPLY[@]}"
}
complete_line "nbrun comp"
complete_line "nbrun rates results --av"
complete_line "nbrun rates results --average m"
"""
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    ended = subprocess.run(["bash", "-c", script], env=ENV | {"PATH": path}, capture_output=True, text=True, check=True)
    assert [line.split() for line in ended.stdout.splitlines()] == [["compare"], ["--average"], ["micro", "macro"]]


@pytest.mark.parametrize("args", [("rates", "r"), ("errors", "r"), ("export", "r", "r.csv")], ids=lambda args: args[0])
def test_a_warning_is_one_plain_line(tmp_path: Path, args: tuple[str, ...]) -> None:
    nbrun.start(["one"], lambda task: {"accepted": True}, tmp_path / "r", view=None).wait(60)
    (tmp_path / "r" / "damaged.json").write_text("")
    ended = command(*args, cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stderr.startswith("nbrun: could not be read: ")
    assert "damaged.json" in ended.stderr
    assert ended.stderr.count("\n") == 1, "no category and no line of nbrun's source"


#: The demo with two of its problems: 13 solutions in Python and 5 in C++.
SMALL_DEMO = """
import sys
from nbrun import judge
from nbrun.cli import main
problems = judge.demo_problems(limit=2)
judge.demo_problems = lambda: problems
sys.exit(main(["demo", "--workers", "2"]))
"""


def small_demo(folder: Path, path: str) -> tuple[str, str]:
    """Run it with `path` as the PATH; return its standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-c", SMALL_DEMO], cwd=folder, env=ENV | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_solutions_without_a_compiler_are_left_out_and_one_sentence_says_so(tmp_path: Path) -> None:
    (tmp_path / "no programs").mkdir()
    out, err = small_demo(tmp_path, str(tmp_path / "no programs"))
    assert "5 C++ solutions were not judged: no g++. apt install g++\n" in out
    assert "error" not in out + err
    assert "Done: 13 of 13 tasks" in err
    assert err.count("isolated") == 1
    assert "start(" not in err, "a warning shows no line of nbrun's source"
    status = nbrun.status(tmp_path / "nbrun-demo")
    assert (status.done, status.errors, status.samples_complete) == (13, 0, 2)


@pytest.mark.needs("g++")
def test_solutions_that_were_left_out_are_judged_once_their_compiler_is_installed(tmp_path: Path) -> None:
    (tmp_path / "no programs").mkdir()
    small_demo(tmp_path, str(tmp_path / "no programs"))
    out, _ = small_demo(tmp_path, os.environ["PATH"])
    assert "13 results of earlier runs are kept" in out
    assert "not judged" not in out
    assert nbrun.status(tmp_path / "nbrun-demo").done == 18
    df = nbrun.load_results(tmp_path / "nbrun-demo", entries=True)
    assert df.groupby("language", observed=True).size().to_dict() == {"CPP": 5, "PYTHON3": 13}
    builds = [entry["result"].get("build", {}) for entry in df["entry"]]
    assert not any("also_tried" in build for build in builds), "what doesn't compile is compiled once"
    assert df["run_id"].nunique() == 2


@pytest.mark.parametrize("args", [("--results", "file"), ("--workers", "0"), ("--workers", "many")])
def test_the_demo_refuses_wrong_arguments_before_it_writes(tmp_path: Path, args: tuple[str, str]) -> None:
    (tmp_path / "file").write_text("x")
    ended = command("demo", *args, cwd=tmp_path)
    assert ended.returncode == 2
    assert args[1] in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_merge_reports_what_it_made_and_what_it_dropped(tmp_path: Path) -> None:
    def fails(task: nbrun.Task) -> None:
        raise ValueError("no")

    for name, fn, ids in (("a", len_of, "pq"), ("b", fails, "qr")):
        samples = [{"id": id, "items": ["x", "yy"]} for id in ids]
        nbrun.start(samples, fn, tmp_path / name, groups=["item"], retry=None, view=None).wait(60)
    ended = command("merge", "all", "a", "b", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{tmp_path / 'all'}: 6 results of 3 samples, from 2 directories." in ended.stdout
    assert "1 sample in several directories. Dropped, as another result counts: 2 errors." in ended.stdout
    assert json.loads(command("status", "all", "--json", cwd=tmp_path).stdout)["done"] == 4
    again = command("merge", "all", "a", "b", cwd=tmp_path)
    assert again.returncode == 2
    assert "all exists" in again.stderr
    report = json.loads(command("merge", "all2", "b", "a", "--json", cwd=tmp_path).stdout)
    assert (report["entries"], report["dropped"], report["problems"]) == (6, {"same": 0, "older": 0, "errors": 2}, [])
    next((tmp_path / "a").glob("*.json")).write_bytes(b"")
    damaged = command("merge", "all3", "a", "b", cwd=tmp_path)
    assert damaged.returncode == 1
    assert "is empty" in damaged.stderr
    assert (tmp_path / "all3").is_dir()


def len_of(task: nbrun.Task) -> dict[str, int]:
    return {"n": len(task.item)}


@pytest.mark.parametrize("args", [("--version",), ("--help",), ("demo", "--help"), ("rates", "r"), ("status", "r")])
def test_a_closed_pipe_is_no_error(tmp_path: Path, args: tuple[str, ...]) -> None:
    nbrun.start(["one"], lambda task: {"accepted": True}, tmp_path / "r", view=None).wait(60)
    reader, out = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "nbrun", *args]
    ended = subprocess.run(command, cwd=tmp_path, env=ENV, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    os.close(out)
    assert ended.stderr == ""
    assert ended.returncode in (0, 141)  # argparse swallows the error of a help that can't be written


@pytest.mark.parametrize("module", ["nbrun", "nbrun.cli"])
def test_the_command_is_a_module(tmp_path: Path, module: str) -> None:
    """`python -m nbrun.cli` is in people's scripts, as `python -m nbrun` is."""
    command = [sys.executable, "-m", module, "--version"]
    shown = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert nbrun.__version__ in shown.stdout
