"""Runs, stops, power cuts, redone results, loads, damage, repair and a second process in any order, against a dict."""

import errno
import json
import os
import random
import shutil
import tempfile
import threading
import warnings
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from power_cuts import DEADLINE_S, Job, check_end, run_on, saved, unmatched
from simulated_disk import SimulatedDisk

import nbrun
from nbrun.errors import ResultsInUseError, StorageError
from nbrun.storage.store import ResultStore
from tests.waiting import until

ITEMS = st.sampled_from(["a", "b", "c", {"language": "CPP", "solution": "x"}, 7, None])
SEEDS = NUMBERS = st.integers(0, 2**32)  # what is drawn must not hang on what the threads did, so numbers choose
#: Runs are this often as long in CI as here; set it to search longer.
EXAMPLES = int(os.environ.get("NBRUN_EXAMPLES", "25"))


class Results(RuleBasedStateMachine):
    """A results directory and what is known of it.

    `known`: identity -> seq of every result that is on the disk, orphans too; it must stay, and must not run again.
    """

    @initialize(seed=SEEDS)
    def begin(self, seed):
        self.top = Path(tempfile.mkdtemp())
        self.number = 0
        self.path = self.top / "r0"
        self.job = Job([])
        self.job.options = {"workers": 3, "retry": None}
        self.job.failing = self.fail
        self.failing = set()
        self.known = {}
        self.flipped = set()
        self.add_sample(["a", "b", "a"], ["c"])

    def teardown(self):
        shutil.rmtree(self.top, ignore_errors=True)

    def fail(self, task, generation):
        if (task.sample_id, task.group, task.index) in self.failing:
            raise ValueError("this one fails")

    # ---- the dataset

    @rule(solutions=st.lists(ITEMS, max_size=5), incorrect=st.lists(ITEMS, max_size=2))
    def add_sample(self, solutions, incorrect):
        self.job.samples.append(
            {"id": f"s/{len(self.job.samples)}", "solutions": solutions, "incorrect_solutions": incorrect}
        )

    @rule(number=NUMBERS, items=st.lists(ITEMS, max_size=6))
    def change_sample(self, number, items):
        self.job.samples[number % len(self.job.samples)]["solutions"] = items

    @rule(numbers=st.lists(NUMBERS, max_size=3))
    def fail_sometimes(self, numbers):
        places = sorted(self.job.identities())
        self.failing = {places[n % len(places)] for n in numbers if places}

    @rule(seed=SEEDS)
    def reorder(self, seed):
        ids = [s["id"] for s in self.job.samples]
        random.Random(seed).shuffle(self.job.samples)
        note(f"{ids} -> {[s['id'] for s in self.job.samples]}")

    # ---- runs

    def ran_right(self, redo=()):
        """Nothing that was known ran again, and nothing twice."""
        again = {i for i in self.job.ran if i in self.known} - set(redo)
        assert not again, f"{again} were saved and ran again"
        assert len(set(self.job.ran)) == len(self.job.ran)

    def learn(self, died=False):
        """What is on the disk now is known from now on; what was known is still there, and not older.

        A run that died may not have come to an item that is back in the dataset: its result is still kept aside.
        """
        wanted = set(self.job.identities().values())
        now = saved(self.path)
        for identity, seq in self.known.items():
            if identity in wanted and identity in now:
                assert now[identity][0] >= seq, "an older result came back"
        lost = {i for i in self.known if i in wanted} - set(now) - (unmatched(self.path) if died else set())
        assert not lost, f"{lost} are lost"
        for identity, (seq, value, status) in now.items():
            if status == "done":
                assert value in self.job.returned[identity], "altered"
                self.known[identity] = seq

    @rule()
    def run_to_its_end(self):
        progress = self.job.start(self.path).wait(DEADLINE_S)
        assert progress.state == "done", progress.message
        self.ran_right()
        self.learn()
        if not self.failing:
            check_end(self.job, self.path)

    @rule(after=st.integers(0, 6), drain=st.booleans())
    def run_and_stop(self, after, drain):
        """A task that begins after `after` others waits until the stop."""
        gate = threading.Event()
        real = self.job.failing
        self.job.failing = lambda task, generation: (
            (len(self.job.ran) > after and gate.wait(DEADLINE_S) and None) or real(task, generation)
        )
        try:
            run = self.job.start(self.path)
            until(lambda: run.progress.ended or len(self.job.ran) > after)
            run.stop(drain=drain)
            gate.set()
            until(lambda: run.progress.ended)
        finally:
            self.job.failing = real
        self.ran_right()
        self.learn()

    @rule(seed=SEEDS, at=st.integers(1, 60), mode=st.sampled_from(["lost", "kept", "mixed"]))
    def run_and_lose_power(self, seed, at, mode):
        disk = SimulatedDisk(self.path, random.Random(seed), die_at=at)
        progress = run_on(disk, self.job, self.path)
        self.ran_right()
        self.number += 1
        before, self.path = self.path, self.top / f"r{self.number}"
        if progress is not None and not disk.died.is_set():
            self.path = before
        else:
            disk.power_cut(self.path, mode)
            shutil.rmtree(before)
        wanted = set(self.job.identities().values())
        self.known |= {i: seq for i, seq in disk.acknowledged.items() if i in wanted and self.is_done(i)}
        self.learn(died=True)

    def is_done(self, identity):
        """Errors are run again, so they aren't known."""
        now = saved(self.path)
        assert identity in now, f"{identity} was acknowledged and is lost"
        return now[identity][2] == "done"

    @rule(seed=SEEDS, at=st.integers(1, 40), number=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def run_on_a_disk_that_refuses_once(self, seed, at, number):
        disk = SimulatedDisk(
            self.path, random.Random(seed), refuse=lambda count, operation, path: number if count == at else None
        )
        with disk.under():
            try:
                run = self.job.start(self.path)
            except StorageError:
                return  # it was refused before anything began
            while not run.progress.ended:
                until(lambda: run.progress.ended or run.progress.state == "paused")
                run.resume()
        assert run.progress.state == "done"
        self.ran_right()
        self.learn()

    @rule(seed=SEEDS, share=st.floats(0, 1))
    def redo(self, seed, share):
        """The old result counts until the new one is saved."""
        if not self.known:
            return
        df = nbrun.load_results(self.path)
        df = df[df.status == "done"]
        chosen = df.sample(frac=share, random_state=seed % 2**32)
        redone = set(zip(chosen.sample_id.astype(str), chosen.group.astype(str), chosen["key"].astype(str).str[3:],
                         chosen.occurrence.astype(int), strict=True))  # fmt: skip
        before = saved(self.path)
        failed = {identity for place, identity in self.job.identities().items() if place in self.failing}
        progress = self.job.start(self.path, redo=chosen).wait(DEADLINE_S)
        assert progress.state == "done"
        self.ran_right(redo=redone)
        now = saved(self.path)
        wanted = set(self.job.identities().values())
        for identity in redone & wanted:
            assert identity in self.job.ran
            if identity in failed:
                assert now[identity] == before[identity], "an error is no replacement"
            else:
                assert now[identity][0] > before[identity][0]
        self.learn()

    # ---- others

    @rule()
    def a_second_one_is_refused_and_readers_are_not(self):
        gate, begun = threading.Event(), threading.Event()
        samples, real, held = self.job.samples, self.job.failing, f"held{self.job.generation}"
        self.job.samples = [*samples, {"id": held, "solutions": ["h"], "incorrect_solutions": []}]
        self.job.failing = lambda task, generation: (
            (task.sample_id == held and (begun.set() or gate.wait(DEADLINE_S)) and None) or real(task, generation)
        )
        try:
            run = self.job.start(self.path)
            until(begun.is_set)
            self.ran_right()
            with pytest.raises(ResultsInUseError, match=str(os.getpid())):
                ResultStore(self.path, {"run_id": "other"})
            self.learn()
            assert nbrun.check(self.path).holder
        finally:
            gate.set()
            run.wait(DEADLINE_S)
            self.job.failing, self.job.samples = real, samples
        (self.path / f"{held}.json").unlink()
        self.known = {i: seq for i, seq in self.known.items() if i[0] != held}
        self.learn()

    @rule(number=NUMBERS, seed=SEEDS, how=st.sampled_from(["cut", "flip", "empty", "zeros", "garbage"]))
    def damage_a_file(self, number, seed, how):
        """It costs results of its own sample only."""
        files = sorted(self.path.glob("*.json"))
        if not files:
            return
        file = files[number % len(files)]
        rng = random.Random(seed)
        whole = file.read_bytes()
        content = bytearray(whole)
        try:
            sample_id = json.loads(content)["id"]
        except ValueError:
            return  # it is damaged already
        if how == "flip":
            at = rng.randrange(len(content))
            content[at] ^= 1 << rng.randrange(8)
        else:
            cut = rng.randrange(len(content))
            content = {
                "cut": content[:cut], "empty": b"", "zeros": bytes(len(content)), "garbage": rng.randbytes(200),
            }[how]  # fmt: skip
        before = saved(self.path)
        file.write_bytes(content)
        try:
            now = saved(self.path)
        except ValueError:  # a flipped byte within an entry: found out when it is parsed
            assert how == "flip"
            now = {}
            nbrun.check(self.path, repair=True)
            now = saved(self.path)
        if how == "flip" and now.keys() - before.keys():  # an id, group or key is another valid one: nothing can tell
            file.write_bytes(whole)
            return
        for identity in before.keys() - now.keys():
            assert identity[0] == sample_id, "another sample's result is gone"
        for identity, value in now.items():
            if how == "flip" and identity[0] == sample_id:
                self.job.returned[identity].add(value[1])  # a letter may have become another one
        if how == "flip":  # an entry that lacks one of its keys loads, and is made again
            self.flipped.add(sample_id)
            now = {}
        self.known = {i: seq for i, seq in self.known.items() if i[0] != sample_id or i in now}

    @rule()
    def repair(self):
        """Nothing that can be read is lost by it, and nothing is found afterwards."""
        if not self.path.exists():
            return
        before = saved(self.path)
        report = nbrun.check(self.path, repair=True)
        assert report.is_ok, str(report)
        now = saved(self.path)
        assert all(now.get(i) == value for i, value in before.items() if i[0] not in self.flipped)
        assert now.keys() <= before.keys()
        assert nbrun.check(self.path).is_ok

    @invariant()
    def it_loads(self):
        if self.path.exists():
            now = saved(self.path)
            assert len(nbrun.load_results(self.path)) == len(now)


class Quiet(Results):
    """The same without the warnings of loads that meet damage."""

    def __init__(self):
        super().__init__()
        self.quiet = warnings.catch_warnings()
        self.quiet.__enter__()
        warnings.simplefilter("ignore")

    def teardown(self):
        super().teardown()
        self.quiet.__exit__(None, None, None)


TestResults = Quiet.TestCase
TestResults.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck),
    database=None, print_blob=True,
)  # fmt: skip
