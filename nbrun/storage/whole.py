"""Samples of which all results are saved in one commit: they go straight to their files, past the journal.

Short tasks end a sample at a time. To append a hundred entries to the journal, with their checksums, only to write them
once more into the sample's file a moment later, costs more than to run them.

Threads: the journal's thread only.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from nbrun.storage import files
from nbrun.storage.book import DONE, Book
from nbrun.storage.entry import ENTRY_BEGIN, EntryRecord
from nbrun.storage.filing import lay_out_pieces
from nbrun.storage.format import FOLDER
from nbrun.storage.group import Batch

#: So many results at least: for fewer a file costs more than their part of the journal. So many bytes at most.
WHOLE_FROM, WHOLE_BYTES = 50, 4 << 20
#: Where a disk takes longer for the files of one commit, the next PAUSE commits go through the journal.
SLOW_S, PAUSE = 0.02, 100


def part(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Those that hold a whole sample, one result a task and no error, each as one; and the others."""
    of: dict[Book, list[Batch]] = {}
    for batch in batches:
        of.setdefault(batch[0], []).append(batch)
    whole: list[Batch] = []
    others: list[Batch] = []
    for book, its in of.items():
        records = its[0][1] if len(its) == 1 else [record for _, some, _ in its for record in some]
        size = sum([size for _, _, size in its])
        if is_whole(book, records, size):
            whole.append((book, records, size))
        else:
            others += its
    return whole, others


def is_whole(book: Book, records: list[EntryRecord], size: int) -> bool:
    """Does it hold all that its sample's file will hold?"""
    total = book.total
    if not WHOLE_FROM <= total == len(records) or size > WHOLE_BYTES:
        return False
    if book.columns is not None or book.fresh or book.orphans:
        return False
    return [r[5] for r in records].count(DONE) == total == len({r[0] for r in records})


class WholeFiles:
    """The files of one commit: made first, put once all of them are made.

    Args:
        folder: the results directory.
        batches: see `part`.
        seq: the last one given.

    Attributes:
        seq: the last one given now.
        is_slow: the disk took so long that the journal serves better.

    Raises:
        OSError: the disk refused.
    """

    def __init__(self, folder: Path, batches: list[Batch], seq: int) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self.is_slow = False
        self._ends: list[tuple[Book, int]] = []
        self._new: list[files.NewFile] = []
        tmp = os.path.join(folder, FOLDER, "tmp", "")
        try:
            for book, records, _ in batches:
                records.sort()
                pieces: list[bytes] = []
                for _, _, index, key, occurrence, _, _, data in records:
                    seq += 1
                    pieces += (ENTRY_BEGIN % (index, key, occurrence, seq), data, b",\n")
                parts = lay_out_pieces(book, pieces, [r[6] for r in records], seq)
                file = files.NewFile(os.path.join(folder, book.name), parts, f"{tmp}{book.name}.tmp")
                self._new.append(file)
                self._ends.append((book, seq))
                file.begin_sync()
        except BaseException:
            self.drop()
            raise
        self.seq = seq

    def put(self) -> None:
        """Makes them durable, under their names. Raises OSError."""
        for file in self._new:
            file.put()
        files.sync_folder(self._folder)
        self.is_slow = time.monotonic() - self._began > SLOW_S

    def drop(self) -> None:
        """What was not put is not wanted."""
        for file in self._new:
            file.drop()

    def settle(self) -> None:
        """Their books hold nothing any more: it all stands in the files."""
        for book, seq in self._ends:
            with book.lock:
                book.filed_whole = True  # first: from now on nobody else files it
                book.max_seq = book.filed_seq = seq
