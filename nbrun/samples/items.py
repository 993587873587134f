"""The items of samples: a group's value in any of the shapes that data sets have, and samples that are plain values.

Pure functions.
"""

from __future__ import annotations

import datetime as dt
import decimal
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from nbrun.samples.canonical import canonical
from nbrun.samples.sample import fresh_copy

#: CodeContests' numbers for languages. Items of language 0 are skipped: counted, never run.
LANGUAGES = {0: "UNKNOWN_LANGUAGE", 1: "PYTHON", 2: "CPP", 3: "PYTHON3", 4: "JAVA"}


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


# ---- samples that are plain values


#: What may be a sample without being a mapping. numpy's and pandas' scalars are known by their method `item`.
PLAIN = (
    str, bytes, int, float, complex, tuple, list,
    dt.date, dt.time, dt.timedelta, decimal.Decimal, pathlib.PurePath,
)  # fmt: skip
#: A text of up to this many characters is its sample's id itself.
ID_CHARS = 80
#: Texts that look like an id that was made of something else: of a number, a tuple, a long text, a repetition.
_MADE_ID = re.compile(
    r"[\[(].*|.* #\d+|.*~[0-9a-f]{12}|None|True|False|[-+]?(nan|inf|[\d._]+(e[-+]?\d+)?j?)", re.DOTALL
)


class PlainSample(dict[str, Any]):
    """A sample that was given as a plain value: `{"id": …, "item": value}`. Its one task has the value as its item."""

    __slots__ = ()


def is_plain(value: Any) -> bool:
    """Whether a sample is a plain value, such as a prompt or a number."""
    return isinstance(value, PLAIN) or (hasattr(value, "dtype") and getattr(value, "ndim", None) == 0)


def plain_id(value: Any) -> str:
    """The id of a sample that is a plain value. It depends on the value alone, so samples may be reordered.

    A short text is its own id. Of longer texts and of values without a short form the id ends in a digest.

    Example:
        >>> plain_id("alpha"), plain_id(3), plain_id((1, "a")), plain_id("3")
        ('alpha', '3', "(1, 'a')", '3~1a7b5be2a5be')
    """
    if isinstance(value, str):
        text = str(value)
        if (
            text
            and len(text) <= ID_CHARS
            and text.isprintable()
            and text == text.strip()
            and not _MADE_ID.fullmatch(text)
        ):
            return text
    else:
        text = repr(value.item() if hasattr(value, "dtype") else value)
        if len(text) <= ID_CHARS and isinstance(value, (int, float, complex, tuple, list)) and text.isprintable():
            return text
    try:
        data = canonical(value)
    except TypeError:
        data = repr(value).encode("utf-8", "surrogatepass")
    short = " ".join("".join(c if c.isprintable() else " " for c in text[: ID_CHARS // 2]).split())
    return f"{short}~{blake2b(data, digest_size=6).hexdigest()}"


def with_ids(samples: Iterable[Any]) -> Iterator[Any]:
    """Yield each sample; a plain value as a `PlainSample`. The second of two equal ones gets an id that ends in #2.

    A generator may yield one object again and again with other content, while the tasks of earlier samples still wait:
    so of what is no list each sample is copied before the next is asked for.
    """
    seen = Counter[str]()
    is_kept = isinstance(samples, (list, tuple))
    for value in samples:
        if not is_plain(value):
            yield value if is_kept else fresh_copy(value)
            continue
        sample_id = plain_id(value)
        seen[sample_id] += 1
        again = seen[sample_id]
        yield PlainSample(id=sample_id if again == 1 else f"{sample_id} #{again}", item=value)
