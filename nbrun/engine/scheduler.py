"""The scheduler: hands tasks to workers, counts what ends, and is paused, resumed, stopped and resized while it runs.

Threads:
    feeder    `feed`, `wait_for_room`, `wait_until_idle`: called by the supervisor of the run
    pools     everything in `worker_pool.TaskSource`
    any       `pause`, `resume`, `stop`, `workers`, `retry_errors`, and everything in `outlook`
    "nbrun-judge-watch"   asks a judge that is unavailable whether it is back (`AvailabilityMonitor`)
`lock` protects the queue, the pool's lists and the state. It is never held over a user's function or over I/O.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from nbrun.engine.state import FailureDetector, RunState, SampleWork, StartGate, Taken, TaskQueue, TaskRef, trouble_of
from nbrun.engine.worker_pool import CompletionQueue, TaskSource, WorkerPool
from nbrun.errors import RunHaltedError, ThreadLimitError
from nbrun.model import CancelFlag, ResultSink, Retry, RetryPolicy, SampleTasks, State, Task, TaskSummary
from nbrun.output import RunOutput
from nbrun.progress import ProgressTracker
from nbrun.texts import counted, duration_text
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: How many of the most recent durations the median is taken from.
DURATIONS = 255
#: How long all tasks wait in an outage at first; the wait grows with the outage.
OUTAGE_WAIT_S = 0.5
#: Up to this many quarantined tasks run one by one; more of them run in this many groups, one after another.
ALONE_UP_TO = 32


class Scheduler:
    """Hands tasks to a worker pool and decides what happens when they end.

    Args:
        fn: called with a Task by the worker pool.
        sink: where results go.
        tracker: where progress is counted.
        workers: how many threads at most.
        retry: what happens after an exception.
        name: the first part of the workers' names in results, such as the host.
        pool: makes the worker pool that runs the tasks.
        timeout_s: how long an attempt may take, in seconds; None for no limit.
        max_per_s: how many attempts may start in a second; None for no limit.
        output: keeps what tasks print.
    """

    def __init__(
        self,
        fn: Callable[[Task], Any],
        sink: ResultSink[SampleTasks],
        tracker: ProgressTracker,
        *,
        workers: int,
        retry: RetryPolicy,
        name: str,
        pool: Callable[[TaskSource], WorkerPool],
        timeout_s: float | None,
        max_per_s: float | None,
        output: RunOutput,
    ) -> None:
        self.fn, self.sink, self.tracker, self.retry = fn, sink, tracker, retry
        self.flag = CancelFlag()
        self.random = random.Random().random
        self.failure_detector = FailureDetector()
        self.name = name
        self.lock = threading.Lock()
        self.idle = threading.Condition(self.lock)  # the supervisor waits here
        self.queue = TaskQueue()
        self.run_state = RunState()
        self.gate = StartGate(max_per_s, lambda: tracker.ends, self.run_state.end_hold)
        self.output = output
        self.durations: deque[float] = deque(maxlen=DURATIONS)  # of tasks that ended lately, in seconds; atomic appends
        self.target_workers = workers
        self.timeout_s = timeout_s
        self.is_all_fed = False
        self.quarantine_width = 1  # how many quarantined tasks may run at once
        self.open_samples: set[SampleWork] = set()
        self._failed_tasks = FailedTasks(self)
        self.is_forked = False  # this is a child of the process that runs it
        self._availability = AvailabilityMonitor(self)
        self.pool = pool(self)
        self.outlook = Outlook(self, self.pool)
        self._backpressure = Backpressure(self)
        self.completions = CompletionQueue(self)

    # ---- feeder

    def feed(self, work: SampleTasks, failed: Sequence[tuple[int, str]] = ()) -> None:
        """Queue the missing tasks of a sample.

        Args:
            failed: its tasks that ended in errors and don't run again for now: their positions and kinds.
        """
        sample = SampleWork(work)
        sample.errors += failed
        with self.lock:
            self.queue.add(sample)
            self.open_samples.add(sample)
            self._wake(len(sample.positions))

    def all_fed(self) -> int:
        """Let quarantined tasks run once all others have ended, since no sample follows. Return how many there are."""
        with self.lock:
            self.is_all_fed = True
            quarantined = self.queue.quarantined
            self.quarantine_width = 1 if quarantined <= ALONE_UP_TO else -(-quarantined // ALONE_UP_TO)
            self._wake(min(quarantined, self.quarantine_width))
            return quarantined

    def wait_for_room(self) -> bool:
        """Wait until the next sample may be read. Return False if the run takes no more."""
        with self.lock:
            return self._backpressure.wait()

    def more_to_feed(self) -> None:
        """Expect more samples after `all_fed`. The caller holds the lock."""
        self.is_all_fed = False
        self.idle.notify_all()

    def failed_samples(self) -> list[SampleWork]:
        """Return the samples with tasks that ended in errors, as far as they are kept in memory."""
        with self.lock:
            return self._failed_tasks.samples()

    def wait_until_idle(self) -> None:
        """Wait until all tasks have ended, or until the run was stopped and its tasks with it (`wait_for_workers`)."""
        with self.lock:
            while self.open_samples:
                if not self.run_state.is_open and (self.flag.is_set or self.pool.is_empty):
                    return
                self.idle.wait()

    # ---- pools: see worker_pool.TaskSource

    def take(self, most: int) -> Taken | None:
        now = time.monotonic()
        gate = self.gate
        if gate.is_active:
            if gate.next_at(now) > now:
                return None
            most = 1  # each attempt has its own turn
        taken = self.queue.take(most, now)
        if gate.is_active and taken is not None:
            gate.started(now)
        self._backpressure.look()
        return taken

    def take_quarantined(self) -> Taken | None:
        now = time.monotonic()
        if self.gate.is_active and self.gate.next_at(now) > now:
            return None
        taken = self.queue.take_quarantined()
        if taken is not None:
            self.gate.started(now)
        return taken

    @property
    def next_due(self) -> float:
        queue, due = self.queue, self.queue.next_due
        if not self.gate.is_active:
            return due
        now = time.monotonic()
        turn = self.gate.next_at(now)
        if queue.ready or (queue.quarantined and turn > now):
            return turn
        return max(due, turn)

    def give_back(self, refs: list[TaskRef]) -> None:
        with self.lock:
            self.queue.give_back(refs)
            self._wake(len(refs))

    def _wake(self, count: int) -> None:
        """Wake up to `count` workers for tasks that are ready. The caller holds the lock."""
        if self.run_state.is_running and count:
            self.pool.wake(count)

    def queue_attempt(self, sample: SampleWork, position: int, task: Task, retry: Retry, after_s: float) -> None:
        self.sink.put_attempt(sample.work, position, task, retry)
        with self.lock:
            self.queue.delay(sample, position, time.monotonic() + max(0.0, after_s), retry.reason)
            self._wake(1)

    def queue_asked_retry(self, sample: SampleWork, position: int, task: Task, retry: Retry) -> bool:
        policy, now = self.retry, time.monotonic()
        if policy.retries is not None and task.attempt - task._exceptions > policy.retries:
            return False
        if task._waits_since is None:
            task._waits_since = now
        wait_s = policy.retry_wait_s(retry.after_s, now - task._waits_since, self.random())
        self.queue_attempt(sample, position, task, retry, wait_s)
        if retry.pause_all:  # the service refuses all calls
            self._hold(retry.after_s, retry.reason, began=time.monotonic() - self.tracker.elapsed_s)
        return True

    def queue_in_outage(self, sample: SampleWork, position: int, task: Task, retry: Retry, e: BaseException) -> bool:
        now = time.monotonic()
        with self.lock:
            if not self.failure_detector.is_outage(e, now):
                return False
        self.queue_attempt(sample, position, task, retry, OUTAGE_WAIT_S)
        self._hold(OUTAGE_WAIT_S, retry.reason)
        return True

    def _hold(self, wait_s: float, reason: str, began: float | None = None) -> None:
        """Start no attempt for `wait_s` seconds. Arguments: see StartGate.hold."""
        with self.lock:
            if self.gate.hold(time.monotonic(), wait_s, reason, began=began):
                self.run_state.begin_hold()
                self.pool.notify_all()

    def ended(self, sample: SampleWork, count: int, failed: list[tuple[int, str]]) -> None:
        if failed and not sample.bytes:
            sample.bytes = sample.work.rough_bytes()
        with self.lock:
            sample.left -= count
            sample.errors += failed
            over = sample.left == 0
            if over and sample.errors:
                self._failed_tasks.keep(sample)
        if over:
            self.sink.ended(sample.work)
            if not sample.errors:
                self.tracker.sample_done()
            with self.lock:
                if sample.left == 0:
                    self.open_samples.discard(sample)
                if not self.open_samples:
                    self.idle.notify_all()

    def failed(self, e: BaseException, error: dict[str, str]) -> None:
        with self.lock:
            which = self.failure_detector.failure(e)
            if which is None or not self.run_state.is_running:
                return
        message, trouble = trouble_of(which, e, error)
        self.pause(message, trouble)

    # ---- any thread

    def pause(self, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """Pause: no more tasks start; those that run go on to their end."""
        self._availability.forget()
        if not self.pause_unless_paused(message, trouble):
            with self.lock:
                self.run_state.give_reason(message, trouble)

    def pause_unless_paused(self, message: str, trouble: RunHaltedError | None = None) -> bool:
        """Pause a run that is running; otherwise change nothing and return False."""
        with self.lock:
            if not self.run_state.pause(message, trouble):
                return False
            self.tracker.pause()
            self.idle.notify_all()
            return True

    def wait_for_judge(self, sample: SampleWork, position: int, message: str) -> None:
        with self.lock:
            self.queue.give_back([(sample, position)])
        self._availability.begin(message)
        with self.lock:
            self._wake(1)  # nothing, unless the run was resumed meanwhile

    def resume(self) -> None:
        """Resume a paused run; after a disk fault, try the disk again."""
        self._availability.forget()
        with self.lock:
            if not self.run_state.resume():
                return
            self.tracker.resume()
            self.failure_detector.restart()
            self._wake(self.queue.waiting)
            self.pool.notify_all()
        self.sink.retry_after_fault()
        with self.lock:
            self.idle.notify_all()

    def no_threads(self, e: ThreadLimitError) -> None:
        message = f"Paused: {e} Then run.resume(). What is saved stays."
        error = RunHaltedError(message)
        error.__cause__ = e
        if self.run_state.pause(message, error):
            self.tracker.pause()
            self.idle.notify_all()

    def on_internal_error(self, e: BaseException) -> None:
        """Halt the run: nbrun itself has failed, and waiting for what it lost would hang the run."""
        error = RunHaltedError(
            f"The run halted by a fault of nbrun's own: {type(e).__name__}: {e}. What is saved stays; "
            "start again to go on with what is missing, and please report this."
        )
        error.__cause__ = e
        with self.lock:
            self.run_state.break_down(error)
        self.stop(drain=True)

    def stop(self, drain: bool = True) -> list[Task]:
        """Stop: no more tasks start. Return the tasks that run now. After a disk fault, try the disk once more."""
        had_trouble = self.run_state.trouble is not None
        with self.lock:
            self.run_state.drain()
            if not drain:
                self.flag.is_set = True
            self.pool.notify_all()
            self._backpressure.notify_all()
            self.idle.notify_all()
            self.tracker.resume()
            running = [task for task, _ in self.pool.tasks()]
        if had_trouble:
            self.sink.retry_after_fault()
        return running

    def wait_for_workers(self, timeout_s: float) -> bool:
        """Wait until no task runs any more. Return False on a time-out."""
        with self.lock:
            return self.idle.wait_for(lambda: self.pool.is_empty, timeout_s)

    def wait_for_resume(self) -> bool:
        """Wait, after a fault at the end of a run, until it is resumed (return True) or stopped (False)."""
        with self.lock:
            if self.run_state.is_draining:
                return False
            self.idle.wait_for(lambda: self.run_state.state is not State.PAUSED)
            return self.run_state.is_running

    def finish(self, state: State, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """End the run: its threads end, and every wait for it returns."""
        self.tracker.finish()
        with self.lock:
            self.run_state.end(state, message, trouble)
            self.queue.clear()
            self.open_samples.clear()
            self.pool.end()
            self.pool.notify_all()
            self._backpressure.notify_all()
            self.idle.notify_all()

    def say(self, message: str, instead_of: str = "") -> None:
        with self.lock:
            self.run_state.say(message, instead_of)

    @property
    def workers(self) -> int:
        """How many tasks may run at once."""
        return self.target_workers

    @workers.setter
    def workers(self, n: int) -> None:
        with self.lock:
            self.target_workers = n
            self.pool.notify_all()
            self._backpressure.notify_all()
            self._wake(self.queue.waiting)

    def limit(self, timeout_s: float | None, max_per_s: float | None) -> None:
        """Set the limits on attempts that begin from now on."""
        with self.lock:
            self.timeout_s = timeout_s
            self.gate.limit(max_per_s)
            self.pool.notify_all()

    def retry_errors(self, kind: str | None = None) -> int:
        """Queue tasks that ended in errors (of one kind) again, if their samples are in memory. Return how many."""
        return self._failed_tasks.again(kind)

    def forget_in_child(self) -> None:
        """Run nothing in a forked child: the thread that forked may be a worker, which must not go on there."""
        self.is_forked = True
        self.run_state.is_running = False
        self.pool.forget_in_child()


#: How many tasks, of how many samples at most, are kept ready (or the pool's prefetch target, if that is more).
READY_TASKS, READY_SAMPLES = 2000, 32


class Backpressure:
    """Limits how far ahead of the workers samples are read: the feeder waits while enough tasks are ready.

    Threads: every method is called with the scheduler's lock held; the feeder waits in `wait`.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._room = threading.Condition(scheduler.lock)  # the feeder waits here
        self._is_waiting = False

    def wait(self) -> bool:
        """Wait until the next sample may be read. Return False if the run takes no more."""
        if self._is_full():
            self._is_waiting = True
            while self._is_wanted() and not self._is_low():
                self._room.wait()
            self._is_waiting = False
        return self._is_wanted()

    def look(self) -> None:
        """Wake the feeder if tasks were taken and few are left."""
        if self._is_waiting and self._is_low():
            self._room.notify()

    def notify_all(self) -> None:
        """Let the feeder check again: the state or the prefetch target has changed."""
        self._room.notify_all()

    def _is_wanted(self) -> bool:
        return self._scheduler.run_state.is_open

    def _is_full(self) -> bool:
        q = self._scheduler.queue
        if q.ready < self._scheduler.pool.prefetch_target:
            return False
        return q.ready >= READY_TASKS or q.samples_waiting >= READY_SAMPLES

    def _is_low(self) -> bool:
        """Return True if the queue is half empty: the feeder wakes once and fills it, not once for each sample."""
        q = self._scheduler.queue
        if 4 * q.ready < 3 * self._scheduler.pool.prefetch_target:
            return True
        return q.ready <= READY_TASKS // 2 and q.samples_waiting <= READY_SAMPLES // 2


#: Samples with errors that are kept in memory.
KEPT_WITH_ERRORS = 1000


class FailedTasks:
    """Tasks that ended in errors and can be queued again, as far as their samples are in memory.

    Threads: `keep` is called with the scheduler's lock held, `again` from any thread.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._samples: dict[SampleWork, None] = {}  # those that have ended, the oldest first
        self._bytes = 0  # of these, about

    def keep(self, sample: SampleWork) -> None:
        """Remember a sample whose tasks have all ended, some of them in errors."""
        if sample not in self._samples:
            self._samples[sample] = None
            self._bytes += sample.bytes
        while len(self._samples) > KEPT_WITH_ERRORS or (
            self._bytes > TUNING.kept_error_bytes and len(self._samples) > 1
        ):
            self._forget(next(iter(self._samples)))

    def _forget(self, sample: SampleWork) -> None:
        if sample in self._samples:
            del self._samples[sample]
            self._bytes -= sample.bytes

    def samples(self) -> list[SampleWork]:
        """Return the samples with errors, ended or not. The caller holds the scheduler's lock."""
        return list({*self._samples, *(s for s in self._scheduler.open_samples if s.errors)})

    def again(self, kind: str | None) -> int:
        """Queue failed tasks again, of one kind or all. Return how many."""
        with self._scheduler.lock:
            samples = self.samples()
        return sum(self._retry(sample, kind) for sample in samples)

    def _retry(self, sample: SampleWork, kind: str | None) -> int:
        scheduler = self._scheduler
        with scheduler.lock:
            again = [error for error in sample.errors if kind in (None, error[1])]
            if not again:
                return 0
            sample.errors = [error for error in sample.errors if kind not in (None, error[1])]
            self._forget(sample)  # it comes back if any is left when these have ended
            scheduler.open_samples.add(sample)
            sample.left += len(again)
        positions = [position for position, _ in again]
        scheduler.sink.reopen(sample.work, positions)
        scheduler.tracker.error_again(sample.work.number, [kind for _, kind in again])
        with scheduler.lock:
            scheduler.failure_detector.restart()
        scheduler.give_back([(sample, position) for position in positions])
        return len(again)


class AvailabilityMonitor:
    """Pauses the run while its judge is unavailable, and resumes it once the judge is back.

    Threads: workers call `begin`; `forget` is called on a pause or resume. The thread "nbrun-judge-watch" calls
    `fn.is_available`, which may do I/O, and holds no lock meanwhile.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = threading.Lock()  # protects _over
        self._over: threading.Event | None = None  # of the thread that runs; set to end it

    def begin(self, message: str) -> None:
        """Pause the run, and resume it when `fn.is_available()` is true. Without that method the user resumes it."""
        with self._lock:
            if self._over is not None:
                return
            over = self._over = threading.Event()
        if not self._scheduler.pause_unless_paused(message):
            self.forget()
            return
        try:
            start_daemon(self._watch, "nbrun-judge-watch", (over,))
        except ThreadLimitError:  # then the user resumes the run
            self.forget()

    def forget(self) -> None:
        """Stop watching: the run was paused or resumed by the user."""
        with self._lock:
            over, self._over = self._over, None
        if over is not None:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        ask = getattr(self._scheduler.fn, "is_available", None)
        while callable(ask) and not over.wait(TUNING.ask_every_s):
            if self._scheduler.run_state.state is not State.PAUSED:
                break
            try:
                back = ask()
            except Exception:  # no answer: ask again
                continue
            if back and not over.is_set():
                self._scheduler.resume()
                break


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
    """The tasks of a run that are running or waiting, as views ask for them.

    Threads: any thread may ask. What the scheduler's lock protects is copied with that lock held.
    """

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
            if not self._shows_waiting(now):
                return ""
            count = queue.delayed
            reason, others = (gate.reason, 0) if gate.is_held(now) else queue.most_frequent_reason()
            due = max(queue.next_due if count else now, gate.next_at(now) if gate.is_active else now)
        what = f"{count:,} waiting" if count else "Waiting"
        more = f" and {counted(others, 'other reason')}" if others else ""
        return ", ".join(filter(None, [f"{what}: {_short(reason) or 'no reason given'}{more}", _next_text(due - now)]))

    def _shows_waiting(self, now: float) -> bool:
        """Return whether all attempts are held back, many tasks wait, or all do. The caller holds the lock."""
        scheduler, count = self._scheduler, self._scheduler.queue.delayed
        if not scheduler.run_state.is_running:
            return False
        is_many = count >= scheduler.target_workers
        return is_many or scheduler.gate.is_held(now) or (count > 0 and not self._pool.at_work())


def _short(reason: str) -> str:
    """Return a reason on one line."""
    line = " ".join(str(reason).split())
    return line if len(line) <= REASON_CHARS else f"{line[:REASON_CHARS]}…"


def _next_text(seconds: float) -> str:
    """Return when a task's next try begins: "next in 14 s", or nothing where it may begin now."""
    return f"next in {duration_text(seconds)}" if seconds >= 0.5 else ""
