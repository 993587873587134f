"""The table of what can be clicked: what is possible in which state, and that each click does it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fake_run import FakeRun

from nbrun.errors import NbrunError
from nbrun.model import Progress, RunControls, State
from nbrun.panel.actions import ACTIONS, REDO_CALL, ViewMessage, actions_script, enabled_actions

CLICKS: dict[str, tuple[ViewMessage, str | tuple[str, object]]] = {
    "pause": ({"kind": "pause"}, "pause"),
    "resume": ({"kind": "resume"}, "resume"),
    "go_on": ({"kind": "go_on"}, "go_on"),
    "stop": ({"kind": "stop", "drain": False}, ("stop", False)),
    "stop_watching": ({"kind": "stop_watching"}, ("stop", True)),
    "retry_errors": ({"kind": "retry_errors", "type": "ValueError"}, ("retry_errors", "ValueError")),
    "workers": ({"kind": "workers", "n": 3}, ("workers", 3)),
    "redo_changed": ({"kind": "redo_changed"}, "redo_changed"),
}


@pytest.mark.parametrize(
    ("state", "possible"),
    [
        (State.RUNNING, {"pause", "stop", "workers"}),
        (State.PAUSED, {"resume", "stop", "workers"}),
        (State.DRAINING, {"stop", "workers"}),
        (State.STOPPED, {"go_on"}),
        (State.DONE, set()),
        (State.HALTED, set()),
    ],
)
def test_what_is_possible_depends_on_the_state(state: State, possible: set[str]) -> None:
    run = FakeRun({"a": 2})
    run.state = state
    assert set(enabled_actions(run.progress)) == possible
    watched = replace(run.progress, watched=("results",))
    assert enabled_actions(watched) == ([] if watched.ended else ["stop_watching"])
    run.fail(0, "a")
    run.message = f"7 saved results: start with {REDO_CALL}."
    assert set(enabled_actions(run.progress)) == possible | {"retry_errors", "redo_changed"}


@pytest.mark.parametrize("name", ACTIONS)
def test_each_click_does_what_the_table_says(name: str) -> None:
    click, wanted = CLICKS[name]
    run = FakeRun()
    ACTIONS[name].do(run, click)
    assert run.calls == [wanted]


def test_the_page_gets_the_table() -> None:
    table = json.loads(actions_script().removeprefix("const ACTIONS = ").removesuffix(";"))
    assert {name: row["label"] for name, row in table.items()} == {name: a.label for name, a in ACTIONS.items()}
    assert table["pause"]["button"] == table["resume"]["button"] != table["stop"]["button"]


def test_controls_refuse_what_they_do_not_override() -> None:
    class Watched(RunControls):
        @property
        def progress(self) -> Progress:
            return FakeRun().progress

    watched = Watched()  # type: ignore[abstract]  # nothing is read here
    for name, (click, call) in CLICKS.items():
        if "stop" not in call:
            with pytest.raises(NbrunError, match="only watches"):
                ACTIONS[name].do(watched, click)
