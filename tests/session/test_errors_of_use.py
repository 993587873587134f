"""Errors of use begin at the user's line and name who is in the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.errors import InputError, ResultsInUseError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "use",
    [
        lambda path: nbrun.start([{"id": 1}], None, path),
        lambda path: nbrun.start([{"no": 1}], print, path),
        lambda path: nbrun.start([{"id": 1, "a": [1]}], print, path, groups=["b"]),
        lambda path: nbrun.load_results(path / "none"),
        lambda path: nbrun.status(path / "none"),
        lambda path: nbrun.rates(path / "none"),
    ],
)
def test_frames_of_nbrun_are_left_out(use: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        use(tmp_path)
    package = str(Path(nbrun.__file__).parent)
    frames = [f for f in traceback.extract_tb(caught.tb) if f.filename.startswith(f"{package}{os.sep}")]
    assert len(frames) <= 1  # the one that hides itself in IPython and pytest
    hidden = [t.frame for t in caught.traceback if "hides_own_frames" in str(t.frame.code.raw.co_qualname)]
    assert all(f.f_locals.get("__tracebackhide__") for f in hidden)
    assert len(hidden) == 1


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    class Bad:
        def __iter__(self) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        nbrun.start(Bad(), lambda task: 1, tmp_path, view=None)
    assert caught.traceback[-1].name == "__iter__"


def test_a_directory_in_use_names_the_notebook(tmp_path: Path) -> None:
    program = f"""
import sys, time, nbrun
samples = [{{"id": "a", "items": [1]}}]
run = nbrun.start(samples, lambda t: sys.stdin.read(), {str(tmp_path / "r")!r}, groups=["item"], view=None)
print("started", flush=True)
run.wait(60)
"""
    env = os.environ | {"PYTHONPATH": str(ROOT), "JPY_SESSION_NAME": "/home/me/analysis of 1.ipynb"}
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "started\n"
        with pytest.raises(ResultsInUseError) as caught:
            nbrun.start([{"id": "a", "items": [1]}], lambda t: 1, tmp_path / "r", groups=["item"], view=None)
        text = str(caught.value)
        for word in ("the notebook /home/me/analysis of 1.ipynb", f"process {holder.pid}", "since 20"):
            assert word in text
    finally:
        holder.communicate("", timeout=60)


def test_a_report_is_short_and_has_html(tmp_path: Path) -> None:
    nbrun.start([{"id": "a", "items": [1]}], lambda t: 1, tmp_path, groups=["item"], view=None).wait(60)
    report = nbrun.check(tmp_path)
    assert repr(report) == f"<nbrun.Report of {str(tmp_path)!r}: 1 results of 1 samples, nothing is damaged>"
    assert "<li>Nothing is damaged.</li>" in report._repr_html_()


def test_progress_has_html(tmp_path: Path) -> None:
    run = nbrun.start([{"id": "a", "items": [1]}], lambda t: 1, tmp_path, groups=["item"], view=None)
    assert '<td style="text-align:left">1 of 1</td>' in run.wait(60)._repr_html_()


def test_ipython_shows_the_users_line_last(tmp_path: Path) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.user_ns["path"] = tmp_path / "none"
    try:
        result = shell.run_cell("import nbrun\nnbrun.load_results(path)")
        shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(result.error_in_exec._render_traceback_()))  # type: ignore[union-attr]
    finally:
        InteractiveShell.clear_instance()
    assert "nbrun.load_results(path)" in shown
    assert "there is no such folder" in shown
    assert "errors.py" not in shown
    assert "load.py" not in shown
