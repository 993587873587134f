"""Which tasks are in flight: recorded cheaply, so that a task that kills its process is found after the crash.

Workers write the fingerprints of the tasks that they take, and with many workers those of the next few tasks too, into
a slot of `.nbrun/running`, without fsync: that survives the death of the process, though not a power cut (which no task
causes). The process that opens the directory next finds the slots filled after an unclean end and keeps them in
`unclean.log`. A task that was in flight at two unclean ends is quarantined: it runs last and alone.

Threads: `record` by workers, never two for one slot; the rest by the thread that opens or closes the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from nbrun.results import plain_files
from nbrun.results.format import UncleanRecord
from nbrun.storage import files
from nbrun.storage.record_log import RecordLog

#: A fingerprint has 12 bytes for sample and group, 4 for the occurrence, 16 for the key.
FINGERPRINT_BYTES = 32
#: The file has the run's id in its first slot, then slots with room for a batch and an end mark.
SLOT_BYTES = FINGERPRINT_BYTES * 129
#: A file with more slots than this is not nbrun's.
MAX_BYTES = SLOT_BYTES * 100_000
_END = bytes(FINGERPRINT_BYTES)
#: How many unclean ends count; older ones are ignored.
LAST_ENDS = 20


class InFlightTasks:
    """The file `running` of a directory that this process holds."""

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
            data = plain_files.read_whole(self._path, MAX_BYTES)
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
