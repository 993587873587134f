"""The panel in a plain page, in each of its states: what it says, what it lets people do, at any width, to anybody."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_run import Driver, FakeRun, samples
from page import Shown, running_browser, static_html

import nbrun
from nbrun.model import State, TaskSummary
from nbrun.panel.actions import ACTIONS, Action, actions_script
from nbrun.panel.widget import Panel
from tests.views import controls_of

pytestmark = [pytest.mark.long, pytest.mark.needs("chromium", "playwright")]
PICTURES = Path(__file__).parent.parent / "pictures"
TRACE = 'Traceback (most recent call last):\n  File "a", line 2, in fn\n    task.item["missing"]\nKeyError: missing'
HEIGHTS = """Object.fromEntries(['.nbrun-overall', '.nbrun-controls', '.nbrun-strip', '.nbrun-samples'].map((name) =>
  [name, document.querySelector(name).getBoundingClientRect().top]))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    PICTURES.mkdir(exist_ok=True)
    with running_browser() as browser:
        yield browser


@pytest.fixture
def show(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Shows a run's panel in a page of its own; a picture is taken at the end."""
    shown: list[Shown] = []
    errors: list[str] = []

    def show_run(run: FakeRun, *, width: int = 980, forced: bool = False, **more: Any) -> Shown:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, forced_colors="active" if forced else None
        )
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        shown.append(Shown(page, run, **more))
        return shown[-1]

    yield show_run
    for number, one in enumerate(shown):
        name = re.sub(r"\W+", "_", request.node.name)[:80]
        one.picture(PICTURES / f"page_{name}{number or ''}.png")
        if isinstance(one.run, FakeRun):
            one.run.state = State.STOPPED
        one.page.context.close()
    assert errors == []


def judged(ends: int = 300) -> FakeRun:
    """A run half-way, with verdicts of all kinds."""
    run = FakeRun(samples(40), results="/home/someone/results/judged")
    driver = Driver(run)
    for _ in range(ends):
        driver.end_one()
    run.at_work = dict.fromkeys(list(driver.left)[:4], 1)
    return run


def finished(run: FakeRun, errors: int = 0) -> FakeRun:
    for sample in run.progress.since(0):
        failed = min(errors, sample.left)
        errors -= failed
        for _ in range(failed):
            run.fail(sample.number, sample.sample_id, "no answer", TRACE, "TimeoutError")
        run.end(sample.number, *["Accepted"] * (sample.left - failed), positives=True)
    run.at_work, run.waiting_at, run.state = {}, {}, State.DONE
    return run


# ---- what it says


def test_percent_and_time_left_lead_and_counts_are_said_once(show: Any) -> None:
    run = judged()
    panel = show(run)
    panel.settle()
    text = panel.text()
    p = run.progress
    assert text.startswith(f"{(100 * (p.done + p.errors)) // p.total} %")
    assert text.count(f"{p.done:,} of {p.total:,} tasks") == 1
    size = "parseFloat(getComputedStyle(document.querySelector('{}')).fontSize)"
    headline, count = (panel.page.evaluate(size.format(c)) for c in (".nbrun-headline", ".nbrun-count"))
    assert headline >= 1.5 * count


def test_waiting_tasks_are_a_state_of_their_own(show: Any) -> None:
    run = judged()
    number = next(s.number for s in run.progress.since(0) if s.left > 5)
    run.at_work, run.waiting_at = {}, {number: 5}
    run.message = "5 waiting: HTTP 429, next in 14 s"
    panel = show(run)
    panel.until_text("5 waiting: HTTP 429, next in 14 s")
    assert "5 waiting" in panel.page.locator(".nbrun-legend").inner_text()
    panel.page.get_by_role("combobox", name="State of samples").select_option("Waiting for a retry")
    rows = panel.page.locator(".nbrun-row[data-sample-id]")
    assert rows.count() == 1
    assert "… 5" in rows.first.inner_text()
    assert "waiting: 5" in str(rows.first.get_by_role("progressbar").get_attribute("aria-valuetext"))


def test_a_task_that_waits_says_why(show: Any) -> None:
    run = FakeRun({"a": 3})
    run.rows["a"] = [TaskSummary("solution", 1, "waiting", None, None, 1, None, note="HTTP 429, next in 14 s")]
    panel = show(run)
    panel.until_text("0 of 3")
    panel.page.locator('[data-sample-id="a"]').click()
    panel.until_text("HTTP 429, next in 14 s")
    panel.page.locator(".nbrun-tasks [data-sample-id], .nbrun-tasks .nbrun-spacer [role=row]").first.click()
    panel.until_text("It waits for attempt 2: HTTP 429, next in 14 s")


def test_unexpected_verdicts_are_counted_filtered_and_marked(show: Any) -> None:
    run = FakeRun({"good": 4, "doubtful": 4, "own words": 4})
    run.end(0, *["Accepted"] * 3, positives=True)
    run.end(1, "WrongAnswer", "Accepted", positives=True)
    run.end(1, "Accepted", positives=False)
    run.end(2, "funny", positives=True)
    panel = show(run)
    panel.until_text("2 unexpected")
    assert "TPR 80 % of 5 · TNR 0 % of 1" in panel.text()
    assert "funny 1" in panel.text(), "a verdict of its own is shown by name"
    assert "≠ 2" in panel.page.locator('[data-sample-id="doubtful"]').inner_text()
    assert "✗" not in panel.page.locator('[data-sample-id="own words"]').inner_text(), "it doesn't reject"
    chip = panel.page.get_by_role("button", name="2 unexpected")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert panel.page.locator(".nbrun-row[data-sample-id]").count() == 1
    chip.click()
    assert panel.page.locator(".nbrun-row[data-sample-id]").count() == 3


def test_an_opened_sample_shows_what_is_looked_for_first_and_no_empty_columns(show: Any) -> None:
    run = FakeRun({"a": 30})
    run.rows["a"] = [
        *(TaskSummary("solution", n, "done", "Accepted", 0.1, 1, None, item=f"print({n})") for n in range(20)),
        TaskSummary("solution", 20, "done", "WrongAnswer", 0.1, 1, None, item="print(20)", is_unexpected=True),
        TaskSummary("solution", 21, "error", "ValueError", 0.1, 1, None, item="print(21)"),
    ]
    panel = show(run)
    panel.until_text("0 of 30")
    panel.page.locator('[data-sample-id="a"]').click()
    panel.until_text("print(21)")
    rows = panel.page.locator(".nbrun-tasks .nbrun-spacer [role=row]")
    assert [rows.nth(n).inner_text().split()[0] for n in range(3)] == ["21", "20", "0"]
    assert "≠" in rows.nth(1).inner_text()
    heads = panel.page.locator(".nbrun-tasks [role=columnheader]:not([hidden])")
    assert heads.all_inner_texts() == ["Index", "Verdict", "Time", "Item"]
    box = panel.page.locator(".nbrun-sample").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + 100 < 800, "it is in view"


def test_an_opened_task_that_goes_on_stays_chosen_and_says_what_came_of_it(show: Any) -> None:
    run = FakeRun({"a": 2})
    run.waiting_at = {0: 2}
    waiting = TaskSummary("item", 0, "waiting", "", None, 1, None, item="HTTP 429, next in 3 s")
    run.rows["a"] = [waiting, replace(waiting, index=1)]
    panel = show(run)
    panel.until_text("0 of 2")
    panel.page.locator('[data-sample-id="a"]').click()
    panel.until("document.querySelectorAll('.nbrun-tasks .nbrun-spacer [role=row]').length === 2")
    panel.page.locator(".nbrun-tasks .nbrun-spacer [role=row]").nth(1).click()
    panel.until_text("It waits for attempt 2: HTTP 429")
    error = {"type": "ValueError", "message": "no number", "traceback": "Traceback ..."}
    run.entries["a", "item", 1] = {"index": 1, "status": "error", "error": error, "attempts": 3}
    run.rows["a"] = [waiting, TaskSummary("item", 1, "error", "ValueError", 0.1, 3, None)]
    run.waiting_at = {0: 1}
    run.fail(0, "a")
    panel.until_text("ValueError: no number")
    assert "It waits" not in panel.text()
    assert "Verdict:" not in panel.text(), "the results of this work have no verdict"
    chosen = panel.page.locator(".nbrun-tasks [aria-selected=true]")
    assert "ValueError" in chosen.inner_text()


def test_kinds_of_errors_and_their_sum_agree_at_every_moment(show: Any) -> None:
    run = FakeRun({"a": 40})
    run.fail(0, "a")
    panel = show(run)
    panel.page.get_by_text("1 error of 1 kind").click()
    panel.until_text("× 1")
    for n in range(2, 5):
        run.fail(0, "a")
        panel.until_text(f"{n} errors of 1 kind")
        assert f"× {n}" in panel.text()


def test_in_a_narrow_panel_names_and_counts_share_a_line_without_touching(show: Any) -> None:
    name = "topic/with a rather long name of its own/001"
    run = FakeRun({name: 40})
    for _ in range(3):
        run.fail(0, name)
    run.at_work, run.waiting_at = {0: 8}, {0: 12}
    panel = show(run, width=340)
    panel.until_text("8 running")
    row = panel.page.locator(".nbrun-row[data-sample-id]")
    tail, counts = row.locator(".nbrun-id-tail").bounding_box(), row.locator(".nbrun-counts").bounding_box()
    assert tail["x"] + tail["width"] <= counts["x"]
    assert "001" in row.inner_text()
    assert row.locator(".nbrun-counts").inner_text() == "0 of 40, 3 errors", "nothing is cut off"
    panel.page.get_by_text("3 errors of 1 kind").click()
    kind = panel.page.locator(".nbrun-kind")
    assert kind.locator("summary").bounding_box()["width"] > 0.9 * kind.bounding_box()["width"]


@pytest.mark.parametrize("width", [980, 600, 340])
def test_the_longest_verdict_of_a_task_is_not_cut_off(width: int, show: Any) -> None:
    run = FakeRun({"a": 1, "b": 1})
    verdict = "MemoryLimitExceeded"
    tasks = [("solution", verdict, True), ("incorrect_solution", "Accepted", False)]
    run.rows["a"] = [
        TaskSummary(
            group, 0, "done", verdict, 0.1, 2, "CPP", item="x" * 90, result="y" * 90, is_unexpected=is_unexpected
        )
        for group, verdict, is_unexpected in tasks
    ]
    panel = show(run, width=width)
    panel.until_text("0 of 1")
    panel.page.locator('[data-sample-id="a"]').click()
    panel.until_text(f"{verdict} ≠")
    is_cut = "e => e.scrollWidth > e.clientWidth"
    cells = panel.page.locator(".nbrun-tasks .nbrun-task-outcome, .nbrun-tasks .nbrun-task-time").all()
    assert cells
    for cell in cells:
        assert not cell.evaluate(is_cut), cell.inner_text()
    rows = panel.page.locator(".nbrun-tasks .nbrun-row")
    assert all(not row.evaluate(is_cut) for row in rows.all()), "every column is inside the table"


@pytest.mark.parametrize("width", [980, 340])
def test_addresses_and_states_of_endpoints_are_not_cut_off(width: int, show: Any) -> None:
    run = judged()
    row = {
        "name": "http://10.0.0.1:8080",
        "state": "half-open",
        "in_flight": 128,
        "mean_s": 99.9,
        "last_error": "HTTP 502",
    }
    run.endpoints = [row] * 3
    panel = show(run, width=width)
    panel.until_text("3 being tried")
    panel.page.locator("summary", has_text="Endpoints").click()
    panel.until_text("HTTP 502")
    cells = panel.page.locator(".nbrun-endpoints .nbrun-spacer [role=gridcell]").all()
    assert len(cells) >= 3
    for cell in cells:
        assert cell.bounding_box()["width"] > 0
        assert not cell.evaluate("e => e.scrollWidth > e.clientWidth"), cell.inner_text()


def test_no_line_of_a_narrow_panel_is_cut_in_half(show: Any) -> None:
    panel = show(judged(), width=340)
    panel.settle()
    bottom = "e => e.getBoundingClientRect().bottom"
    quality = panel.page.locator(".nbrun-quality")
    for part in quality.locator(":scope > :visible").all():
        assert part.evaluate(bottom) <= quality.evaluate(bottom), part.inner_text()
    state, verdict = (panel.page.get_by_role("combobox").nth(i).bounding_box() for i in range(2))
    assert state["y"] == verdict["y"], "both filters are in one line"


def test_a_long_verdict_moves_no_filter(show: Any) -> None:
    run = FakeRun({"a": 40})
    run.end(0, "Accepted", positives=True)
    panel = show(run)
    panel.until_text("1 accepted")
    box = panel.page.get_by_role("combobox", name="Verdict in samples").bounding_box()
    run.end(0, "MemoryLimitExceeded", positives=False)
    panel.until_text("MemoryLimitExceeded 1")
    panel.settle()
    assert panel.page.get_by_role("combobox", name="Verdict in samples").bounding_box() == box


def test_work_without_a_judge_has_no_columns_and_no_filters_of_verdicts(show: Any) -> None:
    run = FakeRun({"a": 10, "b": 10})
    run.tracker.record(0, [None] * 10, ["ValueError"])
    run.tracker.add_metrics({"score": 0.5})
    run.tracker.add_metrics({"score": 1.0})
    panel = show(run)
    panel.until_text("9 of 10, 1 error")
    assert "Outcomes" not in panel.text()
    assert not panel.page.get_by_role("combobox", name="Verdict in samples").is_visible()
    assert "mean score 0.75 of 2" in panel.text()


def test_a_run_that_paused_itself_shows_the_traceback(show: Any) -> None:
    run = FakeRun(samples(40))
    for n in range(10):
        run.fail(n, "a", "missing", TRACE, "KeyError")
    run.state = State.PAUSED
    run.message = "Paused: the first 10 tasks failed with KeyError: missing. Fix `fn` and run this cell again."
    panel = show(run)
    panel.until_text('task.item["missing"]')
    assert panel.page.get_by_label("Traceback", exact=True).is_visible()
    run.resume()
    run.message = ""
    panel.until_state("running")
    assert not panel.page.get_by_label("Traceback", exact=True).is_visible()


def test_the_end_with_errors_is_no_success(show: Any) -> None:
    panel = show(finished(FakeRun({"a": 10, "b": 5}), errors=1))
    panel.until_text("Done, 1 error")
    assert "9 of 10, 1 error" in panel.page.locator('[data-sample-id="a"]').inner_text()
    assert "✓ Done" not in panel.text()
    colour = "getComputedStyle(document.querySelector('.nbrun-headline')).color"
    amber = panel.page.evaluate(colour)
    clean = show(finished(FakeRun({"a": 10})))
    clean.until_text("✓ Done")
    assert clean.page.evaluate(colour) != amber
    assert clean.button("Retry errors").is_disabled()


@pytest.mark.parametrize(("width", "theme"), [(980, "light"), (980, "dark"), (480, "light"), (320, "dark")])
def test_nothing_moves_when_there_is_something_to_say(width: int, theme: str, show: Any) -> None:
    run = judged(0)
    panel = show(run, width=width, theme=theme)
    panel.settle()
    before = panel.page.evaluate(HEIGHTS)
    driver = Driver(run)
    for _ in range(300):
        driver.end_one()
    run.waiting_at = {39: 3}
    run.message = "3 waiting: HTTP 429, next in 14 s. 12 results were saved with different settings and are kept. " * 3
    run.tracker.note_log(0.0, "warning", "too slow")
    panel.until_text("HTTP 429")
    panel.settle()
    assert panel.page.evaluate(HEIGHTS) == before
    assert panel.page.evaluate("(p => p.scrollWidth <= p.clientWidth)(document.querySelector('.nbrun-panel'))")


def test_at_no_width_does_the_layout_go_back_and_forth(show: Any) -> None:
    panel = show(judged())
    changes = panel.page.evaluate(
        """async () => {
            const root = document.querySelector('.nbrun-panel'), frame = () => new Promise(requestAnimationFrame);
            let changes = 0;
            new MutationObserver((seen) => (changes += seen.length)).observe(root, {attributeFilter: ['class']});
            for (let width = 540; width < 620; width += 2) {
                root.parentElement.style.width = `${width}px`;
                for (let i = 0; i < 6; i++) await frame();
            }
            return changes; }"""
    )
    assert changes == 2, "to two lines a row, and back to one"


# ---- what people do


def test_pause_resume_and_go_on_are_one_button_that_keeps_the_focus(show: Any) -> None:
    run = judged()
    panel = show(run)
    focused = "document.activeElement.textContent"
    panel.button("Pause").focus()
    panel.page.keyboard.press("Enter")
    panel.until_state("paused")
    assert panel.page.evaluate(focused) == "Resume"
    panel.page.keyboard.press("Enter")
    panel.until_state("running")
    assert panel.page.evaluate(focused) == "Pause"
    panel.button("Stop").focus()
    panel.page.keyboard.press("Enter")
    panel.page.keyboard.press("Enter")  # Let running tasks end
    panel.until_state("stopped")
    assert panel.page.evaluate(focused) == "Go on", "Stop is disabled now: the focus goes to what can be done next"
    panel.page.keyboard.press("Enter")
    panel.until_state("running")
    assert run.calls == ["pause", "resume", ("stop", True), "go_on"]


def test_a_new_button_is_one_row_of_the_table(show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Action("ring", "Ring", lambda run, click: "It rang.", lambda progress: progress.state is State.RUNNING)
    table = actions_script()
    monkeypatch.setitem(ACTIONS, "ring", row)
    assert Panel._esm.count(table) == 1
    monkeypatch.setattr(Panel, "_esm", Panel._esm.replace(table, actions_script()))
    run = judged()
    panel = show(run)
    panel.button("Ring").click()
    panel.until_text("It rang.")
    panel.button("Pause").click()
    panel.until_state("paused")
    assert panel.button("Ring").is_disabled()


def test_errors_are_tried_again_after_the_end(show: Any) -> None:
    run = finished(judged(), errors=3)
    panel = show(run)
    panel.until_text("Done,")
    panel.button("Retry errors").click()
    panel.until_text("queued again")
    panel.page.get_by_text(re.compile(r"errors? of \d kinds?")).click()
    panel.button("Try these again: TimeoutError").click()
    panel.until_text("queued again")
    assert run.calls == ["retry_errors", ("retry_errors", "TimeoutError")]


def test_results_of_other_settings_are_made_again_by_a_button(show: Any) -> None:
    run = judged()
    panel = show(run)
    panel.settle()
    assert not panel.button("Redo these").is_visible()
    run.message = '7 results were saved with different settings and are kept. redo="changed" runs them again.'
    panel.until_text("different settings")
    panel.button("Redo these").click()
    panel.until_text("7 results will be made again")
    assert run.calls == ["redo_changed"]


def test_samples_of_a_list_are_found_before_they_are_read(show: Any) -> None:
    run = FakeRun({"read/1": 3})
    run.tracker.set_totals(300, 100)
    run.unread = [f"later/{n}" for n in range(99)]
    panel = show(run)
    panel.until_text("1 sample, 99 not read yet")
    panel.page.get_by_role("searchbox").fill("LATER/42")
    panel.until("!!document.querySelector('[data-sample-id=\"later/42\"]')")
    row = panel.page.locator('[data-sample-id="later/42"]')
    assert "not read yet" in row.inner_text()
    row.click()
    assert not panel.page.locator(".nbrun-sample").is_visible(), "there is nothing to open yet"
    panel.page.get_by_role("searchbox").fill("later")
    panel.until_text("99 of 99 not read yet")
    run.unread.remove("later/0")
    run.tracker.add_sample("later/0", 3)
    panel.until_text("1 of 2 samples match")
    assert panel.page.locator('[data-sample-id="later/0"]').count() == 1


def test_of_a_stream_it_says_that_more_may_come(show: Any) -> None:
    run = FakeRun()
    run.tracker.add_sample("a", 3)
    panel = show(run)
    panel.page.get_by_role("searchbox").fill("b")
    panel.until_text("0 of 1 sample match, more may come")
    run.tracker.set_totals(None, 8)
    panel.until_text("0 of 1 sample match, 7 not read yet")


def test_the_tab_says_how_far_it_is(show: Any) -> None:
    run = judged()
    panel = show(run)
    panel.until("/^\\d+ % · book.ipynb$/.test(document.title)")
    panel.page.evaluate("document.title = 'another.ipynb'")  # what a front end does when another document is shown
    run.pause()
    panel.until("/^‖ \\d+ % · another.ipynb$/.test(document.title)")
    finished(run)
    panel.until_state("done")
    panel.until("document.title === 'another.ipynb'")


# ---- to anybody, anywhere


@pytest.mark.parametrize("state", [State.DONE, State.STOPPED])
def test_a_page_without_a_kernel_shows_how_it_ended(state: State, show: Any) -> None:
    run = finished(judged())
    run.end(0, "WrongAnswer", positives=True)
    run.state = state
    live = show(run)
    live.until_state(state.value)
    live.until("true")
    last = live.panel.last
    assert last
    page = show(run, live=False)
    page.panel.last = last
    page.page.reload()
    page.page.set_content('<html lang="en"><body><div id="host"></div></body></html>')
    from page import HOST

    page.page.add_script_tag(content=HOST)
    page.boot(live=False)
    page.page.wait_for_timeout(50)
    assert page.page.locator(".nbrun-panel").get_attribute("data-state") == state.value
    assert ("✓ Done" if state is State.DONE else "■ Stopped") in page.text()
    assert "Lost" not in page.text()
    assert "loads the results." in page.text()
    assert "Go on" not in page.page.locator(".nbrun-end").inner_text(), "no advice to press what can't be pressed"
    assert page.page.locator(".nbrun-chip").is_disabled(), "it knows no samples that could be shown"
    assert not page.page.get_by_role("searchbox").is_visible(), "a saved page knows no samples"
    enabled = page.page.locator(".nbrun-controls :is(button, input):enabled:visible")
    assert [b.get_attribute("aria-label") for b in enabled.all()] == ["Copy the path of the results"]


def test_long_ids_are_cut_in_the_middle(show: Any) -> None:
    ids = [f"{'very/' * 30}long/{n:04}" for n in range(3)]
    panel = show(FakeRun(dict.fromkeys(ids, 5)), width=480)
    panel.until_text("0 of 5")
    for sample_id in ids:
        row = panel.page.locator(f'[data-sample-id="{sample_id}"]')
        tail = row.locator(".nbrun-id-tail")
        assert tail.inner_text().endswith(sample_id[-5:])
        assert tail.bounding_box()["x"] + tail.bounding_box()["width"] < 480


def test_beside_another_widget_it_has_a_width(show: Any) -> None:
    panel = show(judged())
    panel.page.evaluate("document.querySelector('#host').style.display = 'flex'")
    panel.page.evaluate("document.querySelector('#host').prepend('beside')")
    assert panel.page.locator(".nbrun-panel").bounding_box()["width"] > 800


def test_forced_colours_leave_the_bars(show: Any) -> None:
    panel = show(judged(), forced=True)
    panel.settle()
    style = "getComputedStyle(document.querySelector('.nbrun-overall'))"
    assert "linear-gradient" in panel.page.evaluate(f"{style}.backgroundImage")
    assert panel.page.evaluate(f"{style}.forcedColorAdjust") == "none"


def show_static(page: Any, html: str) -> None:
    """Replace what a page shows by this, in the theme's colour of text."""
    page.evaluate("html => { document.querySelector('main').innerHTML = html; }", html)
    page.evaluate("() => { document.body.style.color = 'var(--jp-ui-font-color1)'; }")


CONTRAST = """(element, ground) => {
  const luminance = (rgb) => rgb.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    return text.startsWith("rgb") ? numbers.map((c) => c / 255) : numbers;
  };
  const [low, high] = [element, ground].map((e) => luminance(parse(getComputedStyle(e)[e === ground ? "backgroundColor"
    : "color"]))).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_static_form_can_be_read_on_light_and_on_dark_pages(theme: str, show: Any) -> None:
    page = show(judged(), theme=theme).page
    run = finished(judged(), errors=2)
    show_static(page, static_html(run.progress))
    ground = page.locator("body").element_handle()
    texts = page.locator(".nbrun-static, .nbrun-static :is(b, code, small)").all()
    assert len(texts) >= 4
    for text in texts:
        assert text.evaluate(CONTRAST, ground) >= 4.5, text.inner_text()


def test_forced_colours_leave_the_bar_of_the_static_form(show: Any) -> None:
    page = show(judged(), forced=True).page
    show_static(page, static_html(judged().progress))
    part = page.locator(".nbrun-static [title^=accepted]")
    assert part.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(0, 158, 115)"


def test_a_table_without_rows_has_no_empty_row_group(show: Any) -> None:
    panel = show(judged())
    panel.settle()
    panel.page.get_by_role("searchbox").fill("no such sample")
    panel.until_text("0 of 40 samples match")
    groups = panel.page.locator(".nbrun-samples [role=rowgroup]:visible").all()
    assert [group.locator("[role=row]").count() for group in groups] == [1], "the header alone"


@pytest.mark.parametrize("width", [980, 480, 320])
def test_roles_and_names_are_what_assistive_technology_allows(width: int, show: Any) -> None:
    run = judged()
    sample_id = next(s.sample_id for s in run.progress.since(0) if s.number in run.at_work)
    run.rows[sample_id] = [TaskSummary("solution", 0, "done", "Accepted", 0.1, 1, "CPP", item="print(1)")]
    run.fail(0, sample_id, "no", TRACE, "KeyError")
    run.entries[sample_id, "solution", 0] = {"status": "done", "item": "print(1)", "result": {"verdict": "Accepted"}}
    panel = show(run, width=width)
    panel.settle()
    panel.page.locator(f'[data-sample-id="{sample_id}"]').click()
    panel.until_text("print(1)")
    panel.page.locator(".nbrun-tasks .nbrun-spacer [role=row]").click()
    panel.until("!!document.querySelector('.nbrun-entry pre')")
    panel.page.locator("summary", has_text="1 error of 1 kind").click()
    boxes = panel.page.evaluate("[...document.querySelectorAll('pre')].map((e) => [e.role, !!e.ariaLabel])")
    assert len(boxes) >= 3
    assert all(box == ["group", True] for box in boxes), "texts that take the focus have a role that may have a name"
    grid = panel.page.get_by_role("grid", name="Samples")
    grid.focus()
    panel.page.keyboard.press("ArrowDown")
    active = grid.get_attribute("aria-activedescendant")
    assert panel.page.locator(f"#{active}").get_attribute("role") == "row"
    # Only composite roles may have an active descendant; rows belong to row groups of a grid, cells to rows.
    roles = panel.page.evaluate("[...document.querySelectorAll('[aria-activedescendant]')].map((e) => e.role)")
    assert set(roles) == {"grid"}
    strays = panel.page.evaluate(
        """[...document.querySelectorAll('.nbrun-panel [role=row], .nbrun-panel [role=gridcell]')].filter((e) =>
        e.parentElement.role !== { row: 'rowgroup', gridcell: 'row' }[e.role] || !e.closest('[role=grid]')).length"""
    )
    assert strays == 0
    unnamed = panel.page.evaluate(
        """[...document.querySelectorAll('.nbrun-panel :is(button, input, select, [role=progressbar], [tabindex="0"])')]
        .filter((e) => e.checkVisibility() && !(e.textContent || e.ariaLabel)).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    for control in panel.page.locator(".nbrun-panel :is(button, select):visible").all():
        assert control.bounding_box()["width"] >= 20


def test_everything_fits_into_few_elements(show: Any) -> None:
    panel = show(judged())
    panel.settle()
    assert panel.page.evaluate("document.querySelectorAll('.nbrun-panel, .nbrun-panel *').length") <= 300


# ---- with a real run behind it


def test_a_real_run_is_stopped_goes_on_and_tries_its_errors_again(show: Any, tmp_path: Path) -> None:
    held, is_down = threading.Event(), [True]

    def fn(task: nbrun.Task) -> dict[str, Any]:
        if task.sample_id > "s010":
            held.wait(60)
        if is_down[0] and task.item == 2 and task.sample_id.endswith("5"):
            raise ValueError("down")
        return {"accepted": True}

    many = [{"id": f"s{n:03}", "solutions": [1, 2]} for n in range(400)]
    run = nbrun.start(many, fn, tmp_path, workers=2, retry=None, view=None)
    panel = show(controls_of(run))
    panel.until_text("of 800 tasks")
    panel.page.get_by_role("searchbox").fill("s399")
    panel.until("!!document.querySelector('[data-sample-id=\"s399\"]')")
    assert "not read yet" in panel.page.locator('[data-sample-id="s399"]').inner_text()
    panel.page.get_by_role("searchbox").fill("")
    panel.button("Stop").click()
    panel.button("At once").click()
    panel.until("true")  # the run hears of it; else tasks would go on until then, and ten of them fail
    held.set()
    panel.until_state("stopped")
    panel.button("Go on").click()
    panel.until("document.querySelector('.nbrun-panel').dataset.state === 'done'", 60)
    panel.until_text("Done, 40 errors")
    is_down[0] = False
    panel.button("Retry errors").click()
    panel.until_text("✓ Done")
    assert (run.progress.done, run.progress.errors) == (800, 0)
    assert panel.button("Retry errors").is_disabled()
    assert "TPR 100 % of 800" in panel.text()


def test_results_of_a_changed_function_are_made_again_in_a_real_run(show: Any, tmp_path: Path) -> None:
    many = [{"id": f"s{n}", "things": [1, 2]} for n in range(20)]
    nbrun.start(many, lambda t: {"v": 1}, tmp_path, groups=["thing"], settings={"model": "a"}, view=None).wait(60)
    run = nbrun.start(many, lambda t: {"v": 1}, tmp_path, groups=["thing"], settings={"model": "b"}, view=None)
    panel = show(controls_of(run))
    panel.until_state("done")
    panel.button("Redo these").click()
    panel.until_text("40 results will be made again")
    panel.until("true")
    run.wait(60)
    panel.until("document.querySelector('.nbrun-panel').dataset.state === 'done'")
    assert set(nbrun.load_results(tmp_path).run_id.astype(str)) != {""}
    assert nbrun.load_results(tmp_path).run_id.nunique() == 1, "all are of one run now"


@pytest.mark.skipif("NBRUN_AXE" not in os.environ, reason="NBRUN_AXE names no axe.min.js (npm pack axe-core)")
@pytest.mark.parametrize(
    ("width", "theme", "forced"),
    [*((width, theme, False) for width in (980, 480, 320) for theme in ("light", "dark")), (980, "light", True)],
)
@pytest.mark.parametrize("state", list(State))
def test_axe_finds_nothing(state: State, width: int, theme: str, forced: bool, show: Any) -> None:
    run = judged()
    sample_id = next(s.sample_id for s in run.progress.since(0) if s.number in run.at_work)
    run.rows[sample_id] = [
        TaskSummary("solution", 0, "done", "WrongAnswer", 0.1, 1, "CPP", item="1", is_unexpected=True)
    ]
    run.fail(0, sample_id, "no", TRACE, "KeyError")
    run.message = "Paused: the first 10 tasks failed with KeyError: no. Fix `fn` and run this cell again."
    run.entries[sample_id, "solution", 0] = {"status": "done", "item": "1", "result": {"verdict": "WrongAnswer"}}
    run.state = state
    panel = show(run, width=width, theme=theme, forced=forced)
    panel.settle()
    panel.page.locator(f'[data-sample-id="{sample_id}"]').click()
    panel.until_text("WrongAnswer ≠")
    panel.page.locator(".nbrun-tasks .nbrun-spacer [role=row]").click()
    panel.until("!!document.querySelector('.nbrun-entry pre')")
    for summary in panel.page.locator("summary:visible").all():
        summary.click()
    panel.page.get_by_role("grid", name="Samples").focus()
    panel.page.keyboard.press("ArrowDown")
    panel.page.add_script_tag(path=os.environ["NBRUN_AXE"])
    violations = "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 120))]))"
    assert panel.page.evaluate(violations) == []
    panel.page.get_by_role("searchbox").fill("no such sample")
    panel.until_text("0 of 40 samples match")
    assert panel.page.evaluate(violations) == []
    show_static(panel.page, f"<h1>A page</h1>{static_html(run.progress, beside_widget=True)}")
    assert panel.page.evaluate(violations) == []


def test_a_watch_has_no_controls_but_its_end(show: Any, tmp_path: Path) -> None:
    folder = tmp_path / "shard-0"
    nbrun.start([{"id": "a", "items": [1, 2]}], lambda task: {}, folder, groups=["item"], view=None).wait(60)
    watch = nbrun.watch([folder, tmp_path / "shard-1"], every_s=0.05, view=None)
    panel = show(controls_of(watch))
    panel.until_text("shard-1 is not there yet")
    panel.until_text("Folders: 1 done, 1 missing")
    panel.until_state("paused")
    text = panel.text()
    assert "No run at work" in text
    for name in ("Pause", "Resume", "Retry errors"):
        assert not panel.button(name).is_visible()
    assert not panel.page.get_by_role("spinbutton").is_visible()
    panel.page.locator("summary", has_text="Folders").click()
    panel.until_text("2 of 2 tasks")
    panel.page.locator('[data-sample-id="a"]').click()
    panel.until_text("2 tasks")
    panel.button("Stop watching").click()
    panel.until_state("stopped")
    panel.until_text("No longer watched")
    assert watch.wait(60).state == "stopped"
    assert "Go on" not in panel.text()
