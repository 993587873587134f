"""Counts of a results directory, without loading results or pandas."""

from __future__ import annotations

import os
from dataclasses import dataclass

from nbrun.storage.reader import Reader


@dataclass(frozen=True)
class Status:
    """How far the samples of a directory are. Counts are tasks where nothing else is said."""

    samples: int
    samples_complete: int
    done: int
    errors: int
    total: int
    problems: int


def status(results: str | os.PathLike[str]) -> Status:
    """Counts what is saved, during a run or after it.

    Raises:
        InputError: there is no such folder.
    """
    reader = Reader(results)
    views = [
        (v.is_complete, sum(v.completed.values()), v.errors, sum(v.totals.values()))
        for v in reader.samples(bodies=False, by_tails=True)
    ]
    return Status(
        len(views), sum(v[0] for v in views), sum(v[1] for v in views), sum(v[2] for v in views),
        sum(v[3] for v in views), len(reader.problems),
    )  # fmt: skip
