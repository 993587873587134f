"""Docstrings, comments and pages are in plain English: turns of phrase that readers had to decode don't return."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Each stood for a plain word: report or know; a number or a duration; nothing or no thread; again; the caller; fix.
MARKERS = re.compile(
    r"\b(told|telling|so (many|much|long|often|seldom)|nobody|anew|whoever|shall|lest|mend(s|ed|ing)?|stood|lies)\b",
    re.IGNORECASE,
)
#: Folders of programs that are judged: not ours to word.
JUDGED = {"hostile", "standards", "packages"}
PLAIN = {"so long as", "so much for"}  # idioms of everyday English


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments and docstrings of a module, or a page without its code and names, line by line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = re.sub(r"```.*?```", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
        yield from enumerate((re.sub(r"`[^`]*`", "", line) for line in text.split("\n")), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False)
            if docstring is not None:
                yield from enumerate(docstring.split("\n"), node.body[0].lineno)


def found_in(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {m[0]!r} in {line.strip()}"
        for number, line in prose_of(path)
        for m in MARKERS.finditer(line)
        if not line[m.start() :].lower().startswith(tuple(PLAIN))
    ]


def test_no_page_and_no_docstring_returns_to_the_old_idiom() -> None:
    package, tests = ROOT / "nbrun", ROOT / "tests"
    paths = [ROOT / "README.md", *sorted(package.rglob("*.py")), *sorted(package.rglob("*.md"))]
    paths += [p for p in sorted(tests.rglob("*.py")) if JUDGED.isdisjoint(p.parts) and p != Path(__file__)]
    assert len(paths) > 150
    assert [hit for path in paths for hit in found_in(path)] == []


def test_this_test_can_fail(tmp_path: Path) -> None:
    module = ROOT / "tests" / "test_prose.py"
    hits = [line for _, line in prose_of(module) if MARKERS.search(line)]
    assert any("stood" in line for line in hits)  # in the comment above
