"""What is shown beside the counts: throughput, size on disk, an opened sample, what tasks warn of."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import unpack

import nbrun
from nbrun.errors import JudgeError
from nbrun.model import TaskSummary
from nbrun.panel.sync import FILES, POINTS, DiskUse, Throughput
from nbrun.panel.widget import TEXT_CHARS, entry_of, tasks_of
from tests.views import controls_of, notebook_shell


@given(st.lists(st.tuples(st.floats(0.01, 500), st.integers(0, 5000)), max_size=60))
def test_the_throughput_loses_no_end_and_stays_small(steps: list[tuple[float, int]]) -> None:
    chart, now, ends = Throughput(), 0.0, 0
    chart.add(now, ends, True)
    for passed, more in steps:
        now, ends = now + passed, ends + more
        chart.add(now, ends, True)
        assert len(chart.rates) <= POINTS
    chart.add(now + chart.step_s, ends, True)  # the last interval has passed, too
    shown = sum(rate * chart.step_s for rate in chart.rates)
    assert shown == pytest.approx(ends, rel=0.01) or any(passed > 4 * POINTS for passed, _ in steps)


def test_a_pause_is_no_part_of_the_throughput() -> None:
    chart = Throughput()
    chart.add(0, 0, True)
    chart.add(3, 30, True)
    chart.add(3.5, 30, False)
    chart.add(5000, 30, False)
    chart.add(5001, 30, True)
    chart.add(5003, 50, True)
    assert chart.rates == [10, 10, 10, 10, 10]
    assert chart.step_s == 1


def test_what_ended_before_anybody_looked_is_no_spike() -> None:
    chart = Throughput()
    chart.add(0, 1_000_000, True)
    chart.add(2, 1_000_010, True)
    assert chart.rates == [5, 5]


def test_the_size_on_disk_is_found_in_small_steps(tmp_path: Path) -> None:
    (tmp_path / ".nbrun").mkdir()
    for i in range(2 * FILES):
        (tmp_path / f"{i}.json").write_bytes(b"x" * 100)
    (tmp_path / ".nbrun" / "journal").write_bytes(os.urandom(300_000))
    disk, steps = DiskUse(), 0
    while disk.bytes is None:
        disk.step(str(tmp_path), 0)
        steps += 1
    assert steps >= 2
    assert disk.bytes >= 300_000
    before = disk.bytes
    (tmp_path / "more").write_bytes(os.urandom(500_000))
    disk.step(str(tmp_path), 1)
    assert disk.bytes == before, "a round is believed for a while"
    disk.hurry()
    for _ in range(5):
        disk.step(str(tmp_path), 1)
    assert disk.bytes > before
    DiskUse().step(str(tmp_path / "nowhere"), 0)


def test_a_samples_tasks_travel_in_columns() -> None:
    rows = [
        TaskSummary("solution", i, "done", "Accepted" if i % 2 else "WrongAnswer", i / 1000, 1, "CPP")
        for i in range(60_000)
    ]
    rows += [
        TaskSummary("incorrect_solution", 3, "error", "TimeoutError", None, 3, None),
        TaskSummary("solution", 7, "running", None, 2.0, 1, None),
    ]
    content, buffers = tasks_of(rows)
    json.dumps(content)
    assert sum(map(len, buffers)) < 800_000
    columns = unpack(content["layout"], b"".join(buffers))
    names = content["names"]
    assert content["tasks"] == len(rows) == len(columns["index"])
    assert [names["verdict"][columns["verdict"][i]] for i in (0, 2, 3)] == [
        "TimeoutError",
        "WrongAnswer",
        "Accepted",
    ]
    assert columns["time_ms"][7] == 6
    assert columns["time_ms"][0] == 0
    assert columns["status"][:3] == [1, 2, 0], "errors first, then what runs"
    assert tasks_of([])[1] == []


def test_what_is_looked_for_comes_first_with_a_preview() -> None:
    rows = [
        TaskSummary("solution", 0, "done", "Accepted", 0.1, 1, None, item="print(42)", result='{"score": 1}'),
        TaskSummary("solution", 1, "running", None, 0.1, 1, None),
        TaskSummary("solution", 2, "done", "WrongAnswer", 0.1, 1, None, is_unexpected=True),
        TaskSummary("solution", 3, "waiting", None, None, 2, None, note="HTTP 429, next in 14 s"),
        TaskSummary("solution", 4, "error", "ValueError", 0.1, 1, None),
    ]
    content, buffers = tasks_of(rows)
    columns = unpack(content["layout"], b"".join(buffers))
    assert columns["index"] == [4, 2, 3, 1, 0]
    assert columns["unexpected"] == [0, 1, 0, 0, 0]
    assert content["previews"]["item"] == ["", "", "HTTP 429, next in 14 s", "", "print(42)"]
    assert content["previews"]["result"][-1] == '{"score": 1}'
    assert tasks_of(rows[1:3])[0]["previews"] == {}, "what no task has is no column"


def test_previews_are_short_whatever_the_items_and_results_are(tmp_path: Path) -> None:
    items = ["short", "x" * 10**6, {"text": "y" * 10**6, "list": list(range(10**5))}, "two\n  lines"]
    samples = [{"id": "a", "things": items}]
    run = nbrun.start(samples, lambda task: {"out": task.item}, tmp_path, groups=["thing"], view=None)
    run.wait()
    rows = controls_of(run).tasks("a")
    assert [row.item for row in rows][::3] == ["short", "two lines"]
    assert all(len(row.item) <= 101 and len(row.result) <= 101 for row in rows)
    assert rows[0].result == '{"out": "short"}'


def failing_result() -> dict[str, Any]:
    run = {"status": "Finished", "execution_time": 0.25, "return_code": 1, "stdout": "41", "stderr": "Traceback: boom"}
    good = {"passed": True, "exec_info": {"status": "Success", "run_result": run}}
    info = {"input": {"stdin": "6 7"}, "output": {"stdout": "42"}}
    return {
        "accepted": False,
        "tests": [good, {"passed": False, "exec_info": {"status": "Failed", "run_result": run}, "test_info": info}],
    }


def test_a_tasks_entry_shows_item_failing_test_stderr_and_traceback() -> None:
    shown = entry_of(
        {
            "status": "done",
            "solution": "print(41)",
            "language": "PYTHON3",
            "result": failing_result(),
            "attempts": 2,
            "duration_s": 1.79e-06,
        }
    )
    texts = dict(shown["texts"])
    assert texts["Item"] == "print(41)"
    assert texts["Failing test: number 2 of 2"].startswith("RuntimeError, 250 ms")
    assert (texts["Its input"], texts["Expected output"], texts["Output"], texts["stderr"]) == (
        "6 7",
        "42",
        "41",
        "Traceback: boom",
    )
    assert {("Tests passed", "1 of 2"), ("Longest test", "250 ms"), ("Took", "1.79 µs")} <= {*shown["facts"]}
    error = {"type": "ValueError", "message": "bad", "traceback": "Traceback …"}
    texts = dict(entry_of({"status": "error", "item": {"a": 1}, "result": None, "error": error})["texts"])
    assert texts["Error"] == "ValueError: bad"
    assert texts["Traceback"] == "Traceback …"
    assert json.loads(texts["Item"]) == {"a": 1}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"result": 5},
        {"result": {"tests": [None, 3, {"exec_info": 4}]}},
        {"error": "x", "item": "\ud800" + "y" * 10**6},
    ],
)
def test_any_entry_can_be_sent(entry: Any) -> None:
    shown = entry_of(entry)
    assert len(json.dumps(shown, ensure_ascii=False).encode()) < 3 * TEXT_CHARS


def test_a_runs_tasks_are_read_from_the_journal_and_from_files(tmp_path: Path) -> None:
    held = threading.Event()

    def work(task: nbrun.Task) -> dict[str, Any]:
        if task.item == "fail":
            raise ValueError("no")
        if task.item == "judge":
            raise JudgeError("server away")
        if task.item == "wait":
            held.wait(60)
        return {"verdict": "Accepted" if task.item == "good" else "WrongAnswer"}

    samples = [
        {"id": "Füße/1 🙂", "solutions": ["good", "bad", "fail", "judge"], "incorrect_solutions": ["bad"]},
        {"id": "p2", "solutions": ["wait", "good"]},
    ]
    run = nbrun.start(samples, work, tmp_path, workers=2, retry=None, view=None)
    while run.progress.done < 4 or "running" not in [row.status for row in controls_of(run).tasks("p2")]:
        threading.Event().wait(0.01)
    waiting = next(row for row in controls_of(run).tasks("p2") if row.status == "running")
    assert (waiting.group, waiting.index) == ("solution", 0)
    held.set()
    progress = run.wait()
    rows = {(r.group, r.index): (r.status, r.verdict) for r in controls_of(run).tasks("Füße/1 🙂")}
    assert rows == {
        ("solution", 0): ("done", "Accepted"),
        ("solution", 1): ("done", "WrongAnswer"),
        ("solution", 2): ("error", "ValueError"),
        ("solution", 3): ("error", "JudgeError"),
        ("incorrect_solution", 0): ("done", "WrongAnswer"),
    }
    entry = controls_of(run).entry("Füße/1 🙂", "solution", 2)
    assert entry is not None
    assert "raise ValueError" in entry["error"]["traceback"]
    assert controls_of(run).entry("p2", "solution", 9) is None
    assert progress.judge_errors == 1
    assert {k.type: k.n for k in progress.error_kinds} == {"ValueError": 1, "JudgeError": 1}
    assert controls_of(run).health() == []


def test_errors_of_one_kind_are_tried_again_and_the_others_stand(tmp_path: Path) -> None:
    seen: list[str] = []
    held = threading.Event()

    def work(task: nbrun.Task) -> dict[str, Any]:
        seen.append(task.item)
        if task.item == "last":
            held.wait(60)
        if task.item == "time" and seen.count("time") == 1:
            raise TimeoutError("slow")
        if task.item == "value":
            raise ValueError("no")
        return {"n": 1}

    samples = [{"id": "a", "solutions": ["time", "value", "ok"]}, {"id": "b", "solutions": ["last"]}]
    run = nbrun.start(samples, work, tmp_path, workers=2, retry=None, view=None)
    while run.progress.errors < 2 or "last" not in seen:
        threading.Event().wait(0.01)
    assert run.retry_errors("TimeoutError") == 1
    assert run.retry_errors("TimeoutError") == 0
    while run.progress.errors != 1 or run.progress.done < 2:
        threading.Event().wait(0.01)
    assert {k.type: k.n for k in run.progress.error_kinds} == {"TimeoutError": 0, "ValueError": 1}
    assert run.retry_errors() == 1
    held.set()
    assert run.wait().errors == 1
    assert (seen.count("time"), seen.count("value"), seen.count("ok")) == (2, 2, 1)


def test_what_tasks_warn_of_and_log_reaches_the_panel_and_is_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a kernel where none was set up
    heard = threading.Event()

    def work(task: nbrun.Task) -> int:
        heard.wait(60)
        warnings.warn("getting slow", stacklevel=1)
        logging.getLogger("judge").warning("endpoint %s rests", 3)
        logging.getLogger("judge").info("not worth a line")
        return 1

    with notebook_shell():
        run = nbrun.start([{"id": "a", "solutions": [1]}], work, tmp_path, view=None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        heard.set()
        progress = run.wait()
    logging.getLogger("mine").warning("of the user's own")
    assert [(line.level, line.text) for line in progress.logs] == [
        ("warning", "UserWarning: getting slow"),
        ("warning", "judge: endpoint 3 rests"),
    ]
    assert capfd.readouterr().err == "of the user's own\n"


@pytest.mark.parametrize("name", ["old_complete", "progress_killed_a", "progress_killed_resumed"])
def test_samples_of_the_older_program_are_opened_too(name: str, tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "data" / "old"
    shutil.copytree(old / name, tmp_path / name)
    problems = json.loads((old / f"{name}.dataset.json").read_text(encoding="utf-8"))
    verdict = {"accepted": False, "verdict": "WrongAnswer"}
    run = nbrun.start(problems, lambda task: verdict, tmp_path / name, view=None)
    run.wait()
    df = nbrun.load_results(tmp_path / name)
    df = df[df["index"].notna()]
    assert len(df)
    for sample_id, group in df.groupby("sample_id", observed=True):
        wanted = {(g, int(i)): v for g, i, v in zip(group["group"], group["index"], group["verdict"], strict=True)}
        assert {(row.group, row.index): row.verdict for row in controls_of(run).tasks(str(sample_id))} == wanted
        at = next(iter(wanted))
        entry = controls_of(run).entry(str(sample_id), *at)
        assert entry is not None
        assert entry["index"] == at[1]
