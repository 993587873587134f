"""Results as DataFrames: load_results, rates, compare and others; and status, which needs none. Never writes.

Names are loaded when they are asked for, since helper processes and `status` need no pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbrun.frames.inspect import Status as Status
    from nbrun.frames.inspect import show as show
    from nbrun.frames.inspect import status as status
    from nbrun.frames.load import iter_results as iter_results
    from nbrun.frames.load import load_arrow as load_arrow
    from nbrun.frames.load import load_results as load_results
    from nbrun.frames.load import load_samples as load_samples
    from nbrun.frames.rate_tables import align as align
    from nbrun.frames.rate_tables import compare as compare
    from nbrun.frames.rate_tables import confusion as confusion
    from nbrun.frames.rate_tables import mcnemar as mcnemar
    from nbrun.frames.rate_tables import rates as rates
    from nbrun.frames.rate_tables import unexpected as unexpected

#: Module -> the public names that it defines. No module may have the name of one of its public functions: importing it
#: would put the module in the function's place, as an attribute of this package.
_EXPORTS = {
    "inspect": "Status show status",
    "load": "iter_results load_arrow load_results load_samples",
    "rate_tables": "align compare confusion mcnemar rates unexpected",
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"nbrun.frames.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'nbrun.frames' has no attribute {name!r}")
