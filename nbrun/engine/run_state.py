"""Where a run stands, and why.

Threads: changed with the scheduler's lock held; each attribute may be read at any time, and may have changed
since.
"""

from __future__ import annotations

from nbrun.errors import RunHaltedError
from nbrun.model import State


class RunState:
    """Of one run.

    Attributes:
        state: running, paused, draining, and then one of the ends.
        is_running: the same as state is RUNNING.
        may_begin: it is running and attempts are not held back; workers read it before each task.
        message: what the user is told of it, or "".
        trouble: why the run paused itself, or halted: what `wait` raises.
        broken: a fault of nbrun's own, or None.
    """

    def __init__(self) -> None:
        self.state = State.RUNNING
        self.is_running = self.may_begin = True
        self._is_held = False
        self.message = ""
        self.trouble: RunHaltedError | None = None
        self.broken: RunHaltedError | None = None

    @property
    def is_open(self) -> bool:
        """May tasks begin, now or once it is resumed?"""
        return self.state in (State.RUNNING, State.PAUSED)

    @property
    def is_draining(self) -> bool:
        """Is it being stopped?"""
        return self.state is State.DRAINING

    def pause(self, message: str, trouble: RunHaltedError | None) -> bool:
        """False where it was not running: then nothing changes."""
        if self.state is not State.RUNNING:
            return False
        self._turn(State.PAUSED)
        self.message, self.trouble = message, trouble
        return True

    def give_reason(self, message: str, trouble: RunHaltedError | None) -> None:
        """Of a pause that has no trouble behind it so far."""
        if self.state is State.PAUSED and self.trouble is None:
            self.message, self.trouble = message, trouble

    def resume(self) -> bool:
        """False where it was not paused."""
        if self.state is not State.PAUSED:
            return False
        self._turn(State.RUNNING)
        self.message, self.trouble = "", None
        return True

    def drain(self) -> None:
        """No more tasks begin."""
        if self.is_open:
            self._turn(State.DRAINING)

    def end(self, state: State, message: str, trouble: RunHaltedError | None) -> None:
        """It is over; what was told before stays where nothing new is to be told."""
        self._turn(state)
        self.message = message or self.message
        self.trouble = trouble or (self.trouble if state is not State.DONE else None)

    def break_down(self, error: RunHaltedError) -> None:
        """The first fault of nbrun's own is the one that is told."""
        if self.broken is None:
            self.broken = self.trouble = error

    def say(self, message: str, instead_of: str) -> None:
        """Tells something while it goes on; where another message stands, that one stays."""
        if self.message == instead_of:
            self.message = message

    def begin_hold(self) -> None:
        """All attempts are held back."""
        self._is_held = True
        self.may_begin = False

    def end_hold(self) -> None:
        """They may begin again."""
        self._is_held = False
        self.may_begin = self.is_running

    def _turn(self, state: State) -> None:
        self.state = state
        self.is_running = state is State.RUNNING
        self.may_begin = self.is_running and not self._is_held
