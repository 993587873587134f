"""A sample that was read: its groups of items, their keys, and the digest of everything else (the context)."""

from __future__ import annotations

import copy
import dataclasses
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

from nbrun.samples.canonical import KEY_BYTES, canonical


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

    Attributes:
        key_of: the key that an item has by `key=`; None where it is that of the whole item.
    """

    id: str
    number: int
    raw: Mapping[str, Any]
    groups: tuple[Group, ...]
    context: str
    skipped: int
    key_of: Callable[[Any], bytes] | None = None

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


#: Types of values that nothing can change.
SCALARS = frozenset({str, int, float, bool, type(None), bytes, complex})


def fresh_copy(value: Any) -> Any:
    """Return a value that a user's function may change without changing the dataset, whose keys are identities.

    Lists, mappings and sets are copied, what they hold too; so are arrays, frames and dataclasses. Texts and numbers
    are shared, and so is what only its own library knows how to copy.
    """
    try:
        return _fresh(value)
    except RecursionError:  # it contains itself
        return value


def _fresh(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {k: v if type(v) in SCALARS else _fresh(v) for k, v in value.items()}
    if kind is list:
        return [v if type(v) in SCALARS else _fresh(v) for v in value]
    if kind is tuple:
        parts = [v if type(v) in SCALARS else _fresh(v) for v in value]
        return value if all(a is b for a, b in zip(parts, value, strict=True)) else tuple(parts)
    if kind in (set, bytearray):
        return kind(value)
    if isinstance(value, (dict, list, set)) or (hasattr(kind, "__dataclass_fields__") and not isinstance(value, type)):
        try:
            return copy.deepcopy(value)
        except Exception:  # something in it can't be copied
            return value
    if kind.__module__.partition(".")[0] in ("numpy", "pandas") and kind.__name__ in _COPIED:
        return value.copy()
    return value


_COPIED = frozenset({"ndarray", "recarray", "MaskedArray", "Series", "DataFrame"})


def occurrences(keys: list[bytes]) -> array[int] | None:
    """How many equal keys stand before each; None where every key stands once."""
    if len(set(keys)) == len(keys):
        return None
    seen: dict[bytes, int] = {}
    out = array("I")
    for key in keys:
        n = seen.get(key, 0)
        out.append(n)
        seen[key] = n + 1
    return out
