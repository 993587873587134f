"""mpi4py.futures: one process of three is the kernel, two are workers.

An MPI job lives and dies as one: when a process of it is killed or calls os._exit, mpiexec ends them all. What holds
then is what holds for a killed kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nbrun

pytestmark = [pytest.mark.long, pytest.mark.needs("mpi4py")]
ROOT = Path(__file__).parents[2]
#: Those that need a worker that can be killed alone are not among them.
OVER_MPI = (
    "test_backends.py",
    *(
        f"test_executor_faults.py::test_{name}"
        for name in (
            "an_interrupt_beside_fn_is_a_loss_and_no_attempt", "workers_that_say_nothing",
            "an_executor_that_is_closed_pauses_the_run", "a_result_of_50_mb",
            "the_function_travels_once_a_worker_and_equal_calls_are_different",
        )
    ),
)  # fmt: skip
JOB = """
import os, signal, sys, time
import nbrun
from mpi4py.futures import MPIPoolExecutor

def fn(task):
    fd = os.open(os.path.join(folder, "calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{task.item}\\n".encode())
    if task.item == 30 and (end == "each time" or not os.path.exists(os.path.join(folder, "mark"))):
        open(os.path.join(folder, "mark"), "w").close()
        os._exit(0) if end == "os._exit" else os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return {"n": task.item, "pid": os.getpid()}

if __name__ == "__main__":
    folder, end = sys.argv[1:]
    samples = [{"id": "s", "items": list(range(60))}]
    with MPIPoolExecutor() as executor:
        run = nbrun.start(
            samples, fn, os.path.join(folder, "r"), groups=["item"], workers=2, executor=executor, view=None, retry=None
        )
        progress = run.wait(60)
    pids = set(nbrun.load_results(os.path.join(folder, "r"))["pid"])
    print(progress.state, progress.done, progress.resumed, os.getpid() in pids)
"""


def mpiexec(*what: str | Path) -> subprocess.CompletedProcess[str]:
    launcher = Path(sys.executable).with_name("mpiexec")
    command = [launcher, "-n", "3", sys.executable, "-m", "mpi4py.futures", *what]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def test_the_same_promises() -> None:
    tests = [f"tests/engine/{name}" for name in OVER_MPI]
    done = mpiexec("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize("end", ["SIGKILL", "os._exit"])
def test_a_worker_that_ends_ends_the_job_and_a_resume_does_the_rest(end: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(JOB)
    died = mpiexec(script, tmp_path, end)
    assert not died.stdout.startswith("done")
    saved = set(nbrun.load_results(tmp_path / "r")["n"])
    assert 20 < len(saved) <= 30
    calls = (tmp_path / "calls").read_text()
    resumed = mpiexec(script, tmp_path, end)
    assert resumed.stdout.split() == ["done", "60", str(len(saved)), "False"], resumed.stderr
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(60))
    again = (tmp_path / "calls").read_text()[len(calls) :].split()
    assert {int(n) for n in again} == set(range(60)) - saved


def test_a_task_that_ends_the_job_each_time_costs_only_itself(tmp_path: Path) -> None:
    """After two ends it runs last and alone, when all others are saved; so does one that ran beside it."""
    script = tmp_path / "script.py"
    script.write_text(JOB)
    for _ in range(4):
        assert not mpiexec(script, tmp_path, "each time").stdout.startswith("done")
    assert set(nbrun.load_results(tmp_path / "r")["n"]) == set(range(60)) - {30}
    calls = (tmp_path / "calls").read_text().split()
    assert calls.count("30") == 4
    assert calls[-1] == "30"
