"""Read one results directory into a table of its rows: unchanged files from the cache, the others from the disk.

The journal is read first and the files after it (storage F7); of two entries of one identity the higher seq wins (F4).

Rows of files are kept in `.nbrun/cache/`, in packs (see rows.py) with checksums: data only, since folders are passed
between people. A file's rows count while its size, its times of change (mtime and ctime, in ns) and its inode are those
that were read, and for an old file the match record too. A file that changed so shortly before it was read that it
could change again with the same times is not kept. Deleting the cache costs time and nothing else; where it can't be
written, none is.

Threads: the caller's, and those that serve helpers (rows.py), which call `ProgressLine.read`. Processes: any number;
parts of the cache are put in place whole, and a part that vanishes counts as missing.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate, chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nbrun.frames.rows import (
    BadPack,
    FileReader,
    FileRecord,
    Helpers,
    Listener,
    Pack,
    SparseColumnBuilder,
    ToRead,
    identity,
    identity_in,
    match_digest,
    read_all,
    unpack,
)
from nbrun.frames.table import Array, SparseColumn, Table, in_order, join, pack_of, sparse_column_of, table_of
from nbrun.results import plain_files
from nbrun.results.format import FOLDER, INTEGER_IDS, Header, JsonObject, MatchRecord, RunRecord
from nbrun.results.listing import Problem
from nbrun.results.reader import Reader, SampleTotals, SampleView, Snapshot, summarise, with_totals
from nbrun.results.replay import read_runs
from nbrun.results.sample_file import LEGACY, NBRUN, PROGRESS, FileInfo, Identity, Place, Stored, is_newer
from nbrun.results.values import dump
from nbrun.storage import files
from nbrun.texts import bytes_text
from nbrun.tuning import TUNING

Span = tuple[int, int]
#: As many bytes as there are.
ALL = math.inf


class Loader:
    """Reads one directory.

    Args:
        results: the directory.
        stale: also entries whose item is no longer in the dataset.
        listener: see RowBuilder; with one, nothing comes from the cache and all is read in this process.
        bodies: see RowBuilder.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(
        self,
        results: str | os.PathLike[str],
        *,
        stale: bool = False,
        listener: Listener | None = None,
        bodies: bool = False,
    ) -> None:
        self._reader = Reader(results)
        self._stale, self._listener, self._bodies = stale, listener, bodies
        self._folder = str(self._reader.path)
        self._cache = RowCache(Path(self._folder), is_used=listener is None)
        self._table_of_part = cache(lambda part: table_of(self._cache.packs[part]))
        self._helpers = Helpers()
        self._unknown_bytes = 0  # of files that the cache doesn't have, while they are listed
        self._progress_line = ProgressLine()
        self.infos: dict[str, FileInfo] = {}  # what was listed, by sample id
        self.headers: dict[str, Header] = {}
        self.matches: dict[str, MatchRecord] = {}
        self.unread: set[str] = set()  # names of files that could not be read at all
        self.integer_ids = False  # every sample id was given as an integer
        self._settings: dict[str, JsonObject] = {}  # run_id -> the settings that the user gave

    @property
    def problems(self) -> list[Problem]:
        """What could not be read until now."""
        return self._reader.problems

    def strides(self, stride_bytes: float = ALL) -> Iterator[tuple[Table, Array]]:
        """Yield rows, and the row numbers to show, in order: samples of about `stride_bytes` at a time."""
        with ExitStack() as stack:
            stack.callback(self._helpers.close)
            now = stack.enter_context(self._reader.open(self._known))
            self.infos = infos = now.listing.by_id
            self.headers, self.matches = now.journal.headers, now.matches
            ids = sorted({*infos, *now.journal.entries})
            runs = list(read_runs(self._reader.path / FOLDER))
            self._settings = settings_of_runs(runs)
            self.integer_ids = are_integers(runs, ids)
            if self.integer_ids:
                ids.sort(key=int)
            self._progress_line.total = sum(i.size for i in infos.values() if not self._is_kept(i, now))
            self._start_helpers_for(self._progress_line.total)
            try:
                for some in _cut(ids, infos, stride_bytes):
                    found = self._load(some, now)
                    self._progress_line.end()
                    yield found
            finally:
                self._progress_line.end()

    def _known(self, entry: os.DirEntry[str]) -> FileInfo | None:
        """See list_samples. Helpers start while the files are still being listed."""
        info = self._cache.known(entry)
        if info is None and entry.name.endswith(".json"):
            try:
                self._unknown_bytes += entry.stat(follow_symlinks=False).st_size
            except OSError:  # it has gone
                return None
            self._start_helpers_for(self._unknown_bytes)
        return info

    def _start_helpers_for(self, size: int) -> None:
        if self._listener is None:  # a listener sees every entry, in this process
            self._helpers.start_for(size)

    def _load(self, ids: Sequence[str], now: Snapshot) -> tuple[Table, Array]:
        infos = [now.listing.by_id[i] for i in ids if i in now.listing.by_id]
        fresh = FileReader(self._folder, self._listener, bodies=self._bodies)
        if self._listener is None:
            table, spans = self._read(infos, now)
            dropped = self._add_from_journal(ids, now, table, spans, fresh)
            table = join([table, table_of(fresh.pack())])
        else:
            self._read_slowly(infos, now, fresh)
            dropped = self._add_from_journal(ids, now, table_of(fresh.pack()), _spans(fresh.files), fresh)
            table = table_of(fresh.pack())
        table.integer_ids = self.integer_ids
        if self._settings:
            table.add_columns(_settings_columns(table, self._settings))
        rows = in_order(table, stale=self._stale)
        return table, rows[~np.isin(rows, dropped)] if dropped else rows

    # ---- files

    def _is_kept(self, info: FileInfo, now: Snapshot) -> bool:
        """Return whether the cache has the current rows of a file."""
        if info.place is not None:
            self._cache.know_archived(info.name, info.place)
        kept = self._cache.hits.get(info.name)
        if kept is None or not kept.is_as_listed(info):
            return False
        match = now.matches.get(info.sample_id)
        relies_on = None if match is None or info.source == NBRUN else match_digest(match)
        return kept.record.get("match") == relies_on

    def _read(self, infos: Sequence[FileInfo], now: Snapshot) -> tuple[Table, dict[str, Span]]:
        """Return all rows of files, and where each sample's are. What was not in the cache is put there."""
        began_at = time.time()
        kept = {info.name: self._cache.hits[info.name] for info in infos if self._is_kept(info, now)}
        wanted = [ToRead(i.name, now.matches.get(i.sample_id), i.size, i.place) for i in infos if i.name not in kept]
        packs = read_all(self._folder, wanted, self._progress_line.read, self._helpers)
        fresh = list(chain.from_iterable(pack.files for pack in packs))
        self._note_problems(fresh)
        old, new = self._kept_runs(kept.values()), list(map(table_of, packs))
        table = join([*old, *new, table_of(FileReader(self._folder).pack())])
        records = [*(k.record for k in kept.values()), *fresh]
        if packs:
            is_outdated = _rows_in(self._cache.packs) + _rows_in(packs) > 2 * table.n
            if not old:
                packs, new = [], [table]  # memory: the joined rows are the same
            self._cache.keep(
                lambda: pack_of(join(new), fresh), lambda: pack_of(table, records), fresh, is_outdated, began_at
            )
        return table, _spans(records)

    def _kept_runs(self, files: Iterable[Kept]) -> list[Table]:
        """Return the cached rows of these files; files that are adjacent in a part become one slice."""
        runs: list[Kept] = []
        for kept in files:
            if runs and (runs[-1].part, runs[-1].stop) == (kept.part, kept.start):
                runs[-1] = Kept(kept.part, runs[-1].start, kept.stop, kept.record)
            else:
                runs.append(kept)
        return [self._table_of_part(run.part).slice(run.start, run.stop) for run in runs]

    def _read_slowly(self, infos: Sequence[FileInfo], now: Snapshot, fresh: FileReader) -> None:
        """Read files here, one after another, for a listener."""
        for info in infos:
            fresh.read(info.name, now.matches.get(info.sample_id), info.place)
            self._progress_line.read(info.size)
        self._note_problems(fresh.files)

    def _note_problems(self, records: Iterable[FileRecord]) -> None:
        """Add problems found while reading; a file that is already known to be damaged is reported once."""
        known = {p.path for p in self._reader.problems}
        for record in records:
            path = os.path.join(self._folder, record["name"])
            if record["source"] is None:
                self.unread.add(record["name"])
            if record["problem"] and path not in known:
                self._reader.problems.append(Problem(path, record["problem"], record["id"]))

    # ---- the journal

    def _add_from_journal(
        self, ids: Sequence[str], now: Snapshot, table: Table, spans: dict[str, Span], fresh: FileReader
    ) -> list[int]:
        """Add to `fresh` the journal's entries that are newer. Return the row numbers that they replace."""
        dropped: list[int] = []
        for sample_id in filter(now.journal.entries.get, ids):
            start = fresh.rows.n
            newer = list(_newer_than(_identities(table, spans.get(sample_id, (0, 0))), now.journal.entries[sample_id]))
            added = [row for row, s in newer if fresh.rows.add_exactly(s.group, now.journal.body(s))]
            dropped += added
            if damaged := len(newer) - len(added):
                self._reader.problems.append(Problem(self._folder, f"has {damaged} damaged entries", sample_id))
            fresh.files.append({"id": sample_id, "source": NBRUN, "n": fresh.rows.n - start})
        return dropped


def _rows_in(packs: Iterable[Pack]) -> int:
    return sum(pack.n for pack in packs)


#: The number of no row.
_NO_ROW = -1


def _newer_than(
    before: Mapping[tuple[str, bytes, int], tuple[int, int, bool]], stored: Mapping[Identity, Stored]
) -> Iterator[tuple[int, Stored]]:
    """Yield the journal's entries that count instead of rows of files, each after the row that it replaces.

    Args:
        before: as `_identities` returns it.
    """
    for identity_of, s in stored.items():
        row, seq, is_done = before.get(identity_of, (_NO_ROW, -1, False))
        if row == _NO_ROW or is_newer(s, seq, is_done):
            yield row, s


_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def are_integers(runs: Iterable[RunRecord], ids: Iterable[str]) -> bool:
    """Return whether every id was given as an integer: some run recorded that, and none recorded texts.

    Runs of older versions recorded neither and are ignored; if no run recorded it, ids are texts.
    """
    said = {r["ids"] for r in runs if isinstance(r.get("ids"), str)}
    return said == {INTEGER_IDS} and all(map(is_integer, ids))


def is_integer(sample_id: str) -> bool:
    """Return whether an id is the text of an integer of 64 bits, in its only spelling."""
    return _INTEGER.fullmatch(sample_id) is not None and -(2**63) <= int(sample_id) < 2**63


def settings_of_runs(runs: Iterable[RunRecord]) -> dict[str, JsonObject]:
    """Return the `settings=` of each run that had some, by run_id."""
    given = {run["run_id"]: run.get("given_settings") for run in runs if isinstance(run.get("run_id"), str)}
    return {run_id: settings for run_id, settings in given.items() if isinstance(settings, dict) and settings}


def _settings_columns(table: Table, settings: Mapping[str, JsonObject]) -> dict[str, SparseColumn]:
    """Return columns `setting_<key>`: what the run of each row was given."""
    of = table.texts["run_id"]
    out = {}
    for key in dict.fromkeys(chain.from_iterable(settings.values())):
        of_runs = _of_each_run(key, of.texts, settings)
        place = np.full(len(of.texts) + 1, -1)  # the last is for rows without a run
        place[of_runs.rows] = np.arange(len(of_runs.rows))
        found = place[of.codes]
        rows = np.flatnonzero(found >= 0)
        out[f"setting_{key}"] = SparseColumn(of_runs.kind, rows, of_runs.values[found[rows]], of_runs.texts)
    return out


def _of_each_run(key: str, run_ids: Sequence[str], settings: Mapping[str, JsonObject]) -> SparseColumn:
    """Return what each run was given for one key of `settings=`, in the order of `run_ids`."""
    values = SparseColumnBuilder()
    for number, run_id in enumerate(run_ids):
        value = settings.get(run_id, {}).get(key)
        if value is not None:
            values.rows.append(number)
            values.values.append(value if isinstance(value, (str, int, float)) else dump(value))
    return sparse_column_of(values.settle())


def _identities(table: Table, span: Span) -> dict[tuple[str, bytes, int], tuple[int, int, bool]]:
    """Return identity -> row, seq and whether it is a result, of one sample's rows."""
    start, stop = span
    groups = table.texts["group"]
    names = np.array([*groups.texts, None], object)[groups.codes[start:stop]].tolist()
    keys = [k.tobytes() for k in table.keys[start:stop]]
    occurrences = table.numbers["occurrence"][start:stop].tolist()
    seqs = table.numbers["seq"][start:stop].tolist()
    places = zip(range(start, stop), seqs, _are_done(table, slice(start, stop)).tolist(), strict=True)
    return dict(zip(zip(names, keys, occurrences, strict=True), places, strict=True))


def _are_done(table: Table, rows: Array | slice) -> Array:
    """Return of each of these rows whether it is a result."""
    status = table.texts["status"]
    return np.array([*(text == "done" for text in status.texts), False])[status.codes[rows]]


def _spans(records: Sequence[FileRecord]) -> dict[str, Span]:
    """Return sample id -> the range of its rows."""
    out: dict[str, Span] = {}
    at = 0
    for record in records:
        if record["id"] is not None:
            out[record["id"]] = (at, at + record["n"])
        at += record["n"]
    return out


def _cut(ids: list[str], infos: dict[str, FileInfo], stride_bytes: float) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for sample_id in ids:
        some.append(sample_id)
        size += infos[sample_id].size if sample_id in infos else 0
        if size >= stride_bytes:
            yield some
            some, size = [], 0
    if some or stride_bytes == ALL:
        yield some


# ---- the cache


SUFFIX = ".rows"
#: With more parts, or more outdated rows than current ones, the whole cache is rewritten.
MAX_PARTS = 12
#: How coarse a file system's clock without fractions of a second may be, in ns (NFS: some of them).
COARSE_NS = 2_000_000_000


@dataclass(slots=True)
class Kept:
    """A file's rows in the cache: the part, and the range of rows in it."""

    part: int
    start: int
    stop: int
    record: FileRecord

    def is_as_listed(self, info: FileInfo) -> bool:
        """Return False for a file that was listed again, and had changed since it was found in the cache."""
        return info.place is not None or (self.record["ident"] or [])[:2] == [info.size, info.mtime_ns]


def _is_record(record: FileRecord) -> bool:
    """Return whether a record has what the cache must know. It may come from another person's directory."""
    if type(record.get("name")) is not str:
        return False
    return record.get("ident") is None or (  # without an identity nothing is taken from it
        type(record.get("id")) is str
        and type(record.get("max_seq")) is int
        and record.get("source") in (NBRUN, PROGRESS, LEGACY)
    )


def _release(data: mmap.mmap, start: int, end: int) -> None:
    """Give a part of a mapped file back to the system, whole pages of it: texts would be in memory twice."""
    if hasattr(mmap, "MADV_DONTNEED"):
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            data.madvise(mmap.MADV_DONTNEED, first, last - first)


class RowCache:
    """The cache of one results directory."""

    def __init__(self, results: Path, *, is_used: bool = True) -> None:
        self._results = results
        self.folder = results / FOLDER / "cache"
        self.packs: list[Pack] = []
        self._paths: list[str] = []
        self._unusable: list[str] = []
        self._by_name: dict[str, Kept] = {}
        self.hits: dict[str, Kept] = {}  # what `known` has found unchanged
        if is_used and self._is_ours():
            self._open()

    def _is_ours(self) -> bool:
        """Return whether the folder is, or may be created, inside the results directory and not behind a link."""
        folders = (self.folder.parent, self.folder)
        return all(plain_files.is_real_folder(folder) for folder in folders if os.path.lexists(folder))

    def _open(self) -> None:
        try:
            names = sorted(n for n in os.listdir(self.folder) if n.endswith(SUFFIX))
        except OSError:
            return
        for name in names:
            self._open_part(os.path.join(self.folder, name))

    def _open_part(self, path: str) -> None:
        try:
            with plain_files.open_reading(path) as f:
                data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            self._add(unpack(memoryview(data), partial(_release, data)), path)
        except BadPack:  # damaged, or by another version of nbrun
            self._unusable.append(path)
        except (OSError, ValueError):  # ValueError: an empty file can't be mapped
            pass

    def _add(self, pack: Pack, path: str) -> None:
        """Add a part, unless another person has made it of something else."""
        if not all(map(_is_record, pack.files)):
            return
        stops = accumulate(record["n"] for record in pack.files)
        for record, stop in zip(pack.files, stops, strict=True):
            self._by_name[record["name"]] = Kept(len(self.packs), stop - record["n"], stop, record)
        self.packs.append(pack)
        self._paths.append(path)

    def known(self, entry: os.DirEntry[str]) -> FileInfo | None:
        """Return the listing of a file from the cache if the file is unchanged, else None (for list_samples)."""
        self.hits.pop(entry.name, None)  # files may be listed several times, and this one have changed since
        kept = self._by_name.get(entry.name)
        if kept is None:
            return None
        stat = entry.stat(follow_symlinks=False)
        record = kept.record
        if identity(stat) != record["ident"]:
            return None
        assert record["id"] is not None  # see _is_record
        assert record["source"] is not None
        self.hits[entry.name] = kept
        info = FileInfo(entry.name, record["id"], record["source"], stat.st_size, stat.st_mtime_ns)
        info.seen_seq = record["max_seq"]
        return info

    def know_archived(self, name: str, place: Place) -> None:
        """Look up an archived file; it counts as a hit if its rows were read from that very member."""
        self.hits.pop(name, None)  # of the file, where it was listed before it was archived
        kept = self._by_name.get(name)
        if kept is not None and kept.record["ident"] == identity_in(place):
            self.hits[name] = kept

    def keep(
        self,
        fresh: Callable[[], Pack],
        whole: Callable[[], Pack],
        records: Iterable[FileRecord],
        is_outdated: bool,
        read_at: float,
    ) -> None:
        """Store the rows that were read now.

        Args:
            fresh: makes a pack of the files that were read now.
            whole: makes a pack of all files, should the parts be put together.
            records: of the files that were read now.
            is_outdated: most rows of the parts are outdated.
            read_at: the time.time() at which reading began.
        """
        size = sum(record["ident"][0] for record in records if record["ident"])
        if size < TUNING.cache_from_bytes or not self._is_ours():
            return
        is_whole = is_outdated or len(self.packs) >= MAX_PARTS
        with suppress(OSError, MemoryError):  # a full disk, say, or little memory: a missing cache only costs time
            self._write(whole() if is_whole else fresh(), read_at)
            for path in self._unusable + self._paths * is_whole:
                files.remove(Path(path))

    def _write(self, pack: Pack, read_at: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        beside = self.folder / f"{name}.tmp"
        beside.touch()
        try:
            took_ns = int((time.time() - read_at) * 1e9)
            now = beside.stat().st_ctime_ns - took_ns  # when reading began, by the disk's clock
            for record in pack.files:
                if record["ident"] and _may_change_unseen(record["ident"], now):
                    record["ident"] = None
            files.put_derived(self.folder / (name + SUFFIX), pack.to_parts(), beside)
        except (OSError, MemoryError):
            beside.unlink(missing_ok=True)
            raise


def _may_change_unseen(ident: list[int], now_ns: int) -> bool:
    """Return whether a file was changed so shortly before that its times may stay equal when it changes again."""
    ctime_ns = ident[2]
    clock_ns = COARSE_NS if ctime_ns % 1_000_000_000 == 0 else TUNING.fine_clock_ns
    return now_ns - ctime_ns < clock_ns


# ---- how far reading is


#: How often the line changes, in seconds.
EVERY_S = 0.2


class ProgressLine:
    """A line on stderr that shows the progress of reading, in a terminal or a notebook.

    Threads: `read` from any; `_lock` protects the counter and the time of the last line.
    """

    def __init__(self) -> None:
        self.total = 0
        self._read = 0
        self._began = time.monotonic()
        self._printed_at = 0.0
        self._lock = threading.Lock()

    def read(self, count: int) -> None:
        """Count `count` more bytes, and print the line when it is due."""
        now = time.monotonic()
        with self._lock:
            self._read += count
            is_late = now - self._began > TUNING.progress_line_after_s
            due = is_late and now - self._printed_at > EVERY_S and self._is_visible()
            if due:
                self._printed_at = now
            done, total = self._read, max(self.total, 1)
        if due:
            share = min(1.0, done / total)
            bar = f"{'█' * int(share * 20):░<20}"
            self._print(f"\rnbrun reads results {bar} {share:4.0%} of {bytes_text(total)}")

    def end(self) -> None:
        """Erase the line."""
        if self._printed_at:
            self._print("\r" + " " * 70 + "\r")
            self._printed_at = 0.0

    @staticmethod
    def _print(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)

    @staticmethod
    def _is_visible() -> bool:
        return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", lambda: False)())


# ---- each sample


class SampleCounts(NamedTuple):
    """What was counted.

    Attributes:
        samples: with those that were never begun, where their ids are known.
        problems: what could not be read.
        totals: how many samples and tasks the newest run was given; None where no run has said it.
        integer_ids: every sample id was given as an integer.
    """

    samples: list[SampleView]
    problems: list[Problem]
    totals: SampleTotals | None
    integer_ids: bool


def count_samples(results: str | os.PathLike[str]) -> SampleCounts:
    """Count each sample, in the order of ids.

    Raises:
        InputError: there is no such folder.
    """
    loader = Loader(results)
    [(table, rows)] = loader.strides()
    done, errors = _counted(table, rows)
    totals = Reader(results).totals()
    counted = list(with_totals(_views(loader, Path(results).expanduser(), done, errors), totals))
    integer_ids = loader.integer_ids and all(is_integer(v.sample_id) for v in counted)
    if integer_ids:
        counted.sort(key=lambda v: int(v.sample_id))
    return SampleCounts(counted, loader.problems, totals, integer_ids)


def _counted(table: Table, rows: Array) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Return of each sample how many tasks of each group are done, and how many tasks ended in errors."""
    samples, groups = table.texts["sample_id"], table.texts["group"]
    is_done = _are_done(table, rows)
    of, width = samples.codes[rows].astype(np.int64), max(len(groups.texts), 1)
    cells = (of * width + groups.codes[rows])[is_done]
    counts = np.bincount(cells, minlength=len(samples.texts) * width).reshape(-1, width).tolist()
    done = {
        sample_id: {group: n for group, n in zip(groups.texts, of_sample, strict=False) if n}
        for sample_id, of_sample in zip(samples.texts, counts, strict=True)
    }
    errors = np.bincount(of[~is_done], minlength=len(samples.texts)).tolist()
    return done, dict(zip(samples.texts, errors, strict=True))


def _views(
    loader: Loader, path: Path, done: Mapping[str, dict[str, int]], errors: Mapping[str, int]
) -> Iterator[SampleView]:
    """Yield each sample that has a file that could be read, or any entry."""
    for sample_id in sorted({*loader.infos, *done} - {""}):
        info = loader.infos.get(sample_id)
        counts, failed = done.get(sample_id, {}), errors.get(sample_id, 0)
        if info is not None and info.name in loader.unread and not counts and not failed:
            continue
        header, match = loader.headers.get(sample_id, {}), loader.matches.get(sample_id)
        yield summarise(sample_id, path, info, header, match, counts, failed)
