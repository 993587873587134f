"""The panel in other front ends than JupyterLab at its root, and notebooks that run without a browser."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab import IDLE, ROOT, stop
from page import running_browser

pytestmark = pytest.mark.long
#: Works in a notebook's cell, in a marimo cell and in a module.
RUN = """import nbrun, time
def double(task):
    time.sleep(0.02)
    if task.item == 7:
        raise ValueError("seven")
    return {"double": task.item * 2}
samples = [{"id": f"s{i}", "items": list(range(10 * i, 10 * i + 10))} for i in range(14)]
run = nbrun.start(samples, double, "results", groups=["item"], workers=4, retry=None)
"""
MARIMO = f"""import marimo
app = marimo.App()

@app.cell
def _():
    {RUN.replace(chr(10), chr(10) + "    ")}
    return (run,)

@app.cell
def _(run):
    run.panel()
    return

if __name__ == "__main__":
    app.run()
"""
LAB_RUNS = "jupyterapp.commands.execute('notebook:run-all-cells')"
CLASSIC_IS_READY = "window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook.kernel.widget_manager"
#: nbclassic asks a new kernel for its widgets and then lays out all outputs again, those of early cells without panels.
CLASSIC_HAS_ASKED = """async () => { const kernel = Jupyter.notebook.kernel;
    await new Promise(done => kernel.execute("1", {shell: {reply: done}}));
    await new Promise(done => kernel.comm_info("jupyter.widget", done)); }"""


@contextmanager
def serving(folder: Path, module: str, *args: str, path: str = "/") -> Iterator[str]:
    """Start `python -m module` in a folder and yield the address that it serves; `{port}` stands for its port."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR")
    env = os.environ | {name: str(folder / ".own" / name) for name in names} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *(arg.format(port=port) for arg in args)]
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                said = (folder / "server.log").read_text()[-3000:]
                assert server.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        stop(server)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as browser:
        yield browser


def write_notebook(path: Path, *sources: str) -> None:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path.write_text(json.dumps(nbformat.v4.new_notebook(cells=cells, metadata=kernel)))


def looks_alive(page: Any) -> None:
    """The panel's numbers are those of the run, and a click reaches the kernel and comes back."""
    from playwright.sync_api import expect

    panel = page.locator('.nbrun-panel[data-state="done"]').first
    panel.wait_for()
    assert "139 of 140 tasks" in panel.inner_text()
    # The rows get their last order a moment after the end: the one with an error comes first.
    panel.locator('[role=row][data-sample-id="s0"][aria-rowindex="1"]').click()
    panel.get_by_role("row").filter(has_text="ValueError").first.wait_for()
    panel.get_by_role("searchbox").fill("s1")
    found = panel.locator(
        "[role=row][data-sample-id]"
    )  # in marimo it is in a shadow tree, which scripts don't see into
    expect(found).to_have_count(5, timeout=120_000)  # s1, s10, s11, s12, s13


def jupyter(module: str, base_url: str, token: str) -> list[str]:
    args = ["--no-browser", "--allow-root", "--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    args += [f"--IdentityProvider.token={token}", "--ServerApp.ip=127.0.0.1", f"--ServerApp.base_url={base_url}"]
    return args + (["--expose-app-in-browser"] if module != "nbclassic" else [])


@pytest.mark.needs("chromium", "playwright")
@pytest.mark.parametrize(
    ("module", "base_url", "page_path"),
    [
        pytest.param("jupyterlab", "/a/prefix/", "lab/tree/t.ipynb", marks=pytest.mark.needs("jupyterlab")),
        pytest.param("notebook", "/", "notebooks/t.ipynb", marks=pytest.mark.needs("notebook")),
        pytest.param("nbclassic", "/", "nbclassic/notebooks/t.ipynb", marks=pytest.mark.needs("nbclassic")),
    ],
)
def test_the_panel_lives_in_a_notebook_server(
    tmp_path: Path, browser: Any, module: str, base_url: str, page_path: str
) -> None:
    write_notebook(tmp_path / "t.ipynb", RUN)
    token = secrets.token_hex(16)
    with serving(tmp_path, module, *jupyter(module, base_url, token), path=base_url) as url:
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(120_000)
        found = page.goto(f"{url}{page_path}?token={token}")
        if module == "nbclassic":
            if found.status == 404:  # where Notebook 7 isn't installed beside it, it serves the old addresses
                page.goto(f"{url}notebooks/t.ipynb?token={token}")
            page.wait_for_function(CLASSIC_IS_READY)
            page.evaluate(CLASSIC_HAS_ASKED)
            page.evaluate("Jupyter.notebook.execute_all_cells()")
        else:
            page.wait_for_function(IDLE)
            page.evaluate(LAB_RUNS)
        looks_alive(page)
        page.close()


@pytest.mark.needs("chromium", "playwright")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("voila --no-browser --port={port} --Voila.ip=127.0.0.1 t.ipynb", marks=pytest.mark.needs("voila")),
        pytest.param("marimo run app.py --headless --port={port} --no-token", marks=pytest.mark.needs("marimo")),
    ],
    ids=["voila", "marimo"],
)
def test_the_panel_lives_in_an_app(tmp_path: Path, browser: Any, command: str) -> None:
    write_notebook(tmp_path / "t.ipynb", RUN)
    (tmp_path / "app.py").write_text(MARIMO)
    with serving(tmp_path, *command.split()) as url:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(url)
        looks_alive(page)
        page.close()


without_a_browser = pytest.mark.parametrize(
    "command",
    [
        pytest.param("nbconvert --to notebook --execute t.ipynb --output out", marks=pytest.mark.needs("nbconvert")),
        pytest.param("papermill t.ipynb out.ipynb", marks=pytest.mark.needs("papermill")),
    ],
    ids=["nbconvert", "papermill"],
)


def execute(folder: Path, command: str, *sources: str) -> str:
    """Run a command on a notebook t.ipynb of these cells, and return what it printed."""
    write_notebook(folder / "t.ipynb", *sources)
    env = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@without_a_browser
def test_a_notebook_that_ran_without_a_browser_shows_the_end_of_its_run(tmp_path: Path, command: str) -> None:
    execute(tmp_path, command, RUN, "run.wait()")
    book = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    (static,) = [o["data"]["text/html"] for o in book.cells[0].outputs if "text/html" in o.get("data", {})]
    assert "Done: 139 of 140 tasks, 1 error" in static


@without_a_browser
def test_a_notebook_that_ends_before_its_run_says_so(tmp_path: Path, command: str) -> None:
    printed = execute(tmp_path, command, RUN.replace("0.02", "1"))
    assert "the interpreter ends while the run on" in printed
    assert "of 140 tasks" in printed


@pytest.mark.needs("IPython")
def test_a_terminal_of_ipython_shows_the_run_as_text(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    (tmp_path / "work.py").write_text(RUN)
    typed = "from work import run\nrun.wait()\nrun\n"
    command = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner"]
    done = subprocess.run(command, input=typed, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert "Out[2]: <Progress done: 139 of 140 tasks, 1 error>" in done.stdout, done.stderr
    assert "13 of 14 samples finished" in done.stdout
    assert "Traceback" not in done.stdout
