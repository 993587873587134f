"""The one thread behind a panel: how often it sends, when it ends, when it comes back."""

from __future__ import annotations

import threading

from fake_run import FakeRun, samples

from nbrun.model import Progress, State
from nbrun.panel.sync import REWRITE_S, Message, Updater
from tests.waiting import until


class Views:
    """What was sent and rewritten; `sent` is released at each message."""

    def __init__(self, run: FakeRun) -> None:
        self.messages: list[Message] = []
        self.threads: set[str] = set()
        self.rewrites: list[Progress] = []
        self.arrived = threading.Semaphore(0)
        self.now = 0.0
        self.fail = False
        self.updater = Updater(run, self.send, self.rewrites.append, lambda: self.now)

    def send(self, message: Message) -> None:
        self.threads.add(threading.current_thread().name)
        if self.fail:
            self.fail = False
            self.arrived.release()
            raise OSError("no comm")
        self.messages.append(message)
        self.arrived.release()

    def wait(self) -> None:
        assert self.arrived.acquire(timeout=60)

    def wait_for_end(self) -> None:
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "nbrun-panel"])


def test_it_ends_once_the_end_was_shown_and_is_revived() -> None:
    run = FakeRun(samples(5))
    views = Views(run)
    views.updater.wake()
    views.wait()
    run.state = State.DONE
    views.wait_for_end()
    assert views.messages[-1].content["head"]["state"] == "done"
    assert views.rewrites[-1].state is State.DONE
    assert not [t for t in threading.enumerate() if t.name == "nbrun-panel"]

    run.state = State.RUNNING
    views.updater.wake()
    views.wait()
    run.state = State.STOPPED
    views.wait_for_end()
    assert views.messages[-1].content["head"]["state"] == "stopped"
    assert views.threads == {"nbrun-panel"}


def test_waking_it_often_makes_one_thread() -> None:
    run = FakeRun(samples(5))
    views = Views(run)
    for _ in range(50):
        views.updater.wake()
    assert len([t for t in threading.enumerate() if t.name == "nbrun-panel"]) == 1
    run.state = State.DONE
    views.wait_for_end()


def test_a_view_that_opens_after_the_end_gets_everything() -> None:
    run = FakeRun(samples(5))
    views = Views(run)
    run.state = State.DONE
    views.updater.wake()
    views.wait()
    views.wait_for_end()
    views.updater.want_whole()
    views.wait()
    views.wait_for_end()
    assert [m.content["kind"] for m in views.messages] == ["delta", "all"]
    assert views.messages[0].content["seq"] == views.messages[1].content["seq"] == 1


def test_a_tick_without_news_sends_nothing() -> None:
    run = FakeRun(samples(5))
    run.state = State.PAUSED
    views = Views(run)
    for _ in range(20):
        assert views.updater.tick()
    assert len(views.messages) == 1


def test_a_view_that_fails_costs_the_run_nothing() -> None:
    run = FakeRun(samples(5))
    views = Views(run)
    views.fail = True
    views.updater.wake()
    views.wait()  # the failure
    run.end(0, "Accepted")
    views.wait()
    assert views.messages[0].content["seq"] == 2, "after the gap the view asks for everything"
    run.state = State.DONE
    views.wait_for_end()


def test_the_static_form_is_rewritten_seldom_and_at_the_end() -> None:
    run = FakeRun(samples(50))
    views = Views(run)
    for tick in range(int(3 * REWRITE_S / 0.2)):
        views.now = tick * 0.2
        run.end(tick % 50, "Accepted")
        views.updater.tick()
    assert len(views.rewrites) == 2
    run.state = State.DONE
    views.updater.tick()
    views.updater.tick()
    assert len(views.rewrites) == 3
