"""Measures what the project promises: `python -m tests.benchmarks [NAME ...]`.

Without names it runs all benchmarks but the long ones, against the real peers. Each record goes into figures/NAME.json
with versions and the kind of machine; `git diff tests/benchmarks/figures` shows what changed. It prints which goals are
missed, and writes the tables of the README and of docs/figures.md (`--table` does only that). `--list` prints names.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time

from tests.benchmarks import report
from tests.benchmarks.registry import Benchmark, find, in_child


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names of the benchmarks")
    parser.add_argument("--table", action="store_true", help="only write the tables from the records")
    parser.add_argument("--call", nargs=3, help=argparse.SUPPRESS)  # module, function, arguments: see `in_child`
    options = parser.parse_args()
    if options.call:
        module, function, arguments = options.call
        called = getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)
        print(json.dumps(called(*json.loads(arguments))))
        return 0
    try:
        chosen = find(options.names)
    except KeyError as e:
        parser.error(f"no benchmark is called {e}; --list prints the names.")
    if options.list:
        print(*(b.name for b in chosen), sep="\n")
        return 0
    failed = [] if options.table else [b.name for b in chosen if not _run(b)]
    report.write_tables()
    if failed:
        print(f"could not be measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(benchmark: Benchmark) -> bool:
    """Measure in a process of its own and keep the record. Return False where that failed."""
    began = time.perf_counter()
    try:
        figures = in_child(benchmark.measure)
    except subprocess.CalledProcessError:
        return False
    made = report.make(benchmark, figures, time.perf_counter() - began)
    report.keep(benchmark.name, made)
    print(f"{benchmark.name} ({made['took_s']} s) {json.dumps(made['figures'], ensure_ascii=False)}")
    for line in made["missed"]:
        print(f"  MISSED: {line}")
    return True


if __name__ == "__main__":
    sys.exit(main())
