"""The panel in a real JupyterLab: what a person sees and does. Takes pictures into tests/pictures/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Notebook, chromium, running_lab

PICTURES = Path(__file__).parent.parent / "pictures"
SETUP = """import nbrun.panel
from fake_run import Driver, FakeRun, samples
from nbrun.model import State
"""
NASTY = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if chromium() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
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
        "document.querySelector('.nbrun-row.nbrun-at-work [role=progressbar]').getAttribute('aria-valuenow') > 3"
    )
    picture(book, "running")

    panel.get_by_role("button", name="Pause").click()
    book.wait_state("paused")
    assert panel.get_by_role("button", name="Pause").is_disabled()
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
        const rows = [...document.querySelectorAll('.nbrun-row')].map(row => row.dataset.sampleId);
        return [performance.now() - start, rows]; }"""
    )
    assert took[1] == ["Codeforces/2268/D"]
    assert took[0] < 200
    panel.get_by_role("searchbox").fill("no such sample")
    page.get_by_text("0 of 13,610 samples match").wait_for()
    panel.get_by_role("searchbox").fill("")
    panel.locator(".nbrun-scroller").evaluate("e => { e.scrollTop = e.scrollHeight; }")
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
        "run.message = 'The disk is full: /data has 0 bytes left. Free some and press Resume.' + nasty"
    )
    page = book.page
    page.get_by_text("Last errors (4 of 4)").click()
    page.locator(".nbrun-errors details summary").last.click()
    assert NASTY in page.locator(".nbrun-errors").inner_text()
    picture(book, "errors_halted")
    assert row(book, "plain").get_by_role("progressbar").get_attribute("aria-valuenow") == "5"
    assert page.evaluate("window.hacked") is None
    assert page.locator(".nbrun-row").first.bounding_box()["width"] < 1100


def test_the_end_is_unmistakable_in_the_dark_and_at_600_pixels(opened: Any) -> None:
    ended = (
        "run = FakeRun(samples(12))\n"
        "for s in run.board.changed_since(0):\n"
        "    run.end(s.number, *(['Accepted', 'WrongAnswer', 'Accepted', 'TimeLimitExceeded'] * 10)[: s.total - 1])\n"
        "    run.end(s.number, 'Accepted') if s.number != 2 else run.fail(2, s.sample_id, 'no answer in 30 s')\n"
        "run.board.sample_done(11); run.state = State.DONE"
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


def test_a_restarted_kernel_is_a_lost_run_and_the_day_after_shows_how_it_stood(opened: Any, lab: Lab) -> None:
    book = opened("run = FakeRun(samples(40)); run.end(39, 'Accepted', 'WrongAnswer')")
    book.save()
    book.restart()
    book.wait_state("lost")
    assert "Run the cell with nbrun.start (it was cell [1]) again" in book.panel().inner_text()
    assert book.panel().get_by_role("button", name="Pause").is_disabled()
    picture(book, "lost")
    book.reload()
    book.page.locator(".nbrun-static").wait_for()
    assert "Running: 2 of" in book.page.locator(".nbrun-static").inner_text()
    picture(book, "day_after")
