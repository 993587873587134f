"""Commands that read results: status, rates, compare, show, export, as text and as JSON."""

import json
import re
import shutil
import threading

import pandas as pd
import pytest

import nbrun
from nbrun.cli import main
from nbrun.cli.commands import make_parser
from tests.frames.judged_runs import PROBLEMS, problem, run


@pytest.fixture
def typed(capsys):
    """Run a command; return its exit code, its stdout and its stderr."""

    def typed(*args):
        code = main([str(a) for a in args])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


def test_status(typed, judged_run):
    code, out, _ = typed("status", judged_run)
    assert code == 0
    assert "done                        10" in out
    assert json.loads(typed("status", judged_run, "--json")[1]) == {
        "samples": 2, "samples_complete": 1, "done": 10, "errors": 1, "total": 11, "problems": 0,
        "is_total_known": True,
    }  # fmt: skip


def test_status_of_several_directories_adds_them_up(typed, judged_run):
    code, out, _ = typed("status", judged_run, judged_run)
    assert code == 0
    assert out.splitlines() == [
        *[f"{judged_run}: 10 of 11 done, 1 error, 1 of 2 samples complete"] * 2,
        "all: 20 of 22 done, 2 errors, 2 of 4 samples complete",
    ]
    rows = json.loads(typed("status", judged_run, judged_run, "--json")[1])
    assert [(row["results"], row["done"]) for row in rows] == [(str(judged_run), 10)] * 2


def test_errors_lists_kinds_then_tasks(typed, judged_run, tmp_path):
    code, out, _ = typed("errors", judged_run)
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["ValueError", "no", "such"]
    assert f"nbrun show {judged_run} p2 1 --group incorrect_solution" in out, "a command that shows one"
    (row,) = json.loads(typed("errors", judged_run, "--kind", "ValueError", "--json")[1])
    assert (row["sample_id"], row["index"], row["message"]) == ("p2", 1, "no such word")
    code, out, err = typed("errors", judged_run, "--kind", "OSError")
    assert (code, out) == (2, "")
    assert "ValueError" in err, "the kinds that there are"
    run(PROBLEMS[:1], tmp_path / "clean")
    assert typed("errors", tmp_path / "clean")[1] == "No task ended in an error.\n"
    assert typed("errors", tmp_path / "clean", "--json")[1] == "[]\n"


def test_every_command_has_a_help_page_with_examples_that_parse(typed, capsys):
    parser = make_parser()
    names = re.findall(r"^ {4}(\w+)", parser.format_help(), re.M)
    assert {"demo", "status", "errors", "rates", "compare", "show", "archive", "merge", "export", "check"} <= set(names)
    for name in names:
        with pytest.raises(SystemExit):
            parser.parse_args([name, "--help"])
        page, _, examples = capsys.readouterr().out.partition("examples:\n")
        assert examples.strip(), name
        for example in examples.strip().splitlines():
            parser.parse_args(example.split()[1:])
        for argument in re.findall(r"^  (?=\S).*(?:\n {4,}.*)*", page, re.M):
            assert re.search(r"\S(?: {2}|\n) *\S", argument), f"{name}: {argument} has no help"


def test_status_watches_until_all_is_done(typed, gate, tmp_path):
    live = nbrun.start([problem("p1", ["Accepted"] * 6, [])], gate, tmp_path / "r", workers=2, view=None)
    threading.Timer(0.2, gate.passes.release, [100]).start()
    code, out, _ = typed("status", tmp_path / "r", "--watch", "0.05", "--json")
    live.wait(60)
    assert code == 0
    counts = [json.loads(line)["done"] for line in out.splitlines()]
    assert counts == sorted(counts)
    assert counts[-1] == 6
    assert len(counts) > 1
    assert "6 of 6 done, 1 of 1 samples complete" in typed("status", tmp_path / "r", "--watch")[1]


def test_rates(typed, judged_run):
    code, out, _ = typed("rates", judged_run)
    assert code == 0
    assert out.splitlines()[1].split() == ["p1", "0.667", "0.500", "3", "2", "0", "0"]
    rows = json.loads(typed("rates", judged_run, "--by", "language", "--json")[1])
    assert [r["language"] for r in rows] == ["CPP", "PYTHON3"]
    (row,) = json.loads(typed("rates", judged_run, "--by", "all", "--average", "macro", "--json")[1])
    assert row["tpr"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    code, out, err = typed("rates", judged_run, "--by", "color")
    assert (code, out) == (2, "")
    assert err.startswith("nbrun: rates: these results lack the column color; there are sample_id, group, index, ")


def test_compare(typed, judged_run, tmp_path):
    other = tmp_path / "r"
    run(PROBLEMS[:1], other, lambda task: {"accepted": True, "tests": [], "verdict": "Accepted"})
    code, out, _ = typed("compare", judged_run, other)
    assert code == 0
    assert "n_compared" in out
    assert "McNemar" in out
    printed = json.loads(typed("compare", judged_run, other, "--by", "sample_id", "--json")[1])
    assert [r["n_compared"] for r in printed["rates"]] == [5, 0]
    assert sum(r["n"] for r in printed["confusion"]) == 11
    assert printed["mcnemar"][0]["n_compared"] == 5
    third = shutil.copytree(judged_run, tmp_path / "third")
    printed = json.loads(typed("compare", judged_run, other, third, "--json")[1])
    assert len(printed["mcnemar"]) == 2
    assert "confusion" not in printed
    assert typed("compare", judged_run)[0] == 2
    assert "given twice" in typed("compare", judged_run, judged_run)[2]


def test_show(typed, judged_run):
    assert "p2: 6 results" in typed("show", judged_run, "p2")[1]
    assert "TimeLimitExceeded" in typed("show", judged_run, "p2", "1")[1]
    assert len(json.loads(typed("show", judged_run, "p2", "--json")[1])) == 6
    shown = json.loads(typed("show", judged_run, "p2", "1", "--group", "incorrect_solution", "--json")[1])
    assert shown["error"]["type"] == "ValueError"
    code, _, err = typed("show", judged_run, "p3")
    assert code == 2
    assert "no sample 'p3'" in err


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_export(typed, judged_run, tmp_path, suffix):
    file = tmp_path / f"out.{suffix}"
    code, out, _ = typed("export", judged_run, file)
    assert code == 0
    assert out == f"11 results written to {file}.\n"
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv}.get(suffix)
    df = read(file) if read else pd.read_json(file, lines=suffix == "jsonl")
    assert df.sample_id.tolist() == nbrun.load_results(judged_run).sample_id.tolist()
    before = file.read_bytes()
    code, out, err = typed("export", judged_run, file)
    assert (code, out) == (2, "")
    assert "--force" in err
    assert file.read_bytes() == before, "nothing is replaced without being asked"
    assert json.loads(typed("export", judged_run, file, "--json", "--force")[1])["rows"] == 11
    assert [p.name for p in tmp_path.iterdir()] == [file.name], "nothing is left beside"


def test_what_cannot_be_exported(typed, judged_run, tmp_path):
    assert "ends in none of" in typed("export", judged_run, tmp_path / "out.xlsx")[2]
    assert "no folder" in typed("export", judged_run, tmp_path / "nowhere" / "out.csv")[2]
    (tmp_path / "out.csv").mkdir()
    code, _, err = typed("export", judged_run, tmp_path / "out.csv", "--force")
    assert code == 2
    assert "is a folder" in err
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("name", ["compare", "show", "errors", "export"])
def test_what_is_no_results_directory(typed, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    more = {"compare": ["file"], "show": ["p1"], "errors": [], "export": ["x.csv"]}[name]
    for path, reason in (("nowhere", "no such folder"), ("file", "is a file"), ("empty", "holds no results")):
        code, out, err = typed(name, tmp_path / path, *more)
        assert (code, out) == (2, "")
        assert reason in err
        assert err.count("\n") == 1
