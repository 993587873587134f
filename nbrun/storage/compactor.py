"""Rewrites samples' files when due: at a sample's end, now and then while it is worked on, at the end of a run.

Threads: up to MAX_THREADS "nbrun-files" threads file what is due (their fsyncs overlap: four take a third of the time
of one); a worker waits where too much is due, so that short tasks can't run away from them; `finish` runs in the
thread that closes the store. `_lock` protects the queues, never over I/O.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from nbrun.errors import ThreadLimitError
from nbrun.results.format import FOLDER
from nbrun.results.names import temporary
from nbrun.storage import files
from nbrun.storage.journal import Journal, Segment
from nbrun.storage.sample_state import SampleState
from nbrun.storage.sample_writer import write_sample
from nbrun.threads import start_daemon

#: A sample at work is rewritten so long after its first result that no file holds, or later: COST_RATIO times what
#: the last rewriting took, so that rewriting takes under 5 % of the time.
STALE_S, COST_RATIO = 20.0, 20.0
LOOK_S = 2.0
#: Another thread is started where so many samples wait, up to MAX_THREADS; workers wait from MAX_DUE on.
ANOTHER_FROM, MAX_THREADS, MAX_DUE = 2, 8, 64


class Compactor:
    """The queue of samples whose files are due.

    Args:
        on_fault: called when the disk refuses; the sample stays due and is tried again after `retry_after_fault`.
        on_problem: called with a state whose `problem` says what was found wrong with its file.
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
        self._lock = threading.Lock()  # protects what follows
        self._work = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._due: deque[SampleState] = deque()
        self._open: dict[SampleState, None] = {}  # states with results that no file holds, oldest first
        self._busy = 0
        self._closing = self._broken = False
        self._deleting = threading.Lock()  # one thread at a time removes segments; held over I/O on purpose
        self._room = threading.Condition(self._lock)  # workers wait here
        self._threads: list[threading.Thread] = []
        self._add_thread()

    # ---- journal's thread

    def touched(self, states: list[SampleState]) -> None:
        """These may have new saved results."""
        with self._lock:
            for state in states:
                if state not in self._open and state.is_behind:
                    state.dirty_since = time.monotonic()
                    self._open[state] = None

    def file_soon(self, state: SampleState) -> None:
        """The sample ended and all of it is saved: file it, once; if it is being filed, that is looked at after it."""
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
        """Waits while too many ended samples are in memory."""
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
        """Files everything that has results which no file holds. Only when no results come any more."""
        with self._lock:
            while True:
                behind = [b for b in self._open if not b.filing and b.is_behind]
                for state in behind:
                    state.filing = True
                    self._due.append(state)
                self._work.notify_all()
                for _ in range(min(MAX_THREADS, len(self._due)) - len(self._threads)):
                    self._add_thread()
                done = self._idle.wait_for(lambda: self._broken or not (self._due or self._busy), timeout_s)
                if not done or self._broken:
                    return False
                if not behind:  # else one may have been filed while its last results were being saved
                    return True

    def close(self) -> None:
        """Ends the thread after the file it writes."""
        with self._lock:
            self._closing = True
            self._work.notify_all()
            self._room.notify_all()
        for thread in self._threads:
            thread.join(5.0)

    def delete_all_segments(self, carried: int) -> bool:
        """At a clean end: removes every segment whose entries stand in files."""
        try:
            self._delete_segments(self._journal.segments.release({}))
            self._journal.segments.remove_strays()
            if carried:
                from nbrun.results.format import segment_name

                files.remove(self._folder / FOLDER / segment_name(carried))
            files.sync_folder(self._folder)
        except OSError as e:
            self._on_fault(e)
            return False
        return True

    # ---- the files thread

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._due or self._broken:
                    if self._closing:
                        return
                    if not self._work.wait(LOOK_S) and not self._broken:
                        self._look_for_stale()
                        break
                if self._closing:
                    return
                state = self._due.popleft() if self._due and not self._broken else None
                self._busy += state is not None
            if state is not None:
                self._file(state)
            else:
                self._look_at_place()

    def _look_at_place(self) -> None:
        """A directory that was moved is noticed although nothing is saved for long."""
        try:
            self._check_place()
        except Exception as e:  # what is no OSError is nbrun's own, and must not be waited for either
            with self._lock:
                if self._broken or self._closing:
                    return
                self._broken = True
                self._idle.notify_all()
                self._room.notify_all()
            self._on_fault(e)

    def _look_for_stale(self) -> None:
        """Called with the lock held: the oldest changes that no file tells yet are due."""
        now = time.monotonic()
        for state in self._open:
            if now - state.dirty_since < STALE_S:
                break
            if not state.filing and now - state.dirty_since > COST_RATIO * state.file_cost_s:
                state.filing = True
                self._due.append(state)

    def _file(self, state: SampleState) -> None:
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
        except Exception as e:  # what is no OSError is nbrun's own, and must not be waited for either
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
