"""Direct writes: a sample whose results are all put together goes to its file without the journal.

Short tasks end a sample at a time. To append a hundred entries to the journal, with their checksums, only to write them
once more into the sample's file a moment later, costs more than to run them.

Threads: the worker that puts the results makes the file, for it holds all of them and no other thread knows the
sample's state then; the journal's thread puts the file in place, or drops it, and acknowledges the results.
"""

from __future__ import annotations

import os
import time

from nbrun.results.format import FOLDER
from nbrun.results.names import temporary
from nbrun.storage import files
from nbrun.storage.entry import EntryRecord, pieces
from nbrun.storage.sample_state import DONE, SampleState
from nbrun.storage.sample_writer import lay_out_sample

#: The least results (for fewer a file costs more than their part of the journal) and the most bytes of a direct write.
DIRECT_FROM, DIRECT_BYTES = 50, 4 << 20
#: Where a disk takes longer for the files of one commit, in seconds, the next PAUSE commits go through the journal.
SLOW_S, PAUSE = 0.02, 100


def is_whole_sample(state: SampleState, records: list[EntryRecord], size: int) -> bool:
    """Return whether these are all results that the sample's file will hold: one per task and no error."""
    total = state.total
    if not DIRECT_FROM <= len(records) == total or size > DIRECT_BYTES:
        return False
    if state.columns is not None or state.pending or state.orphans or state.attempts:
        return False
    return [r[2] for r in records].count(DONE) == total == len({r[0] for r in records})


class DirectFile:
    """The file of such a sample, written but not durable yet. It must be put, then acknowledged; or dropped.

    Args:
        folder: the results directory, with a separator at its end.
        seq: the last one that was taken before those of its entries.

    Raises:
        OSError: the disk refused; nothing is left of the file.
    """

    def __init__(self, folder: str, state: SampleState, records: list[EntryRecord], seq: int) -> None:
        self.state = state
        records.sort()
        self._max_seq = seq + len(records)
        inside = pieces(state, records, seq)
        parts = lay_out_sample(state, inside, bytes((DONE,)) * len(records), [r[1] for r in records], self._max_seq)
        self._file = files.NewFile(folder + state.name, parts, f"{folder}{FOLDER}/tmp/{temporary(state.name)}")
        self._file.begin_writeback()

    def put(self) -> None:
        """Make the file durable, under its name; the caller syncs the folder. Raise OSError."""
        self._file.put(identify=False)  # the state of a closed sample holds no places to compare with the file

    def drop(self) -> None:
        """Remove the file; do nothing once it was put."""
        self._file.drop()

    def acknowledge(self) -> None:
        """Record that the folder was synced: the sample's state has to hold nothing any more."""
        with self.state.lock:
            self.state.is_closed = True  # first: from now on no other thread writes its file
            self.state.max_seq = self.state.file_seq = self._max_seq


class DirectWriter:
    """Decides which samples are written directly, and puts their files in place.

    Threads: workers call `accepts` and `make`, the journal's thread `put`.

    Args:
        folder: the results directory.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder, self._prefix = folder, os.path.join(folder, "")
        self._pause = 0  # commits until the next direct write; written by the journal's thread, read by workers

    def accepts(self, state: SampleState, records: list[EntryRecord], size: int) -> bool:
        """Return whether this sample is written directly, as fast as the disk is now."""
        return self._pause <= 0 and is_whole_sample(state, records, size)

    def make(self, state: SampleState, records: list[EntryRecord], seq: int) -> DirectFile | None:
        """Write the sample's file. Return None where the disk refuses; the journal's thread will report that."""
        if os.path.lexists(self._prefix + state.name):
            return None  # another program has put a file there, which is read before it is replaced
        try:
            return DirectFile(self._prefix, state, records, seq)
        except OSError:
            return None

    def put(self, made: list[DirectFile]) -> None:
        """Make the files of one commit (there may be none) durable, under their names. Raise OSError."""
        self._pause = max(0, self._pause - 1)
        if not made:
            return
        began = time.monotonic()
        for file in made:
            file.put()
        files.sync_folder(self._folder)
        if time.monotonic() - began > SLOW_S:
            self._pause = PAUSE
