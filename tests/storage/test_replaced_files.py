"""A file that was replaced or removed may be back after a power cut: with its own content, not with another file's.

Until the change of its name is durable, its blocks must not become another file's; ext4 with data=writeback gives them
away at once, unless the file is open.
"""

import errno
import os
import random
import sys

import pytest
from simulated_disk import SimulatedDisk

from nbrun.storage import files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux opens a file without reading it")

CHANGES = {
    "replaced": lambda path: files.replace_file(path, (b"new",), f"{path}.tmp"),
    "removed": files.remove,
}


@pytest.fixture
def folder(tmp_path):
    """A folder that is held open, with an old file and another one in it."""
    path = tmp_path / "results"
    path.mkdir()
    (path / "a.json").write_bytes(b"the old content")
    (path / "b.json").write_bytes(b"what another file holds")
    held = files.Folder(path)
    yield path
    held.release()


def nameless():
    """How many descriptors of this process belong to files that have no name any more."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").endswith(" (deleted)")
        except OSError:
            continue
    return count


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_comes_back_as_it_was(change, folder, tmp_path):
    disk = SimulatedDisk(folder, random.Random(1))
    with disk.under():
        change(folder / "a.json")
    disk.power_cut(tmp_path / "after", "lost")
    assert (tmp_path / "after" / "a.json").read_bytes() == b"the old content"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_is_kept_until_the_folder_is_synced_and_no_longer(change, folder):
    before = nameless()
    change(folder / "a.json")
    assert nameless() == before + 1

    def refuse(operation, path):
        if operation == "fsync-folder":
            raise OSError(errno.EIO, "refused", path)

    with files.observe(refuse), pytest.raises(OSError, match="refused"):
        files.sync_folder(folder)
    assert nameless() == before + 1
    files.sync_folder(folder)
    assert nameless() == before


@pytest.mark.parametrize(("count", "size"), [(300, 10), (10, 40 << 20)], ids=["many", "large"])
def test_few_are_kept_and_little(count, size, folder):
    """A process may open 1,024 files, and what has no name takes room on the disk."""
    before, most = nameless(), 0
    for _ in range(count):
        os.truncate(folder / "a.json", size)
        files.replace_file(folder / "a.json", (b"new",), folder / "a.json.tmp")
        most = max(most, nameless() - before)
    assert 0 < most <= (64 if size == 10 else 2)


class StaleHandles:
    """A disk that answers no question about a file without a name, as FUSE and NFS may."""

    def __getattr__(self, name):
        return getattr(os, name)

    @staticmethod
    def fstat(fd):
        found = os.fstat(fd)
        if found.st_nlink == 0:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return found


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_is_asked_of_it_afterwards(change, folder, monkeypatch):
    monkeypatch.setattr(files, "os", StaleHandles())
    change(folder / "a.json")
    files.sync_folder(folder)


def test_what_is_kept_goes_with_the_folder(tmp_path):
    before = nameless()
    path = tmp_path / "other"
    path.mkdir()
    (path / "a.json").write_bytes(b"old")
    held = files.Folder(path)
    files.remove(path / "a.json")
    assert nameless() == before + 1
    held.release()
    del held
    assert nameless() == before
