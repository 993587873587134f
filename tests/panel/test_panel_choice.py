"""Which view a run gets, and that a view which fails costs only the view."""

from __future__ import annotations

import builtins
import io
import sys
from pathlib import Path
from typing import Any

import IPython
import pytest
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.interactiveshell import InteractiveShell

import nbrun
import nbrun.panel
from nbrun.panel import choose_view
from tests.views import shell_of

SAMPLES = [{"id": "a", "solutions": [1, 2]}]


class Shell(ZMQInteractiveShell):
    """As Google Colab names its own."""


class DatabricksShell(InteractiveShell):
    """Of a kernel whose shell doesn't derive from Jupyter's."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "shell",
    [
        shell_of(ZMQInteractiveShell),
        shell_of(Shell),
        shell_of(DatabricksShell, IPKernelApp={"connection_file": "kernel.json"}),
    ],
    ids=["Jupyter", "Colab", "Databricks"],
)
def test_shells_of_notebooks_get_the_panel(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    assert choose_view() == "panel"


@pytest.mark.parametrize("shell", [None, shell_of(InteractiveShell)], ids=["script", "IPython in a terminal"])
@pytest.mark.parametrize(("stderr", "view"), [(Terminal(), "console"), (io.StringIO(), None), (None, None)])
def test_elsewhere_stderr_decides(shell: Any, stderr: Any, view: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert choose_view() == view


def test_a_closed_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Terminal()
    closed.close()
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    monkeypatch.setattr(sys, "stderr", closed)
    monkeypatch.setattr(Terminal, "isatty", io.StringIO.isatty)
    assert choose_view() is None


@pytest.mark.parametrize("view", ["auto", "console"])
def test_a_run_starts_where_there_is_no_stderr(view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.warns() if view == "console" else _nothing():
        run = nbrun.start(SAMPLES, lambda task: {"n": task.item}, tmp_path, view=view)
    assert run.wait(60).done == 2


def test_without_the_widget_libraries_the_run_starts_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in ("anywidget", "ipywidgets") or name == "nbrun.panel.widget":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    shown: list[Any] = []
    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(nbrun.panel, "publish_static", shown.append)
    with pytest.warns(RuntimeWarning, match="pip install anywidget ipywidgets"):
        run = nbrun.start(SAMPLES, lambda task: {"n": task.item}, tmp_path, view="panel")
    monkeypatch.undo()
    assert run.wait(60).done == 2
    assert "anywidget" in run.progress.message
    assert [view.progress.done for view in shown] == [2], "what needs no widgets is shown in its place"


def test_whatever_a_view_raises_the_run_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(controls: Any) -> Any:
        raise OSError("no comm")

    monkeypatch.setattr(nbrun.panel, "show", fail)
    monkeypatch.setattr(nbrun.panel, "publish_static", fail)
    with pytest.warns(RuntimeWarning, match="OSError: no comm"):
        run = nbrun.start(SAMPLES, lambda task: {"n": task.item}, tmp_path, view="panel")
    assert run.wait(60).done == 2


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()
