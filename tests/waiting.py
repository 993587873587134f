"""Waiting in tests: poll a condition until a deadline that only a hang reaches, also on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: object = "", *, timeout_s: float = 60) -> None:
    """Return once `condition()` is true.

    Args:
        what: what is waited for, or a function that describes what there is instead.

    Raises:
        AssertionError: it isn't true within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what() if callable(what) else what}"
        time.sleep(0.002)
