"""What a run was started with, so that it can be started again after its end: by "Retry errors", by "Go on".

Used by the thread that calls start(), and by whoever starts a run again.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nbrun import __version__
from nbrun.engine import Scheduler, TaskSource, ThreadPool, WorkerPool
from nbrun.engine.executor import ExecutorBackend
from nbrun.model import RetryPolicy
from nbrun.output import RunOutput, assign
from nbrun.panel import choose_view
from nbrun.progress import ProgressTracker
from nbrun.results.format import INTEGER_IDS, TEXT_IDS
from nbrun.samples import SampleReader
from nbrun.session.conductor import Conductor, SecondPass
from nbrun.session.inputs import Samples
from nbrun.session.metrics import observer
from nbrun.session.redo import Redo
from nbrun.session.settings import Arguments, is_async
from nbrun.storage.entry import RemoteEncoder
from nbrun.storage.store import ResultStore


class Parts(NamedTuple):
    """What a run consists of between one start and its end. `fn` is the user's, or what stands in for it."""

    engine: Scheduler
    store: ResultStore
    conductor: Conductor
    fn: Any


@dataclass
class Launch:
    """Everything that start() was given, checked.

    Attributes:
        tracker: where progress is counted; it lives as long as the run, through every start.
    """

    path: Path
    fn: Any
    executor: Any
    arguments: Arguments
    reader: SampleReader
    workers: int
    timeout_s: float | None
    max_per_s: float | None
    metrics: tuple[str, ...] = ()
    tracker: ProgressTracker = field(default_factory=ProgressTracker)
    output: RunOutput = field(init=False)

    def __post_init__(self) -> None:
        self.output = RunOutput(self.tracker.note_log, echoes=choose_view() != "panel")

    def make(self, samples: Samples, redo: Redo, again: SecondPass | None = None) -> Parts:
        """Open the results directory and make the parts; `Conductor.begin` starts them.

        Raises:
            InputError: fn can't travel to the executor.
            ResultsInUseError, StorageError, FormatError: the directory can't be opened.
        """
        fn, retry = self.fn, self.arguments.retry
        policy = RetryPolicy(attempts=1) if retry is None else retry
        pool: Callable[[TaskSource], WorkerPool] = ThreadPool
        if is_async(fn):
            from nbrun.engine.asyncio_pool import AsyncioPool  # asyncio loads slowly, and few runs need it

            pool = AsyncioPool
        if self.executor is not None:
            left_out = (self.reader.groups or {}).values()
            fn = remote = ExecutorBackend(fn, self.executor, policy, RemoteEncoder(), left_out)
            pool = remote.pool
            assign(remote.digest, self.output)
        conductor = Conductor(samples, self.reader, self.tracker, fn, self.arguments.settings, redo, again, self.output)
        try:
            store = ResultStore(
                self.path, self._record(), keep_items=self.arguments.keep_items, totals=samples.sample_totals,
                on_fault=conductor.fault,
            )  # fmt: skip
        except BaseException:
            if isinstance(fn, ExecutorBackend):
                fn.close()
            raise
        if observe := observer(self.metrics, self.tracker):
            store.observe_results(observe)
        engine = Scheduler(
            fn, store, self.tracker, workers=self.workers, retry=policy, name=socket.gethostname(), pool=pool,
            timeout_s=self.timeout_s, max_per_s=self.max_per_s, output=self.output,
        )  # fmt: skip
        if isinstance(fn, ExecutorBackend) and (end := fn.shutdown_notice()):
            conductor.note(end)
        return Parts(engine, store, conductor, fn)

    def _record(self) -> dict[str, Any]:
        """The run record: under which settings results are made, by whom and when."""
        now = dt.datetime.now(dt.UTC)
        return {
            "run_id": now.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3),
            "started_at": now.isoformat(timespec="seconds"),
            "host": socket.gethostname(), "pid": os.getpid(),
            "nbrun": __version__, "python": platform.python_version(),
            **self.arguments.settings.record(), "groups": dict(self.arguments.groups), "workers": self.workers,
            "ids": INTEGER_IDS if self.reader.ids_are_integers else TEXT_IDS,
        }  # fmt: skip
