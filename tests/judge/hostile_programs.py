"""Programs that mean harm, of the folder `hostile`: name -> language, source, and the verdicts of a sound judge.

The problem is `judge_helpers.SUM`; the limits are 0.5 s, 192 MiB, and 1 MiB of output. They run only where isolation
works. Each is bounded: in a broken sandbox too it ends within a minute, starts some hundred processes and
writes some hundred megabytes at most. What prints the sum only if it could do no harm, and see nothing that it must not
see, is due to be accepted.
"""

from __future__ import annotations

from pathlib import Path

LANGUAGES = {".py": "PYTHON3", ".c": "C", ".cpp": "CPP", ".java": "JAVA"}


def _read(path: Path) -> tuple[str, str, list[str]]:
    source = path.read_text()
    first = source.partition("\n")[0]
    return LANGUAGES[path.suffix], source, first.partition("due: ")[2].split()


HOSTILE = {path.stem: _read(path) for path in sorted((Path(__file__).parent / "hostile").iterdir())}
