"""Runs thousands of tasks in the background of a notebook kernel and saves every result the moment it ends.

run = nbrun.start(samples, fn, "results")
df = nbrun.load_results("results")
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nbrun.version import __version__ as __version__

if TYPE_CHECKING:
    from nbrun import errors, plots
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
    from nbrun.model import Progress, Retry, RetryPolicy, Task
    from nbrun.session import Run, shard, start
    from nbrun.session.watching import watch
    from nbrun.tools.archive import archive_results as archive
    from nbrun.tools.check import check

#: Public name -> the module that defines it, and its name there; a module has none. Each is imported when it is first
#: used: starting a run needs no pandas. What starts a run is imported below, so the first task doesn't wait for it.
_EXPORTS = {
    "Progress": ("nbrun.model", "Progress"),
    "Retry": ("nbrun.model", "Retry"),
    "RetryPolicy": ("nbrun.model", "RetryPolicy"),
    "Run": ("nbrun.session", "Run"),
    "Task": ("nbrun.model", "Task"),
    "archive": ("nbrun.tools.archive", "archive_results"),
    "check": ("nbrun.tools.check", "check"),
    "compare": ("nbrun.frames", "compare"),
    "errors": ("nbrun.errors", ""),
    "iter_results": ("nbrun.frames", "iter_results"),
    "load_arrow": ("nbrun.frames", "load_arrow"),
    "load_results": ("nbrun.frames", "load_results"),
    "load_samples": ("nbrun.frames", "load_samples"),
    "plots": ("nbrun.plots", ""),
    "rates": ("nbrun.frames", "rates"),
    "shard": ("nbrun.session", "shard"),
    "show": ("nbrun.frames", "show"),
    "start": ("nbrun.session", "start"),
    "status": ("nbrun.frames", "status"),
    "unexpected": ("nbrun.frames", "unexpected"),
    "watch": ("nbrun.session.watching", "watch"),
}

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
    "watch",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'nbrun' has no attribute {name!r}")
    module, inner = _EXPORTS[name]
    value = import_module(module)
    if inner:
        value = getattr(value, inner)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


# A helper process (`python -m nbrun...`) and the command `nbrun` may run no task.
if os.path.basename(sys.argv[0] if sys.argv else "") not in ("-m", "nbrun"):
    __getattr__("start")
