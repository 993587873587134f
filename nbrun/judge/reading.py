"""Reads problems from files, folders of packages or mappings, one at a time.

One thread, the one that feeds a run, iterates over them; each iteration opens the files again. Nothing is written.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from nbrun.errors import InputError, NotSupportedError, SampleError
from nbrun.judge.kattis_package import ARCHIVES, extracted, find_packages, read_package
from nbrun.judge.languages import DEFAULT_LANGUAGES, lookup
from nbrun.judge.problems import Adapter, Read, no_solutions, own_id, read_row
from nbrun.judge.problems.shapes import TEST_SETS, possible_shapes, shape_of
from nbrun.judge.problems.solutions import by_problem
from nbrun.judge.problems.values import plain
from nbrun.samples import language_of_number, read_items

_JSONL = (".jsonl", ".ndjson", ".jsonlines")
_JSON = (".json",)
_PARQUET = (".parquet", ".pq")
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
#: Suffix of a file that isn't read -> how a user reads it into something that is.
_OTHER_FILES = {
    **dict.fromkeys((".csv", ".tsv"), "pandas.read_csv(…)"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "pyarrow.feather.read_table(…) or datasets.Dataset.from_file(…)"),
    **dict.fromkeys((".xlsx", ".xls"), "pandas.read_excel(…)"),
    **dict.fromkeys((".pkl", ".pickle"), "pandas.read_pickle(…), if you trust the file"),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), "an archiver, and give the folder"),
}
_ROWS_AT_ONCE = 8  # of Parquet and Arrow: a problem's tests may take many megabytes
_READ_BYTES = 1 << 18  # how much of a column of Parquet is read at once
#: The languages for which tests that call functions or run test code are supported.
IN_PYTHON_3 = frozenset({"PYTHON3", "PYPY3"})
_SHOWN = 5  # how many reasons a repr and an error list
ON_BAD = ("raise", "skip")


#: A function that returns why a judge can't judge any solution of a problem, or None if it can.
Refusal = Callable[[Mapping[str, object]], str | None]


class _Row(NamedTuple):
    """One row of a source.

    Attributes:
        where: its place, for messages.
        error: why it can't be read; empty if it can.
        name: the id that its place gives it (a package's path, a DataFrame's index), used if it has none of its own.
        position: how many rows of its source come before it.
    """

    where: str
    row: Any
    error: str = ""
    name: Any = None
    position: int = 0

    def bad(self, why: object, name: object = None) -> SampleError:
        """Return the error of a row that can't be judged, with the name of its problem if that is known."""
        if name is None:
            return SampleError(f"{self.where}: {why}", position=self.position, sample_id=self.name)
        return SampleError(f"{self.where} (problem {name!r}): {why}", position=self.position, sample_id=str(name))


class Problems:
    """Problems in one shape (see `nbrun.judge.problems`), read lazily. It can be iterated any number of times.

    Attributes:
        languages: language -> the number of solutions in it that the last iteration read.
        not_supported: reason -> the number of solutions that the last iteration read and LocalSandbox can't judge,
            because it doesn't know their language or the kind of their problem. They are yielded nevertheless, and
            end as errors that give the reason. With `on_bad="skip"` it also counts each row that was left out.
        made_ids: how many rows had no id and got one from a digest of their statement and tests.

    Threads: iterators are independent of each other; each belongs to one thread.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Iterable[Mapping[str, object]],
        tests: Sequence[str],
        limit: int | None,
        keep: Sequence[str],
        adapter: Adapter | None = None,
        on_bad: str = "raise",
        submissions: Problems | None = None,
    ) -> None:
        self._source, self._tests, self._limit, self._keep = source, tuple(tests), limit, tuple(keep)
        self._adapter, self._on_bad, self._submissions = adapter, on_bad, submissions
        self._spent = self._has_warned = False
        self.languages: Counter[str] = Counter()
        self.not_supported: Counter[str] = Counter()
        self.made_ids = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.islice(self._problems(), self._limit)

    def judged_by(self, judge: object) -> Iterable[dict[str, Any]]:
        """Return the same problems for a run with this judge; a problem that it refuses counts as a bad row.

        `nbrun.start` calls this, so that such problems are reported before their tasks run. The judge's method
        `refusal(problem)` returns why it refuses a problem, or None.
        """
        return _Judged(self, getattr(judge, "refusal", None))

    def __repr__(self) -> str:
        source = f"<{type(self._source).__name__}>" if self._path is None else repr(self._path)
        limit = "" if self._limit is None else f", limit={self._limit}"
        text = f"read_problems({source}, tests={self._tests!r}{limit})"
        if self.made_ids:
            text += f"; {self.made_ids} rows without an id got one from a digest"
        if reasons := [f"{n} × {what}" for what, n in self.not_supported.most_common()]:
            more = f" and {len(reasons) - _SHOWN} more reasons" if len(reasons) > _SHOWN else ""
            text += f"; not supported: {', '.join(reasons[:_SHOWN])}{more}"
        return text

    @property
    def _path(self) -> str | None:
        return os.fspath(self._source) if isinstance(self._source, (str, os.PathLike)) else None

    def _problems(self, refusal: Refusal | None = None) -> Iterator[dict[str, object]]:
        tally = _Tally()
        self.languages, self.not_supported, self.made_ids = tally.languages, tally.not_supported, 0
        if isinstance(self._source, (list, tuple)) and self._on_bad == "raise":
            self._check_all(refusal)
        submissions = _Submissions(self._submissions)
        has_solutions = False  # whether any row so far has a column of solutions
        for row in self._numbered_rows():
            try:
                problem = self._read(row, refusal, may_be_empty=has_solutions)
            except SampleError as e:
                if self._on_bad == "raise":
                    raise
                tally.not_supported[str(e)] += 1
                continue
            if problem is not None:
                has_solutions = has_solutions or no_solutions(problem) is None
                submissions.add_to(problem, row.row)
                tally.add(problem)
                yield problem
        submissions.check()

    def _check_all(self, refusal: Refusal | None) -> None:
        """Raise SampleError if any row of a list is bad; called before the first problem is yielded."""
        errors: list[SampleError] = []
        for row in itertools.islice(self._numbered_rows(), self._limit):
            try:
                self._read(row, refusal)
            except SampleError as e:
                errors.append(e)
        self.made_ids = 0
        if errors:
            raise _error_of(errors)

    def _read(self, found: _Row, refusal: Refusal | None, may_be_empty: bool = False) -> dict[str, object] | None:
        """Return the problem of a row; None if the adapter leaves the row out.

        Args:
            may_be_empty: whether a row without any column of solutions is a problem without tasks, not a bad row.
        """
        read = self._converted(found)
        if read is None:
            return None
        problem = read.problem
        if not read.has_own_id:
            self._name_problem(problem, found)
        if self._submissions is not None:
            problem.setdefault("solutions", [])
        if refusal is not None:
            self._check_judgeable(problem, found, refusal, may_be_empty)
        return problem

    def _check_judgeable(self, problem: dict[str, object], found: _Row, refusal: Refusal, may_be_empty: bool) -> None:
        """Raise SampleError if a judge refuses a problem."""
        # Columns that the user keeps may be groups of solutions under other names.
        own_groups = any(isinstance(problem.get(name), (list, Mapping)) for name in self._keep)
        if (may_be_empty or own_groups) and no_solutions(problem):
            problem["solutions"] = []
        if why := refusal(problem):
            raise found.bad(why, str(problem["id"]))

    def _converted(self, found: _Row) -> Read | None:
        """Return a row in the one shape; None if the adapter leaves it out."""
        row = found.row
        if found.error:
            raise found.bad(f"{found.error}.")
        if not isinstance(row, Mapping):
            raise found.bad(f"a {type(row).__name__}, not a problem as a mapping.")
        try:
            if self._adapter is not None and (row := _adapted(self._adapter, row)) is None:
                return None
            return read_row(row, self._tests, self._keep)
        except ValueError as e:
            raise found.bad(f"{e}.", own_id(row)) from e.__cause__

    def _name_problem(self, problem: dict[str, object], found: _Row) -> None:
        """Give a problem without an id of its own the name of its place; otherwise count the id that was made for it.

        The first made id is reported by a warning.
        """
        if found.name is not None:
            is_path = isinstance(found.name, tuple)  # of a frame whose index has several levels
            problem["id"] = "/".join(map(str, found.name)) if is_path else found.name
            return
        self.made_ids += 1
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"read_problems: {found.where} has no id (in {', '.join(map(repr, list(found.row)[:12]))}). It is "
                f"called {problem['id']!r}, by a digest of its statement and tests; so are others without one.",
                stacklevel=2,
            )

    def _numbered_rows(self) -> Iterator[_Row]:
        return (row._replace(position=position) for position, row in enumerate(self._rows()))

    def _rows(self) -> Iterator[_Row]:
        path = self._path
        if path is not None:
            return self._rows_of_folder(Path(path)) if os.path.isdir(path) else self._rows_of_file(Path(path))
        if hasattr(self._source, "itertuples"):  # a DataFrame
            return _rows_of_frame(self._source)
        return (_Row(f"row {i}", row) for i, row in enumerate(self._mappings(self._source)))

    def _mappings(self, source: Any) -> Iterable[Any]:
        """Return the rows of anything that isn't a path or a DataFrame of pandas."""
        if isinstance(source, Iterator):  # a generator gives its rows once, and a reader of pyarrow its batches
            self._spend()
        read = next((read for signs, read in _SOURCES.items() if all(map(partial(hasattr, source), signs))), None)
        return source if read is None else read(self, source)

    def _with_known_columns(self, dataset: Any) -> Any:
        """Return a `datasets.Dataset` that decodes only the columns that are read, as plain values."""
        names = getattr(dataset, "column_names", None)
        columns = self._columns(names) if isinstance(names, list) else None
        dataset = dataset if columns is None else dataset.select_columns(columns)
        return dataset.with_format(None) if hasattr(dataset, "with_format") else dataset

    def _spend(self) -> None:
        """Raise InputError if a source that gives its rows once was read already."""
        if self._spent:
            raise InputError(f"{self!r}: the generator was read already. Make a new one, or give a list or a file.")
        self._spent = True

    def _columns(self, names: Sequence[str]) -> list[str] | None:
        """Return which of these columns to read; None for all."""
        shapes = possible_shapes(tuple(names))
        if self._adapter is not None or not shapes:
            return None
        wanted = {*self._tests, *self._keep}.union(*(shape.all_columns for shape in shapes))
        return [name for name in names if name in wanted]

    def _rows_of_folder(self, folder: Path) -> Iterator[_Row]:
        """Yield the packages in a folder, named by their paths below it; without any, the rows of all files in it."""
        found = False
        for package in find_packages(folder, with_archives=True):
            for row in _rows_of_package_in(folder, package):
                found = found or package.is_dir() or not row.error
                yield row
        if not found:
            for file in _files_in(folder):
                yield from self._rows_of_file(file)

    def _rows_of_file(self, path: Path) -> Iterator[_Row]:
        suffix = _suffix(path)
        if suffix in ARCHIVES:
            return _rows_of_archive(path, path.stem)
        if suffix in _PARQUET:
            return self._rows_of_parquet(path)
        return _rows_of_json(path) if suffix in _JSON else _lines(path)

    def _rows_of_parquet(self, path: Path) -> Iterator[_Row]:
        try:
            import pyarrow.parquet
        except ImportError as e:
            raise InputError('read_problems: Parquet files need pyarrow: pip install "nbrun[arrow]".') from e
        number = 0
        try:
            # Small buffers, few rows at once and no threads: what is decoded then stays in the CPU's cache until it has
            # become Python objects, which halves the time. Reading whole row groups first costs more than it saves.
            with pyarrow.parquet.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False) as file:
                columns = self._columns(file.schema_arrow.names)
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False):
                    for row in batch.to_pylist():
                        yield _Row(f"{path}: row {number}", row)
                        number += 1
        except (pyarrow.ArrowException, OSError) as e:
            yield _Row(f"{path}: row {number}", None, f"the Parquet file can't be read from here on: {e}")


class _Judged:
    """Problems for one judge. It can be iterated any number of times."""

    def __init__(self, problems: Problems, refusal: Refusal | None) -> None:
        self._problems, self._refusal = problems, refusal

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return itertools.islice(self._problems._problems(self._refusal), self._problems._limit)

    def __repr__(self) -> str:
        return repr(self._problems)


def read_problems(
    source: str | os.PathLike[str] | Iterable[Mapping[str, object]],
    *,
    tests: Sequence[str] = TEST_SETS,
    limit: int | None = None,
    keep: Sequence[str] = (),
    adapter: Adapter | None = None,
    on_bad: str = "raise",
    submissions: str | os.PathLike[str] | Iterable[Mapping[str, object]] | None = None,
) -> Problems:
    """Read problems with their solutions, tests and limits, as samples for `nbrun.start`.

    It recognises rows in the published shapes of CodeContests, CodeContests+ and -O, Open R1's Codeforces and IOI,
    LiveCodeBench, APPS, TACO, xCodeEval, rStar-Coder, DeepCoder, SYNTHETIC-1, Eurus-2, verl, Skywork-OR1, HumanEval,
    EvalPlus, BigCodeBench, KodCode, MBPP, OpenCoder and SandboxFusion, and nbrun's own. `nbrun/docs/datasets.md`
    describes what is read of each.

    Args:
        source: one of these: a JSONL file with a problem on each line (also .gz, .zst, .bz2 and .xz); a JSON file with
            a list of problems; a Parquet file (`pip install "nbrun[arrow]"`); a Kattis or ICPC problem package as a
            folder or as a ZIP file (.zip, .kpp); a folder of such packages or of such files; or rows as mappings: a
            list, a generator, a `datasets.Dataset`, a DataFrame, a table of pyarrow, or a single mapping.
        tests: the sets of tests to take, in this order. Rows that keep all tests in `tests` or `test` don't need it.
            Packages have their samples in `public_tests` and their secret data in `private_tests`.
        limit: read at most this many problems.
        keep: further columns to copy into the samples.
        adapter: for rows in a shape of your own: a function that takes a row and returns it in any known shape, such as
            `{"id", "tests": [{"input", "output"}, …], "solutions": [{"language", "solution"}, …]}`, or None to leave it
            out.
        on_bad: what to do with a row that can't be judged: it has no tests, its shape isn't known, or a field can't be
            read. "raise" raises SampleError; the rows of a list are all checked before the first problem is yielded.
            "skip" leaves such rows out and counts them in `not_supported` of the returned object.
        submissions: for data sets that keep submissions as rows of their own (open-r1/codeforces-submissions): those
            rows, from a source of any kind above. Each has `problem_id`, `source` (or `code`), `programmingLanguage`
            (or `language`) and `verdict` (or `status`), and is added to its problem's solutions or incorrect solutions.
            All of them are held in memory, so filter a large data set first.

    Raises:
        InputError: the file doesn't exist, or an argument is wrong.
        SampleError: (during iteration) a row is not a problem; the message names file, line and column.

    Example:
        >>> rows = [{"id": "p1", "solutions": ["print(1)"], "public_tests": {"input": [""], "output": ["1"]}}]
        >>> [problem["tests"] for problem in read_problems(rows)]
        [[{'input': '', 'output': '1'}]]
    """
    _check_arguments(tests, limit, keep, adapter, on_bad)
    _check_source(source)
    rows = [source] if isinstance(source, Mapping) else source
    others = None if submissions is None else read_problems(submissions)
    return Problems(rows, tests, limit, keep, adapter, on_bad, others)


def _check_arguments(
    tests: Sequence[str], limit: int | None, keep: Sequence[str], adapter: object, on_bad: str
) -> None:
    """Raise InputError for an argument of `read_problems` other than a source."""
    if isinstance(tests, str) or isinstance(keep, str):
        raise InputError("read_problems: tests= and keep= are lists of names, such as tests=['public_tests'].")
    if limit is not None and limit < 0:
        raise InputError(f"read_problems: limit={limit}; give how many problems to read, or None for all.")
    if on_bad not in ON_BAD:
        raise InputError(f"read_problems: on_bad={on_bad!r}; give one of {', '.join(map(repr, ON_BAD))}.")
    if adapter is not None and not callable(adapter):
        raise InputError(f"read_problems: adapter= is a {type(adapter).__name__}; give a function: row -> row.")


def _check_source(source: Any) -> None:
    """Raise InputError if a source can't be read, with the way to get one that can."""
    if isinstance(source, (str, os.PathLike)):
        _check_path(Path(source))
    elif isinstance(source, Mapping):
        _check_is_row(source)
    elif not isinstance(source, Iterable):
        _check_is_table(source)


def _check_is_row(source: Mapping[object, object]) -> None:
    if source and all(hasattr(part, "column_names") for part in source.values()):
        splits = ", ".join(map(repr, source))
        raise InputError(f"read_problems: a dataset of several splits; give one of them: dataset[…] of {splits}.")


def _check_is_table(source: object) -> None:
    if hasattr(source, "collect"):  # a LazyFrame of polars
        raise InputError(f"read_problems: a {type(source).__name__} has no rows yet; give source.collect().")
    if not hasattr(source, "schema"):
        raise InputError(f"read_problems: a {type(source).__name__}; give a path of JSONL, or rows as mappings.")


def _check_path(path: Path) -> None:
    """Raise InputError if a path leads to no rows."""
    if path.is_dir():
        _check_folder(path)
    elif not path.is_file():
        raise InputError(f"read_problems: there is no file {str(path)!r} (in {os.getcwd()!r}).")
    elif how := _OTHER_FILES.get(path.suffix.lower()):
        raise InputError(f"read_problems: {path.suffix} files aren't read, such as {str(path)!r}. Read it with {how}.")


def _check_folder(folder: Path) -> None:
    if any((folder / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
        load = f"datasets.load_from_disk({str(folder)!r})"
        raise InputError(f"read_problems: this folder was made by save_to_disk: give {load}, or a split of it.")
    if next(find_packages(folder, with_archives=True), None) is None and not _files_in(folder):
        raise InputError(
            f"read_problems: the folder {str(folder)!r} holds no problem package (a folder with problem.yaml, or "
            "such a folder as .zip or .kpp), "
            f"and no {', '.join(_JSONL[:1] + _PARQUET[:1] + _JSON)} (also with {' or '.join(_COMPRESSED)})."
        )


class _Tally:
    """Counts solutions by language, and by reason those that can't be judged. It belongs to one iteration."""

    def __init__(self) -> None:
        self.languages: Counter[str] = Counter()
        self.not_supported: Counter[str] = Counter()
        self._language_of = cache(_language_of)

    def add(self, problem: Mapping[str, Any]) -> None:
        """Count a problem's solutions."""
        harness = str((problem.get("harness") or {}).get("type", "")).replace("_", " ")
        kinds = _kinds(problem.get("solutions")) + _kinds(problem.get("incorrect_solutions"))
        for (name, reason), count in kinds.items():
            language, why = self._language_of(name, harness)
            self.languages[language] += count
            if reason := problem.get("not_supported") or reason or why:
                self.not_supported[str(reason)] += count


def _language_of(name: str | int, harness: str) -> tuple[str, str | None]:
    """Return the language that a name means, and why LocalSandbox can't judge solutions in it; None if it can."""
    try:
        known, row = lookup(name, DEFAULT_LANGUAGES)
        is_missing = bool(row.missing)
    except NotSupportedError:
        known, is_missing = language_of_number(name) if isinstance(name, int) else name, True
    if is_missing:
        return known, f"language {known}"
    if harness and known not in IN_PYTHON_3:
        return known, f"{harness} tests of solutions in {known}"
    return known, None


def _kinds(group: Any) -> Counter[tuple[Any, object]]:
    """Return (language, why it can't be judged) -> the number of such solutions in a group.

    Solutions without a language are left out.
    """
    kinds: list[tuple[object, object]]
    if isinstance(group, Mapping):
        kinds = [(name, None) for name in plain(group.get("language")) or ()]
    else:
        kinds = [(item.get("language"), item.get("not_supported")) for item in group or () if isinstance(item, Mapping)]
    return Counter(kind for kind in kinds if isinstance(kind[0], (str, int)))


class _Submissions:
    """Submissions in rows of their own, by problem. They are read once, and belong to one iteration over the problems.

    Raises:
        SampleError: a row isn't a submission.
    """

    def __init__(self, source: Problems | None) -> None:
        try:
            self._of = {} if source is None else by_problem(found.row for found in source._rows())
        except ValueError as e:
            raise SampleError(f"read_problems: {e}.") from None
        self._unjoined: list[str] = []  # the ids of the first problems, until a submission belongs to one of them
        self._are_joined = not self._of

    def add_to(self, problem: dict[str, object], row: Mapping[str, object]) -> None:
        """Add a problem's submissions to its groups of solutions.

        A problem of Codeforces that is in two contests has its other ids in `aliases`.
        """
        aliases = plain(row.get("aliases"))
        ids = map(str, [problem["id"], *(aliases if isinstance(aliases, list) else [])])
        for name in filter(self._of.__contains__, dict.fromkeys(ids)):
            self._are_joined = True
            for group, items in self._of[name].items():
                problem[group] = [*read_items(problem.get(group))[0], *items]
        if not self._are_joined:
            self._unjoined.append(str(problem["id"]))

    def check(self) -> None:
        """Raise SampleError if no submission belonged to any problem."""
        if self._unjoined and not self._are_joined:
            of, called = (", ".join(map(repr, list(names)[:_SHOWN])) for names in (self._of, self._unjoined))
            raise SampleError(
                f"read_problems: no submission is of a problem that was read: submissions are of {of}, problems are "
                f"called {called}. Change the ids by adapter=."
            )


def _error_of(errors: Sequence[SampleError]) -> SampleError:
    """Return one error for all bad rows of a list."""
    if len(errors) == 1:
        return errors[0]
    shown = "\n".join(f"  {e}" for e in errors[:_SHOWN])
    more = f"\n  and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return SampleError(
        f'{len(errors)} rows can\'t be judged; on_bad="skip" leaves them out:\n{shown}{more}',
        position=errors[0].position,
        sample_id=errors[0].sample_id,
    )


def _adapted(adapter: Adapter, row: Mapping[str, object]) -> Mapping[str, object] | None:
    try:
        found = adapter(row)
    except Exception as e:  # anything that the user's function raises is reported for its row
        raise ValueError(f"the adapter raised {type(e).__name__}: {e}") from e
    if found is not None and not isinstance(found, Mapping):
        raise ValueError(f"the adapter returned a {type(found).__name__}, not a row as a mapping, or None")
    return found


def _suffix(path: Path) -> str:
    """Return the suffix that gives a file's format, without `.gz` or `.zst`, in lower case."""
    suffixes = path.suffixes
    return (suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _COMPRESSED else path.suffix).lower()


def _files_in(folder: Path) -> list[Path]:
    """Return the files with rows in a folder and its subfolders; JSON files only if there are no others."""
    paths = sorted(folder.rglob("*"), key=lambda path: (path.parent, path.name))
    shown = [path for path in paths if not _is_hidden(path.relative_to(folder)) and path.is_file()]

    def of(suffixes: tuple[str, ...]) -> list[Path]:
        return [path for path in shown if _suffix(path) in suffixes]

    return of(_JSONL + _PARQUET) or of(_JSON)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _opened(path: Path) -> IO[bytes]:
    """Open a file, decompressed if it is compressed, whatever its name."""
    with open(path, "rb") as file:
        begin = file.read(6)
    return next((opener for magic, opener in _OPENERS.items() if begin.startswith(magic)), open)(path, "rb")


def _open_zstd(path: Path, mode: str) -> IO[bytes]:
    try:
        import pyarrow
    except ImportError as e:
        raise InputError('read_problems: .zst files need pyarrow: pip install "nbrun[arrow]".') from e
    return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), 1 << 20)


#: How a compressed file begins -> what opens it.
_OPENERS: Mapping[bytes, Callable[[Path, str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}


def _rows_of_package_in(folder: Path, package: Path) -> Iterator[_Row]:
    """Yield the rows of a package, or of an archive with packages, in a folder."""
    name = package.relative_to(folder).as_posix()
    if not package.is_dir():
        return _rows_of_archive(package, name.removesuffix(package.suffix), is_inside=True)
    return iter([_row_of_package(package, package.resolve().name if package == folder else name)])


def _row_of_package(folder: Path, name: str, where: str = "") -> _Row:
    """Return the row of a package, or the reason why it can't be read."""
    where = where or str(folder)
    try:
        return _Row(where, read_package(folder, name))
    except (ValueError, OSError) as e:
        return _Row(where, None, str(e), name)


def _rows_of_archive(path: Path, name: str, is_inside: bool = False) -> Iterator[_Row]:
    """Yield the packages in a ZIP file.

    Args:
        name: the id of the package if the file holds only one. Several are named by their paths in the file.
        is_inside: whether `name` comes before these paths, since the folder with this file may hold others.
    """
    try:
        with extracted(path) as folder:
            packages = list(find_packages(folder))
            if not packages:
                yield _Row(str(path), None, "it holds no problem package (a folder with problem.yaml)", name)
            for package in packages:
                within = package.relative_to(folder).as_posix()
                several = f"{name}/{within}" if is_inside else within
                yield _row_of_package(package, name if len(packages) == 1 else several, f"{path}/{within}")
    except ValueError as e:
        yield _Row(str(path), None, str(e), name)


def _rows_of_frame(frame: Any) -> Iterator[_Row]:
    """Yield the rows of a DataFrame. Its index gives the ids of rows without one, unless it is a RangeIndex."""
    names = list(frame.columns)
    counts = type(frame.index).__name__ == "RangeIndex"
    for i, (key, *values) in enumerate(frame.itertuples(index=True, name=None)):
        yield _Row(f"row {i}", dict(zip(names, values, strict=True)), name=None if counts else key)


def _rows_of_json(path: Path) -> Iterator[_Row]:
    """Yield the rows of a JSON file: a list of rows, a single row, or JSON lines despite its suffix."""
    with _opened(path) as file:
        data = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        if b"\n" not in data.strip():
            yield _Row(str(path), None, f"not a file of JSON: {e}")
        else:
            yield from _lines(path)
        return
    yield from _rows_of_value(value, str(path))


def _rows_of_value(value: Any, where: str) -> list[_Row]:
    """Return the rows in a value of JSON: a list of rows, or a single one.

    Some files have a list of rows beside other things, or a mapping of ids to rows.
    """
    if isinstance(value, dict) and shape_of(value) is None:
        tables = [*filter(_are_rows, value.values())]
        if len(tables) == 1:
            value = tables[0]  # {"version": 1, "data": [row, …]}
        elif not tables and _are_rows([*value.values()]):
            return [_Row(f"{where}: {name!r}", row, name=name) for name, row in value.items()]
    rows = value if isinstance(value, list) else [value]
    return [_Row(f"{where}: row {i}", row) for i, row in enumerate(rows)]


def _are_rows(value: object) -> bool:
    """Return whether a value is a list of rows, of which the first has a known shape."""
    match value:
        case [dict(begin), *_]:
            return shape_of(begin) is not None
    return False


def _rows_in(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the rows of record batches of pyarrow as mappings, converting few at once."""
    for batch in batches:
        for begin in range(0, batch.num_rows, _ROWS_AT_ONCE):
            yield from batch.slice(begin, _ROWS_AT_ONCE).to_pylist()


def _rows_of_dataset(problems: Problems, dataset: Any) -> Iterator[Any]:
    """Yield the rows of a dataset of pyarrow, which reads only selected columns."""
    columns = problems._columns(dataset.schema.names)
    return _rows_in(dataset.to_batches(columns=columns, batch_size=_ROWS_AT_ONCE))


#: Attributes by which a source of rows is recognised, of whatever library -> what returns its rows.
_SOURCES: dict[tuple[str, ...], Callable[[Problems, Any], Iterable[Any]]] = {
    ("read_next_batch",): lambda problems, reader: _rows_in(reader),  # pyarrow
    ("get_fragments",): _rows_of_dataset,
    ("to_batches",): lambda problems, table: _rows_in(table.to_batches()),
    ("to_pylist", "schema"): lambda problems, batch: _rows_in([batch]),
    ("iter_rows", "with_columns"): lambda problems, frame: frame.iter_rows(named=True),  # polars
    ("select_columns",): lambda problems, dataset: problems._with_known_columns(dataset),  # datasets
}


def _lines(path: Path) -> Iterator[_Row]:
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(iter(file.readline, b""), 1):
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    yield _Row(str(path), None, "its text is UTF-16, and JSON lines are UTF-8: convert the file")
                    return
                where = f"{path}:{number}"
                try:
                    if line := line.removeprefix(b"\xef\xbb\xbf").strip():  # a byte order mark
                        yield _Row(where, json.loads(line))
                except (ValueError, RecursionError) as e:
                    yield _Row(where, None, f"not a line of JSON: {e}")
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as e:
        yield _Row(f"{path}:{number + 1}", None, f"the file can't be read from here on: {e}")
