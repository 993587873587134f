"""nbrun.watch: several directories that others fill, in one view that only reads."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.cli import main
from nbrun.errors import InputError, NbrunError
from nbrun.model import Progress
from nbrun.panel import static_html, static_text
from nbrun.panel.sync import head_of
from nbrun.results.follow import Follower
from tests.views import controls_of
from tests.waiting import DEADLINE_S, until

OLD = Path(__file__).parent.parent / "data" / "old"
QUICK_S = 0.02


def of(n: int, items: int = 3) -> list[dict[str, Any]]:
    return [{"id": f"s{i:03}", "solutions": list(range(items)), "incorrect_solutions": ["x"]} for i in range(n)]


def judge(task: nbrun.Task) -> dict[str, Any]:
    return {"accepted": task.group == "solution"}


@pytest.fixture
def watching() -> Iterator[Callable[..., Any]]:
    """nbrun.watch, stopped at the end of the test."""
    made = []

    def make(results: Any, **more: Any) -> Any:
        made.append(nbrun.watch(results, **({"every_s": QUICK_S, "view": None} | more)))
        return made[-1]

    yield make
    for one in made:
        one.stop()


Counts_ = tuple[int, int, int, int]


def settled(folder: Path) -> Counts_:
    """Return what a new Follower counts now."""
    follower = Follower(folder)
    follower.look()
    return sums(follower)


def sums(follower: Follower) -> Counts_:
    """Samples, complete samples, done and errors: what nbrun.status counts."""
    counts = follower.counts.values()
    complete = sum(c.done >= c.total for c in counts)
    return len(counts), complete, sum(c.done for c in counts), sum(c.errors for c in counts)


def by_status(folder: Path) -> Counts_:
    status = nbrun.status(folder)
    return status.samples, status.samples_complete, status.done, status.errors


def test_directories_that_are_not_there_yet_count_once_they_are(tmp_path: Path, watching: Callable[..., Any]) -> None:
    folders = [tmp_path / f"shard-{i}" for i in range(3)]
    watch = watching(folders)
    until(lambda: "shard-0 is not there yet" in watch.progress.message)
    assert (watch.progress.state, watch.progress.total) == ("paused", None)
    for i, folder in enumerate(folders):
        nbrun.start(list(nbrun.shard(of(20), i, 3)), judge, folder, view=None).wait(60)
    progress = watch.wait(60)
    assert (progress.state, progress.done, progress.total, progress.errors) == ("done", 80, 80, 0)
    assert (progress.samples_done, progress.samples_total, progress.message) == (20, 20, "")
    assert (progress.verdicts, progress.unexpected) == ({"Accepted": 60, "Rejected": 20}, 0)
    assert sorted(s.sample_id for s in progress.since(0)) == [s["id"] for s in of(20)]
    assert len(watch.results()) == 80
    until(lambda: not any(t.name == "nbrun-watch" for t in threading.enumerate()), "its thread ends")


def test_errors_unexpected_verdicts_and_retries_are_counted_as_they_are(
    tmp_path: Path, watching: Callable[..., Any]
) -> None:
    down = threading.Event()
    down.set()

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.sample_id == "s001" and down.is_set():
            raise ValueError("down")
        return {"accepted": True}

    watch = watching(tmp_path / "r")
    run = nbrun.start(of(4), fn, tmp_path / "r", view=None, retry=None)
    run.wait(60)
    progress = watch.wait(60)
    assert (progress.done, progress.errors, progress.unexpected) == (12, 4, 3)
    kind = next(k for k in progress.error_kinds if k.n)
    assert (kind.type, kind.n) == ("ValueError", 4)
    assert kind.last is None or kind.last.message == "down"

    again = watching([tmp_path / "r", tmp_path / "later"])  # which keeps it looking
    until(lambda: again.progress.errors == 4)
    down.clear()
    run.retry_errors()
    assert run.wait(60).errors == 0
    until(lambda: (again.progress.done, again.progress.errors) == (16, 0), lambda: again.progress)
    assert not any(k.n for k in again.progress.error_kinds)


def test_a_follower_counts_what_status_counts_at_every_moment(tmp_path: Path) -> None:
    """Results of any kind, redone, retried, archived and unpacked between two looks of one follower."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    folder = tmp_path / "r"
    follower = Follower(folder)
    samples = of(12)
    fails = {s["id"] for s in chance.sample(samples, 4)}

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.sample_id in fails and task.item == 1:
            raise OSError("no")
        return judge(task)

    policy = nbrun.RetryPolicy(attempts=1)
    actions: dict[str, Callable[[], object]] = {
        "part": lambda: nbrun.start(chance.sample(samples, 5), fn, folder, view=None, retry=policy).wait(60),
        "all": lambda: nbrun.start(samples, fn, folder, view=None, retry=policy).wait(60),
        "redo": lambda: nbrun.start(
            samples, fn, folder, view=None, retry=policy, redo=[chance.choice(samples)["id"]]
        ).wait(60),
        "mend": lambda: fails.clear(),
        "archive": lambda: nbrun.archive(folder) if folder.exists() else None,
        "unpack": lambda: nbrun.archive(folder, unpack=True) if folder.exists() else None,
        "delete": lambda: [file.unlink() for file in sorted(folder.glob("*.json"))[:1]],
    }
    done = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ["part", *chance.choices(list(actions), k=12), "all"]:
            done.append(name)
            actions[name]()
            follower.look()
            if folder.exists():
                assert sums(follower) == settled(folder) == by_status(folder), (seed, done)


@pytest.mark.parametrize("name", sorted(p.name for p in OLD.iterdir() if p.is_dir()))
def test_directories_of_the_older_program(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(OLD / name, folder)
    assert settled(folder)[2:] == by_status(folder)[2:]


def test_a_look_reads_only_what_has_changed(tmp_path: Path, opened: list[str], tuning: Callable[..., None]) -> None:
    folder = tmp_path / "r"
    nbrun.start(of(50), judge, folder, view=None).wait(60)
    follower = Follower(folder)
    follower.look()
    assert sums(follower) == (50, 50, 200, 0)
    opened.clear()
    assert follower.look() == set()
    assert not any(path.endswith(".json") for path in opened)
    assert str(folder) in opened, "the folder has changed just now"
    tuning(settled_ns=-(10**18))
    opened.clear()
    assert follower.look() == set()
    assert str(folder) not in opened
    nbrun.start([{"id": "s007", "solutions": list(range(4))}], judge, folder, view=None, groups=["solution"]).wait(60)
    opened.clear()
    assert follower.look() == {"s007"}
    read = {path for path in opened if path.endswith(".json")}
    assert 1 <= len(read) <= 2, "one file was written; the others were not opened"


def test_results_are_counted_before_they_are_in_a_file(tmp_path: Path, watching: Callable[..., Any]) -> None:
    go = threading.Event()

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.item == 2:
            assert go.wait(60)
        return judge(task)

    run = nbrun.start(of(1), fn, tmp_path / "r", view=None)
    watch = watching([tmp_path / "r"])
    try:
        until(lambda: watch.progress.done == 3, lambda: watch.progress)
        assert (watch.progress.state, watch.progress.total) == ("running", 4)
        rows = controls_of(watch).tasks("s000")
        assert sorted((row.group, row.index) for row in rows) == [
            ("incorrect_solution", 0),
            ("solution", 0),
            ("solution", 1),
        ]
        assert controls_of(watch).entry("s000", "solution", 0)["status"] == "done"
        assert controls_of(watch).entry("s000", "solution", 2) is None
    finally:
        go.set()
    run.wait(60)
    assert watch.wait(60).state == "done"


def test_a_sample_of_two_folders_has_two_rows(tmp_path: Path, watching: Callable[..., Any]) -> None:
    for name in ("a", "b"):
        nbrun.start(of(2, 1), lambda task, name=name: {"of": name}, tmp_path / name, view=None).wait(60)
    watch = watching([tmp_path / "a", tmp_path / "b"])
    rows = sorted(row.sample_id for row in watch.wait(60).since(0))
    assert rows == ["s000", "s000 (b)", "s001", "s001 (b)"]
    assert controls_of(watch).entry("s001", "solution", 0)["result"] == {"of": "a"}
    assert controls_of(watch).entry("s001 (b)", "solution", 0)["result"] == {"of": "b"}
    assert len(controls_of(watch).tasks("s000 (b)")) == 2
    assert controls_of(watch).tasks("unknown") == []


def test_it_ends_by_stop_and_controls_no_run(tmp_path: Path, watching: Callable[..., Any]) -> None:
    watch = watching([tmp_path / "a", tmp_path / "b"])
    controls = controls_of(watch)
    for steer in (controls.pause, controls.resume, controls.retry_errors, controls.go_on):
        with pytest.raises(NbrunError, match="only watches"):
            steer()
    assert watch.wait(0.05).state == "paused"
    controls.stop()
    assert watch.wait(60).state == "stopped"
    assert asyncio.run(_awaited(watch)).state == "stopped"
    assert not (tmp_path / "a").exists(), "nothing is made"
    with nbrun.watch(tmp_path / "c", every_s=QUICK_S, view=None) as other:
        pass
    assert other.progress.state == "stopped"


async def _awaited(watch: Any) -> Progress:
    return await watch


def test_a_folder_that_cannot_be_read_costs_only_itself(tmp_path: Path, watching: Callable[..., Any]) -> None:
    nbrun.start(of(2), judge, tmp_path / "good", view=None).wait(60)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / ".nbrun").symlink_to(tmp_path)
    watch = watching([tmp_path / "bad", tmp_path / "good"])
    until(lambda: watch.progress.done == 8)
    assert "bad can't be read" in watch.progress.message
    assert watch.progress.state == "paused"


def test_what_views_say_of_it(tmp_path: Path, watching: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / f"shard-{i}" for i in range(2)]
    for i, folder in enumerate(folders):
        nbrun.start(list(nbrun.shard(of(6), i, 2)), judge, folder, view=None).wait(60)
    watch = watching(folders, view="console")
    progress = watch.wait(60)
    until(lambda: "nbrun.load_results([" in capsys.readouterr().err)
    assert repr(watch) == "<nbrun.Watch of 2 folders: done, 24 of 24 tasks>"
    text = static_text(progress)
    assert text.startswith("Done: 24 of 24 tasks\n")
    assert "Start it again" not in text
    head = head_of(progress)
    assert head["watched"] == 2
    assert head["next"] == f"nbrun.load_results({list(map(str, folders))!r})"
    assert "Go on" not in head["end"]
    assert "go on watching" in static_html(watching(tmp_path / "none").progress, beside_widget=True)
    assert [(row["name"], row["state"]) for row in controls_of(watch).health()] == [
        ("shard-0", "done"),
        ("shard-1", "done"),
    ]


def test_bad_input_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for results in ([], 5, [None], b"x", {"a": 1}, file, ["a\0"]):
        with pytest.raises(InputError):
            nbrun.watch(results, view=None)
    for every_s in (0, -1, float("nan"), "1", True, 10**400):
        with pytest.raises(InputError):
            nbrun.watch(tmp_path, every_s=every_s, view=None)
    with pytest.raises(InputError):
        nbrun.watch(tmp_path, view="window")


# ---- shards in processes of their own

SHARD = """
import sys, time, nbrun
i, n, folder, wait_s = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
samples = [{"id": f"s{k:03}", "solutions": [0, 1, 2], "incorrect_solutions": ["x"]} for k in range(int(sys.argv[5]))]

def fn(task):
    time.sleep(wait_s)
    return {"accepted": task.group == "solution"}

nbrun.start(list(nbrun.shard(samples, i, n)), fn, folder, workers=4, view=None).wait()
"""


def shard(i: int, n: int, folder: Path, wait_s: float, samples: int) -> subprocess.Popen[bytes]:
    arguments = [str(i), str(n), str(folder), str(wait_s), str(samples)]
    return subprocess.Popen([sys.executable, "-c", SHARD, *arguments], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.long)])
def test_shards_in_processes_one_of_which_is_killed(
    count: int, tmp_path: Path, watching: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    samples = 20 * count
    folders = [tmp_path / f"shard-{i}" for i in range(count)]
    watch = watching(folders)
    shards = [shard(i, count, folder, 0.02, samples) for i, folder in enumerate(folders[:-1])]
    victim = shard(count - 1, count, folders[-1], 30, samples)
    try:
        controls = controls_of(watch)
        # It holds the lock before it has recorded how many tasks it was given. Before the first look there are no rows.
        until(lambda: [row["state"] for row in controls.health()][-1:] == ["running"], controls.health)
        until(lambda: watch.progress.total == 4 * samples, lambda: watch.progress)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        for one in shards:
            assert one.wait(DEADLINE_S) == 0
        until(lambda: watch.progress.state == "paused", lambda: watch.progress)
        message = watch.progress.message
        assert message.startswith(f"shard-{count - 1} has ")
        assert message.endswith(" left and no run.")
        assert watch.progress.total == 4 * samples
        assert main(["status", *map(str, folders)]) == 0
        assert f"of {4 * samples:,} done" in capfd.readouterr().out.splitlines()[-1]
        shards.append(shard(count - 1, count, folders[-1], 0, samples))
        progress = watch.wait(DEADLINE_S)
        assert (progress.state, progress.done, progress.total) == ("done", 4 * samples, 4 * samples)
        assert {os.path.basename(p) for p in watch.directories} == {f.name for f in folders}
    finally:
        for one in [*shards, victim]:
            one.kill()
            one.wait()
