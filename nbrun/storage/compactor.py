"""The compactor moves results from the journal into samples' files: at a sample's end, now and then, at a run's end.

Threads: up to MAX_THREADS "nbrun-files" threads write the files that are due (their fsyncs overlap: four take a third
of the time of one). A worker waits where too many are due, so that short tasks don't outrun them. `finish` runs in the
thread that closes the store.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from nbrun.errors import ThreadLimitError
from nbrun.results.format import FOLDER, segment_name, temporary
from nbrun.storage import files
from nbrun.storage.journal import Journal, Segment
from nbrun.storage.sample_state import SampleState
from nbrun.storage.sample_writer import write_sample
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: Another thread is started where more than ANOTHER_FROM samples are due, up to MAX_THREADS; workers wait from MAX_DUE.
ANOTHER_FROM, MAX_THREADS, MAX_DUE = 2, 8, 64


class Compactor:
    """The queue of samples whose files are due, and the threads that write them.

    Args:
        on_fault: called when the disk refuses; the sample stays due and is tried again after `retry_after_fault`.
        on_problem: called with a state whose `problem` describes a problem of the sample's file.
        check_place: called now and then by an idle thread; raises OSError where the directory was moved.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        on_fault: Callable[[Exception], None],
        on_problem: Callable[[SampleState], None] = lambda state: None,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_place = check_place
        self._folder, self._journal = folder, journal
        self._tmp = str(folder / FOLDER / "tmp") + "/"
        self._path = str(folder)
        self._on_fault, self._on_problem = on_fault, on_problem
        self._lock = threading.Lock()  # protects the queues, flags and threads below; never held over I/O
        self._work = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._due: deque[SampleState] = deque()
        self._open: dict[SampleState, None] = {}  # samples with results that no file holds, oldest first
        self._busy = 0
        self._closing = self._broken = False
        self._deleting = threading.Lock()  # one thread at a time deletes segments: held over I/O on purpose
        self._room = threading.Condition(self._lock)  # workers wait here
        self._threads: list[threading.Thread] = []
        self._add_thread()

    # ---- journal's thread

    def touched(self, states: list[SampleState]) -> None:
        """Note samples that may have new saved results."""
        with self._lock:
            for state in states:
                if state not in self._open and state.is_behind:
                    state.dirty_since = time.monotonic()
                    self._open[state] = None

    def write_soon(self, state: SampleState) -> None:
        """Queue a sample that ended and is saved. One whose file is being written is queued afterwards if needed."""
        with self._lock:
            if state.filing:
                return
            state.filing = True
            self._due.append(state)
            self._work.notify()
            if len(self._due) > ANOTHER_FROM and len(self._threads) < MAX_THREADS:
                self._add_thread()

    def _add_thread(self) -> None:
        number = len(self._threads)
        name = f"nbrun-files-{number}" if number else "nbrun-files"
        try:
            self._threads.append(start_daemon(self._run, name))
        except ThreadLimitError:
            if not self._threads:
                raise

    # ---- workers

    def wait_for_room(self) -> None:
        """Wait while too many ended samples are in memory."""
        if len(self._due) < MAX_DUE:
            return
        with self._lock:
            self._room.wait_for(lambda: len(self._due) < MAX_DUE or self._broken or self._closing)

    # ---- control

    def retry_after_fault(self) -> None:
        """Try again after a fault."""
        with self._lock:
            self._broken = False
            self._work.notify_all()

    def finish(self, timeout_s: float | None = None) -> bool:
        """Write all results to files. Call it only when no more results come. Return False on a fault or a time-out."""
        with self._lock:
            while True:
                behind = [state for state in self._open if not state.filing and state.is_behind]
                for state in behind:
                    state.filing = True
                    self._due.append(state)
                self._work.notify_all()
                for _ in range(min(MAX_THREADS, len(self._due)) - len(self._threads)):
                    self._add_thread()
                done = self._idle.wait_for(lambda: self._broken or not (self._due or self._busy), timeout_s)
                if not done or self._broken:
                    return False
                if not behind:  # else one may have been written while its last results were being saved
                    return True

    def close(self) -> None:
        """End each thread after the file that it writes."""
        with self._lock:
            self._closing = True
            self._work.notify_all()
            self._room.notify_all()
        for thread in self._threads:
            thread.join(5.0)

    def delete_all_segments(self, carried: int) -> bool:
        """At a clean end, delete every segment whose entries are in files. Return False on a fault.

        Args:
            carried: the number of the segment that holds attempts from before this run; 0 where there is none.
        """
        try:
            self._delete_segments(self._journal.segments.release({}))
            self._journal.segments.remove_strays()
            if carried:
                files.remove(self._folder / FOLDER / segment_name(carried))
            files.sync_folder(self._folder)
        except OSError as e:
            self._on_fault(e)
            return False
        return True

    # ---- the compactor's threads

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._due or self._broken:
                    if self._closing:
                        return
                    if not self._work.wait(TUNING.stale_look_s) and not self._broken:
                        self._look_for_stale()
                        break
                if self._closing:
                    return
                state = self._due.popleft() if self._due and not self._broken else None
                self._busy += state is not None
            if state is not None:
                self._write(state)
            else:
                self._look_at_place()

    def _look_at_place(self) -> None:
        """Notice a directory that was moved although nothing is saved for a long time."""
        try:
            self._check_place()
        except Exception as e:  # any other error is nbrun's own; no thread may wait for this one then either
            with self._lock:
                if self._broken or self._closing:
                    return
                self._broken = True
                self._idle.notify_all()
                self._room.notify_all()
            self._on_fault(e)

    def _look_for_stale(self) -> None:
        """Queue the samples whose results are in no file for too long. The caller holds the lock."""
        now = time.monotonic()
        for state in self._open:
            if now - state.dirty_since < TUNING.stale_s:
                break
            if not state.filing and now - state.dirty_since > TUNING.cost_ratio * state.file_cost_s:
                state.filing = True
                self._due.append(state)

    def _write(self, state: SampleState) -> None:
        began = time.monotonic()
        try:
            freed = write_sample(state, self._path, self._tmp + temporary(state.name), self._journal.segments.hold)
            if state.problem:
                self._on_problem(state)
            with self._lock:
                state.file_cost_s = time.monotonic() - began
                self._open.pop(state, None)
                if state.is_behind:
                    state.dirty_since = time.monotonic()
                    self._open[state] = None
            self._delete_segments(self._journal.segments.release(freed))
            fault: Exception | None = None
        except Exception as e:  # any other error is nbrun's own; no thread may wait for this one then either
            fault = e
        with self._lock:
            self._busy -= 1
            if fault is not None:
                self._due.append(state)
                self._broken = True
            else:
                state.filing = False
                if state.ended and not state.unsaved and state.is_behind:
                    state.filing = True
                    self._due.append(state)
            self._room.notify()
            if self._broken or not (self._due or self._busy):
                self._idle.notify_all()
                self._room.notify_all()
        if fault is not None:
            self._on_fault(fault)

    def _delete_segments(self, segments: list[Segment]) -> None:
        if not segments:
            return
        with self._deleting:
            files.sync_folder(self._folder)
            self._journal.delete_segments([s for s in segments if s in self._journal.segments])
