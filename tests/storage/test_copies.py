"""Files of another copy of the directory, or of a backup, put beside the present ones: no result is lost or doubled."""

import json
import shutil
import warnings

import pytest

import nbrun
from nbrun.results.follow import Follower
from nbrun.results.format import frame
from nbrun.tools.archive import archive_finished, unpack_archives
from nbrun.tools.check import check

ITEMS = [10, 20, 30]


def run(path, ran=None, fails=(), items=ITEMS):
    def fn(task):
        if ran is not None:
            ran.append(task.item)
        if task.item in fails:
            raise ValueError("no")
        return {"v": task.item}

    fn.settings = {}
    live = nbrun.start(
        [{"id": "a", "items": items}], fn, path, groups={"it": "items"}, workers=2, view=None, retry=None
    )
    live.wait(60)
    return live


def loaded(path):
    """Each task's value, None for an error; asserted to be there once, and to be counted alike in each view."""
    rows = nbrun.load_results(path)
    assert rows["index"].is_unique, rows
    values = {row.index: int(row.v) if row.status == "done" else None for row in rows.itertuples(index=False)}
    done = sum(v is not None for v in values.values())
    status, [sample] = nbrun.status(path), nbrun.load_samples(path).itertuples()
    assert (status.done, sample.completed_its) == (done, done)
    assert (status.errors, sample.errors) == (len(values) - done, len(values) - done)
    return values


def in_journal(path, *entries):
    """Put entries into a segment, as a run that is killed leaves them."""
    whose = json.dumps(["a", "it"]).encode()
    records = [frame(b"e", json.dumps(e, separators=(",", ":")).encode(), whose) for e in entries]
    (path / ".nbrun" / "journal-00000077.log").write_bytes(b"".join(records))


def entries_of(path):
    return json.loads((path / "a.json").read_bytes())["it_result"]


def as_error(entry):
    return entry | {"status": "error", "result": None, "error": {"type": "ValueError", "message": "no"}}


def test_a_result_that_only_the_journal_has_outlives_a_file_with_a_higher_seq(tmp_path):
    """Two copies of a directory went on; the file of one was put beside the journal of the other."""
    run(tmp_path)
    third = entries_of(tmp_path)[2]
    shutil.rmtree(tmp_path / ".nbrun")
    (tmp_path / "a.json").unlink()
    run(tmp_path, items=ITEMS[:2])
    assert max(e["seq"] for e in entries_of(tmp_path)) >= 2
    in_journal(tmp_path, third | {"seq": 1, "result": {"v": 31}})
    assert loaded(tmp_path) == {0: 10, 1: 20, 2: 31}
    ran = []
    run(tmp_path, ran)
    assert ran == []
    assert loaded(tmp_path) == {0: 10, 1: 20, 2: 31}
    assert not list((tmp_path / ".nbrun").glob("journal-00000077.log"))


@pytest.fixture
def edited(tmp_path):
    """Return a directory without a result of its last item, and the result of the item that was there before."""
    run(tmp_path)
    third = entries_of(tmp_path)[2]
    shutil.rmtree(tmp_path / ".nbrun")
    (tmp_path / "a.json").unlink()
    run(tmp_path, fails=[31], items=[10, 20, 31])
    return tmp_path, third


@pytest.mark.parametrize("where", ["journal", "file", "indented file"])
def test_a_result_of_an_item_that_was_edited_does_not_count_for_its_successor(edited, where):
    path, third = edited
    if where == "journal":
        in_journal(path, third)
    else:
        file = path / "a.json"
        whole = json.loads(file.read_bytes())
        whole["it_result"][2] = third | {"seq": whole["summary"]["max_seq"]}
        file.write_text(json.dumps(whole, indent=2))
        if where == "file":
            assert check(path, repair=True).is_ok
    ran = []
    for _ in range(2):
        run(path, ran, items=[10, 20, 31])
    assert ran == [31]
    rows = nbrun.load_results(path)
    assert dict(zip(rows["index"], rows.v, strict=True)) == {0: 10, 1: 20, 2: 31}


def test_a_sample_whose_results_were_all_in_the_journal_is_finished_by_its_last_lines(tmp_path):
    languages = [1, 0, 3]  # the second isn't run
    samples = [
        {"id": "a", "items": [1, 2, 2], "solutions": {"language": languages, "solution": ["x", "y", "z"]}},
        {"id": "b", "items": [], "solutions": {"language": [1], "solution": ["x"]}},
    ]
    groups = {"item": "items", "solution": "solutions"}
    nbrun.start(samples, lambda task: {}, tmp_path, groups=groups, view=None).wait(60)
    before = {file: json.loads(file.read_bytes()) for file in tmp_path.glob("*.json")}
    for file, whole in before.items():
        lists = ((name[:-7], entries) for name, entries in whole.items() if name.endswith("_result"))
        lines = [
            frame(b"e", json.dumps(e, separators=(",", ":")).encode(), json.dumps([whole["id"], group]).encode())
            for group, entries in lists
            for e in entries
        ]
        header = {"id": whole["id"], "name": file.name, "totals": {g: whole["progress"][f"total_{g}s"] for g in groups}}
        header["identities"] = whole["summary"]["identities"]
        lines.insert(0, frame(b"h", json.dumps(header).encode()))
        (tmp_path / ".nbrun" / f"journal-{ord(whole['id']):08d}.log").write_bytes(b"".join(lines))
        file.unlink()
    assert check(tmp_path, repair=True).is_ok
    after = {file: json.loads(file.read_bytes()) for file in tmp_path.glob("*.json")}
    assert {file: w["summary"]["identities"] for file, w in after.items()} == {
        file: w["summary"]["identities"] for file, w in before.items()
    }
    assert all(w["progress"]["is_complete"] for w in after.values())


@pytest.mark.parametrize(
    "name",
    [
        "journal-00000077 (1).log",
        "journal-00000077 (conflicted copy 2026-01-02).log",
        "journal-00000077-laptop.log",
        "journal-00000077.sync-conflict-20260102-030405-ABCDEFG.log",
        "journal-00000077 copy\n.log",
    ],
)
def test_a_segment_that_was_renamed_by_a_program_that_syncs_folders_is_read(tmp_path, name):
    run(tmp_path)
    second, third = entries_of(tmp_path)[1:]
    shutil.rmtree(tmp_path / ".nbrun")
    (tmp_path / "a.json").unlink()
    run(tmp_path, items=ITEMS[:1])
    in_journal(tmp_path, second | {"seq": 1, "result": {"v": 21}}, third)
    inner = tmp_path / ".nbrun"
    (inner / "journal-00000077.log").rename(inner / name)
    in_journal(tmp_path, second | {"seq": 50})  # the newer one
    assert loaded(tmp_path) == {0: 10, 1: 20, 2: 30}
    follower = Follower(tmp_path)
    follower.look()
    assert follower.counts["a"].done == 3
    assert check(tmp_path).is_ok
    ran = []
    run(tmp_path, ran)
    assert ran == []
    assert loaded(tmp_path) == {0: 10, 1: 20, 2: 30}
    assert len(list((inner / "damaged").iterdir())) == 1
    assert not [segment for segment in inner.glob("journal-*") if not segment.stem[8:].isdigit()]


@pytest.mark.parametrize("where", ["file", "archive"])
def test_an_error_with_a_higher_seq_hides_no_result(tmp_path, where):
    run(tmp_path)
    in_journal(tmp_path, as_error(entries_of(tmp_path)[1]) | {"seq": 900})
    if where == "archive":
        journal = tmp_path / ".nbrun" / "journal-00000077.log"
        data = journal.read_bytes()
        journal.unlink()
        archive_finished(tmp_path)
        journal.write_bytes(data)
    assert loaded(tmp_path) == {0: 10, 1: 20, 2: 30}
    ran = []
    run(tmp_path, ran)
    assert ran == []
    assert loaded(tmp_path) == {0: 10, 1: 20, 2: 30}


@pytest.mark.parametrize("layout", ["nbrun's", "indented"])
@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda e: e | {"result": {"v": 21}}, 20),
        (lambda e: e | {"result": {"v": 21}, "seq": e["seq"] + 900}, 21),
        (lambda e: e | {"result": {"v": 21}, "seq": 0}, 20),
        (lambda e: as_error(e) | {"seq": 900}, 20),
        (lambda e: as_error(e) | {"seq": 0}, 20),
    ],
    ids=["same seq", "higher seq", "lower seq", "later error", "earlier error"],
)
def test_a_file_that_holds_one_task_twice_counts_it_once(tmp_path, layout, change, value):
    """A merge of git puts lines of two versions together."""
    run(tmp_path)
    file = tmp_path / "a.json"
    lines = file.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith('{"index":1,'))
    twin = change(json.loads(lines[at].rstrip(",")))
    lines.insert(at + 1, json.dumps(twin, separators=(",", ":")) + ",")
    file.write_text("\n".join(lines))
    if layout == "indented":
        file.write_text(json.dumps(json.loads(file.read_text()), indent=2))
    expected = {0: 10, 1: value, 2: 30}
    assert loaded(tmp_path) == expected
    assert check(tmp_path).is_ok
    ran = []
    run(tmp_path, ran)
    assert ran == []
    archive_finished(tmp_path)
    assert loaded(tmp_path) == expected
    unpack_archives(tmp_path)
    assert loaded(tmp_path) == expected


@pytest.fixture
def archived(tmp_path):
    """A directory whose sample was archived, beside which the file of an earlier backup was put."""
    run(tmp_path, fails=[20])
    backup = (tmp_path / "a.json").read_bytes()
    run(tmp_path)
    archive_finished(tmp_path)
    (tmp_path / "a.json").write_bytes(backup)
    return tmp_path


def test_an_old_file_beside_an_archive_hides_nothing(archived):
    assert loaded(archived) == {0: 10, 1: 20, 2: 30}
    assert "older than the same sample in archive-0001.zip" in str(check(archived))
    ran = []
    run(archived, ran)
    assert ran == []
    assert loaded(archived) == {0: 10, 1: 20, 2: 30}


def test_an_old_file_beside_an_archive_is_kept_when_that_is_unpacked(archived):
    backup = (archived / "a.json").read_bytes()
    unpack_archives(archived)
    assert not list(archived.glob("*.zip"))
    assert loaded(archived) == {0: 10, 1: 20, 2: 30}
    assert [p.read_bytes() for p in (archived / ".nbrun" / "damaged").iterdir()] == [backup]


def test_an_archive_stays_while_a_file_of_the_older_program_may_lack_something_of_it(tmp_path):
    rows = [{"language": "PYTHON3", "solution": s, "result": {"accepted": True}} for s in "xyz"]
    whole = {"id": "p", "solution_result": rows, "incorrect_solution_result": []}
    (tmp_path / "p.json").write_text(json.dumps(whole))
    archive_finished(tmp_path)
    (tmp_path / "p.json").write_text(json.dumps(whole | {"solution_result": rows[:1]}))
    [problem] = unpack_archives(tmp_path).problems
    assert "archive-0001.zip stays" in problem
    assert (tmp_path / "archive-0001.zip").exists()
    (tmp_path / "p.json").write_text(json.dumps(whole))
    assert not unpack_archives(tmp_path).problems
    assert not (tmp_path / "archive-0001.zip").exists()


def halves(path, copied):
    """Two computers went on with copies of one directory: each has results that the other lacks."""
    run(path / "r", items=ITEMS[:1])
    shutil.copytree(path / "r", path / "other")
    run(path / "r", items=ITEMS, fails=[30])
    run(path / "other", items=ITEMS, fails=[20])
    shutil.copy(path / "other" / "a.json", path / "r" / copied)
    return path / "r"


@pytest.mark.parametrize("name", ["a (1).json", "a (conflicted copy 2026-01-02).json", "0.json"])
@pytest.mark.parametrize("act", ["run", "repair", "archive"])
def test_results_that_only_a_conflicted_copy_holds_are_not_made_again(tmp_path, name, act):
    path = halves(tmp_path, name)
    assert len(loaded_quietly(path)) == 3
    if act == "repair":
        assert check(path, repair=True).is_ok
    elif act == "archive":
        archive_finished(path)
    ran = []
    live = run(path, ran)
    assert ran == []
    assert loaded(path) == {0: 10, 1: 20, 2: 30}
    if act == "run":
        assert "1 result that only it held is in that one now" in live.progress.message
    assert check(path).is_ok
    assert len(list((path / ".nbrun" / "damaged").iterdir())) == 1
    assert run(path, ran).progress.message == ""


def test_a_conflicted_copy_that_adds_nothing_stays_where_it_is(tmp_path):
    run(tmp_path)
    kept = (tmp_path / "a.json").read_bytes()
    (tmp_path / "a (1).json").write_bytes(kept)
    run(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.json")} == {"a.json": kept, "a (1).json": kept}


def test_results_that_only_an_older_file_beside_an_archive_holds_are_not_made_again(tmp_path):
    path = halves(tmp_path, "other.json")
    (path / "other.json").rename(tmp_path / "older.json")
    samples = [{"id": "a", "items": ITEMS[:2]}]
    for redo in (None, "all"):  # the second gives each result a higher seq
        live = nbrun.start(
            samples, lambda task: {"v": task.item}, path, groups={"it": "items"}, redo=redo, view=None, workers=1
        )
        live.wait(60)
    archive_finished(path)
    assert list(path.glob("archive-*.zip"))
    shutil.copy(tmp_path / "older.json", path / "a.json")
    assert "older than the same sample in archive-0001.zip" in str(check(path))
    ran = []
    run(path, ran)
    assert ran == []
    assert loaded(path) == {0: 10, 1: 20, 2: 30}
    assert check(path).is_ok


def loaded_quietly(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nbrun.load_results(path)
