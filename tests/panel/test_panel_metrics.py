"""What the panel says of results while a run goes on: means that were asked for, rates, verdicts of any kind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.model import Mean
from nbrun.panel import static_html, static_text
from nbrun.panel.sync import head_of


def run(samples: Any, fn: Any, results: Path, **more: Any) -> nbrun.Progress:
    return nbrun.start(samples, fn, results, view=None, retry=None, **more).wait(60)


def things(*items: Any) -> list[dict[str, Any]]:
    return [{"id": "a", "things": list(items)}]


def test_means_are_of_the_results_that_have_the_key(tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.item == 4:
            raise ValueError("no score")
        return [{"score": 1}, {"score": 0.5}, {"score": "good"}, {"other": 1}][task.item]

    progress = run(things(0, 1, 2, 3, 4), fn, tmp_path, groups=["thing"], metrics=["score", "missing"])
    assert progress.means == {"score": Mean(0.75, 2), "missing": Mean(None, 0)}
    assert head_of(progress)["quality"] == ["mean score 0.75 of 2", "no missing yet"]
    for text in (static_text(progress), static_html(progress)):
        assert "mean score 0.75 of 2" in text


def test_true_counts_as_one_and_what_is_no_number_not_at_all(tmp_path: Path) -> None:
    values = [True, False, None, float("nan"), [1], "1"]
    progress = run(things(*range(6)), lambda t: {"x": values[t.item]}, tmp_path, groups=["thing"], metrics=["x"])
    assert progress.means["x"] == Mean(0.5, 2)


def test_after_a_resume_it_says_over_which_results(tmp_path: Path) -> None:
    fail = [True]

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if fail[0] and task.item > 2:
            raise ValueError("later")
        return {"score": task.item}

    run(things(1, 2, 3, 4), fn, tmp_path, groups=["thing"], metrics=["score"])
    fail[0] = False
    again = run(things(1, 2, 3, 4), fn, tmp_path, groups=["thing"], metrics=["score"])
    assert again.done == 4
    assert head_of(again)["quality"] == ["mean score 3.5 of 2 in this run"]


def test_means_of_results_that_an_executor_made(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        progress = run(
            things(1, 2, 3), lambda t: {"score": t.item}, tmp_path, groups=["thing"], metrics=["score"], executor=pool
        )
    assert progress.means["score"] == Mean(2.0, 3)


def test_means_of_coroutines(tmp_path: Path) -> None:
    async def fn(task: nbrun.Task) -> dict[str, Any]:
        return {"score": task.item}

    assert run(things(1, 2, 3), fn, tmp_path, groups=["thing"], metrics=["score"]).means["score"] == Mean(2.0, 3)


@pytest.mark.parametrize("metrics", ["score", b"score", 5, [""], [1], [None], [f"m{n}" for n in range(9)]])
def test_metrics_that_can_not_be_right_are_refused_before_anything_runs(metrics: Any, tmp_path: Path) -> None:
    with pytest.raises(nbrun.errors.InputError, match="metrics"):
        run(things(1), lambda t: {}, tmp_path / "r", metrics=metrics)
    assert not (tmp_path / "r").exists()


JUDGED = [{"id": f"p{n}", "solutions": [1, 2], "incorrect_solutions": [3, 4]} for n in range(3)]


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(
    "rejection", [{"accepted": False}, {"accepted": False, "verdict": "WrongAnswer"}, {"verdict": "WrongAnswer"}]
)
def test_accepted_false_means_the_same_in_the_panel_and_in_rates(
    rejection: dict[str, Any], resumed: bool, tmp_path: Path
) -> None:
    def fn(task: nbrun.Task) -> dict[str, Any]:
        return {"accepted": True} if task.item in (1, 3) else rejection

    progress = run(JUDGED, fn, tmp_path)
    if resumed:
        progress = run(JUDGED, fn, tmp_path)
        assert progress.resumed == 12
    head = head_of(progress)
    assert (head["done"], head["accepted"], head["rejected"], head["unexpected"]) == (12, 6, 6, 6)
    assert head["quality"] == ["TPR 50 % of 6", "TNR 50 % of 6"]
    rates = nbrun.rates(tmp_path, by=None).iloc[0]
    assert (rates.tpr, rates.tnr) == (0.5, 0.5)
    assert [(s.accepted, s.rejected, s.unexpected) for s in progress.since(0)] == [(2, 2, 2)] * 3


def test_verdicts_of_a_judge_s_own_neither_accept_nor_reject(tmp_path: Path) -> None:
    verdicts = ["good", "fair", "Accepted", "WrongAnswer"]
    progress = run(JUDGED, lambda t: {"verdict": verdicts[t.item - 1]}, tmp_path)
    head = head_of(progress)
    assert (head["accepted"], head["rejected"], head["unexpected"]) == (3, 3, 3)
    assert dict(head["verdicts"]) == {"good": 3, "fair": 3, "Accepted": 3, "WrongAnswer": 3}
    assert "good 3" in static_text(progress)
    assert head["quality"] == ["TNR 50 % of 6"], "no positive was accepted or rejected"


def test_rates_of_samples_that_were_half_done_before(tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> dict[str, Any]:
        if fail[0] and task.item in (2, 4):
            raise TypeError("later")
        return {"accepted": task.item in (1, 3)}

    fail = [True]
    assert head_of(run(JUDGED, fn, tmp_path))["quality"] == ["TPR 100 % of 3", "TNR 0 % of 3"]
    fail[0] = False
    assert head_of(run(JUDGED, fn, tmp_path))["quality"] == ["TPR 50 % of 6", "TNR 50 % of 6"]
