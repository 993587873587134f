"""Pictures of what was judged: the heat map of verdicts, TPR against TNR, the confusion of two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nbrun.plots.drawing import COLORS, ERROR, INKS, NOTHING, OTHER, axes, need, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LABELS = 30


def verdicts(df: pd.DataFrame, ax: Axes | None = None, *, sort: bool = True) -> Axes:
    """The heat map: a column a sample, a cell a solution, coloured by verdict; right solutions above, wrong ones below.

    Args:
        sort: samples by the share that was accepted; otherwise as they stand in the frame.
    """
    need(df, ("sample_id", "group", "status", "verdict"), "verdicts")
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    ax = axes(ax, (9, 4.5))
    codes, names, colors = _verdict_codes(df)
    samples = _sample_order(df, sort)
    column = pd.Index(samples).get_indexer(df["sample_id"].astype("object"))
    base, ticks = 0, []
    groups = sorted(df["group"].astype("object").unique(), key=lambda g: (g != "solution", g))
    rows = np.zeros(len(df), np.int64)
    for group in groups:
        mine = (df["group"] == group).to_numpy(bool)
        place = df.loc[mine].groupby("sample_id", observed=True).cumcount().to_numpy()
        rows[mine] = base + place
        height = int(place.max(initial=0)) + 1
        ticks.append((base, height, group))
        base += height
    grid = np.zeros((max(base, 1), max(len(samples), 1)), np.uint8)
    grid[rows, column] = codes + 1
    ax.imshow(
        grid, ListedColormap([NOTHING, *colors]), aspect="auto", interpolation="nearest", vmin=0, vmax=len(colors)
    )  # fmt: skip
    for begin, *_ in ticks[1:]:
        ax.axhline(begin - 0.5, color="black", linewidth=1.5)
    ax.set_yticks([begin + (height - 1) / 2 for begin, height, _ in ticks], [short(g) for *_, g in ticks])
    ax.tick_params(axis="y", length=0, labelrotation=90)
    for label in ax.get_yticklabels():
        label.set_verticalalignment("center")
    _sample_ticks(ax, samples)
    ax.set_title("Verdicts")
    counts = np.bincount(codes, minlength=len(names))
    handles = [
        Patch(facecolor=c, edgecolor="black", linewidth=0.5, label=f"{short(n)}  {k:,}")
        for n, c, k in zip(names, colors, counts, strict=True)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return ax


def tpr_tnr(rates: pd.DataFrame, ax: Axes | None = None, *, labels: int = 5) -> Axes:
    """TPR against TNR by sample. A circle's area says how many samples have that pair of rates.

    Args:
        rates: what nbrun.rates made.
        labels: how many of the worst samples are named.
    """
    need(rates, ("tpr", "tnr"), "tpr_tnr")
    ax = axes(ax, (7.5, 6))
    known = rates[rates["tpr"].notna() & rates["tnr"].notna()]
    x, y = known["tnr"].to_numpy(float), known["tpr"].to_numpy(float)
    cells = pd.DataFrame({"x": x.round(2), "y": y.round(2)}).value_counts().reset_index()
    largest = cells["count"].max() if len(cells) else 1
    area = 20 + 780 * (cells["count"] / largest if len(cells) else 0)
    ax.scatter(
        cells["x"].to_numpy(),
        cells["y"].to_numpy(),
        s=area,
        color=INKS[0],
        alpha=0.45,
        edgecolor="black",
        linewidth=0.6,
    )
    _write_counts(ax, cells)
    if "sample_id" in known.columns:
        _name_worst(ax, known.assign(_sum=x + y).nsmallest(labels, "_sum"))
    ax.set_xlim(-0.06, 1.06)
    ax.set_ylim(-0.06, 1.06)
    ax.set_aspect("equal")
    ax.grid(linewidth=0.4, alpha=0.5)
    ax.set_xlabel("TNR: wrong solutions rejected")
    ax.set_ylabel("TPR: right solutions accepted")
    left = len(rates) - len(known)
    ax.set_title(f"{len(known):,} samples" + (f" ({left:,} without both rates)" if left else ""))
    return ax


def _write_counts(ax: Axes, cells: pd.DataFrame) -> None:
    """In the largest circles, where they don't lie on one another."""
    written: list[tuple[float, float]] = []
    for cx, cy, count in cells.nlargest(12, "count").itertuples(index=False):
        if count > 1 and all(abs(cx - a) > 0.09 or abs(cy - b) > 0.04 for a, b in written):
            ax.annotate(f"{count:,}", (cx, cy), ha="center", va="center", fontsize=8)
            written.append((cx, cy))


def _name_worst(ax: Axes, worst: pd.DataFrame) -> None:
    """A list beside the picture, and rings around them: leader lines would cross."""
    worst = worst[worst["_sum"] < 2]
    if not len(worst):
        return
    ax.scatter(worst["tnr"].astype(float), worst["tpr"].astype(float), s=90, facecolor="none", edgecolor="black")
    rows = zip(worst["sample_id"], worst["tpr"], worst["tnr"], strict=True)
    lines = [f"{short(name)}\n  TPR {tpr:.2f}, TNR {tnr:.2f}" for name, tpr, tnr in rows]
    ax.annotate("Lowest (ringed)\n\n" + "\n".join(lines), (1.02, 1), xycoords="axes fraction", va="top", fontsize=8)


def confusion(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The confusion of two runs: what nbrun.frames.confusion counted. What flipped stands off the diagonal."""
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    counts = table.to_numpy(dtype=float)
    ax = axes(ax, (2.5 + 0.8 * counts.shape[1], 2 + 0.6 * counts.shape[0]))
    top = max(counts.max(initial=1), 2)
    ax.imshow(np.where(counts > 0, counts, np.nan), cmap="Blues", norm=LogNorm(0.5, top * 2), aspect="auto")
    for (i, j), n in np.ndenumerate(counts):
        if n:
            dark = np.log(n / 0.5) / np.log(top * 4) > 0.6
            ax.text(j, i, f"{int(n):,}", ha="center", va="center", color="white" if dark else "black")
    for i, name in enumerate(table.index):
        if name in table.columns:
            at = list(table.columns).index(name)
            ax.add_patch(Rectangle((at - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5))
    ax.set_xticks(range(counts.shape[1]), [short(c) for c in table.columns], rotation=35, ha="right")
    ax.set_yticks(range(counts.shape[0]), [short(c) for c in table.index])
    ax.set_xlabel(short(table.columns.name or "second run"))
    ax.set_ylabel(short(table.index.name or "first run"))
    flipped = int(counts.sum() - sum(counts[i, list(table.columns).index(n)] for i, n in enumerate(table.index)
                                     if n in table.columns))  # fmt: skip
    ax.set_title(f"{flipped:,} of {int(counts.sum()):,} differ")
    return ax


def _verdict_codes(df: pd.DataFrame) -> tuple[Any, list[str], list[str]]:
    """A number a row, and what the numbers mean: names and colours of those that occur."""
    verdict = df["verdict"].astype("object")
    names = np.where(verdict.isin(COLORS).to_numpy(bool), verdict, "other verdict")
    names = np.where(verdict.isna().to_numpy(bool), "no verdict", names)
    names = np.where((df["status"] == "error").to_numpy(bool), "error", names)
    palette = {**COLORS, "error": ERROR, "other verdict": OTHER, "no verdict": OTHER}
    present = set(names.tolist())
    used = [n for n in palette if n in present]
    number = {n: i for i, n in enumerate(used)}
    return np.array([number[n] for n in names.tolist()], np.int64), used, [palette[n] for n in used]


def _sample_order(df: pd.DataFrame, sort: bool) -> list[Any]:
    ids = df["sample_id"].astype("object")
    if not sort:
        return list(dict.fromkeys(ids))
    share = (df["verdict"].astype("object") == "Accepted").groupby(ids.to_numpy()).mean()
    return list(share.sort_values(ascending=False, kind="stable").index)


def _sample_ticks(ax: Axes, samples: Sequence[Any]) -> None:
    """Names while they can be read, else numbers of samples."""
    if len(samples) <= MAX_LABELS:
        ax.set_xticks(range(len(samples)), [short(s) for s in samples], rotation=45, ha="right", fontsize=8)
        return
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{int(x):,}"))
    ax.set_xlabel(f"{len(samples):,} samples")
