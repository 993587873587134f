"""Readers need no lock: while a run writes, and is killed, they see every saved result, and each once (F7)."""

import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from types import SimpleNamespace

import pytest

import nbrun
from nbrun.results import listing
from nbrun.results.reader import Reader

SAMPLES, TASKS, KILLS = 400, 25, 8
WRITER = """
import os, sys, threading, time, nbrun
from nbrun.tuning import TUNING
TUNING.segment_bytes, TUNING.stale_s, TUNING.cost_ratio, TUNING.stale_look_s = 30_000, 0.0, 0.0, 0.002
claims = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def fn(task):
    if task.index == 3: time.sleep(0.01)
    return {"n": task.index, "pad": "x" * (task.index * 30)}
samples = ({"id": f"s/{i}", "solutions": list(range(int(sys.argv[4])))} for i in range(int(sys.argv[3])))
run = nbrun.start(samples, fn, sys.argv[1], workers=6, groups=["solution"], view=None)
def claim():
    while True:
        p = run.progress
        os.write(claims, f"{p.saved}\\n".encode())
        time.sleep(0.001)
threading.Thread(target=claim, daemon=True).start()
run.wait()
"""


def test_f7_readers_beside_a_writer_that_is_killed(tmp_path):
    """Two kinds of readers go on reading: what one has seen, and what was reported as saved, all later ones see."""
    seed = int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6))
    print("seed", seed)
    rng = random.Random(seed)
    results, claims = tmp_path / "r", tmp_path / "claims"
    command = [sys.executable, "-c", WRITER, str(results)]
    command += [str(claims), str(SAMPLES), str(TASKS)]
    over = threading.Event()
    faults, reads = [], [0, 0]

    def by_reader():
        views = Reader(results).samples()
        return [(v.sample_id, s.key, s.occurrence) for v in views for s, _ in v.entries]

    def by_frame():
        df = nbrun.load_results(results)
        if df.empty:
            return []
        assert (df["n"].astype(int) == df["index"].astype(int)).all(), "altered"
        return list(zip(df.sample_id.astype(str), df["key"].astype(str), df.occurrence.astype(int), strict=True))

    def read_on(number, read):
        before = set()
        while not over.is_set() and not faults:
            if not results.exists():
                continue
            claimed = last_claim(claims)
            try:
                rows = read()
                now = set(rows)
                assert len(rows) == len(now), "seen twice"
                assert before <= now, f"{len(before - now)} were seen before and are not now"
                assert len(now) >= claimed, f"{claimed} were saved, {len(now)} are seen"
                before = now
            except BaseException as e:
                faults.append(e)
            reads[number] += 1

    def until_both_have_read(before):
        end = time.monotonic() + 60
        while results.exists() and not faults and any(n <= b for n, b in zip(reads, before, strict=True)):
            assert time.monotonic() < end, reads
            threading.Event().wait(0.01)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=read_on, args=(i, f)) for i, f in enumerate((by_reader, by_frame))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(KILLS):
                before = list(reads)
                writer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
                try:
                    writer.wait(rng.uniform(0.3, 0.9))
                except subprocess.TimeoutExpired:
                    writer.send_signal(signal.SIGKILL)
                until_both_have_read(before)  # on a busy machine one look takes longer than a writer lives
                assert writer.wait() in (0, -signal.SIGKILL), writer.stderr.read()
                writer.stderr.close()
            before = list(reads)
            subprocess.run(command, check=True, timeout=120)
            until_both_have_read(before)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert not faults, f"seed {seed}: {faults[0]}"
    assert min(reads) > 0
    assert len(by_frame()) == SAMPLES * TASKS


def last_claim(claims):
    """How many results the writer has reported as saved; a restarted one begins again."""
    try:
        text = claims.read_bytes()
    except FileNotFoundError:
        return 0
    lines = text[: text.rfind(b"\n") + 1].split()
    return int(lines[-1]) if lines else 0


def test_f7_a_segment_of_a_later_run_under_the_same_name(tmp_path, monkeypatch):
    """Between listing and reading all segments go and a new run's first one comes: never the bytes of the other."""
    from nbrun.results import replay

    from_first = {"id": "a", "solutions": [1, 2, 3]}
    gate = threading.Event()
    fn = lambda task: (task.index == 2 and gate.wait(60), {"n": task.index})[1]  # noqa: E731
    run = nbrun.start([from_first], fn, tmp_path, groups=["solution"], view=None)
    while run.progress.saved < 2:
        pass
    real = replay.read_log
    once = []

    def meanwhile(log, scan=None):
        if not once:
            once.append(True)
            gate.set()
            run.wait(60)
            later = threading.Event()
            fn = lambda task: (task.index == 2 and later.wait(60), {"n": task.index, "pad": "x" * 50})[1]  # noqa: E731
            other = nbrun.start([{"id": "b", "solutions": [1, 2, 3]}], fn, tmp_path, groups=["solution"], view=None)
            while other.progress.saved < 2:
                pass
            once.append((other, later))
        return real(log, scan)

    monkeypatch.setattr(replay, "read_log", meanwhile)
    seen = [(v.sample_id, s.item_index, b) for v in Reader(tmp_path).samples() for s, b in v.entries]
    other, later = once[1]
    later.set()
    other.wait(60)
    assert {(s, i) for s, i, _ in seen} >= {("a", 0), ("a", 1), ("a", 2)}
    assert all(b'"n":%d' % i in body for _, i, body in seen)


def test_f7_a_folder_that_changes_while_it_is_listed(tmp_path, monkeypatch):
    """btrfs leaves a file out that is replaced meanwhile: the folder's time has changed, so it is listed again."""
    samples = [{"id": f"s{i}", "solutions": [1]} for i in range(5)]
    nbrun.start(samples, lambda task: {}, tmp_path, groups=["solution"], view=None).wait(60)
    real = os.scandir
    listed = []

    class LeavesOneOut:
        def __init__(self, path):
            self.entries = real(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.entries.close()

        def __iter__(self):
            for entry in self.entries:
                if entry.name == f"s{len(listed)}.json":
                    listed.append(entry.name)
                    os.replace(tmp_path / entry.name, tmp_path / "beside")
                    os.replace(tmp_path / "beside", tmp_path / entry.name)
                    continue
                yield entry

    monkeypatch.setattr(os, "scandir", LeavesOneOut)
    assert len(listing.list_samples(tmp_path).by_id) == 5
    assert len(listed) >= 2


def test_of_a_slow_disk_files_are_read_ahead(tmp_path, monkeypatch, tuning):
    """The listing is the same, whatever the helpers meet, and they end with it."""
    samples = [{"id": f"s{i:03}", "solutions": [1]} for i in range(60)]
    nbrun.start(samples, lambda task: {}, tmp_path, groups=["solution"], view=None).wait(60)
    (tmp_path / "s030.json").write_bytes(b"")
    os.mkfifo(tmp_path / "s031a.json")
    (tmp_path / "s032a.json").symlink_to(tmp_path / "s001.json")
    wanted = listing.list_samples(tmp_path)
    started, waits, begin = [], itertools.count(0, 1000), threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread) or begin(thread))
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_nvcsw=next(waits)))
    tuning(read_ahead_look=10)
    found = listing.list_samples(tmp_path)
    assert found == wanted
    assert len(found.by_id) == 59
    assert len(found.problems) == 3
    assert len(started) == listing.HELPERS
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("times", [1, 3])
def test_a_run_that_ends_between_journal_and_files(times, tmp_path, monkeypatch):
    """What was in the journal when it was read is in files when these are read: it is seen once."""
    gate = threading.Event()
    run = nbrun.start(
        [{"id": f"s{i}", "solutions": list(range(4))} for i in range(3)],
        lambda task: (task.index == 3 and gate.wait(60), {"n": task.index})[1], tmp_path,
        groups=["solution"], workers=8, view=None,
    )  # fmt: skip
    while run.progress.saved < 9:
        pass
    from nbrun.results import reader

    real = reader.list_samples

    def meanwhile(*given):
        gate.set()
        run.wait(60)
        return real(*given)

    monkeypatch.setattr(reader, "list_samples", meanwhile)
    for _ in range(times):
        rows = [(v.sample_id, s.item_index) for v in Reader(tmp_path).samples() for s, _ in v.entries]
        assert sorted(rows) == [(f"s{i}", j) for i in range(3) for j in range(4)]
