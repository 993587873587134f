"""Workers that die, clusters that close, functions that can't travel: on real executors."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.errors import InputError, RunHaltedError
from tests.engine.backends import FAR, FAR_QUICK, SLOTS, Backend, dask_client, is_gone, pool_of, process_pool
from tests.engine.test_backends import counted
from tests.waiting import until


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster that reports a lost worker at once, instead of trying the call on four.

    A LocalCluster looks 15 s after a loss whether the worker is back, and gives its place up if it has just been lost
    again; these tests lose workers all the time.
    """
    import dask

    patient = {"distributed.scheduler.allowed-failures": 0, "distributed.deploy.lost-worker-timeout": "1 hour"}
    with dask.config.set(patient), dask_client() as client:
        yield client


@pytest.fixture(params=FAR)
def backend(request: pytest.FixtureRequest) -> Backend:
    """With a factory, so that a broken pool is replaced."""
    if request.param == "dask":
        return Backend("dask", request.getfixturevalue("client").get_executor)
    return Backend(request.param, pool_of(request.param))


def test_killed_workers_cost_no_attempt(backend: Backend, tmp_path: Path) -> None:
    marks = str(tmp_path)

    def fn(task: nbrun.Task) -> Any:
        mark = os.path.join(marks, f"mark{task.item}")
        if task.item % 10 == 3 and not os.path.exists(mark):
            open(mark, "w").close()
            if task.item == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(1)
        return {"n": task.item, "attempt": task.attempt}

    backend.run(tmp_path / "r", fn, list(range(20)))
    frame = nbrun.load_results(tmp_path / "r")
    assert sorted(frame["n"]) == list(range(20))
    assert set(frame["attempt"]) == {1}


@pytest.mark.parametrize("backend", FAR_QUICK, indirect=True)
@pytest.mark.filterwarnings(  # the thread of a broken pool may count its processes while another one is added to them
    "ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning"
)
def test_a_task_that_kills_every_worker_is_the_only_error(backend: Backend, tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> Any:
        if task.item == 1:
            os._exit(1)
        return {"n": task.item}

    backend.run(tmp_path / "r", fn, list(range(30)))
    frame = nbrun.load_results(tmp_path / "r").set_index("index")
    assert frame["status"][1] == "error"
    assert "worker was lost" in frame["error"][1]
    assert sorted(frame["n"].dropna()) == [0, *range(2, 30)]


@pytest.mark.parametrize("backend", FAR_QUICK, indirect=True)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_beside_fn_is_a_loss_and_no_attempt(
    kind: type[BaseException], backend: Backend, tmp_path: Path
) -> None:
    """It comes as a signal may: when fn has returned, and before its result is on the way."""
    mark = str(tmp_path / "mark")

    def fn(task: nbrun.Task) -> Any:
        def interrupt(frame: Any, event: str, what: Any) -> None:
            if event == "c_call" and what.__name__ == "dumps" and frame.f_code.co_name == "run_chunk":
                sys.setprofile(None)
                open(mark, "w").close()
                raise kind

        if task.item == 3 and not os.path.exists(mark):
            sys.setprofile(interrupt)
        return {"n": task.item, "attempt": task.attempt}

    backend.run(tmp_path / "r", fn, list(range(20)))
    assert os.path.exists(mark)
    frame = nbrun.load_results(tmp_path / "r")
    assert sorted(frame["n"]) == list(range(20))
    assert set(frame["attempt"]) == {1}


@pytest.mark.parametrize("way_on", ["the workers go on", "they are given up"])
def test_workers_that_say_nothing(way_on: str, backend: Backend, tmp_path: Path, tuning: Callable[..., None]) -> None:
    """Stopped by a signal they neither answer nor end; the futures stay pending, and the run says what to do."""
    tuning(executor_silent_s=0.3, executor_look_s=0.05, abandon_after_s=0.2)
    note = counted(tmp_path / "pids")

    def pids() -> set[int]:
        return {int(pid) for pid in (tmp_path / "pids").read_text().split()} if (tmp_path / "pids").exists() else set()

    def fn(task: nbrun.Task) -> Any:
        note(os.getpid())
        end = time.monotonic() + 30
        while len(pids()) < SLOTS and time.monotonic() < end:  # a worker may take seconds to start
            threading.Event().wait(0.02)
        threading.Event().wait(0.02)
        return {"n": task.item}

    run = backend.start(tmp_path / "r", fn, list(range(60)))
    until(lambda: len(pids()) == SLOTS and run.progress.saved, "both workers run, something is saved")
    stopped = pids()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: "Nothing has come back" in run.progress.message, "it says so")
        assert run.progress.state == "running"
        assert "run.stop(drain=False)" in run.progress.message
        if way_on == "they are given up":
            run.stop(drain=False)
            until(lambda: run.progress.ended, "the run has stopped")
            assert len(nbrun.load_results(tmp_path / "r")) == run.progress.saved
            if backend.name not in ("dask", "mpi"):  # their processes are the user's
                until(lambda: all(is_gone(pid) for pid in stopped), "stopped processes have ended too")
    finally:
        for pid in stopped:
            if not is_gone(pid):
                os.kill(pid, signal.SIGCONT)
    if way_on == "the workers go on":
        assert run.wait(60).done == 60
        assert "Nothing" not in run.progress.message
    else:
        assert backend.run(tmp_path / "r", fn, list(range(60))).progress.resumed == run.progress.saved
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(60))


@pytest.mark.parametrize("backend", FAR_QUICK, indirect=True)
def test_an_executor_that_is_closed_pauses_the_run(backend: Backend, tmp_path: Path) -> None:
    """The user's own, in the middle of a run."""
    note = counted(tmp_path / "calls")

    def fn(task: nbrun.Task) -> Any:
        note(task.item)
        threading.Event().wait(0.02)
        return {"n": task.item}

    executor = backend.executor()
    run = Backend(backend.name, executor).start(tmp_path / "r", fn, list(range(60)))
    until(lambda: run.progress.saved > 5, "some are saved")
    executor.shutdown(wait=False)
    with pytest.raises(RunHaltedError, match="broken or closed"):
        run.wait(60)
    run.stop()
    until(lambda: run.progress.ended, "the run has stopped")
    saved = run.progress.saved
    assert len(nbrun.load_results(tmp_path / "r")) == saved
    assert backend.run(tmp_path / "r", fn, list(range(60))).progress.resumed == saved
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(60))


@pytest.mark.parametrize("backend", FAR_QUICK, indirect=True)
def test_a_result_of_50_mb(backend: Backend, tmp_path: Path) -> None:
    backend.run(tmp_path / "r", lambda task: {"text": "x" * 50_000_000 * task.item}, [0, 1])
    assert sorted(nbrun.load_results(tmp_path / "r")["text"].str.len()) == [0, 50_000_000]


def test_the_function_travels_once_a_worker_and_equal_calls_are_different(backend: Backend, tmp_path: Path) -> None:
    note = counted(tmp_path / "unpacked")

    class Work:
        def __setstate__(self, state: Any) -> None:
            note(os.getpid())

        def __reduce_ex__(self, protocol: Any) -> Any:
            return (Work, (), {"a": 1})

        def run(self, task: nbrun.Task) -> Any:
            return {"x": random.random()}

    backend.run(tmp_path / "r", Work().run, [7] * 400)
    pids = (tmp_path / "unpacked").read_text().split()
    assert len(pids) == len(set(pids)) <= 2
    assert nbrun.load_results(tmp_path / "r")["x"].nunique() == 400


def test_without_a_factory_a_broken_pool_pauses_the_run_and_nothing_is_lost(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")

    def fn(task: nbrun.Task) -> Any:
        if task.item == 5 and not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(1)
        return {"n": task.item}

    backend = Backend("spawn", process_pool("spawn")())
    broken = backend.start(tmp_path / "r", fn, list(range(8)))
    with pytest.raises(RunHaltedError, match="factory"):
        broken.wait(60)
    assert broken.progress.state == "paused"
    broken.resume()
    with pytest.raises(RunHaltedError, match="broken"):
        broken.wait(60)
    broken.stop()
    until(lambda: broken.progress.ended, "the run has stopped")
    Backend("spawn", process_pool("spawn")).run(tmp_path / "r", fn, list(range(8)))
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(8))


def test_a_factory_that_fails_pauses_the_run(tmp_path: Path) -> None:
    made = []

    def factory() -> Any:
        if made:
            raise OSError("no licence left")
        made.append(process_pool("spawn")())
        return made[0]

    run = Backend("spawn", factory).start(tmp_path / "r", lambda task: os._exit(1), [1])
    with pytest.raises(RunHaltedError, match="no licence left"):
        run.wait(60)
    run.stop()
    until(lambda: run.progress.ended, "the run has stopped")


@pytest.mark.needs("distributed")
@pytest.mark.long
def test_a_cluster_that_is_closed_pauses_the_run(tmp_path: Path) -> None:
    note = counted(tmp_path / "calls")

    def fn(task: nbrun.Task) -> Any:
        note(task.item)
        threading.Event().wait(0.05)
        return {"n": task.item}

    with dask_client(1) as client:
        run = Backend("dask", client.get_executor()).start(tmp_path / "r", fn, list(range(200)))
        until(lambda: run.progress.saved > 5, "some are saved")
        client.cluster.close()
        client.close()
        with pytest.raises(RunHaltedError, match="broken or closed"):
            run.wait(60)
        run.stop()
        until(lambda: run.progress.ended, "the run has stopped")
    assert nbrun.load_results(tmp_path / "r")["n"].is_unique


@pytest.mark.needs("distributed")
@pytest.mark.long
def test_workers_that_join_and_leave(client: Any, tmp_path: Path) -> None:
    def fn(task: nbrun.Task) -> Any:
        threading.Event().wait(0.01)
        return {"n": task.item, "pid": os.getpid()}

    run = Backend("dask", client.get_executor()).start(tmp_path / "r", fn, list(range(600)), workers=4)
    until(lambda: run.progress.saved > 5, "some are saved")
    client.cluster.scale(3)
    until(lambda: len(client.scheduler_info()["workers"]) == 3, "a worker has joined")
    client.cluster.scale(1)
    assert run.wait(60).done == 600
    client.cluster.scale(2)
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(600))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")), "forks"),
        (lambda: 5, "must make"),
        (7, "without arguments"),
    ],
)
def test_what_cannot_serve_is_refused_before_anything_is_written(make: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        Backend("spawn", make).run(tmp_path / "r", lambda task: 1, [1])
    client = threading.Lock()
    with pytest.raises(InputError, match=r"'client' in it, a lock, can't be pickled"):
        Backend("spawn", process_pool("spawn")).run(tmp_path / "r", lambda task: client, [1])

    async def fn(task: nbrun.Task) -> Any:
        return 1

    with pytest.raises(InputError, match="event loop"):
        nbrun.start([{"id": 1}], fn, tmp_path / "r", executor=process_pool("spawn"))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("missing", ["nbrun", "cloudpickle"])
def test_workers_without_what_they_need_are_found_before_anything_is_written(missing: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    lacks = f"import sys; sys.modules[{missing!r}] = None; sys.stderr = open('/dev/null', 'w')"

    def make() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=context, initializer=exec, initargs=(lacks,))

    with pytest.raises(InputError, match=r"cloudpickle.*(nstall)"):
        Backend("spawn", make).run(tmp_path / "r", lambda task: 1, [1])
    assert not (tmp_path / "r").exists()


def test_an_item_that_cannot_travel_is_an_error_of_its_own(tmp_path: Path) -> None:
    items = [1, threading.Lock(), "c"]
    backend = Backend("spawn", process_pool("spawn"))
    run = backend.run(tmp_path / "r", lambda task: {"n": 1}, items, key=lambda item: str(type(item)), keep_items=False)
    assert (run.progress.done, run.progress.errors) == (2, 1)
    assert "pickle" in nbrun.load_results(tmp_path / "r").set_index("index")["error"][1]


class RefusesOnce(Executor):
    """Runs calls at once. It loses the task "killer" three times, and then refuses it, alone by now, once."""

    def __init__(self, tries: Iterator[int]) -> None:
        self._tries = tries

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if len(args) > 2 and b"killer" in args[2]:
            tried = next(self._tries)
            if tried < 3:
                future.set_exception(BrokenExecutor("the worker was lost"))
                return future
            if tried == 3:
                raise BrokenExecutor("no worker is left")
        future.set_result(call(*args))
        return future


def test_a_task_that_would_run_alone_and_is_refused_runs_all_the_same(tmp_path: Path) -> None:
    tries = itertools.count()
    samples = [{"id": "s", "solutions": ["a", "killer", "b"]}]
    run = nbrun.start(
        samples, lambda task: {"n": 1}, tmp_path, workers=1, executor=lambda: RefusesOnce(tries), view=None
    )
    assert run.wait(60).done == 3
    assert next(tries) == 5
