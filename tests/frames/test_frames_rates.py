"""rates: a table of cases worked out by hand, and what is counted beside."""

import math
import sys

import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError, JudgeError
from nbrun.frames.rate_tables import wilson
from tests.frames.judged_runs import PROBLEMS, answer, problem, run
from tests.waiting import until

RIGHT, WRONG = "solution", "incorrect_solution"
NA = None


def frame(*rows):
    """Rows (group, verdict); "error" and "JudgeError!" are tasks that raised."""
    failed = {"error": "ValueError: no", "JudgeError!": "JudgeError: no server"}
    return pd.DataFrame(
        [
            {"sample_id": "p", "group": g, "status": "error" if v in failed else "done",
             "verdict": None if v in failed else v, "error": failed.get(v)}
            for g, v in rows
        ],
        columns=["sample_id", "group", "status", "verdict", "error"],
    )  # fmt: skip


#: name -> rows, and of the one row that comes out: tpr, tnr, judge errors, errors, undecided
CASES = {
    "all right": ([(RIGHT, "Accepted"), (WRONG, "WrongAnswer")], 1.0, 1.0, 0, 0, 0),
    "all wrong": ([(RIGHT, "WrongAnswer"), (WRONG, "Accepted")], 0.0, 0.0, 0, 0, 0),
    "each rejection rejects": (
        [(WRONG, v) for v in ("WrongAnswer", "TimeLimitExceeded", "MemoryLimitExceeded", "OutputLimitExceeded",
                              "RuntimeError", "CompileError")],
        NA, 1.0, 0, 0, 0,
    ),
    "no wrong solution: no TNR": ([(RIGHT, "Accepted"), (RIGHT, "TimeLimitExceeded")], 0.5, NA, 0, 0, 0),
    "a failed server is not a wrong solution": ([(RIGHT, "Accepted"), (RIGHT, "JudgeError")], 1.0, NA, 1, 0, 0),
    "nor a right one that was rejected": ([(WRONG, "JudgeError"), (WRONG, "Accepted")], NA, 0.0, 1, 0, 0),
    "nothing judged": ([(RIGHT, "JudgeError"), (WRONG, "error")], NA, NA, 1, 1, 0),
    "an error of the judge, raised": ([(RIGHT, "JudgeError!"), (RIGHT, "Accepted")], 1.0, NA, 1, 0, 0),
    "errors beside": ([(RIGHT, "error"), (RIGHT, "Accepted"), (WRONG, "error")], 1.0, NA, 0, 2, 0),
    "no verdict": ([(RIGHT, None), (RIGHT, "WrongAnswer")], 0.0, NA, 0, 0, 1),
    "a verdict of one's own says nothing": ([(RIGHT, "Odd"), (RIGHT, "Accepted")], 1.0, NA, 0, 0, 1),
    "another group is neither": ([("prompt", "Accepted"), (WRONG, "WrongAnswer")], NA, 1.0, 0, 0, 1),
    "any group of wrong ones": ([("incorrect_mutant", "WrongAnswer")], NA, 1.0, 0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_worked_cases(name):
    rows, *wanted = CASES[name]
    (row,) = nbrun.rates(frame(*rows)).to_dict("records")
    found = [row["tpr"], row["tnr"], row["n_judge_errors"], row["n_errors"], row["n_undecided"]]
    assert [NA if pd.isna(x) else x for x in found] == wanted
    tpr, tnr = wanted[:2]
    if NA in (tpr, tnr):
        assert pd.isna(row["balanced_accuracy"])
    else:
        assert row["balanced_accuracy"] == (tpr + tnr) / 2
    parts = ("n_positive", "n_negative", "n_judge_errors", "n_errors", "n_undecided")
    assert sum(row[n] for n in parts) == len(rows), "each task is counted once"
    assert pd.isna(row["n_missing"])
    assert pd.isna(row["is_partial"])


def test_an_accepted_of_ones_own_counts():
    df = frame((RIGHT, "Partial"), (RIGHT, "Partial"), (WRONG, "Partial"))
    df["accepted"] = pd.array([True, False, False], "boolean")
    (row,) = nbrun.rates(df).to_dict("records")
    assert (row["tpr"], row["tnr"], row["n_undecided"]) == (0.5, 1.0, 0)


def test_wilson_s_interval():
    """Values of R's binom::binom.confint(x, n, methods = "wilson")."""
    cases = [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (1, 1, 0.2065, 1.0),
             (50, 100, 0.4038, 0.5962)]  # fmt: skip
    for hits, n, low, high in cases:
        p, a, b = wilson(hits, n)
        assert (float(p), round(float(a), 4), round(float(b), 4)) == (hits / n, low, high)
    assert all(math.isnan(x) for x in wilson(0, 0))


@pytest.fixture(scope="module")
def two():
    """Sample a: 1 of 4 right ones accepted; b: 1 of 1. Languages cross them."""
    rows = [("a", RIGHT, "CPP", "Accepted"), *[("a", RIGHT, "PYTHON3", "WrongAnswer")] * 3,
            ("b", RIGHT, "CPP", "Accepted"), ("b", WRONG, None, "WrongAnswer")]  # fmt: skip
    df = pd.DataFrame(rows, columns=["sample_id", "group", "language", "verdict"]).assign(status="done")
    return df.astype(dict.fromkeys(["sample_id", "group", "language", "verdict", "status"], "category"))


def test_weighted_by_solution_or_by_sample(two):
    (pooled,) = nbrun.rates(two, by=None).to_dict("records")
    (meant,) = nbrun.rates(two, by=None, average="macro").to_dict("records")
    assert pooled["tpr"] == 2 / 5
    assert meant["tpr"] == (1 / 4 + 1) / 2
    sd = abs(1 / 4 - 1) / math.sqrt(2)
    assert 0.625 - 1.959964 * sd / math.sqrt(2) < 0
    assert (meant["tpr_low"], meant["tpr_high"]) == (0.0, 1.0), "cut at 0 and 1"
    many = pd.concat([two.assign(sample_id=two.sample_id.astype(str) + str(i)) for i in range(8)])
    (meant,) = nbrun.rates(many, by=None, average="macro").to_dict("records")
    half = 1.959963984540054 * (0.375 * math.sqrt(16 / 15)) / math.sqrt(16)
    assert meant["tpr_low"] == pytest.approx(0.625 - half)
    assert meant["tpr_high"] == pytest.approx(0.625 + half)
    assert pooled["tnr"] == meant["tnr"] == 1.0
    assert pd.isna(meant["tnr_low"]), "one sample says nothing about others"
    rows = [(f"s{i}", RIGHT, "Accepted" if j == 0 else "WrongAnswer") for i in range(7) for j in range(10)]
    equal = pd.DataFrame(rows, columns=["sample_id", "group", "verdict"]).assign(status="done")
    for by in (None, "group"):
        (meant,) = nbrun.rates(equal, by=by, average="macro").to_dict("records")
        assert meant["tpr"] == pytest.approx(0.1)
        assert pd.isna(meant["tpr_low"]), "samples of one rate give no interval, whatever their mean is rounded to"
    with pytest.raises(InputError, match="average"):
        nbrun.rates(two, average="task")


def test_any_grouping(two):
    by = nbrun.rates(two, by=["language"])
    assert by.columns[0] == "language"
    assert str(by.language.dtype) == "category"
    found = {(None if pd.isna(r["language"]) else r["language"]): (r["tpr"], r["tnr"]) for r in by.to_dict("records")}
    assert found["CPP"][0] == 1.0
    assert found["PYTHON3"][0] == 0.0
    assert found[None][1] == 1.0, "what has no language is a row of its own"
    both = nbrun.rates(two, by=["sample_id", "language"])
    assert list(both.columns[:2]) == ["sample_id", "language"]
    assert len(both) == 4
    assert len(nbrun.rates(two, by=["sample_id", "language"], average="macro")) == 4
    mine = nbrun.rates(two.assign(hard=[True] * 4 + [False] * 2), by="hard")
    assert mine.hard.tolist() == [False, True]
    assert int(both.n_positive.sum()) == int(mine.n_positive.sum()) == 5


def test_counts_of_each_verdict(judged_run):
    df = nbrun.load_results(judged_run)
    (row,) = nbrun.rates(judged_run, by=None).to_dict("records")
    for verdict, column in (
        ("Accepted", "n_accepted"), ("WrongAnswer", "n_wrong_answer"), ("RuntimeError", "n_runtime_error"),
        ("TimeLimitExceeded", "n_time_limit_exceeded"), ("CompileError", "n_compile_error"),
    ):  # fmt: skip
        assert row[column] == (df.verdict == verdict).sum()
    assert (row["n_errors"], row["n_judge_errors"], row["n_missing"], row["is_partial"]) == (1, 1, 0, True)


def test_of_a_directory_it_counts_missing_tasks(gate, tmp_path):
    """Tasks of samples that were not begun count too, as soon as they are known."""
    samples = [problem("p1", ["Accepted"] * 3, ["Accepted"]), problem("p2", ["Accepted"], ["WrongAnswer"] * 2)]
    live = nbrun.start(samples, gate, tmp_path / "r", workers=1, retry=None, view=None)
    gate.passes.release(3)
    until(lambda: live.progress.saved == 3)
    left = nbrun.rates(tmp_path / "r")
    assert left.n_missing.tolist()[0] == 1
    assert left.is_partial.tolist()[0]
    by_group = nbrun.rates(tmp_path / "r", by=["sample_id", "group"])
    assert dict(zip(zip(by_group.sample_id, by_group.group, strict=True), by_group.n_missing, strict=True)) == {
        ("p1", "solution"): 0, ("p1", "incorrect_solution"): 1,
        ("p2", "solution"): 1, ("p2", "incorrect_solution"): 2,
    }  # fmt: skip
    languages = nbrun.rates(tmp_path / "r", by="language")
    assert languages.n_missing.isna().all(), "the language of missing tasks is unknown"
    assert not languages.is_partial.eq(False).any()
    gate.passes.release(100)
    live.wait(60)
    done = nbrun.rates(tmp_path / "r", by="language")
    assert done.n_missing.eq(0).all()
    assert done.is_partial.eq(False).all()


def test_errors_of_the_judge_are_distinguished_from_others(tmp_path):
    def fn(task):
        if "WrongAnswer" in task.item["solution"]:
            raise JudgeError("the server is down")
        return answer(task)

    run(PROBLEMS, tmp_path / "r", fn)
    (row,) = nbrun.rates(tmp_path / "r", by=None).to_dict("records")
    assert (row["n_judge_errors"], row["n_errors"], row["n_missing"]) == (3 + 1, 1, 0)
    assert row["tpr"] == 3 / 4


def test_several_directories_and_empty_ones(judged_run, old, tmp_path):
    other = old("progress_killed_a")
    both = nbrun.rates([judged_run, other])
    assert len(both) == len(nbrun.rates(judged_run)) + len(nbrun.rates(other))
    assert int(both.n_missing.sum()) == int(nbrun.rates(other).n_missing.sum()) == 4
    (tmp_path / "empty").mkdir()
    for by in ("sample_id", ["language", "group"]):
        assert len(nbrun.rates(tmp_path / "empty", by=by)) == 0
    (row,) = nbrun.rates(tmp_path / "empty", by=None).to_dict("records")
    assert pd.isna(row["tpr"])
    assert row["n_missing"] == 0


def test_a_frame_without_the_columns_is_refused():
    with pytest.raises(TypeError, match="lacks the columns status, verdict"):
        nbrun.rates(pd.DataFrame({"sample_id": [], "group": []}))
    with pytest.raises(TypeError, match="lacks the column difficulty"):
        nbrun.rates(frame((RIGHT, "Accepted")), by=["difficulty"])


def test_ten_thousand_samples_take_no_loop():
    """Rates are summed by column: a frame of 200,000 rows costs few Python calls."""
    n = 200_000
    df = pd.DataFrame({
        "sample_id": pd.Categorical.from_codes([i // 20 for i in range(n)], [f"p{i}" for i in range(n // 20)]),
        "group": pd.Categorical([RIGHT, WRONG] * (n // 2)), "status": pd.Categorical(["done"] * n),
        "verdict": pd.Categorical(["Accepted", "WrongAnswer"] * (n // 2)),
    })  # fmt: skip
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        out = nbrun.rates(df)
    finally:
        sys.setprofile(None)
    assert len(out) == n // 20
    assert out.tpr.eq(1.0).all()
    assert calls < n / 10, "calls of Python functions"


@pytest.mark.parametrize("by", [5, [5], ["sample_id", None], [["group"]], object(), ["group", "group"]])
def test_what_is_no_column_to_group_by_is_refused_by_name(by):
    with pytest.raises(InputError, match="by="):
        nbrun.rates(frame((RIGHT, "Accepted")), by=by)


@pytest.mark.parametrize(("name", "values"), [("nested", [[1], [2]]), ("tpr", ["a", "b"]), ("n_missing", [1, 2])])
def test_a_column_that_can_not_be_grouped_by_is_refused_by_name(name, values):
    df = frame((RIGHT, "Accepted"), (RIGHT, "WrongAnswer")).assign(**{name: values})
    with pytest.raises(InputError, match=name):
        nbrun.rates(df, by=name)


def test_a_column_of_ones_own_may_have_any_name():
    df = frame((RIGHT, "Accepted"), (RIGHT, "WrongAnswer"))
    df[5] = ["x", "y"]
    assert nbrun.rates(df, by=[5])["tpr"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("call", [nbrun.rates, nbrun.unexpected])
def test_a_positive_group_that_is_no_name_is_refused(call):
    with pytest.raises(InputError, match="positive=5"):
        call(frame((RIGHT, "Accepted")), positive=5)
