"""What the tracker counts, and how times, sizes and rates are written."""

from __future__ import annotations

import pickle

import pytest

from nbrun.model import ErrorNote, Progress, State
from nbrun.progress import KINDS, OTHER_KINDS, ProgressTracker, eta_text
from nbrun.texts import bytes_text, rate_text, time_text
from nbrun.verdicts import Tally


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def after(ends: int, seconds: float, total: int) -> Progress:
    """Return the progress of a run whose `ends` tasks ended evenly within `seconds`."""
    clock = Clock()
    tracker = ProgressTracker(clock)
    tracker.add_sample("a", total)
    tracker.set_totals(total, 1)
    for _ in range(ends):
        clock.now += seconds / ends
        tracker.record(0, ["Accepted"])
    return tracker.snapshot(State.RUNNING)


@pytest.mark.parametrize(
    ("ends", "seconds", "total", "text"),
    [
        (0, 0, 100, "time left: not known yet"),
        (2, 60, 100, "time left: not known yet"),
        (10, 600, 100, "roughly 1 h left"),
        (100, 600, 1440, "about 2 h 10 min left"),
        (100, 10, 1000, "about 1 min 30 s left"),
        (100, 10, 110, "a few seconds left"),
        (100, 60, 10_000_000, "about 69 d 11 h left"),
    ],
)
def test_the_time_left_is_as_precise_as_it_is_known(ends: int, seconds: float, total: int, text: str) -> None:
    assert eta_text(after(ends, seconds, total)) == text


def test_errors_of_the_judge_are_not_rejections() -> None:
    tracker = ProgressTracker()
    tracker.add_sample(
        "a", 10, done=3, accepted=1, rejected=2, verdicts={"Accepted": 1, "JudgeError": 1, "WrongAnswer": 1}
    )
    tracker.record(
        0,
        ["Accepted", "WrongAnswer", "JudgeError", None, None, None, None],
        ["JudgeError", "ValueError", "NotSupportedError"],
    )
    (sample,) = tracker.snapshot(State.RUNNING).since(0)
    assert (sample.done, sample.accepted, sample.rejected, sample.errors, sample.judge_errors) == (7, 2, 2, 3, 4)
    progress = tracker.snapshot(State.RUNNING)
    assert (progress.errors, progress.judge_errors) == (3, 4)
    assert progress.verdicts == {"Accepted": 2, "JudgeError": 2, "WrongAnswer": 2}
    tracker.error_again(0, ["JudgeError", "ValueError"])
    progress = tracker.snapshot(State.RUNNING)
    assert (progress.errors, progress.judge_errors) == (1, 3)
    assert {kind.type: kind.n for kind in progress.error_kinds if kind.n} == {"NotSupportedError": 1}


def test_a_samples_verdicts_are_bits_in_the_order_of_the_runs_verdicts() -> None:
    tracker = ProgressTracker()
    tracker.add_sample("a", 100)
    tracker.add_sample("b", 100, done=1, verdicts={"WrongAnswer": 1})
    tracker.record(0, ["Accepted"])
    tracker.record(1, ["Accepted", "TimeLimitExceeded"])
    verdicts = list(tracker.snapshot(State.RUNNING).verdicts)
    seen = [
        {verdicts[bit] for bit in range(len(verdicts)) if s.seen >> bit & 1}
        for s in tracker.snapshot(State.RUNNING).since(0)
    ]
    assert seen == [{"Accepted"}, {"WrongAnswer", "Accepted", "TimeLimitExceeded"}]
    tracker.record(0, [f"own {i}" for i in range(50)])
    assert len(tracker.snapshot(State.RUNNING).verdicts) == 53
    assert tracker.snapshot(State.RUNNING).since(0)[-1].seen < 1 << 32


def test_the_number_of_error_kinds_is_bounded() -> None:
    tracker = ProgressTracker()
    tracker.add_sample("a", 1000)
    for i in range(2 * KINDS):
        tracker.record(0, [None], [f"Error{i}"])
        tracker.note_error(ErrorNote("a", "solution", i, f"Error{i}", "no", "", 0.0))
    kinds = tracker.snapshot(State.RUNNING).error_kinds
    assert len(kinds) == KINDS + 1
    assert (kinds[-1].type, kinds[-1].n) == (OTHER_KINDS, KINDS)
    assert sum(kind.n for kind in kinds) == 2 * KINDS


def test_sizes_rates_and_times_have_units() -> None:
    assert [bytes_text(n) for n in (0, 999, 1000, 999_999, 12_345_678, 10**15)] == [
        "0 bytes", "999 bytes", "1.0 kB", "1.0 MB", "12 MB", "1,000 TB",
    ]  # fmt: skip
    assert rate_text(0.001) == "3.6 tasks/h"
    assert [time_text(s) for s in (0, 4e-10, 1.79e-06, 0.0009996, 0.25, 0.9999, 12.345, 59.96, 7842, float("inf"))] == [
        "0 s", "0.4 ns", "1.79 µs", "1 ms", "250 ms", "1 s", "12.3 s", "1 min", "2 h 10 min", "inf s",
    ]  # fmt: skip


def test_elapsed_time_ends_with_the_run() -> None:
    clock = Clock()
    tracker = ProgressTracker(clock)
    clock.now = 60
    tracker.finish()
    clock.now = 5000
    assert tracker.snapshot(State.DONE).elapsed_s == 60


def test_unexpected_verdicts_are_counted_by_sample() -> None:
    tracker = ProgressTracker()
    tracker.add_sample(
        "a", 10, done=2, accepted=1, rejected=1, verdicts={"Accepted": 1, "WrongAnswer": 1}, unexpected=2
    )
    tracker.add_sample("b", 10)
    tracker.record(1, ["Accepted", "WrongAnswer", None], [], Tally(1, 1))
    assert [s.unexpected for s in tracker.snapshot(State.RUNNING).since(0)] == [2, 1]
    assert tracker.snapshot(State.RUNNING).unexpected == 3


def test_verdicts_outside_the_vocabulary_neither_accept_nor_reject() -> None:
    tracker = ProgressTracker()
    tracker.add_sample("a", 10)
    tracker.record(0, ["Accepted", "Funny", "WrongAnswer"])
    (sample,) = tracker.snapshot(State.RUNNING).since(0)
    assert (sample.done, sample.accepted, sample.rejected) == (3, 1, 1)


def test_tasks_that_wait_for_another_try_are_not_queued() -> None:
    tracker = ProgressTracker()
    tracker.add_sample("a", 10)
    progress = tracker.snapshot(State.RUNNING, at_work={0: 2}, waiting_at={0: 5})
    assert (progress.running, progress.waiting, progress.queued) == (2, 5, 3)


def test_a_snapshot_is_short_and_can_be_pickled() -> None:
    tracker = ProgressTracker()
    tracker.add_sample("a", 10_000, skipped=100)
    tracker.record(0, ["Accepted"] * 1000 + [None] * 500, ["ValueError"] * 500)
    tracker.note_error(ErrorNote("a", "solution", 0, "ValueError", "no" * 500, "trace" * 5000, 0.0))
    progress = tracker.snapshot(State.PAUSED, at_work={0: 8}, waiting_at={0: 5}, unsaved=7, message="line\n" * 100)
    assert len(repr(progress)) < 300
    assert "\n" not in repr(progress)
    again = pickle.loads(pickle.dumps(progress))
    assert again == progress
    assert again.recent_errors[0].sample_id == "a"
    assert again.since(0) == []


def test_elapsed_time_excludes_pauses() -> None:
    clock = Clock()
    tracker = ProgressTracker(clock)
    tracker.add_sample("a", 100)
    clock.now = 10
    tracker.record(0, ["Accepted"] * 50)
    tracker.pause()
    tracker.pause()
    clock.now = 1000
    assert tracker.snapshot(State.PAUSED).elapsed_s == 10
    tracker.resume()
    tracker.resume()
    clock.now = 1005
    assert tracker.snapshot(State.RUNNING).elapsed_s == 15
    tracker.pause()
    clock.now = 2000
    tracker.finish()
    clock.now = 3000
    assert tracker.snapshot(State.STOPPED).elapsed_s == 15


def test_the_time_left_includes_what_long_tasks_will_take() -> None:
    clock = Clock()
    tracker = ProgressTracker(clock)
    tracker.add_sample("a", 101)
    tracker.set_totals(101, 1)
    for _ in range(100):
        clock.now += 0.1
        tracker.record(0, ["Accepted"])
    quick = tracker.snapshot(State.RUNNING)
    assert quick.eta_s is not None
    assert quick.eta_s < 1
    assert eta_text(tracker.snapshot(State.RUNNING, least_left_s=600)) == "about 10 min left"
