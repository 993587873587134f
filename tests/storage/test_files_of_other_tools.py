"""A file that another tool has rewritten means the same: its `format` field says what it is, its layout does not."""

import io
import json
import shutil
import threading
from pathlib import Path

import orjson
import pandas as pd
import pytest

import nbrun
from nbrun import cli
from nbrun.results import sample_file
from nbrun.results.format import frame
from nbrun.results.reader import Reader, read_rows
from nbrun.results.sample_file import load_entry
from nbrun.tools.archive import archive_finished, unpack_archives
from nbrun.tools.check import check
from nbrun.tools.merge import merge_results
from tests.waiting import until

COLUMNS = ["status", "attempts", "run_id", "key", "occurrence", "source"]


def is_own_layout(file):
    """Whether a file begins and ends as nbrun writes it."""
    return file.read(len(sample_file.OWN_HEAD)) == sample_file.OWN_HEAD and sample_file.ends_as_own(file)


def reordered(data):
    value = json.loads(data)
    first = ["id", "things_result", "other_result", "progress", "summary", "worker_id", "api_used", "format"]
    out = {k: value[k] for k in first}
    out["things_result"] = [dict(reversed(list(e.items()))) for e in out["things_result"]]
    return json.dumps(out, indent=4).encode()


def without_summary(data):
    value = json.loads(data)
    del value["summary"]
    return json.dumps(value).encode()


def one_entry_over_several_lines(data):
    lines = data.split(b"\n")
    at = next(i for i, line in enumerate(lines) if line.startswith(b'{"index":1,'))
    lines[at] = json.dumps(json.loads(lines[at].rstrip(b",")), indent=2).encode() + b","
    return b"\n".join(lines)


REWRITTEN = {
    "indented": lambda d: json.dumps(json.loads(d), indent=2, ensure_ascii=False).encode(),
    "tabs and ascii": lambda d: json.dumps(json.loads(d), indent="\t").encode(),
    "one line": lambda d: json.dumps(json.loads(d)).encode(),
    "compact": lambda d: orjson.dumps(orjson.loads(d)),
    "sorted keys": lambda d: json.dumps(json.loads(d), sort_keys=True, indent=4).encode(),
    "any order": reordered,
    "crlf": lambda d: d.replace(b"\n", b"\r\n"),
    "byte order mark": lambda d: b"\xef\xbb\xbf" + d,
    "utf-16": lambda d: d.decode().encode("utf-16"),
    "no last line feed": lambda d: d.rstrip(b"\n"),
    "a line feed more": lambda d: d + b"\n\n",
    "one entry by hand": one_entry_over_several_lines,
    "no summary": without_summary,
}
ITEMS = [{"q": 1}, {"q": "ü\u2028"}, {"q": 3}, {"q": 3}]


def judge(task):
    if task.item == ITEMS[1]:
        raise ValueError("nö")
    return {"v": task.item["q"], "accepted": task.item["q"] == 3, "null": None, "big": 2**63 + 1}


judge.settings = {"name": "judge"}


def samples(items=ITEMS, sample_id="ä/1"):
    return [{"id": sample_id, "a": items, "b": [{"q": 9}]}]


def run(path, given, fn=judge, **more):
    live = nbrun.start(
        given, fn, path, workers=2, retry=None, view=None, groups={"things": "a", "other": "b"}, **more
    )  # fmt: skip
    live.wait(60)
    assert live.progress.state == "done", live.progress
    return live


def loaded(path):
    frame = nbrun.load_results(path, entries=True)
    return frame.sort_values(["group", "index"]).reset_index(drop=True)


def file_of(path):
    [file] = path.glob("*.json")
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "results"
    run(path, samples())
    return path


@pytest.fixture(params=REWRITTEN)
def rewritten(made, tmp_path, request):
    """A results directory, and the same with a file that was rewritten."""
    path = tmp_path / "results"
    shutil.copytree(made, path)
    file = file_of(path)
    file.write_bytes(REWRITTEN[request.param](file.read_bytes()))
    return path


def test_every_view_shows_the_same(made, rewritten):
    before, after = loaded(made), loaded(rewritten)
    assert before[COLUMNS].astype(str).equals(after[COLUMNS].astype(str))
    assert before["entry"].tolist() == after["entry"].tolist()
    assert not after.attrs["problems"]
    rows = [
        sorted((r.group, r.index, r.status, r.verdict, r.time_s, r.attempts) for r in read_rows(d, "ä/1"))
        for d in (made, rewritten)
    ]  # fmt: skip
    assert rows[0] == rows[1]
    bodies = [
        sorted((load_entry(b) for _, b in view.entries), key=lambda e: e["seq"])
        for d in (made, rewritten) for view in Reader(d).samples()
    ]  # fmt: skip
    assert bodies[0] == bodies[1]
    status = nbrun.status(rewritten)
    assert (status.done, status.errors, status.problems) == (4, 1, 0)
    assert check(rewritten).findings == []


def test_its_last_lines_are_counted_from_its_entries(made, rewritten):
    before, after = sample_file.peek(file_of(made)), sample_file.peek(file_of(rewritten))
    without = ("identities",) if "summary" not in json.loads(_text(file_of(rewritten))) else ()
    assert {k: v for k, v in before.summary.items() if k not in without} == {
        k: v for k, v in after.summary.items() if k not in without
    }
    assert before.progress == after.progress
    assert after.size == file_of(rewritten).stat().st_size


def _text(file):
    data = file.read_bytes()
    return data.decode("utf-16" if data[:2] == b"\xff\xfe" else "utf-8-sig")


def test_a_run_goes_on_and_writes_it_in_its_own_layout(rewritten):
    calls = []
    run(rewritten, samples(ITEMS[::-1]), lambda t: calls.append(t.item) or judge(t))
    assert calls == [ITEMS[1]]  # the error alone, although all items stand elsewhere
    rows = loaded(rewritten)
    assert rows[rows.group == "things"]["status"].tolist() == ["done", "done", "error", "done"]
    with open(file_of(rewritten), "rb") as f:
        assert is_own_layout(f)
    calls.clear()
    run(rewritten, samples([*ITEMS[::-1], {"q": 5}]), lambda t: calls.append(t.item["q"]) or {"v": 1})
    assert sorted(map(str, calls)) == ["5", "ü\u2028"]
    assert check(rewritten).findings == []
    assert nbrun.status(rewritten).done == 6


def test_a_finished_one_stays_as_it_is(made, rewritten):
    run(rewritten, samples(), lambda t: {"v": 1})
    file = file_of(rewritten)
    data = REWRITTEN["indented"](file.read_bytes())
    file.write_bytes(data)
    calls = []
    run(rewritten, samples(), lambda t: calls.append(1) or {"v": 1})
    assert not calls
    assert file.read_bytes() == data


def test_it_is_archived_merged_and_repaired_as_any_other(rewritten, tmp_path):
    before = loaded(rewritten)
    check(rewritten, repair=True)
    assert cli.main(["merge", str(tmp_path / "merged"), str(rewritten)]) == 0
    run(rewritten, samples(), lambda t: {"v": 1})
    full = loaded(rewritten)
    file = file_of(rewritten)
    file.write_bytes(REWRITTEN["sorted keys"](file.read_bytes()))
    assert archive_finished(rewritten).samples == 1
    assert loaded(rewritten)["entry"].tolist() == full["entry"].tolist()
    assert unpack_archives(rewritten).samples == 1
    assert loaded(rewritten)["entry"].tolist() == full["entry"].tolist()
    assert loaded(tmp_path / "merged")["entry"].tolist() == before["entry"].tolist()


def test_what_is_no_entry_costs_itself_alone(made, tmp_path):
    shutil.copytree(made, tmp_path / "r")
    file = file_of(tmp_path / "r")
    value = json.loads(file.read_bytes())
    value["things_result"][2]["seq"] = "x"
    value["things_result"].insert(0, [1, "], \n"])
    file.write_bytes(json.dumps(value, indent=1).encode())
    [finding] = check(tmp_path / "r").findings
    assert "2 damaged" in finding.what
    assert len(loaded(tmp_path / "r")) == 4
    assert loaded(tmp_path / "r").attrs["problems"] == 1
    calls = []
    run(tmp_path / "r", samples(), lambda t: calls.append(t.item) or judge(t))
    assert len(calls) == 2
    assert nbrun.status(tmp_path / "r").done == 4


def test_a_newer_format_is_refused_in_any_layout(made, tmp_path):
    shutil.copytree(made, tmp_path / "r")
    file = file_of(tmp_path / "r")
    value = json.loads(file.read_bytes()) | {"format": "nbrun/99"}
    file.write_bytes(json.dumps(value, sort_keys=True).encode())
    with pytest.raises(nbrun.errors.FormatError, match="nbrun/99"):
        run(tmp_path / "r", samples())


def test_entries_of_nbruns_without_the_field_are_no_old_ones(made, tmp_path):
    shutil.copytree(made, tmp_path / "r")
    file = file_of(tmp_path / "r")
    file.write_bytes(file.read_bytes().replace(b'"format"', b'"formXt"'))
    assert loaded(tmp_path / "r")[COLUMNS].equals(loaded(made)[COLUMNS])


def test_numbers_beyond_64_bits_stay_what_they_are(made):
    data = file_of(made).read_bytes().replace(b'"big":9223372036854775809', b'"big":1234567890123456789012345', 1)
    again = sample_file.convert_foreign(REWRITTEN["indented"](data))
    assert again.count(b'"big":1234567890123456789012345') == 1


def test_cut_short_it_is_no_file(made):
    data = REWRITTEN["indented"](file_of(made).read_bytes())
    for size in range(0, len(data) - 2, 97):
        assert sample_file.convert_foreign(data[:size]) is None
        assert isinstance(sample_file.read_any(io.BytesIO(data[:size])), bytes)


EXTRA = {"note": 'hard\n"q"', "tags": ["a", {"b": None}], "n": 12345678901234567890123, "": 0}


def with_extra(file, how):
    """Add keys to a file, as a tool would that re-serialises it, or one that inserts lines."""
    data = file.read_bytes()
    if how == "re-serialised":
        file.write_text(json.dumps(EXTRA | json.loads(data), indent=1))
    else:
        lines = "".join(f"{json.dumps(k)}: {json.dumps(v)},\n" for k, v in EXTRA.items())
        at = data.index(b'"api_used": ') if how == "behind the entries" else data.index(b'"id": ')
        file.write_bytes(data[:at] + lines.encode() + data[at:])


@pytest.mark.parametrize("how", ["re-serialised", "behind the entries", "before the id"])
def test_keys_that_another_tool_has_added_are_kept(made, tmp_path, how):
    path = tmp_path / "r"
    shutil.copytree(made, path)
    file = file_of(path)
    with_extra(file, how)
    for items in ([*ITEMS, {"q": 5}], [*ITEMS, {"q": 5}, {"q": 6}], [*ITEMS, {"q": 5}]):
        run(path, samples(items), lambda t: {"v": 1})
        value = json.loads(file.read_bytes())
        assert {k: value.get(k) for k in EXTRA} == EXTRA
        with open(file, "rb") as f:
            assert is_own_layout(f)
        assert check(path).findings == []


@pytest.mark.parametrize("how", ["progress", "legacy"])
def test_keys_that_were_added_to_a_file_of_the_older_program_are_kept(tmp_path, how):
    row = {"language": "PYTHON3", "solution": "1", "result": {"accepted": True}}
    progress = {"completed_solutions": 1, "total_solutions": 2, "is_complete": False}
    value = {"id": "s", "solution_result": [row]} | EXTRA | ({"progress": progress} if how == "progress" else {})
    (tmp_path / "s.json").write_text(json.dumps(value, indent=4))
    sample = {"id": "s", "solutions": {"language": [3, 3], "solution": ["1", "2"]}}
    nbrun.start([sample], lambda t: {"accepted": True}, tmp_path, view=None).wait(60)
    now = json.loads((tmp_path / "s.json").read_bytes())
    assert now["format"] == "nbrun/1"
    assert len(now["solution_result"]) == 2
    assert {k: now.get(k) for k in EXTRA} == EXTRA


def test_added_keys_outlive_a_kill_and_a_merge(made, tmp_path):
    """A killed run's results are in the journal; the next opening writes the file."""
    path = tmp_path / "r"
    shutil.copytree(made, path)
    file = file_of(path)
    with_extra(file, "re-serialised")
    entry = json.loads(file.read_bytes())["things_result"][0] | {"seq": 900}
    body = json.dumps(entry, separators=(",", ":")).encode()
    whose = json.dumps([json.loads(file.read_bytes())["id"], "things"], ensure_ascii=False).encode()
    (path / ".nbrun" / "journal-00000077.log").write_bytes(frame(b"e", body, whose))
    assert cli.main(["merge", str(tmp_path / "merged"), str(path)]) == 0
    check(path, repair=True)
    for one in (path, tmp_path / "merged"):
        value = json.loads(file_of(one).read_bytes())
        assert value["things_result"][0]["seq"] == 900
        assert {k: value.get(k) for k in EXTRA} == EXTRA


def test_a_directory_whose_logs_got_other_line_ends_means_the_same(tmp_path):
    """An interrupted directory in git, checked out where it turns line ends of text files into CR LF."""
    path, copy = tmp_path / "r", tmp_path / "copy"
    samples = [{"id": "a", "things": list(range(30))}, {"id": "b", "things": ["x", "y"]}]
    go_on = threading.Event()

    def fn(task):
        if task.item == 29:
            go_on.wait(60)
        if task.item == "y" and task.attempt == 1:
            return nbrun.Retry("later", after_s=60, hint={"h": 1})
        return {"n": task.item}

    run = nbrun.start(samples, fn, path, groups=["thing"], view=None, workers=2)
    log = path / ".nbrun" / "journal-00000001.log"
    until(lambda: run.progress.saved == 30 and run.progress.waiting == 1 and b'{"h":1}' in log.read_bytes())
    before = nbrun.load_results(path)
    shutil.copytree(path, copy)
    go_on.set()
    run.stop()
    for file in filter(Path.is_file, copy.rglob("*")):
        data = file.read_bytes()
        if b"\0" not in data:
            file.write_bytes(data.replace(b"\n", b"\r\n"))
    assert b"\r\n" in (copy / ".nbrun" / "journal-00000001.log").read_bytes()
    assert check(copy).is_ok
    assert len(read_rows(copy, "a")) == 29
    pd.testing.assert_frame_equal(nbrun.load_results(copy), before)
    ran = []

    def again(task):
        ran.append((task.item, task.attempt, task.hint))
        return {"n": task.item}

    nbrun.start(samples, again, copy, groups=["thing"], view=None).wait(60)
    assert sorted(ran, key=str) == [("y", 2, {"h": 1}), (29, 1, {})]
    assert len(nbrun.load_results(copy)) == 32
    assert check(copy).is_ok


def test_readers_agree_on_files_that_are_too_large_to_be_parsed_at_once(tmp_path, tuning):
    """A file as nbrun writes it is read whatever its size; of any other too large one every reader says the same."""
    samples = [{"id": name, "things": list(range(40))} for name in ("own", "damaged", "other")]
    results = tmp_path / "results"
    nbrun.start(samples, lambda task: {"n": task.index}, results, groups=["things"], view=None).wait(60)
    data = (results / "damaged.json").read_bytes()
    (results / "damaged.json").write_bytes(data.replace(b'"seq"', b'"sex"', 1))
    other = REWRITTEN["indented"]((results / "other.json").read_bytes())
    (results / "other.json").write_bytes(other)
    tuning(max_whole_bytes=3000)
    sentence = f"has {len(other):,} bytes; a file that nbrun has not laid out itself is read only up to 3,000"
    with pytest.warns(UserWarning, match="and 1 more"):
        rows = nbrun.load_results(results)
    assert rows.sample_id.value_counts().to_dict() == {"own": 40, "damaged": 39}
    reader = Reader(results)
    assert {view.sample_id: len(view.entries) for view in reader.samples()} == {"own": 40, "damaged": 39}
    assert sum(sentence in str(problem) for problem in reader.problems) == 1
    assert [len(read_rows(results, name)) for name in ("own", "damaged", "other")] == [40, 39, 0]
    found = {Path(f.path).name: f.what for f in check(results).findings}
    assert found == {"damaged.json": "has 1 damaged entry", "other.json": sentence}
    merged = merge_results(tmp_path / "merged", results)
    assert merged.entries == 79
    assert any(sentence in problem for problem in merged.problems)
    again = []
    nbrun.start(samples, lambda t: again.append(t.sample_id) or {}, results, groups=["things"], view=None).wait(60)
    assert again == ["other"] * 40
    assert (results / ".nbrun" / "damaged" / "other.json.0").read_bytes() == other
