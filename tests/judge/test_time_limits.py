"""The time-limit policy: a table of cases, one rule each, and what can never happen whatever came before."""

from __future__ import annotations

import random

import pytest

from nbrun.judge.time_limits import BLOCKED_TRIES, Attempt, Next, Written, look_at, next_attempt, next_compile

TLE = "TimeLimitExceeded"


def late(limit_s: float | None, load: int, written: Written, share: float = 0.0, endpoint: str = "a") -> Attempt:
    return Attempt(TLE, limit_s, load, endpoint, 0, written, share)


def what(wanted: Next | None) -> tuple[float, bool, tuple[str, ...]] | None:
    return None if wanted is None else (wanted.time_limit_s, wanted.alone, wanted.avoid)


BEGINNING, NOTHING, SILENT, WRONG, ALL = (
    Written.BEGINNING,
    Written.NOTHING,
    Written.SILENT,
    Written.WRONG,
    Written.ALL,
)
CASES = {
    "T1 wrong output is final": ([late(2, 3, WRONG)], 1000, "abc", None),
    "T1 also where a limit could be raised": ([late(2, 1, WRONG)], 1000, "abc", None),
    "T2 blocked: the same limit elsewhere": ([late(2, 1, NOTHING)], 1000, "ab", (2, True, ("a",))),
    "T2 never where it was": (
        [late(2, 1, NOTHING), late(2, 1, NOTHING, endpoint="b")], 1000, "abc", (2, True, ("a", "b")),
    ),
    "T2 up to three times": ([late(2, 1, NOTHING, endpoint=e) for e in "abcd"], 1000, "abcdef", None),
    "T2 nowhere else, and it was alone": ([late(2, 1, NOTHING)], 1000, "a", None),
    "T2 nowhere else: at least alone": ([late(2, 3, NOTHING)], 1000, "a", (2, True, ())),
    "T3 first less load": ([late(2, 4, BEGINNING, 0.5)], 1000, "ab", (2, True, ())),
    "T3 for a silent one too": ([late(2, 2, SILENT)], None, "ab", (2, True, ())),
    "T3 and for one that doesn't end": ([late(2, 2, ALL, 1.0)], None, "ab", (2, True, ())),
    "T3 a silent one alone is final": ([late(2, 2, SILENT), late(2, 1, SILENT)], 1000, "ab", None),
    "T4 then more time": ([late(2, 4, BEGINNING, 0.4), late(2, 1, BEGINNING, 0.5)], 1000, "ab", (4, True, ())),
    "T4 nothing is raised unasked": ([late(2, 1, BEGINNING, 0.5)], None, "ab", None),
    "T4 at most ten times": ([late(2, 1, BEGINNING, 0.001)], 1000, "ab", (20, True, ())),
    "T4 at most the most": ([late(2, 1, BEGINNING, 0.1)], 5, "ab", (5, True, ())),
    "T4 the most was tried": ([late(2, 1, BEGINNING, 0.1), late(5, 1, BEGINNING, 0.2)], 5, "ab", None),
    "T4 the older program: up to 1000 s": (
        [late(30, 1, BEGINNING, 0.01), late(300, 1, BEGINNING, 0.1)], 1000, "ab", (1000, True, ()),
    ),
    "T4 a lower most lowers nothing": ([late(10, 1, BEGINNING, 0.5)], 3, "ab", None),
    "T5 raised, under load meanwhile: the same again, alone": (
        [late(2, 1, BEGINNING, 0.5), late(4, 3, BEGINNING, 0.5)], 1000, "ab", (4, True, ()),
    ),
    "T6 a limit that isn't known is final": ([late(None, 1, BEGINNING, 0.5)], 1000, "ab", None),
    "nothing known of the output: final": ([Attempt(TLE, 2.0, 3, "a")], 1000, "ab", None),
    "no time limit was exceeded": ([Attempt("WrongAnswer", 2.0, 3, "a", 0, BEGINNING, 0.5)], 1000, "ab", None),
}  # fmt: skip


@pytest.mark.parametrize(("attempts", "most", "places", "wanted"), CASES.values(), ids=CASES.keys())
def test_the_table(
    attempts: list[Attempt], most: float | None, places: str, wanted: tuple[float, bool, tuple[str, ...]] | None
) -> None:
    assert what(next_attempt(attempts, most, list(places))) == wanted


def test_t5_whatever_happens_nothing_runs_twice_under_the_same_limit_and_load_in_one_place() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(2000):
        places, most = list("abcdef"[: rng.randint(1, 6)]), rng.choice([None, 2, 7, 1000])
        attempts = [late(2, rng.randint(1, 6), rng.choice(list(Written)), rng.random(), rng.choice(places))]
        while (wanted := next_attempt(attempts, most, places)) is not None:
            assert wanted.alone
            allowed = [p for p in places if p not in wanted.avoid]
            endpoint = rng.choice(allowed)
            before = [(a.time_limit_s, a.load, a.endpoint) for a in attempts]
            if wanted.time_limit_s == attempts[-1].time_limit_s and attempts[-1].load == 1:
                assert (wanted.time_limit_s, 1, endpoint) not in before
            assert 2 <= wanted.time_limit_s <= (most or 2)
            attempts.append(
                late(wanted.time_limit_s, 1, rng.choice(list(Written)), rng.choice([0.01, 0.5, 0.99]), endpoint)
            )
            assert len(attempts) < 1200
        limits = [a.time_limit_s for a in attempts]
        assert limits == sorted(limits, key=lambda s: s or 0.0)
        blocked = [a for a in attempts if a.written == NOTHING]
        for limit in set(limits):
            assert sum(a.time_limit_s == limit for a in blocked) <= 1 + BLOCKED_TRIES


def test_a_compilation_is_tried_alone_then_longer_then_given_up() -> None:
    attempts = [Attempt("JudgeError", 2.0, 3, "a", 0, None, 0.0, 10.0)]
    first = next_compile(attempts, 30.0)
    assert first is not None
    assert (first.compile_limit_s, first.time_limit_s, first.alone) == (10.0, 2.0, True)
    attempts.append(Attempt("JudgeError", 2.0, 1, "a", 0, None, 0.0, 10.0))
    second = next_compile(attempts, 30.0)
    assert second is not None
    assert second.compile_limit_s == 30.0
    attempts.append(Attempt("JudgeError", 2.0, 1, "a", 0, None, 0.0, 30.0))
    assert next_compile(attempts, 30.0) is None


LOOKS = [
    ("1\n2\n3\n4\n", "1\n2\n", {}, (BEGINNING, 0.5)),
    ("12 34", "12 3", {}, (BEGINNING, 0.8)),  # cut within a token
    ("12 34", "12 3 ", {}, (WRONG, 0.0)),  # a whole token, and the wrong one
    ("12 34", "12 34\n", {}, (ALL, 1.0)),
    ("12 34", "12 34 5", {}, (WRONG, 0.0)),
    ("12 34", "13", {}, (WRONG, 0.0)),
    ("0.3333 1", "0.333301 ", {}, (BEGINNING, 0.999)),  # right within the tolerance, and longer
    ("YES NO", "yes ", {}, (WRONG, 0.0)),
    ("YES NO", "yes ", {"ignore_case": True}, (BEGINNING, 4 / 6)),
    ("12 34", "", {}, (NOTHING, 0.0)),
    ("12 34", "", {"worked": True}, (SILENT, 0.0)),
    ("12 34", "\n", {}, (SILENT, 0.0)),
    ("12 34", "99", {"exact": False}, (BEGINNING, 0.4)),  # other outputs may be right
    ("12 34", "99 9999", {"exact": False}, (ALL, 1.0)),
    ("", "x", {}, (WRONG, 0.0)),
]


@pytest.mark.parametrize(("expected", "output", "more", "seen"), LOOKS)
def test_what_was_written_when_the_time_was_up(
    expected: str, output: str, more: dict[str, bool], seen: tuple[Written, float]
) -> None:
    written, share = look_at(expected, output, **more)
    assert (written, share) == (seen[0], pytest.approx(seen[1]))


def test_an_attempt_comes_back_from_an_entry() -> None:
    attempt = Attempt(TLE, 2.0, 3, "http://a", 4, str(BEGINNING), 0.25)
    assert Attempt.read(attempt.record()) == attempt
    assert "compile_limit_s" not in attempt.record()
    assert Attempt.read({**attempt.record(), "unknown": 1}) == attempt
