"""The same promises on every kind of worker: saved, resumed, retried, hinted, paused, stopped, made again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.errors import RunHaltedError
from tests.engine.backends import KINDS, Backend, open_backend
from tests.waiting import until


@pytest.fixture(scope="module", params=KINDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with open_backend(request.param) as backend:
        yield backend


def counted(path: Path) -> Callable[[Any], None]:
    """Notes calls in a file, from whatever process."""
    name = str(path)

    def note(what: Any) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{what}\n".encode())
        os.close(fd)

    return note


def test_results_are_saved_and_only_what_is_missing_runs(backend: Backend, tmp_path: Path) -> None:
    note = counted(tmp_path / "calls")

    def fn(task: nbrun.Task) -> Any:
        note(task.item)
        return {"n": task.item, "limit": task.sample["limit"], "group": task.group, "index": task.index}

    def samples(n: int) -> list[dict[str, Any]]:
        return [{"id": f"s{i}", "items": list(range(n)), "limit": i} for i in range(5)]

    backend.run(tmp_path / "r", fn, [], samples=samples(20))
    progress = backend.run(tmp_path / "r", fn, [], samples=samples(30)).progress
    assert (progress.state, progress.done, progress.resumed, progress.saved) == ("done", 150, 100, 150)
    frame = nbrun.load_results(tmp_path / "r")
    assert len(frame) == 150
    assert (frame["limit"].astype(str) == frame["sample_id"].astype(str).str[1:]).all()
    assert (frame["n"] == frame["index"]).all()
    assert set(frame["group"]) == {"item"}
    assert len((tmp_path / "calls").read_text().split()) == 150


def test_values_come_back_as_they_were(backend: Backend, tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> Any:
        return [{"x": float("inf"), "text": "é\ud800", "none": None}, "plain", {"verdict": "Accepted"}][task.item]

    backend.run(tmp_path / "r", fn, [0, 1, 2])
    frame = nbrun.load_results(tmp_path / "r", entries=True).set_index("index")
    assert frame["x"][0] == float("inf")
    assert frame["text"][0] == "é\ufffd"
    assert frame["entry"][0]["lossy"] is True
    assert frame["value"][1] == "plain"
    assert frame["verdict"][2] == "Accepted"
    assert frame["entry"][2]["item"] == 2


def test_errors_cost_only_themselves_and_run_again(backend: Backend, tmp_path: Path) -> None:
    note = counted(tmp_path / "calls")

    def fn(task: nbrun.Task) -> Any:
        class Odd(Exception):  # can't be unpickled elsewhere
            def __init__(self, a: str, b: int) -> None:
                super().__init__(a)

        note(task.item)
        if task.item == 1:
            raise Odd("odd", 2)
        if task.item == 2:
            return {"lock": threading.Lock()}
        if task.item == 3:
            raise SystemExit(3)
        if task.item == 4:
            raise KeyboardInterrupt
        return {}

    run = backend.run(tmp_path / "r", fn, list(range(8)), retry=None)
    assert (run.progress.done, run.progress.errors) == (4, 4)
    errors = run.errors().set_index("index")["error"].astype(str)
    assert [word in errors[i] for i, word in ((1, "Odd"), (2, "lock"), (3, "SystemExit"), (4, "KeyboardInterrupt"))]
    assert all(e.type and e.traceback for e in run.progress.recent_errors)
    before = (tmp_path / "calls").read_text()
    backend.run(tmp_path / "r", fn, list(range(8)), retry=None)
    assert sorted((tmp_path / "calls").read_text()[len(before) :].split()) == ["1", "2", "3", "4"]


def test_attempts_hints_and_previous_results_go_on(backend: Backend, tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> Any:
        if task.item == 0 and task.attempt < 3:
            return nbrun.Retry("more time", hint={"limit": task.attempt * 2}, result={"t": task.attempt})
        if task.item == 1 and task.attempt < 3:
            raise ValueError("not yet")
        if task.item == 2:
            raise TypeError("never")
        return {"hint": task.hint.get("limit"), "before": (task.previous or {}).get("t"), "attempt": task.attempt}

    policy = nbrun.RetryPolicy(attempts=3, delay_s=0.01)
    backend.run(tmp_path / "r", fn, [0, 1, 2], retry=policy)
    frame = nbrun.load_results(tmp_path / "r").set_index("index")
    assert (frame["hint"][0], frame["before"][0], frame["attempts"][0]) == (4, 2, 3)
    assert (frame["attempt"][1], frame["attempts"][1]) == (3, 3)
    assert (frame["status"][2], frame["attempts"][2]) == ("error", 1)


def test_equal_failures_pause_the_run_and_can_be_tried_again(backend: Backend, tmp_path: Path) -> None:
    seen, mended = tmp_path / "seen", tmp_path / "mended"

    def fn(task: nbrun.Task) -> Any:
        end = time.monotonic() + 60
        # All others may have been sent before the first ten failures are counted: this one keeps the run from its end.
        while task.item == 39 and not seen.exists() and time.monotonic() < end:
            time.sleep(0.01)
        if not mended.exists():
            raise ValueError("the server is down")
        return {}

    run = backend.start(tmp_path / "r", fn, list(range(40)), retry=None)
    with pytest.raises(RunHaltedError, match="the server is down"):
        run.wait(60)
    assert run.progress.state == "paused"
    seen.touch()
    until(lambda: not run.progress.running, "what was begun has failed too")
    mended.touch()
    run.resume()
    run.retry_errors()
    assert run.wait(60).state == "done"
    assert (run.progress.done, run.progress.errors) == (40, 0)


def test_a_pause_begins_nothing_and_a_stop_leaves_the_rest_missing(backend: Backend, tmp_path: Path) -> None:
    note, go = counted(tmp_path / "calls"), tmp_path / "go"

    def fn(task: nbrun.Task) -> Any:
        note(task.item)
        end = time.monotonic() + 60
        while task.item < 4 and not go.exists() and time.monotonic() < end:
            time.sleep(0.01)
        return {}

    run = backend.start(tmp_path / "r", fn, list(range(400)), workers=2)
    until(lambda: (tmp_path / "calls").exists(), "a task has begun")
    run.pause()
    go.touch()
    until(lambda: run.progress.running == 0, "what runs has ended")
    calls = (tmp_path / "calls").read_text()
    assert run.progress.state == "paused"
    run.resume()
    until(lambda: (tmp_path / "calls").read_text() != calls, "it goes on")
    run.stop()
    until(lambda: run.progress.ended, "the run has stopped")
    saved = run.progress.saved
    assert run.progress.state in ("stopped", "done")
    assert len(nbrun.load_results(tmp_path / "r")) == saved
    backend.run(tmp_path / "r", fn, list(range(400)))
    assert len(nbrun.load_results(tmp_path / "r")) == 400
    assert sorted((tmp_path / "calls").read_text().split(), key=int) == [str(i) for i in range(400)]


def test_a_stop_at_once_discards_what_runs(backend: Backend, tmp_path: Path, tuning: Callable[..., None]) -> None:
    if backend.is_far:  # a task there doesn't learn that it should end
        tuning(abandon_after_s=0.5)

    note, ended, go = counted(tmp_path / "calls"), counted(tmp_path / "ended"), tmp_path / "go"

    def fn(task: nbrun.Task) -> Any:
        note(task.item)
        end = time.monotonic() + 60
        while not (task.cancelled() or go.exists()) and time.monotonic() < end:
            time.sleep(0.01)
        ended(task.item)
        return {}

    run = backend.start(tmp_path / "r", fn, [1, 2, 3], workers=1)
    until(lambda: (tmp_path / "calls").exists(), "a task has begun")
    run.stop(drain=False)
    until(lambda: run.progress.ended, "the run has stopped")
    go.touch()
    assert run.progress.state == "stopped"
    calls = (tmp_path / "calls").read_text().split()
    until(lambda: (tmp_path / "ended").exists() and (tmp_path / "ended").read_text().split() == calls, "it has ended")
    progress = backend.run(tmp_path / "r", fn, [1, 2, 3]).progress
    assert (progress.done, progress.resumed) == (3, run.progress.saved)  # what came late changed nothing
    assert not (backend.is_far and progress.resumed)
    assert len(nbrun.load_results(tmp_path / "r")) == 3


def test_redo_replaces_results_once_they_are_made_again(backend: Backend, tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> Any:
        return {"made": version}

    version = 1
    backend.run(tmp_path / "r", fn, [1, 2, 3])
    frame = nbrun.load_results(tmp_path / "r")
    version = 2
    backend.run(tmp_path / "r", fn, [1, 2, 3], redo=frame[frame["index"] == 1])
    assert list(nbrun.load_results(tmp_path / "r").sort_values("index")["made"]) == [1, 2, 1]


def test_a_function_may_look_at_the_whole_sample(backend: Backend, tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> Any:
        try:
            others = task.sample["items"]
        except:  # noqa: E722 - what a user may write
            others = []
        return {"others": len(others), "keys": ",".join(sorted(task.sample)), "known": "items" in task.sample}

    backend.run(tmp_path / "r", fn, [10, 20, 30])
    frame = nbrun.load_results(tmp_path / "r")
    assert list(frame["others"]) == [3, 3, 3]
    assert frame["known"].all()
    assert list(frame["keys"]) == ["id,items"] * 3


def test_samples_that_are_items_themselves(backend: Backend, tmp_path: Path) -> None:
    samples = [{"id": i, "text": "x" * i} for i in range(300)]
    run = backend.run(
        tmp_path / "r", lambda task: {"n": len(task.sample["text"]), "same": task.item["id"]}, [],
        samples=samples, groups=None,
    )  # fmt: skip
    assert run.progress.done == 300
    frame = nbrun.load_results(tmp_path / "r")
    assert sorted(frame["n"]) == list(range(300))
