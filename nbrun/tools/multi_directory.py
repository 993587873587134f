"""One sample as several results directories hold it -> the entries that count, each once, and what was dropped.

Done beats error; of two alike the one that began later counts, for a seq says nothing beyond its own directory; where
that isn't told, or is equal, the directory named first counts. Pure reading; one thread.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from nbrun.results import sample_file
from nbrun.results.archives import read_file
from nbrun.results.entries import Identity, Stored, merge
from nbrun.results.reader import Snapshot
from nbrun.results.sample_file import NBRUN, FileInfo, Unreadable
from nbrun.results.values import load
from nbrun.storage import files
from nbrun.storage.book import IN_FILE, Attempt
from nbrun.storage.directory import Problem


@dataclass
class Dropped:
    """Entries that don't count, because another directory's of the same task does.

    Attributes:
        same: equal results, such as a directory and its copy hold.
        older: results that were made before the one that counts.
        errors: errors of tasks that another directory has done, or tried later.
    """

    same: int = 0
    older: int = 0
    errors: int = 0


class Held:
    """A sample in one directory."""

    def __init__(self, folder: Path, now: Snapshot, sample_id: str) -> None:
        self.sample_id = sample_id
        self.info: FileInfo | None = now.listing.by_id.get(sample_id)
        self.match: Mapping[str, Any] | None = now.matches.get(sample_id)
        self.in_journal = now.journal.entries.get(sample_id, {})
        self.attempts: dict[Identity, Attempt] = now.journal.attempts.get(sample_id, {})
        self.header: Mapping[str, Any] = now.journal.headers.get(sample_id) or {}
        self._folder, self._now = folder, now

    @property
    def is_old(self) -> bool:
        """Is it a file of the older program alone?"""
        return self.info is not None and self.info.source != NBRUN and not self.in_journal

    def file(self) -> bytes:
        """The bytes of its file. Raises FileNotFoundError where there is none."""
        if self.info is None:
            raise FileNotFoundError(self.sample_id)
        return read_file(self._folder, self.info, self._now.archives)

    def told(self) -> tuple[dict[str, int], str]:
        """How many tasks the dataset had, by group, and the digest of their identities ("" where that isn't told)."""
        if self.header:
            return dict(self.header["totals"]), str(self.header.get("identities", ""))
        if self.info is None:
            return {}, ""
        if self.info.source != NBRUN and self.match is not None:
            return dict(self.match["totals"]), str(self.match["identities"])
        told = self.info.progress or {}
        totals = {k[6:-1]: n for k, n in told.items() if k.startswith("total_") and k.endswith("s")}
        return totals, str((self.info.summary or {}).get("identities", ""))

    @contextmanager
    def open(self, problems: list[Problem]) -> Iterator[tuple[list[Stored], BinaryIO]]:
        """Its entries, and its file held open. What can't be read is left out and becomes a problem."""
        file: BinaryIO = io.BytesIO()
        whole = {i: s for i, s in self.in_journal.items() if sample_file.parse_entry(self._now.body(s)) is not None}
        if len(whole) < len(self.in_journal):
            what = f"has {len(self.in_journal) - len(whole)} damaged entries in the journal"
            problems.append(Problem(str(self._folder), what, self.sample_id))
        stored = list(whole.values())
        with ExitStack() as opened:
            if self.info is not None:
                path = self._folder / self.info.name
                try:
                    if self.info.source != NBRUN or self.info.place is not None:
                        file = io.BytesIO(self.file())
                    else:
                        file = opened.enter_context(files.open_reading(path))
                    content = sample_file.read_any(file)
                    if isinstance(content, sample_file.OwnFile):
                        file = content.file
                    found = merge(content, self.match, whole)
                    stored = [s for s in found if s.where != IN_FILE or s.body is not None or self._is_whole(file, s)]
                    if len(stored) < len(found):
                        what = f"has {len(found) - len(stored)} damaged entries"
                        problems.append(Problem(str(path), what, self.sample_id))
                except (Unreadable, OSError, ValueError) as e:
                    what = str(e) if isinstance(e, Unreadable) else f"can't be read: {e}"
                    problems.append(Problem(str(path), what, self.sample_id))
            yield stored, file

    @staticmethod
    def _is_whole(file: BinaryIO, s: Stored) -> bool:
        return sample_file.read_entry(file, s) is not None

    def body(self, s: Stored, file: BinaryIO) -> bytes:
        """An entry's bytes."""
        if s.body is not None:
            return s.body
        if s.where == IN_FILE:
            file.seek(s.offset)
            return file.read(s.length)
        return self._now.body(s)


@dataclass
class Several:
    """A sample in all directories that hold it, merged while they are open.

    Attributes:
        stored: the entries that count.
        attempts: those under way of tasks that nobody has done.
    """

    stored: list[Stored] = field(default_factory=list)
    attempts: dict[Identity, Attempt] = field(default_factory=dict)
    _from: dict[Identity, tuple[Held, BinaryIO, Stored]] = field(default_factory=dict)
    _indexes: dict[Identity, int] = field(default_factory=dict)  # where another directory knows the item's place

    def body(self, s: Stored) -> bytes:
        """The bytes of one of them."""
        held, file, there = self._from[s.identity]
        body = held.body(there, file)
        if s.item_index is not None and s.item_index != there.item_index:
            body = b'{"index":%d,%b' % (s.item_index, body.split(b",", 1)[1])
        return body


@contextmanager
def open_several(those: list[Held], dropped: Dropped, problems: list[Problem]) -> Iterator[Several]:
    """Merges a sample's entries."""
    out = Several()
    with ExitStack() as opened:
        for held in those:
            stored, file = opened.enter_context(held.open(problems))
            for s in stored:
                _take(out, held, file, s, dropped)
        places = out._indexes
        out.stored = _placed([
            s if s.identity not in places else s._replace(item_index=places[s.identity])
            for _, _, s in out._from.values()
        ])  # fmt: skip
        done = {s.identity for s in out.stored if s.status == "done"}
        for held in those:
            for identity, attempt in held.attempts.items():
                before = out.attempts.get(identity)
                if identity not in done and (before is None or attempt.attempt > before.attempt):
                    out.attempts[identity] = attempt
        yield out


def _take(out: Several, held: Held, file: BinaryIO, s: Stored, dropped: Dropped) -> None:
    before = out._from.get(s.identity)
    if before is None:
        out._from[s.identity] = held, file, s
        return
    old, new = load(before[0].body(before[2], before[1])), load(held.body(s, file))
    wins = _rank(new) > _rank(old)
    loser = old if wins else new
    if loser["status"] != "done":
        dropped.errors += 1
    elif _plain(old) == _plain(new):
        dropped.same += 1
    else:
        dropped.older += 1
    index = s.item_index if s.item_index is not None else before[2].item_index
    kept = (held, file, s) if wins else before
    if kept[2].item_index is None and index is not None:  # its own directory didn't know the item any more
        out._indexes[s.identity] = index
    out._from[s.identity] = kept


def _rank(entry: Mapping[str, Any]) -> tuple[bool, float]:
    began = entry.get("started_at")
    return entry["status"] == "done", float(began) if isinstance(began, (int, float)) else float("-inf")


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry without what another directory says otherwise of the same result."""
    return {k: v for k, v in entry.items() if k not in ("index", "seq")}


def _placed(stored: list[Stored]) -> list[Stored]:
    """Old entries that no dataset was matched with stand after the others; the next run puts them in their places."""
    after: dict[str, int] = {}
    for s in stored:
        after[s.group] = max(after.get(s.group, 0), 0 if s.item_index is None else s.item_index + 1)
    out = []
    for s in stored:
        if s.item_index is None and not s.matched:
            s = s._replace(item_index=after[s.group])
            after[s.group] += 1
        out.append(s)
    return out
