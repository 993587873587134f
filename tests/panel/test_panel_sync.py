"""Progress -> messages: what travels, how often, and that a view which reads them knows the tracker."""

from __future__ import annotations

import json

from fake_run import FakeRun, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import decode

from nbrun.model import State
from nbrun.panel.sync import COUNTS, EVERY_S, TRACEBACK_CHARS, Message, ViewSync, pack

#: So far apart that nothing is held back for being too frequent.
LATER = 10.0


class Reader:
    """What a view does with messages, in Python."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: dict[int, dict[str, int]] = {}
        self.head: dict[str, object] = {}
        self.kinds: list[dict[str, object]] = []
        self.seq = 0

    def read(self, message: Message) -> None:
        content, columns = message.content, decode(message)
        json.dumps(content)
        if content["kind"] == "all":
            self.__init__()  # type: ignore[misc]
        else:
            assert content["seq"] == self.seq + 1
        self.seq = content["seq"]
        first = len(self.names)
        self.names += columns.get("names", [])
        for i, total in enumerate(columns.get("total", [])):
            self.rows[first + i] = {"total": total, "running": 0, "waiting": 0} | dict.fromkeys(COUNTS, 0)
        at = columns.get("at", range(len(self.names)))
        for name in COUNTS:
            for number, value in zip(at, columns.get(name, []), strict=name in columns):  # a column may be left out
                self.rows[number][name] = value
        for name in ("running", "waiting"):
            for number, value in zip(columns.get(f"{name}_at", []), columns.get(name, []), strict=True):
                self.rows[number][name] = value
        self.head |= content["head"]
        self.kinds = content.get("kinds", self.kinds)
        if counts := content.get("kind_counts"):
            self.kinds = [{**kind, "n": n} for kind, n in zip(self.kinds, counts, strict=True)]

    def agrees_with(self, run: FakeRun) -> bool:
        rows = {
            s.number: {
                "total": s.total,
                "done": s.done,
                "accepted": s.accepted,
                "rejected": s.rejected,
                "errors": s.errors,
                "judge_errors": s.judge_errors,
                "seen": s.seen,
                "unexpected": s.unexpected,
                "waiting": run.waiting_at.get(s.number, 0),
                "running": run.at_work.get(s.number, 0),
            }
            for s in run.progress.since(0)
        }
        names = [s.sample_id for s in sorted(run.progress.since(0), key=lambda s: s.number)]
        return self.rows == rows and self.names == names and self.head["done"] == run.progress.done


def read_all(sync: ViewSync, reader: Reader, run: FakeRun, now: float) -> None:
    message = sync.delta(run.progress, now)
    if message is not None:
        reader.read(message)


def test_names_and_totals_travel_once_then_only_what_changed() -> None:
    run, sync, reader = FakeRun(samples(1000)), ViewSync(), Reader()
    first = sync.delta(run.progress, 0)
    assert first is not None
    reader.read(first)
    assert reader.agrees_with(run)
    run.end(7, "Accepted", "WrongAnswer")
    run.at_work = {7: 1, 8: 2}
    second = sync.delta(run.progress, LATER)
    assert second is not None
    assert "names" not in decode(second)
    assert decode(second)["at"] == [7]
    assert sum(map(len, second.buffers)) < 20
    assert len(json.dumps(second.content)) < 600
    reader.read(second)
    assert reader.agrees_with(run)


def test_nothing_when_nothing_changes() -> None:
    run, sync = FakeRun(samples(10)), ViewSync()
    run.end(1, "Accepted")
    run.state = State.PAUSED
    assert sync.delta(run.progress, 0) is not None
    for i in range(1, 50):
        assert sync.delta(run.progress, i * LATER) is None


def test_a_new_view_gets_everything_in_one_message_and_goes_on_from_there() -> None:
    run, sync, reader = FakeRun(samples(300)), ViewSync(), Reader()
    for number in range(100):
        run.end(number, "Accepted", None)
        run.at_work = {number: 3}
        sync.delta(run.progress, number * LATER)
    reader.read(sync.whole())
    assert reader.agrees_with(run)
    run.end(299, "WrongAnswer")
    read_all(sync, reader, run, 1e6)
    assert reader.agrees_with(run)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("sample"), st.text(max_size=5), st.integers(0, 70_000)),
        st.tuples(st.just("end"), st.integers(0, 30), st.integers(1, 300)),
        st.tuples(st.just("work"), st.integers(0, 30), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(0, 30), st.integers(0, 300)),
        st.tuples(st.just("send"), st.just(0), st.just(0)),
        st.tuples(st.just("whole"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(operations)
def test_any_sequence_of_messages_gives_the_tracker_s_counts(steps: list[tuple[str, object, int]]) -> None:
    run, sync, reader, now, known = FakeRun(), ViewSync(), Reader(), 0.0, 0
    for what, which, n in steps:
        now += LATER
        if what == "sample":
            run.tracker.add_sample(str(which), n)
            known += 1
        elif what == "end" and known:
            last = ("WrongAnswer", "JudgeError", "a verdict of its own")[n % 3]
            run.end(int(str(which)) % known, *["Accepted"] * n, None, last, positives=(True, False, None)[n % 3])
        elif what == "work" and known:
            run.at_work = {**run.at_work, int(str(which)) % known: n}
        elif what == "wait" and known:
            run.waiting_at = {**run.waiting_at, int(str(which)) % known: n}
        elif what == "send":
            read_all(sync, reader, run, now)
        elif what == "whole":
            read_all(sync, reader, run, now)
            reader.read(sync.whole())
    read_all(sync, reader, run, now + LATER)
    assert reader.agrees_with(run)


def test_errors_travel_by_kind_cut_and_in_bunches() -> None:
    run, sync, reader = FakeRun(samples(3)), ViewSync(), Reader()
    read_all(sync, reader, run, 0)
    run.fail(0, "x" * 5000, "m" * 5000, "start" + "t" * 9000 + "end")
    read_all(sync, reader, run, EVERY_S)
    (kind,) = reader.kinds
    assert len(str(kind["traceback"])) == TRACEBACK_CHARS
    assert str(kind["traceback"]).endswith("end"), "a traceback's end says most"
    assert len(str(kind["sample_id"])) == 300
    for i in range(100):
        run.fail(0, f"s{i}", kind="TimeoutError")
    read_all(sync, reader, run, EVERY_S + 0.2)
    assert len(reader.kinds) == 1, "too soon"
    read_all(sync, reader, run, 3 * EVERY_S)
    assert next((k["type"], k["n"], k["sample_id"]) for k in reader.kinds) == ("TimeoutError", 100, "s99")
    run.tracker.error_again(0, ["TimeoutError"] * 100)
    read_all(sync, reader, run, 9 * EVERY_S)
    assert [k["type"] for k in reader.kinds] == ["ValueError"], "those that are tried again stand no more"


def test_how_many_tasks_ended_in_a_kind_of_error_travels_at_once() -> None:
    run, sync, reader = FakeRun(samples(3)), ViewSync(), Reader()
    run.fail(0, "first")
    read_all(sync, reader, run, 0)
    for i in range(3):
        run.fail(0, f"s{i}")
        read_all(sync, reader, run, 0.2 * i)
        assert [(kind["n"], kind["sample_id"]) for kind in reader.kinds] == [(i + 2, "first")]
        assert reader.head["errors"] == i + 2, "the sum and the kinds agree"
    reader.read(sync.whole())
    assert [kind["n"] for kind in reader.kinds] == [4], "new views know it too"


def test_what_a_task_logs_travels_and_repeats_are_counted() -> None:
    run, sync = FakeRun(samples(3)), ViewSync()
    for _ in range(1000):
        run.tracker.note_log(1.0, "warning", "too slow")
    run.tracker.note_log(2.0, "error", "\ud800" + "x" * 5000)
    message = sync.delta(run.progress, 0)
    assert message is not None
    assert [(line["level"], line["n"]) for line in message.content["logs"]] == [("warning", 1000), ("error", 1)]
    assert len(json.dumps(message.content["logs"], ensure_ascii=False).encode()) < 1000


def test_endpoints_travel_the_more_seldom_the_more_there_are() -> None:
    run, sync = FakeRun(samples(3)), ViewSync()
    sent = 0
    for tick in range(100):
        rows = [
            {"name": f"http://10.0.0.{i}:8080", "state": "ok", "in_flight": tick, "mean_s": 0.5} for i in range(768)
        ]
        message = sync.delta(run.progress, tick * 0.2, endpoints=rows)
        sent += 0 if message is None else len(json.dumps(message.content))
    assert sent / 20 < 6_000, "bytes a second"
    assert sync.whole().content["endpoints"][767][0] == "http://10.0.0.767:8080"


def test_a_rate_that_drifts_alone_is_worth_a_message_only_now_and_then() -> None:
    run, sync = FakeRun(samples(10)), ViewSync()
    run.end(1, "Accepted")
    sent = [sync.delta(run.progress, 0.2 * i) is not None for i in range(20)]
    assert sum(sent) <= 3


def test_ids_that_utf8_cannot_hold_still_travel() -> None:
    run, sync, reader = (
        FakeRun({"\ud800": 1, "a\nb": 1, "<script>": 1, "🙂": 2}, results="\udcff"),
        ViewSync(),
        Reader(),
    )
    run.fail(0, "\ud800", "\ud800")
    read_all(sync, reader, run, 0)
    assert reader.names == ["?", "a\nb", "<script>", "🙂"]
    json.dumps(reader.kinds, ensure_ascii=False).encode()
    json.dumps(reader.head, ensure_ascii=False).encode()


def test_columns_take_the_smallest_width_that_holds_them() -> None:
    assert pack([]) == (1, b"")
    assert pack([255])[0] == 1
    assert pack([256])[0] == 2
    assert pack([65_535])[0] == 2
    assert pack([65_536])[0] == 4
