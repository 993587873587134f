"""Tasks that are out together, and the note that they run, where one of them could take the kernel along.

A worker of MPI's that dies ends the kernel too, and so does a thread of its own. What ran then is found by the next
run, as it is for the kernel's own threads (storage/running.py). Threads: the dispatcher's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from nbrun.engine.task_queue import Item
from nbrun.model import ResultSink

#: A chunk that is noted holds no more tasks: a slot of the record of running tasks has no more places.
MOST_NOTED = 128


class Chunk:
    """Tasks that are out together.

    Attributes:
        number: counts the chunks in the order in which they were sent first.
        is_alone: nothing may run beside it, since its task lost workers.
        is_last: its task was running when earlier runs died; only others like it run beside it.
    """

    __slots__ = ("future", "generation", "is_alone", "is_quarantined", "items", "number", "sent_ns", "size", "slot")

    def __init__(self, items: list[Item], number: int, is_alone: bool = False, is_quarantined: bool = False) -> None:
        self.items, self.number, self.is_alone, self.is_quarantined = items, number, is_alone, is_quarantined
        self.size = self.sent_ns = 0
        self.generation = self.slot = -1
        self.future: Future[Any] | None = None

    def note(self, sink: ResultSink, out: Iterable[Chunk]) -> None:
        """It is about to run, beside those that are out."""
        taken = {chunk.slot for chunk in out}
        self.slot = next(n for n in itertools.count() if n not in taken)
        groups = itertools.groupby(self.items, lambda item: item[0])
        sink.begin_tasks(self.slot, b"".join(sample.work.marks([p for _, p in items]) for sample, items in groups))
