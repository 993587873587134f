"""Signals and ends of processes: the stop button, the interpreter's end and SIGKILL, with calls out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import nbrun
from tests.engine.test_crews import until

ROOT = Path(__file__).parents[2]
SCRIPT = """
import multiprocessing, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
import nbrun

def make():
    if {kind!r} == "loky":
        import loky
        return loky.ProcessPoolExecutor(2)
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({kind!r}))

def fn(task):
    open(os.path.join({folder!r}, f"pid-{{os.getpid()}}"), "w").close()
    time.sleep({sleep_s})
    return {{"n": task.item, "pid": os.getpid()}}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and hands that down
    run = nbrun.start(
        [{{"id": "s", "items": list(range({n}))}}], fn, os.path.join({folder!r}, "r"), groups=["item"], workers=2,
        executor={executor}, view=None, retry=None,
    )
    {end}
"""
WAIT = """
    while not run.has_ended:
        try:
            run.wait()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print(run.progress.done, run.progress.errors, flush=True)
"""
FAR = ("spawn", "forkserver", "loky")


def launch(
    folder: Path, kind: str, *, sleep_s: float, n: int, end: str, executor: str = "make"
) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(
        SCRIPT.format(kind=kind, folder=str(folder), sleep_s=sleep_s, n=n, end=end.strip(), executor=executor)
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        start_new_session=True,
    )  # fmt: skip


def pids(folder: Path) -> list[int]:
    return [int(p.name.removeprefix("pid-")) for p in folder.glob("pid-*")]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("kind", FAR)
def test_the_stop_button_ends_the_waiting_and_no_worker(kind: str, tmp_path: Path) -> None:
    with launch(tmp_path, kind, sleep_s=0.1, n=40, end=WAIT) as process:
        until(lambda: len(pids(tmp_path)) == 2, "both workers run")
        for _ in range(3):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        out, err = process.communicate(timeout=60)
    assert out.split()[-2:] == ["40", "0"], err
    assert "interrupted" in out
    assert "Traceback" not in err
    assert len(pids(tmp_path)) == 2


@pytest.mark.parametrize(("kind", "executor"), [*((kind, "make") for kind in FAR), ("spawn", "make()")])
def test_the_interpreter_ends_with_calls_out(kind: str, executor: str, tmp_path: Path) -> None:
    """A factory's pool is ended, whatever it runs. In a pool of the user's own, what only waits is cancelled: else the
    80 tasks of 0.3 s would run in two workers before the end."""
    sleep_s = 600.0 if executor == "make" else 0.3
    end = "while sum(name[:3] == 'pid' for name in os.listdir({folder!r})) < 2: time.sleep(0.05)"
    began = time.monotonic()
    with launch(
        tmp_path, kind, sleep_s=sleep_s, n=80, end=end.format(folder=str(tmp_path)), executor=executor
    ) as process:
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "call run.wait()" in err
    assert len(nbrun.load_results(tmp_path / "r")) < 40
    assert time.monotonic() - began < 60
    until(lambda: all(is_gone(pid) for pid in pids(tmp_path)), "the workers have ended")


@pytest.mark.parametrize("kind", FAR)
def test_no_worker_outlives_a_killed_kernel(kind: str, tmp_path: Path) -> None:
    with launch(tmp_path, kind, sleep_s=0.05, n=5000, end=WAIT) as process:
        until(lambda: len(pids(tmp_path)) == 2, "both workers run")
        until(lambda: (tmp_path / "r").exists() and len(nbrun.load_results(tmp_path / "r")) > 3, "some are saved")
        process.kill()
        process.communicate(timeout=60)
    until(lambda: all(is_gone(pid) for pid in pids(tmp_path)), "the workers have ended")
    frame = nbrun.load_results(tmp_path / "r")
    assert frame["n"].is_unique


MPI = """
import os, sys
import nbrun
from mpi4py.futures import MPIPoolExecutor

def fn(task):
    if task.item == 5 and task.attempt == 1:
        raise ValueError("not yet")
    return {"n": task.item, "pid": os.getpid()}

if __name__ == "__main__":
    samples = [{"id": f"s{i}", "items": list(range(100))} for i in range(20)]
    with MPIPoolExecutor() as executor:
        policy = nbrun.RetryPolicy(delay_s=0.01)
        run = nbrun.start(
            samples, fn, sys.argv[1], groups=["item"], workers=2, executor=executor, view=None, retry=policy
        )
        progress = run.wait(60)
    frame = nbrun.load_results(sys.argv[1])
    print(progress.state, progress.done, progress.errors, frame["pid"].nunique(), os.getpid() in set(frame["pid"]))
"""


def test_mpi(tmp_path: Path) -> None:
    """One process of three is the kernel, two are workers, as `mpi4py.futures` has it."""
    script = tmp_path / "script.py"
    script.write_text(MPI)
    mpiexec = str(Path(sys.executable).with_name("mpiexec"))
    command = [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", str(script), str(tmp_path / "r")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["done", "2000", "0", "2", "False"], done.stderr
