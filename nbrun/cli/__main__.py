"""`python -m nbrun.cli`: the same as the command nbrun."""

import sys

from nbrun.cli import main

if __name__ == "__main__":
    sys.exit(main())
