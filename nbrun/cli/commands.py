"""All commands of nbrun and their options. Each prints text, or JSON, and returns its exit code.

Every command runs in the main thread, and loads pandas only where it needs it. What a command raises becomes one line
of text and an exit code.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import re
import secrets
import shlex
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nbrun.errors import InputError, NbrunError
from nbrun.texts import bytes_text, counted, escape_control_chars, shorten
from nbrun.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from nbrun.frames import Status
    from nbrun.tools.archive import Archived
    from nbrun.tools.merge import Merged

#: Packages whose versions `--version` prints: those that nbrun needs, and those that it can work with.
_DEPENDENCIES = ("anywidget", "ipywidgets", "numpy", "orjson", "pandas", "PyYAML", "tqdm")
_OPTIONAL = ("cloudpickle", "distributed", "ipykernel", "jupyterlab", "matplotlib", "notebook", "pyarrow")
_EPILOG = """first steps:
  nbrun demo                     judge the problem set that comes with nbrun
  nbrun status nbrun-demo        count what is saved
  nbrun errors nbrun-demo        list what failed, by kind of error
  nbrun export nbrun-demo a.csv  write all results to a file

`nbrun COMMAND --help` explains a command and gives examples.
Tab completes in bash and zsh after: pip install "nbrun[completion]"; eval "$(register-python-argcomplete nbrun)"
exit codes: 0 success, 1 damage was found or something could not be read, 2 an error, 130 interrupted by Ctrl-C"""
_WATCH_S = 2.0


def run_command(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; see `nbrun.cli.main`."""
    try:
        try:
            parser = make_parser()
            if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next
                import argcomplete

                argcomplete.autocomplete(parser)  # answers, and exits
            args = parser.parse_args(argv)  # prints what --help and --version ask for, and exits
            if args.run is None:
                parser.print_help(sys.stderr)
                return 2
            with _plain_warnings():
                return int(args.run(args))
        finally:
            sys.stdout.flush()
    except NbrunError as e:
        print(f"nbrun: {escape_control_chars(str(e))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes stdout once more at its end
        return 141


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print a warning as one line, like an error, without its category and a line of nbrun's source."""

    def show(message: Warning | str, *rest: object, **more: object) -> None:
        print(f"nbrun: {escape_control_chars(str(message))}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. A parsed command has its function as `run`, or None where none was given."""
    parser = argparse.ArgumentParser(
        prog="nbrun",
        description="Look at, export and repair the results that nbrun saved. Runs are started in Python, by "
        "nbrun.start.",
        epilog=_EPILOG,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, help="print the versions of nbrun and of the packages it works with"
    )
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")
    for c in _COMMANDS:
        epilog = "\n  ".join(("examples:", *c.examples))
        command = subparsers.add_parser(
            c.run.__name__, help=c.summary, description=c.about, epilog=epilog, formatter_class=_HelpFormatter
        )
        command.set_defaults(run=c.run)
        for add_to in c.arguments:
            add_to(command)
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keep the lines of examples as they are written, and fold descriptions."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


class _Version(argparse.Action):
    """`--version`. The versions are looked up only when they are asked for."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        print(f"nbrun {__version__}")
        print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}")
        for name in (*_DEPENDENCIES, *_OPTIONAL):
            try:
                print(f"{name} {version(name)}")
            except PackageNotFoundError:
                print(f"{name} is not installed")
        parser.exit(0)


# ---- looking into directories


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
        return 0
    counts = _counts(args.results)
    if args.json:
        print(_status_json(args.results, counts))
    else:
        _print_status(args.results, counts)
    return 0


def _print_status(directories: list[str], counts: list[Status]) -> None:
    if len(counts) > 1:
        for path, one in zip(directories, counts, strict=True):
            print(f"{path}: {'not there yet' if one is _not_there() else _line([one])}")
        print(f"all: {_line(counts)}")
        return
    fields = dataclasses.asdict(counts[0])
    bounds = {} if fields.pop("is_total_known") else dict.fromkeys(("samples", "total"), "at least ")
    for name, value in fields.items():
        print(f"{_LABELS.get(name, name.replace('_', ' ')):18}{bounds.get(name, '') + f'{value:,}':>12}")


@cache
def _not_there() -> Status:
    """Return the counts of a directory that is missing, such as a shard's that was not yet begun."""
    from nbrun.frames import Status

    return Status(0, 0, 0, 0, 0, 0, is_total_known=False)


def _counts(directories: list[str]) -> list[Status]:
    """Return the counts of each directory, one of which at least must be there."""
    missing = {path for path in directories if not os.path.lexists(os.path.expanduser(path))}
    if missing.issuperset(directories):
        missing.clear()  # so that the first one raises
    return [_not_there() if path in missing else counts_of(path) for path in directories]


def _watch(directories: list[str], as_json: bool, every_s: float) -> None:
    """Print a line every `every_s` seconds, in a terminal in place of the one before, until all is complete."""
    is_in_place = sys.stdout.isatty() and not as_json
    before_s, before = -math.inf, 0  # so that the first rate is 0
    while True:
        counts, now_s = _counts(directories), time.monotonic()
        ended = sum(c.done + c.errors for c in counts)
        rate = max(0.0, (ended - before) / (now_s - before_s))
        before_s, before = now_s, ended
        text = _status_json(directories, counts) if as_json else _line(counts, rate)
        print(text, end="\x1b[K\r" if is_in_place else "\n", flush=True)
        if all(map(_is_complete, counts)) and not any(map(_is_written, directories)):
            break
        time.sleep(every_s)
    if is_in_place:
        print()


def _is_complete(counts: Status) -> bool:
    return 0 < counts.samples == counts.samples_complete


def _is_written(results: str) -> bool:
    from nbrun.results.format import FOLDER
    from nbrun.storage.lock import holder_of

    return bool(holder_of(Path(results).expanduser() / FOLDER / "lock"))


def _status_json(directories: list[str], counts: list[Status]) -> str:
    """Return one object for one directory; for several a list of objects with the key `results`, and of one that is not
    there only that."""
    if len(counts) == 1:
        return json.dumps(dataclasses.asdict(counts[0]))
    objects = [{} if one is _not_there() else dataclasses.asdict(one) for one in counts]
    return json.dumps([{"results": path} | one for path, one in zip(directories, objects, strict=True)])


def _line(counts: list[Status], rate: float = 0.0) -> str:
    n = Counter[str]()
    for one in counts:
        n.update(dataclasses.asdict(one))
    at_least = "at least " * (n["is_total_known"] < len(counts))
    parts = (
        f"{n['done']:,} of {at_least}{n['total']:,} done",
        counted(n["errors"], "error") * (n["errors"] > 0),
        f"{n['samples_complete']:,} of {at_least}{n['samples']:,} samples complete",
        f"{rate:,.1f} a second" * (rate > 0),
        counted(n["problems"], "unreadable file") * (n["problems"] > 0),
    )
    return ", ".join(filter(None, parts))


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
    table = rates(results, by=names, average=average)
    if as_json:
        print(table.to_json(orient="records"))
    elif table.empty:
        print("No task has ended yet.")
    else:
        troubles = [name for name in _TROUBLES if table[name].fillna(0).any()]
        print(_text(table[[*(names or ()), "tpr", "tnr", "n_positive", "n_negative", *troubles]]))


def _columns(text: str) -> list[str] | None:
    """Return the names in --by, which commas separate; None for "all", which groups by nothing."""
    return None if text == "all" else list(map(str.strip, text.split(",")))


def compare(args: argparse.Namespace) -> int:
    """Print several runs side by side."""
    from nbrun.frames import compare, confusion, mcnemar

    runs = _runs_of(args.results)
    table, tests = compare(runs, by=_columns(args.by)), mcnemar(runs)
    flips = confusion(runs) if len(runs) == 2 else None
    if args.json:
        print(_comparison_json(table, tests, flips))
    else:
        _print_comparison(_upright(table) if args.by == "all" else table, tests, flips)
    return 0


def _runs_of(directories: list[str]) -> dict[str, pd.DataFrame]:
    """Return the results to compare, by short names of their directories."""
    from nbrun.frames import load_results
    from nbrun.frames.rate_tables import LOADED

    if len(directories) < 2:
        raise InputError("compare takes two directories or more.")
    for path in directories:
        counts_of(path)
    names = _short_names(directories)
    return {name: load_results(path, columns=LOADED) for name, path in zip(names, directories, strict=True)}


def _records(table: pd.DataFrame) -> Any:
    return json.loads(table.to_json(orient="records"))


def _comparison_json(table: pd.DataFrame, tests: pd.DataFrame, flips: pd.DataFrame | None) -> str:
    out = {"rates": _records(table), "mcnemar": _records(tests)}
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


def _text(table: pd.DataFrame, max_colwidth: int = 40) -> str:
    """Return a table for a terminal, in which no text, such as a sample's id, can act as a control sequence."""

    def visible(value: Any) -> Any:
        return escape_control_chars(value).replace("\n", "␊") if isinstance(value, str) else value

    texts = {name: list(map(visible, table[name])) for name in table.columns if table[name].dtype.kind == "O"}
    return table.assign(**texts).to_string(
        index=False, na_rep="-", float_format="{:.3f}".format, max_colwidth=max_colwidth
    )


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
    print(_text(rows.assign(message=[shorten(m, _MESSAGE_CHARS) for m in rows["message"]]), _MESSAGE_CHARS))
    first = rows.iloc[0]
    place = "" if first.isna()["index"] else f" {first['index']}"
    id, group = (escape_control_chars(str(first[name])) for name in ("sample_id", "group"))
    print(
        f"\n{counted(n, 'task')} ended in errors; they run again when the run is started again. To see one:\n"
        f"    nbrun show {shlex.quote(results)} {shlex.quote(id)}{place} --group {shlex.quote(group)}"
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
    return _report(done, args.json, _lines_of_unpacked(done) if args.unpack else _lines_of_archived(done))


def _lines_of_unpacked(done: Archived) -> Iterator[str]:
    yield f"{done.samples:,} samples are in files of their own again."


def _lines_of_archived(done: Archived) -> Iterator[str]:
    if done.samples:
        yield (
            f"{done.samples:,} samples moved to {Path(done.path) / done.archive}: "
            f"{bytes_text(done.before_bytes)} became {bytes_text(done.after_bytes)}."
        )
    else:
        yield "There is no finished sample's file to archive."
    if done.left:
        yield f"{done.left:,} samples are not finished and stay in their files."


def merge(args: argparse.Namespace) -> int:
    """Make one directory from several."""
    from nbrun.tools.merge import merge_results

    for path in args.results:
        counts_of(path)
    done = merge_results(args.target, *args.results)
    return _report(done, args.json, _lines_of_merged(done))


def _lines_of_merged(done: Merged) -> Iterator[str]:
    yield f"{done.path}: {done.entries:,} results of {done.samples:,} samples, from {done.directories:,} directories."
    if done.in_several:
        gone = dataclasses.asdict(done.dropped)
        dropped = ", ".join(f"{n:,} {name}" for name, n in gone.items() if n) or "nothing"
        both = counted(done.in_several, "sample")
        yield f"{both} in several directories. Dropped, as another result counts: {dropped}."


def _report(done: Archived | Merged, as_json: bool, lines: Iterable[str]) -> int:
    """Print what was done: as JSON, or these lines and then what could not be read. Return the exit code."""
    if as_json:
        print(json.dumps(done.to_dict()))
    else:
        for line in lines:
            print(line)
        for problem in done.problems:
            print(f"nbrun: {escape_control_chars(problem)}", file=sys.stderr)
    return int(bool(done.problems))


# ---- export


_SUFFIXES = (".parquet", ".csv", ".json", ".jsonl")
#: What makes a cell a formula in a spreadsheet, at its beginning.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def export(args: argparse.Namespace) -> int:
    """Write all results to a file."""
    from nbrun.frames import load_results

    counts_of(args.results)
    target = _export_target(args.file, force=args.force)
    df = load_results(args.results)
    if target.suffix == ".csv" and not args.raw:
        df = _without_formulas(df)
    _write(df, target)
    out = {"file": str(target), "rows": len(df), "bytes": target.stat().st_size}
    print(json.dumps(out) if args.json else f"{len(df):,} results written to {target}.")
    return 0


def _write(df: pd.DataFrame, target: Path) -> None:
    """Write a file, which is whole or isn't there."""
    from nbrun.frames.load import write_frame

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
        if df[name].dtype.kind == "O":  # objects and categories; the others hold numbers and times
            values = list(map(_no_formula, df[name].astype(object)))
            out.isetitem(place, pd.Series(values, index=df.index, dtype=object).to_numpy())
    return out


def _no_formula(value: Any) -> Any:
    """Return a cell that a spreadsheet doesn't run. Numbers stay as they are, those that are written as text too."""
    if isinstance(value, (int, float, dict, list)) or not (text := str(value)).startswith(_FORMULA):
        return value
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return value


# ---- the demo


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
    from nbrun import console, frames
    from nbrun.judge import CPP17, LocalSandbox, demo_problems
    from nbrun.session import start

    problems, left_out = _judgeable(demo_problems())
    kept = frames.status(args.results).done if Path(args.results).is_dir() else 0  # start() refuses what is no folder
    # One way to compile for all: otherwise a source that doesn't compile is tried in six.
    cpp = dataclasses.replace(CPP17, compat_header="")
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
    left_out = Counter[str]()
    marked = [dict(problem) for problem in problems]
    for problem, key in product(marked, ("solutions", "incorrect_solutions")):
        numbers = list(problem[key]["language"])
        for at, name in enumerate(map(language_of_number, numbers)):
            if name in missing:
                left_out[name] += 1
                numbers[at] = 0
        problem[key] = {**problem[key], "language": numbers}
    return marked, left_out


def _left_out_text(left_out: Counter[str]) -> str:
    """Return one sentence on what was not judged and why, and one command that installs what is missing."""
    from nbrun.judge import DEFAULT_LANGUAGES

    rows = [DEFAULT_LANGUAGES[name] for name in left_out]
    counts = " and ".join(f"{n} {_SPELLINGS.get(name, name)}" for name, n in left_out.items())
    programs = ", ".join(f"no {Path((row.compilers or row.tools)[0]).name}" for row in rows)
    how = " ".join(row.install for row in rows)
    packages = _APT.findall(how)
    if len(packages) == len(rows):
        how = f" apt install {' '.join(packages)}"
    noun = "solution was" if left_out.total() == 1 else "solutions were"
    return f"{counts} {noun} not judged: {programs}.{how}"


# ---- the table of commands


class _Command(NamedTuple):
    """One command.

    Attributes:
        run: called with the parsed arguments; returns the exit code. The command has its name.
        summary: its line in the list of commands.
        about: a paragraph for its own help page.
        examples: commands as a user would type them.
        arguments: called with the command's parser, which they are added to.
    """

    run: Callable[[argparse.Namespace], int]
    summary: str
    about: str
    examples: tuple[str, ...]
    arguments: tuple[methodcaller, ...]


def _argument(name: str, help: str, **options: Any) -> methodcaller:
    return methodcaller("add_argument", name, help=help, **options)


def _flag(name: str, help: str) -> methodcaller:
    return _argument(name, help, action="store_true")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"give a number of seconds above 0, not {text!r}")
    return seconds


_DIR = _argument("results", "a results directory: the folder that was given to nbrun.start", metavar="DIR")
_DIRS = _argument("results", "results directory: the folder that was given to nbrun.start", metavar="DIR", nargs="+")
_JSON = _flag("--json", "print JSON, for other programs")
#: In the order in which the help lists them.
_COMMANDS = (
    _Command(
        demo,
        "judge the problem set that comes with nbrun",
        "Judge the 14 problems and 126 solutions that come with nbrun, in a sandbox on this machine, and print "
        "how many correct solutions were accepted (tpr) and how many incorrect ones rejected (tnr). Solutions whose "
        "compiler isn't installed are left out; the last lines say how many, and how to install it. "
        "Interrupted or killed, the same command continues with only what is missing.",
        ("nbrun demo", "nbrun demo --workers 2 --results /tmp/demo"),
        (
            _argument(
                "--results",
                "where to save the results (default: ./nbrun-demo)",
                metavar="DIR",
                default="nbrun-demo",
            ),
            _argument("--workers", "how many programs run at a time (default: 4)", metavar="N", type=int, default=4),
        ),
    ),
    _Command(
        status,
        "count what is saved",
        "Count samples, tasks that are done, and tasks that ended in errors. It reads no results, so it is "
        "quick; it works while a run writes.",
        ("nbrun status results", "nbrun status results --watch", "nbrun status shard-* --json"),
        (
            _DIRS,
            _JSON,
            _argument(
                "--watch",
                f"print a line every SECONDS seconds (default: {_WATCH_S:g}) until every sample is complete and no "
                "run writes there",
                nargs="?",
                type=_seconds,
                const=_WATCH_S,
                metavar="SECONDS",
            ),
        ),
    ),
    _Command(
        rates,
        "how many correct solutions were accepted and incorrect ones rejected",
        "Print one row for each sample: tpr is the share of correct solutions that were accepted, tnr the share "
        "of incorrect ones that were rejected. Failures of the judge, errors and missing tasks are counted in columns "
        "of their own, which are shown where one of them is not 0.",
        (
            "nbrun rates results",
            "nbrun rates results --by language",
            "nbrun rates results --by sample_id,language --json",
            "nbrun rates results --by all --average macro",
        ),
        (
            _DIR,
            _JSON,
            _argument(
                "--by",
                "columns of the results to group by, separated by commas; all prints one row (default: sample_id)",
                metavar="COLUMNS",
                default="sample_id",
            ),
            _argument(
                "--average",
                "micro counts every solution alike, macro takes the mean of the samples' rates (default: micro)",
                choices=("micro", "macro"),
                default="micro",
            ),
        ),
    ),
    _Command(
        compare,
        "compare the verdicts of several runs",
        "Print the rates of several runs side by side, over the tasks that all of them have judged, which "
        "verdicts differ, and whether the difference can be chance (McNemar's test).",
        ("nbrun compare old new", "nbrun compare old new newest --by language"),
        (
            _DIRS,
            _JSON,
            _argument(
                "--by",
                "columns to group by, separated by commas (default: all, one row)",
                metavar="COLUMNS",
                default="all",
            ),
        ),
    ),
    _Command(
        show,
        "look at a sample, or at one of its results",
        "List the results of a sample, or print one of them whole: source, verdict, the first failing test, "
        "stderr, the error with its traceback. INDEX is the number in the list's column `index`.",
        (
            "nbrun show results two-numbers",
            "nbrun show results two-numbers 3",
            "nbrun show results two-numbers 0 --group incorrect_solution",
        ),
        (
            _DIR,
            _JSON,
            _argument("id", "the sample's id; a wrong one prints similar ids", metavar="ID"),
            _argument("index", "which item; without it, all are listed", metavar="INDEX", type=int, nargs="?"),
            _argument(
                "--group",
                "the group of the item (default: solution, or the only group that has INDEX)",
                metavar="NAME",
            ),
        ),
    ),
    _Command(
        errors,
        "list the tasks that ended in errors",
        "Count the tasks that ended in errors, by kind and message, with an example of each. They run again when "
        "the run is started again.",
        ("nbrun errors results", "nbrun errors results --kind ConnectionError", "nbrun errors results --json"),
        (
            _DIR,
            _JSON,
            _argument("--kind", "list every task with this type of error, such as TimeoutError", metavar="TYPE"),
        ),
    ),
    _Command(
        archive,
        "move the files of finished samples into one compressed file",
        "Move the files of finished samples into one compressed file in the same directory. Everything reads and "
        "continues it as before. No run may write there meanwhile.",
        ("nbrun archive results", "nbrun archive results --unpack"),
        (_DIR, _JSON, _flag("--unpack", "move archived samples back into files of their own")),
    ),
    _Command(
        merge,
        "make one new directory from several",
        "Make a new results directory from several, which stay as they are. Of two results of one task the newer "
        "counts, and a result counts more than an error.",
        ("nbrun merge all shard-0 shard-1",),
        (_argument("target", "the directory to make; it must not exist", metavar="TARGET"), _DIRS, _JSON),
    ),
    _Command(
        export,
        "write all results to a file, one row for each",
        "Write all results to a file, one row for each. The file's name decides its format: .csv, .json, .jsonl, "
        "or .parquet (needs pyarrow).",
        ("nbrun export results results.csv", "nbrun export results results.parquet --force"),
        (
            _DIR,
            _JSON,
            _argument("file", "the file to write; ends in .csv, .json, .jsonl or .parquet", metavar="FILE"),
            _flag("--force", "replace FILE if it exists"),
            _flag("--raw", "in CSV, leave cells that a spreadsheet would run as a formula as they are"),
        ),
    ),
    _Command(
        check,
        "look for damage in a results directory",
        "Read everything in a results directory and list what is damaged and what that costs. The exit code is 1 "
        "where something is damaged.",
        ("nbrun check results", "nbrun check results --repair"),
        (_DIR, _JSON, _flag("--repair", "write new files with what can be read; damaged ones are kept aside")),
    ),
)
