"""One run from its first sample to its end: the thread "nbrun-feed" reads, matches and feeds, "nbrun-run" ends the run.

The user's iterator may never return. So a run that is stopped doesn't wait for it: the reading thread is left behind,
and whatever it still gets is dropped.

Threads: `_read` and `_conduct` are these two; `fault` is called by threads of the store; the rest by threads that steer
the run. `_lock` protects `_is_asking` and `_is_left`.
"""

from __future__ import annotations

import errno
import itertools
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from nbrun.engine import Scheduler
from nbrun.engine.scheduler import ABANDON_AFTER_S
from nbrun.engine.task_queue import SampleWork
from nbrun.errors import (
    InputError,
    NbrunError,
    ResultsMovedError,
    RunHaltedError,
    SampleError,
    StorageError,
    ThreadLimitError,
)
from nbrun.formatting import counted
from nbrun.model import State
from nbrun.output import Installed, RunOutput, Speaking, speak
from nbrun.progress import ProgressTracker
from nbrun.results.format import TEXT_IDS
from nbrun.results.status import SampleTotals
from nbrun.samples import Sample, SampleReader, fresh_copy, with_ids
from nbrun.session.arguments import ERRORS, Redo
from nbrun.session.sample_source import Samples, duplicate
from nbrun.session.settings import Settings
from nbrun.storage.match import Retyped
from nbrun.storage.resume import RejudgeFilter, RerunRules, ResumePlan
from nbrun.storage.sample_state import SampleState
from nbrun.storage.store import ResultStore
from nbrun.threads import start_daemon, start_thread

#: After a stop the reading thread is waited for this many seconds, if it hangs in the user's iterator.
LEAVE_S = 0.5
_END = object()


@dataclass(frozen=True)
class SecondPass:
    """What runs when a run is started again after its end.

    Attributes:
        samples: the same samples once more, or those of a stream that are still in memory and what follows them.
        numbers: sample id -> its number on the tracker, of those that were read before.
        count: how many tasks that ended in errors run again.
        failed: ids of samples with tasks that ended in errors and run again.
        tasks: how many tasks by group the samples hold that were read before.
        only: sample id -> the positions that run again, if not all that is missing does; and what else failed there.
        is_whole: samples that are complete are looked at again too, since some of their results may be made again.
    """

    samples: Samples
    numbers: Mapping[str, int]
    count: int
    failed: Collection[str]
    tasks: Mapping[str, int]
    only: Mapping[str, Failed] | None = None
    is_whole: bool = False

    def mark(self, tracker: ProgressTracker) -> None:
        """Say on the tracker which errors are tried again."""
        if self.only is None:
            tracker.all_errors_again(self.numbers[sample_id] for sample_id in self.failed)
            return
        for sample_id, failed in self.only.items():
            tracker.error_again(self.numbers[sample_id], [failed.kind] * len(failed.positions))


class Failed(NamedTuple):
    """Of one sample the positions that ended in an error of one kind, and the others with their kinds."""

    kind: str
    positions: frozenset[int]
    others: tuple[tuple[int, str], ...]


class Supervisor:
    """Feeds the scheduler from the samples and ends the run.

    Attributes:
        store: the results directory, open for writing.
        scheduler: runs the tasks.
        fn: the user's function, or the backend that sends it to an executor.
        ended: set when nothing more will happen.
        halt: what halted the run, chained into what wait() raises.

    Args:
        samples: what the run works on.
        reader: turns raw samples into samples with keys.
        tracker: where progress is counted; it outlives this object when the run is started again.
        settings: what this run's results are made under.
        redo: saved results that run again.
        output: keeps what tasks print, and the user's iterator, key and context functions.
        again: what runs when a run is started again after its end; None for its first start.
        open_store: opens the results directory; its argument is called with faults of the disk.
        make_scheduler: makes the scheduler, whose results go to that store.
        on_end: called in a thread of this object when nothing more will happen.
    """

    def __init__(
        self,
        samples: Samples,
        reader: SampleReader,
        tracker: ProgressTracker,
        fn: Any,
        settings: Settings,
        redo: Redo,
        output: RunOutput,
        *,
        again: SecondPass | None,
        open_store: Callable[[Callable[[Exception], None]], ResultStore],
        make_scheduler: Callable[[ResultStore], Scheduler],
        on_end: Callable[[], object],
    ) -> None:
        self._samples, self._reader, self._tracker, self.fn = samples, reader, tracker, fn
        self._settings, self._redo, self._second = settings, redo, again
        self._on_end = on_end
        self._output = output
        self._seen: dict[str, int] = {}  # ids read so far -> their places
        self._more: deque[Samples] = deque()  # under the scheduler's lock, as the next: samples that joined
        self._is_closing = False
        self._holds = 0  # how many threads queue tasks again: the run must not close meanwhile
        self._tasks = Counter[str]() if again is None else Counter(again.tasks)  # read so far, by group
        self._rest: list[Sample] = []  # of a stream: samples that a stop left unfinished
        self.ended = threading.Event()
        self.halt: RunHaltedError | None = None
        self._notices: list[str] = []
        self._counts: dict[str, str] = {}  # what is counted while samples are read -> the sentence so far
        self._changes: dict[str, list[str]] = {}  # run_id -> what differs from that run's settings
        self._other_settings = self._other_contexts = self._unmatched = 0
        self._tasks_met = 0
        self._retyped = Counter[str]()  # how items differ from saved ones -> how many do so
        self._first_retyped: Retyped | None = None
        self._saved_at_end: int | None = None
        self._problems_told = 0
        self._is_fed = False  # under the scheduler's lock, as the next
        self._read_error: BaseException | None = None
        self._lock = threading.Lock()  # protects what follows
        self._is_asking = False  # the user's iterator is asked for a sample
        self._is_left = False  # the reading thread hangs there and is no longer waited for
        self.store = open_store(self.fault)
        self.scheduler = make_scheduler(self.store)

    @property
    def notices(self) -> list[str]:
        """Sentences for the user about what was found. Any thread."""
        return [*self._counts.values(), *self._notices]

    def notify(self, text: str) -> None:
        """Add a sentence to the notices. Any thread."""
        self._notices.append(text)

    def begin(self) -> None:
        """Start the threads.

        Raises:
            ThreadLimitError: the system starts no more threads; the run has ended.
        """
        store = self.store
        self._note_problems()
        self._note_gone(store.manifest.gone)
        if store.lock_caveat:
            self.notify(store.lock_caveat)
        space = store.watch_space(self.notify, self._remaining)
        if short := space.at_start(self._samples.tasks):
            self.notify(short)
            warnings.warn(short, stacklevel=5)
        self.thread = threading.Thread(target=self._read, name="nbrun-feed", daemon=True)
        capture = Installed()
        try:
            start_daemon(self._conduct, "nbrun-run", (capture,))
        except ThreadLimitError as e:
            capture.end()
            self._abort(e)
            raise
        try:
            start_thread(self.thread)
        except ThreadLimitError as e:
            self._fed(e)
            self.ended.wait()
            raise

    def _abort(self, e: ThreadLimitError) -> None:
        """No thread can be started that would end the run: it ends here."""
        self.halt = _halted(str(e), e)
        self.store.abandon()
        self._close_fn()
        self.scheduler.finish(State.HALTED, str(e), self.halt)
        self.ended.set()

    def find_unread(self, text: str, limit: int) -> tuple[list[str], int]:
        """See model.RunControls. Called by views, in threads of theirs."""
        ids = self._samples.by_id or {}
        read = self._tracker.fed_totals()[1]
        found = [sample_id for sample_id in islice(ids, read, None) if text in sample_id.lower()]
        return found[:limit], len(found)

    def _note_gone(self, names: list[str]) -> None:
        """Files that somebody has deleted."""
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            them = "them" if more else "it"
            self.notify(f"Deleted since the last run: {names[0]}{more}; what stood in {them} runs again.")

    def _remaining(self) -> int | None:
        """Return how many results are still to come; None while that is not known."""
        now = self._tracker.snapshot(self.scheduler.run_state.state)
        return None if now.total is None else now.total - now.done

    def _note_problems(self) -> None:
        """What could not be read, since the last time."""
        new = self.store.problems[self._problems_told :]
        self._problems_told += len(new)
        if new:
            more = f" and {len(new) - 1} more" if len(new) > 1 else ""
            self.notify(f"Could not be read: {new[0]}{more}; nbrun.check tells the rest.")

    def fault(self, e: Exception) -> None:
        """The disk refused: the run pauses; results in memory wait. A run that is being stopped gives them up."""
        if isinstance(e, MemoryError):
            e = OSError(errno.ENOMEM, "this process has no memory left")
        if not isinstance(e, OSError):
            self.scheduler.on_internal_error(e)
            return
        if isinstance(e, ResultsMovedError):
            self._pause(f"Paused: {e}", e)
            return
        what = e.strerror or str(e)
        where = f" ({e.filename})" if e.filename else ""
        message = (
            f"Paused: results can't be saved, {what}{where}. Nothing that was saved is lost, and what ended since "
            "waits in memory. Mend it, then run.resume()."
        )
        error = StorageError(message, path=str(self.store.path))
        error.__cause__ = e
        self._pause(message, error)

    def _pause(self, message: str, error: StorageError) -> None:
        self.scheduler.pause(message, _halted(message, error))
        run_state = self.scheduler.run_state
        if run_state.is_draining:
            run_state.trouble = run_state.trouble or _halted(message, error)
            self.store.journal.close_intake()  # or workers that wait at the bound would never end

    # ---- the thread that ends the run

    def _conduct(self, capture: Installed) -> None:
        state = State.HALTED
        try:
            self._wait_until_fed()
            if self._read_error is not None:
                self._halt_feed(self._read_error)
            if quarantined := self.scheduler.all_fed():
                self.notify(_of_quarantined(quarantined))
            self.scheduler.wait_until_idle()
            while not self._closes():
                self._wait_until_fed()
                self.scheduler.all_fed()
                self.scheduler.wait_until_idle()
            state = self._end()
        except BaseException as e:  # a fault of nbrun's own must end the run, not hang it
            self.halt = _halted(f"The run halted: {type(e).__name__}: {e}", e)
            self.store.abandon()
        finally:
            self.scheduler.finish(state, str(self.halt) if self.halt else "", self.halt)
            if state is State.DONE and not self._tracker.errors and not self.changed:
                self._release()
            self._output.end_all_lines()
            capture.end()
            self.ended.set()
            self._on_end()

    def _release(self) -> None:
        """Nothing of this run can run again: an ended run keeps no samples. Of any other it keeps what it was given."""
        self._samples = replace(self._samples, stream=iter(()), by_id={}, source=None)
        self._seen, self._rest = {}, []

    def _closes(self) -> bool:
        """From here on nothing joins the run, and what is to be retried waits for its end. False where more came."""
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
        """Wait until all samples are read, or the run was stopped and its reader hangs in the user's iterator."""
        scheduler = self.scheduler
        with scheduler.lock:
            scheduler.idle.wait_for(lambda: self._is_fed or not scheduler.run_state.is_open)
            while not scheduler.idle.wait_for(lambda: self._is_fed, LEAVE_S):
                with self._lock:
                    self._is_left = self._is_asking
                    if self._is_left:
                        return

    # ---- the thread that reads

    def _read(self) -> None:
        error: BaseException | None = None
        self._speak()
        try:
            self._feed()
            while (more := self._next_samples()) is not None:
                self._feed_more(more)
        except BaseException as e:  # the user's iterator may raise anything, SystemExit too
            error = e
        if error is not None or not self.scheduler.run_state.is_open:
            self._fed(error)

    def _speak(self) -> None:
        speak(Speaking(self._output, None))

    def _next_samples(self) -> Samples | None:
        """The samples that joined the run next; None where there are none, or no more are wanted."""
        with self.scheduler.lock:
            if self._more and self.scheduler.run_state.is_open:
                return self._more.popleft()
            self._is_fed = True
            self.scheduler.idle.notify_all()
            return None

    def _fed(self, error: BaseException | None = None) -> None:
        """No sample follows."""
        with self.scheduler.lock:
            self._is_fed, self._read_error = True, error
            self.scheduler.idle.notify_all()

    def _stream(self, samples: Samples) -> Iterator[Any]:
        """Yield the user's samples until the run is stopped. No other code here runs while the iterator is asked."""
        stream = iter(samples.stream)
        while True:
            with self._lock:
                self._is_asking = True
            try:
                raw = next(stream, _END)
            finally:
                with self._lock:
                    self._is_asking = False
                    is_left = self._is_left
            if raw is _END or is_left:
                return
            yield raw

    def _feed(self) -> None:
        if self._second is None:
            self._tracker.set_totals(self._samples.tasks, self._samples.count)
        number = -1
        is_list_saved = self._samples.first_totals == self._samples.sample_totals
        for number, raw in enumerate(self._stream(self._samples)):
            if self._second is not None and self._is_over(raw, number):
                is_list_saved = is_list_saved or self._save_list()
                if not self.scheduler.run_state.is_open:
                    return
                continue
            sample = self._read_sample(raw, number)
            if sample.id in self._seen:
                raise duplicate(sample.id, self._seen[sample.id], number)
            self._seen[sample.id] = number
            self._feed_sample(sample)
            is_list_saved = is_list_saved or self._save_list()  # the first tasks needn't wait for it
            if not self.scheduler.wait_for_room():
                return
        if not self._is_left and (self._second is None or self._second.only is None):
            self._all_read()
        if unknown := self._redo.unknown(self._seen):
            more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
            self.notify(f"redo: no sample has the id {unknown[0]!r}{more}.")

    def _save_list(self) -> bool:
        self._note_totals(self._samples.sample_totals)
        return True

    def _feed_more(self, more: Samples) -> None:
        """Samples that joined: those that were not read yet."""
        if self._samples.sample_totals.is_known:
            self._tracker.set_totals(self._samples.tasks, self._samples.count)
            self._note_totals(self._samples.sample_totals)
        is_new = False
        for raw in self._stream(more):
            sample_id = self._reader.read_id(raw, len(self._seen))
            if sample_id in self._seen:
                continue
            sample = self._read_sample(raw, len(self._seen))
            self._seen[sample.id] = len(self._seen)
            if not is_new and not self._samples.sample_totals.is_known:
                self._tracker.set_totals(None, None)
            is_new = True
            self._feed_sample(sample)
            if not self.scheduler.wait_for_room():
                return
        if is_new and not self._is_left:
            self._all_read()

    def _all_read(self) -> None:
        """All samples were read: from now on their totals are known, whatever they came from."""
        tasks, count = self._tracker.fed_totals()
        self._tracker.set_totals(tasks, count)
        if self._samples.sample_totals.is_known:
            return
        self._samples = replace(self._samples, count=count, totals=dict(self._tasks))
        self._note_totals(self._samples.sample_totals)
        for group, key in (self._reader.groups or {}).items():
            if count and not self._tasks[group]:
                self.notify(f"No sample has items of the group {group!r}, under the key {key!r}.")

    def add(self, samples: Samples) -> bool:
        """Run those samples too that this run doesn't have yet. False where it is about to end.

        Called by the thread that runs the cell again.
        """
        with self.scheduler.lock:
            if self._is_closing or not self.scheduler.run_state.is_open:
                return False
            ours, theirs = self._samples.by_id, samples.by_id
            if ours is not None and theirs is not None:
                new = {sample_id: counts for sample_id, counts in theirs.items() if sample_id not in ours}
                changed = sum(1 for sample_id, counts in theirs.items() if ours.get(sample_id, counts) != counts)
                if changed:
                    self._counts["grown"] = (
                        f"{counted(changed, 'sample')} with more or fewer items than this run has read: run this cell "
                        "again after its end."
                    )
                if not new:
                    return True
            self._samples = self._samples.with_more(samples)
            self._more.append(samples)
            if self._is_fed:
                self._is_fed = False
                self.scheduler.more_to_feed()
                self.thread = threading.Thread(target=self._read_more, name="nbrun-feed", daemon=True)
                try:
                    start_thread(self.thread)
                except BaseException:
                    self._is_fed = True
                    raise
        return True

    def _read_more(self) -> None:
        """Like _read, for samples that joined after all others were read."""
        error: BaseException | None = None
        self._speak()
        try:
            while (more := self._next_samples()) is not None:
                self._feed_more(more)
        except BaseException as e:  # as in _read
            error = e
        if error is not None:
            self._fed(error)

    # ---- started again after the end

    def _is_over(self, raw: Any, number: int) -> bool:
        """Return whether nothing of a sample runs again."""
        assert self._second is not None
        sample_id = self._reader.read_id(raw, number)
        known = self._second.numbers.get(sample_id)
        if self._second.only is not None:
            return sample_id not in self._second.only
        return known is not None and not self._second.is_whole and self._tracker.is_complete(known)

    def retry_errors(self, kind: str | None) -> int | None:
        """Queue the tasks that ended in errors again; None where the run is about to end, or has ended."""
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

    @property
    def changed(self) -> int:
        """Saved results that were made with other settings, or of samples that have changed."""
        return self._other_settings + self._other_contexts

    def second_pass(self, tracker: ProgressTracker, kind: str | None) -> SecondPass:
        """What runs when the run is started again. Called after the end."""
        numbers = tracker.numbers()
        failed = self.scheduler.failed_samples()
        only = None
        if kind is not None:
            only = {}
            for s in failed:
                positions = frozenset(p for p, k in s.errors if k == kind)
                if positions:
                    only[s.work.sample_id] = Failed(kind, positions, tuple(e for e in s.errors if e[1] != kind))
        if self._samples.source is not None:
            samples = replace(self._samples, stream=with_ids(self._samples.source))
        else:
            kept = {sample.id: sample.raw for sample in [*map(_sample_of, failed), *self._rest]}
            rest = () if only is not None else self._samples.stream
            samples = replace(self._samples, stream=itertools.chain(kept.values(), rest))
        if only is not None:
            count = sum(len(f.positions) for f in only.values())
            return SecondPass(samples, numbers, count, (), self._tasks, only)
        ids = numbers if self._samples.source is not None else [s.work.sample_id for s in failed]
        count = sum(tracker.errors_of(numbers[sample_id]) for sample_id in ids)
        return SecondPass(samples, numbers, count, ids, self._tasks)

    def _note_totals(self, totals: SampleTotals) -> None:
        try:
            self.store.note_totals(totals)
        except OSError:  # a full disk, which saving results meets too and reports; readers then say "at least"
            pass

    def _read_sample(self, raw: Any, number: int) -> Sample:
        integers = self._reader.ids_are_integers
        sample = self._reader.read(raw, number)
        if integers and not self._reader.ids_are_integers and number:
            self._note_text_id()
        return sample

    def _note_text_id(self) -> None:
        """The first sample of a stream whose id is no integer: frames must not make integers of the others' ids."""
        while True:
            try:
                self.store.amend_run(ids=TEXT_IDS)
                return
            except OSError as e:
                self.fault(e)
                if not self.scheduler.wait_for_resume():
                    return

    def _feed_sample(self, sample: Sample) -> None:
        rules = RerunRules(
            self._redo.results_of(sample.id) or {},
            self._redo.runs_again(sample.id, lambda run_id, context: self._is_fresh(sample, run_id, context)),
            self._again(sample),
        )
        plan = self.store.begin(sample, rules, self.scheduler.wait_for_resume)
        self._count_changes(sample, plan)
        number = None if self._second is None else self._second.numbers.get(sample.id)
        failed = None if self._second is None or self._second.only is None else self._second.only[sample.id]
        if number is None:
            for group in sample.groups:
                self._tasks[group.name] += len(group.runnable)
            number = self._tracker.add_sample(
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
        elif failed is None:
            if self._tracker.is_complete(number):
                self._tracker.sample_done(-1)
            self._tracker.sample_again(number, plan.total, plan.done)
        if plan.state is None:
            self._tracker.sample_done()
            return
        plan.state.number = number
        if failed is None:
            self.scheduler.feed(plan.state)
            return
        plan.state.missing = [p for p in plan.state.missing if p in failed.positions]
        plan.state.quarantined = [p for p in plan.state.quarantined if p in failed.positions]
        self.scheduler.feed(plan.state, failed.others)

    def _again(self, sample: Sample) -> RejudgeFilter | None:
        """fn's own say in which results are made again, if it has one."""
        again = getattr(self.fn, "again", None)
        if self._redo.word == ERRORS:  # entries that are errors run again anyway; these were saved as results
            return RejudgeFilter(lambda entry, position: True, may=lambda verdict, run_id: verdict == "JudgeError")
        if again is None:
            return None
        verdicts = getattr(self.fn, "again_verdicts", None)
        ask = RejudgeFilter(lambda entry, position: bool(again(entry, _task_of(sample, position))))
        if verdicts is None:
            return ask
        return replace(ask, may=lambda verdict, run_id: verdict in verdicts and self._has_other_settings(run_id))

    def _is_fresh(self, sample: Sample, run_id: str, context: str) -> bool:
        return not self._has_other_settings(run_id) and context in ("", sample.context)

    def _has_other_settings(self, run_id: str) -> bool:
        return bool(self._changes_since(run_id))

    def _changes_since(self, run_id: str) -> list[str]:
        """Return what differs from the settings of an earlier run; [] if nothing is known to differ."""
        if run_id not in self._changes:
            run = self.store.earlier_runs.get(run_id)
            self._changes[run_id] = [] if run is None else self._settings.changes(run)
        return self._changes[run_id]

    def _count_changes(self, sample: Sample, plan: ResumePlan) -> None:
        """Results of other settings are reported with the first of them, not at the end."""
        others = {run_id: n for run_id, n in plan.runs.items() if self._has_other_settings(run_id)}
        contexts = sum(n for context, n in plan.contexts.items() if context not in ("", sample.context))
        if others:
            self._other_settings += sum(others.values())
            lines = self._changes_since(max(others, key=lambda run_id: others[run_id]))
            more = f" and {len(lines) - 2:,} more" if len(lines) > 2 else ""
            self._count("settings", self._other_settings, f"made under other settings ({'; '.join(lines[:2])}{more})")
        if contexts:
            self._other_contexts += contexts
            self._count("contexts", self._other_contexts, "of samples whose tests or limits have changed since")
        self._tasks_met += plan.total
        if plan.retyped:
            self._note_retyped(plan.retyped)
        if plan.changed:
            self._unmatched += plan.changed
            kept = counted(self._unmatched, "saved result")
            self._counts["unmatched"] = f"{kept} without an item in their sample now: kept."

    def _note_retyped(self, found: Sequence[Retyped]) -> None:
        """Items that hardly differ from saved ones: said with the first, since all of them may run again unmeant."""
        is_first = not self._retyped
        for one in found:
            self._retyped[one.how] += 1
        (how, n), first = self._retyped.most_common(1)[0], self._first_retyped or found[0]
        self._first_retyped = first
        all_ = "all " if n == self._tasks_met > 1 else ""
        example = f" ({first.example})" if first.example and first.how == how else ""
        key = f"such as key=lambda item: item[{first.same!r}]" if first.same else "a function that is equal for both"
        self._counts["retyped"] = (
            f"{all_}{counted(n, 'item')} {'differs' if n == 1 else 'differ'} from the saved ones {how}{example}, so "
            f"{'it is' if n == 1 else 'they are'} new and {'runs' if n == 1 else 'run'} again. If the same "
            f"{'item is' if n == 1 else 'items are'} meant, stop the run and start with key=, {key}, "
            "which finds what was saved without it."
        )
        if is_first:
            self._tracker.note_log(time.time(), "notice", self._counts["retyped"])

    def _count(self, kind: str, count: int, what: str) -> None:
        is_first = kind not in self._counts
        kept = f"{counted(count, 'saved result')} {what}: kept."
        self._counts[kind] = f'{kept} Start with redo="changed" to make them again.'
        if is_first:
            self._tracker.note_log(time.time(), "notice", self._counts[kind])

    def _halt_feed(self, e: BaseException) -> None:
        if isinstance(e, SampleError):
            what = f"The samples can't be read on: {e}"
        elif isinstance(e, (InputError, OSError)):
            what = f"The run can't read on: {str(e).rstrip('.')}."
        else:
            what = f"The iterator of the samples raised {type(e).__name__}: {str(e).rstrip('.')}."
        self.halt = _halted(f"{what} What was read before is run to its end and saved.", e)
        self.notify(str(self.halt))

    def _end(self) -> State:
        """Save everything and release the directory."""
        scheduler, store = self.scheduler, self.store
        self._note_problems()
        stopped = scheduler.run_state.is_draining
        if not stopped and self.halt is None and self._second is None and (gone := store.unvisited):
            are = "samples in the directory are" if gone > 1 else "sample in the directory is"
            self.notify(f"{gone:,} {are} not among the samples of this run; the results are kept and are loaded.")
        if stopped and scheduler.flag.is_set:
            scheduler.wait_for_workers(ABANDON_AFTER_S)
            store.journal.close_intake()
        clean = store.finish()
        while not clean and scheduler.wait_for_resume():
            clean = store.finish()
        if not clean and scheduler.run_state.broken is None:  # stopped after a fault, which may be fixed by now
            store.retry_after_fault(wherever_it_is=True)
            clean = store.finish()
        if not clean and scheduler.run_state.broken is None and (lost := store.unsaved):
            self.notify(f"{lost:,} results that had ended could not be saved; their tasks count as missing.")
        store.close(5.0, clean=clean)
        self._note_problems()
        self._close_fn()
        self.halt = scheduler.run_state.broken or self.halt
        if self.halt is not None:
            return State.HALTED
        return State.STOPPED if stopped or scheduler.run_state.is_draining or not clean else State.DONE

    def _close_fn(self) -> None:
        close = getattr(self.fn, "close", None)
        if callable(close):
            try:
                close()
            except Exception as e:  # the results are safe; a fault of the user's code is reported and stops nothing
                self.notify(f"fn.close() raised {type(e).__name__}: {e}")


def _sample_of(work: SampleWork) -> Sample:
    state: SampleState = work.work  # type: ignore[assignment]  # the scheduler passes on what storage's begin() returned
    return state.sample


def _halted(message: str, cause: BaseException) -> RunHaltedError:
    error = RunHaltedError(message)
    error.__cause__ = cause
    return error


def _of_quarantined(count: int) -> str:
    if count == 1:
        return "1 task was running when an earlier run died, twice; it runs last and alone."
    return f"{count:,} tasks were running when an earlier run died, twice; they run last, one by one."


def _task_of(sample: Sample, position: int) -> Any:
    from nbrun.model import Task

    group, rank = sample.locate(position)
    index = group.runnable[rank]
    return Task(sample.id, group.name, index, fresh_copy(group.items[index]), sample.raw)
