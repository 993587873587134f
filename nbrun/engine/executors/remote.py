"""What start() makes of `executor=`: checks it before anything is written, and stands in fn's place in the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbrun.engine.engine import Engine
from nbrun.engine.executors.cargo import Cargo, is_thread
from nbrun.engine.executors.dispatcher import Dispatcher
from nbrun.engine.executors.ending import told
from nbrun.engine.executors.pool import Pool, is_executor, make
from nbrun.model import RetryPolicy, Task


class Remote:
    """fn in an executor.

    Args:
        fn: the user's function.
        executor: an Executor, or a factory of one without arguments.
        policy: says which exceptions are not tried again.
        left_out: the keys of a sample that hold its items, which need not travel with each chunk.

    Raises:
        InputError: it is none, it forks, fn can't travel, or its workers can't run nbrun's calls.
    """

    def __init__(
        self, fn: Callable[[Task], Any], executor: Any, policy: RetryPolicy, left_out: Iterable[str] = ()
    ) -> None:
        self._fn = fn
        factory = None if is_executor(executor) else executor
        first = executor if factory is None else make(factory)
        self._pool = Pool(first, factory)
        self._dispatcher: Dispatcher | None = None
        try:
            self._cargo = Cargo(fn, policy.never, frozenset(left_out), packs=not is_thread(first))
            self._pool.check(self._cargo)
        except BaseException:
            self._pool.close(kill=True)
            raise

    @property
    def digest(self) -> str:
        """What workers know the function by."""
        return self._cargo.digest

    def crew(self, engine: Engine) -> Dispatcher:
        """Those who run the tasks."""
        self._dispatcher = Dispatcher(engine, self._cargo, self._pool)
        return self._dispatcher

    def tell(self) -> str:
        """What the end of the interpreter means for tasks under way; empty where that was told before."""
        return told(self._pool.executor, self._pool.is_owned)

    def catch_up(self, timeout_s: float) -> None:
        """The interpreter ends: what has come back by now is handed to the sink, or `timeout_s` seconds have passed."""
        if self._dispatcher is not None:
            self._dispatcher.catch_up(timeout_s)

    def __call__(self, task: Task) -> Any:
        """In the kernel itself: nobody needs that but a judge's `again`."""
        return self._fn(task)

    def __getattr__(self, name: str) -> Any:
        if name in ("again", "again_verdicts", "health", "is_available"):  # asked in the kernel
            return getattr(self._fn, name)
        raise AttributeError(name)

    def close(self) -> None:
        """The run has ended. An executor that nbrun made is closed, without waiting; the user's stays open."""
        self._pool.close(kill=self._dispatcher is not None and bool(self._dispatcher.out))
        close = getattr(self._fn, "close", None)
        if callable(close):
            close()
