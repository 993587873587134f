"""SIGKILL at random moments: nothing saved is lost or doubled, and the run can always go on."""

import collections
import os
import random
import signal
import subprocess
import sys
import time

import nbrun

KILLS, SAMPLES, TASKS = 50, 3000, 40
CHILD = """
import os, sys, nbrun
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def fn(task):
    os.write(log, f"{task.sample_id} {task.index}\\n".encode())
    return {"n": task.index, "pad": "x" * (task.index * 50)}
samples = ({"id": f"s{i}", "solutions": list(range(int(sys.argv[4])))} for i in range(int(sys.argv[3])))
nbrun.start(samples, fn, sys.argv[1], workers=8, groups=["solution"], view=None).wait()
"""


def saved(results):
    df = nbrun.load_results(results)
    rows = list(zip(df.sample_id.astype(str), df["index"].astype(int), df["n"].astype(int), strict=True))
    assert len(set(rows)) == len(rows), "doubled"
    assert all(index == n for _, index, n in rows), "altered"
    return set(rows)


def test_fifty_kills_lose_nothing(tmp_path):
    seed = int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6))
    print("seed", seed)
    rng = random.Random(seed)
    results, log = tmp_path / "r", tmp_path / "log"
    command = [sys.executable, "-c", CHILD, str(results), str(log), str(SAMPLES), str(TASKS)]
    before, kills = set(), 0
    while kills < KILLS:
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            child.wait(rng.uniform(0.15, 0.6))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        assert child.wait() in (0, -signal.SIGKILL), child.stderr.read()
        child.stderr.close()
        kills += 1
        if kills % 10 == 0 and results.exists():
            now = saved(results)
            assert before <= now, f"{len(before - now)} lost"
            before = now
    subprocess.run(command, check=True, timeout=200)
    now = saved(results)
    assert before <= now
    assert len(now) == SAMPLES * TASKS
    ran = collections.Counter(log.read_text().splitlines())
    again = sum(ran.values()) - len(ran)
    print("again", again, "kills", kills)
    assert again <= KILLS * 1100  # in flight, and what one group commit held
    assert bool(nbrun.load_samples(results).is_complete.all())
    assert not list((results / ".nbrun").glob("journal-*"))
