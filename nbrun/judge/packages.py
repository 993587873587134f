"""A folder that is a Kattis or ICPC problem package -> a problem row.

Read by the thread that feeds a run; nothing is written. The layout is that of
https://www.kattis.com/problem-package-format (legacy and 2023-07):

    problem.yaml                      name, type, limits, validation
    data/sample, data/secret          *.in and *.ans, in groups; testdata.yaml or test_group.yaml have flags
    submissions/accepted, …           what each verdict is due to
    output_validators/, output_validator/
    include/LANGUAGE/                 files that go with every submission in it

What can't be judged here (multi-pass problems, graders of a package's own) is handed over with the reason under
`not_supported`: such tasks end as errors that say so, and count in no rate.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbrun.judge.datasets.values import flags_of
from nbrun.judge.package_data import groups_of, read_text, read_yaml, sets_of_tests
from nbrun.judge.scoring import rules_of
from nbrun.judge.submissions import LANGUAGES, read_submissions, read_validator
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
_KINDS = ("multi-pass", "submit-answer")
_JUDGED = ("pass-fail", "scoring", "interactive")
#: Of a scoring problem: any verdict, it is the score that counts.
_PARTIALLY = {"partially_accepted": (*sorted(REJECTED), Verdict.ACCEPTED)}


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
    kinds = _kinds(about)
    groups, due = read_submissions(folder, {**DUE, **(_PARTIALLY if "scoring" in kinds else {})})
    row |= groups | {"expected_verdicts": due}
    if "interactive" in kinds:
        row["interactive"] = True
    if "scoring" in kinds and reason is None:
        row["grading"], reason = rules_of(groups_of(folder), _is_legacy(about))
    if reason is not None:
        return row | {"tests": [], "not_supported": reason}
    flags = flags_of(about.get("validator_flags"))
    return row | sets_of_tests(folder, flags) | _checker(about, folder)


def _reason(about: Mapping[str, Any], folder: Path) -> str | None:
    """Why the problem can't be judged here; None if it can."""
    kinds = _kinds(about)
    for kind in _KINDS:
        if kind in kinds:
            return f"a {kind} problem"
    unknown = [kind for kind in kinds if kind not in _JUDGED]
    if unknown:
        return f"a problem of the unknown type {unknown[0]!r}"
    needs_one = "interactive" in kinds or "custom" in str(about.get("validation") or "").split()
    validators = list(_validators(folder)) if needs_one else []
    if needs_one and not validators:
        return "its output validator is missing"
    if "interactive" in kinds and len(validators) > 1:
        return "an interactive problem with several validators"
    if "scoring" in kinds and isinstance(about.get("grading"), Mapping) and about["grading"].get("custom_scoring"):
        return None if not (folder / "graders").is_dir() else "a scoring problem with a grader of its own"
    return None


def _kinds(about: Mapping[str, Any]) -> list[str]:
    """What kind of problem it is: the words of `type`, and those of the legacy `validation` that say the same."""
    kinds = about.get("type") or "pass-fail"
    kinds = kinds.split() if isinstance(kinds, str) else [str(kind) for kind in kinds]
    words = str(about.get("validation") or "").split()
    said = {"score": "scoring", "interactive": "interactive", "multi-pass": "multi-pass", "multipass": "multi-pass"}
    return list(dict.fromkeys([*kinds, *(said[word] for word in words if word in said)]))


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
    programs = [read_validator(path, folder) for path in _validators(folder)] if wanted else []
    return {"checker": {"type": "validator", "programs": programs} if programs else {"type": "kattis"}}


def _validators(folder: Path) -> Iterator[Path]:
    """The programs that validate output: a file or a folder each."""
    for place in (folder / "output_validator", folder / "output_validators"):
        inside = sorted(p for p in place.iterdir() if not p.name.startswith((".", "_"))) if place.is_dir() else []
        if inside and (place.name == "output_validator" or not _are_programs(inside)):
            yield place  # its files are one program
        else:
            yield from (path for path in inside if path.is_dir() or path.suffix in LANGUAGES)
    single = [path for path in sorted(folder.glob("output_validator.*")) if path.is_file()]
    yield from single


def _are_programs(inside: list[Path]) -> bool:
    """Whether these are programs each, not the files of one: folders, or sources without headers beside them."""
    if {"build", "run"} & {path.name for path in inside}:
        return False
    sources = [path for path in inside if path.suffix not in (".h", ".hpp")]
    return any(path.is_dir() for path in inside) or len(sources) == len(inside)
