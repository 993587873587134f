"""A checksum is no validity: a record with the right one may hold anything, and costs itself alone. No command raises
anything but an error of nbrun's, and what is whole is read, kept and not made again."""

import json
import re
import shutil
import warnings
from pathlib import Path
from zlib import crc32

import pytest

import nbrun
from nbrun.canonical import digest, key_text
from nbrun.errors import NbrunError, StorageError
from nbrun.results.format import frame, unframe
from nbrun.results.reader import Reader, read_entry, read_rows, samples_digest
from nbrun.results.values import dump, load
from nbrun.tools.check import check
from nbrun.tools.merge import merge_results

OLD = [{"language": "PYTHON3", "solution": c, "result": {"accepted": True}} for c in "ab"]
SAMPLES = [
    {"id": "s", "solutions": [{"language": "PYTHON3", "solution": c} for c in "abc"]},
    {"id": "old", "solutions": [{"language": "PYTHON3", "solution": c} for c in "abc"]},
]
ODD = [
    None, True, -1, 10**30, 10**19, 1.5, "", "x", "\x00", [], [1, 2], {}, {"a": 1}, {"a": "x"}, {"solution": [[0]]},
    {"solution": [["x", "y", "z"]]}, {"solution": [[0, "k1:" + "0" * 32, 10**12]]}, "k1:" + "g" * 32, "k1:00", [[]],
]  # fmt: skip


def judge(task):
    return {"accepted": True, "v": task.index}


def start(path):
    return nbrun.start(SAMPLES, judge, path, view=None, workers=1).wait(60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory with one record of each kind, as after an unclean end."""
    path = tmp_path_factory.mktemp("whole") / "results"
    path.mkdir()
    old = json.dumps({"id": "old", "solution_result": OLD}, indent=4).encode()
    (path / "old.json").write_bytes(old)
    nbrun.start(SAMPLES[:1], judge, path, view=None).wait(60)
    entries = json.loads((path / "s.json").read_bytes())["solution_result"]
    (path / "s.json").unlink()
    inner, whose = path / ".nbrun", dump(["s", "solution"])
    header = {"id": "s", "name": "s.json", "totals": {"solution": 3}, "context": "", "identities": ""}
    attempt = {
        "key": entries[2]["key"], "occurrence": 0, "attempt": 2, "reason": "r", "hint": {"h": 1}, "previous": None,
    }  # fmt: skip
    (inner / "journal-00000001.log").write_bytes(
        frame(b"h", dump(header)) + b"".join(frame(b"e", dump(e), whose) for e in entries[:2])
        + frame(b"a", dump(attempt), whose)
    )  # fmt: skip
    keys = [key_text(digest({"language": r["language"], "solution": r["solution"]})) for r in OLD]
    match = {
        "seq": 1, "id": "old", "size": len(old), "mtime_ns": (path / "old.json").stat().st_mtime_ns,
        "crc": crc32(old), "identities": "00" * 16, "complete": False, "totals": {"solution": 3},
        "verdicts": {"Accepted": 2}, "groups": {"solution": [[i, key, 0] for i, key in enumerate(keys)]},
    }  # fmt: skip
    (inner / "matched.log").write_bytes(frame(b"m", dump(match)))
    (inner / "archived.log").write_bytes(
        frame(b"x", dump({"archive": "archive-0001.zip", "name": "s.json", "id": "s"}))
    )
    (inner / "unclean.log").write_bytes(frame(b"u", dump({"run_id": "r1", "seq": 1, "running": ["0" * 64]})))
    return path


LOGS = {
    b"h": "journal-00000001.log", b"e": "journal-00000001.log", b"a": "journal-00000001.log", b"m": "matched.log",
    b"x": "archived.log", b"r": "runs.log", b"u": "unclean.log",
}  # fmt: skip


def mutations(record):
    """Records of that kind with the right checksum that are odd in one place."""
    value, of = load(record.body), record.whose
    for key in value:
        yield {k: v for k, v in value.items() if k != key}, of
        for odd in ODD:
            yield {**value, key: odd}, of
    for odd in ODD:
        yield odd, of
    if of is not None:
        for odd in (*ODD, ["s"], ["s", 1], ["s", "solution", 1], [None, None]):
            yield value, dump(odd)
        yield value, None
    else:
        yield value, dump(["s", "solution"])


def odd_lines(kind, whole):
    path = whole / ".nbrun" / LOGS[kind]
    records = [unframe(line, 0) for line in path.read_bytes().splitlines(keepends=True)]
    record = next(r for r in records if r.kind == kind)
    lines = [frame(kind, dump(value), of) for value, of in mutations(record)]
    return [*lines, frame(b"z", dump({})), frame(kind, b"{]"), frame(kind, b"[" * 100_000), frame(kind, b"")]


ACTIONS = {
    "load": lambda d: nbrun.load_results(d),
    "entries": lambda d: nbrun.load_results(d, entries=True, tests=True),
    "samples": lambda d: nbrun.load_samples(d),
    "status": lambda d: nbrun.status(d),
    "rates": lambda d: nbrun.rates(d),
    "reader": lambda d: [v.entries for v in Reader(d).samples()],
    "rows": lambda d: [read_rows(d, i) for i in ("s", "old", "x")],
    "entry": lambda d: read_entry(d, "s", "solution", 0),
    "check": lambda d: check(d),
    "merge": lambda d: merge_results(d.parent / f"merged of {d.name}", d),
    "archive": lambda d: nbrun.archive(d),
    "unpack": lambda d: nbrun.archive(d, unpack=True),
    "start": start,
    "start again": start,
    "repair": lambda d: check(d, repair=True),
}
READING = ("load", "entries", "samples", "status", "rates", "reader", "rows", "entry", "check")


def use(action, path):
    """Read or change a directory. A reader raises nothing; an action that writes may raise an NbrunError."""
    try:
        ACTIONS[action](path)
    except NbrunError:
        if action in READING:
            raise


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", LOGS, ids=bytes.decode)
def test_records_that_are_odd_in_one_place(kind, place, whole, tmp_path):
    """All odd records of a kind at once, before the whole ones or after them."""
    lines = odd_lines(kind, whole)
    some = [lines] if place == "after" else [lines[: len(lines) // 2], lines[len(lines) // 2 :]]
    for number, odd in enumerate(some):
        for action in ACTIONS:
            path = tmp_path / f"{number} {action}"
            shutil.copytree(whole, path)
            log = path / ".nbrun" / LOGS[kind]
            kept = log.read_bytes()
            log.write_bytes(b"".join(odd) + kept if place == "before" else kept + b"".join(odd))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                use(action, path)
                if action in ("archive", "repair"):
                    start(path)
                    rows = nbrun.load_results(path)
                    assert sorted(rows[rows.sample_id == "s"]["index"]) == [0, 1, 2], action
            shutil.rmtree(path)


@pytest.mark.parametrize("kind", b"ea", ids=chr)
def test_odd_records_of_the_journal_are_damage_that_is_named_and_kept(kind, whole, tmp_path):
    kind = bytes([kind])
    path = tmp_path / "r"
    shutil.copytree(whole, path)
    log = path / ".nbrun" / LOGS[kind]
    record = next(r for r in map(unframe, log.read_bytes().splitlines(keepends=True)) if r.kind == kind)
    value = load(record.body)
    value.pop("run_id" if kind == b"e" else "hint")
    odd = frame(kind, dump(value), record.whose)
    log.write_bytes(log.read_bytes() + odd)
    if kind == b"a":
        assert [f.kind for f in check(path).findings] == ["segment"]
    calls = []
    nbrun.start(SAMPLES, lambda t: calls.append((t.sample_id, t.index)) or judge(t), path, view=None).wait(60)
    assert ("s", 1) not in calls
    kept = [f.read_bytes() for f in (path / ".nbrun" / "damaged").iterdir()]
    assert any(odd in data for data in kept)
    assert check(path).is_ok


def test_a_newer_odd_entry_does_not_hide_the_one_before(whole, tmp_path):
    """Of two entries of a task the higher seq counts, if it is an entry."""
    path = tmp_path / "r"
    shutil.copytree(whole, path)
    nbrun.start(SAMPLES, judge, path, view=None).wait(60)
    value = json.loads((path / "s.json").read_bytes())["solution_result"][0]
    odd = {**value, "seq": 500, "api_used": ["x"]}
    (path / ".nbrun" / "journal-00000009.log").write_bytes(frame(b"e", dump(odd), dump(["s", "solution"])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(nbrun.load_results(path)) == 6
        assert sum(len(v.entries) for v in Reader(path).samples()) == 6
        assert len(read_rows(path, "s")) == 3
    calls = []
    nbrun.start(SAMPLES, lambda t: calls.append(1) or judge(t), path, view=None).wait(60)
    assert not calls
    assert len(nbrun.load_results(path)) == 6


ODD_TOTALS = [
    {"tasks": {"solution": "3"}}, {"tasks": {"solution": None}}, {"tasks": {"solution": -3}},
    {"tasks": {"solution": []}}, {"tasks": ["solution"]}, {"samples": "2"}, {"samples": -2}, {"samples": True},
    {"samples": None, "tasks": {"x": {}}},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_TOTALS, ids=repr)
def test_a_run_record_with_invalid_counts_gives_no_totals(odd, whole, tmp_path):
    """The newest record counts alone, so each odd one is the last of its log."""
    for action in ACTIONS:
        path = tmp_path / action
        shutil.copytree(whole, path)
        log = path / ".nbrun" / "runs.log"
        newest = load(unframe(log.read_bytes().splitlines(keepends=True)[-1]).body)
        with log.open("ab") as f:
            f.write(frame(b"r", dump({**newest, **odd})))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use(action, path)


@pytest.mark.parametrize("total", ["3", None, -3, [], {}, 1.5], ids=repr)
def test_a_file_whose_progress_holds_no_counts_is_counted_by_its_entries(total, tmp_path):
    """Its header record is gone, so its last lines are all that names totals, and no checksum covers them."""
    ready = tmp_path / "ready"
    nbrun.start(SAMPLES[:1], judge, ready, view=None).wait(60)
    file = ready / "s.json"
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"total_solutions": 3', b'"total_solutions": ' + dump(total)))
    assert file.read_bytes() != data
    value = json.loads(data)["solution_result"][0]
    entry = {**value, "seq": 500}
    (ready / ".nbrun" / "journal-00000009.log").write_bytes(frame(b"e", dump(entry), dump(["s", "solution"])))
    for action in ACTIONS:
        path = tmp_path / action
        shutil.copytree(ready, path)
        ACTIONS[action](path)
        assert len(nbrun.load_results(path)) >= 3


def test_entries_whose_times_another_tool_has_left_out_count_all_the_same(tmp_path):
    ready = tmp_path / "ready"
    nbrun.start(SAMPLES[:1], judge, ready, view=None).wait(60)
    file = ready / "s.json"
    kept = file.read_bytes()
    file.write_bytes(re.sub(rb'"(attempts|started_at|duration_s)":[^,]*,', b"", kept))
    assert file.read_bytes().count(b"started_at") == 0 < kept.count(b"started_at")
    for action in ACTIONS:
        path = tmp_path / action
        shutil.copytree(ready, path)
        ACTIONS[action](path)
        rows = nbrun.load_results(path)
        assert sorted(rows[rows.sample_id == "s"]["index"]) == [0, 1, 2]
    assert [row.time_s for row in read_rows(ready, "s")] == [None] * 3
    merged = merge_results(tmp_path / "twice", ready, tmp_path / "load")
    assert (merged.entries, merged.dropped.same) == (3, 3)


# ---- old files


def archived_before_it_was_matched(path):
    path.mkdir()
    (path / "old.json").write_text(json.dumps({"id": "old", "solution_result": OLD}, indent=4))
    assert nbrun.archive(path).samples == 1


def test_an_old_file_that_was_archived_before_it_was_matched_is_continued(tmp_path):
    path = tmp_path / "r"
    archived_before_it_was_matched(path)
    calls = []
    for _ in range(2):
        nbrun.start(SAMPLES[1:], lambda t: calls.append(t.index) or judge(t), path, view=None).wait(60)
    assert calls == [2]
    assert nbrun.load_results(path)["index"].tolist() == [0, 1, 2]


def test_one_that_stays_archived_is_matched_once(tmp_path):
    path = tmp_path / "r"
    archived_before_it_was_matched(path)
    sample = {**SAMPLES[1], "solutions": SAMPLES[1]["solutions"][:2]}
    for _ in range(3):
        nbrun.start([sample], lambda t: pytest.fail("it runs again"), path, view=None).wait(60)
    assert nbrun.load_results(path)["index"].tolist() == [0, 1]
    assert len((path / ".nbrun" / "matched.log").read_bytes().splitlines()) == 1
    assert not (path / "old.json").exists()


OLD_ODD = [None, 5, -1.5, True, "", [], {}, ["x"], {"a": {}}]


@pytest.mark.parametrize(
    "field", ["language", "solution", "result", "api_used", "worker_id", "progress", "more_result"]
)
def test_old_files_with_odd_fields(field, tmp_path):
    for number, odd in enumerate(OLD_ODD):
        for action in ("entries", "rows", "status", "check", "archive", "start", "repair"):
            path = tmp_path / f"{number} {action}"
            path.mkdir()
            value = {"id": "old", "solution_result": [dict(r) for r in OLD], "api_used": "u", "worker_id": "w"}
            if field in ("language", "solution", "result"):
                value["solution_result"][0][field] = odd
            else:
                value[field] = odd
            (path / "old.json").write_text(json.dumps(value, indent=4))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    ACTIONS[action](path)
                    assert len(nbrun.load_results(path)) >= 2 or field == "more_result"
                    if action == "start":
                        start(path)
                except NbrunError as e:
                    raise AssertionError(f"{action}, {field} = {odd!r}: {e}") from e
            assert Path(path).exists()
            shutil.rmtree(path)


# ---- numbers and lists that a stranger has made, with the right checksum


def with_summary(file, sample_id, **fields):
    """Change a file's summary and seal it again."""
    found = re.search(rb'"summary": (\{.*),"check":"[0-9a-f]{8}"\},\n', data := file.read_bytes())
    summary = dump({**json.loads(found[1] + b"}"), **fields})
    check = crc32(summary, crc32(dump(sample_id)))
    line = b'"summary": %b,"check":"%08x"},\n' % (summary[:-1], check)
    file.write_bytes(data[: found.start()] + line + data[found.end() :])


def with_run(path, **fields):
    """Add a run record that differs in these fields."""
    log = path / ".nbrun" / "runs.log"
    newest = load(unframe(log.read_bytes().splitlines(keepends=True)[-1]).body)
    log.write_bytes(log.read_bytes() + frame(b"r", dump({**newest, **fields})))


@pytest.mark.parametrize("seq", [10**17, 10**18 - 1, 10**18, 2**63 - 1, 10**30])
@pytest.mark.parametrize("place", ["summary", "run", "entry"])
def test_a_seq_that_no_run_reaches_costs_no_result(seq, place, tmp_path):
    """New results are numbered after it, where no reader takes them for results: it is damage, or a refusal."""
    path = tmp_path / "r"
    nbrun.start(SAMPLES[:1], judge, path, view=None).wait(60)
    if place == "summary":
        with_summary(path / "s.json", "s", max_seq=seq)
    elif place == "run":
        with_run(path, seq=seq)
    else:
        entry = {**json.loads((path / "s.json").read_bytes())["solution_result"][0], "seq": seq}
        (path / ".nbrun" / "journal-00000009.log").write_bytes(frame(b"e", dump(entry), dump(["s", "solution"])))
    if seq < 10**18:
        with pytest.raises(StorageError, match="can't be numbered"):
            start(path)
    else:
        assert start(path).done == 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(nbrun.load_results(path)) == (3 if seq < 10**18 else 6)


@pytest.mark.parametrize("odd", ["x", [1], {}, -1, 2**70], ids=repr)
def test_a_summary_with_an_odd_number_of_unexpected_results(odd, tmp_path):
    ready = tmp_path / "ready"
    nbrun.start(SAMPLES[:1], judge, ready, view=None).wait(60)
    for action in ACTIONS:
        path = tmp_path / action
        shutil.copytree(ready, path)
        with_summary(path / "s.json", "s", unexpected=odd)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ACTIONS[action](path)
            assert len(nbrun.load_results(path)) >= 3


ODD_LISTS = [
    "\n", "x", "5", "[]", '[["s"],3]', '["s"]', '["s","x"]', '["s",-3]', '["s",null]', '[5,3]', '"abc"', "[" * 2000,
    '["s",3,4]', '{"s":3}', '["s",1.5]', '["s",36893488147419103232]',
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_LISTS, ids=lambda odd: odd[:20])
def test_a_list_of_samples_with_the_right_digest_may_hold_anything(odd, tmp_path):
    ready = tmp_path / "ready"
    nbrun.start(SAMPLES[:1], judge, ready, view=None).wait(60)
    data = b'["solution"]\n' + odd.encode()
    (ready / ".nbrun" / "samples").write_bytes(data)
    with_run(ready, samples=1, tasks={"solution": 3}, samples_digest=samples_digest(data))
    for action in ("samples", "status", "rates", "load", "merge", "start", "check"):
        path = tmp_path / action
        shutil.copytree(ready, path)
        ACTIONS[action](path)
    assert nbrun.status(ready).done == 3


def test_a_match_record_of_an_index_beyond_the_format_is_damage(whole, tmp_path):
    """Merged, its entry would be written with that index, which no reader takes for one."""
    path = tmp_path / "r"
    shutil.copytree(whole, path)
    log = path / ".nbrun" / "matched.log"
    log.write_bytes(frame(b"m", log.read_bytes().split(b"\t")[2].rstrip(b"\n").replace(b"[[0,", b"[[12345678901,")))
    target = tmp_path / "merged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = len(nbrun.load_results(path))
        merge_results(target, path)
        assert len(nbrun.load_results(target)) == before


@pytest.mark.parametrize("number", ["2147483647", "4000000000", "9" * 18, "9" * 30, "9" * 230], ids=len)
def test_a_segment_of_any_number_is_read_and_followed(number, tmp_path):
    path = tmp_path / "r"
    three = [{"id": "n", "solutions": ["p", "e", "q"]}]

    def fn(task):
        if task.item == "e":
            raise ValueError("no")
        return {"n": 1}

    nbrun.start(three, fn, path, view=None, retry=None).wait(60)
    entry = {**json.loads((path / "n.json").read_bytes())["solution_result"][2], "seq": 50, "result": {"n": 2}}
    line = frame(b"e", dump(entry), dump(["n", "solution"]))
    (path / ".nbrun" / f"journal-{number}.log").write_bytes(line)
    four = [{"id": "n", "solutions": ["p", "e", "q", "r"]}]
    progress = nbrun.start(four, fn, path, view=None, retry=None).wait(60)
    assert (progress.done, progress.errors) == (3, 1)
    assert sorted(nbrun.load_results(path)["n"].dropna()) == [1, 1, 2]
    assert check(path).is_ok
