"""A mapping -> its items, their keys, and the digest of everything else (the context).

Used by session's feeder thread; pure functions and frozen values, no I/O. The canonical form behind keys is specified
in storage/format.py (F9) and must never change for `k1`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import pathlib
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

from nbrun.errors import SampleError

KEY_BYTES = 16
#: The groups of a sample unless `groups=` says otherwise: group name -> the sample's key that holds its items.
DEFAULT_GROUPS: Mapping[str, str] = {"solution": "solutions", "incorrect_solution": "incorrect_solutions"}
#: The one group of samples that have no groups: the sample itself is the item.
ITEM_GROUP = "item"
#: CodeContests' numbers for languages. Items of language 0 are skipped: counted, never run.
LANGUAGES = {0: "UNKNOWN_LANGUAGE", 1: "PYTHON", 2: "CPP", 3: "PYTHON3", 4: "JAVA"}


def canonical(value: Any) -> bytes:
    """The bytes that are digested into a key: equal values give equal bytes, whatever library wrote them.

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
        return b"i%d;" % value
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
    if isinstance(value, str):
        return canonical(str.__str__(value))
    if isinstance(value, (bytes, bytearray)):
        return b"b%d:%b" % (len(value), bytes(value))
    if isinstance(value, Mapping):
        return canonical(dict(value))
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
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} has no canonical form")


def digest(value: Any) -> bytes:
    """16 bytes of BLAKE2b over the canonical form."""
    return blake2b(canonical(value), digest_size=KEY_BYTES).digest()


def key_text(key: bytes) -> str:
    """A key as it is written: `k1:` and 32 hexadecimal digits."""
    return "k1:" + key.hex()


def context_text(value: Any) -> str:
    """The digest of a context as it is written: `c1:` and 16 hexadecimal digits."""
    return "c1:" + digest(value).hex()[:16]


_EMPTY_CONTEXT = context_text({})


@dataclasses.dataclass(slots=True)
class Group:
    """The items of one group. `runnable` holds the indices of those that aren't skipped; `keys` is parallel to it.

    `keys` is packed, 16 bytes each; `occurrences` is None where every key stands once.
    """

    name: str
    items: Sequence[Any]
    runnable: Sequence[int]
    keys: bytes
    occurrences: array[int] | None
    base: int  # the position of its first runnable item in the sample

    def key(self, rank: int) -> bytes:
        """The key of the rank-th runnable item."""
        return self.keys[rank * KEY_BYTES : (rank + 1) * KEY_BYTES]

    def occurrence(self, rank: int) -> int:
        """0 for the first of equal items, 1 for the second …"""
        return 0 if self.occurrences is None else self.occurrences[rank]


@dataclasses.dataclass
class Sample:
    """One sample, read: where it stands, what it holds and what it is made under.

    A *position* counts the runnable items of all groups, group by group.
    """

    id: str
    number: int
    raw: Mapping[str, Any]
    groups: tuple[Group, ...]
    context: str
    skipped: int

    @property
    def total(self) -> int:
        """How many tasks it holds."""
        return sum(len(g.runnable) for g in self.groups)

    def locate(self, position: int) -> tuple[Group, int]:
        """The group of a position, and its rank among that group's runnable items."""
        for group in reversed(self.groups):
            if position >= group.base:
                return group, position - group.base
        raise IndexError(position)

    @cached_property
    def identities(self) -> bytes:
        """A digest of which items stand where: equal digests need no matching."""
        h = blake2b(digest_size=KEY_BYTES)
        for g in self.groups:
            h.update(canonical([g.name, len(g.runnable)]))
            if not isinstance(g.runnable, range):
                h.update(array("I", g.runnable).tobytes())
            h.update(g.keys)
        return h.digest()


class SampleReader:
    """Reads samples one after another and checks each.

    Args:
        groups: group name -> the sample's key; None takes the default, or `item` where the first sample has neither.
        key: what of an item is digested; None takes the whole item.
        context: what of a sample is digested; None takes the sample without its id and groups.

    Threads: used by one thread, the feeder (and by start() before that thread exists).
    """

    def __init__(
        self,
        groups: Mapping[str, str] | None = None,
        key: Callable[[Any], Any] | None = None,
        context: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        self.groups = groups
        self._key, self._context = key, context

    def settle_groups(self, first: Mapping[str, Any]) -> None:
        """Decides, by the first sample, whether samples have groups or are items themselves."""
        if self.groups is None:
            self.groups = DEFAULT_GROUPS if any(k in first for k in DEFAULT_GROUPS.values()) else {}

    def read(self, raw: Any, number: int) -> Sample:
        """The sample at place `number` (from 0).

        Raises:
            SampleError: no id, no mapping, a group that is no list, an item without a key.
        """
        sample_id = self.read_id(raw, number)
        self.settle_groups(raw)
        where = f"sample {number} ({sample_id!r})"
        groups: list[Group] = []
        skipped = base = 0
        assert self.groups is not None
        if not self.groups:
            if any(k in raw for k in DEFAULT_GROUPS.values()):
                raise SampleError(
                    f"{where} has groups, but the first sample has none: give groups= to say what the items are.",
                    position=number,
                    sample_id=sample_id,
                )
            groups.append(self._group(ITEM_GROUP, [raw], range(1), 0, where, number, sample_id))
            context = _EMPTY_CONTEXT if self._context is None else self._digest_context(raw, where, number, sample_id)
            return Sample(sample_id, number, raw, tuple(groups), context, 0)
        for name, field in self.groups.items():
            value = raw.get(field)
            try:
                items, runnable, n = read_items(value)
            except ValueError as e:
                raise SampleError(f"{where}: {field!r} {e}", position=number, sample_id=sample_id) from None
            group = self._group(name, items, runnable, base, where, number, sample_id)
            groups.append(group)
            base += len(group.runnable)
            skipped += n
        return Sample(
            sample_id, number, raw, tuple(groups), self._digest_context(raw, where, number, sample_id), skipped
        )

    @staticmethod
    def read_id(raw: Any, number: int) -> str:
        """The id of a sample, as text."""
        if not isinstance(raw, Mapping):
            raise SampleError(
                f"sample {number} is a {type(raw).__name__}, not a mapping with an 'id'. "
                "Give each sample as a dict, such as {'id': 'p1', 'solutions': [...]}.",
                position=number,
            )
        if "id" not in raw or raw["id"] is None:
            raise SampleError(
                f"sample {number} has no 'id' (it has {', '.join(map(repr, list(raw)[:6])) or 'nothing'}). "
                "Results are saved under it, so give every sample one that stays the same.",
                position=number,
            )
        value = raw["id"]
        if isinstance(value, str):
            if not value:
                raise SampleError(f"sample {number} has an empty 'id'.", position=number)
            return value.encode("utf-8", "replace").decode() if not value.isascii() else value
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise SampleError(
                f"sample {number}: its 'id' is {value!r}, a {type(value).__name__}; use text or an integer.",
                position=number,
            )
        return str(int(value))

    def _group(
        self, name: str, items: Sequence[Any], runnable: Sequence[int], base: int, where: str, number: int, sid: str
    ) -> Group:
        get = self._key
        keys: list[bytes] = []
        add = keys.append
        i = 0
        try:
            for i in runnable:
                item = items[i] if get is None else get(items[i])
                add(blake2b(canonical(item), digest_size=KEY_BYTES).digest())
        except Exception as e:  # the user's key function may raise anything
            raise SampleError(
                f"{where}: item {i} of group {name!r} can't be hashed into a key: {e}. "
                "Give key=, a function of the item that returns text, numbers, lists or mappings.",
                position=number,
                sample_id=sid,
            ) from e
        return Group(name, items, runnable, b"".join(keys), _occurrences(keys), base)

    def _digest_context(self, raw: Mapping[str, Any], where: str, number: int, sample_id: str) -> str:
        assert self.groups is not None
        try:
            if self._context is not None:
                return context_text(self._context(raw))
            fields = self.groups.values()
            rest = {k: v for k, v in raw.items() if k != "id" and k not in fields}
            return context_text(rest) if rest else _EMPTY_CONTEXT
        except Exception as e:  # the user's context function may raise anything
            raise SampleError(
                f"{where}: what it holds beside its groups can't be hashed: {e}. "
                "Give context=, a function of the sample that returns text, numbers, lists or mappings.",
                position=number,
                sample_id=sample_id,
            ) from e


def _occurrences(keys: list[bytes]) -> array[int] | None:
    if len(set(keys)) == len(keys):
        return None
    seen: dict[bytes, int] = {}
    out = array("I")
    for key in keys:
        n = seen.get(key, 0)
        out.append(n)
        seen[key] = n + 1
    return out


def read_items(value: Any) -> tuple[Sequence[Any], Sequence[int], int]:
    """A group's value -> its items, the indices of those to run, and how many are skipped.

    Raises:
        ValueError: neither a list nor a struct of lists of equal length.
    """
    if value is None:
        return [], range(0), 0
    if isinstance(value, Mapping):
        return _read_struct(value)
    items = _as_list(value)
    if items is None:
        raise ValueError(f"is a {type(value).__name__}; it must be a list of items, or a struct of lists.")
    return items, range(len(items)), 0


def _as_list(value: Any) -> Sequence[Any] | None:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (str, bytes, bytearray, Mapping)):
        return None
    tolist = getattr(value, "tolist", None)
    if callable(tolist):  # numpy, pandas, pyarrow
        out = tolist()
        return out if isinstance(out, list) else None
    return list(value) if isinstance(value, Iterable) and hasattr(value, "__len__") else None


def _read_struct(value: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[int], int]:
    columns: dict[str, Sequence[Any]] = {}
    for name, column in value.items():
        items = _as_list(column)
        if items is None:
            raise ValueError(
                f"is a mapping whose {name!r} is a {type(column).__name__}; a struct of lists needs lists."
            )
        columns[name] = items
    lengths = {name: len(c) for name, c in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"is a struct of lists of unequal length: {lengths}.")
    count = next(iter(lengths.values()), 0)
    skipped: set[int] = set()
    languages = columns.get("language")
    if languages is not None:
        numbers = [x if isinstance(x, int) and not isinstance(x, bool) else None for x in languages]
        skipped = {i for i, x in enumerate(numbers) if x == 0}
        columns["language"] = [
            old if n is None else LANGUAGES.get(n, str(n)) for old, n in zip(languages, numbers, strict=True)
        ]
    names = list(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    runnable = [i for i in range(count) if i not in skipped] if skipped else range(count)
    return rows, runnable, len(skipped)
