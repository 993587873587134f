"""show: one entry as a person reads it, from a row, a frame or a directory; hostile output stays visible text."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

import nbrun
from nbrun.entry_view import difference, view_entry
from nbrun.errors import InputError
from nbrun.frames.inspect import Overview
from nbrun.panel.widget import entry_of
from nbrun.texts import escape_control_chars
from tests.frames.judged_runs import judged, problem, run

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)></pre>\x1b]0;owned\x07\x1b[2J\x00\r\u202egnp.exe&lt;\u2028end"
)


class Elements(HTMLParser):
    """Every element and attribute of a piece of HTML, and its text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def hostile(task):
    result = judged("WrongAnswer")
    run = result["tests"][1]["exec_info"]["run_result"] = {
        "status": HOSTILE, "execution_time": 0.5, "return_code": 0, "stdout": HOSTILE, "stderr": HOSTILE}  # fmt: skip
    result["tests"][1]["test_info"]["input"]["stdin"] = HOSTILE
    result["attempts"] = [{HOSTILE: HOSTILE, "time_limit_s": 2}]
    assert run
    return result


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "r"
    sample = problem(HOSTILE, [], [])
    sample["solutions"] = [{"language": HOSTILE, "solution": f"print(1) # {HOSTILE}\n" * 3}]
    run([sample], path, hostile)
    return path


def test_a_row_shows_itself(judged_run):
    df = nbrun.load_results(judged_run)
    row = df[df.verdict == "WrongAnswer"].iloc[0]
    text = str(nbrun.show(row))
    assert text.startswith("p1 · solution[2]   PYTHON3\ndone: WrongAnswer\n")
    assert "tests passed: 1 of 2" in text
    assert "   1 | WrongAnswer 2" in text
    assert "failing test 1: WrongAnswer" in text
    assert "    - 1\n    + 2" in text
    html = nbrun.show(row)._repr_html_()
    found = Elements(html)
    assert "✗ WrongAnswer" in found.text
    assert "- 1" in found.text
    assert "+ 2" in found.text
    assert repr(nbrun.show(row)) == text


@pytest.mark.parametrize(
    ("group", "index", "wanted"),
    [
        ("solution", 0, "tests passed: 2 of 2"),
        ("solution", 1, "failing test 1: TimeLimitExceeded"),
        ("incorrect_solution", 0, "stderr\n    boom"),
        ("incorrect_solution", 1, "ValueError: no such word"),
        ("incorrect_solution", 2, "JudgeError"),
    ],
)
def test_each_kind_of_entry(judged_run, group, index, wanted):
    shown = nbrun.show(judged_run, "p2", group, index)
    assert wanted in str(shown)
    assert wanted.split("\n")[-1].strip() in Elements(shown._repr_html_()).text.replace("Failing", "failing")


def test_a_row_finds_its_directory_among_several(judged_run, hostile_run):
    df = nbrun.load_results([judged_run, hostile_run])
    for i in (0, len(df) - 1):
        assert nbrun.show(df.iloc[i]).status == df.status[i]
    filtered = df[df.sample_id == "p1"].sort_values("index").reset_index(drop=True)
    assert "p1 · solution[0]" in str(nbrun.show(filtered.iloc[:1]))
    row = filtered.iloc[0]
    row.attrs.clear()
    with pytest.raises(InputError, match=r"results=\.\.\."):
        nbrun.show(row)
    assert nbrun.show(row, results=judged_run).status == "done"
    full = nbrun.load_results(judged_run, entries=True)
    full.attrs.clear()
    assert nbrun.show(full.iloc[0]).verdict == "Accepted", "a row with its entry needs no directory"


def test_an_old_directory(old):
    path = old("progress_killed_resumed")
    df = nbrun.load_results(path)
    for i in range(0, len(df), 7):
        shown = nbrun.show(df.iloc[i])
        assert shown.verdict == df.verdict[i]
        assert shown.source
    assert nbrun.show(path, df.sample_id[0], "solution", 0).verdict == df.verdict[0]


def test_without_index_it_lists_the_sample(judged_run):
    overview = nbrun.show(judged_run, "p2")
    assert isinstance(overview, Overview)
    assert list(overview.table["index"]) == [0, 1, 0, 1, 2, 3]
    assert "p2: 6 results" in str(overview)
    assert "ValueError: no such word" in overview._repr_html_()
    assert len(nbrun.show(judged_run, "p2", "solution").table) == 2


def test_hostile_text_is_only_text(hostile_run):
    """No element, attribute or control character of a program's output gets through, wherever it is."""
    for shown in (nbrun.show(hostile_run, HOSTILE, "solution", 0), nbrun.show(hostile_run, HOSTILE)):
        html, text = shown._repr_html_(), str(shown)
        found = Elements(html)
        allowed = {"div", "style", "h4", "h5", "strong", "span", "pre", "table", "tr", "th", "td", "p", "code", "thead",
                   "tbody"}  # fmt: skip
        assert set(found.tags) <= allowed
        assert {name for name, _ in found.attributes} <= {"class", "style", "border"}
        assert "alert(1)" in found.text or isinstance(shown, Overview)
        for out in (text, html):
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", out)


def test_plain_results_and_items(tmp_path):
    samples = [{"id": "a", "prompts": ["how?", {"q": 1}]}]
    run(samples, tmp_path / "r", lambda task: {"answer": "because", "n": 3}, groups=["prompt"])
    text = str(nbrun.show(tmp_path / "r", "a", index=0))
    assert "how?" in text
    assert '"answer": "because"' in text
    assert '"q": 1' in str(nbrun.show(tmp_path / "r", "a", "prompt", 1))
    run(samples, tmp_path / "bare", lambda task: {"n": 3}, groups=["prompt"], keep_items=False)
    assert "was not kept" in str(nbrun.show(tmp_path / "bare", "a", index=0))
    assert "was not kept" in nbrun.show(tmp_path / "bare", "a", index=0)._repr_html_()


def test_what_is_not_there(judged_run):
    df = nbrun.load_results(judged_run)
    with pytest.raises(InputError, match=r"no sample .p3.\. Did you mean .p"):
        nbrun.show(judged_run, "p3")
    with pytest.raises(InputError, match=r"no sample 'zzzz'\. It holds 2 samples: 'p1', 'p2'\."):
        nbrun.show(judged_run, "zzzz")
    with pytest.raises(InputError, match="no group 'prompt'; it has solution, incorrect_solution"):
        nbrun.show(judged_run, "p1", "prompt", 0)
    with pytest.raises(InputError, match="no saved solution with index 9; there are 3, from 0 to 2"):
        nbrun.show(judged_run, "p1", "solution", 9)
    with pytest.raises(InputError, match="say which sample"):
        nbrun.show(judged_run)
    with pytest.raises(InputError, match="has 11 rows"):
        nbrun.show(df)
    with pytest.raises(TypeError, match="lacks key, occurrence"):
        nbrun.show(df.drop(columns=["key", "occurrence"]).iloc[0])
    with pytest.raises(InputError, match="no such folder"):
        nbrun.show("nowhere", "p1")


def test_the_difference_of_long_outputs_is_short():
    a = "\n".join(map(str, range(100_000)))
    b = a.replace("\n50000\n", "\n50001\n")
    rows = difference(a, b)
    assert rows[0] == ("…", "49,997 equal lines before")
    assert ("-", "50000") in rows
    assert ("+", "50001") in rows
    assert len(rows) < 20
    assert difference("1\n", "") == [("-", "1")]
    assert difference("--- a\nx\n", "--- b\nx\n") == [("-", "--- a"), ("+", "--- b"), (" ", "x")]
    assert len(difference("a" * 10_000, "b" * 10_000)[0][1]) < 600
    assert escape_control_chars("\ud800") == "<U+D800>"


LONG = 10**5000


@pytest.mark.parametrize(
    "changes",
    [
        {"result": {"tests": [{"passed": False, "exec_info": {"run_result": {"execution_time": LONG}}}]}},
        {"result": {"tests": [{"passed": False, "exec_info": {"run_result": {"return_code": LONG}}}]}},
        {"result": {"tests": [], "limits": {"time": LONG, "all": [LONG]}, "attempts": [{"n": LONG, "of": [LONG]}]}},
        {"result": LONG, "item": LONG},
        {"duration_s": LONG},
        {"attempts": LONG},
        *({"started_at": moment} for moment in (1e300, float("nan"), float("-inf"), -1e18)),
        {"error": {"type": LONG, "message": LONG}},
        {"error": {"traceback": [LONG]}},
    ],
)
def test_numbers_of_any_size_can_be_looked_at(changes):
    entry = {"index": 0, "key": "k1:" + "0" * 32, "occurrence": 0, "status": "done", "result": {}, "attempts": 1}
    shown = view_entry("p", "solution", entry | changes)
    assert "p · solution[0]" in str(shown)
    assert "p · solution[0]" in Elements(shown._repr_html_()).text
    assert entry_of(entry | changes)["texts"]


def test_shown_are_frames_of_any_kind(judged_run):
    row = pd.Series({"sample_id": "p1", "group": "solution", "key": "k1:" + "0" * 32, "occurrence": 0})
    with pytest.raises(InputError, match=r"not in .* any more"):
        nbrun.show(row, results=judged_run)
