"""SandboxFusion under nbrun.start: pauses while all endpoints are gone, keeps what was tried over a kill, reports to
the panel, and lets no fault of a server into a rate."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fusion_helpers import SUM, TESTS, Service, scripted, task

import nbrun
from nbrun.judge import SandboxFusion
from nbrun.model import Retry, State
from tests.waiting import until


@pytest.fixture
def service(server: Service, tuning: Callable[..., None]) -> Iterator[Service]:
    tuning(ask_every_s=0.05)
    yield server
    server.behave(cores=1)


def problem(name: str, *items: Any, wrong: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": name, "tests": TESTS, "solutions": list(items), "incorrect_solutions": wrong or [], **more}


def entry_of(results: Path, index: int = 0) -> dict[str, Any]:
    df = nbrun.load_results(results, entries=True)
    entry: dict[str, Any] = df[(df["group"] == "solution") & (df["index"] == index)]["entry"].iloc[0]
    return entry


def tried(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(a["time_limit_s"], a["load"], a["verdict"]) for a in result["attempts"]]


# ---- time limits


def test_a_time_limit_under_load_is_tried_alone(tmp_path: Path, service: Service) -> None:
    """The server's three tests at once slow each other down: alone it is right."""
    tests = [{"input": f"{i}\n", "output": f"{i}\n"} for i in range(6)]
    slow = scripted(needs_s=1.5, wait_s=0.05, early=0.0, stderr="working")
    sample = {"id": "p", "tests": tests, "solutions": [slow]}
    before = len(service.saw(0)["seen"])
    run = nbrun.start([sample], SandboxFusion(service.urls[:1]), tmp_path, view=None)
    assert run.wait(60).errors == 0
    result = entry_of(tmp_path)["result"]
    assert (result["verdict"], len(result["tests"])) == ("Accepted", 6)
    assert [(a["load"], a["verdict"]) for a in result["attempts"]] == [(3, "TimeLimitExceeded"), (1, "Accepted")]
    assert [t["load"] for t in result["tests"]] == [1] * 6
    assert len(service.saw(0)["seen"]) - before == 7  # all at once; then each alone


def test_right_output_so_far_raises_the_limit_as_far_as_allowed(tmp_path: Path, service: Service) -> None:
    expected = "".join(f"{i}\n" for i in range(100))
    sample = {"id": "p", "tests": [{"input": "", "output": expected}], "solutions": [scripted(needs_s=7, early=0.3)]}
    run = nbrun.start([sample], SandboxFusion(service.urls, max_time_limit_s=60), tmp_path / "a", view=None)
    run.wait(60)
    entry = entry_of(tmp_path / "a")
    result = entry["result"]
    assert result["verdict"] == "Accepted"
    limits = [a["time_limit_s"] for a in result["attempts"]]
    assert limits[0] == 2.0
    assert limits[1] == pytest.approx(2 / 0.3, rel=0.05)
    assert limits == sorted(set(limits))
    assert result["limits"]["time_limit_s"] == limits[-1] >= 7
    assert entry["attempts"] == len(limits)
    nbrun.start([sample], SandboxFusion(service.urls), tmp_path / "b", view=None).wait(60)
    result = entry_of(tmp_path / "b")["result"]
    assert tried(result) == [(2.0, 1, "TimeLimitExceeded")]  # nothing is raised unasked
    assert result["attempts"][0]["written"] == "beginning"


def test_no_sign_of_work_is_tried_elsewhere_three_times(tmp_path: Path, service: Service) -> None:
    sample = {"id": "p", "tests": TESTS[:1], "solutions": [scripted(needs_s=9), scripted(needs_s=9, early=0.9)]}
    sample["tests"] = [{"input": "", "output": "12345\n" * 9}]
    sample["solutions"][1] = scripted(needs_s=9, early=0.5, output={"": "9 9 9"})  # wrong already
    before = len(service.requests())
    nbrun.start([sample], SandboxFusion(service.urls, max_time_limit_s=60), tmp_path, view=None, workers=1).wait(60)
    result = entry_of(tmp_path)["result"]
    assert tried(result) == [(2.0, 1, "TimeLimitExceeded")] * 4
    assert {a["endpoint"] for a in result["attempts"]} == set(service.urls)
    final = entry_of(tmp_path, 1)["result"]
    assert tried(final) == [(2.0, 1, "TimeLimitExceeded")]
    assert len(service.requests()) - before == 5


def test_with_one_endpoint_nothing_is_tried_in_vain(tmp_path: Path, service: Service) -> None:
    sample = problem("p", scripted(needs_s=9))
    before = len(service.requests())
    nbrun.start([sample], SandboxFusion(service.urls[:1]), tmp_path, view=None).wait(60)
    assert tried(entry_of(tmp_path)["result"]) == [(2.0, 2, "TimeLimitExceeded"), (2.0, 1, "TimeLimitExceeded")]
    assert len(service.requests()) - before == 2


def test_a_compiler_out_of_time_is_tried_alone_then_longer(tmp_path: Path, service: Service) -> None:
    sample = problem("p", scripted("CPP", compile_s=40), scripted("CPP", compile_s=500))
    run = nbrun.start([sample], SandboxFusion(service.urls), tmp_path, view=None)
    assert run.wait(60).errors == 1
    result = entry_of(tmp_path)["result"]
    assert result["verdict"] == "Accepted"
    assert [(a.get("compile_limit_s"), a["load"]) for a in result["attempts"]][:2] == [(30.0, 2), (30.0, 1)]
    assert "says nothing of the source" in run.errors()["error"].iloc[0]


def test_again_is_the_same_rule(tmp_path: Path, service: Service) -> None:
    expected = "".join(f"{i}\n" for i in range(100))
    wrong = scripted(needs_s=9, early=0.1, output={"": "x " * 99})
    sample = {
        "id": "p", "tests": [{"input": "", "output": expected}], "solutions": [scripted(needs_s=7, early=0.5), wrong],
    }  # fmt: skip
    nbrun.start([sample], SandboxFusion(service.urls[:1]), tmp_path, view=None).wait(60)
    entry = entry_of(tmp_path)
    of_it, of_wrong = (task(item, sample) for item in sample["solutions"])
    of_wrong.index = 1
    more = SandboxFusion(service.urls[:1], max_time_limit_s=60)
    assert not SandboxFusion(service.urls[:1]).again(entry, of_it)
    assert more.again(entry, of_it)
    assert not more.again(entry_of(tmp_path, 1), of_wrong)  # wrong output is final
    assert not more.again({"result": {**entry["result"], "verdict": "WrongAnswer"}}, of_it)
    bare = {k: v for k, v in entry["result"].items() if k not in ("limits", "attempts")}
    assert not more.again({"result": bare}, of_it)  # no recorded limit: final
    before = len(service.saw(0)["seen"])
    nbrun.start([sample], more, tmp_path, view=None).wait(60)
    result = entry_of(tmp_path)["result"]
    assert result["verdict"] == "Accepted"
    assert result["attempts"][0]["time_limit_s"] == 2.0  # it knows what was tried
    asked = _limits(service, 0)[before:]
    assert asked
    assert 2.0 not in asked  # and doesn't try it again
    assert entry_of(tmp_path, 1)["result"]["verdict"] == "TimeLimitExceeded"


# ---- endpoints that fail


def test_all_endpoints_down_pauses_the_run_and_one_that_is_back_ends_the_pause(
    tmp_path: Path, service: Service
) -> None:
    service.behave("refuse")
    judge = SandboxFusion(service.urls)
    samples = [problem(f"p{i}", scripted(), wrong=[scripted(output={"": "no"})]) for i in range(20)]
    run = nbrun.start(samples, judge, tmp_path, view=None, workers=6)
    until(lambda: run.progress.state is State.PAUSED)
    assert "can be reached" in run.progress.message
    assert "connection refused" in run.progress.message
    assert run.progress.errors == 0
    service.behave("ok", 1)
    progress = run.wait(60)
    assert (progress.state, progress.done, progress.errors) == (State.DONE, 40, 0)
    rates = nbrun.rates(tmp_path)
    assert (rates["tpr"].mean(), rates["tnr"].mean()) == (1, 1)
    assert set(nbrun.load_results(tmp_path)["attempts"]) == {1}


def test_no_fault_of_a_server_is_in_a_rate(tmp_path: Path, service: Service) -> None:
    service.behave("500")
    samples = [problem("p", *[scripted(needs_s=n / 100) for n in range(4)], wrong=[scripted(output={"": "no"})])]
    run = nbrun.start(samples, SandboxFusion(service.urls), tmp_path, view=None, retry=None)
    assert run.wait(60).errors == 5
    df = nbrun.load_results(tmp_path)
    assert set(df["status"]) == {"error"}
    assert df["accepted"].isna().all()
    assert df["error"].str.contains("500").all()
    row = nbrun.rates(tmp_path).iloc[0]
    assert row[["tpr", "tnr"]].isna().all()
    service.behave("ok")
    nbrun.start(samples, SandboxFusion(service.urls), tmp_path, view=None).wait(60)  # errors are tried again
    row = nbrun.rates(tmp_path).iloc[0]
    assert (row["tpr"], row["tnr"]) == (1, 1)


def test_a_stop_at_once_aborts_what_is_in_flight(tmp_path: Path, service: Service) -> None:
    service.behave("hang")
    judge = SandboxFusion(service.urls, time_limit_s=1000)
    run = nbrun.start([problem("p", *[scripted(needs_s=n / 100) for n in range(8)])], judge, tmp_path, view=None)
    until(lambda: sum(r["in_flight"] for r in judge.health()) == 4)
    run.stop(drain=False)
    assert run.wait(60).state is State.STOPPED
    assert sum(r["in_flight"] for r in judge.health()) == 0
    assert nbrun.status(tmp_path).errors == 0


def test_a_fault_after_many_tries_is_tried_again(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule's own attempts don't use up those that a failing server has."""
    expected = "".join(f"{i}\\n" for i in range(100))
    sample = {"id": "p", "tests": [{"input": "", "output": expected}], "solutions": [scripted(needs_s=900, early=0.3)]}
    judge = SandboxFusion(service.urls[:1], max_time_limit_s=1000)
    asked = 0
    send = judge._client.send

    def flaky(*arguments: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        service.behave("500" if asked == 4 else "ok", 0)
        return send(*arguments, **more)

    monkeypatch.setattr(judge._client, "send", flaky)
    run = nbrun.start([sample], judge, tmp_path, view=None)
    assert run.wait(60).errors == 0
    assert entry_of(tmp_path)["result"]["verdict"] == "Accepted"
    assert asked > 4


SCRIPT = """
import json, sys
import nbrun
from nbrun.judge import SandboxFusion
samples, url, results = json.loads(sys.stdin.read())
nbrun.start(samples, SandboxFusion(url, max_time_limit_s=1000), results, view=None).wait()
"""


def test_killed_between_two_tries_it_goes_on_with_the_next_one(tmp_path: Path, service: Service) -> None:
    expected = "".join(f"{i}\n" for i in range(100))
    sample = {"id": "p", "tests": [{"input": "", "output": expected}], "solutions": [scripted(needs_s=30, early=0.5)]}
    first, other = service.urls[2], service.urls[3]
    service.behave("ok", 2)
    service.behave("hang after", 2, count=1)
    child = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, text=True)
    assert child.stdin is not None
    child.stdin.write(json.dumps([[sample], first, str(tmp_path)]))
    child.stdin.close()
    try:
        # Once the first try is in the journal, what is in flight is the second one.
        until(lambda: _has_attempt(tmp_path) and service.saw(2)["in_flight"] == 1, "the second try runs")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    before = len(service.saw(3)["seen"])
    run = nbrun.start([sample], SandboxFusion(other, max_time_limit_s=1000), tmp_path, view=None)
    assert run.wait(60).errors == 0
    entry = entry_of(tmp_path)
    assert entry["result"]["verdict"] == "Accepted"
    limits = [a["time_limit_s"] for a in entry["result"]["attempts"]]
    assert limits[0] == 2.0
    assert limits == sorted(set(limits))
    assert _limits(service, 3)[before] == limits[1] > 2.0  # the first try is not made again
    assert entry["result"]["attempts"][0]["endpoint"] == first


def _has_attempt(results: Path) -> bool:
    """Return whether the journal holds an attempt; it is written some milliseconds after the attempt has ended."""
    return any(b"\ta\t" in segment.read_bytes() for segment in (results / ".nbrun").glob("journal-*"))


def _limits(service: Service, port: int) -> list[float]:
    return [seen["body"]["config"]["run_timeout"] for seen in service.saw(port)["seen"]]


ADDS = "a, b = map(int, input().split())\nfor _ in range(2_000_000): pass\nprint(a + b)\n"
SOLUTIONS = {
    "Accepted": ADDS,
    "WrongAnswer": ADDS.replace("a + b", "a - b"),
    "RuntimeError": ADDS.replace("print(a + b)", "raise SystemExit(3)"),
}


def _is_judging(server: Service) -> bool:
    return bool(server.saw(0)["in_flight"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_server_that_is_restarted_in_the_midst_changes_no_verdict(
    tmp_path: Path, tuning: Callable[..., None], name: str
) -> None:
    """The programs that it runs get the signal too. One that can still answer says how they ended."""
    tuning(ask_every_s=0.05)
    items = [{"language": "PYTHON3", "solution": source} for source in SOLUTIONS.values()]
    server = Service(1, "--real")
    port = str(server.ports[0])
    try:
        samples = [problem(f"p{number}", *items) for number in range(6)]
        run = nbrun.start(samples, SandboxFusion(server.urls), tmp_path, workers=3, view=None)
        for _ in range(2):
            until(partial(_is_judging, server))
            server.signal_group(getattr(signal, name))
            server = Service(1, port, "--real")
        assert run.wait(120).errors == 0
    finally:
        server.close()
    table = nbrun.load_results(tmp_path)
    assert len(table) == len(samples) * len(items)
    assert [*table.sort_values(["sample_id", "index"])["verdict"]] == [*SOLUTIONS] * len(samples)


def test_more_endpoints_are_another_run_and_the_same_results(tmp_path: Path, service: Service) -> None:
    service.behave("hang")
    one = SandboxFusion(service.urls[:1])
    run = nbrun.start([problem("p", scripted())], one, tmp_path, view=None)
    until(lambda: one.health()[0]["in_flight"] == 1)
    with pytest.raises(nbrun.errors.RunActiveError, match="endpoints"):
        nbrun.start([problem("p", scripted())], SandboxFusion(service.urls), tmp_path, view=None)
    run.stop(drain=False)
    run.wait(60)
    assert one.settings == SandboxFusion(service.urls, max_in_flight=9).settings


def test_called_by_hand_it_answers_retry(service: Service) -> None:
    answer = SandboxFusion(service.urls)(task(scripted(needs_s=9), SUM))
    assert isinstance(answer, Retry)
    assert answer.result["verdict"] == "TimeLimitExceeded"
    json.dumps([dict(answer.hint), answer.result])


def test_again_is_asked_only_where_the_rule_may_say_yes(tmp_path: Path, service: Service) -> None:
    class Asked(SandboxFusion):
        count = 0

        def again(self, entry: Any, task: Any) -> bool:
            Asked.count += 1
            return super().again(entry, task)

    sample = problem("p", scripted(), scripted(needs_s=9), wrong=[scripted(output={"": "no"})])
    asked = []
    for most in (None, None, 50):
        judge = Asked(service.urls[:1], max_time_limit_s=most)
        nbrun.start([sample], judge, tmp_path, view=None).wait(60)
        asked.append(Asked.count)
    assert asked == [0, 0, 1]  # settings as they were: nothing to ask; else about the time limit alone


def test_whatever_half_of_the_servers_do_meanwhile_every_verdict_is_true(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    service = Service(8)
    syntax = '  File "main.py", line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax\n'
    programs = {
        "Accepted": scripted(wait_s=0.005),
        "WrongAnswer": scripted(output={"": "no"}),
        "RuntimeError": scripted(return_code=1, stderr="ValueError"),
        "CompileError": scripted(return_code=1, stderr=syntax),
        "TimeLimitExceeded": scripted(needs_s=9, early=0.5, output={"": "9 9 9"}),
    }
    samples = [
        {"id": f"p{i}", "tests": TESTS, "solutions": [{**item, "solution": f"{item['solution']}# {i}\n"} for item in
                                                      programs.values()]}
        for i in range(100)
    ]  # fmt: skip
    modes = ("500", "garbage", "empty", "cut", "reset", "refuse", "foreign", "no runtime", "hang")
    try:
        run = nbrun.start(samples, SandboxFusion(service.urls, read_timeout_s=1), tmp_path, view=None, workers=16)
        while run.progress.state is State.RUNNING and run.progress.done < 450:
            places = rng.sample(range(8), 4)
            service.behave("ok", *(p for p in range(8) if p not in places))
            for place in places:
                service.behave(rng.choice(modes), place)
        service.behave()
        run.wait(120)
        errors = run.errors()["error"].astype(str)  # of requests that one server after another has failed
        assert errors.str.match("JudgeError: .*endpoint").all(), errors
        assert len(errors) <= 2, errors
        run = nbrun.start(samples, SandboxFusion(service.urls), tmp_path, view=None)  # tries these again
        assert run.wait(120).errors == 0
    finally:
        service.close()
    df = nbrun.load_results(tmp_path)
    expected = df["index"].map(dict(enumerate(programs)))
    assert len(df) == 500
    wrong = df[df["verdict"].astype(str) != expected]
    assert wrong.empty, wrong[["sample_id", "index", "verdict"]].to_string()
