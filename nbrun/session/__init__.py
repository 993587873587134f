"""start(), which wires samples, engine, storage and views together, and the runs of this process, by directory.

samples ─► supervisor (thread nbrun-feed) ─► engine (threads nbrun-worker-N) ─► store (nbrun-journal, nbrun-files)
                               └──────────► tracker ◄───────┘            views read Run.progress

Threads: `_lock` protects the table of runs, which start() and the exit hook use.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.errors import ResultsExistError, RunActiveError, hides_own_frames
from nbrun.model import Progress, RetryPolicy, Task
from nbrun.results.format import FOLDER
from nbrun.results.listing import list_samples
from nbrun.results.replay import list_segments
from nbrun.results.values import check_storable
from nbrun.samples import SampleReader
from nbrun.session.arguments import (
    Arguments,
    Launch,
    Limits,
    check_digested,
    check_executor,
    check_ids,
    check_plain,
    read_groups,
    read_metrics,
    read_path,
    read_positive,
    read_redo,
    read_workers,
)
from nbrun.session.run import STOPPED_WAITING, Run, show
from nbrun.session.sample_source import Samples, open_samples, shard
from nbrun.session.settings import check_function, settings_of
from nbrun.texts import count_text

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

__all__ = ["Run", "shard", "start"]

REPLACE_S = 60.0  # how long the end of a run is waited for that another one replaces
EXIT_S = 0.7  # how long the interpreter's end may wait for the last group commit

_lock = threading.RLock()
_runs: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()  # one that ended is kept by its user only


@hides_own_frames
def start(
    samples: Iterable[Mapping[str, Any] | Any] | pd.DataFrame,
    fn: Callable[[Task], Any],
    results: str | os.PathLike[str],
    *,
    workers: int = 8,
    groups: Iterable[str] | Mapping[str, str] | None = None,
    retry: RetryPolicy | None = RetryPolicy(),  # noqa: B008 - frozen
    redo: pd.DataFrame | Iterable[str | int] | str | None = None,
    context: Callable[[Mapping[str, Any]], Any] | None = None,
    key: Callable[[Any], Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    keep_items: bool = True,
    timeout_s: float | None = None,
    max_per_s: float | None = None,
    metrics: Iterable[str] | None = None,
    if_exists: str = "resume",
    replace: bool = False,
    executor: Executor | Callable[[], Executor] | None = None,
    view: str | None = "auto",
) -> Run:
    """Run `fn` on every task of the samples, in the background, and save each result the moment it ends.

    What earlier runs left in `results` is kept and not run again. Started again on a directory that this kernel runs on
    already, with equal settings, the live run is returned, and samples that it doesn't have yet are added to it.

    Args:
        samples: an iterable of mappings with an `id` and groups of items, read lazily; or a DataFrame, a row a sample;
            or plain values such as prompts, each of which is one task.
        fn: called with a Task in a worker thread; returns a mapping (anything else becomes {"value": …}). An async
            function runs in an event loop of its own, with `workers` tasks in flight. Two keys of what it returns mean
            the same in the panel, in frames and in rates: `accepted` (True or False: accepts or rejects the item) and
            `verdict` (a short text). The verdict "Accepted" accepts; WrongAnswer, TimeLimitExceeded,
            MemoryLimitExceeded, OutputLimitExceeded, RuntimeError and CompileError reject; JudgeError says nothing of
            the item; any other is shown by its name. It may return or raise `nbrun.Retry` to be called again later.
        results: the results directory; made where it is missing.
        workers: how many tasks run at once. More than 128 threads make a run of tasks of a few ms slower, not faster.
        groups: names, whose items are under the name or the name with an s, or a mapping name -> key.
        retry: what happens after an exception (by default three attempts in all), and how often `fn` may ask for a
            `Retry`; None for one attempt, and the usual number of Retries.
        redo: results to be made again although they are done: ids of samples, a filtered load_results frame,
            "changed" (made under other settings, or of a sample that has changed), "errors" or "all". The old result
            counts until the new one is saved.
        context: what of a sample is digested to notice changes, instead of all but its groups.
        key: what distinguishes an item from others, instead of all of it. Results that were saved without it, or with
            another one, are found by the items in their entries.
        settings: what determines the results besides the item and can't be seen in `fn`, such as
            {"model": "small", "temperature": 0}. It is kept with the results; results of other settings are kept too,
            counted and reported. What nbrun sees by itself: `fn.settings` where fn has it, else the code of fn and of
            functions of its module that it calls, and simple values that it refers to.
        keep_items: store items in the entries. False where they can't be stored, such as images: with key= then.
        timeout_s: how long one attempt may take, in seconds. One that takes longer is tried again as after any other
            exception, and ends as an error of the type `TaskTimeout`. A coroutine is cancelled. A thread can't be
            killed: another takes its place, and what it still returns is dropped; after more than `workers` of them
            the run pauses. In an executor it is left to itself in its worker, which goes on with other tasks.
        max_per_s: how many attempts may start in a second, evenly spaced; for services that limit requests.
        metrics: keys of results, such as ["score"], whose mean over the results of this run is shown while it runs.
        if_exists: "resume", or "error" to refuse a directory that holds results.
        replace: stop a live run on this directory that has other settings, and go on with these. A run that paused
            itself because its tasks fail alike is replaced unasked: fix `fn` and run the cell again.
        executor: None: threads of this kernel. A concurrent.futures.Executor, such as a process pool that spawns, loky,
            or dask.distributed's Client.get_executor(), or a function that makes one: fn runs there, saving stays here;
            `workers` is the number of slots. Needs cloudpickle, here and on the workers. When the interpreter ends, a
            task under way is ended with a process pool that nbrun made, waited for in one of your own, in threads and
            over MPI, and left to itself on Dask; the run says so once.
        view: "auto", "panel", "console" or None.

    Returns:
        The run; the call does not wait for it.

    Raises:
        InputError: an argument or a sample that can't be right. Nothing was written.
        ResultsInUseError: another process writes there.
        RunActiveError: this kernel runs there, with other settings.

    Example:
        >>> import tempfile
        >>> run = start([{"id": 1, "solutions": ["a", "b"]}], lambda t: {"item": t.item}, tempfile.mkdtemp(), view=None)
        >>> run.wait().done
        2
    """
    check_plain(view=view, if_exists=if_exists, retry=retry, keep_items=keep_items, replace=replace)
    check_function(fn)
    check_executor(executor, fn)
    check_digested("key", key, "item")
    check_digested("context", context, "sample")
    limits = Limits(read_workers(workers), read_positive("timeout_s", timeout_s), read_positive("max_per_s", max_per_s))
    means_of = read_metrics(metrics)
    asked = read_redo(redo)
    reader = SampleReader(None, key, context, check_storable if keep_items else None)
    judged_by = getattr(samples, "judged_by", None)  # of nbrun.judge.read_problems
    opened = open_samples(samples if judged_by is None else judged_by(fn), reader, read_groups(groups))
    check_ids(asked.ids, opened)
    path = read_path(results)
    arguments = Arguments(
        settings_of(fn, settings),
        dict(getattr(fn, "resources", None) or {}),
        dict(reader.groups or {}),
        keep_items,
        retry,
        None if key is None else settings_of(key),
        None if context is None else settings_of(context),
    )
    run = _join_live_run(path, arguments, opened, limits, replace=replace)
    if run is None:
        if if_exists == "error":
            _refuse_results(path)
        run = Run(Launch(path, fn, executor, arguments, reader, limits, means_of), opened, asked)
        with _lock:
            _runs[os.path.realpath(path)] = run  # in the place of an ended one
        run._begin()
    show(run, view, run._supervisor.notices.add)
    return run


def _join_live_run(path: Path, arguments: Arguments, samples: Samples, limits: Limits, *, replace: bool) -> Run | None:
    """Return the live run on this directory, with the samples added that it doesn't have yet.

    Returns:
        None if there is none any more: a run that is to be replaced is ended first.

    Raises:
        RunActiveError: its settings are other ones, or it doesn't end.
    """
    run = _live_run_on(path)
    if run is None:
        return None
    if replace or run._paused_by_failures:
        _end_replaced(run)
        return None
    if lines := arguments.changes_in_words(run._arguments):
        raise _other_settings(run, lines)
    if not run._join(samples):
        return None
    run._limit(limits)
    return run


def _other_settings(run: Run, changes: Iterable[str]) -> RunActiveError:
    listed = "\n".join(f"  {line}" for line in changes)
    return RunActiveError(
        f"This kernel already runs on {run._path}, with other settings:\n{listed}\n"
        "Either call run.stop() and run this cell again, or give replace=True, which stops that run and goes on "
        "with the new settings. What is saved stays in both cases."
    )


def _live_run_on(path: Path) -> Run | None:
    """Return the live run on a directory; None where there is none. The path may be another one of the same folder."""
    with _lock:
        run, live = _runs.get(os.path.realpath(path)), _live_runs()
    if run is not None and run._is_live:
        return run
    return next((other for other in live if _is_same_folder(path, other._path)), None)


def _live_runs() -> list[Run]:
    return [run for run in list(_runs.values()) if run._is_live]


def _is_same_folder(a: Path, b: Path) -> bool:
    """Return whether two paths are of one folder: by a bind mount, or in upper and lower case."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def _end_replaced(run: Run) -> None:
    """Stop a run that another one replaces, and wait for its end."""
    run.stop(drain=False)
    if not run._supervisor.ended.wait(REPLACE_S):
        raise RunActiveError(
            f"The run on {run._path} was stopped and has not ended within {REPLACE_S:.0f} s: "
            f"{run.progress.message} Run this cell again later."
        )


def _refuse_results(path: Path) -> None:
    """Raise a ResultsExistError if a directory holds results."""
    if not path.exists():
        return
    listing = list_samples(path)
    if listing.by_id or listing.damaged or list_segments(path / FOLDER):
        raise ResultsExistError(
            f'{path} holds results and if_exists="error" was asked for. '
            "Choose another directory, or leave it out to go on.",
            path=str(path),
        )


# ---- the end of the interpreter, and forks


@atexit.register
def _at_exit() -> None:
    """At the interpreter's end: save the last results, and report a forgotten wait(). Daemon threads still run."""
    with _lock:
        live = _live_runs()
    is_interrupted = any(r._was_interrupted for r in live)
    for run in live:
        if run._console is not None:
            run._console.close(says_end=False)  # bars that are still drawn would tear the sentences below
    for run in live:
        progress = run.progress
        saved = run._shutdown(EXIT_S)
        lost = "" if saved else " The last results could not be saved in time."
        say_end = _say_interrupted if is_interrupted else _say_unfinished
        say_end(run._path, progress, lost)


def _say_interrupted(path: Path, progress: Progress, lost: str) -> None:
    print(
        f"nbrun: interrupted; the run on {path} ends with {count_text(progress)}, and the same command "
        f"goes on with what is missing.{lost}",
        file=sys.stderr,
    )


def _say_unfinished(path: Path, progress: Progress, lost: str) -> None:
    """Report a forgotten wait()."""
    print(
        f"nbrun: the interpreter ends while the run on {path} is "
        f"{progress.state.value} ({count_text(progress)}).{lost} "
        "Start it again to go on with what is missing; call run.wait() at a script's end or in the last cell.",
        # A kernel's sys.stderr goes to a front end that has gone. Its own standard error is that of the program
        # which started it: the terminal of `jupyter execute` or papermill, both of which end with success.
        file=sys.__stderr__ if "ipykernel" in sys.modules else sys.stderr,
    )


_hook_before = sys.excepthook


def _show_exception(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Show one sentence, and no traceback, where Ctrl-C has ended the waiting for a run."""
    if not _ended_a_wait(error):
        _hook_before(kind, error, trace)
    elif sys.flags.interactive or hasattr(sys, "ps1") or not _live_runs():
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
