"""Charts of the frames that load_results, rates and confusion make. Each function draws on an Axes and returns it.

Colours differ in lightness as much as in hue, so that they can be distinguished in grey and by colour-blind readers;
lines differ in their strokes too. Needs matplotlib (`pip install "nbrun[plots]"`). Any thread that matplotlib allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from nbrun.errors import InputError
from nbrun.texts import time_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["confusion", "endpoints", "progress", "throughput", "times", "tpr_tnr", "verdicts"]

# ---- colours, axes and labels that all charts share


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
    """Raise TypeError where the frame lacks a column."""
    missing = [n for n in names if n not in df.columns]
    if missing:
        raise TypeError(f"plots.{who}: the frame lacks {', '.join(missing)}; give one that load_results or rates made.")


def axes(ax: Axes | None, size: tuple[float, float] = (8, 4)) -> Axes:
    """Return the given Axes, or new ones of this size in inches."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise InputError("nbrun.plots needs matplotlib: pip install 'nbrun[plots]'.") from None
    made: Axes = pyplot.subplots(figsize=size, layout="constrained")[1]
    return made


def short(text: Any, chars: int = LABEL_CHARS) -> str:
    """Return a label of at most `chars` characters, in which `$` starts no formula."""
    text = str(text)
    kept = text if len(text) <= chars else f"{text[: chars // 2]}…{text[-(chars - chars // 2 - 1) :]}"
    return kept.replace("$", r"\$").replace("\n", " ")


def numbers(column: pd.Series[Any]) -> Any:
    """Return a column as floats, also where a file has made texts of its numbers; NaN where it has none."""
    return np.asarray(pd.to_numeric(column, errors="coerce").astype("Float64").to_numpy("float64", na_value=np.nan))


def whole(ax: Axes) -> None:
    """Show whole numbers from 0 on the y axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{int(y):,}"))
    ax.set_ylim(bottom=0)


# ---- what was judged


MAX_LABELS = 30


def verdicts(df: pd.DataFrame, ax: Axes | None = None, *, sort: bool = True) -> Axes:
    """Draw a heat map: a column a sample, a cell a solution, in its verdict's colour; right solutions above.

    Args:
        sort: samples by the share that was accepted; otherwise in the frame's order.
    """
    need(df, ("sample_id", "group", "status", "verdict"), "verdicts")
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    ax = axes(ax, (9, 4.5))
    codes, names, colors = _verdict_codes(df)
    samples = _sample_order(df, sort)
    column = pd.Index(samples).get_indexer(df["sample_id"].astype("object"))
    rows, bands = _rows_by_group(df)
    grid = np.zeros((max(sum(band.height for band in bands), 1), max(len(samples), 1)), np.uint8)
    grid[rows, column] = codes + 1
    ax.imshow(
        grid, ListedColormap([NOTHING, *colors]), aspect="auto", interpolation="nearest", vmin=0, vmax=len(colors)
    )
    _mark_bands(ax, bands)
    _sample_ticks(ax, samples)
    ax.set_title("Verdicts")
    counts = np.bincount(codes, minlength=len(names))
    handles = [
        Patch(facecolor=c, edgecolor="black", linewidth=0.5, label=f"{short(n)}  {k:,}")
        for n, c, k in zip(names, colors, counts, strict=True)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return ax


class _Band(NamedTuple):
    """The rows of a heat map that belong to one group."""

    group: str
    begin: int
    height: int


def _rows_by_group(df: pd.DataFrame) -> tuple[Any, list[_Band]]:
    """Return for each task its row in the heat map, and the groups from top to bottom, right solutions above."""
    bands: list[_Band] = []
    rows, begin = np.zeros(len(df), np.int64), 0
    for group in sorted(df["group"].astype("object").unique(), key=lambda g: (g != "solution", g)):
        mine = (df["group"] == group).to_numpy(bool)
        place = df.loc[mine].groupby("sample_id", observed=True).cumcount().to_numpy()
        rows[mine] = begin + place
        bands.append(_Band(group, begin, int(place.max(initial=0)) + 1))
        begin += bands[-1].height
    return rows, bands


def _mark_bands(ax: Axes, bands: list[_Band]) -> None:
    """Name the groups on the y axis, with lines between them."""
    for band in bands[1:]:
        ax.axhline(band.begin - 0.5, color="black", linewidth=1.5)
    ax.set_yticks([band.begin + (band.height - 1) / 2 for band in bands], [short(band.group) for band in bands])
    ax.tick_params(axis="y", length=0, labelrotation=90)
    for label in ax.get_yticklabels():
        label.set_verticalalignment("center")


def tpr_tnr(rates: pd.DataFrame, ax: Axes | None = None, *, labels: int = 5) -> Axes:
    """Draw TPR against TNR by sample. A circle's area shows how many samples have that pair of rates.

    Args:
        rates: what nbrun.rates made.
        labels: how many of the worst samples are named.
    """
    need(rates, ("tpr", "tnr"), "tpr_tnr")
    ax = axes(ax, (7.5, 6))
    known = rates[rates["tpr"].notna() & rates["tnr"].notna()]
    x, y = known["tnr"].to_numpy(float), known["tpr"].to_numpy(float)
    cells = pd.DataFrame({"x": x.round(2), "y": y.round(2)}).value_counts().reset_index()
    area = 20 + 780 * (cells["count"] / cells["count"].max())
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
    """Write the counts into the largest circles, where they don't overlap."""
    written: list[tuple[float, float]] = []

    def is_free(x: float, y: float) -> bool:
        return all(abs(x - a) > 0.09 or abs(y - b) > 0.04 for a, b in written)

    for x, y, count in cells[cells["count"] > 1].nlargest(12, "count").itertuples(index=False):
        if is_free(x, y):
            ax.annotate(f"{count:,}", (x, y), ha="center", va="center", fontsize=8)
            written.append((x, y))


def _name_worst(ax: Axes, worst: pd.DataFrame) -> None:
    """List the worst samples beside the chart, and ring them: leader lines would cross."""
    worst = worst[worst["_sum"] < 2]
    if not len(worst):
        return
    ax.scatter(worst["tnr"].astype(float), worst["tpr"].astype(float), s=90, facecolor="none", edgecolor="black")
    rows = zip(worst["sample_id"], worst["tpr"], worst["tnr"], strict=True)
    lines = [f"{short(name)}\n  TPR {tpr:.2f}, TNR {tnr:.2f}" for name, tpr, tnr in rows]
    ax.annotate("Lowest (ringed)\n\n" + "\n".join(lines), (1.02, 1), xycoords="axes fraction", va="top", fontsize=8)


def confusion(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what nbrun.frames.confusion counted of two runs. Tasks whose verdicts differ are off the diagonal."""
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    counts = table.to_numpy(dtype=float)
    ax = axes(ax, (2.5 + 0.8 * counts.shape[1], 2 + 0.6 * counts.shape[0]))
    top = max(counts.max(initial=1), 2)
    ax.imshow(np.where(counts > 0, counts, np.nan), cmap="Blues", norm=LogNorm(0.5, top * 2), aspect="auto")
    for i, j in np.argwhere(counts):
        n = counts[i, j]
        is_dark = np.log(n / 0.5) / np.log(top * 4) > 0.6
        ax.text(j, i, f"{int(n):,}", ha="center", va="center", color="white" if is_dark else "black")
    place = table.columns.get_indexer(table.index)
    same = [(i, int(j)) for i, j in enumerate(place) if j >= 0]
    for i, j in same:
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5))
    ax.set_xticks(range(counts.shape[1]), list(map(short, table.columns)), rotation=35, ha="right")
    ax.set_yticks(range(counts.shape[0]), list(map(short, table.index)))
    ax.set_xlabel(short(table.columns.name or "second run"))
    ax.set_ylabel(short(table.index.name or "first run"))
    flipped = int(counts.sum() - sum(map(counts.__getitem__, same)))
    ax.set_title(f"{flipped:,} of {int(counts.sum()):,} differ")
    return ax


def _verdict_codes(df: pd.DataFrame) -> tuple[Any, list[str], list[str]]:
    """Return a number for each row, and the names and colours that the numbers mean."""
    verdict = df["verdict"].astype("object")
    names = np.where(verdict.isin(COLORS).to_numpy(bool), verdict, "other verdict")
    names = np.where(verdict.isna().to_numpy(bool), "no verdict", names)
    names = np.where((df["status"] == "error").to_numpy(bool), "error", names)
    palette = {**COLORS, "error": ERROR, "other verdict": OTHER, "no verdict": OTHER}
    present = {*names.tolist()}
    used = [n for n in palette if n in present]
    return pd.Index(used).get_indexer(pd.Index(names)), used, list(map(palette.__getitem__, used))


def _sample_order(df: pd.DataFrame, sort: bool) -> list[Any]:
    ids = df["sample_id"].astype("object")
    if not sort:
        return list(dict.fromkeys(ids))
    share = (df["verdict"].astype("object") == "Accepted").groupby(ids.to_numpy()).mean()
    return list(share.sort_values(ascending=False, kind="stable").index)


def _sample_ticks(ax: Axes, samples: Sequence[Any]) -> None:
    """Name the samples on the x axis while they can be read, else number them."""
    if len(samples) <= MAX_LABELS:
        ax.set_xticks(range(len(samples)), list(map(short, samples)), rotation=45, ha="right", fontsize=8)
        return
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{int(x):,}"))
    ax.set_xlabel(f"{len(samples):,} samples")


# ---- how a run went


MAX_ENDPOINTS = 30


def progress(df: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how many tasks had ended by each moment: done, and errors where there are some."""
    need(df, ("started_at", "duration_s", "status"), "progress")
    ax, when = axes(ax), _ended(df)
    status = df["status"].astype("object")
    for (name, label), stroke, ink in zip((("done", "done"), ("error", "errors")), STROKES, INKS, strict=False):
        times = np.sort(when[(status == name).to_numpy(bool) & ~np.isnat(when)])
        if len(times):
            ax.step(times, np.arange(1, len(times) + 1), where="post", linestyle=stroke, color=ink, label=label)
    _time_axis(ax, when)
    ax.set_ylabel("tasks")
    whole(ax)
    ax.set_title("Progress")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left")
    return ax


def throughput(df: pd.DataFrame, ax: Axes | None = None, *, bins: int = 100) -> Axes:
    """Draw how many tasks ended per second (minute, hour) over time; pauses and breaks are gaps."""
    need(df, ("started_at", "duration_s"), "throughput")
    ax, when = axes(ax), _ended(df)
    times = when[~np.isnat(when)].astype("M8[us]").astype("int64") / 1e6
    if len(times) and np.ptp(times) > 0:
        counts, edges = np.histogram(times, bins=bins)
        rate = counts / (edges[1] - edges[0])
        unit, factor = next((u, f) for u, f in (("second", 1), ("minute", 60), ("hour", 3600)) if rate.max() * f >= 1)
        ax.stairs(rate * factor, (edges * 1e6).astype("M8[us]"), fill=True, color=INKS[0])
        ax.set_ylabel(f"tasks a {unit}")
    _time_axis(ax, when)
    ax.set_title("Throughput")
    return ax


def times(df: pd.DataFrame, ax: Axes | None = None, *, limit_s: float | str | None = None) -> Axes:
    """Draw how long the longest test of each solution took, against the limit.

    Args:
        limit_s: the time limit in seconds, drawn as a line; or the column that holds each row's, and then times are
            drawn as shares of it.
    """
    need(df, ("max_time_s", "verdict"), "times")
    seconds, limit, unit = numbers(df["max_time_s"]), limit_s, "seconds"
    if isinstance(limit, str):
        need(df, (limit,), "times")
        seconds, limit, unit = seconds / numbers(df[limit]), 1.0, "as a share of the limit"
    ax = axes(ax)
    verdict = df["verdict"].astype("object").fillna("no verdict")
    kinds = np.where(verdict == "Accepted", "Accepted", np.where(verdict == "TimeLimitExceeded", verdict, "others"))
    known = np.isfinite(seconds) & (seconds >= 0)
    if known.any():
        _draw_times(ax, seconds[known], kinds[known], limit or 0)
    if limit is not None:
        _draw_limit(ax, limit)
    ax.set_xlabel(f"longest test, {unit}")
    ax.set_ylabel("solutions")
    whole(ax)
    ax.set_title("Times")
    if known.any():
        ax.legend()
    return ax


def _draw_times(ax: Axes, seconds: Any, kinds: Any, limit: float) -> None:
    """Draw a histogram of each kind of verdict, over times that are apart by a factor."""
    low = max(float(seconds.min()), 1e-3)
    high = max(float(seconds.max()), limit * 1.1, low * 2)
    edges = np.geomspace(low, high * 1.01, 50)
    for kind, stroke, ink in zip(("Accepted", "TimeLimitExceeded", "others"), STROKES, INKS, strict=False):
        mine = kinds == kind
        if mine.any():
            counts, _ = np.histogram(np.clip(seconds[mine], low, None), edges)
            ax.stairs(counts, edges, linestyle=stroke, color=ink, linewidth=1.6, label=f"{kind}  {mine.sum():,}")
    ax.set_xscale("log")
    _plain_numbers(ax)


def _draw_limit(ax: Axes, limit: float) -> None:
    ax.axvline(limit, color="black", linewidth=1)
    ax.annotate(
        "limit",
        (limit, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(-3, 0),
        ha="right",
        textcoords="offset points",
        va="top",
        rotation=90,
    )


def endpoints(df: pd.DataFrame, ax: Axes | None = None, *, by: str | None = None) -> Axes:
    """Draw how each endpoint's tasks ended and how long one took, the least healthy endpoint first.

    Args:
        by: the column that names them; `api_used` where nothing is said, `worker_id` where that is empty.
    """
    by = _names_of_endpoints(df) if by is None else by
    need(df, (by, "status", "verdict", "duration_s"), "endpoints")
    table = _health(df, by)
    shown = table.head(MAX_ENDPOINTS)
    height = 1.5 + 0.26 * max(len(shown), 1)
    ax = axes(ax, (8, height))
    left = np.zeros(len(shown))
    for column, label, color, hatch in (
        ("failed", "errors and JudgeErrors", COLORS["JudgeError"], ""),
        ("late", "TimeLimitExceeded", COLORS["TimeLimitExceeded"], "////"),
        ("fine", "others", "#e9eef5", ""),
    ):
        share = shown[column].to_numpy(float) * 100
        ax.barh(
            range(len(shown)), share, left=left, color=color, hatch=hatch, edgecolor="black", linewidth=0.5, label=label
        )
        left += share
    for i, (n, median) in enumerate(zip(shown["n"], shown["median_s"], strict=True)):
        took = "" if np.isnan(median) else f", {time_text(median)}"
        ax.annotate(f"{n:,} tasks{took}", (100, i), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(range(len(shown)), [short(name, 40) for name in shown.index])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 100)
    ax.set_xlabel("% of its tasks")
    more = len(table) - len(shown)
    ax.set_title(f"{len(table):,} endpoints" + (f", the {len(shown)} least healthy" if more else ""))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.55 / (height - 1)), ncols=3, frameon=False)
    return ax


def _names_of_endpoints(df: pd.DataFrame) -> str:
    """Return the column that names the endpoints."""
    is_known = "api_used" in df.columns and df["api_used"].notna().any()
    return "api_used" if is_known else "worker_id"


def _health(df: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return how each endpoint's tasks ended and how long one took, the least healthy endpoint first."""
    verdict = df["verdict"].astype("object").fillna("")
    failed = (df["status"] == "error").to_numpy(bool) | (verdict == "JudgeError").to_numpy(bool)
    late = (verdict == "TimeLimitExceeded").to_numpy(bool)
    parts = pd.DataFrame(
        {
            "endpoint": df[by].astype("object").fillna("(none)").astype(str),
            "failed": failed,
            "late": late & ~failed,
            "fine": ~failed & ~late,
            "duration_s": numbers(df["duration_s"]),
        }
    )
    of = parts.groupby("endpoint")
    table = of[["failed", "late", "fine"]].mean().assign(n=of.size(), median_s=of["duration_s"].median())
    return table.sort_values(["failed", "late", "n"], ascending=[False, False, False])


def _ended(df: pd.DataFrame) -> Any:
    """Return when each task ended; not-a-time for results of the older program."""
    seconds = pd.to_timedelta(np.nan_to_num(numbers(df["duration_s"])), unit="s")
    started = pd.DatetimeIndex(pd.to_datetime(df["started_at"], utc=True, errors="coerce", format="ISO8601"))
    return (started + seconds).tz_localize(None).to_numpy("M8[us]")


def _time_axis(ax: Axes, when: Any) -> None:
    dates: Any = import_module("matplotlib.dates")  # it has no types

    known = when[~np.isnat(when)]
    if not len(known):
        ax.text(0.5, 0.5, "no times were recorded", transform=ax.transAxes, ha="center")
        return
    ax.xaxis_date()
    locator = dates.AutoDateLocator()
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    left = len(when) - len(known)
    ax.set_xlabel("time (UTC)" + (f"; {left:,} results without a time are left out" if left else ""))


def _plain_numbers(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
