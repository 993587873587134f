"""All commands of nbrun and their options; what a command raises becomes one line of text and an exit code.

The functions that do the work are in commands.py and demo.py.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import nbrun
from nbrun.cli import commands, demo
from nbrun.errors import NbrunError
from nbrun.texts import escape_control_chars

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
            c.name, help=c.summary, description=c.about, epilog=epilog, formatter_class=_HelpFormatter
        )
        command.set_defaults(run=c.run)
        for name, options in c.arguments:
            command.add_argument(name, **options)
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
        print(f"nbrun {nbrun.__version__}")
        print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}")
        for name in (*_DEPENDENCIES, *_OPTIONAL):
            try:
                print(f"{name} {version(name)}")
            except PackageNotFoundError:
                print(f"{name} is not installed")
        parser.exit(0)


# ---- the commands


class _Argument(NamedTuple):
    """An argument of a command, and what argparse's add_argument takes beside its name."""

    name: str
    options: dict[str, Any]


class _Command(NamedTuple):
    """One command.

    Attributes:
        run: called with the parsed arguments; returns the exit code.
        summary: its line in the list of commands.
        about: a paragraph for its own help page.
        examples: commands as a user would type them.
    """

    name: str
    run: Callable[[argparse.Namespace], int]
    summary: str
    about: str
    examples: tuple[str, ...]
    arguments: tuple[_Argument, ...]


def _argument(name: str, help: str, **options: Any) -> _Argument:
    return _Argument(name, {"help": help, **options})


def _flag(name: str, help: str) -> _Argument:
    return _Argument(name, {"help": help, "action": "store_true"})


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
        "demo",
        demo.demo,
        "judge the problem set that comes with nbrun",
        "Judge the 14 problems and 126 solutions that come with nbrun, in a sandbox on this machine, and print "
        "how many correct solutions were accepted (tpr) and how many incorrect ones rejected (tnr). Solutions whose "
        "compiler isn't installed are left out; the last lines say how many, and how to install it. "
        "Interrupted or killed, the same command continues with only what is missing.",
        ("nbrun demo", "nbrun demo --workers 2 --results /tmp/demo"),
        (
            _argument(
                "--results", "where to save the results (default: ./nbrun-demo)", metavar="DIR", default="nbrun-demo"
            ),
            _argument("--workers", "how many programs run at a time (default: 4)", metavar="N", type=int, default=4),
        ),
    ),
    _Command(
        "status",
        commands.status,
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
        "rates",
        commands.rates,
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
        "compare",
        commands.compare,
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
        "show",
        commands.show,
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
                "--group", "the group of the item (default: solution, or the only group that has INDEX)", metavar="NAME"
            ),
        ),
    ),
    _Command(
        "errors",
        commands.errors,
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
        "archive",
        commands.archive,
        "move the files of finished samples into one compressed file",
        "Move the files of finished samples into one compressed file in the same directory. Everything reads and "
        "continues it as before. No run may write there meanwhile.",
        ("nbrun archive results", "nbrun archive results --unpack"),
        (_DIR, _JSON, _flag("--unpack", "move archived samples back into files of their own")),
    ),
    _Command(
        "merge",
        commands.merge,
        "make one new directory from several",
        "Make a new results directory from several, which stay as they are. Of two results of one task the newer "
        "counts, and a result counts more than an error.",
        ("nbrun merge all shard-0 shard-1",),
        (_argument("target", "the directory to make; it must not exist", metavar="TARGET"), _DIRS, _JSON),
    ),
    _Command(
        "export",
        commands.export,
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
        "check",
        commands.check,
        "look for damage in a results directory",
        "Read everything in a results directory and list what is damaged and what that costs. The exit code is 1 "
        "where something is damaged.",
        ("nbrun check results", "nbrun check results --repair"),
        (_DIR, _JSON, _flag("--repair", "write new files with what can be read; damaged ones are kept aside")),
    ),
)
