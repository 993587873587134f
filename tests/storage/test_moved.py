"""A results directory that is moved, deleted or replaced under a live run: nothing saved is lost or mixed up.

The run pauses and says where its results are; the second run is one of another process.
"""

import os
import shutil
import subprocess
import sys

import pytest
from test_while_running import HalfWay

import nbrun
from nbrun.errors import ResultsMovedError
from tests.waiting import until

OTHER = """
import sys, nbrun
samples = [{"id": f"s{i}", "solutions": list(range(20))} for i in range(3)]
try:
    run = nbrun.start(samples, lambda task: {"n": -1}, sys.argv[1], groups=["solution"], view=None)
    print(run.wait(60).done)
except nbrun.errors.ResultsInUseError as e:
    print("in use:", e)
"""


@pytest.fixture(autouse=True)
def looks_often(tuning):
    """Whether the directory is still in its place is asked ten times a second."""
    tuning(stale_look_s=0.1)


def other(path):
    """Another process runs there. Returns what it said."""
    return subprocess.run([sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, timeout=60).stdout


def paused(half):
    until(lambda: half.run.progress.state == "paused")
    return half.run.progress.message


def whole(path):
    df = nbrun.load_results(path)
    return len(df), set(df.n) - set(range(20))


@pytest.mark.parametrize("is_idle", [True, False], ids=["while nothing is saved", "while results end"])
def test_it_is_moved_and_moved_back(tmp_path, is_idle):
    half = HalfWay(tmp_path / "r")
    os.rename(tmp_path / "r", tmp_path / "elsewhere")
    if not is_idle:
        half.gate.set()
    message = paused(half)
    assert str(tmp_path / "elsewhere") in message
    assert not (tmp_path / "r").exists()
    assert len(nbrun.load_results(tmp_path / "elsewhere")) >= 57, "what was reported as saved is there"
    with pytest.raises(nbrun.errors.RunHaltedError) as caught:
        half.run.wait(1)
    assert isinstance(caught.value.__cause__, ResultsMovedError)
    assert "in use" in other(tmp_path / "elsewhere"), "its lock went along"
    half.run.resume()
    assert str(tmp_path / "elsewhere") in paused(half), "resume alone changes nothing"
    os.rename(tmp_path / "elsewhere", tmp_path / "r")
    half.gate.set()
    half.run.resume()
    assert half.run.wait(60).state == "done"
    assert whole(tmp_path / "r") == (60, set())
    assert nbrun.check(tmp_path / "r").is_ok


def test_it_is_moved_and_the_run_is_stopped(tmp_path):
    """What waits in memory is saved where the others are."""
    half = HalfWay(tmp_path / "r")
    os.rename(tmp_path / "r", tmp_path / "elsewhere")
    half.gate.set()
    paused(half)
    half.run.stop()
    until(lambda: half.run.progress.ended)
    assert half.run.progress.unsaved == 0
    assert not (tmp_path / "r").exists()
    assert whole(tmp_path / "elsewhere") == (60, set())
    assert nbrun.check(tmp_path / "elsewhere").is_ok
    assert other(tmp_path / "elsewhere") == "60\n", "its lock is free"
    assert whole(tmp_path / "elsewhere") == (60, set()), "and nothing ran again"


def test_it_is_moved_and_tasks_end_after_the_run_was_stopped(tmp_path):
    """Their results wait in memory too, although the stop has met the fault again."""
    half = HalfWay(tmp_path / "r")
    os.rename(tmp_path / "r", tmp_path / "elsewhere")
    paused(half)
    half.run.stop()
    half.gate.set()
    until(lambda: half.run.progress.ended)
    assert whole(tmp_path / "elsewhere") == (60, set())


def test_another_run_begins_in_a_new_folder_of_its_name(tmp_path):
    half = HalfWay(tmp_path / "r")
    os.rename(tmp_path / "r", tmp_path / "elsewhere")
    assert other(tmp_path / "r") == "60\n"
    half.gate.set()
    assert str(tmp_path / "elsewhere") in paused(half)
    half.run.resume()
    paused(half)
    assert whole(tmp_path / "r") == (60, {-1}), "only the other's are there"
    half.run.stop()
    until(lambda: half.run.progress.ended)
    assert whole(tmp_path / "r") == (60, {-1})
    assert whole(tmp_path / "elsewhere") == (60, set())


def test_it_is_deleted(tmp_path, tuning):
    tuning(abandon_after_s=0.2)
    half = HalfWay(tmp_path / "r")
    shutil.rmtree(tmp_path / "r")
    message = paused(half)
    assert "deleted" in message
    assert "Nothing that was saved is lost" not in message
    half.run.resume()
    paused(half)
    half.run.stop(drain=False)
    until(lambda: half.run.progress.ended)
    assert not (tmp_path / "r").exists()


def test_the_inner_folder_is_removed_and_another_process_starts(tmp_path):
    """It is refused, since the directory itself is locked too; the first run goes on and keeps its lock."""
    half = HalfWay(tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / ".nbrun")
    assert other(tmp_path / "r").startswith("in use")
    assert "was re" in paused(half)
    shutil.rmtree(tmp_path / "r" / ".nbrun", ignore_errors=True)  # what the other one had made there
    half.run.resume()
    until(lambda: (tmp_path / "r" / ".nbrun" / "lock").exists())
    assert other(tmp_path / "r").startswith("in use")
    half.gate.set()
    until(lambda: half.run.progress.ended)
    assert half.run.progress.state == "done"
    assert whole(tmp_path / "r") == (60, set())
    assert other(tmp_path / "r") == "60\n"


def test_a_backup_is_put_in_the_place_of_the_inner_folder(tmp_path):
    """Another run's journal is there: the run doesn't write into it."""
    half = HalfWay(tmp_path / "r")
    shutil.copytree(tmp_path / "r" / ".nbrun", tmp_path / "copy")
    shutil.rmtree(tmp_path / "r" / ".nbrun")
    os.rename(tmp_path / "copy", tmp_path / "r" / ".nbrun")
    before = sorted(p.name for p in (tmp_path / "r" / ".nbrun").glob("*.log"))
    assert "replaced" in paused(half)
    half.run.resume()
    assert "replaced" in paused(half)
    half.gate.set()
    half.run.stop()
    until(lambda: half.run.progress.ended)
    assert sorted(p.name for p in (tmp_path / "r" / ".nbrun").glob("*.log")) == before
    assert len(nbrun.load_results(tmp_path / "r")) >= 57
