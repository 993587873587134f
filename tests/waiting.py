"""Waiting in tests: poll a condition until a deadline that only a hang reaches, also on a busy machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
#: Nothing that works takes this long, however busy the machine is; pytest gives a test 300 s.
DEADLINE_S = 150.0


def patience(seconds: float) -> float:
    """Return how long what takes at most `seconds` on a quiet machine may take on this one now.

    It is longer by as many threads as share a processor: what Linux counts as running now, or the mean of a minute.
    """
    load = os.getloadavg()[0]
    try:
        with open("/proc/loadavg") as f:
            load = max(load, int(f.read().split()[3].split("/")[0]))
    except OSError:  # macOS
        pass
    return seconds * (1 + load / (os.cpu_count() or 1))


def is_true_within(timeout_s: float, condition: Callable[[], object]) -> bool:
    """Return True once `condition()` is true, False if it isn't within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def until(condition: Callable[[], object], what: object = "", *, promised_s: float | None = None) -> None:
    """Return once `condition()` is true.

    Args:
        what: what is waited for, or a function that describes what there is instead.
        promised_s: how long it may take on a quiet machine, where that is a promise of nbrun's.

    Raises:
        AssertionError: it isn't true in time.
    """
    began = time.monotonic()
    while not is_true_within(1.0, condition):
        passed = time.monotonic() - began
        if passed > (DEADLINE_S if promised_s is None else patience(promised_s)):
            raise AssertionError(f"not within {passed:.0f} s: {what() if callable(what) else what}")


def within(promised_s: float, act: Callable[[], T]) -> T:
    """Call `act` and return what it returns.

    Raises:
        AssertionError: it took longer than `promised_s` on a quiet machine: the load before and after is allowed for.
    """
    allowed_s = patience(promised_s)
    began = time.monotonic()
    made = act()
    took_s, allowed_s = time.monotonic() - began, max(allowed_s, patience(promised_s))
    assert took_s < allowed_s, f"it took {took_s:.1f} s, and {allowed_s:.1f} s are allowed"
    return made
