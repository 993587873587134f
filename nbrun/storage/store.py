"""The results directory as a running kernel writes it: opens samples, takes results, keeps their files.

Threads:
    opener    `ResultStore(...)`, `close`: the thread that starts a run or ends it
    feeder    `begin`, one sample after another
    workers   `encode`, `put`, `put_attempt`, `ended` (model.ResultSink)
    journal   "nbrun-journal": saves; tells the store which books were touched
    files     "nbrun-files" (see filer.py)
`_lock` protects what books say of unsaved and ended tasks; it is never held over I/O.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from nbrun import verdicts
from nbrun.errors import StorageError
from nbrun.model import Retry
from nbrun.samples import Sample, key_text
from nbrun.storage import entry, files, samplefile, values
from nbrun.storage.book import DONE, ERROR, IN_FILE, NOWHERE, Attempt, Book, Columns, Orphan
from nbrun.storage.directory import Directory, Problem
from nbrun.storage.entry import EntryRecord
from nbrun.storage.filer import Filer
from nbrun.storage.filing import write_sample
from nbrun.storage.journal import Journal
from nbrun.storage.lock import DirectoryLock
from nbrun.storage.match import OldMatch, match_old, match_own, moved
from nbrun.storage.merge import Identity, old_body, places_in
from nbrun.storage.recover import attempt_body, recover
from nbrun.storage.samplefile import NBRUN, EntryHead, FileInfo, Unreadable

Again = Callable[[Mapping[str, Any], int], bool]
Fresh = Callable[[str, str], bool]


@dataclass(slots=True)
class Found:
    """What earlier runs left of a sample. `book` is None where nothing is missing."""

    book: Book | None
    total: int
    done: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    accepted: int = 0
    rejected: int = 0
    runs: Mapping[str, int] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)
    changed: int = 0  # entries that match no item any more


class ResultStore:
    """One process's hold on a results directory, from open to close.

    Args:
        path: the results directory; made where it is missing.
        run: the run record (run_id, settings, …), saved before the first result can be.
        keep_items: store each item in its entry.
        on_fault, on_mended: called when the disk refuses, and when it takes results again.

    Raises:
        ResultsInUseError, StorageError, FormatError.
    """

    def __init__(
        self, path: Path, run: Mapping[str, Any], *, keep_items: bool = True,
        on_fault: Callable[[OSError], None] = lambda e: None,
    ) -> None:  # fmt: skip
        self.path = path
        self.run_id: str = run["run_id"]
        self._keep_items = keep_items
        self._on_fault = on_fault
        self.wait_for_resume: Callable[[], bool] = lambda: False  # the feeder waits there after a fault
        self._lock = threading.Lock()
        self.directory = Directory(path)
        try:
            self._guard = DirectoryLock(self.directory.inner / "lock")
        except OSError as e:
            raise _refused(path, e) from e
        try:
            self.directory.scan()
            self.earlier_runs = self.directory.runs()
            recovery = recover(self.directory)
            self._old_attempts = recovery.attempts
            self.recovered = recovery.recovered
            self._carried = recovery.next_segment - 1 if recovery.attempts else 0
            self.directory.run_log.append({**run, "seq": recovery.next_seq - 1})
            self._seq_floor = recovery.next_seq - 1
            self.journal = Journal(
                self.directory.inner, recovery.next_segment, recovery.next_seq, self.run_id, self._saved, on_fault
            )
            self.filer = Filer(path, self.journal, on_fault)
        except BaseException as e:
            self.directory.close()
            self._guard.release()
            if isinstance(e, OSError):
                raise _refused(path, e) from e
            raise

    @property
    def problems(self) -> list[Problem]:
        """What could not be read, so far."""
        return self.directory.listing.problems

    # ---- feeder

    def begin(
        self, sample: Sample, redo: Mapping[Identity, str | None] | None = None,
        fresh: Fresh | None = None, again: Again | None = None,
    ) -> Found:  # fmt: skip
        """Matches a sample with what is saved of it.

        Args:
            redo: identities that run again although they are done, with the run_id of the result that shall be replaced
                (None: whatever stands there).
            fresh: told run_id and context of saved results; those for which it says False run again.
            again: asked with each saved entry and its position; True runs it again.

        Raises:
            OSError: the disk refused, and the run was stopped instead of resumed.
        """
        infos = self.directory.listing.by_id
        while True:
            info = infos.pop(sample.id, None)
            try:
                return self._begin(sample, info, redo, fresh, again)
            except OSError as e:
                if info is not None:
                    infos[sample.id] = info
                self._on_fault(e)
                if not self.wait_for_resume():
                    raise

    def _begin(
        self, sample: Sample, info: FileInfo | None, redo: Mapping[Identity, str | None] | None,
        fresh: Fresh | None, again: Again | None,
    ) -> Found:  # fmt: skip
        if info is not None and not redo and again is None and self._is_finished(sample, info):
            found = self._finished(sample, info)
            if fresh is None or all(fresh(r, c) for r in found.runs for c in found.contexts):
                self._old_attempts.pop(sample.id, None)  # of tasks that a file has done
                return found
        book = Book(sample, info.name if info else "", self.run_id)
        if info is None:
            damaged = self.directory.listing.damaged.get(book.sample_id)
            if damaged is not None:
                self.directory.set_aside(damaged)
                del self.directory.listing.damaged[book.sample_id]
            book.name = self.directory.name_for(book.sample_id)
        else:
            self._begin_with_file(book, info)
        self._take_attempts(book)
        if book.columns is None:
            book.missing = range(book.total)
            return Found(book if book.total else None, book.total)
        chosen = self._choose(book, book.columns, redo or {}, fresh, again)
        book.missing = chosen
        found = _found(book, book.columns, set(chosen))
        if chosen:
            found.book = book
        return found

    def _is_finished(self, sample: Sample, info: FileInfo) -> bool:
        identities = sample.identities.hex()
        if info.source == NBRUN:
            return info.is_complete and info.summary is not None and info.summary["identities"] == identities
        match = self.directory.matches.get(sample.id)
        return bool(
            match and match["complete"] and match["identities"] == identities
            and match["size"] == info.size and match["mtime_ns"] == info.mtime_ns
        )  # fmt: skip

    def _finished(self, sample: Sample, info: FileInfo) -> Found:
        summary = info.summary or self.directory.matches[sample.id]
        counts = summary["verdicts"]
        accepted = counts.get("Accepted", 0)
        return Found(
            None, sample.total, sample.total, counts, accepted, sum(counts.values()) - accepted,
            summary.get("runs", {}), summary.get("contexts", {}),
        )  # fmt: skip

    def _begin_with_file(self, book: Book, info: FileInfo) -> None:
        path = self.path / info.name
        if info.source == NBRUN:
            self._take_own(book, path, info)
            book.max_seq = max(book.max_seq, info.max_seq)
            book.filed_seq = max(book.filed_seq, info.max_seq)
            return
        try:
            self._take_old(book, path, info)
        except Unreadable as e:
            self.directory.listing.problems.append(Problem(str(path), str(e), book.sample_id))
            self.directory.set_aside(info.name)
            book.name = self.directory.name_for(book.sample_id)

    def _take_own(self, book: Book, path: Path, info: FileInfo) -> None:
        """Entries of a file in nbrun's format. Of a damaged one, which is kept aside, those that can be read."""
        with open(path, "rb") as f:
            heads = list(samplefile.entry_heads(f))
            found, orphans = match_own(book.sample, heads)
            whole: dict[int, EntryHead] = {}
            for position, h in found.items():
                entry = samplefile.read_entry(f, h)
                if entry is None:
                    continue
                whole[position] = h
                made = (verdicts.of(entry["result"]), entry["run_id"], entry["context"])
                code = DONE if h.status == "done" else ERROR
                book.place(position, h.seq, code, IN_FILE, h.offset, h.length, made)
                book.api_used = entry["api_used"] or book.api_used
                book.worker_id = entry["worker_id"] or book.worker_id
            kept = [h for h in orphans if samplefile.read_entry(f, h) is not None]
            f.seek(0)
            strange = samplefile.strange_lines(f)
        for h in kept:
            book.orphans.append(Orphan(h.group, h.key, h.occurrence, h.seq, IN_FILE, h.offset, h.length, None))
        damaged = len(found) - len(whole) + len(orphans) - len(kept) + strange
        if damaged and not info.is_damaged:
            what = f"has {damaged} damaged entries; it is kept in .nbrun/damaged/"
            self.directory.listing.problems.append(Problem(str(path), what, book.sample_id))
        if damaged or info.is_damaged:
            self.directory.keep_aside(info.name)
            self._file_now(book)
        elif moved(book.sample, found, orphans):
            self._file_now(book)

    def _take_old(self, book: Book, path: Path, info: FileInfo) -> None:
        data = path.read_bytes()
        old = samplefile.parse_old(data)
        matches = match_old(book.sample, old)
        for m in matches:
            row = old.groups[m.group][m.rank]
            body = old_body(row, m, old)
            if m.position is None:
                book.orphans.append(Orphan(m.group, m.key, m.occurrence, 0, NOWHERE, 0, 0, body))
                continue
            verdict = verdicts.of(row.get("result"))
            book.place(m.position, 0, DONE, NOWHERE, 0, 0, (verdict, "", ""), body)
        book.api_used, book.worker_id = old.api_used or "", old.worker_id or ""
        known = self.directory.matches.get(book.sample_id)
        places = places_in(old, known, data)
        if places is None or [m._replace(position=None) for m in matches] != places or not self._is_same(known, book):
            self._settle_matches(book, info, data, matches)

    @staticmethod
    def _is_same(known: Mapping[str, Any] | None, book: Book) -> bool:
        return known is not None and known["identities"] == book.sample.identities.hex()

    def _settle_matches(self, book: Book, info: FileInfo, data: bytes, matches: list[OldMatch]) -> None:
        """Saves which old entry is which item (design: readers join it; the old file stays as it is)."""
        groups: dict[str, list[Any]] = {}
        for m in matches:
            groups.setdefault(m.group, []).append([m.item_index, key_text(m.key), m.occurrence])
        found = Found(None, book.total) if book.columns is None else _found(book, book.columns)
        record = {
            "seq": self._seq_floor, "id": book.sample_id, "size": len(data), "mtime_ns": info.mtime_ns,
            "crc": crc32(data), "identities": book.sample.identities.hex(),
            "complete": found.done == found.total, "totals": book.totals,
            "verdicts": found.verdicts, "groups": groups,
        }  # fmt: skip
        self.directory.match_log.append(record)
        del record["groups"]
        self.directory.matches[book.sample_id] = record

    def _take_attempts(self, book: Book) -> None:
        waiting = self._old_attempts.pop(book.sample_id, None)
        if not waiting:
            return
        for g in book.sample.groups:
            for rank in range(len(g.runnable)):
                attempt = waiting.get((g.name, g.key(rank), g.occurrence(rank)))
                position = g.base + rank
                is_done = book.columns is not None and book.columns.status[position] == DONE
                if attempt is not None and not is_done:
                    book.attempts[position] = attempt
                    self.journal.put_attempt(book, position, attempt_body(g.key(rank), g.occurrence(rank), attempt))

    def _choose(
        self, book: Book, c: Columns, redo: Mapping[Identity, str | None], fresh: Fresh | None, again: Again | None
    ) -> list[int]:
        """Which positions run: what has no result, and what was asked for."""
        chosen = [p for p in range(book.total) if c.status[p] != DONE]
        if redo or fresh is not None or again is not None:
            chosen += [
                p for p in range(book.total)
                if c.status[p] == DONE and self._runs_again(book, c, p, redo, fresh, again)
            ]  # fmt: skip
            chosen.sort()
        return chosen

    def _runs_again(
        self,
        book: Book,
        c: Columns,
        position: int,
        redo: Mapping[Identity, str | None],
        fresh: Fresh | None,
        again: Again | None,
    ) -> bool:
        _, run_id, context = book.makers[c.made[position]]
        if redo:
            group, rank = book.sample.locate(position)
            identity = (group.name, group.key(rank), group.occurrence(rank))
            if identity in redo and redo[identity] in (None, run_id):
                return True
        if fresh is not None and not fresh(run_id, context):
            return True
        return again is not None and again(values.decode(orjson.loads(self._body_of(book, c, position))), position)

    def _body_of(self, book: Book, c: Columns, position: int) -> bytes:
        """An entry's bytes before the sample is worked on: in its file, or converted from an old one."""
        body = c.bodies.get(position)
        if body is not None:
            return body
        with open(self.path / book.name, "rb") as f:
            f.seek(c.offset[position])
            return f.read(c.length[position])

    def _file_now(self, book: Book) -> None:
        book.max_seq = max(book.max_seq, max(book.columns.seq, default=0)) if book.columns else book.max_seq
        write_sample(book, str(self.path), str(self.directory.inner / "tmp" / (book.name + ".tmp")), self.journal.hold)
        files.sync_folder(self.path)

    # ---- workers: model.ResultSink

    def encode(
        self, book: Book, position: int, result: Mapping[str, Any] | None, attempts: int, started_at: float,
        duration_s: float, worker_id: str, error: Mapping[str, str] | None = None,
    ) -> tuple[EntryRecord, str | None]:  # fmt: skip
        """See ResultSink."""
        record = entry.encode(
            book, position, result, attempts, started_at, duration_s, worker_id, error, self._keep_items
        )
        return record, record[6]

    def put(self, book: Book, records: list[EntryRecord]) -> None:
        """See ResultSink."""
        self.journal.put(book, records)
        self.filer.wait_for_room()

    def put_attempt(self, book: Book, position: int, attempt: int, retry: Retry) -> None:
        """See ResultSink."""
        data, _ = values.encode({"hint": dict(retry.hint), "previous": retry.result})
        kept = Attempt(attempt, **orjson.loads(data))
        book.attempts[position] = kept._replace(previous=retry.result)
        group, rank = book.sample.locate(position)
        self.journal.put_attempt(
            book, position, attempt_body(group.key(rank), group.occurrence(rank), kept, retry.reason)
        )

    def ended(self, book: Book) -> None:
        """See ResultSink."""
        with self._lock:
            book.ended = True
        self._saved([book], 0)

    def reopen(self, book: Book) -> None:
        """Tasks of an ended sample are queued again."""
        with self._lock:
            book.ended = False

    # ---- journal's and files threads

    def _saved(self, books: list[Book], count: int) -> None:
        due = []
        with self._lock:
            for book in books:
                if book.ended and not book.unsaved and not book.filing:
                    book.filing = True
                    due.append(book)
        self.filer.touched(books)
        for book in due:
            self.filer.file_soon(book)

    # ---- control

    @property
    def unsaved(self) -> int:
        """Results that ended but are not on the disk."""
        return self.journal.unsaved

    @property
    def saved(self) -> int:
        """Results of this run that are on the disk."""
        return self.journal.saved

    def mend(self) -> None:
        """Try again after a fault."""
        self.journal.mend()
        self.filer.mend()

    def finish(self, timeout_s: float | None = None) -> bool:
        """Saves what waits, writes every file that is due and removes the segments.

        Returns:
            False on a standing fault: try again after `mend`.
        """
        return self.journal.flush(timeout_s) and self.filer.finish(timeout_s) and self._retire()

    def _retire(self) -> bool:
        if self.journal.has_open_attempts or self._old_attempts:
            return True
        self.journal.end_segment()
        return self.filer.retire_all(self._carried)

    def close(self, timeout_s: float | None = None, *, clean: bool = True) -> None:
        """Gives the directory up.

        Args:
            clean: the files alone are complete, so the segments may go.
        """
        self.filer.close()
        if clean:
            self._retire()
        self.journal.close(timeout_s)
        self.directory.close()
        self._guard.release()


def _refused(path: Path, e: OSError) -> StorageError:
    if isinstance(e, StorageError):
        return e
    where = f" ({e.filename})" if e.filename else ""
    return StorageError(
        f"{path} can't be opened to go on: {e.strerror or e}{where}. "
        "What is saved there stays. Mend it, then start again.",
        path=str(path),
    )


def _found(book: Book, c: Columns, chosen: Container[int] = ()) -> Found:
    """What the book holds, without the results that are about to be replaced."""
    found = Found(None, book.total, changed=len(book.orphans))
    made = Counter([m for p, m in enumerate(c.made) if c.status[p] == DONE and p not in chosen])
    counts, runs, contexts = Counter[str](), Counter[str](), Counter[str]()
    for number, count in made.items():
        verdict, run_id, context = book.makers[number]
        runs[run_id] += count
        contexts[context] += count
        if verdict is not None:
            counts[verdict] += count
    found.done = made.total()
    found.verdicts, found.runs, found.contexts = counts, runs, contexts
    found.accepted = counts["Accepted"]
    found.rejected = counts.total() - found.accepted
    return found
