"""The notebook's view of a run: the live panel, and its static form for pages without widgets or without a kernel.

A run has one anywidget model and one comm, however many samples; widget.py and the widget libraries are loaded when the
first panel is shown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nbrun.model import RunControls
from nbrun.panel.static import mime_bundle, static_html, static_text

if TYPE_CHECKING:
    from nbrun.panel.widget import Panel

__all__ = ["choose_view", "mime_bundle", "publish_static", "show", "static_html", "static_text"]


def choose_view() -> str | None:
    """Return what view="auto" means here: "panel" in a notebook, "console" in a terminal, None elsewhere.

    A notebook is any front end that talks to an ipykernel: Jupyter's own shell, and those that Colab, Databricks and
    others derive from it under names of their own.
    """
    if _is_in_notebook():
        return "panel"
    try:
        return "console" if sys.stderr.isatty() else None
    except (AttributeError, ValueError):  # pythonw has no stderr; a daemon may have closed it
        return None


def _is_in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    is_derived = any(cls.__name__ == "ZMQInteractiveShell" for cls in type(shell).__mro__)
    return is_derived or "IPKernelApp" in getattr(shell, "config", ())


def show(controls: RunControls) -> Panel:
    """Display the run's panel in the current cell. A run has one panel; if it is shown again, both displays stay live.

    Args:
        controls: the run to show and control.

    Returns:
        The panel. Call its `wake()` when a run that had ended continues.
    """
    from nbrun.panel.widget import panel_of

    panel = panel_of(controls)
    panel.wake()
    panel.show()
    return panel


def publish_static(controls: RunControls) -> None:
    """Display the static form of the run in the current cell, once: for kernels without the widget libraries."""
    from IPython.display import publish_display_data

    publish_display_data(mime_bundle(controls.progress))  # type: ignore[no-untyped-call]  # IPython's, without annotations
