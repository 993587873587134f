"""The score of a solution on a package's groups of tests, by the rules of the problem package format.

Pure functions. `rules_of` is called by the thread that feeds a run, `grade` by worker threads.

    legacy     testdata.yaml: accept_score, reject_score, on_reject, grader_flags (sum, min, max, avg, ignore_sample,
               always_accept, accept_if_any_accepted)
    2025-09    test_group.yaml: max_score, score_aggregation (pass-fail, sum, min), require_pass; drafts write the same
               as `scoring: {score, aggregation, require_pass}`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from nbrun.judge.checkers import number_of

#: The score of the group `secret` where the package names none.
DEFAULT_MAX_SCORE = 100.0
_MODES = ("sum", "min", "max", "avg")
#: Keys of the legacy format, which groups inherit from the group that holds them.
_INHERITED = ("accept_score", "reject_score", "on_reject", "grader_flags")
_OWN = ("max_score", "score_aggregation", "require_pass")
#: Key of a draft's `scoring` -> the key that means the same.
_OF_DRAFTS = {"score": "max_score", "aggregation": "score_aggregation", "require_pass": "require_pass"}
_AGGREGATIONS = ("pass-fail", "sum", "min")
_UNBOUNDED = "unbounded"

#: What groups say about scores, by their paths below `data`; the root's path is empty.
Groups = Mapping[str, Mapping[str, Any]]


class _Scored(NamedTuple):
    """What a test or a group got.

    Attributes:
        points: None where a passed test has no points of its own.
    """

    accepted: bool
    points: float | None
    multiplier: float | None = None


#: The tests and groups in a group, by their names.
_Tree: TypeAlias = "dict[str, _Tree | _Scored]"


class Rules(NamedTuple):
    """How a package's tests are scored, as its problem keeps it.

    Attributes:
        grading: the value for `scores`; empty if tests can't be scored here.
        refusal: why they can't; None if they can.
    """

    grading: Mapping[str, object]
    refusal: str | None = None


def rules_of(groups: Groups, is_legacy: bool) -> Rules:
    """Return how tests are scored.

    Raises:
        ValueError: a score is no number, or an aggregation is unknown.
    """
    kept: dict[str, dict[str, object]] = {}
    for path, about in groups.items():
        if is_legacy and str(about.get("grading") or "default") not in ("default", "{}"):
            return Rules({}, "a scoring problem with a grader of its own")
        draft = about.get("scoring")
        if isinstance(draft, Mapping):
            about = {**about, **{_OF_DRAFTS[key]: value for key, value in draft.items() if key in _OF_DRAFTS}}
        own = {name: about[name] for name in (*_INHERITED, *_OWN) if about.get(name) is not None}
        _check_rules(own, path or "data")
        if own:
            kept[path] = own
    return Rules({"is_legacy": is_legacy, "groups": kept})


def _check_rules(own: Mapping[str, Any], where: str) -> None:
    for name in ("accept_score", "reject_score", "max_score"):
        if own.get(name) not in (None, _UNBOUNDED) and number_of(own[name]) is None:
            raise ValueError(f"{where}: {name} is {own[name]!r}, not a number")
    if own.get("score_aggregation") not in (None, *_AGGREGATIONS):
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
    tree: _Tree = {}
    for test, record in zip(tests, records, strict=False):
        *folders, name = str(test.get("name", "")).split("/")
        inside = tree
        for folder in folders:
            inner = inside.get(folder)
            if not isinstance(inner, dict):
                inner = inside[folder] = {}
            inside = inner
        inside[name] = _Scored(bool(record["passed"]), record.get("score"), record.get("score_multiplier"))
    groups: Groups = rules["groups"]
    found: dict[str, float] = {}
    if rules["is_legacy"]:
        accepted = _legacy(tree, "", groups, {}, found).accepted
    else:
        found[""] = _Scorer(tree, groups, found).score()
        accepted = all(record["passed"] for record in records)
    return Grade({path: round(points, 9) for path, points in found.items()}, accepted)


def _legacy(tree: _Tree, path: str, groups: Groups, above: Mapping[str, Any], found: dict[str, float]) -> _Scored:
    """Return what a group gets from the default grader of the legacy format; put its points into `found`."""
    about = {**above, **groups.get(path, {})}
    flags = str(about.get("grader_flags") or "").split()
    if not path and "ignore_sample" in flags:
        tree = {name: inside for name, inside in tree.items() if name != "sample"}
    parts = list(_legacy_parts(tree, path, groups, about, found))
    mode = next((flag for flag in flags if flag in _MODES), "sum")
    found[path] = _aggregated(mode, [part.points or 0.0 for part in parts])
    enough = any if "accept_if_any_accepted" in flags else all
    return _Scored("always_accept" in flags or enough(part.accepted for part in parts), found[path])


def _legacy_parts(
    tree: _Tree, path: str, groups: Groups, about: Mapping[str, Any], found: dict[str, float]
) -> Iterator[_Scored]:
    """Yield what the tests and groups in a group get, up to the first rejected one where that ends the group."""
    stops = bool(path) and about.get("on_reject", "break") == "break"
    for name, inside in tree.items():
        if isinstance(inside, dict):
            part = _legacy(inside, f"{path}/{name}".strip("/"), groups, about, found)
        else:
            part = _legacy_test(inside, about)
        yield part
        if stops and not part.accepted:
            return


def _legacy_test(test: _Scored, about: Mapping[str, Any]) -> _Scored:
    """Return a test with its points: those that its validator gave, or those of its group."""
    if not test.accepted:
        return _Scored(False, float(about.get("reject_score", 0)))
    return _Scored(True, float(about.get("accept_score", 1) if test.points is None else test.points))


class _Scorer:
    """Scores a tree of tests by the format from 2023-07 on, where the group `secret` alone counts.

    It puts the points of each group into `found`.
    """

    def __init__(self, tree: _Tree, groups: Groups, found: dict[str, float]) -> None:
        self._tree, self._groups, self._found = tree, groups, found

    def score(self) -> float:
        """Return the score of `secret`."""
        most = self._own_max("secret", DEFAULT_MAX_SCORE)
        secret = self._tree.get("secret")
        return (self._group(secret, "secret", most).points or 0.0) if isinstance(secret, dict) else 0.0

    def _own_max(self, path: str, default: float | None) -> float | None:
        """Return the greatest score of a group; None where it is unbounded."""
        most = self._groups.get(path, {}).get("max_score", default)
        return None if most in (None, _UNBOUNDED) else float(most)

    def _group(self, tree: _Tree, path: str, most: float | None) -> _Scored:
        scored = self._scored(tree, path, most)
        self._found[path] = scored.points or 0.0
        return scored

    def _scored(self, tree: _Tree, path: str, most: float | None) -> _Scored:
        about = self._groups.get(path, {})
        if not all(self._is_accepted(name) for name in _names(about.get("require_pass"))):
            return _Scored(False, 0.0)
        aggregation = about.get("score_aggregation") or ("sum" if path == "secret" or most is None else "pass-fail")
        share = self._share(tree, path, most, aggregation)
        parts = [self._part(inside, f"{path}/{name}", share) for name, inside in tree.items()]
        accepted = all(part.accepted for part in parts)
        if aggregation == "pass-fail":
            return _Scored(accepted, (1.0 if most is None else most) if accepted else 0.0)
        total = _aggregated(aggregation, [part.points or 0.0 for part in parts])
        return _Scored(accepted, total if most is None else min(total, most))

    def _part(self, inside: _Tree | _Scored, path: str, share: float | None) -> _Scored:
        """Return what a test or a group in a group gets, whose share of that group's points this is."""
        if isinstance(inside, dict):
            return self._group(inside, path, self._own_max(path, share))
        return _test_score(inside, share)

    def _share(self, tree: Mapping[str, object], path: str, most: float | None, aggregation: str) -> float | None:
        """Return the greatest score of each test and group that names none; None where it is unbounded."""
        if most is None or aggregation != "sum":
            return most
        named = [self._own_max(f"{path}/{name}", None) for name, inside in tree.items() if isinstance(inside, dict)]
        bounded = [value for value in named if value is not None]
        rest = len(tree) - len(bounded)
        return max(0.0, most - sum(bounded)) / rest if rest else 0.0

    def _is_accepted(self, path: str) -> bool:
        """Return whether a test, or every test of a group and of the groups that it requires, passed."""
        inside: object = self._tree
        for name in path.split("/"):
            inside = inside.get(name) if isinstance(inside, dict) else None
        if isinstance(inside, _Scored):
            return inside.accepted
        required = _names(self._groups.get(path, {}).get("require_pass"))
        return (
            isinstance(inside, dict)
            and all(self._is_accepted(f"{path}/{name}") for name in inside)
            and all(self._is_accepted(other) for other in required if other != path)
        )


def _test_score(test: _Scored, share: float | None) -> _Scored:
    """Return a test with the points that it gets: its own, or its share of its group's."""
    worth = 1.0 if share is None else share
    if not test.accepted:
        return _Scored(False, 0.0)
    if test.multiplier is not None:
        return _Scored(True, worth * test.multiplier)
    return _Scored(True, worth if test.points is None else float(test.points))


def _names(value: Any) -> list[str]:
    """Return the names in `require_pass`, which is one name or a list."""
    return [value] if isinstance(value, str) else [str(name) for name in value or ()]


def _aggregated(mode: str, scores: Sequence[float]) -> float:
    if not scores:
        return 0.0
    if mode == "avg":
        return sum(scores) / len(scores)
    return min(scores) if mode == "min" else max(scores) if mode == "max" else sum(scores)
