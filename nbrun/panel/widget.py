"""The panel as a Jupyter widget: carries messages from the updater to the views, and from the views to the run.

Threads: messages from views arrive in the kernel's main thread or, while a cell runs, in a subshell's thread; the
updater sends from its own thread, and queries are answered in threads of their own. Locks are held only briefly, except
`_reading`, for which only the threads that answer queries wait.
"""

from __future__ import annotations

import json
import threading
import uuid
import weakref
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython import get_ipython
from IPython.display import display, publish_display_data

from nbrun.errors import ThreadLimitError
from nbrun.model import Progress, RunControls
from nbrun.panel.actions import ACTIONS, ViewMessage, actions_script
from nbrun.panel.queries import QUERIES, Query
from nbrun.panel.static import static_html, static_text
from nbrun.panel.sync import Message, head_of
from nbrun.panel.updater import Updater
from nbrun.threads import start_daemon

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
        return "The live panel of an nbrun run."  # viewers without widgets show it beside the static form

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
        html = static_html(progress, css_class=f"nbrun-static-{self.uid}", beside_widget=True)
        data = {"text/html": html, "text/plain": static_text(progress)}
        publish_display_data(  # type: ignore[no-untyped-call]  # IPython's, without annotations
            data, transient={"display_id": self.uid}, update=update
        )

    def _send_message(self, message: Message) -> None:
        self.send(message.content, message.buffers or None)

    def _rewrite(self, progress: Progress) -> None:
        self.last = json.dumps(head_of(progress) | {"elapsed": round(progress.elapsed_s, 1)})
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
            # Reading may take long and must not block the thread that serves clicks, perhaps the kernel's main one.
            try:
                start_daemon(self._answer, "nbrun-panel-reader", (QUERIES[kind], message))
            except ThreadLimitError:  # a slow answer is better than none
                self._answer(QUERIES[kind], message)
        else:
            self._act(kind, message)

    def _greet(self, message: ViewMessage) -> None:
        """Send everything to a view that is new, and to others the number of the newest message."""
        seq = self._updater.seq
        if message["kind"] == "hello" and seq and message.get("seq") == 0:
            self._updater.want_whole()
        else:
            self.send({"kind": "pong", "seq": seq})

    def _answer(self, query: Query, asked: ViewMessage) -> None:
        """Send what a view asks to read, or why it can't be read."""
        head = {"kind": "answer", "id": asked.get("id")}
        try:
            with self._reading if query.reads_results else nullcontext():
                found = query.answer(self._controls, asked, self._updater.sample_id)
        except Exception as error:  # whatever it is, the person who clicked must see it
            self.send({**head, "text": f"It can't be read: {type(error).__name__}: {error}", "failed": True})
        else:
            self.send({**head, **found.content}, found.buffers or None)

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

    def _act(self, name: str, click: ViewMessage) -> None:
        """Do what was clicked. What the run answers, or why it refuses, is sent to the view that asked."""
        answer: dict[str, object] = {"kind": "answer", "id": click.get("id")}
        action = ACTIONS.get(name)
        try:
            if action is None:
                answer |= {"text": f"This nbrun knows no {name!r}: reload the page.", "failed": True}
            elif text := action.do(self._controls, click):
                answer["text"] = text
        except Exception as error:  # whatever it is, the person who clicked must see it, and a log would not be seen
            answer |= {"text": f"{type(error).__name__}: {error}", "failed": True}
        self.send(answer)
        self._updater.wake()


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


def show(controls: RunControls) -> Panel:
    """Display a run's panel: see nbrun.panel.show."""
    with _panels_lock:
        panel = _panels.get(controls)
        if panel is None:
            panel = _panels[controls] = Panel(controls)
    panel.wake()
    panel.show()
    return panel
