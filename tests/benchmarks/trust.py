"""What trust costs: the disk's room during a run, opening a directory that is not in memory, a thousand kills."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbrun
from nbrun.storage.directory import Directory


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                pass
    return total


def disk() -> dict[str, Any]:
    """What a directory takes, over the bytes of the results saved so far: the most at any moment, and at the end.

    400 MB in 4 large samples beside 400 MB in 2,000 small ones, whose journal can't go before the large are filed.
    """
    text = "z" * 10_000
    each = len(text) + 300
    samples = [{"id": f"large{i}", "solutions": list(range(10_000))} for i in range(4)]
    samples += [{"id": f"small{i}", "solutions": list(range(20))} for i in range(2_000)]
    mixed = [s for i in range(4) for s in (samples[i], *samples[4 + 500 * i : 504 + 500 * i])]
    most = 0.0
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "r"
        run = nbrun.start(mixed, lambda task: {"n": task.index, "text": text}, results, workers=8, view=None)
        over = threading.Event()

        def look() -> None:
            nonlocal most
            while not over.is_set():
                saved = run.progress.saved * each
                if saved > 20e6 and results.exists():
                    most = max(most, _size(results) / saved)

        watcher = threading.Thread(target=look)
        watcher.start()
        saved = run.wait().saved * each
        over.set()
        watcher.join()
        return {"most": round(most, 2), "at_the_end": round(_size(results) / saved, 2)}


def cold() -> dict[str, Any]:
    """Opening 13,610 finished samples after their pages were dropped, beside reading a head and a tail of each file."""
    count = 13_610
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "r"
        samples = ({"id": f"sample-{i:05d}", "solutions": list(range(10))} for i in range(count))
        nbrun.start(samples, lambda task: {"n": task.index}, results, view=None).wait()
        files = sorted(results.glob("*.json"))
        for file in files:
            fd = os.open(file, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        times = {}
        for name, read in {"directory_s": lambda: Directory(results).scan(), "pass_s": lambda: _pass(files)}.items():
            _drop(files)
            began = time.perf_counter()
            read()
            times[name] = round(time.perf_counter() - began, 2)
        began = time.perf_counter()
        Directory(results).scan()
        times["warm_s"] = round(time.perf_counter() - began, 2)
        return {**times, "over_a_pass_of_tails": round(times["directory_s"] / times["pass_s"], 2)}


def _drop(files: list[Path]) -> None:
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def _pass(files: list[Path]) -> None:
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        os.pread(fd, 4096, max(0, os.fstat(fd).st_size - 4096))
        os.close(fd)


def thousand_kills() -> dict[str, Any]:
    """tests/storage/kills.py, 1,000 times."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))
    import kills

    return dict(kills.main(1000, time.time_ns() % 10**6))
