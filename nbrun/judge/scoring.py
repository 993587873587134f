"""The score of a solution on a package's groups of tests, by the rules of the package format.

Pure functions; called by the thread that feeds a run (what the groups say) and by worker threads (what that makes of
the tests' records).

    legacy     testdata.yaml: accept_score, reject_score, on_reject, grader_flags (sum, min, max, avg, ignore_sample)
    2023-07    test_group.yaml: max_score, score_aggregation (pass-fail, sum, min)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MODES = ("sum", "min", "max", "avg")
#: What a group may say about scores, and what each group below it says too unless it says otherwise.
_INHERITED = ("accept_score", "reject_score", "on_reject", "grader_flags")
_OWN = ("max_score", "score_aggregation")
_AGGREGATIONS = ("pass-fail", "sum", "min")


def rules_of(groups: Mapping[str, Mapping[str, Any]], is_legacy: bool) -> tuple[dict[str, Any], str | None]:
    """Return what groups (their paths below `data`, the root's is empty) say about scores; or why they can't be scored.

    Raises:
        ValueError: a score is no number, or an aggregation is unknown.
    """
    for path, about in groups.items():
        if str(about.get("grading") or "default") not in ("default", "{}") and is_legacy:
            return {}, "a scoring problem with a grader of its own"
        for name in ("accept_score", "reject_score", "max_score"):
            value = about.get(name)
            if value is not None and value != "unbounded" and not _is_number(value):
                raise ValueError(f"{path or 'data'}: {name} is {value!r}, not a number")
        if about.get("score_aggregation") not in (None, *_AGGREGATIONS):
            raise ValueError(f"{path or 'data'}: score_aggregation is {about['score_aggregation']!r}")
    kept = {p: {n: a[n] for n in (*_INHERITED, *_OWN) if a.get(n) is not None} for p, a in groups.items()}
    return {"is_legacy": is_legacy, "groups": {path: about for path, about in kept.items() if about}}, None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def score(rules: Mapping[str, Any], tests: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> float:
    """Return the score of a solution whose tests have these records, in the tests' order.

    Example:
        >>> rules = {"is_legacy": True, "groups": {"": {"accept_score": 50}}}
        >>> tests = [{"name": "secret/a/1"}, {"name": "secret/b/1"}]
        >>> score(rules, tests, [{"passed": True}, {"passed": False}])
        50.0
    """
    tree: dict[str, Any] = {}
    for test, record in zip(tests, records, strict=False):
        *folders, name = str(test.get("name", "")).split("/")
        inside = tree
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[name] = (bool(record["passed"]), record.get("score"))
    of_group = _legacy if rules["is_legacy"] else _later
    return round(of_group(tree, "", rules["groups"], {})[1], 9)


def _legacy(
    tree: Mapping[str, Any], path: str, groups: Mapping[str, Mapping[str, Any]], above: Mapping[str, Any]
) -> tuple[bool, float]:
    """Whether a group is accepted, and its score, by the default grader of the legacy format."""
    about = {**above, **groups.get(path, {})}
    flags = str(about.get("grader_flags") or "").split()
    scores: list[float] = []
    accepted = True
    for name, inside in tree.items():
        if not path and name == "sample" and "ignore_sample" in flags:
            continue
        if isinstance(inside, dict):
            passed, points = _legacy(inside, f"{path}/{name}".strip("/"), groups, about)
        else:
            passed, own = inside
            default = about.get("accept_score", 1) if passed else about.get("reject_score", 0)
            points = float(default if own is None or not passed else own)
        scores.append(points)
        accepted = accepted and passed
        if not passed and path and about.get("on_reject", "break") == "break":
            break
    mode = next((flag for flag in flags if flag in _MODES), "sum")
    return accepted or "always_accept" in flags, _aggregated(mode, scores)


def _later(
    tree: Mapping[str, Any], path: str, groups: Mapping[str, Mapping[str, Any]], above: Mapping[str, Any]
) -> tuple[bool, float]:
    """The same by the format from 2023-07 on, where the samples never count."""
    about = groups.get(path, {})
    parts = [
        _later(inside, f"{path}/{name}".strip("/"), groups, about) if isinstance(inside, dict) else inside
        for name, inside in tree.items()
        if path or name != "sample"
    ]
    accepted = all(passed for passed, _ in parts)
    most = about.get("max_score")
    holds_groups = any(isinstance(inside, dict) for inside in tree.values())
    default = "sum" if holds_groups or most is None else "pass-fail"
    aggregation = about.get("score_aggregation") or default
    if aggregation == "pass-fail":
        return accepted, float(most if most not in (None, "unbounded") else 1) if accepted else 0.0
    worth = 1.0
    if most not in (None, "unbounded") and not holds_groups:  # a test without points of its own has its share
        worth = float(most) / (len(parts) if aggregation == "sum" else 1)
    scores = [worth * passed if points is None else float(points) for passed, points in parts]
    total = _aggregated(aggregation, scores)
    return accepted, total if most in (None, "unbounded") else min(total, float(most))


def _aggregated(mode: str, scores: Sequence[float]) -> float:
    if not scores:
        return 0.0
    if mode == "avg":
        return sum(scores) / len(scores)
    return min(scores) if mode == "min" else max(scores) if mode == "max" else sum(scores)
