"""What a frame is good for afterwards: Parquet, Arrow, chunks, `redo`; and the line that is shown meanwhile."""

import io
import json
import sys
import warnings

import pandas as pd
import pyarrow as pa
import pytest

import nbrun
from nbrun import plots
from nbrun.errors import InputError
from nbrun.frames import align, confusion, mcnemar
from nbrun.tools.check import check
from tests.frames.judged_runs import OLD, PROBLEMS, answer, judged, run

plt = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib")
plt.switch_backend("Agg")


@pytest.mark.parametrize(
    "made",
    [
        lambda r: nbrun.load_results(r), lambda r: nbrun.load_results(r, entries=True),
        lambda r: nbrun.load_results(r, tests=True, columns=["sample_id", "test", "stdout", "time_s"]),
        lambda r: nbrun.load_results(r, stale=True), lambda r: nbrun.load_samples(r), lambda r: nbrun.rates(r),
        lambda r: nbrun.rates(r, by=["language", "group"]), lambda r: nbrun.rates(r, by=None),
        lambda r: nbrun.compare({"a": r, "b": nbrun.load_results(r)}),
        lambda r: align({"a": r, "b": nbrun.load_results(r)}), lambda r: mcnemar({"a": r, "b": nbrun.load_results(r)}),
        lambda r: confusion({"a": r, "b": nbrun.load_results(r)}),
        lambda r: next(nbrun.iter_results(r, chunksize=4)),
    ],
    ids=range(13),
)  # fmt: skip
def test_every_frame_goes_to_parquet_and_back(judged_run, tmp_path, made):
    df = made(judged_run)
    df.to_parquet(tmp_path / "x.parquet")
    back = pd.read_parquet(tmp_path / "x.parquet")
    assert list(back.columns) == list(df.columns)
    for column in df.columns:
        if column == "entry":
            assert [json.loads(text) for text in back.entry] == list(df.entry)
        else:
            assert back[column].astype(object).fillna("-").tolist() == df[column].astype(object).fillna("-").tolist()


def again(df, **options):
    """The frame as it comes back from a CSV file."""
    return pd.read_csv(io.StringIO(df.to_csv(index=False)), **options)


WAYS = {
    "CSV": again,
    "CSV as text": lambda df: again(df, dtype=str),
    "CSV with nullable types": lambda df: again(df, dtype_backend="numpy_nullable"),
    "CSV with Arrow's types": lambda df: again(df, dtype_backend="pyarrow"),
    "JSON": lambda df: pd.read_json(
        io.StringIO(df.to_json(orient="records", date_unit="us", double_precision=15)), orient="records"
    ),
    "Parquet": lambda df: pd.read_parquet(io.BytesIO(df.to_parquet())),
    "Arrow": lambda df: pa.Table.from_pandas(df).to_pandas(types_mapper=pd.ArrowDtype),
    "objects": lambda df: df.astype(object),
    "numbers": lambda df: df.assign(accepted=df.accepted.astype("Float64")),
    "another order": lambda df: df.iloc[::-1].set_index("key", drop=False),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_frame_that_comes_back_says_the_same(judged_run, way):
    df = nbrun.load_results(judged_run)
    # JSON changes the last bit of some measured times, which a text that is half-way between two roundings would show
    df["duration_s"] = [n / 1024 for n in range(len(df))]
    back = WAYS[way](df)
    for by in ("sample_id", ["group", "language"], None):
        a, b = (nbrun.rates(x, by=by).astype(object).fillna("-") for x in (df, back))
        assert a.to_dict("records") == b.to_dict("records")
    assert sorted(nbrun.unexpected(back).key) == sorted(nbrun.unexpected(df).key)
    same = nbrun.compare({"a": df, "b": back})
    assert same.sample_id.tolist() == ["p1", "p2"]
    assert same.n_flipped.tolist() == [0, 0]
    assert same.n_compared.tolist() == nbrun.compare({"a": df, "b": df}).n_compared.tolist()
    table = confusion({"a": back, "b": judged_run})
    assert table.to_numpy().sum() == table.to_numpy().trace() == len(df)
    assert nbrun.show(back.iloc[0], results=judged_run).source
    for draw in (plots.verdicts, plots.progress, plots.throughput, plots.times, plots.endpoints):
        a, b = (draw(x) for x in (df, back))
        assert a.get_title() == b.get_title()
        assert [line.get_xydata().tolist() for line in a.lines] == [line.get_xydata().tolist() for line in b.lines]
        assert [t.get_text() for t in a.texts] == [t.get_text() for t in b.texts]
    plt.close("all")


def test_an_arrow_table(judged_run):
    table = nbrun.load_arrow(judged_run)
    df = nbrun.load_results(judged_run)
    assert isinstance(table, pa.Table)
    assert table.column_names == list(df.columns)
    assert table["verdict"].to_pylist() == df.verdict.astype(object).where(df.verdict.notna(), None).tolist()
    assert str(table.schema.field("index").type) == "int64"
    assert table.num_rows == nbrun.load_arrow(judged_run, where={"status": ["done", "error"]}).num_rows == 11


def test_arrow_types_don_t_depend_on_what_is_there(judged_run, old):
    schemas = {nbrun.load_arrow(path).schema for path in (judged_run, old("old_complete"), old("progress_killed_a"))}
    assert len(schemas) == 1
    (schema,) = schemas
    assert str(schema.field("error").type) == "string"
    assert str(schema.field("run_id").type) == "dictionary<values=string, indices=int32, ordered=0>"


@pytest.mark.parametrize("chunksize", [1, 4, 100])
def test_chunks_are_the_whole(judged_run, old, chunksize):
    paths = [judged_run, old("progress_complete")]
    whole = nbrun.load_results(paths)
    chunks = list(nbrun.iter_results(paths, chunksize=chunksize))
    assert all(0 < len(c) <= chunksize for c in chunks)
    joined = pd.concat([c.astype({"sample_id": object, "verdict": object}) for c in chunks], ignore_index=True)
    assert joined.sample_id.tolist() == whole.sample_id.tolist()
    assert joined.key.tolist() == whole.key.tolist()
    assert nbrun.show(chunks[0].iloc[0]).status == "done"
    with pytest.raises(InputError, match="at least 1"):
        next(nbrun.iter_results(paths, chunksize=0))


def test_texts_that_repeat_are_categorical(tmp_path):
    samples = [{"id": "p", "prompts": list(range(20))}]
    run(samples, tmp_path / "r", lambda t: {"label": "ab"[t.item % 2], "text": f"t{t.item}"}, groups=["prompt"])
    df = nbrun.load_results(tmp_path / "r")
    assert str(df.label.dtype) == "category"
    assert str(df.text.dtype) == "object"
    assert df.label.tolist() == ["a", "b"] * 10


# ---- redo


def counting(ran):
    def fn(task):
        ran.append((task.sample_id, task.group, task.index))
        return answer(task)

    fn.settings = {"name": "counting"}
    return fn


@pytest.mark.parametrize(
    "way",
    [
        lambda df, tmp: df,
        lambda df, tmp: df.merge(pd.DataFrame({"sample_id": ["p1", "p2"], "mine": [1, 2]})),
        lambda df, tmp: df.astype(object),
        lambda df, tmp: df[["sample_id", "group", "key", "occurrence"]].sample(frac=1, random_state=1),
        lambda df, tmp: [df.to_parquet(tmp / "x.parquet"), pd.read_parquet(tmp / "x.parquet")][1],
        lambda df, tmp: [df.to_csv(tmp / "x.csv"), pd.read_csv(tmp / "x.csv")][1],
        lambda df, tmp: pd.concat([df, df]),
        lambda df, tmp: df.set_index("index", append=True),
    ],
    ids=["filtered", "merged", "objects", "four columns", "parquet", "csv", "twice", "indexed"],
)
def test_redo_from_any_frame_runs_just_its_rows(tmp_path, way):
    run(PROBLEMS, tmp_path / "r", counting([]))
    df = nbrun.load_results(tmp_path / "r")
    chosen = df[df.verdict.isin(["TimeLimitExceeded", "WrongAnswer"])]
    ran = []
    run(PROBLEMS, tmp_path / "r", counting(ran), redo=way(chosen, tmp_path))
    wanted = {(r.sample_id, r.group, r["index"]) for _, r in chosen.iterrows()}
    assert sorted(ran) == sorted([*wanted, ("p2", "incorrect_solution", 1)])  # the error entry runs by itself
    again = nbrun.load_results(tmp_path / "r")
    assert len(again) == len(df)
    renewed = again.run_id.astype(str) != df.run_id.astype(str)
    assert int(renewed.sum()) == len(ran)


def test_an_old_result_counts_until_the_new_one_is_saved(tmp_path):
    run(PROBLEMS, tmp_path / "r")
    df = nbrun.load_results(tmp_path / "r")

    def fails(task):
        raise ValueError("the new judge is broken")

    run(PROBLEMS, tmp_path / "r", fails, redo=df[df.verdict == "WrongAnswer"], if_exists="resume")
    after = nbrun.load_results(tmp_path / "r")
    assert len(after) == len(df)
    samples = nbrun.load_samples(tmp_path / "r")
    assert int(samples.total_solutions.sum()) == 5


def test_redo_of_an_old_directory(old):
    """Its rows have no index, but they are known by language and source."""
    path = old("progress_killed_resumed")
    dataset = json.loads((OLD / "progress_killed_resumed.dataset.json").read_text())
    df = nbrun.load_results(path)
    chosen = df[df.verdict == "TimeLimitExceeded"]
    assert chosen["index"].isna().all()
    ran = []

    def fn(task):
        ran.append((task.sample_id, task.item["solution"]))
        return judged("Accepted")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(dataset, path, fn, redo=chosen)
    assert len([r for r in ran if "slow" in r[1]]) >= len(chosen)
    after = nbrun.load_results(path)
    assert not (after.verdict == "TimeLimitExceeded").any()
    assert after["index"].notna().all()


def test_redo_refuses_what_it_cannot_read(tmp_path):
    run(PROBLEMS, tmp_path / "r")
    df = nbrun.load_results(tmp_path / "r")
    with pytest.raises(TypeError, match="lacks the columns key, occurrence"):
        run(PROBLEMS, tmp_path / "r", redo=df.drop(columns=["key", "occurrence"]))
    with pytest.raises(InputError, match="is no key"):
        run(PROBLEMS, tmp_path / "r", redo=df.assign(key="17"))
    assert check(tmp_path / "r").is_ok


# ---- bad input, and waiting


def test_an_empty_folder_is_reported(tmp_path):
    with pytest.warns(UserWarning, match="holds no results"):
        df = nbrun.load_results(tmp_path)
    assert df.attrs["problems"] == 0
    (tmp_path / "r").mkdir()
    run([], tmp_path / "r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(nbrun.load_results(tmp_path / "r")) == 0, "a run has been there"


def test_one_warning_for_all_problems(judged_run, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.json").write_text("[]")
        (tmp_path / name / "cut.json").write_text('{"id": "x", "solution_result": [')
    with pytest.warns(UserWarning, match="could not be read") as caught:
        df = nbrun.load_results([judged_run, tmp_path / "a", tmp_path / "b"])
    assert len(caught) == 1
    assert "and 3 more" in str(caught[0].message)
    assert df.attrs["problems"] == 4
    with pytest.warns(UserWarning, match="could not be read") as caught:
        nbrun.rates([judged_run, tmp_path / "a", tmp_path / "b"])
    assert len(caught) == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_is_shown_while_reading_takes_long(old, monkeypatch, tuning):
    path = old("progress_complete")
    tuning(progress_line_after_s=-1.0)
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        nbrun.load_results(path)
        assert ("nbrun reads results" in stream.getvalue()) is (shown or "ipykernel" in sys.modules)
        if shown:
            assert stream.getvalue().endswith("\r"), "the line is wiped"
