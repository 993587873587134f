"""What a problem package's `submissions.yaml` expects of its submissions, and whether a result meets that.

The format is that of https://www.kattis.com/problem-package-format/spec/2025-09.html#example-submissions. Its keys are
patterns of submissions; each may name the language, the main file, and what must hold of the submission's result:

    permitted           every test gets one of these verdicts
    required            at least one test gets one of these verdicts
    score               the score is this number, or in this range
    message             some message of the validator contains this text
    use_for_time_limit  whether the submission counts where the package names no time limit
    secret/group1: …    the same for a group of tests, for tests by a pattern, or for single tests

Pure functions but for `read_rules`. The thread that feeds a run reads; worker threads compare results.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from nbrun.verdicts import REJECTED, Verdict

FILE = "submissions.yaml"
#: Folder of submissions -> the verdicts that its submissions should get.
VERDICTS_OF_FOLDERS: Mapping[str, tuple[Verdict, ...]] = {
    "accepted": (Verdict.ACCEPTED,),
    "wrong_answer": (Verdict.WRONG_ANSWER, Verdict.OUTPUT_LIMIT_EXCEEDED),
    "time_limit_exceeded": (Verdict.TIME_LIMIT_EXCEEDED,),
    "run_time_error": (Verdict.RUNTIME_ERROR, Verdict.MEMORY_LIMIT_EXCEEDED),
    "output_limit_exceeded": (Verdict.OUTPUT_LIMIT_EXCEEDED,),
    "compiler_error": (Verdict.COMPILE_ERROR,),
    "compile_error": (Verdict.COMPILE_ERROR,),
    "memory_limit_exceeded": (Verdict.MEMORY_LIMIT_EXCEEDED, Verdict.RUNTIME_ERROR),
    "brute_force": (Verdict.TIME_LIMIT_EXCEEDED, Verdict.RUNTIME_ERROR, Verdict.MEMORY_LIMIT_EXCEEDED),
    "rejected": tuple(sorted(REJECTED)),
}
#: In scoring problems: any verdict, since the score counts.
PARTIALLY_ACCEPTED: Mapping[str, tuple[Verdict, ...]] = {"partially_accepted": (*sorted(REJECTED), Verdict.ACCEPTED)}
#: Verdict of submissions.yaml -> ours. The format has no words for OLE, MLE and CE; packages use them nevertheless.
_WORDS: Mapping[str, tuple[Verdict, ...]] = {
    "AC": (Verdict.ACCEPTED,),
    "WA": (Verdict.WRONG_ANSWER, Verdict.OUTPUT_LIMIT_EXCEEDED),
    "TLE": (Verdict.TIME_LIMIT_EXCEEDED,),
    "RTE": (Verdict.RUNTIME_ERROR, Verdict.MEMORY_LIMIT_EXCEEDED),
    "OLE": (Verdict.OUTPUT_LIMIT_EXCEEDED,),
    "MLE": (Verdict.MEMORY_LIMIT_EXCEEDED,),
    "CE": (Verdict.COMPILE_ERROR,),
    "PAC": (Verdict.ACCEPTED, *sorted(REJECTED)),
    "PARTIALLY_ACCEPTED": (Verdict.ACCEPTED, *sorted(REJECTED)),
}
#: What is permitted where a rule only names what is required.
_ALL = ("AC", "WA", "TLE", "RTE")
#: What the format permits and requires of the submissions in a folder, unless submissions.yaml overrides it.
_FOLDER_RULES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "accepted": {"permitted": ("AC",)},
    "rejected": {"required": ("RTE", "TLE", "WA")},
    "wrong_answer": {"permitted": ("AC", "WA"), "required": ("WA",)},
    "time_limit_exceeded": {"permitted": ("AC", "TLE"), "required": ("TLE",)},
    "run_time_error": {"permitted": ("AC", "RTE"), "required": ("RTE",)},
    "brute_force": {"permitted": ("AC", "RTE", "TLE"), "required": ("RTE", "TLE")},
}
_CHECKS = ("permitted", "required", "score", "message")
_KEYS = (*_CHECKS, "expectation", "use_for_time_limit", "language", "entrypoint", "authors", "model_solution")
_OF_TESTS = ("sample", "secret", "*", "{")
_SAME_SCORE = 1e-6

Rules = Mapping[str, Mapping[str, object]]


class Check(NamedTuple):
    """What must hold of the tests that a pattern matches; of all tests if the pattern is empty.

    Attributes:
        permitted: verdicts; each test must get one of them. None permits all.
        required: verdicts; one test must get one of them. None requires none.
        score: the least and the greatest score.
        message: a part of some message of the validator.
    """

    tests: str = ""
    permitted: Sequence[str] | None = None
    required: Sequence[str] | None = None
    score: tuple[float, float] | None = None
    message: str | None = None

    def record(self) -> dict[str, object]:
        """Return the check as a mapping of plain values, as a problem keeps it."""
        return {key: value for key, value in self._asdict().items() if value is not None}

    @classmethod
    def of(cls, record: Mapping[str, object]) -> Check:
        """Return the check that a problem keeps."""
        known = {key: record.get(key) for key in cls._fields if record.get(key) is not None}
        return cls(**known)  # type: ignore[arg-type]  # it was written by `record`

    def matches(self, test: str) -> bool:
        """Return whether the check concerns a test: its pattern matches the test or a group that holds it."""
        return not self.tests or matches(self.tests, test)


class Outcome(NamedTuple):
    """What a submission got on one test: its verdict and what the validator said."""

    test: str
    verdict: str
    message: str


class Expectations(NamedTuple):
    """What submissions.yaml says of one submission.

    Attributes:
        verdicts: those that it may get as a whole; empty if nothing is said about it.
        checks: what must hold of its tests, scores and messages; empty if its verdict alone says enough.
    """

    verdicts: list[str]
    checks: tuple[Check, ...] = ()


class Hints(NamedTuple):
    """What submissions.yaml says of a submission as a program.

    Attributes:
        language: the language that it names.
        entry: the main file that it names.
        sets_time_limit: False if it doesn't count where a time limit follows from submissions.
    """

    language: object = None
    entry: str | None = None
    sets_time_limit: bool = True


# ---- reading


def check_rules(rules: Mapping[str, object]) -> Rules:
    """Return the content of submissions.yaml, checked: patterns of submissions -> what is said of them.

    Raises:
        ValueError: a value has the wrong type, a verdict is unknown, or a key is misspelt.
    """
    checked: dict[str, Mapping[str, object]] = {}
    for pattern, about in rules.items():
        if isinstance(about, str):
            about = {"permitted": [about]}
        if not isinstance(about, Mapping):
            raise ValueError(f"{FILE}: {pattern!r} has a {type(about).__name__}, not a mapping")
        _check_rule(about, repr(pattern))
        for tests, inner in _of_tests(about).items():
            _check_rule(inner, f"{pattern!r}, {tests!r}")
        checked[str(pattern).strip("/")] = about
    return checked


def _check_rule(rule: Mapping[str, object], where: str) -> None:
    for key in ("permitted", "required", "expectation"):
        unknown = [word for word in _texts(rule.get(key), f"{FILE}: {where}: {key}") if not _meanings(word)]
        if unknown:
            raise ValueError(f"{FILE}: {where}: {key} holds {unknown[0]!r}, which is none of {', '.join(_ALL)}")
    if rule.get("score") is not None:
        _score_range(rule["score"], where)
    if not isinstance(rule.get("message") or "", str):
        raise ValueError(f"{FILE}: {where}: message is {rule['message']!r}, not text")
    if rule.get("use_for_time_limit") not in (None, True, False, "lower", "upper"):
        use = rule["use_for_time_limit"]
        raise ValueError(f"{FILE}: {where}: use_for_time_limit is {use!r}: give true, false, lower or upper")
    for name in rule:
        if name not in _KEYS and (meant := get_close_matches(str(name), _KEYS, 1, 0.8)):
            raise ValueError(f"{FILE}: {where}: there is no key {str(name)!r}; did you mean {meant[0]!r}?")


def _score_range(value: object, where: str) -> tuple[float, float]:
    values = value if isinstance(value, list) else [value, value]
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) != 2 or len(values) != 2 or not numbers[0] <= numbers[1]:
        raise ValueError(f"{FILE}: {where}: score is {value!r}: give a number, or the least and the greatest one")
    return numbers[0], numbers[1]


def _texts(value: object, where: str) -> list[str]:
    values = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(values, list) or not all(isinstance(word, str) for word in values):
        raise ValueError(f"{where} is {value!r}, not a list of verdicts")
    return values


def _of_tests(about: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return the rules of a submission for groups of tests and single tests, by their patterns."""
    return {
        str(name).strip("/"): inner
        for name, inner in about.items()
        if isinstance(inner, Mapping) and str(name).startswith(_OF_TESTS)
    }


def hints_of(rules: Rules, name: str) -> Hints:
    """Return what the patterns that match a submission say of it as a program; the last one that names a thing counts.

    Args:
        name: the submission's path below `submissions`.
    """
    matching = [about for pattern, about in rules.items() if matches(pattern, name)]
    said = {key: value for about in matching for key, value in about.items()}
    sets_time_limit = all(about.get("use_for_time_limit") not in (False, "upper") for about in matching)
    return Hints(said.get("language"), str(said["entrypoint"]) if said.get("entrypoint") else None, sets_time_limit)


def expectations_of(rules: Rules, name: str, tests: Sequence[str], default: Sequence[str]) -> Expectations:
    """Return what all patterns of submissions.yaml say of a submission together.

    A submission may get the verdicts that every pattern permits. The name of a folder overrides what the format says of
    that folder; other patterns add to it.

    Args:
        name: the submission's path below `submissions`.
        tests: the names of all tests; empty if the problem can't be judged.
        default: the verdicts that its folder or its source expects; empty if they are unknown.

    Raises:
        ValueError: the patterns permit no verdict together, of the whole or of a test.
    """
    matching, is_overridden = _matching(rules, name)
    said = list(filter(None, map(_verdicts_of, matching)))
    verdicts = _in_all(said)
    folder_rule: Mapping[str, object] = {} if is_overridden else _FOLDER_RULES.get(name.partition("/")[0], {})
    rules_of_tests = [("", folder_rule)]
    for about in matching:
        rules_of_tests += [("", about), *_of_tests(about).items()]
    checks = [_check_of(at, rule) for at, rule in rules_of_tests]
    if not any(check.tests or check.score is not None or check.message for check in checks):
        checks = []
    elif tests:
        verdicts = _possible(checks, tests, verdicts or default, name)
        said.append(verdicts)
    if said and not verdicts:
        raise _contradiction(name)
    return Expectations(verdicts, tuple(check for check in checks if check != Check(check.tests)))


def _in_all(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return what all of these lists have in common, in the order of the first one."""
    return [one for one in lists[0] if all(one in other for other in lists)] if lists else []


def _matching(rules: Rules, name: str) -> tuple[list[Mapping[str, object]], bool]:
    """Return the rules whose patterns match a submission, and whether one of them replaces its folder's own rule."""
    folder = name.partition("/")[0]
    is_overridden = not rules.get(folder, {}).keys().isdisjoint(("permitted", "required"))
    if is_overridden:
        rules = {**rules, folder: {**_FOLDER_RULES.get(folder, {}), **rules[folder]}}
    return [about for pattern, about in rules.items() if matches(pattern, name)], is_overridden


def _contradiction(name: str, test: str = "") -> ValueError:
    at = f" on the test {test}" if test else ""
    return ValueError(f"{FILE}: the patterns that match {name} permit no verdict together{at}")


def _check_of(tests: str, about: Mapping[str, object]) -> Check:
    permitted, required = (flat(map(_meanings, _words(about.get(key)))) or None for key in ("permitted", "required"))
    if permitted is None:
        permitted = flat(map(_meanings, _words(about.get("expectation")))) or None
    score = None if about.get("score") is None else _score_range(about["score"], tests)
    message = str(about["message"]) if about.get("message") else None
    return Check(tests, permitted, required, score, message)


def _possible(checks: Sequence[Check], tests: Sequence[str], whole: Sequence[str], name: str) -> list[str]:
    """Return the verdicts that a submission can get as a whole, in view of what is permitted and required of each test.

    Raises:
        ValueError: no verdict is permitted of a test.
    """
    accepted = str(Verdict.ACCEPTED)
    every = flat(map(_meanings, _ALL))
    permitted = {test: _permitted(checks, test, every) for test in tests}
    if contradicted := next((test for test, verdicts in permitted.items() if not verdicts), None):
        raise _contradiction(name, contradicted)
    required = [check.required for check in checks if check.required and any(map(check.matches, tests))]
    found = {verdict for verdicts in permitted.values() for verdict in verdicts} - {accepted}
    if all(accepted in verdicts for verdicts in (*permitted.values(), *required)):
        found.add(accepted)
    return [verdict for verdict in (whole or every) if verdict in found]


def _permitted(checks: Sequence[Check], test: str, every: Sequence[str]) -> list[str]:
    """Return the verdicts that all checks permit of a test."""
    return _in_all([every, *(c.permitted for c in checks if c.permitted is not None and c.matches(test))])


def _verdicts_of(rule: Mapping[str, object]) -> list[str]:
    """Return the verdicts that a submission may get as a whole; empty if a rule says nothing of them.

    All tests must get a permitted verdict, and one of them a required one. So a submission is accepted only if that is
    permitted, and rejected if something else is required.
    """
    required = _words(rule.get("required"))
    permitted = _words(rule.get("permitted") or rule.get("expectation"))
    if not required:
        return flat(map(_meanings, permitted))
    if not permitted:
        return flat(map(_meanings, required))
    if not any(map(_means_accepted, required)):
        permitted = [word for word in permitted if not _means_accepted(word)]
    return flat(map(_meanings, permitted))


def _words(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(word) for word in value] if isinstance(value, (list, tuple)) else []


def _meanings(word: str) -> Sequence[Verdict]:
    return _WORDS.get(word.upper()) or VERDICTS_OF_FOLDERS.get(word.lower(), ())


def _means_accepted(word: str) -> bool:
    return word.upper() in ("AC", "PAC") or word.lower() == "accepted"


def flat(lists: Iterable[Iterable[Verdict]]) -> list[str]:
    """Return each verdict once, in order."""
    return list(dict.fromkeys(str(verdict) for verdicts in lists for verdict in verdicts))


# ---- patterns


def matches(pattern: str, path: str) -> bool:
    """Return whether a pattern matches a path or a folder that holds it; `*` doesn't match a slash.

    Example:
        >>> matches("secret/*-easy", "secret/1-easy/a"), matches("a.{py,cpp}", "a.cpp"), matches("*", "a/b")
        (True, True, True)
    """
    parts = path.split("/")
    for alternative in _alternatives(pattern):
        wanted = alternative.split("/")
        if len(wanted) <= len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            return True
    return False


def _alternatives(pattern: str) -> list[str]:
    """Return `a/b.py` and `a/c.py` for `a/{b,c}.py`."""
    if not (match := re.search(r"\{([^{}]*)\}", pattern)):
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [whole for part in match[1].split(",") for whole in _alternatives(before + part + after)]


# ---- results


def unmet(checks: Iterable[Check], outcomes: Sequence[Outcome], scores: Mapping[str, float] | None) -> list[str]:
    """Return a sentence for each expectation that a submission's result doesn't meet.

    A pattern that matches none of the tests that were run says nothing.

    Args:
        scores: the score of each group of tests by its path, and of the whole by the empty path; None if the problem
            gives no points.

    Example:
        >>> outcomes = [Outcome("sample/1", "Accepted", ""), Outcome("secret/1", "WrongAnswer", "line 3 differs")]
        >>> unmet([Check("secret", required=["TimeLimitExceeded"])], outcomes, None)
        ['no test of secret is TimeLimitExceeded']
    """
    return [sentence for check in checks for sentence in (*_unmet(check, outcomes), *_unmet_score(check, scores))]


def _unmet(check: Check, outcomes: Sequence[Outcome]) -> Iterator[str]:
    of = f" of {check.tests}" if check.tests else ""
    found = [outcome for outcome in outcomes if check.matches(outcome.test)]
    if not found:
        return
    if check.permitted is not None:
        yield from _not_permitted(check.permitted, found)
    if check.required is not None and {outcome.verdict for outcome in found}.isdisjoint(check.required):
        yield f"no test{of} is {' or '.join(check.required)}"
    if check.message is not None and not any(check.message in outcome.message for outcome in found):
        yield f"no message of the validator{of} contains {check.message!r}"


def _not_permitted(permitted: Sequence[str], found: Sequence[Outcome]) -> Iterator[str]:
    others = [outcome for outcome in found if outcome.verdict not in permitted]
    if others:
        more = f" (and {len(others) - 1} more tests)" if len(others) > 1 else ""
        yield f"{others[0].test} is {others[0].verdict}, not {' or '.join(permitted)}{more}"


def _unmet_score(check: Check, scores: Mapping[str, float] | None) -> Iterator[str]:
    if check.score is None:
        return
    if scores is None:
        yield "there is no score: the problem isn't a scoring problem"
        return
    low, high = check.score
    due = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    for path, points in scores.items():
        is_meant = _is_group(check.tests, path) if check.tests else not path
        if is_meant and not low - _SAME_SCORE <= points <= high + _SAME_SCORE:
            yield f"the score{f' of {path}' if path else ''} is {points:g}, not {due}"


def _is_group(pattern: str, path: str) -> bool:
    return any(path.count("/") == one.count("/") for one in _alternatives(pattern)) and matches(pattern, path)
