"""Trying a task again: what `fn` answers for it, and how often its exceptions are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbrun.texts import without_surrogates

#: Nobody waits longer than three years, and the clocks of threads can't.
MAX_AFTER_S = 1e8


class Retry(Exception):
    """An answer of fn, returned or raised: try this task again later, without blocking a worker.

    Args:
        reason: why, in a few words; it is shown and journaled.
        after_s: how long to wait at least, in seconds.
        hint: a JSON-able mapping handed to the next attempt as `task.hint`; it survives a restart.
        result: what this attempt found, handed on as `task.previous`.
        pause_all: hold every task of the run back for `after_s`, not this one alone: the service refuses all calls.

    Example:
        >>> raise Retry("time limit may be too low", hint={"time_limit_s": 4})
        Traceback (most recent call last):
        nbrun.model.retry.Retry: time limit may be too low
    """

    def __init__(
        self,
        reason: str,
        after_s: float = 0.0,
        hint: Mapping[str, Any] | None = None,
        result: Any = None,
        pause_all: bool = False,
    ) -> None:
        reason = without_surrogates(str(reason))
        super().__init__(reason)
        self.reason = reason
        self.after_s = min(max(0.0, float(after_s)), MAX_AFTER_S)  # of NaN this makes 0
        self.hint: Mapping[str, Any] = dict(hint or {})
        self.result = result
        self.pause_all = pause_all


#: A task that has waited for long by `Retry` waits at least this share of that time again.
RETRY_SHARE = 0.1
#: Exceptions of a wrong program: the next try would fail in the same way.
NEVER_RETRIED: tuple[type[BaseException], ...] = (NameError, TypeError, AttributeError, ImportError, SyntaxError)


@dataclass(frozen=True, repr=False)
class RetryPolicy:
    """How often a task is tried again: after exceptions, and apart from these after a `Retry` that `fn` asked for.

    Args:
        attempts: how many calls of `fn` may raise before the task ends in an error; 1 means never again.
        delay_s: the wait after the first exception, in seconds; it doubles from then on.
        max_delay_s: the longest wait, in seconds, unless a `Retry` asks for a longer one.
        jitter: the share of a wait that is random, 0 to 1, so that many tasks don't return together.
        never: exception types that are not tried again.
        retries: how many times `fn` may ask for a `Retry` before the task ends in an error; None for no limit. Its wait
            is `after_s`, but at least a tenth of the time since the task's first `Retry` (`max_delay_s` at most):
            200 of them wait out a rate limit or an outage of more than an hour, and a short one ends quickly.

    Both counts survive a restart. Where ten attempts in a row fail to connect, all tasks wait together and try again
    every half second or later; for 30 s these attempts count for nothing, so that a short outage makes no errors.

    Example:
        >>> RetryPolicy(attempts=2).attempts
        2
    """

    attempts: int = 3
    delay_s: float = 0.5
    max_delay_s: float = 60.0
    jitter: float = 0.5
    never: tuple[type[BaseException], ...] = NEVER_RETRIED
    retries: int | None = 200

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"RetryPolicy: attempts must be at least 1, not {self.attempts}")
        if self.retries is not None and self.retries < 0:
            raise ValueError(f"RetryPolicy: retries must not be negative, not {self.retries}")
        if self.delay_s < 0 or self.max_delay_s < 0 or not 0 <= self.jitter <= 1:
            raise ValueError("RetryPolicy: delay_s and max_delay_s must not be negative, jitter lies in 0..1")

    def __repr__(self) -> str:
        """What differs from the defaults: in a signature the default is `RetryPolicy()`."""
        given = []
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value != f.default:
                shown = f"({', '.join(t.__name__ for t in value)},)" if f.name == "never" and value else repr(value)
                given.append(f"{f.name}={shown}")
        return f"RetryPolicy({', '.join(given)})"

    def wait_s(self, exceptions: int, random: float) -> float:
        """Return the seconds to wait after the task's exception number `exceptions` (from 1); `random` lies in 0..1."""
        wait = min(self.max_delay_s, self.delay_s * 2.0 ** min(exceptions - 1, 60))
        return wait * (1.0 - self.jitter * random)

    def retry_wait_s(self, after_s: float, waited_s: float, random: float) -> float:
        """Return the seconds to wait after a `Retry`; the task's first one was `waited_s` seconds ago."""
        grown = min(self.max_delay_s, waited_s * RETRY_SHARE)
        return max(after_s, grown * (1.0 - self.jitter * random))
