"""Logs cut after any number of bytes, and logs with flipped bytes: a prefix, or all but what was touched (F2, F3)."""

import os
import random
import shutil
import warnings

import pytest
from power_cuts import Job, check_end, make_samples, run_on, saved
from simulated_disk import SimulatedDisk

from nbrun.results.format import ENTRY, RUN
from nbrun.results.replay import LogScan, index_journal, read_log
from nbrun.storage.directory import RecordLog
from nbrun.storage.store import ResultStore


def only_a_journal(job, tmp_path):
    """A directory whose results stand in one segment and in no file."""
    work = tmp_path / "work"
    disk = SimulatedDisk(work, random.Random(0), die_at=lambda disk: len(disk.acknowledged) == len(job.identities()))
    run_on(disk, job, work)
    disk.power_cut(tmp_path / "journal", "lost")
    for file in (tmp_path / "journal").glob("*.json"):
        file.unlink()
    [segment] = (tmp_path / "journal" / ".nbrun").glob("journal-*")
    return tmp_path / "journal", segment


def test_f3_every_length_gives_a_prefix(tmp_path):
    _, segment = only_a_journal(Job(make_samples(2)), tmp_path)
    data = segment.read_bytes()
    records = list(read_log(segment))
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    assert len(records) == len(ends) == 10
    cut = tmp_path / "cut"
    for n in range(len(data) + 1):
        cut.write_bytes(data[:n])
        scan = LogScan()
        whole = sum(end <= n for end in ends)
        assert list(read_log(cut, scan)) == records[:whole]
        assert scan.good_bytes == max([0, *ends[:whole]])
        assert scan.damaged == []


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)])
def test_f3_a_torn_tail_is_cut_before_append(tmp_path, step):
    """For every length: open, append, die, load, open again: the prefix and what was appended.

    By default for every seventh, and for those around the ends of records.
    """
    job = Job([{"id": "s", "solutions": ["a"], "incorrect_solutions": []}])
    job.options = {"keep_items": False, "workers": 1}
    whole, segment = only_a_journal(job, tmp_path)
    data = segment.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    assert len(ends) == 2  # a header and an entry
    for n in sorted({*range(0, len(data), step), *(n for end in (0, *ends) for n in (end - 1, end, end + 1))}):
        if not 0 <= n <= len(data):
            continue
        at, after = tmp_path / f"at{n}", tmp_path / f"after{n}"
        shutil.copytree(whole, at)
        (at / ".nbrun" / segment.name).write_bytes(data[:n])
        assert len(saved(at)) == (n == len(data))
        job.samples = [{"id": "other", "solutions": ["c"], "incorrect_solutions": []}]
        disk = SimulatedDisk(at, random.Random(n), die_at=lambda disk: len(disk.acknowledged) == 1)
        run_on(disk, job, at)
        disk.power_cut(after, "lost")
        assert len(saved(after)) == 1 + (n == len(data))
        ResultStore(after, {"run_id": "last"}).close(10)
        assert len(saved(after)) == 1 + (n == len(data))
        assert not os.path.exists(after / ".nbrun" / "damaged" / f"{segment.name}.0")
        shutil.rmtree(at)
        shutil.rmtree(after)


def test_f3_the_small_logs_are_cut_too(tmp_path):
    path = tmp_path / "runs.log"
    log = RecordLog(path, RUN)
    log.append({"run_id": "a"})
    log.append({"run_id": "b", "x": 1})
    log.close()
    data = path.read_bytes()
    for n in range(len(data) + 1):
        path.write_bytes(data[:n])
        log = RecordLog(path, RUN)
        whole = data[:n].count(b"\n")
        assert [r["run_id"] for r in log.read()] == ["a", "b"][:whole]
        log.append({"run_id": "c"})
        log.append({"run_id": "d"})
        log.close()
        assert [r["run_id"] for r in RecordLog(path, RUN).read()] == [*["a", "b"][:whole], "c", "d"]


@pytest.mark.parametrize("seed", range(25))
def test_f2_flipped_bytes_cost_only_the_records_they_touch(seed, tmp_path):
    rng = random.Random(seed)
    job = Job(make_samples(3))
    at, segment = only_a_journal(job, tmp_path)
    data = bytearray(segment.read_bytes())
    lines = []
    start = 0
    for line in bytes(data).splitlines(keepends=True):
        lines.append((start, start + len(line)))
        start += len(line)
    before = saved(at)
    records = [r for r in read_log(segment) if r.kind == ENTRY]
    touched = set()
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        touched.add(next(i for i, (a, b) in enumerate(lines) if a <= place < b))
        if place + 1 in {b for _, b in lines}:  # its line feed: the next record hangs on to it
            touched.add(min(len(lines) - 1, next(i for i, (a, b) in enumerate(lines) if b == place + 1) + 1))
    segment.write_bytes(data)
    left = [r for r in records if not any(a <= r.offset < b for a, b in (lines[i] for i in touched))]
    now = saved(at)
    assert len(now) >= len(left)
    assert all(before[identity] == value for identity, value in now.items())
    reported = index_journal(at / ".nbrun").damaged
    torn = touched == {len(lines) - 1} and not data.endswith(b"\n")
    assert reported or torn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = job.start(at)
        progress = run.wait(60)
        assert len(job.ran) == len(before) - len(now)
        check_end(job, at)
    if reported:
        assert ".nbrun/damaged/" in progress.message
        assert (at / ".nbrun" / "damaged" / f"{segment.name}.0").read_bytes() == bytes(data)
