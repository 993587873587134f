"""A job on several machines: each sample always goes to the same one."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import nbrun
from nbrun.cli import main
from nbrun.errors import InputError


def test_each_sample_belongs_to_one_part_independent_of_its_position() -> None:
    samples = [{"id": f"p{i}", "solutions": [i]} for i in range(1000)]
    parts = [[s["id"] for s in nbrun.shard(samples, i, 3)] for i in range(3)]
    assert sorted(id for part in parts for id in part) == sorted(s["id"] for s in samples)
    assert all(250 < len(part) < 420 for part in parts)
    assert {s["id"] for s in nbrun.shard(samples[::-2], 1, 3)} < set(parts[1])
    assert parts[0][:4] == ["p0", "p5", "p7", "p8"], "half a job on two machines depends on it"


def test_it_is_lazy_and_accepts_what_start_accepts() -> None:
    def endless():
        n = 0
        while True:
            yield {"id": n}
            n += 1

    assert next(nbrun.shard(endless(), 0, 2))["id"] >= 0
    frame = pd.DataFrame({"text": list("abcd")}, index=["w", "x", "y", "z"])
    assert sum(len(list(nbrun.shard(frame, i, 2))) for i in range(2)) == 4
    for i, n in ((2, 2), (-1, 2), (0, 0), (True, 2), (0.5, 2)):
        with pytest.raises(InputError):
            nbrun.shard([], i, n)
    with pytest.raises(InputError):
        nbrun.shard(5, 0, 1)


def test_status_of_shards_says_which_has_not_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = [str(tmp_path / name) for name in ("r0", "r1")]
    assert main(["status", *shards]) == 2
    nbrun.start([{"id": "a", "solutions": [1]}], lambda t: {}, shards[0], view=None).wait(60)
    capsys.readouterr()
    assert main(["status", *shards]) == 0
    first, second, both = capsys.readouterr().out.splitlines()
    assert first.endswith("1 of 1 done, 1 of 1 samples complete")
    assert second == f"{shards[1]}: not there yet"
    assert both.startswith("all: 1 of at least 1 done")
    assert main(["status", "--json", *shards]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row.get("done") for row in found] == [1, None]


def test_two_halves_load_as_one(tmp_path: Path) -> None:
    samples = [{"id": f"p{i}", "solutions": [i, i + 1]} for i in range(20)]
    for i in range(2):
        nbrun.start(nbrun.shard(samples, i, 2), lambda t: {"n": t.item}, tmp_path / f"r{i}", view=None).wait(60)
    frame = nbrun.load_results([tmp_path / "r0", tmp_path / "r1"])
    assert len(frame) == 40
    assert set(frame["sample_id"].astype(str)) == {s["id"] for s in samples}
