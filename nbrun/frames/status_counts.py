"""How complete a results directory is, from its journal and the last lines of its files; no pandas. Any thread."""

from __future__ import annotations

import os
from dataclasses import dataclass

from nbrun.errors import hides_own_frames
from nbrun.formatting import counted
from nbrun.results.reader import Reader, with_totals


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
