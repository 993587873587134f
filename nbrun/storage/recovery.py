"""After an unclean end: what only the journal holds goes into the samples' files, so that old segments can be deleted.

Called by the thread that opens a directory, with its lock held. Costs by what is unfinished: samples whose file says
that it holds all that the journal has (F5) aren't touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from nbrun.errors import StorageError
from nbrun.results import listing, sample_file
from nbrun.results.format import (
    ATTEMPT,
    HEADER,
    MAX_SEGMENT,
    MAX_SEQ,
    SEGMENT_NAME,
    Header,
    JsonValue,
    MatchRecord,
    frame,
    segment_name,
    temporary,
)
from nbrun.results.replay import Attempt, JournalIndex, LogScan, SavedSample, index_journal, split_readable
from nbrun.results.sample_file import (
    IN_SEGMENT,
    NOWHERE,
    FileInfo,
    Identity,
    Stored,
    Unreadable,
    checked_identities,
    in_chunks,
    load_entry,
)
from nbrun.results.values import decode, dump
from nbrun.storage import files
from nbrun.storage.directory import KEPT, Directory
from nbrun.storage.lock import DirectoryLock
from nbrun.texts import counted

#: No run begins after this seq: it leaves room for more results than any directory gets, up to MAX_SEQ.
LAST_SEQ = MAX_SEQ // 10


@dataclass
class Recovery:
    """What recovering a directory found.

    Attributes:
        attempts: attempts that go on, by sample.
        next_seq: greater than every seq in the directory.
        next_segment: the number of the next segment.
        recovered: how many samples' files were written.
    """

    attempts: dict[str, dict[Identity, Attempt]] = field(default_factory=dict)
    next_seq: int = 1
    next_segment: int = 1
    recovered: int = 0


def recover(directory: Directory) -> Recovery:
    """Write what the journal holds to files and delete the old segments. Raise OSError where the disk refuses."""
    directory.clear_tmp()  # half-written files of a process that died
    with closing(index_journal(directory.inner)) as index:
        next_segment = 1 + max((number for number in index.segments if number < MAX_SEGMENT), default=0)
        out = Recovery(next_seq=_next_seq(directory, index), next_segment=next_segment)
        writer = _FileMaker(directory, index)
        out.recovered = _write_samples(directory, writer, index)
        _merge_doubles(directory, writer)
    if index.segments:
        _delete_segments(directory, index, out)
    return out


def _next_seq(directory: Directory, index: JournalIndex) -> int:
    """Return a seq that is greater than every one in the directory. Raise StorageError where no run can go on there."""
    logged = [*directory.matches.values(), *directory.runs().values()]
    in_files = [info.max_seq for info in (*directory.listing.by_id.values(), *directory.listing.doubles)]
    next_seq = 1 + max([index.max_seq, *in_files, *(record.get("seq", 0) for record in logged)])
    if next_seq > LAST_SEQ:
        raise StorageError(
            f"{directory.path} numbers its records up to {next_seq - 1:,}, as no run of nbrun does, so new results "
            "can't be numbered after them. It can still be read. To go on, copy the sample files that you trust into a "
            "new folder, without .nbrun; `nbrun check` of each copy shows what it holds.",
            path=str(directory.path),
        )
    return next_seq


def _write_samples(directory: Directory, writer: _FileMaker, index: JournalIndex) -> int:
    """Write the files that lack entries of the journal. Return how many."""
    infos, count = directory.listing.by_id, 0
    for sample_id, journal in index.entries.items():
        info = infos.get(sample_id)
        if info is not None and writer.holds_all(info, journal):
            continue
        written = writer.write(sample_id, info, journal)
        if written is not None:
            infos[sample_id] = written
            count += 1
    return count


def _merge_doubles(directory: Directory, writer: _FileMaker) -> None:
    """Add results that only a second file of a sample holds to the file that counts.

    A program that syncs folders leaves such a copy where two computers have written. It is kept in `.nbrun/damaged/`
    then; one that adds nothing stays where it is.
    """
    infos, problems = directory.listing.by_id, directory.listing.problems
    for double in directory.listing.doubles:
        counting = infos[double.sample_id]
        results = writer.results_only_in(double, counting)
        if not results:
            continue
        written = writer.write(double.sample_id, counting, results)
        if written is None:
            continue
        infos[double.sample_id] = written
        path = directory.path / double.name
        if written.name != double.name:
            files.sync_folder(directory.path)
            directory.quarantine(path)
        problems[:] = [problem for problem in problems if problem.path != str(path)]
        what = f"{counted(len(results), 'result')} that only it held {'is' if len(results) == 1 else 'are'}"
        directory.note(path, f"holds the same sample as {written.name}; {what} in that one now{KEPT}", double.sample_id)


@contextmanager
def recovered(path: Path) -> Iterator[Directory]:
    """Hold a directory's lock while the block runs, with all that the journal held in the samples' files.

    Raises:
        ResultsInUseError: a run writes there.
        StorageError: the disk refused.
    """
    try:
        with closing(Directory(path)) as directory, ExitStack() as held:
            held.callback(DirectoryLock(directory.inner / "lock").release)
            directory.scan()
            recover(directory)
            yield directory
    except StorageError:
        raise
    except OSError as e:
        raise StorageError(f"{path}: {e.strerror or e}. Nothing that was saved is lost.", path=str(path)) from e


def rewrite_sample(directory: Directory, info: FileInfo) -> None:
    """Write a file of nbrun's own again with what can be read of it; the old file is kept in `.nbrun/damaged/`."""
    directory.quarantine(directory.path / info.name, is_copy=True)
    new = _FileMaker(directory, JournalIndex()).write(info.sample_id, info, {})
    if new is not None:
        directory.listing.by_id[info.sample_id] = new


class _FileMaker:
    """Makes samples' files from what their files and the journal hold, without the dataset."""

    def __init__(self, directory: Directory, index: JournalIndex) -> None:
        self._directory, self._index = directory, index

    def holds_all(self, info: FileInfo, journal: Mapping[Identity, Stored]) -> bool:
        """Return whether nothing in the journal counts instead of what a sample's file holds.

        Its max_seq says so (F5) unless somebody has put the file of another copy of the directory, or an older one,
        beside this journal. So its entries are read, too.
        """
        newest = max(s.seq for s in journal.values())
        if info.source != sample_file.NBRUN or info.is_damaged or info.max_seq < newest:
            return False
        try:
            with listing.open_file(self._directory.path, info) as f:
                saved = SavedSample(f, None, journal.values(), self._index.body)
        except (OSError, Unreadable):
            return False
        return all(s.where < IN_SEGMENT for s in saved.entries)

    def results_only_in(self, double: FileInfo, counting: FileInfo) -> dict[Identity, Stored]:
        """Return the results of a sample's second file, with their bytes, that the one that counts doesn't hold."""
        path = self._directory.path
        try:
            with listing.open_file(path, counting) as f, files.open_reading(path / double.name) as g:
                held = {s.identity for s in SavedSample(f, None, (), self._index.body).entries if s.is_done}
                other = SavedSample(g, None, (), self._index.body)
                other.drop_damaged()
                missing = [s for s in other.entries if s.is_done and s.identity not in held]
                return {s.identity: s._replace(where=NOWHERE, body=other.body(s)) for s in missing}
        except (OSError, Unreadable):
            return {}

    def write(self, sample_id: str, info: FileInfo | None, journal: dict[Identity, Stored]) -> FileInfo | None:
        """Write a sample's file. Return what it is now; None where neither its file nor the journal holds anything."""
        directory = self._directory
        whole = self._readable(journal)
        if journal and not whole:
            return info  # nothing of the journal can be read: the file stays
        if info is not None and info.place is not None:
            info = self._take_out(info)
        header = self._index.headers.get(sample_id) or _header_of(info)
        name = info.name if info else directory.new_name(sample_id, header.get("name", ""))
        directory.listing.names.add(name)
        path = directory.path / name
        match = directory.matches.get(sample_id)
        with ExitStack() as opened:
            saved = None if info is None else self._read_file(info, match, whole, opened)
            if saved is None:
                info, saved = None, SavedSample(None, None, whole, self._index.body)
            content = FileContent(sample_id, header, info, match, saved.entries, saved.body, saved.extra)
            files.replace_file(path, in_chunks(content.parts()), directory.inner / "tmp" / temporary(name))
        return sample_file.peek(path)

    def _read_file(
        self, info: FileInfo, match: MatchRecord | None, journal: list[Stored], opened: ExitStack
    ) -> SavedSample | None:
        """Return the entries of a sample's file and of the journal; None where the file can't be read.

        A damaged file is kept in `.nbrun/damaged/`, before it is replaced.
        """
        directory, path = self._directory, self._directory.path / info.name
        try:
            saved = SavedSample(opened.enter_context(files.open_reading(path)), match, journal, self._index.body)
        except Unreadable as e:
            directory.note(path, str(e), info.sample_id)
            directory.quarantine(path)
            return None
        if saved.own is None:
            return saved
        saved.drop_damaged()
        directory.keep_damaged(info, saved.damaged)
        return saved

    def _take_out(self, info: FileInfo) -> FileInfo | None:
        """Put an archived sample into a file of its own. Return None where it is damaged: only the journal counts."""
        try:
            return self._directory.take_out(info)
        except Unreadable as e:
            what = f"{e}; what it held counts as missing"
            self._directory.note(self._directory.path / info.name, what, info.sample_id)
            return None

    def _readable(self, journal: Mapping[Identity, Stored]) -> list[Stored]:
        """Return the entries that hold what an entry must. The segment of any other one counts as damaged."""
        whole, damaged = split_readable(journal.values(), lambda s: s.body or self._index.body(s))
        for s in damaged:
            scan = self._index.damaged.setdefault(s.where - IN_SEGMENT, LogScan())
            scan.damaged.append((s.offset, s.length))
        return whole


def _header_of(info: FileInfo | None) -> Header:
    """Return what a file of nbrun's own says of its sample, for one whose header record is gone."""
    if info is None or info.summary is None:
        return {}
    return {"totals": info.recorded("total"), "identities": info.summary["identities"]}


class FileContent:
    """What a sample's file is to hold: the saved entries, and what is known of the sample without its dataset.

    Args:
        header: the sample's header record, or what is known of it.
        info, match: of the file that held entries before.
        body: returns the bytes of an entry.
        extra: top-level keys that another tool has added, with their values as JSON.
    """

    def __init__(
        self,
        sample_id: str,
        header: Header,
        info: FileInfo | None,
        match: MatchRecord | None,
        entries: list[Stored],
        body: Callable[[Stored], bytes],
        extra: Mapping[str, bytes],
    ) -> None:
        self._sample_id, self._header, self._body, self._extra = sample_id, header, body, extra
        self._totals = header.get("totals") or (match["totals"] if match else None)
        self._groups: dict[str, list[Stored]] = {g: [] for g in header.get("totals", {})}
        for s in entries:
            self._groups.setdefault(s.group, []).append(s)
        self._counts = sample_file.EntryCounts()
        self._max_seq = max([info.max_seq if info else 0, *(s.seq for s in entries)])
        self._api_used = self._worker_id = ""  # of the last entry

    def parts(self) -> Iterator[bytes]:
        """Yield the file piece by piece."""
        entries = ((group, self._entries(group)) for group in self._groups)
        return sample_file.lay_out(self._sample_id, entries, self._footer)

    def _entries(self, group: str) -> Iterator[tuple[None, bytes]]:
        for s in sorted(self._groups[group], key=lambda s: (s.item_index is None, s.item_index or 0, s.seq)):
            data = self._body(s)
            if s.item_index is not None:
                entry = load_entry(data)
                self._counts.add(group, entry)
                self._api_used, self._worker_id = entry["api_used"], entry["worker_id"]
            yield None, data

    def _footer(self) -> sample_file.Footer:
        totals = dict(self._totals or {g: len(entries) for g, entries in self._groups.items()})
        done = {group: self._counts.done[group] for group in {**totals, **self._groups}}
        self._counts.max_seq = self._max_seq
        identities = checked_identities(self._header.get("identities", ""), totals, self._groups)
        return sample_file.Footer(
            self._sample_id,
            totals,
            done,
            bool(self._totals) and all(done[g] == n for g, n in totals.items()),
            self._counts.summary(self._groups, identities),
            self._api_used,
            self._worker_id,
            self._extra,
        )


def _delete_segments(directory: Directory, index: JournalIndex, out: Recovery) -> None:
    """Delete the old segments: all entries are in files. Attempts that go on are carried into a new segment first."""
    files.sync_folder(directory.path)
    out.attempts = {k: v for k, v in index.attempts.items() if v}
    if out.attempts:
        carry_attempts(directory, out.next_segment, out.attempts, index.headers)
        out.next_segment += 1
    for number, path in index.segments.items():
        scan = index.damaged.get(number)
        if scan is not None:
            directory.note(path, f"{scan}{KEPT}")
        if scan is not None or not SEGMENT_NAME.fullmatch(path.name):
            directory.quarantine(path)
        else:
            files.remove(path)


def carry_attempts(
    directory: Directory, number: int, attempts: Mapping[str, Mapping[Identity, Attempt]], headers: Mapping[str, Header]
) -> None:
    """Save attempts, by sample, in a new segment, each sample's after its header."""
    lines: list[bytes] = []
    for sample_id, of_sample in attempts.items():
        header = headers.get(sample_id)
        if header:
            lines.append(frame(HEADER, dump(header)))
        for (group, key, occurrence), a in of_sample.items():
            lines.append(frame(ATTEMPT, attempt_body(key, occurrence, a), dump([sample_id, group])))
    segment = files.AppendFile(directory.inner / segment_name(number), new=True)
    try:
        segment.append(b"".join(lines))
        segment.sync()
        files.sync_folder(directory.inner)
    finally:
        segment.close()


def decode_hint(hint: Mapping[str, object]) -> dict[str, object]:
    """Return a hint as the record of its attempt holds it, with non-finite floats put back. May change its values."""
    return {name: decode(cast(JsonValue, value)) for name, value in hint.items()}


def attempt_body(key: bytes, occurrence: int, attempt: Attempt, reason: str = "") -> bytes:
    """Return the body of an attempt record."""
    return dump(
        {
            "key": "k1:" + key.hex(),
            "occurrence": occurrence,
            "attempt": attempt.attempt,
            "reason": reason,
            "hint": attempt.hint,
            "previous": attempt.previous,
            "exceptions": attempt.exceptions,
        }
    )
