"""Reads many files at once: in this process, and in helper processes where there is enough to read for them to pay.

Threads: the caller reads too; one thread a helper hands it batches and takes its answers. `_lock` protects the list of
batches and what became of them. A helper that can't start, dies or answers nonsense costs its batch a second reading.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

from nbrun.errors import ThreadLimitError
from nbrun.frames.file_reader import read_files
from nbrun.frames.packing import Match, Pack, unpack
from nbrun.results.sample_file import Place
from nbrun.threads import start_daemon

#: A helper pays when it saves more than its start takes (about 0.2 s).
BYTES_A_HELPER = 64 << 20
MAX_HELPERS = 7
MIN_BATCH, MAX_BATCH = 1 << 20, 8 << 20
_END_S = 5.0


class ToRead(NamedTuple):
    """A file to be read."""

    name: str
    match: Match | None
    size: int
    place: Place | None = None


class _Work:
    """Batches and their packs. Threads: see above."""

    def __init__(self, batches: list[list[ToRead]], on_read: Callable[[int], None]) -> None:
        self.batches, self._on_read = batches, on_read
        self.packs: list[Pack | None] = [None] * len(batches)
        self._left = list(range(len(batches)))[::-1]
        self._lock = threading.Lock()

    def next(self) -> int | None:
        """Take a batch and return its number; None if all are taken."""
        with self._lock:
            return self._left.pop() if self._left else None

    def give_back(self, number: int) -> None:
        with self._lock:
            self._left.append(number)

    def done(self, number: int, pack: Pack) -> None:
        self.packs[number] = pack
        self._on_read(sum(f.size for f in self.batches[number]))


def read_all(folder: str, wanted: Sequence[ToRead], on_read: Callable[[int], None]) -> list[Pack]:
    """Return packs of all files, in order. Several threads call `on_read` with the number of bytes they read."""
    total = sum(f.size for f in wanted)
    helpers = min(_cpus() - 1, total // BYTES_A_HELPER, MAX_HELPERS) if sys.executable else 0
    work = _Work(_batches(wanted, total // (8 * (helpers + 1))), on_read)
    threads: list[threading.Thread] = []
    for _ in range(helpers):
        try:
            threads.append(start_daemon(_serve, "nbrun-load", (folder, work)))
        except ThreadLimitError:  # what it would have read is read here
            break
    with _without_gc():
        try:
            _read_here(folder, work)
        finally:
            while work.next() is not None:  # after an exception: nobody takes another batch
                pass
            for thread in threads:
                thread.join()
        work._left = [n for n, pack in enumerate(work.packs) if pack is None]
        _read_here(folder, work)  # what a helper has failed in
    return [pack for pack in work.packs if pack is not None]


def _read_here(folder: str, work: _Work) -> None:
    while (number := work.next()) is not None:
        work.done(number, read_files(folder, [(f.name, f.match, f.place) for f in work.batches[number]]))


def _batches(wanted: Sequence[ToRead], size: int) -> list[list[ToRead]]:
    size = min(max(size, MIN_BATCH), MAX_BATCH)
    out: list[list[ToRead]] = []
    room = 0
    for f in wanted:
        if room <= 0:
            out.append([])
            room = size
        out[-1].append(f)
        room -= f.size
    return out


def _serve(folder: str, work: _Work) -> None:
    """Serve one helper process; runs in a thread of its own."""
    number: int | None = None
    try:
        with _helper() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            while (number := work.next()) is not None:
                request = [folder, [[f.name, _with_groups(f.match), f.place] for f in work.batches[number]]]
                process.stdin.write(orjson.dumps(request) + b"\n")
                process.stdin.flush()
                size = int.from_bytes(process.stdout.read(8), "big")
                work.done(number, unpack(process.stdout.read(size)))
    except Exception:  # whatever it is: the caller's thread reads that batch itself
        if number is not None and work.packs[number] is None:
            work.give_back(number)


def _with_groups(match: Match | None) -> Match | None:
    """A match record with its groups, which stay in the log until they are asked for."""
    try:
        return None if match is None else {**match, "groups": match["groups"]}
    except LookupError:  # damaged: the file counts as never matched
        return None


@contextmanager
def _helper() -> Iterator[subprocess.Popen[bytes]]:
    top = str(Path(__file__).parent.parent.parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "nbrun.frames.helper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pipe in (process.stdin, process.stdout):
            try:
                pipe.close()  # type: ignore[union-attr]  # both were asked for
            except OSError:
                pass
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _without_gc() -> Iterator[None]:
    """Parsed JSON has no cycles, and collecting takes as long as parsing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
