"""Writes docs/api.md from the docstrings of everything public: `python -m tests.api_page`.

A test compares the page with what this would write. The page is the same on every machine: it shows no address of an
object and no path, and its examples are laid out by `ruff format`.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import nbrun
import nbrun.errors
import nbrun.frames
import nbrun.judge
import nbrun.plots

PAGE = Path(__file__).parents[1] / "nbrun" / "docs" / "api.md"
MODULES = (nbrun, nbrun.judge, nbrun.plots, nbrun.errors)
HEAD = """# API

Made from the docstrings by `python -m tests.api_page`; don't edit it by hand.
"""
_SECTION = re.compile(r"^(Args|Returns|Raises|Example|Attributes|Yields):$")
_ENTRY = re.compile(r"^    (\*{0,2}\w[\w, .*]*): (.*)$")


def render() -> str:
    """Return the whole page, formatted. Raises FileNotFoundError or CalledProcessError where ruff is not installed."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(PAGE), "-"]
    done = subprocess.run(
        command, input=unformatted(), cwd=PAGE.parent, capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    return done.stdout


def unformatted() -> str:
    """Return the page as the docstrings have it."""
    parts = [HEAD]
    seen: set[int] = set()
    for module in MODULES:
        parts.append(f"## {module.__name__}\n")
        parts.append(f"{_summary(module)}\n")
        for name in _names(module):
            value = getattr(module, name)
            if isinstance(value, ModuleType) or id(value) in seen or name.startswith("_"):
                continue
            seen.add(id(value))
            parts.append(_entry(f"{module.__name__}.{name}", value))
    return "\n".join(parts)


def _names(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed:
        return list(listed)
    return [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__.startswith("nbrun.")]


def _summary(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def _entry(name: str, value: Any) -> str:
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return f"### {name}\n\n{_constant(value)}\n"
    parts = [f"### {name}\n"]
    signature = _signature(name.rpartition(".")[2], value)
    if signature:
        parts.append(f"```text\n{signature}\n```\n")
    parts.append(_body(inspect.getdoc(value) or ""))
    if inspect.isclass(value) and not issubclass(value, BaseException):
        for member, method in vars(value).items():
            text = inspect.getdoc(method)
            if member.startswith("_") or not text or not (inspect.isroutine(method) or isinstance(method, property)):
                continue
            head = member if isinstance(method, property) else _signature(member, method)
            parts.append(f"**`{head}`**\n\n{_body(text)}")
    return "\n".join(parts)


def _constant(value: Any) -> str:
    if isinstance(value, Mapping):
        kinds = {type(v).__name__ for v in value.values()}
        return f"A constant: `{'`, `'.join(map(str, value))}`, each with its `{'` or `'.join(sorted(kinds))}`."
    if isinstance(value, nbrun.judge.Language):
        return f"A constant:\n\n```py\n{_language(value)}\n```"
    return f"A constant: `{value!r}`."


def _language(value: nbrun.judge.Language) -> str:
    """Return the call that makes the row: only what differs from the defaults, functions by their names."""
    parts = []
    for field in fields(value):
        content = getattr(value, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if content != default:
            text = content.__qualname__ if callable(content) else repr(content)
            parts.append(f"{field.name}={text}")
    return f"Language({', '.join(parts)})".replace(repr(sys.executable), "sys.executable")


def _signature(name: str, value: Any) -> str:
    if inspect.isclass(value) and (issubclass(value, BaseException) or "Made by " in (value.__doc__ or "")):
        return ""  # users never call it
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = [p for p in signature.parameters.values() if not p.name.startswith("_")]
    signature = signature.replace(parameters=parameters)
    if len(text := _unquoted(f"{name}{signature}")) <= 110:
        return text
    lines = []
    star = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            lines.append("    *,")
        lines.append(f"    {parameter},")
    result = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    return _unquoted(f"{name}(\n" + "\n".join(lines) + f"\n){result}")


def _unquoted(text: str) -> str:
    """Annotations are kept as text, which would be shown in quotes."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _body(text: str) -> str:
    """A docstring as Markdown: paragraphs stay, arguments become a list, examples become code."""
    out: list[str] = []
    section = ""
    code: list[str] = []

    def end_code() -> None:
        if code:
            out.append("```pycon\n" + inspect.cleandoc("\n".join(code)) + "\n```\n")
            code.clear()

    for line in text.splitlines():
        if found := _SECTION.match(line):
            end_code()
            section = found[1]
            out.append(f"\n*{section}:*\n")
        elif section == "Example":
            code.append(line)
        elif section and (entry := _ENTRY.match(line)):
            out.append(f"- `{entry[1]}`: {entry[2]}")
        elif section and line.startswith("     "):
            out.append(f"  {line.strip()}")
        else:
            out.append(line.strip() if section else line)
    end_code()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
