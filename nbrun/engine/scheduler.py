"""The scheduler: hands tasks to workers, counts what ends, and is paused, resumed, stopped and resized while it runs.

Threads:
    feeder    `feed`, `wait_for_room`, `wait_until_idle`: called by the supervisor of the run
    pools     everything in `worker_pool.TaskSource`
    any       `pause`, `resume`, `stop`, `workers`, `retry_errors`, `at_work`
    "nbrun-judge-watch"   asks a judge that is unavailable whether it is back (`AvailabilityMonitor`)
`lock` protects the queue, the pool's lists and the state. It is never held over a user's function or over I/O.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from nbrun.engine.completions import CompletionQueue
from nbrun.engine.long_tasks import LongTasks, find_long
from nbrun.engine.run_state import FailureDetector, Outage, RunState, trouble_of
from nbrun.engine.start_gate import StartGate
from nbrun.engine.task_queue import Item, SampleWork, TaskQueue, next_text, short_reason
from nbrun.engine.worker_pool import TaskSource, WorkerPool
from nbrun.errors import RunHaltedError, ThreadLimitError
from nbrun.model import CancelFlag, ResultSink, Retry, RetryPolicy, SampleTasks, State, Task, TaskSummary
from nbrun.output import RunOutput
from nbrun.progress import ProgressTracker
from nbrun.threads import start_daemon

#: So many of the newest durations tell what most tasks take.
DURATIONS = 255
#: In an outage all tasks wait for so long, and longer the longer it has lasted.
OUTAGE_WAIT_S = 0.5
#: How long a stop at once waits for tasks to notice.
ABANDON_AFTER_S = 5.0
#: So many suspects run one by one; of more, so many groups run one after another.
ALONE_UP_TO = 32


class Scheduler:
    """Hands out tasks and takes back what comes of them.

    Args:
        fn: called with a Task by the worker pool.
        sink: where results go.
        tracker: where progress is counted.
        workers: how many threads at most.
        retry: what happens after an exception.
        name: begins the workers' names as they stand in results, such as the host.
        pool: makes the worker pool that runs the tasks.
        timeout_s: how long an attempt may take, in seconds; None for no limit.
        max_per_s: how many attempts may start in a second; None for no limit.
        output: keeps what tasks print; None where that goes where it always went.
    """

    def __init__(
        self,
        fn: Callable[[Task], Any],
        sink: ResultSink,
        tracker: ProgressTracker,
        *,
        workers: int,
        retry: RetryPolicy,
        name: str = "",
        pool: Callable[[TaskSource], WorkerPool],
        timeout_s: float | None = None,
        max_per_s: float | None = None,
        output: RunOutput | None = None,
    ) -> None:
        self.fn, self.sink, self.tracker, self.retry = fn, sink, tracker, retry
        self.flag = CancelFlag()
        self.random = random.Random().random
        self.failure_detector = FailureDetector()
        self.outage = Outage()
        self.name = name
        self.lock = threading.Lock()
        self.idle = threading.Condition(self.lock)  # the conductor waits here
        self.queue = TaskQueue()
        self.gate = StartGate(max_per_s, lambda: tracker.ends)
        self.output = output
        self.durations: deque[float] = deque(maxlen=DURATIONS)  # of tasks that ended lately, in seconds; atomic appends
        self.target_workers = workers
        self.timeout_s = timeout_s
        self.is_all_fed = False
        self.quarantine_width = 1  # so many suspects at once
        self.open_samples: set[SampleWork] = set()
        self._failed_tasks = FailedTasks(self)
        self.run_state = RunState()
        self.is_forked = False  # this is a child of the process that runs it
        self._availability = AvailabilityMonitor(self)
        self.pool = pool(self)
        self._backpressure = Backpressure(self)
        self.completions = CompletionQueue(self)

    # ---- feeder

    def feed(self, work: SampleTasks, failed: Sequence[tuple[int, str]] = ()) -> None:
        """A sample with missing tasks is ready to be worked on.

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
        """No sample follows: suspects may run once all else has ended. Returns how many there are."""
        with self.lock:
            self.is_all_fed = True
            quarantined = self.queue.quarantined
            self.quarantine_width = 1 if quarantined <= ALONE_UP_TO else -(-quarantined // ALONE_UP_TO)
            self._wake(min(quarantined, self.quarantine_width))
            return quarantined

    def wait_for_room(self) -> bool:
        """Waits until the next sample may be read. False where no more is wanted."""
        with self.lock:
            return self._backpressure.wait()

    def more_to_feed(self) -> None:
        """Samples follow after all. Called with the lock held."""
        self.is_all_fed = False
        self.idle.notify_all()

    def failed_samples(self) -> list[SampleWork]:
        """The samples with tasks that ended in errors, as far as they are kept in memory."""
        with self.lock:
            return self._failed_tasks.samples()

    def wait_until_idle(self) -> None:
        """Waits until all has ended, or until the run was stopped and its tasks with it (`wait_for_workers`)."""
        with self.lock:
            while self.open_samples:
                if not self.run_state.is_open and (self.flag.is_set or self.pool.is_empty):
                    return
                self.idle.wait()

    # ---- pools

    def take(self, most: int) -> list[Item]:
        """Up to `most` tasks of one sample that may start now. Called with the lock held."""
        now = time.monotonic()
        gate = self.gate
        if gate.is_active:
            if gate.next_at(now) > now:
                return []
            self.run_state.end_hold()
            most = 1  # each has a turn of its own
        items = self.queue.take(most, now)
        if items and gate.is_active:
            gate.started(now)
        self._backpressure.look()
        return items

    def take_quarantined(self) -> list[Item]:
        """One suspect (see TaskQueue) that may start now. Called with the lock held."""
        now = time.monotonic()
        if self.gate.is_active and self.gate.next_at(now) > now:
            return []
        self.run_state.end_hold()
        items = self.queue.take_quarantined()
        if items:
            self.gate.started(now)
        return items

    @property
    def next_due(self) -> float | None:
        """When the next task may start that can't start now; None where none waits. The lock is held."""
        queue, due = self.queue, self.queue.next_due
        if not self.gate.is_active:
            return due
        now = time.monotonic()
        turn = self.gate.next_at(now)
        if queue.ready or (queue.quarantined and turn > now):
            return turn
        return None if due is None else max(due, turn)

    def give_back(self, items: list[Item]) -> None:
        """Tasks that were taken and not begun."""
        with self.lock:
            self.queue.give_back(items)
            self._wake(len(items))

    def _wake(self, count: int) -> None:
        """So many tasks are ready. Called with the lock held."""
        if self.run_state.is_running and count:
            self.pool.wake(count)

    def try_again(self, sample: SampleWork, position: int, task: Task, retry: Retry, after_s: float) -> None:
        """The task waits in the queue for another try; no worker waits with it."""
        self.sink.put_attempt(sample.work, position, task, retry)
        with self.lock:
            self.queue.delay(sample, position, time.monotonic() + max(0.0, after_s), retry.reason)
            self._wake(1)

    def retry_as_asked(self, sample: SampleWork, position: int, task: Task, retry: Retry) -> bool:
        """Do what `fn` asked for. Return False where it has asked too often. Raise UnstorableError."""
        policy, now = self.retry, time.monotonic()
        if policy.retries is not None and task.attempt - task._exceptions > policy.retries:
            return False
        if task._waits_since is None:
            task._waits_since = now
        wait_s = policy.retry_wait_s(retry.after_s, now - task._waits_since, self.random())
        self.try_again(sample, position, task, retry, wait_s)
        if retry.pause_all:
            self.hold_all(retry.after_s, retry.reason)
        return True

    def waits_out(self, sample: SampleWork, position: int, task: Task, retry: Retry, e: BaseException) -> bool:
        """Whether an attempt failed in an outage: then all tasks wait for a moment and it counts for nothing."""
        now = time.monotonic()
        with self.lock:
            if not self.outage.failure(e, now):
                return False
        self.try_again(sample, position, task, retry, OUTAGE_WAIT_S)
        with self.lock:
            if self.gate.hold(time.monotonic(), OUTAGE_WAIT_S, retry.reason):
                self.run_state.begin_hold()
                self.pool.notify_all()
        return True

    def hold_all(self, after_s: float, reason: str) -> None:
        """Start no attempt for `after_s` seconds: the service refuses all calls."""
        elapsed_s = self.tracker.elapsed_s
        with self.lock:
            now = time.monotonic()
            if self.gate.hold(now, after_s, reason, began=now - elapsed_s):
                self.run_state.begin_hold()
                self.pool.notify_all()

    def ended(self, sample: SampleWork, count: int, failed: list[tuple[int, str]]) -> None:
        """Tasks of a sample have a result, or (`failed`: position and kind) an error, that was handed to the sink."""
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
        """A task ended in an error; pauses the run where all fail alike."""
        with self.lock:
            which = self.failure_detector.failure(e)
            if which is None or not self.run_state.is_running:
                return
        message, trouble = trouble_of(which, e, error)
        self.pause(message, trouble)

    # ---- anybody

    def pause(self, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """Workers take no more tasks; what runs goes on to its end."""
        self._availability.forget()
        if not self.pause_unless_paused(message, trouble):
            with self.lock:
                self.run_state.give_reason(message, trouble)

    def pause_unless_paused(self, message: str, trouble: RunHaltedError | None = None) -> bool:
        """The same, if the run is running: else nothing happens, and False is returned."""
        with self.lock:
            if not self.run_state.pause(message, trouble):
                return False
            self.tracker.pause()
            self.idle.notify_all()
            return True

    def wait_for_judge(self, sample: SampleWork, position: int, message: str) -> None:
        """Nothing can be judged for now: the task goes back unattempted and the run pauses until the judge is back."""
        with self.lock:
            self.queue.give_back([(sample, position)])
        self._availability.begin(message)
        with self.lock:
            self._wake(1)  # nothing, unless the run was resumed meanwhile

    def resume(self) -> None:
        """Workers take tasks again; after a fault the disk is tried again."""
        self._availability.forget()
        with self.lock:
            if not self.run_state.resume():
                return
            self.tracker.resume()
            self.failure_detector.restart()
            self._wake(self.queue.waiting)
            self.pool.notify_all()
        self.sink.mend()
        with self.lock:
            self.idle.notify_all()

    def no_threads(self, e: ThreadLimitError) -> None:
        """No thread can be started that would run tasks: the run pauses. Called with the lock held."""
        message = f"Paused: {e} Then run.resume(). What is saved stays."
        error = RunHaltedError(message)
        error.__cause__ = e
        if self.run_state.pause(message, error):
            self.tracker.pause()
            self.idle.notify_all()

    def on_internal_error(self, e: BaseException) -> None:
        """A fault of nbrun's own: the run halts, since what it can't tell any more would hang it."""
        error = RunHaltedError(
            f"The run halted by a fault of nbrun's own: {type(e).__name__}: {e}. What is saved stays; "
            "start again to go on with what is missing, and please report this."
        )
        error.__cause__ = e
        with self.lock:
            self.run_state.break_down(error)
        self.stop(drain=True)

    def stop(self, drain: bool = True) -> list[Task]:
        """No more tasks are begun. Returns the tasks that run now. After a fault the disk is tried once more."""
        had_trouble = self.run_state.trouble is not None
        running = self._stop(drain)
        if had_trouble:
            self.sink.mend()
        return running

    def _stop(self, drain: bool) -> list[Task]:
        with self.lock:
            self.run_state.drain()
            if not drain:
                self.flag.is_set = True
            self.pool.notify_all()
            self._backpressure.notify_all()
            self.idle.notify_all()
            self.tracker.resume()
            return [task for task, _ in self.pool.tasks()]

    def wait_for_workers(self, timeout_s: float) -> bool:
        """Waits until nobody works any more. False on a time-out."""
        with self.lock:
            return self.idle.wait_for(lambda: self.pool.is_empty, timeout_s)

    def wait_for_resume(self) -> bool:
        """After a fault at the end of a run: waits until somebody resumes (True) or stops (False)."""
        with self.lock:
            if self.run_state.is_draining:
                return False
            self.idle.wait_for(lambda: self.run_state.state is not State.PAUSED)
            return self.run_state.is_running

    def finish(self, state: State, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """The run is over: the threads end, and so does everybody's wait."""
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
        """Tells the user something while the run goes on; where it paused, its own message stays."""
        with self.lock:
            self.run_state.say(message, instead_of)

    @property
    def workers(self) -> int:
        """How many threads are wanted."""
        return self.target_workers

    @workers.setter
    def workers(self, n: int) -> None:
        with self.lock:
            self.target_workers = n
            self.pool.notify_all()
            self._backpressure.notify_all()
            self._wake(self.queue.waiting)

    def limit(self, timeout_s: float | None, max_per_s: float | None) -> None:
        """Sets the limits on attempts that begin from now on."""
        with self.lock:
            self.timeout_s = timeout_s
            self.gate.limit(max_per_s)
            self.pool.notify_all()

    def retry_errors(self, kind: str | None = None) -> int:
        """Queues tasks that ended in errors (of one kind) again, if their samples are in memory. Returns how many."""
        return self._failed_tasks.again(kind)

    def forget_in_child(self) -> None:
        """After a fork, in the child: the thread that forked may be a worker here, which must not go on."""
        self.is_forked = True
        self.run_state.is_running = False
        self.pool.forget_in_child()

    def at_work(self) -> dict[int, int]:
        """Sample number -> tasks running now."""
        return dict(Counter(sample.work.number for sample in self.pool.at_work()))

    @property
    def delayed(self) -> int:
        """How many tasks wait for another try."""
        return self.queue.delayed

    def waiting_of(self, sample_id: str) -> list[TaskSummary]:
        """The tasks of a sample that wait for another try, and why."""
        with self.lock:
            waiting = [d for d in self.queue.delayed_tasks() if d.sample.work.sample_id == sample_id]
            now = time.monotonic()
        rows = []
        for due, _, sample, position, reason in waiting:
            task = sample.work.task(position, self.flag)
            note = ", ".join(filter(None, [short_reason(reason), next_text(due - now)]))
            rows.append(TaskSummary(task.group, task.index, "waiting", None, None, task.attempt - 1, None, note))
        return rows

    def waiting_at(self) -> dict[int, int]:
        """Sample number -> its tasks that wait for another try."""
        with self.lock:
            return {sample.work.number: n for sample, n in self.queue.delayed_by_sample.items()}

    def notices(self) -> list[str]:
        """What there is to say of the run as it is now."""
        return [self.pool.notice, self._waiting_text(), self.long_tasks.text]

    @property
    def long_tasks(self) -> LongTasks:
        """The tasks that have been running for many times longer than most take."""
        if not self.run_state.is_open and not self.run_state.is_draining:
            return LongTasks(0, 0.0, 0.0)
        now = time.perf_counter_ns()
        return find_long(((now - since) / 1e9 for since in self.pool.begun()), self.durations)

    @property
    def least_left_s(self) -> float:
        """How long what runs and what waits will take at least, in seconds, as far as can be said.

        A task that has been running for many times the median is expected to take as long again.
        """
        with self.lock:
            waits_s = self.queue.last_due - time.monotonic() if self.queue.delayed else 0.0
        return max(0.0, waits_s, self.long_tasks.longest_s)

    def _waiting_text(self) -> str:
        """What is waited for, such as "160 waiting: HTTP 429, next in 14 s", where nothing runs or much waits."""
        with self.lock:
            queue, now = self.queue, time.monotonic()
            count, due, held = queue.delayed, queue.next_due, self.gate.is_held(now)
            if not self.run_state.is_running or not (count or held):
                return ""
            if not held and count < self.target_workers and self.pool.at_work():
                return ""
            reason, others = (self.gate.reason, 0) if held else queue.most_frequent_reason()
            turn = self.gate.next_at(now) if self.gate.is_active else now
        more = f" and {others} other reason{'s' if others > 1 else ''}" if others else ""
        left = next_text(max(due or 0.0, turn) - now)
        text = f"{count:,} waiting" if count else "Waiting"
        return ", ".join(filter(None, [f"{text}: {short_reason(reason) or 'no reason given'}{more}", left]))

    def running_of(self, sample_id: str) -> list[TaskSummary]:
        """The tasks of a sample that run now; `time_s` says for how long."""
        now = time.perf_counter_ns()
        return [
            TaskSummary(task.group, task.index, "running", None, max(0, now - since) / 1e9, task.attempt, None)
            for task, since in self.pool.tasks()
            if task.sample_id == sample_id
        ]

    def works_in(self, thread: threading.Thread) -> bool:
        """Do tasks run in that thread?"""
        return self.pool.works_in(thread)


#: How many tasks, of how many samples at most, are kept ready (or the pool's prefetch target, if that is more).
READY_TASKS, READY_SAMPLES = 2000, 32


class Backpressure:
    """The samples between the feeder and the workers."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._room = threading.Condition(scheduler.lock)  # the feeder waits here
        self._is_waiting = False

    def wait(self) -> bool:
        """Waits until the next sample may be read. False where no more is wanted."""
        if self._is_full():
            self._is_waiting = True
            while self._is_wanted() and not self._is_low():
                self._room.wait()
            self._is_waiting = False
        return self._is_wanted()

    def look(self) -> None:
        """Tasks were taken."""
        if self._is_waiting and self._is_low():
            self._room.notify()

    def notify_all(self) -> None:
        """The state or the appetite has changed: the feeder looks again."""
        self._room.notify_all()

    def _is_wanted(self) -> bool:
        return self._scheduler.run_state.is_open

    def _is_full(self) -> bool:
        q = self._scheduler.queue
        if q.ready < self._scheduler.pool.prefetch_target:
            return False
        return q.ready >= READY_TASKS or q.samples_waiting >= READY_SAMPLES

    def _is_low(self) -> bool:
        """Half empty: the feeder wakes and fills, instead of waking for each sample."""
        q = self._scheduler.queue
        if 4 * q.ready < 3 * self._scheduler.pool.prefetch_target:
            return True
        return q.ready <= READY_TASKS // 2 and q.samples_waiting <= READY_SAMPLES // 2


#: Samples with errors that are kept in memory, and about how many bytes of them.
KEPT_WITH_ERRORS, KEPT_BYTES = 1000, 64 << 20


class FailedTasks:
    """Those of one engine."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._samples: dict[SampleWork, None] = {}  # those that have ended, the oldest first
        self._bytes = 0  # of these, about

    def keep(self, sample: SampleWork) -> None:
        """All tasks of a sample have ended, some in errors."""
        if sample not in self._samples:
            self._samples[sample] = None
            self._bytes += sample.bytes
        while len(self._samples) > KEPT_WITH_ERRORS or (self._bytes > KEPT_BYTES and len(self._samples) > 1):
            self._forget(next(iter(self._samples)))

    def _forget(self, sample: SampleWork) -> None:
        if sample in self._samples:
            del self._samples[sample]
            self._bytes -= sample.bytes

    def samples(self) -> list[SampleWork]:
        """Those that are kept, and those that are still at work. Called with the scheduler's lock held."""
        return list({*self._samples, *(s for s in self._scheduler.open_samples if s.errors)})

    def again(self, kind: str | None) -> int:
        """Queues them again, those of one kind or all. Returns how many."""
        with self._scheduler.lock:
            samples = self.samples()
        return sum(self._retry(sample, kind) for sample in samples)

    def _retry(self, sample: SampleWork, kind: str | None) -> int:
        scheduler = self._scheduler
        with scheduler.lock:
            again = [e for e in sample.errors if kind is None or e[1] == kind]
            if not again:
                return 0
            sample.errors = [e for e in sample.errors if kind is not None and e[1] != kind]
            self._forget(sample)  # it comes back if any is left when these have ended
            scheduler.open_samples.add(sample)
            sample.left += len(again)
        scheduler.sink.reopen(sample.work, [position for position, _ in again])
        scheduler.tracker.error_again(sample.work.number, [kind for _, kind in again])
        with scheduler.lock:
            scheduler.failure_detector.restart()
        scheduler.give_back([(sample, position) for position, _ in again])
        return len(again)


#: How often fn is asked.
ASK_EVERY_S = 1.0


class AvailabilityMonitor:
    """Watches for the return of one engine's judge."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = threading.Lock()  # protects _over
        self._over: threading.Event | None = None  # of the watch that goes on; set where it shall end

    def begin(self, message: str) -> None:
        """Pauses the run, and resumes it when `fn.is_available()` is true. Without that the user resumes it."""
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
        """Somebody steers the run: it no longer goes on by itself."""
        with self._lock:
            over, self._over = self._over, None
        if over is not None:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        ask = getattr(self._scheduler.fn, "is_available", None)
        while callable(ask) and not over.wait(ASK_EVERY_S):
            if self._scheduler.run_state.state is not State.PAUSED:
                break
            try:
                back = ask()
            except Exception:  # fn can't say: ask again
                continue
            if back and not over.is_set():
                self._scheduler.resume()
                break
