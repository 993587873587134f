"""What was never begun is missing, in every count; where the total isn't known, they say "at least"."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.cli import main
from tests.waiting import until


def stopped(path: Path, samples: Any, after: int = 20, is_read: bool = False) -> int:
    """A run that is stopped once some tasks are done. Returns how many are saved."""
    reached, go = threading.Event(), threading.Event()
    count = iter(range(10**9))

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if next(count) >= after:
            reached.set()
            go.wait(120)
        return {"accepted": True}

    run = nbrun.start(samples, fn, path, workers=2, view=None)
    assert reached.wait(120)
    until(lambda: not is_read or run.progress.total is not None, "the samples are read")
    run.stop(drain=False)
    go.set()
    run.wait(120)
    return nbrun.status(path).done


def problems(n: int) -> list[dict[str, Any]]:
    return [{"id": f"s{i:03}", "solutions": [1, 2, 3], "incorrect_solutions": [4]} for i in range(n)]


def test_samples_that_were_never_begun_are_missing_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = stopped(tmp_path, problems(200))
    assert done < 100
    status = nbrun.status(tmp_path)
    assert (status.samples, status.total, status.is_total_known) == (200, 800, True)
    samples = nbrun.load_samples(tmp_path)
    assert samples["sample_id"].tolist() == [f"s{i:03}" for i in range(200)]
    assert int(samples.filter(like="total_").sum().sum()) == 800
    assert not samples["is_complete"].iloc[-1]
    overall = nbrun.rates(tmp_path, by=None)
    assert int(overall["n_missing"].iloc[0]) == 800 - done
    assert bool(overall["is_partial"].iloc[0])
    by_sample = nbrun.rates(tmp_path)
    assert len(by_sample) == 200
    assert int(by_sample["n_missing"].sum()) == 800 - done
    by_group = nbrun.rates(tmp_path, by="group").set_index("group")["n_missing"]
    assert int(by_group.sum()) == 800 - done
    assert main(["status", str(tmp_path)]) == 0
    assert "800" in capsys.readouterr().out


def test_a_finished_run_has_nothing_missing(tmp_path: Path) -> None:
    nbrun.start(problems(20), lambda t: {"accepted": True}, tmp_path, view=None).wait(60)
    assert nbrun.status(tmp_path) == nbrun.frames.Status(20, 20, 80, 0, 80, 0, True)
    assert nbrun.rates(tmp_path, by=None)["n_missing"].tolist() == [0]


def stream(samples: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from samples


class Sized:
    """As a data set of a library: it has a length, and is read lazily."""

    def __init__(self, samples: list[dict[str, Any]]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._samples)


@pytest.mark.parametrize("make", [stream, Sized])
def test_of_a_stream_that_was_not_read_to_its_end_there_may_be_more(
    make: Callable[[Any], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(tmp_path, make(problems(3000)))
    status = nbrun.status(tmp_path)
    assert not status.is_total_known
    assert "at least" in repr(status)
    assert status.samples == 3000 if make is Sized else status.samples < 3000
    assert bool(nbrun.rates(tmp_path, by=None)["is_partial"].iloc[0])
    main(["status", str(tmp_path)])
    assert "at least" in capsys.readouterr().out


@pytest.mark.parametrize("make", [stream, Sized])
def test_of_a_stream_the_total_is_known_at_its_end(make: Callable[[Any], Any], tmp_path: Path) -> None:
    done = stopped(tmp_path, make(problems(100)), after=380, is_read=True)
    status = nbrun.status(tmp_path)
    assert (status.samples, status.total, status.is_total_known) == (100, 400, True)
    assert int(nbrun.rates(tmp_path, by=None)["n_missing"].iloc[0]) == 400 - done


def test_the_newest_run_says_what_the_job_is(tmp_path: Path) -> None:
    stopped(tmp_path, problems(100))
    nbrun.start(problems(10), lambda t: {"accepted": True}, tmp_path, view=None).wait(60)
    status = nbrun.status(tmp_path)
    assert status.samples < 50
    grown = [sample | {"solutions": [1, 2, 3, 5]} for sample in problems(10)]
    done = stopped(tmp_path, grown + problems(40)[10:], after=0)
    status = nbrun.status(tmp_path)
    assert (status.samples, status.total) == (40, 170)
    assert int(nbrun.rates(tmp_path, by=None)["n_missing"].iloc[0]) == 170 - done


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"["), lambda p: p.write_bytes(b"")])
def test_without_the_list_of_ids_the_sums_are_still_known(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    done = stopped(tmp_path, problems(100))
    damage(tmp_path / ".nbrun" / "samples")
    assert nbrun.status(tmp_path).total == 400
    assert int(nbrun.rates(tmp_path, by=None)["n_missing"].iloc[0]) == 400 - done


def test_status_is_short_and_has_a_table(tmp_path: Path) -> None:
    nbrun.start(problems(2), lambda t: {"accepted": True}, tmp_path, view=None).wait(60)
    status = nbrun.status(tmp_path)
    assert repr(status) == "<nbrun.Status: 8 of 8 tasks done, 0 errors, 2 of 2 samples complete>"
    assert "<table>" in status._repr_html_()
