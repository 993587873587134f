"""Results as DataFrames: load_results, rates, compare and others; and status, which needs none. Never writes.

Names are loaded when they are asked for, since helper processes and `status` need no pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbrun.frames.export import load_arrow
    from nbrun.frames.inspect import show
    from nbrun.frames.load import iter_results, load_results, load_samples
    from nbrun.frames.rate_table import rates, unexpected
    from nbrun.frames.run_comparison import align, compare, confusion, mcnemar
    from nbrun.frames.status_counts import Status, status

#: Public name -> the module that defines it. No module may have the name of one of its public functions: importing it
#: would put the module in the function's place, as an attribute of this package.
_MODULES = {
    "Status": "status_counts",
    "align": "run_comparison",
    "compare": "run_comparison",
    "confusion": "run_comparison",
    "iter_results": "load",
    "load_arrow": "export",
    "load_results": "load",
    "load_samples": "load",
    "mcnemar": "run_comparison",
    "rates": "rate_table",
    "show": "inspect",
    "status": "status_counts",
    "unexpected": "rate_table",
}

__all__ = [
    "Status",
    "align",
    "compare",
    "confusion",
    "iter_results",
    "load_arrow",
    "load_results",
    "load_samples",
    "mcnemar",
    "rates",
    "show",
    "status",
    "unexpected",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"nbrun.frames.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'nbrun.frames' has no attribute {name!r}")
