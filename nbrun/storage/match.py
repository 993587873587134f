"""Entries <-> items: which saved entry stands for which item of a sample, by identity and never by place.

Pure functions, called by the feeder. Entries of nbrun's own files carry their key; those of the older program are known
by language and solution. Each entry is used once; what matches no item is an orphan and is kept.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nbrun.samples import LANGUAGES, Sample, digest
from nbrun.storage.oldfile import OldFile
from nbrun.storage.samplefile import EntryHead

Identity = tuple[str, bytes, int]


class OldMatch(NamedTuple):
    """The place of one old entry: position None where it matches no item."""

    group: str
    rank: int  # its place in the old file's list
    position: int | None
    item_index: int | None
    key: bytes
    occurrence: int


def positions_by_identity(sample: Sample) -> dict[Identity, int]:
    """(group, key, occurrence) -> position, for every task of the sample."""
    return {
        (g.name, g.key(rank), g.occurrence(rank)): g.base + rank
        for g in sample.groups
        for rank in range(len(g.runnable))
    }


def match_own(sample: Sample, heads: Iterable[EntryHead]) -> tuple[dict[int, EntryHead], list[EntryHead]]:
    """Entries of a file in nbrun's format -> position of each, and the orphans. The highest seq of an identity wins."""
    places = positions_by_identity(sample)
    found: dict[int, EntryHead] = {}
    orphans: list[EntryHead] = []
    for head in heads:
        position = places.get((head.group, head.key, head.occurrence))
        if position is None:
            orphans.append(head)
        elif position not in found or head.seq > found[position].seq:
            found[position] = head
    return found, orphans


def moved(sample: Sample, found: Mapping[int, EntryHead], orphans: Iterable[EntryHead]) -> bool:
    """Does a file say another index than the dataset does now?"""
    if any(o.item_index is not None for o in orphans):
        return True
    for position, head in found.items():
        group, rank = sample.locate(position)
        if head.item_index != group.runnable[rank]:
            return True
    return False


def match_old(sample: Sample, old: OldFile) -> list[OldMatch]:
    """Entries of the older program -> items, in the file's order; of equal items the first takes the first entry."""
    out: list[OldMatch] = []
    for name, rows in old.groups.items():
        group = next((g for g in sample.groups if g.name == name), None)
        free: defaultdict[Any, deque[int]] = defaultdict(deque)
        counts: defaultdict[bytes, int] = defaultdict(int)
        if group is not None:
            for rank, index in enumerate(group.runnable):
                free[_old_identity(group.items[index])].append(rank)
                counts[group.key(rank)] += 1
        for place, row in enumerate(rows):
            identity = _old_identity(row)
            if group is not None and free[identity]:
                rank = free[identity].popleft()
                out.append(
                    OldMatch(
                        name, place, group.base + rank, group.runnable[rank], group.key(rank), group.occurrence(rank)
                    )
                )
            else:
                key = old_key(row)
                out.append(OldMatch(name, place, None, None, key, counts[key]))
                counts[key] += 1
    return out


def _old_identity(item: Any) -> Any:
    if isinstance(item, Mapping):
        language = item.get("language")
        if isinstance(language, int) and not isinstance(language, bool):
            language = LANGUAGES.get(language, str(language))
        return language, item.get("solution")
    return None, item


def old_key(row: Mapping[str, Any]) -> bytes:
    """The key that an old entry has by itself."""
    return digest({"language": row.get("language"), "solution": row.get("solution")})
