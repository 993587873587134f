"""Does with a results directory all that a user may do with one that a colleague has sent.

    python strangers.py DIR …       prints a line for each action: "ok", or the error that nbrun raised

A refusal in nbrun's own words is fine; any other exception ends it with a traceback. The tests run it in a process of
its own, so that an action that hangs or crashes the interpreter fails a test instead of ending all of them.
"""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

ITEMS = ["x", "y"]


def start(d):
    import nbrun

    samples = [{"id": "a", "solutions": ITEMS}, {"id": "x", "solutions": ITEMS}]
    nbrun.start(samples, lambda task: {"n": 1}, d, groups=["solution"], view=None, workers=2).wait(60)


def merge(d):
    from nbrun.tools.merge import merge_results

    target = Path(d).with_name(Path(d).name + "-merged")
    merge_results(target, d)
    shutil.rmtree(target)


def export(d):
    from nbrun.cli import main

    file = Path(d).with_name("exported.csv")
    code = main(["export", str(d), str(file)])
    file.unlink(missing_ok=True)
    assert code in (0, 2)


def show(d):
    import nbrun

    str(nbrun.show(d, "a"))


def panel(d):
    from nbrun.results.reader import read_rows

    read_rows(Path(d), "a")


def actions():
    import nbrun

    return {
        "load": lambda d: len(nbrun.load_results(d)),
        "samples": nbrun.load_samples,
        "status": nbrun.status,
        "check": lambda d: str(nbrun.check(d)),
        "show": show,
        "panel": panel,
        "merge": merge,
        "export": export,
        "repair": lambda d: str(nbrun.check(d, repair=True)),
        "archive": nbrun.archive,
        "unpack": lambda d: nbrun.archive(d, unpack=True),
        "start": start,
        "load again": lambda d: len(nbrun.load_results(d)),
    }


def do(*folders, seconds=120):
    """Runs all actions on each folder, in a process of its own. Returns for each folder: action -> what came of it."""
    command = [sys.executable, __file__, *map(str, folders)]
    p = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert p.returncode == 0, f"{p.stdout[-2000:]}\n{p.stderr}"
    found = {str(folder): {} for folder in folders}
    for line in p.stdout.splitlines():
        if line.startswith("* "):
            folder, name, what = line[2:].split("\t")
            found[folder][name] = what
    assert all(len(of) == len(actions()) for of in found.values())
    return list(found.values())


def main():
    import nbrun

    warnings.simplefilter("ignore")
    for folder in sys.argv[1:]:
        for name, act in actions().items():
            print("begins", folder, name, flush=True)
            try:
                got = act(folder)
                what = f"ok {got}" if isinstance(got, int) else "ok"
            except nbrun.errors.NbrunError as e:
                what = f"{type(e).__name__} {str(e)!r}"
            print(f"* {folder}\t{name}\t{what}", flush=True)


if __name__ == "__main__":
    main()
