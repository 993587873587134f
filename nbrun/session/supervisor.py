"""One run from its first sample to its end, and what it reports to its user besides counts.

The thread `nbrun-feed` reads samples, matches them with saved results and feeds the missing tasks to the scheduler. The
thread `nbrun-run` waits until everything has ended, and ends the run. The user's iterator may never return, so a run
that is stopped doesn't wait for it: `nbrun-feed` is left behind, and what it reads later is dropped.

Threads: `_read` and `_conduct` are the main functions of the two threads. `fault` is called by threads of the store,
the other public methods by any thread. The scheduler's lock protects what the comments in `__init__` say. Any thread
may use `Notices`; only `nbrun-feed` uses ChangedResults, except for `count`, which any thread may read.
"""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

from nbrun.engine.state import SampleWork
from nbrun.errors import (
    InputError,
    NbrunError,
    ResultsMovedError,
    RunHaltedError,
    SampleError,
    StorageError,
    ThreadLimitError,
    warn,
)
from nbrun.model import State, Task
from nbrun.output import Writer, install, set_writer, uninstall
from nbrun.progress import ProgressTracker
from nbrun.results.format import TEXT_IDS
from nbrun.results.listing import Problem
from nbrun.samples import Sample, fresh_copy, with_ids
from nbrun.session.arguments import CHANGED, ERRORS, Launch, Redo
from nbrun.session.sample_source import Samples, duplicate
from nbrun.session.settings import Settings
from nbrun.storage.resume import RejudgeFilter, RerunRules, ResumePlan, Retyped
from nbrun.storage.sample_state import SampleState
from nbrun.texts import counted
from nbrun.threads import start_daemon
from nbrun.tuning import TUNING

#: Where the first AHEAD_FROM samples of a list have files already, up to MAX_AHEAD samples without one are fed first.
AHEAD_FROM, MAX_AHEAD = 200, 64
_END = object()


class Notices:
    """The sentences that views show as the run's message, in the order in which their subjects came up."""

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker
        self._added: list[str] = []
        self._current: dict[str, str] = {}  # subject -> a sentence whose numbers grow while samples are read
        self._problems_seen = 0

    @property
    def texts(self) -> list[str]:
        """All sentences."""
        return [*self._current.values(), *self._added]

    def add(self, text: str) -> None:
        """Add a sentence."""
        self._added.append(text)

    def set(self, subject: str, text: str, *, is_logged: bool = False) -> None:
        """Set the sentence on a subject. With `is_logged`, the first one is also a line of the log."""
        if is_logged and subject not in self._current:
            self._tracker.note_log(time.time(), "notice", text)
        self._current[subject] = text

    def add_problems(self, problems: Sequence[Problem]) -> None:
        """Report those of all unreadable things so far that were not reported yet."""
        new = problems[self._problems_seen :]
        self._problems_seen += len(new)
        if new:
            self.add(f"Could not be read: {_first_of(new)}; nbrun.check lists the details.")


def _first_of(things: Sequence[object]) -> str:
    return str(things[0]) if len(things) == 1 else f"{things[0]} and {len(things) - 1:,} more"


class ChangedResults:
    """Saved results that were made with other settings, or of samples or items that have changed since.

    They are kept, counted, and reported with the first of them.

    Args:
        settings: those of this run.
        earlier_runs: run_id -> run record.
        notices: where to report.
    """

    def __init__(self, settings: Settings, earlier_runs: Mapping[str, Mapping[str, object]], notices: Notices) -> None:
        self._settings, self._earlier_runs, self._notices = settings, earlier_runs, notices
        self._changes: dict[str, list[str]] = {}  # run_id -> what differs from that run's settings
        self._other_settings = self._other_contexts = self._unmatched = self._tasks = 0
        self._retyped = Counter[str]()  # how items differ from saved ones -> how many do so
        self._first_retyped: Retyped | None = None

    @property
    def count(self) -> int:
        """How many results `redo="changed"` would make again."""
        return self._other_settings + self._other_contexts

    def is_current(self, sample: Sample, run_id: str, context: str) -> bool:
        """Return whether a result was made under this run's settings, of the sample as it is now."""
        return not self.changes_since(run_id) and _is_context_of(sample, context)

    def changes_since(self, run_id: str) -> list[str]:
        """Return what differs from the settings of an earlier run; [] if nothing is known to differ."""
        if run_id not in self._changes:
            run = self._earlier_runs.get(run_id)
            self._changes[run_id] = [] if run is None else self._settings.changes(run)
        return self._changes[run_id]

    def add(self, sample: Sample, plan: ResumePlan) -> None:
        """Count and report the changed results of a sample."""
        self._tasks += plan.total
        self._add_other_settings(plan.runs)
        self._add_other_contexts(sample, plan.contexts)
        if plan.retyped:
            self._add_retyped(plan.retyped)
        if plan.changed:
            self._add_unmatched(plan.changed)

    def _add_other_settings(self, runs: Mapping[str, int]) -> None:
        """Report results of runs with other settings, if any are among these: run_id -> how many results."""
        others = {run_id: n for run_id, n in runs.items() if self.changes_since(run_id)}
        if not others:
            return
        self._other_settings += sum(others.values())
        lines = self.changes_since(max(others, key=lambda run_id: others[run_id]))
        more = f" and {len(lines) - 2:,} more" if len(lines) > 2 else ""
        which = counted(self._other_settings, "saved result was", "saved results were")
        self._report("settings", f"{which} made with other settings ({'; '.join(lines[:2])}{more}).")

    def _add_other_contexts(self, sample: Sample, contexts: Mapping[str, int]) -> None:
        """Report results of the sample as it was before it changed, if any are among these: context -> how many."""
        others = sum(n for context, n in contexts.items() if not _is_context_of(sample, context))
        if not others:
            return
        self._other_contexts += others
        which = counted(self._other_contexts, "saved result is of a sample", "saved results are of samples")
        self._report("contexts", f"{which} whose tests or limits have changed since.")

    def _add_unmatched(self, n: int) -> None:
        self._unmatched += n
        which = counted(self._unmatched, "saved result has", "saved results have")
        self._notices.set("unmatched", f"{which} no item in their sample now; they are kept.")

    def _report(self, subject: str, text: str) -> None:
        """Report results that `redo="changed"` would make again."""
        advice = 'They are kept; start with redo="changed" to make them again.'
        self._notices.set(subject, f"{text} {advice}", is_logged=True)

    def _add_retyped(self, found: Sequence[Retyped]) -> None:
        """Report items that hardly differ from saved ones: all of them may run again although that is not meant."""
        first = self._first_retyped = self._first_retyped or found[0]
        self._retyped.update(one.how for one in found)
        how, n = self._retyped.most_common(1)[0]
        if n == 1:
            they_differ, they_run, they_are = "1 item differs", "it is new and runs", "item is"
        else:
            all_ = "all " if n == self._tasks else ""
            they_differ, they_run, they_are = f"{all_}{n:,} items differ", "they are new and run", "items are"
        example = f" ({first.example})" if first.example and first.how == how else ""
        key = f"such as key=lambda item: item[{first.same!r}]" if first.same else "a function that is equal for both"
        self._notices.set(
            "retyped",
            f"{they_differ} from the saved ones {how}{example}, so {they_run} again. If the same {they_are} meant, "
            f"stop the run and start with key=, {key}, which finds what was saved without it.",
            is_logged=True,
        )


def _is_context_of(sample: Sample, context: str) -> bool:
    """Return whether a result with this context is of the sample as it is now; "" is that of the older program."""
    return context in ("", sample.context)


@dataclass(frozen=True)
class Pass:
    """What one start of a run works on: everything, or what is left after an earlier end.

    Attributes:
        samples: all samples; where a stream is restarted, those that are still in memory and those not read yet.
        numbers: sample id -> its number on the tracker, for samples that were read by an earlier pass.
        count: how many tasks that ended in errors run again.
        failed: ids of samples with such tasks.
        tasks: group -> how many tasks the samples have that were read before.
        only: sample id -> its tasks to run; None to run all that are missing.
        is_first: nothing has run before.
    """

    samples: Samples
    numbers: Mapping[str, int] = field(default_factory=dict)
    count: int = 0
    failed: Collection[str] = ()
    tasks: Mapping[str, int] = field(default_factory=dict)
    only: Mapping[str, Failed] | None = None
    is_first: bool = False

    def failed_of(self, sample_id: str) -> Failed | None:
        """Return which of a sample's tasks run; None for all that are missing."""
        return None if self.only is None else self.only[sample_id]

    def mark(self, tracker: ProgressTracker) -> None:
        """Remove the errors that are retried from the tracker's counts."""
        if self.only is None:
            tracker.all_errors_again(self.numbers[sample_id] for sample_id in self.failed)
            return
        for sample_id, failed in self.only.items():
            tracker.error_again(self.numbers[sample_id], [failed.kind] * len(failed.positions))


class Failed(NamedTuple):
    """A sample's tasks that ended in an error of one kind, and the other failed tasks with their kinds."""

    kind: str
    positions: frozenset[int]
    others: tuple[tuple[int, str], ...]

    def restrict(self, state: SampleState) -> None:
        """Leave only these of the sample's tasks to be run."""
        state.missing = [p for p in state.missing if p in self.positions]
        state.quarantined = [p for p in state.quarantined if p in self.positions]


class Supervisor:
    """Feeds samples to the scheduler, and ends the run.

    Attributes:
        notices: sentences for the user.
        changed: saved results that were made with other settings, or of samples that have changed.
        store: the results directory, open for writing.
        scheduler: runs the tasks.
        fn: the user's function, or the backend that sends it to an executor.
        ended: set once the run has ended.
        halt: the error that halted the run; wait() raises it.

    Args:
        launch: the arguments of the run.
        work: what it works on.
        redo: saved results to be made again.
        on_end: called once the run has ended, in a thread of this object.

    Raises:
        InputError: fn can't be sent to the executor.
        ResultsInUseError, StorageError, FormatError: the directory can't be opened.
    """

    def __init__(self, launch: Launch, work: Pass, redo: Redo, on_end: Callable[[], object]) -> None:
        samples = self._samples = work.samples
        self._pass, self._redo, self._on_end = work, redo, on_end
        self._reader, self._tracker, self._output = launch.reader, launch.tracker, launch.output
        self.ended = threading.Event()
        self.halt: RunHaltedError | None = None
        self.notices = Notices(launch.tracker)
        # used by nbrun-feed, and by other threads only after the end
        self._seen: dict[str, int] = {}  # the ids of samples read so far, with their positions
        self._tasks = Counter(work.tasks)  # read so far, by group
        self._is_list_saved = samples.first_totals == samples.totals
        # protected by the scheduler's lock
        self._more: deque[Samples] = deque()  # samples that were added and not read yet
        self._is_fed = False  # no sample follows
        self._read_error: BaseException | None = None
        self._is_asking = False  # nbrun-feed is in the user's iterator
        self._is_left = False  # it hangs there, and the run doesn't wait for it
        self._is_closing = False  # nothing can be added any more
        self._holds = 0  # how many threads are queueing tasks again; the run must not close meanwhile
        self._rest: list[Sample] = []  # of a stream: samples that a stop left unfinished
        backend = launch.open_backend()
        self.fn = launch.fn if backend is None else backend
        try:
            self.store = launch.open_store(samples, self.fault)
            self.scheduler = launch.make_scheduler(backend, self.store)
        except BaseException:
            if backend is not None:
                backend.close()
            raise
        self.changed = ChangedResults(launch.arguments.settings, self.store.earlier_runs, self.notices)
        if backend is not None and (end := backend.shutdown_notice()):
            self.notices.add(end)

    def begin(self) -> None:
        """Start the threads.

        Raises:
            ThreadLimitError: the system starts no more threads; the run has ended.
        """
        if not self._pass.is_first:
            self._pass.mark(self._tracker)
            self._tracker.begin_again()
        self._report_directory()
        install()
        try:
            start_daemon(self._conduct, "nbrun-run")
        except ThreadLimitError as e:  # this thread ends the run, since no other can
            uninstall()
            self.halt = _halted(str(e), e)
            self.store.abandon()
            self._close_fn()
            self.scheduler.finish(State.HALTED, str(e), self.halt)
            self.ended.set()
            raise
        try:
            self.thread = start_daemon(self._read, "nbrun-feed", (True,))
        except ThreadLimitError as e:
            self._fed(e)
            self.ended.wait()
            raise

    def _report_directory(self) -> None:
        """Report what is odd about the directory, and too little free space from now on."""
        store = self.store
        self.notices.add_problems(store.problems)
        if gone := store.manifest.gone:
            whose = "its" if len(gone) == 1 else "their"
            self.notices.add(f"Deleted since the last run: {_first_of(gone)}; {whose} tasks run again.")
        if store.lock_caveat:
            self.notices.add(store.lock_caveat)
        space = store.watch_space(self.notices.add, self._remaining)
        if short := space.at_start(self._samples.totals.task_count):
            self.notices.add(short)
            warn(short)

    def find_unread(self, text: str, limit: int) -> tuple[list[str], int]:
        """Find samples that were not read yet: see model.RunControls."""
        ids = self._samples.totals.ids
        read = self._tracker.fed_totals()[1]
        found = [sample_id for sample_id in islice(ids, read, None) if text in sample_id.lower()]
        return found[:limit], len(found)

    def _remaining(self) -> int | None:
        """Return how many results are still to come; None while that is not known."""
        now = self._tracker.snapshot(self.scheduler.run_state.state)
        return None if now.total is None else now.total - now.done

    def fault(self, e: Exception) -> None:
        """Pause the run after a fault of the disk: results wait in memory, and those of a stopped run until its end."""
        if isinstance(e, MemoryError):
            e = OSError(errno.ENOMEM, "this process has no memory left")
        if not isinstance(e, OSError):
            self.scheduler.on_internal_error(e)
            return
        trouble = _halted(f"Paused: {e}", e) if isinstance(e, ResultsMovedError) else self._cannot_save(e)
        self.scheduler.pause(str(trouble), trouble)
        run_state = self.scheduler.run_state
        if run_state.is_draining:
            run_state.trouble = run_state.trouble or trouble
            self.store.journal.lift_bound()  # otherwise workers that wait at the bound would never end

    def _cannot_save(self, e: OSError) -> RunHaltedError:
        where = f" ({e.filename})" if e.filename else ""
        what = e.strerror or str(e).removesuffix(".")  # one of nbrun's own errors is a whole sentence
        message = (
            f"Paused: results can't be saved, {what}{where}. Nothing that was saved is lost, and newer "
            "results wait in memory. Fix the problem, then call run.resume()."
        )
        cause = StorageError(message, path=str(self.store.path))
        cause.__cause__ = e
        return _halted(message, cause)

    # ---- the thread that ends the run

    def _conduct(self) -> None:
        state = State.HALTED
        try:
            self._wait_for_tasks()
            state = self._end()
        except BaseException as e:  # a fault of nbrun's own must end the run, not hang it
            self.halt = _halted(f"The run halted: {type(e).__name__}: {e}", e)
            self.store.abandon()
        finally:
            self.scheduler.finish(state, str(self.halt) if self.halt else "", self.halt)
            if state is State.DONE and not self._tracker.errors and not self.changed.count:
                self._release()
            self._output.end_all_lines()
            uninstall()
            self.ended.set()
            self._on_end()

    def _wait_for_tasks(self) -> None:
        """Wait until all tasks have ended, also those of samples that are added meanwhile."""
        is_over = False
        while not is_over:
            self._wait_until_fed()
            self._report_read_error()
            if count := self.scheduler.all_fed():
                which = counted(count, "task was", "tasks were")
                how = "it runs last and alone" if count == 1 else "they run last, one by one"
                self.notices.add(f"{which} running when an earlier run died, twice; {how}.")
            self.scheduler.wait_until_idle()
            is_over = self._closes()
        self._report_read_error()  # of samples that were added while the last tasks ran

    def _release(self) -> None:
        """Release the samples, since no task of this run can run again. Other runs keep what they need for that."""
        totals = replace(self._samples.totals, by_id={})
        self._samples = Samples(iter(()), totals, None)
        self._pass = replace(self._pass, samples=self._samples)
        self._seen, self._rest = {}, []

    def _closes(self) -> bool:
        """Let nothing be added any more; retries then wait for the end. Return False if there is still work."""
        scheduler = self.scheduler
        with scheduler.lock:
            scheduler.idle.wait_for(lambda: not self._holds)
            if scheduler.run_state.is_open and (scheduler.open_samples or not self._is_fed):
                return False
            self._is_closing = True
            if self._samples.source is None:
                self._rest = [_sample_of(s) for s in scheduler.open_samples]
            return True

    def _wait_until_fed(self) -> None:
        """Wait until all samples are read, or until the run is stopped and nbrun-feed hangs in the user's iterator."""
        scheduler = self.scheduler
        with scheduler.lock:
            scheduler.idle.wait_for(lambda: self._is_fed or not scheduler.run_state.is_open)
            while not scheduler.idle.wait_for(lambda: self._is_fed, TUNING.feeder_leave_s):
                self._is_left = self._is_asking
                if self._is_left:
                    return

    # ---- the thread that reads

    def _read(self, is_first: bool) -> None:
        """Feed the samples of the run and those that are added meanwhile.

        Args:
            is_first: False in a thread that was started for added samples, after all others had been read.
        """
        set_writer(Writer(self._output, None))
        try:
            if is_first:
                self._feed()
            while (more := self._next_samples()) is not None:
                self._feed_more(more)
        except BaseException as e:  # the user's iterator may raise anything, SystemExit too
            self._fed(e)

    def _next_samples(self) -> Samples | None:
        """Return samples that were added to the run; None if there are none, or the run is being stopped."""
        with self.scheduler.lock:
            if self._more and self.scheduler.run_state.is_open:
                return self._more.popleft()
            self._is_fed = True
            self.scheduler.idle.notify_all()
            return None

    def _fed(self, error: BaseException) -> None:
        """Record that no sample follows because of an error."""
        with self.scheduler.lock:
            self._is_fed, self._read_error = True, error
            self.scheduler.idle.notify_all()

    def _stream(self, samples: Samples) -> Iterator[Any]:
        """Yield the user's samples until the run is stopped."""
        stream = iter(samples.stream)
        while True:
            with self.scheduler.lock:
                self._is_asking = True
            try:
                raw = next(stream, _END)
            finally:
                with self.scheduler.lock:
                    self._is_asking = False
                    is_left = self._is_left
            if raw is _END or is_left:
                return
            yield raw

    def _feed(self) -> None:
        if self._pass.is_first:
            self._show_totals()
        if not self._feed_all_but(self._feed_ahead()):
            return
        if not self._is_left and self._pass.only is None:
            self._all_read()
        if unknown := self._redo.unknown(self._seen):
            self.notices.add(f"redo: no sample has the id {_first_of(list(map(repr, unknown)))}.")

    def _feed_all_but(self, places: Collection[int]) -> bool:
        """Feed the samples at all other places. Return False if the run takes no more."""
        for number, raw in enumerate(self._stream(self._samples)):
            if number in places:
                continue
            if not self._is_over(raw, number):
                self._feed_sample(raw, number)
            self._save_list()  # only now: the first tasks needn't wait for it
            if not self.scheduler.wait_for_room():
                return False
        return True

    def _save_list(self) -> None:
        """Save the ids of a long list of samples, and how many tasks each has, unless that was done."""
        if not self._is_list_saved:
            self._is_list_saved = True
            self._note_totals()

    def _feed_ahead(self) -> set[int]:
        """Feed some samples of a list that have no file yet, where many before them have one. Return their places.

        So workers needn't wait until all finished samples are matched with their files.
        """
        samples, source = self._samples, self._samples.source
        if not self._pass.is_first or samples.totals.by_id is None or not isinstance(source, (list, tuple)):
            return set()
        ahead: set[int] = set()
        tasks = 0
        for place in self._places_without_file(samples.totals.by_id):
            ahead.add(place)
            tasks += self._feed_sample(source[place], place).total
            if tasks >= self.scheduler.target_workers:
                break
        return ahead

    def _places_without_file(self, ids: Iterable[str]) -> Iterator[int]:
        """Yield the places of the first samples that have no file yet; none unless many before them have one."""
        new = (place for place, sample_id in enumerate(ids) if self.store.is_new(sample_id))
        first = next(new, 0)
        return islice(itertools.chain((first,), new), MAX_AHEAD) if first >= AHEAD_FROM else iter(())

    def _feed_more(self, more: Samples) -> None:
        """Feed those of the added samples that were not read yet."""
        if self._samples.totals.is_known:
            self._show_totals()
            self._note_totals()
        is_new = False
        for raw in self._unread(more):
            if not is_new and not self._samples.totals.is_known:
                self._tracker.set_totals(None, None)
            is_new = True
            self._feed_sample(raw, len(self._seen))
            if not self.scheduler.wait_for_room():
                return
        if is_new and not self._is_left:
            self._all_read()

    def _unread(self, samples: Samples) -> Iterator[Any]:
        """Yield those of the user's samples that this run has not read yet, until it is stopped."""
        for raw in self._stream(samples):
            if self._reader.read_id(raw, len(self._seen)) not in self._seen:
                yield raw

    def _all_read(self) -> None:
        """Set and save the totals, which are known once all samples were read."""
        tasks, count = self._tracker.fed_totals()
        self._tracker.set_totals(tasks, count)
        if self._samples.totals.is_known:
            return
        totals = replace(self._samples.totals, samples=count, tasks=dict(self._tasks))
        self._samples = replace(self._samples, totals=totals)
        self._note_totals()
        for group, key in (self._reader.groups or {}).items():
            if count and not self._tasks[group]:
                self.notices.add(f"No sample has items of the group {group!r}, under the key {key!r}.")

    def add(self, samples: Samples) -> bool:
        """Add the samples that this run doesn't have yet. Return False if it is about to end."""
        with self.scheduler.lock:
            if self._is_closing or not self.scheduler.run_state.is_open:
                return False
            ours, theirs = self._samples.totals.by_id, samples.totals.by_id
            if ours is not None and theirs is not None:
                self._report_changed_sizes(ours, theirs)
                if theirs.keys() <= ours.keys():
                    return True
            self._samples = self._samples.with_more(samples)
            self._more.append(samples)
            if self._is_fed:
                self._read_on()
        return True

    def _read_on(self) -> None:
        """Start another thread that reads, after all samples had been read. The caller holds the scheduler's lock."""
        self._is_fed = False
        self.scheduler.more_to_feed()
        try:
            self.thread = start_daemon(self._read, "nbrun-feed", (False,))
        except BaseException:
            self._is_fed = True
            raise

    def _report_changed_sizes(self, ours: Mapping[str, object], theirs: Mapping[str, object]) -> None:
        """Report samples that are given again with another number of items, which this run doesn't read again."""
        if n := sum(ours.get(sample_id, counts) != counts for sample_id, counts in theirs.items()):
            which = counted(n, "sample has", "samples have")
            what = f"{which} more or fewer items than this run has read: run this cell again after its end."
            self.notices.set("grown", what)

    # ---- started again after the end

    def _is_over(self, raw: Any, number: int) -> bool:
        """Return whether nothing of a sample runs again."""
        if self._pass.is_first or self._redo.word == CHANGED:
            return False
        sample_id = self._reader.read_id(raw, number)
        if self._pass.only is not None:
            return sample_id not in self._pass.only
        known = self._pass.numbers.get(sample_id)
        return known is not None and self._tracker.is_complete(known)

    def retry_errors(self, kind: str | None) -> int | None:
        """Queue the tasks that ended in errors again. Return how many, or None if the run is ending or has ended."""
        with self.scheduler.lock:
            if self._is_closing or self.ended.is_set():
                return None
            if not self.scheduler.run_state.is_open:
                raise NbrunError("The run is being stopped. Retry the errors once it has ended.")
            self._holds += 1
        try:
            return self.scheduler.retry_errors(kind)
        finally:
            with self.scheduler.lock:
                self._holds -= 1
                self.scheduler.idle.notify_all()

    def next_pass(self, kind: str | None = None) -> Pass:
        """Return what a restart runs: all that is missing, or only errors of one kind. Called after the end."""
        numbers, failed = self._tracker.numbers(), self.scheduler.failed_samples()
        samples = self._samples_again(failed, is_only_failed=kind is not None)
        if kind is not None:
            only = _failed_with(kind, failed)
            count = sum(len(f.positions) for f in only.values())
            return Pass(samples, numbers, count, tasks=self._tasks, only=only)
        ids = [s.work.sample_id for s in failed] if samples.source is None else numbers
        count = sum(self._tracker.errors_of(numbers[sample_id]) for sample_id in ids)
        return Pass(samples, numbers, count, failed=ids, tasks=self._tasks)

    def _samples_again(self, failed: Iterable[SampleWork], *, is_only_failed: bool) -> Samples:
        """Return the samples for a restart: of a stream those that are still in memory, then those not read yet."""
        if self._samples.source is not None:
            return replace(self._samples, stream=with_ids(self._samples.source))
        kept = {sample.id: sample.raw for sample in [*map(_sample_of, failed), *self._rest]}
        unread = () if is_only_failed else self._samples.stream
        return replace(self._samples, stream=itertools.chain(kept.values(), unread))

    def _show_totals(self) -> None:
        """Show how many samples and tasks there are, as far as it is known."""
        totals = self._samples.totals
        self._tracker.set_totals(totals.task_count, totals.samples)

    def _note_totals(self) -> None:
        """Save how many samples and tasks there are, as far as it is known."""
        try:
            self.store.note_totals(self._samples.totals)
        except OSError:  # a full disk, which saving results meets too and reports; readers then say "at least"
            pass

    def _read_sample(self, raw: Any, number: int) -> Sample:
        """Read a sample. If its id is the first text, save that: frames must not turn ids before it into integers."""
        were_integers = self._reader.ids_are_integers
        sample = self._reader.read(raw, number)
        is_to_be_saved = were_integers and not self._reader.ids_are_integers and number > 0
        while is_to_be_saved:
            try:
                self.store.amend_run(ids=TEXT_IDS)
                break
            except OSError as e:
                self.fault(e)
                is_to_be_saved = self.scheduler.wait_for_resume()
        return sample

    def _feed_sample(self, raw: Any, number: int) -> Sample:
        """Read a sample, match it with what is saved of it, and feed its missing tasks to the scheduler."""
        sample = self._read_sample(raw, number)
        if sample.id in self._seen:
            raise duplicate(sample.id, self._seen[sample.id], number)
        self._seen[sample.id] = number
        plan = self.store.begin(sample, self._rules_for(sample), self.scheduler.wait_for_resume)
        self.changed.add(sample, plan)
        failed = self._pass.failed_of(sample.id)
        place = self._count_sample(sample, plan, is_partial=failed is not None)
        state = plan.state
        if state is None:
            self._tracker.sample_done()
            return sample
        state.number = place
        if failed is None:
            self.scheduler.feed(state)
        else:
            failed.restrict(state)
            self.scheduler.feed(state, failed.others)
        return sample

    def _rules_for(self, sample: Sample) -> RerunRules:
        """Return which saved results of a sample are made again."""
        return RerunRules(
            self._redo.results.get(sample.id, {}),
            self._redo.runs_again(sample.id, lambda run_id, context: self.changed.is_current(sample, run_id, context)),
            self._again(sample),
        )

    def _count_sample(self, sample: Sample, plan: ResumePlan, *, is_partial: bool) -> int:
        """Count a sample's tasks, unless only some of them run again. Return its number on the tracker."""
        number = self._pass.numbers.get(sample.id)
        if number is not None:  # it was read before
            if not is_partial:
                self._count_again(number, plan)
            return number
        for group in sample.groups:
            self._tasks[group.name] += len(group.runnable)
        return self._tracker.add_sample(
            sample.id,
            plan.total,
            done=plan.done,
            skipped=sample.skipped,
            accepted=plan.accepted,
            rejected=plan.rejected,
            verdicts=plan.verdicts,
            unexpected=plan.unexpected,
            tally=plan.tally,
        )

    def _count_again(self, number: int, plan: ResumePlan) -> None:
        """Count the tasks of a sample that was read before."""
        if self._tracker.is_complete(number):
            self._tracker.sample_done(-1)
        self._tracker.sample_again(number, plan.total, plan.done)

    def _again(self, sample: Sample) -> RejudgeFilter | None:
        """Return a filter for saved results that `redo="errors"` or `fn.again` makes again, or None."""
        again = getattr(self.fn, "again", None)
        if self._redo.word == ERRORS:  # entries that are errors run again anyway; these were saved as results
            return RejudgeFilter(lambda entry, position: True, may=lambda verdict, run_id: verdict == "JudgeError")
        if again is None:
            return None
        verdicts = getattr(self.fn, "again_verdicts", None)
        ask = RejudgeFilter(lambda entry, position: bool(again(entry, _task_of(sample, position))))
        if verdicts is None:
            return ask
        return replace(
            ask, may=lambda verdict, run_id: verdict in verdicts and bool(self.changed.changes_since(run_id))
        )

    def _report_read_error(self) -> None:
        """If no sample follows because of an error, say so; the run halts at its end."""
        e = self._read_error
        if e is None or self.halt is not None:
            return
        if isinstance(e, SampleError):
            what = f"The samples can't be read any further: {e}"
        elif isinstance(e, (InputError, OSError)):
            what = f"The run can't read any further: {str(e).rstrip('.')}."
        else:
            what = f"The iterator of the samples raised {type(e).__name__}: {str(e).rstrip('.')}."
        self.halt = _halted(f"{what} The tasks of samples that were read before are run and saved.", e)
        self.notices.add(str(self.halt))

    def _end(self) -> State:
        """Save everything and release the directory."""
        scheduler, store = self.scheduler, self.store
        self.notices.add_problems(store.problems)
        self._report_unvisited()
        if scheduler.flag.is_set:
            scheduler.wait_for_workers(TUNING.abandon_after_s)
            store.journal.close_intake()
        clean = self._finish_store()
        if not store.close(5.0, clean=clean):
            what = "stays locked until its last write has ended, or this process: the disk doesn't answer"
            self.notices.add(f"{store.path} {what}.")
        self.notices.add_problems(store.problems)
        self._close_fn()
        self.halt = scheduler.run_state.broken or self.halt
        if self.halt is not None:
            return State.HALTED
        return State.STOPPED if scheduler.run_state.is_draining or not clean else State.DONE

    def _report_unvisited(self) -> None:
        """Report samples of the directory that were not given to this run, if all that were given were read."""
        is_whole = self._pass.is_first and self.halt is None and not self.scheduler.run_state.is_draining
        if is_whole and (n := self.store.unvisited):
            which = counted(n, "sample in the directory is", "samples in the directory are")
            self.notices.add(f"{which} not among the samples of this run; the results are kept and are loaded.")

    def _finish_store(self) -> bool:
        """Save everything. Return False if the disk refuses, and the run was stopped instead of resumed."""
        scheduler, store = self.scheduler, self.store
        while not store.finish():
            if scheduler.wait_for_resume():
                continue
            if scheduler.run_state.broken is not None:
                return False
            store.retry_after_fault(wherever_it_is=True)  # the fault may be fixed by now
            clean = store.finish()
            if not clean and (lost := store.unsaved):
                self.notices.add(f"{lost:,} results that had ended could not be saved; their tasks count as missing.")
            return clean
        return True

    def _close_fn(self) -> None:
        close = getattr(self.fn, "close", None)
        if callable(close):
            try:
                close()
            except Exception as e:  # the results are safe; a fault of the user's code is reported and stops nothing
                self.notices.add(f"fn.close() raised {type(e).__name__}: {e}")


def _failed_with(kind: str, samples: Iterable[SampleWork]) -> dict[str, Failed]:
    """Return sample id -> its tasks that ended in errors of this kind, for samples with any."""
    found = {}
    for sample in samples:
        positions = frozenset(position for position, other in sample.errors if other == kind)
        if positions:
            others = tuple(error for error in sample.errors if error[1] != kind)
            found[sample.work.sample_id] = Failed(kind, positions, others)
    return found


def _sample_of(work: SampleWork) -> Sample:
    state: SampleState = work.work  # type: ignore[assignment]  # the scheduler passes on what storage's begin() returned
    return state.sample


def _halted(message: str, cause: BaseException) -> RunHaltedError:
    error = RunHaltedError(message)
    error.__cause__ = cause
    return error


def _task_of(sample: Sample, position: int) -> Task:
    group, rank = sample.locate(position)
    index = group.runnable[rank]
    return Task(sample.id, group.name, index, fresh_copy(group.items[index]), sample.raw)
