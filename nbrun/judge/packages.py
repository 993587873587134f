"""A folder that is a Kattis or ICPC problem package -> a problem row.

Read by the thread that feeds a run; nothing is written. The layout is that of
https://www.kattis.com/problem-package-format (legacy and 2023-07):

    problem.yaml                      name, type, limits, validation
    data/sample, data/secret          *.in and *.ans, in groups; testdata.yaml or test_group.yaml have flags
    submissions/accepted, …           what each verdict is due to
    output_validators/, output_validator/
    include/LANGUAGE/                 files that go with every submission in it

What can't be judged here (scoring, interactive and multi-pass problems, partially accepted submissions) is handed over
with the reason under `not_supported`: such tasks end as errors that say so, and count in no rate.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbrun.judge.checkers import flags_of
from nbrun.judge.package_data import read_text, read_yaml, sets_of_tests
from nbrun.judge.submissions import read_program, read_submissions
from nbrun.verdicts import REJECTED, Verdict

MARK = "problem.yaml"
#: What the format gives to problems that don't say.
MEMORY_LIMIT_MB, OUTPUT_LIMIT_MB = 2048.0, 8.0
#: Folder of submissions -> the verdicts that are due; empty where it can't be said.
DUE: Mapping[str, tuple[Verdict, ...]] = {
    "accepted": (Verdict.ACCEPTED,),
    "wrong_answer": (Verdict.WRONG_ANSWER, Verdict.OUTPUT_LIMIT_EXCEEDED),
    "time_limit_exceeded": (Verdict.TIME_LIMIT_EXCEEDED,),
    "run_time_error": (Verdict.RUNTIME_ERROR, Verdict.MEMORY_LIMIT_EXCEEDED),
    "output_limit_exceeded": (Verdict.OUTPUT_LIMIT_EXCEEDED,),
    "compiler_error": (Verdict.COMPILE_ERROR,),
    "compile_error": (Verdict.COMPILE_ERROR,),
    "memory_limit_exceeded": (Verdict.MEMORY_LIMIT_EXCEEDED, Verdict.RUNTIME_ERROR),
    "rejected": tuple(sorted(REJECTED)),
}
_KINDS = ("scoring", "interactive", "multi-pass", "submit-answer")


def find_packages(folder: Path) -> Iterator[Path]:
    """The packages in a folder, in order of their names: itself, or those that lie in it at any depth."""
    if (folder / MARK).is_file():
        yield folder
        return
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and not inside.name.startswith("."):
            yield from find_packages(inside)


def read_package(folder: Path, name: str) -> dict[str, Any]:
    """The row of one package; its id is `name`.

    Raises:
        ValueError: something in it can't be read; the message names the file.
    """
    about = read_yaml(folder / MARK)
    reason = _reason(about, folder)
    row: dict[str, Any] = {"id": name, **_limits(about, folder)}
    groups, due = read_submissions(folder, DUE)
    row |= groups | {"expected_verdicts": due}
    if reason is not None:
        return row | {"tests": [], "not_supported": reason}
    flags = flags_of(about.get("validator_flags"))
    tests, reason = sets_of_tests(folder, flags)
    if reason is not None:
        return row | {"tests": [], "not_supported": reason}
    return row | tests | _checker(about, folder)


def _reason(about: Mapping[str, Any], folder: Path) -> str | None:
    """Why the problem can't be judged here; None if it can."""
    kinds = about.get("type") or "pass-fail"
    kinds = kinds.split() if isinstance(kinds, str) else [str(kind) for kind in kinds]
    words = str(about.get("validation") or "").split()
    for kind in _KINDS:
        if kind in kinds or kind in words or (kind == "scoring" and "score" in words):
            return f"a {kind} problem" if kind[0] != "i" else f"an {kind} problem"
    unknown = [kind for kind in kinds if kind != "pass-fail"]
    if unknown:
        return f"a problem of the unknown type {unknown[0]!r}"
    if "custom" in words and not any(True for _ in _validators(folder)):
        return "its output validator is missing"
    return None


def _limits(about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Limits as problem.yaml has them, or the files that judges put beside it."""
    limits = about.get("limits") or {}
    if not isinstance(limits, Mapping):
        raise ValueError(f"{MARK}: limits is a {type(limits).__name__}, not a mapping")
    time_s = limits.get("time_limit")
    if time_s is None and (folder / ".timelimit").is_file():
        time_s = read_text(folder / ".timelimit").strip()
    if time_s is None and (folder / "domjudge-problem.ini").is_file():
        time_s = _of_domjudge(folder / "domjudge-problem.ini")
    return {
        "time_limit_s": time_s,
        "time_limit_from": _rule(limits, _is_legacy(about)) if time_s is None else None,
        "memory_limit_mb": limits.get("memory") or MEMORY_LIMIT_MB,
        "output_limit_mb": limits.get("output") or OUTPUT_LIMIT_MB,
    }


def _is_legacy(about: Mapping[str, Any]) -> bool:
    return "validation" in about or str(about.get("problem_format_version") or "legacy") == "legacy"


def _rule(limits: Mapping[str, Any], is_legacy: bool) -> dict[str, float]:
    """How the limit follows from the slowest accepted submission."""
    later = limits.get("time_multipliers") or {}
    if is_legacy:
        rule = {"multiplier": limits.get("time_multiplier") or 5, "resolution": 1}
    else:
        multiplier = later.get("ac_to_time_limit") if isinstance(later, Mapping) else None
        rule = {"multiplier": multiplier or 2, "resolution": limits.get("time_resolution") or 1}
    for name, value in rule.items():
        if not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{MARK}: the {name} of the time limit is {value!r}, not a number above 0")
    return {name: float(value) for name, value in rule.items()}


def _of_domjudge(path: Path) -> str | None:
    """`timelimit` of a file of `name = value` lines that has no sections."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string("[problem]\n" + read_text(path))
    except configparser.Error as e:
        raise ValueError(f"{path.name}: {e}") from None
    value = parser.get("problem", "timelimit", fallback=None)
    return None if value is None else value.strip("'\" ")


def _checker(about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Its own output validators, or the comparison by flags. Flags stand in the tests."""
    wanted = "custom" in str(about.get("validation") or "").split() if _is_legacy(about) else True
    programs = [read_program(path, folder) for path in _validators(folder)] if wanted else []
    return {"checker": {"type": "validator", "programs": programs} if programs else {"type": "kattis"}}


def _validators(folder: Path) -> Iterator[Path]:
    """The programs that validate output: a file or a folder each."""
    for place in (folder / "output_validator", folder / "output_validators"):
        inside = sorted(p for p in place.iterdir() if not p.name.startswith((".", "_"))) if place.is_dir() else []
        if inside and (place.name == "output_validator" or not _are_programs(inside)):
            yield place  # its files are one program
        else:
            yield from inside
    single = [path for path in sorted(folder.glob("output_validator.*")) if path.is_file()]
    yield from single


def _are_programs(inside: list[Path]) -> bool:
    """Whether these are programs each, not the files of one: folders, or sources without headers beside them."""
    return any(path.is_dir() for path in inside) or not any(path.suffix in (".h", ".hpp") for path in inside)
