"""Reads files of the older program, with or without a `progress` object, and matches their entries with items.

Pure functions; any thread. An old entry has no index and no key: it is known by its language and solution. The formats
are described in format.py.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, cast
from zlib import crc32

from nbrun.canonical import EMPTY_DIGEST, blake2b, canonical, digest, key_text
from nbrun.results import sample_file, values
from nbrun.results.format import Entry, JsonObject, JsonValue, MatchRecord
from nbrun.results.sample_file import NOWHERE, Stored, Unreadable
from nbrun.results.values import load_quickly, load_strictly
from nbrun.texts import integer_of, without_surrogates

if TYPE_CHECKING:
    from nbrun.samples import Sample


@dataclass(slots=True)
class OldFile:
    """A file of the older program, parsed."""

    sample_id: str
    groups: dict[str, list[JsonObject]]
    api_used: str | None
    worker_id: str | None
    progress: JsonObject | None
    is_own: bool = False  # a file of nbrun's that another tool has re-serialised: see sample_file.convert_foreign
    is_loose: bool = False  # no strict JSON: its texts may hold lone surrogates, which belong to their items' identity
    extra: Mapping[str, bytes] = field(default_factory=dict)  # top-level keys of other tools -> their values as JSON


def parse_old(data: bytes, *, exact: bool = True) -> OldFile:
    """Parse a file of the older program.

    Args:
        exact: keep integers beyond 64 bits, which costs a search through the file; else they may become floats.

    Raises:
        Unreadable: no JSON (cut short), or JSON of another shape.
    """
    is_loose = False
    try:
        value = (load_strictly if exact else load_quickly)(data)
    except ValueError:
        value = _parse_loosely(data)
        is_loose = True
    if not isinstance(value, dict) or "id" not in value:
        raise Unreadable("is JSON of another shape: no object with an id")
    groups: dict[str, list[JsonObject]] = {}
    for name, rows in value.items():
        if not name.endswith("_result"):
            continue
        if not _are_objects(rows):
            raise Unreadable(f"is JSON of another shape: {name!r} is no list of objects")
        groups[name.removesuffix("_result")] = rows
    if not groups:
        raise Unreadable("is JSON of another shape: it has an id but no results")
    progress = value.get("progress")
    return OldFile(
        str(value["id"]),
        groups,
        _text(value.get("api_used")),
        _text(value.get("worker_id")),
        progress if isinstance(progress, dict) else None,
        sample_file.is_own(value),
        is_loose,
        sample_file.extra_keys(value),
    )


def _are_objects(value: JsonValue) -> TypeGuard[list[JsonObject]]:
    return isinstance(value, list) and set(map(type, value)) <= {dict}


def _text(value: object) -> str | None:
    return without_surrogates(value) if isinstance(value, str) else None


def _parse_loosely(data: bytes) -> JsonValue:
    """Parse what Python's json writes and strict JSON doesn't allow: NaN, lone surrogates, huge integers."""
    try:
        value: JsonValue = json.loads(data, parse_int=integer_of)
        return value
    except (ValueError, RecursionError) as e:
        raise Unreadable(f"is no valid JSON ({e})") from None


class OldMatch(NamedTuple):
    """The item that one old entry belongs to; `position` is None where it matches none."""

    group: str
    rank: int  # its place in the old file's list
    position: int | None
    item_index: int | None
    key: bytes
    occurrence: int


def match_old(sample: Sample | None, old: OldFile) -> list[OldMatch]:
    """Match entries of the older program with items, in the file's order; equal items get equal entries in order.

    Where there is no sample, or no item left for an entry, equal entries are numbered in their order.
    """
    out: list[OldMatch] = []
    for name, rows in old.groups.items():
        group = next((g for g in sample.groups if g.name == name), None) if sample is not None else None
        free: defaultdict[Hashable, deque[int]] = defaultdict(deque)
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
                [key] = old_keys([row])
                out.append(OldMatch(name, place, None, None, key, counts[key]))
                counts[key] += 1
    return out


def _old_identity(item: object) -> Hashable:
    identity = _language_and_solution(item)
    try:
        hash(identity)
    except TypeError:  # a list, say, where the older program wrote text
        return digest(list(identity))
    return identity


def _language_and_solution(item: object) -> tuple[object, object]:
    if isinstance(item, Mapping):
        language = item.get("language")
        if isinstance(language, int) and not isinstance(language, bool):
            from nbrun.samples import language_of_number  # a helper process that reads files has no other use for it

            language = language_of_number(language)
        return language, item.get("solution")
    return None, item


def old_keys(rows: Iterable[JsonObject]) -> list[bytes]:
    """Return the keys of old entries: the digests of their languages and solutions.

    For two texts, which they usually are, the canonical form (F9) is written out: this is done for each row of a frame.
    """
    keys = []
    of_state = state = None  # the language, and the digest of what comes before the solution in its canonical form
    for row in rows:
        language, solution = row.get("language"), row.get("solution")
        if type(language) is not str or type(solution) is not str:
            keys.append(digest({"language": language, "solution": solution}))
            continue
        if state is None or language != of_state:
            of_state, state = language, _digest_up_to_solution(language)
        text = solution.encode("utf-8", "surrogatepass")
        whole = state.copy()
        whole.update(b"%d:%b}" % (len(text), text))
        keys.append(whole.digest())
    return keys


@lru_cache(maxsize=64)
def _digest_up_to_solution(language: str) -> blake2b:
    state = EMPTY_DIGEST.copy()
    state.update(b"{%b%b%bs" % tuple(map(canonical, ("language", language, "solution"))))
    return state


def places_in(old: OldFile, match: MatchRecord | None, data: bytes) -> list[OldMatch] | None:
    """Return the places that a match record gives this content; None where the record is about another content."""
    if match is None or match["size"] != len(data) or match["crc"] != crc32(data):
        return None
    try:
        groups = match["groups"]
    except LookupError:
        return None
    if any(len(rows) != len(old.groups.get(group, ())) for group, rows in groups.items()):
        return None
    return [
        OldMatch(group, rank, None, index, bytes.fromhex(key[3:]), occurrence)
        for group, rows in groups.items()
        for rank, (index, key, occurrence) in enumerate(rows)
    ]


def old_entry(row: JsonObject, place: OldMatch, old: OldFile) -> Entry:
    """Return an entry of the older program as nbrun's entries are."""
    entry = {
        "index": place.item_index,
        "key": key_text(place.key),
        "occurrence": place.occurrence,
        "seq": 0,
        "status": "done",
        "language": row.get("language"),
        "solution": row.get("solution"),
        "result": row.get("result"),
        "attempts": 1,
        "started_at": None,
        "duration_s": None,
        "run_id": "",
        "context": "",
        "worker_id": old.worker_id or "",
        "api_used": old.api_used or "",
    }
    return cast(Entry, entry)


def old_body(row: JsonObject, place: OldMatch, old: OldFile) -> bytes:
    """Return an entry of the older program as nbrun writes entries."""
    return values.encode(old_entry(row, place, old))[0]


def old_stored(place: OldMatch, old: OldFile, *, matched: bool = True) -> Stored:
    """Return an entry of the older program as a saved entry, with its bytes."""
    body = old_body(old.groups[place.group][place.rank], place, old)
    identity = place.group, place.item_index, place.key, place.occurrence
    return Stored(*identity, 0, "done", NOWHERE, 0, len(body), body, matched)
