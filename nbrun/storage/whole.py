"""A sample of which all results are handed over together: it goes straight to its file, past the journal.

Short tasks end a sample at a time. To append a hundred entries to the journal, with their checksums, only to write them
once more into the sample's file a moment later, costs more than to run them.

Threads: the worker that hands the results over makes the file, for it holds all of them and nobody else knows the book
then; the journal's thread puts it in place, or drops it, and settles the book.
"""

from __future__ import annotations

import os
import time

from nbrun.results.format import FOLDER
from nbrun.results.names import temporary
from nbrun.storage import files
from nbrun.storage.book import DONE, Book
from nbrun.storage.entry import EntryRecord, pieces
from nbrun.storage.filing import lay_out_whole

#: So many results at least: for fewer a file costs more than their part of the journal. So many bytes at most.
WHOLE_FROM, WHOLE_BYTES = 50, 4 << 20
#: Where a disk takes longer for the files of one commit, the next PAUSE commits go through the journal.
SLOW_S, PAUSE = 0.02, 100


def is_whole(book: Book, records: list[EntryRecord], size: int) -> bool:
    """Is this all that its sample's file will hold, one result a task and no error?"""
    total = book.total
    if not WHOLE_FROM <= len(records) == total or size > WHOLE_BYTES:
        return False
    if book.columns is not None or book.fresh or book.orphans or book.attempts:
        return False
    return [r[2] for r in records].count(DONE) == total == len({r[0] for r in records})


class WholeFile:
    """The file of such a sample, written and not durable yet. Who makes it calls `put`, then `settle`; or `drop`.

    Args:
        folder: the results directory, with a separator at its end.
        seq: the last one given before those of its entries.

    Raises:
        OSError: the disk refused; nothing is left of it.
    """

    def __init__(self, folder: str, book: Book, records: list[EntryRecord], seq: int) -> None:
        self.book = book
        records.sort()
        self._max_seq = seq + len(records)
        inside = pieces(book, records, seq)
        parts = lay_out_whole(book, inside, bytes((DONE,)) * len(records), [r[1] for r in records], self._max_seq)
        self._file = files.NewFile(folder + book.name, parts, f"{folder}{FOLDER}/tmp/{temporary(book.name)}")

    def put(self) -> None:
        """Makes it durable, under its name; the folder's fsync is the caller's. Raises OSError."""
        self._file.put(identify=False)  # nothing of the sample is remembered: nothing is compared with it

    def drop(self) -> None:
        """It is not wanted. Does nothing once it was put."""
        self._file.drop()

    def settle(self) -> None:
        """The folder was fsynced: its book keeps nothing any more."""
        with self.book.lock:
            self.book.filed_whole = True  # first: from now on nobody else files it
            self.book.max_seq = self.book.filed_seq = self._max_seq


class WholeFiles:
    """The way past the journal: which samples take it, and how their files are put.

    Threads: workers call `take` and `make`, the journal's thread `put`.

    Args:
        folder: the results directory.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder, self._prefix = folder, os.path.join(folder, "")
        self._pause = 0  # so many commits; written by the journal's thread, read by workers

    def take(self, book: Book, records: list[EntryRecord], size: int) -> bool:
        """Does this sample go this way, as the disk is now?"""
        return self._pause <= 0 and is_whole(book, records, size)

    def make(self, book: Book, records: list[EntryRecord], seq: int) -> WholeFile | None:
        """Its file; None where the disk refuses: the journal's thread meets the same disk, and tells."""
        if os.path.lexists(self._prefix + book.name):
            return None  # somebody has put a file there: what it holds is looked at before it is replaced
        try:
            return WholeFile(self._prefix, book, records, seq)
        except OSError:
            return None

    def put(self, made: list[WholeFile]) -> None:
        """Makes those of one commit (or none) durable, under their names. Raises OSError."""
        self._pause = max(0, self._pause - 1)
        if not made:
            return
        began = time.monotonic()
        for file in made:
            file.put()
        files.sync_folder(self._folder)
        if time.monotonic() - began > SLOW_S:
            self._pause = PAUSE
