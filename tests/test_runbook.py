"""The commands in the users' runbooks give correct answers, during a run and after it, at most 30 s late."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nbrun
from nbrun.tuning import TUNING
from tests.waiting import until

SAMPLES, TASKS, HELD = 6, 5, 2
UNFINISHED = """find results -name "*.json" | xargs grep -l '"is_complete": false' | wc -l"""
PROGRESS = 'grep -H "progress" results/*.json'
LATE_S = 30


def shell(line: str, folder: Path) -> str:
    return subprocess.run(["/bin/sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False).stdout


def unfinished(folder: Path) -> int:
    return int(shell(UNFINISHED, folder))


def progress_of_files(folder: Path) -> dict[str, tuple[int, int, bool]]:
    """Return what the second command prints for each file: completed, total, is_complete."""
    out = {}
    for line in shell(PROGRESS, folder).splitlines():
        path, _, rest = line.partition(":")
        progress = json.loads("{" + re.sub(r",$", "", rest.strip()) + "}")["progress"]
        assert (progress["completed_incorrect_solutions"], progress["total_incorrect_solutions"]) == (0, 0)
        out[path] = (progress["completed_solutions"], progress["total_solutions"], progress["is_complete"])
    return out


def test_a_file_is_written_in_time() -> None:
    """Time is left for the writing itself."""
    assert TUNING.stale_s + TUNING.stale_look_s < LATE_S - 5


@pytest.mark.parametrize("stale_s", [1.0, pytest.param(TUNING.stale_s, marks=pytest.mark.long)])
def test_both_commands_are_at_most_30_s_late_and_correct_at_the_end(
    stale_s: float, tmp_path: Path, tuning: Callable[..., None]
) -> None:
    """Two tasks of each sample but the first wait for an event. Then one of them fails."""
    tuning(stale_s=stale_s, stale_look_s=stale_s / 10)
    may_end = threading.Event()

    def fn(task: nbrun.Task) -> dict[str, int]:
        time.sleep(0.005)  # the work
        if task.sample_id != "s0" and task.index >= TASKS - HELD:
            assert may_end.wait(200)
            if task.sample_id == "s1" and task.index == TASKS - 1:
                raise ValueError("this one fails")
        return {"n": task.index}

    samples = [{"id": f"s{i}", "solutions": list(range(TASKS))} for i in range(SAMPLES)]
    run = nbrun.start(samples, fn, tmp_path / "results", workers=SAMPLES * HELD, retry=None, view=None)
    try:
        until(lambda: run.progress.done >= SAMPLES * TASKS - (SAMPLES - 1) * HELD, lambda: run)
        held = {f"results/s{i}.json": (TASKS - HELD, TASKS, False) for i in range(1, SAMPLES)}
        truth = {"results/s0.json": (TASKS, TASKS, True), **held}
        until(lambda: progress_of_files(tmp_path) == truth, lambda: progress_of_files(tmp_path), promised_s=LATE_S)
        assert unfinished(tmp_path) == SAMPLES - 1
    finally:
        may_end.set()
    run.wait(60)
    assert unfinished(tmp_path) == 1, "a sample with an error is not complete"
    truth = {f"results/s{i}.json": (TASKS, TASKS, True) for i in range(SAMPLES)}
    assert progress_of_files(tmp_path) == truth | {"results/s1.json": (TASKS - 1, TASKS, False)}
    with nbrun.start(samples, lambda task: {"n": task.index}, tmp_path / "results", view=None) as again:
        assert again.wait().done == SAMPLES * TASKS
    assert unfinished(tmp_path) == 0
    assert progress_of_files(tmp_path) == truth
