"""Nobody wants 11.6 million equal errors: notices when tasks fail alike, so that the run waits or pauses.

Where connections fail one after another, the run waits for them to come back for a while; where tasks end in errors of
one type, it pauses.

Threads: `success` from any worker (some plain stores); `failure` and `Outage.failure` with the scheduler's lock held.
"""

from __future__ import annotations

import re

from nbrun.errors import SystematicFailureError, TaskTimeout

#: The run pauses when the first tasks to end, or so many in a row, fail with one type of exception.
FIRST_FAILURES, FAILURES_IN_A_ROW = 10, 50
#: From so many attempts in a row on whose connection failed, attempts wait and count for nothing, for so long.
OUTAGE_FAILURES, OUTAGE_S = 10, 30.0
#: Exceptions of clients that derive from no built-in one, and those of an executor's workers, of which the name comes.
_CONNECTION = re.compile(r"Connect|Disconnect|Timeout|Network|Unreachable|gaierror|RemoteProtocol|ServiceUnavailable")


class Outage:
    """Failed connections in a row, of whatever types."""

    def __init__(self) -> None:
        self._length = 0
        self._began = 0.0

    def success(self) -> None:
        """A task ended well."""
        self._length = 0

    def failure(self, e: BaseException, now: float) -> bool:
        """An attempt failed. Return True where it should count for nothing, since nothing can be reached for now."""
        if not is_connection_failure(e):
            self._length = 0
            return False
        if not self._length:
            self._began = now
        self._length += 1
        return self._length >= OUTAGE_FAILURES and now - self._began < OUTAGE_S


def is_connection_failure(e: BaseException) -> bool:
    """Could nothing be reached, or did nothing answer?

    Example:
        >>> is_connection_failure(ConnectionResetError()), is_connection_failure(ValueError())
        (True, False)
    """
    if isinstance(e, TaskTimeout) or type(e).__name__ == TaskTimeout.__name__:
        return False
    return isinstance(e, (ConnectionError, TimeoutError)) or bool(_CONNECTION.search(type(e).__name__))


class FailureDetector:
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
