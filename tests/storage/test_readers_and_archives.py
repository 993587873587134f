"""Readers take no lock, so samples may be archived, unpacked, repaired or merged while they read.

Whatever happens at any single step of theirs, they see every saved result once, or say that they could not."""

import os
import shutil
import subprocess
import sys
import threading
import warnings

import pytest

import nbrun
from nbrun import cli
from nbrun.results.reader import Reader, read_rows
from nbrun.tools.check import check

COUNT = 4
_watched = None


class Watch:
    """Counts a reader's steps in a folder: what it lists, what it opens. At the chosen one `do` is called."""

    def __init__(self, path, at, do):
        self.path, self.at, self.do = os.fspath(path), at, do
        self.thread = threading.get_ident()
        self.steps = 0

    def step(self, event, args):
        if event not in ("open", "os.scandir", "os.listdir") or threading.get_ident() != self.thread:
            return
        where = args[0]
        if not isinstance(where, (str, os.PathLike)) or not os.fspath(where).startswith(self.path):
            return
        self.steps += 1
        if self.steps == self.at:
            self.thread = None
            self.do()
            self.thread = threading.get_ident()


def _audit(event, args):
    if _watched is not None:
        _watched.step(event, args)


sys.addaudithook(_audit)


def watched(path, at, do, read):
    """What `read` returns while `do` happens at its `at`-th step; and how many steps it had."""
    global _watched
    _watched = watch = Watch(path, at, do)
    try:
        return read(), watch.steps
    finally:
        _watched = None


def make(path):
    samples = [{"id": f"s{i}", "items": [i, i]} for i in range(COUNT)]
    nbrun.start(samples, lambda t: {"v": t.item}, path, view=None, groups={"g": "items"}).wait(60)


def archive(path):
    nbrun.archive(path)


def unpack(path):
    nbrun.archive(path, unpack=True)


def archive_and_unpack(path):
    archive(path)
    unpack(path)


def unpack_and_archive(path):
    unpack(path)
    archive(path)


def repair(path):
    """A file beside the samples that is none, and a copy of one, so that there is something to repair."""
    (path / "empty.json").write_bytes(b"")
    check(path, repair=True)


def merge(path):
    cli.main(["merge", str(path.parent / "merged"), str(path)])


def by_views(path):
    reader = Reader(path)
    found = [(v.sample_id, s.item_index) for v in reader.samples() for s, _ in v.entries]
    return found, len(reader.problems)


def by_frame(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = nbrun.load_results(path)
    return list(zip(frame.sample_id.astype(str), frame["index"], strict=True)), frame.attrs["problems"]


def by_counts(path):
    status = nbrun.status(path)
    return [("", n) for n in range(status.done)], status.problems


def by_one(path):
    return [(f"s{i}", row.index) for i in range(COUNT) for row in read_rows(path, f"s{i}")], 0


READERS = [by_views, by_frame, by_counts, by_one]
BEGUN = {archive: False, unpack: True, archive_and_unpack: False, unpack_and_archive: True, repair: False, merge: False}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    make(path / "files")
    shutil.copytree(path / "files", path / "archived")
    archive(path / "archived")
    return path


@pytest.mark.parametrize("read", READERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("do", BEGUN, ids=lambda f: f.__name__)
def test_every_result_is_seen_once_whenever_it_happens(do, read, made, tmp_path):
    source = made / ("archived" if BEGUN[do] else "files")
    step, steps = 0, 1
    stride = 3 if do in (repair, merge) else 1 if do in (archive, unpack) else 2
    while step < steps:
        step += stride
        path = tmp_path / f"at{step}"
        shutil.copytree(source, path)
        (found, problems), steps = watched(path, step, lambda path=path: do(path), lambda path=path: read(path))
        assert len(found) == len(set(found)), step
        assert len(found) == 2 * COUNT or problems, f"{2 * COUNT - len(found)} missing at step {step}, and none says so"
        if do is not repair:
            assert len(found) == 2 * COUNT, step
        shutil.rmtree(path)
        shutil.rmtree(tmp_path / "merged", ignore_errors=True)
    assert steps > 5


def test_a_sample_that_is_archived_and_unpacked_all_the_time_is_said_to_be_missed(made, tmp_path):
    """What can't be read at one moment is named, not left out in silence."""
    path = tmp_path / "r"
    shutil.copytree(made / "files", path)
    global _watched

    class Always(Watch):
        def step(self, event, args):
            if event == "os.scandir" and threading.get_ident() == self.thread:
                self.thread = None
                archive_and_unpack(path)
                self.thread = threading.get_ident()

    _watched = Always(path, 0, None)
    try:
        found, problems = by_views(path)
    finally:
        _watched = None
    assert len(found) == 2 * COUNT or problems


LOOP = """
import sys, nbrun
for _ in range(int(sys.argv[2])):
    nbrun.archive(sys.argv[1])
    nbrun.archive(sys.argv[1], unpack=True)
"""


def test_another_process_archives_and_unpacks(tmp_path):
    path = tmp_path / "r"
    make(path)
    other = subprocess.Popen([sys.executable, "-c", LOOP, str(path), "12"])
    readings = 0
    try:
        while other.poll() is None:
            for read in (by_views, by_frame, by_counts):
                found, problems = read(path)
                assert len(found) == len(set(found))
                assert len(found) == 2 * COUNT or problems
                readings += 1
    finally:
        other.kill()
        other.wait()
    assert other.returncode == 0
    assert readings > 3
