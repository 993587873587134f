"""All commands of nbrun and their options; what a command raises becomes one line of text and an exit code.

The modules beside this one hold the commands; `_MODULES` lists them.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import nbrun
from nbrun.cli import demo, results, status, tables
from nbrun.cli.command import HelpFormatter
from nbrun.errors import NbrunError
from nbrun.texts import escape_control_chars

#: The commands appear in the help in this order.
_MODULES = (demo, status, tables, results)
#: Packages whose versions `--version` prints: those that nbrun needs, and those that it can work with.
_DEPENDENCIES = ("anywidget", "ipywidgets", "numpy", "orjson", "pandas", "PyYAML", "tqdm")
_OPTIONAL = ("cloudpickle", "distributed", "ipykernel", "jupyterlab", "matplotlib", "notebook", "pyarrow")
_EPILOG = """first steps:
  nbrun demo                     judge the problem set that comes with nbrun
  nbrun status nbrun-demo        count what is saved
  nbrun errors nbrun-demo        list what failed, by kind of error
  nbrun export nbrun-demo a.csv  write all results to a file

`nbrun COMMAND --help` explains a command and gives examples.
exit codes: 0 success, 1 damage was found or something could not be read, 2 an error, 130 interrupted by Ctrl-C"""


def run_command(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; see `nbrun.cli.main`."""
    try:
        try:
            parser = make_parser()
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


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. A parsed command has its function as `run`, or None where none was given."""
    parser = argparse.ArgumentParser(
        prog="nbrun",
        description="Look at, export and repair the results that nbrun saved. Runs are started in Python, by "
        "nbrun.start.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, help="print the versions of nbrun and of the packages it works with"
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for module in _MODULES:
        module.add_commands(commands)
    return parser


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print a warning as one line, like an error, without its category and a line of nbrun's source."""

    def show(message: Warning | str, *rest: object, **more: object) -> None:
        print(f"nbrun: {escape_control_chars(str(message))}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


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
