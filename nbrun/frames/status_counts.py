"""How complete a results directory is: `status` counts it as a whole, `count_samples` sample by sample. Any thread.

`status` needs neither pandas nor numpy; `count_samples` counts the rows that the loader gives, from the cache where it
can.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nbrun.errors import hides_own_frames
from nbrun.formatting import counted
from nbrun.results.listing import Problem
from nbrun.results.reader import Reader
from nbrun.results.status import SampleTotals, SampleView, summarise, with_totals


@dataclass(frozen=True)
class Status:
    """How far the samples of a directory are. Counts are tasks where nothing else is said.

    Attributes:
        samples, total: with what was never begun, once a run has counted it.
        problems: files and records that can't be read.
        is_total_known: False where no run has counted its samples to their end, so that there may be more.
    """

    samples: int
    samples_complete: int
    done: int
    errors: int
    total: int
    problems: int
    is_total_known: bool = True

    def __repr__(self) -> str:
        at_least = "" if self.is_total_known else "at least "
        words = [f"{self.done:,} of {at_least}{self.total:,} tasks done", counted(self.errors, "error")]
        words.append(f"{self.samples_complete:,} of {at_least}{self.samples:,} samples complete")
        if self.problems:
            words.append(f"{counted(self.problems, 'problem')}: see nbrun.check")
        return f"<nbrun.Status: {', '.join(words)}>"

    def _repr_html_(self) -> str:
        """A small table for a notebook."""
        at_least = "" if self.is_total_known else "at least "
        share = f"{self.done / self.total:.1%}" if self.total else "–"
        rows = [
            ("Tasks done", f"{self.done:,} of {at_least}{self.total:,} ({share})"),
            ("Errors", f"{self.errors:,}"),
            ("Samples complete", f"{self.samples_complete:,} of {at_least}{self.samples:,}"),
            ("Unreadable files", f"{self.problems:,}"),
        ]
        cells = "".join(
            f'<tr><th scope="row" style="text-align:left">{name}</th><td style="text-align:left">{text}</td></tr>'
            for name, text in rows
        )
        return f"<table>{cells}</table>"


@hides_own_frames
def status(results: str | os.PathLike[str]) -> Status:
    """Count what is saved and what is missing, during a run or after it.

    Raises:
        InputError: there is no such folder.
    """
    reader = Reader(results)
    totals = reader.totals()
    samples = complete = done = errors = total = 0
    for view in with_totals(reader.samples(bodies=False, by_tails=True), totals):
        samples += 1
        complete += view.is_complete
        done += sum(view.completed.values())
        errors += view.errors
        total += sum(view.totals.values())
    is_known = totals is None or totals.is_known
    if totals is not None:
        samples = max(samples, totals.samples or 0)
        total = max(total, sum((totals.tasks or {}).values()))
    return Status(samples, complete, done, errors, total, len(reader.problems), is_known)


# ---- each sample


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
    import numpy as np  # here, since `status` needs neither numpy nor the loader

    from nbrun.frames.loader import Loader, is_integer

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
