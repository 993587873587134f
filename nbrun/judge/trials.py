"""Before a solution is blamed for not starting: does a program that is known to be right start here?

An interpreter that can't be read in the box, a compiler that lacks a part, a virtual machine that doesn't start look
like a RuntimeError or a CompileError of every solution. Called by worker threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nbrun.errors import JudgeError
from nbrun.judge.languages import Language
from nbrun.judge.running import Limits
from nbrun.verdicts import Verdict

#: Generous: it is asked whether a language works here, not how fast.
LIMITS = Limits(time_limit_s=20.0, wall_limit_s=60.0, memory_limit_mb=1024.0, output_limit_mb=16.0)
COMPILE_S = 60.0
TESTS = ({"input": "", "output": ""},)
_BLAMED = (Verdict.RUNTIME_ERROR, Verdict.COMPILE_ERROR)
#: What `setpriv`, a shell and the dynamic linker return for a program that they can't start.
_NOT_STARTED = (126, 127)
_CAN_START = ("/bin/sh", "-c", 'command -v "$1" >/dev/null', "sh")

#: language, item -> the result of judging it on `TESTS`.
Judge = Callable[[Language, Any], Mapping[str, Any]]


class SelfTest:
    """Remembers which languages were seen to work.

    Threads: any number.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects _passed
        self._passed: set[str] = set()

    def verify(self, name: str, language: Language, item: Any, result: Mapping[str, Any], judge: Judge) -> None:
        """Returns if a result may be believed.

        Raises:
            JudgeError: programs in this language don't start here, whatever they are.
        """
        if result["verdict"] not in _BLAMED:
            return
        suspicious = any(_return_code(test) in _NOT_STARTED for test in result["tests"])
        kind = " ".join((name, *language.tried))
        with self._lock:
            if kind in self._passed and not suspicious:
                return
        if language.trial is not None:
            outcome = judge(language, {"language": name, "solution": language.trial})
        elif suspicious:
            outcome = judge(replace(language, run=(*_CAN_START, *language.run)), item)
        else:
            return
        if not outcome["accepted"]:
            raise JudgeError(
                f"{name} does not work in this sandbox: {_told(outcome)}. That says nothing of the solution."
            )
        with self._lock:
            self._passed.add(kind)


def _return_code(test: Mapping[str, Any]) -> int | None:
    run = test["exec_info"].get("run_result")
    return None if run is None else run["return_code"]


def _told(outcome: Mapping[str, Any]) -> str:
    """Why the trial failed."""
    info = outcome["tests"][0]["exec_info"]
    told = info.get("run_result") or info.get("compile_result") or {}
    return f"{outcome['verdict']} (return code {told.get('return_code')}): {str(told.get('stderr')).strip()[-500:]}"
