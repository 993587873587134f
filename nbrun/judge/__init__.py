"""Judging programs: what reads problems, what runs solutions, what compares their output.

Example:
    >>> from nbrun.judge import LocalSandbox, compare_tokens
    >>> compare_tokens("0.1", "0.100001")
    True
"""

from __future__ import annotations

import importlib.resources
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbrun.errors import InputError
from nbrun.judge.checkers import KattisComparison, KattisValidator, TestlibChecker
from nbrun.judge.comparison import compare_exact, compare_tokens
from nbrun.judge.fusion import SandboxFusion
from nbrun.judge.languages import CPP, CPP17, DEFAULT_LANGUAGES, PYTHON3, Language
from nbrun.judge.local import LocalSandbox
from nbrun.judge.reading import Problems, read_problems
from nbrun.judge.rechecking import Rechecked, recheck

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
    "demo_old_results",
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


def demo_old_results(folder: str | os.PathLike[str]) -> Path:
    """Write a small results directory of an older program into a folder, for trying out how such results are read.

    Eight samples with 59 judged solutions, from a run that was killed and resumed: some solutions are there twice, and
    entries have no index. Files that the folder already holds are kept, so that a run that continues
    there loses nothing.

    Args:
        folder: is made where it doesn't exist.

    Returns:
        The folder.

    Raises:
        InputError: the folder holds results of something else.

    Example:
        >>> import tempfile, nbrun
        >>> nbrun.status(demo_old_results(tempfile.mkdtemp())).done
        59
    """
    path = Path(folder).expanduser()
    source = importlib.resources.files("nbrun.judge") / "demo" / "old_results.zip"
    with source.open("rb") as file, zipfile.ZipFile(file) as packed:
        names = packed.namelist()
        if others := sorted({found.name for found in path.glob("*.json")}.difference(names)):
            raise InputError(f"{path} holds other results ({others[0]}). Give a folder that is empty or doesn't exist.")
        path.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (path / name).exists():
                (path / name).write_bytes(packed.read(name))
    return path
