"""Whatever goes wrong inside, the run ends or pauses and says so; no thread is waited for that is no more."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

import nbrun
from nbrun.errors import NbrunError, RunHaltedError
from nbrun.storage import compactor, files, journal
from nbrun.storage.store import ResultStore
from tests.waiting import until

DEADLINE_S = 60


def start(samples, fn, path, **options):
    return nbrun.start(samples, fn, path, groups=["solution"], view=None, **{"retry": None, **options})


def samples(n, m):
    return [{"id": f"s{i}", "solutions": list(range(m))} for i in range(n)]


@pytest.mark.parametrize("errors", [0, 70])
def test_results_do_not_wait_for_a_long_task_of_their_batch(errors, tmp_path):
    """Tiny tasks are taken many at a time; those that ended are saved while one among them goes on."""
    gate = threading.Event()

    def fn(task):
        if task.index == 700:
            gate.wait(DEADLINE_S)
        if errors and task.index % 10 == 9:
            raise ValueError("this one fails")
        return {"n": task.index}

    run = start(samples(1, 701), fn, tmp_path / "r", workers=1)
    try:
        until(lambda: run.progress.saved == 700)
        assert (run.progress.running, run.progress.errors) == (1, errors)
        assert len(nbrun.load_results(tmp_path / "r")) == 700
    finally:
        gate.set()
    assert run.wait(DEADLINE_S).saved == 701


@pytest.mark.parametrize("broken", ["encode_batch", "acknowledge", "write_sample", "put", "record"])
def test_a_fault_of_its_own_halts_the_run(broken, tmp_path, monkeypatch):
    """A bug in any thread of nbrun: wait() raises, the directory is given up, and the next run goes on."""
    calls = []

    def breaking(real):
        def call(*args, **more):
            calls.append(1)
            if len(calls) == 3:
                raise AssertionError("a bug")
            return real(*args, **more)

        return call

    from nbrun.progress import ProgressTracker
    from nbrun.storage.sample_state import SampleState

    where = {
        "encode_batch": journal,
        "acknowledge": SampleState,
        "write_sample": compactor,
        "put": ResultStore,
        "record": ProgressTracker,
    }[broken]
    monkeypatch.setattr(where, broken, breaking(getattr(where, broken)))
    run = start(samples(20, 20), lambda task: time.sleep(0.001) or {"n": task.index}, tmp_path / "r")
    with pytest.raises(RunHaltedError, match="a bug"):
        run.wait(DEADLINE_S)
    until(lambda: run.progress.ended)
    assert run.progress.state == "halted"
    assert "a bug" in run.progress.message
    monkeypatch.undo()
    again = start(samples(20, 20), lambda task: {"n": task.index}, tmp_path / "r").wait(DEADLINE_S)
    assert (again.state, again.saved) == ("done", 400)
    assert len(nbrun.load_results(tmp_path / "r")) == 400


def test_what_can_not_be_stored_even_as_an_error(tmp_path):
    """A hint that is no JSON, a result that is none, an exception without a text: errors of these tasks alone."""

    class Silent(Exception):
        def __str__(self):
            raise ValueError("no text")

    def fn(task):
        if task.index == 1:
            raise nbrun.Retry("again", hint={"x": object()})
        if task.index == 2:
            raise Silent
        if task.index == 3:
            return nbrun.Retry("again", result=object())
        return {"n": task.index}

    samples = [{"id": "s", "solutions": [0, 1, 2, 3, 4]}]
    run = start(samples, fn, tmp_path / "r", retry=nbrun.RetryPolicy(attempts=2, delay_s=0.001))
    progress = run.wait(DEADLINE_S)
    assert (progress.state, progress.done, progress.errors) == ("done", 2, 3)
    df = nbrun.load_results(tmp_path / "r").set_index("index")
    assert "object" in df.loc[1, "error"]
    assert df.loc[4, "status"] == "done"


def test_a_name_that_is_no_text(tmp_path):
    """A file of the older program whose name is no UTF-8 is continued under it."""
    folder = tmp_path / "r"
    folder.mkdir()
    name = os.fsencode(folder) + b"/\xff\xfe.json"
    with open(name, "w") as f:
        f.write('{"id":"x","solution_result":[{"language":"PYTHON3","solution":"a","result":{"accepted":true}}]}')
    items = [{"language": "PYTHON3", "solution": s} for s in "ab"]
    progress = start([{"id": "x", "solutions": items}], lambda task: {"accepted": True}, folder).wait(DEADLINE_S)
    assert (progress.state, progress.saved) == ("done", 2)
    assert len(nbrun.load_results(folder)) == 2
    assert [n for n in os.listdir(os.fsencode(folder)) if n.endswith(b".json")] == [b"\xff\xfe.json"]


class FullDisk:
    """Refuses to take bytes into the journal from the given write on."""

    def __init__(self, after):
        self.after, self.count, self.refuses = after, 0, True

    def __call__(self, operation, path):
        if operation == "write" and "journal-" in path:
            self.count += 1
            if self.refuses and self.count > self.after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.mark.parametrize("drain", [True, False])
def test_a_stop_while_workers_wait_at_the_bound_of_a_full_disk(drain, tmp_path, tuning):
    tuning(max_unsaved=20)
    with files.observe(FullDisk(2)):
        run = start(samples(4, 200), lambda task: {"n": task.index}, tmp_path / "r", workers=4)
        until(lambda: run.progress.state == "paused")
        run.stop(drain=drain)
        until(lambda: run.progress.ended)
        assert run.progress.state == "stopped"
        assert "could not be saved" in run.progress.message
    again = start(samples(4, 200), lambda task: {"n": task.index}, tmp_path / "r").wait(DEADLINE_S)
    assert again.saved == 800


def test_a_stop_after_the_disk_was_repaired_saves_what_waited(tmp_path):
    disk = FullDisk(1)  # 800 results take two commits at least
    with files.observe(disk):
        run = start(samples(4, 200), lambda task: {"n": task.index}, tmp_path / "r", workers=4)
        until(lambda: run.progress.state == "paused")
        disk.refuses = False
        ended = run.progress.done
        run.stop()
        until(lambda: run.progress.ended)
    assert run.progress.unsaved == 0
    assert run.progress.saved >= ended
    assert len(nbrun.load_results(tmp_path / "r")) == run.progress.saved
    assert not list((tmp_path / "r" / ".nbrun").glob("journal-*")), "the files alone are complete"


def test_an_iterator_that_exits(tmp_path):
    def stream():
        yield {"id": "a", "solutions": [1, 2]}
        raise SystemExit(3)

    run = start(stream(), lambda task: {"n": task.item}, tmp_path / "r")
    with pytest.raises(RunHaltedError, match="SystemExit"):
        run.wait(DEADLINE_S)
    until(lambda: run.progress.ended)
    assert len(nbrun.load_results(tmp_path / "r")) == 2
    assert start(samples(1, 2), lambda task: {"n": 1}, tmp_path / "r").wait(DEADLINE_S).state == "done"


def test_a_full_disk_at_the_start_keeps_no_lock(tmp_path, monkeypatch):
    """The lock can't be written into, then the log can't: the next start finds the directory free."""
    real = os.pwrite

    def full(fd, data, offset):
        if b'"pid"' in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    def refuse(operation, path):
        if operation == "write":
            raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(os, "pwrite", full)
    with files.observe(refuse), pytest.raises(NbrunError, match="No space left"):
        start(samples(1, 1), lambda task: {}, tmp_path / "r")
    monkeypatch.undo()
    assert start(samples(1, 1), lambda task: {}, tmp_path / "r").wait(DEADLINE_S).state == "done"


FORKS = """
import os, sys, threading, nbrun
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def fn(task):
    os.write(log, f"{task.index}\\n".encode())
    if task.index % 50 == 7:
        pid = os.fork()
        if pid == 0:
            if task.index % 100 == 7:
                return {"n": -1}          # the child comes back as a worker
            raise SystemExit("the child")  # or leaves in a hurry
        os.waitpid(pid, 0)
    return {"n": task.index}
run = nbrun.start([{"id": "s", "solutions": list(range(400))}], fn, sys.argv[1], groups=["solution"], view=None)
while run.progress.saved < 20: pass
pid = os.fork()
if pid == 0:
    try:
        run.wait()
    except nbrun.errors.NbrunError as e:
        os._exit(42 if "forked" in str(e) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
print(run.wait().saved)
"""


def test_forks_in_tasks_and_beside_them(tmp_path):
    """A child that was forked in a task runs nothing and ends; waiting for the run there raises an error."""
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "r"), str(log)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["400"]
    assert sorted(map(int, log.read_text().split())) == list(range(400)), "nothing ran twice"
    df = nbrun.load_results(tmp_path / "r")
    assert (df["n"] == df["index"]).all()
    assert len(df) == 400
