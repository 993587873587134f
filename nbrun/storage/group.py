"""Results that are saved together -> the bytes of one commit, and where each entry will stand.

Called by the journal's thread for every result, so it is written for speed. Pure but for `Book.header_in`.
"""

from __future__ import annotations

from zlib import crc32

from nbrun.results.entries import IN_SEGMENT
from nbrun.results.format import ATTEMPT, CRC_HEX, CRC_OF_ENTRY_KIND, HEADER, frame
from nbrun.storage.book import Book, Fresh
from nbrun.storage.entry import EntryRecord, bodies
from nbrun.storage.whole import WholeFile

#: Results of one sample that were handed over together, their size in bytes, and their file where they are all of it.
Batch = tuple[Book, list[EntryRecord], int, WholeFile | None]
#: A book, a position, and the body of its attempt record.
Attempted = tuple[Book, int, bytes]
#: A book, its new entries, and how many bytes they take.
Placed = tuple[Book, list[Fresh], int]
_BEFORE_BODY = CRC_HEX + 3  # the checksum, a tab, the kind, a tab


def lay_out(
    batches: list[Batch], attempts: list[Attempted], segment: int, at: int, seq: int
) -> tuple[bytes, list[Placed]]:
    """The bytes to append to segment number `segment`, whose size is `at`.

    Args:
        seq: the last one given.

    Returns:
        the bytes; what stands where, a tuple a batch.
    """
    where = segment + IN_SEGMENT
    lines: list[bytes] = []
    placed: list[Placed] = []
    for book, records, _, _ in batches:
        fresh: list[Fresh] = []
        began = at
        at += _add_header(lines, book, segment)
        record = iter(records)
        for number, stretch in bodies(book, records, seq):
            whose = book.whose[number]
            around = len(whose) + _BEFORE_BODY + 1
            for body, (position, verdict, code, _) in zip(stretch, record, strict=False):
                seq += 1
                lines += (b"%08x\te\t" % crc32(whose, crc32(body, CRC_OF_ENTRY_KIND)), body, whose, b"\n")
                length = len(body)
                fresh.append((position, seq, code, where, at + _BEFORE_BODY, length, verdict, body))
                at += length + around
        placed.append((book, fresh, at - began))
    for book, position, body in attempts:
        _add_header(lines, book, segment)
        lines.append(frame(ATTEMPT, body, book.whose[book.group_number(position)][1:]))
    return b"".join(lines), placed


def _add_header(lines: list[bytes], book: Book, segment: int) -> int:
    """A sample's first record in a segment is its header. Returns how many bytes were added."""
    if book.header_in == segment:
        return 0
    book.header_in = segment
    lines.append(frame(HEADER, book.header()))
    return len(lines[-1])
