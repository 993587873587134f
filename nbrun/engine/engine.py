"""The engine: hands tasks to workers, counts what ends, and is paused, resumed, stopped and resized while it runs.

Threads:
    feeder    `feed`, `wait_for_room`, `wait_until_idle`: the conductor of the run
    crew      `take`, `give_back`, `try_again`, `desk`, `failed`, `say`
    anybody   `pause`, `resume`, `stop`, `workers`, `retry_errors`, `at_work`
`lock` protects the queue, the crew's lists and the state. It is never held over a user's function or over I/O.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from nbrun.engine.away import Away
from nbrun.engine.crew import Crew
from nbrun.engine.desk import Desk
from nbrun.engine.erred import ErredTasks
from nbrun.engine.long_tasks import LongTasks, find_long
from nbrun.engine.queue import Item, SampleWork, TaskQueue, next_text, short_reason
from nbrun.engine.standing import Standing
from nbrun.engine.start_gate import StartGate
from nbrun.engine.streak import Outage, Streak, trouble_of
from nbrun.engine.threads import ThreadCrew
from nbrun.engine.window import Window
from nbrun.errors import RunHaltedError, ThreadLimitError
from nbrun.model import CancelFlag, ResultSink, Retry, RetryPolicy, SampleTasks, State, Task, TaskSummary
from nbrun.output import RunOutput
from nbrun.progress import ProgressTracker

#: So many of the newest durations tell what most tasks take.
DURATIONS = 255
#: In an outage all tasks wait for so long, and longer the longer it has lasted.
OUTAGE_WAIT_S = 0.5
#: How long a stop at once waits for tasks to notice.
ABANDON_AFTER_S = 5.0
#: So many suspects run one by one; of more, so many groups run one after another.
ALONE_UP_TO = 32


class Engine:
    """Hands out tasks and takes back what comes of them.

    Args:
        fn: called with a Task by the crew.
        sink: where results go.
        tracker: where progress is counted.
        workers: how many threads at most.
        retry: what happens after an exception.
        name: begins the workers' names as they stand in results, such as the host.
        crew: makes those who run the tasks.
        timeout_s: how long an attempt may take, in seconds; None for no limit.
        max_per_s: how many attempts may start in a second; None for no limit.
        output: keeps what tasks print; None where that goes where it always went.
    """

    def __init__(
        self, fn: Callable[[Task], Any], sink: ResultSink, tracker: ProgressTracker, *,
        workers: int, retry: RetryPolicy, name: str = "", crew: Callable[[Engine], Crew] = ThreadCrew,
        timeout_s: float | None = None, max_per_s: float | None = None,
        output: RunOutput | None = None,
    ) -> None:  # fmt: skip
        self.fn, self.sink, self.tracker, self.retry = fn, sink, tracker, retry
        self.flag = CancelFlag()
        self.random = random.Random().random
        self.streak = Streak()
        self.outage = Outage()
        self.name = name
        self.lock = threading.Lock()
        self.idle = threading.Condition(self.lock)  # the conductor waits here
        self.queue = TaskQueue()
        self.gate = StartGate(max_per_s, lambda: tracker.ends)
        self.output = output
        self.durations: deque[float] = deque(maxlen=DURATIONS)  # of tasks that ended lately, in seconds; atomic appends
        self.wanted = workers
        self.timeout_s = timeout_s
        self.is_all_fed = False
        self.last_width = 1  # so many suspects at once
        self.open_samples: set[SampleWork] = set()
        self._erred = ErredTasks(self)
        self.standing = Standing()
        self.is_forked = False  # this is a child of the process that runs it
        self._away = Away(self)
        self.crew = crew(self)
        self._window = Window(self)
        self.desk = Desk(self)

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
            suspects = self.queue.suspects
            self.last_width = 1 if suspects <= ALONE_UP_TO else -(-suspects // ALONE_UP_TO)
            self._wake(min(suspects, self.last_width))
            return suspects

    def wait_for_room(self) -> bool:
        """Waits until the next sample may be read. False where no more is wanted."""
        with self.lock:
            return self._window.wait()

    def more_to_feed(self) -> None:
        """Samples follow after all. Called with the lock held."""
        self.is_all_fed = False
        self.idle.notify_all()

    def failed_samples(self) -> list[SampleWork]:
        """The samples with tasks that ended in errors, as far as they are kept in memory."""
        with self.lock:
            return self._erred.samples()

    def wait_until_idle(self) -> None:
        """Waits until all has ended, or until the run was stopped and its tasks with it (`wait_for_workers`)."""
        with self.lock:
            while self.open_samples:
                if not self.standing.is_open and (self.flag.is_set or self.crew.is_empty):
                    return
                self.idle.wait()

    # ---- crews

    def take(self, most: int) -> list[Item]:
        """Up to `most` tasks of one sample that may start now. Called with the lock held."""
        now = time.monotonic()
        gate = self.gate
        if gate.is_active:
            if gate.next_at(now) > now:
                return []
            self.standing.end_hold()
            most = 1  # each has a turn of its own
        items = self.queue.take(most, now)
        if items and gate.is_active:
            gate.started(now)
        self._window.look()
        return items

    def take_last(self) -> list[Item]:
        """One suspect (see TaskQueue) that may start now. Called with the lock held."""
        now = time.monotonic()
        if self.gate.is_active and self.gate.next_at(now) > now:
            return []
        self.standing.end_hold()
        items = self.queue.take_last()
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
        if queue.ready or (queue.suspects and turn > now):
            return turn
        return None if due is None else max(due, turn)

    def give_back(self, items: list[Item]) -> None:
        """Tasks that were taken and not begun."""
        with self.lock:
            self.queue.give_back(items)
            self._wake(len(items))

    def _wake(self, count: int) -> None:
        """So many tasks are ready. Called with the lock held."""
        if self.standing.is_running and count:
            self.crew.wake(count)

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
                self.standing.begin_hold()
                self.crew.rouse()
        return True

    def hold_all(self, after_s: float, reason: str) -> None:
        """Start no attempt for `after_s` seconds: the service refuses all calls."""
        elapsed_s = self.tracker.elapsed_s
        with self.lock:
            now = time.monotonic()
            if self.gate.hold(now, after_s, reason, began=now - elapsed_s):
                self.standing.begin_hold()
                self.crew.rouse()

    def ended(self, sample: SampleWork, count: int, failed: list[tuple[int, str]]) -> None:
        """Tasks of a sample have a result, or (`failed`: position and kind) an error, that was handed to the sink."""
        if failed and not sample.bytes:
            sample.bytes = sample.work.rough_bytes()
        with self.lock:
            sample.left -= count
            sample.errors += failed
            over = sample.left == 0
            if over and sample.errors:
                self._erred.keep(sample)
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
            which = self.streak.failure(e)
            if which is None or not self.standing.is_running:
                return
        message, trouble = trouble_of(which, e, error)
        self.pause(message, trouble)

    # ---- anybody

    def pause(self, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """Workers take no more tasks; what runs goes on to its end."""
        self._away.forget()
        if not self.pause_unless_paused(message, trouble):
            with self.lock:
                self.standing.give_reason(message, trouble)

    def pause_unless_paused(self, message: str, trouble: RunHaltedError | None = None) -> bool:
        """The same, if the run is running: else nothing happens, and False is returned."""
        with self.lock:
            if not self.standing.pause(message, trouble):
                return False
            self.tracker.pause()
            self.idle.notify_all()
            return True

    def wait_for_judge(self, sample: SampleWork, position: int, message: str) -> None:
        """Nothing can be judged for now: the task goes back unattempted and the run pauses until the judge is back."""
        with self.lock:
            self.queue.give_back([(sample, position)])
        self._away.begin(message)
        with self.lock:
            self._wake(1)  # nothing, unless the run was resumed meanwhile

    def resume(self) -> None:
        """Workers take tasks again; after a fault the disk is tried again."""
        self._away.forget()
        with self.lock:
            if not self.standing.resume():
                return
            self.tracker.resume()
            self.streak.restart()
            self._wake(self.queue.waiting)
            self.crew.rouse()
        self.sink.mend()
        with self.lock:
            self.idle.notify_all()

    def no_threads(self, e: ThreadLimitError) -> None:
        """No thread can be started that would run tasks: the run pauses. Called with the lock held."""
        message = f"Paused: {e} Then run.resume(). What is saved stays."
        error = RunHaltedError(message)
        error.__cause__ = e
        if self.standing.pause(message, error):
            self.tracker.pause()
            self.idle.notify_all()

    def broke(self, e: BaseException) -> None:
        """A fault of nbrun's own: the run halts, since what it can't tell any more would hang it."""
        error = RunHaltedError(
            f"The run halted by a fault of nbrun's own: {type(e).__name__}: {e}. What is saved stays; "
            "start again to go on with what is missing, and please report this."
        )
        error.__cause__ = e
        with self.lock:
            self.standing.break_down(error)
        self.stop(drain=True)

    def stop(self, drain: bool = True) -> list[Task]:
        """No more tasks are begun. Returns the tasks that run now. After a fault the disk is tried once more."""
        had_trouble = self.standing.trouble is not None
        running = self._stop(drain)
        if had_trouble:
            self.sink.mend()
        return running

    def _stop(self, drain: bool) -> list[Task]:
        with self.lock:
            self.standing.drain()
            if not drain:
                self.flag.is_set = True
            self.crew.rouse()
            self._window.rouse()
            self.idle.notify_all()
            self.tracker.resume()
            return [task for task, _ in self.crew.tasks()]

    def wait_for_workers(self, timeout_s: float) -> bool:
        """Waits until nobody works any more. False on a time-out."""
        with self.lock:
            return self.idle.wait_for(lambda: self.crew.is_empty, timeout_s)

    def wait_for_resume(self) -> bool:
        """After a fault at the end of a run: waits until somebody resumes (True) or stops (False)."""
        with self.lock:
            if self.standing.is_draining:
                return False
            self.idle.wait_for(lambda: self.standing.state is not State.PAUSED)
            return self.standing.is_running

    def finish(self, state: State, message: str = "", trouble: RunHaltedError | None = None) -> None:
        """The run is over: the threads end, and so does everybody's wait."""
        self.tracker.finish()
        with self.lock:
            self.standing.end(state, message, trouble)
            self.queue.clear()
            self.open_samples.clear()
            self.crew.end()
            self.crew.rouse()
            self._window.rouse()
            self.idle.notify_all()

    def say(self, message: str, instead_of: str = "") -> None:
        """Tells the user something while the run goes on; where it paused, its own message stays."""
        with self.lock:
            self.standing.say(message, instead_of)

    @property
    def workers(self) -> int:
        """How many threads are wanted."""
        return self.wanted

    @workers.setter
    def workers(self, n: int) -> None:
        with self.lock:
            self.wanted = n
            self.crew.rouse()
            self._window.rouse()
            self._wake(self.queue.waiting)

    def limit(self, timeout_s: float | None, max_per_s: float | None) -> None:
        """Sets the limits on attempts that begin from now on."""
        with self.lock:
            self.timeout_s = timeout_s
            self.gate.limit(max_per_s)
            self.crew.rouse()

    def retry_errors(self, kind: str | None = None) -> int:
        """Queues tasks that ended in errors (of one kind) again, if their samples are in memory. Returns how many."""
        return self._erred.again(kind)

    def forget_in_child(self) -> None:
        """After a fork, in the child: the thread that forked may be a worker here, which must not go on."""
        self.is_forked = True
        self.standing.is_running = False
        self.crew.forget_in_child()

    def at_work(self) -> dict[int, int]:
        """Sample number -> tasks running now."""
        return dict(Counter(sample.work.number for sample in self.crew.at_work()))

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

    def remarks(self) -> list[str]:
        """What there is to say of the run as it is now."""
        return [self.crew.told, self._waiting_text(), self.long_tasks.text]

    @property
    def long_tasks(self) -> LongTasks:
        """The tasks that have been running for many times longer than most take."""
        if not self.standing.is_open and not self.standing.is_draining:
            return LongTasks(0, 0.0, 0.0)
        now = time.perf_counter_ns()
        return find_long(((now - since) / 1e9 for since in self.crew.begun()), self.durations)

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
            if not self.standing.is_running or not (count or held):
                return ""
            if not held and count < self.wanted and self.crew.at_work():
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
            for task, since in self.crew.tasks()
            if task.sample_id == sample_id
        ]

    def works_in(self, thread: threading.Thread) -> bool:
        """Do tasks run in that thread?"""
        return self.crew.works_in(thread)
