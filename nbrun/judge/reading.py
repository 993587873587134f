"""Reads problems from files, folders of packages or mappings, one at a time.

Iterated by one thread, the one that feeds a run; each iteration opens the files anew. Nothing is written.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbrun.errors import InputError, NotSupportedError, SampleError
from nbrun.judge.languages import DEFAULT_LANGUAGES, lookup
from nbrun.judge.packages import find_packages, read_package
from nbrun.judge.problems import TEST_SETS, normalise
from nbrun.samples import LANGUAGES as NUMBERED

_JSONL = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_ROWS_AT_ONCE = 16  # of Parquet: a problem's tests may take many megabytes


class Problems:
    """Problems in one shape (see `nbrun.judge.problems`), read lazily; it may be iterated again and again.

    Attributes:
        languages: how many solutions in each language the last iteration met, by name.
        not_supported: what it met that LocalSandbox can't judge, as reason -> how many: solutions in languages that it
            has no row for, and solutions of kinds of problems that it doesn't know. They are handed over all the same,
            and end as errors that say why.

    Threads: iterators are independent of each other; each belongs to one thread.
    """

    def __init__(
        self, source: str | os.PathLike[str] | Iterable[Mapping[str, Any]], tests: Sequence[str], limit: int | None,
        keep: Sequence[str],
    ) -> None:  # fmt: skip
        self._source, self._tests, self._limit, self._keep = source, tuple(tests), limit, tuple(keep)
        self._spent = False
        self.languages: Counter[str] = Counter()
        self.not_supported: Counter[str] = Counter()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.islice(self._problems(), self._limit)

    def __repr__(self) -> str:
        path = self._path
        source = repr(path) if path is not None else f"<{type(self._source).__name__}>"
        limit = "" if self._limit is None else f", limit={self._limit}"
        text = f"read_problems({source}, tests={self._tests!r}{limit})"
        if self.not_supported:
            text += "; not supported: " + ", ".join(f"{n} × {what}" for what, n in self.not_supported.most_common())
        return text

    @property
    def _path(self) -> str | None:
        return os.fspath(self._source) if isinstance(self._source, (str, os.PathLike)) else None

    def _problems(self) -> Iterator[dict[str, Any]]:
        languages, not_supported = Counter[str](), Counter[str]()
        self.languages, self.not_supported = languages, not_supported
        for position, (where, row) in enumerate(self._rows()):
            if not isinstance(row, Mapping):
                raise SampleError(f"{where}: a {type(row).__name__}, not a problem as a mapping.", position=position)
            try:
                problem = normalise(row, self._tests, self._keep)
                _count(problem, languages, not_supported)
            except ValueError as e:
                name = row.get("id") or row.get("name")
                known = "" if name is None else f" (problem {name!r})"
                sample_id = None if name is None else str(name)
                raise SampleError(f"{where}{known}: {e}.", position=position, sample_id=sample_id) from None
            yield problem

    def _rows(self) -> Iterator[tuple[str, Any]]:
        path = self._path
        if path is not None:
            return _rows_of_folder(Path(path)) if os.path.isdir(path) else _rows_of_file(Path(path))
        rows: Any = self._source
        if hasattr(rows, "itertuples"):  # a DataFrame
            rows = rows.to_dict("records")
        if iter(rows) is rows:  # a generator gives its rows once
            if self._spent:
                raise InputError(f"{self!r}: the generator was read already. Make it anew, or give a list or a file.")
            self._spent = True
        return ((f"row {i}", row) for i, row in enumerate(rows))


def read_problems(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    *,
    tests: Sequence[str] = TEST_SETS,
    limit: int | None = None,
    keep: Sequence[str] = (),
) -> Problems:
    """Problems with their solutions, tests and limits, for `nbrun.start(read_problems(...), LocalSandbox(), ...)`.

    Args:
        source: a JSONL file (a problem a line); a Parquet file (`pip install "nbrun[arrow]"`); a folder that is or
            holds Kattis or ICPC problem packages, or else such files; rows as mappings: a list, a generator, a
            `datasets.Dataset`, a DataFrame, a single one. CodeContests' columns are understood, and those named in
            `nbrun.judge.problems`.
        tests: which sets of tests to take, in this order. Rows that keep all tests under `tests` or `test` need none.
            Packages have their samples in `public_tests` and their secret data in `private_tests`.
        limit: only the first so many problems.
        keep: further columns to carry over into the samples.

    Raises:
        InputError: no such file, a wrong argument.
        SampleError: (while it is read) a row that is no problem: it names file, line and column.

    Example:
        >>> rows = [{"id": "p1", "solutions": ["print(1)"], "public_tests": {"input": [""], "output": ["1"]}}]
        >>> [problem["tests"] for problem in read_problems(rows)]
        [[{'input': '', 'output': '1'}]]
    """
    if isinstance(tests, str) or isinstance(keep, str):
        raise InputError("read_problems: tests= and keep= are lists of names, such as tests=['public_tests'].")
    if limit is not None and limit < 0:
        raise InputError(f"read_problems: limit={limit}; give how many problems to read, or None for all.")
    if isinstance(source, (str, os.PathLike)):
        _check_path(Path(source))
    elif isinstance(source, Mapping):
        source = [source]
    elif not isinstance(source, Iterable):
        raise InputError(f"read_problems: a {type(source).__name__}; give a path of JSONL, or rows as mappings.")
    return Problems(source, tests, limit, keep)


def _check_path(path: Path) -> None:
    if path.is_dir():
        if next(find_packages(path), None) is None and not _files_in(path):
            raise InputError(
                f"read_problems: the folder {str(path)!r} holds no problem package (a folder with problem.yaml), "
                f"and no {', '.join(_JSONL + _PARQUET)}."
            )
    elif not path.is_file():
        raise InputError(f"read_problems: there is no file {str(path)!r} (in {os.getcwd()!r}).")


def _count(problem: Mapping[str, Any], languages: Counter[str], not_supported: Counter[str]) -> None:
    """Counts the solutions of a problem, and those that can't be judged, by the reason."""
    for group in ("solutions", "incorrect_solutions"):
        for (name, reason), count in _kinds(problem.get(group)).items():
            try:
                known, row = lookup(name, DEFAULT_LANGUAGES)
                if row.missing:
                    reason = reason or f"language {known}"
            except NotSupportedError:
                known = NUMBERED.get(name, str(name)) if isinstance(name, int) else str(name)
                reason = reason or f"language {known}"
            languages[known] += count
            if reason := problem.get("not_supported") or reason:
                not_supported[str(reason)] += count


def _kinds(group: Any) -> Counter[tuple[Any, Any]]:
    """(language, why it can't be judged) -> how many solutions of a group; those that tell no language are left out."""
    if isinstance(group, Mapping):
        column = group.get("language")
        pairs: Iterable[tuple[Any, Any]] = () if column is None else ((name, None) for name in column)
    else:
        items = (item for item in (() if group is None else group) if isinstance(item, Mapping))
        pairs = ((item["language"], item.get("not_supported")) for item in items if "language" in item)
    return Counter((name, reason) for name, reason in pairs if isinstance(name, (str, int)))


def _files_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _JSONL + _PARQUET)


def _rows_of_folder(folder: Path) -> Iterator[tuple[str, Any]]:
    """Packages, each named by its path below the folder; or else the rows of all files in it."""
    found = False
    for package in find_packages(folder):
        found = True
        name = package.resolve().name if package == folder else package.relative_to(folder).as_posix()
        try:
            row = read_package(package, name)
        except (ValueError, OSError) as e:
            raise SampleError(f"{package}: {e}.", sample_id=name) from None
        yield str(package), row
    if not found:
        for file in _files_in(folder):
            yield from _rows_of_file(file)


def _rows_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    return _rows_of_parquet(path) if path.suffix in _PARQUET else _lines(path)


def _rows_of_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise InputError('read_problems: Parquet files need pyarrow: pip install "nbrun[arrow]".') from e
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield f"{path}: row {number}", row
                    number += 1
    except pyarrow.ArrowInvalid as e:
        raise SampleError(f"{path}: no Parquet file: {e}", position=number) from None


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as e:
                raise SampleError(f"{where}: not a line of JSON: {e}.", position=number - 1) from None
