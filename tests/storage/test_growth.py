"""What grows with the square of its input is found by counting, not by a stop watch."""

import json
import shutil
import sys
import threading
import time
import tracemalloc
from zlib import crc32

import pytest

import nbrun
from nbrun.results import replay
from nbrun.results.format import frame
from nbrun.results.reader import Reader
from nbrun.results.replay import read_matches
from nbrun.results.values import dump
from nbrun.storage.directory import Directory, MatchLog


def bytes_read():
    """How many bytes this process has read from files so far."""
    with open("/proc/self/io") as f:
        return int(dict(line.split(": ") for line in f.read().splitlines())["rchar"])


def test_a_long_record_is_read_in_the_time_of_its_length(tmp_path, tuning):
    """Joined once, not at each chunk: four times the length would take sixteen times as long."""
    tuning(log_chunk_bytes=256)

    def seconds(size):
        log = tmp_path / f"{size}.log"
        log.write_bytes(frame(b"r", dump("x" * size)) + frame(b"r", dump("next")))
        best = 9e9
        for _ in range(3):
            began = time.process_time()
            first, second = replay.read_log(log)
            best = min(best, time.process_time() - began)
            assert (len(first.body), second.body) == (size + 2, b'"next"')
        return best

    small = seconds(1 << 20)
    assert seconds(4 << 20) < 9 * small


@pytest.mark.parametrize("size", [2001, 5000, 70_000])
def test_a_line_that_is_too_long_costs_no_memory_and_is_named(size, tmp_path, tuning):
    """What no run can have written is not read into memory; the records around it count."""
    tuning(log_chunk_bytes=512, max_whole_bytes=2000)
    log = tmp_path / "journal-00000001.log"
    first, second = frame(b"r", dump("first")), frame(b"r", dump("x" * 1900))
    log.write_bytes(first + b"y" * size + b"\n" + second + b"z" * size)
    scan = replay.LogScan()
    tracemalloc.start()
    records = list(replay.read_log(log, scan))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(r.body) for r in records] == [7, 1902]
    assert scan.damaged == [(len(first), size + 1)]
    assert scan.good_bytes == len(first) + size + 1 + len(second)  # the last line is a torn tail
    assert "1 damaged record (1 with more than 2,000 bytes" in str(scan)
    assert peak < 30_000


@pytest.mark.parametrize("reader", [False, True])
def test_match_records_cost_no_memory_by_their_entries(reader, tmp_path):
    def kept(entries):
        path = tmp_path / f"{entries}{reader}"
        path.mkdir()
        (path / "s.json").write_text(json.dumps({"id": "s", "solution_result": []}))
        (path / ".nbrun").mkdir()
        places = [[i, f"k1:{i:032x}", 0] for i in range(entries)]
        match = {
            "seq": 1, "id": "s", "size": 5, "mtime_ns": 1, "crc": 1, "identities": "", "complete": True,
            "totals": {"solution": entries}, "verdicts": {}, "groups": {"solution": places},
        }  # fmt: skip
        (path / ".nbrun" / "matched.log").write_bytes(frame(b"m", dump(match)))
        tracemalloc.start()
        try:
            if reader:
                with Reader(path).open() as now:
                    size = tracemalloc.get_traced_memory()[0]
                    assert len(now.matches["s"]["groups"]["solution"]) == entries
            else:
                directory = Directory(path)
                directory.scan()
                size = tracemalloc.get_traced_memory()[0]
                assert len(directory.matches["s"]["groups"]["solution"]) == entries
                directory.close()
            return size
        finally:
            tracemalloc.stop()

    kept(10)
    assert kept(40_000) - kept(1_000) < 100_000  # 225 bytes an entry were 9 MB


def test_a_match_record_is_read_where_it_is_stored(tmp_path):
    """Its groups are read from the log; a log that was rewritten meanwhile gives no wrong answer."""
    log = MatchLog(tmp_path / "matched.log")
    value = {
        "seq": 1, "id": "s", "size": 5, "mtime_ns": 1, "crc": crc32(b""), "identities": "", "complete": True,
        "totals": {"groups": 1}, "verdicts": {}, "groups": {"groups": [[0, "k1:" + "0" * 32, 0]]},
    }  # fmt: skip
    settled = [log.add({**value, "id": str(i)}) for i in range(3)]
    log.close()
    for match in [*settled, *read_matches(tmp_path / "matched.log").values()]:
        assert match["groups"] == value["groups"]
        assert match["totals"] == {"groups": 1}
    (tmp_path / "matched.log").write_bytes(b"other\n" * 100)
    for match in settled:
        with pytest.raises(LookupError):
            match["groups"]


def test_reading_overtaken_by_an_archive_opens_each_archive_a_few_times(tmp_path, opened):
    """Each file is gone when its turn comes; it is not looked for in all of the archive's index each time."""
    path = tmp_path / "r"
    samples = [{"id": f"s{i:03}", "items": [i]} for i in range(60)]
    nbrun.start(samples, lambda t: {"v": t.item}, path, view=None, groups={"g": "items"}).wait(60)
    shutil.copytree(path, tmp_path / "other")
    with Reader(path).open() as now:
        nbrun.archive(path)
        del opened[:]
        reader = Reader(path)
        views = [reader._view(sample_id, now, bodies=True) for sample_id in now.listing.by_id]
        assert [len(v.entries) for v in views] == [1] * 60
        assert not reader.problems
    indexes = [p for p in opened if p.endswith("archive-0001.zip")]
    assert len(indexes) <= 60 + 5, "one opening a member, and a few of the index"
    assert sum(p.endswith("archived.log") for p in opened) <= 60 + 5


def test_load_results_overtaken_by_an_archive_reads_the_index_a_few_times(tmp_path, opened, monkeypatch):
    path = tmp_path / "r"
    samples = [{"id": f"s{i:03}", "items": [i]} for i in range(60)]
    nbrun.start(samples, lambda t: {"v": t.item}, path, view=None, groups={"g": "items"}).wait(60)
    from nbrun.frames import loader

    real = loader.read_all

    def overtaken(*args):
        thread = threading.Thread(target=nbrun.archive, args=(path,))
        thread.start()
        thread.join()
        del opened[:]
        return real(*args)

    monkeypatch.setattr(loader, "read_all", overtaken)
    frame_ = nbrun.load_results(path)
    assert sorted(frame_["v"]) == list(range(60))
    assert frame_.attrs["problems"] == 0
    assert sum(p.endswith("archive-0001.zip") for p in opened) <= 60 + 5


@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc/self/io says")
def test_opening_finished_samples_reads_none_of_their_entries(tmp_path):
    """P12: the cost of opening depends on what is unfinished."""
    samples = [{"id": f"s{i}", "solutions": list(range(20))} for i in range(50)]

    def go(given):
        return nbrun.start(given, lambda task: {"text": "x" * 20_000}, tmp_path, view=None).wait(60)

    go(samples[:1])  # loads the modules
    go(samples)
    written = sum(file.stat().st_size for file in tmp_path.glob("*.json"))
    before = bytes_read()
    assert go(samples).resumed == 1_000
    assert bytes_read() - before < written / 20
