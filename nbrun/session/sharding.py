"""One job on several machines: each takes the samples whose ids fall to it. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from nbrun.errors import InputError, hides_own_frames
from nbrun.samples import SampleReader, with_ids
from nbrun.session.inputs import as_stream


@hides_own_frames
def shard(samples: Iterable[Mapping[str, Any]], i: int, n: int) -> Iterator[Mapping[str, Any]]:
    """The i-th of n parts of the samples, for the i-th of n kernels; read lazily.

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
    """The part of n that an id belongs to. Never to be changed: half a job on two machines depends on it."""
    return int.from_bytes(blake2b(sample_id.encode("utf-8", "replace"), digest_size=8).digest()) % n
