"""Operations that succeed and report an error, and files that somebody swaps under an open sample: what is remembered
about a file is checked before it is used, so no saved result is overwritten with another's bytes."""

import errno
import fcntl
import json
import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest
from power_cuts import Job, check_end, check_saved, make_samples, saved
from simulated_disk import SimulatedDisk
from test_faults import run_through

import nbrun
from nbrun.results import plain_files
from nbrun.samples import SampleReader
from nbrun.storage import directory, entry, files
from nbrun.storage.journal import Journal
from nbrun.storage.sample_state import SampleState
from nbrun.tools.check import check
from tests.waiting import until


@pytest.fixture
def often(tuning):
    """Segments rotate and files are rewritten while the run goes on."""
    tuning(segment_bytes=900, group_s=0.0, stale_s=0.0, cost_ratio=0.0, stale_look_s=0.001)


OPERATIONS = [{"rename"}, {"close"}, {"fsync-folder"}, {"fsync"}, {"write"}, {"create", "unlink", "open", "truncate"}]


@pytest.mark.parametrize("operations", OPERATIONS, ids=lambda o: "-".join(sorted(o)))
def test_each_operation_succeeds_and_reports_an_error(operations, tmp_path, often):
    """Samples that are partly done, so that entries are copied from the file before at each writing."""
    begun = Job(make_samples(2))
    for sample in begun.samples:
        sample["solutions"] += list("cdefgh")
    whole = begun.samples
    begun.samples = [{**s, "solutions": s["solutions"][:3]} for s in whole]
    begun.start(tmp_path / "begun").wait(60)
    before = saved(tmp_path / "begun")
    k = 0
    while True:
        k += 1
        at, after = tmp_path / f"at{k}", tmp_path / f"after{k}"
        shutil.copytree(tmp_path / "begun", at)
        job = Job(whole)
        job.generation = 1
        job.returned.update({i: {v} for i, (_, v, _) in before.items()})
        seen = []

        def refuse(count, operation, path, seen=seen, k=k):
            if operation in operations:
                seen.append(count)
            return errno.EIO if len(seen) == k and seen[-1] == count else None

        disk = SimulatedDisk(at, random.Random(k), refuse=refuse, false_refusals=True)
        try:
            run_through(job, disk, at)
            check_end(job, at)
            check_saved(job, at, disk.acknowledged)
            assert len(job.ran) == len(job.identities()) - len(before)
            disk.power_cut(after, "lost")
            check_saved(job, after, disk.acknowledged)
            assert check(at).findings == []
        except BaseException as e:
            raise AssertionError(
                f"operation {k} of {operations}: {disk.trace[seen[k - 1] - 1 if k <= len(seen) else -1]}"
            ) from e
        if len(seen) < k:
            break
        shutil.rmtree(at)
        shutil.rmtree(after, ignore_errors=True)
    assert k > 2


# ---- files that somebody swaps


class Swapped:
    """A run over one sample whose last task waits while the sample's file, which holds the others, is swapped."""

    def __init__(self, tmp_path):
        self.path, self.ready, self.go_on = tmp_path / "results", threading.Event(), threading.Event()
        self.samples = [{"id": "s", "items": list(range(8))}]
        self.calls = []
        self.run = nbrun.start(self.samples, self.fn, self.path, workers=2, view=None, groups={"g": "items"})

    def fn(self, task):
        self.calls.append(task.item)
        if task.item == 7:
            self.ready.set()
            assert self.go_on.wait(60)
        return {"v": task.item, "pad": "x" * 50}

    @property
    def file(self):
        return self.path / "s.json"

    def wait_until_filed(self):
        until(self.ready.is_set)
        until(lambda: self.file.exists() and nbrun.status(self.path).done == 7)
        until(lambda: len(json.loads(self.file.read_bytes())["g_result"]) == 7)
        return self.file.read_bytes()

    def end(self):
        self.go_on.set()
        return self.run.wait(60)

    def values(self):
        frame = nbrun.load_results(self.path).sort_values("index")
        assert (frame["v"] == frame["index"]).all(), frame[["index", "v"]]
        return frame["v"].tolist()


@pytest.fixture
def swapped(tmp_path, often):
    made = Swapped(tmp_path)
    yield made
    made.go_on.set()
    if not made.run.progress.ended:
        made.run.stop(drain=False)


def put(path, data):
    """As cp and editors with a backup do: another inode under the same name."""
    beside = path.with_name("beside.tmp")
    beside.write_bytes(data)
    os.replace(beside, path)


def same_entries_elsewhere(data):
    """The same entries, each at another place, in a file of the same size."""
    value = json.loads(data)
    lines = data.split(b"\n")
    first = next(i for i, line in enumerate(lines) if line.startswith(b'{"index":0'))
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    assert json.loads(b"\n".join(lines)).keys() == value.keys()
    return b"\n".join(lines)


KEEPING = {
    "a copy": lambda d: d,
    "indented": lambda d: json.dumps(json.loads(d), indent=2).encode(),
    "sorted keys": lambda d: json.dumps(json.loads(d), sort_keys=True).encode(),
    "in another order": same_entries_elsewhere,
}


@pytest.mark.parametrize("how", KEEPING)
@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_swapped_for_one_with_the_same_entries(how, in_place, swapped):
    data = KEEPING[how](swapped.wait_until_filed())
    if in_place:
        stat = swapped.file.stat()
        with open(swapped.file, "r+b") as f:
            f.write(data)
            f.truncate()
        os.utime(swapped.file, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    else:
        put(swapped.file, data)
    assert swapped.end().state == "done"
    assert swapped.values() == list(range(8))
    assert check(swapped.path).findings == []
    assert not list((swapped.path / ".nbrun" / "damaged").iterdir())


def only_three(data):
    value = json.loads(data)
    value["g_result"] = value["g_result"][:3]
    return json.dumps(value).encode()


LOSING = {
    "an older copy": (only_three, 3),
    "half of it": (lambda d: d[: len(d) // 2], None),
    "garbage": (lambda d: random.Random(1).randbytes(500), 0),
    "nothing": (lambda d: b"", 0),
    "another sample's": (lambda d: d.replace(b'"id": "s"', b'"id": "t"').replace(b'"check":"', b'"check":"0'), 0),
    "one of a newer nbrun": (lambda d: d.replace(b"nbrun/", b"nbrun/99-"), 0),
}


@pytest.mark.parametrize("how", LOSING)
def test_a_file_swapped_for_one_that_lacks_results_is_kept_and_named(how, swapped):
    change, left = LOSING[how]
    data = change(swapped.wait_until_filed())
    put(swapped.file, data)
    end = swapped.end()
    assert end.state == "done"
    assert "was replaced" in end.message
    now = swapped.values()
    assert 7 in now
    assert left is None or len(now) == left + 1
    kept = [f.read_bytes() for f in (swapped.path / ".nbrun" / "damaged").iterdir()]
    assert data in kept
    swapped.calls.clear()
    nbrun.start(swapped.samples, swapped.fn, swapped.path, view=None, groups={"g": "items"}).wait(60)
    assert sorted(swapped.calls) == sorted(set(range(8)) - set(now)), "what is lost runs again, and nothing else"
    assert swapped.values() == list(range(8))


def test_a_file_swapped_for_one_with_more_results_keeps_those(swapped):
    value = json.loads(swapped.wait_until_filed())
    entries = value["g_result"]
    newer = {**entries[2], "seq": 900, "result": {"v": 2, "pad": "newer"}}
    stranger = {**entries[0], "index": None, "key": "k1:" + "0" * 32, "seq": 901, "result": {"v": 99}}
    value["g_result"] = [*entries[:2], newer, *entries[3:], stranger]
    put(swapped.file, json.dumps(value).encode())
    assert swapped.end().state == "done"
    assert swapped.values() == list(range(8))
    entries = json.loads(swapped.file.read_bytes())["g_result"]
    assert entries[2]["result"]["pad"] == "newer"
    assert [e["result"] for e in entries if e["index"] is None] == [{"v": 99}]


def test_an_old_file_restored_under_an_open_sample_adds_what_the_run_lacks(tmp_path, often):
    """The run began without the file: its results count as missing, and come back before they have been made again."""
    path, go_on, ready = tmp_path / "results", threading.Event(), threading.Event()
    items = [{"language": "PYTHON3", "solution": c} for c in "abcd"]

    def fn(task):
        if task.index:
            ready.set()
            assert go_on.wait(60)
        return {"accepted": False}

    run = nbrun.start([{"id": "s", "solutions": items}], fn, path, workers=1, view=None)
    until(lambda: ready.is_set() and run.progress.saved == 1)
    until((path / "s.json").exists)
    rows = [{**item, "result": {"accepted": True}} for item in [*items, {"language": "CPP", "solution": "gone"}]]
    put(path / "s.json", json.dumps({"id": "s", "solution_result": rows}, indent=4).encode())
    run.pause()
    go_on.set()
    until(lambda: run.progress.saved == 2)
    until(lambda: b"nbrun/1" in (path / "s.json").read_bytes())
    entries = json.loads((path / "s.json").read_bytes())["solution_result"]
    assert sum(e["result"]["accepted"] for e in entries) >= 3  # two that the run has not made yet, and the orphan
    run.resume()
    assert run.wait(60).state == "done"
    entries = json.loads((path / "s.json").read_bytes())["solution_result"]
    assert [e["solution"] for e in entries if e["index"] is None] == ["gone"]
    assert len(nbrun.load_results(path)) == 4


def test_a_file_that_appears_where_a_whole_sample_is_to_be_written_is_looked_at(tmp_path):
    """Samples whose results come all at once go straight to their file."""
    path = tmp_path / "results"
    samples = [{"id": "s", "items": list(range(60))}]
    options = {"workers": 1, "view": None, "groups": {"g": "items"}}
    nbrun.start(samples, lambda t: {"v": t.item}, path, **options).wait(60)
    value = json.loads((path / "s.json").read_bytes())
    value["g_result"].append({**value["g_result"][0], "index": None, "key": "k1:" + "0" * 32, "result": {"v": -1}})
    shutil.rmtree(path)
    put_at = []

    def fn(task):
        if not put_at:
            put_at.append(put(path / "s.json", json.dumps(value).encode()))
        return {"v": task.item}

    assert nbrun.start(samples, fn, path, **options).wait(60).state == "done"
    entries = json.loads((path / "s.json").read_bytes())["g_result"]
    assert [e["result"]["v"] for e in entries] == [*range(60), -1]


def test_a_file_that_changed_since_the_start_is_read_as_it_is_when_its_sample_comes(tmp_path):
    path = tmp_path / "results"
    samples = [{"id": i, "items": [1, 2]} for i in "ab"]
    options = {"workers": 1, "view": None, "groups": {"g": "items"}}
    nbrun.start(samples, lambda t: {"v": t.item}, path, **options).wait(60)
    value = json.loads((path / "b.json").read_bytes())
    del value["g_result"][1]
    calls = []

    def fn(task):
        if not calls:
            put(path / "b.json", json.dumps(value).encode())
        calls.append((task.sample_id, task.item))
        return {"v": task.item}

    def feed():
        yield {"id": "a", "items": [1, 2, 3]}
        end = time.monotonic() + 60
        while not calls and time.monotonic() < end:
            threading.Event().wait(0.005)
        yield samples[1]

    nbrun.start(feed(), fn, path, **options).wait(60)
    assert calls == [("a", 3), ("b", 2)]
    assert nbrun.status(path).done == 5


def test_moving_aside_goes_on_after_a_rename_whose_reply_was_lost(tmp_path, monkeypatch):
    path = tmp_path / "results"
    nbrun.start([{"id": "s", "items": [1]}], lambda t: {"v": 1}, path, view=None, groups={"g": "items"}).wait(60)
    (path / "s.json").write_bytes(b'{\n"format": "nbrun/1",\n"id": "s",\nxxx')
    (path / "t.json").write_bytes(b"")
    real = os.rename

    class Lying:
        def __getattr__(self, name):
            return getattr(os, name)

        def rename(self, source, target, **folders):
            real(source, target, **folders)
            raise OSError(errno.EIO, "a lost reply", str(target))

    monkeypatch.setattr(files, "os", Lying())
    report = check(path)
    monkeypatch.undo()
    assert not report.is_ok
    monkeypatch.setattr(files, "os", Lying())
    try:
        check(path, repair=True)
    except OSError:
        pass
    monkeypatch.undo()
    assert check(path, repair=True).is_ok


def test_a_directory_that_was_given_up_is_looked_at_without_a_fault(tmp_path):
    """The files threads look for it at any time; one that ended by an exception would be waited for for ever."""
    given_up = directory.Directory(tmp_path / "r")
    seen = []
    with files.observe(lambda operation, path: seen.append(given_up.check_place())):
        given_up.make_folders()
    assert seen
    given_up.close()
    given_up.check_place()
    assert not given_up.retry_after_fault()


# ---- folders that a killed process has left half made


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_folders_that_were_made_and_not_synced_are_synced_by_the_next_start(depth, tmp_path):
    """A process was killed between making a folder and making its name durable."""
    path = tmp_path.joinpath(*"abcd")
    made = tmp_path.joinpath(*"abcd"[:depth])
    made.mkdir(parents=True)
    synced = []
    with files.observe(lambda operation, at: synced.append((operation, os.fspath(at)))):
        run = nbrun.start([{"id": "s", "items": [1]}], lambda t: {"v": 1}, path, view=None, groups={"g": "items"})
        run.wait(60)
    first_save = synced.index(next(s for s in synced if s[0] == "create" and ".nbrun" in s[1]))
    before = {at for operation, at in synced[:first_save] if operation == "fsync-folder"}
    assert {os.fspath(p) for p in [tmp_path, *path.parents] if tmp_path in [p, *p.parents]} <= before


def test_each_folder_of_a_new_directory_is_synced_once_after_it_was_filled(tmp_path):
    path = tmp_path / "a" / "b"
    seen = []
    with files.observe(lambda operation, at: seen.append((operation, Path(at)))):
        directory.Directory(path).close()
    made = [at for operation, at in seen if operation == "mkdir"]
    synced = [at for operation, at in seen if operation == "fsync-folder"]
    assert len(synced) == len(set(synced))
    assert {at.parent for at in made} <= set(synced)
    for at in made:
        assert seen.index(("mkdir", at)) < seen.index(("fsync-folder", at.parent))


def test_an_error_of_closing_what_was_read_costs_nothing(tmp_path, monkeypatch):
    """FUSE and NFS may report an error then; what was read is right all the same."""
    path = tmp_path / "r"
    job = Job(make_samples(3))
    whole = job.samples
    job.samples = [{**s, "solutions": s["solutions"][:2]} for s in whole]
    assert job.start(path).wait(60).state == "done"
    before = saved(path)
    failed = []

    def close(fd, close=os.close):
        name = os.readlink(f"/proc/self/fd/{fd}")
        is_read = os.path.isfile(name) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        close(fd)
        if is_read and name.startswith(str(tmp_path)):
            failed.append(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "close", close)
    again = Job(whole)
    again.generation = 1
    assert again.start(path).wait(60).state == "done"
    assert check(path).findings == []
    assert failed
    assert len(again.ran) == len(again.identities()) - len(before)
    now = saved(path)
    assert {identity: now[identity] for identity in before} == before


def test_an_error_of_closing_a_file_object_is_ignored(tmp_path):
    (tmp_path / "f").write_bytes(b"text")
    for buffering in (-1, 0):
        with plain_files.open_reading(tmp_path / "f", buffering=buffering) as f:
            assert f.read() == b"text"
            os.close(f.fileno())  # so closing it fails with EBADF
        assert f.closed


class NewFiles:
    """Which new files are open. Closing one reports an error while `is_refused`, as it may over FUSE and NFS."""

    def __init__(self, monkeypatch):
        self.open, self.is_refused = {}, True  # descriptor -> name
        self._open, self._close = os.open, os.close
        monkeypatch.setattr(os, "open", self.note_open)
        monkeypatch.setattr(os, "close", self.note_close)

    def note_open(self, path, flags, *args, **kwargs):
        fd = self._open(path, flags, *args, **kwargs)
        if os.fspath(path).endswith(".tmp"):
            self.open[fd] = path
        return fd

    def note_close(self, fd):
        self._close(fd)
        if self.open.pop(fd, None) is not None and self.is_refused:
            raise OSError(errno.EIO, "closing failed")


@pytest.mark.parametrize("moment", ["write", "fsync", "close"])
def test_nothing_is_left_of_a_new_file_whose_closing_reports_an_error(moment, tmp_path, monkeypatch):
    """Closing it, after the disk has refused, too: then the first error is the one that is reported."""
    new_files = NewFiles(monkeypatch)

    def refuse(operation, path):
        if operation == moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with files.observe(refuse), pytest.raises(OSError, match="closing failed" if moment == "close" else "No space"):
        files.replace_file(tmp_path / "s.json", [b"new"], tmp_path / "s.tmp")
    assert new_files.open == {}
    assert os.listdir(tmp_path) == []


RENAME = "rename" if plain_files.OPENS_FOLDERS else "replace"  # on Windows a rename refuses a name that is taken


def test_a_rename_that_fails_after_it_has_removed_the_old_file_is_made_again(tmp_path, monkeypatch):
    """FUSE does two renames where the old file is open, and the second may fail: the new file is then the only one."""
    (tmp_path / "s.json").write_bytes(b"old")
    rename, failed = getattr(os, RENAME), []

    def remove_and_fail(source, target, **kwargs):
        if not failed:
            failed.append(target)
            os.unlink(tmp_path / "s.json")
            raise OSError(errno.EIO, os.strerror(errno.EIO), source)
        rename(source, target, **kwargs)

    monkeypatch.setattr(os, RENAME, remove_and_fail)
    files.replace_file(tmp_path / "s.json", [b"new"], tmp_path / "s.tmp")
    assert failed
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"s.json": b"new"}


@pytest.mark.parametrize(("there", "removes", "calls"), [(False, False, 1), (True, False, 1), (True, True, 2)])
def test_a_rename_that_fails_again_is_an_error(there, removes, calls, tmp_path, monkeypatch):
    """It is tried again only where the old file has gone."""
    called = []

    def fail(source, target, **kwargs):
        called.append(target)
        if removes:
            (tmp_path / "s.json").unlink(missing_ok=True)
        raise OSError(errno.EIO, os.strerror(errno.EIO), source)

    if there:
        (tmp_path / "s.json").write_bytes(b"old")
    monkeypatch.setattr(os, RENAME, fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.replace_file(tmp_path / "s.json", [b"new"], tmp_path / "s.tmp")
    assert len(called) == calls
    assert not (tmp_path / "s.tmp").exists()


@pytest.mark.parametrize("put_in_place", [files.replace_file, files.put_derived])
def test_nothing_is_left_of_a_new_file_whose_content_can_not_be_made(put_in_place, tmp_path, monkeypatch):
    """Another program has changed the file that part of it would be copied from, for example."""
    new_files = NewFiles(monkeypatch)
    new_files.is_refused = False

    def parts():
        yield b"new"
        raise ValueError("no second part")

    with pytest.raises(ValueError, match="no second part"):
        put_in_place(tmp_path / "s.json", parts(), tmp_path / "s.tmp")
    if put_in_place is files.replace_file:  # the other is closed by its file object
        assert new_files.open == {}
    assert os.listdir(tmp_path) == []


class Waiting:
    """A journal whose thread is in a commit when the results of five whole samples are put."""

    def __init__(self, path, tuning):
        tuning(direct_from=2)
        self.tmp = path / ".nbrun" / "tmp"
        self.tmp.mkdir(parents=True)
        self.saved = []
        self.fault: OSError | None = None
        self.has_begun, self.may_go_on, self.is_refused = threading.Event(), threading.Event(), threading.Event()
        self.journal = Journal(path / ".nbrun", 1, 1, self.on_saved, self.on_fault, self.wait)
        self.put(0)
        until(self.has_begun.is_set)
        for n in range(1, 6):
            self.put(n)

    def put(self, n):
        sample = SampleReader({"solution": "solutions"}).read({"id": f"s{n}", "solutions": ["a", "b"]}, n)
        state = SampleState(sample, f"s{n}.json")
        records = [entry.encode(state, p, p, {"v": n}, 1, 0.0, 0.0, "w", None) for p in range(2)]
        self.journal.put(state, records)

    def wait(self):
        self.has_begun.set()
        assert self.may_go_on.wait(60)
        if self.fault is not None:
            raise self.fault

    def on_saved(self, states, count):
        self.saved += [state.sample_id for state in states]

    def on_fault(self, e):
        self.is_refused.set()


def test_of_five_files_the_sync_of_the_third_fails(tmp_path, monkeypatch, tuning):
    """Nothing is left of the five, though closing each reports an error, too; their results go to the journal."""
    new_files = NewFiles(monkeypatch)
    new_files.is_refused = False
    waiting = Waiting(tmp_path, tuning)
    synced = []

    def refuse(operation, path):
        if operation == "fsync" and path.endswith(".tmp"):
            synced.append(path)
            if len(synced) == 4:  # the first was the one of the commit before
                new_files.is_refused = True
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with files.observe(refuse):
        waiting.may_go_on.set()
        until(waiting.is_refused.is_set)
    assert len(synced) == 4
    assert new_files.open == {}
    assert os.listdir(waiting.tmp) == []
    waiting.journal.retry_after_fault()
    assert waiting.journal.close(60)
    assert waiting.saved == [f"s{n}" for n in range(6)]
    assert sorted(p.name for p in tmp_path.glob("*.json")) == ["s0.json"]


def test_a_run_that_is_stopped_after_a_fault_leaves_no_new_files(tmp_path, monkeypatch, tuning):
    """Its last results are not saved; the files that were made of them would stay open as long as the kernel lives."""
    new_files = NewFiles(monkeypatch)
    waiting = Waiting(tmp_path, tuning)
    assert len(os.listdir(waiting.tmp)) == 6
    waiting.fault = OSError(errno.EIO, os.strerror(errno.EIO))
    waiting.may_go_on.set()
    until(waiting.is_refused.is_set)
    assert not waiting.journal.close(60)
    assert waiting.saved == []
    assert new_files.open == {}
    assert os.listdir(waiting.tmp) == []
