"""Samples of which all results are handed over at once go straight to their files: the same promises hold."""

import collections
import errno
import itertools
import os
import random
import re
import threading
import time
from pathlib import Path

import kills
import pytest
from power_cuts import Job, check_end, check_saved, crash_everywhere, make_samples, run_on, saved
from simulated_disk import SimulatedDisk

import nbrun
from nbrun.results.format import name_of
from nbrun.results.replay import Attempt
from nbrun.samples import SampleReader
from nbrun.storage import compactor, entry, files, journal
from nbrun.storage.sample_state import SampleState
from nbrun.tuning import TUNING
from tests.waiting import until


@pytest.fixture
def at_once(monkeypatch, tuning):
    """Small samples are handed over whole. Returns the names of the files that were written past the journal."""
    names = []
    settle = journal.DirectFile.acknowledge

    def noted(file):
        names.append(file.state.name)
        settle(file)

    monkeypatch.setattr(journal.DirectFile, "acknowledge", noted)
    tuning(direct_from=2, direct_slow_s=60.0, min_batch_tasks=100)
    return names


def job_of(samples, workers=1):
    job = Job(make_samples(samples))
    job.options = {"workers": workers}
    return job


def test_the_power_is_cut_at_every_operation(tmp_path, at_once):
    """Some of the samples go straight to files, and some, whose tasks are shared out, through the journal."""
    seed = int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6))
    assert crash_everywhere(job_of(4), lambda path: None, tmp_path, seed) > 20
    assert at_once


@pytest.mark.parametrize(
    ("number", "operations"),
    [(errno.ENOSPC, {"create", "write", "rename"}), (errno.EIO, {"fsync", "fsync-folder"})],
    ids=["no space", "an I/O error on fsync"],
)
def test_f8_the_disk_refuses_at_every_operation(number, operations, tmp_path, at_once):
    """Each refusal pauses the run; once resumed, all is saved, and nothing ran twice."""
    job = job_of(4)
    k = paused = 0
    while True:
        k += 1
        seen = []

        def refuse(count, operation, path, seen=seen, k=k):
            if operation in operations:
                seen.append(count)
            return number if len(seen) == k and seen[-1] == count else None

        at = tmp_path / f"at{k}"
        nbrun.start([], job.fn(0), at, groups=["solution"], view=None).wait(60)  # its folders are there
        disk = SimulatedDisk(at, random.Random(k), refuse=refuse)
        with disk.under():
            try:
                run = job.start(at)
            except nbrun.errors.StorageError:
                continue  # it was the opening that was refused
            while not run.progress.ended:
                until(lambda run=run: run.progress.ended or run.progress.state == "paused")
                if run.progress.state == "paused":
                    paused += 1
                    run.resume()
            assert run.wait(60).state == "done"
        check_end(job, at)
        assert len(job.ran) == len(job.identities())
        disk.power_cut(tmp_path / f"after{k}", "lost")
        check_saved(job, tmp_path / f"after{k}", disk.acknowledged)
        if len(seen) < k:
            break
    assert paused > 3
    assert at_once


def test_what_is_reported_as_saved_survives_a_power_cut(tmp_path, at_once, monkeypatch):
    """At the moment when results begin to count as saved, the disk holds them, under their names."""
    disk = SimulatedDisk(tmp_path / "r", random.Random(0))
    there = {}
    settle = journal.DirectFile.acknowledge

    def settled(file):
        if not disk.died.is_set():
            disk.power_cut(tmp_path / "after", "lost")
            there[file.state.sample_id] = file.state.total
        settle(file)

    monkeypatch.setattr(journal.DirectFile, "acknowledge", settled)
    assert run_on(disk, job_of(4), tmp_path / "r") is None, "the disk died under it"
    assert there
    now = collections.Counter(identity[0] for identity in saved(tmp_path / "after"))
    assert there.items() <= now.items()


RENAMES = {
    "this system's": files.load_renameat2,
    "none": lambda: None,
    "none on this disk": lambda: lambda old, old_fd, new, new_fd: errno.EINVAL,
}


@pytest.mark.parametrize("moment", ["write", "rename"])
@pytest.mark.parametrize("rename", RENAMES)
def test_a_file_that_another_program_puts_there_meanwhile_is_read_before_it_is_replaced(
    moment, rename, tmp_path, at_once, monkeypatch
):
    """It appears after the sample's own file was written, and before that file gets its name."""
    monkeypatch.setattr(files, "load_renameat2", RENAMES[rename])

    def run(path, items):
        samples = [{"id": "s", "solutions": items}]
        return nbrun.start(samples, lambda task: {"of": str(path)}, path, workers=1, view=None).wait(60)

    run(tmp_path / "other", ["a", "b", "gone"])
    other = (tmp_path / "other" / name_of("s")).read_bytes()
    put = []

    def hook(operation, path):
        if operation == moment and (moment == "rename" or Path(path).parent.name == "tmp") and not put:
            put.append((tmp_path / "r" / name_of("s")).write_bytes(other))

    del at_once[:]
    with files.observe(hook):
        assert run(tmp_path / "r", ["a", "b"]).saved == 2
    assert put
    assert not at_once, "it would have replaced that file"
    text = (tmp_path / "r" / name_of("s")).read_text()
    assert all(text.count(f'"item":"{item}"') == 1 for item in ("a", "b", "gone"))
    assert str(tmp_path / "other") in text


def test_no_other_thread_writes_a_sample_meanwhile(tmp_path, at_once, monkeypatch, tuning):
    """A sample ended and its results are not saved yet: the search for files to rewrite leaves it alone."""
    tuning(stale_s=0.0, cost_ratio=0.0, stale_look_s=0.001)
    looks = threading.Semaphore(0)
    look = compactor.Compactor._look_for_stale

    def looked(self):
        look(self)
        looks.release()

    monkeypatch.setattr(compactor.Compactor, "_look_for_stale", looked)

    def hold(operation, path):
        if operation == "fsync" and path.endswith(".json.tmp") and threading.current_thread().name == "nbrun-journal":
            while looks.acquire(blocking=False):
                pass
            for _ in range(5):
                assert looks.acquire(timeout=60)

    job = job_of(6)
    with files.observe(hold):
        assert job.start(tmp_path / "r").wait(60).state == "done"
    check_end(job, tmp_path / "r")
    assert at_once


def test_a_slow_disk_is_spared(tmp_path, at_once, monkeypatch, tuning):
    """After a commit whose files took long the next ones go through the journal, where one fsync serves them all."""
    tuning(direct_slow_s=-1.0)
    was_slow = threading.Event()
    put = journal.DirectWriter.put

    def noted(self, made):
        taken = put(self, made)
        if made:
            was_slow.set()
        return taken

    monkeypatch.setattr(journal.DirectWriter, "put", noted)
    late = [{**sample, "id": f"late/{n}"} for n, sample in enumerate(make_samples(6))]

    def samples():
        for n, sample in enumerate(itertools.cycle(make_samples(1))):
            if was_slow.is_set():
                break
            yield {**sample, "id": f"early/{n}"}
        yield from late

    progress = nbrun.start(samples(), lambda task: {"v": task.index}, tmp_path / "r", workers=1, view=None).wait(60)
    assert progress.state == "done"
    assert at_once
    assert not set(at_once) & {name_of(sample["id"]) for sample in late}
    assert bool(nbrun.load_samples(tmp_path / "r").is_complete.all())


def test_a_disk_that_stays_slow_is_tried_ever_more_rarely(tmp_path, monkeypatch, tuning):
    """One that was slow once is tried again soon: it writes directly most of the time."""
    monkeypatch.setattr(journal, "is_whole_sample", lambda state, records, size: True)
    writer = journal.DirectWriter(tmp_path)

    class File:
        def sync(self):
            """Nothing to make durable."""

        def put(self):
            """Nothing to rename."""

    def direct_writes(commits):
        count = 0
        for _ in range(commits):
            made = [File()] if writer.accepts(None, [], 0) else []
            writer.put(made)
            count += len(made)
        return count

    tuning(direct_slow_s=-1.0)
    assert direct_writes(12) == 2
    assert direct_writes(1000) == 11
    tuning(direct_slow_s=60.0)
    assert direct_writes(200) >= 100
    tuning(direct_slow_s=-1.0)
    assert direct_writes(12) == 2


def test_a_file_that_cannot_be_made_goes_through_the_journal(tmp_path, at_once):
    """Nothing is reported unless the journal's thread fails on the same disk, too."""
    refused = []

    def refuse(operation, path):
        name = threading.current_thread().name
        if operation == "write" and name.startswith("nbrun-worker") and not refused:
            refused.append(path)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    job = job_of(12)
    with files.observe(refuse):
        progress = job.start(tmp_path / "r").wait(60)
    assert refused
    assert (progress.state, progress.saved) == ("done", 48)
    assert at_once
    check_end(job, tmp_path / "r")


def test_a_file_system_that_takes_no_advice_costs_nothing(tmp_path, at_once, monkeypatch):
    """Asking the disk to begin early is advice; the fsync that follows is what counts."""
    asked = []

    def refuse(fd, *range_and_advice):
        asked.append(fd)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    job = job_of(12)
    assert job.start(tmp_path / "r").wait(60).saved == 48
    assert len(at_once) == len(asked) > 0
    check_end(job, tmp_path / "r")


def test_which_samples_are_whole():
    """All of it, once each, and no error; not too many bytes; nothing known of it before."""
    sample = SampleReader({"solution": "solutions"}).read({"id": "s", "solutions": list(range(60))}, 0)

    def is_whole(positions, pad=1, failed=(), attempts=()):
        state = SampleState(sample, "s.json")
        state.attempts.update(attempts)
        made = {"type": "E", "message": "", "traceback": ""}
        records = [
            entry.encode(state, p, p, None if p in failed else {"pad": "x" * pad}, 1, 0.0, 0.0, "w",
                         made if p in failed else None)
            for p in positions
        ]  # fmt: skip
        return journal.is_whole_sample(state, records, sum(len(r[3]) for r in records))

    assert is_whole(range(60))
    assert is_whole(range(59, -1, -1))
    assert not is_whole(range(59))
    assert not is_whole([*range(59), 0]), "one twice, and one missing"
    assert not is_whole(range(60), failed={7})
    assert not is_whole(range(60), pad=100_000), "a large one is not joined in memory"
    assert not is_whole(range(60), attempts={3: Attempt(1, {}, None)}), "the journal holds what it left"


@pytest.mark.long
def test_kills_among_tiny_tasks(monkeypatch):
    """SIGKILL and power cuts while whole samples are saved at a time."""
    monkeypatch.setattr(kills, "TASKS", 60)
    figures = kills.main(
        15, int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6)), samples=2500, longest_s=2e-5,
        again_a_kill=2 * TUNING.max_unsaved,
    )  # fmt: skip
    assert figures["kills"] >= 5
    assert figures["tasks"] == 150_000


def test_the_file_is_the_one_that_would_have_been_made(tmp_path, at_once, tuning):
    """Past the journal or through it, the same bytes but for times and numbers."""
    differing = re.compile(r'"(seq|started_at|duration_s|max_seq|check|run_id|runs)":("[^"]*"|\{[^}]*\}|[0-9.e-]+)')

    def text(path: Path) -> str:
        return differing.sub("", path.read_text())

    job = job_of(4)
    job.fn = lambda generation: lambda task: {"v": task.index, "verdict": "Accepted"}
    for name in ("straight", "journaled"):
        tuning(direct_from=2 if name == "straight" else 10**9)
        assert nbrun.start(job.samples, job.fn(1), tmp_path / name, workers=1, view=None).wait(60).state == "done"
    assert at_once
    names = sorted(p.name for p in (tmp_path / "straight").glob("*.json"))
    assert len(names) == 4
    for name in names:
        assert text(tmp_path / "straight" / name) == text(tmp_path / "journaled" / name)


def test_a_write_that_stops_short_is_gone_on_with(tmp_path, monkeypatch):
    """The system may write less than it was given, anywhere; and 2,500 pieces are more than it takes at once."""

    class Short:
        def __getattr__(self, name):
            return getattr(os, name)

        def writev(self, fd, pieces):
            return os.write(fd, b"".join(pieces)[:701])

        def write(self, fd, data):
            return os.write(fd, data[:97])

    monkeypatch.setattr(files, "os", Short())
    pieces = [b"%d," % n for n in range(2500)]
    files.replace_file(tmp_path / "f", pieces, tmp_path / "f.tmp")
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)


def test_what_comes_piece_by_piece_is_not_gathered(tmp_path):
    """A sample of many gigabytes passes through memory a piece at a time."""
    beside = tmp_path / "f.tmp"

    def pieces():
        for n in range(5):
            yield b"x" * 1000
            assert beside.stat().st_size == 1000 * (n + 1)

    files.replace_file(tmp_path / "f", pieces(), beside)
    assert (tmp_path / "f").stat().st_size == 5000
