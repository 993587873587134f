"""Groups submissions by problem, for data sets that keep them in rows of their own.

Called by the thread that reads samples; no I/O. open-r1/codeforces-submissions has `problem_id`, `source`,
`programmingLanguage` and `verdict`; CodeNet's tables have `problem_id`, `language` and `status`, and sources in files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from nbrun.judge.datasets.values import has, is_missing, read_solutions

_PROBLEM = ("problem_id", "problem", "task_id", "contestId", "contest_id")
_INDEX = ("problem_index", "index")
_CODE = ("source", "code", "source_code", "solution", "submission")
_LANGUAGE = ("programmingLanguage", "programming_language", "original_language", "language", "lang")
_VERDICT = ("verdict", "status", "result", "is_correct", "correct")
_RIGHT = frozenset({"ok", "accepted", "ac", "correct", "true", "1", "passed"})
#: Verdicts from which it doesn't follow whether a solution is right.
_NEITHER = frozenset(
    {
        "compilation_error",
        "compile_error",
        "compile error",
        "ce",
        "skipped",
        "testing",
        "rejected",
        "partial",
        "judge not available",
        "internal error",
        "waiting for judging",
        "judge system error",
        "security_violated",
    }
)


def are_submissions(row: Mapping[str, object]) -> bool:
    """Return whether a row is a submission: it names a problem, a verdict and a source, and has no tests."""
    return all(any(has(row, name) for name in names) for names in (_PROBLEM, _VERDICT, _CODE))


def by_problem(rows: Iterable[Mapping[str, object]]) -> dict[str, dict[str, list[dict[str, object]]]]:
    """Return problem id -> group -> items. Submissions that were never judged are left out.

    Raises:
        ValueError: a row isn't a submission; the message names its columns.

    Example:
        >>> rows = [{"problem_id": "1/A", "source": "print(1)", "programmingLanguage": "Python 3", "verdict": "OK"}]
        >>> by_problem(rows)["1/A"]["solutions"]
        [{'language': 'Python 3', 'solution': 'print(1)'}]
    """
    found: dict[str, dict[str, list[dict[str, object]]]] = defaultdict(lambda: defaultdict(list))
    for position, row in enumerate(rows):
        if not isinstance(row, Mapping) or not are_submissions(row):
            about = ", ".join(map(str, row)) if isinstance(row, Mapping) else f"a {type(row).__name__}"
            raise ValueError(
                f"row {position} of submissions= is no submission ({about}): it needs problem_id, source and verdict"
            )
        group = _group(row)
        if group is not None:
            code = next(row[name] for name in _CODE if has(row, name))
            language = next((row[name] for name in _LANGUAGE if has(row, name)), None)
            item = {"solution": code} if language is None else {"language": language, "solution": code}
            found[_problem(row)][group] += read_solutions([item], "submissions")
    return found


def _problem(row: Mapping[str, object]) -> str:
    name = next(name for name in _PROBLEM if has(row, name))
    index = next((row[other] for other in _INDEX if has(row, other)), None)
    value = row[name]
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    return f"{value}/{index}" if name.startswith("contest") and not is_missing(index) else str(value)


def _group(row: Mapping[str, object]) -> str | None:
    verdict = str(next(row[name] for name in _VERDICT if has(row, name))).strip().lower()
    if verdict in _RIGHT:
        return "solutions"
    return None if verdict in _NEITHER else "incorrect_solutions"
