"""The executor of a run: checked before anything is written, replaced when it breaks, closed without waiting.

`Payload` is what is sent to its workers: the function, and chunks of tasks.

Threads: the dispatcher's thread packs, submits and replaces; `close` and the exit hook are called by others. `_lock`
protects `executor`, `generation` and `is_closing`. The thread that starts a run makes the Payload and calls
`shutdown_notice`.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import platform
import secrets
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, InvalidStateError
from hashlib import blake2b
from typing import Any

from nbrun.engine import executor_worker as worker
from nbrun.engine.executor_worker import RemoteFunction, SamplePart, TaskPart
from nbrun.engine.state import SampleWork, TaskRef
from nbrun.errors import InputError
from nbrun.model import Task

#: How long the first answer of an executor may take: a cluster may have to start its workers.
PROBE_S = 60.0
#: How long a process may take to end after SIGTERM, in seconds, before it is killed.
TERM_S = 0.5


def is_executor(value: object) -> bool:
    """Return whether `value` is an executor, as opposed to a class or a factory."""
    return isinstance(value, Executor) or (hasattr(value, "submit") and not isinstance(value, type))


def make(factory: object) -> Any:
    """Call a factory and return the executor that it makes.

    Raises:
        InputError: it can't be called, or makes no executor.
    """
    if not callable(factory):
        raise InputError(
            f"executor is a {type(factory).__name__}; give a concurrent.futures.Executor, "
            "or a function without arguments that makes one."
        )
    made = factory()
    if not hasattr(made, "submit"):
        raise InputError(f"executor() made a {type(made).__name__}; it must make a concurrent.futures.Executor.")
    return made


class ExecutorHandle:
    """The executor of a run.

    Args:
        executor: the user's own, or the first that `factory` made.
        factory: makes another one; None if the executor is the user's own, which is never closed here.

    Attributes:
        generation: counts the executors, from 0.
    """

    def __init__(self, executor: Any, factory: Any) -> None:
        self.executor, self._factory = executor, factory
        self.generation = 0
        self.is_closing = False
        self.cancel: Callable[[], None] = lambda: None  # cancels the calls that only wait in the executor
        self._lock = threading.Lock()
        _open.add(self)

    @property
    def is_owned(self) -> bool:
        """Whether nbrun made the executor."""
        return self._factory is not None

    @property
    def width(self) -> int | None:
        """How many calls it runs at once; None if that is not known."""
        width = getattr(self.executor, "_max_workers", None)
        return width if isinstance(width, int) else None

    def check(self, payload: Payload) -> None:
        """Check the executor with a first small call.

        Raises:
            InputError: the executor forks, or its workers can't run nbrun's calls.
        """
        _refuse_fork(self.executor)
        try:
            answer = self.executor.submit(worker.probe, payload.digest, payload.packed).result(PROBE_S)
        except TimeoutError as e:
            raise InputError(
                f"executor: no worker has answered a first small task within {PROBE_S:g} s. Look whether it has "
                "workers and whether they are free, then start the run again."
            ) from e
        except Exception as e:
            raise InputError(
                f"executor: a first small task failed with {type(e).__name__}: {e}. Its workers need nbrun and "
                "cloudpickle installed, in the same versions as here; in a script, start the run under "
                'if __name__ == "__main__".'
            ) from e
        _hook_exit(self.executor)
        if answer[0] != "ok":
            raise InputError(f"executor: its workers can't load fn: {answer[1]}: {answer[2]}. Install it there too.")
        here = platform.python_version()
        if here.split(".")[:2] != answer[1].split(".")[:2]:
            raise InputError(
                f"executor: its workers run Python {answer[1]}, the kernel {here}; functions travel only between equal "
                "versions (the first two numbers). Install the same there."
            )

    def submit(self, *arguments: object) -> Future[Any]:
        """Submit a chunk to a worker. Raise whatever a broken executor raises."""
        submit = _submit_to_dask if _kind(self.executor) == "distributed" else _submit
        return submit(self.executor, worker.run_chunk, *arguments)

    def replace(self) -> None:
        """Make another executor in place of a broken one. Raise whatever the factory raises."""
        old, new = self.executor, make(self._factory)
        with self._lock:
            closing = self.is_closing
            if not closing:
                self.executor = new
                self.generation += 1
        _end(new if closing else old, True)

    def close(self, kill: bool) -> None:
        """Cancel the waiting calls and, if nbrun made the executor, close it without waiting. No call follows.

        Args:
            kill: end the processes of the executor too, since calls may still be running.
        """
        with self._lock:
            self.is_closing = True
        _open.discard(self)
        self.cancel()
        if self.is_owned:
            _end(self.executor, kill)


def _refuse_fork(executor: object) -> None:
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise InputError(
            "executor: this process pool forks, and a forked copy of a kernel with threads can hang. Give "
            'ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn")), or "forkserver".'
        )


def _submit(executor: Any, fn: Callable[..., Any], *arguments: object) -> Future[Any]:
    return executor.submit(fn, *arguments)  # type: ignore[no-any-return]


def _submit_to_dask(executor: Any, fn: Callable[..., Any], *arguments: object) -> Future[Any]:
    """Submit a call to Dask so that its future always ends.

    The future of Dask's own executor stays pending for ever if the worker that has finished a call is lost before the
    result is fetched: its coroutine expects no exception there (distributed 2026.8, `cfexecutor._cascade_future`).
    An executor that is made in another way is asked itself.
    """
    if not all(hasattr(executor, name) for name in ("_client", "_futures", "_kwargs", "_shutdown")):
        return _submit(executor, fn, *arguments)
    if executor._shutdown:
        raise RuntimeError("cannot schedule new futures after shutdown")
    client, made = executor._client, Future[Any]()
    call = client.submit(fn, *arguments, **executor._kwargs)
    executor._futures.add(call)  # its shutdown() cancels them

    async def fetch() -> None:
        with contextlib.suppress(InvalidStateError):  # it was cancelled here meanwhile
            try:
                made.set_result(await client.gather(call, asynchronous=True))
            except BaseException as e:
                if call.cancelled():
                    made.cancel()
                    made.set_running_or_notify_cancel()
                else:
                    made.set_exception(e)

    client.loop.add_callback(fetch)
    made.add_done_callback(lambda made: call.cancel() if made.cancelled() and not call.done() else None)
    return made


def _end(executor: Any, kill: bool) -> None:
    """Close an executor without waiting: its queued calls are cancelled."""
    processes = dict(getattr(executor, "_processes", None) or {}) if kill else {}
    try:
        executor.shutdown(wait=False, cancel_futures=True)
    except TypeError:  # another kind of executor, such as Dask's and loky's
        with contextlib.suppress(Exception):
            executor.shutdown(wait=False)
    except Exception:  # it is broken: nothing is left to close
        pass
    _end_processes(list(processes.values()))


def _end_processes(processes: list[Any]) -> None:
    """End the processes of a pool, which would wait for them at exit. Kill those that SIGTERM doesn't end in TERM_S."""
    from multiprocessing.connection import wait  # slow to load; a pool of processes has it

    left = {}
    for child in processes:
        with contextlib.suppress(Exception):  # it has ended
            child.terminate()
            left[child.sentinel] = child
    end = time.monotonic() + TERM_S
    while left and (left_s := end - time.monotonic()) > 0:
        for sentinel in wait(list(left), left_s):
            del left[sentinel]
    for child in left.values():
        with contextlib.suppress(Exception):
            if child.is_alive():
                os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # loky's have no kill()


_open: weakref.WeakSet[ExecutorHandle] = weakref.WeakSet()


def _at_exit() -> None:
    """Close all executors at exit; otherwise the interpreter waits until a process pool has run all queued calls."""
    for handle in list(_open):
        handle.close(kill=True)


_hooked: set[str] = set()


def _hook_exit(executor: Any) -> None:
    """Register our exit hook after that of each kind of pool, so that it runs before it.

    Pools register hooks that join their threads when they are imported or first used. These run before atexit's, the
    latest first. So ours is registered again after the first call in each kind of pool.
    """
    kind = type(executor).__module__
    if kind not in _hooked:
        _hooked.add(kind)
        threading._register_atexit(_at_exit)  # type: ignore[attr-defined]


_ENDED = "a task under way in it is ended too, and runs again at the next start"
_LEFT = "a task under way there is not waited for, and runs again at the next start"
_WAITED = "a task under way is waited for, however long it takes"
_WAITED_A_LITTLE = "a task under way is waited for until Jupyter kills the kernel, seconds later, and then runs again"
_BY_FACTORY = " (to have it ended instead, give a function that makes the executor: executor=lambda: ...)"
_UNKNOWN = "it is the executor's choice to wait for a task under way; without its result that runs again"

_lock = threading.Lock()
_shown: set[str] = set()


def takes_kernel_along(executor: object) -> bool:
    """Return whether a task that ends its process may end the kernel too."""
    return _kind(executor) == "mpi4py" or is_thread(executor)


def shutdown_notice(executor: object, is_owned: bool) -> str:
    """Return the sentence for the user; "" if this process has shown it before."""
    said = _sentence(executor, is_owned)
    with _lock:
        if said in _shown:
            return ""
        _shown.add(said)
    return said


def _sentence(executor: object, is_owned: bool) -> str:
    is_kernel = "ipykernel" in sys.modules
    what, then = "kernel" if is_kernel else "program", _what_happens(executor, is_owned, is_kernel)
    return f"When this {what} ends, what is saved stays, what waits in the executor is cancelled, and {then}."


def _what_happens(executor: object, is_owned: bool, is_kernel: bool) -> str:
    """Return what happens to a task under way when the interpreter ends."""
    if _kind(executor) == "distributed":
        return _LEFT
    if hasattr(executor, "_processes"):  # a process pool or loky; a kernel ends all its children when it ends
        return _ENDED if is_owned or is_kernel else _WAITED + _BY_FACTORY
    if takes_kernel_along(executor):
        return _WAITED_A_LITTLE if is_kernel else _WAITED
    return _UNKNOWN


def _kind(executor: object) -> str:
    """Return the top-level package of the executor's class."""
    return type(executor).__module__.partition(".")[0]


# ---- what is sent to the workers

_NOTHING: frozenset[str] = frozenset()


class Payload:
    """Pickles the function and the tasks of one run.

    Args:
        function: the user's function, and what a worker needs to run it.
        left_out: the keys of a sample that hold its items; they aren't sent unless fn asks for them.
        packs: whether to pickle; False if the workers are threads of this process.

    Raises:
        InputError: fn can't be pickled; the message names the part that can't.
    """

    def __init__(self, function: RemoteFunction, left_out: frozenset[str], packs: bool) -> None:
        self._packs = packs
        self._left_out = left_out if packs else _NOTHING
        self.encoder = function.encoder
        self.packed: bytes | RemoteFunction = function
        self.digest = secrets.token_hex(16)
        if packs:
            self.packed = _pack_function(self.packed)
            self.digest = blake2b(self.packed, digest_size=16).hexdigest()
        self._last: tuple[SampleWork | None, bytes] = (None, b"")  # the sample packed last, and its shared part's bytes

    def send_whole(self) -> None:
        """Send whole samples from now on, since fn looks into the groups of its sample."""
        self._left_out = _NOTHING
        self._last = (None, b"")

    def chunk(self, refs: list[TaskRef], task: Callable[[TaskRef], Task]) -> tuple[bytes | list[SamplePart], int]:
        """Return the argument `parts` of run_chunk for these tasks, and its size in bytes.

        Raises:
            Exception: the error of pickle: some item or sample can't be pickled.
        """
        parts: list[SamplePart] = []
        for work, of_sample in itertools.groupby(refs, lambda ref: ref[0]):
            tasks = [task(ref) for ref in of_sample]
            sample_id, sample = tasks[0].sample_id, tasks[0].sample
            rows = [self._task_part(t) for t in tasks]
            if tasks[0].item is sample:
                parts.append((sample_id, None, _NOTHING, rows))
            else:
                parts.append((sample_id, self._shared(work, sample), self._left_out, rows))
        if not self._packs:
            return parts, 0
        data = _dumps(parts)
        return data, len(data)

    def _task_part(self, t: Task) -> TaskPart:
        if not self._packs:
            return (t.group, t.index, t.item, t.attempt, t.hint, t.previous, t._flag)
        if t.attempt == 1:
            return (t.group, t.index, t.item)
        return (t.group, t.index, t.item, t.attempt, dict(t.hint), t.previous)

    def _shared(self, work: SampleWork, sample: Mapping[str, object]) -> bytes | Mapping[str, object]:
        if not self._packs:
            return sample
        last, part = self._last
        if last is not work:
            part = _dumps({k: v for k, v in sample.items() if k not in self._left_out})
            self._last = (work, part)
        return part


def _dumps(value: object) -> bytes:
    import cloudpickle

    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data


def _pack_function(function: RemoteFunction) -> bytes:
    try:
        return _dumps(function)
    except ImportError:
        raise InputError("executor= needs cloudpickle: pip install cloudpickle (here and on the workers).") from None
    except Exception as e:
        raise InputError(
            f"fn can't travel to the executor's workers: {_culprit(function.fn)}{type(e).__name__}: {e}. "
            "Make it inside fn instead of outside (a lock, an open file, a client can't travel)."
        ) from e


def _culprit(fn: Any) -> str:
    """Return which name that fn uses can't be pickled, such as "'client' in it, a Client, …"; "" if none is found."""
    try:
        variables = inspect.getclosurevars(fn)
        names = {**variables.globals, **variables.nonlocals}
    except (TypeError, ValueError):  # no Python function; or one that refers to a variable that isn't assigned yet
        names = dict(getattr(fn, "__dict__", {}))
    for name, value in names.items():
        try:
            _dumps(value)
        except Exception:
            return f"{name!r} in it, a {type(value).__name__}, can't be pickled. "
    return ""


def is_thread(executor: object) -> bool:
    """Return whether its workers are threads of this process, so that nothing must be pickled."""
    from concurrent.futures import ThreadPoolExecutor

    return isinstance(executor, ThreadPoolExecutor)
