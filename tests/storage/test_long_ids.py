"""Ids of any length and any characters, and names of groups: everything that is saved under them is found again."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

import nbrun
from nbrun import cli
from nbrun.results.format import derived, temporary
from nbrun.results.reader import read_entry, read_rows
from nbrun.results.sample_file import HEAD_BYTES
from nbrun.storage import files
from nbrun.tools.archive import archive_finished, unpack_archives
from nbrun.tools.check import check
from tests.waiting import until

OLD = Path(__file__).parent.parent / "data" / "old"
#: Around the sizes of what is read of a file at once, too.
IDS = [
    *("x" * n for n in (HEAD_BYTES - 40, HEAD_BYTES - 30, HEAD_BYTES - 29, HEAD_BYTES, HEAD_BYTES * 16 + 1, 20_000)),
    "\N{GRINNING FACE}" * 260, "https://example.org/" + "a/b?c=d&" * 400, "\x01" * 180, '"\\' * 600, "\n" * 600,
    "y" * 1_000_000,
]  # fmt: skip
GROUPS = [
    'a"b', "a\\b", "a\nb", "a}\n}\n", "é\u2028", "x_result", "format", "id", "progress", "summary", "_result", "{", "[",
    '": [', "completed_x", "groups", "s", "g" * 5000,
]  # fmt: skip


def run(path, samples, fn=lambda t: {"v": t.item}, **more):
    live = nbrun.start(samples, fn, path, workers=2, view=None, retry=None, **{"groups": {"it": "items"}, **more})
    live.wait(60)
    return live


def error_of_two(task):
    if task.item == 2:
        raise ValueError("two")
    return {"v": task.item}


@pytest.mark.parametrize("sample_id", IDS, ids=lambda i: f"{len(i)} of {i[:1]!a}")
def test_an_id_of_any_length(sample_id, tmp_path):
    path = tmp_path / "results"
    given = [{"id": sample_id, "items": [1, 2]}]
    with files.observe(lambda operation, at: _fits(at, tmp_path)):
        run(path, given, error_of_two)
        frame = nbrun.load_results(path)
        assert frame.sample_id.tolist() == [sample_id] * 2
        assert set(frame.status) == {"done", "error"}
        calls = []
        live = run(path, given, lambda t: calls.append(t.item) or {"v": t.item})
        assert calls == [2]
        assert live.progress.done == 2
        [file] = path.glob("*.json")
        assert len(os.fsencode(file.name)) <= 128
        assert nbrun.status(path).done == 2
        assert nbrun.load_samples(path).is_complete.all()
        assert [r.index for r in read_rows(path, sample_id)] == [0, 1]
        assert read_entry(path, sample_id, "it", 1)["result"] == {"v": 2}
        assert check(path, repair=True).findings == []
        assert cli.main(["merge", str(tmp_path / "merged"), str(path)]) == 0
        assert archive_finished(path).samples == 1
        for at in (path, tmp_path / "merged"):
            frame = nbrun.load_results(at)
            assert frame.sample_id.tolist() == [sample_id] * 2
            assert sorted(frame.v) == [1, 2]
        assert unpack_archives(path).samples == 1
        calls.clear()
        run(path, given, lambda t: calls.append(1) or {})
        assert not calls


def _fits(at, root):
    for name in os.path.relpath(at, root).split(os.sep):
        assert len(os.fsencode(name)) <= 143, name


def test_an_id_of_any_length_in_the_journal_alone(tmp_path):
    """While a sample is worked on, its results are in the journal and in no file."""
    path = tmp_path / "results"
    given = [{"id": i, "items": [1, 2]} for i in IDS]
    go_on = threading.Event()
    live = nbrun.start(
        given, lambda t: (t.item == 2 and go_on.wait(60)) or {"v": t.item}, path, workers=len(IDS) + 1, view=None,
        groups={"it": "items"},
    )  # fmt: skip
    try:
        until(lambda: live.progress.saved >= len(IDS), lambda: live.progress)
        assert sorted(nbrun.load_results(path).sample_id) == sorted(IDS)
        assert [len(read_rows(path, i)) for i in IDS] == [1] * len(IDS)
        assert nbrun.status(path).done == len(IDS)
        shutil.copytree(path, tmp_path / "killed")
    finally:
        go_on.set()
    live.wait(60)
    calls = []
    run(tmp_path / "killed", given, lambda t: calls.append(t.item) or {"v": t.item})
    assert calls == [2] * len(IDS)
    assert [nbrun.status(p).done for p in (path, tmp_path / "killed")] == [2 * len(IDS)] * 2


@pytest.mark.parametrize("size", [140, 200, 245, 251, 252, 255])
def test_an_old_file_with_a_name_as_long_as_disks_allow_is_continued(size, tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    name = "n" * (size - 5) + ".json"
    rows = [{"language": "PYTHON3", "solution": "a", "result": {"accepted": True}}]
    (path / name).write_text(json.dumps({"id": "s", "solution_result": rows}, indent=4))
    items = [{"language": "PYTHON3", "solution": c} for c in "ab"]
    calls = []
    live = nbrun.start(
        [{"id": "s", "solutions": items}], lambda t: calls.append(t.item["solution"]) or {"accepted": False}, path,
        view=None,
    )  # fmt: skip
    live.wait(60)
    assert live.progress.state == "done"
    assert calls == ["b"]
    assert [f.name for f in path.glob("*.json")] == [name]
    assert nbrun.load_results(path)["accepted"].tolist() == [True, False]
    (path / name).write_bytes((path / name).read_bytes()[:-80])  # and when it is damaged, it is kept aside
    assert check(path, repair=True).is_ok
    assert len(nbrun.load_results(path)) == 2


def test_derived_names_fit_and_differ():
    long = ["n" * n + c + ".json" for n in (120, 140, 250) for c in "ab"]
    made = [temporary(name) for name in long] + [derived(name, ".0") for name in long]
    assert len(set(made)) == len(made)
    assert max(map(len, made)) <= 139


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: ascii(g)[:20])
def test_a_group_of_any_name(group, tmp_path):
    path = tmp_path / "results"
    given = [{"id": "s", "things": [1, 2], "more": [3]}]
    groups = {group: "things", "other": "more"}
    run(path, given, error_of_two, groups=groups)
    calls = []
    for again in range(2):
        [file] = path.glob("*.json")
        json.loads(file.read_bytes())
        frame = nbrun.load_results(path)
        assert sorted(frame.group.astype(str)) == sorted([group, group, "other"])
        status = nbrun.status(path)
        assert (status.done, status.errors, status.total) == (2 + again, 1 - again, 3)
        assert check(path).findings == []
        assert len(read_rows(path, "s")) == 3
        if not again:
            run(path, given, lambda t: calls.append(t.item) or {"v": t.item}, groups=groups)
    assert calls == [2]
    file.write_bytes(json.dumps(json.loads(file.read_bytes()), indent=2, sort_keys=True).encode())
    assert nbrun.status(path).done == 3
    assert len(nbrun.load_results(path)) == 3
    shutil.rmtree(path / ".nbrun")
    calls.clear()
    run(path, given, lambda t: calls.append(1), groups=groups)
    assert not calls


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: ascii(g)[:20])
def test_a_field_of_any_name(group, tmp_path):
    path = tmp_path / "results"
    field = group + "\x00\u2029"
    run(path, [{"id": "s", field: [{group: 1}]}], lambda t: {"v": t.item[group], group or "g": 1}, groups={"g": field})
    frame = nbrun.load_results(path)
    assert frame["v"].tolist() == [1]
    assert check(path).findings == []
