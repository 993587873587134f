"""Text that a program or a stranger wrote can't control a terminal and isn't run by a spreadsheet."""

import csv
import subprocess
import sys

import pandas as pd
import pytest

import nbrun
from nbrun.cli import main
from nbrun.texts import escape_control_chars

ESCAPE = "\x1b]0;title\x07\x1b[31m\u202e"
#: Characters that control a terminal.
STEERING = "\x1b\x07\x9b\u202e\r\x08"


@pytest.fixture
def hostile(tmp_path):
    """A directory whose ids, results, errors, verdicts and file names hold escape sequences and formulas."""

    def fn(task):
        print(ESCAPE)
        if task.index == 1:
            raise ValueError(ESCAPE)
        return {"accepted": True, "verdict": "=1+1", "note": "=HYPERLINK(1)", "n": -2, "text": "-2", "tests": [],
                "big": 2**60 + 1 if task.sample_id == "+1a" else None}  # fmt: skip

    d = tmp_path / "r"
    samples = [{"id": f"=cmd(){ESCAPE}", "solutions": ["@x", "y"]}, {"id": "+1a", "solutions": ["-x"]}]
    nbrun.start(samples, fn, d, groups=["solution"], view=None, retry=None, workers=1).wait(60)
    (d / f"bad{ESCAPE}.json").write_text("")
    (d / "worse\n\x1b[31m.json").write_text('{"id": "\x1b[31m", "solution_result": [')
    (d / ".nbrun" / "runs.log").open("a").write("damaged\n")
    return d


@pytest.mark.parametrize(
    "command",
    [["check"], ["status"], ["show", "ID"], ["show", "ID", "0"], ["show", "ID", "1"], ["rates"], ["errors"],
     ["check", "--repair"], ["archive"]],
    ids=" ".join,
)  # fmt: skip
def test_no_command_prints_control_characters(hostile, command, capfd):
    name, *rest = command
    main([name, str(hostile), *(f"=cmd(){ESCAPE}" if r == "ID" else r for r in rest)])
    out, err = capfd.readouterr()
    assert not [c for c in out + err if c in STEERING]


def test_no_warning_and_no_report_holds_control_characters(hostile, recwarn):
    nbrun.load_results(hostile)
    texts = [str(w.message) for w in recwarn] + [str(nbrun.check(hostile)), *map(str, nbrun.check(hostile).findings)]
    assert any("bad" in t for t in texts)
    for text in texts:
        assert not [c for c in text if c in STEERING]


def test_the_console_prints_no_control_characters(tmp_path):
    """The run is in a process of its own."""
    code = (
        "import nbrun, sys; e = sys.argv[2].encode().decode('unicode_escape')\n"
        "def fn(task):\n    raise ValueError(e)\n"
        "run = nbrun.start([{'id': e, 'solutions': [1]}], fn, sys.argv[1], groups=['solution'], view='console',"
        " retry=None)\nrun.wait(60)"
    )
    sent = r"\x1b]0;title\x07\x1b[31m"
    p = subprocess.run([sys.executable, "-c", code, str(tmp_path / "r"), sent], capture_output=True, text=True)
    assert "\x1b" not in p.stdout + p.stderr.split("Traceback")[0]


def cells(file):
    with open(file, newline="") as f:
        return [c for row in csv.reader(f) for c in row]


def test_csv_holds_no_formula_unless_asked(hostile, tmp_path):
    main(["export", str(hostile), str(tmp_path / "x.csv")])
    got = cells(tmp_path / "x.csv")
    assert not [c for c in got if c.startswith(("=", "+", "@", "\t", "\r")) or (c[:1] == "-" and c != "-2")]
    assert got.count("-2") == 4, "numbers are unchanged, also as text"
    assert "'=HYPERLINK(1)" in got
    assert str(2**60 + 1) in got
    main(["export", str(hostile), str(tmp_path / "raw.csv"), "--raw"])
    raw = cells(tmp_path / "raw.csv")
    assert [c.removeprefix("'") for c in got] == raw


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("x.json", pd.read_json),
        ("x.jsonl", lambda path: pd.read_json(path, lines=True)),
        pytest.param("x.parquet", pd.read_parquet, marks=pytest.mark.needs("pyarrow")),
    ],
)
def test_other_formats_keep_the_text_unchanged(name, read, hostile, tmp_path):
    main(["export", str(hostile), str(tmp_path / name)])
    assert set(read(tmp_path / name)["note"].dropna()) == {"=HYPERLINK(1)"}


def test_html_is_escaped(hostile, tmp_path):
    """In the panel's static view and in `show`, no part of an id, a result or an error is markup."""
    evil = "<img src=x onerror=alert(1)><script>"

    def fn(task):
        if task.index:
            raise ValueError(evil)
        return {"accepted": True, "verdict": evil, "note": evil, "tests": []}

    run = nbrun.start([{"id": evil, "solutions": [evil, "y"]}], fn, tmp_path / "h", groups=["solution"], view=None,
                      retry=None)  # fmt: skip
    run.wait(60)
    pages = [run._repr_mimebundle_()["text/html"], nbrun.show(tmp_path / "h", evil)._repr_html_()]
    pages += [nbrun.show(tmp_path / "h", evil, index=i)._repr_html_() for i in (0, 1)]
    for page in pages:
        assert "&lt;img src=x" in page
        assert "<img src=x" not in page
        assert "<script>" not in page


def test_control_characters_become_visible_signs():
    assert escape_control_chars("a\x1b[31mb\x07\x9b\u202e") == "a␛[31mb␇<U+009B><U+202E>"
    assert escape_control_chars("a\n\tb") == "a\n\tb"


@pytest.fixture
def steering_everywhere(tmp_path):
    """A directory whose groups, kinds of errors, keys and texts hold control characters and returns."""

    def fn(task):
        if task.index == 1:
            raise type("Odd", (ValueError,), {"__module__": ESCAPE})(f"{ESCAPE}\x7f")
        return {
            "verdict": ESCAPE,
            "accepted": True,
            "text": "x\r=cmd|' /C calc'!A0,\n=1",
            f"k\r=2{ESCAPE}": "\n=3",
            "wide": "＝4",
        }

    run = nbrun.start([{"id": f"a\r{ESCAPE}", "f": [1, 2]}], fn, tmp_path / "r", groups={f"g\r\x7f{ESCAPE}": "f"},
                      view=None, retry=None)  # fmt: skip
    run.wait(60)
    return run, tmp_path / "r"


def test_the_text_of_a_run_and_the_list_of_errors_hold_no_control_characters(steering_everywhere, capfd):
    run, path = steering_everywhere
    capfd.readouterr()
    main(["errors", str(path)])
    out, err = capfd.readouterr()
    for text in (run._repr_mimebundle_()["text/plain"], repr(run), repr(run.progress), out, err):
        assert not [c for c in text if c in f"{STEERING}\x7f"]


@pytest.mark.parametrize("raw", [False, True])
def test_a_carriage_return_in_a_cell_begins_no_row(steering_everywhere, tmp_path, raw):
    _, path = steering_everywhere
    main(["export", str(path), str(tmp_path / "x.csv"), *(["--raw"] if raw else [])])
    with open(tmp_path / "x.csv", newline="") as f:
        rows = list(csv.reader(f))
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(rows[0])}
    cells = [c for row in rows for c in row]
    assert "x\r=cmd|' /C calc'!A0,\n=1" in cells
    if not raw:
        assert not [c for c in cells if c.startswith(("=", "+", "@", "\t", "\r", "\n", "＝"))]
    read = pd.read_csv(tmp_path / "x.csv")
    assert read["accepted"].dropna().tolist() == [True]
    assert read["index"].tolist() == [0, 1]
