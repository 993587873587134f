"""The panel's static form, for pages without widgets or without a kernel: the last known state, as HTML and as text.

It is saved beside the widget, and shown instead of it in exports and viewers. Its styles are inline and few: viewers
strip what they don't trust, and the words must be enough.

Threads: functions without state of their own; any thread may call them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from nbrun.model import ErrorNote, Progress, State
from nbrun.progress import end_advice, end_title, eta_text, load_call, quality_texts
from nbrun.texts import count_text, counted, escape_control_chars, percent_text, rate_text
from nbrun.verdicts import judged

#: Colours that people with colour-blindness can tell apart.
_COLOURS = {
    "accepted": "#009e73",
    "rejected": "#e69f00",
    "done": "#0072b2",
    "judge errors": "#cc79a7",
    "errors": "#c8442c",
    "running": "#56b4e9",
    "waiting": "#f0e442",
}
#: The page needs anywidget in the server's environment, not in the kernel's.
_NO_WIDGET = (
    "No live panel here? anywidget must be installed where the Jupyter server runs (pip install anywidget), "
    "and the page reloaded."
)
_ERRORS_SHOWN = 3
#: Text keeps the page's colour: no other can be read on light and on dark pages. A line before it has the colour.
_MARKED = "border-left: 4px solid {}; padding-left: 8px"
_AMBER = "#b35c00"


def mime_bundle(progress: Progress, *, css_class: str = "", beside_widget: bool = False) -> dict[str, str]:
    """Return both forms by their MIME types, as IPython displays them."""
    html = static_html(progress, css_class=css_class, beside_widget=beside_widget)
    return {"text/html": html, "text/plain": static_text(progress)}


def static_html(progress: Progress, *, css_class: str = "", beside_widget: bool = False) -> str:
    """Return the state of a run as HTML that needs nothing else. Everything that comes from outside is escaped.

    Args:
        progress: the state.
        css_class: another class for the root, by which a live widget finds and hides it.
        beside_widget: explain what is missing if the widget isn't shown; not for a run that has ended.
    """
    from html import escape  # loads slowly

    amber = f"; {_MARKED.format(_AMBER)}" if progress.state is State.DONE and progress.errors else ""
    error_mark = _MARKED.format(_COLOURS["errors"])
    parts = [
        f'<div class="nbrun-static {escape(css_class)}" style="font-family: sans-serif; font-size: 13px; '
        f'line-height: 1.5; border: 1px solid #9994; border-radius: 4px; padding: 8px 12px; margin: 4px 0">',
        f'<div style="font-size: 15px{amber}"><b>{escape(_title(progress))}</b></div>',
        _bar(progress),
        *(f"<div>{escape(line)}</div>" for line in _lines(progress)),
    ]
    if progress.ended:
        parts.append(f"<div><code>{escape(load_call(progress))}</code> loads the results.</div>")
    parts += [
        f'<div style="{error_mark}"><code style="white-space: pre-wrap">{escape(_error(note))}</code></div>'
        for note in progress.recent_errors[-_ERRORS_SHOWN:]
    ]
    parts.append(f'<div style="opacity: 0.8"><small>{escape(_when(progress))}</small></div>')
    if beside_widget and not progress.ended:
        parts.append(f"<div><small>{_NO_WIDGET}</small></div>")
    return "".join([*parts, "</div>"])


def static_text(progress: Progress) -> str:
    """Return the same as plain text."""
    lines = [_title(progress), *_lines(progress)]
    if progress.ended:
        lines.append(f"{load_call(progress)} loads the results.")
    lines += [f"  {_error(note)}" for note in progress.recent_errors[-_ERRORS_SHOWN:]]
    return escape_control_chars("\n".join([*lines, _when(progress)]))


def _title(progress: Progress) -> str:
    if progress.ended:
        return end_title(progress)
    share = percent_text((progress.done + progress.errors) / progress.total) if progress.total else ""
    left = "" if progress.state is State.PAUSED else eta_text(progress)
    words = filter(None, [count_text(progress), share, rate_text(progress.rate_per_s), left])
    return f"{progress.state.value.capitalize()}: {', '.join(words)}"


def _lines(progress: Progress) -> Iterator[str]:
    """Yield what is between the title and the errors; no line is empty."""
    of = "" if progress.samples_total is None else f" of {progress.samples_total:,}"
    counts = {
        f"{progress.running:,} running": progress.running,
        f"{progress.waiting:,} waiting": progress.waiting,
        f"{counted(progress.unsaved, 'result')} waiting to be saved": progress.unsaved,
    }
    unexpected = f"{progress.unexpected:,} unexpected" if progress.unexpected else ""
    verdicts = sorted(progress.verdicts.items(), key=lambda item: -item[1])
    lines = (
        "" if progress.ended and progress.watched else progress.message,  # then it is the advice
        ", ".join([f"{progress.samples_done:,}{of} samples finished", *filter(counts.get, counts)]),
        ", ".join(f"{name} {n:,}" for name, n in verdicts),
        ", ".join(filter(None, [unexpected, *quality_texts(progress)])),
        end_advice(progress) if progress.ended else _where(progress),
    )
    return filter(None, lines)


def _where(progress: Progress) -> str:
    return f"Results: {progress.results}" if progress.results else ""


def _error(note: ErrorNote) -> str:
    first_line = next(iter(note.message.strip().splitlines()), "")
    return f"{note.sample_id[:120]}: {note.type}: {first_line[:300]}"


def _when(progress: Progress) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    if progress.ended:
        return now
    again = "to go on watching" if progress.watched else "to go on with what is missing"
    return f"Last seen at {now}. If the kernel has ended since, run the cell again {again}."


def _bar(progress: Progress) -> str:
    accepted, rejected = judged(progress.verdicts)
    judge_done = progress.verdicts.get("JudgeError", 0)
    parts = {
        "accepted": accepted,
        "rejected": rejected,
        "done": max(0, progress.done - accepted - rejected - judge_done),  # also verdicts of a judge's own
        "judge errors": progress.judge_errors,
        "errors": max(0, progress.errors - (progress.judge_errors - judge_done)),
        "running": progress.running,
        "waiting": progress.waiting,
    }
    total = max(progress.total or 0, sum(parts.values()) + progress.queued, 1)
    spans = "".join(
        f'<div title="{name} {n:,}" style="display: inline-block; height: 12px; vertical-align: top; '
        f'width: {100 * n / total:.2f}%; background: {_COLOURS[name]}"></div>'
        for name, n in parts.items()
        if n
    )
    return (
        f'<div role="img" aria-label="{count_text(progress)}" style="height: 12px; margin: 4px 0; '
        f"overflow: hidden; border-radius: 3px; white-space: nowrap; font-size: 0; background: #9994; "
        f'forced-color-adjust: none">{spans}</div>'
    )
