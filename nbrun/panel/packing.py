"""Whole numbers as bytes, and back: the columns of a message. Pure functions."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

_WIDTHS = ((1 << 8, 1, "B"), (1 << 16, 2, "H"), (1 << 32, 4, "I"))


def pack(values: Sequence[int]) -> tuple[int, bytes]:
    """Whole numbers as little-endian bytes, all of the smallest width that holds the largest.

    Example:
        >>> pack([1, 255]), pack([256])
        ((1, b'\\x01\\xff'), (2, b'\\x00\\x01'))
    """
    largest = max(values, default=0)
    width, code = next((width, code) for limit, width, code in _WIDTHS if largest < limit)
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return width, numbers.tobytes()


def unpack(layout: Iterable[tuple[str, int, int]], buffer: bytes) -> dict[str, Any]:
    """The columns of a message: what the view's script does, for tests and for other readers."""
    columns: dict[str, Any] = {}
    offset = 0
    for name, length, width in layout:
        part = buffer[offset : offset + length * width]
        offset += length * width
        if name == "names":
            columns[name] = json.loads(part)
            continue
        numbers = array(next(code for _, w, code in _WIDTHS if w == width), part)
        if sys.byteorder == "big":
            numbers.byteswap()
        columns[name] = list(numbers)
    return columns
