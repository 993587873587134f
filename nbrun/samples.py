"""Read samples: a mapping becomes its groups of items, their keys, and the digest of everything else (the context).

The session's feeder thread uses it. Pure functions and frozen values; no I/O.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import operator
import pathlib
import re
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypeGuard, TypeVar

from nbrun.canonical import EMPTY_CONTEXT, EMPTY_DIGEST, KEY_BYTES, blake2b, canonical, context_text, digest, is_a
from nbrun.errors import STORABLE_ADVICE, InputError, SampleError, UnstorableError
from nbrun.texts import id_text, without_surrogates

T = TypeVar("T")

# ---- a sample that was read


@dataclasses.dataclass(slots=True)
class Group:
    """The items of one group. `runnable` holds the indices of those that aren't skipped; `keys` is parallel to it.

    `keys` is packed, 16 bytes each; `occurrences` is None where every key occurs once; `is_plain` where no item can be
    changed (see SCALARS).
    """

    name: str
    items: Sequence[object]
    runnable: Sequence[int]
    keys: bytes
    occurrences: array[int] | None
    base: int  # the position of its first runnable item in the sample
    is_plain: bool = False

    def key(self, rank: int) -> bytes:
        """Return the key of the rank-th runnable item."""
        return self.keys[rank * KEY_BYTES : (rank + 1) * KEY_BYTES]

    def occurrence(self, rank: int) -> int:
        """Return how many equal items come before the rank-th runnable item."""
        return 0 if self.occurrences is None else self.occurrences[rank]


@dataclasses.dataclass
class Sample:
    """One sample as it was read: its number, its groups of items and its context.

    A *position* counts the runnable items of all groups, group by group.

    Attributes:
        key_of: the key that an item has by `key=`; None where it is that of the whole item.
    """

    id: str
    number: int
    raw: Mapping[str, object]
    groups: tuple[Group, ...]
    context: str
    skipped: int
    key_of: Callable[[object], bytes] | None = None

    @property
    def total(self) -> int:
        """The number of its tasks."""
        return sum(len(g.runnable) for g in self.groups)

    def locate(self, position: int) -> tuple[Group, int]:
        """Return the group of a position, and its rank among that group's runnable items."""
        for group in reversed(self.groups):
            if position >= group.base:
                return group, position - group.base
        raise IndexError(position)

    @cached_property
    def identities(self) -> bytes:
        """A digest of the items and their places: samples with equal digests need no matching."""
        h = blake2b(digest_size=KEY_BYTES)
        for g in self.groups:
            h.update(canonical([g.name, len(g.runnable)]))
            if not isinstance(g.runnable, range):
                h.update(array("I", g.runnable).tobytes())
            h.update(g.keys)
        return h.digest()


#: Types of values that nothing can change.
SCALARS = frozenset({str, int, float, bool, type(None), bytes, complex})


def fresh_copy(value: T) -> T:
    """Return a value that a user's function may change without changing the dataset, whose keys are identities.

    Lists, mappings and sets are copied, what they hold too; so are arrays, frames and dataclasses. Texts and numbers
    are shared, and so is what only its own library knows how to copy.
    """
    try:
        copied: T = _fresh(value)
        return copied
    except RecursionError:  # it contains itself
        return value


def _fresh(value: Any) -> Any:
    kind = type(value)
    if (copier := _COPIERS.get(kind)) is not None:
        return copier(value)
    if isinstance(value, (dict, list, set)) or (hasattr(kind, "__dataclass_fields__") and not isinstance(value, type)):
        try:
            return copy.deepcopy(value)
        except Exception:  # something in it can't be copied
            return value
    if kind.__module__.partition(".")[0] in ("numpy", "pandas") and kind.__name__ in _COPIED:
        return value.copy()
    return value


def _fresh_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    return {k: v if type(v) in SCALARS else _fresh(v) for k, v in value.items()}


def _fresh_list(value: Sequence[Any]) -> list[Any]:
    if SCALARS.issuperset(map(type, value)):
        return [*value]  # a fifth of the time
    return [v if type(v) in SCALARS else _fresh(v) for v in value]


def _fresh_tuple(value: tuple[Any, ...]) -> tuple[Any, ...]:
    parts = _fresh_list(value)
    return value if all(map(operator.is_, parts, value)) else tuple(parts)


#: How values of exactly these types are copied; and the names of the types of numpy and pandas that have `copy`.
_COPIERS: Mapping[type, Callable[[Any], Any]] = {
    dict: _fresh_dict,
    list: _fresh_list,
    tuple: _fresh_tuple,
    set: set,
    bytearray: bytearray,
}
_COPIED = frozenset({"ndarray", "recarray", "MaskedArray", "Series", "DataFrame"})


def _are_flat(items: Sequence[Any]) -> bool:
    """Return True if all items are texts and numbers, or mappings of texts and numbers by name: most are by far.

    It looks at each type by one call for all, which takes a tenth of the time of a look at item after item.
    """
    kinds = set(map(type, items))
    if kinds == {dict}:
        if set(map(type, set(chain.from_iterable(items)))) > {str}:
            return False
        kinds = set(map(type, chain.from_iterable(map(dict.values, items))))
    return kinds <= SCALARS


def occurrences(keys: list[bytes]) -> array[int] | None:
    """Return how many equal keys come before each; None where every key occurs once."""
    if len(set(keys)) == len(keys):
        return None
    seen: dict[bytes, int] = {}
    out = array("I")
    for key in keys:
        n = seen.get(key, 0)
        out.append(n)
        seen[key] = n + 1
    return out


# ---- items in any of the shapes that data sets have


#: CodeContests' numbers for languages. Items of language 0 are skipped: counted, never run.
LANGUAGES = {0: "UNKNOWN_LANGUAGE", 1: "PYTHON", 2: "CPP", 3: "PYTHON3", 4: "JAVA"}


def language_of_number(number: int) -> str:
    """Return the language of one of CodeContests' numbers; for any other number, the number as text.

    Example:
        >>> language_of_number(3), language_of_number(9)
        ('PYTHON3', '9')
    """
    return LANGUAGES.get(number, str(number))


def read_items(value: object) -> tuple[Sequence[object], Sequence[int], int]:
    """Return the items of a group's value, the indices of those to run, and how many are skipped.

    Raises:
        ValueError: neither a list nor a struct of lists of equal length.
    """
    if isinstance(value, Mapping):
        return _read_struct(value)
    items = [] if _is_missing(value) else _as_list(value)
    if items is None:
        raise ValueError(f"is a {type(value).__name__}; it must be a list of items, or a struct of lists.")
    return items, range(len(items)), 0


def _is_missing(value: object) -> bool:
    """Return whether a sample lacks a group: a DataFrame has NaN or NA there."""
    return value is None or (type(value) is float and value != value) or is_a(value, "pandas._libs.missing", "NAType")


def _as_list(value: object) -> Sequence[object] | None:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (str, bytes, bytearray, Mapping)):
        return None
    tolist = getattr(value, "tolist", None)
    if callable(tolist):  # numpy, pandas, pyarrow
        out = tolist()
        return out if isinstance(out, list) else None
    return list(value) if isinstance(value, Iterable) and hasattr(value, "__len__") else None


def _read_struct(value: Mapping[str, object]) -> tuple[Sequence[object], Sequence[int], int]:
    columns = {name: _column(name, column) for name, column in value.items()}
    lengths = {name: len(c) for name, c in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"is a struct of lists of unequal length: {lengths}.")
    languages = columns.get("language", ())
    if languages:
        columns["language"] = list(map(_language_name, languages))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    runnable: Sequence[int] = range(len(rows))
    if any(map(_is_skipped, languages)):
        runnable = [i for i, language in enumerate(languages) if not _is_skipped(language)]
    return rows, runnable, len(rows) - len(runnable)


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _language_name(language: object) -> object:
    return language_of_number(language) if _is_number(language) else language


def _is_skipped(language: object) -> bool:
    return _is_number(language) and language == 0


def _column(name: str, column: object) -> Sequence[object]:
    items = _as_list(column)
    if items is None:
        raise ValueError(f"is a mapping whose {name!r} is a {type(column).__name__}; a struct of lists needs lists.")
    return items


# ---- tables of other libraries than pandas


#: How the rows of a table are read as mappings, by its library and its type.
_ROWS_OF: Mapping[tuple[str, str], Callable[[Any], list[dict[str, object]]]] = {
    ("polars", "DataFrame"): lambda frame: frame.to_dicts(),
    ("polars", "LazyFrame"): lambda frame: frame.collect().to_dicts(),
    ("pyarrow", "Table"): lambda table: table.to_pylist(),
    ("pyarrow", "RecordBatch"): lambda table: table.to_pylist(),
}
#: Tables whose rows are elsewhere, perhaps more of them than fit into memory, and the call that fetches them.
_ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("dask", "DataFrame"): "samples.compute()",
    ("duckdb", "DuckDBPyRelation"): "samples.df()",
    ("pyspark", "DataFrame"): "samples.toPandas()",
}


def rows_of(samples: Any) -> Any:
    """Return the rows of a table of polars or pyarrow as mappings; anything else as it is.

    Raises:
        InputError: a table whose rows aren't in memory, or with two columns of one name.
    """
    kind = type(samples)
    table = kind.__module__.partition(".")[0].lstrip("_"), kind.__name__
    if table in _ELSEWHERE:
        raise InputError(
            f"samples is a {kind.__name__} of {table[0]}, whose rows are not in memory: give {_ELSEWHERE[table]}."
        )
    if table not in _ROWS_OF:
        return samples
    refuse_equal_names(getattr(samples, "column_names", ()))  # polars has no such columns
    return _ROWS_OF[table](samples)


def refuse_equal_names(columns: Sequence[str]) -> None:
    """Raise an InputError where a table has two columns of one name: a mapping would lack one of them."""
    if len(set(columns)) < len(columns):
        twice = max(columns, key=columns.count)
        raise InputError(f"samples: the table has two columns {twice!r}; give each a name of its own.")


# ---- samples that are plain values


#: What may be a sample without being a mapping, and Decimal. numpy's and pandas' scalars are known by `item`.
PLAIN = (
    str,
    bytes,
    int,
    float,
    complex,
    tuple,
    list,
    dt.date,
    dt.time,
    dt.timedelta,
    pathlib.PurePath,
)
#: A text of up to this many characters is its sample's id itself.
ID_CHARS = 80
#: Texts that are no ids: they look like one that was made of a number, a tuple, a long text or a repetition, or they
#: begin or end with a space.
_MADE_ID = re.compile(r"[\[(].*|.* #\d+|.*~[0-9a-f]{12}|None|True|False|[-+]?(nan|inf|[\d._]+(e[-+]?\d+)?j?)| .*|.* ")
#: Types of values whose repr, if it is short, is their id.
_SHOWN = (int, float, complex, tuple, list)


class PlainSample(dict[str, object]):
    """A sample that was given as a plain value: `{"id": …, "item": value}`. Its one task has the value as its item."""

    __slots__ = ()


def is_plain(value: object) -> bool:
    """Return whether a sample is a plain value, such as a prompt or a number."""
    is_scalar = hasattr(value, "dtype") and getattr(value, "ndim", None) == 0
    return isinstance(value, PLAIN) or is_scalar or is_a(value, "decimal", "Decimal")


def plain_id(value: Any) -> str:
    """Return the id of a sample that is a plain value. It depends on the value alone, so samples may be reordered.

    A short text is its own id. Of longer texts and of values without a short form the id ends in a digest.

    Example:
        >>> plain_id("alpha"), plain_id(3), plain_id((1, "a")), plain_id("3")
        ('alpha', '3', "(1, 'a')", '3~1a7b5be2a5be')
    """
    is_text = isinstance(value, str)
    text = str(value) if is_text else repr(value.item() if hasattr(value, "dtype") else value)
    if 0 < len(text) <= ID_CHARS and text.isprintable():
        is_id = not _MADE_ID.fullmatch(text) if is_text else isinstance(value, _SHOWN)
        if is_id:
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


# ---- reading and checking samples


#: The groups of a sample unless `groups=` says otherwise: group name -> the sample's key that holds its items.
DEFAULT_GROUPS: Mapping[str, str] = {"solution": "solutions", "incorrect_solution": "incorrect_solutions"}
#: The one group of samples that have no groups: the sample itself is the item.
ITEM_GROUP = "item"


def resolve_groups(asked: Sequence[str] | Mapping[str, str], samples: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return group name -> the samples' key that holds its items.

    A name may be written as the group or as the key: `prompt` and `prompts` both mean the group `prompt` whose items
    are under `prompts`. A mapping names each key exactly.

    Args:
        asked: `groups=` as the user gave it, checked by `read_groups`.
        samples: those that can be looked at before anything runs.

    Raises:
        InputError: none of these samples has one of the groups. The message suggests keys that they have.

    Example:
        >>> resolve_groups(["prompts"], [{"id": 1, "prompts": ["a"]}])
        {'prompt': 'prompts'}
    """
    spellings = [[pair] for pair in asked.items()] if isinstance(asked, Mapping) else list(map(_spellings, asked))
    keys = _keys_of(samples, [pairs[0][1] for pairs in spellings])
    out: dict[str, str] = {}
    missing: list[tuple[str, str]] = []
    for name, pairs in zip(asked, spellings, strict=True):
        group, key = _spelling_in(keys, pairs)
        group = without_surrogates(group)
        if group in out:
            raise InputError(f"groups: {name!r} names the group {group!r} twice; leave one of them out.")
        out[group] = key
        if key not in keys:
            missing.append((name, key))
    if missing and keys:
        raise InputError(_missing_groups(missing, [k for k in keys if k != "id"]))
    return out


def _keys_of(samples: Sequence[Mapping[str, object]], likeliest: Iterable[str]) -> list[str]:
    """Return the samples' keys; those of the first one where it has the likeliest, since others change nothing then."""
    first = next(iter(samples), {})
    looked_at = [first] if all(key in first for key in likeliest) else samples
    return [k for k in dict.fromkeys(chain.from_iterable(looked_at)) if isinstance(k, str)]


def default_key(name: str) -> str:
    """Return the samples' key that a group's name means if no sample decides it."""
    return _spellings(name)[0][1]


def _spellings(name: str) -> list[tuple[str, str]]:
    """Return the pairs (group, key) that a name may mean, the likeliest first."""
    is_plural = len(name) > 2 and name.endswith("s") and not name.endswith(("ss", "us", "is"))
    as_group = (name, f"{name}s")
    return [(name[:-1], name), as_group] if is_plural else [as_group, (name, name)]


def _spelling_in(keys: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the pair whose key the samples have; the likeliest if they have none."""
    return next((pair for pair in pairs if pair[1] in keys), pairs[0])


def _missing_groups(missing: Sequence[tuple[str, str]], keys: Sequence[str]) -> str:
    lines = []
    for name, key in missing:
        near = _similar(name, key, keys)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        lines.append(f"groups: no sample has {key!r}, which would hold the items of group {name!r}.{meant}")
    listed = ", ".join(map(repr, keys[:20])) or "nothing beside their ids"
    more = f" and {len(keys) - 20} more" if len(keys) > 20 else ""
    return f"{' '.join(lines)} The samples have {listed}{more}."


def _similar(name: str, key: str, keys: Sequence[str]) -> Sequence[str]:
    """Return keys that may have been meant by a group's name and its key."""
    import difflib  # loads slowly

    near = [k for k in keys if k.lower().rstrip("s") == key.lower().rstrip("s")]
    return near or difflib.get_close_matches(key, keys, 1) or difflib.get_close_matches(name, keys, 1)


#: See SampleReader.check_items.
FIRST_CHECKED = 100


class _Place(NamedTuple):
    """Which sample is being read, for errors."""

    number: int
    sample_id: str

    def error(self, text: str) -> SampleError:
        """Return the error whose message goes on with this text after the number and the id."""
        where = f"sample {self.number} ({self.sample_id!r})"
        return SampleError(where + text, position=self.number, sample_id=self.sample_id)


class SampleReader:
    """Reads samples one after another and checks each.

    Args:
        groups: group name -> the sample's key; None takes the default, or `item` where the first sample has neither.
        key: what of an item is digested; None takes the whole item.
        context: what of a sample is digested; None takes the sample without its id and groups.
        check_item: raises an UnstorableError for an item that its entry can't hold; None where entries hold no items.

    Threads: used by one thread, the feeder (and by start() before that thread exists).
    """

    def __init__(
        self,
        groups: Mapping[str, str] | None = None,
        key: Callable[[Any], Any] | None = None,
        context: Callable[[Mapping[str, object]], Any] | None = None,
        check_item: Callable[[object], None] | None = None,
    ) -> None:
        self.groups = groups
        self._key, self._context, self._check_item = key, context, check_item
        self._key_of = None if key is None else lambda item: digest(key(item))
        self.ids_are_integers = True  # of all samples so far
        self._first: Sample | None = None  # read ahead, see read_first

    def settle_groups(self, *samples: Mapping[str, object]) -> None:
        """Decide, by samples that were looked at first, whether samples have groups or are items themselves."""
        if self.groups is None:
            has_groups = any(k in sample for sample in samples for k in DEFAULT_GROUPS.values())
            self.groups = DEFAULT_GROUPS if has_groups else {}

    def read_first(self, raw: Any) -> None:
        """Check a run's first sample, which `read` will be asked for: its items are digested once. Raise as `read`."""
        self._first = self.read(raw, 0)

    def read(self, raw: Any, number: int) -> Sample:
        """Return the sample at place `number` (from 0).

        Raises:
            SampleError: no id, no mapping, a group that is no list, an item without a key.
        """
        first, self._first = self._first, None
        if first is not None and first.raw is raw and number == 0:
            return first
        where = _Place(number, self.read_id(raw, number))
        if isinstance(raw["id"], str):
            self.ids_are_integers = False
        self.settle_groups(raw)
        if not self.groups:
            return self._read_item(raw, where)
        if type(raw) is PlainSample:
            raise where.error(
                " is a plain value, but groups were named or found in the first sample: give each sample as a dict, "
                "such as {'id': 'p1', 'solutions': [...]}, or leave groups= out."
            )
        groups, skipped = self._read_groups(raw, self.groups, where)
        context = self._digest_context(raw, where)
        return Sample(where.sample_id, number, raw, groups, context, skipped, self._key_of)

    def _read_groups(self, raw: Any, fields: Mapping[str, str], where: _Place) -> tuple[tuple[Group, ...], int]:
        """Return a sample's groups, and how many of their items are skipped."""
        groups: list[Group] = []
        skipped = base = 0
        for name, field in fields.items():
            try:
                items, runnable, n_skipped = read_items(raw.get(field))
            except ValueError as e:
                raise where.error(f": {field!r} {e}") from None
            groups.append(self._group(name, items, runnable, base, where))
            base += len(runnable)
            skipped += n_skipped
        return tuple(groups), skipped

    def _read_item(self, raw: Any, where: _Place) -> Sample:
        """Return a sample without groups, which is an item itself."""
        if any(k in raw for k in DEFAULT_GROUPS.values()):
            raise where.error(" has groups, but the first sample has none: give groups= to say what the items are.")
        item = raw["item"] if type(raw) is PlainSample else raw
        group = self._group(ITEM_GROUP, [item], range(1), 0, where)
        context = EMPTY_CONTEXT if self._context is None else self._digest_context(raw, where)
        return Sample(where.sample_id, where.number, raw, (group,), context, 0, self._key_of)

    @staticmethod
    def read_id(raw: Any, number: int) -> str:
        """Return the id of a sample, as text."""
        if not isinstance(raw, Mapping):
            raise SampleError(
                f"sample {number} is a {type(raw).__name__}, not a mapping with an 'id'. Give each sample as a dict, "
                "such as {'id': 'p1', 'solutions': [...]}, or as a plain value: a text, a number or a tuple.",
                position=number,
            )
        value = raw.get("id")
        if value is None:
            raise SampleError(
                f"sample {number} has no 'id' (it has {', '.join(map(repr, list(raw)[:6])) or 'nothing'}). "
                "Results are saved under it, so give every sample one that stays the same.",
                position=number,
            )
        is_text = isinstance(value, str)
        if is_text and not value:
            raise SampleError(f"sample {number} has an empty 'id'.", position=number)
        if not is_text and (isinstance(value, bool) or not hasattr(value, "__index__")):
            raise SampleError(
                f"sample {number}: its 'id' is {value!r}, a {type(value).__name__}; use text or an integer.",
                position=number,
            )
        return id_text(value)

    def _group(self, name: str, items: Sequence[object], runnable: Sequence[int], base: int, where: _Place) -> Group:
        get, new, form = self._key, EMPTY_DIGEST.copy, canonical
        keys: list[bytes] = []
        add = keys.append
        chosen = items if len(runnable) == len(items) else [items[i] for i in runnable]
        try:
            for item in chosen if get is None else map(get, chosen):
                h = new()  # a copy is made faster than a new one
                h.update(form(item))
                add(h.digest())
        except Exception as e:  # the user's key function may raise anything
            i = runnable[len(keys)]
            if get is None:
                self._check_items(name, items, (i,), where)  # the better error, where it is one
            raise where.error(
                f": item {i} of group {name!r} can't be hashed into a key: {e}. "
                "Give key=, a function of the item that returns text, numbers, lists or mappings."
            ) from e
        is_plain = SCALARS.issuperset(map(type, items))
        if not is_plain:
            self._check_items(name, items, runnable, where)
        return Group(name, items, runnable, b"".join(keys), occurrences(keys), base, is_plain)

    def _check_items(self, name: str, items: Sequence[object], indices: Iterable[int], where: _Place) -> None:
        """Raise a SampleError for the first item that an entry can't hold: better before its task runs than after."""
        check = self._check_item
        if check is None or _are_flat(items):
            return
        for i in indices:
            item = items[i]
            if type(item) in SCALARS:
                continue
            try:
                check(item)
            except UnstorableError as e:
                also = "" if self._key is not None else ", with key=, a function of the item that tells it from others"
                raise where.error(
                    f": item {i} of group {name!r} can't be stored beside its result: "
                    f"{str(e).removesuffix(STORABLE_ADVICE)} Give keep_items=False, which leaves items out of the "
                    f"results{also}."
                ) from e

    def check_items(self, samples: Sequence[Mapping[str, object]], seconds: float) -> None:
        """Check the items of samples that are in memory, as many as can be checked in this much CPU time.

        Of the first FIRST_CHECKED samples all are checked, if that takes no second. The others are checked when they
        are read, before their tasks run.

        Raises:
            SampleError: an item that its entry can't hold.
        """
        if self._check_item is None:
            return
        end = time.thread_time() + seconds
        for number, raw in enumerate(samples):
            self._check_sample(raw, _Place(number, self.read_id(raw, number)))
            if time.thread_time() > (end if number >= FIRST_CHECKED else end + 1.0):
                return

    def _check_sample(self, raw: Mapping[str, object], where: _Place) -> None:
        if not self.groups:
            self._check_items(ITEM_GROUP, [raw], (0,), where)
            return
        for name, field in self.groups.items():
            try:
                items, runnable, _ = read_items(raw.get(field))
            except ValueError:  # reported when it is read
                continue
            self._check_items(name, items, runnable, where)

    def _digest_context(self, raw: Mapping[str, object], where: _Place) -> str:
        assert self.groups is not None
        try:
            if self._context is not None:
                return context_text(self._context(raw))
            fields = self.groups.values()
            rest = {k: v for k, v in raw.items() if k != "id" and k not in fields}
            return context_text(rest) if rest else EMPTY_CONTEXT
        except Exception as e:  # the user's context function may raise anything
            raise where.error(
                f": what it holds beside its groups can't be hashed: {e}. "
                "Give context=, a function of the sample that returns text, numbers, lists or mappings."
            ) from e
