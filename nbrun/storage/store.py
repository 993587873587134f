"""The results directory as a running kernel writes it: opens samples, takes results, keeps their files.

Threads:
    opener     `ResultStore(...)`, `close`: the thread that starts a run or ends it
    feeder     `begin`, one sample after another
    workers    `encode`, `put`, `put_attempt`, `ended` (model.ResultSink)
    journal    "nbrun-journal": saves, and reports which samples have new saved results
    compactor  "nbrun-files" (see compactor.py)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import ParamSpec, cast

from nbrun.errors import ResultsInUseError, ResultsMovedError, StorageError
from nbrun.model import EncodedResult, Retry, Task
from nbrun.results import values
from nbrun.results.format import JsonObject
from nbrun.results.listing import Problem
from nbrun.results.reader import SampleTotals
from nbrun.results.replay import Attempt
from nbrun.results.sample_file import FileInfo
from nbrun.results.values import load
from nbrun.samples import Sample
from nbrun.storage import entry, files
from nbrun.storage.compactor import Compactor
from nbrun.storage.directory import Directory, InFlightTasks, Manifest, write_totals
from nbrun.storage.entry import EntryRecord
from nbrun.storage.journal import Journal
from nbrun.storage.lock import DirectoryLock
from nbrun.storage.recovery import attempt_body, decode_hint, recover
from nbrun.storage.resume import RerunRules, ResumePlan, ResumePlanner
from nbrun.storage.sample_state import DONE, SampleState
from nbrun.texts import bytes_text
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: How many results make an average of what one takes on the disk.
SPACE_MIN_RESULTS = 100


class ResultStore:
    """One process's hold on a results directory, from open to close.

    Args:
        path: the results directory; made where it is missing.
        run: the run record (run_id, settings, …), saved before the first result can be.
        keep_items: store each item in its entry.
        totals: how many samples and tasks the run was given, as far as that is known.
        on_fault: called when the disk refuses.

    Raises:
        ResultsInUseError, StorageError, FormatError.
    """

    def __init__(
        self,
        path: Path,
        run: Mapping[str, object],
        *,
        keep_items: bool = True,
        totals: SampleTotals | None = None,
        on_fault: Callable[[Exception], None] = lambda e: None,
    ) -> None:
        values.look_at_memory_limit()
        self.path = path
        self.run_id = str(run["run_id"])
        self._on_fault = on_fault
        self._lock = threading.Lock()  # protects `ended` of the samples' states; never held over I/O
        self._space: SpaceWatch | None = None
        self._fault_lock = threading.Lock()  # one thread at a time makes folders again: held over I/O on purpose
        self._is_closed = False  # changed with _fault_lock held
        self._is_new = False  # the inner folder was made again, but doesn't hold all it needs yet
        try:
            with ExitStack() as opened:  # what was opened is closed again where the rest can't be
                self._open(run, keep_items, totals or SampleTotals(), opened)
                opened.pop_all()
        except OSError as e:
            raise _refused(path, e) from e

    def _open(self, run: Mapping[str, object], keep_items: bool, totals: SampleTotals, opened: ExitStack) -> None:
        self.directory = directory = Directory(self.path)
        opened.callback(directory.close)
        self._guard = DirectoryLock(directory.inner / "lock")
        opened.callback(self._guard.release)
        directory.scan()
        self.earlier_runs = directory.runs()
        recovery = recover(directory)
        self.recovered = recovery.recovered
        self._carried = recovery.next_segment - 1 if recovery.attempts else 0
        self.in_flight = InFlightTasks(directory.inner, directory.unclean_log)
        quarantined = self.in_flight.take_over(recovery.next_seq - 1)
        self._run_record = {**run, "seq": recovery.next_seq - 1}
        self.note_totals(totals)
        self.journal = Journal(
            directory.inner,
            recovery.next_segment,
            recovery.next_seq,
            self._saved,
            self._on_fault,
            directory.check_place,
        )
        opened.callback(self.journal.close, 1.0)
        self._planner = ResumePlanner(directory, self.journal, recovery, self.run_id, quarantined, keep_items)
        self.compactor = Compactor(
            self.path, self.journal, self._on_fault, self._planner.note_problem, directory.check_place
        )
        self.manifest = Manifest(self.path, directory.inner, [i.name for i in directory.listing.by_id.values()])
        self.in_flight.begin(self.run_id)

    def watch_space(self, warn: Callable[[str], None], remaining: Callable[[], int | None]) -> SpaceWatch:
        """Watch the disk's free space from now on. Arguments: see SpaceWatch. Call it before the first sample."""
        self._space = SpaceWatch(self.path, self.directory.listing.by_id.values(), warn, remaining)
        return self._space

    def note_totals(self, totals: SampleTotals) -> None:
        """Save the run record with the numbers of samples and tasks. A later record replaces an earlier one."""
        self.amend_run(**write_totals(self.directory.inner, totals))

    @property
    def problems(self) -> list[Problem]:
        """What could not be read so far."""
        return self.directory.listing.problems

    @property
    def lock_caveat(self) -> str:
        """What this file system can't promise, as sentences for the user; else ""."""
        return " ".join(filter(None, (self._guard.lock_caveat, files.caveat(self.path))))

    @property
    def unvisited(self) -> int:
        """How many samples of the directory were not begun so far."""
        return len(self.directory.listing.by_id)

    # ---- feeder

    def is_new(self, sample_id: str) -> bool:
        """Return whether no file of the directory holds a sample that was not begun."""
        return sample_id not in self.directory.listing.by_id

    def begin(self, sample: Sample, rules: RerunRules, wait_for_resume: Callable[[], bool]) -> ResumePlan:
        """Match a sample with what is saved of it.

        Args:
            rules: which saved results run again.
            wait_for_resume: called after a fault; returns True once the run was resumed, False when it was stopped.

        Raises:
            OSError: the disk refused, and the run was stopped instead of resumed.
        """
        infos = self.directory.listing.by_id
        while True:
            info = infos.pop(sample.id, None)
            try:
                plan = self._planner.plan(sample, info, rules)
                if plan.state is not None:
                    self.manifest.add(plan.state.name)
                return plan
            except OSError as e:
                if info is not None and not os.path.lexists(self.path / (info.place or info).name):
                    what = "was removed while the run went on; what it held counts as missing"
                    self.directory.note(self.path / info.name, what, sample.id)
                    continue
                if info is not None:
                    infos[sample.id] = info
                self._on_fault(e)
                if not wait_for_resume():
                    raise

    def amend_run(self, **fields: object) -> None:
        """Save this run's record again with these fields; the last record counts."""
        self._run_record = {**self._run_record, **fields}
        self.directory.run_log.append(self._run_record)

    # ---- workers: model.ResultSink

    def flush(self) -> bool:
        """See ResultSink."""
        return self.journal.flush()

    def begin_tasks(self, slot: int, fingerprints: bytes) -> None:
        """See ResultSink."""
        self.in_flight.record(slot, fingerprints)

    encode = staticmethod(entry.encode)

    def observe_results(self, observe: Callable[[Mapping[str, object] | EncodedResult], None]) -> None:
        """Let workers call `observe` with each result that was encoded. Call it before the first task.

        It replaces `encode`, so that runs without an observer pay nothing for each result.
        """
        self.encode = _observed(entry.encode, observe)

    def put(self, state: SampleState, records: list[EntryRecord]) -> None:
        """See ResultSink. An error doesn't replace a result: where making it again failed, the result stays."""
        if (c := state.columns) is not None:
            records = [r for r in records if r[2] == DONE or c.status[r[0]] != DONE]
        if records:
            self.journal.put(state, records)
            self.compactor.wait_for_room()

    def put_attempt(self, state: SampleState, position: int, task: Task, retry: Retry) -> None:
        """See ResultSink."""
        data, _ = values.encode({"hint": dict(retry.hint), "previous": retry.result})
        saved = cast(JsonObject, load(data))  # as it will be read back
        hint = cast(JsonObject, saved["hint"])
        kept = Attempt(task.attempt, hint, saved["previous"], task._exceptions, task._waits_since)
        group, rank = state.sample.locate(position)
        body = attempt_body(group.key(rank), group.occurrence(rank), kept, retry.reason)
        state.attempts[position] = kept._replace(hint=decode_hint(hint), previous=retry.result)
        self.journal.put_attempt(state, position, body)

    @property
    def is_filling(self) -> bool:
        """See ResultSink."""
        return self.journal.backpressure.is_filling

    def ended(self, state: SampleState) -> None:
        """See ResultSink."""
        state.forget_copies()
        with self._lock:
            state.ended = True
        self._saved([state], 0)

    def reopen(self, state: SampleState, positions: Iterable[int]) -> None:
        """See ResultSink."""
        for position in positions:
            state.attempts.pop(position, None)
        with self._lock:
            state.ended = False

    # ---- journal's and files threads

    def _saved(self, states: list[SampleState], count: int) -> None:
        states = [state for state in states if not state.is_closed]
        with self._lock:
            due = [state for state in states if state.ended and not state.unsaved]
        self.compactor.touched(states)
        for state in due:
            self.compactor.write_soon(state)
        if count and self._space is not None:
            self._space.look(self.saved, self.journal.saved_bytes)

    # ---- control

    @property
    def unsaved(self) -> int:
        """How many results ended but are not on the disk."""
        return self.journal.backpressure.results

    @property
    def saved(self) -> int:
        """How many results of this run are on the disk."""
        return self.journal.saved

    def retry_after_fault(self, *, wherever_it_is: bool = False) -> None:
        """Try again after a fault.

        Args:
            wherever_it_is: also write where the directory was moved to: the run ends, and its results belong there.
        """
        with self._fault_lock:
            if self._is_closed or not self._restore_directory(wherever_it_is):
                return
        self.journal.retry_after_fault()
        self.compactor.retry_after_fault()

    def _restore_directory(self, wherever_it_is: bool) -> bool:
        """Make folders again that were removed. Return False where the disk refuses, which is reported.

        The caller holds `_fault_lock`.
        """
        try:
            if wherever_it_is:
                self.directory.follow()
            self._is_new = self.directory.retry_after_fault() or self._is_new
            if self._is_new:  # the inner folder had been removed, with the lock and the run's record
                self._guard.renew()
                self.directory.run_log.append(self._run_record)
                self.in_flight.begin(self.run_id)
                self._is_new = False
        except ResultsInUseError as e:
            self._on_fault(ResultsMovedError(str(e), path=str(self.path)))
            return False
        except OSError as e:
            self._on_fault(e)
            return False
        return True

    def finish(self, timeout_s: float | None = None) -> bool:
        """Save what waits, write every file that is due and delete the segments.

        Returns:
            False while there is a fault: try again after `retry_after_fault`.
        """
        return self.journal.flush(timeout_s) and self.compactor.finish(timeout_s) and self._delete_segments()

    def _delete_segments(self) -> bool:
        if self.journal.open_attempts or self._planner.attempts:
            return True
        self.journal.segments.end_current()
        return self.compactor.delete_all_segments(self._carried)

    def close(self, timeout_s: float | None = None, *, clean: bool = True) -> bool:
        """Close the directory and release its lock.

        Args:
            clean: `finish` has returned True, so the files alone are complete.

        Returns:
            False if the disk doesn't answer within `timeout_s`. The lock is then released once the last write has
            ended: a file that is still being written must not replace one that another run has written meanwhile.
        """
        with self._fault_lock:
            self._is_closed = True
        self.compactor.close(timeout_s)
        if clean and self.directory.is_in_place:  # it reaches the folder by its path
            self.manifest.save()
        self.journal.close(timeout_s)
        self.in_flight.end()
        late = [thread for thread in (self.journal.thread, *self.compactor.threads) if thread.is_alive()]
        if late:
            start_daemon(self._release, "nbrun-release", (late,))
        else:
            self._release([])
        return not late

    def _release(self, late: list[threading.Thread]) -> None:
        for thread in late:
            thread.join()
        self.directory.close()
        self._guard.release()

    def abandon(self) -> None:
        """Close the directory after an internal error."""
        try:
            self.close(5.0, clean=False)
        except BaseException:  # the error may be there too; a directory that stays locked would be worse
            self._guard.release()


_P = ParamSpec("_P")


def _observed(
    encode: Callable[_P, EntryRecord], observe: Callable[[Mapping[str, object] | EncodedResult], None]
) -> Callable[_P, EntryRecord]:
    """Return `encode`, but that it passes each result on; see model.ResultSink.encode."""

    def encode_and_observe(*args: _P.args, **kwargs: _P.kwargs) -> EntryRecord:
        record = encode(*args, **kwargs)
        result = cast("Mapping[str, object] | EncodedResult | None", args[3])
        if result is not None:
            observe(result)
        return record

    return encode_and_observe


def _refused(path: Path, e: OSError) -> StorageError:
    if isinstance(e, StorageError):
        return e
    where = f" ({e.filename})" if e.filename else ""
    return StorageError(
        f"{path} can't be opened to go on: {e.strerror or e}{where}. "
        "What is saved there stays. Fix the problem, then start again.",
        path=str(path),
    )


class SpaceWatch:
    """Estimates from the size of the results so far whether the disk has room for the rest, and warns once if not.

    Threads: `look` by the journal's thread; before that, the rest by the thread that starts the run.

    Args:
        path: the results directory.
        infos: its files as they were found.
        warn: called with a sentence.
        remaining: returns how many results are still to come; None while that is unknown.
    """

    def __init__(
        self,
        path: Path,
        infos: Iterable[FileInfo],
        warn: Callable[[str], None],
        remaining: Callable[[], int | None],
    ) -> None:
        self._path, self._warn, self._remaining = path, warn, remaining
        self._results = self._bytes = 0
        for info in infos:
            if info.summary is not None:
                self._results += int(info.summary["done"])
                self._bytes += info.size
        self._looked = time.monotonic()
        self._has_warned = False

    def shortage(self, left: int | None, saved: int = 0, saved_bytes: int = 0) -> str:
        """Return a sentence where the space won't last; "" where it will, or where that is unknown.

        Args:
            left: how many results are still to come.
            saved, saved_bytes: results of this run, and what they took.
        """
        results, size = self._results + saved, self._bytes + saved_bytes
        if results < SPACE_MIN_RESULTS or not left or left < 0:
            return ""
        each = size / results
        try:
            import shutil  # it loads two compressors, which a start would wait for

            free = shutil.disk_usage(self._path).free
        except OSError:
            return ""
        if each * left <= free:
            return ""
        return (
            f"The disk of {self._path} has {bytes_text(free)} left, but the {left:,} results that are still to come "
            f"will need about {bytes_text(round(each * left))}. Nothing is lost when it is full: the run pauses until "
            "there is room."
        )

    def look(self, saved: int, saved_bytes: int) -> None:
        """Look at the disk now and then. Called after each commit."""
        if self._has_warned or time.monotonic() - self._looked < TUNING.space_look_s:
            return
        self._looked = time.monotonic()
        text = self.shortage(self._remaining(), saved, saved_bytes)
        if text:
            self._has_warned = True
            self._warn(text)

    def at_start(self, total: int | None) -> str:
        """Return the sentence before a run that will have `total` results in the end; it isn't repeated later."""
        text = self.shortage(None if total is None else total - self._results)
        self._has_warned = bool(text)
        return text
