"""A sample as it travels: without the lists that hold its items, which may be a thousand times as large as the rest.

A function that looks into them all the same (a group's list, or the mapping's length, keys or items) is stopped there,
and runs again with the whole sample, as do all tasks of the run from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class WholeSampleNeeded(BaseException):
    """fn asked for what didn't travel. No Exception, so that a function's own `except` doesn't swallow it."""


class PartialSample(dict[str, Any]):
    """What of a sample goes with each chunk. `left_out`: the names of the lists that stayed with the kernel."""

    def __init__(self, part: Mapping[str, Any], left_out: frozenset[str]) -> None:
        super().__init__(part)
        self.left_out = left_out
        self.was_asked = False  # a bare `except:` may have swallowed the exception

    def _ask(self) -> Any:
        self.was_asked = True
        raise WholeSampleNeeded

    def __missing__(self, name: Any) -> Any:
        if name in self.left_out:
            self._ask()
        raise KeyError(name)

    def get(self, name: Any, default: Any = None) -> Any:
        if name in self.left_out:
            self._ask()
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self.left_out or super().__contains__(name)

    def _whole(self, *args: Any, **more: Any) -> Any:
        self._ask()

    __iter__ = __len__ = __eq__ = __or__ = __ror__ = __reversed__ = __repr__ = __reduce_ex__ = _whole
    keys = values = items = copy = _whole
    __hash__ = None
