"""A results directory that a stranger sent: nothing outside it is written, removed or read, and no reader hangs.

Each test makes a sound directory, puts one thing into it that a hostile or careless sender may put there, and does all
that a user may do with it (strangers.py). What the thing is must be reported where it matters.
"""

import os
import shutil
import socket
import stat
import zipfile
import zlib

import orjson
import pytest
from strangers import do

import nbrun
from nbrun.errors import InputError, ResultsError
from nbrun.results import listing, plain_files
from nbrun.results.format import HEADER, frame
from nbrun.storage import files
from nbrun.tools.merge import merge_results

PRECIOUS = "precious\n"


class Around:
    """A home with a precious file, and beside it a results directory `d` of one finished sample."""

    def __init__(self, root):
        (root / "home").mkdir(parents=True)
        (root / "home" / "precious.txt").write_text(PRECIOUS)
        self.root, self.home, self.d = root, root / "home", root / "in" / "results"
        nbrun.start([{"id": "a", "solutions": ["x"]}], lambda task: {}, self.d, groups=["solution"], view=None).wait(60)

    def check(self):
        assert {p.name: p.read_text() for p in self.home.iterdir()} == {"precious.txt": PRECIOUS}
        assert not list(self.root.rglob("evil*"))


@pytest.fixture
def several(tmp_path):
    """Makes surroundings, does everything in each of them at the end of `with`, and looks at what came of it."""

    def do_all(spoil, cases):
        around = []
        for number, case in enumerate(cases):
            around.append(Around(tmp_path / str(number)))
            spoil(around[-1], case)
        found = do(*(a.d for a in around))
        for a in around:
            a.check()
        return list(zip(cases, around, found, strict=True))

    return do_all


# ---- names


def an_archive(d, name, data=b"import os\n", *, head=b'{"format":"nbrun-archive/1"}', **lies):
    """An archive whose index says what it likes."""
    index = [head]
    with zipfile.ZipFile(d / "archive-0001.zip", "w", zipfile.ZIP_DEFLATED) as z:
        m = zipfile.ZipInfo("x.json")
        m.compress_type = zipfile.ZIP_DEFLATED
        z.writestr(m, data)
        line = {
            "name": name, "id": "x", "source": "legacy", "mtime_ns": 10**18, "size": m.file_size,
            "packed": m.compress_size, "crc": m.CRC, "offset": m.header_offset, "summary": None, "progress": None,
        }  # fmt: skip
        index.append(orjson.dumps(line | lies))
        start = z.fp.tell()
        z.writestr("index.nbrun", b"\n".join(index) + b"\n")
        z.comment = b"nbrun-archive/1 index=%d" % start


LEGACY = orjson.dumps({"id": "x", "solution_result": [{"language": "C", "solution": "y", "result": {}}]})


NAMES = [
    "../../home/evil.pth", "../../home/precious.txt", "../../home/evil.json", "ABSOLUTE", "sub/x.json", "..", ".", "",
    ".nbrun/lock", ".nbrun/x.json", "x.json\x00y", "x" * 300 + ".json", "x.txt", None, 7, ["x.json"],
]  # fmt: skip


def assert_archive_is_kept(a):
    """Repair has put what can be read of it into files, and nothing of it is gone."""
    assert nbrun.check(a.d).is_ok
    assert zipfile.is_zipfile(a.d / ".nbrun" / "damaged" / "archive-0001.zip.0")


def test_a_name_in_an_archive_is_no_path(several):
    def spoil(a, name):
        an_archive(a.d, str(a.home / "evil.json") if name == "ABSOLUTE" else name, LEGACY)
        assert "archive-0001.zip has a member" in str(nbrun.check(a.d))

    for _, a, found in several(spoil, NAMES):
        assert (found["load"], found["load again"]) == ("ok 1", "ok 4")
        assert_archive_is_kept(a)


def test_a_line_in_an_index_may_say_anything(several):
    lies = [
        {"size": 10**18}, {"packed": 10**18}, {"offset": -1}, {"offset": 10**15}, {"size": "1"}, {"id": None},
        {"source": "nbrun"}, {"source": "x"}, {"source": "nbrun", "summary": {"max_seq": []}}, {"progress": [1]},
        {"mtime_ns": 1.5}, {"crc": 1.5},
    ]  # fmt: skip

    def spoil(a, lie):
        an_archive(a.d, "x.json", LEGACY, **lie)
        assert "archive-0001.zip has a member" in str(nbrun.check(a.d))

    for _, a, found in several(spoil, lies):
        assert found["load again"] == "ok 4"
        assert_archive_is_kept(a)


def test_a_member_may_begin_at_an_archive_s_last_bytes(several):
    """Its own header would go on behind the end."""

    def spoil(a, room):
        an_archive(a.d, "x.json", LEGACY)
        size = (a.d / "archive-0001.zip").stat().st_size
        an_archive(a.d, "x.json", LEGACY, offset=size - room, packed=0)
        assert "x.json is damaged in archive-0001.zip" in str(nbrun.check(a.d))

    for _, _, found in several(spoil, [12]):
        assert (found["load"], found["load again"]) == ("ok 1", "ok 4")


def test_an_index_may_begin_with_any_value(several):
    """The archive is read by the ZIP file's own directory then."""
    heads = [b"[]", b"null", b"7", b'"x"', b"{"]
    for _, a, found in several(lambda a, head: an_archive(a.d, "x.json", LEGACY, head=head), heads):
        assert (found["load"], found["load again"]) == ("ok 2", "ok 4")
        assert nbrun.check(a.d).is_ok


def test_a_member_s_own_name_is_no_path_where_the_index_is_lost(several):
    def spoil(a, names):
        with zipfile.ZipFile(a.d / "archive-0001.zip", "w", zipfile.ZIP_DEFLATED) as z:
            for name in names:
                z.writestr(name, LEGACY)
        assert "evil.json" in str(nbrun.check(a.d))

    for _, a, found in several(spoil, [("../../home/evil.json", "sub/x.json", "/evil.json")]):
        assert found["load again"] == "ok 4"
        assert_archive_is_kept(a)


def test_a_name_in_a_journal_s_header_is_no_path(several):
    """A sample that only the journal holds gets a name of its own."""

    def spoil(a, name):
        body = next(line for line in (a.d / "a.json").read_bytes().splitlines() if line.startswith(b'{"index"'))
        header = {"id": "z", "name": name, "totals": {"solution": 1}, "context": ""}
        (a.d / ".nbrun" / "journal-00000009.log").write_bytes(
            frame(HEADER, orjson.dumps(header)) + frame(b"e", body.rstrip(b","), orjson.dumps(["z", "solution"]))
        )

    for _, a, found in several(spoil, NAMES):
        assert found["load again"] == "ok 5"
        assert (a.d / "z.json").is_file()


# ---- links


INSIDE = [
    ".nbrun", ".nbrun/tmp", ".nbrun/damaged", ".nbrun/cache", ".nbrun/lock", ".nbrun/running", ".nbrun/known",
    ".nbrun/runs.log", ".nbrun/matched.log", ".nbrun/unclean.log", ".nbrun/archived.log",
    ".nbrun/journal-00000009.log", ".nbrun/tmp/x.json.tmp", ".nbrun/damaged/x.json.0",
    "a.json", "x.json", "archive-0001.zip",
]  # fmt: skip


def put(path, make):
    """Something else in the place of what is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    make(path)


@pytest.mark.parametrize("to", ["home", "home/precious.txt", "home/missing"])
def test_a_link_is_not_followed(several, to):
    def spoil(a, inside):
        put(a.d / inside, lambda path: path.symlink_to(a.root / to))

    for inside, a, found in several(spoil, INSIDE):
        if inside == ".nbrun":
            refused = {name for name, what in found.items() if "symbolic link" in what or "StorageError" in what}
            assert refused >= found.keys() - {"export", "panel"}, found
        elif inside.startswith(".nbrun/") and inside.count("/") == 1:
            assert found["start"].startswith("StorageError")
            assert f"{inside} is a symbolic link" in found["start"]
            assert f"{inside} is a symbolic link" in str(nbrun.check(a.d))
            assert found["load"] == "ok 1"
        else:
            assert found["start"] == "ok"
        if "/" not in inside and inside != ".nbrun":
            assert f"{inside} is a symbolic link" in str(nbrun.check(a.d)) or inside == "a.json"


def test_the_results_directory_itself_may_be_a_link(tmp_path):
    a = Around(tmp_path / "around")
    (tmp_path / "link").symlink_to(a.d)
    [found] = do(tmp_path / "link")
    assert all(what.startswith("ok") for what in found.values()), found
    assert len(nbrun.load_results(a.d)) == 4


def test_what_a_merge_left_may_not_be_a_link(tmp_path):
    a = Around(tmp_path / "around")
    (a.d.parent / ".new.merging").symlink_to(a.home)
    with pytest.raises((ResultsError, InputError), match=r"\.new\.merging"):
        merge_results(a.d.parent / "new", a.d)
    a.check()


def test_a_second_name_of_a_file_elsewhere_is_not_written_through(several):
    """A hard link, as backups are made of them."""

    def spoil(a, inside):
        put(a.d / ".nbrun" / inside, lambda path: os.link(a.home / "precious.txt", path))

    several(spoil, ["lock", "running", "runs.log", "matched.log", "unclean.log", "archived.log", "known"])


# ---- other kinds of files


def a_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


KINDS = {"pipe": os.mkfifo, "socket": a_socket, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}
if os.geteuid() == 0:
    KINDS["real device"] = lambda p: os.mknod(p, stat.S_IFCHR | 0o666, os.makedev(1, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_read(several, kind):
    def spoil(a, inside):
        put(a.d / inside, KINDS[kind])

    cases = [i for i in INSIDE if i not in (".nbrun", ".nbrun/tmp", ".nbrun/damaged", ".nbrun/cache")]
    for inside, _, found in several(spoil, cases):
        assert found["load"] == ("ok 0" if inside == "a.json" else "ok 1"), inside


# ---- sizes


def test_a_file_full_of_holes_is_refused(several):
    def spoil(a, name):
        with open(a.d / name, "ab") as f:
            f.write(b'{\n"format": "nbrun/1",\n"id": "own",\n' if name == "own.json" else b"")
            f.truncate(50 << 30)

    names = ["sparse.json", "own.json", ".nbrun/journal-00000009.log", ".nbrun/known", ".nbrun/runs.log",
             ".nbrun/matched.log", ".nbrun/running", "archive-0001.zip"]  # fmt: skip
    for name, a, found in several(spoil, names):
        assert found["load"] == "ok 1"
        assert "has holes" in str(nbrun.check(a.d)) or name.endswith(("known", "running")), name


def test_json_that_is_nested_too_deep_is_refused(several):
    def spoil(a, depth):
        deep = "[" * depth + "]" * depth
        for kind, text in {
            "row": '{"id": "%s", "solution_result": [{"language": "C", "solution": "", "result": %s}]}',
            "rows": '{"id": "%s", "solution_result": %s}',
            "progress": '{"id": "%s", "solution_result": [], "progress": {"a": %s}}',
        }.items():
            (a.d / f"{kind}.json").write_text(text % (kind, deep))

    several(spoil, [100, 300, 900, 1_000, 1_020, 1_100, 10_000, 1_000_000])


def test_a_zip_bomb_is_refused(several):
    """600 MB of zeros in 600 KB, under a true index and under one with a false size."""
    data = b'{"id": "x", "solution_result": []' + bytes(600 << 20) + b"}"
    for _, _, found in several(lambda a, lies: an_archive(a.d, "x.json", data, **lies), [{}, {"size": 100}]):
        assert found["load"] == "ok 1"


def test_what_would_be_taken_for_a_bomb_is_not_archived(tmp_path):
    """What could not be unpacked again stays in its file."""
    d = tmp_path / "r"
    fn = lambda task: {"pad": "x" * (80 << 20)}  # noqa: E731
    nbrun.start([{"id": "a", "solutions": ["x"]}], fn, d, groups=["solution"], view=None).wait(60)
    assert listing.is_bomb(len(zlib.compress((d / "a.json").read_bytes(), 6)), (d / "a.json").stat().st_size)
    nbrun.archive(d)
    assert (d / "a.json").exists()
    assert len(nbrun.load_results(d)) == 1


# ---- permissions


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        d = tmp_path / "r"
        nbrun.start([{"id": "a", "solutions": ["x"]}], lambda task: {}, d, groups=["solution"], view=None).wait(60)
        nbrun.load_results(d)
        nbrun.archive(d)
        nbrun.archive(d, unpack=True)
    finally:
        os.umask(before)
    for path in (d, *d.rglob("*")):
        assert not path.stat().st_mode & 0o077, f"{path} {path.stat().st_mode:o}"


def test_a_folder_that_is_held_is_the_one_that_is_written(tmp_path):
    """Operations on names in a held folder go to it wherever it is; released, by the path again."""
    (tmp_path / "a").mkdir()
    held = files.Folder(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    assert held.path_now() == str(tmp_path / "b")
    files.replace_file(tmp_path / "a" / "f", (b"1",), tmp_path / "a" / "f.tmp")
    files.AppendFile(tmp_path / "a" / "g", new=True).close()
    assert sorted(os.listdir(tmp_path / "b")) == ["f", "g"]
    with files.open_reading(tmp_path / "a" / "f") as f:
        assert f.read() == b"1"
    with pytest.raises(FileNotFoundError):
        plain_files.open_reading(tmp_path / "a" / "f")
    files.remove(tmp_path / "a" / "f")
    held.release()
    files.replace_file(tmp_path / "a" / "h", (b"1",), tmp_path / "a" / "h.tmp")
    assert (os.listdir(tmp_path / "a"), os.listdir(tmp_path / "b")) == (["h"], ["g"])
