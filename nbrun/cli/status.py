"""`nbrun status`: what is saved, counted once or again and again. Runs in the main thread."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.cli.command import add_command, counts_of

if TYPE_CHECKING:
    from nbrun.frames import Status

_WATCH_S = 2.0


def add_commands(commands: Any) -> None:
    """Adds it to a parser's subcommands."""
    status = add_command(commands, "status", _status, "count what is saved")
    status.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=_WATCH_S,
        metavar="S",
        help="again every S seconds, until all is done",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError("give a number of seconds above 0")
    return seconds


def _status(args: argparse.Namespace) -> int:
    if args.watch is None:
        _print_status(counts_of(args.results), args.json)
        return 0
    before: tuple[float, int] | None = None
    while True:
        counts, now = counts_of(args.results), time.monotonic()
        if args.json:
            print(json.dumps(dataclasses.asdict(counts)), flush=True)
        else:
            ended = counts.done + counts.errors
            rate = 0.0 if before is None else max(0.0, (ended - before[1]) / (now - before[0]))
            before = now, ended
            print(_line(counts, rate), end="\n" if not sys.stdout.isatty() else "\x1b[K\r", flush=True)
        if counts.samples and counts.samples_complete == counts.samples and not _is_written(args.results):
            if sys.stdout.isatty() and not args.json:
                print()
            return 0
        time.sleep(args.watch)


def _is_written(results: str) -> bool:
    from nbrun.storage.format import FOLDER
    from nbrun.storage.lock import holder_of

    return bool(holder_of(Path(results).expanduser() / FOLDER / "lock"))


def _print_status(counts: Status, as_json: bool) -> None:
    told = dataclasses.asdict(counts)
    if as_json:
        print(json.dumps(told))
    else:
        print("\n".join(f"{name.replace('_', ' '):18}{n:>12,}" for name, n in told.items()))


def _line(counts: Status, rate: float) -> str:
    parts = [f"{counts.done:,} of {counts.total:,} done"]
    if counts.errors:
        parts.append(f"{counts.errors:,} errors")
    parts.append(f"{counts.samples_complete:,} of {counts.samples:,} samples complete")
    if rate:
        parts.append(f"{rate:,.1f} a second")
    return ", ".join(parts)
