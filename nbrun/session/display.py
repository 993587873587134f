"""Shows a run, or a watch, where it was started: the panel in a notebook, bars in a terminal, nothing elsewhere.

Called by the thread that calls start() or watch().
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from nbrun import panel
from nbrun.model import RunControls

VIEWS = ("auto", "panel", "console", None)


class Shown(Protocol):
    """A run or a watch."""

    @property
    def _controls(self) -> RunControls: ...
    def panel(self) -> Any: ...
    def _show_console(self) -> None: ...


def show(shown: Shown, view: str | None, notify: Callable[[str], object]) -> None:
    """Show the panel in a notebook, tqdm in a terminal, nothing elsewhere. A view that fails costs only the view.

    Args:
        notify: gets a sentence that says why nothing is shown.
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
        notify(_explain(shown, view, e))


def _explain(shown: Shown, view: str | None, e: Exception) -> str:
    """Warn once why nothing is shown; what is shown goes on."""
    if isinstance(e, ImportError):
        why = "it needs anywidget and ipywidgets in this kernel's environment (pip install anywidget ipywidgets)"
    else:
        why = f"{type(e).__name__}: {e}"
    text = f"The {view or 'view'} can't be shown: {why}. The run goes on; run.progress says how far it is."
    warnings.warn(text, RuntimeWarning, stacklevel=6)
    if view == "panel":
        try:
            panel.publish_static(shown._controls)
        except Exception:  # the warning has said what there is to say
            pass
    return text
