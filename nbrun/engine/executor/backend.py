"""What start() makes of `executor=`: checks it before anything is written, and stands in fn's place in the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbrun.engine.executor.dispatcher import Dispatcher
from nbrun.engine.executor.handle import ExecutorHandle, is_executor, make, shutdown_notice
from nbrun.engine.executor.payload import Payload, is_thread
from nbrun.engine.executor.worker import RemoteFunction
from nbrun.engine.worker_pool import TaskSource
from nbrun.model import RemoteEncoder, RetryPolicy, Task


class ExecutorBackend:
    """fn in an executor.

    Args:
        fn: the user's function.
        executor: an Executor, or a factory of one without arguments.
        policy: says which exceptions are not tried again.
        encoder: encodes results in the workers.
        left_out: the keys of a sample that hold its items, which need not travel with each chunk.

    Raises:
        InputError: it is none, it forks, fn can't travel, or its workers can't run nbrun's calls.
    """

    def __init__(
        self,
        fn: Callable[[Task], Any],
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
        """What workers know the function by."""
        return self._payload.digest

    def pool(self, scheduler: TaskSource) -> Dispatcher:
        """Those who run the tasks."""
        self._dispatcher = Dispatcher(scheduler, self._payload, self._handle)
        return self._dispatcher

    def shutdown_notice(self) -> str:
        """Return what the end of the interpreter means for tasks under way; "" where that was said before."""
        return shutdown_notice(self._handle.executor, self._handle.is_owned)

    def drain(self, timeout_s: float) -> None:
        """The interpreter ends: what has come back by now is handed to the sink, or `timeout_s` seconds have passed."""
        if self._dispatcher is not None:
            self._dispatcher.drain(timeout_s)

    def __call__(self, task: Task) -> Any:
        """Call fn in the kernel itself. Only a judge's `again` needs that."""
        return self._fn(task)

    def __getattr__(self, name: str) -> Any:
        if name in ("again", "again_verdicts", "health", "is_available"):  # asked in the kernel
            return getattr(self._fn, name)
        raise AttributeError(name)

    def close(self) -> None:
        """The run has ended. An executor that nbrun made is closed, without waiting; the user's stays open."""
        self._handle.close(kill=self._dispatcher is not None and bool(self._dispatcher.out))
        close = getattr(self._fn, "close", None)
        if callable(close):
            close()
