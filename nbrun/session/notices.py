"""What a run has to report to its user besides counts: sentences that views show as the run's message.

`Notices` collects the sentences. `ChangedResults` compares saved results with the settings and samples of this run.

Threads: `Notices.add` and `Notices.texts` may be called from any thread. Only the thread `nbrun-feed` uses
ChangedResults, except for `count`, which any thread may read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from nbrun.formatting import counted
from nbrun.progress import ProgressTracker
from nbrun.results.listing import Problem
from nbrun.samples import Sample
from nbrun.session.settings import Settings
from nbrun.storage.match import Retyped
from nbrun.storage.resume import ResumePlan


class Notices:
    """The sentences of one run, in the order in which their subjects came up."""

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

    def add_deleted(self, names: Sequence[str]) -> None:
        """Report files that were deleted since the last run."""
        if len(names) == 1:
            self.add(f"Deleted since the last run: {names[0]}; its tasks run again.")
        elif names:
            self.add(f"Deleted since the last run: {names[0]} and {len(names) - 1:,} more; their tasks run again.")

    def add_problems(self, problems: Sequence[Problem]) -> None:
        """Report what could not be read and was not reported yet.

        Args:
            problems: everything so far that could not be read.
        """
        new = problems[self._problems_seen :]
        self._problems_seen += len(new)
        if new:
            more = f" and {len(new) - 1} more" if len(new) > 1 else ""
            self.add(f"Could not be read: {new[0]}{more}; nbrun.check lists the details.")

    def add_quarantined(self, count: int) -> None:
        """Report tasks that were running when an earlier run died, twice."""
        if count == 1:
            self.add("1 task was running when an earlier run died, twice; it runs last and alone.")
        elif count:
            self.add(f"{count:,} tasks were running when an earlier run died, twice; they run last, one by one.")

    def add_unvisited(self, count: int) -> None:
        """Report saved samples that are not among those of this run."""
        if count:
            are = "samples in the directory are" if count > 1 else "sample in the directory is"
            self.add(f"{count:,} {are} not among the samples of this run; the results are kept and are loaded.")

    def add_unknown_redo(self, ids: Sequence[str]) -> None:
        """Report ids in `redo=` that no sample has."""
        if ids:
            more = f" and {len(ids) - 1:,} more" if len(ids) > 1 else ""
            self.add(f"redo: no sample has the id {ids[0]!r}{more}.")


class ChangedResults:
    """Saved results that were made with other settings, or of samples or items that have changed since.

    They are kept, counted, and reported with the first of them.

    Args:
        settings: those of this run.
        earlier_runs: run_id -> run record.
        notices: where to report.

    Attributes:
        count: how many of them `redo="changed"` would run again.
    """

    def __init__(self, settings: Settings, earlier_runs: Mapping[str, Mapping[str, object]], notices: Notices) -> None:
        self._settings, self._earlier_runs, self._notices = settings, earlier_runs, notices
        self._changes: dict[str, list[str]] = {}  # run_id -> what differs from that run's settings
        self._other_settings = self._other_contexts = self._unmatched = 0
        self._tasks = 0
        self._retyped = Counter[str]()  # how items differ from saved ones -> how many do so
        self._first_retyped: Retyped | None = None

    @property
    def count(self) -> int:
        """How many results `redo="changed"` would make again."""
        return self._other_settings + self._other_contexts

    def is_current(self, sample: Sample, run_id: str, context: str) -> bool:
        """Return whether a result was made under this run's settings, of the sample as it is now."""
        return not self.has_other_settings(run_id) and context in ("", sample.context)

    def has_other_settings(self, run_id: str) -> bool:
        """Return whether an earlier run is known to have had other settings."""
        return bool(self._changes_since(run_id))

    def _changes_since(self, run_id: str) -> list[str]:
        """Return what differs from the settings of an earlier run; [] if nothing is known to differ."""
        if run_id not in self._changes:
            run = self._earlier_runs.get(run_id)
            self._changes[run_id] = [] if run is None else self._settings.changes(run)
        return self._changes[run_id]

    def add(self, sample: Sample, plan: ResumePlan) -> None:
        """Count and report the changed results of a sample."""
        self._tasks += plan.total
        self._add_settings({run_id: n for run_id, n in plan.runs.items() if self.has_other_settings(run_id)})
        self._add_contexts(sum(n for context, n in plan.contexts.items() if context not in ("", sample.context)))
        self._add_retyped(plan.retyped)
        self._add_unmatched(plan.changed)

    def _add_settings(self, others: Mapping[str, int]) -> None:
        if not others:
            return
        self._other_settings += sum(others.values())
        lines = self._changes_since(max(others, key=lambda run_id: others[run_id]))
        more = f" and {len(lines) - 2:,} more" if len(lines) > 2 else ""
        were = "result was" if self._other_settings == 1 else "results were"
        self._report(
            "settings",
            f"{self._other_settings:,} saved {were} made with other settings ({'; '.join(lines[:2])}{more}).",
        )

    def _add_contexts(self, n: int) -> None:
        if not n:
            return
        self._other_contexts += n
        are = "result is of a sample" if self._other_contexts == 1 else "results are of samples"
        self._report("contexts", f"{self._other_contexts:,} saved {are} whose tests or limits have changed since.")

    def _report(self, subject: str, text: str) -> None:
        """Report results that `redo="changed"` would make again."""
        self._notices.set(
            subject, f'{text} They are kept; start with redo="changed" to make them again.', is_logged=True
        )

    def _add_unmatched(self, n: int) -> None:
        if not n:
            return
        self._unmatched += n
        have = "result has" if self._unmatched == 1 else "results have"
        self._notices.set("unmatched", f"{self._unmatched:,} saved {have} no item in their sample now; they are kept.")

    def _add_retyped(self, found: Sequence[Retyped]) -> None:
        """Report items that hardly differ from saved ones: all of them may run again although that is not meant."""
        if not found:
            return
        first = self._first_retyped = self._first_retyped or found[0]
        self._retyped.update(one.how for one in found)
        how, n = self._retyped.most_common(1)[0]
        all_ = "all " if n == self._tasks > 1 else ""
        example = f" ({first.example})" if first.example and first.how == how else ""
        key = f"such as key=lambda item: item[{first.same!r}]" if first.same else "a function that is equal for both"
        verbs = ("differs", "it is", "runs", "item is") if n == 1 else ("differ", "they are", "run", "items are")
        differ, they_are, run, items_are = verbs
        self._notices.set(
            "retyped",
            f"{all_}{counted(n, 'item')} {differ} from the saved ones {how}{example}, so {they_are} new and {run} "
            f"again. If the same {items_are} meant, stop the run and start with key=, {key}, "
            "which finds what was saved without it.",
            is_logged=True,
        )
