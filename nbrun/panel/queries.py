"""Answers to what a view asks to read: a sample's tasks, all that is saved of a task, samples that are not read yet.

`QUERIES` lists the queries by the names that the page uses.

Threads: the widget answers each query in a thread of its own, since reading results may take long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

from nbrun.entry_view import EntryView, FailingTest, view_entry
from nbrun.formatting import time_text
from nbrun.model import RunControls, TaskSummary
from nbrun.panel.actions import ViewMessage
from nbrun.panel.sync import Message, pack_columns
from nbrun.texts import shorten, without_surrogates

# ---- a sample's tasks

#: How many tasks of a sample are sent, and how many characters of a task's texts and facts.
TASKS, TEXT_CHARS, FACT_CHARS = 100_000, 20_000, 300
#: How many characters of a group, a verdict or a language are sent.
NAME_CHARS = 100
#: Previews of items and results are sent for this many tasks: the first ones in the order in which they are shown.
PREVIEWS = 2000
STATUSES = ("done", "error", "running", "waiting")
#: The order of tasks by their status. Those that are done come last, with unexpected verdicts before the others.
_RANKS = {"error": 0, "waiting": 2, "running": 3}
_UNEXPECTED_RANK, _LAST_RANK = 1, 4


def tasks_of(rows: Iterable[TaskSummary]) -> Message:
    """Return the columns of a sample's tasks, packed like those of sync.py; texts that repeat are numbered in `names`.

    The tasks for which a sample is usually opened come first: errors, unexpected verdicts, tasks that wait or run.
    """
    rows = sorted(rows, key=_rank)[:TASKS]
    names = {
        "group": _Numbered(row.group for row in rows),
        "verdict": _Numbered(row.verdict for row in rows),
        "language": _Numbered(row.language for row in rows),
    }
    columns: dict[str, Sequence[int]] = {
        "index": [row.index for row in rows],
        "status": [STATUSES.index(row.status) if row.status in STATUSES else 0 for row in rows],
        "time_ms": [_milliseconds(row.time_s) for row in rows],
        "attempts": [row.attempts for row in rows],
        "unexpected": [int(row.is_unexpected) for row in rows],
        **{name: column.numbers for name, column in names.items()},
    }
    previews = {
        "item": [without_surrogates(row.note or row.item) for row in rows[:PREVIEWS]],
        "result": [without_surrogates(row.result) for row in rows[:PREVIEWS]],
    }
    packed = pack_columns(columns.items())
    content: dict[str, object] = {
        "tasks": len(rows),
        "layout": packed.layout,
        "names": {name: column.texts for name, column in names.items()},
        "previews": {name: texts for name, texts in previews.items() if any(texts)},
    }
    return Message(content, [packed.data] if packed.data else [])


def _rank(row: TaskSummary) -> int:
    return _RANKS.get(row.status, _UNEXPECTED_RANK if row.is_unexpected else _LAST_RANK)


def _milliseconds(time_s: float | None) -> int:
    """Return a time for a column: one more than its milliseconds, since 0 means that it is not known."""
    return 0 if time_s is None else 1 + min(2**31, round(time_s * 1000))


class _Numbered:
    """A column of texts with few different values: those values, and the number of each row's value."""

    def __init__(self, column: Iterable[str | None]) -> None:
        numbers: dict[str, int] = {}
        texts = [without_surrogates(shorten(text or "", NAME_CHARS)) for text in column]
        self.numbers = [numbers.setdefault(text, len(numbers)) for text in texts]
        self.texts = list(numbers)


# ---- what is saved of a task


class NamedText(NamedTuple):
    """A text with its heading, or a fact with its name."""

    name: str
    text: str


class SentEntry(TypedDict):
    """What is sent of a task's entry: short facts, and texts."""

    facts: list[NamedText]
    texts: list[NamedText]


#: What the panel calls facts of `EntryView`, where that is not the fact's own name.
_FACT_NAMES = {"api_used": "Endpoint", "worker_id": "Worker", "run_id": "Run"}
_NO_ENTRY = NamedText("", "Nothing is saved of this task yet.")
_NO_ITEM = "It was not stored (keep_items=False)."


def entry_of(entry: Mapping[str, object] | None) -> SentEntry:
    """Return what is saved of a task as facts and texts."""
    if entry is None:
        return {"facts": [], "texts": [_NO_ENTRY]}
    view = view_entry("", "", entry)
    if view.status == "running":
        printed = [NamedText("What it has printed so far", view.output)]
        return {"facts": [], "texts": _shortened(printed, TEXT_CHARS)}
    return {"facts": _shortened(_facts(view), FACT_CHARS), "texts": _shortened(_texts(view), TEXT_CHARS)}


def _shortened(named: Iterable[NamedText], characters: int) -> list[NamedText]:
    """Return those that are not empty, in a form that can be sent."""
    return [NamedText(name, without_surrogates(shorten(text, characters))) for name, text in named if text]


def _facts(view: EntryView) -> list[NamedText]:
    return [
        NamedText("Verdict", view.verdict or ""),
        NamedText("Language", "" if view.language == "JSON" else view.language),
        *(NamedText(_FACT_NAMES.get(name, name.capitalize()), str(value)) for name, value in view.facts.items()),
    ]


def _texts(view: EntryView) -> list[NamedText]:
    return [
        *_error_texts(view.error),
        NamedText("What it printed", view.output),
        *(_failing_texts(view.failing, view.n_tests) if view.failing else ()),
        NamedText("stderr", (view.failing.stderr or "") if view.failing else view.stderr),
        NamedText("The compiler's output", view.compiler),
        NamedText("Item", view.item or view.source or _NO_ITEM),
        NamedText("Result", view.result or ""),
    ]


def _error_texts(error: Mapping[str, object] | None) -> list[NamedText]:
    if error is None:
        return []
    head = f"{error.get('type', 'error')}: {error.get('message', '')}"
    return [NamedText("Error", head), NamedText("Traceback", str(error.get("traceback") or ""))]


def _failing_texts(test: FailingTest, n_tests: int | None) -> list[NamedText]:
    time_s, code = test.facts.get("execution_time"), test.facts.get("return_code")
    words = [
        test.verdict or "failed",
        time_text(time_s) if isinstance(time_s, (int, float)) else "",
        f"return code {code}" if code else "",
    ]
    return [
        NamedText(f"Failing test: number {test.number + 1} of {n_tests}", ", ".join(filter(None, words))),
        NamedText("Its input", test.stdin or ""),
        NamedText("Expected output", test.expected or ""),
        NamedText("Output", test.stdout or ""),
    ]


# ---- the queries

#: How many unread samples a search lists at most, and how many characters of each id.
FOUND, ID_CHARS = 50, 500


class Query(NamedTuple):
    """A question of a view.

    Attributes:
        answer: returns the answer, from the run, the question and a function that gives the id of a sample's number.
        reads_results: whether it reads saved results: one such query is answered at a time.
    """

    answer: Callable[[RunControls, ViewMessage, Callable[[int], str]], Message]
    reads_results: bool = True


def _answer_sample(run: RunControls, asked: ViewMessage, sample_id: Callable[[int], str]) -> Message:
    return tasks_of(run.tasks(sample_id(int(asked["sample"]))))


def _answer_task(run: RunControls, asked: ViewMessage, sample_id: Callable[[int], str]) -> Message:
    sent = entry_of(run.entry(sample_id(int(asked["sample"])), str(asked["group"]), int(asked["index"])))
    return Message({**sent}, [])


def _answer_find(run: RunControls, asked: ViewMessage, sample_id: Callable[[int], str]) -> Message:
    ids, count = run.find_unread(str(asked["text"]), FOUND)
    shown = [without_surrogates(shorten(found, ID_CHARS)) for found in ids]
    return Message({"ids": shown, "more": count - len(ids)}, [])


QUERIES = {
    "sample": Query(_answer_sample),
    "task": Query(_answer_task),
    "find": Query(_answer_find, reads_results=False),
}
