"""Samples and groups as people write them, and the errors for what can't be meant."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError, NbrunError, SampleError

PROMPTS = [{"id": "a", "prompts": ["x", "y"]}, {"id": "b", "prompts": ["z"]}]


def run(samples: Any, path: Path, fn: Any = lambda task: {"item": task.item}, **more: Any) -> nbrun.Progress:
    return nbrun.start(samples, fn, path, view=None, **more).wait(60)


@pytest.mark.parametrize("groups", [["prompt"], ["prompts"], ("prompts",), {"prompt": "prompts"}, {"q": "prompts"}])
@pytest.mark.parametrize("make", [list, iter, pd.DataFrame], ids=["list", "stream", "frame"])
def test_a_group_may_be_named_by_its_key(groups: Any, make: Any, tmp_path: Path) -> None:
    assert run(make(PROMPTS), tmp_path, groups=groups).done == 3
    wanted = "q" if groups == {"q": "prompts"} else "prompt"
    assert set(nbrun.load_results(tmp_path)["group"]) == {wanted}


def test_both_spellings_are_one_group_on_disk(tmp_path: Path) -> None:
    run(PROMPTS, tmp_path, groups=["prompt"])
    assert run(PROMPTS, tmp_path, groups=["prompts"]).resumed == 3


@pytest.mark.parametrize(
    ("make", "groups"),
    [
        *[(make, groups) for make in (list, iter) for groups in (["promt"], ["Prompts"], {"prompt": "inputs"})],
        (list, ["prompt", "answer"]),  # a stream may still hold it
    ],
)
def test_a_group_that_no_sample_has_is_an_error_that_suggests(groups: Any, make: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'prompts'"):
        run(make(PROMPTS), tmp_path / "r", groups=groups)
    assert not (tmp_path / "r").exists()


def test_a_stream_may_begin_with_samples_that_lack_a_group(tmp_path: Path) -> None:
    samples = [{"id": f"s{i}", "text": ""} for i in range(9)] + PROMPTS
    assert run(iter(samples), tmp_path, groups=["prompts"]).done == 3


def test_a_list_whose_first_sample_has_no_group_is_read_by_those_that_have(tmp_path: Path) -> None:
    progress = run([{"id": "none"}, {"id": "p", "solutions": ["x"]}], tmp_path)
    assert (progress.done, progress.total) == (1, 1)


def test_plain_values_are_samples_of_one_task(tmp_path: Path) -> None:
    values = ["alpha", "beta", "alpha", 3, "3", 2.5, ("a", 1), "x" * 500]
    assert run(values, tmp_path).done == 8
    df = nbrun.load_results(tmp_path)
    assert set(df["group"]) == {"item"}
    assert {"alpha", "alpha #2", "beta", "3", "2.5"} <= set(df["sample_id"])
    assert df["sample_id"].nunique() == 8


def test_plain_values_keep_their_results_in_any_order(tmp_path: Path) -> None:
    values: list[Any] = ["a", "b", "a", "a", 1, "1", (1, 2)]
    run(values, tmp_path)
    random.Random(1).shuffle(values)
    progress = run([*values, "new"], tmp_path)
    assert (progress.resumed, progress.done) == (7, 8)


def test_plain_values_may_be_a_stream_or_a_column(tmp_path: Path) -> None:
    def stream() -> Iterator[str]:
        yield from ("a", "b")

    assert run(stream(), tmp_path).done == 2
    assert run(pd.Series(["a", "b"]), tmp_path).resumed == 2


@pytest.mark.parametrize(
    ("samples", "groups"), [([None], None), ([{"no": "id"}], None), (["a"], ["prompt"]), (iter(["a"]), ["prompt"])]
)
def test_what_is_no_sample_is_an_error_before_anything_is_written(samples: Any, groups: Any, tmp_path: Path) -> None:
    with pytest.raises(SampleError):
        run(samples, tmp_path / "r", groups=groups)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("groups", ["prompts", [], [1], {"a": ""}, 5, ["prompt", "prompts"]])
def test_groups_that_can_not_be_meant(groups: Any, tmp_path: Path) -> None:
    with pytest.raises(NbrunError):
        run(PROMPTS, tmp_path / "r", groups=groups)
    assert not (tmp_path / "r").exists()


def _one_sample_again() -> Iterator[Any]:
    sample: dict[str, Any] = {}
    for i in range(60):
        sample["id"], sample["items"], sample["extra"] = f"s{i}", [{"q": i}], {"e": i}
        yield sample


def _one_list_again() -> Iterator[Any]:
    items: list[Any] = [None]
    for i in range(60):
        items[0] = {"q": i}
        yield {"id": f"s{i}", "items": items, "extra": {"e": i}}


def _one_item_again() -> Iterator[Any]:
    item, extra = {"q": 0}, {"e": 0}
    for i in range(60):
        item["q"] = extra["e"] = i
        yield {"id": f"s{i}", "items": [item], "extra": extra}


@pytest.mark.parametrize("groups", [{"g": "items"}, ["items"]], ids=["mapping", "list"])
@pytest.mark.parametrize("make", [_one_sample_again, _one_list_again, _one_item_again])
def test_a_generator_may_yield_one_object_again_with_other_content(make: Any, groups: Any, tmp_path: Path) -> None:
    def fn(task: Any) -> dict[str, Any]:
        return {"of": task.sample_id, "q": task.item["q"], "e": task.sample["extra"]["e"]}

    assert run(make(), tmp_path, fn, groups=groups).done == 60
    frame = nbrun.load_results(tmp_path, entries=True)
    assert len(frame) == 60
    for sample_id, q, e, entry in zip(frame.sample_id.astype(str), frame.q, frame.e, frame.entry, strict=True):
        assert sample_id == f"s{q}" == f"s{e}" == f"s{entry['item']['q']}"
    calls: list[Any] = []
    run(make(), tmp_path, lambda task: calls.append(task) or {}, groups=groups)
    assert not calls, "each item has its own key"


NAN = float("nan")


@pytest.mark.parametrize(
    "more",
    [
        {"key": "id"},
        {"key": 5},
        {"context": "id"},
        {"context": 5},
        {"replace": 1},
        {"replace": "yes"},
        {"replace": None},
        {"results": "a\0b"},
        {"settings": {"a": object()}},
    ],
)
def test_an_argument_that_can_not_be_meant_is_named_before_anything_is_written(
    more: dict[str, Any], tmp_path: Path
) -> None:
    arguments = {"results": tmp_path / "r", "view": None} | more
    with pytest.raises(nbrun.errors.InputError, match=next(iter(more))) as raised:
        nbrun.start([{"id": "a", "solutions": [1]}], lambda task: {}, **arguments)
    assert "give" in str(raised.value) or "settings['a']" in str(raised.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": "3"},
        {"attempts": True},
        {"attempts": None},
        {"delay_s": -1},
        {"delay_s": "1"},
        {"delay_s": NAN},
        {"delay_s": float("inf")},
        {"max_delay_s": None},
        {"jitter": 2},
        {"jitter": NAN},
        {"retries": -1},
        {"retries": 1.5},
        {"never": "ValueError"},
        {"never": (5,)},
        {"never": None},
    ],
)
def test_a_policy_that_can_not_be_meant_is_an_error(given: dict[str, Any]) -> None:
    with pytest.raises(nbrun.errors.InputError, match=next(iter(given))):
        nbrun.RetryPolicy(**given)


def test_a_policy_takes_one_exception_type_or_a_list_of_them() -> None:
    assert nbrun.RetryPolicy(never=ValueError).never == (ValueError,)  # type: ignore[arg-type]
    assert nbrun.RetryPolicy(never=[ValueError, KeyError]).never == (ValueError, KeyError)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"after_s": None}, {"after_s": "soon"}, {"hint": 5}, {"pause_all": "yes"}])
def test_a_retry_that_can_not_be_meant_is_an_error(given: dict[str, Any]) -> None:
    with pytest.raises(nbrun.errors.InputError, match=next(iter(given))):
        nbrun.Retry("later", **given)
    assert nbrun.Retry("later", after_s="3").after_s == 3, "as a header has it"  # type: ignore[arg-type]


@pytest.mark.parametrize("drain", [True, False])
def test_a_run_that_has_halted_can_be_stopped(drain: bool, tmp_path: Path) -> None:
    stream = ({"id": "a", "solutions": [n]} for n in range(2))
    run = nbrun.start(stream, lambda task: {}, tmp_path, view=None)
    with pytest.raises(nbrun.errors.RunHaltedError):
        run.wait(60)
    run.stop(drain=drain)
    run.pause()
    run.resume()
    assert run.progress.state == "halted"


class _Id(str):
    """A text of another type, as numpy has."""


@pytest.mark.parametrize("ids", [["a", "b"], [1, 2], ["a", 2], ["ä", "b"], [_Id("a"), "b"], [10**30, 7]])
def test_ids_of_a_list_are_texts_and_integers_of_any_kind(ids: list[Any], tmp_path: Path) -> None:
    samples = [{"id": i, "solutions": [1, 2][: n + 1]} for n, i in enumerate(ids)]
    run = nbrun.start(samples, lambda task: {}, tmp_path / "r", groups=["solution"], view=None)
    assert (run.progress.total, run.wait().done) == (3, 3)
    assert set(nbrun.load_results(tmp_path / "r")["sample_id"].astype(str)) == set(map(str, ids))


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        ([{"id": "a"}, {"id": "b"}, {"id": "a"}], "samples 0 and 2 have the same id 'a'"),
        ([{"id": 1}, {"id": "1"}], "samples 0 and 1 have the same id '1'"),
        ([{"id": "a"}, {"id": ""}], "sample 1 has an empty 'id'"),
        ([{"id": 1}, {"id": True}], "sample 1: its 'id' is True"),
        ([{"id": "a"}, {"name": "b"}], "sample 1 has no 'id'"),
    ],
)
def test_an_id_of_a_list_that_can_not_be_meant_is_named(samples: list[Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=re.escape(says)):
        nbrun.start(samples, lambda task: {}, tmp_path / "r", view=None)
    assert not (tmp_path / "r").exists()


def test_groups_of_any_shape_are_counted(tmp_path: Path) -> None:
    samples = [
        {"id": "a", "solutions": [1, 2], "incorrect_solutions": (3,)},
        {"id": "b", "solutions": {"language": [3, 0, 1], "solution": ["x", "y", "z"]}},
        {"id": "c", "incorrect_solutions": None},
    ]
    run = nbrun.start(samples, lambda task: {}, tmp_path / "r", view=None)
    assert (run.progress.total, run.wait().done) == (5, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("timeout_s", "max_per_s") for value in (0, -1, "x", float("nan"), 10**400, True)],
        *[("metrics", value) for value in ("score", [["score"]], [{}], [""], [5], 5)],
        *[("groups", value) for value in ("prompt", [["prompt"]], {"prompt": ["prompts"]}, [], 5)],
        *[("view", value) for value in ("panels", ["panel"], 5)],
        *[("workers", value) for value in (0, 2.5, True, "8")],
    ],
)
def test_an_argument_that_can_not_be_right_is_named_before_anything_is_written(
    name: str, value: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=name):
        nbrun.start(PROMPTS, lambda task: {}, tmp_path / "r", **({"view": None} | {name: value}))
    assert not (tmp_path / "r").exists()


class WithoutLength:
    """As tqdm around a generator: it has a length as a class, and raises when it is asked for it."""

    def __len__(self) -> int:
        raise TypeError("object of type 'generator' has no len()")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(PROMPTS)


def test_samples_that_know_no_length_are_a_stream(tmp_path: Path) -> None:
    progress = run(WithoutLength(), tmp_path, groups=["prompt"])
    assert (progress.state, progress.done) == ("done", 3)


@pytest.mark.parametrize("missing", [float("nan"), pd.NA, None])
def test_a_group_that_is_missing_in_a_row_of_a_frame_has_no_items(missing: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame([{"id": "a", "prompts": ["x", "y"]}, {"id": "b", "prompts": missing}])
    progress = run(frame, tmp_path, groups=["prompt"])
    assert (progress.state, progress.done, progress.total) == ("done", 2, 2)


def polars_frame() -> Any:
    import polars

    return polars.DataFrame(PROMPTS)


def arrow(kind: str) -> Any:
    import pyarrow as pa

    return getattr(pa, kind).from_pylist(PROMPTS)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(polars_frame, id="polars", marks=pytest.mark.needs("polars")),
        pytest.param(lambda: polars_frame().lazy(), id="polars, lazy", marks=pytest.mark.needs("polars")),
        pytest.param(lambda: arrow("Table"), id="pyarrow", marks=pytest.mark.needs("pyarrow")),
        pytest.param(lambda: arrow("RecordBatch"), id="pyarrow, a batch", marks=pytest.mark.needs("pyarrow")),
    ],
)
def test_rows_of_a_table_are_samples_whichever_library_it_is_of(make: Any, tmp_path: Path) -> None:
    progress = run(make(), tmp_path, groups=["prompt"])
    assert (progress.state, progress.done, progress.total) == ("done", 3, 3)
    assert run(PROMPTS, tmp_path, groups=["prompt"]).resumed == 3
    assert [s["id"] for i in range(2) for s in nbrun.shard(make(), i, 2)] in (["a", "b"], ["b", "a"])


QUESTIONS = {"id": ["a", "b"], "text": ["x", "y"]}


def dask_frame() -> Any:
    from dask import dataframe

    return dataframe.from_pandas(pd.DataFrame(QUESTIONS), npartitions=1)


def duckdb_relation() -> Any:
    import duckdb

    return duckdb.sql("select 'a' id, 'x' text union select 'b', 'y'")


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        pytest.param(dask_frame, "samples.compute()", id="dask", marks=pytest.mark.needs("dask", "pyarrow")),
        pytest.param(duckdb_relation, "samples.df()", id="duckdb", marks=pytest.mark.needs("duckdb")),
    ],
)
def test_a_table_whose_rows_are_not_in_memory_is_refused_with_the_call_that_reads_them(
    make: Any, advice: str, tmp_path: Path
) -> None:
    table = make()
    with pytest.raises(InputError, match=re.escape(advice)):
        run(table, tmp_path / "r")
    assert not (tmp_path / "r").exists()
    rows = eval(advice, {"samples": table})
    assert run(rows, tmp_path / "r").done == 2


@pytest.mark.needs("pyarrow")
def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    with pytest.raises(InputError, match="two columns 'x'"):
        run(pa.Table.from_arrays([pa.array(["a"])] * 3, ["id", "x", "x"]), tmp_path)
