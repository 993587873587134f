"""SIGKILL at random moments, as often as you like: `python tests/storage/kills.py [KILLS] [SEED]`.

After half of the kills the power is cut too: each file is cut to what it held at its last fsync. Then all is loaded and
compared with what the run had reported as saved and with what its function had returned. Prints its seed first and its
figures last; exit code 0 where nothing was lost, doubled, altered or unreadable.
"""

import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import nbrun

TASKS, LONGEST_S = 40, 0.008
#: How many tasks may run again after a kill: those in flight, and what one group commit held.
AGAIN = 40
CHILD = r"""
import os, random, sys, threading, time
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def noted(real):
    def sync(fd):
        size = os.fstat(fd)
        real(fd)
        os.write(log, f"F {size.st_ino} {size.st_size}\n".encode())
    return sync
os.fsync = noted(os.fsync)
if hasattr(os, "fdatasync"):
    os.fdatasync = noted(os.fdatasync)
import nbrun
def fn(task):
    time.sleep(random.random() * float(sys.argv[5]))
    pad = random.choice([1, 100, 5000]) + random.randrange(90)
    os.write(log, f"R {task.sample_id} {task.index} {pad}\n".encode())
    return {"n": task.index, "pad": "x" * pad}
samples = ({"id": f"s{i}", "solutions": [j % 30 for j in range(int(sys.argv[4]))]} for i in range(int(sys.argv[3])))
run = nbrun.start(samples, fn, sys.argv[1], workers=8, groups=["solution"], view=None)
def claim():
    while True:
        os.write(log, f"S {run.progress.saved}\n".encode())
        time.sleep(0.003)
threading.Thread(target=claim, daemon=True).start()
run.wait()
"""


class Truth:
    """What the runs have said, by their log."""

    def __init__(self, log):
        self.log, self.offset = log, 0
        self.ran = collections.Counter()
        self.pads = collections.defaultdict(set)
        self.sizes = {}
        self.claimed = 0

    def read(self):
        with open(self.log, "rb") as f:
            f.seek(self.offset)
            data = f.read()
        data = data[: data.rfind(b"\n") + 1]
        self.offset += len(data)
        self.claimed = 0
        for line in data.decode().splitlines():
            kind, *rest = line.split()
            if kind == "F":
                self.sizes[int(rest[0])] = int(rest[1])
            elif kind == "R":
                self.ran[rest[0], int(rest[1])] += 1
                self.pads[rest[0], int(rest[1])].add(int(rest[2]))
            else:
                self.claimed = int(rest[0])

    def outlive(self, results, power_cut):
        """Each file is cut to what was fsynced of it; or the system writes all of it out, later than the kill."""
        for path in results.rglob("*"):
            if path.is_file() and not path.is_symlink():
                stat = path.stat()
                if not power_cut:
                    self.sizes[stat.st_ino] = stat.st_size
                elif stat.st_size > (keep := self.sizes.get(stat.st_ino, 0)):
                    os.truncate(path, keep)


def load(results, truth):
    """(sample, index) -> length of what was kept. Whatever is wrong fails."""
    now = {}
    df = nbrun.load_results(results)
    assert not df.attrs["problems"], nbrun.check(results)
    if df.empty:
        return now
    for sample, index, n, pad in zip(df.sample_id.astype(str), df["index"], df["n"], df["pad"], strict=True):
        place = sample, int(index)
        assert place not in now, f"{place} is doubled"
        assert int(n) == int(index), f"{place} is altered"
        assert len(pad) in truth.pads[place], f"{place} is altered"
        now[place] = len(pad)
    return now


def wait_for_a_task(child, log):
    """Wait until a task of this run has ended: on a busy machine, only starting would be interrupted."""
    before = log.stat().st_size if log.exists() else 0
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        if log.exists():
            with open(log, "rb") as f:
                f.seek(before)
                if b"\nR " in f.read():
                    return
        time.sleep(0.005)


def main(kills, seed, samples=None, say=print, longest_s=LONGEST_S, again_a_kill=AGAIN):
    """Returns the figures.

    Args:
        longest_s: the longest time that a task takes.
        again_a_kill: how many tasks may run again after a kill.
    """
    say(f"seed {seed}")
    rng = random.Random(seed)
    samples = samples or 100 + kills * 14
    before, done, began = {}, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results, truth = Path(folder) / "results", Truth(Path(folder) / "log")
        command = [sys.executable, "-c", CHILD, str(results), str(truth.log), str(samples), str(TASKS), str(longest_s)]
        while done < kills:
            child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            try:
                if rng.random() < 0.8:
                    wait_for_a_task(child, truth.log)
                    child.wait(rng.uniform(0, 0.25))
                else:  # while it starts, or soon after
                    child.wait(rng.uniform(0.1, 0.6))
                assert child.returncode == 0, child.stderr.read()
                say(f"it ended after {done} kills")
                break
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                done += 1
            finally:
                child.stderr.close()
            if not truth.log.exists():
                continue
            truth.read()
            if results.exists():
                truth.outlive(results, power_cut=rng.random() < 0.5)
                now = load(results, truth)
                lost = before.keys() - now.keys()
                assert not lost, f"{len(lost)} are lost"
                assert all(now[k] == v for k, v in before.items()), "an older result came back"
                assert len(now) >= truth.claimed, f"{truth.claimed} were reported as saved, {len(now)} are there"
                before = now
            if done % 50 == 0:
                say(f"{done} kills, {len(before)} saved, {time.monotonic() - began:.0f} s")
        subprocess.run([*command[:-1], "0"], check=True, timeout=3600)
        truth.read()
        now = load(results, truth)
        assert len(now) == samples * TASKS
        assert all(now[k] == v for k, v in before.items())
        assert bool(nbrun.load_samples(results).is_complete.all())
        assert not list((results / ".nbrun").glob("journal-*"))
    again = truth.ran.total() - len(truth.ran)
    figures = {
        "seed": seed, "kills": done, "tasks": samples * TASKS, "lost": 0, "doubled": 0, "unreadable": 0,
        "ran_again": again, "ran_again_a_kill": round(again / max(1, done), 1),
    }  # fmt: skip
    say(figures)
    assert again <= done * again_a_kill, "more ran again than was in flight"
    return figures


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    main(numbers[0] if numbers else 1000, numbers[1] if numbers[1:] else time.time_ns() % 10**6)
