"""The state of a run and the reason for it, and what pauses a run by itself: tasks that all fail alike.

Where connections fail one after another, the run waits for a while until the service is back. Where tasks end in errors
of one type, it pauses: millions of equal errors are of no use to anybody. `FailureDetector` notices both.
"""

from __future__ import annotations

import re

from nbrun.errors import RunHaltedError, SystematicFailureError, TaskTimeout
from nbrun.model import State
from nbrun.tuning import TUNING


class RunState:
    """The state of one run.

    Threads: changed with the scheduler's lock held. Each attribute may be read at any time, and may have changed since.

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
    """Counts failures in a row: attempts that reached nothing, and tasks that ended in errors of one type."""

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
