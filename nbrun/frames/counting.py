"""How much of each sample is complete: counted from the rows that loader gives, so from the cache where it can be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nbrun.frames.loader import Loader, is_integer
from nbrun.storage.directory import Problem
from nbrun.storage.reader import Reader, SampleView, summarise, with_totals
from nbrun.storage.sample_totals import SampleTotals


class SampleCounts(NamedTuple):
    """What was counted.

    Attributes:
        samples: with those that were never begun, where their ids are known.
        problems: what could not be read.
        totals: how many samples and tasks the newest run was given; None where no run has said it.
        integer_ids: every sample id was given as an integer.
    """

    samples: list[SampleView]
    problems: list[Problem]
    totals: SampleTotals | None
    integer_ids: bool


def count_samples(results: str | os.PathLike[str]) -> SampleCounts:
    """Count each sample, in the order of ids.

    Raises:
        InputError: there is no such folder.
    """
    loader = Loader(results)
    table, rows = loader.table()
    samples, groups, status = (table.texts[name] for name in ("sample_id", "group", "status"))
    of, group = samples.codes[rows].astype(np.int64), groups.codes[rows]
    done = np.array([t == "done" for t in status.texts] + [False])[status.codes[rows]]
    width = len(groups.texts)
    shape = (len(samples.texts), width)
    completed = np.bincount((of * width + group)[done], minlength=shape[0] * shape[1]).reshape(shape)
    errors = np.bincount(of[~done], minlength=shape[0])
    place = {sample_id: i for i, sample_id in enumerate(samples.texts)}
    path = Path(results).expanduser()

    def views() -> Iterator[SampleView]:
        for sample_id in sorted({*loader.infos, *samples.texts} - {""}):
            info = loader.infos.get(sample_id)
            at = place.get(sample_id)
            counts = {} if at is None else {g: int(n) for g, n in zip(groups.texts, completed[at], strict=True) if n}
            failed = 0 if at is None else int(errors[at])
            if info is not None and info.name in loader.unread and not counts and not failed:
                continue
            header, match = loader.headers.get(sample_id, {}), loader.matches.get(sample_id)
            yield summarise(sample_id, path, info, header, match, counts, failed)

    totals = Reader(results).totals()
    counted = list(with_totals(views(), totals))
    integer_ids = loader.integer_ids and all(is_integer(v.sample_id) for v in counted)
    if integer_ids:
        counted.sort(key=lambda v: int(v.sample_id))
    return SampleCounts(counted, loader.problems, totals, integer_ids)
