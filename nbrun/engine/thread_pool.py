"""Tasks in daemon threads of this process, which take tasks, call `fn`, encode the results and complete them.

Own daemon threads, since the interpreter joins those of a ThreadPoolExecutor at exit: a kernel with requests of 1000 s
in flight would hang. Short tasks are taken a few at a time (up to about 2 ms of work), so that the lock is not taken
for each of them; idle workers steal what another has taken and not begun. `BatchFlusher` completes the results of a
batch while a later task of it takes long, and `TimeoutMonitor` replaces workers whose task takes longer than
`timeout_s`.

Threads: workers call `take`, `give_back` and `left`; the scheduler calls what `WorkerPool` lists. The scheduler's lock
protects everything in `ThreadPool`.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque

from nbrun.engine.state import SampleWork, TaskRef
from nbrun.engine.worker_pool import (
    CompletedTasks,
    TaskSource,
    WorkerPool,
    after_exception,
    as_mapping,
    complete,
    complete_failure,
    serve,
    stack_of,
    timeout_error,
)
from nbrun.errors import RunHaltedError, ThreadLimitError
from nbrun.model import CancelFlag, Record, ResultSink, SampleTasks, SinkClosedError, Task
from nbrun.output import Writer, set_writer
from nbrun.texts import counted
from nbrun.threads import start_daemon, start_thread
from nbrun.tuning import TUNING

#: Tasks whose mean time is below TINY_S run faster on one thread than on many that compete for the GIL. One worker (the
#: "solo worker") then runs them all, until their mean exceeds NOT_TINY_S. Every WATCH_S, an idle worker checks whether
#: one task has kept the solo worker busy for `TUNING.solo_stuck_s`.
TINY_S, NOT_TINY_S, WATCH_S = 50e-6, 500e-6, 0.02

#: After the system refused a thread, no other is started for this many seconds.
REFUSED_S = 1.0
#: With many workers, one write records a whole window of tasks as running before the first of them starts. Beyond the
#: batch of its own worker, a window has at most MAX_WINDOW tasks and at most one per WORKERS_PER_TASK_AHEAD workers, to
#: limit how many are recorded before they really run.
MAX_WINDOW, WORKERS_PER_TASK_AHEAD = 32, 16


class Window:
    """Tasks of one sample that one record marks as running, in one slot of the in-flight file.

    Some of them may be running already, while others wait for a worker.

    Threads: the scheduler's lock protects `holders`.

    Attributes:
        number: how many windows the pool made before it.
        positions: of all its tasks; empty once they are recorded.
        slot: the slot of the record; another window may use it once `holders` is 0.
        holders: the number of workers that run its tasks, plus the number of its tasks that wait to be taken.
    """

    __slots__ = ("holders", "number", "positions", "sample", "slot")

    def __init__(self, number: int, sample: SampleWork, positions: list[int], slot: int) -> None:
        self.number, self.sample, self.positions, self.slot = number, sample, positions, slot
        self.holders = 1

    def record(self, sink: ResultSink[SampleTasks]) -> None:
        """Write the in-flight record of these tasks. Called by the worker that took them."""
        sink.begin_tasks(self.slot, self.sample.work.fingerprints(self.positions))
        self.positions = []


class ThreadPool(WorkerPool):
    """Daemon threads that take tasks themselves; started when there is something to do."""

    def __init__(self, scheduler: TaskSource) -> None:
        self.scheduler = scheduler
        self._lock = scheduler.lock
        self._tasks = threading.Condition(self._lock)  # workers wait here
        self._workers: list[Worker] = []
        self._started = 0
        self._waiting = 0
        self.takes_single = False  # set if the BatchFlusher's thread can't start: workers take one task at a time
        self._refused_at: float | None = None  # when the system last refused a thread, on monotonic's clock
        self._timekeeper = self._watched = False
        self._solo: Worker | None = None  # runs tiny tasks alone; the others sleep
        self._leaving: set[Worker] = set()  # the members of `_workers` that end because there are too many
        self._windows = itertools.count()  # numbers them
        self._free_slots: list[int] = []  # of the in-flight record
        self._slot_count = 0
        self._has_batches = False  # some worker may have several tasks that it has not begun: see `_steal`
        self.wants_to_steal = False  # a worker has looked for tasks to steal: the next `publish` wakes all
        self._recorded: deque[tuple[int, Window]] = deque()  # tasks that are recorded as running, to be taken next
        self._quarantined_running = 0  # how many quarantined tasks run now
        self._flusher = BatchFlusher(self)
        self._timeouts = TimeoutMonitor(self)

    # ---- workers

    def take(self, worker: Worker) -> Window | None:
        """Fill the worker's batch, waiting for tasks. Return their window, or None if its thread is to end."""
        scheduler, run_state = self.scheduler, self.scheduler.run_state
        with self._lock:
            self._rests(worker)
            while run_state.is_open:
                if len(self._workers) - len(self._leaving) > scheduler.target_workers:
                    self._leaving.add(worker)  # else all others would find that there are too many, and end too
                    break
                due = math.inf
                if run_state.is_running:
                    if not self._quarantined_running and not self._leaves_it_to_another(worker):
                        if self._fill_batch(worker):
                            return worker.window
                        due = scheduler.next_due
                    if scheduler.is_all_fed and self._takes_quarantined(worker):
                        return worker.window
                if self._solo is worker:  # it is about to sleep, perhaps in a pause: others must not leave tasks to it
                    self._solo = None
                self._wait_for_tasks(due)
            self._hand_on_the_watch()
            return None

    def _fill_batch(self, worker: Worker) -> bool:
        """Give the worker tasks that may start now. Return False if there are none."""
        scheduler, queue = self.scheduler, self.scheduler.queue
        if not ((self._recorded and self._take_recorded(worker)) or self._take_new(worker) or self._steal(worker)):
            return False
        if scheduler.timeout_s is not None:
            self._timeouts.need()
        if len(worker.batch) > 1:
            self._has_batches = True
            if not self._flusher.wake():
                self.takes_single = True
        if (queue.delayed_by_sample or scheduler.gate.is_active) and not self._timekeeper and queue.waiting:
            self.wake(1)  # this worker was the timekeeper of the delayed tasks
        self._hand_on_the_watch()
        return True

    def _take_recorded(self, worker: Worker) -> bool:
        """Take a task of a window that another worker has recorded. Return False if it must not start now."""
        recorded = self._recorded
        if self.scheduler.gate.is_active:  # the start gate now decides for each attempt when it starts
            for position, window in recorded:
                self.scheduler.queue.give_back([(window.sample, position)])
                self._release(window)
            recorded.clear()
            return False
        position, worker.window = recorded.popleft()  # `holders` stays the same: the worker replaces the waiting task
        worker.batch.append(position)
        return True

    def _take_new(self, worker: Worker) -> bool:
        """Take tasks from the queue: those of the worker's batch, and a few more that it records for other workers."""
        scheduler = self.scheduler
        target = scheduler.target_workers
        most = min(worker.batch_size, 1 + scheduler.queue.ready // (1 if self._solo is worker else 2 * target))
        taken = scheduler.take(max(most, min(MAX_WINDOW, target // WORKERS_PER_TASK_AHEAD)))
        if taken is None:
            return False
        sample, positions = taken
        worker.window = Window(next(self._windows), sample, positions, self._new_slot())
        worker.batch.extend(positions[:most])
        worker.ahead = positions[most:]
        return True

    def publish(self, positions: list[int], window: Window) -> None:
        """Offer tasks of a recorded window to other workers, which may steal from its owner's batch from now on."""
        with self._lock:
            if self.wants_to_steal:
                self.wants_to_steal = False
                self.wake(self._waiting)
            window.holders += len(positions)
            # Behind tasks of later windows, which may take long, they could wait while all workers are busy.
            if self._recorded and window.number < self._recorded[0][1].number:
                self._recorded.extendleft([(position, window) for position in reversed(positions)])
            else:
                self._recorded.extend([(position, window) for position in positions])
            self.wake(len(positions))

    def _new_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slot_count += 1
        return self._slot_count - 1

    def _release(self, window: Window) -> None:
        """Count down `holders`, and free the slot of a window that nothing holds. The caller holds the lock."""
        window.holders -= 1
        if not window.holders:
            self._free_slots.append(window.slot)

    def _takes_quarantined(self, worker: Worker) -> bool:
        """Take a quarantined task (it may kill the process) once all normal tasks have ended. Return whether it did.

        At most `quarantine_width` of them run at once.
        """
        queue, width = self.scheduler.queue, self.scheduler.quarantine_width
        if not queue.quarantined or self._quarantined_running >= width:
            return False
        if any(w.window is not None and not w.runs_quarantined for w in self._workers):
            return False  # the last busy worker takes the quarantined task when it is done
        taken = self.scheduler.take_quarantined()
        if taken is not None:
            worker.runs_quarantined = True
            worker.window = Window(next(self._windows), *taken, self._new_slot())
            worker.batch.extend(taken[1])
            if self.scheduler.timeout_s is not None:
                self._timeouts.need()
            self._quarantined_running += 1
        if self._quarantined_running < width:
            self.wake(min(queue.quarantined, width - self._quarantined_running))
        return taken is not None

    def _rests(self, worker: Worker) -> None:
        """Note that the worker has ended what it took. The caller holds the lock."""
        window = worker.window
        if window is not None:
            self._release(window)
            worker.window = None
        if worker.runs_quarantined:
            worker.runs_quarantined = False
            self._quarantined_running -= 1
            if not self._quarantined_running:
                self.wake(self.scheduler.queue.ready + self.scheduler.queue.delayed)

    def _wait_for_tasks(self, due: float) -> None:
        """Wait until tasks may be taken.

        One idle worker wakes when a delayed task is due, and one watches the solo worker; the others just sleep.
        """
        keeps_time = due < math.inf and not self._timekeeper
        watches = self._solo is not None and not self._watched
        self._timekeeper |= keeps_time
        self._watched |= watches
        wait_s = WATCH_S if watches else math.inf
        if keeps_time:
            wait_s = min(wait_s, max(0.0, due - time.monotonic()))
        self._waiting += 1
        try:
            self._tasks.wait(wait_s if wait_s < math.inf else None)
        finally:
            self._waiting -= 1
            self._timekeeper &= not keeps_time
            self._watched &= not watches
        if self._solo is not None and self._solo.is_stuck(TUNING.solo_stuck_s):
            self._all_work()

    def _hand_on_the_watch(self) -> None:
        """Let another idle worker watch the solo worker, if the one that did waits no longer.

        Without it, tasks in the batch of a solo worker whose task takes long would wait for that task's end.
        """
        if self._solo is not None and not self._watched:
            self.wake(1)

    def _leaves_it_to_another(self, worker: Worker) -> bool:
        """Return True if this worker should sleep, because the solo worker runs all the (tiny) tasks."""
        if self._solo is worker:
            if worker.mean_s > NOT_TINY_S:
                self._all_work()
            return False
        if worker.mean_s >= TINY_S or self.scheduler.target_workers == 1:
            return False
        if self._solo is not None:
            return True
        # While the start gate holds tasks back there is nothing to run alone: workers would only wake one another.
        if self.scheduler.queue.ready and not self.scheduler.gate.is_active:
            self._solo = worker  # `_fill_batch` wakes one that watches it
        return False

    def _all_work(self) -> None:
        """End the solo phase: all workers take tasks again, and measure them from now on."""
        alone, self._solo = self._solo, None
        for worker in self._workers:
            worker.mean_s = max(worker.mean_s, BATCH_S)
        queue = self.scheduler.queue
        self.wake(queue.ready + queue.delayed + len(self._recorded) + (len(alone.batch) if alone else 0))

    def _steal(self, worker: Worker) -> bool:
        """Take a task that another worker has taken and not begun. Return whether there was one."""
        if not self._has_batches:  # hundreds of workers with one task each are not searched
            return False
        self._has_batches = False
        for other in self._workers:
            if other.batch and other.window is not None:
                self._has_batches = True
                # Before the check: who records reads this afterwards, so no wake-up is missed.
                self.wants_to_steal = True
                if other.window.positions:  # not recorded yet
                    continue
                try:
                    position = other.batch.pop()
                except IndexError:  # its owner was faster
                    continue
                worker.window = other.window
                worker.window.holders += 1
                worker.batch.append(position)
                return True
        return False

    def left(self, worker: Worker) -> None:
        """Remove a worker whose thread ends."""
        if self.scheduler.is_forked:
            return
        with self._lock:
            self._rests(worker)
            self._timeouts.came_back(worker)
            self._leaving.discard(worker)
            if worker in self._workers:
                self._workers.remove(worker)
                if self.scheduler.is_all_fed and self.scheduler.queue.quarantined:
                    self.wake(1)
            if self._solo is worker:
                self._all_work()
            self.scheduler.idle.notify_all()

    def workers(self) -> list[Worker]:
        """Return the workers that have not ended."""
        return list(self._workers)

    def lose(self, worker: Worker) -> None:
        """Replace a worker whose task timed out: drop it from the pool and requeue the tasks that it has not begun.

        The caller holds the lock.
        """
        self._rests(worker)
        if worker in self._workers:
            self._workers.remove(worker)
        self.scheduler.queue.give_back(worker.not_begun())
        if self._solo is worker:
            self._all_work()
        self.wake(self.scheduler.queue.waiting)
        self.scheduler.idle.notify_all()

    @property
    def notice(self) -> str:
        if self._refused_at is None or not self.scheduler.run_state.is_open:
            return self._timeouts.text
        running, target = self._staying, self.scheduler.target_workers
        only = f"Only {running:,} of {target:,} threads run: the system starts no more of them."
        return f"{only} {self._timeouts.text}".rstrip()

    # ---- WorkerPool

    @property
    def is_empty(self) -> bool:
        return not self._workers

    @property
    def _staying(self) -> int:
        """How many workers go on taking tasks. The caller holds the lock."""
        return len(self._workers) - len(self._leaving)

    def wake(self, count: int) -> None:
        """Wake workers that sleep, and start threads if they are too few."""
        scheduler = self.scheduler
        if not scheduler.run_state.is_running:
            return
        if self._solo is not None:
            count = 0 if self._watched else min(count, 1)
        sleepers = min(self._waiting, count)
        if sleepers:
            self._tasks.notify(sleepers)
        more = min(scheduler.target_workers - self._staying, count - sleepers)
        if more > 0 and (self._refused_at is None or time.monotonic() > self._refused_at + REFUSED_S):
            self._add_workers(more)

    def _add_workers(self, count: int) -> None:
        """Start threads; where the system starts no more, go on with those that run, or pause."""
        scheduler = self.scheduler
        self._refused_at = None
        for _ in range(count):
            self._started += 1
            worker = Worker(self, self._started, f"{scheduler.name}:{self._started}")
            self._workers.append(worker)
            try:
                start_thread(worker.thread)
            except ThreadLimitError as e:
                self._workers.remove(worker)
                if self._workers:
                    self._refused_at = time.monotonic()
                else:
                    scheduler.no_threads(e)
                return

    def notify_all(self) -> None:
        self._tasks.notify_all()

    def end(self) -> None:
        self._recorded.clear()
        self._flusher.end()
        self._timeouts.end()

    def forget_in_child(self) -> None:
        self._recorded.clear()
        for worker in self._workers:
            worker.batch.clear()

    def at_work(self) -> list[SampleWork]:
        return [w.sample for w in list(self._workers) if w.current and w.sample]

    def tasks(self) -> list[tuple[Task, int]]:
        return [(task, w.since) for w in list(self._workers) if (task := w.current)]


#: A worker takes tasks for about BATCH_S together, at most MAX_BATCH of them. In a batch that takes longer, the results
#: are completed after each task from then on.
BATCH_S, BATCH_NS, MAX_BATCH = 0.002, 2_000_000, 128
#: What a task costs in addition to `fn`, roughly.
OVERHEAD_S = 5e-6


class Worker:
    """One thread.

    Threads: `batch` is a deque whose single operations are atomic: the worker takes from the left, others steal from
    the right, and the worker that gets a task runs it. `_results` are completed by the worker at the end of its batch,
    and by the BatchFlusher while a task takes long: `_completing` protects taking them out, which may happen while the
    worker appends. `current` and `sample` are written by the worker and read by views and by `stop`; the scheduler's
    lock protects `window` and `runs_quarantined`.
    """

    def __init__(self, pool: ThreadPool, number: int, name: str) -> None:
        self.pool, self.name = pool, name
        self.batch: deque[int] = deque()  # positions in `sample` of the tasks that it has taken and not begun
        self.sample: SampleWork | None = None
        self.window: Window | None = None  # the window of its tasks; None while it has none
        self.ahead: list[int] = []  # more tasks of that window, to be offered to others once they are recorded
        self.runs_quarantined = False
        self.current: Task | None = None
        self.claim: Claim | None = None  # `current`, where it has a time-out
        self.since = 0  # when `current` began, on perf_counter_ns's clock
        self._results: list[Record] = []  # of tasks of `sample`, not completed yet
        self._completing = threading.Lock()
        self.mean_s = BATCH_S  # the mean duration of its recent tasks, a guess at first
        self._weight = 1.0  # of the next measured mean
        self.thread = threading.Thread(target=self._run, name=f"nbrun-worker-{number}", daemon=True)

    @property
    def batch_size(self) -> int:
        """How many tasks to take together."""
        if self.pool.takes_single:
            return 1
        return max(TUNING.min_batch_tasks, min(MAX_BATCH, int(BATCH_S / (self.mean_s + OVERHEAD_S))))

    def is_stuck(self, limit_s: float) -> bool:
        """Return whether its task has been running for longer than `limit_s`. Called by other threads."""
        return self.current is not None and time.perf_counter_ns() - self.since > limit_s * 1e9

    @property
    def has_more(self) -> bool:
        """Whether finished results are held back until the rest of the batch ends, or soon may be."""
        return bool(self.batch or self._results)

    def not_begun(self) -> list[TaskRef]:
        """Take out of the batch, and return, the tasks that the worker has not begun."""
        refs: list[TaskRef] = []
        while self.sample is not None:
            try:
                refs.append((self.sample, self.batch.popleft()))
            except IndexError:
                break
        return refs

    def flush_results(self) -> None:
        """Complete the buffered results now instead of after the running task. The BatchFlusher calls it too."""
        self._refuse_in_child()
        with self._completing:
            results, sample = self._results[:], self.sample
            del self._results[: len(results)]
        if results and sample is not None:
            complete(self.pool.scheduler, CompletedTasks(sample, results))

    def _refuse_in_child(self) -> None:
        """Raise SinkClosedError in a forked child: only the parent may save the result of a task that forked."""
        if self.pool.scheduler.is_forked:
            raise SinkClosedError("this process is a child of the one that runs the task")

    def _run(self) -> None:
        pool, scheduler = self.pool, self.pool.scheduler
        set_writer(self)
        try:
            self._work()
            if not scheduler.is_forked:
                # Otherwise the run could end while another worker still forwards this worker's last results.
                scheduler.completions.clear()
        except (SinkClosedError, TooLate):  # the run was stopped, or the attempt given up: late results are discarded
            pass
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            scheduler.on_internal_error(e)
        finally:
            pool.left(self)

    def writer(self) -> Writer | None:
        """Return who writes in this thread; a task that prints nothing costs nothing here."""
        current = self.current
        return None if current is None else Writer(self.pool.scheduler.output, current)

    def _work(self) -> None:
        """Run one batch of tasks after another. The hot loop: every clock read and every object counts.

        With hundreds of workers a batch is one task, so that what a batch costs is paid for each task too.
        """
        pool, scheduler, batch = self.pool, self.pool.scheduler, self.batch
        fn, encode, flag, name = scheduler.fn, scheduler.sink.encode, scheduler.flag, self.name
        run_state, output, open_lines = scheduler.run_state, scheduler.output, scheduler.output.open
        perf, now, next_position, keep = time.perf_counter_ns, time.time, batch.popleft, self._results.append
        claim: Claim | None = None
        while (window := pool.take(self)) is not None:
            if window.positions:
                self._record(window)
            sample = self.sample = window.sample
            work = sample.work
            count = busy = took = 0  # the last two in nanoseconds of fn
            while batch:
                if not run_state.may_begin:
                    scheduler.give_back(self.not_begun())
                    break
                try:
                    position = next_position()
                except IndexError:  # others have stolen the rest
                    break
                task = work.task(position, flag)
                # fn may modify its copy: the dataset's is saved
                item = task.item if work.has_plain_items else work.item(position)
                started = now()
                self.since = start = perf()
                self.current = task
                if scheduler.timeout_s is not None:
                    self.claim = claim = Claim(sample, position, task, started, start)
                try:
                    result = fn(task)
                    took = perf() - start
                    if claim is not None:
                        claim.keep()
                    if type(result) is not dict:
                        result = as_mapping(result)
                    keep(encode(work, position, item, result, task.attempt, started, took / 1e9, name))
                except BaseException as e:  # anything a task raises becomes its own error, even SystemExit
                    took = perf() - start
                    self._after_exception(sample, position, task, e, started, took / 1e9)
                if open_lines:
                    output.end_lines(task)
                count += 1
                busy += took
                if busy > BATCH_NS and batch:
                    self.flush_results()
            self.current = self.claim = claim = None
            self.flush_results()
            if count:
                scheduler.durations.append(took / 1e9)
                self.mean_s += self._weight * (busy / count / 1e9 - self.mean_s)
                self._weight = 0.5

    def _record(self, window: Window) -> None:
        """Record the tasks of a new window as running, then offer other workers those that this one leaves."""
        pool, scheduler = self.pool, self.pool.scheduler
        if self.runs_quarantined:  # it may kill the process
            scheduler.completions.clear()
            scheduler.sink.flush()
        window.record(scheduler.sink)
        if self.ahead or pool.wants_to_steal:
            pool.publish(self.ahead, window)
            self.ahead = []

    def _after_exception(
        self, sample: SampleWork, position: int, task: Task, e: BaseException, started: float, duration_s: float
    ) -> None:
        """Queue the task again, or complete it with an error entry. Raise TooLate if it was given up."""
        if self.claim is not None:
            self.claim.keep()
        self._refuse_in_child()
        scheduler = self.pool.scheduler
        failure = after_exception(scheduler, sample, position, task, e, started, duration_s, self.name)
        if failure is not None:
            self.flush_results()
            complete_failure(scheduler, sample, position, failure)


#: If a task runs longer than LATE_S, the earlier results of its batch are completed without waiting for it. The
#: BatchFlusher checks every LOOK_S.
LATE_S, LOOK_S = 0.01, 0.015


class BatchFlusher:
    """A thread that completes results of a batch while a later task of it takes long."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._needed = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def wake(self) -> bool:
        """Start watching: a worker has taken several tasks. Return False if no thread can be started for it."""
        if not self._needed.is_set():
            if self._thread is None:
                try:
                    self._thread = start_daemon(serve, "nbrun-flush", (self._pool.scheduler, self._run))
                except ThreadLimitError:
                    return False
            self._needed.set()
        return True

    def end(self) -> None:
        """End the thread: the run is over."""
        self._over.set()
        self._needed.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._needed.wait()
            self._needed.clear()  # before looking: a worker that takes a batch from now on sets it again
            while not self._over.wait(LOOK_S) and any(w.has_more for w in self._pool.workers()):
                for worker in self._pool.workers():
                    if worker.has_more and worker.is_stuck(LATE_S):
                        worker.flush_results()


#: The TimeoutMonitor checks every `timeout_s` / LOOKS_PER_TIMEOUT seconds, but at least MIN_LOOK_S and at most
#: MAX_LOOK_S apart.
LOOKS_PER_TIMEOUT, MIN_LOOK_S, MAX_LOOK_S = 20, 0.01, 0.5

_EXPIRED = CancelFlag()
_EXPIRED.is_set = True


class TooLate(Exception):
    """Raised in a worker whose attempt was given up: its thread ends, since another one has taken its place."""


class Claim:
    """One attempt, which either its worker or the TimeoutMonitor may end. `list.pop` is atomic and decides.

    Attributes:
        started, since_ns: when it began, in seconds since the epoch and on perf_counter_ns's clock.
    """

    __slots__ = ("_free", "_is_kept", "position", "sample", "since_ns", "started", "task")

    def __init__(self, sample: SampleWork, position: int, task: Task, started: float, since_ns: int) -> None:
        self.sample, self.position, self.task, self.started, self.since_ns = sample, position, task, started, since_ns
        self._free = [True]
        self._is_kept = False

    def keep(self) -> None:
        """Claim it for its worker; a second call does nothing. Raise TooLate if it was given up."""
        if not self._is_kept:
            if not self.give_up():
                raise TooLate
            self._is_kept = True

    def give_up(self) -> bool:
        """Claim it for the TimeoutMonitor. Return False if its worker has it."""
        try:
            return self._free.pop()
        except IndexError:
            return False


class TimeoutMonitor:
    """A thread that gives up attempts which take longer than `timeout_s`."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost: set[Worker] = set()  # workers whose threads still run an attempt that timed out
        self._is_missing = False  # no thread can be started
        self._dropped = 0  # attempts that returned too late

    def need(self) -> None:
        """Start watching: a worker begins attempts that have a time-out. The caller holds the lock."""
        if self._thread is None:
            try:
                self._thread = start_daemon(serve, "nbrun-timeouts", (self._pool.scheduler, self._run))
            except ThreadLimitError:
                pass
        self._is_missing = self._thread is None

    def end(self) -> None:
        """End the thread: the run is over."""
        self._over.set()

    def came_back(self, worker: Worker) -> None:
        """Count a lost worker whose thread has ended. The caller holds the lock."""
        if worker in self._lost:
            self._lost.discard(worker)
            self._dropped += 1

    @property
    def text(self) -> str:
        """Sentences for the user about timed-out tasks, or ""."""
        parts = ["timeout_s is not watched: no thread can be started for it."] if self._is_missing else []
        if self._lost:
            which = counted(len(self._lost), "thread still runs a task", "threads still run tasks")
            parts.append(f"{which} that took longer than timeout_s.")
        if self._dropped:
            were = "was" if self._dropped == 1 else "were"
            parts.append(f"{counted(self._dropped, 'result')} came after timeout_s and {were} dropped.")
        return " ".join(parts)

    def _run(self) -> None:
        while True:
            timeout_s = self._pool.scheduler.timeout_s
            seldom_s = MAX_LOOK_S if timeout_s is None else timeout_s / LOOKS_PER_TIMEOUT
            if self._over.wait(min(max(seldom_s, MIN_LOOK_S), MAX_LOOK_S)):
                return
            if timeout_s is not None:
                self._look(timeout_s)

    def _look(self, timeout_s: float) -> None:
        now = time.perf_counter_ns()
        for worker in self._pool.workers():
            claim = worker.claim
            if claim is not None and now - claim.since_ns > timeout_s * 1e9 and claim.give_up():
                self._give_up(worker, claim, timeout_s)

    def _give_up(self, worker: Worker, claim: Claim, timeout_s: float) -> None:
        """End the attempt in an error, and requeue the tasks that its worker has not begun."""
        scheduler = self._pool.scheduler
        where = stack_of(worker.thread, __file__)  # first: the thread goes on running
        with scheduler.lock:
            self._lost.add(worker)
            self._pool.lose(worker)
            too_many = len(self._lost) > scheduler.target_workers
        worker.flush_results()
        claim.task._flag = _EXPIRED  # `task.cancelled()` is true from now on
        cancel = getattr(scheduler.fn, "cancel", None)
        if callable(cancel):
            try:
                cancel(claim.task)
            except Exception:  # the user's code; the attempt is given up anyway
                pass
        took_s = (time.perf_counter_ns() - claim.since_ns) / 1e9
        e = timeout_error(timeout_s)
        e.worker_traceback = where  # type: ignore[attr-defined]
        failure = after_exception(
            scheduler, claim.sample, claim.position, claim.task, e, claim.started, took_s, worker.name
        )
        if failure is not None:
            complete_failure(scheduler, claim.sample, claim.position, failure)
        if too_many:
            message = (
                f"Paused: {counted(len(self._lost), 'thread')} still run tasks that took longer than timeout_s="
                f"{timeout_s:g}, more than there are workers. run.errors() shows where `fn` waits: fix it and run this "
                "cell again; or run.resume()."
            )
            scheduler.pause(message, RunHaltedError(message))
