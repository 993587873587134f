"""The canonical form of a value, and the digests that keys and contexts are. Pure functions.

The form is specified in results/format.py (F9) and must never change for `k1`.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import math
import pathlib
import struct
import sys
from collections.abc import Mapping
from typing import Any

from nbrun.texts import digits_of

try:
    from _blake2 import blake2b as blake2b  # the one in hashlib, which loads OpenSSL when it is imported
except ImportError:
    from hashlib import blake2b as blake2b

KEY_BYTES = 16
#: What keys are digested with.
EMPTY_DIGEST = blake2b(digest_size=KEY_BYTES)


def is_a(value: object, module: str, name: str) -> bool:
    """Return whether a value is of a class whose module may not be loaded, since it loads slowly; then none is."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def canonical(value: Any) -> bytes:
    """Return the bytes that are digested into a key: equal values give equal bytes, whatever library wrote them.

    Raises:
        TypeError: a value that has no canonical form; the message names its type.

    Example:
        >>> canonical({"b": [1, True], "a": "é"})
        b'{s1:as2:\\xc3\\xa9s1:b[i1;t]}'
    """
    kind = type(value)
    if kind is str:
        data = value.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(data), data)
    if kind is int:
        try:
            return b"i%d;" % value
        except ValueError:  # more digits than Python converts by itself
            return b"i%b;" % digits_of(value).encode()
    if value is None:
        return b"n"
    if kind is bool:
        return b"t" if value else b"f"
    if kind is float:
        return b"d" + (b"nan" if math.isnan(value) else struct.pack(">d", value + 0.0).hex().encode()) + b";"
    if kind is list or kind is tuple:
        return b"[" + b"".join(map(canonical, value)) + b"]"
    if kind is dict:
        return b"{" + b"".join(k + v for k, v in sorted((canonical(k), canonical(v)) for k, v in value.items())) + b"}"
    return _canonical_other(value)


def _canonical_other(value: Any) -> bytes:  # noqa: C901 - a flat table of types, in an order that matters
    if isinstance(value, str):
        return canonical(str.__str__(value))
    if isinstance(value, (bytes, bytearray)):
        return b"b%d:%b" % (len(value), bytes(value))
    if isinstance(value, Mapping):
        return canonical(dict(value))
    kind = type(value)
    room = kind.__module__.partition(".")[0]
    if kind.__name__ in ("NAType", "longdouble", "clongdouble", "Interval", "Period") and room in ("numpy", "pandas"):
        return _canonical_scalar(value, kind.__name__)
    if isinstance(value, dt.timedelta):  # of pandas with its nanoseconds
        days, seconds, micros = value.days, value.seconds, value.microseconds
        nanos = ((days * 86_400 + seconds) * 10**6 + micros) * 1000 + getattr(value, "nanoseconds", 0)
        return _typed("timedelta", nanos)
    if (kind.__module__, kind.__name__) in _TEXTS:
        return _typed(kind.__name__.lower(), str(value))
    if isinstance(value, complex):
        return _typed("complex", [value.real, value.imag])
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return b"T" + canonical(value.isoformat())
    if isinstance(value, pathlib.PurePath):
        return canonical(str(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return canonical({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, (list, tuple)):
        return canonical(list(value))
    if isinstance(value, (set, frozenset)):
        return b"<" + b"".join(sorted(map(canonical, value))) + b">"
    tolist = getattr(value, "tolist", None)  # numpy scalars and arrays
    if callable(tolist):
        return canonical(tolist())
    if isinstance(value, int):
        return canonical(int(value))
    if isinstance(value, float):
        return canonical(float(value))
    if isinstance(value, (range, collections.deque)):
        return canonical(list(value))
    if isinstance(value, enum.Enum):
        return canonical(value.value)
    if isinstance(value, memoryview):
        return canonical(bytes(value))
    if kind.__name__ == "DataFrame" and room == "pandas":
        columns = [list(value.iloc[:, i]) for i in range(value.shape[1])]
        return _typed("frame", [value.index.tolist(), value.columns.tolist(), columns])
    for method in ("isoformat", "as_py", "to_dict"):  # scalars of arrow, and what else entries can hold
        convert = getattr(value, method, None)
        if callable(convert) and not isinstance(value, type):
            return canonical(convert())
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} has no canonical form")


#: Known by name: importing them takes longer than all of nbrun.
_TEXTS = frozenset({("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID")})


def _typed(name: str, content: object) -> bytes:
    """Return the form of a value of a type that JSON doesn't know: an equal text or number has another form."""
    return b"X" + canonical(name) + canonical(content)


def _canonical_scalar(value: Any, name: str) -> bytes:
    """Return the form of a scalar of numpy or pandas that no other rule covers."""
    if name == "NAType":
        return canonical(None)
    if name == "longdouble":
        number = float(value)
        return canonical(number) if number == value or number != number else _typed(name, str(value))
    if name == "clongdouble":
        return _typed("complex", [value.real, value.imag])
    if name == "Interval":
        return _typed("interval", [value.left, value.right, value.closed])
    return _typed("period", [value.freqstr, str(value)])


def digest(value: object) -> bytes:
    """Return 16 bytes of BLAKE2b over the canonical form."""
    return blake2b(canonical(value), digest_size=KEY_BYTES).digest()


def key_text(key: bytes) -> str:
    """Return a key as it is written: `k1:` and 32 hexadecimal digits."""
    return "k1:" + key.hex()


def context_text(value: object) -> str:
    """Return the digest of a context as it is written: `c1:` and 16 hexadecimal digits."""
    return "c1:" + digest(value).hex()[:16]


#: The context of a sample that holds nothing but its groups.
EMPTY_CONTEXT = context_text({})
