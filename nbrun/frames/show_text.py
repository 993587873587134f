"""What `show` shows, as plain text for a terminal. Any thread."""

from __future__ import annotations

from collections.abc import Iterable

from nbrun.frames.entry_view import EntryView, Failing, difference, truncate
from nbrun.texts import escape_control_chars

_OTHER = 20


def text_of(s: EntryView) -> str:
    """All of it, with a line feed between its parts and none at its end."""
    head = f"{s.title}   {s.language}".rstrip()
    out = [escape_control_chars(head), escape_control_chars(f"{s.status}: {s.verdict}" if s.verdict else s.status)]
    out += [escape_control_chars(f"  {name}: {value}") for name, value in s.facts.items()]
    if s.source is None:
        out += ["", "The item was not kept (keep_items=False)."]
    else:
        out += _block("source", (f"{i:>4} | {line}" for i, line in enumerate(truncate(s.source), 1)))
    if s.compiler:
        out += _block("compiler", truncate(s.compiler, _OTHER))
    if s.error is not None:
        told = s.error.get("traceback") or f"{s.error.get('type')}: {s.error.get('message')}"
        out += _block("error", truncate(str(told), 60))
    if s.failing is not None:
        out += _failing(s.failing)
    elif s.stderr:
        out += _block("stderr", truncate(s.stderr, _OTHER))
    if s.attempts:
        rows = (", ".join(f"{k} {v}" for k, v in row.items()) for row in s.attempts)
        out += _block("attempts", (escape_control_chars(f"{i}. {row}") for i, row in enumerate(rows, 1)))
    if s.result is not None:
        out += _block("result", truncate(s.result, 60))
    return "\n".join(out)


def _failing(f: Failing) -> list[str]:
    facts = ", ".join(f"{k} {v}" for k, v in f.facts.items())
    out = ["", escape_control_chars(f"failing test {f.number}: {f.verdict or ''}   {facts}".rstrip())]
    if f.stdin is not None:
        out += _block("stdin", truncate(f.stdin, _OTHER), "  ")
    if f.expected is not None and f.stdout is not None:
        if f.expected == f.stdout:
            out += _block("output", ["as expected"], "  ")
        else:
            title = "difference (- expected, + output)"
            if f.expected.split() == f.stdout.split():
                title += ": in white space alone"
            out += _block(title, (f"{mark} {line}" for mark, line in difference(f.expected, f.stdout)), "  ")
    elif f.stdout:
        out += _block("output", truncate(f.stdout, _OTHER), "  ")
    if f.stderr:
        out += _block("stderr", truncate(f.stderr, _OTHER), "  ")
    return out


def _block(title: str, lines: Iterable[str], indent: str = "") -> list[str]:
    return ["", f"{indent}{title}", *(f"{indent}  {line}" for line in lines)]
