"""Reads many files in parallel: in this process, and in helper processes where there is enough to read for them to pay.

A helper is `python -m nbrun.frames.parallel`, never multiprocessing, which would run an unguarded script of the user's
again. A request is a line of JSON, [folder, [[name, match record or null, place or null], ...]]; the answer is a pack
(see packing.py), preceded by its length in 8 bytes, big endian. A helper ends when its standard input does.

Threads: the caller reads too; one thread for each helper sends it batches and receives its packs. A helper that can't
start, dies or answers nonsense costs its batch a second reading.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import orjson

from nbrun.errors import ThreadLimitError
from nbrun.frames.packing import Pack, unpack
from nbrun.frames.rows import read_files
from nbrun.results.format import MatchRecord
from nbrun.results.sample_file import Place
from nbrun.results.values import without_gc
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

if TYPE_CHECKING:
    import subprocess

MAX_HELPERS = 7
#: The most bytes that a helper gets at a time.
MAX_BATCH = 16 << 20
#: A helper has this many batches, so that it needn't wait for the next one until this process is free to send it.
_SENT_AHEAD = 2
_END_S = 5.0


class ToRead(NamedTuple):
    """A file to be read."""

    name: str
    match: MatchRecord | None
    size: int
    place: Place | None = None


class Helpers:
    """The helper processes of one loader, which starts them while it still lists the files.

    Threads: the loader's alone.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._can_start = bool(sys.executable)

    def start_for(self, size: int) -> None:
        """Start as many helpers as pay for `size` bytes in all, less those that were started before."""
        wanted = min(size // TUNING.bytes_a_helper, MAX_HELPERS)
        if not self._can_start or len(self.processes) >= wanted:
            return
        wanted = min(wanted, _cpus() - 1)
        try:
            while len(self.processes) < wanted:
                self.processes.append(_start_helper())
        except (OSError, MemoryError):  # no more processes, or no memory: this process reads all
            self._can_start = False

    def close(self) -> None:
        """End all helpers, and wait until they have ended."""
        if not self.processes:
            return
        import subprocess

        for process in self.processes:
            for pipe in (process.stdin, process.stdout):
                try:
                    pipe.close()  # type: ignore[union-attr]  # both were asked for
                except OSError:
                    pass
        for process in self.processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


class _Work:
    """Batches and their packs. Threads: `_lock` protects the list of batches that are not taken."""

    def __init__(self, batches: list[list[ToRead]], on_read: Callable[[int], None]) -> None:
        self.batches, self._on_read = batches, on_read
        self.packs: list[Pack | None] = [None] * len(batches)
        self._left = list(range(len(batches)))[::-1]
        self._lock = threading.Lock()

    def next(self) -> int | None:
        """Take a batch and return its number; None if all are taken."""
        with self._lock:
            return self._left.pop() if self._left else None

    def done(self, number: int, pack: Pack) -> None:
        self.packs[number] = pack
        self._on_read(sum(f.size for f in self.batches[number]))


def read_all(folder: str, wanted: Sequence[ToRead], on_read: Callable[[int], None], helpers: Helpers) -> list[Pack]:
    """Return packs of all files, in order. Several threads call `on_read` with the number of bytes they read."""
    total = sum(f.size for f in wanted)
    processes = helpers.processes if total >= TUNING.min_batch_bytes else []
    work = _Work(_batches(wanted, total, len(processes) + 1), on_read)
    threads: list[threading.Thread] = []
    for process in processes:
        try:
            threads.append(start_daemon(_serve, "nbrun-load", (process, folder, work)))
        except ThreadLimitError:  # what it would have read is read here
            break
    with without_gc():
        try:
            _read_here(folder, work)
        finally:
            while work.next() is not None:  # after an exception: no thread takes another batch
                pass
            for thread in threads:
                thread.join()
        work._left = [n for n, pack in enumerate(work.packs) if pack is None]
        _read_here(folder, work)  # what a helper has failed in
    return [pack for pack in work.packs if pack is not None]


def _read_here(folder: str, work: _Work) -> None:
    while (number := work.next()) is not None:
        work.done(number, read_files(folder, [(f.name, f.match, f.place) for f in work.batches[number]]))


def _batches(wanted: Sequence[ToRead], total: int, readers: int) -> list[list[ToRead]]:
    """Cut the files into batches, the last of them the smallest, so that all readers end at about the same time."""
    out: list[list[ToRead]] = []
    room = 0
    for f in wanted:
        if room <= 0:
            out.append([])
            room = min(max(total // (4 * readers), TUNING.min_batch_bytes), MAX_BATCH)
        out[-1].append(f)
        room -= f.size
        total -= f.size
    return out


def _serve(process: subprocess.Popen[bytes], folder: str, work: _Work) -> None:
    """Serve one helper process; runs in a thread of its own."""
    sent: deque[int] = deque()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while True:
            while len(sent) < _SENT_AHEAD and (number := work.next()) is not None:
                sent.append(number)
                request = [folder, [[f.name, _with_groups(f.match), f.place] for f in work.batches[number]]]
                process.stdin.write(orjson.dumps(request) + b"\n")
                process.stdin.flush()
            if not sent:
                return
            size = int.from_bytes(process.stdout.read(8), "big")
            work.done(sent[0], unpack(process.stdout.read(size)))
            sent.popleft()
    except Exception:  # whatever it is: the caller's thread reads those batches itself
        process.kill()  # its next answer would be this one's rest


def _with_groups(match: MatchRecord | None) -> MatchRecord | None:
    """Return a match record with its groups, which stay in the log until they are asked for."""
    try:
        return None if match is None else {**match, "groups": match["groups"]}
    except LookupError:  # damaged: the file counts as never matched
        return None


def _start_helper() -> subprocess.Popen[bytes]:
    import subprocess  # the helper itself needs none

    top = str(Path(__file__).parent.parent.parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _receive(requests: SimpleQueue[bytes]) -> None:
    """Read requests, the last of them empty. In a thread, so that none waits for the answer to the one before it."""
    for line in sys.stdin.buffer:
        requests.put(line)
    requests.put(b"")


def _help() -> None:
    """Serve one loader, in a helper process."""
    gc.disable()  # parsed JSON has no cycles
    requests: SimpleQueue[bytes] = SimpleQueue()
    start_daemon(_receive, "nbrun-requests", (requests,))
    out = sys.stdout.buffer
    while line := requests.get():
        folder, files = orjson.loads(line)
        parts = list(read_files(folder, files).to_parts())
        out.write(sum(map(len, parts)).to_bytes(8, "big"))
        out.writelines(parts)
        out.flush()
    os._exit(0)  # nothing is left to write, and taking an interpreter down takes longer than the loader need wait


if __name__ == "__main__":
    _help()
