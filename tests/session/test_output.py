"""What tasks print: it is kept for the task, and everybody else prints as before."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from tqdm import tqdm

import nbrun
from nbrun import output
from tests.views import controls_of, notebook_shell
from tests.waiting import until

ROOT = Path(__file__).parents[2]


def run(path: Path, fn: Any, items: Any = (1, 2, 3), **more: Any) -> nbrun.Run:
    samples = [{"id": "a", "items": list(items)}]
    more = {"groups": ["item"], "view": None, "retry": None, "workers": 2} | more
    return nbrun.start(samples, fn, path, **more)


def printed(path: Path) -> dict[Any, str]:
    """Item -> the output saved with its error entry."""
    entries = nbrun.load_results(path, entries=True)["entry"]
    return {e["item"]: e.get("output", "") for e in entries if e["status"] == "error"}


def fails_after(speak: Callable[[nbrun.Task], object]) -> Callable[[nbrun.Task], None]:
    def fn(task: nbrun.Task) -> None:
        speak(task)
        raise ValueError("no")

    return fn


def by_bytes(task: nbrun.Task) -> None:
    sys.stdout.buffer.write(b"line of %d\n" % task.item)
    sys.stdout.buffer.flush()


def by_thread(task: nbrun.Task) -> None:
    thread = threading.Thread(target=lambda: print("line of", task.item))
    thread.start()
    thread.join()


def by_pool(task: nbrun.Task) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(print, "line of", task.item).result()


def by_loop(task: nbrun.Task) -> None:
    async def speak() -> None:
        await asyncio.to_thread(print, "line of", task.item)

    asyncio.run(speak())


WAYS: list[Callable[[nbrun.Task], object]] = [
    lambda t: print("line of", t.item),
    lambda t: print("line of", t.item, file=sys.stderr),
    lambda t: sys.stdout.write(f"line of {t.item}"),
    lambda t: sys.stdout.writelines(["line ", f"of {t.item}\n"]),
    lambda t: warnings.warn(f"line of {t.item}", stacklevel=1),
    lambda t: logging.getLogger("mine").warning("line of %s", t.item),
    lambda t: tqdm(total=1, desc=f"line of {t.item}").close(),
    by_bytes,
    by_thread,
    by_pool,
    by_loop,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_print_is_kept_with_the_error_entry(way: Callable[[nbrun.Task], object], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run(tmp_path, fails_after(way)).wait(60)
    assert set(printed(tmp_path)) == {1, 2, 3}
    for item, text in printed(tmp_path).items():
        assert f"line of {item}" in text
        assert all(f"line of {other}" not in text for other in {1, 2, 3} - {item})


def test_the_output_of_coroutines_is_kept_apart(tmp_path: Path) -> None:
    async def fn(task: nbrun.Task) -> None:
        for _ in range(20):
            print("line of", task.item)
            await asyncio.sleep(0)
        await asyncio.gather(asyncio.to_thread(print, "thread of", task.item), asyncio.sleep(0))
        raise ValueError("no")

    run(tmp_path, fn, range(9), workers=9).wait(60)  # fewer than pause a run that fails from its beginning
    assert set(printed(tmp_path)) == set(range(9))
    for item, text in printed(tmp_path).items():
        assert text == f"line of {item}\n" * 20 + f"thread of {item}\n"


def test_attempts_of_a_task_are_kept_together(tmp_path: Path) -> None:
    policy = nbrun.RetryPolicy(attempts=2, delay_s=0)
    run(tmp_path, fails_after(lambda t: print("attempt", t.attempt)), [1], retry=policy).wait(60)
    assert printed(tmp_path)[1] == "attempt 1\nattempt 2\n"


def test_long_output_keeps_its_end_and_bounded_memory(tmp_path: Path) -> None:
    def speak(task: nbrun.Task) -> None:
        for k in range(3000):
            print(f"é{k}" * 20)

    live = run(tmp_path, fails_after(speak), [1])
    live.wait(60)
    text = printed(tmp_path)[1]
    assert len(text.encode()) <= 4096
    assert text.endswith("é2999\n")
    many = output.RunOutput(lambda at, level, text: None, echoes=False)
    for k in range(5000):
        many.write(nbrun.Task("s", "g", k, 0, {}), "stdout", "x" * 10_000)
    assert sum(bool(many.of(("s", "g", k))) for k in range(5000)) <= output.TAILS


def test_a_bar_counts_as_it_was_last() -> None:
    lines: list[str] = []
    printed = output.RunOutput(lambda at, level, text: lines.append(text), echoes=False)
    task = nbrun.Task("s", "g", 0, 0, {})
    for k in range(1000):
        printed.write(task, "stderr", f"\r{k}%")
    assert lines == []
    printed.write(task, "stderr", "\n")
    assert lines == ["999%"]
    assert printed.of(("s", "g", 0)) == "999%\n"


def until_nothing_is_captured() -> None:
    """Wait until the last run has ended and `sys` is as before."""
    until(lambda: type(sys) is types.ModuleType, "nothing is captured any more")


class Held:
    """A function that prints, waits until `go` is set, and prints again."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, task: nbrun.Task) -> None:
        print("first of", task.item)
        self.begun.set()
        self.go.wait(60)
        print("then of", task.item)
        raise ValueError("no")


@contextlib.contextmanager
def live(path: Path, *, in_notebook: bool = True) -> Any:
    """A run whose only task has printed its first line. In a notebook the panel alone shows that."""
    fn = Held()
    with contextlib.ExitStack() as stack:
        if in_notebook:
            stack.enter_context(notebook_shell())
        made = run(path, fn, [1])
    assert fn.begun.wait(60)
    try:
        yield made, fn
    finally:
        fn.go.set()
        made.wait(60)


def test_others_print_and_redirect_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with live(tmp_path) as (made, fn):
        assert sys.stdout is before
        print("of this thread")
        buffer = io.StringIO()
        with contextlib.redirect_stdout(buffer):
            assert sys.stdout is buffer
            print("redirected")
            fn.go.set()
            made.wait(60)
            thread = threading.Thread(target=print, args=("of another thread",))
            thread.start()
            thread.join()
        assert buffer.getvalue() == "redirected\nof another thread\n"
        assert sys.stdout is before
    out = capsys.readouterr().out
    assert "of this thread" in out
    assert "then of" not in out
    assert printed(tmp_path)[1] == "first of 1\nthen of 1\n"
    assert type(sys) is types.ModuleType
    assert sys.__dict__["stdout"] is before


def test_a_script_sees_what_its_tasks_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live(tmp_path, in_notebook=False):
        pass
    assert capsys.readouterr().out.endswith("then of 1\n")


def test_what_a_panel_shows_is_not_printed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live(tmp_path, in_notebook=False) as (made, _):
        made.panel()
    assert "then of" not in capsys.readouterr().out


def test_output_is_in_the_log_and_in_the_tasks_detail_while_it_runs(tmp_path: Path) -> None:
    with live(tmp_path) as (made, _):
        assert controls_of(made).entry("a", "item", 0)["output"] == "first of 1\n"
        assert [(n.level, n.text) for n in made.progress.logs] == [("stdout", "first of 1")]
    assert controls_of(made).entry("a", "item", 0)["output"] == "first of 1\nthen of 1\n"


def test_a_redirection_in_a_task_is_that_tasks_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, go = threading.Event(), threading.Event()
    found: dict[str, str] = {}

    def fn(task: nbrun.Task) -> None:
        if task.item == 1:
            with contextlib.redirect_stdout(io.StringIO()) as buffer:
                print("caught")
                inside.set()
                go.wait(60)
            found["caught"] = buffer.getvalue()
            print("after")
        else:
            inside.wait(60)
            print("of the other")
            go.set()
        raise ValueError("no")

    live = run(tmp_path, fn, [1, 2])
    assert inside.wait(60)
    print("mine")
    live.wait(60)
    assert found == {"caught": "caught\n"}
    assert printed(tmp_path) == {1: "after\n", 2: "of the other\n"}
    assert "mine" in capsys.readouterr().out


def test_sys_can_still_be_sent_to_workers_and_its_streams_deleted(tmp_path: Path) -> None:
    with live(tmp_path):
        assert pickle.loads(cloudpickle.dumps(lambda: sys.version_info))() == sys.version_info
        assert cloudpickle.loads(cloudpickle.dumps(sys)) is sys
        assert sys.stdout.encoding
        assert sys.stderr.fileno is not None


def test_a_warnings_block_around_the_start_ends_before_the_tasks_warn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block_is_over = threading.Event()

    def fn(task: nbrun.Task) -> None:
        block_is_over.wait(60)
        warnings.warn(f"line of {task.item}", stacklevel=1)

    with warnings.catch_warnings():
        begun = run(tmp_path, fails_after(fn))
    warnings.simplefilter("always")  # pytest undoes it
    block_is_over.set()
    begun.wait(60)
    assert all(f"line of {item}" in text for item, text in printed(tmp_path).items())
    levels = [note.level for note in begun.progress.logs]
    assert levels.count("warning") == 3


def test_a_task_catches_only_its_own_warnings(tmp_path: Path) -> None:
    both_catch = threading.Barrier(2)

    def fn(task: nbrun.Task) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            both_catch.wait(60)
            warnings.warn(f"line of {task.item}", stacklevel=1)
            both_catch.wait(60)
        warnings.warn(f"after {task.item}", stacklevel=1)
        return [str(w.message) for w in caught]

    warnings.simplefilter("always")
    before = warnings.showwarning
    begun = run(tmp_path, fn, [1, 2])
    begun.wait(60)
    assert warnings.showwarning is before
    frame = nbrun.load_results(tmp_path)
    assert sorted(frame["value"]) == [["line of 1"], ["line of 2"]]
    for item, index in ((1, 0), (2, 1)):
        assert f"after {item}" in controls_of(begun).entry("a", "item", index)["output"]


def test_a_task_shows_warnings_its_own_way(tmp_path: Path) -> None:
    shown: list[str] = []

    def fn(task: nbrun.Task) -> None:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *rest, **more: shown.append(str(message))
            warnings.warn(f"line of {task.item}", stacklevel=1)

    warnings.simplefilter("always")
    run(tmp_path, fn).wait(60)
    assert sorted(shown) == ["line of 1", "line of 2", "line of 3"]


def test_warnings_outside_of_tasks_are_shown_as_always(tmp_path: Path) -> None:
    with live(tmp_path):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("mine", stacklevel=1)
        assert [str(w.message) for w in caught] == ["mine"]
        shown: list[str] = []
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *rest, **more: shown.append(str(message))
            warnings.warn("shown", stacklevel=1)
        assert shown == ["shown"]
        assert cloudpickle.loads(cloudpickle.dumps(warnings)) is warnings
    assert type(warnings) is types.ModuleType


def test_handlers_of_the_users_own_get_every_record(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger("mine").addHandler(handler)
    try:
        run(tmp_path, lambda task: logging.getLogger("mine").warning("of %s", task.item), [1]).wait(60)
    finally:
        logging.getLogger("mine").removeHandler(handler)
    assert stream.getvalue() == "of 1\n"


def test_a_fork_in_a_task_prints_where_it_always_would(tmp_path: Path) -> None:
    program = f"""
import os, sys, nbrun
def fn(task):
    pid = os.fork()
    if pid == 0:
        print("of the child", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    return 1
run = nbrun.start([{{"id": "a", "items": [1]}}], fn, {str(tmp_path / "r")!r}, groups=["item"], view=None)
run._launch.output.echoes = False
run.wait(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "of the child\n", done.stderr


def speaks(task: nbrun.Task) -> dict[str, Any]:
    print("line of", task.item)
    logging.getLogger("mine").warning("careful with %s", task.item)
    if task.item == 3:
        for n in range(5000):
            print(n)
    return {"value": task.item}


def test_output_of_successful_tasks_comes_back_from_an_executors_processes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        made = run(tmp_path / "p", speaks, executor=pool)
        made.wait(120)
    logs = [(note.level, note.text) for note in made.progress.logs]
    assert ("stdout", "4999") in logs
    entry = controls_of(made).entry("a", "item", 1)
    assert entry["output"].splitlines() == ["line of 2", "WARNING:mine:careful with 2"]
    assert controls_of(made).entry("a", "item", 2)["output"].endswith("\n4998\n4999\n")
    out = capfd.readouterr().out
    assert out.count("line of 1\n") == 1, "it is printed once, by the kernel"


def speaks_and_fails(task: nbrun.Task) -> None:
    print("line of", task.item)
    raise ValueError("no")


def test_output_in_an_executors_processes_and_threads(tmp_path: Path) -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        run(tmp_path / "p", speaks_and_fails, executor=pool).wait(120)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        made = run(tmp_path / "t", speaks_and_fails, executor=threads)
        made.wait(60)
    for name in ("p", "t"):
        assert printed(tmp_path / name) == {k: f"line of {k}\n" for k in (1, 2, 3)}
    assert len(made.progress.logs) == 3


def test_what_an_iterator_prints_is_in_the_log(tmp_path: Path) -> None:
    go = threading.Event()

    def samples() -> Any:
        yield {"id": "a", "items": [1]}
        go.wait(60)
        print("reading on")

    live = nbrun.start(samples(), lambda task: 1, tmp_path, groups=["item"], view=None)
    go.set()
    live.wait(60)
    assert [n.text for n in live.progress.logs] == ["reading on"]


def test_a_task_that_prints_nothing_costs_nothing(tmp_path: Path) -> None:
    live = run(tmp_path, lambda task: 1, range(1000))
    live.wait(60)
    assert controls_of(live).entry("a", "item", 0)["status"] == "done"
    assert "output" not in controls_of(live).entry("a", "item", 0)
    until_nothing_is_captured()


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [io.TextIOWrapper(io.BytesIO(), "ascii"), Closed()], ids=["ascii", "a closed pipe"])
def test_a_stream_that_cannot_take_a_line_fails_no_task(
    stream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    ended = run(tmp_path, lambda task: print("cut \ud83d é", task.item)).wait(60)
    assert (ended.done, ended.errors) == (3, 0)
    if stream.encoding == "ascii":
        stream.flush()
        assert sorted(stream.buffer.getvalue().decode().splitlines()) == ["cut ? ? 1", "cut ? ? 2", "cut ? ? 3"]


def opens(task: nbrun.Task) -> dict[str, Any]:
    print("a part of", task.item, end="")
    sys.stderr.write("and an error's")
    return {}


async def opens_async(task: nbrun.Task) -> dict[str, Any]:
    return opens(task)


@pytest.mark.parametrize("fn", [opens, opens_async])
def test_a_line_that_a_task_leaves_open_is_shown_when_it_ends(
    fn: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(tmp_path, fn)
    made.wait(60)
    logged = sorted(n.text for n in made.progress.logs)
    assert logged == [f"a part of {n}" for n in (1, 2, 3)] + ["and an error's"] * 3
    assert sorted(capsys.readouterr().out.splitlines()) == [f"a part of {n}" for n in (1, 2, 3)]


def test_lines_of_tasks_beside_each_other_stay_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`print` writes a line and its end one after the other."""
    both = threading.Barrier(2, timeout=60)

    def fn(task: nbrun.Task) -> dict[str, Any]:
        sys.stdout.write("half")
        both.wait()
        sys.stdout.write(" and half\n")
        return {}

    run(tmp_path, fn, items=(1, 2)).wait(60)
    assert capsys.readouterr().out == "half and half\n" * 2


def test_what_another_library_wraps_while_a_run_goes_on_works_in_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracers and debuggers do so: their functions call those of the run, which are not to call them in turn."""
    gate = threading.Event()
    live = run(tmp_path / "a", lambda task: {"n": gate.wait(60)}, [1])
    before_record, before_start = logging.getLogRecordFactory(), threading.Thread.start
    before_emit = logging.StreamHandler.emit
    called: list[str] = []

    def record(*args: Any, **more: Any) -> logging.LogRecord:
        called.append("record")
        return before_record(*args, **more)

    def begin(thread: threading.Thread) -> None:
        called.append("start")
        before_start(thread)

    def emit(handler: Any, what: logging.LogRecord) -> None:
        called.append("emit")
        before_emit(handler, what)

    monkeypatch.setattr(threading.Thread, "start", begin)
    monkeypatch.setattr(logging.StreamHandler, "emit", emit)
    logging.setLogRecordFactory(record)
    handler = logging.StreamHandler()
    logging.getLogger("mine").addHandler(handler)
    try:
        gate.set()
        live.wait(60)
        until_nothing_is_captured()
        for folder in ("b", "c"):
            called.clear()
            run(tmp_path / folder, fails_after(lambda t: logging.getLogger("mine").warning("line of it")), [1]).wait(60)
            until_nothing_is_captured()
            assert printed(tmp_path / folder)[1].count("line of it") == 1
            assert {"record", "start", "emit"} <= set(called)
        logging.getLogger("mine").warning("outside")
    finally:
        logging.getLogger("mine").removeHandler(handler)
        logging.setLogRecordFactory(logging.LogRecord)
