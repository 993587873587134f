"""What comes back: every key of a result, integers of any size, ids as they were given, items, settings."""

import json
import math
import re
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError
from nbrun.frames.load import write_frame
from nbrun.frames.rows import column_of
from nbrun.results.values import load
from nbrun.texts import digits_of
from tests.frames.judged_runs import PROBLEMS, run


@pytest.fixture(autouse=True)
def eager(tuning):
    """Small directories are cached too, also when they have only just been written."""
    tuning(cache_from_bytes=0, fine_clock_ns=-(10**18))


def results_of(tmp_path, *results, **options):
    """A run whose tasks return these."""
    samples = [{"id": "s", "its": list(range(len(results)))}]
    run(samples, tmp_path / "r", lambda task: results[task.item], groups={"it": "its"}, **options)
    return tmp_path / "r"


def each_way(path):
    """The frame as it is read, from the cache, in chunks, and with its entries."""
    yield nbrun.load_results(path)
    yield nbrun.load_results(path)
    yield pd.concat(list(nbrun.iter_results(path, chunksize=2)), ignore_index=True)
    yield nbrun.load_results(path, entries=True)


def test_nested_values_are_objects_of_their_own(tmp_path):
    path = results_of(tmp_path, {"a": [1, {"b": math.nan}], "u": {"in": 3}}, {"a": [1, 2], "u": None}, {"a": [1, 2]})
    for df in each_way(path):
        assert math.isnan(df.a[0][1]["b"])
        assert df.a[1] == df.a[2] == [1, 2]
        assert df.a[1] is not df.a[2]
        assert df.u[0] == {"in": 3}
        assert df.u.isna().tolist() == [False, True, True]


def test_nested_integers_of_any_size_are_exact(tmp_path, old):
    deep = [[2**70], {"a": {"b": [1, -(2**64)]}}, [[10**30], 0.5], [1e300, 2.0**70, 2**63 - 1], {"n": 2**64}]
    for df in each_way(results_of(tmp_path, *({"deep": value} for value in deep))):
        assert repr(df.deep.tolist()) == repr(deep)
    path = old("progress_complete")
    file = sorted(path.glob("*.json"))[0]
    content = json.loads(file.read_text())
    rows = [row for name, rows in content.items() if name.endswith("_result") for row in rows]
    for row, value in zip(rows, deep, strict=False):
        row["result"]["deep"] = value
    file.write_text(json.dumps(content, indent=4))
    df = nbrun.load_results(path)
    found = df[df.sample_id == content["id"]].deep.dropna()
    assert sorted(map(repr, found)) == sorted(map(repr, deep[: len(rows)]))


def test_keys_that_a_judge_would_use_otherwise(tmp_path):
    results = [
        {"tests": 12, "verdict": 17, "accepted": 0.5, "api_used": 3, "error": "mine", "index": "i"},
        {"tests": ["a"], "verdict": "x" * 100, "accepted": "yes", "api_used": [1], "result_index": 4},
        {"tests": [{"name": "a"}], "verdict": {"v": 1}, "accepted": None, "error": {"e": 1}},
    ]
    path = results_of(tmp_path, *results)
    for df in each_way(path):
        assert df.tests.tolist() == [12, ["a"], [{"name": "a"}]]
        assert df.result_verdict.tolist() == [17, "x" * 100, {"v": 1}]
        assert df.result_accepted.tolist() == [0.5, "yes", None]
        assert df.result_api_used.tolist() == [3, [1], None]
        assert df.result_error.tolist() == ["mine", None, {"e": 1}]
        assert df.result_index.tolist() == ["i", None, None]
        assert df.result_result_index.tolist()[1] == 4
        assert (df.status == "done").all()
        assert df.verdict.isna().all()
        assert df.accepted.isna().all()
        assert df.n_tests.isna().all()
        assert df.error.isna().all()


@pytest.mark.parametrize("result", [{"accepted": False, "error": "e"}, {"accepted": False, "tests": 3}])
def test_a_rejection_of_ones_own_is_no_judge_error(tmp_path, result):
    samples = [{"id": "s", "solutions": [1], "incorrect_solutions": [2]}]
    run(samples, tmp_path / "r", lambda task: result)
    df = nbrun.load_results(tmp_path / "r")
    assert df.verdict.isna().all()
    assert df.accepted.tolist() == [False, False]
    assert df.as_expected.tolist() == [False, True]
    assert nbrun.rates(tmp_path / "r")[["tpr", "tnr", "n_judge_errors"]].values.tolist() == [[0.0, 1.0, 0]]
    assert nbrun.unexpected(tmp_path / "r").group.tolist() == ["solution"]


def test_columns_never_collide():
    names = [
        "x",
        "index",
        "result_index",
        "result_result_index",
        "result_x",
        "result_",
        "verdict",
        "result_verdict",
        "",
    ]
    assert len({column_of(n) for n in names}) == len(names)


BIG = [10**5000, 2**63, 2**64 + 1, -(2**64) - 1, 10**309, 7, -(10**4000)]


def test_integers_of_any_size_everywhere(tmp_path):
    path = results_of(
        tmp_path, *({"v": n, "deep": {"n": [n]}, "either": n if i % 2 else 0.5} for i, n in enumerate(BIG))
    )
    for df in each_way(path):
        assert df.v.tolist() == BIG
        assert [d["n"][0] for d in df.deep] == BIG
        assert df.either.tolist() == [n if i % 2 else 0.5 for i, n in enumerate(BIG)]
    assert nbrun.status(path).done == len(BIG)
    for i, n in enumerate(BIG):
        assert digits_of(n)[:400] in str(nbrun.show(path, "s", "it", i))
    (file,) = path.glob("*.json")
    file.write_bytes(file.read_bytes().replace(b",\n", b", \n"))  # as another tool might
    assert nbrun.load_results(path).v.tolist() == BIG


@pytest.mark.parametrize("key", ["duration_s", "started_at"])
def test_a_time_that_no_float_holds_costs_its_entry_alone(tmp_path, key):
    """Another program has written it. The other entries keep their values, each in its own row."""
    nbrun.start([{"id": "a", "items": [0, 1, 2]}], lambda t: {"v": t.item}, tmp_path, groups=["item"], view=None).wait()
    [file] = tmp_path.glob("*.json")
    before = file.read_text()
    [line] = [line for line in before.split("\n") if '"index":1,' in line]
    changed = re.sub(rf'"{key}":[^,]*', f'"{key}":{"9" * 400}', line)
    assert changed != line
    file.write_text(before.replace(line, changed))
    with pytest.warns(UserWarning, match="1 damaged"):
        frame = nbrun.load_results(tmp_path)
    assert list(zip(frame["index"], frame["v"], strict=True)) == [(0, 0), (2, 2)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", ["1e30", "1" + "0" * 30, "-1e300"])
def test_a_moment_beyond_all_calendars_is_no_time(tmp_path, number):
    nbrun.start([{"id": "a", "items": [0, 1]}], lambda t: {"v": t.item}, tmp_path, groups=["item"], view=None).wait()
    [file] = tmp_path.glob("*.json")
    before = file.read_text()
    [line] = [line for line in before.split("\n") if '"index":1,' in line]
    file.write_text(before.replace(line, re.sub(r'"started_at":[^,]*', f'"started_at":{number}', line)))
    frame = nbrun.load_results(tmp_path)
    assert frame["v"].tolist() == [0, 1]
    assert frame["started_at"].isna().tolist() == [False, True]


def test_a_test_may_take_any_time(tmp_path):
    """The result is kept as it is; its longest time is unknown where no float holds it."""

    def fn(task):
        test = {"passed": True, "exec_info": {"run_result": {"execution_time": task.item}}}
        return {"accepted": True, "tests": [test]}

    samples = [{"id": "a", "items": [1, 10**400, 0.5]}]
    nbrun.start(samples, fn, tmp_path, groups=["item"], view=None).wait()
    frame = nbrun.load_results(tmp_path, entries=True)
    assert frame["max_time_s"].isna().tolist() == [False, True, False]
    assert frame["max_time_s"].dropna().tolist() == [1.0, 0.5]
    assert frame["n_passed"].tolist() == [1, 1, 1]
    taken = frame["entry"][1]["result"]["tests"][0]["exec_info"]["run_result"]["execution_time"]
    assert taken == 10**400


def test_integers_of_any_size_in_files_of_the_older_program(tmp_path):
    rows = [{"language": "PYTHON3", "solution": str(n), "result": {"v": n, "deep": [n]}} for n in BIG[1:5]]
    (tmp_path / "s.json").write_text(json.dumps({"id": "s", "solution_result": rows}, indent=4))
    for df in each_way(tmp_path):
        assert df.v.tolist() == BIG[1:5]
        assert df.deep.tolist() == [[n] for n in BIG[1:5]]


def test_large_floats_stay_floats(tmp_path):
    values = [1e300, -1e19, 1e-300, math.inf]
    for df in each_way(results_of(tmp_path, *({"v": v, "deep": [v]} for v in values))):
        assert df.v.tolist() == values
        assert str(df.v.dtype) == "Float64"
        assert df.deep.tolist() == [[v] for v in values]


def test_64_bits_are_not_rounded_where_floats_join(tmp_path):
    for name, value in (("a", 2**60 + 1), ("b", 0.5)):  # each in a file, and a part of the cache, of its own
        run([{"id": name, "its": [1]}], tmp_path / "r", lambda task, value=value: {"v": value}, groups={"it": "its"})
        nbrun.load_results(tmp_path / "r")
    assert nbrun.load_results(tmp_path / "r").v.tolist() == [2**60 + 1, 0.5]


def test_arrow_takes_what_it_has_no_type_for_as_text(tmp_path):
    pytest.importorskip("pyarrow")
    path = results_of(tmp_path, {"v": 10**30, "m": 1, "l": [1]}, {"v": 1, "m": "a", "l": [2, 3]})
    table = nbrun.load_arrow(path)
    assert table["v"].to_pylist() == [str(10**30), "1"]
    assert table["m"].to_pylist() == ["1", '"a"']
    assert table["l"].to_pylist() == [[1], [2, 3]]


# ---- ids


@pytest.mark.parametrize("ids", [[10, 2, 1], [np.int64(3), 7, -1], [2**62, 0, 5]])
def test_integer_ids_come_back_as_integers(tmp_path, ids):
    run([{"id": i, "solutions": [1]} for i in ids], tmp_path / "r", lambda task: {"accepted": True})
    for df in each_way(tmp_path / "r"):
        assert str(df.sample_id.dtype) == "Int64"
        assert df.sample_id.tolist() == sorted(map(int, ids))
    assert nbrun.load_samples(tmp_path / "r").sample_id.tolist() == sorted(map(int, ids))
    assert nbrun.rates(tmp_path / "r").sample_id.tolist() == sorted(map(int, ids))
    df = nbrun.load_results(tmp_path / "r")
    assert nbrun.rates(df, average="macro").sample_id.tolist() == sorted(map(int, ids))
    assert str(min(map(int, ids))) in str(nbrun.show(df.iloc[0]))
    assert len(nbrun.compare({"a": tmp_path / "r", "b": df})) == 3
    calls = []
    run(
        [{"id": i, "solutions": [1]} for i in ids], tmp_path / "r", lambda t: calls.append(1) or {"accepted": True},
        redo=df[df.sample_id == int(ids[0])],
    )  # fmt: skip
    assert len(calls) == 1


def test_text_that_looks_like_integers_stays_text(tmp_path):
    run([{"id": i, "solutions": [1]} for i in ("1", "2")], tmp_path / "r", lambda task: {})
    assert nbrun.load_results(tmp_path / "r").sample_id.tolist() == ["1", "2"]
    run([{"id": i, "solutions": [1]} for i in (1, "2")], tmp_path / "mixed", lambda task: {})
    assert nbrun.load_results(tmp_path / "mixed").sample_id.tolist() == ["1", "2"]
    run(({"id": i, "solutions": [1]} for i in (1, 3, "2")), tmp_path / "stream", lambda task: {})
    assert nbrun.load_results(tmp_path / "stream").sample_id.tolist() == ["1", "2", "3"]
    run(({"id": i, "solutions": [1]} for i in (1, 3)), tmp_path / "whole", lambda task: {})
    both = nbrun.load_results([tmp_path / "whole", tmp_path / "r"])
    assert both.sample_id.tolist() == ["1", "3", "1", "2"]
    assert nbrun.load_results(tmp_path / "whole").sample_id.tolist() == [1, 3]
    both = nbrun.load_results([tmp_path / "whole", tmp_path / "r"], entries=True)
    assert both.sample_id.tolist() == ["1", "3", "1", "2"]
    assert len(nbrun.compare({"a": tmp_path / "whole", "b": tmp_path / "r"})) == 3


def test_without_its_run_records_ids_are_text(tmp_path):
    run([{"id": i, "solutions": [1]} for i in (1, 2)], tmp_path / "r", lambda task: {})
    (tmp_path / "r" / ".nbrun" / "runs.log").unlink()
    assert nbrun.load_results(tmp_path / "r").sample_id.tolist() == ["1", "2"]


def test_a_frame_joins_back_by_its_index(tmp_path):
    df = pd.DataFrame({"prompt": list("abc")}, index=[10, 2, 1])
    run(df, tmp_path / "r", lambda task: {"up": task.item["prompt"].upper()})
    joined = df.join(nbrun.load_results(tmp_path / "r").set_index("sample_id")["up"])
    assert joined.up.tolist() == ["A", "B", "C"]
    assert joined.index.tolist() == [10, 2, 1]


# ---- items and settings


def test_items_become_columns(tmp_path):
    items = [{"q": 1, "deep": [1]}, {"q": 2.5, "item": "x"}, "plain", 7]
    run([{"id": "s", "its": items}], tmp_path / "r", lambda t: {"item_q": "mine", "item": 0}, groups={"it": "its"})
    df = nbrun.load_results(tmp_path / "r", items=True)
    assert df.item_q.tolist()[:2] == [1, 2.5]
    assert df.item_q.isna().tolist() == [False, False, True, True]
    assert df.item_deep.tolist()[0] == [1]
    assert df.item_item.tolist()[1] == "x"
    assert df.item.tolist() == [None, None, "plain", 7]
    assert df.result_item_q.tolist() == ["mine"] * 4
    assert df.result_item.tolist() == [0] * 4
    assert nbrun.load_results(tmp_path / "r").item.tolist() == [0] * 4
    (chunk,) = nbrun.iter_results(tmp_path / "r", items=True, columns=["item", "index"])
    assert list(chunk.columns) == ["item", "index"]


def test_items_of_solutions_and_of_old_files(tmp_path, judged_run, old):
    df = nbrun.load_results(judged_run, items=True)
    assert df.item_solution.tolist() == [
        i["solution"] for p in PROBLEMS for g in ("solutions", "incorrect_solutions") for i in p[g]
    ]
    assert nbrun.load_results(old("progress_complete"), items=True).item_solution.notna().all()


def test_settings_become_columns(tmp_path):
    samples = [{"id": "s", "its": [1, 2]}]
    for n, settings in ((1, {"model": "small", "t": 0.5, "stop": ["a"]}), (2, {"model": "large", "t": 1})):
        part = [{"id": "s", "its": samples[0]["its"][:n]}]
        run(part, tmp_path / "r", lambda task: {"n": task.item}, groups={"it": "its"}, settings=settings)
    for df in each_way(tmp_path / "r"):
        assert df.setting_model.tolist() == ["small", "large"]
        assert df.setting_t.tolist() == [0.5, 1.0]
        assert df.setting_stop.tolist() == [["a"], None]
    assert nbrun.load_results(tmp_path / "r", where={"setting_model": "large"}).n.tolist() == [2]


def test_auto_hides_what_holds_nothing(tmp_path, judged_run):
    path = results_of(tmp_path, {"n": 1})
    df = nbrun.load_results(path, columns="auto")
    assert not {"verdict", "accepted", "as_expected", "language", "n_tests", "n_passed", "max_time_s", "error"} & {*df}
    assert {"sample_id", "n", "status"} <= {*df}
    assert {"verdict", "accepted", "as_expected", "error"} <= {*nbrun.load_results(judged_run, columns="auto")}
    with pytest.raises(InputError, match="auto"):
        nbrun.load_results(path, columns="n")


@pytest.mark.parametrize(
    ("options", "results", "wanted"),
    [
        (
            {"items": True},
            {"item_q": "a", "result_item_q": "b", "item": 3},
            {"item_q": 1, "result_item_q": "a", "result_result_item_q": "b", "item": 3},
        ),
        (
            {"settings": {"k": 5}},
            {"setting_k": "a", "result_setting_k": "b"},
            {"setting_k": 5, "result_setting_k": "a", "result_result_setting_k": "b"},
        ),
        (
            {"tests": True},
            {"passed": 5, "result_passed": 6, "time_s": "a"},
            {"passed": True, "result_passed": 5, "result_result_passed": 6, "result_time_s": "a", "time_s": 0.5},
        ),
        (
            {"tests": True, "columns": ["stdin", "result_stdin"]},
            {"stdin": "mine"},
            {"stdin": "in", "result_stdin": "mine"},
        ),
        (
            {"stale": True, "entries": True},
            {"stale": 5, "entry": 6, "result_stale": 7},
            {"stale": False, "result_stale": 5, "result_entry": 6, "result_result_stale": 7},
        ),
    ],
)
def test_added_columns_hide_no_key_of_a_result(tmp_path, options, results, wanted):
    test = {
        "passed": True,
        "exec_info": {"run_result": {"execution_time": 0.5}},
        "test_info": {"input": {"stdin": "in"}},
    }
    judged = {"accepted": True, "tests": [test]} if "tests" in options else {}
    run(
        [{"id": "s", "its": [{"q": 1}]}],
        tmp_path,
        lambda task: judged | results,
        groups={"it": "its"},
        settings=options.pop("settings", None),
    )
    for df in (nbrun.load_results(tmp_path, **options), *nbrun.iter_results(tmp_path, **options)):
        assert df.columns.is_unique
        assert {name: df[name][0] for name in wanted} == wanted


# ---- judging


def test_as_expected(judged_run):
    df = nbrun.load_results(judged_run)
    for r in df.to_dict("records"):
        if pd.isna(r["accepted"]):
            assert pd.isna(r["as_expected"])
        else:
            assert r["as_expected"] == (r["accepted"] == (r["group"] == "solution"))
    surprising = nbrun.unexpected(judged_run)
    assert surprising.equals(df[(~df.as_expected).fillna(False)])
    assert len(surprising)
    assert nbrun.unexpected(df).equals(surprising)
    with pytest.raises(TypeError, match="verdict"):
        nbrun.unexpected(df[["group", "status"]])


def test_rates_without_a_judged_result_are_an_error(tmp_path):
    path = results_of(tmp_path, {"score": 1}, {"score": 2})
    with pytest.raises(InputError, match=r"none of 2 results .*accepted"):
        nbrun.rates(path)
    with pytest.raises(InputError, match="judged"):
        nbrun.rates(nbrun.load_results(path), by=None)


def test_what_went_wrong_is_no_lack_of_judging(tmp_path, judged_run):
    def fn(task):
        raise ValueError("no")

    run([{"id": "s", "solutions": [1]}], tmp_path / "r", fn)
    assert nbrun.rates(tmp_path / "r").n_errors.tolist() == [1]
    assert len(nbrun.rates(judged_run)) == len(PROBLEMS)


def test_damage_in_the_middle_costs_only_itself_with_items_and_entries(tmp_path):
    run([{"id": "s", "its": list(range(6))}], tmp_path / "r", lambda t: {"n": t.item}, groups={"it": "its"})
    (file,) = (tmp_path / "r").glob("*.json")
    file.write_bytes(file.read_bytes().replace(b'"n":3}', b'"n":3)'))
    shutil.rmtree(tmp_path / "r" / ".nbrun" / "cache", ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        df = nbrun.load_results(tmp_path / "r", items=True, entries=True)
    assert df.n.tolist() == df.item.tolist() == [e["result"]["n"] for e in df.entry] == [0, 1, 2, 4, 5]


def test_functions_of_entries_give_their_own_values(tmp_path):
    """What a function makes of entries are no entries."""
    df = nbrun.load_results(results_of(tmp_path, {"n": 1}, {"n": 1}, {"n": 3}), entries=True)
    assert df.entry.apply(lambda e: e["status"]).tolist() == ["done"] * 3
    assert df.entry.map(lambda e: e["result"]["n"]).tolist() == [1, 1, 3]
    assert df.entry.map(lambda e: e["result"]).tolist() == [{"n": 1}, {"n": 1}, {"n": 3}]
    assert df.entry.map(lambda e: {e["status"]}).tolist() == [{"done"}] * 3
    twice = pd.concat([df, df])
    assert len(twice.entry.unique()) == twice.entry.nunique() == 3
    assert sorted(twice.entry.value_counts()) == [2, 2, 2]
    assert df.describe(include="all").entry["unique"] == 3
    assert df.entry.where([True, False, True]).isna().tolist() == [False, True, False]


# ---- onward


def test_exports_are_exact(tmp_path):
    pytest.importorskip("pyarrow")
    results = [
        {"v": 10**5000, "m": 1, "deep": [1, {"a": 10**30}], "x": 0.1 + 0.2},
        {"v": 2**70, "m": "x", "deep": [], "x": math.nan},
        {"v": 1, "m": True, "deep": {"q": None}, "x": -math.inf},
    ]
    path = results_of(tmp_path, *results)
    df = nbrun.load_results(path)
    repr(df)
    df.to_html()
    assert df.v.tolist() == [10**5000, 2**70, 1]
    for suffix in (".csv", ".json", ".jsonl", ".parquet"):
        write_frame(df, tmp_path / f"o{suffix}", suffix)
    rows = [load(line) for line in (tmp_path / "o.jsonl").read_bytes().splitlines()]
    assert rows == load((tmp_path / "o.json").read_bytes())
    assert [r["v"] for r in rows] == [10**5000, 2**70, 1]
    assert [r["m"] for r in rows] == [1, "x", True]
    assert [r["deep"] for r in rows] == [r["deep"] for r in results]
    assert [r["x"] for r in rows] == [0.1 + 0.2, None, "-inf"]
    assert rows[0]["started_at"].startswith("20")
    table = pd.read_csv(tmp_path / "o.csv", dtype=str)
    assert table.v.tolist() == [digits_of(10**5000), str(2**70), "1"]
    assert [json.loads(x) for x in table.deep] == [r["deep"] for r in results]
    assert pd.read_parquet(tmp_path / "o.parquet").v.tolist() == table.v.tolist()


def test_arrow_has_integer_ids(tmp_path):
    pa = pytest.importorskip("pyarrow")
    run([{"id": 3, "solutions": [1]}], tmp_path / "r", lambda task: {})
    assert nbrun.load_arrow(tmp_path / "r")["sample_id"].to_pylist() == [3]
    assert pa.types.is_integer(nbrun.load_arrow(tmp_path / "r").schema.field("sample_id").type)


BAD = "cut \ud83d"


def test_lone_surrogates_break_no_view(tmp_path):
    def fn(task):
        i = task.item["i"]
        if i == 0:
            raise ValueError(BAD)
        if i == 1 and task.attempt == 1:
            return nbrun.Retry(BAD, hint={BAD: BAD}, result={BAD: [BAD]})
        if i == 2:
            return {"verdict": BAD, "api_used": BAD, "accepted": True, "deep": {BAD: BAD}}
        return {BAD: BAD, "hint": task.hint}

    samples = [{"id": "id " + BAD, "it" + BAD: [{"i": i, BAD: BAD} for i in range(4)], BAD: 1}]
    options = {"groups": {"it" + BAD: "it" + BAD}, "settings": {BAD: BAD}, "retry": None, "view": None}
    r = nbrun.start(samples, fn, tmp_path, **options)
    progress = r.wait(60)
    assert (progress.state, progress.done, progress.errors) == ("done", 3, 1)
    shown = [repr(r), repr(progress), progress.message, *r._repr_mimebundle_().values()]
    for df in (*each_way(tmp_path), nbrun.load_results(tmp_path, items=True), nbrun.load_samples(tmp_path)):
        shown += [df.to_csv(), df.to_html(), repr(df)]
        assert df.sample_id.iloc[0] == "id cut \ufffd"
    df = nbrun.load_results(tmp_path)
    assert df.error.tolist()[0] == "ValueError: cut \ufffd"
    assert df.hint.tolist()[1] == {"cut \ufffd": "cut \ufffd"}
    assert df.verdict.tolist()[2] == df.api_used.tolist()[2] == df["cut \ufffd"].tolist()[3] == "cut \ufffd"
    assert df["setting_cut \ufffd"].tolist() == ["cut \ufffd"] * 4
    assert all(e["lossy"] for e in nbrun.load_results(tmp_path, entries=True).entry)
    for i in range(4):
        one = nbrun.show(df.iloc[i])
        shown += [str(one), one._repr_html_()]
    shown += [str(nbrun.status(tmp_path)), str(nbrun.check(tmp_path))]
    for text in shown:
        text.encode()
    calls = []
    again = nbrun.start(samples, lambda task: calls.append(1) or {}, tmp_path, **options).wait(60)
    assert (again.done, len(calls)) == (4, 1)


def test_lone_surrogates_in_what_halts_a_run(tmp_path):
    def samples():
        yield {"id": "a"}
        raise ValueError(BAD)

    r = nbrun.start(samples(), lambda task: 1, tmp_path, view=None)
    with pytest.raises(nbrun.errors.RunHaltedError) as error:
        r.wait(60)
    for text in (str(error.value), repr(r), r.progress.message, *r._repr_mimebundle_().values()):
        text.encode()
