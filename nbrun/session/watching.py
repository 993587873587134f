"""watch(): one view of several results directories that other kernels or processes fill. It only reads.

Threads: the thread "nbrun-watch" looks at the directories one after another; views ask `Watch` from any thread. They
see what the last look found: it is published by single assignments of objects that don't change afterwards.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nbrun import panel
from nbrun.errors import InputError, NbrunError, hides_own_frames
from nbrun.model import Progress, RunControls, SavedCounts, State, TaskSummary
from nbrun.progress import ProgressTracker
from nbrun.results import reader
from nbrun.results.follow import Follower, complete
from nbrun.results.format import FOLDER
from nbrun.session.arguments import as_path, check_view
from nbrun.session.run import show
from nbrun.storage.lock import holder_of, host_name
from nbrun.texts import count_text, counted, shorten
from nbrun.threads import start_daemon

if TYPE_CHECKING:
    import pandas as pd

POLL_S = 0.1
#: Looking takes at most this share of the time of one core.
BUSY_SHARE = 0.05
#: Not every network file system shows other hosts a lock. There a directory counts as being written for as many seconds
#: after its last change.
RECENT_S = 60.0
#: How many directories the message names.
NAMED = 3


@hides_own_frames
def watch(
    results: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    every_s: float = 1.0,
    view: str | None = "auto",
) -> Watch:
    """Show the progress of runs that other kernels, jobs or machines make, in one panel. Only reads.

    A directory may be missing at first: it counts as soon as it is there. A run that dies, is started again or is
    archived meanwhile is shown as what it is; each look reads only what has changed since the last one.

    Args:
        results: a results directory, or several: the shards of one job, say.
        every_s: how often to look, in seconds. Where looking takes long it is less often, so that it takes at most a
            twentieth of a core.
        view: "auto", "panel", "console" or None, as for `nbrun.start`.

    Returns:
        A Watch; the call does not wait. The watch ends by `stop()`, or once everything is done and no run writes to
        any of the directories.

    Raises:
        InputError: an argument that can't be right.

    Example:
        >>> import nbrun, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> nbrun.start([{"id": 1, "solutions": ["a", "b"]}], lambda task: {}, folder, view=None).wait().done
        2
        >>> nbrun.watch([folder], view=None).wait().done
        2
    """
    check_view(view)
    if isinstance(every_s, bool) or not isinstance(every_s, (int, float)) or not 0 < every_s < 1e9:
        raise InputError(f"every_s={every_s!r}: give a number of seconds above 0.")
    watching = Watch(_read_paths(results), float(every_s))
    show(watching, view, watching._notify)
    return watching


def _read_paths(results: Any) -> list[Path]:
    given = [results] if isinstance(results, (str, os.PathLike)) else results
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise InputError(f"results={results!r:.80}: give the path of a folder, or a list of paths.")
    paths = list(dict.fromkeys(map(_read_path, given)))
    if not paths:
        raise InputError("results is empty: give at least one folder.")
    return paths


def _read_path(value: object) -> Path:
    path = as_path(value)
    if path is None:
        raise InputError(f"results: {value!r:.80} is no path of a folder.")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file. Give the folder that a run writes into.")
    return path


class Watch:
    """Several results directories, as `nbrun.watch` shows them.

    Attributes:
        directories: their paths.
    """

    def __init__(self, paths: Sequence[Path], every_s: float) -> None:
        self.directories = tuple(map(str, paths))
        self._every_s = every_s
        self._tracker = ProgressTracker()
        self._watched = [_Directory(path) for path in paths]  # used by the thread that looks
        self._samples: dict[str, _SampleOf] = {}  # by what their rows are called; each operation is atomic
        self._seen = _Seen(State.PAUSED, "", [directory.row() for directory in self._watched])
        self._notice = ""
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._looked = threading.Event()
        self._controls = WatchControls(self)
        self._console: Any = None
        self._thread = start_daemon(self._run, "nbrun-watch")

    # ---- for the user

    @property
    def progress(self) -> Progress:
        """An immutable snapshot of all directories together, as of the last look."""
        seen = self._seen
        message = " ".join(filter(None, [seen.message, self._notice]))
        where = self.directories[0]
        if len(self.directories) > 1:
            where = f"{os.path.commonpath(self.directories)} ({len(self.directories)} folders)"
        now = self._tracker.snapshot(seen.state, message=message, results=where)
        return replace(now, saved=now.done, watched=self.directories)

    def wait(self, timeout: float | None = None) -> Progress:
        """Wait until everything is done and no run writes any more, until `stop()`, or for `timeout` seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._ended.is_set() and (left := end - time.monotonic()) > 0:
            self._ended.wait(min(POLL_S, left))
        if self._console is not None and self._ended.is_set():
            self._console.wait_for_end()
        return self.progress

    def __await__(self) -> Generator[Any, None, Progress]:
        return self._until_ended().__await__()

    async def _until_ended(self) -> Progress:
        import asyncio  # slow to load; who awaits has it

        while not self._ended.is_set():
            await asyncio.sleep(POLL_S)
        return self.progress

    def stop(self) -> None:
        """End the watch. The runs go on."""
        self._stopping.set()

    def results(self) -> pd.DataFrame:
        """The results of all directories that are there, as one frame: nbrun.load_results([…])."""
        from nbrun.frames import load_results

        there = [path for path in self.directories if os.path.isdir(path)]
        return load_results(there)

    def panel(self) -> Any:
        """Show the panel here."""
        return panel.show(self._controls)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ended.wait()

    def __repr__(self) -> str:
        p = self.progress
        return f"<nbrun.Watch of {counted(len(self.directories), 'folder')}: {p.state.value}, {count_text(p)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return panel.mime_bundle(self.progress)

    def _show_console(self) -> None:
        from nbrun import console

        self._looked.wait(2.0)  # so that the first line has numbers
        self._console = console.Console(self._controls)

    def _notify(self, text: str) -> None:
        self._notice = text

    # ---- the thread that looks

    def _run(self) -> None:
        state = State.STOPPED
        try:
            while not self._stopping.is_set():
                began = time.thread_time()
                is_done = self._look()
                self._looked.set()
                if is_done:
                    state = State.DONE
                    break
                self._stopping.wait(max(self._every_s, (time.thread_time() - began) / BUSY_SHARE))
        except BaseException as e:  # a fault of nbrun's own must end the watch, not hang it
            state = State.HALTED
            self._notify(f"The watch ended: {type(e).__name__}: {e}")
        finally:
            self._tracker.finish()
            self._seen = self._seen._replace(state=state)
            self._looked.set()
            self._ended.set()

    def _look(self) -> bool:
        """Look at each directory once. Return whether everything is done."""
        is_first = not self._looked.is_set()
        for directory in self._watched:
            self._take(directory, directory.look(is_first))
            if self._stopping.is_set():
                return False
        self._set_totals()
        if is_first:
            self._tracker.begin_watching()
        self._publish()
        return all(directory.is_done for directory in self._watched)

    def _publish(self) -> None:
        """Let views see what the look has found."""
        if any(directory.is_written for directory in self._watched):
            state = State.RUNNING
            self._tracker.resume()
        else:
            state = State.PAUSED
            self._tracker.pause()
        self._seen = _Seen(state, self._message(), [directory.row() for directory in self._watched])

    def _message(self) -> str:
        """Return what is left in the directories that need saying; "" if none does."""
        odd = [f"{directory.name} {directory.what_is_left()}" for directory in self._watched if directory.is_odd]
        if len(odd) > NAMED:
            odd[NAMED:] = [f"and {counted(len(odd) - NAMED, 'more folder')}"]
        return f"{'; '.join(odd)}." if odd else ""

    def _take(self, directory: _Directory, changed: Iterable[str]) -> None:
        """Bring the tracker up to date with a directory's samples, those that are new in the order of their ids."""
        for sample_id in sorted(changed):
            now = directory.follower.counts.get(sample_id, SavedCounts())
            if sample_id not in directory.taken:
                number = self._tracker.add_sample(self._label(directory, sample_id), 0)
                directory.taken[sample_id] = _Taken(number, SavedCounts())
            number, before = directory.taken[sample_id]
            directory.taken[sample_id] = _Taken(number, now)
            self._tracker.replace_counts(number, before, now)
        for note in directory.follower.recent_errors:
            self._tracker.note_error(note)
        directory.follower.recent_errors.clear()

    def _label(self, directory: _Directory, sample_id: str) -> str:
        """Return what a sample's row is called: its id, and its folder too if another one has a sample of that id."""
        label, *longer = (sample_id, f"{sample_id} ({directory.name})", f"{sample_id} ({directory.path})")
        while label in self._samples and longer:
            label = longer.pop(0)
        self._samples[label] = _SampleOf(directory.path, sample_id)
        return label

    def _set_totals(self) -> None:
        """Set the totals of all directories, which are known once each of them has been counted by its run."""
        tasks = samples = 0
        for directory in self._watched:
            totals = directory.follower.totals
            if totals is None or not totals.is_known:
                self._tracker.set_totals(None, None)
                return
            tasks += max(totals.task_count or 0, directory.total)
            samples += max(totals.samples or 0, len(directory.follower.counts))
        self._tracker.set_totals(tasks, samples)


class _Seen(NamedTuple):
    """What a look found: how the watch is, what needs saying, and a row for each directory."""

    state: State
    message: str
    rows: list[dict[str, Any]]


class _SampleOf(NamedTuple):
    """A sample, and the directory that it is in."""

    path: Path
    sample_id: str


class _Taken(NamedTuple):
    """What the tracker has of a sample: under which number, and its counts."""

    number: int
    counts: SavedCounts


class _Directory:
    """A directory as of the last look.

    Attributes:
        taken: sample id -> what the tracker has of it.
        is_written: a run writes there.
        is_done: everything is done, and no run writes there.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, shorten(os.path.basename(path) or str(path), 60, keep="end")
        self.follower = Follower(path)
        self.taken: dict[str, _Taken] = {}
        self.is_written = self.is_done = False
        self.total = self._done = self._errors = 0
        self._trouble = ""
        self._is_complete: bool | None = None  # None before the first look
        self._changed_at = -math.inf  # on monotonic's clock

    def look(self, is_first: bool) -> set[str]:
        """Look what is there now. Return the ids of the samples that have changed."""
        # asked before looking: what a run writes until it ends is then read, and nothing comes after that
        is_held = bool(holder_of(self.path / FOLDER / "lock"))
        follower, changed = self.follower, self._follow()
        is_complete = follower.is_there and complete(follower.counts.values(), follower.totals)
        self.is_written = is_held
        if not (is_held or is_complete):
            if changed and not is_first:
                self._changed_at = time.monotonic()
            self.is_written = self._is_written_elsewhere()
        self.is_done = is_complete and not self.is_written and not self._trouble
        self._is_complete = is_complete
        return changed

    def _follow(self) -> set[str]:
        """Read what is new, and count what is saved. Return the ids of the samples that have changed."""
        changed, self._trouble = set[str](), ""
        try:
            changed = self.follower.look()
        except (OSError, NbrunError, ValueError) as e:
            self._trouble = f"can't be read: {e}"
        counts = self.follower.counts.values()
        self.total, self._done = sum(c.total for c in counts), sum(c.done for c in counts)
        self._errors = sum(c.errors for c in counts)
        return changed

    def _is_written_elsewhere(self) -> bool:
        """Return whether a run on another host, whose lock can't be seen here, has lately changed something."""
        is_recent = time.monotonic() - self._changed_at < RECENT_S
        return is_recent and self.follower.host not in ("", host_name())

    @property
    def _state(self) -> str:
        """How it is, in a word or two."""
        if self._is_complete is None:
            return "not read yet"
        if self._trouble:
            return "unreadable"
        if not self.follower.is_there:
            return "missing"
        if self.is_written:
            return "running"
        return "done" if self._is_complete else "no run"

    @property
    def is_odd(self) -> bool:
        """Whether it is neither written nor done, which needs saying."""
        return not (self.is_written or self.is_done)

    def what_is_left(self) -> str:
        """Complete the sentence "FOLDER …" for a directory in which no run writes."""
        if self._trouble:
            return self._trouble
        if not self.follower.is_there:
            return "is not there yet"
        ended, totals = self._done + self._errors, self.follower.totals
        left = self.total - ended
        if totals is not None and totals.is_known:
            left = max(left, (totals.task_count or 0) - ended)
            return f"has {counted(left, 'task')} left and no run"
        return f"has at least {counted(left, 'task')} left and no run" if left else "has no run"

    def row(self) -> dict[str, Any]:
        """Return a row for a table of endpoints: its name, how it is in a word or two, and what is saved there."""
        saved = f"{self._done:,} of {self.total:,} tasks"
        return {"name": self.name, "state": self._state, "in_flight": self._errors, "last_error": saved}


class WatchControls(RunControls):
    """What a view may do to a watch (see model.RunControls): only end it. The runs are steered where they run.

    Threads: every method may be called from any thread.
    """

    def __init__(self, watching: Watch) -> None:
        self._watch = watching

    @property
    def progress(self) -> Progress:
        return self._watch.progress

    def stop(self, drain: bool = True) -> None:
        self._watch.stop()

    def find_unread(self, text: str, limit: int) -> tuple[Sequence[str], int]:
        return (), 0  # samples whose ids are known are all shown

    def tasks(self, sample_id: str) -> Sequence[TaskSummary]:
        found = self._sample_of(sample_id)
        return [] if found is None else reader.read_rows(*found)

    def entry(self, sample_id: str, group: str, index: int) -> Mapping[str, Any] | None:
        found = self._sample_of(sample_id)
        return None if found is None else reader.read_entry(*found, group, index)

    def _sample_of(self, label: str) -> _SampleOf | None:
        """Return the sample whose row has this label; None if its directory is gone."""
        found = self._watch._samples.get(label)
        return found if found is not None and found.path.is_dir() else None

    def health(self) -> Sequence[Mapping[str, Any]]:
        """Return a row for each directory: its name, how it is, and what is saved there."""
        return self._watch._seen.rows
