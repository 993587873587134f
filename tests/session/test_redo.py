"""`redo=`: ids, words and frames; what runs again and what is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbrun
from nbrun.errors import InputError

SAMPLES = [{"id": x, "items": [1, 2]} for x in ("a", "b", "c")] + [{"id": 7, "items": [1]}]


def run(path: Path, ran: list[str], samples: Any = SAMPLES, **more: Any) -> nbrun.Progress:
    def fn(task: nbrun.Task) -> dict[str, Any]:
        ran.append(task.sample_id)
        return {"n": len(ran)}

    return nbrun.start(samples, fn, path, groups={"it": "items"}, workers=1, view=None, **more).wait(60)


@pytest.mark.parametrize(
    ("redo", "again"),
    [
        (["b"], ["b", "b"]),
        (("a", 7), ["a", "a", "7"]),
        ({"c"}, ["c", "c"]),
        (np.array(["b"]), ["b", "b"]),
        (np.array([7]), ["7"]),
        ([], []),
        ("errors", []),
        ("changed", []),
        ("all", [*"aabbcc", "7"]),
        (None, []),
    ],
)
def test_ids_and_words(redo: Any, again: list[str], tmp_path: Path) -> None:
    run(tmp_path, ran := [])
    before = nbrun.load_results(tmp_path)["n"].tolist()
    progress = run(tmp_path, ran, redo=redo)
    assert ran[7:] == again
    assert progress.done == 7
    after = nbrun.load_results(tmp_path)["n"].tolist()
    assert sum(a != b for a, b in zip(after, before, strict=True)) == len(again)


def test_errors_run_again_and_results_of_a_judge_that_failed(tmp_path: Path) -> None:
    verdicts = {1: "JudgeError", 2: "WrongAnswer"}
    again: list[int] = []

    def fn(task: nbrun.Task) -> dict[str, Any]:
        again.append(task.item)
        if task.item == 3:
            raise ValueError("no")
        return {"accepted": False, "verdict": verdicts[task.item]}

    samples = [{"id": "a", "solutions": [1, 2, 3]}]
    for redo in (None, "errors"):
        again.clear()
        nbrun.start(samples, fn, tmp_path, redo=redo, retry=None, view=None).wait(60)
    assert 3 in again
    assert 2 not in again


@pytest.mark.parametrize("redo", ["b", "error", 5, b"b", {"a": 1}, [None], [1.5], [["a"]], ["no such id"], [True]])
def test_what_can_not_be_meant_is_an_error_before_anything_runs(redo: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run(tmp_path / "r", [], redo=redo)
    assert not (tmp_path / "r").exists()


def test_an_id_that_a_stream_lacks_is_reported_at_its_end(tmp_path: Path) -> None:
    progress = run(tmp_path, [], iter(SAMPLES), redo=["zzz"])
    assert "'zzz'" in progress.message


def test_results_of_the_older_program_run_again_too(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "data" / "old"
    shutil.copytree(old / "old_complete", tmp_path / "r")
    problems = json.loads((old / "old_complete.dataset.json").read_text(encoding="utf-8"))
    ran: list[str] = []

    def fn(task: nbrun.Task) -> dict[str, Any]:
        ran.append(task.sample_id)
        return {"accepted": True}

    nbrun.start(problems, fn, tmp_path / "r", view=None).wait(60)
    nbrun.start(problems, fn, tmp_path / "r", view=None).wait(60)
    ran.clear()
    first = problems[0]["id"]
    nbrun.start(problems, fn, tmp_path / "r", redo=[first], view=None).wait(60)
    assert ran
    assert set(ran) == {first}
    ran.clear()
    total = nbrun.start(problems, fn, tmp_path / "r", redo="all", view=None).wait(60).total
    assert len(ran) == total
