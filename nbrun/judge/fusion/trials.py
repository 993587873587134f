"""Programs that show whether a server can run a language at all. Pure functions; any thread."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbrun.judge.checkers import DEFAULT
from nbrun.judge.fusion.answers import Opinions, read_run
from nbrun.judge.fusion.client import Read
from nbrun.judge.fusion.protocol import Ask, Program, Terms, run_code

#: They end well wherever their language is installed.
_PROGRAMS = {"python": "pass", "bash": "true", "lua": "", "perl": "1;", "ruby": "", "php": "<?php\n", "nodejs": ";"}
_NOTHING: dict[str, Any] = {"input": "", "output": ""}


def trial(language: str) -> tuple[Ask, Read] | None:
    """A language's program, and how the answer is read; None where there is none."""
    if language not in _PROGRAMS:
        return None
    ask = run_code(Program(language, language, _PROGRAMS[language]), _NOTHING, Terms(10.0, 10.0, None, False))
    return ask, partial(_read, Opinions(DEFAULT, True, 0))


def _read(opinions: Opinions, body: bytes) -> list[Any]:
    return [read_run(body, _NOTHING, opinions)]
