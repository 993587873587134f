"""The command nbrun: demo and check here, what reads results beside. Runs in the main thread."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

from nbrun.cli import results, status, tables
from nbrun.errors import NbrunError


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit code: 0; 1 for damage that check found; 2 for an error that was told; 130 after Ctrl-C; 141 where
        nobody reads the output to its end (`nbrun rates DIR | head -1`).
    """
    args = _parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
    except NbrunError as e:
        print(f"nbrun: {e}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes stdout once more at its end
        code = 141
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nbrun", description="Runs many tasks and saves every result the moment it ends."
    )
    parser.add_argument("--version", action="version", version=f"nbrun {version('nbrun')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="judge the problem set that comes with nbrun")
    demo.add_argument("--results", default="nbrun-demo", help="results directory (default: nbrun-demo)")
    demo.add_argument("--workers", type=int, default=4, help="programs judged at once (default: 4)")
    demo.set_defaults(run=_demo)
    for room in (status, tables, results):
        room.add_commands(commands)
    check = commands.add_parser("check", help="look for damage in a results directory; exit code 1 where there is some")
    check.add_argument("results", metavar="DIR")
    check.add_argument("--repair", action="store_true", help="make it whole with what can be read; deletes nothing")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_check)
    return parser


def _check(args: argparse.Namespace) -> int:
    from nbrun.storage.check import check

    report = check(args.results, repair=args.repair)
    print(json.dumps(report.to_dict()) if args.json else report)
    return 0 if report.is_ok else 1


def _demo(args: argparse.Namespace) -> int:
    from nbrun import console
    from nbrun.judge import LocalSandbox, demo_problems
    from nbrun.session import start

    kept = _kept(args.results)
    run = start(demo_problems(), LocalSandbox(), args.results, workers=args.workers, view=None)
    if kept:
        print(f"{kept} results of earlier runs are kept; only what is missing is run.", flush=True)
    view = console.show(run)
    try:
        run.wait()
    except KeyboardInterrupt:
        run.stop(drain=False)
        run.wait(10)
        return 130
    finally:
        view.close()  # it says what came of the run, and how to go on
    tables.print_rates(args.results)
    print(f"\nThe results are in {run.path}. In Python:\n    import nbrun; df = nbrun.load_results({str(run.path)!r})")
    return 0


def _kept(results: str) -> int:
    """How many results a directory holds already; 0 where there is none, or something else that start() will tell."""
    from nbrun import frames

    return frames.status(results).done if Path(results).is_dir() else 0
