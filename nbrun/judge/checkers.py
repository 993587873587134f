"""Checkers decide whether an output is right: by a comparison, by a user's function, or by a program.

Called by worker threads. The checkers of this module compare outputs themselves; those that are programs are in
`nbrun.judge.validators`. The flags of `KattisComparison` are those of the problem package format
(https://www.kattis.com/problem-package-format): `case_sensitive`, `space_change_sensitive`,
`float_absolute_tolerance E`, `float_relative_tolerance E`, and `float_tolerance E` for both.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast

from nbrun.errors import JudgeError
from nbrun.judge.comparison import compare_tokens
from nbrun.judge.problems.values import flags_of
from nbrun.judge.sandbox.runner import ExitStatus

#: `compare(expected, actual)`, or `compare(input, expected, actual)`.
Compare = Callable[..., bool]

_PIECES = re.compile(rb"\s+|\S+")
_FLOAT = re.compile(rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE)
_TOLERANCES = {
    "float_absolute_tolerance": ("absolute",),
    "float_relative_tolerance": ("relative",),
    "float_tolerance": ("absolute", "relative"),
}


@dataclass(frozen=True)
class CheckerInput:
    """One test and what a program wrote for it.

    Attributes:
        flags: the validator flags that the test's package gives it.
    """

    input: bytes
    expected: bytes
    output: bytes
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class CheckerResult:
    """What a checker decided.

    Attributes:
        note: what it wrote for people.
        score: the points that it gave; None where it gives none.
        multiplier: the share of a test's points that it gave, 0 to 1; None where it gives none.
    """

    accepted: bool
    note: str = ""
    score: float | None = None
    multiplier: float | None = None


class ProgramRun(NamedTuple):
    """One run of a checker that is a program.

    Attributes:
        ending: how it ended.
        note: what it wrote for people.
        score: what it wrote into its file of points.
        output: what it wrote to stdout.
        multiplier: what it wrote into its file of a share of points.
    """

    ending: ExitStatus
    note: str
    score: str
    output: str = ""
    multiplier: str = ""


class CheckerRunner(Protocol):
    """Runs checkers that are programs; see `nbrun.judge.validators.ProgramRunner`."""

    def run(self, item: Mapping[str, object], given: CheckerInput, arguments: Sequence[str]) -> ProgramRun:
        """Run a program on an output; `{at}` in its arguments is replaced by the folder that holds the files."""


class Checker(Protocol):
    """Decides whether outputs are right."""

    @property
    def settings(self) -> object:
        """The checker's part of a run's settings."""

    def opinion(self, given: CheckerInput, runner: CheckerRunner | None) -> CheckerResult:
        """Return whether an output is right.

        Args:
            runner: runs programs; None where no program can be run.

        Raises:
            JudgeError: the checker failed, which says nothing about the solution.
        """


class CallableChecker:
    """A function `compare(expected, actual)` or `compare(input, expected, actual)` of bytes as a checker.

    Example:
        >>> given = CheckerInput(b"", b"1", b"1")
        >>> CallableChecker(lambda expected, actual: expected == actual).opinion(given, None).accepted
        True
    """

    def __init__(self, compare: Compare) -> None:
        self._compare = compare
        self._takes_input = _count_arguments(compare) == 3

    @property
    def settings(self) -> object:
        """The function's `settings` if it has some, otherwise its name."""
        compare = self._compare
        described = getattr(compare, "settings", None)
        if described is not None:
            return described
        return f"{getattr(compare, '__module__', '')}.{getattr(compare, '__qualname__', repr(compare))}"

    def opinion(self, given: CheckerInput, runner: CheckerRunner | None) -> CheckerResult:
        """Return the function's decision.

        Raises:
            JudgeError: the function raised an exception.
        """
        outputs = (given.expected, given.output)
        arguments = (given.input, *outputs) if self._takes_input else outputs
        try:
            return CheckerResult(bool(self._compare(*arguments)))
        except Exception as e:
            raise JudgeError(
                f"the checker {self.settings} raised {type(e).__name__}: {e}. That says nothing of the solution.",
                retriable=False,
            ) from e


def _count_arguments(function: Callable[..., object]) -> int:
    """Return how many arguments a function needs: 3 if it takes the input too."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed)


def as_checker(value: Checker | Compare) -> Checker:
    """Return a checker as it is, and a function that compares as a checker."""
    return cast(Checker, value) if hasattr(value, "opinion") else CallableChecker(value)


def checker_result(
    checker: Checker, given: CheckerInput, runner: CheckerRunner | None, alternatives: Iterable[str | bytes] = ()
) -> CheckerResult:
    """Return a checker's result for the first expected output that it accepts, or else for the first one.

    Args:
        alternatives: further outputs that are right.
    """
    first = checker.opinion(given, runner)
    if first.accepted:
        return first
    for other in alternatives:
        expected = other.encode("utf-8", "surrogatepass") if isinstance(other, str) else other
        result = checker.opinion(replace(given, expected=expected), runner)
        if result.accepted:
            return result
    return first


#: The checker where neither the user nor the problem names one.
DEFAULT = CallableChecker(compare_tokens)


# ---- the comparison of problem packages


@dataclass(frozen=True)
class FlagRules:
    """How validator flags compare outputs.

    Attributes:
        absolute, relative: tolerances of numbers; where both are None, numbers are compared as words.
    """

    case_sensitive: bool = False
    space_change_sensitive: bool = False
    absolute: float | None = None
    relative: float | None = None

    def accepts(self, expected: bytes, actual: bytes) -> bool:
        """Return whether an output is right.

        Example:
            >>> FlagRules().accepts(b"Yes 1", b"YES\\n1"), FlagRules(absolute=0.1).accepts(b"1", b"1.05")
            (True, True)
        """
        if expected == actual:
            return True
        if self.space_change_sensitive:
            pieces = _PIECES.finditer(actual)  # one by one, because the output may be huge
            for want in _PIECES.findall(expected):
                piece = next(pieces, None)
                if piece is None or not (want == piece[0] or (not want.isspace() and self._same(want, piece[0]))):
                    return False
            return next(pieces, None) is None
        wanted = expected.split()
        got = actual.split(None, len(wanted))  # no more pieces than are compared, because the output may be huge
        if len(wanted) != len(got):
            return False
        if got:
            got[-1] = got[-1].rstrip()
        return all(a == b or self._same(a, b) for a, b in zip(wanted, got, strict=True))

    def _same(self, want: bytes, got: bytes) -> bool:
        if (self.absolute is not None or self.relative is not None) and _FLOAT.fullmatch(want):
            return bool(_FLOAT.fullmatch(got)) and self._close(float(want), float(got))
        return not self.case_sensitive and want.lower() == got.lower()

    def _close(self, want: float, got: float) -> bool:
        difference = abs(want - got)
        if not math.isfinite(difference):
            return want == got or (math.isnan(want) and math.isnan(got))  # C writes `-nan`, packages write `NaN`
        return difference <= (self.absolute or 0.0) or difference <= (self.relative or 0.0) * abs(want)


class KattisComparison:
    """Compares outputs as a package's default output validator does. A test's own flags come after these.

    Args:
        flags: text, or a list of words, as in `validator_flags` of problem.yaml.

    Raises:
        JudgeError: a flag is unknown, or a tolerance is no number.

    Example:
        >>> KattisComparison("float_tolerance 1e-6").opinion(CheckerInput(b"", b"0.5", b"0.5000001"), None).accepted
        True
    """

    def __init__(self, flags: str | Sequence[str] = ()) -> None:
        self._flags = tuple(flags_of(flags))
        rules_of_flags(self._flags)  # raises here and not at the first test

    @property
    def settings(self) -> object:
        """The comparison's name and flags."""
        return {"kattis": list(self._flags)}

    def opinion(self, given: CheckerInput, runner: CheckerRunner | None) -> CheckerResult:
        """Return whether the output equals the expected one by the flags."""
        rules = rules_of_flags((*self._flags, *given.flags))
        return CheckerResult(rules.accepts(given.expected, given.output))


@lru_cache(256)
def rules_of_flags(flags: tuple[str, ...]) -> FlagRules:
    """Return what flags mean; of contradicting flags the last one counts.

    Raises:
        JudgeError: a flag is unknown, or a tolerance is no number.
    """
    switches: dict[str, bool] = {}
    tolerances: dict[str, float] = {}
    words = iter(flags)
    for word in words:
        if word in ("case_sensitive", "space_change_sensitive"):
            switches[word] = True
        elif word in _TOLERANCES:
            tolerance = _tolerance(word, next(words, ""))
            for kind in _TOLERANCES[word]:
                tolerances[kind] = tolerance
        else:
            raise _bad_flags(f"{word!r} is none of case_sensitive, space_change_sensitive, {', '.join(_TOLERANCES)}")
    return FlagRules(
        switches.get("case_sensitive", False),
        switches.get("space_change_sensitive", False),
        tolerances.get("absolute"),
        tolerances.get("relative"),
    )


def number_of(text: Any) -> float | None:
    """Return a finite number; None where a text or another value is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _tolerance(name: str, text: str) -> float:
    value = number_of(text)
    if value is None or value < 0:
        raise _bad_flags(f"{name} is {text!r}, not a number of 0 or more")
    return value


def _bad_flags(what: str) -> JudgeError:
    return JudgeError(f"flags of the output comparison: {what}.", retriable=False)
