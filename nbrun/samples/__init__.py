"""A mapping -> its items, their keys, and the digest of everything else (the context).

Used by session's feeder thread; pure functions and frozen values, no I/O.
"""

from __future__ import annotations

from nbrun.samples.canonical import KEY_BYTES, canonical, context_text, digest, key_text
from nbrun.samples.items import LANGUAGES, is_plain, read_items, with_ids
from nbrun.samples.reading import DEFAULT_GROUPS, ITEM_GROUP, SampleReader, default_key, resolve_groups
from nbrun.samples.sample import SCALARS, Group, Sample, fresh_copy

__all__ = [
    "DEFAULT_GROUPS",
    "ITEM_GROUP",
    "KEY_BYTES",
    "LANGUAGES",
    "SCALARS",
    "Group",
    "Sample",
    "SampleReader",
    "canonical",
    "context_text",
    "default_key",
    "digest",
    "fresh_copy",
    "is_plain",
    "key_text",
    "read_items",
    "resolve_groups",
    "with_ids",
]
