"""What the commands share: how one is declared, its help page, and whether DIR is a results directory.

Runs in the main thread. pandas is loaded by the commands that need it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.errors import InputError

if TYPE_CHECKING:
    from nbrun.frames import Status


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keep the lines of examples as they are written, and fold descriptions."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def add_parser(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    *,
    about: str,
    examples: Iterable[str],
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: what `add_subparsers` returned.
        run: called with the parsed arguments; returns the exit code.
        summary: its line in the list of commands.
        about: a paragraph for its own help page.
        examples: commands as a user would type them.
    """
    epilog = "examples:\n" + "\n".join(f"  {example}" for example in examples)
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=about, epilog=epilog, formatter_class=HelpFormatter
    )
    command.set_defaults(run=run)
    return command


def add_directory(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the argument DIR, or DIR ..., and the option --json."""
    about = "a results directory: the folder that was given to nbrun.start"
    if several:
        command.add_argument("results", metavar="DIR", nargs="+", help=about.replace("a results", "results", 1))
    else:
        command.add_argument("results", metavar="DIR", help=about)
    command.add_argument("--json", action="store_true", help="print JSON, for other programs")


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
