"""Pictures of how a run went: progress, throughput, times against limits, endpoints."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nbrun.formatting import time_text
from nbrun.plots.drawing import COLORS, INKS, STROKES, axes, need, short, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_ENDPOINTS = 30


def progress(df: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """How many tasks had ended by when: those that were done, and errors where there are some."""
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
    """How many tasks ended per second (minute, hour) over the time; pauses and breaks are gaps."""
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
    """How long the longest test of each solution took, against the limit.

    Args:
        limit_s: the time limit in seconds, drawn as a line; or the column that holds each row's, and then times are
            drawn as shares of it.
    """
    need(df, ("max_time_s", "verdict", *((limit_s,) if isinstance(limit_s, str) else ())), "times")
    ax = axes(ax)
    seconds = df["max_time_s"].astype("float64").to_numpy()
    limit: float | None
    if isinstance(limit_s, str):
        seconds, limit = seconds / df[limit_s].astype("float64").to_numpy(), 1.0
    else:
        limit = limit_s
    verdict = df["verdict"].astype("object").fillna("no verdict")
    kinds = np.where(verdict == "Accepted", "Accepted", np.where(verdict == "TimeLimitExceeded", verdict, "others"))
    known = np.isfinite(seconds) & (seconds >= 0)
    if known.any():
        low = max(float(seconds[known].min()), 1e-3)
        high = max(float(seconds[known].max()), (limit or 0) * 1.1, low * 2)
        edges = np.geomspace(low, high * 1.01, 50)
        for kind, stroke, ink in zip(("Accepted", "TimeLimitExceeded", "others"), STROKES, INKS, strict=False):
            mine = known & (kinds == kind)
            if mine.any():
                counts, _ = np.histogram(np.clip(seconds[mine], low, None), edges)
                ax.stairs(counts, edges, linestyle=stroke, color=ink, linewidth=1.6, label=f"{kind}  {mine.sum():,}")
        ax.set_xscale("log")
        _plain_numbers(ax)
    if limit is not None:
        ax.axvline(limit, color="black", linewidth=1)
        ax.annotate("limit", (limit, 0.98), xycoords=("data", "axes fraction"), xytext=(-3, 0), ha="right",
                    textcoords="offset points", va="top", rotation=90)  # fmt: skip
    ax.set_xlabel("longest test, " + ("as a share of the limit" if isinstance(limit_s, str) else "seconds"))
    ax.set_ylabel("solutions")
    whole(ax)
    ax.set_title("Times")
    if known.any():
        ax.legend()
    return ax


def endpoints(df: pd.DataFrame, ax: Axes | None = None, *, by: str | None = None) -> Axes:
    """The health of endpoints: how their tasks ended, and how long one took. The least healthy stand first.

    Args:
        by: the column that names them; `api_used` where nothing is said, `worker_id` where that is empty.
    """
    if by is None:
        by = "api_used" if "api_used" in df.columns and df["api_used"].notna().any() else "worker_id"
    need(df, (by, "status", "verdict", "duration_s"), "endpoints")
    verdict = df["verdict"].astype("object").fillna("")
    failed = (df["status"] == "error").to_numpy(bool) | (verdict == "JudgeError").to_numpy(bool)
    late = (verdict == "TimeLimitExceeded").to_numpy(bool)
    parts = pd.DataFrame({
        "endpoint": df[by].astype("object").fillna("(none)").astype(str), "failed": failed, "late": late & ~failed,
        "fine": ~failed & ~late, "duration_s": df["duration_s"].astype("float64"),
    })  # fmt: skip
    of = parts.groupby("endpoint")
    table = of[["failed", "late", "fine"]].mean().assign(n=of.size(), median_s=of["duration_s"].median())
    table = table.sort_values(["failed", "late", "n"], ascending=[False, False, False])
    shown = table.head(MAX_ENDPOINTS)
    height = 1.5 + 0.26 * max(len(shown), 1)
    ax = axes(ax, (8, height))
    left = np.zeros(len(shown))
    for column, label, color, hatch in (
        ("failed", "errors and JudgeErrors", COLORS["JudgeError"], ""),
        ("late", "TimeLimitExceeded", COLORS["TimeLimitExceeded"], "////"), ("fine", "others", "#e9eef5", ""),
    ):  # fmt: skip
        share = shown[column].to_numpy(float) * 100
        ax.barh(range(len(shown)), share, left=left, color=color, hatch=hatch, edgecolor="black", linewidth=0.5,
                label=label)  # fmt: skip
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


def _ended(df: pd.DataFrame) -> Any:
    """When each task ended; not-a-time for results of the older program."""
    seconds = pd.to_timedelta(df["duration_s"].astype("float64").fillna(0), unit="s")
    return (df["started_at"] + seconds).dt.tz_localize(None).to_numpy("M8[us]")


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
