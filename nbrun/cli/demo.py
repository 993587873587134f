"""`nbrun demo`: judge the problem set that comes with nbrun. Runs in the main thread."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from nbrun.cli.commands import print_rates

#: How languages are written in sentences, where that isn't the name of their row.
_SPELLINGS = {"CPP": "C++", "JAVA": "Java", "PYTHON": "Python 2", "PYTHON3": "Python"}
#: The Debian packages in the sentence that says how a language is installed.
_APT = re.compile(r"`apt install ([^`]+)`")
#: CPU seconds for each program: eight times what the slowest correct one needs, and less than the problems say. Much of
#: the demo's time goes to solutions that are too slow, and each of them runs until its limit, more than once.
_TIME_LIMIT_S = 0.2


def demo(args: argparse.Namespace) -> int:
    """Judge the problem set, or what is missing of it, and print the rates."""
    print("Judging 126 solutions of 14 problems on this machine ...", file=sys.stderr, flush=True)
    from nbrun import console
    from nbrun.judge import CPP17, LocalSandbox, demo_problems
    from nbrun.session import start

    problems, left_out = _judgeable(demo_problems())
    kept = _kept(args.results)
    # One way to compile for all: otherwise a source that doesn't compile is tried in six.
    cpp = replace(CPP17, compat_header="")
    judge = LocalSandbox(time_limit_s=_TIME_LIMIT_S, languages={"CPP": cpp})
    run = start(problems, judge, args.results, workers=args.workers, view=None)
    if kept:
        print(f"{kept} results of earlier runs are kept; only what is missing is run.", flush=True)
    view = console.Console(run._controls)
    try:
        import_module("nbrun.frames.rate_tables")  # for the table at the end: it loads pandas, which takes a while
        run.wait()
    except KeyboardInterrupt:
        run.stop(drain=False)
        run.wait(10)
        return 130
    finally:
        view.close()  # prints what came of the run, and how to load the results or to continue
    print_rates(args.results)
    print("\ntpr: the share of correct solutions that were accepted")
    print("tnr: the share of incorrect solutions that were rejected")
    if left_out:
        print(_left_out_text(left_out))
    return 0


def _kept(results: str) -> int:
    """Return how many results a directory already holds; 0 for what is no directory, which start() refuses."""
    from nbrun import frames

    return frames.status(results).done if Path(results).is_dir() else 0


def _judgeable(problems: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Mark the solutions that this machine can't judge as skipped.

    Returns:
        The problems, where solutions whose compiler or interpreter isn't installed have language 0, which is counted
        and never run; and how many those are, by the name of their language. Once it is installed, they are missing
        tasks like any others, and the next `nbrun demo` judges them.
    """
    from nbrun.judge import DEFAULT_LANGUAGES
    from nbrun.samples import language_of_number

    missing = {name for name, language in DEFAULT_LANGUAGES.items() if language.missing}
    left_out: Counter[str] = Counter()
    marked = []
    for problem in problems:
        groups = {}
        for key in ("solutions", "incorrect_solutions"):
            names = [language_of_number(number) for number in problem[key]["language"]]
            left_out.update(name for name in names if name in missing)
            numbers = [0 if name in missing else n for n, name in zip(problem[key]["language"], names, strict=True)]
            groups[key] = {**problem[key], "language": numbers}
        marked.append({**problem, **groups})
    return marked, left_out


def _left_out_text(left_out: Counter[str]) -> str:
    """Return one sentence on what was not judged and why, and one command that installs what is missing."""
    from nbrun.judge import DEFAULT_LANGUAGES

    rows = [DEFAULT_LANGUAGES[name] for name in left_out]
    counts = " and ".join(f"{n} {_SPELLINGS.get(name, name)}" for name, n in left_out.items())
    programs = ", ".join(f"no {Path((row.compilers or row.tools)[0]).name}" for row in rows)
    packages = [match[1] for row in rows if (match := _APT.search(row.install))]
    how = f" apt install {' '.join(packages)}" if len(packages) == len(rows) else " ".join(row.install for row in rows)
    noun = "solution was" if left_out.total() == 1 else "solutions were"
    return f"{counts} {noun} not judged: {programs}.{how}"
