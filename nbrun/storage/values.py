"""A result -> strict JSON, by the table in format.py (Values), and back.

Called in worker threads; pure functions. The fast way is orjson alone; whatever it can't do, or does in silence
(NaN becomes null), takes the slow way, which walks the value.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime as dt
import enum
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from nbrun.errors import UnstorableError

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_DEPTH = 200


class _SlowWay(Exception):
    """orjson met something that the table treats in its own way."""


def _refuse(value: Any) -> Any:
    raise _SlowWay


#: What no orjson turns into `null`.
NEVER_NULL = frozenset({str, int, bool})


def encode(value: Any, doubtful: Iterable[Any] | None = None, where: str = "result") -> tuple[bytes, bool]:
    """The value as JSON bytes, and whether something was lost (lone surrogates).

    Args:
        doubtful: the only parts of the value that may be None or NaN, or hold one. Where they are plain text and
            numbers, nobody need search all the text for what became `null`.
        where: what errors call the value; "" for a mapping whose keys say it themselves.

    Raises:
        UnstorableError: names the place in the value.

    Example:
        >>> encode({"x": float("inf"), "y": (1, 2)})
        (b'{"x":{"$float":"inf"},"y":[1,2]}', False)
    """
    try:
        data = orjson.dumps(value, _refuse, _OPTIONS)
    except (TypeError, ValueError, _SlowWay, RecursionError):
        return _encode_slowly(value, where)
    if doubtful is not None:
        for part in doubtful:
            kind = type(part)
            if kind not in NEVER_NULL and not (kind is float and part - part == 0.0):
                break
        else:
            return data, False
    if b"null" in data:  # a None, or a NaN that orjson turned into one
        return _encode_slowly(value, where)
    return data, False


def _encode_slowly(value: Any, where: str) -> tuple[bytes, bool]:
    lost: list[str] = []
    plain = _plain(value, where, lost, _DEPTH)
    try:
        return orjson.dumps(plain), bool(lost)
    except (TypeError, ValueError):  # integers beyond 64 bits
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode(), bool(lost)


def _plain(value: Any, where: str, lost: list[str], depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value, where, lost)
    if value is None or kind is bool or kind is int:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": "nan" if math.isnan(value) else str(value)}
    if depth <= 0:
        raise UnstorableError(f"{where} is nested deeper than {_DEPTH} levels (or contains itself)")
    if kind is dict or isinstance(value, Mapping):
        out = {
            _key(k, where, lost): _plain(v, f"{where}[{k!r}]" if where else f"{k}", lost, depth - 1)
            for k, v in value.items()
        }
        if len(out) != len(value):
            raise UnstorableError(f"{where or 'result'} has keys that are the same text in JSON, such as 1 and '1'.")
        return out
    if isinstance(value, (list, tuple, range, collections.deque)):
        return [_plain(v, f"{where}[{i}]", lost, depth - 1) for i, v in enumerate(value)]
    return _plain(_special(value, where), where, lost, depth - 1)


def _text(value: str, where: str, lost: list[str]) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        lost.append(where)
        return "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in value)
    return value


def _key(key: Any, where: str, lost: list[str]) -> str:
    if isinstance(key, str):
        return _text(str.__str__(key), where, lost)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, enum.Enum):
        return _key(key.value, where, lost)
    if isinstance(key, (int, float, dt.date, pathlib.PurePath)) or _is_text_like(key) or hasattr(key, "item"):
        return str(key)
    raise UnstorableError(f"{where} has a key of type {type(key).__name__}: {key!r:.80}. Keys must be text or numbers.")


def _is_text_like(value: Any) -> bool:
    """Decimal, Fraction, UUID; known by name, since importing them takes longer than all of nbrun."""
    kind = type(value)
    return (kind.__module__, kind.__name__) in (("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"))


def _special(value: Any, where: str) -> Any:
    """One step towards plain JSON for what isn't plain yet."""
    if isinstance(value, enum.Enum):
        return value.value
    for base in (str, int, float):  # subclasses, such as numpy.float64 and IntEnum
        if isinstance(value, base):
            return base.__str__(value) if base is str else base(value)
    if isinstance(value, complex):
        return {"$complex": [value.real, value.imag]}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)
        except TypeError:
            return sorted(value, key=repr)
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, pathlib.PurePath) or _is_text_like(value):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    for method in ("isoformat", "tolist", "to_dict"):  # dates; numpy, pandas; frames
        convert = getattr(value, method, None)
        if callable(convert) and not isinstance(value, type):
            return convert()
    raise UnstorableError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which JSON can't hold. "
        "Return plain values: text, numbers, lists, mappings."
    )


_NON_FINITE = ("nan", "inf", "-inf")  # anything else under "$float" is the user's own


def decode(value: Any) -> Any:
    """Parsed JSON with non-finite floats put back. Changes lists and dicts in place.

    Example:
        >>> decode({"x": {"$float": "-inf"}})
        {'x': -inf}
    """
    if isinstance(value, dict):
        if len(value) == 1 and value.get("$float") in _NON_FINITE:
            return float(value["$float"])
        for k, v in value.items():
            if isinstance(v, (dict, list)):
                value[k] = decode(v)
    elif isinstance(value, list):
        for i, v in enumerate(value):
            if isinstance(v, (dict, list)):
                value[i] = decode(v)
    return value
