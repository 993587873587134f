"""The small files beside the journal: logs of records, the tasks in flight, the samples of a run, the manifest.

A record of a log is appended and synced at once. The other files are derived data, or cheap notes that only survive the
death of the process: where the disk refuses them, the run goes on without.

Threads: `RecordLog.append` by the thread that starts a run and by the feeder, never by both at a time;
`InFlightTasks.record` by workers, never two for one slot; `Manifest.add` by the feeder; the rest by the thread that
opens or closes the directory.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar, cast

import orjson

from nbrun.results import listing, plain_files
from nbrun.results.format import MATCH, MatchRecord, UncleanRecord, frame
from nbrun.results.names import is_sample_file_name
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


# ---- the samples of a run


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


# ---- the tasks in flight


#: A fingerprint has 12 bytes for sample and group, 4 for the occurrence, 16 for the key.
FINGERPRINT_BYTES = 32
#: The file has the run's id in its first slot, then slots with room for a batch and an end mark.
SLOT_BYTES = FINGERPRINT_BYTES * 129
#: A file with more slots than this is not nbrun's.
MAX_RUNNING_BYTES = SLOT_BYTES * 100_000
_END = bytes(FINGERPRINT_BYTES)
#: How many unclean ends count; older ones are ignored.
LAST_ENDS = 20


class InFlightTasks:
    """The file `running`: which tasks are in flight, so that a task that kills its process is found after the crash.

    Workers write the fingerprints of the tasks that they take, and with many workers those of the next few tasks too,
    into a slot, without fsync: that survives the death of the process, though not a power cut (which no task causes).
    The process that opens the directory next finds the slots filled after an unclean end and keeps them in
    `unclean.log`. A task that was in flight at two unclean ends is quarantined: it runs last and alone.
    """

    def __init__(self, folder: Path, log: RecordLog[UncleanRecord]) -> None:
        self._path = folder / "running"
        self._log = log
        self._fd = -1

    def take_over(self, seq: int) -> dict[bytes, int]:
        """Save in the log what the last run left. Return the quarantined tasks: fingerprint -> seq of their last end.

        Args:
            seq: the highest in the directory.

        Raises:
            OSError: the disk refused.
        """
        run_id, left = self._left()
        if left:
            self._log.append({"run_id": run_id, "seq": seq, "running": [f.hex() for f in left]})
        ends = {r["run_id"]: r for r in self._log.read()}
        return quarantined_of(list(ends.values())[-LAST_ENDS:])

    def begin(self, run_id: str) -> None:
        """Start recording this run's tasks. Where the disk refuses, nothing is recorded: only quarantine needs it."""
        try:
            files.discard(self._path)  # a new file: this one may have another name somewhere, or be a link
            self._fd = files.open_plain(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            files.pwrite(self._fd, run_id.encode(), 0)
        except OSError:
            self._close()

    def record(self, slot: int, fingerprints: bytes) -> None:
        """Record the tasks that a worker starts; the tasks that were in its slot have ended."""
        fd = self._fd
        if fd >= 0:
            try:
                files.pwrite(fd, fingerprints[: SLOT_BYTES - FINGERPRINT_BYTES] + _END, SLOT_BYTES * (slot + 1))
            except OSError:
                pass  # the disk is full, which the journal reports

    def end(self) -> None:
        """Record that no task is in flight: the run ended cleanly, or its tasks have no part in its end."""
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, 0)
            except OSError:
                pass
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _left(self) -> tuple[str, set[bytes]]:
        """Return the last run's id and the fingerprints that it left."""
        try:
            data = plain_files.read_whole(self._path, MAX_RUNNING_BYTES)
        except OSError:
            return "", set()
        left = set()
        for start in range(SLOT_BYTES, len(data), SLOT_BYTES):
            for at in range(start, min(start + SLOT_BYTES, len(data)), FINGERPRINT_BYTES):
                fingerprint = data[at : at + FINGERPRINT_BYTES]
                if fingerprint == _END or len(fingerprint) < FINGERPRINT_BYTES:
                    break
                left.add(fingerprint)
        return data[:SLOT_BYTES].rstrip(b"\0").decode("utf-8", "replace"), left


def quarantined_of(ends: Iterable[UncleanRecord]) -> dict[bytes, int]:
    """Return the fingerprints that are in two records or more, each with the seq of the last of these records."""
    seen: dict[bytes, int] = {}
    quarantined: dict[bytes, int] = {}
    for end in ends:
        for text in end["running"]:
            fingerprint = bytes.fromhex(text)
            if fingerprint in seen:
                quarantined[fingerprint] = end["seq"]
            seen[fingerprint] = end["seq"]
    return quarantined


def choose(quarantined: Mapping[bytes, int], fingerprints: Mapping[int, bytes], ended: Mapping[int, int]) -> list[int]:
    """Return the positions that are quarantined and have not ended since.

    Those that were running at the latest end come last: when one task kills each run, those that only ran beside it are
    run before it.

    Args:
        fingerprints: by position.
        ended: position -> seq of its entry.
    """
    chosen = [p for p, f in fingerprints.items() if f in quarantined and ended.get(p, -1) <= quarantined[f]]
    return sorted(chosen, key=lambda p: quarantined[fingerprints[p]])


# ---- the manifest


#: A longer list is not nbrun's: at most 256 bytes for each of 10 million files.
MAX_MANIFEST_BYTES = 2_560_000_000


class Manifest:
    """The manifest, `known`: which sample files the directory had when the last run ended, one name per line.

    A file that is missing since was deleted by hand, as users do to clean up; its sample's tasks run again, and the run
    reports it. Written at a clean end where something has changed.

    Args:
        names: of the files that count now, archived ones included.

    Attributes:
        gone: names of files that were there and are not any more.
    """

    def __init__(self, path: Path, inner: Path, names: Iterable[str]) -> None:
        self._path, self._inner = path, inner
        now = set(names)
        before = set(self._read().decode("utf-8", "surrogateescape").splitlines())
        self.gone = sorted(filter(is_sample_file_name, before - now))
        self._hashes = array("q", map(hash, now))  # eight bytes a name, as there may be a million

    def _read(self) -> bytes:
        try:
            return plain_files.read_whole(self._inner / "known", MAX_MANIFEST_BYTES)
        except OSError:
            return b""

    def add(self, name: str) -> None:
        """Add the name of a file that will be written."""
        self._hashes.append(hash(name))

    def save(self) -> None:
        """Write the manifest of what is there now. Where the disk refuses, the next start only lacks a sentence."""
        try:
            now = set(os.listdir(self._path))
            now |= {info.name for info in listing.Archives(self._path).list()[0].values()}
            ours = set(self._hashes)
            lines = [f"{name}\n" for name in sorted(now) if hash(name) in ours]
            data = "".join(lines).encode("utf-8", "surrogateescape")
            if data != self._read():
                files.put_derived(self._inner / "known", (data,), self._inner / "tmp" / "known.tmp")
        except OSError:
            pass
