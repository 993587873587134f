"""Items: refused before any work where their entries can't hold them, never changed by fn, matched again by key=."""

import decimal
import math
import re
import threading
from functools import partial

import numpy as np
import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError, SampleError, UnstorableError
from nbrun.results.values import check_storable
from tests.waiting import until


class Image:
    """As in a dataset with pictures."""


def run(samples, path, fn=lambda task: {"v": 1}, **options):
    options = {"groups": {"it": "items"}, "view": None, "workers": 2, **options}
    return nbrun.start(samples, fn, path, **options).wait(60)


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


def test_of_a_long_list_what_is_far_behind_is_refused_before_its_own_tasks(tmp_path, tuning):
    tuning(check_items_s=0.0)  # as if the first samples took long
    ran = []
    samples = [{"id": str(i), "items": [{"q": i}]} for i in range(150)] + pictures()
    with pytest.raises(nbrun.errors.RunHaltedError, match=r"sample 150 .'a'.*image.*keep_items=False"):
        run(samples, tmp_path / "r", lambda task: ran.append(task.sample_id), key=lambda item: item["q"])
    assert sorted(ran, key=int) == [str(i) for i in range(150)]
    assert len(nbrun.load_results(tmp_path / "r")) == 150


@pytest.mark.parametrize(
    "bad",
    [{1: "x"}, {"q": Image()}, {"q": [Image()]}, {"q": {(1,): 2}}],
    ids=["integer key", "image", "list of images", "tuple key"],
)
def test_one_odd_item_among_flat_ones_is_seen(tmp_path, bad):
    items = [{"q": i, "x": None, "y": 0.5} for i in range(20)]
    check = partial(run, path=tmp_path / "r", key=str)
    if bad == {1: "x"}:  # a number may be a key
        check([{"id": "a", "items": [*items, bad]}])
        assert len(nbrun.load_results(tmp_path / "r")) == 21
        return
    with pytest.raises(SampleError, match="item 20 of group 'it'"):
        check([{"id": "a", "items": [*items, bad]}])


def test_the_list_of_a_long_run_is_saved_although_its_tasks_did_not_wait_for_it(tmp_path):
    running, go = threading.Event(), threading.Event()

    def fn(task):
        running.set()
        go.wait(60)

    samples = [{"id": f"s{i}", "items": [i]} for i in range(1001)]
    with nbrun.start(samples, fn, tmp_path, groups={"it": "items"}, workers=1, view=None) as live:
        assert running.wait(60)
        assert live.progress.total == 1001
        until(lambda: len(nbrun.load_samples(tmp_path)) == 1001)
        live.stop(drain=False)
        go.set()
    assert len(nbrun.load_samples(tmp_path)) == 1001


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


# ---- items that hardly differ from the saved ones


def both(tmp_path, saved, now, **options):
    """A run over some items, then one over others: its message, and how many of them ran."""
    calls = []
    run([{"id": "s", "items": saved}], tmp_path, lambda task: {"v": 1}, **options.get("first", {}))
    second = {k: v for k, v in options.items() if k != "first"}
    progress = run([{"id": "s", "items": now}], tmp_path, lambda task: calls.append(1) or {"v": 2}, **second)
    return progress.message, len(calls)


N = 200
ROWS = [{"q": f"question {i}", "n": i} for i in range(N)]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ([{**r, "n": float(r["n"])} for r in ROWS], r"all 200 items differ .* in the type of the field 'n' \(0 was"),
        ([{**r, "n": str(r["n"])} for r in ROWS], "in the type of the field 'n'"),
        ([{**r, "more": None} for r in ROWS], "by the new field 'more'"),
        ([{**r, "more": "x"} for r in ROWS], "by the new field 'more'"),
        ([{"q": r["q"]} for r in ROWS], "by the field 'n', which the saved ones have"),
    ],
    ids=["float", "text", "padded", "new", "gone"],
)
def test_a_change_of_type_is_said_and_key_offered(tmp_path, now, said):
    message, calls = both(tmp_path, ROWS, now)
    assert calls == N
    assert re.search(said, message), message
    assert "key=lambda item: item['q']" in message


def test_a_frame_with_one_missing_value(tmp_path):
    df = pd.DataFrame({"id": ["a", "b", "c"], "q": ["x", "y", "z"], "n": [1, 2, 3]})
    run(df, tmp_path, groups=None)
    df["n"] = df["n"].where(df["id"] != "c")  # int64 becomes float64
    progress = run(df, tmp_path, groups=None)
    said = "2 items differ from the saved ones in the type of the field 'n' (1 was saved, now it is 1.0)"
    assert said in progress.message
    calls = []
    run(df.assign(n=0), tmp_path, lambda t: calls.append(1) or {"v": 3}, groups=None, key=lambda item: item["q"])
    assert not calls


def test_other_items_are_other_items(tmp_path):
    message, calls = both(tmp_path, ROWS, [{"q": f"another {i}", "n": i} for i in range(N)])
    assert (calls, "differ" in message) == (N, False)
    message, calls = both(tmp_path / "2", [1, 2, 3], [4, 5, 6])
    assert (calls, "differ" in message) == (3, False)
    message, calls = both(tmp_path / "3", [1, 2, 3], [1.0, 2.0, 3.0])
    assert (calls, "all 3 items differ from the saved ones in their type" in message) == (3, True)


def test_key_finds_what_was_saved_without_it(tmp_path):
    now = [{**r, "n": float(r["n"])} for r in reversed(ROWS)] + [{"q": "a new one", "n": 1}]
    message, calls = both(tmp_path, ROWS, now, key=lambda item: item["q"])
    assert (calls, "differ" in message) == (1, False)
    df = nbrun.load_results(tmp_path, items=True)
    assert df["index"].tolist() == list(range(N + 1))
    assert df.v.tolist() == [1] * N + [2]
    assert df.item_q.tolist() == [r["q"] for r in now]
    assert "Nothing is damaged" in str(nbrun.check(tmp_path))
    calls = []
    run([{"id": "s", "items": now}], tmp_path, lambda task: calls.append(1), key=lambda item: item["q"])
    assert not calls


def test_equal_keys_take_one_entry_each(tmp_path):
    saved = [{"q": 1, "n": i} for i in range(3)]
    _, calls = both(tmp_path, saved, [{"q": 1, "n": 9.5}] * 5, key=lambda item: item["q"])
    assert calls == 2
    assert sorted(nbrun.load_results(tmp_path).v) == [1, 1, 1, 2, 2]


def test_a_key_that_saved_items_do_not_have(tmp_path):
    _, calls = both(tmp_path, [{"q": 1}, 5], [{"k": 1}, {"k": 2}], key=lambda item: item["k"])
    assert calls == 2
