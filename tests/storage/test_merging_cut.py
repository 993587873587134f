"""Merging is cut: the disk refuses, the power fails, the process is killed. The target is whole or isn't there."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from merge_jobs import OLD, numbers, rows, run, tree
from power_cuts import Job, make_samples, saved
from simulated_disk import SimulatedDisk

import nbrun
from nbrun.errors import StorageError
from nbrun.storage import files
from nbrun.tools.merge import merge_results

pytestmark = pytest.mark.long


@pytest.mark.parametrize("kind", ["refuses", "dies"])
def test_the_disk_refuses_or_the_power_is_cut_at_every_operation(kind: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("NBRUN_SEED", time.time_ns() % 10**6))
    print("seed", seed)
    rng = random.Random(seed)
    job = Job(make_samples(3))
    pristine = tmp_path / "pristine"
    for name, some in (("a", job.samples[:2]), ("b", job.samples[1:])):
        half = Job(some)
        half.returned = job.returned
        half.start(pristine / name).wait(60)
    shutil.copy(OLD / "progress_complete" / "aizu_p0_1.json", pristine / "b")
    sources = {name: tree(pristine / name) for name in "ab"}
    merge_results(tmp_path / "whole", pristine / "a", pristine / "b")
    whole = saved(tmp_path / "whole")
    k = 0
    while True:
        k += 1
        at = tmp_path / f"at{k}"
        shutil.copytree(pristine, at)
        refuse = (lambda number, operation, path, k=k: 28 if number == k else None) if kind == "refuses" else None
        disk = SimulatedDisk(at, rng, **({"refuse": refuse} if refuse else {"die_at": k}))
        failed = False
        with disk.under():
            try:
                merge_results(at / "all", at / "a", at / "b")
            except StorageError:
                failed = True
        if not failed:
            assert saved(at / "all") == whole
            disk.power_cut(tmp_path / "end", "lost")
            assert saved(tmp_path / "end" / "all") == whole, "it was reported as merged"
            break
        afters = [at]
        if kind == "dies":
            afters = [tmp_path / f"at{k}{mode}" for mode in ("lost", "kept", "mixed")]
            for after in afters:
                disk.power_cut(after, after.name.removeprefix(f"at{k}"))
        for after in afters:
            try:
                for name in "ab":
                    assert {n: d for n, (d, _) in tree(after / name).items()} == {
                        n: d for n, (d, _) in sources[name].items()
                    }
                if not (after / "all").exists():
                    merge_results(after / "all", after / "a", after / "b")
                assert saved(after / "all") == whole
                assert nbrun.check(after / "all").findings == []
                assert not (after / ".all.merging").exists()
            except BaseException as e:
                raise AssertionError(f"seed {seed}, at {k} ({disk.trace[-1]}), {after.name}: {e!r}") from e
            shutil.rmtree(after)
        shutil.rmtree(at, ignore_errors=True)
    assert k > 20
    print(kind, k, "operations")


def _merge_and_die(folder: str, k: int) -> None:
    count = 0

    def die(operation: str, path: str) -> None:
        nonlocal count
        count += 1
        if count == k:
            os.kill(os.getpid(), signal.SIGKILL)

    with files.observe(die):
        merge_results(f"{folder}/all", f"{folder}/a", f"{folder}/b")


def test_a_real_kill_and_the_same_command_again(tmp_path: Path) -> None:
    samples = numbers(8)
    for i, name in enumerate("ab"):
        run(tmp_path / name, nbrun.shard(samples, i, 2)).wait(60)
    context = multiprocessing.get_context("spawn")
    for k in (3, 14, 27):
        child = context.Process(target=_merge_and_die, args=(str(tmp_path), k))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        assert not (tmp_path / "all").exists()
        assert (tmp_path / ".all.merging").exists()
    merge_results(tmp_path / "all", tmp_path / "a", tmp_path / "b")
    assert rows(tmp_path / "all").equals(rows(tmp_path / "a", tmp_path / "b"))
    assert not (tmp_path / ".all.merging").exists()
