"""What a problem package says of results: the points of its groups of tests, and what its own submissions must get.

Points follow `rules_of` and `grade`:

    legacy     testdata.yaml: accept_score, reject_score, on_reject, grader_flags (sum, min, max, avg, ignore_sample,
               always_accept, accept_if_any_accepted)
    2025-09    test_group.yaml: max_score, score_aggregation (pass-fail, sum, min), require_pass; drafts write the same
               as `scoring: {score, aggregation, require_pass}`

Expectations are those of `submissions.yaml`, in the format of
https://www.kattis.com/problem-package-format/spec/2025-09.html#example-submissions. Its keys are patterns of
submissions; each may name the language, the main file, and what must hold of the submission's result:

    permitted           every test gets one of these verdicts
    required            at least one test gets one of these verdicts
    score               the score is this number, or in this range
    message             some message of the validator contains this text
    use_for_time_limit  whether the submission counts where the package names no time limit
    secret/group1: …    the same for a group of tests, for tests by a pattern, or for single tests

Pure functions. The thread that feeds a run reads rules; worker threads compare results with them.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from nbrun.judge.checkers import number_of
from nbrun.judge.problems.values import given
from nbrun.verdicts import REJECTED, Verdict, mapping

# ---- points

#: The score of the group `secret` where the package names none.
DEFAULT_MAX_SCORE = 100.0
#: How the points of a group follow from those of its parts.
_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "sum": sum,
    "min": min,
    "max": max,
    "avg": lambda points: sum(points) / len(points),
}
#: Keys of the legacy format, which groups inherit from the group that holds them; keys of the later format.
_SCORE_KEYS = (
    *("accept_score", "reject_score", "on_reject", "grader_flags"),
    *("max_score", "score_aggregation", "require_pass"),
)
#: Key of a draft's `scoring` -> the key that means the same.
_OF_DRAFTS = {"score": "max_score", "aggregation": "score_aggregation", "require_pass": "require_pass"}
_AGGREGATIONS = ("pass-fail", "sum", "min")
_UNBOUNDED = "unbounded"

#: What groups say about scores, by their paths below `data`; the root's path is empty.
Groups = Mapping[str, Mapping[str, Any]]


class _Test(NamedTuple):
    """A test's result, and the points or the share of its group's points that its validator gave; None for neither."""

    accepted: bool
    points: float | None
    multiplier: float | None


class _Scored(NamedTuple):
    """What a test or a group got."""

    accepted: bool
    points: float


_REJECTED = _Scored(False, 0.0)

#: The tests and groups in a group, by their names.
_Tree: TypeAlias = "dict[str, _Tree | _Test]"


class ScoreRules(NamedTuple):
    """How a package's tests are scored, as its problem keeps it.

    Attributes:
        grading: the value for `grade`; empty if tests can't be scored here.
        refusal: why they can't; None if they can.
    """

    grading: Mapping[str, object]
    refusal: str | None = None


def rules_of(groups: Groups, is_legacy: bool) -> ScoreRules:
    """Return how tests are scored.

    Raises:
        ValueError: a score is no number, or an aggregation is unknown.
    """
    kept: dict[str, dict[str, object]] = {}
    for path, about in groups.items():
        if is_legacy and _names_grader(about):
            return ScoreRules({}, "a scoring problem with a grader of its own")
        if own := _scores_in(about, path or "data"):
            kept[path] = own
    return ScoreRules({"is_legacy": is_legacy, "groups": kept})


def _names_grader(about: Mapping[str, Any]) -> bool:
    return str(about.get("grading") or "default") not in ("default", "{}")


def _scores_in(about: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what a group says about scores, under the names of the published formats.

    Raises:
        ValueError: a score is no number, or the aggregation is unknown.
    """
    draft = mapping(about.get("scoring"))
    own = given({**about, **{_OF_DRAFTS[key]: draft[key] for key in draft.keys() & _OF_DRAFTS.keys()}}, _SCORE_KEYS)
    _check_scores(own, where)
    return own


def _check_scores(own: Mapping[str, Any], where: str) -> None:
    for name in ("accept_score", "reject_score", "max_score"):
        if own.get(name, _UNBOUNDED) != _UNBOUNDED and number_of(own[name]) is None:
            raise ValueError(f"{where}: {name} is {own[name]!r}, not a number")
    if own.get("score_aggregation", "sum") not in _AGGREGATIONS:
        raise ValueError(f"{where}: score_aggregation is {own['score_aggregation']!r}")


class Grade(NamedTuple):
    """What a solution gets for its tests.

    Attributes:
        scores: by the paths of groups below `data`; the whole score has the empty path.
        accepted: whether the package's grader accepts the solution: it may do so although tests failed.
    """

    scores: Mapping[str, float]
    accepted: bool


def grade(
    rules: Mapping[str, Any], tests: Sequence[Mapping[str, object]], records: Sequence[Mapping[str, Any]]
) -> Grade:
    """Return the grade of a solution whose tests have these records, in the tests' order.

    Example:
        >>> rules = {"is_legacy": True, "groups": {"": {"accept_score": 50}}}
        >>> tests = [{"name": "secret/a/1"}, {"name": "secret/b/1"}]
        >>> grade(rules, tests, [{"passed": True}, {"passed": False}])
        Grade(scores={'secret/a': 50.0, 'secret/b': 0.0, 'secret': 50.0, '': 50.0}, accepted=False)
    """
    tree = _tree_of(tests, records)
    groups: Groups = rules["groups"]
    found: dict[str, float] = {}
    if rules["is_legacy"]:
        accepted = _LegacyScorer(groups, found).group(tree, "", {}).accepted
    else:
        found[""] = _Scorer(tree, groups, found).score()
        accepted = all(record["passed"] for record in records)
    return Grade({path: round(points, 9) for path, points in found.items()}, accepted)


def _tree_of(tests: Sequence[Mapping[str, object]], records: Sequence[Mapping[str, Any]]) -> _Tree:
    """Return the results of tests, in the groups that their names hold."""
    tree: _Tree = {}
    for test, record in zip(tests, records, strict=False):
        *folders, name = str(test.get("name", "")).split("/")
        inside = tree
        for folder in folders:
            inner = inside.get(folder)
            if not isinstance(inner, dict):
                inner = inside[folder] = {}
            inside = inner
        inside[name] = _Test(bool(record["passed"]), record.get("score"), record.get("score_multiplier"))
    return tree


def _aggregated(mode: str, parts: Sequence[_Scored]) -> float:
    return _AGGREGATES.get(mode, sum)([part.points for part in parts]) if parts else 0.0


class _LegacyScorer:
    """Scores a tree of tests as the default grader of the legacy format does.

    It puts the points of each group into `found`.
    """

    def __init__(self, groups: Groups, found: dict[str, float]) -> None:
        self._groups, self._found = groups, found

    def group(self, tree: _Tree, path: str, above: Mapping[str, Any]) -> _Scored:
        """Return what a group gets; `above` is what the group that holds it says about scores."""
        about = {**above, **self._groups.get(path, {})}
        flags = str(about.get("grader_flags") or "").split()
        if not path and "ignore_sample" in flags:
            tree.pop("sample", None)
        parts = self._parts(tree, path, about)
        mode = next(filter(_AGGREGATES.__contains__, flags), "sum")
        self._found[path] = points = _aggregated(mode, parts)
        enough = any if "accept_if_any_accepted" in flags else all
        return _Scored("always_accept" in flags or enough(part.accepted for part in parts), points)

    def _parts(self, tree: _Tree, path: str, about: Mapping[str, Any]) -> list[_Scored]:
        """Return what the tests and groups in a group get, up to the first rejected one where that ends the group."""
        stops = path and about.get("on_reject", "break") == "break"
        parts: list[_Scored] = []
        for name, inside in tree.items():
            parts.append(self._part(inside, f"{path}/{name}".strip("/"), about))
            if stops and not parts[-1].accepted:
                break
        return parts

    def _part(self, inside: _Tree | _Test, path: str, about: Mapping[str, Any]) -> _Scored:
        if isinstance(inside, dict):
            return self.group(inside, path, about)
        if not inside.accepted:
            return _Scored(False, float(about.get("reject_score", 0)))
        return _Scored(True, float(about.get("accept_score", 1) if inside.points is None else inside.points))


class _Scorer:
    """Scores a tree of tests by the format from 2023-07 on, where the group `secret` alone counts.

    It puts the points of each group into `found`. The greatest score of a group may be infinite.
    """

    def __init__(self, tree: _Tree, groups: Groups, found: dict[str, float]) -> None:
        self._tree, self._groups, self._found = tree, groups, found

    def score(self) -> float:
        """Return the score of `secret`."""
        secret = self._tree.get("secret")
        most = self._own_max("secret", DEFAULT_MAX_SCORE)
        return self._group(secret, "secret", most).points if isinstance(secret, dict) else 0.0

    def _said(self, path: str, key: str, default: Any = None) -> Any:
        return self._groups.get(path, {}).get(key, default)

    def _own_max(self, path: str, default: float = math.inf) -> float:
        most = self._said(path, "max_score", default)
        return math.inf if most in (None, _UNBOUNDED) else float(most)

    def _group(self, tree: _Tree, path: str, most: float) -> _Scored:
        scored = self._scored(tree, path, most)
        self._found[path] = scored.points
        return scored

    def _scored(self, tree: _Tree, path: str, most: float) -> _Scored:
        if not all(map(self._is_accepted, self._required_by(path))):
            return _REJECTED
        aggregation = self._aggregation(path, most)
        share = self._share(tree, path, most) if aggregation == "sum" else most
        parts = [self._part(inside, f"{path}/{name}", share) for name, inside in tree.items()]
        accepted = all(part.accepted for part in parts)
        if aggregation == "pass-fail":
            return _Scored(accepted, accepted * _worth(most))
        return _Scored(accepted, min(_aggregated(aggregation, parts), most))

    def _aggregation(self, path: str, most: float) -> str:
        usual = "sum" if path == "secret" or most == math.inf else "pass-fail"
        return self._said(path, "score_aggregation") or usual

    def _required_by(self, path: str) -> list[str]:
        """Return the names in a group's `require_pass`, which is one name or a list."""
        value = self._said(path, "require_pass")
        return [value] if isinstance(value, str) else list(map(str, value or ()))

    def _part(self, inside: _Tree | _Test, path: str, share: float) -> _Scored:
        """Return what a test or a group in a group gets, whose share of that group's points this is."""
        if isinstance(inside, dict):
            return self._group(inside, path, self._own_max(path, share))
        if not inside.accepted:
            return _REJECTED
        if inside.multiplier is not None:
            return _Scored(True, _worth(share) * inside.multiplier)
        return _Scored(True, _worth(share) if inside.points is None else float(inside.points))

    def _share(self, tree: _Tree, path: str, most: float) -> float:
        """Return the greatest score of each test and group that names none."""
        named = [self._own_max(f"{path}/{name}") for name, inside in tree.items() if isinstance(inside, dict)]
        bounded = [points for points in named if points < math.inf]
        rest = len(tree) - len(bounded)
        return max(0.0, most - sum(bounded)) / rest if rest else 0.0

    def _is_accepted(self, path: str) -> bool:
        """Return whether a test, or every test of a group and of the groups that it requires, passed."""
        inside = self._at(path)
        if not isinstance(inside, dict):
            return inside is not None and inside.accepted
        required = [name for name in self._required_by(path) if name != path]
        return all(map(self._is_accepted, (*(f"{path}/{name}" for name in inside), *required)))

    def _at(self, path: str) -> _Tree | _Test | None:
        """Return the group or the test with this path; None if there is none."""
        inside: _Tree | _Test | None = self._tree
        for name in path.split("/"):
            inside = inside.get(name) if isinstance(inside, dict) else None
        return inside


def _worth(most: float) -> float:
    """Return what a test or a group gives at most; 1 if that is unbounded."""
    return 1.0 if most == math.inf else most


# ---- expectations

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
#: Word of submissions.yaml -> our verdicts. The format has no words for OLE, MLE and CE; packages use them though.
_WORDS: Mapping[str, tuple[Verdict, ...]] = {
    **VERDICTS_OF_FOLDERS,
    "ac": VERDICTS_OF_FOLDERS["accepted"],
    "wa": VERDICTS_OF_FOLDERS["wrong_answer"],
    "tle": VERDICTS_OF_FOLDERS["time_limit_exceeded"],
    "rte": VERDICTS_OF_FOLDERS["run_time_error"],
    "ole": VERDICTS_OF_FOLDERS["output_limit_exceeded"],
    "mle": (Verdict.MEMORY_LIMIT_EXCEEDED,),
    "ce": VERDICTS_OF_FOLDERS["compiler_error"],
    **dict.fromkeys(("pac", "partially_accepted"), (Verdict.ACCEPTED, *sorted(REJECTED))),
}
#: What is permitted where a rule only names what is required.
_ALL = ("AC", "WA", "TLE", "RTE")
#: What the format permits and requires of the submissions in a folder, unless submissions.yaml overrides it.
_FOLDER_RULES: Mapping[str, Mapping[str, object]] = {
    "accepted": {"permitted": ["AC"]},
    "rejected": {"required": ["RTE", "TLE", "WA"]},
    "wrong_answer": {"permitted": ["AC", "WA"], "required": ["WA"]},
    "time_limit_exceeded": {"permitted": ["AC", "TLE"], "required": ["TLE"]},
    "run_time_error": {"permitted": ["AC", "RTE"], "required": ["RTE"]},
    "brute_force": {"permitted": ["AC", "RTE", "TLE"], "required": ["RTE", "TLE"]},
}
_CHECKS = ("permitted", "required", "score", "message")
_KEYS = (*_CHECKS, "expectation", "use_for_time_limit", "language", "entrypoint", "authors", "model_solution")
_OF_TESTS = ("sample", "secret", "*", "{")
_SAME_SCORE = 1e-6


class Check(NamedTuple):
    """What must hold of the tests that a pattern matches; of all tests if the pattern is empty.

    Attributes:
        permitted: verdicts; each test must get one of them. Empty permits all.
        required: verdicts; one test must get one of them. Empty requires none.
        score: the least and the greatest score.
        message: a part of some message of the validator.
    """

    tests: str = ""
    permitted: Sequence[str] = ()
    required: Sequence[str] = ()
    score: tuple[float, float] | None = None
    message: str = ""

    def record(self) -> dict[str, object]:
        """Return the check as a mapping of plain values, as a problem keeps it."""
        said = {key: value for key, value in self._asdict().items() if value}
        return {"tests": self.tests, **said}

    @property
    def is_empty(self) -> bool:
        """Whether the check says nothing."""
        return not any(self[1:])

    def permits(self, verdict: str) -> bool:
        """Return whether a test may get a verdict."""
        return not self.permitted or verdict in self.permitted

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Check:
        """Return the check that a problem keeps."""
        return cls(**{key: record[key] for key in cls._fields if record.get(key)})

    def matches(self, test: str) -> bool:
        """Return whether the check concerns a test: its pattern matches the test or a group that holds it."""
        return not self.tests or matches(self.tests, test)

    def is_of_score(self, path: str) -> bool:
        """Return whether the check concerns the score of the group with this path; the empty path is the whole."""
        if not self.tests:
            return not path
        is_as_deep = any(path.count("/") == one.count("/") for one in _alternatives(self.tests))
        return is_as_deep and matches(self.tests, path)

    @property
    def verdicts(self) -> list[str]:
        """The verdicts that a submission may get as a whole; empty if the check says nothing of them.

        All tests must get a permitted verdict, and one of them a required one. So a submission is accepted only if that
        is permitted, and rejected if something else is required.
        """
        if self.permitted and self.required and Verdict.ACCEPTED not in self.required:
            return [verdict for verdict in self.permitted if verdict != Verdict.ACCEPTED]
        return list(self.permitted or self.required)

    @property
    def is_of_verdicts(self) -> bool:
        """Whether the check is about the verdicts of all tests and nothing else."""
        return self == Check(permitted=self.permitted, required=self.required)


class Rule(NamedTuple):
    """What submissions.yaml says of the submissions that match a pattern.

    Attributes:
        about: the value of the pattern.
        checks: what must hold of all tests, and then of groups and single tests.
    """

    about: Mapping[str, object]
    checks: Sequence[Check]


#: Pattern of submissions -> what is said of them.
Rules = Mapping[str, Rule]


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


def check_rules(rules: Mapping[str, object]) -> Rules:
    """Return the rules in the content of submissions.yaml.

    Raises:
        ValueError: a value has the wrong type, a verdict is unknown, or a key is misspelt.
    """
    checked: dict[str, Rule] = {}
    for name, about in rules.items():
        pattern = str(name).strip("/")
        checked[pattern] = _rule_of(pattern, {"permitted": [about]} if isinstance(about, str) else about, repr(name))
    return checked


def _rule_of(pattern: str, about: object, where: str) -> Rule:
    if not isinstance(about, Mapping):
        raise ValueError(f"{FILE}: {where} has a {type(about).__name__}, not a mapping")
    if _names_verdicts(about):
        about = {**_FOLDER_RULES.get(pattern, {}), **about}
    checks = [_check_of("", about, where)]
    for tests, inner in about.items():
        if isinstance(inner, Mapping) and str(tests).startswith(_OF_TESTS):
            checks.append(_check_of(str(tests).strip("/"), inner, f"{where}, {tests!r}"))
    return Rule(about, checks)


def _names_verdicts(about: Mapping[str, object]) -> bool:
    """Return whether a rule says more of verdicts than the name of its folder; it then replaces the folder's rule."""
    return "permitted" in about or "required" in about


def _check_of(tests: str, about: Mapping[str, Any], where: str) -> Check:
    permitted, required, expected = (_verdicts(about, key, where) for key in ("permitted", "required", "expectation"))
    message, use = about.get("message") or "", about.get("use_for_time_limit")
    if not isinstance(message, str):
        raise ValueError(f"{FILE}: {where}: message is {message!r}, not text")
    if use not in (None, True, False, "lower", "upper"):
        raise ValueError(f"{FILE}: {where}: use_for_time_limit is {use!r}: give true, false, lower or upper")
    _check_spelling(about, where)
    return Check(tests, permitted or expected, required, _score_range(about.get("score"), where), message)


def _check_spelling(about: Iterable[object], where: str) -> None:
    """Raise ValueError for a key that is nearly one of the known keys; other keys are a package's own."""
    for name in about:
        if name not in _KEYS and (meant := get_close_matches(str(name), _KEYS, 1, 0.8)):
            raise ValueError(f"{FILE}: {where}: there is no key {str(name)!r}; did you mean {meant[0]!r}?")


def _verdicts(about: Mapping[str, Any], key: str, where: str) -> list[str]:
    """Return the verdicts in a list of words, or in a single one."""
    words = _words_in(about.get(key))
    if words is None:
        raise ValueError(f"{FILE}: {where}: {key} is {about[key]!r}, not a list of verdicts")
    for word in words:
        if word.lower() not in _WORDS:
            raise ValueError(f"{FILE}: {where}: {key} holds {word!r}, which is none of {', '.join(_ALL)}")
    return _meanings(words)


def _words_in(value: object) -> list[str] | None:
    """Return the words of a list, a single word or nothing; None for any other value."""
    match value:
        case None:
            return []
        case str():
            return [value]
        case list() if all(isinstance(word, str) for word in value):
            return value
    return None


def _meanings(words: Iterable[str]) -> list[str]:
    return flat(_WORDS[word.lower()] for word in words)


def flat(lists: Iterable[Iterable[Verdict]]) -> list[str]:
    """Return each verdict once, in order."""
    return list(dict.fromkeys(map(str, chain(*lists))))


def _score_range(value: object, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    match value if isinstance(value, list) else [value, value]:
        case [int() | float() as low, int() | float() as high] if low <= high and bool not in (type(low), type(high)):
            return float(low), float(high)
    raise ValueError(f"{FILE}: {where}: score is {value!r}: give a number, or the least and the greatest one")


def hints_of(rules: Rules, name: str) -> Hints:
    """Return what the patterns that match a submission say of it as a program; the last one that names a thing counts.

    Args:
        name: the submission's path below `submissions`.
    """
    matching = [rule.about for rule in _matching(rules, name)]
    said = ChainMap(*map(dict, reversed(matching)))
    sets_time_limit = all(about.get("use_for_time_limit") not in (False, "upper") for about in matching)
    return Hints(said.get("language"), str(said.get("entrypoint") or "") or None, sets_time_limit)


def _matching(rules: Rules, name: str) -> list[Rule]:
    return [rule for pattern, rule in rules.items() if matches(pattern, name)]


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
    matching = _matching(rules, name)
    of_whole = [rule.checks[0].verdicts for rule in matching]
    checks = [*_checks_of_folder(rules, name.partition("/")[0]), *chain(*(rule.checks for rule in matching))]
    if all(check.is_of_verdicts for check in checks):
        return Expectations(_agreed(of_whole, name))
    verdicts = _possible(checks, tests, _in_all(of_whole) or default, name) if tests else _agreed(of_whole, name)
    return Expectations(verdicts, tuple(check for check in checks if not check.is_empty))


def _checks_of_folder(rules: Rules, folder: str) -> list[Check]:
    """Return what the format says of the submissions in a folder, unless submissions.yaml replaces it."""
    if folder in rules and _names_verdicts(rules[folder].about):
        return []
    return [_check_of("", _FOLDER_RULES.get(folder, {}), folder)]


def _in_all(lists: Iterable[Sequence[str]]) -> list[str]:
    """Return what all of these lists that aren't empty have in common, in the order of the first one."""
    said = list(filter(None, lists))
    return [one for one in chain(*said[:1]) if all(one in other for other in said)]


def _agreed(lists: Sequence[Sequence[str]], name: str, at: str = "") -> list[str]:
    """Return what all patterns permit; empty if none says anything.

    Raises:
        ValueError: they permit no verdict together.
    """
    verdicts = _in_all(lists)
    if any(lists) and not verdicts:
        raise _contradiction(name, at)
    return verdicts


def _contradiction(name: str, at: str = "") -> ValueError:
    return ValueError(f"{FILE}: the patterns that match {name} permit no verdict together{at}")


def _possible(checks: Sequence[Check], tests: Sequence[str], whole: Sequence[str], name: str) -> list[str]:
    """Return the verdicts that a submission can get as a whole, in view of what is permitted and required of tests."""
    permitted = [_permitted_on(test, checks, name) for test in tests]
    required = [check.required for check in checks if check.required and any(map(check.matches, tests))]
    found = {*chain(*permitted)}
    if not all(Verdict.ACCEPTED in verdicts for verdicts in (*permitted, *required)):
        found.discard(Verdict.ACCEPTED)
    if not (possible := list(filter(found.__contains__, whole or _meanings(_ALL)))):
        raise _contradiction(name)
    return possible


def _permitted_on(test: str, checks: Sequence[Check], name: str) -> list[str]:
    """Return the verdicts that a submission may get on a test."""
    lists = [check.permitted for check in checks if check.matches(test)]
    return _agreed([_meanings(_ALL), *lists], name, f" on the test {test}")


# ---- patterns


def matches(pattern: str, path: str) -> bool:
    """Return whether a pattern matches a path or a folder that holds it; `*` doesn't match a slash.

    Example:
        >>> matches("secret/*-easy", "secret/1-easy/a"), matches("a.{py,cpp}", "a.cpp"), matches("*", "a/b")
        (True, True, True)
    """
    parts = path.split("/")
    return any(_begin_like(parts, alternative.split("/")) for alternative in _alternatives(pattern))


def _begin_like(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(wanted) <= len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted))


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
    sentences: list[str] = []
    for check in checks:
        found = [outcome for outcome in outcomes if check.matches(outcome.test)]
        if found:
            sentences += _unmet(check, found)
        sentences += _unmet_score(check, scores)
    return sentences


def _unmet(check: Check, found: Sequence[Outcome]) -> Iterator[str]:
    of = f" of {check.tests}" if check.tests else ""
    yield from _not_permitted(check, found)
    if check.required and {outcome.verdict for outcome in found}.isdisjoint(check.required):
        yield f"no test{of} is {' or '.join(check.required)}"
    if not any(check.message in outcome.message for outcome in found):
        yield f"no message of the validator{of} contains {check.message!r}"


def _not_permitted(check: Check, found: Sequence[Outcome]) -> Iterator[str]:
    others = [outcome for outcome in found if not check.permits(outcome.verdict)]
    if others:
        more = f" (and {len(others) - 1} more tests)" if len(others) > 1 else ""
        yield f"{others[0].test} is {others[0].verdict}, not {' or '.join(check.permitted)}{more}"


def _unmet_score(check: Check, scores: Mapping[str, float] | None) -> Iterator[str]:
    if check.score is None:
        return
    if scores is None:
        yield "there is no score: the problem isn't a scoring problem"
        return
    low, high = check.score
    due = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    for path in filter(check.is_of_score, scores):
        if not low - _SAME_SCORE <= scores[path] <= high + _SAME_SCORE:
            yield f"the score{f' of {path}' if path else ''} is {scores[path]:g}, not {due}"
