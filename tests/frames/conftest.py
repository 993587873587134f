"""Directories for the tests of the frames: a judged run, and files of the older program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.frames.judged_runs import OLD, PROBLEMS, Gate, run


@pytest.fixture(scope="session")
def judged_run(tmp_path_factory):
    """PROBLEMS, run once. Read only."""
    path = tmp_path_factory.mktemp("judged") / "r"
    run(PROBLEMS, path)
    return path


@pytest.fixture
def old(tmp_path):
    """A copy of an old directory: `old("progress_complete")`."""

    def copy(name):
        return Path(shutil.copytree(OLD / name, tmp_path / name))

    return copy


@pytest.fixture
def gate():
    """Tasks wait until `gate.passes.release(n)`; in the end all go through."""
    gate = Gate()
    yield gate
    gate.passes.release(10_000)
