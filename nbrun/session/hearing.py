"""Warnings and logs of tasks -> the board of their run, from where the panel shows them.

Without this they would be printed into whatever cell of the notebook ran last. Only what comes from a run's own
threads is heard; all else goes where it always went. Handlers that the user has set up get every record as before.

Threads: the hooks are called in any thread; `_lock` protects `_heard`.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from nbrun.session.run import Run

_lock = threading.Lock()
_heard: weakref.WeakSet[Run] = weakref.WeakSet()
_is_set_up = False


def listen(run: Run) -> None:
    """From now on the panel of this run gets what its tasks warn of and log."""
    global _is_set_up
    with _lock:
        _heard.add(run)
        if not _is_set_up:
            _is_set_up = True
            _set_up()


def _run_here() -> Run | None:
    """The run whose worker or feeder calls this."""
    thread = threading.current_thread()
    if not thread.name.startswith("nbrun-"):
        return None
    with _lock:
        runs = list(_heard)
    return next((run for run in runs if run._works_in(thread)), None)


class _LastResort(logging.Handler):
    """What logging does where nobody set up a handler: print. What the panel shows is not printed as well."""

    def __init__(self, before: logging.Handler) -> None:
        super().__init__(before.level)
        self._before = before

    def handle(self, record: logging.LogRecord) -> bool:
        return _run_here() is None and bool(self._before.handle(record))


def _set_up() -> None:
    make_record, show = logging.getLogRecordFactory(), warnings.showwarning

    def hear_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        if record.levelno >= logging.WARNING and (run := _run_here()) is not None:
            try:
                text = record.getMessage()
            except Exception:  # arguments that don't fit the message; logging itself tells of it
                text = str(record.msg)
            run._hear(time.time(), record.levelname.lower(), f"{record.name}: {text}")
        return record

    def hear_warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
        line: str | None = None,
    ) -> None:  # fmt: skip
        run = _run_here() if file is None else None
        if run is None:
            show(message, category, filename, lineno, file, line)
        else:
            run._hear(time.time(), "warning", f"{category.__name__}: {message}")

    logging.setLogRecordFactory(hear_record)
    warnings.showwarning = hear_warning
    if logging.lastResort is not None:
        logging.lastResort = _LastResort(logging.lastResort)
