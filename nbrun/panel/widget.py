"""The panel as a Jupyter widget: carries messages between the run and its views, and answers what views ask to read.

Threads: messages from views arrive in the kernel's main thread or, while a cell runs, in a subshell's thread; the
updater sends from its own thread, and queries are answered in threads of their own, since reading may take long. Locks
are held only briefly, except `_reading`, for which only the threads that answer queries wait.
"""

from __future__ import annotations

import json
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import anywidget
import traitlets
from IPython import get_ipython
from IPython.display import display, publish_display_data

from nbrun.entry_view import EntryView, FailingTest, as_text, measured, view_entry
from nbrun.errors import ThreadLimitError
from nbrun.model import Progress, RunControls, TaskSummary
from nbrun.panel.actions import ACTIONS, ViewMessage, actions_script
from nbrun.panel.static import mime_bundle
from nbrun.panel.sync import Columns, Message, Updater, make_message, saved_head, sendable
from nbrun.texts import without_surrogates
from nbrun.threads import start_daemon

#: What a view may ask to read: a sample's tasks, all that is saved of a task, samples that were not read yet.
QUERIES = frozenset({"sample", "task", "find"})
#: How many unread samples a search lists at most, and how many characters of each id.
FOUND, ID_CHARS = 50, 500

_HERE = Path(__file__).parent
#: Joined into one module, since the browser can't fetch files of the package. Each uses what those before it define.
SCRIPTS = ("store.js", "elements.js", "list.js", "samples.js", "sample.js", "sections.js", "controls.js", "view.js")


class Panel(anywidget.AnyWidget):
    """A run's panel: shows its progress and controls it. A run has one, which may be displayed any number of times.

    Args:
        controls: the run. The panel shows what code does to the run, and code sees what is clicked.

    Example:
        >>> panel = Panel(run)  # doctest: +SKIP
        >>> display(panel)  # doctest: +SKIP
    """

    _esm = "\n".join([actions_script(), *((_HERE / name).read_text("utf-8") for name in SCRIPTS)])
    _css = (_HERE / "view.css").read_text("utf-8")

    uid = traitlets.Unicode(help="Ties the widget to the static form beside it.").tag(sync=True)
    cell = traitlets.Unicode(help="Which cell to run again after the kernel is gone.").tag(sync=True)
    last = traitlets.Unicode(help="The head of the newest message as JSON, for pages without a kernel.").tag(sync=True)

    def __init__(self, controls: RunControls) -> None:
        super().__init__(uid=uuid.uuid4().hex[:12], cell=_cell_number())
        _serve_where_asked(self.comm)
        self._controls = controls
        self._displayed = False
        self._clicks: deque[str | None] = deque(maxlen=500)  # ids of the last clicks
        self._clicks_lock = threading.Lock()  # protects _clicks
        self._reading = threading.Lock()  # one sample is read at a time
        self._updater = Updater(controls, self._send_message, self._rewrite)
        self.on_msg(self._on_message)
        self._updater.wake()

    def __repr__(self) -> str:
        return "The live panel is not shown here. Its last saved state:"  # viewers show the static form after it

    def wake(self) -> None:
        """Show the run again after it has ended and was restarted. Any thread may call it; it returns immediately."""
        self._updater.wake()

    @property
    def shows_end(self) -> bool:
        """Whether the views and the static form show the end of the run. Any thread may ask."""
        return self._updater.shows_end

    def show(self) -> None:
        """Display the widget and beside it the static form, which is hidden while the widget is alive."""
        display(self)  # type: ignore[no-untyped-call]  # IPython's, without annotations
        self._displayed = True
        self._publish(self._controls.progress, update=False)

    def _publish(self, progress: Progress, *, update: bool) -> None:
        data = mime_bundle(progress, css_class=f"nbrun-static-{self.uid}", beside_widget=True)
        publish_display_data(  # type: ignore[no-untyped-call]  # IPython's, without annotations
            data, transient={"display_id": self.uid}, update=update
        )

    def _send_message(self, message: Message) -> None:
        self.send(message.content, message.buffers or None)

    def _rewrite(self, progress: Progress) -> None:
        self.last = json.dumps(saved_head(progress))
        if self._displayed:
            self._publish(progress, update=True)

    # ---- messages from views

    def _on_message(self, _widget: object, message: ViewMessage, _buffers: object) -> None:
        kind = message.get("kind", "")
        if kind in ("hello", "ping"):
            self._greet(message)
        elif not self._is_new(message.get("id")):
            return
        elif kind in QUERIES:
            self._answer_query(message)
        else:
            self._answer(message, self._act)
            self._updater.wake()

    def _answer_query(self, message: ViewMessage) -> None:
        """Read what was asked for. That may take long, and must not block the thread that serves clicks."""
        try:
            start_daemon(self._answer, "nbrun-panel-reader", (message, self._read))
        except ThreadLimitError:  # a slow answer is better than none
            self._answer(message, self._read)

    def _greet(self, message: ViewMessage) -> None:
        """Send everything to a view that is new, and to others the number of the newest message."""
        seq = self._updater.seq
        if message["kind"] == "hello" and seq and message.get("seq") == 0:
            self._updater.want_whole()
        else:
            self.send({"kind": "pong", "seq": seq})

    def _answer(self, asked: ViewMessage, find: Callable[[ViewMessage], Message]) -> None:
        """Send what `find` returns, or why it failed, to the view that asked."""
        try:
            content, buffers = find(asked)
        except Exception as error:  # whatever it is, the person who clicked must see it, and a log would not be seen
            what = "It can't be read: " if asked.get("kind") in QUERIES else ""
            content, buffers = {"text": f"{what}{type(error).__name__}: {error}", "failed": True}, []
        self.send({"kind": "answer", "id": asked.get("id"), **content}, buffers or None)

    def _read(self, asked: ViewMessage) -> Message:
        """Return the answer to one of QUERIES."""
        if asked["kind"] == "find":
            ids, count = self._controls.find_unread(str(asked["text"]), FOUND)
            return Message({"ids": [sendable(found, ID_CHARS) for found in ids], "more": count - len(ids)}, [])
        sample_id = self._updater.sample_id(int(asked["sample"]))
        with self._reading:
            if asked["kind"] == "sample":
                return tasks_of(self._controls.tasks(sample_id))
            entry = self._controls.entry(sample_id, str(asked["group"]), int(asked["index"]))
            return Message({**entry_of(entry)}, [])

    def _is_new(self, click: str | None) -> bool:
        """Return whether a click was not handled yet.

        A view sends a click again if it is not answered, since the first message may wait behind a running cell while
        a subshell is free.
        """
        with self._clicks_lock:
            if click is not None and click in self._clicks:
                return False
            self._clicks.append(click)
            return True

    def _act(self, click: ViewMessage) -> Message:
        """Do what was clicked, and return what the run answers."""
        name = click.get("kind", "")
        action = ACTIONS.get(name)
        if action is None:
            return Message({"text": f"This nbrun knows no {name!r}: reload the page.", "failed": True}, [])
        text = action.do(self._controls, click)
        return Message({"text": text} if text else {}, [])


def _serve_where_asked(comm: Any) -> None:
    """Have clicks served in the subshell to which the page sends them.

    ipykernel 7.4 remembers from which shell each comm was last written to, and serves its messages there. The updater's
    thread counts as the main shell, so clicks would wait until the running cell ends.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, asked: asked


def _cell_number() -> str:
    """Return the running cell's number as the notebook shows it, such as "[3]", or ""."""
    shell = get_ipython()
    # Not shell.execution_count: newer versions of IPython increment it before the cell runs, older ones after it.
    inputs = shell.user_ns.get("In") if shell is not None else None
    return f"[{len(inputs) - 1}]" if inputs else ""


_panels: weakref.WeakKeyDictionary[RunControls, Panel] = weakref.WeakKeyDictionary()
_panels_lock = threading.Lock()  # protects _panels


def panel_of(controls: RunControls) -> Panel:
    """Return a run's panel; it is made the first time."""
    with _panels_lock:
        panel = _panels.get(controls)
        if panel is None:
            panel = _panels[controls] = Panel(controls)
    return panel


# ---- a sample's tasks

#: How many tasks of a sample are sent, and how many characters of a task's texts and facts.
TASKS, TEXT_CHARS, FACT_CHARS = 100_000, 20_000, 300
#: How many characters of a group, a verdict or a language are sent.
NAME_CHARS = 100
#: Previews of items and results are sent for this many tasks: the first ones in the order in which they are shown.
PREVIEWS = 2000
STATUSES = {"done": 0, "error": 1, "running": 2, "waiting": 3}
#: The order of tasks: those for which a sample is usually opened come first. Unexpected results have rank 1, others 4.
_RANKS = {"error": 0, "waiting": 2, "running": 3}


def tasks_of(rows: Iterable[TaskSummary]) -> Message:
    """Return the columns of a sample's tasks; texts that repeat are numbered in `names`."""
    rows = sorted(rows, key=_rank)[:TASKS]
    columns: Columns = {name: [number(row) for row in rows] for name, number in _NUMBERS.items()}
    names = {}
    for name, text in _TEXTS.items():
        columns[name], names[name] = _numbered(sendable(text(row) or "", NAME_CHARS) for row in rows)
    return make_message({"tasks": len(rows), "names": names, "previews": _previews(rows[:PREVIEWS])}, columns)


def _previews(rows: Iterable[TaskSummary]) -> dict[str, list[str]]:
    """Return the beginnings of items and results, of those that any task has."""
    previews = {name: [without_surrogates(text(row)) for row in rows] for name, text in _PREVIEWS.items()}
    return {name: texts for name, texts in previews.items() if any(texts)}


def _numbered(texts: Iterable[str]) -> tuple[list[int], list[str]]:
    """Return each text's number, and the texts that these numbers stand for."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(text, len(numbers)) for text in texts], list(numbers)


def _rank(row: TaskSummary) -> int:
    return _RANKS.get(row.status, 1 if row.is_unexpected else 4)


def _milliseconds(time_s: float | None) -> int:
    """Return a time for a column: one more than its milliseconds, since 0 means that it is not known."""
    return 1 + round(min(2**31, time_s * 1000)) if time_s is not None and time_s >= 0 else 0


#: The columns of a sample's tasks: numbers, texts that repeat, and the texts of which the first ones are sent.
_NUMBERS: dict[str, Callable[[TaskSummary], int]] = {
    "index": lambda row: row.index,
    "status": lambda row: STATUSES.get(row.status, 0),
    "time_ms": lambda row: _milliseconds(row.time_s),
    "attempts": lambda row: row.attempts,
    "unexpected": lambda row: int(row.is_unexpected),
}
_TEXTS: dict[str, Callable[[TaskSummary], str | None]] = {
    "group": lambda row: row.group,
    "verdict": lambda row: row.verdict,
    "language": lambda row: row.language,
}
_PREVIEWS: dict[str, Callable[[TaskSummary], str]] = {
    "item": lambda row: row.note or row.item,
    "result": lambda row: row.result,
}


# ---- what is saved of a task


class NamedText(NamedTuple):
    """A text with its heading, or a fact with its name. Only those with a text are sent."""

    name: str
    text: str | None


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
    return [NamedText(name, sendable(text, characters)) for name, text in named if text]


def _facts(view: EntryView) -> list[NamedText]:
    return [
        NamedText("Verdict", view.verdict),
        NamedText("Language", "" if view.language == "JSON" else view.language),
        *(NamedText(_FACT_NAMES.get(name, name.capitalize()), str(value)) for name, value in view.facts.items()),
    ]


def _texts(view: EntryView) -> list[NamedText]:
    return [
        *_error_texts(view.error),
        NamedText("What it printed", view.output),
        *_failing_texts(view.failing, view.n_tests),
        NamedText("stderr", view.failing.stderr if view.failing else view.stderr),
        NamedText("The compiler's output", view.compiler),
        NamedText("Item", view.item or view.source or _NO_ITEM),
        NamedText("Result", view.result),
    ]


def _error_texts(error: Mapping[str, object] | None) -> list[NamedText]:
    if error is None:
        return []
    head = f"{as_text(error.get('type', 'error'))}: {as_text(error.get('message', ''))}"
    return [NamedText("Error", head), NamedText("Traceback", as_text(error.get("traceback") or ""))]


def _failing_texts(test: FailingTest | None, n_tests: int | None) -> list[NamedText]:
    if test is None:
        return []
    code = test.facts.get("return_code")
    time = measured(test.facts.get("execution_time"))
    words = filter(None, [test.verdict or "failed", time, f"return code {code}" if code else ""])
    return [
        NamedText(f"Failing test: number {test.number + 1} of {n_tests}", ", ".join(words)),
        NamedText("Its input", test.stdin),
        NamedText("Expected output", test.expected),
        NamedText("Output", test.stdout),
    ]
