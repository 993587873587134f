"""What crash tests share: a small job, a run of it on a simulated disk, and the truth to compare with."""

import collections
import os
import random
import shutil
import warnings

from simulated_disk import SimulatedDisk

import nbrun
from nbrun.canonical import digest, key_text
from nbrun.errors import NbrunError
from nbrun.results.reader import Reader
from nbrun.results.sample_file import OwnFile, Unreadable, load_entry, peek, read_any
from tests.waiting import until

DEADLINE_S = 60.0
GROUPS = ("solution", "incorrect_solution")


def make_samples(n=3):
    """Small, with two equal items in a group, and an id that needs another name."""
    return [
        {"id": f"s/{i}", "tests": [i], "solutions": ["a", "b", "a"], "incorrect_solutions": [f"x{i}"]} for i in range(n)
    ]


class Job:
    """A job whose results differ from run to run, so that it shows which one was kept.

    Attributes:
        returned: identity -> every value that ever was returned for it.
        ran: identities in the order in which they ran, since the last `start`; once for each attempt.
        attempts: (identity, attempt) in the same order.
    """

    def __init__(self, samples):
        self.samples = samples
        self.generation = 0
        self.returned = collections.defaultdict(set)
        self.ran = []
        self.attempts = []
        self.failing = lambda task, generation: None  # returns or raises instead of a result
        self.options = {}

    def identities(self):
        """(sample, group, key, occurrence) of every task."""
        out = {}
        for sample in self.samples:
            for group in GROUPS:
                seen = collections.Counter()
                for index, item in enumerate(sample[group + "s"]):
                    key = key_text(digest(item))
                    out[sample["id"], group, index] = (sample["id"], group, key[3:], seen[key])
                    seen[key] += 1
        return out

    def fn(self, generation):
        places = self.identities()

        def fn(task):
            identity = places[task.sample_id, task.group, task.index]
            self.ran.append(identity)
            self.attempts.append((identity, task.attempt))
            found = self.failing(task, generation)
            if found is not None:
                return found
            value = f"{generation}:{task.sample_id}:{task.group}:{task.index}"
            self.returned[identity].add(value)
            return {"v": value, "pad": "x" * (20 * task.index)}

        fn.settings = {"job": 1}
        return fn

    def start(self, path, **options):
        self.generation += 1
        self.ran, self.attempts = [], []
        options = {"workers": 2, "retry": None, "view": None, **self.options, **options}
        return nbrun.start(self.samples, self.fn(self.generation), path, **options)


def run_on(disk, job, path, kill_when=lambda: False, **options):
    """Runs until the end, the disk's death, or `kill_when()`. Returns the Progress of a run that ended."""
    with disk.under():
        try:
            run = job.start(path, **options)
        except (OSError, NbrunError):
            if not disk.died.is_set():
                raise
            return None
        until(lambda: run.progress.ended or disk.died.is_set() or run.progress.state == "paused" or kill_when())
        if kill_when():
            disk.die()
        progress = run.progress
        if not run.progress.ended:
            run.stop(drain=False)
            until(lambda: run.progress.ended)
            return None
        return progress


def saved(path):
    """identity -> (seq, value, status); what occurs twice fails the test."""
    out = {}
    if not os.path.isdir(path):
        return out
    for view in Reader(path).samples():
        for stored, body in view.entries:
            identity = (view.sample_id, stored.group, stored.key.hex(), stored.occurrence)
            assert identity not in out, f"{identity} occurs twice"
            result = load_entry(body)["result"]
            out[identity] = (stored.seq, result.get("v") if isinstance(result, dict) else None, stored.status)
    return out


def unmatched(path):
    """Identities of results that stand in files and had no item in the dataset when those were written."""
    out = set()
    for file in path.glob("*.json"):
        try:
            sample_id = peek(file).sample_id
        except Unreadable:
            continue
        with open(file, "rb") as lines:
            content = read_any(lines)
        heads = [h for h in content.heads if h.item_index is None] if isinstance(content, OwnFile) else []
        out |= {(sample_id, head.group, head.key.hex(), head.occurrence) for head in heads}
    return out


def check_saved(job, path, acknowledged):
    """Nothing that was acknowledged is lost, nothing is altered, nothing comes from nowhere. Returns what is there."""
    now = saved(path)
    for identity, seq in acknowledged.items():
        assert identity in now, f"{identity} was saved and is lost"
        assert now[identity][0] >= seq, f"{identity}: an older result came back"
    for identity, (_, value, status) in now.items():
        if status == "done" and value is not None:
            assert value in job.returned[identity], f"{identity} is altered: {value}"
    return now


def check_end(job, path):
    """Run to its end: every task once, with a value that it returned; the files alone are complete."""
    now = saved(path)
    assert sorted(now) == sorted(job.identities().values())
    assert all(status == "done" for _, _, status in now.values())
    assert not [n for n in os.listdir(os.path.join(path, ".nbrun")) if n.startswith("journal-")]
    assert os.listdir(os.path.join(path, ".nbrun", "tmp")) == []
    df = nbrun.load_results(path)
    assert len(df) == len(now)
    assert len(set(zip(df.sample_id.astype(str), df.group.astype(str), df["index"].astype(int), strict=True))) == len(
        now
    )
    assert bool(nbrun.load_samples(path).is_complete.all())


def crash_everywhere(job, prepare, tmp, seed, *, modes=("lost", "kept", "mixed"), step=1, **options):
    """Dies at the 1st, 2nd, 3rd … operation until a run passes untouched; after each, goes on, dies again, goes on.

    Args:
        prepare: makes the directory that the run finds, or returns None where there is none.
        step: try every step-th operation only.

    Returns:
        how many operations there were.
    """
    rng = random.Random(seed)
    print("seed", seed)
    pristine = tmp / "pristine"
    pristine.mkdir()
    known = prepare(pristine) or {}
    k = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while True:
            k += step
            at = tmp / f"at{k}"
            shutil.copytree(pristine, at)
            disk = SimulatedDisk(at, rng, die_at=k)
            disk.acknowledged.update(known)
            progress = run_on(disk, job, at, **options)
            if not disk.died.is_set():
                assert progress is not None
                assert progress.state == "done", progress.message
                check_end(job, at)
                return k
            for mode in modes:
                after = tmp / f"at{k}{mode}"
                disk.power_cut(after, mode)
                try:
                    _go_on(job, after, dict(disk.acknowledged), rng)
                except BaseException as e:
                    raise AssertionError(f"seed {seed}, died at {k} ({disk.trace[-1]}), {mode}: {e!r}") from e
                shutil.rmtree(after)
            shutil.rmtree(at)


def _go_on(job, path, acknowledged, rng):
    before = check_saved(job, path, acknowledged)
    disk = SimulatedDisk(path, rng, die_at=rng.randint(5, 40))
    disk.acknowledged.update(acknowledged)
    run_on(disk, job, path)
    _nothing_twice(job, before)
    again = path.with_name(path.name + "again")
    disk.power_cut(again, rng.choice(["lost", "mixed"]))
    before = check_saved(job, again, disk.acknowledged)
    disk = SimulatedDisk(again, rng)
    run_on(disk, job, again)
    assert not disk.died.is_set()
    _nothing_twice(job, before)
    check_end(job, again)
    shutil.rmtree(again)


def _nothing_twice(job, before):
    done = {identity for identity, (_, _, status) in before.items() if status == "done"}
    twice = done & set(job.ran)
    assert not twice, f"{len(twice)} ran again although they were saved"
    assert len(set(job.attempts)) == len(job.attempts), "an attempt ran twice within one run"
