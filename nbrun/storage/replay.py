"""Reads logs back: records of a segment, of matched.log, of runs.log, whatever their tails look like.

Pure reading, from any thread. Damaged lines are counted and named, and cost themselves alone (F2).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbrun.storage import files
from nbrun.storage.format import SEGMENT_NAME, Record, unframe

CHUNK = 1 << 20


@dataclass(slots=True)
class LogScan:
    """What reading a log found beside its records."""

    good_bytes: int = 0  # up to here all lines are whole; what follows is a torn tail
    damaged: list[tuple[int, int]] = field(default_factory=list)  # (offset, length) of lines that fail their checksum


def read_log(path: Path | int, scan: LogScan | None = None) -> Iterator[Record]:
    """The records of a log in their order. A torn tail (no line feed) is left out; `scan` learns of it.

    Args:
        path: the log, or a descriptor of it, which stays open.

    Raises:
        OSError: the file can't be opened or read.
    """
    scan = LogScan() if scan is None else scan
    fd = path if isinstance(path, int) else files.open_plain(path)
    with os.fdopen(fd, "rb", buffering=0, closefd=not isinstance(path, int)) as f:
        rest = b""
        at = 0
        while chunk := f.read(CHUNK):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                record = unframe(line, at)
                if record is not None:
                    yield record
                elif line:
                    scan.damaged.append((at, len(line) + 1))
                at += len(line) + 1
                scan.good_bytes = at


def list_segments(folder: Path) -> list[tuple[int, Path]]:
    """The segments in `.nbrun/`, oldest first."""
    if not files.is_real_folder(folder):
        return []
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = ((SEGMENT_NAME.fullmatch(name), name) for name in names)
    return sorted((int(m[1]), folder / name) for m, name in found if m)
