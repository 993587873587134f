"""The README and the pages of the docs: every snippet runs as it stands in an empty folder, every link leads somewhere.

Blocks marked `python` and `sh` run, in their order, a page in one process. Blocks marked `text` and indented blocks are
pictures of something: a tree, a command that needs what a test can't have. What installs nbrun is tried elsewhere. The
API's page is compared with the docstrings that it is made of.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "nbrun" / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: Commands that set up an environment: the tests of the package and the CI run them.
_INSTALLS = re.compile(r"pip install|apt install|python -m pytest|python -m venv")
_PROLOGUE = "import subprocess\n"
#: Its snippets are rows, which a test of the judge runs.
_ROWS = DOCS / "datasets.md"
#: They judge programs that run into their time limits, twice.
_LONG = ("results.md",)


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def script_of(page: Path) -> str:
    """The page's snippets as one program."""
    parts = [_PROLOGUE]
    for language, text in blocks(page):
        if language == "python":
            parts.append(text)
        elif language == "sh":
            commands = [line.partition(" # ")[0].strip() for line in text.splitlines()]
            parts += [
                f"subprocess.run({command!r}, shell=True, check=True)\n"
                for command in commands
                if command and not _INSTALLS.search(command)
            ]
    return "\n".join(parts)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.stem, marks=[pytest.mark.long] if p.name in _LONG else [])
        for p in PAGES
        if p != _ROWS and len(script_of(p)) > len(_PROLOGUE)
    ],
)
def test_the_snippets_of_a_page_run_in_an_empty_folder(page: Path, tmp_path: Path) -> None:
    folder, tools = tmp_path / "work", tmp_path / "bin"
    folder.mkdir()
    tools.mkdir()
    command = tools / "nbrun"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nbrun "$@"\n')
    command.chmod(0o755)
    env = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    (tmp_path / "page.py").write_text(script_of(page))
    done = subprocess.run(
        [sys.executable, tmp_path / "page.py"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_the_page_of_the_api_is_what_the_docstrings_say() -> None:
    pytest.importorskip("ruff", reason="the page is laid out by ruff")
    from tests import api_page

    assert api_page.PAGE.read_text(encoding="utf-8") == api_page.render(), "run: python -m tests.api_page"


def test_the_page_of_the_api_is_the_same_on_every_machine() -> None:
    from tests import api_page

    text = api_page.unformatted()
    assert " at 0x" not in text
    assert sys.executable not in text
    assert sys.prefix not in text.replace("/usr/bin", "")
    assert str(Path.home()) not in text


def test_the_readme_is_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.is_dir():
            todo += page.glob("*.md")
            continue
        targets = [t.partition("#")[0] for t in _LINK.findall(page.read_text(encoding="utf-8"))]
        todo += [
            (page.parent / t).resolve()
            for t in targets
            if not t.startswith("http") and (t.endswith(".md") or (page.parent / t).is_dir())
        ]
    assert {p.resolve() for p in DOCS.rglob("*.md")} <= {p.resolve() for p in seen}


def test_what_the_page_of_the_architecture_names_exists() -> None:
    """Files, threads, classes and constants: a newcomer who follows the page finds each of them."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    files = [p for room in ("nbrun", "tests") for p in (ROOT / room).rglob("*") if p.suffix in (".py", ".js", ".md")]
    code_files = [p for p in files if p.suffix != ".md" and not p.name.startswith("test_")]
    code = "\n".join(p.read_text(encoding="utf-8") for p in code_files)
    names = set(re.findall(r"`([^`\n]+)`", page.replace("```", "")))
    paths = {n for n in names if re.fullmatch(r"[\w/]+\.(py|js|md)", n)}
    assert len(paths) > 20
    assert sorted(n for n in paths if not any(str(p).endswith("/" + n) for p in files)) == []
    words = {n for n in names if re.fullmatch(r"nbrun-[a-z-]+|[A-Z]\w+(\.\w+)?|[A-Z][A-Z_]+", n)}
    assert len(words) > 15
    assert sorted(n for n in words if not all(re.search(rf"\b{part}\b", code) for part in n.split("."))) == []
    threads = set(re.findall(r'(?:start_daemon\([\w.]+, |\bname=f?)"(nbrun-[a-z-]*[a-z])', code))
    assert len(threads) > 20
    assert sorted(n for n in threads if n not in page) == []
