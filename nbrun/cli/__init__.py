"""The command nbrun: parses the arguments, runs one command, and returns its exit code.

Every command runs in the main thread. `commands.py`, which has them, is imported inside `main`, so that Ctrl-C
meanwhile ends in one sentence.
"""

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 1 for damage that a command found; 2 for an error that was printed, or where no command was
        given; 130 after Ctrl-C; 141 where the reader of the output has gone away (`nbrun rates DIR | head -1`).
    """
    try:
        from nbrun.cli.commands import run_command

        return run_command(argv)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
