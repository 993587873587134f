"""Trying a task again: what `fn` answers for it, and how often its exceptions are."""

from __future__ import annotations

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
        self.after_s = min(float(after_s), MAX_AFTER_S)
        self.hint: Mapping[str, Any] = dict(hint or {})
        self.result = result
        self.pause_all = pause_all


#: Exceptions of a wrong program: the next try would fail in the same way.
NEVER_RETRIED: tuple[type[BaseException], ...] = (NameError, TypeError, AttributeError, ImportError, SyntaxError)


@dataclass(frozen=True)
class RetryPolicy:
    """How often a task whose `fn` raised is tried again.

    Args:
        attempts: how many tries in all; 1 means never again.
        delay_s: the wait before the second try, in seconds; it doubles from then on.
        max_delay_s: the longest wait, in seconds.
        jitter: the share of a wait that is random, 0 to 1, so that many tasks don't return together.
        never: exception types that are not tried again.

    Example:
        >>> RetryPolicy(attempts=2).attempts
        2
    """

    attempts: int = 3
    delay_s: float = 0.5
    max_delay_s: float = 60.0
    jitter: float = 0.5
    never: tuple[type[BaseException], ...] = NEVER_RETRIED

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"RetryPolicy: attempts must be at least 1, not {self.attempts}")
        if self.delay_s < 0 or self.max_delay_s < 0 or not 0 <= self.jitter <= 1:
            raise ValueError("RetryPolicy: delay_s and max_delay_s must not be negative, jitter lies in 0..1")

    def wait_s(self, attempt: int, random: float) -> float:
        """Seconds to wait after try number `attempt` (from 1); `random` lies in 0..1."""
        wait = min(self.max_delay_s, self.delay_s * 2.0 ** min(attempt - 1, 60))
        return wait * (1.0 - self.jitter * random)
