"""What views say of the tasks that run and that wait: which they are, why they wait, and which take very long.

Threads: any thread may ask. What the scheduler's lock protects is copied with that lock held.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from nbrun.engine.worker_pool import TaskSource, WorkerPool
from nbrun.formatting import counted, duration_text
from nbrun.model import TaskSummary
from nbrun.tuning import TUNING

#: A task counts as long from this many times the median on.
TIMES = 10
#: From fewer durations than these nothing is said.
ENOUGH = 10
#: How many characters of a reason are shown.
REASON_CHARS = 100


class LongTasks(NamedTuple):
    """How many tasks run for that long, the longest one's seconds so far, and what a task takes in the median."""

    number: int
    longest_s: float
    median_s: float

    @property
    def text(self) -> str:
        """A sentence for the user, or nothing."""
        if not self.number:
            return ""
        many = self.number > 1
        who = f"{self.number:,} tasks have" if many else "1 task has"
        took, times = duration_text(self.longest_s), self.longest_s / max(self.median_s, 1e-3)
        return f"{who} been running for {'up to ' if many else ''}{took}, {times:,.0f} × the median."


NO_LONG_TASKS = LongTasks(0, 0.0, 0.0)


def find_long(running_s: Iterable[float], durations: Iterable[float]) -> LongTasks:
    """Return the tasks that have been running for many times longer than most take.

    Args:
        running_s: how long each task that runs now has been running, in seconds.
        durations: what tasks that ended lately took, in seconds.

    Example:
        >>> find_long([300.0, 1.0], [12.0] * 20).text
        '1 task has been running for 5 min, 25 × the median.'
    """
    old = [s for s in running_s if s >= TUNING.long_task_s]
    known = list(durations) if old else []
    if len(known) < ENOUGH:
        return NO_LONG_TASKS
    middle = sorted(known)[len(known) // 2]
    long = [s for s in old if s >= TIMES * middle]
    return LongTasks(len(long), max(long, default=0.0), middle)


class Remarks(NamedTuple):
    """What a view says of a run besides its counts.

    Attributes:
        texts: sentences about its workers and tasks; some are "".
        least_left_s: an estimate, in seconds, of the least time that running and waiting tasks will take. A task that
            has been running for many times the median is expected to take as long again.
    """

    texts: list[str]
    least_left_s: float


class Outlook:
    """The tasks of a run that are running or waiting, as views ask for them."""

    def __init__(self, scheduler: TaskSource, pool: WorkerPool) -> None:
        self._scheduler, self._pool = scheduler, pool

    def at_work(self) -> dict[int, int]:
        """Return the number of running tasks by sample number; after the end none, whatever was abandoned."""
        if self._scheduler.run_state.has_ended:
            return {}
        return dict(Counter(sample.work.number for sample in self._pool.at_work()))

    def waiting_at(self) -> dict[int, int]:
        """Return the number of tasks that wait for another try, by sample number."""
        queue = self._scheduler.queue
        if not queue.delayed:  # views ask often, and workers need the lock
            return {}
        with self._scheduler.lock:
            return {sample.work.number: n for sample, n in queue.delayed_by_sample.items()}

    def tasks_of(self, sample_id: str) -> list[TaskSummary]:
        """Return the tasks of a sample that run now, and those that wait for another try and why."""
        return [*self._running_of(sample_id), *self._waiting_of(sample_id)]

    def _running_of(self, sample_id: str) -> list[TaskSummary]:
        if self._scheduler.run_state.has_ended:
            return []
        now = time.perf_counter_ns()
        return [
            TaskSummary(task.group, task.index, "running", None, max(0, now - since) / 1e9, task.attempt, None)
            for task, since in self._pool.tasks()
            if task.sample_id == sample_id
        ]

    def _waiting_of(self, sample_id: str) -> list[TaskSummary]:
        with self._scheduler.lock:
            waiting = [d for d in self._scheduler.queue.delayed_tasks() if d.sample.work.sample_id == sample_id]
            now = time.monotonic()
        rows = []
        for due, _, sample, position, reason in waiting:
            task = sample.work.task(position, self._scheduler.flag)
            note = ", ".join(filter(None, [_short(reason), _next_text(due - now)]))
            rows.append(TaskSummary(task.group, task.index, "waiting", None, None, task.attempt - 1, None, note))
        return rows

    def remarks(self) -> Remarks:
        """Return what a view says of the run as it is now."""
        queue, long = self._scheduler.queue, self._long_tasks()
        waits_s = queue.last_due - time.monotonic() if queue.delayed else 0.0
        return Remarks([self._pool.notice, self._waiting_text(), long.text], max(0.0, waits_s, long.longest_s))

    def _long_tasks(self) -> LongTasks:
        run_state, durations = self._scheduler.run_state, self._scheduler.durations
        if run_state.has_ended:
            return NO_LONG_TASKS
        begun, now = self._pool.begun(), time.perf_counter_ns()
        if not find_long([(now - min(begun, default=now)) / 1e9], durations).number:  # the one that began first
            return NO_LONG_TASKS
        return find_long([(now - since) / 1e9 for since in begun], durations)

    def _waiting_text(self) -> str:
        """Return what tasks wait for, such as "160 waiting: HTTP 429, next in 14 s", if nothing runs or many wait."""
        scheduler, queue, gate = self._scheduler, self._scheduler.queue, self._scheduler.gate
        if not queue.delayed and not gate.is_active:
            return ""
        with scheduler.lock:
            now = time.monotonic()
            count, is_held = queue.delayed, gate.is_held(now)
            if not scheduler.run_state.is_running or not (count or is_held):
                return ""
            if not is_held and count < scheduler.target_workers and self._pool.at_work():
                return ""
            reason, others = (gate.reason, 0) if is_held else queue.most_frequent_reason()
            due = max(queue.next_due or 0.0, gate.next_at(now) if gate.is_active else now)
        more = f" and {counted(others, 'other reason')}" if others else ""
        text = f"{f'{count:,} waiting' if count else 'Waiting'}: {_short(reason) or 'no reason given'}{more}"
        return ", ".join(filter(None, [text, _next_text(due - now)]))


def _short(reason: str) -> str:
    """Return a reason on one line."""
    line = " ".join(str(reason).split())
    return line if len(line) <= REASON_CHARS else f"{line[:REASON_CHARS]}…"


def _next_text(seconds: float) -> str:
    """Return when a task's next try begins: "next in 14 s", or nothing where it may begin now."""
    return f"next in {duration_text(seconds)}" if seconds >= 0.5 else ""
