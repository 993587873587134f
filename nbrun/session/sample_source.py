"""The samples of a run: checked as far as that is possible before anything runs, then read one by one.

Threads: `open_samples` is called by start(); the thread `nbrun-feed` reads the stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from nbrun.canonical import blake2b
from nbrun.errors import InputError, SampleError, hides_own_frames
from nbrun.results.reader import SampleTotals
from nbrun.samples import (
    ITEM_GROUP,
    PlainSample,
    SampleReader,
    default_key,
    is_plain,
    read_items,
    refuse_equal_names,
    resolve_groups,
    rows_of,
    with_ids,
)
from nbrun.texts import digits_of
from nbrun.tuning import TUNING


@dataclass
class Samples:
    """The samples of a run: drawn lazily, once, or again where they can be.

    Attributes:
        totals: how many samples and tasks there are; of a list each sample's tasks too.
        source: what can be iterated over once more for the same samples; None where it is drawn only once.
    """

    stream: Iterator[Any]
    totals: SampleTotals
    source: Iterable[Any] | None

    def with_more(self, more: Samples) -> Samples:
        """Return these samples and those of `more` that have other ids; the stream stays this one's."""
        source = None
        if self.source is not None and more.source is not None:
            source = _Chain([self.source, more.source])
        return Samples(self.stream, _joined(self.totals, more.totals), source)

    @property
    def first_totals(self) -> SampleTotals:
        """What is saved before the first task runs: of a long list the sums alone, which cost nothing."""
        return replace(self.totals, by_id=None) if len(self.totals.ids) > LONG_LIST else self.totals


def _joined(ours: SampleTotals, theirs: SampleTotals) -> SampleTotals:
    """Return the totals of both; of equal ids ours count."""
    if ours.by_id is None or theirs.by_id is None or ours.tasks is None:
        return SampleTotals()
    by_id = {**ours.by_id, **theirs.by_id, **ours.by_id}  # in this order
    sums = map(sum, zip(*by_id.values(), strict=True))
    return SampleTotals(len(by_id), dict(zip(theirs.tasks or ours.tasks, sums, strict=True)), by_id)


class _Chain:
    """Several sources of samples one after another; of equal ids the first counts."""

    def __init__(self, sources: Sequence[Iterable[Any]]) -> None:
        self._sources = sources

    def __iter__(self) -> Iterator[Any]:
        seen: set[str] = set()
        for source in self._sources:
            for number, raw in enumerate(with_ids(source)):
                sample_id = SampleReader.read_id(raw, number)
                if sample_id not in seen:
                    seen.add(sample_id)
                    yield raw


#: A longer list of samples is saved once the first of them is on its way.
LONG_LIST = 1000
#: How many samples of a stream are looked at, at most, to find the key of a group before anything runs.
LOOK_AHEAD = 32


def open_samples(samples: Any, reader: SampleReader, groups: list[str] | dict[str, str] | None) -> Samples:
    """Check what can be checked without reading on: of a list every id, of anything else the first sample.

    Args:
        groups: what read_groups made of `groups=`; the reader gets what it means in these samples.

    Raises:
        InputError, SampleError.
    """
    samples = as_stream(samples)
    if isinstance(samples, (list, tuple)):
        return _open_list(samples, reader, groups)
    count = _length_of(samples)
    once = iter(samples) is samples
    stream = with_ids(samples)
    head = list(itertools.islice(stream, 1))
    if not head:
        return _no_samples()
    if groups is not None:
        reader.read_id(head[0], 0)
        _look_ahead(stream, head, _possible_keys(groups), reader)
        reader.groups = _resolved(groups, head)
    reader.read(head[0], 0)
    return Samples(itertools.chain(head, stream), SampleTotals(count), None if once else samples)


def _look_ahead(stream: Iterator[Any], head: list[Any], wanted: set[str], reader: SampleReader) -> None:
    """Draw samples of a stream to its head until one has a wanted key, or until many have none."""
    while len(head) < LOOK_AHEAD and all(wanted.isdisjoint(sample) for sample in head):
        drawn = list(itertools.islice(stream, 1))
        if not drawn:
            return
        reader.read_id(drawn[0], len(head))
        head += drawn


def _length_of(samples: Any) -> int | None:
    """Return how many samples there are; None where that isn't known, as of a generator inside tqdm."""
    try:
        return len(samples)
    except Exception:  # from a method of the user's own: the length only says how far the run is
        return None


def _resolved(groups: list[str] | dict[str, str], head: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """As resolve_groups. Of a stream only the head is known: a group may be missing there where another is not."""
    _refuse_plain(head)
    try:
        return resolve_groups(groups, head)
    except InputError:
        keys = {k for sample in head for k in sample}
        if keys.isdisjoint(_possible_keys(groups)):
            raise
        asked = groups.values() if isinstance(groups, dict) else map(default_key, groups)
        return resolve_groups(groups, [dict.fromkeys([*keys, *asked])])


def _refuse_plain(samples: Iterable[Mapping[str, Any]]) -> None:
    """Raise a SampleError for the first sample that is a plain value, since groups were named."""
    for number, sample in enumerate(samples):
        if type(sample) is PlainSample:
            raise SampleError(
                f"sample {number} ({sample['id']!r}) is a plain value, which has no groups: leave groups= out.",
                position=number,
            )


def _possible_keys(groups: list[str] | dict[str, str]) -> set[str]:
    return set(groups.values()) if isinstance(groups, dict) else {key for name in groups for key in (name, f"{name}s")}


def as_stream(samples: Any) -> Any:
    """Return what can be iterated over for samples: itself, or a table's rows.

    Raises:
        InputError: it is something else.
    """
    if type(samples).__module__.partition(".")[0] == "pandas" and hasattr(samples, "itertuples"):
        return _rows(samples)
    samples = rows_of(samples)
    is_one = isinstance(samples, (str, bytes, Mapping))
    if is_one or not (isinstance(samples, Iterable) or hasattr(samples, "__getitem__")):
        raise InputError(
            f"samples is of type {type(samples).__name__}; give an iterable of mappings, such as "
            "[{'id': 'p1', 'solutions': [...]}], or a DataFrame."
        )
    return samples


def _open_list(
    samples: list[Any] | tuple[Any, ...], reader: SampleReader, groups: list[str] | dict[str, str] | None
) -> Samples:
    if not samples:
        return _no_samples()
    if not set(map(type, samples)) <= {dict} and any(map(is_plain, samples)):
        samples = list(with_ids(samples))
    ids = _quick_ids(samples, reader) or _read_ids(samples, reader)
    if groups is not None:
        _refuse_plain(samples)
        reader.groups = resolve_groups(groups, samples)
    reader.settle_groups(*samples)
    reader.read_first(samples[0])
    reader.check_items(samples, TUNING.check_items_s)
    return Samples(iter(samples), _totals_of(samples, ids, reader), samples)


def _no_samples() -> Samples:
    return Samples(iter(()), SampleTotals(0, {}, {}), ())


def _totals_of(samples: Sequence[Any], ids: Iterable[str], reader: SampleReader) -> SampleTotals:
    """Return how many tasks there are, by group and by sample; if one can't be read, how many samples there are."""
    counts = _count_tasks(samples, reader)
    if counts is None:
        return SampleTotals(len(samples))
    names = list(reader.groups or [ITEM_GROUP])
    totals = dict(zip(names, map(sum, counts), strict=True))
    by_id = dict(zip(ids, zip(*counts, strict=True), strict=True))
    return SampleTotals(len(samples), totals, by_id)


def _quick_ids(samples: Sequence[Any], reader: SampleReader) -> Iterable[str] | None:
    """Return the ids of dicts that are all ASCII texts or all integers, by few calls for all; None for any others."""
    if not set(map(type, samples)) <= {dict, PlainSample}:
        return None
    try:
        ids = list(map(itemgetter("id"), samples))
    except KeyError:
        return None
    kinds = set(map(type, ids))
    if kinds == {int}:
        ids = list(map(digits_of, ids))
    elif kinds == {str} and all(ids) and all(map(str.isascii, ids)):
        reader.ids_are_integers = False
    else:
        return None
    return ids if len(set(ids)) == len(ids) else None


def _read_ids(samples: Iterable[Any], reader: SampleReader) -> Iterable[str]:
    """Return the ids of samples of any kind. Raise a SampleError for one that has none, or that of another."""
    seen: dict[str, int] = {}
    for number, raw in enumerate(samples):
        sample_id = reader.read_id(raw, number)
        if isinstance(raw["id"], str):
            reader.ids_are_integers = False
        if sample_id in seen:
            raise duplicate(sample_id, seen[sample_id], number)
        seen[sample_id] = number
    return seen


def _count_tasks(samples: Sequence[Mapping[str, Any]], reader: SampleReader) -> list[list[int]] | None:
    """Return for each group the tasks of each sample; None if one can't be read, which is reported when it is."""
    if not reader.groups:
        return [[1] * len(samples)]
    try:
        return [_counts([raw.get(field) for raw in samples]) for field in reader.groups.values()]
    except (TypeError, ValueError):
        return None


def _counts(values: Sequence[Any]) -> list[int]:
    if set(map(type, values)) <= {list}:
        return list(map(len, values))
    return [len(v) if type(v) is list else len(read_items(v)[1]) for v in values]


def duplicate(sample_id: str, first: int, again: int) -> SampleError:
    """Return the error of an id that two samples have."""
    return SampleError(
        f"samples {first} and {again} have the same id {sample_id!r}. Results are saved under it: make the ids unique.",
        position=again,
        sample_id=sample_id,
    )


def _rows(frame: Any) -> list[dict[str, Any]]:
    """Return a DataFrame's rows as mappings; its index is the id where it has no column of that name."""
    names = [str(c) for c in frame.columns]
    refuse_equal_names(names)
    rows = [dict(zip(names, row, strict=True)) for row in frame.itertuples(index=False, name=None)]
    if "id" not in names:
        for row, label in zip(rows, frame.index, strict=True):
            row["id"] = _id_of(label)
    return rows


def _id_of(label: Any) -> Any:
    return label if isinstance(label, str) or hasattr(label, "__index__") else str(label)


# ---- one job on several machines: each takes the samples whose ids fall to it


@hides_own_frames
def shard(samples: Iterable[Mapping[str, Any]], i: int, n: int) -> Iterator[Mapping[str, Any]]:
    """Yield the i-th of n parts of the samples, for the i-th of n kernels; they are read lazily.

    Which part a sample belongs to depends on its id alone: the order may change and samples may come and go, and each
    still goes to the same kernel. Give each kernel a results directory of its own; `load_results([a, b])` loads them as
    one, and `nbrun merge` makes one of them.

    Args:
        samples: as for start().
        i: which part, from 0 to n - 1.
        n: how many parts.

    Raises:
        InputError: i or n can't be right; a sample without an id.

    Example:
        >>> samples = [{"id": k} for k in range(10)]
        >>> sorted(s["id"] for i in range(3) for s in shard(samples, i, 3)) == list(range(10))
        True
    """
    for name, value in (("i", i), ("n", n)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise InputError(f"shard: {name}={value!r}; give a whole number.")
    if not 0 <= int(i) < int(n):
        raise InputError(f"shard: i={i} of n={n} parts; i counts from 0 to n - 1.")
    return _shard(as_stream(samples), int(i), int(n))


def _shard(samples: Iterable[Mapping[str, Any]], i: int, n: int) -> Iterator[Mapping[str, Any]]:
    for number, raw in enumerate(with_ids(samples)):
        if part_of(SampleReader.read_id(raw, number), n) == i:
            yield raw


def part_of(sample_id: str, n: int) -> int:
    """Return the part of n that an id belongs to. Never to be changed: a job that is half done depends on it."""
    return int.from_bytes(blake2b(sample_id.encode("utf-8", "replace"), digest_size=8).digest()) % n
