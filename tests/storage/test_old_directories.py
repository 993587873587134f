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
    """The truth, worked out without nbrun: what no entry of the old files stands for."""
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


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_missing_tasks_run(name, tmp_path):
    dataset = json.loads((OLD / f"{name}.dataset.json").read_text())
    results = tmp_path / "r"
    shutil.copytree(OLD / name, results)
    missing, wanted = missing_tasks(results, dataset)
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
