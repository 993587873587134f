"""The runs of this process, by directory: the cell run again, the end of the interpreter, a fork.

Threads: `_lock` protects the table; start() and the exit hook use it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import types
import weakref
from pathlib import Path
from typing import TextIO

from nbrun.errors import RunActiveError
from nbrun.formatting import count_text
from nbrun.session.run import STOPPED_WAITING, Run
from nbrun.session.settings import Arguments

REPLACE_S = 60.0  # how long the end of a run is waited for that another one replaces
EXIT_S = 0.7  # how long the interpreter's end may wait for the last group commit

_lock = threading.RLock()
_runs: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()  # one that ended is kept by its user only


def find(path: Path) -> Run | None:
    """The live run on this directory."""
    with _lock:
        run = _runs.get(os.path.realpath(path))
        return run if run is not None and run._is_live else None


def add(path: Path, run: Run) -> None:
    """Registers a new run, in the place of an ended one."""
    with _lock:
        _runs[os.path.realpath(path)] = run


def check_same(run: Run, arguments: Arguments) -> None:
    """The cell was run again: may it have the live run?

    Raises:
        RunActiveError: lists what differs, and both ways on.
    """
    lines = arguments.changes_in_words(run._arguments)
    if lines:
        listed = "\n".join(f"  {line}" for line in lines)
        raise RunActiveError(
            f"This kernel already runs on {run._path}, with other settings:\n{listed}\n"
            "Either call run.stop() and run this cell again, or give replace=True, which stops that run and goes on "
            "with the new settings. What is saved stays in both cases."
        )


def end_replaced(run: Run) -> None:
    """Stop a run that another one replaces, and wait for its end.

    Raises:
        RunActiveError: it has not ended in time.
    """
    run.stop(drain=False)
    if not run._supervisor.ended.wait(REPLACE_S):
        raise RunActiveError(
            f"The run on {run._path} was stopped and has not ended within {REPLACE_S:.0f} s: "
            f"{run.progress.message} Run this cell again later."
        )


@atexit.register
def _at_exit() -> None:
    """At the interpreter's end: save the last results, and report a forgotten wait(). Daemon threads still run."""
    with _lock:
        live = [r for r in list(_runs.values()) if r._is_live]
    is_interrupted = any(r._was_interrupted for r in live)
    for run in live:
        if run._console is not None:
            run._console.close(says_end=False)  # bars that are still drawn would tear the sentences below
    for run in live:
        progress = run.progress
        saved = run._shutdown(EXIT_S)
        lost = "" if saved else " The last results could not be saved in time."
        if is_interrupted:  # no wait() was forgotten
            print(
                f"nbrun: interrupted; the run on {run._path} ends with {count_text(progress)}, and the same command "
                f"goes on with what is missing.{lost}",
                file=sys.stderr,
            )
            continue
        print(
            f"nbrun: the interpreter ends while the run on {run._path} is "
            f"{progress.state.value} ({count_text(progress)}).{lost} "
            "Start it again to go on with what is missing; call run.wait() at a script's end or in the last cell.",
            file=_last_words(),
        )


def _last_words() -> TextIO | None:
    """Return a stream that is still read when the interpreter ends.

    A kernel's `sys.stderr` goes to a front end that has gone. Its own standard error is that of the program which
    started it: the terminal of `jupyter execute` or papermill, which end with success, or the log of a server.
    """
    return sys.__stderr__ if "ipykernel" in sys.modules else sys.stderr


_hook_before = sys.excepthook


def _show_exception(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Show one sentence, and no traceback, where Ctrl-C has ended the waiting for a run."""
    if not _ended_a_wait(error):
        _hook_before(kind, error, trace)
    elif sys.flags.interactive or hasattr(sys, "ps1") or not any(r._is_live for r in list(_runs.values())):
        print(STOPPED_WAITING, file=sys.stderr)  # else _at_exit says it, with the counts


def _ended_a_wait(error: BaseException) -> bool:
    if getattr(error, "nbrun_stopped_waiting", False):
        return True
    is_asyncios = isinstance(error, KeyboardInterrupt) and type(error.__context__).__name__ == "CancelledError"
    return is_asyncios and any(r._was_interrupted for r in list(_runs.values()))


sys.excepthook = _show_exception


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for run in list(_runs.values()):
        run._forget_in_child()
    _runs.clear()  # their threads live in the parent


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
