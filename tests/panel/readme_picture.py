"""Make the README's picture, notebooks/panel.png: the panel of the first notebook's run, half-way, with an open sample.

Run as `python tests/panel/readme_picture.py FOLDER`. JupyterLab works in FOLDER, which must be empty. Its path is
visible in the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lab import ROOT, running_lab

CELLS = [
    "import nbrun\nfrom nbrun.judge import LocalSandbox, demo_problems\nproblems = demo_problems(limit=3)",
    'run = nbrun.start(problems, LocalSandbox(time_limit_s=0.5), "results", workers=2)',
]
ENOUGH = 15  # of 27 tasks, so that each state is seen


def main(folder: Path) -> None:
    """Run the cells in JupyterLab and take the picture."""
    with running_lab(folder) as lab:
        book = lab.open(CELLS, name="picture")
        page, panel = book.page, book.panel()
        page.set_viewport_size({"width": 1280, "height": 1000})
        book.command("application:toggle-left-area")
        book.run(0)
        book.run(1)
        page.wait_for_function(
            f"+document.querySelector('.nbrun-overall')?.getAttribute('aria-valuenow') >= {ENOUGH}", timeout=120_000
        )
        panel.get_by_role("img", name="Throughput").wait_for()
        panel.locator('[role=row][data-sample-id="two-numbers"]').get_by_text("two-numbers").click()
        panel.get_by_role("grid", name="Tasks of the sample").get_by_text("Accepted").first.wait_for()
        page.mouse.move(0, 0)
        panel.screenshot(path=ROOT / "notebooks" / "panel.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
