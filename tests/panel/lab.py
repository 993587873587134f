"""A real JupyterLab with a real kernel, seen through headless Chromium: what the browser tests need, and no more."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
]
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosaveInterval": 3600},
}
# Counts what comes over the kernel's websocket, from before the page's own scripts run.
PROBE = """(() => { const seen = window.nbrunSeen = {messages: 0, bytes: 0}; const Real = window.WebSocket;
  window.WebSocket = class extends Real { constructor(url, ...rest) { super(url, ...rest);
    if (/kernels.*channels/.test(url)) this.addEventListener('message', (e) => { seen.messages++;
      seen.bytes += typeof e.data === 'string' ? e.data.length : e.data.byteLength ?? e.data.size; }); } }; })()"""
IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


class Lab:
    """One server and one browser for all tests of a session."""

    def __init__(self, folder: Path, browser: Browser, url: str, token: str) -> None:
        self.folder, self.url, self.token = folder, url, token
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})  # one, for its cache

    def open(self, cells: list[str], *, name: str = "test") -> Notebook:
        """Writes a notebook with these cells and opens it in a page of its own."""
        nodes = [
            {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": c, "outputs": [], "execution_count": None}
            for i, c in enumerate(cells)
        ]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        book = {"cells": nodes, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (self.folder / f"{name}.ipynb").write_text(json.dumps(book))
        return self.visit(name)

    def visit(self, name: str) -> Notebook:
        page = self.context.new_page()
        page.set_default_timeout(30_000)
        page.on("dialog", lambda dialog: dialog.accept())
        page.add_init_script(PROBE)
        page.goto(f"{self.url}/lab/tree/{name}.ipynb?reset&token={self.token}")
        return Notebook(page).ready()


class Notebook:
    """An open notebook: what a person does with it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        # Only noted here: an exception in one of Playwright's callbacks closes its connection, for all later tests too.
        self.page_errors: list[str] = []
        page.on("pageerror", lambda error: self.page_errors.append(f"{error}\n{getattr(error, 'stack', '')}"))

    def ready(self) -> Notebook:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(IDLE)
        self.page.evaluate("window.nbrunBook = jupyterapp.shell.currentWidget")
        return self

    def run(self, index: int, *, wait: bool = True) -> None:
        self.page.evaluate(
            """i => { const book = nbrunBook.content; book.activeCellIndex = i;
            (window.nbrunRan ??= {})[i] = false;
            jupyterapp.commands.execute('notebook:run-cell').finally(() => window.nbrunRan[i] = true); }""",
            index,
        )
        if wait:
            self.page.wait_for_function("i => window.nbrunRan[i]", arg=index)

    def runs(self, index: int) -> bool:
        """Has the cell that was run not ended yet?"""
        return not self.page.evaluate("i => window.nbrunRan[i]", index)

    def add(self, code: str) -> int:
        """Appends a cell."""
        return int(
            self.page.evaluate(
                """async code => { const book = nbrunBook.content;
                book.activeCellIndex = book.widgets.length - 1;
                await jupyterapp.commands.execute('notebook:insert-cell-below');
                book.activeCell.model.sharedModel.setSource(code); return book.activeCellIndex; }""",
                code,
            )
        )

    def ask(self, code: str) -> str:
        """Runs code in a new last cell and returns what it printed."""
        index = self.add(code)
        self.run(index)
        return str(self.outputs(index))

    def outputs(self, index: int) -> Any:
        return self.page.evaluate("i => nbrunBook.content.widgets[i].outputArea?.node.innerText.trim()", index)

    def command(self, name: str, args: dict[str, Any] | None = None) -> None:
        self.page.evaluate("([name, args]) => { jupyterapp.commands.execute(name, args); }", [name, args or {}])

    def theme(self, name: str) -> None:
        self.command("apputils:change-theme", {"theme": name})
        self.page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def restart(self) -> None:
        self.command("kernelmenu:restart")
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()

    def shut_down(self) -> None:
        """Ends the kernel, and with it whatever its threads do: two cores are shared by all tests."""
        self.page.evaluate("nbrunBook.sessionContext.shutdown()")

    def save(self) -> None:
        self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")

    def reload(self) -> Notebook:
        self.page.reload()
        return self.ready()

    def panel(self, index: int = 0) -> Any:
        return self.page.locator(".nbrun-panel").nth(index)

    def wait_state(self, state: str) -> None:
        self.page.locator(f'.nbrun-panel[data-state="{state}"]').first.wait_for()

    def close(self) -> None:
        self.page.close()


def chromium() -> str | None:
    """Debian's Chromium where there is one; else Playwright looks for its own."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Starts JupyterLab and Chromium; ends both, and the kernels."""
    from playwright.sync_api import sync_playwright

    books, config = folder / "books", folder / "config"
    books.mkdir()
    for plugin, values in SETTINGS.items():
        package, _, name = plugin.rpartition("/")
        path = config / "settings" / package / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTER_DATA_DIR": "data",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "config/settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    env = os.environ | {key: str(folder / name) for key, name in folders.items()}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={books}", "--LabApp.extension_manager=readonly"]
    server = subprocess.Popen(command, env=env, cwd=books, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        _wait_until_it_serves(server)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
            yield Lab(books, browser, f"http://127.0.0.1:{port}", token)
            browser.close()
    finally:
        stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End a server of notebooks, which ends its kernels."""
    server.terminate()
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _wait_until_it_serves(server: subprocess.Popen[bytes]) -> None:
    """Read the server's log until it says that it runs, and go on in a thread, so that its pipe never fills."""
    assert server.stdout is not None
    log = []
    for line in server.stdout:
        log.append(line.decode(errors="replace"))
        if "is running at" in log[-1]:
            threading.Thread(target=server.stdout.read, daemon=True).start()
            return
    raise RuntimeError("JupyterLab did not start:\n" + "".join(log[-40:]))
