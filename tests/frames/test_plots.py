"""The pictures: drawn at any size, readable in grey, labels that hold; what they were drawn from is in them."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import nbrun
from nbrun import plots
from nbrun.frames import confusion
from nbrun.plots import COLORS

mpl = pytest.importorskip("matplotlib", reason="needs matplotlib")
mpl.use("Agg")
VERDICTS = np.array(["Accepted", "WrongAnswer", "TimeLimitExceeded", "RuntimeError", "JudgeError", None], object)


@pytest.fixture(autouse=True)
def _closed():
    yield
    mpl.pyplot.close("all")


def frame(samples, solutions, seed=1):
    """A frame as load_results makes it, with the same numbers of right and wrong solutions in each sample."""
    rng = np.random.default_rng(seed)
    n = samples * 2 * solutions
    verdict = VERDICTS[rng.choice(6, n, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.02])]
    start = pd.Timestamp("2026-05-01", tz="UTC") + pd.to_timedelta(np.sort(rng.random(n)) * 1e5, unit="s")
    return pd.DataFrame({
        "sample_id": pd.Categorical([f"a very long name of a problem $x^{i // (2 * solutions)}" for i in range(n)]),
        "group": pd.Categorical((["solution"] * solutions + ["incorrect_solution"] * solutions) * samples),
        "status": np.where(pd.isna(verdict), "error", "done"), "verdict": pd.Categorical(verdict),
        "max_time_s": pd.array(rng.lognormal(-1, 1, n), "Float64"),
        "duration_s": pd.array(rng.random(n), "Float64"), "started_at": start,
        "api_used": [f"http://10.0.0.{i % 768}:8080/submit" for i in range(n)], "worker_id": "host_0",
    })  # fmt: skip


@pytest.fixture(scope="module")
def large():
    return frame(10_000, 4)


def pictures(df):
    counts = pd.DataFrame([[3, 1], [0, 2]], ["Accepted", "WrongAnswer"], ["Accepted", "WrongAnswer"])
    return {
        "progress": plots.progress(df), "throughput": plots.throughput(df), "verdicts": plots.verdicts(df),
        "tpr_tnr": plots.tpr_tnr(nbrun.rates(df)), "times": plots.times(df, limit_s=2.0),
        "endpoints": plots.endpoints(df), "confusion": plots.confusion(counts),
    }  # fmt: skip


def overlaps(axes):
    """Pairs of labels of one axis that lie on one another."""
    figure = axes.figure
    figure.canvas.draw()
    found = []
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        shown = [x for x in labels if x.get_visible() and x.get_text()]
        if any(x.get_rotation() % 90 for x in shown):  # slanted ones overlap as rectangles only
            continue
        boxes = [(x.get_text(), x.get_window_extent()) for x in shown]
        found += [(a, b) for (a, x), (b, y) in combinations(boxes, 2) if x.shrunk(0.9, 0.9).overlaps(y)]
    return found


@pytest.mark.parametrize("samples", [1, 25])
def test_every_picture_is_drawn(samples):
    drawn = pictures(frame(samples, 3))
    for name, axes in drawn.items():
        assert isinstance(axes, mpl.axes.Axes)
        assert overlaps(axes) == [], name
        assert axes.get_title()
    axes = mpl.pyplot.subplots()[1]
    assert plots.progress(frame(2, 2), axes) is axes


def test_labels_hold_at_ten_thousand_samples(large):
    for name, axes in pictures(large).items():
        assert overlaps(axes) == [], name
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            assert len(label.get_text()) <= 45
        width, height = axes.figure.get_size_inches()
        assert width <= 12, name
        assert height <= 12, name


def test_the_heat_map_holds_every_verdict(large):
    axes = plots.verdicts(large)
    grid = axes.get_images()[0].get_array()
    assert grid.shape == (8, 10_000)
    names = [t.get_text().split("  ") for t in axes.get_legend().get_texts()]
    for number, (name, count) in enumerate(names, 1):
        mine = large.status == "error" if name == "error" else (large.verdict == name) & (large.status == "done")
        assert int(count.replace(",", "")) == int(mine.sum()) == int((grid == number).sum())
    assert not (grid == 0).any()


def test_colours_differ_in_grey():
    """CIE lightness of any two verdicts differs by 8 or more: so they do for every kind of colour-blindness too."""

    def lightness(color):
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in mpl.colors.to_rgb(color)]
        return 116 * float(np.dot(linear, (0.2126, 0.7152, 0.0722))) ** (1 / 3) - 16

    values = sorted(map(lightness, COLORS.values()))
    assert len(values) == 8
    assert min(np.diff(values)) >= 8


def test_what_is_in_them():
    df = frame(4, 5)
    axes = plots.progress(df)
    done, errors = axes.get_lines()
    assert done.get_ydata()[-1] == (df.status == "done").sum()
    assert errors.get_ydata()[-1] == (df.status == "error").sum()
    assert done.get_linestyle() != errors.get_linestyle()
    assert "limit" in [t.get_text() for t in plots.times(df, limit_s=1.0).texts]
    shares = plots.times(df.assign(time_limit_s=2.0), limit_s="time_limit_s")
    assert shares.get_xlabel() == "longest test, as a share of the limit"
    assert plots.endpoints(df.assign(api_used=None)).get_yticklabels()[0].get_text() == "host_0"
    sums = [p.get_width() for p in plots.endpoints(df, by="group").patches]
    assert sum(sums) == pytest.approx(200)


def test_the_confusion_of_two_runs(judged_run, tmp_path):
    df = nbrun.load_results(judged_run)
    other = df.copy()
    other["verdict"] = df.verdict.astype(object).replace("WrongAnswer", "RuntimeError")
    axes = plots.confusion(confusion({"before": df, "after": other}))
    assert axes.get_title() == "3 of 11 differ"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("before", "after")


def test_old_results_have_no_times(old):
    df = nbrun.load_results(old("progress_complete"))
    for draw in (plots.progress, plots.throughput):
        assert "no times were recorded" in [t.get_text() for t in draw(df).texts]
    assert plots.verdicts(df).get_images()
    assert plots.times(df).get_legend() is not None


def test_empty_frames_and_missing_columns(tmp_path):
    empty = nbrun.load_results(tmp_path)
    for axes in (plots.progress(empty), plots.verdicts(empty), plots.times(empty), plots.tpr_tnr(nbrun.rates(empty)),
                 plots.endpoints(empty)):  # fmt: skip
        axes.figure.canvas.draw()
    for draw, lacking in ((plots.progress, "duration_s"), (plots.verdicts, "verdict"), (plots.times, "max_time_s")):
        with pytest.raises(TypeError, match=lacking):
            draw(empty.drop(columns=[lacking]))
    with pytest.raises(TypeError, match="tpr, tnr"):
        plots.tpr_tnr(empty)
