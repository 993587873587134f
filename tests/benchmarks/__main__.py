"""Measures what the project promises: `python -m tests.benchmarks [NAME ...]`.

Without names it runs all of registry.py, against the real peers. Each record goes into figures/NAME.json with versions
and the machine's shape; the end says what moved since the last commit and which goals are missed, and writes the
tables of the README and of docs/figures.md (`--table` does only that). `--list` prints the names.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import record, table
from tests.benchmarks.registry import Benchmark, find


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names of the benchmarks")
    parser.add_argument("--table", action="store_true", help="only write the tables from the records")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # this process measures, and writes its figures
    options = parser.parse_args()
    try:
        chosen = find(options.names)
    except KeyError as e:
        parser.error(f"no benchmark is called {e}; --list prints the names.")
    if options.into is not None:
        options.into.write_text(json.dumps(_call(chosen[0])))
        return 0
    if options.list:
        print(*(b.name for b in chosen), sep="\n")
        return 0
    failed = [] if options.table else [b.name for b in chosen if not _run(b)]
    table.write_pages(record.kept())
    if failed:
        print(f"could not be measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _call(benchmark: Benchmark) -> dict[str, Any]:
    module, _, function = benchmark.where.partition(":")
    return dict(getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)())


def _run(benchmark: Benchmark) -> bool:
    """Measures in a process of its own and keeps the record. False where that failed."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "figures.json"
        began = time.perf_counter()
        command = [sys.executable, "-m", "tests.benchmarks", benchmark.name, "--into", str(into)]
        done = subprocess.run(command, check=False)
        if done.returncode != 0 or not into.exists():
            return False
        made = record.make(benchmark, json.loads(into.read_text()), time.perf_counter() - began)
    record.keep(benchmark.name, made)
    print(f"{benchmark.name} ({made['took_s']} s) {json.dumps(made['figures'], ensure_ascii=False)}")
    for line in made["moved"]:
        print(f"  moved: {line}")
    for line in made["missed"]:
        print(f"  MISSED: {line}")
    return True


if __name__ == "__main__":
    sys.exit(main())
