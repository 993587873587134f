"""How many samples and tasks a run was given: written as soon as it is known, so that what was never begun is missing.

The run record holds the sums. Of a list, whose samples are all known when the run begins, `.nbrun/samples` holds each
id with its tasks; the run record names that file's content by a digest, so an old or damaged file is not believed.

Threads: written by the thread that starts a run and later by the feeder; read by any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from nbrun.storage import files

NAME = "samples"
#: Of more samples only the sums are kept.
MAX_SAMPLES = 500_000


@dataclass(frozen=True)
class SampleTotals:
    """What is known of a run's samples.

    Attributes:
        samples: how many there are; None while a stream is still being read.
        tasks: by group; None as above.
        by_id: each sample's tasks, in the order of the groups in `tasks`; None where only the sums are known.
    """

    samples: int | None = None
    tasks: Mapping[str, int] | None = None
    by_id: Mapping[str, Sequence[int]] | None = None

    @property
    def is_known(self) -> bool:
        """Whether all samples were counted."""
        return self.samples is not None and self.tasks is not None

    def of(self, sample_id: str) -> dict[str, int]:
        """A sample's tasks by group; {} where only the sums are known."""
        counts = None if self.by_id is None else self.by_id.get(sample_id)
        return {} if counts is None or self.tasks is None else dict(zip(self.tasks, counts, strict=True))


def write_totals(inner: Path, totals: SampleTotals) -> dict[str, Any]:
    """Write the list of samples where it is known, and return what belongs into the run record."""
    fields: dict[str, Any] = {"samples": totals.samples, "tasks": None if totals.tasks is None else dict(totals.tasks)}
    if totals.by_id is None or totals.tasks is None or len(totals.by_id) > MAX_SAMPLES:
        return fields
    data = b"\n".join([orjson.dumps(list(totals.tasks)), *(orjson.dumps([i, *n]) for i, n in totals.by_id.items())])
    try:
        if _read(inner) != data:
            files.put_derived(inner / NAME, (data,), inner / "tmp" / "samples.tmp")
    except OSError:  # a full disk: then the sums must do
        return fields
    return fields | {"samples_digest": _digest(data)}


def read_totals(inner: Path, records: Iterable[Mapping[str, Any]]) -> SampleTotals | None:
    """What the newest run was given. None where no run has said it: the directory is by an older nbrun, or empty."""
    newest: Mapping[str, Any] = {}
    for record in records:
        newest = record
    if "samples" not in newest:
        return None
    samples, tasks = newest["samples"], newest.get("tasks")
    if not isinstance(samples, int) or not isinstance(tasks, dict):
        return SampleTotals(samples if isinstance(samples, int) else None)
    by_id = None
    if "samples_digest" in newest and (data := _read(inner)) and _digest(data) == newest["samples_digest"]:
        lines = iter(data.splitlines())
        if orjson.loads(next(lines)) == list(tasks):
            by_id = {row[0]: row[1:] for row in map(orjson.loads, lines)}
    return SampleTotals(samples, tasks, by_id)


def _read(inner: Path) -> bytes:
    try:
        return files.read_whole(inner / NAME)
    except OSError:
        return b""


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
