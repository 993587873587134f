"""Archives (F12): finished samples in one compressed file count, load and return, whatever happens in between."""

import datetime as dt
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import nbrun
from nbrun.errors import InputError, ResultsInUseError, StorageError
from nbrun.results import listing
from nbrun.results.listing import list_samples
from nbrun.storage import files
from nbrun.tools.archive import archive_finished, unpack_archives
from nbrun.tools.check import check
from tests.waiting import patience, until

OLD = Path(__file__).parent.parent / "data" / "old"
WORDS = {"right": "Accepted", "wrong": "WrongAnswer"}


def judge(task):
    word = task.item["solution"].split()[0]
    if word == "raise":
        raise ValueError("no")
    return {"accepted": word == "right", "verdict": WORDS[word], "tests": [], "note": "x" * 300}


def sample(sample_id, *words):
    items = [{"language": "PYTHON3", "solution": f"{w} {i}"} for i, w in enumerate(words)]
    return {"id": sample_id, "solutions": items}


SAMPLES = [sample(f"p{i}", "right", "wrong", "right") for i in range(5)] + [sample("odd/Name", "right")]
UNFINISHED = sample("q", "right", "raise")


def run(samples, path, fn=judge, **more):
    live = nbrun.start(samples, fn, path, workers=2, retry=None, view=None, **more)
    live.wait(60)
    return live


def judging(ran):
    def fn(task):
        ran.append((task.sample_id, task.index))
        return judge(task)

    fn.settings = {"name": "judge"}
    return fn


judge.settings = {"name": "judge"}


def load(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nbrun.load_results(path)


def content(path):
    return {p.name: p.read_bytes() for p in path.glob("*.json")}


@pytest.fixture
def full(tmp_path):
    """Six finished samples and one that isn't."""
    run([*SAMPLES, UNFINISHED], tmp_path / "r")
    return tmp_path / "r"


def test_f12_archived_samples_count_and_load_as_before(full):
    before, rows, samples, status = content(full), load(full), nbrun.load_samples(full), nbrun.status(full)
    done = nbrun.archive(full)
    assert (done.samples, done.left, done.archive) == (6, 1, "archive-0001.zip")
    assert done.after_bytes < done.before_bytes
    assert list(content(full)) == ["q.json"]
    pd.testing.assert_frame_equal(load(full), rows)
    pd.testing.assert_frame_equal(nbrun.load_samples(full), samples)
    assert nbrun.status(full) == status
    assert check(full).is_ok
    assert check(full).entries == len(rows)
    assert nbrun.show(full, "p1", "solution", 1).verdict == "WrongAnswer"
    ran = []
    again = run([*SAMPLES, UNFINISHED], full, judging(ran))
    assert ran == [("q", 1)]
    assert again.progress.resumed == 17
    undone = nbrun.archive(full, unpack=True)
    assert undone.samples == 6
    after = content(full)
    assert {k: v for k, v in after.items() if k != "q.json"} == {k: v for k, v in before.items() if k != "q.json"}
    assert not list(full.glob("archive-*"))


@pytest.mark.parametrize("year", [1938, 1969, 1970, 1979, 2107, 2200, 2400])
def test_a_file_of_any_time_is_archived_and_found(year, full):
    """Copied without its time, or made while a clock was wrong: ZIP itself holds no time before 1980 or after 2107."""
    ns = int(dt.datetime(year, 6, 1, tzinfo=dt.UTC).timestamp()) * 10**9
    os.utime(full / "p1.json", ns=(ns, ns))
    if os.stat(full / "p1.json").st_mtime_ns != ns:
        pytest.skip("this disk holds no such time")
    before, rows, samples = content(full), load(full), nbrun.load_samples(full)
    assert nbrun.archive(full).samples == 6
    pd.testing.assert_frame_equal(load(full), rows)
    pd.testing.assert_frame_equal(nbrun.load_samples(full), samples)
    assert check(full).is_ok
    assert nbrun.archive(full, unpack=True).samples == 6
    assert content(full) == before
    assert os.stat(full / "p1.json").st_mtime_ns == ns


@pytest.mark.parametrize("now", [-1e9, 0, 5e9, 1e11])
def test_a_wrong_clock_does_not_stop_an_archive(full, monkeypatch, now):
    """ZIP holds no time before 1980 or after 2107, and its index is dated by the clock."""
    before = nbrun.load_results(full)
    monkeypatch.setattr(time, "time", lambda: now)
    nbrun.archive(full)
    pd.testing.assert_frame_equal(nbrun.load_results(full), before)


@pytest.mark.parametrize("what", ["the index", "a member"])
def test_nothing_is_removed_for_an_archive_that_readers_would_not_take(what, full):
    before, damaged = content(full), []

    def damage(operation, path):
        if operation == "fsync" and path.endswith(".zip"):
            data = bytearray(Path(path).read_bytes())
            at = data.index(b"index.nbrun") + 30 if what == "the index" else 100
            data[at] ^= 1
            Path(path).write_bytes(data)
            damaged.append(path)

    with files.observe(damage), pytest.raises(StorageError, match="reads back as something else"):
        nbrun.archive(full)
    assert damaged
    assert content(full) == before
    assert not list(full.glob("archive-*"))


def test_any_zip_program_unpacks_it(full, tmp_path):
    before = content(full)
    archive_finished(full)
    with zipfile.ZipFile(full / "archive-0001.zip") as z:
        assert z.testzip() is None
        z.extractall(tmp_path / "out")
    assert content(tmp_path / "out") == {k: v for k, v in before.items() if k != "q.json"}


def test_the_runbook_s_commands_answer_for_what_is_unfinished(full):
    archive_finished(full)
    command = """find r -name "*.json" | xargs grep -l '"is_complete": false' | wc -l; grep -H "progress" r/*.json"""
    out = subprocess.run(["/bin/sh", "-c", command], cwd=full.parent, capture_output=True, text=True, check=True).stdout
    count, line = out.splitlines()
    assert count == "1"
    assert line.startswith('r/q.json:"progress": {')


def test_only_what_must_change_returns_to_a_file(full):
    archive_finished(full)
    rows = load(full)
    ran = []
    run([*SAMPLES, UNFINISHED], full, judging(ran), redo=rows[(rows.sample_id == "p2") & (rows["index"] == 1)])
    assert sorted(ran) == [("p2", 1), ("q", 1)]
    assert sorted(content(full)) == ["p2.json", "q.json"]
    grown = [sample("p3", "right", "wrong", "right", "wrong"), *(s for s in SAMPLES if s["id"] != "p3")]
    ran.clear()
    run(grown, full, judging(ran))
    assert ran == [("p3", 3)]
    assert sorted(content(full)) == ["p2.json", "p3.json", "q.json"]
    assert len(load(full)) == len(rows) + 1
    pd.testing.assert_frame_equal(load(full).drop(columns="run_id"), fresh(full).drop(columns="run_id"))
    archive_finished(full)
    assert sorted(p.name for p in full.glob("archive-*")) == ["archive-0001.zip", "archive-0002.zip"]
    assert len(load(full)) == len(rows) + 1
    unpack_archives(full)
    assert len(load(full)) == len(rows) + 1
    assert len(content(full)) == 7


def fresh(path):
    """Read without the cache."""
    shutil.rmtree(path / ".nbrun" / "cache", ignore_errors=True)
    return load(path)


def test_a_file_that_returned_and_is_deleted_runs_again(full):
    """The member that it was made from does not come back in its stead."""
    archive_finished(full)
    rows = load(full)
    run([*SAMPLES], full, redo=rows[rows.sample_id == "p2"])
    (full / "p2.json").unlink()
    assert "p2" not in set(load(full).sample_id)
    ran = []
    run(SAMPLES, full, judging(ran))
    assert sorted(ran) == [("p2", 0), ("p2", 1), ("p2", 2)]


def test_a_judge_that_asks_again_gets_archived_entries(full):
    """Only a sample with an entry that is to run again is taken out."""

    class Asking:
        settings = {"name": "judge"}  # noqa: RUF012

        def __init__(self):
            self.asked = []

        def __call__(self, task):
            return judge(task)

        def again(self, entry, task):
            self.asked.append((task.sample_id, task.index))
            assert entry["solution"] == task.item["solution"]
            return (task.sample_id, task.index) == ("p4", 2)

    archive_finished(full)
    fn = Asking()
    run(SAMPLES, full, fn)
    assert {a for a in fn.asked if a[0] != "q"} >= {(s["id"], i) for s in SAMPLES for i in range(len(s["solutions"]))}
    assert sorted(content(full)) == ["p4.json", "q.json"]


@pytest.mark.parametrize("name", ["old_complete", "progress_complete", "progress_killed_resumed", "progress_killed_a"])
@pytest.mark.parametrize("matched", [False, True])
def test_old_directories(tmp_path, name, matched):
    path = shutil.copytree(OLD / name, tmp_path / name)
    dataset = json.loads((OLD / f"{name}.dataset.json").read_text())
    ran = []

    def fn(task):
        ran.append(task.sample_id)
        return {"accepted": True, "tests": []}

    if matched:
        run(dataset, path, fn)
        ran.clear()
    rows, samples, before = load(path), nbrun.load_samples(path), content(path)
    done = archive_finished(path)
    assert done.samples > 0
    assert done.samples + done.left == len(before)
    pd.testing.assert_frame_equal(load(path), rows)
    pd.testing.assert_frame_equal(nbrun.load_samples(path), samples)
    twin = shutil.copytree(OLD / name, tmp_path / "twin")
    if not matched:  # a run after archiving does what it would have done before
        wanted = []
        run(dataset, path, fn)
        ran, wanted = [], sorted(ran)
        run(dataset, twin, fn)
        assert sorted(ran) == wanted
        written = {
            f.name for f in path.glob("*.json") if f.stat().st_mtime > (path / "archive-0001.zip").stat().st_mtime
        }
        assert len(written) == len(set(wanted)), "only what something was run of"
        assert len(load(path)) == len(load(twin))
    else:
        run(dataset, path, fn)
        assert ran == []
        unpack_archives(path)
        assert content(path) == before
        run(dataset, path, fn)
        assert ran == []


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def of_p3(data):
    """Return the offset of p3's member."""
    return data.index(b"PK\x03\x04", data.index(b"p3.json") - 40)


def damaged_member(file):
    """One byte of p3's member differs."""
    data = file.read_bytes()
    file.write_bytes(flipped(data, of_p3(data) + 60))


class Killed(BaseException):
    pass


def repair(path):
    assert check(path, repair=True).is_ok


@pytest.mark.parametrize("kind", [Killed, OSError])
@pytest.mark.parametrize(
    ("what", "left"),
    [(archive_finished, 1), (unpack_archives, 7), (repair, 6)],
    ids=["archive", "unpack", "repair"],
)
def test_f12_stopped_at_any_operation_nothing_is_lost(full, tmp_path, kind, what, left):
    """At the k-th durable operation, for k = 1, 2, 3 … until it passes: all loads as before, and the next try ends."""
    if what is not archive_finished:
        archive_finished(full)
    if what is repair:
        damaged_member(full / "archive-0001.zip")
    rows = load(full)
    k = 0
    while True:
        k += 1
        path = shutil.copytree(full, tmp_path / f"k{k}")
        count = 0

        def hook(operation, _, k=k):
            nonlocal count
            count += 1
            if count == k:
                raise kind(f"at {operation}")

        try:
            with files.observe(hook):
                what(path)
        except (Killed, nbrun.errors.StorageError):
            pass
        else:
            if count < k:
                break
            assert what is repair, "only a move to damaged/ counts although its folder can't be synced"
        pd.testing.assert_frame_equal(load(path), rows, obj=f"k={k}")
        what(path)
        pd.testing.assert_frame_equal(load(path), rows, obj=f"k={k}, then done")
        assert len(content(path)) == left
        assert not list((path / ".nbrun" / "tmp").iterdir())
        shutil.rmtree(path)
    assert k > 10


def test_damage_costs_its_sample_alone(full):
    archive_finished(full)
    file = full / "archive-0001.zip"
    rows = load(full)
    with zipfile.ZipFile(file) as z:
        member = z.getinfo("p3.json")
    data = bytearray(file.read_bytes())
    data[member.header_offset + 30 + len("p3.json") + 5] ^= 0xFF
    file.write_bytes(data)
    with pytest.warns(UserWarning, match=r"p3\.json is damaged in archive-0001\.zip"):
        after = nbrun.load_results(full)
    assert after.attrs["problems"] == 1
    assert set(rows.sample_id) - set(after.sample_id) == {"p3"}
    report = check(full)
    assert [(f.kind, f.sample_id) for f in report.findings] == [("archived", "p3")]
    assert not report.is_ok
    assert "redo=['p3']" in str(report), "its archive's index says that it is finished"
    ran = []
    run(grown_by_one(), full, judging(ran))
    assert {s for s, _ in ran} == {"p3"}
    assert set(load(full).sample_id) == set(rows.sample_id)
    assert unpack_archives(full).problems == []  # its file counts now


def test_a_sample_that_is_damaged_in_its_archive_is_made_again_as_its_finding_says(full):
    archive_finished(full)
    rows = load(full)
    file = full / "archive-0001.zip"
    with zipfile.ZipFile(file) as z:
        at = z.getinfo("p3.json").header_offset
    data = bytearray(file.read_bytes())
    data[at + 60] ^= 0xFF
    file.write_bytes(data)
    ran = []
    run([*SAMPLES, UNFINISHED], full, judging(ran), redo=["p3"])
    assert {s for s, _ in ran} == {"p3", "q"}
    assert len(load(full)) == len(rows)
    assert check(full).is_ok


def cut_off(file):
    """The copying of the archive ended within p3's member, so that all that says what it holds is lost."""
    data = file.read_bytes()
    file.write_bytes(data[: of_p3(data) + 60])


def damaged_member_without_index(file):
    """The archive was packed again by another program before p3's member was damaged."""
    repacked(file, zipfile.ZIP_DEFLATED)
    damaged_member(file)


@pytest.mark.parametrize("spoil", [damaged_member, cut_off, damaged_member_without_index])
def test_repair_of_a_damaged_archive_saves_all_samples_but_the_damaged_one(full, spoil):
    archive_finished(full)
    rows = load(full)
    archive = full / "archive-0001.zip"
    spoil(archive)
    kept = archive.read_bytes()
    saved = {"odd/Name", "p0", "p1", "p2", "q"} | (set() if spoil is cut_off else {"p4"})
    assert not check(full).is_ok
    report = check(full, repair=True)
    assert report.is_ok, report
    assert check(full).findings == []
    after = nbrun.load_results(full)
    pd.testing.assert_frame_equal(
        after.astype(str).reset_index(drop=True), rows[rows.sample_id.isin(saved)].astype(str).reset_index(drop=True)
    )
    assert not archive.exists()
    assert (full / ".nbrun" / "damaged" / f"{archive.name}.0").read_bytes() == kept
    ran = []
    run([*SAMPLES, UNFINISHED], full, judging(ran))
    assert {s for s, _ in ran} == {s["id"] for s in SAMPLES} - saved | {"q"}
    assert len(load(full)) == len(rows)
    assert check(full).is_ok
    assert nbrun.archive(full).samples == 6


@pytest.mark.parametrize("lost", [60, 2000])
def test_samples_of_an_archive_that_was_cut_off_are_not_made_again(full, lost):
    """A copy or download that was interrupted lacks the end of the archive, which says what it holds."""
    before = load(full)
    archive_finished(full)
    archive = full / "archive-0001.zip"
    data = archive.read_bytes()
    archive.write_bytes(data[:-lost])
    with pytest.warns(UserWarning, match=r"archive-0001\.zip is an archive that can't be read"):
        rows = nbrun.load_results(full)
    gone = set(before.sample_id) - set(rows.sample_id)
    assert len(gone) <= (0 if lost == 60 else 5)
    ran = []
    run(SAMPLES, full, judging(ran))
    assert {sample_id for sample_id, _ in ran} == gone
    unpack_archives(full)
    assert archive.read_bytes() == data[:-lost]
    assert check(full, repair=True).is_ok
    assert Counter(load(full).sample_id) == Counter(before.sample_id)


def test_headers_that_lead_nowhere_cost_little(full):
    archive_finished(full)
    archive = full / "archive-0001.zip"
    member = archive.read_bytes()[: of_p3(archive.read_bytes())]
    name = b"p0.json"
    sizes = (10**6).to_bytes(4, "little")  # of a member that reaches over those after it
    header = b"PK\x03\x04" + bytes(10) + bytes(4) + sizes + sizes + len(name).to_bytes(2, "little") + bytes(2) + name
    archive.write_bytes(header * 100_000)
    started = time.monotonic()
    assert set(load(full).sample_id) == {"q"}
    archive.write_bytes(member + header * 100_000)
    assert len(set(load(full).sample_id)) > 1
    assert time.monotonic() - started < patience(20)


def test_repair_keeps_what_can_be_unpacked_of_a_damaged_member_as_text(full):
    text = (full / "p3.json").read_text()
    archive_finished(full)
    archive = full / "archive-0001.zip"
    with zipfile.ZipFile(archive) as z:
        member = z.getinfo("p3.json")
    data = archive.read_bytes()
    archive.write_bytes(flipped(data, member.header_offset + 30 + len("p3.json") + member.compress_size - 4))
    check(full, repair=True)
    left = (full / ".nbrun" / "damaged" / "p3.json.0").read_text(errors="replace")
    assert left[: len(text) // 2] == text[: len(text) // 2]
    assert "p3" not in set(load(full).sample_id), "nothing says which of its results are right"


def test_a_directory_is_repaired_that_was_killed_while_it_made_a_damaged_sample_again(full, tmp_path):
    """As the finding advises: with redo. New results are in the journal, and the archive's member can't be read."""
    archive_finished(full)
    damaged_member(full / "archive-0001.zip")
    path = tmp_path / "killed"

    def kill(task):
        if task.index == 2:
            until(lambda: len(nbrun.load_results(full, where={"sample_id": "p3"})) == 2)
            shutil.copytree(full, path)
        return judge(task)

    kill.settings = {"name": "judge"}
    run([SAMPLES[3]], full, kill, redo=["p3"])
    again = shutil.copytree(path, tmp_path / "again")
    ran = []
    run([SAMPLES[3]], again, judging(ran))
    assert ran == [("p3", 2)], "it starts without repair, too"
    assert check(path, repair=True).is_ok
    made = load(path)
    assert len(made[made.sample_id == "p3"]) == 2
    ran = []
    run(SAMPLES, path, judging(ran))
    assert ran == [("p3", 2)]


@pytest.mark.parametrize("is_archived", [False, True], ids=["in a file", "in an archive"])
def test_a_damaged_entry_is_made_again_after_repair_or_as_its_finding_says(full, is_archived):
    """The file's last line says that its sample is complete, so that a run has no cause to look at its entries."""
    file = full / "p3.json"
    data = file.read_bytes()
    at = data.index(b'"result"')
    file.write_bytes(data[:at] + bytes(20) + data[at + 20 :])
    if is_archived:
        archive_finished(full)
    rows = load(full)
    report = check(full)
    assert [(f.kind, f.sample_id) for f in report.findings] == [("entries", "p3")]
    assert "redo=['p3']" in str(report)
    advised = shutil.copytree(full, full.with_name("advised"))
    ran = []
    run(SAMPLES, advised, judging(ran), redo=["p3"])
    assert {s for s, _ in ran} == {"p3"}
    assert check(advised).is_ok
    assert check(full, repair=True).is_ok
    assert check(full).findings == []
    assert len(load(full)) == len(rows)
    ran.clear()
    run(SAMPLES, full, judging(ran))
    assert ran == [("p3", 0)]


def grown_by_one():
    """p3 has got a solution more, so that it must be opened."""
    return [s if s["id"] != "p3" else sample("p3", "right", "wrong", "right", "wrong") for s in SAMPLES]


@pytest.mark.parametrize("lost", ["comment", "index"])
def test_without_its_index_the_zip_s_directory_serves(full, lost):
    rows = load(full)
    archive_finished(full)
    file = full / "archive-0001.zip"
    data = file.read_bytes()
    if lost == "comment":
        data = data.replace(b"nbrun-archive/1 index=", b"nbrun-archive/1 indxx=")
    else:
        at = data.index(b"index.nbrun") + 20
        data = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
    file.write_bytes(data)
    pd.testing.assert_frame_equal(fresh(full), rows)


def repacked(archive, compression):
    """The archive as another ZIP program makes it of the unpacked files."""
    with zipfile.ZipFile(archive) as z:
        files = {name: z.read(name) for name in z.namelist()}
    with zipfile.ZipFile(archive, "w", compression) as z:
        for name, data in files.items():
            z.writestr(name, data)


def test_an_archive_that_was_repacked_without_compression_counts(full):
    rows = load(full)
    archive_finished(full)
    repacked(full / "archive-0001.zip", zipfile.ZIP_STORED)
    pd.testing.assert_frame_equal(fresh(full), rows)
    ran = []
    run(SAMPLES, full, judging(ran))
    assert ran == []
    assert unpack_archives(full).samples == 6
    pd.testing.assert_frame_equal(fresh(full), rows)


@pytest.mark.parametrize("what", ["another compression", "damaged members"])
def test_members_that_can_not_be_read_are_reported_and_kept(full, what):
    archive_finished(full)
    archive = full / "archive-0001.zip"
    if what == "another compression":
        repacked(archive, zipfile.ZIP_BZIP2)
    else:
        repacked(archive, zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(archive) as z:
            at = z.getinfo("p3.json").header_offset
        data = bytearray(archive.read_bytes())
        data[at + 60] ^= 0xFF
        archive.write_bytes(data)
    lost = 6 if what == "another compression" else 1
    before = archive.read_bytes()
    with pytest.warns(UserWarning, match=r"archive-0001\.zip"):
        assert nbrun.load_results(full).attrs["problems"] == lost
    assert [f.kind for f in check(full).findings] == ["archived"] * lost
    unpack_archives(full)
    assert archive.read_bytes() == before


def of_a_newer_zip(data):
    """The archive without its index's place, whose first member says that it needs version 9.9 of ZIP."""
    data = bytearray(data.replace(b"nbrun-archive/1 index=", b"nbrun-archive/1 indxx="))
    data[data.index(b"PK\x01\x02") + 6] = 99
    return bytes(data)


@pytest.mark.parametrize("spoil", [lambda data: data[:200], of_a_newer_zip], ids=["cut", "newer"])
def test_an_archive_that_cannot_be_read_is_reported_and_kept(spoil, full):
    archive_finished(full)
    file = full / "archive-0001.zip"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.warns(UserWarning, match="is an archive that can't be read"):
        df = nbrun.load_results(full)
    assert set(df.sample_id) == {"q"}
    ran = []
    live = run(SAMPLES, full, judging(ran))
    assert len(ran) == 16
    assert "archive" in live.progress.message
    assert file.exists()


@pytest.mark.parametrize("name", ["archive-0001 (1).zip", "archive-0001-laptop.zip", "archive-1.zip"])
def test_an_archive_that_was_renamed_counts(full, name):
    before = load(full)
    archive_finished(full)
    (full / "archive-0001.zip").rename(full / name)
    pd.testing.assert_frame_equal(load(full), before)
    ran = []
    run(SAMPLES, full, judging(ran))
    assert ran == []
    run([*SAMPLES, sample("p9", "right")], full, judging([]))
    archive_finished(full)
    unpack_archives(full)
    assert not list(full.glob("*.zip"))
    assert set(load(full).sample_id) == {*before.sample_id, "p9"}
    assert check(full).is_ok


def test_a_zip_file_of_the_user_s_is_no_archive(full):
    kept = content(full)
    with zipfile.ZipFile(full / "archive-of-mine.zip", "w") as f:
        f.writestr("p9.json", kept["p1.json"])
    archive_finished(full)
    unpack_archives(full)
    assert content(full) == kept
    assert [p.name for p in full.glob("*.zip")] == ["archive-of-mine.zip"]


@pytest.fixture
def two_of_one_name(full, tmp_path):
    """Return a directory with a sample in its file "x.json", and another sample in an archive as "x.json"."""
    other = tmp_path / "other"
    run([sample("other", "right", "wrong")], other)
    (other / "other.json").rename(other / "x.json")
    archive_finished(other)
    (full / "p1.json").rename(full / "x.json")
    (other / "archive-0001.zip").rename(full / "archive-0001.zip")
    return full


@pytest.mark.parametrize("act", ["unpack", "run", "repair"])
def test_of_two_samples_in_files_of_one_name_neither_takes_the_other_s_place(two_of_one_name, act):
    path = two_of_one_name
    samples = [*SAMPLES, sample("other", "right", "wrong", "wrong again")]
    if act == "unpack":
        unpack_archives(path)
    elif act == "repair":
        archive = path / "archive-0001.zip"
        archive.write_bytes(archive.read_bytes()[:-30])
        repair(path)
    else:
        ran = []
        run(samples, path, judging(ran))
        assert ran == [("other", 2)]
    ran = []
    run(samples, path, judging(ran))
    assert ran == ([] if act == "run" else [("other", 2)])
    assert Counter(load(path).sample_id) == {"odd/Name": 1, **{f"p{i}": 3 for i in range(5)}, "other": 3, "q": 2}
    assert check(path).is_ok


def test_of_two_members_of_one_name_one_counts_and_the_archive_stays(full):
    before = load(full)
    archive_finished(full)
    archive = full / "archive-0001.zip"
    with zipfile.ZipFile(archive) as f:
        members = [(name, f.read(name)) for name in f.namelist()]
    by_name = dict(members)
    with zipfile.ZipFile(archive, "w") as f, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in [("p0.json", by_name["p1.json"]), *members]:
            f.writestr(name, data)
    pd.testing.assert_frame_equal(load(full), before)
    assert [f.kind for f in check(full).findings] == ["archived"]
    unpack_archives(full)
    assert archive.exists()
    pd.testing.assert_frame_equal(load(full), before)


def test_it_loads_while_it_is_archived_and_unpacked(full):
    rows = load(full)
    stop = threading.Event()
    wrong = []
    read = threading.Semaphore(0)  # released by each reading: moves and readings meet, but neither starves the other

    def reads():
        while not stop.is_set():
            df = nbrun.load_results(full)
            if len(df) != len(rows) or df.attrs["problems"]:
                wrong.append(df)
            if nbrun.status(full).done != 17:
                wrong.append(nbrun.status(full))
            read.release()

    readers = [threading.Thread(target=reads) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(15):
        archive_finished(full)
        read.acquire(timeout=60)
        unpack_archives(full)
        read.acquire(timeout=60)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def taken_out(path):
    """Unpack, but for the last step: the samples are in files again, and their archive is still there."""

    def hook(operation, at):
        if operation == "unlink" and Path(at).name.startswith("archive-"):
            raise Killed

    with files.observe(hook), suppress(Killed):
        unpack_archives(path)


class Watched(listing.Archives):
    """Makes the next moves before and after each listing of archives."""

    def __init__(self, folder, moves):
        super().__init__(folder)
        self.folder, self.moves = folder, list(moves)

    def move(self):
        for step in self.moves.pop(0) if self.moves else ():
            step(self.folder)

    def list(self):
        self.move()
        found = super().list()
        self.move()
        return found


CYCLE = [archive_finished, taken_out, unpack_archives]


@pytest.fixture
def small(tmp_path):
    """A finished sample and one that isn't."""
    run([SAMPLES[0], UNFINISHED], tmp_path / "small")
    return tmp_path / "small"


@pytest.mark.parametrize("begun", range(3))
def test_a_listing_beside_any_moves_holds_every_sample_once(small, tmp_path, begun):
    """Up to five moves in turn, spread in every way over the four moments before and after both looks at archives."""
    for step in CYCLE[:begun]:
        step(small)
    wanted = set(list_samples(small).by_id)
    steps = (CYCLE * 3)[begun:]
    for n, counts in enumerate(c for c in itertools.product(range(4), repeat=4) if 2 <= sum(c) <= 5):
        path = shutil.copytree(small, tmp_path / f"n{n}")
        rest = iter(steps)
        moves = [list(itertools.islice(rest, count)) for count in counts]
        found = list_samples(path, of_folder=Watched(path, moves))
        assert (set(found.by_id), found.problems) == (wanted, []), [[m.__name__ for m in ms] for ms in moves]
        assert all(listing.open_file(path, info).read() for info in found.by_id.values())
        shutil.rmtree(path)


def test_a_file_is_read_beside_any_moves(small, tmp_path):
    info = list_samples(small).by_id["p0"]
    wanted = (small / info.name).read_bytes()
    archive_finished(small)
    steps = (CYCLE * 2)[1:]
    for n, counts in enumerate(c for c in itertools.product(range(4), repeat=4) if sum(c) <= 5):
        path = shutil.copytree(small, tmp_path / f"n{n}")
        rest = iter(steps)
        moves = [list(itertools.islice(rest, count)) for count in counts]
        with listing.open_file(path, info, Watched(path, moves)) as f:
            found = f.read()
        assert found == wanted, [[m.__name__ for m in ms] for ms in moves]
        shutil.rmtree(path)


def test_a_directory_in_use_is_not_archived(full):
    begun, go = threading.Event(), threading.Event()

    def slow(task):
        begun.set()
        go.wait(60)
        return judge(task)

    live = nbrun.start([sample("new", "right")], slow, full, view=None)
    assert begun.wait(60)
    code = "import sys; from nbrun.cli import main; sys.exit(main(['archive', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-c", code, str(full)], capture_output=True, text=True, check=False)
    go.set()
    live.wait(60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    with pytest.raises(InputError, match="no such folder"):
        archive_finished(full / "nowhere")
    assert issubclass(ResultsInUseError, nbrun.errors.NbrunError)


def test_the_command(full, capsys):
    from nbrun.cli import main

    assert main(["archive", str(full)]) == 0
    printed = capsys.readouterr().out
    assert "6 samples moved to" in printed
    assert re.search(r": [1-9][\d.]* kB became [1-9][\d.]* (kB|bytes)\.$", printed, re.MULTILINE), printed
    assert main(["archive", str(full)]) == 0
    assert "no finished sample" in capsys.readouterr().out
    assert main(["archive", str(full), "--unpack", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 6


def test_loading_an_archive_uses_cache_and_helpers(full, monkeypatch, tuning):
    tuning(cache_from_bytes=0, fine_clock_ns=-(10**18))
    rows = load(full)
    archive_finished(full)
    pd.testing.assert_frame_equal(load(full), rows)
    read = []
    monkeypatch.setattr(listing, "read_member", lambda *a: read.append(a) or 1 / 0)
    pd.testing.assert_frame_equal(load(full), rows)
    assert read == [], "all comes from the cache"
    monkeypatch.undo()
    tuning(bytes_a_helper=1, min_batch_bytes=1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    pd.testing.assert_frame_equal(fresh(full), rows)
