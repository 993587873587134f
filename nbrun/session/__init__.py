"""start(): wires samples, engine, storage and views together.

samples ─► supervisor (thread nbrun-feed) ─► engine (threads nbrun-worker-N) ─► store (nbrun-journal, nbrun-files)
                               └──────────► tracker ◄───────┘            views read Run.progress
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.errors import InputError, ResultsExistError, hides_own_frames
from nbrun.model import RetryPolicy, Task
from nbrun.results.format import FOLDER
from nbrun.results.listing import list_samples
from nbrun.results.replay import list_segments
from nbrun.results.values import check_storable
from nbrun.samples import SampleReader
from nbrun.session import registry
from nbrun.session.arguments import (
    check_digested,
    check_flag,
    check_ids,
    check_if_exists,
    check_retry,
    read_groups,
    read_metrics,
    read_path,
    read_positive,
    read_redo,
    read_workers,
)
from nbrun.session.display import check_view, show
from nbrun.session.run import Launch, Limits, Run
from nbrun.session.sample_source import Samples, open_samples, shard
from nbrun.session.settings import Arguments, check_function, is_async, settings_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

__all__ = ["Run", "shard", "start"]


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
    """Runs `fn` on every task of the samples, in the background; saves each result the moment it ends.

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
    check_view(view)
    check_if_exists(if_exists)
    check_retry(retry)
    check_function(fn)
    if executor is not None and is_async(fn):
        raise InputError("fn is an async function, which runs in an event loop of its own: leave executor= out.")
    check_flag("keep_items", keep_items)
    check_flag("replace", replace)
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
        if if_exists == "error" and _holds_results(path):
            raise ResultsExistError(
                f'{path} holds results and if_exists="error" was asked for. '
                "Choose another directory, or leave it out to go on.",
                path=str(path),
            )
        run = Run(Launch(path, fn, executor, arguments, reader, limits, means_of), opened, asked)
        registry.add(path, run)
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
    run = registry.find(path)
    if run is None:
        return None
    if replace or run._paused_by_failures:
        registry.end_replaced(run)
        return None
    registry.check_same(run, arguments)
    if not run._join(samples):
        return None
    run._limit(limits)
    return run


def _holds_results(path: Path) -> bool:
    if not path.exists():
        return False
    listing = list_samples(path)
    return bool(listing.by_id or listing.damaged or list_segments(path / FOLDER))
