"""Bounded, seeded searches: values of any kind over several runs, and directories changed in any place.

`python tests/storage/any_values.py 0 1000` and `python tests/storage/any_directory.py 0 1000` search on.
"""

import collections
import enum
import json
from zlib import crc32

import any_directory
import any_values
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import nbrun
from nbrun import cli
from nbrun.frames import loader
from nbrun.frames.rows import MAGIC, BadPack, unpack
from nbrun.results import values
from nbrun.results.reader import read_rows


def run(path, samples, fn, **options):
    live = nbrun.start(samples, fn, path, view=None, workers=2, retry=None, **options)
    progress = live.wait(60)
    assert progress.state == "done", progress
    return live


@pytest.mark.parametrize("seed", range(6))
def test_all_views_say_what_was_returned(seed):
    any_values.try_seed(seed)


def test_directories_that_were_changed_anywhere():
    assert any_directory.try_seeds(range(8)) == {}


class Colour(enum.Enum):
    RED = "red"


STORABLE = {
    "enum": Colour.RED,
    "range": range(3),
    "deque": collections.deque([1]),
    "memoryview": memoryview(b"a"),
    "arrow scalar": pa.scalar(5),
    "arrow date": pa.scalar(pd.Timestamp("2020-01-02")),
    "frame": pd.DataFrame({"a": [1, 2]}),
    "record": np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")])[0],
    "mask": np.ma.masked_array([1, 2], [True, False]),
}


@pytest.mark.parametrize("name", STORABLE)
def test_an_item_that_can_be_stored_has_a_key(tmp_path, name):
    calls = []
    samples = [{"id": "s", "things": [{"q": STORABLE[name]}, 1]}]
    for _ in range(2):
        run(tmp_path / "r", samples, lambda task: calls.append(task.index) or {"n": 1}, groups=["thing"])
    assert sorted(calls) == [0, 1]


def test_what_is_masked_is_no_value():
    times = np.ma.masked_array(np.array(["2020-01-02", "2020-01-02"], dtype="M8[ns]"), [False, True])
    spans = np.ma.masked_array(np.array([[1500, 5]], dtype="m8[ms]"), [[False, True]])
    records = np.ma.masked_array(np.array([(1, 2)], dtype=[("a", "i4"), ("b", "M8[s]")]), mask=[(True, False)])
    got = json.loads(values.encode({"t": times, "s": spans, "r": records, "one": np.ma.masked})[0])
    assert got["t"] == ["2020-01-02T00:00:00.000000000", None]
    assert got["s"] == [[1.5, None]]
    assert got["one"] is None
    assert got["r"] == [{"a": None, "b": "1970-01-01T00:00:02"}]


def test_a_row_with_an_integer_of_any_size_is_in_the_panel_s_list(tmp_path):
    big = -(10**5000)
    run(
        tmp_path / "r",
        [{"id": "s", "things": [{"q": big}, {"q": 1}]}],
        lambda t: {"deep": {"n": [t.item["q"]]}},
        groups=["thing"],
    )
    rows = read_rows(tmp_path / "r", "s")
    assert len(rows) == 2
    assert "-1000" in rows[0].item + rows[1].item


def test_ids_are_given_as_they_were_in_the_dataset(tmp_path):
    """To show and to redo, whatever they are on disk."""
    calls = []
    for sample_id in ("cut \ud83d", 10**5000, np.int64(7)):
        samples = [{"id": sample_id, "thing\udfffs": [1]}]
        path = tmp_path / str(len(calls))
        for redo in (None, [sample_id]):
            run(
                path,
                samples,
                lambda task: calls.append(1) or {"n": 1},
                groups={"thing\udfff": "thing\udfffs"},
                redo=redo,
            )
        assert "done" in str(nbrun.show(path, sample_id))
        assert "1" in str(nbrun.show(path, sample_id, "thing\udfff", 0))
    assert len(calls) == 6


def test_mappings_without_keys_are_exported_to_parquet(tmp_path, capsys):
    run(
        tmp_path / "r",
        [{"id": "s", "things": [1, 2]}],
        lambda task: {"empty": {}, "deep": [{"a": {}}]},
        groups=["thing"],
    )
    assert cli.main(["export", str(tmp_path / "r"), str(tmp_path / "x.parquet")]) == 0
    got = pd.read_parquet(tmp_path / "x.parquet")
    assert got["empty"].tolist() == ["{}", "{}"]
    assert got["deep"].tolist() == ['[{"a":{}}]'] * 2


def _sealed(header, rest=b""):
    data = json.dumps(header).encode()

    body = b"\n".join([data, rest])
    return b"%b %08x %d\n%b" % (MAGIC, crc32(body), len(data), body)


ODD_FILES = [
    None,
    5,
    [5],
    [{}],
    [{"n": 5}],
    [{"n": -1}],
    [{"name": [], "n": 0}],
    [{"name": "s.json", "n": 0, "ident": 3}],
    {"n": 1},
]


@pytest.mark.parametrize("files", ODD_FILES, ids=str)
def test_a_cache_with_a_right_checksum_may_hold_anything(tmp_path, files):
    path = tmp_path / "r"
    run(path, [{"id": "s", "things": [1, 2]}], lambda task: {"n": 1}, groups=["thing"])
    folder = path / ".nbrun" / "cache"
    folder.mkdir(exist_ok=True)
    empty = {"n": 0, "files": files, "arrays": [], "texts": {}, "extras": {}}
    (folder / f"1{loader.SUFFIX}").write_bytes(_sealed(empty))
    assert len(nbrun.load_results(path)) == 2
    assert "s" in str(nbrun.show(path, "s"))
    assert nbrun.status(path).done == 2
    run(path, [{"id": "s", "things": [1, 2, 3]}], lambda task: {"n": 1}, groups=["thing"])
    assert len(nbrun.load_results(path)) == 3


def test_arrays_of_another_length_are_no_pack():
    with pytest.raises(BadPack):
        unpack(
            _sealed(
                {"n": 2, "files": [{"n": 2}], "arrays": [["seq", "q", 8 * 3]], "texts": {}, "extras": {}}, bytes(24)
            )
        )
