"""The command nbrun: demo, status, rates, check. Runs in the main thread."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from importlib.metadata import version

from nbrun.errors import NbrunError


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Returns its exit code: 0, 1 for damage that check found, 2 for an error, 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except NbrunError as e:
        print(f"nbrun: {e}", file=sys.stderr)
        return 2


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
    for name, run, about in (
        ("status", _status, "count what is saved"),
        ("rates", _rates, "TPR and TNR of each sample"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("results", metavar="DIR")
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=run)
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
    from nbrun.judge import LocalSandbox, demo_problems
    from nbrun.progress import count_text
    from nbrun.session import start

    run = start(demo_problems(), LocalSandbox(), args.results, workers=args.workers)
    try:
        progress = run.wait()
    except KeyboardInterrupt:
        run.stop(drain=False)
        run.wait(10)
        print(
            f"\nStopped: {count_text(run.progress)}. "
            "Everything that ended is saved; the same command goes on with the rest.",
            file=sys.stderr,
        )
        return 130
    if progress.resumed:
        print(f"{progress.resumed} of {progress.total} results were kept from earlier runs.")
    _print_rates(args.results, as_json=False)
    print(f"\nThe results are in {run.path}. In Python:\n    import nbrun; df = nbrun.load_results({str(run.path)!r})")
    return 0


def _status(args: argparse.Namespace) -> int:
    from nbrun.frames import status

    counts = dataclasses.asdict(status(args.results))
    if args.json:
        print(json.dumps(counts))
    else:
        print("\n".join(f"{name.replace('_', ' '):18}{n:>12,}" for name, n in counts.items()))
    return 0


def _rates(args: argparse.Namespace) -> int:
    _print_rates(args.results, args.json)
    return 0


def _print_rates(results: str, as_json: bool) -> None:
    from nbrun.frames import rates

    table = rates(results)
    if as_json:
        print(table.to_json(orient="records"))
        return
    shown = table[["sample_id", "tpr", "tnr", "n_positive", "n_negative", "n_judge_errors", "n_errors", "n_missing"]]
    print(shown.to_string(index=False, na_rep="-"))


if __name__ == "__main__":
    sys.exit(main())
