"""The arguments of start(), checked before anything is written, and what a run makes of them.

`samples` is checked by sample_source.py, and what determines results by settings.py.

Threads: everything here is called by the thread that starts a run, or starts it again, except for what `_observer`
returns: workers call that for one result at a time, and the tracker's lock protects the sums.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat, SupportsIndex, cast

from nbrun.engine import Scheduler, TaskSource, ThreadPool, WorkerPool
from nbrun.errors import InputError
from nbrun.model import EncodedResult, ResultSink, RetryPolicy, SampleTasks
from nbrun.output import RunOutput, assign
from nbrun.panel import choose_view
from nbrun.progress import ProgressTracker
from nbrun.results.format import INTEGER_IDS, TEXT_IDS
from nbrun.results.sample_file import Identity
from nbrun.results.values import load
from nbrun.samples import SampleReader
from nbrun.session.sample_source import Samples
from nbrun.session.settings import Settings, changed_values, is_async
from nbrun.storage.directory import check_writable
from nbrun.storage.entry import RemoteEncoder
from nbrun.storage.lock import host_name
from nbrun.storage.store import ResultStore
from nbrun.texts import id_text
from nbrun.version import __version__

if TYPE_CHECKING:
    from nbrun.engine.executor_pool import ExecutorBackend

# ---- arguments with a plain value


def read_path(results: object) -> Path:
    """Return the absolute path of the results directory.

    Raises:
        InputError: `results` is no path, or nothing can be written there.
    """
    path = as_path(results)
    if path is None:
        raise InputError(f"results={results!r}: give the path of a folder.")
    check_writable(path)
    return path


def as_path(value: object) -> Path | None:
    """Return the absolute path that a value names; None if it can't name one."""
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        return None
    return Path(os.path.abspath(os.path.expanduser(value)))


def read_workers(workers: object) -> int:
    """Return `workers=` as an int. Raise an InputError if it is not a whole number of at least 1."""
    if isinstance(workers, bool) or not isinstance(workers, SupportsIndex) or workers.__index__() < 1:
        raise InputError(f"workers={workers!r}: give a whole number of at least 1.")
    return workers.__index__()


def read_positive(name: str, value: object) -> float | None:
    """Return `timeout_s=` or `max_per_s=` as a float, or None. Raise an InputError if it is not above 0."""
    if value is None:
        return None
    is_number = isinstance(value, (SupportsFloat, SupportsIndex)) and not isinstance(value, bool)
    number = _number(value) if is_number else None
    if number is None or number <= 0:
        raise InputError(f"{name}={value!r}: give a number above 0, or None for no limit.")
    return number


def _number(value: object) -> float | None:
    """Return a finite number as a float, else None. True and False count as 1 and 0, so that a mean is a share."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def check_plain(*, keep_items: object, replace: object, if_exists: object, retry: object, view: object) -> None:
    """Raise an InputError if one of these arguments is none of its values."""
    for name, flag in (("keep_items", keep_items), ("replace", replace)):
        if not isinstance(flag, bool):
            raise InputError(f"{name}={flag!r}: give True or False.")
    if if_exists not in ("resume", "error"):
        raise InputError(f'if_exists={if_exists!r}: give "resume" or "error"; nothing ever overwrites.')
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise InputError(f"retry={retry!r}: give a nbrun.RetryPolicy, or None for one attempt.")
    check_view(view)


def check_view(view: object) -> None:
    """Raise an InputError if `view=` is none of its values."""
    if view not in (views := ("auto", "panel", "console", None)):
        raise InputError(f"view={view!r}: give one of {', '.join(map(repr, views))}.")


def check_executor(executor: object, fn: object) -> None:
    """Raise an InputError if there is an executor for an async function."""
    if executor is not None and is_async(fn):
        raise InputError("fn is an async function, which runs in an event loop of its own: leave executor= out.")


def check_digested(name: str, fn: object, of: str) -> None:
    """Raise an InputError if `key=` or `context=` is no function."""
    if fn is None or callable(fn):
        return
    example = f", such as {name}=lambda {of}: {of}[{fn!r}]" if isinstance(fn, str) else ""
    raise InputError(f"{name}={fn!r}: give a function of the {of}{example}.")


# ---- groups


def read_groups(groups: object) -> list[str] | dict[str, str] | None:
    """Return `groups=`: names, or a mapping of a group's name to the sample's key that holds its items.

    Raises:
        InputError: it is something else.
    """
    if groups is None:
        return None
    if isinstance(groups, str):
        raise InputError(f"groups={groups!r} is text; give a list of names, such as groups=[{groups!r}].")
    if not isinstance(groups, Iterable):
        raise InputError(f"groups is a {type(groups).__name__}; give a list of names or a mapping name -> key.")
    otherwise = "is no name; give a list of texts, or a mapping name -> key."
    found = _named_keys(groups) if isinstance(groups, Mapping) else _names("groups", groups, otherwise)
    if not found:
        raise InputError("groups is empty: name at least one group, or leave it out.")
    return found


def _named_keys(groups: Mapping[Any, Any]) -> dict[str, str]:
    for name, key in groups.items():
        if not (_is_name(name) and _is_name(key)):
            raise InputError(f"groups: {name!r} -> {key!r} must both be text.")
    return dict(groups)


def _names(argument: str, values: Iterable[Any], otherwise: str) -> list[str]:
    """Return the values, which are names. Raise an InputError for one that isn't, with `otherwise` as its end."""
    names = list(values)
    for name in names:
        if not _is_name(name):
            raise InputError(f"{argument}: {name!r} {otherwise}")
    return names


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


# ---- redo

NEEDED = ("sample_id", "group", "key", "occurrence")
CHANGED, ERRORS, ALL = "changed", "errors", "all"
HOW = 'give ids of samples, a filtered load_results frame, "changed", "errors" or "all"'


@dataclass(frozen=True)
class Redo:
    """The results that run again.

    Attributes:
        word: "changed", "errors", "all", or "" where single results or samples are named.
        ids: samples that run again as a whole.
        results: sample id -> identity -> run_id of the result to be replaced (None: whatever is saved there).
    """

    word: str = ""
    ids: frozenset[str] = frozenset()
    results: Mapping[str, Mapping[Identity, str | None]] = field(default_factory=dict)

    def runs_again(self, sample_id: str, is_current: Callable[[str, str], bool]) -> Callable[[str, str], bool] | None:
        """Return a test of a saved result's run_id and context that is True for results to keep; None if all are kept.

        Args:
            is_current: whether a result was made under this run's settings, of the sample as it is now.
        """
        if self.word == ALL or sample_id in self.ids:
            return lambda run_id, context: False
        return is_current if self.word == CHANGED else None

    def unknown(self, seen: Iterable[str]) -> list[str]:
        """Return the ids that were asked for and that no sample has, sorted."""
        return sorted({*self.ids, *self.results}.difference(seen))


def read_redo(redo: object) -> Redo:
    """Return what `redo=` asks for.

    Raises:
        TypeError: a frame without the needed columns; it names them.
        InputError: anything else that is not a valid `redo=`.
    """
    if redo is None:
        return Redo()
    if isinstance(redo, str):
        if redo not in (CHANGED, ERRORS, ALL):
            raise InputError(f"redo={redo!r}: {HOW}. Ids are given as a list, such as redo=[{redo!r}].")
        return Redo(redo)
    if getattr(redo, "columns", None) is not None:
        return Redo(results=_read_frame(redo))
    if isinstance(redo, (bytes, Mapping)) or not isinstance(redo, Iterable):
        raise InputError(f"redo is a {type(redo).__name__}: {HOW}.")
    return Redo(ids=frozenset(map(_read_id, redo)))


def _read_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, SupportsIndex)):
        raise InputError(f"redo: {value!r} is no id of a sample: {HOW}.")
    return id_text(value)


def _read_frame(redo: Any) -> dict[str, dict[Identity, str | None]]:
    missing = [name for name in NEEDED if name not in redo.columns]
    if missing:
        raise TypeError(f"redo: the frame lacks the columns {', '.join(missing)}; filter one that load_results gave.")
    texts = (redo[name].astype(str) for name in ("sample_id", "group", "key"))
    out: dict[str, dict[Identity, str | None]] = {}
    for sample_id, group, key, occurrence, run_id in zip(*texts, redo["occurrence"], _run_ids(redo), strict=True):
        out.setdefault(sample_id, {})[Identity(group, _read_key(key), int(occurrence))] = run_id
    return out


def _run_ids(redo: Any) -> list[str | None]:
    """Return the run_id of each row; None where there is none, as in results of the older program."""
    if "run_id" not in redo.columns:
        return [None] * len(redo)
    missing = ("", "nan", "None", "<NA>")
    texts = redo["run_id"].astype(str)
    return [text if isinstance(text, str) and text not in missing else None for text in texts]


def _read_key(key: str) -> bytes:
    if not key.startswith("k1:"):
        raise InputError(f"redo: {key!r} in column key is no key; filter a frame that load_results gave.")
    return bytes.fromhex(key[3:])


def check_ids(ids: Iterable[str], samples: Samples) -> None:
    """Raise an InputError if `redo=` names an id that no sample of a list has."""
    known = samples.totals.by_id
    if known is None:
        return
    unknown = sorted(set(ids).difference(known))
    if unknown:
        import difflib  # loads slowly

        near = difflib.get_close_matches(unknown[0], known, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise InputError(f"redo: no sample has the id {unknown[0]!r}{more}.{meant}")


# ---- metrics

#: A line of a view has room for this many means.
MAX_METRICS = 8


def read_metrics(metrics: object) -> tuple[str, ...]:
    """Return the keys of results that `metrics=` names.

    Raises:
        InputError: it is not a list of a few texts.
    """
    if metrics is None:
        return ()
    if isinstance(metrics, (str, bytes)) or not isinstance(metrics, Iterable):
        example = metrics if isinstance(metrics, str) and metrics else "score"
        raise InputError(f"metrics={metrics!r}: give a list of keys of your results, such as metrics=[{example!r}].")
    otherwise = "is no key; give a list of texts, such as metrics=['score']."
    names = tuple(dict.fromkeys(_names("metrics", metrics, otherwise)))
    if len(names) > MAX_METRICS:
        raise InputError(f"metrics names {len(names)} keys; the panel shows at most {MAX_METRICS}.")
    return names


def _observer(
    names: tuple[str, ...], tracker: ProgressTracker
) -> Callable[[Mapping[str, Any] | EncodedResult], None] | None:
    """Return a function that adds the numbers of one result to the means; None if no metric was asked for."""
    if not names:
        return None
    tracker.watch_metrics(names)

    def observe(result: Mapping[str, Any] | EncodedResult) -> None:
        found = load(result.data) if isinstance(result, EncodedResult) else result
        if not isinstance(found, Mapping):
            return
        values = {name: number for name in names if (number := _number(found.get(name))) is not None}
        if values:
            tracker.add_metrics(values)

    return observe


# ---- all of them together


class Limits(NamedTuple):
    """Arguments of start() that a run which is already going takes over when the cell is run again."""

    workers: int
    timeout_s: float | None
    max_per_s: float | None


@dataclass(frozen=True)
class Arguments:
    """What two starts of the same cell are compared by."""

    settings: Settings
    resources: Mapping[str, Any]
    groups: Mapping[str, str]
    keep_items: bool
    retry: RetryPolicy | None
    key: Settings | None
    context: Settings | None

    def changes_in_words(self, earlier: Arguments) -> list[str]:
        """Return what differs from those of a live run, a line each."""
        lines = self.settings.changes_in_words(earlier.settings)
        lines += changed_values(earlier._compared(), self._compared())
        lines += _changes_of_digested("key", earlier.key, self.key)
        lines += _changes_of_digested("context", earlier.context, self.context)
        return lines

    def _compared(self) -> dict[str, object]:
        """Return the arguments that are compared by their values."""
        return {name: getattr(self, name) for name in ("resources", "groups", "keep_items", "retry")}


def _changes_of_digested(name: str, before: Settings | None, now: Settings | None) -> list[str]:
    """Return what differs between two functions given as `key=` or `context=`."""
    if before is None:
        return [] if now is None else [f"{name}: None → a function"]
    if now is None:
        return [f"{name}: a function → None"]
    return [f"{name}=: {line}" for line in now.changes_in_words(before)]


@dataclass
class Launch:
    """The checked arguments of a run, and what it makes of them; once more when it is restarted after its end.

    Attributes:
        metrics: keys of results whose means are shown.
        tracker: counts progress; restarts continue it.
        output: keeps what tasks print; restarts continue it.
    """

    path: Path
    fn: Any
    executor: Any
    arguments: Arguments
    reader: SampleReader
    limits: Limits
    metrics: tuple[str, ...] = ()
    tracker: ProgressTracker = field(default_factory=ProgressTracker)
    output: RunOutput = field(init=False)

    def __post_init__(self) -> None:
        self.output = RunOutput(self.tracker.note_log, echoes=choose_view() != "panel")

    @property
    def _policy(self) -> RetryPolicy:
        return RetryPolicy(attempts=1) if self.arguments.retry is None else self.arguments.retry

    def open_backend(self) -> ExecutorBackend | None:
        """Return what takes fn's place if there is an executor.

        Raises:
            InputError: fn can't be sent to the executor.
        """
        if self.executor is None:
            return None
        from nbrun.engine.executor_pool import ExecutorBackend  # few runs have an executor

        left_out = (self.reader.groups or {}).values()
        backend = ExecutorBackend(self.fn, self.executor, self._policy, RemoteEncoder(), left_out)
        assign(backend.digest, self.output)
        return backend

    def open_store(self, samples: Samples, on_fault: Callable[[Exception], None]) -> ResultStore:
        """Open the results directory for writing.

        Raises:
            ResultsInUseError, StorageError, FormatError: it can't be opened.
        """
        store = ResultStore(
            self.path,
            self._record(),
            keep_items=self.arguments.keep_items,
            totals=samples.first_totals,
            on_fault=on_fault,
        )
        if observe := _observer(self.metrics, self.tracker):
            store.observe_results(observe)
        return store

    def _record(self) -> dict[str, object]:
        """Return the run record: the settings under which results are made, and where and when."""
        now = dt.datetime.now(dt.UTC)
        return {
            "run_id": now.strftime("%Y%m%d-%H%M%S-") + os.urandom(3).hex(),
            "started_at": now.isoformat(timespec="seconds"),
            "host": host_name(),
            "pid": os.getpid(),
            "nbrun": __version__,
            "python": sys.version.split()[0],
            **self.arguments.settings.record(),
            "groups": dict(self.arguments.groups),
            "workers": self.limits.workers,
            "ids": INTEGER_IDS if self.reader.ids_are_integers else TEXT_IDS,
        }

    def make_scheduler(self, backend: ExecutorBackend | None, store: ResultStore) -> Scheduler:
        """Make the scheduler, which saves to that store."""
        pool: Callable[[TaskSource], WorkerPool] = ThreadPool
        if backend is not None:
            pool = backend.pool
        elif is_async(self.fn):
            from nbrun.engine.asyncio_pool import AsyncioPool  # asyncio loads slowly, and few runs need it

            pool = AsyncioPool
        return Scheduler(
            self.fn if backend is None else backend,
            cast("ResultSink[SampleTasks]", store),  # it is only given samples that its own `begin` has returned
            self.tracker,
            workers=self.limits.workers,
            retry=self._policy,
            name=host_name(),
            pool=pool,
            timeout_s=self.limits.timeout_s,
            max_per_s=self.limits.max_per_s,
            output=self.output,
        )
