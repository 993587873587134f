"""What can be clicked in a panel: one table, from which the page makes its controls and by which the kernel acts.

A new button is a new row of `ACTIONS`; the page needs no change. Something that a run can't do yet also becomes a
method of `model.RunControls` (whose body is a watch's answer) and of `Controls` in `session/run.py`.

Threads: clicks arrive in the kernel's main thread or in a subshell's thread, so `Action.do` must return soon.
`enabled_actions` is called by the updater's thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, Required, TypedDict

from nbrun.model import Progress, RunControls, State
from nbrun.texts import counted

#: A message that reports results made with other settings contains this call, which makes them again; so does a button.
REDO_CALL = 'redo="changed"'


class ViewMessage(TypedDict, total=False):
    """A message from a view.

    Attributes:
        kind: the name of an action, of a query (widget.py), "hello" (a new view), or "ping".
        id: of an action or a query: the answer carries it too.
        seq: of hello and ping: the number of the newest message that the view has.
        drain: of stop.
        type: of retry_errors: only errors of this type.
        n: the number that was entered.
        text, sample, group, index: of queries. `sample` is the sample's number in the messages.
    """

    kind: Required[str]
    id: str
    seq: int
    drain: bool
    type: str
    n: int
    text: str
    sample: int
    group: str
    index: int


@dataclass(frozen=True)
class Choice:
    """An answer to an action's question: the button's text, and what it sets in the message."""

    label: str
    drain: bool


@dataclass(frozen=True)
class Action:
    """Something that a person can do to a run.

    Attributes:
        name: its name in messages.
        label: the text of its button.
        do: does it. Returns a sentence for the view that asked, or None.
        is_enabled: whether it is possible now.
        place: where it is: a button among the controls; a button beside the notice, hidden while it is disabled; or a
            field for a number among the controls, whose value is the head's value of the action's name.
        button: actions with the same value share one button, which shows the first that is enabled.
        hint: the button's tooltip.
        question, choices: what is asked before it is done, and the possible answers.
        in_watch: True for the panel of a watch only, False for that of a run only.
    """

    name: str
    label: str
    do: Callable[[RunControls, ViewMessage], str | None]
    is_enabled: Callable[[Progress], bool]
    place: Literal["controls", "notice", "number"] = "controls"
    button: str = ""
    hint: str = ""
    question: str = ""
    choices: tuple[Choice, ...] = ()
    in_watch: bool = False


def _retry_errors(run: RunControls, click: ViewMessage) -> str:
    return f"{counted(run.retry_errors(click.get('type')), 'task')} queued again."


def _redo_changed(run: RunControls, click: ViewMessage) -> str:
    return f"{counted(run.redo_changed(), 'result')} will be made again."


def _set_workers(run: RunControls, click: ViewMessage) -> None:
    run.workers = int(click["n"])


#: All actions in the order of their controls, by name.
ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="pause",
            label="Pause",
            do=lambda run, click: run.pause(),
            is_enabled=lambda progress: progress.state is State.RUNNING,
            button="go",
        ),
        Action(
            name="resume",
            label="Resume",
            do=lambda run, click: run.resume(),
            is_enabled=lambda progress: progress.state is State.PAUSED,
            button="go",
        ),
        Action(
            name="go_on",
            label="Go on",
            do=lambda run, click: run.go_on(),
            is_enabled=lambda progress: progress.state is State.STOPPED,
            button="go",
            hint="Start the same run again with what is missing",
        ),
        Action(
            name="stop",
            label="Stop",
            do=lambda run, click: run.stop(drain=click.get("drain", True)),
            is_enabled=lambda progress: not progress.ended,
            button="stop",
            question="How to stop",
            choices=(Choice("Let running tasks end", drain=True), Choice("At once", drain=False)),
        ),
        Action(
            name="stop_watching",
            label="Stop watching",
            do=lambda run, click: run.stop(),
            is_enabled=lambda progress: not progress.ended,
            button="stop",
            in_watch=True,
        ),
        Action(
            name="retry_errors",
            label="Retry errors",
            do=_retry_errors,
            is_enabled=lambda progress: progress.errors > 0,
            hint="Run the tasks again that ended in errors; after the end this starts the same run again",
        ),
        Action(
            name="workers",
            label="Workers",
            do=_set_workers,
            is_enabled=lambda progress: not progress.ended and progress.workers > 0,
            place="number",
        ),
        Action(
            name="redo_changed",
            label="Redo these",
            do=_redo_changed,
            is_enabled=lambda progress: REDO_CALL in progress.message,
            place="notice",
        ),
    )
}


def enabled_actions(progress: Progress) -> list[str]:
    """Return the names of the actions that are possible now."""
    is_watch = bool(progress.watched)
    return [action.name for action in ACTIONS.values() if action.in_watch == is_watch and action.is_enabled(progress)]


def actions_script() -> str:
    """Return the line of JavaScript that defines the table for the page: `ACTIONS`, by name."""
    table = {}
    for action in ACTIONS.values():
        row = asdict(action)
        del row["do"], row["is_enabled"]
        row["button"] = action.button or action.name
        table[action.name] = row
    return f"const ACTIONS = {json.dumps(table)};"
