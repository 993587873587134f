"""A large sample's file: what is new in it is read and written, the rest is copied; and no result is lost by that."""

import collections
import itertools
import json
import os
import random
import shutil
import threading
import time
from zlib import crc32

import pytest

import nbrun
from nbrun.results import sample_file
from nbrun.storage import compactor, sample_state


@pytest.fixture(autouse=True)
def _small(tuning):
    """A dozen entries are a large sample."""
    tuning(index_from=1, index_block=4, copy_bytes=700, max_hex_keys=3)


class Job:
    """One sample whose items change from run to run; what ran, and what was returned last for each item."""

    def __init__(self, path):
        self.path = path
        self.ran = collections.Counter()
        self.last = {}
        self.number = 0
        self.fails = set()

    def run(self, solutions, incorrect=(), **options):
        self.number += 1
        self.ran.clear()
        options = {"workers": 2, "retry": None, "view": None, "settings": {}} | options
        return nbrun.start(
            [{"id": "big", "solutions": list(solutions), "incorrect_solutions": list(incorrect)}],
            self._fn,
            self.path,
            **options,
        ).wait(60)

    def run_twice(self, solutions, incorrect=()):
        """A sample whose results came all at once has no index; it gets one when its file is written again."""
        self.run(solutions[:-1], incorrect)
        self.run(solutions, incorrect)
        assert index_of(self.path)

    def _fn(self, task):
        self.ran[task.group, task.item] += 1
        if task.item in self.fails:
            raise ValueError("no")
        self.last.setdefault((task.group, task.item), set()).add(self.number)
        return {"n": self.number, "accepted": self.number % 2 == 0, "pad": "x" * (7 * task.index % 90)}


def file_of(path):
    [file] = path.glob("*.json")
    return file


def index_of(path):
    [file] = (path / ".nbrun" / "cache").glob("*.index")
    return file


def in_order(path):
    """The entries of the file by group, whose summary and order are right."""
    value = json.loads(file_of(path).read_bytes())
    counts = sample_file.EntryCounts()
    groups = {}
    for group in ("solution", "incorrect_solution"):
        groups[group] = value[f"{group}_result"]
        places = [e["index"] for e in groups[group]]
        assert places == sorted(places, key=lambda i: (i is None, i or 0)), "not in order"
        for entry in groups[group]:
            counts.add(group, entry)
    wanted = counts.summary(groups, value["summary"]["identities"])
    value["summary"].pop("check")
    assert value["summary"] == wanted | {"max_seq": value["summary"]["max_seq"]}
    for group in groups:
        assert value["progress"][f"completed_{group}s"] == counts.done[group]
    assert nbrun.check(path).is_ok
    return groups


def check(job, solutions, incorrect):
    """Every item has one result, which is one that was returned for it; none ran twice."""
    groups = in_order(job.path)
    for group, items in (("solution", solutions), ("incorrect_solution", incorrect)):
        placed = [e for e in groups[group] if e["index"] is not None]
        assert [e["index"] for e in placed] == list(range(len(items)))
        assert [e["item"] for e in placed] == list(items)
        for entry in placed:
            if entry["status"] == "done":
                assert entry["result"]["n"] in job.last[group, entry["item"]]
    frame = nbrun.load_results(job.path)
    assert len(frame) == len(solutions) + len(incorrect)


@pytest.mark.parametrize("round_", range(6))
def test_items_come_go_and_change_places(tmp_path, round_):
    """Against the truth, with the index and without it."""
    seed = int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6)) + round_
    print("NBRUN_SEED", seed)
    rng = random.Random(seed)
    job = Job(tmp_path / "r")
    solutions, incorrect = [f"s{i}" for i in range(rng.choice([3, 9, 16]))], ["w0", "w0", "w1"]
    job.run(solutions, incorrect)
    for step in range(7):
        new = [f"s{step}-{i}" for i in range(rng.randrange(6))]
        match rng.choice(["append", "append", "insert", "remove", "shuffle", "double", "other", "redo", "errors"]):
            case "append":
                solutions = solutions + new
            case "insert":
                at = rng.randrange(len(solutions) + 1)
                solutions = solutions[:at] + new + solutions[at:]
            case "remove" if len(solutions) > 2:
                del solutions[rng.randrange(len(solutions))]
            case "shuffle":
                rng.shuffle(solutions)
            case "double":
                solutions = [*solutions, rng.choice(solutions)]
            case "other":
                incorrect = [*incorrect, f"w{step}"]
            case "redo":
                frame = nbrun.load_results(job.path)
                chosen = frame[frame["index"].isin(rng.sample(range(len(solutions)), 2)) & (frame.group == "solution")]
                wanted = collections.Counter(solutions[i] for i in chosen["index"])
                job.run(solutions, incorrect, redo=chosen)
                assert collections.Counter({i: n for (_, i), n in job.ran.items()}) >= wanted
                check(job, solutions, incorrect)
                continue
            case "errors":
                job.fails = set(new)
                solutions = solutions + new
                job.run(solutions, incorrect)
                assert {i for _, i in job.ran} == set(new)
                job.fails = set()
        if rng.random() < 0.2:
            shutil.rmtree(job.path / ".nbrun" / "cache", ignore_errors=True)
        before = {
            (g, e["key"], e["occurrence"]) for g, es in in_order(job.path).items() for e in es if e["status"] == "done"
        }
        job.run(solutions, incorrect)
        missing = collections.Counter()
        for group, items in (("solution", solutions), ("incorrect_solution", incorrect)):
            seen = collections.Counter()
            for item in items:
                identity = (group, nbrun.canonical.key_text(nbrun.canonical.digest(item)), seen[item])
                seen[item] += 1
                missing[group, item] += identity not in before
        assert job.ran == +missing
        check(job, solutions, incorrect)


def test_what_is_new_is_read_and_written(tmp_path, monkeypatch, tuning):
    """Of 400 entries few are looked at when one is added."""
    job = Job(tmp_path / "r")
    items = [f"s{i}" for i in range(400)]
    job.run_twice(items, ["w"])
    looked = collections.Counter()
    for module, name in itertools.product((sample_file, sample_state, compactor), ("parse_entry", "head_of")):
        if not hasattr(module, name):
            continue
        real = getattr(module, name)

        def counting(*args, real=real, name=name):
            looked[name] += 1
            return real(*args)

        monkeypatch.setattr(module, name, counting)
    tuning(copy_bytes=1 << 20)
    job.run([*items, "one more"], ["w"])
    assert job.ran == {("solution", "one more"): 1}
    assert looked["parse_entry"] <= 6
    assert looked["head_of"] <= 20
    monkeypatch.undo()
    check(job, [*items, "one more"], ["w"])


@pytest.mark.parametrize("how", ["cut", "flipped", "of another file", "no pack", "empty", "a folder"])
def test_an_index_that_is_wrong_is_not_used(tmp_path, how):
    job, other = Job(tmp_path / "r"), Job(tmp_path / "other")
    items = [f"s{i}" for i in range(30)]
    job.run_twice(items)
    other.run_twice([f"o{i}" for i in range(30)])
    index = index_of(job.path)
    data = index.read_bytes()
    match how:
        case "cut":
            index.write_bytes(data[:-5])
        case "flipped":
            index.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
        case "of another file":
            shutil.copy(index_of(other.path), index)
        case "no pack":
            index.write_bytes(b"nbrun-index/1 zz 9\n{}")
        case "empty":
            index.write_bytes(b"")
        case "a folder":
            index.unlink()
            index.mkdir()
    job.run([*items, "new"])
    assert job.ran == {("solution", "new"): 1}
    check(job, [*items, "new"], [])


@pytest.mark.parametrize("change", ["status", "length", "offset", "makers"])
def test_a_wrong_index_costs_no_result(tmp_path, change):
    """Its checksum is right: a directory may come from anybody."""
    job = Job(tmp_path / "r")
    items = [f"s{i}" for i in range(32)]
    job.run_twice(items)
    index = index_of(job.path)
    _, _, parts = index.read_bytes().partition(b"\n")
    head, _, rest = parts.partition(b"\n")
    header, body = json.loads(head), bytearray(rest)
    match change:
        case "status":
            body[3] = 7
        case "length":
            at = 32 + 32 * 4  # of the narrow columns of lengths
            body[at] ^= 1
            body[at + 4] ^= 1
        case "offset":
            header["groups"][0][2] += 5
        case "makers":
            header["makers"] = [[1, 2, 3]]
    head = sample_file.dump(header)
    content = head + b"\n" + bytes(body)
    index.write_bytes(b"nbrun-index/1 %08x %d\n" % (crc32(content), len(head)) + content)
    job.run([*items, "new"])
    assert job.ran["solution", "new"] == 1
    check(job, [*items, "new"], [])


def test_a_damaged_entry_is_found_and_made_again(tmp_path):
    """One byte of a copied entry changes between two runs: the size and the last lines are the same."""
    job = Job(tmp_path / "r")
    items = [f"s{i}" for i in range(30)]
    job.run_twice(items)
    file = file_of(job.path)
    data = file.read_bytes()
    at = data.index(b'"item":"s11"')
    file.write_bytes(data[:at] + b"\0" + data[at + 1 :])
    job.run([*items, "new"])
    assert job.ran == {("solution", "s11"): 1, ("solution", "new"): 1}
    assert list((job.path / ".nbrun" / "damaged").iterdir())
    check(job, [*items, "new"], [])


def test_a_file_that_changes_during_the_run_is_not_copied_blindly(tmp_path):
    """Its inode, size and times are the same as before: its CRC-32 isn't."""
    job = Job(tmp_path / "r")
    items = [f"s{i}" for i in range(30)]
    job.run_twice(items)
    began, go_on = threading.Event(), threading.Event()

    def fn(task):
        began.set()
        assert go_on.wait(60)
        return {"n": 2}

    fn.settings = {}
    run = nbrun.start([{"id": "big", "solutions": [*items, "new"]}], fn, job.path, view=None)
    assert began.wait(60)
    file = file_of(job.path)
    stat = file.stat()
    data = file.read_bytes()
    at = data.index(b'"item":"s11"')
    with open(file, "r+b") as f:
        f.seek(at)
        f.write(b"\0")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    go_on.set()
    run.wait(60)
    assert [e["index"] for e in in_order(job.path)["solution"]] == [*range(11), *range(12, 31)]
    assert len(list((job.path / ".nbrun" / "damaged").iterdir())) == 1
    job.run([*items, "new"])
    assert job.ran == {("solution", "s11"): 1}


def test_keys_of_a_large_group_are_the_same(tmp_path):
    keys = b"".join(bytes([i]) * 16 for i in range(5))
    assert list(sample_state._HexKeys(keys)) == keys.hex(" ", 16).encode().split()
