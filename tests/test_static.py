"""Static checks: style, types, and the import contracts."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
COMMANDS = [
    pytest.param("ruff check .", marks=pytest.mark.needs("ruff"), id="ruff"),
    pytest.param("ruff format --check .", marks=pytest.mark.needs("ruff"), id="format"),
    pytest.param("mypy", marks=pytest.mark.needs("mypy"), id="mypy"),
    pytest.param("lint-imports", marks=pytest.mark.needs("importlinter"), id="imports"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_code_passes(command: str) -> None:
    program, *arguments = command.split()
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    assert found, f"{program} isn't installed: pip install -e '.[test-all]'"
    done = subprocess.run([found, *arguments], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_docstrings_can_be_encoded() -> None:
    """Python 3.13 and later encode each docstring as UTF-8, and can't compile one that holds a lone surrogate."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in (TOP / "nbrun").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds) and (text := ast.get_docstring(node, clean=False)):
                assert not any("\ud800" <= c <= "\udfff" for c in text), f"{path}: {node}"
