"""One saved entry as a person reads it: source, verdict, the failing test, the difference, stderr, attempts.

`view_entry` collects what there is to see; `text_of` and `html_of` render it. A program's output may be hostile:
control characters become visible ones, and HTML is escaped and has no script.

Threads: pure functions.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import chain, islice
from typing import NamedTuple

from nbrun import verdicts
from nbrun.results.values import pretty
from nbrun.texts import escape_control_chars, printable, time_text
from nbrun.verdicts import mapping, run_of, text_in, texts_of

#: Longer texts are cut to this many lines, and this many characters per line.
MAX_LINES, MAX_CHARS = 200, 500
#: How many lines around the first difference are compared.
_COMPARED = 400


def truncate(text: str, lines: int = MAX_LINES) -> list[str]:
    """Return the text's first lines, each cut to a maximal width, and a note of what was left out."""
    rows = text.removesuffix("\n").split("\n") if text else []
    kept = [r if len(r) <= MAX_CHARS else f"{r[:MAX_CHARS]}… ({len(r):,} characters)" for r in rows[:lines]]
    if len(rows) > lines:
        kept.append(f"… ({len(rows) - lines:,} lines more)")
    return list(map(escape_control_chars, kept))


def difference(expected: str, actual: str) -> list[tuple[str, str]]:
    """Return lines, each with a mark: "-" only expected, "+" only in the output, " " in both, "…" left out.

    Example:
        >>> difference("1\\n2\\n", "1\\n3\\n")
        [(' ', '1'), ('-', '2'), ('+', '3')]
    """
    a, b = expected.rstrip("\n").split("\n"), actual.rstrip("\n").split("\n") if actual else []
    start = max(0, _equal_lines(a, b) - 3)
    out = [("…", f"{start:,} equal lines before")] if start else []
    out += islice(_marked_lines(a[start : start + _COMPARED], b[start : start + _COMPARED]), MAX_LINES - len(out))
    rest = max(len(a), len(b)) - start - _COMPARED
    if rest > 0 or len(out) >= MAX_LINES:
        out.append(("…", "the rest is not shown"))
    return out


def _equal_lines(a: list[str], b: list[str]) -> int:
    """Return how many lines are equal before the first that differs."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _marked_lines(a: list[str], b: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines that differ and those around them, each with its mark."""
    file_names, place = 2, 1  # lines of a unified diff that come before the first part that differs
    for line in islice(difflib.unified_diff(a, b, n=3, lineterm=""), file_names + place, None):
        if line.startswith("@@"):
            yield "…", ""
        else:
            yield line[0], "".join(truncate(line[1:], 1))


@dataclass(frozen=True)
class FailingTest:
    """The first test that didn't pass. Texts are None if they weren't saved."""

    number: int
    verdict: str | None
    stdin: str | None
    expected: str | None
    stdout: str | None
    stderr: str | None
    facts: dict[str, object]

    @property
    def differs_in_space_alone(self) -> bool:
        """Whether the output has the words that were expected."""
        return (self.expected or "").split() == (self.stdout or "").split()


@dataclass(frozen=True)
class EntryView:
    """The visible content of an entry. Its repr is HTML in a notebook, and plain text in a terminal.

    Attributes:
        output: what the task printed before it ended in an error.
        item: an item that has more than a source and a language, as JSON.
    """

    title: str
    status: str
    verdict: str | None
    language: str
    source: str | None
    facts: dict[str, object]
    failing: FailingTest | None = None
    error: Mapping[str, object] | None = None
    stderr: str = ""
    compiler: str = ""
    attempts: list[Mapping[str, object]] = field(default_factory=list)
    result: str | None = None
    output: str = ""
    n_tests: int | None = None
    item: str | None = None

    def __str__(self) -> str:
        return text_of(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_of(self)


def view_entry(sample_id: str, group: str, entry: Mapping[str, object]) -> EntryView:
    """Return what can be shown of an entry. No content of it raises an error."""
    result, error = entry.get("result"), entry.get("error")
    saved_tests = _tests(result)
    tests = saved_tests or []
    source = _source(entry)
    return EntryView(
        title=f"{sample_id} · {group}{_place(entry)}",
        status=str(entry.get("status")),
        verdict=verdicts.of(result),
        language=source.language,
        source=source.text,
        facts=_facts(entry),
        failing=_failing_test(tests),
        error=error if isinstance(error, Mapping) else None,
        stderr=next(filter(None, (texts_of(test).stderr for test in tests)), ""),  # of an accepted solution
        compiler=_compiler(tests),
        attempts=_attempts(mapping(result)),
        result=None if saved_tests is not None or result is None else _plain(result),
        output=_plain(entry.get("output") or ""),
        n_tests=verdicts.summary_of_tests(result).n,
        item=_whole_item(entry),
    )


def _place(entry: Mapping[str, object]) -> str:
    index = entry.get("index")
    return f" {entry.get('key')}" if index is None else f"[{index}]"


def _tests(result: object) -> list[Mapping[str, object]] | None:
    tests = mapping(result).get("tests")
    return [test for test in tests if isinstance(test, Mapping)] if isinstance(tests, list) else None


def _facts(entry: Mapping[str, object]) -> dict[str, object]:
    """Return short facts by name, without those that the entry doesn't have."""
    result = entry.get("result")
    summary = verdicts.summary_of_tests(result)
    started = entry.get("started_at")
    facts: dict[str, object] = {
        "tests passed": None if summary.n is None else f"{summary.passed} of {summary.n}",
        "longest test": measured(summary.longest_s),
        "limits": _listed(mapping(result).get("limits")),
        "took": measured(entry.get("duration_s")),
        "started": _date(started) if isinstance(started, float) else None,
    }
    for name in ("attempts", "api_used", "worker_id", "run_id"):
        facts[name] = printable(entry.get(name))
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _listed(values: object) -> str:
    """Return the names and values of a mapping; "" of anything else."""
    return ", ".join(f"{name} {as_text(value)}" for name, value in mapping(values).items() if value is not None)


def measured(seconds: object) -> str | None:
    """Return the text of a time; None where it is none."""
    if not isinstance(seconds, (int, float)):
        return None
    try:
        return time_text(seconds)
    except OverflowError:  # no float holds it
        return f"{printable(seconds)} s"


def _date(at: float) -> str | None:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (ValueError, OverflowError, OSError):  # another tool has written a time beyond all calendars
        return None


class _Source(NamedTuple):
    """An item's source code, or all of it, and the language; the text is None if the item was not stored."""

    language: str
    text: str | None


def _source(entry: Mapping[str, object]) -> _Source:
    item = entry.get("item")
    has_source = item if isinstance(item, Mapping) else entry
    source = has_source.get("solution")
    if isinstance(source, str):
        return _Source(text_in(has_source, "language"), source)
    if isinstance(item, str):
        return _Source("", item)
    whole = source if item is None else item
    return _Source("", None) if whole is None else _Source("JSON", _plain(whole))


def _whole_item(entry: Mapping[str, object]) -> str | None:
    item = entry.get("item")
    return _plain(item) if isinstance(item, Mapping) and not item.keys() <= {"solution", "language"} else None


def as_text(value: object) -> str:
    """Return the text of a value that isn't known to print."""
    try:
        return str(value)
    except ValueError:  # an integer of more digits than Python prints
        return pretty(value)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else pretty(value)


def _failing_test(tests: Iterable[Mapping[str, object]]) -> FailingTest | None:
    for number, test in enumerate(tests):
        if test.get("passed") is not True:
            verdict = verdicts.of({"accepted": False, "tests": [test]})
            return FailingTest(number, verdict, *texts_of(test), _facts_of_test(test))
    return None


def _facts_of_test(test: Mapping[str, object]) -> dict[str, object]:
    facts: dict[str, object]
    facts = {k: printable(v) for k, v in run_of(test).items() if isinstance(v, (str, int, float))}
    for name in ("stdout", "stderr"):
        facts.pop(name, None)
    if message := mapping(test.get("exec_info")).get("message"):
        facts["message"] = as_text(message)
    return facts


def _compiler(tests: Iterable[Mapping[str, object]]) -> str:
    """Return the compiler's output."""
    for test in tests:
        compiled = mapping(mapping(test.get("exec_info")).get("compile_result"))
        if text := text_in(compiled, "stderr") or text_in(compiled, "stdout"):
            return text
    return ""


def _attempts(result: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Return the earlier attempts that a judge has noted in its result, by whatever name."""
    for name in ("attempts", "tries", "history"):
        rows = result.get(name)
        if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
            return rows
    return []


def _outputs(s: EntryView) -> Iterator[tuple[str, str]]:
    """Yield what compiler, task and program wrote, with titles; a failing test shows its program's stderr itself."""
    yield "compiler", s.compiler
    if s.error is not None:
        in_short = f"{as_text(s.error.get('type'))}: {as_text(s.error.get('message'))}"
        yield "error", as_text(s.error.get("traceback") or in_short)
    yield "output of the task", s.output
    if s.failing is None:
        yield "stderr", s.stderr


# ---- plain text for a terminal


#: A terminal shows this many lines of an error and of a result, and of other texts beside the source.
_LONG_LINES, _OTHER_LINES = 60, 20


def text_of(s: EntryView) -> str:
    """Return the entry as plain text, without a line feed at its end."""
    out = [f"{s.title}   {s.language}".rstrip(), f"{s.status}: {s.verdict}" if s.verdict else s.status]
    out += [f"  {name}: {as_text(value)}" for name, value in s.facts.items()]
    out = list(map(escape_control_chars, out))
    out += _text_of_source(s.source)
    for title, text in _outputs(s):
        out += _optional_block(title, text, _LONG_LINES if title == "error" else _OTHER_LINES)
    if s.failing is not None:
        out += _text_of_failing(s.failing)
    out += _text_of_attempts(s.attempts)
    out += _optional_block("result", s.result, _LONG_LINES)
    return "\n".join(out)


def _text_of_source(source: str | None) -> list[str]:
    if source is None:
        return ["", "The item was not kept (keep_items=False)."]
    return _text_block("source", (f"{i:>4} | {line}" for i, line in enumerate(truncate(source), 1)))


def _text_of_attempts(attempts: Sequence[Mapping[str, object]]) -> list[str]:
    rows = [escape_control_chars(f"{i}. {_in_words(row)}") for i, row in enumerate(attempts, 1)]
    return _text_block("attempts", rows) if rows else []


def _in_words(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {as_text(value)}" for name, value in values.items())


def _text_of_failing(f: FailingTest) -> list[str]:
    out = ["", escape_control_chars(f"failing test {f.number}: {f.verdict or ''}   {_in_words(f.facts)}".rstrip())]
    if f.stdin is not None:
        out += _text_block("stdin", truncate(f.stdin, _OTHER_LINES), "  ")
    if f.expected is None or f.stdout is None:
        out += _optional_block("output", f.stdout, _OTHER_LINES, "  ")
    elif f.expected == f.stdout:
        out += _text_block("output", ["as expected"], "  ")
    else:
        title = "difference (- expected, + output)" + ": in white space alone" * f.differs_in_space_alone
        out += _text_block(title, (f"{mark} {line}" for mark, line in difference(f.expected, f.stdout)), "  ")
    out += _optional_block("stderr", f.stderr, _OTHER_LINES, "  ")
    return out


def _optional_block(title: str, text: str | None, lines: int, indent: str = "") -> list[str]:
    return _text_block(title, truncate(text, lines), indent) if text else []


def _text_block(title: str, lines: Iterable[str], indent: str = "") -> list[str]:
    return ["", f"{indent}{title}", *(f"{indent}  {line}" for line in lines)]


# ---- HTML for a notebook, readable in light and dark


#: Languages -> their names in Pygments.
_LEXERS = {name.upper(): name for name in ("python", "cpp", "c", "java", "json", "go", "rust")}
_LEXERS |= {"PYTHON2": "python", "PYTHON3": "python"}
#: Code is dark on light in every theme, so that its colours are readable.
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


_MARKS = {"Accepted": "✓ ", "JudgeError": "? ", None: ""}
_OTHER_MARK = "✗ "


def html_of(s: EntryView) -> str:
    """Return the entry as HTML."""
    mark = _MARKS.get(s.verdict, _OTHER_MARK)
    verdict = f'<span class="verdict">{_safe(mark + (s.verdict or s.status))}</span>'
    head = f"<strong>{_safe(s.title)}</strong> {_safe(s.language)} {verdict}"
    parts = [STYLE, f"<h4>{head}</h4>", _html_facts(s.facts), _html_of_source(s)]
    for title, text in _outputs(s):
        parts += _optional_html(title if title == "stderr" else title.capitalize(), text)
    if s.failing is not None:
        parts += _html_of_failing(s.failing)
    if s.attempts:
        parts += ["<h5>Attempts</h5>", _html_table(s.attempts)]
    if s.result is not None:
        parts += ["<h5>Result</h5>", f"<pre>{_highlighted(s.result, 'JSON')}</pre>"]
    return f'<div class="nbrun-show">{"".join(parts)}</div>'


def _html_of_source(s: EntryView) -> str:
    if s.source is None:
        return '<p class="facts">The item was not kept (<code>keep_items=False</code>).</p>'
    return f"<pre>{_highlighted(s.source, s.language)}</pre>"


def _safe(value: object) -> str:
    return escape(escape_control_chars(as_text(value)))


def _html_facts(facts: Mapping[str, object]) -> str:
    return f'<div class="facts">{" · ".join(f"{_safe(k)}: {_safe(v)}" for k, v in facts.items())}</div>'


def _optional_html(title: str, text: str | None) -> list[str]:
    return _html_block(title, text) if text else []


def _html_block(title: str, text: str) -> list[str]:
    return [f"<h5>{escape(title)}</h5>", f"<pre>{escape(chr(10).join(truncate(text)))}</pre>"]


def _html_of_failing(f: FailingTest) -> list[str]:
    parts = [f"<h5>Failing test {f.number}: {_safe(f.verdict or '')}</h5>", _html_facts(f.facts)]
    if f.stdin is not None:
        parts += _html_block("stdin", f.stdin)
    if f.expected is None or f.stdout is None:
        parts += _optional_html("Output", f.stdout)
    elif f.expected == f.stdout:
        parts += _html_block("Output, as expected", f.stdout)
    else:
        title = "Difference: − expected, + output" + " (white space alone)" * f.differs_in_space_alone
        rows = difference(f.expected, f.stdout)
        lines = "".join(f'<span class="{_CLASS[m]}">{escape(m)} {escape(line)}</span>' for m, line in rows)
        parts += [f"<h5>{title}</h5>", f"<pre>{lines}</pre>"]
    return parts + _optional_html("stderr", f.stderr)


def _html_table(rows: Sequence[Mapping[str, object]]) -> str:
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    lines = [_cells("th", names)]
    lines += [_cells("td", [row.get(name, "") for name in names]) for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _cells(tag: str, values: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_safe(value)}</{tag}>' for value in values)}</tr>"


def _highlighted(source: str, language: str) -> str:
    """Return the source as HTML, with colours if Pygments is installed (every notebook has it)."""
    text = "\n".join(truncate(source, MAX_LINES))
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name

        lexer = get_lexer_by_name(_LEXERS.get(language.upper(), "text"), stripnl=False)
        return str(highlight(text, lexer, HtmlFormatter(noclasses=True, nowrap=True, style="friendly")))
    except Exception:  # a lexer that gives up on hostile text, or no Pygments
        return escape(text)
