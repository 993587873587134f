"""The panel in a real JupyterLab: what a person sees and does. Takes pictures into tests/pictures/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab import IDLE, ROOT, Lab, Notebook, running_lab

pytestmark = [pytest.mark.long, pytest.mark.needs("chromium", "playwright", "jupyterlab")]
PICTURES = Path(__file__).parent.parent / "pictures"
SETUP = """import nbrun.panel
from fake_run import Driver, FakeRun, samples
from nbrun.model import State
"""
IDS = "[...document.querySelectorAll('.nbrun-row[data-sample-id]')].map(row => row.dataset.sampleId)"
NASTY = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    PICTURES.mkdir(exist_ok=True)
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def opened(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Opens a notebook whose first cell shows a panel of `run`."""
    books: list[Notebook] = []

    def open_book(code: str, then: str = "") -> Notebook:
        cell = f"{SETUP}{code}\npanel = nbrun.panel.show(run)\n{then}"
        book = lab.open([cell], name=request.node.name[:40])
        books.append(book)
        book.run(0, wait=not then)
        book.panel().locator("[role=row]").first.wait_for()
        return book

    yield open_book
    for book in books:
        book.shut_down()
        book.close()
    assert [error for book in books for error in book.page_errors] == []


def picture(book: Notebook, name: str) -> None:
    book.page.screenshot(path=PICTURES / f"{name}.png")


def row(book: Notebook, sample_id: str) -> Any:
    return book.panel().locator(f'[role=row][data-sample-id="{sample_id}"]')


def test_a_run_is_seen_steered_and_found_again_after_a_reload(opened: Any) -> None:
    book = opened("run = FakeRun(samples(300), results='results/judged'); driver = Driver(run, ends_per_s=200).start()")
    panel, page = book.panel(), book.page
    book.wait_state("running")
    page.wait_for_function(
        "document.querySelector('.nbrun-row.nbrun-at-work [role=progressbar]')?.getAttribute('aria-valuenow') > 3"
    )
    panel.get_by_role("img", name="Throughput").wait_for()
    picture(book, "running")

    panel.get_by_role("button", name="Pause").click()
    book.wait_state("paused")
    assert panel.get_by_role("button", name="Pause").count() == 0, "Pause and Resume are one button"
    picture(book, "paused")
    panel.get_by_role("spinbutton", name="Workers").fill("12")
    panel.get_by_role("spinbutton", name="Workers").press("Enter")
    page.wait_for_function("!document.querySelector('.nbrun-panel [aria-busy]')")

    book.save()
    book.reload()
    book.wait_state("paused")
    panel.locator("[role=row]").first.wait_for()
    assert panel.get_by_role("spinbutton").input_value() == "12"
    assert panel.count() == 1
    assert not page.locator(".nbrun-static").first.is_visible(), "the static form takes no room while the widget lives"
    panel.get_by_role("button", name="Resume").click()
    book.wait_state("running")

    panel.get_by_role("button", name="Retry errors").click()
    page.get_by_text("queued again").wait_for()
    panel.get_by_role("button", name="Stop").click()
    picture(book, "stop_asked")
    panel.get_by_role("button", name="Let running tasks end").click()
    book.wait_state("stopped")
    picture(book, "stopped")
    asked = "['pause', ('workers', 12), 'resume', 'retry_errors', ('stop', True)]"
    assert book.ask("print(run.calls)").endswith(asked)


def test_clicks_are_served_while_a_cell_runs_the_first_one_too(opened: Any) -> None:
    # The cell that shows the panel goes on, so that no message of the page finds the main shell free.
    wait = "import threading; print('busy', flush=True); threading.Event().wait(60)"
    book = opened("run = FakeRun(samples(30)); driver = Driver(run).start()", then=wait)
    book.panel().get_by_role("button", name="Pause").click()
    book.wait_state("paused")
    book.panel().get_by_role("button", name="Resume").click()
    book.wait_state("running")
    assert book.runs(0)
    picture(book, "while_a_cell_runs")


def test_what_code_does_every_view_shows(opened: Any) -> None:
    book = opened("run = FakeRun(samples(30))")
    book.command("notebook:create-output-view")
    book.page.wait_for_function("document.querySelectorAll('.nbrun-panel').length === 2")
    book.ask("run.pause()")
    book.page.wait_for_function("document.querySelectorAll('.nbrun-panel[data-state=paused]').length === 2")
    picture(book, "two_views")


def test_13610_samples_are_few_elements_and_found_fast(opened: Any) -> None:
    book = opened("run = FakeRun(samples(13_610, 850)); driver = Driver(run, ends_per_s=5000, at_work=64).start()")
    page, panel = book.page, book.panel()
    page.wait_for_function("document.querySelectorAll('.nbrun-row.nbrun-at-work').length > 8")
    assert page.evaluate("document.querySelectorAll('.nbrun-panel, .nbrun-panel *').length") <= 300
    picture(book, "13610_samples")
    took = page.evaluate(
        """() => { const box = document.querySelector('.nbrun-panel [role=searchbox]'), start = performance.now();
        box.value = '2268/D'; box.dispatchEvent(new Event('input'));
        const rows = [...document.querySelectorAll('.nbrun-row[data-sample-id]')].map(row => row.dataset.sampleId);
        return [performance.now() - start, rows]; }"""
    )
    assert took[1] == ["Codeforces/2268/D"]
    assert took[0] < 200
    panel.get_by_role("searchbox").fill("no such sample")
    page.get_by_text("0 of 13,610 samples match").wait_for()
    panel.get_by_role("searchbox").fill("")
    panel.locator(".nbrun-samples .nbrun-scroller").evaluate("e => { e.scrollTop = e.scrollHeight; }")
    page.wait_for_function(
        "[...document.querySelectorAll('.nbrun-row')].some(row => row.getAttribute('aria-rowindex') === '13610')"
    )


def test_errors_and_nasty_ids_are_text(opened: Any) -> None:
    book = opened(
        f"nasty = {NASTY!r}\n"
        "run = FakeRun({nasty: 5, 'x' * 300: 4, '🙂 שלום 你好': 3, 'plain': 9}, results=nasty)\n"
        "run.fail(0, nasty, nasty, nasty)\n"
        "for i in range(3): run.fail(3, 'plain', f'sandbox {i} did not answer', 'Traceback (most recent call last):\\n"
        '  File "judge.py", line 12, in judge\\nTimeoutError: sandbox did not answer\')\n'
        "run.end(3, 'Accepted', 'WrongAnswer'); run.at_work = {3: 2}; run.state = State.HALTED\n"
        "run.message = 'The disk is full: /data has 0 bytes left.' + nasty"
    )
    page = book.page
    page.get_by_text("4 errors of 1 kind").click()
    page.locator(".nbrun-errors details summary").last.click()
    page.locator(".nbrun-errors pre").wait_for()
    assert "sandbox 2 did not answer" in page.locator(".nbrun-errors").inner_text()
    picture(book, "errors_halted")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".nbrun-errors").get_by_role("button", name="Copy ValueError").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "sandbox 2 did not answer" in copied
    assert "TimeoutError: sandbox did not answer" in copied
    assert row(book, "plain").get_by_role("progressbar").get_attribute("aria-valuenow") == "5"
    assert page.evaluate("window.hacked") is None
    assert page.locator(".nbrun-row").first.bounding_box()["width"] < 1100


REAL = """import logging, tempfile, threading, time
import nbrun
class Judge:
    settings = {"name": "a judge for tests"}
    def __call__(self, task):
        if task.item == "hold":
            held.wait(60)
        if task.item == "fail":
            raise TimeoutError("sandbox 7 did not answer in 30 s")
        if task.item == "judge":
            logging.getLogger("judge").warning("endpoint 2 rests for 60 s")
            raise nbrun.errors.JudgeError("the server answered 500")
        good = task.item == "good"
        run = {"status": "Finished", "execution_time": 0.12, "stdout": "41", "stderr": "a note on stderr"}
        test = {"passed": good, "exec_info": {"status": "Success", "run_result": run},
                "test_info": {"input": {"stdin": "6 7"}, "output": {"stdout": "42"}}}
        return {"accepted": good, "tests": [test]}
    def health(self):
        rests = {"state": "resting", "last_error": "500 Internal Server Error"}
        rows = [{"name": f"http://10.0.0.{i}", "state": "ok", "in_flight": i, "mean_s": 0.4 + i} for i in range(12)]
        return [row | rests if row["in_flight"] == 2 else row for row in rows]
held = threading.Event()
few = ["good", "bad", "good", "fail"]
problems = [{"id": f"Codeforces/{n}/A", "solutions": [*few], "incorrect_solutions": ["bad"] * n} for n in range(1, 40)]
problems[3]["solutions"] += ["judge"]
problems[0]["solutions"] += ["hold"]
run = nbrun.start(problems, Judge(), tempfile.mkdtemp(), workers=4, retry=None)
"""


def test_a_sample_is_opened_and_shows_its_tasks_and_of_a_task_what_is_saved(lab: Lab) -> None:
    book = lab.open([REAL], name="opened_sample")
    page, panel = book.page, book.panel()
    book.run(0)
    page.wait_for_function("document.querySelector('.nbrun-overall')?.getAttribute('aria-valuenow') === '937'")
    row(book, "Codeforces/4/A").get_by_text("Codeforces/4/A").click()
    tasks = panel.get_by_role("grid", name="Tasks of the sample")
    tasks.get_by_text("TimeoutError").click()
    entry = panel.locator(".nbrun-entry")
    entry.get_by_text("sandbox 7 did not answer in 30 s").first.wait_for()
    assert "raise TimeoutError" in entry.inner_text()
    tasks.get_by_role("row").nth(3).click()  # after two errors
    entry.get_by_text("Failing test: number 1 of 1").wait_for()
    for text in ("a note on stderr", "6 7", "42", "41", "Tests passed: 0 of 1"):
        assert text in entry.inner_text()
    picture(book, "opened_sample")

    panel.get_by_role("combobox", name="Verdict of tasks").select_option("WrongAnswer")
    assert tasks.get_by_role("row").count() == 1 + 5
    panel.get_by_role("button", name="Close").click()
    # The same by keys alone: the first row that is at work.
    panel.get_by_role("grid", name="Samples").focus()
    page.keyboard.press("Home")
    page.keyboard.press("d")
    page.keyboard.press("d")
    panel.get_by_role("button", name="Pause").focus()
    page.keyboard.press("d")
    page.keyboard.press("d")
    assert page.locator(".jp-Cell").count() == 1, "in the notebook these keys delete a cell"
    panel.get_by_role("grid", name="Samples").focus()
    page.keyboard.press("Enter")
    panel.locator(".nbrun-sample").get_by_text("Codeforces/1/A").wait_for()
    tasks.get_by_text("running").click()
    entry.get_by_text("It has been running for").wait_for()

    panel.get_by_text("40 errors of 2 kinds").click()
    panel.locator(".nbrun-errors").get_by_text("JudgeError").click()
    panel.get_by_text("Endpoints: 11 ok, 1 resting").click()
    endpoints = panel.get_by_role("grid", name="Endpoints of the judge")
    endpoints.get_by_text("500 Internal Server Error").first.wait_for()
    panel.get_by_text("Log: 1 line").click()
    panel.get_by_label("Log").get_by_text("endpoint 2 rests for 60 s").wait_for()
    assert "endpoint 2 rests" not in book.outputs(0).split("Log: 1 line")[0], "it is not printed into the cell"
    panel.locator(".nbrun-errors").scroll_into_view_if_needed()
    picture(book, "errors_endpoints_log")
    panel.get_by_role("button", name="Try these again: TimeoutError").click()
    page.get_by_text("39 tasks queued again").wait_for()
    assert page.evaluate("document.querySelectorAll('.nbrun-panel, .nbrun-panel *').length") <= 400

    book.ask("held.set(); run.wait()")
    book.wait_state("done")
    assert "run.retry_errors()" in panel.locator(".nbrun-end").inner_text()
    assert panel.get_by_role("button", name="Retry errors").is_enabled()
    assert "Done, 40 errors" in panel.inner_text()
    assert not book.page_errors
    book.shut_down()
    book.close()


def test_samples_are_sorted_and_filtered(opened: Any) -> None:
    book = opened(
        "run = FakeRun({f'p{n}': 10 * n for n in range(1, 31)})\n"
        "run.end(4, *['Accepted'] * 50); run.end(5, 'WrongAnswer', 'JudgeError'); run.fail(6, 'p7')\n"
        "run.at_work = {9: 2}"
    )
    page, panel = book.page, book.panel()

    def shown() -> list[str]:
        return list(
            page.evaluate(
                "[...document.querySelectorAll('.nbrun-row[data-sample-id]')].slice(0, 3).map(r => r.dataset.sampleId)"
            )
        )

    def chosen(state: str, verdict: str = "All verdicts") -> list[str]:
        panel.get_by_role("combobox", name="State of samples").select_option(state)
        panel.get_by_role("combobox", name="Verdict in samples").select_option(verdict)
        return list(
            page.evaluate("[...document.querySelectorAll('.nbrun-row[data-sample-id]')].map(r => r.dataset.sampleId)")
        )

    assert shown() == ["p10", "p7", "p6"], "at work, with errors, begun"
    panel.get_by_role("button", name="Tasks").click()
    assert shown() == ["p30", "p29", "p28"]
    panel.get_by_role("button", name="Tasks").click()
    assert shown() == ["p1", "p2", "p3"]
    panel.get_by_role("button", name="Sample", exact=True).click()
    assert shown() == ["p1", "p2", "p3"], "numbers in ids count as numbers"
    panel.get_by_role("button", name="Progress").click()
    assert shown()[0] == "p5"
    panel.get_by_role("button", name="Outcomes").click()
    assert shown()[:2] == ["p6", "p7"]
    assert chosen("At work") == ["p10"]
    assert chosen("Finished") == ["p5"]
    assert chosen("With errors") == ["p7"]
    assert chosen("All states", "WrongAnswer") == ["p6"]
    assert chosen("All states", "JudgeError") == ["p6"]
    assert chosen("Finished", "WrongAnswer") == []
    page.get_by_text("0 of 30 samples match").wait_for()
    assert "1 rejected" in panel.locator(".nbrun-legend").inner_text()
    assert "1 judge error" in panel.locator(".nbrun-legend").inner_text()


def test_the_end_is_unmistakable_in_the_dark_and_at_600_pixels(opened: Any) -> None:
    ended = (
        "run = FakeRun(samples(12))\n"
        "for s in run.progress.since(0):\n"
        "    run.end(s.number, *(['Accepted', 'WrongAnswer', 'Accepted', 'TimeLimitExceeded'] * 10)[: s.total - 1])\n"
        "    run.end(s.number, 'Accepted') if s.number != 2 else run.fail(2, s.sample_id, 'no answer in 30 s')\n"
        "run.tracker.sample_done(11); run.state = State.DONE"
    )
    book = opened(ended)
    book.theme("JupyterLab Dark")
    book.wait_state("done")
    book.page.get_by_text("nbrun.load_results('results')").first.wait_for()
    picture(book, "done_dark")
    book.page.set_viewport_size({"width": 600, "height": 900})
    book.command("application:toggle-left-area")
    book.theme("JupyterLab Light")
    picture(book, "done_narrow")
    assert book.panel().evaluate("e => e.scrollWidth <= e.clientWidth")


def test_a_restarted_kernel_is_a_lost_run_and_a_reopened_notebook_shows_its_last_state(opened: Any, lab: Lab) -> None:
    book = opened("run = FakeRun(samples(40)); run.end(39, 'Accepted', 'WrongAnswer')")
    book.save()
    book.restart()
    book.page.locator('.nbrun-panel[data-state="lost"]').wait_for(timeout=10_000)
    assert "Run the cell with nbrun.start (it was cell [1]) again" in book.panel().inner_text()
    assert book.panel().get_by_role("button", name="Pause").is_disabled()
    picture(book, "lost")
    book.reload()
    book.page.locator(".nbrun-static").wait_for()
    assert "Running: 2 of" in book.page.locator(".nbrun-static").inner_text()
    picture(book, "day_after")


def test_a_kernel_that_is_killed_is_a_lost_run_within_ten_seconds(opened: Any) -> None:
    book = opened("run = FakeRun(samples(40)); driver = Driver(run).start()")
    book.wait_state("running")
    book.run(book.add("import os; os.kill(os.getpid(), 9)"), wait=False)
    book.page.locator('.nbrun-panel[data-state="lost"]').wait_for(timeout=10_000)
    assert book.panel().get_by_role("button", name="Stop").is_disabled()
    assert "What was saved stays saved" in book.panel().inner_text()
    book.page.wait_for_function(IDLE)  # the server has started another kernel
    # JupyterLab itself says so of what was on its way to the old one.
    book.page_errors = [error for error in book.page_errors if "Canceled future" not in error]


def test_an_exported_page_without_network_shows_how_the_run_ended(lab: Lab, tmp_path: Path) -> None:
    code = "import nbrun, tempfile\nproblems = [{'id': 1, 'solutions': [1, 2]}]\n"
    code += "run = nbrun.start(problems, lambda task: {'accepted': True}, tempfile.mkdtemp())"
    cells = [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("run.wait(); run")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--output", "a.html", "a.ipynb"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=120)
    browser = lab.context.browser
    assert browser is not None
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "a.html").as_uri(), wait_until="domcontentloaded")
    for number in (0, 1):  # beside the widget, and what the run itself is shown as
        static = page.locator(".nbrun-static").nth(number)
        static.wait_for()
        assert "Done: 2 of 2 tasks" in static.inner_text()
    page.screenshot(path=PICTURES / "exported.png")
    states = json.loads(page.locator('script[type="application/vnd.jupyter.widget-state+json"]').inner_text())["state"]
    (head,) = [json.loads(s["state"]["last"]) for s in states.values() if "last" in s["state"]]
    assert (head["state"], head["done"]) == ("done", 2), "where widgets live without a kernel, they show the end too"
    context.close()
