"""What is sent of a sample that was opened: its tasks in columns, and of one task all that is saved.

Pure functions; their arguments were read from the results a moment before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbrun.entry_view import EntryView, view_entry
from nbrun.formatting import time_text
from nbrun.model import TaskSummary
from nbrun.panel.sync import pack
from nbrun.texts import shorten, without_surrogates

#: How many tasks of a sample are sent, and how many characters of a task's texts and facts.
TASKS, TEXT_CHARS, FACT_CHARS = 100_000, 20_000, 300
#: For how many tasks previews of items and results are sent: the first ones as they are ordered.
PREVIEWS = 2000
STATUSES = ("done", "error", "running", "waiting")

Texts = list[tuple[str, str]]


def tasks_of(rows: Sequence[TaskSummary]) -> tuple[dict[str, Any], list[bytes]]:
    """Return the columns of a sample's tasks, packed like those of sync.py; texts that repeat are numbered in `names`.

    What one opens a sample for comes first: errors, unexpected verdicts, tasks that wait, tasks that run.
    """
    rows = sorted(rows, key=_rank)[:TASKS]
    names: dict[str, dict[str, int]] = {"group": {}, "verdict": {}, "language": {}}
    columns: dict[str, list[int]] = {
        "index": [row.index for row in rows],
        "status": [STATUSES.index(row.status) if row.status in STATUSES else 0 for row in rows],
        # one more, so that 0 can say that it is not known
        "time_ms": [0 if row.time_s is None else 1 + min(2**31, round(row.time_s * 1000)) for row in rows],
        "attempts": [row.attempts for row in rows],
        "unexpected": [int(row.is_unexpected) for row in rows],
    }
    for name, numbers in names.items():
        texts = [without_surrogates(shorten(getattr(row, name) or "", 100)) for row in rows]
        columns[name] = [numbers.setdefault(text, len(numbers)) for text in texts]
    layout, parts = [], []
    for name, values in columns.items():
        width, packed = pack(values)
        layout.append((name, len(values), width))
        parts.append(packed)
    previews = {
        "item": [without_surrogates(row.note or row.item) for row in rows[:PREVIEWS]],
        "result": [without_surrogates(row.result) for row in rows[:PREVIEWS]],
    }
    content = {"tasks": len(rows), "layout": layout, "names": {name: list(numbers) for name, numbers in names.items()}}
    content["previews"] = {name: texts for name, texts in previews.items() if any(texts)}
    return content, [b"".join(parts)] if rows else []


def _rank(row: TaskSummary) -> int:
    if row.status == "error":
        return 0
    return {"waiting": 2, "running": 3}.get(row.status, 1 if row.is_unexpected else 4)


#: Names of facts in `EntryView` that the panel words otherwise.
_FACTS = {"api_used": "Endpoint", "worker_id": "Worker", "run_id": "Run"}


def entry_of(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is saved of a task as facts (short) and texts (long), each with its name."""
    if entry is None:
        return {"facts": [], "texts": [("", "Nothing is saved of this task yet.")]}
    view = view_entry("", "", entry)
    if view.status == "running":
        return {"facts": [], "texts": _sent([("What it has printed so far", view.output)], TEXT_CHARS)}
    none = "" if view.status == "done" else "none: it ended in an error"
    facts = [("Verdict", view.verdict or none), ("Language", "" if view.language == "JSON" else view.language)]
    facts += [(_FACTS.get(name, name.capitalize()), str(value)) for name, value in view.facts.items()]
    texts = [*_error(view), ("What it printed", view.output), *_failing(view), ("stderr", _stderr(view))]
    texts += [("The compiler's output", view.compiler), ("Item", view.item or view.source or _NO_ITEM)]
    texts.append(("Result", view.result or ""))
    return {"facts": _sent(facts, FACT_CHARS), "texts": _sent(texts, TEXT_CHARS)}


_NO_ITEM = "It was not stored (keep_items=False)."


def _sent(named: Texts, characters: int) -> Texts:
    return [(name, without_surrogates(shorten(text, characters))) for name, text in named if text]


def _error(view: EntryView) -> Texts:
    if view.error is None:
        return []
    head = f"{view.error.get('type', 'error')}: {view.error.get('message', '')}"
    return [("Error", head), ("Traceback", str(view.error.get("traceback") or ""))]


def _failing(view: EntryView) -> Texts:
    """Return the first test that failed."""
    test = view.failing
    if test is None:
        return []
    took, code = test.facts.get("execution_time"), test.facts.get("return_code")
    words = [
        test.verdict or "failed",
        time_text(took) if isinstance(took, (int, float)) else "",
        f"return code {code}" if code else "",
    ]
    return [
        (f"Failing test: number {test.number + 1} of {view.n_tests}", ", ".join(filter(None, words))),
        ("Its input", test.stdin or ""),
        ("Expected output", test.expected or ""),
        ("Output", test.stdout or ""),
    ]


def _stderr(view: EntryView) -> str:
    return view.stderr if view.failing is None else view.failing.stderr or ""
