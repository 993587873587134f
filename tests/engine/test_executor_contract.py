"""What an executor may do by its interface, and some do: each oddity by itself, in an executor of threads.

cancel() that says True while the call runs, or raises; interrupts out of futures; futures that settle twice or never;
calls that are remembered and answered without being run (Dask's `pure`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path
from typing import Any

import pytest

import nbrun
from nbrun.engine.executor_pool import ChunkSizer
from nbrun.errors import InputError, RunHaltedError
from tests.engine.backends import Backend
from tests.waiting import until


class Odd(Executor):
    """Runs each call in a thread; `turn` may settle its future in another way. Its first calls are nbrun's probe."""

    def __init__(self, turn: Callable[[int, Future[Any], Callable[[], None]], None]) -> None:
        self._turn, self._count = turn, 0
        self.tokens: list[str] = []

    def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args))
            except BaseException as e:
                future.set_exception(e)

        if fn.__name__ == "probe":
            run()
            return future
        self.tokens.append(args[-1])
        self._count += 1
        threading.Thread(target=self._turn, args=(self._count, future, run), daemon=True).start()
        return future


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
def test_an_exception_out_of_a_future_is_a_loss_and_no_attempt(kind: type[BaseException], tmp_path: Path) -> None:
    def turn(n: int, future: Future[Any], run: Callable[[], None]) -> None:
        future.set_exception(kind("odd")) if n in (2, 3) else run()

    odd = Odd(turn)
    Backend("odd", odd).run(tmp_path / "r", lambda task: {"attempt": task.attempt}, list(range(20)))
    assert list(nbrun.load_results(tmp_path / "r")["attempt"]) == [1] * 20
    assert len(set(odd.tokens)) == len(odd.tokens)


def test_garbage_instead_of_an_answer_ends_as_an_error_after_the_fourth_time(tmp_path: Path) -> None:
    odd = Odd(lambda n, future, run: future.set_result("garbage"))
    run = Backend("odd", odd).run(tmp_path / "r", lambda task: {}, [1])
    assert run.progress.errors == 1
    assert len(odd.tokens) == 4


def test_a_cancelled_future_pauses_the_run(tmp_path: Path) -> None:
    def turn(n: int, future: Future[Any], run: Callable[[], None]) -> None:
        future.set_exception(CancelledError()) if n == 2 else run()

    run = Backend("odd", Odd(turn)).start(tmp_path / "r", lambda task: {"n": task.item}, list(range(9)))
    with pytest.raises(RunHaltedError, match="closed"):
        run.wait(60)
    run.resume()
    assert run.wait(60).done == 9
    assert sorted(nbrun.load_results(tmp_path / "r")["n"]) == list(range(9))


@pytest.mark.parametrize("answer", [True, False, OSError("no")])
def test_cancel_is_not_trusted(answer: Any, tmp_path: Path, tuning: Callable[..., None]) -> None:
    """A stop at once drops what is out, whatever cancel() says; the late result changes nothing."""
    tuning(abandon_after_s=0.2)
    go, late = threading.Event(), threading.Event()

    class Untrue(Future[Any]):
        def cancel(self) -> bool:
            if isinstance(answer, OSError):
                raise answer
            return bool(answer)

    def turn(n: int, future: Future[Any], run: Callable[[], None]) -> None:
        future.__class__ = Untrue
        go.wait(60)
        run()
        late.set()

    run = Backend("odd", Odd(turn)).start(tmp_path / "r", lambda task: {"n": 1}, [1, 2, 3])
    until(lambda: run.progress.running, "something is out")
    run.stop(drain=False)
    until(lambda: run.progress.ended, "the run has stopped")
    go.set()
    assert late.wait(60)
    assert run.progress.state == "stopped"
    assert len(nbrun.load_results(tmp_path / "r")) == run.progress.saved == 0


def test_while_something_that_has_come_back_is_not_counted_something_runs(tmp_path: Path) -> None:
    """Once nothing runs, the numbers are complete, and `retry_errors()` finds every error."""
    asked, go = threading.Event(), threading.Event()

    class Slow(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            asked.set()
            go.wait(60)
            return super().result(timeout)

    def turn(n: int, future: Future[Any], run: Callable[[], None]) -> None:
        future.__class__ = Slow
        run()

    run = Backend("odd", Odd(turn)).start(tmp_path / "r", lambda task: {}, [1])
    assert asked.wait(60)
    progress = run.progress
    go.set()
    assert (progress.running, progress.queued, progress.done) == (1, 0, 0)
    assert run.wait(60).done == 1


def test_when_nothing_comes_back_the_run_says_so(tmp_path: Path, tuning: Callable[..., None]) -> None:
    tuning(executor_silent_s=0.1, executor_look_s=0.05)
    go = threading.Event()

    def turn(n: int, future: Future[Any], run: Callable[[], None]) -> None:
        go.wait(60)
        run()

    run = Backend("odd", Odd(turn)).start(tmp_path / "r", lambda task: {}, [1, 2])
    until(lambda: "Nothing has come back" in run.progress.message, "it says so")
    assert run.progress.state == "running"
    assert "run.stop(drain=False)" in run.progress.message
    go.set()
    assert run.wait(60).done == 2
    assert "Nothing" not in run.progress.message


def test_workers_of_another_python_are_refused(tmp_path: Path) -> None:
    class Old(Odd):
        def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(("ok", "2.7.18", ""))
            return future

    with pytest.raises(InputError, match=r"Python 2\.7\.18"):
        Backend("odd", Old(lambda n, future, run: run())).run(tmp_path / "r", lambda task: 1, [1])


def test_chunks_grow_to_their_time_and_no_further() -> None:
    sizing = ChunkSizer()
    sizes = []
    for _ in range(12):
        sizes.append(sizing.size(100_000, 8))
        sizing.came_back(sizes[-1], sizes[-1], sizes[-1] * 0.001, sizes[-1] * 100)
    assert sizes[:8] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert sizes[-1] == 100  # 0.1 s
    sizing.came_back(100, 4, 0.2, 400)  # the tasks have become long: what wasn't begun has come back
    assert sizing.size(100_000, 8) <= 4
    for _ in range(10):
        sizing.came_back(1, 1, 0.06, 100)
    assert sizing.size(100_000, 8) == 1  # 50 ms and more go alone


def test_chunks_are_bounded_in_tasks_and_bytes_and_share_the_end() -> None:
    sizing = ChunkSizer()
    for _ in range(12):
        n = sizing.size(100_000, 8)
        sizing.came_back(n, n, n * 1e-6, n * 100)
    assert sizing.size(100_000, 8) == 256
    large = ChunkSizer()
    for _ in range(12):
        n = large.size(100_000, 8)
        large.came_back(n, n, n * 1e-6, n * 100_000)
    assert large.size(100_000, 8) == 10  # 1 MB
    slow = ChunkSizer()
    for _ in range(12):
        n = slow.size(100_000, 8)
        slow.came_back(n, n, n * 0.02, n * 100)
    assert slow.size(100_000, 8) == 5
    assert slow.size(16, 8) == 1
