"""Reads problems from a JSONL file or from mappings, one at a time.

Iterated by one thread, the one that feeds a run; each iteration opens the file anew. Nothing is written.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nbrun.errors import InputError, SampleError
from nbrun.judge.problems import TEST_SETS, normalise


class Problems:
    """Problems in one shape (see `nbrun.judge.problems`), read lazily; it may be iterated again and again.

    Threads: iterators are independent of each other; each belongs to one thread.
    """

    def __init__(
        self, source: str | os.PathLike[str] | Iterable[Mapping[str, Any]], tests: Sequence[str], limit: int | None,
        keep: Sequence[str],
    ) -> None:  # fmt: skip
        self._source, self._tests, self._limit, self._keep = source, tuple(tests), limit, tuple(keep)
        self._spent = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.islice(self._problems(), self._limit)

    def __repr__(self) -> str:
        path = self._path
        source = repr(path) if path is not None else f"<{type(self._source).__name__}>"
        limit = "" if self._limit is None else f", limit={self._limit}"
        return f"read_problems({source}, tests={self._tests!r}{limit})"

    @property
    def _path(self) -> str | None:
        return os.fspath(self._source) if isinstance(self._source, (str, os.PathLike)) else None

    def _problems(self) -> Iterator[dict[str, Any]]:
        for position, (where, row) in enumerate(self._rows()):
            if not isinstance(row, Mapping):
                raise SampleError(f"{where}: a {type(row).__name__}, not a problem as a mapping.", position=position)
            try:
                yield normalise(row, self._tests, self._keep)
            except ValueError as e:
                name = row.get("id") or row.get("name")
                known = "" if name is None else f" (problem {name!r})"
                sample_id = None if name is None else str(name)
                raise SampleError(f"{where}{known}: {e}.", position=position, sample_id=sample_id) from None

    def _rows(self) -> Iterator[tuple[str, Any]]:
        path = self._path
        if path is not None:
            return _lines(path)
        rows: Any = self._source
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
        source: the path of a JSONL file (a problem a line), or rows as mappings. CodeContests' columns are understood,
            and those named in `nbrun.judge.problems`.
        tests: which sets of tests to take, in this order. Rows that keep all tests under `tests` or `test` need none.
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
        if not os.path.isfile(source):
            raise InputError(f"read_problems: there is no file {os.fspath(source)!r} (in {os.getcwd()!r}).")
    elif isinstance(source, Mapping):
        source = [source]
    elif not isinstance(source, Iterable):
        raise InputError(f"read_problems: a {type(source).__name__}; give a path of JSONL, or rows as mappings.")
    return Problems(source, tests, limit, keep)


def _lines(path: str) -> Iterator[tuple[str, Any]]:
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
