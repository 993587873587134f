"""Items: refused before any work where their entries can't hold them, never changed by fn, matched again by key=."""

import decimal
import math

import numpy as np
import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError, SampleError, UnstorableError
from nbrun.storage.values import check_storable


class Image:
    """As in a dataset with pictures."""


def run(samples, path, fn=lambda task: {"v": 1}, **options):
    options = {"groups": {"it": "items"}, "view": None, "workers": 2, **options}
    return nbrun.start(samples, fn, path, **options).wait(30)


def pictures(n=20):
    return [{"id": "a", "items": [{"q": i, "image": Image()} for i in range(n)]}]


@pytest.mark.parametrize("options", [{}, {"key": lambda item: item["q"]}], ids=["whole", "key"])
def test_what_cannot_be_stored_is_refused_before_the_work(tmp_path, options):
    calls = []
    with pytest.raises(SampleError, match=r"item 0 of group 'it'.*image.*keep_items=False") as error:
        run(pictures(), tmp_path / "r", lambda task: calls.append(1), **options)
    assert (error.value.position, error.value.sample_id) == (0, "a")
    assert not calls
    assert not (tmp_path / "r").exists()
    assert ("key=" in str(error.value)) == (not options)


def test_a_later_sample_of_a_list_is_looked_at_too(tmp_path):
    samples = [{"id": str(i), "items": [{"q": i}]} for i in range(50)] + pictures()
    with pytest.raises(SampleError, match=r"sample 50 .'a'."):
        run(samples, tmp_path / "r", key=lambda item: item["q"])
    assert not (tmp_path / "r").exists()


def test_of_a_stream_it_stops_the_reading(tmp_path):
    calls = []
    samples = iter([{"id": "b", "items": [{"q": 1}]}, *pictures()])
    with pytest.raises(nbrun.errors.RunHaltedError, match=r"image.*keep_items=False"):
        run(samples, tmp_path / "r", lambda task: calls.append(task.item["q"]) or {"v": 1}, key=lambda item: item["q"])
    assert calls == [1]
    assert nbrun.load_results(tmp_path / "r").sample_id.tolist() == ["b"]


def test_without_items_it_runs_and_is_found_again(tmp_path):
    calls = []
    for _ in range(2):
        options = {"key": lambda item: item["q"], "keep_items": False}
        done = run(pictures(), tmp_path / "r", lambda task: calls.append(1) or {"v": task.item["q"]}, **options)
        assert (done.done, done.errors) == (20, 0)
    assert len(calls) == 20
    df = nbrun.load_results(tmp_path / "r", items=True)
    assert df.v.tolist() == list(range(20))
    assert not [c for c in df if c.startswith("item")]


@pytest.mark.parametrize(
    "item",
    [{1: "a", "1": "b"}, {"x": {(1, 2): 3}}, [lambda: 0], {"a": [{"b": object()}]}],
    ids=["twice", "tuple", "function", "deep"],
)
def test_what_the_check_refuses_is_what_storing_refuses(tmp_path, item):
    with pytest.raises(UnstorableError):
        check_storable(item)
    with pytest.raises(SampleError):
        run([{"id": "a", "items": [item]}], tmp_path, key=lambda item: 1)


def test_what_the_check_allows():
    for item in (
        {"a": [1, {"b": None}]},
        {1: 2},
        10**5000,
        math.nan,
        decimal.Decimal(1),
        np.arange(3),
        pd.Timestamp(0),
    ):
        check_storable(item)


@pytest.mark.parametrize("value", [1, None, "no"])
def test_keep_items_is_yes_or_no(tmp_path, value):
    with pytest.raises(InputError, match="keep_items"):
        run(pictures(), tmp_path, keep_items=value)


def test_a_frame_with_two_columns_of_one_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="two columns 'q'"):
        run(pd.DataFrame([[1, 2]], columns=["q", "q"]), tmp_path, groups=None)


# ---- fn changes its input


def change(task):
    """Whatever can be changed is."""
    item = task.item
    if isinstance(item, dict):
        item["more"] = 1
        item["deep"]["list"].append("x")
        if "array" in item:
            item["array"] += 1
    elif isinstance(item, list):
        item.clear()
    task.sample["meta"]["n"] = 5
    for group in ("items", "others"):
        task.sample[group].append("x")
        if isinstance(task.sample[group][0], dict):
            task.sample[group][0]["q"] = 7
    return {"v": 1}


async def change_soon(task):
    return change(task)


@pytest.mark.parametrize("fn", [change, change_soon])
@pytest.mark.parametrize("retry", [False, True])
def test_fn_may_change_its_input(tmp_path, fn, retry):
    def samples():
        items = [{"q": i, "deep": {"list": [i]}, "array": np.arange(3)} for i in range(5)]
        return [{"id": "s", "items": items, "others": [[1, [2]], [3]], "meta": {"n": 1}}]

    given = samples()
    options = {"groups": {"it": "items", "other": "others"}, "context": lambda sample: sample["meta"]}
    if retry:
        attempts = []

        def again(task):
            if task.attempt == 1:
                change(task)
                return nbrun.Retry("again")
            attempts.append(task.item)
            return {"v": 1}

        run(given, tmp_path, again, **options)
        assert all("more" not in item for item in attempts if isinstance(item, dict))
        assert [item for item in attempts if isinstance(item, list)] in ([[1, [2]], [3]], [[3], [1, [2]]])
    else:
        run(given, tmp_path, fn, **options)
    assert str(given) == str(samples())
    calls = []
    for s in (given, samples()):
        progress = run(s, tmp_path, lambda task: calls.append(1) or {"v": 1}, **options)
        assert (progress.done, calls) == (7, [])
        assert "of samples" not in progress.message  # their contexts are what they were
    df = nbrun.load_results(tmp_path, items=True)
    assert df.item_q.tolist()[:5] == [0, 1, 2, 3, 4]
    assert df.item_array.tolist()[:5] == [[0, 1, 2]] * 5
    assert df.item_deep.tolist()[4] == {"list": [4]}
    assert "item_more" not in df


def test_a_sample_that_is_its_item_stays_what_it_is(tmp_path):
    def fn(task):
        assert task.item is task.sample
        task.item["prompt"] = "?"
        return {"v": 1}

    samples = [{"id": i, "q": i} for i in range(3)]
    run(samples, tmp_path, fn, groups=None)
    assert samples == [{"id": i, "q": i} for i in range(3)]
    assert run(samples, tmp_path, lambda task: 1 / 0, groups=None).done == 3
