"""compare, align, confusion, mcnemar: only equal items are compared, and each task is counted once."""

import shutil

import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError
from nbrun.frames import align, confusion, mcnemar
from nbrun.frames.rate_tables import sign_test
from tests.frames.judged_runs import PROBLEMS, answer, judged, problem, run

SAMPLES = [
    problem("p1", ["Accepted", "Accepted", "WrongAnswer"], ["WrongAnswer", "Accepted"]),
    problem("p2", ["Accepted"], ["RuntimeError", "WrongAnswer"]),
]
#: source -> what the second judge says otherwise
OTHERWISE = {"WrongAnswer 2": "Accepted", "Accepted 1": "WrongAnswer", "RuntimeError 0": "TimeLimitExceeded"}


def second(task):
    word = OTHERWISE.get(task.item["solution"])
    return judged(word) if word else answer(task)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """One dataset judged twice; in the second p1's first solution was edited, and p3 is new."""
    path = tmp_path_factory.mktemp("two")
    run(SAMPLES, path / "a")
    edited = [problem("p1", ["Accepted", "Accepted", "WrongAnswer"], ["WrongAnswer", "Accepted"]), SAMPLES[1],
              problem("p3", ["Accepted"], [])]  # fmt: skip
    edited[0]["solutions"][0]["solution"] = "WrongAnswer edited"
    edited[0]["solutions"] = edited[0]["solutions"][::-1]  # the order says nothing
    run(edited, path / "b", second)
    return {"a": path / "a", "b": path / "b"}


def test_a_row_a_sample_over_what_all_have_decided(two_runs):
    df = nbrun.compare(two_runs)
    assert list(df.columns) == [
        "sample_id", "n_compared", "n_left_out", "n_flipped", "tpr_a", "tpr_b", "tnr_a", "tnr_b", "tpr_diff_b",
        "tnr_diff_b",
    ]  # fmt: skip
    p1, p2, p3 = df.to_dict("records")
    # p1: right ones "Accepted 1" A->W and "WrongAnswer 2" W->A; wrong ones "WrongAnswer 0" and "Accepted 1" A->W
    assert (p1["n_compared"], p1["n_left_out"], p1["n_flipped"]) == (4, 2, 3)
    assert (p1["tpr_a"], p1["tpr_b"], p1["tpr_diff_b"]) == (0.5, 0.5, 0.0)
    assert (p1["tnr_a"], p1["tnr_b"], p1["tnr_diff_b"]) == (0.5, 1.0, 0.5)
    assert (p2["n_compared"], p2["n_left_out"], p2["n_flipped"], p2["tnr_diff_b"]) == (3, 0, 1, 0.0)
    assert (p3["n_compared"], p3["n_left_out"]) == (0, 1)
    assert pd.isna(p3["tpr_a"])
    (overall,) = nbrun.compare(two_runs, by=None).to_dict("records")
    assert (overall["n_compared"], overall["n_left_out"], overall["n_flipped"]) == (7, 3, 4)
    assert overall["tpr_a"] == overall["tpr_b"] == 2 / 3
    assert (overall["tnr_a"], overall["tnr_b"]) == (3 / 4, 1.0)
    assert nbrun.compare(two_runs, by=["language"]).n_compared.sum() == 7


def test_frames_and_directories_give_the_same(two_runs):
    frames = {name: nbrun.load_results(path) for name, path in two_runs.items()}
    pd.testing.assert_frame_equal(nbrun.compare(frames), nbrun.compare(two_runs))


def test_the_confusion_table_counts_every_task_once(two_runs):
    table = confusion(two_runs)
    assert (table.index.name, table.columns.name) == ("a", "b")
    flips = {(i, j): int(table.loc[i, j]) for i in table.index for j in table.columns if table.loc[i, j]}
    assert flips == {
        ("Accepted", "Accepted"): 1, ("Accepted", "WrongAnswer"): 2, ("WrongAnswer", "Accepted"): 1,
        ("WrongAnswer", "WrongAnswer"): 2, ("RuntimeError", "TimeLimitExceeded"): 1,
        ("Accepted", "(missing)"): 1, ("(missing)", "WrongAnswer"): 1, ("(missing)", "Accepted"): 1,
    }  # fmt: skip
    assert int(table.to_numpy().sum()) == len(align(two_runs)) == 10
    assert int(confusion(two_runs, group="incorrect_solution").to_numpy().sum()) == 4


def test_errors_are_no_verdict_and_are_not_compared(tmp_path):
    run(PROBLEMS, tmp_path / "a")
    run(PROBLEMS, tmp_path / "b", lambda task: judged("JudgeError") if task.index else answer(task))
    table = confusion({"a": tmp_path / "a", "b": tmp_path / "b"})
    assert table.loc["(no verdict)", "JudgeError"] == 1
    (row,) = nbrun.compare({"a": tmp_path / "a", "b": tmp_path / "b"}, by=None).to_dict("records")
    assert row["n_compared"] == 4  # the first of each group
    assert row["n_flipped"] == 0


def test_mcnemar(two_runs):
    (row,) = mcnemar(two_runs).to_dict("records")
    assert (row["first"], row["run"], row["n_compared"]) == ("a", "b", 7)
    assert (row["n_only_first_right"], row["n_only_right"]) == (1, 2)
    assert row["p_value"] == 1.0
    assert (row["n_samples_first_better"], row["n_samples_better"], row["p_value_samples"]) == (0, 1, 1.0)


def test_the_sign_test():
    """R: binom.test(c(a, b))$p.value."""
    for a, b, p in ((1, 9, 0.02148437), (0, 5, 0.0625), (10, 20, 0.09873715), (0, 0, 1.0), (7, 7, 1.0)):
        assert sign_test(a, b) == sign_test(b, a) == pytest.approx(p, abs=1e-7)
    exact = sign_test(480, 520)
    assert sign_test(481, 521) == pytest.approx(exact, rel=0.01)  # by logarithms from 1,000 on
    assert 0 < sign_test(40_000, 41_000) < 0.001


def test_twenty_directories_at_once(two_runs, tmp_path):
    runs = {}
    for i in range(20):
        shutil.copytree(two_runs["ab"[i % 2]], tmp_path / str(i))
        runs[f"run {i}"] = tmp_path / str(i)
    df = nbrun.compare(runs)
    assert [c for c in df.columns if c.startswith("tpr_run")] == [f"tpr_run {i}" for i in range(20)]
    assert df.n_compared.tolist() == [4, 3, 0]
    table = mcnemar(runs)
    assert len(table) == 19
    assert table.n_only_right.tolist() == [2 if i % 2 else 0 for i in range(1, 20)]


def test_what_cannot_be_compared(two_runs, judged_run):
    a = nbrun.load_results(two_runs["a"])
    with pytest.raises(TypeError, match=r"'b': the frame lacks the columns key, verdict"):
        nbrun.compare({"a": a, "b": a.drop(columns=["key", "verdict"])})
    with pytest.raises(TypeError, match="have in common lacks the column status; there are sample_id, group"):
        nbrun.compare(two_runs, by="status")
    with pytest.raises(InputError, match="two runs or more, not 1"):
        nbrun.compare({"a": a})
    with pytest.raises(InputError, match="a mapping of names"):
        nbrun.compare([a, a])
    with pytest.raises(InputError, match="'b' holds a task twice"):
        nbrun.compare({"a": a, "b": pd.concat([a, a])})
    with pytest.raises(InputError, match="no such folder"):
        nbrun.compare({"a": a, "b": "nowhere"})
    for one, other in ((1, "1"), ("diff_b", "b")):
        with pytest.raises(InputError, match=f"{one!r}.*{other!r}"):
            nbrun.compare({one: a, other: a})
    with pytest.raises(InputError, match="two runs, not 3"):
        confusion({"a": a, "b": a, "c": a})


def test_empty_runs(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    runs = {name: tmp_path / name for name in "ab"}
    assert len(nbrun.compare(runs)) == 0
    assert nbrun.compare(runs, by=None).n_compared.tolist() == [0]
    assert confusion(runs).empty
    assert mcnemar(runs).p_value.tolist() == [1.0]
