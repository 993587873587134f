"""load_results and load_samples: fixed columns and dtypes, every format, also while a run writes."""

import json
import math
import os
import re
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError
from tests.frames.judged_runs import OLD, PROBLEMS, answer, problem, run
from tests.waiting import until

DTYPES = {
    "sample_id": "category", "group": "category", "index": "Int64", "status": "category", "verdict": "category",
    "accepted": "boolean", "as_expected": "boolean", "language": "category",
    "n_tests": "Int64", "n_passed": "Int64", "max_time_s": "Float64",
    "duration_s": "Float64", "attempts": "Int64", "started_at": "datetime64[us, UTC]", "error": "object",
    "api_used": "category", "worker_id": "category", "run_id": "category", "key": "object", "occurrence": "Int64",
    "source": "category",
}  # fmt: skip


def dtypes(df):
    return {c: str(df[c].dtype) for c in DTYPES}


def test_columns_and_dtypes_are_fixed(judged_run, tmp_path, old):
    (tmp_path / "empty").mkdir()
    for path in (judged_run, tmp_path / "empty", old("progress_complete"), old("old_complete")):
        df = nbrun.load_results(path)
        assert list(df.columns) == list(DTYPES), path
        assert dtypes(df) == DTYPES
        assert df.attrs["problems"] == 0
        assert list(df.index) == list(range(len(df)))
    assert len(nbrun.load_results(tmp_path / "empty")) == 0


def test_a_run_is_one_row_a_task(judged_run):
    df = nbrun.load_results(judged_run)
    rows = [
        (p["id"], group, i, item["solution"].split()[0], item["language"])
        for p in PROBLEMS
        for group in ("solution", "incorrect_solution")
        for i, item in enumerate(p[group + "s"])
    ]
    assert len(df) == len(rows)
    for (sample_id, group, i, word, language), r in zip(rows, df.to_dict("records"), strict=True):
        assert (r["sample_id"], r["group"], r["index"], r["language"]) == (sample_id, group, i, language)
        if word == "raise":
            assert (r["status"], r["error"]) == ("error", "ValueError: no such word")
            assert pd.isna(r["verdict"])
            assert pd.isna(r["accepted"])
            continue
        assert (r["status"], r["verdict"], r["error"]) == ("done", word, None)
        if word == "JudgeError":
            assert pd.isna(r["accepted"])
        else:
            assert r["accepted"] == (word == "Accepted")
        if word != "JudgeError":
            assert (r["n_tests"], r["n_passed"]) == (2, 2 if word == "Accepted" else 1)
            assert r["max_time_s"] == (2.0 if word == "TimeLimitExceeded" else 0.5)
        assert r["duration_s"] >= 0
        assert r["attempts"] == 1
        assert abs(r["started_at"].timestamp() - time.time()) < 3600
        assert r["key"].startswith("k1:")
        assert len(r["key"]) == 35
        assert (r["occurrence"], r["source"]) == (0, "nbrun")
        assert r["run_id"]
        assert r["worker_id"]


@pytest.mark.parametrize(
    ("name", "source"),
    [("old_complete", "legacy"), ("progress_complete", "progress"), ("progress_killed_b", "progress")],
)
def test_old_directories_load_whole(old, name, source):
    path = old(name)
    wanted = []
    for file in path.glob("*.json"):
        try:
            record = json.loads(file.read_bytes())
        except ValueError:
            continue
        for group in ("solution", "incorrect_solution"):
            for e in record[group + "_result"]:
                tests = e["result"].get("tests") or []
                wanted.append(
                    (record["id"], group, e["language"], len(tests), sum(t.get("passed") is True for t in tests))
                )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        df = nbrun.load_results(path)
    known = df[df.n_tests.notna()]
    rows = zip(known.sample_id, known.group, known.language, known.n_tests, known.n_passed, strict=True)
    assert sorted(rows) == sorted(w for w in wanted if w[3])
    assert len(df) == len(wanted)
    assert set(df.source) == {source}
    assert df["index"].isna().all()
    assert set(df.verdict) <= {"Accepted", "WrongAnswer", "TimeLimitExceeded", "RuntimeError", "CompileError",
                               "JudgeError"}  # fmt: skip


def test_formats_mix_in_one_directory(old, tmp_path):
    path = old("progress_complete")
    shutil.copy(OLD / "old_complete" / "Codeforces_1507_A.json", path)
    run([problem("new", ["Accepted"], ["WrongAnswer"])], path)
    df = nbrun.load_results(path)
    assert set(df.source) == {"legacy", "progress", "nbrun"}
    assert dtypes(df) == DTYPES
    assert (df[df.source == "nbrun"].sample_id == "new").all()


def test_a_matched_old_directory_has_indices(old):
    path = old("progress_killed_resumed")
    dataset = json.loads((OLD / "progress_killed_resumed.dataset.json").read_text())
    run(dataset, path, lambda task: {"accepted": True, "tests": []})
    df = nbrun.load_results(path)
    assert df["index"].notna().all()
    place = {p["id"]: p for p in dataset}
    names = ["UNKNOWN_LANGUAGE", "PYTHON", "CPP", "PYTHON3", "JAVA"]
    for r in df.to_dict("records"):
        assert names[place[r["sample_id"]][r["group"] + "s"]["language"][r["index"]]] == r["language"]


def test_it_loads_while_a_run_writes(gate, tmp_path):
    """Whatever the journal holds is there at once, though no file is: each result as it is saved, each once."""
    path = tmp_path / "r"
    live = nbrun.start([problem("p1", ["Accepted"] * 20, ["WrongAnswer"] * 20)], gate, path, workers=4, view=None)
    for n in (1, 7, 20):
        gate.passes.release(n - live.progress.saved)
        until(lambda n=n: live.progress.saved == n)
        df = nbrun.load_results(path)
        assert len(df) == n
        assert not df.duplicated(["sample_id", "group", "key", "occurrence"]).any()
        assert dtypes(df) == DTYPES
        samples = nbrun.load_samples(path)
        assert int(samples.completed_solutions.sum() + samples.completed_incorrect_solutions.sum()) == n
        assert int(samples.total_solutions.sum()) == 20
        assert not samples.is_complete.any()
        rates = nbrun.rates(path)
        assert int(rates.n_missing[0]) == 40 - n
        assert bool(rates.is_partial[0])
    gate.passes.release(100)
    live.wait(60)
    assert len(nbrun.load_results(path)) == 40
    assert bool(nbrun.load_samples(path).is_complete.all())
    assert not nbrun.rates(path).is_partial.any()


def test_several_directories_load_as_one(judged_run, old):
    other = old("progress_complete")
    both = nbrun.load_results([judged_run, other])
    assert len(both) == len(nbrun.load_results(judged_run)) + len(nbrun.load_results(other))
    assert dtypes(both) == DTYPES


def test_plain_results_give_a_column_a_key(tmp_path):
    values = [
        {"n": 1, "x": 0.5, "ok": True, "text": "a", "status": "mine", "mixed": 1, "deep": {"y": 1}, "none": None},
        {"n": 2, "x": math.nan, "ok": False, "text": "b", "status": "mine", "mixed": "two", "only": 2**62},
        {"n": 3, "x": math.inf, "ok": True, "text": None, "status": "mine", "mixed": True},
    ]
    samples = [{"id": "p", "solutions": [0, 1, 2]}]
    run(samples, tmp_path / "r", lambda task: values[task.item], groups=["solution"])
    df = nbrun.load_results(tmp_path / "r")
    assert dtypes(df) == DTYPES
    assert df.n.tolist() == [1, 2, 3]
    assert str(df.n.dtype) == "Int64"
    assert df.x[0] == 0.5
    assert math.isnan(df.x.to_numpy("float64", na_value=-1.0)[1])
    assert df.x[2] == math.inf
    assert str(df.ok.dtype) == "boolean"
    assert df.text.tolist()[:2] == ["a", "b"]
    assert df.result_status.tolist() == ["mine"] * 3
    assert (df.status == "done").all()
    assert df.deep.tolist() == [{"y": 1}, None, None]
    assert df.mixed.tolist() == [1, "two", True]
    assert df["none"].isna().all()
    assert df.only[1] == 2**62
    assert df.only.isna().tolist() == [True, False, True]
    assert df.verdict.isna().all()


def test_problems_are_reported_and_affect_only_themselves(judged_run, tmp_path):
    path = tmp_path / "r"
    shutil.copytree(judged_run, path)
    whole = (path / "p1.json").read_bytes()
    (path / "p1.json").write_bytes(whole[: whole.index(b'{"index"')])
    (path / "notes.json").write_text("[1, 2]")
    (path / "newer.json").write_text('{\n"format": "nbrun/9",\n"id": "x",\n"solution_result": [\n]\n}\n')
    (path / "text.json").write_text("hello")
    (path / "empty.json").touch()
    with pytest.warns(UserWarning, match=r"could not be read: .*4 more"):
        df = nbrun.load_results(path)
    assert df.attrs["problems"] == 5
    assert set(df.sample_id) == {"p2"}
    with pytest.warns(UserWarning, match="could not be read"):
        again = nbrun.load_results(path)
    assert again.attrs["problems"] == 5
    pd.testing.assert_frame_equal(df, again)


def test_what_is_no_results_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(f"there is no such folder in {tmp_path}. Give")):
        nbrun.load_results("nowhere")
    with pytest.raises(InputError, match="there is no such folder"):
        nbrun.load_results(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="there is no such folder"):
        nbrun.load_samples(tmp_path / "file")
    for table in (nbrun.load_samples(tmp_path), nbrun.rates(tmp_path)):
        assert len(table) == 0


def test_load_samples(judged_run, old):
    df = nbrun.load_samples(judged_run)
    assert list(df.columns) == [
        "sample_id", "path", "source", "completed_solutions", "total_solutions", "completed_incorrect_solutions",
        "total_incorrect_solutions", "errors", "is_complete", "updated_at",
    ]  # fmt: skip
    assert df.sample_id.tolist() == ["p1", "p2"]
    assert df.errors.tolist() == [0, 1]
    assert df.is_complete.tolist() == [True, False]
    assert df.completed_incorrect_solutions.tolist() == [2, 3]
    assert df.total_incorrect_solutions.tolist() == [2, 4]
    assert str(df.updated_at.dtype).endswith("UTC]")
    assert nbrun.load_samples(old("old_complete")).is_complete.all()


def test_redo_takes_a_filtered_frame(tmp_path):
    run(PROBLEMS, tmp_path / "r")
    df = nbrun.load_results(tmp_path / "r")
    ran = []

    def again(task):
        ran.append(task.item["solution"])
        return answer(task)

    run(PROBLEMS, tmp_path / "r", again, redo=df[df.verdict == "TimeLimitExceeded"])
    assert sorted(ran) == ["TimeLimitExceeded 1", "raise 1"]  # an error entry runs again by itself
    with pytest.raises(TypeError, match="key"):
        run(PROBLEMS, tmp_path / "r", redo=df[["sample_id", "group"]])


def test_status_counts(judged_run):
    status = nbrun.status(judged_run)
    assert (status.samples, status.samples_complete, status.done, status.errors, status.total) == (2, 1, 10, 1, 11)


@pytest.mark.parametrize("more", [{"columns": 5}, {"where": 5}, {"items": "x"}, {"stale": 1}, {"columns": ["nope"]}])
def test_an_argument_that_can_not_be_meant_is_named(more: dict[str, Any], tmp_path: Path) -> None:
    nbrun.start(["a"], lambda task: {}, tmp_path, view=None).wait(60)
    with pytest.raises(nbrun.errors.InputError, match=next(iter(more))) as raised:
        nbrun.load_results(tmp_path, **more)
    assert "give" in str(raised.value) or "there are sample_id" in str(raised.value)


@pytest.mark.parametrize("results", [5, None])
@pytest.mark.parametrize("read", ["status", "check", "load_samples", "load_results", "rates", "unexpected"])
def test_what_is_no_path_is_an_error_of_use(read: str, results: Any) -> None:
    with pytest.raises(nbrun.errors.InputError, match="results="):
        getattr(nbrun, read)(results)


def test_tests_are_chosen_by_any_column(judged_run):
    whole = nbrun.load_results(judged_run, tests=True)
    assert len(whole) > whole.passed.sum() > 0
    for where in ({"passed": False}, "passed == False", lambda df: ~df.passed):
        df = nbrun.load_results(judged_run, tests=True, where=where)
        pd.testing.assert_frame_equal(df, whole[~whole.passed].reset_index(drop=True))
    both = nbrun.load_results(judged_run, tests=True, where={"passed": False, "group": "solution", "test": 1})
    assert len(both) == len(whole[~whole.passed & (whole.group == "solution") & (whole.test == 1)]) > 0


@pytest.mark.parametrize(
    "where",
    [
        "",
        "no_such_column == 1",
        "accepted ==",
        lambda df: [0],
        lambda df: ["key"],
        lambda df: df[df.accepted],
        {"no": 1},
    ],
)
def test_a_choice_of_rows_that_can_not_be_meant_is_an_error_of_use(judged_run, where):
    for more in ({}, {"tests": True}):
        with pytest.raises(nbrun.errors.InputError, match="where"):
            nbrun.load_results(judged_run, where=where, **more)


@pytest.mark.parametrize(
    ("where", "indexes"),
    [
        ({"n": None}, [1]),
        ({"n": [None, 7]}, [0, 1]),
        ({"n": math.nan}, [1]),
        ({"ok": pd.NA}, [2]),
        ({"ok": None, "n": 7.0}, []),
        ({"started_at": None}, []),
        ({"accepted": None}, [0, 1, 2]),
        ({"verdict": [None, "Accepted"]}, [0, 1, 2]),
        ({"error": None}, [0, 1, 2]),
        ({"text": None}, [0]),
        ({"n": (i for i in (7, 8))}, [0, 2]),
        ({"n": {7, 8}}, [0, 2]),
        ({"n": pd.Series([7])}, [0]),
        ({"n": []}, []),
        ({"text": "\ud83d"}, [1]),
        ({"deep": {"a": 1}}, [0]),
        ({"deep": [{"a": 1}, [2]]}, [0, 1]),
        ({"deep": None}, [2]),
    ],
)
def test_rows_are_chosen_by_any_value(tmp_path, where, indexes):
    results = [
        {"n": 7, "ok": True, "text": None, "deep": {"a": 1}},
        {"n": None, "ok": False, "text": "\ud83d", "deep": [2]},
        {"n": 8, "ok": None, "text": "x", "deep": None},
    ]
    run([{"id": "s", "its": [0, 1, 2]}], tmp_path, lambda task: results[task.item], groups=["its"])
    assert nbrun.load_results(tmp_path, where=where)["index"].tolist() == indexes


#: Options that name a column which not all results have.
OF_SOME = [
    {"where": {"v": 1}},
    {"where": "v == 1"},
    {"items": True, "where": {"v": 1}},
    {"tests": True, "where": "v > 0"},
]


def with_different_keys(path, ids="abc"):
    """A directory whose samples' results have different keys: of sample b alone there is a `v`."""
    run(
        [{"id": i, "its": [1]} for i in ids],
        path,
        lambda task: {"v" if task.sample_id == "b" else "w": 1},
        groups=["its"],
    )
    return path


@pytest.mark.parametrize("options", [*OF_SOME, {"items": True, "where": lambda df: df.v.eq(1)}])
def test_a_column_of_some_directories_chooses_rows_of_all(tmp_path, options):
    judged = {"accepted": True, "tests": [{"passed": True}], "v": 1}
    paths = [with_different_keys(tmp_path / i, i) for i in "ac"]
    run([{"id": "b", "its": [1]}], tmp_path / "b", lambda task: judged, groups=["its"])
    paths.insert(1, tmp_path / "b")
    assert nbrun.load_results(paths, **options).sample_id.tolist() == ["b"]


@pytest.mark.parametrize("options", OF_SOME[:3])
def test_a_column_of_some_chunks_chooses_rows_of_all(tmp_path, tuning, options):
    tuning(stride_bytes=4)
    path = with_different_keys(tmp_path)
    chunks = list(nbrun.iter_results(path, **options))
    assert [id for chunk in chunks for id in chunk.sample_id] == ["b"]
    chunks = list(nbrun.iter_results(path, columns=["sample_id", "v"]))
    assert [list(chunk.columns) for chunk in chunks] == [["sample_id", "v"]] * 3
    assert [chunk.v[0] for chunk in chunks] == [None, 1, None]
    for wrong in ({"columns": ["nope"]}, {"where": {"nope": 1}}, {"where": "nope == 1"}):
        with pytest.raises(InputError, match="nope"):
            list(nbrun.iter_results(path, **wrong))


def test_the_text_of_a_path_is_asked_for_where_bytes_are_given(judged_run):
    with pytest.raises(nbrun.errors.InputError, match="judged"):
        nbrun.load_results(os.fsencode(judged_run))


@pytest.mark.parametrize("read", ["load_results", "rates", "unexpected", "load_arrow", "load_samples", "compare"])
def test_a_warning_names_the_line_that_asked(tmp_path, read):
    (tmp_path / "broken.json").write_text('{"id": "a", "solution_result": [')
    with pytest.warns(UserWarning, match="could not be read") as caught:
        getattr(nbrun, read)({"a": tmp_path, "b": tmp_path} if read == "compare" else tmp_path)
    assert {w.filename for w in caught} == {__file__}
