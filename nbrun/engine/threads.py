"""Tasks in threads of this process: who takes which, who steals, who works alone while tasks are tiny.

Threads: workers call `take`, `give_back` and `left`; the rest is the engine's (see crew.Crew). The engine's lock
protects everything here.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from nbrun.engine.queue import Item, SampleWork
from nbrun.engine.timeouts import TimeoutWatch
from nbrun.engine.watch import Watch
from nbrun.engine.worker import BATCH_S, Worker
from nbrun.errors import ThreadLimitError
from nbrun.model import Task
from nbrun.threads import start_thread

if TYPE_CHECKING:
    from nbrun.engine.engine import Engine

#: Tasks shorter than this gain nothing from threads, which only take the GIL from one another: one worker
#: runs them alone, until they take NOT_TINY_S, while another looks every WATCH_S whether one keeps it for STUCK_S.
TINY_S, NOT_TINY_S, WATCH_S, STUCK_S = 50e-6, 500e-6, 0.02, 0.02

#: After the system refused a thread, none is asked for so long.
REFUSED_S = 1.0


class ThreadCrew:
    """Daemon threads that take tasks themselves; started when there is something to do."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = engine.lock
        self._tasks = threading.Condition(self._lock)  # workers wait here
        self._workers: list[Worker] = []
        self._started = 0
        self._waiting = 0
        self.takes_single = False  # nobody watches over batches: workers take one task at a time
        self._refused_at: float | None = None  # when the system started no more threads, on monotonic's clock
        self._timekeeper = self._watched = False
        self._solo: Worker | None = None  # runs tiny tasks alone; the others sleep
        self._slots: list[int] = []  # of workers that ended; the next ones take them
        self._lasts = 0  # suspects at work now
        self._watch = Watch(self)
        self._timeouts = TimeoutWatch(self)

    # ---- workers

    def take(self, worker: Worker) -> bool:
        """Fills the worker's batch. False: the thread shall end."""
        engine, queue = self.engine, self.engine.queue
        with self._lock:
            self._rests(worker)
            while True:
                if not engine.standing.is_open or len(self._workers) > engine.wanted:
                    return False
                due = None
                if engine.standing.is_running and not self._lasts and not self._leaves_it_to_another(worker):
                    sharing = 1 if self._solo is worker else 2 * engine.wanted
                    most = min(worker.batch_size, 1 + queue.ready // sharing)
                    items = engine.take(most) or self._steal()
                    if items:
                        worker.batch.extend(items)
                        worker.is_busy = True
                        if engine.timeout_s is not None:
                            self._timeouts.need()
                        if len(items) > 1 and not self._watch.wake():
                            self.takes_single = True
                        if (queue.delayed or engine.gate.is_active) and not self._timekeeper and queue.waiting:
                            self.wake(1)  # this one kept the time for what waits
                        return True
                    due = engine.next_due
                if engine.standing.is_running and engine.is_all_fed and self._takes_last(worker):
                    return True
                if self._solo is worker:  # it sleeps, in a pause too: who is woken next must not leave the work to it
                    self._solo = None
                self._wait_for_tasks(due)

    def _takes_last(self, worker: Worker) -> bool:
        """A suspect, which runs once all else has ended, alone. Many can't be told apart: a part of them at once."""
        queue, width = self.engine.queue, self.engine.last_width
        if not queue.suspects or self._lasts >= width:
            return False
        if any(w.is_busy and not w.runs_last for w in self._workers):
            return False  # the last of these comes here and takes it
        items = self.engine.take_last()
        worker.batch.extend(items)
        worker.is_busy = worker.runs_last = bool(items)
        if items and self.engine.timeout_s is not None:
            self._timeouts.need()
        self._lasts += worker.runs_last
        if self._lasts < width:
            self.wake(min(queue.suspects, width - self._lasts))
        return worker.runs_last

    def _rests(self, worker: Worker) -> None:
        """The worker has ended what it took. Called with the lock held."""
        worker.is_busy = False
        if worker.runs_last:
            worker.runs_last = False
            self._lasts -= 1
            if not self._lasts:
                self.wake(self.engine.queue.ready + self.engine.queue.delayed)

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
        if worker.mean_s >= TINY_S or self.engine.wanted == 1:
            return False
        if self._solo is not None:
            return True
        if self.engine.queue.ready:
            self._solo = worker
            self.wake(1)  # somebody must watch
        return False

    def _all_work(self) -> None:
        """Nobody works alone any more. Each measures its tasks anew."""
        alone, self._solo = self._solo, None
        for worker in self._workers:
            worker.mean_s = max(worker.mean_s, BATCH_S)
        queue = self.engine.queue
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
        if self.engine.is_forked:
            return
        with self._lock:
            self._rests(worker)
            self._timeouts.came_back(worker)
            if worker in self._workers:
                self._workers.remove(worker)
                self._slots.append(worker.slot)
                if self.engine.is_all_fed and self.engine.queue.suspects:
                    self.wake(1)
            if self._solo is worker:
                self._all_work()
            self.engine.idle.notify_all()

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
        self.engine.queue.give_back(items)
        if self._solo is worker:
            self._all_work()
        self.wake(self.engine.queue.waiting)
        self.engine.idle.notify_all()

    @property
    def told(self) -> str:
        """See Crew."""
        if self._refused_at is None or not self.engine.standing.is_open:
            return self._timeouts.text
        only = f"Only {len(self._workers):,} of {self.engine.wanted:,} threads run: the system starts no more of them."
        return f"{only} {self._timeouts.text}".rstrip()

    def give_back(self, worker: Worker) -> None:
        """What a worker has taken and not begun when the run was paused or stopped."""
        items = list(worker.batch)
        worker.batch.clear()
        self.engine.give_back(items)

    # ---- the watch

    def has_kept(self) -> bool:
        """Does any worker hold results that wait for the rest of a batch, or may it?"""
        return any(w.has_more for w in list(self._workers))

    def hand_over_late(self, after_s: float) -> None:
        """Results that ended before a task that takes long are handed over."""
        for worker in list(self._workers):
            if worker.has_more and worker.is_stuck(after_s):
                worker.hand_over_kept()

    # ---- crew.Crew

    @property
    def appetite(self) -> int:
        """See Crew."""
        return max(2 * self.engine.wanted, 64)

    @property
    def is_empty(self) -> bool:
        """See Crew."""
        return not self._workers

    def wake(self, count: int) -> None:
        """Wakes sleepers and starts threads."""
        engine = self.engine
        if not engine.standing.is_running:
            return
        if self._solo is not None:
            count = 0 if self._watched else min(count, 1)
        sleepers = min(self._waiting, count)
        if sleepers:
            self._tasks.notify(sleepers)
        more = min(engine.wanted - len(self._workers), count - sleepers)
        if more > 0 and (self._refused_at is None or time.monotonic() > self._refused_at + REFUSED_S):
            self._add_workers(more)

    def _add_workers(self, count: int) -> None:
        """Start threads; where the system starts no more, go on with those that run, or pause."""
        engine = self.engine
        self._refused_at = None
        for _ in range(count):
            self._started += 1
            slot = self._slots.pop() if self._slots else len(self._workers)
            worker = Worker(self, self._started, f"{engine.name}:{self._started}", slot)
            self._workers.append(worker)
            try:
                start_thread(worker.thread)
            except ThreadLimitError as e:
                self._workers.remove(worker)
                self._slots.append(slot)
                if self._workers:
                    self._refused_at = time.monotonic()
                else:
                    engine.no_threads(e)
                return

    def rouse(self) -> None:
        """See Crew; those that are too many end."""
        self._tasks.notify_all()

    def end(self) -> None:
        """See Crew."""
        self._watch.end()
        self._timeouts.end()

    def forget_in_child(self) -> None:
        """See Crew."""
        for worker in self._workers:
            worker.batch.clear()

    def at_work(self) -> list[SampleWork]:
        """See Crew."""
        return [c[0] for w in list(self._workers) if (c := w.current)]

    def tasks(self) -> list[tuple[Task, int]]:
        """See Crew."""
        return [(c[1], w.since) for w in list(self._workers) if (c := w.current)]

    def begun(self) -> list[int]:
        """See Crew."""
        return [w.since for w in list(self._workers) if w.current]

    def works_in(self, thread: threading.Thread) -> bool:
        """See Crew."""
        return any(worker.thread is thread for worker in list(self._workers))
