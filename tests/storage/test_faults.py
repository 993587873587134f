"""A disk that refuses writes: the run pauses and says so, drops nothing, and goes on once the disk is repaired."""

import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from power_cuts import Job, check_end, check_saved, make_samples
from simulated_disk import SimulatedDisk

import nbrun
from nbrun.errors import ResultsInUseError, RunHaltedError, StorageError
from nbrun.storage import compactor, files
from tests.waiting import until

FAULTS = {
    "no space to write": (errno.ENOSPC, {"write", "create", "rename", "mkdir"}),
    "an I/O error on write": (errno.EIO, {"write"}),
    "an I/O error on fsync": (errno.EIO, {"fsync", "fsync-folder"}),
    "too many open files": (errno.EMFILE, {"create", "open"}),
    "a quota": (errno.EDQUOT, {"write", "create"}),
    "a file system that turned read-only": (
        errno.EROFS,
        {"create", "open", "write", "rename", "unlink", "truncate"},
    ),
}


@pytest.fixture
def often(tuning):
    """Segments rotate and files are rewritten while the run goes on."""
    tuning(segment_bytes=600, group_s=0.0, stale_s=0.0, cost_ratio=0.0, stale_look_s=0.001)


def run_through(job, disk, path, on_pause=lambda run: None):
    """Starts and resumes until it is done. Returns how often it paused, and how often start() refused."""
    pauses = refusals = 0
    told = []
    with disk.under():
        while True:
            try:
                run = job.start(path)
                break
            except StorageError as e:
                told.append(str(e))
                refusals += 1
                on_pause(None)
                assert refusals < 100
        while not run.progress.ended:
            until(lambda: run.progress.ended or run.progress.state == "paused")
            progress = run.progress
            if progress.state == "paused":
                pauses += 1
                assert "run.resume()" in progress.message
                with pytest.raises(RunHaltedError, match="saved"):
                    run.wait(5)
                on_pause(run)
                run.resume()
        assert run.wait(60).state == "done"
    assert all(str(path) in message for message in told)
    return pauses, refusals


@pytest.mark.parametrize("fault", FAULTS)
def test_f8_one_refusal_at_every_operation(fault, tmp_path, often):
    """The k-th operation of its kind fails, once. Nothing that failed is trusted: a power cut at the end finds all."""
    number, operations = FAULTS[fault]
    job = Job(make_samples(2))
    k = told = 0
    while True:
        k += 1
        at, after = tmp_path / f"at{k}", tmp_path / f"after{k}"
        seen = []

        def refuse(count, operation, path, seen=seen, k=k):
            if operation in operations:
                seen.append(count)
            return number if len(seen) == k and seen[-1] == count else None

        disk = SimulatedDisk(at, random.Random(k), refuse=refuse)
        pauses, refusals = run_through(job, disk, at)
        check_end(job, at)
        assert len(job.ran) == len(job.identities()), "nothing runs twice because the disk refused"
        disk.power_cut(after, "lost")
        check_saved(job, after, disk.acknowledged)
        if len(seen) < k:
            break
        told += pauses + refusals
        shutil.rmtree(at)
        shutil.rmtree(after)
    assert k > 3
    assert told > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_it_waits_while_the_disk_stays_broken(fault, tmp_path, tuning, often):
    """Workers stop at the bound, resume() before the repair pauses again, and after it everything is saved once."""
    number, operations = FAULTS[fault]
    tuning(max_unsaved=20, direct_from=10**9)  # samples that go straight to files take too few operations
    job = Job([{"id": f"s{i}", "solutions": list(range(50)), "incorrect_solutions": []} for i in range(4)])
    job.options = {"workers": 4}
    broken = [False]

    def refuse(count, operation, path):
        broken[0] = broken[0] or (count > 25 and operation in operations and not mended)
        return number if broken[0] and operation in operations else None

    mended = []
    disk = SimulatedDisk(tmp_path / "r", random.Random(0), refuse=refuse)
    tries = []

    def on_pause(run):
        ran = len(job.ran)
        assert run.progress.unsaved <= 20 + 4 * 32
        tries.append(ran)
        if len(tries) == 3:
            mended.append(True)
            broken[0] = False

    pauses, _ = run_through(job, disk, tmp_path / "r", on_pause)
    assert pauses >= 3
    assert tries[2] - tries[0] <= 2 * (20 + 4 * 32), "memory is bounded while it waits"
    assert len(job.ran) == 200
    check_end(job, tmp_path / "r")


def test_a_stop_while_the_disk_is_full_says_what_is_lost(tmp_path):
    job = Job(make_samples(2))
    disk = SimulatedDisk(
        tmp_path / "r", random.Random(0),
        refuse=lambda count, operation, path: errno.ENOSPC if "journal" in path and operation == "write" else None,
    )  # fmt: skip
    with disk.under():
        run = job.start(tmp_path / "r")
        until(lambda: run.progress.state == "paused")
        run.stop()
        until(lambda: run.progress.ended)
        progress = run.progress
    assert progress.state == "stopped"
    assert progress.unsaved > 0
    assert job.start(tmp_path / "r").wait(60).state == "done"
    check_end(job, tmp_path / "r")


@contextmanager
def small_disk(size):
    folder = tempfile.mkdtemp()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        os.rmdir(folder)
        # without root there is no small disk; the refusals above stand for it
        pytest.skip(f"a tmpfs can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield Path(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        os.rmdir(folder)


def test_a_full_disk_and_a_bigger_one():
    with small_disk("1m") as folder:
        samples = [{"id": f"s{i}", "solutions": list(range(20))} for i in range(20)]
        ran = []

        def fn(task):
            ran.append((task.sample_id, task.index))
            time.sleep(0.002)
            return {"pad": "x" * 10_000}

        run = nbrun.start(samples, fn, folder / "r", groups=["solution"], workers=4, view=None)
        until(lambda: run.progress.state == "paused")
        progress = run.progress
        assert "No space left" in progress.message
        assert progress.saved > 20
        with pytest.raises(RunHaltedError):
            run.wait()
        assert len(nbrun.load_results(folder / "r")) >= progress.saved
        run.resume()
        until(lambda: run.progress.state == "paused")
        subprocess.run(["mount", "-o", "remount,size=32m", str(folder)], check=True)
        run.resume()
        end = run.wait(60)
        assert (end.state, end.done, end.unsaved) == ("done", 400, 0)
        assert len(ran) == len(set(ran)) == 400
        assert len(nbrun.load_results(folder / "r")) == 400
        assert not list((folder / "r" / ".nbrun").glob("journal-*"))


FEW_FILES = """
import os, resource, sys, threading, nbrun
gate = threading.Event()
def fn(task):
    if int(task.sample_id) >= 30: gate.wait(60)
    return {"n": task.index}
samples = [{"id": i, "solutions": [0]} for i in range(60)]
run = nbrun.start(samples, fn, sys.argv[1], groups=["solution"], workers=60, view=None)
while run.progress.saved < 30: pass
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
gate.set()
while run.progress.state == "running": pass
print(run.progress.state, run.progress.message, flush=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
while True:  # another thread may have been refused before the limit was lifted, and tell it after
    run.resume()
    try:
        print(run.wait(60).done)
        break
    except nbrun.errors.RunHaltedError:
        pass
"""


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP], ids=["EINVAL", "ENOTSUP"])
@pytest.mark.parametrize("operation", ["fsync-folder", "fsync"])
def test_a_file_system_without_that_fsync(tmp_path, number, operation):
    """As a network share or a shared folder of a virtual machine has none: the run goes on, and says so once."""

    def hook(name, path):
        if name == operation:
            raise OSError(number, os.strerror(number), path)

    samples = [{"id": f"s{i}", "solutions": [1, 2]} for i in range(3)]
    with files.observe(hook):
        run = nbrun.start(samples, lambda task: {"n": 1}, tmp_path / "r", groups=["solution"], view=None)
        progress = run.wait(60)
    assert (progress.state, progress.saved) == ("done", 6)
    assert progress.message.count("doesn't promise what a local disk does") == 1
    assert nbrun.check(tmp_path / "r").is_ok
    again = nbrun.start(samples, lambda task: {"n": 1}, tmp_path / "r2", groups=["solution"], view=None).wait(60)
    assert "promise" not in again.message, "where it works it says nothing"


def test_too_many_open_files(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(tmp_path / "r")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "paused" in done.stdout
    assert "Too many open files" in done.stdout
    assert done.stdout.split()[-1] == "60"
    assert len(nbrun.load_results(tmp_path / "r")) == 60


def test_a_fault_while_the_run_resumes_is_reported_in_whole_sentences(tmp_path):
    """It is one of nbrun's own errors then, which ends with a full stop."""
    is_failing = threading.Event()

    def refuse(operation, path):
        if operation == "fsync-folder" and is_failing.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def fn(task):
        is_failing.set()
        return {"v": task.item}

    with files.observe(refuse):
        run = nbrun.start([{"id": "s", "solutions": ["a"]}], fn, tmp_path / "r", view=None)
        until(lambda: run.progress.state == "paused")
        run.resume()
        until(lambda: run.progress.state == "paused" and "durable" in run.progress.message)
        assert f"results can't be saved, {tmp_path / 'r'} can't be made durable: " in run.progress.message
        assert ".." not in run.progress.message.replace(str(tmp_path), "")
        is_failing.clear()
        run.resume()
        progress = run.wait(60)
    assert (progress.state, progress.saved) == ("done", 1)


def test_a_run_that_is_done_reports_no_pause(tmp_path, monkeypatch):
    """Everything is in files and the segments are deleted when the store is closed: no fault counts any more."""
    is_closing = threading.Event()
    close = compactor.Compactor.close

    def note_closing(self, timeout_s):
        is_closing.set()
        close(self, timeout_s)

    def refuse(operation, path):
        if is_closing.is_set():
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(compactor.Compactor, "close", note_closing)
    with files.observe(refuse):
        run = nbrun.start([{"id": "s", "solutions": ["a"]}], lambda task: {"v": 1}, tmp_path / "r", view=None)
        progress = run.wait(60)
    assert is_closing.is_set()
    assert (progress.state, progress.saved, progress.message) == ("done", 1, "")
    assert not list((tmp_path / "r" / ".nbrun").glob("journal-*"))


def test_a_directory_stays_locked_while_a_write_of_an_ended_run_hangs(tmp_path):
    """The disk may answer later, and the file then would replace one that the next run has written meanwhile."""
    is_hanging, answers, breaks = threading.Event(), threading.Event(), threading.Event()

    def hang(operation, path):
        name = threading.current_thread().name
        if name == "nbrun-files" and operation == "fsync" and not breaks.is_set():
            is_hanging.set()
            assert answers.wait(60)
        if name == "nbrun-journal" and operation == "write" and breaks.is_set() and not answers.is_set():
            raise ValueError("a fault of nbrun's own")

    def fn(task):
        if task.sample_id == "b":
            assert is_hanging.wait(60)
            breaks.set()
        return {"v": task.item}

    samples = [{"id": "a", "solutions": [1, 2]}, {"id": "b", "solutions": [3]}]
    with files.observe(hang):
        run = nbrun.start(samples, fn, tmp_path / "r", workers=1, view=None)
        with pytest.raises(RunHaltedError):
            run.wait(60)
        until(lambda: run.progress.state == "halted")
        with pytest.raises(ResultsInUseError):
            nbrun.start(samples, lambda task: {"v": 0}, tmp_path / "r", view=None)
        answers.set()
        until(lambda: not any(t.name == "nbrun-release" for t in threading.enumerate()))
        progress = nbrun.start(samples, lambda task: {"v": 0}, tmp_path / "r", view=None).wait(60)
    assert (progress.state, progress.resumed) == ("done", 2)
    assert nbrun.load_results(tmp_path / "r")["v"].tolist() == [1, 2, 0]
