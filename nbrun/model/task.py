"""A task, and where it and its run stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where the work on a task stands. Says nothing of what a judge thinks of the solution (that is a verdict)."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # for another try
    DONE = "done"
    ERROR = "error"
    CANCELLED = "cancelled"


class State(StrEnum):
    """Where a run stands (`Progress.state`)."""

    RUNNING = "running"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPED = "stopped"
    DONE = "done"
    HALTED = "halted"


class CancelFlag:
    """One switch for a whole run, which each of its tasks can look at.

    Threads: set by whoever stops the run, read by workers; a bool needs no lock.
    """

    __slots__ = ("is_set",)

    def __init__(self) -> None:
        self.is_set = False


@dataclass(slots=True, eq=False)
class Task:
    """What `fn` gets: one item to be worked on.

    Attributes:
        sample_id: the sample's id, as text.
        group: `"solution"`, `"incorrect_solution"`, or a group of your own.
        index: where the item stands in its group, counted from 0 (items that are skipped count too).
        item: the item; a copy where it can be changed, so that fn may do so and the dataset stays what it is.
        sample: the whole sample; a copy too, shared by its tasks.
        attempt: 1 for the first try.
        hint: what the last `Retry` passed on; empty on the first try.
        previous: the result of the last attempt, or None.

    `fn` returns a mapping, which is stored as JSON. Its keys `accepted` (True or False) and `verdict` (a short text,
    such as "Accepted" or "WrongAnswer") are counted in the panel and in `rates`; see `nbrun.start`.

    Example:
        >>> task = Task("p1", "solution", 0, "print(1)", {"id": "p1"})
        >>> task.attempt, task.cancelled()
        (1, False)
    """

    sample_id: str
    group: str
    index: int
    item: Any
    sample: Mapping[str, Any]
    attempt: int = 1
    hint: Mapping[str, Any] = field(default_factory=dict)
    previous: Any = None
    _flag: CancelFlag = field(default_factory=CancelFlag, repr=False)
    _exceptions: int = field(default=0, repr=False)  # how many of the earlier attempts raised one
    _waits_since: float | None = field(default=None, repr=False)  # the first Retry in this kernel, on monotonic's clock

    def cancelled(self) -> bool:
        """True once the run was stopped without draining, or `timeout_s` is over: the result will be discarded."""
        return self._flag.is_set
