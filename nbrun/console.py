"""The view of a run where no notebook is: tqdm bars in a terminal, plain lines in a log.

In a terminal there is one bar for all tasks and one for each of a few samples at work; several runs share the screen.
What tasks print appears above the bars. Anywhere else there are no control characters: a line every ten seconds, and
one at the end.

Threads: a Console starts one daemon thread that draws; it ends with the run. `close` and a task's output may come from
any thread.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from nbrun.model import Progress, RunControls, SampleProgress, State
from nbrun.output import RunOutput, flush_leniently, stream_of, write_leniently
from nbrun.progress import end_text, eta_text
from nbrun.texts import count_text, rate_text

if TYPE_CHECKING:
    from tqdm import tqdm

#: How often the bars and the lines are drawn, and when the first line is. A log is silent for less than 10 s.
BARS_S, LINES_S, FIRST_LINE_S = 0.2, 9.5, 2.0
#: How many characters of the tasks' output are kept until the bars are drawn next. A task that prints more waits.
MOST_WAITING = 100_000
#: How long `wait_for_end` waits at most.
END_S = 2.0
#: How many samples at work have a bar of their own.
SAMPLE_BARS = 4
_DIGITS = re.compile(r"\d[\d,.]*")
#: The width of a terminal that doesn't report one.
COLUMNS = 80
_SAMPLE_FORMAT = "  {desc} |{bar}| {n_fmt}/{total_fmt}"


class Console:
    """Draws a run's progress in a thread of its own, until the run ends.

    Args:
        controls: the run.
        file: where to write; standard error if it isn't given. Bars are drawn only in a terminal.
        output: what the run's tasks print. It is shown above the bars, if there are any.
    """

    def __init__(self, controls: RunControls, file: TextIO | None = None, output: RunOutput | None = None) -> None:
        self._controls, file = controls, sys.stderr if file is None else file
        self._view = Bars(file) if _is_terminal(file) else Lines(file)
        self._output = output
        if output is not None and isinstance(self._view, Bars):
            output.sink = self._view.print
        self._closing = threading.Event()
        self._lock = threading.Lock()  # protects _finished, so that the end is drawn once
        self._finished = False
        self._says_end = True
        self._thread = threading.Thread(target=self._run, name="nbrun-console", daemon=True)
        self._thread.start()

    def close(self, *, says_end: bool = True) -> None:
        """Draw the last state and end. A second call does nothing.

        Args:
            says_end: write a line of words too.
        """
        self._says_end = says_end
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
            if self._thread.is_alive():
                return  # stuck in a pipe that nothing reads: don't wait for that
        self._finish()

    def wait_for_end(self) -> None:
        """Wait until the end of the run is drawn. The run has ended, and the script may end right after it."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=END_S)

    def _run(self) -> None:
        try:
            while True:
                progress = self._controls.progress
                if progress.ended:
                    break
                self._view.draw(progress)
                if self._closing.wait(BARS_S):
                    break
            self._finish()
        except (OSError, ValueError):  # the terminal or the pipe is gone, which must not affect the run
            if self._output is not None:
                self._output.sink = None

    def _finish(self) -> None:
        with self._lock:
            if self._finished:
                return
            self._finished = True
        if self._output is not None:
            self._output.sink = None
        try:
            self._view.end(self._controls.progress, self._says_end)
        except (OSError, ValueError):
            pass  # as above


class Bars:
    """tqdm's bars: all tasks on top, then a line of words, then samples at work."""

    def __init__(self, file: TextIO) -> None:
        from tqdm import tqdm

        # tqdm would start a monitor thread that outlives the run; other bars of the process keep theirs.
        self._tqdm: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
        self._file = file
        self._all: tqdm[Any] = self._bar(unit="task", leave=True)
        self._words: tqdm[Any] = self._bar(leave=False, bar_format="  {desc}")
        self._samples: list[tqdm[Any]] = []
        self._new = True
        self._open: dict[int, SampleProgress] = {}  # samples with tasks left
        self._version = 0
        self._lock = threading.Lock()  # protects _lines and _size
        self._lines: list[tuple[str, str]] = []  # that tasks have written, with the names of their streams
        self._size = 0

    def print(self, stream: str, text: str) -> None:
        """Show what a task has written above the bars, when they are drawn next; called in any thread."""
        with self._lock:
            self._lines.append((stream, text))
            self._size += len(text)
            is_full = self._size > MOST_WAITING
        if is_full:
            self._print_lines()

    def _print_lines(self) -> None:
        """Write each line to the stream that it was meant for, while all bars of the terminal are taken away."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        if not lines:
            return
        with self._tqdm.external_write_mode(file=self._file):
            for stream, text in lines:
                write_leniently(stream_of(stream), text)
            for stream in dict(lines):
                flush_leniently(stream_of(stream))

    def draw(self, progress: Progress) -> None:
        self._print_lines()
        self._draw_all(progress)
        self._draw_samples(progress)

    def end(self, progress: Progress, says_end: bool = True) -> None:
        self._print_lines()
        for bar in [*reversed(self._samples), self._words]:
            bar.close()
        self._samples = []
        self._draw_all(progress)
        self._all.close()
        if says_end:
            self._tqdm.write(end_text(progress), file=self._file)  # above the bars of other runs
        self._file.flush()

    def _bar(self, **options: Any) -> tqdm[Any]:
        """Add a bar on the next free line: bars of other runs, or of the user, keep theirs."""
        bar: tqdm[Any] = self._tqdm(
            total=None,
            file=self._file,
            dynamic_ncols=True,
            mininterval=0,  # the thread above decides when to draw
            miniters=1,
            smoothing=0.02,  # about 10 s at five draws a second
            **options,
        )
        return bar

    def _draw_all(self, progress: Progress) -> None:
        bar = self._all
        ended = progress.done + progress.errors
        if self._new:
            self._new = False
            bar.initial = bar.n = bar.last_print_n = min(progress.resumed, ended)  # earlier runs' work is not its rate
        bar.total = progress.total
        name = _one_line(os.path.basename(progress.results)) or "nbrun"
        words = name if progress.state == State.RUNNING else f"{name} {progress.state.value}"
        bar.set_description_str(words, refresh=False)
        bar.set_postfix_str(_ends(progress), refresh=False)
        bar.update(ended - bar.n)
        bar.refresh()
        if not progress.ended:
            words = _one_line(progress.message) or _fitting(_verdicts(progress), self._columns() - 3)
            self._words.set_description_str(words, refresh=True)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._file.fileno()).columns or COLUMNS
        except (OSError, ValueError):
            return COLUMNS

    def _draw_samples(self, progress: Progress) -> None:
        self._note_open(progress)
        shown = [self._open[number] for number in sorted(progress.at_work) if number in self._open][:SAMPLE_BARS]
        while len(self._samples) > len(shown):
            self._samples.pop().close()
        while len(self._samples) < len(shown):
            self._samples.append(self._bar(leave=False, bar_format=_SAMPLE_FORMAT))
        for bar, sample in zip(self._samples, shown, strict=True):
            bar.total = sample.total
            bar.n = sample.done + sample.errors
            bar.set_description_str(f"{_one_line(sample.sample_id):<24.24}", refresh=False)
            bar.refresh()

    def _note_open(self, progress: Progress) -> None:
        """Note which samples have tasks left, by what has changed since they were drawn."""
        for sample in progress.since(self._version):
            if sample.left:
                self._open[sample.number] = sample
            else:
                self._open.pop(sample.number, None)
        self._version = progress.version


class Lines:
    """A line every ten seconds, for logs."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._due = self._clock() + FIRST_LINE_S
        self._state = State.RUNNING
        self._sentences = {""}  # of messages, without numbers: one that was written before waits for the next line

    def draw(self, progress: Progress) -> None:
        now = self._clock()
        sentences = set(_DIGITS.sub("", progress.message).split(". "))
        if now < self._due and progress.state is self._state and sentences <= self._sentences:
            return
        self._due, self._state = now + LINES_S, progress.state
        self._sentences = sentences | (self._sentences if len(self._sentences) < 100 else {""})
        self._write(_line(progress))

    def end(self, progress: Progress, says_end: bool = True) -> None:
        if says_end:
            self._write(end_text(progress))

    def _write(self, line: str) -> None:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        text = _one_line(line).encode(encoding, "replace").decode(encoding)  # a log's encoding may be ASCII
        self._file.write(f"{text}\n")
        self._file.flush()


def _is_terminal(file: TextIO) -> bool:
    try:
        return file.isatty()
    except (AttributeError, ValueError):
        return False


def _ends(progress: Progress) -> str:
    of = "" if progress.samples_total is None else f"/{progress.samples_total:,}"
    errors = f"errors={progress.errors:,}, " if progress.errors else ""
    return f"{errors}samples={progress.samples_done:,}{of}"


def _verdicts(progress: Progress) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in sorted(progress.verdicts.items(), key=lambda item: -item[1]))


def _fitting(words: str, columns: int) -> str:
    """Cut a list so that it fits into the line and ends with a whole word."""
    if len(words) <= columns:
        return words
    return words[: columns - 2].rpartition(", ")[0] + ", …"


def _line(progress: Progress) -> str:
    words = [f"{progress.state.value.capitalize()}: {count_text(progress)}", rate_text(progress.rate_per_s)]
    words += [eta_text(progress), _verdicts(progress), progress.message]
    return ", ".join(filter(None, words))


def _one_line(text: str) -> str:
    """Replace control characters: an id or a message must not control the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
