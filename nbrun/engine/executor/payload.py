"""What is sent to an executor's workers: the function, and chunks of tasks. `ChunkSizer` says how many a chunk holds.

Threads: a Payload is made by the thread that starts a run, then used by the dispatcher's thread, as the ChunkSizer is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from nbrun.engine.executor.worker import RemoteFunction, SamplePart, TaskPart
from nbrun.engine.state import Item, SampleWork
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


#: A chunk should take TARGET_S. Tasks that take ALONE_S or more are sent one by one. MOST_TASKS and MOST_BYTES bound a
#: chunk.
TARGET_S, ALONE_S, MOST_TASKS, MOST_BYTES = 0.1, 0.05, 256, 1 << 20
#: The last tasks of a run are shared evenly among the slots, but not in chunks shorter than this.
LEAST_S = 0.01
#: If tasks take this long on average, a second chunk that waits in the executor gains nothing: each slot gets one.
LONG_S = 1.0


class ChunkSizer:
    """Chooses the size of chunks from the durations and bytes of those that came back.

    Example:
        >>> sizing = ChunkSizer()
        >>> sizing.size(1000, 8), sizing.came_back(1, 1, 0.001, 100), sizing.size(1000, 8)
        (1, None, 2)
    """

    def __init__(self) -> None:
        self._most = 1  # twice what the last whole chunk held
        self.mean_s: float | None = None  # of a task; None until one came back
        self._mean_bytes = 0.0
        self.longest_s = 0.0

    def size(self, ready: int, slots: int) -> int:
        """Return how many of the `ready` tasks the next chunk should hold."""
        if self.mean_s is None or self.mean_s >= ALONE_S:
            return 1
        short = max(self.mean_s, 1e-6)
        most = min(self._most, MOST_TASKS, int(TARGET_S / short), int(MOST_BYTES / max(self._mean_bytes, 1.0)))
        share = max(-(-ready // (2 * slots)), int(LEAST_S / short))
        return max(1, min(most, share))

    def came_back(self, sent: int, begun: int, took_s: float, size_bytes: int, longest_s: float = 0.0) -> None:
        """Record a chunk of `sent` tasks of which `begun` ran, in `took_s`; `size_bytes` went out and came back."""
        if not begun:
            return
        mean_s = took_s / begun
        weight = 0.5 if self.mean_s is not None else 1.0
        self.mean_s = mean_s if self.mean_s is None else self.mean_s + weight * (mean_s - self.mean_s)
        self._mean_bytes += weight * (size_bytes / begun - self._mean_bytes)
        self.longest_s = max(self.longest_s, longest_s or mean_s)
        if begun == sent:
            self._most = max(self._most, min(2 * sent, MOST_TASKS))
        else:
            self._most = begun

    @property
    def chunks_a_slot(self) -> int:
        """How many chunks a slot gets: one that runs and, once chunks have their final size, one that waits."""
        if self.mean_s is None or self.mean_s >= LONG_S:
            return 1
        return 2 if self._most >= min(MOST_TASKS, TARGET_S / max(self.mean_s, 1e-6)) or self.mean_s >= ALONE_S else 1
