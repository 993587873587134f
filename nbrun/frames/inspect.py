"""Look at a directory without loading it: status() counts, show() shows one saved entry or lists those of a sample.

Nothing here needs pandas but `show`, which loads it. Any thread.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nbrun import verdicts
from nbrun.entry_view import EntryView, view_entry
from nbrun.errors import InputError, hides_own_frames
from nbrun.frames.rows import language_of
from nbrun.results.format import Entry
from nbrun.results.reader import Reader, with_totals
from nbrun.results.sample_file import decode_entry
from nbrun.texts import counted, escape_control_chars, id_text, without_surrogates

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Status:
    """How far the samples of a directory are. Counts are tasks where nothing else is said.

    Attributes:
        samples, total: with what was never begun, once a run has counted it.
        problems: files and records that can't be read.
        is_total_known: False where no run has counted its samples to their end, so that there may be more.
    """

    samples: int
    samples_complete: int
    done: int
    errors: int
    total: int
    problems: int
    is_total_known: bool = True

    @property
    def _at_least(self) -> str:
        return "" if self.is_total_known else "at least "

    def __repr__(self) -> str:
        at_least = self._at_least
        words = [f"{self.done:,} of {at_least}{self.total:,} tasks done", counted(self.errors, "error")]
        words.append(f"{self.samples_complete:,} of {at_least}{self.samples:,} samples complete")
        if self.problems:
            words.append(f"{counted(self.problems, 'problem')}: see nbrun.check")
        return f"<nbrun.Status: {', '.join(words)}>"

    def _repr_html_(self) -> str:
        """A small table for a notebook."""
        at_least = self._at_least
        share = f"{self.done / self.total:.1%}" if self.total else "–"
        rows = [
            ("Tasks done", f"{self.done:,} of {at_least}{self.total:,} ({share})"),
            ("Errors", f"{self.errors:,}"),
            ("Samples complete", f"{self.samples_complete:,} of {at_least}{self.samples:,}"),
            ("Unreadable files", f"{self.problems:,}"),
        ]
        cells = "".join(
            f'<tr><th scope="row" style="text-align:left">{name}</th><td style="text-align:left">{text}</td></tr>'
            for name, text in rows
        )
        return f"<table>{cells}</table>"


@hides_own_frames
def status(results: str | os.PathLike[str]) -> Status:
    """Count what is saved and what is missing, during a run or after it.

    Raises:
        InputError: there is no such folder.
    """
    reader = Reader(results)
    totals = reader.totals()
    samples = complete = done = errors = total = 0
    for view in with_totals(reader.samples(bodies=False, by_tails=True), totals):
        samples += 1
        complete += view.is_complete
        done += sum(view.completed.values())
        errors += view.errors
        total += sum(view.totals.values())
    problems = len(reader.problems)
    if totals is None:
        return Status(samples, complete, done, errors, total, problems)
    samples, total = max(samples, totals.samples or 0), max(total, totals.task_count or 0)
    return Status(samples, complete, done, errors, total, problems, totals.is_known)


# ---- show


Results = str | os.PathLike[str]


def entry_of_row(row: pd.Series[Any], results: Results | Sequence[Results] | None) -> tuple[str, str, Entry]:
    """Return sample id, group and entry of a row that load_results made.

    Raises:
        TypeError: the row lacks the columns that identify its task.
        InputError: it is not known where the row was loaded from, or its result isn't there any more.
    """
    missing = [c for c in ("sample_id", "group", "key", "occurrence") if c not in row.index]
    if missing:
        raise TypeError(f"show: the row lacks {', '.join(missing)}; give one of a frame that load_results made.")
    sample_id, group = str(row["sample_id"]), str(row["group"])
    if isinstance(row.get("entry"), Mapping):
        return sample_id, group, cast(Entry, dict(row["entry"]))
    paths = row.attrs.get("results") if results is None else results
    if not paths:
        raise InputError("show: this row doesn't say where it was loaded from. Say it: show(row, results=...).")
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    identity = group, str(row["key"]), int(row["occurrence"])
    entry = _find_entry(several, sample_id, identity)
    if entry is None:
        raise InputError(f"show: the {group} {row['key']} of sample {sample_id!r} is not in {paths} any more.")
    return sample_id, group, entry


def _find_entry(paths: Iterable[Results], sample_id: str, identity: tuple[str, str, int]) -> Entry | None:
    for group, entry in chain.from_iterable(entries_of(path, sample_id) for path in paths):
        if (group, entry["key"], entry["occurrence"]) == identity:
            return entry
    return None


def entries_of(results: Results, sample_id: str) -> Iterable[tuple[str, Entry]]:
    """Return group and entry of all that is saved of a sample, in the order in which load_results shows them."""
    from nbrun.frames.loader import RowCache

    view = Reader(results).sample(sample_id, RowCache(Path(results).expanduser()).known)
    if view is None:
        return []
    found = [(s.group, s.item_index, body) for s, body in view.entries]
    found.sort(key=lambda f: (f[0] != "solution", f[0], f[1] is None, f[1] or 0))
    return [(group, decode_entry(body)) for group, _, body in found]


class Overview:
    """A sample's entries, a line each. It shows itself: a table in a notebook, text in a terminal."""

    def __init__(self, sample_id: str, table: pd.DataFrame) -> None:
        self.sample_id, self.table = sample_id, table

    def __str__(self) -> str:
        head = f"{escape_control_chars(self.sample_id)}: {len(self.table)} results"
        return f"{head}\n{self.table.to_string(index=False, na_rep='-', max_colwidth=60)}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, na_rep="–", border=0)  # escapes by itself
        return f"<p>{len(self.table)} results</p>{table}"


def show(
    what: pd.Series[Any] | pd.DataFrame | Results,
    sample_id: str | None = None,
    group: str | None = None,
    index: int | None = None,
    *,
    results: Results | Sequence[Results] | None = None,
) -> EntryView | Overview:
    """The item with its source, its verdict, the failing test, expected against actual output, stderr, attempts.

    Args:
        what: a row of load_results (`df.iloc[3]`), a frame of one row, or a results directory.
        sample_id: in a directory: which sample; without `index`, all its results are listed.
        group: "solution" where nothing is said, or the only group there is.
        index: the item's position in the dataset; in an old directory that no dataset was matched with, the place in
            which load_results shows it.
        results: where a row was loaded from, if it doesn't know (after a merge, say).

    Returns:
        An object that shows itself: as HTML in a notebook, as text by `print`.

    Raises:
        TypeError: a row without the needed columns.
        InputError: no such folder, sample or item.

    Example:
        >>> nbrun.show(df[df.verdict == "WrongAnswer"].iloc[0])  # doctest: +SKIP
        >>> nbrun.show("results", "two-numbers", "solution", 3)  # doctest: +SKIP
    """
    import pandas as pd  # slow to load, and `status` needs none of it

    if isinstance(what, pd.DataFrame):
        what = _only_row(what)
    if isinstance(what, pd.Series):
        return view_entry(*entry_of_row(what, results))
    if sample_id is None:
        raise InputError("show: say which sample, such as show('results', 'p1').")
    return _of_directory(what, id_text(sample_id), None if group is None else without_surrogates(group), index)


def _only_row(frame: pd.DataFrame) -> pd.Series[Any]:
    if len(frame) != 1:
        raise InputError(f"show: the frame has {len(frame)} rows; give one of them, such as df.iloc[0].")
    row = frame.iloc[0]
    row.attrs = dict(frame.attrs)
    return row


def _of_directory(results: Results, sample_id: str, group: str | None, index: int | None) -> EntryView | Overview:
    entries: dict[str, list[Entry]] = {}
    for name, entry in entries_of(results, sample_id):
        entries.setdefault(name, []).append(entry)
    if not entries:
        raise InputError(f"show: {os.fspath(results)} holds no sample {sample_id!r}.{_like(results, sample_id)}")
    if group is not None:
        if group not in entries:
            raise InputError(f"show: sample {sample_id!r} has no group {group!r}; it has {', '.join(entries)}.")
        entries = {group: entries[group]}
    if index is None:
        return _overview(sample_id, entries)
    group = next(iter(entries))  # of several `solution` comes first
    return view_entry(sample_id, group, _with_index(sample_id, group, entries[group], index))


def _with_index(sample_id: str, group: str, entries: list[Entry], index: int) -> Entry:
    by_index = {_index_of(entry, place): entry for place, entry in enumerate(entries)}
    if index not in by_index:
        raise InputError(
            f"show: sample {sample_id!r} has no saved {group} with index {index!r}; "
            f"there are {len(by_index)}, from {min(by_index)} to {max(by_index)}."
        )
    return by_index[index]


def _index_of(entry: Entry, place: int) -> int:
    """Return an entry's index; its place in the group where the index isn't known."""
    return place if entry["index"] is None else entry["index"]


def _overview(sample_id: str, entries: Mapping[str, list[Entry]]) -> Overview:
    import pandas as pd

    rows = [_line(group, place, entry) for group, some in entries.items() for place, entry in enumerate(some)]
    table = pd.DataFrame(rows).map(lambda v: escape_control_chars(v) if isinstance(v, str) else v)
    return Overview(sample_id, table.dropna(axis=1, how="all"))


def _line(group: str, place: int, entry: Entry) -> dict[str, object]:
    """Return an entry's line in an overview. `place`: its place in the group, for one whose index isn't known."""
    n, passed, longest = verdicts.summary_of_tests(entry["result"])
    error = entry.get("error")
    return {
        "group": group,
        "index": _index_of(entry, place),
        "status": entry["status"],
        "verdict": verdicts.of(entry["result"]),
        "language": language_of(entry),
        "passed": None if n is None else f"{passed}/{n}",
        "max_time_s": longest,
        "error": None if not error else f"{error['type']}: {error['message']}".split("\n")[0],
    }


def _like(results: Results, sample_id: str) -> str:
    """Return a sentence with ids like this one, or with the first ids that there are."""
    from nbrun.frames.loader import RowCache

    with Reader(results).open(RowCache(Path(results).expanduser()).known) as now:
        ids = sorted({*now.listing.by_id, *now.journal.entries})
    if near := difflib.get_close_matches(sample_id, ids, 3, 0.4):
        return f" Did you mean {' or '.join(map(repr, near))}?"
    return f" It holds {counted(len(ids), 'sample')}: {', '.join(map(repr, ids[:3]))}{', …' * (len(ids) > 3)}."
