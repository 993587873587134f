"""What somebody does to the directory while a run goes on; and results as large as they come."""

import os
import shutil
import subprocess
import threading

import pytest
from test_faults import small_disk

import nbrun
from nbrun.errors import StorageError
from tests.waiting import until

DEADLINE_S = 30


class HalfWay:
    """A run of 3 samples with 20 tasks, the last of each waiting for `gate`."""

    def __init__(self, path, samples=3, pad=0):
        self.gate = threading.Event()
        self.ran = []

        def fn(task):
            self.ran.append((task.sample_id, task.index))
            if task.index == 19:
                self.gate.wait(DEADLINE_S)
            return {"n": task.index, "pad": "x" * pad}

        self.samples = [{"id": f"s{i}", "solutions": list(range(20))} for i in range(samples)]
        self.run = nbrun.start(self.samples, fn, path, groups=["solution"], workers=8, view=None)
        until(lambda: self.run.progress.saved == 19 * samples and len(self.ran) == 20 * samples)


def test_the_inner_folder_is_removed(tmp_path):
    """It pauses and says so; resumed, it makes the folder again, and all that it holds in memory is saved."""
    half = HalfWay(tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / ".nbrun")
    half.gate.set()
    until(lambda: half.run.progress.ended or half.run.progress.state == "paused")
    for _ in range(20):
        if half.run.progress.ended:
            break
        half.run.resume()
        until(lambda: half.run.progress.ended or half.run.progress.state == "paused")
    assert half.run.progress.state == "done"
    assert len(nbrun.load_results(tmp_path / "r")) == 60


def test_a_sample_s_file_is_removed_before_it_is_opened(tmp_path):
    nbrun.start(
        [{"id": f"s{i}", "solutions": [0]} for i in range(3)], lambda task: {}, tmp_path, groups=["solution"], view=None
    ).wait(DEADLINE_S)
    ran = []

    def stream():
        yield {"id": "s0", "solutions": [0]}
        os.unlink(tmp_path / "s1.json")
        yield {"id": "s1", "solutions": [0, 1]}
        yield {"id": "s2", "solutions": [0]}

    run = nbrun.start(
        stream(), lambda task: ran.append(task.index) or {}, tmp_path, groups=["solution"], view=None
    )  # fmt: skip
    assert "was removed while the run went on" in run.wait(DEADLINE_S).message
    assert sorted(ran) == [0, 1]
    assert len(nbrun.load_results(tmp_path)) == 4


def test_a_disk_that_is_read_only():
    """A real one: a start is refused and says why, loads and checks go on, and so does the run once it is writable."""
    samples = [{"id": "s", "solutions": [1, 2]}]
    with small_disk("64m") as folder:
        nbrun.start(samples, lambda task: {"n": 1}, folder / "r", groups=["solution"], view=None).wait(DEADLINE_S)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        samples[0]["solutions"].append(3)
        with pytest.raises(StorageError, match=r"no permission to write|Read-only file system"):
            nbrun.start(samples, lambda task: {"n": 1}, folder / "r", groups=["solution"], view=None)
        assert len(nbrun.load_results(folder / "r")) == 2
        assert nbrun.check(folder / "r").is_ok
        for write in (
            lambda: nbrun.archive(folder / "r"),
            lambda: nbrun.archive(folder / "r", unpack=True),
            lambda: nbrun.check(folder / "r", repair=True),
        ):
            with pytest.raises(StorageError, match="Read-only file system"):
                write()
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        run = nbrun.start(samples, lambda task: {"n": 1}, folder / "r", groups=["solution"], view=None)
        progress = run.wait(DEADLINE_S)
        assert (progress.resumed, progress.saved) == (2, 3)


def test_a_result_of_50_mb(tmp_path):
    """It is saved, loaded and recovered from the journal like any other; its neighbours don't wait for memory."""
    big = "x" * 50_000_000
    gate = threading.Event()

    def fn(task):
        if task.index == 5:
            gate.wait(DEADLINE_S)
        return {"n": task.index, "pad": big if task.index in (1, 3) else ""}

    run = nbrun.start([{"id": "s", "solutions": list(range(6))}], fn, tmp_path, groups=["solution"], view=None)
    until(lambda: run.progress.saved == 5)
    copy = shutil.copytree(tmp_path, tmp_path.with_name("copy"))  # as a power cut would leave it
    gate.set()
    assert run.wait(DEADLINE_S).saved == 6
    for path, count in ((tmp_path, 6), (copy, 5)):
        df = nbrun.load_results(path)
        assert df.set_index("index").pad.str.len().to_dict() == {
            i: 50_000_000 if i in (1, 3) else 0 for i in range(count)
        }
    again = nbrun.start([{"id": "s", "solutions": list(range(6))}], fn, copy, groups=["solution"], view=None)
    assert again.wait(DEADLINE_S).resumed == 5
    assert nbrun.check(copy).is_ok
