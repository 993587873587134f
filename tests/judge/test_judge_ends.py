"""Whatever ends (a task, a run, a sandbox, the whole kernel), its programs end with it and nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from judge_helpers import (
    MODES,
    SUM,
    SUM_CPP,
    SUM_PY,
    has_own_boxes,
    is_isolated,
    processes_of,
    root_of,
    running,
    supervisor_of,
    task,
)

from nbrun.errors import JudgeError
from nbrun.judge import LocalSandbox
from nbrun.judge.sandbox import CancelToken
from nbrun.model import Task
from tests.waiting import patience, until

#: A program of four processes, one of which has left its session and its parent, and which ignore polite signals.
FAMILY = """
import os, signal, time
for s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(600)
    os._exit(0)
os.fork()
os.fork()
time.sleep(600)
"""

KERNEL = """
import sys, threading
sys.path.insert(0, HERE)
from judge_helpers import root_of
from nbrun.judge import LocalSandbox
from nbrun.model import Task
sandbox = LocalSandbox(time_limit_s=300, isolation=sys.argv[2])
problem = {"id": "p", "tests": [{"input": "", "output": ""}]}
def judge(language, source):
    sandbox(Task("p", "solution", 0, {"language": language, "solution": source}, problem))
sources = [("PYTHON3", sys.argv[1]), ("PYTHON3", "while True: pass"), ("CPP", "int main() { for (;;) {} }")]
judge("PYTHON3", "")
print(root_of(sandbox), flush=True)
for each in sources:
    threading.Thread(target=judge, args=each, daemon=True).start()
threading.Event().wait()
""".replace("HERE", repr(str(Path(__file__).parent)))


def judging(sandbox: LocalSandbox, job: Task) -> tuple[threading.Thread, list[BaseException]]:
    """Judges in a thread; the list gets what the call raises."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            sandbox(job)
        except BaseException as e:
            raised.append(e)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, raised


def idle_root(sandbox: LocalSandbox) -> Path:
    """Return the sandbox's folder once the monitors of earlier programs have ended and its supervisor alone is left."""
    root = root_of(sandbox)
    until(lambda: len(processes_of(root)) == 1)
    return root


def zombies() -> list[int]:
    """Return the descendants of this process that have ended and that their parents haven't waited for."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            pass
    return found


@pytest.mark.parametrize("mode", MODES)
def test_cancel_ends_the_whole_family_and_no_other(mode: str) -> None:
    with closing(LocalSandbox(time_limit_s=300, isolation=mode)) as sandbox:
        assert sandbox(task("PYTHON3", SUM_PY))["accepted"]
        root = idle_root(sandbox)
        job, other = task("PYTHON3", FAMILY), task("PYTHON3", "import time; time.sleep(600)")
        thread, raised = judging(sandbox, job)
        bystander, _ = judging(sandbox, other)
        # With its monitor, and the first process of its box; bubblewrap has one more.
        is_boxed = is_isolated(sandbox)
        alone = 1 + 1 + is_boxed + (is_boxed and not has_own_boxes(sandbox))
        until(lambda: len(processes_of(root)) >= 1 + alone + alone + 4)
        sandbox.cancel(job)
        thread.join(patience(2))
        assert not thread.is_alive()
        assert isinstance(raised[0], JudgeError)
        until(lambda: len(processes_of(root)) <= 1 + alone, promised_s=2)
        assert bystander.is_alive()
        sandbox.cancel(other)
        bystander.join(patience(2))
        sandbox.cancel(job)  # long gone: nothing happens
        assert sandbox(task("PYTHON3", SUM_PY))["accepted"]


@pytest.mark.needs("g++")
def test_cancel_ends_a_compiler() -> None:
    with closing(LocalSandbox()) as sandbox:
        job = task("CPP", '#include <iostream>\n#include <regex>\nint main() { std::regex r("a"); }')  # takes seconds
        thread, raised = judging(sandbox, job)
        until(lambda: any_compiler(running(sandbox)))
        sandbox.cancel(job)
        thread.join(patience(2))
        assert isinstance(raised[0], JudgeError)
        assert not any_compiler(running(sandbox))


def any_compiler(pids: list[int]) -> bool:
    """Whether a C++ compiler proper is among these."""
    names = []
    for pid in pids:
        try:
            names.append(Path(f"/proc/{pid}/comm").read_text())
        except OSError:
            pass
    return any("cc1plus" in name or "clang" in name for name in names)


def test_close_ends_running_programs_and_a_later_call_starts_again() -> None:
    sandbox = LocalSandbox(time_limit_s=300)
    sandbox.close()  # nothing to close
    thread, raised = judging(sandbox, task("PYTHON3", FAMILY))
    until(lambda: len(running(sandbox)) >= 7)
    root = root_of(sandbox)
    sandbox.close()
    thread.join(patience(2))
    assert isinstance(raised[0], JudgeError)
    assert not root.exists()
    assert not processes_of(root)
    assert sandbox(task("PYTHON3", SUM_PY))["accepted"]
    assert root_of(sandbox) != root
    sandbox.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_supervisor_is_replaced(mode: str) -> None:
    with closing(LocalSandbox(time_limit_s=300, isolation=mode)) as sandbox:
        thread, raised = judging(sandbox, task("PYTHON3", FAMILY))
        until(lambda: len(running(sandbox)) >= 7)
        root, supervisor = root_of(sandbox), supervisor_of(sandbox)
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: supervisor not in running(sandbox), promised_s=2)
        assert sandbox(task("PYTHON3", SUM_PY))["accepted"]
        assert not root.exists()
    thread.join(patience(2))
    assert isinstance(raised[0], JudgeError)
    until(lambda: not processes_of(root), promised_s=2)


GROUP_SIGNALS = ["SIGINT", "SIGHUP", "SIGQUIT", "SIGTERM", "SIGKILL", "SIGSTOP"]


def signal_the_group(sandbox: LocalSandbox, name: str) -> None:
    """Send a signal to the supervisor's process group; one that was stopped goes on after half a second."""
    group = supervisor_of(sandbox)
    os.killpg(group, getattr(signal, name))
    if name == "SIGSTOP":
        threading.Event().wait(0.5)
        os.killpg(group, signal.SIGCONT)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", GROUP_SIGNALS)
def test_a_signal_to_the_supervisors_group_is_never_a_verdict(name: str, mode: str) -> None:
    """Its processes go on, or the solution is not judged."""
    sandbox = LocalSandbox(time_limit_s=300, isolation=mode)
    seconds = patience(2 if name in ("SIGTERM", "SIGKILL") else 0.5)  # the two end it; the others find it at work
    source = (
        f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: time.sleep(0.01)\n" + SUM_PY
    )
    try:
        assert sandbox(task("PYTHON3", SUM_PY))["accepted"]
        root = idle_root(sandbox)
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(sandbox, task("PYTHON3", source))
            until(lambda: len(processes_of(root)) >= 1 + 2)
            signal_the_group(sandbox, name)
            try:
                verdict = future.result(60)["verdict"]
            except JudgeError:
                verdict = "JudgeError"
        assert verdict == ("JudgeError" if name in ("SIGTERM", "SIGKILL") else "Accepted")
        assert sandbox(task("PYTHON3", SUM_PY))["accepted"]
    finally:
        sandbox.close()


@pytest.mark.parametrize("name", GROUP_SIGNALS)
@pytest.mark.needs("g++")
def test_a_signal_to_the_supervisors_group_is_no_compile_error(name: str) -> None:
    sandbox = LocalSandbox()
    source = "#include <iostream>\n#include <regex>\n" + SUM_CPP  # takes seconds
    try:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(sandbox, task("CPP", source))
            until(lambda: any_compiler(running(sandbox)))
            signal_the_group(sandbox, name)
            try:
                assert future.result(60)["verdict"] == "Accepted"
            except JudgeError:
                assert name in ("SIGTERM", "SIGKILL")
    finally:
        sandbox.close()


def test_a_program_that_kills_its_monitor_is_not_judged() -> None:
    with closing(LocalSandbox(time_limit_s=300, isolation="none")) as sandbox:  # in a box it would not find it
        with pytest.raises(JudgeError, match="without a report"):
            sandbox(task("PYTHON3", "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(600)"))
        until(lambda: len(running(sandbox)) == 1, promised_s=2)  # the supervisor
        assert sandbox(task("PYTHON3", SUM_PY))["accepted"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.needs("g++")
@pytest.mark.needs("bwrap")
def test_a_killed_kernel_takes_everything_along(mode: str) -> None:
    kernel = subprocess.Popen([sys.executable, "-c", KERNEL, FAMILY, mode], stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    with kernel.stdout:
        root = Path(kernel.stdout.readline().strip())
        try:
            # The supervisor, three monitors, five of the family, two busy ones.
            until(lambda: len(processes_of(root)) >= 11)
        finally:
            kernel.kill()
            kernel.wait()
        until(lambda: not processes_of(root), promised_s=2)
        until(lambda: not root.exists(), promised_s=2)


def test_an_exiting_interpreter_takes_everything_along() -> None:
    code = KERNEL.replace("threading.Event().wait()", "sys.exit()")
    done = subprocess.run([sys.executable, "-c", code, FAMILY, "auto"], capture_output=True, text=True, timeout=60)
    root = Path(done.stdout.strip())
    assert done.returncode == 0
    until(lambda: not processes_of(root) and not root.exists(), promised_s=3)


def test_the_stop_button_reaches_no_program() -> None:
    """An interrupt goes to the kernel's process group; programs, monitors and supervisor are in other sessions."""
    with closing(LocalSandbox(time_limit_s=300)) as sandbox:
        job = task("PYTHON3", FAMILY)
        thread, _ = judging(sandbox, job)
        until(lambda: len(running(sandbox)) >= 7)
        assert all(os.getpgid(pid) != os.getpgid(0) for pid in running(sandbox))
        sandbox.cancel(job)
        thread.join(patience(2))


@pytest.mark.needs("g++")
def test_two_hundred_runs_leave_nothing_behind() -> None:
    sandbox = LocalSandbox()
    jobs = [task("CPP", SUM_CPP), task("PYTHON3", SUM_PY, SUM | {"id": "q"}), task("CPP", "int main() { return 1; }")]
    try:
        for job in jobs:
            sandbox(job)
        root = root_of(sandbox)
        before = len(os.listdir("/proc/self/fd")), threading.active_count(), sorted(os.listdir(root))
        supervisor_fds = f"/proc/{supervisor_of(sandbox)}/fd"
        its = len(os.listdir(supervisor_fds))
        with ThreadPoolExecutor(4) as pool:
            verdicts = {r["verdict"] for r in pool.map(sandbox, jobs * 67)}
        assert verdicts == {"Accepted", "RuntimeError"}
        assert (len(os.listdir("/proc/self/fd")), threading.active_count(), sorted(os.listdir(root))) == before
        assert len(os.listdir(supervisor_fds)) == its
        until(lambda: not zombies(), promised_s=1)
        until(lambda: len(processes_of(root)) == 1, promised_s=1)
        gc.collect()
        assert not [thing for thing in gc.get_objects() if type(thing) is CancelToken]
    finally:
        sandbox.close()
    assert not root.exists()
