"""watch(): one view of several results directories that other kernels or processes fill. It only reads.

Threads: the thread "nbrun-watch" looks at the directories one after another; views ask `Watch` from any thread. `_lock`
protects what a look found; it is never held while a directory is read.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun import panel
from nbrun.errors import InputError, NbrunError, hides_own_frames
from nbrun.formatting import count_text, counted
from nbrun.model import Progress, RunControls, State, TaskSummary
from nbrun.progress import ProgressTracker
from nbrun.results import reader
from nbrun.results.follow import Counts, Follower, complete
from nbrun.results.format import FOLDER
from nbrun.session.arguments import check_view
from nbrun.session.run import show
from nbrun.storage.lock import holder_of, host_name
from nbrun.texts import shorten
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
    is_number = isinstance(every_s, (int, float)) and not isinstance(every_s, bool)
    if not is_number or not 0 < every_s < math.inf:
        raise InputError(f"every_s={every_s!r}: give a number of seconds above 0.")
    watching = Watch(_read_paths(results), float(every_s))
    show(watching, view, watching._notify)
    return watching


def _read_paths(results: Any) -> list[Path]:
    given = [results] if isinstance(results, (str, os.PathLike)) else results
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise InputError(f"results={results!r:.80}: give the path of a folder, or a list of paths.")
    paths = []
    for one in given:
        if not isinstance(one, (str, os.PathLike)) or not str(one) or "\0" in str(one):
            raise InputError(f"results: {one!r:.80} is no path of a folder.")
        path = Path(os.path.abspath(os.path.expanduser(one)))
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file. Give the folder that a run writes into.")
        paths.append(path)
    if not paths:
        raise InputError("results is empty: give at least one folder.")
    return list(dict.fromkeys(paths))


class Watch:
    """Several results directories, as `nbrun.watch` shows them.

    Attributes:
        directories: their paths.
    """

    def __init__(self, paths: Sequence[Path], every_s: float) -> None:
        self.directories = tuple(map(str, paths))
        self._every_s = every_s
        self._followers = [Follower(path) for path in paths]
        self._tracker = ProgressTracker()
        self._lock = threading.Lock()  # protects what follows
        self._numbers: dict[tuple[int, str], int] = {}  # place of the directory, sample id -> number on the tracker
        self._labels: dict[str, tuple[int, str]] = {}  # what a row is called -> place of the directory, sample id
        self._counted: list[Counts] = []  # by that number
        self._state = State.PAUSED
        self._words = ["not read yet"] * len(paths)  # how each directory is, in a word or two
        self._message = ""
        self._notice = ""
        self._changed_at = [-math.inf] * len(paths)  # when each was found changed, on monotonic's clock
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
        with self._lock:
            state, message = self._state, " ".join(filter(None, [self._message, self._notice]))
        now = self._tracker.snapshot(state, message=message, results=_common(self.directories))
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
        from nbrun.panel.static import static_html, static_text  # few watches need it

        progress = self.progress
        return {"text/html": static_html(progress), "text/plain": static_text(progress)}

    def _show_console(self) -> None:
        from nbrun import console

        self._looked.wait(2.0)  # so that the first line has numbers
        self._console = console.show(self._controls)

    def _notify(self, text: str) -> None:
        with self._lock:
            self._notice = text

    # ---- the thread that looks

    def _run(self) -> None:
        state = State.STOPPED
        try:
            is_first = True
            while not self._stopping.is_set():
                began = time.thread_time()
                is_done = self._look(is_first)
                is_first = False
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
            with self._lock:
                self._state = state
            self._looked.set()
            self._ended.set()

    def _look(self, is_first: bool) -> bool:
        """Look at each directory once. Return whether everything is done."""
        words, sentences, are_done, are_written = [], [], [], []
        for place, follower in enumerate(self._followers):
            # asked before looking: what a run writes until it ends is then read, and nothing comes after that
            is_held, trouble = bool(holder_of(follower.path / FOLDER / "lock")), ""
            try:
                changed = follower.look()
            except (OSError, NbrunError, ValueError) as e:
                changed, trouble = set(), f"can't be read: {e}"
            self._take(place, follower, changed)
            is_done = follower.is_there and complete(follower.counts.values(), follower.totals)
            is_written = is_held or (not is_done and self._changes_from_afar(place, follower, changed))
            words.append("unreadable" if trouble else _word(follower, is_written, is_done))
            sentences.append(trouble or _what_is_left(follower))
            are_done.append(is_done and not is_written and not trouble)
            are_written.append(is_written)
            if self._stopping.is_set():
                return False
        self._set_totals()
        if is_first:
            self._tracker.begin_watching()
        if any(are_written):
            self._tracker.resume()
        else:
            self._tracker.pause()
        with self._lock:
            self._state = State.RUNNING if any(are_written) else State.PAUSED
            self._words = words
            self._message = self._sentence(sentences, are_written, are_done)
        return all(are_done)

    def _changes_from_afar(self, place: int, follower: Follower, changed: Iterable[str]) -> bool:
        """Return whether a run on another host has saved something lately."""
        if changed and self._looked.is_set():
            self._changed_at[place] = time.monotonic()
        is_far = follower.host not in ("", host_name())
        return is_far and time.monotonic() - self._changed_at[place] < RECENT_S

    def _take(self, place: int, follower: Follower, changed: Iterable[str]) -> None:
        """Bring the tracker up to date with a directory's samples, those that are new in the order of their ids."""
        for sample_id in sorted(changed):
            now = follower.counts.get(sample_id, Counts())
            with self._lock:
                number = self._numbers.get((place, sample_id))
                if number is None:
                    label = self._label(place, sample_id)
                    number = self._numbers[place, sample_id] = self._tracker.add_sample(label, 0)
                    self._counted.append(Counts())
                before, self._counted[number] = self._counted[number], now
            self._tracker.replace_counts(number, before, now)
        for note in follower.recent_errors:
            self._tracker.note_error(note)
        follower.recent_errors.clear()

    def _label(self, place: int, sample_id: str) -> str:
        """Return what a sample's row is called: its id, and its folder too if another one has a sample of that id."""
        label = sample_id
        if label in self._labels:
            label = f"{sample_id} ({_name(self.directories[place])})"
        if label in self._labels:
            label = f"{sample_id} ({self.directories[place]})"
        self._labels[label] = (place, sample_id)
        return label

    def _set_totals(self) -> None:
        """Set the totals of all directories, which are known once each of them has been counted by its run."""
        tasks = samples = 0
        for follower in self._followers:
            totals = follower.totals
            if totals is None or not totals.is_known:
                self._tracker.set_totals(None, None)
                return
            here = follower.counts.values()
            tasks += max(sum((totals.tasks or {}).values()), sum(c.total for c in here))
            samples += max(totals.samples or 0, len(here))
        self._tracker.set_totals(tasks, samples)

    def _sentence(self, ends: Sequence[str], are_written: Sequence[bool], are_done: Sequence[bool]) -> str:
        """What needs saying of directories that are neither written nor done."""
        odd = [
            f"{_name(path)} {end}"
            for path, end, written, done in zip(self.directories, ends, are_written, are_done, strict=True)
            if not (written or done)
        ]
        if not odd:
            return ""
        more = f"; and {counted(len(odd) - NAMED, 'more folder')}" if len(odd) > NAMED else ""
        return f"{'; '.join(odd[:NAMED])}{more}."


def _word(follower: Follower, is_written: bool, is_done: bool) -> str:
    """How a directory is, for a column of a table."""
    if not follower.is_there:
        return "missing"
    return "running" if is_written else "done" if is_done else "no run"


def _what_is_left(follower: Follower) -> str:
    """Complete the sentence "FOLDER …" for a directory in which no run writes."""
    if not follower.is_there:
        return "is not there yet"
    left = sum(c.total - c.done - c.errors for c in follower.counts.values())
    if follower.totals is not None and follower.totals.is_known:
        ended = sum(c.done + c.errors for c in follower.counts.values())
        left = max(left, sum((follower.totals.tasks or {}).values()) - ended)
        return f"has {counted(left, 'task')} left and no run"
    return f"has at least {counted(left, 'task')} left and no run" if left else "has no run"


def _name(path: str) -> str:
    return shorten(os.path.basename(path) or path, 60, keep="end")


def _common(directories: Sequence[str]) -> str:
    """A short text for the directories: the path of one, the common folder of several."""
    if len(directories) == 1:
        return directories[0]
    return f"{os.path.commonpath(directories)} ({len(directories)} folders)"


class WatchControls(RunControls):
    """What a view may do to a watch: only end it. The runs are steered where they run.

    Threads: every method may be called from any thread.
    """

    def __init__(self, watching: Watch) -> None:
        self._watch = watching

    @property
    def progress(self) -> Progress:
        """See Watch."""
        return self._watch.progress

    def stop(self, drain: bool = True) -> None:
        """End the watch."""
        self._watch.stop()

    def find_unread(self, text: str, limit: int) -> tuple[Sequence[str], int]:
        """Return nothing: samples whose ids are known are all shown."""
        return (), 0

    def tasks(self, sample_id: str) -> Sequence[TaskSummary]:
        """Return the saved tasks of a sample."""
        found = self._place_of(sample_id)
        return [] if found is None else reader.read_rows(*found)

    def entry(self, sample_id: str, group: str, index: int) -> Mapping[str, Any] | None:
        """Return a task's saved entry, or None."""
        found = self._place_of(sample_id)
        return None if found is None else reader.read_entry(*found, group, index)

    def _place_of(self, label: str) -> tuple[Path, str] | None:
        """Return the directory and the id of the sample whose row has this label; None if the directory is gone."""
        with self._watch._lock:
            found = self._watch._labels.get(label)
        if found is None:
            return None
        path = self._watch._followers[found[0]].path
        return (path, found[1]) if path.is_dir() else None

    def health(self) -> Sequence[Mapping[str, Any]]:
        """Return a row for each directory: its name, how it is, and what is saved there."""
        watching = self._watch
        with watching._lock:
            words = list(watching._words)
            sums = [[0, 0, 0] for _ in words]
            for (place, _), number in watching._numbers.items():
                one = watching._counted[number]
                for i, n in enumerate((one.done, one.total, one.errors)):
                    sums[place][i] += n
        rows = zip(watching.directories, words, sums, strict=True)
        return [
            {
                "name": _name(path),
                "state": word,
                "in_flight": errors,
                "last_error": f"{done:,} of {total:,} tasks",
            }
            for path, word, (done, total, errors) in rows
        ]
