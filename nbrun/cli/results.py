"""Commands for a results directory: status, rates, compare, show, archive, export. Each prints text, or JSON.

Runs in the main thread. pandas is loaded by the commands that need it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from nbrun.frames import Status

#: Columns of the table that are shown only where something in them is not 0.
_TROUBLES = ("n_judge_errors", "n_errors", "n_undecided", "n_missing")
_WATCH_S = 2.0
_WRITERS = {".parquet": "to_parquet", ".csv": "to_csv", ".json": "to_json", ".jsonl": "to_json"}


def add_commands(commands: Any) -> None:
    """Adds them to a parser's subcommands."""
    status = _add(commands, "status", _status, "count what is saved")
    status.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=_WATCH_S,
        metavar="S",
        help="again every S seconds, until all is done",
    )
    rates = _add(commands, "rates", _rates, "TPR and TNR of each sample")
    rates.add_argument(
        "--by", metavar="COLUMNS", help="group by these instead: language, or sample_id,language; or all"
    )
    rates.add_argument("--weight", choices=("solution", "sample"), default="solution", help="what counts alike")
    compare = _add(commands, "compare", _compare, "runs side by side, over the tasks that all have decided", "DIRS")
    compare.add_argument("--by", metavar="COLUMNS", default="all", help="one row for all (default), or as for rates")
    show = _add(commands, "show", _show, "look closer at a sample, or at one of its results")
    show.add_argument("id", metavar="ID", help="the sample's id")
    show.add_argument("index", metavar="INDEX", type=int, nargs="?", help="which item; without it all are listed")
    show.add_argument("--group", help="solution where nothing is said")
    archive = _add(commands, "archive", _archive, "move the files of finished samples into one compressed file")
    archive.add_argument("--unpack", action="store_true", help="put them back into files of their own")
    export = _add(commands, "export", _export, "write one row a result to a file")
    export.add_argument("file", metavar="FILE", help="ends in .parquet (needs pyarrow), .csv, .json or .jsonl")


def _add(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], about: str, metavar: str = "DIR"
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    if metavar == "DIR":
        command.add_argument("results", metavar="DIR")
    else:
        command.add_argument("results", metavar="DIR", nargs="+")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)
    return command


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError("give a number of seconds above 0")
    return seconds


# ---- status


def _status(args: argparse.Namespace) -> int:
    if args.watch is None:
        _print_status(_counts(args.results), args.json)
        return 0
    before: tuple[float, int] | None = None
    while True:
        counts, now = _counts(args.results), time.monotonic()
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


def _counts(results: str) -> Status:
    """The directory's counts.

    Raises:
        InputError: it is no results directory.
    """
    from nbrun.frames import status
    from nbrun.storage.format import FOLDER

    path = Path(results).expanduser()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file. Give the folder that a run wrote into.")
    counts = status(path)
    if not counts.samples and not (path / FOLDER).is_dir():
        raise InputError(f"{path} holds no results. Give the folder that a run wrote into.")
    return counts


# ---- tables


def _columns(text: str | None) -> list[str] | None:
    """--by: names, set apart by commas; "all" groups by nothing."""
    if text is None:
        return ["sample_id"]
    return None if text == "all" else [name.strip() for name in text.split(",")]


def _rates(args: argparse.Namespace) -> int:
    _counts(args.results)
    print_rates(args.results, as_json=args.json, by=_columns(args.by), weight=args.weight)
    return 0


def print_rates(
    results: str, *, as_json: bool = False, by: list[str] | None = ["sample_id"], weight: str = "solution"  # noqa: B006
) -> None:  # fmt: skip
    """The table of rates, for a terminal or as JSON."""
    from nbrun.frames import rates

    table = _made(rates, results, by=by, weight=weight)
    if as_json:
        print(table.to_json(orient="records"))
    elif table.empty:
        print("No task has ended yet.")
    else:
        troubles = [name for name in _TROUBLES if table[name].fillna(0).any()]
        print(_text(table[[*(by or ()), "tpr", "tnr", "n_positive", "n_negative", *troubles]]))


def _compare(args: argparse.Namespace) -> int:
    from nbrun.frames import compare, confusion, load_results, mcnemar
    from nbrun.frames.comparing import LOADED

    if len(args.results) < 2:
        raise InputError("compare takes two directories or more.")
    for path in args.results:
        _counts(path)
    names = dict(zip(_names(args.results), args.results, strict=True))
    runs = {name: load_results(path, columns=LOADED) for name, path in names.items()}
    table, tests = _made(compare, runs, by=_columns(args.by)), mcnemar(runs)
    flips = confusion(runs) if len(runs) == 2 else None
    if args.json:
        told = {"rates": _records(table), "mcnemar": _records(tests)}
        if flips is not None:
            told["confusion"] = [
                {"first": a, "second": b, "n": int(n)} for a, row in flips.iterrows() for b, n in row.items() if n
            ]
        print(json.dumps(told))
        return 0
    print(_text(table if args.by != "all" else _upright(table)))
    if flips is not None:
        print(f"\nVerdicts: rows {flips.index.name}, columns {flips.columns.name}")
        print(flips.rename_axis(index=None, columns=None).to_string())
    print("\nMcNemar's test; p_value takes tasks for independent, p_value_samples takes samples")
    print(_text(_upright(tests) if len(tests) == 1 else tests))
    return 0


def _names(paths: list[str]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [Path(os.path.abspath(os.path.expanduser(p))).parts for p in paths]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-n:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("compare: one directory is given twice.")


def _upright(table: pd.DataFrame) -> pd.DataFrame:
    """One row of many columns, as many rows."""
    import pandas as pd

    texts = [f"{v:.3g}" if isinstance(v, float) else str(v).replace("<NA>", "-") for v in table.iloc[0].tolist()]
    return pd.DataFrame({"": list(table.columns), " ": texts})


def _made(function: Callable[..., pd.DataFrame], *args: Any, **named: Any) -> pd.DataFrame:
    """A table; a column that there isn't is the caller's mistake."""
    try:
        return function(*args, **named)
    except TypeError as e:
        if "lacks the column" in str(e):
            raise InputError(str(e).replace("the frame lacks", "these results lack").split(";")[0] + ".") from None
        raise


def _text(table: pd.DataFrame) -> str:
    """A table for a terminal."""
    return table.to_string(index=False, na_rep="-", float_format="{:.3f}".format, max_colwidth=40)


def _records(table: pd.DataFrame) -> Any:
    return json.loads(table.to_json(orient="records"))


# ---- one result, all results


def _show(args: argparse.Namespace) -> int:
    from nbrun.frames import show
    from nbrun.frames.showing import Shown

    _counts(args.results)
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
            f"{done.before_bytes / 1e6:,.1f} MB became {done.after_bytes / 1e6:,.1f} MB."
        )
    if done.left:
        print(f"{done.left:,} samples are not finished and stay in their files.")
    for problem in done.problems:
        print(f"nbrun: {problem}", file=sys.stderr)
    return int(bool(done.problems))


def _export(args: argparse.Namespace) -> int:
    from nbrun.frames import load_results

    _counts(args.results)
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
