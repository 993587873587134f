"""A run without an engine: a real ProgressTracker, the controls of a run, and a thread that lets tasks end.

Used by the tests in this folder, also inside a real kernel (its folder is on the kernel's path there).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from nbrun import verdicts as verdicts_
from nbrun.model import ErrorNote, Progress, State, TaskSummary
from nbrun.progress import ProgressTracker

VERDICTS = ("Accepted", "Accepted", "Accepted", "WrongAnswer", "TimeLimitExceeded", "RuntimeError")


class FakeRun:
    """What the panel sees of a run. `calls` lists what it was asked to do."""

    def __init__(self, samples: Mapping[str, int] | None = None, *, results: str = "results", workers: int = 8) -> None:
        self.tracker = ProgressTracker()
        self.results = results
        self.calls: list[object] = []
        self.state = State.RUNNING
        self.message = ""
        self.at_work: dict[int, int] = {}
        self.rows: dict[str, list[TaskSummary]] = {}
        self.entries: dict[tuple[str, str, int], Mapping[str, Any]] = {}
        self.endpoints: list[Mapping[str, Any]] = []
        self.waiting_at: dict[int, int] = {}
        self.unread: list[str] = []  # ids of samples that were not read yet
        self._workers = workers
        for sample_id, total in (samples or {}).items():
            self.tracker.add_sample(sample_id, total)
        if samples:
            self.tracker.set_totals(sum(samples.values()), len(samples))

    # ---- what a view may do

    @property
    def progress(self) -> Progress:
        return self.tracker.snapshot(
            self.state,
            at_work=self.at_work,
            workers=self._workers,
            results=self.results,
            message=self.message,
            waiting_at=self.waiting_at,
        )

    @property
    def workers(self) -> int:
        return self._workers

    @workers.setter
    def workers(self, n: int) -> None:
        if n > 1000:
            raise ValueError("workers must be at most 1000 here")
        self.calls.append(("workers", n))
        self._workers = n

    def pause(self) -> None:
        self.calls.append("pause")
        self.state = State.PAUSED

    def resume(self) -> None:
        self.calls.append("resume")
        self.state = State.RUNNING

    def stop(self, drain: bool = True) -> None:
        self.calls.append(("stop", drain))
        self.state = State.STOPPED
        self.at_work = {}

    def retry_errors(self, kind: str | None = None) -> int:
        self.calls.append("retry_errors" if kind is None else ("retry_errors", kind))
        return sum(k.n for k in self.progress.error_kinds if kind in (None, k.type))

    def go_on(self) -> None:
        self.calls.append("go_on")
        self.state = State.RUNNING

    def redo_changed(self) -> int:
        self.calls.append("redo_changed")
        return 7

    def find_unread(self, text: str, limit: int) -> tuple[Sequence[str], int]:
        found = [sample_id for sample_id in self.unread if text in sample_id.lower()]
        return found[:limit], len(found)

    def tasks(self, sample_id: str) -> Sequence[TaskSummary]:
        return self.rows.get(sample_id, [])

    def entry(self, sample_id: str, group: str, index: int) -> Mapping[str, Any] | None:
        return self.entries.get((sample_id, group, index))

    def health(self) -> Sequence[Mapping[str, Any]]:
        return self.endpoints

    # ---- what happens to it

    def end(self, number: int, *verdicts: str | None, positives: bool | None = None) -> None:
        """Tasks of a sample end with these verdicts; None is an error. `positives`: what their group expects."""
        tally = verdicts_.tally((positives, v) for v in verdicts)
        self.tracker.record(number, verdicts, ["ValueError"] * verdicts.count(None), tally)

    def fail(
        self,
        number: int,
        sample_id: str,
        message: str = "boom",
        traceback: str = "Traceback\n  boom",
        kind: str = "ValueError",
    ) -> None:
        self.tracker.record(number, [None], [kind])
        self.tracker.note_error(ErrorNote(sample_id, "solution", 0, kind, message, traceback, 0.0))


class Driver:
    """Lets tasks of a FakeRun end, spread over some samples at work, in a thread that ends with the run."""

    def __init__(self, run: FakeRun, *, ends_per_s: float = 200, at_work: int = 8, spread: bool = False, seed: int = 1):
        self.run, self.ends_per_s, self.width, self.spread = run, ends_per_s, at_work, spread
        self.random = random.Random(seed)
        self.ended = threading.Event()
        samples = run.progress.since(0)
        self.left = {s.number: s.left for s in samples if s.left}
        self.ids = {s.number: s.sample_id for s in samples}
        self.thread = threading.Thread(target=self._drive, name="fake-run", daemon=True)

    def start(self) -> Driver:
        self.thread.start()
        return self

    def _drive(self) -> None:
        pace_s, owed = 0.05, 0.0
        while not self.ended.wait(pace_s):
            if self.run.state is State.STOPPED:
                return
            if self.run.state is not State.RUNNING:
                continue
            owed += self.ends_per_s * pace_s
            for _ in range(int(owed)):
                self.end_one()
            owed -= int(owed)
            if not self.left:
                self.run.at_work = {}
                self.run.state = State.DONE
                return
            window = list(self.left)[: self.width]
            self.run.at_work = {n: min(self.left[n], 1 + n % 2) for n in window}

    def end_one(self) -> None:
        if not self.left:
            return
        window = list(self.left) if self.spread else list(self.left)[: self.width]
        number = self.random.choice(window)
        if self.random.random() < 0.01:
            self.run.fail(number, self.ids[number], f"sandbox {self.random.randrange(9)} did not answer")
        else:
            is_positive = self.random.random() < 0.5
            right = VERDICTS[:3] if is_positive else VERDICTS[3:]
            choice = right if self.random.random() < 0.97 else VERDICTS
            self.run.end(number, self.random.choice(choice), positives=is_positive)
        self.left[number] -= 1
        if not self.left[number]:
            del self.left[number]
            self.run.tracker.sample_done()


def samples(n: int, tasks: int = 20) -> dict[str, int]:
    """Ids like those of programming contests, with that many tasks each, more or less."""
    return {f"Codeforces/{1 + i // 6}/{'ABCDEF'[i % 6]}": 1 + (i * 7919) % (2 * tasks) for i in range(n)}
