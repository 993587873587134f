"""Tasks in threads of this process: who takes which, who steals, who works alone while tasks are tiny.

Threads: workers call `take`, `give_back` and `left`; the rest is the scheduler's (see WorkerPool). The scheduler's lock
protects everything here.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from nbrun.engine.batch_flusher import BatchFlusher
from nbrun.engine.task_queue import Item, SampleWork
from nbrun.engine.timeouts import TimeoutMonitor
from nbrun.engine.worker import BATCH_S, Worker
from nbrun.errors import ThreadLimitError
from nbrun.model import Task
from nbrun.threads import start_thread

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler

#: Tasks shorter than this gain nothing from threads, which only take the GIL from one another: one worker
#: runs them alone, until they take NOT_TINY_S, while another looks every WATCH_S whether one keeps it for STUCK_S.
TINY_S, NOT_TINY_S, WATCH_S, STUCK_S = 50e-6, 500e-6, 0.02, 0.02

#: After the system refused a thread, none is asked for so long.
REFUSED_S = 1.0


class ThreadPool:
    """Daemon threads that take tasks themselves; started when there is something to do."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._lock = scheduler.lock
        self._tasks = threading.Condition(self._lock)  # workers wait here
        self._workers: list[Worker] = []
        self._started = 0
        self._waiting = 0
        self.takes_single = False  # nobody watches over batches: workers take one task at a time
        self._refused_at: float | None = None  # when the system started no more threads, on monotonic's clock
        self._timekeeper = self._watched = False
        self._solo: Worker | None = None  # runs tiny tasks alone; the others sleep
        self._slots: list[int] = []  # of workers that ended; the next ones take them
        self._quarantined_running = 0  # suspects at work now
        self._flusher = BatchFlusher(self)
        self._timeouts = TimeoutMonitor(self)

    # ---- workers

    def take(self, worker: Worker) -> bool:
        """Fills the worker's batch. False: the thread shall end."""
        scheduler, queue = self.scheduler, self.scheduler.queue
        with self._lock:
            self._rests(worker)
            while True:
                if not scheduler.run_state.is_open or len(self._workers) > scheduler.target_workers:
                    return False
                due = None
                if (
                    scheduler.run_state.is_running
                    and not self._quarantined_running
                    and not self._leaves_it_to_another(worker)
                ):
                    sharing = 1 if self._solo is worker else 2 * scheduler.target_workers
                    most = min(worker.batch_size, 1 + queue.ready // sharing)
                    items = scheduler.take(most) or self._steal()
                    if items:
                        worker.batch.extend(items)
                        worker.is_busy = True
                        if scheduler.timeout_s is not None:
                            self._timeouts.need()
                        if len(items) > 1 and not self._flusher.wake():
                            self.takes_single = True
                        if (queue.delayed or scheduler.gate.is_active) and not self._timekeeper and queue.waiting:
                            self.wake(1)  # this one kept the time for what waits
                        return True
                    due = scheduler.next_due
                if scheduler.run_state.is_running and scheduler.is_all_fed and self._takes_quarantined(worker):
                    return True
                if self._solo is worker:  # it sleeps, in a pause too: who is woken next must not leave the work to it
                    self._solo = None
                self._wait_for_tasks(due)

    def _takes_quarantined(self, worker: Worker) -> bool:
        """A suspect, which runs once all else has ended, alone. Many can't be told apart: a part of them at once."""
        queue, width = self.scheduler.queue, self.scheduler.quarantine_width
        if not queue.quarantined or self._quarantined_running >= width:
            return False
        if any(w.is_busy and not w.runs_quarantined for w in self._workers):
            return False  # the last of these comes here and takes it
        items = self.scheduler.take_quarantined()
        worker.batch.extend(items)
        worker.is_busy = worker.runs_quarantined = bool(items)
        if items and self.scheduler.timeout_s is not None:
            self._timeouts.need()
        self._quarantined_running += worker.runs_quarantined
        if self._quarantined_running < width:
            self.wake(min(queue.quarantined, width - self._quarantined_running))
        return worker.runs_quarantined

    def _rests(self, worker: Worker) -> None:
        """The worker has ended what it took. Called with the lock held."""
        worker.is_busy = False
        if worker.runs_quarantined:
            worker.runs_quarantined = False
            self._quarantined_running -= 1
            if not self._quarantined_running:
                self.wake(self.scheduler.queue.ready + self.scheduler.queue.delayed)

    def _wait_for_tasks(self, due: float | None) -> None:
        """One idle worker keeps the time for delayed tasks, one watches who works alone; the others just sleep."""
        keeps_time = due is not None and not self._timekeeper
        watches = self._solo is not None and not self._watched
        self._timekeeper |= keeps_time
        self._watched |= watches
        waits = [max(0.0, due - time.monotonic())] if keeps_time and due is not None else []
        if watches:
            waits.append(WATCH_S)
        self._waiting += 1
        try:
            self._tasks.wait(min(waits, default=None))
        finally:
            self._waiting -= 1
            if keeps_time:
                self._timekeeper = False
            if watches:
                self._watched = False
        if self._solo is not None and self._solo.is_stuck(STUCK_S):
            self._all_work()

    def _leaves_it_to_another(self, worker: Worker) -> bool:
        """Whether tasks are so short that one worker does them all, and it is not this one."""
        if self._solo is worker:
            if worker.mean_s > NOT_TINY_S:
                self._all_work()
            return False
        if worker.mean_s >= TINY_S or self.scheduler.target_workers == 1:
            return False
        if self._solo is not None:
            return True
        if self.scheduler.queue.ready:
            self._solo = worker
            self.wake(1)  # somebody must watch
        return False

    def _all_work(self) -> None:
        """Nobody works alone any more. Each measures its tasks anew."""
        alone, self._solo = self._solo, None
        for worker in self._workers:
            worker.mean_s = max(worker.mean_s, BATCH_S)
        queue = self.scheduler.queue
        self.wake(queue.ready + queue.delayed + (len(alone.batch) if alone else 0))

    def _steal(self) -> list[Item]:
        for other in self._workers:
            if other.batch:
                try:
                    return [other.batch.pop()]
                except IndexError:  # its owner was faster
                    continue
        return []

    def left(self, worker: Worker) -> None:
        """A worker's thread ends."""
        if self.scheduler.is_forked:
            return
        with self._lock:
            self._rests(worker)
            self._timeouts.came_back(worker)
            if worker in self._workers:
                self._workers.remove(worker)
                self._slots.append(worker.slot)
                if self.scheduler.is_all_fed and self.scheduler.queue.quarantined:
                    self.wake(1)
            if self._solo is worker:
                self._all_work()
            self.scheduler.idle.notify_all()

    def workers(self) -> list[Worker]:
        """Those that have not ended."""
        return list(self._workers)

    def lose(self, worker: Worker) -> None:
        """The worker's attempt was given up: others take its place and its tasks. Called with the lock held."""
        self._rests(worker)
        if worker in self._workers:
            self._workers.remove(worker)
            self._slots.append(worker.slot)
        items = list(worker.batch)
        worker.batch.clear()
        self.scheduler.queue.give_back(items)
        if self._solo is worker:
            self._all_work()
        self.wake(self.scheduler.queue.waiting)
        self.scheduler.idle.notify_all()

    @property
    def notice(self) -> str:
        """See WorkerPool."""
        if self._refused_at is None or not self.scheduler.run_state.is_open:
            return self._timeouts.text
        running, target = len(self._workers), self.scheduler.target_workers
        only = f"Only {running:,} of {target:,} threads run: the system starts no more of them."
        return f"{only} {self._timeouts.text}".rstrip()

    def give_back(self, worker: Worker) -> None:
        """What a worker has taken and not begun when the run was paused or stopped."""
        items = list(worker.batch)
        worker.batch.clear()
        self.scheduler.give_back(items)

    # ---- the watch

    def has_buffered_results(self) -> bool:
        """Does any worker hold results that wait for the rest of a batch, or may it?"""
        return any(w.has_more for w in list(self._workers))

    def flush_late_results(self, after_s: float) -> None:
        """Results that ended before a task that takes long are handed over."""
        for worker in list(self._workers):
            if worker.has_more and worker.is_stuck(after_s):
                worker.flush_results()

    # ---- WorkerPool

    @property
    def prefetch_target(self) -> int:
        """See WorkerPool."""
        return max(2 * self.scheduler.target_workers, 64)

    @property
    def is_empty(self) -> bool:
        """See WorkerPool."""
        return not self._workers

    def wake(self, count: int) -> None:
        """Wakes sleepers and starts threads."""
        scheduler = self.scheduler
        if not scheduler.run_state.is_running:
            return
        if self._solo is not None:
            count = 0 if self._watched else min(count, 1)
        sleepers = min(self._waiting, count)
        if sleepers:
            self._tasks.notify(sleepers)
        more = min(scheduler.target_workers - len(self._workers), count - sleepers)
        if more > 0 and (self._refused_at is None or time.monotonic() > self._refused_at + REFUSED_S):
            self._add_workers(more)

    def _add_workers(self, count: int) -> None:
        """Start threads; where the system starts no more, go on with those that run, or pause."""
        scheduler = self.scheduler
        self._refused_at = None
        for _ in range(count):
            self._started += 1
            slot = self._slots.pop() if self._slots else len(self._workers)
            worker = Worker(self, self._started, f"{scheduler.name}:{self._started}", slot)
            self._workers.append(worker)
            try:
                start_thread(worker.thread)
            except ThreadLimitError as e:
                self._workers.remove(worker)
                self._slots.append(slot)
                if self._workers:
                    self._refused_at = time.monotonic()
                else:
                    scheduler.no_threads(e)
                return

    def notify_all(self) -> None:
        """See WorkerPool; those that are too many end."""
        self._tasks.notify_all()

    def end(self) -> None:
        """See WorkerPool."""
        self._flusher.end()
        self._timeouts.end()

    def forget_in_child(self) -> None:
        """See WorkerPool."""
        for worker in self._workers:
            worker.batch.clear()

    def at_work(self) -> list[SampleWork]:
        """See WorkerPool."""
        return [c[0] for w in list(self._workers) if (c := w.current)]

    def tasks(self) -> list[tuple[Task, int]]:
        """See WorkerPool."""
        return [(c[1], w.since) for w in list(self._workers) if (c := w.current)]

    def begun(self) -> list[int]:
        """See WorkerPool."""
        return [w.since for w in list(self._workers) if w.current]

    def works_in(self, thread: threading.Thread) -> bool:
        """See WorkerPool."""
        return any(worker.thread is thread for worker in list(self._workers))
