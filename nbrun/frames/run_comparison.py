"""Runs side by side: tasks aligned by what they are, so that only equal items are compared. Any thread.

A task is the same in two runs where sample, group, key and occurrence are: an item that was changed has another key and
is compared with nothing. Rates side by side are over the tasks that every run has decided.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from nbrun.errors import InputError
from nbrun.frames.load import load_results
from nbrun.frames.rate_table import decided, lacking, sides
from nbrun.frames.table import Array

IDENTITY = ["sample_id", "group", "key", "occurrence"]
NEEDED = (*IDENTITY, "status", "verdict")
LOADED = (*NEEDED, "index", "language", "accepted")
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
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    lacking(a.tasks, names, "compare")
    common = a.decided.all(axis=1)
    right, wrong = (side & common for side in sides(a.tasks, positive))
    flipped = common & (a.codes != a.codes[:, :1]).any(axis=1)
    marks = {"n_compared": common, "n_left_out": ~common, "n_flipped": flipped, "right": right, "wrong": wrong}
    for i in range(len(a.names)):
        marks[f"tp{i}"], marks[f"tn{i}"] = right & a.accepted[:, i], wrong & ~a.accepted[:, i]
    table = pd.DataFrame(marks, index=a.tasks.index).astype("int64")
    if names:
        keys = [a.tasks[n] for n in names]
        sums = table.groupby(keys, observed=True, sort=True, dropna=False).sum().reset_index()
    else:
        sums = table.sum().to_frame().T
    out = sums[[*names, "n_compared", "n_left_out", "n_flipped"]].copy()
    for kind, hits, n in (("tpr", "tp", "right"), ("tnr", "tn", "wrong")):
        for i, name in enumerate(a.names):
            out[f"{kind}_{name}"] = (sums[f"{hits}{i}"] / sums[n].where(sums[n] > 0)).astype("Float64")
    for kind in ("tpr", "tnr"):
        for name in a.names[1:]:
            out[f"{kind}_diff_{name}"] = out[f"{kind}_{name}"] - out[f"{kind}_{a.names[0]}"]
    return out


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
    used = [x for i, x in enumerate(labels) if counts[i].any() or counts[:, i].any()]
    return table.loc[used, used]


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
            (
                a.names[0],
                name,
                int(both.sum()),
                n_first,
                n_this,
                sign_test(n_first, n_this),
                behind,
                ahead,
                sign_test(behind, ahead),
            )
        )
    columns = [
        "first",
        "run",
        "n_compared",
        "n_only_first_right",
        "n_only_right",
        "p_value",
        "n_samples_first_better",
        "n_samples_better",
        "p_value_samples",
    ]
    return pd.DataFrame(rows, columns=columns)


def sign_test(a: int, b: int) -> float:
    """How likely a fair coin falls at least as unevenly as a to b; 1.0 where it was never thrown.

    Example:
        >>> sign_test(1, 9), sign_test(5, 5)
        (0.021484375, 1.0)
    """
    n, k = a + b, min(a, b)
    if n == 0 or a == b:
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
    if not isinstance(runs, Mapping):
        raise InputError(
            f'compare takes a mapping of names, such as {{"old": ..., "new": ...}}, not {type(runs).__name__}.'
        )
    if len(runs) < 2:
        raise InputError(f"compare takes two runs or more, not {len(runs)}.")
    frames = [_frame(str(name), results) for name, results in runs.items()]
    if len({pd.api.types.is_numeric_dtype(f["sample_id"].dtype) for f in frames}) > 1:  # integers here, text there
        frames = [f.assign(sample_id=f["sample_id"].astype(str).astype(object)) for f in frames]
    sizes = [len(f) for f in frames]
    columns = [c for c in LOADED if any(c in f for f in frames)]
    rows = pd.DataFrame({c: _joined([f.get(c) for f in frames], sizes) for c in columns})
    number = np.asarray(rows.groupby(IDENTITY, observed=True, sort=True).ngroup(), dtype="int64")
    which = np.repeat(np.arange(len(frames)), sizes)
    _refuse_doubled(rows, number, which, [str(n) for n in runs])
    n = int(number.max()) + 1 if len(number) else 0
    first = np.full(n, -1)
    first[number[::-1]] = np.arange(len(rows))[::-1]
    tasks = rows.iloc[first][[c for c in (*IDENTITY, "index", "language") if c in rows]].reset_index(drop=True)
    accepted, rejected = decided(rows)
    verdict = pd.Categorical(rows["verdict"])
    codes = np.full((n, len(frames)), -2, np.int16)
    codes[number, which] = verdict.codes
    is_decided, is_accepted = np.zeros((n, len(frames)), bool), np.zeros((n, len(frames)), bool)
    is_decided[number, which] = accepted | rejected
    is_accepted[number, which] = accepted
    return _Aligned([str(n) for n in runs], tasks, [str(v) for v in verdict.categories], codes, is_decided, is_accepted)


def _frame(name: str, results: Results) -> pd.DataFrame:
    if isinstance(results, pd.DataFrame):
        lacking(results, NEEDED, f"compare: {name!r}")
        return results
    return load_results(results, columns=LOADED)


def _joined(parts: list[pd.Series[Any] | None], sizes: list[int]) -> Any:
    """The column of all runs, categorical where it is so anywhere."""
    filled = [pd.Series([None] * n, dtype="object") if p is None else p for p, n in zip(parts, sizes, strict=True)]
    if any(isinstance(p.dtype, pd.CategoricalDtype) for p in filled):
        return pd.api.types.union_categoricals([pd.Categorical(p) for p in filled], sort_categories=True)
    return pd.concat(filled, ignore_index=True)


def _refuse_doubled(rows: pd.DataFrame, number: Array, which: Array, names: list[str]) -> None:
    doubled = pd.Series(number * len(names) + which).duplicated().to_numpy()
    if doubled.any():
        at = int(np.flatnonzero(doubled)[0])
        r = rows.iloc[at]
        task = f"sample {r['sample_id']}, {r['group']}, key {r['key']}"
        raise InputError(
            f"compare: {names[which[at]]!r} holds a task twice ({task}); give each results directory a name of its own."
        )
