"""What trust costs: the disk's room during a run, a thousand kills."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbrun
from tests.benchmarks.registry import benchmark, least, most


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                pass
    return total


@benchmark(
    "disk",
    most("most", 2.5, "a directory's room during a run, at most, over the results in it", "×"),
    most("at_the_end", 1.1, "the same at the end", "×"),
)
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


@benchmark(
    "thousand_kills",
    least("kills", 1000, "SIGKILLs at random moments, half of them with a power cut"),
    most("lost", 0, "results lost by them"),
    most("doubled", 0, "doubled"),
    most("ran_again_a_kill", 40, "tasks that ran again, a kill"),
    is_long=True,
)
def thousand_kills() -> dict[str, Any]:
    """tests/storage/kills.py, 1,000 times."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))
    import kills

    return dict(kills.main(1000, time.time_ns() % 10**6))
