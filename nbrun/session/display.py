"""Show a run, or a watch, where it was started: the panel in a notebook, bars in a terminal, nothing elsewhere.

Threads: called by the thread that calls start() or watch().
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Protocol

from nbrun import panel
from nbrun.errors import InputError
from nbrun.model import RunControls

VIEWS = ("auto", "panel", "console", None)


class Shown(Protocol):
    """A run or a watch."""

    @property
    def _controls(self) -> RunControls: ...
    def panel(self) -> object: ...
    def _show_console(self) -> None: ...


def check_view(view: object) -> None:
    """Raise an InputError if `view=` is none of its values."""
    if view not in VIEWS:
        raise InputError(f"view={view!r}: give one of {', '.join(map(repr, VIEWS))}.")


def show(shown: Shown, view: str | None, notify: Callable[[str], object]) -> None:
    """Show a run in the view that was asked for. If that fails, the run goes on without a view.

    Args:
        view: a value of `view=` that has been checked.
        notify: called with a sentence that says why nothing is shown.
    """
    try:
        if view == "auto":
            view = panel.choose_view()
        if view == "panel":
            shown.panel()
        elif view == "console":
            if sys.stderr is None:  # pythonw, some services
                raise OSError("this process has no standard error")
            shown._show_console()
    except Exception as e:  # missing widget libraries, a front end that refuses, a closed stderr
        notify(_warn(shown, view, e))


def _warn(shown: Shown, view: str | None, e: Exception) -> str:
    """Warn that a view can't be shown, and return the warning. Show the static form if the panel was wanted."""
    if isinstance(e, ImportError):
        why = "it needs anywidget and ipywidgets in this kernel's environment (pip install anywidget ipywidgets)"
    else:
        why = f"{type(e).__name__}: {e}"
    text = f"The {view or 'view'} can't be shown: {why}. The run goes on; run.progress says how far it is."
    warnings.warn(text, RuntimeWarning, stacklevel=6)
    if view == "panel":
        try:
            panel.publish_static(shown._controls)
        except Exception:  # the warning has been shown
            pass
    return text
