"""What the commands for a results directory share: how one is declared, and whether DIR is such a directory.

Runs in the main thread. pandas is loaded by the commands that need it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbrun.errors import InputError

if TYPE_CHECKING:
    from nbrun.frames import Status


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], about: str, metavar: str = "DIR"
) -> argparse.ArgumentParser:
    """Adds a command that takes DIR, or DIRS, and --json to a parser's subcommands."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    if metavar == "DIR":
        command.add_argument("results", metavar="DIR")
    else:
        command.add_argument("results", metavar="DIR", nargs="+")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)
    return command


def counts_of(results: str) -> Status:
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
