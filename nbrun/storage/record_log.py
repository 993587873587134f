"""The small logs beside the journal: runs.log (settings of runs), matched.log (places of old entries) and others.

A record is appended and synced at once. Threads: `append` by the thread that starts a run and by the feeder, never by
both at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar, cast

import orjson

from nbrun.results import plain_files
from nbrun.results.format import MATCH, MatchRecord, frame
from nbrun.results.replay import LogScan, Match, read_log, read_records
from nbrun.results.status import SAMPLES, SampleTotals, read_samples, samples_digest
from nbrun.results.values import dump
from nbrun.storage import files

R = TypeVar("R")


class RecordLog(Generic[R]):
    """A log of records of one kind that is only appended to. A torn tail is cut before the first append (F3)."""

    def __init__(self, path: Path, kind: bytes) -> None:
        self.path, self._kind = path, kind
        self._file: files.AppendFile | None = None

    def append(self, *values: Mapping[str, object]) -> int:
        """Save records: fsync has returned when this does. After a failure the next append looks at the tail again.

        Returns:
            the offset of the first of them.
        """
        try:
            if self._file is None:
                self._file = self._open()
            start = self._file.append(b"".join(frame(self._kind, dump(v)) for v in values))
            self._file.sync()
            return start
        except OSError:
            self.close()
            raise

    def _open(self) -> files.AppendFile:
        if not os.path.lexists(self.path):
            log = files.AppendFile(self.path, new=True)
            files.sync_folder(self.path.parent)
            return log
        scan = LogScan()
        for _ in read_log(self.path, scan):
            pass
        log = files.AppendFile(self.path, new=False)
        if log.has_other_names:  # appending would change another file, such as a backup made of hard links
            log.close()
            files.replace_file(
                self.path, (plain_files.read_whole(self.path),), self.path.parent / "tmp" / self.path.name
            )
            files.sync_folder(self.path.parent)
            log = files.AppendFile(self.path, new=False)
        if log.size > scan.good_bytes:
            log.cut(scan.good_bytes)
        return log

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> Iterator[R]:
        """Yield what its records hold, oldest first."""
        return cast(Iterator[R], read_records(self.path, self._kind))


class MatchLog(RecordLog[MatchRecord]):
    """matched.log: which entry of an old file belongs to which item."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MATCH)

    def add(self, value: MatchRecord) -> MatchRecord:
        """Save a record. Return it as `read_matches` would."""
        start = self.append(value)
        assert self._file is not None
        plain = {k: v for k, v in value.items() if k != "groups"}
        return cast(MatchRecord, Match(plain, self.path, start, self._file.size - start))


#: For more samples only the sums are saved.
MAX_SAMPLES = 500_000


def write_totals(inner: Path, totals: SampleTotals) -> dict[str, object]:
    """Write the list of samples where it is known, and return what belongs into the run record."""
    fields: dict[str, object] = {
        "samples": totals.samples,
        "tasks": None if totals.tasks is None else dict(totals.tasks),
    }
    if totals.by_id is None or totals.tasks is None or len(totals.by_id) > MAX_SAMPLES:
        return fields
    rows = ((sample_id, *counts) for sample_id, counts in totals.by_id.items())  # none of them is kept
    data = b"\n".join(map(orjson.dumps, chain([tuple(totals.tasks)], rows)))
    try:
        if read_samples(inner) != data:
            files.put_derived(inner / SAMPLES, (data,), inner / "tmp" / "samples.tmp")
    except OSError:  # a full disk: then the sums must do
        return fields
    return fields | {"samples_digest": samples_digest(data)}
