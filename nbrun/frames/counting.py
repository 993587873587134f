"""How much of each sample is complete: counted from the rows that loading gives, so from the cache where it can be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nbrun.frames.loading import Loading
from nbrun.storage.directory import Problem
from nbrun.storage.reader import SampleView, summarise


def count_samples(results: str | os.PathLike[str]) -> tuple[list[SampleView], list[Problem]]:
    """Every sample with its counts, in the order of ids; and what could not be read.

    Raises:
        InputError: there is no such folder.
    """
    loading = Loading(results)
    table, rows = loading.table()
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
        for sample_id in sorted({*loading.infos, *samples.texts} - {""}):
            info = loading.infos.get(sample_id)
            at = place.get(sample_id)
            counts = {} if at is None else {g: int(n) for g, n in zip(groups.texts, completed[at], strict=True) if n}
            failed = 0 if at is None else int(errors[at])
            if info is not None and info.name in loading.unread and not counts and not failed:
                continue
            header, match = loading.headers.get(sample_id, {}), loading.matches.get(sample_id)
            yield summarise(sample_id, path, info, header, match, counts, failed)

    return list(views()), loading.problems
