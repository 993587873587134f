"""Which tasks were running when a run died: noted cheaply, so that one that kills its process is found.

A worker writes the marks of the tasks that it takes into its slot of `.nbrun/running`, without fsync: that outlives the
process, not a power cut (which no task causes). Whoever opens the directory next finds the slots filled after an
unclean end and keeps them in `unclean.log`. A task that stands there for two runs is a suspect.

Threads: `note` from workers, each with a slot of its own; the rest by the thread that opens or closes the directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nbrun.storage import files
from nbrun.storage.record_log import RecordLog

#: A mark is 12 bytes for sample and group, 4 for the occurrence, 16 for the key.
MARK_BYTES = 32
#: The file: the run's id in the first slot, then a slot a worker, each with room for a batch and an end.
SLOT_BYTES = MARK_BYTES * 129
#: A file larger than for this many workers is none of ours.
MAX_BYTES = SLOT_BYTES * 100_000
_NONE = bytes(MARK_BYTES)
#: Unclean ends so far back no longer count.
LAST_ENDS = 20


class RunningTasks:
    """The file `running` of a directory that this process holds."""

    def __init__(self, folder: Path, log: RecordLog) -> None:
        self._path = folder / "running"
        self._log = log
        self._fd = -1

    def take_over(self, seq: int) -> dict[bytes, int]:
        """What was left by the last run is kept in the log. Returns the suspects: mark -> the seq of their last end.

        Args:
            seq: the highest in the directory.

        Raises:
            OSError: the disk refused.
        """
        run_id, marks = self._left()
        if marks:
            self._log.append({"run_id": run_id, "seq": seq, "running": [m.hex() for m in marks]})
        ends = {r["run_id"]: r for r in self._log.read()}
        return suspects_of(list(ends.values())[-LAST_ENDS:])

    def begin(self, run_id: str) -> None:
        """From now on the tasks of this run are noted, unless the disk refuses: nothing depends on it but suspicion."""
        try:
            files.discard(self._path)  # a file of its own: this one may have another name somewhere, or be a link
            self._fd = files.open_plain(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            files.pwrite(self._fd, run_id.encode(), 0)
        except OSError:
            self._drop()

    def note(self, slot: int, marks: bytes) -> None:
        """The tasks that a worker takes now; what stood in its slot has ended."""
        fd = self._fd
        if fd >= 0:
            try:
                files.pwrite(fd, marks[: SLOT_BYTES - MARK_BYTES] + _NONE, SLOT_BYTES * (slot + 1))
            except OSError:
                pass  # the disk is full: the journal tells it

    def end(self) -> None:
        """A clean end, or one that the tasks have no part in: nothing is running any more."""
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, 0)
            except OSError:
                pass
            self._drop()

    def _drop(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _left(self) -> tuple[str, set[bytes]]:
        try:
            data = files.read_whole(self._path, MAX_BYTES)
        except OSError:
            return "", set()
        marks = set()
        for start in range(SLOT_BYTES, len(data), SLOT_BYTES):
            for at in range(start, min(start + SLOT_BYTES, len(data)), MARK_BYTES):
                mark = data[at : at + MARK_BYTES]
                if mark == _NONE or len(mark) < MARK_BYTES:
                    break
                marks.add(mark)
        return data[:SLOT_BYTES].rstrip(b"\0").decode("utf-8", "replace"), marks


def suspects_of(ends: list[dict[str, object]]) -> dict[bytes, int]:
    """Marks that stand in two records or more -> the seq of the last of them."""
    seen: dict[bytes, int] = {}
    quarantined: dict[bytes, int] = {}
    for end in ends:
        seq, running = end.get("seq", 0), end.get("running", [])
        if not isinstance(seq, int) or not isinstance(running, list):
            continue
        for text in running:
            mark = bytes.fromhex(text)
            if mark in seen:
                quarantined[mark] = seq
            seen[mark] = seq
    return quarantined


def choose(quarantined: Mapping[bytes, int], marks: Mapping[int, bytes], ended: Mapping[int, int]) -> list[int]:
    """Which positions are suspects: they are in `quarantined`, and have not ended since (`ended`: position -> seq).

    Those that were running at the latest end come last: when one kills each run, its neighbours of before come to run.
    """
    chosen = [p for p, mark in marks.items() if mark in quarantined and ended.get(p, -1) <= quarantined[mark]]
    return sorted(chosen, key=lambda p: quarantined[marks[p]])
