"""Calls of a run's controls in random order, beside readers: nothing is lost, doubled, or run again once it is done.

Each test has a number, from which everything is drawn but what the threads do in between. `NBRUN_EXAMPLES=200` tries
more of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

import nbrun
from nbrun.errors import NbrunError

NUMBERS = range(int(os.environ.get("NBRUN_EXAMPLES", "25")) // 4)
#: No call of a control takes longer, also on a busy machine.
PROMPT_S = 30.0
#: For longer waits than any test needs; a hang ends here.
END_S = 120.0

Identity = tuple[str, str, int, int]  # sample, group, item, occurrence


class Work:
    """Samples, and a function that fails, asks for another attempt and hangs as often as its chances say."""

    settings: ClassVar = {"version": 1}

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.luck, self.lock = rng, random.Random(rng.random()), threading.Lock()
        self.groups = rng.choice([["a"], ["a", "b"]])
        self.samples = [{"id": "first", "as": [{"n": 1}]}]
        self.calls: Counter[tuple[str, str, int]] = Counter()
        self.fails, self.retries, self.hangs = rng.choice([0, 0.1, 0.3]), rng.choice([0, 0.2]), rng.choice([0, 0, 0.03])
        self.pauses_all, self.takes_s = rng.choice([0, 0.1]), rng.choice([0, 0.001, 0.01])
        self.never = threading.Event()
        for _ in range(rng.choice([1, 5, 40])):
            self.add_sample()

    def add_sample(self) -> None:
        rng, number = self.rng, len(self.samples)
        items = {f"{g}s": [{"n": rng.randrange(20)} for _ in range(rng.choice([0, 1, 5, 30]))] for g in self.groups}
        self.samples.append({"id": f"s/{number}é", **items})

    def heal(self) -> None:
        """From now on every call succeeds at once."""
        self.fails = self.retries = self.hangs = self.takes_s = 0

    def expected(self) -> dict[Identity, int]:
        found: dict[Identity, int] = {}
        for sample in self.samples:
            for group in self.groups:
                seen: Counter[int] = Counter()
                for item in sample.get(f"{group}s", ()):  # type: ignore[attr-defined]
                    found[str(sample["id"]), group, item["n"], seen[item["n"]]] = 3 * item["n"]
                    seen[item["n"]] += 1
        return found

    def begin(self, task: nbrun.Task) -> float:
        """Count a call, and return for how long it takes."""
        with self.lock:
            self.calls[task.sample_id, task.group, task.item["n"]] += 1
            return 1.0 if self.luck.random() < self.hangs else self.takes_s

    def end(self, task: nbrun.Task) -> dict[str, Any] | nbrun.Retry:
        with self.lock:
            fails, retries, pauses_all = (self.luck.random() < p for p in (self.fails, self.retries, self.pauses_all))
        if fails:
            raise ValueError("bad luck")
        if retries:
            return nbrun.Retry("later", after_s=0.01, hint={"attempt": task.attempt}, pause_all=pauses_all)
        return {"v": 3 * task.item["n"], "text": "x" * task.item["n"]}


class InThreads(Work):
    def __call__(self, task: nbrun.Task) -> dict[str, Any] | nbrun.Retry:
        self.never.wait(self.begin(task))
        return self.end(task)


class OnALoop(Work):
    async def __call__(self, task: nbrun.Task) -> dict[str, Any] | nbrun.Retry:
        await asyncio.sleep(self.begin(task))
        return self.end(task)


def done(results: Path) -> Counter[tuple[str, str, int]]:
    """Count the done results of equal items. Each identity is there once, in every reading."""
    df = nbrun.load_results(results, items=True)
    assert not df.duplicated(["sample_id", "group", "key", "occurrence"]).any()
    assert not df.attrs.get("problems")
    df = df[df.status == "done"]
    return Counter(zip(df.sample_id, df.group, df.item_n.astype(int), strict=True)) if len(df) else Counter()


class Readings(threading.Thread):
    """Reads the directory and the progress until the block ends; done results never become fewer."""

    def __init__(self, results: Path, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.results, self.rng, self.over = results, rng, threading.Event()
        self.run_: nbrun.Run | None = None
        self.fault: BaseException | None = None

    def run(self) -> None:
        most = 0
        try:
            while not self.over.wait(0.02 * self.rng.random()):
                if self.run_ is not None:
                    assert self.run_.progress.done >= 0
                nbrun.status(self.results)
                nbrun.load_samples(self.results)
                count = done(self.results).total()
                assert count >= most, f"{count} results are done where {most} were"
                most = count
        except BaseException as e:
            self.fault = e

    def __enter__(self) -> Readings:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(END_S)
        if self.fault is not None:
            raise self.fault
        assert not self.is_alive()


class Session:
    """One user: starts runs in a directory, and calls their controls in any order."""

    def __init__(self, work: Work, results: Path, readings: Readings) -> None:
        self.work, self.results, self.readings, self.rng = work, results, readings, work.rng
        self.retry = self.rng.choice([None, nbrun.RetryPolicy(attempts=20, delay_s=0.001, max_delay_s=0.01)])
        self.timeout_s: float | None = 0.3
        self.history: list[str] = []
        self.run = self.start()

    def start(self, replace: bool = False) -> nbrun.Run:
        samples = self.work.samples if self.rng.random() < 0.5 else iter(list(self.work.samples))
        self.run = self.readings.run_ = nbrun.start(
            samples, self.work, self.results, workers=self.rng.choice([1, 2, 8, 40]), groups=self.work.groups,
            retry=self.retry, timeout_s=self.timeout_s, replace=replace, view=None,
        )  # fmt: skip
        return self.run

    def start_with_more(self) -> None:
        self.work.add_sample()
        self.start()

    def change_workers(self) -> None:
        self.run.workers = self.rng.choice([1, 2, 5, 64])

    def act(self) -> None:
        """Do one thing, in time; it may be refused, with an error of nbrun."""
        actions = {
            "pause": self.run.pause, "resume": self.run.resume, "workers": self.change_workers,
            "retry_errors": self.run.retry_errors, "stop": self.run.stop, "stop at once": lambda: self.run.stop(False),
            "wait": lambda: self.run.wait(0.2 * self.rng.random()), "start": self.start, "more": self.start_with_more,
            "replace": lambda: self.start(replace=True), "look": lambda: (repr(self.run), self.run.errors()),
        }  # fmt: skip
        name = self.rng.choice([*actions, "wait", "resume"])
        self.history.append(name)
        ended = threading.Event()
        faults: list[BaseException] = []

        def call() -> None:
            try:
                actions[name]()
            except NbrunError as e:
                self.history.append(f"refused: {e}"[:200])
            except BaseException as e:
                faults.append(e)
            ended.set()

        threading.Thread(target=call, daemon=True).start()
        assert ended.wait(PROMPT_S), f"{name} takes longer than {PROMPT_S:g} s, after {self.history}"
        if faults:
            raise faults[0]

    def stop(self) -> None:
        self.run.stop()
        try:
            self.run.wait(END_S)
        except NbrunError as e:  # what halted it
            self.history.append(f"halted: {e}"[:200])


@pytest.fixture(params=NUMBERS)
def rng(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


@pytest.mark.parametrize("kind", [InThreads, OnALoop])
def test_any_order_of_controls_loses_doubles_and_repeats_nothing(kind, rng, tmp_path):
    work = kind(rng)
    results = tmp_path / "results"
    results.mkdir()
    with Readings(results, random.Random(rng.random())) as readings:
        session = Session(work, results, readings)
        for _ in range(rng.choice([1, 5, 20])):
            session.act()

        session.stop()
        work.heal()
        session.timeout_s = None
        before, wanted = done(results), work.expected()
        all_done = {i for i, n in Counter(i[:3] for i in wanted).items() if before[i] == n}
        work.calls.clear()
        progress = session.start().wait(END_S)

    assert not all_done & set(work.calls), f"done, and run again, after {session.history}"
    counts = progress.total, progress.done, progress.errors, progress.queued, progress.running, progress.unsaved
    assert (progress.state, counts) == ("done", (len(wanted), len(wanted), 0, 0, 0, 0)), session.history
    df = nbrun.load_results(results, items=True)
    found = zip(df.sample_id, df.group, df.item_n, df.occurrence, df.v, strict=True)
    assert {(s, g, int(n), int(o)): int(v) for s, g, n, o, v in found} == wanted
    assert len(df) == len(wanted)
    files = [json.loads(f.read_text()) for f in results.glob("*.json")]
    assert sum(len(f[k]) for f in files for k in f if k.endswith("_result")) == len(wanted)
    assert nbrun.load_samples(results).is_complete.all()
    assert nbrun.check(results).is_ok
