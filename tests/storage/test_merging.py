"""Several results directories become one: what counts, what comes along, and what is refused."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from merge_jobs import OLD, numbers, rows, run, tree
from power_cuts import Job, make_samples, run_on, saved
from simulated_disk import SimulatedDisk

import nbrun
from nbrun.errors import InputError, ResultsExistError, ResultsInUseError
from nbrun.storage import files
from nbrun.tools.archive import archive_finished
from nbrun.tools.merge import merge_results
from tests.waiting import until


def test_two_halves_become_one_that_goes_on(tmp_path: Path) -> None:
    samples = numbers(20)
    for i in range(2):
        run(tmp_path / f"r{i}", nbrun.shard(samples, i, 2)).wait(60)
    archive_finished(tmp_path / "r1")
    before = [tree(tmp_path / f"r{i}") for i in range(2)]
    done = merge_results(tmp_path / "all", tmp_path / "r0", tmp_path / "r1")
    assert (done.samples, done.entries, done.in_several, done.problems) == (20, 60, 0, [])
    assert [tree(tmp_path / f"r{i}") for i in range(2)] == before
    assert rows(tmp_path / "all").equals(rows(tmp_path / "r0", tmp_path / "r1"))
    assert nbrun.check(tmp_path / "all").findings == []
    assert nbrun.load_samples(tmp_path / "all").is_complete.all()
    files_before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "all").glob("*.json")}
    ran: list[Any] = []

    def fn(task: nbrun.Task) -> Any:
        ran.append(task.sample_id)
        return {"n": task.item}

    progress = run(tmp_path / "all", [*samples, {"id": "new", "items": [5]}], fn).wait(60)
    assert (progress.resumed, progress.done, ran) == (60, 61, ["new"])
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "all").glob("*.json")}
    assert after.items() >= files_before.items(), "nothing was matched or written again"


def test_of_one_task_in_two_directories_done_beats_error_and_then_the_later(tmp_path: Path) -> None:
    def fn(name: str, failing: set[int]) -> Any:
        def called(task: nbrun.Task) -> Any:
            if task.index in failing:
                raise ValueError(name)
            return {"by": name}

        called.settings = {"by": name}  # type: ignore[attr-defined]
        return called

    items = [{"id": "s", "items": list("abcd")}]
    run(tmp_path / "old", items, fn("old", {1, 3})).wait(60)
    run(tmp_path / "new", items, fn("new", {2, 3})).wait(60)
    for i, order in enumerate((("old", "new"), ("new", "old"))):
        done = merge_results(tmp_path / f"all{i}", *(tmp_path / name for name in order))
        assert (done.entries, done.in_several) == (4, 1)
        assert (done.dropped.same, done.dropped.older, done.dropped.errors) == (0, 1, 3)
        frame = nbrun.load_results(tmp_path / f"all{i}").set_index("index").sort_index()
        assert list(frame["by"].fillna("-")) == ["new", "new", "old", "-"]
        assert "new" in frame["error"][3]
    both = {r for name in order for r in nbrun.load_results(tmp_path / name)["run_id"].astype(str)}
    assert set(nbrun.load_results(tmp_path / "all0")["run_id"].astype(str)) == both
    log = (tmp_path / "all0" / ".nbrun" / "runs.log").read_text()
    assert all(run_id in log for run_id in both)
    ran = []
    run(tmp_path / "all0", items, lambda task: ran.append(task.index) or {"by": "last"}).wait(60)
    assert ran == [3]


def test_a_directory_and_its_copy(tmp_path: Path) -> None:
    run(tmp_path / "r", numbers(3)).wait(60)
    shutil.copytree(tmp_path / "r", tmp_path / "copy")
    done = merge_results(tmp_path / "all", tmp_path / "copy", tmp_path / "r")
    assert (done.entries, done.dropped.same, done.dropped.older) == (9, 9, 0)
    assert rows(tmp_path / "all").equals(rows(tmp_path / "r"))


@pytest.mark.parametrize("name", ["old_complete", "progress_complete", "progress_killed_a", "progress_killed_resumed"])
def test_directories_of_the_older_program_go_on_as_they_are(name: str, tmp_path: Path) -> None:
    run(tmp_path / "r", numbers(2)).wait(60)
    done = merge_results(tmp_path / "all", OLD / name, tmp_path / "r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one file there was cut short
        assert rows(tmp_path / "all").equals(rows(OLD / name, tmp_path / "r"))
    for file in (OLD / name).glob("*.json"):
        copy = tmp_path / "all" / file.name
        assert not copy.exists() or copy.read_bytes() == file.read_bytes()
    assert nbrun.check(tmp_path / "all").findings == []
    assert len(done.problems) == len(list((OLD / name).glob("*.json"))) - (done.samples - 2)


def test_an_old_directory_that_was_continued_elsewhere(tmp_path: Path) -> None:
    """An old file is matched in a copy and gets one result more; the old one, unmatched, adds nothing."""
    shutil.copytree(OLD / "progress_killed_a", tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "on")
    data = json.loads((OLD / "progress_killed_a.dataset.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbrun.start(data, lambda task: {"accepted": True}, tmp_path / "on", view=None).wait(60)
        merge_results(tmp_path / "all", tmp_path / "old", tmp_path / "on")
        assert rows(tmp_path / "all", drop=("source",)).equals(rows(tmp_path / "on", drop=("source",)))
        ran: list[int] = []
        run = nbrun.start(data, lambda task: ran.append(1) or {}, tmp_path / "all", view=None)
        assert run.wait(60).state == "done"
        assert ran == []


def test_halves_of_an_old_sample_come_together(tmp_path: Path) -> None:
    """Two old files hold different tasks of one sample, a third directory an error and a result of nbrun's."""
    whole = json.loads((OLD / "progress_complete" / "aizu_p0_1.json").read_text())
    right = whole["solution_result"]
    assert len(right) > 3
    for name, part in (("a", right[:2]), ("b", right[1:-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old.json").write_text(json.dumps(whole | {"solution_result": part}, indent=4))
    data = json.loads((OLD / "progress_complete.dataset.json").read_text())
    (sample,) = [s for s in data if s["id"] == whole["id"]]

    def fn(task: nbrun.Task) -> Any:
        if task.item["solution"] == right[0]["solution"]:
            raise ValueError("here it fails")
        return {"accepted": True, "here": 1}

    some = {name: [right[0][name], right[-1][name]] for name in ("language", "solution")}
    run(tmp_path / "c", [sample | {"solutions": some, "incorrect_solutions": []}], fn, groups=None).wait(60)
    done = merge_results(tmp_path / "all", *(tmp_path / name for name in "abc"))
    n = len(right) + len(whole["incorrect_solution_result"])
    assert (done.samples, done.entries, done.dropped.errors, done.dropped.older) == (1, n, 1, 0)
    assert done.dropped.same == 1 + len(whole["incorrect_solution_result"])
    assert nbrun.check(tmp_path / "all").findings == []
    frame = nbrun.load_results(tmp_path / "all")
    assert len(frame) == n
    assert set(frame["status"].astype(str)) == {"done"}
    assert list(frame["here"].dropna()) == [1]
    ran: list[Any] = []
    run(tmp_path / "all", [sample], lambda task: ran.append(task.item) or {}, groups=None).wait(60)
    known = {row["solution"] for row in right + whole["incorrect_solution_result"]}
    assert not [item for item in ran if item["solution"] in known]


def test_results_in_the_journal_and_open_attempts_are_merged(tmp_path: Path) -> None:
    job = Job(make_samples(3))
    for name, n in (("a", 7), ("b", 4)):
        source = tmp_path / f"{name}-alive"
        source.mkdir()
        disk = SimulatedDisk(source, random.Random(n), die_at=lambda disk, n=n: len(disk.acknowledged) >= n)
        job.options = {"workers": 1}
        job.failing = lambda task, generation: (
            nbrun.Retry("later", hint={"g": generation}) if task.attempt == 1 and task.index == 1 else None
        )
        run_on(disk, job, source)
        disk.power_cut(tmp_path / name, "lost")
    found = [saved(tmp_path / name) for name in "ab"]
    assert any((tmp_path / "a" / ".nbrun").glob("journal-*"))
    merge_results(tmp_path / "all", tmp_path / "a", tmp_path / "b")
    assert set(saved(tmp_path / "all")) == set(found[0]) | set(found[1])
    job.start(tmp_path / "all").wait(60)
    assert not set(job.ran) & (set(found[0]) | set(found[1]))
    assert sorted(saved(tmp_path / "all")) == sorted(job.identities().values())


def test_attempts_go_on_in_the_merged_directory(tmp_path: Path) -> None:
    def first(task: nbrun.Task) -> Any:
        return nbrun.Retry("later", after_s=600, hint={"limit": 4}) if task.item == 1 else {"n": task.item}

    going = run(tmp_path / "a", [{"id": "s", "items": [0, 1]}], first)
    until(lambda: any(b"\ta\t" in p.read_bytes() for p in (tmp_path / "a" / ".nbrun").glob("journal-*")))
    with pytest.raises(ResultsInUseError, match=r"Wait for the end of that run"):
        merge_results(tmp_path / "all", tmp_path / "a")
    going.stop()
    going.wait(60)
    assert not (tmp_path / "all").exists()
    run(tmp_path / "b", [{"id": "t", "items": [5]}]).wait(60)
    merge_results(tmp_path / "all", tmp_path / "a", tmp_path / "b")
    got = []

    def again(task: nbrun.Task) -> Any:
        got.append((task.item, task.attempt, dict(task.hint)))
        return {}

    run(tmp_path / "all", [{"id": "s", "items": [0, 1]}], again).wait(60)
    assert got == [(1, 2, {"limit": 4})]


def test_damaged_files_are_reported_and_the_rest_is_merged(tmp_path: Path) -> None:
    run(tmp_path / "r", numbers(4)).wait(60)
    damaged = sorted((tmp_path / "r").glob("*.json"))
    damaged[0].write_bytes(b"\0" * 99)
    data = damaged[1].read_bytes()
    damaged[1].write_bytes(data.replace(b'"result":', b'"result"\0', 1))
    before = tree(tmp_path / "r")
    done = merge_results(tmp_path / "all", tmp_path / "r")
    assert len(done.problems) == 2
    assert (done.samples, done.entries) == (3, 8)
    assert tree(tmp_path / "r") == before
    assert nbrun.check(tmp_path / "all").findings == []
    assert run(tmp_path / "all", numbers(4)).wait(60).resumed == 8


def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    run(tmp_path / "r", numbers(1)).wait(60)
    (tmp_path / "file").write_text("x")
    before = {p.name for p in tmp_path.iterdir()}
    for kind, target, sources in (
        (InputError, "all", ["nowhere"]),
        (InputError, "all", ["file"]),
        (InputError, "all", []),
        (InputError, "all", ["r", "r/../r"]),
        (InputError, "r/all", ["r"]),
        (ResultsExistError, "r", ["r2"]),
        (ResultsExistError, "file", ["r"]),
    ):
        if sources == ["r2"]:
            shutil.copytree(tmp_path / "r", tmp_path / "r2")
        with pytest.raises(kind):
            merge_results(tmp_path / target, *(tmp_path / name for name in sources))
    assert {p.name for p in tmp_path.iterdir()} == before | {"r2"}
    (tmp_path / ".all.merging").mkdir()
    (tmp_path / ".all.merging" / "mine.json").write_text("{}")
    with pytest.raises(InputError, match="Move it"):
        merge_results(tmp_path / "all", tmp_path / "r")
    assert (tmp_path / ".all.merging" / "mine.json").exists()


def test_no_run_begins_in_a_directory_that_is_being_merged(tmp_path: Path) -> None:
    run(tmp_path / "r", numbers(2)).wait(60)
    refused = []

    def look(operation: str, path: str) -> None:
        if operation == "rename" and path.endswith("all"):
            try:
                run(tmp_path / "r", numbers(3))
            except ResultsInUseError as e:
                refused.append(e)

    with files.observe(look):
        merge_results(tmp_path / "all", tmp_path / "r")
    assert len(refused) == 1
    assert run(tmp_path / "r", numbers(3)).wait(60).done == 9


def test_samples_without_a_result_are_still_counted_after_a_merge(tmp_path: Path) -> None:
    """Those without items, and those that were never begun, of every directory."""
    parts = [[{"id": f"s{i}", "items": [] if i % 3 == 1 else [i, i]} for i in range(k, k + 6)] for k in (0, 4)]
    for i, part in enumerate(parts):
        run(tmp_path / f"r{i}", part).wait(60)
    (tmp_path / "r0" / "s0.json").unlink()  # as if it had never been begun
    done = merge_results(tmp_path / "all", tmp_path / "r0", tmp_path / "r1")
    frame = nbrun.load_samples(tmp_path / "all")
    assert list(frame.sample_id) == [f"s{i}" for i in range(10)]
    assert list(frame.total_items) == [0 if i % 3 == 1 else 2 for i in range(10)]
    assert list(frame.sample_id[~frame.is_complete]) == ["s0"]
    counts = nbrun.status(tmp_path / "all")
    assert (counts.samples, counts.samples_complete, counts.done, counts.total) == (10, 9, 12, 14)
    assert done.samples == 6, "samples with results"
    assert run(tmp_path / "all", parts[0] + parts[1][2:]).wait(60).done == 14


def test_a_stream_that_was_merged_leaves_the_sums_of_the_newest_run(tmp_path: Path) -> None:
    run(tmp_path / "r0", numbers(3)).wait(60)
    run(tmp_path / "r1", iter(numbers(5))).wait(60)
    merge_results(tmp_path / "all", tmp_path / "r0", tmp_path / "r1")
    assert nbrun.status(tmp_path / "all").samples == 5
