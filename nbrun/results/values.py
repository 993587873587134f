"""Values -> strict JSON, by the table in format.py (Values), and back. All JSON that nbrun writes or reads passes here.

Pure functions; any thread. `encode` writes what users give, `dump` what nbrun itself says, `load` reads both. The fast
path is orjson alone; whatever it can't do, or does silently wrong (NaN becomes null, integers beyond 64 bits become
floats when they are read), takes a slow path.
"""

from __future__ import annotations

import binascii
import collections
import dataclasses
import datetime as dt
import enum
import gc
import json
import marshal
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NoReturn

import orjson

from nbrun.errors import STORABLE_ADVICE, UnstorableError
from nbrun.results.format import JsonValue
from nbrun.texts import MAX_DIGITS, digits_of, integer_of, without_surrogates

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_DEPTH = 200
_INT_LOW, _INT_HIGH = -(2**63), 2**64  # what orjson writes by itself


class _SlowWay(Exception):
    """orjson met something that the table treats in its own way."""


def _refuse(value: object) -> NoReturn:
    raise _SlowWay


@contextmanager
def without_gc() -> Iterator[None]:
    """Pause the garbage collector: parsed JSON has no cycles, and collecting takes as long as parsing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


#: What no orjson turns into `null`.
NEVER_NULL = frozenset({str, int, bool})


def encode(value: object, where: str = "result") -> tuple[bytes, bool]:
    """The value as JSON bytes, and whether something was lost (lone surrogates).

    Args:
        where: what errors call the value; "" for a mapping whose keys say it themselves.

    Raises:
        UnstorableError: names the place in the value.

    Example:
        >>> encode({"x": float("inf"), "y": (1, 2)})
        (b'{"x":{"$float":"inf"},"y":[1,2]}', False)
    """
    if _is_memory_limited and _is_large(value):
        return _encode_slowly(value, where)
    try:
        data = orjson.dumps(value, _refuse, _OPTIONS)
    except (TypeError, ValueError, _SlowWay, RecursionError):
        return _encode_slowly(value, where)
    if b"null" in data or not _is_plain(value):  # a None, or a NaN that orjson turned into one
        return _encode_slowly(value, where)
    return data, False


def _is_plain(value: Any) -> bool:
    """Return whether a value that orjson has written holds no text that it wrote unread: no `orjson.Fragment`.

    Such text may be no JSON, or more than one value. marshal takes half as long as parsing all that was written would,
    and knows the types that orjson knows, without fragments.
    """
    try:
        marshal.dumps(value)
    except ValueError:
        return False
    return True


def encode_quickly(value: Mapping[str, object], doubtful: Iterable[Any]) -> bytes | None:
    """Return what `encode` would, or None where that takes more than one call of orjson and a look at some types.

    Args:
        doubtful: the only parts of the value that may be None or NaN, or hold one. Where they are plain text and
            numbers, nothing need search all the text for what became `null`.
    """
    if _is_memory_limited:
        return None
    try:
        data = orjson.dumps(value, _refuse, _OPTIONS)
    except (TypeError, ValueError, _SlowWay, RecursionError):
        return None
    for part in doubtful:
        kind = type(part)
        if kind is str or kind is int or (kind is float and part - part == 0.0) or kind is bool:
            continue
        return data if b"null" not in data and _is_plain(value) else None
    return data


def _encode_slowly(value: object, where: str) -> tuple[bytes, bool]:
    lost: list[str] = []
    plain = _plain(value, where, lost, _DEPTH)
    return (_dump_in_pieces(plain) if _is_memory_limited else orjson.dumps(plain)), bool(lost)


# orjson crashes the process where its buffers can't grow. Under a limit of the address space (`ulimit -v`, batch
# systems) large values are therefore encoded in pieces and read by Python's own parser: a lack of memory is a
# MemoryError there, which is one task's error or one file's problem.
_is_memory_limited = False
_PIECE = 1 << 20  # characters of text that orjson gets at a time then


def look_at_memory_limit() -> None:
    """Notice a limit of this process's address space. Called when a results directory is opened."""
    global _is_memory_limited
    try:
        import resource

        _is_memory_limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    except (ImportError, AttributeError, OSError):  # Windows has no such limit
        _is_memory_limited = False


def _is_large(value: Any) -> bool:
    """Whether its texts, or its parts, may come to more than one piece."""
    room = _PIECE
    todo = [value]
    while todo:
        part = todo.pop()
        kind = type(part)
        if kind is str:
            room -= len(part)
        elif kind is dict:
            room -= 16 * len(part)
            todo += part.values()
        elif kind is list:
            room -= 8 * len(part)
            todo += part
        elif kind not in _SCALARS:
            room -= getattr(part, "nbytes", 64)  # an array, or whatever becomes one
        if room < 0:
            return True
    return False


def _dump_in_pieces(value: object) -> bytes:
    """Return the JSON of a plain value without one large buffer that has to grow."""
    pieces: list[bytes] = []
    _add_pieces(value, pieces)
    return b"".join(pieces)


def _add_pieces(value: Any, pieces: list[bytes]) -> None:
    kind = type(value)
    if not _is_large(value):
        pieces.append(orjson.dumps(value))
    elif kind is str:
        pieces.append(json.encoder.encode_basestring(value).encode())
    elif kind is dict:
        mark = b"{"
        for key, part in value.items():
            pieces += [mark, orjson.dumps(key), b":"]
            _add_pieces(part, pieces)
            mark = b","
        pieces.append(b"}")
    else:
        mark = b"["
        for part in value:
            pieces.append(mark)
            _add_pieces(part, pieces)
            mark = b","
        pieces.append(b"]")


def check_storable(value: Any, where: str = "item") -> None:
    """Raise an UnstorableError, which names the place in the value, if `encode` would.

    Flat mappings of texts and numbers, which most items are, cost a look at each type.
    """
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is dict:
        for key, part in value.items():
            if type(key) is not str or type(part) not in _SCALARS:
                break
        else:
            return
    encode(value, where=where)


def dump(value: object) -> bytes:
    """Return compact JSON of nbrun's own values: of names, reasons and settings, which hold texts of users.

    Lone surrogates become U+FFFD, so that no text of a user can keep a record from being written.

    Example:
        >>> dump({"id": "cut \\ud83d", "n": 2**70})
        b'{"id":"cut \xef\xbf\xbd","n":1180591620717411303424}'
    """
    if _is_memory_limited and _is_large(value):
        return _encode_slowly(value, "value")[0]
    try:
        return orjson.dumps(value)
    except TypeError:
        return _encode_slowly(value, "value")[0]


def load(data: bytes | bytearray | memoryview | str) -> JsonValue:
    """Return what JSON says, with integers of any size exact.

    orjson reads integers beyond 64 bits as floats. JSON that may hold one (a number of 19 digits or more, which is
    looked for at several GB/s) is parsed by Python's own parser instead, which is four times slower.

    Raises:
        ValueError: this is no JSON.

    Example:
        >>> load(b'{"n":18446744073709551617}')
        {'n': 18446744073709551617}
    """
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    try:
        return load_strictly(data)
    except orjson.JSONDecodeError:
        if b"\\ud" not in bytes(data) and b"\\uD" not in bytes(data):
            raise
        return _load_exactly(data)  # lone surrogates, as Python's json writes them


def load_strictly(data: bytes | bytearray | memoryview) -> JsonValue:
    """The same, but a lone surrogate in an escape is an error."""
    return _load_exactly(data) if _may_hold_big_integer(data) else load_quickly(data)


def load_quickly(data: bytes | bytearray | memoryview) -> JsonValue:
    """Return what JSON says, with integers beyond 64 bits as floats. Raise ValueError where it is no JSON."""
    if _is_memory_limited and len(data) > _PIECE:
        return _load_exactly(data)
    value: JsonValue = orjson.loads(data)
    return value


def quick_loader() -> Callable[[bytes], JsonValue]:
    """Return the fastest function that does what `load_quickly` does in this process."""
    look_at_memory_limit()
    return load_quickly if _is_memory_limited else orjson.loads


def pretty(value: object) -> str:
    """Return indented JSON of any value, for people to read: what JSON can't hold is shown as text.

    Example:
        >>> print(pretty({"a": [1]}))
        {
          "a": [
            1
          ]
        }
    """
    return orjson.dumps(_shown(value, _DEPTH), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


def _shown(value: Any, depth: int) -> object:
    if (show := _SHOWN.get(type(value))) is not None:
        return show(value)
    if depth > 0 and isinstance(value, Mapping):
        return {without_surrogates(str(k)): _shown(v, depth - 1) for k, v in value.items()}
    if depth > 0 and isinstance(value, (list, tuple)):
        return [_shown(v, depth - 1) for v in value]
    return without_surrogates(str(value))


#: How values of plain types are shown.
_SHOWN: Mapping[type, Callable[[Any], object]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    str: without_surrogates,
    int: lambda n: n if _INT_LOW <= n < _INT_HIGH else orjson.Fragment(digits_of(n)),
    float: lambda x: x if math.isfinite(x) else orjson.Fragment(json.dumps(x)),
}

#: Every byte that is no digit becomes a 0 byte, every digit "0", so that a run of digits can be searched for.
_DIGITS = bytes(48 if 48 <= byte <= 57 else 0 for byte in range(256))
_RUN = b"0" * 19  # the shortest integer that 64 bits may not hold
_STEP, _STEPS = 6, b"000"  # a run of 19 digits covers three neighbours of every sixth byte
_SMALL = 256  # bytes; below, looking at all of them at once is the fastest
_INTEGER = re.compile(rb"-?[0-9]+(?=[ \t\r\n]*(?:[,\]}]|\Z))")


def _may_hold_big_integer(data: bytes | bytearray | memoryview) -> bool:
    """Whether there is an integer beyond 64 bits, or a text that looks like one. Never False where there is one."""
    if len(data) > _SMALL and _STEPS not in bytes(data[::_STEP]).translate(_DIGITS):
        return False
    data = bytes(data)
    digits = data.translate(_DIGITS)
    at = digits.find(_RUN)
    while at >= 0:
        end = digits.find(b"\0", at)
        end = len(data) if end < 0 else end
        if _may_be_big_integer(data, at, end):
            return True
        at = digits.find(_RUN, end)
    return False


def _may_be_big_integer(data: bytes, at: int, end: int) -> bool:
    """Return whether the 19 or more digits from `at` to `end` look like an integer that 64 bits may not hold."""
    start = at - (data[at - 1 : at] == b"-")
    before = data[start - 1 : start] if start else b"["
    is_long = end - at > 19 or start < at
    return is_long and before in b"[:, \n\r\t" and _INTEGER.match(data, start) is not None


def _load_exactly(data: bytes | bytearray | memoryview) -> JsonValue:
    try:
        value = _EXACT.decode(bytes(data).decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError("JSON nested too deep") from None
    return without_surrogates_in(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_EXACT = json.JSONDecoder(parse_int=integer_of, parse_constant=_refuse_constant)


def without_surrogates_in(value: JsonValue) -> JsonValue:
    """Return parsed JSON with U+FFFD for each lone surrogate. Changes lists and dicts in place."""
    # Not recursive: since Python 3.12 the parser accepts JSON that is nested deeper than functions may be.
    whole = [value]
    left: list[list[JsonValue] | dict[str, JsonValue]] = [whole]
    while left:
        parent = left.pop()
        if isinstance(parent, dict):
            items = list(parent.items())
            parent.clear()
            parent.update((without_surrogates(key), _clean(part, left)) for key, part in items)
        else:
            parent[:] = [_clean(part, left) for part in parent]
    return whole[0]


def _clean(part: JsonValue, left: list[list[JsonValue] | dict[str, JsonValue]]) -> JsonValue:
    """Return a text without lone surrogates; a list or a dict is added to those that are left to do."""
    if isinstance(part, str):
        return without_surrogates(part)
    if isinstance(part, (list, dict)):
        left.append(part)
    return part


_SCALARS = frozenset({str, int, float, bool, type(None)})
_MAX_BITS = int(MAX_DIGITS * math.log2(10))


def _plain(value: Any, where: str, lost: list[str], depth: int) -> object:
    """Return a value as orjson takes it. `lost` gets the places of texts that have lost a lone surrogate."""
    kind = type(value)
    if kind in _SCALARS:
        return _plain_scalar(value, where, lost)
    if depth <= 0:
        raise UnstorableError(f"{where} is nested deeper than {_DEPTH} levels (or contains itself)")
    try:
        if isinstance(value, Mapping):
            return _plain_object(value, where, lost, depth)
        if isinstance(value, (list, tuple, range, collections.deque)):
            return [_plain(v, f"{where}[{i}]", lost, depth - 1) for i, v in enumerate(value)]
        if kind is orjson.Fragment:
            return _plain(decode(load(orjson.dumps(value))), where, lost, depth - 1)
        return _plain(_special(value, where), where, lost, depth - 1)
    except (UnstorableError, MemoryError):
        raise
    except Exception as e:  # from a method of the value's own
        what = f"{kind.__module__}.{kind.__qualname__}"
        raise UnstorableError(f"{where} is a {what} that can't be read: {type(e).__name__}: {e}") from e


def _plain_scalar(value: Any, where: str, lost: list[str]) -> object:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value, where, lost)
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if kind is not int or _INT_LOW <= value < _INT_HIGH:
        return value
    if value.bit_length() > _MAX_BITS:
        raise UnstorableError(f"{where} is an integer of more than {MAX_DIGITS:,} digits. Return it as text.")
    return orjson.Fragment(digits_of(value))


def _plain_object(value: Mapping[Any, Any], where: str, lost: list[str], depth: int) -> dict[str, object]:
    out: dict[str, object] = {}
    for k, v in value.items():
        key = _key(k, where, lost)
        out[key] = _plain(v, f"{where}[{key!r}]" if where else key, lost, depth - 1)
    if len(out) != len(value):
        raise UnstorableError(f"{where or 'result'} has keys that are the same text in JSON, such as 1 and '1'.")
    return out


def _text(value: str, where: str, lost: list[str]) -> str:
    clean = without_surrogates(value)
    if clean != value:
        lost.append(where)
    return clean


def _key(key: object, where: str, lost: list[str]) -> str:
    if isinstance(key, str):
        return _text(str.__str__(key), where, lost)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, enum.Enum):
        return _key(key.value, where, lost)
    if isinstance(key, int):
        return digits_of(int(key))
    convert = _named_converter(type(key))  # type: ignore[arg-type]  # a type can be hashed
    if convert is bool:
        return _key(bool(key), where, lost)
    if convert is str or isinstance(key, (float, dt.date, pathlib.PurePath)) or hasattr(key, "item"):
        return str(key)
    raise UnstorableError(f"{where} has a key of type {type(key).__name__}: {key!r:.80}. Keys must be text or numbers.")


def _special(value: Any, where: str) -> object:
    """One step towards plain JSON for what isn't plain yet."""
    if isinstance(value, enum.Enum):
        return value.value
    kind = type(value)
    if (convert := _named_converter(kind)) is not None:  # type: ignore[arg-type]  # a type can be hashed
        return convert(value)
    for base, convert in _BY_BASE:
        if isinstance(value, base):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    for method in ("isoformat", "tolist", "as_py", "to_dict"):  # dates; numpy, pandas, arrow; frames
        convert = getattr(value, method, None)
        if callable(convert) and not isinstance(value, type):
            return convert()
    what = f"{kind.__module__}.{kind.__qualname__}"
    raise UnstorableError(f"{where} is a {what}, which JSON can't hold.{STORABLE_ADVICE}")


@lru_cache(maxsize=256)
def _named_converter(kind: type) -> _Convert | None:
    """Return what converts values of a type, or of one that it derives from, that is known by its name."""
    names = ((base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__)
    return next((_BY_NAME[name] for name in names if name in _BY_NAME), None)


def _sorted_set(value: Any) -> object:
    try:
        return sorted(value)
    except TypeError:
        return sorted(value, key=repr)


_Convert = Callable[[Any], object]
#: Types, subclasses included, that take one step to plain JSON; the first that fits counts.
_BY_BASE: tuple[tuple[type | tuple[type, ...], _Convert], ...] = (
    (str, str.__str__),
    (int, int),  # IntEnum, for example
    (float, float),  # numpy.float64, for example
    (complex, lambda v: {"$complex": [v.real, v.imag]}),
    ((bytes, bytearray, memoryview), lambda v: {"$bytes": binascii.b2a_base64(bytes(v), newline=False).decode()}),
    ((set, frozenset), _sorted_set),
    (dt.timedelta, lambda v: _in_seconds((v.days * 86_400 + v.seconds) * 10**6 + v.microseconds, 1, 6)),
    (pathlib.PurePath, str),
)


# ---- types that are known by name: importing them takes longer than all of nbrun


def _moment(value: object) -> str | None:
    """numpy.datetime64 of any unit -> ISO 8601; NaT -> None."""
    text = str(value)
    return None if text == "NaT" else text


def _seconds(value: Any) -> float | str | None:
    """numpy.timedelta64 of any unit -> seconds; NaT -> None. Months and years have no length: ISO 8601."""
    if str(value) == "NaT":
        return None
    text = value.dtype.str[4:].strip("[]")  # of "<m8[25s]" the step 25 and the unit s
    unit = text.lstrip("0123456789")
    count = int(value.astype("int64")) * int(text.removesuffix(unit) or 1)
    if unit in ("Y", "M"):
        return f"P{count}{unit}"
    if unit not in _UNITS:  # without a unit: a bare count
        return count
    return _in_seconds(count, *_UNITS[unit])


def _in_seconds(count: int, seconds: int, decimals: int) -> float | str:
    """Return `count` times `seconds` with the point moved; as ISO 8601 where that has more digits than a double."""
    total = count * seconds
    number: float = total / 10**decimals
    if abs(total) < 10**15:
        return number
    from decimal import Context, Decimal  # of durations that are measured hardly any gets here

    exact = Decimal(total).scaleb(-decimals, Context(prec=60))
    return number if Decimal(repr(number)) == exact else f"PT{exact:f}S"


#: Unit of a timedelta64 -> seconds in it, and how many decimals of a second.
_UNITS = {
    "W": (604_800, 0), "D": (86_400, 0), "h": (3_600, 0), "m": (60, 0), "s": (1, 0), "ms": (1, 3),
    "us": (1, 6), "ns": (1, 9), "ps": (1, 12), "fs": (1, 15), "as": (1, 18),
}  # fmt: skip


def _long_float(value: Any) -> float | dict[str, str]:
    """numpy.longdouble -> a number where a double holds it, else its digits."""
    number = float(value)
    return number if number == value or number != number else {"$longdouble": str(value)}


def _long_complex(value: Any) -> object:
    return {"$complex": [_long_float(value.real), _long_float(value.imag)]}


def _record(value: Any) -> object:
    """A record of a structured array -> an object of its fields."""
    names = value.dtype.names
    return {name: value[name] for name in names} if names else bytes(value)


def _array(value: Any) -> object:
    if value.dtype.kind not in "mMVgG" and value.dtype.char not in "gG":
        return value.tolist()
    return list(value) if value.ndim else value[()]  # element by element: tolist makes bare integers of times


def _series(value: Any) -> object:
    """A Series -> a list where its labels are 0, 1, 2 …; else an object label -> value."""
    labels, parts = value.index.tolist(), list(value)
    if labels == list(range(len(labels))) and {int}.issuperset(map(type, labels)):  # False and 0.0 equal 0, too
        return parts
    texts = _labels(labels)
    return dict(zip(texts, parts, strict=True)) if texts else {"index": labels, "data": parts}


def _frame(value: Any) -> object:
    """A DataFrame -> an object column -> label -> value; with labels that occur twice, index, columns and data."""
    labels, names = value.index.tolist(), value.columns.tolist()
    columns = [list(value.iloc[:, i]) for i in range(len(names))]
    rows, heads = _labels(labels), _labels(names)
    if (labels and not rows) or (names and not heads):
        return {"index": labels, "columns": names, "data": [list(row) for row in zip(*columns, strict=True)]}
    return {head: dict(zip(rows, column, strict=True)) for head, column in zip(heads, columns, strict=True)}


def _labels(labels: list[object]) -> list[str]:
    """Labels as keys of an object; none where two would be the same, or one is no text and no number."""
    try:
        texts = [_key(label, "", []) for label in labels]
    except UnstorableError:
        return []
    return texts if len(set(texts)) == len(texts) else []


#: (package, name) of a type -> what takes its values, and those of types that derive from it, one step to plain JSON.
_BY_NAME: Mapping[tuple[str, str], _Convert] = {
    ("decimal", "Decimal"): str,
    ("fractions", "Fraction"): str,
    ("uuid", "UUID"): str,
    ("numpy", "bool"): bool,
    ("numpy", "bool_"): bool,  # its name in numpy 1
    ("numpy", "datetime64"): _moment,
    ("numpy", "timedelta64"): _seconds,
    ("numpy", "longdouble"): _long_float,
    ("numpy", "clongdouble"): _long_complex,
    ("numpy", "void"): _record,
    ("numpy", "mvoid"): _record,
    ("numpy", "MaskedConstant"): lambda _: None,
    ("numpy", "ndarray"): _array,
    ("pandas", "NAType"): lambda _: None,
    ("pandas", "NaTType"): lambda _: None,
    ("pandas", "Timedelta"): lambda value: _seconds(value.asm8),
    ("pandas", "Period"): str,
    ("pandas", "Interval"): lambda v: {"left": v.left, "right": v.right, "closed": v.closed},
    ("pandas", "Series"): _series,
    ("pandas", "DataFrame"): _frame,
}


_NON_FINITE = ("nan", "inf", "-inf")  # anything else under "$float" is the user's own


def decode(value: JsonValue) -> JsonValue:
    """Parsed JSON with non-finite floats put back. Changes lists and dicts in place.

    Example:
        >>> decode({"x": {"$float": "-inf"}})
        {'x': -inf}
    """
    if isinstance(value, dict):
        number = value.get("$float") if len(value) == 1 else None
        if isinstance(number, str) and number in _NON_FINITE:
            return float(number)
        for k, v in value.items():
            if isinstance(v, (dict, list)):
                value[k] = decode(v)
    elif isinstance(value, list):
        for i, v in enumerate(value):
            if isinstance(v, (dict, list)):
                value[i] = decode(v)
    return value
