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
from collections.abc import Callable, Mapping
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


def _canonical_other(value: Any) -> bytes:
    """Return the form of a value of any other type. Raise TypeError where there is none."""
    try:
        return _form_of(value)(value)
    except (TypeError, RecursionError, MemoryError):
        raise
    except Exception as e:  # from a method of the value's own
        raise TypeError(f"a {_name_of(value)} that can't be read: {type(e).__name__}: {e}") from e


_Form = Callable[[Any], bytes]


def _form_of(value: Any) -> _Form:
    """Return what makes the form of a value. The order of the rules is part of the format."""
    kind = type(value)
    named = _BY_NAME.get((kind.__module__.partition(".")[0], kind.__name__))
    if named is not None:
        return named
    for matches, form in _RULES:
        if matches(value):
            return form
    return _form_by_method(value) or _form_by_base(kind) or _refuse


def _form_by_method(value: Any) -> _Form | None:
    """Return the form of what a value's own method makes of it."""
    if isinstance(value, type):
        return None
    for method in ("tolist", "isoformat", "as_py", "to_dict"):  # numpy; dates; scalars of arrow; frames
        convert = getattr(value, method, None)
        if callable(convert):
            return lambda value: canonical(convert())
    return None


def _form_by_base(kind: type) -> _Form | None:
    """Return the form of the type from one of the modules `_TEXTS` that a type derives from."""
    base = next((base for base in kind.__mro__ if base.__module__ in _TEXTS), object)
    return _BY_NAME.get((base.__module__, base.__name__))


def _refuse(value: Any) -> bytes:
    raise TypeError(f"a {_name_of(value)} has no canonical form")


def _name_of(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _typed(name: str, content: object) -> bytes:
    """Return the form of a value of a type that JSON doesn't know: an equal text or number has another form."""
    return b"X" + canonical(name) + canonical(content)


def _of_timedelta(value: Any) -> bytes:
    seconds = value.days * 86_400 + value.seconds  # those of pandas have nanoseconds, too
    return _typed("timedelta", (seconds * 10**6 + value.microseconds) * 1000 + getattr(value, "nanoseconds", 0))


def _of_dataclass(value: Any) -> bytes:
    return canonical({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})


def _of_long_float(value: Any) -> bytes:
    number = float(value)
    return canonical(number) if number == value or number != number else _typed("longdouble", str(value))


def _of_frame(value: Any) -> bytes:
    columns = [list(value.iloc[:, i]) for i in range(value.shape[1])]
    return _typed("frame", [value.index.tolist(), value.columns.tolist(), columns])


def _of_complex(value: Any) -> bytes:
    return _typed("complex", [value.real, value.imag])


#: (package, name) of types whose modules take longer to import than all of nbrun.
_BY_NAME: Mapping[tuple[str, str], _Form] = {
    ("pandas", "NAType"): lambda value: canonical(None),
    ("pandas", "Interval"): lambda value: _typed("interval", [value.left, value.right, value.closed]),
    ("pandas", "Period"): lambda value: _typed("period", [value.freqstr, str(value)]),
    ("pandas", "DataFrame"): _of_frame,
    ("numpy", "longdouble"): _of_long_float,
    ("numpy", "clongdouble"): _of_complex,
    ("decimal", "Decimal"): lambda value: _typed("decimal", str(value)),
    ("fractions", "Fraction"): lambda value: _typed("fraction", str(value)),
    ("uuid", "UUID"): lambda value: _typed("uuid", str(value)),
}
#: Types that derive from one of these modules' have its form.
_TEXTS = ("decimal", "fractions", "uuid")


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


#: Which values have which form; the first that matches counts.
_RULES: tuple[tuple[Callable[[Any], bool], _Form], ...] = (
    (_is(str), lambda value: canonical(str.__str__(value))),
    (_is(bytes, bytearray), lambda value: b"b%d:%b" % (len(value), bytes(value))),
    (_is(Mapping), lambda value: canonical(dict(value))),
    (_is(dt.timedelta), _of_timedelta),
    (_is(complex), _of_complex),
    (_is(dt.date, dt.time), lambda value: b"T" + canonical(value.isoformat())),
    (_is(pathlib.PurePath), lambda value: canonical(str(value))),
    (lambda value: dataclasses.is_dataclass(value) and not isinstance(value, type), _of_dataclass),
    (_is(list, tuple, range, collections.deque), lambda value: canonical(list(value))),
    (_is(set, frozenset), lambda value: b"<" + b"".join(sorted(map(canonical, value))) + b">"),
    (_is(int), lambda value: canonical(int(value))),
    (_is(float), lambda value: canonical(float(value))),
    (_is(enum.Enum), lambda value: canonical(value.value)),
)


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
