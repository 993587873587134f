"""`nbrun show`, `archive`, `merge` and `export`: one result, and all of them elsewhere. Each prints text, or JSON.

Runs in the main thread. pandas is loaded by the commands that need it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from nbrun.cli.command import add_command, counts_of
from nbrun.errors import InputError
from nbrun.progress import bytes_text

_WRITERS = {".parquet": "to_parquet", ".csv": "to_csv", ".json": "to_json", ".jsonl": "to_json"}


def add_commands(commands: Any) -> None:
    """Adds them to a parser's subcommands."""
    show = add_command(commands, "show", _show, "look closer at a sample, or at one of its results")
    show.add_argument("id", metavar="ID", help="the sample's id")
    show.add_argument("index", metavar="INDEX", type=int, nargs="?", help="which item; without it all are listed")
    show.add_argument("--group", help="solution where nothing is said")
    archive = add_command(commands, "archive", _archive, "move the files of finished samples into one compressed file")
    archive.add_argument("--unpack", action="store_true", help="put them back into files of their own")
    merge = commands.add_parser("merge", help="make one new directory of several, which stay as they are")
    merge.add_argument("target", metavar="TARGET", help="the new directory")
    merge.add_argument("results", metavar="DIR", nargs="+")
    merge.add_argument("--json", action="store_true", help="print JSON")
    merge.set_defaults(run=_merge)
    export = add_command(commands, "export", _export, "write one row a result to a file")
    export.add_argument("file", metavar="FILE", help="ends in .parquet (needs pyarrow), .csv, .json or .jsonl")


def _show(args: argparse.Namespace) -> int:
    from nbrun.frames import show
    from nbrun.frames.showing import Shown

    counts_of(args.results)
    found = show(args.results, args.id, args.group, args.index)
    if not args.json:
        print(found)
    elif isinstance(found, Shown):
        print(json.dumps(dataclasses.asdict(found), default=str))
    else:
        print(found.table.to_json(orient="records"))
    return 0


def _archive(args: argparse.Namespace) -> int:
    from nbrun.storage.archiving import archive_results

    done = archive_results(args.results, unpack=args.unpack)
    if args.json:
        print(json.dumps(done.to_dict()))
        return int(bool(done.problems))
    if args.unpack:
        print(f"{done.samples:,} samples stand in files of their own again.")
    elif not done.samples:
        print("There is no finished sample's file to archive.")
    else:
        print(
            f"{done.samples:,} samples moved to {Path(done.path) / done.archive}: "
            f"{bytes_text(done.before_bytes)} became {bytes_text(done.after_bytes)}."
        )
    if done.left:
        print(f"{done.left:,} samples are not finished and stay in their files.")
    for problem in done.problems:
        print(f"nbrun: {problem}", file=sys.stderr)
    return int(bool(done.problems))


def _merge(args: argparse.Namespace) -> int:
    from nbrun.storage.merging import merge_results

    for path in args.results:
        counts_of(path)
    done = merge_results(args.target, *args.results)
    if args.json:
        print(json.dumps(done.to_dict()))
        return int(bool(done.problems))
    print(f"{done.path}: {done.entries:,} results of {done.samples:,} samples, from {done.directories:,} directories.")
    if done.in_several:
        gone = dataclasses.asdict(done.dropped)
        told = ", ".join(f"{n:,} {name}" for name, n in gone.items() if n) or "nothing"
        print(f"{done.in_several:,} samples stood in several. Dropped, as another result counts: {told}.")
    for problem in done.problems:
        print(f"nbrun: {problem}", file=sys.stderr)
    return int(bool(done.problems))


def _export(args: argparse.Namespace) -> int:
    from nbrun.frames import load_results

    counts_of(args.results)
    target = Path(args.file).expanduser()
    writer = _WRITERS.get(target.suffix)
    if writer is None:
        raise InputError(f"export: {args.file} ends in none of {', '.join(_WRITERS)}.")
    if not target.parent.is_dir():
        raise InputError(f"export: there is no folder {target.parent}.")
    df = load_results(args.results)
    options: dict[str, Any] = {} if writer == "to_json" else {"index": False}
    if writer == "to_json":
        options = {"orient": "records", "lines": target.suffix == ".jsonl", "date_format": "iso"}
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        getattr(df, writer)(beside, **options)
        os.replace(beside, target)
    except ImportError:
        raise InputError("export: Parquet needs pyarrow: pip install 'nbrun[arrow]'.") from None
    except OSError as e:
        raise InputError(f"export: {target} can't be written: {e.strerror or e}.") from e
    finally:
        beside.unlink(missing_ok=True)
    told = {"file": str(target), "rows": len(df), "bytes": target.stat().st_size}
    print(json.dumps(told) if args.json else f"{len(df):,} results written to {target}.")
    return 0
