"""What `show` shows, as HTML for a notebook: everything escaped, no script, readable in light and dark. Any thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from nbrun.frames.entry_view import MAX_LINES, EntryView, Failing, difference, truncate
from nbrun.texts import escape_control_chars

_LEXERS = {"PYTHON": "python", "PYTHON2": "python", "PYTHON3": "python", "CPP": "cpp", "C": "c", "JAVA": "java",
           "JSON": "json", "GO": "go", "RUST": "rust"}  # fmt: skip
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
    parts = [STYLE, f"<h4>{head}</h4>", _facts(s.facts)]
    if s.source is None:
        parts.append('<p class="facts">The item was not kept (<code>keep_items=False</code>).</p>')
    else:
        parts.append(f"<pre>{_highlighted(s.source, s.language)}</pre>")
    if s.compiler:
        parts += _block("Compiler", s.compiler)
    if s.error is not None:
        told = s.error.get("traceback") or f"{s.error.get('type')}: {s.error.get('message')}"
        parts += _block("Error", str(told))
    if s.failing is not None:
        parts += _failing(s.failing)
    elif s.stderr:
        parts += _block("stderr", s.stderr)
    if s.attempts:
        parts += ["<h5>Attempts</h5>", _table(s.attempts)]
    if s.result is not None:
        parts += ["<h5>Result</h5>", f"<pre>{_highlighted(s.result, 'JSON')}</pre>"]
    return f'<div class="nbrun-show">{"".join(parts)}</div>'


def _safe(value: Any) -> str:
    return escape(escape_control_chars(str(value)))


def _facts(facts: Mapping[str, Any]) -> str:
    return f'<div class="facts">{" · ".join(f"{_safe(k)}: {_safe(v)}" for k, v in facts.items())}</div>'


def _block(title: str, text: str) -> list[str]:
    return [f"<h5>{escape(title)}</h5>", f"<pre>{escape(chr(10).join(truncate(text)))}</pre>"]


def _failing(f: Failing) -> list[str]:
    parts = [f"<h5>Failing test {f.number}: {_safe(f.verdict or '')}</h5>", _facts(f.facts)]
    if f.stdin is not None:
        parts += _block("stdin", f.stdin)
    if f.expected is not None and f.stdout is not None:
        if f.expected == f.stdout:
            parts += _block("Output, as expected", f.stdout)
        else:
            only_space = f.expected.split() == f.stdout.split()
            title = "Difference: − expected, + output" + (" (white space alone)" if only_space else "")
            rows = difference(f.expected, f.stdout)
            lines = "".join(f'<span class="{_CLASS[m]}">{escape(m)} {escape(line)}</span>' for m, line in rows)
            parts += [f"<h5>{title}</h5>", f"<pre>{lines}</pre>"]
    elif f.stdout:
        parts += _block("Output", f.stdout)
    if f.stderr:
        parts += _block("stderr", f.stderr)
    return parts


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
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
