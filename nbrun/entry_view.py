"""One saved entry as a person reads it: source, verdict, the failing test, the difference, stderr, attempts.

`view_entry` gathers what there is to see; `text_of` and `html_of` render it. A program's output is hostile text:
nothing of it reaches a terminal or a notebook as anything but visible characters; HTML is escaped and has no script.
Pure functions; any thread.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from typing import Any

from nbrun import verdicts
from nbrun.formatting import time_text
from nbrun.results.values import pretty
from nbrun.texts import escape_control_chars

#: Longer texts are cut: this many lines, characters a line.
MAX_LINES, MAX_CHARS = 200, 500
#: How many lines around the first difference are compared.
_COMPARED = 400


def truncate(text: str, lines: int = MAX_LINES) -> list[str]:
    """Return the text's first lines, each cut to a width, and say what was left out."""
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
class FailingTest:
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
    failing: FailingTest | None = None
    error: Mapping[str, Any] | None = None
    stderr: str = ""
    compiler: str = ""
    attempts: list[Mapping[str, Any]] = field(default_factory=list)
    result: str | None = None
    output: str = ""  # what the task printed before it ended in an error
    n_tests: int | None = None
    item: str | None = None  # of an item with more than source and language: all of it

    def __str__(self) -> str:
        return text_of(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
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
    began = entry.get("started_at")
    if isinstance(began, float):
        facts["started"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began))
    for name in ("attempts", "api_used", "worker_id", "run_id"):
        value = entry.get(name)
        if value not in (None, ""):
            facts[name] = value
    language, source = _source(entry)
    return EntryView(
        f"{sample_id} · {group}{where}",
        str(entry.get("status")),
        verdicts.of(result),
        language,
        source,
        facts,
        _failing_test(tests or []),
        error if isinstance(error, Mapping) else None,
        _first_stderr(tests or []),
        _compiler(tests or []),
        _attempts(told),
        _plain(result) if tests is None and result is not None else None,
        _plain(entry.get("output") or ""),
        n,
        _whole_item(entry),
    )


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


def _whole_item(entry: Mapping[str, Any]) -> str | None:
    item = entry.get("item")
    return _plain(item) if isinstance(item, Mapping) and not item.keys() <= {"solution", "language"} else None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else pretty(value)


def _run(test: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(test.get("exec_info")).get("run_result"))


def _failing_test(tests: Sequence[Mapping[str, Any]]) -> FailingTest | None:
    for number, test in enumerate(tests):
        if test.get("passed") is True:
            continue
        info, run = _mapping(test.get("test_info")), _run(test)
        facts = {k: v for k, v in run.items() if k not in ("stdout", "stderr") and isinstance(v, (str, int, float))}
        message = _mapping(test.get("exec_info")).get("message")
        if message:
            facts["message"] = message
        return FailingTest(
            number,
            verdicts.of({"accepted": False, "tests": [test]}),
            _str_or_none(_mapping(info.get("input")).get("stdin")),
            _str_or_none(_mapping(info.get("output")).get("stdout")),
            _str_or_none(run.get("stdout")),
            _str_or_none(run.get("stderr")),
            facts,
        )
    return None


def _first_stderr(tests: Sequence[Mapping[str, Any]]) -> str:
    """Of an accepted solution: what it wrote to stderr in the first test that it did."""
    return next((text for test in tests if (text := _str_or_none(_run(test).get("stderr")))), "")


def _compiler(tests: Sequence[Mapping[str, Any]]) -> str:
    for test in tests:
        compiled = _mapping(_mapping(test.get("exec_info")).get("compile_result"))
        if text := _str_or_none(compiled.get("stderr")) or _str_or_none(compiled.get("stdout")):
            return text
    return ""


def _attempts(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Earlier tries that the judge has noted in its result, whatever it calls them."""
    for name in ("attempts", "tries", "history"):
        rows = result.get(name)
        if isinstance(rows, list) and rows and all(isinstance(r, Mapping) for r in rows):
            return rows
    return []


def _str_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# ---- plain text for a terminal


_OTHER_LINES = 20


def text_of(s: EntryView) -> str:
    """All of it, with a line feed between its parts and none at its end."""
    head = f"{s.title}   {s.language}".rstrip()
    out = [escape_control_chars(head), escape_control_chars(f"{s.status}: {s.verdict}" if s.verdict else s.status)]
    out += [escape_control_chars(f"  {name}: {value}") for name, value in s.facts.items()]
    if s.source is None:
        out += ["", "The item was not kept (keep_items=False)."]
    else:
        out += _text_block("source", (f"{i:>4} | {line}" for i, line in enumerate(truncate(s.source), 1)))
    if s.compiler:
        out += _text_block("compiler", truncate(s.compiler, _OTHER_LINES))
    if s.error is not None:
        told = s.error.get("traceback") or f"{s.error.get('type')}: {s.error.get('message')}"
        out += _text_block("error", truncate(str(told), 60))
    if s.output:
        out += _text_block("output of the task", truncate(s.output, _OTHER_LINES))
    if s.failing is not None:
        out += _text_of_failing(s.failing)
    elif s.stderr:
        out += _text_block("stderr", truncate(s.stderr, _OTHER_LINES))
    if s.attempts:
        rows = (", ".join(f"{k} {v}" for k, v in row.items()) for row in s.attempts)
        out += _text_block("attempts", (escape_control_chars(f"{i}. {row}") for i, row in enumerate(rows, 1)))
    if s.result is not None:
        out += _text_block("result", truncate(s.result, 60))
    return "\n".join(out)


def _text_of_failing(f: FailingTest) -> list[str]:
    facts = ", ".join(f"{k} {v}" for k, v in f.facts.items())
    out = ["", escape_control_chars(f"failing test {f.number}: {f.verdict or ''}   {facts}".rstrip())]
    if f.stdin is not None:
        out += _text_block("stdin", truncate(f.stdin, _OTHER_LINES), "  ")
    if f.expected is not None and f.stdout is not None:
        if f.expected == f.stdout:
            out += _text_block("output", ["as expected"], "  ")
        else:
            title = "difference (- expected, + output)"
            if f.expected.split() == f.stdout.split():
                title += ": in white space alone"
            out += _text_block(title, (f"{mark} {line}" for mark, line in difference(f.expected, f.stdout)), "  ")
    elif f.stdout:
        out += _text_block("output", truncate(f.stdout, _OTHER_LINES), "  ")
    if f.stderr:
        out += _text_block("stderr", truncate(f.stderr, _OTHER_LINES), "  ")
    return out


def _text_block(title: str, lines: Iterable[str], indent: str = "") -> list[str]:
    return ["", f"{indent}{title}", *(f"{indent}  {line}" for line in lines)]


# ---- HTML for a notebook, readable in light and dark


_LEXERS = {
    "PYTHON": "python",
    "PYTHON2": "python",
    "PYTHON3": "python",
    "CPP": "cpp",
    "C": "c",
    "JAVA": "java",
    "JSON": "json",
    "GO": "go",
    "RUST": "rust",
}
#: Code stands dark on light in every theme, so that its colours are readable.
STYLE = """<style>
.nbrun-show{max-width:70em;line-height:1.4}
.nbrun-show h4,.nbrun-show h5{margin:.8em 0 .2em;font-size:1em;font-weight:600}
.nbrun-show pre{margin:0;padding:.5em .7em;background:#f7f7f7;color:#1a1a1a;border:1px solid #ccc;overflow:auto;
max-height:26em;font-size:.85em;line-height:1.35;white-space:pre;tab-size:4;unicode-bidi:isolate}
.nbrun-show .verdict{border:1px solid currentColor;border-radius:3px;padding:0 .4em;font-weight:600}
.nbrun-show .facts{opacity:.8;font-size:.9em}
.nbrun-show .del{display:block;background:#ffe3d6}
.nbrun-show .ins{display:block;background:#dbe9ff}
.nbrun-show .eq,.nbrun-show .cut{display:block}
.nbrun-show .cut{opacity:.6;font-style:italic}
</style>"""
_CLASS = {"-": "del", "+": "ins", " ": "eq", "…": "cut"}


def html_of(s: EntryView) -> str:
    """All of it."""
    mark = {"Accepted": "✓ ", None: ""}.get(s.verdict, "✗ ") if s.verdict != "JudgeError" else "? "
    verdict = f'<span class="verdict">{_safe(mark + (s.verdict or s.status))}</span>'
    head = f"<strong>{_safe(s.title)}</strong> {_safe(s.language)} {verdict}"
    parts = [STYLE, f"<h4>{head}</h4>", _html_facts(s.facts)]
    if s.source is None:
        parts.append('<p class="facts">The item was not kept (<code>keep_items=False</code>).</p>')
    else:
        parts.append(f"<pre>{_highlighted(s.source, s.language)}</pre>")
    if s.compiler:
        parts += _html_block("Compiler", s.compiler)
    if s.error is not None:
        told = s.error.get("traceback") or f"{s.error.get('type')}: {s.error.get('message')}"
        parts += _html_block("Error", str(told))
    if s.output:
        parts += _html_block("Output of the task", s.output)
    if s.failing is not None:
        parts += _html_of_failing(s.failing)
    elif s.stderr:
        parts += _html_block("stderr", s.stderr)
    if s.attempts:
        parts += ["<h5>Attempts</h5>", _html_table(s.attempts)]
    if s.result is not None:
        parts += ["<h5>Result</h5>", f"<pre>{_highlighted(s.result, 'JSON')}</pre>"]
    return f'<div class="nbrun-show">{"".join(parts)}</div>'


def _safe(value: Any) -> str:
    return escape(escape_control_chars(str(value)))


def _html_facts(facts: Mapping[str, Any]) -> str:
    return f'<div class="facts">{" · ".join(f"{_safe(k)}: {_safe(v)}" for k, v in facts.items())}</div>'


def _html_block(title: str, text: str) -> list[str]:
    return [f"<h5>{escape(title)}</h5>", f"<pre>{escape(chr(10).join(truncate(text)))}</pre>"]


def _html_of_failing(f: FailingTest) -> list[str]:
    parts = [f"<h5>Failing test {f.number}: {_safe(f.verdict or '')}</h5>", _html_facts(f.facts)]
    if f.stdin is not None:
        parts += _html_block("stdin", f.stdin)
    if f.expected is not None and f.stdout is not None:
        if f.expected == f.stdout:
            parts += _html_block("Output, as expected", f.stdout)
        else:
            only_space = f.expected.split() == f.stdout.split()
            title = "Difference: − expected, + output" + (" (white space alone)" if only_space else "")
            rows = difference(f.expected, f.stdout)
            lines = "".join(f'<span class="{_CLASS[m]}">{escape(m)} {escape(line)}</span>' for m, line in rows)
            parts += [f"<h5>{title}</h5>", f"<pre>{lines}</pre>"]
    elif f.stdout:
        parts += _html_block("Output", f.stdout)
    if f.stderr:
        parts += _html_block("stderr", f.stderr)
    return parts


def _html_table(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    names = list(dict.fromkeys(k for row in rows for k in row))
    head = "".join(f"<th>{_safe(n)}</th>" for n in names)
    cells = ["".join(f"<td>{_safe(row.get(n, ''))}</td>" for n in names) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{c}</tr>' for c in cells)}</table>"


def _highlighted(source: str, language: str) -> str:
    """With colours where Pygments is there, which comes with every notebook; escaped either way."""
    text = "\n".join(truncate(source, MAX_LINES))
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name

        lexer = get_lexer_by_name(_LEXERS.get(language.upper(), "text"), stripnl=False)
        return str(highlight(text, lexer, HtmlFormatter(noclasses=True, nowrap=True, style="friendly")))
    except Exception:  # a lexer that gives up on hostile text, or no Pygments
        return escape(text)
