"""Nobody wants 11.6 million equal errors: tells when tasks fail alike, so that the run pauses.

Threads: `success` from any worker (two plain stores); `failure` with the engine's lock held.
"""

from __future__ import annotations

from nbrun.errors import SystematicFailureError

#: The run pauses when the first tasks to end, or so many in a row, fail with one type of exception.
FIRST_FAILURES, FAILURES_IN_A_ROW = 10, 50


class Streak:
    """Errors in a row of one type."""

    def __init__(self) -> None:
        self._length = 0
        self._any_success = False
        self._type: type[BaseException] | None = None

    def success(self) -> None:
        """A task ended well."""
        self._length = 0
        self._any_success = True

    def restart(self) -> None:
        """The cause is believed to be mended."""
        self._length = 0

    def failure(self, e: BaseException) -> str | None:
        """A task ended in an error. Returns which tasks failed alike, if the run shall pause for them."""
        same = type(e) is self._type and self._length > 0
        self._length = self._length + 1 if same else 1
        self._type = type(e)
        if not self._any_success and self._length == FIRST_FAILURES:
            return f"the first {FIRST_FAILURES} tasks"
        return f"{FAILURES_IN_A_ROW} tasks in a row" if self._length >= FAILURES_IN_A_ROW else None


def trouble_of(which: str, e: BaseException, error: dict[str, str]) -> tuple[str, SystematicFailureError]:
    """The message of the pause, and what wait() raises."""
    message = (
        f"Paused: {which} failed with {error['type']}: {error['message'][:300].rstrip('. ')}. "
        "Fix `fn` and run this cell again. If the cause lay elsewhere and is gone: run.resume(), run.retry_errors()."
    )
    trouble = SystematicFailureError(message + ("\n\n" + error["traceback"] if error["traceback"] else ""))
    trouble.__cause__ = e
    return message, trouble
