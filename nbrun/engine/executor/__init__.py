"""Tasks in any concurrent.futures.Executor: process pools, loky, Dask, MPI; saving stays in the kernel.

`ExecutorBackend` is the value of `start(executor=…)`, checked before anything is written; it takes fn's place in the
engine. payload.py packs chunks of tasks, worker.py runs them in the worker process, dispatcher.py sends and receives
them, handle.py makes, checks and ends the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbrun.engine.executor.dispatcher import Dispatcher
from nbrun.engine.executor.handle import ExecutorHandle, is_executor, make, shutdown_notice
from nbrun.engine.executor.payload import Payload, is_thread
from nbrun.engine.executor.worker import RemoteFunction
from nbrun.engine.worker_pool import TaskSource
from nbrun.model import RemoteEncoder, RetryPolicy, Task

__all__ = ["ExecutorBackend"]


class ExecutorBackend:
    """The user's function, run in an executor.

    Args:
        fn: the user's function.
        executor: an Executor, or a function without arguments that makes one.
        policy: says which exceptions are not tried again.
        encoder: encodes results in the workers.
        left_out: the keys of a sample that hold its items, which need not be sent with each chunk.

    Raises:
        InputError: it is no executor, it forks, fn can't be pickled, or its workers can't run nbrun's calls.
    """

    def __init__(
        self,
        fn: Callable[[Task], object],
        executor: Any,
        policy: RetryPolicy,
        encoder: RemoteEncoder,
        left_out: Iterable[str] = (),
    ) -> None:
        self._fn = fn
        factory = None if is_executor(executor) else executor
        first = executor if factory is None else make(factory)
        self._handle = ExecutorHandle(first, factory)
        self._dispatcher: Dispatcher | None = None
        try:
            self._payload = Payload(
                RemoteFunction(fn, policy.never, encoder), frozenset(left_out), packs=not is_thread(first)
            )
            self._handle.check(self._payload)
        except BaseException:
            self._handle.close(kill=True)
            raise

    @property
    def digest(self) -> str:
        """The key under which workers cache the function."""
        return self._payload.digest

    def pool(self, scheduler: TaskSource) -> Dispatcher:
        """Return the worker pool that runs the tasks in the executor."""
        self._dispatcher = Dispatcher(scheduler, self._payload, self._handle)
        return self._dispatcher

    def shutdown_notice(self) -> str:
        """Return what happens to running tasks when the interpreter ends; "" if that was shown before."""
        return shutdown_notice(self._handle.executor, self._handle.is_owned)

    def drain(self, timeout_s: float) -> None:
        """At exit, wait until the sink has all results that came back; at most `timeout_s` seconds."""
        if self._dispatcher is not None:
            self._dispatcher.drain(timeout_s)

    def __call__(self, task: Task) -> Any:
        """Call fn in the kernel itself. Only a judge's `again` needs this."""
        return self._fn(task)

    def __getattr__(self, name: str) -> Any:
        if name in ("again", "again_verdicts", "health", "is_available"):  # answered in the kernel
            return getattr(self._fn, name)
        raise AttributeError(name)

    def close(self) -> None:
        """Close an executor that nbrun made, without waiting, at the end of the run; the user's own stays open."""
        self._handle.close(kill=self._dispatcher is not None and bool(self._dispatcher.out))
        close = getattr(self._fn, "close", None)
        if callable(close):
            close()
