"""The loader's cache and its helper processes: never another answer than reading everything, only a faster one."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import warnings

import pandas as pd
import pytest

import nbrun
from nbrun.frames import loader
from nbrun.frames.loader import Loader
from nbrun.frames.rows import RESERVED, ROWS_VERSION, FileReader
from nbrun.frames.table import DTYPES, to_frame
from tests.frames.judged_runs import OLD, PROBLEMS, problem, run


@pytest.fixture(autouse=True)
def eager(tuning):
    """Small directories are kept too, also when they have only just been written."""
    tuning(cache_from_bytes=0, fine_clock_ns=-(10**18))
    warnings.simplefilter("ignore")
    yield
    warnings.resetwarnings()


def load(path, **options):
    return nbrun.load_results(path, **options)


def afresh(path):
    """What is there, read without the cache."""
    shutil.rmtree(path / ".nbrun" / "cache", ignore_errors=True)
    return load(path)


def parts(path):
    return sorted((path / ".nbrun" / "cache").glob("*.rows"))


@pytest.fixture
def read(opened):
    """Loads a directory, and returns the names of the sample files that were opened for it."""

    def files(path):
        opened.clear()
        load(path)
        return sorted(os.path.basename(p) for p in opened if p.endswith(".json"))

    return files


@pytest.mark.parametrize("name", sorted(p.name for p in OLD.iterdir() if p.is_dir()))
def test_the_cache_gives_what_reading_gives(old, name):
    path = old(name)
    first = load(path)
    assert parts(path)
    pd.testing.assert_frame_equal(load(path), first)
    pd.testing.assert_frame_equal(afresh(path), first)


def test_only_changed_files_are_read_again(tmp_path, read):
    run(PROBLEMS, tmp_path)
    load(tmp_path)
    assert read(tmp_path) == []
    run([*PROBLEMS, problem("p3", ["Accepted"], [])], tmp_path, lambda task: {"n": 1, "text": "x"})
    assert set(read(tmp_path)) == {"p2.json", "p3.json"}  # p2 had an error entry, which ran again
    assert read(tmp_path) == []


def mutate(path, rng, round_):
    """Some way in which a sample's file changes; each keeps what it can of size and times."""
    name = rng.choice(sorted(f.name for f in path.glob("*.json")))
    file = path / name
    data = file.read_bytes()
    stat = file.stat()
    way = rng.choice(["in place", "rename", "delete", "copy back", "cut", "run"])
    swapped = data.replace(b"WrongAnswer", b"RuntimeErro").replace(b'"passed":true', b'"passed":null')
    if way == "in place":
        file.write_bytes(swapped)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif way == "rename":
        beside = path / "beside"
        beside.write_bytes(swapped)
        os.utime(beside, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.replace(beside, file)
    elif way == "delete" and len(list(path.glob("*.json"))) > 2:
        file.unlink()
    elif way == "copy back":
        shutil.copy2(OLD / "progress_complete" / "Codeforces_1514_A.json", path)
    elif way == "cut":
        file.write_bytes(data[: rng.randrange(len(data))])
    else:
        try:
            run([problem(f"new{round_}", ["Accepted", "WrongAnswer"], ["Accepted"])], path)
        except nbrun.errors.NbrunError:
            pass


def test_whatever_changes_it_is_never_wrong(tmp_path):
    """Files that change in every way, with the old size and time where that can be, load as if there was no cache."""
    seed = int(os.environ.get("NBRUN_SEED", "7"))
    rng = random.Random(seed)
    shutil.copytree(OLD / "progress_killed_a", tmp_path, dirs_exist_ok=True)
    run(PROBLEMS, tmp_path)
    twin = tmp_path.with_name("twin")
    for round_ in range(25):
        mutate(tmp_path, rng, round_)
        cached = load(tmp_path)
        shutil.rmtree(twin, ignore_errors=True)
        shutil.copytree(tmp_path, twin, ignore=shutil.ignore_patterns("cache"))
        pd.testing.assert_frame_equal(cached, load(twin), obj=f"seed {seed}, round {round_}")
    assert len(parts(tmp_path)) <= loader.MAX_PARTS


def test_a_file_that_may_yet_change_unseen_is_not_kept(tmp_path, monkeypatch, tuning, read):
    """A change within the clock's tick of the one before leaves the times as they are: such a file is read again."""
    monkeypatch.undo()
    tuning(cache_from_bytes=0, fine_clock_ns=10**12)  # a very coarse clock
    run(PROBLEMS, tmp_path)
    load(tmp_path)
    assert read(tmp_path) != []


def test_matching_an_old_directory_changes_its_rows(old):
    path = old("progress_killed_resumed")
    assert load(path)["index"].isna().all()
    dataset = json.loads((OLD / "progress_killed_resumed.dataset.json").read_text())
    run(dataset, path, lambda task: {"accepted": True, "tests": []})
    df = load(path)
    assert df["index"].notna().all()
    pd.testing.assert_frame_equal(load(path), df)
    pd.testing.assert_frame_equal(afresh(path), df)


def test_a_damaged_cache_is_no_cache(old):
    path = old("progress_complete")
    whole = load(path)
    (part,) = parts(path)
    data = part.read_bytes()
    rng = random.Random(3)
    places = [0, 5, 14, 30, 60, 200, len(data) // 2, len(data) - 1, *(rng.randrange(len(data)) for _ in range(40))]
    for at in places:
        part.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        pd.testing.assert_frame_equal(load(path), whole)
        (other,) = parts(path)
        assert other != part, "what can't be used is replaced"
        other.unlink()
    for cut in (0, 1, 40, len(data) - 1):
        part.write_bytes(data[:cut])
        pd.testing.assert_frame_equal(load(path), whole)
    part.write_bytes(b"nbrun-rows/3 00000000 2 0\n{}\n")
    pd.testing.assert_frame_equal(load(path), whole)


PEAK = """
import resource, sys
import nbrun, pandas
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
df = nbrun.load_results(sys.argv[1])
print(len(df), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss")
@pytest.mark.parametrize("value", [lambda i: f"{i:04}" * 2**20, lambda i: [f"{i:04}" * 2**10] * 2**10])
def test_long_results_are_in_memory_once(tmp_path, value):
    """Results of 4 MB each, as text and nested: reading them, and taking them from the cache."""
    run([{"id": f"s{i:02}", "items": [i]} for i in range(16)], tmp_path / "r", lambda task: {"x": value(task.item)},
        groups={"g": "items"})  # fmt: skip
    for way in ("read", "from the cache"):
        done = subprocess.run([sys.executable, "-c", PEAK, tmp_path / "r"], capture_output=True, text=True, timeout=60)
        rows, kilobytes = map(int, done.stdout.split())
        assert rows == 16
        assert kilobytes < 2 * 16 * 2**12, f"{way}: {kilobytes / 16 / 2**12:.2f} times the results"
    nbrun.load_results(tmp_path / "r")
    assert parts(tmp_path / "r")


def test_chunks_from_a_cache_share_no_values(tmp_path):
    """Rows of different chunks may have the same text in the cache."""
    run([{"id": f"s{i}", "items": [i]} for i in range(6)], tmp_path / "r", lambda task: {"x": [1, {"a": 2}]},
        groups={"g": "items"})  # fmt: skip
    nbrun.load_results(tmp_path / "r")
    loader = Loader(tmp_path / "r")
    frames = [to_frame(table.take(rows)) for table, rows in loader.strides(1)]
    assert [x for df in frames for x in df.x] == [[1, {"a": 2}]] * 6
    assert len(frames) == 6


def test_where_no_cache_can_be_written_none_is(old):
    path = old("progress_complete")
    (path / ".nbrun").mkdir()
    (path / ".nbrun" / "cache").write_text("a file where the folder would be")
    assert len(load(path)) > 0
    assert (path / ".nbrun" / "cache").read_text().startswith("a file")
    if os.getuid():  # root may write anywhere
        shutil.rmtree(path / ".nbrun")
        path.chmod(0o555)
        assert len(load(path)) > 0


def test_journal_and_cache_together(gate, tmp_path):
    """While a run goes on, files of finished samples come from the cache and the rest from the journal."""
    run(PROBLEMS[:1], tmp_path)
    load(tmp_path)
    live = nbrun.start(
        [PROBLEMS[0], problem("p9", ["Accepted"] * 4, [])],
        gate,
        tmp_path,
        workers=2,
        retry=None,
        view=None,
        replace=True,
    )
    gate.passes.release(4)
    live.wait(60)
    df = load(tmp_path)
    assert len(df[df.sample_id == "p9"]) == 4
    assert len(df[df.sample_id == "p1"]) == 5
    pd.testing.assert_frame_equal(df, afresh(tmp_path))


def test_helpers_read_what_one_process_reads(old, monkeypatch, tuning, tmp_path):
    path = old("progress_complete")
    alone = afresh(path)
    python = sys.executable
    tuning(bytes_a_helper=1, min_batch_bytes=1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    pd.testing.assert_frame_equal(afresh(path), alone)
    assert len(started) == 2
    assert all(p.poll() is not None for p in started), "left behind"
    monkeypatch.setattr(sys, "executable", "/bin/false")  # helpers that die at once
    pd.testing.assert_frame_equal(afresh(path), alone)
    monkeypatch.setattr(sys, "executable", "/bin/yes")  # helpers that talk nonsense
    pd.testing.assert_frame_equal(afresh(path), alone)
    dying = tmp_path / "dying"
    dying.write_text(f'#!/bin/sh\nhead -n 1 | {python} "$@"\n')
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))  # helpers that end after their first batch
    pd.testing.assert_frame_equal(afresh(path), alone)


def test_a_script_without_a_main_guard_runs_once(old, tmp_path):
    path = old("progress_complete")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, nbrun\nfrom nbrun.tuning import TUNING\nTUNING.bytes_a_helper = TUNING.min_batch_bytes = 1\n"
        f"os.sched_getaffinity = lambda pid: {{0, 1, 2}}\nprint(len(nbrun.load_results({str(path)!r})))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(len(afresh(path)))], done.stderr


#: What is made of the golden files. If this test fails because the rules for rows, or the layout of a pack, changed on
#: purpose, raise rows.ROWS_VERSION (or users' caches keep what the old rules made) and put the new digest here.
GOLDEN_ROWS = (4, "6b8bdf7561e8538b")
GOLDEN_FILE = b"""{
"format": "nbrun/1",
"id": "golden",
"solution_result": [
{"index":0,"key":"k1:00112233445566778899aabbccddeeff","occurrence":0,"seq":1,"status":"done","item":{"q":1},"result":{"accepted":true,"verdict":"Accepted","tests":[{"passed":true,"exec_info":{"run_result":{"execution_time":0.5}}}],"extra":{},"n":1},"attempts":1,"started_at":5.0,"duration_s":0.5,"run_id":"r","context":"c1:","worker_id":"w","api_used":"u"},
{"index":1,"key":"k1:00112233445566778899aabbccddeef0","occurrence":0,"seq":2,"status":"error","item":2,"result":null,"attempts":3,"started_at":5.0,"duration_s":0.5,"error":{"type":"ValueError","message":"no","traceback":""},"run_id":"r","context":"c1:","worker_id":"w","api_used":""},
{"index":2,"key":"k1:00112233445566778899aabbccddeef1","occurrence":0,"seq":3,"status":"done","item":2,"result":{"n":18446744073709551617,"deep":[1,{"a":null}],"status":"mine","verdict":5,"tests":3,"x":{"$float":"nan"},"none":null},"attempts":1,"started_at":5.0,"duration_s":0.5,"run_id":"r","context":"c1:","worker_id":"w","api_used":""},
{"index":null,"key":"k1:00112233445566778899aabbccddeef2","occurrence":1,"seq":4,"status":"done","language":"PYTHON3","solution":"s","result":{"accepted":false,"n":0.5},"attempts":1,"started_at":5.0,"duration_s":0.5,"run_id":"r","context":"c1:","worker_id":"w","api_used":""}
],
"api_used": "u",
"worker_id": "w",
"summary": {},
"progress": {"completed_solutions": 3, "total_solutions": 3, "is_complete": true}
}
"""


def test_rows_version_is_raised_when_rows_change(tmp_path):
    (tmp_path / "golden.json").write_bytes(GOLDEN_FILE)
    names = ["golden.json"]
    for name in ("progress_complete", "old_complete"):
        source = min((OLD / name).glob("*.json"))
        shutil.copy(source, tmp_path / f"{name}.json")
        names.append(f"{name}.json")
    reader = FileReader(str(tmp_path))
    for name in names:
        reader.read(name, None)
    for record in reader.files:
        assert record["problem"] is None
        record["ident"] = None
    data = b"".join(reader.pack().to_parts())
    data = data[data.index(b"\n") :]  # what follows the version
    data += " ".join(sorted(RESERVED)).encode()  # a result's key of such a name is kept as `result_<key>`
    assert set(DTYPES) <= RESERVED
    assert (ROWS_VERSION, hashlib.blake2b(data, digest_size=8).hexdigest()) == GOLDEN_ROWS
