"""What is shown of a sample that somebody opened: its tasks in columns, and of one task all that is saved.

Pure functions; what they get was read from the results a moment before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nbrun import verdicts
from nbrun.formatting import time_text
from nbrun.model import TaskSummary
from nbrun.panel.sync import pack
from nbrun.results.values import pretty
from nbrun.texts import shorten, without_surrogates

#: A sample's tasks travel up to this many, and of each text of a task so much.
TASKS, TEXT_CHARS = 100_000, 20_000
#: Previews of items and results travel for so many tasks, the first ones as they are ordered.
PREVIEWS = 2000
STATUSES = ("done", "error", "running", "waiting")

Texts = list[tuple[str, str]]


def tasks_of(rows: Sequence[TaskSummary]) -> tuple[dict[str, Any], list[bytes]]:
    """Columns of a sample's tasks, packed like those of sync.py; texts that repeat are numbered in `names`.

    What somebody who opens a sample looks for comes first: errors, unexpected verdicts, what waits, what runs.
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


def entry_of(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task's entry as facts (short) and texts (long)."""
    if entry is None:
        return {"facts": [], "texts": [("", "Nothing is saved of this task yet.")]}
    if entry.get("status") == "running":
        texts = [("What it has printed so far", _text(entry.get("output")))]
        return {
            "facts": [],
            "texts": [(heading, without_surrogates(shorten(text, TEXT_CHARS))) for heading, text in texts],
        }
    texts = [
        *_error(entry),
        *_output(entry),
        *_failing(entry.get("result")),
        *_item(entry),
        *_result(entry.get("result")),
    ]
    return {
        "facts": [(name, without_surrogates(shorten(text, 300))) for name, text in _facts(entry) if text],
        "texts": [(heading, without_surrogates(shorten(text, TEXT_CHARS))) for heading, text in texts if text],
    }


def _facts(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    result = entry.get("result")
    n_tests, n_passed, longest = verdicts.tests_summary(result)
    took, began = entry.get("duration_s"), entry.get("started_at")
    return [
        ("Verdict", verdicts.of(result) or ("" if entry.get("status") == "done" else "none: it ended in an error")),
        ("Tests passed", "" if n_tests is None else f"{n_passed} of {n_tests}"),
        ("Longest test", _time(longest)),
        ("Took", _time(took)),
        ("Attempts", str(entry.get("attempts", ""))),
        ("Language", str(entry.get("language") or "")),
        ("Started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began)) if isinstance(began, float) else ""),
        ("Worker", str(entry.get("worker_id") or "")),
        ("Endpoint", str(entry.get("api_used") or "")),
        ("Run", str(entry.get("run_id") or "")),
    ]


def _time(seconds: object) -> str:
    return time_text(seconds) if isinstance(seconds, (int, float)) else ""


def _error(entry: Mapping[str, Any]) -> Texts:
    error = entry.get("error")
    if not isinstance(error, Mapping):
        return []
    head = f"{error.get('type', 'error')}: {error.get('message', '')}"
    return [("Error", head), ("Traceback", str(error.get("traceback") or ""))]


def _output(entry: Mapping[str, Any]) -> Texts:
    """What the task printed before it ended in an error."""
    output = entry.get("output")
    return [("What it printed", _text(output))] if output else []


def _failing(result: Any) -> Texts:
    """The first test that failed, and what the compiler said."""
    tests = _mapping(result).get("tests")
    tests = tests if isinstance(tests, list) else []
    for number, test in enumerate(tests, 1):
        if _mapping(test).get("passed") is True:
            continue
        ran = _mapping(_mapping(test).get("exec_info"))
        compiled, run = _mapping(ran.get("compile_result")), _mapping(ran.get("run_result"))
        info = _mapping(_mapping(test).get("test_info"))
        verdict = verdicts.of({"accepted": False, "tests": [test]}) or "failed"
        took = run.get("execution_time")
        words = [verdict, _time(took), f"return code {run['return_code']}" if run.get("return_code") else ""]
        return [
            (f"Failing test: number {number} of {len(tests)}", ", ".join(filter(None, words))),
            ("Its input", _text(_mapping(info.get("input")).get("stdin"))),
            ("Expected output", _text(_mapping(info.get("output")).get("stdout"))),
            ("Output", _text(run.get("stdout"))),
            ("stderr", _text(run.get("stderr"))),
            ("The compiler's stderr", _text(compiled.get("stderr"))),
        ]
    return []


def _item(entry: Mapping[str, Any]) -> Texts:
    for key in ("solution", "item"):
        if key in entry:
            value = entry[key]
            return [("Item", value if isinstance(value, str) else _json(value))]
    return [("Item", "It was not stored (keep_items=False).")]


def _result(result: Any) -> Texts:
    if result is None or isinstance(_mapping(result).get("tests"), list):
        return []
    return [("Result", _json(result))]


def _json(value: Any) -> str:
    return pretty(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else _json(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
