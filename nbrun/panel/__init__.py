"""The notebook's view of a run: one anywidget model and one comm, however many samples.

`show` displays it in the current cell; `static_html` and `static_text` are what stands where no widgets live. The
widget libraries are loaded when the first panel is made, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbrun.panel.static import static_html, static_text

if TYPE_CHECKING:
    from nbrun.model import RunControls
    from nbrun.panel.widget import Panel

__all__ = ["Panel", "show", "static_html", "static_text"]


def show(controls: RunControls) -> Panel:
    """Displays the run's panel in the current cell. A run has one panel; shown again, both displays live.

    Args:
        controls: the run to be seen and steered.

    Returns:
        The panel. Call its `wake()` when a run that had ended goes on.
    """
    from nbrun.panel.widget import show as show_widget

    return show_widget(controls)


def __getattr__(name: str) -> Any:
    if name == "Panel":
        from nbrun.panel.widget import Panel

        return Panel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
