"""The cache of what files' last lines tell: it saves reading, and never speaks of a file that has changed."""

import os
import shutil

import pytest

import nbrun
from nbrun.results import sample_file
from nbrun.results.listing import list_samples
from nbrun.storage import footer_cache
from nbrun.storage.directory import Directory

COUNT = footer_cache.MIN_FILES * 5 // 4
SAMPLES = [{"id": f"s{i}", "solutions": [1]} for i in range(COUNT)]


def run(path, samples=SAMPLES):
    return nbrun.start(samples, lambda task: {"n": task.item}, path, groups=["solution"], view=None).wait(60)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(footer_cache, "FINE_NS", 0)
    run(tmp_path)
    assert (tmp_path / ".nbrun" / "cache" / "tails").exists()
    return tmp_path


@pytest.fixture
def peeked(monkeypatch):
    names = []
    real = sample_file.peek
    monkeypatch.setattr(sample_file, "peek", lambda path: (names.append(path.name), real(path))[1])
    return names


def scan(path):
    directory = Directory(path)
    directory.scan()
    return directory.listing


def test_nothing_is_read_twice_and_it_tells_the_same(results, peeked):
    listing = scan(results)
    assert peeked == []
    assert listing.by_id == list_samples(results).by_id
    assert run(results).resumed == COUNT


@pytest.mark.parametrize("change", ["touched", "replaced", "copied back", "edited within one tick"])
def test_a_file_that_changed_is_read(change, results, peeked):
    file = results / "s7.json"
    data, stat = file.read_bytes(), file.stat()
    if change == "touched":
        os.utime(file)
    elif change == "replaced":
        shutil.copy2(file, results / "beside")
        os.replace(results / "beside", file)
    elif change == "copied back":
        file.unlink()
        file.write_bytes(data)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    else:
        file.write_bytes(data.replace(b'"done":1', b'"done":0'))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    scan(results)
    assert peeked == ["s7.json"]


def test_a_file_that_may_still_change_unseen_is_not_kept(tmp_path, peeked, monkeypatch):
    monkeypatch.setattr(footer_cache, "FINE_NS", 10**12)
    run(tmp_path)
    peeked.clear()
    assert len(scan(tmp_path).by_id) == COUNT
    assert len(peeked) == COUNT


@pytest.mark.parametrize("damage", [b"", b"garbage", b"nbrun-tails/1 00000000\n[]", b"flip"])
def test_a_damaged_cache_is_no_cache(damage, results, peeked):
    cache = results / ".nbrun" / "cache" / "tails"
    if damage == b"flip":
        data = bytearray(cache.read_bytes())
        data[len(data) // 2] ^= 1
        damage = bytes(data)
    cache.write_bytes(damage)
    assert len(scan(results).by_id) == COUNT
    assert len(peeked) == COUNT
    assert run(results).resumed == COUNT


def test_a_damaged_file_is_told_every_time(results):
    (results / "s3.json").write_bytes(b"{")
    for _ in range(2):
        assert len(scan(results).problems) == 1
    assert "s3.json" in run(results).message
