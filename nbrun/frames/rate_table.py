"""Rates of correct verdicts: TPR and TNR with their intervals, and what was not judged counted beside. Any thread."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nbrun.errors import InputError, hides_own_frames
from nbrun.frames.load import load_results
from nbrun.frames.loader import count_samples
from nbrun.frames.table import Array
from nbrun.verdicts import Verdict, rejects

NEEDED = ("group", "status", "verdict")
AVERAGES = ("micro", "macro")
#: 95 % of a normal distribution are within this many standard deviations.
Z = 1.959963984540054
#: Exceptions that a judge raises: its own faults, not errors of a task.
JUDGE_ERRORS = ("JudgeError", "NotSupportedError", "JudgeUnavailableError")
#: verdict -> the column that counts it
COUNTED = {
    Verdict.ACCEPTED: "n_accepted",
    Verdict.WRONG_ANSWER: "n_wrong_answer",
    Verdict.TIME_LIMIT_EXCEEDED: "n_time_limit_exceeded",
    Verdict.MEMORY_LIMIT_EXCEEDED: "n_memory_limit_exceeded",
    Verdict.OUTPUT_LIMIT_EXCEEDED: "n_output_limit_exceeded",
    Verdict.RUNTIME_ERROR: "n_runtime_error",
    Verdict.COMPILE_ERROR: "n_compile_error",
}
RATES = ("tpr", "tnr", "balanced_accuracy", "tpr_low", "tpr_high", "tnr_low", "tnr_high")
#: Each task of a directory is in one of the first five of these, or missing.
COUNTS = (
    "n_positive",
    "n_negative",
    "n_judge_errors",
    "n_errors",
    "n_undecided",
    "n_true_positive",
    "n_true_negative",
    *COUNTED.values(),
)
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@hides_own_frames
def rates(
    df_or_results: pd.DataFrame | Paths,
    *,
    by: str | Iterable[str] | None = "sample_id",
    positive: str = "solution",
    average: str = "micro",
) -> pd.DataFrame:
    """One row a sample (or a value of `by`): how many right solutions were accepted, how many wrong ones rejected.

    `tpr` is the share of accepted ones among the judged tasks of group `positive`; `tnr` the share of rejected ones
    among those of groups `incorrect_…`; `balanced_accuracy` their mean. Each is NA where nothing was judged. Columns
    `…_low` and `…_high` are 95 % intervals: Wilson's for solutions, which takes them for independent of one another;
    mean ± 1.96 standard errors for samples (NA where all have one rate).

    Beside the rates, never in them, are counted `n_judge_errors` (faults of the judge), `n_errors` (tasks that
    raised), `n_undecided` (results without a verdict, or with one of your own that neither accepts nor rejects, or in a
    group that is neither right nor wrong) and, of a directory, `n_missing`.

    Args:
        df_or_results: a frame that load_results made (filtered, or with columns of yours), or a results directory, or
            several.
        by: column or columns to group by; None for one row over all.
        positive: the group of right solutions.
        average: "micro" counts each solution alike; "macro" takes the mean over samples of each sample's rate.

    Raises:
        TypeError: the frame lacks columns; it names them.
        InputError: there is no such folder, an argument that can't be used, or results of which none was judged.

    Example:
        >>> rates(pd.DataFrame({"sample_id": ["a", "a"], "group": ["solution", "incorrect_solution"],
        ...     "status": ["done", "done"], "verdict": ["Accepted", "Accepted"]}))[["tpr", "tnr"]].values.tolist()
        [[1.0, 0.0]]
    """
    if average not in AVERAGES:
        raise InputError(
            f'average={average!r}: give "micro", which counts each solution alike, or "macro", the mean over samples.'
        )
    names = _read_by(by, df_or_results.columns if isinstance(df_or_results, pd.DataFrame) else ())
    df = df_or_results if isinstance(df_or_results, pd.DataFrame) else load_results(df_or_results)
    lacking(df, (*names, *NEEDED, *(("sample_id",) if average == "macro" else ())), "rates")
    _refuse_unjudged(df)
    marks = _marks(df, positive)
    counts = _count(df, marks, names)
    remaining = None if isinstance(df_or_results, pd.DataFrame) else _remaining(df_or_results, names)
    if remaining is not None and isinstance(
        remaining.tasks, pd.Series
    ):  # a sample without any saved result gets a row too
        todo = remaining.tasks.index[remaining.tasks > 0]
        counts = counts.reindex(counts.index.union(todo), fill_value=0).rename_axis(names)
    out = pd.DataFrame(index=counts.index)
    for column, values in (_by_sample(df, marks, names, counts) if average == "macro" else _pooled(counts)).items():
        out[column] = values
    for column in COUNTS:
        out[column] = counts[column].astype("Int64")
    out["n_missing"], out["is_partial"] = _missing(counts["failed"].to_numpy(), counts.index, remaining)
    if names:
        out = out.reset_index()
    for name in names:
        if isinstance(df[name].dtype, pd.CategoricalDtype):
            out[name] = out[name].astype("category")
    return out


def unexpected(df_or_results: pd.DataFrame | Paths, *, positive: str = "solution") -> pd.DataFrame:
    """Return the rows whose verdict is not what their group lets expect: rejected positives and accepted negatives.

    Errors, JudgeErrors and results that neither accept nor reject aren't among them.

    Args:
        df_or_results: a frame that load_results made, or a results directory, or several.
        positive: the group of right solutions; those of groups `incorrect_…` are wrong.

    Raises:
        TypeError: the frame lacks columns; it names them.
        InputError: there is no such folder.

    Example:
        >>> unexpected(pd.DataFrame({"sample_id": ["a", "b"], "group": ["solution", "incorrect_solution"],
        ...     "status": ["done", "done"], "verdict": ["WrongAnswer", "WrongAnswer"]})).sample_id.tolist()
        ['a']
    """
    df = df_or_results if isinstance(df_or_results, pd.DataFrame) else load_results(df_or_results)
    lacking(df, NEEDED, "unexpected")
    accepted, rejected = decided(df)
    right, wrong = sides(df, positive)
    return df[(right & rejected) | (wrong & accepted)]


def _read_by(by: Any, columns: Collection[Any]) -> list[str]:
    """Return the columns to group by. Raise an InputError where they are neither names nor among `columns`."""
    names = [by] if isinstance(by, str) else [] if by is None else list(by) if isinstance(by, Iterable) else [by]
    if not all(isinstance(name, str) or (isinstance(name, Hashable) and name in columns) for name in names):
        raise InputError(
            f'by={by!r}: give a column\'s name, such as "language", several in a list, or None for one row over all.'
        )
    if len(set(names)) < len(names):
        raise InputError(f"by={by!r}: give each column once.")
    return names


def _refuse_unjudged(df: pd.DataFrame) -> None:
    """Raise an InputError where there are results and none of them was judged."""
    done = where(df["status"], "done".__eq__)
    said = df["verdict"].notna().to_numpy()
    if "accepted" in df.columns:
        said = said | df["accepted"].notna().to_numpy()
    if "error" in df.columns:
        said = said | where(df["error"], lambda error: error.partition(":")[0] in JUDGE_ERRORS)
    if done.any() and not said.any():
        n = int(done.sum())
        which = "the only result was not" if n == 1 else f"none of {n:,} results was"
        raise InputError(
            f"rates: {which} judged, so there is nothing to take rates of. A judged result is a mapping with "
            '"accepted" (True or False) or "verdict" (such as "Accepted" or "WrongAnswer").'
        )


def lacking(df: pd.DataFrame, needed: Iterable[str], who: str) -> None:
    """Raise a TypeError that names the columns which the frame lacks."""
    missing = [c for c in dict.fromkeys(needed) if c not in df.columns]
    if missing:
        s = "s" if len(missing) > 1 else ""
        raise TypeError(f"{who}: the frame lacks the column{s} {', '.join(missing)}; give one that load_results made.")


def where(column: pd.Series[Any], wanted: Callable[[str], bool]) -> Array:
    """Return for each row whether its text is wanted. `wanted` is called once for each text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, texts = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, texts = pd.factorize(column)
    hits = np.array([wanted(str(text)) for text in texts] + [False])  # the last is for code -1
    return np.asarray(hits[codes])


def decided(df: pd.DataFrame) -> tuple[Array, Array]:
    """Return for each row whether the solution was accepted, and whether it was rejected. Errors are neither."""
    done = where(df["status"], "done".__eq__)
    accepted = where(df["verdict"], "Accepted".__eq__) & done
    rejected = where(df["verdict"], rejects) & done
    if "accepted" in df.columns:
        own = done & ~accepted & ~rejected & ~where(df["verdict"], "JudgeError".__eq__)
        flags = df["accepted"].astype("boolean")
        accepted |= own & flags.to_numpy(bool, na_value=False)
        rejected |= own & ~flags.to_numpy(bool, na_value=True)
    return accepted, rejected


def sides(df: pd.DataFrame, positive: str) -> tuple[Array, Array]:
    """Return for each row whether it is in the group of right solutions, and whether in one of wrong ones."""
    if not isinstance(positive, str):
        raise InputError(f'positive={positive!r}: give the name of the group of right solutions, such as "solution".')
    right = where(df["group"], positive.__eq__)
    return right, where(df["group"], lambda group: group.startswith("incorrect_")) & ~right


def _marks(df: pd.DataFrame, positive: str) -> dict[str, Array]:
    """Return booleans by row for each of COUNTS."""
    accepted, rejected = decided(df)
    right, wrong = sides(df, positive)
    judged = accepted | rejected
    failed = where(df["status"], "error".__eq__)
    by_judge = np.zeros(len(df), bool)
    if "error" in df.columns:
        messages = df["error"].to_numpy(object)[failed]
        by_judge[failed] = [str(e).partition(":")[0] in JUDGE_ERRORS for e in messages]
    by_judge |= where(df["verdict"], "JudgeError".__eq__) & ~failed
    marks = {
        "n_positive": judged & right,
        "n_negative": judged & wrong,
        "n_judge_errors": by_judge,
        "n_errors": failed & ~by_judge,
        "n_true_positive": accepted & right,
        "n_true_negative": rejected & wrong,
    }
    marks["n_undecided"] = ~(marks["n_positive"] | marks["n_negative"] | by_judge | failed)
    marks["failed"] = failed
    for name, column in COUNTED.items():
        marks[column] = where(df["verdict"], str(name).__eq__) & ~failed
    return marks


def _count(df: pd.DataFrame, marks: Mapping[str, Array], names: Sequence[str]) -> pd.DataFrame:
    """Return the sums of the marks by group; one row over all where there are no names."""
    if not names:
        return pd.DataFrame({column: [int(mark.sum())] for column, mark in marks.items()})
    groups = df.groupby(list(names), observed=True, sort=True, dropna=False)
    number = groups.ngroup().to_numpy()
    keys = groups.size().reset_index()[list(names)]
    for name in names:
        if isinstance(keys[name].dtype, pd.CategoricalDtype):  # so that indices of other frames compare with it
            keys[name] = keys[name].astype("object")
    sums = {column: np.bincount(number[mark], minlength=len(keys)) for column, mark in marks.items()}
    index = pd.Index(keys[names[0]]) if len(names) == 1 else pd.MultiIndex.from_frame(keys)
    return pd.DataFrame(sums, index=index)


def _pooled(counts: pd.DataFrame) -> dict[str, Any]:
    tpr, tpr_low, tpr_high = wilson(counts["n_true_positive"], counts["n_positive"])
    tnr, tnr_low, tnr_high = wilson(counts["n_true_negative"], counts["n_negative"])
    values = (tpr, tnr, (tpr + tnr) / 2, tpr_low, tpr_high, tnr_low, tnr_high)
    return {name: _floats(v) for name, v in zip(RATES, values, strict=True)}


def wilson(hits: Any, n: Any) -> tuple[Any, Any, Any]:
    """A share and the ends of its 95 % interval (E. B. Wilson 1927); NaN where n is 0.

    Example:
        >>> [round(float(x), 3) for x in wilson(8, 10)]
        [0.8, 0.49, 0.943]
    """
    hits, n = np.asarray(hits, float), np.asarray(n, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = hits / n
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * np.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return p, np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


def _by_sample(
    df: pd.DataFrame, marks: Mapping[str, Array], names: Sequence[str], counts: pd.DataFrame
) -> dict[str, Any]:
    """Return the mean of samples' rates, over the samples that have one."""
    inner = list(dict.fromkeys([*names, "sample_id"]))
    of_sample = _count(df, marks, inner)
    out: dict[str, Any] = {}
    for rate, hits, n in (("tpr", "n_true_positive", "n_positive"), ("tnr", "n_true_negative", "n_negative")):
        share = (of_sample[hits] / of_sample[n].where(of_sample[n] > 0)).astype(float)
        if names:
            of = share.groupby(level=list(range(len(names))), observed=True, sort=True, dropna=False)
            mean, deviation, count = (s.reindex(counts.index) for s in (of.mean(), of.std(), of.count()))
        else:
            mean, deviation, count = (pd.Series([x]) for x in (share.mean(), share.std(), share.count()))
        half: Any = Z * deviation.where(deviation > 0) / np.sqrt(count)
        out[rate], out[f"{rate}_low"], out[f"{rate}_high"] = mean, (mean - half).clip(0, 1), (mean + half).clip(0, 1)
    out["balanced_accuracy"] = (out["tpr"] + out["tnr"]) / 2
    return {name: _floats(out[name]) for name in RATES}


def _floats(values: Any) -> Any:
    numbers = np.asarray(values, float)
    return pd.arrays.FloatingArray(np.nan_to_num(numbers), np.isnan(numbers))


# ---- what is still to come


@dataclasses.dataclass(frozen=True)
class _Remaining:
    """What isn't done.

    Attributes:
        tasks: how many, by the names asked for; or in all, where those names don't distinguish them.
        is_open: a run has not counted its samples to their end, so that there may be more.
    """

    tasks: pd.Series[Any] | int
    is_open: bool


def _remaining(results: Paths, names: Sequence[str]) -> _Remaining:
    """Count the tasks that aren't done, those of samples that were never begun among them."""
    paths: Sequence[Any] = [results] if isinstance(results, (str, os.PathLike)) else results
    rows: list[tuple[str | None, str, int]] = []
    is_open = False
    counts = [count_samples(path) for path in paths]  # what can't be read, load_results has reported
    for found in counts:
        known = Counter[str]()
        for view in found.samples:
            for group, total in view.totals.items():
                known[group] += total
                rows.append((view.sample_id, group, max(0, total - view.completed.get(group, 0))))
        if found.totals is not None:
            is_open |= not found.totals.is_known
            tasks = found.totals.tasks or {}
            rows += [(None, group, n - known[group]) for group, n in tasks.items() if n > known[group]]
    table = pd.DataFrame(rows, columns=["sample_id", "group", "left"]).astype({"left": "int64"})
    if counts and all(found.integer_ids for found in counts):
        table["sample_id"] = pd.array([None if i is None else int(i) for i in table["sample_id"]], dtype="Int64")
    if not names or not {*names} <= {"sample_id", "group"}:
        return _Remaining(int(table["left"].sum()), is_open)
    return _Remaining(table.groupby(list(names))["left"].sum().astype("int64"), is_open)


def _missing(failed: Any, index: pd.Index[Any], missing_tasks: _Remaining | None) -> tuple[Any, Any]:
    """Columns n_missing and is_partial. An error is not missing, but the next run tries it again."""
    unknown = np.ones(len(index), bool)
    if missing_tasks is None:
        return _whole(failed, unknown), pd.arrays.BooleanArray(~unknown, unknown)
    left, is_whole = missing_tasks.tasks, len(index) == 1 and index.names == [None]
    if isinstance(left, pd.Series):
        todo = left.reindex(index, fill_value=0).to_numpy(np.int64)
    elif is_whole:
        todo = np.array([left], np.int64)
    elif left == 0:
        todo = np.zeros(len(index), np.int64)
    else:  # it is not known which of these rows the missing tasks will belong to
        return _whole(failed, unknown), pd.arrays.BooleanArray(failed > 0, failed == 0)
    missing = np.maximum(todo - failed, 0)
    is_partial = (missing > 0) | (failed > 0) | (is_whole and missing_tasks.is_open)
    return _whole(missing, ~unknown), pd.arrays.BooleanArray(is_partial, ~unknown)


def _whole(values: Any, unknown: Any) -> Any:
    return pd.arrays.IntegerArray(np.asarray(values, np.int64), unknown)
