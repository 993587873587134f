"""What the scheduler's lock protects: the tasks that wait, the state of the run, and when the next attempt may start.

Threads: every method is called with the scheduler's lock held, except where a class says otherwise.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from nbrun.errors import RunHaltedError, SystematicFailureError, TaskTimeout
from nbrun.model import SampleTasks, State
from nbrun.tuning import TUNING

_T = TypeVar("_T")


class SampleWork:
    """One sample in the scheduler: `left` tasks have not ended; `errors` holds the position and kind of each error."""

    __slots__ = ("bytes", "errors", "left", "next", "positions", "quarantined", "work")

    def __init__(self, work: SampleTasks) -> None:
        self.work = work
        self.quarantined: list[int] = list(work.quarantined)
        self.positions: list[int] = list(work.missing)
        self.left = len(self.positions)
        if self.quarantined:
            last = set(self.quarantined)
            self.positions = [p for p in self.positions if p not in last]
        self.next = 0
        self.bytes = 0  # about how much memory it takes; known once a task of it has failed
        self.errors: list[tuple[int, str]] = []


#: A task: its sample and its position there.
TaskRef = tuple[SampleWork, int]
#: Tasks of one sample that were taken together: the sample and their positions, at least one. A plain tuple, since
#: where tasks take long one is made for each.
Taken = tuple[SampleWork, list[int]]


class Delayed(NamedTuple):
    """A task that waits for another try. They compare by their time, then by their order."""

    due: float
    number: int
    sample: SampleWork
    position: int
    reason: str


class TaskQueue:
    """Tasks of a sample go out together, the next sample fills idle workers; quarantined tasks go last.

    Quarantined are tasks that ran when earlier runs died: they run once all others have ended, one at a time.
    """

    def __init__(self) -> None:
        self._last: deque[TaskRef] = deque()
        self._samples: deque[SampleWork] = deque()
        self._returned: deque[TaskRef] = deque()
        self._delayed: list[Delayed] = []
        self.last_due = 0.0  # the latest time of the delayed tasks; of earlier ones too while there are any
        self._reasons: Counter[str] = Counter()  # of delayed tasks
        self.delayed_by_sample: Counter[SampleWork] = Counter()
        self._pushes = 0
        self.ready = 0  # tasks that may run now, but for delayed ones that came due since
        self.samples_waiting = 0

    @property
    def delayed(self) -> int:
        """Tasks that wait for their time."""
        return len(self._delayed)

    @property
    def waiting(self) -> int:
        """All tasks that were not taken."""
        return self.ready + len(self._delayed) + len(self._last)

    @property
    def next_due(self) -> float:
        """When the first delayed task may run (time.monotonic); infinity if there is none."""
        return self._delayed[0].due if self._delayed else math.inf

    def add(self, sample: SampleWork) -> None:
        """Append a sample."""
        self._last.extend((sample, position) for position in sample.quarantined)
        if sample.positions:
            self._samples.append(sample)
            self.ready += len(sample.positions)
            self.samples_waiting += 1

    def give_back(self, refs: list[TaskRef]) -> None:
        """Return tasks that were taken but never started to the front of the queue."""
        self._returned.extend(refs)
        self.ready += len(refs)

    def delay(self, sample: SampleWork, position: int, due: float, reason: str = "") -> None:
        """Queue a task that may run again at `due`."""
        self._pushes += 1
        heapq.heappush(self._delayed, Delayed(due, self._pushes, sample, position, reason))
        self.last_due = max(self.last_due, due) if self.delayed > 1 else due
        self._reasons[reason] += 1
        self.delayed_by_sample[sample] += 1

    def delayed_tasks(self) -> list[Delayed]:
        """Return all delayed tasks."""
        return list(self._delayed)

    def most_frequent_reason(self) -> tuple[str, int]:
        """Return why most delayed tasks wait, and how many other reasons there are."""
        if not self._reasons:
            return "", 0
        return self._reasons.most_common(1)[0][0], len(self._reasons) - 1

    def take(self, most: int, now: float) -> Taken | None:
        """Return up to `most` tasks of one sample; None if none may run now."""
        if self._delayed and self._delayed[0][0] <= now:
            _, _, sample, position, reason = heapq.heappop(self._delayed)
            _count_down(self._reasons, reason)
            _count_down(self.delayed_by_sample, sample)
            return sample, [position]
        if self._returned:
            self.ready -= 1
            sample, position = self._returned.popleft()
            return sample, [position]
        if not self._samples:
            return None
        sample = self._samples[0]
        start = sample.next
        end = min(start + most, len(sample.positions))
        sample.next = end
        if end == len(sample.positions):
            self._samples.popleft()
            self.samples_waiting -= 1
        self.ready -= end - start
        return sample, sample.positions[start:end]

    @property
    def quarantined(self) -> int:
        """How many tasks wait for all others to end."""
        return len(self._last)

    def take_quarantined(self) -> Taken | None:
        """Return one quarantined task; None while any other task waits, delayed ones included."""
        if not self._last or self.ready or self._delayed:
            return None
        sample, position = self._last.popleft()
        return sample, [position]

    def clear(self) -> None:
        """Drop all tasks, at the end of a run."""
        self._last.clear()
        self._samples.clear()
        self._returned.clear()
        self._delayed.clear()
        self._reasons.clear()
        self.delayed_by_sample.clear()
        self.ready = self.samples_waiting = 0


def _count_down(counter: Counter[_T], what: _T) -> None:
    counter[what] -= 1
    if not counter[what]:
        del counter[what]


class RunState:
    """The state of one run, and the reason for it. Any thread may read an attribute, which may change right after.

    Attributes:
        state: running, paused, draining, and then one of the ends.
        is_running: the same as state is RUNNING.
        is_open: tasks may begin, now or once the run is resumed.
        may_begin: it is running and attempts are not held back; workers read it before each task.
        message: what the user is shown about it, or "".
        trouble: why the run paused itself, or halted: what `wait` raises.
        broken: an internal error of nbrun, or None.
    """

    def __init__(self) -> None:
        self.state = State.RUNNING
        self.is_running = self.is_open = self.may_begin = True
        self._is_held = False
        self.message = ""
        self.trouble: RunHaltedError | None = None
        self.broken: RunHaltedError | None = None

    @property
    def is_draining(self) -> bool:
        """Whether the run is being stopped."""
        return self.state is State.DRAINING

    @property
    def has_ended(self) -> bool:
        """Whether the run is over."""
        return not (self.is_open or self.is_draining)

    def pause(self, message: str, trouble: RunHaltedError | None) -> bool:
        """Pause a run that is running; otherwise change nothing and return False."""
        if self.state is not State.RUNNING:
            return False
        self._turn(State.PAUSED)
        self.message, self.trouble = message, trouble
        return True

    def give_reason(self, message: str, trouble: RunHaltedError | None) -> None:
        """Set the reason of a pause that has none so far."""
        if self.state is State.PAUSED and self.trouble is None:
            self.message, self.trouble = message, trouble

    def resume(self) -> bool:
        """Resume a paused run; otherwise return False."""
        if self.state is not State.PAUSED:
            return False
        self._turn(State.RUNNING)
        self.message, self.trouble = "", None
        return True

    def drain(self) -> None:
        """Begin to stop: no more tasks begin."""
        if self.is_open:
            self._turn(State.DRAINING)

    def end(self, state: State, message: str, trouble: RunHaltedError | None) -> None:
        """End the run; without a new message the last one stays."""
        self._turn(state)
        self.message = message or self.message
        self.trouble = trouble or (self.trouble if state is not State.DONE else None)

    def break_down(self, error: RunHaltedError) -> None:
        """Record an internal error; the first one is kept."""
        if self.broken is None:
            self.broken = self.trouble = error

    def say(self, message: str, instead_of: str) -> None:
        """Show a message if the current one is `instead_of`."""
        if self.message == instead_of:
            self.message = message

    def begin_hold(self) -> None:
        """Let no attempt begin."""
        self._is_held = True
        self.may_begin = False

    def end_hold(self) -> None:
        """Let attempts begin again."""
        self._is_held = False
        self.may_begin = self.is_running

    def _turn(self, state: State) -> None:
        self.state = state
        self.is_running = state is State.RUNNING
        self.is_open = state in (State.RUNNING, State.PAUSED)
        self.may_begin = self.is_running and not self._is_held


#: The run pauses when the first tasks to end, or this many in a row, fail with one type of exception.
FIRST_FAILURES, FAILURES_IN_A_ROW = 10, 50
#: After this many failed connections in a row, failed attempts are not counted for a while.
OUTAGE_FAILURES = 10
#: Names of clients' exceptions that derive from no built-in one; of a worker's exception only the name is known.
_CONNECTION = re.compile(r"Connect|Disconnect|Timeout|Network|Unreachable|gaierror|RemoteProtocol|ServiceUnavailable")


def is_connection_failure(e: BaseException) -> bool:
    """Return True if nothing could be reached, or nothing answered.

    Example:
        >>> is_connection_failure(ConnectionResetError()), is_connection_failure(ValueError())
        (True, False)
    """
    if isinstance(e, TaskTimeout) or type(e).__name__ == TaskTimeout.__name__:
        return False
    return isinstance(e, (ConnectionError, TimeoutError)) or bool(_CONNECTION.search(type(e).__name__))


class FailureDetector:
    """Counts failures in a row: attempts that reached nothing, and tasks that ended in errors of one type.

    Where connections fail one after another, the run waits for a while until the service is back. Where tasks end in
    errors of one type, it pauses: millions of equal errors are of no use to anybody.

    Threads: `success` is called by any worker, without the lock.
    """

    def __init__(self) -> None:
        self._unreached = 0
        self._outage_began = 0.0
        self._length = 0
        self._any_success = False
        self._type: type[BaseException] | None = None

    def success(self) -> None:
        """Note that a task has a result."""
        self._length = self._unreached = 0
        self._any_success = True

    def is_outage(self, e: BaseException, now: float) -> bool:
        """Count a failed attempt. Return True if it should not count, since nothing can be reached for now."""
        if not is_connection_failure(e):
            self._unreached = 0
            return False
        if not self._unreached:
            self._outage_began = now
        self._unreached += 1
        return self._unreached >= OUTAGE_FAILURES and now - self._outage_began < TUNING.outage_s

    def continue_from(self, earlier: FailureDetector) -> None:
        """Know of successes before the run was started again: its first errors are then no sign of a wrong `fn`."""
        self._any_success = self._any_success or earlier._any_success

    def restart(self) -> None:
        """Start counting again: the cause may be fixed."""
        self._length = 0

    def failure(self, e: BaseException) -> str | None:
        """Count a task that ended in an error. Return which tasks failed alike, if the run should pause for them."""
        same = type(e) is self._type and self._length > 0
        self._length = self._length + 1 if same else 1
        self._type = type(e)
        if not self._any_success and self._length == FIRST_FAILURES:
            return f"the first {FIRST_FAILURES} tasks"
        return f"{FAILURES_IN_A_ROW} tasks in a row" if self._length >= FAILURES_IN_A_ROW else None


def trouble_of(which: str, e: BaseException, error: dict[str, str]) -> tuple[str, SystematicFailureError]:
    """Return the message of the pause, and what `wait()` raises."""
    message = (
        f"Paused: {which} failed with {error['type']}: {error['message'][:300].rstrip('. ')}. "
        "Fix `fn` and run this cell again. If the cause lay elsewhere and is gone: run.resume(), run.retry_errors()."
    )
    trouble = SystematicFailureError(message + ("\n\n" + error["traceback"] if error["traceback"] else ""))
    trouble.__cause__ = e
    return message, trouble


#: An attempt may start this many seconds early, so that a timer that fires late doesn't lower the rate.
EARLY_S = 0.02
#: The rate after a hold is the share CAUTION of the estimated rate. In each period (the time between two holds, at most
#: LONGEST_S) the share GROWTH of that is added. After DOUBLING periods the rate also doubles every DOUBLING periods.
CAUTION, GROWTH, DOUBLING, LONGEST_S = 0.9, 0.05, 6, 10.0
#: Above this rate, spacing makes no difference.
FAST_PER_S = 10_000.0
#: A hold in an outage lasts at least the share SHARE of the outage so far, but this share is at most MOST_S seconds.
SHARE, MOST_S = 0.1, 60.0


class StartGate:
    """Decides when the next attempt may start: at most `max_per_s` per second, and none while a service refuses all.

    A service that limits requests answers HTTP 429 and says when to try again. `hold` delays all attempts until then.
    If all workers continued at the same time after that, most of them would be refused immediately. So the gate
    estimates from each hold how many attempts the service accepts per second: the tasks that ended since the previous
    hold, divided by the time between the ends of the two holds. It spaces attempts a little wider than this rate, and
    then raises the rate until the next refusal: slowly at first, faster and faster if none comes. A hold before which
    no task ended is an outage. It says nothing about the rate, and the longer an outage lasts, the longer its holds.

    All times are seconds on one monotonic clock. `is_active` may be read by any thread.

    Args:
        max_per_s: how many attempts may start per second; None for no limit.
        ends: returns how many tasks have ended so far.
        on_hold_end: called when a hold is over, by the method that notices it first.

    Attributes:
        is_active: False while attempts may start at any time; then `started` need not be called.
        reason: why attempts were delayed the last time.
    """

    def __init__(
        self,
        max_per_s: float | None = None,
        ends: Callable[[], int] = lambda: 0,
        on_hold_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._max_per_s, self._count_ends, self._on_hold_end = max_per_s, ends, on_hold_end
        self.is_active = max_per_s is not None
        self.reason = ""
        self._next = 0.0  # when the next attempt may start
        self._held_until: float | None = None  # None once the end of the hold was noticed
        self._outage_began: float | None = None
        self._teaches = False  # the current hold is by a service that limits requests
        self._cycle_began: float | None = None  # when the last hold ended from which a rate was estimated
        self._cycle_s = LONGEST_S  # how long before that the previous one ended
        self._learned: float | None = None  # the rate after that hold
        self._ends = 0  # how many tasks had ended then

    def limit(self, max_per_s: float | None) -> None:
        """Set how many attempts may start per second."""
        self._max_per_s = max_per_s
        self._set_active()

    def is_held(self, now: float) -> bool:
        """Return whether all attempts are delayed."""
        return self._held_until is not None and now < self._held_until

    def next_at(self, now: float) -> float:
        """Return when the next attempt may start; not later than `now` if one may start now."""
        if self._held_until is not None:
            if now < self._held_until:
                return self._held_until
            self._end_hold(now)
        return self._next - EARLY_S

    def started(self, now: float) -> None:
        """Record that an attempt starts now."""
        rate = self._rate(now)
        if rate is not None:
            self._next = max(self._next, now - EARLY_S) + 1.0 / rate

    def hold(self, now: float, wait_s: float, reason: str, *, began: float | None = None) -> bool:
        """Delay all attempts by `wait_s`, since one was refused. Return False if they were delayed already.

        Args:
            began: when the run began, which is where the first estimate starts. None if the service was unavailable,
                which says nothing about its limit.
        """
        was_held = self.is_held(now)
        if not was_held:
            self.next_at(now)  # notices the end of the last hold
        if began is not None and self._cycle_began is None:
            self._cycle_began = began
        self._teaches |= began is not None
        if self._outage_began is None:
            self._outage_began = now
        elif not was_held:
            wait_s = max(wait_s, min(MOST_S, SHARE * (now - self._outage_began)))
        self._held_until = max(self._held_until or 0.0, now + wait_s)
        self.reason = reason
        self.is_active = True
        return not was_held

    def _end_hold(self, now: float) -> None:
        self._held_until = None
        self._next = now
        ends = self._count_ends()
        taken, teaches, self._teaches = ends - self._ends, self._teaches, False
        if taken > 0:
            self._outage_began = None
            if teaches and self._cycle_began is not None:
                self._cycle_s = max(now - self._cycle_began, 1e-3)
                self._learned = CAUTION * taken / self._cycle_s
                self._cycle_began, self._ends = now, ends
        self._set_active()
        self._on_hold_end()

    def _rate(self, now: float) -> float | None:
        """Return how many attempts per second are allowed now; None for no limit."""
        if self._learned is None or self._cycle_began is None:
            return self._max_per_s
        periods = (now - self._cycle_began) / min(self._cycle_s, LONGEST_S)
        doubled: float = 2.0 ** min(max(0.0, periods / DOUBLING - 1.0), 30.0)
        learned = self._learned * (1.0 + GROWTH * periods) * doubled
        if learned > FAST_PER_S:
            self._learned = None
            self._set_active()
            return self._max_per_s
        return learned if self._max_per_s is None else min(learned, self._max_per_s)

    def _set_active(self) -> None:
        counted = self._cycle_began is not None  # after a refusal, attempts are recorded
        self.is_active = self._max_per_s is not None or counted
