"""Attempts in threads that take longer than `timeout_s`: their worker is replaced, what they still return is dropped.

A thread can't be killed. So the attempt itself is what worker and watch compete for: the worker claims it when `fn` has
returned, the watch when its time is up, and only one of them gets it. A worker that is too late ends its thread.

Threads: the thread "nbrun-timeouts" looks, a few times in the shortest time that matters; it runs only while the run
has a time-out and workers. Workers call `Claim.keep`. The scheduler's lock protects `_thread` and `_lost`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from nbrun.engine.completions import CompletedTasks, add_failure, after_exception, complete, stack_of
from nbrun.engine.task_queue import SampleWork
from nbrun.errors import RunHaltedError, TaskTimeout, ThreadLimitError
from nbrun.formatting import counted, time_text
from nbrun.model import CancelFlag, SinkClosedError, Task
from nbrun.threads import start_daemon

if TYPE_CHECKING:
    from nbrun.engine.thread_pool import ThreadPool
    from nbrun.engine.worker import Worker

#: The watch looks this often in a time-out, and at least and at most after these seconds.
LOOKS, LEAST_S, MOST_S = 20, 0.01, 0.5

#: The module whose frame calls fn.
WORKER_FILE = __file__.replace("timeouts", "worker")

_EXPIRED = CancelFlag()
_EXPIRED.is_set = True


class TooLate(Exception):
    """Raised in a worker whose attempt was given up: its thread ends, since another has taken its place."""


class Claim:
    """One attempt, for which its worker and the watch compete. `list.pop` is atomic and decides.

    Attributes:
        started, since_ns: when it began, in seconds since the epoch and on perf_counter_ns's clock.
    """

    __slots__ = ("_free", "_is_kept", "position", "sample", "since_ns", "started", "task")

    def __init__(self, sample: SampleWork, position: int, task: Task, started: float, since_ns: int) -> None:
        self.sample, self.position, self.task, self.started, self.since_ns = sample, position, task, started, since_ns
        self._free = [True]
        self._is_kept = False

    def keep(self) -> None:
        """The worker claims it; a second call does nothing. Raise TooLate where it was given up."""
        if not self._is_kept:
            if not self.give_up():
                raise TooLate
            self._is_kept = True

    def give_up(self) -> bool:
        """Claim it for the watch. Return False where its worker has it."""
        try:
            return self._free.pop()
        except IndexError:
            return False


class TimeoutMonitor:
    """The watch over one pool's workers."""

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost: set[Worker] = set()  # whose thread still runs an attempt that was given up
        self._is_missing = False  # no thread can be started
        self._dropped = 0  # attempts that returned too late

    def need(self) -> None:
        """A worker begins attempts that have a time-out; the lock is held."""
        if self._thread is None:
            try:
                self._thread = start_daemon(self._run, "nbrun-timeouts")
            except ThreadLimitError:
                pass
        self._is_missing = self._thread is None

    def end(self) -> None:
        """The run is over."""
        self._over.set()

    def came_back(self, worker: Worker) -> None:
        """A worker's thread ends; the lock is held."""
        if worker in self._lost:
            self._lost.discard(worker)
            self._dropped += 1

    @property
    def text(self) -> str:
        """What the user should know of it: a sentence or nothing."""
        parts = ["timeout_s is not watched: no thread can be started for it."] if self._is_missing else []
        if lost := len(self._lost):
            do = "threads still run tasks" if lost > 1 else "thread still runs a task"
            parts.append(f"{lost} {do} that took longer than timeout_s.")
        if self._dropped:
            were = "results came" if self._dropped > 1 else "result came"
            parts.append(
                f"{self._dropped:,} {were} after timeout_s and {'were' if self._dropped > 1 else 'was'} dropped."
            )
        return " ".join(parts)

    def _run(self) -> None:
        scheduler = self._pool.scheduler
        try:
            while True:
                timeout_s = scheduler.timeout_s
                if self._over.wait(MOST_S if timeout_s is None else min(max(timeout_s / LOOKS, LEAST_S), MOST_S)):
                    return
                if timeout_s is not None:
                    self._look(timeout_s)
        except SinkClosedError:  # the run was stopped: late results are discarded
            pass
        except BaseException as e:  # a fault of nbrun's own must halt the run, not hang it
            scheduler.on_internal_error(e)

    def _look(self, timeout_s: float) -> None:
        now = time.perf_counter_ns()
        for worker in self._pool.workers():
            claim = worker.claim
            if claim is not None and now - claim.since_ns > timeout_s * 1e9 and claim.give_up():
                self._give_up(worker, claim, timeout_s)

    def _give_up(self, worker: Worker, claim: Claim, timeout_s: float) -> None:
        """The attempt ends in an error, and another worker takes over what its worker had taken."""
        scheduler = self._pool.scheduler
        where = stack_of(worker.thread, WORKER_FILE)  # before anything else happens to it
        with scheduler.lock:
            self._lost.add(worker)
            self._pool.lose(worker)
            too_many = len(self._lost) > scheduler.target_workers
        worker.flush_results()
        claim.task._flag = _EXPIRED  # `task.cancelled()` is true from now on
        cancel = getattr(scheduler.fn, "cancel", None)
        if callable(cancel):
            try:
                cancel(claim.task)
            except Exception:  # the user's code; the attempt is given up anyway
                pass
        took_s = (time.perf_counter_ns() - claim.since_ns) / 1e9
        e = timeout_error(timeout_s)
        e.worker_traceback = where  # type: ignore[attr-defined]
        failure = after_exception(
            scheduler, claim.sample, claim.position, claim.task, e, claim.started, took_s, worker.name
        )
        if failure is not None:
            completed = CompletedTasks(claim.sample)
            add_failure(scheduler, completed, claim.position, failure)
            complete(scheduler, completed)
        if too_many:
            message = (
                f"Paused: {counted(len(self._lost), 'thread')} still run tasks that took longer than timeout_s="
                f"{timeout_s:g}, more than there are workers. run.errors() shows where `fn` waits: fix it and run this "
                "cell again; or run.resume()."
            )
            scheduler.pause(message, RunHaltedError(message))


def timeout_error(timeout_s: float) -> TaskTimeout:
    """What such an attempt ends in."""
    return TaskTimeout(f"the attempt took longer than timeout_s={timeout_s:g} ({time_text(timeout_s)})")
