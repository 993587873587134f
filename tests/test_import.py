"""Which modules `import nbrun` and each first step load. Each runs in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Modules that take long to load and that few users need.
HEAVY = {
    "IPython", "anywidget", "asyncio", "concurrent.futures.process", "http", "ipywidgets", "multiprocessing", "numpy",
    "pandas", "pyarrow", "ssl", "tqdm", "traitlets", "zipfile",
}  # fmt: skip
STEPS = [
    "import nbrun",
    "import nbrun; nbrun.Retry, nbrun.errors, nbrun.Task",
    "import nbrun; nbrun.start, nbrun.shard, nbrun.Run",
    "import nbrun, tempfile; nbrun.status(tempfile.mkdtemp())",
    "import nbrun.frames.rows",
    "import nbrun, tempfile\n"
    "run = nbrun.start([1, 2], lambda task: {}, tempfile.mkdtemp(), view=None)\n"
    "assert run.wait(60).done == 2",
]


def loaded_by(code: str) -> set[str]:
    """Return the names of HEAVY that are loaded after `code`, in a new interpreter."""
    show = f"import sys; {code}\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=120, check=True)
    return HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("code", STEPS)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    assert loaded_by(code) == set()


def test_the_package_loads_what_starts_a_run_and_no_reader_of_frames() -> None:
    """A first cell doesn't wait for imports, and a program that never loads results never loads what makes frames."""
    show = "import sys, nbrun\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=120, check=True)
    loaded = set(done.stdout.split())
    assert {"nbrun.session", "nbrun.engine.thread_pool", "nbrun.storage.store"} <= loaded
    others = (
        "nbrun.frames",
        "nbrun.judge",
        "nbrun.plots",
        "nbrun.tools",
        "nbrun.engine.executor_pool",
        "nbrun.session.watching",
    )
    assert not [name for name in loaded if name.startswith(others)]


@pytest.mark.parametrize("module", ["nbrun.frames.rows", "nbrun status --help"])
def test_a_process_that_runs_nothing_loads_nothing_that_runs(module: str) -> None:
    """The loader's helper processes, above all, are as useful as they start fast."""
    command = [sys.executable, "-X", "importtime", "-m", *module.split()]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "nbrun.results.format" in loaded or "nbrun.cli" in loaded
    assert not [name for name in loaded if name.startswith(("nbrun.session.", "nbrun.engine"))]


def test_this_test_can_fail() -> None:
    assert loaded_by("import nbrun, tempfile; nbrun.load_results(tempfile.mkdtemp())") >= {"numpy", "pandas"}


def test_every_public_name_can_be_imported_and_is_kept() -> None:
    show = "import nbrun\nfrom nbrun import *\nassert all(vars(nbrun)[n] is globals()[n] for n in nbrun.__all__)\n"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
