"""One entry as a person reads it: source, verdict, the failing test, the difference, stderr, attempts. Any thread.

A program's output is hostile text: nothing of it reaches a terminal or a notebook as anything but visible characters.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from nbrun import verdicts
from nbrun.formatting import time_text
from nbrun.storage.values import pretty
from nbrun.texts import escape_control_chars

#: Longer texts are cut: this many lines, characters a line.
MAX_LINES, MAX_CHARS = 200, 500
#: So many lines around the first difference are compared.
_COMPARED = 400


def truncate(text: str, lines: int = MAX_LINES) -> list[str]:
    """Its visible lines, no more than so many, none too long; what was left out is said."""
    rows = text.split("\n")
    if rows and not rows[-1]:
        rows.pop()
    kept = [r if len(r) <= MAX_CHARS else f"{r[:MAX_CHARS]}… ({len(r):,} characters)" for r in rows[:lines]]
    if len(rows) > lines:
        kept.append(f"… ({len(rows) - lines:,} lines more)")
    return [escape_control_chars(r) for r in kept]


def difference(expected: str, actual: str) -> list[tuple[str, str]]:
    """Lines with a mark: "-" only expected, "+" only in the output, " " in both, "…" left out.

    Example:
        >>> difference("1\\n2\\n", "1\\n3\\n")
        [(' ', '1'), ('-', '2'), ('+', '3')]
    """
    a, b = expected.rstrip("\n").split("\n"), actual.rstrip("\n").split("\n")
    if not actual:
        b = []
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, same - 3)
    out = [("…", f"{start:,} equal lines before")] if start else []
    some_a, some_b = a[start : start + _COMPARED], b[start : start + _COMPARED]
    for line in islice(difflib.unified_diff(some_a, some_b, n=3, lineterm=""), 2, None):  # two are file names
        if line.startswith("@@"):
            if out[1:]:
                out.append(("…", ""))
            continue
        out.append((line[0], truncate(line[1:], 1)[0] if line[1:] else ""))
        if len(out) >= MAX_LINES:
            break
    rest = max(len(a), len(b)) - start - _COMPARED
    if rest > 0 or len(out) >= MAX_LINES:
        out.append(("…", "the rest is not shown"))
    return out


@dataclass(frozen=True)
class Failing:
    """The first test that didn't pass. Texts are None where they weren't kept."""

    number: int
    verdict: str | None
    stdin: str | None
    expected: str | None
    stdout: str | None
    stderr: str | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class EntryView:
    """What there is to be seen of an entry. It shows itself: HTML in a notebook, plain text in a terminal."""

    title: str
    status: str
    verdict: str | None
    language: str
    source: str | None
    facts: dict[str, Any]
    failing: Failing | None = None
    error: Mapping[str, Any] | None = None
    stderr: str = ""
    compiler: str = ""
    attempts: list[Mapping[str, Any]] = field(default_factory=list)
    result: str | None = None

    def __str__(self) -> str:
        from nbrun.frames.show_text import text_of

        return text_of(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from nbrun.frames.show_html import html_of

        return html_of(self)


def view_entry(sample_id: str, group: str, entry: Mapping[str, Any]) -> EntryView:
    """What there is to be seen of an entry."""
    result = entry.get("result")
    tests = result.get("tests") if isinstance(result, Mapping) else None
    tests = [t for t in tests if isinstance(t, Mapping)] if isinstance(tests, list) else None
    index = entry.get("index")
    where = f"[{index}]" if index is not None else f" {entry.get('key')}"
    error = entry.get("error")
    told = _mapping(result)
    n, passed, longest = verdicts.tests_summary(result)
    facts: dict[str, Any] = {}
    if n is not None:
        facts["tests passed"] = f"{passed} of {n}"
    if longest is not None:
        facts["longest test"] = time_text(longest)
    limits = told.get("limits")
    if isinstance(limits, Mapping):
        facts["limits"] = ", ".join(f"{k} {v}" for k, v in limits.items() if v is not None)
    took = entry.get("duration_s")
    if isinstance(took, (int, float)):
        facts["took"] = time_text(took)
    for name in ("attempts", "api_used", "worker_id", "run_id"):
        value = entry.get(name)
        if value not in (None, ""):
            facts[name] = value
    language, source = _source(entry)
    return EntryView(
        f"{sample_id} · {group}{where}", str(entry.get("status")), verdicts.of(result), language, source, facts,
        _failing(tests or []), error if isinstance(error, Mapping) else None, _first_stderr(tests or []),
        _compiler(tests or []), _attempts(told), _plain(result) if tests is None and result is not None else None,
    )  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _source(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    item = entry.get("item")
    of = item if isinstance(item, Mapping) else entry
    source = of.get("solution")
    language = of.get("language")
    if isinstance(source, str):
        return (language if isinstance(language, str) else ""), source
    if isinstance(item, str):
        return "", item
    if item is None and source is None:
        return "", None
    return "JSON", _plain(item if item is not None else source)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else pretty(value)


def _run(test: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(test.get("exec_info")).get("run_result"))


def _failing(tests: Sequence[Mapping[str, Any]]) -> Failing | None:
    for number, test in enumerate(tests):
        if test.get("passed") is True:
            continue
        info, run = _mapping(test.get("test_info")), _run(test)
        facts = {k: v for k, v in run.items() if k not in ("stdout", "stderr") and isinstance(v, (str, int, float))}
        message = _mapping(test.get("exec_info")).get("message")
        if message:
            facts["message"] = message
        return Failing(
            number, verdicts.of({"accepted": False, "tests": [test]}),
            _text(_mapping(info.get("input")).get("stdin")), _text(_mapping(info.get("output")).get("stdout")),
            _text(run.get("stdout")), _text(run.get("stderr")), facts,
        )  # fmt: skip
    return None


def _first_stderr(tests: Sequence[Mapping[str, Any]]) -> str:
    """Of an accepted solution: what it wrote to stderr in the first test that it did."""
    return next((text for test in tests if (text := _text(_run(test).get("stderr")))), "")


def _compiler(tests: Sequence[Mapping[str, Any]]) -> str:
    for test in tests:
        compiled = _mapping(_mapping(test.get("exec_info")).get("compile_result"))
        if text := _text(compiled.get("stderr")) or _text(compiled.get("stdout")):
            return text
    return ""


def _attempts(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Earlier tries that the judge has noted in its result, whatever it calls them."""
    for name in ("attempts", "tries", "history"):
        rows = result.get(name)
        if isinstance(rows, list) and rows and all(isinstance(r, Mapping) for r in rows):
            return rows
    return []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
