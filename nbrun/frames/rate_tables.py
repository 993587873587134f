"""Rates of correct verdicts: TPR and TNR of one run, with what was not judged counted beside, and of runs side by side.

A task is the same in two runs where sample, group, key and occurrence are: an item that was changed has another key and
is compared with nothing. Rates side by side are over the tasks that every run has decided. Any thread.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from nbrun.errors import InputError, hides_own_frames
from nbrun.frames.load import load_results
from nbrun.frames.loader import SampleCounts, count_samples
from nbrun.frames.table import Array
from nbrun.verdicts import Verdict, rejects

NEEDED = ("group", "status", "verdict")
AVERAGES = ("micro", "macro")
#: 95 % of a normal distribution are within this many standard deviations.
Z = 1.959963984540054
#: Exceptions that a judge raises: its own faults, not errors of a task.
JUDGE_ERRORS = ("JudgeError", "NotSupportedError", "JudgeUnavailableError")
#: verdict -> the column that counts it
COUNTED = {v: f"n_{v.name.lower()}" for v in Verdict if v != Verdict.JUDGE_ERROR}
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
MISSING = ("n_missing", "is_partial")
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
    paths: Paths | None = None
    if isinstance(df_or_results, pd.DataFrame):
        df, names = df_or_results, _read_by(by, df_or_results.columns)
    else:
        names = _read_by(by, ())
        df, paths = load_results(df_or_results), df_or_results
    what = "the frame lacks" if paths is None else "these results lack"
    lacking(df, (*names, *NEEDED, *["sample_id"] * (average == "macro")), "rates", what)
    _refuse_unjudged(df)
    marks = _marks(df, positive)
    counts = _count(df, marks, names)
    remaining = _Remaining(None) if paths is None else _remaining(paths, names)
    if isinstance(remaining.tasks, pd.Series):  # samples without any result get rows, too
        todo = remaining.tasks.index[remaining.tasks > 0]
        counts = counts.reindex(counts.index.union(todo), fill_value=0).rename_axis(names)
    columns = _by_sample(df, marks, names, counts) if average == "macro" else _pooled(counts)
    columns |= dict(counts[list(COUNTS)].astype("Int64"))
    columns["n_missing"], columns["is_partial"] = _missing(counts["failed"].to_numpy(), counts.index, remaining)
    return _in_rows(pd.DataFrame(columns, index=counts.index), df, names)


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
    if by is None:
        return []
    names = [by] if isinstance(by, str) or not isinstance(by, Iterable) else list(by)
    if not all(_may_be_column(name, columns) for name in names):
        raise InputError(
            f'by={by!r}: give a column\'s name, such as "language", several in a list, or None for one row over all.'
        )
    if len(set(names)) < len(names):
        raise InputError(f"by={by!r}: give each column once.")
    if made := {*RATES, *COUNTS, *MISSING} & {*names}:
        raise InputError(f"by={by!r}: a column {', '.join(sorted(made))} is made of it; rename yours.")
    return names


def _may_be_column(name: object, columns: Collection[Any]) -> bool:
    """Return whether it is a name. A frame's columns may be anything, and results' columns aren't known yet."""
    return isinstance(name, str) or (isinstance(name, Hashable) and name in columns)


def _refuse_unjudged(df: pd.DataFrame) -> None:
    """Raise an InputError where there are results and none of them was judged."""
    done = int(where(df["status"], "done".__eq__).sum())
    said = df["verdict"].notna().to_numpy()
    if "accepted" in df.columns:
        said = said | df["accepted"].notna().to_numpy()
    if "error" in df.columns:
        said = said | where(df["error"], _is_judge_error)
    if done and not said.any():
        which = "the only result was not" if done == 1 else f"none of {done:,} results was"
        raise InputError(
            f"rates: {which} judged, so there is nothing to take rates of. A judged result is a mapping with "
            '"accepted" (True or False) or "verdict" (such as "Accepted" or "WrongAnswer").'
        )


def _is_judge_error(error: object) -> bool:
    """Return whether a row's error is a fault of the judge."""
    return str(error).partition(":")[0] in JUDGE_ERRORS


class MissingColumnError(InputError, TypeError):
    """Columns that are needed, or named by the user, are missing."""


def lacking(df: pd.DataFrame, needed: Iterable[str], who: str, what: str = "the frame lacks") -> None:
    """Raise a MissingColumnError that names the columns which are missing. `what` is said before them."""
    missing = [c for c in dict.fromkeys(needed) if c not in df.columns]
    if missing:
        column = "column" if len(missing) == 1 else "columns"
        there = f"there are {', '.join(map(str, df.columns))}"
        advice = "give one that load_results made" if what == "the frame lacks" else there
        raise MissingColumnError(f"{who}: {what} the {column} {', '.join(missing)}; {advice}.")


def where(column: pd.Series[Any], wanted: Callable[[str], bool]) -> Array:
    """Return for each row whether its text is wanted. `wanted` is called once for each text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, texts = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, texts = pd.factorize(column)
    hits = np.array([*map(wanted, map(str, texts)), False])  # the last is for code -1
    return np.asarray(hits[codes])


def decided(df: pd.DataFrame) -> tuple[Array, Array]:
    """Return for each row whether the solution was accepted, and whether it was rejected. Errors are neither."""
    done = where(df["status"], "done".__eq__)
    accepted = where(df["verdict"], "Accepted".__eq__) & done
    rejected = where(df["verdict"], rejects) & done
    if "accepted" in df.columns:
        own = done & ~accepted & ~rejected & ~where(df["verdict"], "JudgeError".__eq__)
        flags = _flags(df["accepted"])
        accepted |= own & flags.to_numpy(bool, na_value=False)
        rejected |= own & ~flags.to_numpy(bool, na_value=True)
    return accepted, rejected


def _flags(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of booleans, which may have become numbers or texts in a file."""
    try:
        return column.astype("boolean")
    except (TypeError, ValueError):
        return column.map({True: True, False: False, "True": True, "False": False}).astype("boolean")


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
        by_judge[failed] = list(map(_is_judge_error, messages))
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
    try:
        number = groups.ngroup().to_numpy()
    except TypeError as e:
        raise InputError(f"by={list(names)!r}: {e}. Group by columns of plain values.") from None
    keys = groups.size().index.to_frame(index=False)
    for name in keys.select_dtypes("category"):  # so that indices of other frames compare with it
        keys[name] = keys[name].astype("object")
    sums = {column: np.bincount(number[mark], minlength=len(keys)) for column, mark in marks.items()}
    index = pd.Index(keys[names[0]]) if len(names) == 1 else pd.MultiIndex.from_frame(keys)
    return pd.DataFrame(sums, index=index)


def _in_rows(table: pd.DataFrame, df: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a table with what it is grouped by as columns, which are categorical where they are so in `df`."""
    if not names:
        return table
    categories = df[list(names)].select_dtypes("category")
    return table.reset_index().astype(dict.fromkeys(categories, "category"))


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
    of_sample = _count(df, marks, list(dict.fromkeys([*names, "sample_id"])))
    out: dict[str, Any] = {}
    for rate, hits, n in (("tpr", "n_true_positive", "n_positive"), ("tnr", "n_true_negative", "n_negative")):
        share = (of_sample[hits] / of_sample[n].where(of_sample[n] > 0)).astype(float)
        by: Any = {"level": list(range(len(names)))} if names else {"by": np.zeros(len(share), int)}
        of = share.groupby(**by, observed=True, sort=True, dropna=False)
        facts = of.agg(["mean", "std", "count", "min", "max"]).reindex(counts.index)
        half: Any = Z * facts["std"].where(facts["max"] > facts["min"]) / np.sqrt(facts["count"])
        mean = facts["mean"]
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
        tasks: how many, by the names asked for; or in all, where those names don't distinguish them; None of a frame,
            which doesn't say.
        is_open: a run has not counted its samples to their end, so that there may be more.
    """

    tasks: pd.Series[Any] | int | None
    is_open: bool = False


def _remaining(results: Paths, names: Sequence[str]) -> _Remaining:
    """Count the tasks that aren't done, those of samples that were never begun among them."""
    paths: Sequence[Any] = [results] if isinstance(results, (str, os.PathLike)) else results
    counts = list(map(count_samples, paths))  # what can't be read, load_results has reported
    is_open = any(found.totals is not None and not found.totals.is_known for found in counts)
    table = _table_of_left(counts)
    if names and {"sample_id", "group"}.issuperset(names):
        return _Remaining(table.groupby(list(names))["left"].sum().astype("int64"), is_open)
    return _Remaining(int(table["left"].sum()), is_open)


def _table_of_left(counts: list[SampleCounts]) -> pd.DataFrame:
    """Return how many tasks aren't done, by sample and group."""
    rows = list(chain.from_iterable(map(_left, counts)))
    table = pd.DataFrame(rows, columns=["sample_id", "group", "left"]).astype({"left": "int64"})
    if counts and all(found.integer_ids for found in counts):
        table["sample_id"] = table["sample_id"].map(int, na_action="ignore").astype("Int64")
    return table


def _left(found: SampleCounts) -> Iterator[tuple[str | None, str, int]]:
    """Yield sample, group and number of the tasks that aren't done; None for samples whose ids no run has recorded."""
    known = Counter[str]()
    for view in found.samples:
        for group, total in view.totals.items():
            known[group] += total
            yield view.sample_id, group, max(0, total - view.completed.get(group, 0))
    if found.totals is not None and found.totals.tasks is not None:
        for group, n in (Counter(found.totals.tasks) - known).items():
            yield None, group, n


def _missing(failed: Any, index: pd.Index[Any], remaining: _Remaining) -> tuple[Any, Any]:
    """Columns n_missing and is_partial. An error is not missing, but the next run tries it again."""
    all_rows = np.ones(len(index), bool)
    if remaining.tasks is None:
        return _integers(failed, unknown=all_rows), pd.arrays.BooleanArray(~all_rows, all_rows)
    todo = _todo_by_row(index, remaining.tasks)
    if todo is None:
        return _integers(failed, unknown=all_rows), pd.arrays.BooleanArray(failed > 0, failed == 0)
    missing = np.maximum(todo - failed, 0)
    is_partial = (missing > 0) | (failed > 0) | (_is_of_all(index) and remaining.is_open)
    return _integers(missing, unknown=~all_rows), pd.arrays.BooleanArray(is_partial, ~all_rows)


def _todo_by_row(index: pd.Index[Any], left: pd.Series[Any] | int) -> Any:
    """Return how many tasks of each row aren't done; None where the rows that they will belong to aren't known."""
    if isinstance(left, pd.Series):
        return left.reindex(index, fill_value=0).to_numpy(np.int64)
    if _is_of_all(index):
        return np.array([left], np.int64)
    return None if left else np.zeros(len(index), np.int64)


def _is_of_all(index: pd.Index[Any]) -> bool:
    """Return whether the only row counts all tasks: nothing was grouped by."""
    return len(index) == 1 and index.names == [None]


def _integers(values: Any, *, unknown: Any) -> Any:
    return pd.arrays.IntegerArray(np.asarray(values, np.int64), unknown)


# ---- runs side by side


IDENTITY = ["sample_id", "group", "key", "occurrence"]
COMPARED = (*IDENTITY, "status", "verdict")
LOADED = (*COMPARED, "index", "language", "accepted")
Results = pd.DataFrame | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
#: The name in a confusion table of a task that a run doesn't hold, or has no verdict of.
ABSENT, UNDECIDED = "(missing)", "(no verdict)"


def compare(
    runs: Mapping[str, Results], *, by: str | Sequence[str] | None = "sample_id", positive: str = "solution"
) -> pd.DataFrame:
    """Runs side by side, one row a sample: how each judged the tasks that all of them have decided.

    Columns: `n_compared`, the tasks that every run decided; `n_left_out`, those that some run doesn't hold (an item
    that was changed, a sample that was not run) or hasn't decided (errors, JudgeErrors); `n_flipped`, compared tasks
    whose verdicts differ; for each run NAME `tpr_NAME` and `tnr_NAME`, and for each but the first `tpr_diff_NAME` and
    `tnr_diff_NAME`, its rate less the first one's. See also `align`, `confusion` and `mcnemar` in nbrun.frames.

    Args:
        runs: name -> a frame that load_results made, or a results directory, or several that count as one.
        by: column or columns to group by: sample_id, group, language; None for one row over all.
        positive: the group of right solutions.

    Raises:
        TypeError: a frame lacks columns; it names them.
        InputError: fewer than two runs, no such folder, or a run that holds one task twice.

    Example:
        >>> nbrun.compare({"old": "results-1", "new": "results-2"}, by=None)  # doctest: +SKIP
    """
    a = _align(runs)
    names = _read_by(by, a.tasks.columns)
    lacking(a.tasks, names, "compare", "what the runs have in common lacks")
    common = a.decided.all(axis=1)
    right, wrong = (side & common for side in sides(a.tasks, positive))
    flipped = common & (a.codes != a.codes[:, :1]).any(axis=1)
    marks = {"n_compared": common, "n_left_out": ~common, "n_flipped": flipped, "right": right, "wrong": wrong}
    for i in range(len(a.names)):
        marks[f"tpr{i}"], marks[f"tnr{i}"] = right & a.accepted[:, i], wrong & ~a.accepted[:, i]
    sums = _count(a.tasks, marks, names)
    out = sums[["n_compared", "n_left_out", "n_flipped"]].astype("int64")
    for (rate, n), (i, name) in product((("tpr", "right"), ("tnr", "wrong")), enumerate(a.names)):
        out[f"{rate}_{name}"] = (sums[f"{rate}{i}"] / sums[n].where(sums[n] > 0)).astype("Float64")
    for rate, name in product(("tpr", "tnr"), a.names[1:]):
        out[f"{rate}_diff_{name}"] = out[f"{rate}_{name}"] - out[f"{rate}_{a.names[0]}"]
    return _in_rows(out, a.tasks, names)


def align(runs: Mapping[str, Results]) -> pd.DataFrame:
    """One row a task that any of the runs holds: its identity, and a column `verdict_NAME` for each run.

    A verdict is NA where the run doesn't hold the task, or has no verdict of it.

    Raises:
        TypeError, InputError: as compare.
    """
    a = _align(runs)
    out = a.tasks.copy()
    for i, name in enumerate(a.names):
        codes = np.maximum(a.codes[:, i], -1).astype(np.int32)
        out[f"verdict_{name}"] = pd.Categorical.from_codes(codes, pd.Index(a.verdicts, dtype=object))
    return out


def confusion(runs: Mapping[str, Results], *, group: str | None = None) -> pd.DataFrame:
    """How many tasks have which verdict in two runs: a row for each of the first's, a column for each of the second's.

    Tasks off the diagonal have flipped. Every task that either run holds is counted once: one that the other
    doesn't hold as "(missing)", one without a verdict (an error) as "(no verdict)".

    Args:
        runs: two of them; see compare.
        group: only the tasks of this group.
    """
    if len(runs) != 2:
        raise InputError(f"confusion takes two runs, not {len(runs)}.")
    a = _align(runs)
    codes = a.codes if group is None else a.codes[(a.tasks["group"] == group).to_numpy(bool)]
    labels = [*a.verdicts, UNDECIDED, ABSENT]
    first, second = (np.where(c == -1, len(a.verdicts), np.where(c == -2, len(a.verdicts) + 1, c)) for c in codes.T)
    counts = np.bincount(first * len(labels) + second, minlength=len(labels) ** 2).reshape(len(labels), -1)
    table = pd.DataFrame(counts, labels, labels).rename_axis(index=a.names[0], columns=a.names[1])
    used: Any = counts.any(axis=0) | counts.any(axis=1)
    shown: pd.DataFrame = table.loc[used, used]
    return shown


def mcnemar(runs: Mapping[str, Results], *, positive: str = "solution") -> pd.DataFrame:
    """Is one run's judging better than the first one's? One row for each other run.

    A task is judged rightly where a right solution was accepted or a wrong one rejected. Of the tasks that both runs
    decided, `n_only_first_right` and `n_only_right` count those that only one judged rightly; where both are as good,
    each such task falls to either side like a fair coin: `p_value` is the exact binomial test, two-sided (McNemar
    1947).

    It takes tasks for independent of one another. Solutions of one sample share its tests, so a few samples with a
    wrong test make `p_value` too small. `p_value_samples` takes the samples instead: a sign test over those in which
    one run judged more tasks rightly, `n_samples_first_better` against `n_samples_better`. With several other runs,
    remember that one in twenty looks significant by chance.
    """
    a = _align(runs)
    positives, negatives = sides(a.tasks, positive)
    known = positives | negatives
    right = a.accepted == positives[:, None]
    rows = []
    for i, name in enumerate(a.names[1:], 1):
        both = a.decided[:, 0] & a.decided[:, i] & known
        only_first, only_this = both & right[:, 0] & ~right[:, i], both & ~right[:, 0] & right[:, i]
        n_first, n_this = int(only_first.sum()), int(only_this.sum())
        lead = pd.Series(only_this.astype("int64") - only_first, index=a.tasks.index)
        of_sample = lead.groupby(a.tasks["sample_id"], observed=True).sum()
        ahead, behind = int((of_sample > 0).sum()), int((of_sample < 0).sum())
        rows.append(
            {
                "first": a.names[0],
                "run": name,
                "n_compared": int(both.sum()),
                "n_only_first_right": n_first,
                "n_only_right": n_this,
                "p_value": sign_test(n_first, n_this),
                "n_samples_first_better": behind,
                "n_samples_better": ahead,
                "p_value_samples": sign_test(behind, ahead),
            }
        )
    return pd.DataFrame(rows)


def sign_test(a: int, b: int) -> float:
    """How likely a fair coin falls at least as unevenly as a to b; 1.0 where it was never thrown.

    Example:
        >>> sign_test(1, 9), sign_test(5, 5)
        (0.021484375, 1.0)
    """
    n, k = a + b, min(a, b)
    if a == b:
        return 1.0
    if n <= 1000:
        return float(min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n))
    steps = np.log(np.arange(n, n - k, -1.0)) - np.log(np.arange(1.0, k + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)]) - n * np.log(2)
    return float(min(1.0, 2 * np.exp(logs).sum()))


# ---- alignment


@dataclass(slots=True)
class _Aligned:
    """Tasks and, a column a run: the code of each verdict (-1: none, -2: not held), whether it is decided, accepted."""

    names: list[str]
    tasks: pd.DataFrame
    verdicts: list[str]
    codes: Array
    decided: Array
    accepted: Array


def _align(runs: Mapping[str, Results]) -> _Aligned:
    frames, names = _frames(runs), list(map(str, runs))
    held = set(chain.from_iterable(frames))
    rows = pd.DataFrame({c: _joined(frames, c) for c in LOADED if c in held})
    number = np.asarray(rows.groupby(IDENTITY, observed=True, sort=True).ngroup(), dtype="int64")  # of its task
    which = np.repeat(np.arange(len(frames)), [len(f) for f in frames])
    _refuse_doubled(rows, number, which, names)
    n_tasks = int(number.max(initial=-1)) + 1

    def by_run(values: Any, not_held: Any) -> Array:
        out = np.full((n_tasks, len(frames)), not_held, values.dtype)
        out[number, which] = values
        return out

    first = np.unique(number, return_index=True)[1]
    tasks = rows.iloc[first][[c for c in (*IDENTITY, "index", "language") if c in rows]].reset_index(drop=True)
    accepted, rejected = decided(rows)
    verdict = pd.Categorical(rows["verdict"])
    codes = by_run(verdict.codes.astype(np.int16), -2)
    texts = list(map(str, verdict.categories))
    return _Aligned(names, tasks, texts, codes, by_run(accepted | rejected, False), by_run(accepted, False))


def _frames(runs: Mapping[str, Results]) -> list[pd.DataFrame]:
    """Return the results of each run, with sample ids of one type in all."""
    _check_names(runs)
    frames = [_frame(str(name), results) for name, results in runs.items()]
    if len({pd.api.types.is_numeric_dtype(f["sample_id"].dtype) for f in frames}) > 1:  # integers here, text there
        frames = [f.assign(sample_id=f["sample_id"].astype(str).astype(object)) for f in frames]
    return frames


def _check_names(runs: Mapping[str, Results]) -> None:
    """Raise an InputError where these are no runs that can be compared, or their names make equal columns."""
    if not isinstance(runs, Mapping):
        raise InputError(
            f'compare takes a mapping of names, such as {{"old": ..., "new": ...}}, not {type(runs).__name__}.'
        )
    if len(runs) < 2:
        raise InputError(f"compare takes two runs or more, not {len(runs)}.")
    for name, other in combinations(runs, 2):
        if len({str(name), str(other), f"diff_{name}", f"diff_{other}"}) < 4:
            raise InputError(f"compare: the names {name!r} and {other!r} make columns of one name; change one of them.")


def _frame(name: str, results: Results) -> pd.DataFrame:
    if isinstance(results, pd.DataFrame):
        lacking(results, COMPARED, f"compare: {name!r}")
        return results.assign(occurrence=pd.to_numeric(results["occurrence"]))  # which a file may have made text
    return load_results(results, columns=LOADED)


def _joined(frames: Sequence[pd.DataFrame], name: str) -> Any:
    """Return a column of all frames, categorical where it is so in one of them, and empty where a frame lacks it."""
    parts = [_column(f, name) for f in frames]
    if any(isinstance(p.dtype, pd.CategoricalDtype) for p in parts):
        return pd.api.types.union_categoricals(list(map(_categorical, parts)), sort_categories=True)
    return pd.concat(parts, ignore_index=True)


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in frame:
        return pd.Series([None] * len(frame), dtype="object")
    column = frame[name]
    return column.astype(object) if isinstance(column.dtype, pd.ArrowDtype) else column


def _categorical(column: pd.Series[Any]) -> pd.Categorical:
    """Return a categorical whose texts are of one type, whatever made the frame."""
    made = pd.Categorical(column)
    return pd.Categorical.from_codes(made.codes, made.categories.astype(object))


def _refuse_doubled(rows: pd.DataFrame, number: Array, which: Array, names: list[str]) -> None:
    doubled = pd.Series(number * len(names) + which).duplicated().to_numpy()
    if doubled.any():
        at = int(np.flatnonzero(doubled)[0])
        r = rows.iloc[at]
        task = f"sample {r['sample_id']}, {r['group']}, key {r['key']}"
        raise InputError(
            f"compare: {names[which[at]]!r} holds a task twice ({task}); give each results directory a name of its own."
        )
