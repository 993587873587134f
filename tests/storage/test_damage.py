"""Damaged files: a run and a load survive each and name it, nothing is deleted; check says what repair then does."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from power_cuts import Job, check_end, make_samples, run_on, saved
from simulated_disk import SimulatedDisk

import nbrun
from nbrun import cli
from nbrun.errors import InputError, ResultsInUseError
from nbrun.results import sample_file

OLD = Path(__file__).parent.parent / "data" / "old"


def emptied(path):
    path.write_bytes(b"")


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def garbage(path):
    path.write_bytes(random.Random(1).randbytes(700))


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def last_line_gone(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def another_shape(path):
    path.write_text('{"id": "s/0", "solution_result": 5, "progress": {"is_complete": true}}')


def no_results(path):
    path.write_text('{"id": "s/0"}')


def a_list(path):
    path.write_text("[1, 2]")


def a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "something").write_text("x")


def a_dangling_link(path):
    path.unlink()
    path.symlink_to("nowhere")


def one_entry_broken(path):
    data = path.read_bytes()
    place = data.index(b'"result"')
    path.write_bytes(data[:place] + bytes(30) + data[place + 30 :])


def one_entry_unknown(path):
    path.write_bytes(path.read_bytes().replace(b'{"index":1,', b'{"inxed":1,', 1))


DAMAGES = [
    emptied, zeros, garbage, cut_in_half, last_line_gone, another_shape, no_results, a_list, a_folder, a_dangling_link,
    one_entry_broken, one_entry_unknown,
]  # fmt: skip
LOSSES = {"cut_in_half": range(1, 4), "last_line_gone": [0], "one_entry_broken": [1], "one_entry_unknown": [1]}


@pytest.fixture
def job():
    return Job(make_samples(3))


def finished(job, path):
    job.start(path).wait(60)
    return next(p for p in path.iterdir() if p.name.startswith("s_0"))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_a_damaged_file(damage, job, tmp_path):
    """Another task is missing too, so that the sample is opened whatever its file says of itself."""
    file = finished(job, tmp_path)
    damage(file)
    broken = None if file.is_dir() or file.is_symlink() else file.read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        df = nbrun.load_results(tmp_path)
        samples = nbrun.load_samples(tmp_path)
    lost = 12 - len(df)
    assert lost in LOSSES.get(damage.__name__, [4])
    if damage is not one_entry_unknown:  # a line that isn't known for an entry: check reports it
        assert file.name in str(caught[0].message)
        assert df.attrs["problems"] >= 1
    if damage is not one_entry_broken:  # counts are taken from what entries begin with
        assert samples.is_complete.sum() == 2
    report = nbrun.check(tmp_path)
    assert not report.is_ok or broken is None or damage in (a_list, no_results, another_shape)
    assert any(file.name in f.path for f in report.findings)
    assert report.entries == len(df)
    job.samples[0]["solutions"].append("c")
    progress = job.start(tmp_path).wait(60)
    assert "could not be read" in progress.message.lower()
    assert file.name in progress.message
    assert len(job.ran) == lost + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a folder, a link and a list are still there
        check_end(job, tmp_path)
    kept = [p.read_bytes() for p in (tmp_path / ".nbrun" / "damaged").iterdir()]
    kept += [p.read_bytes() for p in tmp_path.glob("*.json") if p.is_file()]
    assert broken is None or broken in kept, "the damaged file is gone"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_repair(damage, job, tmp_path):
    """Everything that can be read stays, what can't is kept aside, and afterwards nothing is found."""
    file = finished(job, tmp_path)
    damage(file)
    broken = None if file.is_dir() or file.is_symlink() else file.read_bytes()
    before = saved(tmp_path) if damage is not one_entry_broken else None
    found = nbrun.check(tmp_path)
    report = nbrun.check(tmp_path, repair=True)
    assert report.is_ok, str(report)
    assert [f.path for f in report.findings] == [f.path for f in found.findings]
    assert before is None or saved(tmp_path) == before
    again = nbrun.check(tmp_path)
    assert all(f.kind == "foreign" for f in again.findings), str(again)
    kept = [p.read_bytes() for p in (tmp_path / ".nbrun" / "damaged").iterdir()]
    kept += [p.read_bytes() for p in tmp_path.glob("*.json") if p.is_file()]
    assert broken is None or broken in kept, "repair deletes nothing"
    out = subprocess.run(
        ["grep", "-l", '"is_complete": false', *map(str, tmp_path.glob("s_*.json"))], capture_output=True, text=True
    ).stdout.split()
    assert len(out) == (1 if damage in (cut_in_half, last_line_gone, one_entry_broken, one_entry_unknown) else 0)
    job.start(tmp_path).wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_end(job, tmp_path)


def test_files_of_others_are_left_alone(job, tmp_path):
    finished(job, tmp_path)
    others = {"notes.json": '{"title": "my notes"}', "list.json": "[]", "deep.json": '{"id": {"a": 1}}'}
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    with pytest.warns(UserWarning, match="deep.json"):
        assert len(nbrun.load_results(tmp_path)) == 12
    assert job.start(tmp_path).wait(60).resumed == 12
    report = nbrun.check(tmp_path, repair=True)
    assert report.is_ok
    assert len(report.findings) == 3
    assert {name: (tmp_path / name).read_text() for name in others} == others


def test_a_file_that_may_not_be_read(job, tmp_path, monkeypatch):
    """By its permissions; root may read all, so the refusal is played."""
    file = finished(job, tmp_path)
    shutil.rmtree(tmp_path / ".nbrun" / "cache", ignore_errors=True)

    def refusing(real):
        def refuse(path, *rest, **more):
            if os.fspath(path).endswith(file.name):
                raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
            return real(path, *rest, **more)

        return refuse

    monkeypatch.setattr(os, "open", refusing(os.open))
    monkeypatch.setattr(sample_file, "open", refusing(open), raising=False)
    assert len(saved(tmp_path)) == 8
    [finding] = nbrun.check(tmp_path).findings
    assert "Permission denied" in finding.what
    assert file.name in job.start(tmp_path).wait(60).message
    assert file.exists()
    monkeypatch.undo()
    shutil.rmtree(tmp_path / ".nbrun" / "cache", ignore_errors=True)
    with pytest.warns(UserWarning, match="holds the same sample"):
        assert len(nbrun.load_results(tmp_path)) == 12
    assert nbrun.check(tmp_path, repair=True).is_ok
    assert not nbrun.check(tmp_path).findings


def test_an_old_file_cut_short(tmp_path):
    shutil.copytree(OLD / "progress_complete", tmp_path / "r")
    [file, *_] = sorted((tmp_path / "r").glob("*.json"))
    file.write_bytes(file.read_bytes()[:-40])
    report = nbrun.check(tmp_path / "r")
    [finding] = report.findings
    assert (finding.path, finding.kind, finding.is_repaired) == (str(file), "unreadable", False)
    assert "missing" in finding.cost
    assert "damaged" in finding.repair
    assert nbrun.check(tmp_path / "r", repair=True).is_ok
    assert not file.exists()
    assert nbrun.check(tmp_path / "r").kept == [file.name + ".0"]


def test_logs_with_damaged_records(job, tmp_path):
    finished(job, tmp_path)
    job.start(tmp_path).wait(60)
    log = tmp_path / ".nbrun" / "runs.log"
    data = log.read_bytes()
    log.write_bytes(data[:20] + b"#" + data[21:])
    [finding] = nbrun.check(tmp_path).findings
    assert finding.kind == "log"
    assert nbrun.check(tmp_path, repair=True).is_ok
    assert not nbrun.check(tmp_path).findings
    assert log.read_bytes() == data[data.index(b"\n") + 1 :]


def test_wrong_counts(job, tmp_path):
    file = finished(job, tmp_path)
    right = file.read_bytes()
    file.write_bytes(right.replace(b'"completed_solutions": 3', b'"completed_solutions": 9'))
    [finding] = nbrun.check(tmp_path).findings
    assert "says completed_solutions 9, but holds 3" in finding.what
    assert nbrun.check(tmp_path, repair=True).is_ok
    assert b'"completed_solutions": 3' in file.read_bytes()
    assert b'"is_complete": true' in file.read_bytes()


def test_a_whole_directory_and_none(job, tmp_path):
    finished(job, tmp_path / "r")
    report = nbrun.check(tmp_path / "r")
    assert report.is_ok
    assert (report.samples, report.entries, report.findings, report.holder) == (3, 12, [], "")
    assert "Nothing is damaged" in str(report)
    with pytest.raises(InputError, match="no such folder"):
        nbrun.check(tmp_path / "none")


def test_check_looks_while_a_run_writes_and_repair_does_not(job, tmp_path):
    import threading

    gate = threading.Event()
    job.failing = lambda task, generation: gate.wait(60) and None
    run = job.start(tmp_path)
    report = nbrun.check(tmp_path)
    assert str(os.getpid()) in report.holder
    assert report.is_ok
    with pytest.raises(ResultsInUseError):
        nbrun.check(tmp_path, repair=True)
    gate.set()
    run.wait(60)


def test_the_command(job, tmp_path, capsys):
    file = finished(job, tmp_path)
    assert cli.main(["check", str(tmp_path)]) == 0
    cut_in_half(file)
    assert cli.main(["check", str(tmp_path)]) == 1
    assert file.name in capsys.readouterr().out
    assert cli.main(["check", str(tmp_path), "--json"]) == 1
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert finding["kind"] == "entries"
    assert cli.main(["check", str(tmp_path), "--repair"]) == 0
    assert "Repaired" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "nbrun", "check", str(tmp_path / "none")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no such folder" in done.stderr


@pytest.mark.parametrize("word", [b'"max_seq"', b'"identities"', b'"done"', b'"errors"', b'"runs"'])
def test_a_flipped_byte_in_what_a_file_says_of_itself(word, job, tmp_path):
    """A summary is believed without a look at the entries: a wrong one could cost what the journal holds."""
    file = finished(job, tmp_path)
    data = bytearray(file.read_bytes())
    place = data.rindex(word) + len(word) + (2 if word in (b'"max_seq"', b'"done"') else -2)
    data[place - 1] ^= 4
    file.write_bytes(data)
    assert len(saved(tmp_path)) == 12
    [finding] = nbrun.check(tmp_path).findings
    assert "last lines are damaged" in finding.what
    progress = job.start(tmp_path).wait(60)
    assert job.ran == []
    assert file.name in progress.message
    assert not nbrun.check(tmp_path).findings
    check_end(job, tmp_path)


def test_a_file_that_says_it_is_complete_and_is_not(job, tmp_path):
    """By hand, or by a fault elsewhere: what its entries say counts."""
    job.samples[0]["solutions"] = ["a", "b"]
    file = finished(job, tmp_path)
    job.samples[0]["solutions"] = ["a", "b", "c"]
    job.failing = lambda task, generation: (_ for _ in ()).throw(ValueError("no")) if task.item == "c" else None
    job.start(tmp_path).wait(60)
    text = file.read_bytes()
    assert b'"is_complete": false' in text
    file.write_bytes(text.replace(b'"is_complete": false', b'"is_complete": true'))
    job.failing = lambda task, generation: None
    job.start(tmp_path).wait(60)
    assert len(job.ran) == 1
    check_end(job, tmp_path)


def test_a_long_summary_is_found(job, tmp_path):
    """Results of very many runs: the last lines are longer than what is read at first."""
    file = finished(job, tmp_path)
    from nbrun.results import sample_file

    info = sample_file.peek(file)
    runs = {f"20261124-000000-{i:06x}": 1 for i in range(3000)}
    text = file.read_bytes()
    start = text.index(b'"api_used": "",\n"worker_id"')
    totals = {k[6:-1]: n for k, n in info.progress.items() if k.startswith("total_")}
    footer = sample_file.Footer(info.sample_id, totals, totals, True, {**info.summary, "runs": runs})
    file.write_bytes(text[:start] + sample_file.closing(footer))
    assert len(sample_file.peek(file).summary["runs"]) == 3000
    assert job.start(tmp_path).wait(60).resumed == 12


def test_the_log_of_unclean_ends(job, tmp_path):
    finished(job, tmp_path)
    log = tmp_path / ".nbrun" / "unclean.log"
    log.write_bytes(b"garbage\nmore\n")
    [finding] = nbrun.check(tmp_path).findings
    assert (finding.kind, finding.path) == ("log", str(log))
    assert job.start(tmp_path).wait(60).resumed == 12
    assert nbrun.check(tmp_path, repair=True).is_ok
    assert not nbrun.check(tmp_path).findings


@pytest.mark.parametrize("what", ["another sample", "a folder", "a dangling link", "garbage"])
def test_the_place_of_the_journal_s_results_is_taken(what, tmp_path):
    """A run died with results in the journal only; the name of their file was taken since. Nothing is overwritten."""
    work, results = tmp_path / "work", tmp_path / "r"
    job = Job([{"id": "one", "solutions": ["a", "b", "c"], "incorrect_solutions": []}])
    disk = SimulatedDisk(work, random.Random(0), die_at=lambda disk: len(disk.acknowledged) >= 2)
    job.options = {"workers": 1}
    run_on(disk, job, work)
    disk.power_cut(results, "lost")
    before = saved(results)
    assert len(before) >= 2
    place = results / "one.json"
    assert not place.exists()
    if what == "another sample":
        other = Job([{"id": "two", "solutions": ["x"], "incorrect_solutions": []}])
        other.start(tmp_path / "other").wait(60)
        shutil.copy(tmp_path / "other" / "two.json", place)
    elif what == "a folder":
        place.mkdir()
    elif what == "a dangling link":
        place.symlink_to("nowhere")
    else:
        place.write_bytes(b"garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        progress = job.start(results).wait(60)
        assert progress.state == "done"
        assert not set(job.ran) & set(before)
        now = saved(results)
    assert len(now) == (4 if what == "another sample" else 3)
    assert all(now[i] == value for i, value in before.items())
    kept = [place, *(results / ".nbrun" / "damaged").iterdir()]
    assert any(os.path.lexists(p) and p.name.startswith("one.json") for p in kept)
    if what == "garbage":
        assert b"garbage" in [p.read_bytes() for p in kept if p.is_file()]
