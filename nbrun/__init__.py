"""Runs thousands of tasks in the background of a notebook kernel and saves every result the moment it ends.

run = nbrun.start(samples, fn, "results")
df = nbrun.load_results("results")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbrun import errors
from nbrun.model import Progress, Retry, RetryPolicy, Task
from nbrun.session import Run, shard, start
from nbrun.version import __version__ as __version__

if TYPE_CHECKING:
    from nbrun import plots
    from nbrun.frames import (
        compare,
        iter_results,
        load_arrow,
        load_results,
        load_samples,
        rates,
        show,
        status,
        unexpected,
    )
    from nbrun.tools.archive import archive_results as archive
    from nbrun.tools.check import check

__all__ = [
    "Progress",
    "Retry",
    "RetryPolicy",
    "Run",
    "Task",
    "archive",
    "check",
    "compare",
    "errors",
    "iter_results",
    "load_arrow",
    "load_results",
    "load_samples",
    "plots",
    "rates",
    "shard",
    "show",
    "start",
    "status",
    "unexpected",
]

_TOOLS = {"archive": ("archive", "archive_results"), "check": ("check", "check")}
_FRAMES = {
    "compare",
    "iter_results",
    "load_arrow",
    "load_results",
    "load_samples",
    "rates",
    "show",
    "status",
    "unexpected",
}


def __getattr__(name: str) -> Any:
    """pandas is loaded with the first function that needs it, not with the package."""
    if name in _TOOLS:
        module, function = _TOOLS[name]
        return getattr(import_module(f"nbrun.tools.{module}"), function)
    if name == "plots":
        return import_module("nbrun.plots")
    if name in _FRAMES:
        from nbrun import frames

        return getattr(frames, name)
    raise AttributeError(f"module 'nbrun' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
