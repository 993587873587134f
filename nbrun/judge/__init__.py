"""Judging programs: what reads problems, what runs solutions, what compares their output.

Example:
    >>> from nbrun.judge import LocalSandbox, compare_tokens
    >>> compare_tokens("0.1", "0.100001")
    True
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from typing import Any

from nbrun.judge.comparison import compare_exact, compare_tokens
from nbrun.judge.fusion import SandboxFusion
from nbrun.judge.kattis import KattisComparison
from nbrun.judge.languages import CPP, CPP17, DEFAULT_LANGUAGES, PYTHON3, Language
from nbrun.judge.local import LocalSandbox
from nbrun.judge.reading import Problems, read_problems
from nbrun.judge.rechecking import Rechecked, recheck
from nbrun.judge.validators import KattisValidator, TestlibChecker

__all__ = [
    "CPP",
    "CPP17",
    "DEFAULT_LANGUAGES",
    "PYTHON3",
    "KattisComparison",
    "KattisValidator",
    "Language",
    "LocalSandbox",
    "Problems",
    "Rechecked",
    "SandboxFusion",
    "TestlibChecker",
    "compare_exact",
    "compare_tokens",
    "demo_problems",
    "read_problems",
    "recheck",
]


def demo_problems(*, limit: int | None = None) -> Sequence[dict[str, Any]]:
    """The problem set that the package ships: small problems with right and wrong solutions in Python and C++.

    Each has `expected_verdicts`: group -> the true verdict of each of its solutions, in their order.

    Example:
        >>> problem = demo_problems(limit=1)[0]
        >>> len(problem["expected_verdicts"]["solution"]) == len(problem["solutions"]["solution"])
        True
    """
    source = importlib.resources.files("nbrun.judge") / "demo" / "problems.jsonl"
    with importlib.resources.as_file(source) as path:
        return list(read_problems(path, limit=limit, keep=("expected_verdicts",)))
