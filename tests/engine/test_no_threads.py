"""Threads that can't be started, a loop that a task stops, an iterator that never returns: every run can be ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.errors import RunHaltedError, ThreadLimitError
from tests.waiting import DEADLINE_S, until, within

SAMPLES = [{"id": f"s{i}", "items": list(range(30))} for i in range(4)]


def start(results: Path, fn: Any, samples: Any = SAMPLES, **more: Any) -> nbrun.Run:
    return nbrun.start(samples, fn, results, **({"groups": ["item"], "view": None, "workers": 4} | more))


@contextmanager
def refused_threads(monkeypatch: pytest.MonkeyPatch, first: int, count: int = 10**9) -> Iterator[list[str]]:
    """From nbrun's thread number `first` on, the system starts no more of them (for `count` threads)."""
    asked: list[str] = []
    real = threading.Thread.start

    def begin(thread: threading.Thread) -> None:
        if thread.name.startswith("nbrun-"):
            asked.append(thread.name)
            if first <= len(asked) < first + count:
                raise RuntimeError("can't start new thread")
        real(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", begin)
        yield asked


def plain(task: nbrun.Task) -> dict[str, Any]:
    return {"n": task.item}


async def coroutine(task: nbrun.Task) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"n": task.item}


KINDS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "threads": lambda: (plain, {}),
    "threads with a time-out": lambda: (plain, {"timeout_s": 30}),
    "a loop": lambda: (coroutine, {}),
    "an executor": lambda: (plain, {"executor": ThreadPoolExecutor(2)}),
}


@pytest.mark.parametrize("count", [1, 10**9], ids=["one", "all from there on"])
@pytest.mark.parametrize("kind", KINDS)
def test_whichever_thread_can_not_be_started(
    kind: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either start() says so and leaves nothing behind, or the run ends, or it pauses and goes on later."""
    seen = set()
    for first in range(1, 12):
        fn, options = KINDS[kind]()
        results = tmp_path / f"{kind[:3]}{first}"
        with refused_threads(monkeypatch, first, count) as asked:
            try:
                run = start(results, fn, **options)
            except ThreadLimitError:
                run = None
            else:
                until(lambda run=run: run.progress.ended or run.progress.state == "paused", "it ends or pauses")
                if run.progress.state == "paused":
                    assert "can start no more threads" in run.progress.message
                    with pytest.raises(RunHaltedError):
                        run.wait(5)
        if len(asked) < first:
            break
        seen.add(asked[first - 1].rstrip("0123456789-"))
        if run is not None and run.progress.state == "paused":
            run.resume()
            assert run.wait(60).done == 120
        again = start(results, fn, **KINDS[kind]()[1])
        assert again.wait(60).saved == 120
        assert len(nbrun.load_results(results)) == 120
    assert {"nbrun-journal", "nbrun-files", "nbrun-feed", "nbrun-run"} <= seen
    assert len(seen) > 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_paused_run_without_threads_can_be_stopped_and_replaced(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn, options = KINDS[kind]()
    with refused_threads(monkeypatch, 5):
        run = start(tmp_path / "r", fn, **options)
        until(lambda: run.progress.state == "paused", "it pauses")
        run.stop(drain=False)
        until(lambda: run.progress.ended, "it has ended", promised_s=5)
    fn, options = KINDS[kind]()
    with refused_threads(monkeypatch, 5):
        run = start(tmp_path / "r", fn, **options)
        until(lambda: run.progress.state == "paused", "it pauses")
    again = within(5, lambda: start(tmp_path / "r", fn, **options, replace=True))
    assert again.wait(60).done == 120


def test_a_run_goes_on_with_the_threads_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    with refused_threads(monkeypatch, 7):
        run = start(tmp_path / "r", lambda t: gate.wait(60) and {}, workers=64, retry=None)
        until(lambda: "of 64 threads run" in run.progress.message, "it says so")
        gate.set()
        assert run.wait(60).done == 120


LIMITED = """
import resource, sys, threading, nbrun
def count():
    with open("/proc/self/status") as f:
        return int(next(line for line in f if line.startswith("Threads")).split()[1])
import os
os.setuid(int(sys.argv[3]))  # the limit counts for ordinary users only
resource.setrlimit(resource.RLIMIT_NPROC, (count() + int(sys.argv[2]),) * 2)
run = None
try:
    run = nbrun.start([{"id": "s", "items": list(range(50))}], lambda t: {"n": 1}, sys.argv[1], groups=["item"],
                      view=None, workers=8)
    print(run.wait(60).done)
except nbrun.errors.NbrunError as e:
    print("refused", "no more threads" in str(e))
if run is not None:
    run.stop(drain=False)
    ended = threading.Event()
    run.add_done_callback(lambda run: ended.set())
    assert ended.wait(5)
"""


@pytest.fixture
def user() -> Iterator[tuple[int, Path]]:
    """A user without processes, also while other tests run on this machine, and a folder of that user's."""
    if not Path("/proc/self/status").exists() or os.getuid() != 0:
        pytest.skip("counts threads as Linux does, and only root can become another user")
    uid = 100_000 + os.getpid()
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's, which only its user may enter
        os.chown(folder, uid, uid)
        yield uid, Path(folder)


@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4, 5, 6, 30])
def test_a_real_limit_on_threads(allowed: int, user: tuple[int, Path]) -> None:
    uid, folder = user
    command = [sys.executable, "-c", LIMITED, str(folder / "r"), str(allowed), str(uid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in ("50", "refused"), done.stdout
    assert done.stdout.split()[-1] != "False"
    assert done.stdout.startswith("50") or allowed < 30


def test_a_task_that_stops_its_loop_stops_nothing_else(tmp_path: Path) -> None:
    async def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.item == 3:
            asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)
        return {}

    assert start(tmp_path / "r", fn).wait(60).done == 120


def test_a_task_that_cancels_all_others_loses_none(tmp_path: Path) -> None:
    """Those that had begun end in errors; those that had not run later."""

    async def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.item == 0 and task.sample_id == "s0":
            for other in asyncio.all_tasks() - {asyncio.current_task()}:
                other.cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0.001)
        return {}

    progress = start(tmp_path / "r", fn, workers=20).wait(60)
    assert progress.done + progress.errors == 120


def test_a_loop_that_a_task_stopped_can_be_stopped_and_replaced(tmp_path: Path) -> None:
    async def fn(task: nbrun.Task) -> dict[str, Any]:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)
        return {}

    run = start(tmp_path / "r", fn)
    until(lambda: run.progress.running == 4, "they run")
    run.stop(drain=False)
    within(5, lambda: run.wait(60))
    run = start(tmp_path / "r", fn)
    until(lambda: run.progress.running == 4, "they run")
    again = within(5, lambda: start(tmp_path / "r", coroutine, replace=True))
    assert again.wait(60).done == 120


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("kind", ["threads", "a loop"])
def test_an_iterator_that_never_returns(kind: str, drain: bool, tmp_path: Path, tuning: Callable[..., None]) -> None:
    """stop() and start(replace=True) don't wait for it, and what it yields later is dropped."""
    tuning(feeder_leave_s=0.1)
    fn, options = KINDS[kind]()
    gate, closed = threading.Event(), threading.Event()

    def stream() -> Iterator[dict[str, Any]]:
        yield SAMPLES[0]
        gate.wait(60)
        yield SAMPLES[1]
        closed.set()

    run = start(tmp_path / "r", fn, stream(), **options)
    until(lambda: run.progress.saved == 30, "the first sample is done")
    run.stop(drain=drain)
    assert within(5, lambda: run.wait(60)).state == "stopped"
    run = start(tmp_path / "r", fn, stream(), **options)
    until(lambda: run.progress.done == 30, "the first sample is known")
    again = within(5, lambda: start(tmp_path / "r", fn, SAMPLES, replace=True, **options))
    gate.set()
    assert again.wait(60).done == 120
    assert run.progress.done == 30


def test_an_iterator_that_fails_after_it_was_left(tmp_path: Path) -> None:
    gate = threading.Event()

    def stream() -> Iterator[dict[str, Any]]:
        yield SAMPLES[0]
        gate.wait(60)
        raise ValueError("too late")

    run = start(tmp_path / "r", plain, stream())
    until(lambda: run.progress.saved == 30, "the first sample is done")
    run.stop()
    run.wait(60)
    feeders = [thread for thread in threading.enumerate() if thread.name == "nbrun-feed"]
    assert feeders, "it hangs in the stream"
    gate.set()
    for feeder in feeders:
        feeder.join(60)
    assert run.wait(1).state == "stopped"
