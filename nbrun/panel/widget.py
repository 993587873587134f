"""The panel as a Jupyter widget: carries messages between the updater and the views, and clicks to the run.

Threads: clicks arrive in the kernel's main thread or, while a cell runs, in a subshell's thread; the updater sends
from its own. Nothing here waits for anything but a lock held for some statements.
"""

from __future__ import annotations

import json
import threading
import uuid
import weakref
from collections import deque
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython import get_ipython
from IPython.display import display, publish_display_data

from nbrun.errors import ThreadLimitError
from nbrun.formatting import counted
from nbrun.model import Progress, RunControls
from nbrun.panel.queries import entry_of, tasks_of
from nbrun.panel.static import static_html, static_text
from nbrun.panel.sync import Message, head_of
from nbrun.panel.updater import Updater
from nbrun.texts import shorten, without_surrogates
from nbrun.threads import start_daemon

_HERE = Path(__file__).parent
#: One module, since the browser can fetch nothing from the package: each defines what those after it use.
SCRIPTS = ("store.js", "elements.js", "list.js", "samples.js", "sample.js", "sections.js", "view.js")


#: How many unread samples a search lists at most, and how many characters of each id.
FOUND, ID_CHARS = 50, 500


class Panel(anywidget.AnyWidget):
    """A run's panel: shows how it stands and steers it. One a run, displayed as often as you like.

    Args:
        controls: the run. All that happens to it in code is seen here, and the other way round.

    Example:
        >>> panel = Panel(run)  # doctest: +SKIP
        >>> display(panel)  # doctest: +SKIP
    """

    _esm = "\n".join((_HERE / name).read_text("utf-8") for name in SCRIPTS)
    _css = (_HERE / "view.css").read_text("utf-8")

    uid = traitlets.Unicode(help="Ties the widget to the static form beside it.").tag(sync=True)
    cell = traitlets.Unicode(help="Which cell to run again after the kernel is gone.").tag(sync=True)
    last = traitlets.Unicode(help="The head of the newest message as JSON, for pages without a kernel.").tag(sync=True)

    def __init__(self, controls: RunControls) -> None:
        super().__init__(uid=uuid.uuid4().hex[:12], cell=_cell_number())
        _serve_where_asked(self.comm)
        self._controls = controls
        self._displayed = False
        self._clicks: deque[object] = deque(maxlen=500)  # ids of the last clicks
        self._clicks_lock = threading.Lock()  # protects _clicks
        self._reading = threading.Lock()  # one sample is read at a time
        self._updater = Updater(controls, self._send_message, self._rewrite)
        self.on_msg(self._on_message)
        self._updater.wake()

    def __repr__(self) -> str:
        return "The live panel of an nbrun run."  # what viewers without widgets show; the static form stands beside it

    def wake(self) -> None:
        """Tell the panel that a run which had ended goes on. Any thread may call it; it returns at once."""
        self._updater.wake()

    @property
    def shows_end(self) -> bool:
        """Has the end of the run reached the views and the static form? Any thread."""
        return self._updater.shows_end

    def show(self) -> None:
        """Displays the widget and, beside it, the static form that takes no room while the widget lives."""
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

    # ---- what views say

    def _on_message(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        kind = content.get("kind")
        seq = self._updater.seq
        if kind == "hello" and content.get("seq") == 0 != seq:
            self._updater.want_whole()
        elif kind in ("hello", "ping"):
            self.send({"kind": "pong", "seq": seq})
        elif not self._is_new(content.get("id")):
            return
        elif kind in ("sample", "task", "find"):
            # Reading may take a while: not in the thread that serves clicks, which may be the kernel's main one.
            try:
                start_daemon(self._read, "nbrun-panel-reader", (kind, content))
            except ThreadLimitError:  # a slow answer is better than none
                self._read(kind, content)
        else:
            self.send(self._act(str(kind), content) | {"kind": "answer", "id": content.get("id")})
            self._updater.wake()

    def _read(self, kind: str, content: dict[str, Any]) -> None:
        """Answers what a view asks of a sample or a task, or of samples that were not read yet."""
        answer = {"kind": "answer", "id": content.get("id")}
        buffers: list[bytes] = []
        found: dict[str, Any]
        try:
            if kind == "find":
                ids, count = self._controls.find_unread(str(content["text"]), FOUND)
                self.send(
                    answer | {"ids": [without_surrogates(shorten(i, ID_CHARS)) for i in ids], "more": count - len(ids)}
                )
                return
            sample_id = self._updater.sample_id(int(content["sample"]))
            with self._reading:
                if kind == "sample":
                    found, buffers = tasks_of(self._controls.tasks(sample_id))
                else:
                    found = entry_of(self._controls.entry(sample_id, str(content["group"]), int(content["index"])))
        except Exception as error:  # whatever it is, the person who clicked must see it
            found = {"text": f"It can't be read: {type(error).__name__}: {error}", "failed": True}
        self.send(answer | found, buffers or None)

    def _is_new(self, click: object) -> bool:
        """Return whether a click was not handled yet.

        A view repeats a click that is not answered: it may wait behind a running cell while a subshell is free.
        """
        with self._clicks_lock:
            if click is not None and click in self._clicks:
                return False
            self._clicks.append(click)
            return True

    def _act(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        """What a click asks for. What the run answers, also where it refuses, is for the view that asked."""
        run = self._controls
        try:
            match kind:
                case "pause":
                    run.pause()
                case "resume":
                    run.resume()
                case "stop":
                    run.stop(drain=bool(content.get("drain", True)))
                case "retry_errors":
                    again = run.retry_errors(content.get("type"))
                    return {"text": f"{counted(again, 'task')} queued again."}
                case "go_on":
                    run.go_on()
                case "redo":
                    again = run.redo_changed()
                    return {"text": f"{counted(again, 'result')} will be made again."}
                case "workers":
                    run.workers = int(content["n"])
                case _:
                    return {"text": f"This nbrun knows no {kind!r}: reload the page.", "failed": True}
        except Exception as error:  # whatever it is, the person who clicked must see it, and a log would not be seen
            return {"text": f"{type(error).__name__}: {error}", "failed": True}
        return {}


def _serve_where_asked(comm: Any) -> None:
    """Clicks are served in the subshell to which the page sends them.

    ipykernel 7.4 remembers for each comm where it was last written from and serves its messages there. The updater's
    thread counts as the main shell, so that clicks would wait until the running cell ends.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, asked: asked


def _cell_number() -> str:
    """The running cell's number as the notebook shows it: "[3]"; "" where there is none."""
    shell = get_ipython()
    # Not shell.execution_count: newer versions of IPython count it up before the cell runs, older ones after it.
    inputs = shell.user_ns.get("In") if shell is not None else None
    return f"[{len(inputs) - 1}]" if inputs else ""


_panels: weakref.WeakKeyDictionary[RunControls, Panel] = weakref.WeakKeyDictionary()
_panels_lock = threading.Lock()  # protects _panels


def show(controls: RunControls) -> Panel:
    """See nbrun.panel.show."""
    with _panels_lock:
        panel = _panels.get(controls)
        if panel is None:
            panel = _panels[controls] = Panel(controls)
    panel.wake()
    panel.show()
    return panel
