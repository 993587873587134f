"""Interactive problems: whose end decides where a solution and its validator end one right after the other."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from judge_helpers import MODES, has_own_boxes, is_isolated, is_up, processes_of, root_of, task

from nbrun.judge import KattisValidator, LocalSandbox
from tests.waiting import is_true_within, until

#: Lets the process that supervises this program sleep for a while, as a busy machine does. The helper holds no stream.
SLEEPY = """
import os, signal, sys, time
def end(code):
    sys.stdout.flush()
    above = os.getppid()
    if os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        os.setsid()
        time.sleep(0.4)
        os.kill(above, signal.SIGCONT)
        os._exit(0)
    os.kill(above, signal.SIGSTOP)
    os._exit(code)
"""
REJECTS = "print('no', flush=True)\nend(43)\n"
READS = "import sys\nwhile sys.stdin.readline(): pass\nend(43)\n"
END = "import os\nend = os._exit\n"


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sandboxes(mode: str) -> Iterator[Any]:
    made: list[LocalSandbox] = []

    def make(validator: str, **options: Any) -> LocalSandbox:
        program = {"language": "PYTHON3", "solution": validator}
        sandbox = LocalSandbox(checker=KattisValidator([program]), isolation=options.pop("isolation", mode), **options)
        made.append(sandbox)
        return sandbox

    yield make
    for sandbox in made:
        sandbox.close()


PROBLEM = {"id": "talk", "tests": [{"input": "7\n", "output": ""}], "interactive": True}


def verdict(sandbox: LocalSandbox, solution: str) -> str:
    return str(sandbox(task("PYTHON3", solution, PROBLEM))["verdict"])


def test_a_validator_that_rejects_decides_though_its_end_is_noticed_late(sandboxes: Any) -> None:
    """The solution reads the end of a file, since the validator has ended, and fails a millisecond later."""
    sandbox = sandboxes(SLEEPY + REJECTS, isolation="none")
    assert verdict(sandbox, "input()\ninput()\n") == "WrongAnswer"
    assert verdict(sandbox, "while True: print(1, flush=True)\n") == "WrongAnswer"


def test_a_solution_that_fails_by_itself_decides_though_its_end_is_noticed_late(sandboxes: Any) -> None:
    """The validator reads the end of a file, since the solution has ended, and rejects it a millisecond later."""
    sandbox = sandboxes(END + READS, isolation="none")
    assert verdict(sandbox, SLEEPY + "end(1)\n") == "RuntimeError"


def test_a_solution_that_fails_by_itself_decides_though_its_box_is_slow_to_report_it(sandboxes: Any) -> None:
    """The first process of its box isn't run for a while, as on a busy machine."""
    sandbox = sandboxes(END + READS, isolation="auto")
    if not has_own_boxes(sandbox):
        pytest.skip("its box has no first process of its own")
    waits = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.002)\nos._exit(1)\n"
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(verdict(sandbox, waits)))
    thread.start()
    until(lambda: is_up(sandbox) and len(programs(sandbox)) == 2)
    solution, validator = sorted(programs(sandbox), key=lambda program: len(program.cmdline()))
    first = solution.parent()
    assert first is not None
    first.suspend()
    try:
        for work in root_of(sandbox).glob("task-*/test*/box/work"):
            (work / "go").touch()
        until(lambda: has_ended(solution))
        assert not is_true_within(0.5, lambda: has_ended(validator)), "it saw the end before it was noticed"
    finally:
        first.resume()
    thread.join(60)
    assert found == ["RuntimeError"]


def programs(sandbox: LocalSandbox) -> list[psutil.Process]:
    """Return the solutions and validators that run now."""
    found = []
    for pid in processes_of(root_of(sandbox)):
        try:
            process = psutil.Process(pid)
            if any(word.endswith("/main.py") for word in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended, whether or not its parent knows."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_many_quick_ends_at_once_get_the_verdicts_of_single_ones(sandboxes: Any) -> None:
    rejects, reads = sandboxes(END + REJECTS, max_parallel=16), sandboxes(END + READS, max_parallel=16)
    jobs = [(rejects, "input()\ninput()\n", "WrongAnswer"), (reads, "raise SystemExit(1)\n", "RuntimeError")] * 8
    found: list[tuple[str, str]] = []
    threads = [threading.Thread(target=lambda job=job: found.append((job[2], verdict(*job[:2])))) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == len(jobs)
    assert all(due == got for due, got in found), found


def test_a_kernel_that_is_late_to_close_its_copies_of_the_pipes_changes_no_verdict(
    sandboxes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one pipe of the validator stays open here beyond the end of the other, the solution seems to fail first."""
    sandbox = sandboxes(END + REJECTS)
    close, closed = os.close, []

    def close_late(fd: int) -> None:
        if threading.current_thread().name == "nbrun-judge-validator" and stat.S_ISFIFO(os.fstat(fd).st_mode):
            closed.append(fd)
            if len(closed) == 2:
                is_true_within(1.0, lambda: len(processes_of(root_of(sandbox))) == 1)  # the supervisor alone
        close(fd)

    monkeypatch.setattr(os, "close", close_late)
    assert verdict(sandbox, "input()\ninput()\n") == "WrongAnswer"
    assert len(closed) >= 2


@pytest.mark.parametrize(
    ("rest", "due"), [("while True: pass\n", "WrongAnswer"), ("raise SystemExit(3)\n", "WrongAnswer")]
)
def test_whatever_a_solution_does_after_it_was_rejected(sandboxes: Any, rest: str, due: str) -> None:
    sandbox = sandboxes(END + REJECTS, time_limit_s=0.5)
    assert verdict(sandbox, "import sys\nwhile sys.stdin.readline(): pass\n" + rest) == due


def test_a_solution_may_end_before_it_has_read_all(sandboxes: Any) -> None:
    sandbox = sandboxes("print('x' * 300_000, flush=True)\nraise SystemExit(42)\n")
    assert verdict(sandbox, "print(1)\n") == "Accepted"
    assert verdict(sandbox, "raise SystemExit(1)\n") == "RuntimeError"


def test_a_program_that_closes_its_output_is_seen_to_end_it(sandboxes: Any) -> None:
    """Either side may read all that the other one writes before it goes on."""
    sandbox = sandboxes(READS)
    if is_isolated(sandbox) and not has_own_boxes(sandbox):
        pytest.skip("bubblewrap's own processes hold the streams of the program in it")
    asks = "import os, sys\nprint(*range(5), flush=True)\nos.close(1)\ngot = sys.stdin.read()\n"
    sandbox = sandboxes(asks + "raise SystemExit(42 if got.split() == ['10'] else 43)\n", time_limit_s=2)
    says = "import os, sys\nprint(sum(map(int, sys.stdin.read().split())), flush=True)\nos.close(1)\n"
    assert verdict(sandbox, says) == "Accepted"
    assert verdict(sandbox, says + "sys.stdin.read()\n") == "Accepted"


def test_no_descriptor_is_left(sandboxes: Any) -> None:
    sandbox = sandboxes(END + REJECTS)
    verdict(sandbox, "input()\n")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        verdict(sandbox, "input()\ninput()\n")
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_time_that_the_validator_needs_is_not_the_solutions(sandboxes: Any) -> None:
    """Twice the solution's wall limit passes before the validator asks: the solution waits, and gets that time."""
    asks = "import sys, time\nwhile time.process_time() < 2.6: pass\nprint(7, flush=True)\n"
    sandbox = sandboxes(asks + "sys.exit(42 if input() == '7' else 43)\n", time_limit_s=0.2)  # 1.4 s of wall time
    assert verdict(sandbox, "print(input())\n") == "Accepted"


def test_a_validator_that_fails_because_the_solution_was_ended_changes_no_verdict(sandboxes: Any) -> None:
    sandbox = sandboxes("import os\nprint(1, flush=True)\ninput()\nos.abort()\n", time_limit_s=0.2)
    assert verdict(sandbox, "import time\ntime.sleep(60)\n") == "TimeLimitExceeded"
