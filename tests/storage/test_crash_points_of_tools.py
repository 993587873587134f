"""The power is cut at every durable operation of repair, archive and unpack: what was readable stays readable."""

import os
import random
import shutil
import time
import warnings

import pytest
from power_cuts import Job, check_end, make_samples, run_on, saved
from simulated_disk import SimulatedDisk

import nbrun
from nbrun.errors import NbrunError
from nbrun.tools.archive import archive_finished, unpack_archives

pytestmark = pytest.mark.long


def damaged(job, path):
    """A file cut short, one of garbage, one with a broken entry, a damaged segment and a log with a flipped byte."""
    work = path.with_name("work")
    job.start(work).wait(60)
    files = sorted(work.glob("*.json"))
    files[0].write_bytes(files[0].read_bytes()[:-300])
    files[1].write_bytes(b"\0" * 500)
    entry = files[2].read_bytes()
    place = entry.index(b'"result"')
    files[2].write_bytes(entry[:place] + bytes(20) + entry[place + 20 :])
    log = work / ".nbrun" / "runs.log"
    data = bytearray(log.read_bytes())
    data[30] ^= 1
    log.write_bytes(data)
    job.samples = [*job.samples, {"id": "late", "solutions": ["a", "b", "c"], "incorrect_solutions": []}]
    disk = SimulatedDisk(work, random.Random(1), die_at=lambda disk: len(disk.acknowledged) >= 2)
    job.options = {"workers": 1}
    run_on(disk, job, work)
    shutil.rmtree(path)
    disk.power_cut(path, "kept")
    shutil.rmtree(work)
    for segment in (path / ".nbrun").glob("journal-*"):
        segment.write_bytes(b"what is this?\n" + segment.read_bytes())


def archived(job, path):
    job.start(path).wait(60)
    archive_finished(path)


def damaged_in_archive(job, path):
    archived(job, path)
    archive = path / "archive-0001.zip"
    data = bytearray(archive.read_bytes())
    data[100] ^= 0xFF
    archive.write_bytes(data)


TOOLS = {
    "repair": (damaged, lambda path: nbrun.check(path, repair=True)),
    "repair an archive": (damaged_in_archive, lambda path: nbrun.check(path, repair=True)),
    "archive": (lambda job, path: job.start(path).wait(60), archive_finished),
    "unpack": (archived, unpack_archives),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_power_is_cut_at_every_operation(tool, tmp_path):
    prepare, use = TOOLS[tool]
    seed = int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6))
    print("seed", seed)
    rng = random.Random(seed)
    job = Job(make_samples(3))
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare(job, pristine)
        try:
            before = saved(pristine)
        except ValueError:  # the broken entry: it is reported as damaged, and repair leaves it out
            job_of = shutil.copytree(pristine, tmp_path / "repaired")
            nbrun.check(job_of, repair=True)
            before = saved(job_of)
        assert before
        k = 0
        while True:
            k += 1
            at = tmp_path / f"at{k}"
            shutil.copytree(pristine, at)
            disk = SimulatedDisk(at, rng, die_at=k)
            with disk.under():
                try:
                    use(at)
                except (OSError, NbrunError):
                    assert disk.died.is_set()
            if not disk.died.is_set():
                break
            for mode in ("lost", "mixed"):
                after = tmp_path / f"at{k}{mode}"
                disk.power_cut(after, mode)
                try:
                    use(after)
                    assert saved(after) == before
                    job.start(after).wait(60)
                    assert not set(job.ran) & set(before), "it ran again although it was saved"
                    check_end(job, after)
                except BaseException as e:
                    raise AssertionError(f"seed {seed}, died at {k} ({disk.trace[-1]}), {mode}: {e!r}") from e
                shutil.rmtree(after)
            shutil.rmtree(at)
    assert k > 8
    print(tool, k, "operations")
