"""A sample is opened: what is saved of it, which of its tasks are missing, and what of that runs again.

Threads: the feeder only, one sample after another.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from nbrun import verdicts
from nbrun.canonical import key_text
from nbrun.results import archives, legacy, sample_file, values
from nbrun.results.entries import IN_FILE, NOWHERE
from nbrun.results.legacy import OldMatch, match_old, old_body, places_in
from nbrun.results.listing import Problem
from nbrun.results.names import temporary
from nbrun.results.sample_file import NBRUN, EntryHead, FileInfo, Identity, Unreadable
from nbrun.results.values import load
from nbrun.samples import Sample
from nbrun.storage import files
from nbrun.storage.asking import none_again
from nbrun.storage.book import DONE, ERROR, Book, Columns, Orphan
from nbrun.storage.directory import Directory
from nbrun.storage.entry import ENTRY
from nbrun.storage.filing import write_sample
from nbrun.storage.found import Again, Found, Fresh, found_in
from nbrun.storage.journal import Journal
from nbrun.storage.match import NO_ITEM, match_by_key, match_own, moved, retyped, stored_item
from nbrun.storage.recovery import Recovery, attempt_body
from nbrun.storage.running import choose


class Opener:
    """Matches samples with what a directory holds of them.

    Args:
        recovery: what was left by an unclean end.
        run_id: what new entries will be made by.
        suspects: see running.py.
        keep_items: store each item in its entry.
    """

    def __init__(
        self, directory: Directory, journal: Journal, recovery: Recovery, run_id: str, quarantined: Mapping[bytes, int],
        keep_items: bool,
    ) -> None:  # fmt: skip
        self.directory, self.journal, self.path, self._run_id = directory, journal, directory.path, run_id
        self.attempts = recovery.attempts  # of samples that weren't opened yet
        self._seq_floor = recovery.next_seq - 1
        self._quarantined, self._keep_items = quarantined, keep_items

    def begin(
        self, sample: Sample, info: FileInfo | None, redo: Mapping[Identity, str | None] | None,
        fresh: Fresh | None, again: Again | None,
    ) -> Found:  # fmt: skip
        info = self._as_it_is(info)
        if again is not None and info is not None and self._is_finished(sample, info):
            again = again if again.may_any(self._finished(sample, info)) else None  # nothing to ask: nothing to read
        if (
            info is not None
            and info.place is not None
            and (again is None or none_again(self.path, sample, info, again))
        ):
            again = None  # asked already: only what runs again is taken out of its archive
        if info is not None and not redo and again is None and self._is_finished(sample, info):
            found = self._finished(sample, info)
            if fresh is None or all(fresh(r, c) for r in found.runs or ("",) for c in found.contexts or ("",)):
                self.attempts.pop(sample.id, None)  # of tasks that a file has done
                return found
        if info is not None and info.place is not None:
            settled = self._settled_in_archive(sample, info, redo or {}, fresh, again)
            if settled is not None:
                return settled
            info = self._take_out(info)
        book = Book(sample, info.name if info else "", self._run_id, self._keep_items)
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
            book.quarantined = self._quarantined_among(book, book.missing)
            found = Found(book if book.total else None, book.total, retyped=book.retyped)
            found.changed = len(book.orphans)
            return found
        chosen = self._choose(book, book.columns, redo or {}, fresh, again)
        book.missing = chosen
        book.quarantined = self._quarantined_among(book, chosen)
        found = found_in(book, book.columns, set(chosen))
        found.retyped = book.retyped
        if chosen:
            if book.is_foreign:
                self._file_now(book)
            found.book = book
        return found

    def _as_it_is(self, info: FileInfo | None) -> FileInfo | None:
        """What a file says now, where it is another one than was listed; None where that holds nothing to build on."""
        if info is None or info.place is not None:
            return info
        path = os.path.join(self.path, info.name)
        stat = os.stat(path)
        if (stat.st_size, stat.st_mtime_ns) == (info.size, info.mtime_ns):
            return info
        try:
            now: FileInfo | None = sample_file.peek(Path(path))
            if now is not None and now.sample_id != info.sample_id:
                raise Unreadable(f"was replaced by the file of {now.sample_id!r} while the run went on")
        except Unreadable as e:
            self.directory.listing.problems.append(Problem(path, str(e), info.sample_id))
            now = sample_file.peek_damaged(Path(path))
            if now is None or now.sample_id != info.sample_id:
                self.directory.set_aside(info.name)
                return None
        return now

    def _quarantined_among(self, book: Book, positions: Iterable[int]) -> list[int]:
        if not self._quarantined:
            return []
        seqs = book.columns.seq if book.columns is not None else None
        marks = {p: book.marks([p]) for p in positions}
        return choose(self._quarantined, marks, {} if seqs is None else {p: seqs[p] for p in marks})

    def _is_finished(self, sample: Sample, info: FileInfo) -> bool:
        identities = sample.identities.hex()
        if info.source == NBRUN:
            summary = info.summary or {}  # carries a checksum, which what the file says last does not
            return summary.get("done") == sample.total and summary["identities"] == identities
        match = self.directory.matches.get(sample.id)
        return bool(
            match and match["complete"] and match["identities"] == identities
            and match["size"] == info.size and match["mtime_ns"] == info.mtime_ns
        )  # fmt: skip

    def _settled_in_archive(
        self, sample: Sample, info: FileInfo, redo: Mapping[Identity, str | None], fresh: Fresh | None,
        again: Again | None,
    ) -> Found | None:  # fmt: skip
        """An old file that is matched for the first time stays archived where nothing of it runs."""
        if info.source == NBRUN or sample.id in self.attempts:
            return None
        book = Book(sample, info.name, self._run_id, self._keep_items)
        try:
            self._take_old(book, self.path / info.name, info)
        except Unreadable:
            return None  # it is told where it is taken out
        if book.columns is None or self._choose(book, book.columns, redo, fresh, again):
            return None
        return found_in(book, book.columns)

    def _take_out(self, info: FileInfo) -> FileInfo | None:
        try:
            return self.directory.take_out(info)
        except Unreadable as e:
            what = f"{e}; what it held counts as missing"
            self.directory.listing.problems.append(Problem(str(self.path / info.name), what, info.sample_id))
            return None

    def _finished(self, sample: Sample, info: FileInfo) -> Found:
        summary = info.summary or self.directory.matches[sample.id]
        counts = summary["verdicts"]
        accepted = sum(n for verdict, n in counts.items() if verdicts.accepts(verdict))
        rejected = sum(n for verdict, n in counts.items() if verdicts.rejects(verdict))
        unexpected = summary.get("unexpected")
        return Found(
            None, sample.total, sample.total, counts, accepted, rejected + counts.get("JudgeError", 0),
            _least_unexpected(sample, accepted, rejected) if unexpected is None else unexpected,
            _tally_of_finished(sample, accepted, rejected, unexpected),
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
        with files.open_reading(path, held=True) as f:
            book.file_id = files.identity_of(os.fstat(f.fileno()))
            own = sample_file.read_any(f)
            if not isinstance(own, sample_file.OwnFile):
                raise Unreadable("was replaced by another file while it was opened")
            found, orphans = match_own(book.sample, own.heads)
            # entries of a file that another tool has written anew are kept in memory until it is replaced
            where = NOWHERE if own.is_foreign else IN_FILE
            whole: dict[int, EntryHead] = {}
            for position, h in found.items():
                body = own.body(h)
                entry = sample_file.parse_entry(body)
                if entry is None:
                    continue
                whole[position] = h
                made = (verdicts.counted(entry["result"]), entry["run_id"], entry["context"])
                code = DONE if h.status == "done" else ERROR
                book.place(position, h.seq, code, where, h.offset, h.length, made, body if own.is_foreign else None)
                book.api_used = entry["api_used"] or book.api_used
                book.worker_id = entry["worker_id"] or book.worker_id
            held: list[tuple[EntryHead, Any]] = []
            readable: list[EntryHead] = []
            for h in orphans:
                entry = sample_file.parse_entry(own.body(h))
                if entry is not None:
                    readable.append(h)
                    if (item := stored_item(entry)) is not NO_ITEM:
                        held.append((h, item))
            again = match_by_key(book.sample, whole, held)
            for position, h in again.items():
                self._take_under_new_key(book, position, h, own.body(h))
            matched = set(again.values())
            for h in readable:
                if h not in matched:
                    held_back = own.body(h) if own.is_foreign else None
                    place = (where, h.offset, h.length, held_back)
                    book.orphans.append(Orphan(h.group, h.key, h.occurrence, h.seq, *place))
        if not whole and not again:
            book.retyped = retyped(book.sample, whole, held)
        book.is_foreign = own.is_foreign
        damaged = len(found) - len(whole) + len(orphans) - len(readable) + own.damaged
        if damaged and not info.is_damaged:
            what = f"has {damaged} damaged entries; it is kept in .nbrun/damaged/"
            self.directory.listing.problems.append(Problem(str(path), what, book.sample_id))
        if damaged or info.is_damaged:
            self.directory.keep_aside(info.name)
            self._file_now(book)
        elif again or moved(book.sample, found, orphans):
            self._file_now(book)

    @staticmethod
    def _take_under_new_key(book: Book, position: int, h: EntryHead, body: bytes) -> None:
        """An entry that was saved under another key. It is kept in memory, under its new one, until it is filed."""
        entry = load(body)
        group, rank = book.sample.locate(position)
        rest = body.split(b'"seq":%d,' % h.seq, 1)[1]
        new = ENTRY % (group.runnable[rank], group.key(rank).hex().encode(), group.occurrence(rank), h.seq, rest)
        made = (verdicts.counted(entry["result"]), entry["run_id"], entry["context"])
        book.place(position, h.seq, DONE if h.status == "done" else ERROR, NOWHERE, 0, 0, made, new)

    def _take_old(self, book: Book, path: Path, info: FileInfo) -> None:
        book.file_id = files.identity_at(path)
        data = archives.read_file(self.path, info)
        old = legacy.parse_old(data)
        matches = match_old(book.sample, old)
        for m in matches:
            row = old.groups[m.group][m.rank]
            body = old_body(row, m, old)
            if m.position is None:
                book.orphans.append(Orphan(m.group, m.key, m.occurrence, 0, NOWHERE, 0, 0, body))
                continue
            verdict = verdicts.counted(row.get("result"))
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
        found = Found(None, book.total) if book.columns is None else found_in(book, book.columns)
        record = {
            "seq": self._seq_floor, "id": book.sample_id, "size": len(data), "mtime_ns": info.mtime_ns,
            "crc": crc32(data), "identities": book.sample.identities.hex(),
            "complete": found.done == found.total, "totals": book.totals,
            "verdicts": found.verdicts, "unexpected": found.unexpected,
            "completed": {group: sum(place[0] is not None for place in places) for group, places in groups.items()},
            "groups": groups,  # last, so that readers can leave it out
        }  # fmt: skip
        self.directory.matches[book.sample_id] = self.directory.match_log.settle(record)

    def _take_attempts(self, book: Book) -> None:
        waiting = self.attempts.pop(book.sample_id, None)
        if not waiting:
            return
        for g in book.sample.groups:
            for rank in range(len(g.runnable)):
                attempt = waiting.get(Identity(g.name, g.key(rank), g.occurrence(rank)))
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
        verdict, run_id, context = book.makers[c.made[position]]
        if redo:
            group, rank = book.sample.locate(position)
            identity = Identity(group.name, group.key(rank), group.occurrence(rank))
            if identity in redo and redo[identity] in (None, run_id):
                return True
        if fresh is not None and not fresh(run_id, context):
            return True
        if again is None or not again.may(verdict, run_id):
            return False
        return again.ask(values.decode(load(self._body_of(book, c, position))), position)

    def _body_of(self, book: Book, c: Columns, position: int) -> bytes:
        """An entry's bytes before the sample is worked on: in its file, or converted from an old one."""
        body = c.bodies.get(position)
        if body is not None:
            return body
        path = self.path / book.name
        with files.open_reading(path, held=True) as f:
            if files.identity_of(os.fstat(f.fileno())) != book.file_id:
                raise OSError(errno.ESTALE, "was replaced while it was opened", str(path))
            f.seek(c.offset[position])
            return f.read(c.length[position])

    def _file_now(self, book: Book) -> None:
        book.max_seq = max(book.max_seq, max(book.columns.seq, default=0)) if book.columns else book.max_seq
        beside = str(self.directory.inner / "tmp" / temporary(book.name))
        write_sample(book, str(self.path), beside, self.journal.segments.hold)
        files.sync_folder(self.path)
        book.is_foreign = False
        self.note_problem(book)

    def note_problem(self, book: Book) -> None:
        """Takes over what was found wrong with a sample's file while it was written."""
        if book.problem:
            problem = Problem(str(self.path / book.name), book.problem, book.sample_id)
            self.directory.listing.problems.append(problem)
            book.problem = ""


def _least_unexpected(sample: Sample, accepted: int, rejected: int) -> int:
    """How many verdicts at least are not what their group says, where a file tells no more than their numbers."""
    sizes = _sizes(sample)
    if sizes[None]:
        return 0
    return max(0, accepted - sizes[True]) + max(0, rejected - sizes[False])


def _sizes(sample: Sample) -> dict[bool | None, int]:
    """How many items should be accepted (True), rejected (False), or have nothing expected of them (None)."""
    sizes: dict[bool | None, int] = {True: 0, False: 0, None: 0}
    for g in sample.groups:
        sizes[verdicts.expected(g.name)] += len(g.runnable)
    return sizes


def _tally_of_finished(sample: Sample, accepted: int, rejected: int, unexpected: int | None) -> verdicts.Tally:
    """Work the tally of a finished sample out from its sums; an empty one where they don't determine it.

    With every item judged, accepted + unexpected - positives is twice the number of accepted negatives.
    """
    sizes = _sizes(sample)
    positives, negatives = sizes[True], sizes[False]
    if sizes[None] or accepted + rejected != positives + negatives:
        return verdicts.Tally()
    if unexpected is None:
        unexpected = rejected if not negatives else accepted if not positives else None
    if unexpected is None:
        return verdicts.Tally()
    wrong, odd = divmod(accepted + unexpected - positives, 2)
    if odd or not 0 <= wrong <= min(accepted, negatives):
        return verdicts.Tally()
    return verdicts.Tally(accepted - wrong, positives - accepted + wrong, wrong, negatives - wrong)
