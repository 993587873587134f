"""Tasks in any concurrent.futures.Executor: a worker thread of the engine submits each call and waits for it.

Threads: the engine's workers call the Remote; `_lock` protects the executor, its generation and who runs alone, and is
held neither while a call runs nor while a factory makes an executor (`_making` is, so that one makes it).
"""

from __future__ import annotations

import itertools
import pickle
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from hashlib import blake2b
from typing import Any

import orjson

from nbrun.engine.executors import far
from nbrun.errors import InputError, JudgeError, JudgeUnavailableError, NotSupportedError
from nbrun.model import Retry, RetryPolicy, Task
from nbrun.storage.values import decode

#: How long the first answer of an executor may take: a cluster may have to start its workers.
PROBE_S = 60.0
#: A waiting thread looks so often whether the run was stopped.
LOOK_S = 0.25
#: A task whose worker was lost so often runs with nothing beside it, once more, and then is an error.
LOST_BEFORE_ALONE = 3


class WorkerLostError(RuntimeError):
    """The worker that ran this task was lost again and again, at last with nothing running beside it."""

    retriable = False


class Remote:
    """Calls fn in an executor. Stands in fn's place in the engine.

    Args:
        fn: the user's function.
        executor: an Executor, or a factory of one without arguments.
        policy: says which exceptions are not tried again.

    Raises:
        InputError: it is none, it forks, fn can't travel, or its workers can't run nbrun's calls.
    """

    def __init__(self, fn: Callable[[Task], Any], executor: Any, policy: RetryPolicy) -> None:
        self._fn = fn
        self._packed = _pack((fn, policy.never))
        self._digest = blake2b(self._packed, digest_size=16).hexdigest()
        is_executor = isinstance(executor, Executor) or (hasattr(executor, "submit") and not isinstance(executor, type))
        self._factory = None if is_executor else executor
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._free = threading.Condition(self._lock)
        self._running, self._alone, self._generation, self._broken = 0, False, 0, False
        self._run, self._count = secrets.token_hex(4), itertools.count()
        self._executor = executor if is_executor else self._make()
        try:
            _refuse_fork(self._executor)
            self._probe()
        except BaseException:
            self.close()
            raise

    def __getattr__(self, name: str) -> Any:
        if name in ("again", "health"):  # asked in the kernel
            return getattr(self._fn, name)
        raise AttributeError(name)

    def __call__(self, task: Task) -> Any:
        """Runs one attempt there. Raises what fn raised, as far as that can be told without its class."""
        sent = _pack_task(task)
        losses = 0
        while True:
            alone = losses >= LOST_BEFORE_ALONE
            self._enter(alone)
            try:
                answer = self._attempt(sent, task)
            finally:
                self._leave(alone)
            if answer is not None:
                return _read(answer)
            losses += 1
            if alone:
                raise WorkerLostError(
                    f"its worker was lost {losses} times, the last time with nothing running beside it: "
                    "it was killed, ran out of memory or called os._exit."
                )

    def _attempt(self, sent: bytes, task: Task) -> tuple[Any, ...] | None:
        """The worker's answer; None where the worker was lost."""
        packed: bytes | None = None
        while True:
            with self._lock:
                executor, generation = self._executor, self._generation
            try:
                future = executor.submit(far.call, self._digest, packed, sent, f"{self._run}-{next(self._count)}")
                answer = _wait(future, task)
            except _StoppedError:
                raise
            except BaseException as e:  # broken pools, cancelled futures, closed clusters, SystemExit out of a future
                self._lost(generation, e)
                return None
            if answer[0] != "need":
                return answer
            packed = self._packed

    def _lost(self, generation: int, e: BaseException) -> None:
        """Makes the executor anew, once a break; without a factory the run pauses, where it takes no more calls."""
        if self._factory is None:
            if not _still_works(self._executor):
                self._broken = True
                raise JudgeUnavailableError(
                    f"Paused: the executor is broken ({type(e).__name__}: {str(e)[:200]}). What is done is saved. "
                    "run.stop(), then start again with a new executor, or with a factory of one "
                    "(executor=lambda: ...), from which nbrun makes a broken one anew."
                )
            return
        with self._making:
            if self._generation != generation or (_still_works(self._executor)):
                return
            old = self._executor
            try:
                new = self._make()
            except Exception as failed:
                raise JudgeUnavailableError(f"Paused: executor() raised {type(failed).__name__}: {failed}") from failed
            with self._lock:
                self._executor, self._generation = new, generation + 1
        _shut_down(old)

    def _make(self) -> Any:
        if not callable(self._factory):
            raise InputError(
                f"executor is a {type(self._factory).__name__}; give a concurrent.futures.Executor, "
                "or a function without arguments that makes one."
            )
        made = self._factory()
        if not hasattr(made, "submit"):
            raise InputError(f"executor() made a {type(made).__name__}; it must make a concurrent.futures.Executor.")
        return made

    def _probe(self) -> None:
        try:
            answer = self._executor.submit(far.probe, self._digest, self._packed).result(PROBE_S)
        except Exception as e:
            raise InputError(
                f"executor: a first small task failed with {type(e).__name__}: {e}. Its workers need nbrun and "
                "cloudpickle installed, in the same versions as here; in a script, start the run under "
                'if __name__ == "__main__".'
            ) from e
        if answer[0] != "ok":
            raise InputError(f"executor: its workers can't load fn: {answer[1]}: {answer[2]}. Install it there too.")

    def _enter(self, alone: bool) -> None:
        with self._free:
            self._free.wait_for(lambda: not self._alone)
            if alone:
                self._alone = True
                self._free.wait_for(lambda: self._running == 0)
            self._running += 1

    def _leave(self, alone: bool) -> None:
        with self._free:
            self._running -= 1
            if alone:
                self._alone = False
            self._free.notify_all()

    def is_available(self) -> bool:
        """May a paused run go on by itself?"""
        ask = getattr(self._fn, "is_available", None)
        return not self._broken and (not callable(ask) or bool(ask()))

    def close(self) -> None:
        """The run has ended. An executor that nbrun made is closed, without waiting; the user's stays open."""
        if self._factory is not None and hasattr(self, "_executor"):
            _shut_down(self._executor)
        close = getattr(self._fn, "close", None)
        if callable(close):
            close()


class _StoppedError(Exception):
    """The run was stopped while the call was out; the engine discards it."""


def _wait(future: Future[Any], task: Task) -> tuple[Any, ...]:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    while not done.wait(LOOK_S):
        if task.cancelled():
            future.cancel()
            raise _StoppedError
    answer = future.result(0)
    if not isinstance(answer, tuple):
        raise TypeError(f"the executor answered with a {type(answer).__name__}")
    return answer


def _read(answer: tuple[Any, ...]) -> Any:
    if answer[0] == "result":
        return decode(orjson.loads(answer[2]))
    if answer[0] == "retry":
        extra = decode(orjson.loads(answer[4]))
        raise Retry(answer[2], answer[3], extra["hint"], extra["result"])
    _, _, kind, name, message, text, retriable = answer
    known = {k.__name__: k for k in (JudgeUnavailableError, NotSupportedError, JudgeError)}
    e: Any = known[kind](message) if kind else _error_type(name)(message)
    e.retriable, e.far_traceback = retriable, text
    raise e


_types: dict[str, Any] = {}


def _error_type(name: str) -> Any:
    """An exception type of that name, the same each time; the user's class stays where it was raised."""
    return _types.setdefault(name, type(name, (Exception,), {}))


def _pack(value: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        raise InputError("executor= needs cloudpickle: pip install cloudpickle (here and on the workers).") from None
    try:
        return cloudpickle.dumps(value)  # type: ignore[no-any-return]
    except Exception as e:
        raise InputError(
            f"fn can't travel to the executor's workers: {type(e).__name__}: {e}. "
            "Make what it names (a lock, an open file, a client) inside fn instead of outside."
        ) from e


def _pack_task(task: Task) -> bytes:
    names = ("sample_id", "group", "index", "item", "sample", "attempt", "hint", "previous")
    values = {name: getattr(task, name) for name in names}
    values["sample"], values["hint"] = dict(task.sample), dict(task.hint)
    return pickle.dumps(values, protocol=5)


def _refuse_fork(executor: Any) -> None:
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise InputError(
            "executor: this process pool forks, and a forked copy of a kernel with threads can hang. Give "
            'ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn")), or "forkserver".'
        )


def _still_works(executor: Any) -> bool:
    try:
        executor.submit(int).result(PROBE_S)
    except BaseException:
        return False
    return True


def _shut_down(executor: Any) -> None:
    try:
        executor.shutdown(wait=False, cancel_futures=True)
    except TypeError:  # an older kind of executor
        executor.shutdown(wait=False)
    except Exception:  # broken: nothing is left to close
        pass
