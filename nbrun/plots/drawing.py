"""What all pictures share: colours, axes, labels. Any thread that matplotlib allows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from nbrun.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: verdict -> colour, from light to dark: no two are near each other in lightness.
COLORS = {
    "Accepted": "#fbf3c0", "CompileError": "#b9def2", "TimeLimitExceeded": "#f2ac3c", "OutputLimitExceeded": "#5fb08a",
    "MemoryLimitExceeded": "#b7657f", "RuntimeError": "#4a5fb0", "WrongAnswer": "#1f2f73", "JudgeError": "#38070d",
}  # fmt: skip
#: What raised, has no verdict or a verdict of its own, and where nothing is.
ERROR, OTHER, NOTHING = "#000000", "#8a8a8a", "#ffffff"
LABEL_CHARS = 24
STROKES = ("-", "--", ":", "-.")
INKS = ("#1f2f73", "#c26a00", "#3d8a63", "#7a2f4b")


def need(df: pd.DataFrame, names: Iterable[str], who: str) -> None:
    missing = [n for n in names if n not in df.columns]
    if missing:
        raise TypeError(f"plots.{who}: the frame lacks {', '.join(missing)}; give one that load_results or rates made.")


def axes(ax: Axes | None, size: tuple[float, float] = (8, 4)) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise InputError("nbrun.plots needs matplotlib: pip install 'nbrun[plots]'.") from None
    made: Axes = pyplot.subplots(figsize=size, layout="constrained")[1]
    return made


def short(text: Any, chars: int = LABEL_CHARS) -> str:
    """A label; `$` would start a formula."""
    text = str(text)
    kept = text if len(text) <= chars else f"{text[: chars // 2]}…{text[-(chars - chars // 2 - 1) :]}"
    return kept.replace("$", r"\$").replace("\n", " ")


def whole(ax: Axes) -> None:
    """Counts on the y axis: whole numbers, from 0, with thousands set apart."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{int(y):,}"))
    ax.set_ylim(bottom=0)
