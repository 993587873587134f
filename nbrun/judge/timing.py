"""The time limit of a package that names none: by the rule of its format, from what its accepted submissions take.

Called by the worker thread that meets the problem first, while others with tasks of it wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nbrun.errors import NotSupportedError
from nbrun.judge.checkers import Checker
from nbrun.judge.judging import Judging, Options
from nbrun.judge.languages import lookup
from nbrun.judge.launching import Bench, temporary_folder
from nbrun.judge.running import Limits
from nbrun.judge.sources import read_item, source_of
from nbrun.samples import read_items

#: An accepted submission that takes longer is not used.
LONGEST_S = 30.0


def time_limit_s(problem: Mapping[str, Any], checker: Checker, limits: Limits, bench: Bench) -> float | None:
    """The slowest accepted submission on its slowest test, times `time_limit_from["multiplier"]`, rounded up to a
    multiple of `time_limit_from["resolution"]` (seconds). None where none is accepted.

    Raises:
        JudgeError: the machinery failed.
    """
    rule, slowest = problem["time_limit_from"], None
    limits = replace(limits, time_limit_s=LONGEST_S, wall_limit_s=2 * LONGEST_S + 1)
    items, _, _ = read_items(problem.get("solutions"))
    for item in items:
        options = Options(limits, checker, False, 0, is_interactive=bool(problem.get("interactive")))
        time_s = _longest_s(item, problem, options, bench)
        if time_s is not None:
            slowest = max(time_s, slowest or 0.0)
    return None if slowest is None else rounded_s(slowest * rule["multiplier"], rule["resolution"])


def rounded_s(time_s: float, resolution_s: float) -> float:
    """Rounded up to a multiple of the resolution, at least one.

    Example:
        >>> rounded_s(0.2, 1), rounded_s(2.1, 1), rounded_s(0.7, 0.1)
        (1.0, 3.0, 0.7)
    """
    return round(float(max(1, math.ceil(time_s / resolution_s - 1e-9)) * resolution_s), 6)


def _longest_s(item: Any, problem: Mapping[str, Any], options: Options, bench: Bench) -> float | None:
    """CPU seconds on the slowest test, for a language of average speed; None where it isn't accepted."""
    try:
        asked, *_ = read_item(item)
        _, language = lookup(asked, bench.languages)
        if language.missing:
            return None
        source = source_of(item, language)
    except NotSupportedError:
        return None
    if language.missing:
        return None
    with temporary_folder("timing-", bench.folder) as folder:
        own = replace(bench, folder=folder)
        with own.toolchain.program(language, source, folder, own.token) as program:
            result = Judging(program, problem["tests"], options, own).result()
    if not result["accepted"]:
        return None
    times = (test["exec_info"]["run_result"]["execution_time"] for test in result["tests"])
    return float(max(times) / language.time_factor)
