"""Waiting in tests: poll a condition until a deadline that only a hang reaches, also on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def is_true_within(timeout_s: float, condition: Callable[[], object]) -> bool:
    """Return True once `condition()` is true, False if it isn't within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def until(condition: Callable[[], object], what: object = "", *, timeout_s: float = 60) -> None:
    """Return once `condition()` is true.

    Args:
        what: what is waited for, or a function that describes what there is instead.

    Raises:
        AssertionError: it isn't true within `timeout_s`.
    """
    if not is_true_within(timeout_s, condition):
        raise AssertionError(f"not within {timeout_s:g} s: {what() if callable(what) else what}")
