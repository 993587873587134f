"""What happens when the dataset, the function or the directory changed since the last run, and what is said of it."""

import copy
import json
import shutil
import unicodedata

import pytest
from power_cuts import Job, check_end, make_samples, saved

import nbrun


@pytest.fixture
def job():
    return Job(make_samples(3))


def run(job, path, **options):
    progress = job.start(path, **options).wait(60)
    assert progress.state == "done"
    return progress


def rows(path, **options):
    df = nbrun.load_results(path, **options)
    return {
        (sample_id, group, int(index)): value
        for sample_id, group, index, value in zip(
            df.sample_id.astype(str), df.group.astype(str), df["index"], df.v, strict=True
        )
    }


def test_nothing_changed(job, tmp_path):
    run(job, tmp_path)
    files = {p.name: p.stat().st_ino for p in tmp_path.glob("*.json")}
    progress = run(job, tmp_path)
    assert (job.ran, progress.resumed, progress.message) == ([], 12, "")
    assert {p.name: p.stat().st_ino for p in tmp_path.glob("*.json")} == files, "no file was rewritten"


def test_samples_in_another_order(job, tmp_path):
    run(job, tmp_path)
    job.samples.reverse()
    progress = run(job, tmp_path)
    assert (job.ran, progress.message) == ([], "")


def test_items_in_another_order(job, tmp_path):
    """Their results move with them, on the disk too; of equal items the first takes the first result."""
    run(job, tmp_path)
    before = rows(tmp_path)
    job.samples[0]["solutions"] = ["b", "a", "a"]
    assert run(job, tmp_path).message == ""
    assert job.ran == []
    now = rows(tmp_path)
    assert [now["s/0", "solution", i] for i in range(3)] == [before["s/0", "solution", i] for i in (1, 0, 2)]
    check_end(job, tmp_path)


def test_a_sample_gone_from_the_dataset(job, tmp_path):
    """Its results stay, and stay loadable."""
    run(job, tmp_path)
    before = rows(tmp_path)
    [_, gone, _] = job.samples
    job.samples.remove(gone)
    progress = run(job, tmp_path)
    assert job.ran == []
    assert "1 sample in the directory is not among the samples" in progress.message
    assert rows(tmp_path) == before
    job.samples.append(gone)
    assert run(job, tmp_path).message == ""
    assert job.ran == []


def test_a_sample_that_grew(job, tmp_path):
    run(job, tmp_path)
    before = rows(tmp_path)
    job.samples[1]["solutions"].insert(1, "new")
    assert run(job, tmp_path).message == ""
    assert len(job.ran) == 1
    now = rows(tmp_path)
    assert [now["s/1", "solution", i] for i in (0, 2, 3)] == [before["s/1", "solution", i] for i in range(3)]
    check_end(job, tmp_path)


def test_a_sample_that_shrank(job, tmp_path):
    """What matches no item is kept in the file, counts for nothing, and is loaded on request."""
    run(job, tmp_path)
    before = rows(tmp_path)
    job.samples[1]["solutions"] = ["b"]
    progress = run(job, tmp_path)
    assert "2 saved results have no item in their sample now; they are kept." in progress.message
    assert job.ran == []
    now = rows(tmp_path)
    assert now["s/1", "solution", 0] == before["s/1", "solution", 1]
    assert len(now) == 10
    df = nbrun.load_results(tmp_path, stale=True)
    assert sorted(df[df.stale].v) == sorted(before["s/1", "solution", i] for i in (0, 2))
    samples = nbrun.load_samples(tmp_path).set_index("sample_id")
    assert samples.loc["s/1", ["completed_solutions", "total_solutions"]].tolist() == [1, 1]
    job.samples[1]["solutions"] = ["a", "b", "a"]
    assert run(job, tmp_path).message == ""
    assert job.ran == [], "they count again when their items are back"
    assert rows(tmp_path) == before


def test_one_item_changed(job, tmp_path):
    """Its old result counts as done no more, and stays loadable."""
    run(job, tmp_path)
    old = rows(tmp_path)["s/2", "solution", 1]
    job.samples[2]["solutions"][1] = "changed"
    progress = run(job, tmp_path)
    assert len(job.ran) == 1
    assert "1 saved result" in progress.message
    assert rows(tmp_path)["s/2", "solution", 1] != old
    assert old in list(nbrun.load_results(tmp_path, stale=True).v)
    check_end(job, tmp_path)


def test_equal_items(job, tmp_path):
    """One more of the same is one task more, one less is one less."""
    run(job, tmp_path)
    job.samples[0]["solutions"] = ["a", "b", "a", "a"]
    run(job, tmp_path)
    assert len(job.ran) == 1
    job.samples[0]["solutions"] = ["a", "a"]
    run(job, tmp_path)
    assert job.ran == []
    assert len(rows(tmp_path)) == 11


def test_the_context_changed(job, tmp_path):
    """Results of other tests or limits are kept, and one sentence says how to make them again."""
    run(job, tmp_path)
    job.samples[0]["tests"] = ["others"]
    progress = run(job, tmp_path)
    assert job.ran == []
    assert "4 saved results" in progress.message
    assert 'redo="changed"' in progress.message
    run(job, tmp_path, redo="changed")
    assert len(job.ran) == 4
    assert run(job, tmp_path).message == ""


def test_the_settings_changed(job, tmp_path):
    run(job, tmp_path)
    old = set(nbrun.load_results(tmp_path).run_id)
    real = job.fn

    def fn(generation):
        out = real(generation)
        out.settings = {"time_limit_s": 4}
        return out

    job.fn = fn
    progress = run(job, tmp_path)
    assert job.ran == []
    assert "12 saved results" in progress.message
    assert "other settings" in progress.message
    assert set(nbrun.load_results(tmp_path).run_id) == old, "each result says which run made it"
    run(job, tmp_path, redo="changed")
    assert len(job.ran) == 12
    assert not set(nbrun.load_results(tmp_path).run_id) & old
    records = [json.loads(line.split("\t")[2]) for line in (tmp_path / ".nbrun" / "runs.log").read_text().splitlines()]
    assert [r["settings"] for r in records] == [{"job": 1}, *[{"time_limit_s": 4}] * 2]


def test_a_result_that_could_not_be_made_again_stays(job, tmp_path):
    """The old result counts until its replacement is saved, and an error is none."""
    run(job, tmp_path)
    before = saved(tmp_path)
    job.failing = lambda task, generation: (_ for _ in ()).throw(ValueError("no")) if task.index else None
    progress = run(job, tmp_path, redo=nbrun.load_results(tmp_path))
    assert len(job.ran) == 12
    assert progress.errors == 6
    now = saved(tmp_path)
    kept = {identity for identity in before if now[identity] == before[identity]}
    assert len(kept) == 6
    assert all(status == "done" for _, _, status in now.values())
    check_end(job, tmp_path)


@pytest.mark.parametrize(
    "ids", [("a", "A"), ("é", unicodedata.normalize("NFD", "é")), ("a/b", "a_b"), ("x" * 300, "x" * 301)]
)
def test_ids_that_look_alike_are_two(ids, job, tmp_path):
    first, second = copy.deepcopy(job.samples[:2])
    first["id"], second["id"] = ids
    job.samples = [first]
    run(job, tmp_path)
    job.samples = [second]
    run(job, tmp_path)
    assert len(job.ran) == 4
    job.samples = [first, second]
    assert run(job, tmp_path).message == ""
    assert job.ran == []


def test_files_deleted_renamed_and_copied_by_hand(job, tmp_path):
    run(job, tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    before = saved(tmp_path)
    files[0].rename(tmp_path / "my own name.json")
    assert saved(tmp_path) == before
    files[1].unlink()
    shutil.copy(files[2], tmp_path / "copy.json")
    progress = run(job, tmp_path)
    assert len(job.ran) == 4, "the deleted sample only"
    assert "holds the same sample" in progress.message
    (tmp_path / "copy.json").unlink()
    assert run(job, tmp_path).message == ""
    check_end(job, tmp_path)


def test_the_inner_folder_deleted_by_hand(job, tmp_path):
    """After a clean end the files alone are complete."""
    run(job, tmp_path)
    before = saved(tmp_path)
    shutil.rmtree(tmp_path / ".nbrun")
    assert saved(tmp_path) == before
    job.samples[0]["solutions"].append("c")
    run(job, tmp_path)
    assert len(job.ran) == 1
    now = saved(tmp_path)
    assert all(now[identity] == value for identity, value in before.items())
    seqs = [seq for seq, _, _ in now.values()]
    assert len(set(seqs)) == len(seqs), "seq grows on"
