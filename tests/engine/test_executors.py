"""The promises of a run over real executors: spawned processes, loky, Dask with a cluster of processes."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import pytest

import nbrun
from nbrun.errors import InputError

SPAWN = multiprocessing.get_context("spawn")


def spawn_pool():
    return ProcessPoolExecutor(2, mp_context=SPAWN)


def loky_pool():
    import loky

    return loky.ProcessPoolExecutor(2)


@pytest.fixture(scope="module")
def dask_client():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["spawn", "loky", "dask"])
def executor(request):
    if request.param == "dask":
        return request.getfixturevalue("dask_client").get_executor
    return {"spawn": spawn_pool, "loky": loky_pool}[request.param]


def run(results, executor, fn, items, **more):
    started = nbrun.start(
        [{"id": "s", "items": items}], fn, results, groups=["item"], executor=executor, view=None, **more
    )
    started.wait(120)
    return started


def test_what_comes_back_is_saved_and_only_errors_run_again(tmp_path, executor):
    kernel, calls = os.getpid(), tmp_path / "calls"

    def fn(task):
        class Odd(Exception):  # can't be unpickled in the kernel
            def __init__(self, a, b):
                super().__init__(a)

        with open(calls, "a") as f:
            f.write(f"{task.item}\n")
        if task.item == 1:
            raise Odd("odd", 2)
        if task.item == 2:
            return {"lock": threading.Lock()}
        if task.item == 3 and task.attempt == 1:
            raise nbrun.Retry("again", hint={"n": 7})
        if task.item == 4:
            raise SystemExit(3)
        if task.item == 5:
            return {"x": float("inf"), "big": "a" * 1_000_000, "here": os.getpid() == kernel}
        return {"hint": task.hint.get("n"), "here": os.getpid() == kernel}

    run(tmp_path / "r", executor, fn, list(range(12)), retry=None, workers=4)
    frame = nbrun.load_results(tmp_path / "r", entries=True).set_index("index")
    assert len(frame) == 12
    errors = frame[frame["status"] == "error"]["error"].astype(str)
    assert sorted(errors.index) == [1, 2, 4]
    assert "Odd" in errors[1]
    assert "SystemExit" in errors[4]
    assert not frame["here"].dropna().astype(bool).any()
    assert frame["hint"][3] == 7
    assert frame["attempts"][3] == 2
    before = calls.read_text()
    run(tmp_path / "r", executor, fn, list(range(12)), retry=None, workers=4)
    again = calls.read_text()[len(before) :].split()
    assert sorted(again) == ["1", "2", "4"]  # a new run tries errors again, and nothing else


def test_killed_workers_cost_no_task(tmp_path):
    marks = tmp_path

    def fn(task):
        mark = marks / f"mark{task.item}"
        if task.item % 10 == 3 and not mark.exists():
            mark.touch()
            if task.item == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(1)
        return {"n": task.item, "attempt": task.attempt}

    run(tmp_path / "r", spawn_pool, fn, list(range(20)), workers=2)
    frame = nbrun.load_results(tmp_path / "r")
    assert sorted(frame["n"]) == list(range(20))
    assert set(frame["attempt"]) == {1}  # a lost worker is no attempt


def test_a_task_that_kills_every_worker_is_the_only_error(tmp_path):
    def fn(task):
        if task.item == 1:
            os._exit(1)
        return {"n": task.item}

    run(tmp_path / "r", spawn_pool, fn, list(range(6)), workers=2)
    frame = nbrun.load_results(tmp_path / "r").set_index("index")
    assert frame["status"][1] == "error"
    assert "worker was lost" in frame["error"][1]
    assert sorted(frame["n"].dropna()) == [0, 2, 3, 4, 5]


def test_without_a_factory_a_broken_pool_pauses_the_run_and_nothing_is_lost(tmp_path):
    mark = tmp_path / "mark"

    def fn(task):
        if task.item == 5 and not mark.exists():
            mark.touch()
            os._exit(1)
        return {"n": task.item}

    def start(executor):
        return nbrun.start([{"id": "s", "items": list(range(8))}], fn, tmp_path / "r", groups=["item"], workers=1,
                           executor=executor, view=None)  # fmt: skip

    broken = start(spawn_pool())
    deadline = threading.Event()
    for _ in range(600):
        if broken.progress.state == "paused":
            break
        deadline.wait(0.1)
    assert "broken" in broken.progress.message
    broken.stop()
    broken._conductor.ended.wait(30)
    start(spawn_pool).wait(60)
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(8))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")), "forks"),
        (lambda: 5, "must make"),
    ],
)
def test_what_cannot_serve_is_refused_before_anything_is_written(tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        run(tmp_path / "r", make, lambda t: 1, [1])
    lock = threading.Lock()
    with pytest.raises(InputError, match="lock"):
        run(tmp_path / "r", spawn_pool, lambda t: lock, [1])
    assert not (tmp_path / "r").exists()
