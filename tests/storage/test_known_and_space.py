"""A file deleted by hand runs again, and the run says so; a disk that is too small is reported at once."""

import os
import warnings

import pytest

import nbrun

SAMPLES = [{"id": f"p{i}", "solutions": list(range(50))} for i in range(4)]


def run(path, samples=SAMPLES, ran=None, **more):
    def fn(task):
        if ran is not None:
            ran.append(task.sample_id)
        return {"x": "y" * 200}

    fn.settings = {"name": "test"}
    live = nbrun.start(samples, fn, path, view=None, **more)
    return live.wait(60)


def test_a_file_deleted_by_hand_runs_again_and_the_run_says_so(tmp_path):
    assert run(tmp_path).message == ""
    (tmp_path / "p1.json").unlink()
    ran = []
    progress = run(tmp_path, ran=ran)
    assert set(ran) == {"p1"}
    assert len(ran) == 50
    assert progress.message == "Deleted since the last run: p1.json; its tasks run again."
    assert run(tmp_path).message == "", "said once"
    for name in ("p0.json", "p2.json", "p3.json"):
        (tmp_path / name).unlink()
    assert run(tmp_path).message.startswith("Deleted since the last run: p0.json and 2 more;")


def test_what_was_never_finished_is_not_taken_for_deleted(tmp_path):
    run(tmp_path, SAMPLES[:2])
    assert run(tmp_path).message == ""
    (tmp_path / ".nbrun" / "known").unlink()
    (tmp_path / "p1.json").unlink()
    assert run(tmp_path).message == "", "the size to come is unknown"
    (tmp_path / ".nbrun" / "known").write_bytes(b"\xff\x00 nonsense")
    assert run(tmp_path).message == "", "a damaged list names no file"


def test_a_finished_directory_is_not_written_to(tmp_path):
    run(tmp_path)
    known = (tmp_path / ".nbrun" / "known").stat().st_mtime_ns
    run(tmp_path)
    assert (tmp_path / ".nbrun" / "known").stat().st_mtime_ns == known


@pytest.fixture
def small_disk(monkeypatch):
    """Set how many bytes disks have left."""
    real = os.statvfs

    def leave(free):
        def statvfs(path):
            disk = real(path)
            return os.statvfs_result((disk.f_bsize, 1, *disk[2:4], free, *disk[5:]))

        monkeypatch.setattr(os, "statvfs", statvfs)

    return leave


def test_start_warns_when_the_space_will_not_last(tmp_path, small_disk):
    run(tmp_path)
    grown = [{"id": f"p{i}", "solutions": list(range(100))} for i in range(4)]
    small_disk(30_000)
    with pytest.warns(UserWarning, match=r"30 kB left, but the 200 results that are still to come will need about"):
        progress = run(tmp_path, grown)
    assert progress.done == 400
    assert progress.message.count("still to come") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path, grown)  # nothing is to come
        small_disk(10**9)
        run(tmp_path, [*grown, {"id": "new", "solutions": list(range(100))}])


def test_a_new_run_warns_once_the_size_of_a_result_is_known(tmp_path, small_disk, tuning):
    tuning(space_look_s=0.0)
    small_disk(100_000)
    samples = [{"id": f"p{i}", "solutions": list(range(100))} for i in range(60)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        progress = run(tmp_path, samples)
    assert progress.done == 6000
    assert progress.message.count("still to come") == 1
