"""A judge that is away: the run pauses by itself, counts no attempt, and goes on when the judge is back."""

import threading
from pathlib import Path

import pytest

import nbrun
from nbrun.engine import scheduler
from nbrun.errors import JudgeUnavailableError, NotSupportedError
from nbrun.model import State

SAMPLES = [{"id": "p", "solutions": [str(i) for i in range(40)]}]


class Flaky:
    """A judge that is away until `back` is set."""

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
def _asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "ASK_EVERY_S", 0.02)


def test_the_run_goes_on_when_the_judge_is_back(tmp_path: Path) -> None:
    judge = Flaky()
    run = nbrun.start(SAMPLES, judge, tmp_path / "r", workers=4, view=None)
    assert judge.asked.wait(10)
    assert run.progress.state is State.PAUSED
    assert "no server answers" in run.progress.message
    assert run.progress.errors == 0
    judge.back.set()
    progress = run.wait(20)
    assert (progress.state, progress.done, progress.message) == (State.DONE, 40, "")
    assert set(nbrun.load_results(tmp_path / "r")["attempts"]) == {1}


def test_a_user_who_paused_resumes(tmp_path: Path) -> None:
    judge = Flaky()
    run = nbrun.start(SAMPLES, judge, tmp_path / "r", workers=4, view=None)
    assert judge.asked.wait(10)
    run.pause()
    judge.back.set()
    judge.asked.clear()
    assert not judge.asked.wait(0.2)
    assert run.progress.state is State.PAUSED
    run.resume()
    assert run.wait(20).done == 40


def test_what_can_not_be_judged_is_tried_once_and_stops_nothing(tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> dict[str, int]:
        if task.index < 30:
            raise NotSupportedError("no such language")
        return {}

    run = nbrun.start(SAMPLES, fn, tmp_path / "r", workers=2, view=None)
    progress = run.wait(20)
    assert (progress.done, progress.errors) == (10, 30)
    df = nbrun.load_results(tmp_path / "r")
    assert set(df["attempts"]) == {1}
    assert df["error"].str.contains("no such language").sum() == 30
