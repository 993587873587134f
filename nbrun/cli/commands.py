"""The commands that read and repair results directories. Each prints text, or JSON, and returns its exit code.

Every command runs in the main thread, and loads pandas only where it needs it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.errors import InputError
from nbrun.formatting import bytes_text, counted
from nbrun.texts import escape_control_chars, shorten

if TYPE_CHECKING:
    import pandas as pd

    from nbrun.frames import Status


def counts_of(results: str) -> Status:
    """Return the directory's counts.

    Raises:
        InputError: it is no results directory.
    """
    from nbrun.frames import status
    from nbrun.results.format import FOLDER

    path = Path(results).expanduser()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file. Give the folder that a run wrote into.")
    counts = status(path)
    if not counts.samples and not (path / FOLDER).is_dir():
        raise InputError(f"{path} holds no results. Give the folder that a run wrote into.")
    return counts


# ---- status


#: A field of Status -> its name in the printed table, where that isn't the field's own.
_LABELS = {"problems": "unreadable files"}


def status(args: argparse.Namespace) -> int:
    """Count what is saved, once or repeatedly."""
    if args.watch is not None:
        _watch(args.results, args.json, args.watch)
    elif args.json:
        print(_status_json(args.results, _counts(args.results)))
    else:
        _print_status(args.results, _counts(args.results))
    return 0


def _print_status(directories: list[str], counts: list[Status | None]) -> None:
    if len(counts) > 1:
        for path, one in zip(directories, counts, strict=True):
            print(f"{path}: {'not there yet' if one is None else _line([one])}")
        print(f"all: {_line(counts)}")
        return
    for only in filter(None, counts):
        at_least = "" if only.is_total_known else "at least "
        for name, value in dataclasses.asdict(only).items():
            if name != "is_total_known":
                text = f"{at_least if name in ('samples', 'total') else ''}{value:,}"
                print(f"{_LABELS.get(name, name.replace('_', ' ')):18}{text:>12}")


def _counts(directories: list[str]) -> list[Status | None]:
    """Return the counts of each directory; of several None for one that is missing, such as a shard not yet begun."""
    there = [os.path.lexists(os.path.expanduser(path)) for path in directories]
    if not any(there):
        return [counts_of(path) for path in directories]  # which raises
    return [counts_of(path) if is_there else None for path, is_there in zip(directories, there, strict=True)]


def _watch(directories: list[str], as_json: bool, every_s: float) -> None:
    """Print a line every `every_s` seconds, in a terminal in place of the one before, until all is complete."""
    end = "\x1b[K\r" if sys.stdout.isatty() and not as_json else "\n"
    rate, before_s, before = 0.0, 0.0, None
    while True:
        counts, now_s = _counts(directories), time.monotonic()
        ended = sum(c.done + c.errors for c in counts if c is not None)
        if before is not None:
            rate = max(0.0, (ended - before) / (now_s - before_s))
        before_s, before = now_s, ended
        print(_status_json(directories, counts) if as_json else _line(counts, rate), end=end, flush=True)
        if all(map(_is_complete, counts)) and not any(map(_is_written, directories)):
            print(end="" if end == "\n" else "\n")
            return
        time.sleep(every_s)


def _is_complete(counts: Status | None) -> bool:
    return counts is not None and 0 < counts.samples == counts.samples_complete


def _is_written(results: str) -> bool:
    from nbrun.results.format import FOLDER
    from nbrun.storage.lock import holder_of

    return bool(holder_of(Path(results).expanduser() / FOLDER / "lock"))


def _status_json(directories: list[str], counts: list[Status | None]) -> str:
    """Return one object for one directory; for several a list of objects with the key `results`, and of one that is not
    there only that."""
    if len(counts) == 1 and counts[0] is not None:
        return json.dumps(dataclasses.asdict(counts[0]))
    pairs = zip(directories, counts, strict=True)
    return json.dumps([{"results": path, **({} if one is None else dataclasses.asdict(one))} for path, one in pairs])


def _line(every: list[Status | None], rate: float = 0.0) -> str:
    counts = [c for c in every if c is not None]
    names = ("done", "total", "errors", "problems", "samples", "samples_complete")
    n = {name: sum(getattr(c, name) for c in counts) for name in names}
    at_least = "" if all(c is not None and c.is_total_known for c in every) else "at least "
    parts = (
        f"{n['done']:,} of {at_least}{n['total']:,} done",
        n["errors"] and counted(n["errors"], "error"),
        f"{n['samples_complete']:,} of {at_least}{n['samples']:,} samples complete",
        rate and f"{rate:,.1f} a second",
        n["problems"] and counted(n["problems"], "unreadable file"),
    )
    return ", ".join(part for part in parts if isinstance(part, str))


# ---- rates and compare


#: Columns of the table that are shown only where something in them is not 0.
_TROUBLES = ("n_judge_errors", "n_errors", "n_undecided", "n_missing")


def rates(args: argparse.Namespace) -> int:
    """Print how well solutions were judged, by sample or by other columns."""
    counts_of(args.results)
    print_rates(args.results, as_json=args.json, by=args.by, average=args.average)
    return 0


def print_rates(results: str, *, as_json: bool = False, by: str = "sample_id", average: str = "micro") -> None:
    """Print the table of rates, for a terminal or as JSON. `by`: see `_columns`."""
    from nbrun.frames import rates

    names = _columns(by)
    table = _table_of(rates, results, by=names, average=average)
    if as_json:
        print(table.to_json(orient="records"))
    elif table.empty:
        print("No task has ended yet.")
    else:
        troubles = [name for name in _TROUBLES if table[name].fillna(0).any()]
        print(_text(table[[*(names or ()), "tpr", "tnr", "n_positive", "n_negative", *troubles]]))


def _columns(text: str) -> list[str] | None:
    """Return the names in --by, which commas separate; None for "all", which groups by nothing."""
    return None if text == "all" else [name.strip() for name in text.split(",")]


def _table_of(function: Callable[..., pd.DataFrame], *args: Any, **named: Any) -> pd.DataFrame:
    """Return a table. Raise an InputError for a column that isn't there."""
    try:
        return function(*args, **named)
    except TypeError as e:
        if "lacks the column" in str(e):
            raise InputError(str(e).replace("the frame lacks", "these results lack").split(";")[0] + ".") from None
        raise


def compare(args: argparse.Namespace) -> int:
    """Print several runs side by side."""
    from nbrun.frames import compare, confusion, load_results, mcnemar
    from nbrun.frames.rate_tables import LOADED

    if len(args.results) < 2:
        raise InputError("compare takes two directories or more.")
    for path in args.results:
        counts_of(path)
    names = dict(zip(_short_names(args.results), args.results, strict=True))
    runs = {name: load_results(path, columns=LOADED) for name, path in names.items()}
    table, tests = _table_of(compare, runs, by=_columns(args.by)), mcnemar(runs)
    flips = confusion(runs) if len(runs) == 2 else None
    if args.json:
        print(_comparison_json(table, tests, flips))
    else:
        _print_comparison(_upright(table) if args.by == "all" else table, tests, flips)
    return 0


def _comparison_json(table: pd.DataFrame, tests: pd.DataFrame, flips: pd.DataFrame | None) -> str:
    out = {name: json.loads(t.to_json(orient="records")) for name, t in (("rates", table), ("mcnemar", tests))}
    if flips is not None:
        out["confusion"] = [
            {"first": a, "second": b, "n": int(n)} for a, row in flips.iterrows() for b, n in row.items() if n
        ]
    return json.dumps(out)


def _print_comparison(table: pd.DataFrame, tests: pd.DataFrame, flips: pd.DataFrame | None) -> None:
    print(_text(table))
    if flips is not None:
        print(f"\nVerdicts: rows {flips.index.name}, columns {flips.columns.name}")
        print(flips.rename_axis(index=None, columns=None).to_string())
    print("\nMcNemar's test; p_value takes tasks for independent, p_value_samples takes samples")
    print(_text(_upright(tests) if len(tests) == 1 else tests))


def _short_names(paths: list[str]) -> list[str]:
    """Return the shortest ends of the paths that distinguish them."""
    parts = [Path(os.path.abspath(os.path.expanduser(p))).parts for p in paths]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-n:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("compare: one directory is given twice.")


def _upright(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row of many columns as many rows."""
    import pandas as pd

    texts = [f"{v:.3g}" if isinstance(v, float) else str(v).replace("<NA>", "-") for v in table.iloc[0].tolist()]
    return pd.DataFrame({"": list(table.columns), " ": texts})


def _text(table: pd.DataFrame) -> str:
    """Return a table for a terminal, in which no sample's id can act as a control sequence."""
    texts = {
        name: [escape_control_chars(v).replace("\n", "␊") if isinstance(v, str) else v for v in table[name]]
        for name in table.columns
        if not hasattr(table[name].dtype, "numpy_dtype") and table[name].dtype.kind == "O"
    }
    return table.assign(**texts).to_string(index=False, na_rep="-", float_format="{:.3f}".format, max_colwidth=40)


# ---- show and errors


def show(args: argparse.Namespace) -> int:
    """Print a sample's results, or one of them."""
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


def errors(args: argparse.Namespace) -> int:
    """List the tasks that ended in errors, by kind or one by one."""
    from nbrun.frames import load_results

    counts_of(args.results)
    columns = ["sample_id", "group", "index", "status", "attempts", "error"]
    df = load_results(args.results, columns=columns, where={"status": "error"})
    if df.empty:
        print("[]" if args.json else "No task ended in an error.")
        return 0
    parts = df["error"].astype(str).str.partition(": ")
    df = df.assign(type=parts[0], message=parts[2].str.partition("\n")[0].map(escape_control_chars))
    rows = _by_message(df)
    if args.kind is not None:
        known = ", ".join(sorted(df["type"].unique()))
        df = df[df["type"] == args.kind]
        if df.empty:
            raise InputError(f"errors: no task ended with {args.kind}. Kinds there: {known}.")
        rows = df[["sample_id", "group", "index", "attempts", "message"]]
    if args.json:
        print(rows.to_json(orient="records"))
    else:
        _print_errors(rows, len(df), args.results)
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


def _print_errors(rows: pd.DataFrame, n: int, results: str) -> None:
    """Print a table, and the command that shows its first row whole."""
    shown = rows.assign(
        message=[shorten(message, _MESSAGE_CHARS) for message in rows["message"]],
        sample_id=[escape_control_chars(str(id)) for id in rows["sample_id"]],
    )
    print(shown.to_string(index=False, na_rep="-", max_colwidth=_MESSAGE_CHARS))
    first = rows.iloc[0]
    place = "" if first["index"] is None or first["index"] != first["index"] else f" {first['index']}"
    id = escape_control_chars(str(first["sample_id"]))
    print(
        f"\n{counted(n, 'task')} ended in errors; they run again when the run is started again. To see one:\n"
        f"    nbrun show {shlex.quote(results)} {shlex.quote(id)}{place} --group {shlex.quote(str(first['group']))}"
    )


# ---- check, archive and merge


def check(args: argparse.Namespace) -> int:
    """Look for damage, and repair it where that is asked for."""
    from nbrun.tools.check import check

    report = check(args.results, repair=args.repair)
    print(json.dumps(report.to_dict()) if args.json else report)
    return 0 if report.is_ok else 1


def archive(args: argparse.Namespace) -> int:
    """Move finished samples into an archive, or out of it."""
    from nbrun.tools.archive import archive_results

    done = archive_results(args.results, unpack=args.unpack)
    if args.json:
        print(json.dumps(done.to_dict()))
        return _exit_code(done.problems, True)
    if args.unpack:
        print(f"{done.samples:,} samples are in files of their own again.")
    elif not done.samples:
        print("There is no finished sample's file to archive.")
    else:
        print(
            f"{done.samples:,} samples moved to {Path(done.path) / done.archive}: "
            f"{bytes_text(done.before_bytes)} became {bytes_text(done.after_bytes)}."
        )
    if done.left:
        print(f"{done.left:,} samples are not finished and stay in their files.")
    return _exit_code(done.problems, False)


def merge(args: argparse.Namespace) -> int:
    """Make one directory from several."""
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


# ---- export


_SUFFIXES = (".parquet", ".csv", ".json", ".jsonl")
#: What makes a cell a formula in a spreadsheet, at its beginning.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(args: argparse.Namespace) -> int:
    """Write all results to a file."""
    from nbrun.frames import load_results
    from nbrun.frames.load import write_frame

    counts_of(args.results)
    target = _export_target(args.file, force=args.force)
    df = load_results(args.results)
    if target.suffix == ".csv" and not args.raw:
        df = _without_formulas(df)
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


def _export_target(file: str, *, force: bool) -> Path:
    """Return the path to write to. Raise an InputError where that can't be done or would replace something."""
    target = Path(file).expanduser()
    if target.suffix not in _SUFFIXES:
        raise InputError(f"export: {file} ends in none of {', '.join(_SUFFIXES)}.")
    if not target.parent.is_dir():
        raise InputError(f"export: there is no folder {target.parent}.")
    if target.is_dir():
        raise InputError(f"export: {target} is a folder. Give the name of a file.")
    if target.exists() and not force:
        raise InputError(f"export: {target} exists. Choose another name, or add --force to replace it.")
    return target


def _without_formulas(df: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in which no text is a formula to a spreadsheet: those that begin like one get a leading '."""
    import pandas as pd

    out = df.rename(columns=_no_formula)
    for place, name in enumerate(df.columns):
        column = df[name]
        if column.dtype.kind not in "biufcmM" and str(column.dtype) not in ("Int64", "Float64", "boolean"):
            values = [_no_formula(v) for v in column.astype(object)]
            out.isetitem(place, pd.Series(values, index=df.index, dtype=object).to_numpy())
    return out


def _no_formula(value: Any) -> Any:
    """Return a cell that a spreadsheet doesn't run. Numbers stay as they are, those that are written as text too."""
    if value is None or isinstance(value, (bool, int, float, dict, list)):
        return value
    text = str(value)
    if not text.startswith(_FORMULA):
        return value
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return value
