"""The command nbrun: parses the arguments, runs one command, turns what was raised into an exit code.

Every command runs in the main thread. The modules beside this one hold the commands; `_MODULES` lists them.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
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


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 1 for damage that a command found; 2 for an error that was printed; 130 after Ctrl-C; 141
        where the reader of the output has gone away (`nbrun rates DIR | head -1`).
    """
    try:
        try:
            args = _parser().parse_args(argv)  # prints what --help and --version ask for, and exits
            code = int(args.run(args))
        finally:
            sys.stdout.flush()
    except NbrunError as e:
        print(f"nbrun: {escape_control_chars(str(e))}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes stdout once more at its end
        code = 141
    return code


def _parser() -> argparse.ArgumentParser:
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
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for module in _MODULES:
        module.add_commands(commands)
    return parser


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
