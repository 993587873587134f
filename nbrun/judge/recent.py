"""The problems whose tasks come now, in one shape: tasks of a sample come together, so each is read once.

Called by many worker threads at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbrun.errors import NotSupportedError
from nbrun.judge.problems import normalise


class RecentProblems:
    """Remembers the last few.

    Args:
        tests: which sets of tests to take of a problem.
        keep: how many problems to remember.
        check: asked about a problem once; raises NotSupportedError where it can't be judged.

    Threads: any number.
    """

    def __init__(
        self,
        tests: Sequence[str],
        keep: int,
        check: Callable[[str, Mapping[str, Any]], None] = lambda name, problem: None,
    ) -> None:
        self._tests, self._keep, self._check = tuple(tests), keep, check
        self._lock = threading.Lock()  # protects _known
        self._known: OrderedDict[int, tuple[Mapping[str, Any], dict[str, Any]]] = OrderedDict()

    def of(self, sample: Mapping[str, Any], name: str) -> dict[str, Any]:
        """A sample as `nbrun.judge.problems` tells.

        Raises:
            NotSupportedError: it says that it can't be judged, has no tests, or can't be read.
        """
        with self._lock:
            known = self._known.get(id(sample))  # an id is one sample's as long as that is held here
        if known is not None and known[0] is sample:
            return known[1]
        try:
            problem = normalise(sample, self._tests)
        except ValueError as e:
            raise NotSupportedError(f"problem {name!r} can't be judged, nothing can be said: {e}.") from None
        if problem.get("not_supported"):
            raise NotSupportedError(f"problem {name!r} is not supported: {problem['not_supported']}.")
        self._check(name, problem)
        with self._lock:
            self._known[id(sample)] = (sample, problem)
            while len(self._known) > self._keep:
                self._known.popitem(last=False)
        return problem

    def forget(self) -> None:
        """Lets the samples go."""
        with self._lock:
            self._known.clear()
