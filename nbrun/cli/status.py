"""`nbrun status`: count what is saved, once or repeatedly. Runs in the main thread."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.cli.command import add_directory, add_parser, counts_of
from nbrun.formatting import counted

if TYPE_CHECKING:
    from nbrun.frames import Status

_WATCH_S = 2.0
#: A field of Status -> its name in the printed table, where that isn't the field's own.
_LABELS = {"problems": "unreadable files"}


def add_commands(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    status = add_parser(
        commands,
        "status",
        _status,
        "count what is saved",
        about="Count samples, tasks that are done, and tasks that ended in errors. It reads no results, so it is "
        "quick; it works while a run writes.",
        examples=("nbrun status results", "nbrun status results --watch", "nbrun status shard-* --json"),
    )
    add_directory(status, several=True)
    status.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=_WATCH_S,
        metavar="SECONDS",
        help=f"print a line every SECONDS seconds (default: {_WATCH_S:g}) until every sample is complete and no run "
        "writes there",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"give a number of seconds above 0, not {text!r}")
    return seconds


def _status(args: argparse.Namespace) -> int:
    if args.watch is None:
        _print_once(args.results, args.json)
        return 0
    _watch(args.results, args.json, args.watch)
    return 0


def _print_once(directories: list[str], as_json: bool) -> None:
    counts = _counts(directories)
    if as_json:
        print(_json(directories, counts))
    elif (only := counts[0]) is not None and len(counts) == 1:
        for name, value in dataclasses.asdict(only).items():
            if name == "is_total_known":
                continue
            at_least = "" if only.is_total_known or name not in ("samples", "total") else "at least "
            print(f"{_LABELS.get(name, name.replace('_', ' ')):18}{at_least + _count(value):>12}")
    else:
        for path, one in zip(directories, counts, strict=True):
            print(f"{path}: {'not there yet' if one is None else _line([one])}")
        print(f"all: {_line(counts)}")


def _counts(directories: list[str]) -> list[Status | None]:
    """Return the counts of each directory; of several None for one that is missing, such as a shard not yet begun."""
    there = [os.path.lexists(os.path.expanduser(path)) for path in directories]
    if not any(there):
        return [counts_of(path) for path in directories]  # which raises
    return [counts_of(path) if is_there else None for path, is_there in zip(directories, there, strict=True)]


def _watch(directories: list[str], as_json: bool, every_s: float) -> None:
    before: tuple[float, int] | None = None
    while True:
        counts, now = _counts(directories), time.monotonic()
        ended = sum(c.done + c.errors for c in counts if c is not None)
        rate = 0.0 if before is None else max(0.0, (ended - before[1]) / (now - before[0]))
        before = now, ended
        if as_json:
            print(_json(directories, counts), flush=True)
        else:
            print(_line(counts, rate), end="\x1b[K\r" if sys.stdout.isatty() else "\n", flush=True)
        if all(c and c.samples and c.samples_complete == c.samples for c in counts) and not any(
            map(_is_written, directories)
        ):
            if sys.stdout.isatty() and not as_json:
                print()
            return
        time.sleep(every_s)


def _json(directories: list[str], counts: list[Status | None]) -> str:
    """Return one object for one directory; for several a list of objects with the key `results`, and of one that is not
    there only that."""
    if len(counts) == 1 and counts[0] is not None:
        return json.dumps(dataclasses.asdict(counts[0]))
    pairs = zip(directories, counts, strict=True)
    return json.dumps([{"results": path, **({} if one is None else dataclasses.asdict(one))} for path, one in pairs])


def _is_written(results: str) -> bool:
    from nbrun.results.format import FOLDER
    from nbrun.storage.lock import holder_of

    return bool(holder_of(Path(results).expanduser() / FOLDER / "lock"))


def _line(every: list[Status | None], rate: float = 0.0) -> str:
    counts = [c for c in every if c is not None]
    done, errors, problems = (sum(getattr(c, name) for c in counts) for name in ("done", "errors", "problems"))
    total, samples = (_sum([getattr(c, name) for c in counts]) for name in ("total", "samples"))
    at_least = "" if all(c is not None and c.is_total_known for c in every) else "at least "
    parts = [f"{done:,} of {at_least}{_count(total)} done"]
    if errors:
        parts.append(counted(errors, "error"))
    parts.append(f"{sum(c.samples_complete for c in counts):,} of {at_least}{_count(samples)} samples complete")
    if rate:
        parts.append(f"{rate:,.1f} a second")
    if problems:
        parts.append(counted(problems, "unreadable file"))
    return ", ".join(parts)


def _sum(values: list[int | None]) -> int | None:
    """Return the sum, None where one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _count(value: Any) -> str:
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
