"""The two small logs beside the journal: runs.log (settings of runs) and matched.log (places of old entries).

A record is appended and synced at once. Threads: `append` by the thread that starts a run and by the feeder, never
both at a time; reading from anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbrun.results.format import CRC_HEX, MATCH, Record, frame, unframe
from nbrun.results.replay import LogScan, content, places_of, read_log
from nbrun.results.values import dump
from nbrun.storage import files


class RecordLog:
    """A log that is only appended to; a torn tail is cut before the first append (F3)."""

    def __init__(self, path: Path, kind: bytes) -> None:
        self.path, self._kind = path, kind
        self._file: files.AppendFile | None = None

    def append(self, *values: Mapping[str, Any]) -> int:
        """Saves records: fsync has returned when this does. After a failure the next append looks at the tail anew.

        Returns:
            where the first of them begins.
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
        if log.has_other_names:  # appending would change the file of somebody else, a backup made of hard links say
            log.close()
            files.replace_file(self.path, (files.read_whole(self.path),), self.path.parent / "tmp" / self.path.name)
            files.sync_folder(self.path.parent)
            log = files.AppendFile(self.path, new=False)
        if log.size > scan.good_bytes:
            log.cut(scan.good_bytes)
        return log

    def close(self) -> None:
        """Closes the file; the next append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, scan: LogScan | None = None) -> Iterator[dict[str, Any]]:
        """The records, oldest first; none where there is no log. `scan` learns of those that are damaged."""
        for _, value in self._read(scan):
            yield value

    def records(self, scan: LogScan | None = None) -> Iterator[Record]:
        """The records as they stand there, with all that is in them checked."""
        scan = LogScan() if scan is None else scan
        for record, _ in self._read(scan):
            if record.kind != MATCH or places_of(record) is not None:
                yield record
            else:
                scan.damaged.append((record.offset, len(record.body)))

    def _read(self, scan: LogScan | None = None) -> Iterator[tuple[Record, dict[str, Any]]]:
        scan = LogScan() if scan is None else scan
        try:
            for record in read_log(self.path, scan):
                value = content(record) if record.kind == self._kind else None
                if value is not None:
                    yield record, value
                else:
                    scan.damaged.append((record.offset, len(record.body)))
        except (FileNotFoundError, files.NotPlainError):  # who opens the directory reports the second
            return


class Match(dict[str, Any]):
    """A match record. Its groups, which hold a place an entry, stay in the log and are read where they are asked for.

    Raises:
        LookupError: from ["groups"], where they are damaged, or the log is another one since.
    """

    def __init__(self, value: Mapping[str, Any], path: Path, start: int, length: int) -> None:
        super().__init__(value)
        self._path, self._start, self._length = path, start, length

    def __missing__(self, key: str) -> Any:
        record = self.record() if key == "groups" else None
        groups = None if record is None else places_of(record)
        if groups is None:
            raise LookupError(f"the match record of {self['id']!r} has no {key} that can be read")
        return groups

    def record(self) -> Record | None:
        """The record as it stands in the log; None where it doesn't any more."""
        try:
            fd = files.open_plain(self._path)
        except OSError:
            return None
        try:
            return unframe(files.read_at(fd, self._start, self._length), self._start)
        except (OSError, EOFError):
            return None
        finally:
            os.close(fd)


class MatchLog(RecordLog):
    """matched.log: which entry of an old file is which item."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MATCH)

    def matches(self, scan: LogScan | None = None, ids: Iterable[str] | None = None) -> dict[str, Match]:
        """The newest record of each sample (or of these), by its id."""
        wanted = None if ids is None else set(ids)
        out: dict[str, Match] = {}
        for record, value in self._read(scan):
            if wanted is None or value["id"] in wanted:
                start = record.offset - head_bytes(record)
                value.pop("groups", None)
                out[value["id"]] = Match(value, self.path, start, head_bytes(record) + len(record.body) + 1)
        return out

    def settle(self, value: Mapping[str, Any]) -> Match:
        """Saves a record. Returns it as `matches` would."""
        start = self.append(value)
        assert self._file is not None
        plain = {k: v for k, v in value.items() if k != "groups"}
        return Match(plain, self.path, start, self._file.size - start)


def head_bytes(record: Record) -> int:
    """How many bytes stand in a record's line before its body."""
    return CRC_HEX + 1 + len(record.kind) + 1
