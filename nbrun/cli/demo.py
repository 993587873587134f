"""`nbrun demo`: judge the problem set that comes with nbrun. Runs in the main thread."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nbrun.cli import tables
from nbrun.cli.command import add_parser


def add_commands(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    demo = add_parser(
        commands,
        "demo",
        _demo,
        "judge the problem set that comes with nbrun",
        about="Judge the 14 problems and 132 solutions that come with nbrun, in a sandbox on this machine, and print "
        "how many correct solutions were accepted (tpr) and how many incorrect ones rejected (tnr). "
        "Interrupted or killed, the same command continues with only what is missing.",
        examples=("nbrun demo", "nbrun demo --workers 2 --results /tmp/demo"),
    )
    demo.add_argument(
        "--results", metavar="DIR", default="nbrun-demo", help="where to save the results (default: ./nbrun-demo)"
    )
    demo.add_argument(
        "--workers", metavar="N", type=int, default=4, help="how many programs run at a time (default: 4)"
    )


def _demo(args: argparse.Namespace) -> int:
    print("Judging 132 solutions of 14 problems on this machine ...", file=sys.stderr, flush=True)
    from nbrun import console
    from nbrun.judge import LocalSandbox, demo_problems
    from nbrun.session import start

    kept = _kept(args.results)
    run = start(demo_problems(), LocalSandbox(), args.results, workers=args.workers, view=None)
    if kept:
        print(f"{kept} results of earlier runs are kept; only what is missing is run.", flush=True)
    view = console.show(run._controls)
    try:
        run.wait()
    except KeyboardInterrupt:
        run.stop(drain=False)
        run.wait(10)
        return 130
    finally:
        view.close()  # prints what came of the run, and how to continue
    tables.print_rates(args.results)
    where = run.progress.results
    print(f"\nThe results are in {where}. In Python:\n    import nbrun; df = nbrun.load_results({where!r})")
    return 0


def _kept(results: str) -> int:
    """How many results a directory already holds; 0 where there is none, or something that start() will refuse."""
    from nbrun import frames

    return frames.status(results).done if Path(results).is_dir() else 0
