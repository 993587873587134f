"""Pickles the function and chunks of tasks for an executor's workers.

Threads: a Payload is made by the thread that starts a run, then used by the dispatcher's thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from nbrun.engine.executor.worker import RemoteFunction, SamplePart, TaskPart
from nbrun.engine.task_queue import Item, SampleWork
from nbrun.errors import InputError
from nbrun.model import Task

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

    def chunk(self, items: list[Item], task: Callable[[Item], Task]) -> tuple[bytes | list[SamplePart], int]:
        """Return the argument `parts` of run_chunk for these tasks, and its size in bytes.

        Raises:
            Exception: the error of pickle: some item or sample can't be pickled.
        """
        parts: list[SamplePart] = []
        before: SampleWork | None = None
        tasks: list[TaskPart] = []
        for item in items:
            t = task(item)
            is_item = t.item is t.sample
            if item[0] is not before:
                before, tasks = item[0], []
                parts.append((t.sample_id, None if is_item else self._shared(before, t.sample), self._left_out, tasks))
            if not self._packs:
                tasks.append((t.group, t.index, t.item, t.attempt, t.hint, t.previous, t._flag))
            elif t.attempt == 1:
                tasks.append((t.group, t.index, t.item))
            else:
                tasks.append((t.group, t.index, t.item, t.attempt, dict(t.hint), t.previous))
        if not self._packs:
            return parts, 0
        data = _dumps([(i, shared, left if shared is not None else _NOTHING, rows) for i, shared, left, rows in parts])
        return data, len(data)

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
    fn = getattr(fn, "__func__", fn)
    code = getattr(fn, "__code__", None)
    if code is None:
        names = dict(getattr(fn, "__dict__", {}))
    else:
        cells = zip(code.co_freevars, getattr(fn, "__closure__", None) or (), strict=False)
        names = {n: fn.__globals__[n] for n in code.co_names if n in fn.__globals__}
        for name, cell in cells:
            try:
                names[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
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
