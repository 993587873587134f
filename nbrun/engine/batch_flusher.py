"""Hands over what ended in a worker's batch when a later task of that batch takes long.

Short tasks are taken a few at a time; without the watch their results would wait, unsaved, for a task of minutes that
stands behind them.

Threads: workers call `wake` with the scheduler's lock held; the thread "nbrun-watch" looks, and sleeps without a time
limit while no worker holds a batch.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nbrun.errors import ThreadLimitError
from nbrun.model import SinkClosedError
from nbrun.threads import start_daemon

if TYPE_CHECKING:
    from nbrun.engine.thread_pool import ThreadPool

#: A task that takes longer keeps nobody's results waiting; how often the watch looks.
LATE_S, LOOK_S = 0.01, 0.015


class BatchFlusher:
    """The watch over one pool's workers."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._needed = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def wake(self) -> bool:
        """A worker has taken more than one task. Return False where no thread can watch it."""
        if not self._needed.is_set():
            if self._thread is None:
                try:
                    self._thread = start_daemon(self._run, "nbrun-watch")
                except ThreadLimitError:
                    return False
            self._needed.set()
        return True

    def end(self) -> None:
        """The run is over."""
        self._over.set()
        self._needed.set()

    def _run(self) -> None:
        pool = self._pool
        try:
            while not self._over.is_set():
                self._needed.wait()
                self._needed.clear()  # before looking: who takes a batch from now on sets it again
                while not self._over.wait(LOOK_S) and pool.has_buffered_results():
                    pool.flush_late_results(LATE_S)
        except SinkClosedError:
            pass
        except BaseException as e:
            pool.scheduler.on_internal_error(e)
