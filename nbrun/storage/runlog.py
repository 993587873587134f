"""The two small logs beside the journal: runs.log (settings of runs) and matched.log (places of old entries).

A record is appended and synced at once. Threads: `append` by the thread that starts a run and by the feeder, never
both at a time; reading from anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbrun.storage import files
from nbrun.storage.format import frame
from nbrun.storage.replay import LogScan, read_log
from nbrun.storage.values import dump, load


class RecordLog:
    """A log that is only appended to; a torn tail is cut before the first append (F3)."""

    def __init__(self, path: Path, kind: bytes) -> None:
        self.path, self._kind = path, kind
        self._file: files.AppendFile | None = None

    def append(self, *values: dict[str, Any]) -> None:
        """Saves records: fsync has returned when this does. After a failure the next append looks at the tail anew."""
        try:
            if self._file is None:
                self._file = self._open()
            self._file.append(b"".join(frame(self._kind, dump(v)) for v in values))
            self._file.sync()
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

    def read(self) -> Iterator[dict[str, Any]]:
        """The records, oldest first; none where there is no log."""
        try:
            for record in read_log(self.path):
                if record.kind == self._kind:
                    yield load(record.body)
        except (FileNotFoundError, files.NotPlainError):  # who opens the directory reports the second
            return
