"""The run pauses while its judge is away, and goes on by itself once it is back.

Threads: workers call `begin`, whoever pauses or resumes calls `forget`; the thread "nbrun-judge-watch" asks fn, which
may do I/O, and holds no lock meanwhile.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nbrun.errors import ThreadLimitError
from nbrun.model import State
from nbrun.threads import start_daemon

if TYPE_CHECKING:
    from nbrun.engine.scheduler import Scheduler

#: How often fn is asked.
ASK_EVERY_S = 1.0


class AvailabilityMonitor:
    """Watches for the return of one engine's judge."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = threading.Lock()  # protects _over
        self._over: threading.Event | None = None  # of the watch that goes on; set where it shall end

    def begin(self, message: str) -> None:
        """Pauses the run, and resumes it when `fn.is_available()` is true. Without that the user resumes it."""
        with self._lock:
            if self._over is not None:
                return
            over = self._over = threading.Event()
        if not self._scheduler.pause_unless_paused(message):
            self.forget()
            return
        try:
            start_daemon(self._watch, "nbrun-judge-watch", (over,))
        except ThreadLimitError:  # then the user resumes the run
            self.forget()

    def forget(self) -> None:
        """Somebody steers the run: it no longer goes on by itself."""
        with self._lock:
            over, self._over = self._over, None
        if over is not None:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        ask = getattr(self._scheduler.fn, "is_available", None)
        while callable(ask) and not over.wait(ASK_EVERY_S):
            if self._scheduler.run_state.state is not State.PAUSED:
                break
            try:
                back = ask()
            except Exception:  # fn can't say: ask again
                continue
            if back and not over.is_set():
                self._scheduler.resume()
                break
