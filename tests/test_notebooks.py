"""The notebooks run from the first cell to the last, and their outputs are what their texts promise."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbrun

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[Any]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells if cell["cell_type"] == "code"]


def text_of(cell: Any) -> str:
    """Return a cell's output as text."""
    return "\n".join("".join(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in cell["outputs"])


def execute(source: Path, folder: Path) -> Path:
    """Run a copy of a notebook with nbmake, which writes the outputs into it, and return the copy's path."""
    path = folder / source.name
    shutil.copy(source, path)
    for module in source.parent.glob("*.py"):
        shutil.copy(module, folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += [f"--rootdir={folder}", "--nbmake", "--overwrite", "--nbmake-timeout=250", str(path)]
    env = os.environ | {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    for cell in code_cells(path):
        assert not cell["outputs"]
        assert cell["execution_count"] is None


@pytest.mark.needs("g++")
def test_the_first_run_is_stopped_and_continued(tmp_path: Path) -> None:
    cells = code_cells(execute(ROOT / "notebooks" / "01_first_run.ipynb", tmp_path))
    texts = [text_of(cell) for cell in cells]
    starts = [i for i, cell in enumerate(cells) if cell["source"].startswith("run = nbrun.start(")]
    assert len(starts) == 2
    assert cells[starts[0]]["source"] == cells[starts[1]]["source"], "the same cell goes on"
    for i in starts:
        data = [o["data"] for o in cells[i]["outputs"] if o["output_type"] == "display_data"]
        assert any("application/vnd.jupyter.widget-view+json" in d for d in data), "the panel is in the starting cell"
    during, after = [texts[i] for i, cell in enumerate(cells) if cell["source"].startswith("nbrun.rates(")]
    assert "True" in during, "partial while it runs"
    assert "True" not in after
    kept, rest = (int(word) for word in texts[starts[1] + 1].replace(".", "").split() if word.isdigit())
    assert kept >= 8
    assert rest >= 1
    assert kept + rest == 27
    assert (tmp_path / "first-run-results").is_dir()


@pytest.mark.needs("distributed")
@pytest.mark.long
def test_tasks_on_a_cluster_come_back_and_a_lost_worker_costs_nothing(tmp_path: Path) -> None:
    cells = code_cells(execute(ROOT / "notebooks" / "04_cluster.ipynb", tmp_path))
    texts = {cell["source"].splitlines()[-1]: text_of(cell) for cell in cells}
    assert texts["sum(client.nthreads().values())"] == "2"
    assert next(text for line, text in texts.items() if "9,592" in line) == "9592"
    assert next(text for line, text in texts.items() if line.startswith("len(lost)")) == "(300, 1, 0)"
    assert next(text for line, text in texts.items() if line.startswith("run.progress.resumed")).endswith("(200, 201)")


@pytest.mark.needs("g++", "matplotlib")
@pytest.mark.long
def test_five_questions_to_results_are_answered(tmp_path: Path) -> None:
    cells = code_cells(execute(ROOT / "notebooks" / "03_analysis.ipynb", tmp_path))
    data = [o["data"] for cell in cells for o in cell["outputs"] if "data" in o]
    assert sum("image/png" in d for d in data) == 6, "pictures"
    shown = ["".join(d["text/html"]) for d in data if "nbrun-show" in "".join(d.get("text/html", ""))]
    assert len(shown) == 2
    texts = {cell["source"]: text_of(cell) for cell in cells}
    (test,) = [text for source, text in texts.items() if source == "mcnemar(runs)"]
    n_compared, n_only_first, n_only_second = map(int, test.split("\n")[1].split()[3:6])
    assert n_compared == 56
    assert n_only_first > 10 > n_only_second == 0, "one test lets wrong solutions pass that all tests catch"
    all_texts = "".join(texts.values())
    assert all_texts.count("56 of 56 tasks done, 0 errors") == 1, "the demo"
    assert all_texts.count("59 of 59 tasks done, 0 errors") == 1, "the old directory"
    assert (tmp_path / "old-results").is_dir()


@pytest.mark.needs("g++")
@pytest.mark.long
def test_programs_are_judged_here_and_on_servers(tmp_path: Path) -> None:
    cells = code_cells(execute(ROOT / "notebooks" / "02_judging.ipynb", tmp_path))
    texts = {cell["source"].splitlines()[-1]: text_of(cell) for cell in cells}
    verdicts = ("Accepted", "WrongAnswer", "RuntimeError", "TimeLimitExceeded")
    rechecked = next(text_of(cell) for cell in cells if "found = recheck(" in cell["source"])
    assert "4 results, 4 rechecked, 1 changed (WrongAnswer → Accepted)" in rechecked
    assert [texts["both"].count(verdict) for verdict in verdicts] == [4, 6, 2, 4], "the same, here and there"
    packages = next(text_of(cell) for cell in cells if '"packages-here"' in cell["source"])
    assert packages.count("[]") == 1, "one submission has expectations, and meets all of them"
    assert any("('sum', 2, 1" in text for text in texts.values()), "the package as a ZIP file"
    shapes = next(cell for cell in cells if '"judged-rows"' in cell["source"])
    assert "row 3 (problem 'empty')" in text_of(shapes)
    table = text_of({"outputs": shapes["outputs"][-1:]})
    assert (table.count("Accepted"), table.count("WrongAnswer")) == (3, 3), "a row of each of three data sets"
    assert "connection refused" in texts["print(run.progress.message)"]
    assert texts['print(run.progress.message or "done, errors:", run.progress.errors)'].startswith("done, errors: 0")


@pytest.mark.needs("httpx")
def test_prompts_are_answered_stopped_continued_and_asked_of_another_model(tmp_path: Path) -> None:
    cells = code_cells(execute(ROOT / "notebooks" / "05_prompts.ipynb", tmp_path))
    texts = [text_of(cell) for cell in cells]
    (continued,) = [text for text in texts if "answers were kept" in text]
    kept, rest = map(int, re.findall(r"(\d+) (?:answers|were)", continued))
    assert 120 <= kept < 400
    assert kept + rest == 400
    (refused,) = [text for text in texts if "requests were refused" in text]
    assert int(refused.split()[0]) < 100, "the rate limit keeps the service from refusing"
    assert re.search(r"reverser-2 +400$", texts[-2], re.M)
    df = nbrun.load_results(tmp_path / "api-results", items=True)
    assert len(df) == 400
    assert (df["status"] == "done").all()
    assert (df["setting_model"] == "reverser-2").all()
    assert (df["answer"] == df["item"].map(lambda prompt: prompt[::-1])).all()
    assert df["run_id"].nunique() == 1, "every answer is the second model's"
