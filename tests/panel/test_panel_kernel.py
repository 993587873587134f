"""A real kernel without a browser: which comm messages it sends, and that clicks reach the run."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

HERE = Path(__file__).parent


class Kernel:
    """What a front end does, and all messages that it saw."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client
        self.seen: list[dict[str, Any]] = []
        self.looked_at = 0  # how many of them `until` has looked at

    def run(self, code: str) -> str:
        """Runs a cell; what it printed."""
        asked = self.client.execute(code)
        printed = ""
        while True:
            message = self.next()
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                printed += content["text"]
            elif message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed

    def next(self, timeout: float = 20) -> dict[str, Any]:
        message = self.client.get_iopub_msg(timeout=timeout)
        self.seen.append(message)
        return message

    def until(self, wanted: Any) -> dict[str, Any]:
        """The next message that is as wanted, of those not looked at yet."""
        while True:
            if self.looked_at == len(self.seen):
                self.next()
            self.looked_at += 1
            if wanted(self.seen[self.looked_at - 1]):
                return self.seen[self.looked_at - 1]

    def quiet_for(self, seconds: float) -> list[dict[str, Any]]:
        """Return the messages of the next `seconds` seconds: the time is what is tested."""
        end, came = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            try:
                came.append(self.next(left))
            except queue.Empty:
                break
        self.looked_at = len(self.seen)
        return came

    def say(self, content: dict[str, Any], subshell: str | None = None) -> None:
        """Sends what a view sends."""
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": self.panel_id, "data": data})
        message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)

    @property
    def panel_id(self) -> str:
        opened = [m for m in self.seen if m["msg_type"] == "comm_open" and "_esm" in m["content"]["data"]["state"]]
        return str(opened[-1]["content"]["comm_id"])


def custom(message: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a comm message for the view; {} if it is for something else."""
    if message["msg_type"] != "comm_msg" or message["content"]["data"].get("method") != "custom":
        return {}
    content: dict[str, Any] = message["content"]["data"]["content"]
    return content


@pytest.fixture(scope="module")
def one_kernel() -> Iterator[BlockingKernelClient]:
    paths = os.pathsep.join([str(HERE.parent.parent), str(HERE)])
    manager, client = start_new_kernel(env=os.environ | {"PYTHONPATH": paths})
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


JOIN = """import threading
for t in threading.enumerate():
    if t.name == 'nbrun-panel': t.join(60)
assert not [t for t in threading.enumerate() if t.name == 'nbrun-panel']
"""


@pytest.fixture
def kernel(one_kernel: BlockingKernelClient) -> Iterator[Kernel]:
    kernel = Kernel(one_kernel)
    kernel.run("from fake_run import FakeRun, samples\nfrom nbrun.model import State\nimport nbrun.panel")
    yield kernel
    kernel.run("run.stop()\n" + JOIN)


def show(kernel: Kernel, n: int = 200) -> None:
    kernel.run(f"run = FakeRun(samples({n})); panel = nbrun.panel.show(run)")
    kernel.until(lambda m: custom(m).get("kind") == "delta")


def test_creation_is_few_messages_and_then_nothing(kernel: Kernel) -> None:
    show(kernel, 10_000)
    came = [m for m in kernel.seen if m["msg_type"].startswith(("comm", "display", "update"))]
    assert len(came) <= 12
    assert sum(len(b) for m in came for b in m["buffers"]) < 300_000
    kernel.run("run.pause()")
    kernel.until(lambda m: custom(m).get("head", {}).get("state") == "paused")
    assert kernel.quiet_for(1.5) == []


def test_shown_twice_is_no_more_traffic_and_the_cell_run_again_is_the_same_panel(kernel: Kernel) -> None:
    show(kernel)
    first = kernel.panel_id
    assert kernel.run("again = nbrun.panel.show(run); print(again is panel)") == "True\n"
    displayed = [m["content"]["data"] for m in kernel.seen if m["msg_type"] == "display_data"]
    views = [d["application/vnd.jupyter.widget-view+json"]["model_id"] for d in displayed if "text/html" not in d]
    assert views == [first, first]
    kernel.quiet_for(0.5)
    kernel.run("run.end(3, 'Accepted')")
    assert custom(kernel.until(custom))["kind"] == "delta"
    assert [m for m in kernel.quiet_for(0.7) if custom(m) and not custom(m)["head"].keys() <= {"rate", "eta"}] == []
    assert kernel.run("import threading; print(sum(t.name == 'nbrun-panel' for t in threading.enumerate()))") == "1\n"


def test_at_most_five_updates_a_second_however_fast_tasks_end(kernel: Kernel) -> None:
    kernel.run("from fake_run import Driver; run = FakeRun(samples(10_000)); panel = nbrun.panel.show(run)")
    kernel.run("driver = Driver(run, ends_per_s=5000, spread=False).start()")
    kernel.until(custom)
    came = [m for m in kernel.quiet_for(2) if custom(m)]
    kernel.run("run.stop()")
    kernel.until(lambda m: custom(m).get("head", {}).get("state") == "stopped")
    assert 3 <= len(came) <= 11


def test_a_view_that_says_hello_gets_everything(kernel: Kernel) -> None:
    show(kernel)
    kernel.say({"kind": "hello", "seq": 0})
    assert custom(kernel.until(lambda m: custom(m).get("kind") == "all"))["head"]["state"] == "running"
    kernel.say({"kind": "ping"})
    assert custom(kernel.until(lambda m: custom(m).get("kind") == "pong"))["seq"] >= 1


def test_clicks_reach_the_run_and_are_answered(kernel: Kernel) -> None:
    show(kernel)
    clicks = [
        {"kind": "pause"},
        {"kind": "resume"},
        {"kind": "workers", "n": 3},
        {"kind": "retry_errors"},
        {"kind": "stop", "drain": False},
    ]
    for number, click in enumerate(clicks):
        kernel.say(click | {"id": f"c{number}"})
        answer = custom(kernel.until(lambda m: custom(m).get("kind") == "answer"))
        assert answer["id"] == f"c{number}"
        assert not answer.get("failed")
    assert (
        kernel.run("print(run.calls)")
        == str(["pause", "resume", ("workers", 3), "retry_errors", ("stop", False)]) + "\n"
    )


def test_a_click_sent_to_a_subshell_is_served_while_a_cell_runs(kernel: Kernel) -> None:
    request = kernel.client.session.msg("create_subshell_request")
    kernel.client.control_channel.send(request)
    try:
        subshell = kernel.client.get_control_msg(timeout=60)["content"]["subshell_id"]
    except queue.Empty:
        pytest.skip("this ipykernel is older than 7: it serves no clicks before the cell ends")
    show(kernel)
    kernel.client.execute(
        "import threading; held = threading.Event(); print('too late') if not held.wait(60) else None"
    )
    kernel.say({"kind": "pause", "id": "p"}, subshell)
    kernel.until(lambda m: custom(m).get("id") == "p")
    kernel.until(lambda m: custom(m).get("head", {}).get("state") == "paused")
    kernel.say({"kind": "resume", "id": "r"}, subshell)  # the updater has written from its thread since
    kernel.until(lambda m: custom(m).get("id") == "r")
    release = kernel.client.session.msg("execute_request", {"code": "held.set()", "silent": False})
    release["header"]["subshell_id"] = subshell
    kernel.client.shell_channel.send(release)
    kernel.run("pass")
    assert not [m for m in kernel.seen if m["msg_type"] == "stream"]


def test_samples_that_were_not_read_yet_are_found_beside_the_kernels_main_thread(kernel: Kernel) -> None:
    kernel.run("run = FakeRun(samples(5)); run.unread = [f'later/{n}' for n in range(1000)]")
    kernel.run("panel = nbrun.panel.show(run)")
    kernel.until(lambda m: custom(m).get("kind") == "delta")
    kernel.say({"kind": "find", "text": "later/99", "id": "f"})
    answer = custom(kernel.until(lambda m: custom(m).get("id") == "f"))
    assert (answer["ids"][:2], answer["more"]) == (["later/99", "later/990"], 0)
    kernel.say({"kind": "find", "text": "later", "id": "g"})
    answer = custom(kernel.until(lambda m: custom(m).get("id") == "g"))
    assert (len(answer["ids"]), answer["more"]) == (50, 950)


def test_a_click_that_is_sent_again_is_done_once(kernel: Kernel) -> None:
    show(kernel)
    for click in ("a", "a", "b"):
        kernel.say({"kind": "retry_errors", "id": click})
    kernel.until(lambda m: custom(m).get("id") == "b")
    assert kernel.run("print(run.calls)") == "['retry_errors', 'retry_errors']\n"


def test_what_the_run_refuses_is_said_to_the_view_and_printed_nowhere(kernel: Kernel) -> None:
    show(kernel)
    kernel.say({"kind": "workers", "n": 5000, "id": "w"})
    answer = custom(kernel.until(lambda m: custom(m).get("kind") == "answer"))
    assert answer["failed"]
    assert "workers must be at most 1000" in answer["text"]
    kernel.say({"kind": "nonsense", "id": "x"})
    assert custom(kernel.until(lambda m: custom(m).get("kind") == "answer"))["failed"]
    kernel.run("run.stop()")
    assert [m for m in kernel.seen if m["msg_type"] in ("stream", "error")] == []


def test_the_static_form_is_beside_the_widget_and_shows_the_end(kernel: Kernel) -> None:
    show(kernel)
    (beside,) = [m["content"] for m in kernel.seen if "text/html" in m["content"].get("data", {})]
    display_id = beside["transient"]["display_id"]
    assert f"nbrun-static-{display_id}" in beside["data"]["text/html"]
    kernel.run("run.end(0, 'Accepted'); run.state = State.DONE")
    last = kernel.until(lambda m: m["msg_type"] == "update_display_data")["content"]
    assert last["transient"]["display_id"] == display_id
    assert "Done: 1 of" in last["data"]["text/html"]
    assert "Done: 1 of" in last["data"]["text/plain"]
    kernel.run(JOIN)
    kernel.run("run.state = State.RUNNING; panel.wake()")
    kernel.until(lambda m: custom(m).get("head", {}).get("state") == "running")


@pytest.mark.parametrize("cell", ["await held", "held.wait()"])
def test_the_stop_button_ends_the_waiting_with_one_line_and_the_run_goes_on(kernel: Kernel, cell: str) -> None:
    kernel.run("run = FakeRun()")  # what the fixture stops
    kernel.run(
        "import os, tempfile, threading, nbrun; done = threading.Event()\n"
        "held = nbrun.start([{'id': 1, 'solutions': [1]}], lambda task: done.wait(60), tempfile.mkdtemp(), view=None)"
    )
    pid = int(kernel.run("print(os.getpid())"))
    asked = kernel.client.execute(f"print('waits', flush=True); {cell}")
    kernel.until(lambda m: m["msg_type"] == "stream" and "waits" in m["content"]["text"])
    kernel.quiet_for(0.3)  # the cell is in its wait
    os.kill(pid, signal.SIGINT)
    error = kernel.until(lambda m: m["msg_type"] == "error" and m["parent_header"].get("msg_id") == asked)["content"]
    assert error["traceback"] == ["Stopped waiting; the run goes on (run.stop() ends it)."]
    kernel.until(lambda m: m["content"].get("execution_state") == "idle" and m["parent_header"].get("msg_id") == asked)
    assert kernel.run("print(held.progress.state); done.set(); print(held.wait().done)") == "running\n1\n"


def test_an_opened_sample_is_read_beside_the_kernels_main_thread(kernel: Kernel) -> None:
    kernel.run(
        "import threading; from nbrun.model import TaskSummary; run = FakeRun(samples(5)); read_in = []\n"
        "def tasks(sample_id):\n"
        "    read_in.append(threading.current_thread().name)\n"
        "    if sample_id != 'Codeforces/1/C': raise ZeroDivisionError\n"
        "    return [TaskSummary('solution', 0, 'done', 'Accepted', 0.5, 1, 'CPP')]\n"
        "run.tasks = tasks; panel = nbrun.panel.show(run)"
    )
    kernel.until(lambda m: custom(m).get("kind") == "delta")
    kernel.say({"kind": "sample", "sample": 2, "id": "s"})
    answer = kernel.until(lambda m: custom(m).get("id") == "s")
    assert custom(answer)["names"] == {"group": ["solution"], "verdict": ["Accepted"], "language": ["CPP"]}
    assert sum(map(len, answer["buffers"])) > 0
    kernel.say({"kind": "sample", "sample": 3, "id": "t"})
    assert "ZeroDivisionError" in custom(kernel.until(lambda m: custom(m).get("id") == "t"))["text"]
    kernel.say({"kind": "task", "sample": 2, "group": "solution", "index": 0, "id": "u"})
    assert custom(kernel.until(lambda m: custom(m).get("id") == "u"))["texts"] == [
        ["", "Nothing is saved of this task yet."]
    ]
    assert kernel.run("print(set(read_in))") == "{'nbrun-panel-reader'}\n"


def test_a_kernel_that_ends_before_its_run_says_so_where_it_was_started(tmp_path: Path) -> None:
    """`jupyter execute`, papermill and nbmake end with success then; only what the kernel writes there shows it."""
    with open(tmp_path / "stderr", "w+") as stderr:
        manager, client = start_new_kernel(stderr=stderr, cwd=str(tmp_path))
        try:
            Kernel(client).run(
                "import nbrun, threading\n"
                "run = nbrun.start(range(40), lambda task: threading.Event().wait(0.5), 'results', workers=2)"
            )
        finally:
            client.stop_channels()
            manager.shutdown_kernel()
        stderr.seek(0)
        said = stderr.read()
    assert "the interpreter ends while the run on" in said
    assert "of 40 tasks" in said
