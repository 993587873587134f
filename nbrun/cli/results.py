"""`nbrun show`, `errors`, `archive`, `merge`, `export` and `check`. Each prints text, or JSON.

Runs in the main thread. pandas is loaded by the commands that need it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import secrets
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.cli.command import add_directory, add_parser, counts_of
from nbrun.errors import InputError
from nbrun.formatting import bytes_text, counted
from nbrun.texts import escape_control_chars, shorten

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".parquet", ".csv", ".json", ".jsonl")
#: What makes a cell a formula in a spreadsheet, at its beginning.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def add_commands(commands: Any) -> None:
    """Add the commands to a parser's subcommands."""
    show = add_parser(
        commands,
        "show",
        _show,
        "look at a sample, or at one of its results",
        about="List the results of a sample, or print one of them whole: source, verdict, the first failing test, "
        "stderr, the error with its traceback. INDEX is the number in the list's column `index`.",
        examples=(
            "nbrun show results two-numbers",
            "nbrun show results two-numbers 3",
            "nbrun show results two-numbers 0 --group incorrect_solution",
        ),
    )
    add_directory(show)
    show.add_argument("id", metavar="ID", help="the sample's id; a wrong one prints similar ids")
    show.add_argument("index", metavar="INDEX", type=int, nargs="?", help="which item; without it, all are listed")
    show.add_argument(
        "--group", metavar="NAME", help="the group of the item (default: solution, or the only group that has INDEX)"
    )
    errors = add_parser(
        commands,
        "errors",
        _errors,
        "list the tasks that ended in errors",
        about="Count the tasks that ended in errors, by kind and message, with an example of each. They run again when "
        "the run is started again.",
        examples=("nbrun errors results", "nbrun errors results --kind ConnectionError", "nbrun errors results --json"),
    )
    add_directory(errors)
    errors.add_argument("--kind", metavar="TYPE", help="list every task with this type of error, such as TimeoutError")
    archive = add_parser(
        commands,
        "archive",
        _archive,
        "move the files of finished samples into one compressed file",
        about="Move the files of finished samples into one compressed file in the same directory. Everything reads and "
        "continues it as before. No run may write there meanwhile.",
        examples=("nbrun archive results", "nbrun archive results --unpack"),
    )
    add_directory(archive)
    archive.add_argument("--unpack", action="store_true", help="move archived samples back into files of their own")
    merge = add_parser(
        commands,
        "merge",
        _merge,
        "make one new directory from several",
        about="Make a new results directory from several, which stay as they are. Of two results of one task the newer "
        "counts, and a result counts more than an error.",
        examples=("nbrun merge all shard-0 shard-1",),
    )
    merge.add_argument("target", metavar="TARGET", help="the directory to make; it must not exist")
    add_directory(merge, several=True)
    export = add_parser(
        commands,
        "export",
        _export,
        "write all results to a file, one row for each",
        about="Write all results to a file, one row for each. The file's name decides its format: .csv, .json, .jsonl, "
        "or .parquet (needs pyarrow).",
        examples=("nbrun export results results.csv", "nbrun export results results.parquet --force"),
    )
    add_directory(export)
    export.add_argument("file", metavar="FILE", help="the file to write; ends in .csv, .json, .jsonl or .parquet")
    export.add_argument("--force", action="store_true", help="replace FILE if it exists")
    export.add_argument(
        "--raw", action="store_true", help="in CSV, leave cells that a spreadsheet would run as a formula as they are"
    )
    check = add_parser(
        commands,
        "check",
        _check,
        "look for damage in a results directory",
        about="Read everything in a results directory and list what is damaged and what that costs. The exit code is 1 "
        "where something is damaged.",
        examples=("nbrun check results", "nbrun check results --repair"),
    )
    add_directory(check)
    check.add_argument(
        "--repair", action="store_true", help="write new files with what can be read; damaged ones are kept aside"
    )


def _show(args: argparse.Namespace) -> int:
    from nbrun.entry_view import EntryView
    from nbrun.frames import show

    counts_of(args.results)
    found = show(args.results, args.id, args.group, args.index)
    if not args.json:
        print(found)
    elif isinstance(found, EntryView):
        print(json.dumps(dataclasses.asdict(found), default=str))
    else:
        print(found.table.to_json(orient="records"))
    return 0


#: A longer message is cut in the table of errors, which a terminal must hold.
_MESSAGE_CHARS = 60


def _errors(args: argparse.Namespace) -> int:
    from nbrun.frames import load_results

    counts_of(args.results)
    columns = ["sample_id", "group", "index", "status", "attempts", "error"]
    df = load_results(args.results, columns=columns, where={"status": "error"})
    if df.empty:
        print("[]" if args.json else "No task ended in an error.")
        return 0
    text = df["error"].astype(str)
    df = df.assign(
        type=text.str.partition(": ")[0],
        message=text.str.partition(": ")[2].str.partition("\n")[0].map(escape_control_chars),
    )
    if args.kind is not None:
        known = sorted(df["type"].unique())
        df = df[df["type"] == args.kind]
        if df.empty:
            raise InputError(f"errors: no task ended with {args.kind}. Kinds there: {', '.join(known) or 'none'}.")
        rows = df[["sample_id", "group", "index", "attempts", "message"]]
    else:
        rows = _by_message(df)
    if args.json:
        print(rows.to_json(orient="records"))
        return 0
    shown = rows.assign(
        message=[shorten(message, _MESSAGE_CHARS) for message in rows["message"]],
        sample_id=[escape_control_chars(str(id)) for id in rows["sample_id"]],
    )
    print(shown.to_string(index=False, na_rep="-", max_colwidth=_MESSAGE_CHARS))
    first = rows.iloc[0]
    place = "" if first["index"] is None or first["index"] != first["index"] else f" {first['index']}"
    id = escape_control_chars(str(first["sample_id"]))
    print(
        f"\n{counted(len(df), 'task')} ended in errors; they run again when the run is started again. To see one:\n"
        f"    nbrun show {shlex.quote(args.results)} {shlex.quote(id)}{place}"
        f" --group {shlex.quote(str(first['group']))}"
    )
    return 0


def _by_message(df: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each type and message, the most frequent first, with the place of an example."""
    rows = df.groupby(["type", "message"], sort=False, observed=True).agg(
        n=("index", "size"),
        samples=("sample_id", "nunique"),
        sample_id=("sample_id", "first"),
        group=("group", "first"),
        index=("index", "first"),
    )
    return rows.reset_index().sort_values("n", ascending=False, kind="stable")


def _check(args: argparse.Namespace) -> int:
    from nbrun.tools.check import check

    report = check(args.results, repair=args.repair)
    print(json.dumps(report.to_dict()) if args.json else report)
    return 0 if report.is_ok else 1


def _archive(args: argparse.Namespace) -> int:
    from nbrun.tools.archive import archive_results

    done = archive_results(args.results, unpack=args.unpack)
    if args.json:
        print(json.dumps(done.to_dict()))
    elif args.unpack:
        print(f"{done.samples:,} samples are in files of their own again.")
    elif not done.samples:
        print("There is no finished sample's file to archive.")
    else:
        print(
            f"{done.samples:,} samples moved to {Path(done.path) / done.archive}: "
            f"{bytes_text(done.before_bytes)} became {bytes_text(done.after_bytes)}."
        )
    if done.left and not args.json:
        print(f"{done.left:,} samples are not finished and stay in their files.")
    return _exit_code(done.problems, args.json)


def _merge(args: argparse.Namespace) -> int:
    from nbrun.tools.merge import merge_results

    for path in args.results:
        counts_of(path)
    done = merge_results(args.target, *args.results)
    if args.json:
        print(json.dumps(done.to_dict()))
        return _exit_code(done.problems, True)
    print(f"{done.path}: {done.entries:,} results of {done.samples:,} samples, from {done.directories:,} directories.")
    if done.in_several:
        gone = dataclasses.asdict(done.dropped)
        dropped = ", ".join(f"{n:,} {name}" for name, n in gone.items() if n) or "nothing"
        both = counted(done.in_several, "sample")
        print(f"{both} in several directories. Dropped, as another result counts: {dropped}.")
    return _exit_code(done.problems, False)


def _exit_code(problems: Sequence[str], as_json: bool) -> int:
    """Print problems, unless they are in the JSON; return 1 where there are some."""
    for problem in () if as_json else problems:
        print(f"nbrun: {escape_control_chars(problem)}", file=sys.stderr)
    return int(bool(problems))


def without_formulas(df: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in which no text is a formula to a spreadsheet: those that begin like one get a leading '.

    A spreadsheet runs cells that begin with =, +, -, @, a tab or a carriage return. Numbers stay as they are.
    """

    import pandas as pd

    def safe(value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, dict, list)):
            return value
        text = value if isinstance(value, str) else str(value)
        return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else value

    out = df.rename(columns=safe)
    for place, name in enumerate(df.columns):
        column = df[name]
        if column.dtype.kind in "biufcmM" or str(column.dtype) in ("Int64", "Float64", "boolean"):
            continue
        out.isetitem(
            place, pd.Series([safe(v) for v in column.astype(object)], index=df.index, dtype=object).to_numpy()
        )
    return out


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _export(args: argparse.Namespace) -> int:
    from nbrun.frames import load_results
    from nbrun.frames.export import write_frame

    counts_of(args.results)
    target = Path(args.file).expanduser()
    if target.suffix not in _SUFFIXES:
        raise InputError(f"export: {args.file} ends in none of {', '.join(_SUFFIXES)}.")
    if not target.parent.is_dir():
        raise InputError(f"export: there is no folder {target.parent}.")
    if target.is_dir():
        raise InputError(f"export: {target} is a folder. Give the name of a file.")
    if target.exists() and not args.force:
        raise InputError(f"export: {target} exists. Choose another name, or add --force to replace it.")
    df = load_results(args.results)
    if target.suffix == ".csv" and not args.raw:
        df = without_formulas(df)
    # a name that can't be guessed, so that no link can wait there
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        write_frame(df, beside, target.suffix)
        os.replace(beside, target)
    except ImportError:
        raise InputError("export: Parquet needs pyarrow: pip install 'nbrun[arrow]'.") from None
    except OSError as e:
        raise InputError(f"export: {target} can't be written: {e.strerror or e}.") from e
    finally:
        beside.unlink(missing_ok=True)
    out = {"file": str(target), "rows": len(df), "bytes": target.stat().st_size}
    print(json.dumps(out) if args.json else f"{len(df):,} results written to {target}.")
    return 0
