"""The one thread that keeps a run's views up to date, whatever is displayed and however often.

It looks at the run five times a second, sends what changed, and has the static form rewritten now and then. It ends
once the end of the run was shown, and `wake` starts it again when the run goes on, or when a view wants something.

Threads: `wake` and `want_whole` may be called from any thread. Every message is made and sent in the thread
`nbrun-panel`, so that their order is that of their numbers. Nothing is printed, because a thread's output appears in
whatever cell ran last.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nbrun.model import Progress, RunControls
from nbrun.panel.sync import Message, ViewSync
from nbrun.threads import start_daemon

TICK_S = 0.2
#: The static form is for readers without a kernel: it is rewritten every this many seconds, and at the end.
REWRITE_S = 10.0
#: How often the judge is asked for its endpoints; more seldom where it takes long.
HEALTH_S = 2.0

_log = logging.getLogger(__name__)


class Updater:
    """Gives the run's progress to `send`, at most once in TICK_S, and to `rewrite`, at most once in REWRITE_S.

    Args:
        controls: the run.
        send: gives a message to all views.
        rewrite: brings the static form up to date.
        clock: monotonic seconds; tests pass their own.
    """

    def __init__(
        self,
        controls: RunControls,
        send: Callable[[Message], None],
        rewrite: Callable[[Progress], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._controls, self._send, self._rewrite, self._clock = controls, send, rewrite, clock
        self._sync = ViewSync()
        self._disk = DiskUse()
        self._endpoints: Sequence[Mapping[str, Any]] = ()
        self._ask_health_at = float("-inf")
        self._lock = threading.Lock()  # protects the three below
        self._thread: threading.Thread | None = None
        self._awake = False
        self._whole_wanted = False
        self._poked = threading.Event()
        self._rewritten_at = clock()
        self._shown: tuple[object, ...] = ()
        self.shows_end = False  # whether the end of the run has reached the views and the static form

    @property
    def seq(self) -> int:
        """The number of the newest message, 0 before the first. Any thread."""
        return self._sync.seq

    def sample_id(self, number: int) -> str:
        """The id behind a number in the messages. Any thread."""
        return self._sync.sample_id(number)

    def wake(self) -> None:
        """Look at the run now, and continue until its end was shown."""
        with self._lock:
            self._awake = True
            if self._thread is None:
                self._thread = start_daemon(self._run, "nbrun-panel")
        self._poked.set()

    def want_whole(self) -> None:
        """Send everything next, because a view is new or missed a message."""
        with self._lock:
            self._whole_wanted = True
        self.wake()

    def tick(self) -> bool:
        """Look at the run once. Return False once its end was shown and no view asks for more."""
        with self._lock:
            self._awake = False
        progress, now = self._controls.progress, self._clock()
        self._look_around(progress, now)
        message = self._sync.delta(progress, now, endpoints=self._endpoints, disk=self._disk.bytes)
        with self._lock:
            whole, self._whole_wanted = self._whole_wanted, False
        if whole:
            self._send(self._sync.whole())
        elif message is not None:
            self._send(message)
        self._rewrite_if_due(progress)
        self.shows_end = progress.ended
        with self._lock:
            if progress.ended and message is None and not self._awake:
                self._thread = None
                return False
        return True

    def _look_around(self, progress: Progress, now: float) -> None:
        """Look at the disk and at the judge's endpoints, now and then."""
        if progress.ended and self._shown[:1] != (progress.state,):
            self._disk.hurry()
            self._ask_health_at = now  # no request is in flight any more
        self._disk.step(progress.results, now)
        if now < self._ask_health_at:
            return
        try:
            self._endpoints = self._controls.health()
        except Exception:  # the judge's own code may fail; then nothing is shown
            self._endpoints = ()
            _log.debug("the judge's health could not be asked", exc_info=True)
        took = self._clock() - now
        self._ask_health_at = now + max(HEALTH_S, 100 * took)

    def _rewrite_if_due(self, progress: Progress) -> None:
        now = self._clock()
        shown = (progress.state, progress.message, progress.version, progress.workers)
        if shown != self._shown and (progress.ended or now - self._rewritten_at >= REWRITE_S):
            self._shown, self._rewritten_at = shown, now
            self._rewrite(progress)

    def _run(self) -> None:
        while True:
            try:
                if not self.tick():
                    return
            except Exception:
                # A view must never cost the run anything. The next tick tries again: after an error while sending,
                # views see the gap in `seq` and ask for everything.
                _log.debug("the panel could not be brought up to date", exc_info=True)
            self._poked.wait(TICK_S)
            if self._poked.is_set():
                self._poked.clear()


#: How many files one step looks at, and how long a finished count is used, in seconds.
FILES, ROUND_S = 300, 20.0


class DiskUse:
    """The size of a directory, counted in small steps: one of many thousand files takes a while. Only sizes are read.

    Attributes:
        bytes: None until the first count has ended.
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._round: Iterator[int] | None = None
        self._sum = 0
        self._next_at = float("-inf")

    def step(self, path: str, now: float) -> None:
        """Continue the current count, or begin one when it is due."""
        if self._round is None:
            if now < self._next_at or not path:
                return
            self._round, self._sum = _sizes(path), 0
        for _ in range(FILES):
            size = next(self._round, None)
            if size is None:
                self.bytes, self._round, self._next_at = self._sum, None, now + ROUND_S
                return
            self._sum += size

    def hurry(self) -> None:
        """Begin a last count with the next step, since the run has ended."""
        self._next_at = float("-inf")


def _sizes(path: str) -> Iterator[int]:
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    try:
                        stat = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # gone meanwhile
                    yield getattr(stat, "st_blocks", 0) * 512 or stat.st_size
        except OSError:
            continue
