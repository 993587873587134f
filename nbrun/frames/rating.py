"""Rates of correct verdicts: TPR and TNR, with what was not judged counted beside. Any thread."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd

from nbrun.frames.load import load_results, load_samples

NEEDED = ("group", "status", "verdict")


def rates(
    df_or_results: pd.DataFrame | str | os.PathLike[str], *, by: str = "sample_id", positive: str = "solution"
) -> pd.DataFrame:
    """One row a sample (or another column's value): tpr, tnr and counts in tasks.

    Only judged tasks are in a rate; JudgeErrors, errors and missing tasks are counted beside. NA where nothing
    was judged.

    Raises:
        TypeError: the frame lacks columns; it names them.
        InputError: there is no such folder.
    """
    is_frame = isinstance(df_or_results, pd.DataFrame)
    df: pd.DataFrame = df_or_results if isinstance(df_or_results, pd.DataFrame) else load_results(df_or_results)
    missing = [c for c in (by, *NEEDED) if c not in df.columns]
    if missing:
        raise TypeError(f"rates: the frame lacks the columns {', '.join(missing)}; give one that load_results made.")
    rows = [{by: name, **_rate(part, positive)} for name, part in df.groupby(by, observed=True, sort=True)]
    names = [
        by,
        "tpr",
        "tnr",
        "n_positive",
        "n_negative",
        "n_true_positive",
        "n_true_negative",
        "n_judge_errors",
        "n_errors",
    ]
    out = pd.DataFrame(rows, columns=names).astype(
        {"tpr": "Float64", "tnr": "Float64"} | dict.fromkeys(names[3:], "Int64")
    )
    out["n_missing"] = pd.array([pd.NA] * len(out), dtype="Int64")
    out["is_partial"] = pd.array([pd.NA] * len(out), dtype="boolean")
    if not is_frame and by == "sample_id":
        samples = load_samples(df_or_results).set_index("sample_id")  # type: ignore[arg-type]  # not a frame here
        totals = samples[[c for c in samples if str(c).startswith("total_")]].sum(axis=1)
        done = samples[[c for c in samples if str(c).startswith("completed_")]].sum(axis=1)
        left = (totals - done - samples["errors"]).clip(lower=0)
        out["n_missing"] = out[by].astype(str).map(left).astype("Int64")
        out["is_partial"] = (out["n_missing"] > 0) | (out["n_errors"] > 0)
    return out


def _rate(part: pd.DataFrame, positive: str) -> dict[str, Any]:
    verdict = part["verdict"].astype("object")
    group = part["group"].astype(str)
    judged = (part["status"] == "done") & verdict.notna() & (verdict != "JudgeError")
    right, wrong = judged & (group == positive), judged & group.str.startswith("incorrect_")
    accepted = verdict == "Accepted"
    n_right, n_wrong = int(right.sum()), int(wrong.sum())
    tp, tn = int((right & accepted).sum()), int((wrong & ~accepted).sum())
    return {
        "tpr": tp / n_right if n_right else pd.NA, "tnr": tn / n_wrong if n_wrong else pd.NA,
        "n_positive": n_right, "n_negative": n_wrong, "n_true_positive": tp, "n_true_negative": tn,
        "n_judge_errors": int((verdict == "JudgeError").sum()), "n_errors": int((part["status"] == "error").sum()),
    }  # fmt: skip
