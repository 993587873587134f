"""The cell run again on a live run, and a run that goes on after its end."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.errors import RunActiveError, RunHaltedError
from tests.views import controls_of
from tests.waiting import until

Samples = list[dict[str, Any]]


def of(n: int, items: int = 2) -> Samples:
    return [{"id": f"s{i:02}", "items": list(range(items))} for i in range(n)]


class Service:
    """A function whose calls wait until `go` is set, and fail where `down` says so."""

    def __init__(self, down: Callable[[nbrun.Task], bool] = lambda task: False) -> None:
        self.go, self.calls = threading.Event(), []  # type: ignore[var-annotated]
        self.is_down = down

    def __call__(self, task: nbrun.Task) -> dict[str, Any]:
        self.go.wait(60)
        self.calls.append((task.sample_id, task.item))
        if self.is_down(task):
            raise ConnectionError("down") if task.item != 3 else TimeoutError("slow")
        return {"accepted": True}

    settings: dict[str, Any] = {}  # noqa: RUF012 - as a judge has


def start(samples: Any, fn: Any, path: Path, **more: Any) -> nbrun.Run:
    return nbrun.start(samples, fn, path, groups=["item"], **({"workers": 2, "view": None, "retry": None} | more))


@pytest.fixture
def two_paths(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Return two paths of one folder, by a bind mount, which no resolving of links makes one."""
    folder, mounted = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    mounted.mkdir()
    done = subprocess.run(["mount", "--bind", folder, mounted], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a folder can't be mounted here: {done.stderr.strip()}")
    yield folder / "results", mounted / "results"
    subprocess.run(["umount", "-l", mounted], check=True)


def test_another_path_of_the_same_folder_is_the_same_run(two_paths: tuple[Path, Path]) -> None:
    fn = Service()
    one, other = two_paths
    run = start(of(3), fn, one)
    assert start(of(4), fn, other) is run
    fn.go.set()
    assert run.wait(60).done == 8
    assert start(of(4), fn, other).wait(60).resumed == 8


def test_errors_that_run_first_again_do_not_pause_a_run_that_had_successes(tmp_path: Path) -> None:
    """Fifteen of 40 tasks still fail. They come first after the end, but they are not the first tasks of the run."""

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.index % 8 in (5, 6, 7):
            raise ValueError("no")
        return {"accepted": True}

    run = start(of(1, 40), fn, tmp_path, workers=1)
    assert run.wait(60).errors == 15
    assert run.retry_errors() == 15
    progress = run.wait(60)
    assert (progress.done, progress.errors) == (25, 15)


def is_reading() -> bool:
    """Return whether a run still reads its samples."""
    return any(thread.name == "nbrun-feed" for thread in threading.enumerate())


@pytest.mark.parametrize("make", [list, iter], ids=["list", "stream"])
@pytest.mark.parametrize("is_all_read", [False, True])
def test_more_samples_join_a_live_run(make: Callable[[Samples], Any], is_all_read: bool, tmp_path: Path) -> None:
    fn = Service()
    run = start(make(of(5)), fn, tmp_path)
    if is_all_read:
        until(lambda: run.progress.total == 10 and not is_reading(), "all are read")
    assert start(make(of(8)), fn, tmp_path) is run
    fn.go.set()
    progress = run.wait(60)
    assert (progress.done, progress.total, progress.samples_total, progress.samples_done) == (16, 16, 8, 8)
    assert sorted(fn.calls) == [(f"s{i:02}", k) for i in range(8) for k in range(2)]
    assert nbrun.status(tmp_path).samples == 8
    assert nbrun.status(tmp_path).is_total_known


def test_equal_and_fewer_samples_return_the_live_run(tmp_path: Path) -> None:
    fn = Service()
    run = start(of(5), fn, tmp_path)
    assert start(of(5), fn, tmp_path, workers=3) is run
    assert run.workers == 3
    assert start(of(2), fn, tmp_path) is run
    fn.go.set()
    assert run.wait(60).total == 10


def test_many_joins_lose_nothing(tmp_path: Path) -> None:
    fn = Service()
    fn.go.set()
    for n in range(1, 60):
        run = start(of(n, 1), fn, tmp_path)
    run.wait(60)
    assert sorted(set(fn.calls)) == [(f"s{i:02}", 0) for i in range(59)]
    assert len(fn.calls) == 59
    assert nbrun.status(tmp_path).done == 59


def test_a_corrected_function_replaces_a_run_that_paused_itself(tmp_path: Path) -> None:
    def broken(task: nbrun.Task) -> dict[str, Any]:
        raise KeyError("missing")

    run = start(of(20), broken, tmp_path)
    until(lambda: run.progress.state == "paused")
    assert "run this cell again" in run.progress.message
    again = start(of(20), lambda task: {"v": 1}, tmp_path)
    assert again is not run
    assert again.wait(60).done == 40
    assert run.progress.state == "stopped"


def test_a_run_that_the_user_paused_is_not_replaced(tmp_path: Path) -> None:
    fn = Service()
    run = start(of(3), fn, tmp_path)
    run.pause()
    with pytest.raises(RunActiveError):
        start(of(3), lambda task: {"v": 1}, tmp_path)
    run.resume()
    fn.go.set()
    assert run.wait(60).done == 6


def test_replace_stops_the_live_run(tmp_path: Path) -> None:
    fn = Service()
    run = start(of(3), fn, tmp_path)
    until(lambda: run.progress.running)
    fn.go.set()
    again = start(of(3), lambda task: {"v": 1}, tmp_path, replace=True)
    assert again.wait(60).done == 6
    assert run.progress.ended


@pytest.mark.parametrize("make", [list, iter], ids=["list", "stream"])
def test_errors_are_tried_again_after_the_end(make: Callable[[Samples], Any], tmp_path: Path) -> None:
    fn = Service(lambda task: task.item % 2 == 1)
    fn.go.set()
    run = start(make(of(6, 4)), fn, tmp_path)
    progress = run.wait(60)
    assert (progress.state, progress.errors, progress.samples_done) == ("done", 12, 0)
    version = progress.version
    fn.is_down = lambda task: False
    fn.go.clear()
    fn.calls.clear()
    assert run.retry_errors() == 12
    until(lambda: run.progress.state == "running")
    assert (run.progress.errors, run.progress.total) == (0, 24)
    fn.go.set()
    progress = run.wait(60)
    assert (progress.state, progress.done, progress.errors) == ("done", 24, 0)
    assert (progress.samples_done, progress.samples_total, progress.saved) == (6, 6, progress.saved)
    assert len(fn.calls) == 12
    assert len(progress.since(version)) == 6
    assert not any(k.n for k in progress.error_kinds)
    assert run.retry_errors() == 0
    assert nbrun.status(tmp_path) == nbrun.frames.Status(6, 6, 24, 0, 24, 0, True)
    assert set(nbrun.load_results(tmp_path)["status"]) == {"done"}


def test_errors_of_one_kind_are_tried_again_after_the_end(tmp_path: Path) -> None:
    fn = Service(lambda task: task.item % 2 == 1)
    fn.go.set()
    run = start(of(3, 4), fn, tmp_path)
    run.wait(60)
    fn.calls.clear()
    fn.is_down = lambda task: False
    assert run.retry_errors("TimeoutError") == 3
    progress = run.wait(60)
    assert sorted(fn.calls) == [(f"s{i:02}", 3) for i in range(3)]
    assert (progress.done, progress.errors, progress.samples_done) == (9, 3, 0)
    assert {k.type: k.n for k in progress.error_kinds} == {"ConnectionError": 3, "TimeoutError": 0}
    assert run.retry_errors() == 3
    assert run.wait(60).done == 12


@pytest.mark.parametrize("make", [list, iter], ids=["list", "stream"])
def test_a_stopped_run_goes_on(make: Callable[[Samples], Any], tmp_path: Path) -> None:
    fn = Service()
    run = start(make(of(60)), fn, tmp_path)
    until(lambda: run.progress.running == 2)
    run.stop(drain=False)
    fn.go.set()
    assert run.wait(60).state == "stopped"
    before = run.progress.done
    run.resume()
    progress = run.wait(60)
    assert (progress.state, progress.done, progress.total) == ("done", 120, 120)
    assert before < 120
    assert len(set(fn.calls)) == 120
    assert nbrun.status(tmp_path).done == 120


def test_a_stream_that_goes_on_is_not_read_from_its_start(tmp_path: Path) -> None:
    drawn: list[int] = []

    def stream() -> Iterator[dict[str, Any]]:
        for i in range(3000):
            drawn.append(i)
            yield {"id": str(i), "items": [1]}

    fn = Service()
    run = start(stream(), fn, tmp_path)
    until(lambda: run.progress.running == 2)
    run.stop(drain=False)
    fn.go.set()
    run.wait(60)
    run.resume()
    assert run.wait(60).done == 3000
    assert drawn == list(range(3000))


def test_results_of_other_settings_can_be_made_again_after_the_end(tmp_path: Path) -> None:
    start(of(3), lambda task: {"v": 1}, tmp_path).wait(60)
    run = start(of(4), lambda task: {"v": 2}, tmp_path)
    run.wait(60)
    assert controls_of(run).redo_changed() == 6
    assert run.wait(60).done == 8
    assert nbrun.load_results(tmp_path)["v"].tolist() == [2] * 8


def test_callbacks_are_called_at_the_end_and_at_once_after_it(tmp_path: Path) -> None:
    fn = Service()
    run = start(of(2), fn, tmp_path)
    called: list[object] = []

    def bad(run: nbrun.Run) -> None:
        raise ValueError("mine")

    run.add_done_callback(bad)
    run.add_done_callback(called.append)
    assert not called
    fn.go.set()
    run.wait(60)
    until(lambda: called == [run])
    run.add_done_callback(called.append)
    assert called == [run, run]
    assert any("mine" in note.text for note in run.progress.logs)


def test_a_callback_may_start_the_run_again(tmp_path: Path) -> None:
    fn = Service(lambda task: True)
    run = start(of(2), fn, tmp_path)

    def again(run: nbrun.Run) -> None:
        fn.is_down = lambda task: False
        run.retry_errors()

    run.add_done_callback(again)
    fn.go.set()
    until(lambda: run.progress.state == "done" and run.progress.done == 4, repr(run.progress))


def test_a_new_sample_needs_not_wait_for_those_that_are_finished(tmp_path: Path) -> None:
    """250 samples are finished and two are new, the last of the list: workers get these first, and all are counted."""
    samples = [{"id": f"s{i:03}", "items": [i]} for i in range(252)]
    read: list[str] = []

    def context(sample: dict[str, Any]) -> str:
        read.append(sample["id"])
        return "same"

    ran: list[str] = []

    def fn(task: nbrun.Task) -> dict[str, Any]:
        ran.append(task.sample_id)
        return {"v": task.item}

    def start(some: Samples) -> nbrun.Progress:
        read.clear()
        ran.clear()
        return nbrun.start(some, fn, tmp_path, groups=["item"], context=context, view=None).wait(60)

    start(samples[:250])
    progress = start(samples)
    assert sorted(ran) == ["s250", "s251"]
    assert (progress.done, progress.resumed, progress.total) == (252, 250, 252)
    assert (progress.samples_done, progress.samples_total) == (252, 252)
    assert read[0] == "s000", "the first one is looked at before anything is written"
    assert read[1:3] == ["s250", "s251"]
    assert list(dict.fromkeys(read[3:])) == [f"s{i:03}" for i in range(250)]
    frame = nbrun.load_results(tmp_path)
    assert list(frame["v"]) == list(range(252))
    assert start(samples).resumed == 252
    assert read == [f"s{i:03}" for i in range(252)], "the context of each is computed once"


def test_added_samples_that_cannot_be_read_halt_the_run_at_its_end(tmp_path: Path) -> None:
    """All samples had been read before they were added, and a task still runs."""
    fn = Service()
    run = start(of(1), fn, tmp_path)
    until(lambda: run.progress.total == 2 and not is_reading(), "all are read")

    def more() -> Iterator[dict[str, Any]]:
        yield from of(2)
        raise OSError("the dataset is gone")

    assert start(more(), fn, tmp_path) is run
    fn.go.set()
    with pytest.raises(RunHaltedError, match="the dataset is gone"):
        run.wait(60)
    assert run.progress.state == "halted"
    assert run.progress.done == sum(len(sample["items"]) for sample in of(2))
