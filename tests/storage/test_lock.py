"""One process writes at a time; a holder that is dead never blocks; without flock it says what it can't promise."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

import nbrun
from nbrun.errors import ResultsInUseError, StorageError
from nbrun.storage.lock import DirectoryLock, holder_of
from tests.waiting import until

SAMPLES = [{"id": "s", "solutions": [1, 2]}]
HOLDER = """
import sys, threading, nbrun
run = nbrun.start([{"id": "s", "solutions": [1, 2]}], lambda task: threading.Event().wait(100), sys.argv[1],
                  groups=["solution"], view=None)
print("holds", flush=True)
run.wait()
"""


def start(path, fn=lambda task: {"n": 1}):
    return nbrun.start(SAMPLES, fn, path, groups=["solution"], view=None)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_two_processes(holder, tmp_path):
    """The second gets an error with host, process and time; reading goes on; a kill of the first frees it."""
    with pytest.raises(ResultsInUseError) as caught:
        start(tmp_path / "r")
    for word in (str(holder.pid), socket.gethostname(), "since 20", str(tmp_path / "r"), "load_results works"):
        assert word in str(caught.value)
    assert len(nbrun.load_results(tmp_path / "r")) == 0
    assert str(holder.pid) in nbrun.check(tmp_path / "r").holder
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert holder_of(tmp_path / "r" / ".nbrun" / "lock") == ""
    assert start(tmp_path / "r").wait(60).done == 2


@pytest.mark.parametrize(
    "note",
    [b"", b"garbage", b'{"pid":1}', b'{"host":"h","pid":%d,"started_at":"t"}' % os.getpid(), b"[]"],
    ids=["empty", "garbage", "process 1", "this process", "list"],
)
def test_an_old_lock_file_blocks_no_run(note, tmp_path):
    """Its pid may be that of a living process now; the lock itself has gone with its holder."""
    (tmp_path / ".nbrun").mkdir()
    (tmp_path / ".nbrun" / "lock").write_bytes(note)
    assert start(tmp_path).wait(60).done == 2


def test_a_forked_child_does_not_keep_it(tmp_path):
    held = DirectoryLock(tmp_path / "lock")
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    held.release()
    try:
        DirectoryLock(tmp_path / "lock").release()
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        for fd in (*ready, *go):
            os.close(fd)


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(fd, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def note_of(tmp_path):
    path = tmp_path / "r" / ".nbrun" / "lock"
    return path, json.loads(path.read_bytes() or b"{}")


def test_without_flock(no_flock, tmp_path):
    """It runs, says what it can't promise, refuses a second one that it can see, and leaves nothing behind."""
    gate = threading.Event()
    run = start(tmp_path / "r", lambda task: gate.wait(60) and {"n": 1})
    assert "has no locks" in run.progress.message
    with pytest.raises(ResultsInUseError, match=str(os.getpid())):
        DirectoryLock(tmp_path / "r" / ".nbrun" / "lock")
    gate.set()
    run.wait(60)
    assert note_of(tmp_path)[1] == {}
    assert start(tmp_path / "r").wait(60).done == 2


@pytest.mark.parametrize(
    ("change", "blocks"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),  # dead
        ({"began": "1"}, False),  # its number was given to another process
        ({"boot": "another"}, False),  # the machine was restarted
        ({"host": "elsewhere"}, False),  # can't be looked at: said aloud
    ],
)
def test_without_flock_a_dead_holder_never_blocks(change, blocks, no_flock, tmp_path):
    gate = threading.Event()
    run = start(tmp_path / "r", lambda task: gate.wait(60) and {"n": 1})
    note, living = note_of(tmp_path)
    gate.set()
    run.wait(60)
    until(lambda: note_of(tmp_path)[1] == {}, "its holder has let it go")
    note.write_text(json.dumps(living | change))
    if blocks:
        with pytest.raises(ResultsInUseError):
            start(tmp_path / "r")
        return
    run = start(tmp_path / "r")
    assert ("elsewhere" in run.progress.message) == ("host" in change)
    assert run.wait(60).done == 2


def test_a_lock_that_can_not_be_asked_for(tmp_path, monkeypatch):
    """An I/O error is no answer; nothing is written, and no descriptor stays open."""

    def refuse(fd, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError, match="Input/output error"):
        start(tmp_path / "r")
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing_it_may_report_an_error(tmp_path, monkeypatch):
    """As FUSE and NFS may, though the lock is released: the run that ended is no failure for that."""
    close, failed = os.close, []

    def report(fd):
        close(fd)
        failed.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    lock = DirectoryLock(tmp_path / "lock")
    with monkeypatch.context() as m:
        m.setattr("nbrun.storage.lock.os.close", report)
        lock.release()
        lock.release()
    assert len(failed) == len(set(failed)) >= 1
    DirectoryLock(tmp_path / "lock").release()
