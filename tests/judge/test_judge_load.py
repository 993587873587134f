"""Programs beside one another: how many run at once, which verdicts are believed, and tests that run ahead."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from judge_helpers import SUM_CPP, SUM_PY, limiter_of, supervisor_of, task

from nbrun.errors import JudgeError
from nbrun.judge import LocalSandbox
from nbrun.judge.sandbox import ConcurrencyLimiter
from nbrun.judge.supervisor.processes import descendants, run_delay_s
from tests.waiting import until

ONE = {"id": "one", "tests": [{"input": "1 2\n", "output": "3\n"}]}
#: Notes in a folder how often it ran; what follows sees that as `n`.
COUNT = """
import os, time
path = {folder!r}
n = len(os.listdir(path))
open(os.path.join(path, str(n)), "w").close()
"""


@pytest.fixture
def plain(request: pytest.FixtureRequest) -> Iterator[LocalSandbox]:
    """A sandbox on a machine with two CPUs. It isolates no program, so that programs see each other's files.

    Its time limit is a second, or the fixture's parameter.
    """
    sandbox = LocalSandbox(time_limit_s=getattr(request, "param", 1), isolation="none")
    limiter_of(sandbox, n_cores=2)
    yield sandbox
    sandbox.close()


def counting(folder: Path, source: str) -> str:
    folder.mkdir(exist_ok=True)
    return COUNT.format(folder=str(folder)) + source


def beside_another(sandbox: LocalSandbox, runs: Path, source: str) -> Any:
    """Judge a program that counts its runs, the first of them beside a program that ends when it has begun."""
    source = counting(runs, source)
    beside = f"import os, time\nwhile not os.listdir({str(runs)!r}): time.sleep(0.01)\nprint(3)"
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(sandbox, task("PYTHON3", beside, ONE))
        until(lambda: limiter_of(sandbox).free_for(None) == 1)
        result = sandbox(task("PYTHON3", source, ONE))
        assert other.result()["verdict"] == "Accepted"
    return result


def test_a_time_limit_that_was_exceeded_beside_others_is_tried_again_alone(plain: LocalSandbox, tmp_path: Path) -> None:
    result = beside_another(plain, tmp_path / "runs", "if n == 0:\n    while True: pass\n" + SUM_PY)
    assert result["verdict"] == "Accepted"
    (record,) = result["tests"]
    assert record["load"] == 1
    assert [(t["cause"], t["load"]) for t in record["tries"]] == [("cpu", 2)]
    assert record["tries"][0]["cpu_s"] > 1


def test_one_that_was_alone_is_final(plain: LocalSandbox, tmp_path: Path) -> None:
    limiter_of(plain, n_cores=1000)  # whatever else this machine does
    source = counting(tmp_path / "runs", "while True: pass\n")
    result = plain(task("PYTHON3", source, ONE))
    assert result["verdict"] == "TimeLimitExceeded"
    assert "tries" not in result["tests"][0]
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_one_that_exceeds_it_alone_too_has_both_in_its_result(plain: LocalSandbox, tmp_path: Path) -> None:
    result = beside_another(plain, tmp_path / "runs", "while True: pass\n")
    assert result["verdict"] == "TimeLimitExceeded"
    assert (result["tests"][0]["load"], result["tests"][0]["tries"][0]["load"]) == (1, 2)


def test_one_that_ends_by_itself_a_little_late_runs_again_too(plain: LocalSandbox, tmp_path: Path) -> None:
    """It ends with return code 0 before its monitor looks."""
    late = "if n == 0:\n    while time.process_time() < 1.003: pass\n"
    result = beside_another(plain, tmp_path / "runs", late + SUM_PY)
    assert result["verdict"] == "Accepted"
    assert result["tests"][0]["tries"][0]["cpu_s"] > 1


BUSY = "import time\nwhile time.process_time() < {}: pass\n" + SUM_PY


def busy(monkeypatch: pytest.MonkeyPatch, sandbox: LocalSandbox, stretch: float | None) -> None:
    """A machine on which others keep all CPUs busy, and slow programs down."""
    monkeypatch.setattr(limiter_of(sandbox), "is_quiet", lambda others: False)
    monkeypatch.setattr(limiter_of(sandbox).reference, "stretch", lambda *measured: stretch)


@pytest.mark.parametrize("plain", [0.8], indirect=True)
@pytest.mark.parametrize(
    ("needs_s", "stretch", "verdict"),
    [
        (0.3, None, "Accepted"),
        (0.9, 1.6, "Accepted"),  # 0.56 s on a quiet machine
        (0.9, 1.0, "TimeLimitExceeded"),
        (9, 1.6, "TimeLimitExceeded"),  # no machine is that busy
        (9, None, "TimeLimitExceeded"),
        (0.9, None, "JudgeError"),  # never observed quiet: the verdict is open
        (0.9, 1.16, "JudgeError"),
    ],
)
def test_cpu_time_is_judged_as_on_a_quiet_machine(
    plain: LocalSandbox, monkeypatch: pytest.MonkeyPatch, needs_s: float, stretch: float | None, verdict: str
) -> None:
    busy(monkeypatch, plain, stretch)
    job = task("PYTHON3", BUSY.format(needs_s), ONE)
    if verdict == "JudgeError":
        with pytest.raises(JudgeError, match="can't be said") as caught:
            plain(job)
        assert caught.value.retriable
        return
    result = plain(job)
    assert result["verdict"] == verdict
    assert result["limits"]["time_limit_s"] == 0.8
    (record,) = result["tests"]
    assert len(record.get("tries", ())) == (0 if needs_s < 0.8 else 2)
    assert record.get("stretch") == (1.6 if (needs_s, stretch) == (0.9, 1.6) else None)


@pytest.mark.parametrize("plain", [0.5], indirect=True)
def test_one_that_was_stopped_from_outside_runs_again(plain: LocalSandbox, tmp_path: Path) -> None:
    """SIGSTOP, and no more than that: it never goes on, and its wall time ends."""
    source = counting(tmp_path / "runs", "import signal\nif n == 0: os.kill(os.getpid(), signal.SIGSTOP)\n" + SUM_PY)
    result = plain(task("PYTHON3", source, ONE))
    assert result["verdict"] == "Accepted"
    assert [t["cause"] for t in result["tests"][0]["tries"]] == ["wall"]


@pytest.mark.parametrize("plain", [0.5], indirect=True)
def test_time_in_which_the_machine_was_frozen_does_not_count(plain: LocalSandbox, tmp_path: Path) -> None:
    """The monitor and the program are stopped together, as when a container is frozen or a laptop sleeps."""
    go = tmp_path / "go"
    source = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\n{SUM_PY}"
    with ThreadPoolExecutor(1) as pool:
        plain(task("PYTHON3", SUM_PY, ONE))
        supervisor = supervisor_of(plain)
        future = pool.submit(plain, task("PYTHON3", source, ONE))
        until(lambda: len(descendants(supervisor)) == 2)
        stopped = descendants(supervisor)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(2.5)  # longer than its wall time of 2 s
        go.touch()
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
        result = future.result()
    assert result["verdict"] == "Accepted"
    assert "tries" not in result["tests"][0]


@pytest.mark.parametrize("number", [9, 15])
def test_a_death_by_a_signal_from_outside_is_believed_when_it_comes_again(
    plain: LocalSandbox, tmp_path: Path, number: int
) -> None:
    once = counting(tmp_path / "once", f"if n == 0: os.kill(os.getpid(), {number})\n" + SUM_PY)
    result = plain(task("PYTHON3", once, ONE))
    assert result["verdict"] == "Accepted"
    assert len(result["tests"][0]["tries"]) == 1
    always = counting(tmp_path / "always", f"os.kill(os.getpid(), {number})\n")
    assert plain(task("PYTHON3", always, ONE))["verdict"] == "RuntimeError"
    assert len(list((tmp_path / "always").iterdir())) == 2


@pytest.mark.parametrize("plain", [20], indirect=True)
def test_tests_run_ahead_where_cpus_idle_and_stay_in_order(plain: LocalSandbox, tmp_path: Path) -> None:
    limiter_of(plain, n_cores=4)
    source = (
        f"import os, time\nat = {str(tmp_path)!r}\nn = int(input())\nopen(f'{{at}}/{{n}}', 'w').close()\n"
        "while n % 2 and not os.path.exists(f'{at}/{n + 1}'): time.sleep(0.01)\nprint(n)"
    )  # an odd test ends only once the next one runs too
    problem = {"id": "p", "tests": [{"input": str(n), "output": str(n)} for n in range(5)]}
    result = plain(task("PYTHON3", source, problem))
    assert result["verdict"] == "Accepted"
    assert [t["test_info"]["output"]["stdout"] for t in result["tests"]] == list("01234")
    assert max(t["load"] for t in result["tests"]) > 1


def test_what_ran_ahead_of_a_failing_test_is_not_in_the_result(plain: LocalSandbox) -> None:
    limiter = limiter_of(plain, n_cores=8)
    problem = {"id": "p", "tests": [{"input": str(n), "output": str(min(n, 2))} for n in range(6)]}
    result = plain(task("PYTHON3", "print(input())", problem))
    assert [t["passed"] for t in result["tests"]] == [True, True, True, False]
    assert result["tests_total"] == 6
    assert limiter.free_for(None) == 8, "those have ended"


@pytest.mark.needs("g++")
def test_never_more_at_once_than_was_asked_for() -> None:
    sandbox = LocalSandbox(time_limit_s=5, max_parallel=1)
    problem = {"id": "p", "tests": [{"input": "1 2\n", "output": "3\n"}] * 3}
    try:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(sandbox, [task("CPP", SUM_CPP, problem)] * 8))
    finally:
        sandbox.close()
    assert {t["load"] for r in results for t in r["tests"]} == {1}


#: Its first thread only waits for the one that works, as in a virtual machine.
WORKS_IN_A_THREAD = """
import threading
def work():
    while True: pass
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def first_threads_delay_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="pins programs to a CPU, and reads /proc")
def test_time_without_a_cpu_counts_for_all_threads_of_a_program() -> None:
    """A program gets more wall time by this, so that a busy machine is not taken for a program that sleeps."""
    pinned = f"import os\nos.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])\n"
    commands = ([sys.executable, "-c", pinned + source] for source in (WORKS_IN_A_THREAD, "while True: pass"))
    programs = [subprocess.Popen(command) for command in commands]
    try:
        until(lambda: run_delay_s(programs[0].pid) > 0.2 + first_threads_delay_s(programs[0].pid))
    finally:
        for program in programs:
            program.kill()
            program.wait()
    assert run_delay_s(programs[0].pid) == 0.0  # it is gone


# ---- the gate by itself


def test_one_that_is_to_be_alone_waits_and_holds_the_others_back() -> None:
    gate, order = ConcurrencyLimiter(None, n_cores=2), []
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with gate.slot():
            inside.set()
            leave.wait(60)
            order.append("first")

    def alone() -> None:
        with gate.slot(alone=True) as slot:
            order.append("alone")
            assert slot.load == 1

    def late() -> None:
        with gate.slot():
            order.append("late")

    first = threading.Thread(target=stay)
    first.start()
    assert inside.wait(60)
    second = threading.Thread(target=alone)
    second.start()
    until(lambda: gate._alone == 1)
    third = threading.Thread(target=late)
    third.start()
    leave.set()
    for thread in (first, second, third):
        thread.join(60)
        assert not thread.is_alive()
    assert order[0] == "first"
    assert order.index("alone") < order.index("late")
    assert gate.free_for(None) == 2


def test_waiting_ends_when_the_task_is_cancelled() -> None:
    gate = ConcurrencyLimiter(1, n_cores=2)

    def cancelled() -> None:
        raise JudgeError("cancelled")

    with gate.slot():
        for alone in (False, True):
            with pytest.raises(JudgeError), gate.slot(alone, cancelled):
                pass
    with gate.slot(alone=True):
        pass
    assert gate.free_for(None) == 1


def test_required_isolation_is_refused_where_it_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbrun.errors import InputError

    real: Any = shutil.which
    hidden = {"bwrap"}
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name in hidden else real(name, **more))
    with pytest.raises(InputError, match="isolation='required', but it does not work here: bubblewrap isn't installed"):
        LocalSandbox(isolation="required")
    with pytest.warns(UserWarning, match="not isolated.*apt install bubblewrap"):
        sandbox = LocalSandbox()
    assert sandbox(task("PYTHON3", SUM_PY, ONE))["isolation"] == "none"
    sandbox.close()


#: As on macOS, which has no /proc: the process that runs programs sees none of them.
BLIND = (
    "import sys; sys.path.append(sys.argv[1]); from supervisor import processes; processes.children = lambda pid: []; "
    "processes.usage = lambda pid: processes.Usage(is_dead=True); sys.platform = 'darwin'; "
    "from supervisor.monitor import serve; serve({fd}, {root!r}, {parent})"
)


@pytest.mark.parametrize(
    ("source", "limit_s", "verdict"),
    [
        ("import time; time.sleep(60)", 0.1, "TimeLimitExceeded"),
        (SUM_PY, 20, "Accepted"),
        ("raise SystemExit(3)", 20, "RuntimeError"),
    ],
)
def test_without_proc_a_program_is_judged_by_its_wall_time(
    monkeypatch: pytest.MonkeyPatch, source: str, limit_s: float, verdict: str
) -> None:
    monkeypatch.setattr("nbrun.judge.sandbox._START", BLIND)
    with closing(LocalSandbox(time_limit_s=limit_s, isolation="none")) as sandbox:
        result = sandbox(task("PYTHON3", source, ONE))
    assert result["verdict"] == verdict
    assert result["tests"][0]["exec_info"]["run_result"]["execution_time"] < 20
