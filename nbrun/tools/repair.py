"""Makes a damaged results directory whole with what can be read. Nothing is deleted (F10).

Holds the directory's lock; one thread.
"""

from __future__ import annotations

from pathlib import Path

from nbrun.results import archives
from nbrun.results.format import ARCHIVED, MATCH, RUN, UNCLEAN, frame
from nbrun.storage import files
from nbrun.storage.directory import Directory
from nbrun.storage.lock import DirectoryLock
from nbrun.storage.recover import recover, rewrite_sample
from nbrun.storage.runlog import RecordLog
from nbrun.tools.check import inspect
from nbrun.tools.report import Finding, Report


def repair_directory(path: Path, report: Report) -> Report:
    """Repairs what `report` found and looks again.

    Raises:
        ResultsInUseError: a run writes there.
        StorageError: the disk refused; what was repaired before that stays.
    """
    directory = Directory(path)
    guard = DirectoryLock(directory.inner / "lock")
    try:
        directory.scan()
        recover(directory)  # what the journal holds goes to files; damaged segments are kept aside
        for finding in report.findings:
            _repair(directory, finding)
    finally:
        directory.close()
        guard.release()
    after = inspect(path)
    after.findings = report.after_repair(after)
    return after


def _repair(directory: Directory, finding: Finding) -> None:
    file = Path(finding.path)
    if finding.kind in ("entries", "counts"):
        info = directory.listing.by_id.get(finding.sample_id or "")
        if info is not None and info.name == file.name:
            rewrite_sample(directory, info)
            files.sync_folder(directory.path)
    elif finding.kind in ("unreadable", "double") and file.is_file():
        directory.set_aside(file.name)
    elif finding.kind == "log":
        _rewrite_log(directory, file)


def _rewrite_log(directory: Directory, log: Path) -> None:
    kind = {"runs.log": RUN, "matched.log": MATCH, "unclean.log": UNCLEAN, archives.LOG: ARCHIVED}[log.name]
    kept = b"".join(frame(r.kind, r.body, r.whose) for r in RecordLog(log, kind).records())
    directory.keep_log_aside(log)
    files.replace_file(log, (kept,), directory.inner / "tmp" / (log.name + ".tmp"))
    files.sync_folder(directory.inner)
