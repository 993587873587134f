"""The form that needs no widgets: true, escaped, and made without the widget libraries."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from fake_run import FakeRun

from nbrun.model import State
from nbrun.panel import static_html, static_text

NASTY = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def nasty_run() -> FakeRun:
    run = FakeRun({NASTY: 10}, results=NASTY)
    run.end(0, "Accepted", "WrongAnswer", NASTY)
    run.fail(0, NASTY, NASTY, NASTY)
    run.message = NASTY
    return run


@pytest.mark.parametrize("state", list(State))
def test_whatever_comes_from_outside_is_text(state: State) -> None:
    run = nasty_run()
    run.state = state
    page = Tags(static_html(run.progress, css_class='x" onload="alert(3)'))
    assert set(page.tags) <= {"div", "b", "small", "code"}
    assert page.attributes <= {"class", "style", "title", "role", "aria-label"}
    assert NASTY in page.text


def test_how_it_ended_and_what_to_type_next() -> None:
    run = FakeRun({"a": 3}, results="out")
    run.end(0, "Accepted", "WrongAnswer", None)
    run.state = State.DONE
    for text in (static_text(run.progress), Tags(static_html(run.progress)).text):
        assert "Done: 2 of 3 tasks, 1 error" in text
        assert "nbrun.load_results('out')" in text
        assert "Accepted 1" in text


def test_only_what_came_of_the_run_is_in_bold() -> None:
    run = FakeRun({"a": 3}, results="out")
    run.end(0, "Accepted")
    run.state = State.STOPPED
    html = static_html(run.progress)
    assert re.findall("<b>(.*?)</b>", html) == ["Stopped after 0 s: 1 of 3 tasks"]
    assert "Start it again to go on with what is missing." in html
    assert "<code>nbrun.load_results(&#x27;out&#x27;)</code> loads the results." in html


def test_a_running_state_says_when_it_was_seen_and_how_to_go_on() -> None:
    run = FakeRun({"a": 3})
    text = static_text(run.progress)
    assert text.startswith("Running: 0 of 3 tasks")
    assert "Last seen at" in text
    assert "run the cell again" in text


def test_it_shows_what_the_panel_shows() -> None:
    run = FakeRun({"a": 30, "b": 10})
    run.end(0, "Accepted", "Accepted", "WrongAnswer", positives=True)
    run.end(0, "funny")
    run.at_work, run.waiting_at = {0: 2}, {1: 5}
    run.message = "5 waiting: HTTP 429, next in 14 s"
    run.tracker.add_metrics({"score": 0.25})
    for text in (static_text(run.progress), Tags(static_html(run.progress)).text):
        for fact in (
            "10 %",
            "2 running, 5 waiting",
            "HTTP 429",
            "1 unexpected",
            "TPR 66.7 % of 3",
            "funny 1",
            "score 0.25",
        ):
            assert fact in text
    assert 'title="waiting 5"' in static_html(run.progress)


def test_only_a_form_beside_a_widget_says_what_the_widget_needs() -> None:
    run = FakeRun({"a": 3})
    assert "anywidget" not in static_html(run.progress)
    assert "where the Jupyter server runs" in static_html(run.progress, beside_widget=True)
    run.state = State.DONE
    assert "anywidget" not in static_html(run.progress, beside_widget=True)


def test_the_end_with_errors_has_another_colour() -> None:
    run = FakeRun({"a": 2})
    run.end(0, "Accepted")
    run.state = State.DONE
    assert "#b35c00" not in static_html(run.progress)
    run.end(0, None)
    assert "#b35c00" in static_html(run.progress)


def test_the_total_may_be_unknown() -> None:
    run = FakeRun()
    assert "0 tasks" in static_text(run.progress)
    run.tracker.add_sample("a", 5)
    assert "0 tasks" in Tags(static_html(run.progress)).text


def test_no_widget_library_is_loaded_before_a_panel_is_made() -> None:
    code = (
        "import sys, nbrun.panel; nbrun.panel.static_html; "
        "print([m for m in ('ipywidgets', 'anywidget', 'IPython', 'traitlets', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
