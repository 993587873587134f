"""Build the data of `nbrun demo` from tests/judge/demo/*.txt, one problem a file, and results of an older program.

    python -m tests.judge.build_demo_data

A file begins with the statement; then come `=== test` (input, a line `--- output`, output), `=== right LANGUAGE` and
`=== wrong LANGUAGE VERDICT`, each up to the next `===`. The first test is public, the others are private.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKED = HERE.parents[1] / "nbrun" / "judge" / "demo" / "problems.jsonl"
OLD = HERE.parent / "data" / "old" / "progress_killed_resumed"
PACKED_OLD = PACKED.with_name("old_results.zip")
LANGUAGES = {"PYTHON3": 3, "CPP": 2}


def read(path: Path) -> dict[str, Any]:
    """One problem as a row in CodeContests' shape."""
    statement, *parts = path.read_text().split("\n=== ")
    tests, groups = [], {"right": [], "wrong": []}  # type: ignore[var-annotated]
    for part in parts:
        head, _, body = part.partition("\n")
        kind, *words = head.split()
        body = body.rstrip("\n") + "\n"
        if kind == "test":
            given, _, expected = body.partition("--- output\n")
            tests.append((given, expected))
        else:
            groups[kind].append((LANGUAGES[words[0]], body, words[1] if kind == "wrong" else "Accepted"))
    return {
        "id": path.stem.partition("-")[2],
        "description": " ".join(statement.split()),
        "time_limit": {"seconds": 1, "nanos": 0},
        "memory_limit_bytes": 256 << 20,
        "public_tests": struct(tests[:1], "input", "output"),
        "private_tests": struct(tests[1:], "input", "output"),
        "solutions": struct(groups["right"], "language", "solution"),
        "incorrect_solutions": struct(groups["wrong"], "language", "solution"),
        "expected_verdicts": {
            "solution": [verdict for *_, verdict in groups["right"]],
            "incorrect_solution": [verdict for *_, verdict in groups["wrong"]],
        },
    }


def struct(rows: list[tuple[Any, ...]], *names: str) -> dict[str, list[Any]]:
    """Rows -> a struct of lists."""
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def packed() -> str:
    """The whole set as JSONL."""
    rows = [json.dumps(read(path), ensure_ascii=False) for path in sorted((HERE / "demo").glob("*.txt"))]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PACKED.parent.mkdir(exist_ok=True)
    PACKED.write_text(packed())
    with zipfile.ZipFile(PACKED_OLD, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(OLD.glob("*.json")):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    for path in (PACKED, PACKED_OLD):
        print(f"{path}: {path.stat().st_size} bytes")
