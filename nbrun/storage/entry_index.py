"""An index of a large sample's file, `.nbrun/cache/NAME.index`: opening the sample costs by what is new in it.

It holds what a run keeps of each saved entry (see sample_state.Columns), by position, and a digest of each block of
items. Where the dataset begins with the same blocks, their entries are taken from the index, and only the rest of the
file is searched for entries. It counts for the file of the very size and CRC-32 that it names: so no entry in it is
damaged. Derived data with a checksum: deleting it costs only time, and where it can't be written, there is none.

    nbrun-index/1 CRC HEADER_BYTES LF HEADER LF STATUS SEQ LENGTH MADE DIGESTS

CRC covers what follows the first line. HEADER is JSON: {"size", "crc": of the file, "order": byte order, "types": of
SEQ, LENGTH and MADE, "makers", "api_used", "worker_id", "groups": [[name, number of positions, offset of the first
entry]]}.

Threads: the one that writes the sample's file; the feeder.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from nbrun.canonical import KEY_BYTES, blake2b
from nbrun.results import plain_files
from nbrun.results.format import BETWEEN, FOLDER, SUFFIX, head_of, temporary
from nbrun.results.sample_file import CHUNK_BYTES, IN_FILE, Maker, is_count
from nbrun.results.values import dump, load
from nbrun.samples import Group
from nbrun.storage import files
from nbrun.storage.sample_state import DONE, ERROR, MISSING, Columns, SampleState
from nbrun.tuning import TUNING

MAGIC = b"nbrun-index/1"
_NARROW, _WIDE = "I", "q"
_BETWEEN = len(BETWEEN)


def path_of(results: Path, name: str) -> Path:
    """Return the path of the index of a sample's file."""
    return results / FOLDER / "cache" / (name.removesuffix(SUFFIX) + ".index")


def crc_of(file: BinaryIO) -> int:
    """Return the CRC-32 of a file."""
    file.seek(0)
    crc = 0
    while chunk := file.read(CHUNK_BYTES):
        crc = crc32(chunk, crc)
    return crc


# ---- writing


def keep(path: Path, state: SampleState, c: Columns, crc: int, file_id: files.FileId) -> None:
    """Write the index of a file that was just written, if it is a large one. Where the disk refuses, there is none.

    Args:
        c: the entries in it, in the order of their positions.
        crc, file_id: of that file.
    """
    if state.total < TUNING.index_from:
        return
    target = path_of(path.parent, path.name)
    try:
        target.parent.mkdir(exist_ok=True)
        if plain_files.is_real_folder(target.parent):
            beside = target.parent.parent / "tmp" / temporary(target.name)
            files.put_derived(target, _parts(state, c, crc, file_id[2]), beside)
    except OSError:
        return


def _parts(state: SampleState, c: Columns, crc: int, size: int) -> list[bytes]:
    groups: list[tuple[str, int, int]] = []
    digests: list[bytes] = []
    for g in state.sample.groups:
        end = g.base + len(g.runnable)
        first = next((p for p in range(g.base, end) if c.status[p] != MISSING), None)
        groups.append((g.name, len(g.runnable), 0 if first is None else c.offset[first]))
        digests += _digests(g)
    seq, length = (_NARROW if max(column) < 2**32 else _WIDE for column in (c.seq, c.length))
    made = "B" if len(state.makers) <= 256 else _NARROW
    header = dump(
        {
            "size": size,
            "crc": crc,
            "order": sys.byteorder,
            "types": [seq, length, made],
            "makers": state.makers,
            "api_used": state.api_used,
            "worker_id": state.worker_id,
            "groups": groups,
        }
    )
    columns = [array(code, column).tobytes() for code, column in ((seq, c.seq), (length, c.length), (made, c.made))]
    parts = [header, b"\n", bytes(c.status), *columns, *digests]
    check = 0
    for part in parts:
        check = crc32(part, check)
    return [b"%b %08x %d\n" % (MAGIC, check, len(header)), *parts]


def _digests(g: Group) -> Iterator[bytes]:
    """Yield a digest of each block of a group: of the items' keys, occurrences and indices."""
    block = TUNING.index_block
    for start in range(0, len(g.runnable), block):
        indices = g.runnable[start : start + block]
        h = blake2b(g.keys[start * KEY_BYTES : (start + block) * KEY_BYTES], digest_size=KEY_BYTES)
        if g.occurrences is not None:
            h.update(array("I", g.occurrences[start : start + block]).tobytes().rstrip(b"\0"))
        h.update(b"|")
        if list(indices) != list(range(start, start + len(indices))):
            h.update(array("I", indices).tobytes())
        yield h.digest()


# ---- reading


@dataclass
class EntryIndex:
    """The index of a file, as it was read.

    Attributes:
        crc: of the file.
        groups: name -> the first position, the number of positions, and the offset of the first entry.
        digests: those of all blocks, of one group after the other.
    """

    crc: int
    groups: dict[str, tuple[int, int, int]]
    makers: list[Maker]
    api_used: str
    worker_id: str
    status: bytes
    seq: array[int]
    length: array[int]
    made: array[int]
    digests: bytes

    def take(self, state: SampleState, file: BinaryIO) -> dict[str, tuple[int, int]]:
        """Place the entries of a state's items in it, as far as a group begins with the same blocks of items.

        Returns:
            group -> how many of its items were met, and the offset at which the last entry of one ends.
        """
        out: dict[str, tuple[int, int]] = {}
        known = {}
        at = 0
        for name, (_, count, _) in self.groups.items():
            end = at + -(-count // TUNING.index_block) * KEY_BYTES
            known[name] = [self.digests[i : i + KEY_BYTES] for i in range(at, end, KEY_BYTES)]
            at = end
        for g in state.sample.groups:
            if g.name not in known:
                continue
            ranks = 0
            for one, other in zip(known[g.name], _digests(g), strict=False):
                if one != other:
                    break
                ranks = min(ranks + TUNING.index_block, len(g.runnable))
            begin, _, offset = self.groups[g.name]
            if ranks and (end := self._take_group(state, g, begin, ranks, offset, file)):
                out[g.name] = ranks, end
        if out:
            state.api_used, state.worker_id = self.api_used, self.worker_id
        return out

    def _take_group(self, state: SampleState, g: Group, begin: int, ranks: int, offset: int, file: BinaryIO) -> int:
        """Place the entries of a group's first items. Return where the last one ends; 0 where there is none."""
        old, new = slice(begin, begin + ranks), slice(g.base, g.base + ranks)
        status, length = self.status[old], self.length[old]
        steps = [n + _BETWEEN if is_there else 0 for n, is_there in zip(length, status, strict=True)]
        offsets = array("q", accumulate(steps, initial=offset))
        last = max(status.rfind(DONE), status.rfind(ERROR))
        if last < 0:
            return 0
        file.seek(offsets[last])
        head = head_of(file.read(length[last]))
        if head is None or (head.key, head.seq) != (g.key(last), self.seq[begin + last]):
            return 0
        if state.columns is None:
            state.columns = Columns(state.total)
        c = state.columns
        numbers = [state.maker(*made) for made in self.makers]
        c.status[new] = status
        c.where[new] = array("i", [IN_FILE if is_there else 0 for is_there in status])
        c.seq[new], c.length[new] = array("q", self.seq[old]), array("q", length)
        c.offset[new] = offsets[:-1]
        c.made[new] = array("i", map(numbers.__getitem__, self.made[old]))
        return offsets[last] + length[last]


def find(results: Path, name: str, file: BinaryIO) -> EntryIndex | None:
    """Return the index of a sample's open file; None where there is none, or one of another content."""
    path = path_of(results, name)
    try:
        if not plain_files.is_real_folder(path.parent):
            return None
        data = plain_files.read_whole(path)
        header, rest = _header(data)
        if header["size"] != os.fstat(file.fileno()).st_size or header["order"] != sys.byteorder:
            return None
        index = _index(header, rest)
        return index if crc_of(file) == index.crc else None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None


def _header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return an index's header and what follows it. Raise ValueError."""
    first, _, _ = data[:80].partition(b"\n")
    magic, check, size = first.split(b" ")
    rest = memoryview(data)[len(first) + 1 :]
    if magic != MAGIC or crc32(rest) != int(check, 16):
        raise ValueError("no index")
    header = load(rest[: int(size)])
    if not isinstance(header, dict):
        raise ValueError("no index")
    return header, rest[int(size) + 1 :]


def _index(header: dict[str, Any], rest: memoryview) -> EntryIndex:
    """Return an index from its parts. Raise ValueError, KeyError or TypeError: a checksum says nothing of content."""
    groups: dict[str, tuple[int, int, int]] = {}
    total = blocks = 0
    for name, count, offset in header["groups"]:
        if not (type(name) is str and is_count(count) and is_count(offset)):
            raise ValueError("no index")
        groups[name] = total, count, offset
        total += count
        blocks += -(-count // TUNING.index_block)
    status, at = bytes(rest[:total]), total
    columns = []
    for code in header["types"]:
        column = array(code)
        end = at + total * column.itemsize
        column.frombytes(rest[at:end])
        columns.append(column)
        at = end
    seq, length, made = columns
    makers = [Maker(*map(_text, row)) for row in header["makers"]]
    texts = str(header["api_used"]), str(header["worker_id"])
    index = EntryIndex(header["crc"], groups, makers, *texts, status, seq, length, made, bytes(rest[at:]))
    if not _is_right(index, total, blocks):
        raise ValueError("no index")
    return index


def _is_right(index: EntryIndex, total: int, blocks: int) -> bool:
    """Return whether the columns of an index have the lengths, and the values, that its groups need."""
    columns = (index.status, index.seq, index.length, index.made)
    return (
        {len(column) for column in columns} == {total}
        and not index.status.translate(None, bytes((MISSING, DONE, ERROR)))
        and (not total or max(index.made) < len(index.makers))
        and len(index.digests) == blocks * KEY_BYTES
        and all(type(text) is str for maker in index.makers for text in maker[1:])
    )


def _text(value: Any) -> Any:
    """Return a text or None. Raise TypeError."""
    if value is not None and type(value) is not str:
        raise TypeError("no text")
    return value
