"""Directories of the older program: exactly the missing tasks run, entries are matched by identity."""

import collections
import json
import shutil
import warnings
from pathlib import Path

import pytest

import nbrun

OLD = Path(__file__).parent.parent / "data" / "old"
LANGUAGES = ["UNKNOWN_LANGUAGE", "PYTHON", "CPP", "PYTHON3", "JAVA"]
NAMES = sorted(p.name for p in OLD.iterdir() if p.is_dir())


def missing_tasks(folder, dataset):
    """The truth, worked out without nbrun: the tasks that no entry of the old files is of."""
    have = collections.Counter()
    for file in folder.glob("*.json"):
        try:
            record = json.loads(file.read_bytes())
        except ValueError:
            continue
        for group in ("solution", "incorrect_solution"):
            for e in record[group + "_result"]:
                have[record["id"], group, e["language"], e["solution"]] += 1
    missing, wanted = [], []
    for sample in dataset:
        for group in ("solution", "incorrect_solution"):
            items = sample[group + "s"]
            for i, (language, source) in enumerate(zip(items["language"], items["solution"], strict=True)):
                if language == 0:
                    continue
                wanted.append((sample["id"], group, i))
                identity = sample["id"], group, LANGUAGES[language], source
                if have[identity] > 0:
                    have[identity] -= 1
                else:
                    missing.append((sample["id"], group, i))
    return missing, wanted


def old_directory(name, tmp_path):
    """Return a directory's dataset, a copy of it, its missing tasks, and all of its tasks."""
    dataset = json.loads((OLD / f"{name}.dataset.json").read_text())
    results = tmp_path / "r"
    shutil.copytree(OLD / name, results)
    return dataset, results, *missing_tasks(results, dataset)


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_missing_tasks_run(name, tmp_path):
    dataset, results, missing, wanted = old_directory(name, tmp_path)
    ran = []

    def fn(task):
        ran.append((task.sample_id, task.group, task.index))
        return {"accepted": True, "tests": []}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(nbrun.load_results(results)) > 0
        nbrun.start(dataset, fn, results, workers=4, retry=None, view=None).wait(60)
        assert sorted(ran) == sorted(missing)
        df = nbrun.load_results(results)
        rows = list(zip(df.sample_id.astype(str), df.group.astype(str), df["index"].astype(int), strict=True))
        assert sorted(rows) == sorted(wanted)
        assert bool(nbrun.load_samples(results).is_complete.all())
        ran.clear()
        nbrun.start(dataset, fn, results, workers=4, retry=None, view=None).wait(60)
    assert ran == []


def with_new_samples(folder, dataset):
    """The same directory after nbrun has continued two of its samples and added one of its own."""
    own = {"id": "nbrun/own", "solutions": {"language": [3, 2], "solution": ["print(1)", "int main(){}"]}}
    own["incorrect_solutions"] = {"language": [3], "solution": ["print(2)"]}
    fn = lambda task: {"accepted": True, "tests": []}  # noqa: E731
    nbrun.start([own, *dataset[:2]], fn, folder, workers=2, retry=None, view=None).wait(60)
    return [*dataset, own]


@pytest.mark.parametrize("name", NAMES)
def test_mixed_with_the_new_format(name, tmp_path):
    """Some samples were continued by nbrun, one is its own, the others are still as they were."""
    dataset, results, missing, wanted = old_directory(name, tmp_path)
    begun = {s["id"] for s in dataset[:2]}
    ran = []

    def fn(task):
        ran.append((task.sample_id, task.group, task.index))
        return {"accepted": True, "tests": []}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        everything = with_new_samples(results, dataset)
        sources = set(nbrun.load_results(results).source)
        assert "nbrun" in sources
        nbrun.start(everything, fn, results, workers=4, retry=None, view=None).wait(60)
        assert sorted(ran) == sorted(t for t in missing if t[0] not in begun)
        df = nbrun.load_results(results)
        rows = zip(df.sample_id.astype(str), df.group.astype(str), df["index"].astype(int), strict=True)
        assert sorted(r for r in rows if r[0] != "nbrun/own") == sorted(wanted)
        assert len(df) == len(wanted) + 3
        assert bool(nbrun.load_samples(results).is_complete.all())
        assert nbrun.status(results).done == len(df)


def test_one_sample_in_a_file_of_each_format(tmp_path):
    """Two directories were copied into one: the newer file counts, the other is named, and nothing is deleted."""
    dataset = json.loads((OLD / "progress_complete.dataset.json").read_text())
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(OLD / "progress_complete", old)
    fn = lambda task: {"accepted": True, "tests": []}  # noqa: E731
    nbrun.start(dataset, fn, new, workers=2, retry=None, view=None).wait(60)
    for file in new.glob("*.json"):
        shutil.copy(file, old)
    before = {p.name: p.read_bytes() for p in old.glob("*.json")}
    ran = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = nbrun.start(dataset, lambda task: ran.append(task), old, workers=2, retry=None, view=None)
        assert "holds the same sample" in run.wait(60).message
        assert ran == []
        assert set(nbrun.load_results(old).source) == {"nbrun"}
    assert {p.name: p.read_bytes() for p in old.glob("*.json")} == before


@pytest.mark.parametrize("asks", [False, True])
def test_a_time_limit_in_an_old_file_is_tried_again_only_where_the_judge_asks(asks, tmp_path):
    dataset = json.loads((OLD / "progress_complete.dataset.json").read_text())
    results = tmp_path / "r"
    shutil.copytree(OLD / "progress_complete", results)
    file = sorted(results.glob("*.json"))[0]
    record = json.loads(file.read_bytes())
    entry = record["solution_result"][0]
    entry["result"] = {"accepted": False, "verdict": "TimeLimitExceeded", "tests": [], "this one": True}
    file.write_text(json.dumps(record, indent=4))

    ran = []

    class Fn:
        def __call__(self, task):
            ran.append((task.sample_id, task.item["solution"]))
            return {"accepted": True, "tests": []}

        def again(self, entry, task):
            return asks and "this one" in entry["result"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = (nbrun.load_results(results).verdict == "TimeLimitExceeded").sum()
        nbrun.start(dataset, Fn(), results, workers=2, retry=None, view=None).wait(60)
    assert ran == ([(record["id"], entry["solution"])] if asks else [])
    after = (nbrun.load_results(results).verdict == "TimeLimitExceeded").sum()
    assert before - after == asks
