"""The engine: hands tasks to workers, counts what ends, and is paused, resumed, stopped and resized while it runs.

Threads:
    feeder    `feed`, `wait_for_room`, `wait_until_idle`: the conductor of the run
    workers   `take`, `give_back`, `try_again`, `ended`, `failed`, `left`
    anybody   `pause`, `resume`, `stop`, `workers`, `retry_errors`, `at_work`
`_lock` protects the queue, the list of workers and the state. It is never held over a user's function or over I/O.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from nbrun.engine.away import Away
from nbrun.engine.queue import SampleWork, TaskQueue
from nbrun.engine.watch import Watch
from nbrun.engine.worker import BATCH_S, Worker
from nbrun.errors import RunHaltedError, SystematicFailureError
from nbrun.model import CancelFlag, ResultSink, Retry, RetryPolicy, State, Task, TaskRow
from nbrun.progress import Board

#: Nobody wants 11.6 million equal errors: the run pauses when the first tasks to end, or so many in a row, fail alike.
FIRST_FAILURES, FAILURES_IN_A_ROW = 10, 50
#: The feeder keeps so many tasks ready, of so many samples at most (or twice the workers where that is more).
READY_TASKS, READY_SAMPLES = 2000, 32
#: Tasks shorter than this gain nothing from threads, which only take the GIL from one another: one worker
#: runs them alone, until they take NOT_TINY_S, while another looks every WATCH_S whether one keeps it for STUCK_S.
TINY_S, NOT_TINY_S, WATCH_S, STUCK_S = 50e-6, 500e-6, 0.02, 0.02
#: How long a stop at once waits for tasks to notice.
ABANDON_AFTER_S = 5.0
#: So many suspects run one by one; of more, so many groups run one after another.
ALONE_UP_TO = 32
#: Samples with errors that are kept in memory, so that their errors can be tried again at once.
KEPT_WITH_ERRORS = 1000


class Engine:
    """Runs tasks in threads.

    Args:
        fn: called with a Task in a worker thread.
        sink: where results go.
        board: where progress is counted.
        workers: how many threads at most.
        retry: what happens after an exception.
        name: begins the workers' names as they stand in results, such as the host.
    """

    def __init__(
        self, fn: Callable[[Task], Any], sink: ResultSink, board: Board, *,
        workers: int, retry: RetryPolicy, name: str = "",
    ) -> None:  # fmt: skip
        self.fn, self.sink, self.board, self.retry = fn, sink, board, retry
        self.flag = CancelFlag()
        self.random = random.Random().random
        self.streak = 0  # errors in a row of one type; set to 0 by any worker whose task ended well
        self.any_success = False
        self._streak_type: type[BaseException] | None = None
        self._name = name
        self._lock = threading.Lock()
        self._tasks = threading.Condition(self._lock)  # workers wait here
        self._room = threading.Condition(self._lock)  # the feeder waits here
        self._idle = threading.Condition(self._lock)  # the conductor waits here
        self._queue = TaskQueue()
        self._workers: list[Worker] = []
        self._wanted = workers
        self._started = 0
        self._waiting = 0
        self._timekeeper = self._feeder_waits = self._watched = False
        self._solo: Worker | None = None  # runs tiny tasks alone; the others sleep
        self._slots: list[int] = []  # of workers that ended; the next ones take them
        self._all_fed = False
        self._lasts, self._last_width = 0, 1  # suspects at work now, and at most
        self._watch = Watch(self)
        self._open: set[SampleWork] = set()
        self._with_errors: dict[SampleWork, None] = {}
        self.state = State.RUNNING
        self.is_running = True  # the same as state is RUNNING; read by workers before each task
        self.message = ""
        self.trouble: RunHaltedError | None = None  # why the run paused itself
        self.broken: RunHaltedError | None = None  # a fault of nbrun's own
        self.is_forked = False  # this is a child of the process that runs it
        self._away = Away(self)

    # ---- feeder

    def feed(self, work: Any) -> None:
        """A sample with missing tasks is ready to be worked on."""
        sample = SampleWork(work)
        with self._lock:
            self._queue.add(sample)
            self._open.add(sample)
            self._wake(len(sample.positions))

    def all_fed(self) -> int:
        """No sample follows: suspects may run once all else has ended. Returns how many there are."""
        with self._lock:
            self._all_fed = True
            suspects = self._queue.suspects
            self._last_width = 1 if suspects <= ALONE_UP_TO else -(-suspects // ALONE_UP_TO)
            self._wake(min(suspects, self._last_width))
            return suspects

    def wait_for_room(self) -> bool:
        """Waits until the next sample may be read. False where no more is wanted."""
        with self._lock:
            if self._is_full():
                self._feeder_waits = True
                while self.state in (State.RUNNING, State.PAUSED) and not self._is_low():
                    self._room.wait()
                self._feeder_waits = False
            return self.state in (State.RUNNING, State.PAUSED)

    def _is_full(self) -> bool:
        q = self._queue
        if q.ready < max(2 * self._wanted, 64):
            return False
        return q.ready >= READY_TASKS or q.samples_waiting >= READY_SAMPLES

    def _is_low(self) -> bool:
        """Half empty: the feeder wakes and fills, instead of waking for each sample."""
        q = self._queue
        if q.ready < max(2 * self._wanted, 64):
            return True
        return q.ready <= READY_TASKS // 2 and q.samples_waiting <= READY_SAMPLES // 2

    def wait_until_idle(self) -> None:
        """Waits until all has ended, or until the run was stopped and its tasks with it (`wait_for_workers`)."""
        with self._lock:
            while self._open:
                if self.state not in (State.RUNNING, State.PAUSED) and (self.flag.is_set or not self._workers):
                    return
                self._idle.wait()

    # ---- workers

    def take(self, worker: Worker) -> bool:
        """Fills the worker's batch. False: the thread shall end."""
        with self._lock:
            self._rests(worker)
            while True:
                if self.state not in (State.RUNNING, State.PAUSED) or len(self._workers) > self._wanted:
                    return False
                due = None
                if self.is_running and not self._lasts and not self._leaves_it_to_another(worker):
                    sharing = 1 if self._solo is worker else 2 * self._wanted
                    most = min(worker.batch_size, 1 + self._queue.ready // sharing)
                    items = self._queue.take(most, time.monotonic()) or self._steal()
                    if items:
                        worker.batch.extend(items)
                        worker.is_busy = True
                        if len(items) > 1:
                            self._watch.wake()
                        if self._feeder_waits and self._is_low():
                            self._room.notify()
                        return True
                    due = self._queue.next_due
                if self.is_running and self._all_fed and self._takes_last(worker):
                    return True
                if self._solo is worker:  # it sleeps, in a pause too: who is woken next must not leave the work to it
                    self._solo = None
                self._wait_for_tasks(due)

    def _takes_last(self, worker: Worker) -> bool:
        """A suspect, which runs once all else has ended, alone. Many can't be told apart: a part of them at once."""
        if not self._queue.suspects or self._lasts >= self._last_width:
            return False
        if any(w.is_busy and not w.runs_last for w in self._workers):
            return False  # the last of these comes here and takes it
        items = self._queue.take_last()
        worker.batch.extend(items)
        worker.is_busy = worker.runs_last = bool(items)
        self._lasts += worker.runs_last
        if self._lasts < self._last_width:
            self._wake(min(self._queue.suspects, self._last_width - self._lasts))
        return worker.runs_last

    def _rests(self, worker: Worker) -> None:
        """The worker has ended what it took. Called with the lock held."""
        worker.is_busy = False
        if worker.runs_last:
            worker.runs_last = False
            self._lasts -= 1
            if not self._lasts:
                self._wake(self._queue.ready + self._queue.delayed)

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
        if worker.mean_s >= TINY_S or self._wanted == 1:
            return False
        if self._solo is not None:
            return True
        if self._queue.ready:
            self._solo = worker
            self._wake(1)  # somebody must watch
        return False

    def _all_work(self) -> None:
        """Nobody works alone any more. Each measures its tasks anew."""
        alone, self._solo = self._solo, None
        for worker in self._workers:
            worker.mean_s = max(worker.mean_s, BATCH_S)
        self._wake(self._queue.ready + self._queue.delayed + (len(alone.batch) if alone else 0))

    def _steal(self) -> list[tuple[SampleWork, int]]:
        for other in self._workers:
            if other.batch:
                try:
                    return [other.batch.pop()]
                except IndexError:  # its owner was faster
                    continue
        return []

    def _wake(self, count: int) -> None:
        """So many tasks are ready: wakes sleepers and starts threads. Called with the lock held."""
        if not self.is_running:
            return
        if self._solo is not None:
            count = 0 if self._watched else min(count, 1)
        sleepers = min(self._waiting, count)
        if sleepers:
            self._tasks.notify(sleepers)
        for _ in range(min(self._wanted - len(self._workers), count - sleepers)):
            self._started += 1
            slot = self._slots.pop() if self._slots else len(self._workers)
            worker = Worker(self, self._started, f"{self._name}:{self._started}", slot)
            self._workers.append(worker)
            worker.thread.start()

    def left(self, worker: Worker) -> None:
        """A worker's thread ends."""
        if self.is_forked:
            return
        with self._lock:
            self._rests(worker)
            if worker in self._workers:
                self._workers.remove(worker)
                self._slots.append(worker.slot)
                if self._all_fed and self._queue.suspects:
                    self._wake(1)
            if self._solo is worker:
                self._all_work()
            self._idle.notify_all()

    def give_back(self, worker: Worker) -> None:
        """What a worker has taken and not begun when the run was paused or stopped."""
        with self._lock:
            items = list(worker.batch)
            worker.batch.clear()
            self._queue.give_back(items)
            if self.is_running:
                self._wake(len(items))

    def try_again(self, sample: SampleWork, position: int, task: Task, retry: Retry, after_s: float) -> None:
        """The task waits in the queue for another try; no worker waits with it."""
        self.sink.put_attempt(sample.work, position, task.attempt, retry)
        with self._lock:
            self._queue.delay(sample, position, time.monotonic() + max(0.0, after_s))
            if self._waiting:
                self._tasks.notify()

    def ended(self, sample: SampleWork, count: int, failed: list[tuple[int, str]]) -> None:
        """Tasks of a sample have a result, or (`failed`: position and kind) an error, that was handed to the sink."""
        with self._lock:
            sample.left -= count
            sample.errors += failed
            over = sample.left == 0
            if over and sample.errors:
                self._with_errors[sample] = None
                if len(self._with_errors) > KEPT_WITH_ERRORS:
                    del self._with_errors[next(iter(self._with_errors))]
        if over:
            self.sink.ended(sample.work)
            if not sample.errors:
                self.board.sample_done()
            with self._lock:
                if sample.left == 0:
                    self._open.discard(sample)
                if not self._open:
                    self._idle.notify_all()

    def failed(self, e: BaseException, error: dict[str, str]) -> None:
        """A task ended in an error; pauses the run where all fail alike."""
        with self._lock:
            same = type(e) is self._streak_type and self.streak > 0
            self.streak = self.streak + 1 if same else 1
            self._streak_type = type(e)
            first = not self.any_success and self.streak == FIRST_FAILURES
            if not (first or self.streak >= FAILURES_IN_A_ROW) or not self.is_running:
                return
            which = f"the first {FIRST_FAILURES} tasks" if first else f"{FAILURES_IN_A_ROW} tasks in a row"
        message = (
            f"Paused: {which} failed with {error['type']}: {error['message'][:300]}. "
            "Mend the cause, then run.resume() and run.retry_errors(); or run.stop()."
        )
        trouble = SystematicFailureError(message + ("\n\n" + error["traceback"] if error["traceback"] else ""))
        trouble.__cause__ = e
        self.pause(message, trouble)

    # ---- anybody

    def pause(self, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """Workers take no more tasks; what runs goes on to its end."""
        self._away.forget()
        if not self.pause_unless_paused(message, trouble):
            with self._lock:
                if self.state is State.PAUSED and self.trouble is None:
                    self.message, self.trouble = message, trouble

    def pause_unless_paused(self, message: str, trouble: RunHaltedError | None = None) -> bool:
        """The same, if the run is running: else nothing happens, and False is returned."""
        with self._lock:
            if self.state is not State.RUNNING:
                return False
            self._set_state(State.PAUSED)
            self.message, self.trouble = message, trouble
            self._idle.notify_all()
            return True

    def wait_for_judge(self, sample: SampleWork, position: int, message: str) -> None:
        """Nothing can be judged for now: the task goes back unattempted and the run pauses until the judge is back."""
        with self._lock:
            self._queue.give_back([(sample, position)])
        self._away.begin(message)
        with self._lock:
            self._wake(1)  # nothing, unless the run was resumed meanwhile

    def resume(self) -> None:
        """Workers take tasks again; after a fault the disk is tried again."""
        self._away.forget()
        with self._lock:
            if self.state is not State.PAUSED:
                return
            self._set_state(State.RUNNING)
            self.message, self.trouble = "", None
            self.streak = 0
            self._wake(self._queue.ready + self._queue.delayed + self._queue.suspects)
        self.board.restart_rate()
        self.sink.mend()
        with self._lock:
            self._idle.notify_all()

    def broke(self, e: BaseException) -> None:
        """A fault of nbrun's own: the run halts, since what it can't tell any more would hang it."""
        error = RunHaltedError(
            f"The run halted by a fault of nbrun's own: {type(e).__name__}: {e}. What is saved stays; "
            "start again to go on with what is missing, and please report this."
        )
        error.__cause__ = e
        with self._lock:
            if self.broken is None:
                self.broken = self.trouble = error
        self.stop(drain=True)

    def stop(self, drain: bool = True) -> list[Task]:
        """No more tasks are begun. Returns the tasks that run now. After a fault the disk is tried once more."""
        had_trouble = self.trouble is not None
        running = self._stop(drain)
        if had_trouble:
            self.sink.mend()
        return running

    def _stop(self, drain: bool) -> list[Task]:
        with self._lock:
            if self.state in (State.RUNNING, State.PAUSED):
                self._set_state(State.DRAINING)
            if not drain:
                self.flag.is_set = True
            self._tasks.notify_all()
            self._room.notify_all()
            self._idle.notify_all()
            return [c[1] for w in self._workers if (c := w.current)]

    def wait_for_workers(self, timeout_s: float) -> bool:
        """Waits until no thread is left. False on a time-out."""
        with self._lock:
            return self._idle.wait_for(lambda: not self._workers, timeout_s)

    def wait_for_resume(self) -> bool:
        """After a fault at the end of a run: waits until somebody resumes (True) or stops (False)."""
        with self._lock:
            if self.state is State.DRAINING:
                return False
            self._idle.wait_for(lambda: self.state is not State.PAUSED)
            return self.state is State.RUNNING

    def finish(self, state: State, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """The run is over: the threads end, and so does everybody's wait."""
        with self._lock:
            self._set_state(state)
            self.message = message or self.message
            self.trouble = trouble or (self.trouble if state is not State.DONE else None)
            self._queue.clear()
            self._open.clear()
            self._watch.end()
            self._tasks.notify_all()
            self._room.notify_all()
            self._idle.notify_all()

    def _set_state(self, state: State) -> None:
        self.state = state
        self.is_running = state is State.RUNNING

    @property
    def workers(self) -> int:
        """How many threads are wanted."""
        return self._wanted

    @workers.setter
    def workers(self, n: int) -> None:
        with self._lock:
            self._wanted = n
            self._tasks.notify_all()  # those that are too many end
            self._room.notify()
            self._wake(self._queue.ready + self._queue.delayed + self._queue.suspects)

    def retry_errors(self, kind: str | None = None) -> int:
        """Queues tasks that ended in errors (of one kind) again, if their samples are in memory. Returns how many."""
        count = 0
        with self._lock:
            samples = {*self._with_errors, *(s for s in self._open if s.errors)}
        for sample in samples:
            count += self._retry(sample, kind)
        return count

    def _retry(self, sample: SampleWork, kind: str | None) -> int:
        with self._lock:
            again = [e for e in sample.errors if kind is None or e[1] == kind]
            if not again:
                return 0
            sample.errors = [e for e in sample.errors if kind is not None and e[1] != kind]
            self._with_errors.pop(sample, None)  # it comes back if any is left when these have ended
            self._open.add(sample)
            sample.left += len(again)
        self.sink.reopen(sample.work)
        self.board.error_again(sample.work.number, [kind for _, kind in again])
        with self._lock:
            self._queue.give_back([(sample, position) for position, _ in again])
            self.streak = 0
            self._wake(len(again))
        return len(again)

    def forget_in_child(self) -> None:
        """After a fork, in the child: the thread that forked may be a worker here, which must not go on."""
        self.is_forked = True
        self.is_running = False
        for worker in self._workers:
            worker.batch.clear()

    def has_kept(self) -> bool:
        """Does any worker hold results that wait for the rest of a batch, or may it?"""
        return any(w.has_more for w in list(self._workers))

    def hand_over_late(self, after_s: float) -> None:
        """Results that ended before a task that takes long are handed over. Called by the watch."""
        for worker in list(self._workers):
            if worker.has_more and worker.is_stuck(after_s):
                worker.hand_over_kept()

    def at_work(self) -> dict[int, int]:
        """Sample number -> tasks running now."""
        counts: dict[int, int] = {}
        for worker in list(self._workers):
            current = worker.current
            if current is not None:
                number = current[0].work.number
                counts[number] = counts.get(number, 0) + 1
        return counts

    def running_of(self, sample_id: str) -> list[TaskRow]:
        """The tasks of a sample that run now; `time_s` says for how long."""
        now = time.perf_counter_ns()
        at_work = [(c[1], w.since) for w in list(self._workers) if (c := w.current)]
        return [
            TaskRow(task.group, task.index, "running", None, max(0, now - since) / 1e9, task.attempt, None)
            for task, since in at_work
            if task.sample_id == sample_id
        ]

    def works_in(self, thread: threading.Thread) -> bool:
        """Is that one of the workers?"""
        return any(worker.thread is thread for worker in list(self._workers))
