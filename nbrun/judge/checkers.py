"""Who says whether an output is right: a comparison, a callable of the user's, or a program that a package brings.

Called by worker threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from nbrun.errors import JudgeError
from nbrun.judge.comparison import compare_tokens

#: `compare(expected, actual)`, or `compare(input, expected, actual)`.
Compare = Callable[..., bool]


@dataclass(frozen=True)
class Case:
    """One test with what a program wrote. `flags` are the package's for this test."""

    input: bytes
    expected: bytes
    output: bytes
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class Opinion:
    """What a checker says; `note` is what it wrote for people, `score` what it gave where it gave points."""

    accepted: bool
    note: str = ""
    score: float | None = None


class Bench(Protocol):
    """What a checker that is a program needs: a place that runs it (`nbrun.judge.validators.CheckerBench`)."""

    def run(self, item: Mapping[str, Any], case: Case, way: Any) -> Any:
        """Run a program on a case; see `nbrun.judge.validators.Ran`."""


class Checker(Protocol):
    """Says whether outputs are right. `opinion` gets no bench where no program can be run.

    Raises:
        JudgeError: it crashed: that says nothing of the solution.
    """

    @property
    def settings(self) -> Any:
        """What of it belongs to the settings of a run."""

    def opinion(self, case: Case, bench: Bench | None) -> Opinion: ...


class CallableChecker:
    """A function `compare(expected, actual)` or `compare(input, expected, actual)` of bytes.

    Example:
        >>> CallableChecker(lambda expected, actual: expected == actual).opinion(Case(b"", b"1", b"1"), None).accepted
        True
    """

    def __init__(self, compare: Compare) -> None:
        self._compare = compare
        self._takes_input = _arity(compare) == 3

    @property
    def settings(self) -> Any:
        """The function's name, or what it says of itself."""
        compare = self._compare
        described = getattr(compare, "settings", None)
        if described is not None:
            return described
        return f"{getattr(compare, '__module__', '')}.{getattr(compare, '__qualname__', repr(compare))}"

    def opinion(self, case: Case, bench: Bench | None) -> Opinion:
        """Asks the function."""
        arguments = (case.input, case.expected, case.output) if self._takes_input else (case.expected, case.output)
        try:
            return Opinion(bool(self._compare(*arguments)))
        except Exception as e:
            raise JudgeError(
                f"the checker {self.settings} raised {type(e).__name__}: {e}. That says nothing of the solution.",
                retriable=False,
            ) from e


def as_checker(value: Any) -> Checker:
    """A checker, or a function that compares -> a checker."""
    if hasattr(value, "opinion"):
        checker: Checker = value
        return checker
    return CallableChecker(value)


def opinion_of(checker: Checker, case: Case, bench: Bench | None, alternatives: Sequence[str | bytes] = ()) -> Opinion:
    """Return what a checker says of an output: that of the first expected output that accepts it, else of the first."""
    first = checker.opinion(case, bench)
    if first.accepted:
        return first
    for other in alternatives:
        expected = other.encode("utf-8", "surrogatepass") if isinstance(other, str) else other
        opinion = checker.opinion(replace(case, expected=expected), bench)
        if opinion.accepted:
            return opinion
    return first


def _arity(function: Callable[..., Any]) -> int:
    """How many arguments it must be given: 3 where it asks for the input too."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed)


def flags_of(value: Any) -> list[str]:
    """Validator flags as a package writes them (text, or a list) -> words."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [str(word) for pair in value.items() for word in pair]
    return [str(word) for word in value] if isinstance(value, (list, tuple)) else str(value).split()


#: Where neither the user nor the problem names one.
DEFAULT = CallableChecker(compare_tokens)
