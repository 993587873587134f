"""Results as DataFrames: load_results, rates, compare and others; and status, which needs none. Never writes.

Names are loaded when they are asked for, since helper processes and `status` need no pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbrun.frames.arrow import load_arrow
    from nbrun.frames.comparing import align, compare, confusion, mcnemar
    from nbrun.frames.load import iter_results, load_results, load_samples
    from nbrun.frames.looking import show
    from nbrun.frames.rating import rates, unexpected
    from nbrun.frames.state import Status, status

_WHERE = {
    "iter_results": "load", "load_arrow": "arrow", "load_results": "load", "load_samples": "load",
    "align": "comparing", "compare": "comparing", "confusion": "comparing", "mcnemar": "comparing",
    "rates": "rating", "unexpected": "rating", "Status": "state", "show": "looking", "status": "state",
}  # fmt: skip

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
    if name in _WHERE:
        return getattr(import_module(f"nbrun.frames.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'nbrun.frames' has no attribute {name!r}")
