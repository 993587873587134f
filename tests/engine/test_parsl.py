"""Parsl's workers: results are saved and resumed as over any executor, and a lost worker costs no attempt."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from tests.engine.backends import Backend, parsl_pool
from tests.engine.test_backends import counted

pytestmark = [pytest.mark.long, pytest.mark.needs("parsl")]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with parsl_pool(tmp_path_factory.mktemp("parsl")) as pool:
        yield Backend("parsl", pool)


def test_results_are_saved_and_only_what_is_missing_runs(backend: Backend, tmp_path: Path) -> None:
    note = counted(tmp_path / "calls")

    def fn(task: nbrun.Task) -> Any:
        note(task.item)
        if task.item == 7:
            raise ValueError("seven")
        return {"n": task.item, "pid": os.getpid()}

    backend.run(tmp_path / "r", fn, list(range(60)), retry=None)
    progress = backend.run(tmp_path / "r", fn, list(range(90)), retry=None).progress
    assert (progress.done, progress.errors, progress.resumed) == (89, 1, 59)
    frame = nbrun.load_results(tmp_path / "r")
    assert sorted(frame["n"].dropna()) == [n for n in range(90) if n != 7]
    assert os.getpid() not in set(frame["pid"].dropna())
    assert sorted(map(int, (tmp_path / "calls").read_text().split())) == sorted([*range(90), 7])


def test_killed_workers_cost_no_attempt_and_a_task_that_kills_them_all_ends_as_an_error(
    backend: Backend, tmp_path: Path
) -> None:
    marks = str(tmp_path)

    def fn(task: nbrun.Task) -> Any:
        mark = os.path.join(marks, f"mark{task.item}")
        if task.item == 5 or (task.item == 3 and not os.path.exists(mark)):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"n": task.item, "attempt": task.attempt}

    backend.run(tmp_path / "r", fn, list(range(20)))
    frame = nbrun.load_results(tmp_path / "r").set_index("index")
    assert "worker was lost" in frame["error"][5]
    assert sorted(frame["n"].dropna()) == [n for n in range(20) if n != 5]
    assert set(frame["attempt"].dropna()) == {1}
