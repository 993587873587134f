"""LocalSandbox: the `fn` that compiles and runs solutions on this machine, and says what it thinks of them.

Called by many worker threads at once, cancelled and closed from others. It begins to hold something (a process, a
temporary folder) with the first solution; a kernel that is killed takes all of it along.
"""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbrun.errors import InputError, JudgeError
from nbrun.judge.comparison import compare_tokens
from nbrun.judge.compiling import COMPILE_LIMITS, CompileCache, Compiled, compile_with
from nbrun.judge.judging import ISOLATION, Bench, Terms, check_item, judge
from nbrun.judge.languages import DEFAULT_LANGUAGES, Language, lookup
from nbrun.judge.problems import TEST_SETS, normalise
from nbrun.judge.running import Leash, Limits, Warden
from nbrun.model import Task

#: For problems that tell no limit (null and 0 occur in real rows).
TIME_LIMIT_S = 2.0
MEMORY_LIMIT_MB = 1024.0
_CACHE_MB = 512.0
_PROBLEMS_KEPT = 8


class LocalSandbox:
    """Judges solutions on this machine: compiles them once, runs them on a problem's tests, compares the output.

    A task's item is `{"language", "solution"}`, its sample the problem (`nbrun.judge.problems` tells its shapes). CPU
    time decides; wall time (twice the limit and a second) guards. Programs are not isolated: they see what you see, so
    judge only sources that you would run yourself. Each result says so (`isolation: "none"`).

    Args:
        time_limit_s: CPU seconds a test, for all problems; None takes the problem's, or 2 s where it has none.
        memory_limit_mb: MiB a test; None takes the problem's, or 1024 where it has none.
        output_limit_mb: MiB of stdout, of stderr, and of any file.
        all_tests: run the tests behind the first failing one too.
        keep_output: how many bytes of each stream of a test stay in the result; None keeps all.
        tests: which of a problem's sets of tests to take, in this order.
        compare: `compare(expected, actual)` of two bytes objects -> whether the output is right.
        languages: rows added to the table of languages, or put in the place of its rows.
        compile_limit_s: CPU seconds for the compiler. One that needs more is a JudgeError, not a CompileError.
        cache_dir: keeps built programs for the next kernel; None keeps them until `close()`.

    Raises:
        InputError: a limit that can't be right.

    Threads: everything may be called from any thread at any time.

    Example:
        >>> sandbox = LocalSandbox(time_limit_s=2)
        >>> problem = {"id": "p1", "tests": [{"input": "1 2", "output": "3"}]}
        >>> item = {"language": "PYTHON3", "solution": "print(sum(map(int, input().split())))"}
        >>> sandbox(Task("p1", "solution", 0, item, problem))["verdict"]
        'Accepted'
        >>> sandbox.close()
    """

    def __init__(
        self,
        time_limit_s: float | None = None,
        memory_limit_mb: float | None = None,
        *,
        output_limit_mb: float = 64.0,
        all_tests: bool = False,
        keep_output: int | None = 512,
        tests: Sequence[str] = TEST_SETS,
        compare: Callable[[bytes, bytes], bool] = compare_tokens,
        languages: Mapping[str, Language] | None = None,
        compile_limit_s: float = COMPILE_LIMITS.time_limit_s,
        cache_dir: str | Path | None = None,
    ) -> None:
        numbers = {
            "time_limit_s": time_limit_s, "memory_limit_mb": memory_limit_mb, "output_limit_mb": output_limit_mb,
            "compile_limit_s": compile_limit_s,
        }  # fmt: skip
        for name, value in numbers.items():
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"LocalSandbox: {name}={value!r}; give a number above 0, or None.")
        if keep_output is not None and keep_output < 0:
            raise InputError(f"LocalSandbox: keep_output={keep_output}; give a number of bytes, or None to keep all.")
        self._numbers = numbers
        self._all_tests, self._keep_output, self._tests = all_tests, keep_output, tuple(tests)
        self._compare, self._cache_dir = compare, cache_dir
        self._languages = {**DEFAULT_LANGUAGES, **(languages or {})}
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # protects all below
        self._warden: Warden | None = None
        self._cache: CompileCache | None = None
        self._leashes: dict[int, Leash] = {}  # by the id of the task that runs
        self._problems: OrderedDict[int, tuple[Mapping[str, Any], dict[str, Any]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        held = ("_lock", "_warden", "_cache", "_leashes", "_problems")
        return {name: value for name, value in self.__dict__.items() if name not in held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={value}" for name, value in self._numbers.items() if value is not None)
        return f"LocalSandbox({limits}, languages: {', '.join(self._languages)})"

    @property
    def settings(self) -> dict[str, Any]:
        """What results of this sandbox are made under: limits, comparison, languages, isolation."""
        compare = self._compare
        return {
            "name": "LocalSandbox", **self._numbers, "all_tests": self._all_tests, "keep_output": self._keep_output,
            "tests": list(self._tests), "isolation": ISOLATION,
            "comparison": f"{getattr(compare, '__module__', '')}.{getattr(compare, '__qualname__', repr(compare))}",
            "languages": {name: language.described() for name, language in self._languages.items()},
        }  # fmt: skip

    def __call__(self, task: Task) -> dict[str, Any]:
        """The result of one task, in SandboxFusion's shape, with `verdict`, `limits` and `isolation`.

        Raises:
            JudgeError: nothing can be said of the solution: no such language or compiler, a problem without tests, a
                compiler that ran out of time, a cancelled task, a fault of the machine.
        """
        name, source = check_item(task.item)
        _, language = lookup(name, self._languages)
        problem = self._problem(task.sample)
        if not problem["tests"]:
            raise JudgeError(f"problem {task.sample_id!r} has no tests ({', '.join(self._tests)}).")
        terms = Terms(self._limits(problem, language), self._compare, self._all_tests, self._keep_output)
        with self._bench(task) as (bench, cache), self._program(language, source, bench, cache) as (folder, compiled):
            return judge(language, folder, compiled, problem["tests"], terms, bench)

    def cancel(self, task: Task) -> None:
        """Ends what runs for a task: its call raises JudgeError once all of its processes are gone."""
        with self._lock:
            leash = self._leashes.get(id(task))
        if leash is not None:
            leash.pull()

    def close(self) -> None:
        """Ends all programs and removes the temporary folder. A later call begins anew."""
        with self._lock:
            warden, self._warden, self._cache = self._warden, None, None
            leashes = list(self._leashes.values())
            self._problems.clear()
        for leash in leashes:
            leash.pull()
        if warden is not None:
            warden.close()

    def _limits(self, problem: Mapping[str, Any], language: Language) -> Limits:
        chosen = self._numbers
        time_s = (chosen["time_limit_s"] or problem["time_limit_s"] or TIME_LIMIT_S) * language.time_factor
        memory_mb = chosen["memory_limit_mb"] or problem["memory_limit_mb"] or MEMORY_LIMIT_MB
        output_mb = chosen["output_limit_mb"]
        assert output_mb is not None
        return Limits(float(time_s), 2.0 * time_s + 1.0, float(memory_mb), float(output_mb))

    def _problem(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The sample in one shape; the last few are remembered, since their tasks come together."""
        with self._lock:
            known = self._problems.get(id(sample))  # an id is one sample's as long as that is held here
        if known is not None and known[0] is sample:
            return known[1]
        try:
            problem = normalise(sample, self._tests)
        except ValueError as e:
            raise JudgeError(f"the problem can't be judged: {e}.") from None
        with self._lock:
            self._problems[id(sample)] = (sample, problem)
            while len(self._problems) > _PROBLEMS_KEPT:
                self._problems.popitem(last=False)
        return problem

    @contextmanager
    def _bench(self, task: Task) -> Iterator[tuple[Bench, CompileCache]]:
        """A folder and a leash for one task."""
        leash = Leash()
        with self._lock:
            if self._warden is None or not self._warden.is_alive:
                if self._warden is not None:
                    self._warden.close()
                self._warden = Warden()
                self._cache = CompileCache(Path(self._cache_dir or self._warden.root / "built"), _CACHE_MB)
            warden, cache = self._warden, self._cache
            self._leashes[id(task)] = leash
        assert cache is not None
        try:
            with tempfile.TemporaryDirectory(prefix="task-", dir=warden.root, ignore_cleanup_errors=True) as folder:
                yield Bench(Path(folder), warden, leash), cache
        except OSError as e:  # the disk, or close() took the folder away
            leash.check()
            raise JudgeError(f"the sandbox could not work in {warden.root}: {e}.") from e
        finally:
            with self._lock:
                self._leashes.pop(id(task), None)

    @contextmanager
    def _program(
        self, language: Language, source: bytes, bench: Bench, cache: CompileCache
    ) -> Iterator[tuple[Path, Compiled | None]]:
        """The folder that holds the program, and what the compiler said of it."""
        if not language.compile:
            (bench.folder / language.source).write_bytes(source)
            yield bench.folder, None
            return
        time_s = self._numbers["compile_limit_s"] or COMPILE_LIMITS.time_limit_s
        limits = Limits(time_s, 2 * time_s + 1, COMPILE_LIMITS.memory_limit_mb, COMPILE_LIMITS.output_limit_mb)
        with cache.program(
            language, source, lambda at: compile_with(bench.warden, language, at, bench.leash, limits)
        ) as built:
            yield built
