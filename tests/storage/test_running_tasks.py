"""A task that was running at two unclean ends runs last and alone: one that kills its process costs only itself."""

import collections
import os
import signal
import subprocess
import sys
import time
from hashlib import blake2b

import pytest

import nbrun
from nbrun.canonical import digest
from nbrun.results.values import dump
from nbrun.storage.directory import FINGERPRINT_BYTES, InFlightTasks, choose, quarantined_of
from nbrun.storage.sample_state import SampleState
from nbrun.storage.store import ResultStore

#: Samples are small, so that four workers take at most as many tasks at a time as run one by one (ALONE_UP_TO).
KILLER = ("s3", 5)
CHILD = """
import os, signal, sys, threading, time, nbrun
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
deadly, long_s = sys.argv[3] == "deadly", float(sys.argv[4])
def say(what, task): os.write(log, f"{what} {task.sample_id} {task.index}\\n".encode())
def fn(task):
    say("+", task)
    if (task.sample_id, task.index) == ("s3", 5) and deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(long_s)
    say("-", task)
    return {"n": task.index}
samples = [{"id": f"s{i}", "solutions": list(range(8))} for i in range(8)]
from concurrent.futures import ThreadPoolExecutor
run = nbrun.start(samples, fn, sys.argv[1], groups=["solution"], workers=4, view=None, executor=EXECUTOR)
print(run.wait().state, run.progress.message, flush=True)
"""


def child(path, log, deadly, long_s, executor="None"):
    return subprocess.run(
        [sys.executable, "-c", CHILD.replace("EXECUTOR", executor), str(path), str(log), deadly, str(long_s)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(("long_s", "executor"), [(0, "None"), (0.004, "None"), (0.004, "ThreadPoolExecutor(4)")])
def test_a_task_that_kills_twice_runs_last_and_alone(long_s, executor, tmp_path):
    path, log = tmp_path / "r", tmp_path / "log"
    for _ in range(2):
        assert child(path, log, "deadly", long_s, executor).returncode == -signal.SIGKILL
    saved = len(nbrun.load_results(path))
    log.unlink()
    third = child(path, log, "deadly", long_s, executor)
    assert third.returncode == -signal.SIGKILL
    lines = log.read_text().splitlines()
    assert lines[-1] == "+ {} {}".format(*KILLER)
    others = collections.Counter(line.split()[0] for line in lines[:-1])
    assert others["+"] == others["-"], "nothing ran beside it"
    others_left = 63 - saved - others["+"]
    # Tasks that were taken with it, twice, are suspects too: tiny ones, and those of the same chunk for an executor.
    # How many a chunk holds depends on how fast the machine is.
    assert others_left == 0 or ((long_s == 0 or executor != "None") and others_left < 32)
    assert len(nbrun.load_results(path)) == 63 - others_left, "all that had ended was saved before"
    log.unlink()
    fourth = child(path, log, "harmless", 0, executor)
    assert fourth.stdout.startswith("done")
    assert "when an earlier run died, twice" in fourth.stdout
    signs = [line[0] for line in log.read_text().splitlines()]
    assert signs == ["+", "-"] * (others_left + 1), "one by one"
    fifth = child(path, log, "harmless", 0, executor)
    assert fifth.stdout.startswith("done")
    assert "died" not in fifth.stdout, "it is reported no more"


def test_ends_that_no_task_caused_make_no_suspects(tmp_path):
    """A stop at once, and the interpreter's end, with tasks running."""
    code = CHILD.replace("EXECUTOR", "None").replace(
        "print(run.wait().state, run.progress.message, flush=True)", "LAST"
    )
    command = [sys.executable, "-c", "", str(tmp_path / "r"), str(tmp_path / "log"), "", "20"]
    for last in ("while run.progress.running < 4: pass", "while run.progress.running < 4: pass\nrun.stop(drain=False)"):
        for _ in range(2):
            command[2] = code.replace("LAST", last)
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
    assert not (tmp_path / "r" / ".nbrun" / "unclean.log").exists()


def test_many_suspects_run_in_groups(tmp_path):
    """Of many requests in flight it isn't known which one it was: they run a few at a time, after all others."""
    from nbrun.engine.scheduler import ALONE_UP_TO

    path = tmp_path / "r"
    count = 2 * ALONE_UP_TO + 1
    samples = [{"id": "s", "solutions": list(range(count + 10))}]
    code = """
import os, signal, sys, threading, nbrun
running, n = [], int(sys.argv[2])
def fn(task):
    running.append(1)
    if len(running) == n: os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait(60)
samples = [{"id": "s", "solutions": list(range(n))}]
nbrun.start(samples, fn, sys.argv[1], groups=["solution"], workers=n + 1, view=None).wait()
"""
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", code, str(path), str(count)], timeout=60)
        assert killed.returncode == -signal.SIGKILL
    import threading

    lock, now, most, order = threading.Lock(), [0], [0], []

    def fn(task):
        with lock:
            now[0] += 1
            if task.index < count:
                most[0] = max(most[0], now[0])
            order.append(task.index)
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1
        return {}

    progress = nbrun.start(samples, fn, path, groups=["solution"], workers=20, view=None).wait(60)
    assert progress.done == count + 10
    assert most[0] == 3
    assert all(index < count for index in order[-count:])


def test_fingerprints_distinguish_tasks_and_stay_the_same(tmp_path):
    """They don't hang on the order of samples or items; of equal items each has its own."""
    from nbrun.samples import SampleReader
    from nbrun.storage.sample_state import SampleState

    def fingerprints(samples):
        reader = SampleReader({"a": "as", "b": "bs"})
        states = [SampleState(reader.read(s, i), "") for i, s in enumerate(samples)]
        return {(b.sample_id, p): b.fingerprints([p]) for b in states for p in range(b.total)}

    one = fingerprints([{"id": "x", "as": [1, 1, 2], "bs": [1]}, {"id": "y", "as": [1], "bs": []}])
    assert len(set(one.values())) == 5
    assert {len(m) for m in one.values()} == {FINGERPRINT_BYTES}
    other = fingerprints([{"id": "y", "as": [1], "bs": []}, {"id": "x", "as": [2, 1, 1], "bs": [1]}])
    assert set(one.values()) == set(other.values())
    assert one["x", 2] == other["x", 0]


def test_only_two_different_ends_make_a_suspect(tmp_path):
    """The same end, noted twice since the process died while it noted it, is one."""
    a, b = bytes([1]) * 32, bytes([2]) * 32
    ends = [{"run_id": "1", "seq": 5, "running": [a.hex(), b.hex()]}, {"run_id": "2", "seq": 9, "running": [a.hex()]}]
    assert quarantined_of(ends[:1]) == {}
    assert quarantined_of(ends) == {a: 9}
    assert choose({a: 9}, {0: a, 1: b}, {}) == [0]
    assert choose({a: 9}, {0: a}, {0: 9}) == [0]
    assert choose({a: 9, b: 7}, {0: a, 1: b}, {}) == [1, 0], "the one that was running at the last end comes last"
    assert choose({a: 9}, {0: a}, {0: 10}) == [], "it has ended since"
    from nbrun.results.format import UNCLEAN
    from nbrun.storage.directory import RecordLog

    log = RecordLog(tmp_path / "unclean.log", UNCLEAN)
    running = InFlightTasks(tmp_path, log)
    running.begin("run-1")
    running.record(3, a)
    for _ in range(2):
        assert running.take_over(7) == {}
    running.begin("run-2")
    running.record(0, b + a)
    running.record(0, a)
    assert running.take_over(8) == {a: 8}
    running.end()
    assert os.path.getsize(tmp_path / "running") == 0
    log.close()


@pytest.mark.parametrize("workers", [3, 40, 200])
def test_each_task_is_recorded_from_before_it_starts_until_it_has_ended(tmp_path, monkeypatch, workers):
    """With many workers one record is for several tasks; a slot is used again only when all of them have ended."""
    recorded: dict[int, set[bytes]] = {}
    of: dict[tuple[str, int], bytes] = {}
    missed, writes = [], [0]
    begin_tasks, fingerprints = ResultStore.begin_tasks, SampleState.fingerprints

    def noted(self, positions):
        data = fingerprints(self, positions)
        for at, position in enumerate(positions):
            of[self.sample_id, position] = data[at * FINGERPRINT_BYTES : (at + 1) * FINGERPRINT_BYTES]
        return data

    def begun(self, slot, data):
        begin_tasks(self, slot, data)
        recorded[slot] = {data[at : at + FINGERPRINT_BYTES] for at in range(0, len(data), FINGERPRINT_BYTES)}
        writes[0] += 1

    monkeypatch.setattr(SampleState, "fingerprints", noted)
    monkeypatch.setattr(ResultStore, "begin_tasks", begun)

    def check(task):
        if not any(of.get((task.sample_id, task.index)) in there for there in list(recorded.values())):
            missed.append((task.sample_id, task.index, task.attempt))

    def fn(task):
        check(task)
        time.sleep(0.001 * (task.index % 7))
        check(task)
        if task.index % 50 == 7 and task.attempt == 1:
            return nbrun.Retry("once more", pause_all=workers == 40 and task.index == 57)
        if task.index % 50 == 9:
            raise KeyError(task.index)
        return {"n": task.index}

    samples = [{"id": f"s{i}", "solutions": list(range(100))} for i in range(20)]
    progress = nbrun.start(samples, fn, tmp_path, workers=workers, view=None, retry=None).wait(60)
    assert (progress.done, progress.errors) == (1960, 40)
    assert not missed
    assert workers < 100 or writes[0] < 1500, "at many workers, fewer records than tasks"


def test_at_a_death_with_many_workers_every_running_task_is_known(tmp_path):
    path, log = tmp_path / "r", tmp_path / "log"
    code = CHILD.replace("EXECUTOR", "None").replace("workers=4", "workers=64")
    killed = subprocess.run(
        [sys.executable, "-c", code, str(path), str(log), "deadly", "0.01"], timeout=60, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL
    lines = [line.split() for line in log.read_text().splitlines()]
    ended = {tuple(words[1:]) for words in lines if words[0] == "-"}
    running = {tuple(words[1:]) for words in lines if words[0] == "+"} - ended
    assert 1 < len(running) <= 64
    data = (path / ".nbrun" / "running").read_bytes()
    for sample_id, index in running:
        whose = blake2b(b"\t" + dump([sample_id, "solution"]), digest_size=12).digest()
        assert whose + bytes(4) + digest(int(index)) in data
