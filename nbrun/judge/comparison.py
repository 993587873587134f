"""Compares what a program wrote with the expected output, token by token or byte by byte.

Called by worker threads; pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable

#: How far a number may be off, absolute or relative, where the expected one is written as a decimal.
TOLERANCE = 1e-5

_INFINITY = float("inf")
_DECIMAL = re.compile(rb"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?")  # with a point or an exponent
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def compare_tokens(expected: str | bytes, actual: str | bytes, tolerance: float = TOLERANCE) -> bool:
    """Return whether both hold the same tokens, which are separated by ASCII whitespace; case counts.

    Where the expected token is written as a decimal (with a point or an exponent), a number within `tolerance` of it,
    absolute or relative, will do: right programs print `0.5` and `0.500000`. Integers and words must be equal;
    `nan` and `inf` are words.

    Example:
        >>> compare_tokens("0.5 7\\n", "0.5000001  7"), compare_tokens("7", "7.0"), compare_tokens("YES", "Yes")
        (True, False, False)
    """

    def are_close(want: bytes, got: bytes) -> bool:
        if not _DECIMAL.fullmatch(want) or not _NUMBER.fullmatch(got):
            return False
        a, b = float(want), float(got)
        return abs(a) < _INFINITY and abs(a - b) <= tolerance * max(1.0, abs(a))  # 1e400: beyond a double, a word

    return have_same_tokens(as_bytes(expected), as_bytes(actual), are_close)


def have_same_tokens(expected: bytes, actual: bytes, are_same: Callable[[bytes, bytes], bool]) -> bool:
    """Return whether both hold the same tokens, where `are_same` compares those that differ."""
    if expected == actual:
        return True
    tokens = expected.split()
    others = actual.split(None, len(tokens))  # no more pieces than are compared: the output may be huge
    if len(others) != len(tokens):
        return False
    if others:
        others[-1] = others[-1].rstrip()
    return all(a == b or are_same(a, b) for a, b in zip(tokens, others, strict=True))


def compare_exact(expected: str | bytes, actual: str | bytes) -> bool:
    """Return whether both are the same, byte by byte.

    Example:
        >>> compare_exact("1 2", "1 2"), compare_exact("1 2", "1  2")
        (True, False)
    """
    return as_bytes(expected) == as_bytes(actual)


def as_bytes(text: str | bytes) -> bytes:
    """Return text as the bytes that programs read and write."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
