"""What a run's Progress counts: unexpected verdicts of this run and of earlier ones, tasks that wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nbrun

JUDGED = [{"id": f"p{i}", "solutions": [1, 2], "incorrect_solutions": [3, 4]} for i in range(3)]


def judge(task: nbrun.Task) -> dict[str, Any]:
    """Accepts 1 and 3: the 2nd solution and the first incorrect one are unexpected."""
    is_good = task.item in (1, 3)
    return {"accepted": is_good, "verdict": "Accepted" if is_good else "WrongAnswer"}


def start(results: Path, fn: Any, samples: Any = JUDGED, **more: Any) -> nbrun.Run:
    return nbrun.start(samples, fn, results, view=None, **more)


def test_unexpected_verdicts_are_counted(tmp_path: Path) -> None:
    assert start(tmp_path / "r", judge).wait(60).unexpected == 6


def test_unexpected_verdicts_of_earlier_runs_are_counted_too(tmp_path: Path) -> None:
    def half(task: nbrun.Task) -> dict[str, Any]:
        if task.sample_id == "p2" and task.item in (2, 4):
            raise TypeError("not yet")
        return judge(task)

    start(tmp_path / "r", half).wait(60)
    again = start(tmp_path / "r", judge).wait(60)
    assert (again.resumed, again.done, again.unexpected) == (10, 12, 6)
    rejected = [sample.rejected for sample in again.since(0)]
    assert rejected == [2, 2, 2]


def test_groups_of_your_own_expect_nothing(tmp_path: Path) -> None:
    samples = [{"id": "a", "answers": [1, 2, 3]}]
    assert start(tmp_path / "r", judge, samples, groups=["answer"]).wait(60).unexpected == 0


@pytest.mark.parametrize("name", ["timeout_s", "max_per_s"])
@pytest.mark.parametrize("value", [0, -1, "5", True, float("nan"), float("inf"), [1]])
def test_limits_that_can_not_be_right_are_refused_before_anything_runs(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(nbrun.errors.InputError, match=name):
        start(tmp_path / "r", judge, **{name: value})
    assert not (tmp_path / "r").exists()
