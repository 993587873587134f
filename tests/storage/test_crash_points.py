"""The process dies, or the power is cut, at every durable operation: nothing saved is lost, nothing done runs again."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from power_cuts import Job, crash_everywhere, make_samples, run_on, saved
from simulated_disk import SimulatedDisk

import nbrun

pytestmark = pytest.mark.long

OLD = Path(__file__).parent.parent / "data" / "old"


@pytest.fixture
def seed():
    return int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6))


def half_done(job, path, seed, count, mode):
    """A directory that an earlier run left when it died with some results saved."""
    work = path.with_name("work")
    disk = SimulatedDisk(work, random.Random(seed), die_at=lambda disk: len(disk.acknowledged) >= count)
    run_on(disk, job, work)
    shutil.rmtree(path)
    disk.power_cut(path, mode)
    shutil.rmtree(work)
    known = {identity: seq for identity, (seq, _, _) in saved(path).items()}
    assert known, "the preparation saved nothing"
    return known


def test_first_run(tmp_path, seed):
    job = Job(make_samples(2))
    assert crash_everywhere(job, lambda path: None, tmp_path, seed) > 20


def test_resume_after_a_stop(tmp_path, seed):
    """The earlier run was stopped in order: one sample is done, one half, one not begun."""
    job = Job(make_samples())

    def prepare(path):
        whole = job.samples
        job.samples = [whole[0], {**whole[1], "solutions": ["a", "b"], "incorrect_solutions": []}]
        job.start(path).wait(60)
        job.samples = whole
        return {identity: seq for identity, (seq, _, _) in saved(path).items()}

    assert crash_everywhere(job, prepare, tmp_path, seed) > 15


@pytest.mark.parametrize("is_redone", [False, True])
def test_a_large_sample_grows(is_redone, tmp_path, seed, tuning):
    """What its file holds is copied piece by piece, by the index of the file: items are added, or some run again."""
    tuning(index_from=1, index_block=2, copy_bytes=300)
    job = Job([{**s, "solutions": list("abacdefgh"), "incorrect_solutions": list("xyz")} for s in make_samples(2)])
    redo = []

    def prepare(path):
        whole = job.samples
        for n in (4, 7):  # the second run writes the file from the first one, and its index
            job.samples = [{**s, "solutions": s["solutions"][:n]} for s in whole]
            job.start(path).wait(60)
        assert len(list((path / ".nbrun" / "cache").glob("*.index"))) == 2
        job.samples = whole
        if is_redone:
            frame = nbrun.load_results(path)
            redo.append(frame[frame["index"].isin([1, 4])])
        return {identity: seq for identity, (seq, _, _) in saved(path).items()}

    class Again(Job):
        def start(self, path, **options):
            return super().start(path, redo=redo[0] if redo and re.fullmatch(r"at\d+", path.name) else None, **options)

    job.__class__ = Again
    assert crash_everywhere(job, prepare, tmp_path, seed) > 15


def test_recovery_after_an_unclean_end(tmp_path, seed):
    """The run finds a journal, a torn tail, and no file or half of them."""
    job = Job(make_samples())
    assert crash_everywhere(job, lambda path: half_done(job, path, seed, 5, "mixed"), tmp_path, seed) > 15


def test_segments_rotate(tmp_path, seed, tuning):
    """Each commit gets a segment of its own, and files are rewritten while the run goes on."""
    tuning(segment_bytes=200, group_results=1, group_s=0.0, stale_s=0.0, cost_ratio=0.0, stale_look_s=0.0005)
    job = Job(make_samples(2))
    job.options = {"workers": 1}
    assert crash_everywhere(job, lambda path: None, tmp_path, seed, modes=("lost", "mixed")) > 20


@pytest.mark.parametrize("name", ["progress_killed_a", "old_complete"])
def test_an_old_directory_is_continued(name, tmp_path, seed):
    """Entries of the older program are matched, and only samples that change are rewritten."""
    import json

    job = Job([])
    languages = ["UNKNOWN_LANGUAGE", "PYTHON", "CPP", "PYTHON3", "JAVA"]
    for raw in json.loads((OLD / f"{name}.dataset.json").read_text())[:4]:
        sample = {"id": raw["id"]}
        for field in ("solutions", "incorrect_solutions"):
            pairs = zip(raw[field]["language"], raw[field]["solution"], strict=True)
            sample[field] = [{"language": languages[n], "solution": s} for n, s in pairs if n]
        sample["solutions"].append({"language": "PYTHON3", "solution": "print('new')"})
        job.samples.append(sample)
    wanted = {s["id"] for s in job.samples}

    def prepare(path):
        for file in (OLD / name).glob("*.json"):
            if json.loads(file.read_bytes())["id"] in wanted:
                shutil.copy(file, path)

    assert crash_everywhere(job, prepare, tmp_path, seed, modes=("lost", "mixed")) > 15


def test_redo(tmp_path, seed):
    """Done results run again; the old one counts until the new one is saved."""
    job = Job(make_samples(2))

    def prepare(path):
        job.start(path).wait(60)
        frame = nbrun.load_results(path)
        redo.append(frame[frame["index"] < 2])
        return {identity: seq for identity, (seq, _, _) in saved(path).items()}

    redo = []

    class Again(Job):
        def start(self, path, **options):
            return super().start(path, redo=redo[0] if re.fullmatch(r"at\d+", path.name) else None, **options)

    job.__class__ = Again
    crash_everywhere(job, prepare, tmp_path, seed)


@pytest.mark.parametrize("count", [1, 3])
def test_errors_and_attempts(count, tmp_path, seed, tuning):
    """Tasks that ended in errors or wait for another attempt: their hints survive.

    The earlier run dies after its first result (attempts of some tasks are all to come) or later, when some are saved.
    """
    job = Job(make_samples(2))
    job.options = {"retry": nbrun.RetryPolicy(attempts=2, delay_s=0.001)}
    if count == 1:
        job.options["workers"] = 1
        tuning(group_results=1, group_s=0.0)

    def failing(task, generation):
        if task.index == 0 and task.attempt < 3:
            raise nbrun.Retry("more", hint={"n": task.hint.get("n", 0) + 1})
        if task.index == 0:
            assert task.hint["n"] == task.attempt - 1
        if task.index == 1 and generation == 1:
            raise ValueError("an error of the first run")
        return

    job.failing = failing
    crash_everywhere(job, lambda path: half_done(job, path, seed, count, "kept"), tmp_path, seed)


def test_damaged_files_are_set_aside(tmp_path, seed):
    """A file cut short and one of garbage are kept aside; what can be read of them stays."""
    job = Job(make_samples())

    def prepare(path):
        job.start(path).wait(60)
        names = sorted(p for p in path.iterdir() if p.suffix == ".json")
        names[0].write_bytes(names[0].read_bytes()[:-300])
        names[1].write_bytes(b"\0" * 500)

    assert crash_everywhere(job, prepare, tmp_path, seed, modes=("lost", "mixed")) > 10


def test_an_attempt_that_was_saved_goes_on(tmp_path, seed):
    """Twice: from the journal of a run that died, then from what a run carried over that died too."""
    job = Job(make_samples(2))
    seen = []

    def failing(task, generation):
        if (task.sample_id, task.group, task.index) == ("s/0", "solution", 0):
            seen.append((generation, task.attempt, dict(task.hint), task.previous))
            if generation == 1:
                raise nbrun.Retry("later", 0.0 if task.attempt == 1 else 60.0, {"n": task.attempt}, {"p": task.attempt})

    job.failing = failing
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    disk = SimulatedDisk(first, random.Random(seed))
    run_on(disk, job, first, kill_when=lambda: disk.holds(b'"attempt":2'))
    disk.power_cut(second, "lost")
    disk = SimulatedDisk(second, random.Random(seed), die_at=lambda disk: disk.trace[-1][0] == "unlink")
    run_on(disk, job, second)  # dies when it removes the old segment: only what it carried over is left
    assert disk.died.is_set()
    seen.clear()
    disk.power_cut(third, "kept")
    job.start(third).wait(60)
    assert [s[1:] for s in seen] == [(3, {"n": 2}, {"p": 2})]


KILLED = """
import os, signal, sys, nbrun
from nbrun.storage import files
def fn(task):
    return {"v": f"{task.sample_id}:{task.index}"}
samples = [{"id": f"s/{i}", "solutions": ["a", "b", "a"]} for i in range(3)]
for line in sys.stdin:
    path, k = line.rstrip().rsplit(" ", 1)
    child = os.fork()
    if child == 0:
        left = [int(k)]
        def hook(operation, path):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        with files.observe(hook):
            nbrun.start(samples, fn, path, groups=["solution"], view=None).wait()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_real_kill_at_every_operation(tmp_path):
    """SIGKILL before the k-th operation; the same directory is run again and killed one operation later each time."""
    again = tmp_path / "again"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def run_to(path, k):
            server.stdin.write(f"{path} {k}\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        before, k, ended = set(), 0, 0
        while not ended:
            k += 1
            fresh = tmp_path / f"fresh{k}"
            assert run_to(again, k) in (0, -signal.SIGKILL)
            now = set(saved_values(again)) if again.exists() else set()
            assert before <= now, "a kill took what was saved"
            before = now
            ended = run_to(fresh, k) == 0
            had = set(saved_values(fresh)) if fresh.exists() else set()
            assert run_to(fresh, 10**9) == 0
            assert had <= set(saved_values(fresh))
            assert len(saved_values(fresh)) == 9
        server.stdin.close()
    assert k > 25
    assert len(saved_values(again)) == 9


def saved_values(path):
    """What is loaded, each once and as it was returned."""
    values = [(identity, value) for identity, (_, value, _) in saved(path).items()]
    assert len({value for _, value in values}) == len(values)
    return values
