"""What the tests of merging share: small runs, and directories as one can compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbrun

OLD = Path(__file__).parent.parent / "data" / "old"
IDENTITY = ["sample_id", "group", "key", "occurrence"]


def rows(*paths: Any, drop: tuple[str, ...] = ()) -> Any:
    """Return what load_results loads, in one order and in plain types."""
    frame = nbrun.load_results(list(paths)).drop(columns=list(drop))
    return frame.astype(dict.fromkeys(frame.columns, object)).sort_values(IDENTITY).reset_index(drop=True)


def tree(path: Path) -> dict[str, Any]:
    return {
        str(p.relative_to(path)): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(path.rglob("*")) if p.is_file()
    }


def run(path: Path, samples: Any, fn: Any = lambda task: {"n": task.item}, **options: Any) -> Any:
    return nbrun.start(samples, fn, path, view=None, workers=2, **{"groups": ["item"], "retry": None} | options)


def numbers(n: int) -> list[dict[str, Any]]:
    return [{"id": f"p/{i}", "items": [i, i + 1, i]} for i in range(n)]
