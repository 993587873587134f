"""Looks at every byte of a results directory: what is damaged, what that costs, and what repairing would do about it.

Without repair nothing is written and no lock is needed, so it may look while a run writes. Repair holds the directory's
lock, makes the directory whole with what can be read and deletes nothing (F10). Any thread.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from nbrun.results import plain_files
from nbrun.results.format import ARCHIVED, FOLDER, MATCH, RUN, UNCLEAN, frame
from nbrun.results.listing import Listing, Problem, is_of_member
from nbrun.results.reader import Reader, Snapshot, results_folder
from nbrun.results.replay import ARCHIVED_LOG, JournalIndex, LogScan, read_log, whole_records
from nbrun.results.sample_file import IN_SEGMENT, FileInfo, Identity, OwnFile, Stored, keep_newest
from nbrun.storage import files, lock
from nbrun.storage.directory import Directory
from nbrun.storage.recovery import recovered, rewrite_sample
from nbrun.texts import counted, escape_control_chars
from nbrun.tools.archive import take_apart

#: What repair does, by kind of damage.
REPAIRS = {
    "entries": "keeps the file in .nbrun/damaged/ and writes a new one with what can be read",
    "counts": "writes the file's counts again",
    "unreadable": "moves the file to .nbrun/damaged/",
    "double": "adds results that only it holds to the other file, if nbrun wrote both, and moves it to .nbrun/damaged/",
    "segment": "writes what can be read to the samples' files and moves the segment to .nbrun/damaged/",
    "tail": "writes what can be read to the samples' files and removes the segment",
    "log": "keeps the log in .nbrun/damaged/ and writes a new one with what can be read",
    "archived": "puts the samples of its archive that can be read into files, and keeps the archive and the readable "
    "text of the others in .nbrun/damaged/",
    "odd": "leaves it where it is; remove it, if you trust the rest of the directory",
    "foreign": "leaves it where it is",
}


#: Completes the cost of results that can't be read.
AGAIN = "They count as missing: the next run makes them again."


def _one_line(text: str) -> str:
    """Make a text safe to print: names of files and ids may come from a stranger."""
    return escape_control_chars(text).replace("\n", "␊").replace("\t", "␉")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a results directory.

    Attributes:
        path: the file.
        kind: a key of REPAIRS.
        what: what is wrong with it; completes the sentence "PATH …".
        cost: what that costs.
        repair: what repair would do, or did.
        sample_id: the sample, where that is known.
        is_repaired: repair did it.
    """

    path: str
    kind: str
    what: str
    cost: str
    repair: str
    sample_id: str | None = None
    is_repaired: bool = False

    def __str__(self) -> str:
        did = f"Repaired: {self.repair}." if self.is_repaired else f"Repair {self.repair}."
        return _one_line(f"{self.path} {self.what}. {self.cost} {did}")


@dataclass(repr=False)
class Report:
    """What `check` found.

    Attributes:
        path: the results directory.
        samples, entries: how many can be read.
        waiting: entries that are only in the journal; the next run, or repair, writes them to files.
        findings: what is wrong.
        kept: files in `.nbrun/damaged/`, from earlier.
        holder: the process that writes there now, or "".
    """

    path: str
    samples: int = 0
    entries: int = 0
    waiting: int = 0
    findings: list[Finding] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    holder: str = ""

    @property
    def is_ok(self) -> bool:
        """True where nothing is damaged, or all of it was repaired. Foreign files don't count as damage."""
        return all(f.is_repaired or f.kind == "foreign" for f in self.findings)

    def add(self, path: Path | str, kind: str, what: str, cost: str, sample_id: str | None = None) -> None:
        """Add a finding; the arguments are those of Finding."""
        self.findings.append(Finding(str(path), kind, what, cost, REPAIRS[kind], sample_id))

    def after_repair(self, left: Report) -> list[Finding]:
        """Return these findings, marked where `left` no longer has them, and the findings that only `left` has."""
        before = {(f.path, f.kind) for f in self.findings}
        still = {(f.path, f.kind) for f in left.findings}
        marked = [dataclasses.replace(f, is_repaired=(f.path, f.kind) not in still) for f in self.findings]
        return [*marked, *(f for f in left.findings if (f.path, f.kind) not in before)]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"is_ok": self.is_ok, **dataclasses.asdict(self)}

    def __repr__(self) -> str:
        left = [f for f in self.findings if not f.is_repaired]
        found = counted(len(left), "finding") if left else "nothing is damaged"
        return f"<nbrun.Report of {self.path!r}: {self.entries:,} results of {self.samples:,} samples, {found}>"

    def _repr_html_(self) -> str:
        """For a notebook: what __str__ says, with the findings as a list."""
        first, *rest = str(self).splitlines()
        items = "".join(f"<li>{escape(line)}</li>" for line in rest)
        return f"<div><p>{escape(first)}</p><ul>{items}</ul></div>"

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.entries:,} results of {self.samples:,} samples can be read."]
        lines = [_one_line(lines[0]), *map(str, self.findings)]
        if not self.findings:
            lines.append("Nothing is damaged.")
        if self.waiting:
            lines.append(f"{self.waiting:,} results are only in the journal; the next run writes them to files.")
        if self.kept:
            lines.append(f"{len(self.kept):,} files are kept in .nbrun/damaged/ from earlier.")
        if self.holder:
            lines.append(_one_line(f"{self.holder} writes there now."))
        return "\n".join(lines)


def check(results: str | os.PathLike[str], repair: bool = False) -> Report:
    """Report what is damaged in a results directory, what that costs, and what repair would do, or did.

    Args:
        results: a results directory.
        repair: make the directory whole again with what can be read. Nothing is deleted: what is damaged is kept in
            `.nbrun/damaged/`. No run may write there meanwhile.

    Raises:
        InputError: there is no such folder.
        ResultsInUseError: repair was asked for and a run writes there.

    Example:
        >>> import nbrun, tempfile
        >>> nbrun.check(tempfile.mkdtemp()).is_ok
        True
    """
    path = results_folder(results)
    plain_files.refuse_odd_folder(path / FOLDER)
    report = inspect(path)
    if repair:
        report = repair_directory(path, report)
    return report


def inspect(path: Path) -> Report:
    """Read everything, and write nothing."""
    report = Report(str(path), holder=lock.holder_of(path / FOLDER / "lock"))
    for odd, what in plain_files.odd_entries(path / FOLDER):
        report.add(odd, "odd", what, "Nothing is read or written through it, and no run starts here.")
    with Reader(path).open() as now:
        _check_listing(report, now.listing)
        for sample_id in {**now.listing.by_id, **now.journal.entries}:
            _check_sample(report, now, sample_id)
        _check_segments(report, now.journal)
    _check_logs(report, path / FOLDER)
    kept = path / FOLDER / "damaged"
    report.kept = sorted(os.listdir(kept)) if plain_files.is_real_folder(kept) else []
    return report


def _check_listing(report: Report, listing: Listing) -> None:
    for problem in listing.problems:
        kind = _kind_of_listed(problem, listing.by_id.get(problem.sample_id or ""))
        report.add(problem.path, kind, problem.what, _COSTS_OF_LISTED[kind], problem.sample_id)


_COSTS_OF_LISTED = {
    "double": "Results that only it holds don't count.",
    "entries": f"What its missing part held is lost. {AGAIN}",
    "archived": f"Results in what can't be read don't count. Repair saves some of them, if it can. {AGAIN}",
    "unreadable": f"If it held results, they can't be read. {AGAIN}",
    "foreign": "It costs nothing: it is passed over.",
}


def _kind_of_listed(problem: Problem, info: FileInfo | None) -> str:
    """Return the kind of a problem. `info`: the file that counts for its sample."""
    if info is not None and "same sample" in problem.what:
        return "double"
    if info is not None and info.is_damaged and problem.path.endswith(info.name):
        return "entries"
    if not _may_be_results(problem):
        return "foreign"
    return "archived" if problem.path.endswith(".zip") else "unreadable"


def _may_be_results(problem: Problem) -> bool:
    return problem.sample_id is not None or is_of_member(problem.what) or _may_be_a_sample(problem.path)


def _may_be_a_sample(path: str) -> bool:
    """Return whether a file may have been a sample's: it is empty or no JSON. Other JSON is the user's own."""
    try:
        with plain_files.open_reading(path) as f:
            head = f.read(64).lstrip()
    except OSError:
        return False
    return not head.startswith((b"{", b"[")) or head[:1] == b""


def _check_sample(report: Report, now: Snapshot, sample_id: str) -> None:
    info = now.listing.by_id.get(sample_id)
    problems: list[Problem] = []
    with now.open_sample(sample_id, problems) as saved:
        if saved is not None:
            report.samples += 1
            report.entries += len(saved.entries)
            report.waiting += sum(s.where >= IN_SEGMENT for s in saved.entries)
            if info is not None and saved.own is not None and not saved.damaged:
                _check_counts(report, now.path / info.name, info, saved.own)
    for problem in problems:
        _report_entries(report, now, problem, info, sample_id)


def _report_entries(report: Report, now: Snapshot, problem: Problem, info: FileInfo | None, sample_id: str) -> None:
    """Add what was found while a sample's entries were read."""
    if kind := _kind_of_entries(problem, info, now.path):
        what = counted(problem.entries, "result") if problem.entries else "Its results"
        again = AGAIN if kind == "segment" else _AGAIN_IF_FINISHED.format(sample_id)
        report.add(problem.path, kind, problem.what, f"{what} can't be read. {again}", sample_id)


#: Completes the cost of results in a file whose last lines, or the index of its archive, may say that its sample is
#: finished: then no run looks at its entries.
_AGAIN_IF_FINISHED = (
    "Once that is repaired they count as missing, and the next run makes them again; until then a run does so that is "
    "started with redo=[{!r}]."
)


def _kind_of_entries(problem: Problem, info: FileInfo | None, folder: Path) -> str:
    """Return the kind of a problem that was found while entries were read; "" where their file was deleted since."""
    if problem.entries:
        return "segment" if problem.path == str(folder) else "entries"
    if info is not None and info.place is not None:
        return "archived"
    return "unreadable" if info is not None and os.path.lexists(problem.path) else ""


def _check_counts(report: Report, file: Path, info: FileInfo, own: OwnFile) -> None:
    """Compare what a file's progress object says with the entries that it holds."""
    counts = _done_in(own)
    says = {group: (info.progress or {}).get(f"completed_{group}s") for group in (*own.groups, *counts)}
    wrong = [
        f"says completed_{group}s {n}, but holds {counts[group]}"
        for group, n in says.items()
        if n not in (None, counts[group])
    ]
    if wrong:
        cost = "Counts that are read from its last line are wrong."
        report.add(file, "counts", "; ".join(wrong), cost, info.sample_id)


def _done_in(own: OwnFile) -> Counter[str]:
    """Return how many results of items of the dataset a file holds, by group."""
    newest: dict[Identity, Stored] = {}
    for head in own.heads:
        keep_newest(newest, head.identity, head)
    return Counter(head.group for head in newest.values() if head.is_done and head.item_index is not None)


def _check_segments(report: Report, journal: JournalIndex) -> None:
    for number, path in journal.segments.items():
        scan = journal.damaged.get(number)
        if scan is not None:
            report.add(path, "segment", str(scan), f"Each costs one result at most. {AGAIN}")
        elif not report.holder and (torn := _torn_bytes(path)):
            cost = "It costs nothing that was saved: a result was being written when the run was killed."
            report.add(path, "tail", f"ends in {torn} bytes of a record", cost)


def _read_to_end(records: Iterable[object]) -> None:
    """Read a log, so that its scan says what is damaged."""
    for _ in records:
        pass


def _torn_bytes(path: Path) -> int:
    scan = LogScan()
    with suppress(FileNotFoundError):
        _read_to_end(read_log(path, scan))
        return path.stat().st_size - scan.good_bytes
    return 0


#: Each log beside the journal: the kind of its records, and what a damaged one costs.
_LOGS = {
    "unclean.log": (UNCLEAN, "It costs nothing that was saved: a task that kills its process is suspected later."),
    "runs.log": (RUN, "Settings of an earlier run aren't known, so its results can't be distinguished by them."),
    "matched.log": (MATCH, "Old files are matched with the dataset again when their samples are next run."),
    ARCHIVED_LOG: (ARCHIVED, "A sample that was taken out of an archive may come back when its file is deleted."),
}


def _check_logs(report: Report, inner: Path) -> None:
    for name, (kind, cost) in _LOGS.items():
        scan = LogScan()
        try:
            _read_to_end(whole_records(inner / name, kind, scan))
        except OSError as e:
            report.add(inner / name, "foreign", f"can't be read: {e.strerror}", cost)
            continue
        if scan.damaged:
            report.add(inner / name, "log", str(scan), cost)


# ---- repair: holds the directory's lock


def repair_directory(path: Path, report: Report) -> Report:
    """Repair what `report` found, and look again.

    Raises:
        ResultsInUseError: a run writes there.
        StorageError: the disk refused; what was repaired before that stays.
    """
    if damaged := {Path(finding.path).name for finding in report.findings if finding.kind == "archived"}:
        take_apart(path, damaged)
    with recovered(path) as directory:
        for finding in report.findings:
            if finding.kind in _REPAIRERS:
                _REPAIRERS[finding.kind](directory, finding)
    after = inspect(path)
    after.findings = report.after_repair(after)
    return after


def _rewrite(directory: Directory, finding: Finding) -> None:
    info = directory.listing.by_id.get(finding.sample_id or "")
    if info is not None and info.name == Path(finding.path).name:
        rewrite_sample(directory, info if info.place is None else directory.take_out(info))
        files.sync_folder(directory.path)


def _set_aside(directory: Directory, finding: Finding) -> None:
    file = Path(finding.path)
    if file.is_file():
        directory.quarantine(file)


def _set_double_aside(directory: Directory, finding: Finding) -> None:
    """Keep a second file of a sample aside, unless it counts by now: the archived one was put in its place."""
    info = directory.listing.by_id.get(finding.sample_id or "")
    if info is None or info.place is not None or info.name != Path(finding.path).name:
        _set_aside(directory, finding)


def _rewrite_log(directory: Directory, finding: Finding) -> None:
    log = Path(finding.path)
    kind, _ = _LOGS[log.name]
    kept = b"".join(frame(r.kind, r.body, r.whose) for r in whole_records(log, kind))
    directory.quarantine(log, is_copy=True)
    files.replace_file(log, (kept,), directory.inner / "tmp" / (log.name + ".tmp"))
    files.sync_folder(directory.inner)


#: What repairs a kind of finding, once archives are taken apart and what the journal held is in files.
_REPAIRERS: Mapping[str, Callable[[Directory, Finding], None]] = {
    "entries": _rewrite,
    "counts": _rewrite,
    "unreadable": _set_aside,
    "double": _set_double_aside,
    "log": _rewrite_log,
}
