"""Matches the entries of a sample's file with the items of the sample: by identity, never by place.

Pure functions, called by the thread that opens the sample or writes its file. Each entry is used once; what matches no
item is an orphan and is kept. Which item an entry of the older program belongs to is decided in results/legacy.py.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from nbrun.canonical import canonical
from nbrun.errors import UnstorableError
from nbrun.results.format import Entry
from nbrun.results.legacy import OldFile, OldMatch, old_entry, old_stored
from nbrun.results.sample_file import NOWHERE, Identity, OwnFile, Stored, keep_newest, parse_entry
from nbrun.results.values import decode, encode, load
from nbrun.samples import Group, Sample
from nbrun.texts import without_surrogates

#: No item of any group has been matched already.
NOTHING: Mapping[str, int] = MappingProxyType({})


def positions_by_identity(sample: Sample, matched: Mapping[str, int] = NOTHING) -> dict[Identity, int]:
    """Return identity -> position for every task of the sample that isn't `matched`."""
    return {
        Identity(g.name, g.key(rank), g.occurrence(rank)): g.base + rank
        for g in sample.groups
        for rank in range(matched.get(g.name, 0), len(g.runnable))
    }


class Matched(NamedTuple):
    """An entry of a file.

    Attributes:
        position: of its item; None for an orphan.
        stored: with the entry's bytes, unless they are in the file as it is.
        entry: what it holds.
    """

    position: int | None
    stored: Stored
    entry: Entry


def match_own(
    sample: Sample, own: OwnFile, matched: Mapping[str, int] = NOTHING, *, with_bodies: bool = False
) -> Iterator[Matched]:
    """Match the entries of a file in nbrun's format (F4). A damaged entry is left out, and counted in `own.damaged`.

    Args:
        matched: group -> how many of its first items have been matched already.
        with_bodies: read the bytes too, as is done for a file that another tool has re-serialised.
    """
    places = positions_by_identity(sample, matched)
    found: dict[int, Stored] = {}
    orphans: list[Stored] = []
    for head in own.heads:
        position = places.get(head.identity)
        if position is None:
            orphans.append(head)
        else:
            keep_newest(found, position, head)
    for position, head in chain(found.items(), ((None, orphan) for orphan in orphans)):
        body = own.body(head)
        entry = parse_entry(body)
        if entry is None:
            own.damaged += 1
            continue
        if with_bodies or own.is_foreign:
            head = head._replace(where=NOWHERE, body=body)
        yield Matched(position, head, entry)


def match_rows(old: OldFile, matches: Iterable[OldMatch]) -> Iterator[Matched]:
    """Return the entries of a file of the older program, which `match_old` has matched."""
    for m in matches:
        yield Matched(m.position, old_stored(m, old), old_entry(old.groups[m.group][m.rank], m, old))


def stored_item(entry: Entry) -> object:
    """Return the item that an entry holds; NO_ITEM where it was left out."""
    if "item" in entry:
        return decode(entry["item"])
    if "solution" in entry:
        of_two = {"solution": entry["solution"]}
        return {"language": entry["language"], **of_two} if "language" in entry else of_two
    return NO_ITEM


#: Stands for the item of an entry that holds none.
NO_ITEM = object()


def match_by_key(
    sample: Sample,
    taken: Container[int],
    orphans: Sequence[tuple[Stored, object]],
    matched: Mapping[str, int] = NOTHING,
) -> dict[int, Stored]:
    """Match entries that were saved under another key, by the keys that `key=` gives the items that they hold.

    So results that were saved without `key=`, or with another one, are found again when one is given.

    Args:
        taken: positions that have an entry.
        orphans: entries that match no item, and the items that they hold. Of two for one item the newest counts.
        matched: these items are left out.
    """
    if sample.key_of is None or not orphans:
        return {}
    free: defaultdict[tuple[str, bytes], deque[int]] = defaultdict(deque)
    for (name, key, _), position in positions_by_identity(sample, matched).items():
        if position not in taken:
            free[name, key].append(position)
    found: dict[int, Stored] = {}
    seen: set[Identity] = set()
    for head, item in sorted(orphans, key=lambda o: (o[0].status != "done", -o[0].seq)):
        try:
            key = sample.key_of(item)
        except Exception:  # the user's function, given an item of another time
            continue
        places = free[head.group, key]
        if places and head.identity not in seen:
            seen.add(head.identity)
            found[places.popleft()] = head
    return found


class Retyped(NamedTuple):
    """How items differ from the saved ones, where it is hardly meant: a type, or a field that is there or isn't.

    Attributes:
        how: such as "in the type of the field 'n'".
        example: such as "1 was saved, now it is 1.0".
        same: a field in which they don't differ; "" where there is none.
    """

    how: str
    example: str
    same: str


def retyped(sample: Sample, taken: Container[int], orphans: Sequence[tuple[Stored, object]]) -> list[Retyped]:
    """Return items without an entry that differ so little from saved ones that they may be meant as the same.

    Args:
        taken, orphans: see match_by_key.
    """
    out = []
    for group in sample.groups:
        saved = [(head, item) for head, item in orphans if head.group == group.name]
        missing = [rank for rank in range(len(group.runnable)) if group.base + rank not in taken]
        for item, rank in _in_one_place(group, missing, saved):
            try:
                now = decode(load(encode(group.items[group.runnable[rank]])[0]))
            except UnstorableError:
                continue
            if (found := _difference(item, now)) is not None:
                out.append(found)
    return out


def _in_one_place(
    group: Group, missing: Sequence[int], saved: Sequence[tuple[Stored, object]]
) -> Iterator[tuple[object, int]]:
    """Yield saved items, each with the rank of the item without an entry that has its place now."""
    by_index = {group.runnable[rank]: rank for rank in missing}
    in_order = sorted(saved, key=lambda o: (o[0].item_index or 0, o[0].seq))
    # an entry whose item left the dataset in an earlier run has no index any more
    by_order = missing if len(saved) <= len(missing) else [None] * len(saved)
    for (head, item), of_order in zip(in_order, by_order, strict=False):
        rank = of_order if head.item_index is None else by_index.get(head.item_index)
        if rank is not None:
            yield item, rank


def _difference(saved: object, now: object) -> Retyped | None:
    """Return how two items differ, where a person may mean the same by both; else None."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return _difference_of_fields(saved, now)
    return Retyped("in their type", _example(saved, now), "") if _is_alike(saved, now) else None


class _FieldChanges(NamedTuple):
    """The names of fields: `changed` have another value now, `gone` and `new` are only in the saved or the new item."""

    changed: list[str]
    gone: list[str]
    new: list[str]

    @classmethod
    def between(cls, saved: Mapping[str, object], now: Mapping[str, object]) -> _FieldChanges:
        changed = [k for k in saved if k in now and canonical(saved[k]) != canonical(now[k])]
        return cls(changed, [k for k in saved if k not in now], [k for k in now if k not in saved])

    def __str__(self) -> str:
        parts = [
            _part("in the type of the field", self.changed),
            _part("by the new field", self.new),
            _part("by the field", self.gone, ", which the saved ones have"),
        ]
        return " and ".join(filter(None, parts))


def _difference_of_fields(saved: Mapping[str, object], now: Mapping[str, object]) -> Retyped | None:
    changes = _FieldChanges.between(saved, now)
    changed, gone, new = changes
    if not any(changes) or not all(_is_alike(saved[k], now[k]) for k in changed):
        return None
    same = next((k for k in now if k in saved and k not in changed and k != "id"), "")
    is_padding = all(map(_is_nothing, [*(saved[k] for k in gone), *(now[k] for k in new)]))
    if not same and not is_padding and saved.get("id", NO_ITEM) != now.get("id"):
        return None  # nothing suggests that the two are one
    example = _example(saved[changed[0]], now[changed[0]]) if changed else ""
    return Retyped(str(changes), example, same)


def _example(saved: object, now: object) -> str:
    return f"{saved!r:.40} was saved, now it is {now!r:.40}"


def _part(phrase: str, fields: list[str], more: str = "") -> str:
    """Return a phrase with the names of fields; "" where there are none."""
    return f"{phrase}{'s' if len(fields) > 1 else ''} {_names(fields)}{more}" if fields else ""


def _names(fields: list[str]) -> str:
    shown = [repr(without_surrogates(k)) for k in fields[:3]]
    return ", ".join(shown) + (f" and {len(fields) - 3} more" if len(fields) > 3 else "")


def _is_alike(a: Any, b: Any) -> bool:
    """Return whether a person takes two values for the same: 1 and 1.0, 1 and "1", None and NaN."""
    if _is_nothing(a) or _is_nothing(b):
        return _is_nothing(a) and _is_nothing(b)
    if isinstance(a, (dict, list)) or isinstance(b, (dict, list)):
        return bool(a == b)
    try:
        return a == b or str(a) == str(b) or float(a) == float(b)
    except (ValueError, TypeError, OverflowError):
        return False


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value) or value == ""


def is_moved(sample: Sample, position: int | None, stored: Stored) -> bool:
    """Return whether a file gives an entry another index than the dataset does now."""
    if position is None:
        return stored.item_index is not None
    group, rank = sample.locate(position)
    return stored.item_index != group.runnable[rank]
