"""The console's view: bars in a terminal, lines in a log, and a last line about how the run ended."""

from __future__ import annotations

import io
import re
import signal
import threading
from pathlib import Path

import pytest

from nbrun import console
from nbrun.model import Progress, State
from nbrun.progress import ProgressTracker
from tests.terminals import Terminal, screen
from tests.waiting import until


class Run:
    """A run as the console sees it: a tracker and a state. `looked` is released at each read of `progress`."""

    workers = 2

    def __init__(self, total: int | None = 10) -> None:
        self.tracker = ProgressTracker()
        self.tracker.add_sample("p\x1b[31m1", 10)
        self.tracker.set_totals(total, None if total is None else 1)
        self.state = State.RUNNING
        self.message = ""
        self.at_work = {0: 2}
        self.looked = threading.Semaphore(0)

    @property
    def progress(self) -> Progress:
        self.looked.release()
        return self.tracker.snapshot(self.state, at_work=self.at_work, results="out", message=self.message)

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def stop(self, drain: bool = True) -> None: ...
    def retry_errors(self) -> int:
        return 0

    def end(self, *verdicts: str | None) -> None:
        self.tracker.record(0, verdicts, ["ValueError"] * verdicts.count(None))

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            assert self.looked.acquire(timeout=60)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_for_end() -> None:
    until(lambda: not any(thread.name == "nbrun-console" for thread in threading.enumerate()), "the view has ended")


def test_the_view_ends_with_the_run_and_prints_how_it_ended() -> None:
    run, file = Run(), io.StringIO()
    shown = console.Console(run, file)
    run.look()
    run.end(*["Accepted"] * 9, None)
    run.state = State.DONE
    wait_for_end()
    shown.close()
    assert file.getvalue() == (
        "Done: 9 of 10 tasks, 1 error in 0 s. Start it again to retry the errors. "
        "nbrun.load_results('out') loads the results.\n"
    )


def test_a_log_gets_a_line_every_ten_seconds_without_control_characters() -> None:
    run, file, clock = Run(), io.StringIO(), Clock()
    lines = console.Lines(file, clock)
    for second in range(0, 185, 5):
        clock.now = second
        lines.draw(run.progress)
    assert len(file.getvalue().splitlines()) == 18, "the first after seconds, then one in ten seconds"
    run.message = "the disk\x1b[2J is\nfull"
    lines.draw(run.progress)
    lines.draw(run.progress)
    text = file.getvalue()
    assert len(text.splitlines()) == 19, "a message appears at once, and once"
    assert text.replace("\n", "").isprintable()
    for count in range(1, 1_500, 10):
        run.message = f"{count:,} tasks have been running for {count / 10} s"
        lines.draw(run.progress)
    assert len(file.getvalue().splitlines()) == 20, "other numbers make no new message"
    for run.message in ("", "1 tasks have been running for 2 s", "The disk is slow.") * 5:
        lines.draw(run.progress)
    assert len(file.getvalue().splitlines()) == 21, "a message that comes and goes appears at once only the first time"
    for run.state in (State.PAUSED, State.RUNNING) * 2:
        lines.draw(run.progress)
    assert len(file.getvalue().splitlines()) == 25, "a change of the state appears at once"


def test_a_stream_that_can_only_encode_ascii_gets_ascii() -> None:
    raw = io.BytesIO()
    run = Run()
    run.message = "Sample «α»"
    file = io.TextIOWrapper(raw, "ascii", write_through=True)
    console.Lines(file).draw(run.progress)
    assert b"Sample ?" in raw.getvalue()


@pytest.mark.parametrize("total", [10, None])
def test_bars_in_a_terminal(total: int | None) -> None:
    run, file = Run(total), Tty()
    console.Console(run, file)
    run.look()
    run.end("Accepted", "WrongAnswer", None)
    run.look()
    run.at_work = {}
    run.state = State.STOPPED
    wait_for_end()
    text = file.getvalue()
    assert "Accepted 1, WrongAnswer 1" in text
    assert "errors=1" in text
    assert "\x1b[31m" not in text, "an id can't control the terminal"
    assert "p [31m1" in text
    assert text.endswith("loads the results.\n")


def test_two_runs_at_the_same_time_have_separate_lines() -> None:
    file = Tty()
    runs = [Run(), Run()]
    views = [console.Bars(file) for _ in runs]
    for view, run in zip(views, runs, strict=True):
        view.draw(run.progress)
    shown = [line for line in screen(file.getvalue()) if line]
    assert [line.split()[0] for line in shown] == ["out:", "out:", "p", "p"], shown
    runs[0].state = State.DONE
    views[0].end(runs[0].progress)
    views[1].draw(runs[1].progress)
    assert file.getvalue().count("Done: 0 of 10 tasks") == 1
    runs[1].state = State.DONE
    views[1].end(runs[1].progress)
    assert file.getvalue().rstrip().endswith("loads the results.")


def test_close_draws_the_current_state_of_a_run_that_continues() -> None:
    run, file = Run(), io.StringIO()
    shown = console.Console(run, file)
    run.look()
    run.end("Accepted")
    shown.close()
    shown.close()
    wait_for_end()
    assert file.getvalue().startswith("Running: 1 of 10 tasks")
    assert len(file.getvalue().splitlines()) == 1


def test_a_closed_pipe_does_not_affect_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    run = Run()
    shown = console.Console(run, Gone())
    run.look()
    run.state = State.DONE
    wait_for_end()
    shown.close()


def test_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    run = Run()
    console.Console(run, Tty())
    run.look()
    run.state = State.DONE
    wait_for_end()
    assert set(threading.enumerate()) <= before


# ---- scripts in a terminal

SCRIPT = """
import logging, sys, threading, traceback
import nbrun

logging.basicConfig(level=logging.INFO)
many = threading.Event()

def fn(task):
    print("line of", task.item)
    print("error of", task.item, file=sys.stderr)
    logging.warning("warning of %s", task.item)
    if {hangs} and task.item == 5:
        many.wait(60)
    return {{}}

runs = [nbrun.start(range(6), fn, name, workers=2) for name in ("first", "second")]
if {hangs}:
    while any(r.progress.done < 5 for r in runs):
        many.wait(0.01)

    def report(main=threading.main_thread().ident):
        while not any(f.name in ("_wait", "select") for f in traceback.extract_stack(sys._current_frames()[main])):
            many.wait(0.01)
        print("ready", flush=True)

    threading.Thread(target=report, daemon=True).start()
{wait}
"""
WAIT = "for run in runs: run.wait()"
AWAIT = """
import asyncio
async def main():
    for run in runs:
        await run
asyncio.run(main())
"""


def in_terminal(script: str, folder: Path, *, interrupt: bool = False) -> tuple[str, int]:
    """Run a script in a terminal, interrupted once it is ready; return its output and its exit code."""
    (folder / "script.py").write_text(script)
    terminal = Terminal("script.py", cwd=folder)
    if interrupt:
        terminal.wait_until(lambda: "ready" in terminal.text)
        terminal.child.send_signal(signal.SIGINT)
    code = terminal.end()
    return terminal.text, code


def test_output_of_tasks_is_above_the_bars_of_all_runs_and_each_run_prints_its_end(tmp_path: Path) -> None:
    text, code = in_terminal(SCRIPT.format(hangs=False, wait=WAIT), tmp_path)
    assert code == 0, text
    for i in range(6):
        for line in (f"line of {i}", f"error of {i}", f"WARNING:root:warning of {i}"):
            assert len(re.findall(rf"(?:^|[\r\n]|\x1b\[A){line}\n", text)) == 2, f"{line}, on a line of its own"
    assert text.count("Done: 6 of 6 tasks") == 2


@pytest.mark.parametrize("wait", [WAIT, AWAIT])
def test_interrupting_a_script_that_waits_prints_one_sentence(wait: str, tmp_path: Path) -> None:
    text, code = in_terminal(SCRIPT.format(hangs=True, wait=wait), tmp_path, interrupt=True)
    assert "Traceback" not in text
    assert "run.wait()" not in text
    assert text.count("interrupted; the run on") == 2, "one for each run"
    assert text.count("5 of 6 tasks, and the same command goes on with what is missing.") == 2
    assert code == -signal.SIGINT, "a shell's loop ends too"


def test_other_exceptions_of_a_script_keep_their_traceback(tmp_path: Path) -> None:
    text, code = in_terminal(SCRIPT.format(hangs=False, wait=f"{WAIT}\n1 / 0"), tmp_path)
    assert "Traceback" in text
    assert "ZeroDivisionError" in text
    assert code == 1


def test_output_of_tasks_goes_to_the_file_that_the_script_has_made_its_stdout(tmp_path: Path) -> None:
    script = f"import sys\nsys.stdout = open('out.txt', 'w')\n{SCRIPT.format(hangs=False, wait=WAIT)}"
    text, code = in_terminal(script, tmp_path)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert code == 0
    assert sorted(lines) == sorted([f"line of {i}" for i in range(6)] * 2)
    assert "line of" not in text
