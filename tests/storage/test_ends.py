"""Every way a process ends with tasks in flight: it ends at once, no child survives, and what was done is saved.

Real processes and a real Jupyter kernel. Tasks in flight would take 1000 s; ENDS_S bounds every end on a quiet machine.
"""

import signal
import subprocess
import sys

import psutil
import pytest
from jupyter_client.manager import KernelManager

import nbrun
from nbrun.tuning import TUNING
from tests.waiting import DEADLINE_S, within

ENDS_S = 5.0
ABANDON_QUICKLY = "from nbrun.tuning import TUNING; TUNING.abandon_after_s = 0.5\n"
QUICK, LONG = 40, 8
JOB = """
import os, signal, sys, threading, time, nbrun
for number in (signal.SIGHUP, signal.SIGTERM):  # what the tests were started under may ignore them, and hands that down
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
endless = {endless}
def fn(task):
    if task.index >= {quick} and endless:
        in_flight(task)
        threading.Event().wait(1000)
    os.write(log, f"{{task.sample_id}} {{task.index}}\\n".encode())
    return {{"n": task.index}}
def in_flight(task): pass
samples = [{{"id": "s", "solutions": list(range({quick} + {long}))}}]
def start(samples=samples): return nbrun.start(samples, fn, {path!r}, groups=["solution"], workers={long}, view=None)
def ready(run):
    while run.progress.saved < {quick} or run.progress.running < {long}: time.sleep(0.005)
    print("ready", flush=True)
"""
SCRIPT_ENDS = {
    "the script ends": "ready(start())",
    "sys.exit": "ready(start()); sys.exit(3)",
    "an exception": "ready(start()); raise ValueError('the user made a mistake')",
    "SIGINT in wait": "run = start(); ready(run); run.wait()",
    "SIGTERM in wait": "run = start(); ready(run); run.wait()",
    "SIGHUP in wait": "run = start(); ready(run); run.wait()",
    "SIGTERM turned into sys.exit": (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); run = start(); ready(run); run.wait()"
    ),
    "os._exit in a task": (
        "def in_flight(task):\n    while not os.path.exists({path!r} + '.go'): time.sleep(0.005)\n    os._exit(5)\n"
        "run = start(); ready(run); run.wait()"
    ),
    "stop at once": (
        f"{ABANDON_QUICKLY}run = start(); ready(run); run.stop(drain=False); run.wait(); print(run.progress.state)"
    ),
    "a context manager and an exception": (
        f"{ABANDON_QUICKLY}with start() as run:\n    ready(run)\n    raise ValueError('a mistake')"
    ),
}


def job(tmp_path, endless=True, quick=QUICK, long=LONG):
    return JOB.format(
        log=str(tmp_path / "log"), path=str(tmp_path / "r"), endless=endless, quick=quick, long=long
    )  # fmt: skip


def saved(tmp_path):
    df = nbrun.load_results(tmp_path / "r")
    assert df["index"].is_unique
    return sorted(df["index"].astype(int))


def check_resume(tmp_path):
    """What was done is there and is not done again; what was in flight is."""
    assert saved(tmp_path) == list(range(QUICK))
    (tmp_path / "log").unlink()
    again = subprocess.run(
        [sys.executable, "-c", job(tmp_path, endless=False) + "print(start().wait().done)"],
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert again.stdout.split() == [str(QUICK + LONG)], again.stderr
    ran = sorted(int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines())
    assert ran == list(range(QUICK, QUICK + LONG))


@pytest.mark.parametrize("name", SCRIPT_ENDS)
def test_a_script(name, tmp_path):
    code = job(tmp_path) + SCRIPT_ENDS[name].replace("{path!r}", repr(str(tmp_path / "r")))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    (tmp_path / "r.go").touch()
    if name.startswith("SIG"):
        process.send_signal(getattr(signal, name.split()[0]))
    out, err = within(ENDS_S, lambda: process.communicate(timeout=DEADLINE_S))
    if name in ("the script ends", "sys.exit", "an exception"):
        assert "run.wait()" in err, "a forgotten wait() is reported"
    if name.startswith("os._exit"):
        assert process.returncode == 5
    if name == "stop at once":
        assert out.strip() == "stopped"
    check_resume(tmp_path)


def test_a_stop_at_once_waits_five_seconds_for_tasks_to_notice():
    assert TUNING.abandon_after_s == 5.0


def test_an_iterator_that_raises(tmp_path):
    """What was read before is run and saved, the error is shown, the resume works."""
    code = job(tmp_path, endless=False) + (
        "def stream():\n    yield samples[0]\n    raise OSError('the dataset is gone')\n"
        "run = start(stream())\ntry:\n    run.wait()\nexcept nbrun.errors.RunHaltedError as e:\n    print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert "the dataset is gone" in done.stdout
    assert saved(tmp_path) == list(range(QUICK + LONG))


class Kernel:
    """A real kernel, and what a notebook does with it."""

    def __init__(self):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.connect()

    def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=DEADLINE_S)
        self.process = psutil.Process(self.manager.provisioner.pid)

    def run(self, code):
        """A cell's printed text; its exception as `name: value`."""
        text = []

        def hook(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                text.append(content["text"])
            elif message["msg_type"] == "error":
                text.append(f"{content['ename']}: {content['evalue']}\n")

        reply = self.client.execute_interactive(code, timeout=DEADLINE_S, output_hook=hook)
        while reply["content"]["status"] == "aborted":  # a kernel drops what arrives right after an exception
            reply = self.client.execute_interactive(code, timeout=DEADLINE_S, output_hook=hook)
        return "".join(text)

    def send(self, code):
        return self.client.execute(code)

    def reply(self, message_id):
        """The answer to what was sent."""
        while True:
            message = self.client.get_shell_msg(timeout=DEADLINE_S)
            if message["parent_header"].get("msg_id") == message_id:
                return message["content"]

    def until_gone(self, end):
        """End it. Return once its process and all of its children are gone, which may not take long."""
        processes = [self.process, *self.process.children(recursive=True)]

        def wait():
            end()
            _, alive = psutil.wait_procs(processes, timeout=DEADLINE_S)
            assert not alive, alive

        within(ENDS_S, wait)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.close()


SANDBOX = """
from nbrun.judge import LocalSandbox
problem = {"id": "p", "time_limit": 1000, "solutions": {"language": [3, 3], "solution": ["while True: pass"] * 2},
           "private_tests": {"input": [""], "output": [""]}}
judged = nbrun.start([problem], LocalSandbox(time_limit_s=1000), RESULTS, workers=2, view=None)
while judged.progress.running < 2: time.sleep(0.01)
"""


def test_a_kernel_is_shut_down_with_768_requests_in_flight(kernel, tmp_path):
    """And with programs in the sandbox: none of them outlives it."""
    assert kernel.run(job(tmp_path, long=768) + "run = start(); ready(run)") == "ready\n"
    kernel.run(SANDBOX.replace("RESULTS", repr(str(tmp_path / "judged"))))
    kernel.until_gone(lambda: kernel.client.shutdown(restart=False))
    assert saved(tmp_path) == list(range(QUICK))


def test_a_kernel_is_interrupted_and_restarted(kernel, tmp_path):
    """The stop button ends the waiting, the run goes on; after a restart the same cell goes on with what is missing."""
    kernel.run(job(tmp_path))
    assert kernel.run("run = start(); ready(run)") == "ready\n"
    cell = kernel.send("print('waits', flush=True); run.wait()")
    while kernel.client.get_iopub_msg(timeout=DEADLINE_S)["content"].get("text") != "waits\n":
        pass
    kernel.manager.interrupt_kernel()
    assert kernel.reply(cell)["ename"] in ("KeyboardInterrupt", "StoppedWaiting")  # the latter is one
    state = kernel.run("print(run.progress.state, run.progress.running)")
    assert f"running {LONG}" in state
    kernel.manager.restart_kernel(now=False)
    kernel.client.stop_channels()
    kernel.connect()
    assert saved(tmp_path) == list(range(QUICK))
    (tmp_path / "log").unlink()
    out = kernel.run(job(tmp_path, endless=False) + "print(start().wait().done)")
    assert out.split() == [str(QUICK + LONG)]
    ran = sorted(int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines())
    assert ran == list(range(QUICK, QUICK + LONG))


def test_a_kernel_is_killed(kernel, tmp_path):
    assert kernel.run(job(tmp_path) + "run = start(); ready(run)") == "ready\n"
    kernel.run(SANDBOX.replace("RESULTS", repr(str(tmp_path / "judged"))))
    kernel.until_gone(lambda: kernel.manager.shutdown_kernel(now=True))
    check_resume(tmp_path)
