"""Reads samples' files, of any format and also out of an archive, into rows. A damaged one costs itself.

No pandas and no numpy here, so that the loader's helper processes start fast. Threads: a FileReader belongs to one
thread.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from nbrun.frames.packing import FileRecord, Pack, identity, identity_in, match_digest
from nbrun.frames.rows import Listener, RowBuilder, without_doubled
from nbrun.results import archives, plain_files, sample_file
from nbrun.results.format import ENTRY_HEAD, MatchRecord
from nbrun.results.legacy import OldFile, OldMatch, parse_old, places_in
from nbrun.results.sample_file import LEGACY, NBRUN, OWN_HEAD, PROGRESS, RESULT_LIST, FileInfo, Place, Unreadable
from nbrun.results.values import load, quick_loader


class FileReader:
    """Reads files one after another.

    Args:
        listener, bodies: see RowBuilder.

    Attributes:
        rows: what was read.
        files: what each file was, in the order of their rows.
    """

    def __init__(self, listener: Listener | None = None, *, bodies: bool = False) -> None:
        self.rows = RowBuilder(listener, bodies=bodies)
        self._loads = quick_loader() if listener is None else load  # a listener sees each entry once, and all of it
        self.files: list[FileRecord] = []
        self._archives: tuple[str, archives.Archives] | None = None  # of the folder that was asked for last

    def read(self, folder: str, name: str, match: MatchRecord | None, place: Place | None = None) -> None:
        """Add a file's rows, and to `files` what it is: identity (None while it changes), id, source, problem.

        Args:
            place: its place in an archive, if it is in one.
        """
        start = self.rows.n
        record: FileRecord = {"name": name, "ident": None, "id": None, "source": None, "problem": None}
        try:
            if place is not None:
                self._read_archived(folder, place, match, record)
            else:
                with plain_files.open_reading(os.path.join(folder, name)) as f:
                    before = identity(os.fstat(f.fileno()))
                    self._read_any(f, match, record)
                    if identity(os.fstat(f.fileno())) == before:
                        record["ident"] = before
        except FileNotFoundError:  # archived, or unpacked, meanwhile
            self._read_moved(folder, name, match, record)
        except (Unreadable, OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, MemoryError) as e:
            record["problem"] = str(e) if isinstance(e, Unreadable) else f"can't be read: {str(e) or type(e).__name__}"
            self.rows.cut(start)
        if record["problem"]:
            record["ident"] = None
        record["n"] = self.rows.n - start
        record["max_seq"] = self.rows.newest(start) if record["source"] == NBRUN else 0
        self.files.append(record)

    def _read_any(self, f: BinaryIO, match: MatchRecord | None, record: FileRecord) -> None:
        start = self.rows.n
        own = f.read(len(OWN_HEAD)) == OWN_HEAD
        damaged = 1
        if own:
            f.seek(0)
            record["id"], damaged = self._read_own(f)
        if damaged or not sample_file.ends_as_own(f):  # another format, or a file that another tool has re-serialised
            f.seek(0)
            data = f.read()
            old = None if own else self._old_of(data)
            if old is not None:
                self._read_old(old, data, match, record)
                return
            again = sample_file.convert_foreign(data)
            if again is not None:
                own = True
                self.rows.cut(start)
                record["id"], damaged = self._read_own(io.BytesIO(again))
            elif not own:
                parse_old(data)  # says why it can't be read
                raise Unreadable("is no file of results")
        record["source"] = NBRUN
        if damaged:
            record["problem"] = f"has {damaged} damaged entries; the others were read"

    def _read_archived(self, folder: str, place: Place, match: MatchRecord | None, record: FileRecord) -> None:
        self._read_any(io.BytesIO(archives.read_member(folder, place)), match, record)
        record["ident"] = identity_in(place)

    def _read_moved(self, folder: str, name: str, match: MatchRecord | None, record: FileRecord) -> None:
        start = self.rows.n
        try:
            if self._archives is None or self._archives[0] != folder:
                self._archives = folder, archives.Archives(folder)
            data = archives.read_file(Path(folder), FileInfo(name, "", "", 0, 0), self._archives[1])
            self._read_any(io.BytesIO(data), match, record)
        except (Unreadable, OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, MemoryError) as e:
            record["problem"] = str(e) if isinstance(e, Unreadable) else f"can't be read: {str(e) or type(e).__name__}"
            self.rows.cut(start)

    def _read_own(self, lines: Iterable[bytes]) -> tuple[str | None, int]:
        """Read a file in nbrun's format line by line. A damaged entry costs only itself."""
        sample_id: str | None = None
        group: str | None = None  # inside this one's list
        damaged = 0
        loads, add, rows, is_head = self._loads, self.rows.add, self.rows, ENTRY_HEAD.match
        for line in lines:
            if group is not None and is_head(line):
                body = line.rstrip(b"\n").removesuffix(b",")
                try:
                    add(group, loads(body), body)
                    if rows.is_inexact:
                        rows.cut(rows.n - 1)
                        add(group, load(body), body)
                        rows.is_inexact = False
                except orjson.JSONDecodeError:  # damaged; or a number that orjson takes for infinite
                    damaged += not self._add_exactly(group, body)
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                    damaged += 1
            elif line.endswith(b"[\n") and (title := RESULT_LIST.match(line)):
                group = str(loads(title[1])).removesuffix("_result")
            elif line == b"],\n":
                group = None
            elif group is not None:
                damaged += 1
            elif sample_id is None and line.startswith(b'"id": '):
                try:
                    sample_id = str(loads(line[6:].rstrip(b"\n").removesuffix(b",")))
                except ValueError:  # another tool has touched the line
                    damaged += 1
        return sample_id, damaged

    def _add_exactly(self, group: str, body: bytes) -> bool:
        try:
            self.rows.add(group, load(body), body)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return False
        self.rows.is_inexact = False
        return True

    def _old_of(self, data: bytes) -> OldFile | None:
        """Return a file of the older program; None where it is something else."""
        try:
            old = parse_old(data, exact=self._loads is load)
        except Unreadable:
            return None
        return None if old.is_own else old

    def _read_old(
        self, old: OldFile, data: bytes, match: MatchRecord | None, record: FileRecord, *, is_exact: bool = False
    ) -> None:
        start = self.rows.n
        places = places_in(old, match, data)
        if places is not None:
            ranks: dict[str, list[OldMatch]] = {}
            for place in places:
                ranks.setdefault(place.group, []).append(place)
        for group, rows in old.groups.items():
            if places is None:
                rows = without_doubled(rows, (old.progress or {}).get(f"total_{group}s"))
            self.rows.add_old(old, group, rows, None if places is None else ranks.get(group, []))
        if self.rows.is_inexact and not is_exact:
            self.rows.is_inexact = False
            self.rows.cut(start)
            self._read_old(parse_old(data), data, match, record, is_exact=True)
            return
        self.rows.is_inexact = False
        record["id"], record["source"] = old.sample_id, PROGRESS if old.progress is not None else LEGACY
        record["match"] = None if match is None else match_digest(match)

    def pack(self) -> Pack:
        """Return everything that was read."""
        return self.rows.pack(self.files)


def read_files(folder: str | Path, files: Iterable[tuple[str, MatchRecord | None, Sequence[Any] | None]]) -> Pack:
    """Return a pack of the rows of these files, each given by name, match record and place in an archive."""
    reader = FileReader()
    for name, match, place in files:
        reader.read(str(folder), name, match, None if place is None else Place(*place))
    return reader.pack()
