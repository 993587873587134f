"""An unavailable judge: the run pauses, counts no attempt, and continues when the judge is available again."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import nbrun
from nbrun.errors import JudgeUnavailableError, NotSupportedError
from nbrun.model import State

SAMPLES = [{"id": "p", "solutions": [str(i) for i in range(40)]}]


class Flaky:
    """A judge that is unavailable until `back` is set."""

    def __init__(self) -> None:
        self.settings = {"name": "flaky"}
        self.back = threading.Event()
        self.asked = threading.Event()

    def __call__(self, task: nbrun.Task) -> dict[str, int]:
        if not self.back.is_set():
            raise JudgeUnavailableError("no server answers")
        return {"attempt": task.attempt}

    def is_available(self) -> bool:
        self.asked.set()
        return self.back.is_set()


@pytest.fixture(autouse=True)
def _check_often(tuning: Callable[..., None]) -> None:
    tuning(ask_every_s=0.02)


def test_the_run_continues_when_the_judge_is_available_again(tmp_path: Path) -> None:
    judge = Flaky()
    run = nbrun.start(SAMPLES, judge, tmp_path / "r", workers=4, view=None)
    assert judge.asked.wait(60)
    assert run.progress.state is State.PAUSED
    assert "no server answers" in run.progress.message
    assert run.progress.errors == 0
    judge.back.set()
    progress = run.wait(60)
    assert (progress.state, progress.done, progress.message) == (State.DONE, 40, "")
    assert set(nbrun.load_results(tmp_path / "r")["attempts"]) == {1}


def test_a_run_that_the_user_has_paused_waits_for_the_user(tmp_path: Path) -> None:
    judge = Flaky()
    run = nbrun.start(SAMPLES, judge, tmp_path / "r", workers=4, view=None)
    assert judge.asked.wait(60)
    run.pause()
    judge.back.set()
    judge.asked.clear()
    assert not judge.asked.wait(0.2)
    assert run.progress.state is State.PAUSED
    run.resume()
    assert run.wait(60).done == 40


def test_an_unsupported_item_is_tried_once_and_does_not_stop_the_run(tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> dict[str, int]:
        if task.index < 30:
            raise NotSupportedError("no such language")
        return {}

    run = nbrun.start(SAMPLES, fn, tmp_path / "r", workers=2, view=None)
    progress = run.wait(60)
    assert (progress.done, progress.errors) == (10, 30)
    df = nbrun.load_results(tmp_path / "r")
    assert set(df["attempts"]) == {1}
    assert df["error"].str.contains("no such language").sum() == 30
