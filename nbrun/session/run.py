"""`Run`, which `start` returns: waiting, looking, steering; and where a run or a watch is shown.

Threads: every method of Run and Controls may be called from any thread; clicks in a panel arrive in threads of
subshells. `show` is called by the thread that calls start() or watch().
"""

from __future__ import annotations

import builtins
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from nbrun import panel
from nbrun.engine import Scheduler
from nbrun.errors import NbrunError, RunActiveError, SystematicFailureError, hides_own_frames, warn
from nbrun.model import Progress, RunControls, State, TaskSummary
from nbrun.results import reader
from nbrun.session.arguments import CHANGED, Launch, Limits, Redo, read_workers
from nbrun.session.sample_source import Samples
from nbrun.session.supervisor import Pass, Supervisor
from nbrun.texts import count_text, counted

if TYPE_CHECKING:
    import pandas as pd

POLL_S = 0.1
#: How long to wait for a run that is being stopped, and for a panel to show the end, in seconds.
DRAIN_S, SHOW_S = 10.0, 1.0

_log = logging.getLogger(__name__)

STOPPED_WAITING = "Stopped waiting; the run goes on (run.stop() ends it)."


class StoppedWaiting(KeyboardInterrupt):
    """In IPython, the stop button or Ctrl-C has interrupted a `wait()`. The run goes on."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: one line, since the user knows where the interrupt came from."""
        return [str(self)]


def is_in_ipython() -> bool:
    """Return whether IPython, in a notebook or a terminal, shows what is raised."""
    return hasattr(builtins, "get_ipython")


#: Keeps runs alive until they end, even if no variable refers to them. Single operations of a set are atomic.
_under_way: set[Run] = set()


class Run:
    """A run in the background of this kernel, as returned by `nbrun.start`.

    Example:
        >>> import nbrun, tempfile
        >>> samples = [{"id": "p1", "solutions": ["print(1)"]}]
        >>> with nbrun.start(samples, lambda task: {"length": len(task.item)}, tempfile.mkdtemp(), view=None) as run:
        ...     run.wait().done
        1
    """

    def __init__(self, launch: Launch, samples: Samples, redo: Redo) -> None:
        self._launch = launch
        self._supervisor = Supervisor(launch, Pass(samples, is_first=True), redo, self._on_end)
        self._path, self._tracker, self._arguments = launch.path, launch.tracker, launch.arguments
        self._controls = Controls(self)
        self._lock = threading.RLock()  # protects what follows; only one thread may restart the run
        self._callbacks: list[Callable[[Run], object]] = []
        self._saved_before = 0  # results that earlier starts of this run have saved
        self._view: Any = None  # the panel, once it was shown
        self._console: Any = None  # the bars of a terminal
        self._show_until: float | None = None  # until when wait() waits for the panel to show the end
        self._is_forked = False
        self._was_interrupted = False  # a wait() for it was interrupted

    def _begin(self) -> None:
        """Start the threads."""
        _under_way.add(self)
        try:
            self._supervisor.begin()
        except BaseException:
            _under_way.discard(self)
            raise

    @property
    def _scheduler(self) -> Scheduler:
        if self._is_forked:
            raise NbrunError(
                "This process was forked from the one that runs this; the run goes on there. "
                "nbrun.load_results works here too."
            )
        return self._supervisor.scheduler

    def _forget_in_child(self) -> None:
        """In a forked child: make sure that nothing waits for the run's threads, which exist only in the parent."""
        self._is_forked = True
        _under_way.discard(self)
        self._supervisor.scheduler.forget_in_child()

    # ---- looking

    @property
    def progress(self) -> Progress:
        """An immutable snapshot of the run."""
        scheduler, store = self._scheduler, self._supervisor.store
        unsaved, saved = store.unsaved, self._saved_before + store.saved
        trouble = scheduler.run_state.message
        notices = [*self._supervisor.notices.texts, *getattr(scheduler.fn, "notices", ())]
        remarks = scheduler.outlook.remarks()
        message = [trouble, *(n for n in notices if n != trouble), *remarks.texts]
        return self._tracker.snapshot(
            scheduler.run_state.state,
            at_work=scheduler.outlook.at_work(),
            saved=saved,
            unsaved=unsaved,
            message=" ".join(filter(None, message)),
            workers=scheduler.workers,
            results=str(self._path),
            waiting_at=scheduler.outlook.waiting_at(),
            least_left_s=remarks.least_left_s,
        )

    def results(self) -> pd.DataFrame:
        """Return one row for each saved entry, as nbrun.load_results(path) does."""
        from nbrun.frames import load_results

        return load_results(self._path)

    def errors(self) -> pd.DataFrame:
        """Return the rows whose status is error."""
        df = self.results()
        return df[df["status"] == "error"]

    def panel(self) -> Any:
        """Show the live panel in this cell."""
        self._launch.output.echoes = False  # the panel's log shows it
        self._view = panel.show(self._controls)
        return self._view

    def __repr__(self) -> str:
        p = self.progress
        return f"<nbrun.Run {p.state.value}: {count_text(p)}, results in {str(self._path)!r}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return panel.mime_bundle(self.progress)

    # ---- waiting

    @hides_own_frames
    def wait(self, timeout: float | None = None) -> Progress:
        """Wait until the run has ended, or for `timeout` seconds.

        An interrupt (Ctrl-C, the notebook's stop button) ends the waiting with a KeyboardInterrupt; the run goes on.

        Raises:
            RunHaltedError: the run has halted or paused itself; the message says why.
        """
        try:
            return self._wait(None if timeout is None else time.monotonic() + timeout)
        except KeyboardInterrupt as e:
            raise self._stopped_waiting(e) from None

    def _wait(self, end: float | None) -> Progress:
        while not self._supervisor.ended.is_set():
            self._raise_trouble()
            left = POLL_S if end is None else min(POLL_S, end - time.monotonic())
            if left <= 0:
                return self.progress
            self._supervisor.ended.wait(left)
        while self._must_wait_for_view():
            time.sleep(0.01)
        if self._console is not None:
            self._console.wait_for_end()
        self._raise_trouble()
        return self.progress

    def _stopped_waiting(self, interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
        """Return what an interrupted wait raises.

        In a script it must be exactly a KeyboardInterrupt: then Python ends by SIGINT, and a shell does not continue
        with the next command. session/__init__.py prints one sentence instead of its traceback.
        """
        self._was_interrupted = True
        if is_in_ipython():
            return StoppedWaiting(STOPPED_WAITING)
        interrupt.nbrun_stopped_waiting = True  # type: ignore[attr-defined]
        return interrupt

    def _must_wait_for_view(self) -> bool:
        """Return whether wait() should go on until the panel shows the end, since the notebook may be closed then."""
        if self._view is None or self._view.shows_end:
            return False
        if self._show_until is None:
            self._show_until = time.monotonic() + SHOW_S
            self._view.wake()
        return time.monotonic() < self._show_until

    def _raise_trouble(self) -> None:
        run_state, trouble = self._scheduler.run_state, self._scheduler.run_state.trouble
        if self._supervisor.ended.is_set():
            trouble = self._supervisor.halt or trouble
        elif run_state.is_draining:  # one that paused itself and was stopped raises at its end
            trouble = None
        if trouble is not None:
            raise trouble

    def __await__(self) -> Generator[Any, None, Progress]:
        return self._until_ended().__await__()

    async def _until_ended(self) -> Progress:
        import asyncio  # loads slowly; a caller that awaits a run has loaded it

        try:
            while not self._supervisor.ended.is_set():
                self._raise_trouble()
                await asyncio.sleep(POLL_S)  # the stop button takes effect only while the loop runs
        except asyncio.CancelledError:
            if is_in_ipython():  # the stop button cancels the cell
                raise StoppedWaiting(STOPPED_WAITING) from None
            self._was_interrupted = True  # perhaps by Ctrl-C: asyncio.run turns that into a cancellation
            raise
        while self._must_wait_for_view():
            await asyncio.sleep(0.01)
        if self._console is not None:
            await asyncio.to_thread(self._console.wait_for_end)
        self._raise_trouble()
        return self.progress

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.stop(drain=False)
            self._supervisor.ended.wait()
        else:
            self.wait()

    # ---- steering: model.RunControls

    def pause(self) -> None:
        """Start no more tasks; running ones continue to their end."""
        self._scheduler.pause("")

    def resume(self) -> None:
        """Continue after pause(), after the run has paused itself, or after stop()."""
        if self._supervisor.ended.is_set() and self._scheduler.run_state.state is State.STOPPED:
            self._go_on()
        else:
            self._scheduler.resume()

    def stop(self, drain: bool = True) -> None:
        """End the run. The next start runs the tasks that are missing then.

        Args:
            drain: let running tasks end. False cancels them, waits at most 5 s and discards what they return later.
        """
        tasks = self._scheduler.stop(drain)
        cancel = None if drain else getattr(self._supervisor.fn, "cancel", None)
        if callable(cancel):
            for task in tasks:
                try:
                    cancel(task)
                except Exception as e:  # the user's code; the task is abandoned anyway
                    self._supervisor.notices.add(f"fn.cancel raised {type(e).__name__}: {e}")

    @property
    def workers(self) -> int:
        """How many threads run tasks; can be set while the run is going."""
        return self._scheduler.workers

    @workers.setter
    def workers(self, n: int) -> None:
        self._scheduler.workers = read_workers(n)

    @hides_own_frames
    def retry_errors(self, kind: str | None = None) -> int:
        """Queue the tasks that ended in errors again, and return how many there are.

        After the end this restarts the run for them: `wait()` then waits for the new end, and the panel continues.

        Args:
            kind: only errors of this type, such as "TimeoutError".

        Raises:
            ResultsInUseError: the run had ended, and another process writes into its directory now.
        """
        supervisor = self._supervisor
        if (count := supervisor.retry_errors(kind)) is not None:
            return count
        self._wait_for_end(supervisor)
        with self._lock:
            if self._supervisor is not supervisor:  # another thread has restarted it meanwhile
                return self._supervisor.retry_errors(kind) or 0
            again = supervisor.next_pass(kind)
            if again.count:
                self._start_again(again)
            return again.count

    def _wait_for_end(self, supervisor: Supervisor) -> None:
        if not supervisor.ended.wait(DRAIN_S):
            raise NbrunError("The run has not ended yet: its last results are being saved. Try again in a moment.")

    def _go_on(self) -> None:
        """Restart the run, after it was stopped, for the tasks that are missing."""
        supervisor = self._supervisor
        self._wait_for_end(supervisor)
        with self._lock:
            if self._supervisor is supervisor:
                self._start_again(supervisor.next_pass())

    def _redo_changed(self) -> int:
        """Run tasks again whose results were made with other settings or of samples that have changed; return how many.

        They run now, or after the end of the run.
        """

        def start(run: Run) -> None:
            with run._lock:
                run._start_again(run._supervisor.next_pass(), Redo(CHANGED))

        if count := self._supervisor.changed.count:
            self.add_done_callback(start)
        return count

    def _start_again(self, again: Pass, redo: Redo = Redo()) -> None:  # noqa: B008 - frozen
        """Restart the run. The caller holds the lock; the run has ended."""
        before, launch = self._supervisor, self._launch
        launch.limits = launch.limits._replace(workers=before.scheduler.workers)
        new = Supervisor(launch, again, redo, self._on_end)
        new.scheduler.failure_detector.continue_from(before.scheduler.failure_detector)
        self._saved_before += before.store.saved
        self._show_until = None
        self._supervisor = new
        self._begin()
        if self._view is not None:
            self._view.wake()
        if self._console is not None:
            self._show_console()

    def _show_console(self) -> None:
        """Show bars in a terminal, lines elsewhere."""
        from nbrun import console

        self._console = console.Console(self._controls, output=self._launch.output)

    def add_done_callback(self, fn: Callable[[Run], object]) -> None:
        """Call `fn` with this run when it ends, in one of the run's threads; immediately if it has ended.

        An exception that `fn` raises is logged and has no other effect.
        """
        with self._lock:
            if not self._supervisor.ended.is_set():
                self._callbacks.append(fn)
                return
        self._call(fn)

    def _on_end(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for fn in callbacks:
            self._call(fn)
        if self._supervisor.ended.is_set():  # else a callback has restarted it
            _under_way.discard(self)

    def _call(self, fn: Callable[[Run], object]) -> None:
        try:
            fn(self)
        except Exception as e:  # the user's code
            self._tracker.note_log(time.time(), "error", f"A callback raised {type(e).__name__}: {e}")
            _log.exception("a callback of a run raised")

    def _limit(self, limits: Limits) -> None:
        """Set the number of workers, and the limits on attempts that start from now on."""
        self.workers = limits.workers
        self._launch.limits = limits
        self._scheduler.limit(limits.timeout_s, limits.max_per_s)

    def _join(self, samples: Samples) -> bool:
        """Add the samples that this run doesn't have yet. Return False if it has ended meanwhile."""
        if self._supervisor.add(samples):
            return True
        if self._supervisor.ended.wait(DRAIN_S):
            return False
        raise RunActiveError(
            f"The run on {self._path} is ending and waits for {counted(self.progress.running, 'running task')}. "
            "Run this cell again when it has ended, or call run.stop(drain=False) to cancel them."
        )

    @property
    def _paused_by_failures(self) -> bool:
        """Whether the run paused itself because its tasks fail alike."""
        run_state = self._scheduler.run_state
        return run_state.state is State.PAUSED and isinstance(run_state.trouble, SystematicFailureError)

    def _shutdown(self, timeout_s: float) -> bool:
        """Start no more tasks, and save what has ended before the interpreter exits. Return whether that succeeded."""
        if self._launch.executor is not None:
            self._supervisor.fn.drain(timeout_s / 2)  # results of calls for which the executor has just waited
        self._scheduler.stop(drain=False)
        saved = self._supervisor.store.journal.flush(timeout_s)
        self._supervisor.store.in_flight.end()  # the tasks that were running are not to blame for the exit
        return saved

    @property
    def _is_live(self) -> bool:
        """Running, paused or draining."""
        run_state = self._scheduler.run_state
        return not self._supervisor.ended.is_set() and (run_state.is_open or run_state.is_draining)


class Controls(RunControls):
    """What a view may do to a run, which is more than `Run` offers its user: see model.RunControls.

    Threads: every method may be called from any thread.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def progress(self) -> Progress:
        return self._run.progress

    @property
    def workers(self) -> int:
        return self._run.workers

    @workers.setter
    def workers(self, n: int) -> None:
        self._run.workers = n

    def pause(self) -> None:
        self._run.pause()

    def resume(self) -> None:
        self._run.resume()

    def stop(self, drain: bool = True) -> None:
        self._run.stop(drain)

    def retry_errors(self, kind: str | None = None) -> int:
        return self._run.retry_errors(kind)

    def go_on(self) -> None:
        self._run._go_on()

    def redo_changed(self) -> int:
        return self._run._redo_changed()

    def find_unread(self, text: str, limit: int) -> tuple[Sequence[str], int]:
        return self._run._supervisor.find_unread(text, limit)

    def tasks(self, sample_id: str) -> Sequence[TaskSummary]:
        return [*self._run._scheduler.outlook.tasks_of(sample_id), *reader.read_rows(self._run._path, sample_id)]

    def entry(self, sample_id: str, group: str, index: int) -> Mapping[str, Any] | None:
        """Return a task's saved entry, with what it printed in this run; None if there is neither."""
        entry = reader.read_entry(self._run._path, sample_id, group, index)
        printed = self._run._launch.output.of((sample_id, group, index))
        if not printed or (entry is not None and "output" in entry):
            return entry
        return {"status": "running", **(entry or {}), "output": printed}

    def health(self) -> Sequence[Mapping[str, Any]]:
        health = getattr(self._run._supervisor.fn, "health", None)
        return list(health()) if callable(health) else []


class Shown(Protocol):
    """A run or a watch."""

    @property
    def _controls(self) -> RunControls: ...
    def panel(self) -> object: ...
    def _show_console(self) -> None: ...


def show(shown: Shown, view: str | None, notify: Callable[[str], object]) -> None:
    """Show a run in the view that was asked for: "auto" is the panel in a notebook, bars in a terminal, else nothing.

    If that fails, warn, and show the static form instead of the panel; the run goes on.

    Args:
        notify: called with a sentence that says why nothing is shown.
    """
    try:
        if view == "auto":
            view = panel.choose_view()
        if view == "panel":
            shown.panel()
        elif view == "console":
            if sys.stderr is None:  # pythonw, some services
                raise OSError("this process has no standard error")
            shown._show_console()
    except Exception as e:  # missing widget libraries, a front end that refuses, a closed stderr
        text = f"The {view or 'view'} can't be shown: {_why(e)}. The run goes on; run.progress says how far it is."
        warn(text, RuntimeWarning)
        notify(text)
        if view == "panel":
            with suppress(Exception):  # the warning has been shown
                panel.publish_static(shown._controls)


def _why(e: Exception) -> str:
    """Return why a view can't be shown, in words."""
    if isinstance(e, ImportError):
        return "it needs anywidget and ipywidgets in this kernel's environment (pip install anywidget ipywidgets)"
    return f"{type(e).__name__}: {e}"
