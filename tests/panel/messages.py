"""Reads the panel's messages as the page's script does."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable
from typing import Any

from nbrun.panel.sync import Message

CODES = {1: "B", 2: "H", 4: "I"}


def unpack(layout: Iterable[tuple[str, int, int]], buffer: bytes) -> dict[str, Any]:
    """Return the columns of a buffer."""
    columns: dict[str, Any] = {}
    offset = 0
    for name, length, width in layout:
        part = buffer[offset : offset + length * width]
        offset += length * width
        if name == "names":
            columns[name] = json.loads(part)
            continue
        numbers = array(CODES[width], part)
        if sys.byteorder == "big":
            numbers.byteswap()
        columns[name] = list(numbers)
    return columns


def decode(message: Message) -> dict[str, Any]:
    """Return the columns of a message."""
    layout: Any = message.content.get("layout", ())
    return unpack(layout, b"".join(message.buffers))
