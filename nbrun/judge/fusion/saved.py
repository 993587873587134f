"""What a saved result tells of the tries behind it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbrun.judge.fusion.solution import verdict_of
from nbrun.judge.time_limits import Attempt, look_at
from nbrun.verdicts import Verdict


def history(result: Mapping[str, Any]) -> list[Attempt]:
    """The tries of the test that decided: as they are recorded, or read off the result. Empty where no limit is known.

    Example:
        >>> history({"verdict": "TimeLimitExceeded", "tests": []})
        []
    """
    records = result.get("tests")
    if not isinstance(records, list):
        return []
    deciding = next((n for n, r in enumerate(records) if isinstance(r, Mapping) and r.get("passed") is not True), None)
    if deciding is None or verdict_of(records[deciding]) != Verdict.TIME_LIMIT_EXCEEDED:
        return []
    recorded = result.get("attempts")
    if isinstance(recorded, list) and recorded:
        attempts = [Attempt.read(a) for a in recorded if isinstance(a, Mapping)]
        return [a for a in attempts if a.test == deciding and a.compile_limit_s is None]
    record, limits = records[deciding], result.get("limits")
    limit = limits.get("time_limit_s") if isinstance(limits, Mapping) else None
    if not isinstance(limit, (int, float)) or record.get("cut"):
        return []
    run = (record.get("exec_info") or {}).get("run_result") or {}
    expected = ((record.get("test_info") or {}).get("output") or {}).get("stdout")
    if not isinstance(expected, str):
        return []
    worked = bool(run.get("stderr")) or (float(run.get("execution_time") or 0) > limit / 2 and "wall_time" in run)
    written, share = look_at(expected, run.get("stdout") or "", worked=worked)
    load = record.get("load", result.get("load", 1))
    place = str(result.get("api_used") or "").removesuffix("/submit").removesuffix("/run_code")
    return [Attempt(Verdict.TIME_LIMIT_EXCEEDED, float(limit), int(load), place, deciding, str(written), share)]
