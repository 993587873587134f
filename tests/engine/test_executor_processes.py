"""Signals and ends of processes: the stop button, the interpreter's end and SIGKILL, with calls out."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.engine import executor_handle as handle
from tests.engine.backends import Backend, is_gone, kind_param, process_pool
from tests.storage.test_ends import Kernel
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SCRIPT = """
import multiprocessing, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import nbrun

def make():
    if {kind!r} == "loky":
        import loky
        return loky.ProcessPoolExecutor(2)
    if {kind!r} == "mpi":
        from mpi4py.futures import MPIPoolExecutor
        return MPIPoolExecutor()
    if {kind!r} == "dask":
        from distributed import Client, LocalCluster
        return Client(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")).get_executor()
    if {kind!r} == "dask in a session of its own":  # as notebooks/04_cluster.ipynb starts it
        import atexit, subprocess
        from distributed import Client
        where = ["--scheduler-file", os.path.join({folder!r}, "scheduler.json")]
        for what in (["scheduler", "--port", "0", "--dashboard-address", ":0"],
                     ["worker", "--nworkers", "2", "--nthreads", "1", "--dashboard-address", ":0"]):
            dask = [sys.executable, "-m", "dask", *what, *where]
            child = subprocess.Popen(
                dask, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd={folder!r}
            )
            atexit.register(child.terminate)
            while not os.path.exists(where[1]):
                time.sleep(0.05)
        client = Client(scheduler_file=where[1])
        client.wait_for_workers(2)
        return client.get_executor()
    if {kind!r} == "threads":
        return ThreadPoolExecutor(2)
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({kind!r}))

def fn(task):
    if {kind!r} in ("spawn", "forkserver", "loky"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a user's program may
    for name in (f"pid-{{os.getpid()}}", f"began-{{task.item}}"):
        open(os.path.join({folder!r}, name), "w").close()
    time.sleep({sleep_s})
    return {{"n": task.item, "pid": os.getpid()}}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and hands that down
    run = nbrun.start(
        [{{"id": "s", "items": list(range({n}))}}], fn, os.path.join({folder!r}, "r"), groups=["item"], workers=2,
        executor={executor}, view=None, retry=None,
    )
    print(run.progress.message, flush=True)
    {end}
"""
WAIT = """
    while not run.progress.ended:
        try:
            run.wait()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print(run.progress.done, run.progress.errors, flush=True)
"""
FAR = ("spawn", "forkserver", "loky")
MPI = [str(Path(sys.executable).with_name("mpiexec")), "-n", "3", sys.executable, "-m", "mpi4py.futures"]


@contextmanager
def launch(
    folder: Path, kind: str, *, sleep_s: float, n: int, end: str, executor: str = "make"
) -> Iterator[subprocess.Popen[str]]:
    """Runs the script; a test that fails leaves none of its processes behind."""
    script = folder / "script.py"
    script.write_text(
        SCRIPT.format(kind=kind, folder=str(folder), sleep_s=sleep_s, n=n, end=end.strip(), executor=executor)
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*(MPI if kind == "mpi" else [sys.executable]), str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    ) as process:
        try:
            yield process
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def pids(folder: Path) -> list[int]:
    return [int(p.name.removeprefix("pid-")) for p in folder.glob("pid-*")]


@pytest.mark.parametrize(
    "kind", [*map(kind_param, FAR), kind_param("dask in a session of its own", package="distributed")]
)
def test_the_stop_button_ends_the_waiting_and_no_worker(kind: str, tmp_path: Path) -> None:
    with launch(tmp_path, kind, sleep_s=0.1, n=40, end=WAIT) as process:
        until(lambda: len(pids(tmp_path)) == 2, "both workers run")
        for _ in range(3):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        out, err = process.communicate(timeout=60)
    assert out.split()[-2:] == ["40", "0"], err
    assert "interrupted" in out
    assert "KeyboardInterrupt" not in err
    assert str(Path(nbrun.__file__).parent) not in err
    assert "Traceback" not in err or "dask" in kind  # whose log may tell how a connection ended with its cluster
    assert len(pids(tmp_path)) == 2


ENDED, LEFT, WAITED = "is ended too, and runs again", "is not waited for, and runs again", "is waited for"
ENDS = [
    *(kind_param(kind, "make", ENDED) for kind in FAR),
    *(kind_param(kind, "make()", WAITED) for kind in FAR),
    *(kind_param("threads", executor, WAITED) for executor in ("make", "make()")),
    *(kind_param("dask", executor, LEFT) for executor in ("make", "make()")),
    kind_param("mpi", "make()", WAITED),
]


@pytest.mark.parametrize(("kind", "executor", "then"), ENDS)
def test_the_interpreter_ends_with_calls_out(kind: str, executor: str, then: str, tmp_path: Path) -> None:
    """The start says what becomes of the tasks under way, and that is so. What only waits is cancelled: else the 80
    tasks would run in two workers before the end, and take 12 s where those under way are waited for."""
    end = "while sum(name[:5] == 'began' for name in os.listdir({folder!r})) < 2: time.sleep(0.01)"
    with launch(
        tmp_path, kind, sleep_s=0.3 if then == WAITED else 600, n=80, end=end.format(folder=str(tmp_path)),
        executor=executor,
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert then in out
    assert "call run.wait()" in err
    tasks = sorted(int(p.name.removeprefix("began-")) for p in tmp_path.glob("began-*"))
    assert 2 <= len(tasks) < 20
    assert sorted(nbrun.load_results(tmp_path / "r")["index"]) == (tasks if then == WAITED else [])
    until(lambda: all(is_gone(pid) for pid in pids(tmp_path)), "the workers have ended")


def test_what_has_come_back_is_saved_before_the_end(tmp_path: Path) -> None:
    """The executor was waited for; what its last calls answered must not be left lying."""
    sending, came, go = threading.Event(), threading.Event(), threading.Event()
    sent: list[Future[Any]] = []

    class Pool(ProcessPoolExecutor):
        def submit(self, *args: Any, **more: Any) -> Future[Any]:
            sent.append(super().submit(*args, **more))
            return sent[-1]

    class Slow:
        def __reduce__(self) -> Any:  # called by the thread that takes answers back
            sending.set()
            go.wait(60)
            return (int, ())

    with Pool(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        run = Backend("spawn", pool).start(
            tmp_path / "r", lambda task: {}, [1, Slow()], key=lambda item: str(type(item)), keep_items=False
        )
        assert sending.wait(60)
        sent[1].add_done_callback(lambda _: came.set())  # the first call was a probe
        assert came.wait(60)
        at_exit = threading.Thread(target=run._shutdown, args=(60.0,))
        at_exit.start()
        at_exit.join(0.3)
        assert at_exit.is_alive()
        go.set()
        at_exit.join(60)
        saved = nbrun.load_results(tmp_path / "r")["index"]
        assert 0 in set(saved)
        until(lambda: run.progress.ended, "the run has stopped")


def test_what_the_end_means_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "_shown", set())
    with ThreadPoolExecutor(1) as pool:
        messages = [Backend("pool", pool).run(tmp_path / "r", str, list(range(n))).progress.message for n in (1, 2)]
    assert [len(re.findall("When this (?:program|kernel) ends", message)) for message in messages] == [1, 0]
    of_another = Backend("spawn", process_pool("spawn", 1)).run(tmp_path / "r", str, [1]).progress.message
    assert "a task under way in it is ended too" in of_another
    assert "ends" not in Backend("threads").run(tmp_path / "r", str, [1]).progress.message


def test_a_kernel_is_shut_down_with_calls_out(tmp_path: Path) -> None:
    """It ends its children before the pool could wait for them."""
    code = SCRIPT.format(kind="spawn", folder=str(tmp_path), sleep_s=600, n=9, executor="make()", end="pass")
    with closing(Kernel()) as kernel:
        said = kernel.run(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}")
        assert "When this kernel ends" in said
        assert ENDED in said
        until(lambda: len(pids(tmp_path)) == 2, "both workers run")
        kernel.until_gone(lambda: kernel.manager.shutdown_kernel(now=False))
    until(lambda: all(is_gone(pid) for pid in pids(tmp_path)), "the workers have ended")
    assert nbrun.load_results(tmp_path / "r").empty


@pytest.mark.parametrize("kind", [kind_param(kind) for kind in FAR])
def test_no_worker_outlives_a_killed_kernel(kind: str, tmp_path: Path) -> None:
    with launch(tmp_path, kind, sleep_s=0.05, n=5000, end=WAIT) as process:
        until(lambda: len(pids(tmp_path)) == 2, "both workers run")
        until(lambda: (tmp_path / "r").exists() and len(nbrun.load_results(tmp_path / "r")) > 3, "some are saved")
        process.kill()
        process.communicate(timeout=60)
    until(lambda: all(is_gone(pid) for pid in pids(tmp_path)), "the workers have ended")
    frame = nbrun.load_results(tmp_path / "r")
    assert frame["n"].is_unique
