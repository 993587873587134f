"""The panel in a plain page of Chromium, without a notebook and without a kernel: the fast way to look at it.

The real widget runs in this process. What it sends is handed to the page, what the page sends to it, whenever the test
waits for something.
"""

from __future__ import annotations

import base64
import json
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fake_run import FakeRun
from lab import FLAGS, chromium

from nbrun.panel import static_html
from nbrun.panel.widget import Panel

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: What JupyterLab's themes set, as far as the panel uses it.
THEMES = {
    "light": "--jp-ui-font-color1: rgba(0,0,0,.87); --jp-ui-font-color2: rgba(0,0,0,.54); --jp-border-color2: #e0e0e0; "
    "--jp-layout-color1: #fff; --jp-layout-color2: #eee; background: #fff",
    "dark": "--jp-ui-font-color1: #fff; --jp-ui-font-color2: rgba(255,255,255,.7); --jp-border-color2: #616161; "
    "--jp-layout-color1: #212121; --jp-layout-color2: #424242; background: #212121",
}
HOST = """
window.outbox = [];
window.boot = async (source, css, state, live) => {
  document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  const heard = [];
  const model = {
    get: (name) => state[name],
    on: (kind, hear) => kind === "msg:custom" && heard.push(hear),
    send: (content) => live && window.outbox.push(content),
  };
  window.receive = (content, buffers) => {
    const views = buffers.map((b) => new DataView(Uint8Array.from(atob(b), (c) => c.charCodeAt(0)).buffer));
    heard.forEach((hear) => hear(content, views));
  };
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const widget = module.default();
  widget.initialize({ model });
  window.showView = () => {
    const el = document.querySelector("#host").appendChild(document.createElement("div"));
    return widget.render({ model, el });
  };
  window.closeView = window.showView();
};
"""


class Shown:
    """A panel of `run` in a page. `until` and `pump` carry messages; nothing moves otherwise."""

    def __init__(self, page: Page, run: FakeRun, *, theme: str = "light", live: bool = True) -> None:
        self.page, self.run = page, run
        self.sent: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.panel = Panel(run)
        self.panel.send = lambda content, buffers=None: self.sent.put((content, buffers))  # type: ignore[method-assign]
        page.set_content(
            '<!doctype html><html lang="en"><head><title>book.ipynb</title></head>'
            f'<body style="margin: 0; {THEMES[theme]}">'
            '<main><h1 style="position: absolute; left: -999px">A notebook</h1><div id="host"></div></main></body>'
        )
        page.add_script_tag(content=HOST)
        self.boot(live)

    def boot(self, live: bool = True) -> None:
        state = {"uid": self.panel.uid, "cell": "[3]", "last": self.panel.last}
        args = [Panel._esm, Panel._css, state, live]
        self.page.evaluate("([source, css, state, live]) => boot(source, css, state, live)", args)
        if live:
            self.until("document.querySelector('.nbrun-panel').dataset.state !== 'starting'")

    def pump(self) -> None:
        for content in self.page.evaluate("window.outbox.splice(0)"):
            self.panel._on_message(self.panel, content, [])
        while True:
            try:
                content, buffers = self.sent.get_nowait()
            except queue.Empty:
                return
            data = [base64.b64encode(b).decode() for b in buffers or ()]
            self.page.evaluate(
                "([content, buffers]) => receive(content, buffers)", [json.loads(json.dumps(content)), data]
            )

    def until(self, condition: str, timeout_s: float = 10) -> None:
        """Carries messages until the condition, an expression in JavaScript, holds in the page."""
        end = time.monotonic() + timeout_s
        while True:
            self.pump()
            if self.page.evaluate(condition):
                return
            assert time.monotonic() < end, f"never: {condition}\n{self.text()}"
            self.page.wait_for_timeout(20)

    def until_text(self, text: str) -> None:
        self.until(f"document.querySelector('.nbrun-panel').innerText.includes({json.dumps(text)})")

    def until_state(self, state: str) -> None:
        self.until(f"document.querySelector('.nbrun-panel').dataset.state === {json.dumps(state)}")

    def settle(self) -> None:
        """All that the run holds now is in the page."""
        self.panel.wake()
        self.until("true")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            self.pump()
            self.page.wait_for_timeout(20)

    def text(self) -> str:
        return str(self.page.locator(".nbrun-panel").inner_text())

    def button(self, name: str) -> Any:
        return self.page.locator(".nbrun-panel").get_by_role("button", name=name, exact=True)

    def picture(self, path: Path) -> None:
        self.page.screenshot(path=path, full_page=True)


@contextmanager
def running_browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
        yield browser
        browser.close()


__all__ = ["Shown", "running_browser", "static_html"]
