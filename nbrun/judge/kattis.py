"""The comparison that Kattis and ICPC problem packages ask for by flags.

Called by worker threads; pure functions. The flags and what they mean are those of the problem package format
(https://www.kattis.com/problem-package-format): `case_sensitive`, `space_change_sensitive`,
`float_absolute_tolerance E`, `float_relative_tolerance E`, `float_tolerance E` (both).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nbrun.errors import JudgeError
from nbrun.judge.checkers import Bench, Case, Opinion, flags_of

_PIECES = re.compile(rb"\s+|\S+")
_FLOAT = re.compile(rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE)
_TOLERANCES = {
    "float_absolute_tolerance": ("absolute",),
    "float_relative_tolerance": ("relative",),
    "float_tolerance": ("absolute", "relative"),
}


@dataclass(frozen=True)
class Rule:
    """What the flags say. A tolerance of None means that numbers are words like others."""

    case_sensitive: bool = False
    space_change_sensitive: bool = False
    absolute: float | None = None
    relative: float | None = None

    def accepts(self, expected: bytes, actual: bytes) -> bool:
        """Whether an output is right.

        Example:
            >>> Rule().accepts(b"Yes 1", b"YES\\n1"), Rule(absolute=0.1).accepts(b"1", b"1.05")
            (True, True)
        """
        if expected == actual:
            return True
        if self.space_change_sensitive:
            pieces = _PIECES.finditer(actual)  # one by one: the output may be a flood
            for want in _PIECES.findall(expected):
                piece = next(pieces, None)
                if piece is None or not (want == piece[0] or (not want.isspace() and self._same(want, piece[0]))):
                    return False
            return next(pieces, None) is None
        wanted = expected.split()
        got = actual.split(None, len(wanted))  # never more pieces than are wanted
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
        off = abs(want - got)
        if not math.isfinite(off):
            return want == got or (math.isnan(want) and math.isnan(got))  # C writes `-nan`, packages `NaN`
        return off <= (self.absolute or 0.0) or off <= (self.relative or 0.0) * abs(want)


class KattisComparison:
    """Compares as a package's default output validator does. A test's own flags come after these.

    Args:
        flags: text, or a list of words, as in `validator_flags` of problem.yaml.

    Example:
        >>> KattisComparison("float_tolerance 1e-6").opinion(Case(b"", b"0.5", b"0.5000001"), None).accepted
        True
    """

    def __init__(self, flags: str | Sequence[str] = ()) -> None:
        self._flags = tuple(flags_of(flags))
        rule_of(self._flags)  # says at once what is wrong with them

    @property
    def settings(self) -> Any:
        """Its name and flags."""
        return {"kattis": list(self._flags)}

    def opinion(self, case: Case, bench: Bench | None) -> Opinion:
        """Compares the output with what was expected."""
        return Opinion(rule_of((*self._flags, *case.flags)).accepts(case.expected, case.output))


@lru_cache(256)
def rule_of(flags: tuple[str, ...]) -> Rule:
    """Flags -> what they say; the last one counts.

    Raises:
        JudgeError: an unknown flag, or a tolerance that is no number.
    """
    found: dict[str, Any] = {}
    words = iter(flags)
    for word in words:
        if word in ("case_sensitive", "space_change_sensitive"):
            found[word] = True
        elif word in _TOLERANCES:
            found |= dict.fromkeys(_TOLERANCES[word], _tolerance(word, next(words, "")))
        else:
            raise _wrong(f"{word!r} is none of case_sensitive, space_change_sensitive, {', '.join(_TOLERANCES)}")
    return Rule(**found)


def _tolerance(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise _wrong(f"{name} is {text!r}, not a number of 0 or more")
    return value


def _wrong(what: str) -> JudgeError:
    return JudgeError(f"flags of the output comparison: {what}.", retriable=False)
