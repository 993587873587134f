"""One run from its first sample to its end: the thread "nbrun-feed" reads, matches and feeds, "nbrun-run" ends the run.

The user's iterator may never return. So a run that is stopped doesn't wait for it: the reading thread is left behind,
and whatever it still gets is dropped.

Threads: `_read` and `_conduct` are these two; `fault` is called by threads of the store; the rest by whoever steers the
run. `_lock` protects `_is_asking` and `_is_left`.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from nbrun.engine import Engine
from nbrun.engine.engine import ABANDON_AFTER_S
from nbrun.errors import InputError, ResultsMovedError, RunHaltedError, SampleError, StorageError, ThreadLimitError
from nbrun.model import State, start_daemon, start_thread
from nbrun.progress import Board, counted
from nbrun.samples import Sample, SampleReader, fresh_copy
from nbrun.session.inputs import Samples, duplicate
from nbrun.session.redo import ERRORS, Redo
from nbrun.session.settings import Settings
from nbrun.storage.format import TEXT_IDS
from nbrun.storage.found import Again, Found
from nbrun.storage.sample_totals import SampleTotals
from nbrun.storage.store import ResultStore

#: After a stop the reading thread is waited for so long, if it hangs in the user's iterator.
LEAVE_S = 0.5
_END = object()


class Conductor:
    """Feeds the engine from the samples and ends the run.

    Attributes:
        ended: set when nothing more will happen.
        halt: what halted the run, chained into what wait() raises.
    """

    def __init__(
        self, samples: Samples, reader: SampleReader, board: Board, fn: Any, settings: Settings, redo: Redo
    ) -> None:
        self._samples, self._reader, self._board, self._fn = samples, reader, board, fn
        self._settings, self._redo = settings, redo
        self.ended = threading.Event()
        self.halt: RunHaltedError | None = None
        self._notes: list[str] = []
        self._counts: dict[str, str] = {}  # what is counted while samples are read -> the sentence so far
        self._changes: dict[str, list[str]] = {}  # run_id -> what differs from that run's settings
        self._engine: Engine
        self._store: ResultStore
        self._other_settings = self._other_contexts = self._unmatched = 0
        self._saved_at_end: int | None = None
        self._problems_told = 0
        self._is_fed = False  # under the engine's lock, as the next
        self._read_error: BaseException | None = None
        self._lock = threading.Lock()  # protects what follows
        self._is_asking = False  # the user's iterator is asked for a sample
        self._is_left = False  # the reading thread hangs there, and nobody waits for it

    @property
    def notes(self) -> list[str]:
        """Sentences for the user about what was found. Any thread."""
        return [*self._counts.values(), *self._notes]

    def note(self, text: str) -> None:
        """Add a sentence. Any thread."""
        self._notes.append(text)

    def begin(self, engine: Engine, store: ResultStore) -> None:
        """Starts the thread."""
        self._engine, self._store = engine, store
        store.wait_for_resume = engine.wait_for_resume
        self._note_problems()
        self._note_gone(store.known.gone)
        if store.promise:
            self.note(store.promise)
        store.space.tell = self.note
        store.space.remaining = self._remaining
        if short := store.space.at_start(self._samples.tasks):
            self.note(short)
            warnings.warn(short, stacklevel=3)
        self.thread = threading.Thread(target=self._read, name="nbrun-feed", daemon=True)
        try:
            start_daemon(self._conduct, "nbrun-run")
        except ThreadLimitError as e:
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
        self._store.abandon()
        self._close_fn()
        self._engine.finish(State.HALTED, str(e), self.halt)
        self.ended.set()

    def find_unread(self, text: str, limit: int) -> tuple[list[str], int]:
        """See model.RunControls. Called by views, in threads of theirs."""
        ids = self._samples.by_id or {}
        read = self._board.fed_totals()[1]
        found = [sample_id for sample_id in islice(ids, read, None) if text in sample_id.lower()]
        return found[:limit], len(found)

    def _note_gone(self, names: list[str]) -> None:
        """Files that somebody has deleted."""
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            them = "them" if more else "it"
            self.note(f"Deleted since the last run: {names[0]}{more}; what stood in {them} runs again.")

    def _remaining(self) -> int | None:
        """How many results are still to come; None while nobody knows."""
        now = self._board.snapshot(self._engine.standing.state)
        return None if now.total is None else now.total - now.done

    def _note_problems(self) -> None:
        """What could not be read, since the last time."""
        new = self._store.problems[self._problems_told :]
        self._problems_told += len(new)
        if new:
            more = f" and {len(new) - 1} more" if len(new) > 1 else ""
            self.note(f"Could not be read: {new[0]}{more}; nbrun.check tells the rest.")

    def fault(self, e: Exception) -> None:
        """The disk refused: the run pauses; results in memory wait. A run that is being stopped gives them up."""
        if not isinstance(e, OSError):
            self._engine.broke(e)
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
        error = StorageError(message, path=str(self._store.path))
        error.__cause__ = e
        self._pause(message, error)

    def _pause(self, message: str, error: StorageError) -> None:
        self._engine.pause(message, _halted(message, error))
        standing = self._engine.standing
        if standing.is_draining:
            standing.trouble = standing.trouble or _halted(message, error)
            self._store.journal.refuse()  # or workers that wait at the bound would never end

    # ---- the thread that ends the run

    def _conduct(self) -> None:
        state = State.HALTED
        try:
            self._wait_until_fed()
            if self._read_error is not None:
                self._halt_feed(self._read_error)
            if suspects := self._engine.all_fed():
                self.note(_of_suspects(suspects))
            self._engine.wait_until_idle()
            state = self._end()
        except BaseException as e:  # a fault of nbrun's own must end the run, not hang it
            self.halt = _halted(f"The run halted: {type(e).__name__}: {e}", e)
            self._store.abandon()
        finally:
            self._engine.finish(state, str(self.halt) if self.halt else "", self.halt)
            self.ended.set()

    def _wait_until_fed(self) -> None:
        """Wait until all samples are read, or the run was stopped and its reader hangs in the user's iterator."""
        engine = self._engine
        with engine.lock:
            engine.idle.wait_for(lambda: self._is_fed or not engine.standing.is_open)
            while not engine.idle.wait_for(lambda: self._is_fed, LEAVE_S):
                with self._lock:
                    self._is_left = self._is_asking
                    if self._is_left:
                        return

    # ---- the thread that reads

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            self._feed()
        except BaseException as e:  # the user's iterator may raise anything, SystemExit too
            error = e
        self._fed(error)

    def _fed(self, error: BaseException | None = None) -> None:
        """No sample follows."""
        with self._engine.lock:
            self._is_fed, self._read_error = True, error
            self._engine.idle.notify_all()

    def _stream(self) -> Iterator[Any]:
        """The user's samples, until the run is stopped. Nothing else of the conductor's runs while one is asked for."""
        stream = iter(self._samples.stream)
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
        seen: dict[str, int] = {}
        tasks = Counter[str]()
        self._board.set_totals(self._samples.tasks, self._samples.count)
        number = -1
        for number, raw in enumerate(self._stream()):
            integers = self._reader.ids_are_integers
            sample = self._reader.read(raw, number)
            if integers and not self._reader.ids_are_integers and number:
                self._note_text_id()
            if sample.id in seen:
                raise duplicate(sample.id, seen[sample.id], number)
            seen[sample.id] = number
            for group in sample.groups:
                tasks[group.name] += len(group.runnable)
            self._feed_sample(sample)
            if not self._engine.wait_for_room():
                return
        if self._is_left:
            return
        self._board.set_totals(self._board.fed_totals()[0], number + 1)
        if not self._samples.sample_totals.is_known:
            self._note_totals(SampleTotals(number + 1, tasks))
        if unknown := self._redo.unknown(seen):
            more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
            self.note(f"redo: no sample has the id {unknown[0]!r}{more}.")

    def _note_totals(self, totals: SampleTotals) -> None:
        try:
            self._store.note_totals(totals)
        except OSError:  # a full disk, which saving results meets too and reports; readers then say "at least"
            pass

    def _note_text_id(self) -> None:
        """The first sample of a stream whose id is no integer: frames must not make integers of the others' ids."""
        while True:
            try:
                self._store.amend_run(ids=TEXT_IDS)
                return
            except OSError as e:
                self.fault(e)
                if not self._engine.wait_for_resume():
                    return

    def _feed_sample(self, sample: Sample) -> None:
        found = self._store.begin(
            sample,
            self._redo.of(sample.id),
            self._redo.runs_again(sample.id, lambda run_id, context: self._is_fresh(sample, run_id, context)),
            self._again(sample),
        )
        self._count_changes(sample, found)
        number = self._board.add_sample(
            sample.id, found.total, done=found.done, skipped=sample.skipped,
            accepted=found.accepted, rejected=found.rejected, verdicts=found.verdicts, unexpected=found.unexpected,
            tally=found.tally,
        )  # fmt: skip
        if found.book is None:
            self._board.sample_done()
        else:
            found.book.number = number
            self._engine.feed(found.book)

    def _again(self, sample: Sample) -> Again | None:
        """fn's own say in which results are made again, if it has one."""
        again = getattr(self._fn, "again", None)
        if self._redo.word == ERRORS:  # entries that are errors run again anyway; these were saved as results
            return Again(lambda entry, position: True, may=lambda verdict, run_id: verdict == "JudgeError")
        if again is None:
            return None
        verdicts = getattr(self._fn, "again_verdicts", None)
        ask = Again(lambda entry, position: bool(again(entry, _task_of(sample, position))))
        if verdicts is None:
            return ask
        return replace(ask, may=lambda verdict, run_id: verdict in verdicts and self._has_other_settings(run_id))

    def _is_fresh(self, sample: Sample, run_id: str, context: str) -> bool:
        return not self._has_other_settings(run_id) and context in ("", sample.context)

    def _has_other_settings(self, run_id: str) -> bool:
        return bool(self._changes_since(run_id))

    def _changes_since(self, run_id: str) -> list[str]:
        """What differs from the settings of an earlier run; [] where nothing is known to differ."""
        if run_id not in self._changes:
            run = self._store.earlier_runs.get(run_id)
            self._changes[run_id] = [] if run is None else self._settings.changes(run)
        return self._changes[run_id]

    def _count_changes(self, sample: Sample, found: Found) -> None:
        """Results of other settings are reported with the first of them, not at the end."""
        others = {run_id: n for run_id, n in found.runs.items() if self._has_other_settings(run_id)}
        contexts = sum(n for context, n in found.contexts.items() if context not in ("", sample.context))
        if others:
            self._other_settings += sum(others.values())
            lines = self._changes_since(max(others, key=lambda run_id: others[run_id]))
            more = f" and {len(lines) - 2:,} more" if len(lines) > 2 else ""
            self._count("settings", self._other_settings, f"made under other settings ({'; '.join(lines[:2])}{more})")
        if contexts:
            self._other_contexts += contexts
            self._count("contexts", self._other_contexts, "of samples whose tests or limits have changed since")
        if found.changed:
            self._unmatched += found.changed
            kept = counted(self._unmatched, "saved result")
            self._counts["unmatched"] = f"{kept} without an item in their sample now: kept."

    def _count(self, kind: str, count: int, what: str) -> None:
        is_first = kind not in self._counts
        kept = f"{counted(count, 'saved result')} {what}: kept."
        self._counts[kind] = f'{kept} Start with redo="changed" to make them again.'
        if is_first:
            self._board.note_log(time.time(), "notice", self._counts[kind])

    def _halt_feed(self, e: BaseException) -> None:
        if isinstance(e, SampleError):
            what = f"The samples can't be read on: {e}"
        elif isinstance(e, (InputError, OSError)):
            what = f"The run can't read on: {str(e).rstrip('.')}."
        else:
            what = f"The iterator of the samples raised {type(e).__name__}: {str(e).rstrip('.')}."
        self.halt = _halted(f"{what} What was read before is run to its end and saved.", e)
        self.note(str(self.halt))

    def _end(self) -> State:
        """Saves everything and gives the directory up."""
        engine, store = self._engine, self._store
        self._note_problems()
        stopped = engine.standing.is_draining
        if not stopped and self.halt is None and (gone := store.unvisited):
            are = "samples in the directory are" if gone > 1 else "sample in the directory is"
            self.note(f"{gone:,} {are} not among the samples of this run; the results are kept and are loaded.")
        if stopped and engine.flag.is_set:
            engine.wait_for_workers(ABANDON_AFTER_S)
            store.journal.refuse()
        clean = store.finish()
        while not clean and engine.wait_for_resume():
            clean = store.finish()
        if not clean and engine.standing.broken is None:  # stopped after a fault, which may be mended
            store.mend(wherever_it_is=True)
            clean = store.finish()
        if not clean and engine.standing.broken is None and (lost := store.unsaved):
            self.note(f"{lost:,} results that had ended could not be saved; their tasks count as missing.")
        store.close(5.0, clean=clean)
        self._note_problems()
        self._close_fn()
        self.halt = engine.standing.broken or self.halt
        if self.halt is not None:
            return State.HALTED
        return State.STOPPED if stopped or engine.standing.is_draining or not clean else State.DONE

    def _close_fn(self) -> None:
        close = getattr(self._fn, "close", None)
        if callable(close):
            try:
                close()
            except Exception as e:  # the results are safe; the user's code is told about, not obeyed
                self.note(f"fn.close() raised {type(e).__name__}: {e}")


def _halted(message: str, cause: BaseException) -> RunHaltedError:
    error = RunHaltedError(message)
    error.__cause__ = cause
    return error


def _of_suspects(count: int) -> str:
    if count == 1:
        return "1 task was running when an earlier run died, twice; it runs last and alone."
    return f"{count:,} tasks were running when an earlier run died, twice; they run last, one by one."


def _task_of(sample: Sample, position: int) -> Any:
    from nbrun.model import Task

    group, rank = sample.locate(position)
    index = group.runnable[rank]
    return Task(sample.id, group.name, index, fresh_copy(group.items[index]), sample.raw)
