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

#: Module -> the public names that are imported from it when they are first used: starting a run needs no pandas. What
#: starts a run is imported below, so that the first task doesn't wait for it.
_EXPORTS = {
    "nbrun.frames": "compare iter_results load_arrow load_results load_samples rates show status unexpected",
    "nbrun.model": "Progress Retry RetryPolicy Task",
    "nbrun.session": "Run shard start",
    "nbrun.session.watching": "watch",
    "nbrun.tools.archive": "archive",
    "nbrun.tools.check": "check",
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names.split()}

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
    value: Any
    if name in ("errors", "plots"):
        value = import_module(f"nbrun.{name}")
    elif name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), "archive_results" if name == "archive" else name)
    else:
        raise AttributeError(f"module 'nbrun' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


# A helper process (`python -m nbrun...`) and the command `nbrun` may run no task.
if os.path.basename(sys.argv[0] if sys.argv else "") not in ("-m", "nbrun"):
    __getattr__("start")
